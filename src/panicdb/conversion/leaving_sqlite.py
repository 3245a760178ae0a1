"""SQLite to PostgreSQL: a stored value becomes the server's text, or is refused; what it loses has a name.

SQLite's columns hold values of any type, so the value itself decides; what its column is declared as says which
spelling of it is the usual one.
"""

import re
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

from panicdb.backends.conversions import Conversion, Raw, UnfitError
from panicdb.conversion import common, json_texts, leaving_sqlite_times, losses, refusals
from panicdb.conversion.leaving_sqlite_lists import decide_array
from panicdb.conversion.refusals import out_of_place
from panicdb.values import ColumnType, TypeClass

_SMALLEST = -(1 << 63)
_SINGLE = struct.Struct("<f")

_UUID = re.compile(
    r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"|\{[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}"
)
_USUAL_UUID = {
    "hex": re.compile(r"[0-9a-f]{32}"),
    "dashed": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}
_UUID_BYTES = 16


def decide(source: ColumnType, target: ColumnType) -> Conversion | None:
    """Decide how values of a column of SQLite become text of a column of PostgreSQL; None: no way is known."""
    if not common.meet(target, source):
        return None
    if target.kind is TypeClass.ARRAY:
        return decide_array(source, target, decide)
    maker = _MAKERS.get(target.kind)
    return maker(source, target) if maker else None


def _nothing(_value: Raw) -> None:
    return None


# --- numbers --------------------------------------------------------------------------------------


def _decide_integer(source: ColumnType, target: ColumnType) -> Conversion:
    bits = target.size or 64
    convert = _whole if source.affinity == "REAL" else _integer
    beyond = f"out of range of a {bits}-bit integer"
    return Conversion(f"integer {bits}", partial(convert, 1 << (bits - 1), beyond), _loss_of_zero)


def _whole(end: int, beyond: str, value: Raw) -> str:
    """A column of floats has whole numbers as floats."""
    return _integer(end, beyond, int(value) if type(value) is float and value.is_integer() else value)


def _loss_of_zero(value: Raw) -> str | None:
    return losses.NEGATIVE_ZERO if type(value) is float and repr(value) == "-0.0" else None


def _integer(end: int, beyond: str, value: Raw) -> str:
    if type(value) is not int:
        raise out_of_place(value, "integers")
    if not -end <= value < end:
        raise UnfitError(beyond)
    return str(value)


def _decide_boolean(_source: ColumnType, _target: ColumnType) -> Conversion:
    return Conversion("boolean", _boolean, _nothing)


def _boolean(value: Raw) -> str:
    if type(value) is not int:
        raise out_of_place(value, "booleans")
    if value not in (0, 1):
        raise UnfitError(refusals.NO_BOOLEAN)
    return str(value)


def _decide_float(source: ColumnType, target: ColumnType) -> Conversion:
    keeps_integers = source.affinity not in common.NUMERIC_AFFINITIES
    if target.size == 32:  # noqa: PLR2004 - bits
        return Conversion("", _single, partial(_loss_of_single, keeps_integers))
    if keeps_integers:  # what comes back from a float is a float, and was an integer
        return Conversion("", _float, _loss_of_integer)
    return Conversion("number", _float, _nothing)


def _float(value: Raw) -> str:
    return repr(_as_float(value))


def _as_float(value: Raw) -> float:
    if type(value) is float:
        return value
    if type(value) is not int:
        raise out_of_place(value, "floats")
    number = float(value)
    if (
        number != value or value == _SMALLEST
    ):  # which comes back as a float: SQLite makes no integer of that one
        raise UnfitError(refusals.INEXACT_INTEGER)
    return number


def _loss_of_integer(value: Raw) -> str | None:
    return losses.INTEGER_AS_FLOAT if type(value) is int else None


def _single(value: Raw) -> str:
    """Round here: the server would round what is spelled in decimals, which may end at the neighbour."""
    number = _as_float(value)
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(number))[0]
    except OverflowError:
        raise UnfitError(refusals.OUT_OF_SINGLE) from None
    if number and not rounded:
        raise UnfitError(refusals.OUT_OF_SINGLE)
    return repr(rounded)


def _loss_of_single(keeps_integers: bool, value: Any) -> str | None:  # noqa: FBT001 - bound where it is made
    if _SINGLE.unpack(_SINGLE.pack(value))[0] != value:
        return losses.SINGLE
    return _loss_of_integer(value) if keeps_integers else None


def _decide_numeric(_source: ColumnType, target: ColumnType) -> Conversion:
    if target.size is None:
        return Conversion("integer 64", _numeric, _loss_of_numeric)
    before, behind = target.size - (target.scale or 0), target.scale or 0
    large = f"more than {max(before, 0)} digits before the point"
    fine = f"more than {max(behind, 0)} digits behind the point"
    if behind < 0:
        fine = f"not a multiple of 1{'0' * -behind}"
    convert = partial(_bounded_numeric, before, behind, large, fine)
    plain = next((f"integer {bits}" for bits, digits in _DIGITS if digits <= before and behind >= 0), "")
    return Conversion(plain, convert, _loss_of_numeric)


_DIGITS = ((64, 19), (32, 10), (16, 5))
"""(bits of an integer, digits that it may have)"""


def _numeric(value: Raw) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is not float:
        raise out_of_place(value, "numbers")
    return _spelled(value)


def _spelled(number: float) -> str:
    """Spell a whole number exactly, and any other by the shortest digits that read as this float."""
    if number.is_integer():
        return str(int(number))
    return repr(number).replace("inf", "Infinity")


def _bounded_numeric(before: int, behind: int, large: str, fine: str, value: Raw) -> str:
    text = _numeric(value)
    if text.endswith("Infinity"):
        raise UnfitError(refusals.INFINITE)
    number = Decimal(text)
    _, digits, exponent = number.as_tuple()
    places = int(exponent) + _ending_zeros(digits)
    if number and number.adjusted() >= before:
        raise UnfitError(large)
    if number and -places > behind:
        raise UnfitError(fine)
    return text


def _ending_zeros(digits: tuple[int, ...]) -> int:
    zeros = 0
    for digit in reversed(digits):
        if digit:
            break
        zeros += 1
    return zeros


def _loss_of_numeric(value: Raw) -> str | None:
    if type(value) is not float or value in (float("inf"), float("-inf")):
        return None
    if value.is_integer():
        return losses.NEGATIVE_ZERO if repr(value) == "-0.0" else None
    return losses.FLOAT_AS_DECIMAL if Decimal(repr(value)) != Decimal(value) else None


# --- text and bytes -------------------------------------------------------------------------------


def _decide_text(_source: ColumnType, target: ColumnType) -> Conversion:
    if target.size is None:
        return Conversion("printable", _text, _nothing)
    convert = partial(_bounded_text, target.size, f"longer than {target.size} characters")
    if not target.exact:
        return Conversion("", convert, partial(_loss_of_padded, target.size))
    return Conversion(f"printable {target.size}", convert, _nothing)


def _text(value: Raw) -> str:
    if type(value) is not str:
        raise out_of_place(value, "text")
    if "\0" in value:
        raise UnfitError(refusals.NUL)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UnfitError(refusals.NO_UTF8) from None
    return value


def _bounded_text(size: int, longer: str, value: Raw) -> str:
    text = _text(value)
    if len(text) > size:  # spaces, too, which the server would cut off without a word
        raise UnfitError(longer)
    return text


def _loss_of_padded(size: int, value: Any) -> str | None:
    return losses.PADDING if len(value) < size else None


def _decide_bytes(_source: ColumnType, _target: ColumnType) -> Conversion:
    return Conversion("blob", _bytes, _nothing)


def _bytes(value: Raw) -> str:
    if type(value) is not bytes:
        raise out_of_place(value, "bytes")
    return "\\x" + value.hex()


def _decide_enum(_source: ColumnType, target: ColumnType) -> Conversion:
    return Conversion("", partial(_label, frozenset(target.labels)), _nothing)


def _label(labels: frozenset[str], value: Raw) -> str:
    if type(value) is not str:
        raise out_of_place(value, "an enum")
    if value not in labels:
        raise UnfitError(refusals.NO_LABEL)
    return value


def _decide_uuid(source: ColumnType, _target: ColumnType) -> Conversion:
    spelling = common.uuid_spelling(source)
    plain = "hex 32" if spelling == "hex" else ""
    return Conversion(plain, _uuid, partial(_loss_of_uuid, spelling))


def _uuid(value: Raw) -> str:
    if type(value) is str:
        if _UUID.fullmatch(value) is None:
            raise UnfitError(refusals.NO_UUID)
        return value.lower()
    if type(value) is not bytes:
        raise out_of_place(value, "UUIDs")
    if len(value) != _UUID_BYTES:
        raise UnfitError(refusals.NO_UUID)
    return value.hex()


def _loss_of_uuid(spelling: str, value: Raw) -> str | None:
    if isinstance(value, str):
        usual = _USUAL_UUID.get(spelling)
        return None if usual and usual.fullmatch(value) else losses.SPELLING
    return None if spelling == "bytes" else losses.SPELLING


# --- JSON -----------------------------------------------------------------------------------------


def _decide_json(_source: ColumnType, target: ColumnType) -> Conversion:
    if target.exact:
        return Conversion("", _json, _nothing)
    return Conversion("", _jsonb, _loss_of_jsonb)


def _json(value: Raw) -> str:
    text = _json_text(value)
    if type(value) is str:
        _parsed(text)
    return text


def _json_text(value: Raw) -> str:
    """A number is what SQLite made of its text, in a column that is declared JSON."""
    if type(value) is str:
        return _text(value)
    if type(value) is bytes:
        raise out_of_place(value, "JSON")
    if type(value) is float and value - value != 0:
        raise UnfitError(refusals.INFINITE)
    return repr(value)


def _parsed(text: str) -> Any:
    try:
        return json_texts.parse(text)
    except json_texts.DeepError:
        raise UnfitError(refusals.DEEP_JSON) from None
    except ValueError:
        raise UnfitError(refusals.NO_JSON) from None


def _jsonb(value: Raw) -> str:
    text = _json_text(value)
    tree = _parsed(text)
    if json_texts.holds(tree, lambda each: "\0" in each):
        raise UnfitError(refusals.JSON_NUL)
    if json_texts.holds(tree, _has_surrogate):
        raise UnfitError(refusals.JSON_SURROGATE)
    try:
        json_texts.as_jsonb(tree)
    except ValueError:
        raise UnfitError(refusals.JSON_NUMBER) from None
    return text


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text)


def _loss_of_jsonb(value: Raw) -> str | None:
    if not isinstance(value, str):
        return losses.NEGATIVE_ZERO if repr(value) == "-0.0" else None
    tree = json_texts.parse(value)
    if json_texts.has_duplicates(tree):
        return losses.JSON_DUPLICATES
    return losses.JSON if json_texts.as_jsonb(tree) != value else None


_MAKERS: Mapping[TypeClass, Callable[[ColumnType, ColumnType], Conversion]] = {
    TypeClass.INTEGER: _decide_integer,
    TypeClass.BOOLEAN: _decide_boolean,
    TypeClass.FLOAT: _decide_float,
    TypeClass.NUMERIC: _decide_numeric,
    TypeClass.TEXT: _decide_text,
    TypeClass.BYTES: _decide_bytes,
    TypeClass.JSON: _decide_json,
    TypeClass.UUID: _decide_uuid,
    TypeClass.DATE: leaving_sqlite_times.decide_date,
    TypeClass.TIME: leaving_sqlite_times.decide_time,
    TypeClass.DATETIME: leaving_sqlite_times.decide_datetime,
    TypeClass.INTERVAL: leaving_sqlite_times.decide_interval,
    TypeClass.ENUM: _decide_enum,
}
