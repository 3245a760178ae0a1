"""Rows of two sides, paired by key in a temporary file: what one side lacks, has too much, or has otherwise.

The file is SQLite's own temporary database, whatever the engines compared: memory stays bounded by its cache.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

CACHE_KIB = 32_768
Hashed = tuple[bytes, bytes]
"""A key, encoded; and the hash of its row."""


@dataclass(frozen=True)
class Found:
    """How many keys are in one class, and the first of them."""

    count: int
    first: tuple[bytes, ...]


@dataclass(frozen=True)
class Pairs:
    """Keys by what is wrong with their rows."""

    missing: Found
    extra: Found
    changed: Found
    repeated: Found
    """There on both sides, but not as often."""


_SIDES = {
    "missing": "ours LEFT JOIN theirs USING (key) WHERE theirs.key IS NULL",
    "extra": "theirs LEFT JOIN ours USING (key) WHERE ours.key IS NULL",
    "changed": "ours JOIN theirs USING (key) WHERE ours.times = theirs.times AND ours.sum <> theirs.sum",
    "repeated": "ours JOIN theirs USING (key) WHERE ours.times <> theirs.times",
}


@contextmanager
def paired(ours: Iterable[Hashed], theirs: Iterable[Hashed], *, limit: int) -> Iterator[Pairs]:
    """Read both sides to their ends, and give the keys that differ, the first `limit` of each class by key."""
    with closing(sqlite3.connect("")) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        for name, rows in (("ours", ours), ("theirs", theirs)):
            _collect(connection, name, rows)
        yield Pairs(**{kind: _find(connection, sides, limit) for kind, sides in _SIDES.items()})


def _collect(connection: sqlite3.Connection, name: str, rows: Iterable[Hashed]) -> None:
    """Where a key is there several times, its rows count together, in whichever order they came."""
    connection.execute(f"CREATE TABLE all_{name} (key BLOB, row BLOB)")
    connection.executemany(f"INSERT INTO all_{name} VALUES (?, ?)", rows)
    connection.execute(f"CREATE INDEX by_{name} ON all_{name} (key, row)")
    connection.execute(
        f"CREATE TABLE {name} AS SELECT key, count(*) AS times, group_concat(hex(row)) AS sum "
        f"FROM (SELECT key, row FROM all_{name} ORDER BY key, row) GROUP BY key"
    )
    connection.execute(f"CREATE UNIQUE INDEX key_{name} ON {name} (key)")
    connection.execute(f"DROP TABLE all_{name}")


def _find(connection: sqlite3.Connection, sides: str, limit: int) -> Found:
    (count,) = connection.execute(f"SELECT count(*) FROM {sides}").fetchone()
    first = connection.execute(f"SELECT key FROM {sides} ORDER BY key LIMIT ?", (limit,)).fetchall()
    return Found(count, tuple(key for (key,) in first))
