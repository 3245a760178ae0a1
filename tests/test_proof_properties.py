"""Every kind of export verifies, by its receipt and by its selection; and not once a single value is another one."""

import os
import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st
from psycopg import sql

import panicdb
from oracle import RefusedError, solve
from panicdb.errors import ConflictError
from panicdb.reports import ALL_CHECKS, Status, Verdict
from seeds import SEED, campaign_of, part_of_campaign
from strategies import Draft, cases, quote
from strategies_postgresql import PostgreSQLDraft

PROVE_CASES = campaign_of(1_000)
PROVE_SERVER_CASES = campaign_of(40)
PARTS = 4
MEMORY = Path("/dev/shm")

# --- what is verified, and what is edited ---------------------------------------------------------


def require_exact(report, way):
    assert report.findings == (), f"a false alarm, {way}"
    assert {check.name: check.status for check in report.checks} == dict.fromkeys(ALL_CHECKS, Status.PASS)
    assert report.verdict is Verdict.EXACT


def require_different(report, way):
    found = {check.name for check in report.checks if check.status is Status.FAIL}
    assert "content" in found, f"an edit was not found, {way}"
    assert report.verdict is Verdict.DIFFERENT


def verified(source, target, selection, *, sealed):
    """Verify in every way; a receipt is not looked at where there is a selection, unless it is the reference."""
    receipt = Path(f"{target}.receipt.json")
    yield "by the source with the receipt", panicdb.verify(str(source), str(target))
    if selection is not None:
        yield "by the source with the selection", panicdb.verify(str(source), str(target), **selection)
    if sealed:
        yield "by the sealed receipt alone", panicdb.verify(str(receipt), str(target))


NEW = (987_654_321, "edited", 0.123, b"\xc0\xff\xee", None, 987_654_321.5, "", 0)


def edit_a_value(path, tables, numbers):
    """Write another value into some column of some row; `tables` maps names to stored columns, `numbers` choose.

    Returns what was changed; what a constraint forbids does not happen, and another place is tried.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {quote(table)}").fetchone()[0]
            for table in tables
        }
        cells = [(table, column, rows) for table, rows in counts.items() if rows for column in tables[table]]
        first, row, value = numbers
        for table, column, rows in (*cells[first % len(cells) :], *cells[: first % len(cells)]):
            for number in range(len(NEW)):
                new = NEW[(value + number) % len(NEW)]
                if is_changed(connection, table, column, row % rows, new):
                    return f"{table}.{column}"
    raise AssertionError("no value can be changed")


def is_changed(connection, table, column, row, value):
    names = [
        name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk", (table,))
    ]
    (without_rowid,) = connection.execute(
        "SELECT wr FROM pragma_table_list WHERE name = ?", (table,)
    ).fetchone()
    hidden = next(name for name in ("rowid", "oid", "_rowid_") if name not in all_columns(connection, table))
    key = ", ".join(map(quote, names)) if without_rowid else hidden
    one = f"({key}) = (SELECT {key} FROM {quote(table)} ORDER BY {key} LIMIT 1 OFFSET {row})"
    every = f"SELECT typeof({quote(column)}), hex({quote(column)}) FROM {quote(table)}"
    before = Counter(map(repr, connection.execute(every)))
    try:
        connection.execute(f"UPDATE {quote(table)} SET {quote(column)} = ? WHERE {one}", (value,))
    except sqlite3.IntegrityError:
        return False
    return Counter(map(repr, connection.execute(every))) != before


def all_columns(connection, table):
    return {
        name.lower() for (name,) in connection.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))
    }


# --- each kind ------------------------------------------------------------------------------------

SOURCE = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('cafe');
CREATE TABLE team (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE UNIQUE);
CREATE TABLE project (id TEXT NOT NULL PRIMARY KEY, team_id INTEGER REFERENCES team (id), title);
CREATE TABLE task (
    id INTEGER PRIMARY KEY, project_id TEXT NOT NULL REFERENCES project (id), after INTEGER REFERENCES task (id),
    payload BLOB, size INTEGER AS (length(payload))
);
CREATE TABLE note (id INTEGER PRIMARY KEY, task_id INTEGER REFERENCES task (id), text);
CREATE TABLE line (task_id INTEGER REFERENCES task (id), text);
CREATE TABLE tag (label TEXT, task_id INTEGER REFERENCES task (id), weight REAL, PRIMARY KEY (label, task_id))
    WITHOUT ROWID;
CREATE TABLE watcher (id INTEGER PRIMARY KEY, word TEXT, team_name TEXT);
CREATE TABLE setting (name TEXT NOT NULL PRIMARY KEY, value);
CREATE INDEX task_project ON task (project_id);
INSERT INTO team VALUES (1, 'red'), (2, 'blue');
INSERT INTO project VALUES ('p1', 1, 'one'), ('p2', 2, NULL), ('p3', 1, 3.0);
INSERT INTO task (id, project_id, after, payload) VALUES
    (1, 'p1', NULL, x'00'), (2, 'p1', 1, NULL), (3, 'p1', 4, 'text'), (4, 'p2', NULL, x''), (5, 'p3', 5, NULL);
INSERT INTO note (task_id, text) VALUES (1, 'a'), (1, 'a'), (3, ''), (4, NULL), (NULL, 'loose'), (99, 'lost');
INSERT INTO line VALUES (4, 'a'), (4, 'a'), (4, NULL), (5, ''), (5, '');
INSERT INTO tag VALUES ('x', 1, 1), ('X', 1, 1.5), ('y', 3, NULL), ('x', 4, 0.0);
INSERT INTO watcher VALUES (1, 'w', 'red'), (2, 'v', 'nobody');
INSERT INTO setting VALUES ('theme', 'dark'), ('size', 1);
"""
ONE = {"root": "project", "roots": ["p1"]}
ALL = ("team", "project", "task", "note", "line", "tag", "watcher", "setting")
# The selections, one after the other into the same target; the selection of all of it; and the rows of each table
# that has some, which show that the kind made a difference.
KINDS = {
    "ids": ([ONE], ONE, {"team": 2, "project": 2, "task": 4, "note": 3, "tag": 3}),
    "where": ([{"root": "project", "where": "title IS NOT NULL"}], None, {}),
    "all": ([{"root": "project", "all_roots": True}], None, {}),
    "follow": ([{**ONE, "links": ["task.after=follow"]}], None, {"task": 4, "project": 2}),
    "null": ([{**ONE, "links": ["task.after=null"]}], None, {"task": 3, "project": 1, "note": 3, "tag": 3, "team": 1}),
    "drop": ([{**ONE, "links": ["task.after=drop"]}], None, {"task": 2, "project": 1, "note": 2, "tag": 2, "team": 1}),
    "refuse": ([{"root": "project", "all_roots": True, "links": ["task.after=refuse"]}], None, {"task": 5}),
    "stay": ([{**ONE, "links": ["tag.task_id=stay"]}], None, {"tag": 0, "note": 3}),
    "stay and null": ([{**ONE, "links": ["tag.task_id=stay", "task.after=stay,null"]}], None, {"tag": 0, "task": 3}),
    "leave": (
        [{"root": "watcher", "all_roots": True, "links": ["watcher.team_name->team.name=leave"]}],
        None,
        {"watcher": 2, "team": 0},
    ),
    "a declared link": ([{**ONE, "links": ["watcher.team_name->team.name=drop"]}], None, {"watcher": 0, "team": 2}),
    "whole": ([{**ONE, "whole": ["setting", "tag"]}], None, {"setting": 2, "tag": 4}),
    "exclude": ([{**ONE, "exclude": ["tag"]}], None, {"tag": 0, "note": 3}),
    "violations kept": ([{**ONE, "whole": ["note"], "violations": "keep"}], None, {"note": 6}),
    "merge": (
        [ONE, {"root": "project", "roots": ["p2"]}, {"root": "project", "where": "id = 'p3'"}],
        {"root": "project", "all_roots": True},
        {"project": 3, "task": 5, "note": 4, "line": 5, "tag": 4},
    ),
    "merge of other links": (
        [{**ONE, "links": ["note.task_id=stay"]}, {"root": "team", "roots": ["1"]}],
        None,
        {"project": 3, "note": 3},
    ),
}  # fmt: skip
WITHOUT_SELECTION = frozenset(("merge of other links",))
IN_FULL = ("null", "where", "merge")
"""The others, sealed or edited, are verified by `make prove`."""


def each_kind(*, quick):
    return [pytest.param(kind, marks=[pytest.mark.prove] * (kind not in quick)) for kind in KINDS]


def transferred(kind, source, target, *, sealed):
    """Export a kind's parts into one target; return the selection that says the same, if there is one."""
    parts, selection, rows = KINDS[kind]
    for number, part in enumerate(parts):
        panicdb.export(
            str(source),
            str(target),
            **part,
            verify=True,
            seal=sealed,
            existing="merge" if number else "refuse",
        )
    assert {table: count(target, table) for table in rows} == rows
    return None if kind in WITHOUT_SELECTION else selection or parts[0]


def require_all_exact(source, target, selection, *, sealed):
    reports = dict(verified(source, target, selection, sealed=sealed))
    assert len(reports) == 1 + (selection is not None) + sealed
    for way, report in reports.items():
        require_exact(report, way)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_export_verifies(make_db, tmp_path, kind):
    source, target = make_db(SOURCE), tmp_path / "target.db"
    require_all_exact(source, target, transferred(kind, source, target, sealed=False), sealed=False)


@pytest.mark.parametrize("kind", each_kind(quick=IN_FULL))
def test_every_kind_of_sealed_export_verifies_until_a_value_is_edited(make_db, tmp_path, kind):
    source, target = make_db(SOURCE), tmp_path / "target.db"
    selection = transferred(kind, source, target, sealed=True)
    require_all_exact(source, target, selection, sealed=True)
    edit(target, kind)
    for way, report in verified(source, target, selection, sealed=True):
        require_different(report, way)


@pytest.mark.parametrize("kind", each_kind(quick=IN_FULL))
def test_every_kind_of_export_differs_once_a_value_is_edited(make_db, tmp_path, kind):
    source, target = make_db(SOURCE), tmp_path / "target.db"
    selection = transferred(kind, source, target, sealed=False)
    edit(target, kind)
    for way, report in verified(source, target, selection, sealed=False):
        require_different(report, way)


def edit(target, kind):
    dice = random.Random(f"{SEED}, {kind}")
    stored = {table: [name for name in columns(target, table) if name != "size"] for table in ALL}
    edit_a_value(target, stored, [dice.randrange(100) for _ in range(3)])


def count(path, table):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def columns(path, table):
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]


# --- random ones ----------------------------------------------------------------------------------


@st.composite
def transfers(draw, drafting=Draft):
    """Draw a case that can be exported, whether it is sealed, whether it is merged of two parts, and an edit."""
    case = draw(cases(drafting))
    try:
        solve(case.problem())
    except RefusedError:
        assume(False)
    # What goes with a case is thrown here: Hypothesis has its favourites, and of some kinds would draw none at all.
    dice = random.Random(repr(case))
    can_be_merged = case.violations != "keep" and len(case.chosen) > 1
    numbers = tuple(dice.randrange(48) for _ in range(3))
    return case, dice.randrange(6) == 0, can_be_merged and dice.randrange(2) == 0, numbers


def transfer(case, source, target, *, sealed, merged):
    """Export a case, or one part of it and then all of it, if these agree; return what it came to."""
    selection = case.selection()
    options = {"seal": sealed, "verify": True}
    if not merged:
        panicdb.export(str(source), str(target), **selection, **options)
        return "exported"
    others = {key: value for key, value in selection.items() if key not in ("roots", "where", "all_roots")}
    first, *_ = case.chosen
    part = {**others, "where": f"n = {case.root.rows[first]['n']}"}
    try:
        panicdb.export(str(source), str(target), **part, **options)
    except panicdb.PanicDBError:
        panicdb.export(str(source), str(target), **selection, **options)
        return "exported: a part of it can't be"
    try:
        panicdb.export(str(source), str(target), **selection, **options, existing="merge")
    except ConflictError:
        return "a part of it exported: the rest is in conflict with that"
    return "merged"


def campaign(part, number, folder, record, *, edited):
    """Verify so many exports, and every `edited`-th once more, with an edit."""
    seen = Counter()

    @settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes
    )
    @given(drawn=transfers())
    def check(drawn):
        case, sealed, merged, numbers = drawn
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        source, target = place / "source.db", place / "target.db"
        case.create(source)
        came_to = transfer(case, source, target, sealed=sealed, merged=merged)
        # Of several parts no one selection says what they make together.
        selection = case.selection() if came_to.startswith("exported") else None
        for way, report in verified(source, target, selection, sealed=sealed):
            require_exact(report, way)
            seen[f"clean: {way}"] += 1
        seen[came_to] += 1
        event(came_to)
        if numbers[2] % edited == 0:
            edit_a_value(target, {table.name: table.stored for table in case.tables}, numbers)
            for way, report in verified(source, target, selection, sealed=sealed):
                require_different(report, way)
                seen[f"edited: {way}"] += 1

    # Thousands of tiny files, each synced several times: in memory where there is such a place.
    with TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else folder) as name:
        folder = Path(name)
        try:
            part_of_campaign(part, check)()
        finally:
            record("coverage", {f"proofs: {what}": times for what, times in seen.items()})
    assert seen["clean: by the source with the receipt"] >= number
    assert seen["clean: by the source with the selection"] >= number / 2
    for way in ("by the source with the receipt", "by the source with the selection"):
        assert seen[f"edited: {way}"] >= (seen[f"clean: {way}"] if edited == 1 else 1)
    if edited == 1:
        assert seen["edited: by the sealed receipt alone"] >= number / 20
        assert seen["merged"] >= number // 100


def test_random_exports_verify_until_a_value_is_edited(tmp_path, record_property):
    """20 exports, some of them edited."""
    campaign("proofs, few", 20, tmp_path, record_property, edited=3)


@pytest.mark.prove
@pytest.mark.parametrize("part", range(PARTS))
def test_random_exports_verify_until_a_value_is_edited_in_a_long_campaign(part, tmp_path, record_property):
    """1,000 exports, each edited."""
    campaign(f"proofs, {part}", PROVE_CASES // PARTS, tmp_path, record_property, edited=1)


# --- on servers -----------------------------------------------------------------------------------

# As text, for a type to read; what it can't read is left to the next.
NEW_ON_SERVERS = (
    "987654",
    "edited",
    "0.123",
    r"\xc0ffee",
    None,
    "2001-01-01 02:03:04",
    "true",
    "",
    "{7}",
    "[5,6)",
)
NEW_ON_SERVERS += ("00000000-0000-0000-0000-00000000ed17", '{"edited": 1}', "1.2.3.4", "11011", "(5,6)")


def edit_a_value_on_a_server(session, tables, numbers):
    """As `edit_a_value`."""
    counts = {
        table.name: session.execute(f"SELECT count(*) FROM {table.whole}").fetchone()[0] for table in tables
    }
    cells = [(table, column) for table in tables if counts[table.name] for column in table.stored]
    first, row, value = numbers
    for table, column in (*cells[first % len(cells) :], *cells[: first % len(cells)]):
        for number in range(len(NEW_ON_SERVERS)):
            new = NEW_ON_SERVERS[(value + number) % len(NEW_ON_SERVERS)]
            if is_changed_on_a_server(session, table, column, row % counts[table.name], new):
                return f"{table.name}.{column}"
    raise AssertionError("no value can be changed")


def is_changed_on_a_server(session, table, column, row, value):
    every = f"SELECT {quote(column)}::text FROM {table.whole}"
    one = f"SELECT tableoid, ctid FROM {table.whole} ORDER BY tableoid, ctid LIMIT 1 OFFSET {row}"
    before = Counter(session.execute(every).fetchall())
    literal = sql.Literal(value).as_string(None)
    try:
        session.execute(
            f"UPDATE {table.whole} SET {quote(column)} = {literal} WHERE (tableoid, ctid) = ({one})"
        )
    except psycopg.Error:
        return False
    return Counter(session.execute(every).fetchall()) != before


def campaign_on_servers(part, number, engine, folder, record, *, edited):
    """As `campaign`, without merges."""
    seen = Counter()
    drafting = partial(PostgreSQLDraft, icu="icu" in engine.features, version=engine.server.version)

    @settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes
    )
    @given(drawn=transfers(drafting))
    def check(drawn):
        engine.tidy()  # of a case that failed
        case, sealed, _, numbers = drawn
        source, target = engine.source(case.script_of_all(), own=True), engine.target()
        receipt = folder / "receipt.json"
        receipt.unlink(missing_ok=True)
        panicdb.export(
            source,
            target,
            **case.selection(),
            verify=True,
            seal=sealed,
            receipt=str(receipt) if sealed else False,
        )
        for way, report in verified_on_a_server(source, target, case.selection(), receipt):
            require_exact(report, way)
            seen[f"clean: {way}"] += 1
        if numbers[2] % edited == 0:
            edit_a_value_on_a_server(engine.session(target), case.tables, numbers)
            for way, report in verified_on_a_server(source, target, case.selection(), receipt):
                require_different(report, way)
                seen[f"edited: {way}"] += 1

    try:
        part_of_campaign(part, check)()
    finally:
        record("coverage", {f"proofs on servers: {what}": times for what, times in seen.items()})
    assert seen["clean: by the source with the selection"] >= number
    if edited == 1:
        assert seen["edited: by the source with the selection"] >= number
        assert seen["edited: by the sealed receipt alone"] >= number / 20


def verified_on_a_server(source, target, selection, receipt):
    yield "by the source with the selection", panicdb.verify(source, target, **selection)
    if receipt.exists():
        yield "by the source with the receipt", panicdb.verify(source, target, receipt=str(receipt))
        yield "by the sealed receipt alone", panicdb.verify(str(receipt), target)


def test_random_exports_on_servers_verify_until_a_value_is_edited(engine, tmp_path, record_property):
    """3 exports, one of them edited."""
    part = f"proofs on {engine.server.name}, few"
    campaign_on_servers(part, 3, engine, tmp_path, record_property, edited=2)


@pytest.mark.prove
def test_random_exports_on_servers_verify_until_a_value_is_edited_in_a_long_campaign(
    engine, tmp_path, record_property
):
    """40 exports, each edited."""
    number = engine.share(PROVE_SERVER_CASES)
    part = f"proofs on {engine.server.name}"
    campaign_on_servers(part, number, engine, tmp_path, record_property, edited=1)
