"""Rows of two sides, paired by key in a temporary file: what one side lacks, has too much, or has otherwise.

The file is SQLite's own temporary database, whatever the engines compared: memory stays bounded by its cache.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

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


class _Class:
    """Keys of one class, counted, and the first of them kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.first: list[bytes] = []

    def add(self, key: bytes) -> None:
        self.count += 1
        if len(self.first) < self.limit:
            self.first.append(key)

    def found(self) -> Found:
        return Found(self.count, tuple(self.first))


class _Rows:
    """The rows of one key on one side: how many, and which differ."""

    def __init__(self) -> None:
        self.times = 0
        self.different: list[bytes] = []

    def add(self, row: bytes) -> None:
        """They come sorted."""
        self.times += 1
        if not self.different or self.different[-1] != row:
            self.different.append(row)


def paired(
    ours: Iterable[Hashed],
    theirs: Iterable[Hashed],
    *,
    limit: int,
    further: Iterable[Hashed] = (),
) -> Pairs:
    """Read all sides to their ends, and give the keys that differ, the first `limit` of each class by key.

    Their side may have the `further` rows, too: a key that is in both is to be as `ours` has it.
    """
    classes = {name: _Class(limit) for name in ("missing", "extra", "changed", "repeated")}
    with closing(sqlite3.connect("")) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("CREATE TABLE rows (key BLOB, row BLOB, side INTEGER)")
        for side, rows in enumerate((ours, theirs, further)):
            connection.executemany(f"INSERT INTO rows VALUES (?, ?, {side})", rows)
        everything = connection.execute("SELECT key, row, side FROM rows ORDER BY key, row")
        for key, group in groupby(everything, itemgetter(0)):
            sides = (_Rows(), _Rows(), _Rows())
            for _key, row, side in group:
                sides[side].add(row)
            name = _classify(*sides)
            if name is not None:
                classes[name].add(key)
    return Pairs(**{name: each.found() for name, each in classes.items()})


def _classify(ours: _Rows, theirs: _Rows, further: _Rows) -> str | None:
    least, most = ours.times, max(ours.times, further.times)
    if not theirs.times:
        return "missing" if least else None
    if not most:
        return "extra"
    if not least <= theirs.times <= most:
        return "repeated"
    return None if theirs.different == (ours if least else further).different else "changed"
