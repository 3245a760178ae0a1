"""One canonical encoding of a row, and one digest of a table that depends on neither order, nor key, nor collation.

Specified in docs/digest.md, with test vectors, so that anyone can compute it again. The sum of hashes modulo 2**256, as
a hash of multisets, is from D. Clarke et al., "Incremental Multiset Hash Functions and Their Application to Memory
Integrity Checking" (ASIACRYPT 2003); unlike an exclusive or it counts duplicates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import ormsgpack

VERSION = 1
"""Of the encoding: a digest of another version can't be compared with this one's."""
BYTES = 32
MODULUS = 2 ** (8 * BYTES)
NO_TEXT = 1
"""The extension type of bytes that a database calls text and that are not UTF-8."""

Value = None | int | float | str | bytes


@dataclass(frozen=True)
class TableDigest:
    """How many rows there are, and the sum of their hashes."""

    rows: int
    total: int

    def __add__(self, other: "TableDigest") -> "TableDigest":
        """Return the digest of both parts together."""
        return TableDigest(self.rows + other.rows, (self.total + other.total) % MODULUS)

    def __str__(self) -> str:
        """Spell the sum as 64 hexadecimal digits."""
        return f"{self.total:0{2 * BYTES}x}"


def digest_rows(table: str, columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> TableDigest:
    """Digest the rows of a table, each with its values in the order of `columns`, which are sorted. Reads only."""
    start = row_hash(table, columns)
    count = total = 0
    for row in rows:
        hashed = start.copy()
        hashed.update(encode(row))
        total += int.from_bytes(hashed.digest(), "big")
        count += 1
    return TableDigest(count, total % MODULUS)


def row_hash(table: str, columns: Sequence[str]) -> Any:
    """Begin a hash with what is the same for all rows of a table. Raises ValueError for columns out of order."""
    if list(columns) != sorted(columns):
        raise ValueError(f"the columns of {table} are not sorted")
    return blake2b(ormsgpack.packb([table, list(columns)]), digest_size=BYTES)


def encode(row: Sequence[Value]) -> bytes:
    """Return the canonical bytes of one row: a MessagePack array of its values."""
    try:
        return ormsgpack.packb(row)
    except TypeError:  # a string with bytes that are no UTF-8
        return ormsgpack.packb([_packable(value) for value in row])


def _packable(value: Value) -> Any:
    """Text that is not UTF-8 arrives with its bytes escaped (PEP 383), and is told apart from all that is."""
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogateescape")
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            return ormsgpack.Ext(NO_TEXT, raw)
    return value
