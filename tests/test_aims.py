"""Whatever drivers of PostgreSQL are asked for, in each of their own ways, what they do is led to the draft."""

import inspect
import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from panicdb.guarded import aims, drivers
from panicdb.guarded.aims import Aim, read_conninfo, write_conninfo

pytestmark = pytest.mark.quick

AIM = Aim("/private", "draft")
THERE = {"host": "/private", "port": "5432", "dbname": "draft", "sslmode": "disable"}
SECRET = "hunter2"


class Refused(BaseException):
    pass


def refuse(name: str) -> None:
    raise Refused(name)


def asked(name: str, *arguments: Any, **options: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what a driver gets where it was asked for this; its secrets must be gone."""
    got = aims.WAYS[name](AIM, lambda *given, **named: (given, named), arguments, options)
    assert SECRET not in repr(got)
    assert "production" not in repr(got)
    return got


CONNINFOS = {
    "": {},
    "host=production password=hunter2": {},
    "host = 'production'  port=1 dbname=\\'x application_name='it\\'s mine'": {
        "application_name": "it's mine"
    },
    "user='some body' options='-c a=b'": {"user": "some body", "options": "-c a=b"},
    "postgresql://me:hunter2@production:1,other:2/app": {"user": "me"},
    "postgres://m%40e@production/app?options=-c%20a%3Db&sslmode=require": {
        "user": "m@e",
        "options": "-c a=b",
    },
    "postgresql://production/app?application_name=a+b&host=elsewhere": {"application_name": "a+b"},
    "postgresql:///app?service=production": {},
    "postgresql://[broken": {},
}


@pytest.mark.parametrize(("text", "kept"), CONNINFOS.items())
@pytest.mark.parametrize("name", ["psycopg.connect", "psycopg2._psycopg._connect", "psycopg.pq.PGconn"])
def test_an_address_for_libpq_leads_to_the_draft_and_keeps_what_is_no_place(name, text, kept):
    (got,), options = asked(name, text)
    assert read_conninfo(got) == {"user": "panicdb", **kept, **THERE}
    assert options == {}


def test_an_address_of_bytes_stays_one_of_bytes():
    (got,), _ = asked("psycopg.pq.pq_ctypes.PGconn.connect", b"host=production password=hunter2")
    assert isinstance(got, bytes)
    assert read_conninfo(got.decode()) == {"user": "panicdb", **THERE}


def test_names_of_psycopg_that_say_where_are_left_out():
    factory = object()
    said = {"host": "production", "hostaddr": "192.0.2.1", "password": SECRET, "dbname": "app", "user": "me"}
    more = {"sslmode": "verify-full", "autocommit": True, "row_factory": factory, "connect_timeout": 3}
    (got,), options = asked("psycopg.Connection.connect", conninfo="host=production", **said, **more)
    assert read_conninfo(got) == {"user": "me", **THERE}
    assert options == {"autocommit": True, "row_factory": factory, "connect_timeout": 3}


def test_names_of_psycopg2_that_say_where_are_left_out():
    (got,), options = asked("psycopg2.connect", database="app", password=SECRET, options="-c a=b", async_=1)
    assert read_conninfo(got) == {"user": "panicdb", **THERE}
    assert options == {"options": "-c a=b", "async_": 1}
    (got, factory), _ = asked("psycopg2._connect", "host=production", dict)
    assert factory is dict


@pytest.mark.parametrize("name", ["asyncpg.connect", "asyncpg.create_pool", "asyncpg.connection.connect"])
def test_asyncpg_gets_its_settings_from_an_address(name):
    url = "postgresql://me:hunter2@production/app?search_path=mine&sslmode=require"
    arguments, options = asked(name, url, ssl=True, min_size=1, server_settings={"work_mem": "1MB"})
    assert arguments == (None,)
    there = {"host": "/private", "port": 5432, "database": "draft", "user": "me", "ssl": False}
    settings = {"search_path": "mine", "work_mem": "1MB"}
    assert options == {**there, "min_size": 1, "server_settings": settings}


def test_asyncpg_s_inner_function_has_all_names_that_it_wants():
    given = {"dsn": "postgresql://production/app", "host": None, "password": SECRET, "service": "production"}
    arguments, options = asked("asyncpg.connect_utils._connect", loop=None, command_timeout=3, **given)
    assert arguments == ()
    assert options.keys() == {*given, "loop", "command_timeout", "port", "database", "user", "ssl"}
    assert (options["dsn"], options["service"], options["command_timeout"]) == (None, None, 3)
    _, options = asked("asyncpg.connect_utils._connect_addr", addr=("production", 5432), loop=1)
    assert options == {"addr": "/private/.s.PGSQL.5432", "loop": 1}


@pytest.mark.parametrize(
    ("arguments", "options", "kept"),
    [
        (("me", "production", "app", 1, SECRET), {}, {"user": "me"}),
        (
            (),
            {"user": "me", "host": "production", "ssl_context": 1, "timeout": 3},
            {"user": "me", "timeout": 3},
        ),
        ((), {"startup_params": {"a": "b"}}, {"user": "panicdb", "startup_params": {"a": "b"}}),
    ],
)
def test_pg8000_gets_a_socket(arguments, options, kept):
    for name in ("pg8000.connect", "pg8000.core.CoreConnection", "pg8000.native.Connection"):
        got = asked(name, *arguments, **options)
        assert got == ((), {**kept, "database": "draft", "unix_sock": "/private/.s.PGSQL.5432"})


def test_what_is_written_is_read_again():
    said = {"a": "", "b": "it's", "c": "\\", "d": " x = 'y' ", "e": "1"}
    assert read_conninfo(write_conninfo(said)) == said


def test_what_drivers_find_in_the_environment_is_forgotten():
    environment = {"PGHOST": "production", "PGSERVICE": "live", "PGOPTIONS": "-c a=b", "PATH": "/bin"}
    aims.forget(environment)
    assert environment == {"PGOPTIONS": "-c a=b", "PATH": "/bin"}


def test_every_way_is_one_of_something_that_opens():
    listed = {f"{module}.{name}" for module, names in drivers.OPENING.items() for name in names}
    assert set(aims.WAYS) <= listed


# What stands in front of a driver


@pytest.fixture
def watcher(monkeypatch) -> drivers.Watcher:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what drivers find there is forgotten
    return drivers.Watcher(refuse)


def module(**names: Any) -> Any:
    return SimpleNamespace(**names)


def closed(watcher: drivers.Watcher, monkeypatch, name: str, members: Mapping[str, Any]) -> Any:
    """Return a module as it is once a watcher has seen it."""
    made = module(**members)
    monkeypatch.setitem(__import__("sys").modules, name, made)
    watcher.close(name)
    return made


def test_a_function_is_closed_first_and_led_to_the_draft_later(watcher, monkeypatch):
    made = closed(watcher, monkeypatch, "psycopg2", {"connect": lambda dsn, **_: dsn})
    with pytest.raises(Refused, match=r"psycopg2\.connect"):
        made.connect("host=production")
    watcher.aim(AIM)
    assert read_conninfo(made.connect("host=production"))["host"] == "/private"


def test_a_function_of_a_class_makes_what_its_subclass_is(watcher, monkeypatch):
    class Connection:
        @classmethod
        def connect(cls, conninfo: str = "") -> tuple[type, str]:
            return cls, conninfo

    made = closed(watcher, monkeypatch, "psycopg", {"Connection": Connection})
    mine = type("Mine", (made.Connection,), {})
    with pytest.raises(Refused):
        mine.connect("")
    watcher.aim(AIM)
    kind, text = mine.connect("")
    assert kind is mine
    assert read_conninfo(text)["host"] == "/private"


class Connection:
    """As a driver in C has it: what the driver makes itself is of this class, not of the one in front of it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn


def test_a_class_is_stood_in_for_and_still_knows_its_own(watcher, monkeypatch):
    made = closed(watcher, monkeypatch, "psycopg2._psycopg", {"connection": Connection})
    with pytest.raises(Refused):
        made.connection("host=production")
    watcher.aim(AIM)
    mine = type("Mine", (made.connection,), {})
    for each in (made.connection("host=production"), mine("host=production")):
        assert read_conninfo(each.dsn)["host"] == "/private"
        assert isinstance(each, made.connection)
    assert isinstance(Connection(""), made.connection)
    assert not isinstance(Connection(""), mine)
    assert issubclass(mine, Connection)
    assert inspect.isclass(made.connection)


def test_a_handle_of_the_library_opens_nothing_by_being_made(watcher, monkeypatch):
    class PGconn:
        def __init__(self, pointer: int = 0) -> None:
            self.pointer = pointer

        @classmethod
        def connect(cls, conninfo: bytes) -> tuple[type, bytes]:
            return cls, conninfo

        connect_start = ping = connect

    made = closed(watcher, monkeypatch, "psycopg.pq", {"PGconn": PGconn})
    watcher.aim(AIM)
    assert made.PGconn(3).pointer == 3
    for name in ("connect", "connect_start", "ping"):
        kind, text = getattr(made.PGconn, name)(b"host=production")
        assert kind is PGconn
        assert read_conninfo(text.decode())["host"] == "/private"


def test_other_drivers_stay_closed(watcher, monkeypatch):
    watcher.aim(AIM)
    made = closed(watcher, monkeypatch, "pymysql", {"connect": lambda: None, "Connection": Connection})
    with pytest.raises(Refused):
        made.connect()
    with pytest.raises(Refused):
        made.Connection("")
