"""Which rows differ, where a table's digest does: found by key, in bounded memory, whatever the engines."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import ormsgpack
import sqlalchemy as sa

from panicdb.backends.base import CopyStep, Snapshot, rows_of, value_of
from panicdb.backends.pairing import Found, Hashed, paired
from panicdb.contents import columns_of
from panicdb.digest import encode
from panicdb.values import CatalogTable, Monitor, Progress, quote_name

LISTED = 10
"""Keys of each class that are listed."""
HASH_BYTES = 16


@dataclass(frozen=True)
class Listed:
    """How many rows are in one class, and the first keys, spelled."""

    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Changed:
    """A row that both sides have, and the columns that differ."""

    key: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Discrepancies:
    """What of one table differs: how many rows of each class, and the first of them."""

    table: str
    missing: Listed
    extra: Listed
    changed: Listed
    repeated: Listed
    """There on both sides, but not as often."""
    columns: tuple[Changed, ...]
    keyed: bool
    """False: no key tells rows apart, so a changed row is one that is missing and another one that is extra."""


@dataclass(frozen=True)
class _NoText:
    """Text that is not UTF-8."""

    raw: bytes


@dataclass(frozen=True)
class _Side:
    """One table as one side has it: of the source, as it is to arrive."""

    snapshot: Snapshot
    rows: sa.FromClause
    value: Callable[[str], sa.ColumnElement[Any]]

    def select(self, columns: Sequence[str]) -> sa.Select[Any]:
        return sa.select(*map(self.value, columns)).select_from(self.rows)


def locate(step: CopyStep, snapshot: Snapshot, target: Snapshot, monitor: Monitor) -> Discrepancies:
    """Read one table on both sides once more, and name what differs. Reads only, but for a temporary file.

    Columns that only one side has are left out: that they are missing is a finding of the schema.
    """
    monitor.report(Progress("locating differences", step.entry.name))
    there = target.catalog.tables[step.entry.name]
    columns = tuple(name for name in columns_of(step.entry) if name in there.stored)
    key = _key(step.entry, there)
    ours = _Side(snapshot, rows_of(step), partial(value_of, step))
    theirs = _Side(target, there.table, there.table.c.__getitem__)
    hashed = (_hashed(side, key, columns) for side in (ours, theirs))
    with paired(*hashed, limit=LISTED) as pairs:
        changed = tuple(
            Changed(spelled(key, packed), _differing(ours, theirs, key, columns, packed))
            for packed in pairs.changed.first
        )
        return Discrepancies(
            table=step.entry.name,
            missing=_spelled(key, pairs.missing),
            extra=_spelled(key, pairs.extra),
            changed=Listed(pairs.changed.count, tuple(each.key for each in changed)),
            repeated=_spelled(key, pairs.repeated),
            columns=changed,
            keyed=bool(key),
        )


def _key(entry: CatalogTable, there: CatalogTable) -> tuple[str, ...]:
    """Choose what rows are told apart by: the primary key, else a unique one, if it is never NULL; else nothing."""
    for key in (entry.primary_key, *entry.unique_keys):
        if key and all(entry.table.c[name].info["never_null"] and name in there.stored for name in key):
            return key
    return ()


def _hashed(side: _Side, key: tuple[str, ...], columns: tuple[str, ...]) -> Iterator[Hashed]:
    width = len(key)
    for row in side.snapshot.values(side.select((*key, *columns))):
        hashed = blake2b(encode(row[width:]), digest_size=HASH_BYTES).digest()
        yield (encode(row[:width]), hashed) if width else (hashed, b"")


def _differing(
    ours: _Side, theirs: _Side, key: tuple[str, ...], columns: tuple[str, ...], packed: bytes
) -> tuple[str, ...]:
    one, other = (_row(side, key, columns, packed) for side in (ours, theirs))
    if one is None or other is None:
        return ()
    pairs = zip(columns, one, other, strict=True)
    return tuple(name for name, mine, its in pairs if encode((mine,)) != encode((its,)))


def _row(side: _Side, key: tuple[str, ...], columns: tuple[str, ...], packed: bytes) -> Sequence[Any] | None:
    """Find a row by its key; what the engine calls equal need not be it."""
    if any(isinstance(value, _NoText) for value in _unpacked(packed)):
        return None  # such a key can't be bound
    same = [side.value(name) == sa.literal(value) for name, value in zip(key, _unpacked(packed), strict=True)]
    rows = side.snapshot.values(side.select((*key, *columns)).where(*same))
    return next((row[len(key) :] for row in rows if encode(row[: len(key)]) == packed), None)


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
            return "'" + value.replace("'", "''") + "'"
        case _NoText():
            return f"CAST(x'{value.raw.hex()}' AS TEXT)"
    return "NULL" if value is None else repr(value)
