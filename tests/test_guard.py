"""Migrations are arbitrary code with an idea of its own where to write; it reaches the target and no other database.

tests/break_outs.py has the ways to try; docs/guard.md names them, with what stops each.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

import break_outs
from panicdb.errors import HistoryError, WrongDatabaseError
from panicdb.guarded import drivers, landlock
from panicdb.guarded.environment import redirected, scrubbed
from panicdb.guarded.targets import FILE, Target
from panicdb.histories import HistoryChoice, Recipe, configured_histories
from panicdb.replays import Goal, Order, Replayed, Replayer, ReplayError
from panicdb.values import Monitor

PAGE = Path(__file__).resolve().parent.parent / "docs" / "guard.md"
ENV = """
import sqlalchemy as sa
from alembic import context

engine = sa.create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=sa.pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "aaaa1111", None

def upgrade():
    op.create_table("made", sa.Column("id", sa.Integer, primary_key=True))
"""
CLIENT = """#!/bin/sh
printf spoiled >> "$1"
"""
SWALLOWED = """
try:
    {attempt}
except BaseException:
    pass
"""


@dataclass
class Application:
    """An application's folder with its history, and beside it the production database, which nothing may change."""

    folder: Path
    production: Path
    sockets: Path
    servers: dict[str, socket.socket]

    @property
    def decoy(self) -> Path:
        return self.production / "prod.db"

    @property
    def prey(self) -> break_outs.Prey:
        tcp, udp = (self.servers[name].getsockname()[1] for name in ("tcp", "udp"))
        return break_outs.Prey(str(self.decoy), str(self.folder), tcp, udp, str(self.sockets))

    def attempt(self, name: str) -> str:
        return f"__import__('break_outs').run({name!r}, __import__('break_outs').Prey{tuple(self.prey)!r})"

    def harm(self) -> tuple[object, ...]:
        """Return all that a break-out could have changed; equal before and after if it was stopped."""
        files = {
            path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_ino)
            for path in (self.production.iterdir() if self.production.exists() else ())
        }
        return files, tuple(name for name, server in self.servers.items() if was_connected(server))

    def write(self, *, env: str = "", migration: str = "") -> None:
        """Put code before what env.py does, and into what a migration does."""
        code = textwrap.indent(textwrap.dedent(migration), "    ")
        (self.folder / "env.py").write_text(textwrap.dedent(env) + ENV, encoding="utf-8")
        (self.folder / "versions" / "one.py").write_text(REVISION + code + "\n", encoding="utf-8")

    def replay(
        self, directory: Path, *, with_landlock: bool = False, recipe: Recipe | None = None
    ) -> Replayed:
        (history,) = configured_histories(HistoryChoice(), self.folder)
        if recipe is not None:
            history = type(history)(**{**vars(history), "recipe": recipe})
        made = directory / "made.db"
        made.write_bytes(b"")
        with closing(Replayer()) as replayer:
            order = Order(history, history.heads, landlock=with_landlock)
            return replayer.replay(order, Goal(directory, made), Monitor())


def was_connected(server: socket.socket) -> bool:
    try:
        if server.type == socket.SOCK_DGRAM:
            server.recv(100)
        else:
            server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def listening(address: object, family: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    server = socket.socket(family, kind)
    server.bind(address)
    if kind == socket.SOCK_STREAM:
        server.listen()
    server.setblocking(False)
    return server


def make_production(folder: Path) -> None:
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "prod.db")) as connection:
        connection.executescript("CREATE TABLE precious (id INTEGER); INSERT INTO precious VALUES (1), (2)")
    (folder / "prod.db-wal").write_bytes(b"")


def make_application(folder: Path) -> None:
    (folder / "versions").mkdir(parents=True)
    (folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s\nprepend_sys_path = .\nsqlalchemy.url = sqlite:///../production/prod.db\n"
    )
    shutil.copy(break_outs.__file__, folder)
    (folder / "clients").mkdir()
    for name in ("psql", "sqlite3", "innocent"):
        client = folder / "clients" / name
        client.write_text(CLIENT)
        client.chmod(0o700)


@pytest.fixture
def application(tmp_path) -> Iterator[Application]:
    """Make an application, its production database and servers that listen."""
    make_production(tmp_path / "production")
    make_application(tmp_path / "application")
    with ExitStack() as stack:
        # The names of sockets are short; those of pytest's folders are not.
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = {"postgresql": ".s.PGSQL.5432", "mysql": "mysqld.sock", "other": "other"}
        servers = {name: listening(str(sockets / file), socket.AF_UNIX) for name, file in names.items()}
        servers["udp"] = listening(("127.0.0.1", 0), socket.AF_INET, socket.SOCK_DGRAM)
        servers["tcp"] = listening(("127.0.0.1", 0), socket.AF_INET)
        for server in servers.values():
            stack.enter_context(server)
        made = Application(tmp_path / "application", tmp_path / "production", sockets, servers)
        made.write()
        yield made


@pytest.fixture
def run_directory(tmp_path) -> Path:
    """A private directory as the parent makes it."""
    directory = tmp_path / "run"
    directory.mkdir()
    return directory


def do_harm(application: Application, name: str, elsewhere: Path) -> bool:
    """Run a break-out as a plain program, on an application and a production of its own; tell whether it did harm."""
    make_production(elsewhere / "production")
    make_application(elsewhere / "application")
    alone = Application(
        elsewhere / "application", elsewhere / "production", application.sockets, application.servers
    )
    before = alone.harm()
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", alone.attempt(name)],
        cwd=alone.folder,
        check=False,
        capture_output=True,
        timeout=60,
    )
    return alone.harm() != before


def made_tables(directory: Path) -> list[str]:
    with closing(sqlite3.connect(directory / "made.db")) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]


# Breaking out


@pytest.mark.fault(20)
def test_every_break_out_is_stopped_and_written_down(application, run_directory, tmp_path):
    """Without the kernel's help, and although the exceptions are swallowed; each in a process of its own."""
    report = tmp_path / "report.json"
    violations = run_directory / "violations"
    application.write(
        env=f"""
        import break_outs
        break_outs.run_all(break_outs.Prey{tuple(application.prey)!r}, {str(violations)!r}, {str(report)!r})
        """
    )
    before = application.harm()
    with pytest.raises(WrongDatabaseError):
        application.replay(run_directory)
    assert application.harm() == before
    noted = json.loads(report.read_text())
    assert noted.keys() == break_outs.STOPPED.keys()
    assert [name for name, size in noted.items() if not size] == []


@pytest.mark.prove
@pytest.mark.parametrize("name", sorted({*break_outs.STOPPED} - break_outs.HARMLESS_ALONE))
def test_what_a_break_out_does_alone_is_harm_and_in_env_py_it_is_stopped(
    name, application, run_directory, tmp_path
):
    """Without the kernel's help, and although env.py swallows whatever is raised."""
    assert do_harm(application, name, tmp_path / "alone"), "this proves nothing"
    application.write(env=SWALLOWED.format(attempt=application.attempt(name)))
    before = application.harm()
    with pytest.raises(WrongDatabaseError):
        application.replay(run_directory)
    assert application.harm() == before


@pytest.mark.parametrize("name", ["connect_path", "attach_bound", "program_list"])
def test_a_migration_can_break_out_as_little_as_env_py(name, application, run_directory):
    application.write(migration=application.attempt(name))
    before = application.harm()
    with pytest.raises(WrongDatabaseError):
        application.replay(run_directory)
    assert application.harm() == before


@pytest.mark.parametrize("name", sorted(break_outs.FAILING))
def test_the_network_fails_with_an_ordinary_error(name, application, run_directory, tmp_path):
    """Applications send figures home as they are imported, and can do without."""
    assert do_harm(application, name, tmp_path / "alone"), "this proves nothing"
    before = application.harm()
    application.write(
        env=f"""
        try:
            {application.attempt(name)}
        except PermissionError as error:
            assert "migrations run without" in str(error)
        else:
            raise AssertionError
        """
    )
    application.replay(run_directory)
    assert "made" in made_tables(run_directory)
    assert application.harm() == before


def test_who_needs_the_network_is_told_why_there_is_none(application, run_directory):
    application.write(env=application.attempt("tcp_connect"))
    with pytest.raises(ReplayError, match=r"PermissionError: .*migrations run without a network"):
        application.replay(run_directory)


def protection_here() -> str:
    version = landlock.version()
    return "" if not version else "Landlock (files)" if version < 4 else "Landlock (files, TCP)"


@pytest.mark.parametrize("name", sorted(break_outs.CONFINED))
def test_what_the_guard_can_not_see_the_kernel_stops_or_the_run_says_it_did_not(
    name, application, run_directory, tmp_path
):
    """Where the kernel has no Landlock, nothing claims that there was such a protection."""
    assert do_harm(application, name, tmp_path / "alone"), "this proves nothing"
    application.write(env=SWALLOWED.format(attempt=application.attempt(name)))
    before = application.harm()
    replayed = application.replay(run_directory, with_landlock=True)
    assert replayed.protection == protection_here()
    if "TCP" in replayed.protection or (replayed.protection and name != "libc_tcp"):
        assert application.harm() == before
    assert "made" in made_tables(run_directory)


def test_with_the_kernel_s_help_the_guard_still_tells(application, run_directory):
    names = (
        "connect_path",
        "file_append",
        "file_removed",
        "file_renamed",
        "library_loaded",
        "python_started",
    )
    attempts = [SWALLOWED.format(attempt=application.attempt(name)) for name in names]
    application.write(env="".join(attempts))
    before = application.harm()
    with pytest.raises(WrongDatabaseError, match=rf"; and {len(names) - 5} more"):
        application.replay(run_directory, with_landlock=True)
    assert application.harm() == before


# Engines and connections


def test_every_engine_leads_to_the_target(application, run_directory):
    """Whatever address it was given, of whichever database, and whatever was to make its connections."""
    application.write(
        env=f"""
        import os
        import sqlite3
        import sqlalchemy as sa
        from alembic import context

        target = context.config.get_main_option("sqlalchemy.url").partition("///")[2]
        here = "sqlite:///" + {str(application.decoy)!r}
        for engine in (
            sa.create_engine(here),
            sa.create_engine(sa.make_url("postgresql+psycopg2://me:secret@production/app"), pool_size=3),
            sa.create_engine("mysql+pymysql://production/app", connect_args={{"ssl": {{}}}}),
            sa.create_engine("sqlite://", creator=lambda: sqlite3.connect({str(application.decoy)!r})),
            sa.engine_from_config({{"sqlalchemy.url": here}}),
        ):
            with engine.begin() as connection:
                (row,) = connection.exec_driver_sql("PRAGMA database_list").fetchall()
                assert os.path.samefile(row[2], target), row
        """
    )
    before = application.harm()
    application.replay(run_directory)
    assert "made" in made_tables(run_directory)
    assert application.harm() == before


def test_a_connection_that_can_not_prove_where_it_leads_is_refused(application, run_directory):
    """Of whichever driver: what says nothing of files is no SQLite."""
    application.write(
        env="""
        import sqlalchemy as sa

        class Connection:
            def cursor(self):
                return self
            def execute(self, statement):
                raise RuntimeError("syntax error")
            def close(self):
                pass
            commit = rollback = close
        try:
            sa.pool.NullPool(Connection).connect()
        except BaseException:
            pass
        """
    )
    with pytest.raises(WrongDatabaseError, match="none of SQLite"):
        application.replay(run_directory)


def test_migrations_without_a_connection_are_refused(application, run_directory):
    application.write(
        env="from alembic import context\ncontext.configure(url='postgresql://production/app')\n"
    )
    with pytest.raises(WrongDatabaseError, match="without a connection"):
        application.replay(run_directory)


# Drivers

NATIVE = """
import ctypes
import os

def spoil(*_, **__):
    libc = ctypes.CDLL(None)
    file = libc.open(os.environ["DECOY"].encode(), os.O_WRONLY | os.O_APPEND)
    libc.write(file, b"spoiled", 7)
    libc.close(file)

class Opening:
    def __init__(self, *_, **__):
        spoil()
"""
CALL_ALL = """
import importlib
for module, name in {names!r}:
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        found("host=production")
    except BaseException:
        pass
"""


def make_drivers(folder: Path, modules: dict[str, tuple[str, ...]]) -> None:
    """Make packages of the names of drivers, whose functions write where Python's audit hooks see nothing."""
    (folder / "native_code.py").write_text(NATIVE)
    for module, names in modules.items():
        package = folder.joinpath(*module.split("."))
        for level in (package, *package.parents[: module.count(".")]):
            level.mkdir(parents=True, exist_ok=True)
            (level / "__init__.py").touch()
        (package / "__init__.py").write_text(driver_text(names))


def driver_text(names: tuple[str, ...]) -> str:
    """A name with a dot is a method; of the others, those in capitals are classes."""
    lines = ["from native_code import Opening, spoil"]
    classes = {name.partition(".")[0] for name in names if "." in name or name[0].isupper()}
    for owner in sorted(classes):
        methods = [name.partition(".")[2] for name in names if name.startswith(f"{owner}.")]
        body = [f"    {method} = staticmethod(spoil)" for method in methods] or ["    pass"]
        lines += [f"class {owner}({'Opening' if owner in names else 'object'}):", *body]
    return "\n".join(
        [*lines, *(f"{name} = spoil" for name in names if name not in classes and "." not in name)]
    )


def test_every_driver_that_is_known_is_closed_as_it_is_imported(application, run_directory, monkeypatch):
    """The packages here stand for drivers in C: what they do, no audit hook can see."""
    make_drivers(application.folder, drivers.OPENING)
    names = [(module, name) for module, all_of_it in drivers.OPENING.items() for name in all_of_it]
    code = CALL_ALL.format(names=names)
    monkeypatch.setenv("DECOY", str(application.decoy))
    spared, spoiled = application.decoy.read_bytes(), b"spoiled" * len(names)
    subprocess.run([sys.executable, "-c", code], cwd=application.folder, check=True)
    assert application.decoy.read_bytes() == spared + spoiled, "this proves nothing"
    application.decoy.write_bytes(spared)
    before = application.harm()
    application.write(env=code)
    with pytest.raises(WrongDatabaseError, match=f"psycopg.connect would .*; and {len(names) - 5} more"):
        application.replay(run_directory)
    assert application.harm() == before


DRIVER_CALLS = {
    "psycopg": "psycopg.connect('')",
    "psycopg_from": "from psycopg import Connection; Connection.connect('')",
    "psycopg_subclass": "type('Mine', (psycopg.Connection,), {}).connect('')",
    "psycopg_async": "asyncio.run(psycopg.AsyncConnection.connect(''))",
    "psycopg2": "import psycopg2; psycopg2.connect('')",
    "asyncpg": "import asyncpg; asyncio.run(asyncpg.connect(''))",
    "pymysql": "import pymysql; pymysql.connections.Connection('')",
    "apsw": "import apsw; apsw.Connection('')",
    "apsw_subclass": "import apsw; type('Mine', (apsw.Connection,), {})('')",
    "looked_for_first": "importlib.util.find_spec('apsw'); import apsw; apsw.Connection('')",
    "reloaded": "import apsw; importlib.reload(apsw); apsw.Connection('')",
    "found_by_another_finder": (
        "sys.meta_path.insert(0, importlib.machinery.PathFinder); import apsw; apsw.Connection('')"
    ),
}


@pytest.mark.parametrize("name", sorted(DRIVER_CALLS))
def test_a_driver_is_closed_however_it_is_come_by(name, application, run_directory, monkeypatch):
    """The packages here stand for drivers in C: what they do, no audit hook can see."""
    chosen = ("psycopg", "psycopg2", "asyncpg", "pymysql.connections", "apsw")
    make_drivers(application.folder, {module: drivers.OPENING[module] for module in chosen})
    text = (application.folder / "psycopg" / "__init__.py").read_text()
    assert "class AsyncConnection" in text
    (application.folder / "pymysql" / "__init__.py").write_text("from . import connections\n")
    monkeypatch.setenv("DECOY", str(application.decoy))
    imports = "import asyncio, importlib, importlib.machinery, importlib.util, sys\nimport psycopg\n"
    code = imports + DRIVER_CALLS[name]
    spared = application.decoy.read_bytes()
    subprocess.run([sys.executable, "-c", code], cwd=application.folder, check=False, capture_output=True)
    assert application.decoy.read_bytes() != spared, "this proves nothing"
    application.decoy.write_bytes(spared)
    before = application.harm()
    application.write(env=imports + SWALLOWED.format(attempt=DRIVER_CALLS[name]))
    with pytest.raises(WrongDatabaseError):
        application.replay(run_directory)
    assert application.harm() == before


def test_aiosqlite_is_guarded_as_sqlite3_is(application, run_directory):
    application.write(
        env=f"""
        import asyncio
        import aiosqlite

        async def spoil():
            async with aiosqlite.connect({str(application.decoy)!r}) as connection:
                await connection.execute("INSERT INTO precious VALUES (0)")
                await connection.commit()
        try:
            asyncio.run(spoil())
        except BaseException:
            pass
        """
    )
    before = application.harm()
    with pytest.raises(WrongDatabaseError):
        application.replay(run_directory)
    assert application.harm() == before


def test_a_driver_that_loads_its_library_into_python_can_be_imported_but_not_used(application, run_directory):
    """Pure psycopg does: who only catches its exceptions has broken out of nothing."""
    make_drivers(application.folder, {"psycopg.pq._pq_ctypes": drivers.OPENING["psycopg.pq._pq_ctypes"]})
    module = application.folder / "psycopg" / "pq" / "_pq_ctypes" / "__init__.py"
    with module.open("a") as file:
        file.write("\nimport ctypes, _sqlite3\nlibrary = ctypes.CDLL(getattr(_sqlite3, '__file__', None))\n")
        file.write("library.sqlite3_open\n")
    application.write(env="import psycopg.pq._pq_ctypes\n")
    application.replay(run_directory)
    assert "made" in made_tables(run_directory)
    (run_directory / "made.db").unlink()
    application.write(env="import psycopg.pq._pq_ctypes as pq\npq.PQconnectdb(b'')\n")
    with pytest.raises(WrongDatabaseError, match="PQconnectdb would open a connection"):
        application.replay(run_directory)


def test_a_module_in_c_finds_the_types_that_it_was_compiled_with(application, run_directory):
    """Compiled psycopg looks one up in another module as it is imported; only then can that be closed."""
    early = "class PGconn:\n    vtable = 1\n    connect = staticmethod(lambda *_: None)\n"
    late = "from psycopg_binary import pq\nassert 'vtable' in vars(pq.PGconn)\nconnect = None\n"
    package = application.folder / "psycopg_binary"
    package.mkdir()
    for name, text in {"__init__": "", "pq": early, "_psycopg": late}.items():
        (package / f"{name}.py").write_text(text)
    imports = "from psycopg_binary import pq, _psycopg\n"
    application.write(env=imports)
    application.replay(run_directory)
    (run_directory / "made.db").unlink()
    application.write(env=f"{imports}pq.PGconn.connect(b'')\n")
    with pytest.raises(WrongDatabaseError, match=r"psycopg_binary\.pq\.PGconn would open"):
        application.replay(run_directory)


# What is no harm

HARMLESS = """
import contextlib
import ctypes
import ctypes.util
import importlib.util
import logging
import multiprocessing
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import uuid
import wsgiref.simple_server
from pathlib import Path

platform.platform(), platform.libc_ver(), uuid.getnode(), uuid.uuid1(), ctypes.util.find_library("c")
ctypes.util.find_library("sqlite3"), ctypes.CDLL(None).getpid()
subprocess.run(["uname", "-a"], check=True)
subprocess.run("uname | cat; echo done", shell=True, check=True)
os.popen("uname").read()
multiprocessing.get_context("fork").Process(target=int).start()
with contextlib.suppress(OSError):  # Landlock closes /dev/shm
    multiprocessing.get_context("spawn").Lock()  # which starts a Python of its own
threading.Thread(target=int).start()
left, right = socket.socketpair()
socket.send_fds(left, [b"x"], [0])
assert importlib.util.find_spec("psycopg_that_is_not_here") is None

DECOY = {decoy!r}
assert Path(DECOY).read_bytes().startswith(b"SQLite format 3")
shutil.copyfile(DECOY, os.path.join(tempfile.mkdtemp(), "copy.db"))
shutil.rmtree(tempfile.gettempdir())
os.mkdir(tempfile.gettempdir())

for memory in (":memory:", ""):
    connection = sqlite3.connect(memory)
    connection.execute("CREATE TABLE a (b)")
    connection.executescript("ATTACH ':memory:' AS c; ATTACH '' AS d; VACUUM")
    connection.backup(sqlite3.connect("file::memory:?cache=shared", uri=True))
    connection.close()

from alembic import context
target = context.config.get_main_option("sqlalchemy.url").partition("///")[2]
os.symlink(target, os.path.join(tempfile.gettempdir(), "link.db"))

class Application(sqlite3.Connection):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.row_factory = lambda cursor, row: dict(zip([each[0] for each in cursor.description], row))
        self.text_factory = bytes
        self.set_authorizer(lambda *_: sqlite3.SQLITE_OK)

for number, (name, options) in enumerate([
    (target, dict()), (os.fsencode(target), dict()), (Path(target), dict(factory=Application)),
    (os.path.relpath(target), dict(isolation_level=None)), ("file:" + target + "?mode=rw", dict(uri=True)),
    (os.path.join(tempfile.gettempdir(), "link.db"), dict(factory=Application)),
]):
    connection = sqlite3.connect(name, **options)
    assert isinstance(connection, sqlite3.Connection)
    connection.execute(f"CREATE TABLE made_{{number}} (id)")
    connection.execute("ATTACH '" + target + "' AS again")
    assert list(connection.execute("SELECT 1 AS one").fetchone()) in ([1], ["one"])
    connection.close()
for end in ("-journal", "-wal", "-shm"):
    open(target + end, "wb").close()
    os.remove(target + end)
"""


@pytest.mark.parametrize("with_landlock", [False, True])
def test_what_does_no_harm_is_not_stopped(with_landlock, application, run_directory):
    """Files of its own, memory, the target by any name, programs that applications start as they are imported."""
    application.write(env=HARMLESS.format(decoy=str(application.decoy)))
    before = application.harm()
    replayed = application.replay(run_directory, with_landlock=with_landlock)
    assert replayed.protection == (protection_here() if with_landlock else "")
    assert made_tables(run_directory) == [
        "alembic_version",
        "made",
        *(f"made_{n}" for n in range(6)),
        "sqlite_autoindex_alembic_version_1",
    ]
    assert application.harm() == before


# The handshake


def fake_interpreter(folder: Path, code: str) -> str:
    """Make what takes an interpreter's place: it is given our script's path and its socket, and does as it likes."""
    script = folder / "interpreter"
    script.write_text(f"#!{sys.executable}\n{textwrap.dedent(code)}")
    script.chmod(stat.S_IRWXU)
    return str(script)


IMPOSTOR = """
import json, os, socket
channel = socket.socket(fileno=0)
data, descriptors, _, _ = socket.recv_fds(channel, 1 << 20, 16)
request = json.loads(data)
with open(os.path.join(request["directory"], "reply.json"), "w") as file:
    json.dump({"ok": True, "steps": [], "protection": "Landlock (files, TCP)"}, file)
"""


def test_a_child_that_was_not_guarded_is_not_believed(application, run_directory, tmp_path):
    recipe = Recipe(python=fake_interpreter(tmp_path, IMPOSTOR))
    with pytest.raises(WrongDatabaseError, match="without their guard"):
        application.replay(run_directory, recipe=recipe)


def test_a_child_with_another_run_s_handshake_is_not_believed(application, run_directory, tmp_path):
    other = 'open(os.path.join(request["directory"], "guarded"), "w").write("0123456789abcdef" * 2)\n'
    recipe = Recipe(python=fake_interpreter(tmp_path, IMPOSTOR + other))
    with pytest.raises(WrongDatabaseError, match="without their guard"):
        application.replay(run_directory, recipe=recipe)


def test_a_child_that_says_nothing_has_failed(application, run_directory, tmp_path):
    with pytest.raises(HistoryError, match="ended before it began"):
        application.replay(run_directory, recipe=Recipe(python=fake_interpreter(tmp_path, "pass")))


@pytest.mark.parametrize(
    "end",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os._exit(0)",
        "sys.exit(0)",
        "os.closerange(3, 1000)",
        "os.chdir('/')",
        "[os.open(os.devnull, os.O_RDONLY) for _ in range(10)]",
    ],
)
def test_a_violation_counts_whatever_becomes_of_its_process(end, application, run_directory):
    attempt = SWALLOWED.format(attempt=application.attempt("connect_path"))
    application.write(env=f"import os, signal, sys\n{attempt}\n{end}\n")
    with pytest.raises(WrongDatabaseError, match=r"prod\.db would be opened"):
        application.replay(run_directory)


def test_a_violation_counts_after_descriptors_were_closed(application, run_directory):
    """As programs do that become daemons."""
    attempt = SWALLOWED.format(attempt=application.attempt("connect_path"))
    application.write(env=f"import os\nos.closerange(3, 1000)\n{attempt}")
    before = application.harm()
    with pytest.raises(WrongDatabaseError, match=r"prod\.db would be opened"):
        application.replay(run_directory)
    assert application.harm() == before


def test_without_a_place_to_write_it_down_a_violation_ends_the_process(application, run_directory):
    attempt = SWALLOWED.format(attempt=application.attempt("connect_path"))
    limit = "resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))"
    application.write(env=f"import break_outs, resource\n{limit}\n{attempt}")
    before = application.harm()
    with pytest.raises(ReplayError, match="ended early"):
        application.replay(run_directory)
    assert application.harm() == before


# The environment

ADDRESSES = {
    "DATABASE_URL": "postgresql://me:secret@production:5432/app",
    "WITH_DRIVER": "postgresql+psycopg2://me:secret@production/app",
    "OLD_SCHEME": "postgres://me:secret@production/app",
    "IN_CAPITALS": "PostgreSQL://me:secret@production/app",
    "ODD_PORT": "mysql+pymysql://me:secret@production:port/app",
    "MANY_HOSTS": "postgresql://me:secret@one:1,two:2/app",
    "QUERY": "postgresql:///app?host=/var/run/postgresql&user=me&password=secret",
    "ODD_QUERY": "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D%3BPWD%3Dsecret",
    "SQLITE": "sqlite:////srv/production.db",
    "SQLITE_ASYNC": "sqlite+aiosqlite:////srv/production.db",
    "ASYNC": "postgresql+asyncpg://me:secret@production/app",
    "PASSWORD_WITH_SIGNS": "mariadb+mariadbconnector://me:p%40ss/w#rd@production/app",
    "WITH_SPACE": " postgresql://me:secret@production/app",
}
DRIVERS_OWN = dict.fromkeys(
    [
        *("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGSERVICE"),
        *("PGSERVICEFILE", "PGOPTIONS", "MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT", "MYSQL_PWD"),
    ],
    "secret",
)
OURS = {"PANICDB_SOURCE": "/srv/production.db", "PANICDB_TARGET": "x.db", "PANICDB_EXPORT_TIMEOUT": "3"}
ORDINARY = {
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "APP_URL": "https://example.org/?next=postgresql",
    "BROKER_URL": "amqp://guest@localhost//",
    "EMPTY": "",
    "ODD": "://",
    "PGADMIN_THEME": "dark",
}


@pytest.mark.quick
def test_an_environment_is_scrubbed_of_addresses_and_of_what_drivers_read():
    assert scrubbed({**ADDRESSES, **DRIVERS_OWN, **OURS, **ORDINARY}) == ORDINARY


@pytest.mark.quick
def test_an_address_becomes_the_target_s_with_a_driver_of_the_same_kind():
    found = dict(
        redirected({**ADDRESSES, **DRIVERS_OWN, **OURS, **ORDINARY}, Target(FILE, "/private/made.db"))
    )
    asynchronous = {"ASYNC", "SQLITE_ASYNC"}
    assert found == {
        name: f"sqlite{'+aiosqlite' if name in asynchronous else ''}:////private/made.db"
        for name in ADDRESSES
    }


def test_the_child_lives_in_a_private_directory_and_knows_no_address(
    application, run_directory, tmp_path, monkeypatch
):
    for name, value in {**ADDRESSES, **DRIVERS_OWN, **OURS, **ORDINARY, "PATH": os.environ["PATH"]}.items():
        monkeypatch.setenv(name, value)
    seen = tmp_path / "seen.json"
    application.write(
        env=f"""
        import json, os, tempfile
        with open({str(seen)!r}, "w") as file:
            known = dict(os.environ) | {{"expanded": os.path.expanduser("~"), "temporary": tempfile.gettempdir()}}
            json.dump(known, file)
        """
    )
    application.replay(run_directory)
    child = json.loads(seen.read_text())
    assert not {*DRIVERS_OWN, *OURS} & {*child}
    assert not [name for name, value in child.items() if "secret" in value or "production.db" in value]
    assert {name: child[name] for name in {*ORDINARY} - {"PATH"}} == {
        name: value for name, value in ORDINARY.items() if name != "PATH"
    }
    assert all(child[name].endswith(f":///{run_directory}/made.db") for name in ADDRESSES)
    home, temporary = str(run_directory / "home"), str(run_directory / "tmp")
    assert (child["HOME"], child["expanded"]) == (home, home)
    assert (child["TMPDIR"], child["temporary"]) == (temporary, temporary)
    assert os.listdir(run_directory) == ["made.db"]


# The page


@pytest.mark.quick
def test_the_page_names_every_break_out_and_every_row_has_one():
    """docs/guard.md is what users rely on: a route that it lists is tried, and what is tried is listed.

    What it says of servers is looked after in tests/test_guard_postgresql.py.
    """
    rows = [
        re.findall(r"`(\w+)`", line.rstrip("| ").rpartition("|")[2])
        for line in PAGE.read_text(encoding="utf-8").partition("\n## On a server")[0].splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| route"))
    ]
    tests = {name for name in globals() if name.startswith("test_")}
    tried = {*break_outs.STOPPED, *break_outs.FAILING, *break_outs.CONFINED, *DRIVER_CALLS}
    assert all(rows), "a row names no break-out"
    named = {name for row in rows for name in row}
    assert named - tried <= tests
    assert tried - named == set()
