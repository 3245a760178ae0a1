"""Values as text and as JSON. Prints nothing itself."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from panicdb.building import WAYS, told
from panicdb.commands import RootList
from panicdb.drifts import Drift, Inference
from panicdb.errors import PanicDBError
from panicdb.planner import Plan
from panicdb.receipt import Receipt, selection_as_dict
from panicdb.reports import BY_CHOICE, Finding, Report, Since, Verdict
from panicdb.values import as_json

LONGEST_LABEL = 40


def to_json(value: Mapping[str, Any], *, ascii_only: bool = False) -> str:
    """Spell plain values as JSON for people and programs."""
    return json.dumps(as_json(value), indent=2, ensure_ascii=ascii_only, default=str)


def error_text(error: PanicDBError) -> str:
    """Spell an error: what was found and wanted, then what to do."""
    return f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else "")


def as_text(value: object) -> str:
    """Spell a result for people."""
    match value:
        case Plan():
            return plan_text(value)
        case Receipt():
            return receipt_text(value)
        case Report():
            return report_text(value)
        case RootList():
            return roots_text(value)
        case Drift():
            return drift_text(value)
        case Inference():
            return inference_text(value)
    raise TypeError(f"no text for {type(value).__name__}")


def as_plain(value: object) -> dict[str, Any]:
    """Turn a result into plain values for JSON."""
    match value:
        case Plan():
            return plan_json(value)
        case Receipt():
            return value.as_dict()
        case Report():
            return report_json(value)
        case RootList():
            return roots_json(value)
        case Drift():
            return drift_json(value)
        case Inference():
            return inference_json(value)
    raise TypeError(f"no plain values for {type(value).__name__}")


def plan_text(plan: Plan) -> str:
    """Show a plan: rows, bytes and ways per table, the schema's route, and what a reader should know."""
    rows = [
        (
            table.name,
            f"{table.rows:,}",
            f"{table.owned:,}",
            f"{table.support:,}",
            f"{table.source_rows:,}",
            size_text(table.bytes),
            "every row"
            if table.whole
            else ", ".join(f"{way} {count:,}" for way, count in table.ways.items()),
        )
        for table in plan.tables
    ]
    lines = [
        *columns(("table", "rows", "owned", "support", "of", "about", "by"), rows, right=(1, 2, 3, 4, 5)),
        "",
        f"{plan.rows:,} rows in {len(plan.tables)} tables, about {size_text(plan.bytes)}",
        f"schema: {_planned_text(plan)} ({plan.route.reason})",
        *_more(plan.empty, plan.kept),
        *(
            f"becomes NULL: {link} in {count:,} rows"
            for each in plan.tables
            for link, count in each.nulled.items()
        ),
        *(f"policy: {link}={policy}" for link, policy in plan.policies.items()),
        *_loss_lines(plan.losses),
        *_merge_lines(plan),
        *(f"left behind: {each}" for each in plan.left_behind),
        *(f"note: {note}" for note in plan.notes),
        "nothing was written",
    ]
    return "\n".join(lines)


def _loss_lines(losses: Mapping[str, Mapping[str, int]]) -> list[str]:
    return [
        f"loss: {column}: {loss} in {count:,} rows"
        for column, found in losses.items()
        for loss, count in found.items()
    ]


def _merge_lines(plan: Plan) -> list[str]:
    if plan.present is None:
        return []
    there = sum(plan.present.values())
    return [f"merge: {there:,} of these rows are in the target already, {plan.rows - there:,} would be added"]


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain values."""
    return {
        "command": plan.command,
        "source": plan.source,
        "root": plan.root,
        "roots": list(plan.roots),
        "selection": selection_as_dict(plan.selection),
        "revisions": plan.revisions,
        "schema": {"method": plan.route.method, "reason": plan.route.reason},
        "method": plan.method,
        "rows": plan.rows,
        "bytes": plan.bytes,
        "tables": [
            {
                "name": table.name,
                "rows": table.rows,
                "owned": table.owned,
                "support": table.support,
                "source_rows": table.source_rows,
                "whole": table.whole,
                "bytes": table.bytes,
                "ways": table.ways,
                "nulled": table.nulled,
            }
            for table in plan.tables
        ],
        "empty": plan.empty,
        "policies": plan.policies,
        "violations_kept": plan.kept,
        "left_behind": plan.left_behind,
        "losses": plan.losses,
        "notes": plan.notes,
        "present": plan.present,
    }


def receipt_text(receipt: Receipt) -> str:
    """Show what was done, ending with the checks that were made."""
    return _merge_text(receipt) if receipt.command == "merge" else _transfer_text(receipt)


def _merge_text(receipt: Receipt) -> str:
    keys = ("rows", "present", "added")
    rows = [(table["name"], *(f"{table[key]:,}" for key in keys)) for table in receipt.merged]
    added = sum(int(table["added"]) for table in receipt.merged)
    lines = [
        *columns(("table", "rows", "were there", "added"), rows, right=(1, 2, 3)),
        "",
        *(f"left behind: {each}" for each in receipt.left_behind),
        f"{added:,} rows added to {receipt.place}, which holds {receipt.rows:,} rows in {len(receipt.tables)} tables",
        f"checked before the commit: {', '.join(receipt.checks)}",
    ]
    return "\n".join(lines)


def _transfer_text(receipt: Receipt) -> str:
    keys = ("rows", "owned", "support", "source_rows")
    rows = [(table["name"], *(f"{table[key]:,}" for key in keys)) for table in receipt.tables]
    schema = receipt.schema
    lines = [
        *columns(("table", "rows", "owned", "support", "of"), rows, right=(1, 2, 3, 4)),
        "",
        f"schema: {_route_text(schema['method'])} ({schema['reason']})",
        *_schema_lines(schema),
        *_more(receipt.empty, receipt.kept),
        *(f"left behind: {each}" for each in receipt.left_behind),
        *_loss_lines(receipt.losses),
        f"{receipt.rows:,} rows in {len(receipt.tables)} tables written to {receipt.place}",
        f"checked before publication: {', '.join(receipt.checks)}",
    ]
    return "\n".join(lines)


def _schema_lines(schema: Mapping[str, Any]) -> list[str]:
    """Say how the migrations ran, and what came of it beside the schema."""
    lines = [f"  {difference}" for difference in schema["differences"]]
    if schema["way"] is not None:  # else the reason says what failed
        lines.append(f"migrations: {_guarded_text(schema['way'], schema['protection'])}")
        lines += [f"note: {failure}" for failure in schema["failures"]]
    lines += [
        f"put back into {table}, where another revision stands for it: {', '.join(rows)}"
        for table, rows in schema["put_back"].items()
    ]
    lines += [
        f"cleared {count:,} rows that migrations put into {name}" for name, count in schema["cleared"].items()
    ]
    return lines


def _guarded_text(way: Any, protection: str) -> str:
    return f"ran {WAYS[way]}, guarded, " + (
        f"with {protection}" if protection else "without help of the kernel"
    )


def drift_text(drift: Drift) -> str:
    """Show what of a live schema is not what its history builds."""
    rows = "; ".join(f"{table} {', '.join(rows)}" for table, rows in drift.revisions.items())
    verdict = "is what its migrations build" if drift.ok else "is not what its migrations build"
    count = len(drift.differences)
    found = f"{drift.objects} objects, {drift.facts} facts, {count} difference{'s' * (count != 1)}"
    lines = [
        *map(told, drift.differences),
        f"{drift.history} at {rows}: {found}",
        f"migrations: {_guarded_text(drift.way, drift.protection)}",
        *(f"note: {failure}" for failure in drift.failures),
        f"the schema of {drift.source} {verdict}",
    ]
    return "\n".join(lines)


def drift_json(drift: Drift) -> dict[str, Any]:
    """Return a drift as plain values."""
    return {
        "source": drift.source,
        "revisions": drift.revisions,
        "history": drift.history,
        "way": drift.way,
        "protection": drift.protection,
        "objects": drift.objects,
        "facts": drift.facts,
        "ok": drift.ok,
        "failures": drift.failures,
        "differences": [
            {
                "severity": each.severity,
                "object": each.object,
                "property": each.property,
                "source": each.source_value,
                "migrations": each.target_value,
            }
            for each in drift.differences
        ],
    }


def inference_text(inference: Inference) -> str:
    """Show which revisions build a live schema."""
    lines = [
        f"{', '.join(candidate.revisions) or 'no revision'} of {candidate.history} builds the schema of "
        f"{inference.source}"
        for candidate in inference.candidates
    ]
    if not lines:
        lines.append(f"no revision builds the schema of {inference.source}")
    lines += [f"could not be run: {failure}" for failure in inference.failures]
    tried = f"{inference.tried} revision{'s' * (inference.tried != 1)} tried"
    hint = "; a suggestion: the schema can't tell what data migrations did" if inference.ok else ""
    return "\n".join([*lines, tried + hint])


def inference_json(inference: Inference) -> dict[str, Any]:
    """Return an inference as plain values."""
    return {
        "source": inference.source,
        "tried": inference.tried,
        "ok": inference.ok,
        "candidates": [
            {"history": each.history, "revisions": each.revisions} for each in inference.candidates
        ],
        "failures": inference.failures,
    }


_VERDICTS = {
    Verdict.EXACT: "matches",
    Verdict.EQUIVALENT: "matches, but for what its engine can't hold,",
    Verdict.DIFFERENT: "differs from",
    Verdict.INCOMPLETE: "could not be compared wholly with",
}


def report_text(report: Report) -> str:
    """Show each check, then each finding, what was not compared, what changed since, and the verdict."""
    rows = [(check.status, check.name, check.note) for check in report.checks]
    lines = [
        *columns(None, rows),
        *(line for finding in report.findings for line in _finding_lines(finding)),
        *(
            f"not compared: {name}: {why}"
            for name, why in report.coverage.left_out.items()
            if why != BY_CHOICE
        ),
        *_loss_lines(report.losses),
        *_since_lines(report.since),
        f"{report.target} {_VERDICTS[report.verdict]} {report.reference}",
    ]
    return "\n".join(lines)


def _finding_lines(finding: Finding) -> list[str]:
    return [f"{finding.code} {finding.text}", *(f"  {detail}" for detail in finding.details)]


def _since_lines(since: Since | None) -> list[str]:
    if since is None:
        return []
    sides = {"the target was changed or damaged": since.target, "the source moved on": since.source}
    said = [f"{text} ({', '.join(names)})" for text, names in sides.items() if names]
    return [f"since {since.receipt}: {'; '.join(said) or 'nothing changed on either side'}"]


def report_json(report: Report) -> dict[str, Any]:
    """Return a report as plain values."""
    since = report.since
    return {
        "reference": report.reference,
        "target": report.target,
        "verdict": report.verdict,
        "ok": report.ok,
        "checks": [vars(check) for check in report.checks],
        "findings": [vars(finding) for finding in report.findings],
        "compared": [vars(each) for each in report.coverage.compared],
        "normalised": report.coverage.normalised,
        "not_compared": report.coverage.left_out,
        "losses": report.losses,
        "since": None if since is None else vars(since),
    }


def roots_text(roots: RootList) -> str:
    """Show the roots with their labels and what they own."""
    if not roots.roots:
        return f"{roots.table} is empty"
    labels = tuple(roots.roots[0].labels)
    tables = tuple(dict.fromkeys(name for root in roots.roots for name, count in root.owned.items() if count))
    rows = [
        (
            root.key,
            *(_label(value) for value in root.labels.values()),
            *(f"{root.owned.get(name, 0):,}" for name in tables),
        )
        for root in roots.roots
    ]
    right = tuple(range(1 + len(labels), 1 + len(labels) + len(tables)))
    lines = list(columns((roots.table, *labels, *tables), rows, right=right))
    hidden = roots.total - len(roots.roots)
    if hidden:
        lines.append(f"... and {hidden:,} more (--limit)")
    return "\n".join(lines)


def roots_json(roots: RootList) -> dict[str, Any]:
    """Return the roots as plain values."""
    return {
        "source": roots.source,
        "table": roots.table,
        "total": roots.total,
        "roots": [{"key": root.key, "labels": root.labels, "owned": root.owned} for root in roots.roots],
    }


def columns(
    head: Sequence[str] | None, rows: Iterable[Sequence[str]], right: Sequence[int] = ()
) -> Iterable[str]:
    """Yield the lines of a table with aligned columns; those in `right` end flush."""
    table = [*([head] if head else []), *rows]
    widths = [max(len(line[place]) for line in table) for place in range(len(table[0]))] if table else []
    for line in table:
        cells = (
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def size_text(size: int) -> str:
    """Spell a number of bytes in the unit that suits it."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":  # noqa: PLR2004 - decimal units
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def _route_text(method: str) -> str:
    names = {
        "migrations": "built by its migrations",
        "merge": "the target's own",
        "given": "the target's own",
    }
    return names.get(method, "copied from the source's definitions")


def _planned_text(plan: Plan) -> str:
    if plan.route.method != "migrations":
        return _route_text(plan.route.method)
    return f"by its migrations if they build what the source is, else {'refused' if plan.route.required else 'copied'}"


def _more(empty: Mapping[str, int], kept: Mapping[str, int]) -> list[str]:
    left = [f"{name} ({count:,} rows in the source)" for name, count in empty.items() if count]
    lines = [f"left empty, no link leads there: {', '.join(left)}"] if left else []
    return lines + [
        f"kept as in the source: {link} leads nowhere in {count:,} rows" for link, count in kept.items()
    ]


def _label(value: Any) -> str:
    text = "" if value is None else str(value)
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable if len(printable) <= LONGEST_LABEL else printable[: LONGEST_LABEL - 1] + "…"
