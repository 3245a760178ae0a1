"""Digest a database in a process of its own, so that source and target are read at the same time.

Run as a module it reads one request from standard input, a line of JSON, and writes one line of JSON: for each table
the number of rows and the digest; or the message of an error.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from panicdb import contents, databases
from panicdb.backends.base import Place
from panicdb.digest import TableDigest
from panicdb.errors import PanicDBError, TransferError
from panicdb.values import Monitor

SECONDS_BETWEEN_POLLS = 0.05


class Digester:
    """The parent's side of the process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def result(self, monitor: Monitor) -> Mapping[str, TableDigest]:
        """Wait for the digests. Raises TransferError if the database can't be read there."""
        while True:
            monitor.poll()
            try:
                said, _ = self._process.communicate(timeout=SECONDS_BETWEEN_POLLS)
            except subprocess.TimeoutExpired:
                continue
            break
        try:
            answer = json.loads(said)
        except ValueError:
            raise TransferError("the process that digests the target ended early") from None
        if "error" in answer:
            raise TransferError(answer["error"], hint=answer["hint"])
        return {name: TableDigest(rows, int(total, 16)) for name, (rows, total) in answer["tables"].items()}


@contextmanager
def digesting(place: Place, tables: Mapping[str, tuple[str, ...]], *, timeout: float) -> Iterator[Digester]:
    """Start to digest tables of a database, by these columns. Reads only.

    A column that is not there counts as NULL, a table that is not there has no digest. `timeout` bounds waiting for
    locks, in seconds.
    """
    request = {"location": place.location, "tables": tables, "timeout": timeout}
    with subprocess.Popen(
        [sys.executable, "-m", "panicdb.digester"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            yield Digester(process)
        finally:
            process.kill()


def main() -> None:
    """Answer the one request."""
    request = json.loads(sys.stdin.readline())
    try:
        answer: dict[str, Any] = {"tables": _digest(request)}
    except PanicDBError as error:
        answer = {"error": error.message, "hint": error.hint}
    print(json.dumps(answer))  # noqa: T201 - the answer


def _digest(request: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    place = databases.locate(request["location"])
    with databases.open_source(place, timeout=request["timeout"], monitor=Monitor()) as snapshot:
        found = {
            name: contents.digest(snapshot, contents.whole_rows(tables[name], columns), Monitor())
            for name, columns in request["tables"].items()
            if name in (tables := snapshot.catalog.tables)
        }
    return {name: (digest.rows, str(digest)) for name, digest in found.items()}


if __name__ == "__main__":
    main()
