"""Merging and replacing where schemas, receipts and neighbours are odd: each of these went wrong once."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import panicdb
from panicdb.backends.sqlite import exchange
from panicdb.errors import SelectionError, SourceError, TargetError

ROWS = "CREATE TABLE r (id INTEGER PRIMARY KEY, x);"
ALL = {"root": "r", "all_roots": True}


@pytest.fixture
def make(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_db


def merge(source="s.db", target="t.db", **more):
    return panicdb.export(source, target, existing="merge", **{**ALL, **more})


def query(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def change(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def ids(*wanted):
    return {"all_roots": False, "roots": tuple(map(str, wanted))}


@pytest.mark.fault(29)
@pytest.mark.parametrize("existing", ["merge", "replace", "plan", "refuse"])
def test_locks_that_the_process_holds_on_its_target_survive(make, existing):
    """POSIX drops all locks of a process on a file as soon as it closes any descriptor of it."""
    make(ROWS + "INSERT INTO r VALUES (1, 1);", "s.db")
    make(ROWS, "t.db")
    with closing(sqlite3.connect("t.db", isolation_level=None)) as own:
        own.execute("BEGIN IMMEDIATE")
        own.execute("INSERT INTO r VALUES (2, 2)")
        if existing == "plan":
            panicdb.plan("s.db", target="t.db", existing="replace", **ALL)
        else:
            with pytest.raises(TargetError):
                panicdb.export("s.db", "t.db", existing=existing, timeout=0.1, **ALL)
        assert "locked" in write_elsewhere("t.db")
        own.execute("COMMIT")
    assert query("t.db", "SELECT id FROM r") == [(2,)]


def write_elsewhere(path):
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    return subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    ).stderr


@pytest.mark.parametrize(
    "expression", ["(pid || name)", "(name || coalesce(pid, '-'))", "(coalesce(pid, name))"]
)
def test_a_link_that_a_key_may_depend_on_is_not_set_null(make, expression):
    make(
        f"CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE r (name TEXT, pid REFERENCES p (id), g AS {expression}"
        " UNIQUE); INSERT INTO p VALUES (7); INSERT INTO r (name, pid) VALUES ('a', 7);",
        "s.db",
    )
    with pytest.raises(SelectionError, match="a key holds a generated column, which may depend on it"):
        merge(exclude=("p",), links=("r.pid=null",))
    assert not Path("t.db").exists()


def test_a_schema_that_names_main_is_refused_by_name(make):
    schema = ROWS + "CREATE VIEW v AS SELECT * FROM main.r;"
    make(schema + "INSERT INTO r VALUES (1, 1), (2, 2);", "s.db")
    make(schema + "INSERT INTO r VALUES (1, 1);", "t.db")
    with pytest.raises(TargetError, match="v names the database `main`"):
        merge()
    assert query("t.db", "SELECT count(*) FROM r") == [(1,)]
    panicdb.export("s.db", "new.db", **ALL)
    assert panicdb.verify("s.db", "new.db").ok


def test_sources_of_one_name_in_two_directories_are_two(make, tmp_path, monkeypatch):
    for number, name in enumerate(("a", "b"), 1):
        (tmp_path / name).mkdir()
        make(f"{ROWS} INSERT INTO r VALUES ({number}, {number});", f"{name}/s.db")
        monkeypatch.chdir(tmp_path / name)
        merge("s.db", "../t.db")
    receipt = json.loads(Path("../t.db.receipt.json").read_text(encoding="utf-8"))
    assert [part["source"] for part in receipt["before"]] == ["s.db"]
    assert str(tmp_path) not in json.dumps(receipt)
    with pytest.raises(SourceError, match="merged from 2 sources"):
        panicdb.verify("s.db", "../t.db")


@pytest.mark.parametrize("existing", ["merge", "replace"])
def test_a_receipt_elsewhere_takes_the_one_beside_the_target_away(make, existing):
    make(ROWS + "INSERT INTO r VALUES (1, 1), (2, 2), (3, 3);", "s.db")
    panicdb.export("s.db", "t.db", root="r", roots=("1",))
    panicdb.export("s.db", "t.db", root="r", roots=("2", "3"), existing=existing, receipt="o.json")
    assert not Path("t.db.receipt.json").exists()
    assert panicdb.verify("s.db", "t.db", receipt="o.json").ok
    assert len(json.loads(Path("o.json").read_text(encoding="utf-8"))["before"]) == (existing == "merge")


@pytest.mark.parametrize("how", ["another file's", "an older file's", "of other rows"])
def test_a_receipt_of_other_rows_is_not_taken_for_the_targets(make, how):
    make(ROWS + "INSERT INTO r VALUES (1, 1), (2, 2), (3, 3);", "s.db")
    panicdb.export("s.db", "t.db", root="r", roots=("1",))
    if how == "of other rows":
        change("t.db", "INSERT INTO r VALUES (77, 7)")
    elif how == "an older file's":
        shutil.copy("t.db", "older.db")
        merge(**ids(3))
        os.replace("older.db", "t.db")
    else:
        os.unlink("t.db")
        make(ROWS + "INSERT INTO r VALUES (9, 9), (77, 7);", "t.db")
    merge(**ids(2))
    receipt = json.loads(Path("t.db.receipt.json").read_text(encoding="utf-8"))
    assert [part.get("unknown") for part in receipt["before"]] == [True]
    with pytest.raises(SourceError, match="does not know what the file held"):
        panicdb.verify("s.db", "t.db")


def test_a_receipt_beside_an_empty_file_is_not_its_own(make):
    make(ROWS + "INSERT INTO r VALUES (1, 1), (2, 2);", "s.db")
    panicdb.export("s.db", "t.db", root="r", roots=("1",))
    os.unlink("t.db")
    make(ROWS, "t.db")
    merge(**ids(2))
    assert json.loads(Path("t.db.receipt.json").read_text(encoding="utf-8"))["before"] == []
    assert panicdb.verify("s.db", "t.db").ok


@pytest.mark.parametrize(
    "text",
    [
        '{"panicdb_receipt": 1}',
        '{"panicdb_receipt": 1, "before": null}',
        '{"panicdb_receipt": 1, "before": [3]}',
        '{"panicdb_receipt": 1, "before": {"a": 1}}',
        '{"panicdb_receipt": 1, "tables": [1], "before": []}',
        '{"panicdb_receipt": 1, "tables": {"r": 1}, "before": []}',
        '{"panicdb_receipt": 1, "tables": [{"name": [], "rows": 1}]}',
    ],
)
def test_a_damaged_receipt_tells_nothing_and_breaks_nothing(make, text):
    make(ROWS + "INSERT INTO r VALUES (1, 1), (2, 2);", "s.db")
    panicdb.export("s.db", "t.db", root="r", roots=("1",))
    Path("t.db.receipt.json").write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=r"t\.db\.receipt\.json"):
        panicdb.verify("s.db", "t.db")
    merge(**ids(2))
    (before,) = json.loads(Path("t.db.receipt.json").read_text(encoding="utf-8"))["before"]
    assert before == {"unknown": True, "rows": 1}


@pytest.mark.parametrize(
    ("columns", "values", "chosen", "rows"),
    [
        ("a, b UNIQUE", "(1, NULL), (1, NULL)", ("rowid = 1", "rowid = 2"), 1),
        ("a, b UNIQUE", "(1, NULL), (1, NULL), (1, 5)", ("rowid IN (1, 2)", "rowid IN (1, 3)"), 3),
        (
            "a, b TEXT PRIMARY KEY",
            "(1, NULL), (1, NULL), (2, 'k')",
            ("rowid IN (1, 3)", "rowid IN (2, 3)"),
            2,
        ),
        ("a, b INTEGER NOT NULL UNIQUE", "(1, 1), (1, 2)", ("rowid = 1", "1"), 2),
    ],
)
def test_verify_counts_what_no_key_tells_apart_as_the_merge_does(make, columns, values, chosen, rows):
    make(f"CREATE TABLE r ({columns}); INSERT INTO r VALUES {values};", "s.db")
    for where in chosen:
        merge(all_roots=False, where=where)
    assert query("t.db", "SELECT count(*) FROM r") == [(rows,)]
    report = panicdb.verify("s.db", "t.db")
    assert report.ok, report.findings


def test_a_link_of_one_part_binds_the_rows_of_that_part_alone(make):
    make(
        "CREATE TABLE r (id INTEGER PRIMARY KEY, pv); CREATE TABLE p (id INTEGER PRIMARY KEY);"
        "INSERT INTO p VALUES (1), (2); INSERT INTO r VALUES (1, 1), (2, 2);",
        "s.db",
    )
    merge(**ids(1))
    merge(**ids(2), links=("r.pv->p.id=follow",))
    report = panicdb.verify("s.db", "t.db")
    assert report.ok, report.findings


@pytest.mark.fault(30)
def test_a_replacement_that_finds_a_writer_leaves_the_journal_mode_alone(make, monkeypatch):
    """The writer comes right after the log is gone, before the file is locked."""
    make(ROWS + "INSERT INTO r VALUES (1, 1);", "s.db")
    make("PRAGMA journal_mode = WAL;" + ROWS, "t.db")
    wait = exchange._patiently
    with closing(sqlite3.connect("t.db", isolation_level=None, timeout=0)) as writer:

        def meddled(raw, statement, *rest):
            if statement == "BEGIN IMMEDIATE":
                writer.execute("BEGIN IMMEDIATE")
                try:
                    return wait(raw, statement, *rest)
                finally:
                    writer.execute("ROLLBACK")
            return wait(raw, statement, *rest)

        monkeypatch.setattr(exchange, "_patiently", meddled)
        with pytest.raises(TargetError, match="in use by another program"):
            panicdb.export("s.db", "t.db", existing="replace", timeout=0.1, **ALL)
    assert query("t.db", "PRAGMA journal_mode") == [("wal",)]
    assert query("t.db", "SELECT count(*) FROM r") == [(0,)]


@pytest.mark.parametrize("body", ["DELETE FROM nosuch", "SELECT myfunc(old.x)"])
def test_triggers_on_delete_are_not_even_compiled(make, body):
    schema = f"{ROWS} CREATE TRIGGER tr AFTER DELETE ON r BEGIN {body}; END; CREATE TABLE z (a INTEGER PRIMARY KEY);"
    make(schema + "INSERT INTO r VALUES (1, 1);", "s.db")
    make(schema, "t.db")
    merge()
    assert query("t.db", "SELECT * FROM r") == [(1, 1)]


@pytest.mark.parametrize("columns", [990, 991])
@pytest.mark.parametrize("key", [" INTEGER PRIMARY KEY", pytest.param("", marks=pytest.mark.prove)])
def test_very_wide_rows_are_merged_or_refused_in_words(make, columns, key):
    schema = f"CREATE TABLE r (c0{key}, {', '.join(f'c{n}' for n in range(1, columns))});"
    make(f"{schema} INSERT INTO r (c0, c1) VALUES (1, 1), (2, 2);", "s.db")
    make(f"{schema} INSERT INTO r (c0, c1) VALUES (1, 1);", "t.db")
    if columns == 990:
        merge()
        assert query("t.db", "SELECT c0, c1 FROM r") == [(1, 1), (2, 2)]
        return
    with pytest.raises(TargetError, match="r: has 991 columns; rows of at most 990 are compared"):
        merge()


def test_a_counter_that_counts_nothing_is_left_out(make):
    make(
        "CREATE TABLE z (id INTEGER PRIMARY KEY AUTOINCREMENT);"
        f"{ROWS} INSERT INTO r VALUES (1, 1); INSERT INTO sqlite_sequence VALUES ('r', 9); DROP TABLE z;",
        "s.db",
    )
    make(ROWS, "t.db")
    merge()
    panicdb.export("s.db", "new.db", **ALL)
    for path in ("t.db", "new.db"):
        assert query(path, "SELECT * FROM r") == [(1, 1)]
        assert panicdb.verify("s.db", path, **ALL).ok
