"""Carry out a plan: copy the rows, bring back what had to wait."""

from panicdb import closure as closures
from panicdb.backends.base import CopyStep, Snapshot, Staging
from panicdb.closure import Closure
from panicdb.planner import Plan, TablePlan
from panicdb.values import Monitor, Progress


def load_rows(
    plan: Plan, closure: Closure | None, snapshot: Snapshot, staging: Staging, monitor: Monitor
) -> None:
    """Copy the planned rows in one transaction. The snapshot ends with it."""
    steps = copy_steps(plan, closure, snapshot)
    whole = plan.selection is None
    staging.load(snapshot, steps, monitor, plan.bytes, whole=whole)
    monitor.report(Progress("building indexes"))
    staging.finish(snapshot, whole=whole)


def copy_steps(plan: Plan, closure: Closure | None, snapshot: Snapshot) -> tuple[CopyStep, ...]:
    """Turn the tables of a plan into what a backend copies."""
    return tuple(_step(table, closure, snapshot) for table in plan.tables)


def _step(table: TablePlan, closure: Closure | None, snapshot: Snapshot) -> CopyStep:
    entry = snapshot.catalog.tables[table.name]
    row = entry.table.alias("t")
    if closure is None or table.whole:
        return CopyStep(entry, None, row, {})
    nulls = {
        column: closures.parent_stays(closure, link, row)
        for link in closure.nulled
        if link.child == entry.name
        for column in link.child_columns
    }
    return CopyStep(entry, closure.keys[entry.name], row, nulls)
