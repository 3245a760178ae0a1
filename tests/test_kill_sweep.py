"""All or nothing: whatever step a run dies at, the target is as it was or complete, and the next run finds its way."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import chdir, closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

import panicdb
from conftest import SCRIPT
from faults import DRAFTS, LONGEST_ORPHAN, RECEIPT, SOURCE, TARGET, Case, Fault, Subject, campaign, is_alive
from panicdb.experiments import fill
from panicdb.histories import bundled_history
from panicdb.replays import replay
from panicdb.values import Monitor
from seeds import FRACTION, some_of

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


MERGED = {"root": "owner", "roots": ("1",), "links": ("review.reviewer_id=stay", "review.other_id=stay")}
"""What merges with another owner's rows: nothing depends on which rows are chosen beside these."""


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """The sources that runs are disturbed on."""
    folder = tmp_path_factory.mktemp("subjects")
    rollback, logged, bundled = (folder / name for name in ("rollback", "logged", "bundled"))
    make_source(rollback, "DELETE")
    make_source(logged, "WAL")
    experiment = {"root": "experimentconfig", "roots": (make_experiments(bundled),)}
    met = {
        f"{way}, {mode}": make_met_target(rollback, folder / f"{way} {mode}", mode)
        for way in ("merge", "replace")
        for mode in ("rollback", "WAL")
    }
    return {
        **{name: Subject(name, str(place), MERGED, name.split(",")[0]) for name, place in met.items()},
        "rollback": Subject("export, rollback journal", str(rollback), CHOICE),
        "wal": Subject("export, WAL", str(logged), CHOICE),
        "clone": Subject("clone, rollback journal", str(rollback), None),
        "spool": Subject("export, spooled", str(rollback), CHOICE, options=("--spool",)),
        "spool wal": Subject("export, WAL, spooled", str(logged), CHOICE, options=("--spool",)),
        "spool merge": Subject("merge, spooled", str(met["merge, rollback"]), MERGED, "merge", ("--spool",)),
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


def make_met_target(source, folder, mode):
    """Put an earlier export beside a source. In WAL mode one of its rows is in a log alone that nobody has open."""
    shutil.copytree(source, folder)
    target = folder / TARGET
    with chdir(folder):  # the receipt names the source as it was named, and so do the runs that are to come
        panicdb.export(SOURCE, TARGET, **{**MERGED, "roots": ("2",)})
    if mode == "WAL":
        with closing(sqlite3.connect(target, isolation_level=None)) as connection:
            connection.executescript(
                "CREATE TEMP TABLE kept AS SELECT * FROM review LIMIT 1;"
                "DELETE FROM review WHERE id IN (SELECT id FROM kept);"
                "PRAGMA journal_mode = WAL; INSERT INTO review SELECT * FROM kept;"
            )
            main, log = target.read_bytes(), Path(f"{target}-wal").read_bytes()
        target.write_bytes(main)
        Path(f"{target}-wal").write_bytes(log)
    return folder


def make_experiments(folder):
    """Write a PANIC-TDA source of two small experiments; return the key of the first."""
    folder.mkdir()
    history = bundled_history()
    replay(history, history.heads, folder / SOURCE, Monitor())
    engine = sa.create_engine(f"sqlite:///{folder / SOURCE}", poolclass=sa.NullPool)
    first, _ = fill(engine, experiments=2, runs=2, invocations=6, image_bytes=(50, 200), vector_bytes=100)
    return first


# --- something goes wrong ---

SAMPLES = {
    "rollback": (
        Fault("kill", every=60),
        Fault("interrupt", every=0),
        Fault("error", every=0),
        Fault("race", numbers=(0, 1), pause=0.05),
        Fault("call", call="pwrite64", failure="EIO", numbers=(1, 40)),
        Fault("call", call="pwrite64", failure="ENOSPC", numbers=(50,)),
        Fault("call", call="write", failure="EIO", numbers=(1,)),
        Fault("call", call="fsync", failure="EIO", numbers=(1, 4)),
        Fault("call", call="fdatasync", failure="EIO", numbers=(4,)),
        Fault("call", call="link", failure="EIO", numbers=(1,)),
        Fault("call", call="openat", failure="EIO", numbers=(4,)),
    ),
    "wal": (Fault("kill", kinds=("sql",), every=40),),
    "spool": (
        Fault("kill", kinds=("sql",), every=40),
        Fault("call", call="pwrite64", failure="ENOSPC", numbers=(1, 9)),
        Fault("hold", numbers=(0,)),
    ),
    "migrations": (Fault("kill", kinds=("process", "child"), every=40),),
    "merge, rollback": (
        Fault("kill", kinds=("sql",), every=150),
        Fault("error", kinds=("sql",), every=150),
        Fault("keyboard", kinds=("sql",), every=150),
        Fault("call", call="pwrite64", failure="ENOSPC", numbers=(40,)),
        Fault(
            "call", call="fdatasync", failure="KILL", numbers=(4,)
        ),  # the journal is hot, every page written
        Fault("call", call="fdatasync", failure="EIO", numbers=(3,)),
        Fault("call", call="unlink", failure="EIO", numbers=(1,)),
        Fault("call", call="rename", failure="EIO", numbers=(1,)),
    ),
    "replace, WAL": (
        Fault("kill", kinds=("sql",), every=200),
        Fault("call", call="rename", failure="KILL", numbers=(1, 2)),
        Fault("call", call="rename", failure="EIO", numbers=(1,)),
        Fault("call", call="fsync", failure="EIO", numbers=(3,)),
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.fault(1, 2, 3, 4, 6, 26, 29, 32)
def test_a_run_that_stops_half_way_leaves_nothing_or_all(subjects, tmp_path, name):
    """A sample of the campaigns below."""
    faults = SAMPLES[name]
    for fault, outcomes in zip(faults, campaign(subjects[name], tmp_path, *faults), strict=True):
        check(outcomes)
        assert not fault.numbers or len(outcomes) == len(fault.numbers), "the run makes fewer such calls"


@pytest.mark.prove
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("rollback", Fault("kill")),
        ("rollback", Fault("interrupt")),
        ("rollback", Fault("error")),
        ("rollback", Fault("keyboard", every=3)),
        ("rollback", Fault("kill", every=0, before="fsync")),
        ("rollback", Fault("kill", every=0, before="replace")),
        ("wal", Fault("kill")),
        ("wal", Fault("interrupt", every=5)),
        ("clone", Fault("kill", every=2)),
        ("spool", Fault("kill", every=6)),
        ("spool", Fault("interrupt", kinds=("file",))),
        ("spool", Fault("error", kinds=("file",))),
        ("spool wal", Fault("kill", kinds=("file",))),
        ("spool merge", Fault("kill", every=15)),
        ("migrations", Fault("kill", kinds=("file", "process", "child"))),
        ("migrations", Fault("kill", kinds=("sql",), every=5)),
        ("migrations", Fault("interrupt", every=5)),
        ("migrations", Fault("error", every=5)),
        ("migrations", Fault("kill child", kinds=("child",), every=2)),
        ("merge, rollback", Fault("kill", every=7)),
        ("merge, rollback", Fault("interrupt", every=8)),
        ("merge, rollback", Fault("error", every=7)),
        ("merge, rollback", Fault("keyboard", every=9)),
        ("merge, rollback", Fault("kill", every=0, before="replace")),
        ("merge, WAL", Fault("kill", every=9)),
        ("merge, WAL", Fault("error", every=12)),
        ("replace, rollback", Fault("kill", every=9)),
        ("replace, rollback", Fault("interrupt", every=12)),
        ("replace, rollback", Fault("error", every=10)),
        ("replace, rollback", Fault("kill", every=0, before="fsync")),
        ("replace, WAL", Fault("kill", every=9)),
        ("replace, WAL", Fault("error", every=10)),
        ("replace, WAL", Fault("keyboard", every=12)),
    ],
    ids=str,
)
@pytest.mark.fault(1, 2, 3, 4, 26)
def test_every_step(subjects, tmp_path, figures, name, fault):
    """A run that clears up after a killed one is disturbed too: `before` fsync the first leaves a draft, before replace
    a finished target without its receipt.
    """
    fault = replace(fault, every=fault.every * FRACTION)
    (outcomes,) = campaign(subjects[name], tmp_path, fault)
    figures(subjects[name], fault, check(outcomes))


ALL = range(1, 2_000)


def calls(call, *failures, numbers=ALL):
    return [Fault("call", call=call, failure=failure, numbers=tuple(numbers)) for failure in failures]


@pytest.mark.prove
@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("rollback", calls("pwrite64", "EIO", "ENOSPC")),
        ("rollback", calls("pread64", "EIO")),
        ("rollback", calls("openat", "EIO", "EMFILE")),
        ("rollback", calls("write", "EIO", "ENOSPC") + calls("fsync", "EIO") + calls("fdatasync", "EIO")),
        ("rollback", calls("link", "EIO", "EPERM") + calls("rename", "EIO") + calls("mkdir", "ENOSPC")),
        ("rollback", calls("flock", "ENOLCK") + calls("unlink", "EIO") + calls("rmdir", "EIO")),
        ("wal", calls("pwrite64", "EIO", numbers=ALL[::3]) + calls("pread64", "EIO", numbers=ALL[::3])),
        ("wal", calls("openat", "EACCES") + calls("ftruncate", "EIO")),
        (
            "spool",
            calls("pwrite64", "EIO", "ENOSPC", numbers=ALL[:40]) + calls("openat", "EIO", numbers=ALL[:40]),
        ),
        ("spool", calls("pread64", "EIO", numbers=ALL[:40]) + calls("unlink", "EIO")),
        ("migrations", calls("pwrite64", "EIO", numbers=ALL[::3])),
        ("migrations", calls("pwrite64", "ENOSPC", numbers=ALL[::9]) + calls("write", "EIO")),
        ("migrations", calls("fdatasync", "EIO", numbers=ALL[::2])),
        ("migrations", calls("openat", "EIO", numbers=ALL[::3])),
        ("migrations", calls("unlink", "EIO") + calls("socketpair", "EMFILE")),
        ("merge, rollback", calls("pwrite64", "EIO", "ENOSPC", numbers=ALL[::7])),
        ("merge, rollback", calls("pwrite64", "KILL", numbers=ALL[1::5])),
        (
            "merge, rollback",
            calls("write", "EIO") + calls("fsync", "EIO") + calls("fdatasync", "EIO", "KILL"),
        ),
        ("merge, rollback", calls("unlink", "EIO", "KILL") + calls("rename", "EIO") + calls("openat", "EIO")),
        ("merge, WAL", calls("pwrite64", "EIO", "ENOSPC", numbers=ALL[::7])),
        ("merge, WAL", calls("pwrite64", "KILL", numbers=ALL[1::6])),
        ("merge, WAL", calls("write", "EIO") + calls("fsync", "EIO") + calls("fdatasync", "EIO", "KILL")),
        ("merge, WAL", calls("unlink", "EIO", "KILL") + calls("ftruncate", "EIO") + calls("openat", "EIO")),
        (
            "replace, rollback",
            calls("rename", "EIO", "KILL") + calls("fsync", "EIO") + calls("unlink", "EIO"),
        ),
        ("replace, WAL", calls("pwrite64", "EIO", "KILL", numbers=ALL[::16]) + calls("write", "EIO")),
        ("replace, WAL", calls("fsync", "EIO") + calls("fdatasync", "EIO", numbers=ALL[::2])),
        ("replace, WAL", calls("rename", "EIO", "KILL") + calls("unlink", "EIO", "KILL")),
        ("replace, WAL", calls("openat", "EIO", numbers=ALL[::2]) + calls("ftruncate", "EIO")),
    ],
)
@pytest.mark.fault(4, 6, 32)
def test_every_system_call(subjects, tmp_path, figures, name, faults):
    """In the child, which migrates, the same call of its own fails."""
    faults = [replace(fault, numbers=some_of(fault.numbers)) for fault in faults]
    for fault, outcomes in zip(faults, campaign(subjects[name], tmp_path, *faults), strict=True):
        figures(subjects[name], fault, check(outcomes))


@pytest.mark.parametrize(("name", "naming"), [("rollback", "link"), ("replace, rollback", "rename")])
@pytest.mark.fault(5)
def test_the_file_is_durable_before_it_has_its_name(subjects, tmp_path, name, naming):
    """Power may fail at any time: nothing is written after the sync, and the name comes last."""
    place, log = tmp_path / "place", tmp_path / "strace"
    shutil.copytree(subjects[name].folder, place)
    traced = ["strace", "-f", "-y", "-o", log, "-e", "trace=write,pwrite64,fsync,link,linkat,rename"]
    run = subprocess.run([*traced, SCRIPT, *subjects[name].arguments()], cwd=place, check=False, timeout=60)
    assert run.returncode == 0
    calls = [
        (
            name,
            *(path.removeprefix(f"{place}/") for path in re.findall(rf'{re.escape(str(place))}[^>"]*', rest)),
        )
        for name, rest in re.findall(r"^\d+ +(\w+)\((.*)", log.read_text(), flags=re.MULTILINE)
    ]
    draft, receipt, folder = f"{DRAFTS}/target.db", f"{DRAFTS}/receipt.json", str(place)
    here = [call for call in calls if len(call) > 1]
    assert here[here.index(("fsync", draft)) :] == [
        ("fsync", draft),
        ("write", receipt),
        ("fsync", receipt),
        (naming, draft, TARGET),
        ("fsync", folder),
        ("rename", receipt, RECEIPT),
        ("fsync", folder),
    ]


# --- more than one process ---


@pytest.mark.prove
@pytest.mark.fault(29)
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("rollback", Fault("race", numbers=tuple(range(40)), pause=0.01)),
        ("migrations", Fault("race", numbers=tuple(range(30)), pause=0.02)),
        ("spool", Fault("race", numbers=tuple(range(15)), pause=0.02)),
        ("rollback", Fault("hold", numbers=tuple(range(10)))),
        ("migrations", Fault("hold", numbers=tuple(range(5)))),
    ],
    ids=str,
)
def test_of_two_runs_to_one_target_one_is_refused(subjects, tmp_path, figures, name, fault):
    """100 rounds in all."""
    (outcomes,) = campaign(subjects[name], tmp_path, fault)
    figures(subjects[name], fault, check(outcomes))


@pytest.mark.prove
@pytest.mark.parametrize("name", ["merge, rollback", "replace, rollback"])
@pytest.mark.fault(29)
def test_of_two_runs_to_a_target_that_exists_one_waits_or_is_refused(subjects, tmp_path, figures, name):
    fault = Fault("race", numbers=tuple(range(10)), pause=0.03)
    (outcomes,) = campaign(subjects[name], tmp_path, fault)
    figures(subjects[name], fault, check(outcomes))


@pytest.mark.fault(2, 29)
def test_the_child_of_a_killed_run_ends_and_nobody_disturbs_it_before(subjects, tmp_path):
    """As long as it may still write, even if it is held up, the next run is refused: it would share its files."""
    case = Case(subjects["migrations"], str(tmp_path))
    child = kill_run_and_stop_its_child(case)
    try:
        refused = again(case)
        assert refused.returncode == 3
        assert "another panicdb run is making this target\n" in refused.stderr, "who locked it is gone"
    finally:
        os.kill(child, signal.SIGCONT)
    deadline = time.monotonic() + LONGEST_ORPHAN
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert again(case).returncode == 0
    assert sorted(os.listdir(case.place)) == [SOURCE, TARGET, RECEIPT]


def kill_run_and_stop_its_child(case):
    """Leave the child of a killed run standing still, with the draft open; return its id."""
    draft = Path(case.at(DRAFTS), "target.db")
    for _ in range(20):
        run = subprocess.Popen([SCRIPT, *case.subject.arguments()], cwd=case.place, stdout=subprocess.DEVNULL)
        child = await_child_with_open(draft, run)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)
        run.kill()
        run.wait()
        while (state := process_state(child)) not in ("T", "Z", None):
            time.sleep(0.001)
        if state == "T" and has_open(child, draft):
            return child
        with suppress(ProcessLookupError):  # it was done before the signal came
            os.kill(child, signal.SIGKILL)
        while is_alive(child):
            time.sleep(0.001)
        for name in (TARGET, RECEIPT):
            Path(case.at(name)).unlink(missing_ok=True)
    pytest.fail("no child was caught at its work")


def await_child_with_open(draft, run):
    while run.poll() is None:
        for child in children_of(run.pid):
            if has_open(child, draft):
                return child
        time.sleep(0.001)
    pytest.fail("the run ended before its child was seen")


def children_of(process):
    return [
        int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if parent_of(stat) == str(process)
    ]


def parent_of(stat):
    try:
        return stat.read_text().rpartition(")")[2].split()[1]
    except OSError:
        return None


def has_open(process, path):
    try:
        return any(os.path.samefile(opened, path) for opened in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False


def process_state(process):
    """Return its letter (T: stopped, Z: ended), or None when it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def again(case):
    command = [SCRIPT, *case.subject.arguments()]
    return subprocess.run(command, cwd=case.place, capture_output=True, text=True, timeout=60, check=False)


# --- outcomes ---


@pytest.fixture
def figures(record_property):
    """Note down a row of what a campaign found, for the summary."""

    def note(subject, fault, outcomes):
        states = [outcome.state for outcome in outcomes]
        counts = "".join(
            f"  {states.count(state):4} {state}" for state in ("absent", "old", "complete", "other")
        )
        seconds = sum(outcome.seconds for outcome in outcomes)
        name = f"{subject.name:24} {fault!s:28}"
        record_property("figures", f"{name} {len(states):4} runs:{counts}  {seconds:4.0f} s")

    return note


def check(outcomes):
    """Nothing but what all or nothing allows."""
    found = [f"{each.step}, {each.label}: {'; '.join(each.problems)}" for each in outcomes if each.problems]
    assert not found, f"{len(found)} of {len(outcomes)}:\n" + "\n".join(found[:10])
    assert outcomes
    return outcomes
