"""No false alarm: what nobody modified verifies, whatever is in it and whatever was done that changes nothing."""

import os
import random
import shutil
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

import panicdb
from oracle import RefusedError, solve
from panicdb.reports import ALL_CHECKS, Status, Verdict
from seeds import campaign_of, part_of_campaign
from strategies import Case, cases, quote
from strategies_postgresql import PostgreSQLDraft, relation

PROVE_PAIRS = campaign_of(1_000)
PROVE_SERVER_PAIRS = campaign_of(150)
PARTS, SERVER_PARTS = 2, 5
MEMORY = Path("/dev/shm")

HARMLESS = {
    "nothing": (),
    "VACUUM": ("VACUUM",),
    "ANALYZE": ("ANALYZE",),
    "REINDEX": ("REINDEX",),
    "another page size": ("PRAGMA page_size = 8192", "VACUUM"),
    "pages vacuumed by themselves": ("PRAGMA auto_vacuum = FULL", "VACUUM"),
    "a write-ahead log": ("PRAGMA journal_mode = WAL",),
    "a journal that stays": ("PRAGMA journal_mode = PERSIST", "BEGIN IMMEDIATE", "COMMIT"),
    "a transaction taken back": ("BEGIN", "CREATE TABLE more (a)", "ROLLBACK"),
}
REWRITTEN = "rows written again"
IN_SOURCE = ((), (), ("ANALYZE",), ("PRAGMA journal_mode = WAL",), ("PRAGMA user_version = 7",))


@dataclass(frozen=True)
class Pair:
    """A database, how it is transferred, and what is done to the target that changes nothing."""

    case: Case
    more: tuple[str, ...]
    """Of the source's schema."""
    whole: bool
    """It is cloned."""
    sealed: bool
    checked: bool
    """Its content is compared before it is published, too."""
    afterwards: str
    again: bool
    """It is verified without its receipt, too."""

    def create(self, path: Path) -> None:
        self.case.create(path)
        execute(path, *self.more)

    def transfer(self, source: Path, target: Path) -> None:
        options = {"seal": self.sealed, "verify": self.checked}
        if self.whole:
            panicdb.clone(str(source), str(target), violations="keep", **options)
        else:
            panicdb.export(str(source), str(target), **self.case.selection(), **options)

    def handle(self, target: Path) -> None:
        if self.afterwards == REWRITTEN:
            execute(target, *(f"UPDATE {quote(table.name)} SET n = n" for table in self.case.tables))
        else:
            execute(target, *HARMLESS[self.afterwards])


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in statements:
            connection.execute(statement)


@st.composite
def pairs(draw, *, seldom):
    """Draw pairs of which one in `seldom` is sealed, and one in half of that verified without its receipt."""
    case = draw(cases())
    # What goes with a case is thrown here: Hypothesis has its favourites, and of some kinds would draw none at all.
    dice = random.Random(repr(case))
    try:
        solve(case.problem())
    except RefusedError:
        whole = True  # as a selection it can't be transferred
    else:
        whole = dice.random() < 0.3
    more = tuple(statement for table in case.tables for statement in draw_more(dice, table))
    return Pair(
        case,
        (*more, *dice.choice(IN_SOURCE)),
        whole,
        sealed=dice.randrange(seldom) == 0,
        checked=dice.random() < 0.3,
        afterwards=dice.choice((*HARMLESS, REWRITTEN)),
        again=dice.randrange(seldom // 2) == 0,
    )


def draw_more(dice, table):
    """Draw indexes, views and triggers of kinds that are not among the columns' own."""
    name, first = quote(table.name), table.first_n
    column = quote(dice.choice(table.columns).name)
    kinds = {
        "part": f"CREATE INDEX {quote(f'part {first}')} ON {name} (n, {column}) WHERE n > {first + 1}",
        "unique part": f"CREATE UNIQUE INDEX {quote(f'one {first}')} ON {name} (n) WHERE n % 2 = 0",
        "expression": f"CREATE INDEX {quote(f'made {first}')} ON {name} (abs(n), {column} COLLATE NOCASE DESC)",
        "unique": f"CREATE UNIQUE INDEX {quote(f'unique {first}')} ON {name} (n)",
        "view": f"CREATE VIEW {quote(f'seen {first}')} AS SELECT count(*) AS rows, max({column}) FROM {name}",
        "trigger": f"CREATE TRIGGER {quote(f'noted {first}')} BEFORE DELETE ON {name} "
        f"WHEN old.n < 0 BEGIN UPDATE {name} SET n = 0; END",
    }
    return [kinds[kind] for kind in kinds if dice.random() < 0.15]


def campaign(part, number, folder, record, *, seldom):
    """Verify so many pairs in every way there is, and count; any finding is a false alarm."""
    seen = Counter()

    @settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes
    )
    @given(pair=pairs(seldom=seldom))
    def check(pair):
        place = folder / "pair"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        source, target = place / "source.db", place / "target.db"
        pair.create(source)
        pair.transfer(source, target)
        pair.handle(target)
        seen["pairs"] += 1
        ways = dict(verified(pair, source, target))
        for way, report in ways.items():
            assert report.findings == (), f"a false alarm, {way}"
            assert [check.name for check in report.checks] == list(ALL_CHECKS)
            assert {check.status for check in report.checks} == {Status.PASS}
            assert report.verdict is Verdict.EXACT
            seen["verified"] += 1
            seen["checks"] += len(report.checks)
        for feature in (*ways, *features(pair)):
            seen[f"unmodified: {feature}"] += 1
            event(feature)

    # Thousands of tiny files, each synced several times: in memory where there is such a place.
    with TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else folder) as name:
        folder = Path(name)
        part_of_campaign(part, check)()
    pairs_seen, verified_times, checks = (seen.pop(name) for name in ("pairs", "verified", "checks"))
    record("coverage", dict(seen))
    record(
        "figures",
        f"{pairs_seen} unmodified pairs verified {verified_times} times, {checks} checks: no false alarm",
    )
    assert pairs_seen >= number
    assert verified_times >= 1.2 * pairs_seen
    assert checks == len(ALL_CHECKS) * verified_times
    for way in (
        "by the source with the receipt",
        "by the source with the selection",
        "by the sealed receipt alone",
    ):
        assert seen[f"unmodified: {way}"] >= number / 25, f"hardly a pair was verified {way}"


def verified(pair, source, target):
    """Verify in every way: by the receipt beside the target, by the sealed receipt alone, and without a receipt."""
    receipt = Path(f"{target}.receipt.json")
    yield "by the source with the receipt", panicdb.verify(str(source), str(target))
    if pair.sealed:
        yield "by the sealed receipt alone", panicdb.verify(str(receipt), str(target))
    if pair.again:
        receipt.unlink()
        selection = {} if pair.whole else pair.case.selection()
        way = "by the source with every row" if pair.whole else "by the source with the selection"
        yield way, panicdb.verify(str(source), str(target), **selection)


def features(pair):
    tables, links = pair.case.tables, pair.case.links
    return [
        "cloned" if pair.whole else "exported",
        f"afterwards: {pair.afterwards}",
        *["sealed"] * pair.sealed,
        *["content compared before publication"] * pair.checked,
        *["violations kept"] * (pair.whole or pair.case.violations == "keep"),
        *["without rowid"] * any(table.without_rowid for table in tables),
        *["strict"] * any(table.strict for table in tables),
        *["computed column"] * any(column.generated for table in tables for column in table.columns),
        *["no key"] * any(not table.keys for table in tables),
        *["virtual link"] * any(link.virtual for link in links),
        *["UTF-16"] * any("UTF-16" in statement for statement in pair.case.script),
        *["AUTOINCREMENT"] * any("AUTOINCREMENT" in statement for statement in pair.case.script),
        *(
            f"{kind} created"
            for kind in ("INDEX", "VIEW", "TRIGGER")
            if any(kind in each for each in pair.more)
        ),
    ]


def test_no_false_alarm(tmp_path, record_property):
    """50 pairs, some in several ways."""
    campaign("unmodified, few", 50, tmp_path, record_property, seldom=8)


@pytest.mark.prove
@pytest.mark.parametrize("part", range(PARTS))
def test_no_false_alarm_in_a_long_campaign(part, tmp_path, record_property):
    """1,000 pairs, each in two ways or three."""
    campaign(f"unmodified, {part}", PROVE_PAIRS // PARTS, tmp_path, record_property, seldom=2)


# --- on servers -----------------------------------------------------------------------------------

OTHER = (
    'TimeZone = "Asia/Kolkata"',
    'DateStyle = "SQL, DMY"',
    "IntervalStyle = iso_8601",
    "extra_float_digits = 0",
    "bytea_output = escape",
    "search_path = nowhere",
)
CHANGES = "".join(f"EXECUTE format('ALTER DATABASE %I SET {each}', current_database());" for each in OTHER)
SETTINGS = f"DO $$ BEGIN {CHANGES} END $$"
CAME_AND_WENT, RESTORED = "a column that came and went", "dumped and restored"
HARMLESS_ON_SERVERS = {
    "nothing": (),
    "VACUUM FULL": ("VACUUM FULL",),
    "ANALYZE": ("ANALYZE",),
    "REINDEX": ("REINDEX SCHEMA public",),
    "other settings": (SETTINGS,),
    "a transaction taken back": ("BEGIN", "CREATE TABLE more (a integer)", "ROLLBACK"),
}
IN_SOURCE_ON_SERVERS = ((), (), ("ANALYZE",), ("VACUUM FULL",), (SETTINGS,))


@dataclass(frozen=True)
class ServerPair:
    """A database, how it is transferred, and what is done to the target that changes nothing."""

    case: Case
    more: tuple[str, ...]
    """Of the source's schema."""
    before: tuple[str, ...]
    """What is done to the source."""
    whole: bool
    sealed: bool
    checked: bool
    afterwards: str

    def transfer(self, source: str, target: str, receipt: Path) -> None:
        options = {"seal": self.sealed, "verify": self.checked, "receipt": str(receipt)}
        if self.whole:
            panicdb.clone(source, target, violations="keep", **options)
        else:
            panicdb.export(source, target, **self.case.selection(), **options)


@st.composite
def server_pairs(draw, drafting):
    case = draw(cases(drafting))
    dice = random.Random(repr(case))  # as in `pairs`
    try:
        solve(case.problem())
    except RefusedError:
        whole = True
    else:
        whole = dice.random() < 0.3
    return ServerPair(
        case,
        tuple(statement for table in case.tables for statement in draw_more_on_servers(dice, table)),
        dice.choice(IN_SOURCE_ON_SERVERS),
        whole,
        sealed=dice.randrange(4) == 0,
        checked=dice.random() < 0.3,
        afterwards=dice.choice((*HARMLESS_ON_SERVERS, CAME_AND_WENT, REWRITTEN, RESTORED)),
    )


def draw_more_on_servers(dice, table):
    """Draw objects of kinds that are not among the columns' own."""
    name, first = relation(table), table.first_n
    column = quote(dice.choice(table.columns).name)
    act = f"FUNCTION {quote(f'act {first}')}()"
    kinds = {
        "part": f"CREATE INDEX {quote(f'some {first}')} ON {name} (n) WHERE n > {first + 1}",
        "hash": f"CREATE INDEX {quote(f'one {first}')} ON {name} USING hash (n) WHERE n % 2 = 0",
        "expression": f"CREATE INDEX {quote(f'made {first}')} ON {name} (abs(n) DESC NULLS LAST, n) INCLUDE (n)",
        "view": f"CREATE VIEW {quote(f'seen {first}')} AS SELECT n, {column} AS other FROM {name} WHERE n <> 0",
        "kept": f"CREATE MATERIALIZED VIEW {quote(f'held {first}')} AS SELECT count(*) AS rows FROM {name}",
        "function": f"CREATE {act} RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;"
        f"CREATE TRIGGER {quote(f'noted {first}')} AFTER DELETE ON {name} FOR EACH ROW EXECUTE {act}",
        "comment": f"COMMENT ON COLUMN {name}.{column} IS 'it''s a \"comment\"'",
        "policy": f"CREATE POLICY {quote(f'own {first}')} ON {name} USING (n > 0)",
        "check": f"ALTER TABLE {name} ADD CHECK (n BETWEEN {first - 1} AND {first + 999} OR n IN (1, 2))",
        "default": f"ALTER TABLE {name} ALTER n SET DEFAULT 1 + 2",
        "statistics": f"CREATE STATISTICS {quote(f'told {first}')} ON n, (n % 7) FROM {name}",
    }
    return [kinds[kind] for kind in kinds if dice.random() < 0.12]


def handle(pair, engine, target):
    """Do what changes nothing; return where the database is then."""
    names = [relation(table) for table in pair.case.tables]
    if pair.afterwards == RESTORED:
        return restored(engine, target)
    statements = {
        CAME_AND_WENT: [f"ALTER TABLE {name} ADD gone text; ALTER TABLE {name} DROP gone" for name in names],
        REWRITTEN: [f"UPDATE {name} SET n = n" for name in names],
        **HARMLESS_ON_SERVERS,
    }
    for statement in statements[pair.afterwards]:
        engine.session(target).execute(statement)
    engine.leave(target)
    return target


def restored(engine, target):
    """Dump the target and restore the dump elsewhere."""
    place = engine.another("restored")
    engine.create(place)
    programs = engine.server.binaries
    dump = subprocess.run([programs / "pg_dump", target], capture_output=True, check=True).stdout
    restoring = [programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", place]
    subprocess.run(restoring, input=dump, capture_output=True, check=True)
    return place


def campaign_on_servers(part, number, engine, folder, record):
    """Verify so many pairs in every way there is, and count; any finding is a false alarm."""
    seen = Counter()
    drafting = partial(PostgreSQLDraft, icu="icu" in engine.features, version=engine.server.version)

    @settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes
    )
    @given(pair=server_pairs(drafting))
    def check(pair):
        engine.tidy()  # of a pair that failed
        source = engine.source(";".join((pair.case.script_of_all(), *pair.more)), own=True)
        for statement in pair.before:
            engine.session(source).execute(statement)
        target, receipt = engine.target(), folder / "receipt.json"
        receipt.unlink(missing_ok=True)
        pair.transfer(source, target, receipt)
        target = handle(pair, engine, target)
        seen["pairs"] += 1
        for way, report in verified_on_servers(pair, source, target, receipt):
            assert report.findings == (), f"a false alarm, {way}"
            statuses = {check.name: check.status for check in report.checks}
            assert statuses == dict.fromkeys(ALL_CHECKS, Status.PASS)
            assert report.verdict is Verdict.EXACT
            seen["verified"] += 1
            seen[f"unmodified on servers: {way}"] += 1
        for feature in (f"afterwards: {pair.afterwards}", "cloned" if pair.whole else "exported"):
            seen[f"unmodified on servers: {feature}"] += 1
            event(feature)

    part_of_campaign(part, check)()
    pairs_seen, times = seen.pop("pairs"), seen.pop("verified")
    record("coverage", dict(seen))
    record("figures", f"{part}: {pairs_seen} pairs verified {times} times, no false alarm")
    assert pairs_seen >= number
    assert seen["unmodified on servers: by the sealed receipt alone"] >= number // 25


def verified_on_servers(pair, source, target, receipt):
    selection = {} if pair.whole else pair.case.selection()
    way = "by the source with every row" if pair.whole else "by the source with the selection"
    yield way, panicdb.verify(source, target, **selection)
    if pair.sealed:
        yield "by the source with the receipt", panicdb.verify(source, target, receipt=str(receipt))
        yield "by the sealed receipt alone", panicdb.verify(str(receipt), target)


def test_no_false_alarm_on_servers(engine, tmp_path, record_property):
    """6 pairs; exports of other tests are verified, too, some 80 of them."""
    campaign_on_servers(f"unmodified on {engine.server.name}, few", 6, engine, tmp_path, record_property)


@pytest.mark.prove
@pytest.mark.parametrize("part", range(SERVER_PARTS))
def test_no_false_alarm_on_servers_in_a_long_campaign(part, engine, tmp_path, record_property):
    """150 pairs."""
    number = engine.share(PROVE_SERVER_PAIRS // SERVER_PARTS)
    part = f"unmodified on {engine.server.name}, {part}"
    campaign_on_servers(part, number, engine, tmp_path, record_property)
