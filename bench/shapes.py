"""The databases that the benchmark reads: the same rows every time, made once and kept.

    python bench/shapes.py [NAME ...]      make the named shapes (default: those of run.py, but for the large one)

    W, W-large   PANIC-TDA at its newest revision, wide rows: images and vectors
    W-tiny       the same schema with a handful of rows, to see what start-up costs
    N            narrow rows under a six-column primary key, no migrations
    N-history    the same rows in tables that a migration made, for across.py; N-history-tiny: a few of them
    chain-...    a self-linked table; "down": each row names the one before it, "up": the one
                 after it; "flat": the same rows without the link, each reached from its root
    ...-copy     a byte copy of another shape
    ...-differing
                 a copy in which every row of the large table differs

A shape that is there is kept, and a copy until its original is made anew. Remove bench/work to make everything anew.
"""

import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

BENCH = Path(__file__).resolve().parent
WORK = BENCH / "work"

METRIC_NAMES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "gradient_norm")
METRIC_NAMES += ("epoch_time", "throughput", "memory", "perplexity")
STEPS_PER_PARENT = 500
PARENTS = 400
ROOTS = 4

MANY_TABLES = 67
"""As many as MLflow's schema has, with its version table."""

CHAIN_ROWS = 200_000
OTHER_CHAIN_ROWS = 20_000

NARROW = """
CREATE TABLE roots (id INTEGER NOT NULL, name VARCHAR(256) NOT NULL, PRIMARY KEY (id));
CREATE TABLE parents (
    id VARCHAR(32) NOT NULL,
    name VARCHAR(250),
    root_id INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (root_id) REFERENCES roots (id)
);
CREATE TABLE metrics (
    key VARCHAR(250) NOT NULL,
    value FLOAT NOT NULL,
    timestamp BIGINT NOT NULL,
    run_id VARCHAR(32) NOT NULL,
    step BIGINT DEFAULT '0' NOT NULL,
    is_nan BOOLEAN DEFAULT '0' NOT NULL,
    CONSTRAINT metric_pk PRIMARY KEY (key, timestamp, step, run_id, value, is_nan),
    FOREIGN KEY (run_id) REFERENCES parents (id)
);
CREATE INDEX ix_metrics_run_id ON metrics (run_id);
"""

CHAIN = """
CREATE TABLE roots (id INTEGER NOT NULL, name VARCHAR(256) NOT NULL, PRIMARY KEY (id));
CREATE TABLE nodes (
    id CHAR(32) NOT NULL,
    root_id INTEGER,
    linked_id CHAR(32),
    label VARCHAR NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (root_id) REFERENCES roots (id){self_link}
);
CREATE INDEX ix_nodes_root_id ON nodes (root_id);
CREATE INDEX ix_nodes_linked_id ON nodes (linked_id);
"""
TABLE = """
CREATE TABLE t{number} (
    id INTEGER NOT NULL,
    name VARCHAR(250) NOT NULL,
    kind VARCHAR(20) DEFAULT 'plain' NOT NULL,
    started DATETIME,
    ended DATETIME,
    note TEXT,
    value FLOAT,
    size BIGINT,
    flag BOOLEAN DEFAULT '0' NOT NULL,
    parent_id INTEGER,
    CONSTRAINT pk_t{number} PRIMARY KEY (id),
    CONSTRAINT uq_t{number}_name UNIQUE (name, kind),
    CONSTRAINT ck_t{number}_flag CHECK (flag IN (0, 1)),
    CONSTRAINT fk_t{number} FOREIGN KEY (parent_id) REFERENCES t{parent} (id) ON DELETE CASCADE
);
CREATE INDEX ix_t{number}_started ON t{number} (started, ended);
CREATE INDEX ix_t{number}_parent ON t{number} (parent_id);
"""
SELF_LINK = ",\n    FOREIGN KEY (linked_id) REFERENCES nodes (id)"


def path(name: str) -> Path:
    return WORK / f"{name}.db"


def ensure(name: str) -> Path:
    """Make the shape unless it is there and current; nothing half-made takes its name."""
    made = path(name)
    if name in ORIGINALS:
        ensure(ORIGINALS[name])
    if not is_current(name):
        WORK.mkdir(exist_ok=True)
        part = made.with_suffix(".part")
        part.unlink(missing_ok=True)
        SHAPES[name](part)
        os.replace(part, made)
    return made


def is_current(name: str) -> bool:
    if not path(name).exists():
        return False
    if name in ORIGINALS:
        return path(name).stat().st_mtime >= path(ORIGINALS[name]).stat().st_mtime
    if not name.startswith("W"):
        return True
    with closing(sqlite3.connect(f"{path(name).as_uri()}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return found == [(wide().newest_revision(),)]


def wide():
    """SQLAlchemy and Alembic, for those who build: run.py imports this module and stays small."""
    import wide  # noqa: PLC0415 - that is why

    return wide


def build_wide(target: Path, *, experiments: int, runs: int, invocations: int) -> None:
    wide().build(target, experiments=experiments, runs=runs, invocations=invocations)


def build_narrow(target: Path, *, schema: str = NARROW, parent_count: int = PARENTS) -> None:
    numbers = random.Random(1)
    with opened(target, schema) as connection:
        connection.executemany("INSERT INTO roots VALUES (?, ?)", root_rows(ROOTS))
        parents = [(new_id(numbers), f"run {number}", number % ROOTS + 1) for number in range(parent_count)]
        connection.executemany("INSERT INTO parents VALUES (?, ?, ?)", parents)
        rows = metric_rows(numbers, [parent for parent, _, _ in parents])
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")


def build_narrow_history(target: Path, *, parent_count: int) -> None:
    import narrow  # noqa: PLC0415 - as in wide()

    narrow.create(target)
    build_narrow(target, schema="", parent_count=parent_count)


def metric_rows(numbers: random.Random, parents: Iterable[str]) -> Iterator[tuple]:
    now = 1_700_000_000_000
    for parent in parents:
        for step in range(STEPS_PER_PARENT):
            now += numbers.randint(1, 200)
            for name in METRIC_NAMES:
                yield name, numbers.random(), now, parent, step, 0


def build_chain(target: Path, *, upward: bool, linked: bool) -> None:
    numbers = random.Random(1)
    with opened(target, CHAIN.format(self_link=SELF_LINK if linked else "")) as connection:
        connection.executemany("INSERT INTO roots VALUES (?, ?)", root_rows(2))
        for root, length in enumerate((CHAIN_ROWS, OTHER_CHAIN_ROWS), start=1):
            rows = chain_rows(numbers, root, length, upward=upward, linked=linked)
            connection.executemany("INSERT INTO nodes VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")


def chain_rows(
    numbers: random.Random, root: int, length: int, *, upward: bool, linked: bool
) -> Iterator[tuple]:
    """Rows in the chain's order; where they are linked, only the first knows its root."""
    ids = [new_id(numbers) for _ in range(length)]
    before_and_own = pairwise([None, *ids])
    own_and_after = islice(pairwise([*ids, None]), length)
    for place, (first, second) in enumerate(own_and_after if upward else before_and_own):
        own, other = (first, second) if upward else (second, first)
        known_root = None if linked and place else root
        yield own, known_root, other, f"the node at place {place} of chain {root}"


def build_tables(target: Path, *, count: int) -> None:
    schema = "".join(TABLE.format(number=number, parent=max(number - 1, 0)) for number in range(count))
    with opened(target, schema) as connection:
        connection.execute("INSERT INTO t0 (id, name) VALUES (1, 'one')")
        connection.execute("COMMIT")


def build_copy(target: Path, *, original: str) -> None:
    shutil.copyfile(path(original), target)


def build_differing(target: Path, *, original: str, update: str) -> None:
    build_copy(target, original=original)
    with opened(target, schema="") as connection:
        connection.execute(update)
        connection.execute("COMMIT")


def root_rows(count: int) -> Iterator[tuple]:
    return ((number, f"root {number}") for number in range(1, count + 1))


def new_id(numbers: random.Random) -> str:
    return f"{numbers.getrandbits(128):032x}"


def opened(target: Path, schema: str) -> closing:
    connection = sqlite3.connect(target, isolation_level=None)
    write_fast(connection)
    connection.executescript(schema)
    connection.execute("BEGIN")
    return closing(connection)


def write_fast(connection: sqlite3.Connection, _record: object = None) -> None:
    """An unfinished file is thrown away, so it needs neither journal nor fsync."""
    connection.execute("PRAGMA journal_mode = off")
    connection.execute("PRAGMA synchronous = off")
    connection.execute("PRAGMA cache_size = -65536")


SHAPES: dict[str, Callable[[Path], None]] = {
    "W": partial(build_wide, experiments=4, runs=8, invocations=1_000),
    "W-tiny": partial(build_wide, experiments=2, runs=1, invocations=4),
    "W-large": partial(build_wide, experiments=4, runs=34, invocations=1_000),
    "N": build_narrow,
    "N-history": partial(build_narrow_history, parent_count=PARENTS),
    "N-history-tiny": partial(build_narrow_history, parent_count=ROOTS),
    "chain-down": partial(build_chain, upward=False, linked=True),
    "chain-down-flat": partial(build_chain, upward=False, linked=False),
    "chain-up": partial(build_chain, upward=True, linked=True),
    "chain-up-flat": partial(build_chain, upward=True, linked=False),
    "tables-1": partial(build_tables, count=1),
    "tables-67": partial(build_tables, count=MANY_TABLES),
    "W-copy": partial(build_copy, original="W"),
    # Every column is part of the key, so these rows are others, while those of the chain have changed.
    "N-differing": partial(build_differing, original="N", update="UPDATE metrics SET is_nan = 1"),
    "chain-down-flat-differing": partial(
        build_differing, original="chain-down-flat", update="UPDATE nodes SET label = label || '.'"
    ),
}
ORIGINALS = {"W-copy": "W", "N-differing": "N", "chain-down-flat-differing": "chain-down-flat"}
ON_REQUEST = frozenset({"W-large", "N-history", "N-history-tiny"})


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(SHAPES))
    if unknown:
        print(f"no such shape: {', '.join(unknown)}; there are {', '.join(SHAPES)}")
        return 2
    for name in names or [name for name in SHAPES if name not in ON_REQUEST]:
        known = path(name).exists()
        size = ensure(name).stat().st_size
        if sys.stdout.isatty() or not known:
            print(f"{name}: {size / 1e6:.0f} MB, {path(name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
