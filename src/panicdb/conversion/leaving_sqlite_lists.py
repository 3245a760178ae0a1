"""SQLite to PostgreSQL, arrays: applications keep them in SQLite as lists of JSON."""

import json
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from panicdb.backends.conversions import Conversion, Raw, UnfitError
from panicdb.conversion import arrays, json_texts, losses, refusals
from panicdb.conversion.json_texts import Number
from panicdb.conversion.refusals import out_of_place
from panicdb.values import ColumnType, TypeClass

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLAIN_TEXT = ColumnType(TypeClass.TEXT, "TEXT", affinity="TEXT")
_UNTYPED = ColumnType(TypeClass.OTHER, "", affinity="NUMERIC")
_DIMENSIONS = 6
_TOO_MANY = (0,) * (_DIMENSIONS + 1)

Decide = Callable[[ColumnType, ColumnType], Conversion | None]
Spell = Callable[[Any], tuple[str, str]]
"""An element of a list as the server's text, and as the JSON that it becomes on the way back."""


def decide_array(_source: ColumnType, target: ColumnType, decide: Decide) -> Conversion | None:
    """Decide how lists of JSON become arrays; `decide` decides it for an element. None: no way is known."""
    element = target.element
    spell = _speller(element, decide) if element is not None else None
    if spell is None:
        return None
    return Conversion("", partial(_array, spell), partial(_loss, spell))


def _speller(element: ColumnType, decide: Decide) -> Spell | None:
    if element.kind is TypeClass.BOOLEAN:
        return _boolean
    if element.kind is TypeClass.UUID:
        return _uuid
    if element.kind is TypeClass.FLOAT:
        return partial(_float, element.size == 32)  # noqa: PLR2004 - bits
    if element.kind in (TypeClass.INTEGER, TypeClass.NUMERIC):
        return _number_speller(element, decide)
    if element.kind is TypeClass.ENUM or (element.kind is TypeClass.TEXT and element.exact):
        found = decide(_PLAIN_TEXT, element)
        return None if found is None else partial(_text, found.convert)
    return None


def _number_speller(element: ColumnType, decide: Decide) -> Spell | None:
    if element.kind is TypeClass.INTEGER:
        found = decide(_UNTYPED, element)
        return None if found is None else partial(_integer, found.convert)
    return partial(_numeric, element) if (element.scale or 0) >= 0 else None


def _array(spell: Spell, value: Raw) -> str:
    return _literal(_list(value), spell)


def _loss(spell: Spell, value: Any) -> str | None:
    return losses.JSON if _as_json(_list(value), spell) != value else None


def _list(value: Raw) -> list[Any]:
    if type(value) is not str:
        raise out_of_place(value, "arrays")
    try:
        tree = json_texts.parse(value)
    except json_texts.DeepError:
        raise UnfitError(refusals.NO_ARRAY) from None
    except ValueError:
        raise UnfitError(refusals.NO_JSON) from None
    if type(tree) is not list or len(arrays.shape(tree) or _TOO_MANY) > _DIMENSIONS:
        raise UnfitError(refusals.NO_ARRAY)
    return tree


def _literal(items: list[Any], spell: Spell) -> str:
    return "{" + ",".join(_element(item, spell) for item in items) + "}"


def _element(item: Any, spell: Spell) -> str:
    if type(item) is list:
        return _literal(item, spell)
    return "NULL" if item is None else spell(item)[0]


def _as_json(items: list[Any], spell: Spell) -> str:
    return "[" + ", ".join(_back(item, spell) for item in items) + "]"


def _back(item: Any, spell: Spell) -> str:
    if type(item) is list:
        return _as_json(item, spell)
    return "null" if item is None else spell(item)[1]


def _boolean(item: Any) -> tuple[str, str]:
    if type(item) is not bool:
        raise UnfitError("no boolean in an array of booleans")
    return ("t", "true") if item else ("f", "false")


def _uuid(item: Any) -> tuple[str, str]:
    if type(item) is not str or not _UUID.fullmatch(item):
        raise UnfitError("no UUID in an array of UUIDs")
    return item, f'"{item}"'


def _integer(convert: Callable[[Any], str], item: Any) -> tuple[str, str]:
    if type(item) is not Number or not item.removeprefix("-").isdigit():
        raise UnfitError("no integer in an array of integers")
    if len(item) > 20:  # noqa: PLR2004 - characters of the smallest integer: more is out of range whatever it is
        item = Number(1 << 64)
    text = convert(int(item))
    return text, text


def _float(is_single: bool, item: Any) -> tuple[str, str]:  # noqa: FBT001 - bound where it is made
    if type(item) is not Number:
        raise UnfitError("no number in an array of floats")
    number = float(item)
    if number - number != 0 or _exact(repr(number)) != _exact(item):
        raise UnfitError("a number in an array that no float is equal to")
    if is_single and not _is_single(number):
        raise UnfitError("a number in an array that no 32-bit float is equal to")
    return repr(number), json.dumps(number)


def _is_single(number: float) -> bool:
    try:
        return bool(struct.unpack("<f", struct.pack("<f", number))[0] == number)
    except OverflowError:
        return False


def _exact(text: str) -> Decimal:
    try:
        return json_texts.decimal(text)
    except ValueError:
        raise UnfitError("a number in an array that is beyond numeric") from None


def _numeric(element: ColumnType, item: Any) -> tuple[str, str]:
    if type(item) is not Number:
        raise UnfitError("no number in an array of numbers")
    number = _exact(item)
    text = json_texts.plain_digits(number)
    whole, _, fraction = text.removeprefix("-").partition(".")
    if element.size is None:
        return text, text
    scale = element.scale or 0
    if len(whole.lstrip("0")) > element.size - scale:
        raise UnfitError("a number in an array with too many digits before the point")
    if fraction[scale:].strip("0") or (scale > element.size and len(fraction.lstrip("0")) > element.size):
        raise UnfitError("a number in an array with too many digits behind the point")
    sign = "-" if text.startswith("-") else ""
    padded = f"{sign}{whole}.{fraction[:scale].ljust(scale, '0')}" if scale else f"{sign}{whole}"
    return text, padded


def _text(convert: Callable[[Any], str], item: Any) -> tuple[str, str]:
    if type(item) is not str:
        raise UnfitError("no text in an array of text")
    return arrays.quote(convert(item)), json.dumps(item)
