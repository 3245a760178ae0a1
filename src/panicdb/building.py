"""Give a draft the source's schema: by migrations, proven equal; else by the source's own definitions, and say why."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from panicdb.backends.base import Snapshot, Staging
from panicdb.errors import HistoryError
from panicdb.histories import History, Way
from panicdb.model import Convertible, Model, compare_models, read_model
from panicdb.replays import Goal, Order, Replayer, ReplayError
from panicdb.revisions import Assignment, Route
from panicdb.schema import Difference, Severity, compare, has_table, without_tables
from panicdb.values import Facts, Monitor, Progress

WAYS: Mapping[Way, str] = {
    "environment": "by its env.py",
    "bypass": "past its env.py",
    "command": "by its own command",
}
MIGRATED = "what its migrations build"
LISTED = 20
"""Differences that an error lists; all of them are in the receipt of a copy, and in `panicdb drift --json`."""


@dataclass(frozen=True)
class Built:
    """How the target's schema came about."""

    method: str
    """`migrations`, `copy`, or, where nothing was built: `merge`, `given`."""
    reason: str
    differences: tuple[Difference, ...] = ()
    """What the migrations build otherwise than the source has it (then the schema was copied)."""
    cleared: Mapping[str, int] = field(default_factory=dict)
    """Rows that migrations inserted, per table: cleared before the copy."""
    way: Way | None = None
    """How the migrations ran that built it, or that were compared; None where none ran to their end."""
    protection: str = ""
    """What the kernel forbade them, beside the guard; empty for nothing."""
    failures: tuple[str, ...] = ()
    """Ways that did not work, and why."""
    put_back: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Version rows that no upgrade leaves, since another one stands for them: as the source has them."""
    stamped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Version rows that the user gave to a source without any."""

    @property
    def ran(self) -> bool:
        """Tell whether migrations ran, whatever came of it."""
        return self.way is not None or bool(self.failures)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a receipt."""
        return {
            "method": self.method,
            "reason": self.reason,
            "differences": [
                told(difference, "the target" if self.method == "given" else MIGRATED)
                for difference in self.differences
            ],
            "cleared": dict(self.cleared),
            "way": self.way,
            "protection": self.protection,
            "failures": list(self.failures),
            "put_back": {table: list(rows) for table, rows in self.put_back.items()},
            "stamped": {table: list(rows) for table, rows in self.stamped.items()},
        }


def told(difference: Difference, other: str = MIGRATED) -> str:
    """Say what of the live schema is not what its migrations build, or not as some other one has it."""
    return f"{difference.severity}: {difference.describe('the source', other)}"


@dataclass(frozen=True)
class Yardstick:
    """What a schema that was built is measured by: the source's."""

    differences: Callable[[Snapshot, Mapping[str, tuple[str, ...]]], tuple[Difference, ...]]
    """Compare a draft; version tables that it has by the user's word alone are left out where the source has none."""
    accepts: Callable[[Iterable[Difference]], bool]


def exactly(live: Facts) -> Yardstick:
    """Measure by every fact of a live schema of the same engine: nothing may differ."""

    def differences(draft: Snapshot, stamped: Mapping[str, tuple[str, ...]]) -> tuple[Difference, ...]:
        unknown = [table for table in stamped if not has_table(live, table)]
        return compare(live, without_tables(draft.facts(), unknown))

    return Yardstick(differences, lambda found: not any(True for _ in found))


def as_another_engine_can(model: Model, convertible: Convertible) -> Yardstick:
    """Measure by what two engines have in common: every row of the source has to fit."""

    def differences(draft: Snapshot, stamped: Mapping[str, tuple[str, ...]]) -> tuple[Difference, ...]:
        del stamped  # version tables are no part of a model
        return compare_models(model, read_model(draft), convertible)

    return Yardstick(differences, lambda found: all(each.severity is not Severity.BLOCKING for each in found))


def build_schema(
    route: Route, snapshot: Snapshot, staging: Staging, replayer: Replayer, monitor: Monitor
) -> Built:
    """Give the draft the source's schema. Writes to the draft only.

    Raises HistoryError if only migrations will do and they build something else, WrongDatabaseError if they tried to
    reach another database.
    """
    yardstick = exactly(snapshot.facts())
    if staging.stands(lambda there: _is_same(there, snapshot, yardstick)):
        return Built("given", "the target has it already", cleared=staging.adopt_schema())
    if route.method == "migrations":
        built = replay(route, snapshot, yardstick, staging, replayer, monitor)
        if built.method == "migrations":
            return replace(built, cleared=staging.adopt_schema())
        if route.required:
            raise _not_built(built, route)
        staging.reset()
        built = replace(built, put_back={})  # with all version rows as they are
    else:
        built = Built("copy", route.reason)
    monitor.report(Progress("copying the schema"))
    staging.copy_schema(snapshot)
    return built


def build_schema_across(
    route: Route,
    snapshot: Snapshot,
    yardstick: Yardstick,
    staging: Staging,
    replayer: Replayer,
    monitor: Monitor,
) -> Built:
    """Give the draft of another engine the source's schema: by migrations, the only exact way. Writes to the draft.

    Raises HistoryError if they build something that rows of the source don't fit into, or can't be run.
    """
    if staging.stands(lambda there: _is_same(there, snapshot, yardstick)):
        with staging.open() as there:
            differences = yardstick.differences(there, {})
        return Built("given", "the target has it already", differences, cleared=staging.adopt_schema())
    built = replay(route, snapshot, yardstick, staging, replayer, monitor)
    if built.method != "migrations":
        raise _not_built_across(built, staging)
    return replace(built, cleared=staging.adopt_schema())


def _is_same(there: Snapshot, snapshot: Snapshot, yardstick: Yardstick) -> bool:
    same_revisions = there.catalog.revisions == snapshot.catalog.revisions
    return same_revisions and yardstick.accepts(yardstick.differences(there, {}))


def replay(
    route: Route,
    snapshot: Snapshot,
    yardstick: Yardstick,
    staging: Staging,
    replayer: Replayer,
    monitor: Monitor,
) -> Built:
    """Run the route's histories on the draft, in the first way that works, and compare. Writes to the draft only.

    `snapshot` may have ended, if the draft was prepared from it before. The method of the result is `migrations` only
    where the yardstick accepts what was built, version rows included.
    """
    monitor.report(Progress("running migrations"))
    failures: list[str] = []
    nearest: Built | None = None
    for attempt in _attempts(route):
        staging.reset()
        staging.prepare(snapshot)
        try:
            protection = _run(attempt, staging, replayer, monitor)
        except ReplayError as error:
            _note(failures, attempt.way, error)
            continue
        built = _compared(attempt, yardstick, staging, protection, tuple(failures))
        if built.method == "migrations":
            return built
        if nearest is None or len(built.differences) < len(nearest.differences):
            nearest = built
        if not attempt.bound:  # another way would build the same
            break
    if nearest is not None:
        return nearest
    return Built("copy", f"its migrations can't be run: {'; '.join(failures)}", failures=tuple(failures))


def _note(failures: list[str], way: Way, error: ReplayError) -> None:
    """What fails alike in two ways is told once."""
    same = next((each for each in failures if each.endswith(f": {error.message}")), None)
    if same is None:
        failures.append(f"{WAYS[way]}: {error.message}")
    elif WAYS[way] not in same:
        ways = same.removesuffix(f": {error.message}")
        failures[failures.index(same)] = f"{ways} and {WAYS[way]}: {error.message}"


@dataclass(frozen=True)
class _Attempt:
    """All histories of a route, in one way."""

    route: Route
    assignments: tuple[Assignment, ...]
    way: Way
    bound: bool = False
    """Of several databases that env.py migrates, one was tried as the source; another may be it."""


def _attempts(route: Route) -> Iterator[_Attempt]:
    for way in route.ways():
        databases = _binds(route) if way == "environment" else ()
        for bind in databases:
            (only,) = route.assignments
            yield _Attempt(route, (replace(only, history=only.history.bound_to(bind)),), way, bound=True)
        if not databases:
            yield _Attempt(route, route.assignments, way)


def _binds(route: Route) -> tuple[str, ...]:
    return binds(route.assignments[0].history) if len(route.assignments) == 1 else ()


def binds(history: History) -> tuple[str, ...]:
    """An env.py for several databases says in its sections which there are, not which one the source is."""
    return () if history.recipe.bind is not None else history.binds


def _run(attempt: _Attempt, staging: Staging, replayer: Replayer, monitor: Monitor) -> str:
    goal = Goal.of(staging)
    protection = ""
    for assignment in attempt.assignments:
        order = Order(assignment.history, assignment.wanted, attempt.way, version_table=assignment.table)
        protection = replayer.replay(order, goal, monitor).protection
    return protection


def _compared(
    attempt: _Attempt, yardstick: Yardstick, staging: Staging, protection: str, failures: tuple[str, ...]
) -> Built:
    with staging.open() as built:
        there = built.catalog.revisions
        assignments, stamped = _named_as_made(attempt, there)
        found = yardstick.differences(built, stamped)
    put_back = {each.table: each.redundant for each in assignments if each.redundant and each.table in there}
    staging.add_versions(put_back)
    reached = {table: tuple(sorted({*rows, *put_back.get(table, ())})) for table, rows in there.items()}
    differences = (
        *_version_differences({each.table: each.rows for each in assignments}, reached),
        *found,
    )
    accepted = yardstick.accepts(differences)
    count = f"{len(differences)} difference{'s' * (len(differences) != 1)}"
    return Built(
        "migrations" if accepted else "copy",
        attempt.route.reason if accepted else f"what its migrations build has {count} to it",
        differences,
        way=attempt.way,
        protection=protection,
        failures=failures,
        put_back=put_back,
        stamped=stamped,
    )


def _named_as_made(
    attempt: _Attempt, there: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[Assignment, ...], Mapping[str, tuple[str, ...]]]:
    """Where the source has no version table, nobody but its migrations could say what that is called."""
    stamped, assignments = attempt.route.stamped, attempt.assignments
    if len(assignments) != 1 or not stamped or assignments[0].table in there or len(there) != 1:
        return assignments, stamped
    (table,) = there
    return (replace(assignments[0], table=table),), {table: assignments[0].rows}


def _version_differences(
    expected: Mapping[str, tuple[str, ...]], reached: Mapping[str, tuple[str, ...]]
) -> Iterator[Difference]:
    for table, rows in expected.items():
        if reached.get(table) != rows:
            there = None if table not in reached else ", ".join(reached[table]) or "(none)"
            yield Difference(Severity.BLOCKING, f"version table {table}", "rows", ", ".join(rows), there)


def _not_built_across(built: Built, staging: Staging) -> HistoryError:
    blocking = [each for each in built.differences if each.severity is Severity.BLOCKING]
    if not blocking:
        return HistoryError(
            f"the target can't be built by migrations: {built.reason}",
            hint="docs/histories.md tells what migrations may need; across engines there is no other way",
        )
    listed = [told(difference) for difference in blocking[:LISTED]]
    more = len(blocking) - LISTED
    lines = [*listed, *([f"and {more} more"] if more > 0 else []), *built.failures]
    hint = "`panicdb drift` tells whether the source is what its migrations build on its own engine"
    if staging.fills:
        hint += "; a database that the application itself made is filled as it stands, once it holds no rows"
    return HistoryError(
        f"rows of the source would not fit into what its migrations build on {staging.engine}:\n  "
        + "\n  ".join(lines),
        hint=hint,
    )


def _not_built(built: Built, route: Route) -> HistoryError:
    if not built.differences:
        return HistoryError(
            f"the target can't be built by migrations: {built.reason}",
            hint="--schema copy takes the source's own definitions; docs/histories.md tells what migrations may need",
        )
    hint = "--schema copy takes the source's own definitions; `panicdb drift` shows every difference"
    if route.stamped:
        hint = "`panicdb drift --infer` names the revision that builds this schema, if there is one"
    listed = [told(difference) for difference in built.differences[:LISTED]]
    more = len(built.differences) - LISTED
    lines = [*listed, *([f"and {more} more"] if more > 0 else []), *built.failures]
    return HistoryError(
        f"the source is not what its migrations build at revision "
        f"{', '.join(row for each in route.assignments for row in each.rows)}:\n  " + "\n  ".join(lines),
        hint=hint,
    )
