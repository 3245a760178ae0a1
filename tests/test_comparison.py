"""The engine's own comparison says that tables hold the same only where digests do, and says it where it can."""

import itertools
import os
import shutil
import sqlite3
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import panicdb
from mutants import schema_edit
from panicdb import contents, databases, planner, runs, transfer
from panicdb.backends.sqlite import comparison
from panicdb.commands import selection_from
from panicdb.revisions import Route
from panicdb.runs import Run
from panicdb.values import Monitor
from seeds import campaign_of, part_of_campaign
from strategies import Dice, RawText, quote

PROVE_CASES = campaign_of(5_000)
PARTS = 2
MEMORY = Path("/dev/shm")

# --- what is compared -----------------------------------------------------------------------------


def make(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.executescript(statement)
    return path


def compared(source, target):
    """Return the tables that the engine says are held, and those of which digests say so; None for the former if it
    declines."""
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(opened(path)) for path in (source, target))
        rows = {entry.name: contents.whole_rows(entry) for entry in ours.catalog.ordinary()}
        return engine_says(ours, theirs, rows), digests_say(ours, theirs, rows)


def compared_subset(source, target, **choice):
    """The same of the rows that an export of `choice` takes."""
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(opened(path)) for path in (source, target))
        closure = runs.take_closure(ours, selection_from(choice), Run(Monitor(), 0))
        plan = planner.plan_subset(ours, closure, Route("copy", "none"))
        names = [entry.name for entry in ours.catalog.ordinary()]
        rows = contents.arriving(ours, names, transfer.copy_steps(plan, closure, ours))
        return engine_says(ours, theirs, rows), digests_say(ours, theirs, rows)


def opened(path):
    return databases.open_source(databases.locate(str(path)), timeout=0, monitor=Monitor())


def engine_says(ours, theirs, rows):
    comparison = ours.place.backend.compare(ours, theirs)
    return None if comparison is None else contents.held(comparison, rows, ours)


def digests_say(ours, theirs, rows):
    tables = theirs.catalog.tables
    return {
        name
        for name, each in rows.items()
        if name in tables
        and contents.digest(ours, each, Monitor())
        == contents.digest(theirs, contents.whole_rows(tables[name], each.columns), Monitor())
    }


# --- random pairs of one table --------------------------------------------------------------------

TYPES = ("", "BLOB", "INTEGER", "REAL", "NUMERIC", "TEXT", "JSON", "TIMESTAMP")
STRICT_TYPES = ("ANY", "INTEGER", "REAL", "TEXT", "BLOB")
COLLATIONS = ("", "", "NOCASE", "RTRIM", "BINARY")
WORDS = (
    "a",
    "A",
    "b",
    "B",
    "é",
    "a ",
    "a  ",
    "1",
    "1.0",
    "",
    "nul\0a",
    "nul\0b",
    RawText(b"\xff"),
    RawText(b"a\xff"),
)
LIMITS = (2**51, 2**53, 2**62)
WHOLE = (
    0,
    1,
    -1,
    *(limit + step for limit in LIMITS for step in (-1, 0, 1)),
    2**63 - 1,
    -(2**63),
    9_200_000_000_000_000_000,
)
FLOATS = (
    0.0,
    -0.0,
    0.1,
    0.1 + 2**-56,
    -1.5,
    9.2e18,
    1e300,
    float("inf"),
    *(float(number) for number in WHOLE),
)
VALUES = (None, *WHOLE, *FLOATS, *WORDS, b"", b"a", b"1", b"\xff", b"nul\0a")
FEW = (None, 0, 0.0, -0.0, 1, 1.0, 2, "1", "a", "A", "a ", b"a")
"""So that many are alike."""


@dataclass(frozen=True)
class Key:
    """What rows of a table are told apart by."""

    name: str
    columns: str
    clause: str = ""
    index: str = ""
    finds: tuple[str, ...] = ()
    """The columns by which rows are found, as long as none is NULL."""
    strict: bool = True
    """It can be in a STRICT table."""
    clustered: bool = False
    """It can be in a table WITHOUT ROWID."""


KEYS = (
    Key("an INTEGER PRIMARY KEY", "k INTEGER PRIMARY KEY", finds=("k",), clustered=True),
    Key("a TEXT primary key", "k TEXT PRIMARY KEY", finds=("k",), clustered=True),
    Key("a primary key of no type", "k PRIMARY KEY NOT NULL", finds=("k",), strict=False, clustered=True),
    Key("a REAL primary key", "k REAL PRIMARY KEY", finds=("k",), clustered=True),
    Key("a NOCASE primary key", "k TEXT PRIMARY KEY COLLATE NOCASE", finds=("k",), clustered=True),
    Key("an RTRIM primary key", "k TEXT PRIMARY KEY COLLATE RTRIM", finds=("k",), clustered=True),
    Key("a composite key", "k TEXT, l INTEGER", "PRIMARY KEY (k, l)", finds=("k", "l"), clustered=True),
    Key("one key that may be NULL, and another", "k TEXT UNIQUE, l INTEGER NOT NULL UNIQUE", finds=("l",)),
    Key("a unique column that may be NULL", "k TEXT UNIQUE", finds=("k",)),
    Key("a unique index", "k TEXT, l REAL", index="CREATE UNIQUE INDEX u ON t (k, l)", finds=("k", "l")),
    Key("another collation", "k TEXT", index="CREATE UNIQUE INDEX u ON t (k COLLATE NOCASE)"),
    Key("a partial unique index", "k TEXT", index="CREATE UNIQUE INDEX u ON t (k) WHERE k > 'a'"),
    Key("a computed unique column", "k TEXT, l INTEGER", "g TEXT AS (lower(k)) STORED UNIQUE"),
    Key("no key", "k TEXT"),
)


@dataclass(frozen=True)
class Pair:
    """A table, rows for both sides, and an edit of one of them."""

    key: Key
    script: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple, ...]
    order: int
    """The other side gets the rows in another order."""
    edit: str
    edited: tuple[str, tuple]
    wal: bool

    def create(self, folder):
        """Write both files."""
        paths = folder / "ours.db", folder / "theirs.db"
        for path, rows in zip(paths, (self.rows, self.rows[:: self.order]), strict=True):
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute(f"PRAGMA journal_mode = {'WAL' if self.wal else 'DELETE'}")
                for statement in self.script:
                    connection.execute(statement)
                for row in rows:
                    attempt(connection, *insertion(self.columns, row))
                if path is paths[1]:
                    attempt(connection, *self.edited)
        return paths


def attempt(connection, sql, values):
    """What a constraint forbids does not happen."""
    try:
        connection.execute(sql, values)
    except sqlite3.IntegrityError:
        return


def mark(value):
    return "CAST(? AS TEXT)" if isinstance(value, RawText) else "?"


def bound(values):
    return tuple(bytes(value) if isinstance(value, RawText) else value for value in values)


def insertion(columns, row):
    names = ", ".join(map(quote, columns))
    return f"INSERT INTO t ({names}) VALUES ({', '.join(map(mark, row))})", bound(row)


TWIN = """CASE typeof({0})
    WHEN 'integer' THEN CAST({0} AS REAL)
    WHEN 'real' THEN CASE {0} WHEN 0 THEN -{0} ELSE CAST({0} AS INTEGER) END
    WHEN 'text' THEN CAST({0} AS BLOB)
    ELSE CAST({0} AS TEXT)
END"""
"""What is hard to tell from a value, as far as the column keeps both."""


@st.composite
def pairs(draw):
    dice = Dice(draw)
    key = dice.pick(KEYS)
    strict, without_rowid = key.strict and dice.chance(25), key.clustered and dice.chance(30)
    types = [dice.pick(STRICT_TYPES if strict else TYPES) for _ in range(dice.number(1, 3))]
    values = [f"v{number} {declared} {collated(dice)}" for number, declared in enumerate(types)]
    parts = [key.columns, *values, *[key.clause] * bool(key.clause)]
    options = ", ".join([*["WITHOUT ROWID"] * without_rowid, *["STRICT"] * strict])
    columns = (*(part.split()[0] for part in key.columns.split(",")), *(f"v{n}" for n in range(len(types))))
    pool = dice.pick((VALUES, FEW))
    rows = [tuple(dice.pick(pool) for _ in columns) for _ in range(dice.number(0, 6))]
    if dice.chance(60):  # keys that differ, so that rows stay
        rows = [(number, *row[1:]) for number, row in enumerate(rows)]
    edit, edited = draw_edit(dice, columns, rows, pool, without_rowid=without_rowid)
    script = (f"CREATE TABLE t ({', '.join(parts)}) {options}", *[key.index] * bool(key.index))
    return Pair(key, script, columns, tuple(rows), dice.pick((1, -1)), edit, edited, dice.chance(20))


def collated(dice):
    name = dice.pick(COLLATIONS)
    return f"COLLATE {name}" if name else ""


def draw_edit(dice, columns, rows, pool, *, without_rowid):
    """Draw what is done to one side, if anything."""
    number = dice.number(0, max(0, len(rows) - 1))
    place = "k" if without_rowid else "rowid"
    one = f"{place} = (SELECT {place} FROM t LIMIT 1 OFFSET {number})"
    column, value = dice.pick(columns), dice.pick(pool)
    kind = dice.pick(
        ("none", "none", "value", "value", "twin", "removed", "duplicated", "inserted", "case", "copied")
    )
    others = ", ".join(columns[1:])
    edits = {
        "none": ("SELECT 1", ()),
        "value": (f"UPDATE t SET {column} = {mark(value)} WHERE {one}", bound((value,))),
        "twin": (f"UPDATE t SET {column} = {TWIN.format(column)} WHERE {one}", ()),
        "removed": (f"DELETE FROM t WHERE {one}", ()),
        "duplicated": (f"INSERT INTO t SELECT {mark(value)}, {others} FROM t WHERE {one}", bound((value,))),
        "inserted": insertion(columns, tuple(dice.pick(pool) for _ in columns)),
        "case": (f"UPDATE t SET k = CASE k WHEN upper(k) THEN lower(k) ELSE upper(k) END WHERE {one}", ()),
        "copied": (f"UPDATE t SET {columns[-1]} = (SELECT {columns[-1]} FROM t LIMIT 1) WHERE {one}", ()),
    }
    return kind, edits[kind]


def surely_held(path, key):
    """Tell whether the engine has no reason to leave a table to the digest, if both sides are the same."""
    null = " OR ".join(f"{name} IS NULL" for name in key.finds) or "1"
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM t WHERE {null}").fetchone() == (0,)


def campaign(part, number, folder, record):
    """Compare so many pairs, and count what came of it."""
    seen = Counter()

    @settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))
    @given(pair=pairs())
    def check(pair):
        place = folder / "pair"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        ours, theirs = pair.create(place)
        held, same = compared(ours, theirs)
        assert held <= same, "the engine says that both hold the same, and digests differ"
        if same and surely_held(ours, pair.key):
            assert held, "the engine does not say what it could"
        outcome = "held" if held else "the same, but left to the digest" if same else "different"
        seen[outcome, pair.key.name] += 1
        event(outcome)

    # Thousands of tiny files, each synced several times: in memory where there is such a place.
    with TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else folder) as name:
        folder = Path(name)
        try:
            part_of_campaign(part, check)()
        finally:
            record("coverage", {f"compared tables {outcome}: {key}": n for (outcome, key), n in seen.items()})
    assert seen.total() >= number
    for outcome, seldom in (("held", 5), ("the same, but left to the digest", 50), ("different", 5)):
        pairs_of_it = sum(count for (other, _key), count in seen.items() if other == outcome)
        assert pairs_of_it >= number / seldom, f"hardly a pair was {outcome}"


def test_what_the_engine_holds_to_be_the_same_has_the_same_digest(tmp_path, record_property):
    """200 pairs of a table."""
    campaign("comparison, few", 200, tmp_path, record_property)


@pytest.mark.prove
@pytest.mark.parametrize("part", range(PARTS))
def test_what_the_engine_holds_to_be_the_same_has_the_same_digest_in_a_long_campaign(
    part, tmp_path, record_property
):
    """5,000 pairs of a table."""
    campaign(f"comparison, {part}", PROVE_CASES // PARTS, tmp_path, record_property)


# --- traps, one by one ----------------------------------------------------------------------------

TWINS = (
    ("0.0", "-0.0"),
    ("0", "0.0"),
    ("1", "1.0"),
    ("1", "'1'"),
    ("1.0", "'1.0'"),
    *((f"{number}", f"{number}.0") for limit in (2**51, 2**53) for number in (limit - 1, limit, -limit)),
    ("2251799813685249", "2251799813685249.0"),
    ("9007199254740993", "9007199254740992"),
    ("9007199254740993", "9007199254740992.0"),
    ("-9223372036854775808", "-9223372036854775808.0"),
    ("9223372036854775807", "9223372036854775808.0"),
    ("9200000000000000000", "9.2e18"),
    ("0.1", "0.1 + 1.4e-17"),
    ("''", "x''"),
    ("''", "NULL"),
    ("'NULL'", "NULL"),
    ("'a'", "x'61'"),
    ("'a'", "'A'"),
    ("'a'", "'a '"),
    ("'a'", "'a' || char(0)"),
    ("'a' || char(0) || 'b'", "'a' || char(0) || 'c'"),
    ("CAST(x'ff' AS TEXT)", "x'ff'"),
    ("CAST(x'ff' AS TEXT)", "CAST(x'fe' AS TEXT)"),
    ("CAST(x'ff' AS TEXT)", "char(255)"),
)


def twins(declared, *, edited):
    """Make a table for each pair of values, and one that is the same; types may be given to values that are there."""
    written = "v" if edited else f"v {declared}"
    every = ", ".join(f"({n}, {value})" for n, value in enumerate(itertools.chain(*TWINS)))
    for side in (0, 1):
        differing = [(f"t{n}", f"(1, {values[side]})") for n, values in enumerate(TWINS)]
        tables = "".join(
            f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, {written}); INSERT INTO {name} VALUES {rows};"
            for name, rows in (*differing, ("alike", every))
        )
        yield f"BEGIN; {tables} COMMIT", schema_edit(", v)", f", v {declared})") if edited else ""


@pytest.mark.parametrize(
    ("declared", "edited"),
    [
        *((declared, False) for declared in (*TYPES, "TEXT COLLATE NOCASE", "COLLATE RTRIM")),
        *((declared, True) for declared in ("INTEGER", "NUMERIC", "REAL", "TEXT")),
    ],
)
def test_values_that_are_equal_are_not_taken_for_the_same(tmp_path, declared, edited):
    """Neither if they were there before the column got its type, by an edit of the schema."""
    ours, theirs = twins(declared, edited=edited)
    held, same = compared(make(tmp_path / "ours.db", *ours), make(tmp_path / "theirs.db", *theirs))
    assert held == same
    assert "alike" in same
    assert len(TWINS) - len(same - {"alike"}) >= 10, "hardly a pair of values differs in such a column"
    if declared in ("", "BLOB", "COLLATE RTRIM"):
        assert same == {"alike"}


@pytest.mark.parametrize(
    ("key", "ours", "theirs"),
    [
        ("k NOT NULL PRIMARY KEY", "1", "1.0"),
        ("k NOT NULL PRIMARY KEY", "9007199254740992", "9007199254740992.0"),
        ("k NOT NULL PRIMARY KEY", "0.0", "-0.0"),
        ("k NOT NULL PRIMARY KEY", "'1'", "1"),
        ("k TEXT NOT NULL PRIMARY KEY", "'a'", "x'61'"),
        ("k TEXT NOT NULL PRIMARY KEY COLLATE NOCASE", "'a'", "'A'"),
        ("k TEXT NOT NULL PRIMARY KEY COLLATE NOCASE", "'a' || char(0) || 'x'", "'a' || char(0) || 'y'"),
        ("k TEXT NOT NULL PRIMARY KEY COLLATE RTRIM", "'a'", "'a '"),
    ],
)
@pytest.mark.parametrize("options", ["", "WITHOUT ROWID"])
@pytest.mark.parametrize("moved", [False, True], ids=["", "other rowids"])
def test_keys_that_are_equal_are_not_taken_for_the_same(tmp_path, key, ours, theirs, options, moved):
    if moved and options:
        moved = False  # there are none
    script = f"CREATE TABLE t ({key}, v) {options}; INSERT INTO t VALUES ({{}}, 1);"
    others = script + "UPDATE t SET rowid = 7" * moved
    one, other = make(tmp_path / "1.db", script.format(ours)), make(tmp_path / "2.db", others.format(theirs))
    alike = make(tmp_path / "3.db", others.format(ours))
    assert compared(one, other) == (frozenset(), set())
    assert compared(one, alike) == ({"t"}, {"t"})


@pytest.mark.parametrize(
    "behind",
    [
        "SELECT 1",
        "CREATE INDEX u ON t (k);" + schema_edit("CREATE INDEX", "CREATE UNIQUE INDEX"),
    ],
    ids=["a dropped unique index", "an index that is unique by an edit of the schema"],
)
def test_a_duplicate_behind_an_index_is_no_other_row(tmp_path, behind):
    script = (
        "CREATE TABLE t (k TEXT, v); CREATE UNIQUE INDEX u ON t (k); INSERT INTO t VALUES ('a', 1), ('b', 1)"
    )
    source, target = (make(tmp_path / name, script) for name in ("source.db", "target.db"))
    make(target, "DROP INDEX u; UPDATE t SET k = 'a'", behind)
    assert compared(source, target) == (frozenset(), set())


def test_a_computed_column_finds_no_row(tmp_path):
    script = "CREATE TABLE t (k TEXT, g TEXT AS (lower(k)) UNIQUE); INSERT INTO t (k) VALUES ('a')"
    source, target = (make(tmp_path / name, script) for name in ("source.db", "target.db"))
    assert compared(source, target) == ({"t"}, {"t"})
    make(target, "UPDATE t SET rowid = 7")
    assert compared(source, target) == (frozenset(), {"t"})


HEAP = "CREATE TABLE t (k TEXT, v); INSERT INTO t VALUES ('a', 1), ('a', 1), ('b', NULL), (NULL, NULL);"
SWAPPED = """
UPDATE t SET rowid = 10 * rowid;
UPDATE t SET rowid = CASE rowid WHEN 20 THEN 3 WHEN 30 THEN 2 ELSE rowid / 10 END;
"""


@pytest.mark.parametrize(
    ("edit", "held", "same"),
    [
        ("", True, True),
        ("UPDATE t SET rowid = rowid + 10", False, True),
        ("UPDATE t SET rowid = 10 WHERE rowid = 2", False, True),
        (SWAPPED, False, True),
        ("UPDATE t SET v = 1.0 WHERE rowid = 2", False, False),
        ("UPDATE t SET v = 0 WHERE k IS NULL", False, False),
        ("DELETE FROM t WHERE rowid = 2", False, False),
        ("DELETE FROM t WHERE rowid = 2; INSERT INTO t (rowid, k, v) VALUES (2, 'b', NULL)", False, False),
        ("INSERT INTO t (rowid, k, v) VALUES (-1, 'a', 1)", False, False),
    ],
)
def test_rows_without_a_key_are_found_by_their_rowid(tmp_path, edit, held, same):
    source, target = make(tmp_path / "source.db", HEAP), make(tmp_path / "target.db", HEAP + edit)
    assert compared(source, target) == ({"t"} if held else frozenset(), {"t"} if same else set())


def test_columns_may_be_named_as_the_rowid_is(tmp_path):
    scripts = [
        f"CREATE TABLE t (rowid TEXT, oid, v); INSERT INTO t (_rowid_, rowid, oid, v) VALUES (1, {value}, 1, 2)"
        for value in ("'a'", "'b'")
    ]
    one, other = (make(tmp_path / f"{n}.db", script) for n, script in enumerate(scripts))
    assert compared(one, one) == ({"t"}, {"t"})
    assert compared(one, other) == (frozenset(), set())


FAMILY = """
CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE child (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES parent (id), note TEXT COLLATE NOCASE);
CREATE TABLE loose (parent_id INTEGER REFERENCES parent (id));
INSERT INTO parent VALUES (1, 'a'), (2, 'b');
INSERT INTO child VALUES (1, 1, 'x'), (2, 2, 'y'), (3, NULL, 'z');
INSERT INTO loose VALUES (1);
"""


@pytest.mark.parametrize(
    ("edit", "held"),
    [
        ("SELECT 1", {"parent", "child", "loose"}),
        ("UPDATE child SET parent_id = 1 WHERE id = 1", {"parent", "loose"}),
        ("UPDATE child SET note = 'Z' WHERE id = 3", {"parent", "loose"}),
        ("INSERT INTO child VALUES (2, NULL, 'y')", {"parent", "loose"}),
        ("DELETE FROM child WHERE id = 1", {"parent", "loose"}),
        ("INSERT INTO parent VALUES (1, 'a')", {"child", "loose"}),
        ("INSERT INTO loose VALUES (NULL)", {"parent", "child"}),
    ],
)
def test_the_rows_of_a_selection_are_compared_as_its_policies_make_them(make_db, tmp_path, edit, held):
    """Its statement reads a temporary table of keys, and NULL in the place of a link."""
    source, target = make_db(FAMILY), tmp_path / "target.db"
    choice = {"root": "child", "roots": ["1", "3"], "links": ["child.parent_id=null"]}
    panicdb.export(str(source), str(target), **choice)
    make(target, edit)
    assert compared_subset(source, target, **choice) == (held, held)
    assert compared(source, target)[0] == set()


def test_tables_that_are_to_stay_empty_need_no_key(make_db):
    empty = make_db(
        "CREATE TABLE t (a); CREATE TABLE u (a UNIQUE); CREATE TABLE v (a PRIMARY KEY) WITHOUT ROWID"
    )
    assert compared(empty, empty)[0] == {"t", "u", "v"}


def test_another_encoding_is_left_to_the_digest(tmp_path):
    script = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'grüße 🎲'), (2, '')"
    source, target = tmp_path / "source.db", tmp_path / "target.db"
    make(source, script)
    make(target, "PRAGMA encoding = 'UTF-16le'", script)
    for pair in itertools.permutations((source, target)):
        assert compared(*pair) == (None, {"t"})
        assert content(*pair) == "PASS"
    make(target, "UPDATE t SET v = 'grüsse 🎲' WHERE id = 1")
    assert compared(source, target) == (None, set())
    assert content(source, target) == "FAIL"


def content(source, target, **more):
    report = panicdb.verify(str(source), str(target), **more)
    (status,) = (check.status for check in report.checks if check.name == "content")
    return status


@pytest.mark.parametrize(
    "more",
    [
        "CREATE VIEW w AS SELECT v FROM main.t",
        "CREATE TRIGGER w AFTER UPDATE ON t BEGIN DELETE FROM t WHERE id IN (SELECT -id FROM main.t); END",
    ],
)
def test_a_schema_that_names_main_is_left_to_the_digest(tmp_path, more):
    """It can't be attached under another name."""
    script = f"CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'a'); {more}"
    source, target = (make(tmp_path / name, script) for name in ("source.db", "target.db"))
    assert compared(source, target) == (None, {"t"})
    assert panicdb.verify(str(source), str(target)).ok
    make(target, "UPDATE t SET v = 'A'")
    assert compared(source, target) == (None, set())
    assert content(source, target) == "FAIL"


@pytest.mark.parametrize(
    ("number", "declared"),
    [(51, "REAL"), (400, "TEXT"), pytest.param(2000, "NUMERIC", marks=pytest.mark.prove)],
)
def test_as_many_columns_as_sqlite_allows(tmp_path, number, declared):
    """An expression can't be as deep as some tables are wide."""
    columns = ", ".join(f"c{number} {declared}" for number in range(number - 1))
    values = ", ".join(f"'{number}'" for number in range(number - 1))
    script = f"CREATE TABLE t (id INTEGER PRIMARY KEY, {columns}); INSERT INTO t VALUES (1, {values})"
    source, target = (make(tmp_path / name, script) for name in ("source.db", "target.db"))
    assert compared(source, target) == ({"t"}, {"t"})
    make(target, f"UPDATE t SET c{number - 2} = 'x'")
    report = panicdb.verify(str(source), str(target))
    assert [finding.text for finding in report.findings] == [
        f"t: 1 row otherwise in the target (c{number - 2}): id = 1",
    ]


# --- with a second connection, and without --------------------------------------------------------

MANY = "".join(
    f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, v TEXT);"
    f"WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < {100 * n + 1})"
    f"INSERT INTO t{n} SELECT n, 'row ' || n FROM i;"
    for n in range(12)
)


@pytest.fixture
def many(tmp_path):
    """Twelve tables, two of which are not the same."""
    source, target = (make(tmp_path / name, MANY) for name in ("source.db", "target.db"))
    make(target, "UPDATE t7 SET v = 'Row 5' WHERE id = 5; UPDATE t10 SET id = 5000 WHERE id = 5")
    return source, target


ALIKE = {f"t{n}" for n in range(12)} - {"t7", "t10"}


@pytest.mark.parametrize("target_mode", ["DELETE", "WAL"])
@pytest.mark.parametrize(("mode", "helped"), [("DELETE", True), ("PERSIST", True), ("WAL", False)])
def test_a_second_connection_changes_no_answer(many, mode, target_mode, helped):
    for path, each in zip(many, (mode, target_mode), strict=True):
        make(path, f"PRAGMA journal_mode = {each}")
    with opened(many[0]) as snapshot:
        assert snapshot.excludes_writers() == helped
    assert compared(*many) == (ALIKE, ALIKE)


@pytest.mark.parametrize("pieces", [2, 3, 7, 50])
def test_a_table_in_pieces_is_the_same_table(many, monkeypatch, pieces):
    monkeypatch.setattr(comparison, "CUT_FROM_ROWS", 1)
    monkeypatch.setattr(comparison, "PIECES", pieces)
    assert compared(*many) == (ALIKE, ALIKE)


EXTREMES = (-(2**63), -(2**63) + 1, -1, 0, 1, 10, 2**63 - 2, 2**63 - 1)


@pytest.mark.parametrize("rowid", EXTREMES)
@pytest.mark.parametrize("definition", ["id INTEGER PRIMARY KEY, k TEXT UNIQUE, v", "k TEXT UNIQUE, v"])
def test_a_row_of_any_piece_is_compared(tmp_path, monkeypatch, definition, rowid):
    monkeypatch.setattr(comparison, "CUT_FROM_ROWS", 1)
    rows = ", ".join(f"({each}, 'row {each}', 1)" for each in EXTREMES)
    script = f"CREATE TABLE t ({definition}); INSERT INTO t (rowid, k, v) VALUES {rows}"
    source, target = (make(tmp_path / name, script) for name in ("source.db", "target.db"))
    assert compared(source, target) == ({"t"}, {"t"})
    make(target, f"UPDATE t SET v = 1.0 WHERE rowid = {rowid}")
    assert compared(source, target) == (frozenset(), set())


def test_a_writer_that_keeps_the_second_connection_out_changes_no_answer(many):
    """It waits for the first to end, and nobody new comes in before it."""
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(opened(path)) for path in many)
        writer = stack.enter_context(closing(sqlite3.connect(many[0], timeout=0, isolation_level=None)))
        writer.execute("BEGIN")
        writer.execute("UPDATE t1 SET v = 'written'")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            writer.execute("COMMIT")
        with pytest.raises(panicdb.PanicDBError, match="locked"), opened(many[0]):
            pass
        rows = {entry.name: contents.whole_rows(entry) for entry in ours.catalog.ordinary()}
        assert engine_says(ours, theirs, rows) == ALIKE
        writer.execute("ROLLBACK")


@pytest.mark.parametrize(("mode", "helped"), [("DELETE", True), ("WAL", False)])
def test_a_target_that_may_be_written_meanwhile_is_read_by_one_connection(many, monkeypatch, mode, helped):
    make(many[1], f"PRAGMA journal_mode = {mode}")
    second, opened_again = comparison.open_snapshot, []
    monkeypatch.setattr(
        comparison,
        "open_snapshot",
        lambda *given, **more: opened_again.append(given) or second(*given, **more),
    )
    assert compared(*many) == (ALIKE, ALIKE)
    assert bool(opened_again) == helped


def test_a_row_that_is_written_meanwhile_is_not_seen(many):
    """In a write-ahead log a second connection would see another moment."""
    make(many[0], "PRAGMA journal_mode = WAL")
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(opened(path)) for path in many)
        make(
            many[0],
            "UPDATE t7 SET v = 'Row 5' WHERE id = 5; UPDATE t10 SET id = 5000 WHERE id = 5; DELETE FROM t3",
        )
        rows = {entry.name: contents.whole_rows(entry) for entry in ours.catalog.ordinary()}
        assert engine_says(ours, theirs, rows) == ALIKE
