"""Carry out a plan: build the schema, copy the rows, bring back what had to wait."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from panicdb import closure as closures
from panicdb.backends.base import CopyStep, Snapshot, Staging
from panicdb.closure import Closure
from panicdb.planner import Plan, TablePlan
from panicdb.revisions import Replayer, ReplayError
from panicdb.schema import Difference, Severity, compare
from panicdb.values import Monitor, Progress


@dataclass(frozen=True)
class Built:
    """How the target's schema came about."""

    method: str
    reason: str
    differences: tuple[Difference, ...] = ()
    """What the migrations build otherwise than the source has it (then the schema was copied)."""
    cleared: Mapping[str, int] = field(default_factory=dict)
    """Rows that migrations inserted, per table: cleared before the copy."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a receipt."""
        return {
            "method": self.method,
            "reason": self.reason,
            "differences": [str(difference) for difference in self.differences],
            "cleared": dict(self.cleared),
        }


def build_schema(
    plan: Plan, snapshot: Snapshot, staging: Staging, replayer: Replayer, monitor: Monitor
) -> Built:
    """Give the draft the source's schema: by its migrations, else from its own definitions, said either way."""
    staging.needed = plan.bytes
    if plan.route.method == "migrations":
        monitor.report(Progress("running migrations"))
        built = _build_by_migrations(plan, snapshot, staging, replayer, monitor)
        if built.method == "migrations":
            return built
        staging.reset()
    else:
        built = Built("copy", plan.route.reason)
    monitor.report(Progress("copying the schema"))
    staging.copy_schema(snapshot)
    return built


def _build_by_migrations(
    plan: Plan, snapshot: Snapshot, staging: Staging, replayer: Replayer, monitor: Monitor
) -> Built:
    history = plan.route.history
    assert history is not None  # noqa: S101 - the route says migrations
    (rows,) = plan.revisions.values()
    staging.prepare(snapshot)
    try:
        directory = Path(staging.directory())
        replayer.replay(history, rows, directory, staging.url(), monitor, held=staging.held())
    except ReplayError as error:
        return Built("copy", error.message)
    with staging.open() as built:
        differences = compare(snapshot.facts(), built.facts())
    if any(difference.severity is not Severity.COSMETIC for difference in differences):
        return Built("copy", f"the migrations build {len(differences)} differences", differences)
    return Built("migrations", plan.route.reason, differences, staging.adopt_schema())


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
