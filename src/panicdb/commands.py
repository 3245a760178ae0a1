"""One function per verb. Each reads like a table of contents; the command line and Python call the same ones."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack, get_args, get_type_hints

import sqlalchemy as sa

from panicdb import closure as closures
from panicdb import databases, drifts, planner, profiles, proofs, revisions, runs
from panicdb.backends.base import Snapshot
from panicdb.drifts import Drift, Inference
from panicdb.errors import SelectionError, UsageError
from panicdb.histories import History, HistoryChoice
from panicdb.links import build_graph, parse_link
from panicdb.planner import Plan
from panicdb.receipt import Receipt, is_receipt
from panicdb.reports import ALL_CHECKS, Report
from panicdb.revisions import Mode, Route, SchemaChoice
from panicdb.roots import Root
from panicdb.runs import Run
from panicdb.values import Existing, Monitor, Progress, Selection, Violations

DEFAULT_TIMEOUT = 30.0
LISTED_ROOTS = 50


class RowChoice(TypedDict, total=False):
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


class Naming(TypedDict, total=False):
    """The keywords that name a history of migrations, spelled as `alembic` spells them."""

    config: Iterable[str]
    """An ini file, a TOML file, or both; by default alembic.ini and pyproject.toml here."""
    section: str | None
    x: Iterable[str]
    python: str | None
    """The interpreter of the application's environment."""
    revision: str | None
    """At which revision a source is that has none written down."""


class Building(Naming, total=False):
    """The keywords that say how the target gets its schema."""

    schema: Mode


class Choice(RowChoice, Building, total=False):
    """The keywords of an export."""


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
    _export(source_db_str, target_db_str, selection, Run(Monitor(), float(timeout), existing="merge"))


def export(  # noqa: PLR0913 - all but two are keywords, and optional
    source: str,
    target: str,
    *,
    existing: Existing = "refuse",
    spool: bool = False,
    verify: bool = False,
    seal: bool = False,
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
    and read no longer than that takes; with `verify` the copy's content is read again and compared before it is
    published. `timeout` bounds waiting for locks, in seconds. Returns the receipt.

    Raises UsageError, RefusedError and its kin before anything is written, ConflictError among them: a row to be merged
    has a key that is there with other content; TransferError, CheckFailedError or InterruptedRunError with nothing
    published.
    """
    _check_keywords(choice, Choice)
    run = Run(
        monitor or Monitor(progress), timeout, receipt, existing, spool, schema_from(choice), verify, seal
    )
    return _export(source, target, selection_from(choice), run)


def clone(  # noqa: PLR0913 - all but two are keywords, and optional
    source: str,
    target: str,
    *,
    violations: Violations = "refuse",
    existing: Existing = "refuse",
    spool: bool = False,
    verify: bool = False,
    seal: bool = False,
    receipt: bool | str = True,
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
    progress: Callable[[Progress], None] | None = None,
    **building: Unpack[Building],
) -> Receipt:
    """Copy every row of every ordinary table into a database; otherwise as `export`.

    `violations` may be `refuse` or `keep`: a clone leaves nothing out. `existing` may be `refuse` or `replace`.
    """
    _check_keywords(building, Building)
    _check_clone(violations, existing)
    run = Run(
        monitor or Monitor(progress), timeout, receipt, existing, spool, schema_from(building), verify, seal
    )
    places = runs.locate(source, target, run)
    with runs.opened(places, run) as session:
        graph = build_graph(session.snapshot.catalog, Selection())
        run.monitor.report(Progress("planning"))
        decided = planner.plan_whole(session.snapshot, graph, session.route, violations)
        return runs.carry_out(decided, None, graph, session)


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
    _check_keywords(choice, Choice)
    run = Run(monitor or Monitor(), timeout, False, existing, schema=schema_from(choice))
    selection = selection_from(choice)
    place, goal = runs.locate_source(source, target, run)
    with databases.open_source(place, timeout=timeout, monitor=run.monitor) as snapshot:
        closure = runs.take_closure(snapshot, selection, run)
        route = _planned_route(snapshot, goal, run)
        decided = planner.plan_subset(snapshot, closure, route, measure=True)
        return runs.complete_plan(decided, closure, snapshot, goal, run) if goal else decided


def plan_clone(
    source: str,
    *,
    target: str | None = None,
    violations: Violations = "refuse",
    existing: Existing = "refuse",
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
    **building: Unpack[Building],
) -> Plan:
    """Decide a clone without making it. Reads only."""
    _check_keywords(building, Building)
    _check_clone(violations, existing)
    run = Run(monitor or Monitor(), timeout, False, existing, schema=schema_from(building))
    place, goal = runs.locate_source(source, target, run)
    with databases.open_source(place, timeout=timeout, monitor=run.monitor) as snapshot:
        route = _planned_route(snapshot, goal, run)
        graph = build_graph(snapshot.catalog, Selection())
        decided = planner.plan_whole(snapshot, graph, route, violations)
        return runs.complete_plan(decided, None, snapshot, goal, run) if goal else decided


def verify(  # noqa: PLR0913 - all but two are keywords, and optional
    reference: str,
    target: str,
    *,
    receipt: str | None = None,
    contains: bool = False,
    strict: bool = False,
    show_values: bool = False,
    skip: Iterable[str] = (),
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
    **choice: Unpack[RowChoice],
) -> Report:
    """Compare a target with its source, or with its sealed receipt alone, by seven checks. Reads only.

    `reference` is the source, or the path of a sealed receipt. The rows expected are those of the selection; without
    one, of the receipt (given, or found beside the target); without that, every row of every table. With `contains`
    the target may hold further rows, if the source holds them identically. A sealed receipt also tells which side
    changed since. Between engines the verdict is EQUIVALENT where nothing differs but what the target's can't hold;
    with `strict` that is a difference, too. Differences are findings in the report, not errors; values of rows are in
    them with `show_values`.

    Raises UsageError, and SourceError where source or receipt can't be read.
    """
    _check_keywords(choice, RowChoice)
    run = Run(monitor or Monitor(), timeout)
    terms = proofs.Terms(_check_names(skip), contains, show_values, strict)
    if is_receipt(reference):
        if choice or contains or receipt is not None:
            raise UsageError(
                "a receipt says itself which rows there are",
                hint="leave selection, --contains and --receipt out; or name the source instead",
            )
        return proofs.verify_record(reference, target, terms, run)
    selection = selection_from(choice) if choice else None
    return proofs.verify_source(reference, target, selection, receipt, terms, run)


def drift(
    source: str,
    *,
    infer: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    monitor: Monitor | None = None,
    **naming: Unpack[Naming],
) -> Drift | Inference:
    """Compare a database's live schema with what its own migrations build at its revision. Reads only.

    The migrations run in a guarded child, on a scratch database. With `infer` every revision is run, and those are
    named that build the live schema. Raises HistoryError where no history is known, or none can be run.
    """
    _check_keywords(naming, Naming)
    if infer and naming.get("revision") is not None:
        raise UsageError("--infer finds the revision, and --revision names it", hint="choose one of them")
    run = Run(monitor or Monitor(), timeout, schema=schema_from({**naming, "schema": "migrations"}))
    place = databases.locate(source)
    with ExitStack() as stack:
        staging = stack.enter_context(databases.stage_scratch(place, monitor=run.monitor))
        # Nobody has to wait for migrations that run elsewhere: the source is read, and free again.
        with databases.open_source(place, timeout=timeout, monitor=run.monitor) as snapshot:
            live = drifts.Live(snapshot, snapshot.facts())
            histories, route = _histories(snapshot, run, infer=infer)
            staging.prepare(snapshot)
        if route is None:
            found: Drift | Inference = drifts.infer(histories, live, staging, run.monitor)
        else:
            replayer = stack.enter_context(runs.standing_by(route))
            found = drifts.compare(route, live, staging, replayer, run.monitor)
    runs.require_untouched(place, snapshot.catalog.revisions, live.facts, run)
    return found


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


def selection_from(choice: RowChoice | Choice) -> Selection:
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


def schema_from(choice: Building | Choice) -> SchemaChoice:
    """Check the keywords that say how the target gets its schema. Raises UsageError."""
    mode, revision = choice.get("schema", "auto"), choice.get("revision")
    history = HistoryChoice(
        config=_several(choice.get("config", ())),
        section=choice.get("section"),
        arguments=_several(choice.get("x", ())),
        python=choice.get("python"),
    )
    revisions_given = tuple(sorted({each.strip() for each in (revision or "").split(",")} - {""}))
    if mode not in get_args(Mode):
        raise UsageError(f"there is no schema mode {mode!r}", hint=", ".join(get_args(Mode)))
    if revision is not None and not revisions_given:
        raise UsageError("--revision names none", hint="the identifier of a revision; several with commas")
    if mode == "copy" and (history != HistoryChoice() or revisions_given):
        raise UsageError(
            "a copied schema needs no history and no revision",
            hint="leave --schema copy out, or --config, --name, -x, --python and --revision",
        )
    return SchemaChoice(mode, revisions_given, history)


def _check_keywords(given: Mapping[str, Any], known: type) -> None:
    unknown = sorted(given.keys() - get_type_hints(known).keys())
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}")


def _several(said: str | Iterable[str]) -> tuple[str, ...]:
    return (said,) if isinstance(said, str) else tuple(said)


def _check_text(text: str) -> None:
    """What a shell hands over need not be text, but a database is asked in text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{text!r} is not valid UTF-8", hint="choose rows with such keys by --where \"hex(KEY) = '...'\""
        ) from None


def _export(source: str, target: str, selection: Selection, run: Run) -> Receipt:
    places = runs.locate(source, target, run)
    with runs.opened(places, run) as session:
        closure = runs.take_closure(session.snapshot, selection, run)
        decided = planner.plan_subset(session.snapshot, closure, session.route)
        if places.exists and run.existing == "merge":
            return runs.merge_rows(decided, closure, session)
        return runs.carry_out(decided, closure, closure.graph, session)


def _planned_route(snapshot: Snapshot, goal: runs.Goal | None, run: Run) -> Route:
    if goal is None:
        return runs.find_route(snapshot, run)
    return runs.find_route(snapshot, run, goal.target, merging=goal.merging)


def _histories(snapshot: Snapshot, run: Run, *, infer: bool) -> tuple[tuple[History, ...], Route | None]:
    """Find what to compare with: the histories that may be its, or the one that is."""
    if not infer:
        return (), runs.find_route(snapshot, run)
    runs.require_tables(snapshot)
    engine = snapshot.place.backend.name
    return revisions.candidates(snapshot.catalog, run.schema.history, runs.here(), engine), None


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
