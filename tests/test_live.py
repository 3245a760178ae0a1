"""Sources that somebody writes to, and targets that somebody reads or makes at the same time."""

import fcntl
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from contextlib import closing
from itertools import pairwise

import pytest

import panicdb
from conftest import SCRIPT
from faults import holder
from live_writer import OWNERS, lies_in, make_source, writing
from panicdb.errors import InterruptedRunError, TargetError
from panicdb.values import Monitor

OWNERS_WANTED = {"root": "owner", "roots": ["1", "2", "3", "4"]}
PATIENCE = 60.0
"""Seconds that a writer in rollback-journal mode waits for locks. In WAL mode it does not wait at all."""


@pytest.fixture
def figures(record_property):
    return lambda line: record_property("figures", line)


@pytest.fixture
def live(tmp_path):
    """Make a source that is to be written to."""

    def make(journal_mode, papers=40):
        path = tmp_path / "source.db"
        make_source(path, journal_mode, papers=papers)
        return path

    return make


def dump(path):
    """Return all that a database holds, as SQL, without waiting for anybody."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)) as connection:
        return list(connection.iterdump())


def write_once(path, statement="UPDATE owner SET name = name || '!'"):
    """Commit something, without waiting for anybody."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute(statement)


# --- a writer at full speed ---


def copies_of_a_live_source(source, journal_mode, *, rounds, spool, pause=0.2):
    """Export and clone by turns while a writer writes.

    Returns the writer, and for each round the moments at which a span without us, the run, and the round ended.
    """
    spans = []
    with writing(source, timeout=0 if journal_mode == "WAL" else PATIENCE) as writer:
        for number in range(rounds):
            target = source.with_name(f"copy{number}.db")
            began = time.monotonic()
            time.sleep(pause)
            alone = time.monotonic()
            if number % 2:
                panicdb.clone(str(source), str(target), spool=spool)
            else:
                panicdb.export(str(source), str(target), spool=spool, **OWNERS_WANTED)
            spans.append((began, alone, time.monotonic()))
            assert lies_in(target) == []
            target.unlink()
    return writer, spans


def describe(writer, spans):
    """Return the rates of the writer, alone and during runs, and what a run left of it, as the middle of all rounds."""
    alone = [writer.commits(began, middle) / (middle - began) for began, middle, _ in spans]
    during = [writer.commits(middle, ended) / (ended - middle) for _, middle, ended in spans]
    left = statistics.median(one / other for one, other in zip(during, alone, strict=True))
    return statistics.median(alone), statistics.median(during), left


@pytest.mark.fault(8)
@pytest.mark.parametrize("journal_mode", ["WAL", "DELETE"])
def test_a_copy_of_a_live_source_is_of_one_moment(live, journal_mode):
    """A sample of the campaign below. In WAL mode the writer fails at the first lock that it meets."""
    writer, spans = copies_of_a_live_source(
        live(journal_mode), journal_mode, rounds=3, spool=False, pause=0.05
    )
    assert len(spans) == 3
    assert all(writer.commits(began, ended) for began, _, ended in spans), "the writer gets on"


@pytest.mark.prove
@pytest.mark.fault(8)
@pytest.mark.parametrize(
    ("journal_mode", "spool", "rounds"),
    [("WAL", False, 50), ("DELETE", False, 50), ("WAL", True, 20), ("DELETE", True, 20)],
)
def test_many_copies_of_a_live_source(live, figures, journal_mode, spool, rounds):
    """What a run costs the writer is printed; on a quiet machine `bench/live.py` measures it."""
    writer, spans = copies_of_a_live_source(
        live(journal_mode, papers=400), journal_mode, rounds=rounds, spool=spool
    )
    alone, during, left = describe(writer, spans)
    name = f"live, {journal_mode}{', spooled' if spool else ''}"
    figures(
        f"{name:22} {rounds} copies, none untrue  writer: {alone:5.0f}/s alone, {during:5.0f}/s during runs "
        f"({left:.0%})  longest wait {max(writer.waits()):.2f} s"
    )
    assert all(writer.commits(began, middle) for began, middle, _ in spans), (
        "the writer gets on after each run"
    )


@pytest.mark.fault(8)
@pytest.mark.parametrize("spool", [pytest.param(False, marks=pytest.mark.prove), True])
def test_writers_of_a_spooled_source_wait_for_the_spooling_alone(live, spool):
    """In rollback-journal mode. Whatever the run does later, here for a second, is done with the copy."""
    source, steps = live("DELETE"), {}

    def dawdle(progress):
        steps.setdefault(progress.step, time.monotonic())
        if progress.step == "following links":
            time.sleep(1)

    with writing(source, timeout=PATIENCE) as writer:
        target = source.with_name("copy.db")
        panicdb.export(str(source), str(target), spool=spool, progress=dawdle, **OWNERS_WANTED)
    assert lies_in(target) == []
    longest = max(writer.waits())
    if spool:
        assert longest < steps["following links"] - steps["spooling"] + 0.5
    else:
        assert longest > 1


@pytest.mark.fault(8)
def test_a_dry_run_says_that_writers_wait_and_what_helps(live, cli):
    source = live("DELETE")
    target = source.with_name("copy.db")
    for options in ([], ["--spool"]):
        planned = cli("clone", source, target, "--dry-run", *options)
        assert (
            "its writers wait while it is read; with --spool only while it is copied aside" in planned.stdout
        )
    write_once(source, "PRAGMA journal_mode = WAL")
    assert "writers" not in cli("clone", source, target, "--dry-run").stdout
    assert not target.exists()


# --- a writer at each step ---

CHANGES = (
    "UPDATE owner SET name = 'renamed'",
    "UPDATE paper SET owner_id = owner_id % 8 + 1, scan = x'00'",
    "DELETE FROM current",
    "INSERT INTO owner SELECT id + 1000, name FROM owner",
    "CREATE TABLE stranger (id INTEGER PRIMARY KEY, owner_id INTEGER REFERENCES owner)",
    "ALTER TABLE savings ADD COLUMN note TEXT",
    "DROP INDEX paper_owner",
    "DELETE FROM paper",
    "VACUUM",
    "DROP TABLE half",
    "PRAGMA user_version = 77",
)


@pytest.mark.fault(8, 9)
@pytest.mark.parametrize("spool", [False, True])
@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.prove) for first in range(1, 11))]
)
def test_closure_rows_counts_and_checks_are_of_one_moment(live, spool, first):
    """The source is rewritten at each step of a run, with what would show whenever it came."""
    source, steps = live("WAL"), []
    wanted, target = source.with_name("wanted.db"), source.with_name("copy.db")
    expected = panicdb.export(str(source), str(wanted), **OWNERS_WANTED)
    changes = [*CHANGES[first:], *CHANGES[:first]]

    def change(progress):
        steps.append(progress.step)
        last = progress.step == "publishing"
        for statement in changes if last else changes[:1]:
            write_once(source, statement)
        del changes[: None if last else 1]

    receipt = panicdb.export(str(source), str(target), spool=spool, progress=change, **OWNERS_WANTED)
    assert target.read_bytes() == wanted.read_bytes()
    assert receipt.tables == expected.tables
    assert {"copying the schema", "copying", "building indexes", "checking", "publishing"} <= set(steps)
    assert changes == []
    assert dump(source) != dump(target)


@pytest.mark.fault(8)
def test_a_spool_is_of_one_moment_whatever_is_committed_between_its_steps(live):
    """In WAL mode, where writers go on: the backup neither starts anew nor mixes moments."""
    source = live("WAL", papers=400)
    wanted, target = source.with_name("wanted.db"), source.with_name("copy.db")
    panicdb.clone(str(source), str(wanted))
    reports = []
    commits = 0

    def write_between():
        nonlocal commits
        if [each.step for each in reports[-1:]] == ["spooling"]:
            commits += 1
            assert commits < 100, "it starts anew whenever there is a commit"
            write_once(
                source, f"UPDATE paper SET owner_id = 1 + id % 7, scan = x'{commits:02x}' WHERE id % 3 = 0"
            )
            write_once(source, f"INSERT INTO paper (owner_id, scan) VALUES (1, zeroblob({commits * 50_000}))")

    monitor = Monitor(reports.append, write_between)
    monitor.SECONDS_BETWEEN_REPORTS = 0.0
    panicdb.clone(str(source), str(target), spool=True, monitor=monitor)
    assert commits > 6
    done = [each.bytes_done for each in reports if each.step == "spooling"]
    assert done == sorted(done), "it never started anew"
    assert done[-1] == reports[0].bytes_total > 8_000_000
    assert target.read_bytes() == wanted.read_bytes()
    assert dump(source) != dump(target)


@pytest.mark.fault(7, 8)
def test_a_spool_lets_go_of_the_source_when_it_is_copied(live):
    """In rollback-journal mode: writers are locked out between the steps of the backup, and free from then on."""
    source = live("DELETE", papers=400)
    target, outcomes = source.with_name("copy.db"), {}

    def try_to_write(progress):
        try:
            write_once(source)
        except sqlite3.OperationalError as error:
            outcomes.setdefault(progress.step, set()).add(str(error))
        else:
            outcomes.setdefault(progress.step, set()).add("written")

    monitor = Monitor(try_to_write)
    monitor.SECONDS_BETWEEN_REPORTS = 0.0
    panicdb.export(str(source), str(target), spool=True, monitor=monitor, **OWNERS_WANTED)
    assert outcomes.pop("spooling") == {"database is locked"}
    assert len(outcomes) > 4
    assert set.union(*outcomes.values()) == {"written"}
    assert dump(source) != dump(target)


# --- locks on the source ---


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("journal_mode", "options"),
    [
        ("DELETE", []),
        pytest.param("DELETE", ["--spool"], marks=pytest.mark.prove),
        pytest.param("WAL", [], marks=pytest.mark.prove),
        pytest.param("WAL", ["--spool"], marks=pytest.mark.prove),
    ],
)
def test_the_source_is_opened_once(live, journal_mode, options):
    """A second connection could be locked out by a writer that waits for the first."""
    source = live(journal_mode)
    target, log = source.with_name("copy.db"), source.with_name("strace.log")
    trace = ["strace", "-f", "-o", log, "-e", "trace=?open,openat,?openat2"]
    arguments = ["export", source, target, "1", "--root", "owner", *options]
    subprocess.run([*trace, SCRIPT, *arguments], check=True, timeout=120, capture_output=True)
    calls = re.findall(rf'open\w*\(.*"{re.escape(str(source))}", .*= (-?\d+)', log.read_text())
    assert len(calls) == 1
    assert int(calls[0]) > 0


@pytest.mark.fault(7, 8)
@pytest.mark.parametrize("spool", [False, True])
def test_a_writer_that_waits_neither_stops_a_run_nor_is_forgotten(live, spool):
    """In rollback-journal mode a waiting writer keeps new readers out, but not the one that it waits for."""
    source = live("DELETE")
    wanted, target = source.with_name("wanted.db"), source.with_name("copy.db")
    panicdb.export(str(source), str(wanted), **OWNERS_WANTED)
    locked_out = []

    def write():
        with closing(sqlite3.connect(source, timeout=PATIENCE)) as connection:
            connection.execute("DELETE FROM paper")
            connection.commit()

    writer = threading.Thread(target=write)

    def let_a_writer_wait(progress):
        if writer.ident is None:
            writer.start()
            while writer.is_alive() and not locked_out:
                try:
                    dump(source)
                except sqlite3.OperationalError as error:
                    locked_out.append(str(error))

    panicdb.export(str(source), str(target), spool=spool, progress=let_a_writer_wait, **OWNERS_WANTED)
    writer.join()
    assert locked_out == (["database is locked"])
    assert target.read_bytes() == wanted.read_bytes()
    assert 'INSERT INTO "paper"' not in "".join(dump(source))


@pytest.mark.fault(7)
@pytest.mark.parametrize("options", [[], ["--spool"]])
def test_a_locked_source_is_waited_for_as_long_as_was_said(live, cli, options):
    source = live("DELETE")
    target = source.with_name("copy.db")
    with closing(sqlite3.connect(source, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        refused = cli("clone", source, target, "--timeout", "0.5", *options)
        assert refused.exit_code == 3
        assert f"{source}: the database is locked by another process" in refused.stderr
        assert 0.5 < time.monotonic() - began < 10
    assert os.listdir(source.parent) == [source.name]


# --- what a spooled run leaves ---

SHAPES = [
    ("DELETE", 512, "UTF-8", 0),
    ("WAL", 4096, "UTF-16le", 1),
    ("DELETE", 8192, "UTF-16be", 2),
    ("WAL", 65536, "UTF-8", 0),
]


@pytest.mark.parametrize(("journal_mode", "page_size", "encoding", "auto_vacuum"), SHAPES)
def test_a_spooled_run_makes_the_same_target(tmp_path, journal_mode, page_size, encoding, auto_vacuum):
    source = tmp_path / "source.db"
    wanted = {"page_size": page_size, "encoding": encoding, "auto_vacuum": auto_vacuum}
    wanted |= {"user_version": 7, "application_id": -5}
    settings = "".join(f"PRAGMA {name} = '{value}';" for name, value in wanted.items())
    make_source(source, journal_mode, papers=20, settings=settings)
    made = {}
    for spool in (False, True):
        copy, subset = tmp_path / f"clone{spool}.db", tmp_path / f"subset{spool}.db"
        receipts = (
            panicdb.clone(str(source), str(copy), spool=spool),
            panicdb.export(str(source), str(subset), spool=spool, **OWNERS_WANTED),
        )
        assert [each.source for each in receipts] == [str(source)] * 2
        made[spool] = [path.read_bytes() for path in (copy, subset)]
    assert made[False] == made[True]
    with closing(sqlite3.connect(tmp_path / "cloneTrue.db")) as connection:
        found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}
    assert found == wanted


def test_a_spooled_run_shows_the_source_and_never_the_copy(live, cli):
    source = live("DELETE")
    write_once(source, "UPDATE paper SET owner_id = 99 WHERE id = 1")
    target = source.with_name("copy.db")
    for arguments in (["clone", source, target], ["export", source, target, "99", "--root", "owner"]):
        plain, spooled = cli(*arguments), cli(*arguments, "--spool")
        assert spooled.exit_code == plain.exit_code == 3
        assert spooled.stderr == plain.stderr
    kept = cli("clone", source, target, "--spool", "--violations", "keep", "-v")
    assert "spooling" in kept.stderr
    assert str(source) in target.with_name("copy.db.receipt.json").read_text()
    assert ".panicdb" not in kept.stdout + kept.stderr + target.with_name("copy.db.receipt.json").read_text()
    assert sorted(os.listdir(source.parent)) == ["copy.db", "copy.db.receipt.json", "source.db"]


@pytest.mark.parametrize("journal_mode", ["WAL", "DELETE"])
@pytest.mark.parametrize("existing", ["merge", "replace"])
def test_a_spooled_run_can_merge_and_replace(live, journal_mode, existing):
    """The source is free before the target that exists is touched."""
    source, steps = live(journal_mode), []
    plain, spooled = source.with_name("plain.db"), source.with_name("spooled.db")
    for target in (plain, spooled):
        panicdb.export(str(source), str(target), root="owner", roots=["7"])
    panicdb.export(str(source), str(plain), existing=existing, **OWNERS_WANTED)

    def write_after_spooling(progress):
        if progress.step != "spooling":
            steps.append(progress.step)
            write_once(source)

    receipt = panicdb.export(
        str(source),
        str(spooled),
        existing=existing,
        spool=True,
        progress=write_after_spooling,
        **OWNERS_WANTED,
    )
    assert len(steps) > 2
    assert dump(spooled) == dump(plain)
    assert receipt.source == str(source)
    there = {"plain.db", "plain.db.receipt.json", "spooled.db", "spooled.db.receipt.json", "source.db"}
    assert {path.name for path in source.parent.iterdir()} - {"source.db-wal", "source.db-shm"} == there


def test_spooling_can_be_interrupted_and_reports_how_far_it_is(live):
    """It is asked after each megabyte."""
    source, reports = live("DELETE", papers=400), []
    target = source.with_name("copy.db")

    def interrupt():
        if reports and reports[-1].bytes_done > 3_000_000:
            raise InterruptedRunError

    monitor = Monitor(reports.append, interrupt)
    monitor.SECONDS_BETWEEN_REPORTS = 0.0
    with pytest.raises(InterruptedRunError):
        panicdb.clone(str(source), str(target), spool=True, monitor=monitor)
    done = [each.bytes_done for each in reports]
    assert {each.step for each in reports} == {"spooling"}
    assert max(after - before for before, after in pairwise(done)) <= 2**20
    assert done[-1] < 5_000_000 < reports[0].bytes_total
    assert os.listdir(source.parent) == [source.name]


ON_FULL_DISK = """
import errno, os, resource, signal, sys
import panicdb
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
panicdb.clone(sys.argv[1], sys.argv[2], spool=True)
"""


@pytest.mark.fault(6)
def test_no_room_for_the_copy_is_the_targets_fault(live):
    source = live("DELETE", papers=400)
    target = source.with_name("copy.db")
    run = subprocess.run(
        [sys.executable, "-c", ON_FULL_DISK, source, target],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last == f"panicdb.errors.TransferError: {target}: the system reported an input/output error"
    assert os.listdir(source.parent) == [source.name]


# --- two runs to one target ---


@pytest.mark.fault(29)
def test_who_comes_second_is_told_who_makes_the_target(live, tmp_path):
    source, refusals = live("WAL"), []
    target = source.with_name("copy.db")

    def come_second(progress):
        if progress.step == "copying the schema":
            with pytest.raises(TargetError) as refused:
                panicdb.clone(str(source), str(target))
            refusals.append(refused.value)

    panicdb.clone(str(source), str(target), progress=come_second)
    who = holder(os.getpid(), tmp_path)
    assert [each.message for each in refusals] == [
        f"{target}: another panicdb run is making this target{who}"
    ]
    assert refusals[0].hint == "wait until it has finished"
    assert lies_in(target) == []


@pytest.mark.fault(1, 29)
def test_the_lock_of_a_killed_run_is_free_at_once(live, cli, tmp_path):
    """It holds the target while it waits for its source, which it is to spool."""
    source = live("DELETE")
    target = source.with_name("copy.db")
    drafts, command = target.with_name(".copy.db.panicdb"), ["clone", str(source), str(target), "--spool"]
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        run = subprocess.Popen([SCRIPT, *command], stdout=subprocess.DEVNULL)
        while not drafts.exists():
            assert run.poll() is None
            time.sleep(0.01)
        refused = cli(*command)
        who = holder(run.pid, tmp_path)
        assert refused.exit_code == 3
        assert f"another panicdb run is making this target{who}\n" in refused.stderr
        run.kill()
        run.wait()
    lock = os.open(drafts, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)
    assert cli(*command).exit_code == 0
    assert sorted(os.listdir(source.parent)) == ["copy.db", "copy.db.receipt.json", "source.db"]


# --- readers of the target ---


@pytest.mark.fault(30)
@pytest.mark.parametrize("journal_mode", ["WAL", "DELETE"])
def test_a_target_that_is_being_read_is_left_alone(live, cli, journal_mode):
    source = live("DELETE")
    target = source.with_name("copy.db")
    make_source(target, journal_mode, papers=3)
    with closing(sqlite3.connect(target, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM paper").fetchall()
        files = {path: path.read_bytes() for path in source.parent.iterdir()}
        for options in ([], ["--spool"]):
            refused = cli("clone", source, target, *options)
            assert refused.exit_code == 3
            assert "exists already" in refused.stderr
        assert {path: path.read_bytes() for path in source.parent.iterdir()} == files
        assert reader.execute("SELECT count(*) FROM paper").fetchall() == before


@pytest.mark.fault(30)
def test_a_reader_that_waits_for_the_target_finds_it_complete(live):
    """It opens the name as soon as that is there."""
    source = live("WAL")
    for number in range(2):
        target = source.with_name(f"copy{number}.db")
        run = subprocess.Popen([SCRIPT, "clone", source, target], stdout=subprocess.DEVNULL)
        tries = 0
        while True:
            tries += 1
            try:
                connection = sqlite3.connect(f"file:{target}?mode=ro", uri=True)
                break
            except sqlite3.OperationalError:
                assert run.poll() is None
        with closing(connection):
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT count(*) FROM owner").fetchall() == [(OWNERS,)]
            assert connection.execute("SELECT count(*) FROM paper").fetchall() == [(40,)]
        assert run.wait() == 0
        assert tries > 10
