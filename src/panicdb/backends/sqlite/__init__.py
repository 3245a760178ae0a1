"""SQLite: one file, one snapshot, one private directory beside the target."""

import os
from contextlib import AbstractContextManager
from typing import ClassVar

from panicdb.backends.base import Backend, Place, Snapshot, Staging
from panicdb.backends.sqlite import files, publish, snapshot
from panicdb.backends.sqlite.files import is_url
from panicdb.values import Monitor

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

    def open_snapshot(
        self, place: Place, *, timeout: float, monitor: Monitor
    ) -> AbstractContextManager[Snapshot]:
        """See `Backend`."""
        return snapshot.open_snapshot(place, timeout=timeout, monitor=monitor)

    def check_target(self, place: Place, source: Place) -> None:
        """See `Backend`."""
        publish.check_target(place, source)

    def check_receipt_path(self, path: str, place: Place) -> None:
        """See `Backend`."""
        publish.check_receipt_path(path, place)

    def stage(self, place: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
        """See `Backend`."""
        return publish.stage(place, monitor=monitor)

    def receipt_path(self, place: Place) -> str | None:
        """See `Backend`."""
        return place.location + publish.RECEIPT_SUFFIX


SQLITE = SQLiteBackend()
