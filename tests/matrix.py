"""The fault matrix: the rows docs/reliability.md lists, the tests that are marked with them, and what came of these."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parent / "docs" / "reliability.md"
PROPERTY = "fault"
ROWS = range(1, 37)


@dataclass(frozen=True)
class Row:
    """One line of the table: `tests` are names."""

    number: int
    fault: str
    promise: str
    tests: tuple[str, ...]
    result: str


def table() -> list[Row]:
    """Read the table of the page."""
    lines = re.findall(r"^\| *(\d+) *\|(.*)\|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    rows = []
    for number, rest in lines:
        fault, promise, tests, result = (cell.strip() for cell in rest.split("|"))
        rows.append(Row(int(number), fault, promise, tuple(re.findall(r"`(test_\w+)`", tests)), result))
    return rows


def marked() -> Mapping[str, set[int]]:
    """Read which rows each test is marked with, parameters included. Runs nothing."""
    found: dict[str, set[int]] = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, set()).update(_numbers(node.decorator_list))
    return found


def _numbers(decorators: Iterable[ast.expr]) -> set[int]:
    calls = [node for each in decorators for node in ast.walk(each) if isinstance(node, ast.Call)]
    marks = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "fault"]
    return {ast.literal_eval(argument) for mark in marks for argument in mark.args}


def rows_of(item: pytest.Item) -> list[int]:
    """Return the rows that a collected test is marked with."""
    return sorted({number for mark in item.iter_markers("fault") for number in mark.args})


def summary(reports: Iterable[object]) -> list[str]:
    """Spell, for each row that had tests in this run, how many passed and how many did not."""
    counts: dict[int, Counter[str]] = {}
    for report in reports:
        if getattr(report, "when", None) == "call" or getattr(report, "outcome", "passed") != "passed":
            for number in _covered(report):
                counts.setdefault(number, Counter())[report.outcome] += 1
    if not counts:
        return []
    lines = [_line(row, counts.pop(row.number, Counter())) for row in table()]
    return [*lines, *(f"{number:2}  not in {PAGE.name}" for number in sorted(counts))]


def _covered(report: object) -> list[int]:
    return [
        number
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY
        for number in value
    ]


def _line(row: Row, count: Counter[str]) -> str:
    told = ", ".join(
        f"{count[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if count[outcome]
    )
    return f"{row.number:2}  {row.fault:62} {told or 'no test in this run'}"
