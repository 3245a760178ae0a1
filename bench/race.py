"""What a race is made of: candidates that do the same work, what they took, and the bars they have to meet."""

import sqlite3
import statistics
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import shapes
from measure import Measurement

PANICDB = Path(sys.executable).with_name("panicdb")
PEERS = shapes.BENCH / "peers.py"

PEAK_BYTES = 200 * 10**6

OURS, HAND, ORM, FLAT, BESIDE, SQLDIFF = "ours", "by hand", "ORM copy", "no link", "beside", "sqldiff"


class CannotMeasureError(Exception):
    """A command failed, or two candidates did not do the same work."""


@dataclass(frozen=True)
class Candidate:
    """One command of a race; `{target}` in it becomes the file to write, if it writes one."""

    label: str
    role: str
    source: str
    """The shape that is read."""
    command: tuple[str, ...]
    compared: str = ""
    """The shape that the source is compared with; then nothing is written."""
    exit_code: int = 0
    """What it has to end with: a comparison that finds a difference ends with 1."""
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
    runs: int | None = None
    """Of each candidate, whatever was asked for: many where one is short, one where no bar is about seconds."""


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


def megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


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
