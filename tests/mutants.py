"""Kinds of damage to a verified target, each with the check that has to find it."""

from dataclasses import dataclass

SOURCE = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('cafe');
CREATE TABLE lab (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT COLLATE NOCASE UNIQUE,
    note TEXT DEFAULT 'none',
    founded TIMESTAMP,
    CHECK (length(name) > 1)
);
CREATE TABLE run (
    id CHAR(32) NOT NULL PRIMARY KEY,
    lab_id INTEGER NOT NULL REFERENCES lab (id) ON DELETE CASCADE,
    kind TEXT,
    label TEXT,
    score REAL,
    amount NUMERIC,
    anything,
    info JSON,
    image BLOB,
    started TIMESTAMP
);
CREATE TABLE reading (at INTEGER, value REAL);
CREATE TABLE setting (name TEXT NOT NULL PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE INDEX run_lab ON run (lab_id, kind);
CREATE INDEX run_label ON run (lower(label)) WHERE label IS NOT NULL;
CREATE VIEW kinds AS SELECT kind, count(*) AS runs FROM run GROUP BY kind;
CREATE TRIGGER noted AFTER UPDATE ON lab BEGIN UPDATE setting SET value = 'x' WHERE name = 'touched'; END;
INSERT INTO lab VALUES (1, 'Bern', 'old', '1999-01-01 00:00:00'), (2, 'Genf', '', '2005-06-01 12:30:00'),
    (3, 'Chur', NULL, NULL), (9, 'Zug', 'NULL', '2020-02-29 23:59:59');
DELETE FROM lab WHERE id = 9;
INSERT INTO run VALUES
    ('a1', 1, 'ab', 'c', 0.1, 10, 1, '{"a": 1, "b": [1, 2]}', x'00ff', '2024-01-01 00:00:00.000000'),
    ('a2', 1, 'a', 'bc', 2.5, 1.5, 'text', '{}', x'', '2024-01-02 00:00:00.000000'),
    ('b1', 2, 'wet', 'Dry ', -1.0, 0, NULL, NULL, NULL, '2024-01-03 00:00:00.000000'),
    ('b2', 2, 'wet', NULL, 1e300, -7, 2.0, 'null', 'no blob', '2024-01-04 00:00:00.000000');
INSERT INTO reading VALUES (1, 0.5), (1, 0.5), (2, 0.25), (3, NULL);
INSERT INTO setting VALUES ('theme', 'dark'), ('language', 'de'), ('touched', 'no');
"""


@dataclass(frozen=True)
class Mutant:
    """One kind of damage, and the check that has to find it."""

    name: str
    sql: str
    check: str

    def __str__(self) -> str:
        return self.name


def schema_edit(old: str, new: str) -> str:
    old, new = (text.replace("'", "''") for text in (old, new))
    return (
        "PRAGMA writable_schema = ON;"
        f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}');"
        "PRAGMA writable_schema = RESET"
    )


CONTENT, SCHEMA, ROWS = "content", "schema", "rows"
MUTANTS = [
    Mutant("row deleted", "DELETE FROM run WHERE id = 'b2'", ROWS),
    Mutant("all rows deleted", "DELETE FROM reading", ROWS),
    Mutant("row inserted", "INSERT INTO setting VALUES ('new', 'x')", ROWS),
    Mutant("row duplicated", "INSERT INTO reading VALUES (2, 0.25)", ROWS),
    Mutant("another row duplicated instead", "UPDATE reading SET at = 2, value = 0.25 WHERE rowid = 1", CONTENT),
    Mutant("row replaced", "UPDATE setting SET name = 'them' WHERE name = 'theme'", CONTENT),
    Mutant("values swapped between rows", """UPDATE run SET started = CASE id WHEN 'a1' THEN
        '2024-01-02 00:00:00.000000' WHEN 'a2' THEN '2024-01-01 00:00:00.000000' ELSE started END""", CONTENT),
    Mutant("values swapped between columns", "UPDATE run SET kind = label, label = kind WHERE id = 'a1'", CONTENT),
    Mutant("keys swapped", """UPDATE run SET id = 'x' WHERE id = 'a1'; UPDATE run SET id = 'a1' WHERE id = 'a2';
        UPDATE run SET id = 'a2' WHERE id = 'x'""", CONTENT),
    Mutant("all times shifted", "UPDATE run SET started = strftime('%Y-%m-%d 01:00:00.000000', started)", CONTENT),
    Mutant("case changed", "UPDATE run SET kind = 'Wet' WHERE id = 'b1'", CONTENT),
    Mutant("case changed in a NOCASE column", "UPDATE lab SET name = 'BERN' WHERE id = 1", CONTENT),
    Mutant("trailing space lost", "UPDATE run SET label = 'Dry' WHERE id = 'b1'", CONTENT),
    Mutant("trailing space added", "UPDATE run SET kind = 'ab ' WHERE id = 'a1'", CONTENT),
    Mutant("NULL became ''", "UPDATE lab SET note = '' WHERE id = 3", CONTENT),
    Mutant("'' became NULL", "UPDATE lab SET note = NULL WHERE id = 2", CONTENT),
    Mutant("NULL became 'NULL'", "UPDATE lab SET note = 'NULL' WHERE id = 3", CONTENT),
    Mutant("a character moved to the next column", "UPDATE run SET kind = 'a', label = 'bc' WHERE id = 'a1'", CONTENT),
    Mutant("last bit of a float", "UPDATE run SET score = 0.10000000000000002 WHERE id = 'a1'", CONTENT),
    Mutant("sign of a float", "UPDATE run SET score = 1.0 WHERE id = 'b1'", CONTENT),
    Mutant("a large float", "UPDATE run SET score = 1.0000000000000002e300 WHERE id = 'b2'", CONTENT),
    Mutant("float became integer", "UPDATE run SET anything = 2 WHERE id = 'b2'", CONTENT),
    Mutant("integer became float", "UPDATE run SET anything = 1.0 WHERE id = 'a1'", CONTENT),
    Mutant("integer became text", "UPDATE run SET anything = '1' WHERE id = 'a1'", CONTENT),
    Mutant("text became blob", "UPDATE run SET anything = CAST('text' AS BLOB) WHERE id = 'a2'", CONTENT),
    Mutant("blob became text", "UPDATE run SET image = CAST(x'' AS TEXT) WHERE id = 'a2'", CONTENT),
    Mutant("a byte of a blob", "UPDATE run SET image = x'00fe' WHERE id = 'a1'", CONTENT),
    Mutant("blob truncated", "UPDATE run SET image = x'00' WHERE id = 'a1'", CONTENT),
    Mutant("empty blob became NULL", "UPDATE run SET image = NULL WHERE id = 'a2'", CONTENT),
    Mutant("order of JSON keys", """UPDATE run SET info = '{"b": [1, 2], "a": 1}' WHERE id = 'a1'""", CONTENT),
    Mutant("a space in JSON", """UPDATE run SET info = '{"a":1, "b": [1, 2]}' WHERE id = 'a1'""", CONTENT),
    Mutant("JSON null became NULL", "UPDATE run SET info = NULL WHERE id = 'b2'", CONTENT),
    Mutant("text normalised", "UPDATE lab SET name = 'Bérn' WHERE id = 1", CONTENT),
    Mutant("text with NUL", "UPDATE lab SET note = 'old' || char(0) || 'x' WHERE id = 1", CONTENT),
    Mutant("bytes that are no text", "UPDATE lab SET note = CAST(x'ff' AS TEXT) WHERE id = 1", CONTENT),
    Mutant("off by one", "UPDATE run SET amount = 11 WHERE id = 'a1'", CONTENT),
    Mutant("orphan", "UPDATE run SET lab_id = 77 WHERE id = 'a1'", "foreign keys"),
    Mutant("parent deleted", "DELETE FROM lab WHERE id = 2", "foreign keys"),
    Mutant("reference moved", "UPDATE run SET lab_id = 2 WHERE id = 'a1'", CONTENT),
    Mutant("index dropped", "DROP INDEX run_lab", SCHEMA),
    Mutant("index added", "CREATE INDEX more ON run (kind)", SCHEMA),
    Mutant("order of an index", "DROP INDEX run_lab; CREATE INDEX run_lab ON run (kind, lab_id)", SCHEMA),
    Mutant("condition of an index", """DROP INDEX run_label;
        CREATE INDEX run_label ON run (lower(label)) WHERE label IS NULL""", SCHEMA),
    Mutant("expression of an index", """DROP INDEX run_label;
        CREATE INDEX run_label ON run (upper(label)) WHERE label IS NOT NULL""", SCHEMA),
    Mutant("index made unique", "DROP INDEX run_lab; CREATE UNIQUE INDEX run_lab ON run (lab_id, kind, id)", SCHEMA),
    Mutant("default changed", schema_edit("DEFAULT 'none'", "DEFAULT 'some'"), SCHEMA),
    Mutant("check changed", schema_edit("length(name) > 1", "length(name) > 0"), SCHEMA),
    Mutant("collation changed", schema_edit("note TEXT DEFAULT", "note TEXT COLLATE RTRIM DEFAULT"), SCHEMA),
    Mutant("type changed", schema_edit("score REAL", "score NUMERIC"), SCHEMA),
    Mutant("NOT NULL lost", schema_edit("lab_id INTEGER NOT NULL", "lab_id INTEGER"), SCHEMA),
    Mutant("action of a foreign key", schema_edit("ON DELETE CASCADE", "ON DELETE SET NULL"), SCHEMA),
    Mutant("foreign key dropped", schema_edit("REFERENCES lab (id) ON DELETE CASCADE", ""), SCHEMA),
    Mutant("counter dropped", schema_edit("AUTOINCREMENT", ""), SCHEMA),
    Mutant("trigger dropped", "DROP TRIGGER noted", SCHEMA),
    Mutant("trigger changed", """DROP TRIGGER noted; CREATE TRIGGER noted AFTER UPDATE ON lab
        BEGIN UPDATE setting SET value = 'y' WHERE name = 'touched'; END""", SCHEMA),
    Mutant("trigger added", "CREATE TRIGGER more AFTER INSERT ON lab BEGIN SELECT 1; END", SCHEMA),
    Mutant("view dropped", "DROP VIEW kinds", SCHEMA),
    Mutant("view changed", "DROP VIEW kinds; CREATE VIEW kinds AS SELECT kind, 1 AS runs FROM run", SCHEMA),
    Mutant("column added", "ALTER TABLE run ADD COLUMN more TEXT", SCHEMA),
    Mutant("column renamed", "ALTER TABLE run RENAME COLUMN label TO title", SCHEMA),
    Mutant("column dropped", "ALTER TABLE lab DROP COLUMN founded", SCHEMA),
    Mutant("order of columns", """CREATE TABLE other (value REAL, at INTEGER);
        INSERT INTO other SELECT value, at FROM reading; DROP TABLE reading;
        ALTER TABLE other RENAME TO reading""", SCHEMA),
    Mutant("extra table", "CREATE TABLE extra (a)", SCHEMA),
    Mutant("table dropped", "DROP TABLE setting", SCHEMA),
    Mutant("sequence lowered", "UPDATE sqlite_sequence SET seq = 1", "sequences"),
    Mutant("sequence lost", "DELETE FROM sqlite_sequence", "sequences"),
    Mutant("other revision", "UPDATE alembic_version SET version_num = 'beef'", "revision"),
    Mutant("second revision", "INSERT INTO alembic_version VALUES ('beef')", "revision"),
    Mutant("no revision", "DELETE FROM alembic_version", "revision"),
]  # fmt: skip
"""Not scored: what SQLite stores identically, such as -0.0 in a REAL column, which is 0.0."""
