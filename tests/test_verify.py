"""Proof: which side changed, what else a target may hold, what a damaged file leads to, what a sealed receipt is worth."""

import copy
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import panicdb
from panicdb.digest import VERSION
from panicdb.errors import InterruptedRunError, PanicDBError, SourceError, UsageError
from panicdb.seals import mark
from panicdb.values import Monitor
from panicdb.verification import ALL_CHECKS

LAB = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
CREATE TABLE site (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE);
CREATE TABLE lab (id TEXT NOT NULL PRIMARY KEY, site_id INTEGER REFERENCES site (id), title TEXT);
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    lab_id TEXT REFERENCES lab (id),
    after INTEGER REFERENCES run (id),
    note TEXT,
    image BLOB,
    size INTEGER GENERATED ALWAYS AS (length(image)) VIRTUAL
);
CREATE TABLE log (run_id INTEGER REFERENCES run (id), line TEXT);
CREATE TABLE visitor (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
CREATE INDEX run_lab ON run (lab_id);
INSERT INTO alembic_version VALUES ('cafe');
INSERT INTO site VALUES (1, 'north'), (2, 'south');
INSERT INTO lab VALUES ('bern', 1, 'Bern'), ('bari', 2, 'Bari'), ('oslo', 1, 'Oslo');
INSERT INTO run (id, lab_id, after, note, image) VALUES
    (1, 'bern', NULL, 'first', x'00ff'), (2, 'bern', 1, NULL, NULL), (3, 'bari', NULL, 'third', x''),
    (4, 'oslo', 4, 'fourth', NULL), (5, 'bari', 1, 'fifth', NULL);
INSERT INTO log VALUES (1, 'up'), (1, 'up'), (2, 'down'), (3, 'up'), (3, 'up'), (3, 'up');
INSERT INTO visitor (name) VALUES ('v'), ('w');
"""


@pytest.fixture
def lab(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_db(LAB, "lab.db")


def export(*roots, target="out.db", source="lab.db", **more):
    return panicdb.export(source, target, roots=roots, root="lab", **more)


def merge(*roots, **more):
    return export(*roots, existing="merge", **more)


def verify(reference="lab.db", target="out.db", **more):
    return panicdb.verify(reference, target, **more)


def verify_roots(*roots, **more):
    return verify(roots=roots, root="lab", **more)


def change(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def query(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def redefine(path, old, new):
    """Change the text of definitions, and nothing else."""
    change(
        path,
        "PRAGMA writable_schema = ON;"
        f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}');"
        "PRAGMA writable_schema = RESET",
    )


def receipt_of(path="out.db"):
    return json.loads(Path(f"{path}.receipt.json").read_text(encoding="utf-8"))


def failed(report):
    return {check.name for check in report.checks if check.status == "FAIL"}


def skipped(report):
    return {check.name: check.note for check in report.checks if check.status == "SKIPPED"}


def codes(report):
    return sorted({finding.code for finding in report.findings})


def found(report):
    return [(finding.code, finding.text) for finding in report.findings]


# Which side changed


BERN = "bern"
CHANGES = {
    "a value": ("UPDATE run SET note = 'other' WHERE id = 1", ("run",)),
    "a row less": ("DELETE FROM log WHERE rowid = 1", ("log",)),
    "a row more": ("INSERT INTO log VALUES (1, 'again')", ("log",)),
    "two tables": ("UPDATE site SET name = 'x' WHERE id = 1; UPDATE lab SET title = 'y' WHERE id = 'bern'", ("lab", "site")),
    "an index": ("CREATE INDEX more ON run (note)", ("schema",)),
    "a revision": ("UPDATE alembic_version SET version_num = 'beef'", ("revision",)),
    "a column": ("ALTER TABLE visitor ADD COLUMN more TEXT", ("schema",)),
}  # fmt: skip


@pytest.fixture
def sealed(lab):
    """A sealed copy of one lab."""
    export(BERN, seal=True)


@pytest.mark.parametrize("way", ["beside", "given", "clone"])
def test_untouched_sides_are_exact(lab, way):
    if way == "clone":
        panicdb.clone("lab.db", "out.db", seal=True)
    else:
        export(BERN, seal=True, receipt="given.json" if way == "given" else True)
    given = {"receipt": "given.json"} if way == "given" else {}
    report = verify(**given)
    assert (report.verdict, report.findings) == ("EXACT", ())
    assert (report.since.source, report.since.target) == ((), ())
    change("out.db", "DELETE FROM run WHERE id = 5")
    change("lab.db", "UPDATE lab SET title = 'other' WHERE id = 'bern'")
    report = verify(**given)
    assert (report.since.source, report.since.target) == (("lab",), ("run",))


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_target_is_told_even_where_the_source_changed_alike(sealed, kind):
    script, names = CHANGES[kind]
    change("out.db", script)
    report = verify()
    assert (report.verdict, report.since.target, report.since.source) == ("DIFFERENT", names, ())
    assert "RCP001" in codes(report)
    change("lab.db", script)
    report = verify()
    assert (report.verdict, codes(report)) == ("DIFFERENT", ["RCP001"])
    assert set(report.since.target) - {"visitor"} == set(report.since.source) - {"visitor"} == set(names)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_source_that_moved_on_is_told(sealed, kind):
    script, names = CHANGES[kind]
    change("lab.db", script)
    report = verify()
    assert (report.verdict, report.since.target) == ("DIFFERENT", ())
    assert set(report.since.source) - {"visitor"} == set(names)
    assert "RCP001" not in codes(report)


def test_both_sides_are_told_apart(sealed):
    change("lab.db", "UPDATE lab SET title = 'source' WHERE id = 'bern'")
    change("out.db", "UPDATE run SET note = 'target' WHERE id = 1")
    report = verify()
    assert (report.since.source, report.since.target) == (("lab",), ("run",))
    assert codes(report) == ["CNT003", "RCP001"]


def test_the_command_says_which_side_and_fails(lab, cli):
    export(BERN, seal=True)
    result = cli("verify", "lab.db", "out.db")
    assert result.exit_code == 0
    assert "out.db.receipt.json: nothing changed on either side\n" in result.stdout
    change("out.db", "UPDATE run SET note = 'other' WHERE id = 1")
    change("lab.db", "UPDATE lab SET title = 'other' WHERE id = 'bern'")
    result = cli("verify", "lab.db", "out.db")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "RCP001 run: the target is not what its receipt says\n" in result.stdout
    told = "out.db.receipt.json: the target was changed or damaged (run); the source moved on (lab)\n"
    assert told in result.stdout


@pytest.mark.parametrize(
    "script",
    [
        "UPDATE run SET note = 'other' WHERE id IN (3, 4); DELETE FROM log WHERE run_id = 3",
        "INSERT INTO lab VALUES ('new', 2, 'New'); INSERT INTO run (id, lab_id) VALUES (90, 'new')",
        "UPDATE visitor SET name = 'x'; DELETE FROM visitor WHERE id = 1",
    ],
)
def test_rows_outside_of_the_closure_do_not_matter(lab, script):
    export(BERN, seal=True)
    change("lab.db", script)
    report = verify()
    assert (report.verdict, report.since.source, report.since.target) == ("EXACT", (), ())


def test_a_counter_that_moved_on_is_no_difference_of_a_subset(lab):
    export(BERN, seal=True)
    change("lab.db", "INSERT INTO site (name) VALUES ('west'); INSERT INTO visitor (name) VALUES ('x')")
    report = verify()
    assert (report.verdict, report.since.source, report.since.target) == ("EXACT", ("sequences",), ())


def test_a_counter_that_moved_on_is_one_of_a_clone(lab):
    panicdb.clone("lab.db", "out.db", seal=True)
    change("lab.db", "UPDATE sqlite_sequence SET seq = 90")
    report = verify()
    assert (failed(report), report.since.source, report.since.target) == ({"sequences"}, ("sequences",), ())


@pytest.mark.parametrize("value", ["0", "99"])
def test_a_counter_of_a_subset_that_can_not_be_right_fails(lab, value):
    """Below a number in use, or beyond the source's."""
    export(BERN)
    change("out.db", f"UPDATE sqlite_sequence SET seq = {value} WHERE name = 'site'")
    assert failed(verify()) == {"sequences"}


MIGRATIONS = {
    "a column more": ("ALTER TABLE run ADD COLUMN more TEXT DEFAULT 'x'", {"schema", "run"}),
    "a column less": ("ALTER TABLE run DROP COLUMN note", {"schema", "run"}),
    "a column renamed": ("ALTER TABLE run RENAME COLUMN note TO remark", {"schema", "run"}),
    "a table more": ("CREATE TABLE more (a)", {"schema", "more"}),
    "a table less": ("DROP TABLE log", {"schema", "log"}),
    "a table renamed": ("ALTER TABLE log RENAME TO diary", {"schema", "log", "diary"}),
}


@pytest.mark.parametrize("kind", MIGRATIONS)
def test_a_migrated_source_is_not_the_target_s_fault(sealed, kind):
    script, names = MIGRATIONS[kind]
    change("lab.db", script)
    report = verify()
    assert (set(report.since.source), report.since.target) == (names, ())
    assert "schema" in failed(report)
    assert "RCP001" not in codes(report)


@pytest.mark.parametrize("kind", MIGRATIONS)
def test_a_migrated_target_is_not_the_source_s_fault(sealed, kind):
    script, names = MIGRATIONS[kind]
    change("out.db", script)
    report = verify()
    assert report.since.source == ()
    assert "schema" in report.since.target
    assert set(report.since.target) <= names
    assert {"SCH001", "SCH002"} & set(codes(report))


def test_a_spelling_is_no_change(sealed):
    """White space, case, quotes and comments of definitions, on either side."""
    redefine("lab.db", "CREATE TABLE lab (id", 'create   table "lab" ( /* its name */ [id]')
    redefine("out.db", "title TEXT", '"title"  TEXT -- spelled out\n')
    report = verify()
    assert (report.verdict, report.since.source, report.since.target) == ("EXACT", (), ())


def test_a_seal_is_of_each_side_s_own_schema(lab):
    """Only names differ, and did so when rows were merged."""
    export(BERN, seal=True)
    change("out.db", "DROP INDEX run_lab; CREATE INDEX by_lab ON run (lab_id)")
    merge("bari", seal=True)
    held = receipt_of()["sealed"]
    assert held["schema"] != held["source_schema"]
    report = verify()
    assert (report.verdict, report.since.source, report.since.target) == ("EXACT", (), ())
    assert "1 cosmetic difference" in next(each.note for each in report.checks if each.name == "schema")
    assert verify("out.db.receipt.json").ok


def test_of_an_unsealed_receipt_nothing_is_known_since(lab):
    export(BERN)
    assert verify().since is None


def test_what_was_left_out_by_choice_is_not_told_of(lab):
    export(BERN, seal=True)
    change("out.db", "UPDATE run SET note = 'x'; CREATE INDEX more ON run (note)")
    report = verify(skip=["content", "schema"])
    assert (report.verdict, report.since.target) == ("EXACT", ())


def test_a_root_that_the_source_lost_is_refused_with_its_name(sealed, cli):
    change("lab.db", "DELETE FROM lab WHERE id = 'bern'")
    result = cli("verify", "lab.db", "out.db")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "lab row bern not found in source" in result.stderr


# Further rows


@pytest.fixture
def two_labs(lab):
    """The lab in Oslo was merged into an export of the one in Bern, whose receipt was kept."""
    export(BERN, seal=True)
    shutil.copy("out.db.receipt.json", "first.json")
    merge("oslo")


def test_a_target_may_hold_more_if_the_source_does(two_labs):
    plain = verify_roots(BERN)
    assert (plain.verdict, failed(plain)) == ("DIFFERENT", {"rows", "content"})
    assert "CNT002" in codes(plain)
    assert verify_roots(BERN, contains=True).verdict == "EXACT"
    given = verify(receipt="first.json", contains=True)
    assert (given.verdict, given.since.source, given.since.target) == ("EXACT", (), ())


def test_contains_is_an_option_of_the_command(two_labs, cli):
    chosen = ("--receipt", "first.json")
    assert cli("verify", "lab.db", "out.db", *chosen).exit_code == 1
    result = cli("verify", "lab.db", "out.db", *chosen, "--contains")
    assert result.exit_code == 0
    assert ", and what else the source holds\n" in result.stdout


BEYOND = {
    "a further row that the source has otherwise": (
        "UPDATE run SET note = 'other' WHERE id = 4",
        [("CNT003", "run: 1 row otherwise in the target (note): id = 4")],
    ),
    "a further row that the source lacks": (
        "INSERT INTO lab VALUES ('new', 1, 'New')",
        [("CNT002", "lab: 1 row in the target only: id = 'new'")],
    ),
    "more rows than the source has": (
        "INSERT INTO site VALUES (3, 'a'), (4, 'b')",
        [
            ("ROW001", "site: 2 expected, 4 in the target"),
            ("CNT002", "site: 2 rows in the target only: id = 3; id = 4"),
            ("SEQ001", "sequences: x"),
        ],
    ),
    "a row of the closure is missing": (
        "DELETE FROM run WHERE id = 2",
        [
            ("CNT001", "run: 1 row missing in the target: id = 2"),
            ("FKY001", "log.run_id->run.id: 1 rows lead nowhere, 0 do in the source"),
        ],
    ),
    "a row of the closure is otherwise": (
        "UPDATE lab SET title = NULL WHERE id = 'bern'",
        [("CNT003", "lab: 1 row otherwise in the target (title): id = 'bern'")],
    ),
    "rows of the closure are missing, and a table is short": (
        "DELETE FROM run WHERE id IN (2, 4, 5)",
        [
            ("ROW001", "run: 3 to 5 expected, 1 in the target"),
            ("CNT001", "run: 2 rows missing in the target: id = 2; id = 5"),
            ("FKY001", "log.run_id->run.id: 1 rows lead nowhere, 0 do in the source"),
        ],
    ),
    "a table that the source lacks": (
        "CREATE TABLE more (a); INSERT INTO more VALUES (1)",
        [
            ("SCH002", "semantic: table more: only in the target"),
            ("ROW002", "more: 1 rows in a table the source does not have"),
        ],
    ),
}


@pytest.mark.parametrize("kind", BEYOND)
def test_what_a_target_may_not_hold_beside(two_labs, kind):
    script, wanted = BEYOND[kind]
    change("out.db", script)
    report = verify_roots(BERN, contains=True)
    assert (report.verdict, found(report)) == ("DIFFERENT", wanted)


@pytest.fixture
def words(make_db, tmp_path, monkeypatch):
    """Rows that no key tells apart: two equal ones are owned, and two others are not."""
    monkeypatch.chdir(tmp_path)
    make_db(
        "CREATE TABLE lab (id INTEGER PRIMARY KEY); CREATE TABLE word (text, lab REFERENCES lab (id));"
        "INSERT INTO lab VALUES (1), (2);"
        "INSERT INTO word VALUES ('a', 1), ('a', 1), ('b', 1), ('c', 2), ('c', 2), ('A', 2), (1, 2), (1.0, 2)",
        "lab.db",
    )
    export("1")
    change("out.db", "INSERT INTO lab VALUES (2)")


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("INSERT INTO word VALUES ('c', 2)", []),
        ("INSERT INTO word VALUES ('c', 2), ('c', 2), ('A', 2), (1.0, 2), (1, 2)", []),
        ("INSERT INTO word VALUES ('c', 2), ('c', 2), ('c', 2)", ["CNT004"]),
        ("INSERT INTO word VALUES ('a', 1)", ["CNT004"]),
        ("DELETE FROM word WHERE rowid = 1", ["CNT004", "ROW001"]),
        ("DELETE FROM word WHERE rowid = 1; INSERT INTO word VALUES ('c', 2)", ["CNT004"]),
        ("DELETE FROM word WHERE text = 'b'; INSERT INTO word VALUES ('c', 2)", ["CNT001"]),
        ("INSERT INTO word VALUES ('C', 2)", ["CNT002"]),
        ("INSERT INTO word VALUES (1.0, 2), (1.0, 2)", ["CNT004"]),
    ],
)
def test_rows_without_a_key_may_be_there_as_often_as_in_the_source(words, script, wanted):
    change("out.db", script)
    assert codes(verify_roots("1", contains=True)) == wanted


def test_a_row_of_the_closure_is_as_its_policies_make_it(lab):
    """In the source it leads to a row of another lab; as a further row it might."""
    choice = {"links": ["run.after=stay,null"]}
    export("bari", **choice)
    assert query("out.db", "SELECT after FROM run WHERE id = 5") == [(None,)]
    export(BERN, **choice, existing="merge")
    assert verify_roots("bari", contains=True, **choice).ok
    change("out.db", "UPDATE run SET after = 1 WHERE id = 5")
    report = verify_roots("bari", contains=True, **choice)
    assert found(report) == [("CNT003", "run: 1 row otherwise in the target (after): id = 5")]
    shown = verify_roots("bari", contains=True, show_values=True, **choice)
    assert shown.findings[0].details == ("id = 5: after NULL became 1",)


def test_contains_needs_rows_to_look_for(lab, cli):
    panicdb.clone("lab.db", "out.db", seal=True)
    for arguments in (
        ("lab.db", "out.db"),
        ("lab.db", "out.db", "--receipt", "out.db.receipt.json"),
        ("out.db.receipt.json", "out.db"),
    ):
        result = cli("verify", *arguments, "--contains")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--contains" in result.stderr
    Path("out.db.receipt.json").unlink()
    assert cli("verify", "lab.db", "out.db", "--contains").exit_code == 2


def test_a_receipt_as_reference_takes_no_selection(sealed, cli):
    for more in (["bern", "--root", "lab"], ["--all"], ["--receipt", "out.db.receipt.json"]):
        result = cli("verify", "out.db.receipt.json", "out.db", *more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "a receipt says itself which rows there are" in result.stderr


# Values


SECRETS = ("s3cret-before", "s3cret-after")


def test_values_are_shown_only_where_they_were_asked_for(lab, cli):
    export(BERN, seal=True)
    change("lab.db", f"UPDATE run SET note = '{SECRETS[0]}', image = x'73336372657430' WHERE id = 1")
    change(
        "out.db",
        f"UPDATE run SET note = '{SECRETS[1]}' WHERE id = 1; INSERT INTO log VALUES (1, '{SECRETS[1]}')",
    )
    for more in ([], ["--json"], ["-v"]):
        result = cli("verify", "lab.db", "out.db", *more)
        assert result.exit_code == 1
        assert [word for word in (*SECRETS, "7333637265", "s3cret") if word in result.output] == []
        assert "id = 1" in result.output
    plain = as_json(cli("verify", "lab.db", "out.db", "--json"))
    assert all(finding["details"] == [] for finding in plain["findings"])
    shown = "id = 1: image x'73336372657430' became x'00ff', note 's3cret-before' became 's3cret-after'"
    result = cli("verify", "lab.db", "out.db", "--show-values")
    assert f"CNT003 run: 1 row otherwise in the target (image, note): id = 1\n  {shown}\n" in result.stdout
    findings = as_json(cli("verify", "lab.db", "out.db", "--show-values", "--json"))["findings"]
    assert [finding["details"] for finding in findings if finding["code"] == "CNT003"] == [[shown]]
    assert all(finding["details"] == [] for finding in findings if finding["code"] != "CNT003")


# Verdicts and exit codes


@pytest.fixture
def unreadable(lab):
    """A clone, and a source that lost its way through one large value: rows are counted, but can't be read."""
    change("lab.db", f"UPDATE visitor SET name = '{'s3cret' * 5000}' WHERE id = 2")
    panicdb.clone("lab.db", "out.db")
    pages = Path("lab.db").read_bytes()
    (size,) = query("lab.db", "PRAGMA page_size")[0]
    starts = range(0, len(pages), size)
    first = next(at for at in starts if b"s3crets3cret" in pages[at : at + 30] and any(pages[at : at + 4]))
    with open("lab.db", "r+b") as file:
        file.seek(first)
        file.write(b"\xee" * 4)


def as_json(result):
    return json.loads(result.stdout)


def test_a_source_that_can_not_be_read_is_no_difference(unreadable, cli):
    report = verify()
    assert (report.verdict, failed(report), list(skipped(report))) == ("INCOMPLETE", set(), ["content"])
    assert skipped(report)["content"] == "lab.db: the database is damaged or truncated"
    assert [each.table for each in report.coverage.compared] == ["alembic_version"]
    assert {"site", "lab", "run", "log", "visitor"} <= set(report.coverage.left_out)
    result = cli("verify", "lab.db", "out.db", "--show-values")
    assert (result.exit_code, "s3cret" in result.output) == (3, False)
    assert "SKIPPED  content       lab.db: the database is damaged or truncated\n" in result.stdout
    assert "out.db could not be compared wholly with lab.db\n" in result.stdout


def test_a_difference_outranks_a_check_that_could_not_be_made(unreadable, cli):
    change("out.db", "UPDATE sqlite_sequence SET seq = 77")
    report = verify()
    assert (report.verdict, failed(report), list(skipped(report))) == (
        "DIFFERENT",
        {"sequences"},
        ["content"],
    )
    assert cli("verify", "lab.db", "out.db").exit_code == 1


def test_what_is_left_out_is_a_choice_and_no_failure(unreadable, cli):
    report = verify(skip=["content"])
    assert (report.verdict, skipped(report)) == ("EXACT", {"content": "by choice"})
    assert cli("verify", "lab.db", "out.db", "--skip", "content").exit_code == 0


@pytest.mark.parametrize("name", ALL_CHECKS)
def test_every_check_may_be_left_out(lab, cli, name):
    export(BERN, seal=True)
    for reference in ("lab.db", "out.db.receipt.json"):
        report = verify(reference, skip=[name])
        assert (report.verdict, list(skipped(report))) == ("EXACT", [name])


def test_an_unknown_check_is_a_matter_of_usage(lab, cli):
    result = cli("verify", "lab.db", "nowhere.db", "--skip", "contents")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no check 'contents'" in result.stderr
    assert ", ".join(ALL_CHECKS) in result.stderr
    with pytest.raises(UsageError):
        verify(skip=["contents"])
