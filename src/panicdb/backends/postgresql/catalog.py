"""What a PostgreSQL database holds, from its system catalogs: a few queries, whatever the number of tables."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.compiler import SQLCompiler

from panicdb.backends.postgresql.names import table_name
from panicdb.errors import SourceError
from panicdb.values import Catalog, CatalogTable, Kind, Link

VERSION_COLUMN = "version_num"
ROW = ("ctid",)
"""The system column that tells rows of one table apart, within one snapshot."""
ROW_OF_PARTITION = ("tableoid", "ctid")
_SYSTEM_TYPES = {"ctid": "tid", "tableoid": "oid"}

OURS = """
    n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'
                    AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid)
"""
"""Relations `c` in namespaces `n` that belong neither to the system nor to an extension."""

_TABLES = f"""
SELECT c.oid, n.nspname, c.relname, c.relkind::text AS relkind, c.relispartition,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) AS inherited
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND {OURS}
ORDER BY c.oid
"""
_COLUMNS = """
WITH RECURSIVE base (oid, of, typmod) AS (
    SELECT oid, oid, -1 FROM pg_catalog.pg_type WHERE typtype <> 'd'
    UNION ALL SELECT t.oid, b.of, CASE WHEN b.oid = b.of THEN t.typtypmod ELSE b.typmod END
    FROM pg_catalog.pg_type t JOIN base b ON t.typbasetype = b.oid WHERE t.typtype = 'd'
)
SELECT a.attrelid, a.attnum, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull, a.attgenerated <> '' AS generated,
       coalesce(b.typcategory, t.typcategory)::text AS category, coalesce(b.typname, t.typname) AS base,
       CASE WHEN a.attcollation <> 0 THEN (
           SELECT pg_catalog.quote_ident(m.nspname) || '.' || pg_catalog.quote_ident(l.collname)
           FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace m ON m.oid = l.collnamespace
           WHERE l.oid = a.attcollation) END AS collation,
       CASE WHEN t.typtype = 'b' AND coalesce(e.typtype, 'b') = 'b'
                 AND t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
            THEN coalesce(e.typname, t.typname) END AS builtin,
       CASE WHEN coalesce(b.typnamespace, t.typnamespace) <> 'pg_catalog'::pg_catalog.regnamespace THEN (
           SELECT 'OPERATOR(' || pg_catalog.quote_ident(q.nspname) || '.' || p.oprname || ')'
           FROM pg_catalog.pg_opclass y
           JOIN pg_catalog.pg_am v ON v.oid = y.opcmethod AND v.amname = 'btree'
           JOIN pg_catalog.pg_amop z ON z.amopfamily = y.opcfamily AND z.amopstrategy = 3
                AND z.amoplefttype = y.opcintype AND z.amoprighttype = y.opcintype
           JOIN pg_catalog.pg_operator p ON p.oid = z.amopopr
           JOIN pg_catalog.pg_namespace q ON q.oid = p.oprnamespace
           WHERE y.opcdefault AND y.opcintype = coalesce(b.oid, t.oid) LIMIT 1) END AS equals,
       CASE WHEN b.oid IS NOT NULL THEN pg_catalog.format_type(b.oid, NULL) END AS plain,
       CASE WHEN b.oid IS NOT NULL THEN (SELECT pg_catalog.format_type(b.oid, base.typmod) FROM base
                                         WHERE base.oid = t.oid) END AS over,
       (SELECT pg_catalog.json_agg(g.enumlabel ORDER BY g.enumsortorder)::pg_catalog.text
        FROM pg_catalog.pg_enum g WHERE g.enumtypid = coalesce(b.oid, t.oid)) AS labels,
       CASE WHEN coalesce(b.typcategory, t.typcategory) = 'A' THEN (
           SELECT pg_catalog.json_build_object(
               'spelled', pg_catalog.format_type(h.oid, CASE WHEN b.oid IS NULL THEN a.atttypmod END),
               'base', h.typname, 'labels', ARRAY(SELECT g.enumlabel FROM pg_catalog.pg_enum g
                                                  WHERE g.enumtypid = h.oid ORDER BY g.enumsortorder))::pg_catalog.text
           FROM pg_catalog.pg_type h WHERE h.oid = coalesce(b.typelem, t.typelem)) END AS element
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type b ON t.typtype = 'd' AND b.oid = (SELECT of FROM base WHERE base.oid = t.oid)
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
     AND e.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = ANY(%s)
ORDER BY a.attrelid, a.attnum
"""
_INDEXES = """
SELECT i.indrelid, i.indisprimary,
       i.indisunique AND i.indisvalid AND i.indpred IS NULL AND NOT EXISTS (
           SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) s
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[s]
           WHERE a.attcollation <> i.indcollation[s]) AS is_unique,
       i.indpred IS NOT NULL AS partial, i.indisvalid AS valid,
       i.indkey::text AS attributes, i.indnkeyatts::int AS keys, m.amname IN ('btree', 'hash') AS looks_up
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = x.relam
WHERE i.indrelid = ANY(%s)
ORDER BY i.indrelid, NOT i.indisprimary, i.indexrelid
"""
_LINKS = """
SELECT k.conrelid, pg_catalog.array_to_string(k.conkey, ' '),
       k.confrelid, pg_catalog.array_to_string(k.confkey, ' '), k.confmatchtype = 'f',
       k.confdeltype::text || k.confupdtype::text,
       coalesce((pg_catalog.to_jsonb(k) ->> 'conperiod')::pg_catalog.bool, false)
FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid = ANY(%s)
ORDER BY k.oid
"""
_PARENTS = "SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits"


class ServerType(sa.types.UserDefinedType[Any]):
    """A type as the server spells it; values pass through as they are."""

    cache_ok = True

    def __init__(self, spelled: str, equals: str | None = None, plain: str | None = None) -> None:
        self.spelled = spelled
        self.equals = equals
        self.plain = plain

    def get_col_spec(self, **_: Any) -> str:
        """Return the spelling, for casts in statements that have parameters."""
        return (self.plain or self.spelled).replace("%", "%%")

    class comparator_factory(sa.types.UserDefinedType.Comparator[Any]):  # noqa: N801 - SQLAlchemy's name for it
        """Compares by the type's own operator, where it has one that no search path leads to."""

        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            """See SQLAlchemy."""
            kind = self.type
            if op is operators.eq and isinstance(kind, ServerType) and kind.equals is not None:
                return self.expr.bool_op(kind.equals)(other[0])
            return super().operate(op, *other, **options)


class OnlyTable(sa.Table):
    """A table whose heirs are tables of their own: `ONLY` reads what is in itself."""

    inherit_cache = True


@compiles(OnlyTable, "postgresql")
def _only(element: OnlyTable, compiler: SQLCompiler, *, asfrom: bool = False, **options: Any) -> str:
    name = str(compiler.visit_table(element, asfrom=asfrom, **options))  # type: ignore[no-untyped-call]
    return f"ONLY {name}" if asfrom else name


@dataclass(frozen=True)
class Relation:
    """A table as it is listed; `oid` is what locks are taken by."""

    oid: int
    schema: str
    name: str
    kind: str
    is_partition: bool
    inherited: bool

    @property
    def shown(self) -> str:
        """The name in messages and options."""
        return table_name(self.schema, self.name)


@dataclass(frozen=True)
class _Column:
    number: int
    name: str
    type: str
    not_null: bool
    generated: bool
    category: str
    base: str
    collation: str | None
    builtin: str | None
    """The type, or that of an array's elements, if the server itself has it."""
    equals: str | None
    """The operator by which values of an extension's type are equal, since no search path leads to it."""
    plain: str | None
    """Of a domain, the type that it is over: what a NULL may be, whatever the domain demands."""
    over: str | None
    """Of a domain, that type with its bounds."""
    labels: str | None
    """Of an enum, in their order: a list, as JSON."""
    element: str | None
    """Of an array: the type of what is in it, as it is spelled and as it is called, and its labels: as JSON."""


@dataclass(frozen=True)
class _Index:
    primary: bool
    unique: bool
    partial: bool
    """It does not find every row by its columns: it holds some, or blocks of them."""
    columns: tuple[str, ...] | None
    """Of its key; None if there is an expression among them."""
    leading: tuple[str, ...]
    """The columns before the first expression."""


def list_relations(connection: sa.Connection) -> tuple[Relation, ...]:
    """List the tables that are neither the system's nor an extension's: partitions, too. Reads only."""
    rows = connection.exec_driver_sql(_TABLES)
    return tuple(Relation(*row) for row in rows)


def read_catalog(connection: sa.Connection, relations: Sequence[Relation]) -> Catalog:
    """Read tables with their links and version rows. Reads only; all of it in the connection's transaction."""
    return _Reader(connection, relations).read()


class _Reader:
    def __init__(self, connection: sa.Connection, relations: Sequence[Relation]) -> None:
        self._connection = connection
        self._relations = {each.oid: each for each in relations}
        self._metadata = sa.MetaData()
        oids = list(self._relations)
        self._columns: dict[int, list[_Column]] = defaultdict(list)
        for row in self._rows(_COLUMNS, oids):
            self._columns[row[0]].append(_Column(*row[1:]))
        self._indexes = self._read_indexes(oids)

    def _rows(self, sql: str, oids: list[int]) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.exec_driver_sql(sql, (oids,))]

    def read(self) -> Catalog:
        listed = [each for each in self._relations.values() if not each.is_partition]
        for each in self._relations.values():
            if each.is_partition and each.kind == "f":
                raise SourceError(
                    f"{each.shown}: a partition that lies on another server, where nothing is to be read or written",
                    hint="detach it, or take tables without one",
                )
        tables = {each.shown: self._table(each) for each in listed}
        revisions = {
            name: self._version_rows(table) for name, table in tables.items() if table.kind is Kind.VERSION
        }
        return Catalog(tables, tuple(self._links()), revisions)

    def _read_indexes(self, oids: list[int]) -> Mapping[int, list[_Index]]:
        found: dict[int, list[_Index]] = defaultdict(list)
        for table, primary, unique, partial, valid, attributes, keys, looks_up in self._rows(_INDEXES, oids):
            names = self._names(table)
            key = [names.get(int(number)) for number in _numbers(attributes)[:keys]]
            plain = [name for name in key if name is not None]
            leading = key.index(None) if None in key else len(key)
            columns = tuple(plain) if len(plain) == len(key) else None
            if valid:
                found[table].append(
                    _Index(primary, unique, partial or not looks_up, columns, tuple(plain[:leading]))
                )
        return found

    def _names(self, table: int) -> Mapping[int, str]:
        return {column.number: column.name for column in self._columns[table]}

    def _table(self, relation: Relation) -> CatalogTable:
        columns, indexes = self._columns[relation.oid], self._indexes[relation.oid]
        required = {column.name for column in columns if column.not_null}
        unique = [index for index in indexes if index.unique and index.columns]
        keys = tuple(dict.fromkeys(index.columns for index in unique if index.columns))
        identity = next((key for key in keys if set(key) <= required), None) or (
            ROW_OF_PARTITION if relation.kind == "p" else ROW
        )
        return CatalogTable(
            name=relation.shown,
            table=self._sa_table(relation, columns, identity),
            kind=_kind(relation, columns),
            identity=identity,
            stored=tuple(column.name for column in columns if not column.generated),
            primary_key=next((index.columns for index in unique if index.primary and index.columns), ()),
            unique_keys=keys,
            indexes=tuple(index.leading for index in indexes if index.leading and not index.partial),
        )

    def _sa_table(
        self, relation: Relation, columns: Sequence[_Column], identity: tuple[str, ...]
    ) -> sa.Table:
        kind = OnlyTable if relation.inherited else sa.Table
        table = kind(relation.name, self._metadata, schema=relation.schema, quote=True, quote_schema=True)
        for column in columns:
            info = {
                "type": column.type,
                "collation": column.collation,
                "nullable": not column.not_null,
                "never_null": column.not_null,
                "category": column.category,
                "base": column.base,
                "builtin": column.builtin,
                "equals": column.equals,
                "over": column.over,
                "labels": tuple(json.loads(column.labels or "[]")),
                "element": column.element and json.loads(column.element),
            }
            kind_of = ServerType(column.type, column.equals, column.plain)
            table.append_column(sa.Column(column.name, kind_of, quote=True, info=info))
        for name in identity:
            if name in _SYSTEM_TYPES and name not in table.c:
                info = {"type": _SYSTEM_TYPES[name], "collation": None, "nullable": False, "never_null": True}
                info |= {"category": "U", "base": _SYSTEM_TYPES[name]}
                column_type = ServerType(_SYSTEM_TYPES[name])
                table.append_column(sa.Column(name, column_type, quote=True, system=True, info=info))
        return table

    def _links(self) -> Iterator[Link]:
        roots = {row[0]: row[1] for row in self._connection.exec_driver_sql(_PARENTS)}
        for child, columns, parent, parent_columns, full, actions, period in self._rows(
            _LINKS, list(self._relations)
        ):
            relation = self._relations[child]
            if period:
                raise SourceError(
                    f"{relation.shown}: a foreign key with PERIOD, which one row refers to many rows by",
                    hint="panicdb follows foreign keys by equal values only",
                )
            if relation.is_partition:
                raise SourceError(
                    f"{relation.shown}: a partition with a foreign key of its own, "
                    "which the table that it is part of does not have",
                    hint="declare the foreign key on the partitioned table, or drop it",
                )
            ancestor = parent
            while ancestor in self._relations and self._relations[ancestor].is_partition:
                ancestor = roots[ancestor]
            there = self._relations.get(ancestor)
            if there is not None:  # else an extension's, whose rows come with it
                yield Link(
                    relation.shown,
                    self._spelled(child, columns),
                    there.shown,
                    self._spelled(parent, parent_columns),
                    full=full,
                    actions=_actions(actions),
                )

    def _spelled(self, table: int, numbers: Any) -> tuple[str, ...]:
        names = self._names(table)
        return tuple(names[number] for number in _numbers(numbers))

    def _version_rows(self, entry: CatalogTable) -> tuple[str, ...]:
        column = entry.table.c[entry.stored[0]]
        return tuple(sorted(str(value) for value in self._connection.scalars(sa.select(column))))


def _actions(letters: str) -> str:
    """Spell what happens on DELETE and on UPDATE as SQL does."""
    return "ON DELETE {} ON UPDATE {}".format(*(_ACTIONS[letter] for letter in letters))


_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def _numbers(spaced: str) -> list[int]:
    return [int(number) for number in spaced.split()]


def _kind(relation: Relation, columns: Sequence[_Column]) -> Kind:
    if relation.kind == "f":
        return Kind.VIRTUAL
    return Kind.VERSION if [column.name for column in columns] == [VERSION_COLUMN] else Kind.ORDINARY
