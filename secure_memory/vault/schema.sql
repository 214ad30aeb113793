-- One vault. Every B-tree that a write touches is a page to encrypt and to sync, so each is argued for.
-- `PRAGMA user_version` is the number of the last migration in sqlcipher.py; this file is version 1, schema_2.sql is next.

-- What the vault is, its policy and its holds: the state that each ledger entry carries a digest of (see control.py).
CREATE TABLE control (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a conversation, written when it begins and seldom after: an append does not touch it.
-- `name` is an HMAC under the tenant's pseudonym key; the name itself is in `sealed`, under the subject's key, so that
-- it goes when the key goes. `mac` binds the row: no two sessions can be swapped and none renamed.
CREATE TABLE sessions (
    id          INTEGER PRIMARY KEY,
    uid         BLOB    NOT NULL,
    name        BLOB    NOT NULL UNIQUE,
    subject     BLOB    NOT NULL,
    branch      INTEGER NOT NULL,
    key_version INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    sealed      BLOB    NOT NULL,
    mac         BLOB    NOT NULL
) STRICT;

-- A branch's row outlives it, so that neither an id nor a name is used twice. `name` is an HMAC, `sealed` the name under the
-- subject's key; `mac` binds the row to its session.
CREATE TABLE branches (
    id      INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions (id),
    uid     BLOB    NOT NULL,
    name    BLOB    NOT NULL,
    sealed  BLOB    NOT NULL,
    created INTEGER NOT NULL,
    mac     BLOB    NOT NULL,
    UNIQUE (session, name)
) STRICT;

-- `id = branch * 2^31 + position`: a branch's items lie together, and no second index is needed to read them in order.
CREATE TABLE items (
    id      INTEGER PRIMARY KEY,
    turn    INTEGER NOT NULL,
    uid     BLOB    NOT NULL,
    link    BLOB    NOT NULL,
    kind    TEXT    NOT NULL,
    role    TEXT    NOT NULL,
    tool    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    sealed  BLOB    NOT NULL
) STRICT;

-- What a run has spent in a turn, by model: overwritten while the run goes on, kept when the turn is popped (`popped` = 1).
-- A table of its own, since it outlives the items and a session's row is not to be written by every append. Its only B-tree
-- is touched by a run that spent something, and by nothing else. `id = branch * 2^31 + n`: a branch's rows lie together, the
-- newest last, so neither a run's row nor a turn's needs an index; a roll-up reads them all. `mac` binds the row to its
-- session and branch, and a `session.usage` entry names its figures.
CREATE TABLE usage (
    id       INTEGER PRIMARY KEY,
    session  INTEGER NOT NULL REFERENCES sessions (id),
    turn     INTEGER NOT NULL,
    run      BLOB    NOT NULL,
    model    TEXT    NOT NULL,
    requests INTEGER NOT NULL,
    input    INTEGER NOT NULL,
    output   INTEGER NOT NULL,
    total    INTEGER NOT NULL,
    details  TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    popped   INTEGER NOT NULL,
    mac      BLOB    NOT NULL
) STRICT;

-- `branch` is set on writes alone: the newest row of a branch is that branch's head, found by the one index.
-- `nodes` holds the Merkle nodes that this entry completed, so no table of nodes is needed.
CREATE TABLE ledger (
    seq     INTEGER PRIMARY KEY,
    branch  INTEGER,
    session INTEGER,
    entry   BLOB    NOT NULL,
    nodes   BLOB    NOT NULL,
    root    BLOB    NOT NULL,
    mac     BLOB    NOT NULL
) STRICT;
CREATE INDEX ledger_heads ON ledger (branch, seq) WHERE branch IS NOT NULL;
