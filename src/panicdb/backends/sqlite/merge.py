"""Rows into a SQLite file that exists: one transaction over the source's snapshot and the attached, locked target."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import (
    Conflict,
    CopyStep,
    Merging,
    OrderedJoin,
    Overlap,
    Place,
    Snapshot,
    rows_of,
    value_of,
)
from panicdb.backends.delivery import RECEIPT_SUFFIX, draft_receipt, publish_receipt
from panicdb.backends.sqlite import exchange, files, load, private
from panicdb.backends.sqlite.snapshot import LOCK_RETRY_SECONDS, AttachedSnapshot, SQLiteSnapshot
from panicdb.backends.sqlite.spool import SpooledSnapshot
from panicdb.backends.sqlite.virtual import Way, read_virtual_tables
from panicdb.errors import PanicDBError, RefusedError, TargetError, TransferError
from panicdb.values import Monitor, quote_name

LISTED = 20
"""Conflicts that are shown of one table."""
MOST_COLUMNS = 990
"""SQLite takes 2,000 terms in an aggregate or a grouping: a value and its type of each column."""

_ENCODINGS_DIFFER = "must use the same text encoding"
_MERGE_ELSEWHERE = "export into a new file instead"


@dataclass(frozen=True)
class _Key:
    """A unique key of the target, as its index compares."""

    columns: tuple[str, ...]
    collations: tuple[str, ...]
    never_null: bool


@dataclass(frozen=True)
class _Trigger:
    name: str
    table: str
    sql: str


class SQLiteMerging(Merging):
    """See `Merging`. The source is the connection's main file, which is open for reading only."""

    def __init__(
        self, place: Place, snapshot: SQLiteSnapshot, directory: str, monitor: Monitor, timeout: float
    ) -> None:
        self._place = place
        self._snapshot = snapshot
        self._connection = snapshot.connection
        self._directory = directory
        self._monitor = monitor
        self._timeout = timeout
        self._quote = self._connection.dialect.identifier_preparer.quote_identifier
        self._locked = False
        self._overlaps: dict[str, Overlap] = {}
        self._keys: dict[str, tuple[_Key, ...]] = {}
        self._aside: list[_Trigger] = []
        self._inserted = 0
        self._numbers = count()

    def attach(self, deadline: float, *, writing: bool) -> None:
        """Attach the target, lock it against writers, and only then read what it holds."""
        self._snapshot.blame(self._explain)
        uri = files.open_uri(self._place.location, "rw" if writing else "ro")
        self._patiently("ATTACH DATABASE ? AS target", deadline, (uri,))
        self._patiently(f"PRAGMA target.cache_size = -{load.TARGET_CACHE_KIB}", deadline)
        if writing:
            # What BEGIN IMMEDIATE does for a main file. The table is the source's: nothing of the target is read yet.
            table = self._without_triggers()
            self._patiently(f"DELETE FROM target.{self._quote(table)} WHERE 0", deadline)
            self._locked = True
        self.target = AttachedSnapshot(self._place, self._snapshot)

    def _without_triggers(self) -> str:
        """Name a table whose rows can be deleted without a trigger: SQLite compiles those even for no row."""
        rows = self._connection.exec_driver_sql(
            "SELECT tbl_name FROM main.sqlite_master WHERE type = 'trigger'"
        )
        triggered = {name.casefold() for (name,) in rows}
        names = [entry.name for entry in self._snapshot.catalog.ordinary()]
        return next((name for name in names if name.casefold() not in triggered), names[0])

    def detach(self) -> None:
        """Undo what was not published. Ends the snapshot.

        Not through SQLAlchemy: an interrupt that it saw has closed the connection, and with that undone everything.
        """
        raw = self._snapshot.raw
        with suppress(sqlite3.Error):
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raw.execute("DETACH DATABASE target")

    # Finding out

    def compare(self, step: CopyStep) -> Overlap:
        """See `Merging`."""
        if len(step.entry.stored) > MOST_COLUMNS:
            raise TargetError(
                f"{step.entry.name}: has {len(step.entry.stored)} columns; rows of at most {MOST_COLUMNS} are compared",
                hint=_MERGE_ELSEWHERE,
            )
        keys, there = self._keys_of(step), self._there(step)
        present, conflicts, listed = 0, 0, list[Conflict]()
        for number, key in enumerate(keys):
            rows = OrderedJoin(rows_of(step), there, _matches(key, step, there))
            earlier = [_is_not(_matches(other, step, there)) for other in keys[:number]]
            same = _same_content(step, there)
            equals = sa.func.sum(sa.type_coerce(same, sa.Integer))
            counts = sa.select(sa.func.count(), sa.func.coalesce(equals, 0))
            found, equal = self._connection.execute(counts.select_from(rows).where(*earlier)).one()
            present += int(equal)
            conflicts += int(found) - int(equal)
            if found != equal and len(listed) < LISTED:
                differing = [*earlier, sa.not_(same)]
                listed += self._list(step, there, key, rows, differing)
        unkeyed, extra = self._count_unkeyed(step)
        overlap = Overlap(
            present=present + unkeyed - extra,
            absent=self._count(rows_of(step)) - present - unkeyed + extra,
            conflicts=conflicts,
            listed=tuple(listed[:LISTED]),
        )
        self._overlaps[step.entry.name] = overlap
        return overlap

    def refused(self, step: CopyStep) -> tuple[Conflict, ...]:
        """See `Merging`."""
        keys = self._keys_of(step)
        if not keys:
            return ()
        (key, *_) = keys
        statement = (
            sa.select(*(value_of(step, name) for name in key.columns))
            .select_from(rows_of(step))
            .where(*self._absent(step), sa.not_(_unkeyed(keys, step)))
            .limit(LISTED)
        )
        rows = self._connection.execute(statement).all()
        return tuple(Conflict(step.entry.name, _spelled(key.columns, row), ()) for row in rows)

    def _list(
        self,
        step: CopyStep,
        there: sa.FromClause,
        key: _Key,
        rows: sa.FromClause,
        conditions: Sequence[sa.ColumnElement[bool]],
    ) -> Iterator[Conflict]:
        others = [name for name in step.entry.stored if name not in key.columns]
        differs = [sa.not_(_identical(value_of(step, name), there.c[name])) for name in others]
        values = [value_of(step, name) for name in key.columns]
        statement = sa.select(*values, *differs).select_from(rows).where(*conditions).limit(LISTED)
        for row in self._connection.execute(statement):
            flags = zip(others, row[len(values) :], strict=True)
            columns = tuple(name for name, flag in flags if flag)
            # Keys that are equal only under their collation differ themselves.
            yield Conflict(step.entry.name, _spelled(key.columns, row[: len(values)]), columns or key.columns)

    def _count(self, rows: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> int:
        statement = sa.select(sa.func.count()).select_from(rows).where(*conditions)
        return int(self._connection.scalar(statement) or 0)

    def _count_unkeyed(self, step: CopyStep) -> tuple[int, int]:
        """Count the rows that no unique key tells apart, and those of them that the target has too few of."""
        keys = self._keys_of(step)
        if any(key.never_null for key in keys):
            return 0, 0
        unkeyed = self._count(rows_of(step), _unkeyed(keys, step))
        return unkeyed, self._count(self._surplus(step).subquery()) if unkeyed else 0

    # Inserting

    def insert(self, step: CopyStep) -> int:
        """See `Merging`."""
        overlap = self._overlaps[step.entry.name]
        if not overlap.absent:
            return 0
        self._put_triggers_aside(step.entry.name)
        self._monitor.gauge = None
        inserted = sum(self._insert(step, rows) for rows in self.missing(step))
        self._inserted += inserted
        return inserted

    def _insert(self, step: CopyStep, rows: sa.Select[Any]) -> int:
        """OR IGNORE: rows that a partial index or a constraint refuses are counted, not met as an error half-way."""
        target = self.target.catalog.tables[step.entry.name].table
        names = list(step.entry.stored)
        done = self._connection.execute(
            sa.insert(target).prefix_with("OR IGNORE").from_select(names, rows, include_defaults=False)
        )
        return int(done.rowcount)

    def missing(self, step: CopyStep) -> Iterator[sa.Select[Any]]:
        """See `Merging`. Where it can be, without reading the target: SQLite spills what reads its own goal."""
        overlap, keys = self._overlaps[step.entry.name], self._keys_of(step)
        always = any(key.never_null for key in keys)
        values = [value_of(step, name) for name in step.entry.stored]
        order = [step.source.c[name] for name in step.entry.identity] if step.keys is None else []
        keyed = [] if always or not keys else [sa.not_(_unkeyed(keys, step))]
        if keys and not overlap.present:
            yield sa.select(*values).select_from(rows_of(step)).where(*keyed).order_by(*order)
        elif keys and step.entry.identity:
            yield sa.select(*values).select_from(rows_of(self._narrowed(step, keyed)))
        elif keys:
            yield sa.select(*values).select_from(rows_of(step)).where(*self._absent(step), *keyed)
        if not always:
            yield self._surplus(step)

    def _narrowed(self, step: CopyStep, keyed: Sequence[sa.ColumnElement[bool]]) -> CopyStep:
        """Note down the keys of the absent rows, so that inserting them need not look at the target again."""
        entry = step.entry
        keys = self._snapshot.create_keys(f"absent_{next(self._numbers)}", entry)
        identity = [step.source.c[name] for name in entry.identity]
        rows = (
            sa.select(*identity, sa.literal(1), sa.literal(0))
            .select_from(rows_of(step))
            .where(*self._absent(step), *keyed)
        )
        self._connection.execute(sa.insert(keys).from_select([*keys.c.keys()], rows))
        return CopyStep(entry, keys, step.source, step.nulls)

    def _absent(self, step: CopyStep) -> list[sa.ColumnElement[bool]]:
        """Say that the target has no row of an equal key. One key says it all, if it is never NULL."""
        keys, there = self._keys_of(step), self._there(step)
        telling = [key for key in keys if key.never_null][:1] or keys
        return [
            ~sa.exists(sa.select(sa.literal(1)).select_from(there).where(_matches(key, step, there)))
            for key in telling
        ]

    def _surplus(self, step: CopyStep) -> sa.Select[Any]:
        """Select rows that no key tells apart, as often as the source has more of the same than the target."""
        keys, there = self._keys_of(step), self._there(step)
        names = step.entry.stored
        ours = sa.select(
            sa.literal(1).label("incoming"),
            *(value_of(step, name).label(f"v{number}") for number, name in enumerate(names)),
        )
        theirs = sa.select(
            sa.literal(0).label("incoming"),
            *(there.c[name].label(f"v{number}") for number, name in enumerate(names)),
        )
        both = sa.union_all(
            ours.select_from(rows_of(step)).where(_unkeyed(keys, step)),
            theirs.where(_all_null(keys, there.c.__getitem__)),
        ).subquery("both")
        alike = [part for number in range(len(names)) for part in self._snapshot.alike(both.c[f"v{number}"])]
        counted = sa.select(
            both,
            sa.func.row_number().over(partition_by=[both.c.incoming, *alike]).label("number"),
            sa.func.sum(1 - both.c.incoming).over(partition_by=alike).label("there"),
        ).subquery("counted")
        values = [counted.c[f"v{number}"] for number in range(len(names))]
        return sa.select(*values).where(counted.c.incoming == 1, counted.c.number > counted.c.there)

    # The end

    def finish(self) -> None:
        """See `Merging`. Full-text indexes over other tables' rows are rebuilt if any row came."""
        for trigger in self._aside:
            # The stored text always begins so, whatever the user wrote (https://www.sqlite.org/schematab.html).
            rest = trigger.sql.removeprefix("CREATE TRIGGER ")
            self._connection.exec_driver_sql(f"CREATE TRIGGER target.{rest}")
        if {each.sql for each in self._aside} - {each.sql for each in self._triggers()}:
            raise TransferError(f"{self._place.shown}: its triggers did not come back as they were")
        if self._inserted:
            self._rebuild_indexes()
        self._raise_counters()

    def _rebuild_indexes(self) -> None:
        for virtual in read_virtual_tables(self._connection, self._place.shown):
            if virtual.way is Way.REBUILD:
                name = self._quote(virtual.name)
                self._connection.exec_driver_sql(f"INSERT INTO target.{name} ({name}) VALUES ('rebuild')")

    def _raise_counters(self) -> None:
        stand = self.target.sequences()
        for table, value in self._snapshot.sequences().items():
            if table not in stand:
                statement = "INSERT INTO target.sqlite_sequence (seq, name) VALUES (?, ?)"
            elif stand[table] < value:
                statement = "UPDATE target.sqlite_sequence SET seq = ? WHERE name = ?"
            else:
                continue
            self._connection.exec_driver_sql(statement, (value, table))

    def publish(self, receipt: str | None, receipt_path: str | None) -> None:
        """Commit, then exchange the receipt: until then the old one describes what can be rolled back to."""
        if receipt is not None:
            try:
                draft_receipt(self._directory, receipt)
            except OSError as error:
                raise self._explain(error) from error
        self._commit()
        if receipt_path is not None:
            publish_receipt(
                self._directory, self._place.shown, self._place.location + RECEIPT_SUFFIX, receipt_path
            )

    def _commit(self) -> None:
        """A commit that can't be written through may still be found whole by whoever opens the file next."""
        try:
            self._patiently("COMMIT", time.monotonic() + self._timeout)
        except TransferError as error:
            if not files.error_name(error.__cause__ or error).startswith("SQLITE_IOERR"):
                raise
            raise TransferError(
                f"{error.message}; whether the commit holds is open: the target has its old content, or all of it",
                hint="look for a failing device; then the same command again adds what is missing, if anything is",
            ) from error.__cause__

    # Help

    def _there(self, step: CopyStep) -> sa.FromClause:
        return self.target.catalog.tables[step.entry.name].table.alias("there")

    def _keys_of(self, step: CopyStep) -> tuple[_Key, ...]:
        name = step.entry.name
        if name not in self._keys:
            self._keys[name] = tuple(self._read_keys(name))
        return self._keys[name]

    def _read_keys(self, name: str) -> Iterator[_Key]:
        """Read the keys that a look-up can use; partial indexes and expressions show when they refuse a row."""
        columns = self.target.catalog.tables[name].table.c
        required = {
            column for _id, column, _type, not_null, *_ in self._pragma("table_xinfo", name) if not_null
        }
        for column in columns:
            if column.info.get("rowid"):
                yield _Key((column.name,), ("BINARY",), never_null=True)
        for _number, index, unique, _origin, partial in self._pragma("index_list", name):
            parts = [row for row in self._pragma("index_xinfo", index) if row[5]]
            names = tuple(row[2] for row in parts)
            if unique and not partial and None not in names:
                yield _Key(names, tuple(row[4] for row in parts), never_null=set(names) <= required)

    def _pragma(self, name: str, argument: str) -> list[tuple[Any, ...]]:
        rows = self._connection.exec_driver_sql(f"PRAGMA target.{name}({self._quote(argument)})")
        return [tuple(row) for row in rows]

    def _triggers(self) -> list[_Trigger]:
        rows = self._connection.exec_driver_sql(
            "SELECT name, tbl_name, sql FROM target.sqlite_master WHERE type = 'trigger' ORDER BY rowid"
        )
        return [_Trigger(*row) for row in rows]

    def _put_triggers_aside(self, table: str) -> None:
        for trigger in self._triggers():
            if trigger.table.casefold() == table.casefold():
                self._connection.exec_driver_sql(f"DROP TRIGGER target.{self._quote(trigger.name)}")
                self._aside.append(trigger)

    def _patiently(self, statement: str, deadline: float, values: tuple[Any, ...] = ()) -> None:
        """Wait for locks until the deadline; the waiting stays interruptible."""
        while True:
            try:
                self._connection.exec_driver_sql(statement, values).close()
            except PanicDBError as error:
                busy = files.error_name(error.__cause__ or error).startswith("SQLITE_BUSY")
                if not busy or time.monotonic() >= deadline:
                    raise
                self._monitor.poll()
                time.sleep(LOCK_RETRY_SECONDS)
            else:
                return

    def _explain(self, error: BaseException) -> PanicDBError:
        shown = self._place.shown
        if files.is_full(error):
            size = os.stat(self._place.location).st_size
            return load.disk_full(self._place.location, self._place, size)
        if files.is_no_database(error):
            return exchange.no_database(self._place)
        if _ENCODINGS_DIFFER in str(error):
            return TargetError(
                f"{shown}: its text has another encoding than the source's", hint=_MERGE_ELSEWHERE
            )
        if "no such table" in str(error) and not self._locked:
            return TargetError(f"{shown}: holds other tables than the source", hint=_MERGE_ELSEWHERE)
        known = files.explain(error, shown, "merging")
        if self._locked and isinstance(known, RefusedError):
            return TransferError(known.message, hint=known.hint)
        return known if self._locked else TargetError(known.message, hint=known.hint)


@contextmanager
def join(
    place: Place, snapshot: Snapshot, *, timeout: float, monitor: Monitor, writing: bool
) -> Iterator[SQLiteMerging]:
    """Attach a target that exists to the snapshot's connection; with `writing` it is locked, and so is its name."""
    assert isinstance(snapshot, SQLiteSnapshot)  # noqa: S101 - refused before where the source is of another engine
    with _held(place, snapshot) if writing else nullcontext("") as directory:
        merging = SQLiteMerging(place, snapshot, directory, monitor, timeout)
        try:
            merging.attach(time.monotonic() + timeout, writing=writing)
            yield merging
        except sqlite3.Error as error:
            raise files.explain(error, place.shown, "merging") from error
        finally:
            merging.detach()


@contextmanager
def _held(place: Place, snapshot: SQLiteSnapshot) -> Iterator[str]:
    """A source that was spooled went through the private directory, which is held since then."""
    if isinstance(snapshot, SpooledSnapshot):
        yield private.directory_of(place)
    else:
        with private.hold(place) as (directory, _lock):
            yield directory


def _matches(key: _Key, step: CopyStep, there: sa.FromClause) -> sa.ColumnElement[bool]:
    """Compare as the key's index does; both columns have the same affinity."""
    return sa.and_(
        *(
            sa.collate(there.c[name], collation) == value_of(step, name)
            for name, collation in zip(key.columns, key.collations, strict=True)
        )
    )


def _is_not(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Not true: false, or unknown for a NULL in it."""
    negated: sa.ColumnElement[bool] = sa.func.coalesce(condition, 0) == 0
    return negated


def _unkeyed(keys: Sequence[_Key], step: CopyStep) -> sa.ColumnElement[bool]:
    """Say that every key of a row of the step has a NULL: no key tells it apart from others."""
    return _all_null(keys, lambda name: value_of(step, name))


def _all_null(keys: Sequence[_Key], value: Callable[[str], sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    return sa.and_(sa.true(), *(sa.or_(*(value(name).is_(None) for name in key.columns)) for key in keys))


def _identical(ours: sa.ColumnElement[Any], theirs: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """The same value of the same type: no collation and no conversion makes different ones equal."""
    return sa.and_(
        sa.func.typeof(ours) == sa.func.typeof(theirs), ours.op("IS")(sa.collate(theirs, "BINARY"))
    )


def _same_content(step: CopyStep, there: sa.FromClause) -> sa.ColumnElement[bool]:
    """All columns as two row values: SQLite bounds the depth of an expression, and a table may have 2,000 columns."""
    names = step.entry.stored
    ours = chain.from_iterable(
        (sa.func.typeof(value_of(step, name)), sa.collate(value_of(step, name), "BINARY")) for name in names
    )
    theirs = chain.from_iterable((sa.func.typeof(there.c[name]), there.c[name]) for name in names)
    return sa.tuple_(*ours).op("IS", is_comparison=True, return_type=sa.Boolean())(sa.tuple_(*theirs))


def _spelled(names: Sequence[str], values: Sequence[Any]) -> str:
    pairs = zip(names, values, strict=True)
    return " and ".join(f"{quote_name(name)} = {_literal(value)}" for name, value in pairs)


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, str):
        text = value.replace("'", "''").encode("utf-8", "backslashreplace").decode()
        return f"'{text}'"
    return "NULL" if value is None else str(value)
