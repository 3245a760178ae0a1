"""Rows into a target that exists: what is there with the same content is skipped, nothing is ever overwritten."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from panicdb.backends.base import Conflict, CopyStep, Merging, Overlap, Snapshot
from panicdb.errors import CheckFailedError, ConflictError, TargetError
from panicdb.links import build_graph
from panicdb.planner import Plan, count_rows
from panicdb.references import count_dangling
from panicdb.schema import Difference, Severity, compare
from panicdb.values import Link, Monitor, Progress, Selection

SHOWN = 20
"""Conflicts and differences that a message lists; the rest is counted."""


@dataclass(frozen=True)
class Stand:
    """How a target stands: rows per table, counters, references that lead nowhere."""

    rows: Mapping[str, int]
    sequences: Mapping[str, int]
    dangling: Mapping[Link, int]


@dataclass(frozen=True)
class Merged:
    """What a merge did, or would do: rows per table that were there, and that came."""

    present: Mapping[str, int]
    added: Mapping[str, int]


def require_same_schema(snapshot: Snapshot, target: Snapshot) -> None:
    """Refuse a target of another revision, or with blocking or semantic differences of schema. Reads only."""
    ours, theirs = snapshot.catalog.revisions, target.catalog.revisions
    if ours != theirs:
        raise TargetError(
            f"{target.place.shown}: at revision {_spelled(theirs)}, the source at {_spelled(ours)}",
            hint="bring both to one revision with the application's own migrations, or export into a new file",
        )
    differences = [
        each for each in compare(snapshot.facts(), target.facts()) if each.severity is not Severity.COSMETIC
    ]
    if differences:
        raise TargetError(
            f"{target.place.shown}: its schema differs from the source's:\n{_listed(differences)}",
            hint="export into a new file instead",
        )


def take_stand(target: Snapshot) -> Stand:
    """Note down how the target stands. Reads only."""
    graph = build_graph(target.catalog, Selection())
    return Stand(
        rows={entry.name: count_rows(target, entry) for entry in target.catalog.ordinary()},
        sequences=target.sequences(),
        dangling={link: count_dangling(target, graph, link) for link in graph.links},
    )


def find_overlap(steps: Iterable[CopyStep], merging: Merging, monitor: Monitor) -> Mapping[str, Overlap]:
    """Compare what is to come with what is there. Raises ConflictError; reads only."""
    overlaps: dict[str, Overlap] = {}
    for step in steps:
        monitor.report(Progress("comparing", step.entry.name))
        overlaps[step.entry.name] = merging.compare(step)
    total = sum(overlap.conflicts for overlap in overlaps.values())
    if total:
        listed = [conflict for overlap in overlaps.values() for conflict in overlap.listed]
        raise _conflict_error(merging, listed, total)
    return overlaps


def add_rows(
    steps: Iterable[CopyStep], overlaps: Mapping[str, Overlap], merging: Merging, monitor: Monitor
) -> Merged:
    """Insert what is absent. Raises ConflictError where the target refuses a row all the same."""
    added: dict[str, int] = {}
    for step in steps:
        name = step.entry.name
        monitor.report(Progress("merging", name))
        added[name] = merging.insert(step)
        lacking = overlaps[name].absent - added[name]
        if lacking:
            listed = merging.refused(step) or (Conflict(name, "its rows", ()),)
            raise _conflict_error(merging, listed, lacking)
    merging.finish()
    return Merged({name: overlap.present for name, overlap in overlaps.items()}, added)


def check(before: Stand, after: Stand, merged: Merged, plan: Plan, counters: Mapping[str, int]) -> None:
    """Hold what the target has become against what it should be. Raises CheckFailedError."""
    wrong = [
        f"{name}: {rows} rows, {before.rows[name] + merged.added.get(name, 0)} expected"
        for name, rows in after.rows.items()
        if rows != before.rows[name] + merged.added.get(name, 0)
    ]
    wrong += [
        f"{table.name}: {merged.present[table.name] + merged.added[table.name]} of {table.rows} rows"
        for table in plan.tables
        if merged.present[table.name] + merged.added[table.name] != table.rows
    ]
    wrong += [
        f"{link}: {count} rows lead nowhere"
        for link, count in after.dangling.items()
        if count > before.dangling[link] + plan.kept.get(str(link), 0)
    ]
    wrong += [
        f"the counter of {name} stands at {after.sequences.get(name, 'nothing')}"
        for name, value in {**before.sequences, **counters}.items()
        if after.sequences.get(name, -1) < max(value, before.sequences.get(name, value))
    ]
    if wrong:
        raise CheckFailedError(
            f"the merged target is not what was planned, so nothing was committed: {'; '.join(wrong)}",
            hint="please report this: it is a fault of panicdb",
        )


def _conflict_error(merging: Merging, listed: Iterable[Conflict], total: int) -> ConflictError:
    conflicts = list(listed)
    rows = "1 row has" if total == 1 else f"{total} rows have"
    lines = [f"  {each.table}: {each.key} {_columns(each)}" for each in conflicts[:SHOWN]]
    more = total - len(lines)
    lines += [f"  ... and {more} more"] if more > 0 else []
    return ConflictError(
        f"{merging.target.place.shown}: {rows} a key that is there with other content; nothing was merged:\n"
        + "\n".join(lines),
        hint="merge into another file, or make source and target agree on these rows first",
    )


def _columns(conflict: Conflict) -> str:
    if not conflict.columns:
        return "is refused by an index or a constraint"
    return "differs in " + ", ".join(conflict.columns)


def _listed(differences: list[Difference]) -> str:
    lines = [f"  {each.severity}: {each}" for each in differences[:SHOWN]]
    more = len(differences) - len(lines)
    return "\n".join(lines + ([f"  ... and {more} more"] if more else []))


def _spelled(revisions: Mapping[str, tuple[str, ...]]) -> str:
    return "; ".join(", ".join(rows) or "none" for rows in revisions.values()) or "no version table"
