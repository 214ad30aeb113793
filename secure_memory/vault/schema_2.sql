-- Version 2: legal holds, the originals of tokens, erasures.

-- A hold is never deleted, only released. Its scope and what was said of it is JSON (who, matter, reason: no index needed, a
-- vault has few); `mac` binds the row, and the control state has a digest over all rows, so that none can be missing.
CREATE TABLE holds (
    id   INTEGER PRIMARY KEY,
    said TEXT NOT NULL,
    mac  BLOB NOT NULL
) STRICT;

-- What a token stands for, sealed under the key of the subject whose it is; it goes when that key goes. A token is an HMAC
-- under the same key, so that it names its row, and the same text of one subject has one row. A session that is assigned to
-- another subject takes its tokens along: there is a row for each subject then.
CREATE TABLE tokens (
    token   TEXT    NOT NULL,
    subject BLOB    NOT NULL,
    created INTEGER NOT NULL,
    sealed  BLOB    NOT NULL,
    PRIMARY KEY (token, subject)
) STRICT, WITHOUT ROWID;

-- An erasure, from its intent on; it outlives what it erased, so that one that died is gone on with and a second one is answered
-- by the first one's certificate. `name` is an HMAC of what was named; all else is JSON, uids and counts and no names; `mac`
-- binds the row.
CREATE TABLE erasures (
    id   INTEGER PRIMARY KEY,
    name BLOB NOT NULL,
    said TEXT NOT NULL,
    mac  BLOB NOT NULL
) STRICT;
CREATE INDEX erasures_names ON erasures (name);
