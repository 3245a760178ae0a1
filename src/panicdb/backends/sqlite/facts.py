r"""A SQLite schema as facts: from the PRAGMAs, and from its DDL where they are silent.

Text is fetched as bytes and decoded here, because a damaged or hostile file may hold names and DDL
that are not valid in the database's encoding. Such bytes appear as `\xff`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby
from typing import Any, TypeVar

import sqlalchemy as sa

from panicdb.backends.sqlite import ddl
from panicdb.backends.sqlite.catalog import affinity
from panicdb.values import Fact, Facts, dotted, quote_name

_STORED = 3
_GENERATED = (2, 3)
_Item = TypeVar("_Item")


def read_facts(connection: sa.Connection, schema: str = "main") -> Facts:
    """Return every fact of one schema (`main`, or an attached one). Reads only its catalog.

    For one consistent answer, call it inside a read transaction. Needs SQLite 3.37. Left out are
    SQLite's own tables and the shadow tables of virtual tables.
    """
    catalog = _Catalog(connection, schema)
    things = [
        *chain.from_iterable(_table_things(table, catalog) for table in catalog.tables.values()),
        *(_virtual_table(row) for row in catalog.masters("table", listed_as="virtual")),
        *(_view(row) for row in catalog.masters("view")),
        *(_trigger(row, catalog) for row in catalog.masters("trigger")),
    ]
    return {(thing.name, aspect): fact for thing in _numbered(things) for aspect, fact in thing.facts.items()}


# --- the catalog ---


@dataclass(frozen=True)
class _Master:
    """A row of sqlite_master."""

    kind: str
    name: str
    table: str
    sql: str


@dataclass(frozen=True)
class _Listed:
    """A row of PRAGMA table_list."""

    kind: str
    without_rowid: bool
    strict: bool


@dataclass(frozen=True)
class _Column:
    name: str
    type: str
    not_null: int
    default: str | None
    key_position: int
    hidden: int


@dataclass(frozen=True)
class _IndexColumn:
    name: str | None
    """None for an expression."""
    descending: bool
    collation: str


@dataclass(frozen=True)
class _Index:
    name: str
    unique: bool
    origin: str
    columns: tuple[_IndexColumn, ...]
    sql: str


@dataclass(frozen=True)
class _ForeignKey:
    parent: str
    columns: tuple[str, ...]
    parent_columns: tuple[str | None, ...]
    """None where the parent's primary key is meant."""
    on_update: str
    on_delete: str


@dataclass(frozen=True)
class _Table:
    name: str
    sql: str
    listed: _Listed
    columns: tuple[_Column, ...]
    indexes: tuple[_Index, ...]
    foreign_keys: tuple[_ForeignKey, ...]
    """In the order of the text."""

    @property
    def thing(self) -> str:
        return f"table {quote_name(self.name)}"

    @property
    def key(self) -> tuple[_Column, ...]:
        keyed = (column for column in self.columns if column.key_position)
        return tuple(sorted(keyed, key=lambda column: column.key_position))

    @property
    def key_index(self) -> _Index | None:
        """The primary key's index; an INTEGER PRIMARY KEY is the rowid itself and has none."""
        return next((index for index in self.indexes if index.origin == "pk"), None)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Columns as the catalog spells them, by folded name."""
        return {ddl.fold(column.name): column.name for column in self.columns}

    @cached_property
    def written(self) -> ddl.CreateTable | None:
        """The DDL as read; None where it was not understood, which the PRAGMAs show."""
        read = ddl.read_table(self.sql)
        if read is None or [c.name for c in read.columns] != [c.name for c in self.columns]:
            return None
        understood = [_link_folded(link) for link in read.foreign_keys]
        return read if understood == [_link_folded(link) for link in self.foreign_keys] else None


def _link_folded(link: ddl.ForeignKey | _ForeignKey) -> tuple[str, ...]:
    return (ddl.fold(link.parent), *(ddl.fold(column) for column in link.columns))


class _Catalog:
    """One schema's catalog, in a handful of queries however many tables there are."""

    def __init__(self, connection: sa.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._encoding = str(connection.exec_driver_sql("PRAGMA encoding").scalar_one())
        self._masters = self._read_masters()
        self._listed = self._read_listed()
        self.tables: Mapping[str, _Table] = self._read_tables()

    def masters(self, kind: str, listed_as: str | None = None) -> Iterator[_Master]:
        """Return rows of sqlite_master; with `listed_as`, only what table_list calls so."""
        for row in self._masters:
            listed = self._listed.get(row.name)
            if row.kind == kind and (listed_as is None or (listed and listed.kind == listed_as)):
                yield row

    def spelled(self, table: str) -> str:
        """Return a table's name as the catalog has it: a foreign key may spell it differently."""
        return self._spelled.get(ddl.fold(table), table)

    @cached_property
    def _spelled(self) -> Mapping[str, str]:
        return {ddl.fold(name): name for name in self._listed}

    def _rows(self, sql: str, parameters: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
        for row in self._connection.exec_driver_sql(sql, parameters):
            yield tuple(self._text(item) if isinstance(item, bytes) else item for item in row)

    def _text(self, raw: bytes) -> str:
        return raw.decode(self._encoding, errors="backslashreplace")

    def _read_masters(self) -> Sequence[_Master]:
        quote = self._connection.dialect.identifier_preparer.quote_identifier
        rows = self._rows(
            "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), "
            f"CAST(sql AS BLOB) FROM {quote(self._schema)}.sqlite_master ORDER BY name, type"
        )
        return [_Master(*(part or "" for part in row)) for row in rows]

    def _read_listed(self) -> Mapping[str, _Listed]:
        rows = self._rows(
            "SELECT CAST(name AS BLOB), type, wr, strict FROM pragma_table_list WHERE schema = ?",
            (self._schema,),
        )
        return {
            name: _Listed(kind, bool(without_rowid), bool(strict))
            for name, kind, without_rowid, strict in rows
            if not ddl.fold(name).startswith("sqlite_")
        }

    def _read_tables(self) -> Mapping[str, _Table]:
        columns, indexes, links = self._columns(), self._indexes(), self._foreign_keys()
        return {
            row.name: _Table(
                name=row.name,
                sql=row.sql,
                listed=self._listed[row.name],
                columns=tuple(columns[row.name]),
                indexes=tuple(indexes[row.name]),
                foreign_keys=tuple(links[row.name]),
            )
            for row in self.masters("table", listed_as="table")
        }

    def _of_tables(self, columns: str, *pragmas: str, order: str) -> Iterator[tuple[Any, ...]]:
        """Join ordinary tables with PRAGMA functions; a broken view can't get in the way."""
        sources = " JOIN ".join(("pragma_table_list AS t", *pragmas))
        return self._rows(
            f"SELECT CAST(t.name AS BLOB), {columns} FROM {sources} "
            f"WHERE t.type = 'table' AND t.schema = ? ORDER BY t.name, {order}",
            (self._schema,) * (len(pragmas) + 1),
        )

    def _columns(self) -> Mapping[str, list[_Column]]:
        rows = self._of_tables(
            "CAST(x.name AS BLOB), CAST(x.type AS BLOB), x.[notnull], "
            "CAST(x.dflt_value AS BLOB), x.pk, x.hidden",
            "pragma_table_xinfo(t.name, ?) AS x",
            order="x.cid",
        )
        return _grouped((table, _Column(*rest)) for table, *rest in rows)

    def _indexes(self) -> Mapping[str, list[_Index]]:
        sql = {row.name: row.sql for row in self.masters("index")}
        rows = self._of_tables(
            "CAST(l.name AS BLOB), l.[unique], l.origin, CAST(x.name AS BLOB), x.[desc], "
            "CAST(x.coll AS BLOB)",
            "pragma_index_list(t.name, ?) AS l",
            "pragma_index_xinfo(l.name, ?) AS x ON x.[key]",
            order="l.seq DESC, x.seqno",
        )
        return _grouped(
            (table, _Index(name, bool(unique), origin, _index_columns(group), sql.get(name, "")))
            for (table, name, unique, origin), group in groupby(rows, key=lambda row: row[:4])
        )

    def _foreign_keys(self) -> Mapping[str, list[_ForeignKey]]:
        rows = self._of_tables(
            # "id" counts from the end of the text.
            "x.id, CAST(x.[table] AS BLOB), x.on_update, x.on_delete, CAST(x.[from] AS BLOB), "
            "CAST(x.[to] AS BLOB)",
            "pragma_foreign_key_list(t.name, ?) AS x",
            order="x.id DESC, x.seq",
        )
        return _grouped(
            (table, _foreign_key_row(parent, on_update, on_delete, [row[5:] for row in group]))
            for (table, _, parent, on_update, on_delete), group in groupby(rows, key=lambda row: row[:5])
        )


def _index_columns(rows: Iterable[tuple[Any, ...]]) -> tuple[_IndexColumn, ...]:
    return tuple(
        _IndexColumn(name, bool(descending), ddl.upper(collation or ""))
        for *_, name, descending, collation in rows
    )


def _foreign_key_row(
    parent: str, on_update: str, on_delete: str, pairs: Sequence[tuple[Any, ...]]
) -> _ForeignKey:
    columns = tuple(pair[0] for pair in pairs)
    return _ForeignKey(parent, columns, tuple(pair[1] for pair in pairs), on_update, on_delete)


def _grouped(rows: Iterable[tuple[str, _Item]]) -> Mapping[str, list[_Item]]:
    groups: defaultdict[str, list[_Item]] = defaultdict(list)
    for name, item in rows:
        groups[name].append(item)
    return groups


# --- facts ---


@dataclass(frozen=True)
class _Thing:
    """An object of the schema with its facts by property."""

    name: str
    facts: Mapping[str, Fact]


def _thing(
    name: str,
    facts: Mapping[str, Fact] | None = None,
    *,
    within: str | None = None,
    demands: Iterable[str] = (),
) -> _Thing:
    existence = Fact("present", demands=frozenset(demands), within=within)
    return _Thing(name, {"existence": existence, **(facts or {})})


def _fact(value: str, *demands: str, shown: str | None = None) -> Fact:
    return Fact(value, shown, frozenset(demands))


def _flag(demand: str, *, on: bool) -> Fact:
    return _fact("yes", demand) if on else _fact("no")


def _joined(spelling: ddl.Spelling) -> str:
    return " ".join(spelling)


def _listing(owner: str, parts: Iterable[str]) -> str:
    return f"{quote_name(owner)}({', '.join(parts)})"


def _named(name: str | None) -> Fact:
    return _fact("(unnamed)" if name is None else quote_name(name))


def _numbered(things: Iterable[_Thing]) -> Iterator[_Thing]:
    """Tell things of one name apart by a number that does not depend on the order of the text."""
    groups = _grouped((thing.name, thing) for thing in things)
    for name, group in groups.items():
        for number, thing in enumerate(sorted(group, key=_facts_as_text), start=1):
            yield thing if number == 1 else replace(thing, name=f"{name} ({number})")


def _facts_as_text(thing: _Thing) -> list[tuple[str, str]]:
    return sorted((aspect, str(fact.value)) for aspect, fact in thing.facts.items())


def _table_things(table: _Table, catalog: _Catalog) -> Iterator[_Thing]:
    yield _table(table)
    for position in range(len(table.columns)):
        yield _column(table, position)
    if table.key:
        yield _primary_key(table)
    for index in table.indexes:
        if index.origin == "u":
            yield _unique(table, index)
        if index.origin == "c":
            yield _index(table, index)
    for position in range(len(table.foreign_keys)):
        yield _foreign_key(table, position, catalog)
    for check in table.written.checks if table.written else ():
        yield _check(table, check)


def _table(table: _Table) -> _Thing:
    facts = {
        "column order": Fact(tuple(quote_name(column.name) for column in table.columns)),
        "WITHOUT ROWID": _fact("yes" if table.listed.without_rowid else "no"),
        "STRICT": _flag(f"strict {table.thing}", on=table.listed.strict),
    }
    if table.written is None:
        spelling = _joined(ddl.expression(ddl.tokens(table.sql), table.names))
        facts["definition"] = _fact(spelling, f"definition {table.thing} {spelling}")
    return _thing(table.thing, facts)


def _column(table: _Table, position: int) -> _Thing:
    column = table.columns[position]
    label = dotted(table.name, (column.name,))
    kind = affinity(column.type, strict=table.listed.strict)
    spelling = ddl.default(column.default)
    facts = {
        "type": _fact(
            _joined(ddl.type_spelling(column.type)),
            f"affinity {label} {kind}",
            shown=column.type or "(untyped)",
        ),
        "nullability": (_fact("NOT NULL", f"not null {label}") if column.not_null else _fact("nullable")),
        "default": _fact("(none)" if spelling is None else _joined(spelling)),
    }
    if table.written is not None:
        facts |= _written_column(label, column, table.written.columns[position])
    filled = column.default is not None or column.hidden in _GENERATED
    needed = bool(column.not_null) and not filled
    return _thing(
        f"column {label}",
        facts,
        within=table.thing,
        demands={f"value {label}"} if needed else (),
    )


def _written_column(label: str, column: _Column, written: ddl.Column) -> dict[str, Fact]:
    return {
        "generated": _generated(label, column, written),
        "collation": _fact(written.collation),
        "NOT NULL conflict clause": _fact(written.not_null_conflict),
        "constraint names": _fact(", ".join(sorted(written.names)) or "(none)"),
    }


def _generated(label: str, column: _Column, written: ddl.Column) -> Fact:
    if written.generated is None:
        return _fact("(no)", f"plain {label}")
    spelling = _joined(written.generated)
    storage = "STORED" if column.hidden == _STORED else "VIRTUAL"
    return _fact(f"AS ({spelling}) {storage}", f"generated {label} {spelling}")


def _primary_key(table: _Table) -> _Thing:
    index, written = table.key_index, table.written
    columns = index.columns if index else _rowid_column(table)
    parts = [_key_part(column, column.name or "") for column in columns]
    demands = {_unique_demand(table, parts)}
    alias = index is None
    if alias:
        demands |= {
            demand for column in table.key for demand in _rowid_demands(dotted(table.name, (column.name,)))
        }
    facts = {
        "column list": Fact(", ".join(part.shown for part in parts), demands=frozenset(demands)),
        "rowid alias": Fact("yes" if alias else "no", demands=frozenset(demands)),
    }
    if written is not None and written.primary_key is not None:
        facts |= _constraint(written.primary_key)
        facts["AUTOINCREMENT"] = _fact("yes" if written.autoincrement else "no")
    return _thing(f"primary key of {quote_name(table.name)}", facts, within=table.thing, demands=demands)


def _rowid_column(table: _Table) -> tuple[_IndexColumn, ...]:
    return tuple(_IndexColumn(column.name, False, "BINARY") for column in table.key)


def _rowid_demands(label: str) -> tuple[str, str]:
    return f"rowid {label}", f"not null {label}"


def _constraint(written: ddl.Key) -> dict[str, Fact]:
    return {"name": _named(written.name), "conflict clause": _fact(written.conflict)}


@dataclass(frozen=True)
class _KeyPart:
    """A column or expression of a key: as compared and shown, and without its direction."""

    shown: str
    undirected: str


def _key_part(column: _IndexColumn, name: str) -> _KeyPart:
    spelled = quote_name(name) if column.name is not None else f"({name})"
    collation = "" if column.collation == "BINARY" else f" COLLATE {column.collation}"
    direction = " DESC" if column.descending else ""
    return _KeyPart(f"{spelled}{collation}{direction}", f"{spelled}{collation}")


def _unique_demand(table: _Table, parts: Iterable[_KeyPart], where: str = "") -> str:
    """Whatever enforces it, the same uniqueness is the same demand."""
    listing = _listing(table.name, sorted(part.undirected for part in parts))
    return f"unique {listing} {where}"


def _unique(table: _Table, index: _Index) -> _Thing:
    parts = [_key_part(column, column.name or "") for column in index.columns]
    demands = {_unique_demand(table, parts)}
    shown = ", ".join(part.shown for part in parts)
    facts = {"column list": Fact(shown, demands=frozenset(demands))}
    written = _written_unique(table, index)
    if written is not None:
        facts |= _constraint(written)
    listing = _listing(table.name, (quote_name(column.name or "") for column in index.columns))
    return _thing(f"unique {listing}", facts, within=table.thing, demands=demands)


def _written_unique(table: _Table, index: _Index) -> ddl.Key | None:
    if table.written is None:
        return None
    collations = {ddl.fold(c.name): c.collation for c in table.written.columns}
    wanted = [(ddl.fold(column.name or ""), column.collation) for column in index.columns]
    for key in table.written.unique:
        names = [(ddl.fold(name), collation) for name, collation in key.columns]
        if [(name, written or collations.get(name)) for name, written in names] == wanted:
            return key
    return None


def _index(table: _Table, index: _Index) -> _Thing:
    written = ddl.read_index(index.sql)
    understood = written is not None and len(written.items) == len(index.columns)
    items = written.items if written and understood else ((),) * len(index.columns)
    expressions = [_joined(ddl.expression(item, table.names)) for item in items]
    parts = [
        _key_part(column, expression if column.name is None else column.name)
        for column, expression in zip(index.columns, expressions, strict=True)
    ]
    where = _joined(ddl.expression(written.where, table.names)) if written else "?"
    demands = {_unique_demand(table, parts, where)} if index.unique else set()
    values = {
        "table": quote_name(table.name),
        "column list": ", ".join(part.shown for part in parts),
        "unique": "yes" if index.unique else "no",
        "where": where or "(all rows)",
    }
    if not understood:
        values["definition"] = _joined(ddl.expression(ddl.tokens(index.sql), table.names))
    facts = {aspect: _fact(value, *demands) for aspect, value in values.items()}
    return _thing(f"index {quote_name(index.name)}", facts, within=table.thing, demands=demands)


def _foreign_key(table: _Table, position: int, catalog: _Catalog) -> _Thing:
    link = table.foreign_keys[position]
    child = _listing(table.name, (quote_name(column) for column in link.columns))
    facts = {"on update": _fact(link.on_update), "on delete": _fact(link.on_delete)}
    if table.written is not None:
        written = table.written.foreign_keys[position]
        facts["match"] = _fact(written.match)
        facts["deferrable"] = _fact(written.deferrable)
        facts["name"] = _named(written.name)
    name = f"foreign key {child} -> {_parent(link, catalog)}"
    return _thing(name, facts, within=table.thing)


def _parent(link: _ForeignKey, catalog: _Catalog) -> str:
    """Spell the parent as its own table does; name the primary key where it is only implied."""
    name = catalog.spelled(link.parent)
    table = catalog.tables.get(name)
    columns = [column for column in link.parent_columns if column is not None]
    if table is not None and not columns:
        columns = [column.name for column in table.key]
    if len(columns) != len(link.columns):
        return quote_name(name)
    spelled = table.names if table else {}
    return _listing(name, (quote_name(spelled.get(ddl.fold(item), item)) for item in columns))


def _check(table: _Table, check: ddl.Check) -> _Thing:
    name = f"check {quote_name(table.name)}: {_joined(check.expression)}"
    facts = {"name": _named(check.name)}
    return _thing(name, facts, within=table.thing, demands={name})


def _view(row: _Master) -> _Thing:
    spelling = ddl.statement(ddl.body(row.sql, "view"))
    return _thing(f"view {quote_name(row.name)}", {"body": _fact(_joined(spelling))})


def _trigger(row: _Master, catalog: _Catalog) -> _Thing:
    name = catalog.spelled(row.table)
    within = f"{'table' if name in catalog.tables else 'view'} {quote_name(name)}"
    spelling = ddl.statement(ddl.body(row.sql, "trigger"))
    facts = {"body": _fact(_joined(spelling))}
    return _thing(f"trigger {quote_name(row.name)}", facts, within=within)


def _virtual_table(row: _Master) -> _Thing:
    """Arguments belong to the module, which may read them as it likes: nothing is normalised."""
    arguments = " ".join(token.text for token in ddl.body(row.sql, "table")[1:])
    return _thing(f"virtual table {quote_name(row.name)}", {"arguments": _fact(arguments)})
