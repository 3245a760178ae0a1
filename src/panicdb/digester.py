"""Digest a target in a process of its own, so that source and target are read at the same time.

A small one is read here, and later: Python alone takes longer to start. The process reads one request from standard
input, a line of JSON, and writes one line of JSON: for each table the number of rows and the digest; or the message of
an error. It ends with the process that started it.
"""

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

from panicdb import contents, databases
from panicdb.backends.base import Place, Snapshot
from panicdb.digest import TableDigest
from panicdb.errors import DamagedError, PanicDBError, TransferError
from panicdb.values import Monitor

WORTH_A_PROCESS = 8 << 20
"""Bytes: about what is digested while Python starts and imports."""
SECONDS_BETWEEN_POLLS = 0.05
_PROGRAM = (
    "import sys, json; request = json.loads(sys.stdin.readline()); sys.path[:] = request['path']; "
    "from panicdb.digester import answer; print(json.dumps(answer(request)))"
)


class Digester(ABC):
    """What gives digests of a target once they are asked for."""

    @abstractmethod
    def result(self, monitor: Monitor) -> Mapping[str, TableDigest]:
        """Return the digests. Raises TransferError, or SourceError, if the target can't be read as it must be."""


class _Here(Digester):
    """Here, when it is asked for."""

    def __init__(self, target: Snapshot, tables: Mapping[str, tuple[str, ...]]) -> None:
        self._target = target
        self._tables = tables

    def result(self, monitor: Monitor) -> Mapping[str, TableDigest]:
        return contents.digest_columns(self._target, self._tables, monitor)


class _Elsewhere(Digester):
    """The parent's side of the process."""

    def __init__(self, process: subprocess.Popen[str], place: Place) -> None:
        self._process = process
        self._place = place

    def result(self, monitor: Monitor) -> Mapping[str, TableDigest]:
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
        if answer.get("damaged"):
            raise DamagedError(answer["error"], hint=answer["hint"], place=self._place.shown)
        if "error" in answer:
            raise TransferError(answer["error"], hint=answer["hint"])
        return {name: TableDigest(rows, int(total, 16)) for name, (rows, total) in answer["tables"].items()}


@contextmanager
def digesting(
    target: Snapshot, tables: Mapping[str, tuple[str, ...]], *, timeout: float
) -> Iterator[Digester]:
    """Begin to digest tables of a target, by these columns. Reads only.

    A column that is not there counts as NULL, a table that is not there has no digest. `timeout` bounds waiting for
    locks, in seconds. Raises TransferError if a process can't be started.
    """
    if not target.can_be_opened_again() or target.size() < WORTH_A_PROCESS:
        yield _Here(target, tables)
        return
    request = {
        "location": target.place.location,
        "tables": tables,
        "timeout": timeout,
        "path": sys.path,
        "parent": os.getpid(),
    }
    with _started(request) as process:
        try:
            yield _Elsewhere(process, target.place)
        finally:
            process.kill()


def _started(request: Mapping[str, Any]) -> subprocess.Popen[str]:
    """Start the process. What it is asked lies in a file: writing to a pipe would fail, or wait, if it never reads."""
    try:
        with TemporaryFile("w+", encoding="utf-8") as file:
            file.write(json.dumps(request) + "\n")
            file.seek(0)
            return subprocess.Popen(  # noqa: S603 - this interpreter
                # It imports what this process would, and nothing from where it happens to stand.
                [sys.executable, "-I", "-c", _PROGRAM],
                stdin=file,
                stdout=subprocess.PIPE,
                text=True,
                process_group=0,  # Ctrl-C is for this process, which then ends that one
            )
    except OSError as error:
        raise TransferError(
            f"the process that digests the target can't be started: {error.strerror}",
            hint="look for a full disk, or a limit on processes",
        ) from error


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Digest what is asked for, in the process of its own; of an error, return the message. Reads only."""
    try:
        return {"tables": _digest(request)}
    except PanicDBError as error:
        return {"error": error.message, "hint": error.hint, "damaged": isinstance(error, DamagedError)}


def _digest(request: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    place, monitor = databases.locate(request["location"]), Monitor(poll=_ending_with(request["parent"]))
    with databases.open_source(place, timeout=request["timeout"], monitor=monitor) as snapshot:
        found = contents.digest_columns(snapshot, request["tables"], monitor)
    return {name: (digest.rows, str(digest)) for name, digest in found.items()}


def _ending_with(parent: int) -> Callable[[], None]:
    """Nobody waits for what an orphan finds out."""

    def poll() -> None:
        if os.getppid() != parent:
            os._exit(1)

    return poll
