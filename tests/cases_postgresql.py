"""What PostgreSQL alone has: schemas, kinds of tables, keys, types and constraints. Scripts are in its own dialect."""

from typing import Any

import cases
from cases import Case

OWN = ("postgresql", "SQLite has nothing of the kind")


def case(*arguments: Any, **options: Any) -> Case:
    return cases.case(*arguments, **options, only=OWN)


def refusal(*arguments: Any, **options: Any) -> Case:
    return cases.refusal(*arguments, **options, only=OWN)


# Schemas and names

SALES = """
CREATE SCHEMA sales; CREATE SCHEMA stock;
CREATE TABLE region (id integer PRIMARY KEY);
CREATE TABLE sales.customer (id integer PRIMARY KEY, region integer REFERENCES region);
CREATE TABLE stock.item (id integer PRIMARY KEY);
CREATE TABLE sales.orders (id integer PRIMARY KEY, customer_id integer REFERENCES sales.customer,
    item_id integer REFERENCES stock.item);
INSERT INTO region VALUES (1), (2);
INSERT INTO sales.customer VALUES (1, 1), (2, 2);
INSERT INTO stock.item VALUES (7), (8), (9);
INSERT INTO sales.orders VALUES (11, 1, 7), (12, 1, NULL), (21, 2, 8);
"""
LONG = "x" * 62
"""A name of 63 bytes is this and one letter more."""

SCHEMAS = [
    case(
        "links between tables of several schemas",
        SALES,
        "--root sales.customer 1",
        {
            "region": [(1,)],
            "sales.customer": [(1, 1)],
            "sales.orders": [(11, 1, 7), (12, 1, None)],
            "stock.item": [(7,)],
        },
    ),
    case(
        "a link of a table in another schema, quoted as one name",
        SALES,
        """--root stock.item 7 8 --link '"sales.orders".customer_id=null'""",
        {"stock.item": [(7,), (8,)], "sales.orders": [(11, None, 7), (21, None, 8)]},
    ),
    case(
        "a link that is told apart by its parent, in another schema",
        SALES,
        """--root region 2 --link '"sales.orders".item_id->"stock.item".id=null'""",
        {"region": [(2,)], "sales.customer": [(2, 2)], "sales.orders": [(21, 2, None)]},
    ),
    case(
        "a virtual link between schemas",
        "CREATE SCHEMA s; CREATE TABLE run (id integer PRIMARY KEY); CREATE TABLE s.log (run integer);"
        "INSERT INTO run VALUES (1), (2); INSERT INTO s.log VALUES (1), (1), (2);",
        """--root run 1 --link '"s.log".run->run.id=follow'""",
        {"run": [(1,)], "s.log": [(1,), (1,)]},
    ),
    case(
        "tables of other schemas left out and taken whole",
        SALES,
        "--root sales.customer 1 --exclude sales.orders --whole stock.item",
        {"region": [(1,)], "sales.customer": [(1, 1)], "stock.item": [(7,), (8,), (9,)]},
    ),
    case(
        "two tables of one name in two schemas",
        """
        CREATE SCHEMA other;
        CREATE TABLE run (id integer PRIMARY KEY);
        CREATE TABLE other.run (id integer PRIMARY KEY, run integer REFERENCES public.run);
        INSERT INTO run VALUES (1), (2);
        INSERT INTO other.run VALUES (1, 2), (2, 1);
        """,
        "--root run 1",
        {"run": [(1,)], "other.run": [(2, 1)]},
    ),
    case(
        "a schema and a table that have to be quoted",
        """
        CREATE SCHEMA "Odd Schema";
        CREATE TABLE "Odd Schema"."Ta""b.le" ("I D" integer PRIMARY KEY);
        CREATE TABLE "Odd Schema"."%s {} $1" ("a:b" integer REFERENCES "Odd Schema"."Ta""b.le");
        INSERT INTO "Odd Schema"."Ta""b.le" VALUES (1), (2);
        INSERT INTO "Odd Schema"."%s {} $1" VALUES (1), (2);
        """,
        """--root '"Odd Schema"."Ta""b.le"' 2""",
        {'"Odd Schema"."Ta""b.le"': [(2,)], '"Odd Schema"."%s {} $1"': [(2,)]},
    ),
    case(
        "names in upper case are other names",
        """
        CREATE TABLE run (id integer PRIMARY KEY);
        CREATE TABLE "RUN" ("ID" integer PRIMARY KEY, id integer REFERENCES run);
        INSERT INTO run VALUES (1), (2);
        INSERT INTO "RUN" VALUES (1, 2), (2, 1);
        """,
        "--root RUN 1",
        {"RUN": [(1, 2)], "run": [(2,)]},
    ),
    case(
        "names of 63 bytes, which differ in the last",
        f"""
        CREATE TABLE {LONG}a ({LONG}c integer PRIMARY KEY);
        CREATE TABLE {LONG}b ({LONG}d integer PRIMARY KEY, {LONG}e integer,
            CONSTRAINT {LONG}f FOREIGN KEY ({LONG}e) REFERENCES {LONG}a);
        CREATE TABLE "{"é" * 31}a" (id integer REFERENCES {LONG}b);
        CREATE INDEX {LONG}g ON {LONG}b ({LONG}e);
        INSERT INTO {LONG}a VALUES (1), (2);
        INSERT INTO {LONG}b VALUES (1, 1), (2, 2);
        INSERT INTO "{"é" * 31}a" VALUES (1), (2);
        """,
        f"--root {LONG}a 2",
        {f"{LONG}a": [(2,)], f"{LONG}b": [(2, 2)], f"{'é' * 31}a": [(2,)]},
    ),
    case(
        "names that are words of SQL, and names with backslashes and line breaks",
        r"""
        CREATE TABLE "user" ("order" integer PRIMARY KEY, "default" text);
        CREATE TABLE "back\slash" ("table" integer REFERENCES "user", "new
line" text);
        INSERT INTO "user" VALUES (1, E'tab\tline\n\\.\\N'), (2, '\N');
        INSERT INTO "back\slash" VALUES (1, '\.'), (2, NULL), (2, '');
        """,
        "--root user 2",
        {"user": [(2, "\\N")], "back\\slash": [(2, None), (2, "")]},
    ),
    case(
        "a dot in a name of public, and the table that it looks like",
        """
        CREATE SCHEMA a;
        CREATE TABLE a.b (id integer PRIMARY KEY);
        CREATE TABLE "a.b" (id integer PRIMARY KEY, b integer REFERENCES a.b);
        INSERT INTO a.b VALUES (1), (2);
        INSERT INTO "a.b" VALUES (1, 2), (2, 1);
        """,
        """--root 'public."a.b"' 1""",
        {"a.b": [(2,)], 'public."a.b"': [(1, 2)]},
    ),
    case(
        "functions and operators of the user's that shadow the engine's",
        """
        CREATE FUNCTION count(integer) RETURNS bigint LANGUAGE sql AS 'SELECT 77::bigint';
        CREATE FUNCTION never(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
        CREATE OPERATOR public.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = never);
        CREATE TABLE pg_class (oid integer PRIMARY KEY);
        CREATE TABLE run (id integer PRIMARY KEY, class integer REFERENCES public.pg_class);
        INSERT INTO public.pg_class VALUES (1), (2);
        INSERT INTO run VALUES (1, 1), (2, 2);
        """,
        "--root run 1",
        {"run": [(1, 1)], "pg_class": [(1,)]},
    ),
]

# Kinds of tables

PARTITIONS = """
CREATE TABLE lab (id integer PRIMARY KEY);
CREATE TABLE run (id integer, lab integer REFERENCES lab, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE run_2023 PARTITION OF run FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE run_2024 PARTITION OF run FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (id);
CREATE TABLE run_2024_2 PARTITION OF run_2024 FOR VALUES IN (2);
CREATE TABLE run_2024_rest PARTITION OF run_2024 DEFAULT;
CREATE TABLE image (id integer PRIMARY KEY, run integer, day date, FOREIGN KEY (run, day) REFERENCES run);
INSERT INTO lab VALUES (1), (2);
INSERT INTO run VALUES (1, 1, '2023-05-01'), (2, 1, '2024-05-01'), (3, 2, '2023-06-01'), (4, 2, '2024-06-01'),
    (5, NULL, '2024-07-01');
INSERT INTO image VALUES (11, 1, '2023-05-01'), (21, 2, '2024-05-01'), (41, 4, '2024-06-01'), (51, 5, '2024-07-01');
"""

TABLES = [
    case(
        "a partitioned table as child, its partitions partitioned too",
        PARTITIONS,
        "--root lab 1",
        {
            "lab": [(1,)],
            "run: id, tableoid::regclass::text": [(1, "run_2023"), (2, "run_2024_2")],
            "image: id": [(11,), (21,)],
        },
    ),
    case(
        "a partitioned table as parent",
        PARTITIONS,
        "--root image 41",
        {"lab": [(2,)], "run: id, tableoid::regclass::text": [(4, "run_2024_rest")], "image: id": [(41,)]},
    ),
    case(
        "a partitioned table as root",
        PARTITIONS,
        "--root run --where 'day >= $$2024-06-01$$'",
        {"lab": [(2,)], "run: id": [(4,), (5,)], "image: id": [(41,), (51,)]},
    ),
    case(
        "partitioned tables that refer to each other, and to themselves",
        """
        CREATE TABLE a (id integer, k integer, b integer, up integer, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
        CREATE TABLE a_1 PARTITION OF a FOR VALUES IN (1);
        CREATE TABLE a_2 PARTITION OF a FOR VALUES IN (2);
        CREATE TABLE b (id integer PRIMARY KEY, a integer, k integer, FOREIGN KEY (a, k) REFERENCES a)
            PARTITION BY RANGE (id);
        CREATE TABLE b_rest PARTITION OF b DEFAULT;
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b, ADD FOREIGN KEY (up, k) REFERENCES a;
        INSERT INTO b VALUES (1, NULL, NULL);
        INSERT INTO a VALUES (1, 1, 1, NULL), (1, 2, NULL, NULL), (2, 2, NULL, 1), (3, 2, NULL, 2), (9, 1, NULL, 1);
        UPDATE b SET a = 2, k = 2; INSERT INTO b VALUES (2, 3, 2), (7, NULL, NULL);
        """,
        "--root a --where 'id = 2'",
        {
            "a: id, k, tableoid::regclass::text": [
                (1, 1, "a_1"),
                (1, 2, "a_2"),
                (2, 2, "a_2"),
                (3, 2, "a_2"),
                (9, 1, "a_1"),
            ],
            "b": [(1, 2, 2), (2, 3, 2)],
        },
    ),
    case(
        "a partitioned table without a key keeps its duplicates, in partitions by hash",
        """
        CREATE TABLE lab (id integer PRIMARY KEY);
        CREATE TABLE reading (lab integer REFERENCES lab, value float8) PARTITION BY HASH (lab);
        CREATE TABLE reading_0 PARTITION OF reading FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE reading_1 PARTITION OF reading FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO lab SELECT generate_series(1, 4);
        INSERT INTO reading SELECT l, 0.5 FROM generate_series(1, 4) l, generate_series(1, 3);
        """,
        "--root lab 1 2",
        {"lab": [(1,), (2,)], "reading": [(1, 0.5)] * 3 + [(2, 0.5)] * 3},
    ),
    case(
        "inheritance: rows of a child are not the parent's, and no foreign key leads to them",
        """
        CREATE TABLE thing (id integer PRIMARY KEY, name text);
        CREATE TABLE machine (power integer, PRIMARY KEY (id)) INHERITS (thing);
        CREATE TABLE use (id integer PRIMARY KEY, thing integer REFERENCES thing, machine integer REFERENCES machine);
        INSERT INTO thing VALUES (1, 'a'), (2, 'b');
        INSERT INTO machine VALUES (1, 'm', 10), (3, 'n', 20);
        INSERT INTO use VALUES (1, 1, NULL), (2, 2, 3), (3, NULL, 1);
        """,
        "--root thing 1",
        {"thing": [(1, "a")], "use": [(1, 1, None)]},
    ),
    case(
        "inheritance: a child is a table of its own",
        """
        CREATE TABLE thing (id integer PRIMARY KEY, name text);
        CREATE TABLE machine (power integer, PRIMARY KEY (id)) INHERITS (thing);
        CREATE TABLE robot (arms integer) INHERITS (machine);
        CREATE TABLE use (id integer PRIMARY KEY, thing integer REFERENCES thing, machine integer REFERENCES machine);
        INSERT INTO thing VALUES (1, 'a'), (2, 'b');
        INSERT INTO machine VALUES (1, 'm', 10), (3, 'n', 20);
        INSERT INTO robot VALUES (1, 'r', 5, 2), (1, 'r', 5, 2);
        INSERT INTO use VALUES (1, 1, NULL), (2, 2, 3), (3, NULL, 1);
        """,
        "--root machine 3 --whole robot",
        {"thing": [(2, "b")], "machine": [(3, "n", 20)], "use": [(2, 2, 3)], "robot": [(1, "r", 5, 2)] * 2},
    ),
    case(
        "a table without a key, and rows without a column",
        """
        CREATE TABLE run (id integer PRIMARY KEY);
        CREATE TABLE line (run integer REFERENCES run, text text, data json);
        CREATE TABLE nothing ();
        INSERT INTO run VALUES (1), (2);
        INSERT INTO line VALUES (1, 'a', '1'), (1, 'a', '1'), (2, 'a', '1'), (1, NULL, '[1,  2]');
        INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
        """,
        "--root run 1 --whole nothing",
        {
            "run": [(1,)],
            "line: run, text, data::text": [(1, "a", "1"), (1, "a", "1"), (1, None, "[1,  2]")],
            "nothing: 'row'": [("row",), ("row",)],
        },
    ),
    case(
        "rows that were moved about, and columns that are gone",
        """
        CREATE TABLE run (gone integer, id integer PRIMARY KEY, gone_too text, note text);
        CREATE TABLE line (run integer REFERENCES run, gone integer, text text);
        INSERT INTO run SELECT 7, n, 'x', 'note ' || n FROM generate_series(1, 50) n;
        INSERT INTO line SELECT n, 7, 'line ' || n FROM generate_series(1, 50) n;
        ALTER TABLE run DROP COLUMN gone, DROP COLUMN gone_too, ADD COLUMN late integer DEFAULT 5;
        ALTER TABLE line DROP COLUMN gone;
        DELETE FROM line WHERE run < 40; UPDATE line SET text = text || '!' WHERE run IN (49, 50);
        """,
        "--root run 50",
        {"run": [(50, "note 50", 5)], "line": [(50, "line 50!")]},
    ),
    case(
        "unlogged tables are tables",
        """
        CREATE UNLOGGED TABLE unlogged_run (id integer PRIMARY KEY);
        CREATE UNLOGGED TABLE unlogged_line (run integer REFERENCES unlogged_run);
        INSERT INTO unlogged_run VALUES (1), (2); INSERT INTO unlogged_line VALUES (1), (2);
        """,
        "--root unlogged_run 1",
        {"unlogged_run": [(1,)], "unlogged_line": [(1,)]},
    ),
    case(
        "identity columns of both kinds, and serial ones",
        """
        CREATE TABLE lab (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
        CREATE TABLE run (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, lab integer REFERENCES lab);
        CREATE TABLE step (id smallserial PRIMARY KEY, run bigint REFERENCES run);
        INSERT INTO lab (name) VALUES ('a'), ('b');
        INSERT INTO run (lab) VALUES (1), (2), (2);
        INSERT INTO step (run) VALUES (1), (2), (3);
        """,
        "--root lab 2",
        {"lab": [(2, "b")], "run": [(2, 2), (3, 2)], "step": [(2, 2), (3, 3)]},
    ),
    case(
        "virtual generated columns",
        """
        CREATE TABLE run (id integer PRIMARY KEY, twice integer GENERATED ALWAYS AS (id * 2) VIRTUAL, name text);
        INSERT INTO run (id, name) VALUES (1, 'a'), (2, 'b');
        """,
        "--root run 2",
        {"run": [(2, 4, "b")]},
        needs="PostgreSQL 18",
    ),
    case(
        "triggers and rules do not act, not even those that always fire",
        """
        CREATE TABLE run (id integer PRIMARY KEY, note text);
        CREATE TABLE line (run integer REFERENCES run, text text);
        CREATE TABLE seen (what text);
        INSERT INTO run VALUES (1, 'a'), (2, 'b');
        INSERT INTO line VALUES (1, 'x'), (2, 'y');
        CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.note = 'changed'; INSERT INTO public.seen VALUES (TG_NAME); RETURN NEW; END $$;
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO public.seen VALUES (TG_NAME); RETURN NULL; END $$;
        CREATE TRIGGER before BEFORE INSERT OR UPDATE ON run FOR EACH ROW EXECUTE FUNCTION change();
        CREATE TRIGGER always BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION change();
        ALTER TABLE run ENABLE ALWAYS TRIGGER always;
        CREATE TRIGGER after AFTER INSERT ON line FOR EACH STATEMENT EXECUTE FUNCTION note();
        CREATE TRIGGER replica AFTER INSERT ON line FOR EACH ROW EXECUTE FUNCTION note();
        ALTER TABLE line ENABLE REPLICA TRIGGER replica;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON line DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER off AFTER INSERT ON line FOR EACH ROW EXECUTE FUNCTION note();
        ALTER TABLE line DISABLE TRIGGER off;
        CREATE RULE nothing AS ON INSERT TO line DO INSTEAD NOTHING;
        """,
        "--root run 1",
        {"run": [(1, "a")], "line": [(1, "x")]},
    ),
    case(
        "an event trigger does not act on the load",
        """
        CREATE TABLE run (id integer PRIMARY KEY);
        CREATE TABLE line (run integer REFERENCES run);
        CREATE TABLE log (tag text);
        INSERT INTO run VALUES (1), (2); INSERT INTO line VALUES (1);
        CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO public.log VALUES (tg_tag); END $$;
        CREATE EVENT TRIGGER noting ON ddl_command_end EXECUTE FUNCTION note();
        """,
        "--root run 1",
        {"run": [(1,)], "line": [(1,)]},
    ),
    case(
        "exclusion constraints, and others that no foreign key can use",
        """
        CREATE TABLE room (id integer PRIMARY KEY);
        CREATE TABLE booking (room integer REFERENCES room, during tsrange, EXCLUDE USING gist (during WITH &&),
            UNIQUE NULLS NOT DISTINCT (room, during));
        CREATE UNIQUE INDEX part ON booking (room) WHERE during IS NULL;
        CREATE UNIQUE INDEX expression ON booking (room, lower(during));
        INSERT INTO room VALUES (1), (2);
        INSERT INTO booking VALUES (1, '[2024-01-01, 2024-01-02)'), (2, '[2024-01-02, 2024-01-03)'), (1, NULL);
        """,
        "--root room 1",
        {
            "room": [(1,)],
            "booking: room, during::text": [(1, '["2024-01-01 00:00:00","2024-01-02 00:00:00")'), (1, None)],
        },
    ),
    case(
        "row security with its policies, read by one whom it does not concern",
        """
        CREATE TABLE run (id integer PRIMARY KEY, owner text);
        INSERT INTO run VALUES (1, 'a'), (2, 'b');
        ALTER TABLE run ENABLE ROW LEVEL SECURITY; ALTER TABLE run FORCE ROW LEVEL SECURITY;
        CREATE POLICY own ON run FOR SELECT USING (owner = CURRENT_USER);
        """,
        "--root run --all",
        {"run": [(1, "a"), (2, "b")]},
    ),
    case(
        "views, materialized views and functions come along",
        """
        CREATE TABLE run (id integer PRIMARY KEY);
        CREATE VIEW doubled AS SELECT id * 2 AS id FROM run;
        CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS runs FROM doubled;
        CREATE MATERIALIZED VIEW unfilled AS SELECT id FROM run WITH NO DATA;
        CREATE UNIQUE INDEX counted_runs ON counted (runs);
        CREATE FUNCTION twice(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1 * 2';
        INSERT INTO run VALUES (1), (2), (3);
        REFRESH MATERIALIZED VIEW counted;
        """,
        "--root run 1 3",
        {"run": [(1,), (3,)]},
    ),
    refusal(
        "large objects are in no table",
        "CREATE TABLE run (id integer PRIMARY KEY, picture oid);"
        "SELECT lo_create(4711); INSERT INTO run VALUES (1, 4711);",
        "--root run 1",
        "large object",
        "4711",
    ),
]

# Keys and links

KEYS = [
    case(
        "a cycle of tables whose links are deferred and never NULL",
        """
        CREATE TABLE lab (id integer PRIMARY KEY, head integer NOT NULL);
        CREATE TABLE person (id integer PRIMARY KEY,
            lab integer NOT NULL REFERENCES lab DEFERRABLE INITIALLY DEFERRED);
        ALTER TABLE lab ADD FOREIGN KEY (head) REFERENCES person DEFERRABLE INITIALLY IMMEDIATE;
        BEGIN; SET CONSTRAINTS ALL DEFERRED;
        INSERT INTO lab VALUES (1, 11), (2, 21);
        INSERT INTO person VALUES (11, 1), (12, 1), (21, 2);
        COMMIT;
        """,
        "--root person 12",
        {"lab": [(1, 11)], "person": [(11, 1), (12, 1)]},
    ),
    case(
        "a cycle of tables whose links are never deferred nor NULL",
        """
        CREATE TABLE lab (id integer PRIMARY KEY, head integer NOT NULL);
        CREATE TABLE person (id integer PRIMARY KEY, lab integer NOT NULL REFERENCES lab);
        INSERT INTO lab VALUES (1, 11), (2, 21);
        INSERT INTO person VALUES (11, 1), (12, 1), (21, 2);
        ALTER TABLE lab ADD FOREIGN KEY (head) REFERENCES person;
        """,
        "--root person 12",
        {"lab": [(1, 11)], "person": [(11, 1), (12, 1)]},
    ),
    case(
        "a self link that is never NULL",
        """
        CREATE TABLE node (id integer PRIMARY KEY, up integer NOT NULL REFERENCES node);
        INSERT INTO node VALUES (1, 1), (2, 1), (3, 2), (4, 4), (5, 3);
        """,
        "--root node 3",
        {"node": [(1, 1), (2, 1), (3, 2), (5, 3)]},
    ),
    case(
        "a key that is computed, and one that is checked late",
        """
        CREATE TABLE lab (n integer NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED,
            id integer GENERATED ALWAYS AS (n + 1) STORED PRIMARY KEY);
        CREATE TABLE run (lab integer REFERENCES lab, n integer REFERENCES lab (id));
        INSERT INTO lab VALUES (1), (2); INSERT INTO run VALUES (2, 3), (3, 3), (NULL, 2);
        """,
        "--root lab 2",
        {"lab": [(1, 2), (2, 3)], "run": [(2, 3), (None, 2)]},
    ),
    case(
        "MATCH FULL: all of a link or nothing of it",
        """
        CREATE TABLE plate (run integer, place integer, PRIMARY KEY (run, place));
        CREATE TABLE well (id integer PRIMARY KEY, run integer, place integer,
            FOREIGN KEY (place, run) REFERENCES plate (place, run) MATCH FULL);
        INSERT INTO plate VALUES (1, 2), (2, 1);
        INSERT INTO well VALUES (1, 1, 2), (2, 2, 1), (3, NULL, NULL);
        """,
        "--root well 1 3",
        {"plate": [(1, 2)], "well": [(1, 1, 2), (3, None, None)]},
    ),
    case(
        "two foreign keys of one meaning, and two actions on one column",
        """
        CREATE TABLE a (id integer PRIMARY KEY, code integer UNIQUE);
        CREATE TABLE b (x integer REFERENCES a ON DELETE CASCADE REFERENCES a (code) ON DELETE SET NULL,
            CONSTRAINT again FOREIGN KEY (x) REFERENCES a);
        INSERT INTO a VALUES (1, 2), (2, 1), (3, 3);
        INSERT INTO b VALUES (1), (3);
        """,
        "--root b --where 'x = 1'",
        {"a": [(1, 2), (2, 1)], "b": [(1,)]},
    ),
    refusal(
        "a foreign key of one partition alone",
        """
        CREATE TABLE lab (id integer PRIMARY KEY);
        CREATE TABLE run (id integer PRIMARY KEY, lab integer) PARTITION BY RANGE (id);
        CREATE TABLE run_old PARTITION OF run FOR VALUES FROM (0) TO (10);
        CREATE TABLE run_new PARTITION OF run FOR VALUES FROM (10) TO (20);
        ALTER TABLE run_new ADD FOREIGN KEY (lab) REFERENCES lab;
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run VALUES (1, 77), (11, 1), (12, 2);
        """,
        "--root run 1 11",
        "run_new: a partition with a foreign key of its own",
    ),
    case(
        "a foreign key to one partition alone",
        """
        CREATE TABLE run (id integer PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE run_old PARTITION OF run FOR VALUES FROM (0) TO (10);
        CREATE TABLE run_new PARTITION OF run FOR VALUES FROM (10) TO (20);
        CREATE TABLE line (id integer PRIMARY KEY, run integer REFERENCES run_new);
        INSERT INTO run VALUES (1), (11), (12);
        INSERT INTO line VALUES (1, 11), (2, 12), (3, NULL);
        """,
        "--root line 1",
        {"run": [(11,)], "line": [(1, 11)]},
    ),
    case(
        "integers at the ends of their ranges",
        """
        CREATE TABLE lab (id bigint PRIMARY KEY);
        CREATE TABLE run (id bigint PRIMARY KEY, lab bigint REFERENCES lab, tiny smallint);
        INSERT INTO lab VALUES (9223372036854775807), (-9223372036854775808), (0), (9223372036854775806);
        INSERT INTO run VALUES (-1, 9223372036854775807, 32767), (1, 0, 0),
            (9223372036854775807, -9223372036854775808, -32768);
        """,
        "--root lab -- 9223372036854775807 -9223372036854775808",
        {
            "lab": [(2**63 - 1,), (-(2**63),)],
            "run": [(-1, 2**63 - 1, 32767), (2**63 - 1, -(2**63), -32768)],
        },
    ),
    case(
        "links between integers of several widths, and numbers without one",
        """
        CREATE TABLE big (id bigint PRIMARY KEY);
        CREATE TABLE exact (id numeric PRIMARY KEY);
        CREATE TABLE use (id integer PRIMARY KEY, big smallint REFERENCES big, exact integer REFERENCES exact,
            spelled numeric(9, 3) REFERENCES exact);
        INSERT INTO big VALUES (1), (2);
        INSERT INTO exact VALUES (1), (2.0), (3.00), (12345678901234567890);
        INSERT INTO use VALUES (1, 1, 2, 3.000), (2, 2, 1, 1);
        """,
        "--root use 1",
        {
            "big": [(1,)],
            "exact: id::text": [("2.0",), ("3.00",)],
            "use: id, big, exact, spelled::text": [(1, 1, 2, "3.000")],
        },
    ),
    case(
        "numbers of floating point, not a number and minus zero among them, as keys",
        """
        CREATE TABLE x (id float8 PRIMARY KEY);
        CREATE TABLE y (id integer PRIMARY KEY, x float8 REFERENCES x, again float4 REFERENCES x);
        INSERT INTO x VALUES ('NaN'), (0), ('-Infinity'), (0.1), (0.5);
        INSERT INTO y VALUES (1, 'NaN', 0.5), (2, '-0', NULL), (3, '-Infinity', NULL), (4, 0.1, NULL);
        """,
        "--root y 1 2 3",
        {
            "x: id::text": [("NaN",), ("0",), ("-Infinity",), ("0.5",)],
            "y: id, x::text, again::text": [(1, "NaN", "0.5"), (2, "-0", None), (3, "-Infinity", None)],
        },
    ),
    case(
        "spaces at the end of char(n) don't count",
        """
        CREATE TABLE lab (code char(6) PRIMARY KEY);
        CREATE TABLE run (id integer PRIMARY KEY, lab text REFERENCES lab, again char(9) REFERENCES lab);
        INSERT INTO lab VALUES ('bern'), ('oslo');
        INSERT INTO run VALUES (1, 'bern', 'oslo'), (2, 'oslo  ', NULL), (3, 'bern   ', NULL);
        """,
        "--root run 2 3",
        {"lab: code::text": [("oslo",), ("bern",)], "run: id, lab": [(2, "oslo  "), (3, "bern   ")]},
    ),
    case(
        "text that refers to char(n), and the other way round, from above",
        """
        CREATE TABLE lab (code char(6) PRIMARY KEY);
        CREATE TABLE word (code text PRIMARY KEY);
        CREATE TABLE run (id integer PRIMARY KEY, lab varchar(9) REFERENCES lab);
        CREATE TABLE use (id integer PRIMARY KEY, word char(6) REFERENCES word);
        INSERT INTO lab VALUES ('bern'), ('oslo');
        INSERT INTO word VALUES ('bern'), ('bern  ');
        INSERT INTO run VALUES (1, 'bern'), (2, 'oslo  '), (3, 'bern   ');
        INSERT INTO use VALUES (1, 'bern'), (2, 'bern  ');
        """,
        "--root lab bern --whole use",
        {
            "lab: code::text": [("bern",)],
            "run": [(1, "bern"), (3, "bern   ")],
            "use: id": [(1,), (2,)],
            "word": [("bern",)],
        },
    ),
    case(
        "intervals that are equal and not the same",
        """
        CREATE TABLE span (length interval PRIMARY KEY);
        CREATE TABLE run (id integer PRIMARY KEY, span interval REFERENCES span);
        INSERT INTO span VALUES ('1 month'), ('1 day'), ('00:00:01');
        INSERT INTO run VALUES (1, '30 days'), (2, '24:00:00'), (3, NULL);
        """,
        "--root run 1 2",
        {
            "span: length::text": [("1 mon",), ("1 day",)],
            "run: id, span::text": [(1, "30 days"), (2, "24:00:00")],
        },
    ),
    case(
        "labels of an enum, values of a domain, arrays, ranges and addresses as keys",
        """
        CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
        CREATE DOMAIN code AS text CHECK (VALUE ~ '^[a-z]+$');
        CREATE TABLE a (mood mood PRIMARY KEY);
        CREATE TABLE b (code code PRIMARY KEY);
        CREATE TABLE c (place integer[] PRIMARY KEY);
        CREATE TABLE d (during int4range PRIMARY KEY);
        CREATE TABLE e (host inet PRIMARY KEY);
        CREATE TABLE use (id integer PRIMARY KEY, a mood REFERENCES a, b text REFERENCES b, c integer[] REFERENCES c,
            d int4range REFERENCES d, e inet REFERENCES e);
        INSERT INTO a VALUES ('sad'), ('happy'); INSERT INTO b VALUES ('x'), ('y');
        INSERT INTO c VALUES ('{1,2}'), ('[0:1]={1,2}'), ('{}'); INSERT INTO d VALUES ('[1,3)'), ('empty');
        INSERT INTO e VALUES ('10.0.0.1/8'), ('10.0.0.1');
        INSERT INTO use VALUES (1, 'happy', 'x', '[0:1]={1,2}', '[1,2]', '10.0.0.1/8'),
            (2, 'sad', 'y', '{}', 'empty', NULL);
        """,
        "--root use 1",
        {
            "use: id": [(1,)],
            "a": [("happy",)],
            "b": [("x",)],
            "c: place::text": [("[0:1]={1,2}",)],
            "d: during::text": [("[1,3)",)],
            "e: host::text": [("10.0.0.1/8",)],
        },
    ),
    case(
        "moments, truth values, bits and JSON as keys",
        """
        CREATE TABLE a (at timestamptz PRIMARY KEY); CREATE TABLE b (yes boolean PRIMARY KEY);
        CREATE TABLE c (bits bit varying PRIMARY KEY); CREATE TABLE d (data jsonb PRIMARY KEY);
        CREATE TABLE use (id integer PRIMARY KEY, a timestamptz REFERENCES a, b boolean REFERENCES b,
            c bit varying REFERENCES c, d jsonb REFERENCES d, e date REFERENCES a);
        INSERT INTO a VALUES ('2024-01-01 00:00+00'), ('infinity'), ('0044-03-15 12:00+00 BC');
        INSERT INTO b VALUES (true), (false); INSERT INTO c VALUES ('0'), ('00');
        INSERT INTO d VALUES ('{"a": 1}'), ('1.0');
        INSERT INTO use VALUES (1, '2024-01-01 01:00+01', false, '00', '{ "a": 1 }', NULL),
            (2, 'infinity', true, '0', '1', NULL);
        """,
        "--root use 2",
        {
            "use: id": [(2,)],
            "a: at::text": [("infinity",)],
            "b": [(True,)],
            "c: bits::text": [("0",)],
            "d: data::text": [("1.0",)],
        },
    ),
    case(
        "a key of a collation in which case does not count",
        """
        CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE lab (code text COLLATE nocase PRIMARY KEY);
        CREATE TABLE run (id text COLLATE nocase PRIMARY KEY, lab text COLLATE nocase REFERENCES lab,
            next text COLLATE nocase REFERENCES run);
        INSERT INTO lab VALUES ('Bern'), ('Oslo'), ('Åre');
        INSERT INTO run VALUES ('a', 'BERN', 'B'), ('b', 'oslo', NULL), ('c', 'bern', 'A'), ('d', 'ÅRE', NULL);
        """,
        "--root lab bERN",
        {
            "lab": [("Bern",), ("Oslo",)],
            "run": [("a", "BERN", "B"), ("b", "oslo", None), ("c", "bern", "A")],
        },
        needs="icu",
    ),
    case(
        "rows that are equal in every column of such a key's table, but not the same",
        """
        CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE lab (id integer PRIMARY KEY);
        CREATE TABLE line (lab integer REFERENCES lab, text text COLLATE nocase);
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO line VALUES (1, 'x'), (1, 'X'), (1, 'x'), (2, 'X');
        """,
        "--root lab 1",
        {"lab": [(1,)], "line": [(1, "x"), (1, "x"), (1, "X")]},
        needs="icu",
    ),
    case(
        "keys of citext",
        """
        CREATE EXTENSION citext;
        CREATE TABLE lab (code citext PRIMARY KEY);
        CREATE TABLE run (id integer PRIMARY KEY, lab citext REFERENCES lab);
        INSERT INTO lab VALUES ('Bern'), ('Oslo');
        INSERT INTO run VALUES (1, 'BERN'), (2, 'oslo');
        """,
        """--root lab --where "code = 'bERN'" """,
        {"lab: code::text": [("Bern",)], "run: id, lab::text": [(1, "BERN")]},
        needs="citext",
    ),
    refusal(
        "foreign keys over periods of time",
        """
        CREATE TABLE lab (id int4range, valid daterange, PRIMARY KEY (id, valid WITHOUT OVERLAPS));
        CREATE TABLE run (id integer PRIMARY KEY, lab int4range, during daterange,
            FOREIGN KEY (lab, PERIOD during) REFERENCES lab (id, PERIOD valid));
        INSERT INTO lab VALUES ('[1,2)', '[2024-01-01, 2024-07-01)'), ('[1,2)', '[2024-07-01, 2025-01-01)');
        INSERT INTO run VALUES (1, '[1,2)', '[2024-06-01, 2024-08-01)');
        """,
        "--root run 1",
        "PERIOD",
        needs="PostgreSQL 18",
    ),
]

# How ids are typed

UUIDS = """
CREATE TABLE run (id uuid PRIMARY KEY);
CREATE TABLE line (run uuid REFERENCES run, n integer);
INSERT INTO run VALUES ('067efc98-1111-4222-8333-444444444444'), ('067efc98-1111-4222-8333-555555555555'),
    ('abcdef00-0000-0000-0000-000000000000');
INSERT INTO line SELECT id, 1 FROM run;
"""
MOODS = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE run (id mood PRIMARY KEY);
INSERT INTO run VALUES ('ok'), ('sad');
"""
FOUND = {
    "run: id::text": [("abcdef00-0000-0000-0000-000000000000",)],
    "line: run::text": [("abcdef00-0000-0000-0000-000000000000",)],
}

IDS = [
    case("a UUID as it is printed", UUIDS, "--root run abcdef00-0000-0000-0000-000000000000", FOUND),
    case(
        "a UUID in capitals and braces", UUIDS, "--root run '{ABCDEF00-0000-0000-0000-000000000000}'", FOUND
    ),
    case("a UUID without dashes", UUIDS, "--root run abcdef00000000000000000000000000", FOUND),
    case("a UUID as a URN", UUIDS, "--root run urn:uuid:abcdef00-0000-0000-0000-000000000000", FOUND),
    case("the beginning of a UUID", UUIDS, "--root run abcd", FOUND),
    case("the beginning of a UUID, without its dash", UUIDS, "--root run abcdef000000", FOUND),
    case("the beginning of a UUID, in capitals", UUIDS, "--root run ABCDEF00-00", FOUND),
    refusal(
        "the beginning of two UUIDs",
        UUIDS,
        "--root run 067efc98",
        "067efc98-1111-4222-8333-444444444444",
        "067efc98-1111-4222-8333-555555555555",
    ),
    refusal("too short a beginning of a UUID", UUIDS, "--root run abc", "4 characters or more"),
    refusal("what is no beginning of a UUID", UUIDS, "--root run zzzzzz", "zzzzzz"),
    refusal(
        "an integer that is out of range",
        "CREATE TABLE run (id smallint PRIMARY KEY); INSERT INTO run VALUES (1);",
        "--root run 99999999999999999999999",
        "99999999999999999999999",
    ),
    case(
        "a negative integer",
        "CREATE TABLE run (id smallint PRIMARY KEY); INSERT INTO run VALUES (-5), (5);",
        "--root run -- -5",
        {"run": [(-5,)]},
    ),
    case(
        "a date",
        "CREATE TABLE run (id date PRIMARY KEY); INSERT INTO run VALUES ('2024-02-29'), ('2024-03-01');",
        "--root run 2024-02-29",
        {"run: id::text": [("2024-02-29",)]},
    ),
    case(
        "a moment",
        "CREATE TABLE run (id timestamptz PRIMARY KEY); INSERT INTO run VALUES ('2024-02-29 12:00+00'), ('infinity');",
        "--root run '2024-02-29 13:00:00+01' infinity",
        {"run: id::text": [("2024-02-29 12:00:00+00",), ("infinity",)]},
    ),
    case(
        "a label",
        MOODS,
        "--root run ok",
        {"run": [("ok",)]},
    ),
    refusal(
        "a label that there is not",
        MOODS,
        "--root run glad",
        "glad",
    ),
    case(
        "a number with decimals",
        "CREATE TABLE run (id numeric PRIMARY KEY); INSERT INTO run VALUES (1.50), (1);",
        "--root run 1.5",
        {"run: id::text": [("1.50",)]},
    ),
    case(
        "a name from a domain, shortened",
        "CREATE DOMAIN code AS varchar(20); CREATE TABLE run (id code PRIMARY KEY);"
        "INSERT INTO run VALUES ('abcdef'), ('abc');",
        "--root run abcd",
        {"run": [("abcdef",)]},
    ),
    case(
        "the beginning of char(n)",
        "CREATE TABLE run (id char(9) PRIMARY KEY); INSERT INTO run VALUES ('abcdef'), ('abc');",
        "--root run abcd",
        {"run: id::text": [("abcdef",)]},
    ),
]

# Conditions

THINGS = """
CREATE TABLE run (id integer PRIMARY KEY, name text, tags text[], data jsonb, at timestamptz);
INSERT INTO run VALUES
    (1, 'a%b', '{x,y}', '{"k": 1}', '2024-01-01 12:00+00'),
    (2, 'A:b', '{y}', '{"q": [1, 2]}', '2024-01-02 12:00+00'),
    (3, E'a\\\\b', '{}', NULL, NULL);
CREATE TABLE other (run integer REFERENCES run);
INSERT INTO other VALUES (1), (1), (2);
CREATE FUNCTION spoil() RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN DELETE FROM public.other; RETURN true; END $$;
CREATE SEQUENCE counter;
"""

CONDITIONS = [
    case(
        "a cast, and a remainder",
        THINGS,
        "--root run --where 'id::text::int % 2 = 0'",
        {"run: id": [(2,)], "other": [(2,)]},
    ),
    case(
        "an operator that is a question mark",
        THINGS,
        """--root run --where "data ? 'k'" """,
        {"run: id": [(1,)], "other": [(1,), (1,)]},
    ),
    case(
        "containment of arrays and of JSON",
        THINGS,
        """--root run --where "tags && ARRAY['y'] AND NOT data @> '{\\"k\\": 1}'" """,
        {"run: id": [(2,)], "other": [(2,)]},
    ),
    case(
        "patterns, a percent sign and a backslash",
        THINGS,
        r"""--root run --where "name LIKE 'a\%%' OR name ~* '^a\\\\B$'" """,
        {"run: id": [(1,), (3,)], "other": [(1,), (1,)]},
    ),
    case(
        "strings with escapes and between dollars",
        THINGS,
        r"""--root run --where "name = $q$A:b$q$ OR name = E'a\\x5Cb'" """,
        {"run: id": [(2,), (3,)], "other": [(2,)]},
    ),
    case(
        "a moment in the session's zone, which is fixed",
        THINGS,
        """--root run --where "at = '2024-01-01 12:00'" """,
        {"run: id": [(1,)], "other": [(1,), (1,)]},
    ),
    case(
        "a table of another schema, named in full",
        THINGS,
        "--root run --where 'id IN (SELECT run FROM public.other GROUP BY run HAVING count(*) = 1)'",
        {"run: id": [(2,)], "other": [(2,)]},
    ),
    case(
        "a comment that is not ended",
        THINGS,
        "--root run --where 'id = 2 -- and so on'",
        {"run: id": [(2,)], "other": [(2,)]},
    ),
    case(
        "placeholders of a driver are text",
        THINGS,
        """--root run --where "name = '%s' OR name = '%(x)s' OR name = ':x' OR id = 2" """,
        {"run: id": [(2,)], "other": [(2,)]},
    ),
    case(
        "where a row lies",
        THINGS,
        """--root run --where "ctid = '(0,2)' AND xmin IS NOT NULL" """,
        {"run: id": [(2,)], "other": [(2,)]},
    ),
    case(
        "tables named as those that panicdb keeps keys in",
        THINGS + "CREATE TABLE keys0_0 (k0 integer); INSERT INTO keys0_0 VALUES (2);",
        "--root run --where 'id IN (SELECT k0 FROM keys0_0)'",
        {"run: id": [(2,)], "other": [(2,)]},
    ),
    case(
        "tables that the database's own search path leads to",
        THINGS
        + """
        CREATE SCHEMA aside; CREATE TABLE aside.wanted (id integer); INSERT INTO aside.wanted VALUES (2);
        DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET search_path = aside, public', current_database());
        END $$;
        """,
        "--root run --where 'id IN (SELECT id FROM wanted)'",
        {"run: id": [(2,)], "other": [(2,)]},
    ),
    refusal(
        "a value which nobody gave",
        THINGS,
        "--root run --where 'id = $1 OR id < $1'",
        "no row of run was chosen",
    ),
    refusal(
        "an end of the transaction, and a deletion",
        THINGS,
        "--root run --where 'true); COMMIT; DELETE FROM public.other; --'",
        "--where can't be evaluated",
    ),
    refusal(
        "an end of the transaction, and a deletion, that look complete",
        THINGS,
        "--root run --where 'true); COMMIT; DELETE FROM public.other; SELECT (1'",
        "--where can't be evaluated",
    ),
    refusal(
        "a function that writes", THINGS, "--root run --where 'public.spoil()'", "--where can't be evaluated"
    ),
    refusal(
        "a counter that moves on",
        THINGS,
        """--root run --where "nextval('public.counter') > 0" """,
        "--where can't be evaluated",
    ),
    refusal(
        "a condition that fails for some row",
        THINGS,
        "--root run --where '1 / (id - 2) = 1'",
        "--where can't be evaluated",
        "DivisionByZero",
    ),
    refusal(
        "a condition that is no truth value", THINGS, "--root run --where id", "--where can't be evaluated"
    ),
]

# Constraints that rows violate already

VIOLATED = """
CREATE TABLE lab (id integer PRIMARY KEY);
CREATE TABLE run (id integer PRIMARY KEY, lab integer, note text);
CREATE TABLE image (run integer REFERENCES run);
INSERT INTO lab VALUES (1);
INSERT INTO run VALUES (1, 1, 'a'), (2, 99, 'b'), (3, NULL, 'c');
INSERT INTO image VALUES (1), (2);
"""
NOT_VALID = VIOLATED + "ALTER TABLE run ADD FOREIGN KEY (lab) REFERENCES lab NOT VALID;"
BELIEVED = (
    VIOLATED
    + """
DELETE FROM image WHERE run = 2; DELETE FROM run WHERE id = 2;
ALTER TABLE run ADD FOREIGN KEY (lab) REFERENCES lab;
SET session_replication_role = replica;
INSERT INTO run VALUES (2, 99, 'b'); INSERT INTO image VALUES (2);
SET session_replication_role = origin;
"""
)
"""A foreign key that counts as valid, and is not."""

CONSTRAINTS = [
    refusal("NOT VALID: refused by default", NOT_VALID, "--root run --all", "run(lab) -> lab: 1 rows"),
    case(
        "NOT VALID: kept",
        NOT_VALID,
        "--root run --all --violations keep",
        {"lab": [(1,)], "run": [(1, 1, "a"), (2, 99, "b"), (3, None, "c")], "image": [(1,), (2,)]},
        dangling=1,
    ),
    case(
        "NOT VALID: dropped, with what hangs on it",
        NOT_VALID,
        "--root lab 1 --whole image --violations drop --exclude run --link image.run=null",
        {"lab": [(1,)], "image": [(None,), (None,)]},
    ),
    refusal("believed valid: refused by default", BELIEVED, "--root run --all", "run(lab) -> lab: 1 rows"),
    case(
        "believed valid: set to NULL",
        BELIEVED,
        "--root run --all --link run.lab=null",
        {"run": [(1, None, "a"), (2, None, "b"), (3, None, "c")], "image": [(1,), (2,)]},
    ),
    case(
        "believed valid: not among the rows",
        BELIEVED,
        "--root run 1",
        {"lab": [(1,)], "run": [(1, 1, "a")], "image": [(1,)]},
    ),
    case(
        "a check that was never made",
        VIOLATED + "ALTER TABLE run ADD CHECK (note <> 'b') NOT VALID;",
        "--root run --all",
        {"run": [(1, 1, "a"), (2, 99, "b"), (3, None, "c")], "image": [(1,), (2,)]},
    ),
    case(
        "a domain's check that was never made",
        """
        CREATE DOMAIN small AS integer;
        CREATE TABLE run (id integer PRIMARY KEY, size small, sizes small[]);
        INSERT INTO run VALUES (1, -1, '{-1}'), (2, 2, '{2}');
        ALTER DOMAIN small ADD CHECK (VALUE > 0) NOT VALID;
        """,
        "--root run 1",
        {"run: id, size, sizes::text": [(1, -1, "{-1}")]},
    ),
    refusal(
        "a check whose function finds its tables by the search path: nor could pg_dump restore it",
        """
        CREATE TABLE allowed (word text);
        CREATE FUNCTION is_allowed(text) RETURNS boolean LANGUAGE sql STABLE
            AS 'SELECT EXISTS (SELECT FROM allowed WHERE word = $1)';
        CREATE TABLE run (id integer PRIMARY KEY, word text CHECK (is_allowed(word)));
        INSERT INTO allowed VALUES ('a');
        INSERT INTO run VALUES (1, 'a');
        """,
        "--root run 1",
        'relation "allowed" does not exist',
        exit_code=4,
    ),
    case(
        "a check whose function looks into another table",
        """
        CREATE TABLE words (word text);
        CREATE FUNCTION is_allowed(text) RETURNS boolean LANGUAGE sql STABLE
            AS 'SELECT EXISTS (SELECT FROM public.words WHERE word = $1)';
        INSERT INTO words VALUES ('a');
        CREATE TABLE run (id integer PRIMARY KEY, word text CHECK (is_allowed(word)));
        INSERT INTO run VALUES (1, 'a');
        """,
        "--root run 1 --whole words",
        {"run": [(1, "a")], "words": [("a",)]},
    ),
    case(
        "foreign keys that are not enforced",
        VIOLATED + "ALTER TABLE run ADD FOREIGN KEY (lab) REFERENCES lab NOT ENFORCED;",
        "--root run --all --violations keep",
        {"lab": [(1,)], "run": [(1, 1, "a"), (2, 99, "b"), (3, None, "c")], "image": [(1,), (2,)]},
        dangling=1,
        needs="PostgreSQL 18",
    ),
    case(
        "checks that are not enforced, and columns that may still be NULL",
        VIOLATED
        + "ALTER TABLE run ADD CHECK (note <> 'b') NOT ENFORCED, ADD CONSTRAINT said NOT NULL lab NOT VALID;",
        "--root run --all",
        {"run": [(1, 1, "a"), (2, 99, "b"), (3, None, "c")], "image": [(1,), (2,)]},
        needs="PostgreSQL 18",
    ),
]

# Values

VALUES = [
    case(
        "values that no Python type holds",
        """
        CREATE TABLE lab (id integer PRIMARY KEY);
        CREATE TABLE run (id integer PRIMARY KEY, lab integer REFERENCES lab, at timestamptz, day date, clock time,
            zoned timetz, span interval, exact numeric, broad numeric, loose json, tight jsonb, listed integer[],
            span4 int4range, many int4multirange, raw bytea, x float8, y float4, cash money, word tsvector, ask tsquery,
            box box, mac macaddr, lsn pg_lsn, short "char", label name, kind regclass, row lab, bits bit(3));
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run VALUES
            (1, 1, 'infinity', '10000-01-01', '24:00', '12:00:00.000001-15:59:59', '1 mon -1 day +0.000001 sec', 'NaN',
                (repeat('9', 1000) || '.' || repeat('1', 1000))::numeric, '{"a":1,  "a":2}', '{"b": 1.10, "a": 1e2}',
                '[2:3]={1,NULL}', 'empty', '{[1,2),[5,7)}', decode('00ff0a0d5c', 'hex'), '-0', 'NaN', 12.34,
                'a:1A b', 'a & !b', '(1,1),(0,0)', '08:00:2b:01:02:03', '16/B374D848', E'\\\\001', 'a name', 'lab',
                ROW(NULL), '101'),
            (2, 2, '0044-03-15 00:00+00 BC', '-infinity', '00:00', '00:00+15:59:59', '-178000000 years', 'Infinity',
                1.10, 'null', 'null', '{{1,2},{3,4}}', '(,)', '{}', '', 1e-310, 1e-40, -0.01, '', '', '(0,0),(0,0)',
                NULL, '0/0', '', '', NULL, NULL, '000');
        """,
        "--root lab 1 2",
        {
            "lab": [(1,), (2,)],
            "run: id, at::text, day::text, clock::text, zoned::text, span::text, exact::text, length(broad::text)": [
                (
                    1,
                    "infinity",
                    "10000-01-01",
                    "24:00:00",
                    "12:00:00.000001-15:59:59",
                    "1 mon -1 days +00:00:00.000001",
                    "NaN",
                    2001,
                ),
                (
                    2,
                    "0044-03-15 00:00:00+00 BC",
                    "-infinity",
                    "00:00:00",
                    "00:00:00+15:59:59",
                    "-178000000 years",
                    "Infinity",
                    4,
                ),
            ],
        },
    ),
    case(
        "vectors of an extension",
        """
        CREATE EXTENSION vector;
        CREATE TABLE run (id integer PRIMARY KEY, embedding vector(3));
        INSERT INTO run VALUES (1, '[1,2,3]'), (2, '[0.1,-0,1e-30]');
        CREATE INDEX near ON run USING hnsw (embedding vector_l2_ops);
        """,
        "--root run 2",
        {"run: id, embedding::text": [(2, "[0.1,-0,1e-30]")]},
        needs="vector",
    ),
    case(
        "values of types that were made here",
        """
        CREATE SCHEMA kinds;
        CREATE TYPE kinds.mood AS ENUM ('sad', 'ok', 'happy');
        CREATE TYPE kinds.point AS (x integer, y kinds.mood);
        CREATE TYPE kinds.floats AS RANGE (subtype = float8);
        CREATE DOMAIN kinds.positive AS integer CHECK (VALUE > 0);
        CREATE TABLE run (id integer PRIMARY KEY, a kinds.mood[], b kinds.point, c kinds.floats, d kinds.positive[]);
        INSERT INTO run VALUES (1, '{sad,happy}', '(1,ok)', '[0.5,1e300)', '{1,2}'), (2, NULL, '(,)', NULL, NULL);
        """,
        "--root run 1",
        {
            "run: id, a::text, b::text, c::text, d::text": [
                (1, "{sad,happy}", "(1,ok)", "[0.5,1e+300)", "{1,2}")
            ]
        },
    ),
]
