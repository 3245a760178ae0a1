"""Every drift between two PostgreSQL schemas is found, with its severity, and nothing else is."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.pool import StaticPool

from panicdb.backends.postgresql.facts import expressions, read_facts
from panicdb.backends.postgresql.facts.demands import type_demands
from panicdb.schema import Severity, compare, without_tables
from panicdb.values import Fact
from postgresql_drift_kinds import BASE, DRIFTS, ODD, RICH

B, S, C = Severity.BLOCKING, Severity.SEMANTIC, Severity.COSMETIC
E = "existence"
SETTLE = "SET search_path = ''; SET TimeZone = 'UTC'"


@contextmanager
def connected(connection: psycopg.Connection) -> Iterator[sa.Connection]:
    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool, use_native_hstore=False
    )
    try:
        with engine.connect() as wrapped:
            yield wrapped
    finally:
        engine.dispose()


def read(url):
    """Read the facts of a database, in a transaction that can't write."""
    with closing(psycopg.connect(url)) as connection, connected(connection) as wrapped:
        connection.execute(f"SET TRANSACTION READ ONLY; {SETTLE}")
        return read_facts(wrapped)


@pytest.fixture
def facts_of(make_pg):
    """Build a schema in a database of its own; return its facts."""
    return lambda *scripts: read(make_pg("".join(scripts)))


def found(differences):
    return {(item.object, item.property): item.severity for item in differences}


# --- drift ---


@pytest.fixture(scope="module")
def empty(postgres):
    name = f"drifts_{os.getpid()}"
    postgres.create(name=name)
    yield name
    postgres.drop(name)


@pytest.fixture(scope="module")
def drifted(postgres, empty):
    """Build a schema and read its facts, all in one transaction that is never committed."""

    def build(script):
        with (
            closing(postgres.connect(empty, autocommit=False)) as connection,
            connected(connection) as wrapped,
        ):
            connection.execute(script)
            connection.execute(SETTLE)
            return read_facts(wrapped)

    return build


@pytest.fixture(scope="module")
def base(drifted):
    return drifted(BASE)


def has_icu(postgres):
    return postgres.execute("SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu')") == [
        (True,)
    ]


@pytest.mark.parametrize("drift", DRIFTS, ids=str)
@pytest.mark.fault(19)
def test_every_drift_is_found_alone_with_its_severity(postgres, drifted, base, drift):
    if postgres.version < drift.since or (drift.icu and not has_icu(postgres)):
        with pytest.raises(psycopg.Error):
            drifted(drift.script)
        return
    facts = drifted(drift.script)
    assert found(compare(base, facts)) == drift.expected()
    assert found(compare(facts, base)) == drift.expected(drifted_source=True)


def test_there_are_many_kinds_of_drift():
    assert len({drift.name for drift in DRIFTS}) == len(DRIFTS) >= 160


def test_a_renamed_index_is_one_cosmetic_difference(drifted, base):
    renamed = drifted(BASE + "ALTER INDEX ix_seed RENAME TO ix_run_seed;")
    assert [str(each) for each in compare(base, renamed)] == [
        "index ix_seed: name is ix_seed in the source, ix_run_seed in the target"
    ]
    twice = drifted(BASE + "CREATE INDEX ix_again ON run (seed, kind);")
    assert found(compare(base, twice)) == {("index ix_again", E): S}


def test_a_missing_table_takes_all_that_belongs_to_it_along(drifted, base):
    """Its columns, keys, indexes, triggers, sequences; partitions with what they are part of."""
    without = drifted(
        BASE + "ALTER PUBLICATION news DROP TABLE run; DROP VIEW seeds; DROP TABLE run CASCADE;"
    )
    assert found(compare(base, without)) == {
        ("table run", E): B,
        ("view seeds", E): S,
        ("materialized view kinds", E): S,
        ("publication news", "tables"): S,
    }
    parted = drifted(BASE + "DROP TABLE event;")
    assert found(compare(base, parted)) == {("table event", E): B}


def test_an_extension_is_one_fact(postgres, drifted):
    """What it brought along is left out, in whatever schema; its type is named by columns."""
    names = {name for (name,) in postgres.execute("SELECT name FROM pg_available_extensions")}
    name, column = ("vector", "vector(3)") if "vector" in names else ("citext", "citext")
    script = f"CREATE SCHEMA app; CREATE EXTENSION {name} SCHEMA app; CREATE TABLE t (a app.{column});"
    facts = drifted(script)
    assert {thing for thing, aspect in facts if aspect == E} == {
        f"extension {name}",
        "schema app",
        "table t",
        "column t.a",
    }
    assert facts[f"extension {name}", "schema"].value == "app"
    assert facts["column t.a", "type"].value == f"app.{column}"


def test_a_required_key_that_is_enforced_otherwise_blocks_nothing(drifted):
    table = "CREATE TABLE t (a int NOT NULL, b int NOT NULL{});"
    by_constraint = drifted(table.format(", UNIQUE (a, b)"))
    by_index = drifted(table.format("") + "CREATE UNIQUE INDEX ix ON t (b DESC, a);")
    by_key = drifted(table.format(", PRIMARY KEY (a, b)"))
    for source in (by_constraint, by_index, by_key):
        for target in (by_constraint, by_index, by_key):
            assert B not in found(compare(source, target)).values()


def test_options_that_may_hold_secrets_are_compared_and_not_shown(drifted, base):
    other = drifted(BASE.replace("hidden1", "hidden2"))
    (difference,) = compare(base, other)
    assert difference.object == "foreign server elsewhere"
    assert "hidden" not in repr(difference)


# --- no difference where there is none ---


def dump(postgres, url):
    """Dump a schema with the server's own pg_dump, or a later one."""
    command = [postgres.binaries / "pg_dump", "--schema-only", "--no-owner", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # What only psql understands is no part of the schema.
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("\\"))


def test_a_schema_equals_itself_restored_from_a_dump(postgres, make_pg):
    url = make_pg(BASE + ODD + RICH)
    again = make_pg(dump(postgres, url))
    assert urlsplit(url).path != urlsplit(again).path
    once = read(url)
    assert compare(once, read(again)) == ()
    assert once == read(again) == read(make_pg(dump(postgres, again)))


LIVELY = """
INSERT INTO config (id, name) SELECT gen_random_uuid(), 'name ' || i FROM generate_series(1, 50) i;
SET CONSTRAINTS ALL IMMEDIATE;
INSERT INTO run (config_id, seed) SELECT id, 5 FROM config;
SELECT nextval('tickets');
ALTER TABLE run ADD gone integer;
ALTER TABLE run DROP gone;
REFRESH MATERIALIZED VIEW kinds;
ANALYZE;
"""


def test_use_is_no_difference(postgres, make_pg):
    url = make_pg(BASE + LIVELY)
    postgres.execute("VACUUM FULL ANALYZE", urlsplit(url).path[1:])
    assert compare(read(make_pg(BASE)), read(url)) == ()


WAYS = {
    "columns that were dropped": """
        CREATE TABLE t (a int, b text, c int, UNIQUE (a, c));
        -- or
        CREATE TABLE t (x int, a int, y int, b text);
        ALTER TABLE t DROP x, DROP y, ADD c int, ADD UNIQUE (a, c);
    """,
    "a list of texts that was widened": """
        CREATE TABLE t (a text NOT NULL DEFAULT 'x' CHECK (a IN ('x', 'y')), b bigint DEFAULT '0' CHECK (b > 0));
        -- or
        CREATE TABLE t (a varchar(5) DEFAULT 'x' CHECK (a IN ('x', 'y')), b integer DEFAULT 0 CHECK (b > 0));
        ALTER TABLE t ALTER a TYPE text, ALTER a SET NOT NULL, ALTER b TYPE bigint;
    """,
    "a list of texts that was given a length": """
        CREATE TABLE t (a varchar(5) DEFAULT 'x', CHECK (a IN ('x', 'y')));
        CREATE INDEX i ON t (lower(a)) WHERE a IN ('x', 'y') AND a <> 'z';
        -- or
        CREATE TABLE t (a text DEFAULT 'x', CHECK (a IN ('x', 'y')));
        CREATE INDEX i ON t (lower(a)) WHERE a IN ('x', 'y') AND a <> 'z';
        ALTER TABLE t ALTER a TYPE varchar(5);
    """,
    "numbers": """
        CREATE TABLE t (a bigint DEFAULT -1, b numeric(9, 2) DEFAULT 0, c float8 DEFAULT 1.5, d smallint DEFAULT '7');
        -- or
        CREATE TABLE t (a int DEFAULT '-1', b int DEFAULT '0', c float8 DEFAULT '1.5', d int DEFAULT 7);
        ALTER TABLE t ALTER a TYPE bigint, ALTER b TYPE numeric(9, 2), ALTER d TYPE smallint;
    """,
    "a default of NULL": """
        CREATE TABLE t (a varchar(5), b int, c char(2));
        -- or
        CREATE TABLE t (a varchar(5) DEFAULT NULL, b int DEFAULT NULL, c char(2) DEFAULT NULL);
    """,
    "brackets": """
        CREATE TABLE t (a int, b int CHECK (b > 0 AND b < 9 AND a = 1), CHECK (a > 1 OR a < 0 OR b = 1));
        -- or
        CREATE TABLE t (a int, b int, CHECK ((b > 0 AND b < 9) AND (a = 1)), CHECK (((a > 1) OR (a < 0 OR b = 1))));
    """,
    "serial": """
        CREATE TABLE t (id serial PRIMARY KEY);
        -- or
        CREATE SEQUENCE t_id_seq AS integer;
        CREATE TABLE t (id int NOT NULL DEFAULT nextval('t_id_seq'));
        ALTER SEQUENCE t_id_seq OWNED BY t.id;
        ALTER TABLE t ADD PRIMARY KEY (id);
    """,
    "identity": """
        CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY);
        -- or
        CREATE TABLE t (id bigint NOT NULL);
        ALTER TABLE t ALTER id ADD GENERATED ALWAYS AS IDENTITY;
    """,
    "a key made of an index": """
        CREATE TABLE t (a int CONSTRAINT k PRIMARY KEY, b int, CONSTRAINT u UNIQUE (b));
        -- or
        CREATE TABLE t (a int, b int);
        CREATE UNIQUE INDEX k ON t (a);
        CREATE UNIQUE INDEX u ON t (b);
        ALTER TABLE t ADD PRIMARY KEY USING INDEX k, ADD UNIQUE USING INDEX u;
    """,
    "a foreign key validated later": """
        CREATE TABLE p (id int PRIMARY KEY);
        CREATE TABLE t (a int REFERENCES p ON DELETE NO ACTION);
        -- or
        CREATE TABLE t (a int);
        CREATE TABLE p (id int PRIMARY KEY);
        ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES p (id) NOT VALID;
        ALTER TABLE t VALIDATE CONSTRAINT t_a_fkey;
    """,
    "a check validated later": """
        CREATE TABLE t (a int CHECK (a > 0));
        -- or
        CREATE TABLE t (a int);
        ALTER TABLE t ADD CHECK (a > 0) NOT VALID;
        ALTER TABLE t VALIDATE CONSTRAINT t_a_check;
    """,
    "labels added one by one": """
        CREATE TYPE m AS ENUM ('a', 'b', 'c');
        CREATE TABLE t (x m DEFAULT 'b');
        -- or
        CREATE TYPE m AS ENUM ('b');
        ALTER TYPE m ADD VALUE 'c' AFTER 'b';
        ALTER TYPE m ADD VALUE 'a' BEFORE 'b';
        CREATE TABLE t (x m);
        ALTER TABLE t ALTER x SET DEFAULT 'b';
    """,
    "labels renamed": """
        CREATE TYPE m AS ENUM ('a', 'b');
        -- or
        CREATE TYPE m AS ENUM ('a', 'c');
        ALTER TYPE m RENAME VALUE 'c' TO 'b';
    """,
    "a partition attached": """
        CREATE TABLE p (a int NOT NULL, b text, PRIMARY KEY (a)) PARTITION BY LIST (a);
        CREATE INDEX ON p (b);
        CREATE TABLE q PARTITION OF p FOR VALUES IN (1, 2);
        -- or
        CREATE TABLE q (a int NOT NULL, b text, PRIMARY KEY (a));
        CREATE INDEX ON q (b);
        CREATE TABLE p (a int NOT NULL, b text, PRIMARY KEY (a)) PARTITION BY LIST (a);
        CREATE INDEX ON p (b);
        ALTER TABLE p ATTACH PARTITION q FOR VALUES IN (1, 2);
    """,
    "an heir that came later": """
        CREATE TABLE p (a int CHECK (a > 0));
        CREATE TABLE q (b int) INHERITS (p);
        -- or
        CREATE TABLE p (a int CHECK (a > 0));
        CREATE TABLE q (a int CONSTRAINT p_a_check CHECK (a > 0), b int);
        ALTER TABLE q INHERIT p;
    """,
    "names that changed": """
        CREATE SCHEMA s;
        CREATE TABLE s.t (a int, b int);
        CREATE INDEX i ON s.t (a);
        CREATE VIEW v AS SELECT a FROM s.t;
        -- or
        CREATE SCHEMA r;
        CREATE TABLE r.u (c int, b int);
        CREATE INDEX j ON r.u (c);
        ALTER INDEX r.j RENAME TO i;
        ALTER TABLE r.u RENAME c TO a;
        ALTER TABLE r.u RENAME TO t;
        ALTER SCHEMA r RENAME TO s;
        CREATE VIEW v AS SELECT a FROM s.t;
    """,
    "layout": """
        CREATE TABLE t (a int);
        CREATE VIEW v AS SELECT a FROM t;
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1 + 2';
        -- or
        CREATE TABLE t (a INT4);
        CREATE VIEW v AS
          SELECT t . a  -- all
        FROM public.t AS t;
        CREATE FUNCTION f() RETURNS integer AS $$
          SELECT 1  +  2 /* three */ $$ LANGUAGE sql;
    """,
    "settings put back": """
        CREATE TABLE t (a text);
        -- or
        CREATE TABLE t (a text);
        ALTER TABLE t SET (fillfactor = 50), ALTER a SET STATISTICS 5, ALTER a SET STORAGE MAIN;
        ALTER TABLE t RESET (fillfactor), ALTER a SET STATISTICS -1, ALTER a SET STORAGE EXTENDED;
        COMMENT ON TABLE t IS 'x';
        COMMENT ON TABLE t IS NULL;
        ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        ALTER TABLE t DISABLE ROW LEVEL SECURITY;
    """,
    "the order of things": """
        CREATE TABLE a (x int);
        CREATE TABLE b (x int, y int, CHECK (x > 0), UNIQUE (x), UNIQUE (y));
        CREATE INDEX i ON a (x);
        CREATE INDEX j ON a (x);
        -- or
        CREATE TABLE b (x int, y int, UNIQUE (y), CHECK (x > 0), UNIQUE (x));
        CREATE TABLE a (x int);
        CREATE INDEX j ON a (x);
        CREATE INDEX i ON a (x);
    """,
    "two of the same": """
        CREATE TABLE t (a int, CONSTRAINT k CHECK (a > 0), CONSTRAINT l CHECK (a > 0));
        -- or
        CREATE TABLE t (a int, CONSTRAINT l CHECK (a > 0), CONSTRAINT k CHECK (a > 0));
    """,
    "who owns it, and who may read it": """
        CREATE TABLE t (a int);
        -- or
        CREATE ROLE someone;
        CREATE TABLE t (a int);
        GRANT SELECT ON t TO someone;
        ALTER TABLE t OWNER TO someone;
    """,
}


@pytest.mark.parametrize("way", WAYS)
def test_how_it_was_made_is_no_difference(drifted, way):
    once, stepwise = map(drifted, WAYS[way].split("-- or\n"))
    assert compare(once, stepwise) == ()
    assert compare(stepwise, once) == ()
    assert len(once) > 1


def test_names_of_constraints_that_follow_from_old_names_are_names_only(drifted):
    once = drifted("CREATE TABLE t (id serial PRIMARY KEY, a int UNIQUE, CHECK (a > 0));")
    renamed = drifted(
        "CREATE TABLE u (id serial PRIMARY KEY, a int UNIQUE, CHECK (a > 0)); ALTER TABLE u RENAME TO t;"
    )
    assert found(compare(once, renamed)) == {
        ("primary key of t", "name"): C,
        ("unique t(a)", "name"): C,
        ("check t: a > 0", "name"): C,
        ("sequence of t.id", "name"): C,
    }


def test_two_servers_tell_the_same_of_the_same_schema(pool):
    """What one version prints otherwise than another is no difference."""
    servers = [pool.get(name) for name in servers_there()]
    told = []
    for server in servers:
        with server.tidying():
            told.append(read(server.create(BASE + ODD + RICH)))
    for other in told[1:]:
        assert compare(told[0], other) == ()
        assert told[0] == other


def servers_there():
    from servers import choose  # noqa: PLC0415 - those that this run uses

    return choose()


def test_the_columns_of_an_only_table_are_told_without_its_name():
    """As PostgreSQL 16 and later do; a function, a type or a collation keeps its schema."""
    older = """ SELECT t.a,
    (t."b c" + t.f(1)) AS x,
    t.*::text AS w,
    (t.a COLLATE t.d) AS y,
    t.a::t.kind AS z,
    ( SELECT max(u.z) AS max FROM public.u WHERE u.y = t.a) AS m
   FROM public.t
  WHERE (t.a > 0)
  ORDER BY t.a;"""
    newer = (
        'SELECT a, ("b c" + t.f(1)) AS x, t.*::text AS w, (a COLLATE t.d) AS y, a::t.kind AS z, '
        "(SELECT max(u.z) AS max FROM public.u WHERE u.y = t.a) AS m FROM public.t WHERE (a > 0) ORDER BY a"
    )
    assert expressions.query(older, prefixed=True) == newer == expressions.query(newer, prefixed=True)
    assert "t.a" in expressions.query(older)
    for kept in (
        "SELECT t.a, u.b FROM (public.t JOIN public.u ON ((t.a = u.a)))",
        "SELECT t.a FROM public.t UNION SELECT u.a FROM public.u",
        "SELECT t.a FROM public.t, public.u",
    ):
        assert expressions.query(kept, prefixed=True) == kept


@pytest.mark.parametrize(
    ("first", "restored"),
    [
        (
            "((a)::text = ANY ((ARRAY['x'::character varying, 'y'::character varying])::text[]))",
            "((a)::text = ANY (ARRAY[('x'::character varying)::text, ('y'::character varying)::text]))",
        ),
        ("(((a >= 1) AND (a <= 5)) AND (b > 0))", "((a >= 1) AND (a <= 5) AND (b > 0))"),
        ("((a > 1) OR ((a < 0) OR (b = 1)))", "((a > 1) OR (a < 0) OR (b = 1))"),
    ],
)
def test_what_a_restore_prints_otherwise_is_the_same(first, restored):
    assert expressions.expression(first) == expressions.expression(restored)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("((a > 1) OR ((b > 1) AND (c > 1)))", "(((a > 1) OR (b > 1)) AND (c > 1))"),
        ("(to_json((a)::text) = b)", "(to_json(a) = b)"),
        ("('1'::integer = a)", "('1'::text = a)"),
        ("(a = 'x  y'::text)", "(a = 'x y'::text)"),
        ("((a)::character varying(3) = b)", "(a = b)"),
        ("(a - (b - c))", "((a - b) - c)"),
        ("f('a')", "g('a')"),
    ],
)
def test_what_means_something_else_stays_apart(one, other):
    assert expressions.expression(one) != expressions.expression(other)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab1 .,:()[]'\"$-*/\nANDOR=é\\E")))
def test_any_text_is_read_and_nothing_of_it_is_lost(text):
    spelled = expressions.spell(expressions.parse(text))
    assert "".join(spelled.split()) == "".join(
        "".join(token.text for token in expressions.tokens(text)).split()
    )
    assert expressions.expression(spelled) == expressions.expression(text)


# --- what demands are made of ---


NARROWER = [
    ("smallint", "integer"),
    ("integer", "bigint"),
    ("bigint", "numeric"),
    ("integer", "numeric(10,0)"),
    ("integer", "double precision"),
    ("smallint", "real"),
    ("real", "double precision"),
    ("numeric(8,2)", "numeric(10,2)"),
    ("numeric(8,2)", "numeric"),
    ("character varying(5)", "character varying(6)"),
    ("character varying(5)", "text"),
    ("character(5)", "text"),
    ("bit varying(5)", "bit varying"),
    ("jsonb", "json"),
    ("timestamp(3) with time zone", "timestamp with time zone"),
    ("time(3) without time zone", "time(4) without time zone"),
    ("character varying(5)[]", "text[]"),
    ("public.d", "integer"),
]


def of_type(kind):
    demands = type_demands("t.a", kind, {"public.d": "integer"})
    return {("column t.a", E): Fact("present"), ("column t.a", "type"): Fact(kind, demands=demands)}


@pytest.mark.parametrize(("narrow", "wide"), NARROWER)
def test_a_wider_type_takes_what_a_narrower_one_holds(narrow, wide):
    facts = [of_type(narrow), of_type(wide)]
    assert found(compare(*facts)) == {("column t.a", "type"): S}
    assert found(compare(*reversed(facts))) == {("column t.a", "type"): B}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("integer", "text"),
        ("bigint", "double precision"),
        ("integer", "real"),
        ("numeric(10,2)", "numeric(10,3)"),
        ("date", "timestamp without time zone"),
        ("timestamp with time zone", "timestamp without time zone"),
        ("text", "text[]"),
        ("bit(3)", "bit varying(3)"),
        ("character(3)", "character(4)"),
        ("uuid", "public.mood"),
        ("interval day to second(3)", "interval"),
    ],
)
def test_types_of_which_neither_takes_the_other(one, other):
    facts = [of_type(one), of_type(other)]
    assert set(found(compare(*facts)).values()) == set(found(compare(*reversed(facts))).values()) == {B}


def test_no_privilege_is_needed(postgres, make_pg):
    url = make_pg(
        BASE + "CREATE ROLE nobody_special LOGIN PASSWORD 'p'; REVOKE ALL ON SCHEMA public FROM PUBLIC;"
    )
    name = urlsplit(url).path[1:]
    assert read(postgres.url(name, "nobody_special", "p")) == read(url)


def test_version_tables_are_left_out_in_any_schema(facts_of):
    facts = facts_of(
        'CREATE SCHEMA "My app"; CREATE TABLE "My app".v (version_num text PRIMARY KEY); CREATE TABLE "v w" (a int);'
    )
    left = without_tables(facts, ['"My app".v', "v w"])
    assert {thing for thing, aspect in left if aspect == E} == {'schema "My app"'}


def test_system_schemas_and_temporary_tables_are_left_out(postgres, make_pg):
    url = make_pg()
    with closing(psycopg.connect(url)) as connection, connected(connection) as wrapped:
        connection.execute(f"CREATE TEMPORARY TABLE keys (a serial PRIMARY KEY); {SETTLE}")
        assert read_facts(wrapped) == {}


def test_the_number_of_queries_does_not_grow(make_pg):
    counted = []
    for count in (1, 40):
        url = make_pg(
            "".join(
                f"CREATE TABLE t{n} (id serial PRIMARY KEY, a text CHECK (a > 'b'));" for n in range(count)
            )
        )
        statements = []
        with closing(psycopg.connect(url)) as connection:
            connection.execute(SETTLE)
            with connected(connection) as wrapped:
                sa.event.listen(
                    wrapped, "before_cursor_execute", lambda *each, seen=statements: seen.append(each[2])
                )
                read_facts(wrapped)
        counted.append(len(statements))
    assert counted[0] == counted[1] < 50
