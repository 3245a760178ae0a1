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
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import exports
import measure
import shapes
import verifies
from race import (
    FLAT,
    HAND,
    PANICDB,
    SQLDIFF,
    Bar,
    Candidate,
    CannotMeasureError,
    Entry,
    Race,
    Result,
    megabytes,
    row_counts,
)

BUSY_LOAD = 0.5


# --- measuring ---------------------------------------------------------------------------------


def measured(race: Race, repeat: int) -> Result:
    repeat = race.runs or repeat
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
        for name in filter(None, (entry.candidate.source, entry.candidate.compared)):
            measure.warm(shapes.path(name))
        os.sync()  # what others wrote is none of this candidate's business
        run = measure.run(command, cwd=folder)
        if run.exit_code != entry.candidate.exit_code:
            raise CannotMeasureError(
                f"{' '.join(command)}\nended with {run.exit_code}, not {entry.candidate.exit_code}:\n"
                f"{run.errors[-2000:]}"
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


def refuse_unequal_work(race: Race, rows: dict[str, dict[str, int]]) -> None:
    held = {tuple(sorted((name, count) for name, count in found.items() if count)) for found in rows.values()}
    if len(held) > 1:
        listed = "\n".join(f"  {label}: {found}" for label, found in rows.items())
        raise CannotMeasureError(f"{race.name}: the outputs do not hold the same rows\n{listed}")


# --- showing -----------------------------------------------------------------------------------


def tell(message: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{message}", end="", file=sys.stderr, flush=True)


def show(result: Result) -> None:
    hand = result.fastest(HAND) or result.fastest(FLAT) or result.fastest(SQLDIFF)
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
        print(f"  {bar.race:17}{bar.what:52}{bar.found:>23}   {bar.wanted:34}{verdict}")
    short = sum(not bar.met for bar in bars)
    print(f"\n{len(bars) - short} of {len(bars)} bars met" + (f", {short} not" if short else ""))


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


# --- the command -------------------------------------------------------------------------------


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
    there = {race.name: race for race in (*exports.races(), *verifies.races()) if large or not race.large}
    names = re.split(r"[,\s]+", only.strip()) if only else list(there)
    unknown = sorted(set(names) - set(there))
    if unknown:
        raise CannotMeasureError(f"no race {', '.join(unknown)}; there are {', '.join(there)}")
    chosen = [there[name] for name in names]
    refuse_absent_programs(chosen, there.values())
    return chosen


def refuse_absent_programs(chosen: Sequence[Race], there: Iterable[Race]) -> None:
    """A race without the other side would be none, and one left out would look like a bar that is met."""
    lacking = {race.name: absent for race in chosen if (absent := absent_programs(race))}
    if lacking:
        listed = "\n".join(f"  {name} needs {', '.join(absent)}" for name, absent in lacking.items())
        others = ",".join(race.name for race in there if not absent_programs(race))
        raise CannotMeasureError(
            f"not installed here:\n{listed}\nsqldiff is in the Debian package sqlite3-tools. Without it, name the"
            f" other races:\n  --only {others}"
        )


def absent_programs(race: Race) -> list[str]:
    programs = dict.fromkeys(candidate.command[0] for candidate in race.candidates)
    return [program for program in programs if shutil.which(program) is None]


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
    print(
        "ratio: to the best by hand, marked *, or to sqldiff; cpu: seconds; peak: memory of the process tree"
    )
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
    bars += exports.memory_is_flat(results)
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
