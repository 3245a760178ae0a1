"""Random tables of all types that travel: there and back they are the same, or exactly what was announced."""

import json
import math
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
from seeds import campaign_of, part_of_campaign

PROVE_TABLES = campaign_of(5_000)
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


def number(bits):
    return lambda dice: integer(dice, bits), lambda dice: str(integer(dice, bits))


def one_of(ours, theirs):
    return lambda dice: dice.choice(ours), lambda dice: dice.choice(theirs)


def alike(draw):
    return draw, draw


def hexadecimal(dice):
    return f"{dice.getrandbits(128):032x}"


def dashed(dice):
    return str(uuid.UUID(int=dice.getrandbits(128)))


def stamp(dice):
    return moment(dice).isoformat(" ", "microseconds")


def span(dice):
    return (EPOCH + timedelta(microseconds=dice.randrange(-(10**15), 10**15))).isoformat(" ", "microseconds")


def listed(draw):
    return lambda dice: json.dumps([draw(dice) for _ in range(dice.randrange(4))])


EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - SQLAlchemy's, which has no zone
WRITTEN = tuple(map(json.dumps, JSONS))
# {(SQLite's type, the server's): (a value as SQLAlchemy stores it, a value as the server reads it)}
KINDS = {
    ("INTEGER", "integer"): number(32),
    ("SMALLINT", "smallint"): number(16),
    ("BIGINT", "bigint"): number(64),
    ("BOOLEAN", "boolean"): one_of((0, 1), "tf"),
    ("FLOAT", "double precision"): (real, lambda dice: dice.choice((repr(real(dice)), "NaN", "-0"))),
    ("REAL", "real"): one_of((0.5, 0.1, 1e-20), ("0.1", "NaN", "-0", "3.4028235e38")),
    ("NUMERIC(12, 3)", "numeric(12,3)"): (
        lambda dice: dice.choice((0, 5, 1.25, -0.1, 123456.789)),
        lambda dice: str(Decimal(dice.randrange(-(10**9), 10**9)).scaleb(-3)),
    ),
    ("NUMERIC", "numeric"): (
        lambda dice: dice.choice((integer(dice, 64), 2.5, 0.1)),
        lambda dice: dice.choice(("1.10", "0", "NaN", "12345678901234567890.5", str(integer(dice, 64)))),
    ),
    ("TEXT", "text"): alike(text),
    ("VARCHAR(3000)", "character varying(3000)"): alike(text),
    ("BLOB", "bytea"): (
        lambda dice: dice.randbytes(dice.choice((0, 1, 9, 500))),
        lambda dice: f"\\x{dice.randbytes(dice.randrange(20)).hex()}",
    ),
    ("JSON", "json"): one_of(WRITTEN, (*WRITTEN, '{"b": 1,\n "a": [ ]}')),
    ("JSON", "jsonb"): one_of(WRITTEN, WRITTEN),
    ("CHAR(32)", "uuid"): (hexadecimal, dashed),
    ("CHAR(36)", "uuid"): alike(dashed),
    ("DATE", "date"): alike(lambda dice: str(moment(dice).date())),
    ("TIME", "time without time zone"): alike(lambda dice: f"{moment(dice):%H:%M:%S.%f}"),
    ("DATETIME", "timestamp without time zone"): alike(stamp),
    ("DATETIME", "timestamp with time zone"): (stamp, lambda dice: f"{stamp(dice)}+00"),
    ("DATETIME", "interval"): (
        span,
        lambda dice: f"{dice.randrange(-999, 999)} days {dice.randrange(-(10**10), 10**10)} microseconds",
    ),
    ("VARCHAR(5)", "mood"): one_of(LABELS, LABELS),
    ("JSON", "integer[]"): (listed(lambda dice: integer(dice, 32)), lambda dice: dice.choice(ARRAYS)),
    ("JSON", "text[]"): (listed(text), lambda dice: dice.choice(("{}", '{"",NULL,"NULL"}'))),
}
ARRAYS = ("{}", "{1,NULL}", "[2:3]={1,2}")


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


def campaign(part, tables, record, check):
    """Check databases of `AT_ONCE` tables each until there were so many tables."""
    seen = Counter()

    @settings(
        max_examples=max(1, tables // AT_ONCE),
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
    tables = engine.share(PROVE_TABLES // PARTS // 2)
    check = way(engine.server, tmp_path)
    campaign(f"{way.__name__}, {engine.server.name}, {part}", tables, record_property, check)
