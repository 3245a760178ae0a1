"""A schema as another engine has to understand it, and two of them compared.

Compared are tables, columns, the classes of their types, nullability, primary keys, unique sets, links with their
actions, and indexes by their columns. What only one engine can say is not compared: views, triggers, functions, the
text of CHECK constraints and defaults, collations, names of constraints.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from panicdb.backends.base import Snapshot
from panicdb.schema import EXISTENCE, Difference, Severity
from panicdb.values import CatalogTable, ColumnType, Link, dotted, quote_name

Convertible = Callable[[ColumnType, ColumnType], bool]
"""Tells whether values of a type of the source have a way to a type of the target."""
Columns = frozenset[str]


@dataclass(frozen=True)
class ColumnModel:
    """One column."""

    type: ColumnType
    required: bool
    """It allows no NULL."""
    computed: bool


@dataclass(frozen=True)
class TableModel:
    """One table."""

    name: str
    columns: Mapping[str, ColumnModel]
    primary_key: Columns
    unique: frozenset[Columns]
    """The primary key among them."""
    links: Mapping[tuple[tuple[str, ...], str, tuple[str, ...]], str]
    """By columns, parent and its columns: what happens to a child when its parent goes or changes."""
    indexes: frozenset[tuple[str, ...]]


Model = Mapping[str, TableModel]


def read_model(snapshot: Snapshot) -> Model:
    """Read the schema of every ordinary table. Reads the catalog only."""
    links: dict[str, list[Link]] = {}
    for link in snapshot.catalog.links:
        links.setdefault(link.child, []).append(link)
    return {
        entry.name: _table(snapshot, entry, links.get(entry.name, []))
        for entry in snapshot.catalog.ordinary()
    }


def _table(snapshot: Snapshot, entry: CatalogTable, links: list[Link]) -> TableModel:
    columns = {
        column.name: ColumnModel(
            snapshot.column_type(entry, column.name),
            required=bool(column.info["never_null"]) or column.name in entry.primary_key,
            computed=column.name not in entry.stored,
        )
        for column in entry.table.c
        if not column.system
    }
    return TableModel(
        entry.name,
        columns,
        frozenset(entry.primary_key),
        frozenset(map(frozenset, entry.unique_keys)),
        {(link.child_columns, link.parent, link.parent_columns): link.actions for link in links},
        frozenset(entry.indexes),
    )


def compare_models(source: Model, target: Model, convertible: Convertible) -> tuple[Difference, ...]:
    """Return what differs, gravest first: blocking is what rows of the source might not fit into."""
    found = [
        *_one_sided(source, target),
        *(
            difference
            for name in source.keys() & target.keys()
            for difference in _compare(source[name], target[name], convertible)
        ),
    ]
    return tuple(
        sorted(found, key=lambda each: (list(Severity).index(each.severity), each.object, each.property))
    )


def _one_sided(source: Model, target: Model) -> Iterator[Difference]:
    spelled = {name.lower(): name for name in target}
    for name in source.keys() - target.keys():
        other = spelled.get(name.lower())
        yield Difference(
            Severity.BLOCKING,
            f"table {quote_name(name)}",
            EXISTENCE if other is None else "name",
            name,
            other,
        )
    for name in target.keys() - source.keys():
        yield Difference(Severity.SEMANTIC, f"table {quote_name(name)}", EXISTENCE, None, name)


def _compare(source: TableModel, target: TableModel, convertible: Convertible) -> Iterator[Difference]:
    table = f"table {quote_name(source.name)}"
    for name in source.columns.keys() - target.columns.keys():
        yield Difference(Severity.BLOCKING, _column(source, name), EXISTENCE, name, None)
    for name in target.columns.keys() - source.columns.keys():
        column = target.columns[name]
        blocking = column.required and not column.computed
        yield Difference(
            Severity.BLOCKING if blocking else Severity.SEMANTIC, _column(source, name), EXISTENCE, None, name
        )
    for name in source.columns.keys() & target.columns.keys():
        yield from _compare_columns(
            _column(source, name), source.columns[name], target.columns[name], convertible
        )
    yield from _compare_sets(table, source, target)
    yield from _compare_links(table, source, target)
    for index in source.indexes - target.indexes:
        yield Difference(Severity.SEMANTIC, table, "index", ", ".join(index), None)


def _column(table: TableModel, name: str) -> str:
    return f"column {dotted(table.name, (name,))}"


def _compare_columns(
    name: str, source: ColumnModel, target: ColumnModel, convertible: Convertible
) -> Iterator[Difference]:
    if source.computed != target.computed:
        said = ["computed" if each.computed else "stored" for each in (source, target)]
        yield Difference(Severity.BLOCKING, name, "values", *said)
    elif not source.computed and not convertible(source.type, target.type):
        yield Difference(Severity.BLOCKING, name, "type", source.type.spelled, target.type.spelled)
    if source.required != target.required:
        said = ["NOT NULL" if each.required else "nullable" for each in (source, target)]
        yield Difference(
            Severity.BLOCKING if target.required else Severity.SEMANTIC, name, "nullability", *said
        )


def _compare_sets(table: str, source: TableModel, target: TableModel) -> Iterator[Difference]:
    if source.primary_key != target.primary_key:
        said = [", ".join(sorted(each.primary_key)) or None for each in (source, target)]
        severity = (
            Severity.SEMANTIC
            if target.primary_key in source.unique or not target.primary_key
            else Severity.BLOCKING
        )
        yield Difference(severity, table, "primary key", *said)
    for columns in source.unique - target.unique - {source.primary_key}:
        yield Difference(Severity.SEMANTIC, table, "unique", ", ".join(sorted(columns)), None)
    for columns in target.unique - source.unique - {target.primary_key}:
        yield Difference(Severity.BLOCKING, table, "unique", None, ", ".join(sorted(columns)))


def _compare_links(table: str, source: TableModel, target: TableModel) -> Iterator[Difference]:
    for key in source.links.keys() | target.links.keys():
        columns, parent, parent_columns = key
        spelled = f"{', '.join(columns)} -> {dotted(parent, parent_columns)}"
        mine, its = source.links.get(key), target.links.get(key)
        if mine is None:
            yield Difference(Severity.BLOCKING, table, "foreign key", None, spelled)
        elif its is None:
            yield Difference(Severity.SEMANTIC, table, "foreign key", spelled, None)
        elif mine != its:
            yield Difference(Severity.SEMANTIC, table, f"actions of {spelled}", mine, its)
