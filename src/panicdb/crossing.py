"""Rows that go from one engine to another: how each column converts, and what of the values would not arrive as it is.

Everything is found out before a row travels: a column without a known conversion and a value that the target can't hold
are refusals, and what arrives with a loss is counted, by the name of the loss.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from panicdb import conversion
from panicdb.backends.base import CopyStep, Snapshot, Staging, rows_of, value_of
from panicdb.backends.conversions import Arrival, Conversion
from panicdb.errors import SourceError
from panicdb.planner import Plan
from panicdb.values import Catalog, CatalogTable, Kind, Link, Monitor, Progress, dotted

LISTED = 40
METHOD = "stream"


@dataclass(frozen=True)
class Passage:
    """How the rows of one step travel."""

    step: CopyStep
    columns: tuple[str, ...]
    conversions: Mapping[str, Conversion]
    required: frozenset[str]
    """Columns in which the target wants no NULL."""
    unique: tuple[tuple[str, ...], ...]
    """The target's keys: sets of columns of which no two rows may be the same to it."""
    folding: frozenset[str]
    """Columns of which the target holds to be the same what differs."""
    plain: frozenset[str] = frozenset()
    """Columns that were found to hold nothing but plain values."""


@dataclass(frozen=True)
class Surveyed:
    """What was found of all values that are to travel."""

    passages: tuple[Passage, ...]
    losses: Mapping[str, Mapping[str, int]]
    """Rows by column and class."""


def plan_passages(snapshot: Snapshot, draft: Snapshot, steps: Sequence[CopyStep]) -> tuple[Passage, ...]:
    """Decide how each column of each step converts. Reads catalogs only. Raises SourceError where none is known."""
    passages, unknown = [], []
    for step in steps:
        there = draft.catalog.tables[step.entry.name]
        found = _conversions(snapshot, step.entry, draft, there)
        unknown += [
            f"{dotted(step.entry.name, (name,))}: {_pair(snapshot, step.entry, draft, there, name)}"
            for name, each in found.items()
            if each is None
        ]
        known = {name: each for name, each in found.items() if each is not None}
        required = frozenset(
            name
            for name in known
            if there.table.c[name].info["never_null"]
            and not (step.entry.table.c[name].info["never_null"] and name not in step.nulls)
        )
        folding = frozenset(name for name in known if draft.folds(there.table.c[name]))
        passages.append(Passage(step, tuple(known), known, required, there.unique_keys, folding))
    if unknown:
        raise SourceError(
            "there is no known conversion for " + "; ".join(_first(unknown)),
            hint="leave the table out with --exclude, or change the type in the application",
        )
    return tuple(passages)


def _conversions(
    snapshot: Snapshot, entry: CatalogTable, draft: Snapshot, there: CatalogTable
) -> Mapping[str, Conversion | None]:
    return {
        name: conversion.decide(
            snapshot.place.backend.name, snapshot.column_type(entry, name), draft.column_type(there, name)
        )
        for name in entry.stored
        if name in there.stored
    }


def _pair(snapshot: Snapshot, entry: CatalogTable, draft: Snapshot, there: CatalogTable, name: str) -> str:
    return f"{snapshot.column_type(entry, name).spelled} to {draft.column_type(there, name).spelled}"


def survey(snapshot: Snapshot, passages: Sequence[Passage], monitor: Monitor) -> Surveyed:
    """Look at every value that is to travel. Reads only.

    Raises SourceError with every column that holds what the target can't, and in how many rows.
    """
    unfit: list[str] = []
    losses: dict[str, dict[str, int]] = {}
    seen: list[Passage] = []
    for each in passages:
        table = each.step.entry.name
        monitor.report(Progress("looking at values", table))
        found = snapshot.survey(each.step, each.conversions, each.required)
        seen.append(replace(each, plain=found.plain))
        unfit += [
            f"{dotted(table, (name,))}: {count:,} rows: {reason}"
            for (name, reason), count in sorted(found.unfit.items())
        ]
        for (name, loss), count in sorted(found.losses.items()):
            losses.setdefault(dotted(table, (name,)), {})[loss] = count
    if unfit:
        raise SourceError(
            f"{snapshot.place.shown}: the target can't hold these values:\n  " + "\n  ".join(_first(unfit)),
            hint="mend them in the application, or leave the rows out (--where, --exclude)",
        )
    return Surveyed(tuple(seen), losses)


def require_distinct(snapshot: Snapshot, surveyed: Surveyed, staging: Staging) -> None:
    """Refuse rows that the target would hold to be the same where only one may be. Writes a temporary table.

    That takes a collation, or a loss: else what differs in the source differs in the target. Raises SourceError, by
    table, columns and number of rows.
    """
    found = []
    for each in surveyed.passages:
        table = each.step.entry.name
        doubtful = each.folding | {name for name in each.columns if dotted(table, (name,)) in surveyed.losses}
        keys = [key for key in each.unique if set(key) <= set(each.columns) and not doubtful.isdisjoint(key)]
        if keys:
            columns = tuple(dict.fromkeys(name for key in keys for name in key))
            counts = staging.count_repeated(_arrival(snapshot, each, columns), keys)
            found += [
                f"{dotted(table, key)}: {count:,} rows"
                for key, count in zip(keys, counts, strict=True)
                if count
            ]
    if found:
        raise SourceError(
            f"{snapshot.place.shown}: these rows differ in the source, and would be the same in the target, where only "
            "one may be:\n  " + "\n  ".join(_first(found)),
            hint="mend them in the application, or leave the rows out (--where, --exclude)",
        )


def require_links(snapshot: Snapshot, steps: Sequence[CopyStep], links: Iterable[Link]) -> None:
    """Refuse references that only hold as the source compares: by a collation, or after a conversion. Reads only.

    Raises SourceError, by link and number of rows.
    """
    by_table = {step.entry.name: step for step in steps}
    found = []
    for link in links:
        step = by_table.get(link.child)
        count = (
            0
            if step is None or link.parent not in snapshot.catalog.tables
            else _count_loose(snapshot, step, link)
        )
        if count:
            found.append(f"{link}: {count:,} rows")
    if found:
        raise SourceError(
            f"{snapshot.place.shown}: these references hold by a collation or a conversion of the source's engine, "
            "and would lead nowhere in the target:\n  " + "\n  ".join(_first(found)),
            hint="spell both sides alike in the application's own database first",
        )


def _count_loose(snapshot: Snapshot, step: CopyStep, link: Link) -> int:
    parent = snapshot.catalog.tables[link.parent].table.alias("p")
    pairs = [
        (parent.c[its], step.source.c[name])
        for its, name in zip(link.parent_columns, link.child_columns, strict=True)
    ]
    exact = [snapshot.match_exactly(*pair) for pair in pairs]
    if all(each is None for each in exact):
        return 0
    usual = [snapshot.match(*pair) for pair in pairs]
    strict = [one if one is not None else other for one, other in zip(exact, usual, strict=True)]
    one: sa.ColumnElement[int] = sa.literal_column("1")
    there = sa.select(one).select_from(parent)
    held = [value_of(step, name).is_not(None) for name in link.child_columns]
    statement = (
        sa.select(sa.func.count())
        .select_from(rows_of(step))
        .where(*held, sa.exists(there.where(*usual)), ~sa.exists(there.where(*strict)))
    )
    return int(snapshot.connection.scalar(statement) or 0)


def with_losses(plan: Plan, catalog: Catalog, losses: Mapping[str, Mapping[str, int]]) -> Plan:
    """Write into a plan how its rows travel, what of them will not arrive as it is, and what stays behind."""
    left = tuple(
        f"the virtual table {entry.name}, which only its own engine can keep"
        for entry in catalog.tables.values()
        if entry.kind is Kind.VIRTUAL
    )
    return replace(plan, method=METHOD, losses=losses, left_behind=(*plan.left_behind, *left))


def carry(
    snapshot: Snapshot, passages: Sequence[Passage], staging: Staging, monitor: Monitor, total: int
) -> None:
    """Let the rows travel, in one transaction of the target."""
    arrivals = tuple(_arrival(snapshot, each, each.columns) for each in passages)
    staging.receive(arrivals, snapshot.counters(), monitor, total)


def _arrival(snapshot: Snapshot, passage: Passage, columns: tuple[str, ...]) -> Arrival:
    return Arrival(
        passage.step.entry.name,
        columns,
        tuple(_reader(passage, name) for name in columns),
        snapshot.lines(passage.step, columns, passage.conversions, passage.plain),
    )


def _reader(passage: Passage, name: str) -> Callable[[str], Any]:
    chosen = passage.conversions[name]
    return chosen.quick if chosen.quick is not None and name in passage.plain else chosen.convert


def _first(found: Sequence[str]) -> list[str]:
    more = len(found) - LISTED
    return [*found[:LISTED], *([f"and {more} more"] if more > 0 else [])]
