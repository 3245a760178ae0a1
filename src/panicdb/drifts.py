"""Drift: the live schema beside what its own migrations build; and which revision builds it, where none is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from panicdb import building
from panicdb.backends.base import Snapshot, Staging
from panicdb.errors import HistoryError
from panicdb.histories import History, Way
from panicdb.replays import Goal, Order, Replayer, ReplayError, Step
from panicdb.revisions import Route, version_tables
from panicdb.schema import Difference, without_tables
from panicdb.schema import compare as compare_facts
from panicdb.values import Facts, Monitor, Progress


@dataclass(frozen=True)
class Drift:
    """How a live schema differs from what its history builds at its revision."""

    source: str
    revisions: Mapping[str, tuple[str, ...]]
    history: str
    way: Way
    protection: str
    """What the kernel forbade the migrations, beside the guard; empty where it has nothing to offer."""
    objects: int
    """How many objects of the live schema were compared."""
    facts: int
    differences: tuple[Difference, ...]
    failures: tuple[str, ...]
    """Ways to run them that did not work, and why."""

    @property
    def ok(self) -> bool:
        """Tell whether nothing differs."""
        return not self.differences


@dataclass(frozen=True)
class Candidate:
    """A point of a history at which the schema is the live one."""

    history: str
    revisions: tuple[str, ...]


@dataclass(frozen=True)
class Inference:
    """Which revisions build a live schema: a suggestion, for several may, and data tells them apart."""

    source: str
    tried: int
    """Revisions that were run."""
    candidates: tuple[Candidate, ...]
    failures: tuple[str, ...]
    """Histories that could not be run, and why."""

    @property
    def ok(self) -> bool:
        """Tell whether any revision builds the live schema."""
        return bool(self.candidates)


@dataclass(frozen=True)
class Live:
    """A database as it was found: its snapshot has ended, so that nobody waits for what follows."""

    snapshot: Snapshot
    facts: Facts

    @property
    def shown(self) -> str:
        """The name of the source in messages."""
        return self.snapshot.place.shown


def compare(route: Route, live: Live, staging: Staging, replayer: Replayer, monitor: Monitor) -> Drift:
    """Run the route's histories on a draft, and compare the live schema with it. Writes to the draft only.

    The draft was prepared while the snapshot lasted. Raises HistoryError if they can't be run as the application runs
    them: what is built otherwise and equal proves something, what is built otherwise and differs does not.
    """
    yardstick = building.exactly(live.facts)
    built = building.replay(route, live.snapshot, yardstick, staging, replayer, monitor)
    if built.way is None:
        raise _not_comparable(live, built.reason)
    if built.differences and built.way != route.ways()[0]:
        why = f"what was built {building.WAYS[built.way]} differs, and that may be the reason"
        raise _not_comparable(live, f"{'; '.join(built.failures)}; {why}")
    return Drift(
        source=live.shown,
        revisions={each.table: each.rows for each in route.assignments},
        history=", ".join(dict.fromkeys(each.history.name for each in route.assignments)),
        way=built.way,
        protection=built.protection,
        objects=len({name for name, _property in live.facts}),
        facts=len(live.facts),
        differences=built.differences,
        failures=built.failures,
    )


def _not_comparable(live: Live, reason: str) -> HistoryError:
    return HistoryError(
        f"{live.shown}: can't be compared: {reason}",
        hint="-c, --python and the settings in docs/histories.md tell how the application runs its migrations",
    )


def infer(histories: Sequence[History], live: Live, staging: Staging, monitor: Monitor) -> Inference:
    """Run each history revision by revision on a draft, and name the points where it equals the live schema.

    Version tables are left out of the comparison. The draft was prepared while the snapshot lasted. Writes to the draft
    only. Raises HistoryError if no history runs.
    """
    wanted = without_tables(live.facts, version_tables(live.snapshot.catalog))
    candidates: list[Candidate] = []
    failures: list[str] = []
    tried = 0
    for history in histories:
        for database in (
            map(history.bound_to, building.binds(history)) if building.binds(history) else (history,)
        ):
            climb = _climb if staging.keeps_steps else _climb_by_turns
            points, failure = climb(database, live.snapshot, wanted, staging, monitor)
            tried += len(points)
            candidates += [Candidate(history.name, point.revisions) for point in points if point.same]
            failures += [] if failure is None else [f"{history.name}: {failure}"]
    if not tried:
        raise _not_comparable(
            live, f"no history could be run: {'; '.join(failures) or 'none has a revision'}"
        )
    return Inference(live.shown, tried, tuple(dict.fromkeys(candidates)), tuple(failures))


@dataclass(frozen=True)
class _Point:
    """The version rows that a revision left, and whether its schema is the live one."""

    revisions: tuple[str, ...]
    same: bool


_Climbed = tuple[list[_Point], str | None]
"""The points that were reached, and why there are no more."""


def _climb(
    history: History, snapshot: Snapshot, wanted: Facts, staging: Staging, monitor: Monitor
) -> _Climbed:
    """Run all revisions in one process, in the way that gets farthest, and compare the copies that it keeps."""
    steps, failure = _run_steps(history, snapshot, staging, monitor)
    return [_compared(staging, wanted, str(step.path)) for step in steps], failure


def _run_steps(
    history: History, snapshot: Snapshot, staging: Staging, monitor: Monitor
) -> tuple[tuple[Step, ...], str | None]:
    monitor.report(Progress("running migrations"))
    farthest: ReplayError | None = None
    for way in history.recipe.ways:
        if way == "command":  # it goes where it likes
            continue
        staging.reset()
        staging.prepare(snapshot)
        goal = Goal.of(staging)
        try:
            return Replayer().replay(Order(history, (), way, steps=True), goal, monitor).steps, None
        except ReplayError as error:
            if error.steps:
                return error.steps, error.message
            farthest = farthest or error  # the application's own way says best what is wrong
    return (), "it can't be run" if farthest is None else farthest.message


def _climb_by_turns(
    history: History, snapshot: Snapshot, wanted: Facts, staging: Staging, monitor: Monitor
) -> _Climbed:
    """Run one revision after the other, in the way that gets farthest, and compare the draft after each."""
    farthest: _Climbed = ([], "it can't be run")
    monitor.report(Progress("running migrations"))
    for way in history.recipe.ways:
        if way == "command":  # it goes where it likes
            continue
        staging.reset()
        staging.prepare(snapshot)
        points, failure = _take_turns(history, way, wanted, staging, monitor)
        if failure is None:
            return points, None
        if len(points) > len(farthest[0]) or not farthest[0]:
            farthest = (points, failure)
    return farthest


def _take_turns(history: History, way: Way, wanted: Facts, staging: Staging, monitor: Monitor) -> _Climbed:
    before = {revision: history.ancestors(revision) for revision in history.scripts}
    points: list[_Point] = []
    for revision in TopologicalSorter(before).static_order():
        if revision not in history.scripts:
            continue
        try:
            Replayer().replay(Order(history, (revision,), way), Goal.of(staging), monitor)
        except ReplayError as error:
            return points, error.message
        points.append(_compared(staging, wanted, None))
    return points, None


def _compared(staging: Staging, wanted: Facts, path: str | None) -> _Point:
    with staging.open(path) as built:
        there = version_tables(built.catalog)
        rows = tuple(row for table in there for row in built.catalog.revisions.get(table, ()))
        return _Point(rows, not compare_facts(wanted, without_tables(built.facts(), there)))
