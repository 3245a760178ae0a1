"""Building a SQLite target in its private file: schema, rows, then what the load had put aside."""

import os
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import CopyStep, Place, rows_of, value_of
from panicdb.backends.conversions import Arrival
from panicdb.backends.sqlite import files
from panicdb.backends.sqlite.lines import parse_lines
from panicdb.backends.sqlite.snapshot import SQLiteSnapshot, unwrapping, watch, wrap
from panicdb.backends.sqlite.virtual import VirtualTable, Way, read_virtual_tables
from panicdb.errors import RefusedError, TransferError
from panicdb.values import CatalogTable, Kind, Monitor, Progress

EXPLAIN = "explain"
"""What a connection's `info` holds: it says in words what went wrong below SQLAlchemy."""
ROWS_AT_ONCE, BYTES_AT_ONCE, BATCHES_AHEAD = 1_000, 1 << 20, 2
"""What one statement inserts, and how many of them may wait."""
TARGET_CACHE_KIB = 49_152
"""Room for the inner pages of the target's B-trees; more would only cost memory, much less makes inserts thrash."""
INDEX_CACHE_KIB = 16_384
"""SQLite sorts an index in runs of this size and merges them from temporary files."""

_HEADER = ("page_size", "encoding", "auto_vacuum", "user_version", "application_id")


@dataclass(frozen=True)
class SchemaObject:
    """One row of sqlite_master that has a text."""

    kind: str
    name: str
    sql: str


@dataclass(frozen=True)
class Source:
    """What finishing a target needs to know of its source, read before the snapshot ends."""

    header: Mapping[str, Any]
    objects: tuple[SchemaObject, ...]
    virtual: tuple[VirtualTable, ...]
    sequences: Mapping[str, int] | None
    """None: they are set already."""
    statistics: tuple[tuple[Any, ...], ...] | None


def read_source(snapshot: SQLiteSnapshot) -> Source:
    """Read what is beside the rows; reads only."""
    connection = snapshot.connection
    shadows = {row[1] for row in connection.exec_driver_sql("PRAGMA main.table_list") if row[2] == "shadow"}
    rows = connection.exec_driver_sql(
        "SELECT type, name, sql, tbl_name FROM main.sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    )
    objects = tuple(
        SchemaObject(kind, name, sql)
        for kind, name, sql, table in rows
        if not name.startswith("sqlite_") and table not in shadows
    )
    names = {item.name for item in _all_tables(connection)}
    return Source(
        header={name: snapshot.setting(name) for name in _HEADER},
        objects=objects,
        virtual=read_virtual_tables(connection, snapshot.place.shown),
        sequences=snapshot.sequences(),
        statistics=_statistics(connection) if "sqlite_stat1" in names else None,
    )


def of_another_engine() -> Source:
    """Return what a source of another engine has beside its rows: nothing, so SQLite's own defaults hold."""
    header = {
        "page_size": 4096,
        "encoding": "UTF-8",
        "auto_vacuum": 0,
        "user_version": 0,
        "application_id": 0,
    }
    return Source(header, (), (), None, None)


def _all_tables(connection: sa.Connection) -> list[SchemaObject]:
    rows = connection.exec_driver_sql("SELECT type, name, sql FROM main.sqlite_master WHERE type = 'table'")
    return [SchemaObject(*row) for row in rows]


def _statistics(connection: sa.Connection) -> tuple[tuple[Any, ...], ...]:
    rows = connection.exec_driver_sql("SELECT tbl, idx, stat FROM main.sqlite_stat1 ORDER BY rowid")
    return tuple(tuple(row) for row in rows)


def create_file(path: str, header: Mapping[str, Any]) -> None:
    """Create an empty database whose physical settings are fixed for good."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    raw = files.connect(path, "rw")
    try:
        for name in _HEADER:
            raw.execute(f"PRAGMA {name} = '{header[name]}'")
        # The encoding is written with the first table, and stays when that is gone.
        raw.execute("CREATE TABLE first (a)")
        raw.execute("DROP TABLE first")
    finally:
        raw.close()


@contextmanager
def building(
    path: str, monitor: Monitor | None, explain: Callable[[BaseException], BaseException]
) -> Iterator[sa.Connection]:
    """Open the private file for writing, without a journal: it is thrown away if anything fails.

    Without a monitor, whoever uses the connection has to ask whether to stop.
    """
    with closing(files.connect(path, "rw")) as raw:
        interrupted = watch(raw, monitor.tick) if monitor is not None else lambda: None

        def translate(error: BaseException) -> BaseException:
            if files.error_name(error) == "SQLITE_INTERRUPT":
                return interrupted() or KeyboardInterrupt()
            return explain(error)

        connection = wrap(raw, translate)
        with unwrapping(connection):
            for pragma in (
                "journal_mode = OFF",
                "synchronous = OFF",
                f"cache_size = -{TARGET_CACHE_KIB}",
            ):
                connection.exec_driver_sql(f"PRAGMA main.{pragma}")
            connection.info[EXPLAIN] = translate
            yield connection


def create_objects(connection: sa.Connection, objects: Sequence[SchemaObject]) -> None:
    """Execute the objects' own definitions, in their order."""
    for item in objects:
        connection.exec_driver_sql(item.sql)


def put_aside(connection: sa.Connection, kind: str) -> tuple[SchemaObject, ...]:
    """Drop the triggers of a migrated schema, so that none fires, or its indexes; return them for later.

    Indexes that belong to a key stay: they have no definition of their own.
    """
    rows = connection.exec_driver_sql(
        "SELECT type, name, sql FROM main.sqlite_master WHERE type = ? AND sql IS NOT NULL ORDER BY rowid",
        (kind,),
    )
    objects = tuple(SchemaObject(*row) for row in rows)
    quote = connection.dialect.identifier_preparer.quote_identifier
    for each in objects:
        connection.exec_driver_sql(f"DROP {each.kind} main.{quote(each.name)}")
    return objects


def add_versions(connection: sa.Connection, rows: Mapping[str, tuple[str, ...]]) -> None:
    """Insert version rows that no upgrade leaves."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    for table, revisions in rows.items():
        insert = f"INSERT INTO main.{quote(table)} VALUES (?)"
        connection.exec_driver_sql(insert, [(revision,) for revision in revisions])


def clear_rows(connection: sa.Connection, tables: Sequence[CatalogTable]) -> Mapping[str, int]:
    """Delete the rows that migrations inserted; return how many, per table."""
    cleared = {}
    for entry in tables:
        count = connection.execute(sa.delete(entry.table)).rowcount
        if count:
            cleared[entry.name] = int(count)
    return cleared


class Loader:
    """Copies rows into the attached target, within the snapshot's transaction."""

    def __init__(self, snapshot: SQLiteSnapshot, path: str, place: Place, total: int) -> None:
        self._snapshot = snapshot
        self._connection = snapshot.connection
        self._path = path
        self._place = place
        self._total = total
        self._quote = self._connection.dialect.identifier_preparer.quote_identifier

    def load(self, steps: Sequence[CopyStep], extra: Sequence[str], monitor: Monitor) -> None:
        """Attach, copy every step and the statements `extra`, commit: this ends the snapshot."""
        self._snapshot.blame(self._explain)
        self._connection.exec_driver_sql("ATTACH DATABASE ? AS target", (files.open_uri(self._path, "rw"),))
        self._connection.exec_driver_sql("PRAGMA target.journal_mode = OFF")
        self._connection.exec_driver_sql(f"PRAGMA target.cache_size = -{TARGET_CACHE_KIB}")
        for step in steps:
            monitor.gauge = self._gauge(step.entry.name)
            monitor.report(monitor.gauge())
            self._copy(step)
        for statement in extra:
            self._connection.exec_driver_sql(statement)
        self._connection.exec_driver_sql("COMMIT")
        self._connection.exec_driver_sql("DETACH DATABASE target")
        self._connection.exec_driver_sql("PRAGMA shrink_memory")
        monitor.gauge = None

    def _gauge(self, table: str) -> Callable[[], Progress]:
        """Inside one INSERT ... SELECT every counter stands still; the growing file tells."""
        return lambda: Progress("copying", table, os.stat(self._path).st_size, self._total)

    def _copy(self, step: CopyStep) -> None:
        entry = step.entry
        if step.keys is None and not step.nulls and _same_layout(entry):
            # SQLite copies the pages' cells, indexes included, when nothing but `*` stands on both sides
            # (https://www.sqlite.org/src/file/src/insert.c, the transfer optimisation).
            name = self._quote(entry.name)
            self._connection.exec_driver_sql(f"INSERT INTO target.{name} SELECT * FROM main.{name}")
            return
        names = (*_rowid_to_keep(entry), *entry.stored)
        row = step.source
        values = [value_of(step, name) for name in names]
        statement = sa.select(*values).select_from(rows_of(step))
        if step.keys is None and entry.identity:
            statement = statement.order_by(*(row.c[name] for name in entry.identity))
        target = entry.table.to_metadata(sa.MetaData(), schema="target")
        self._connection.execute(sa.insert(target).from_select(list(names), statement))

    def _explain(self, error: BaseException) -> BaseException:
        if files.is_full(error):
            return disk_full(self._path, self._place, self._total)
        # The source is only read: what can't be written is the target, or a temporary file beside it.
        writing = files.error_name(error) == "SQLITE_IOERR_WRITE"
        known = files.explain(error, (self._place if writing else self._snapshot.place).shown, "copying")
        if files.error_name(error).startswith("SQLITE_CONSTRAINT"):
            return TransferError(
                f"{self._place.shown}: the target's schema refused a row of the source: {error}",
                hint="the source holds rows that its own schema forbids, or --link ...=null made one",
            )
        return TransferError(known.message, hint=known.hint) if isinstance(known, RefusedError) else known


def disk_full(path: str, place: Place, total: int) -> TransferError:
    """Say how much was needed, and what there is."""
    directory = os.path.dirname(path)
    free = shutil.disk_usage(directory).free
    return TransferError(
        f"{place.shown}: the disk is full: about {total:,} bytes are needed, {free:,} are free there now",
        hint="make room, or choose a target on another disk",
    )


def copy_virtual(
    quote: Callable[[str], str], source: Source, catalog: Mapping[str, CatalogTable]
) -> list[str]:
    """Return the statements that copy virtual tables with content of their own through their modules."""
    statements = []
    for virtual in source.virtual:
        if virtual.way is not Way.ROWS:
            continue
        rowid = [] if virtual.module in ("rtree", "rtree_i32") else ["rowid"]
        columns = ", ".join([*rowid, *map(quote, catalog[virtual.name].stored)])
        name = quote(virtual.name)
        statements.append(f"INSERT INTO target.{name} ({columns}) SELECT {columns} FROM main.{name}")
    return statements


def copy_versions(quote: Callable[[str], str], catalog: Mapping[str, CatalogTable]) -> list[str]:
    """Return the statements that copy version rows verbatim."""
    return [
        f"INSERT INTO target.{quote(entry.name)} SELECT * FROM main.{quote(entry.name)}"
        for entry in catalog.values()
        if entry.kind is Kind.VERSION
    ]


def receive(
    connection: sa.Connection,
    tables: Mapping[str, CatalogTable],
    arrivals: Sequence[Arrival],
    begin: Callable[[str], None],
    monitor: Monitor,
) -> None:
    """Insert the rows of another engine, in one transaction; `begin` is called with each table's name."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    connection.exec_driver_sql("BEGIN")
    for arrival in arrivals:
        begin(arrival.table)
        _take_in(connection, f"main.{quote(tables[arrival.table].name)}", arrival, monitor)
    connection.exec_driver_sql("COMMIT")


def count_repeated(
    connection: sa.Connection,
    entry: CatalogTable,
    arrival: Arrival,
    keys: Sequence[tuple[str, ...]],
    monitor: Monitor,
) -> tuple[int, ...]:
    """See `Staging`. A table made of a query has its affinities, but not its collations."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    columns = ", ".join(map(quote, arrival.columns))
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE compared AS SELECT {columns} FROM main.{quote(entry.name)} WHERE 0"
    )
    _take_in(connection, "temp.compared", arrival, monitor)
    counts = []
    for key in keys:
        there = " AND ".join(f"{quote(name)} IS NOT NULL" for name in key)
        same = ", ".join(
            f"{quote(name)} COLLATE {quote(entry.table.c[name].info['collation'])}" for name in key
        )
        found = connection.exec_driver_sql(
            f"SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM temp.compared WHERE {there} "
            f"GROUP BY {same} HAVING count(*) > 1)"
        )
        counts.append(int(found.scalar_one()))
    connection.exec_driver_sql("DROP TABLE temp.compared")
    return tuple(counts)


def _take_in(connection: sa.Connection, into: str, arrival: Arrival, monitor: Monitor) -> None:
    """Let a thread insert what this one reads: SQLite lets go of Python while it works on a statement.

    That needs statements of many rows, and nothing that asks Python in between: so it is asked here whether to stop.
    FAIL, for what a failed statement would take back is thrown away, and need not be kept aside meanwhile.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - narrows the type: it was made from one
    quote = connection.dialect.identifier_preparer.quote_identifier
    width = len(arrival.columns)
    insert = f"INSERT OR FAIL INTO {into} ({', '.join(map(quote, arrival.columns))}) VALUES "
    most = max(1, min(ROWS_AT_ONCE, raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width))
    try:
        with ThreadPoolExecutor(max_workers=1) as loader:
            pending: deque[Future[None]] = deque()
            for values in _batches(arrival, most * width):
                monitor.tick()
                pending.append(loader.submit(_insert, raw, insert, width, values))
                if len(pending) > BATCHES_AHEAD:
                    pending.popleft().result()
            for each in pending:
                each.result()
    except sqlite3.IntegrityError as error:
        raise TransferError(
            f"{arrival.table}: the target's schema refused a row of the source: {error}",
            hint="the source holds rows that its own schema forbids, or --link ...=null made one",
        ) from error
    except sqlite3.Error as error:
        raise connection.info[EXPLAIN](error) from error


def _batches(arrival: Arrival, size: int) -> Iterator[list[Any]]:
    """Give the values of many rows, but no more than so many values, and few where they are large."""
    values: list[Any] = []
    length = 0
    for block in arrival.lines:
        values += parse_lines(block, arrival.readers)
        length += len(block)
        while len(values) >= size:
            yield values[:size]
            del values[:size]
            length = 0
        if length > BYTES_AT_ONCE:
            yield values
            values, length = [], 0
    if values:
        yield values


def _insert(raw: sqlite3.Connection, insert: str, width: int, values: list[Any]) -> None:
    row = f"({', '.join('?' * width)})"
    raw.execute(insert + ", ".join([row] * (len(values) // width)), values)


def continue_after(connection: sa.Connection, counters: Mapping[str, int]) -> None:
    """Let the counter of each AUTOINCREMENT table go on behind these numbers, and behind those in use."""
    counting = connection.exec_driver_sql(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND sql LIKE '%autoincrement%'"
    )
    for (name,) in counting.fetchall():
        last = counters.get(name)
        if last is None:
            continue
        raised = connection.exec_driver_sql(
            "UPDATE main.sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (last, name)
        )
        if not raised.rowcount:
            connection.exec_driver_sql(
                "INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", (name, last)
            )


def finish(connection: sa.Connection, source: Source, later: Sequence[SchemaObject], *, whole: bool) -> None:
    """Create what had to wait, rebuild, and set counters, statistics and header fields as the source has them."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    create_objects(connection, [item for item in later if item.kind == "index"])
    create_objects(connection, [item for item in later if item.kind == "view"])
    for virtual in source.virtual:
        name = quote(virtual.name)
        for setting in virtual.settings:
            connection.exec_driver_sql(f"INSERT INTO {name} ({name}, rank) VALUES (?, ?)", setting)
        if virtual.way is Way.REBUILD:
            connection.exec_driver_sql(f"INSERT INTO {name} ({name}) VALUES ('rebuild')")
    create_objects(connection, [item for item in later if item.kind == "trigger"])
    if source.sequences is not None:
        _set_sequences(connection, source.sequences)
    if source.statistics is not None:
        _set_statistics(connection, source.statistics, whole=whole)
    for name in ("user_version", "application_id"):
        connection.exec_driver_sql(f"PRAGMA main.{name} = {int(source.header[name])}")
    connection.exec_driver_sql("PRAGMA main.journal_mode = DELETE")


def _set_sequences(connection: sa.Connection, sequences: Mapping[str, int]) -> None:
    if not any(item.name == "sqlite_sequence" for item in _all_tables(connection)):
        return
    connection.exec_driver_sql("DELETE FROM main.sqlite_sequence")
    rows = [(name, value) for name, value in sequences.items()]
    if rows:
        connection.exec_driver_sql("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", rows)


def _set_statistics(connection: sa.Connection, rows: tuple[tuple[Any, ...], ...], *, whole: bool) -> None:
    """The planner's statistics of a whole copy are the source's; those of a subset are taken anew."""
    if not whole:
        connection.exec_driver_sql("ANALYZE main")
        return
    connection.exec_driver_sql("ANALYZE main.sqlite_master")
    connection.exec_driver_sql("DELETE FROM main.sqlite_stat1")
    if rows:
        connection.exec_driver_sql(
            "INSERT INTO main.sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", list(rows)
        )


def _same_layout(entry: CatalogTable) -> bool:
    """`SELECT *` gives the stored columns; it keeps hidden rowids only where a key's index comes with the table."""
    plain = [column.name for column in entry.table.c if not column.system] == list(entry.stored)
    return plain and (not _rowid_to_keep(entry) or bool(entry.primary_key))


def _rowid_to_keep(entry: CatalogTable) -> tuple[str, ...]:
    """The hidden rowid is copied too, unless a column is it: equal order, equal identity, append-only inserts."""
    hidden = [column.name for column in entry.table.c if column.system]
    aliased = any(column.info["rowid"] for column in entry.table.c if not column.system)
    return () if aliased else tuple(hidden)
