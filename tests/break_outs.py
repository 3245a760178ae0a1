"""Ways to reach a database that is not the target: what migrations do by mistake, and what could be tried on purpose.

Each is a function that gets its prey, and is run twice by tests/test_guard.py: as a plain program, where it has to do
harm (else it would prove nothing), and inside env.py or a migration, where it must not. It stands beside them as a
module, under the application's interpreter: standard library only. docs/guard.md names all of them.
"""

import asyncio
import contextlib
import ctypes
import json
import multiprocessing
import os
import pty
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

SPOILED = b"spoiled"
INSERT = "INSERT INTO precious VALUES (0)"


class Prey(NamedTuple):
    """What a break-out is after."""

    decoy: str
    """The production database: a SQLite file with a table `precious`."""
    folder: str
    """The application's own folder, where it may put what it needs."""
    port: int
    """Of a TCP server on 127.0.0.1."""
    datagrams: int
    """Of one for datagrams."""
    sockets: str
    """The folder of the sockets of local servers: `.s.PGSQL.5432`, `mysqld.sock` and `other`."""


BreakOut = Callable[[Prey], object]
STOPPED: dict[str, BreakOut] = {}
"""By the guard alone; the run fails even if the application swallows the exception."""
FAILING: dict[str, BreakOut] = {}
"""By the guard alone, with an ordinary error: what is not reached may be done without."""
CONFINED: dict[str, BreakOut] = {}
"""By the kernel's Landlock alone."""
HARMLESS_ALONE = frozenset({"load_extension"})
"""What can't show the harm that it could do: there is no such library to be loaded."""


def stopped(function: BreakOut) -> BreakOut:
    STOPPED[function.__name__] = function
    return function


def failing(function: BreakOut) -> BreakOut:
    FAILING[function.__name__] = function
    return function


def confined(function: BreakOut) -> BreakOut:
    CONFINED[function.__name__] = function
    return function


def run(name: str, prey: Prey) -> None:
    """Break out in one way."""
    {**STOPPED, **FAILING, **CONFINED}[name](prey)


def run_all(prey: Prey, violations: str, report: str) -> None:
    """Break out in every way that is stopped, each in a process of its own; tell of each how much was noted."""
    noted = {}
    for name in STOPPED:
        before = os.path.getsize(violations) if os.path.exists(violations) else 0
        process = os.fork()
        if not process:
            with contextlib.suppress(BaseException):
                run(name, prey)
            os._exit(0)
        os.waitpid(process, 0)
        noted[name] = os.path.getsize(violations) - before if os.path.exists(violations) else 0
    Path(report).write_text(json.dumps(noted))


def spoil(connection: sqlite3.Connection, table: str = "precious") -> None:
    connection.execute(f"INSERT INTO {table} VALUES (0)")
    connection.commit()
    connection.close()


# sqlite3, by the names that a file has


@stopped
def connect_path(prey: Prey) -> None:
    spoil(sqlite3.connect(prey.decoy))


@stopped
def connect_keyword(prey: Prey) -> None:
    spoil(sqlite3.connect(database=prey.decoy))


@stopped
def connect_bytes(prey: Prey) -> None:
    spoil(sqlite3.connect(os.fsencode(prey.decoy)))


@stopped
def connect_pathlib(prey: Prey) -> None:
    spoil(sqlite3.connect(Path(prey.decoy)))


@stopped
def connect_dotted(prey: Prey) -> None:
    folder, name = os.path.split(prey.decoy)
    spoil(sqlite3.connect(f"{folder}/../{os.path.basename(folder)}/./{name}"))


@stopped
def connect_relative(prey: Prey) -> None:
    os.chdir(os.path.dirname(prey.decoy))
    try:
        spoil(sqlite3.connect(os.path.basename(prey.decoy)))
    finally:
        os.chdir(prey.folder)


@stopped
def connect_symlink(prey: Prey) -> None:
    link = os.path.join(prey.folder, "link.db")
    os.symlink(prey.decoy, link)
    spoil(sqlite3.connect(link))


@stopped
def connect_linked_folder(prey: Prey) -> None:
    link = os.path.join(prey.folder, "linked")
    os.symlink(os.path.dirname(prey.decoy), link)
    spoil(sqlite3.connect(os.path.join(link, os.path.basename(prey.decoy))))


@stopped
def connect_hard_link(prey: Prey) -> None:
    link = os.path.join(prey.folder, "hard.db")
    os.link(prey.decoy, link)
    spoil(sqlite3.connect(link))


@stopped
def connect_new_file(prey: Prey) -> None:
    connection = sqlite3.connect(prey.decoy + ".new")
    connection.execute("CREATE TABLE made (id)")
    connection.close()


@stopped
def uri_mode(prey: Prey) -> None:
    spoil(sqlite3.connect(f"file:{prey.decoy}?mode=rw", uri=True))


@stopped
def uri_encoded(prey: Prey) -> None:
    spoil(sqlite3.connect("file:" + "".join(f"%{byte:02x}" for byte in os.fsencode(prey.decoy)), uri=True))


@stopped
def uri_authority(prey: Prey) -> None:
    spoil(sqlite3.connect(f"file://localhost{quote(prey.decoy)}", uri=True))


@stopped
def uri_slashes(prey: Prey) -> None:
    spoil(sqlite3.connect(f"file://{quote(prey.decoy)}?cache=private#fragment", uri=True))


@stopped
def uri_vfs(prey: Prey) -> None:
    spoil(sqlite3.connect(f"file:{prey.decoy}?vfs=unix-none", uri=True))


@stopped
def uri_memory_in_name(prey: Prey) -> None:
    """A path that begins with what usually stands for a database in memory."""
    os.mkdir(":memory:")
    spoil(sqlite3.connect(f"file::memory:/../{os.path.relpath(prey.decoy)}", uri=True))


# sqlite3, by other names of what opens


@stopped
def connect_c_module(prey: Prey) -> None:
    import _sqlite3  # noqa: PLC0415

    spoil(_sqlite3.connect(prey.decoy))


@stopped
def connect_dbapi2(prey: Prey) -> None:
    from sqlite3 import dbapi2  # noqa: PLC0415

    spoil(dbapi2.connect(prey.decoy))


@stopped
def connection_class(prey: Prey) -> None:
    spoil(sqlite3.Connection(prey.decoy))


@stopped
def connection_subclass(prey: Prey) -> None:
    class Mine(sqlite3.Connection):
        pass

    spoil(Mine(prey.decoy))


@stopped
def connect_factory_class(prey: Prey) -> None:
    class Mine(sqlite3.Connection):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__(prey.decoy)

    spoil(sqlite3.connect(":memory:", factory=Mine))


@stopped
def connect_factory_function(prey: Prey) -> None:
    spoil(sqlite3.connect(":memory:", factory=lambda *_, **__: sqlite3.Connection(prey.decoy)))


@stopped
def connect_again(prey: Prey) -> None:
    connection = sqlite3.connect(":memory:")
    connection.__init__(prey.decoy)
    spoil(connection)


def original_class() -> type[sqlite3.Connection]:
    return next(each for each in sqlite3.Connection.__mro__[::-1] if each.__name__ == "Connection")


@stopped
def original_class_by_mro(prey: Prey) -> None:
    spoil(original_class()(prey.decoy))


@stopped
def original_class_then_attach(prey: Prey) -> None:
    """Nothing is wrong with what it opens; but such a connection would ask nobody before it attaches more."""
    connection = original_class()(":memory:")
    connection.execute("ATTACH ? AS other", (prey.decoy,))
    spoil(connection, "other.precious")


@stopped
def original_class_as_factory(prey: Prey) -> None:
    connection = sqlite3.connect(":memory:", factory=lambda *arguments, **_: original_class()(*arguments))
    connection.execute("ATTACH ? AS other", (prey.decoy,))
    spoil(connection, "other.precious")


@stopped
def connect_in_thread(prey: Prey) -> None:
    thread = threading.Thread(target=lambda: spoil(sqlite3.connect(prey.decoy)))
    threading.excepthook = lambda *_: None
    thread.start()
    thread.join()


@stopped
def connect_in_fork(prey: Prey) -> None:
    process = os.fork()
    if not process:
        try:
            spoil(sqlite3.connect(prey.decoy))
        finally:
            os._exit(0)
    os.waitpid(process, 0)


@stopped
def connect_in_multiprocessing(prey: Prey) -> None:
    process = multiprocessing.get_context("fork").Process(target=connect_path, args=(prey,))
    process.start()
    process.join()


@stopped
def connect_in_interpreter(prey: Prey) -> None:
    """An audit hook of Python belongs to one interpreter; a process can have several."""
    name = "_interpreters" if util.find_spec("_interpreters") else "_xxsubinterpreters"
    interpreters = __import__(name)
    code = f"import sqlite3; c = sqlite3.connect({prey.decoy!r}); c.execute({INSERT!r}); c.commit()"
    interpreters.run_string(interpreters.create(), code)


# SQLite itself


@stopped
def attach_literal(prey: Prey) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"ATTACH '{prey.decoy}' AS other")
    spoil(connection, "other.precious")


@stopped
def attach_bound(prey: Prey) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("ATTACH ? AS other", (prey.decoy,))
    spoil(connection, "other.precious")


@stopped
def attach_computed(prey: Prey) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"ATTACH '{prey.decoy[:3]}' || '{prey.decoy[3:]}' AS other")
    spoil(connection, "other.precious")


@stopped
def attach_uri(prey: Prey) -> None:
    connection = sqlite3.connect("file::memory:", uri=True)
    connection.execute(f"ATTACH 'file:{quote(prey.decoy)}?mode=rw' AS other")
    spoil(connection, "other.precious")


@stopped
def attach_in_script(prey: Prey) -> None:
    sqlite3.connect(":memory:").executescript(
        f"ATTACH '{prey.decoy}' AS other; INSERT INTO other.precious VALUES (0)"
    )


@stopped
def attach_without_authorizer(prey: Prey) -> None:
    connection = sqlite3.connect(":memory:")
    connection.set_authorizer(None)
    connection.execute(f"ATTACH '{prey.decoy}' AS other")
    spoil(connection, "other.precious")


@stopped
def attach_with_own_authorizer(prey: Prey) -> None:
    class Mine(sqlite3.Connection):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            super().set_authorizer(lambda *_: sqlite3.SQLITE_OK)

    connection = sqlite3.connect(":memory:", factory=Mine)
    connection.execute(f"ATTACH '{prey.decoy}' AS other")
    spoil(connection, "other.precious")


@stopped
def vacuum_into(prey: Prey) -> None:
    sqlite3.connect(":memory:").execute(f"VACUUM INTO '{prey.decoy}.copy'")


@stopped
def backup(prey: Prey) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE other (id)")
    connection.backup(sqlite3.connect(prey.decoy))


@stopped
def load_extension(_prey: Prey) -> None:
    with contextlib.suppress(sqlite3.Error):
        sqlite3.connect(":memory:").execute("SELECT load_extension('anything')")


# Files


@stopped
def file_append(prey: Prey) -> None:
    with open(prey.decoy, "ab") as file:
        file.write(SPOILED)


@stopped
def file_truncated_at_opening(prey: Prey) -> None:
    os.close(os.open(prey.decoy, os.O_RDONLY | os.O_TRUNC))


@stopped
def file_truncated(prey: Prey) -> None:
    os.truncate(prey.decoy, 0)


@stopped
def file_removed(prey: Prey) -> None:
    os.remove(prey.decoy)


@stopped
def file_unlinked(prey: Prey) -> None:
    Path(prey.decoy).unlink()


@stopped
def file_renamed(prey: Prey) -> None:
    os.rename(prey.decoy, prey.decoy + ".away")


@stopped
def file_replaced(prey: Prey) -> None:
    new = os.path.join(prey.folder, "new.db")
    Path(new).write_bytes(SPOILED)
    os.replace(new, prey.decoy)


@stopped
def file_copied_over(prey: Prey) -> None:
    shutil.copyfile(__file__, prey.decoy)


@stopped
def folder_removed(prey: Prey) -> None:
    shutil.rmtree(os.path.dirname(prey.decoy))


@stopped
def journal_made(prey: Prey) -> None:
    """SQLite would play back a journal that it finds."""
    Path(prey.decoy + "-journal").write_bytes(SPOILED)


@stopped
def log_removed(prey: Prey) -> None:
    """What was committed is in it, and nowhere else."""
    os.remove(prey.decoy + "-wal")


# Libraries


def library_of_sqlite() -> str | None:
    import _sqlite3  # noqa: PLC0415

    return getattr(_sqlite3, "__file__", None)  # None: it is a part of the interpreter


def spoil_by_library(library: ctypes.CDLL, prey: Prey) -> None:
    connection = ctypes.c_void_p()
    library.sqlite3_open(os.fsencode(prey.decoy), ctypes.byref(connection))
    library.sqlite3_exec(connection, INSERT.encode(), None, None, None)
    library.sqlite3_close(connection)


@stopped
def library_loaded(prey: Prey) -> None:
    spoil_by_library(ctypes.CDLL(library_of_sqlite()), prey)


@stopped
def library_under_another_name(prey: Prey) -> None:
    library, copy = library_of_sqlite(), os.path.join(prey.folder, "innocent.so")
    if library is not None:
        shutil.copyfile(library, copy)
    spoil_by_library(ctypes.CDLL(library and copy), prey)


# Programs: `psql` and `sqlite3` stand for the clients of those names, on the path


def with_clients(prey: Prey) -> None:
    os.environ["PATH"] = os.path.join(prey.folder, "clients") + os.pathsep + os.environ["PATH"]


@stopped
def program_list(prey: Prey) -> None:
    with_clients(prey)
    subprocess.run(["psql", prey.decoy], check=True)


@stopped
def program_path(prey: Prey) -> None:
    subprocess.run([os.path.join(prey.folder, "clients", "sqlite3"), prey.decoy], check=True)


@stopped
def program_renamed(prey: Prey) -> None:
    """The first argument is only what a program is told to be called."""
    subprocess.run(["ls", prey.decoy], executable=os.path.join(prey.folder, "clients", "sqlite3"), check=True)


@stopped
def program_linked(prey: Prey) -> None:
    link = os.path.join(prey.folder, "tool")
    os.symlink(os.path.join(prey.folder, "clients", "sqlite3"), link)
    subprocess.run([link, prey.decoy], check=True)


@stopped
def program_shell(prey: Prey) -> None:
    with_clients(prey)
    subprocess.run(f"true && psql '{prey.decoy}'", shell=True, check=True)


@stopped
def program_shell_named(prey: Prey) -> None:
    with_clients(prey)
    subprocess.run(["sh", "-c", f"psql '{prey.decoy}'"], check=True)


@stopped
def program_env(prey: Prey) -> None:
    with_clients(prey)
    subprocess.run(["env", "LANG=C", "sqlite3", prey.decoy], check=True)


@stopped
def program_in_script(prey: Prey) -> None:
    with_clients(prey)
    script = Path(prey.folder, "all that is needed")
    script.write_text('#!/bin/sh\npsql "$1"\n')
    script.chmod(0o700)
    subprocess.run([str(script), prey.decoy], check=True)


@stopped
def program_in_script_of_shell(prey: Prey) -> None:
    with_clients(prey)
    script = Path(prey.folder, "deploy.sh")
    script.write_text('psql "$1"\n')
    subprocess.run(["sh", str(script), prey.decoy], check=True)


@stopped
def program_system(prey: Prey) -> None:
    with_clients(prey)
    os.system(f"psql '{prey.decoy}'")


@stopped
def program_popen(prey: Prey) -> None:
    with_clients(prey)
    os.popen(f"psql '{prey.decoy}'").close()


@stopped
def program_execv(prey: Prey) -> None:
    path = os.path.join(prey.folder, "clients", "psql")
    os.execv(path, [path, prey.decoy])


@stopped
def program_spawnvp(prey: Prey) -> None:
    with_clients(prey)
    os.spawnvp(os.P_WAIT, "psql", ["psql", prey.decoy])


@stopped
def program_posix_spawn(prey: Prey) -> None:
    path = os.path.join(prey.folder, "clients", "psql")
    os.waitpid(os.posix_spawn(path, [path, prey.decoy], os.environ), 0)


@stopped
def program_pty(prey: Prey) -> None:
    pty.spawn(
        [os.path.join(prey.folder, "clients", "psql"), prey.decoy], lambda fd: os.read(fd, 100), lambda _: b""
    )


@stopped
def program_asyncio(prey: Prey) -> None:
    async def start() -> None:
        process = await asyncio.create_subprocess_exec(
            os.path.join(prey.folder, "clients", "psql"), prey.decoy
        )
        await process.wait()

    asyncio.run(start())


def python_code(prey: Prey) -> str:
    return f"open({prey.decoy!r}, 'ab').write({SPOILED!r})"


@stopped
def python_started(prey: Prey) -> None:
    subprocess.run([sys.executable, "-c", python_code(prey)], check=True)


@stopped
def python_by_shell(prey: Prey) -> None:
    subprocess.run(f'{sys.executable} -c "{python_code(prey)}"', shell=True, check=True)


@stopped
def python_console_script(prey: Prey) -> None:
    """As `flask db upgrade` would be, whose first line names an interpreter."""
    script = Path(prey.folder, "manage")
    script.write_text(f"#!{sys.executable}\n{python_code(prey)}\n")
    script.chmod(0o700)
    subprocess.run([str(script)], check=True)


@stopped
def python_by_multiprocessing(prey: Prey) -> None:
    """How its methods `spawn` and `forkserver` start an interpreter; no audit event tells of it."""
    from multiprocessing.util import spawnv_passfds  # noqa: PLC0415

    words = [os.fsencode(word) for word in (sys.executable, "-c", python_code(prey))]
    os.waitpid(spawnv_passfds(words[0], words, ()), 0)


# Sockets


@stopped
def socket_of_postgresql(prey: Prey) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.path.join(prey.sockets, ".s.PGSQL.5432"))


@stopped
def socket_of_mysql(prey: Prey) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect_ex(os.fsencode(os.path.join(prey.sockets, "mysqld.sock")))


@stopped
def socket_by_asyncio(prey: Prey) -> None:
    asyncio.run(
        asyncio.wait_for(asyncio.open_unix_connection(os.path.join(prey.sockets, ".s.PGSQL.5432")), 5)
    )


@failing
def socket_of_another_server(prey: Prey) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.path.join(prey.sockets, "other"))


@failing
def tcp_connect(prey: Prey) -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", prey.port))


@failing
def tcp_connect_by_name(prey: Prey) -> None:
    socket.create_connection(("localhost", prey.port), 5).close()


@failing
def tcp_connect_ex(prey: Prey) -> None:
    with socket.socket() as client:
        client.connect_ex(("127.0.0.1", prey.port))


@failing
def tcp_asyncio(prey: Prey) -> None:
    asyncio.run(asyncio.wait_for(asyncio.open_connection("127.0.0.1", prey.port), 5))


@failing
def udp_sendto(prey: Prey) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendto(SPOILED, ("127.0.0.1", prey.datagrams))


@failing
def udp_sendmsg(prey: Prey) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.sendmsg([SPOILED], [], 0, ("127.0.0.1", prey.datagrams))


# What only the kernel stops: calls of C, and programs of names that nobody knows


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@confined
def libc_append(prey: Prey) -> None:
    file = libc().open(os.fsencode(prey.decoy), os.O_WRONLY | os.O_APPEND)
    libc().write(file, SPOILED, len(SPOILED))


@confined
def libc_truncate(prey: Prey) -> None:
    libc().truncate(os.fsencode(prey.decoy), ctypes.c_long(0))


@confined
def libc_unlink(prey: Prey) -> None:
    libc().unlink(os.fsencode(prey.decoy))


@confined
def libc_rename(prey: Prey) -> None:
    libc().rename(os.fsencode(prey.decoy), os.fsencode(prey.decoy + ".away"))


@confined
def libc_tcp(prey: Prey) -> None:
    client = socket.socket()
    family = socket.AF_INET.to_bytes(2, sys.byteorder)
    address = family + prey.port.to_bytes(2, "big") + socket.inet_aton("127.0.0.1") + bytes(8)
    libc().connect(client.fileno(), address, len(address))
    client.close()


@confined
def descriptor_of_folder(prey: Prey) -> None:
    """The audit event of `os.open` does not tell of `dir_fd`."""
    folder, name = os.path.split(prey.decoy)
    file = os.open(name, os.O_WRONLY | os.O_APPEND, dir_fd=os.open(folder, os.O_RDONLY))
    os.write(file, SPOILED)
    os.close(file)


@confined
def folder_renamed(prey: Prey) -> None:
    folder = os.path.dirname(prey.decoy)
    os.rename(folder, folder + ".away")


@confined
def authorizer_of_original_class(prey: Prey) -> None:
    connection = sqlite3.connect(":memory:")
    original_class().set_authorizer(connection, None)
    connection.execute("ATTACH ? AS other", (prey.decoy,))
    spoil(connection, "other.precious")


@confined
def shell_redirection(prey: Prey) -> None:
    subprocess.run(f"printf spoiled >> '{prey.decoy}'", shell=True, check=True)


@confined
def python_by_variable(prey: Prey) -> None:
    environment = {**os.environ, "PROGRAM": sys.executable, "CODE": python_code(prey)}
    subprocess.run('"$PROGRAM" -c "$CODE"', shell=True, check=True, env=environment)


@confined
def client_copied(prey: Prey) -> None:
    subprocess.run([os.path.join(prey.folder, "clients", "innocent"), prey.decoy], check=True)
