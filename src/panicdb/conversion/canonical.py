"""Values of two engines in a form that they have in common: the proof that a value arrived, made without converting it.

Strictly, values are equal if nothing was lost; in the relaxed form, what has to be lost is lost on both sides.
"""

import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from panicdb.backends.conversions import Raw
from panicdb.conversion import arrays, common, json_texts
from panicdb.conversion.json_texts import Members, Number
from panicdb.values import ColumnType, TypeClass

Form = Callable[[Any], Any]
"""From a value to what is compared: None, int, float, str, bytes, or a tuple of these. Takes any value."""

_SINGLE = struct.Struct("<f")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - SQLAlchemy's, which has no zone
_MICROSECOND = timedelta(microseconds=1)
_UUID_BYTES = 16
_MINUS_ZERO = ("-0",)
_SPACE_BEFORE_ZONE = re.compile(r" (?=[Z+-])")
_INFINITE = {float("inf"): "Infinity", float("-inf"): "-Infinity"}


@dataclass(frozen=True)
class Canonical:
    """How values of one pair of columns are compared; NULL is NULL, and never asked about."""

    of_sqlite: Form
    """Of a value as SQLite's driver gives it."""
    of_server: Form
    """Of the server's text, or the bytes of a bytea."""
    relaxed_of_sqlite: Form
    relaxed_of_server: Form


def canonical(server: ColumnType, sqlite: ColumnType) -> Canonical | None:
    """Return how values of a server's column and of one of SQLite are compared; None: they have nothing in common."""
    maker = _MAKERS.get(server.kind)
    return maker(server, sqlite) if maker and common.meet(server, sqlite) else None


def _stored(value: Raw) -> tuple[str, Raw]:
    """Keep what is none of a column's values apart from all that are."""
    return "as stored", value


def _told(text: str) -> tuple[str, str]:
    return "as told", text


def _alike(of_sqlite: Form, of_server: Form) -> Canonical:
    return Canonical(of_sqlite, of_server, of_sqlite, of_server)


# --- numbers --------------------------------------------------------------------------------------


def _integers(_server: ColumnType, sqlite: ColumnType) -> Canonical:
    if sqlite.affinity == "REAL":
        return Canonical(_whole_float, int, _relaxed_float, float)
    return _alike(_integer, int)  # no column of these has floats that are whole numbers


def _integer(value: Raw) -> Any:
    return value if type(value) is int else _stored(value)


def _whole_float(value: Raw) -> Any:
    if repr(value) == "-0.0":
        return _MINUS_ZERO
    return int(value) if type(value) is float and value.is_integer() else _integer(value)


def _number_as_float(value: Raw) -> Any:
    return float(value) if isinstance(value, int | float) else _stored(value)


def _booleans(_server: ColumnType, _sqlite: ColumnType) -> Canonical:
    return _alike(_integer, lambda text: {"t": 1, "f": 0}.get(text, text))


def _floats(server: ColumnType, sqlite: ColumnType) -> Canonical:
    is_single = server.size == 32  # noqa: PLR2004 - bits
    return Canonical(
        _untyped_float if sqlite.affinity == "BLOB" else _strict_float,
        partial(_told_float, is_single),
        _single_float if is_single else _relaxed_float,
        partial(_relaxed_told_float, is_single),
    )


def _untyped_float(value: Raw) -> Any:
    return ("integer", value) if type(value) is int else _strict_float(value)


def _strict_float(value: Raw) -> Any:
    if type(value) is int and float(value) == value:
        return float(value)
    if type(value) is not float:
        return _stored(value)
    return value or (_MINUS_ZERO if repr(value) == "-0.0" else value)


def _relaxed_float(value: Raw) -> Any:
    return _number_as_float(value) + 0.0 if isinstance(value, int | float) else _stored(value)


def _single_float(value: Raw) -> Any:
    if not isinstance(value, int | float):
        return _stored(value)
    try:
        return _SINGLE.unpack(_SINGLE.pack(value))[0] + 0.0
    except OverflowError:
        return _stored(value)


def _told_float(is_single: bool, text: str) -> Any:  # noqa: FBT001 - bound where it is made
    if text in ("NaN", "-0"):
        return (text,)
    return _single_float(float(text)) if is_single else float(text)


def _relaxed_told_float(is_single: bool, text: str) -> Any:  # noqa: FBT001 - bound where it is made
    if text == "NaN":
        return None
    return _single_float(float(text)) if is_single else float(text) + 0.0


def _numerics(server: ColumnType, sqlite: ColumnType) -> Canonical:
    return Canonical(
        _strict_number,
        partial(_strict_decimal, server.scale is None),
        partial(_relaxed_number, sqlite.affinity == "REAL"),
        partial(_relaxed_decimal, sqlite.affinity == "REAL"),
    )


def _strict_number(value: Raw) -> Any:
    """Of a float its exact value, however many digits that has."""
    if not isinstance(value, int | float):
        return _stored(value)
    if repr(value) == "-0.0":
        return _MINUS_ZERO
    return _INFINITE.get(value) or _normalised(Decimal(value))


def _strict_decimal(keeps_zeros: bool, text: str) -> Any:  # noqa: FBT001 - bound where it is made
    if text in ("NaN", "Infinity", "-Infinity"):
        return (text,) if text == "NaN" else text
    if keeps_zeros and "." in text and text.endswith("0"):
        return "zeros", text
    return _normalised(Decimal(text))


def _normalised(number: Decimal) -> str:
    """Spell a decimal without the zeros that it ends with; a context's precision plays no part."""
    sign, digits, exponent = number.as_tuple()
    kept = "".join(map(str, digits)).lstrip("0")
    stripped = kept.rstrip("0")
    if not stripped:
        return "0"
    return f"{'-' if sign else ''}{stripped}e{int(exponent) + len(kept) - len(stripped)}"


def _relaxed_number(is_real: bool, value: Raw) -> Any:  # noqa: FBT001 - bound where it is made
    """As SQLite settles a number in a column: whole ones are integers, but for columns of floats."""
    if not isinstance(value, int | float):
        return _stored(value)
    if is_real:
        return float(value) + 0.0
    is_whole = type(value) is float and value.is_integer() and abs(value) < 2.0**63
    return int(value) if is_whole else value


def _relaxed_decimal(is_real: bool, text: str) -> Any:  # noqa: FBT001 - bound where it is made
    if text == "NaN":
        return None
    exact = Decimal(text)
    if not is_real and exact.is_finite() and exact == exact.to_integral_value() and -(2**63) <= exact < 2**63:
        return int(exact)
    return _relaxed_number(is_real, float(text))


# --- text, bytes, UUIDs ---------------------------------------------------------------------------


def _texts(server: ColumnType, _sqlite: ColumnType) -> Canonical:
    if server.exact:
        return _alike(_text, str)
    return Canonical(_text, str, _without_padding, _without_padding)


def _text(value: Raw) -> Any:
    return value if type(value) is str else _stored(value)


def _without_padding(value: Raw) -> Any:
    return value.rstrip(" ") if isinstance(value, str) else _stored(value)


def _byte_strings(_server: ColumnType, _sqlite: ColumnType) -> Canonical:
    return _alike(lambda value: value if type(value) is bytes else _stored(value), _told_bytes)


def _told_bytes(told: str | bytes) -> bytes:
    return told if isinstance(told, bytes) else bytes.fromhex(told.removeprefix("\\x"))


def _uuids(_server: ColumnType, sqlite: ColumnType) -> Canonical:
    strict = partial(_strict_uuid, common.uuid_spelling(sqlite))
    return Canonical(strict, _told_uuid, _relaxed_uuid, _told_uuid)


def _told_uuid(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def _strict_uuid(spelling: str, value: Raw) -> Any:
    found = _relaxed_uuid(value)
    if type(found) is not bytes:
        return found
    return found if value == _usual_uuid(spelling, found) else ("spelled", value)


def _usual_uuid(spelling: str, found: bytes) -> Raw:
    if spelling == "bytes":
        return found
    plain = found.hex()
    if spelling != "dashed":
        return plain if spelling == "hex" else ""
    return f"{plain[:8]}-{plain[8:12]}-{plain[12:16]}-{plain[16:20]}-{plain[20:]}"


def _relaxed_uuid(value: Raw) -> Any:
    try:
        found = _told_uuid(value.strip("{}")) if isinstance(value, str) else value
    except ValueError:
        return _stored(value)
    return found if type(found) is bytes and len(found) == _UUID_BYTES else _stored(value)


# --- times ----------------------------------------------------------------------------------------


def _dates(_server: ColumnType, _sqlite: ColumnType) -> Canonical:
    return _alike(_text, str)


def _times(_server: ColumnType, _sqlite: ColumnType) -> Canonical:
    return Canonical(_text, _told_time, _relaxed_time, _told_time)


def _told_time(text: str) -> Any:
    try:
        return time.fromisoformat(text).isoformat("microseconds")
    except ValueError:
        return _told(text)


def _relaxed_time(value: Raw) -> Any:
    try:
        return (
            time.fromisoformat(value).isoformat("microseconds") if isinstance(value, str) else _stored(value)
        )
    except ValueError:
        return _stored(value)


def _datetimes(server: ColumnType, _sqlite: ColumnType) -> Canonical:
    if server.zoned:
        return Canonical(_text, _strict_moment, _relaxed_moment, _moment)
    return Canonical(_text, _told_stamp, _relaxed_stamp, _told_stamp)


def _told_stamp(text: str) -> Any:
    try:
        return datetime.fromisoformat(text).isoformat(" ", "microseconds")
    except ValueError:
        return _told(text)


def _moment(text: str) -> Any:
    try:
        return _utc(datetime.fromisoformat(text)).isoformat(" ", "microseconds")
    except (ValueError, OverflowError):
        return _told(text)


def _utc(found: datetime) -> datetime:
    return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


def _strict_moment(text: str) -> Any:
    return "aware", _moment(text)


def _relaxed_stamp(value: Raw) -> Any:
    found = _parsed_stamp(value)
    return _stored(value) if found is None or found.tzinfo else found.isoformat(" ", "microseconds")


def _relaxed_moment(value: Raw) -> Any:
    found = _parsed_stamp(value)
    try:
        return _stored(value) if found is None else _utc(found).isoformat(" ", "microseconds")
    except OverflowError:
        return _stored(value)


def _parsed_stamp(value: Raw) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(_SPACE_BEFORE_ZONE.sub("", value))
    except ValueError:
        return None


def _intervals(_server: ColumnType, _sqlite: ColumnType) -> Canonical:
    return Canonical(_strict_span, _told_span, _relaxed_span, _relaxed_told_span)


def _span(value: Raw) -> timedelta | None:
    found = _parsed_stamp(value)
    return None if found is None or found.tzinfo else found - _EPOCH


def _strict_span(value: Raw) -> Any:
    span = _span(value)
    if span is None:
        return _stored(value)
    if (_EPOCH + span).isoformat(" ", "microseconds") != value:
        return "spelled", value
    return 0, span.days, span.seconds * 1_000_000 + span.microseconds


def _relaxed_span(value: Raw) -> Any:
    span = _span(value)
    return _stored(value) if span is None else (0, span // _MICROSECOND)


def _told_span(text: str) -> Any:
    """Read `1 year 2 mons -3 days +04:05:06.7`: months, days, microseconds."""
    words = text.split()
    months = days = micros = 0
    try:
        while words:
            word = words.pop(0)
            if ":" in word:
                micros = _clock(word)
                continue
            unit = words.pop(0)
            months += int(word) * {"year": 12, "mon": 1, "day": 0}[unit.rstrip("s")]
            days += int(word) if unit.startswith("day") else 0
    except (ValueError, KeyError, IndexError):
        return _told(text)
    return months, days, micros


def _clock(word: str) -> int:
    hours, minutes, seconds = word.lstrip("+-").split(":")
    micros = (int(hours) * 60 + int(minutes)) * 60_000_000 + int(Decimal(seconds) * 1_000_000)
    return -micros if word.startswith("-") else micros


def _relaxed_told_span(text: str) -> Any:
    found = _told_span(text)
    if len(found) < 3:  # noqa: PLR2004 - no span at all
        return found
    months, days, micros = found
    return months, days * 86_400_000_000 + micros


# --- JSON and arrays ------------------------------------------------------------------------------


def _jsons(server: ColumnType, _sqlite: ColumnType) -> Canonical:
    of_number = repr if server.exact else _number_in_jsonb
    return Canonical(partial(_json, of_number), str, partial(_relaxed_json_of, of_number), _relaxed_json)


def _number_in_jsonb(value: float) -> Any:
    return _MINUS_ZERO if repr(value) == "-0.0" else json_texts.plain_digits(Decimal(repr(value)))


def _json(of_number: Form, value: Raw) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes) or value in _INFINITE:
        return _stored(value)
    return of_number(value)


def _relaxed_json_of(of_number: Form, value: Raw) -> Any:
    found = _json(of_number, value)
    if found is _MINUS_ZERO:
        return "0"
    return _relaxed_json(found) if isinstance(found, str) else found


def _relaxed_json(text: str) -> Any:
    """Spell a value in one way: keys sorted, the last of equal ones, numbers by their value."""
    try:
        return _one_spelling(json_texts.parse(text))
    except ValueError:
        return _told(text)


def _one_spelling(tree: Any) -> str:
    if isinstance(tree, Number):
        return _one_number(tree)
    if isinstance(tree, Members):
        members = sorted(dict(tree).items())
        return "{" + ",".join(f"{json.dumps(key)}:{_one_spelling(value)}" for key, value in members) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(_one_spelling, tree)) + "]"
    return json.dumps(tree)


def _one_number(token: str) -> str:
    try:
        return _normalised(Decimal(token))
    except InvalidOperation:
        return token


def _arrays(server: ColumnType, _sqlite: ColumnType) -> Canonical | None:
    element = server.element
    spell = _SPELLED.get(element.kind) if element is not None else None
    if spell is None or element is None:
        return None
    if element.kind is TypeClass.FLOAT and element.size == 32:  # noqa: PLR2004 - bits
        spell = _single_in_json
    return Canonical(_text, partial(_listed, spell), _relaxed_list, partial(_relaxed_listed, spell))


def _relaxed_list(value: Raw) -> Any:
    return _relaxed_json(value) if isinstance(value, str) else _stored(value)


def _listed(spell: Callable[[str], str], text: str) -> Any:
    found = _list(arrays.parse(text), spell)
    return ("bounds", text) if arrays.has_bounds(text) else found


def _relaxed_listed(spell: Callable[[str], str], text: str) -> Any:
    return _relaxed_json(_list(arrays.parse(text), spell))


def _list(item: Any, spell: Callable[[str], str]) -> str:
    if isinstance(item, list):
        return "[" + ", ".join(_list(each, spell) for each in item) + "]"
    return "null" if item is None else spell(item)


def _single_in_json(item: str) -> str:
    return json.dumps(_single_float(float(item)) if item != "-0" else -0.0)


_SPELLED: Mapping[TypeClass, Callable[[str], str]] = {
    TypeClass.INTEGER: str,
    TypeClass.NUMERIC: str,
    TypeClass.FLOAT: lambda item: json.dumps(float(item)),
    TypeClass.BOOLEAN: lambda item: json.dumps(item == "t"),
    TypeClass.TEXT: json.dumps,
    TypeClass.UUID: json.dumps,
    TypeClass.ENUM: json.dumps,
}

_MAKERS: Mapping[TypeClass, Callable[[ColumnType, ColumnType], Canonical | None]] = {
    TypeClass.INTEGER: _integers,
    TypeClass.BOOLEAN: _booleans,
    TypeClass.FLOAT: _floats,
    TypeClass.NUMERIC: _numerics,
    TypeClass.TEXT: _texts,
    TypeClass.ENUM: _texts,
    TypeClass.BYTES: _byte_strings,
    TypeClass.JSON: _jsons,
    TypeClass.UUID: _uuids,
    TypeClass.DATE: _dates,
    TypeClass.TIME: _times,
    TypeClass.DATETIME: _datetimes,
    TypeClass.INTERVAL: _intervals,
    TypeClass.ARRAY: _arrays,
}
