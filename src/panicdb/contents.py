"""What tables hold: which rows are to arrive, as statements that read them, and the digests of them on either side."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import Comparison, CopyStep, Part, Snapshot, rows_of, value_of
from panicdb.digest import TableDigest, digest_rows
from panicdb.values import CatalogTable, Monitor, Progress

TIMES = "times"


@dataclass(frozen=True)
class Rows:
    """The rows of one table, as they are to be: statements whose results add up, and give the columns as c0, c1 ..."""

    table: str
    columns: tuple[str, ...]
    """In the digest's order."""
    statements: tuple[sa.Select[Any], ...]
    counted: sa.Select[Any] | None = None
    """Gives rows, too, and last how often each one is there."""
    whole: bool = False
    """All rows of the table, as they are."""
    forms: tuple[Callable[[Any], Any], ...] = ()
    """What is made of each column's values before they are compared: a form that two engines have in common. NULL is
    NULL, and never asked about. None: values count as they are."""


def whole_rows(entry: CatalogTable, columns: Sequence[str] | None = None) -> Rows:
    """Return all rows of a table as they are; with `columns`, of these, and NULL for one that is not there."""
    names = columns_of(entry) if columns is None else tuple(columns)
    values = [entry.table.c[name] if name in entry.stored else sa.null() for name in names]
    return Rows(entry.name, names, (_select(values, entry.table),), whole=True)


def arriving_rows(snapshot: Snapshot, entry: CatalogTable, steps: Sequence[CopyStep]) -> Rows:
    """Return what a target holds of a table after these steps, as policies make it; several are merged."""
    columns = columns_of(entry)
    if any(step.keys is None for step in steps):
        return whole_rows(entry)
    if not steps:
        none = _select([entry.table.c[name] for name in columns], entry.table).where(sa.false())
        return Rows(entry.name, columns, (none,))
    if len(steps) == 1 or any(_is_never_null(entry, key) for key in entry.unique_keys):
        return Rows(entry.name, columns, tuple(_each_once(entry, steps, columns)))
    keyed = tuple(_each_once(entry, steps, columns, keyed=True)) if entry.unique_keys else ()
    return Rows(entry.name, columns, keyed, _as_often_as_anywhere(snapshot, entry, steps, columns))


def arriving(snapshot: Snapshot, names: Iterable[str], steps: Sequence[CopyStep]) -> Mapping[str, Rows]:
    """Return what a target holds of each table after all these steps; of one without a step, nothing."""
    tables = snapshot.catalog.tables
    return {
        name: arriving_rows(snapshot, tables[name], [step for step in steps if step.entry.name == name])
        for name in names
    }


def columns_of(entry: CatalogTable) -> tuple[str, ...]:
    """Return the columns whose values count, in the digest's order: those that are stored, sorted."""
    return tuple(sorted(entry.stored))


def count(snapshot: Snapshot, rows: Rows) -> int:
    """Count rows. Reads only."""
    numbers = [sa.select(sa.func.count()).select_from(each.subquery()) for each in rows.statements]
    if rows.counted is not None:
        numbers.append(sa.select(sa.func.coalesce(sa.func.sum(rows.counted.subquery().c[TIMES]), 0)))
    return sum(int(snapshot.connection.scalar(number) or 0) for number in numbers)


def digest(snapshot: Snapshot, rows: Rows, monitor: Monitor) -> TableDigest:
    """Digest rows. Reads only."""
    monitor.report(Progress("digesting", rows.table))
    return digest_rows(rows.table, rows.columns, values(snapshot, rows))


def digest_all(snapshot: Snapshot, monitor: Monitor) -> Mapping[str, TableDigest]:
    """Digest every ordinary table of a database. Reads only."""
    return {entry.name: digest(snapshot, whole_rows(entry), monitor) for entry in snapshot.catalog.ordinary()}


def digest_columns(
    snapshot: Snapshot, tables: Mapping[str, Sequence[str]], monitor: Monitor
) -> Mapping[str, TableDigest]:
    """Digest tables by these columns; one that is not there has no digest. Reads only."""
    there = snapshot.catalog.tables
    return {
        name: digest(snapshot, whole_rows(there[name], columns), monitor)
        for name, columns in tables.items()
        if name in there
    }


def digest_rows_of(
    snapshot: Snapshot, entry: CatalogTable, statements: Iterable[sa.Select[Any]]
) -> TableDigest:
    """Digest what statements read of a table, by its stored columns in their own order. Reads only."""
    names = columns_of(entry)
    places = [entry.stored.index(name) for name in names]
    found = TableDigest(0, 0)
    for statement in statements:
        rows = ([row[place] for place in places] for row in snapshot.values(statement))
        found += digest_rows(entry.name, names, rows)
    return found


def held(comparison: Comparison, rows: Mapping[str, Rows], snapshot: Snapshot) -> frozenset[str]:
    """Let the engine tell which tables of the other side hold exactly these rows, as far as it can. Reads only."""
    parts = [
        Part(snapshot.catalog.tables[name], each.columns, each.statements[0], each.whole)
        for name, each in rows.items()
        if each.counted is None and len(each.statements) == 1
    ]
    return comparison.held(parts)


def values(snapshot: Snapshot, rows: Rows) -> Iterator[tuple[Any, ...]]:
    """Read rows, in their forms. Reads only."""
    stored = chain(chain.from_iterable(map(snapshot.values, rows.statements)), _repeated(snapshot, rows))
    return _formed(stored, rows.forms) if rows.forms else stored


def _formed(
    stored: Iterable[tuple[Any, ...]], forms: Sequence[Callable[[Any], Any]]
) -> Iterator[tuple[Any, ...]]:
    for row in stored:
        yield in_forms(row, forms)


def in_forms(row: Sequence[Any], forms: Sequence[Callable[[Any], Any]]) -> tuple[Any, ...]:
    """Bring the values of a row into their forms."""
    return tuple(None if value is None else form(value) for value, form in zip(row, forms, strict=True))


def _repeated(snapshot: Snapshot, rows: Rows) -> Iterator[tuple[Any, ...]]:
    if rows.counted is not None:
        for *row, times in snapshot.values(rows.counted):
            yield from repeat(tuple(row), times)


def _select(columns: Sequence[sa.ColumnElement[Any]], rows: sa.FromClause) -> sa.Select[Any]:
    return sa.select(*(value.label(f"c{number}") for number, value in enumerate(columns))).select_from(rows)


def _each_once(
    entry: CatalogTable, steps: Sequence[CopyStep], columns: tuple[str, ...], *, keyed: bool = False
) -> Iterator[sa.Select[Any]]:
    """Rows of all steps, each once; with `keyed` only those that some key tells apart."""
    for number, step in enumerate(steps):
        statement = _select([value_of(step, name) for name in columns], rows_of(step))
        for earlier in steps[:number]:
            statement = statement.where(sa.not_(_is_among(entry, step, earlier)))
        yield statement.where(sa.not_(_unkeyed(entry, step))) if keyed else statement


def _is_among(entry: CatalogTable, step: CopyStep, earlier: CopyStep) -> sa.ColumnElement[bool]:
    assert earlier.keys is not None  # noqa: S101 - whole tables need no such question
    same = [step.source.c[name] == earlier.keys.c[f"k{n}"] for n, name in enumerate(entry.identity)]
    return sa.exists(sa.select(sa.literal(1)).select_from(earlier.keys).where(*same))


def _as_often_as_anywhere(
    snapshot: Snapshot, entry: CatalogTable, steps: Sequence[CopyStep], columns: tuple[str, ...]
) -> sa.Select[Any]:
    """Of equal rows that no key tells apart a merge keeps as many as the side with more of them has."""
    groups = []
    for step in steps:
        stored = [value_of(step, name) for name in columns]
        alike = [part for value in stored for part in snapshot.alike(value)]
        parts = [
            *(value.label(f"c{n}") for n, value in enumerate(stored)),
            *(part.label(f"a{n}") for n, part in enumerate(alike)),
            sa.func.count().label("rows"),
        ]
        groups.append(
            sa.select(*parts).select_from(rows_of(step)).where(_unkeyed(entry, step)).group_by(*alike)
        )
    every = sa.union_all(*groups).subquery()
    same = [column for name, column in every.c.items() if name.startswith("a")]
    labelled = [every.c[f"c{n}"] for n in range(len(columns))]
    return sa.select(*labelled, sa.func.max(every.c.rows).label(TIMES)).group_by(*same)


def _is_never_null(entry: CatalogTable, key: tuple[str, ...]) -> bool:
    return all(entry.table.c[name].info["never_null"] for name in key)


def _unkeyed(entry: CatalogTable, step: CopyStep) -> sa.ColumnElement[bool]:
    """Say that a row has a NULL in every unique key."""
    keys = entry.unique_keys
    return sa.and_(sa.true(), *(sa.or_(*(value_of(step, name).is_(None) for name in key)) for key in keys))
