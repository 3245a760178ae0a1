"""Proof: which side changed, what a target may hold beside, what damage leads to, what a sealed receipt is worth."""

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
from panicdb import digester
from panicdb.digest import VERSION
from panicdb.errors import InterruptedRunError, PanicDBError, SourceError, UsageError
from panicdb.reports import ALL_CHECKS
from panicdb.seals import mark
from panicdb.values import Monitor

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
    "two tables": ("UPDATE site SET name = 'x' || id; UPDATE lab SET title = 'y' WHERE id = 'bern'", ("lab", "site")),
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
        [
            ("ROW001", "lab: 2 to 3 expected, 4 in the target"),
            ("CNT002", "lab: 1 row in the target only: id = 'new'"),
        ],
    ),
    "more rows than the source has": (
        "INSERT INTO site VALUES (3, 'a'), (4, 'b')",
        [
            ("ROW001", "site: 2 expected, 4 in the target"),
            ("CNT002", "site: 2 rows in the target only: id = 3; id = 4"),
            ("SEQ001", "site: stands at 2 in the source, at 4 in the target"),
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


def test_a_condition_that_meets_damage_is_not_called_wrong(unreadable, cli):
    result = cli("export", "lab.db", "new.db", "--root", "visitor", "--where", "name LIKE '%t'")
    assert (result.exit_code, "--where" in result.stderr) == (3, False), result.stderr
    assert "lab.db: the database is damaged or truncated" in result.stderr


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


# Damage


DAMAGED = """
PRAGMA page_size = 512;
CREATE TABLE lab (id TEXT NOT NULL PRIMARY KEY, title TEXT) WITHOUT ROWID;
CREATE TABLE run (id INTEGER PRIMARY KEY AUTOINCREMENT, lab_id TEXT REFERENCES lab (id), note TEXT, image BLOB);
CREATE TABLE log (run_id INTEGER REFERENCES run (id), line TEXT);
CREATE INDEX run_lab ON run (lab_id, note);
INSERT INTO lab VALUES ('bern', 'Bern'), ('bari', 'Bari');
WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25)
    INSERT INTO run
    SELECT i, iif(i % 2, 'bern', 'bari'), 'run ' || i, replace(hex(zeroblob(600 * (i = 7))), '0', 'x') FROM n;
INSERT INTO log SELECT id, 'line ' || id FROM run;
"""
SIZE = 512


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A source, and a sealed clone with some pages that are not in use."""
    folder = tmp_path_factory.mktemp("sound")
    source, target = folder / "lab.db", folder / "out.db"
    change(source, DAMAGED)
    panicdb.clone(str(source), str(target), seal=True)
    shutil.copy(target, folder / "full.db")
    change(target, "CREATE TABLE more AS SELECT * FROM run; DROP TABLE more")
    assert panicdb.verify(str(source), str(target)).ok
    return folder


def free_pages(path):
    """Read the numbers of the pages whose content does not matter (fileformat2.html, section 1.5)."""
    pages, found = path.read_bytes(), set()
    trunk = int.from_bytes(pages[32:36], "big")
    while trunk:
        start = (trunk - 1) * SIZE
        trunk, count = (int.from_bytes(pages[at : at + 4], "big") for at in (start, start + 4))
        found |= {
            int.from_bytes(pages[at : at + 4], "big") for at in range(start + 8, start + 8 + 4 * count, 4)
        }
    return found


def judged(cli, sound, content, *references):
    """Put this in the place of the target; what each reference says of it, and with which exit code."""
    folder = Path("damaged")
    folder.mkdir(exist_ok=True)
    target = folder / "out.db"
    target.write_bytes(content)
    shutil.copy(sound / "out.db.receipt.json", folder)
    at = {"source": sound / "lab.db", "receipt": folder / "out.db.receipt.json"}
    for reference in references:
        result = cli("verify", at[reference], target, "--json")
        assert "Traceback" not in result.stderr
        yield result.exit_code, as_json(result)["verdict"] if result.stdout else result.stderr


def overwritten(sound, number, filler):
    content = bytearray((sound / "out.db").read_bytes())
    content[(number - 1) * SIZE : number * SIZE] = filler
    return bytes(content)


def numbers_of_pages(sound):
    return range(1, len((sound / "out.db").read_bytes()) // SIZE + 1)


def test_every_overwritten_page_is_found_unless_it_is_not_in_use(sound, cli, tmp_path, monkeypatch):
    """By zeros and by chance in turn, by the source and by the receipt alone in turn."""
    monkeypatch.chdir(tmp_path)
    free, dice = free_pages(sound / "out.db"), random.Random(5)
    assert len(free) > 3
    for number in set(numbers_of_pages(sound)) - set(sorted(free)[2:]):
        content = overwritten(sound, number, bytes(SIZE) if number % 2 else dice.randbytes(SIZE))
        found = judged(cli, sound, content, "source" if number % 3 == 0 else "receipt")
        assert [*found] == [(0, "EXACT") if number in free else (1, "DIFFERENT")], number


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(4))
def test_every_page_overwritten_in_any_way_is_found(sound, cli, tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    free, dice = free_pages(sound / "out.db"), random.Random(seed)
    fillers = (bytes(SIZE), b"\xff" * SIZE, dice.randbytes(SIZE), (sound / "out.db").read_bytes()[:SIZE])
    for number in numbers_of_pages(sound):
        content = overwritten(sound, number, fillers[seed] if number > 1 else dice.randbytes(SIZE))
        for found in judged(cli, sound, content, "source", "receipt"):
            assert found == ((0, "EXACT") if number in free else (1, "DIFFERENT")), (number, found)


def test_every_truncation_is_found(sound, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = (sound / "full.db").read_bytes()
    whole = [(0, "EXACT"), (0, "EXACT")]
    assert [*judged(cli, sound, content, "source", "receipt")] == whole
    half = len(content) // SIZE // 2 * SIZE
    for length in (0, 1, 100, SIZE, SIZE + 1, half, len(content) - SIZE, len(content) - 1):
        found = [*judged(cli, sound, content[:length], "source", "receipt")]
        assert found == [(1, "DIFFERENT")] * 2, length


REPLACED = {
    "text": b"Dear colleague, this is not a database.\n" * 50,
    "zeros": bytes(8192),
    "a receipt": b'{"panicdb_receipt": 1}',
    "a header alone": b"SQLite format 3\0",
}
HEADERS = {
    "the magic": (0, b"SQLite format 4\0"),
    "the page size": (16, b"\x10\x00"),
    "an impossible page size": (16, b"\x00\x03"),
    "write and read version": (18, b"\x09\x09"),
    "the number of pages": (28, b"\x00\x00\x00\x02"),
    "the format of the schema": (44, b"\x00\x00\x00\x09"),
    "the encoding": (56, b"\x00\x00\x00\x02"),
    "an impossible encoding": (56, b"\x00\x00\x00\x07"),
    "all of it": (0, b"\xee" * 100),
}


@pytest.mark.parametrize("kind", [*REPLACED, *HEADERS])
def test_another_file_and_another_header_are_found(sound, cli, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    content = (sound / "out.db").read_bytes()
    if kind in REPLACED:
        spoiled = REPLACED[kind]
    else:
        place, header = HEADERS[kind]
        spoiled = content[:place] + header + content[place + len(header) :]
    for found in judged(cli, sound, spoiled, "source", "receipt"):
        assert found == (1, "DIFFERENT")


def test_a_target_that_can_not_be_opened_at_all_is_an_error(sound, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for target in ("nowhere.db", "folder"):
        for reference in ("lab.db", "out.db.receipt.json"):
            result = cli("verify", sound / reference, target)
            assert (result.exit_code, result.stdout) == (3, "")
            assert f"error: {target}: " in result.stderr


def test_a_target_that_is_too_damaged_to_be_opened_fails_one_check(sound, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("out.db").write_bytes(REPLACED["text"])
    report = verify(str(sound / "lab.db"))
    assert (report.verdict, failed(report)) == ("DIFFERENT", {"integrity"})
    assert set(skipped(report)) == set(ALL_CHECKS) - {"integrity"}
    assert found(report) == [("INT002", "out.db: not a SQLite database, or an encrypted one")]
    assert not verify(str(sound / "lab.db"), skip=["integrity"]).ok


# Receipts


MARKED = """
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
CREATE TABLE lab (id TEXT NOT NULL PRIMARY KEY, title TEXT UNIQUE, data BLOB, price REAL, count INTEGER, at TIMESTAMP,
    info JSON, loose);
CREATE TABLE run (id TEXT NOT NULL PRIMARY KEY, lab_id TEXT REFERENCES lab (id), note TEXT);
CREATE TABLE log (run_id TEXT REFERENCES run (id), line TEXT);
CREATE INDEX notes ON run (note);
INSERT INTO alembic_version VALUES ('cafe');
INSERT INTO lab VALUES ('root-key', 's3cret-text', CAST('s3cret-blob' AS BLOB), 424242.125, 4242427261,
    '1999-04-24 24:24:24', '{"a": "s3cret-text"}', 's3cret-text');
INSERT INTO run VALUES ('s3cret-text', 'root-key', 's3cret-null'), ('s3cret-other', 'root-key', NULL);
INSERT INTO log VALUES ('s3cret-text', 's3cret-nokey');
"""
VALUES = ("s3cret", "S3CRET", b"s3cret".hex(), "424242", "4242427261", "1999-04-24")


@pytest.fixture
def marked(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_db(MARKED, "lab.db")


@pytest.mark.parametrize("way", ["roots", "where", "clone", "merge", "replace"])
def test_a_sealed_receipt_holds_no_value_but_root_keys_and_no_secret(marked, way):
    source = f"sqlite:///{marked}?password=hunter2&key=hunter3"
    choice = {"where": "title LIKE '%text' AND 7 = 7"} if way == "where" else {"roots": ["root-key"]}
    if way == "clone":
        panicdb.clone(source, "out.db", seal=True)
    else:
        panicdb.export(source, "out.db", root="lab", seal=True, **choice)
    if way in ("merge", "replace"):
        panicdb.export(source, "out.db", root="lab", seal=True, existing=way, **choice)
    text = Path("out.db.receipt.json").read_text(encoding="utf-8")
    assert [value for value in (*VALUES, "hunter") if value in text] == []
    assert ("root-key" in text, "7 = 7" in text) == (way in ("roots", "merge", "replace"), way == "where")
    assert str(marked.parent) in text, "where it came from is told"


@pytest.mark.parametrize("way", ["beside", "given", "merge", "replace"])
def test_a_sealed_receipt_is_private_and_written_anew(lab, way):
    before = os.umask(0)
    try:
        path = "given.json" if way == "given" else "out.db.receipt.json"
        export(BERN, seal=True, receipt=path)
        if way in ("merge", "replace"):
            old = os.stat(path).st_ino
            os.chmod(path, 0o666)
            export(BERN, "bari", seal=True, existing=way)
            assert os.stat(path).st_ino != old, "written anew, and moved there whole"
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert sorted(os.listdir()) == sorted(["lab.db", "out.db", path])


def leaves(value, way=()):
    """Yield the way to each value of a document that holds no others, and to each empty one."""
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in pairs:
            yield from leaves(each, (*way, key))
    else:
        yield way


def altered(document, way, change):
    """Return a document with one place in it changed."""
    document = copy.deepcopy(document)
    place = document
    for key in way[:-1]:
        place = place[key]
    change(place, way[-1])
    return document


def put(value):
    def change(place, key):
        place[key] = value

    return change


def another(value):
    """Return a value of the same type that is another one."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value[:-1] + ("1" if value[-1:] == "0" else "0")
        case list():
            return ["more"]
        case dict():
            return {"more": 1}
    return "something"


def test_every_edit_of_a_sealed_receipt_is_noticed(lab):
    """Each value changed, each taken away; and each key, too."""
    export(BERN, seal=True, links=["run.after=stay,null"], whole=["visitor"])
    merge("oslo", seal=True)
    held = receipt_of()
    ways = list(leaves(held))
    assert len(ways) > 80
    for way in ways:
        value = held
        for key in way:
            value = value[key]
        for change_it in (put(another(value)), lambda place, key: place.pop(key)):
            edited = altered(held, way, change_it)
            assert edited != held
            Path("edited.json").write_text(json.dumps(edited), encoding="utf-8")
            with pytest.raises(SourceError, match=r"edited\.json: "):
                verify("edited.json")
            with pytest.raises(SourceError, match=r"edited\.json: "):
                verify(receipt="edited.json")


def test_how_it_is_laid_out_does_not_matter(sealed):
    held = receipt_of()
    for text in (
        json.dumps(held),
        json.dumps(held, sort_keys=True, indent=9),
        json.dumps(dict(reversed(held.items())), ensure_ascii=True),
        "\n\t " + json.dumps(held, ensure_ascii=False),
    ):
        Path("laid out.json").write_text(text, encoding="utf-8")
        assert verify("laid out.json").ok


def test_the_mark_is_what_is_documented(make_db, tmp_path, monkeypatch):
    """Computed from the file alone, by another way than ours; names that are not ASCII included."""
    monkeypatch.chdir(tmp_path)
    make_db(
        "CREATE TABLE \"größe\" (id TEXT NOT NULL PRIMARY KEY); INSERT INTO \"größe\" VALUES ('Zürich'), ('𝄞')",
        "lab.db",
    )
    panicdb.export("lab.db", "out.db", roots=["Zürich", "𝄞"], root="größe", seal=True)
    held = receipt_of()
    told = held.pop("seal")
    text = json.dumps(held, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    assert told == hashlib.blake2b(text, digest_size=32).hexdigest() == mark({**held, "seal": "anything"})
    assert verify("out.db.receipt.json").ok


REFUSED = {
    "an unsealed one": (lambda held: held.update(sealed=None) or held.pop("seal"), "has no seal", "--seal"),
    "a later format": (lambda held: held.update(panicdb_receipt=2), "a receipt of format 2", "newer panicdb"),
    "another encoding": (
        lambda held: held["sealed"].update(encoding=VERSION + 1) or held.update(seal=mark(held)),
        f"digests of version {VERSION + 1}, this panicdb makes {VERSION}",
        "the panicdb that sealed it",
    ),
    "one without its digests": (lambda held: held.update(sealed=None), "was edited", "ask for it again"),
    "one without its mark": (lambda held: held.pop("seal"), "was edited", "ask for it again"),
    "one with another mark": (lambda held: held.update(seal=0), "was edited", "ask for it again"),
    "a strange one": (
        lambda held: held.update(sealed={"encoding": VERSION}) or held.update(seal=mark(held)),
        "not a receipt of this panicdb",
        "hint: ",
    ),
    "a stranger one": (
        lambda held: held.update(sealed="x") or held.update(seal=mark(held)),
        "not a receipt of this panicdb",
        "hint: ",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_proves_nothing_is_refused_with_the_reason(sealed, cli, kind):
    spoil, wanted, hint = REFUSED[kind]
    held = receipt_of()
    spoil(held)
    Path("out.db.receipt.json").write_text(json.dumps(held), encoding="utf-8")
    result = cli("verify", "out.db.receipt.json", "out.db")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "out.db.receipt.json: " in result.stderr
    assert wanted in result.stderr
    assert hint in result.stderr


@pytest.mark.parametrize("text", ["{", "{}", '{"a": 1}', '{"a":' * 100_000, '{"panicdb_receipt": [1]}'])
def test_json_that_is_no_receipt_is_refused(sealed, cli, text):
    Path("other.json").write_text(text, encoding="utf-8")
    result = cli("verify", "other.json", "out.db")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "other.json: " in result.stderr
    assert "receipt" in result.stderr


def test_an_edited_receipt_beside_the_target_does_not_matter_to_a_selection(sealed):
    held = receipt_of()
    Path("out.db.receipt.json").write_text(json.dumps({**held, "root": "run"}), encoding="utf-8")
    with pytest.raises(SourceError, match="was edited"):
        verify()
    assert verify_roots(BERN).ok


def test_a_receipt_travels_with_its_target(sealed, cli, tmp_path):
    """Without the source, under other names, elsewhere."""
    Path("lab.db").unlink()
    (tmp_path / "elsewhere").mkdir()
    for name, other in (("out.db", "copy.db"), ("out.db.receipt.json", "proof")):
        Path(name).rename(tmp_path / "elsewhere" / other)
    result = cli("verify", "elsewhere/proof", "elsewhere/copy.db")
    assert result.exit_code == 0
    assert "elsewhere/copy.db matches elsewhere/proof\n" in result.stdout


def test_a_receipt_does_not_prove_another_export(lab):
    export(BERN, seal=True)
    export("oslo", target="oslo.db", seal=True)
    report = verify("out.db.receipt.json", "oslo.db")
    assert failed(report) == {"rows", "content"}


def test_the_locks_of_this_process_stay(sealed):
    """Closing a file drops all locks that a process holds on it, so that no database may be opened as a file."""
    with closing(sqlite3.connect("lab.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert verify().ok
        assert verify("out.db.receipt.json").ok
        program = "import sqlite3; sqlite3.connect('lab.db', timeout=0).execute('BEGIN IMMEDIATE')"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "database is locked" in done.stderr


# Merged files


def test_a_sealed_merge_proves_the_whole_file(lab, cli):
    export(BERN, seal=True)
    for root in ("oslo", "bari"):
        receipt = merge(root, seal=True)
        assert verify("out.db.receipt.json").verdict == "EXACT"
        report = verify()
        assert (report.verdict, report.since.source, report.since.target) == ("EXACT", (), ())
    assert {name: each["rows"] for name, each in receipt_of()["sealed"]["tables"].items()} == {
        "site": 2,
        "lab": 3,
        "run": 5,
        "log": 6,
        "visitor": 0,
    }
    assert len(receipt.before) == 2
    change("out.db", "UPDATE run SET note = 'x' WHERE id = 1")
    assert cli("verify", "out.db.receipt.json", "out.db").exit_code == 1
    assert verify().since.target == ("run",)


def test_a_merge_without_a_seal_takes_the_proof_away(lab):
    export(BERN, seal=True)
    merge("oslo")
    with pytest.raises(SourceError, match="has no seal"):
        verify("out.db.receipt.json")
    assert verify().ok
    merge("bari", seal=True)
    assert verify("out.db.receipt.json").ok


@pytest.mark.parametrize("option", ["seal", "verify"])
def test_a_merge_reads_again_what_it_committed(lab, option):
    export(BERN)
    receipt = merge("oslo", **{option: True})
    assert receipt.checks[-1] == "content"
    assert (receipt.sealed is not None) == (option == "seal")
    assert verify().ok


def test_rows_of_unknown_origin_are_sealed_too(lab, cli):
    export(BERN, receipt=False)
    change(
        "out.db", "INSERT INTO visitor (id, name) VALUES (70, 'theirs'); INSERT INTO log VALUES (2, 'theirs')"
    )
    merge("oslo", seal=True)
    assert receipt_of()["before"] == [{"unknown": True, "rows": 12}]
    assert verify("out.db.receipt.json").verdict == "EXACT"
    change("out.db", "UPDATE visitor SET name = 'mine'")
    assert codes(verify("out.db.receipt.json")) == ["CNT000"]
    assert "--where SQL" in cli("verify", "lab.db", "out.db").stderr


def test_references_that_led_nowhere_before_a_merge_are_sealed_as_they_are(lab):
    export(BERN)
    change("out.db", "INSERT INTO log VALUES (900, 'astray')")
    merge("oslo", seal=True)
    assert verify("out.db.receipt.json").verdict == "EXACT"
    change("out.db", "UPDATE log SET run_id = 901 WHERE run_id = 900; DELETE FROM run WHERE id = 2")
    assert "foreign keys" in failed(verify("out.db.receipt.json"))


def test_links_that_were_declared_for_one_part_are_not_asked_of_the_others(lab):
    """The line of Oslo's log that leads to no visitor came without that link."""
    change("lab.db", "INSERT INTO log VALUES (4, 'nobody'), (2, 'v')")
    export("oslo")
    merge(BERN, links=["log.line->visitor.name=leave"], seal=True)
    assert verify("out.db.receipt.json").verdict == "EXACT"
    merge("bari", links=["lab.title->visitor.name=leave"], seal=True)
    assert verify("out.db.receipt.json").verdict == "EXACT"


def test_a_target_without_rows_has_nothing_of_unknown_origin(lab):
    export(BERN, receipt=False)
    change("out.db", "DELETE FROM log; DELETE FROM run; DELETE FROM lab; DELETE FROM site")
    merge("oslo", seal=True)
    assert receipt_of()["before"] == []
    assert verify().verdict == verify("out.db.receipt.json").verdict == "EXACT"


def test_a_merge_that_fails_leaves_the_old_proof(lab):
    export(BERN, seal=True)
    before = [Path(name).read_bytes() for name in ("out.db", "out.db.receipt.json")]

    def interrupt(progress):
        if progress.step == "publishing":
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        merge("oslo", seal=True, monitor=Monitor(interrupt))
    change("lab.db", "UPDATE site SET name = 'other' WHERE id = 1")
    with pytest.raises(PanicDBError):
        merge("oslo", seal=True)
    assert [Path(name).read_bytes() for name in ("out.db", "out.db.receipt.json")] == before
    assert verify("out.db.receipt.json").verdict == "EXACT"


def test_a_replaced_target_has_its_own_proof(lab):
    export(BERN, seal=True)
    shutil.copy("out.db.receipt.json", "old.json")
    export("oslo", seal=True, existing="replace")
    assert verify("out.db.receipt.json").verdict == verify().verdict == "EXACT"
    assert not verify("old.json").ok
    export("oslo", existing="replace")
    with pytest.raises(SourceError, match="has no seal"):
        verify("out.db.receipt.json")


def test_what_was_spelled_by_policies_and_virtual_links_is_proven(lab):
    links = ["run.after=stay,null", "log.line->visitor.name=leave", "lab.site_id=null"]
    export("bari", "oslo", links=links, whole=["visitor"], exclude=["site"], seal=True)
    assert verify().verdict == verify("out.db.receipt.json").verdict == "EXACT"
    change("out.db", "DROP TABLE visitor")
    report = verify("out.db.receipt.json")
    assert {"schema", "rows", "content"} <= failed(report)
    assert skipped(report) == {}


# What a report is about


ODD = (
    LAB
    + """
CREATE VIRTUAL TABLE words USING fts5 (word);
INSERT INTO words VALUES ('s3cret');
CREATE TABLE [odd "name"] (b, "a b" TEXT, twice GENERATED ALWAYS AS (b * 2) STORED);
INSERT INTO [odd "name"] (b) VALUES (1), (NULL);
"""
)


@pytest.mark.parametrize("reference", ["lab.db", "out.db.receipt.json"])
def test_a_report_tells_everything_it_is_about(make_db, tmp_path, monkeypatch, cli, reference):
    monkeypatch.chdir(tmp_path)
    make_db(ODD, "lab.db")
    panicdb.clone("lab.db", "out.db", seal=True)
    told = as_json(cli("verify", reference, "out.db", "--json"))
    assert list(told) == [
        "reference",
        "target",
        "verdict",
        "ok",
        "checks",
        "findings",
        "compared",
        "normalised",
        "not_compared",
        "losses",
        "since",
    ]
    assert (told["reference"], told["target"], told["verdict"], told["ok"]) == (
        reference,
        "out.db",
        "EXACT",
        True,
    )
    assert [check["name"] for check in told["checks"]] == list(ALL_CHECKS)
    assert {frozenset(check) for check in told["checks"]} == {frozenset({"name", "status", "note", "chosen"})}
    assert {each["table"]: sorted(each["columns"]) for each in told["compared"]} == {
        "alembic_version": ["version_num"],
        "site": ["id", "name"],
        "lab": ["id", "site_id", "title"],
        "run": ["after", "id", "image", "lab_id", "note"],
        "log": ["line", "run_id"],
        "visitor": ["id", "name"],
        'odd "name"': ["a b", "b"],
    }
    assert set(told["not_compared"]) == {"words", "run.size", 'odd "name".twice'}
    assert [text.partition(":")[0] for text in told["normalised"]] == ["schema", "content"]
    assert (told["since"] is None) == (reference != "lab.db")
    if told["since"] is not None:
        assert list(told["since"]) == ["receipt", "target", "source"]
    change("out.db", "UPDATE run SET note = 'x' WHERE id = 1")
    (*_, finding) = as_json(cli("verify", "out.db.receipt.json", "out.db", "--json"))["findings"]
    assert finding == {"code": "CNT000", "check": "content", "text": "run: the digests differ", "details": []}


@pytest.mark.parametrize("reference", ["lab.db", "out.db.receipt.json"])
def test_what_was_not_compared_by_choice_is_listed(sealed, cli, reference):
    told = as_json(cli("verify", reference, "out.db", "--json", "--skip", "content", "--skip", "revision"))
    assert (told["verdict"], told["compared"]) == ("EXACT", [])
    assert {name for name, why in told["not_compared"].items() if why == "by choice"} == {
        "alembic_version",
        "site",
        "lab",
        "run",
        "log",
        "visitor",
    }


def test_how_a_table_was_compared_is_told(lab):
    panicdb.clone("lab.db", "out.db")
    change("out.db", "UPDATE log SET rowid = rowid + 1000")
    ways = {each.table: each.how for each in verify().coverage.compared}
    assert (ways["run"], ways["log"]) == ("row by row, by the engine", "by digest")


# The process that digests the target


def digesters(of=None):
    """Return the processes that digest for this one, or for another."""
    command = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = (line.split(maxsplit=2) for line in listing.splitlines())
    wanted = os.getpid() if of is None else of
    return [int(pid) for pid, parent, text in lines if int(parent) == wanted and "panicdb.digester" in text]


def alive(pid):
    """Tell whether a process is at work; one that ended may wait for long until its new parent looks."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.fixture
def long(make_db, tmp_path, monkeypatch):
    """A clone that takes seconds to digest, and its sealed receipt."""
    monkeypatch.chdir(tmp_path)
    make_db(
        "CREATE TABLE item (at, note);"
        "WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) "
        "INSERT INTO item SELECT i, 'note' FROM n",
        "lab.db",
    )
    shutil.copy("lab.db", "out.db")
    panicdb.clone("lab.db", "out.db", existing="replace", seal=True)
    change("out.db", "UPDATE item SET rowid = -rowid")  # no key and no rowid tells which row is which
    assert os.stat("out.db").st_size > 0.5 * digester.WORTH_A_PROCESS
    monkeypatch.setattr(digester, "WORTH_A_PROCESS", 0)


class Interruption:
    """Do something once the process that digests is there."""

    def __init__(self, act):
        self.act = act
        self.seen = []

    def poll(self):
        if not self.seen and (running := digesters()):
            self.seen = running
            self.act(running)


def interrupt(_running):
    raise InterruptedRunError


def kill(running):
    for pid in running:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("reference", ["lab.db", "out.db.receipt.json"])
def test_an_interrupted_verification_ends_its_process(long, capfd, reference):
    interruption, began = Interruption(interrupt), time.monotonic()
    with pytest.raises(InterruptedRunError):
        verify(reference, monitor=Monitor(poll=interruption.poll))
    assert time.monotonic() - began < 2
    assert interruption.seen
    assert not any(map(alive, interruption.seen))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("reference", ["lab.db", "out.db.receipt.json"])
def test_a_process_that_ends_early_is_a_check_that_was_not_made(long, capfd, reference):
    interruption = Interruption(kill)
    report = verify(reference, monitor=Monitor(poll=interruption.poll))
    assert interruption.seen
    assert (report.verdict, failed(report)) == ("INCOMPLETE", set())
    assert skipped(report) == {"content": "the process that digests the target ended early"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("false", "the process that digests the target ended early"),
        ("nowhere", "the process that digests the target can't be started: No such file or directory"),
    ],
)
def test_a_process_that_never_reads_is_a_check_that_was_not_made(lab, cli, monkeypatch, program, wanted):
    """Even if what it is asked would not fit into a pipe."""
    change("lab.db", "".join(f"CREATE TABLE t{n} ({'c' * 400}{n});" for n in range(300)))
    panicdb.clone("lab.db", "out.db", seal=True)
    monkeypatch.setattr(digester, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr(sys, "executable", shutil.which(program) or program)
    for reference in ("lab.db", "out.db.receipt.json"):
        result = cli("verify", reference, "out.db")
        assert (result.exit_code, result.stderr) == (3, "")
        assert f"SKIPPED  content       {wanted}\n" in result.stdout


def test_the_process_ends_with_a_parent_that_is_killed(long):
    program = (
        "import panicdb, sys, threading, time; from panicdb import digester; digester.WORTH_A_PROCESS = 0; "
        "threading.Thread(target=panicdb.verify, args=('out.db.receipt.json', 'out.db'), daemon=True).start(); "
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while not (running := digesters(of=process.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)  # it is at work by now
        process.kill()
    used = {pid: seconds_of_processor(pid) for pid in running}
    deadline = time.monotonic() + 60
    while any(map(alive, running)):
        assert time.monotonic() < deadline
        # On a busy machine it may get its turn late; all of its work would take some more seconds of its own.
        assert all(seconds_of_processor(pid) - used[pid] < 0.5 for pid in running)
        time.sleep(0.02)


def seconds_of_processor(pid):
    """Return what a process has used so far, where /proc tells; nothing of one that has ended."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    user, system = said.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_process_and_this_one_say_the_same(lab, monkeypatch):
    panicdb.clone("lab.db", "out.db", seal=True)
    reports = []
    for size in (0, 1 << 40):
        monkeypatch.setattr(digester, "WORTH_A_PROCESS", size)
        change("out.db", "UPDATE log SET rowid = rowid + 1000")
        reports.append(verify())
        change("out.db", "UPDATE run SET note = 'x' WHERE id = 2")
        reports.append(verify())
        reports.append(verify("out.db.receipt.json"))
        change("out.db", "UPDATE run SET note = NULL WHERE id = 2")
    assert reports[:3] == reports[3:]


# Which rows


KEYS = {
    "integers": ("id INTEGER PRIMARY KEY", ["-3", "0", "9223372036854775807"]),
    "text with quotes": ("id TEXT NOT NULL PRIMARY KEY", ["'it''s'", "'\"x\"'", "''"]),
    "text of all tongues": (
        "id TEXT NOT NULL PRIMARY KEY",
        ["'Zürich'", "'\N{MUSICAL SYMBOL G CLEF}'", "'日本'"],
    ),
    "text like numbers": ("id TEXT NOT NULL PRIMARY KEY", ["'1'", "'01'", "'1.0'"]),
    "blobs": ("id BLOB NOT NULL PRIMARY KEY", ["x''", "x'00'", "x'ff00ff'"]),
    "numbers": ("id REAL NOT NULL PRIMARY KEY", ["0.1", "-2.5", "1e+300"]),
    "mixed types": ("id NOT NULL PRIMARY KEY", ["1", "'1'", "x'31'"]),
    "an odd name": ('"the ""key" TEXT NOT NULL PRIMARY KEY', ["'a'", "'b'", "'c'"]),
    "what is declared as a time": ("id DATETIME NOT NULL PRIMARY KEY", ["'2024-01-01'", "'x'", "1.5"]),
    "what is declared as JSON": ("id JSON NOT NULL PRIMARY KEY", ["'{}'", "'null'", "2"]),
    "what is declared as true or false": ("id BOOLEAN NOT NULL PRIMARY KEY", ["0", "1", "'maybe'"]),
    "a unique column": ("id INTEGER NOT NULL UNIQUE", ["1", "2", "3"]),
    "text that is folded": ("id TEXT NOT NULL COLLATE NOCASE PRIMARY KEY", ["'A'", "'b'", "'C'"]),
    "text that is trimmed": ("id TEXT NOT NULL COLLATE RTRIM PRIMARY KEY", ["'A '", "'b  '", "'C'"]),
    "several columns": (
        "b INTEGER NOT NULL, a TEXT NOT NULL, PRIMARY KEY (b, a)",
        ["1, 'x'", "1, 'y'", "2, 'x'"],
    ),
    "a table that is its index": (
        "a TEXT NOT NULL, b NOT NULL, PRIMARY KEY (b, a)",
        ["'x', 1", "'x', 2", "'y', x'01'"],
    ),
}
UNSEEN = {
    "NUL": ("'a' || char(0) || 'b'", r"unistr('a\u0000b')"),
    "what a terminal obeys": ("char(27) || '[2J' || '\\'", r"unistr('\u001b[2J\\')"),
    "what turns text around": ("'it''s' || char(8238, 917505)", r"unistr('it''s\u202e\U000e0001')"),
    "a line's end": ("'a' || char(10) || 'b'", r"unistr('a\u000ab')"),
    "bytes that are no text": ("CAST(x'61ff62' AS TEXT)", "CAST(x'61ff62' AS TEXT)"),
    "half of a pair": ("CAST(x'eda080' AS TEXT)", "CAST(x'eda080' AS TEXT)"),
}


def compare(make_db, definition, ours, theirs):
    """Make both sides of one table, and return what verifies as different, by code: how many, and which."""
    make_db(f"CREATE TABLE t ({definition}; " + ours, "lab.db")
    make_db(f"CREATE TABLE t ({definition}; " + theirs, "out.db")
    report = verify(skip=["rows"])
    assert failed(report) <= {"content"}
    return {
        finding.code: tuple(finding.text.split(": ", 2)[1:]) if finding.code != "CNT000" else finding.text
        for finding in report.findings
    }


@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_those_of_the_rows_that_differ(make_db, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    definition, (missing, changed, extra) = KEYS[kind]
    columns, _, primary = definition.partition(", PRIMARY KEY ")
    names = [text.strip().partition(" ")[0] for text in columns.split(",")]
    if kind == "an odd name":
        names = ['"the ""key"']
    rest = f", value TEXT{', PRIMARY KEY ' + primary if primary else ''})"
    whole = columns + rest + (" WITHOUT ROWID" if kind == "a table that is its index" else "")
    found = compare(
        make_db,
        whole,
        f"INSERT INTO t VALUES ({missing}, 'old'), ({changed}, 'old')",
        f"INSERT INTO t VALUES ({extra}, 'new'), ({changed}, 'new')",
    )
    order = ("b", "a") if primary else names

    def spelled(values):
        pairs = dict(zip(names, values.split(", "), strict=True))
        return ", ".join(f"{name} = {pairs[name]}" for name in order)

    assert found == {
        "CNT001": ("1 row missing in the target", spelled(missing)),
        "CNT002": ("1 row in the target only", spelled(extra)),
        "CNT003": ("1 row otherwise in the target (value)", spelled(changed)),
    }


@pytest.mark.parametrize("kind", UNSEEN)
def test_keys_that_can_not_be_shown_are_spelled_as_sql(make_db, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    value, spelled = UNSEEN[kind]
    found = compare(
        make_db,
        "id TEXT NOT NULL PRIMARY KEY, value TEXT)",
        f"INSERT INTO t VALUES ({value}, 'old')",
        f"INSERT INTO t VALUES ({value}, 'new'), ('plain', 'new')",
    )
    assert found["CNT002"] == ("1 row in the target only", "id = 'plain'")
    assert found["CNT003"] == ("1 row otherwise in the target (value)", f"id = {spelled}")
    change("lab.db", f"UPDATE t SET value = {value}; INSERT INTO t VALUES ('plain', {value})")
    details = [text for finding in verify(show_values=True).findings for text in finding.details]
    assert sorted(details) == sorted(
        [
            f"id = 'plain': value {spelled} became 'new'",
            f"id = {spelled}: value {spelled} became 'new'",
        ]
    )


@pytest.mark.parametrize("definition", ["a, b)", "a TEXT PRIMARY KEY, b)", "a UNIQUE, b, UNIQUE (b, a))"])
def test_rows_without_a_key_are_named_by_their_hash(make_db, tmp_path, monkeypatch, definition):
    """No key, or one that may be NULL, and is."""
    monkeypatch.chdir(tmp_path)
    found = compare(
        make_db,
        definition,
        "INSERT INTO t VALUES (NULL, 1), (NULL, 1), (NULL, 2), (NULL, 3), ('x', 1)",
        "INSERT INTO t VALUES (NULL, 1), (NULL, 2), (NULL, 2), (NULL, 4), ('x', 1)",
    )
    assert {code: text for code, (text, _) in found.items()} == {
        "CNT001": "1 row missing in the target",
        "CNT002": "1 row in the target only",
        "CNT004": "2 rows not as often in the target",
    }
    names = [name for _, keys in found.values() for name in keys.split("; ")]
    assert len(set(names)) == 4
    assert all(re.fullmatch("row [0-9a-f]{16}", name) for name in names)


def test_ten_keys_are_listed_and_the_rest_is_counted(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = compare(
        make_db,
        "id INTEGER PRIMARY KEY, value)",
        "WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) INSERT INTO t SELECT i, i FROM n",
        "WITH n (i) AS (SELECT 11 UNION ALL SELECT i + 1 FROM n WHERE i < 150) INSERT INTO t SELECT i, i % 60 FROM n",
    )

    def keys(first, last):
        return "; ".join(f"id = {number}" for number in range(first, last + 1))

    assert found == {
        "CNT001": ("10 rows missing in the target", keys(1, 10)),
        "CNT002": ("50 rows in the target only", f"{keys(101, 110)}; and 40 more"),
        "CNT003": ("41 rows otherwise in the target (value)", f"{keys(60, 69)}; and 31 more"),
    }


def test_columns_that_differ_are_named_and_those_that_one_side_lacks(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_db(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, c); INSERT INTO t VALUES (1, 1, 'x', x'01')", "lab.db"
    )
    make_db(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, d); INSERT INTO t VALUES (1, 1.0, 'x', 'new')",
        "out.db",
    )
    report = verify(skip=["schema"], show_values=True)
    assert found(report) == [("CNT003", "t: 1 row otherwise in the target (a, c): id = 1")]
    assert report.findings[0].details == ("id = 1: a 1 became 1.0, c x'01' became NULL",)


def test_a_key_that_both_sides_do_not_share_tells_nothing_apart(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_db("CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 1)", "lab.db")
    make_db("CREATE TABLE t (key INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 1)", "out.db")
    assert codes(verify(skip=["schema"])) == ["CNT001", "CNT002"]
