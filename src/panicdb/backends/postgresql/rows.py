"""Rows as the server's text: COPY out, which is the shortest way and converts nothing."""

import binascii
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import sqlalchemy as sa

from panicdb.backends.postgresql.catalog import ServerType
from panicdb.backends.postgresql.sessions import Session

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_MEANING = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_NULL = rb"\N"
_BYTES = "bytea"


def spell(session: Session, dialect: sa.Dialect, statement: sa.Select[Any]) -> str:
    """Compile a statement to be part of a COPY, which takes no parameters: they are merged, quoted by the driver."""
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    return psycopg.ClientCursor(session).mogrify(str(compiled), compiled.params)


def read_rows(session: Session, dialect: sa.Dialect, statement: sa.Select[Any]) -> Iterator[tuple[Any, ...]]:
    """Read rows: None, text as the server spells it, and bytes for bytea. Reads only; psycopg's errors."""
    is_bytes = tuple(_is_bytes(column) for column in statement.selected_columns)
    decoders = tuple(_unhex if each else _decode for each in is_bytes)
    sql = spell(session, dialect, statement)
    with session.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT") as copy:
        for line in copy:
            fields = bytes(memoryview(line)[:-1]).split(b"\t") if decoders else []
            yield tuple(
                None if field == _NULL else decode(field)
                for field, decode in zip(fields, decoders, strict=True)
            )


def _is_bytes(column: sa.ColumnElement[Any]) -> bool:
    kind = column.type
    return isinstance(kind, ServerType) and kind.spelled == _BYTES


def _decode(field: bytes) -> str:
    """Undo what COPY escapes (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format")."""
    if b"\\" in field:
        field = _ESCAPED.sub(lambda match: _MEANING.get(match[1], match[1]), field)
    return field.decode()


def _unhex(field: bytes) -> bytes:
    return binascii.unhexlify(memoryview(field)[3:])  # after \\x; no copy of what may be large
