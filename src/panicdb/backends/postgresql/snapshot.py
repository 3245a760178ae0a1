"""A read-only snapshot of a PostgreSQL database: one session, one transaction, one moment.

The order is what makes it one (PostgreSQL's manual, 13.6 "Caveats": a TRUNCATE or a rewriting ALTER TABLE shows a table
empty to a snapshot that is older): tables are listed, all are locked in ACCESS SHARE mode as the first statement of a
REPEATABLE READ transaction, and the snapshot is taken by the first statement after that. Then they are listed again: a
table that came or went meanwhile starts the whole anew.

Everything is read in a subtransaction that is read only. Only temporary tables of keys are made between two of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from panicdb.backends.base import CopyStep, Place, Snapshot, Term
from panicdb.backends.conversions import Conversion, Survey
from panicdb.backends.postgresql import faults, health, keys, lines, sessions, types
from panicdb.backends.postgresql.addresses import Address, read_address
from panicdb.backends.postgresql.catalog import OnlyTable, Relation, ServerType, list_relations, read_catalog
from panicdb.backends.postgresql.facts import read_facts
from panicdb.backends.postgresql.names import quoted, spelled, table_name
from panicdb.backends.postgresql.rows import read_rows
from panicdb.backends.postgresql.sequences import Standing, read_standings
from panicdb.backends.postgresql.sessions import Session
from panicdb.errors import PanicDBError, SourceError
from panicdb.values import Catalog, CatalogTable, ColumnType, Facts, Monitor

ATTEMPTS = 5
"""How often to begin anew when tables come and go while they are locked."""
GROWTH = 4
"""A key table is analysed when it has grown by this factor: plans for a small one are no plans for a large one."""
PADDED = "bpchar"
"""The type of `char(n)`, at whose end spaces don't count."""
_PLAIN_COLLATIONS = (
    None,
    'pg_catalog."default"',
    "pg_catalog.default",
    'pg_catalog."C"',
    'pg_catalog."POSIX"',
)
_OURS_LAST = """
SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ',
    nullif(pg_catalog.current_setting('search_path'), ''), 'pg_temp'), true)
"""
"""A name means a table of keys only where there is no other of that name."""
_READ_ONLY = "SAVEPOINT reading; SET TRANSACTION READ ONLY"


class PostgreSQLSnapshot(Snapshot):
    """See `Snapshot`. Errors of the driver are translated as they leave SQLAlchemy."""

    method: ClassVar[str] = "copy"
    lock_seconds: float = 30.0
    """How long to wait for a lock; `open_snapshot` was told."""

    def __init__(self, place: Place, session: Session, connection: sa.Connection | None = None) -> None:
        self.place = place
        self.session = session
        self.connection = sessions.wrap(session, self.explain) if connection is None else connection
        self.relations: tuple[Relation, ...] = ()
        self._analysed: dict[str, int] = {}
        self._indexed: dict[tuple[str, tuple[str, ...]], sa.Table] = {}
        self._sequences: Mapping[str, Standing] | None = None

    @property
    def address(self) -> Address:
        """Where it is."""
        return read_address(self.place.location)

    def explain(self, error: BaseException) -> PanicDBError:
        """Say in words what went wrong."""
        known = faults.explain(error, self.place.shown, "reading")
        if isinstance(error, psycopg.Error):
            known.said, known.from_outside = faults.said(error), faults.is_from_outside(error)
        return known

    def pin(self) -> None:
        """Lock every table, then take the snapshot. Raises SourceError if tables keep coming and going."""
        for _ in range(ATTEMPTS):
            relations = list_relations(self.connection)
            self._run("BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE")
            if self._lock(relations):
                self._run(_READ_ONLY)
                if list_relations(self.connection) == relations:
                    self._adopt(relations)
                    return
            self._run("ROLLBACK")
        raise SourceError(
            f"{self.place.shown}: tables are made or dropped all the time, so no moment could be held",
            hint="run this again when its migrations are done",
        )

    def look(self) -> None:
        """Read the catalog in a transaction that somebody else began: that of a load, to be checked."""
        self._adopt(list_relations(self.connection))

    def _adopt(self, relations: tuple[Relation, ...]) -> None:
        self.relations = relations
        self.catalog: Catalog = read_catalog(self.connection, relations)

    def _run(self, statements: str) -> None:
        with sessions.translated(self.explain):
            self.session.execute(statements)

    def _lock(self, relations: Sequence[Relation]) -> bool:
        """Tell whether all tables were there to be locked. Partitions are locked with what they are part of."""
        listed = [
            f"{'ONLY ' * each.inherited}{quoted(each.schema, each.name)}"
            for each in relations
            if not each.is_partition and each.kind != "f"
        ]
        try:
            if listed:
                self.session.execute(f"LOCK TABLE {', '.join(listed)} IN ACCESS SHARE MODE")
        except psycopg.errors.UndefinedTable:
            return False
        except psycopg.errors.LockNotAvailable as error:
            self._run("ROLLBACK")
            raise health.locked(self.session, self.place.shown, relations) from error
        except psycopg.errors.InsufficientPrivilege as error:
            self._run("ROLLBACK")
            raise health.lacking(self.session, self.place.shown) or self.explain(error) from error
        except psycopg.Error as error:
            raise self.explain(error) from error
        return True

    def match(self, parent: sa.ColumnElement[Any], child: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """See `Snapshot`: a foreign key compares under its parent's collation, by the operator of its parent's type.

        A link that was declared may lead from text to something else: no operator is for both, so both are text then.
        """
        theirs, ours = _info(parent)["collation"], _info(child)["collation"]
        if _is_text(parent) != _is_text(child):
            under = theirs or 'pg_catalog."C"'  # what is no text has no collation
            return Collated(sa.cast(parent, sa.Text), under) == Collated(sa.cast(child, sa.Text), under)
        if theirs is not None and ours is not None and theirs != ours:
            child = Collated(child, theirs)
        if _info(parent)["base"] == PADDED and _info(child)["base"] != PADDED:
            child = sa.cast(child, ServerType(f"pg_catalog.{PADDED}"))  # else both were compared as text
        return parent == child

    def match_exactly(
        self, parent: sa.ColumnElement[Any], child: sa.ColumnElement[Any]
    ) -> sa.ColumnElement[bool] | None:
        """See `Snapshot`: text under another collation than the usual ones, and types of extensions, byte by byte."""
        if not self.folds(parent) and not self.folds(child):
            return None
        one, other = (Collated(sa.cast(each, sa.Text), 'pg_catalog."C"') for each in (parent, child))
        return one == other

    def folds(self, column: sa.ColumnElement[Any]) -> bool:
        """See `Snapshot`: by a collation, padded with spaces, or as an extension's type compares."""
        info = _info(column)
        return (
            info["collation"] not in _PLAIN_COLLATIONS or info["equals"] is not None or info["base"] == PADDED
        )

    def can_look_up(
        self,
        table: CatalogTable,
        columns: tuple[str, ...],
        other: CatalogTable,
        other_columns: tuple[str, ...],
    ) -> bool:
        """See `Snapshot`: no index serves a comparison as text of what is none, or under another collation."""
        pairs = [
            (table.table.c[ours], other.table.c[theirs])
            for ours, theirs in zip(columns, other_columns, strict=True)
        ]
        if any(_is_text(ours) != _is_text(theirs) for ours, theirs in pairs):
            return False
        return any(index[0] in columns for index in table.indexes)

    def column_type(self, entry: CatalogTable, column: str) -> ColumnType:
        """See `Snapshot`: a domain is what it is over."""
        info = entry.table.c[column].info
        element = None
        if info["element"] is not None:
            of = info["element"]
            element = types.column_type(of["spelled"], of["base"], "", tuple(of["labels"]))
        return types.column_type(
            info["over"] or info["type"], info["base"], info["category"], info["labels"], element
        )

    def create_keys(self, name: str, entry: CatalogTable) -> sa.Table:
        """See `Snapshot`: made between two read-only subtransactions."""
        columns = [entry.table.c[column] for column in entry.identity]
        made = keys.definition(name, columns, self._from(entry))
        self._run(f"RELEASE SAVEPOINT reading; {made}; {_READ_ONLY}")
        return keys.key_table(name, columns)

    def _from(self, entry: CatalogTable) -> str:
        return f"{'ONLY ' * isinstance(entry.table, OnlyTable)}{spelled(entry.table)}"

    def drop_keys(self, table: sa.Table) -> None:
        """See `Snapshot`."""
        self._run(f"RELEASE SAVEPOINT reading; DROP TABLE pg_temp.{table.name}; {_READ_ONLY}")
        self._analysed.pop(table.name, None)

    def add_keys(self, table: sa.Table, chosen: sa.Select[Any] | Sequence[Mapping[str, Any]]) -> int:
        """See `Snapshot`: what grows is analysed, so that plans follow."""
        from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415 - imported with the first of these only

        # Of an INSERT, SQLAlchemy forgets the count unless told.
        statement = insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
        if isinstance(chosen, sa.Select):
            names = [column.name for column in table.c]
            added = int(self.connection.execute(statement.from_select(names, chosen)).rowcount)
        else:
            added = sum(int(self.connection.execute(statement, row).rowcount) for row in chosen)
        self._analyse(table, added)
        return added

    @contextmanager
    def naming_as_users_do(self) -> Iterator[None]:
        """See `Snapshot`: by the search path of the database and the role. A failure ends the transaction anyway."""
        self._run(f"SET LOCAL search_path TO DEFAULT; {_OURS_LAST}")
        yield
        self._run("SET LOCAL search_path TO ''")

    def indexed(self, entry: CatalogTable, columns: tuple[str, ...]) -> sa.FromClause:
        """See `Snapshot`: where no index leads, the columns are copied aside once, and get one."""
        if any(index[: len(columns)] and set(index[:1]) <= set(columns) for index in entry.indexes):
            return entry.table
        names = tuple(dict.fromkeys((*entry.identity, *columns)))
        if (entry.name, names) not in self._indexed:
            copy = keys.aside(f"edges_{len(self._indexed)}", entry, names, columns, self._from(entry))
            self._run(f"RELEASE SAVEPOINT reading; {copy.statements}; {_READ_ONLY}")
            self._indexed[entry.name, names] = copy.table
        return self._indexed[entry.name, names]

    def recursive(self, seeds: sa.Select[Any], terms: Sequence[Term]) -> sa.CTE:
        """See `Snapshot`: PostgreSQL takes one reference to what was reached, so all terms share it, row by row."""
        reached = seeds.cte("reached", recursive=True)
        row = reached.alias("r")
        # No FROM: the row comes from beside it.
        columns = [sa.literal_column(f"r.{each.name}", each.type).label(each.name) for each in reached.c]
        here = sa.select(*columns).subquery("here")
        step = sa.union_all(*(term(here) for term in terms)).subquery("steps")
        lateral = sa.select(*step.c).lateral("step")
        return reached.union(sa.select(*lateral.c).select_from(row.join(lateral, sa.true())))

    def _analyse(self, table: sa.Table, added: int) -> None:
        rows = self._analysed.get(table.name, 0) + added
        self._analysed[table.name] = rows
        if added and rows >= GROWTH * (rows - added):
            self._run(f"ANALYZE pg_temp.{table.name}")

    def exact(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """See `Snapshot`: a comparison converts nothing here."""
        return column

    def as_text(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """See `Snapshot`."""
        return sa.cast(column, sa.Text)

    def alike(self, column: sa.ColumnElement[Any]) -> tuple[sa.ColumnElement[Any], ...]:
        """See `Snapshot`: the server's text of a value, byte by byte."""
        return (Collated(sa.cast(column, sa.Text), 'pg_catalog."C"'),)

    def stored_bytes(self, table: sa.FromClause, columns: tuple[str, ...]) -> sa.ColumnElement[int]:
        """See `Snapshot`: of what lies in other pages only the pointer is read."""
        sizes = (
            sa.func.coalesce(sa.func.pg_catalog.pg_column_size(table.c[name]), 0) + 1 for name in columns
        )
        return sum(sizes, sa.literal(0))

    def parse_key(self, entry: CatalogTable, column: str, text: str) -> tuple[Any, ...]:
        """See `Snapshot`."""
        found = keys.parse(entry.table.c[column], text)
        try:
            for value in found:
                if isinstance(value, sa.ColumnElement):
                    self.connection.scalar(sa.select(value))
        except PanicDBError as error:
            if isinstance(error.__cause__, psycopg.DataError):
                raise keys.unfit(entry.table.c[column], text) from error
            raise
        return found

    def is_text(self, entry: CatalogTable, column: str) -> bool:
        """See `Snapshot`."""
        return keys.is_text(entry.table.c[column])

    def facts(self) -> Facts:
        """See `Snapshot`."""
        return read_facts(self.connection)

    def values(self, statement: sa.Select[Any]) -> Iterator[tuple[Any, ...]]:
        """See `Snapshot`: the server's text, under settings that make it one text; bytes of bytea."""
        with sessions.translated(self.explain):
            yield from read_rows(self.session, self.connection.dialect, statement)

    def survey(
        self, step: CopyStep, conversions: Mapping[str, Conversion], required: frozenset[str]
    ) -> Survey:
        """See `Snapshot`."""
        with sessions.translated(self.explain):
            return lines.survey(self.session, self.connection.dialect, step, conversions, required)

    def lines(
        self,
        step: CopyStep,
        columns: Sequence[str],
        conversions: Mapping[str, Conversion],
        plain: frozenset[str],
    ) -> Iterator[bytes | memoryview]:
        """See `Snapshot`: as the server spells them; they are converted where they arrive."""
        del conversions, plain
        with sessions.translated(self.explain):
            yield from lines.read_lines(self.session, self.connection.dialect, step, columns)

    def counters(self) -> Mapping[str, int]:
        """See `Snapshot`: of sequences that count upwards and belong to a column."""
        return {
            table_name(standing.owner[0], standing.owner[1]): standing.following - standing.increment
            for standing in self.standings().values()
            if standing.owner is not None and standing.increment > 0
        }

    def colliding_counters(self) -> tuple[str, ...]:
        """See `Snapshot`."""
        found = []
        for standing in self.standings().values():
            farthest = standing.farthest(self.connection)
            if standing.owner is not None and farthest is not None:
                ahead = standing.following - farthest
                if ahead * standing.increment <= 0:
                    found.append(table_name(*standing.owner[:2]))
        return tuple(found)

    def standings(self) -> Mapping[str, Standing]:
        """Read where every sequence stands: once, for they move on whatever the snapshot is."""
        if self._sequences is None:
            self._sequences = read_standings(self.connection)
        return self._sequences

    def sequences(self) -> Mapping[str, int]:
        """See `Snapshot`: the next number of each sequence, by its own name."""
        return {name: standing.following for name, standing in self.standings().items()}

    def counts_on(self, counter: str, stands: int, wanted: int) -> bool:
        """See `Snapshot`: past every number that a row of its column has, and not past `wanted`."""
        standing = self.standings().get(counter)
        if standing is None:
            return False
        up = standing.increment > 0
        if (stands > wanted) if up else (stands < wanted):
            return False
        farthest = standing.farthest(self.connection)
        return farthest is None or ((stands > farthest) if up else (stands < farthest))

    def check_portable(self) -> None:
        """See `Snapshot`: large objects lie outside of all tables."""
        health.refuse_large_objects(self.connection, self.place.shown)

    def damage(self) -> tuple[str, ...]:
        """See `Snapshot`."""
        return health.complaints(self.connection)

    def notes(self) -> tuple[str, ...]:
        """See `Snapshot`: nobody notices."""
        return ()

    def left_behind(self) -> tuple[str, ...]:
        """See `Snapshot`: rows that lie elsewhere, or belong to an extension's own tables."""
        foreign = [each.shown for each in self.relations if each.kind == "f"]
        elsewhere = tuple(
            f"rows of the foreign table {name} lie elsewhere, and are left there" for name in foreign
        )
        return elsewhere + health.left_to_extensions(self.connection)

    def excludes_writers(self) -> bool:
        """See `Snapshot`: readers keep nobody waiting here."""
        return False

    def can_be_opened_again(self) -> bool:
        """See `Snapshot`: another session would see another moment."""
        return False

    def size(self) -> int:
        """See `Snapshot`: of all tables, with what lies beside them."""
        return sum(health.sizes(self.connection, [each.oid for each in self.relations]).values())


class Collated(sa.ColumnElement[Any]):
    """An expression under a collation that is spelled as the server spells it, with its schema."""

    inherit_cache = False

    def __init__(self, column: sa.ColumnElement[Any], collation: str) -> None:
        self.column = column
        self.collation = collation
        self.type = column.type


@compiles(Collated)
def _collated(element: Collated, compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(element.column, **options)}) COLLATE {element.collation.replace('%', '%%')}"


def _info(column: sa.ColumnElement[Any]) -> Mapping[str, Any]:
    """An alias's column is its table's."""
    (original,) = column.base_columns
    return original.info  # type: ignore[no-any-return]


def _is_text(column: sa.ColumnElement[Any]) -> bool:
    return bool(_info(column)["category"] == "S")


@contextmanager
def open_snapshot(place: Place, *, timeout: float, monitor: Monitor) -> Iterator[PostgreSQLSnapshot]:
    """Open a database for reading only, pinned to one moment; waits `timeout` seconds for a lock.

    Raises SourceError, in words, for what can't be reached or read.
    """
    address = read_address(place.location)
    with (
        faults.explained(place.shown, "reading"),
        sessions.opened(address, monitor=monitor, lock_seconds=timeout) as session,
    ):
        snapshot = PostgreSQLSnapshot(place, session)
        snapshot.lock_seconds = timeout
        with sessions.unwrapping(snapshot.connection):
            with sessions.translated(snapshot.explain):
                health.require_primary(session, place.shown)
                health.require_privileges(session, place.shown)
            snapshot.pin()
            yield snapshot
