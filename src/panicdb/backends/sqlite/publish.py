"""The private directory beside a SQLite target, and the one step that makes the target visible."""

import ctypes
import errno
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import sqlalchemy as sa

from panicdb.backends import delivery
from panicdb.backends.base import CopyStep, Place, Snapshot, Staging
from panicdb.backends.conversions import Arrival
from panicdb.backends.delivery import (
    RECEIPT_SUFFIX,
    discard_receipt,
    draft_receipt,
    publish_receipt,
    refuse_directory,
    sync,
)
from panicdb.backends.sqlite import files, private
from panicdb.backends.sqlite import load as loading
from panicdb.backends.sqlite.exchange import exchange, no_database
from panicdb.backends.sqlite.snapshot import SQLiteSnapshot, open_snapshot
from panicdb.backends.sqlite.spool import open_spooled
from panicdb.errors import TargetError, TransferError
from panicdb.values import Existing, Monitor, Progress

DATABASE = "target.db"
_RENAME_EXCL = 0x0004
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


class SQLiteStaging(Staging):
    """A database in a private directory on the target's own file system."""

    engine: ClassVar[str] = "sqlite"
    keeps_steps: ClassVar[bool] = True
    fills: ClassVar[bool] = False

    def __init__(self, place: Place, directory: str, lock: int, monitor: Monitor) -> None:
        self._place = place
        self._directory = directory
        self._lock = lock
        self._path = os.path.join(directory, DATABASE)
        self._met = files.identity(place.location)
        self._monitor = monitor
        self._source: loading.Source | None = None
        self._later: tuple[loading.SchemaObject, ...] = ()
        self._copied = False

    def spool(self, source: Place, *, timeout: float) -> AbstractContextManager[Snapshot]:
        """See `Staging`."""
        return open_spooled(source, self, timeout=timeout, monitor=self._monitor)

    def stands(self, is_source_s: Callable[[Snapshot], bool]) -> bool:
        """See `Staging`: a draft is always a new file."""
        del is_source_s
        return False

    def prepare(self, snapshot: Snapshot) -> None:
        """See `Staging`."""
        header = self._known(snapshot).header
        try:
            loading.create_file(self._path, header)
        except (sqlite3.Error, OSError) as error:
            raise self.explain(error) from error

    def directory(self) -> str:
        """See `Staging`."""
        return self._directory

    def held(self) -> tuple[int, ...]:
        """See `Staging`."""
        return (self._lock,)

    def path(self) -> str:
        """See `Staging`."""
        return self._path

    def reset(self) -> None:
        """See `Staging`."""
        private.empty(self._directory)
        self._later, self._copied = (), False

    def copy_schema(self, snapshot: Snapshot) -> None:
        """Create tables now, and all else after the load: indexes are built faster so, and no trigger fires."""
        source = self._known(snapshot)
        self.prepare(snapshot)
        with self._building() as connection:
            loading.create_objects(connection, [item for item in source.objects if item.kind == "table"])
        self._later = tuple(item for item in source.objects if item.kind != "table")
        self._copied = True

    def add_versions(self, rows: Mapping[str, tuple[str, ...]]) -> None:
        """See `Staging`."""
        with self._building() as connection:
            loading.add_versions(connection, rows)

    def adopt_schema(self) -> Mapping[str, int]:
        """See `Staging`."""
        with self.open() as built:
            tables = built.catalog.ordinary()
        with self._building() as connection:
            self._later = loading.put_aside(connection, "trigger")
            return loading.clear_rows(connection, tables)

    def load(
        self, snapshot: Snapshot, steps: tuple[CopyStep, ...], monitor: Monitor, total: int, *, whole: bool
    ) -> None:
        """See `Staging`."""
        assert isinstance(snapshot, SQLiteSnapshot)  # noqa: S101 - the method `attach` is planned for these only
        source, catalog = self._known(snapshot), snapshot.catalog.tables
        quote = snapshot.connection.dialect.identifier_preparer.quote_identifier
        extra = loading.copy_versions(quote, catalog) if self._copied else []
        extra += loading.copy_virtual(quote, source, catalog) if whole else []
        loading.Loader(snapshot, self._path, self._place, total).load(steps, extra, monitor)

    def finish(self, snapshot: Snapshot, *, whole: bool) -> None:
        """See `Staging`."""
        with self._building() as connection:
            loading.finish(connection, self._known(snapshot), self._later, whole=whole)

    def count_repeated(self, arrival: Arrival, keys: Sequence[tuple[str, ...]]) -> tuple[int, ...]:
        """See `Staging`."""
        with self.open() as built:
            entry = built.catalog.tables[arrival.table]
        with self._taking_in() as connection:
            return loading.count_repeated(connection, entry, arrival, keys, self._monitor)

    def receive(
        self, arrivals: Sequence[Arrival], counters: Mapping[str, int], monitor: Monitor, total: int
    ) -> None:
        """See `Staging`."""
        with self.open() as built:
            tables = built.catalog.tables
        with self._building() as connection:
            indexes = loading.put_aside(connection, "index")
        with self._taking_in() as connection:
            loading.receive(connection, tables, arrivals, partial(self._gauge, monitor, total), monitor)
        monitor.gauge = None
        monitor.report(Progress("building indexes"))
        with self._building() as connection, self._writing_back():
            loading.continue_after(connection, counters)
            source = loading.of_another_engine()
            loading.finish(connection, source, (*indexes, *self._later), whole=False)

    def _gauge(self, monitor: Monitor, total: int, table: str) -> None:
        def gauge() -> Progress:
            return Progress("copying", table, os.stat(self._path).st_size, total)

        monitor.gauge = gauge
        monitor.report(gauge())

    def open(self, path: str | None = None) -> AbstractContextManager[Snapshot]:
        """See `Staging`."""
        place = Place(self._place.shown, self._place.backend, path or self._path)
        return open_snapshot(place, timeout=0.0, monitor=self._monitor)

    def publish(
        self, receipt: str | None, receipt_path: str | None, *, replace: bool, timeout: float
    ) -> None:
        """Sync, give it its name, sync the directory; then the receipt. See docs/how-it-works.md."""
        left = [name for name in files.SIDECARS if os.path.lexists(self._path + name)]
        if left:
            raise TransferError(
                f"{self._place.shown}: the finished database still has {', '.join(left)} files"
            )
        try:
            sync(self._path)
            if receipt is not None:
                draft_receipt(self._directory, receipt)
            if replace:
                exchange(self._path, self._place, self._met, timeout=timeout, monitor=self._monitor)
            else:
                self._name(receipt_path)
        except OSError as error:
            raise self._unwritten(error) from error
        self._sync_directory()
        if receipt_path is not None:
            publish_receipt(
                self._directory, self._place.shown, self._place.location + RECEIPT_SUFFIX, receipt_path
            )

    def _name(self, receipt_path: str | None) -> None:
        """Another run may have been faster; then the receipt beside the target is that one's."""
        if os.path.lexists(self._place.location):
            raise _appeared(self._place.shown)
        if receipt_path is not None:
            discard_receipt(receipt_path)
        _refuse_sidecars(self._place)
        _link(self._path, self._place.location, self._place.shown)

    def _sync_directory(self) -> None:
        try:
            sync(os.path.dirname(self._place.location))
        except OSError as error:
            raise TransferError(
                f"{self._place.shown}: complete and in its place, but a power failure may take it away again: "
                f"its directory can't be synced: {error.strerror or error}",
                hint="look for a failing device",
            ) from error

    @contextmanager
    def _building(self) -> Iterator[sa.Connection]:
        with loading.building(self._path, self._monitor, self.explain) as connection:
            yield connection

    @contextmanager
    def _taking_in(self) -> Iterator[sa.Connection]:
        """As `_building`, for what asks by itself whether to stop."""
        with loading.building(self._path, None, self.explain) as connection:
            yield connection

    @contextmanager
    def _writing_back(self) -> Iterator[None]:
        """Let the disk begin with what is written, while the rest is built: the publication waits less for it.

        What fails is told once, by whichever sync comes first, so this one has to be heard.
        """
        with ThreadPoolExecutor(max_workers=1) as beside:
            begun = beside.submit(sync, self._path)
            yield
        try:
            begun.result()
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> BaseException:
        if files.is_full(error):
            return self.explain(error)
        return TransferError(
            f"{self._place.shown}: publishing failed: {error.strerror or error}",
            hint="look at the directory of the target: its rights, its file system, its room",
        )

    def explain(self, error: BaseException) -> BaseException:
        """Say in words what went wrong while the draft was built."""
        if files.is_full(error):
            return loading.disk_full(self._path, self._place, self.needed)
        known = files.explain(error, self._place.shown, "building")
        return known if files.is_addition(error) else TransferError(known.message, hint=known.hint)

    def _known(self, snapshot: Snapshot) -> loading.Source:
        """Read what belongs to the source once, while the snapshot lasts; of another engine's nothing is known here."""
        if self._source is None:
            self._source = (
                loading.read_source(snapshot)
                if isinstance(snapshot, SQLiteSnapshot)
                else loading.of_another_engine()
            )
        return self._source


def check_target(place: Place, source: Place, existing: Existing) -> bool:
    """Refuse a target that is the source or can't be made, or one that exists unless `existing` says what to do.

    Clears up after runs that were killed. Tells whether there is a target.
    """
    path = Path(place.location)
    if not path.name or place.location.endswith(os.sep):
        raise TargetError(f"{place.shown}: a directory's name, not a file's", hint="name the file to make")
    if source.backend is place.backend:
        _refuse_source(place, source)
    there = os.path.lexists(path)
    if there:
        if existing == "refuse":
            private.remove_left_over(place)
        _refuse_existing(place, existing)
    else:
        _refuse_sidecars(place)
    parent = path.parent
    refuse_directory(parent, place.shown)
    _refuse_name(path.name, parent, place.shown)
    return there


def check_receipt_path(receipt_path: str, place: Place) -> None:
    """Refuse to put a receipt where something else lies or belongs."""
    own = (os.path.realpath(place.location) + suffix for suffix in ("", *files.SIDECARS))
    if os.path.realpath(receipt_path) in own:
        raise TargetError(
            f"{place.shown}: the receipt can't have a name of the database itself",
            hint="choose --receipt FILE",
        )
    delivery.check_receipt_path(receipt_path, place.shown)


def _refuse_name(name: str, directory: Path, shown: str) -> None:
    longest = os.pathconf(directory, "PC_NAME_MAX")
    if len(os.fsencode(name)) > longest:
        raise TargetError(
            f"{shown}: this name is too long: {longest} bytes are allowed there", hint="choose a shorter one"
        )


@contextmanager
def stage(place: Place, *, monitor: Monitor) -> Iterator[SQLiteStaging]:
    """Give a draft in the private directory; nothing of it stays."""
    with private.hold(place) as (directory, lock):
        staging = SQLiteStaging(place, directory, lock, monitor)
        try:
            yield staging
        except (OSError, sqlite3.Error) as error:
            raise staging.explain(error) from error


@contextmanager
def scratch(source: Place, *, monitor: Monitor) -> Iterator[SQLiteStaging]:
    """Give a draft in a directory for temporary files; nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="panicdb-") as directory:
        place = Place(source.shown, source.backend, os.path.join(os.path.realpath(directory), DATABASE))
        with stage(place, monitor=monitor) as staging:
            yield staging


def _refuse_source(place: Place, source: Place) -> None:
    if files.identity(place.location) is not None and files.identity(place.location) == files.identity(
        source.location
    ):
        raise TargetError(
            f"{place.shown}: source and target are the same file",
            hint="name another target; the source is never written",
        )
    for suffix in files.SIDECARS:
        if os.path.realpath(place.location) == os.path.realpath(source.location) + suffix:
            raise TargetError(
                f"{place.shown}: this name belongs to the source: SQLite would take it for its {suffix} file",
                hint="choose another name",
            )


def _refuse_existing(place: Place, existing: Existing) -> None:
    """Refuse what is no file of its own, what nobody wants to be touched, and what is no database."""
    path = Path(place.location)
    if path.is_symlink():
        raise TargetError(f"{place.shown}: a symbolic link", hint="name the file itself")
    if path.is_dir():
        raise TargetError(f"{place.shown}: a directory", hint="name the file to make in it")
    if existing == "refuse":
        raise TargetError(
            f"{place.shown}: exists already",
            hint="choose another name, or say --merge (rows into it) or --replace (a new one in its place)",
        )
    if not path.is_file():
        raise TargetError(f"{place.shown}: not a regular file", hint="name a file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise TargetError(f"{place.shown}: no permission to write it", hint="ask its owner")
    if not files.may_be_database(place.location):
        raise no_database(place)


def _refuse_sidecars(place: Place) -> None:
    left = [place.shown + suffix for suffix in files.SIDECARS if os.path.lexists(place.location + suffix)]
    if left:
        raise TargetError(
            f"{place.shown}: left-over files would spoil a new database of this name: {', '.join(left)}",
            hint="they belong to a database that is gone: remove them if you do not need them",
        )


def _link(draft: str, target: str, shown: str) -> None:
    """Give the finished file its name, unless the name is taken."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise _appeared(shown) from None
    except OSError as error:
        if error.errno not in (
            errno.EPERM,
            errno.ENOTSUP,
            errno.EOPNOTSUPP,
            errno.EMLINK,
            errno.ENOSYS,
        ):
            raise
        _rename_without_clobber(draft, target, shown)


def _appeared(shown: str) -> TargetError:
    return TargetError(
        f"{shown}: appeared while the copy was made; it was left alone", hint="choose another name"
    )


def _rename_without_clobber(draft: str, target: str, shown: str) -> None:
    """For file systems without hard links: renameat2(2) on Linux, renamex_np(2) on macOS."""
    library = ctypes.CDLL(None, use_errno=True)
    old, new = os.fsencode(draft), os.fsencode(target)
    if sys.platform == "darwin":
        done = library.renamex_np(old, new, _RENAME_EXCL)
    else:
        done = library.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE)
    if done == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        raise _appeared(shown)
    raise OSError(number, os.strerror(number), target)
