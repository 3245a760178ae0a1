"""The closure as key tables: which rows, by which way, in how many statements, and nothing left over."""

from contextlib import contextmanager

import pytest
import sqlalchemy as sa

import panicdb
from panicdb import closure as closures
from panicdb import databases
from panicdb.errors import BudgetError, SelectionError, ViolationError
from panicdb.links import parse_link
from panicdb.roots import Root
from panicdb.values import Monitor, Selection

pytestmark = pytest.mark.quick

LAB = """
CREATE TABLE maker (id INTEGER PRIMARY KEY);
CREATE TABLE model (id INTEGER PRIMARY KEY, maker INTEGER REFERENCES maker);
CREATE TABLE experiment (id INTEGER PRIMARY KEY, model INTEGER REFERENCES model);
CREATE TABLE run (id INTEGER PRIMARY KEY, experiment INTEGER REFERENCES experiment, model INTEGER REFERENCES model);
CREATE TABLE step (id INTEGER PRIMARY KEY, run INTEGER REFERENCES run, input INTEGER REFERENCES step, data BLOB);
CREATE TABLE setting (name TEXT);
INSERT INTO maker VALUES (1), (2);
INSERT INTO model VALUES (1, 1), (2, 1), (3, 2);
INSERT INTO experiment VALUES (1, 1), (2, 3);
INSERT INTO run VALUES (11, 1, 1), (12, 1, 2), (21, 2, 3);
INSERT INTO step VALUES (1, 11, NULL, zeroblob(100)), (2, 11, 1, zeroblob(100)), (3, 12, NULL, NULL), (4, 21, 2, NULL);
INSERT INTO setting VALUES ('a'), ('b');
"""


@contextmanager
def closure_of(path, root, *links, **selection):
    """Take a closure; yield it and the statements that it took."""
    statements: list[str] = []
    place = databases.locate(str(path))
    with databases.open_source(place, timeout=1, monitor=Monitor()) as snapshot:
        sa.event.listen(
            snapshot.connection.engine,
            "before_cursor_execute",
            lambda _connection, _cursor, statement, *_rest: statements.append(statement),
        )
        chosen = Selection(root=root, links=tuple(map(parse_link, links)), **selection)
        yield closures.compute(snapshot, Root(snapshot.catalog.tables[root], root), chosen), statements


def keys(closure):
    """Return {table: [(rowid, owned)]}, empty ones left out."""
    found = {}
    for table in closure.keys.tables():
        rows = closure.snapshot.connection.execute(
            sa.select(closure.keys[table].c.k0, closure.keys[table].c.owned)
        )
        found[table] = sorted(tuple(row) for row in rows)
    return {table: rows for table, rows in found.items() if rows}


def test_owned_and_support_rows_are_told_apart(make_db):
    with closure_of(make_db(LAB), "experiment", ids=("1",)) as (closure, _):
        assert keys(closure) == {
            "experiment": [(1, 1), (2, 0)],
            "run": [(11, 1), (12, 1), (21, 0)],
            "step": [(1, 1), (2, 1), (3, 1), (4, 1)],
            "model": [(1, 0), (2, 0), (3, 0)],
            "maker": [(1, 0), (2, 0)],
        }


def test_each_row_is_explained_by_the_link_it_came_by(make_db):
    links = ("step.input=stay,null",)
    with closure_of(make_db(LAB), "experiment", *links, ids=("1",), whole=("setting",)) as (closure, _):
        ways = {
            table: dict(closure.count(table).ways)
            for table in closure.keys.tables()
            if closure.count(table).ways
        }
        assert ways == {
            "experiment": {"chosen": 1},
            "run": {"run.experiment->experiment.id": 2},
            "step": {"step.run->run.id": 3},
            "model": ways["model"],
            "maker": {"model.maker->maker.id": 1},
            "setting": {"whole table": 2},
        }
        assert sum(ways["model"].values()) == 2
        assert set(ways["model"]) <= {"experiment.model->model.id", "run.model->model.id"}
        count = closure.count("step")
        assert (count.owned, count.support) == (3, 0)
        count = closure.count("setting")
        assert (count.owned, count.support) == (0, 2)


def test_what_becomes_null_and_what_dangles_is_counted(make_db):
    source = make_db(LAB + "UPDATE run SET model = 99 WHERE id = 12;")
    selection = {"ids": ("1",), "violations": "keep"}
    links = ("step.input=stay,null", "experiment.model=null")
    with closure_of(source, "experiment", *links, **selection) as (closure, _):
        assert {str(link): count for link, count in closure.kept.items()} == {"run.model->model.id": 1}
        assert closure.nulled == {}  # run 11 brings model 1, and no input leads out
    with closure_of(source, "run", *links, "run.model=null", ids=("21",)) as (closure, _):
        assert {str(link): count for link, count in closure.nulled.items()} == {
            "run.model->model.id": 1,
            "experiment.model->model.id": 1,
            "step.input->step.id": 1,
        }
        assert closure.kept == {}


def test_a_chain_whose_rows_came_otherwise_costs_one_question(make_db):
    """PANIC-TDA: every invocation came by its run, so `input` adds nothing, and nothing walks it."""
    source = make_db(LAB + "DELETE FROM step WHERE id = 4;")
    with closure_of(source, "experiment", ids=("1",)) as (closure, statements):
        assert keys(closure)["step"] == [(1, 1), (2, 1), (3, 1)]
        assert not any("RECURSIVE" in statement for statement in statements)
    with closure_of(source, "step", ids=("1",)) as (closure, statements):
        assert keys(closure)["step"] == [(1, 1), (2, 1)]
        assert any("RECURSIVE" in statement for statement in statements)


@pytest.mark.parametrize(
    ("root", "links"),
    [
        ("step", ()),
        ("last", ()),
        ("step", ("step.input=drop",)),
        ("last", ("step.input=null",)),
        ("last", ("step.input=refuse",)),
    ],
)
def test_statements_do_not_grow_with_a_chain(make_db, root, links):
    counts = set()
    for length in (4, 4_000):
        source = make_db(
            f"""
            CREATE TABLE step (id INTEGER PRIMARY KEY, input INTEGER REFERENCES step);
            CREATE INDEX step_input ON step (input);
            CREATE TABLE last (id INTEGER PRIMARY KEY REFERENCES step);
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {length})
            INSERT INTO step SELECT i, nullif(i - 1, 0) FROM n;
            INSERT INTO last VALUES ({length});
            """,
            name=f"{length}.db",
        )
        chosen = {"ids": ("1",)} if root == "step" else {"all": True}
        if links == ("step.input=refuse",):
            with (
                pytest.raises(SelectionError, match=f"in {length - 1} rows"),
                closure_of(source, root, *links, **chosen),
            ):
                pass
            continue
        with closure_of(source, root, *links, **chosen) as (closure, statements):
            count = closure.count("step")
            assert count.owned + count.support == (1 if "null" in "".join(links) else length)
            counts.add(len(statements))
    assert len(counts) == (0 if links == ("step.input=refuse",) else 1)


def test_statements_do_not_grow_with_the_rows_that_are_dropped(make_db):
    counts = set()
    for length in (4, 2_000):
        source = make_db(
            f"""
            CREATE TABLE run (id INTEGER PRIMARY KEY);
            CREATE TABLE step (id INTEGER PRIMARY KEY, run INTEGER REFERENCES run, input INTEGER REFERENCES step);
            CREATE INDEX step_input ON step (input);
            CREATE INDEX step_run ON step (run);
            INSERT INTO run VALUES (1), (2);
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {length})
            INSERT INTO step SELECT i, 1 + (i = 1), nullif(i - 1, 0) FROM n;
            """,
            name=f"{length}.db",
        )
        with closure_of(source, "run", "step.input=drop", ids=("1",)) as (closure, statements):
            assert keys(closure) == {"run": [(1, 1)]}
            counts.add(len(statements))
    assert len(counts) == 1


def test_only_temporary_tables_are_written(make_db):
    with closure_of(make_db(LAB), "run", "step.input=drop", all=True, whole=("setting",)) as (_, statements):
        writing = [text for text in statements if not text.lstrip().upper().startswith(("SELECT", "PRAGMA"))]
        assert writing
        assert all("temp" in text.casefold().split("(")[0] for text in writing)


def test_owned_rows_of_one_root_are_counted_and_nothing_stays(make_db):
    place = databases.locate(str(make_db(LAB)))
    with databases.open_source(place, timeout=1, monitor=Monitor()) as snapshot:
        root = Root(snapshot.catalog.tables["experiment"], "experiment")
        chosen = Selection(root="experiment", links=(parse_link("step.input=stay"),))
        for ids, expected in ((("1",), {"run": 2, "step": 3}), (("2",), {"run": 1, "step": 1})):
            selection = Selection(root="experiment", ids=ids, links=chosen.links)
            counts = closures.owned_counts(snapshot, root, selection)
            assert {table: count for table, count in counts.items() if count} == expected
        left = snapshot.connection.exec_driver_sql("SELECT name FROM temp.sqlite_master WHERE type = 'table'")
        assert left.all() == []


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_rows": 0}, "more than 0 rows: the limit was passed in experiment"),
        ({"max_rows": 2}, "more than 2 rows: the limit was passed in experiment -> run"),
        ({"max_rows": 5}, "more than 5 rows: the limit was passed in experiment -> run -> step"),
        ({"max_bytes": 150}, "more than 150 bytes: the limit was passed in experiment -> run -> step"),
    ],
)
def test_a_limit_names_the_path_that_passed_it(make_db, limits, words):
    with (
        pytest.raises(BudgetError, match=words) as refusal,
        closure_of(make_db(LAB), "experiment", ids=("1",), **limits),
    ):
        pass
    assert "--max-" in (refusal.value.hint or "")


def test_a_limit_on_rows_stops_collecting_soon_after(make_db):
    """A link that brings a million rows is not followed to its end only to find that ten were too many."""
    source = make_db("""
        CREATE TABLE run (id INTEGER PRIMARY KEY);
        CREATE TABLE step (id INTEGER PRIMARY KEY, run INTEGER REFERENCES run);
        INSERT INTO run VALUES (1);
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
        INSERT INTO step SELECT i, 1 FROM n;
    """)
    place = databases.locate(str(source))
    with databases.open_source(place, timeout=1, monitor=Monitor()) as snapshot:
        root = Root(snapshot.catalog.tables["run"], "run")
        with pytest.raises(BudgetError):
            closures.compute(snapshot, root, Selection(root="run", all=True, max_rows=10))
        tables = snapshot.connection.exec_driver_sql(
            "SELECT name FROM temp.sqlite_master WHERE type = 'table'"
        ).all()
        collected = [
            snapshot.connection.exec_driver_sql(f"SELECT count(*) FROM temp.{name}").scalar()
            for (name,) in tables
        ]
    assert 11 <= sum(collected) <= 12


def test_violations_are_listed_by_table_column_and_count(make_db):
    source = make_db(LAB + "UPDATE run SET model = 98; UPDATE step SET input = 99 WHERE id IN (1, 3);")
    with pytest.raises(ViolationError) as refusal, closure_of(source, "experiment", ids=("1",)):
        pass
    assert "run(model) -> model: 3 rows" in str(refusal.value)
    assert "step(input) -> step: 2 rows" in str(refusal.value)


def test_the_key_of_a_table_that_hides_its_rowid_is_its_integer_key(make_db):
    source = make_db(
        "CREATE TABLE t (rowid TEXT, oid TEXT, _rowid_ TEXT, id INTEGER PRIMARY KEY); INSERT INTO t (id) VALUES (5);"
    )
    with closure_of(source, "t", all=True) as (closure, _):
        assert closure.root.identity == ("id",)
        assert keys(closure) == {"t": [(5, 1)]}


# Plans: the same as values


def test_a_plan_counts_rows_bytes_and_ways(make_db):
    source = make_db(LAB)
    plan = panicdb.plan(
        str(source), root="experiment", roots=["1"], links=["step.input=stay,null"], whole=["setting"]
    )
    found = {
        table.name: (table.rows, table.owned, table.support, table.source_rows, table.whole)
        for table in plan.tables
    }
    assert found == {
        "experiment": (1, 1, 0, 2, False),
        "run": (2, 2, 0, 3, False),
        "step": (3, 3, 0, 4, False),
        "model": (2, 0, 2, 3, False),
        "maker": (1, 0, 1, 2, False),
        "setting": (2, 0, 2, 2, True),
    }
    assert plan.rows == 11
    assert dict(plan.empty) == {}
    step = next(table for table in plan.tables if table.name == "step")
    assert 200 <= step.bytes <= 230
    assert {str(link) for link in plan.policies} == {"step.input->step.id"}
    assert plan.roots == ("1",)


def test_a_plan_lists_what_stays_empty_with_the_rows_of_the_source(make_db):
    plan = panicdb.plan(str(make_db(LAB)), root="maker", roots=["2"], exclude=["step"])
    assert dict(plan.empty) == {"step": 4, "setting": 2}


def test_a_table_of_which_every_row_changes_nothing_is_whole_and_one_with_nulls_is_not(make_db):
    source = make_db(LAB)
    chosen = {"root": "experiment", "all_roots": True}
    whole = {table.name: table.whole for table in panicdb.plan(str(source), **chosen).tables}
    assert whole == {"experiment": True, "run": True, "step": True, "model": True, "maker": True}
    cut = panicdb.plan(
        str(source), exclude=["model"], links=["run.model=null", "experiment.model=null"], **chosen
    )
    found = {table.name: (table.whole, dict(table.nulled)) for table in cut.tables}
    assert found == {
        "experiment": (False, {"experiment.model->model.id": 2}),
        "run": (False, {"run.model->model.id": 3}),
        "step": (True, {}),
    }
