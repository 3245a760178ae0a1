"""What both directions and their proof have in common: which types meet, and what SQLite's columns make of a value."""

import re
from collections.abc import Mapping

from panicdb.values import ColumnType, TypeClass

NUMERIC_AFFINITIES = frozenset({"INTEGER", "NUMERIC", "REAL"})
_CHARACTERS_OF_HEX, _CHARACTERS_WITH_DASHES = 32, 36
_NUMBER = re.compile(r"[ \t\n\v\f\r]*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t\n\v\f\r]*")
_END_OF_INTEGERS = 1 << 63

_COMMON: Mapping[TypeClass, frozenset[TypeClass]] = {
    TypeClass.INTEGER: frozenset(
        {TypeClass.INTEGER, TypeClass.BOOLEAN, TypeClass.NUMERIC, TypeClass.FLOAT, TypeClass.OTHER}
    ),
    TypeClass.BOOLEAN: frozenset({TypeClass.BOOLEAN, TypeClass.INTEGER, TypeClass.NUMERIC, TypeClass.OTHER}),
    TypeClass.FLOAT: frozenset({TypeClass.FLOAT, TypeClass.NUMERIC, TypeClass.OTHER}),
    TypeClass.NUMERIC: frozenset({TypeClass.NUMERIC, TypeClass.FLOAT, TypeClass.OTHER}),
    TypeClass.TEXT: frozenset({TypeClass.TEXT, TypeClass.JSON, TypeClass.OTHER}),
    TypeClass.BYTES: frozenset({TypeClass.BYTES, TypeClass.OTHER}),
    TypeClass.JSON: frozenset({TypeClass.JSON, TypeClass.TEXT, TypeClass.OTHER}),
    TypeClass.UUID: frozenset({TypeClass.UUID, TypeClass.TEXT, TypeClass.BYTES, TypeClass.OTHER}),
    TypeClass.DATE: frozenset({TypeClass.DATE, TypeClass.TEXT, TypeClass.OTHER}),
    TypeClass.TIME: frozenset({TypeClass.TIME, TypeClass.TEXT, TypeClass.OTHER}),
    TypeClass.DATETIME: frozenset({TypeClass.DATETIME, TypeClass.TEXT, TypeClass.OTHER}),
    TypeClass.INTERVAL: frozenset({TypeClass.DATETIME, TypeClass.OTHER}),
    TypeClass.ENUM: frozenset({TypeClass.TEXT, TypeClass.OTHER}),
    TypeClass.ARRAY: frozenset({TypeClass.JSON, TypeClass.TEXT, TypeClass.OTHER}),
}
"""{class of a server's type: classes of SQLite's declared types that an application may use for the same}"""


def meet(server: ColumnType, sqlite: ColumnType) -> bool:
    """Tell whether one application may use these two types for the same values."""
    is_possible = not (server.kind is TypeClass.TIME and server.zoned)
    return is_possible and sqlite.kind in _COMMON.get(server.kind, frozenset())


def uuid_spelling(sqlite: ColumnType) -> str:
    """Tell how applications keep UUIDs in a column of SQLite: `bytes`, `hex` or `dashed`; `""`: they don't."""
    if sqlite.kind is TypeClass.BYTES:
        return "bytes"
    if sqlite.kind is TypeClass.UUID:
        return "hex"
    if sqlite.size is None or sqlite.size >= _CHARACTERS_WITH_DASHES:
        return "dashed"
    return "hex" if sqlite.size >= _CHARACTERS_OF_HEX else ""


def looks_like_a_number(text: str) -> bool:
    """Tell whether SQLite would make a number of this text in a column of numbers (datatype3.html, section 3)."""
    return _NUMBER.fullmatch(text) is not None


def settled(number: float, affinity: str) -> float:
    """Return the number that SQLite keeps of this one, in a column of this affinity: an int or a float."""
    if affinity == "REAL":
        return float(number) + 0.0
    if affinity in NUMERIC_AFFINITIES and isinstance(number, float) and number.is_integer():
        return int(number) if -_END_OF_INTEGERS < number < _END_OF_INTEGERS else number
    return number


def fits_integer(number: int) -> bool:
    """Tell whether SQLite can keep it as an integer."""
    return -_END_OF_INTEGERS <= number < _END_OF_INTEGERS
