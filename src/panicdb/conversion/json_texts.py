"""JSON, read as strictly as PostgreSQL reads it, its numbers as they are spelled; and spelled as jsonb spells it."""

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import Any, NoReturn

_DIGITS_BEFORE, _DIGITS_BEHIND = 131_072, 16_383
"""What PostgreSQL's numeric can hold, and jsonb with it."""


DEEPEST = 200
"""Lists and objects in each other, which are walked recursively."""
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)


class DeepError(ValueError):
    """Lists and objects are in each other deeper than `DEEPEST`."""


class Number(str):
    """A number as it is spelled."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """The members of an object, in their order, duplicates too."""

    def last(self) -> dict[str, Any]:
        """Return each key with the last of its values."""
        return dict(self)


def parse(text: str) -> Any:
    """Read JSON: str, Number, Members, list, True, False or None. Raises ValueError, also for NaN and Infinity."""
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        raise DeepError
    return _DECODER.decode(text)


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        deepest = max(deepest, depth)
    return deepest


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(
    parse_int=Number, parse_float=Number, parse_constant=_refuse, object_pairs_hook=Members
)


def decimal(token: str) -> Decimal:
    """Read a number exactly. Raises ValueError for what no numeric of PostgreSQL can hold."""
    try:
        found = Decimal(token)
    except InvalidOperation:
        raise ValueError("no number") from None
    exponent = found.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > _DIGITS_BEHIND or found.adjusted() >= _DIGITS_BEFORE:
        raise ValueError("beyond numeric")
    return found


def plain_digits(number: Decimal) -> str:
    """Spell a decimal as PostgreSQL does: without an exponent, a zero without a sign."""
    exponent = number.as_tuple().exponent
    if not number:
        behind = max(0, -exponent) if isinstance(exponent, int) else 0
        return "0." + "0" * behind if behind else "0"
    return f"{number:f}"


def as_jsonb(tree: Any) -> str:
    """Spell what was parsed as jsonb does. Raises ValueError for numbers and characters that it can't hold."""
    if isinstance(tree, Number):
        return plain_digits(decimal(tree))
    if isinstance(tree, str):
        return _string(tree)
    if isinstance(tree, Members):
        members = sorted(tree.last().items(), key=_rank)
        return "{" + ", ".join(f"{_string(key)}: {as_jsonb(value)}" for key, value in members) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(as_jsonb, tree)) + "]"
    return {True: "true", False: "false", None: "null"}[tree]


def _rank(member: tuple[str, Any]) -> tuple[int, bytes]:
    key = member[0].encode("utf-8", "surrogatepass")
    return len(key), key


def _string(text: str) -> str:
    if "\0" in text or (not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text)):
        raise ValueError("no character")
    return encode_basestring(text)


def has_duplicates(tree: Any) -> bool:
    """Tell whether an object somewhere in it has a key twice."""
    if isinstance(tree, Members):
        inside = [value for _, value in tree]
        return len(tree.last()) < len(tree) or any(map(has_duplicates, inside))
    return isinstance(tree, list) and any(map(has_duplicates, tree))


def holds(tree: Any, is_odd: Callable[[str], bool]) -> bool:
    """Tell whether a string or a key somewhere in it is odd."""
    if isinstance(tree, Members):
        return any(is_odd(key) or holds(value, is_odd) for key, value in tree)
    if isinstance(tree, list):
        return any(holds(value, is_odd) for value in tree)
    return isinstance(tree, str) and not isinstance(tree, Number) and is_odd(tree)
