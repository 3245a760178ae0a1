"""What tables hold, as digests: of a source's snapshot as it is to arrive, and of a target as it is read again."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import CopyStep, Snapshot, rows_of, value_of
from panicdb.digest import TableDigest, digest_rows
from panicdb.values import CatalogTable, Monitor, Progress


def digest_steps(
    snapshot: Snapshot, steps: Iterable[CopyStep], monitor: Monitor
) -> Mapping[str, TableDigest]:
    """Digest what a transfer brings, per table, as policies make it. Reads only."""
    digests = {}
    for step in steps:
        monitor.report(Progress("digesting", step.entry.name))
        columns = columns_of(step.entry)
        values = [value_of(step, name) for name in columns]
        digests[step.entry.name] = _digest(snapshot, step.entry, values, rows_of(step))
    return digests


def digest_tables(snapshot: Snapshot, names: Iterable[str], monitor: Monitor) -> Mapping[str, TableDigest]:
    """Digest whole tables. Reads only."""
    digests = {}
    for name in names:
        monitor.report(Progress("digesting", name))
        entry = snapshot.catalog.tables[name]
        digests[name] = _digest(
            snapshot, entry, [entry.table.c[each] for each in columns_of(entry)], entry.table
        )
    return digests


def columns_of(entry: CatalogTable) -> tuple[str, ...]:
    """Return the columns whose values count, in the digest's order: those that are stored, sorted."""
    return tuple(sorted(entry.stored))


def _digest(
    snapshot: Snapshot, entry: CatalogTable, values: list[sa.ColumnElement[Any]], rows: sa.FromClause
) -> TableDigest:
    statement = sa.select(*values).select_from(rows)
    return digest_rows(entry.name, columns_of(entry), snapshot.values(statement))
