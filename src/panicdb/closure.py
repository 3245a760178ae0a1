"""From roots to keys: the closed set of rows, kept as temporary key tables beside the snapshot.

The law is section "Closure" of docs/how-it-works.md. Links are walked in the order of the condensed link graph, each one
once, over complete sets of keys; inside a cycle of tables (a self link is the smallest) one anti-join first asks
whether its links add anything at all, and only then one recursive query walks them, however long the chains are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import OrderedJoin, Snapshot
from panicdb.errors import BudgetError, SelectionError, ViolationError
from panicdb.links import Edge, Graph, build_graph, components, find_table
from panicdb.roots import ROOT, Root, insert_roots
from panicdb.values import CatalogTable, Link, Selection

WHOLE = -2
"""`via` of a row that `--whole` brought; ROOT is -1; a link's number otherwise."""
OWNED, SUPPORT = 1, 0

Condition = sa.ColumnElement[bool]


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
                    f"rows of table {entry.name!r} can't be told apart: no key, and its columns hide the rowid",
                    hint=f"--exclude {entry.name}, or clone the whole database",
                )
            name = f"{self._prefix}_{len(self._tables)}"
            self._tables[entry.name] = self._snapshot.create_keys(name, entry)
        return self._tables[entry.name]

    def clear(self) -> None:
        """Forget every key."""
        for table in self._tables.values():
            self._snapshot.connection.execute(sa.delete(table))


@dataclass(frozen=True)
class Closure:
    """The result: key tables, valid as long as the snapshot is open, and what the policies met."""

    snapshot: Snapshot
    graph: Graph
    selection: Selection
    root: CatalogTable
    keys: KeySet
    nulled: Mapping[Link, int]
    """Rows whose link becomes NULL, per link of policy null."""
    kept: Mapping[Link, int]
    """Rows whose reference dangles in the source and was kept so."""

    def counts(self, table: str) -> tuple[int, int]:
        """Return (owned, support) rows of a table."""
        if table not in self.keys:
            return 0, 0
        keys = self.keys[table]
        total, owned = self.snapshot.connection.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(keys.c.owned), 0)).select_from(
                keys
            )
        ).one()
        return int(owned), int(total) - int(owned)

    def counts_by_way(self, table: str) -> Mapping[str, int]:
        """Return how many rows of a table came by which link, as roots, or by `--whole`."""
        keys = self.keys[table]
        rows = self.snapshot.connection.execute(
            sa.select(keys.c.via, sa.func.count()).group_by(keys.c.via).order_by(keys.c.via)
        )
        return {self.way(via): int(count) for via, count in rows}

    def way(self, via: int) -> str:
        """Spell how a row came."""
        return {ROOT: "chosen", WHOLE: "whole table"}.get(via) or str(self.graph.links[via])


def compute(snapshot: Snapshot, root: Root, selection: Selection) -> Closure:
    """Take the closure of the selected roots; writes temporary key tables only.

    Raises SelectionError and its kin for what does not fit, BudgetError, and ViolationError for references that dangle
    in the source.
    """
    graph = build_graph(snapshot.catalog, selection)
    if root.entry.name in graph.excluded:
        raise SelectionError(f"the root table {root.entry.name!r} can't be excluded")
    return _Builder(snapshot, graph, selection, root).build()


def owned_counts(snapshot: Snapshot, root: Root, selection: Selection) -> Mapping[str, int]:
    """Count the rows per table that the selected roots own, with default policies and budgets of `selection`."""
    graph = build_graph(snapshot.catalog, selection)
    builder = _Builder(snapshot, graph, selection, root)
    keys = builder.collect_owned()
    counts = {
        name: int(
            snapshot.connection.scalar(sa.select(sa.func.count()).select_from(keys[name])) or 0
        )
        for name in keys.tables()
        if name != root.entry.name
    }
    builder.discard()
    return counts


class _Builder:
    """One closure in the making: the steps of the law, in order."""

    def __init__(self, snapshot: Snapshot, graph: Graph, selection: Selection, root: Root) -> None:
        self._snapshot = snapshot
        self._connection = snapshot.connection
        self._catalog = snapshot.catalog
        self._graph = graph
        self._selection = selection
        self._chosen = root
        self._root = root.entry
        self._keys = KeySet(snapshot, "keys")
        self._blocked = KeySet(snapshot, "blocked")

    def build(self) -> Closure:
        self.collect_owned()
        self._drop()
        self._add_whole()
        self._spread(self._graph.up_edges(), SUPPORT)
        self._check_refused()
        nulled = self._count_nulled()
        kept = self._check_violations()
        return Closure(
            self._snapshot, self._graph, self._selection, self._root, self._keys, nulled, kept
        )

    def collect_owned(self) -> KeySet:
        keys = self._keys.ensure(self._root)
        insert_roots(self._snapshot, self._chosen, self._selection, keys)
        self._check_budget(self._root.name)
        self._spread(self._graph.down_edges(), OWNED)
        return self._keys

    def discard(self) -> None:
        for keys in (self._keys, self._blocked):
            for name in keys.tables():
                keys[name].drop(self._connection)

    # Walking

    def _spread(
        self,
        edges: Sequence[Edge],
        owned: int,
        *,
        into: KeySet | None = None,
        within: KeySet | None = None,
    ) -> None:
        """Follow edges from the rows in `into` until nothing is added; only rows of `within`, none that is blocked."""
        keys = into or self._keys
        walk = _Walk(self._snapshot, keys, within, self._blocked, owned)
        for group in components(edges):
            for edge in edges:
                if edge.goal in group and edge.origin not in group and edge.origin in keys:
                    walk.expand(edge, self._row_limit())
                    self._check_budget(edge.goal, edge)
            inner = [edge for edge in edges if edge.goal in group and edge.origin in group]
            if any(edge.origin in keys and walk.adds(edge) for edge in inner):
                walk.recurse(group, inner)
                self._check_budget(group[0], inner[0])

    def _row_limit(self) -> int | None:
        if self._selection.max_rows is None:
            return None
        return max(self._selection.max_rows - self._rows(), 0) + 1

    def _rows(self) -> int:
        return sum(
            int(
                self._connection.scalar(sa.select(sa.func.count()).select_from(self._keys[name]))
                or 0
            )
            for name in self._keys.tables()
        )

    def _check_budget(self, table: str, edge: Edge | None = None) -> None:
        rows_allowed, bytes_allowed = self._selection.max_rows, self._selection.max_bytes
        if rows_allowed is not None and self._rows() > rows_allowed:
            raise BudgetError(
                f"more than {rows_allowed} rows: the limit was passed in {self._path(table, edge)}",
                hint="choose fewer roots, cut a link with --link, or raise --max-rows",
            )
        if bytes_allowed is not None and self._bytes() > bytes_allowed:
            raise BudgetError(
                f"more than {bytes_allowed} bytes: the limit was passed in {self._path(table, edge)}",
                hint="choose fewer roots, cut a link with --link, or raise --max-bytes",
            )

    def _bytes(self) -> int:
        return sum(
            stored_bytes(self._snapshot, self._catalog.tables[name], self._keys[name])
            for name in self._keys.tables()
        )

    def _path(self, table: str, edge: Edge | None) -> str:
        """Name the tables from the root to where a budget burst, by the ways that most rows took."""
        path = [table] if edge is None else [table, edge.origin]
        while path[-1] != self._root.name and path[-1] in self._keys:
            keys = self._keys[path[-1]]
            via = self._connection.scalar(
                sa.select(keys.c.via).group_by(keys.c.via).order_by(sa.func.count().desc()).limit(1)
            )
            link = None if via is None or via < 0 else self._graph.links[via]
            following = link and (link.parent if link.child == path[-1] else link.child)
            if following is None or following in path:
                break
            path.append(following)
        return " -> ".join(reversed(path))

    # Rule 2: drop

    def _drop(self) -> None:
        """Remove rows that lead out of the owned ones, and what hung on them, until nothing changes.

        Blocked rows only grow, so this ends; each turn collects the owned rows anew, around all that is blocked.
        """
        while self._block_leaving_rows():
            self._keys.clear()
            self.collect_owned()

    def _block_leaving_rows(self) -> bool:
        fresh = KeySet(self._snapshot, f"leaving{len(self._blocked.tables())}")
        for number, link in self._leaving_links():
            self._insert_leaving(number, link, fresh)
        drops = [
            Edge(number, link, down=True)
            for number, link in self._graph.with_up("drop")
            if link.parent in self._catalog.tables
            and link not in self._graph.broken
            and link.child in self._keys
        ]
        self._spread(drops, OWNED, into=fresh, within=self._keys)
        found = False
        for name in fresh.tables():
            blocked = self._blocked.ensure(self._catalog.tables[name])
            moved = self._connection.execute(
                self._snapshot.insert_new(blocked).from_select(
                    [column.name for column in blocked.c], sa.select(fresh[name])
                )
            )
            found = found or moved.rowcount > 0
        self._refuse_dropped_roots(fresh)
        for name in fresh.tables():
            fresh[name].drop(self._connection)
        return found

    def _leaving_links(self) -> list[tuple[int, Link]]:
        words = ["drop"]
        if self._selection.violations == "drop":
            words += ["follow", "refuse"]
        return [pair for pair in self._graph.with_up(*words) if pair[1].child in self._keys]

    def _insert_leaving(self, number: int, link: Link, fresh: KeySet) -> None:
        dropping = self._graph.policy(link).up == "drop"
        rows = self._references(
            number, link, lambda row: self._absent(link, row, self._keys if dropping else None)
        )
        target = fresh.ensure(self._catalog.tables[link.child])
        child = rows.child
        columns = [
            *_identity(self._catalog.tables[link.child], child),
            sa.literal(OWNED),
            sa.literal(number),
        ]
        self._connection.execute(
            self._snapshot.insert_new(target).from_select(
                [column.name for column in target.c],
                sa.select(*columns).select_from(rows.source).where(*rows.conditions),
            )
        )

    def _refuse_dropped_roots(self, fresh: KeySet) -> None:
        name = self._root.name
        if name not in fresh:
            return
        keys, gone = self._keys[name], fresh[name]
        roots = self._connection.scalar(
            sa.select(sa.func.count())
            .select_from(OrderedJoin(gone, keys, _same_key(gone, keys)))
            .where(keys.c.via == ROOT)
        )
        if roots:
            raise SelectionError(
                f"dropping rows that lead out of the selection would remove {roots} of the chosen roots",
                hint="use another policy than drop on the links that lead away from them, or choose more roots",
            )

    # Rule 6: whole tables

    def _add_whole(self) -> None:
        for name in self._selection.whole:
            entry = find_table(self._catalog, name)
            if entry.name in self._graph.excluded:
                raise SelectionError(f"table {entry.name!r} is both excluded and wanted whole")
            keys = self._keys.ensure(entry)
            columns = [*_identity(entry, entry.table), sa.literal(SUPPORT), sa.literal(WHOLE)]
            self._connection.execute(
                self._snapshot.insert_new(keys).from_select(
                    [column.name for column in keys.c], sa.select(*columns)
                )
            )
            self._check_budget(entry.name)

    # Rules 3 to 6: what may not be

    def _check_refused(self) -> None:
        for number, link in self._links_of_result("refuse"):
            count = self._count(
                self._references(
                    number,
                    link,
                    lambda row, link=link: self._absent(link, row, self._keys, owned=True),
                )
            )
            if count:
                raise SelectionError(
                    f"{link} leads out of the selection in {count} rows, and its policy is refuse",
                    hint="choose more roots, or another policy",
                )
        for number, link in self._links_of_result("drop"):
            rows = self._references(
                number, link, lambda row, link=link: self._absent(link, row, self._keys)
            )
            count = self._count(rows, rows.keys.c.owned == SUPPORT)
            if count:
                raise SelectionError(
                    f"{count} rows of {link.child} that other rows need lead out of the selection over {link}, "
                    "and its policy drop can't remove what is needed",
                    hint="use null or follow on this link",
                )
        for number, link in self._links_of_result("follow", "refuse"):
            if link.parent in self._graph.excluded:
                count = self._count(self._references(number, link, None))
                if count:
                    raise SelectionError(
                        f"{count} rows of {link.child} reference the excluded table {link.parent} over {link}",
                        hint=f"--link '{link}=null' or drop, or do not exclude {link.parent}",
                    )

    def _count_nulled(self) -> Mapping[Link, int]:
        counts = {
            link: self._count(
                self._references(
                    number, link, lambda row, link=link: self._absent(link, row, self._keys)
                )
            )
            for number, link in self._links_of_result("null")
        }
        return {link: count for link, count in counts.items() if count}

    def _check_violations(self) -> Mapping[Link, int]:
        counts = {
            link: self._count(
                self._references(number, link, lambda row, link=link: self._absent(link, row, None))
            )
            for number, link in self._links_of_result("follow", "refuse")
            if link.parent not in self._graph.excluded
        }
        found = {link: count for link, count in counts.items() if count}
        if found and self._selection.violations != "keep":
            raise violation_error(found, dropping=self._selection.violations == "drop")
        return found

    def _links_of_result(self, *words: str) -> list[tuple[int, Link]]:
        return [pair for pair in self._graph.with_up(*words) if pair[1].child in self._keys]

    def _references(
        self, number: int, link: Link, absent: Callable[[sa.FromClause], Condition | None] | None
    ) -> "_References":
        """Select the rows of the result that reference something over `link`, where `absent` holds.

        Rows that came down this very link have their parent, as far as a reference leads to one parent only.
        """
        entry = self._catalog.tables[link.child]
        keys, child = self._keys[link.child].alias("k"), entry.table.alias("c")
        conditions: list[Condition] = [child.c[name].is_not(None) for name in link.child_columns]
        if self._leads_to_one(link):
            conditions.append(keys.c.via != number)
        missing = absent(child) if absent is not None else None
        if missing is not None:
            conditions.append(missing)
        source = OrderedJoin(keys, child, _same_row(entry, child, keys))
        return _References(keys, child, source, tuple(conditions))

    def _leads_to_one(self, link: Link) -> bool:
        return leads_to_one(self._snapshot, self._graph, link)

    def _absent(
        self, link: Link, child: sa.FromClause, keys: KeySet | None, *, owned: bool = False
    ) -> Condition | None:
        """Say that the parent is not in `keys` (not in the source, without keys); None where it never can be."""
        if link in self._graph.broken or (keys is not None and link.parent not in keys):
            return None
        return ~_parent_exists(self._snapshot, link, child, keys, owned=owned)

    def _count(self, rows: "_References", *more: Condition) -> int:
        statement = (
            sa.select(sa.func.count()).select_from(rows.source).where(*rows.conditions, *more)
        )
        return int(self._connection.scalar(statement) or 0)


@dataclass(frozen=True)
class _References:
    keys: sa.FromClause
    child: sa.FromClause
    source: sa.FromClause
    conditions: tuple[Condition, ...]


class _Walk:
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
            *_identity(self._catalog.tables[edge.goal], goal),
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
        statement = (
            self._reach(edge, goal, [sa.literal(1)]).where(self._unknown(edge.goal, goal)).limit(1)
        )
        return self._connection.execute(statement).first() is not None

    def recurse(self, group: tuple[str, ...], edges: Sequence[Edge]) -> None:
        """Follow the edges inside a cycle of tables to the end, in one recursive query for each table of it."""
        for name in group:
            self._keys.ensure(self._catalog.tables[name])
        number = {name: place for place, name in enumerate(group)}
        width = max(len(self._catalog.tables[name].identity) for name in group)
        reached = self._seeds(number, width).cte("reached", recursive=True)
        reached = reached.union(*(self._term(edge, number, width, reached) for edge in edges))
        for name in group:
            size = len(self._catalog.tables[name].identity)
            columns = [
                *(reached.c[f"k{n}"] for n in range(size)),
                sa.literal(self._owned),
                reached.c.via,
            ]
            known = (reached.c.place == number[name], reached.c.via >= 0)
            self._insert(name, sa.select(*columns).where(*known))

    def _seeds(self, number: Mapping[str, int], width: int) -> sa.Select[Any]:
        known = sa.union_all(
            *(
                sa.select(
                    sa.literal(place).label("place"),
                    *self._padded(list(self._key_columns(self._keys[name], name)), width),
                    sa.literal(ROOT).label("via"),
                )
                for name, place in number.items()
            )
        ).subquery("known")
        return sa.select(*known.c)

    def _term(
        self, edge: Edge, number: Mapping[str, int], width: int, reached: sa.CTE
    ) -> sa.Select[Any]:
        origin_entry, goal_entry = (
            self._catalog.tables[edge.origin],
            self._catalog.tables[edge.goal],
        )
        origin, goal = origin_entry.table.alias("origin"), goal_entry.table.alias("goal")
        step = OrderedJoin(reached, origin, self._same_row_exactly(origin_entry, origin, reached))
        return (
            sa.select(
                sa.literal(number[edge.goal]),
                *self._padded(
                    [self._snapshot.exact(column) for column in _identity(goal_entry, goal)], width
                ),
                sa.literal(edge.number),
            )
            .select_from(OrderedJoin(step, goal, self._linked(edge, origin, goal)))
            .where(reached.c.place == number[edge.origin], *self._allowed(edge.goal, goal))
        )

    def _key_columns(self, keys: sa.FromClause, name: str) -> Iterable[sa.ColumnElement[Any]]:
        for number in range(len(self._catalog.tables[name].identity)):
            yield self._snapshot.exact(keys.c[f"k{number}"])

    @staticmethod
    def _padded(columns: list[sa.ColumnElement[Any]], width: int) -> list[sa.ColumnElement[Any]]:
        padding = [sa.null()] * (width - len(columns))
        return [column.label(f"k{number}") for number, column in enumerate([*columns, *padding])]

    def _same_row_exactly(
        self, entry: CatalogTable, row: sa.FromClause, keys: sa.FromClause
    ) -> Condition:
        return sa.and_(
            *(
                row.c[name] == self._snapshot.exact(keys.c[f"k{n}"])
                for n, name in enumerate(entry.identity)
            )
        )

    def _reach(
        self, edge: Edge, goal: sa.FromClause, columns: list[sa.ColumnElement[Any]]
    ) -> sa.Select[Any]:
        """Select from keys -> origin rows -> goal rows, from the side that an index leads away from."""
        entry = self._catalog.tables[edge.origin]
        keys, origin = self._keys[edge.origin].alias("k"), entry.table.alias("origin")
        same, linked = _same_row(entry, origin, keys), self._linked(edge, origin, goal)
        if self._finds_goal(edge):
            source = OrderedJoin(OrderedJoin(keys, origin, same), goal, linked)
        else:
            source = OrderedJoin(OrderedJoin(goal, origin, linked), keys, same)
        statement = sa.select(*columns).select_from(source).where(*self._allowed(edge.goal, goal))
        return statement if edge.down else statement.where(*self._not_known_to_have(edge, keys))

    def _finds_goal(self, edge: Edge) -> bool:
        link, tables = edge.link, self._catalog.tables
        child = (tables[link.child], link.child_columns)
        parent = (tables[link.parent], link.parent_columns)
        return not edge.down or self._snapshot.can_look_up(*child, *parent)

    def _not_known_to_have(self, edge: Edge, keys: sa.FromClause) -> list[Condition]:
        """A row that came down a link has its parent already."""
        unique = unique_parent(self._catalog.tables[edge.link.parent], edge.link)
        return [keys.c.via != edge.number] if unique else []

    def _linked(self, edge: Edge, origin: sa.FromClause, goal: sa.FromClause) -> Condition:
        parent, child = (origin, goal) if edge.down else (goal, origin)
        return _linked(self._snapshot, edge.link, parent, child)

    def _allowed(self, table: str, row: sa.FromClause) -> list[Condition]:
        entry = self._catalog.tables[table]
        allowed = []
        if self._within is not None:
            allowed.append(_key_exists(entry, row, self._within[table]))
        if table in self._without:
            allowed.append(~_key_exists(entry, row, self._without[table]))
        return allowed

    def _unknown(self, table: str, row: sa.FromClause) -> Condition:
        keys = self._keys.ensure(self._catalog.tables[table])
        return ~_key_exists(self._catalog.tables[table], row, keys)

    def _insert(self, table: str, statement: sa.Select[Any]) -> None:
        keys = self._keys.ensure(self._catalog.tables[table])
        names = [column.name for column in keys.c]
        self._connection.execute(self._snapshot.insert_new(keys).from_select(names, statement))


def unique_parent(parent: CatalogTable, link: Link) -> bool:
    """Tell whether the parent's columns hold a unique key, so that a reference leads to one row at most."""
    return any(set(key) <= set(link.parent_columns) for key in parent.unique_keys)


def leads_to_one(snapshot: Snapshot, graph: Graph, link: Link) -> bool:
    """Tell whether a reference over a link that resolves leads to one parent at most."""
    return link not in graph.broken and unique_parent(snapshot.catalog.tables[link.parent], link)


def stored_bytes(snapshot: Snapshot, entry: CatalogTable, keys: sa.Table | None) -> int:
    """Estimate the bytes of the rows of a table, all or those with `keys`; reads no large value."""
    row = entry.table.alias("t")
    source: sa.FromClause = (
        row if keys is None else OrderedJoin(keys, row, _same_row(entry, row, keys))
    )
    size = sa.func.coalesce(sa.func.sum(snapshot.stored_bytes(row, entry.stored)), 0)
    return int(snapshot.connection.scalar(sa.select(size).select_from(source)) or 0)


def parent_stays(closure: Closure, link: Link, child: sa.FromClause) -> Condition:
    """Say, for rows of `child`, that the parent over `link` is in the result (for the policy null)."""
    if link in closure.graph.broken or link.parent not in closure.keys:
        return sa.false()
    return _parent_exists(closure.snapshot, link, child, closure.keys, owned=False)


def count_dangling(snapshot: Snapshot, graph: Graph, link: Link) -> int:
    """Count the rows of a whole table whose reference over `link` leads nowhere (MATCH SIMPLE); an anti-join."""
    child = snapshot.catalog.tables[link.child].table.alias("c")
    conditions: list[Condition] = [child.c[name].is_not(None) for name in link.child_columns]
    if link not in graph.broken:
        conditions.append(~_parent_exists(snapshot, link, child, None, owned=False))
    statement = sa.select(sa.func.count()).select_from(child).where(*conditions)
    return int(snapshot.connection.scalar(statement) or 0)


def violation_error(found: Mapping[Link, int], *, dropping: bool = False) -> ViolationError:
    """Say which links dangle in the source, by table, columns and count."""
    listed = "; ".join(
        f"{link.child}({', '.join(link.child_columns)}) -> {link.parent}: {count} rows"
        for link, count in found.items()
    )
    hint = (
        "they are needed by other rows, so they can't be dropped: keep them with --violations keep"
        if dropping
        else "repair the source, or use --violations keep (copy them as they are) or --violations drop (leave them out)"
    )
    return ViolationError(f"foreign keys are violated in the source: {listed}", hint=hint)


def _identity(entry: CatalogTable, row: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    return [row.c[name] for name in entry.identity]


def _same_row(entry: CatalogTable, row: sa.FromClause, keys: sa.FromClause) -> Condition:
    return sa.and_(
        *(row.c[name] == keys.c[f"k{number}"] for number, name in enumerate(entry.identity))
    )


def _same_key(one: sa.Table, other: sa.Table) -> Condition:
    return sa.and_(*(one.c[name] == other.c[name] for name in one.c.keys() if name.startswith("k")))


def _linked(
    snapshot: Snapshot, link: Link, parent: sa.FromClause, child: sa.FromClause
) -> Condition:
    pairs = zip(link.parent_columns, link.child_columns, strict=True)
    return sa.and_(*(snapshot.match(parent.c[ours], child.c[theirs]) for ours, theirs in pairs))


def _key_exists(entry: CatalogTable, row: sa.FromClause, keys: sa.Table) -> Condition:
    known = keys.alias("known")
    return sa.exists().select_from(known).where(_same_row(entry, row, known)).correlate(row)


def _parent_exists(
    snapshot: Snapshot, link: Link, child: sa.FromClause, keys: KeySet | None, *, owned: bool
) -> Condition:
    entry = snapshot.catalog.tables[link.parent]
    parent = entry.table.alias("p")
    source: sa.FromClause = parent
    conditions = [_linked(snapshot, link, parent, child)]
    if keys is not None:
        known = keys[link.parent].alias("known")
        source = OrderedJoin(parent, known, _same_row(entry, parent, known))
        if owned:
            conditions.append(known.c.owned == OWNED)
    return sa.exists().select_from(source).where(*conditions).correlate(child)
