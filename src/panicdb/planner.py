"""Plans: what will be done, as values that can be shown before anything is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from panicdb import closure as closures
from panicdb import profiles
from panicdb.backends.base import CopyStep, OrderedJoin, Snapshot, rows_of
from panicdb.closure import Closure
from panicdb.links import Graph
from panicdb.profiles import Files
from panicdb.references import count_dangling
from panicdb.revisions import Route
from panicdb.roots import ROOT
from panicdb.values import Catalog, CatalogTable, Link, Selection, Violations, dotted

SAMPLED_ROWS = 200
WEIGHED_FROM = 10_000_000
"""Bytes of a source below which a table's share of rows is estimate enough."""


@dataclass(frozen=True)
class TablePlan:
    """What travels of one table."""

    name: str
    rows: int
    owned: int
    support: int
    source_rows: int
    whole: bool
    """Every row travels unchanged, so no keys are needed."""
    bytes: int
    """An estimate: exact lengths where the plan is the result, a sample's where it is carried out."""
    ways: Mapping[str, int]
    """Rows by how they came: chosen, whole table, or a link."""
    nulled: Mapping[str, int]
    """Rows by the link that becomes NULL in them."""


@dataclass(frozen=True)
class Plan:
    """A transfer, decided."""

    command: str
    source: str
    source_id: str
    """See `Place.fingerprint`."""
    root: str | None
    roots: tuple[str, ...]
    """Keys of the chosen roots, as text; only where they were chosen by id."""
    selection: Selection | None
    revisions: Mapping[str, tuple[str, ...]]
    route: Route
    method: str
    """How rows travel: `attach`, `copy`, `stream`."""
    tables: tuple[TablePlan, ...]
    """Tables with rows to copy, parents first as far as there is an order."""
    empty: Mapping[str, int]
    """Tables that stay empty, with the rows that the source has in them."""
    policies: Mapping[str, str]
    """Links with another policy than `follow`."""
    kept: Mapping[str, int]
    """Rows by the link that dangles in the source and is kept so."""
    left_behind: tuple[str, ...]
    """What no target gets, in words: rows of the source, and files that rows which travel point to."""
    notes: tuple[str, ...]
    losses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Between engines: what will not arrive as it is, as rows by column and class of loss."""
    present: Mapping[str, int] | None = None
    """Rows that the target has already, per table; only where they are to be merged into it."""

    @property
    def rows(self) -> int:
        """All rows that travel."""
        return sum(table.rows for table in self.tables)

    @property
    def bytes(self) -> int:
        """An estimate of the bytes that travel."""
        return sum(table.bytes for table in self.tables)


def plan_subset(snapshot: Snapshot, closure: Closure, route: Route, *, measure: bool = False) -> Plan:
    """Plan the transfer of a closure; `measure` sums exact lengths instead of sampling."""
    snapshot.check_portable()
    entries = snapshot.catalog.ordinary()
    tables = [_plan_table(closure, entry, measure=measure) for entry in entries if entry.name in closure.keys]
    moving = tuple(table for table in tables if table.rows)
    names = {table.name for table in moving}
    return Plan(
        command="export",
        source=snapshot.place.shown,
        source_id=snapshot.place.fingerprint(),
        root=closure.root.name,
        roots=_root_keys(closure),
        selection=closure.selection,
        revisions=stamped_revisions(snapshot.catalog, route.stamped),
        route=route,
        method=snapshot.method,
        tables=moving,
        empty={entry.name: count_rows(snapshot, entry) for entry in entries if entry.name not in names},
        policies={str(link): str(policy) for link, policy in closure.graph.policies.items()},
        kept={str(link): count for link, count in closure.kept.items()},
        left_behind=(
            *snapshot.left_behind(),
            *_count_files(snapshot, {name: closure.keys[name] for name in names}),
        ),
        notes=snapshot.notes(),
    )


def plan_whole(snapshot: Snapshot, graph: Graph, route: Route, violations: Violations) -> Plan:
    """Plan the transfer of every row of every ordinary table. Raises ViolationError unless they are kept."""
    snapshot.check_portable()
    counts = {entry.name: count_rows(snapshot, entry) for entry in snapshot.catalog.ordinary()}
    found = find_violations(snapshot, graph)
    if found and violations != "keep":
        raise closures.violation_error(found)
    total, size = sum(counts.values()), snapshot.size()
    return Plan(
        command="clone",
        source=snapshot.place.shown,
        source_id=snapshot.place.fingerprint(),
        root=None,
        roots=(),
        selection=None,
        revisions=stamped_revisions(snapshot.catalog, route.stamped),
        route=route,
        method=snapshot.method,
        tables=tuple(
            TablePlan(
                name,
                rows,
                rows,
                0,
                rows,
                whole=True,
                bytes=size * rows // total,
                ways={},
                nulled={},
            )
            for name, rows in counts.items()
            if rows
        ),
        empty={name: 0 for name, rows in counts.items() if not rows},
        policies={},
        kept={str(link): count for link, count in found.items()},
        left_behind=(*snapshot.left_behind(), *_count_files(snapshot, dict.fromkeys(counts))),
        notes=snapshot.notes(),
    )


def stamped_revisions(
    catalog: Catalog, stamped: Mapping[str, tuple[str, ...]]
) -> Mapping[str, tuple[str, ...]]:
    """A source's own version rows hold; what the user said of it fills in where it has none."""
    own = {table: rows for table, rows in catalog.revisions.items() if rows or table not in stamped}
    return {**stamped, **own}


def restamped(plan: Plan, catalog: Catalog, stamped: Mapping[str, tuple[str, ...]]) -> Plan:
    """Return a plan whose target has these version rows: its migrations name the table, if the source has none."""
    route = replace(plan.route, stamped=stamped)
    return replace(plan, route=route, revisions=stamped_revisions(catalog, stamped))


def find_violations(snapshot: Snapshot, graph: Graph) -> Mapping[Link, int]:
    """Count the dangling references of every link over whole tables."""
    counts = {link: count_dangling(snapshot, graph, link) for link in graph.links}
    return {link: count for link, count in counts.items() if count}


def count_rows(snapshot: Snapshot, entry: CatalogTable) -> int:
    """Count the rows of a table."""
    return int(snapshot.connection.scalar(sa.select(sa.func.count()).select_from(entry.table)) or 0)


def _count_files(snapshot: Snapshot, travelling: Mapping[str, sa.Table | None]) -> tuple[str, ...]:
    """Say how many rows that travel name files: by table, the keys of these rows, or None for all. Reads only."""
    found = (
        (each, _count_naming(snapshot, each, travelling[each.table]))
        for each in profiles.files(snapshot.catalog)
        if each.table in travelling
    )
    return tuple(
        f"{count:,} rows of {dotted(each.table, each.columns)} name files, which stay where they are"
        for each, count in found
        if count
    )


def _count_naming(snapshot: Snapshot, files: Files, keys: sa.Table | None) -> int:
    entry = snapshot.catalog.tables[files.table]
    row = entry.table.alias("t")
    named = sa.or_(*(row.c[name] != "" for name in files.columns))  # neither NULL nor empty
    only = [row.c["key"].in_(files.keys)] if files.keys else []
    rows = rows_of(CopyStep(entry, keys, row, {}))
    statement = sa.select(sa.func.count()).select_from(rows).where(named, *only)
    return int(snapshot.connection.scalar(statement) or 0)


def _plan_table(closure: Closure, entry: CatalogTable, *, measure: bool) -> TablePlan:
    counts = closure.count(entry.name)
    rows = counts.owned + counts.support
    nulled = {str(link): count for link, count in closure.nulled.items() if link.child == entry.name}
    source_rows = count_rows(closure.snapshot, entry)
    size = _measure(closure, entry) if measure else _sample(closure, entry, rows, source_rows)
    return TablePlan(
        name=entry.name,
        rows=rows,
        owned=counts.owned,
        support=counts.support,
        source_rows=source_rows,
        whole=not nulled and rows == source_rows,
        bytes=size,
        ways=counts.ways,
        nulled=nulled,
    )


def _measure(closure: Closure, entry: CatalogTable) -> int:
    return closures.stored_bytes(closure.snapshot, entry, closure.keys[entry.name])


def _sample(closure: Closure, entry: CatalogTable, rows: int, source_rows: int) -> int:
    """Weigh a few rows; good enough to show how far a load has come. What takes moments needs no weighing."""
    if closure.snapshot.size() < WEIGHED_FROM:
        tables = len(closure.snapshot.catalog.ordinary())
        return closure.snapshot.size() * rows // max(source_rows, 1) // tables
    keys = closure.keys[entry.name]
    sample = sa.select(keys).limit(SAMPLED_ROWS).subquery("sample")
    size = closures.stored_bytes(closure.snapshot, entry, sample)
    return size * rows // min(rows, SAMPLED_ROWS) if rows else 0


def _root_keys(closure: Closure) -> tuple[str, ...]:
    if not closure.selection.ids:
        return ()
    entry, keys = closure.root, closure.keys[closure.root.name]
    row = entry.table.alias("r")
    same = [row.c[name] == keys.c[f"k{number}"] for number, name in enumerate(entry.identity)]
    key = row.c[entry.primary_key[0]]
    statement = (
        sa.select(key)
        .select_from(OrderedJoin(keys, row, sa.and_(*same)))
        .where(keys.c.via == ROOT)
        .order_by(key)
    )
    return tuple(_key_text(value) for value in closure.snapshot.connection.scalars(statement))


def _key_text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
