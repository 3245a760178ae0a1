"""SQLite: one file, one snapshot, one private directory beside the target."""

import hashlib
import os
from contextlib import AbstractContextManager
from typing import ClassVar

from panicdb.backends.base import Backend, Comparison, Merging, Place, Snapshot, Staging
from panicdb.backends.delivery import RECEIPT_SUFFIX
from panicdb.backends.sqlite import comparison, files, merge, publish
from panicdb.backends.sqlite import snapshot as snapshots
from panicdb.backends.sqlite.files import is_url
from panicdb.values import Existing, Monitor

__all__ = ["SQLITE", "SQLiteBackend", "is_url"]


class SQLiteBackend(Backend):
    """See `Backend`."""

    name: ClassVar[str] = "sqlite"

    def place(self, text: str) -> Place:
        """See `Backend`: the address of a file holds no secret and is shown as a path."""
        path = files.path_of(text)
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
        return Place(printable, self, os.path.join(os.getcwd(), path))

    def fingerprint(self, place: Place) -> str:
        """See `Backend`: by the file's real path."""
        path = os.path.realpath(place.location).encode(errors="surrogateescape")
        return hashlib.blake2b(path, digest_size=8).hexdigest()

    def open_snapshot(
        self, place: Place, *, timeout: float, monitor: Monitor
    ) -> AbstractContextManager[Snapshot]:
        """See `Backend`."""
        return snapshots.open_snapshot(place, timeout=timeout, monitor=monitor)

    def check_target(self, place: Place, source: Place, existing: Existing) -> bool:
        """See `Backend`."""
        return publish.check_target(place, source, existing)

    def check_receipt_path(self, path: str, place: Place) -> None:
        """See `Backend`."""
        publish.check_receipt_path(path, place)

    def stage(self, place: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
        """See `Backend`."""
        return publish.stage(place, monitor=monitor)

    def scratch(self, source: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
        """See `Backend`."""
        return publish.scratch(source, monitor=monitor)

    def join(
        self, place: Place, snapshot: Snapshot, *, timeout: float, monitor: Monitor, writing: bool
    ) -> AbstractContextManager[Merging]:
        """See `Backend`."""
        return merge.join(place, snapshot, timeout=timeout, monitor=monitor, writing=writing)

    def compare(self, snapshot: Snapshot, other: Snapshot) -> Comparison | None:
        """See `Backend`: the other file is attached."""
        if isinstance(snapshot, snapshots.SQLiteSnapshot) and isinstance(other, snapshots.SQLiteSnapshot):
            return comparison.compare(snapshot, other)
        return None

    def receipt_path(self, place: Place) -> str | None:
        """See `Backend`."""
        return place.location + RECEIPT_SUFFIX


SQLITE = SQLiteBackend()
