"""Loading a PostgreSQL target: COPY out of the snapshot, piped through, COPY into one transaction."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa
from psycopg.copy import LibpqWriter
from psycopg.waiting import Wait

from panicdb.backends.base import CopyStep, rows_of, value_of
from panicdb.backends.conversions import Arrival
from panicdb.backends.postgresql import faults
from panicdb.backends.postgresql.catalog import OnlyTable, Relation
from panicdb.backends.postgresql.names import quote, spelled
from panicdb.backends.postgresql.rows import copy_out, spell
from panicdb.backends.postgresql.sessions import Session
from panicdb.backends.postgresql.snapshot import PostgreSQLSnapshot
from panicdb.errors import PanicDBError, TransferError
from panicdb.values import CatalogTable, Monitor, Progress

if TYPE_CHECKING:
    from psycopg.abc import Buffer

MOST = 1 << 17
"""Bytes that libpq is given at once: psycopg's own writer never gives it more."""

_BINARY = frozenset(
    """
    bool bytea char date float4 float8 int2 int4 int8 interval json jsonb name numeric oid text time timestamp
    timestamptz timetz uuid varchar bpchar bit varbit inet cidr macaddr macaddr8 xid8 pg_lsn
    """.split()  # noqa: SIM905
)
"""Types of the server whose binary form holds all that their text holds (tests/test_postgresql_values.py)."""


@dataclass(frozen=True)
class Copying:
    """How one table's rows travel: what the source is asked, and what the target is told."""

    table: str
    out: str
    into: str


_COMPARED = "panicdb_compared"


class _Writer(LibpqWriter):
    """Hands blocks to libpq, and waits only while the server takes no more; nothing else is kept of them."""

    def write(self, data: "Buffer") -> None:
        """See `LibpqWriter`."""
        for start in range(0, len(data), MOST):
            while not self._pgconn.put_copy_data(data[start : start + MOST]):
                self.connection.wait(_departure(self._pgconn))
            if self._pgconn.flush():
                self.connection.wait(_departure(self._pgconn))


def _departure(pgconn: "psycopg.pq.abc.PGconn") -> Generator[Any, Any, None]:
    """Wait until libpq has sent what it was given. It also reads meanwhile, so that a server that talks is no knot."""
    while pgconn.flush():
        yield Wait.RW


class Loader:
    """Copies rows of a snapshot into the open transaction of a target's session."""

    def __init__(
        self, snapshot: PostgreSQLSnapshot, target: Session, explain: Callable[[BaseException], PanicDBError]
    ) -> None:
        self._snapshot = snapshot
        self._target = target
        self._explain = explain
        self._dialect = snapshot.connection.dialect
        self._done = 0
        self._kinds = {each.shown: each for each in snapshot.relations}
        self._same_version = (
            snapshot.session.info.server_version // 10_000 == target.info.server_version // 10_000
        )

    def load(self, steps: Sequence[CopyStep], monitor: Monitor, total: int) -> None:
        """Copy every step. Raises TransferError and its kin."""
        for step in steps:
            monitor.gauge = partial(self._progress, step.entry.name, total)
            monitor.report(monitor.gauge())
            self._copy(step, monitor)
        monitor.gauge = None

    def _progress(self, table: str, total: int) -> Progress:
        return Progress("copying", table, self._done, total)

    def _copy(self, step: CopyStep, monitor: Monitor) -> None:
        if not step.entry.stored:
            self._insert_empty(step)
            return
        copying = self._plan(step)
        try:
            with self._target.cursor() as cursor, cursor.copy(copying.into, writer=_Writer(cursor)) as into:
                for block in self._blocks(copying):
                    into.write(block)
                    self._done += len(block)
                    monitor.tick()
        except psycopg.Error as error:
            raise self._refused(error, copying.table) from error

    def _plan(self, step: CopyStep) -> Copying:
        entry, relation = step.entry, self._kinds[step.entry.name]
        columns = ", ".join(map(quote, entry.stored))
        form = "(FORMAT binary)" if self._same_version and _travels_binary(entry) else "(FORMAT text)"
        table = spelled(entry.table)
        into = f"COPY {table} ({columns}) FROM STDIN {form}"
        if step.keys is None and not step.nulls and _is_plain(relation, entry):
            return Copying(entry.name, f"COPY {table} ({columns}) TO STDOUT {form}", into)
        chosen = sa.select(*(value_of(step, name) for name in entry.stored)).select_from(rows_of(step))
        sql = spell(self._snapshot.session, self._dialect, chosen)
        return Copying(entry.name, f"COPY ({sql}) TO STDOUT {form}", into)

    def _blocks(self, copying: Copying) -> Generator[bytes | memoryview, None, None]:
        """Read what the source gives, in blocks; a row is never looked at. Errors come out as the source's."""
        try:
            yield from copy_out(self._snapshot.session, copying.out)
        except psycopg.Error as error:
            raise self._snapshot.explain(error) from error

    def _insert_empty(self, step: CopyStep) -> None:
        """Rows without a value of their own can only be counted."""
        table = spelled(step.entry.table)
        count = self._snapshot.connection.scalar(sa.select(sa.func.count()).select_from(rows_of(step)))
        try:
            self._target.execute(
                f"INSERT INTO {table} SELECT FROM pg_catalog.generate_series(1, {int(count or 0)})"
            )
        except psycopg.Error as error:
            raise self._refused(error, step.entry.name) from error

    def _refused(self, error: psycopg.Error, table: str) -> PanicDBError:
        return refused_row(error, table) or self._explain(error)


def refused_row(error: psycopg.Error, table: str) -> PanicDBError | None:
    """Say that the target's schema refused a row, if that is what happened."""
    if (error.sqlstate or "")[:2] not in ("22", "23"):
        return None
    return TransferError(
        f"{table}: the target's schema refused a row of the source: {faults.said(error)}",
        hint="the source holds rows that its own schema forbids, or --link ...=null made one",
    )


def receive(
    target: Session,
    table: sa.Table,
    arrival: Arrival,
    monitor: Monitor,
    refused: Callable[[psycopg.Error, str], PanicDBError],
) -> Iterator[int]:
    """Copy the rows of another engine into the open transaction of a session; give the bytes of each block."""
    try:
        for size in _copy_in(target, spelled(table), arrival):
            monitor.tick()
            yield size
    except psycopg.Error as error:
        raise refused(error, arrival.table) from error


def count_repeated(
    target: Session, table: sa.Table, arrival: Arrival, keys: Sequence[tuple[str, ...]], monitor: Monitor
) -> tuple[int, ...]:
    """See `Staging`; psycopg's errors. The table has the types and collations of the one that the rows are for."""
    columns = ", ".join(map(quote, arrival.columns))
    target.execute("BEGIN")
    target.execute(
        f"CREATE TEMPORARY TABLE {_COMPARED} AS SELECT {columns} FROM {spelled(table)} WITH NO DATA"
    )
    for _ in _copy_in(target, f"pg_temp.{_COMPARED}", arrival):
        monitor.tick()
    counts = []
    for key in keys:
        names = list(map(quote, key))
        row = target.execute(
            f"SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM pg_temp.{_COMPARED} "
            f"WHERE {' AND '.join(f'{name} IS NOT NULL' for name in names)} "
            f"GROUP BY {', '.join(names)} HAVING count(*) > 1) AS same"
        ).fetchone()
        counts.append(int(row[0]) if row else 0)
    target.execute("ROLLBACK")
    return tuple(counts)


def _copy_in(target: Session, into: str, arrival: Arrival) -> Iterator[int]:
    columns = ", ".join(map(quote, arrival.columns))
    statement = f"COPY {into} ({columns}) FROM STDIN (FORMAT text)"
    with target.cursor() as cursor, cursor.copy(statement, writer=_Writer(cursor)) as copying:
        for block in arrival.lines:
            copying.write(block)
            yield len(block)


def _travels_binary(entry: CatalogTable) -> bool:
    return all(entry.table.c[name].info["builtin"] in _BINARY for name in entry.stored)


def _is_plain(relation: Relation, entry: CatalogTable) -> bool:
    return relation.kind == "r" and not isinstance(entry.table, OnlyTable)
