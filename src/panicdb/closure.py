"""From roots to keys: the closed set of rows, kept as temporary key tables beside the snapshot.

The law is section "Closure" of docs/how-it-works.md. Links are walked in the order of the condensed link graph, each
once, over complete sets of keys; inside a cycle of tables (a self link is the smallest) one anti-join first asks
whether its links add anything at all, and only then one recursive query walks them, however long the chains are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from panicdb.backends.base import OrderedJoin, Snapshot
from panicdb.errors import BudgetError, SelectionError, ViolationError
from panicdb.links import Edge, Graph, build_graph, components, find_table
from panicdb.references import Lacking, References
from panicdb.roots import ROOT, Root, insert_roots
from panicdb.values import CatalogTable, Link, Selection
from panicdb.walk import OWNED, SUPPORT, Condition, KeySet, Walk, identity, parent_exists, same_key, same_row

WHOLE = -2
"""`via` of a row that `--whole` brought; ROOT is -1; a link's number otherwise."""


@dataclass(frozen=True)
class Counts:
    """Rows of one table in a closure: owned, support, and by the link they came by."""

    owned: int
    support: int
    ways: Mapping[str, int]


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

    def count(self, table: str) -> "Counts":
        """Count the rows of a table that is part of the result, by how they came."""
        keys = self.keys[table]
        groups = [keys.c.via, keys.c.owned]
        rows = self.snapshot.connection.execute(
            sa.select(*groups, sa.func.count()).group_by(*groups).order_by(*groups)
        ).all()
        ways: dict[str, int] = {}
        for row in rows:
            ways[self.way(row[0])] = ways.get(self.way(row[0]), 0) + int(row[2])
        owned = sum(int(row[2]) for row in rows if row[1])
        return Counts(owned, sum(ways.values()) - owned, ways)

    def way(self, via: int) -> str:
        """Spell how a row came."""
        return {ROOT: "chosen", WHOLE: "whole table"}.get(via) or str(self.graph.links[via])


def compute(snapshot: Snapshot, root: Root, selection: Selection, *, number: int = 0) -> Closure:
    """Take the closure of the selected roots; writes temporary key tables only, which `number` tells from others.

    Raises SelectionError and its kin for what does not fit, BudgetError, and ViolationError for references that dangle
    in the source.
    """
    graph = build_graph(snapshot.catalog, selection)
    if root.entry.name in graph.excluded:
        raise SelectionError(
            f"the root table {root.entry.name!r} can't be excluded",
            hint="choose another --root, or leave that out",
        )
    return _Builder(snapshot, graph, selection, root, number).build()


def owned_counts(snapshot: Snapshot, root: Root, selection: Selection) -> Mapping[str, int]:
    """Count the rows per table that the selected roots own, with default policies and budgets of `selection`."""
    graph = build_graph(snapshot.catalog, selection)
    builder = _Builder(snapshot, graph, selection, root)
    keys = builder.collect_owned()
    counts = {
        name: int(snapshot.connection.scalar(sa.select(sa.func.count()).select_from(keys[name])) or 0)
        for name in keys.tables()
        if name != root.entry.name
    }
    builder.discard()
    return counts


class _Builder:
    """One closure in the making: the steps of the law, in order."""

    def __init__(
        self, snapshot: Snapshot, graph: Graph, selection: Selection, root: Root, number: int = 0
    ) -> None:
        self._snapshot = snapshot
        self._connection = snapshot.connection
        self._catalog = snapshot.catalog
        self._graph = graph
        self._selection = selection
        self._chosen = root
        self._root = root.entry
        self._number = number
        self._keys = KeySet(snapshot, f"keys{number}")
        self._blocked = KeySet(snapshot, f"blocked{number}")
        self._references = References(snapshot, graph, self._keys)

    def build(self) -> Closure:
        self.collect_owned()
        self._drop()
        self._add_whole()
        self._spread(self._graph.up_edges(), SUPPORT)
        self._check_refused()
        nulled = self._count_nulled()
        kept = self._check_violations()
        return Closure(self._snapshot, self._graph, self._selection, self._root, self._keys, nulled, kept)

    def collect_owned(self) -> KeySet:
        keys = self._keys.ensure(self._root)
        insert_roots(self._snapshot, self._chosen, self._selection, keys)
        self._check_budget(self._root.name)
        self._spread(self._graph.down_edges(), OWNED)
        return self._keys

    def discard(self) -> None:
        for keys in (self._keys, self._blocked):
            for name in keys.tables():
                self._snapshot.drop_keys(keys[name])

    # Walking

    def _spread(
        self,
        edges: Sequence[Edge],
        owned: int,
        *,
        into: KeySet | None = None,
        within: KeySet | None = None,
    ) -> None:
        """Follow edges from the rows in `into` until nothing is added; only rows of `within`, none that is blocked.

        Blocked rows are not owned, but other rows may need them: then they are support, which `_check_refused` judges.
        """
        keys = into or self._keys
        blocked = self._blocked if owned == OWNED else KeySet(self._snapshot, "none")
        walk = Walk(self._snapshot, keys, within, blocked, owned)
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
            int(self._connection.scalar(sa.select(sa.func.count()).select_from(self._keys[name])) or 0)
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
        fresh = KeySet(self._snapshot, f"leaving{self._number}_{len(self._blocked.tables())}")
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
            found = self._snapshot.add_keys(blocked, sa.select(fresh[name])) > 0 or found
        self._refuse_dropped_roots(fresh)
        for name in fresh.tables():
            self._snapshot.drop_keys(fresh[name])
        return found

    def _leaving_links(self) -> list[tuple[int, Link]]:
        words = ["drop"]
        if self._selection.violations == "drop":
            words += ["follow", "refuse"]
        return [pair for pair in self._graph.with_up(*words) if pair[1].child in self._keys]

    def _insert_leaving(self, number: int, link: Link, fresh: KeySet) -> None:
        dropping = self._graph.policy(link).up == "drop"
        lacking = Lacking.RESULT if dropping else Lacking.SOURCE
        rows = self._references.rows(number, link, lacking)
        target = fresh.ensure(self._catalog.tables[link.child])
        found = identity(self._catalog.tables[link.child], rows.child)
        columns = [*found, sa.literal(OWNED), sa.literal(number)]
        chosen = sa.select(*columns).select_from(rows.source).where(*rows.conditions)
        self._snapshot.add_keys(target, chosen)

    def _refuse_dropped_roots(self, fresh: KeySet) -> None:
        name = self._root.name
        if name not in fresh:
            return
        keys, gone = self._keys[name], fresh[name]
        roots = self._connection.scalar(
            sa.select(sa.func.count())
            .select_from(OrderedJoin(gone, keys, same_key(gone, keys)))
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
                raise SelectionError(
                    f"table {entry.name!r} is both excluded and wanted whole", hint="leave one of them out"
                )
            keys = self._keys.ensure(entry)
            columns = [*identity(entry, entry.table), sa.literal(SUPPORT), sa.literal(WHOLE)]
            self._snapshot.add_keys(keys, sa.select(*columns))
            self._check_budget(entry.name)

    # Rules 3 to 6: what may not be

    def _check_refused(self) -> None:
        for number, link in self._links_of_result("refuse"):
            count = self._references.count(number, link, Lacking.OWNED)
            if count:
                raise SelectionError(
                    f"{link} leads out of the selection in {count} rows, and its policy is refuse",
                    hint="choose more roots, or another policy",
                )
        for number, link in self._links_of_result("drop"):
            count = self._references.count(number, link, Lacking.RESULT, support_only=True)
            if count:
                raise SelectionError(
                    f"{count} rows of {link.child} that other rows need lead out of the selection over {link}, "
                    "and its policy drop can't remove what is needed",
                    hint="use null or follow on this link",
                )
        for number, link in self._links_of_result("follow", "refuse"):
            excluded = link.parent in self._graph.excluded
            count = self._references.count(number, link, Lacking.ANYTHING) if excluded else 0
            if count:
                raise SelectionError(
                    f"{count} rows of {link.child} reference the excluded table {link.parent} over {link}",
                    hint=f"--link '{link}=null' or drop, or do not exclude {link.parent}",
                )

    def _count_nulled(self) -> Mapping[Link, int]:
        counts = {
            link: self._references.count(number, link, Lacking.RESULT)
            for number, link in self._links_of_result("null")
        }
        return {link: count for link, count in counts.items() if count}

    def _check_violations(self) -> Mapping[Link, int]:
        counts = {
            link: self._references.count(number, link, Lacking.SOURCE)
            for number, link in self._links_of_result("follow", "refuse")
            if link.parent not in self._graph.excluded
        }
        found = {link: count for link, count in counts.items() if count}
        if found and self._selection.violations != "keep":
            raise violation_error(found, dropping=self._selection.violations == "drop")
        return found

    def _links_of_result(self, *words: str) -> list[tuple[int, Link]]:
        return [pair for pair in self._graph.with_up(*words) if pair[1].child in self._keys]


def stored_bytes(snapshot: Snapshot, entry: CatalogTable, keys: sa.FromClause | None) -> int:
    """Estimate the bytes of the rows of a table, all or those with `keys`; reads no large value."""
    row = entry.table.alias("t")
    source: sa.FromClause = row if keys is None else OrderedJoin(keys, row, same_row(entry, row, keys))
    size = sa.func.coalesce(sa.func.sum(snapshot.stored_bytes(row, entry.stored)), 0)
    return int(snapshot.connection.scalar(sa.select(size).select_from(source)) or 0)


def parent_stays(closure: Closure, link: Link, child: sa.FromClause) -> Condition:
    """Say, for rows of `child`, that the parent over `link` is in the result or nothing is referenced (policy null)."""
    none = sa.or_(*(child.c[name].is_(None) for name in link.child_columns))
    if link in closure.graph.broken or link.parent not in closure.keys:
        return none
    return sa.or_(none, parent_exists(closure.snapshot, link, child, closure.keys))


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
