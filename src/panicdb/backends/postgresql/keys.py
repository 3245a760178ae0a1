"""Keys of rows: temporary tables of them, edges that no index leads along, and ids as users type them."""

import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from panicdb.backends.postgresql.catalog import ServerType
from panicdb.backends.postgresql.names import quote
from panicdb.errors import SelectionError
from panicdb.values import CatalogTable

_INTEGERS = {"int2": 16, "int4": 32, "int8": 64}
_TEXTS = frozenset({"text", "varchar", "bpchar", "name", "citext"})
_UUID = "uuid"


def definition(name: str, columns: list[sa.Column[Any]], table: str) -> str:
    """Return the statements that make a temporary table of keys; `columns` keep their types and collations.

    `table` is the relation that they are columns of, spelled as in FROM.
    """
    listed = ", ".join(f"{quote(column.name)} AS k{number}" for number, column in enumerate(columns))
    unique = ", ".join(f"k{number}" for number in range(len(columns)))
    return (
        f"CREATE TEMPORARY TABLE {name} AS SELECT {listed}, 0 AS owned, 0 AS via FROM {table} WITH NO DATA; "
        f"CREATE UNIQUE INDEX ON pg_temp.{name} ({unique})"
    )


def key_table(name: str, columns: list[sa.Column[Any]]) -> sa.Table:
    """Describe the table that `definition` makes."""
    return sa.Table(
        name,
        sa.MetaData(),
        *(
            sa.Column(f"k{number}", column.type, info=dict(column.info))
            for number, column in enumerate(columns)
        ),
        sa.Column("owned", sa.Integer),
        sa.Column("via", sa.Integer),
        schema="pg_temp",
    )


@dataclass(frozen=True)
class Aside:
    """Some columns of a table, copied into a temporary one with an index, and the statements that do it."""

    statements: str
    table: sa.Table


def aside(
    name: str, entry: CatalogTable, names: tuple[str, ...], columns: tuple[str, ...], table: str
) -> Aside:
    """Describe a copy of the columns `names` with an index over `columns`; `table` as in FROM."""
    # System columns can't keep their names in a table of users'.
    kept = {each: f"c{number}" for number, each in enumerate(names)}
    listed = ", ".join(f"{quote(each)} AS {kept[each]}" for each in names)
    index = ", ".join(kept[each] for each in columns)
    return Aside(
        f"CREATE TEMPORARY TABLE {name} AS SELECT {listed} FROM {table}; "
        f"CREATE INDEX ON pg_temp.{name} ({index}); ANALYZE pg_temp.{name}",
        sa.Table(
            name,
            sa.MetaData(),
            *(
                sa.Column(kept[each], entry.table.c[each].type, key=each, info=dict(entry.table.c[each].info))
                for each in names
            ),
            schema="pg_temp",
        ),
    )


def parse(column: sa.Column[Any], text: str) -> tuple[Any, ...]:
    """Return the values that an id as typed may stand for in `column`, the likeliest first. Raises SelectionError."""
    base = str(column.info["base"])
    if base in _INTEGERS:
        return (_integer(column, text, _INTEGERS[base]),)
    if base == _UUID:
        return _uuid(text)
    if base in _TEXTS or column.info["category"] == "S":
        return (text, *_uuid_spellings(text))
    if base == "bytea":
        return _bytes(text)
    return (sa.cast(sa.literal(text, sa.Text), ServerType(str(column.info["type"]))),)


def is_text(column: sa.Column[Any]) -> bool:
    """Tell whether a prefix of an id makes sense."""
    return bool(column.info["category"] == "S" or column.info["base"] == _UUID)


def _integer(column: sa.Column[Any], text: str, bits: int) -> int:
    try:
        number = int(text) if text.isascii() and "_" not in text else None
    except ValueError:
        number = None
    if number is None or not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise unfit(column, text, f"integers of {bits} bits")
    return number


def unfit(column: sa.Column[Any], text: str, values: str | None = None) -> SelectionError:
    """Say that an id is no value of the key's type."""
    kind = values or f"values of type {column.info['type']}"
    return SelectionError(
        f"{text!r} can't be a key of {column.table.name}: {column.name} holds {kind}",
        hint="`panicdb list SOURCE` shows the keys there are",
    )


def _bytes(text: str) -> tuple[Any, ...]:
    try:
        return (bytes.fromhex(text.removeprefix("\\x")),)
    except ValueError:
        return ()


def _uuid(text: str) -> tuple[Any, ...]:
    try:
        return (sa.cast(sa.literal(str(uuid.UUID(text.strip())), sa.Text), ServerType(_UUID)),)
    except ValueError:
        return ()  # it may still be the beginning of one


def _uuid_spellings(text: str) -> tuple[str, ...]:
    try:
        value = uuid.UUID(text.strip())
    except ValueError:
        return ()
    return value.hex, str(value), value.hex.upper(), str(value).upper()
