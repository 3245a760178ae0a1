"""What a SQLite database holds, from its own catalog: PRAGMAs, and its DDL where they are silent."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from panicdb.backends.sqlite.ddl import column_collations, fold
from panicdb.errors import SourceError
from panicdb.values import Catalog, CatalogTable, Kind, Link

ROWID_NAMES = ("_rowid_", "rowid", "oid")
VERSION_COLUMN = "version_num"

_HIDDEN_GENERATED = (2, 3)
_HIDDEN_VIRTUAL = 1


@dataclass(frozen=True)
class _Listed:
    name: str
    virtual: bool
    without_rowid: bool
    strict: bool


@dataclass(frozen=True)
class _Column:
    name: str
    declared: str
    not_null: bool
    key_position: int
    hidden: int


@dataclass(frozen=True)
class _Index:
    origin: str
    unique: bool
    partial: bool
    columns: tuple[tuple[str | None, str], ...]
    """(name, collation) of each key column; no name: an expression or the rowid."""


class CatalogReader:
    """Reads one schema (`main`, `target`) of a connection; writes nothing."""

    def __init__(self, connection: sa.Connection, schema: str = "main") -> None:
        self._connection = connection
        self._schema = schema
        self._quote = connection.dialect.identifier_preparer.quote_identifier
        self._metadata = sa.MetaData()

    def read(self) -> Catalog:
        """Return the tables with their links and version rows."""
        tables = {listed.name: self._table(listed) for listed in self._listed()}
        links = tuple(link for name in tables for link in self._links(name, tables))
        revisions = {
            name: self._version_rows(table) for name, table in tables.items() if table.kind is Kind.VERSION
        }
        return Catalog(tables, links, revisions)

    def pragma(self, name: str, argument: str | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a PRAGMA of this schema."""
        call = "" if argument is None else f"({self._quote(argument)})"
        rows = self._connection.exec_driver_sql(f"PRAGMA {self._schema}.{name}{call}")
        return [tuple(row) for row in rows]

    def _listed(self) -> list[_Listed]:
        order = {
            name: number
            for number, (name,) in enumerate(
                self._connection.exec_driver_sql(
                    f"SELECT name FROM {self._schema}.sqlite_master WHERE type = 'table' ORDER BY rowid"
                )
            )
        }
        rows = [
            _Listed(name, kind == "virtual", bool(without_rowid), bool(strict))
            for _schema, name, kind, _columns, without_rowid, strict in self.pragma("table_list")
            if kind in ("table", "virtual") and name in order and not name.startswith("sqlite_")
        ]
        return sorted(rows, key=lambda row: order[row.name])

    def _table(self, listed: _Listed) -> CatalogTable:
        name = listed.name
        columns = [
            _Column(column, declared or "", bool(not_null), position, hidden)
            for _id, column, declared, not_null, _default, position, hidden in self.pragma(
                "table_xinfo", name
            )
        ]
        indexes, collations = self._indexes(name), self._collations(name)
        rowid_key = () if listed.without_rowid else _rowid_alias(columns, indexes)
        physical = () if listed.without_rowid or listed.virtual else _physical_identity(columns)
        primary_key = tuple(
            column.name
            for column in sorted(columns, key=lambda each: each.key_position)
            if column.key_position
        )
        return CatalogTable(
            name=name,
            table=self._sa_table(listed, columns, (physical, rowid_key), collations),
            kind=_kind(listed, columns),
            identity=physical or rowid_key or _key_without_nulls(columns, indexes, collations),
            stored=tuple(
                column.name
                for column in columns
                if column.hidden not in (*_HIDDEN_GENERATED, _HIDDEN_VIRTUAL)
            ),
            primary_key=primary_key,
            unique_keys=_unique_keys(indexes, rowid_key),
            indexes=_look_ups(columns, indexes, rowid_key, collations),
        )

    def _sa_table(
        self,
        listed: _Listed,
        columns: list[_Column],
        rowid_names: tuple[tuple[str, ...], tuple[str, ...]],
        collations: Mapping[str, str],
    ) -> sa.Table:
        physical, rowid_key = rowid_names
        table = sa.Table(listed.name, self._metadata, schema=self._schema, quote=True)
        if not all(column.name for column in columns):
            raise SourceError(
                f"table {listed.name!r} has a column without a name",
                hint="ALTER TABLE ... RENAME COLUMN gives it one",
            )
        for column in columns:
            info = {
                "affinity": affinity(column.declared, strict=listed.strict),
                "declared": column.declared,
                "collation": collations.get(column.name, "BINARY").upper(),
                "nullable": not column.not_null and not column.key_position,
                "rowid": column.name in rowid_key,
                # A primary key of a table with rowids may be NULL, but for the rowid's own name.
                "never_null": bool(column.not_null) or column.name in rowid_key,
            }
            table.append_column(sa.Column(column.name, sa.types.NullType(), quote=True, info=info))
        for alias in physical:
            info = {
                "affinity": "INTEGER",
                "declared": "INTEGER",
                "collation": "BINARY",
                "nullable": False,
            }
            table.append_column(sa.Column(alias, sa.types.NullType(), quote=True, system=True, info=info))
        return table

    def _collations(self, name: str) -> Mapping[str, str]:
        row = self._connection.exec_driver_sql(
            f"SELECT sql FROM {self._schema}.sqlite_master WHERE type = 'table' AND name = ?",
            (name,),
        ).one()
        return column_collations(row[0] or "")

    def _indexes(self, table: str) -> list[_Index]:
        return [
            _Index(
                origin=origin,
                unique=bool(unique),
                partial=bool(partial),
                columns=tuple(
                    (column, collation)
                    for _rank, _id, column, _descending, collation, key in self.pragma("index_xinfo", name)
                    if key
                ),
            )
            for _number, name, unique, origin, partial in self.pragma("index_list", table)
        ]

    def _links(self, child: str, tables: Mapping[str, CatalogTable]) -> Iterable[Link]:
        spelled = {fold(name): name for name in tables}
        keys: dict[int, list[tuple[Any, ...]]] = {}
        for row in self.pragma("foreign_key_list", child):
            keys.setdefault(row[0], []).append(row)
        for number in sorted(keys, reverse=True):
            parts = sorted(keys[number], key=lambda part: int(part[1]))
            parent = spelled.get(fold(parts[0][2]), parts[0][2])
            yield Link(
                child,
                tuple(_spelled(tables[child], part[3]) for part in parts),
                parent,
                _parent_columns(parts, tables.get(parent)),
                actions=f"ON DELETE {parts[0][6]} ON UPDATE {parts[0][5]}",
            )

    def _version_rows(self, entry: CatalogTable) -> tuple[str, ...]:
        column = entry.table.c[entry.stored[0]]
        return tuple(sorted(str(value) for value in self._connection.scalars(sa.select(column))))


def affinity(declared: str, *, strict: bool = False) -> str:
    """Return the affinity of a declared type (https://www.sqlite.org/datatype3.html, section 3.1)."""
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in upper or not upper or (strict and upper == "ANY"):
        return "BLOB"
    return "REAL" if any(word in upper for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def _kind(listed: _Listed, columns: list[_Column]) -> Kind:
    if listed.virtual:
        return Kind.VIRTUAL
    return Kind.VERSION if [column.name for column in columns] == [VERSION_COLUMN] else Kind.ORDINARY


def _physical_identity(columns: list[_Column]) -> tuple[str, ...]:
    taken = {fold(column.name) for column in columns}
    return tuple(name for name in ROWID_NAMES if name not in taken)[:1]


def _rowid_alias(columns: list[_Column], indexes: list[_Index]) -> tuple[str, ...]:
    """An INTEGER PRIMARY KEY is the rowid itself, so it has no index of its own."""
    key = [column for column in columns if column.key_position]
    plain = len(key) == 1 and key[0].declared.upper() == "INTEGER"
    return (key[0].name,) if plain and not any(index.origin == "pk" for index in indexes) else ()


def _unique_keys(indexes: list[_Index], rowid_key: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    keys = [rowid_key] if rowid_key else []
    for index in indexes:
        names = tuple(name for name, _collation in index.columns if name is not None)
        if index.unique and not index.partial and len(names) == len(index.columns):
            keys.append(names)
    return tuple(keys)


def _key_without_nulls(
    columns: list[_Column], indexes: list[_Index], collations: Mapping[str, str]
) -> tuple[str, ...]:
    """Where there is no rowid to be seen, rows are told apart by a key that is unique as its columns compare."""
    required = {column.name for column in columns if column.not_null}
    for index in sorted(indexes, key=lambda each: each.origin != "pk"):
        own = all(collations.get(str(name), "BINARY").upper() == each.upper() for name, each in index.columns)
        names = tuple(name for name, _collation in index.columns if name in required)
        if index.unique and not index.partial and own and len(names) == len(index.columns):
            return names
    return ()


def _look_ups(
    columns: list[_Column],
    indexes: list[_Index],
    rowid_key: tuple[str, ...],
    collations: Mapping[str, str],
) -> tuple[tuple[str, ...], ...]:
    """Keep of each index the leading columns that are sorted by the column's own collation."""
    own = {column.name: collations.get(column.name, "BINARY").upper() for column in columns}
    found = [rowid_key] if rowid_key else []
    for index in indexes:
        usable: list[str] = []
        for name, collation in index.columns:
            if index.partial or name is None or collation.upper() != own.get(name):
                break
            usable.append(name)
        if usable:
            found.append(tuple(usable))
    return tuple(found)


def _spelled(entry: CatalogTable, column: str) -> str:
    names = {fold(name): name for name in (column.name for column in entry.table.c)}
    return names.get(fold(column), column)


def _parent_columns(parts: list[tuple[Any, ...]], parent: CatalogTable | None) -> tuple[str, ...]:
    """Without names the parent's primary key is meant; where that doesn't fit, the names stay unknown."""
    named = tuple(part[4] for part in parts)
    if all(name is not None for name in named):
        return named if parent is None else tuple(_spelled(parent, name) for name in named)
    fits = parent is not None and len(parent.primary_key) == len(named)
    return parent.primary_key if parent is not None and fits else ("?",) * len(named)
