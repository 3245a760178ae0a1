"""Which rows differ, where a table's digest does: found by key, in bounded memory, whatever the engines."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import ormsgpack
import sqlalchemy as sa

from panicdb import contents
from panicdb.backends.base import Snapshot
from panicdb.backends.pairing import Found, Hashed, paired
from panicdb.contents import Rows
from panicdb.digest import encode
from panicdb.values import CatalogTable, Monitor, Progress, quote_name

LISTED = 10
"""Keys of each class that are listed."""
HASH_BYTES = 16
LAST_OF_FOUR_DIGITS = 0xFFFF


@dataclass(frozen=True)
class Listed:
    """How many rows are in one class, and the first keys, spelled."""

    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Differing:
    """A value that differs, as either side has it, spelled as SQL does."""

    column: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class Changed:
    """A row that both sides have, and what of it differs."""

    key: str
    values: tuple[Differing, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the columns that differ."""
        return tuple(each.column for each in self.values)


@dataclass(frozen=True)
class Discrepancies:
    """What of one table differs: how many rows of each class, and the first of them."""

    table: str
    missing: Listed
    extra: Listed
    changed: Listed
    repeated: Listed
    """There on both sides, but not as often."""
    rows: tuple[Changed, ...]
    """The first of those that are changed."""
    keyed: bool
    """False: no key tells rows apart, so a changed row is one that is missing and another one that is extra."""


@dataclass(frozen=True)
class _NoText:
    """Text that is not UTF-8."""

    raw: bytes


@dataclass(frozen=True)
class _Side:
    """One table as one side has it, or is to have it."""

    snapshot: Snapshot
    rows: Rows


def locate(
    arriving: Rows,
    entry: CatalogTable,
    snapshot: Snapshot,
    target: Snapshot,
    monitor: Monitor,
    *,
    further: Rows | None = None,
    forms: tuple[Callable[[Any], Any], ...] = (),
) -> Discrepancies:
    """Read one table on both sides once more, and name what differs. Reads only, but for a temporary file.

    Columns that only one side has count as NULL on the other. The target may have `further` rows, too. `forms` are
    those of the target's values, where it is of another engine: then columns that differ are not named.
    """
    monitor.report(Progress("locating differences", entry.name))
    there = target.catalog.tables[entry.name]
    key = _key(entry, there)
    ours = _Side(snapshot, arriving)
    theirs = _Side(target, replace(contents.whole_rows(there, arriving.columns), forms=forms))
    more = None if further is None else _Side(snapshot, further)
    pairs = paired(
        _hashed(ours, key),
        _hashed(theirs, key),
        limit=LISTED,
        further=() if more is None else _hashed(more, key),
    )
    changed = tuple(
        Changed(spelled(key, packed), _differing((ours, more), theirs, key, packed))
        for packed in pairs.changed.first
    )
    return Discrepancies(
        table=entry.name,
        missing=_spelled(key, pairs.missing),
        extra=_spelled(key, pairs.extra),
        changed=Listed(pairs.changed.count, tuple(each.key for each in changed)),
        repeated=_spelled(key, pairs.repeated),
        rows=changed,
        keyed=bool(key),
    )


def _key(entry: CatalogTable, there: CatalogTable) -> tuple[str, ...]:
    """Choose what rows are told apart by: the primary key, else a unique one, if it is never NULL; else nothing."""
    for key in (entry.primary_key, *entry.unique_keys):
        if key and all(entry.table.c[name].info["never_null"] and name in there.stored for name in key):
            return key
    return ()


def _hashed(side: _Side, key: tuple[str, ...]) -> Iterator[Hashed]:
    places = [side.rows.columns.index(name) for name in key]
    for row in contents.values(side.snapshot, side.rows):
        hashed = blake2b(encode(row), digest_size=HASH_BYTES).digest()
        yield (encode([row[place] for place in places]), hashed) if key else (hashed, b"")


def _differing(
    ours: Sequence[_Side | None], theirs: _Side, key: tuple[str, ...], packed: bytes
) -> tuple[Differing, ...]:
    rows = (_row(side, key, packed) for side in ours if side is not None)
    one = next((row for row in rows if row is not None), None)
    other = _row(theirs, key, packed)
    if one is None or other is None:
        return ()
    return tuple(
        Differing(name, _literal(mine), _literal(its))
        for name, mine, its in zip(theirs.rows.columns, one, other, strict=True)
        if encode((mine,)) != encode((its,))
    )


def _row(side: _Side, key: tuple[str, ...], packed: bytes) -> Sequence[Any] | None:
    """Find a row by its key; what the engine calls equal need not be it. A form is nothing that it could look for."""
    if side.rows.forms:
        return None
    wanted = [_bound(value) for value in _unpacked(packed)]
    places = [side.rows.columns.index(name) for name in key]
    for statement in side.rows.statements:
        every = statement.subquery()
        same = [every.c[f"c{place}"] == value for place, value in zip(places, wanted, strict=True)]
        for row in side.snapshot.values(sa.select(*every.c).where(*same)):
            if encode([row[place] for place in places]) == packed:
                return row
    return None


def _bound(value: Any) -> Any:
    if isinstance(value, _NoText):
        return sa.cast(sa.literal(value.raw, sa.LargeBinary()), sa.Text())
    return value


def _unpacked(packed: bytes) -> list[Any]:
    values: list[Any] = ormsgpack.unpackb(packed, ext_hook=lambda _, raw: _NoText(raw))
    return values


def _spelled(key: tuple[str, ...], found: Found) -> Listed:
    return Listed(found.count, tuple(spelled(key, packed) for packed in found.first))


def spelled(key: tuple[str, ...], packed: bytes) -> str:
    """Spell a key as SQL does; rows without one by the beginning of their hash."""
    if not key:
        return f"row {packed.hex()[:16]}"
    pairs = zip(key, _unpacked(packed), strict=True)
    return ", ".join(f"{quote_name(name)} = {_literal(value)}" for name, value in pairs)


def _literal(value: Any) -> str:
    match value:
        case bytes():
            return f"x'{value.hex()}'"
        case str():
            return _text(value)
        case _NoText():
            return _cast(value.raw)
    return "NULL" if value is None else repr(value)


def _text(value: str) -> str:
    """Nothing that a terminal would obey: what is not to be seen is spelled as `unistr` of SQL reads it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return _cast(value.encode("utf-8", "surrogateescape"))
    quoted = "'" + value.replace("'", "''") + "'"
    if value.isprintable():
        return quoted
    escaped = quoted.replace("\\", "\\\\")
    return f"unistr({''.join(each if each.isprintable() else _escape(each) for each in escaped)})"


def _cast(raw: bytes) -> str:
    return f"CAST(x'{raw.hex()}' AS TEXT)"


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number <= LAST_OF_FOUR_DIGITS else f"\\U{number:08x}"
