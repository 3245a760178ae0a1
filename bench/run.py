"""The benchmark: panicdb against the same work written by hand, and the bars it has to meet.

    python bench/run.py [--only W-all,N-quarter] [--repeat 3] [--large] [--json FILE]

Exit code 0 when every bar is met, 1 when one is not (a race that fails counts so), 2 when
nothing could be measured.
"""

import argparse
import json
import os
import platform
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import measure
import shapes
from measure import Measurement

PANICDB = Path(sys.executable).with_name("panicdb")
PEERS = shapes.BENCH / "peers.py"
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
PEAK_BYTES = 200 * 10**6
PEAK_GROWTH_BYTES = 20 * 10**6  # what may differ between two runs on the same source
HELP_SECONDS = 0.25
BUSY_LOAD = 0.5
HELP_RUNS = 10

OURS, HAND, ORM, FLAT, BESIDE = "ours", "by hand", "ORM copy", "no link", "beside"


class CannotMeasureError(Exception):
    """A command failed, or two candidates did not do the same work."""


@dataclass(frozen=True)
class Candidate:
    """One command of a race; `{target}` in it becomes the file to write."""

    label: str
    role: str
    source: str
    command: tuple[str, ...]
    prepare: tuple[str, ...] = ()
    """The command that makes the target which lies there before the clock starts."""
    adds: bool = False
    """The rows of that target stay, so they are not counted as work."""


@dataclass(frozen=True)
class Race:
    """Candidates that do the same work. They take turns, so that drift hits all alike."""

    name: str
    title: str
    candidates: tuple[Candidate, ...]
    judge: Callable[["Result"], list["Bar"]]
    large: bool = False


@dataclass(frozen=True)
class Entry:
    candidate: Candidate
    runs: list[Measurement] = field(default_factory=list)
    output_bytes: list[int] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return statistics.median(run.seconds for run in self.runs)

    @property
    def cpu_seconds(self) -> float:
        return statistics.median(run.cpu_seconds for run in self.runs)

    @property
    def peak_bytes(self) -> int:
        """The largest, no median: memory must hold every time."""
        return max(run.peak_bytes for run in self.runs)


@dataclass(frozen=True)
class Result:
    race: Race
    entries: tuple[Entry, ...]

    def of(self, role: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.candidate.role == role]

    def fastest(self, role: str) -> Entry | None:
        return min(self.of(role), key=lambda entry: entry.seconds, default=None)


@dataclass(frozen=True)
class Bar:
    race: str
    what: str
    found: str
    wanted: str
    met: bool


# --- what is measured -------------------------------------------------------------------------


def ours(label: str, shape: str, *arguments: str) -> Candidate:
    verb, *rest = arguments
    source = str(shapes.path(shape))
    return Candidate(label, OURS, shape, (str(PANICDB), verb, source, "{target}", *rest))


def peer(label: str, role: str, shape: str, work: str) -> Candidate:
    return scripted(label, role, shape, PEERS, work)


def scripted(label: str, role: str, shape: str, script: Path, *arguments: str) -> Candidate:
    source = str(shapes.path(shape))
    command = (sys.executable, str(script), *arguments, source, "{target}")
    return Candidate(label, role, shape, command)


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
        Race("help", "panicdb --help", (Candidate("", OURS, "", (str(PANICDB), "--help")),), quick),
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


def within_memory(result: Result) -> list[Bar]:
    return [
        Bar(
            result.race.name,
            f"{entry.candidate.label}, peak memory",
            megabytes(entry.peak_bytes),
            f"< {megabytes(PEAK_BYTES)}",
            entry.peak_bytes < PEAK_BYTES,
        )
        for entry in (*result.of(OURS), *result.of(FLAT))
    ]


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


# --- measuring --------------------------------------------------------------------------------


def measured(race: Race, repeat: int) -> Result:
    repeat = HELP_RUNS if race.name == "help" else repeat
    result = Result(race, tuple(Entry(candidate) for candidate in race.candidates))
    rows: dict[str, dict[str, int]] = {}
    for turn in range(repeat):
        for entry in turned(result.entries, turn):
            tell(f"{race.name}: {entry.candidate.label or race.title}, run {turn + 1} of {repeat}")
            found = run_once(entry)
            if found:
                rows[entry.candidate.label] = found
    refuse_unequal_work(race, rows)
    return result


def turned(entries: Sequence[Entry], turn: int) -> list[Entry]:
    """Everybody goes first, last and in between in turn."""
    start = turn % len(entries)
    return [*entries[start:], *entries[:start]]


def run_once(entry: Entry) -> dict[str, int]:
    """Run into an empty folder that is removed afterwards; return the rows per table."""
    folder = Path(tempfile.mkdtemp(prefix="out-", dir=shapes.WORK))
    try:
        target = folder / "out.db"
        command = [part.format(target=target) for part in entry.candidate.command]
        before = put_there(entry.candidate, target)
        if entry.candidate.source:
            measure.warm(shapes.path(entry.candidate.source))
        os.sync()  # what others wrote is none of this candidate's business
        run = measure.run(command, cwd=folder)
        if run.exit_code:
            raise CannotMeasureError(
                f"{' '.join(command)}\nended with {run.exit_code}:\n{run.errors[-2000:]}"
            )
        entry.runs.append(run)
        if not target.exists():
            return {}
        entry.output_bytes.append(target.stat().st_size)
        return {table: rows - before.get(table, 0) for table, rows in row_counts(target).items()}
    finally:
        shutil.rmtree(folder)


def put_there(candidate: Candidate, target: Path) -> dict[str, int]:
    """Put the target there that a candidate begins with; return its rows per table, if they stay."""
    if not candidate.prepare:
        return {}
    subprocess.run(
        [part.format(target=target) for part in candidate.prepare], check=True, capture_output=True
    )
    measure.warm(target)
    return row_counts(target) if candidate.adds else {}


def row_counts(target: Path) -> dict[str, int]:
    with closing(sqlite3.connect(f"{target.as_uri()}?mode=ro", uri=True)) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            table: connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]
            for table in tables
            if table != "alembic_version"  # the ORM copy leaves it out
        }


def refuse_unequal_work(race: Race, rows: dict[str, dict[str, int]]) -> None:
    held = {tuple(sorted((name, count) for name, count in found.items() if count)) for found in rows.values()}
    if len(held) > 1:
        listed = "\n".join(f"  {label}: {found}" for label, found in rows.items())
        raise CannotMeasureError(f"{race.name}: the outputs do not hold the same rows\n{listed}")


# --- showing ----------------------------------------------------------------------------------


def tell(message: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{message}", end="", file=sys.stderr, flush=True)


def show(result: Result) -> None:
    hand = result.fastest(HAND) or result.fastest(FLAT)
    print(f"\n{result.race.name}: {result.race.title}")
    print(f"  {'':38}{'seconds':>8}  {'(least - most)':15}{'ratio':>6}{'cpu':>7}{'peak':>9}{'output':>9}")
    for entry in result.entries:
        mark = " *" if entry is hand and len(result.of(HAND)) > 1 else ""
        seconds = [run.seconds for run in entry.runs]
        ratio = f"{entry.seconds / hand.seconds:.2f}" if hand else ""
        spread = f"({min(seconds):.2f} - {max(seconds):.2f})"
        output = megabytes(entry.output_bytes[0]) if entry.output_bytes else ""
        print(
            f"  {entry.candidate.label + mark:38}{entry.seconds:8.2f}  {spread:15}"
            f"{ratio:>6}{entry.cpu_seconds:7.2f}{megabytes(entry.peak_bytes):>9}{output:>9}"
        )


def show_bars(bars: Sequence[Bar]) -> None:
    print("\nThe bars")
    for bar in bars:
        verdict = "PASS" if bar.met else "FALLS SHORT"
        print(f"  {bar.race:12}{bar.what:52}{bar.found:>23}   {bar.wanted:34}{verdict}")
    short = sum(not bar.met for bar in bars)
    print(f"\n{len(bars) - short} of {len(bars)} bars met" + (f", {short} not" if short else ""))


def megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def machine() -> dict[str, object]:
    return {
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def warn_if_busy(load: float) -> None:
    if load > BUSY_LOAD:
        print(
            f"Others kept this machine busy when this began (load {load:.1f}): the seconds are too"
            " high, and bars with\nan allowance in seconds too strict. Repeat it on a quiet machine."
        )


def as_json(results: Sequence[Result], bars: Sequence[Bar]) -> str:
    measured_races = {
        result.race.name: [
            {
                "label": entry.candidate.label,
                "role": entry.candidate.role,
                "median_seconds": entry.seconds,
                "median_cpu_seconds": entry.cpu_seconds,
                "peak_bytes": entry.peak_bytes,
                "output_bytes": entry.output_bytes,
                "runs": [asdict(run) for run in entry.runs],
            }
            for entry in result.entries
        ]
        for result in results
    }
    found = {"machine": machine(), "races": measured_races, "bars": [asdict(bar) for bar in bars]}
    return json.dumps(found, indent=2)


# --- the command ------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure panicdb against the same work written by hand.")
    parser.add_argument("--only", metavar="NAME,...", help="these races, not all")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each command (default 3)")
    parser.add_argument("--large", action="store_true", help="also 4 GB of source (needs 9 GB)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    given = parser.parse_args()
    if given.repeat < 1:
        parser.error("--repeat: at least 1")
    return given


def make_shapes(*, large: bool) -> None:
    """In a child: what a child of ours is charged starts from our own memory, so we stay small."""
    wanted = [name for name in shapes.SHAPES if large or name not in shapes.ON_REQUEST]
    subprocess.run([sys.executable, shapes.__file__, *wanted], check=True)


def chosen_races(only: str | None, *, large: bool) -> list[Race]:
    there = {race.name: race for race in races() if large or not race.large}
    names = re.split(r"[,\s]+", only.strip()) if only else list(there)
    unknown = sorted(set(names) - set(there))
    if unknown:
        raise CannotMeasureError(f"no race {', '.join(unknown)}; there are {', '.join(there)}")
    return [there[name] for name in names]


def remove_leftovers() -> None:
    for folder in shapes.WORK.glob("out-*"):
        shutil.rmtree(folder)


def bench(given: argparse.Namespace) -> int:
    if not PANICDB.exists():
        raise CannotMeasureError(f"no {PANICDB}: install panicdb into this environment")
    load = os.getloadavg()[0]
    make_shapes(large=given.large)
    remove_leftovers()
    chosen = chosen_races(given.only, large=given.large)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print("ratio: to the best by hand, marked *; cpu: seconds; peak: memory of the process tree")
    results, bars = [], []
    for race in chosen:
        try:
            result = measured(race, given.repeat)
            tell("")
        except CannotMeasureError as error:
            tell("")
            print(f"\n{race.name}: {race.title}\n{error}")
            bars.append(Bar(race.name, race.title, "no figure", "a figure", met=False))
            continue
        show(result)
        results.append(result)
        bars += race.judge(result)
    bars += memory_is_flat(results)
    show_bars(bars)
    warn_if_busy(load)
    if given.json:
        given.json.write_text(as_json(results, bars) + "\n")
    return 0 if all(bar.met for bar in bars) else 1


def main() -> int:
    try:
        return bench(arguments())
    except CannotMeasureError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
