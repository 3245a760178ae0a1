"""PostgreSQL to SQLite: the server's text becomes what SQLAlchemy would store for such a column, or is refused.

The text is that of sessions with fixed settings (`backends.postgresql.sessions`): ISO dates, UTC, intervals in the
style of postgres, bytes in hex, floats with all their digits.
"""

import json
import re
import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from panicdb.backends.conversions import Conversion, Raw, UnfitError
from panicdb.conversion import arrays, common, json_texts, losses, refusals
from panicdb.values import ColumnType, TypeClass

_SINGLE = struct.Struct("<f")
_EXACT_BITS = 32
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - SQLAlchemy's, which has no zone
_DAY_SECONDS = 86_400
_DATE, _WHOLE_TIME, _WHOLE_STAMP, _LONGEST_TIME, _LONGEST_STAMP = 10, 8, 19, 15, 26
"""Lengths: YYYY-MM-DD, HH:MM:SS, both, and with six digits behind a point."""
_INTERVAL = re.compile(
    r"(?:(?P<years>-?\d+) years? ?)?(?:(?P<months>[+-]?\d+) mons? ?)?(?:(?P<days>[+-]?\d+) days? ?)?"
    r"(?:(?P<sign>[+-]?)(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.(?P<fraction>\d+))?)?",
    re.ASCII,
)
_LONGEST_INTEGER = 20
_INFINITE = ("Infinity", "-Infinity")


def decide(source: ColumnType, target: ColumnType) -> Conversion | None:
    """Decide how text of a column of PostgreSQL becomes values of a column of SQLite; None: no way is known."""
    maker = _MAKERS.get(source.kind)
    return maker(source, target) if maker and common.meet(source, target) else None


def _nothing(_text: Any) -> None:
    return None


def _plainly(convert: Callable[[Any], Any]) -> Conversion:
    return Conversion("any", convert, _nothing)


# --- numbers --------------------------------------------------------------------------------------


def _decide_integer(source: ColumnType, target: ColumnType) -> Conversion | None:
    if target.affinity == "TEXT":
        return None
    if target.kind is TypeClass.BOOLEAN:
        return Conversion("", _zero_or_one, _nothing)
    if target.affinity == "REAL":
        is_exact = (source.size or _EXACT_BITS + 1) <= _EXACT_BITS
        return _plainly(float) if is_exact else Conversion("", float, _loss_of_integer)
    return _plainly(int)


def _zero_or_one(text: str) -> int:
    if text not in ("0", "1"):
        raise UnfitError(refusals.NO_BOOLEAN)
    return int(text)


def _loss_of_integer(text: str) -> str | None:
    return losses.INTEGER_AS_FLOAT if float(text) != int(text) else None


def _decide_boolean(_source: ColumnType, target: ColumnType) -> Conversion | None:
    if target.affinity in ("TEXT", "REAL"):
        return None
    return _plainly({"t": 1, "f": 0}.__getitem__)


def _decide_float(source: ColumnType, target: ColumnType) -> Conversion | None:
    if target.affinity == "TEXT":
        return None
    is_single = source.size == _EXACT_BITS
    convert = partial(_float, _widened if is_single else float, target.affinity)
    loss = _loss_of_untyped_float if target.affinity == "BLOB" else _loss_of_float
    return Conversion("finite real", convert, loss, quick=_widened if is_single else float)


def _widened(text: str) -> float:
    """The very float of 32 bits, not the one of 64 bits that is spelled alike."""
    found: float = _SINGLE.unpack(_SINGLE.pack(float(text)))[0]
    return found


def _float(read: Callable[[str], float], affinity: str, text: str) -> Raw | None:
    number = read(text)
    return None if number != number else common.settled(number, affinity)  # noqa: PLR0124 - NaN


def _loss_of_float(text: str) -> str | None:
    if text == "-0":
        return losses.NEGATIVE_ZERO
    return losses.NAN if text == "NaN" else None


def _loss_of_untyped_float(text: str) -> str | None:
    return losses.NAN if text == "NaN" else None


def _decide_numeric(source: ColumnType, target: ColumnType) -> Conversion | None:
    if target.affinity not in common.NUMERIC_AFFINITIES:
        return None
    convert = partial(_numeric, target.affinity)
    return Conversion("", convert, partial(_loss_of_numeric, convert, source.scale is None))


def _numeric(affinity: str, text: str) -> Raw | None:
    if text == "NaN":
        return None
    whole, _, fraction = text.partition(".")
    if (
        affinity != "REAL"
        and len(whole) <= _LONGEST_INTEGER
        and text not in _INFINITE
        and not fraction.strip("0")
    ):
        number = int(whole)
        if common.fits_integer(number):
            return number
    found = float(text)
    if (found - found != 0 and text not in _INFINITE) or (not found and text.strip("-0.")):
        raise UnfitError(refusals.OUT_OF_FLOAT)
    return common.settled(found, affinity)


def _loss_of_numeric(convert: Callable[[str], Any], keeps_zeros: bool, text: str) -> str | None:  # noqa: FBT001
    if text == "NaN":
        return losses.NAN
    if text in _INFINITE:
        return None
    if Decimal(convert(text)) != Decimal(text):
        return losses.DECIMAL_AS_FLOAT
    return losses.ZEROS if keeps_zeros and "." in text and text.endswith("0") else None


# --- text, bytes, UUIDs ---------------------------------------------------------------------------


def _decide_text(_source: ColumnType, target: ColumnType) -> Conversion:
    if target.affinity in common.NUMERIC_AFFINITIES:
        return Conversion("", _no_number, _nothing)
    return _plainly(str)


def _no_number(text: str) -> str:
    if common.looks_like_a_number(text):
        raise UnfitError(refusals.NUMBER_LIKE)
    return text


def _decide_bytes(_source: ColumnType, _target: ColumnType) -> Conversion:
    return _plainly(_bytes)


def _bytes(text: str | bytes) -> bytes:
    """Rows that are compared arrive as bytes, rows that travel as text."""
    return text if isinstance(text, bytes) else bytes.fromhex(text[2:])


def _decide_uuid(_source: ColumnType, target: ColumnType) -> Conversion | None:
    spelling = common.uuid_spelling(target)
    if spelling == "bytes":
        return _plainly(_uuid_as_bytes)
    if target.affinity in common.NUMERIC_AFFINITIES:
        return Conversion("", _uuid_no_number, _nothing) if spelling == "hex" else None
    return {"hex": _plainly(_uuid_as_hex), "dashed": _plainly(str)}.get(spelling)


def _uuid_as_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def _uuid_as_hex(text: str) -> str:
    return text.replace("-", "")


def _uuid_no_number(text: str) -> str:
    return _no_number(text.replace("-", ""))


# --- times ----------------------------------------------------------------------------------------


def _decide_date(_source: ColumnType, target: ColumnType) -> Conversion | None:
    return None if target.kind is TypeClass.OTHER else Conversion("finite time", _date, _nothing)


def _date(text: str) -> str:
    if len(text) != _DATE or text[4] != "-":
        raise UnfitError(_odd_year(text))
    return text


def _odd_year(text: str) -> str:
    return refusals.INFINITE if text.endswith("infinity") else refusals.YEARS


def _decide_time(_source: ColumnType, target: ColumnType) -> Conversion | None:
    return None if target.kind is TypeClass.OTHER else Conversion("", _time, _nothing)


def _time(text: str) -> str:
    if text.startswith("24"):
        raise UnfitError(refusals.MIDNIGHT)
    return (text + "." if len(text) == _WHOLE_TIME else text).ljust(_LONGEST_TIME, "0")


def _decide_datetime(source: ColumnType, target: ColumnType) -> Conversion | None:
    if target.kind is TypeClass.OTHER:
        return None
    if source.zoned:
        return Conversion("", _moment, _loss_of_zone)
    return Conversion("finite time", _stamp, _nothing)


def _stamp(text: str) -> str:
    length = len(text)
    if text[4] == "-" and text[-1] != "C":  # neither a longer year nor BC, nor infinity
        if length == _WHOLE_STAMP:
            return text + ".000000"
        if length <= _LONGEST_STAMP:
            return text.ljust(_LONGEST_STAMP, "0")
    raise UnfitError(_odd_year(text))


def _moment(text: str) -> str:
    return _stamp(text.removesuffix("+00"))


def _loss_of_zone(_text: str) -> str:
    return losses.ZONE


def _decide_interval(_source: ColumnType, target: ColumnType) -> Conversion | None:
    return None if target.kind is TypeClass.OTHER else Conversion("", _interval, _loss_of_interval)


def _interval(text: str) -> str:
    days, seconds, micros = _read_interval(text)
    try:
        moment = _EPOCH + timedelta(days, seconds, micros)
    except OverflowError:
        raise UnfitError(refusals.LONG_INTERVAL) from None
    return moment.isoformat(" ", "microseconds")


def _read_interval(text: str) -> tuple[int, int, int]:
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise UnfitError(refusals.INFINITE)
    if match["years"] or match["months"]:
        raise UnfitError(refusals.MONTHS)
    days = int(match["days"] or 0)
    if match["hours"] is None:
        return days, 0, 0
    sign = -1 if match["sign"] == "-" else 1
    seconds = (int(match["hours"]) * 60 + int(match["minutes"])) * 60 + int(match["seconds"])
    return days, sign * seconds, sign * int((match["fraction"] or "").ljust(6, "0"))


def _loss_of_interval(text: str) -> str | None:
    """A span of time in Python, which SQLAlchemy stores, counts days, and less than a day forward from there."""
    _, seconds, micros = _read_interval(text)
    is_kept = 0 <= seconds < _DAY_SECONDS and micros >= 0
    return None if is_kept else losses.INTERVAL


# --- JSON, enums, arrays --------------------------------------------------------------------------


def _decide_json(source: ColumnType, target: ColumnType) -> Conversion | None:
    if (
        target.kind is TypeClass.OTHER
    ):  # nothing tells there whether a number is to be kept as one, or as text
        return None
    if target.affinity not in common.NUMERIC_AFFINITIES:
        return _plainly(str)
    convert = partial(_json, target.affinity)
    return Conversion("", convert, partial(_loss_of_json, convert, source.exact))


def _json(affinity: str, text: str) -> Raw:
    """A column that is declared JSON has NUMERIC affinity: what is a number becomes one there."""
    if not common.looks_like_a_number(text):
        return text
    try:
        exact = Decimal(text.strip())
    except InvalidOperation:
        raise UnfitError(refusals.JSON_STORED) from None
    number: float = int(exact) if exact == exact.to_integral_value() and _fits(exact) else float(exact)
    if number - number != 0 or Decimal(repr(number)) != exact:
        raise UnfitError(refusals.JSON_STORED)
    return common.settled(number, affinity)


def _fits(exact: Decimal) -> bool:
    return exact.adjusted() <= 18 and common.fits_integer(int(exact))  # noqa: PLR2004 - digits after the first


def _loss_of_json(convert: Callable[[str], Raw], is_text: bool, text: str) -> str | None:  # noqa: FBT001
    stored = convert(text)
    if isinstance(stored, str):
        return None
    spelled = repr(stored) if is_text else json_texts.plain_digits(Decimal(repr(stored)))
    return losses.JSON if spelled != text else None


def _decide_array(source: ColumnType, target: ColumnType) -> Conversion | None:
    element = source.element
    spell = _ELEMENTS.get(element.kind) if element is not None else None
    if spell is None or element is None:
        return None
    if element.kind is TypeClass.FLOAT and element.size == _EXACT_BITS:
        spell = _json_single
    if element.kind is TypeClass.TEXT and not element.exact:
        return None
    if target.kind is TypeClass.OTHER and target.affinity in common.NUMERIC_AFFINITIES:
        return None
    return Conversion("", partial(_array, spell), _loss_of_array)


def _array(spell: Callable[[str], str], text: str) -> str:
    return _json_list(arrays.parse(text), spell)


def _json_list(items: list[Any], spell: Callable[[str], str]) -> str:
    return "[" + ", ".join(_json_item(item, spell) for item in items) + "]"


def _json_item(item: Any, spell: Callable[[str], str]) -> str:
    if isinstance(item, list):
        return _json_list(item, spell)
    return "null" if item is None else spell(item)


def _json_number(item: str) -> str:
    if item == "NaN" or item in _INFINITE:
        raise UnfitError("an array with NaN or infinity, which JSON can't hold")
    return item


def _json_float(item: str) -> str:
    return json.dumps(float(_json_number(item)))


def _json_single(item: str) -> str:
    return json.dumps(_widened(_json_number(item)))


def _json_boolean(item: str) -> str:
    return "true" if item == "t" else "false"


def _loss_of_array(text: str) -> str | None:
    return losses.BOUNDS if arrays.has_bounds(text) else None


_ELEMENTS: Mapping[TypeClass, Callable[[str], str]] = {
    TypeClass.INTEGER: _json_number,
    TypeClass.NUMERIC: _json_number,
    TypeClass.FLOAT: _json_float,
    TypeClass.BOOLEAN: _json_boolean,
    TypeClass.TEXT: json.dumps,
    TypeClass.UUID: json.dumps,
    TypeClass.ENUM: json.dumps,
}

_MAKERS: Mapping[TypeClass, Callable[[ColumnType, ColumnType], Conversion | None]] = {
    TypeClass.INTEGER: _decide_integer,
    TypeClass.BOOLEAN: _decide_boolean,
    TypeClass.FLOAT: _decide_float,
    TypeClass.NUMERIC: _decide_numeric,
    TypeClass.TEXT: _decide_text,
    TypeClass.ENUM: _decide_text,
    TypeClass.BYTES: _decide_bytes,
    TypeClass.JSON: _decide_json,
    TypeClass.UUID: _decide_uuid,
    TypeClass.DATE: _decide_date,
    TypeClass.TIME: _decide_time,
    TypeClass.DATETIME: _decide_datetime,
    TypeClass.INTERVAL: _decide_interval,
    TypeClass.ARRAY: _decide_array,
}
