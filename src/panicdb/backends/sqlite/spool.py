"""A private copy of a source by SQLite's backup API, so that the source is free again while the rest is done."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from panicdb.backends.base import Place, Staging
from panicdb.backends.sqlite import files
from panicdb.backends.sqlite.snapshot import SQLiteSnapshot, open_snapshot, unwrapping
from panicdb.values import Monitor, Progress

SPOOL = "source.db"
BYTES_PER_STEP = 1_048_576
"""Between two polls: a moment's work even for a slow disk."""


class SpooledSnapshot(SQLiteSnapshot):
    """A snapshot of the copy. It is shown as the source: nobody can look at the copy."""

    def excludes_writers(self) -> bool:
        """The source is free again; what is written there does not show here."""
        return False


@contextmanager
def open_spooled(
    source: Place, staging: Staging, *, timeout: float, monitor: Monitor
) -> Iterator[SpooledSnapshot]:
    """Copy `source` into the private directory of `staging`, let go of it, and give a snapshot of the copy."""
    path = os.path.join(staging.directory(), SPOOL)
    with open_snapshot(source, timeout=timeout, monitor=monitor) as live:
        staging.needed = live.size()
        _copy(live, path, monitor)
    with closing(files.connect(path, "ro")) as raw:
        snapshot = SpooledSnapshot(source, raw, monitor, 0.0)
        with unwrapping(snapshot.connection):
            # Without a name no migration can touch it, and its room is free as soon as this process ends.
            os.unlink(path)
            yield snapshot


def _copy(live: SQLiteSnapshot, path: str, monitor: Monitor) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    raw = files.connect(path, "rw")
    try:
        for setting in ("journal_mode = OFF", "synchronous = OFF"):
            raw.execute(f"PRAGMA {setting}").close()
        _back_up(live, raw, monitor)
        # The copy of a source in WAL mode is in that mode, too, and would need files beside it.
        raw.execute("PRAGMA journal_mode = DELETE").close()
    finally:
        monitor.gauge = None
        raw.close()


def _back_up(live: SQLiteSnapshot, raw: sqlite3.Connection, monitor: Monitor) -> None:
    """Copy in steps, all within the read transaction that `live` holds.

    A backup takes part in a transaction that its source connection has already, so no writer can make it start anew
    or mix two moments (https://www.sqlite.org/src/file/src/backup.c, sqlite3_backup_step).
    """
    page_size = int(live.setting("page_size"))
    copied = 0
    whole = int(live.setting("page_count")) * page_size

    def advance(_status: int, remaining: int, total: int) -> None:
        nonlocal copied
        copied = (total - remaining) * page_size
        monitor.tick()

    monitor.gauge = lambda: Progress("spooling", None, copied, whole)
    monitor.report(monitor.gauge())
    try:
        live.raw.backup(raw, pages=max(1, BYTES_PER_STEP // page_size), progress=advance)
    except sqlite3.Error as error:
        if files.is_full(error) or files.error_name(error) == "SQLITE_IOERR_WRITE":
            raise  # it is the copy that can't be written: who made its directory explains
        raise files.explain(error, live.place.shown, "spooling") from error
