"""Keys of SQLite rows: temporary tables of them, and ids as users type them."""

import uuid
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from panicdb.errors import SelectionError
from panicdb.values import CatalogTable


def create(connection: sa.Connection, name: str, entry: CatalogTable) -> sa.Table:
    """Create temp.`name`: k0, k1, ... keep the type and collation of the identity's columns."""
    columns = [entry.table.c[column] for column in entry.identity]
    by_rowid = len(columns) == 1 and bool(columns[0].system)
    if by_rowid:
        connection.exec_driver_sql(
            f"CREATE TEMP TABLE {name} (k0 INTEGER PRIMARY KEY, owned INTEGER NOT NULL, via INTEGER NOT NULL)"
        )
    else:
        quote = connection.dialect.identifier_preparer.quote_identifier
        listed = "".join(
            f"k{number} {_affinity_name(column)} COLLATE {quote(column.info['collation'])}, "
            for number, column in enumerate(columns)
        )
        key = ", ".join(f"k{number}" for number in range(len(columns)))
        connection.exec_driver_sql(
            f"CREATE TEMP TABLE {name} ({listed}owned INTEGER NOT NULL, via INTEGER NOT NULL, PRIMARY KEY ({key}))"
            " WITHOUT ROWID"
        )
    return sa.Table(
        name,
        sa.MetaData(),
        *(
            sa.Column(f"k{number}", sa.types.NullType(), info=dict(column.info))
            for number, column in enumerate(columns)
        ),
        sa.Column("owned", sa.Integer),
        sa.Column("via", sa.Integer),
        schema="temp",
    )


def _affinity_name(column: sa.Column[Any]) -> str:
    return str(column.info["affinity"])


def parse(column: sa.Column[Any], text: str) -> tuple[Any, ...]:
    """Return the values that an id as typed may stand for in `column`, the likeliest first."""
    affinity = column.info["affinity"]
    if not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text):
        # Python can't hand over text that is not UTF-8, but SQLite can make it out of bytes.
        return (sa.cast(sa.literal(text.encode("utf-8", "surrogateescape"), sa.LargeBinary), sa.Text),)
    if affinity == "TEXT":
        return (text, *_uuid_spellings(text), *_bytes(text))
    if affinity == "BLOB":
        return (text, *_numbers(text), *_bytes(text))
    numbers = _numbers(text)
    if affinity == "INTEGER" and not numbers:
        raise SelectionError(
            f"{text!r} can't be a key of {column.table.name}: {column.name} holds integers",
            hint="`panicdb list SOURCE` shows the keys there are",
        )
    return (*numbers, text)


def _uuid_spellings(text: str) -> tuple[str, ...]:
    try:
        value = uuid.UUID(text.strip())
    except ValueError:
        return ()
    return value.hex, str(value), value.hex.upper(), str(value).upper()


def _numbers(text: str) -> tuple[float | int, ...]:
    if not text.isascii() or "_" in text:  # Python reads more as a number than SQL does
        return ()
    try:
        number = int(text)
    except ValueError:
        try:
            return (float(text),)
        except ValueError:
            return ()
    return (number,) if -(2**63) <= number < 2**63 else ()


def _bytes(text: str) -> tuple[bytes, ...]:
    spellings: list[bytes] = []
    with suppress(ValueError):
        spellings.append(bytes.fromhex(text))
    with suppress(ValueError):
        spellings.append(uuid.UUID(text).bytes)
    return tuple(spellings)
