"""The servers that the tests use: closed to others, and gone with the tests; the proxy that does as it is told."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

import servers
import wire

TESTS = Path(__file__).parent


@pytest.fixture(scope="session")
def another(postgres: servers.Server) -> Callable[..., contextlib.AbstractContextManager[servers.Server]]:
    """Run one more server of the same kind."""
    return servers.KINDS[postgres.name]


# Servers


def test_a_server_is_of_a_version_that_is_supported_and_has_a_pg_dump_that_fits(postgres):
    assert postgres.version >= 15
    told = subprocess.run(
        [postgres.binaries / "pg_dump", "--version"], capture_output=True, text=True, check=True
    )
    assert int(told.stdout.split()[2].split(".")[0]) >= postgres.version


def test_a_database_is_made_from_a_script(postgres, make_pg):
    url = make_pg("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)")
    with contextlib.closing(psycopg.connect(url)) as connection:
        assert connection.execute("SELECT a FROM t ORDER BY a").fetchall() == [(1,), (2,)]


def test_two_databases_of_a_test_are_two(make_pg):
    assert make_pg() != make_pg()


def test_rows_of_the_last_statement_that_has_any(postgres):
    assert postgres.execute("SELECT 1; SELECT 2, 3; SET work_mem = '4MB'") == [(2, 3)]
    assert postgres.execute("SELECT %s::text", parameters=["100%"]) == [("100%",)]


@pytest.mark.parametrize("name", ["plain", "Größe", 'quo"te', "a b/c?d=e%20#f@g:h"])
def test_an_address_leads_to_its_database_whatever_that_is_called(postgres, make_pg, name):
    with contextlib.closing(psycopg.connect(make_pg(name=name))) as connection:
        assert connection.info.dbname == name


def test_an_address_leads_to_its_role_whatever_the_password(postgres, make_pg):
    database = make_pg("CREATE ROLE \"o'dd @/role\" LOGIN PASSWORD 'p@ss:w/rd%?#'").rsplit("/", 1)[1]
    with contextlib.closing(
        psycopg.connect(postgres.url(database, "o'dd @/role", "p@ss:w/rd%?#"))
    ) as connection:
        assert connection.info.user == "o'dd @/role"


@pytest.mark.parametrize("password", ["wrong", None])
def test_nobody_enters_without_the_password(postgres, password):
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url(user=servers.USER, password=password), passfile=os.devnull)


def test_nobody_enters_by_the_socket_without_the_password(pool):
    server = pool.get("embedded")
    options = {"host": str(server.folder), "passfile": os.devnull}
    with pytest.raises(psycopg.OperationalError, match="password"):
        server.connect(password="wrong", **options)
    server.connect(**options).close()


def test_what_a_test_leaves_is_dropped(postgres):
    before = postgres.databases(), postgres.roles()
    with postgres.tidying():
        name = postgres.create("CREATE ROLE leaver LOGIN; CREATE TABLE t (); ALTER TABLE t OWNER TO leaver")
        postgres.execute("CREATE DATABASE left_behind OWNER leaver IS_TEMPLATE true")
        connection = psycopg.connect(name)
        assert postgres.databases() > before[0]
        assert postgres.roles() == before[1] | {"leaver"}
    assert (postgres.databases(), postgres.roles()) == before
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


def test_a_server_listens_on_loopback_alone(postgres):
    """Of the addresses that this machine has, only 127.0.0.1 takes connections at the server's port."""
    socket.create_connection((servers.LOOPBACK, postgres.port)).close()
    for other in {"127.0.0.2", own_address()} - {servers.LOOPBACK}:
        with pytest.raises(OSError):  # refused, or never answered
            socket.create_connection((other, postgres.port), timeout=2).close()


def own_address() -> str:
    """Return the address that this machine would send from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:  # no network at all
            return servers.LOOPBACK
        return probe.getsockname()[0]


def test_a_private_server_starts_again_with_its_data(another):
    with another(work_mem="5MB") as server:
        server.create("CREATE TABLE t AS SELECT 1 AS a", "kept")
        connection = server.connect()
        server.stop("immediate")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        connection.close()
        with pytest.raises(psycopg.OperationalError):
            server.connect()
        server.start()
        assert server.execute("SELECT a FROM t", "kept") == [(1,)]
        server.restart()
        assert server.execute("SHOW work_mem") == [("5MB",)]
        assert "redo" in server.log()


def test_a_private_server_has_a_small_disk(another):
    with another(room="40m") as server:
        server.create("CREATE TABLE t AS SELECT 1 AS a", "small")
        with pytest.raises(psycopg.errors.DiskFull):
            server.execute(
                "CREATE TABLE u AS SELECT repeat('x', 1000) FROM generate_series(1, 50000)", "small"
            )
        assert server.execute("SELECT a FROM t", "small") == [(1,)]


def test_a_standby_follows(pool):
    with servers.standby(pool.get("embedded")) as server:
        assert server.execute("SELECT pg_is_in_recovery()") == [(True,)]
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            server.execute("CREATE TABLE t ()")


def test_an_older_version_of_the_package(pool):
    with servers.embedded(16) as server:
        assert server.version == 16 < pool.get("embedded").version


def test_a_server_that_can_t_start_says_why():
    with pytest.raises(servers.ServerError, match="no_such_setting"), servers.embedded(no_such_setting="1"):
        pass


# Runs of tests

OF_THE_OUTER_RUN = {"PYTEST_ADDOPTS", "PANICDB_TEST_REQUIRE_CONTAINER"}


@contextlib.contextmanager
def running(tmp_path: Path, script: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a file of tests with our fixtures in a process of its own."""
    path = tmp_path / "test_inner.py"
    path.write_text(script)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "conftest",
        "-p",
        "no:cacheprovider",
        "-s",
        "--setup-show",
    ]
    searched = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours = {name: value for name, value in os.environ.items() if name not in OF_THE_OUTER_RUN}
    environment = {**ours, "PYTHONPATH": searched, **variables}
    process = subprocess.Popen(
        [*command, "--rootdir", tmp_path, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=tmp_path,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


WAITING = """
import time

def test_waits(postgres):
    print("listens at", postgres.port, flush=True)
    time.sleep(100)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_server_survives_its_run(postgres, tmp_path, number):
    port = 0
    with running(tmp_path, WAITING, PANICDB_TEST_SERVERS=postgres.name, TMPDIR="/tmp") as process:
        for line in process.stdout:
            if "listens at" in line:
                port = int(line.rsplit(maxsplit=1)[1])
                break
        assert port, "the run ended before its server started"
        socket.create_connection((servers.LOOPBACK, port)).close()
        process.send_signal(number)
        process.wait(30)
    deadline = time.monotonic() + 30
    while answers(port):
        assert time.monotonic() < deadline, "the server outlived its run"
        time.sleep(0.05)
    if postgres.name == "container":
        assert still_there(port, deadline) == []


def answers(port: int) -> bool:
    try:
        socket.create_connection((servers.LOOPBACK, port)).close()
    except ConnectionRefusedError:
        return False
    return True


def still_there(port: int, deadline: float) -> list[str]:
    """Return the containers that publish a port, when there is none or the time is over."""
    import docker  # noqa: PLC0415  there only where an engine is

    with contextlib.closing(docker.from_env()) as client:
        while True:
            boxes = client.api.containers(all=True, filters={"publish": str(port)})
            found = [name for box in boxes for name in box["Names"]]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.1)


def test_a_run_says_which_servers_there_are_and_starts_none_that_it_does_not_need(tmp_path):
    script = "def test_nothing(tmp_path):\n    pass\n"
    with running(tmp_path, script, PANICDB_TEST_SERVERS="container,embedded") as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert f"PostgreSQL: container ({servers.IMAGE}), embedded (18." in output
    assert "tmp_path" in output
    assert "pool" not in output


def test_a_run_that_must_have_a_container_fails_without(tmp_path):
    variables = {"PANICDB_TEST_REQUIRE_CONTAINER": "1", "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    with running(
        tmp_path, "def test_nothing():\n    pass\n", PANICDB_TEST_SERVERS="", **variables
    ) as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    assert "PANICDB_TEST_REQUIRE_CONTAINER is set, but no Docker engine answers" in output
    assert "passed" not in output


@pytest.mark.parametrize(
    ("chosen", "problem"), [("embedded", "no Docker engine answers"), ("container,mysql", "expected names")]
)
def test_a_choice_that_can_t_be(monkeypatch, chosen, problem):
    monkeypatch.setenv(servers.CHOSEN, chosen)
    monkeypatch.setenv(servers.REQUIRED, "1")
    with pytest.raises(servers.ServerError, match=problem):
        servers.choose()


def test_an_engine_that_does_not_answer_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/silent.sock")
    assert not servers.engine_answers()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/silent.sock")
        silent.listen()
        begin = time.monotonic()
        assert not servers.engine_answers()
    assert servers.PING <= time.monotonic() - begin < servers.PING + 5


# The proxy, at one server: the protocol is the same


@pytest.fixture(scope="session")
def server(pool: servers.Pool) -> servers.Server:
    return pool.get("embedded")


@pytest.fixture
def proxy(server: servers.Server) -> Iterator[wire.Proxy]:
    with wire.Proxy(server) as made:
        yield made


@pytest.fixture
def database(server: servers.Server) -> Iterator[str]:
    """Name a database with a table."""
    with server.tidying():
        yield server.create("CREATE TABLE t (a text)").rsplit("/", 1)[1]


def lost(connection: psycopg.Connection, statement: str) -> bool:
    """Say whether a statement loses the connection; it must not fail in any other way."""
    try:
        connection.execute(statement)
    except psycopg.OperationalError:
        assert connection.closed
        return True
    return False


def test_the_proxy_passes_on_everything_and_counts_it(server, proxy, database):
    big = "x" * 3_000_000
    with proxy.connect(database) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            copy.write_row([big])
            copy.write_row(["ü"])
        assert cursor.execute("SELECT a FROM t WHERE a <> %s", [big]).fetchall() == [("ü",)]
        with cursor.copy("COPY t TO STDOUT") as copy:
            assert [row for (row,) in copy.rows()] == [big, "ü"]
    proxy.settle()
    sent = [message for message in proxy.messages if message.sender == wire.CLIENT]
    assert [message.number for message in sent] == list(range(1, proxy.counts[wire.CLIENT] + 1))
    assert (sent[0].kind, sent[-1].kind) == ("startup", "X")
    assert [message.tag for message in proxy.messages if message.tag] == ["COPY 2", "SELECT 1", "COPY 2"]
    assert sum(proxy.counts.values()) == len(proxy.messages)
    assert proxy.fired == []


def test_the_same_run_has_the_same_messages(server):
    runs = []
    for _ in range(3):
        with wire.Proxy(server) as proxy:
            with proxy.connect() as connection:
                connection.execute("SELECT 1")
            proxy.settle()
            runs.append([message for message in proxy.messages if message.sender == wire.CLIENT])
            assert proxy.counts[wire.CLIENT] == len(runs[-1])
    assert runs[0] == runs[1] == runs[2]


def test_a_cut_is_noticed(proxy):
    connection = proxy.connect()
    proxy.cut()
    assert lost(connection, "SELECT 1")
    assert [action for action, _ in proxy.fired] == ["cut"]
    connection = proxy.connect()
    assert not lost(connection, "SELECT 1")
    connection.close()


def test_a_commit_whose_reply_is_dropped_has_happened(server, proxy, database):
    connection = proxy.connect(database)
    connection.execute("BEGIN; INSERT INTO t VALUES (1)")
    proxy.drop(tag="COMMIT")
    assert lost(connection, "COMMIT")
    assert [(action, message.tag) for action, message in proxy.fired] == [("drop", "COMMIT")]
    assert server.execute("SELECT a FROM t", database) == [("1",)]


def test_a_commit_that_is_dropped_has_not_happened(server, proxy, database):
    connection = proxy.connect(database)
    connection.execute("BEGIN; INSERT INTO t VALUES (1)")
    proxy.drop(sender=wire.CLIENT)
    assert lost(connection, "COMMIT")
    assert server.execute("SELECT a FROM t", database) == []


def test_the_second_reply_with_a_tag(proxy):
    connection = proxy.connect()
    proxy.drop(2, tag="COMMIT")
    assert not lost(connection, "BEGIN; COMMIT")
    assert not lost(connection, "BEGIN; ROLLBACK")
    assert lost(connection, "BEGIN; COMMIT")


def test_a_delay_delays(proxy):
    with proxy.connect() as connection:
        proxy.delay(0.3)
        begin = time.monotonic()
        connection.execute("SELECT 1")
    assert time.monotonic() - begin >= 0.3


def test_a_stall_lasts_and_leaves_the_connection_open(server, proxy):
    connection = proxy.connect()
    number = connection.info.backend_pid
    proxy.stall(sender=wire.CLIENT)
    outcome: list[bool] = []
    waiting = threading.Thread(target=lambda: outcome.append(lost(connection, "SELECT 1")))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    state = server.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", parameters=[number])
    assert state == [("idle",)]
    proxy.close()
    waiting.join(10)
    assert outcome == [True]


@pytest.mark.parametrize("widely", [False, True])
def test_harm_is_to_one_connection_or_to_all(proxy, widely):
    first, second = proxy.connect(), proxy.connect()
    proxy.cut(widely=widely)
    assert lost(first, "SELECT 1")
    assert lost(second, "SELECT 1") is widely
    second.close()


def test_harm_lasts_until_it_is_healed(proxy):
    connection = proxy.connect()
    proxy.drop(lastingly=True)
    assert lost(connection, "SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        proxy.connect()
    proxy.heal()
    proxy.connect().close()


def test_a_request_to_cancel_passes(proxy):
    connection = proxy.connect()
    threading.Timer(0.2, connection.cancel_safe).start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(100)")
    connection.close()


def test_the_end_of_a_session_and_what_the_server_says_of_it_pass(server, proxy):
    connection = proxy.connect()
    server.execute("SELECT pg_terminate_backend(%s)", parameters=[connection.info.backend_pid])
    with pytest.raises(psycopg.errors.AdminShutdown):
        connection.execute("SELECT 1")
    connection.close()


def insert_one(proxy: wire.Proxy, database: str) -> bool:
    """Insert a row in a transaction; say whether its COMMIT was confirmed."""
    try:
        connection = proxy.connect(database)
    except psycopg.OperationalError:
        return False
    with contextlib.closing(connection):
        return not (
            lost(connection, "BEGIN")
            or lost(connection, "INSERT INTO t VALUES (1)")
            or lost(connection, "COMMIT")
        )


@pytest.mark.parametrize("sender", [wire.CLIENT, wire.SERVER])
@pytest.mark.parametrize("action", ["cut", "drop"])
def test_harm_at_every_message(server, database, sender, action):
    """A row whose COMMIT was confirmed is there; one whose COMMIT was not may be: if its reply alone was lost."""
    with wire.Proxy(server) as proxy:
        assert insert_one(proxy, database)
        proxy.settle()
    number = proxy.counts[sender]
    rows = 1
    outcomes = []
    for each in range(1, number + 1):
        with wire.Proxy(server) as proxy:
            proxy.harm(action, each, sender)
            confirmed = insert_one(proxy, database)
            proxy.settle()
        assert [(done, message.number) for done, message in proxy.fired] == [(action, each)]
        now = settled_count(server, database)
        outcomes.append((confirmed, now - rows))
        rows = now
    expected = {(False, 0), (False, 1), (True, 1)}
    if action == "drop":  # nothing is confirmed without the server's messages, nor done without the client's
        expected.remove((True, 1) if sender == wire.SERVER else (False, 1))
    assert set(outcomes) == expected


def settled_count(server: servers.Server, database: str) -> int:
    """Count the rows when no session is at work on them any more."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 10
    while server.execute(others, parameters=[database]) != [(0,)]:
        assert time.monotonic() < deadline, "a session did not end"
        time.sleep(0.01)
    return server.execute("SELECT count(*) FROM t", database)[0][0]
