"""What travels between engines arrives as it is, under a loss class that was named before, or not at all."""

import json
import re
import string
from datetime import date, datetime, time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversion_values import (
    BACK,
    CLOCK,
    LABELS,
    MOOD,
    NO_WAY_BACK,
    NO_WAY_THERE,
    STAMP,
    STAMPTZ,
    THERE,
    echo,
    server_type,
    sqlite_type,
)
from panicdb import conversion
from panicdb.backends.conversions import UnfitError
from panicdb.backends.postgresql.types import column_type as of_postgresql
from panicdb.backends.sqlite.types import column_type as of_sqlite
from panicdb.conversion import arrays, common, json_texts, leaving_postgresql, leaving_sqlite, losses
from panicdb.conversion.canonical import canonical
from panicdb.errors import SourceError
from panicdb.values import TypeClass

pytestmark = pytest.mark.quick

EXAMPLES = 25  # of each of some 300 pairs of types
CLASSES = {value for name, value in vars(losses).items() if isinstance(value, str) and name.isupper()}


def name_of(case):
    value = repr(case.value if hasattr(case, "value") else case.text)
    return f"{case.sqlite or 'untyped'}-{case.server}-{value[:24]}"


def conversions(sqlite, server):
    here, there = sqlite_type(sqlite), server_type(server)
    return (
        there,
        leaving_sqlite.decide(here, there),
        leaving_postgresql.decide(there, here),
        canonical(there, here),
    )


def same(one, other):
    return (type(one), repr(one)) == (type(other), repr(other))


def refusal(convert, value):
    with pytest.raises(UnfitError) as caught:
        convert(value)
    return str(caught.value)


# --- plain classes: what SQL tells of a value, as Python ------------------------------------------------

PRINTABLE = re.compile(r"[ -~]*")


def is_plain(plain, value):
    kind, _, bound = plain.partition(" ")
    if kind == "any":
        return True
    if kind == "integer":
        return type(value) is int and -(2 ** (int(bound) - 1)) <= value < 2 ** (int(bound) - 1)
    if kind == "boolean":
        return type(value) is int and value in (0, 1)
    if kind == "number":
        if type(value) is int:
            return abs(value) <= 2**53
        return type(value) is float and value not in (float("inf"), float("-inf"))
    if kind == "printable":
        is_printable = type(value) is str and value.isprintable()
        return is_printable and (not bound or len(value) <= int(bound))
    if kind == "blob":
        return type(value) is bytes
    if kind == "hex":
        return type(value) is str and re.fullmatch("[0-9a-f]{32}", value) is not None
    if kind == "finite":
        return is_finite(bound, value)
    assert kind == ""
    return False


def is_finite(what, text):
    if what == "real":
        return text not in ("NaN", "Infinity", "-Infinity", "-0")
    return not text.endswith(("infinity", "BC")) and 1 <= int(text.partition("-")[0]) <= 9999


# --- the matrix ------------------------------------------------------------------------------------------


def test_the_matrix_is_as_large_as_it_has_to_be():
    assert len(THERE) >= 60
    assert len(BACK) >= 60
    assert {case.loss for case in (*THERE, *BACK)} - {None} == CLASSES
    assert set(losses.MEANING) == CLASSES


@pytest.mark.parametrize("case", THERE, ids=name_of)
def test_there(case):
    server, there, back, forms = conversions(case.sqlite, case.server)
    if case.refused is not None:
        assert refusal(there.convert, case.value) == case.refused
        assert not is_plain(there.plain, case.value)
        return
    told = echo(server, there.convert(case.value))
    assert told == case.told
    assert there.loss(case.value) == case.loss
    assert not (is_plain(there.plain, case.value) and case.loss)
    check_forms(forms, case.value, told, case.loss)
    if back is not None and case.loss is None:
        assert same(back.convert(told), case.value) or case.sqlite == ""


@pytest.mark.parametrize("case", BACK, ids=name_of)
def test_back(case):
    _, _, back, forms = conversions(case.sqlite, case.server)
    if case.refused is not None:
        assert refusal(back.convert, case.text) == case.refused
        assert not is_plain(back.plain, case.text)
        return
    stored = back.convert(case.text)
    assert same(stored, case.stored)
    assert back.loss(case.text) == case.loss
    assert not (is_plain(back.plain, case.text) and case.loss)
    check_forms(forms, stored, case.text, case.loss)


def check_forms(forms, value, told, loss):
    strict = (None if value is None else forms.of_sqlite(value)), forms.of_server(told)
    relaxed = (None if value is None else forms.relaxed_of_sqlite(value)), forms.relaxed_of_server(told)
    assert same(*strict) is (loss is None)
    assert same(*relaxed)


@pytest.mark.parametrize(("sqlite", "server"), NO_WAY_THERE)
def test_no_way_there(sqlite, server):
    assert leaving_sqlite.decide(sqlite_type(sqlite), server_type(server)) is None
    assert not conversion.convertible("sqlite")(sqlite_type(sqlite), server_type(server))


@pytest.mark.parametrize(("server", "sqlite"), NO_WAY_BACK)
def test_no_way_back(server, sqlite):
    assert leaving_postgresql.decide(server_type(server), sqlite_type(sqlite)) is None
    assert conversion.decide("postgresql", server_type(server), sqlite_type(sqlite)) is None


def test_what_can_not_be_compared_is_an_error():
    with pytest.raises(SourceError):
        conversion.canonical_between("sqlite", sqlite_type("TEXT"), server_type("inet"))
    there, back = sqlite_type("TEXT"), server_type("text")
    assert conversion.canonical_between("sqlite", there, back) == conversion.canonical_between(
        "postgresql", back, there
    )


def test_bytes_may_come_as_bytes():
    _, _, back, forms = conversions("BLOB", "bytea")
    assert back.convert(b"\0") == forms.of_server(b"\0") == forms.of_server("\\x00") == b"\0"


# --- declared types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "kind", "size", "scale"),
    [
        ("INTEGER", "integer", 64, None),
        ("smallint", "integer", 64, None),
        ("BOOLEAN", "boolean", None, None),
        ("DOUBLE PRECISION", "float", 64, None),
        ("REAL", "float", 64, None),
        ("NUMERIC(10, 2)", "numeric", 10, 2),
        ("DECIMAL(5)", "numeric", 5, 0),
        ("NUMERIC", "numeric", None, None),
        ("VARCHAR(20)", "text", 20, None),
        ("NVARCHAR", "text", None, None),
        ("CLOB", "text", None, None),
        ("VARBINARY(16)", "bytes", None, None),
        ("JSONB", "json", None, None),
        ("UUID", "uuid", None, None),
        ("TIMESTAMP", "datetime", None, None),
        ("", "other", None, None),
        ("STRING", "other", None, None),
        ("odd (type", "other", None, None),
    ],
)
def test_declared_types_of_sqlite(spelled, kind, size, scale):
    found = of_sqlite(spelled, "NUMERIC")
    assert (found.kind, found.size, found.scale, found.affinity) == (TypeClass(kind), size, scale, "NUMERIC")


@pytest.mark.parametrize(
    ("spelled", "base", "kind", "size", "scale"),
    [
        ("smallint", "int2", "integer", 16, None),
        ("character varying(20)", "varchar", "text", 20, None),
        ("character varying", "varchar", "text", None, None),
        ("numeric(10,2)", "numeric", "numeric", 10, 2),
        ("numeric(3,-2)", "numeric", "numeric", 3, -2),
        ("timestamp(3) without time zone", "timestamp", "datetime", None, 3),
        ("timestamp with time zone", "timestamptz", "datetime", None, None),
        ("time(0) without time zone", "time", "time", None, 0),
        ("interval(2)", "interval", "interval", None, 2),
        ("interval second(2)", "interval", "interval", None, 2),
        ("interval day to hour", "interval", "other", None, None),
        ("real", "float4", "float", 32, None),
        ('"char"', "char", "other", None, None),
        ("name", "name", "other", None, None),
        ("public.citext", "citext", "text", None, None),
        ("bit(3)", "bit", "other", None, None),
    ],
)
def test_types_of_postgresql(spelled, base, kind, size, scale):
    found = of_postgresql(spelled, base, "U")
    assert (found.kind, found.size, found.scale) == (TypeClass(kind), size, scale)


def test_types_made_of_others():
    assert of_postgresql("character(5)", "bpchar", "S").exact is False
    assert of_postgresql("jsonb", "jsonb", "U").exact is False
    assert of_postgresql("timestamp with time zone", "timestamptz", "D").zoned
    assert server_type(MOOD).labels == LABELS
    assert server_type("integer[]").element == server_type("integer")


# --- properties ------------------------------------------------------------------------------------------

INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(string.printable, max_size=40),
    st.binary(min_size=1, max_size=8).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)


def as_json(value, is_ascii, separators):
    return json.dumps(value, ensure_ascii=is_ascii, separators=separators)


JSONS = st.builds(as_json, NESTED, st.booleans(), st.sampled_from([(", ", ": "), (",", ":")]))
STAMPS = st.one_of(
    st.datetimes().map(lambda each: each.isoformat(" ", "microseconds")),
    st.datetimes(timezones=st.timezones()).map(lambda each: each.isoformat(" ")),
    st.datetimes().map(lambda each: each.isoformat("T", "minutes")),
    st.dates().map(date.isoformat),
    st.datetimes(datetime(1960, 1, 1), datetime(1980, 1, 1)).map(lambda each: each.isoformat(" ", "microseconds")),  # noqa: DTZ001
)  # fmt: skip
TIMES = st.one_of(st.times().map(time.isoformat), st.times().map(lambda each: each.isoformat("microseconds")))
UUIDS = st.one_of(
    st.uuids().map(lambda each: each.hex),
    st.uuids().map(str),
    st.uuids().map(lambda each: str(each).upper()),
    st.uuids().map(lambda each: each.bytes),
)
NUMBERS = st.one_of(
    INTEGERS, FLOATS, st.integers(-300, 300), st.decimals(-1000, 1000, places=2).map(float), st.just(-0.0)
)
LISTS = st.lists(st.one_of(st.none(), st.booleans(), st.integers(), FLOATS, st.text(max_size=5)), max_size=4)
ANYTHING = st.one_of(
    NUMBERS, TEXTS, st.binary(max_size=20), STAMPS, TIMES, UUIDS, JSONS, st.sampled_from(LABELS),
    LISTS.map(json.dumps),
)  # fmt: skip
SQLITE_TYPES = (
    "", "INTEGER", "BIGINT", "BOOLEAN", "FLOAT", "REAL", "NUMERIC(10, 2)", "NUMERIC", "VARCHAR(20)", "CHAR(5)", "TEXT",
    "BLOB", "JSON", "CHAR(32)", "CHAR(36)", "UUID", "DATE", "TIME", "DATETIME", "STRING",
)  # fmt: skip
SERVER_TYPES = (
    "smallint", "integer", "bigint", "boolean", "real", "double precision", "numeric", "numeric(10,2)", "numeric(3,-1)",
    "numeric(2,4)", "character varying(20)", "character(5)", "text", "bytea", "json", "jsonb", "uuid", "date", CLOCK,
    STAMP, STAMPTZ, "timestamp(3) without time zone", "interval", MOOD, "integer[]", "text[]", "double precision[]",
    "real[]", "numeric[]", "numeric(4,2)[]", "boolean[]", "uuid[]", "mood[]",
)  # fmt: skip
PAIRS = [
    (sqlite, server)
    for sqlite in SQLITE_TYPES
    for server in SERVER_TYPES
    if leaving_sqlite.decide(sqlite_type(sqlite), server_type(server)) is not None
]


def kept(value, affinity):
    """Return what a column of this affinity holds once it was given a value: the driver's own words, in Python."""
    is_number_like = isinstance(value, str) and common.looks_like_a_number(value)
    if affinity in common.NUMERIC_AFFINITIES:
        if is_number_like:
            whole = re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value, re.ASCII)
            value = int(value) if whole else float(value)
        return common.settled(value, affinity) if isinstance(value, int | float) else value
    if affinity == "TEXT" and isinstance(value, int | float):
        return repr(value)
    return value


@pytest.mark.parametrize(("sqlite", "server"), PAIRS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(value=ANYTHING)
def test_what_travels_is_what_was_announced(sqlite, server, value):
    kind, there, back, forms = conversions(sqlite, server)
    value = kept(value, sqlite_type(sqlite).affinity)
    forms.of_sqlite(value), forms.relaxed_of_sqlite(value)
    try:
        sent = there.convert(value)
    except UnfitError:
        assert not is_plain(there.plain, value)
        return
    sent.encode()
    loss = there.loss(value)
    assert loss is None or (loss in CLASSES and not is_plain(there.plain, value))
    told = echo(kind, sent)
    check_forms(forms, value, told, loss)
    if back is not None:
        check_back(back, forms, told, value if loss is None else None)


def check_back(back, forms, told, value):
    try:
        stored = back.convert(told)
    except UnfitError:
        assert value is None or is_plain(back.plain, told) is False
        return
    loss = back.loss(told)
    assert loss is None or not is_plain(back.plain, told)
    check_forms(forms, stored, told, loss)
    if value is not None:
        assert same(stored, value)


SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def told_float(number):
    return SPECIAL.get(repr(number)) or echo(server_type("double precision"), repr(number))


def told_single(number):
    return SPECIAL.get(repr(number)) or echo(server_type("real"), repr(number))


def told_stamp(moment):
    return echo(server_type(STAMP), moment.isoformat(" ", "microseconds"))


def told_span(days, sign, clock):
    unit = "day" if days == 1 else "days"
    return " ".join(([f"{days} {unit}"] if days else []) + [f"{sign}{clock}"])


def told_list(items):
    return "{" + ",".join("NULL" if item is None else arrays.quote(str(item)) for item in items) + "}"


SAYABLE = st.text().filter(lambda each: "\0" not in each)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False).filter(lambda each: abs(each.adjusted()) < 500)
TOLD = {
    "double precision": st.floats().map(told_float),
    "real": st.floats(width=32).map(told_single),
    "numeric": DECIMALS.map(json_texts.plain_digits),
    "numeric(10,2)": st.decimals(-99999999, 99999999, places=2).map(json_texts.plain_digits),
    "bigint": INTEGERS.map(str),
    "text": SAYABLE,
    "json": JSONS,
    STAMP: st.datetimes().map(told_stamp),
    STAMPTZ: st.datetimes().map(lambda each: told_stamp(each) + "+00"),
    "interval": st.builds(
        told_span,
        st.integers(-800_000, 3_000_000),
        st.sampled_from(["", "-"]),
        st.times().map(lambda each: told_stamp(datetime.combine(date(2000, 1, 1), each))[11:]),
    ),
    "integer[]": st.lists(st.one_of(st.none(), st.integers(-9, 9)), max_size=4).map(told_list),
    "text[]": st.lists(SAYABLE, max_size=4).map(told_list),
}
BACKWARDS = [
    (server, sqlite)
    for server in TOLD
    for sqlite in SQLITE_TYPES
    if leaving_postgresql.decide(server_type(server), sqlite_type(sqlite)) is not None
]


@pytest.mark.parametrize(("server", "sqlite"), BACKWARDS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_what_comes_back_is_what_was_announced(server, sqlite, data):
    told = data.draw(TOLD[server])
    kind, there, back, forms = conversions(sqlite, server)
    try:
        stored = back.convert(told)
    except UnfitError:
        assert not is_plain(back.plain, told)
        return
    loss = back.loss(told)
    assert loss is None or (loss in CLASSES and not is_plain(back.plain, told))
    assert same(stored, None if stored is None else kept(stored, sqlite_type(sqlite).affinity))
    check_forms(forms, stored, told, loss)
    if stored is not None and loss is None and there is not None:
        check_again(kind, there, forms, stored, told)


def check_again(kind, there, forms, stored, told):
    """What went to SQLite under no loss class goes back as what it was, or under a class of its own, or is refused."""
    try:
        sent = there.convert(stored)
    except UnfitError:
        return
    if there.loss(stored) is None:
        assert same(forms.of_server(echo(kind, sent)), forms.of_server(told))
