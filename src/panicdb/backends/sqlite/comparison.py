"""Two files side by side: SQLite itself tells whether a table of one holds exactly the rows of the other.

No row passes through Python, but zeros in floating point do. The digest is what decides; this says the same sooner
(tests/test_comparison.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from threading import Event, Lock, Thread
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import Comparison, Part
from panicdb.backends.sqlite import files
from panicdb.backends.sqlite.snapshot import AttachedSnapshot, SQLiteSnapshot, open_snapshot
from panicdb.errors import PanicDBError, SourceError, TransferError
from panicdb.values import CatalogTable, Monitor

CACHE_KIB = 2_000
"""Pages are read once each: what stays in the processor's own cache is copied and compared faster."""
CUT_FROM_ROWS = 10_000
"""Tables with fewer rows take no time."""
PIECES = 4
"""Of a table: two connections seldom meet rows of one size."""
COLUMNS_TOGETHER = 50
"""SQLite bounds the depth of an expression to 1,000, and a table may have 2,000 columns."""
BITS = "panicdb_bits"
"""The bytes of a floating-point number: SQLite itself has nothing that tells -0.0 from 0.0."""


class SQLiteComparison(Comparison):
    """See `Comparison`. The other file is attached to the snapshot's connection, for reading only."""

    def __init__(self, snapshot: SQLiteSnapshot, other: AttachedSnapshot) -> None:
        self._snapshot = snapshot
        self._other = other

    def held(self, parts: Sequence[Part]) -> frozenset[str]:
        """See `Comparison`. A second connection helps where it sees the same moment of both files for sure."""
        helped = self._snapshot.excludes_writers() and self._other.excludes_writers()
        waiting = _Waiting(self._pieces(parts) if helped else [_Piece(part) for part in parts])
        unlike = list[str]()
        with self._helped(waiting) if helped else nullcontext(list[str]()) as unlike_for_the_other:
            self.compare(waiting, unlike)
        return frozenset(part.entry.name for part in parts) - {*unlike, *unlike_for_the_other}

    def compare(self, waiting: "_Waiting", unlike: list[str], *, whole: bool = False) -> None:
        """Compare what nobody has taken yet, and add the tables that are not the same to `unlike`."""
        while piece := waiting.take(whole=whole):
            unlike.append(piece.part.entry.name)  # so it is where an error ends this
            if self.holds(piece):
                unlike.pop()
            else:
                waiting.forget(piece.part)

    def _pieces(self, parts: Sequence[Part]) -> list["_Piece"]:
        """Cut large tables by their rowid, so that two connections end at the same time; the largest come first."""
        sizes = {part.entry.name: self._count(part.entry.table) for part in parts}
        largest_first = sorted(parts, key=lambda part: -sizes[part.entry.name])
        return [
            _Piece(part, among)
            for part in largest_first
            for among in self._ranges(part, sizes[part.entry.name])
        ]

    def _ranges(self, part: Part, size: int) -> list[sa.ColumnElement[bool] | None]:
        aliases = (column for column in part.entry.table.c if column.info.get("rowid"))
        rowid = _hidden_rowid(part.entry)
        rowid = next(aliases, None) if rowid is None else rowid
        if rowid is None or not part.whole or size < CUT_FROM_ROWS:
            return [None]
        first, last = self._ends(rowid)
        cuts = [first + (last - first) * number // PIECES for number in range(1, PIECES)]
        between = [sa.and_(rowid > low, rowid <= high) for low, high in pairwise(cuts)]
        return [rowid <= cuts[0], *between, rowid > cuts[-1]]

    @contextmanager
    def _helped(self, waiting: "_Waiting") -> Iterator[list[str]]:
        """Let a second connection take pieces of whole tables, too; a table it fails at is left to the digest."""
        unlike, stopped = list[str](), Event()
        helper = Thread(target=self._help, args=(waiting, unlike, stopped))
        helper.start()
        try:
            yield unlike
        except BaseException:
            stopped.set()
            raise
        finally:
            helper.join()

    def _help(self, waiting: "_Waiting", unlike: list[str], stopped: Event) -> None:
        with suppress(PanicDBError), _second(self._snapshot, self._other, stopped) as comparison:
            comparison.compare(waiting, unlike, whole=True)

    def holds(self, piece: "_Piece") -> bool:
        """Tell of one piece. Each row is looked up by its rowid, or by a unique key; one that is NULL finds nothing."""
        part = piece.part
        there = self._other.catalog.tables.get(part.entry.name)
        if there is None or sorted(there.stored) != list(part.columns):
            return False
        try:
            if self._count(part.statement.subquery()) != self._count(there.table):
                return False
            return self._are_same_by_rowid(piece, there) or self._are_same_by_key(piece, there)
        except (SourceError, TransferError):
            return False  # damage, such as it is: what reads the rows will tell

    def _are_same_by_rowid(self, piece: "_Piece", there: CatalogTable) -> bool:
        """No column need show the rowid. Copies keep it mostly, and it is found sooner than any key."""
        here, other = _hidden_rowid(piece.part.entry), _hidden_rowid(there)
        if here is None or other is None or not piece.part.whole or self._ends(here) != self._ends(other):
            return False
        # From the table itself: of as many columns as SQLite allows, one more would be too many.
        ours, others = piece.part.entry.table, there.table.alias("b")
        rows = [ours.c[name] for name in piece.part.columns]
        missing = self._unmatched(piece.part, rows, others, [others.c[other.name] == here])
        among = sa.true() if piece.among is None else piece.among
        return self._are_empty(sa.select(sa.literal(1)).select_from(ours).where(among, missing))

    def _ends(self, rowid: sa.ColumnElement[Any]) -> tuple[Any, ...]:
        return tuple(
            self._snapshot.connection.execute(sa.select(sa.func.min(rowid), sa.func.max(rowid))).one()
        )

    def _are_same_by_key(self, piece: "_Piece", there: CatalogTable) -> bool:
        part = piece.part
        key = self._key(part.entry, there)
        if key is None:
            return self._are_empty(part.statement, sa.select(there.table))
        ours, others = piece.statement().subquery("a"), there.table.alias("b")
        rows = [ours.c[f"c{number}"] for number in range(len(part.columns))]
        found = [others.c[name] == rows[part.columns.index(name)] for name in key]
        missing = self._unmatched(part, rows, others, found)
        return self._are_empty(sa.select(sa.literal(1)).select_from(ours).where(missing))

    def _key(self, entry: CatalogTable, there: CatalogTable) -> tuple[str, ...] | None:
        """Choose a key that is unique on our side, and finds rows by an index on the other; rather one without NULL."""
        stored = [key for key in entry.unique_keys if set(key) <= {*entry.stored}]
        for key in sorted(stored, key=lambda key: _may_be_null(entry, key)):
            if key in there.unique_keys and self._other.can_look_up(there, key, entry, key):
                return key
        return None

    def _are_empty(self, *statements: sa.Select[Any]) -> bool:
        execute = self._snapshot.connection.execute
        return all(execute(each.limit(1)).first() is None for each in statements)

    def _unmatched(
        self,
        part: Part,
        rows: Sequence[sa.ColumnElement[Any]],
        others: sa.FromClause,
        found: Sequence[sa.ColumnElement[bool]],
    ) -> sa.ColumnElement[bool]:
        """Say that a row of ours has none like it. All of ours are found apart, and there are as many: that is all."""
        same = [self._identical(row, others.c[name]) for row, name in zip(rows, part.columns, strict=True)]
        return ~sa.exists(sa.select(sa.literal(1)).select_from(others).where(*found, *_together(same)))

    def _count(self, rows: sa.FromClause) -> int:
        return int(self._snapshot.connection.scalar(sa.select(sa.func.count()).select_from(rows)) or 0)

    def _identical(
        self, ours: sa.ColumnElement[Any], theirs: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool]:
        """The same value of the same type, whatever collation and affinity say.

        Only an integer and a floating-point number are equal without being the same, and the two zeros of the latter.
        The type is asked of the bare column: then SQLite reads the header of the row, and not a large value again.
        """
        exact = self._snapshot.exact
        kind = sa.func.typeof(ours)
        bits = [getattr(sa.func, BITS)(value) for value in (ours, theirs)]
        return sa.and_(
            exact(ours).op("IS", is_comparison=True)(sa.collate(exact(theirs), "BINARY")),
            kind == sa.func.typeof(theirs),
            sa.or_(kind != "real", exact(ours) != 0, bits[0] == bits[1]),
        )


@dataclass(frozen=True)
class _Piece:
    """Some rows of a part, or all of it."""

    part: Part
    among: sa.ColumnElement[bool] | None = None

    def statement(self) -> sa.Select[Any]:
        return self.part.statement if self.among is None else self.part.statement.where(self.among)


class _Waiting:
    """Pieces that nobody has taken yet."""

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self._pieces = list(pieces)
        self._lock = Lock()

    def take(self, *, whole: bool = False) -> _Piece | None:
        with self._lock:
            fitting = (piece for piece in self._pieces if piece.part.whole or not whole)
            piece = next(fitting, None)
            if piece is not None:
                self._pieces.remove(piece)
            return piece

    def forget(self, part: Part) -> None:
        """One piece told of the whole."""
        with self._lock:
            self._pieces = [piece for piece in self._pieces if piece.part is not part]


@contextmanager
def _second(snapshot: SQLiteSnapshot, other: AttachedSnapshot, stopped: Event) -> Iterator[SQLiteComparison]:
    def poll() -> None:
        if stopped.is_set():
            raise TransferError("the other connection has ended")

    with open_snapshot(snapshot.place, timeout=0, monitor=Monitor(poll=poll)) as twin:
        comparison = compare(twin, other)
        if comparison is None:
            raise TransferError("the other file can't be attached a second time")
        yield comparison


def compare(snapshot: SQLiteSnapshot, other: SQLiteSnapshot) -> SQLiteComparison | None:
    """Attach the other file, for reading only, as long as the snapshot lasts; None where SQLite can't."""
    try:
        for schema in ("main", "temp"):
            snapshot.connection.exec_driver_sql(f"PRAGMA {schema}.cache_size = -{CACHE_KIB}")
        uri = files.open_uri(other.place.location, "ro")
        snapshot.connection.exec_driver_sql("ATTACH DATABASE ? AS target", (uri,))
        snapshot.connection.exec_driver_sql(f"PRAGMA target.cache_size = -{CACHE_KIB}")
        snapshot.raw.create_function(BITS, 1, Struct(">d").pack, deterministic=True)
        return SQLiteComparison(snapshot, AttachedSnapshot(other.place, snapshot))
    except (SourceError, TransferError):
        return None  # another encoding, a schema that names `main`, a lock


def _together(conditions: Sequence[sa.ColumnElement[bool]]) -> Iterator[sa.ColumnElement[bool]]:
    """Ask for all of them, with less depth."""
    for start in range(0, len(conditions), COLUMNS_TOGETHER):
        group = conditions[start : start + COLUMNS_TOGETHER]
        yield sa.case((sa.and_(*group), sa.literal(1))).is_not(None)


def _hidden_rowid(entry: CatalogTable) -> sa.Column[Any] | None:
    return next((column for column in entry.table.c if column.system), None)


def _may_be_null(entry: CatalogTable, key: tuple[str, ...]) -> bool:
    return not all(entry.table.c[name].info["never_null"] for name in key)
