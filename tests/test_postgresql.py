"""PostgreSQL as source and target: where a target comes from, what comes back after a load, what a killed run leaves.

Closures, values, faults and privileges have files of their own.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from panicdb import commands
from panicdb.backends.postgresql import databases, definitions, emptiness, sessions
from panicdb.backends.postgresql.addresses import Address, read_address
from panicdb.errors import (
    CheckFailedError,
    InterruptedRunError,
    PanicDBError,
    SourceError,
    TargetError,
    TransferError,
    UsageError,
)
from panicdb.receipt import write_receipt
from panicdb.render import receipt_text
from panicdb.reports import Verdict
from panicdb.values import Monitor, Progress
from servers import Server

PROJECT = Path(__file__).resolve().parent.parent
SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers,
    total numeric(10, 2) CHECK (total >= 0),
    twice numeric(12, 2) GENERATED ALWAYS AS (total * 2) STORED
);
CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE TABLE notes (id serial, text text);
INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 3) n;
INSERT INTO orders (customer_id, total) SELECT 1 + n % 3, n FROM generate_series(1, 30) n;
INSERT INTO notes (text) VALUES ('one'), ('two');
"""
COUNTS = (
    "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM orders), (SELECT count(*) FROM notes)"
)


@pytest.fixture(autouse=True)
def dump_program(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Definitions are dumped by the program that belongs to the server."""
    assert postgres.binaries is not None
    monkeypatch.setenv(definitions.VARIABLE, str(postgres.binaries / "pg_dump"))


@pytest.fixture
def shop(make_pg: Callable[..., str]) -> str:
    return make_pg(SHOP, name="shop")


def leftovers(server: Server) -> set[str]:
    return {name for name in server.databases() if databases.MARK in name}


# Where a target comes from


@pytest.mark.quick
def test_a_database_that_does_not_exist_is_built_aside_and_renamed(postgres, shop):
    seen: list[set[str]] = []
    receipt = commands.export(
        shop,
        postgres.url("laptop"),
        roots=["2"],
        root="customers",
        progress=lambda _: seen.append(postgres.databases()),
    )
    assert receipt.target.startswith("laptop at ")
    assert postgres.execute(COUNTS, "laptop") == [(1, 10, 0)]
    assert not any("laptop" in names for names in seen)
    assert any(databases.MARK in name for names in seen for name in names)
    assert leftovers(postgres) == set()
    assert postgres.execute("SELECT datconnlimit FROM pg_database WHERE datname = 'laptop'") == [(-1,)]
    report = commands.verify(shop, postgres.url("laptop"), roots=["2"], root="customers")
    assert report.verdict is Verdict.EXACT


@pytest.mark.quick
def test_an_empty_database_that_was_given_is_filled_and_stays_itself(postgres, shop, make_pg):
    given = make_pg(name="given")
    number = postgres.execute("SELECT oid FROM pg_database WHERE datname = 'given'")
    commands.clone(shop, given, verify=True)
    assert postgres.execute("SELECT oid FROM pg_database WHERE datname = 'given'") == number
    assert postgres.execute("SELECT * FROM pg_db_role_setting") == []
    assert commands.verify(shop, given).verdict is Verdict.EXACT


@pytest.mark.quick
def test_a_database_with_the_schema_and_no_rows_counts_as_empty(postgres, shop, make_pg):
    schema = "".join(each + ";" for each in SHOP.split(";\n") if "INSERT" not in each)
    given = make_pg(schema, name="given")
    receipt = commands.clone(shop, given)
    assert receipt.schema["method"] == "given"
    assert commands.verify(shop, given).verdict is Verdict.EXACT


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("CREATE TABLE mine (a int); INSERT INTO mine VALUES (1)", "holds rows, in mine"),
        ("CREATE TABLE mine (a int)", "has a schema that is not the source's"),
        (
            "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "has a schema that is not the source's",
        ),
        ("CREATE TYPE mine AS ENUM ('a')", "has a schema that is not the source's"),
    ],
)
def test_any_other_target_is_refused_and_left_alone(postgres, shop, make_pg, script, words):
    taken = make_pg(script, name="taken")
    with pytest.raises(TargetError, match=words):
        commands.clone(shop, taken)
    with closing(sessions.connect(read_address(taken))) as session:
        assert emptiness.list_objects(session) == ("mine",)
    assert postgres.execute("SELECT * FROM pg_db_role_setting") == []


@pytest.mark.parametrize("existing", ["merge", "replace"])
def test_merging_and_replacing_are_for_files(shop, make_pg, existing):
    taken = make_pg("CREATE TABLE mine (a int); INSERT INTO mine VALUES (1)", name="taken")
    with pytest.raises(TargetError, match="SQLite files"):
        commands.export(shop, taken, all_roots=True, root="customers", existing=existing)


def test_the_old_function_fills_a_database_that_is_not_there(postgres, make_pg):
    source = make_pg(name="experiments")
    _migrate(source)
    postgres.execute(
        "INSERT INTO experimentconfig (id, networks, seeds, prompts, embedding_models, max_length) "
        "VALUES ('067efc98-c179-4da1-9e20-3b5d2e0a1b1c', '[]', '[1]', '[]', '[]', 5)",
        "experiments",
    )
    commands.export_experiments(source, postgres.url("one"), ["067efc98-c179-4da1-9e20-3b5d2e0a1b1c"])
    assert postgres.execute("SELECT count(*) FROM experimentconfig", "one") == [(1,)]


def test_what_only_files_have_is_refused_in_words(postgres, shop):
    with pytest.raises(UsageError, match="nothing to spool"):
        commands.clone(shop, postgres.url("other"), spool=True)
    assert "other" not in postgres.databases()


# What is left of runs that came to no good end


def test_a_failed_run_leaves_a_given_database_as_it_was(postgres, shop, make_pg):
    given = make_pg("CREATE SCHEMA theirs", name="given")

    def stop(progress: Progress) -> None:
        if progress.step == "checking":
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        commands.clone(shop, given, progress=stop)
    with closing(sessions.connect(read_address(given))) as session:
        assert emptiness.list_objects(session) == ()
        assert emptiness.take_inventory(session).schemas == {"theirs"}
    assert postgres.execute("SELECT * FROM pg_db_role_setting") == []


@pytest.mark.parametrize(
    "step", ["copying the schema", "copying", "building indexes", "checking", "publishing"]
)
def test_a_failed_run_leaves_no_draft(postgres, shop, step):
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        commands.clone(shop, postgres.url("other"), progress=stop)
    assert leftovers(postgres) == set()
    assert "other" not in postgres.databases()


def test_the_draft_of_a_killed_run_is_dropped_and_that_of_one_at_work_is_not(postgres, shop, make_pg):
    target = read_address(postgres.url("laptop"))
    dead, alive = databases.draft_name("laptop"), databases.draft_name("laptop")
    theirs = f"laptop{databases.MARK}restored"  # a user's, who likes such names
    for name in (dead, alive, theirs):
        make_pg(name=name)
    for name in (dead, alive):
        postgres.execute(f"ALTER DATABASE {name} CONNECTION LIMIT {databases.DRAFT}")
    with closing(sessions.connect(target.to("postgres"))) as session:
        assert databases.try_lock(session, alive)
        commands.export(shop, postgres.url("laptop"), roots=["1"], root="customers")
        assert leftovers(postgres) == {alive, theirs}


LEFT = """
CREATE TABLE half (a int);
CREATE TYPE built AS ENUM ('x');
CREATE TYPE span AS RANGE (SUBTYPE = int4);
CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = simple);
CREATE SCHEMA more CREATE TABLE half (a int);
CREATE FUNCTION doubled(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1';
"""


def test_what_a_killed_run_left_in_a_given_database_is_cleared_by_the_next(postgres, shop, make_pg):
    given = make_pg(LEFT, name="given")
    with closing(sessions.connect(read_address(given))) as session:
        emptiness.mark(session)
    commands.clone(shop, given)
    assert commands.verify(shop, given).verdict is Verdict.EXACT
    assert postgres.execute("SELECT * FROM pg_db_role_setting") == []


OF_AN_EXTENSION = """
CREATE TABLE customers (id int PRIMARY KEY);
CREATE TABLE "100% systems" (id int, ours boolean);
CREATE TABLE "own only" (id int, ours boolean);
INSERT INTO "100% systems" VALUES (1, true), (2, false);
INSERT INTO "own only" VALUES (1, true);
ALTER EXTENSION plpgsql ADD TABLE "100% systems";
ALTER EXTENSION plpgsql ADD TABLE "own only";
UPDATE pg_extension SET extcondition = '{WHERE NOT ours,WHERE NOT ours}',
    extconfig = ARRAY['"100% systems"'::regclass::oid, '"own only"'::regclass::oid] WHERE extname = 'plpgsql';
"""


def test_rows_of_users_in_a_table_of_an_extension_are_named_and_left(make_pg):
    decided = commands.plan_clone(make_pg(OF_AN_EXTENSION))
    said = ("rows of users in 100% systems, a table of the extension plpgsql, are left to that",)
    assert decided.left_behind == said
    assert write_receipt(decided, "there", {}, ()).left_behind == said


def test_the_name_that_sessions_have_in_a_given_database_outlives_a_run(postgres, shop, make_pg):
    given = make_pg(LEFT, name="given")
    named = "SELECT setconfig FROM pg_db_role_setting"
    postgres.execute(
        "ALTER ROLE postgres IN DATABASE given SET application_name = 'the team''s; before: all'"
    )
    before = postgres.execute(named)
    with closing(sessions.connect(read_address(given))) as session:
        emptiness.mark(session)
    assert postgres.execute(named) != before
    commands.clone(shop, given)
    assert postgres.execute(named) == before


def test_what_somebody_put_into_a_marked_database_is_not_cleared(postgres, shop, make_pg):
    given = make_pg("CREATE TABLE mine (a int); INSERT INTO mine VALUES (1)", name="given")
    with closing(sessions.connect(read_address(given))) as session:
        emptiness.mark(session)
    with pytest.raises(TargetError, match="holds rows, in mine"):
        commands.clone(shop, given)
    assert postgres.execute("SELECT count(*) FROM mine", "given") == [(1,)]


def test_nobody_else_writes_into_a_given_database_meanwhile(postgres, shop, make_pg):
    given = make_pg(name="given")
    refused: list[str] = []

    def intrude(progress: Progress) -> None:
        if progress.step == "publishing":
            with closing(postgres.connect("given")) as session:
                session.execute("SET lock_timeout = '100ms'")
                try:
                    session.execute("INSERT INTO notes (text) VALUES ('mine')")
                except psycopg.errors.LockNotAvailable as error:
                    refused.append(str(error))

    commands.clone(shop, given, progress=intrude)
    assert len(refused) == 1
    assert commands.verify(shop, given).verdict is Verdict.EXACT


def test_an_empty_schema_that_was_given_is_used(postgres, make_pg):
    source = make_pg("CREATE SCHEMA sales; CREATE TABLE sales.orders (id int)", name="source")
    given = make_pg("CREATE SCHEMA sales", name="given")
    commands.clone(source, given)
    assert commands.verify(source, given).verdict is Verdict.EXACT


def test_who_waits_for_our_locks_does_not_keep_pg_dump_waiting_for_ever(postgres, shop):
    """ALTER TABLE waits for us, pg_dump would wait for ALTER TABLE, and we for pg_dump."""
    waiting: list[threading.Thread] = []

    def alter() -> None:
        with closing(postgres.connect("shop")) as session:
            session.execute("ALTER TABLE customers ADD COLUMN more int")

    def intrude(progress: Progress) -> None:
        if progress.step == "copying the schema":
            waiting.append(threading.Thread(target=alter))
            waiting[0].start()
            while not postgres.execute("SELECT FROM pg_locks WHERE NOT granted"):
                time.sleep(0.01)

    with pytest.raises(SourceError, match="somebody waits to change a table"):
        commands.clone(shop, postgres.url("laptop"), timeout=0.5, progress=intrude)
    waiting[0].join()
    assert "laptop" not in postgres.databases()


def test_who_comes_second_to_a_target_is_told_who_makes_it(postgres, shop, make_pg):
    target = read_address(postgres.url("laptop"))
    with closing(sessions.connect(target.to("postgres"))) as session:
        assert databases.try_lock(session, "laptop")
        with pytest.raises(TargetError, match=r"process \d+ of the server"):
            commands.clone(shop, postgres.url("laptop"))
    assert leftovers(postgres) == set()


def test_a_target_that_appears_meanwhile_is_left_alone(postgres, shop):
    def appear(progress: Progress) -> None:
        if progress.step == "publishing":
            postgres.execute("CREATE DATABASE laptop")

    with pytest.raises(TargetError, match="appeared while the copy was made"):
        commands.clone(shop, postgres.url("laptop"), progress=appear)
    assert leftovers(postgres) == set()
    with closing(sessions.connect(read_address(postgres.url("laptop")))) as session:
        assert emptiness.list_objects(session) == ()


def test_source_and_target_are_told_apart_by_what_they_are(postgres, shop, make_pg):
    other = make_pg(name="other")
    address = read_address(shop)
    alias = Address({**address.parameters, "host": "localhost"})
    with closing(sessions.connect(address)) as one, closing(sessions.connect(alias)) as same:
        assert databases.are_same(one, same)
        with closing(sessions.connect(read_address(other))) as another:
            assert not databases.are_same(one, another)
    with pytest.raises(TargetError, match="the same database"):
        commands.clone(shop, shop.replace("127.0.0.1", "localhost"))


# What comes back after a load

STRUCTURE = """
CREATE TABLE p (a int, b text, c int, CONSTRAINT "the Key" PRIMARY KEY (a) INCLUDE (b) DEFERRABLE INITIALLY DEFERRED);
COMMENT ON CONSTRAINT "the Key" ON p IS 'a ''quoted'' 100% comment';
CREATE UNIQUE INDEX p_bc ON p (b, c DESC NULLS LAST) WHERE c > 0;
COMMENT ON INDEX p_bc IS 'partial';
CREATE INDEX p_expression ON p (lower(b), (c + 1)) WITH (fillfactor = 70);
ALTER INDEX p_expression ALTER COLUMN 2 SET STATISTICS 77;
CLUSTER p USING p_expression;
ALTER TABLE p ADD CONSTRAINT p_c UNIQUE NULLS NOT DISTINCT (c);
CREATE TABLE q (a int NOT NULL, during int4range, EXCLUDE USING gist (during WITH &&));
CREATE UNIQUE INDEX q_a ON q (a);
ALTER TABLE q REPLICA IDENTITY USING INDEX q_a;
ALTER TABLE q ADD FOREIGN KEY (a) REFERENCES p (c) ON DELETE SET NULL (a) DEFERRABLE NOT VALID;
CREATE TABLE grouped (id int PRIMARY KEY, name text);
CREATE VIEW needs_key AS SELECT g.id, g.name, count(*) FROM grouped g GROUP BY g.id;
CREATE TABLE filled (id int CONSTRAINT filled_pkey PRIMARY KEY WITH (fillfactor = 50));
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.b := 'changed'; RETURN NEW; END $$;
CREATE TRIGGER always BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION change();
CREATE TRIGGER replica BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION change();
CREATE TRIGGER off BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION change();
ALTER TABLE p ENABLE ALWAYS TRIGGER always;
ALTER TABLE p ENABLE REPLICA TRIGGER replica;
ALTER TABLE p DISABLE TRIGGER off;
CREATE TABLE secret (a int, who text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (who = current_user);
CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n FROM p;
CREATE MATERIALIZED VIEW later AS SELECT n + 1 AS n FROM total;
CREATE MATERIALIZED VIEW never AS SELECT count(*) FROM p WITH NO DATA;
CREATE TABLE parted (k int, at date, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
CREATE INDEX parted_k ON parted (k);
"""
FILL = """
SET session_replication_role = replica;
INSERT INTO p VALUES (1, '', 1), (2, '', 2);
UPDATE p SET b = CASE a WHEN 1 THEN 'one' ELSE 'two' END;
INSERT INTO q VALUES (1, '[1,2)'), (2, '[5,9)');
INSERT INTO grouped VALUES (1, 'x');
INSERT INTO filled VALUES (1);
INSERT INTO secret VALUES (1, 'me'), (2, 'you');
INSERT INTO parted VALUES (1, '2020-05-05'), (2, '2025-01-01');
SET session_replication_role = origin;
REFRESH MATERIALIZED VIEW total;
REFRESH MATERIALIZED VIEW later;
"""


@pytest.mark.parametrize("given", [False, True], ids=["copied", "given"])
def test_all_that_was_put_aside_comes_back(postgres, make_pg, given):
    violated = "ALTER TABLE q ADD CONSTRAINT positive CHECK (a > 5) NOT VALID;"
    source = make_pg(STRUCTURE + FILL + violated, name="source")
    target = make_pg(STRUCTURE + violated if given else "", name="target")
    receipt = commands.clone(source, target, verify=True)
    assert receipt.schema["method"] == ("given" if given else "copy")
    assert commands.verify(source, target).verdict is Verdict.EXACT
    assert postgres.execute("SELECT b FROM p ORDER BY a", "target") == [("one",), ("two",)]
    assert postgres.execute("SELECT n FROM later", "target") == [(3,)]
    assert postgres.execute("SELECT relispopulated FROM pg_class WHERE relname = 'never'", "target") == [
        (False,)
    ]
    assert postgres.execute("SELECT count(*) FROM parted_1", "target") == [(1,)]


def test_sequences_go_on_where_the_source_stands(postgres, make_pg):
    source = make_pg(
        "CREATE TABLE a (id bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 10) PRIMARY KEY, v int);"
        "CREATE TABLE b (id serial PRIMARY KEY); CREATE TABLE c (id int GENERATED BY DEFAULT AS IDENTITY);"
        "CREATE SEQUENCE down INCREMENT -1 START -1; CREATE TABLE d (id int DEFAULT nextval('down'));"
        "ALTER SEQUENCE down OWNED BY d.id; CREATE SEQUENCE free START 100;"
        "INSERT INTO a (v) SELECT 1 FROM generate_series(1, 3); INSERT INTO b SELECT FROM generate_series(1, 7);"
        "INSERT INTO d SELECT nextval('down') FROM generate_series(1, 4); SELECT nextval('free');"
        "INSERT INTO b VALUES (DEFAULT); DELETE FROM b WHERE id = 8",
        name="source",
    )
    commands.export(source, postgres.url("part"), where="id = 5", root="a")
    commands.clone(source, postgres.url("all"))
    for name in ("part", "all"):
        found = postgres.execute("INSERT INTO a (v) VALUES (2) RETURNING id", name) + postgres.execute(
            "INSERT INTO b DEFAULT VALUES RETURNING id", name
        )
        found += postgres.execute("INSERT INTO c DEFAULT VALUES RETURNING id", name)
        found += postgres.execute("INSERT INTO d DEFAULT VALUES RETURNING id", name)
        found += postgres.execute("SELECT nextval('free')", name)
        assert found == [(35,), (9,), (1,), (-5,), (101,)]


def test_the_counter_of_a_subset_may_stand_behind_the_source_s_but_not_behind_its_rows(postgres, make_pg):
    source = make_pg(
        "CREATE TABLE up (id serial PRIMARY KEY); INSERT INTO up SELECT FROM generate_series(1, 5);"
        "CREATE SEQUENCE down INCREMENT -1 START -1;"
        "CREATE TABLE low (id int DEFAULT nextval('down'), up_id int REFERENCES up);"
        "ALTER SEQUENCE down OWNED BY low.id; INSERT INTO low (up_id) SELECT 1 FROM generate_series(1, 5)",
        name="source",
    )
    choice = {"roots": ["1"], "root": "up"}
    commands.export(source, postgres.url("part"), **choice)
    postgres.execute("INSERT INTO up DEFAULT VALUES; INSERT INTO low (up_id) VALUES (6)", "source")
    assert commands.verify(source, postgres.url("part"), **choice).ok
    for sequence, wrong in (("up_id_seq", 0), ("up_id_seq", 90), ("down", -2), ("down", -90)):
        ((last, called),) = postgres.execute(f"SELECT last_value, is_called FROM {sequence}", "part")
        postgres.execute(f"SELECT setval('{sequence}', {wrong or 1}, {bool(wrong)})", "part")
        report = commands.verify(source, postgres.url("part"), **choice)
        assert [finding.code for finding in report.findings] == ["SEQ001"], (sequence, wrong)
        postgres.execute(f"SELECT setval('{sequence}', {last}, {called})", "part")


def test_rows_without_a_stored_column_are_counted_over(postgres, make_pg):
    source = make_pg(
        "CREATE TABLE nothing (); INSERT INTO nothing SELECT FROM generate_series(1, 3)", name="source"
    )
    commands.clone(source, postgres.url("target"))
    assert postgres.execute("SELECT count(*) FROM nothing", "target") == [(3,)]


def test_kept_violations_arrive_where_the_target_can_hold_them(postgres, make_pg):
    source = make_pg(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a_id int);"
        "INSERT INTO b VALUES (1, 7); ALTER TABLE b ADD FOREIGN KEY (a_id) REFERENCES a NOT VALID",
        name="source",
    )
    commands.clone(source, postgres.url("target"), violations="keep")
    assert commands.verify(source, postgres.url("target")).verdict is Verdict.EXACT


def test_violations_that_a_valid_constraint_hides_are_found_and_not_kept(postgres, make_pg):
    source = make_pg(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a_id int REFERENCES a);"
        "SET session_replication_role = replica; INSERT INTO b VALUES (1, 7)",
        name="source",
    )
    with pytest.raises(PanicDBError, match="foreign keys are violated in the source"):
        commands.clone(source, postgres.url("target"))
    with pytest.raises(TransferError, match="refused rows of the source"):
        commands.clone(source, postgres.url("target"), violations="keep")
    assert "target" not in postgres.databases()


# Comparisons as the server makes them

_COMPARISONS = {"lt": "<", "le": "<=", "eq": "=", "ge": ">=", "gt": ">"}
CASELESS = f"""
CREATE TYPE caseless;
CREATE FUNCTION caseless_in(cstring) RETURNS caseless LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION caseless_out(caseless) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE caseless (INPUT = caseless_in, OUTPUT = caseless_out, LIKE = text);
CREATE CAST (caseless AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE FUNCTION caseless_cmp(caseless, caseless) RETURNS int LANGUAGE sql IMMUTABLE
    AS 'SELECT bttextcmp(lower($1::text), lower($2::text))';
{
    "".join(
        f'''
CREATE FUNCTION caseless_{name}(caseless, caseless) RETURNS bool LANGUAGE sql IMMUTABLE
    AS 'SELECT lower($1::text) {sign} lower($2::text)';
CREATE OPERATOR {sign} (LEFTARG = caseless, RIGHTARG = caseless, FUNCTION = caseless_{name});
'''
        for name, sign in _COMPARISONS.items()
    )
}
CREATE OPERATOR CLASS caseless_ops DEFAULT FOR TYPE caseless USING btree AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
    FUNCTION 1 caseless_cmp(caseless, caseless);
CREATE TABLE word (id int PRIMARY KEY, spelled caseless UNIQUE);
CREATE TABLE use (id int PRIMARY KEY, spelled caseless REFERENCES word (spelled));
INSERT INTO word VALUES (1, 'Tree'), (2, 'House');
INSERT INTO use VALUES (1, 'TREE'), (2, 'tree'), (3, 'house');
"""


def test_a_type_of_its_own_compares_by_its_own_operator(postgres, make_pg):
    """No search path leads to it, and text would compare otherwise."""
    source = make_pg(CASELESS, name="source")
    decided = commands.plan(source, roots=["1"], root="word")
    assert {table.name: table.rows for table in decided.tables} == {"word": 1, "use": 2}
    decided = commands.plan(source, roots=["3"], root="use")
    assert {table.name: table.rows for table in decided.tables} == {"word": 1, "use": 1}


def test_keys_of_types_and_domains_of_their_own(postgres, make_pg):
    """A key is compared by its type's operator, and a domain that forbids NULL may be part of a cycle."""
    source = make_pg(
        CASELESS
        + "CREATE TABLE leaf (id caseless PRIMARY KEY); CREATE TABLE vein (id int PRIMARY KEY, leaf caseless"
        " REFERENCES leaf); INSERT INTO leaf VALUES ('A'), ('B'); INSERT INTO vein VALUES (1, 'a'), (2, 'A'), (3, 'b');"
        "CREATE DOMAIN number AS int NOT NULL; CREATE DOMAIN key AS number;"
        "CREATE TABLE x (id key PRIMARY KEY, z int); CREATE TABLE y (id key PRIMARY KEY, x int REFERENCES x);"
        "ALTER TABLE x ADD FOREIGN KEY (z) REFERENCES y; INSERT INTO x VALUES (1), (2); INSERT INTO y VALUES (1, 1);"
        "UPDATE x SET z = 1 WHERE id = 2",
        name="source",
    )
    decided = commands.plan(source, roots=["A"], root="leaf")
    assert {table.name: table.rows for table in decided.tables} == {"leaf": 1, "vein": 2}
    commands.export(source, postgres.url("target"), roots=["1"], root="x")
    assert postgres.execute("SELECT count(*) FROM x", "target") == [(2,)]


def test_an_index_that_compares_otherwise_tells_no_rows_apart(postgres, make_pg):
    source = make_pg(
        'CREATE TABLE t (a text COLLATE "C" NOT NULL); CREATE UNIQUE INDEX ON t (a COLLATE "POSIX");'
        "INSERT INTO t VALUES ('a'), ('A')",
        name="source",
    )
    commands.export(source, postgres.url("target"), all_roots=True, root="t")
    assert postgres.execute("SELECT count(*) FROM t", "target") == [(2,)]


def test_materialized_views_are_filled_in_the_order_that_they_need(postgres, make_pg):
    source = make_pg(
        "CREATE TABLE a (id int); INSERT INTO a VALUES (1); CREATE VIEW v AS SELECT 1 AS n;"
        "CREATE MATERIALIZED VIEW first AS SELECT n FROM v;"
        "CREATE MATERIALIZED VIEW second AS SELECT id AS n FROM a;"
        "CREATE OR REPLACE VIEW v AS SELECT n FROM second; REFRESH MATERIALIZED VIEW first",
        name="source",
    )
    commands.clone(source, postgres.url("target"))
    assert postgres.execute("SELECT n FROM first", "target") == [(1,)]


def test_per_cent_signs_in_names(postgres, make_pg):
    source = make_pg(
        """CREATE TABLE "100% sure" (); INSERT INTO "100% sure" DEFAULT VALUES; CREATE TYPE "a%b" AS ENUM ('x');"""
        """CREATE TABLE "%s" ("%d" "a%b" PRIMARY KEY, "%(x)s" "a%b" REFERENCES "%s"); CREATE SEQUENCE "%";"""
        """INSERT INTO "%s" VALUES ('x', 'x')""",
        name="source",
    )
    commands.export(source, postgres.url("part"), roots=["x"], root="%s")
    commands.clone(source, postgres.url("all"))
    assert commands.verify(source, postgres.url("all")).verdict is Verdict.EXACT


def test_a_trigger_may_be_off_on_one_partition(postgres, make_pg):
    schema = (
        "CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1);"
        "CREATE TABLE p_2 PARTITION OF p FOR VALUES IN (2);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''fired''; END';"
        "CREATE TRIGGER t BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE p_1 DISABLE TRIGGER t;"
    )
    source = make_pg(schema + "INSERT INTO p VALUES (1)", name="source")
    given = make_pg(schema, name="given")
    commands.clone(source, given)
    assert commands.verify(source, given).verdict is Verdict.EXACT


def test_a_partition_on_another_server_is_refused(make_pg):
    source = make_pg(
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER away FOREIGN DATA WRAPPER w; CREATE TABLE p (id int) PARTITION BY"
        " LIST (id); CREATE FOREIGN TABLE p_1 PARTITION OF p FOR VALUES IN (1) SERVER away",
        name="source",
    )
    with pytest.raises(SourceError, match="p_1: a partition that lies on another server"):
        commands.plan(source, all_roots=True, root="p")


def test_match_full_counts_what_is_null_in_part(make_pg):
    source = make_pg(
        "CREATE TABLE a (x int, y int, PRIMARY KEY (x, y)); CREATE TABLE b (id int PRIMARY KEY, x int, y int,"
        " FOREIGN KEY (x, y) REFERENCES a MATCH FULL); INSERT INTO a VALUES (1, 1);"
        "SET session_replication_role = replica; INSERT INTO b VALUES (1, 1, 1), (2, NULL, NULL), (3, 1, NULL)",
        name="source",
    )
    with pytest.raises(PanicDBError, match=r"b\(x, y\) -> a: 1 rows"):
        commands.plan(source, all_roots=True, root="b")


def test_a_partition_with_a_foreign_key_of_its_own_is_refused_by_name(make_pg):
    source = make_pg(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int) PARTITION BY LIST (id);"
        "CREATE TABLE b_1 PARTITION OF b FOR VALUES IN (1); ALTER TABLE b_1 ADD FOREIGN KEY (id) REFERENCES a",
        name="source",
    )
    with pytest.raises(SourceError, match="b_1: a partition with a foreign key of its own"):
        commands.plan(source, all_roots=True, root="a")


def test_heirs_are_tables_of_their_own(postgres, make_pg):
    source = make_pg(
        "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (extra int) INHERITS (a);"
        "INSERT INTO a VALUES (1, 'a'); INSERT INTO b VALUES (1, 'b', 2), (3, 'c', 4)",
        name="source",
    )
    commands.clone(source, postgres.url("target"))
    assert postgres.execute("SELECT count(*) FROM ONLY a", "target") == [(1,)]
    assert postgres.execute("SELECT count(*) FROM a", "target") == [(3,)]
    decided = commands.plan(source, roots=["1"], root="a")
    assert {table.name: table.rows for table in decided.tables} == {"a": 1}


# Definitions


def test_passwords_of_user_mappings_are_not_handed_on(postgres, make_pg):
    source = make_pg(
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER away FOREIGN DATA WRAPPER w;"
        "CREATE USER MAPPING FOR CURRENT_USER SERVER away OPTIONS (password 'sup;er''secret');"
        "CREATE FOREIGN TABLE far (a int) SERVER away; CREATE TABLE near (a int)",
        name="source",
    )
    receipt = commands.clone(source, postgres.url("target"))
    assert "far" not in {table["name"] for table in receipt.tables}
    assert receipt.left_behind == ("rows of the foreign table far lie elsewhere, and are left there",)
    assert f"left behind: {receipt.left_behind[0]}\n" in receipt_text(receipt)
    assert postgres.execute("SELECT count(*) FROM pg_user_mappings", "target") == [(0,)]
    assert postgres.execute("SELECT relkind::text FROM pg_class WHERE relname = 'far'", "target") == [("f",)]


def test_the_program_that_fits_best_is_taken(tmp_path, monkeypatch):
    for version in (14, 16, 18):
        program = tmp_path / f"pg_dump-{version}"
        program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}.3 (Something)'\n")
        program.chmod(0o755)
    programs = sorted(map(str, tmp_path.iterdir()))
    monkeypatch.setattr(definitions, "_candidates", lambda: iter([*programs, str(tmp_path / "gone")]))
    assert definitions.find_program(15).endswith("-16")
    assert definitions.find_program(18).endswith("-18")
    with pytest.raises(SourceError, match="pg_dump of PostgreSQL 19 or later"):
        definitions.find_program(19)


# Migrations, drift, receipts, lists


def _migrate(url: str, revision: str = "head") -> None:
    config = Config(PROJECT / "alembic.ini")
    config.set_main_option(
        "sqlalchemy.url", url.replace("postgresql://", "postgresql+psycopg://").replace("%", "%%")
    )
    config.attributes["configure_logger"] = False
    command.upgrade(config, revision)


@pytest.fixture
def experiments(postgres: Server, make_pg: Callable[..., str], monkeypatch, tmp_path) -> str:
    url = make_pg(name="experiments")
    _migrate(url)
    postgres.execute(
        "INSERT INTO experimentconfig (id, networks, seeds, prompts, embedding_models, max_length) SELECT "
        "('00000000-0000-0000-0000-00000000000' || n)::uuid, '[]', '[1]', '[]', '[]', n FROM generate_series(1, 3) n;",
        "experiments",
    )
    monkeypatch.chdir(tmp_path)
    return url


@pytest.mark.parametrize("given", [False, True], ids=["new", "given"])
def test_the_schema_is_built_by_the_application_s_migrations(postgres, experiments, make_pg, given):
    if given:
        make_pg(name="target")
    receipt = commands.clone(experiments, postgres.url("target"), schema="migrations")
    assert receipt.schema["method"] == "migrations"
    assert receipt.schema["way"] == "environment"
    assert commands.verify(experiments, postgres.url("target")).verdict is Verdict.EXACT
    assert leftovers(postgres) == set()


def test_drift_is_none_until_somebody_changes_the_schema(postgres, experiments):
    assert commands.drift(experiments).ok
    postgres.execute("CREATE INDEX quick ON run (id)", "experiments")
    found = commands.drift(experiments)
    assert [each.object for each in found.differences] == ["index quick"]
    receipt = commands.clone(experiments, postgres.url("target"))
    assert receipt.schema["method"] == "copy"
    assert any("index quick" in each for each in receipt.schema["differences"])
    assert leftovers(postgres) == set()


@pytest.mark.prove  # every revision is run
def test_the_revision_of_a_database_without_one_is_inferred(postgres, experiments):
    postgres.execute("DELETE FROM alembic_version", "experiments")
    found = commands.drift(experiments, infer=True)
    ((candidate,)) = found.candidates
    receipt = commands.clone(experiments, postgres.url("target"), revision=candidate.revisions[0])
    assert receipt.schema["method"] == "migrations"
    assert postgres.execute("SELECT version_num FROM alembic_version", "target") == [candidate.revisions]


def test_a_receipt_goes_where_it_is_wanted_and_proves_its_target(postgres, shop, cli, tmp_path):
    receipt, target = tmp_path / "r.json", postgres.url("laptop")
    done = cli("export", shop, target, "1", "--root", "customers", "--seal", "--receipt", receipt)
    assert done.exit_code == 0, done.output
    assert postgres.password not in receipt.read_text() + done.output
    assert json.loads(receipt.read_text())["target"].startswith("laptop at ")
    assert cli("verify", receipt, target).exit_code == 0
    assert cli("verify", shop, target, "--receipt", receipt).exit_code == 0
    postgres.execute("UPDATE orders SET total = total + 1 WHERE id = (SELECT min(id) FROM orders)", "laptop")
    changed = cli("verify", receipt, target, "--json")
    assert changed.exit_code == 1
    assert [each["code"] for each in json.loads(changed.stdout)["findings"]] == ["CNT000"]
    assert os.listdir(tmp_path) == ["r.json"]


def test_what_is_there_is_listed_and_planned_without_writing(postgres, shop, cli):
    before = postgres.databases()
    listed = json.loads(cli("list", shop, "--root", "customers", "--json").stdout)
    assert [(root["key"], root["owned"]["orders"]) for root in listed["roots"]] == [
        ("1", 10),
        ("2", 10),
        ("3", 10),
    ]
    planned = cli("export", shop, postgres.url("laptop"), "1", "--root", "customers", "--dry-run", "--json")
    assert json.loads(planned.stdout)["method"] == "copy"
    assert postgres.databases() == before


def test_checks_look_into_the_transaction_before_it_is_committed(postgres, shop, monkeypatch):
    """A target that is not what was planned is not published, whichever way it is made."""
    from panicdb.backends.postgresql import sequences  # noqa: PLC0415

    monkeypatch.setattr(sequences, "set_standings", lambda *_: None)
    with pytest.raises(CheckFailedError, match="notes_id_seq"):
        commands.clone(shop, postgres.url("laptop"))
    assert "laptop" not in postgres.databases()
    assert leftovers(postgres) == set()


def test_a_monitor_that_ends_the_run_ends_long_statements(postgres, make_pg):
    source = make_pg(
        "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1);"
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_sleep(60) IS NOT NULL'",
        name="source",
    )
    polls = iter(range(1000))

    def poll() -> None:
        if next(polls) > 12:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        commands.plan(source, where="public.slow(id)", root="a", monitor=Monitor(poll=poll))
    postgres.await_sessions()
