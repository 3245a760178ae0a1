"""What every engine gives: a read-only snapshot to select from, and a private place to build a target in."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from panicdb.backends.conversions import Arrival, Conversion, Survey
from panicdb.values import Catalog, CatalogTable, ColumnType, Existing, Facts, Monitor


@dataclass(frozen=True)
class Place:
    """Where a database is: how it is shown (without secrets), and what its backend opens."""

    shown: str
    backend: "Backend"
    location: str = field(repr=False)
    """It may hold a password."""

    def fingerprint(self) -> str:
        """Tell the database from others that are spelled alike, without telling where it is."""
        return self.backend.fingerprint(self)


class OrderedJoin(sa.sql.selectable.Join):
    """A join that the engine makes in the order it is written, where the engine can be told."""

    inherit_cache = True


@compiles(OrderedJoin)
def _plain_join(element: OrderedJoin, compiler: SQLCompiler, **options: Any) -> str:
    return str(compiler.visit_join(element, **options))  # type: ignore[no-untyped-call]


Term = Callable[[sa.FromClause], sa.Select[Any]]
"""One step of a recursive query, from the rows that it is handed."""


class Snapshot(ABC):
    """One moment of one database, opened for reading only.

    `connection` executes SQLAlchemy statements over the tables of `catalog`; temporary key tables are the only thing it
    writes. Errors of the driver arrive as `PanicDBError`.
    """

    method: ClassVar[str]
    """How rows travel from one to the other: `attach`, `copy`."""

    connection: sa.Connection
    catalog: Catalog
    place: Place

    @abstractmethod
    def match(self, parent: sa.ColumnElement[Any], child: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """Compare a parent's key column with a child's column exactly as the engine's foreign keys do."""

    @abstractmethod
    def match_exactly(
        self, parent: sa.ColumnElement[Any], child: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool] | None:
        """Compare them as an engine does that knows no collation and converts nothing; None if `match` does so."""

    @abstractmethod
    def folds(self, column: sa.ColumnElement[Any]) -> bool:
        """Tell whether values may be the same in a column although they differ: under its collation, for example."""

    @abstractmethod
    def can_look_up(
        self,
        table: CatalogTable,
        columns: tuple[str, ...],
        other: CatalogTable,
        other_columns: tuple[str, ...],
    ) -> bool:
        """Tell whether an index finds rows of `table` by `columns` when they are matched with `other_columns`."""

    @abstractmethod
    def column_type(self, entry: CatalogTable, column: str) -> ColumnType:
        """Tell what a column's type means to another engine. Reads the catalog that is there."""

    @abstractmethod
    def create_keys(self, name: str, entry: CatalogTable) -> sa.Table:
        """Create a temporary table of keys: k0, k1, ... (the identity), `owned` and `via`."""

    @abstractmethod
    def drop_keys(self, table: sa.Table) -> None:
        """Drop a table of keys."""

    @abstractmethod
    def add_keys(self, table: sa.Table, chosen: sa.Select[Any] | Sequence[Mapping[str, Any]]) -> int:
        """Insert keys that a table of them lacks, by its columns in their order; return how many came."""

    def naming_as_users_do(self) -> AbstractContextManager[None]:
        """Let names in a condition of the user's mean what they mean to users, as long as this lasts."""
        return nullcontext()

    @abstractmethod
    def indexed(self, entry: CatalogTable, columns: tuple[str, ...]) -> sa.FromClause:
        """Return the rows of a table for a search by `columns` many times over: these and the identity, at least."""

    @abstractmethod
    def recursive(self, seeds: sa.Select[Any], terms: Sequence[Term]) -> sa.CTE:
        """Follow all `terms` from `seeds` to the end: rows of `seeds`, and what the terms make of rows that are there.

        A term gives a SELECT of the columns of `seeds` for the rows of what it is handed.
        """

    @abstractmethod
    def exact(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Strip a column of the collation and conversions that comparing it would bring."""

    @abstractmethod
    def as_text(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """Return a key as text, so that it may be compared with the beginning of one."""

    @abstractmethod
    def alike(self, column: sa.ColumnElement[Any]) -> tuple[sa.ColumnElement[Any], ...]:
        """Return expressions that group values exactly as they are stored: by type and by every byte."""

    @abstractmethod
    def stored_bytes(self, table: sa.FromClause, columns: tuple[str, ...]) -> sa.ColumnElement[int]:
        """Estimate the bytes that the values of one row take."""

    @abstractmethod
    def parse_key(self, entry: CatalogTable, column: str, text: str) -> tuple[Any, ...]:
        """Turn an id as typed into the values it may stand for in `column`, the likeliest first."""

    @abstractmethod
    def is_text(self, entry: CatalogTable, column: str) -> bool:
        """Tell whether `column` is declared to hold text, so that a prefix of an id makes sense."""

    @abstractmethod
    def facts(self) -> Facts:
        """Read every fact of the schema, for comparison."""

    @abstractmethod
    def values(self, statement: sa.Select[Any]) -> Iterator[tuple[Any, ...]]:
        """Read rows as they are stored: None, int, float, str and bytes; odd bytes of text escaped (PEP 383)."""

    @abstractmethod
    def survey(
        self, step: "CopyStep", conversions: Mapping[str, Conversion], required: frozenset[str]
    ) -> Survey:
        """Look at every value of a step that is to travel to another engine. Reads only.

        `required` are the columns in which the target wants no NULL.
        """

    @abstractmethod
    def lines(
        self,
        step: "CopyStep",
        columns: Sequence[str],
        conversions: Mapping[str, Conversion],
        plain: frozenset[str],
    ) -> Iterator[bytes | memoryview]:
        """Read a step's rows, which were surveyed, for another engine: see `Arrival`. Errors come out as the source's.

        `plain` are the columns that hold nothing but plain values. Reads only.
        """

    @abstractmethod
    def counters(self) -> Mapping[str, int]:
        """Read the last number that each table's own counter gave, by table, as any engine understands it."""

    @abstractmethod
    def colliding_counters(self) -> tuple[str, ...]:
        """Name the tables whose counter would give a number that a row has. Reads only."""

    @abstractmethod
    def sequences(self) -> Mapping[str, int]:
        """Read where each counter stands, by table, or by a name of its own."""

    @abstractmethod
    def counts_on(self, counter: str, stands: int, wanted: int) -> bool:
        """Tell whether a counter at `stands` is past every number that a row has, and not past `wanted`."""

    @abstractmethod
    def check_portable(self) -> None:
        """Refuse a source that holds something which no target of ours could hold. Raises SourceError."""

    @abstractmethod
    def damage(self) -> tuple[str, ...]:
        """Let the engine check its own structures; every complaint, or nothing."""

    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """Say what a user should know about reading this source."""

    @abstractmethod
    def left_behind(self) -> tuple[str, ...]:
        """Say which rows of this source no target gets, whatever is chosen. Reads only."""

    @abstractmethod
    def excludes_writers(self) -> bool:
        """Tell whether nobody can write to the database as long as this snapshot lasts."""

    @abstractmethod
    def can_be_opened_again(self) -> bool:
        """Tell whether another process that opens the same place sees the same moment, if nobody writes meanwhile."""

    @abstractmethod
    def size(self) -> int:
        """Return the bytes that the whole database takes."""


@dataclass(frozen=True)
class Part:
    """The rows that a table is to hold: `statement` reads `columns`, in the digest's order, as c0, c1 ..."""

    entry: CatalogTable
    columns: tuple[str, ...]
    statement: sa.Select[Any]
    whole: bool
    """All rows of the table as they are: no temporary table takes part."""


class Comparison(ABC):
    """Two databases of one engine, side by side: a shorter way to what the digest says."""

    @abstractmethod
    def held(self, parts: Sequence[Part]) -> frozenset[str]:
        """Return the tables of which the other side holds exactly these rows. Reads only.

        A table is in it only if digests would be the same; where the engine alone can't tell, it is not.
        """


@dataclass(frozen=True)
class CopyStep:
    """The rows of one table: all of them, or those whose keys are in `keys`, with some links set to NULL.

    `nulls` maps a column to the condition under which its value stays; `source` is the alias its conditions speak of.
    """

    entry: CatalogTable
    keys: sa.Table | None
    source: sa.FromClause
    nulls: Mapping[str, sa.ColumnElement[bool]]


def rows_of(step: CopyStep) -> sa.FromClause:
    """Keys first: they are sorted as the rows lie, in the source as in the target."""
    if step.keys is None:
        return step.source
    same = [step.source.c[name] == step.keys.c[f"k{n}"] for n, name in enumerate(step.entry.identity)]
    return OrderedJoin(step.keys, step.source, sa.and_(*same))


def value_of(step: CopyStep, name: str) -> sa.ColumnElement[Any]:
    """A column of the step's rows; NULL where its link is to become NULL."""
    column, stays = step.source.c[name], step.nulls.get(name)
    return column if stays is None else sa.case((stays, column))


class Staging(ABC):
    """A private, invisible place where a target is built, checked and then published."""

    engine: ClassVar[str]
    keeps_steps: ClassVar[bool]
    """The guarded child can keep a copy of the draft after each revision that it runs."""
    fills: ClassVar[bool]
    """A target may be given with its schema, and without rows: see `stands`."""
    needed: int = 0
    """About the bytes that the target will take; for messages only."""

    @abstractmethod
    def spool(self, source: Place, *, timeout: float) -> AbstractContextManager[Snapshot]:
        """Take a private copy of `source` and give a snapshot of that, shown as the source: which is free again."""

    @abstractmethod
    def stands(self, is_source_s: Callable[[Snapshot], bool]) -> bool:
        """Tell whether a target that was given has the source's schema already, and no rows.

        `is_source_s` tells whether a schema is the source's. Raises TargetError if the target has another one.
        """

    @abstractmethod
    def prepare(self, snapshot: Snapshot) -> None:
        """Make an empty database with the physical settings of the source (for a replay of migrations)."""

    @abstractmethod
    def directory(self) -> str:
        """Return the private directory: the only one that the guarded child writes to."""

    @abstractmethod
    def held(self) -> tuple[int, ...]:
        """Return the descriptors that the guarded child keeps open: no other run comes in while it may still write."""

    @abstractmethod
    def path(self) -> str:
        """Return the whole path of the draft, in `directory()`; of a server's draft, of the socket that leads there."""

    def database(self) -> str:
        """Return what the server calls its draft; nothing for a file."""
        return ""

    @abstractmethod
    def reset(self) -> None:
        """Throw away what was built so far."""

    @abstractmethod
    def copy_schema(self, snapshot: Snapshot) -> None:
        """Create every object of the source from its own definition, version rows included."""

    @abstractmethod
    def add_versions(self, rows: Mapping[str, tuple[str, ...]]) -> None:
        """Insert version rows, by table, into a migrated draft."""

    @abstractmethod
    def adopt_schema(self) -> Mapping[str, int]:
        """Make a migrated schema ready for the load; return the rows that the migrations left, now cleared."""

    @abstractmethod
    def load(
        self, snapshot: Snapshot, steps: tuple[CopyStep, ...], monitor: Monitor, total: int, *, whole: bool
    ) -> None:
        """Copy rows out of the snapshot in one transaction; `total` estimates their bytes.

        With `whole` all that no link leads to comes along too: virtual tables with content of their own.
        """

    @abstractmethod
    def finish(self, snapshot: Snapshot, *, whole: bool) -> None:
        """Bring back what the load had put aside: indexes, views, triggers, counters, statistics."""

    @abstractmethod
    def count_repeated(self, arrival: Arrival, keys: Sequence[tuple[str, ...]]) -> tuple[int, ...]:
        """Count, for each of the keys, the rows of another engine that are the same to this one as another of them.

        The rows are put into a temporary table. Of NULL, none is the same as another.
        """

    @abstractmethod
    def receive(
        self, arrivals: Sequence[Arrival], counters: Mapping[str, int], monitor: Monitor, total: int
    ) -> None:
        """Take in rows of another engine, in one transaction, and do what `finish` does.

        A table's counter goes on behind what `counters` says and behind every number in use.
        """

    @abstractmethod
    def open(self, path: str | None = None) -> AbstractContextManager[Snapshot]:
        """Open what was built for the checks, for reading only; or a copy of it, `path`, in `directory()`."""

    @abstractmethod
    def publish(
        self, receipt: str | None, receipt_path: str | None, *, replace: bool, timeout: float
    ) -> None:
        """Make the target visible in one step, durable, then its receipt.

        With `replace` it takes the place of the one there, which readers that have it open keep; waits `timeout`
        seconds for its writers.
        """


@dataclass(frozen=True)
class Conflict:
    """A row of the source and one of the target that share a key and differ."""

    table: str
    key: str
    """The key's columns and values, as in SQL."""
    columns: tuple[str, ...]
    """The columns that differ; none where a unique index or a constraint refused the row without saying more."""


@dataclass(frozen=True)
class Overlap:
    """What of one step the target has already."""

    present: int
    """Rows that are there with the same content."""
    absent: int
    """Rows that are to be inserted."""
    conflicts: int
    listed: tuple[Conflict, ...]
    """The first ones."""


class Merging(ABC):
    """A target that exists, locked for writing, as part of the transaction that reads the source."""

    target: Snapshot
    """The target as that transaction sees it."""

    @abstractmethod
    def missing(self, step: CopyStep) -> Iterator[sa.Select[Any]]:
        """Select the step's rows that `insert` is going to insert, by the table's stored columns. Reads only."""

    @abstractmethod
    def compare(self, step: CopyStep) -> Overlap:
        """Look for the step's rows in the target, by every unique key. Reads only."""

    @abstractmethod
    def insert(self, step: CopyStep) -> int:
        """Insert the rows that the target lacks; no trigger fires. Returns how many.

        Where a table has no unique key, the target ends with the larger number of equal rows.
        """

    @abstractmethod
    def refused(self, step: CopyStep) -> tuple[Conflict, ...]:
        """List the first of the step's rows that `insert` could not insert."""

    @abstractmethod
    def finish(self) -> None:
        """Bring back what the insertion had put aside, and raise counters to the source's."""

    @abstractmethod
    def publish(self, receipt: str | None, receipt_path: str | None) -> None:
        """Commit: the one visible step; then the receipt."""


class Backend(ABC):
    """One engine."""

    name: ClassVar[str]

    @abstractmethod
    def place(self, text: str) -> Place:
        """Read an address: a URL of this engine, or a path. Opens nothing."""

    @abstractmethod
    def fingerprint(self, place: Place) -> str:
        """Tell a database from others that are spelled alike; opens nothing."""

    @abstractmethod
    def open_snapshot(
        self, place: Place, *, timeout: float, monitor: Monitor
    ) -> AbstractContextManager[Snapshot]:
        """Open a source for reading only and pin one moment of it; waits `timeout` seconds for locks."""

    @abstractmethod
    def check_target(self, place: Place, source: Place, existing: Existing) -> bool:
        """Refuse a target that is the source or can't be made or written. Writes nothing.

        One that exists is refused unless `existing` says what to do with it. Tells whether there is one.
        """

    @abstractmethod
    def check_receipt_path(self, path: str, place: Place) -> None:
        """Refuse to put a receipt where something else lies or where a file of `place` belongs. Writes nothing."""

    @abstractmethod
    def stage(self, place: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
        """Make the private place beside the target; whatever happens, nothing of it stays."""

    @abstractmethod
    def scratch(self, source: Place, *, monitor: Monitor) -> AbstractContextManager[Staging]:
        """Make a private place for a draft that is never published, beside nothing; nothing of it stays."""

    @abstractmethod
    def join(
        self, place: Place, snapshot: Snapshot, *, timeout: float, monitor: Monitor, writing: bool
    ) -> AbstractContextManager[Merging]:
        """Make a target that exists part of the snapshot's transaction; undone unless published.

        With `writing` it is locked first; waits `timeout` seconds for locks. Ends the snapshot.
        """

    @abstractmethod
    def compare(self, snapshot: Snapshot, other: Snapshot) -> Comparison | None:
        """Give what compares rows inside the engine as long as `snapshot` lasts; None if these two can't meet there."""

    @abstractmethod
    def receipt_path(self, place: Place) -> str | None:
        """Return the default path of a target's receipt."""
