"""Rows as lines of text, for a server, and from one: PostgreSQL's text format of COPY, which escapes what divides.

First every value is looked at, in one pass: SQL alone tells what is plain (numbers, text without signs of control,
blobs), and Python judges the rest. A column that holds nothing but plain values then needs no look at each of them when
its rows are read (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format").
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import CopyStep, rows_of, value_of
from panicdb.backends.conversions import NULLS, Conversion, Raw, Survey, UnfitError

BLOCK = 1 << 16
"""Bytes that small rows are joined to, about; a larger row is a block of its own."""
MOST_ROWS = 1_000
COLUMNS_AT_ONCE = 50
"""SQLite bounds the depth of an expression and the number of columns of a result."""
NULL = "\\N"

_DIVIDING = re.compile(r"[\\\n\r\t]")
_ESCAPED = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_MEANING = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_HEX_32 = re.compile(r"[0-9a-f]{32}")

Expression = sa.ColumnElement[Any]
Define = Callable[[int, Callable[..., Any]], str]
Decode = Callable[[bytes], str]

_CODECS = {
    "UTF-8": ("utf-8", "surrogateescape"),
    "UTF-16le": ("utf-16-le", "surrogatepass"),
    "UTF-16be": ("utf-16-be", "surrogatepass"),
}
_NO_TEXT = "\ud800"
"""A lone surrogate, which no encoding takes."""


# --- leaving --------------------------------------------------------------------------------------


def survey(
    connection: sa.Connection,
    raw: sqlite3.Connection,
    step: CopyStep,
    conversions: Mapping[str, Conversion],
    required: frozenset[str],
) -> Survey:
    """Look at every value of a step in one pass, before any of it travels. Reads only.

    `required` are the columns that the target wants no NULL in.
    """
    try:
        return _survey(connection, raw, step, conversions, required, trusting=True)
    except sqlite3.OperationalError:  # text that is no UTF-8 stops what takes text, so all is taken as bytes
        return _survey(connection, raw, step, conversions, required, trusting=False)


def _survey(
    connection: sa.Connection,
    raw: sqlite3.Connection,
    step: CopyStep,
    conversions: Mapping[str, Conversion],
    required: frozenset[str],
    *,
    trusting: bool,
) -> Survey:
    unfit: Counter[tuple[str, str]] = Counter()
    losses: Counter[tuple[str, str]] = Counter()
    odd: set[str] = set()
    decode = _decoder(raw)
    with _functions(raw) as define:
        tests = _Tests(define, decode, trusting=trusting)
        looks: list[tuple[str, bool, Expression]] = []
        for name, conversion in conversions.items():
            value = value_of(step, name)
            if conversion.plain != "any":
                judge = define(2, _judge(name, conversion, decode, unfit, losses))
                looks.append(
                    (name, True, sa.case((tests.is_odd(value, conversion.plain), _judged(judge, value))))
                )
            if name in required:
                looks.append((name, False, sa.case((value.is_(None), 1))))
        for start in range(0, len(looks), COLUMNS_AT_ONCE):
            part = looks[start : start + COLUMNS_AT_ONCE]
            counts: list[Expression] = [sa.func.count(look) for *_, look in part]
            statement = sa.select(*counts).select_from(rows_of(step))
            for (name, judged, _), count in zip(part, _only_row(connection, raw, statement), strict=True):
                if count and judged:
                    odd.add(name)
                elif count:
                    unfit[name, NULLS] += count
    return Survey(dict(unfit), dict(losses), frozenset(conversions) - odd)


def _only_row(
    connection: sa.Connection, raw: sqlite3.Connection, statement: sa.Select[Any]
) -> tuple[int, ...]:
    return tuple(next(_rows(connection, raw, statement)))


def _rows(
    connection: sa.Connection, raw: sqlite3.Connection, statement: sa.Select[Any]
) -> Iterator[tuple[Any, ...]]:
    """Straight from the driver, which makes no more of a row than a tuple."""
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    return raw.execute(str(compiled), [compiled.params[name] for name in compiled.positiontup or ()])


def _judge(
    name: str,
    conversion: Conversion,
    decode: Decode,
    unfit: Counter[tuple[str, str]],
    losses: Counter[tuple[str, str]],
) -> Callable[[int, Raw], int]:
    def judge(is_text: int, stored: Raw) -> int:
        value = decode(stored) if is_text and isinstance(stored, bytes) else stored
        try:
            conversion.convert(value)
        except UnfitError as error:
            unfit[name, str(error)] += 1
            return 1
        loss = conversion.loss(value)
        if loss is not None:
            losses[name, loss] += 1
        return 1

    return judge


class _Tests:
    """What SQL says of values that are not plain; a few small functions of ours are quicker than SQLite's own."""

    def __init__(self, define: Define, decode: Decode, *, trusting: bool) -> None:
        self._is_printable = define(
            1, str.isprintable if trusting else lambda text: decode(text).isprintable()
        )
        self._is_hex = define(1, _is_hex if trusting else lambda text: _is_hex(decode(text)))
        self._trusting = trusting

    def is_odd(self, value: Expression, plain: str) -> Expression:
        """Say that a value, which may be NULL, is not of the plain ones."""
        kind, _, bound = plain.partition(" ")
        found: dict[str, Callable[[], Expression]] = {
            "integer": lambda: _odd_unless(value, "integer", *self._bounds(value, int(bound))),
            "boolean": lambda: _odd_unless(value, "integer", _between(value, 0, 1)),
            "number": lambda: sa.case(
                (sa.and_(_is(value, "real"), value.between(_FINITE[0], _FINITE[1])), None),
                (sa.and_(_is(value, "integer"), _between(value, -EXACT, EXACT)), None),
                else_=value.is_not(None),
            ),
            "blob": lambda: _odd_unless(value, "blob"),
            "printable": lambda: _odd_unless(value, "text", *self._is_printable_text(value, bound)),
            "hex": lambda: _odd_unless(value, "text", _call(self._is_hex, self._taken(value))),
        }
        return found[kind]() if kind in found else value.is_not(None)

    def _bounds(self, value: Expression, bits: int) -> Iterator[Expression]:
        if bits < 64:  # noqa: PLR2004 - SQLite's own integers
            end = 1 << (bits - 1)
            yield _between(value, -end, end - 1)

    def _is_printable_text(self, value: Expression, bound: str) -> Iterator[Expression]:
        if bound:
            yield sa.func.length(value) <= _number(int(bound))
        yield _call(self._is_printable, self._taken(value))

    def _taken(self, value: Expression) -> Expression:
        return value if self._trusting else sa.cast(value, sa.BLOB)


EXACT = 2**53
_FINITE: tuple[Expression, ...] = tuple(
    sa.literal_column(text) for text in ("-1.7976931348623157e308", "1.7976931348623157e308")
)


def _is_hex(text: str) -> bool:
    return _HEX_32.fullmatch(text) is not None


def _odd_unless(value: Expression, kind: str, *conditions: Expression) -> Expression:
    return sa.case((sa.and_(_is(value, kind), *conditions), None), else_=value.is_not(None))


def _between(value: Expression, low: int, high: int) -> Expression:
    return value.between(_number(low), _number(high))


def _number(value: int) -> Expression:
    return sa.literal_column(str(value))


def _is(value: Expression, kind: str) -> Expression:
    return sa.func.typeof(value) == sa.literal_column(f"'{kind}'")


def _call(function: str, *arguments: Expression) -> Expression:
    return getattr(sa.func, function)(*arguments)  # type: ignore[no-any-return]


def _judged(judge: str, value: Expression) -> Expression:
    """Text goes there as bytes: it need not be valid."""
    is_text = _is(value, "text")
    return _call(judge, is_text, sa.case((is_text, sa.cast(value, sa.BLOB)), else_=value))


def _decoder(raw: sqlite3.Connection) -> Decode:
    """As bytes, text is in the encoding of its database; what is none of that is kept apart, and never printable."""
    (encoding,) = raw.execute("PRAGMA main.encoding").fetchone()
    codec, errors = _CODECS[encoding]

    def decode(stored: bytes) -> str:
        try:
            return str(stored, codec, errors)
        except UnicodeDecodeError:  # half a character at the end of UTF-16
            return _NO_TEXT

    return decode


@contextmanager
def _functions(raw: sqlite3.Connection) -> Iterator[Define]:
    """Give what makes a function of ours known to a connection, as long as this lasts."""
    made: list[tuple[str, int]] = []

    def define(arguments: int, function: Callable[..., Any]) -> str:
        name = f"panicdb_{len(made)}"
        raw.create_function(name, arguments, function, deterministic=True)
        made.append((name, arguments))
        return name

    try:
        yield define
    finally:
        for name, arguments in made:
            raw.create_function(name, arguments, None)


def read_lines(
    connection: sa.Connection,
    raw: sqlite3.Connection,
    step: CopyStep,
    columns: Sequence[str],
    conversions: Mapping[str, Conversion],
    plain: frozenset[str],
) -> Iterator[bytes]:
    """Give the rows of a step, which were surveyed, as lines, joined to blocks; `plain` are the columns without others.

    Reads only.
    """
    with _functions(raw) as define:
        fields: list[Expression] = []
        for name in columns:
            value = value_of(step, name)
            easy = _EASY.get(conversions[name].plain.partition(" ")[0]) if name in plain else None
            if easy is None:
                spell = define(1, conversions[name].convert)
                fields.append(sa.case((value.is_(None), _NULL), else_=_call(spell, value)))
            elif name in step.nulls or not step.entry.table.c[name].info["never_null"]:
                fields.append(sa.func.coalesce(easy(value), _NULL))
            else:
                fields.append(easy(value))
        labelled = [field.label(f"c{number}") for number, field in enumerate(fields)]
        statement = sa.select(*labelled).select_from(rows_of(step))
        with _strict_text(raw):
            yield from _blocks(_rows(connection, raw, statement), len(columns))


@contextmanager
def _strict_text(raw: sqlite3.Connection) -> Iterator[None]:
    """Let the driver decode text by itself, which is quicker: what is no UTF-8 has been refused by now."""
    usual = raw.text_factory
    raw.text_factory = str
    try:
        yield
    finally:
        raw.text_factory = usual


# What no value holds stands for what is spelled with a backslash, until it is known whether values hold those.
_NULL: Expression = sa.literal_column("char(0)")
_BEGIN_OF_BYTES: Expression = sa.literal_column("char(0) || 'x'")
_MARKS = (("\0x", "\\\\x"), ("\0", NULL))


def _same(value: Expression) -> Expression:
    return value


_EASY: Mapping[str, Callable[[Expression], Expression]] = {
    "integer": _same,
    "boolean": _same,
    "number": _same,  # Python's text of a float is the shortest that is that float; SQLite's may be another float's
    "hex": _same,
    "printable": _same,
    "blob": lambda value: sa.case((value.is_not(None), _BEGIN_OF_BYTES.op("||")(sa.func.hex(value)))),
}
"""How what is plain becomes text, but for what COPY escapes."""


def _blocks(rows: Iterator[tuple[Any, ...]], width: int) -> Iterator[bytes]:
    """Most rows hold nothing that is to be escaped: whether one does is seen in the block that they make."""
    spell = "\t".join(["%s"] * width).__mod__
    at_once = 16
    while chunk := list(islice(rows, at_once)):
        block = "\n".join([*map(spell, chunk), ""])
        tabs, ends = block.count("\t"), block.count("\n")
        if "\\" in block or "\r" in block or tabs != (width - 1) * len(chunk) or ends != len(chunk):
            block = "\n".join([*(spell(tuple(map(_escaped, row))) for row in chunk), ""])
        if "\0" in block:
            for mark, meaning in _MARKS:
                block = block.replace(mark, meaning)
        yield block.encode()
        at_once = max(1, min(MOST_ROWS, BLOCK * len(chunk) // len(block)))


def _escaped(value: Any) -> Any:
    return _DIVIDING.sub(lambda match: _ESCAPED[match[0]], value) if isinstance(value, str) else value


# --- arriving -------------------------------------------------------------------------------------


def parse_lines(block: bytes | memoryview, readers: Sequence[Callable[[str], Any]]) -> list[Any]:
    """Turn a block of a server's lines into the values of its rows, one row's behind the other's.

    Raises UnfitError, which no survey leaves.
    """
    text, width = str(block, "utf-8"), len(readers)
    fields: list[Any] = text[:-1].replace("\n", "\t").split("\t")
    has_escapes = "\\" in text
    for place, read in enumerate(readers):
        if has_escapes:
            fields[place::width] = [_read_escaped(read, field) for field in fields[place::width]]
        elif read is not str:
            fields[place::width] = map(read, fields[place::width])
    return fields


def _read_escaped(read: Callable[[str], Any], field: str) -> Any:
    if "\\" in field:
        if field == NULL:
            return None
        field = _ESCAPE.sub(lambda match: _MEANING.get(match[1], match[1]), field)
    return read(field)
