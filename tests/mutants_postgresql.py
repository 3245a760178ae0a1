"""Kinds of damage to a verified PostgreSQL database, each with the check that has to find it and the code it gets."""

from dataclasses import dataclass

SOURCE = """
CREATE SCHEMA app;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE app.pair AS (a integer, b text);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE SEQUENCE tickets INCREMENT BY 5 START WITH 10;
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('cafe');
CREATE TABLE lab (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name varchar(20) UNIQUE,
    note text DEFAULT 'none',
    founded timestamp,
    CONSTRAINT long CHECK (length(name) > 1)
);
CREATE TABLE app.run (
    id uuid PRIMARY KEY,
    lab_id integer NOT NULL REFERENCES lab ON DELETE CASCADE,
    kind text,
    label text,
    score float8,
    amount numeric,
    loose json,
    tight jsonb,
    image bytea,
    started timestamptz,
    length interval,
    listed integer[],
    broad numrange,
    feeling mood,
    size positive,
    pair app.pair,
    clock time,
    zoned timetz,
    host inet,
    bits bit varying,
    words tsvector,
    place point,
    twice float8 GENERATED ALWAYS AS (score * 2) STORED
);
CREATE TABLE plate (run integer, place integer, PRIMARY KEY (run, place));
CREATE TABLE well (id serial PRIMARY KEY, run integer, place integer,
    FOREIGN KEY (run, place) REFERENCES plate MATCH FULL, UNIQUE (run, place));
CREATE TABLE reading (at integer, value float8);
CREATE TABLE event (id integer, happened date, body text, PRIMARY KEY (id, happened)) PARTITION BY RANGE (happened);
CREATE TABLE event_2024 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE event_rest PARTITION OF event DEFAULT;
CREATE TABLE animal (name text);
CREATE TABLE cat (lives integer) INHERITS (animal);
CREATE TABLE setting (name text PRIMARY KEY, value text);
CREATE TABLE booking (during int4range, EXCLUDE USING gist (during WITH &&));
CREATE INDEX run_lab ON app.run (lab_id, kind);
CREATE INDEX run_label ON app.run (lower(label)) WHERE label IS NOT NULL;
CREATE VIEW kinds AS SELECT kind, count(*) AS runs FROM app.run GROUP BY kind;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS labs FROM lab;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note = 'touched'; RETURN NEW; END $$;
CREATE FUNCTION twice(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE TRIGGER touched BEFORE UPDATE ON setting FOR EACH ROW WHEN (OLD.name = 'never') EXECUTE FUNCTION touch();
ALTER TABLE setting ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON setting USING (name <> 'secret');
COMMENT ON TABLE lab IS 'laboratories';
COMMENT ON COLUMN lab.note IS 'whatever';
CREATE STATISTICS related (dependencies) ON lab_id, kind FROM app.run;
INSERT INTO lab (name, note, founded) VALUES ('Bern', 'old', '1999-01-01'), ('Genf', '', '2005-06-01 12:30'),
    ('Chur', NULL, NULL), ('Zug', 'NULL', 'infinity');
DELETE FROM lab WHERE name = 'Zug';
INSERT INTO app.run VALUES
    ('00000000-0000-0000-0000-0000000000a1', 1, 'ab', 'c', 0.1, 10, '{"a": 1,  "b": [1, 2], "a": 2}',
        '{"a": 1.10, "b": [1]}', '\\x00ff', '2024-01-01 00:00+00', '1 month', '{1,2}', '[1,2]', 'ok', 1, '(1,x)',
        '24:00', '12:00+00', '10.0.0.1/8', '0', 'a:1', '(1,-0)'),
    ('00000000-0000-0000-0000-0000000000a2', 1, 'a', 'bc', 2.5, 1.10, '{}', '{}', '\\x', '2024-01-02 00:00+00', '1 day',
        '{}', 'empty', 'sad', 2, '(,)', '00:00', '13:00+01', '10.0.0.1', '00', '', '(1,0)'),
    ('00000000-0000-0000-0000-0000000000b1', 2, 'wet', 'Dry ', '-0', 'NaN', NULL, NULL, NULL, 'infinity', NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    ('00000000-0000-0000-0000-0000000000b2', 2, 'wet', NULL, 1e300, -7, 'null', 'null',
        decode(repeat('ab', 9000), 'hex'), '2024-01-04 00:00+00', '-1 day +24:00', '{{1,2},{3,4}}', '(,)', 'happy', 7,
        NULL, '12:00', '12:00-03', '::1', '', 'a:1A', NULL);
INSERT INTO plate VALUES (1, 1), (1, 2), (2, 2);
INSERT INTO well (run, place) VALUES (1, 1), (1, 2), (NULL, NULL);
INSERT INTO reading VALUES (1, 0.5), (1, 0.5), (2, 0.25), (3, NULL), (3, 'NaN');
INSERT INTO event VALUES (1, '2024-05-01', 'a'), (2, '2023-05-01', U&'\\00e9');
INSERT INTO animal VALUES ('Rex'); INSERT INTO cat VALUES ('Minou', 9);
INSERT INTO setting VALUES ('theme', 'dark'), ('language', 'de'), ('touched', 'no');
INSERT INTO booking VALUES ('[1,3)'), ('[5,7)');
SELECT nextval('tickets'), nextval('tickets');
REFRESH MATERIALIZED VIEW counted;
"""


@dataclass(frozen=True)
class Mutant:
    """One kind of damage, the check that has to find it, and by which code."""

    name: str
    sql: str
    check: str
    code: str

    def __str__(self) -> str:
        return self.name


def content(name: str, sql: str, code: str = "CNT003") -> Mutant:
    return Mutant(name, sql, "content", code)


def value(name: str, column: str, new: str, row: str = "a1") -> Mutant:
    """Put another value into one column of one run."""
    return content(name, f"UPDATE app.run SET {column} = {new} WHERE id::text LIKE '%{row}'")


def rows(name: str, sql: str, code: str = "ROW001") -> Mutant:
    return Mutant(name, sql, "rows", code)


def behind(sql: str) -> str:
    """Do what foreign keys, which still count as valid, forbid."""
    return f"SET session_replication_role = replica; {sql}; RESET session_replication_role"


def grave(name: str, sql: str) -> Mutant:
    return Mutant(name, sql, "schema", "SCH001")


def slight(name: str, sql: str) -> Mutant:
    return Mutant(name, sql, "schema", "SCH002")


A1, A2 = (f"'00000000-0000-0000-0000-0000000000{row}'" for row in ("a1", "a2"))
ROWS = [
    rows("row deleted", "DELETE FROM app.run WHERE label IS NULL"),
    rows("all rows deleted", "DELETE FROM reading"),
    rows("table truncated", "TRUNCATE booking"),
    rows("row inserted", "INSERT INTO setting VALUES ('new', 'x')"),
    rows("row of a table without a key repeated", "INSERT INTO reading VALUES (2, 0.25)"),
    rows("row deleted from a partition", "DELETE FROM event_rest"),
    rows("row moved to a child table", "DELETE FROM ONLY animal; INSERT INTO cat VALUES ('Rex', NULL)"),
    rows("extra table", "CREATE TABLE extra (a integer)", "ROW002"),
    rows("extra table in another schema", "CREATE SCHEMA more; CREATE TABLE more.lab (a integer)", "ROW002"),
    rows("table dropped", "DROP TABLE booking"),
    rows("table moved to another schema", "ALTER TABLE booking SET SCHEMA app"),
]
VALUES = [
    content("another row repeated instead", """UPDATE reading SET at = 2, value = 0.25 WHERE ctid =
        (SELECT min(ctid) FROM reading)""", "CNT004"),
    content("row replaced", "UPDATE setting SET name = 'them' WHERE name = 'theme'", "CNT001"),
    content("row replaced, seen from the target", "UPDATE setting SET name = 'them' WHERE name = 'theme'", "CNT002"),
    content("values swapped between rows", """UPDATE app.run SET started = CASE kind
        WHEN 'ab' THEN '2024-01-02 00:00+00' ELSE '2024-01-01 00:00+00'::timestamptz END WHERE lab_id = 1"""),
    content("values swapped between columns", f"UPDATE app.run SET kind = label, label = kind WHERE id = {A1}"),
    content("keys swapped", f"""UPDATE app.run SET id = gen_random_uuid() WHERE id = {A1};
        UPDATE app.run SET id = {A1} WHERE id = {A2}; UPDATE app.run SET id = {A2} WHERE kind = 'ab'"""),
    content("all times shifted", "UPDATE app.run SET started = started + interval '1 hour'"),
    value("a microsecond later", "started", "'2024-01-01 00:00:00.000001+00'"),
    value("infinity became a date", "started", "'294276-12-31 23:59:59+00'", "b1"),
    content("day of a timestamp without zone", "UPDATE lab SET founded = founded + interval '1 day' WHERE id = 1"),
    value("case changed", "kind", "'AB'"),
    value("trailing space lost", "label", "'Dry'", "b1"),
    value("trailing space added", "kind", "'ab '"),
    content("NULL became ''", "UPDATE lab SET note = '' WHERE id = 3"),
    content("'' became NULL", "UPDATE lab SET note = NULL WHERE id = 2"),
    content("NULL became 'NULL'", "UPDATE lab SET note = 'NULL' WHERE id = 3"),
    content("NULL became '\\N'", r"UPDATE lab SET note = '\N' WHERE id = 3"),
    content("a character moved to the next column", f"UPDATE app.run SET kind = 'a', label = 'bc' WHERE id = {A1}"),
    content("another way of writing an accent", "UPDATE event SET body = U&'e\\0301' WHERE id = 2"),
    value("last bit of a float", "score", "0.10000000000000002"),
    value("sign of zero", "score", "0.0", "b1"),
    value("a large float", "score", "1.0000000000000002e300", "b2"),
    content("not a number became NULL", "UPDATE reading SET value = NULL WHERE value = 'NaN'", "CNT004"),
    value("scale of a number", "amount", "10.0"),
    value("a zero at the end of a number lost", "amount", "1.1", "a2"),
    value("not a number became a number", "amount", "'Infinity'", "b1"),
    value("white space of JSON", "loose", """'{"a": 1, "b": [1, 2], "a": 2}'"""),
    value("a name of JSON that was there twice", "loose", """'{"b": [1, 2], "a": 2}'"""),
    value("order of JSON's names", "loose", """'{"b": [1, 2], "a": 1,  "a": 2}'"""),
    value("a number in jsonb", "tight", """'{"a": 1.1, "b": [1]}'"""),
    value("an element of jsonb", "tight", """'{"a": 1.10, "b": [1, null]}'"""),
    value("NULL of JSON became NULL", "loose", "NULL", "b2"),
    value("NULL of jsonb became NULL", "tight", "NULL", "b2"),
    value("a byte", "image", r"'\x00fe'"),
    value("a byte among many, stored apart", "image", "set_byte(image, 8999, 0)", "b2"),
    value("bytes cut off", "image", r"'\x00'"),
    value("no bytes became NULL", "image", "NULL", "a2"),
    value("a month became 30 days", "length", "'30 days'"),
    value("a day became 24 hours", "length", "'24:00'", "a2"),
    value("signs within an interval", "length", "'1 day -24:00'", "b2"),
    value("lower bound of an array", "listed", "'[2:3]={1,2}'"),
    value("dimensions of an array", "listed", "'{1,2,3,4}'", "b2"),
    value("empty array became NULL", "listed", "NULL", "a2"),
    value("NULL in an array", "listed", "'{1,NULL}'"),
    value("bound of a range", "broad", "'[1,2)'"),
    value("empty range became all", "broad", "'(,)'", "a2"),
    value("label of an enum", "feeling", "'happy'"),
    value("value of a domain", "size", "3"),
    value("part of a composite value", "pair", "'(1,y)'"),
    value("composite value of NULLs became NULL", "pair", "NULL", "a2"),
    value("end of a day became its beginning", "clock", "'00:00'"),
    value("zone of a time", "zoned", "'13:00+01'"),
    value("network of an address", "host", "'10.0.0.1/16'"),
    value("address without its network", "host", "'10.0.0.1'"),
    value("a bit more", "bits", "'00'"),
    value("weight of a word", "words", "'a:1A'"),
    value("sign of zero in a point", "place", "'(1,0)'"),
    content("value in a partition", "UPDATE event_2024 SET body = 'b'"),
    content("key of partitions", "UPDATE event SET happened = '2022-05-01' WHERE id = 2", "CNT001"),
    content("value in a child table", "UPDATE cat SET lives = 8", "CNT001"),
    content("value under an exclusion constraint", "UPDATE booking SET during = '[8,9)' WHERE during = '[1,3)'",
        "CNT002"),
]  # fmt: skip
LINKS = [
    Mutant("parent deleted", behind("DELETE FROM lab WHERE id = 2"), "foreign keys", "FKY001"),
    Mutant("reference to nothing", behind("UPDATE app.run SET lab_id = 99 WHERE kind = 'ab'"),
        "foreign keys", "FKY001"),
    Mutant("composite reference to nothing", behind("UPDATE well SET place = 9 WHERE id = 1"),
        "foreign keys", "FKY001"),
    Mutant("half a reference where it is to be full", behind("UPDATE well SET place = NULL WHERE id = 1"),
        "foreign keys", "FKY001"),
    Mutant("table of the parents dropped", "DROP TABLE plate CASCADE", "foreign keys", "FKY002"),
    Mutant("foreign key dropped, and reference to nothing", """ALTER TABLE app.run DROP CONSTRAINT run_lab_id_fkey;
        UPDATE app.run SET lab_id = 99 WHERE kind = 'ab'""", "foreign keys", "FKY001"),
]  # fmt: skip
COUNTERS = [
    Mutant("sequence lowered", "SELECT setval('tickets', 10)", "sequences", "SEQ001"),
    Mutant("sequence raised", "SELECT setval('tickets', 1000)", "sequences", "SEQ001"),
    Mutant("sequence not yet called", "SELECT setval('tickets', 15, false)", "sequences", "SEQ001"),
    Mutant("identity begun anew", "ALTER TABLE lab ALTER id RESTART", "sequences", "SEQ001"),
    Mutant("serial column's sequence lowered", "SELECT setval('well_id_seq', 1)", "sequences", "SEQ001"),
    Mutant("sequence dropped", "DROP SEQUENCE tickets", "sequences", "SEQ001"),
    Mutant("sequence added", "CREATE SEQUENCE more", "sequences", "SEQ001"),
]
REVISIONS = [
    Mutant("other revision", "UPDATE alembic_version SET version_num = 'beef'", "revision", "REV001"),
    Mutant("second revision", "INSERT INTO alembic_version VALUES ('beef')", "revision", "REV001"),
    Mutant("no revision", "DELETE FROM alembic_version", "revision", "REV001"),
    Mutant("no version table", "DROP TABLE alembic_version", "revision", "REV001"),
]
SCHEMA = [
    slight("index dropped", "DROP INDEX app.run_lab"),
    slight("index with another condition", """DROP INDEX app.run_label;
        CREATE INDEX run_label ON app.run (lower(label)) WHERE label IS NULL"""),
    slight("index on another expression", """DROP INDEX app.run_label;
        CREATE INDEX run_label ON app.run (upper(label)) WHERE label IS NOT NULL"""),
    slight("index in another order", "DROP INDEX app.run_lab; CREATE INDEX run_lab ON app.run (lab_id DESC, kind)"),
    grave("index made unique", "DROP INDEX app.run_lab; CREATE UNIQUE INDEX run_lab ON app.run (lab_id, kind, id)"),
    slight("unique constraint dropped", "ALTER TABLE lab DROP CONSTRAINT lab_name_key"),
    slight("default changed", "ALTER TABLE lab ALTER note SET DEFAULT 'some'"),
    slight("default dropped", "ALTER TABLE lab ALTER note DROP DEFAULT"),
    grave("check changed", "ALTER TABLE lab DROP CONSTRAINT long, ADD CONSTRAINT long CHECK (length(name) > 2)"),
    slight("check dropped", "ALTER TABLE lab DROP CONSTRAINT long"),
    slight("check no longer valid", """ALTER TABLE lab DROP CONSTRAINT long,
        ADD CONSTRAINT long CHECK (length(name) > 1) NOT VALID"""),
    slight("foreign key dropped", "ALTER TABLE app.run DROP CONSTRAINT run_lab_id_fkey"),
    slight("foreign key with another action", """ALTER TABLE app.run DROP CONSTRAINT run_lab_id_fkey,
        ADD CONSTRAINT run_lab_id_fkey FOREIGN KEY (lab_id) REFERENCES lab ON DELETE RESTRICT"""),
    slight("foreign key no longer valid", """ALTER TABLE app.run DROP CONSTRAINT run_lab_id_fkey,
        ADD CONSTRAINT run_lab_id_fkey FOREIGN KEY (lab_id) REFERENCES lab ON DELETE CASCADE NOT VALID"""),
    slight("foreign key deferrable", "ALTER TABLE app.run ALTER CONSTRAINT run_lab_id_fkey DEFERRABLE"),
    slight("exclusion constraint dropped", "ALTER TABLE booking DROP CONSTRAINT booking_during_excl"),
    slight("type widened", "ALTER TABLE lab ALTER name TYPE varchar(30)"),
    grave("type narrowed", "ALTER TABLE lab ALTER name TYPE varchar(10)"),
    grave("type changed", "ALTER TABLE well ALTER run TYPE smallint"),
    slight("NOT NULL lost", "ALTER TABLE app.run ALTER lab_id DROP NOT NULL"),
    grave("NOT NULL added", "ALTER TABLE setting ALTER value SET NOT NULL"),
    slight("identity dropped", "ALTER TABLE lab ALTER id DROP IDENTITY"),
    slight("identity by default", "ALTER TABLE lab ALTER id SET GENERATED BY DEFAULT"),
    grave("generated column stored plainly", "ALTER TABLE app.run ALTER twice DROP EXPRESSION"),
    slight("trigger dropped", "DROP TRIGGER touched ON setting"),
    slight("trigger off", "ALTER TABLE setting DISABLE TRIGGER touched"),
    slight("trigger added", """CREATE TRIGGER more BEFORE INSERT ON lab FOR EACH ROW EXECUTE FUNCTION touch()"""),
    slight("function with another body", """CREATE OR REPLACE FUNCTION twice(integer) RETURNS integer LANGUAGE sql
        IMMUTABLE AS 'SELECT $1 * 3'"""),
    slight("function of another volatility", "ALTER FUNCTION twice STABLE"),
    slight("function dropped", "DROP FUNCTION twice"),
    slight("view dropped", "DROP VIEW kinds"),
    slight("view changed", """CREATE OR REPLACE VIEW kinds AS
        SELECT kind, count(label) AS runs FROM app.run GROUP BY kind"""),
    slight("materialized view dropped", "DROP MATERIALIZED VIEW counted"),
    slight("policy dropped", "DROP POLICY own ON setting"),
    slight("policy changed", "ALTER POLICY own ON setting USING (true)"),
    slight("row security off", "ALTER TABLE setting DISABLE ROW LEVEL SECURITY"),
    slight("comment of a table", "COMMENT ON TABLE lab IS 'something else'"),
    slight("comment of a column dropped", "COMMENT ON COLUMN lab.note IS NULL"),
    slight("label added to an enum", "ALTER TYPE mood ADD VALUE 'so so'"),
    grave("label of an enum renamed", "ALTER TYPE mood RENAME VALUE 'ok' TO 'okay'"),
    slight("domain's check dropped", "ALTER DOMAIN positive DROP CONSTRAINT positive_check"),
    slight("column added", "ALTER TABLE app.run ADD more text"),
    grave("column renamed", "ALTER TABLE app.run RENAME label TO title"),
    grave("column dropped", "ALTER TABLE lab DROP founded"),
    slight("order of columns", """ALTER TABLE reading RENAME TO old; CREATE TABLE reading (value float8, at integer);
        INSERT INTO reading SELECT value, at FROM old; DROP TABLE old"""),
    slight("collation of a column", 'ALTER TABLE lab ALTER note TYPE text COLLATE "C"'),
    slight("unlogged table", "ALTER TABLE setting SET UNLOGGED"),
    grave("partition detached", "ALTER TABLE event DETACH PARTITION event_rest"),
    slight("inheritance ended", "ALTER TABLE cat NO INHERIT animal"),
    slight("sequence with another step", "ALTER SEQUENCE tickets INCREMENT BY 7"),
    slight("rule added", "CREATE RULE nothing AS ON DELETE TO lab DO INSTEAD NOTHING"),
    slight("statistics dropped", "DROP STATISTICS related"),
    slight("storage option", "ALTER TABLE lab SET (fillfactor = 50)"),
]  # fmt: skip
INTEGRITY = [
    Mutant("foreign keys switched off", "ALTER TABLE app.run DISABLE TRIGGER ALL", "integrity", "INT001"),
    Mutant(
        "index that is not valid",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.run_lab'::regclass",
        "integrity",
        "INT001",
    ),
]
MUTANTS = [*ROWS, *VALUES, *LINKS, *COUNTERS, *REVISIONS, *SCHEMA, *INTEGRITY]
HARMLESS = (
    "VACUUM FULL; ANALYZE; REINDEX SCHEMA public;"
    "CLUSTER app.run USING run_lab; ALTER TABLE app.run SET WITHOUT CLUSTER;"
    "UPDATE app.run SET kind = kind; ALTER TABLE app.run RENAME CONSTRAINT run_lab_id_fkey TO other;"
    "UPDATE app.run SET amount = 10, listed = '[1:2]={1,2}', started = '2024-01-01 01:00+01' WHERE kind = 'ab';"
    "ALTER TABLE lab ADD gone integer; ALTER TABLE lab DROP gone; REFRESH MATERIALIZED VIEW counted;"
    "ALTER INDEX app.run_lab RENAME TO elsewhere; ALTER INDEX app.elsewhere RENAME TO run_lab"
)
"""What changes nothing that counts."""
