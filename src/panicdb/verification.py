"""Proof: what a target must be, and what it is. Differences are collected as findings and judged once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from panicdb.backends.base import Snapshot
from panicdb.digest import TableDigest
from panicdb.discrepancies import Discrepancies, Listed
from panicdb.links import Graph
from panicdb.planner import Plan, count_rows
from panicdb.receipt import Record
from panicdb.references import count_dangling
from panicdb.schema import Severity, compare, without_tables
from panicdb.seals import digest_facts
from panicdb.values import Facts

ALL_CHECKS = ("revision", "schema", "rows", "content", "foreign keys", "sequences", "integrity")
PUBLICATION_CHECKS = ("revision", "schema", "rows", "foreign keys", "sequences")
"""Made before every publication; content, too, where that is asked for."""


class Status(StrEnum):
    """How a check ended."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True)
class Finding:
    """One difference. `code` is stable: a reader of reports may rely on it."""

    code: str
    check: str
    text: str
    """What differs: objects, counts and keys; never another value of a row."""


@dataclass(frozen=True)
class Check:
    """One check and how it ended; `note` says what was compared, or why nothing was."""

    name: str
    status: Status
    note: str


@dataclass(frozen=True)
class Report:
    """All checks and findings of one verification."""

    reference: str
    target: str
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Tell whether every check that was made passed."""
        return all(check.status is not Status.FAIL for check in self.checks)


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


def expect_record(record: Record, graph: Graph) -> Expectation:
    """Return what a sealed receipt says that its target is."""
    seal = record.seal
    return Expectation(
        revisions=record.revisions,
        facts={},
        rows={name: digest.rows for name, digest in seal.tables.items()},
        graph=graph,
        dangling=record.kept,
        sequences=seal.sequences,
        digests=seal.tables,
        schema=seal.schema,
    )


@dataclass(frozen=True)
class Content:
    """What a target's tables hold, and where that is not what they must."""

    digests: Mapping[str, TableDigest]
    located: Mapping[str, Discrepancies] = field(default_factory=dict)


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
            done.append(Check(name, Status.SKIPPED, "by choice"))
            continue
        if name == "content":
            found, note = _check_content(expected, content or Content({}))
        else:
            found, note = _CHECKS[name](expected, target)
        findings += found
        done.append(Check(name, Status.FAIL if found else Status.PASS, note))
    return Report(reference, target.place.shown, tuple(done), tuple(findings))


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


def _check_schema(expected: Expectation, target: Snapshot) -> Found:
    if expected.schema is not None:
        same = digest_facts(target.facts()) == expected.schema
        found = (
            []
            if same
            else [Finding("SCH004", "schema", "it is not what it was when the receipt was written")]
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


_SCHEMA_CODES = {
    Severity.BLOCKING: "SCH001",
    Severity.SEMANTIC: "SCH002",
    Severity.COSMETIC: "SCH003",
}


def _check_rows(expected: Expectation, target: Snapshot) -> Found:
    found = []
    for name, rows in expected.rows.items():
        entry = target.catalog.tables.get(name)
        there = None if entry is None else count_rows(target, entry)
        if there != rows:
            text = "no such table" if there is None else str(there)
            found.append(Finding("ROW001", "rows", f"{name}: {rows} expected, {text} in the target"))
    extra = [entry for entry in target.catalog.ordinary() if entry.name not in expected.rows]
    found += [
        Finding(
            "ROW002",
            "rows",
            f"{entry.name}: {count_rows(target, entry)} rows in a table the source does not have",
        )
        for entry in extra
    ]
    return found, f"{sum(expected.rows.values())} rows in {len(expected.rows)} tables"


def _check_content(expected: Expectation, content: Content) -> Found:
    found = []
    for name, digest in expected.digests.items():
        there = content.digests.get(name)
        if there is None:
            found.append(Finding("CNT005", "content", f"{name}: no such table in the target"))
        elif there != digest:
            found += _content_findings(name, content.located.get(name))
    rows = sum(digest.rows for digest in expected.digests.values())
    return found, f"{rows} rows in {len(expected.digests)} tables, by digest"


def _content_findings(name: str, located: Discrepancies | None) -> list[Finding]:
    if located is None:
        return [Finding("CNT000", "content", f"{name}: the digests differ")]
    classes = (
        ("CNT001", located.missing, "missing in the target"),
        ("CNT002", located.extra, "in the target only"),
        ("CNT003", located.changed, "otherwise in the target"),
        ("CNT004", located.repeated, "not as often in the target"),
    )
    columns = sorted({column for each in located.columns for column in each.columns})
    return [
        Finding(code, "content", f"{name}: {listed.count} rows {text}{_of(code, columns)}: {_keys(listed)}")
        for code, listed, text in classes
        if listed.count
    ]


def _of(code: str, columns: list[str]) -> str:
    return f" ({', '.join(columns)})" if code == "CNT003" and columns else ""


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
        if dangling != allowed:
            found.append(
                Finding(
                    "FKY001",
                    "foreign keys",
                    f"{link}: {dangling} rows lead nowhere, {allowed} do in the source",
                )
            )
    note = f"{made} links, by anti-join"
    return found, note + (f", {kept} violations kept as in the source" if kept else "")


def _check_sequences(expected: Expectation, target: Snapshot) -> Found:
    there = target.sequences()
    found = [
        Finding(
            "SEQ001",
            "sequences",
            f"{table}: stands at {expected.sequences.get(table, 'nothing')} in the source, "
            f"at {there.get(table, 'nothing')} in the target",
        )
        for table in sorted({*expected.sequences, *there})
        if expected.sequences.get(table) != there.get(table)
    ]
    return found, f"{len(expected.sequences)} counters"


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
