"""One function per verb. Each reads like a table of contents; the command line and Python call the same ones."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa

from panicdb import closure as closures
from panicdb import databases, merge, planner, profiles, revisions, transfer, verification
from panicdb.backends.base import Place, Snapshot, Staging
from panicdb.closure import Closure
from panicdb.errors import CheckFailedError, SelectionError, UsageError, check_file_name
from panicdb.links import Graph, build_graph, parse_link
from panicdb.planner import Plan
from panicdb.receipt import Receipt, extend_receipt, read_selections, write_receipt
from panicdb.revisions import Replayer
from panicdb.roots import Root
from panicdb.transfer import Built
from panicdb.values import Existing, Monitor, Progress, Selection, Violations
from panicdb.verification import ALL_CHECKS, PUBLICATION_CHECKS, Expectation, Report

DEFAULT_TIMEOUT = 30.0
LISTED_ROOTS = 50


class Choice(TypedDict, total=False):
    """The keywords that choose rows, spelled as on the command line."""

    roots: Iterable[str]
    """Keys of root rows, or unique prefixes of four characters or more of text keys."""
    root: str | None
    where: str | None
    all_roots: bool
    links: Iterable[str]
    """`CHILD.COL[,COL][->PARENT.COL[,COL]]=POLICY`, each."""
    exclude: Iterable[str]
    whole: Iterable[str]
    max_rows: int | None
    max_bytes: int | None
    violations: Violations


@dataclass(frozen=True)
class RootRow:
    """One root as `list` shows it: its key, its labels, the rows it owns per table."""

    key: str
    labels: Mapping[str, Any]
    owned: Mapping[str, int]


@dataclass(frozen=True)
class RootList:
    """The roots of a source, the first ones with what they own; `total` counts all."""

    source: str
    table: str
    roots: tuple[RootRow, ...]
    total: int


def export_experiments(
    source_db_str: str, target_db_str: str, experiment_ids: list[str], timeout: int = 30
) -> None:
    """Copy whole experiments into a database file: a new one, or merged into one that exists.

    `source_db_str` and `target_db_str` are SQLAlchemy URLs or paths, `experiment_ids` whole UUIDs in any spelling;
    `timeout` bounds waiting for locks, in seconds. Reads the source, writes the target and its receipt.

    Raises RootNotFoundError (a ValueError), "Experiment <id> not found in source database", before anything is written;
    ConflictError if the target holds rows of the same keys with other content; other PanicDBError as `export` does.
    """
    if not experiment_ids:
        raise SelectionError("no experiment was named", hint="give at least one id")
    selection = Selection(root="experimentconfig", ids=tuple(map(str, experiment_ids)), whole_ids=True)
    _export(source_db_str, target_db_str, selection, _Run(Monitor(), float(timeout), existing="merge"))


def export(
    source: str,
    target: str,
    *,
    existing: Existing = "refuse",
    spool: bool = False,
    receipt: bool | str = True,
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
    progress: Callable[[Progress], None] | None = None,
    **choice: Unpack[Choice],
) -> Receipt:
    """Copy the chosen roots, all they own and all they need into a database.

    Opens `source` for reading only, writes `target` in one visible step, and its receipt beside it (`receipt`: False
    for none, or a path). A target that exists is refused, unless `existing` is `merge` (what it lacks is inserted in
    one transaction) or `replace` (the finished copy takes its place). With `spool` the source is copied aside first,
    and read no longer than that takes. `timeout` bounds waiting for locks, in seconds. Returns the receipt.

    Raises UsageError, RefusedError and its kin before anything is written, ConflictError among them: a row to be merged
    has a key that is there with other content; TransferError, CheckFailedError or InterruptedRunError with nothing
    published.
    """
    run = _Run(monitor or Monitor(progress), timeout, receipt, existing, spool)
    return _export(source, target, selection_from(choice), run)


def clone(  # noqa: PLR0913 - all but two are keywords, and optional
    source: str,
    target: str,
    *,
    violations: Violations = "refuse",
    existing: Existing = "refuse",
    spool: bool = False,
    receipt: bool | str = True,
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Receipt:
    """Copy every row of every ordinary table into a database; otherwise as `export`.

    `violations` may be `refuse` or `keep`: a clone leaves nothing out. `existing` may be `refuse` or `replace`.
    """
    _check_clone(violations, existing)
    run = _Run(monitor or Monitor(progress), timeout, receipt, existing, spool)
    places = _locate(source, target, run)
    with _opened(places, run) as session:
        graph = build_graph(session.snapshot.catalog, Selection())
        run.monitor.report(Progress("planning"))
        decided = planner.plan_whole(session.snapshot, graph, violations)
        return _carry_out(decided, None, graph, session)


def plan(
    source: str,
    *,
    target: str | None = None,
    existing: Existing = "refuse",
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
    **choice: Unpack[Choice],
) -> Plan:
    """Decide an export without making it: rows and bytes per table, and why. Reads only.

    With a `target` what forbids it is refused as `export` would; for a merge the plan tells what is there already.
    """
    run = _Run(monitor or Monitor(), timeout, receipt=False, existing=existing)
    selection = selection_from(choice)
    place, goal = _locate_source(source, target, run)
    with databases.open_source(place, timeout=timeout, monitor=run.monitor) as snapshot:
        closure = _take_closure(snapshot, selection, run)
        decided = planner.plan_subset(snapshot, closure, measure=True)
        return _plan_merge(decided, closure, snapshot, goal, run) if goal else decided


def plan_clone(
    source: str,
    *,
    target: str | None = None,
    violations: Violations = "refuse",
    existing: Existing = "refuse",
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
) -> Plan:
    """Decide a clone without making it. Reads only."""
    _check_clone(violations, existing)
    run = _Run(monitor or Monitor(), timeout, receipt=False, existing=existing)
    place, _ = _locate_source(source, target, run)
    with databases.open_source(place, timeout=timeout, monitor=monitor or Monitor()) as snapshot:
        return planner.plan_whole(snapshot, build_graph(snapshot.catalog, Selection()), violations)


def verify(
    reference: str,
    target: str,
    *,
    receipt: str | None = None,
    skip: Iterable[str] = (),
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
    **choice: Unpack[Choice],
) -> Report:
    """Compare a target with its source: revision, schema, row counts, foreign keys, sequences, integrity. Reads only.

    The rows expected are those of the selection; without one, of the receipt (given, or found beside the target);
    without that, every row of every table. Differences are findings in the report, not errors.
    """
    skipped = _check_names(skip)
    places = _Places(databases.locate(reference), databases.locate(target), None)
    run = _Run(monitor or Monitor(), timeout)
    selections = (selection_from(choice),) if choice else _recorded_selections(places, receipt)
    with (
        databases.open_source(places.source, timeout=timeout, monitor=run.monitor) as snapshot,
        databases.open_source(places.target, timeout=timeout, monitor=run.monitor) as copy,
    ):
        expected = _expectation(snapshot, selections, run)
        return verification.check_target(expected, copy, places.source.shown, skip=skipped)


def list_roots(
    source: str,
    *,
    root: str | None = None,
    limit: int = LISTED_ROOTS,
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
) -> RootList:
    """List the rows that can be exported, the first `limit` with the rows they own per table. Reads only."""
    place = databases.locate(source)
    with databases.open_source(place, timeout=timeout, monitor=monitor or Monitor()) as snapshot:
        selection = Selection(root=root)
        chosen = profiles.choose_root(snapshot.catalog, selection)
        entry, labels = chosen.entry, profiles.labels(snapshot.catalog, chosen.entry)
        key = entry.primary_key or entry.stored[:1]
        columns = [entry.table.c[name] for name in (*key, *labels)]
        rows = snapshot.connection.execute(
            sa.select(*columns).order_by(*columns[: len(key)]).limit(limit)
        ).all()
        found = tuple(
            RootRow(
                key=", ".join(map(_key_text, row[: len(key)])),
                labels=dict(zip(labels, row[len(key) :], strict=True)),
                owned={}
                if len(entry.primary_key) != 1 or row[0] is None
                else _owned(snapshot, chosen, row[0]),
            )
            for row in rows
        )
        return RootList(place.shown, entry.name, found, planner.count_rows(snapshot, entry))


def selection_from(choice: Choice) -> Selection:
    """Check the keywords that choose rows against each other. Raises UsageError."""
    ids = tuple(map(str, choice.get("roots", ())))
    where, every = choice.get("where"), choice.get("all_roots", False)
    given = [name for name, said in (("ids", ids), ("--where", where is not None), ("--all", every)) if said]
    if len(given) != 1:
        found = " and ".join(given) if given else "nothing"
        raise UsageError(f"say what to copy in one way, found {found}", hint="ids, or --where SQL, or --all")
    for text in (*ids, where or ""):
        _check_text(text)
    return Selection(
        root=choice.get("root"),
        ids=ids,
        where=where,
        all=every,
        links=tuple(map(parse_link, choice.get("links", ()))),
        exclude=tuple(choice.get("exclude", ())),
        whole=tuple(choice.get("whole", ())),
        max_rows=choice.get("max_rows"),
        max_bytes=choice.get("max_bytes"),
        violations=choice.get("violations", "refuse"),
    )


def _check_text(text: str) -> None:
    """What a shell hands over need not be text, but a database is asked in text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{text!r} is not valid UTF-8", hint="choose rows with such keys by --where \"hex(KEY) = '...'\""
        ) from None


# The steps


@dataclass(frozen=True)
class _Run:
    monitor: Monitor
    timeout: float
    receipt: bool | str = True
    existing: Existing = "refuse"
    spool: bool = False


@dataclass(frozen=True)
class _Places:
    source: Place
    target: Place
    receipt: str | None
    """Where the receipt goes; where one is that will be out of date if none is wanted."""
    exists: bool = False


@dataclass(frozen=True)
class _Session:
    """What a transfer holds open: the source, and a process that may have to run migrations.

    The private place beside the target, too, if the source was spooled there; else that is made once there is a plan.
    """

    snapshot: Snapshot
    replayer: Replayer
    places: _Places
    run: _Run
    staging: Staging | None

    @property
    def monitor(self) -> Monitor:
        return self.run.monitor

    def staged(self) -> AbstractContextManager[Staging]:
        if self.staging is not None:
            return nullcontext(self.staging)
        return databases.stage_target(self.places.target, monitor=self.monitor)


def _export(source: str, target: str, selection: Selection, run: _Run) -> Receipt:
    places = _locate(source, target, run)
    with _opened(places, run) as session:
        closure = _take_closure(session.snapshot, selection, run)
        decided = planner.plan_subset(session.snapshot, closure)
        if places.exists and run.existing == "merge":
            return _merge(decided, closure, session)
        return _carry_out(decided, closure, closure.graph, session)


def _locate(source: str, target: str, run: _Run) -> _Places:
    """Find both places, and refuse a wrong target before the source is read."""
    origin, goal = databases.locate(source), databases.locate(target)
    named = goal.backend.receipt_path(goal) if isinstance(run.receipt, bool) else run.receipt
    if named is not None:
        check_file_name(named)
        named = os.path.abspath(named)
    exists = databases.check_target(goal, origin, named if run.receipt else None, run.existing)
    return _Places(origin, goal, named, exists)


def _locate_source(source: str, target: str | None, run: _Run) -> tuple[Place, Place | None]:
    """Find the source, and the target if rows are to be merged into it."""
    place = databases.locate(source)
    if target is None:
        return place, None
    goal = databases.locate(target)
    exists = databases.check_target(goal, place, None, run.existing)
    return place, goal if exists and run.existing == "merge" else None


def _take_closure(snapshot: Snapshot, selection: Selection, run: _Run, number: int = 0) -> Closure:
    run.monitor.report(Progress("following links"))
    root = profiles.choose_root(snapshot.catalog, selection)
    completed = profiles.complete(snapshot.catalog, selection)
    return closures.compute(snapshot, root, completed, number=number)


@contextmanager
def _opened(places: _Places, run: _Run) -> Iterator[_Session]:
    migrates = not (places.exists and run.existing == "merge")
    with ExitStack() as stack:
        staging = None
        if run.spool:
            staging = stack.enter_context(databases.stage_target(places.target, monitor=run.monitor))
            opening = staging.spool(places.source, timeout=run.timeout)
        else:
            opening = databases.open_source(places.source, timeout=run.timeout, monitor=run.monitor)
        snapshot = stack.enter_context(opening)
        replayer = stack.enter_context(revisions.stand_by(snapshot.catalog if migrates else None))
        yield _Session(snapshot, replayer, places, run, staging)


def _carry_out(decided: Plan, closure: Closure | None, graph: Graph, session: _Session) -> Receipt:
    """Build aside, load, check, publish: nothing is visible before the last line."""
    snapshot, places, monitor = session.snapshot, session.places, session.monitor
    expected = verification.expect(snapshot, decided, graph)
    with session.staged() as staging:
        built = transfer.build_schema(decided, snapshot, staging, session.replayer, monitor)
        transfer.load_rows(decided, closure, snapshot, staging, monitor)
        monitor.report(Progress("checking"))
        with staging.open() as draft:
            _require(expected, draft, decided.source)
        receipt = _receipt(decided, built, places)
        monitor.report(Progress("publishing"))
        monitor.poll()
        staging.publish(
            receipt.to_json() if session.run.receipt else None,
            places.receipt,
            replace=places.exists,
            timeout=session.run.timeout,
        )
    return receipt


def _merge(decided: Plan, closure: Closure, session: _Session) -> Receipt:
    """Lock, compare, insert, check, commit: nothing is visible before the last line."""
    snapshot, places, run = session.snapshot, session.places, session.run
    steps = transfer.copy_steps(decided, closure, snapshot)
    counters = snapshot.sequences()
    with databases.join_target(places.target, snapshot, timeout=run.timeout, monitor=run.monitor) as merging:
        merge.require_same_schema(snapshot, merging.target)
        before = merge.take_stand(merging.target)
        overlaps = merge.find_overlap(steps, merging, run.monitor)
        merged = merge.add_rows(steps, overlaps, merging, run.monitor)
        run.monitor.report(Progress("checking"))
        after = merge.take_stand(merging.target)
        merge.check(before, after, merged, decided, counters)
        receipt = extend_receipt(
            _receipt(decided, Built("merge", "the target exists"), places),
            merged,
            after.rows,
            _receipt_beside(places.target) or places.receipt,
        )
        run.monitor.report(Progress("publishing"))
        run.monitor.poll()
        merging.publish(receipt.to_json() if run.receipt else None, places.receipt)
    return receipt


def _plan_merge(decided: Plan, closure: Closure, snapshot: Snapshot, goal: Place, run: _Run) -> Plan:
    steps = transfer.copy_steps(decided, closure, snapshot)
    join = databases.join_target(goal, snapshot, timeout=run.timeout, monitor=run.monitor, writing=False)
    with join as merging:
        merge.require_same_schema(snapshot, merging.target)
        overlaps = merge.find_overlap(steps, merging, run.monitor)
    return replace(decided, present={name: overlap.present for name, overlap in overlaps.items()})


def _require(expected: Expectation, draft: Snapshot, source: str) -> None:
    report = verification.check_target(expected, draft, source, checks=PUBLICATION_CHECKS)
    if not report.ok:
        listed = "; ".join(finding.text for finding in report.findings)
        raise CheckFailedError(
            f"{report.target}: the finished copy is not what was planned, so it was not published: {listed}",
            hint="please report this: it is a fault of panicdb, or the source changed its schema meanwhile",
        )


def _receipt(decided: Plan, built: Built, places: _Places) -> Receipt:
    return write_receipt(decided, places.target.shown, built.as_dict(), PUBLICATION_CHECKS)


def _expectation(snapshot: Snapshot, selections: Sequence[Selection | None], run: _Run) -> Expectation:
    """Expect every row if nothing was selected; of several selections, as merged, all their rows."""
    chosen = [selection for selection in selections if selection is not None]
    if len(chosen) < max(len(selections), 1):
        graph = build_graph(snapshot.catalog, Selection())
        return verification.expect(snapshot, planner.plan_whole(snapshot, graph, "keep"), graph)
    taken = [_take_closure(snapshot, selection, run, number) for number, selection in enumerate(chosen)]
    plans = [planner.plan_subset(snapshot, closure) for closure in taken]
    if len(taken) == 1:
        return verification.expect(snapshot, plans[0], taken[0].graph)
    expected = verification.expect(snapshot, plans[-1], _shared_graph(snapshot, taken))
    return replace(expected, rows=merge.count_union(snapshot, taken, plans))


def _shared_graph(snapshot: Snapshot, closures_taken: Sequence[Closure]) -> Graph:
    """Of links that were declared for some parts of a merged file, only those of all parts hold for its rows."""
    first, *others = (closure.selection.links for closure in closures_taken)
    shared = tuple(option for option in first if all(option in links for links in others))
    return build_graph(snapshot.catalog, Selection(links=shared))


def _recorded_selections(places: _Places, receipt: str | None) -> tuple[Selection | None, ...]:
    if receipt is not None:
        check_file_name(receipt)
        return read_selections(receipt)
    beside = _receipt_beside(places.target)
    return () if beside is None else read_selections(beside)


def _receipt_beside(target: Place) -> str | None:
    path = target.backend.receipt_path(target)
    return path if path is not None and os.path.isfile(path) else None


def _check_clone(violations: Violations, existing: Existing) -> None:
    if existing == "merge":
        raise UsageError(
            "a clone is not merged into anything", hint="`panicdb export --all --merge`, or --replace"
        )
    if violations == "drop":
        raise UsageError(
            "a clone leaves nothing out",
            hint="--violations keep, or `panicdb export --all --violations drop`",
        )


def _check_names(skip: Iterable[str]) -> frozenset[str]:
    names = frozenset(skip)
    unknown = sorted(names - set(ALL_CHECKS))
    if unknown:
        raise UsageError(f"there is no check {unknown[0]!r}", hint="checks: " + ", ".join(ALL_CHECKS))
    return names


def _owned(snapshot: Snapshot, root: Root, key: object) -> Mapping[str, int]:
    completed = profiles.complete(snapshot.catalog, Selection(root=root.entry.name))
    only = replace(completed, ids=(_key_text(key),), whole_ids=True, whole=())
    return closures.owned_counts(snapshot, root, only)


def _key_text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
