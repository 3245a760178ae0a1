"""A finished draft takes the place of a SQLite file that may be in use."""

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from panicdb.backends.base import Place
from panicdb.backends.sqlite import files
from panicdb.backends.sqlite.snapshot import LOCK_RETRY_SECONDS
from panicdb.errors import TargetError
from panicdb.values import Monitor

_IN_USE = "close it there, or raise --timeout; the old file was left as it is"


def exchange(
    draft: str, place: Place, met: tuple[int, int] | None, *, timeout: float, monitor: Monitor
) -> None:
    """Rename the draft over the file at `place`: who has that open keeps it, and there is no moment without one.

    `met` is the identity of the file that was there when the run began: no other one is replaced.

    SQLite finds logs and journals by name, so one of the old file would be applied to the new one. Hence the old file
    is first brought into rollback mode, and locked against writers: then it has neither, nobody can begin one, and who
    writes later through an open connection is refused by SQLite, which sees that its file has moved. (How files are
    corrupted: https://www.sqlite.org/howtocorrupt.html, sections 1.4 and 2.5.)

    Raises TargetError where the old file stays in use for `timeout` seconds, or is another one by then.
    """
    with _quiet(place, met, time.monotonic() + timeout, monitor):
        os.chmod(draft, stat.S_IMODE(Path(place.location).stat().st_mode))
        os.replace(draft, place.location)


@contextmanager
def _quiet(place: Place, met: tuple[int, int] | None, deadline: float, monitor: Monitor) -> Iterator[None]:
    """Hold the old file still: no writer, no log, no journal."""
    _refuse_another(place, met)
    try:
        raw = files.connect(place.location, "rw")
    except sqlite3.Error as error:
        raise _explain(error, place) from error
    try:
        logged = _patiently(raw, "PRAGMA journal_mode", place, deadline, monitor) == "wal"
        try:
            if (
                logged
            ):  # what is in the log goes into the file, and the log goes; needs the file for a moment alone
                _patiently(raw, "PRAGMA journal_mode = DELETE", place, deadline, monitor)
            _patiently(raw, "BEGIN IMMEDIATE", place, deadline, monitor)
            _remove_dead_journal(place)
            _refuse_another(place, met)
            yield
        except BaseException:
            if logged:
                with suppress(sqlite3.Error):  # as it was, where nobody forbids it
                    if raw.in_transaction:
                        raw.execute("ROLLBACK")
                    raw.execute("PRAGMA journal_mode = WAL")
            raise
    finally:
        raw.close()


def _remove_dead_journal(place: Place) -> None:
    """Under the lock a journal is dead: a hot one was rolled back before, and a new one needs the lock."""
    with suppress(FileNotFoundError):
        os.unlink(place.location + "-journal")
    left = [suffix for suffix in files.SIDECARS if os.path.lexists(place.location + suffix)]
    if left:
        raise TargetError(
            f"{place.shown}: its {' and '.join(left)} would spoil the new file",
            hint="remove what nobody uses",
        )


def _refuse_another(place: Place, met: tuple[int, int] | None) -> None:
    if files.identity(place.location) != met:
        raise TargetError(
            f"{place.shown}: was exchanged or removed by somebody else meanwhile",
            hint="look at it, and try again",
        )


def _patiently(
    raw: sqlite3.Connection, statement: str, place: Place, deadline: float, monitor: Monitor
) -> object:
    """Wait for locks until the deadline; the waiting stays interruptible."""
    while True:
        try:
            row = raw.execute(statement).fetchone()
        except sqlite3.Error as error:
            if not files.error_name(error).startswith("SQLITE_BUSY") or time.monotonic() >= deadline:
                raise _explain(error, place) from error
            monitor.poll()
            time.sleep(LOCK_RETRY_SECONDS)
        else:
            return row[0] if row else None


def no_database(place: Place) -> TargetError:
    """Say that a target is there which nobody may touch."""
    return TargetError(
        f"{place.shown}: exists and is no SQLite database", hint="choose another name, or move it away"
    )


def _explain(error: sqlite3.Error, place: Place) -> TargetError:
    if files.error_name(error).startswith("SQLITE_BUSY"):
        return TargetError(f"{place.shown}: in use by another program", hint=_IN_USE)
    if files.is_no_database(error):
        return no_database(place)
    known = files.explain(error, place.shown, "replacing")
    return TargetError(known.message, hint=known.hint)
