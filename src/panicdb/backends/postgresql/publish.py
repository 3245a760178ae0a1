"""Where a PostgreSQL target is built, and the one step that makes it visible.

A database that does not exist is built as a draft beside it and renamed. One that was given, empty, gets its schema
first, and then all rows in one transaction that ends with the checks. Either way the rows, the keys and indexes that
were put aside, and the sequences come in one transaction, which the checks look into before it is committed.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NoReturn

import psycopg
import sqlalchemy as sa

from panicdb.backends import delivery
from panicdb.backends.base import CopyStep, Place, Snapshot, Staging
from panicdb.backends.conversions import Arrival
from panicdb.backends.postgresql import (
    commits,
    databases,
    emptiness,
    faults,
    load,
    privileges,
    sequences,
    sessions,
    targets,
    views,
)
from panicdb.backends.postgresql.addresses import Address, read_address
from panicdb.backends.postgresql.databases import Locale
from panicdb.backends.postgresql.definitions import Definitions, dump_definitions
from panicdb.backends.postgresql.emptiness import Inventory
from panicdb.backends.postgresql.names import quoted, spelled
from panicdb.backends.postgresql.privileges import Wanted
from panicdb.backends.postgresql.relay import SOCKET, relaying
from panicdb.backends.postgresql.sessions import Session
from panicdb.backends.postgresql.snapshot import PostgreSQLSnapshot
from panicdb.backends.postgresql.structure import Structure
from panicdb.errors import PanicDBError, TargetError, TransferError, UsageError
from panicdb.values import Kind, Monitor, Progress

MEMORY_FOR_INDEXES = "128MB"
LOCK_SECONDS = 30.0
"""A draft is nobody else's: whoever holds a lock there is a migration that is just ending."""


@dataclass(frozen=True)
class _Source:
    """What making a target needs to know of its source, beside the rows."""

    wanted: Wanted
    locale: Locale
    standings: Mapping[str, sequences.Standing]
    populated: tuple[str, ...]
    """Materialized views that hold rows."""


def _read_source(snapshot: PostgreSQLSnapshot) -> _Source:
    with sessions.translated(snapshot.explain):
        return _Source(
            privileges.read_wanted(snapshot.session),
            databases.read_locale(snapshot.session),
            snapshot.standings(),
            views.list_filled(snapshot.session),
        )


class PostgreSQLStaging(Staging):
    """A draft database, or an empty one that was given; and a private directory for the guarded child."""

    engine: ClassVar[str] = "postgresql"
    keeps_steps: ClassVar[bool] = False
    fills: ClassVar[bool] = True

    def __init__(
        self, place: Place, draft: Address, directory: str, monitor: Monitor, common: Session | None
    ) -> None:
        self._place = place
        self._draft = draft
        self._directory = directory
        self._monitor = monitor
        self._common = common
        """A session in which the draft is made and dropped; None if the database was given."""
        self._relay = ExitStack()
        self._kept: Inventory | None = None
        self._later: tuple[str, ...] = ()
        self._definitions: Definitions | None = None
        self._source: _Source | None = None
        self._writer: Session | None = None
        self._connection: sa.Connection | None = None
        self._built = False

    def explain(self, error: BaseException) -> PanicDBError:
        """Say in words what went wrong while the target was made."""
        known = faults.explain(error, self._place.shown, "building", writing=True)
        return TransferError(known.message, hint=known.hint) if self._built else known

    def spool(self, source: Place, *, timeout: float) -> AbstractContextManager[Snapshot]:
        """See `Staging`: there is no need for it."""
        del timeout
        raise UsageError(
            f"{source.shown}: nobody has to wait for a reader of this database, so there is nothing to spool",
            hint="leave --spool out",
        )

    def stands(self, is_source_s: Callable[[Snapshot], bool]) -> bool:
        """See `Staging`: a database may have been given with its schema, and no rows."""
        if self._common is not None:
            return False
        with self._session() as session:
            if emptiness.is_marked(session):
                targets.refuse_rows(
                    session, self._place
                )  # whoever put them there may have taken it for theirs
                self._clear(session, None)
            if not emptiness.list_objects(session):
                return False
        with self.open() as there:
            if is_source_s(there):
                return True
        raise TargetError(
            f"{self._place.shown}: exists and has a schema that is not the source's",
            hint="`panicdb verify` shows the differences; name a new database, or an empty one",
        )

    def prepare(self, snapshot: Snapshot) -> None:
        """See `Staging`: a new database has the source's locale, one that was given keeps its own."""
        source = self._known(snapshot)
        if self._common is not None:
            privileges.require_server(source.wanted, self._common, self._place.shown)
            databases.create(self._common, self._draft.database, source.locale, self._place.shown)
        else:
            with self._session() as session:
                privileges.require_given(source.wanted, session, self._place.shown)
                self._kept = emptiness.take_inventory(session)
                emptiness.mark(session)
        self._built = True
        with self._in_words():
            self._relay.enter_context(relaying(self.path(), self._draft.parameters))

    def _known(self, snapshot: Snapshot) -> _Source:
        """Read what belongs to the source once, while the snapshot lasts; of another engine's nothing is known here."""
        if self._source is None:
            self._source = (
                _read_source(snapshot)
                if isinstance(snapshot, PostgreSQLSnapshot)
                else _Source(Wanted((), (), (), ()), self._locale_here(), {}, ())
            )
        return self._source

    def _locale_here(self) -> Locale:
        """Read how the server's own databases sort text."""
        if self._common is not None:
            return databases.read_locale(self._common)
        with self._session() as session:
            return databases.read_locale(session)

    def directory(self) -> str:
        """See `Staging`."""
        return self._directory

    def held(self) -> tuple[int, ...]:
        """See `Staging`: the child has no connection but through this process."""
        return ()

    def path(self) -> str:
        """See `Staging`: of the socket that leads to the draft."""
        return os.path.join(self._directory, SOCKET)

    def database(self) -> str:
        """See `Staging`."""
        return self._draft.database

    def reset(self) -> None:
        """See `Staging`."""
        self._close_writer()
        self._relay.close()
        if self._built:
            with self._in_words():
                self._undo()
        self._later, self._definitions, self._built = (), None, False

    def _undo(self) -> None:
        if self._common is not None:
            # That session slept for long; if it was lost meanwhile, another one does as well.
            with (
                databases.common_session(self._draft)
                if self._common.closed
                else nullcontext(self._common) as session
            ):
                databases.drop(session, self._draft.database)
            return
        with self._session() as session:
            self._clear(session, self._kept)

    @staticmethod
    def _clear(session: Session, kept: Inventory | None) -> None:
        emptiness.empty(session, kept)
        emptiness.unmark(session)

    def copy_schema(self, snapshot: Snapshot) -> None:
        """See `Staging`: by pg_dump; keys, indexes and triggers wait until the rows are there."""
        source = _own(snapshot)
        version = source.session.info.server_version // 10_000
        definitions = dump_definitions(source.address, version, self._monitor, source.lock_seconds)
        self.prepare(snapshot)
        with self._in_words(), self._session() as session:
            session.execute(definitions.before_in(emptiness.take_inventory(session).every))
        self._definitions = definitions

    def add_versions(self, rows: Mapping[str, tuple[str, ...]]) -> None:
        """See `Staging`."""
        with self.open() as built, self._in_words(), self._session() as session:
            for table, revisions in rows.items():
                name = spelled(built.catalog.tables[table].table)
                for revision in revisions:
                    session.execute(f"INSERT INTO {name} VALUES (%s)", (revision,))

    def adopt_schema(self) -> Mapping[str, int]:
        """See `Staging`: emptied, whatever the migrations left in it."""
        with self.open() as built, self._in_words(), self._session() as session:
            counts = {
                entry.name: int(
                    built.connection.scalar(sa.select(sa.func.count()).select_from(entry.table)) or 0
                )
                for entry in built.catalog.ordinary()
            }
            filled = [spelled(built.catalog.tables[name].table) for name, count in counts.items() if count]
        if filled:
            if not self._built:  # no migration of ours was there
                raise targets.holding_rows(self._place, filled)
            with self._in_words(), self._session() as session:
                session.execute(f"TRUNCATE {', '.join(filled)} CASCADE")
        return {name: count for name, count in counts.items() if count}

    def load(
        self, snapshot: Snapshot, steps: tuple[CopyStep, ...], monitor: Monitor, total: int, *, whole: bool
    ) -> None:
        """See `Staging`: the transaction stays open, for what follows and for the checks."""
        del whole
        source = _own(snapshot)
        self._known(source)
        self._relay.close()
        writer = self._open_writer()
        with self._in_words():
            writer.execute("BEGIN")
            writer.execute(f"SET LOCAL maintenance_work_mem = '{MEMORY_FOR_INDEXES}'")
            self._claim(writer)
            if self._definitions is None:
                self._put_aside(writer, frozenset(step.entry.name for step in steps))
        versions = [
            CopyStep(entry, None, entry.table.alias("t"), {})
            for entry in snapshot.catalog.tables.values()
            if entry.kind is Kind.VERSION and self._definitions is not None
        ]
        load.Loader(source, writer, self.explain).load([*versions, *steps], monitor, total)
        with suppress(psycopg.Error):
            source.session.execute("ROLLBACK")  # nobody's vacuum has to wait for what is read no more

    def count_repeated(self, arrival: Arrival, keys: Sequence[tuple[str, ...]]) -> tuple[int, ...]:
        """See `Staging`."""
        with self.open() as built, self._in_words(), self._session() as session:
            table = built.catalog.tables[arrival.table].table
            return load.count_repeated(session, table, arrival, keys, self._monitor)

    def receive(
        self, arrivals: Sequence[Arrival], counters: Mapping[str, int], monitor: Monitor, total: int
    ) -> None:
        """See `Staging`: the transaction stays open for the checks."""
        self._relay.close()
        writer = self._open_writer()
        with self._in_words():
            writer.execute("BEGIN")
            writer.execute(f"SET LOCAL maintenance_work_mem = '{MEMORY_FOR_INDEXES}'")
            self._claim(writer)
            self._put_aside(writer, frozenset(arrival.table for arrival in arrivals))
            tables = self._look_into(writer).catalog.tables
        done = 0
        for arrival in arrivals:
            monitor.report(Progress("copying", arrival.table, done, total))
            table = tables[arrival.table].table
            for size in load.receive(writer, table, arrival, monitor, self._refused):
                done += size
                monitor.gauge = partial(Progress, "copying", arrival.table, done, total)
        monitor.gauge = None
        monitor.report(Progress("building indexes"))
        with self._in_words(adding=True):
            populated = views.list_filled(writer)
            self._restore(writer, populated)
            sequences.continue_after(self._look_into(writer).connection, counters)
            if self._common is None:
                emptiness.unmark(writer)

    def _refused(self, error: psycopg.Error, table: str) -> PanicDBError:
        return load.refused_row(error, table) or self.explain(error)

    def _claim(self, writer: Session) -> None:
        """Let nobody else write into a database that was given, from now to the end; and look again whether one did."""
        there = self._look_into(writer)
        names = [quoted(each.schema, each.name) for each in there.relations if each.kind != "f"]
        if names:
            writer.execute(f"LOCK TABLE ONLY {', ONLY '.join(names)} IN SHARE ROW EXCLUSIVE MODE")
        targets.refuse_rows(writer, self._place)

    def _put_aside(self, writer: Session, filled: frozenset[str]) -> None:
        there = self._look_into(writer)
        aside = Structure(there.connection, there.relations, filled).read()
        for statement in aside.drop:
            writer.execute(statement)
        self._later = aside.restore

    def finish(self, snapshot: Snapshot, *, whole: bool) -> None:
        """See `Staging`."""
        del whole
        writer, source = self._require_writer(), self._known(snapshot)
        with self._in_words(adding=True):
            self._restore(writer, source.populated)
            sequences.set_standings(self._look_into(writer).connection, source.standings)
            if self._common is None:
                emptiness.unmark(writer)

    def _restore(self, writer: Session, populated: Sequence[str]) -> None:
        """Bring back what had to wait for the rows."""
        writer.execute("SET CONSTRAINTS ALL IMMEDIATE")
        if self._definitions is not None:
            writer.execute(self._definitions.after)
        for statement in self._later:
            writer.execute(statement)
        views.refresh(writer, populated)

    @contextmanager
    def _in_words(self, *, adding: bool = False) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            if adding and (error.sqlstate or "").startswith("23"):
                raise TransferError(
                    f"{self._place.shown}: the target's schema refused rows of the source: {faults.said(error)}",
                    hint="the source holds rows that its own schema forbids",
                ) from error
            raise self.explain(error) from error

    def open(self, path: str | None = None) -> AbstractContextManager[Snapshot]:
        """See `Staging`: inside the transaction of the load, if there is one."""
        assert path is None  # noqa: S101 - no copies are made of it
        return nullcontext(self._look_into(self._writer)) if self._writer is not None else self._look()

    @contextmanager
    def _look(self) -> Iterator[PostgreSQLSnapshot]:
        with self._session() as session:
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            snapshot = PostgreSQLSnapshot(self._place, session)
            with sessions.unwrapping(snapshot.connection):
                snapshot.look()
                yield snapshot

    def _look_into(self, writer: Session) -> PostgreSQLSnapshot:
        """The session goes on, so SQLAlchemy keeps it."""
        snapshot = PostgreSQLSnapshot(self._place, writer, self._connection)
        snapshot.look()
        return snapshot

    def publish(
        self, receipt: str | None, receipt_path: str | None, *, replace: bool, timeout: float
    ) -> None:
        """See `Staging`: commit, and rename what is not called as its target yet; then the receipt."""
        del replace, timeout
        if receipt is not None:
            delivery.draft_receipt(self._directory, receipt)
        writer = self._require_writer()
        commits.commit(writer, self._draft, self._place.shown)
        self._close_writer()
        if self._common is not None:
            databases.rename(
                self._draft,
                self._draft.database,
                read_address(self._place.location).database,
                self._place.shown,
            )
        self._built = False
        if receipt_path is not None:
            delivery.publish_receipt(self._directory, self._place.shown, None, receipt_path)

    def abandon(self) -> None:
        """Take away what was built and not published; what can't be taken away now, the next run finds.

        Nobody is asked any more whether to go on: whoever ended the run wants this to come to its end.
        """
        self._monitor = Monitor()
        if self._common is not None:
            self._common.monitor = None
        with suppress(PanicDBError, psycopg.Error):
            self.reset()
        self._relay.close()

    def _session(self) -> AbstractContextManager[Session]:
        return sessions.opened(self._draft, monitor=self._monitor, lock_seconds=LOCK_SECONDS, writing=True)

    def _open_writer(self) -> Session:
        try:
            self._writer = sessions.connect(self._draft, monitor=self._monitor, lock_seconds=LOCK_SECONDS)
        except psycopg.Error as error:
            raise faults.unreachable(error, self._draft, writing=True) from error
        # Before a transaction begins: SQLAlchemy ends one when it gets to know a server.
        self._connection = sessions.wrap(self._writer, self.explain)
        return self._writer

    def _require_writer(self) -> Session:
        if self._writer is None:
            _out_of_order()
        return self._writer

    def _close_writer(self) -> None:
        if self._connection is not None:
            with sessions.unwrapping(self._connection):
                self._connection = None
        if self._writer is not None:
            sessions.close(self._writer)
            self._writer = None


def _out_of_order() -> NoReturn:
    raise AssertionError("a target is finished and published after it was loaded")


def _own(snapshot: Snapshot) -> PostgreSQLSnapshot:
    assert isinstance(snapshot, PostgreSQLSnapshot)  # noqa: S101 - the method `copy` is planned for these only
    return snapshot


@contextmanager
def stage(place: Place, *, monitor: Monitor) -> Iterator[PostgreSQLStaging]:
    """Give a draft, or the empty database that was given; what is not published is taken away again.

    Raises TargetError while another run makes the same target.
    """
    address = read_address(place.location)
    with faults.explained(place.shown, "making the target", writing=True), ExitStack() as stack:
        given = databases.is_there(address)
        if given:
            holder = stack.enter_context(sessions.opened(address, monitor=monitor, writing=True))
        else:
            holder = stack.enter_context(databases.common_session(address, monitor))
        targets.lock(holder, address.database, place.shown)
        draft = address if given else address.to(databases.draft_name(address.database))
        if given:
            targets.refuse_rows(holder, place)  # looked at before, but not under the lock
        if not given:
            databases.remove_left_over(holder, address.database)
            databases.try_lock(holder, draft.database)
        staging = PostgreSQLStaging(
            place, draft, stack.enter_context(private_directory()), monitor, None if given else holder
        )
        stack.callback(staging.abandon)
        yield staging


@contextmanager
def scratch(source: Place, *, monitor: Monitor) -> Iterator[PostgreSQLStaging]:
    """Give a draft on the source's server that is never published. Raises TargetError where none can be made."""
    address = read_address(source.location)
    with faults.explained(source.shown, "making a draft", writing=True), ExitStack() as stack:
        common = stack.enter_context(databases.common_session(address, monitor))
        databases.remove_left_over(common, address.database)
        draft = address.to(databases.draft_name(address.database))
        databases.try_lock(common, draft.database)
        directory = stack.enter_context(private_directory())
        staging = PostgreSQLStaging(source, draft, directory, monitor, common)
        stack.callback(staging.abandon)
        yield staging


@contextmanager
def private_directory() -> Iterator[str]:
    """Make a directory for this process alone; with a short path, since it holds a socket."""
    directory = tempfile.mkdtemp(prefix="panicdb-", dir="/tmp" if os.path.isdir("/tmp") else None)  # noqa: S108 - private
    try:
        yield os.path.realpath(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
