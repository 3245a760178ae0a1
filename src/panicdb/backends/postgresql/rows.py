"""Rows as the server's text: COPY out, which is the shortest way and converts nothing."""

import binascii
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import generators
from psycopg.waiting import Wait

from panicdb.backends.postgresql.catalog import ServerType
from panicdb.backends.postgresql.sessions import Session

BLOCK = 1 << 16
"""Bytes that small rows are joined to, about; a larger row is handed over as it is."""

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


def copy_out(session: Session, sql: str) -> Generator[bytes | memoryview, None, None]:
    """Run a COPY ... TO STDOUT; give what comes in blocks that end with a row. Reads only; psycopg's errors."""
    session.pgconn.send_query(sql.encode())
    _require_copying(session.wait(generators.execute(session.pgconn)))
    yield from _arriving(session)
    _require_copying(session.wait(generators.fetch_many(session.pgconn)))


def _require_copying(results: Sequence["psycopg.pq.abc.PGresult"]) -> None:
    for result in results:
        if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)


def _arriving(session: Session) -> Generator[bytes | memoryview, None, None]:
    """Give rows as they come, small ones joined: until there are enough, or none that has arrived is left."""
    read = session.pgconn.get_copy_data
    parts: list[memoryview] = []
    size = length = 0
    while length >= 0:
        length, row = read(1)
        if length > 0:
            parts.append(row)
            size += length
            if size < BLOCK:
                continue
        if parts:
            yield parts[0] if len(parts) == 1 else b"".join(parts)
            parts, size = [], 0
        elif length == 0:
            session.wait(_arrival(session.pgconn))


def _arrival(pgconn: "psycopg.pq.abc.PGconn") -> Generator[Any, Any, None]:
    while not (yield Wait.R):
        continue
    pgconn.consume_input()
