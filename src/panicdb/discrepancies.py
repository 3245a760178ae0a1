"""Which rows differ, where a table's digest does: found by key, in bounded memory, whatever the engines."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import ormsgpack
import sqlalchemy as sa

from panicdb import contents
from panicdb.backends.base import Snapshot
from panicdb.backends.pairing import Found, Hashed, Pairs, paired
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
    those of the target's values, where it is of another engine: compared are the forms, shown is what is stored.
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
    told = _Telling(key) if not forms else _tell_across(key, pairs, (ours, more), theirs)
    changed = tuple(
        Changed(told.key(packed), told.differing((ours, more), theirs, packed))
        for packed in pairs.changed.first
    )
    return Discrepancies(
        table=entry.name,
        missing=told.listed(pairs.missing),
        extra=told.listed(pairs.extra),
        changed=Listed(pairs.changed.count, tuple(each.key for each in changed)),
        repeated=told.listed(pairs.repeated),
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


@dataclass(frozen=True)
class _Stored:
    """A row as it is stored, and in its forms."""

    values: Sequence[Any]
    forms: Sequence[Any]


class _Telling:
    """How keys and differences are spelled: as they are compared, which within one engine is as they are stored."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def key(self, packed: bytes) -> str:
        return spelled(self.names, packed)

    def listed(self, found: Found) -> Listed:
        return Listed(found.count, tuple(map(self.key, found.first)))

    def differing(self, ours: Sequence[_Side | None], theirs: _Side, packed: bytes) -> tuple[Differing, ...]:
        rows = (_row(side, self.names, packed) for side in ours if side is not None)
        one = next((row for row in rows if row is not None), None)
        other = _row(theirs, self.names, packed)
        if one is None or other is None:
            return ()
        return _compared(theirs.rows.columns, _Stored(one, one), _Stored(other, other))


class _TellingAcross(_Telling):
    """A form is nothing that a user could look for: what is told was picked out of the rows of both sides."""

    def __init__(
        self,
        names: tuple[str, ...],
        places: Sequence[int],
        ours: Mapping[bytes, _Stored],
        theirs: Mapping[bytes, _Stored],
    ) -> None:
        super().__init__(names)
        self._places, self._ours, self._theirs = places, ours, theirs

    def key(self, packed: bytes) -> str:
        row = self._ours.get(packed) or self._theirs.get(packed)
        if row is None:
            return super().key(packed)
        values = (row.values[place] for place in self._places)
        return _spell_pairs(self.names, values)

    def differing(self, ours: Sequence[_Side | None], theirs: _Side, packed: bytes) -> tuple[Differing, ...]:
        del ours
        one, other = self._ours.get(packed), self._theirs.get(packed)
        return () if one is None or other is None else _compared(theirs.rows.columns, one, other)


def _tell_across(key: tuple[str, ...], pairs: Pairs, ours: Sequence[_Side | None], theirs: _Side) -> _Telling:
    found = (pairs.missing, pairs.extra, pairs.changed, pairs.repeated)
    wanted = frozenset(packed for each in found for packed in each.first) if key else frozenset()
    mine = _pick([side for side in ours if side is not None], key, wanted)
    places = [theirs.rows.columns.index(name) for name in key]
    return _TellingAcross(key, places, mine, _pick([theirs], key, wanted))


def _pick(sides: Sequence[_Side], key: tuple[str, ...], wanted: frozenset[bytes]) -> Mapping[bytes, _Stored]:
    """Read rows once more and keep those with these keys. A form can't be looked for, so all are read."""
    found: dict[bytes, _Stored] = {}
    for side in sides if wanted else ():
        places = [side.rows.columns.index(name) for name in key]
        for row in contents.values(side.snapshot, replace(side.rows, forms=())):
            formed = contents.in_forms(row, side.rows.forms)
            packed = encode([formed[place] for place in places])
            if packed in wanted:
                found.setdefault(packed, _Stored(row, formed))
    return found


def _compared(columns: Sequence[str], one: _Stored, other: _Stored) -> tuple[Differing, ...]:
    return tuple(
        Differing(name, _literal(one.values[place]), _literal(other.values[place]))
        for place, name in enumerate(columns)
        if encode((one.forms[place],)) != encode((other.forms[place],))
    )


def _row(side: _Side, key: tuple[str, ...], packed: bytes) -> Sequence[Any] | None:
    """Find a row by its key; what the engine calls equal need not be it."""
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


def spelled(key: tuple[str, ...], packed: bytes) -> str:
    """Spell a key as SQL does; rows without one by the beginning of their hash."""
    if not key:
        return f"row {packed.hex()[:16]}"
    return _spell_pairs(key, _unpacked(packed))


def _spell_pairs(key: Sequence[str], values: Iterable[Any]) -> str:
    pairs = zip(key, values, strict=True)
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
