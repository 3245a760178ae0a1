"""Schemas of two engines compared by what they have in common."""

import itertools

import pytest

from panicdb import conversion, databases
from panicdb.model import compare_models, read_model
from panicdb.values import Monitor

BASE = """
CREATE TABLE lab (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(20) NOT NULL UNIQUE, note TEXT);
CREATE TABLE run (id INTEGER NOT NULL PRIMARY KEY, lab_id INTEGER NOT NULL REFERENCES lab (id) ON DELETE CASCADE,
    name VARCHAR(20) REFERENCES lab (name), score FLOAT, done BOOLEAN NOT NULL,
    twice INTEGER GENERATED ALWAYS AS (id * 2) STORED);
CREATE INDEX ix_run_lab ON run (lab_id);
CREATE TABLE tag (run_id INTEGER NOT NULL REFERENCES run (id), key VARCHAR(9) NOT NULL, PRIMARY KEY (run_id, key));
"""
# What one side is changed by, and what is found if that is the source, and if it is the target.
DRIFTS = {
    "a table more": (
        "CREATE TABLE more (a INTEGER)",
        "blocking table more existence",
        "semantic table more existence",
    ),
    "a column more": (
        "ALTER TABLE lab ADD COLUMN more INTEGER",
        "blocking column lab.more existence",
        "semantic column lab.more existence",
    ),
    "an index more": ("CREATE INDEX ix ON lab (note)", "semantic table lab index", ""),
    "a unique index more": (
        "CREATE UNIQUE INDEX ix ON lab (note)",
        "semantic table lab index, semantic table lab unique",
        "blocking table lab unique",
    ),
    "a unique index over two": (
        "CREATE UNIQUE INDEX ix ON run (score, done)",
        "semantic table run index, semantic table run unique",
        "blocking table run unique",
    ),
    "a partial unique index": ("CREATE UNIQUE INDEX ix ON lab (note) WHERE id > 1", "", ""),
}
# What is written instead in the definition of one side.
EDITS = {
    "nullable": (
        "done BOOLEAN NOT NULL",
        "done BOOLEAN",
        "blocking column run.done nullability",
        "semantic column run.done nullability",
    ),
    "a key less": (
        "note TEXT",
        "note INTEGER",
        "blocking column lab.note type",
        "blocking column lab.note type",
    ),
    "a link less": (
        "VARCHAR(20) REFERENCES lab (name)",
        "VARCHAR(20)",
        "blocking table run foreign key",
        "semantic table run foreign key",
    ),
    "another action": (
        "ON DELETE CASCADE",
        "ON DELETE SET NULL",
        "semantic table run actions of lab_id -> lab.id",
        "semantic table run actions of lab_id -> lab.id",
    ),
    "no action": (
        " ON DELETE CASCADE",
        "",
        "semantic table run actions of lab_id -> lab.id",
        "semantic table run actions of lab_id -> lab.id",
    ),
    "another key": (
        "PRIMARY KEY (run_id, key)",
        "PRIMARY KEY (run_id)",
        "blocking table tag primary key, semantic table tag index",
        "blocking table tag primary key, semantic table tag index",
    ),
    "no key": (
        ", PRIMARY KEY (run_id, key)",
        "",
        "blocking table tag primary key",
        "semantic table tag index, semantic table tag primary key",
    ),
    "stored": (
        "INTEGER GENERATED ALWAYS AS (id * 2) STORED",
        "INTEGER",
        "blocking column run.twice values",
        "blocking column run.twice values",
    ),
    "a number as text": (
        "score FLOAT",
        "score TEXT",
        "blocking column run.score type",
        "blocking column run.score type",
    ),
    "bytes as a number": (
        "score FLOAT",
        "score BLOB",
        "blocking column run.score type",
        "blocking column run.score type",
    ),
    "another name": (
        "score FLOAT",
        "points FLOAT",
        "blocking column run.points existence, semantic column run.score existence",
        "blocking column run.score existence, semantic column run.points existence",
    ),
    "another case": (
        "CREATE TABLE tag",
        'CREATE TABLE "Tag"',
        "blocking table Tag name, semantic table tag existence",
        "blocking table tag name, semantic table Tag existence",
    ),
}


def to_server(script):
    return script.replace("FLOAT", "double precision").replace("BLOB", "bytea")


@pytest.fixture
def compared(make_db, make_pg):
    numbers = itertools.count()

    def make(script, *, on_server):
        name = f"made{next(numbers)}"
        return make_pg(to_server(script), name=name) if on_server else str(make_db(script, name=f"{name}.db"))

    def compare(ours, theirs, *, from_server):
        one, other = make(ours, on_server=from_server), make(theirs, on_server=not from_server)
        source, target = databases.locate(one), databases.locate(other)
        with (
            databases.open_source(source, timeout=1, monitor=Monitor()) as snapshot,
            databases.open_source(target, timeout=1, monitor=Monitor()) as copy,
        ):
            convertible = conversion.convertible(source.backend.name)
            found = compare_models(read_model(snapshot), read_model(copy), convertible)
        return ", ".join(f"{each.severity} {each.object} {each.property}" for each in found)

    return compare


ways = pytest.mark.parametrize("from_server", [False, True], ids=["to a server", "from a server"])


@ways
def test_the_same_schema_has_no_difference(compared, from_server):
    assert compared(BASE, BASE, from_server=from_server) == ""


@ways
@pytest.mark.parametrize("kind", DRIFTS)
def test_what_one_side_has_more_is_found(compared, kind, from_server):
    change, as_source, as_target = DRIFTS[kind]
    assert compared(f"{BASE};{change}", BASE, from_server=from_server) == as_source
    assert compared(BASE, f"{BASE};{change}", from_server=from_server) == as_target


@ways
@pytest.mark.parametrize("kind", EDITS)
def test_what_one_side_has_otherwise_is_found(compared, kind, from_server):
    before, after, as_source, as_target = EDITS[kind]
    assert before in BASE
    edited = BASE.replace(before, after)
    assert compared(edited, BASE, from_server=from_server) == as_source
    assert compared(BASE, edited, from_server=from_server) == as_target
