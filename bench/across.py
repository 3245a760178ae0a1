"""Between SQLite and PostgreSQL: panicdb beside pgloader and the server's own floor, whole processes, Debian's server.

    python bench/across.py [--repeat 3] [--json FILE]

The floor is what the server takes by itself: psql runs the schema without keys, COPY of each table from a file in the
server's own format of text, then keys and indexes. Needs the Debian packages postgresql and pgloader. Exit code 0 when
every bar is met, 1 when one is not, 2 when nothing could be measured. What becomes of values: across_values.py.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import measure
import server as servers
import shapes
from measure import Measurement
from race import PANICDB, Bar, CannotMeasureError, megabytes
from run import show_bars, warn_if_busy

PGLOADER_RATIO = 0.7
FLOOR_RATIO, FLOOR_ALLOWANCE = 2.0, 1.5
"""At most so many times the floor, plus so many seconds for start-up, migrations and checks."""
ROWS_A_SECOND = 250_000
PEAK_BYTES = 250 * 10**6
TARGET, FILLED = "target", "filled"
THERE, BACK = "panicdb, SQLite to PostgreSQL", "panicdb, PostgreSQL to SQLite"
LOADER, FLOOR = "pgloader", "the floor: COPY from files, then indexes"


@dataclass(frozen=True)
class Shape:
    """A database, and how panicdb learns of its history."""

    name: str
    title: str
    large: tuple[str, ...]
    """Its tables with rows, parents first."""
    options: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        return shapes.path(self.name)


NARROW = Shape(
    "N-history",
    "N",
    ("roots", "parents", "metrics"),
    ("--config", str(shapes.BENCH / "histories" / "narrow.ini")),
)
WIDE = Shape("W", "W", ("experimentconfig", "run", "invocation", "embedding", "persistencediagram"))


@dataclass(frozen=True)
class Candidate:
    """One way to do a work: a shell's line; whether an empty database has to be there; whether it writes a file."""

    label: str
    line: str
    given: bool = False
    to_file: bool = False


@dataclass(frozen=True)
class Scene:
    """A server that holds one shape already, as panicdb put it there, and a folder for what is written."""

    server: servers.Server
    shape: Shape
    folder: Path

    @property
    def output(self) -> Path:
        return self.folder / "output.db"

    def counts(self, candidate: Candidate) -> tuple[int, ...]:
        """Count what a candidate has written, table by table."""
        if candidate.to_file:
            with closing(sqlite3.connect(self.output)) as connection:
                return tuple(
                    connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for table in self.shape.large
                )
        return tuple(
            int(self.server.execute(f"SELECT count(*) FROM {table}", TARGET)) for table in self.shape.large
        )


def candidates(scene: Scene) -> list[Candidate]:
    target, shape = scene.server.url(TARGET), scene.shape
    options = " ".join((*shape.options, "--no-receipt", "--quiet"))
    psql = f"{servers.BINARIES / 'psql'} -X -q -o /dev/null -v ON_ERROR_STOP=1"
    loader = Candidate(
        LOADER, f"pgloader --quiet {shape.source} {target.replace('postgresql', 'pgsql', 1)}", given=True
    )
    return [
        Candidate(THERE, f"{PANICDB} clone {shape.source} {target} {options}"),
        *([loader] if shape is NARROW else []),  # on wide rows its heap is exhausted
        Candidate(FLOOR, f"{psql} -f floor.sql {target}", given=True),
        Candidate(BACK, f"{PANICDB} clone {scene.server.url(FILLED)} {scene.output} {options}", to_file=True),
    ]


def prepare(server: servers.Server, shape: Shape) -> Scene:
    """Let panicdb fill a database, and lay out of it what the floor reads."""
    data = Path(server.execute("SHOW data_directory"))
    folder = data.parent / shape.title
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)  # the server writes there too, as another user
    shapes.ensure(shape.name)
    made = measure.run(
        [str(PANICDB), "clone", str(shape.source), server.url(FILLED), *shape.options, "--no-receipt"]
    )
    if made.exit_code:
        raise CannotMeasureError(made.errors)
    server.execute("VACUUM (FREEZE, ANALYZE)", FILLED)
    copies = []
    for table in shape.large:
        file = folder / f"{table}.copy"
        server.execute(f"COPY {table} TO '{file}'", FILLED)
        copies.append(f"COPY public.{table} FROM '{file}';\n")
    parts = [dump(server, "pre-data"), "BEGIN;\n", *copies, "COMMIT;\n", dump(server, "post-data")]
    (folder / "floor.sql").write_text("".join(parts))
    return Scene(server, shape, folder)


def dump(server: servers.Server, section: str) -> str:
    command = [servers.BINARIES / "pg_dump", f"--section={section}", "--no-owner", server.url(FILLED)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def run_once(scene: Scene, candidate: Candidate) -> Measurement:
    """Run one candidate where nothing is in its way; what it reads lies in the page cache."""
    scene.server.execute(f"DROP DATABASE IF EXISTS {TARGET}")
    scene.output.unlink(missing_ok=True)
    if candidate.given:
        scene.server.execute(f"CREATE DATABASE {TARGET} TEMPLATE template0")
    warm(scene, candidate)
    scene.server.execute("CHECKPOINT")  # what others wrote is none of this candidate's business
    os.sync()
    found = measure.run(["sh", "-c", candidate.line], cwd=scene.folder)
    if found.exit_code:
        raise CannotMeasureError(f"{candidate.label} ended with {found.exit_code}:\n{found.errors[-2000:]}")
    return found


def warm(scene: Scene, candidate: Candidate) -> None:
    """Read once what the candidate reads: the file, the files of the floor, or every row, large values too."""
    if candidate.to_file:
        for table in scene.shape.large:
            scene.server.execute(f"SELECT sum(length(t::text)) FROM {table} t", FILLED)
        return
    for file in (scene.shape.source, *scene.folder.glob("*.copy")):
        measure.warm(file)


def race(scene: Scene, listed: Sequence[Candidate], repeat: int) -> dict[str, list[Measurement]]:
    """Let all take turns, each going first once; all have to leave the same number of rows."""
    runs: dict[str, list[Measurement]] = {each.label: [] for each in listed}
    for turn in range(repeat):
        start = turn % len(listed)
        for candidate in (*listed[start:], *listed[:start]):
            progress = f"{scene.shape.title}: {candidate.label}, run {turn + 1} of {repeat}"
            print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)
            runs[candidate.label].append(run_once(scene, candidate))
            if scene.counts(candidate) != rows_of(scene.shape):
                raise CannotMeasureError(
                    f"{candidate.label} did not bring every row: {scene.counts(candidate)}"
                )
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return runs


def rows_of(shape: Shape) -> tuple[int, ...]:
    with closing(sqlite3.connect(shape.source)) as connection:
        return tuple(
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in shape.large
        )


def judge(shape: Shape, runs: dict[str, list[Measurement]]) -> list[Bar]:
    middle = {label: measure.middle(found) for label, found in runs.items()}
    there, floor, back = (middle[label]["seconds"] for label in (THERE, FLOOR, BACK))
    peak = max(middle[label]["peak_bytes"] for label in (THERE, BACK))
    allowed = FLOOR_RATIO * floor + FLOOR_ALLOWANCE

    def bar(what: str, found: str, wanted: str, *, met: bool) -> Bar:
        return Bar(shape.title, what, found, wanted, met=met)

    bars = [
        bar(
            THERE + ", to the floor",
            f"{there:.2f} s, {there / floor:.2f} times",
            f"at most {FLOOR_RATIO} times + {FLOOR_ALLOWANCE} s: {allowed:.2f} s",
            met=there <= allowed,
        ),
        bar(
            "largest peak of panicdb",
            megabytes(peak),
            f"under {megabytes(PEAK_BYTES)}",
            met=peak < PEAK_BYTES,
        ),
    ]
    if shape is NARROW:
        ratio, rate = there / middle[LOADER]["seconds"], sum(rows_of(shape)) / back
        bars += [
            bar(
                THERE + ", to pgloader",
                f"{ratio:.2f}",
                f"at most {PGLOADER_RATIO}",
                met=ratio <= PGLOADER_RATIO,
            ),
            bar(
                BACK + ", rows a second",
                f"{rate:,.0f}",
                f"at least {ROWS_A_SECOND:,}",
                met=rate >= ROWS_A_SECOND,
            ),
        ]
    return bars


def show(shape: Shape, runs: dict[str, list[Measurement]]) -> None:
    size = shape.source.stat().st_size
    print(f"\n{shape.title}: {sum(rows_of(shape)):,} rows, {megabytes(size)} as a file")
    print(f"  {'':42}{'seconds':>8}  {'(least - most)':16}{'cpu':>6}{'peak':>9}")
    for label, found in runs.items():
        middle, each = measure.middle(found), [run.seconds for run in found]
        spread = f"({min(each):.2f} - {max(each):.2f})"
        peak = megabytes(middle["peak_bytes"])
        print(f"  {label:42}{middle['seconds']:8.2f}  {spread:16}{middle['cpu_seconds']:6.2f}{peak:>9}")


def bench(repeat: int, only: Sequence[str], file: Path | None) -> int:
    load, bars, figures = os.getloadavg()[0], [], {}
    for shape in (NARROW, WIDE):
        if shape.title not in only:
            continue
        with servers.running() as server:
            print(f"PostgreSQL {server.execute('SHOW server_version')}")
            scene = prepare(server, shape)
            runs = race(scene, candidates(scene), repeat)
        show(shape, runs)
        bars += judge(shape, runs)
        figures[shape.title] = {label: [asdict(run) for run in found] for label, found in runs.items()}
    show_bars(bars)
    warn_if_busy(load)
    if file is not None:
        file.write_text(json.dumps(figures, indent=2))
    return 0 if all(bar.met for bar in bars) else 1


def lacking() -> list[str]:
    found: list[tuple[str, Callable[[], object]]] = [
        ("postgresql", servers.is_installed),
        ("pgloader", lambda: shutil.which("pgloader")),
    ]
    return [package for package, is_there in found if not is_there()]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure panicdb beside pgloader and the server's floor.")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each command (default 3)")
    parser.add_argument("--only", nargs="+", choices=("N", "W"), default=("N", "W"), help="shapes to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    given = parser.parse_args()
    if lacking():
        print(f"not installed here, Debian's packages: {', '.join(lacking())}", file=sys.stderr)
        return 2
    try:
        return bench(given.repeat, given.only, given.json)
    except CannotMeasureError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
