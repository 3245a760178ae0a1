"""Merging into a target that exists: what is skipped, what is refused, what stays as it was, what is recorded."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import closing
from pathlib import Path

import pytest

import panicdb
from panicdb.errors import ConflictError, InterruptedRunError, TargetError
from panicdb.values import Monitor

quick = pytest.mark.quick

LAB = """
CREATE TABLE site (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE);
CREATE TABLE lab (id TEXT PRIMARY KEY, site_id INTEGER REFERENCES site (id), title TEXT);
CREATE TABLE run (
    id INTEGER PRIMARY KEY, lab_id TEXT REFERENCES lab (id), after INTEGER REFERENCES run (id), image BLOB
);
CREATE TABLE log (run_id INTEGER REFERENCES run (id), line TEXT);
CREATE TABLE noticed (run_id INTEGER);
CREATE TRIGGER notice AFTER INSERT ON run BEGIN INSERT INTO noticed VALUES (new.id); END;
INSERT INTO site VALUES (1, 'north'), (2, 'south');
INSERT INTO lab VALUES ('bern', 1, 'Bern'), ('bari', 2, 'Bari'), ('oslo', 1, 'Oslo');
INSERT INTO run VALUES (1, 'bern', NULL, x'00ff'), (2, 'bern', 3, NULL), (3, 'bari', NULL, x''), (4, 'oslo', 4, NULL);
INSERT INTO log VALUES (1, 'up'), (1, 'up'), (3, 'down');
DELETE FROM noticed;
"""


@pytest.fixture
def lab(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_db(LAB, "lab.db")


def merge(*roots, source="lab.db", target="out.db", **more):
    return panicdb.export(source, target, roots=roots, root="lab", existing="merge", **more)


def query(path, sql, *values):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, values).fetchall()


def change(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def everything(path):
    tables = [
        name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    ]
    return {name: sorted(query(path, f'SELECT * FROM "{name}"'), key=repr) for name in tables}


# What comes


@quick
def test_one_after_the_other_is_the_same_as_all_at_once(lab):
    for root in ("bern", "bari", "oslo"):
        merge(root)
    panicdb.export("lab.db", "once.db", all_roots=True, root="lab")
    assert everything("out.db") == everything("once.db")


@quick
def test_an_absent_target_is_made(lab):
    receipt = merge("bern")
    assert (receipt.command, receipt.before) == ("export", ())
    assert oct(os.stat("out.db").st_mode & 0o777) == "0o600"


@quick
def test_a_second_run_changes_no_byte(lab):
    merge("bern")
    merge("bari")
    before = digest("out.db")
    receipt = merge("bern")
    assert digest("out.db") == before
    assert sum(table["added"] for table in receipt.merged) == 0
    assert all(table["present"] == table["rows"] for table in receipt.merged)


@quick
def test_a_support_row_of_the_earlier_export_is_owned_by_this_one(lab):
    """Run 3 of Bari came with Bern, because run 2 comes after it; Bari itself came along, its log did not."""
    merge("bern")
    assert query("out.db", "SELECT id FROM lab ORDER BY id") == [("bari",), ("bern",)]
    assert query("out.db", "SELECT * FROM log WHERE run_id = 3") == []
    receipt = merge("bari")
    assert {each["name"]: (each["present"], each["added"]) for each in receipt.merged} == {
        "site": (2, 0),
        "lab": (2, 0),
        "run": (2, 0),
        "log": (0, 1),
    }
    assert query("out.db", "SELECT * FROM log WHERE run_id = 3") == [(3, "down")]


@quick
@pytest.mark.fault(34)
def test_triggers_stay_and_do_not_fire(lab):
    merge("bern")
    merge("oslo")
    triggers = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
    assert query("out.db", triggers) == query("lab.db", triggers)
    assert query("out.db", "SELECT * FROM noticed") == []


@quick
@pytest.mark.fault(35)
@pytest.mark.parametrize(("theirs", "wanted"), [(1, 2), (70, 70)])
def test_counters_take_the_maximum(lab, theirs, wanted):
    merge("bern")
    change("out.db", f"UPDATE sqlite_sequence SET seq = {theirs}")
    merge("oslo")
    assert query("out.db", "SELECT name, seq FROM sqlite_sequence") == [("site", wanted)]


@quick
def test_rows_without_a_key_are_as_many_as_on_the_side_with_more(lab):
    merge("bern")
    change("out.db", "INSERT INTO log VALUES (1, 'mine'), (1, x'7570')")
    change("lab.db", "INSERT INTO log VALUES (1, 'up'), (1, NULL), (1, NULL)")
    merge("bern")
    assert sorted(query("out.db", "SELECT line FROM log"), key=repr) == [
        ("mine",), ("up",), ("up",), ("up",), (None,), (None,), (b"up",)
    ]  # fmt: skip


@quick
def test_full_text_indexes_over_merged_rows_are_rebuilt(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_db(
        """
        CREATE TABLE page (id INTEGER PRIMARY KEY, text TEXT);
        CREATE VIRTUAL TABLE search USING fts5 (text, content = 'page', content_rowid = 'id');
        INSERT INTO page VALUES (1, 'one fish'), (2, 'two fish');
        INSERT INTO search (search) VALUES ('rebuild');
        """,
        "lab.db",
    )
    for root in ("1", "2"):
        panicdb.export("lab.db", "out.db", roots=[root], root="page", existing="merge")
    assert query("out.db", "SELECT rowid FROM search WHERE search MATCH 'fish' ORDER BY 1") == [(1,), (2,)]


@quick
def test_without_rowid_and_partial_keys(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_db(
        """
        CREATE TABLE kind (a TEXT COLLATE NOCASE, b INTEGER, c TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;
        CREATE UNIQUE INDEX exact ON kind (c COLLATE BINARY) WHERE b > 1;
        CREATE UNIQUE INDEX computed ON kind (c || b);
        INSERT INTO kind VALUES ('x', 1, 'p'), ('y', 2, 'q'), ('z', 3, 'r');
        """,
        "lab.db",
    )

    def take(where):
        return panicdb.export("lab.db", "out.db", where=where, root="kind", existing="merge")

    take("a = 'x'")
    assert sum(table["added"] for table in take("a <> 'z'").merged) == 1
    change("out.db", "INSERT INTO kind VALUES ('other', 7, 'r')")
    with pytest.raises(
        ConflictError, match=r"kind: a = 'z' and b = 3 is refused by an index or a constraint"
    ):
        take("a = 'z'")
    change("out.db", "UPDATE kind SET a = 'Z', b = 3 WHERE a = 'other'")
    with pytest.raises(ConflictError, match=r"kind: a = 'z' and b = 3 differs in a, b"):
        take("a = 'z'")


@quick
def test_a_column_of_another_type_is_other_content(lab):
    merge("bern")
    change("out.db", "UPDATE run SET image = CAST(image AS TEXT) WHERE id = 1")
    with pytest.raises(ConflictError, match=r"run: id = 1 differs in image"):
        merge("bern")


# What is refused


@quick
def test_conflicts_are_listed_and_nothing_changes(lab, cli):
    merge("bern")
    change(
        "out.db",
        "UPDATE site SET id = 9 WHERE id = 1; UPDATE run SET image = NULL, after = 1; UPDATE lab SET title = 'X'",
    )
    before = digest("out.db"), Path("out.db.receipt.json").read_bytes()
    result = cli("export", "lab.db", "out.db", "--root", "lab", "--merge", "bern")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error: out.db: 6 rows have a key that is there with other content; nothing was merged:",
        "  site: name = 'north' differs in id",
        "  lab: id = 'bern' differs in title",
        "  lab: id = 'bari' differs in title",
        "  run: id = 1 differs in after, image",
        "  run: id = 2 differs in after",
        "  run: id = 3 differs in after, image",
        "hint: merge into another file, or make source and target agree on these rows first",
    ]
    assert before == (digest("out.db"), Path("out.db.receipt.json").read_bytes())
    assert sorted(os.listdir()) == ["lab.db", "out.db", "out.db.receipt.json"]


@quick
def test_many_conflicts_are_counted(lab):
    change(
        "lab.db",
        "WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 99) "
        "INSERT INTO run SELECT i, 'bern', NULL, NULL FROM n",
    )
    merge("bern")
    change("out.db", "UPDATE run SET image = x'01'")
    with pytest.raises(ConflictError) as refused:
        merge("bern")
    lines = refused.value.message.splitlines()
    assert "93 rows have" in lines[0]
    assert len(lines) == 22
    assert lines[-1] == "  ... and 73 more"


@quick
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("ALTER TABLE run ADD COLUMN more", "its schema differs"),
        ("CREATE UNIQUE INDEX once ON log (line)", "its schema differs"),
        ("DROP TRIGGER notice", "its schema differs"),
        ("DROP TABLE site", "other tables|its schema differs"),
        (
            "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('beef')",
            "revision beef",
        ),
    ],
)
def test_another_schema_or_revision_is_refused(lab, script, words):
    merge("bern")
    change("out.db", "DELETE FROM log; " + script)
    before = digest("out.db")
    with pytest.raises(TargetError, match=words):
        merge("bari")
    assert digest("out.db") == before


@quick
@pytest.mark.parametrize("script", [LAB.replace("title", "Title"), LAB.replace("lab ", "LAB ")])
def test_another_spelling_is_refused(lab, script):
    """SQLite would take it for the same; a merge needs names it can rely on."""
    change("out.db", script)
    with pytest.raises(TargetError, match="its schema differs"):
        merge("bari")


@quick
def test_another_encoding_is_refused(lab):
    change("out.db", "PRAGMA encoding = 'UTF-16le'; CREATE TABLE site (id); DROP TABLE site;" + LAB)
    before = digest("out.db")
    with pytest.raises(TargetError, match="another encoding"):
        merge("bari")
    assert digest("out.db") == before
    assert sorted(os.listdir()) == ["lab.db", "out.db"]


@quick
def test_foreign_keys_hold_across_old_and_new_rows(lab):
    """What the target lacks through no fault of ours is not made worse, and does not stop the merge."""
    merge("bern")
    change("out.db", "DELETE FROM run WHERE id = 3")
    merge("oslo")
    assert len(query("out.db", "PRAGMA foreign_key_check")) == 1
    merge("bari")
    assert query("out.db", "PRAGMA foreign_key_check") == []


@quick
def test_a_clone_is_not_merged(lab):
    merge("bern")
    with pytest.raises(panicdb.PanicDBError, match="a clone is not merged"):
        panicdb.clone("lab.db", "out.db", existing="merge")


# A target in use


WRITER = textwrap.dedent("""
    import sqlite3, sys, time
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO log VALUES (1, 'theirs')")
    print("locked", flush=True)
    sys.stdin.readline()
    connection.execute(sys.argv[2])
    print("done", flush=True)
""")


@pytest.fixture
def writer():
    """Hold the target's write lock in another process, until told to let go."""
    started = []

    def begin(path, end):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, path, end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "locked\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_writer_of_the_target_is_waited_for(lab, writer, mode):
    merge("bern")
    change("out.db", f"PRAGMA journal_mode = {mode}")
    process = writer("out.db", "COMMIT")
    with pytest.raises(panicdb.PanicDBError, match="locked by another process") as refused:
        merge("bari", timeout=0.2)
    assert refused.value.exit_code == 3
    threading.Timer(0.3, lambda: (process.stdin.write("\n"), process.stdin.flush())).start()
    merge("bari", timeout=20)
    assert query("out.db", "SELECT count(*) FROM log WHERE line = 'theirs'") == [(1,)]
    assert query("out.db", "SELECT count(*) FROM log WHERE line = 'down'") == [(1,)]
    assert query("out.db", "PRAGMA journal_mode") == [(mode,)]


@pytest.mark.fault(30)
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_readers_of_the_target_see_all_or_nothing(lab, mode):
    """In rollback mode a reader in its transaction holds up the commit; in WAL mode it does not."""
    merge("bern")
    change("out.db", f"PRAGMA journal_mode = {mode}")
    with closing(sqlite3.connect("out.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM log").fetchall() == [(2,)]
        if mode == "delete":
            with pytest.raises(panicdb.PanicDBError, match="locked by another process"):
                merge("bari", timeout=0.2)
        else:
            merge("bari", timeout=0.2)
        assert reader.execute("SELECT count(*) FROM log").fetchall() == [(2,)]
        reader.execute("COMMIT")
        merge("bari")
        assert reader.execute("SELECT count(*) FROM log").fetchall() == [(3,)]


@quick
def test_an_interrupted_merge_changes_nothing(lab):
    merge("bern")
    before = digest("out.db")
    seen = []

    def report(progress):
        seen.append(progress.step)
        if progress.step == "checking":
            raise InterruptedRunError("SIGINT")

    with pytest.raises(InterruptedRunError):
        merge("bari", monitor=Monitor(report))
    assert seen[-3:] == ["merging", "merging", "checking"] or "merging" in seen
    assert digest("out.db") == before
    assert sorted(os.listdir()) == ["lab.db", "out.db", "out.db.receipt.json"]


# Receipts


@quick
def test_the_receipt_describes_the_whole_file_and_names_the_ones_before(lab):
    first = merge("bern")
    second = merge("oslo")
    third = merge("bari")
    found = json.loads(Path("out.db.receipt.json").read_text())
    assert found == json.loads(third.to_json())
    assert (found["command"], found["selection"]["ids"]) == ("merge", ["bari"])
    assert {table["name"]: table["rows"] for table in found["tables"]} == {
        "site": 2,
        "lab": 3,
        "run": 4,
        "log": 3,
    }
    assert [each["selection"]["ids"] for each in found["before"]] == [["bern"], ["oslo"]]
    assert [each["created"] for each in found["before"]] == [first.created, second.created]
    assert [each["command"] for each in found["before"]] == ["export", "merge"]
    assert found["before"][1]["tables"] == [dict(each) for each in second.merged]
    assert not any("before" in each for each in found["before"])


@quick
def test_a_repeated_run_is_recorded_once(lab):
    for root in ("bern", "bari", "bern", "bern"):
        receipt = merge(root)
    assert [each["selection"]["ids"] for each in receipt.before] == [["bari"]]


@quick
def test_verify_expects_the_union_of_all_that_was_merged(lab):
    for root in ("bern", "bari", "oslo"):
        merge(root)
        assert panicdb.verify("lab.db", "out.db").ok
    change("out.db", "DELETE FROM log WHERE rowid = 1")
    report = panicdb.verify("lab.db", "out.db")
    assert [(finding.code, finding.text.split(":")[0]) for finding in report.findings] == [
        ("ROW001", "log"),
        ("CNT004", "log"),
    ]


@quick
def test_verify_expects_of_equal_rows_without_a_key_the_larger_number(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_db(
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE line (a REFERENCES lab (id), b REFERENCES lab (id), text);
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO line VALUES (NULL, 1, 'x'), (NULL, 1, 'x'), (1, 2, 'y'), (1, 2, 'y'), (1, NULL, 'z');
        """,
        "lab.db",
    )
    for root in ("1", "2"):
        merge(root)
    assert query("out.db", "SELECT count(*) FROM line") == [(5,)]
    assert panicdb.verify("lab.db", "out.db").ok


@quick
def test_what_was_there_before_without_a_receipt_is_not_made_up(lab):
    merge("bern", receipt=False)
    assert not Path("out.db.receipt.json").exists()
    receipt = merge("oslo")
    assert receipt.before == ({"unknown": True, "rows": 9},)
    with pytest.raises(panicdb.PanicDBError, match="does not know what the file held before"):
        panicdb.verify("lab.db", "out.db")


@quick
def test_a_merge_without_receipt_removes_one_that_no_longer_tells_the_truth(lab):
    merge("bern")
    merge("oslo", receipt=False)
    assert not Path("out.db.receipt.json").exists()
    Path("out.db.receipt.json").write_text("my notes")
    merge("bari", receipt=False)
    assert Path("out.db.receipt.json").read_text() == "my notes"


@quick
def test_several_sources_are_named(lab):
    merge("bern")
    merge("oslo", source=os.path.abspath("lab.db"))
    assert panicdb.verify("lab.db", "out.db").ok
    shutil.copy("lab.db", "copy.db")
    merge("oslo", source="copy.db")
    with pytest.raises(panicdb.PanicDBError, match=r"merged from 2 sources: .*lab\.db, copy\.db"):
        panicdb.verify("lab.db", "out.db")


# The other ways in


@quick
def test_a_dry_run_tells_what_is_there_and_writes_nothing(lab, cli):
    merge("bern")
    before = {name: digest(name) for name in os.listdir()}
    result = cli("export", "lab.db", "out.db", "--root", "lab", "--merge", "--dry-run", "bari")
    assert result.exit_code == 0, result.stderr
    assert "merge: 6 of these rows are in the target already, 1 would be added" in result.stdout
    found = json.loads(
        cli("export", "lab.db", "out.db", "--root", "lab", "--merge", "--dry-run", "bari", "--json").stdout
    )
    assert found["present"] == {"site": 2, "lab": 2, "run": 2, "log": 0}
    assert {name: digest(name) for name in os.listdir()} == before
    change("out.db", "UPDATE run SET image = NULL")
    assert cli("export", "lab.db", "out.db", "--root", "lab", "--merge", "--dry-run", "bari").exit_code == 3


@quick
def test_the_two_ways_exclude_each_other(lab, cli):
    result = cli("export", "lab.db", "out.db", "bern", "--merge", "--replace")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        2,
        "error: --merge and --replace exclude each other",
    )


def test_experiments_one_after_the_other(experiments_db, tmp_path):
    """What callers rely on: the target is created if it does not exist, and extended if it does."""
    target = str(tmp_path / "out.db")
    found = [row[0] for row in query(experiments_db, "SELECT id FROM experimentconfig ORDER BY id")]
    for experiment in (found[0], found[1], found[0]):
        assert panicdb.export_experiments(str(experiments_db), target, [experiment]) is None
    assert [row[0] for row in query(target, "SELECT id FROM experimentconfig ORDER BY id")] == found[:2]
    assert panicdb.verify(str(experiments_db), target).ok
    with pytest.raises(ValueError, match="not found in source database"):
        panicdb.export_experiments(str(experiments_db), target, ["0" * 32])
    assert panicdb.verify(str(experiments_db), target).ok
