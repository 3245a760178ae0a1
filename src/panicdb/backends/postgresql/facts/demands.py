"""What a column's type demands of its values, so that a narrower type is told from a wider one."""

import re
from collections.abc import Mapping

from panicdb.values import at_most

_WHOLE = {"smallint": (15, 5), "integer": (31, 10), "bigint": (63, 19)}
"""Bits and digits of whole numbers."""
_FLOATS = {"double precision": 53, "real": 24}
"""Bits of a mantissa."""
_TYPE = re.compile(r"(?P<name>[^(]+?)\s*(?:\((?P<numbers>[\d,-]+)\)(?P<rest>.*))?\Z")
_DEMANDS = {
    "text": ("text",),
    "character varying": ("text",),
    "character": ("text",),
    "bit varying": ("bits",),
    "json": ("json",),
    "jsonb": ("json", "jsonb"),
}
_MOMENTS = frozenset(
    f"{name}{zone}" for name in ("timestamp", "time") for zone in (" without time zone", " with time zone")
)
_FINEST = 6


def type_demands(label: str, kind: str, domains: Mapping[str, str]) -> frozenset[str]:
    """Return what values of a column must be.

    `kind` is spelled by the server; `domains` says what each domain is made of.
    """
    if kind.endswith("[]"):
        return type_demands(f"{label}[]", kind.removesuffix("[]"), domains) | {f"array {label}"}
    if kind in domains:
        return type_demands(label, domains[kind], domains) | {f"domain {label} {kind}"}
    match = _TYPE.match(kind)
    if match is None:
        return frozenset({f"type {label} {kind}"})
    numbers = [int(number) for number in (match["numbers"] or "").split(",") if number]
    name = f"{match['name']}{match['rest'] or ''}"
    return (
        _numeric(label, name, numbers) or _sized(label, name, numbers) or frozenset({f"type {label} {kind}"})
    )


def _numeric(label: str, name: str, numbers: list[int]) -> frozenset[str]:
    if name in _WHOLE:
        bits, digits = _WHOLE[name]
        mantissa = at_most(bits, f"bits of a mantissa {label}")
        return frozenset({at_most(bits, f"bits of a number {label}"), mantissa}) | _decimal(label, digits, 0)
    if name in _FLOATS:
        return frozenset({f"number {label}", at_most(_FLOATS[name], f"bits of a mantissa {label}")})
    if name == "numeric":
        precision, scale = (*numbers, 0)[:2] if numbers else (None, 0)
        return (
            frozenset({f"number {label}"}) if precision is None else _decimal(label, precision - scale, scale)
        )
    return frozenset()


def _decimal(label: str, digits: int, scale: int) -> frozenset[str]:
    whole, after = (
        at_most(digits, f"digits before the point {label}"),
        at_most(scale, f"digits after it {label}"),
    )
    return frozenset({f"number {label}", whole, after})


def _sized(label: str, name: str, numbers: list[int]) -> frozenset[str]:
    if name in _MOMENTS:
        finest = numbers[0] if numbers else _FINEST
        return frozenset({f"{name} {label}", at_most(finest, f"digits of a second {label}")})
    demands = {f"{each} {label}" for each in _DEMANDS.get(name, ())}
    if name == "character":
        demands.add(f"padded {label} {numbers}")
    if demands and numbers:
        demands.add(at_most(numbers[0], f"length {label}"))
    return frozenset(demands)
