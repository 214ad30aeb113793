-- keys.db: every key but the store root, each wrapped by the one above it. A backup set of its own.

CREATE TABLE tenants (
    uid     BLOB    PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    vault   BLOB    NOT NULL,
    state   TEXT    NOT NULL CHECK (state IN ('creating', 'active', 'erased')),
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `owner` is the uid of the tenant, subject or session that the key is for; `name` is the HMAC that a subject or a
-- session is found by. The unique index is what makes two processes that begin one session agree on one key.
CREATE TABLE keys (
    owner   BLOB    NOT NULL,
    purpose TEXT    NOT NULL,
    version INTEGER NOT NULL,
    tenant  BLOB    NOT NULL REFERENCES tenants (uid),
    subject BLOB,
    name    BLOB,
    wrapped BLOB    NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (owner, purpose, version)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX keys_names ON keys (tenant, purpose, name, version) WHERE name IS NOT NULL;

CREATE TABLE tombstones (
    owner     BLOB    NOT NULL,
    purpose   TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    destroyed INTEGER NOT NULL,
    PRIMARY KEY (owner, purpose, version)
) STRICT, WITHOUT ROWID;
