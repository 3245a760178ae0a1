"""Bad input: one clear message, the right exit code, nothing lost, nothing half-made."""

import errno
import fcntl
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import panicdb
from machine import PANICDB, UNSHARE, die_writing, limited, mounting_works

quick = pytest.mark.quick

DIFFERS, USAGE, REFUSED, FAILED = 1, 2, 3, 4
SECRET = "the-value-of-a-row"
SHELTER = f"""
CREATE TABLE person (id TEXT PRIMARY KEY, name TEXT NOT NULL, code TEXT UNIQUE);
CREATE TABLE pet (
    id INTEGER PRIMARY KEY,
    owner TEXT REFERENCES person (id),
    sitter TEXT NOT NULL REFERENCES person (id),
    name TEXT NOT NULL
);
CREATE TABLE seat (row INTEGER, place INTEGER, taken_by TEXT, PRIMARY KEY (row, place));
CREATE TABLE nobody (id TEXT PRIMARY KEY);
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
CREATE VIEW people AS SELECT * FROM person;
INSERT INTO person VALUES ('anna-1', '{SECRET}', 'a'), ('anna-2', '{SECRET}', 'b'), ('bert-1', '{SECRET}', 'c');
INSERT INTO pet VALUES (1, 'anna-1', 'bert-1', '{SECRET}'), (2, 'anna-2', 'bert-1', '{SECRET}');
INSERT INTO seat VALUES (1, 1, '{SECRET}');
"""
ANNA = ("anna-1", "--root", "person")
NOBODY = 65534


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str


def contents(folder):
    """Every name below a folder, with what it holds."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[str(path)] = os.readlink(path)
        else:
            found[str(path)] = path.read_bytes() if stat.S_ISREG(mode) else stat.S_IFMT(mode)
    return found


def complains(outcome, code, *fragments):
    """One message of ours: an error that holds the fragments, and a hint; no traceback, no value, no result."""
    assert outcome.code == code, outcome
    assert outcome.stdout == ""
    lines = outcome.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], outcome.stderr
    assert lines[1].removeprefix("hint:").strip()
    for fragment in fragments:
        assert fragment in outcome.stderr
    assert SECRET not in outcome.stderr


def complains_of_usage(outcome, *fragments):
    """The same where Click itself refuses the arguments."""
    assert outcome.code == USAGE, outcome
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("Usage: ")
    assert outcome.stderr.count("Error: ") == 1
    for fragment in ("--help", *fragments):
        assert fragment in outcome.stderr
    assert "Traceback" not in outcome.stderr


class Scene:
    """A source and a place for a target, each in a folder of its own below the working directory."""

    def __init__(self, folder, run):
        self.folder = folder
        self._run = run
        self.source = folder / "in" / "source.db"
        self.target = folder / "out" / "target.db"
        for path in (self.source, self.target):
            path.parent.mkdir()
        self.make(SHELTER)

    def make(self, script, path=None):
        path = path or self.source
        path.unlink(missing_ok=True)
        self.execute(script, path)
        return path

    def execute(self, script, path=None):
        with closing(sqlite3.connect(path or self.source)) as connection:
            connection.executescript(f"PRAGMA synchronous = OFF; {script}")

    def query(self, sql, path=None):
        with closing(sqlite3.connect(path or self.target)) as connection:
            return connection.execute(sql).fetchall()

    def run(self, *arguments, **options):
        result = self._run(*arguments, **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def export(self, *arguments, source=None, target=None, **options):
        return self.run("export", source or self.source, target or self.target, *arguments, **options)

    def refuses(self, code, *arguments, wants=(), **options):
        """Export in vain: as `complains`, and every file is as it was."""
        before = contents(self.folder)
        complains(self.export(*arguments, **options), code, *wants)
        assert contents(self.folder) == before


@pytest.fixture
def scene(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    return Scene(tmp_path, cli)


# What is no source


def garbage(scene):
    scene.source.write_bytes(bytes(range(1, 256)) * 64)


def text(scene):
    scene.source.write_text("id,name\n1,anna\n" * 1000)


def truncated_header(scene):
    os.truncate(scene.source, 50)


def truncated_first_page(scene):
    os.truncate(scene.source, 2000)


def damaged_schema(scene):
    scene.execute(
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'CREATE TABEL x' WHERE name = 'pet'"
    )


def missing(scene):
    scene.source.unlink()


def missing_folder(scene):
    shutil.rmtree(scene.source.parent)


def directory(scene):
    scene.source.unlink()
    scene.source.mkdir()


def fifo(scene):
    scene.source.unlink()
    os.mkfifo(scene.source)


def dangling_symlink(scene):
    scene.source.unlink()
    scene.source.symlink_to("nowhere.db")


def symlink_loop(scene):
    scene.source.unlink()
    scene.source.symlink_to(scene.source.name)


def file_as_folder(scene):
    scene.source.unlink()
    scene.source.parent.rmdir()
    scene.source.parent.write_text("")


NOT_READABLE = [
    (garbage, "not a SQLite database, or an encrypted one"),
    (text, "not a SQLite database, or an encrypted one"),
    (truncated_header, "damaged or truncated"),
    (truncated_first_page, "damaged or truncated"),
    (damaged_schema, "damaged or truncated"),
    (missing, "no such file"),
    (missing_folder, "no such file"),
    (directory, "a directory, not a database file"),
    (fifo, "not a regular file"),
    (dangling_symlink, "no such file"),
    (symlink_loop, "symbolic links"),
    (file_as_folder, "Not a directory"),
]
DAMAGED = (garbage, text, truncated_header, truncated_first_page, damaged_schema)
"""As a target these are no mistake of the user, but what verify is to find."""
COMMANDS = {
    "export": lambda scene: ("export", scene.source, scene.target, *ANNA),
    "dry run": lambda scene: ("export", scene.source, scene.target, *ANNA, "--dry-run"),
    "clone": lambda scene: ("clone", scene.source, scene.target),
    "list": lambda scene: ("list", scene.source, "--root", "person"),
    "verify": lambda scene: ("verify", scene.source, scene.make(SHELTER, scene.target)),
    "verify, reversed": lambda scene: ("verify", scene.make(SHELTER, scene.target), scene.source),
}


@quick
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("spoil", "wanted"), NOT_READABLE, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_no_database_is_refused_by_every_command(scene, spoil, wanted, command):
    spoil(scene)
    arguments = COMMANDS[command](scene)
    before = contents(scene.folder)
    outcome = scene.run(*arguments)
    if command == "verify, reversed" and spoil in DAMAGED:
        assert (outcome.code, outcome.stderr) == (DIFFERS, "")
        assert "in/source.db" in outcome.stdout
        assert wanted in outcome.stdout
    else:
        complains(outcome, REFUSED, "in/source.db", wanted)
    assert contents(scene.folder) == before


@quick
def test_a_source_that_lost_its_later_pages_is_never_half_copied(scene):
    scene.execute(f"CREATE TABLE big (id INTEGER PRIMARY KEY, body); {many_rows('big', 400)}")
    os.truncate(scene.source, scene.source.stat().st_size // 2 // 4096 * 4096)
    before = contents(scene.folder)
    for arguments in (
        ("clone", scene.source, scene.target),
        ("export", scene.source, scene.target, *ANNA, "--whole", "big"),
    ):
        outcome = scene.run(*arguments)
        complains(outcome, outcome.code, "damaged or truncated", "source.db")
        assert outcome.code in (REFUSED, FAILED)
        assert contents(scene.folder) == before


@quick
@pytest.mark.parametrize(
    "command", ["export", "export without root", "dry run", "clone", "list", "list without root"]
)
def test_an_empty_file_is_a_database_without_tables(scene, command):
    scene.source.write_bytes(b"")
    name, *condition = command.split(" without ")
    arguments = COMMANDS[name](scene)
    before = contents(scene.folder)
    complains(
        scene.run(*(arguments[: arguments.index("--root")] if condition else arguments)), REFUSED, "no tables"
    )
    assert contents(scene.folder) == before


def many_rows(table, count, size=1000):
    return (
        f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
        f"INSERT INTO {table} SELECT i, randomblob({size}) FROM n;"
    )


# What another program does to a source


def leave_hot_journal(path):
    """Kill a writer in the middle of a transaction whose pages have begun to spill into the file."""
    before = path.read_bytes()
    die_writing(
        path,
        "PRAGMA cache_size = 2",
        "PRAGMA cache_spill = 1",
        "BEGIN",
        "CREATE TABLE spilled (body)",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) "
        "INSERT INTO spilled SELECT randomblob(1000) FROM n",
    )
    assert Path(f"{path}-journal").stat().st_size > 512
    assert path.read_bytes() != before


@quick
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.fault(31)
def test_a_hot_journal_is_left_for_the_application(scene, command):
    """Rolling back would be writing; reading without it would be reading half a transaction."""
    leave_hot_journal(scene.source)
    arguments = COMMANDS[command](scene)
    before = contents(scene.folder)
    complains(scene.run(*arguments), REFUSED, "source.db", "hot journal", "open the database once")
    assert contents(scene.folder) == before


@quick
@pytest.mark.fault(31)
def test_after_its_own_hint_a_hot_journal_is_no_hindrance(scene):
    leave_hot_journal(scene.source)
    scene.query("SELECT count(*) FROM sqlite_master", scene.source)
    assert scene.export(*ANNA).code == 0
    assert scene.query("SELECT id FROM person ORDER BY id") == [("anna-1",), ("bert-1",)]


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path):
    """Another process holds a database for itself alone."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "locked\n"
            yield holder
        finally:
            holder.kill()


@quick
@pytest.mark.parametrize(
    ("command", "timeout"), [("export", 1.0), ("clone", 0.3), ("list", 0), ("verify", 0.3)]
)
@pytest.mark.fault(7)
def test_a_locked_source_is_waited_for_as_long_as_asked(scene, command, timeout):
    arguments = COMMANDS[command](scene)
    before = contents(scene.folder)
    with locked(scene.source):
        scene.run(*arguments, "--timeout", "0")  # all modules are loaded now
        start = time.monotonic()
        outcome = scene.run(*arguments, "--timeout", timeout)
        waited = time.monotonic() - start
    complains(outcome, REFUSED, "source.db", "locked by another process", "--timeout")
    assert timeout <= waited < timeout + 0.5
    assert contents(scene.folder) == before


@quick
@pytest.mark.fault(7)
def test_a_lock_that_goes_in_time_does_not_matter(scene):
    with locked(scene.source) as holder:
        holder.stdin.close()  # the holder ends, and rolls back
        assert scene.export(*ANNA, "--timeout", "20").code == 0


@quick
@pytest.mark.parametrize("timeout", ["-1", "nan", "soon"])
def test_a_timeout_is_a_number_of_seconds(scene, timeout):
    before = contents(scene.folder)
    complains_of_usage(scene.export(*ANNA, "--timeout", timeout), "--timeout")
    assert contents(scene.folder) == before


# Rights


STRANGER = """
import os, sys
from panicdb.cli import panicdb
uid, source, target, *arguments = sys.argv[1:]
# Whatever is imported late has to be imported now: the other user may not reach this interpreter's files.
panicdb(["export", source, target, "--all", "--root", "person", "--quiet"], standalone_mode=False)
if int(uid):
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
panicdb(arguments)
"""


class Public(Scene):
    """A scene that other users can reach, and `run` as one of them where the tests are run by root."""

    def __init__(self, folder):
        super().__init__(folder, None)
        self._warm = (scene_copy(self.source, folder.parent), folder.parent / "warm-target.db")

    def run(self, *arguments):
        uid = NOBODY if os.geteuid() == 0 else 0
        self._warm[1].unlink(missing_ok=True)
        Path(f"{self._warm[1]}.receipt.json").unlink(missing_ok=True)
        command = [sys.executable, "-c", STRANGER, str(uid), *self._warm, *arguments]
        done = subprocess.run(
            list(map(str, command)), cwd=self.folder, capture_output=True, text=True, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


def scene_copy(source, folder):
    return shutil.copy(source, folder / "warm-source.db")


@pytest.fixture
def public():
    folder = Path(tempfile.mkdtemp(prefix="panicdb-test-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        (folder / "scene").mkdir(mode=0o755)
        made = Public(folder / "scene")
        made.target.parent.chmod(0o777)
        yield made
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", str(folder)], check=True)
        shutil.rmtree(folder)


def refuses_stranger(public, *wants, arguments=ANNA, **options):
    names = sorted(os.listdir(public.source.parent)), sorted(os.listdir(public.target.parent))
    complains(public.export(*arguments, **options), REFUSED, *wants)
    assert names == (sorted(os.listdir(public.source.parent)), sorted(os.listdir(public.target.parent)))


def test_a_stranger_may_export_what_he_may_read(public):
    """The measure of the refusals below: the same run, with the rights it needs."""
    public.source.chmod(0o444)
    outcome = public.export(*ANNA)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert public.query("SELECT count(*) FROM person") == [(2,)]


@pytest.mark.fault(24)
def test_a_source_without_permission_is_refused(public):
    public.source.chmod(0)
    refuses_stranger(public, "source.db", "no permission to read it")


@pytest.mark.fault(24)
def test_a_source_in_a_closed_directory_is_refused(public):
    public.source.parent.chmod(0o600 if os.geteuid() == 0 else 0)
    before = os.listdir(public.target.parent)
    complains(public.export(*ANNA), REFUSED, "source.db", "Permission denied")
    assert os.listdir(public.target.parent) == before


@pytest.mark.fault(24)
def test_a_directory_that_may_not_be_written_takes_no_target(public):
    public.target.parent.chmod(0o555)
    refuses_stranger(public, "target.db", "no permission to write into", "out")


@pytest.mark.fault(24)
def test_a_receipt_goes_where_one_may_write(public):
    """Found before the export, not after it."""
    (public.folder / "closed").mkdir(mode=0o555)
    refuses_stranger(
        public, "receipt", "no permission", "closed", arguments=(*ANNA, "--receipt", "closed/r.json")
    )


def keep_wal(path):
    """Leave a WAL source as a killed writer does: with committed rows that only the log holds."""
    die_writing(
        path,
        "PRAGMA journal_mode = WAL",
        "PRAGMA wal_autocheckpoint = 0",
        f"INSERT INTO person VALUES ('carl-1', '{SECRET}', 'd')",
    )
    for name in ("-wal", "-shm"):
        assert Path(f"{path}{name}").exists()


def test_a_wal_source_with_its_shm_is_read_from_a_closed_directory(public):
    """As long as another program has it open, its index can be read along."""
    public.execute("PRAGMA journal_mode = WAL")
    with closing(sqlite3.connect(public.source)) as writer:
        writer.execute(f"INSERT INTO person VALUES ('carl-1', '{SECRET}', 'd')")
        writer.commit()
        for name in ("", "-wal", "-shm"):
            Path(f"{public.source}{name}").chmod(0o444)
        public.source.parent.chmod(0o555)
        before = contents(public.source.parent)
        outcome = public.export("carl-1", "--root", "person")
        assert (outcome.code, outcome.stderr) == (0, "")
        assert contents(public.source.parent) == before
    assert public.query("SELECT id FROM person") == [("carl-1",)]


@pytest.mark.parametrize(
    "lost", [("-wal", "-shm"), ("-shm",)], ids=["neither log nor index", "log without index"]
)
@pytest.mark.fault(24, 31)
def test_a_wal_source_without_its_shm_is_refused_in_a_closed_directory(public, lost):
    keep_wal(public.source)
    for name in lost:
        Path(f"{public.source}{name}").unlink()
    for path in public.source.parent.iterdir():
        path.chmod(0o444)
    public.source.parent.chmod(0o555)
    before = contents(public.source.parent)
    refuses_stranger(public, "source.db", "WAL mode", "-shm")
    assert contents(public.source.parent) == before


@pytest.mark.fault(24, 31)
def test_a_hot_journal_in_a_closed_directory_is_named_too(public):
    leave_hot_journal(public.source)
    for path in public.source.parent.iterdir():
        path.chmod(0o444)
    public.source.parent.chmod(0o555)
    refuses_stranger(public, "source.db", "journal")


@quick
@pytest.mark.fault(31)
def test_committed_rows_in_the_log_are_read(scene):
    keep_wal(scene.source)
    main, log = scene.source.read_bytes(), Path(f"{scene.source}-wal").read_bytes()
    assert scene.export("carl-1", "--root", "person").code == 0
    assert scene.query("SELECT id FROM person") == [("carl-1",)]
    assert (main, log) == (scene.source.read_bytes(), Path(f"{scene.source}-wal").read_bytes())


# The selection


@quick
@pytest.mark.parametrize("command", ["export", "dry run"])
def test_nothing_chosen_is_said_before_anything_is_opened(scene, command):
    scene.source.unlink()
    arguments = COMMANDS[command](scene)
    complains(
        scene.run(*(each for each in arguments if each != "anna-1")),
        USAGE,
        "found nothing",
        "--where",
        "--all",
    )


@quick
@pytest.mark.parametrize("more", [("--all",), ("--where", "1"), ("--all", "--where", "1")])
def test_rows_are_chosen_in_one_way(scene, more):
    scene.source.unlink()
    scene.refuses(USAGE, *ANNA, *more, wants=("in one way", "ids"))


@quick
@pytest.mark.parametrize(
    ("arguments", "wants"),
    [
        (("1", "--root", "persons"), ("no table 'persons'", "person, pet")),
        (("1", "--root", "people"), ("no table 'people'", "person, pet")),
        (("x", "--root", "alembic_version"), ("'alembic_version' is a version table", "person, pet")),
        (
            ("anna", "--root", "person"),
            ("'anna'", "several keys of person", "anna-1, anna-2", "more characters"),
        ),
        (("ann", "--root", "person"), ("ann not found", "4 characters")),
        (("", "--root", "person"), ("not found", "4 characters")),
        (("carl-1", "--root", "person"), ("carl-1 not found", "panicdb list")),
        (("anna-1", "carl-1", "--root", "person"), ("carl-1 not found",)),
        (("ANNA-1", "--root", "person"), ("ANNA-1 not found",)),
        (("x", "--root", "pet"), ("'x' can't be a key of pet", "integers")),
        (("3", "--root", "pet"), ("pet row 3 not found",)),
        (("99999999999999999999", "--root", "pet"), ("99999999999999999999",)),
        (("1", "--root", "seat"), ("seat can't be chosen by id", "composite primary key", "--where")),
        (("--all", "--root", "nobody"), ("no row of nobody", "empty")),
        (("--where", "0", "--root", "person"), ("no row of person", "--where")),
        (("anna-1",), ("which table", "--root TABLE")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and len(value) < 6 else None,
)
def test_a_choice_that_this_source_does_not_have_is_refused(scene, arguments, wants):
    scene.refuses(REFUSED, *arguments, wants=wants)
    scene.refuses(REFUSED, *arguments, "--dry-run", wants=wants)


@quick
@pytest.mark.parametrize(
    "wrong", ["067efc98-zzzz-7777-8888-999999999999", "067efc98", "0" * 32, "0" * 33, "{0000}"]
)
def test_a_malformed_or_unknown_uuid_is_not_found(scene, experiments_db, wrong):
    scene.refuses(
        REFUSED, wrong, source=experiments_db, wants=(f"Experiment {wrong} not found in source database",)
    )


@quick
@pytest.mark.parametrize(
    ("where", "wants"),
    [
        ("", "syntax error"),
        ("id = = 1", "syntax error"),
        ("id = 'anna-1", "--where"),
        ("id = 'anna-1' /* open", "--where"),
        ("id = 'anna-1'; DELETE FROM person", "syntax error"),
        ("1); DELETE FROM person; --", "--where"),
        ("id = ?", "--where"),
        ("id = :name", "--where"),
        ("colour = 'red'", "no such column: colour"),
        ("id IN (SELECT id FROM persons)", "no such table"),
        ("count(*) > 1", "misuse of aggregate"),
        ("load_extension('evil')", "--where"),
    ],
)
def test_a_condition_that_is_none_is_refused(scene, where, wants):
    scene.refuses(REFUSED, "--root", "person", "--where", where, wants=("--where", wants))


@quick
@pytest.mark.parametrize(
    "where",
    [
        "id = 'anna-1' -- who",
        "id = 'anna-1' /* who */",
        "name = 'a;b' OR id LIKE 'anna%1'",
        "id = 'anna-1'\n",
        "person.id='anna-1'",
    ],
)
def test_a_condition_may_hold_comments_and_odd_characters(scene, where):
    assert scene.export("--root", "person", "--where", where).code == 0
    assert scene.query("SELECT id FROM pet") == [(1,)]


@quick
@pytest.mark.parametrize(
    ("where", "found"), [("id & 2", [(2,)]), ("id - 1", [(2,)]), ("name", []), ("id * 0.4", [(1,), (2,)])]
)
def test_a_condition_holds_as_sql_has_it(scene, where, found):
    """Whatever is not zero is true; text that is no number is not."""
    outcome = scene.export("--root", "pet", "--where", where)
    assert outcome.code == (0 if found else REFUSED)
    assert not found or scene.query("SELECT id FROM pet ORDER BY id") == found


@quick
def test_a_file_of_ids_is_read(scene):
    Path("ids").write_text("anna-1\n\n  anna-2  \n")
    assert scene.export("--root", "person", "--ids-file", "ids").code == 0
    assert scene.query("SELECT count(*) FROM pet") == [(2,)]


@quick
def test_ids_are_read_from_standard_input(scene):
    assert scene.export("--root", "person", "--ids-file", "-", input="anna-1\n").code == 0
    assert scene.query("SELECT count(*) FROM pet") == [(1,)]


@quick
@pytest.mark.parametrize(
    ("file", "content", "wants"),
    [
        ("ids", None, "No such file"),
        ("ids", b"", "holds no id"),
        ("ids", b"\n  \n", "holds no id"),
        ("ids", b"\xff\xfe\x00", "UTF-8"),
        ("in", None, "directory"),
        ("-", b"", "holds no id"),
    ],
)
def test_a_file_without_ids_is_refused_before_anything_is_opened(scene, file, content, wants):
    scene.source.unlink()
    if content is not None:
        Path("ids").write_bytes(content)
    wants = (f"--ids-file {file}", wants)
    scene.refuses(
        USAGE, "--root", "person", "--ids-file", file, wants=wants, input=content if file == "-" else None
    )


@quick
@pytest.mark.parametrize(
    ("arguments", "code", "wants"),
    [
        (("--link", "persons.owner=drop"), REFUSED, ("no table 'persons'", "pet")),
        (("--link", "pet.nope=drop"), REFUSED, ("no column 'nope' in table 'pet'", "sitter")),
        (
            ("--link", "pet.name=drop"),
            REFUSED,
            ("pet.name is no foreign key", "pet.owner->person.id", "declare"),
        ),
        (("--link", "pet.name->persons.id=drop"), REFUSED, ("no table 'persons'",)),
        (("--link", "pet.name->person.nope=drop"), REFUSED, ("no column 'nope' in table 'person'", "code")),
        (("--link", "pet.owner,sitter->person.id=drop"), USAGE, ("pairs 2 columns with 1",)),
        (("--link", "pet.owner"), USAGE, ("can't read the link 'pet.owner'", "POLICY")),
        (("--link", "pet.owner=maybe"), USAGE, ("can't read the policy 'maybe'", "refuse")),
        (("--link", "pet.owner=drop,null"), USAGE, ("can't read the policy",)),
        (("--link", ""), USAGE, ("can't read the link",)),
        (("--exclude", "pets"), REFUSED, ("no table 'pets'", "pet")),
        (("--whole", "pets"), REFUSED, ("no table 'pets'", "pet")),
        (("--exclude", "person"), REFUSED, ("root table 'person' can't be excluded",)),
        (("--exclude", "seat", "--whole", "seat"), REFUSED, ("'seat' is both excluded and wanted whole",)),
        (("--link", "pet.sitter=null"), REFUSED, ("policy null can't be used on pet.sitter", "NOT NULL")),
        (("--link", "pet.id->person.id=null"), REFUSED, ("policy null can't be used", "part of a key")),
        (
            ("--link", "pet.owner->person.code=drop", "--link", "pet.owner->person.id=null"),
            REFUSED,
            ("policy null can't be used on pet.owner", "part of another link"),
        ),
        (("--link", "pet.sitter=refuse"), REFUSED, ("pet.sitter->person.id", "in 1 rows", "refuse")),
        (("--max-rows", "1"), REFUSED, ("more than 1 rows", "pet", "--max-rows")),
        (("--max-bytes", "5"), REFUSED, ("more than 5 bytes", "person", "--max-bytes")),
        (("--receipt", "r", "--no-receipt"), USAGE, ("exclude each other",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and value[0].startswith("--") else None,
)
def test_a_name_or_policy_that_does_not_fit_is_refused(scene, arguments, code, wants):
    if code == USAGE:
        scene.source.unlink()
    scene.refuses(code, *ANNA, *arguments, wants=wants)


@quick
@pytest.mark.parametrize(
    "arguments",
    [
        ("--violations", "maybe"),
        ("--max-rows", "-1"),
        ("--max-rows", "many"),
        ("--max-bytes", "10 apples"),
        ("--max-bytes", "-1"),
        ("--colour", "red"),
    ],
    ids=" ".join,
)
def test_an_option_or_value_that_does_not_exist_is_refused(scene, arguments):
    before = contents(scene.folder)
    complains_of_usage(scene.export(*ANNA, *arguments), arguments[0])
    assert contents(scene.folder) == before


@quick
@pytest.mark.parametrize(
    "arguments",
    [(), ("export",), ("export", "in/source.db"), ("verify", "x"), ("list",), ("explode",)],
    ids=" ".join,
)
def test_missing_arguments_are_a_matter_of_usage(scene, arguments):
    outcome = scene.run(*arguments)
    assert outcome.code == USAGE
    assert "Usage: " in outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr


NOT_UTF8 = b"anna\xff\xfe".decode("utf-8", "surrogateescape")


@quick
@pytest.mark.parametrize(
    "arguments",
    [
        (NOT_UTF8, "--root", "person"),
        ("--root", "person", "--where", f"id = '{NOT_UTF8}'"),
        ("anna-1", "--root", NOT_UTF8),
        (*ANNA, "--exclude", NOT_UTF8),
        (*ANNA, "--whole", NOT_UTF8),
        (*ANNA, "--link", f"{NOT_UTF8}.id=drop"),
    ],
    ids=["id", "where", "root", "exclude", "whole", "link"],
)
def test_arguments_that_are_no_text_are_refused(scene, arguments):
    """The shell may hand over any bytes; a database is asked in text."""
    outcome = scene.export(*arguments)
    complains(outcome, outcome.code, r"\xff" if "\\xff" in outcome.stderr else r"\udcff")
    assert outcome.code in (USAGE, REFUSED)


# Rows that are not as they should be


ORPHANS = """
INSERT INTO pet VALUES (3, 'anna-1', 'gone-1', 'x'), (4, 'anna-1', 'gone-2', 'x');
INSERT INTO pet VALUES (5, 'gone-3', 'bert-1', 'x');
"""


@quick
@pytest.mark.fault(21)
def test_violated_foreign_keys_are_named_by_table_columns_and_count(scene):
    scene.execute(ORPHANS)
    wants = ("pet(sitter) -> person: 2 rows", "--violations keep", "--violations drop")
    scene.refuses(REFUSED, *ANNA, wants=("foreign keys are violated in the source", *wants))
    before = contents(scene.folder)
    outcome = scene.run("clone", scene.source, scene.target)
    complains(outcome, REFUSED, "pet(sitter) -> person: 2 rows", "pet(owner) -> person: 1 rows")
    assert contents(scene.folder) == before


@quick
@pytest.mark.fault(21)
def test_violated_foreign_keys_are_kept_if_asked(scene):
    scene.execute(ORPHANS)
    outcome = scene.export(*ANNA, "--violations", "keep")
    assert outcome.code == 0
    assert "kept as in the source: pet.sitter->person.id leads nowhere in 2 rows" in outcome.stdout
    assert scene.query("SELECT id FROM pet ORDER BY id") == [(1,), (3,), (4,)]
    assert scene.run("verify", scene.source, scene.target).code == 0


@quick
@pytest.mark.fault(21)
def test_violated_foreign_keys_are_kept_in_a_clone(scene):
    scene.execute(ORPHANS)
    assert scene.run("clone", scene.source, scene.target, "--violations", "keep").code == 0
    assert scene.query("SELECT count(*) FROM pet") == [(5,)]
    assert scene.run("verify", scene.source, scene.target).code == 0
    complains_of_usage(scene.run("clone", scene.source, "x.db", "--violations", "drop"), "--violations")


@quick
@pytest.mark.fault(21)
def test_rows_that_violate_foreign_keys_are_dropped_if_asked(scene):
    scene.execute(ORPHANS)
    assert scene.export(*ANNA, "--violations", "drop").code == 0
    assert scene.query("SELECT id FROM pet") == [(1,)]
    assert scene.query("PRAGMA foreign_key_check") == []
    assert scene.run("verify", scene.source, scene.target).code == 0


@quick
def test_rows_that_their_own_schema_forbids_are_not_shown(scene):
    """Such rows can be there: checks can be turned off."""
    scene.execute(
        "CREATE TABLE short (id INTEGER PRIMARY KEY, name TEXT CHECK (length(name) < 5));"
        f"PRAGMA ignore_check_constraints = ON; INSERT INTO short VALUES (1, '{SECRET}'), (2, 'x')"
    )
    wants = ("target.db", "refused a row of the source", "length(name) < 5", "its own schema forbids")
    scene.refuses(FAILED, "1", "--root", "short", wants=wants)


ODD_TEXT = "CAST(x'6f6464ff80fe' AS TEXT)"


@quick
@pytest.mark.parametrize("command", ["export", "clone"])
@pytest.mark.fault(22)
def test_text_that_is_not_utf8_is_copied_byte_for_byte(scene, command):
    scene.execute(
        f"INSERT INTO pet VALUES (9, 'anna-1', 'anna-1', {ODD_TEXT}); UPDATE person SET name = {ODD_TEXT}"
    )
    outcome = scene.run(*COMMANDS[command](scene))
    assert (outcome.code, outcome.stderr) == (0, "")
    for table in ("person", "pet WHERE id = 9"):
        found = set(scene.query(f"SELECT hex(CAST(name AS BLOB)), typeof(name) FROM {table}"))
        assert found == {("6F6464FF80FE", "text")}
    assert scene.run("verify", scene.source, scene.target).code == 0


@quick
@pytest.mark.fault(22)
def test_keys_that_are_not_utf8_travel_too(scene):
    scene.execute(
        f"INSERT INTO person VALUES ({ODD_TEXT}, 'x', 'x'); INSERT INTO pet VALUES (9, {ODD_TEXT}, {ODD_TEXT}, 'x')"
    )
    assert scene.export("--root", "person", "--where", f"id = {ODD_TEXT}").code == 0
    assert scene.query("SELECT hex(CAST(id AS BLOB)), typeof(id) FROM person") == [("6F6464FF80FE", "text")]
    assert scene.query("SELECT id, hex(CAST(owner AS BLOB)) FROM pet") == [(9, "6F6464FF80FE")]


@quick
@pytest.mark.parametrize("how", [(), ("--json",)], ids=["text", "json"])
def test_keys_and_labels_that_are_not_utf8_are_listed(scene, how):
    scene.execute(f"INSERT INTO person VALUES ({ODD_TEXT}, {ODD_TEXT}, 'x')")
    scene.execute(f"INSERT INTO pet VALUES (9, {ODD_TEXT}, 'bert-1', 'x')")
    outcome = scene.run("list", scene.source, "--root", "person", *how)
    assert (outcome.code, outcome.stderr) == (0, "")
    if how:
        assert [
            root["owned"] for root in json.loads(outcome.stdout)["roots"] if root["key"].startswith("odd")
        ] == [{"pet": 1}]


# The target


def taken(scene):
    scene.target.write_bytes(b"mine")


def taken_by_a_database(scene):
    scene.make(SHELTER, scene.target)


def symlink(scene):
    scene.target.symlink_to("elsewhere.db")


def directory_as_target(scene):
    scene.target.mkdir()


def fifo_as_target(scene):
    os.mkfifo(scene.target)


def sidecar(suffix):
    def leave(scene):
        Path(f"{scene.target}{suffix}").write_bytes(b"left over")

    leave.__name__ = suffix
    return leave


def no_directory(scene):
    scene.target.parent.rmdir()


def file_as_directory(scene):
    scene.target.parent.rmdir()
    scene.target.parent.write_text("")


def receipt_taken(scene):
    Path(f"{scene.target}.receipt.json").write_text('{"not": "ours"}')


def receipt_directory(scene):
    Path(f"{scene.target}.receipt.json").mkdir()


def receipt_symlink(scene):
    Path(f"{scene.target}.receipt.json").symlink_to("elsewhere.json")


TAKEN = [
    (taken, "exists already"),
    (taken_by_a_database, "exists already"),
    (symlink, "a symbolic link"),
    (directory_as_target, "a directory"),
    (fifo_as_target, "exists already"),
    *((sidecar(suffix), f"target.db{suffix}") for suffix in ("-wal", "-shm", "-journal")),
    (no_directory, "no directory"),
    (file_as_directory, "no directory"),
    (receipt_taken, "target.db.receipt.json exists and is no receipt"),
    (receipt_directory, "target.db.receipt.json exists and is no receipt"),
    (receipt_symlink, "target.db.receipt.json exists and is no receipt"),
]


@quick
@pytest.mark.parametrize("command", ["export", "dry run", "clone"])
@pytest.mark.parametrize(("prepare", "wanted"), TAKEN, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.fault(14, 31)
def test_a_target_that_can_not_be_made_is_refused(scene, prepare, wanted, command):
    if command == "dry run" and prepare.__name__.startswith("receipt"):
        command = "export"
    prepare(scene)
    before = contents(scene.folder)
    complains(scene.run(*COMMANDS[command](scene)), REFUSED, "target.db", wanted)
    assert contents(scene.folder) == before


@quick
def test_a_name_that_names_a_directory_is_refused(scene):
    for name in ("out/", "out/new/", "/", ".", "out/.."):
        scene.refuses(REFUSED, *ANNA, target=name, wants=("directory",))


@quick
def test_a_name_too_long_for_the_file_system_is_refused(scene):
    scene.refuses(REFUSED, *ANNA, "--no-receipt", target="out/" + "n" * 300, wants=("name", "long"))
    scene.refuses(REFUSED, *ANNA, target="out/" + "n" * 250, wants=("receipt", "long"))


@quick
def test_a_receipt_of_an_earlier_target_gives_way(scene):
    assert scene.export(*ANNA).code == 0
    scene.target.unlink()
    assert scene.export("anna-2", "--root", "person").code == 0
    assert json.loads(Path(f"{scene.target}.receipt.json").read_text())["selection"]["ids"] == ["anna-2"]


ALIASES = {
    "absolute": str,
    "relative": os.path.relpath,
    "dotted": lambda source: f"in/../out/.././in/{source.name}",
    "URL": lambda source: f"sqlite:///{source}",
    "relative URL": lambda source: f"sqlite:///in/{source.name}",
    "URL with a driver": lambda source: f"sqlite+pysqlite:///{source}",
    "file: URI": lambda source: f"sqlite:///file:{source}?uri=true",
    "file: URI with parameters": lambda source: f"sqlite:///file:{source}?mode=rwc&cache=shared&uri=true",
    "file: URI, escaped": lambda source: f"sqlite:///file:in/%73{source.name[1:]}?uri=true",
    "symbolic link": lambda source: linked("symbolic.db", source, os.symlink),
    "hard link": lambda source: linked("hard.db", source, os.link),
    "linked directory": lambda source: linked("folder", source.parent, os.symlink) + f"/{source.name}",
}


def linked(name, to, link):
    link(to, name)
    return name


@quick
@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("command", ["export", "dry run", "clone"])
@pytest.mark.fault(15)
def test_the_source_is_no_target_under_any_name(scene, alias, command):
    scene.target = ALIASES[alias](scene.source)
    before = contents(scene.folder)
    complains(scene.run(*COMMANDS[command](scene)), REFUSED, "same file")
    assert contents(scene.folder) == before


@quick
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("folder", ["in", "in/../in", "link"])
@pytest.mark.fault(15)
def test_the_names_beside_the_source_are_its_own(scene, suffix, folder):
    Path("link").symlink_to("in")
    scene.refuses(
        REFUSED, *ANNA, target=f"{folder}/source.db{suffix}", wants=("belongs to the source", suffix)
    )


@quick
@pytest.mark.parametrize(
    ("receipt", "wants"),
    [
        ("in/source.db", "no receipt"),
        ("out/target.db", "target"),
        ("out/../out/target.db", "target"),
        ("link/target.db", "target"),
        *((f"out/target.db{suffix}", "target") for suffix in ("-wal", "-shm", "-journal")),
        *((f"in/source.db{suffix}", "source") for suffix in ("-wal", "-shm", "-journal")),
        ("nowhere/receipt.json", "no directory"),
        ("out", "no receipt"),
    ],
)
def test_a_receipt_takes_no_other_file_s_place(scene, receipt, wants):
    Path("link").symlink_to("out")
    scene.refuses(REFUSED, *ANNA, "--receipt", receipt, wants=("receipt", wants))


@quick
def test_a_receipt_may_lie_on_another_file_system(scene, monkeypatch):
    """Moving a file there is refused by the system; then it is written there."""
    Path("elsewhere").mkdir()
    across_devices(monkeypatch, scene.folder / "elsewhere")
    assert scene.export(*ANNA, "--receipt", "elsewhere/receipt.json").code == 0
    assert json.loads(Path("elsewhere/receipt.json").read_text())["panicdb_receipt"] == 1
    assert os.listdir("elsewhere") == ["receipt.json"]
    assert sorted(os.listdir("out")) == ["target.db"]


def across_devices(monkeypatch, folder):
    """Let nothing be renamed or linked into a folder from outside, as if it were another device."""
    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), str(folder), errno.EXDEV, outside=True))


def refusing(function, folder, number, *, outside):
    """Let a move into a folder fail as the system does; only from outside of it, or from anywhere."""

    def call(source, target, *arguments, **options):
        inside = [os.path.abspath(path).startswith(folder) for path in (source, target)]
        if inside[1] and not (outside and inside[0]):
            raise OSError(number, os.strerror(number))
        return function(source, target, *arguments, **options)

    return call


@quick
@pytest.mark.fault(29)
def test_another_run_that_makes_the_same_target_is_named(scene):
    private = scene.target.parent / ".target.db.panicdb"
    private.mkdir()
    holder = os.open(private, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        scene.refuses(REFUSED, *ANNA, wants=("another panicdb run", "wait"))
    finally:
        os.close(holder)
    assert scene.export(*ANNA).code == 0
    assert sorted(os.listdir("out")) == ["target.db", "target.db.receipt.json"]


@quick
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.fault(14, 29)
def test_a_target_that_appears_meanwhile_is_left_alone(scene, monkeypatch, links):
    """With and without hard links, which some file systems lack."""
    if not links:
        monkeypatch.setattr(
            os, "link", refusing(os.link, str(scene.target.parent), errno.EPERM, outside=False)
        )

    def appear(progress):
        if progress.step == "publishing":
            scene.target.write_bytes(b"mine")

    with pytest.raises(panicdb.PanicDBError, match="appeared while the copy was made") as caught:
        panicdb.export(str(scene.source), str(scene.target), roots=["anna-1"], root="person", progress=appear)
    assert caught.value.exit_code == REFUSED
    assert scene.target.read_bytes() == b"mine"
    assert os.listdir("out") == ["target.db"]


@quick
def test_file_systems_without_hard_links_will_do(scene, monkeypatch):
    monkeypatch.setattr(os, "link", refusing(os.link, str(scene.target.parent), errno.EPERM, outside=False))
    assert scene.export(*ANNA).code == 0
    assert sorted(os.listdir("out")) == ["target.db", "target.db.receipt.json"]


@quick
def test_a_private_directory_of_another_user_is_not_entered(scene, monkeypatch):
    (scene.target.parent / ".target.db.panicdb").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY - 1)
    scene.refuses(REFUSED, *ANNA, wants=("belongs to another user",))


@quick
@pytest.mark.parametrize(
    "name",
    [
        ":memory:",
        "",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:shared?mode=memory&cache=shared&uri=true",
        "sqlite:///file:/shared?vfs=memdb&uri=true",
    ],
)
def test_databases_in_memory_are_refused(scene, name):
    before = contents(scene.folder)
    complains(scene.run("export", scene.source, name, *ANNA), USAGE, "in-memory", "file")
    complains(scene.run("export", name, scene.target, *ANNA), USAGE, "in-memory", "file")
    assert contents(scene.folder) == before


@quick
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://user:hunter2@host.invalid/db", REFUSED),
        ("postgresql+psycopg://host.invalid/db?user=me&password=hunter2", REFUSED),
        ("POSTGRES://user:hunter2@host:nonsense/db", USAGE),
        ("mysql://user:hunter2@host/db", USAGE),
        ("sqlite://user:hunter2@host:nonsense/x.db", USAGE),
        ("sqlite://user:hunter2@host/", USAGE),
    ],
)
@pytest.mark.parametrize("given", ["argument", "environment"])
def test_a_password_is_never_repeated(scene, url, code, given, monkeypatch):
    if given == "environment":
        monkeypatch.setenv("PANICDB_SOURCE", url)
        monkeypatch.setenv("PANICDB_TARGET", url)
        url = "-"
    before = contents(scene.folder)
    for places in ((url, scene.target), (scene.source, url)):
        for command in (("export", *places, *ANNA), ("clone", *places), ("verify", *places)):
            outcome = scene.run(*command)
            complains(outcome, code)
            assert "hunter2" not in outcome.stderr
    assert contents(scene.folder) == before


@quick
def test_a_password_in_the_url_of_a_file_is_never_repeated(scene):
    for more in ((), ("--json",), ("--dry-run",)):
        outcome = scene.run(
            "export",
            "sqlite://user:hunter2@host/in/source.db",
            "sqlite://user:hunter2@host/out/t.db",
            *ANNA,
            *more,
        )
        assert "hunter2" not in outcome.stdout + outcome.stderr
        for path in Path("out").iterdir():
            assert b"hunter2" not in path.read_bytes()
            path.unlink()


# A disk that is full


ROOM = 400_000
SMALL_DISK = """
listing=$1 disk=$2
mount -t tmpfs -o size="$3" small "$disk" || exit 99
[ -z "$4" ] || head -c "$4" /dev/zero > "$disk/filler"
shift 4
"$@"
code=$?
ls -A "$disk" > "$listing"
exit $code
"""


@pytest.mark.fault(6)
def test_a_file_size_limit_ends_a_run_cleanly(scene):
    scene.execute(f"CREATE TABLE big (id INTEGER PRIMARY KEY, body); {many_rows('big', 1000)}")
    before = contents(scene.folder)
    command = limited("RLIMIT_FSIZE", ROOM, sys.executable, *PANICDB, "clone", scene.source, scene.target)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complains(
        Outcome(done.returncode, done.stdout, done.stderr),
        FAILED,
        "target.db",
        "input/output error",
        "full disk",
    )
    assert contents(scene.folder) == before


def on_small_disk(scene, size, filler, *arguments):
    """Run with `out` on a disk of its own; the outcome, and what is left there."""
    command = [
        *UNSHARE,
        "sh",
        "-c",
        SMALL_DISK,
        "sh",
        "listing",
        "out",
        size,
        filler,
        sys.executable,
        *PANICDB,
    ]
    done = subprocess.run(
        list(map(str, [*command, *arguments])), capture_output=True, text=True, check=False, timeout=60
    )
    return Outcome(done.returncode, done.stdout, done.stderr), Path("listing").read_text().split()


FULL = [
    pytest.param("400k", "", "rows", id="rows do not fit"),
    pytest.param("1500k", "", "index", id="an index does not fit"),
    pytest.param("64k", "64k", "rows", id="nothing fits"),
    pytest.param("200k", "", "experiments", id="migrations do not fit"),
]


NO_MOUNTS = [pytest.param("", "", "limit", id="mounts are forbidden here, so a limit on the size of files")]


@pytest.mark.parametrize(("size", "filler", "what"), FULL if mounting_works() else NO_MOUNTS)
@pytest.mark.fault(6)
def test_a_full_disk_says_how_much_was_needed(scene, experiments_db, size, filler, what):
    if what == "limit":
        test_a_file_size_limit_ends_a_run_cleanly(scene)
        return
    source = experiments_db if what == "experiments" else scene.source
    if what != "experiments":
        scene.execute(f"CREATE TABLE big (id INTEGER PRIMARY KEY, body); {many_rows('big', 1000)}")
    if what == "index":
        scene.execute("CREATE INDEX wide ON big (body)")
    outcome, left = on_small_disk(scene, size, filler, "clone", source, scene.target)
    complains(outcome, FAILED, "target.db", "disk is full", "make room")
    needed = int(re.search(r"([\d,]+) bytes are needed", outcome.stderr)[1].replace(",", ""))
    assert 0.8 < needed / source.stat().st_size < 1.3
    assert left == (["filler"] if filler else [])
