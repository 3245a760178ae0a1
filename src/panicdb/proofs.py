"""What `verify` goes through: what a target must be is found out, what it is, and what a receipt says of both."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from panicdb import (
    contents,
    conversion,
    databases,
    discrepancies,
    equivalence,
    planner,
    runs,
    transfer,
    verification,
)
from panicdb.backends.base import Place, Snapshot
from panicdb.closure import Closure
from panicdb.contents import Rows
from panicdb.digest import TableDigest
from panicdb.digester import digesting
from panicdb.errors import (
    DamagedError,
    SelectionError,
    SourceError,
    TransferError,
    UsageError,
    check_file_name,
)
from panicdb.links import Graph, build_graph, parse_link
from panicdb.receipt import Record, find_record, read_record, read_selections, read_stamp
from panicdb.references import count_dangling
from panicdb.reports import BY_CHOICE, Compared, Coverage, Report
from panicdb.revisions import Route
from panicdb.runs import Run
from panicdb.seals import Seal, digest_facts
from panicdb.values import Catalog, Kind, Selection
from panicdb.verification import Content, Expectation, State

_BY_ENGINE = "row by row, by the engine"
_BY_DIGEST = "by digest"
_NORMALISED = (
    "schema: white space, comments, quotes and the case of key words in definitions",
    "content: nothing; every value counts with its type and to the last byte, the order of rows does not",
)


@dataclass(frozen=True)
class Terms:
    """How a target is to be judged."""

    skip: frozenset[str]
    contains: bool
    """It may hold further rows, if the source holds them identically."""
    values: bool
    """Show values that differ."""
    strict: bool = False
    """What another engine can't hold is a difference, too."""


@dataclass(frozen=True)
class _Basis:
    """Which rows are expected, and by whose word; no selection expects every row."""

    selections: tuple[Selection | None, ...]
    stamped: Mapping[str, tuple[str, ...]]
    receipt: str = ""
    record: Record | None = None
    """The seal of the receipt that tells which rows are expected."""

    @property
    def whole(self) -> bool:
        """Tell whether every row of every table is expected."""
        return not self.selections or None in self.selections


def verify_source(
    source: str, target: str, selection: Selection | None, receipt: str | None, terms: Terms, run: Run
) -> Report:
    """Compare a target with its source; with a sealed receipt, both with that, too. Reads only."""
    origin, goal = databases.locate(source), databases.locate(target)
    basis = _find_basis(goal, selection, receipt)
    if terms.contains and basis.whole:
        raise UsageError(
            "--contains needs rows that the target must hold at least",
            hint="add ids, --where SQL or --all, or the receipt of an export",
        )
    with databases.open_source(origin, timeout=run.timeout, monitor=run.monitor) as snapshot:
        try:
            with databases.open_source(goal, timeout=run.timeout, monitor=run.monitor) as copy:
                expected, rows = _expect(snapshot, basis, terms, run)
                if runs.are_across(origin, goal):
                    expected = verification.expect_across(
                        expected, snapshot, conversion.convertible(origin.backend.name)
                    )
                return _judge(expected, rows, snapshot, copy, basis, terms, run)
        except DamagedError as error:
            if error.place != goal.shown:
                raise
            return verification.unreadable(origin.shown, goal.shown, error, terms.skip)


def verify_record(path: str, target: str, terms: Terms, run: Run) -> Report:
    """Compare a target with what its sealed receipt says of it; the source is not needed. Reads only."""
    check_file_name(path)
    record, goal = read_record(path), databases.locate(target)
    try:
        with databases.open_source(goal, timeout=run.timeout, monitor=run.monitor) as copy:
            expected = verification.expect_record(record, _recorded_graph(copy.catalog, record.seal.links))
            content = _digest_recorded(record, copy, terms, run)
            report = verification.check_target(expected, copy, path, content=content, skip=terms.skip)
            return replace(report, coverage=_cover(copy.catalog, record.seal.columns, content, terms))
    except DamagedError as error:
        return verification.unreadable(path, goal.shown, error, terms.skip)


def _recorded_graph(catalog: Catalog, links: Iterable[str]) -> Graph:
    """Build the graph of a target that may have lost what a link names: the check of the schema tells of that."""
    options = []
    for option in map(parse_link, links):
        with suppress(SelectionError):
            build_graph(catalog, Selection(links=(option,)))
            options.append(option)
    return build_graph(catalog, Selection(links=tuple(options)))


def _find_basis(target: Place, selection: Selection | None, receipt: str | None) -> _Basis:
    """A receipt that merely lies there, and can't be read, is no reason to fail where a selection was given."""
    if receipt is not None:
        check_file_name(receipt)
    recorded = receipt or runs.receipt_beside(target)
    try:
        stamped = {} if recorded is None else read_stamp(recorded)
    except SourceError:
        if selection is None or receipt is not None:
            raise
        stamped = {}
    if selection is not None or recorded is None:
        return _Basis(() if selection is None else (selection,), stamped)
    return _Basis(read_selections(recorded), stamped, recorded, find_record(recorded))


def _expect(
    snapshot: Snapshot, basis: _Basis, terms: Terms, run: Run
) -> tuple[Expectation, Mapping[str, Rows]]:
    """Note down what the target must be; of several selections, as merged, all their rows."""
    if basis.whole:
        graph = build_graph(snapshot.catalog, Selection())
        every = {entry.name: contents.whole_rows(entry) for entry in snapshot.catalog.ordinary()}
        return verification.expect_whole(snapshot, graph, basis.stamped, terms.skip), every
    route = Route("copy", "not built here", stamped=basis.stamped)
    expected, rows = _expect_selected(snapshot, basis.selections, route, run)
    return (_allow_more(expected, snapshot) if terms.contains else expected), rows


def _expect_selected(
    snapshot: Snapshot, selections: Sequence[Selection | None], route: Route, run: Run
) -> tuple[Expectation, Mapping[str, Rows]]:
    chosen = [selection for selection in selections if selection is not None]
    taken = [runs.take_closure(snapshot, selection, run, number) for number, selection in enumerate(chosen)]
    plans = [planner.plan_subset(snapshot, closure, route) for closure in taken]
    steps = [
        step
        for plan, closure in zip(plans, taken, strict=True)
        for step in transfer.copy_steps(plan, closure, snapshot)
    ]
    rows = contents.arriving(snapshot, [entry.name for entry in snapshot.catalog.ordinary()], steps)
    if len(taken) == 1:
        expected = verification.expect(snapshot, plans[0], taken[0].graph)
    else:
        counts = {name: contents.count(snapshot, each) for name, each in rows.items()}
        expected = replace(
            verification.expect(snapshot, plans[-1], _shared_graph(snapshot, taken)), rows=counts
        )
    return replace(expected, counters_exact=False), rows


def _shared_graph(snapshot: Snapshot, closures_taken: Sequence[Closure]) -> Graph:
    """Of links that were declared for some parts of a merged file, only those of all parts hold for its rows."""
    first, *others = (closure.selection.links for closure in closures_taken)
    shared = tuple(option for option in first if all(option in links for links in others))
    return build_graph(snapshot.catalog, Selection(links=shared))


def _allow_more(expected: Expectation, snapshot: Snapshot) -> Expectation:
    """Further rows may come with the violations that the source has."""
    tables = snapshot.catalog.tables
    return replace(
        expected,
        most={
            name: max(rows, planner.count_rows(snapshot, tables[name]))
            for name, rows in expected.rows.items()
        },
        dangling={str(link): count_dangling(snapshot, expected.graph, link) for link in expected.graph.links},
    )


def _judge(
    expected: Expectation,
    rows: Mapping[str, Rows],
    snapshot: Snapshot,
    copy: Snapshot,
    basis: _Basis,
    terms: Terms,
    run: Run,
) -> Report:
    expected, content = _compare_content(expected, rows, snapshot, copy, basis, terms, run)
    report = verification.check_target(expected, copy, snapshot.place.shown, content=content, skip=terms.skip)
    columns = {name: each.columns for name, each in rows.items()}
    report = replace(report, coverage=_cover(copy.catalog, columns, content, terms))
    if basis.record is None:
        return report
    seal = basis.record.seal
    return _since(report, basis, expected, _as_sealed(content, seal, columns, copy, run), copy, terms)


def _compare_content(
    expected: Expectation,
    rows: Mapping[str, Rows],
    snapshot: Snapshot,
    copy: Snapshot,
    basis: _Basis,
    terms: Terms,
    run: Run,
) -> tuple[Expectation, Content]:
    """Compare what both sides hold, and look again at the tables whose digests differ. Reads only."""
    if "content" in terms.skip:
        return expected, Content()
    try:
        if expected.across is not None:
            return _compare_across(expected, rows, snapshot, copy, terms, run)
        # A seal speaks of digests, so they have to be made.
        same = {} if basis.record else _same_by_engine(rows, expected, snapshot, copy)
        left = {name: each for name, each in rows.items() if name not in same}
        ours, theirs = _digest_both(left, snapshot, copy, run)
        further = contents.whole_rows if terms.contains else None
        located = {
            name: discrepancies.locate(
                rows[name],
                entry,
                snapshot,
                copy,
                run.monitor,
                further=further(entry) if further is not None else None,
            )
            for name, there in theirs.items()
            if there != ours[name] and (entry := snapshot.catalog.tables[name])
        }
    except (SourceError, TransferError) as error:
        return expected, Content(failure=error)
    return replace(expected, digests=ours), Content(theirs, located, same, values=terms.values)


def _compare_across(
    expected: Expectation,
    rows: Mapping[str, Rows],
    snapshot: Snapshot,
    copy: Snapshot,
    terms: Terms,
    run: Run,
) -> tuple[Expectation, Content]:
    found = equivalence.compare(rows.values(), snapshot, copy, run.monitor, contains=terms.contains)
    content = Content(
        found.theirs, found.located, losses=found.losses, strict=terms.strict, values=terms.values
    )
    return replace(expected, digests=found.ours), content


def _same_by_engine(
    rows: Mapping[str, Rows], expected: Expectation, snapshot: Snapshot, copy: Snapshot
) -> Mapping[str, int]:
    """Return the tables of which the engine itself says that they hold what they must, with their rows."""
    comparison = snapshot.place.backend.compare(snapshot, copy)
    held = frozenset() if comparison is None else contents.held(comparison, rows, snapshot)
    return {name: expected.rows[name] for name in rows if name in held}


def _digest_both(
    rows: Mapping[str, Rows], snapshot: Snapshot, copy: Snapshot, run: Run
) -> tuple[Mapping[str, TableDigest], Mapping[str, TableDigest]]:
    if not rows:
        return {}, {}
    columns = {name: each.columns for name, each in rows.items()}
    with digesting(copy, columns, timeout=run.timeout) as digester:
        ours = {name: contents.digest(snapshot, each, run.monitor) for name, each in rows.items()}
        return ours, digester.result(run.monitor)


def _digest_recorded(record: Record, copy: Snapshot, terms: Terms, run: Run) -> Content:
    if "content" in terms.skip:
        return Content()
    try:
        with digesting(copy, record.seal.columns, timeout=run.timeout) as digester:
            return Content(digester.result(run.monitor))
    except (SourceError, TransferError) as error:
        return Content(failure=error)


def _as_sealed(
    content: Content, seal: Seal, columns: Mapping[str, tuple[str, ...]], copy: Snapshot, run: Run
) -> Content:
    """A source that was migrated since made us digest other columns of the target than those of the seal."""
    if content.failure is not None or not content.digests:
        return content
    sealed = {name: each for name, each in seal.columns.items() if columns.get(name) != each}
    others = contents.digest_columns(copy, sealed, run.monitor)
    return replace(content, digests={**content.digests, **others})


def _since(
    report: Report, basis: _Basis, expected: Expectation, content: Content, copy: Snapshot, terms: Terms
) -> Report:
    """Tell a target that was changed or damaged from a source that moved on."""
    assert basis.record is not None  # noqa: S101 - the caller looked
    seal = basis.record.seal
    target_then = State(basis.record.revisions, seal.schema, seal.sequences, seal.tables)
    target_now = State(copy.catalog.revisions, digest_facts(copy.facts()), copy.sequences(), content.digests)
    source_then = replace(target_then, schema=seal.source_schema)
    source_now = State(expected.revisions, digest_facts(expected.facts), expected.sequences, expected.digests)
    skip = terms.skip if content.failure is None else terms.skip | {"content"}
    # A target that may hold more than its receipt says is not changed because it does.
    more = skip | {"content", "sequences"} if terms.contains else skip
    changed, moved = target_now.differing(target_then, more), source_now.differing(source_then, skip)
    return verification.since(report, basis.receipt, changed, moved)


def _cover(
    catalog: Catalog, columns: Mapping[str, tuple[str, ...]], content: Content, terms: Terms
) -> Coverage:
    """List what was compared, and what was not."""
    versions = [entry for entry in catalog.tables.values() if entry.kind is Kind.VERSION]
    compared, left_out = [], {}
    if "revision" in terms.skip:
        left_out = dict.fromkeys((entry.name for entry in versions), BY_CHOICE)
    else:
        compared = [Compared(entry.name, entry.stored, "by the check of the revision") for entry in versions]
    for entry in catalog.tables.values():
        if entry.kind is Kind.VIRTUAL:
            left_out[entry.name] = (
                "a module of the engine keeps it: its definition is compared, its content is not"
            )
        for column in entry.table.c:
            if column.name not in entry.stored and not column.system and entry.kind is Kind.ORDINARY:
                left_out[f"{entry.name}.{column.name}"] = "computed by the engine: its definition is compared"
    if "content" in terms.skip or content.failure is not None:
        why = BY_CHOICE if "content" in terms.skip else "its content could not be read on both sides"
        return Coverage(tuple(compared), _NORMALISED[:1], {**dict.fromkeys(columns, why), **left_out})
    compared += [
        Compared(name, names, _BY_ENGINE if name in content.same else _BY_DIGEST)
        for name, names in columns.items()
    ]
    return Coverage(tuple(compared), _NORMALISED, left_out)
