"""Digest all tables of a database as between engines, without what one engine allows: in this process alone.

    python bench/digests.py SOURCE [TARGET]

TARGET is digested at the same time, in a second process, as `panicdb verify` does it. Prints the number of rows and
the digest of each table, per side. Exit code 1 where the sides do not hold the same number of rows.
"""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager

from panicdb import contents, databases
from panicdb.backends.base import Snapshot
from panicdb.digest import TableDigest
from panicdb.digester import digesting
from panicdb.values import Monitor

TIMEOUT = 30.0
MONITOR = Monitor()

Digests = Mapping[str, TableDigest]


def opened(place: str) -> AbstractContextManager[Snapshot]:
    return databases.open_source(databases.locate(place), timeout=TIMEOUT, monitor=MONITOR)


def digest_one(source: str) -> Digests:
    with opened(source) as snapshot:
        return contents.digest_all(snapshot, MONITOR)


def digest_both(source: str, target: str) -> tuple[Digests, Digests]:
    with opened(source) as snapshot, opened(target) as copy:
        columns = {entry.name: contents.columns_of(entry) for entry in snapshot.catalog.ordinary()}
        with digesting(copy, columns, timeout=TIMEOUT) as other:
            return contents.digest_all(snapshot, MONITOR), other.result(MONITOR)


def main(files: list[str]) -> int:
    match files:
        case [source]:
            sides: tuple[Digests, ...] = (digest_one(source),)
        case [source, target]:
            sides = digest_both(source, target)
        case _:
            print("python bench/digests.py SOURCE [TARGET]")
            return 2
    for file, digests in zip(files, sides, strict=True):
        for name, digest in digests.items():
            print(f"{file} {name} {digest.rows} {digest}")
    rows = [{name: digest.rows for name, digest in digests.items()} for digests in sides]
    if rows[0] != rows[-1]:
        print(f"the sides do not hold the same number of rows: {rows}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
