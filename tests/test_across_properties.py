"""Random tables of all types that travel: there and back they are the same, or exactly what was announced."""

import json
import math
import os
import random
import shutil
import struct
import uuid
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import panicdb
from conversion_values import LABELS
from crossings import Made, make_server, make_sqlite, read_server, read_sqlite, write_history
from panicdb.reports import Verdict
from seeds import part_of_campaign

PROVE_TABLES = int(os.environ.get("PANICDB_PROVE_CROSSING_TABLES", "5000"))
AT_ONCE = 50
"""Tables of one database: migrations and comparisons cost the same for one."""
PARTS = 4

TEXTS = (
    "",
    " ",
    "x",
    "it's",
    "é🎲",
    "a\tb\nc\rd",
    "\\N",
    "\\.",
    "back\\slash",
    "NULL",
    "1e3",
    " 2 ",
    "\x01",
    "x" * 3000,
)
JSONS = (None, True, 0, 1.5, "é", [], {}, [1, [2, None]], {"a": {"b": [1.25, "\\"]}}, {"é": "\n"})


def integer(dice, bits):
    end = 1 << (bits - 1)
    return dice.choice((0, 1, -1, end - 1, -end, dice.randrange(-end, end), dice.randrange(-99, 99)))


def real(dice):
    some = (
        0.0,
        1.5,
        0.1,
        -2.5e-300,
        1.7976931348623157e308,
        5e-324,
        math.inf,
        -math.inf,
        1e22,
        123456789.123456789,
    )
    (any_bits,) = struct.unpack("<d", struct.pack("<Q", dice.getrandbits(64)))
    return dice.choice((*some, any_bits if math.isfinite(any_bits) else 0.25))


def moment(dice):
    return datetime(1, 1, 1) + timedelta(microseconds=dice.randrange(0, 315_537_897_599_999_999))  # noqa: DTZ001


def text(dice):
    return dice.choice((*TEXTS, "".join(chr(dice.randrange(32, 0x2FF)) for _ in range(dice.randrange(12)))))


# {(SQLite's type, the server's): (a value as SQLAlchemy stores it, a value as the server reads it)}
KINDS = {
    ("INTEGER", "integer"): (lambda d: integer(d, 32), lambda d: str(integer(d, 32))),
    ("SMALLINT", "smallint"): (lambda d: integer(d, 16), lambda d: str(integer(d, 16))),
    ("BIGINT", "bigint"): (lambda d: integer(d, 64), lambda d: str(integer(d, 64))),
    ("BOOLEAN", "boolean"): (lambda d: d.randrange(2), lambda d: d.choice("tf")),
    ("FLOAT", "double precision"): (real, lambda d: d.choice((repr(real(d)), "NaN", "-0"))),
    ("REAL", "real"): (lambda d: d.choice((0.5, 0.1, 1e-20)), lambda d: d.choice(("0.1", "NaN", "-0", "3.4028235e38"))),
    ("NUMERIC(12, 3)", "numeric(12,3)"): (
        lambda d: d.choice((0, 5, 1.25, -0.1, 123456.789)),
        lambda d: str(Decimal(d.randrange(-(10**9), 10**9)).scaleb(-3)),
    ),
    ("NUMERIC", "numeric"): (
        lambda d: d.choice((integer(d, 64), 2.5, 0.1)),
        lambda d: d.choice(("1.10", "0", "NaN", "12345678901234567890.5", str(integer(d, 64)))),
    ),
    ("TEXT", "text"): (text, text),
    ("VARCHAR(3000)", "character varying(3000)"): (text, text),
    ("BLOB", "bytea"): (lambda d: d.randbytes(d.choice((0, 1, 9, 500))), lambda d: f"\\x{d.randbytes(d.randrange(20)).hex()}"),
    ("JSON", "json"): (lambda d: json.dumps(d.choice(JSONS)), lambda d: json.dumps(d.choice(JSONS), indent=d.choice((None, 1)))),
    ("JSON", "jsonb"): (lambda d: json.dumps(d.choice(JSONS)), lambda d: json.dumps(d.choice(JSONS))),
    ("CHAR(32)", "uuid"): (lambda d: uuid.UUID(int=d.getrandbits(128)).hex, lambda d: str(uuid.UUID(int=d.getrandbits(128)))),
    ("CHAR(36)", "uuid"): (lambda d: str(uuid.UUID(int=d.getrandbits(128))), lambda d: str(uuid.UUID(int=d.getrandbits(128)))),
    ("DATE", "date"): (lambda d: str(moment(d).date()), lambda d: str(moment(d).date())),
    ("TIME", "time without time zone"): (lambda d: f"{moment(d):%H:%M:%S.%f}", lambda d: f"{moment(d):%H:%M:%S.%f}"),
    ("DATETIME", "timestamp without time zone"): (
        lambda d: moment(d).isoformat(" ", "microseconds"),
        lambda d: moment(d).isoformat(" ", "microseconds"),
    ),
    ("DATETIME", "timestamp with time zone"): (
        lambda d: moment(d).isoformat(" ", "microseconds"),
        lambda d: moment(d).isoformat(" ", "microseconds") + "+00",
    ),
    ("DATETIME", "interval"): (
        lambda d: (datetime(1970, 1, 1) + timedelta(microseconds=d.randrange(-(10**15), 10**15))).isoformat(" ", "microseconds"),  # noqa: DTZ001
        lambda d: f"{d.randrange(-999, 999)} days {d.randrange(-10**10, 10**10)} microseconds",
    ),
    ("VARCHAR(5)", "mood"): (lambda d: d.choice(LABELS), lambda d: d.choice(LABELS)),
    ("JSON", "integer[]"): (lambda d: json.dumps([integer(d, 32) for _ in range(d.randrange(4))]), lambda d: d.choice(("{}", "{1,NULL}", "[2:3]={1,2}"))),
    ("JSON", "text[]"): (lambda d: json.dumps([text(d).replace("\0", "") for _ in range(d.randrange(3))]), lambda d: d.choice(("{}", '{"",NULL,"NULL"}'))),
}  # fmt: skip


def draw_tables(seed, side):
    """Draw so many tables of any types; about one value in six is NULL."""
    dice = random.Random(seed)
    return [draw_table(dice, f"t{number}", side) for number in range(AT_ONCE)]


def draw_table(dice, name, side):
    columns = tuple(dice.choices(list(KINDS), k=dice.randrange(1, 6)))
    rows = [
        tuple(None if dice.randrange(6) == 0 else KINDS[types][side](dice) for types in columns)
        for _ in range(dice.randrange(6))
    ]
    return Made(name, columns, rows)


def campaign(part, number, record, check):
    """Check databases of `AT_ONCE` tables each until there were so many tables."""
    seen = Counter()

    @settings(
        max_examples=max(1, number // AT_ONCE),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(seed=st.integers(0, 2**63))
    def run(seed):
        seen["tables"] += AT_ONCE
        check(seed, seen)

    try:
        part_of_campaign(part, run)()
    finally:
        record("coverage", {f"across: {what}": times for what, times in seen.items()})


def from_sqlite(server, folder):
    def check(seed, seen):
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        tables = draw_tables(seed, 0)
        ini = str(write_history(place / "app", tables))
        source, back = make_sqlite(place / "source.db", tables), str(place / "back.db")
        with server.tidying():
            there = server.url("there")
            first = panicdb.clone(source, there, config=[ini], verify=True)
            require(source, there, first, seen)
            second = panicdb.clone(there, back, config=[ini], verify=True)
            require(there, back, second, seen)
        lost = {column.partition(".")[0] for receipt in (first, second) for column in receipt.losses}
        for table in tables:
            same = list(map(repr, read_sqlite(source, table))) == list(map(repr, read_sqlite(back, table)))
            assert same or table.name in lost, table
            seen["came back the same" if same else "came back as announced"] += 1

    return check


def from_server(server, folder):
    def check(seed, seen):
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        tables = draw_tables(seed, 1)
        ini, there = str(write_history(place / "app", tables)), str(place / "there.db")
        with server.tidying():
            source, back = make_server(server, "origin", tables), server.url("back")
            first = panicdb.clone(source, there, config=[ini], verify=True)
            require(source, there, first, seen)
            second = panicdb.clone(there, back, config=[ini], verify=True)
            require(there, back, second, seen)
            lost = {column.partition(".")[0] for receipt in (first, second) for column in receipt.losses}
            for table in tables:
                same = read_server(server, "origin", table) == read_server(server, "back", table)
                assert same or table.name in lost, table
                seen["came back the same" if same else "came back as announced"] += 1

    return check


def require(source, target, receipt, seen):
    """The verdict is what the receipt announced, with the very same losses."""
    report = panicdb.verify(source, target)
    assert report.verdict is (Verdict.EQUIVALENT if receipt.losses else Verdict.EXACT), report.findings
    assert report.losses == receipt.losses
    for losses in receipt.losses.values():
        for loss, count in losses.items():
            seen[f"loss: {loss}"] += count


@pytest.mark.parametrize("way", [from_sqlite, from_server], ids=["there and back", "back and there"])
def test_random_tables_travel(way, postgres, tmp_path, record_property):
    """100 tables in each direction."""
    campaign(f"{way.__name__}, {postgres.name}, few", 100, record_property, way(postgres, tmp_path))


@pytest.mark.prove
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("way", [from_sqlite, from_server], ids=["there and back", "back and there"])
def test_random_tables_travel_in_a_long_campaign(way, part, engine, tmp_path, record_property):
    """5,000 tables over all parts and both directions."""
    number = engine.share(PROVE_TABLES // PARTS // 2)
    check = way(engine.server, tmp_path)
    campaign(f"{way.__name__}, {engine.server.name}, {part}", number, record_property, check)
