-- A file as version 1 of the schema left it.
PRAGMA application_id = 1280591941;
PRAGMA user_version = 1;
CREATE TABLE journals (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE entries (
    journal INTEGER NOT NULL REFERENCES journals (id),
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    payload BLOB NOT NULL,
    PRIMARY KEY (journal, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_by_key ON entries (journal, kind, key, number) WHERE key IS NOT NULL;
CREATE INDEX entries_by_kind ON entries (journal, kind, number);
INSERT INTO journals (id, name) VALUES (1, 'consumer/channels'), (2, 'till/a');
INSERT INTO entries (journal, number, kind, key, payload) VALUES
    (1, 1, 'opened', NULL, CAST('{}' AS BLOB)),
    (2, 1, 'channel', NULL, CAST('{}' AS BLOB)),
    (2, 2, 'receipted', 'r1', CAST('{"n":1}' AS BLOB));
