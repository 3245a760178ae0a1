"""A read-only snapshot of a SQLite file: one connection, one transaction, one moment."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import SQLCompiler

from panicdb.backends.base import CopyStep, OrderedJoin, Place, Snapshot, Term
from panicdb.backends.conversions import Conversion, Survey
from panicdb.backends.sqlite import files, keys, lines, types
from panicdb.backends.sqlite.catalog import CatalogReader
from panicdb.backends.sqlite.facts import read_facts
from panicdb.backends.sqlite.virtual import read_virtual_tables
from panicdb.errors import PanicDBError, SourceError
from panicdb.values import Catalog, CatalogTable, ColumnType, Facts, Monitor

OPCODES_BETWEEN_POLLS = 1_000
"""Some 300 rows where whole tables are copied: within the second that Ctrl-C may take though each holds a megabyte,
and too seldom to be felt where rows are narrow (about 1 %)."""
CACHE_KIB = 16_384
"""Per attached file. Rows are read in the order they lie, so a larger cache would only cost memory."""
LOCK_RETRY_SECONDS = 0.01
"""A writer that hardly pauses leaves gaps of milliseconds: seldom asked, a reader would starve."""
COMPLAINTS_SHOWN = 100
COMPLAINTS_READ = 2**31 - 1
"""All of them: what is read past is only what SQLite complains of without reason."""

_NUMERIC = frozenset({"INTEGER", "REAL", "NUMERIC"})


@compiles(OrderedJoin, "sqlite")
def _cross_join(element: OrderedJoin, compiler: SQLCompiler, **options: Any) -> str:
    """SQLite never reorders the sides of a CROSS JOIN (https://www.sqlite.org/optoverview.html#crossjoin)."""
    sides = {**options, "asfrom": True}
    left = compiler.process(element.left, **sides)
    right = compiler.process(element.right, **sides)
    assert element.onclause is not None  # noqa: S101 - narrows the type: every ordered join has one
    on = compiler.process(element.onclause, **options)
    return f"{left} CROSS JOIN {right} ON {on}"


class SQLiteSnapshot(Snapshot):
    """See `Snapshot`. Errors of the driver are translated as they leave SQLAlchemy."""

    method: ClassVar[str] = "attach"
    schema = "main"

    def __init__(self, place: Place, raw: sqlite3.Connection, monitor: Monitor, timeout: float) -> None:
        self.place = place
        self.raw = raw
        self._blamed: Callable[[BaseException], BaseException | None] = lambda _error: None
        self._interrupt = watch(raw, monitor.tick)
        self.connection = wrap(raw, lambda error: self._explain(error, "reading"))
        self._pin(monitor, timeout)
        self._reader = CatalogReader(self.connection)
        self.catalog: Catalog = self._reader.read()

    def blame(self, explain: Callable[[BaseException], BaseException | None]) -> None:
        """Let `explain` speak first from now on: what fails may be the target's fault."""
        self._blamed = explain

    def _explain(self, error: BaseException, doing: str) -> BaseException:
        if files.error_name(error) == "SQLITE_INTERRUPT":
            return self._interrupt() or KeyboardInterrupt()
        blamed = self._blamed(error)
        if blamed is not None:
            return blamed
        return files.explain(error, self.place.shown, doing)

    def _pin(self, monitor: Monitor, timeout: float) -> None:
        """Begin the one read transaction; any of these statements may be the first to meet a lock."""
        deadline = time.monotonic() + timeout
        for statement in (
            "PRAGMA temp.journal_mode = OFF",
            f"PRAGMA main.cache_size = -{CACHE_KIB}",
            f"PRAGMA temp.cache_size = -{CACHE_KIB}",
            "BEGIN",
            "SELECT count(*) FROM main.sqlite_master",
        ):
            self._execute_patiently(statement, monitor, deadline)

    def _execute_patiently(self, statement: str, monitor: Monitor, deadline: float) -> None:
        """Wait for locks until the deadline; the waiting stays interruptible."""
        while True:
            try:
                self.connection.exec_driver_sql(statement).close()
            except SourceError as error:
                busy = files.error_name(error.__cause__ or error).startswith("SQLITE_BUSY")
                if not busy or time.monotonic() >= deadline:
                    raise
                monitor.poll()
                time.sleep(LOCK_RETRY_SECONDS)
            else:
                return

    def match(self, parent: sa.ColumnElement[Any], child: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """The parent's collation and affinity decide (https://www.sqlite.org/foreignkeys.html, section 3).

        The parent stands on the left, so its collation counts; a unary plus takes the child's affinity away. It also
        keeps SQLite from an automatic index over a child of another collation, which finds too little under RTRIM
        (seen in 3.40.1).
        """
        alike = _affinity_class(parent) == _affinity_class(child) and _collation(parent) == _collation(child)
        return parent == (child if alike else self.exact(child))

    def match_exactly(
        self, parent: sa.ColumnElement[Any], child: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool] | None:
        """See `Snapshot`: numbers are equal whatever they are stored as, all else by type and by every byte."""
        if _collation(parent) == "BINARY" and _affinity_class(parent) == _affinity_class(child):
            return None
        kinds = [sa.func.typeof(each) for each in (parent, child)]
        numbers = [kind.in_(["integer", "real"]) for kind in kinds]
        same_kind = sa.or_(kinds[0] == kinds[1], sa.and_(*numbers))
        return sa.and_(same_kind, sa.collate(self.exact(parent), "BINARY") == self.exact(child))

    def folds(self, column: sa.ColumnElement[Any]) -> bool:
        """See `Snapshot`: by its collation."""
        return _collation(column) != "BINARY"

    def can_look_up(
        self,
        table: CatalogTable,
        columns: tuple[str, ...],
        other: CatalogTable,
        other_columns: tuple[str, ...],
    ) -> bool:
        """An index serves only a comparison under its own collation and without a conversion of its column."""
        pairs = zip(columns, other_columns, strict=True)
        for ours, theirs in pairs:
            mine, its = table.table.c[ours].info, other.table.c[theirs].info
            if mine["collation"] != its["collation"]:
                return False
            if _affinity_class(table.table.c[ours]) != _affinity_class(other.table.c[theirs]):
                return False
        physical = set(columns) <= {*table.identity} and bool(table.table.c[columns[0]].system)
        return physical or any(index[0] in columns for index in table.indexes)

    def column_type(self, entry: CatalogTable, column: str) -> ColumnType:
        """See `Snapshot`."""
        info = entry.table.c[column].info
        return types.column_type(info["declared"], info["affinity"])

    def create_keys(self, name: str, entry: CatalogTable) -> sa.Table:
        """See `Snapshot`: rowid tables get a key table that is sorted by rowid."""
        return keys.create(self.connection, name, entry)

    def drop_keys(self, table: sa.Table) -> None:
        """See `Snapshot`."""
        table.drop(self.connection)

    def add_keys(self, table: sa.Table, chosen: sa.Select[Any] | Sequence[Mapping[str, Any]]) -> int:
        """See `Snapshot`."""
        statement = sa.insert(table).prefix_with("OR IGNORE")
        if isinstance(chosen, sa.Select):
            names = [column.name for column in table.c]
            return int(self.connection.execute(statement.from_select(names, chosen)).rowcount)
        return int(self.connection.execute(statement, list(chosen)).rowcount)

    def indexed(self, entry: CatalogTable, columns: tuple[str, ...]) -> sa.FromClause:
        """See `Snapshot`: where there is no index, SQLite makes one for the query."""
        del columns
        return entry.table

    def recursive(self, seeds: sa.Select[Any], terms: Sequence[Term]) -> sa.CTE:
        """See `Snapshot`: SQLite takes as many terms as there are (https://www.sqlite.org/lang_with.html)."""
        reached = seeds.cte("reached", recursive=True)
        return reached.union(*(term(reached) for term in terms))

    def exact(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """A unary plus takes affinity away (https://www.sqlite.org/datatype3.html, section 4.2)."""
        plus: sa.ColumnElement[Any] = sa.sql.elements.UnaryExpression(
            column, operator=operators.custom_op("+"), type_=column.type
        )
        return plus

    def as_text(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """See `Snapshot`: SQLite takes what it is given."""
        return column

    def alike(self, column: sa.ColumnElement[Any]) -> tuple[sa.ColumnElement[Any], ...]:
        """See `Snapshot`."""
        return sa.func.typeof(column), sa.collate(column, "BINARY")

    def stored_bytes(self, table: sa.FromClause, columns: tuple[str, ...]) -> sa.ColumnElement[int]:
        """Blobs are measured by their header alone; text counts in bytes, not in characters."""
        sizes = [_stored_size(table.c[name]) for name in columns]
        # SQLite bounds the depth of an expression, and a table may have 2,000 columns.
        parts = [sizes[start : start + 50] for start in range(0, len(sizes), 50)]
        return sum((sa.func.abs(sum(part, sa.literal(0))) for part in parts), sa.literal(0))

    def parse_key(self, entry: CatalogTable, column: str, text: str) -> tuple[Any, ...]:
        """See `Snapshot`."""
        return keys.parse(entry.table.c[column], text)

    def is_text(self, entry: CatalogTable, column: str) -> bool:
        """See `Snapshot`."""
        return str(entry.table.c[column].info["affinity"]) == "TEXT"

    def facts(self) -> Facts:
        """See `Snapshot`."""
        return read_facts(self.connection, self.schema)

    def values(self, statement: sa.Select[Any]) -> Iterator[tuple[Any, ...]]:
        """See `Snapshot`: straight from the driver, which makes no more of a row than a tuple."""
        compiled = statement.compile(
            dialect=self.connection.dialect, compile_kwargs={"render_postcompile": True}
        )
        parameters = [compiled.params[name] for name in compiled.positiontup or ()]
        try:
            yield from self.raw.execute(str(compiled), parameters)
        except sqlite3.Error as error:
            raise self._explain(error, "reading") from error

    def survey(
        self, step: CopyStep, conversions: Mapping[str, Conversion], required: frozenset[str]
    ) -> Survey:
        """See `Snapshot`: in one pass over the rows."""
        try:
            return lines.survey(self.connection, self.raw, step, conversions, required)
        except sqlite3.Error as error:
            raise self._explain(error, "reading") from error

    def lines(
        self,
        step: CopyStep,
        columns: Sequence[str],
        conversions: Mapping[str, Conversion],
        plain: frozenset[str],
    ) -> Iterator[bytes | memoryview]:
        """See `Snapshot`: converted where they leave."""
        try:
            yield from lines.read_lines(self.connection, self.raw, step, columns, conversions, plain)
        except sqlite3.Error as error:
            raise self._explain(error, "reading") from error

    def counters(self) -> Mapping[str, int]:
        """See `Snapshot`: of AUTOINCREMENT tables."""
        return self.sequences()

    def colliding_counters(self) -> tuple[str, ...]:
        """See `Snapshot`: SQLite looks at the rows, too, before it gives a number."""
        return ()

    def sequences(self) -> Mapping[str, int]:
        """Return `sqlite_sequence` for the tables that there are, and that count."""
        if not self._has("sqlite_sequence"):
            return {}
        rows = self.connection.exec_driver_sql(
            # Whatever the application put there, SQLite itself reads it as an integer.
            f"SELECT name, max(coalesce(CAST(seq AS INTEGER), 0)) FROM {self.schema}.sqlite_sequence "
            # What an application wrote there of a table without a counter means nothing to SQLite.
            f"WHERE name IN (SELECT name FROM {self.schema}.sqlite_master WHERE sql LIKE '%autoincrement%') "
            "GROUP BY name"
        )
        return {name: int(value) for name, value in rows if name in self.catalog.tables}

    def counts_on(self, counter: str, stands: int, wanted: int) -> bool:
        """See `Snapshot`: counters number rows by their rowid, and stand at the last one."""
        entry = self.catalog.tables[counter]
        highest = self.connection.scalar(sa.select(sa.func.max(entry.table.c[entry.identity[0]])))
        return int(highest or 0) <= stands <= wanted

    def check_portable(self) -> None:
        """Refuse virtual tables whose content can't be rebuilt."""
        read_virtual_tables(self.connection, self.place.shown)

    def damage(self) -> tuple[str, ...]:
        """Run `PRAGMA integrity_check`.

        Its "NULL value in T.C" is asked again in SQL: for WITHOUT ROWID tables with a NOT NULL column before the key,
        SQLite looks into the wrong place (seen in 3.40.1), once for each row.
        """
        unfounded = {f"NULL value in {name}" for name in self._columns_without_nulls()}
        found = self.connection.exec_driver_sql(f"PRAGMA {self.schema}.integrity_check({COMPLAINTS_READ})")
        texts = (str(row[0]) for row in found)
        real = (text for text in texts if text != "ok" and text not in unfounded)
        return tuple(islice(real, COMPLAINTS_SHOWN))

    def _columns_without_nulls(self) -> Iterator[str]:
        for entry in self.catalog.ordinary():
            has_rowid = any(column.system for column in entry.table.c)
            for column in () if has_rowid else entry.table.c:
                if column.info["nullable"]:
                    continue
                holds_null = (
                    sa.select(sa.literal(1)).select_from(entry.table).where(column.is_(None)).limit(1)
                )
                if self.connection.execute(holds_null).first() is None:
                    yield f"{entry.name}.{column.name}"

    def excludes_writers(self) -> bool:
        """See `Snapshot`: without a write-ahead log a reader's lock keeps every commit waiting."""
        return self._reader.pragma("journal_mode") != [("wal",)]

    def notes(self) -> tuple[str, ...]:
        """Say what reading does to writers."""
        if not self.excludes_writers():
            return ()
        waiting = "the source is in rollback-journal mode: its writers wait while it is read"
        return (f"{waiting}; with --spool only while it is copied aside",)

    def left_behind(self) -> tuple[str, ...]:
        """See `Snapshot`: nothing; what can't be copied is refused."""
        return ()

    def can_be_opened_again(self) -> bool:
        """See `Snapshot`: a file is opened by its name."""
        return True

    def size(self) -> int:
        """Return pages in use, in bytes."""
        pages, free, page_size = (
            int(self._reader.pragma(name)[0][0]) for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page_size

    def setting(self, name: str) -> Any:
        """Return a PRAGMA of the main file."""
        return self._reader.pragma(name)[0][0]

    def _has(self, name: str) -> bool:
        found = self.connection.exec_driver_sql(
            f"SELECT count(*) FROM {self.schema}.sqlite_master WHERE name = ?", (name,)
        )
        return bool(found.scalar_one())


class AttachedSnapshot(SQLiteSnapshot):
    """A database attached to the connection of another snapshot, in the transaction of that."""

    schema = "target"

    def __init__(self, place: Place, other: SQLiteSnapshot) -> None:
        self.place = place
        self.raw = other.raw
        self.connection = other.connection
        self._reader = CatalogReader(self.connection, self.schema)
        self.catalog = self._reader.read()


def wrap(raw: sqlite3.Connection, explain: Callable[[BaseException], BaseException]) -> sa.Connection:
    """Give a driver's connection to SQLAlchemy; every error it raises comes out as `explain` says."""
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: raw,
        poolclass=StaticPool,
        pool_reset_on_return=None,  # transactions are begun and ended by name, and whoever opened `raw` closes it
        hide_parameters=True,
    )

    @sa.event.listens_for(engine, "handle_error")
    def translate(context: sa.ExceptionContext) -> None:
        original = context.original_exception
        if isinstance(original, sqlite3.Error | sqlite3.Warning):
            raise explain(original) from original

    return engine.connect()


@contextmanager
def unwrapping(connection: sa.Connection) -> Iterator[None]:
    """Let SQLAlchemy forget what `wrap` gave it: a connection that is only closed below it is kept for ever."""
    try:
        yield
    finally:
        with suppress(sqlite3.Error, sa.exc.SQLAlchemyError, PanicDBError):
            connection.close()
        connection.engine.dispose()


def watch(raw: sqlite3.Connection, poll: Callable[[], None]) -> Callable[[], BaseException | None]:
    """Ask `poll` from inside long statements; return what tells why a statement was interrupted.

    An exception raised inside SQLite's progress handler is lost, so it is kept here and raised by the caller.
    """
    caught: list[BaseException] = []

    def ask() -> int:
        try:
            poll()
        except BaseException as error:  # noqa: BLE001 - kept, and raised again once SQLite has returned
            caught.append(error)
            return 1
        return 0

    raw.set_progress_handler(ask, OPCODES_BETWEEN_POLLS)
    return lambda: caught[0] if caught else None


@contextmanager
def open_snapshot(place: Place, *, timeout: float, monitor: Monitor) -> Iterator[SQLiteSnapshot]:
    """Open a file for reading only; it is never created, and nothing of it is ever written."""
    check_readable(place)
    try:
        raw = files.connect(place.location, "ro")
    except sqlite3.Error as error:
        raise files.explain(error, place.shown, "opening") from error
    with closing(raw):
        snapshot = SQLiteSnapshot(place, raw, monitor, timeout)
        with unwrapping(snapshot.connection):
            yield snapshot


def check_readable(place: Place) -> None:
    """Refuse what is no readable file, with the reason. Opens nothing."""
    path = Path(place.location)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise SourceError(f"{place.shown}: no such file", hint="check the path") from None
    except OSError as error:
        raise SourceError(f"{place.shown}: {error.strerror}", hint="check the path") from error
    if stat.S_ISDIR(mode):
        raise SourceError(f"{place.shown}: a directory, not a database file", hint="name the file in it")
    if not stat.S_ISREG(mode):
        raise SourceError(f"{place.shown}: not a regular file", hint="copy what it gives into a file first")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{place.shown}: no permission to read it", hint="ask its owner")


def _stored_size(value: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    text = sa.func.length(sa.cast(value, sa.BLOB))
    size = sa.case((sa.func.typeof(value) == "text", text), else_=sa.func.length(value))
    return sa.func.coalesce(size, 0) + 1


def _collation(column: sa.ColumnElement[Any]) -> str:
    (original,) = column.base_columns
    return str(original.info["collation"])


def _affinity_class(column: sa.ColumnElement[Any]) -> str:
    """Numbers of all kinds compare without conversion among each other. An alias's column is its table's."""
    (original,) = column.base_columns
    name = str(original.info["affinity"])
    return "NUMERIC" if name in _NUMERIC else name
