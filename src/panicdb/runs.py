"""What every transfer goes through: places are found, the source is opened, a plan is carried out or merged."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from panicdb import (
    building,
    contents,
    conversion,
    crossing,
    databases,
    equivalence,
    merge,
    planner,
    profiles,
    revisions,
    transfer,
    verification,
)
from panicdb import closure as closures
from panicdb.backends.base import CopyStep, Merging, Place, Snapshot, Staging
from panicdb.building import Built
from panicdb.closure import Closure
from panicdb.crossing import Passage
from panicdb.digest import TableDigest
from panicdb.errors import CheckFailedError, RefusedError, TransferError, UsageError, check_file_name
from panicdb.links import Graph
from panicdb.model import read_model
from panicdb.planner import Plan
from panicdb.receipt import Receipt, extend_receipt, write_receipt
from panicdb.replays import Replayer
from panicdb.reports import PUBLICATION_CHECKS, Status
from panicdb.revisions import Route, SchemaChoice
from panicdb.seals import Seal, digest_facts, hash_migrations
from panicdb.values import Existing, Facts, Monitor, Progress, Selection
from panicdb.verification import Content, Expectation


@dataclass(frozen=True)
class Run:
    """How a transfer is to be made, whatever it transfers."""

    monitor: Monitor
    timeout: float
    receipt: bool | str = True
    existing: Existing = "refuse"
    spool: bool = False
    schema: SchemaChoice = field(default_factory=SchemaChoice)
    verify: bool = False
    """Compare content, too, before the target is published."""
    seal: bool = False
    """Write digests of it into the receipt."""


@dataclass(frozen=True)
class Places:
    """Where everything is."""

    source: Place
    target: Place
    receipt: str | None
    """Where the receipt goes; where one is that will be out of date if none is wanted."""
    exists: bool = False


@dataclass(frozen=True)
class Session:
    """What a transfer holds open: the source, and a process that may have to run migrations.

    The private place beside the target, too, if the source was spooled there; else that is made once there is a plan.
    """

    snapshot: Snapshot
    route: Route
    replayer: Replayer
    places: Places
    run: Run
    staging: Staging | None

    @property
    def across(self) -> bool:
        """Tell whether the target is of another engine."""
        return are_across(self.places.source, self.places.target)

    @property
    def monitor(self) -> Monitor:
        """What the run reports to."""
        return self.run.monitor

    def staged(self) -> AbstractContextManager[Staging]:
        """Give the private place beside the target."""
        if self.staging is not None:
            return nullcontext(self.staging)
        return databases.stage_target(self.places.target, monitor=self.monitor)


def locate(source: str, target: str, run: Run) -> Places:
    """Find both places, and refuse a wrong target before the source is read."""
    origin, goal = databases.locate(source), databases.locate(target)
    _check_crossing(origin, goal, run)
    named = goal.backend.receipt_path(goal) if isinstance(run.receipt, bool) else run.receipt
    if named is not None:
        check_file_name(named)
        named = os.path.abspath(named)
    exists = databases.check_target(goal, origin, named if run.receipt else None, run.existing)
    return Places(origin, goal, named, exists)


@dataclass(frozen=True)
class Goal:
    """Where a plan would lead."""

    target: Place
    merging: bool
    """Rows are to be merged into it."""


def locate_source(source: str, target: str | None, run: Run) -> tuple[Place, Goal | None]:
    """Find the source, and the target, if one is named: a wrong one is refused."""
    place = databases.locate(source)
    if target is None:
        return place, None
    goal = databases.locate(target)
    _check_crossing(place, goal, run)
    exists = databases.check_target(goal, place, None, run.existing)
    return place, Goal(goal, exists and run.existing == "merge")


def are_across(one: Place, other: Place) -> bool:
    """Tell whether two databases are of different engines."""
    return one.backend is not other.backend


def _check_crossing(source: Place, target: Place, run: Run) -> None:
    """Refuse what only goes between databases of one engine. Raises UsageError."""
    if not are_across(source, target):
        return
    engines = f"from {source.backend.name} to {target.backend.name}"
    if run.existing == "merge":
        raise UsageError(
            f"rows are not merged {engines}: both have to be of the same engine", hint="name a new target"
        )
    if run.spool:
        raise UsageError(f"there is no spooling {engines}", hint="leave --spool out")
    if run.schema.mode == "copy":
        raise UsageError(
            f"definitions can't be copied {engines}: only the application's own migrations build the schema there",
            hint="leave --schema copy out, and name the history with -c",
        )


def take_closure(snapshot: Snapshot, selection: Selection, run: Run, number: int = 0) -> Closure:
    """Follow the links from the selected roots. Reads only; `number` tells several closures apart."""
    run.monitor.report(Progress("following links"))
    root = profiles.choose_root(snapshot.catalog, selection)
    completed = profiles.complete(snapshot.catalog, selection)
    return closures.compute(snapshot, root, completed, number=number)


@contextmanager
def opened(places: Places, run: Run) -> Iterator[Session]:
    """Open the source, and let the process that may have to run migrations import what it needs meanwhile."""
    with ExitStack() as stack:
        staging = None
        if run.spool:
            staging = stack.enter_context(databases.stage_target(places.target, monitor=run.monitor))
            opening = staging.spool(places.source, timeout=run.timeout)
        else:
            opening = databases.open_source(places.source, timeout=run.timeout, monitor=run.monitor)
        snapshot = stack.enter_context(opening)
        merging = places.exists and run.existing == "merge"
        route = find_route(snapshot, run, places.target, merging=merging)
        replayer = stack.enter_context(standing_by(route))
        yield Session(snapshot, route, replayer, places, run, staging)


def complete_plan(decided: Plan, closure: Closure | None, snapshot: Snapshot, goal: Goal, run: Run) -> Plan:
    """Add to a plan what only its target can tell: rows that are there already, values that arrive with a loss.

    Reads only; a target of another engine is built as a draft, which is thrown away.
    """
    if goal.merging and closure is not None:
        return plan_merge(decided, closure, snapshot, goal.target, run)
    if not are_across(snapshot.place, goal.target):
        return decided
    with (
        standing_by(decided.route) as replayer,
        databases.stage_scratch(goal.target, monitor=run.monitor) as staging,
    ):
        yardstick = _yardstick_across(snapshot)
        building.build_schema_across(decided.route, snapshot, yardstick, staging, replayer, run.monitor)
        return plan_crossing(decided, closure, snapshot, staging, run.monitor)[0]


def _yardstick_across(snapshot: Snapshot) -> building.Yardstick:
    return building.as_another_engine_can(
        read_model(snapshot), conversion.convertible(snapshot.place.backend.name)
    )


def find_route(snapshot: Snapshot, run: Run, target: Place | None = None, *, merging: bool = False) -> Route:
    """Decide how the target gets its schema. Reads files; raises RefusedError for a source without tables.

    A target of another engine needs migrations: HistoryError where there are none.
    """
    require_tables(snapshot)
    if merging:
        return Route("merge", "the target exists")
    across = target is not None and are_across(snapshot.place, target)
    place = target if target is not None else snapshot.place
    schema = replace(run.schema, mode="migrations") if across else run.schema
    return revisions.find_route(snapshot.catalog, schema, here(), place.backend.name)


def require_tables(snapshot: Snapshot) -> None:
    """Refuse a source that holds nothing."""
    if not snapshot.catalog.tables:
        raise RefusedError(f"{snapshot.place.shown}: the source has no tables", hint="check the file name")


def here() -> Path:
    """Return the working directory. Raises RefusedError where it is gone."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise RefusedError(
            "the working directory does not exist any more", hint="cd to another one"
        ) from None


@contextmanager
def standing_by(route: Route) -> Iterator[Replayer]:
    """Give what replays histories; where one is to be, its child starts now, and imports while others work."""
    with closing(Replayer()) as replayer:
        if route.method == "migrations":
            replayer.start(route.python)
        yield replayer


def carry_out(decided: Plan, closure: Closure | None, graph: Graph, session: Session) -> Receipt:
    """Build aside, load, check, publish: nothing is visible before the last line."""
    snapshot, places, monitor = session.snapshot, session.places, session.monitor
    with session.staged() as staging:
        staging.needed = decided.bytes
        built = _build(decided, session, staging)
        if built.ran:
            _require_untouched(session)
        decided = planner.restamped(decided, snapshot.catalog, built.stamped)
        passages: tuple[Passage, ...] = ()
        if session.across:
            decided, passages = plan_crossing(decided, closure, snapshot, staging, monitor)
        expected, content = _expect(decided, closure, graph, session, staging)
        if session.across:
            crossing.carry(snapshot, passages, staging, monitor, decided.bytes)
        else:
            transfer.load_rows(decided, closure, snapshot, staging, monitor)
        monitor.report(Progress("checking"))
        checks = (*PUBLICATION_CHECKS, *(["content"] if session.run.verify else []))
        with staging.open() as draft:
            digests = _digest_draft(content, draft, monitor) if "content" in checks else {}
            _require(expected, draft, decided.source, checks, digests)
            sealed = _seal_draft(expected, draft, decided, session) if session.run.seal else None
        receipt = write_receipt(decided, places.target.shown, built.as_dict(), checks, sealed)
        monitor.report(Progress("publishing"))
        monitor.poll()
        staging.publish(
            receipt.to_json() if session.run.receipt else None,
            places.receipt,
            replace=places.exists,
            timeout=session.run.timeout,
        )
    return receipt


def _build(decided: Plan, session: Session, staging: Staging) -> Built:
    route, snapshot, replayer, monitor = decided.route, session.snapshot, session.replayer, session.monitor
    if not session.across:
        return building.build_schema(route, snapshot, staging, replayer, monitor)
    yardstick = _yardstick_across(snapshot)
    return building.build_schema_across(route, snapshot, yardstick, staging, replayer, monitor)


def plan_crossing(
    decided: Plan, closure: Closure | None, snapshot: Snapshot, staging: Staging, monitor: Monitor
) -> tuple[Plan, tuple[Passage, ...]]:
    """Decide how rows get into a draft of another engine, and look at all their values. Reads only.

    Raises SourceError for what the target can't hold.
    """
    steps = transfer.copy_steps(decided, closure, snapshot)
    with staging.open() as draft:
        passages = crossing.plan_passages(snapshot, draft, steps)
    crossing.require_links(snapshot, steps, snapshot.catalog.links)
    surveyed = crossing.survey(snapshot, passages, monitor)
    crossing.require_distinct(snapshot, surveyed, staging)
    return crossing.with_losses(decided, snapshot.catalog, surveyed.losses), surveyed.passages


def _require_untouched(session: Session) -> None:
    if not session.snapshot.excludes_writers():
        there = session.snapshot.catalog.revisions, session.snapshot.facts()
        require_untouched(session.places.source, *there, session.run)


def require_untouched(
    place: Place, revisions_before: Mapping[str, tuple[str, ...]], facts_before: Facts, run: Run
) -> None:
    """Migrations ran, so make sure that they did not run there. The source's rows are its own: it is live.

    Reads the source anew. Raises CheckFailedError.
    """
    with databases.open_source(place, timeout=run.timeout, monitor=run.monitor) as now:
        same = now.catalog.revisions == revisions_before and now.facts() == facts_before
    if not same:
        raise CheckFailedError(
            f"{place.shown}: its schema or its version rows changed while this run was at work",
            hint="see who migrates it; then run this again",
        )


def merge_rows(decided: Plan, closure: Closure, session: Session) -> Receipt:
    """Lock, compare, insert, check, commit: nothing is visible before the last line."""
    snapshot, places, run = session.snapshot, session.places, session.run
    steps = transfer.copy_steps(decided, closure, snapshot)
    counters, facts = snapshot.sequences(), snapshot.facts()
    with databases.join_target(places.target, snapshot, timeout=run.timeout, monitor=run.monitor) as merging:
        merge.require_same_schema(snapshot, merging.target)
        before = merge.take_stand(merging.target)
        overlaps = merge.find_overlap(steps, merging, run.monitor)
        digests = _digest_merged(steps, snapshot, merging, run)
        merged = merge.add_rows(steps, overlaps, merging, run.monitor)
        run.monitor.report(Progress("checking"))
        after = merge.take_stand(merging.target)
        merge.check(before, after, merged, decided, counters)
        _require_merged(digests, merging.target, run.monitor)
        checks = (*PUBLICATION_CHECKS, *(["content"] if digests else []))
        schema = Built(decided.route.method, decided.route.reason).as_dict()
        dangling = {str(link): count for link, count in after.dangling.items()}
        sealed = _seal(merging.target, facts, digests, dangling, decided) if run.seal else None
        receipt = extend_receipt(
            write_receipt(decided, places.target.shown, schema, checks, sealed),
            merged,
            after.rows,
            receipt_beside(places.target) or places.receipt,
        )
        run.monitor.report(Progress("publishing"))
        run.monitor.poll()
        merging.publish(receipt.to_json() if run.receipt else None, places.receipt)
    return receipt


def _digest_merged(
    steps: Iterable[CopyStep], snapshot: Snapshot, merging: Merging, run: Run
) -> Mapping[str, TableDigest]:
    """Digest what the target is to hold: what it holds, and the rows that it lacks, as the source has them."""
    if not (run.verify or run.seal):
        return {}
    held = contents.digest_all(merging.target, run.monitor)
    coming = {
        step.entry.name: contents.digest_rows_of(snapshot, step.entry, merging.missing(step))
        for step in steps
    }
    return {name: digest + coming.get(name, TableDigest(0, 0)) for name, digest in held.items()}


def _require_merged(digests: Mapping[str, TableDigest], target: Snapshot, monitor: Monitor) -> None:
    there = contents.digest_all(target, monitor) if digests else {}
    wrong = sorted(name for name, digest in digests.items() if there.get(name) != digest)
    if wrong:
        raise CheckFailedError(
            f"{target.place.shown}: the merged content is not what was planned, so nothing was committed: "
            + ", ".join(wrong),
            hint="please report this: it is a fault of panicdb",
        )


def plan_merge(decided: Plan, closure: Closure, snapshot: Snapshot, goal: Place, run: Run) -> Plan:
    """Add to a plan what the target has already. Reads only."""
    steps = transfer.copy_steps(decided, closure, snapshot)
    join = databases.join_target(goal, snapshot, timeout=run.timeout, monitor=run.monitor, writing=False)
    with join as merging:
        merge.require_same_schema(snapshot, merging.target)
        overlaps = merge.find_overlap(steps, merging, run.monitor)
    return replace(decided, present={name: overlap.present for name, overlap in overlaps.items()})


def _expect(
    decided: Plan, closure: Closure | None, graph: Graph, session: Session, staging: Staging
) -> tuple[Expectation, equivalence.Content | None]:
    """Note down what the target must be, content included where that is wanted, while the snapshot lasts.

    Of a target of another engine, how its values are to be read is said beside.
    """
    snapshot = session.snapshot
    expected = verification.expect(snapshot, decided, graph)
    if session.across:
        common = conversion.convertible(snapshot.place.backend.name)
        expected = verification.expect_across(expected, snapshot, common)
    if not (session.run.verify or session.run.seal):
        return expected, None
    steps = transfer.copy_steps(decided, closure, snapshot)
    arriving = contents.arriving(snapshot, expected.rows, steps)
    if session.across:
        with staging.open() as draft:
            content = equivalence.expect(arriving.values(), snapshot, draft, session.monitor)
        return replace(expected, digests=content.digests), content
    digests = {name: contents.digest(snapshot, rows, session.monitor) for name, rows in arriving.items()}
    return replace(expected, digests=digests), None


def _digest_draft(
    content: equivalence.Content | None, draft: Snapshot, monitor: Monitor
) -> Mapping[str, TableDigest]:
    if content is None:
        return contents.digest_all(draft, monitor)
    return equivalence.digest(content, draft, monitor)


def _seal_draft(expected: Expectation, draft: Snapshot, decided: Plan, session: Session) -> Seal:
    """Between engines the seal speaks of the values as the target has them: the check of content says what they are."""
    digests = contents.digest_all(draft, session.monitor) if session.across else expected.digests
    return _seal(draft, expected.facts, digests, expected.dangling, decided)


def _seal(
    target: Snapshot,
    facts: Facts,
    digests: Mapping[str, TableDigest],
    dangling: Mapping[str, int],
    plan: Plan,
) -> Seal:
    """Seal what was checked: digests of rows come from the source's snapshot, that of the schema from the target.

    In a merged file links that this run declared need not hold for the rows that were there.
    """
    tables, merged = target.catalog.tables, plan.route.method == "merge"
    links = () if plan.selection is None or merged else plan.selection.links
    return Seal(
        schema=digest_facts(target.facts()),
        source_schema=digest_facts(facts),
        tables=digests,
        columns={name: contents.columns_of(tables[name]) for name in digests},
        sequences=target.sequences(),
        links=tuple(map(str, links)),
        dangling={link: count for link, count in dangling.items() if count},
        migrations=hash_migrations(plan.route),
    )


def _require(
    expected: Expectation,
    draft: Snapshot,
    source: str,
    checks: tuple[str, ...],
    digests: Mapping[str, TableDigest],
) -> None:
    """Check a draft, read again; of content there is something to compare where `expected` has it."""
    report = verification.check_target(expected, draft, source, content=Content(digests), checks=checks)
    if report.findings:
        listed = "; ".join(finding.text for finding in report.findings)
        raise CheckFailedError(
            f"{report.target}: the finished copy is not what was planned, so it was not published: {listed}",
            hint="please report this: it is a fault of panicdb, or the source changed its schema meanwhile",
        )
    for check in report.checks:
        if check.status is Status.SKIPPED:
            raise TransferError(
                f"the finished copy could not be checked, so it was not published: {check.note}",
                hint="run this again when what hindered it is gone",
            )


def receipt_beside(target: Place) -> str | None:
    """Return the path of the receipt that lies beside a target, if there is one."""
    path = target.backend.receipt_path(target)
    return path if path is not None and os.path.isfile(path) else None
