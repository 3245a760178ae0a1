"""Proof: what a target must be, and what it is. Differences are collected as findings and judged once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from panicdb.backends.base import Snapshot
from panicdb.digest import TableDigest
from panicdb.discrepancies import Changed, Discrepancies, Listed
from panicdb.errors import DamagedError, PanicDBError, SourceError, TransferError
from panicdb.links import Graph
from panicdb.model import Convertible, Model, compare_models, read_model
from panicdb.planner import Plan, count_rows, find_violations, stamped_revisions
from panicdb.receipt import Record
from panicdb.references import count_dangling
from panicdb.reports import ALL_CHECKS, BY_CHOICE, Check, Finding, Report, Since, Status
from panicdb.schema import Severity, compare, without_tables
from panicdb.seals import digest_facts
from panicdb.values import Facts


@dataclass(frozen=True)
class Expectation:
    """What a target must be, taken from the source's snapshot and the plan."""

    revisions: Mapping[str, tuple[str, ...]]
    facts: Facts
    rows: Mapping[str, int]
    graph: Graph
    dangling: Mapping[str, int]
    sequences: Mapping[str, int]
    digests: Mapping[str, TableDigest] = field(default_factory=dict)
    """What each table is to hold; only where content is compared."""
    schema: str | None = None
    """The digest of the schema, where a receipt has no more of it than that."""
    stamped: frozenset[str] = frozenset()
    """Version tables that the target has because the user said at which revision the source is."""
    counters_exact: bool = True
    """Else a counter may stand behind the source's, which moved on, but beyond every number in use."""
    across: "Across | None" = None
    """What holds instead, if the target is of another engine."""
    most: Mapping[str, int] | None = None
    """Where a target may hold more than this: how many rows of each table at most."""


@dataclass(frozen=True)
class Across:
    """What a target of another engine must be: what two engines have in common."""

    model: Model
    convertible: Convertible
    counters: Mapping[str, int]
    """The last number that each table's counter gave."""


def expect_across(expected: Expectation, snapshot: Snapshot, convertible: Convertible) -> Expectation:
    """Expect the same of a target of another engine, as far as engines have it in common. Reads only."""
    return replace(expected, across=Across(read_model(snapshot), convertible, snapshot.counters()))


def expect(snapshot: Snapshot, plan: Plan, graph: Graph) -> Expectation:
    """Note down what the target must be, while the snapshot lasts. Reads only."""
    return Expectation(
        revisions=plan.revisions,
        facts=snapshot.facts(),
        rows={
            **plan.empty,
            **dict.fromkeys(plan.empty, 0),
            **{table.name: table.rows for table in plan.tables},
        },
        graph=graph,
        dangling=plan.kept,
        sequences=snapshot.sequences(),
        stamped=frozenset(plan.route.stamped).difference(snapshot.catalog.tables),
    )


def expect_whole(
    snapshot: Snapshot, graph: Graph, stamped: Mapping[str, tuple[str, ...]], skip: frozenset[str]
) -> Expectation:
    """Expect every row of a source, while the snapshot lasts; what no check asks for is not looked up. Reads only."""
    found = {} if "foreign keys" in skip else find_violations(snapshot, graph)
    return Expectation(
        revisions=stamped_revisions(snapshot.catalog, stamped),
        facts={} if "schema" in skip else snapshot.facts(),
        rows={entry.name: count_rows(snapshot, entry) for entry in snapshot.catalog.ordinary()},
        graph=graph,
        dangling={str(link): count for link, count in found.items()},
        sequences=snapshot.sequences(),
        stamped=frozenset(stamped).difference(snapshot.catalog.tables),
    )


def expect_record(record: Record, graph: Graph) -> Expectation:
    """Return what a sealed receipt says that its target is."""
    seal = record.seal
    return Expectation(
        revisions=record.revisions,
        facts={},
        rows={name: digest.rows for name, digest in seal.tables.items()},
        graph=graph,
        dangling=seal.dangling,
        sequences=seal.sequences,
        digests=seal.tables,
        schema=seal.schema,
    )


@dataclass(frozen=True)
class Content:
    """What a target's tables hold, and where that is not what they must."""

    digests: Mapping[str, TableDigest] = field(default_factory=dict)
    located: Mapping[str, Discrepancies] = field(default_factory=dict)
    same: Mapping[str, int] = field(default_factory=dict)
    """Rows of the tables that the engine itself compared, row by row, and found to be what they must."""
    losses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Between engines: what had to be lost, as rows by column and class."""
    strict: bool = False
    """Whatever had to be lost is a difference, too."""
    failure: PanicDBError | None = None
    """Why this could not be found out."""
    values: bool = False
    """Show values that differ."""


def check_target(
    expected: Expectation,
    target: Snapshot,
    reference: str,
    *,
    content: Content | None = None,
    checks: tuple[str, ...] = ALL_CHECKS,
    skip: frozenset[str] = frozenset(),
) -> Report:
    """Compare a target with what it must be. Reads only; raises nothing for a difference."""
    done: list[Check] = []
    findings: list[Finding] = []
    for name in checks:
        if name in skip:
            done.append(Check(name, Status.SKIPPED, BY_CHOICE, chosen=True))
            continue
        check, found = _make(name, expected, target, content or Content())
        findings += found
        done.append(check)
    losses = {} if content is None else content.losses
    return Report(reference, target.place.shown, tuple(done), tuple(findings), losses=losses)


def _make(
    name: str, expected: Expectation, target: Snapshot, content: Content
) -> tuple[Check, list[Finding]]:
    """Make one check. A target that can't be read because it is damaged differs; what else fails was not checked."""
    try:
        if name == "content":
            found, note = _check_content(expected, content)
        else:
            found, note = _CHECKS[name](expected, target)
    except DamagedError as error:
        if error.place != target.place.shown:
            return Check(name, Status.SKIPPED, error.message), []
        found, note = [Finding("INT002", name, error.message)], "the target can't be read"
    except (SourceError, TransferError) as error:
        return Check(name, Status.SKIPPED, error.message), []
    return Check(name, Status.FAIL if found else Status.PASS, note), found


@dataclass(frozen=True)
class State:
    """What a sealed receipt can tell changes of, on one side."""

    revision: Mapping[str, tuple[str, ...]]
    schema: str
    sequences: Mapping[str, int]
    tables: Mapping[str, TableDigest]

    def differing(self, other: "State", skip: frozenset[str]) -> tuple[str, ...]:
        """Name what is otherwise there; what belongs to a check in `skip` was not looked at."""
        pairs = {
            "revision": (self.revision, other.revision),
            "schema": (self.schema, other.schema),
            "sequences": (self.sequences, other.sequences),
        }
        names = [name for name, (one, its) in pairs.items() if name not in skip and one != its]
        tables = () if "content" in skip else sorted({*self.tables, *other.tables})
        return (*names, *(name for name in tables if self.tables.get(name) != other.tables.get(name)))


def since(report: Report, path: str, target: tuple[str, ...], source: tuple[str, ...]) -> Report:
    """Add what left its sealed receipt, on which side. A target that did differs, whatever the source says by now."""
    checks = {name: name if name in ALL_CHECKS else "content" for name in target}
    found = tuple(
        Finding("RCP001", check, f"{name}: the target is not what its receipt says")
        for name, check in checks.items()
    )
    failed = {*checks.values()}
    return replace(
        report,
        checks=tuple(
            replace(each, status=Status.FAIL) if each.name in failed else each for each in report.checks
        ),
        findings=(*report.findings, *found),
        since=Since(path, target, source),
    )


def unreadable(reference: str, target: str, error: DamagedError, skip: frozenset[str]) -> Report:
    """Report on a target that is too damaged to be opened: no check but one can be made, and that one fails."""
    checks = tuple(
        Check(name, Status.FAIL, "the target can't be read")
        if name == "integrity"
        else Check(
            name, Status.SKIPPED, BY_CHOICE if name in skip else "the target can't be read", name in skip
        )
        for name in ALL_CHECKS
    )
    return Report(reference, target, checks, (Finding("INT002", "integrity", error.message),))


Found = tuple[list[Finding], str]


def _check_revision(expected: Expectation, target: Snapshot) -> Found:
    ours, theirs = expected.revisions, target.catalog.revisions
    if not ours and not theirs:
        return [], "no version table on either side"
    found = [
        Finding(
            "REV001",
            "revision",
            f"{table}: {_rows(ours.get(table))} in the source, {_rows(theirs.get(table))} in the target",
        )
        for table in sorted({*ours, *theirs})
        if ours.get(table) != theirs.get(table)
    ]
    return found, "; ".join(f"{table}: {_rows(rows)}" for table, rows in ours.items())


def _rows(rows: tuple[str, ...] | None) -> str:
    return "no such table" if rows is None else ", ".join(rows) or "no row"


def _check_schema_across(across: Across, target: Snapshot) -> Found:
    """What only tells engines apart is no finding: it was told when the target was made, and rows fit."""
    differences = compare_models(across.model, read_model(target), across.convertible)
    found = [
        Finding("SCH001", "schema", f"{each.severity}: {each}")
        for each in differences
        if each.severity is Severity.BLOCKING
    ]
    note = "tables, columns, types, keys and links, as both engines have them"
    others = len(differences) - len(found)
    return found, note + (f", {others} differences that no row minds" if others else "")


def _check_schema(expected: Expectation, target: Snapshot) -> Found:
    if expected.across is not None:
        return _check_schema_across(expected.across, target)
    if expected.schema is not None:
        same = digest_facts(target.facts()) == expected.schema
        found = (
            []
            if same
            else [Finding("SCH003", "schema", "it is not what it was when the receipt was written")]
        )
        return found, "by digest"
    differences = compare(
        without_tables(expected.facts, expected.stamped), without_tables(target.facts(), expected.stamped)
    )
    counted = [each for each in differences if each.severity is not Severity.COSMETIC]
    cosmetic = len(differences) - len(counted)
    found = [Finding(_SCHEMA_CODES[each.severity], "schema", f"{each.severity}: {each}") for each in counted]
    objects = len({name for name, _property in expected.facts})
    note = f"{objects} objects, {len(expected.facts)} facts"
    if found:
        note += "; `panicdb drift` tells which side left its revision"
    return found, note + (f", {cosmetic} cosmetic differences" if cosmetic else "")


_SCHEMA_CODES = {Severity.BLOCKING: "SCH001", Severity.SEMANTIC: "SCH002"}


def _check_rows(expected: Expectation, target: Snapshot) -> Found:
    found = []
    for name, rows in expected.rows.items():
        entry = target.catalog.tables.get(name)
        there = None if entry is None else count_rows(target, entry)
        most = rows if expected.most is None else expected.most[name]
        if there is None or not rows <= there <= most:
            text = "no such table" if there is None else str(there)
            wanted = str(rows) if most == rows else f"{rows} to {most}"
            found.append(Finding("ROW001", "rows", f"{name}: {wanted} expected, {text} in the target"))
    extra = [
        entry
        for entry in target.catalog.ordinary()
        if entry.name not in expected.rows and (expected.across is None or count_rows(target, entry))
    ]
    found += [
        Finding(
            "ROW002",
            "rows",
            f"{entry.name}: {count_rows(target, entry)} rows in a table the source does not have",
        )
        for entry in extra
    ]
    more = "" if expected.most is None else ", and what else the source holds"
    return found, f"{sum(expected.rows.values())} rows in {len(expected.rows)} tables{more}"


def _check_content(expected: Expectation, content: Content) -> Found:
    if content.failure is not None:
        raise content.failure
    found = []
    for name, digest in expected.digests.items():
        there = content.digests.get(name)
        if there is None:
            found.append(Finding("CNT005", "content", f"{name}: no such table in the target"))
        elif there != digest:
            # Digests are what counts: where nothing could be named for it, the difference stays one.
            unnamed = [Finding("CNT000", "content", f"{name}: the digests differ")]
            found += _content_findings(name, content) or ([] if expected.most is not None else unnamed)
    if content.strict:
        found += [
            Finding("CNT006", "content", f"{column}: {loss} in {count} rows")
            for column, losses in content.losses.items()
            for loss, count in losses.items()
        ]
    rows = sum(digest.rows for digest in expected.digests.values()) + sum(content.same.values())
    exactly = "to the last byte" if expected.across is None else "every value"
    how = "but for what had to be lost" if content.losses else exactly
    return found, f"{rows} rows in {len(expected.digests) + len(content.same)} tables, {how}"


def _content_findings(name: str, content: Content) -> list[Finding]:
    located = content.located.get(name)
    if located is None:
        return []
    classes = (
        ("CNT001", located.missing, "missing in the target"),
        ("CNT002", located.extra, "in the target only"),
        ("CNT003", located.changed, "otherwise in the target"),
        ("CNT004", located.repeated, "not as often in the target"),
    )
    columns = sorted({column for each in located.rows for column in each.columns})
    details = tuple(map(_spell_values, located.rows)) if content.values else ()
    return [
        Finding(
            code,
            "content",
            f"{name}: {listed.count} row{'s' * (listed.count != 1)} {text}{_of(code, columns)}: {_keys(listed)}",
            details if code == "CNT003" else (),
        )
        for code, listed, text in classes
        if listed.count
    ]


def _of(code: str, columns: list[str]) -> str:
    return f" ({', '.join(columns)})" if code == "CNT003" and columns else ""


def _spell_values(row: Changed) -> str:
    pairs = (f"{each.column} {each.ours} became {each.theirs}" for each in row.values)
    return f"{row.key}: {', '.join(pairs)}"


def _keys(listed: Listed) -> str:
    more = listed.count - len(listed.keys)
    return "; ".join(listed.keys) + (f"; and {more} more" if more else "")


def _check_foreign_keys(expected: Expectation, target: Snapshot) -> Found:
    found, kept, made = [], 0, 0
    for link in expected.graph.links:
        if link.child not in target.catalog.tables or expected.graph.policy(link).up == "leave":
            continue
        allowed = expected.dangling.get(str(link), 0)
        made += 1
        kept += allowed
        if link not in expected.graph.broken and link.parent not in target.catalog.tables:
            found.append(Finding("FKY002", "foreign keys", f"{link}: the target has no table {link.parent}"))
            continue
        dangling = count_dangling(target, expected.graph, link)
        if dangling > allowed or (dangling < allowed and expected.most is None):
            found.append(
                Finding(
                    "FKY001",
                    "foreign keys",
                    f"{link}: {dangling} rows lead nowhere, {allowed} do in the source",
                )
            )
    note = f"{made} links, by anti-join"
    return found, note + (f", {kept} violations kept as in the source" if kept else "")


def _check_counters(across: Across, target: Snapshot) -> Found:
    """A counter of another engine may stand further than the source's, which need not have one."""
    there = target.counters()
    found = [
        Finding(
            "SEQ001",
            "sequences",
            f"{table}: stands at {across.counters[table]} in the source, at {last} in the target",
        )
        for table, last in sorted(there.items())
        if last < across.counters.get(table, last)
    ]
    found += [
        Finding("SEQ002", "sequences", f"{table}: its counter would give a number that is in use")
        for table in target.colliding_counters()
    ]
    return found, f"{len(there)} counters, none behind the source's or the rows"


def _check_sequences(expected: Expectation, target: Snapshot) -> Found:
    if expected.across is not None:
        return _check_counters(expected.across, target)
    there = target.sequences()
    found = [
        Finding(
            "SEQ001",
            "sequences",
            f"{table}: stands at {expected.sequences.get(table, 'nothing')} in the source, "
            f"at {there.get(table, 'nothing')} in the target",
        )
        for table in sorted({*expected.sequences, *there})
        if not _stands_right(expected, table, there.get(table), target)
    ]
    return found, f"{len(expected.sequences)} counters"


def _stands_right(expected: Expectation, table: str, there: int | None, target: Snapshot) -> bool:
    wanted = expected.sequences.get(table)
    if wanted == there or expected.counters_exact or wanted is None or there is None:
        return wanted == there
    return target.counts_on(table, there, wanted)


def _check_integrity(expected: Expectation, target: Snapshot) -> Found:
    del expected
    damage = target.damage()
    return [Finding("INT001", "integrity", text) for text in damage], "the engine's own check"


_CHECKS: Mapping[str, Callable[[Expectation, Snapshot], Found]] = {
    "revision": _check_revision,
    "schema": _check_schema,
    "rows": _check_rows,
    "foreign keys": _check_foreign_keys,
    "sequences": _check_sequences,
    "integrity": _check_integrity,
}
