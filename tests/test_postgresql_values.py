"""Values arrive as they were: also those that Python can't hold, in binary and as text, whole tables and parts."""

import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

import panicdb
import servers
import values_postgresql as values
from panicdb.backends.postgresql import load
from servers import Server

# One meaning of text for both sides of a comparison, whatever a server or a database has been told.
READING = """
SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Asia/Kolkata'; SET bytea_output = 'escape';
SET extra_float_digits = 3; SET lc_monetary = 'C'; SET search_path = public;
SET quote_all_identifiers = off
"""
# What a database may have been told that makes text mean something else.
CONFUSING = """
DO $$ BEGIN EXECUTE format(
    'ALTER DATABASE %1$I SET DateStyle = ''SQL, DMY''; ALTER DATABASE %1$I SET IntervalStyle = ''sql_standard'';
     ALTER DATABASE %1$I SET TimeZone = ''America/St_Johns''; ALTER DATABASE %1$I SET extra_float_digits = -15;
     ALTER DATABASE %1$I SET bytea_output = ''escape''; ALTER DATABASE %1$I SET array_nulls = off;
     ALTER DATABASE %1$I SET standard_conforming_strings = off; ALTER DATABASE %1$I SET xmloption = ''document'';
     ALTER DATABASE %1$I SET client_encoding = ''LATIN1''; ALTER DATABASE %1$I SET quote_all_identifiers = on;
     ALTER DATABASE %1$I SET search_path = nowhere; ALTER DATABASE %1$I SET default_transaction_read_only = on',
    current_database());
END $$
"""
QUARRELSOME = (
    CONFUSING.replace("SQL, DMY", "German")
    .replace("sql_standard", "postgres_verbose")
    .replace("read_only = on", "read_only = off")
)
NUMBERS = itertools.count()
TRUSTED = sorted(load._BINARY)
MEGABYTE = 1 << 20
LARGEST = 1200  # MB of memory for a value of 100 MB: it is 200 MB as text, and a few buffers hold that


def run(server: Server, database: str, script: str, *, confusing: str = "") -> str:
    """Make a database with a session that knows nothing of what the database is told later."""
    url = server.create(name=database)
    with closing(server.connect(database)) as connection:
        connection.execute(script)
        if confusing:
            connection.execute(confusing)
    return url


class Reader:
    """Looks into a database by COPY, in a session of its own."""

    def __init__(self, server: Server, database: str) -> None:
        self._connection = server.connect(database)
        self._connection.execute(
            "SET default_transaction_read_only = off; SET client_encoding = 'UTF8';" + READING
        )

    def copied(self, query: str, form: str = "text") -> bytes:
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT {form})") as copy,
        ):
            return b"".join(bytes(block) for block in copy)

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True)
class Journey:
    """A source, a clone of it, and an export of one of its two roots, with how each table's rows travelled."""

    kinds: tuple[values.Kind, ...]
    places: Mapping[str, str]
    receipts: Mapping[str, str]
    readers: Mapping[str, Reader]
    forms: Mapping[str, set[str]]
    lacking: frozenset[str]

    def differing(self, kind: values.Kind, form: str) -> list[str]:
        """Name what arrived otherwise than it was: the table in either target, and the keys that it references."""
        whole, part = f"SELECT * FROM {kind.table}", f"SELECT * FROM {kind.table} WHERE root = 1"
        queries = [("clone", f"{whole} ORDER BY id"), ("subset", f"{part} ORDER BY id")]
        if kind.key:
            queries += [
                (place, f'SELECT v FROM k_{kind.name} ORDER BY v::text COLLATE "C"')
                for place in ("clone", "subset")
            ]
        found = []
        for place, query in queries:
            there = self.readers["source"].copied(query, form)
            assert len(there) > 20 if form == "binary" else there
            if there != self.readers[place].copied(query, form):
                found.append(f"{query} in the {place}")
        return found


@contextmanager
def travelling(origin: Server, goal: Server, folder: Path) -> Iterator[Journey]:
    """Clone and export every value that both servers can have."""
    features = frozenset.intersection(
        *({*feature_names(server)} and feature_names(server) for server in (origin, goal))
    )
    kinds = values.fitting(min(origin.version, goal.version), features)
    with ExitStack() as stack:
        for server in {id(each): each for each in (origin, goal)}.values():
            stack.enter_context(server.tidying())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("PANICDB_PG_DUMP", str(origin.binaries / "pg_dump"))
        names = {name: f"{name}_{next(NUMBERS)}" for name in ("source", "clone", "subset")}
        places = {
            "source": run(origin, names["source"], values.script(kinds), confusing=CONFUSING),
            "clone": goal.url(names["clone"]),
            "subset": run(goal, names["subset"], "", confusing=QUARRELSOME),
        }
        if origin is not goal:  # whose locales are not this server's
            goal.create(name=names["clone"])
        forms = _watch(patch)
        receipts = {name: str(folder / f"{name}.json") for name in ("clone", "subset")}
        panicdb.clone(places["source"], places["clone"], schema="copy", seal=True, receipt=receipts["clone"])
        chosen = {"roots": ["1"], "root": "root", "schema": "copy"}
        panicdb.export(places["source"], places["subset"], seal=True, receipt=receipts["subset"], **chosen)
        readers = {
            name: stack.enter_context(closing(Reader(origin if name == "source" else goal, names[name])))
            for name in places
        }
        yield Journey(kinds, places, receipts, readers, forms, values.NEEDED - features)


def feature_names(server: Server) -> frozenset[str]:
    named = {name for (name,) in server.execute("SELECT name FROM pg_available_extensions")}
    try:
        server.execute("SELECT xml '<a/>'")
    except psycopg.errors.FeatureNotSupported:
        return frozenset(named)
    return frozenset({*named, "xml"})


def _watch(patch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Note down in which form each table is copied."""
    forms: dict[str, set[str]] = {}
    plan = load.Loader._plan

    def noting(loader: load.Loader, step: load.CopyStep) -> load.Copying:
        copying = plan(loader, step)
        form = copying.into.rpartition("(FORMAT ")[2].rstrip(")")
        assert copying.out.endswith(f"TO STDOUT (FORMAT {form})")
        kind = "part" if copying.out.startswith("COPY (") else "whole"
        forms.setdefault(copying.table, set()).add(f"{kind} {form}")
        return copying

    patch.setattr(load.Loader, "_plan", noting)
    return forms


@pytest.fixture(scope="module")
def journey(postgres, tmp_path_factory) -> Iterator[Journey]:
    """Travel within one server."""
    with travelling(postgres, postgres, tmp_path_factory.mktemp("values")) as made:
        yield made


@pytest.fixture(scope="module")
def pair(pool) -> Iterator[tuple[Server, Server]]:
    """Give two servers of different versions."""
    first = pool.get("embedded")
    with ExitStack() as stack:
        other = pool.get("container") if "container" in servers.choose() else None
        if other is None or other.version == first.version:
            other = stack.enter_context(servers.embedded(version=16))
        yield first, other


@pytest.fixture(
    scope="module", params=["to the older", pytest.param("to the newer", marks=pytest.mark.prove)]
)
def crossing(request, pair, tmp_path_factory) -> Iterator[Journey]:
    """Travel between servers of different versions."""
    newer, older = sorted(pair, key=lambda server: -server.version)
    assert newer.version > older.version
    ends = (newer, older) if request.param == "to the older" else (older, newer)
    with travelling(*ends, tmp_path_factory.mktemp("values")) as made:
        yield made


@pytest.mark.parametrize("name", TRUSTED)
def test_a_type_whose_binary_form_is_trusted_travels_identically(journey, name):
    """As a value, as a key, and in arrays: each byte that the server sends of it, and its text."""
    (kind,) = [each for each in values.BUILTIN if each.name == name]
    assert journey.forms[kind.table] == {"whole binary", "part binary"}
    assert journey.differing(kind, "binary") == []
    assert journey.differing(kind, "text") == []


def test_every_other_type_travels_identically(journey):
    """What has numbers of the server in its binary form, or a form of its own, travels as text."""
    others = [kind for kind in journey.kinds if kind in values.OTHERS]
    assert [found for kind in others for found in journey.differing(kind, "text")] == []
    by_text = {kind.name for kind in others if journey.forms[kind.table] == {"whole text", "part text"}}
    assert {kind.name for kind in others} - by_text <= values.OF_TRUSTED


def test_the_servers_together_have_every_type(journey, postgres):
    """What is left out on one of them is not left out on all."""
    assert journey.lacking <= ({"vector"} if postgres.name == "container" else values.NEEDED - {"vector"})


def test_between_versions_all_travels_as_text(crossing):
    assert set().union(*crossing.forms.values()) == {"whole text", "part text"}
    assert [found for kind in crossing.kinds for found in crossing.differing(kind, "text")] == []


def test_verify_agrees(journey):
    source, clone, subset = journey.places.values()
    for report in (panicdb.verify(source, clone), panicdb.verify(journey.receipts["subset"], subset)):
        assert (report.ok, report.findings) == (True, ())


@pytest.mark.prove
def test_verify_agrees_whatever_it_is_given(journey):
    prove(journey)


@pytest.mark.prove
def test_verify_agrees_between_versions(crossing):
    prove(crossing)


def prove(made: Journey) -> None:
    """By the source, and by each sealed receipt alone."""
    source, clone, subset = made.places.values()
    reports = [
        panicdb.verify(source, clone),
        panicdb.verify(source, subset, roots=["1"], root="root"),
        panicdb.verify(source, subset, receipt=made.receipts["subset"]),
        panicdb.verify(made.receipts["clone"], clone),
        panicdb.verify(made.receipts["subset"], subset),
    ]
    assert [report.findings for report in reports] == [()] * len(reports)
    assert all(report.ok for report in reports)
    wrong = [
        panicdb.verify(source, subset),
        panicdb.verify(made.receipts["clone"], subset),
        panicdb.verify(made.receipts["subset"], clone),
    ]
    assert not any(report.ok for report in wrong)


CHOSEN = {
    "k_timestamp": ("infinity", "0001-12-31 23:59:59.999999 BC", "10000-01-01 00:00"),
    "k_timestamptz": ("-infinity", "1999-12-31 23:59:59.9Z"),
    "k_date": ("4714-11-24 BC", "5874897-12-31"),
    "k_time": ("24:00",),
    "k_timetz": ("24:00-15:59:59",),
    "k_interval": ("1 month", "P-1M1D", "178000000 years"),
    "k_numeric": ("nan", "-inf", "1.1000", "9" * 1000),
    "k_float8": ("NaN", "-infinity", "5e-324", "0.1"),
    "k_enum": ("sad", "ha, 'ha' \"{}\\"),
    "k_jsonb": ('{"a" : 2}', "1.00", "null"),
    "k_integers": ("[0:1]={1,2}", "{}"),
    "k_int4range": ("[2,5]", "empty", "(,)"),
    "k_composite": ('(2,"")',),
    "k_inet": ("192.168.0.1/24", "::ffff:1.2.3.4"),
    "k_uuid": ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
    "k_bpchar": ("a", "ab"),
    "k_char": ("A",),
    "k_bool": ("true",),
}


@pytest.mark.parametrize("table", CHOSEN)
def test_roots_are_named_in_any_spelling_that_the_server_reads(journey, table):
    """Keys that Python can't hold are found by the server; what a root owns comes along."""
    spelled = CHOSEN[table]
    decided = panicdb.plan(journey.places["source"], roots=spelled, root=table)
    there = {each.name: each for each in decided.tables}
    different = 1 if table == "k_uuid" else len(spelled)
    assert (there[table].rows, there[table].owned) == (different, different)
    assert there[table.replace("k_", "v_")].owned >= 2 * different
    assert there["root"].rows == len(values.ROOTS)


def test_a_value_that_an_older_server_does_not_know_is_not_shown(pair, cli, monkeypatch):
    """Infinite intervals came with PostgreSQL 17."""
    newer, older = sorted(pair, key=lambda server: -server.version)
    assert newer.version >= 17 > older.version
    monkeypatch.setenv("PANICDB_PG_DUMP", str(newer.binaries / "pg_dump"))
    with newer.tidying(), older.tidying():
        source = newer.create("CREATE TABLE waits (secret interval); INSERT INTO waits VALUES ('infinity')")
        for there in ("", "CREATE TABLE waits (secret interval)"):
            goal = older.url("values_older")
            if there:
                older.create(there, "values_older")
            done = cli("clone", source, goal, "--schema", "copy")
            assert done.exit_code == 4
            assert done.stderr.startswith("error: waits: the target's schema refused a row of the source: ")
            assert "infinity" not in done.output
            if not there:
                assert older.databases() & {"values_older"} == set()
        assert older.execute("SELECT count(*) FROM waits", "values_older") == [(0,)]


MEASURED = """
import resource, sys
from panicdb.__main__ import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


def measured(*arguments: str) -> tuple[float, str]:
    """Run panicdb as a process; return its largest memory in MB, and what it said."""
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1]) / MEGABYTE, done.stdout


@pytest.mark.prove
def test_one_value_may_be_large(pair, record_property, monkeypatch):
    """100 MB in one row: in binary and as text; a few copies of it in memory, not more."""
    newer, older = sorted(pair, key=lambda server: -server.version)
    monkeypatch.setenv("PANICDB_PG_DUMP", str(newer.binaries / "pg_dump"))
    script = """
    CREATE TABLE big (id int PRIMARY KEY, v bytea NOT NULL);
    ALTER TABLE big ALTER v SET STORAGE EXTERNAL;
    INSERT INTO big SELECT 1, decode(repeat('00ff5c2e0a09090a', 100 << 17), 'hex') || '\\x01'
    """
    with newer.tidying(), older.tidying():
        source = newer.create(script)
        older.create(name="values_large")
        for goal, form in ((newer.url("values_large"), "binary"), (older.url("values_large"), "text")):
            for command in (("clone",), ("verify",)):
                options = ("--schema", "copy") if command == ("clone",) else ()
                memory, _ = measured(*command, source, goal, *options)
                record_property("figures", f"one value of 100 MB, {form}, {command[0]}: {memory:.0f} MB")
                assert memory < LARGEST
        sizes = "SELECT length(v), md5(v) FROM big"
        there = [server.execute(sizes, "values_large") for server in (newer, older)]
        assert there == [newer.execute(sizes, source.rpartition("/")[2])] * 2
