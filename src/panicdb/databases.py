"""Addresses of databases, and how they are opened: a source for reading only, a target as a private draft."""

from contextlib import AbstractContextManager

from panicdb.backends import backend_for
from panicdb.backends.base import Place, Snapshot, Staging
from panicdb.values import Monitor


def locate(text: str) -> Place:
    """Read an address: a SQLAlchemy URL, or the path of a SQLite file. Opens nothing. Raises UsageError."""
    return backend_for(text).place(text)


def open_source(place: Place, *, timeout: float, monitor: Monitor) -> AbstractContextManager[Snapshot]:
    """Open a database for reading only, pinned to one moment; waits `timeout` seconds for locks."""
    return place.backend.open_snapshot(place, timeout=timeout, monitor=monitor)


def check_target(place: Place, source: Place, receipt_path: str | None) -> None:
    """Refuse a target that exists, is the source or can't be made, and a receipt path that holds something else."""
    place.backend.check_target(place, source)
    if receipt_path is not None:
        for each in (place, source):
            each.backend.check_receipt_path(receipt_path, each)


def stage_target(place: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
    """Give the one handle that writes: to a private draft of a target that was found absent."""
    return place.backend.stage(place, monitor=monitor)
