"""The races of `panicdb clone` and `panicdb export`, beside the same work by hand, and of start-up; their bars."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import shapes
from race import (
    BESIDE,
    FLAT,
    HAND,
    ORM,
    OURS,
    PANICDB,
    Bar,
    Candidate,
    Entry,
    Race,
    Result,
    megabytes,
    ours,
    peer,
    scripted,
    within_memory,
)

ORM_COPY = shapes.BENCH / "orm.py"
STEPS = shapes.BENCH / "steps.py"
COPYING = "copying the schema"

HAND_RATIO = 1.25
HAND_SECONDS = 1.5  # start-up and migrations
ORM_RATIO = 2.0
CHAIN_RATIO = 3.0
MERGE_RATIO = 1.5
REPLACE_RATIO = 1.1
REPLAY_SECONDS = 1.2
COPY_SECONDS = 0.3
PEAK_GROWTH_BYTES = 20 * 10**6  # what may differ between two runs on the same source
HELP_SECONDS = 0.25
HELP_RUNS = 10


def by_hand(shape: str, work: str, title: str = "by hand") -> Iterator[Candidate]:
    yield peer(f"{title}, indexes before", HAND, shape, f"hand-{work}")
    yield peer(f"{title}, indexes after", HAND, shape, f"hand-{work}-after")


def races() -> list[Race]:
    one = first_root(shapes.path("W"))
    return [
        Race(
            "W-all",
            "wide rows, the whole database",
            (
                ours("panicdb clone", "W", "clone"),
                ours("panicdb export --all", "W", "export", "--all"),
                *by_hand("W", "W-all"),
                scripted("ORM copy", ORM, "W", ORM_COPY),
                peer("cp", BESIDE, "W", "cp"),
                peer("VACUUM INTO", BESIDE, "W", "vacuum-into"),
            ),
            against_hand,
        ),
        Race(
            "W-one",
            "wide rows, one experiment of four",
            (ours("panicdb export ID", "W", "export", one), *by_hand("W", "W-one")),
            against_hand,
        ),
        Race(
            "N-quarter",
            "narrow rows, one root of four",
            (
                ours("panicdb export --root roots 1", "N", "export", "--root", "roots", "1"),
                *by_hand("N", "N-by-link", "by hand, link's order"),
                *by_hand("N", "N-by-key", "by hand, key's order"),
            ),
            against_hand,
        ),
        again(one),
        chain("chain-down", "200,000 rows, each naming the one before it"),
        chain("chain-up", "200,000 rows, each naming the one after it"),
        Race(
            "start-up",
            "a handful of rows: imports, migrations in the guarded child, checks",
            (
                ours("panicdb clone", "W-tiny", "clone"),
                peer("by hand", HAND, "W-tiny", "hand-W-all"),
            ),
            against_nothing,
        ),
        *schema_races(),
        Race(
            "help",
            "panicdb --help",
            (Candidate("", OURS, "", (str(PANICDB), "--help")),),
            quick,
            runs=HELP_RUNS,
        ),
        *large_races(),
    ]


def schema_races() -> Iterator[Race]:
    """What comes on top of a schema that is copied, and of a schema of one table."""
    replayed = ours("panicdb clone --schema migrations", "W-tiny", "clone", "--schema", "migrations")
    copied = ours("panicdb clone --schema copy", "W-tiny", "clone", "--schema", "copy")
    yield Race(
        "schema-replay",
        "a handful of rows: the bundled history replayed under the guard, or the schema copied",
        (replayed, replace(copied, role=BESIDE)),
        partial(more_than_beside, limit=REPLAY_SECONDS),
    )
    many, one = (ours(f"panicdb clone, {name}", name, "clone") for name in ("tables-67", "tables-1"))
    yield Race(
        "schema-copy",
        "67 tables with keys and indexes cloned, or one",
        (many, replace(one, role=BESIDE)),
        copying_alone,
    )


def large_races() -> Iterator[Race]:
    if not shapes.path("W-large").exists():
        return
    one = first_root(shapes.path("W-large"))
    copied = (ours("panicdb clone", "W-large", "clone"), *by_hand("W-large", "W-all"))
    chosen = (ours("panicdb export ID", "W-large", "export", one), *by_hand("W-large", "W-one"))
    yield Race("W-large-all", "4 GB of wide rows, all", copied, within_memory, large=True)
    yield Race("W-large-one", "4 GB of wide rows, a quarter", chosen, within_memory, large=True)


def again(one: str) -> Race:
    """A second experiment: into a new file, into one that holds the first, in the place of one."""
    two = second_root(shapes.path("W"))
    first = ours("", "W", "export", one).command
    fresh = ours("panicdb export ID", "W", "export", two)
    merge = ours("panicdb export ID --merge", "W", "export", two, "--merge")
    replace_ = ours("panicdb export ID --replace", "W", "export", two, "--replace")
    return Race(
        "W-again",
        "wide rows, a second experiment beside or instead of the first",
        (
            replace(fresh, role=FLAT),
            replace(merge, prepare=first, adds=True),
            replace(replace_, prepare=first),
        ),
        against_fresh,
    )


def chain(shape: str, title: str) -> Race:
    flat = f"{shape}-flat"
    selection = ("export", "--root", "roots", "1")
    without = ours("panicdb export, without the link", flat, *selection)
    candidates = (
        ours("panicdb export, links followed", shape, *selection),
        Candidate(without.label, FLAT, flat, without.command),
    )
    return Race(shape, title, candidates, against_flat)


def first_root(source: Path) -> str:
    """The experiment that peers.py takes, too."""
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as connection:
        (found,) = connection.execute("SELECT id FROM experimentconfig ORDER BY rowid LIMIT 1").fetchone()
    return found


def second_root(source: Path) -> str:
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(
            "SELECT id FROM experimentconfig ORDER BY rowid LIMIT 1 OFFSET 1"
        ).fetchone()[0]


# --- the bars ---------------------------------------------------------------------------------


def against_hand(result: Result) -> list[Bar]:
    hand = result.fastest(HAND)
    limit = HAND_RATIO * hand.seconds + HAND_SECONDS
    speed = [
        Bar(
            result.race.name,
            entry.candidate.label,
            f"{entry.seconds:.2f} s",
            f"<= {HAND_RATIO} x {hand.seconds:.2f} + {HAND_SECONDS} = {limit:.2f} s",
            entry.seconds <= limit,
        )
        for entry in result.of(OURS)
    ]
    return speed + against_orm(result) + within_memory(result)


def against_orm(result: Result) -> list[Bar]:
    return [
        Bar(
            result.race.name,
            f"{entry.candidate.label}, ORM copy",
            f"{orm.seconds / entry.seconds:.1f} x faster",
            f">= {ORM_RATIO:.0f} x",
            orm.seconds >= ORM_RATIO * entry.seconds,
        )
        for entry in result.of(OURS)
        for orm in result.of(ORM)
    ]


def against_flat(result: Result) -> list[Bar]:
    (linked,), (flat,) = result.of(OURS), result.of(FLAT)
    ratio = linked.seconds / flat.seconds
    speed = Bar(
        result.race.name,
        linked.candidate.label,
        f"{ratio:.2f} x without the link",
        f"<= {CHAIN_RATIO:.0f} x",
        ratio <= CHAIN_RATIO,
    )
    return [speed, *within_memory(result)]


def more_than_beside(result: Result, *, limit: float) -> list[Bar]:
    (entry,), (other,) = result.of(OURS), result.of(BESIDE)
    more = entry.seconds - other.seconds
    label = f"{entry.candidate.label}, more than {other.candidate.label}"
    return [Bar(result.race.name, label, f"{more:.2f} s", f"<= {limit} s", more <= limit)]


def copying_alone(result: Result) -> list[Bar]:
    """Of all that a clone does for each table, the copying of its definition."""
    (entry,) = result.of(OURS)
    command = [sys.executable, str(STEPS), COPYING, str(shapes.path(entry.candidate.source))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = float(done.stdout)
    label = f"{entry.candidate.label}, {COPYING}"
    return [Bar(result.race.name, label, f"{seconds:.2f} s", f"<= {COPY_SECONDS} s", seconds <= COPY_SECONDS)]


def against_fresh(result: Result) -> list[Bar]:
    (fresh,) = result.of(FLAT)
    speed = [
        Bar(
            result.race.name,
            entry.candidate.label,
            f"{entry.seconds / fresh.seconds:.2f} x fresh",
            f"<= {limit} x",
            entry.seconds <= limit * fresh.seconds,
        )
        for entry, limit in zip(result.of(OURS), (MERGE_RATIO, REPLACE_RATIO), strict=True)
    ]
    return [*speed, *within_memory(result)]


def quick(result: Result) -> list[Bar]:
    (entry,) = result.entries
    found, wanted = f"{entry.seconds:.3f} s", f"< {HELP_SECONDS} s"
    return [Bar(result.race.name, result.race.title, found, wanted, entry.seconds < HELP_SECONDS)]


def against_nothing(_result: Result) -> list[Bar]:
    return []


def memory_is_flat(results: Sequence[Result]) -> list[Bar]:
    """The same work at 1 and at 4 GB, where both were measured."""
    by_name = {result.race.name: result for result in results}
    pairs = (("W-all", "W-large-all"), ("W-one", "W-large-one"))
    return [
        growth(by_name[small].of(OURS)[0], by_name[large].of(OURS)[0], large)
        for small, large in pairs
        if small in by_name and large in by_name
    ]


def growth(small: Entry, large: Entry, name: str) -> Bar:
    grown = large.peak_bytes - small.peak_bytes
    return Bar(
        name,
        f"{large.candidate.label}, peak memory grown from 1 to 4 GB",
        f"{grown / 1e6:+.0f} MB",
        f"<= {megabytes(PEAK_GROWTH_BYTES)}",
        grown <= PEAK_GROWTH_BYTES,
    )
