"""Values that travel between SQLite and PostgreSQL, and what is to become of each; types by how they are spelled.

Nothing here needs a server; `echo` says what one would tell of what it was sent, and a test on servers says the same.
"""

import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from panicdb.backends.postgresql.types import column_type as of_postgresql
from panicdb.backends.sqlite.catalog import affinity
from panicdb.backends.sqlite.types import column_type as of_sqlite
from panicdb.conversion import arrays, json_texts, losses, refusals
from panicdb.values import ColumnType, TypeClass

LABELS = ("sad", "ok", "happy", "1e3")
MOOD = "mood"
CREATE_MOOD = "CREATE TYPE mood AS ENUM ('" + "', '".join(LABELS) + "')"
_BASES = {
    "smallint": ("int2", "N"),
    "integer": ("int4", "N"),
    "bigint": ("int8", "N"),
    "boolean": ("bool", "B"),
    "real": ("float4", "N"),
    "double precision": ("float8", "N"),
    "numeric": ("numeric", "N"),
    "text": ("text", "S"),
    "character varying": ("varchar", "S"),
    "character": ("bpchar", "S"),
    "bytea": ("bytea", "U"),
    "json": ("json", "U"),
    "jsonb": ("jsonb", "U"),
    "uuid": ("uuid", "U"),
    "date": ("date", "D"),
    "time without time zone": ("time", "D"),
    "time with time zone": ("timetz", "D"),
    "timestamp without time zone": ("timestamp", "D"),
    "timestamp with time zone": ("timestamptz", "D"),
    "interval": ("interval", "T"),
}


def server_type(spelled: str) -> ColumnType:
    """Return the type that a server spells so."""
    if spelled == MOOD:
        return of_postgresql(spelled, MOOD, "E", LABELS)
    if spelled.endswith("[]"):
        return of_postgresql(spelled, "_x", "A", element=server_type(spelled[:-2]))
    before, bracket, behind = spelled.partition("(")
    base, category = _BASES.get(before + behind.partition(")")[2] if bracket else spelled, (spelled, "U"))
    return of_postgresql(spelled, base, category)


def sqlite_type(spelled: str) -> ColumnType:
    """Return the type that is declared so in SQLite."""
    return of_sqlite(spelled, affinity(spelled))


@dataclass(frozen=True)
class There:
    """A value of SQLite, and what becomes of it."""

    sqlite: str
    server: str
    value: Any
    told: str | None = None
    """What the server tells of it; None: it is refused."""
    loss: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Back:
    """A server's text, and what becomes of it."""

    server: str
    sqlite: str
    text: str
    stored: Any = None
    loss: str | None = None
    refused: str | None = None


STAMP, STAMPTZ, CLOCK = "timestamp without time zone", "timestamp with time zone", "time without time zone"
HEX = "00112233445566778899aabbccddeeff"
DASHED = "00112233-4455-6677-8899-aabbccddeeff"
_NO = "in a column of"
_INEXACT = "a number in an array that no float is equal to"

THERE = (
    There("INTEGER", "integer", 0, "0"),
    There("INTEGER", "smallint", 32767, "32767"),
    There("INTEGER", "smallint", -32769, refused="out of range of a 16-bit integer"),
    There("INTEGER", "integer", -(2**31), "-2147483648"),
    There("INTEGER", "integer", 2**31, refused="out of range of a 32-bit integer"),
    There("BIGINT", "bigint", 2**63 - 1, "9223372036854775807"),
    There("BIGINT", "bigint", -(2**63), "-9223372036854775808"),
    There("INTEGER", "integer", "abc", refused=f"text {_NO} integers"),
    There("INTEGER", "integer", 2.5, refused=f"a float {_NO} integers"),
    There("INTEGER", "integer", b"1", refused=f"bytes {_NO} integers"),
    There("BOOLEAN", "boolean", 1, "t"),
    There("BOOLEAN", "boolean", 0, "f"),
    There("BOOLEAN", "boolean", 2, refused=refusals.NO_BOOLEAN),
    There("BOOLEAN", "boolean", "true", refused=f"text {_NO} booleans"),
    There("FLOAT", "double precision", 0.1, "0.1"),
    There("FLOAT", "double precision", 5e-324, "5e-324"),
    There("FLOAT", "double precision", 1.7976931348623157e308, "1.7976931348623157e+308"),
    There("FLOAT", "double precision", float("inf"), "Infinity"),
    There("FLOAT", "double precision", float("-inf"), "-Infinity"),
    There("", "double precision", -0.0, "-0"),
    There("", "double precision", 3, "3", losses.INTEGER_AS_FLOAT),
    There("NUMERIC", "double precision", 2**53, "9.007199254740992e+15"),
    There("NUMERIC", "double precision", 2**53 + 1, refused=refusals.INEXACT_INTEGER),
    There("FLOAT", "double precision", "abc", refused=f"text {_NO} floats"),
    There("REAL", "real", 0.5, "0.5"),
    There("REAL", "real", 0.1, "0.1", losses.SINGLE),
    There("REAL", "real", 1e39, refused=refusals.OUT_OF_SINGLE),
    There("REAL", "real", 1e-60, refused=refusals.OUT_OF_SINGLE),
    There("NUMERIC(10, 2)", "numeric(10,2)", 5, "5.00"),
    There("NUMERIC(10, 2)", "numeric(10,2)", 1.25, "1.25"),
    There("NUMERIC(10, 2)", "numeric(10,2)", 1.1, "1.10", losses.FLOAT_AS_DECIMAL),
    There("NUMERIC(10, 2)", "numeric(10,2)", 1.125, refused="more than 2 digits behind the point"),
    There("NUMERIC(10, 2)", "numeric(10,2)", 10**8, refused="more than 8 digits before the point"),
    There("NUMERIC(10, 2)", "numeric(10,2)", float("inf"), refused=refusals.INFINITE),
    There("NUMERIC(3, -2)", "numeric(3,-2)", 1200, "1200"),
    There("NUMERIC", "numeric(3,-2)", 1250, refused="not a multiple of 100"),
    There("NUMERIC", "numeric", float("inf"), "Infinity"),
    There("NUMERIC", "numeric", 1e22, "10000000000000000000000"),
    There("NUMERIC", "numeric", 2**63 - 1, "9223372036854775807"),
    There("FLOAT", "numeric", 2.0, "2"),
    There("VARCHAR(20)", "character varying(20)", "grüße", "grüße"),
    There("VARCHAR(3)", "character varying(3)", "abcd", refused="longer than 3 characters"),
    There("VARCHAR(3)", "character varying(3)", "abc ", refused="longer than 3 characters"),
    There("VARCHAR(3)", "character varying(3)", "𝄞𝄞𝄞", "𝄞𝄞𝄞"),
    There("TEXT", "text", "", ""),
    There("TEXT", "text", "a\\b\tc\nd\re", "a\\b\tc\nd\re"),
    There("TEXT", "text", "\\N", "\\N"),
    There("TEXT", "text", "a\0b", refused=refusals.NUL),
    There("TEXT", "text", "\udcff", refused=refusals.NO_UTF8),
    There("", "text", 5, refused=f"an integer {_NO} text"),
    There("TEXT", "text", b"x", refused=f"bytes {_NO} text"),
    There("CHAR(5)", "character(5)", "abcde", "abcde"),
    There("CHAR(5)", "character(5)", "ab", "ab   ", losses.PADDING),
    There("CHAR(5)", "character(5)", "abcde ", refused="longer than 5 characters"),
    There("BLOB", "bytea", b"\0\xff\\", "\\x00ff5c"),
    There("BLOB", "bytea", b"", "\\x"),
    There("BLOB", "bytea", "text", refused=f"text {_NO} bytes"),
    There("JSON", "json", '{"b": 1, "a": [1.10, null], "a": true}', '{"b": 1, "a": [1.10, null], "a": true}'),
    There("JSON", "json", 12, "12"),
    There("JSON", "json", 1.5, "1.5"),
    There("JSON", "json", "null", "null"),
    There("JSON", "json", '"\\u0000"', '"\\u0000"'),
    There("JSON", "json", "NaN", refused=refusals.NO_JSON),
    There("JSON", "json", "[Infinity]", refused=refusals.NO_JSON),
    There("JSON", "json", "", refused=refusals.NO_JSON),
    There("JSON", "json", "{'a': 1}", refused=refusals.NO_JSON),
    There("JSON", "json", '"a\tb"', refused=refusals.NO_JSON),
    There("JSON", "json", float("inf"), refused=refusals.INFINITE),
    There("JSON", "json", b"{}", refused=f"bytes {_NO} JSON"),
    There("JSON", "jsonb", '{"a": 1, "bb": [true, "ü"]}', '{"a": 1, "bb": [true, "ü"]}'),
    There("JSON", "jsonb", '{"bb": 1, "a": 2}', '{"a": 2, "bb": 1}', losses.JSON),
    There("JSON", "jsonb", '{"a":1}', '{"a": 1}', losses.JSON),
    There("JSON", "jsonb", '"\\u00fc"', '"ü"', losses.JSON),
    There("JSON", "jsonb", "[1e2, 1.10, -0.0]", "[100, 1.10, 0.0]", losses.JSON),
    There("JSON", "jsonb", '{"a": 1, "a": 2}', '{"a": 2}', losses.JSON_DUPLICATES),
    There("JSON", "jsonb", 1e20, "100000000000000000000"),
    There("JSON", "jsonb", '["\\u0000"]', refused=refusals.JSON_NUL),
    There("JSON", "jsonb", '{"\\ud800": 1}', refused=refusals.JSON_SURROGATE),
    There("JSON", "jsonb", "[1e200000]", refused=refusals.JSON_NUMBER),
    There("JSON", "jsonb", "[" * 201 + "]" * 201, refused=refusals.DEEP_JSON),
    There("CHAR(32)", "uuid", HEX, DASHED),
    There("CHAR(32)", "uuid", HEX.upper(), DASHED, losses.SPELLING),
    There("VARCHAR(36)", "uuid", DASHED, DASHED),
    There("VARCHAR(36)", "uuid", HEX, DASHED, losses.SPELLING),
    There("VARCHAR(38)", "uuid", "{" + DASHED + "}", DASHED, losses.SPELLING),
    There("BLOB", "uuid", bytes.fromhex(HEX), DASHED),
    There("BLOB", "uuid", b"short", refused=refusals.NO_UUID),
    There("CHAR(32)", "uuid", HEX[:-1], refused=refusals.NO_UUID),
    There("UUID", "uuid", 112233, refused=f"an integer {_NO} UUIDs"),
    There("DATE", "date", "2020-02-29", "2020-02-29"),
    There("DATE", "date", "2021-02-29", refused=refusals.NO_DATE),
    There("DATE", "date", "0000-01-01", refused=refusals.NO_DATE),
    There("DATE", "date", 18000, refused=f"an integer {_NO} dates"),
    There("TIME", CLOCK, "03:04:05.000006", "03:04:05.000006"),
    There("TIME", CLOCK, "03:04:05", "03:04:05", losses.SPELLING),
    There("TIME", CLOCK, "24:00:00.000000", refused=refusals.NO_TIME),
    There("TIME", CLOCK, "03:04:05.0000001", refused=refusals.FINER),
    There("DATETIME", STAMP, "2020-01-02 03:04:05.000006", "2020-01-02 03:04:05.000006"),
    There("DATETIME", STAMP, "2020-01-02 03:04:05.000000", "2020-01-02 03:04:05"),
    There("DATETIME", STAMP, "0001-01-01 00:00:00.000000", "0001-01-01 00:00:00"),
    There("DATETIME", STAMP, "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"),
    There("DATETIME", STAMP, "2020-01-02 03:04:05", "2020-01-02 03:04:05", losses.SPELLING),
    There("DATETIME", STAMP, "2020-01-02T03:04:05.5", "2020-01-02 03:04:05.5", losses.SPELLING),
    There("DATETIME", STAMP, "2020-01-02", "2020-01-02 00:00:00", losses.SPELLING),
    There("DATETIME", STAMP, "2020-01-02 03:04:05+02:00", refused=refusals.ZONED),
    There("DATETIME", STAMP, "2020-01-02 03:04:05.0000001", refused=refusals.FINER),
    There("DATETIME", STAMP, "2020-01-02 24:00:00", refused=refusals.NO_TIMESTAMP),
    There("DATETIME", STAMP, "now", refused=refusals.NO_TIMESTAMP),
    There("DATETIME", STAMP, 1577934245, refused=f"an integer {_NO} times"),
    There("DATETIME", STAMP, 2458850.5, refused=f"a float {_NO} times"),
    There(
        "DATETIME",
        "timestamp(3) without time zone",
        "2020-01-02 03:04:05.678000",
        "2020-01-02 03:04:05.678",
    ),
    There(
        "DATETIME",
        "timestamp(3) without time zone",
        "2020-01-02 03:04:05.678900",
        refused="finer than 3 digits of a second",
    ),
    There("DATETIME", STAMPTZ, "2020-01-02 03:04:05.000006", "2020-01-02 03:04:05.000006+00", losses.NAIVE_AS_UTC),
    There("DATETIME", STAMPTZ, "2020-01-02 03:04:05+02:00", "2020-01-02 01:04:05+00", losses.ZONE),
    There("DATETIME", STAMPTZ, "2020-01-02 03:04:05Z", "2020-01-02 03:04:05+00", losses.ZONE),
    There("DATETIME", STAMPTZ, "0001-01-01 00:00:00+02:00", refused=refusals.YEARS),
    There("DATETIME", "interval", "1970-01-03 01:02:03.000004", "2 days 01:02:03.000004"),
    There("DATETIME", "interval", "1969-12-31 23:00:00.000000", "-1 days +23:00:00"),
    There("DATETIME", "interval", "1970-01-01 00:00:00", "00:00:00", losses.SPELLING),
    There("DATETIME", "interval", 3600, refused=f"an integer {_NO} times"),
    There("VARCHAR(5)", MOOD, "happy", "happy"),
    There("VARCHAR(5)", MOOD, "HAPPY", refused=refusals.NO_LABEL),
    There("JSON", "integer[]", "[1, null, -3]", "{1,NULL,-3}"),
    There("JSON", "integer[]", "[]", "{}"),
    There("JSON", "integer[]", "[[1, 2], [3, 4]]", "{{1,2},{3,4}}"),
    There("JSON", "integer[]", "[1,2]", "{1,2}", losses.JSON),
    There("JSON", "integer[]", "[[1], [2, 3]]", refused=refusals.NO_ARRAY),
    There("JSON", "integer[]", "[[]]", refused=refusals.NO_ARRAY),
    There("JSON", "integer[]", "[1.0]", refused="no integer in an array of integers"),
    There("JSON", "integer[]", "[2147483648]", refused="out of range of a 32-bit integer"),
    There("JSON", "integer[]", '{"a": 1}', refused=refusals.NO_ARRAY),
    There("JSON", "text[]", '["a", "NULL", null, "", "x,{\\"\\\\}"]', '{a,"NULL",NULL,"","x,{\\"\\\\}"}'),
    There("TEXT", "character varying(2)[]", '["abc"]', refused="longer than 2 characters"),
    There("JSON", "double precision[]", "[1.5, -0.0, 1e+20]", "{1.5,-0,1e+20}"),
    There("JSON", "double precision[]", "[1]", "{1}", losses.JSON),
    There("JSON", "double precision[]", "[0.1234567890123456789]", refused=_INEXACT),
    There("JSON", "numeric(4,2)[]", "[1.50]", "{1.50}"),
    There("JSON", "numeric(4,2)[]", "[1.5]", "{1.50}", losses.JSON),
    There("JSON", "numeric(4,2)[]", "[100]", refused="a number in an array with too many digits before the point"),
    There("JSON", "boolean[]", "[true, false]", "{t,f}"),
    There("JSON", "boolean[]", "[1]", refused="no boolean in an array of booleans"),
    There("JSON", "mood[]", '["ok"]', "{ok}"),
)  # fmt: skip

BACK = (
    Back("integer", "INTEGER", "-5", -5),
    Back("bigint", "BIGINT", "9223372036854775807", 2**63 - 1),
    Back("bigint", "FLOAT", "9007199254740993", 9007199254740992.0, losses.INTEGER_AS_FLOAT),
    Back("integer", "BOOLEAN", "1", 1),
    Back("integer", "BOOLEAN", "2", refused=refusals.NO_BOOLEAN),
    Back("boolean", "BOOLEAN", "t", 1),
    Back("boolean", "BOOLEAN", "f", 0),
    Back("double precision", "FLOAT", "0.1", 0.1),
    Back("double precision", "FLOAT", "Infinity", float("inf")),
    Back("double precision", "FLOAT", "-Infinity", float("-inf")),
    Back("double precision", "FLOAT", "NaN", None, losses.NAN),
    Back("double precision", "FLOAT", "-0", 0.0, losses.NEGATIVE_ZERO),
    Back("double precision", "", "-0", -0.0),
    Back("double precision", "NUMERIC", "3", 3),
    Back("real", "REAL", "0.1", 0.10000000149011612),
    Back("real", "REAL", "NaN", None, losses.NAN),
    Back("numeric(10,2)", "NUMERIC(10, 2)", "1.50", 1.5),
    Back("numeric(10,2)", "NUMERIC(10, 2)", "5.00", 5),
    Back("numeric(10,2)", "NUMERIC(10, 2)", "1.10", 1.1, losses.DECIMAL_AS_FLOAT),
    Back("numeric", "NUMERIC", "1.50", 1.5, losses.ZEROS),
    Back("numeric", "NUMERIC", "9223372036854775807", 2**63 - 1),
    Back("numeric", "NUMERIC", "9223372036854775809", float(2**63), losses.DECIMAL_AS_FLOAT),
    Back("numeric", "NUMERIC", "NaN", None, losses.NAN),
    Back("numeric", "NUMERIC", "Infinity", float("inf")),
    Back("numeric", "NUMERIC", "1" + "0" * 400, refused=refusals.OUT_OF_FLOAT),
    Back("numeric", "NUMERIC", "0." + "0" * 400 + "1", refused=refusals.OUT_OF_FLOAT),
    Back("numeric", "NUMERIC", "1" * 5000, refused=refusals.OUT_OF_FLOAT),
    Back("text", "TEXT", "1e3", "1e3"),
    Back("text", "TEXT", "a\tb\\", "a\tb\\"),
    Back("text", "STRING", "1e3", refused=refusals.NUMBER_LIKE),
    Back("text", "STRING", "0x10", "0x10"),
    Back("character varying(20)", "VARCHAR(20)", " 12 ", " 12 "),
    Back("character(5)", "CHAR(5)", "ab   ", "ab   "),
    Back("bytea", "BLOB", "\\x00ff5c", b"\0\xff\\"),
    Back("bytea", "BLOB", "\\x", b""),
    Back("json", "JSON", '{"b":1,  "a":1.10}', '{"b":1,  "a":1.10}'),
    Back("json", "JSON", "12", 12),
    Back("json", "JSON", " 12 ", 12, losses.JSON),
    Back("json", "JSON", "1.50", 1.5, losses.JSON),
    Back("json", "JSON", "1.0", 1, losses.JSON),
    Back("json", "JSON", "1e999", refused=refusals.JSON_STORED),
    Back("json", "JSON", "0.12345678901234567891", refused=refusals.JSON_STORED),
    Back("json", "TEXT", "1.50", "1.50"),
    Back("jsonb", "JSON", '{"a": 1}', '{"a": 1}'),
    Back("jsonb", "JSON", "null", "null"),
    Back("jsonb", "JSON", '"12"', '"12"'),
    Back("jsonb", "JSON", "100000000000000000000", 1e20),
    Back("uuid", "CHAR(32)", DASHED, HEX),
    Back("uuid", "CHAR(36)", DASHED, DASHED),
    Back("uuid", "BLOB", DASHED, bytes.fromhex(HEX)),
    Back("uuid", "UUID", DASHED, HEX),
    Back("uuid", "UUID", "00112233-4455-6677-8899-001122334455", refused=refusals.NUMBER_LIKE),
    Back("uuid", "UUID", "00112233-4455-6677-8899-0011223344e5", refused=refusals.NUMBER_LIKE),
    Back("date", "DATE", "2020-02-29", "2020-02-29"),
    Back("date", "DATE", "infinity", refused=refusals.INFINITE),
    Back("date", "DATE", "0044-03-15 BC", refused=refusals.YEARS),
    Back("date", "DATE", "10000-01-01", refused=refusals.YEARS),
    Back(CLOCK, "TIME", "03:04:05.5", "03:04:05.500000"),
    Back(CLOCK, "TIME", "24:00:00", refused=refusals.MIDNIGHT),
    Back(STAMP, "DATETIME", "2020-01-02 03:04:05", "2020-01-02 03:04:05.000000"),
    Back(STAMP, "TIMESTAMP", "2020-01-02 03:04:05.12", "2020-01-02 03:04:05.120000"),
    Back(STAMP, "DATETIME", "-infinity", refused=refusals.INFINITE),
    Back(STAMP, "DATETIME", "0044-03-15 00:00:00 BC", refused=refusals.YEARS),
    Back(STAMP, "DATETIME", "10000-01-01 00:00:00", refused=refusals.YEARS),
    Back(STAMP, "DATETIME", "294276-12-31 23:59:59.999999", refused=refusals.YEARS),
    Back(STAMPTZ, "DATETIME", "2020-01-02 03:04:05.5+00", "2020-01-02 03:04:05.500000", losses.ZONE),
    Back(STAMPTZ, "DATETIME", "infinity", refused=refusals.INFINITE),
    Back(STAMPTZ, "DATETIME", "0044-03-15 00:00:00+00 BC", refused=refusals.YEARS),
    Back("interval", "DATETIME", "1 day 02:03:04.5", "1970-01-02 02:03:04.500000"),
    Back("interval", "DATETIME", "-1 days +23:00:00", "1969-12-31 23:00:00.000000"),
    Back("interval", "DATETIME", "24:00:00", "1970-01-02 00:00:00.000000", losses.INTERVAL),
    Back("interval", "DATETIME", "-00:00:01", "1969-12-31 23:59:59.000000", losses.INTERVAL),
    Back("interval", "DATETIME", "1 mon", refused=refusals.MONTHS),
    Back("interval", "DATETIME", "-1 years -2 mons +3 days", refused=refusals.MONTHS),
    Back("interval", "DATETIME", "infinity", refused=refusals.INFINITE),
    Back("interval", "DATETIME", "9999999 days", refused=refusals.LONG_INTERVAL),
    Back(MOOD, "VARCHAR(5)", "1e3", "1e3"),
    Back("integer[]", "JSON", "{1,NULL,-3}", "[1, null, -3]"),
    Back("integer[]", "JSON", "[2:3]={1,2}", "[1, 2]", losses.BOUNDS),
    Back("integer[]", "JSON", "{{1,2},{3,4}}", "[[1, 2], [3, 4]]"),
    Back("text[]", "JSON", '{a,"NULL",NULL,"","x,{\\"\\\\}"}', '["a", "NULL", null, "", "x,{\\"\\\\}"]'),
    Back("double precision[]", "JSON", "{1,-0,1e+20}", "[1.0, -0.0, 1e+20]"),
    Back("real[]", "JSON", "{0.1}", "[0.10000000149011612]"),
    Back("double precision[]", "JSON", "{NaN}", refused="an array with NaN or infinity, which JSON can't hold"),
    Back("boolean[]", "JSON", "{t,f}", "[true, false]"),
)  # fmt: skip

NO_WAY_THERE = (
    ("INTEGER", "text"),
    ("TIME", "time with time zone"),
    ("TEXT", "inet"),
    ("TEXT", "character(3)[]"),
    ("JSON", "jsonb[]"),
    ("DATETIME", "bigint"),
    ("VARCHAR", "interval year"),
    ("TEXT", "name"),
)
NO_WAY_BACK = (
    ("integer", "TEXT"),
    ("time with time zone", "TIME"),
    ("inet", "TEXT"),
    ("double precision", "INTEGER"),
    ("numeric", "TEXT"),
    ("uuid", "CHAR(16)"),
    ("timestamp without time zone", "DATETIME_CHAR"),
)

# --- what a server tells ----------------------------------------------------------------------------


def echo(server: ColumnType, text: str) -> str:
    """Say what a server tells of what it was sent."""
    speak = _ECHOES.get(server.kind)
    return speak(server, text) if speak else text


def _numeric(server: ColumnType, text: str) -> str:
    if "Infinity" in text:
        return text
    plain = json_texts.plain_digits(Decimal(text))
    if (server.scale or 0) <= 0:
        return plain
    whole, _, fraction = plain.partition(".")
    return f"{whole}.{fraction.ljust(server.scale or 0, '0')}"


def _float(server: ColumnType, text: str) -> str:
    """A server spells the shortest digits, and from so many on with an exponent.

    Of floats that have several shortest spellings it may take another one.
    """
    number = float(text)
    if number in (float("inf"), float("-inf")):
        return "Infinity" if number > 0 else "-Infinity"
    is_single = server.size == 32
    spelled = Decimal(_single(number) if is_single else repr(number))
    sign, digits, _ = spelled.as_tuple()
    if not spelled:
        return "-0" if sign else "0"
    if -4 <= spelled.adjusted() < (6 if is_single else 15):
        plain = f"{spelled:f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    first, *others = "".join(map(str, digits)).rstrip("0")
    fraction = "." + "".join(others) if others else ""
    return f"{'-' if sign else ''}{first}{fraction}e{spelled.adjusted():+03}"


def _single(number: float) -> str:
    spelled = (f"{number:.{digits}g}" for digits in range(1, 10))
    return next(each for each in spelled if _as_single(float(each)) == number)


def _as_single(number: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return float("inf")


def _short(text: str) -> str:
    zone = "+00" if text.endswith("+00") else ""
    text = text.removesuffix("+00")
    return (text.rstrip("0").rstrip(".") if "." in text else text) + zone


def _interval(_server: ColumnType, text: str) -> str:
    days, _, seconds, _ = text.split()
    whole, fraction = seconds.split(".")
    hours, rest = divmod(int(whole), 3600)
    clock = _short(f"{hours:02}:{rest // 60:02}:{rest % 60:02}.{fraction}")
    if days == "0":
        return clock
    unit = "day" if days == "1" else "days"
    if clock == "00:00:00":
        return f"{days} {unit}"
    return f"{days} {unit} {'+' if days.startswith('-') else ''}{clock}"


def _array(server: ColumnType, text: str) -> str:
    assert server.element is not None
    return _spelled(server.element, arrays.parse(text))


def _spelled(element: ColumnType, item: Any) -> str:
    if isinstance(item, list):
        return "{" + ",".join(_spelled(element, each) for each in item) + "}"
    if item is None:
        return "NULL"
    told = echo(element, item)
    odd = not told or told.upper() == "NULL" or any(each in '{},"\\ \t\n\r\v\f' for each in told)
    return arrays.quote(told) if odd else told


_ECHOES = {
    TypeClass.BOOLEAN: lambda _server, text: {"1": "t", "0": "f"}.get(text, text),
    TypeClass.FLOAT: _float,
    TypeClass.NUMERIC: _numeric,
    TypeClass.TEXT: lambda server, text: text if server.exact else text.ljust(server.size or 0),
    TypeClass.JSON: lambda server, text: (
        text if server.exact else json_texts.as_jsonb(json_texts.parse(text))
    ),
    TypeClass.UUID: lambda _server, text: _dashed(text.strip("{}").replace("-", "")),
    TypeClass.TIME: lambda _server, text: _short(text),
    TypeClass.DATETIME: lambda _server, text: _short(text),
    TypeClass.INTERVAL: _interval,
    TypeClass.ARRAY: _array,
}


def _dashed(text: str) -> str:
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
