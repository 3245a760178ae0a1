"""PostgreSQL: one database, one snapshot, one draft beside the target."""

from contextlib import AbstractContextManager
from typing import ClassVar

from panicdb.backends import delivery
from panicdb.backends.base import Backend, Comparison, Merging, Place, Snapshot, Staging
from panicdb.backends.postgresql import faults, publish, targets
from panicdb.backends.postgresql import snapshot as snapshots
from panicdb.backends.postgresql.addresses import read_address
from panicdb.errors import TargetError
from panicdb.values import Existing, Monitor

__all__ = ["POSTGRESQL", "PostgreSQLBackend"]


class PostgreSQLBackend(Backend):
    """See `Backend`."""

    name: ClassVar[str] = "postgresql"

    def place(self, text: str) -> Place:
        """See `Backend`: shown without password and options."""
        return Place(read_address(text).shown, self, text)

    def fingerprint(self, place: Place) -> str:
        """See `Backend`: by server and database."""
        return read_address(place.location).fingerprint()

    def open_snapshot(
        self, place: Place, *, timeout: float, monitor: Monitor
    ) -> AbstractContextManager[Snapshot]:
        """See `Backend`."""
        return snapshots.open_snapshot(place, timeout=timeout, monitor=monitor)

    def check_target(self, place: Place, source: Place, existing: Existing) -> bool:
        """See `Backend`."""
        with faults.explained(place.shown, "looking at the target", writing=True):
            return targets.check_target(place, source, existing=existing)

    def check_receipt_path(self, path: str, place: Place) -> None:
        """See `Backend`."""
        delivery.check_receipt_path(path, place.shown)

    def stage(self, place: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
        """See `Backend`."""
        return publish.stage(place, monitor=monitor)

    def scratch(self, source: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
        """See `Backend`."""
        return publish.scratch(source, monitor=monitor)

    def join(
        self, place: Place, snapshot: Snapshot, *, timeout: float, monitor: Monitor, writing: bool
    ) -> AbstractContextManager[Merging]:
        """See `Backend`: a target that holds rows is refused before this, so it is never reached."""
        del snapshot, timeout, monitor, writing
        raise TargetError(
            f"{place.shown}: rows are merged into SQLite files only",
            hint="name a new database, or an empty one",
        )

    def compare(self, snapshot: Snapshot, other: Snapshot) -> Comparison | None:  # noqa: ARG002
        """See `Backend`: two databases never meet in one session."""
        return None

    def receipt_path(self, place: Place) -> str | None:  # noqa: ARG002
        """See `Backend`: there is no place beside a database; `--receipt` names one."""
        return None


POSTGRESQL = PostgreSQLBackend()
