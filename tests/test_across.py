"""From SQLite to PostgreSQL and back: schema by migrations, every value looked at, nothing changed without a word."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa

import panicdb
from crossings import REVISION, VERSION, Made, make_sqlite, read_server, write_history, write_statements
from panicdb import commands
from panicdb.errors import HistoryError, PanicDBError, SourceError, TargetError, UsageError
from panicdb.experiments import fill
from panicdb.histories import bundled_history
from panicdb.replays import replay
from panicdb.reports import Verdict
from panicdb.values import Monitor

TABLES = ("experimentconfig", "run", "invocation", "embedding", "persistencediagram")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A PANIC-TDA source of two experiments in SQLite, and the key of the first."""
    path = tmp_path_factory.mktemp("lab") / "lab.db"
    history = bundled_history()
    replay(history, history.heads, path, Monitor())
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    first, _ = fill(engine, experiments=2, runs=2, invocations=6, image_bytes=(50, 200), vector_bytes=100)
    return path, str(first)


def rows(path, table, where="true"):
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(f"SELECT * FROM {table} WHERE {where}").fetchall()
    return sorted(found, key=repr)


def test_a_whole_application_goes_to_a_server_and_comes_back(lab, postgres, make_pg, tmp_path):
    source, _ = lab
    server = postgres.url("lab")
    receipt = panicdb.clone(str(source), server, verify=True)
    assert receipt.losses == {}
    assert receipt.schema["method"] == "migrations"
    assert panicdb.verify(str(source), server).verdict is Verdict.EXACT
    back = tmp_path / "back.db"
    panicdb.clone(server, str(back), verify=True)
    assert panicdb.verify(server, str(back)).verdict is Verdict.EXACT
    assert {table: rows(back, table) for table in TABLES} == {table: rows(source, table) for table in TABLES}
    assert panicdb.verify(str(source), str(back)).verdict is Verdict.EXACT


def test_one_experiment_goes_to_a_server_and_comes_back(lab, postgres, make_pg, tmp_path):
    source, first = lab
    there, server, back = tmp_path / "one.db", postgres.url("one"), tmp_path / "back.db"
    panicdb.export(str(source), str(there), roots=[first])
    panicdb.export(str(source), server, roots=[first])
    panicdb.export(server, str(back), roots=[first])
    assert {table: rows(back, table) for table in TABLES} == {table: rows(there, table) for table in TABLES}
    assert panicdb.verify(str(source), server, roots=[first]).verdict is Verdict.EXACT


def test_the_application_goes_on_writing(lab, postgres, make_pg):
    source, _ = lab
    panicdb.clone(str(source), postgres.url("lab"))
    engine = sa.create_engine(f"{postgres.url('lab').replace('postgresql:', 'postgresql+psycopg:')}")
    before = postgres.execute("SELECT count(*) FROM run", "lab")
    fill(engine, experiments=1, runs=1, invocations=2, image_bytes=(5, 9), vector_bytes=10, seed=7)
    engine.dispose()
    assert postgres.execute("SELECT count(*) FROM run", "lab") > before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            "UPDATE invocation SET output_text = 'a' || char(0) || 'b'",
            "invocation.output_text: 24 rows: holds NUL",
        ),
        ("UPDATE invocation SET output_text = CAST(x'ff' AS TEXT)", "not valid UTF-8"),
        ("UPDATE run SET seed = 5000000000", "run.seed: 4 rows: out of range"),
        ("UPDATE run SET seed = 'many'", "run.seed: 4 rows: text"),
        ("UPDATE run SET network = 'no json'", "run.network: 4 rows: no JSON"),
    ],
)
def test_what_the_target_can_not_hold_is_listed_before_anything_is_written(
    lab, postgres, make_pg, tmp_path, change, complaint
):
    source = tmp_path / "source.db"
    source.write_bytes(lab[0].read_bytes())
    with closing(sqlite3.connect(source)) as connection:
        connection.execute(change)
        connection.commit()
    with pytest.raises(SourceError, match="the target can't hold these values") as refused:
        panicdb.clone(str(source), postgres.url("lab"))
    assert complaint in refused.value.message
    assert postgres.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^lab'") == [(0,)]


def test_without_a_history_there_is_no_way(make_db, postgres, make_pg, tmp_path):
    source = make_db("CREATE TABLE t (a INTEGER PRIMARY KEY)")
    with pytest.raises(HistoryError, match="no Alembic version table"):
        panicdb.clone(str(source), postgres.url("lab"))
    with pytest.raises(UsageError, match="definitions can't be copied from sqlite to postgresql"):
        panicdb.clone(str(source), postgres.url("lab"), schema="copy")


def test_a_history_that_is_of_one_engine_alone_is_refused(postgres, make_pg, tmp_path):
    """Its statements may fail on the other one, or its revisions may not be there, as with Prefect's two histories."""
    table = Made("t", (("TEXT", "text"),), [("a",)])
    source = make_sqlite(tmp_path / "source.db", [table])
    failing = write_statements(tmp_path / "one", [table.definition(0)], ["PRAGMA foreign_keys = ON"])
    with pytest.raises(HistoryError, match="running the migrations failed in revision") as refused:
        panicdb.clone(source, postgres.url("there"), config=[str(failing)])
    assert 'syntax error at or near "PRAGMA"' in refused.value.message
    other = write_statements(tmp_path / "two", [table.definition(0)], [table.definition(1)])
    versions = other.parent / "migrations" / "versions" / "first.py"
    versions.write_text(versions.read_text().replace(REVISION, "0f05" + REVISION[:2]))
    with pytest.raises(HistoryError, match=f"no known history has revision {REVISION}"):
        panicdb.clone(source, postgres.url("there"), config=[str(other)])
    less = write_statements(tmp_path / "three", [table.definition(0)], ["CREATE TABLE other (id integer)"])
    with pytest.raises(
        HistoryError, match="would not fit into what its migrations build on postgresql"
    ) as refused:
        panicdb.clone(source, postgres.url("there"), config=[str(less)])
    assert "table t: missing in what its migrations build" in refused.value.message
    assert postgres.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^there'") == [(0,)]


def test_a_database_that_holds_rows_is_left_alone(lab, make_pg):
    given = make_pg("CREATE TABLE mine (a int); INSERT INTO mine VALUES (1)", name="given")
    with pytest.raises(TargetError, match="holds rows, in mine"):
        panicdb.clone(str(lab[0]), given)


def test_an_empty_database_that_is_given_is_filled(lab, postgres, make_pg):
    given = make_pg(name="given")
    panicdb.clone(str(lab[0]), given)
    assert panicdb.verify(str(lab[0]), given).verdict is Verdict.EXACT


def test_a_database_that_is_given_with_its_schema_is_filled(make_pg, tmp_path):
    """What no row minds is told, and of whom: no migrations ran."""
    table = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER)"
    source = tmp_path / "source.db"
    stamp = f"{VERSION}; INSERT INTO alembic_version VALUES ('{REVISION}'); {table}"
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(f"{stamp}; CREATE INDEX i ON t (a); INSERT INTO t VALUES (1, 2)")
    ini = write_statements(tmp_path / "app", [], [])
    given = make_pg(stamp, name="given")
    receipt = panicdb.clone(str(source), given, config=[str(ini)])
    assert receipt.schema["method"] == "given"
    assert receipt.schema["differences"] == [
        "semantic: table t: index is a in the source, (absent) in the target"
    ]
    assert panicdb.verify(str(source), given).verdict is Verdict.EXACT


def test_what_differs_is_named_as_it_is_stored(lab, postgres, make_pg):
    """So that it can be looked for; compared is another form."""
    server = postgres.url("lab")
    panicdb.clone(str(lab[0]), server)
    changed, missing = postgres.execute("SELECT id::text FROM run ORDER BY id LIMIT 2", "lab")
    hexes = [text.replace("-", "") for (text,) in (changed, missing)]
    with closing(sqlite3.connect(lab[0])) as connection:
        seed = connection.execute("SELECT seed FROM run WHERE id = ?", (hexes[0],)).fetchone()[0]
    postgres.execute("UPDATE run SET seed = seed + 1 WHERE id = %s::uuid", "lab", changed)
    postgres.execute(
        "SET session_replication_role = replica; DELETE FROM run WHERE id = " + f"'{missing[0]}'", "lab"
    )
    there = panicdb.verify(str(lab[0]), server, show_values=True)
    found = [each for each in there.findings if each.code.startswith("CNT")]
    assert [each.text for each in found] == [
        f"run: 1 row missing in the target: id = '{hexes[1]}'",
        f"run: 1 row otherwise in the target (seed): id = '{hexes[0]}'",
    ]
    assert found[1].details == (f"id = '{hexes[0]}': seed {seed} became '{seed + 1}'",)
    back = panicdb.verify(server, str(lab[0]))
    assert [each.text for each in back.findings if each.code.startswith("CNT")] == [
        f"run: 1 row in the target only: id = '{hexes[1]}'",
        f"run: 1 row otherwise in the target (seed): id = '{changed[0]}'",
    ]


def test_the_plan_tells_what_would_be_lost_and_writes_nothing(lab, postgres, make_pg):
    plan = commands.plan_clone(str(lab[0]), target=postgres.url("lab"))
    assert plan.method == "stream"
    assert plan.losses == {}
    assert postgres.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^lab'") == [(0,)]


NOCASE = [
    "CREATE TABLE parent (name VARCHAR(20) COLLATE NOCASE PRIMARY KEY)",
    "CREATE TABLE child (id INTEGER PRIMARY KEY, name VARCHAR(20) REFERENCES parent)",
]


def test_references_that_hold_by_a_collation_alone_are_refused(postgres, make_pg, tmp_path):
    ini = write_statements(tmp_path / "app", NOCASE, [each.replace("COLLATE NOCASE", "") for each in NOCASE])
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(
            ";".join([VERSION, f"INSERT INTO alembic_version VALUES ('{REVISION}')", *NOCASE])
        )
        connection.executescript(
            "INSERT INTO parent (name) VALUES ('a'), ('b'); INSERT INTO child (name) VALUES ('A'), ('b')"
        )
    with pytest.raises(SourceError, match=r"child.name->parent.name: 1 rows") as refused:
        panicdb.clone(str(source), postgres.url("there"), config=[str(ini)])
    assert "would lead nowhere in the target" in refused.value.message
    assert postgres.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^there'") == [(0,)]


DIGITS = "00112233445566778899aabbccddee"
SAME_THERE = [
    ("CHAR(5)", "char(5)", ["a", "a ", "b"]),
    ("DATETIME", "timestamp", ["2026-12-01 10:00:00", "2026-12-01 10:00:00.000000", None, None]),
    ("REAL", "real", [0.1, 0.10000000149011612, 0.5]),
    ("CHAR(32)", "uuid", [f"{DIGITS}ff", f"{DIGITS}FF"]),
    ("VARCHAR(9)", "varchar(9) COLLATE two_cases", ["a", "A", "b"]),
]
SAME_BACK = [
    ("VARCHAR(9) COLLATE NOCASE", "varchar(9)", ["a", "A", "b", None, None]),
    ("FLOAT", "numeric", ["0.1", "0.1000000000000000055511151231257827", "0.5"]),
    ("FLOAT", "bigint", ["9007199254740992", "9007199254740993"]),
]
TWO_CASES = "CREATE COLLATION two_cases (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
HAS_ICU = "SELECT count(*) > 0 FROM pg_collation WHERE collname = 'de-x-icu'"


def make_keys(folder, types):
    """Write an application with a key of two columns; return its alembic.ini, and how either engine makes it."""
    key = "b integer, UNIQUE (a, b))"
    on_sqlite = f"CREATE TABLE keys (id INTEGER PRIMARY KEY, a {types[0]}, {key}"
    on_server = [TWO_CASES] if "two_cases" in types[1] else []
    on_server.append(f"CREATE TABLE keys (id integer PRIMARY KEY, a {types[1]}, {key}")
    return write_statements(folder, [on_sqlite], on_server), on_sqlite, on_server


@pytest.mark.parametrize("case", SAME_THERE, ids=lambda case: case[1])
def test_rows_that_only_the_source_tells_apart_are_refused_on_the_way_to_a_server(
    postgres, make_pg, tmp_path, case
):
    if "two_cases" in case[1] and not postgres.execute(HAS_ICU)[0][0]:
        pytest.skip("this server was built without ICU")
    ini, table, _ = make_keys(tmp_path / "app", case)
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(f"{VERSION}; INSERT INTO alembic_version VALUES ('{REVISION}'); {table}")
        connection.executemany("INSERT INTO keys (a, b) VALUES (?, 1)", [(value,) for value in case[2]])
        connection.commit()
    require_both_are_named(str(source), postgres.url("there"), ini)
    assert postgres.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^there'") == [(0,)]
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("UPDATE keys SET b = id")
        connection.commit()
    panicdb.clone(str(source), postgres.url("there"), config=[str(ini)])


@pytest.mark.parametrize("case", SAME_BACK, ids=lambda case: " ".join(case[:2]))
def test_rows_that_only_the_source_tells_apart_are_refused_on_the_way_back(postgres, make_pg, tmp_path, case):
    ini, _, tables = make_keys(tmp_path / "app", case)
    source = make_pg(
        f"{VERSION}; INSERT INTO alembic_version VALUES ('{REVISION}'); {'; '.join(tables)}",
        name="source",
    )
    for number, value in enumerate(case[2]):
        postgres.execute("INSERT INTO keys VALUES (%s, %s, 1)", "source", (number, value))
    target = tmp_path / "back.db"
    require_both_are_named(source, str(target), ini)
    assert not target.exists()
    postgres.execute("UPDATE keys SET b = id", "source")
    panicdb.clone(source, str(target), config=[str(ini)])


def require_both_are_named(source, target, ini):
    for act in (commands.plan_clone, panicdb.clone):
        with pytest.raises(SourceError, match="would be the same in the target") as refused:
            act(source, target=target, config=[str(ini)])
        assert refused.value.message.splitlines()[1:] == ["  keys.a,b: 2 rows"]


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_text_of_another_encoding_is_taken_for_what_it_says(postgres, make_pg, tmp_path, encoding):
    tables = [
        Made(
            "t", (("TEXT", "text"), ("VARCHAR(5)", "varchar(5)")), [("a\nb", "\tä\\\r"), ("\U0001f600", "x")]
        )
    ]
    ini, source = write_history(tmp_path / "app", tables), tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute("CREATE TABLE first (a)")
        connection.execute("DROP TABLE first")
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(
            f"{VERSION}; INSERT INTO alembic_version VALUES ('{REVISION}'); {tables[0].definition(0)}"
        )
        connection.executemany("INSERT INTO t (c0, c1) VALUES (?, ?)", tables[0].rows)
        connection.commit()
    panicdb.clone(str(source), postgres.url("there"), config=[str(ini)], verify=True)
    assert read_server(postgres, "there", tables[0]) == tables[0].rows
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("UPDATE t SET c0 = 'a' || char(0) || 'b' WHERE id = 1")
        connection.execute("UPDATE t SET c1 = 'äöüßäö' WHERE id = 2")
        connection.commit()
    with pytest.raises(SourceError) as refused:
        panicdb.clone(str(source), postgres.url("again"), config=[str(ini)])
    assert {line.strip() for line in refused.value.message.splitlines()[1:]} == {
        "t.c0: 1 rows: holds NUL",
        "t.c1: 1 rows: longer than 5 characters",
    }


def test_a_database_of_another_encoding_is_refused(lab, postgres, make_pg):
    postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(PanicDBError, match="its encoding is LATIN1, and only UTF8 is supported"):
        panicdb.clone(str(lab[0]), postgres.url("latin"))
    assert postgres.execute(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", "latin"
    ) == [(0,)]
