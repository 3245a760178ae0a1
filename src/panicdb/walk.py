"""Walking links over sets of keys: one query an edge, one recursive query a cycle."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import OrderedJoin, Snapshot
from panicdb.errors import SelectionError
from panicdb.links import Edge
from panicdb.roots import ROOT
from panicdb.values import CatalogTable, Link

OWNED, SUPPORT = 1, 0

Condition = sa.ColumnElement[bool]
_Blanks = Sequence[sa.ColumnElement[Any]]
"""What stands in the place of each key column of a cycle's tables, in rows of another of them."""


class KeySet:
    """Key tables by table name, made when first needed."""

    def __init__(self, snapshot: Snapshot, prefix: str) -> None:
        self._snapshot = snapshot
        self._prefix = prefix
        self._tables: dict[str, sa.Table] = {}

    def __contains__(self, table: str) -> bool:
        return table in self._tables

    def __getitem__(self, table: str) -> sa.Table:
        return self._tables[table]

    def tables(self) -> tuple[str, ...]:
        """Return the names of the tables that keys were made for."""
        return tuple(self._tables)

    def ensure(self, entry: CatalogTable) -> sa.Table:
        """Return the key table of `entry`, creating it if need be. Raises SelectionError without an identity."""
        if entry.name not in self._tables:
            if not entry.identity:
                raise SelectionError(
                    f"rows of table {entry.name!r} can't be told apart: there is no rowid to be seen, "
                    "and no key without NULLs that is unique as its columns compare",
                    hint=f"--exclude {entry.name}, or clone the whole database",
                )
            name = f"{self._prefix}_{len(self._tables)}"
            self._tables[entry.name] = self._snapshot.create_keys(name, entry)
        return self._tables[entry.name]

    def clear(self) -> None:
        """Forget every key."""
        for table in self._tables.values():
            self._snapshot.connection.execute(sa.delete(table))


class Walk:
    """How edges are followed: one query an edge, one recursive query a cycle."""

    def __init__(
        self,
        snapshot: Snapshot,
        keys: KeySet,
        within: KeySet | None,
        without: KeySet,
        owned: int,
    ) -> None:
        self._snapshot = snapshot
        self._connection = snapshot.connection
        self._catalog = snapshot.catalog
        self._keys = keys
        self._within = within
        self._without = without
        self._owned = owned

    def expand(self, edge: Edge, limit: int | None) -> None:
        """Insert what one edge reaches from all keys of its origin."""
        goal = self._catalog.tables[edge.goal].table.alias("goal")
        columns = [
            *identity(self._catalog.tables[edge.goal], goal),
            sa.literal(self._owned),
            sa.literal(edge.number),
        ]
        statement = self._reach(edge, goal, columns)
        if limit is not None:
            statement = statement.where(self._unknown(edge.goal, goal)).distinct().limit(limit)
        self._insert(edge.goal, statement)

    def adds(self, edge: Edge) -> bool:
        """Tell whether an edge reaches any row that is not known: one anti-join."""
        if edge.goal not in self._keys:
            self._keys.ensure(self._catalog.tables[edge.goal])
        goal = self._catalog.tables[edge.goal].table.alias("goal")
        statement = self._reach(edge, goal, [sa.literal(1)]).where(self._unknown(edge.goal, goal)).limit(1)
        return self._connection.execute(statement).first() is not None

    def recurse(self, group: tuple[str, ...], edges: Sequence[Edge]) -> None:
        """Follow the edges inside a cycle of tables to the end, in one recursive query for each table of it."""
        for name in group:
            self._keys.ensure(self._catalog.tables[name])
        # Each table has places of its own, since types and collations of keys differ from table to table.
        number: dict[str, int] = {}
        blanks: list[sa.ColumnElement[Any]] = []
        for name in group:
            number[name] = len(blanks)
            blanks += [_blank(column) for column in self._key_columns(self._keys[name], name)]
        reached = self._snapshot.recursive(
            self._seeds(number, blanks), [partial(self._term, edge, number, blanks) for edge in edges]
        )
        for name in group:
            size = len(self._catalog.tables[name].identity)
            columns = [
                *(reached.c[f"k{number[name] + n}"] for n in range(size)),
                sa.literal(self._owned),
                reached.c.via,
            ]
            known = (reached.c.place == number[name], reached.c.via >= 0)
            self._insert(name, sa.select(*columns).where(*known))

    def _seeds(self, number: Mapping[str, int], blanks: _Blanks) -> sa.Select[Any]:
        known = sa.union_all(
            *(
                sa.select(
                    sa.literal(place).label("place"),
                    *self._padded(list(self._key_columns(self._keys[name], name)), place, blanks),
                    sa.literal(ROOT).label("via"),
                )
                for name, place in number.items()
            )
        ).subquery("known")
        return sa.select(*known.c)

    def _term(
        self, edge: Edge, number: Mapping[str, int], blanks: _Blanks, reached: sa.FromClause
    ) -> sa.Select[Any]:
        origin_entry, goal_entry = (
            self._catalog.tables[edge.origin],
            self._catalog.tables[edge.goal],
        )
        columns = edge.link.child_columns if edge.down else edge.link.parent_columns
        origin = origin_entry.table.alias("origin")
        goal = self._snapshot.indexed(goal_entry, columns).alias("goal")
        known = self._same_row_exactly(origin_entry, origin, reached, number[edge.origin])
        step = OrderedJoin(reached, origin, known)
        return (
            sa.select(
                sa.literal(number[edge.goal]),
                *self._padded(
                    [self._snapshot.exact(column) for column in identity(goal_entry, goal)],
                    number[edge.goal],
                    blanks,
                ),
                sa.literal(edge.number),
            )
            .select_from(OrderedJoin(step, goal, self._joined(edge, origin, goal)))
            .where(reached.c.place == number[edge.origin], *self._allowed(edge.goal, goal))
        )

    def _key_columns(self, keys: sa.FromClause, name: str) -> Iterable[sa.ColumnElement[Any]]:
        for number in range(len(self._catalog.tables[name].identity)):
            yield self._snapshot.exact(keys.c[f"k{number}"])

    @staticmethod
    def _padded(
        columns: list[sa.ColumnElement[Any]], start: int, blanks: _Blanks
    ) -> list[sa.ColumnElement[Any]]:
        before, after = blanks[:start], blanks[start + len(columns) :]
        return [column.label(f"k{number}") for number, column in enumerate([*before, *columns, *after])]

    def _same_row_exactly(
        self, entry: CatalogTable, row: sa.FromClause, keys: sa.FromClause, start: int
    ) -> Condition:
        return sa.and_(
            *(
                row.c[name] == self._snapshot.exact(keys.c[f"k{n}"])
                for n, name in enumerate(entry.identity, start)
            )
        )

    def _reach(self, edge: Edge, goal: sa.FromClause, columns: list[sa.ColumnElement[Any]]) -> sa.Select[Any]:
        """Select from keys -> origin rows -> goal rows, from the side that an index leads away from."""
        entry = self._catalog.tables[edge.origin]
        keys, origin = self._keys[edge.origin].alias("k"), entry.table.alias("origin")
        same, linked = same_row(entry, origin, keys), self._joined(edge, origin, goal)
        if self._finds_goal(edge):
            source = OrderedJoin(OrderedJoin(keys, origin, same), goal, linked)
        else:
            source = OrderedJoin(OrderedJoin(goal, origin, linked), keys, same)
        statement = sa.select(*columns).select_from(source).where(*self._allowed(edge.goal, goal))
        if edge.down:
            return statement
        parent = self._catalog.tables[edge.link.parent]
        return statement.where(*has_parent(parent, edge.link, edge.number, keys))

    def _finds_goal(self, edge: Edge) -> bool:
        link, tables = edge.link, self._catalog.tables
        child = (tables[link.child], link.child_columns)
        parent = (tables[link.parent], link.parent_columns)
        return not edge.down or self._snapshot.can_look_up(*child, *parent)

    def _joined(self, edge: Edge, origin: sa.FromClause, goal: sa.FromClause) -> Condition:
        parent, child = (origin, goal) if edge.down else (goal, origin)
        return linked(self._snapshot, edge.link, parent, child)

    def _allowed(self, table: str, row: sa.FromClause) -> list[Condition]:
        entry = self._catalog.tables[table]
        allowed = []
        if self._within is not None:
            allowed.append(key_exists(entry, row, self._within[table]))
        if table in self._without:
            allowed.append(~key_exists(entry, row, self._without[table]))
        return allowed

    def _unknown(self, table: str, row: sa.FromClause) -> Condition:
        keys = self._keys.ensure(self._catalog.tables[table])
        return ~key_exists(self._catalog.tables[table], row, keys)

    def _insert(self, table: str, statement: sa.Select[Any]) -> None:
        self._snapshot.add_keys(self._keys.ensure(self._catalog.tables[table]), statement)


def _blank(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """NULL, of the column's type where columns have one."""
    return sa.null() if isinstance(column.type, sa.types.NullType) else sa.cast(sa.null(), column.type)


def unique_parent(parent: CatalogTable, link: Link) -> bool:
    """Tell whether the parent's columns hold a unique key, so that a reference leads to one row at most."""
    return any(set(key) <= set(link.parent_columns) for key in parent.unique_keys)


def has_parent(parent: CatalogTable, link: Link, number: int, keys: sa.FromClause) -> list[Condition]:
    """Leave out the rows that came down this very link: they have their parent, if there can be one only."""
    came_down = sa.and_(keys.c.owned == OWNED, keys.c.via == number)
    return [~came_down] if unique_parent(parent, link) else []


def identity(entry: CatalogTable, row: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """Return the columns of `row` that identify it."""
    return [row.c[name] for name in entry.identity]


def same_row(entry: CatalogTable, row: sa.FromClause, keys: sa.FromClause) -> Condition:
    """Say that a row has the key in `keys`."""
    return sa.and_(*(row.c[name] == keys.c[f"k{number}"] for number, name in enumerate(entry.identity)))


def same_key(one: sa.Table, other: sa.Table) -> Condition:
    """Say that two key tables hold the same key."""
    return sa.and_(
        *(one.c[name] == other.c[name] for name in (column.name for column in one.c) if name.startswith("k"))
    )


def linked(snapshot: Snapshot, link: Link, parent: sa.FromClause, child: sa.FromClause) -> Condition:
    """Say that `child` references `parent` over a link, as the engine's foreign keys compare."""
    pairs = zip(link.parent_columns, link.child_columns, strict=True)
    return sa.and_(*(snapshot.match(parent.c[ours], child.c[theirs]) for ours, theirs in pairs))


def key_exists(entry: CatalogTable, row: sa.FromClause, keys: sa.Table) -> Condition:
    """Say that the key of `row` is in `keys`."""
    known = keys.alias("known")
    return sa.exists().select_from(known).where(same_row(entry, row, known)).correlate(row)


def parent_exists(
    snapshot: Snapshot, link: Link, child: sa.FromClause, keys: KeySet | None, *, owned: bool = False
) -> Condition:
    """Say that the parent of `child` is in the source, or in `keys` (as an owned row, if `owned`)."""
    entry = snapshot.catalog.tables[link.parent]
    parent = entry.table.alias("p")
    source: sa.FromClause = parent
    conditions = [linked(snapshot, link, parent, child)]
    if keys is not None:
        known = keys[link.parent].alias("known")
        source = OrderedJoin(parent, known, same_row(entry, parent, known))
        if owned:
            conditions.append(known.c.owned == OWNED)
    return sa.exists().select_from(source).where(*conditions).correlate(child)
