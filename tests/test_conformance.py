"""One suite for all engines: what a case says must come of an export, comes of it, to the row."""

import gc
import shlex
import subprocess
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import psycopg
import pytest
import sqlalchemy as sa

import cases_postgresql
import cases_schemas
import cases_selections
import mutants_postgresql
import servers
from cases import REFUSED, Case
from engines import Engine, PostgreSQL
from panicdb import databases
from panicdb.backends.base import Snapshot
from panicdb.values import Monitor

POSTGRESQL = servers.choose()
ENGINES = ("sqlite", *POSTGRESQL)


def kind(engine: str) -> str:
    return "sqlite" if engine == "sqlite" else PostgreSQL.kind


def about(*cases: Case) -> Callable[[Callable], Callable]:
    """Run a test with these cases, each on every engine that it is about."""

    def mark(function: Callable) -> Callable:
        function.cases = cases
        return function

    return mark


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = getattr(metafunc.function, "cases", None)
    if cases is not None:
        chosen = [
            pytest.param(engine, case, id=f"{engine}-{case.title}", marks=marks(number, case, engine))
            for number, case in enumerate(cases)
            for engine in ENGINES
            if case.is_about(kind(engine))
        ]
        metafunc.parametrize(("backend", "case"), chosen, indirect=["backend"])
    elif "backend" in metafunc.fixturenames:
        # All of this is about as much as all cases: on servers it is for `make prove`.
        servers_of = [pytest.param(name, marks=pytest.mark.prove) for name in POSTGRESQL]
        metafunc.parametrize("backend", ["sqlite", *servers_of], indirect=True)


def marks(number: int, case: Case, engine: str) -> list[pytest.MarkDecorator]:
    """`make check` has SQLite; `make test` a part of the cases on PostgreSQL's servers in turn, `make prove` the rest.

    What not every server can do is tried on each.
    """
    if engine == "sqlite":
        return [pytest.mark.quick]
    turn, left_out = divmod(number, 6 if case.engine else 12)
    is_its_turn = not left_out and engine == POSTGRESQL[turn % len(POSTGRESQL)]
    return [] if is_its_turn or case.needs else [pytest.mark.prove]


@pytest.fixture
def backend(request, tmp_path, engines) -> Iterator[Engine]:
    with engines.using(request.param, tmp_path) as engine:
        yield engine


@pytest.fixture
def run(backend: Engine, cli: Callable) -> Callable[[Case], None]:
    """Export as the case asks, and compare."""

    def check(case: Case) -> None:
        missing = case.needs - backend.features
        if missing:
            pytest.skip(f"this server has no {', '.join(sorted(missing))}")
        source, target = backend.source(case.source, own=case.engine is not None), backend.target()
        before = backend.fingerprint(source)
        ask = shlex.split(case.ask)
        done = cli("export", source, target, *ask)
        assert done.exit_code == case.exit_code, done.output
        assert backend.fingerprint(source) == before
        if case.exit_code:
            for words in case.refused:
                assert words in done.stderr
            assert backend.litter() == set()
            return
        check_target(backend, target, case)
        verified = cli("verify", source, target, *verifying(backend, ask))
        assert verified.exit_code == 0, verified.output

    return check


def check_target(backend: Engine, target: object, case: Case) -> None:
    found = {key: backend.rows(target, *key.split(": ", 1)) for key in case.rows}
    assert as_multisets(found) == as_multisets(case.rows)
    named = {key.split(": ")[0] for key in case.rows}
    assert [
        table for table in backend.tables(target) if table not in named and backend.rows(target, table)
    ] == []
    assert backend.complaints(target) == []
    assert backend.dangling(target) == case.dangling


def verifying(backend: Engine, ask: list[str]) -> list[str]:
    """Say what was selected where no receipt lies beside the target to say it."""
    return ask if backend.kind == PostgreSQL.kind else []


def as_multisets(rows: Mapping[str, list[tuple]]) -> dict[str, Counter]:
    return {table: Counter(map(repr, found)) for table, found in rows.items()}


EVERY = tuple(
    each
    for module in (cases_schemas, cases_selections, cases_postgresql)
    for found in vars(module).values()
    if isinstance(found, list)
    for each in found
)


@pytest.mark.quick
def test_what_is_about_one_engine_alone_is_counted_and_says_why():
    alone = Counter(case.engine for case in EVERY)
    assert alone == {None: 125, "sqlite": 41, PostgreSQL.kind: 103}
    assert all(case.why for case in EVERY if case.engine)
    assert len({(case.title, case.engine) for case in EVERY}) == len(EVERY)


@about(*cases_schemas.KEYS, *cases_postgresql.KEYS)
@pytest.mark.fault(36)
def test_keys_and_links(run, case):
    run(case)


@about(*cases_schemas.TABLES, *cases_postgresql.TABLES)
def test_tables_of_all_kinds(run, case):
    run(case)


@about(*cases_schemas.COMPARISONS, *cases_postgresql.VALUES)
def test_values_travel_and_compare_as_those_of_the_engine_do(run, case):
    run(case)


@about(*cases_schemas.NAMES, *cases_postgresql.SCHEMAS)
def test_odd_names(run, case):
    run(case)


@about(*cases_selections.CYCLES)
@pytest.mark.fault(36)
def test_self_links_and_cycles(run, case):
    run(case)


@about(*cases_selections.POLICIES)
def test_policies(run, case):
    run(case)


@about(*cases_selections.VIRTUAL)
def test_virtual_links(run, case):
    run(case)


@about(*cases_selections.CHOICES, *cases_postgresql.IDS, *cases_postgresql.CONDITIONS)
def test_choices_limits_and_tables_left_out_or_taken_whole(run, case):
    run(case)


@about(*cases_selections.VIOLATIONS, *cases_postgresql.CONSTRAINTS)
@pytest.mark.fault(21, 36)
def test_references_that_lead_nowhere_in_the_source(run, case):
    run(case)


LONG_CHAIN = """
CREATE TABLE run (id INTEGER PRIMARY KEY);
CREATE TABLE step (id INTEGER PRIMARY KEY, run INTEGER REFERENCES run, input INTEGER REFERENCES step);
CREATE INDEX step_run ON step (run);
CREATE INDEX step_input ON step (input);
INSERT INTO run VALUES (1), (2);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {length})
INSERT INTO step SELECT i, CASE WHEN i = {run_at} THEN 1 ELSE NULL END, nullif(i - 1, 0) FROM n;
INSERT INTO step VALUES (-1, 2, NULL), (-2, NULL, -1);
"""


@pytest.fixture
def counted(backend: Engine, cli: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Export from a script; return how many statements it took, and what a query finds in the target."""

    def export(script: str, query: str, *ask: str) -> tuple[int, list[tuple]]:
        source, target = backend.source(script), backend.target()
        with backend.counting_statements(monkeypatch) as statements:
            done = cli("export", source, target, "--no-receipt", *ask)
        assert done.exit_code == 0, done.output
        assert statements
        found = backend.query(target, query)
        backend.remove(target)
        return len(statements), found

    return export


def exported_chain(counted, length, *, run_at, options=()):
    """Export run 1 of a chain; return the statements it took, and (count, lowest, highest) of the steps."""
    script = LONG_CHAIN.format(length=length, run_at=run_at)
    query = "SELECT count(*), min(id), max(id) FROM step"
    statements, found = counted(script, query, "1", "--root", "run", *options)
    return statements, found[0]


@pytest.mark.parametrize(
    ("end", "options"),
    [
        ("first", ()),
        ("last", ()),
        ("first", ("--link", "step.input=drop")),
        ("last", ("--link", "step.input=null")),
    ],
    ids=["down", "up", "down with drop", "cut"],
)
def test_a_chain_takes_as_many_statements_as_it_likes_rows(counted, end, options):
    """The statements don't grow with the chain, whichever way it is followed."""
    counts = set()
    for length in (3, 5_000):
        run_at = 1 if end == "first" else length
        statements, found = exported_chain(counted, length, run_at=run_at, options=options)
        assert found == ((1, length, length) if "null" in "".join(options) else (length, 1, length))
        counts.add(statements)
    assert len(counts) == 1


@pytest.mark.parametrize("end", ["first", "last"])
@pytest.mark.fault(36)
def test_a_chain_of_200_000_rows(counted, end):
    length = 200_000
    _, found = exported_chain(counted, length, run_at=1 if end == "first" else length)
    assert found == (length, 1, length)


THREE = """
CREATE TABLE a (id INTEGER PRIMARY KEY, c INTEGER REFERENCES c);
CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a);
CREATE TABLE c (id INTEGER PRIMARY KEY, b INTEGER REFERENCES b);
CREATE INDEX a_c ON a (c); CREATE INDEX b_a ON b (a); CREATE INDEX c_b ON c (b);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {turns})
INSERT INTO a SELECT i, nullif(i - 1, 0) FROM n;
INSERT INTO b SELECT id, id FROM a;
INSERT INTO c SELECT id, id FROM a;
"""


def test_a_cycle_of_three_tables_takes_as_many_statements_as_it_likes_turns(counted):
    counts = set()
    for turns in (2, 2_000):
        query = "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), count(*) FROM c"
        statements, found = counted(THREE.format(turns=turns), query, "1", "--root", "a")
        assert found == [(turns, turns, turns)]
        counts.add(statements)
    assert len(counts) == 1


def test_the_order_of_roots_is_irrelevant_and_a_second_export_is_the_same(backend, cli):
    source = backend.source(cases_selections.SHARED)
    contents = []
    for order in (("11", "31", "21"), ("21", "11", "31"), ("21", "11", "31", "11")):
        target = backend.target()
        done = cli("export", source, target, *order, "--root", "run", "--no-receipt")
        assert done.exit_code == 0, done.output
        contents.append(
            {table: sorted(map(repr, backend.rows(target, table))) for table in backend.tables(target)}
        )
        backend.remove(target)
    assert contents[0] == contents[1] == contents[2]
    assert contents[0]["run"] == ["(11, 1, 1)", "(21, 2, 1)", "(31, 3, 3)"]


@pytest.mark.parametrize("fails", [False, True], ids=["read", "interrupted"])
def test_nothing_is_kept_of_a_database_that_was_closed(backend, fails):
    source = str(backend.source("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1);"))

    def look() -> weakref.ref:
        with databases.open_source(databases.locate(source), timeout=1, monitor=Monitor()) as snapshot:
            assert list(snapshot.values(sa.select(snapshot.catalog.tables["t"].table.c.a))) in (
                [(1,)],
                [("1",)],
            )
            if fails:
                raise KeyboardInterrupt
            return weakref.ref(snapshot)

    def kept() -> int:
        gc.collect()
        return sum(isinstance(each, Snapshot) for each in gc.get_objects())

    before, found = kept(), list[weakref.ref]()  # a test that failed keeps its own
    with suppress(KeyboardInterrupt):
        found.append(look())
    assert kept() == before
    assert [ref() for ref in found] == [None] * (not fails)
    assert backend.litter() == set()


# --- what a target on a server has to be able to do -----------------------------------------------

LIVING = """
CREATE TABLE lab (id integer GENERATED ALWAYS AS IDENTITY (START WITH 10 INCREMENT BY 10) PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''));
CREATE TABLE run (id serial PRIMARY KEY, lab integer NOT NULL REFERENCES lab ON DELETE CASCADE, note text,
    twice integer GENERATED ALWAYS AS (lab * 2) STORED);
CREATE TABLE room (during int4range, EXCLUDE USING gist (during WITH &&));
CREATE SEQUENCE down INCREMENT BY -1;
CREATE UNLOGGED TABLE unlogged_log (text text);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note = 'touched'; RETURN NEW; END $$;
CREATE TRIGGER touched BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION touch();
CREATE VIEW busy AS SELECT lab, count(*) AS runs FROM run GROUP BY lab;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS runs FROM run;
INSERT INTO lab (name) VALUES ('a'), ('b'), ('c');
INSERT INTO run (lab) VALUES (10), (20), (20), (30);
INSERT INTO room VALUES ('[1,3)');
DELETE FROM lab WHERE name = 'c';
SELECT nextval('down'), nextval('down');
REFRESH MATERIALIZED VIEW counted;
"""


def test_a_target_on_a_server_lives_on_as_its_source_would(engine, cli):
    """Counters go on where they stood, everything computed is computed, and everything forbidden is."""
    source, target = engine.source(LIVING, own=True), engine.target()
    done = cli("export", source, target, "--root", "lab", "20", "--whole", "room")
    assert done.exit_code == 0, done.output
    assert engine.query(target, "SELECT * FROM busy") == [(20, 2)]
    assert engine.query(target, "SELECT * FROM counted") == [(2,)]
    assert engine.query(target, "INSERT INTO lab (name) VALUES ('d') RETURNING id") == [(40,)]
    added = engine.query(target, "INSERT INTO run (lab) VALUES (40) RETURNING id, note, twice")
    assert added == [(5, "touched", 80)]
    assert engine.query(target, "SELECT nextval('down')") == [(-3,)]
    assert engine.query(target, "SELECT relpersistence FROM pg_class WHERE relname = 'unlogged_log'") == [
        ("u",)
    ]
    for statement, error in {
        "INSERT INTO lab (name) VALUES ('b')": "UniqueViolation",
        "INSERT INTO lab (name) VALUES ('')": "CheckViolation",
        "INSERT INTO lab (name) VALUES (NULL)": "NotNullViolation",
        "INSERT INTO lab (id, name) VALUES (1, 'e')": "GeneratedAlways",
        "INSERT INTO run (lab) VALUES (10)": "ForeignKeyViolation",
        "INSERT INTO room VALUES ('[2,4)')": "ExclusionViolation",
    }.items():
        with pytest.raises(psycopg.Error) as refused:
            engine.session(target).execute(statement)
        assert type(refused.value).__name__ == error
    engine.session(target).execute("DELETE FROM lab WHERE id = 20")
    assert engine.query(target, "SELECT lab FROM run") == [(40,)]


@pytest.mark.parametrize("verb", ["clone", "export"])
def test_pg_dump_says_the_same_of_source_and_target(engine, cli, verb):
    """A witness of its own: the definitions that it writes, as text."""
    source, target = engine.source(mutants_postgresql.SOURCE, own=True), engine.target()
    ask = [] if verb == "clone" else ["--root", "lab", "1", "--whole", "booking"]
    done = cli(verb, source, target, *ask)
    assert done.exit_code == 0, done.output
    assert definitions(engine, target) == definitions(engine, source)


def definitions(engine, place):
    dumped = subprocess.run(
        [engine.server.binaries / "pg_dump", "--schema-only", place],
        capture_output=True,
        check=True,
        text=True,
    )
    # A word that is another one each time keeps psql from what it must not do.
    return [
        line for line in dumped.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
    ]


OWNED = """
CREATE TABLE run (id integer PRIMARY KEY, owner text);
INSERT INTO run VALUES (1, 'a'), (2, 'b');
ALTER TABLE run ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON run USING (owner = 'a');
"""


def test_row_security_does_not_concern_the_owner_unless_it_is_forced(engine, cli):
    """A role that is no superuser reads its own table in full, or is told that it would not."""
    role = engine.role("owner")
    source, target = engine.source(OWNED + f"ALTER TABLE run OWNER TO {role}", own=True), engine.target()
    owners = engine.server.url(source.rsplit("/", 1)[1], role, "secret")
    done = cli("export", owners, target, "--root", "run", "--all")
    assert done.exit_code == 0, done.output
    assert engine.rows(target, "run") == [(1, "a"), (2, "b")]
    engine.remove(target)
    engine.session(source).execute("ALTER TABLE run FORCE ROW LEVEL SECURITY")
    refused = cli("export", owners, target, "--root", "run", "--all")
    assert refused.exit_code == REFUSED
    assert "row security would hide rows from this user: run" in refused.stderr
    assert engine.litter() == set()
