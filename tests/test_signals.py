"""A signal ends a run within a second, wherever it strikes; nothing is published and nothing stays."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("panicdb")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SECONDS = 1.0
ENDLESS = "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n) > 0"
# What one row costs is decided by these expressions; SQLite must work them out for each.
COSTLY_ROW = "length(hex(zeroblob(100000 + note % 2))) > 0"
COSTLY_KEY = "length(hex(zeroblob(20000 + note % 2)))"
ROOTS = "CREATE TABLE root (id INTEGER PRIMARY KEY); INSERT INTO root VALUES (1), (2);"
ROWS = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
    "INSERT INTO item SELECT i, 1, i FROM n;"
)
ITEM = "CREATE TABLE item (id INTEGER PRIMARY KEY, root_id INTEGER REFERENCES root (id), note INTEGER{});"


def make(folder, name, *script):
    path = folder / name
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; BEGIN;" + "".join(script) + "; COMMIT"
        )
    return path


@pytest.fixture(scope="module")
def sources(tmp_path_factory, experiments_db):
    """A database for each phase, in which that phase takes several seconds."""
    folder = tmp_path_factory.mktemp("slow")
    unchecked = "PRAGMA ignore_check_constraints = ON;"
    return {
        "planning": make(folder, "plan.db", ROOTS),
        "migrations": experiments_db,
        "rows": make(
            folder, "rows.db", unchecked, ROOTS, ITEM.format(f", CHECK ({COSTLY_ROW})"), ROWS.format(60_000)
        ),
        "indexes": make(
            folder,
            "indexes.db",
            ROOTS,
            ITEM.format(""),
            ROWS.format(40_000),
            f"CREATE INDEX slow ON item ({COSTLY_KEY})",
        ),
    }


PHASES = {
    "planning": (["--root", "root", "--where", ENDLESS], "following links"),
    "migrations": (["--all"], "running migrations"),
    "rows": (["1", "--root", "root"], "copying item"),
    "indexes": (["1", "--root", "root"], "building indexes"),
}


@contextmanager
def exporting(source, folder, arguments, program=(SCRIPT,)):
    """Run an export that tells its steps; `folder` holds the target alone."""
    folder.mkdir()
    command = [*program, "export", source, folder / "target.db", *arguments, "-v"]
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process, step):
    """Read steps until one begins, and let it get going."""
    for line in process.stderr:
        if line.rstrip().endswith(f"  {step}"):
            time.sleep(0.15)
            assert process.poll() is None
            return
    pytest.fail(f"{step} never began")


def ends_in_time(process, began):
    stdout, stderr = process.communicate(timeout=30)
    assert time.monotonic() - began < SECONDS
    assert stdout == ""
    return stderr


def children(pid):
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    return [int(child) for child, parent in map(str.split, listing.splitlines()) if int(parent) == pid]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.fault(26)
def test_a_signal_ends_a_run_within_a_second(sources, tmp_path, phase, number):
    arguments, step = PHASES[phase]
    source, folder = sources[phase], tmp_path / "out"
    before, beside = source.read_bytes(), sorted(os.listdir(source.parent))
    with exporting(source, folder, arguments) as process:
        wait_for(process, step)
        started = children(process.pid)
        assert bool(started) == (phase == "migrations")
        began = time.monotonic()
        process.send_signal(number)
        said = ends_in_time(process, began)
    assert process.returncode == CODES[number]
    assert said.splitlines()[-1] == f"error: interrupted by {number.name}: nothing was published"
    assert "Traceback" not in said
    assert os.listdir(folder) == []
    assert not any(map(alive, started))
    assert (source.read_bytes(), sorted(os.listdir(source.parent))) == (before, beside)


@pytest.mark.fault(26)
def test_control_c_reaches_the_migrations_too(sources, tmp_path):
    """A terminal sends SIGINT to the whole group: the child's own end must not be taken for a failed migration."""
    with exporting(sources["migrations"], tmp_path / "out", ["--all"]) as process:
        wait_for(process, "running migrations")
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        said = ends_in_time(process, began)
    assert process.returncode == 130
    assert said == "error: interrupted by SIGINT: nothing was published\n"
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.fault(26)
def test_a_long_statement_over_many_plain_rows_is_ended(tmp_path):
    """No trick: 600,000 rows, some 60 MB, copied by key in one INSERT."""
    wide = "CREATE TABLE item (id INTEGER PRIMARY KEY, root_id INTEGER REFERENCES root (id), note BLOB);"
    rows = ROWS.format(600_000).replace("SELECT i, 1, i", "SELECT i, 1 + (i = 9), zeroblob(80)")
    source = make(tmp_path, "plain.db", ROOTS, wide, rows)
    with exporting(source, tmp_path / "out", ["1", "--root", "root"]) as process:
        wait_for(process, "copying item")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        ends_in_time(process, began)
    assert process.returncode == 130
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.fault(7, 26)
def test_waiting_for_a_lock_is_ended(tmp_path):
    source = make(tmp_path, "locked.db", ROOTS)
    with closing(sqlite3.connect(source, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with exporting(source, tmp_path / "out", ["--all", "--root", "root"]) as process:
            time.sleep(1.5)  # the waiting tells nothing; by now it should have begun
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            said = ends_in_time(process, began)
    assert process.returncode == 130
    assert said.startswith("error: interrupted")
    assert len(said.splitlines()) == 1
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.fault(26)
def test_what_was_ignored_from_the_start_stays_ignored(sources, tmp_path):
    """`nohup` means what it says."""
    program = ("sh", "-c", "trap '' HUP; exec \"$@\"", "sh", SCRIPT)
    with exporting(sources["planning"], tmp_path / "out", PHASES["planning"][0], program) as process:
        wait_for(process, "following links")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        ends_in_time(process, began)
    assert process.returncode == 143


STUCK = """
import os, time
from panicdb.cli import panicdb
def never_done(descriptor):
    while True:
        time.sleep(60)
os.fsync = never_done
panicdb()
"""
BOMB = "instr(hex(zeroblob(3000000)), hex(zeroblob(500000)) || '1') = 0"
"""One instruction of SQLite that takes minutes, and asks nobody meanwhile."""
HOPELESS = {
    "a disk that hangs": ((sys.executable, "-c", STUCK), ["--all", "--root", "root"], "publishing"),
    "an instruction that never ends": ((SCRIPT,), ["--root", "root", "--where", BOMB], "following links"),
}


@pytest.mark.parametrize("case", HOPELESS)
@pytest.mark.fault(26)
def test_a_second_signal_ends_at_once(sources, tmp_path, case):
    """Where the first can't work. What it leaves behind, the next run removes."""
    program, arguments, step = HOPELESS[case]
    folder = tmp_path / "out"
    with exporting(sources["planning"], folder, arguments, program) as process:
        wait_for(process, step)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        ends_in_time(process, began)
    assert process.returncode == 130
    assert not (folder / "target.db").exists()
    command = [SCRIPT, "export", sources["planning"], folder / "target.db", "--all", "--root", "root"]
    assert subprocess.run(list(map(str, command)), capture_output=True, check=False).returncode == 0
    assert sorted(os.listdir(folder)) == ["target.db", "target.db.receipt.json"]
