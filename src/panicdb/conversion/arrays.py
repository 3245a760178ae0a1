"""Arrays as PostgreSQL spells them (https://www.postgresql.org/docs/current/arrays.html, "Array Input and Output")."""

import re
from collections.abc import Sequence
from typing import Any

_PART = re.compile(r'[{},]|"(?:[^"\\]|\\.)*"|[^{},"\\]+', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL = re.compile(r'(["\\])')


def parse(text: str) -> list[Any]:
    """Read what stands in an array: lists, text and None. Bounds that are told are skipped."""
    start = text.index("{")
    stack: list[list[Any]] = [[]]
    for part in _PART.findall(text, start):
        if part == "{":
            stack.append([])
        elif part == "}":
            inner = stack.pop()
            stack[-1].append(inner)
        elif part != ",":
            stack[-1].append(_element(part))
    found: list[Any] = stack[0][0]
    return found


def _element(part: str) -> str | None:
    if part[0] == '"':
        return _ESCAPED.sub(r"\1", part[1:-1])
    return None if part == "NULL" else part


def has_bounds(text: str) -> bool:
    """Tell whether an array does not count from 1, which its text begins with."""
    return text.startswith("[")


def quote(text: str) -> str:
    """Spell text as an element, whatever is in it."""
    return '"' + _SPECIAL.sub(r"\\\1", text) + '"'


def shape(items: Sequence[Any]) -> tuple[int, ...] | None:
    """Return how long it is in each dimension; None where it is ragged, or empty deep inside: no array is."""
    nested = [item for item in items if isinstance(item, list)]
    if not nested:
        return (len(items),)
    inner = {shape(item) for item in nested}
    first = inner.pop()
    if inner or first is None or 0 in first or len(nested) < len(items):
        return None
    return len(items), *first
