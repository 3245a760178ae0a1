"""All or nothing: whatever step a run dies at, the target is absent or complete, and the next run finds its way."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from conftest import SCRIPT
from faults import LONGEST_ORPHAN, RECEIPT, SOURCE, TARGET, Case, Subject, campaign, is_alive
from panicdb.experiments import fill
from panicdb.revisions import bundled_history, replay
from panicdb.values import Monitor

SCHEMA = """
CREATE TABLE owner (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE node (
    id INTEGER PRIMARY KEY,
    owner_id INTEGER NOT NULL REFERENCES owner,
    parent_id INTEGER REFERENCES node,
    body TEXT,
    data BLOB
);
CREATE TABLE tag (name TEXT PRIMARY KEY, colour TEXT) WITHOUT ROWID;
CREATE TABLE node_tag (
    node_id INTEGER NOT NULL REFERENCES node,
    tag TEXT NOT NULL REFERENCES tag,
    PRIMARY KEY (node_id, tag)
) WITHOUT ROWID;
CREATE TABLE review (
    id INTEGER PRIMARY KEY,
    node_id INTEGER NOT NULL REFERENCES node,
    reviewer_id INTEGER REFERENCES owner,
    other_id INTEGER REFERENCES node
);
CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);
CREATE INDEX node_owner ON node (owner_id);
CREATE UNIQUE INDEX node_body ON node (owner_id, lower(body)) WHERE body IS NOT NULL;
CREATE VIEW busy AS SELECT owner_id, count(*) AS nodes FROM node GROUP BY owner_id;
CREATE VIRTUAL TABLE node_text USING fts5(body, content='node', content_rowid='id');
"""
ROWS = """
INSERT INTO owner (name) VALUES ('ann'), ('bob'), ('cem');
INSERT INTO tag VALUES ('red', 'r'), ('blue', 'b'), ('unused', 'u');
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
INSERT INTO node
SELECT i, 1 + i % 3, CASE WHEN i > 6 THEN i - 3 END, 'body of node ' || i, zeroblob(i * 40) FROM n;
INSERT INTO node VALUES (61, 1, 2, 'under a stranger', x'00ff');
INSERT INTO node_tag SELECT id, CASE id % 2 WHEN 0 THEN 'red' ELSE 'blue' END FROM node;
"""
LATER = """
INSERT INTO review SELECT id, id, 1 + (id + 1) % 3, CASE id % 5 WHEN 0 THEN id - 1 END FROM node;
INSERT INTO log (what) VALUES ('before');
INSERT INTO node_text (node_text) VALUES ('rebuild');
CREATE TRIGGER node_logged AFTER INSERT ON node BEGIN
    INSERT INTO log (what) VALUES ('node ' || new.id);
END;
ANALYZE;
PRAGMA user_version = 7;
"""
CHOICE = {
    "root": "owner",
    "roots": ("1",),
    "links": ("review.reviewer_id=stay,null", "review.other_id=stay,drop"),
}


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """The sources that runs are disturbed on."""
    folder = tmp_path_factory.mktemp("subjects")
    rollback, logged, bundled = (folder / name for name in ("rollback", "logged", "bundled"))
    make_source(rollback, "DELETE")
    make_source(logged, "WAL")
    experiment = {"root": "experimentconfig", "roots": (make_experiments(bundled),)}
    return {
        "rollback": Subject("export, rollback journal", str(rollback), CHOICE),
        "wal": Subject("export, WAL", str(logged), CHOICE),
        "clone": Subject("clone, rollback journal", str(rollback), None),
        "migrations": Subject("export, migrations", str(bundled), experiment),
    }


def make_source(folder, journal_mode):
    """Write a source; in WAL mode its later rows are in the log alone, as while its writer lives."""
    folder.mkdir()
    work = folder.parent / f"{folder.name}.db"
    with closing(sqlite3.connect(work)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.executescript(SCHEMA + ROWS)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.executescript(LATER)
        connection.commit()
        shutil.copy(work, folder / SOURCE)
        if journal_mode == "WAL":
            shutil.copy(f"{work}-wal", folder / (SOURCE + "-wal"))


def make_experiments(folder):
    """Write a PANIC-TDA source of two small experiments; return the key of the first."""
    folder.mkdir()
    history = bundled_history()
    replay(history, history.heads, folder, f"sqlite:///{SOURCE}", Monitor())
    engine = sa.create_engine(f"sqlite:///{folder / SOURCE}", poolclass=sa.NullPool)
    first, _ = fill(
        engine, experiments=2, runs=2, invocations=6, image_bytes=(50, 200), vector_bytes=100
    )
    return first


# --- a step goes wrong ---


@pytest.mark.parametrize("name", ["rollback", "wal", "migrations"])
def test_a_killed_run_leaves_nothing_or_all(subjects, tmp_path, name):
    check(campaign(subjects[name], tmp_path, "kill", sample=True))


@pytest.mark.parametrize("mode", ["interrupt", "error", "keyboard"])
def test_a_run_that_is_stopped_leaves_nothing_or_all(subjects, tmp_path, mode):
    check(campaign(subjects["rollback"], tmp_path, mode, sample=True))


@pytest.mark.parametrize("before", ["fsync", "replace"])
def test_a_run_that_clears_up_after_a_killed_one_may_be_killed_too(subjects, tmp_path, before):
    """Before `fsync` the first run leaves a draft, before `replace` a finished target without its receipt."""
    check(campaign(subjects["rollback"], tmp_path, "kill", before=before))


@pytest.mark.prove
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("rollback", "kill"),
        ("rollback", "interrupt"),
        ("rollback", "error"),
        ("rollback", "keyboard"),
        ("wal", "kill"),
        ("clone", "kill"),
        ("migrations", "kill"),
        ("migrations", "interrupt"),
        ("migrations", "error"),
        ("migrations", "kill child"),
    ],
)
def test_every_step(subjects, tmp_path, figures, name, mode):
    subject = subjects[name]
    figures(subject.name, mode, check(campaign(subject, tmp_path, mode)))


# --- a system call fails ---


@pytest.mark.parametrize(
    ("call", "failure", "numbers"),
    [
        ("pwrite64", "EIO", (1, 12, 40)),
        ("pwrite64", "ENOSPC", (5, 70)),
        ("write", "EIO", (1, 2, 3)),
        ("fsync", "EIO", (1, 2, 3, 4)),
        ("fdatasync", "EIO", (1, 4)),
        ("link", "EIO", (1,)),
        ("openat", "EIO", (3, 4, 16)),
    ],
)
def test_a_failing_system_call_leaves_nothing_or_all(subjects, tmp_path, call, failure, numbers):
    outcomes = campaign(subjects["rollback"], tmp_path, "error", syscall=call, failure=failure, steps=numbers)
    assert len(check(outcomes)) == len(numbers), "the run makes fewer such calls"


@pytest.mark.prove
@pytest.mark.parametrize(
    ("name", "call", "failure", "stride"),
    [
        ("rollback", "pwrite64", "EIO", 1),
        ("rollback", "pwrite64", "ENOSPC", 1),
        ("rollback", "pread64", "EIO", 1),
        ("rollback", "openat", "EIO", 1),
        ("rollback", "openat", "EMFILE", 1),
        ("rollback", "write", "EIO", 1),
        ("rollback", "write", "ENOSPC", 1),
        ("rollback", "fsync", "EIO", 1),
        ("rollback", "fdatasync", "EIO", 1),
        ("rollback", "link", "EIO", 1),
        ("rollback", "link", "EPERM", 1),
        ("rollback", "rename", "EIO", 1),
        ("rollback", "mkdir", "ENOSPC", 1),
        ("rollback", "flock", "ENOLCK", 1),
        ("rollback", "unlink", "EIO", 1),
        ("rollback", "rmdir", "EIO", 1),
        ("wal", "pwrite64", "EIO", 3),
        ("wal", "pread64", "EIO", 3),
        ("wal", "openat", "EACCES", 1),
        ("wal", "ftruncate", "EIO", 1),
        ("wal", "mmap", "ENOMEM", 1),
        ("migrations", "pwrite64", "EIO", 3),
        ("migrations", "pwrite64", "ENOSPC", 7),
        ("migrations", "fdatasync", "EIO", 2),
        ("migrations", "write", "EIO", 1),
        ("migrations", "openat", "EIO", 3),
        ("migrations", "unlink", "EIO", 1),
        ("migrations", "clone", "EAGAIN", 1),
        ("migrations", "pipe2", "EMFILE", 1),
    ],
)
def test_every_system_call(subjects, tmp_path, figures, name, call, failure, stride):
    """Of the child's calls the same number fails as of the run's own."""
    steps = tuple(range(1, 2_000, stride))
    outcomes = campaign(subjects[name], tmp_path, "error", syscall=call, failure=failure, steps=steps)
    figures(subjects[name].name, f"{call} {failure}", check(outcomes))
    assert outcomes


def test_the_file_is_durable_before_it_has_its_name(subjects, tmp_path):
    """Power may fail at any time: nothing is written after the sync, and the name comes last."""
    place, log = tmp_path / "place", tmp_path / "strace"
    shutil.copytree(subjects["rollback"].folder, place)
    traced = ["strace", "-f", "-y", "-o", log, "-e", "trace=write,pwrite64,fsync,link,linkat,rename"]
    command = [SCRIPT, *subjects["rollback"].arguments(), "--quiet"]
    subprocess.run([*traced, *command], cwd=place, check=True, timeout=60)
    calls = re.findall(
        r"(\w+)\((?:\d+<|\")" + re.escape(str(place)) + r"([^>\"]*)[>\"](?:, \"[^\"]*/([^\"]*)\")?", log.read_text()
    )
    draft, receipt = (f"/.{TARGET}.panicdb/{name}" for name in ("target.db", "receipt.json"))
    tail = [(call, what, name if call in ("link", "rename") else "") for call, what, name in calls]
    assert tail[tail.index(("fsync", draft, "")) :] == [
        ("fsync", draft, ""),
        ("write", receipt, ""),
        ("fsync", receipt, ""),
        ("link", draft, TARGET),
        ("fsync", "", ""),
        ("rename", receipt, RECEIPT),
        ("fsync", "", ""),
    ]


# --- more than one process ---


def test_of_two_runs_to_one_target_one_is_refused(subjects, tmp_path):
    check(campaign(subjects["rollback"], tmp_path, "race", steps=range(4), pause=0.05))


@pytest.mark.prove
@pytest.mark.parametrize("name", ["rollback", "migrations"])
def test_of_two_runs_to_one_target_one_is_refused_each_time(subjects, tmp_path, figures, name):
    outcomes = campaign(subjects[name], tmp_path, "race", steps=range(20), pause=0.02)
    figures(subjects[name].name, "two at once", check(outcomes))


def test_the_child_of_a_killed_run_ends_and_nobody_disturbs_it_before(subjects, tmp_path):
    """As long as it may still write, even if it is held up, the next run is refused: it would share its files."""
    case = Case(subjects["migrations"], str(tmp_path))
    run = subprocess.Popen([SCRIPT, *case.subject.arguments()], cwd=case.place, stdout=subprocess.DEVNULL)
    child = await_migrating_child(run, Path(case.place, f".{TARGET}.panicdb", "target.db"))
    os.kill(child, signal.SIGSTOP)
    run.kill()
    run.wait()
    try:
        refused = again(case)
        assert refused.returncode == 3
        assert "another panicdb run is making this target" in refused.stderr
    finally:
        os.kill(child, signal.SIGCONT)
    deadline = time.monotonic() + LONGEST_ORPHAN
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert again(case).returncode == 0
    assert sorted(os.listdir(case.place)) == [SOURCE, TARGET, RECEIPT]


def await_migrating_child(run, draft):
    """Wait until the child of a run has begun to write; return its id."""
    while run.poll() is None:
        found = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/stat")
            if is_child(path, run.pid) and draft.is_file() and draft.stat().st_size > 20_000
        ]
        if found:
            return found[0]
    pytest.fail("the run ended before its child was seen")


def is_child(stat, parent):
    try:
        return stat.read_text().rpartition(")")[2].split()[1] == str(parent)
    except OSError:
        return False


def again(case):
    return subprocess.run(
        [SCRIPT, *case.subject.arguments()], cwd=case.place, capture_output=True, text=True, timeout=60, check=False
    )


# --- outcomes ---


@pytest.fixture
def figures(record_property):
    """Note down a row of what a campaign found, for the summary."""

    def note(subject, fault, outcomes):
        states = [outcome.state for outcome in outcomes]
        counts = ", ".join(f"{states.count(state)} {state}" for state in ("absent", "complete", "other"))
        seconds = sum(outcome.seconds for outcome in outcomes)
        record_property("figures", f"{subject}; {fault}: {len(states)} runs: {counts}; {seconds:.0f} s")

    return note


def check(outcomes):
    """Nothing but what all or nothing allows."""
    found = [f"{each.step}, {each.label}: {'; '.join(each.problems)}" for each in outcomes if each.problems]
    assert not found, f"{len(found)} of {len(outcomes)}:\n" + "\n".join(found[:10])
    assert outcomes
    return outcomes
