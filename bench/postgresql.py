"""PostgreSQL to PostgreSQL: panicdb beside `pg_dump | psql` and pgcopydb, whole processes, on one server of Debian's.

    python bench/postgresql.py [--repeat 3] [--json FILE]

Needs the Debian packages postgresql and pgcopydb. Exit code 0 when every bar is met, 1 when one is not, 2 when nothing
could be measured.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import measure
import server as servers
import sqlalchemy as sa
import wide
from alembic import command
from measure import Measurement
from race import PANICDB, Bar, megabytes
from run import show_bars, warn_if_busy

from panicdb.experiments import fill

WIDE, ONE, TARGET = "w", "w_one", "target"
EXPERIMENTS, RUNS, INVOCATIONS = 4, 8, 1_000
DUMP_RATIO, COPYDB_RATIO = 0.65, 0.75
SHARE_RATIO = 1.3
"""How much longer one experiment may take out of four than where it is alone."""
PEAK_BYTES = 250 * 10**6
TABLES = ("experimentconfig", "run", "invocation", "embedding", "persistencediagram")


@dataclass(frozen=True)
class Candidate:
    """One way to do a work: a shell's line, whether the target has to be there, and the source."""

    label: str
    line: str
    source: str
    given: bool = False


def candidates(server: servers.Server, root: str) -> list[Candidate]:
    target = server.url(TARGET)
    panicdb, dump, psql = PANICDB, servers.BINARIES / "pg_dump", servers.BINARIES / "psql"

    def copied(source: str) -> str:
        return f"{server.url(source)} {target}"

    return [
        Candidate("panicdb clone --schema copy", f"{panicdb} clone {copied(WIDE)} --schema copy", WIDE),
        Candidate("panicdb clone (migrations)", f"{panicdb} clone {copied(WIDE)}", WIDE),
        Candidate(
            "pg_dump | psql",
            f"{dump} --no-owner {server.url(WIDE)} | {psql} -X -q -o /dev/null -v ON_ERROR_STOP=1 {target}",
            WIDE,
            given=True,
        ),
        Candidate(
            "pgcopydb clone",
            f"pgcopydb clone --source {server.url(WIDE)} --target {target} --no-owner --dir work",
            WIDE,
            given=True,
        ),
        Candidate("panicdb export ID, one of four", f"{panicdb} export {copied(WIDE)} {root}", WIDE),
        Candidate("panicdb export ID, the only one", f"{panicdb} export {copied(ONE)} {root}", ONE),
    ]


def make_sources(server: servers.Server) -> str:
    """Fill a database with the wide shape and copy one experiment of it into another; return its id."""
    server.execute(f"CREATE DATABASE {WIDE} TEMPLATE template0")
    engine = sa.create_engine(server.url(WIDE).replace("://", "+psycopg://", 1))
    with engine.connect() as connection:
        history = wide.history()
        history.attributes["connection"] = connection
        command.upgrade(history, "head")
        connection.commit()
    fill(engine, experiments=EXPERIMENTS, runs=RUNS, invocations=INVOCATIONS)
    engine.dispose()
    root = server.execute("SELECT id FROM experimentconfig ORDER BY id LIMIT 1", WIDE)
    made = measure.run([str(PANICDB), "export", server.url(WIDE), server.url(ONE), root])
    if made.exit_code:
        raise RuntimeError(made.errors)
    for name in (WIDE, ONE):
        server.execute("VACUUM (FREEZE, ANALYZE)", name)
    return root


def run_once(
    server: servers.Server, candidate: Candidate, folder: Path
) -> tuple[Measurement, tuple[str, ...]]:
    """Run one candidate into a database that is not there, or empty; return also what it holds then."""
    server.execute(f"DROP DATABASE IF EXISTS {TARGET}")
    if candidate.given:
        server.execute(f"CREATE DATABASE {TARGET} TEMPLATE template0")
    shutil.rmtree(folder / "work", ignore_errors=True)
    warm(server, candidate.source)
    server.execute("CHECKPOINT")  # what others wrote is none of this candidate's business
    os.sync()
    found = measure.run(["sh", "-c", candidate.line], cwd=folder)
    if found.exit_code:
        raise RuntimeError(f"{candidate.label} ended with {found.exit_code}:\n{found.errors[-2000:]}")
    return found, tuple(server.execute(f"SELECT count(*) FROM {table}", TARGET) for table in TABLES)


def warm(server: servers.Server, database: str) -> None:
    """Read every row once, large values too, so that all find them in the page cache."""
    for table in TABLES:
        server.execute(f"SELECT sum(length(t::text)) FROM {table} t", database)


def race(
    server: servers.Server, listed: Sequence[Candidate], repeat: int, folder: Path
) -> dict[str, list[Measurement]]:
    """Let all take turns, each going first once."""
    runs: dict[str, list[Measurement]] = {each.label: [] for each in listed}
    rows: dict[str, tuple[str, ...]] = {}
    for turn in range(repeat):
        start = turn % len(listed)
        for candidate in (*listed[start:], *listed[:start]):
            print(
                f"\r\033[K{candidate.label}, run {turn + 1} of {repeat}", end="", file=sys.stderr, flush=True
            )
            found, rows[candidate.label] = run_once(server, candidate, folder)
            runs[candidate.label].append(found)
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    for group in (listed[:4], listed[4:]):
        if len({rows[each.label] for each in group}) > 1:
            raise RuntimeError(f"the targets do not hold the same rows: {rows}")
    return runs


def judge(runs: dict[str, list[Measurement]], listed: Sequence[Candidate]) -> list[Bar]:
    seconds = {label: measure.middle(found)["seconds"] for label, found in runs.items()}
    clone, replay, dump, copydb, one, alone = (seconds[each.label] for each in listed)
    peak = max(
        measure.middle(runs[each.label])["peak_bytes"] for each in listed if each.label.startswith("panicdb")
    )

    def ratio(what: str, ours: float, theirs: float, bar: float) -> Bar:
        found = ours / theirs
        return Bar("W, PostgreSQL", what, f"{found:.2f}", f"at most {bar}", met=found <= bar)

    return [
        ratio("clone --schema copy, to pg_dump | psql", clone, dump, DUMP_RATIO),
        ratio("clone --schema copy, to pgcopydb", clone, copydb, COPYDB_RATIO),
        ratio("clone by migrations, to pg_dump | psql", replay, dump, DUMP_RATIO),
        ratio("clone by migrations, to pgcopydb", replay, copydb, COPYDB_RATIO),
        ratio("one experiment of four, to the only one", one, alone, SHARE_RATIO),
        Bar(
            "W, PostgreSQL",
            "largest peak of panicdb",
            megabytes(peak),
            f"under {megabytes(PEAK_BYTES)}",
            met=peak < PEAK_BYTES,
        ),
    ]


def show(runs: dict[str, list[Measurement]]) -> None:
    print(f"  {'':34}{'seconds':>8}  {'(least - most)':16}{'cpu':>6}{'peak':>9}")
    for label, found in runs.items():
        middle, each = measure.middle(found), [run.seconds for run in found]
        spread = f"({min(each):.2f} - {max(each):.2f})"
        peak = megabytes(middle["peak_bytes"])
        print(f"  {label:34}{middle['seconds']:8.2f}  {spread:16}{middle['cpu_seconds']:6.2f}{peak:>9}")


def bench(repeat: int, file: Path | None) -> int:
    load = os.getloadavg()[0]
    with servers.running() as server:
        root = make_sources(server)
        listed = candidates(server, root)
        folder = Path(server.execute("SHOW data_directory")).parent / "bench"
        folder.mkdir()
        size = server.execute(f"SELECT pg_size_pretty(pg_database_size('{WIDE}'))")
        print(f"PostgreSQL {server.execute('SHOW server_version')}, {size}, both databases on one server")
        runs = race(server, listed, repeat, folder)
    show(runs)
    bars = judge(runs, listed)
    show_bars(bars)
    warn_if_busy(load)
    if file is not None:
        file.write_text(
            json.dumps({label: [asdict(run) for run in found] for label, found in runs.items()}, indent=2)
        )
    return 0 if all(bar.met for bar in bars) else 1


def lacking() -> list[str]:
    found: list[tuple[str, Callable[[], object]]] = [
        ("postgresql", servers.is_installed),
        ("pgcopydb", lambda: shutil.which("pgcopydb")),
    ]
    return [package for package, is_there in found if not is_there()]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure panicdb beside pg_dump and pgcopydb.")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each command (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    given = parser.parse_args()
    if lacking():
        print(f"not installed here, Debian's packages: {', '.join(lacking())}", file=sys.stderr)
        return 2
    return bench(given.repeat, given.json)


if __name__ == "__main__":
    sys.exit(main())
