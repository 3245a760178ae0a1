"""What a type of PostgreSQL means to another engine."""

import re
from collections.abc import Mapping
from dataclasses import replace

from panicdb.values import ColumnType, TypeClass

_SPELLED = re.compile(r"([^(]*?)(?:\((-?\d+)(?:,(-?\d+))?\)(.*))?", re.DOTALL)

_Meaning = tuple[TypeClass, int | None]

_OF_POSTGRESQL: Mapping[str, _Meaning] = {
    "int2": (TypeClass.INTEGER, 16),
    "int4": (TypeClass.INTEGER, 32),
    "int8": (TypeClass.INTEGER, 64),
    "bool": (TypeClass.BOOLEAN, None),
    "float4": (TypeClass.FLOAT, 32),
    "float8": (TypeClass.FLOAT, 64),
    "numeric": (TypeClass.NUMERIC, None),
    "text": (TypeClass.TEXT, None),
    "varchar": (TypeClass.TEXT, None),
    "bpchar": (TypeClass.TEXT, None),
    "citext": (TypeClass.TEXT, None),
    "bytea": (TypeClass.BYTES, None),
    "json": (TypeClass.JSON, None),
    "jsonb": (TypeClass.JSON, None),
    "uuid": (TypeClass.UUID, None),
    "date": (TypeClass.DATE, None),
    "time": (TypeClass.TIME, None),
    "timetz": (TypeClass.TIME, None),
    "timestamp": (TypeClass.DATETIME, None),
    "timestamptz": (TypeClass.DATETIME, None),
    "interval": (TypeClass.INTERVAL, None),
}
"""{name in pg_type: (class, bits)}. "char" and name silently cut what is too long for them: they are not here."""

_TIMES = frozenset({TypeClass.TIME, TypeClass.DATETIME, TypeClass.INTERVAL})
_ZONED = frozenset({"timetz", "timestamptz"})
_WHOLE_INTERVAL = re.compile(r"interval(?: second)?(?:\(\d\))?")


def column_type(
    spelled: str,
    base: str,
    category: str,
    labels: tuple[str, ...] = (),
    element: ColumnType | None = None,
) -> ColumnType:
    """Read a type of PostgreSQL, as format_type() spells it.

    `base` is its name in pg_type, a domain's that of what it is over; with a domain, `spelled` has to be what the
    domain is over, too, for else what it bounds is not seen. `labels` are an enum's, `element` is an array's.
    """
    if element is not None and category == "A":
        return ColumnType(TypeClass.ARRAY, spelled, element=element)
    if labels:
        return ColumnType(TypeClass.ENUM, spelled, labels=labels)
    kind, bits = _OF_POSTGRESQL.get(base, (TypeClass.OTHER, None))
    match = _SPELLED.fullmatch(spelled)
    first, second = (match[2], match[3]) if match else (None, None)
    found = ColumnType(kind, spelled, size=bits, zoned=base in _ZONED, exact=base != "jsonb")
    if kind is TypeClass.NUMERIC and first:
        return replace(found, size=int(first), scale=int(second or 0))
    if kind is TypeClass.TEXT and first:
        return replace(found, size=int(first), exact=base != "bpchar")
    if kind in _TIMES:
        return _time(found, first)
    return found


def _time(found: ColumnType, digits: str | None) -> ColumnType:
    """Of a time, the scale is how many digits a second has behind the point."""
    if found.kind is TypeClass.INTERVAL and not _WHOLE_INTERVAL.fullmatch(found.spelled):
        return replace(found, kind=TypeClass.OTHER)  # INTERVAL YEAR and the like cut off what is smaller
    return replace(found, scale=int(digits) if digits else None)
