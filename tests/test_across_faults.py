"""Runs between engines that end before their time: no target is left, or a complete one, and the words are ours."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import panicdb
from crossings import Made, make_server, make_sqlite, write_history
from panicdb.errors import PanicDBError
from panicdb.reports import Verdict
from panicdb.values import Monitor
from seeds import SEED, campaign_of

PANICDB = Path(sys.executable).with_name("panicdb")
ROWS = 30_000
TABLE = Made("t", (("TEXT NOT NULL", "text NOT NULL"), ("FLOAT", "float8")), [])
LONG = 500
"""Characters of a row: more than what fits into the buffers between a server and its client."""
SECOND = 1.0
KILLED = 20
INTERRUPTED = 130


@pytest.fixture(params=["there", "back"])
def way(request, postgres, make_pg, tmp_path):
    """A way between the engines: source, target, configuration, and what tells whether anything of a target is left."""
    ini = write_history(tmp_path / "app", [TABLE])
    if request.param == "there":
        source, target = make_sqlite(tmp_path / "source.db", [TABLE]), postgres.url("target_it")
        with closing(sqlite3.connect(source)) as connection:
            rows = ((number, f"row {number} " + "x" * LONG, number / 7) for number in range(ROWS))
            connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
            connection.commit()

        def left():
            return {name for name in postgres.databases() if name.startswith("target_it")}

    else:
        source, folder = make_server(postgres, "source", [TABLE]), tmp_path / "targets"
        folder.mkdir()
        target = str(folder / "target.db")
        postgres.execute(
            f"INSERT INTO t SELECT n, 'row ' || n || repeat('x', {LONG}), n / 7.0 FROM generate_series(1, {ROWS}) n",
            "source",
        )

        def left():
            return {path.name for path in folder.iterdir()}

    return source, target, ini, left


class Interfering(Monitor):
    """Does something once, when rows travel or are looked at."""

    def __init__(self, step, act):
        super().__init__(report=self.see)
        self.step, self.act = step, act

    def see(self, progress):
        if progress.step == self.step and progress.table in ("t", None):
            self.poll = self.act


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    "step", ["looking at values", "copying", "building indexes", "checking", "publishing"]
)
def test_an_interrupted_run_leaves_nothing(way, step):
    source, target, ini, left = way

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        panicdb.clone(source, target, config=[str(ini)], monitor=Interfering(step, interrupt))
    assert left() == set()


@pytest.mark.fault(11)
def test_a_server_that_ends_its_sessions_leaves_nothing(way, postgres):
    source, target, ini, left = way
    ended = []

    def end():
        if not ended:
            ended.append(
                postgres.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND application_name ~ 'panicdb' AND datname ~ 'target_it|source'"
                )
            )

    with pytest.raises(PanicDBError) as told:
        panicdb.clone(source, target, config=[str(ini)], monitor=Interfering("copying", end))
    assert ended[0][0][0] > 0
    assert told.value.hint
    assert "row 1" not in told.value.message
    assert left() == set()


@pytest.mark.fault(26)
def test_ctrl_c_ends_a_run_within_a_second(way):
    source, target, ini, left = way
    interrupted = 0
    for delay in (0.5, 0.8, 1.1):
        with started(source, target, ini) as run:
            time.sleep(delay)
            sent = time.monotonic()
            run.send_signal(signal.SIGINT)
            code = run.wait(timeout=30)
        if code == 0:  # it was through with it
            break
        assert code == INTERRUPTED
        assert time.monotonic() - sent < SECOND
        assert left() == set()
        interrupted += 1
    assert interrupted


@pytest.mark.prove
@pytest.mark.fault(1)
def test_a_killed_run_leaves_nothing_or_all(way):
    """What else it leaves is hidden, and the next run to that target takes it away."""
    source, target, ini, left = way
    moments = random.Random(SEED)
    began = time.monotonic()
    finish(source, target, ini)
    whole = time.monotonic() - began
    names = [f"{target}_{number}" for number in range(campaign_of(KILLED))]
    for name in names:
        with started(source, name, ini) as run:
            time.sleep(moments.uniform(0.2, whole))
            run.kill()
        if name.rpartition("/")[2] not in left():
            finish(source, name, ini)
        assert panicdb.verify(source, name).verdict is Verdict.EXACT
    assert left() == {name.rpartition("/")[2] for name in (target, *names)}


def started(source, target, ini):
    command = [PANICDB, "clone", source, target, "--config", ini, "--quiet", "--no-receipt"]
    return subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)


def finish(source, target, ini):
    with started(source, target, ini) as run:
        assert run.wait(timeout=60) == 0
