"""`--replace`: the finished copy takes the place of a target that may be in use, or that is left as it was."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import panicdb
from conftest import SCRIPT
from panicdb import runs
from panicdb.errors import CheckFailedError, TargetError

quick = pytest.mark.quick

DONE, DIFFERS, REFUSED, FAILED, INTERRUPTED = 0, 1, 3, 4, 130
ROWS = 300
LABS = f"""
CREATE TABLE lab (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER NOT NULL REFERENCES lab, note TEXT, load BLOB);
INSERT INTO lab VALUES (1, 'Bern'), (2, 'Oslo');
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {2 * ROWS})
INSERT INTO run SELECT i, 1 + i % 2, 'old', zeroblob(200) FROM n;
"""
SIDECARS = ("-wal", "-shm", "-journal")


class Room:
    """A source whose rows say `new`, and a target that was made when they said `old`."""

    def __init__(self, folder):
        self.folder, self.source, self.target = folder, folder / "source.db", folder / "target.db"
        self.receipt = folder / "target.db.receipt.json"

    def say(self, note):
        execute(self.source, f"UPDATE run SET note = '{note}'")

    def arguments(self, *more):
        return [
            "export",
            str(self.source),
            str(self.target),
            "1",
            "--root",
            "lab",
            "--replace",
            *map(str, more),
        ]

    def files(self):
        """Every name beside the source, with its bytes and its mode."""
        return {
            path.name: (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in self.folder.iterdir()
            if path != self.source
        }

    def is_replaced(self):
        """Nothing but the new one lies there, complete, and its receipt describes it."""
        assert notes(self.target) == [("new", ROWS)]
        assert query(self.target, "PRAGMA integrity_check") == [("ok",)]
        assert query(self.target, "PRAGMA journal_mode") == [("delete",)]
        assert sorted(os.listdir(self.folder)) == ["source.db", "target.db", "target.db.receipt.json"]
        assert panicdb.verify(str(self.source), str(self.target)).ok
        return True


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """The room as it is before any test."""
    room = Room(tmp_path_factory.mktemp("furnished"))
    execute(room.source, LABS)
    panicdb.export(str(room.source), str(room.target), root="lab", roots=["1"])
    room.say("new")
    return room.folder


@pytest.fixture
def room(furnished, tmp_path):
    return Room(shutil.copytree(furnished, tmp_path / "room"))


def execute(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def query(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def notes(place):
    """What the rows say, and how many they are; of a file or through a connection."""
    sql = "SELECT note, count(*) FROM run GROUP BY note"
    return place.execute(sql).fetchall() if isinstance(place, sqlite3.Connection) else query(place, sql)


def replace_by_api(room, **options):
    chosen = {"root": "lab", "roots": ["1"], "existing": "replace", **options}
    return panicdb.export(str(room.source), str(room.target), **chosen)


# Readers and writers that have the old one open


@quick
@pytest.mark.fault(30)
@pytest.mark.parametrize("reading", ["idle", "in a transaction", "in the middle of a result"])
def test_an_open_reader_keeps_the_old_rows(room, cli, reading):
    with closing(sqlite3.connect(room.target, isolation_level=None)) as reader:
        assert notes(reader) == [("old", ROWS)]
        if reading == "in a transaction":
            reader.execute("BEGIN")
            notes(reader)
        half_read = reader.execute("SELECT note FROM run")
        seen = half_read.fetchmany(7) if reading == "in the middle of a result" else []
        assert cli(*room.arguments()).exit_code == DONE
        assert notes(room.target) == [("new", ROWS)]
        seen += half_read.fetchall()
        assert seen == [("old",)] * ROWS
        assert notes(reader) == [("old", ROWS)]
    assert room.is_replaced()


@quick
@pytest.mark.fault(30)
@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"])
def test_a_writer_with_the_old_file_open_can_not_spoil_the_new_one(room, cli, mode):
    """SQLite refuses where it would make a journal of the name that is now another file's. Without one it writes to
    a file that has no name any more.
    """
    with closing(sqlite3.connect(room.target, isolation_level=None)) as writer:
        writer.execute(f"PRAGMA journal_mode = {mode}")
        writer.execute("UPDATE lab SET name = name")
        assert cli(*room.arguments()).exit_code == DONE
        before = room.target.read_bytes()
        if mode in ("MEMORY", "OFF"):
            writer.execute("UPDATE run SET note = 'lost'")
        else:
            with pytest.raises(sqlite3.OperationalError) as refused:
                writer.execute("UPDATE run SET note = 'lost'")
            assert refused.value.sqlite_errorname == "SQLITE_READONLY_DBMOVED"
        assert room.target.read_bytes() == before
    assert room.target.read_bytes() == before
    assert room.is_replaced()


@quick
@pytest.mark.fault(30)
def test_a_writer_at_work_is_waited_for_and_then_the_run_refused(room, cli):
    before = room.files()
    with closing(sqlite3.connect(room.target, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        result = cli(*room.arguments("--timeout", "0.3"))
        assert time.monotonic() - began > 0.3
        refused_as_in_use(result)
        assert room.files() == before
        writer.execute("UPDATE run SET note = 'written'")
        writer.execute("COMMIT")
    assert notes(room.target) == [("written", ROWS)]
    assert cli(*room.arguments()).exit_code == DONE
    assert room.is_replaced()


@pytest.mark.fault(30)
def test_a_writer_that_ends_in_time_is_waited_for(room):
    writer = at_work(room.target, "BEGIN IMMEDIATE; UPDATE run SET note = 'written'", "sleep", seconds=0.8)
    replace_by_api(room, timeout=20)
    assert writer.wait() == 0
    assert room.is_replaced()


def refused_as_in_use(result):
    assert result.exit_code == REFUSED, result.output
    assert result.stdout == ""
    assert "target.db: in use by another program" in result.stderr
    assert "hint: close it there, or raise --timeout; the old file was left as it is" in result.stderr


POLLING = """
import os, sqlite3, sys
path, rows, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
reads, contents, before = 0, 0, None
print("begun", flush=True)
while not os.path.exists(stop):
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)
    found = connection.execute("SELECT min(note), max(note), count(*) FROM run").fetchone()
    connection.close()
    assert found[0] == found[1] and found[2] == rows, found
    reads, contents, before = reads + 1, contents + (found[0] != before), found[0]
print(reads, contents)
"""


@pytest.mark.fault(30)
@pytest.mark.parametrize("rounds", [5, pytest.param(30, marks=pytest.mark.prove)])
def test_there_is_no_moment_without_a_complete_target(room, tmp_path, record_property, rounds):
    """Whoever opens it finds all rows, and all of one content."""
    stop = tmp_path / "stop"
    command = [sys.executable, "-c", POLLING, room.target, str(ROWS), stop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "begun\n"
        for number in range(rounds):
            room.say(f"round {number}")
            replace_by_api(room)
        stop.touch()
        said, complaints = reader.communicate(timeout=30)
    assert complaints == ""
    reads, contents = map(int, said.split())
    assert reads > rounds
    assert contents > 2
    line = f"{'replace':24} {'under a polling reader':28} {rounds:4} runs: {reads} reads, {contents} contents, 0 failed"
    record_property("figures", line)


# What the old one left beside it


AT_WORK = """
import os, signal, sqlite3, sys, time
path, script, end = sys.argv[1:4]
connection = sqlite3.connect(path, isolation_level=None)
for statement in script.split(";"):
    connection.execute(statement).fetchall()
print("ready", flush=True)
if end == "die":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(float(sys.argv[4]))
connection.execute("COMMIT")
connection.close()
"""


def at_work(path, script, end, seconds=0.0):
    """Start another process that executes a script on a file, and then dies at once or commits later."""
    command = [sys.executable, "-c", AT_WORK, str(path), script, end, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process.stdout as stdout:
        assert stdout.readline() == "ready\n"
    if end == "die":
        assert process.wait() == -signal.SIGKILL
    return process


KEPT_IN_LOG = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; UPDATE run SET note = 'logged'"


@pytest.fixture
def logged_room(room):
    """The old target in WAL mode, all its rows changed in a log that its writer left when it was killed."""
    at_work(room.target, KEPT_IN_LOG, "die")
    assert room.target.with_name("target.db-wal").stat().st_size > 60_000
    return room


@pytest.mark.fault(31)
def test_the_log_of_a_killed_writer_goes_with_the_old_file(logged_room, cli):
    copied = logged_room.folder.parent / "copied.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{logged_room.target}{suffix}", f"{copied}{suffix}")
    assert notes(copied) == [("logged", ROWS)]  # these are what must not get into the new one
    assert cli(*logged_room.arguments()).exit_code == DONE
    assert logged_room.is_replaced()


@pytest.mark.fault(31)
def test_a_log_that_nobody_has_open_goes_with_the_old_file(room, cli):
    """As a copy of all three files of a database in use has it, the index of the log included."""
    copied = {}
    with closing(sqlite3.connect(room.target, isolation_level=None)) as writer:
        for statement in KEPT_IN_LOG.split(";"):
            writer.execute(statement).fetchall()
        copied = {name: data for name, (_mode, data) in room.files().items()}
    assert set(copied) == {"target.db", "target.db-wal", "target.db-shm", "target.db.receipt.json"}
    for name, data in copied.items():
        (room.folder / name).write_bytes(data)
    assert cli(*room.arguments()).exit_code == DONE
    assert room.is_replaced()


@pytest.mark.fault(31)
@pytest.mark.parametrize("doing", ["nothing", "reading", "writing"])
def test_a_target_in_wal_mode_that_somebody_has_open_is_refused(room, cli, doing):
    """Its log can't be taken from them: the old file, its log and its mode stay, and the connection goes on."""
    with closing(sqlite3.connect(room.target, isolation_level=None)) as connection:
        for statement in KEPT_IN_LOG.split(";"):
            connection.execute(statement).fetchall()
        if doing != "nothing":
            connection.execute("BEGIN" if doing == "reading" else "BEGIN IMMEDIATE")
            notes(connection)
        before = room.files()
        assert len(before["target.db-wal"][1]) > 60_000
        began = time.monotonic()
        result = cli(*room.arguments("--timeout", "0.3"))
        assert 0.3 < time.monotonic() - began < 5
        refused_as_in_use(result)
        after = room.files()
        for name in ("target.db", "target.db-wal", "target.db.receipt.json"):
            assert after[name] == before[name]
        assert after.keys() == before.keys()
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        if doing != "nothing":
            connection.execute("COMMIT")
        connection.execute("UPDATE run SET note = 'later'")
        assert notes(room.target) == [("later", ROWS)]
    assert cli(*room.arguments()).exit_code == DONE
    assert room.is_replaced()


@pytest.mark.fault(31)
def test_the_hot_journal_of_a_killed_writer_goes_with_the_old_file(room, cli):
    """Its old pages are those of the old file: SQLite would roll back the new one with them."""
    script = "PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN; UPDATE run SET note = 'half written'"
    at_work(room.target, script, "die")
    journal = Path(f"{room.target}-journal")
    assert journal.read_bytes()[:8] == bytes.fromhex("d9d505f920a163d7")
    assert b"half written" in room.target.read_bytes()
    assert cli(*room.arguments()).exit_code == DONE
    assert room.is_replaced()


@pytest.mark.fault(31)
@pytest.mark.parametrize(("mode", "left"), [("PERSIST", range(512, 100_000)), ("TRUNCATE", range(1))])
def test_a_dead_journal_goes_with_the_old_file(room, cli, mode, left):
    execute(room.target, f"PRAGMA journal_mode = {mode}; UPDATE run SET note = 'changed'")
    assert os.stat(f"{room.target}-journal").st_size in left
    assert cli(*room.arguments()).exit_code == DONE
    assert room.is_replaced()


# What the new one is


@quick
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_the_rights_of_the_old_file_are_kept(room, cli, mode):
    room.target.chmod(mode)
    assert cli(*room.arguments()).exit_code == DONE
    assert stat.S_IMODE(room.target.stat().st_mode) == mode
    assert room.is_replaced()


@quick
def test_an_absent_target_is_made(room, cli):
    room.target.unlink()
    room.receipt.unlink()
    assert cli(*room.arguments()).exit_code == DONE
    assert stat.S_IMODE(room.target.stat().st_mode) == 0o600
    assert room.is_replaced()


@quick
def test_an_empty_file_is_an_empty_database(room, cli):
    room.target.write_bytes(b"")
    assert cli(*room.arguments()).exit_code == DONE
    assert room.is_replaced()


@quick
def test_a_clone_replaces_too(room, cli):
    assert cli("clone", room.source, room.target, "--replace").exit_code == DONE
    assert notes(room.target) == [("new", 2 * ROWS)]
    assert cli("verify", room.source, room.target).exit_code == DONE


@quick
def test_a_target_of_another_schema_is_replaced(room, cli):
    room.target.unlink()
    execute(room.target, "PRAGMA page_size = 512; PRAGMA encoding = 'UTF-16le'; CREATE TABLE other (a)")
    assert cli(*room.arguments()).exit_code == DONE
    assert query(room.target, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("lab",), ("run",)]
    assert room.is_replaced()


@quick
def test_the_old_receipt_is_replaced(room, cli):
    old = json.loads(room.receipt.read_text())
    outcome = cli("verify", room.source, room.target)
    assert (outcome.exit_code, outcome.stdout.count("FAIL")) == (DIFFERS, 1), outcome.stdout
    assert f"run: {ROWS} rows otherwise in the target (note)" in outcome.stdout
    execute(room.source, f"DELETE FROM run WHERE lab = 1 AND id > {ROWS}")
    made = replace_by_api(room)
    new = json.loads(room.receipt.read_text())
    assert new != old
    assert new == json.loads(made.to_json())
    assert cli("verify", room.source, room.target).exit_code == DONE


@quick
def test_without_a_receipt_the_old_one_goes(room, cli):
    """It would describe what is not there any more."""
    assert cli(*room.arguments("--no-receipt")).exit_code == DONE
    assert sorted(os.listdir(room.folder)) == ["source.db", "target.db"]
    assert notes(room.target) == [("new", ROWS)]


@quick
@pytest.mark.parametrize("option", [("--no-receipt",), ()])
def test_what_is_no_receipt_is_left_alone(room, cli, option):
    room.receipt.write_text('{"somebody": "else"}')
    before = room.files()
    result = cli(*room.arguments(*option))
    assert room.receipt.read_text() == '{"somebody": "else"}'
    if option:
        assert result.exit_code == DONE
        assert notes(room.target) == [("new", ROWS)]
    else:
        assert result.exit_code == REFUSED
        assert "exists and is no receipt" in result.stderr
        assert room.files() == before


@quick
def test_a_dry_run_writes_nothing(logged_room, cli):
    before = logged_room.files()
    result = cli(*logged_room.arguments("--dry-run"))
    assert result.exit_code == DONE
    assert "nothing was written" in result.stdout
    assert logged_room.files() == before


# What is refused


def spoil(room, what):
    """Put something else where the target is; return what it says."""
    target = room.target
    data = target.read_bytes()
    target.unlink()
    if what == "no database":
        target.write_text("dear diary")
    elif what == "directory":
        target.mkdir()
    elif what == "symbolic link":
        (room.folder / "elsewhere.db").write_bytes(data)
        target.symlink_to("elsewhere.db")
    elif what == "dangling link":
        target.symlink_to("nowhere.db")
    elif what == "pipe":
        os.mkfifo(target)
    elif what == "the source":
        os.link(room.source, target)
    elif what == "link to the source":
        target.symlink_to(room.source)
    return {
        "no database": "exists and is no SQLite database",
        "pipe": "not a regular file",
        "directory": "a directory",
        "the source": "source and target are the same file",
        "link to the source": "source and target are the same file",
    }.get(what, "a symbolic link")


@quick
@pytest.mark.parametrize(
    "what",
    [
        "no database",
        "directory",
        "symbolic link",
        "dangling link",
        "pipe",
        "the source",
        "link to the source",
    ],
)
def test_what_can_not_be_replaced_is_refused_untouched(room, cli, what):
    reason = spoil(room, what)
    before, source = listing(room.folder), room.source.read_bytes()
    for more in ((), ("--dry-run",)):
        result = cli(*room.arguments(*more))
        assert result.exit_code == REFUSED
        assert result.stdout == ""
        assert f"target.db: {reason}" in result.stderr
        assert "hint: " in result.stderr
        assert listing(room.folder) == before
        assert room.source.read_bytes() == source


def listing(folder):
    """Every name with its kind and content, links as links."""
    found = {}
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        data = os.readlink(path) if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else ""
        found[path.name] = (mode, data)
    return found


@quick
@pytest.mark.parametrize("damage", ["truncated", "another end"])
def test_a_damaged_target_is_replaced_or_refused(room, cli, damage):
    """What begins like a database is one as far as SQLite opens it."""
    data = room.target.read_bytes()
    room.target.write_bytes(data[:5_000] if damage == "truncated" else data[:8_192] + b"\xff" * 20_000)
    before = room.files()
    result = cli(*room.arguments())
    if result.exit_code == DONE:
        assert room.is_replaced()
    else:
        assert result.exit_code == REFUSED
        assert room.files() == before


STRANGER = """
import json, os, sys
from click.testing import CliRunner
from panicdb.cli import panicdb
uid, warm, *runs = json.loads(sys.argv[1])
# Whatever is imported late has to be imported now: the other user may not reach this interpreter's files.
assert CliRunner().invoke(panicdb, warm).exit_code == 0
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
done = [CliRunner().invoke(panicdb, arguments) for arguments in runs]
print(json.dumps([(result.exit_code, result.stderr) for result in done]))
"""
NOBODY = 65534


def test_what_may_not_be_written_is_refused_untouched(furnished):
    """Run as a user without rights where the tests are run by root; with all rights it is replaced."""
    folder = Path(tempfile.mkdtemp(prefix="panicdb-test-", dir="/tmp"))
    uid = NOBODY if os.geteuid() == 0 else 0
    try:
        folder.chmod(0o755)
        warm, free, file, directory = (
            Room(shutil.copytree(furnished, folder / name)) for name in ("warm", "free", "file", "directory")
        )
        for room in (free, file, directory):
            for path in (room.folder, *room.folder.iterdir()) if uid else ():
                os.chown(path, uid, uid)
            room.target.chmod(0o444 if room is file else 0o644)
            room.folder.chmod(0o555 if room is directory else 0o755)
        before = file.files(), directory.files()
        job = json.dumps([uid, *(room.arguments() for room in (warm, free, file, directory))])
        said = subprocess.run([sys.executable, "-c", STRANGER, job], capture_output=True, check=True).stdout
        done, *refused = json.loads(said)
        assert done == [DONE, ""]
        assert free.is_replaced()
        for (code, message), reason in zip(refused, ("write it", "write into"), strict=True):
            assert code == REFUSED
            assert f"target.db: no permission to {reason}" in message
        assert (file.files(), directory.files()) == before
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", str(folder)], check=True)
        shutil.rmtree(folder)


@quick
@pytest.mark.parametrize("what", ["another", "gone"])
def test_a_target_that_changes_hands_meanwhile(room, what):
    """Between the first look and the end somebody else may act: neither theirs nor ours is lost without a word."""
    other = room.folder.parent / "other.db"
    execute(other, "CREATE TABLE theirs (a)")

    def meddle(progress):
        if progress.step == "publishing":
            os.replace(other, room.target) if what == "another" else room.target.unlink()

    with pytest.raises(TargetError) as refused:
        replace_by_api(room, progress=meddle)
    assert refused.value.hint
    assert not (room.folder / ".target.db.panicdb").exists()
    if what == "another":
        assert query(room.target, "SELECT name FROM sqlite_master") == [("theirs",)]
    else:
        assert not room.target.exists()


# What fails half-way leaves the old one


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def left_as_it_was(room):
    """The old target and its receipt, byte for byte, and nothing else."""
    before = room.files()
    yield
    assert room.files() == before
    assert digest(room.target) == hashlib.sha256(before["target.db"][1]).hexdigest()


@quick
@pytest.mark.parametrize("fixture", ["room", "logged_room"])
def test_a_failed_check_leaves_the_old_one(request, monkeypatch, fixture):
    """A row that the finished copy lacks is found by the real checks; it is taken out between load and check."""
    room = request.getfixturevalue(fixture)
    load = runs.transfer.load_rows

    def lose_a_row(decided, closure, snapshot, staging, monitor):
        load(decided, closure, snapshot, staging, monitor)
        execute(Path(staging.directory(), "target.db"), "DELETE FROM run WHERE id = 1")

    monkeypatch.setattr(runs.transfer, "load_rows", lose_a_row)
    with left_as_it_was(room), pytest.raises(CheckFailedError, match="not what was planned"):
        replace_by_api(room, where="id = 2", roots=())


@quick
def test_a_row_that_can_not_be_written_leaves_the_old_one(room, cli):
    execute(
        room.source,
        "ALTER TABLE lab ADD COLUMN seats INTEGER CHECK (seats > 0);"
        "PRAGMA ignore_check_constraints = ON; UPDATE lab SET seats = -1",
    )
    with left_as_it_was(room):
        result = cli(*room.arguments())
    assert result.exit_code == FAILED
    assert "CHECK constraint failed" in result.stderr


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.fault(6)
def test_no_room_for_the_new_one_leaves_the_old_one(room):
    limit = room.target.stat().st_size // 2
    command = [sys.executable, "-c", LIMITED, str(limit), str(SCRIPT), *room.arguments()]
    with left_as_it_was(room):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == FAILED
    assert "Traceback" not in done.stderr
    assert "target.db" in done.stderr


@pytest.mark.fault(4)
def test_a_log_comes_back_where_the_exchange_fails(logged_room, tmp_path):
    """The old file had to leave the mode WAL for it; its rows are those of the log."""
    failing = [
        "strace",
        "-f",
        "-o",
        str(tmp_path / "calls"),
        "-e",
        "inject=?rename,?renameat,?renameat2:error=EIO:when=1",
    ]
    command = [*failing, str(SCRIPT), *logged_room.arguments()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "(INJECTED)" in (tmp_path / "calls").read_text()
    assert done.returncode == FAILED
    assert "target.db: publishing failed: Input/output error" in done.stderr
    assert notes(logged_room.target) == [("logged", ROWS)]
    assert query(logged_room.target, "PRAGMA journal_mode") == [("wal",)]
    assert sorted(os.listdir(logged_room.folder)) == ["source.db", "target.db", "target.db.receipt.json"]


@pytest.mark.fault(26)
def test_a_signal_during_the_build_leaves_the_old_one(room):
    costly = "CHECK (length(hex(zeroblob(100000 + lab))) > 0)"  # makes each row take a third of a millisecond
    more = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
    execute(
        room.source,
        f"ALTER TABLE run ADD COLUMN cost INTEGER {costly}; PRAGMA ignore_check_constraints = ON;"
        f"{more} INSERT INTO run (lab, note) SELECT 1, 'new' FROM n",
    )
    command = [str(SCRIPT), *room.arguments("-v")]
    with (
        left_as_it_was(room),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run,
    ):
        for line in run.stderr:
            if line.rstrip().endswith("copying run"):
                break
        time.sleep(0.1)
        assert run.poll() is None
        run.send_signal(signal.SIGINT)
        stdout, stderr = run.communicate(timeout=20)
        assert run.returncode == INTERRUPTED
        assert stdout == ""
        assert "nothing was published" in stderr


# More than one


@pytest.mark.fault(29)
@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.prove)])
def test_racing_replacements_leave_one_complete_target(room, record_property, rounds):
    """The one that comes while the other is at work is refused; if it comes later, it replaces what is new already."""
    refusals = 0
    for number in range(rounds):
        runs = []
        for wait in (number * 0.03, 0):
            command = [str(SCRIPT), *room.arguments()]
            runs.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            time.sleep(wait)
        said = [run.communicate(timeout=60)[1] for run in runs]
        codes = sorted(run.returncode for run in runs)
        assert codes in ([DONE, DONE], [DONE, REFUSED]), said
        if REFUSED in codes:
            refusals += 1
            assert "another panicdb run" in "".join(said)
        assert room.is_replaced()
    record_property(
        "figures", f"{'replace':24} {'two at once':28} {rounds:4} runs: {refusals} refused, {rounds} complete"
    )
