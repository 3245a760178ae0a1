"""Addresses of databases, and how they are opened: a source for reading only, a target as a private draft."""

from contextlib import AbstractContextManager

from panicdb.backends import backend_for
from panicdb.backends.base import Merging, Place, Snapshot, Staging
from panicdb.values import Existing, Monitor


def locate(text: str) -> Place:
    """Read an address: a SQLAlchemy URL, or the path of a SQLite file. Opens nothing. Raises UsageError."""
    return backend_for(text).place(text)


def open_source(place: Place, *, timeout: float, monitor: Monitor) -> AbstractContextManager[Snapshot]:
    """Open a database for reading only, pinned to one moment; waits `timeout` seconds for locks."""
    return place.backend.open_snapshot(place, timeout=timeout, monitor=monitor)


def check_target(
    place: Place, source: Place, receipt_path: str | None, existing: Existing = "refuse"
) -> bool:
    """Refuse a target that is the source or can't be made, and a receipt path that holds something else.

    A target that exists is refused, too, unless `existing` says what to do with it. Tells whether there is one.
    """
    there = place.backend.check_target(place, source, existing)
    if receipt_path is not None:
        for each in (place, source):
            each.backend.check_receipt_path(receipt_path, each)
    return there


def stage_target(place: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
    """Give the handle that writes a new target: to a private draft of it."""
    return place.backend.stage(place, monitor=monitor)


def stage_scratch(source: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
    """Give the handle that writes a draft of `source`'s schema which is never published."""
    return source.backend.scratch(source, monitor=monitor)


def join_target(
    place: Place, snapshot: Snapshot, *, timeout: float, monitor: Monitor, writing: bool = True
) -> AbstractContextManager[Merging]:
    """Give the handle that writes into a target that exists, all or nothing; or only looks at it."""
    return place.backend.join(place, snapshot, timeout=timeout, monitor=monitor, writing=writing)
