"""What panicdb is measured against, each work a process of its own.

    python bench/peers.py WORK SOURCE TARGET

They do nothing but move the rows (README.md lists what they leave out), each in the fastest way
found by trial. `hand-...` is ATTACH and INSERT ... SELECT, then fsync; those ending in `-after`
create the secondary indexes after the rows, the others before them.
"""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

# SQLite takes SELECT * without a WHERE from a like table cell by cell, indexes included, in order.
WHOLE = "INSERT INTO main.{table} SELECT * FROM source.{table}"

W_TABLES = (
    "alembic_version",
    "experimentconfig",
    "run",
    "invocation",
    "embedding",
    "persistencediagram",
)
W_ALL = tuple(WHOLE.format(table=table) for table in W_TABLES)

# No ORDER BY: the sorter would carry the images along. The indexes give the rows in their order.
W_ONE = (
    WHOLE.format(table="alembic_version"),
    """INSERT INTO main.experimentconfig SELECT * FROM source.experimentconfig
       WHERE id = (SELECT id FROM source.experimentconfig ORDER BY rowid LIMIT 1)""",
    """INSERT INTO main.run SELECT * FROM source.run
       WHERE experiment_id IN (SELECT id FROM main.experimentconfig)""",
    """INSERT INTO main.invocation SELECT * FROM source.invocation
       WHERE run_id IN (SELECT id FROM main.run)""",
    """INSERT INTO main.embedding SELECT * FROM source.embedding
       WHERE invocation_id IN (SELECT id FROM main.invocation)""",
    """INSERT INTO main.persistencediagram SELECT * FROM source.persistencediagram
       WHERE run_id IN (SELECT id FROM main.run)""",
)

N_PARENTS = (
    "INSERT INTO main.roots SELECT * FROM source.roots WHERE id = 1",
    "INSERT INTO main.parents SELECT * FROM source.parents WHERE root_id = 1",
)
N_BY_LINK = (
    *N_PARENTS,
    """INSERT INTO main.metrics SELECT * FROM source.metrics
       WHERE run_id IN (SELECT id FROM main.parents)""",
)
# The + keeps SQLite from the link's index: it walks the primary key's, which covers the row.
N_BY_KEY = (
    *N_PARENTS,
    """INSERT INTO main.metrics SELECT * FROM source.metrics
       WHERE +run_id IN (SELECT id FROM main.parents)
       ORDER BY key, timestamp, step, run_id, value, is_nan""",
)


def hand_written(source: Path, target: Path, *, statements: tuple[str, ...], indexes_after: bool) -> None:
    with closing(sqlite3.connect(target, isolation_level=None, uri=True)) as connection:
        prepare(connection, source)
        connection.execute("BEGIN")
        create(connection, "table")
        if not indexes_after:
            create(connection, "index")
        for statement in statements:
            connection.execute(statement)
        if indexes_after:
            create(connection, "index")
        connection.execute("COMMIT")
    sync(target)


def prepare(connection: sqlite3.Connection, source: Path) -> None:
    """Fastest by trial: a larger page cache or a mapped source gains nothing here."""
    connection.execute("ATTACH ? AS source", (f"{source.as_uri()}?mode=ro",))
    (page_size,) = connection.execute("PRAGMA source.page_size").fetchone()
    connection.execute(f"PRAGMA main.page_size = {page_size}")
    connection.execute("PRAGMA main.journal_mode = off")
    connection.execute("PRAGMA main.synchronous = off")
    connection.execute("PRAGMA main.locking_mode = exclusive")
    connection.execute("PRAGMA main.cache_size = -32768")
    connection.execute("PRAGMA source.cache_size = -8192")


def create(connection: sqlite3.Connection, kind: str) -> None:
    found = connection.execute(
        "SELECT sql FROM source.sqlite_master WHERE type = ? AND sql IS NOT NULL ORDER BY rowid",
        (kind,),
    )
    for (statement,) in found.fetchall():
        connection.execute(statement)


def sync(written: Path) -> None:
    for each in (written, written.parent):
        descriptor = os.open(each, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def plain_copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", source, target], check=True)
    sync(target)


def vacuum_into(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))
    sync(target)


def hand(name: str, statements: tuple[str, ...]) -> dict[str, Callable[[Path, Path], None]]:
    written = partial(hand_written, statements=statements)
    return {
        f"hand-{name}": partial(written, indexes_after=False),
        f"hand-{name}-after": partial(written, indexes_after=True),
    }


WORKS: dict[str, Callable[[Path, Path], None]] = {
    **hand("W-all", W_ALL),
    **hand("W-one", W_ONE),
    **hand("N-by-link", N_BY_LINK),
    **hand("N-by-key", N_BY_KEY),
    "cp": plain_copy,
    "vacuum-into": vacuum_into,
}


def main() -> int:
    match sys.argv[1:]:
        case [work, source, target] if work in WORKS:
            WORKS[work](Path(source).absolute(), Path(target).absolute())
            return 0
        case _:
            print(f"python bench/peers.py WORK SOURCE TARGET; WORK: {', '.join(WORKS)}")
            return 2


if __name__ == "__main__":
    sys.exit(main())
