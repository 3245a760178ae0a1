"""A relay leads whoever connects to its socket into one database, under whichever names they ask for it."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import servers
from panicdb.backends.postgresql.addresses import read_address
from panicdb.backends.postgresql.relay import PROOF, SOCKET, VIOLATIONS, Relay, messages, relaying, trespass
from panicdb.guarded import aims, child, targets

PATIENCE = 30


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder with a short name, as sockets need it."""
    with tempfile.TemporaryDirectory(prefix="panicdb-") as name:
        yield Path(name)


@pytest.fixture
def draft(make_pg) -> str:
    """The database that the relay leads to."""
    return make_pg("CREATE TABLE here (id int)")


@pytest.fixture
def relay(folder, draft) -> Iterator[Relay]:
    with relaying(str(folder / SOCKET), read_address(draft).parameters) as made:
        yield made


def connect(relay: Relay, **options: object) -> psycopg.Connection:
    """Connect as a migration would: it knows no password."""
    usual = {"host": os.path.dirname(relay.path), "dbname": "anything", "user": "anybody", "autocommit": True}
    return psycopg.connect(**{**usual, **options})


def ask(relay: Relay, statement: str, **options: object) -> tuple:
    with connect(relay, **options) as connection:
        return connection.execute(statement).fetchone()


def sessions_in(server: servers.Server, url: str) -> int:
    name = read_address(url).database
    return server.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", parameters=[name])[0][0]


def await_no_session(server: servers.Server, url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while sessions_in(server, url):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("database", ["anything", "postgres", "template1"])
def test_whatever_is_asked_for_the_draft_is_what_is_got(database, relay, draft):
    asked = {"dbname": database, "user": "postgres", "password": "wrong"}
    assert ask(relay, "SELECT current_database()", **asked) == (read_address(draft).database,)


def test_a_session_proves_that_it_is_the_draft_s_whatever_it_resets(relay, postgres):
    with connect(relay) as connection:
        for reset in ("SELECT 1", "RESET ALL", "DISCARD ALL"):
            connection.execute(reset)
            shown = connection.execute("SELECT current_setting(%s, true)", [PROOF]).fetchone()
            assert shown == (relay.path,)
    assert postgres.execute("SELECT current_setting(%s, true)", parameters=[PROOF]) == [(None,)]


def test_a_client_can_not_take_the_proof_away(relay):
    shown = ask(relay, f"SELECT current_setting('{PROOF}')", options=f"-c {PROOF}=mine")
    assert shown == (relay.path,)


def test_what_is_asked_for_at_the_start_is_set_and_outlives_a_reset(relay):
    options = {
        "options": r'-c search_path="one\ two" -c work_mem=7MB -c IntervalStyle=iso_8601',
        "application_name": "somebody's",
        "client_encoding": "LATIN1",
    }
    with connect(relay, **options) as connection:
        connection.execute("RESET ALL")
        names = ("search_path", "work_mem", "IntervalStyle", "application_name", "client_encoding")
        found = [connection.execute(f"SHOW {name}").fetchone()[0] for name in names]
        assert found == ['"one two"', "7MB", "iso_8601", "somebody's", "LATIN1"]
        assert connection.info.parameter_status("client_encoding") == "LATIN1"
        assert connection.info.parameter_status("IntervalStyle") == "iso_8601"
        assert connection.info.server_version >= 150000
        assert connection.execute("SELECT 'ä'").fetchone() == ("ä",)


def test_a_setting_that_the_server_does_not_know_is_its_own_error(relay):
    with pytest.raises(psycopg.OperationalError, match='unrecognized configuration parameter "no_such"'):
        connect(relay, options="-c no_such=1")
    assert ask(relay, "SELECT 1") == (1,)


def test_an_error_at_the_start_tells_neither_where_the_server_is_nor_a_password(folder, draft, postgres):
    """The database is gone; libpq would say of which server."""
    with relaying(str(folder / SOCKET), read_address(draft).parameters) as made:
        postgres.drop(read_address(draft).database)
        with pytest.raises(psycopg.OperationalError, match="does not exist") as caught:
            connect(made)
    said = str(caught.value)
    assert postgres.host not in said
    assert str(postgres.port) not in said
    assert postgres.password not in said


def test_no_more_sessions_than_the_server_allows(relay, draft, postgres):
    name = read_address(draft).database
    postgres.execute("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
    postgres.execute(f"GRANT CONNECT ON DATABASE {name} TO few")
    limited = {**read_address(draft).parameters, "user": "few", "password": "few"}
    path = os.path.join(os.path.dirname(relay.path), "s")
    os.mkdir(path)
    try:
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(relaying(os.path.join(path, SOCKET), limited))
            for _ in range(2):
                stack.enter_context(connect(made))
            with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
                connect(made)
    finally:
        await_no_session(postgres, draft)
        postgres.execute(f"REVOKE ALL ON DATABASE {name} FROM few; DROP ROLE few")


def test_many_sessions_at_once_and_much_that_travels_both_ways(relay):
    """Each sends more than any buffer holds while it gets as much."""
    size, problems = 3_000_000, []

    def work(number: int) -> None:
        try:
            with connect(relay) as connection:
                text = str(number) * size
                assert connection.execute("SELECT %s::text || %s", (text, "")).fetchone() == (text,)
                with connection.cursor() as cursor:
                    cursor.execute("CREATE TEMPORARY TABLE taken (line text)")
                    with cursor.copy("COPY taken FROM STDIN") as copy:
                        for _ in range(2000):
                            copy.write(("x" * 1000 + "\n").encode())
                    with cursor.copy("COPY taken TO STDOUT") as copy:
                        assert sum(len(data) for data in copy) == 2000 * 1001
        except (psycopg.Error, AssertionError) as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_client_cancels_its_own_statement(relay):
    with connect(relay) as connection:
        threading.Timer(0.3, connection.cancel_safe).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_who_knows_no_key_cancels_nothing(relay):
    with connect(relay) as connection:
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(relay.path)
            other.sendall(struct.pack("!IIII", 16, messages.CANCEL_REQUEST, connection.info.backend_pid, 1))
            assert other.recv(1) == b""
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_newer_protocol_is_told_which_one_is_spoken(relay):
    with connect(relay, max_protocol_version="latest") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.pgconn.protocol_version == 3


def test_extensions_of_the_protocol_are_named_as_unknown(relay):
    body = b"user\0me\0_pq_.strange\0on\0\0"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(relay.path)
        client.sendall(messages.HEAD.pack(len(body) + 8, messages.PROTOCOL) + body)
        answer = client.recv(1000)
    assert answer.startswith(b"v")
    assert b"_pq_.strange\0" in answer


@pytest.mark.parametrize(
    "sent",
    [
        messages.HEAD.pack(8, 2 << 16),
        messages.HEAD.pack(8 + 26, messages.PROTOCOL) + b"replication\0database\0user\0\0",
    ],
)
def test_another_protocol_and_replication_are_refused(sent, relay):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(relay.path)
        client.sendall(sent)
        assert client.recv(1000).startswith(b"E")


@pytest.mark.parametrize("sent", [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\4\0\3\0\0", b"\xff" * 100])
def test_nonsense_ends_its_own_connection_only(sent, relay):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(relay.path)
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1000):
            pass
    assert ask(relay, "SELECT 1") == (1,)


def test_every_kind_of_driver_of_asyncio_works(relay):
    async def work() -> tuple:
        usual = {"host": os.path.dirname(relay.path), "dbname": "x", "user": "y"}
        async with await psycopg.AsyncConnection.connect(**usual) as connection:
            return await (await connection.execute("SELECT 7")).fetchone()

    assert asyncio.run(work()) == (7,)


def test_in_the_end_sessions_are_over_and_the_socket_is_gone(folder, draft, postgres):
    before = threading.active_count()
    with relaying(str(folder / SOCKET), read_address(draft).parameters) as made:
        idle, busy = connect(made), connect(made)
        waiting = threading.Thread(target=sleeping, args=(busy,))
        waiting.start()
        while not postgres.execute("SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(77%'"):
            time.sleep(0.02)
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE / 3
    waiting.join()
    with pytest.raises(psycopg.OperationalError):
        idle.execute("SELECT 1")
    await_no_session(postgres, draft)
    assert not (folder / SOCKET).exists()
    assert threading.active_count() == before


def sleeping(connection: psycopg.Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.execute("SELECT pg_sleep(77)")


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT pg_sleep(60)"])
def test_a_client_that_is_gone_leaves_no_session_nor_half_a_transaction(statement, relay, draft, postgres):
    code = f"""
    import psycopg, sys
    connection = psycopg.connect(host={os.path.dirname(relay.path)!r}, user="x")
    connection.execute("INSERT INTO here VALUES (1)")
    print("ready", flush=True)
    connection.execute({statement!r})
    print("done", flush=True)
    sys.stdin.read()
    """
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    with client:
        assert client.stdout.readline() == b"ready\n"
        client.send_signal(signal.SIGKILL)
    await_no_session(postgres, draft)
    assert postgres.execute("SELECT count(*) FROM here", read_address(draft).database) == [(0,)]


@pytest.mark.parametrize("statement", ["SELECT 1", "SELECT pg_sleep(60)"])
def test_when_the_process_of_the_relay_is_killed_its_sessions_end(statement, folder, draft, postgres):
    code = f"""
    import sys
    from panicdb.backends.postgresql.relay import relaying
    with relaying({str(folder / SOCKET)!r}, {dict(read_address(draft).parameters)!r}):
        print("ready", flush=True)
        sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"ready\n"
        with psycopg.connect(host=str(folder), user="x") as connection:
            connection.execute("INSERT INTO here VALUES (1)")
            doomed = threading.Thread(target=run_until_lost, args=(connection, statement))
            doomed.start()
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
            doomed.join()
    await_no_session(postgres, draft)
    assert postgres.execute("SELECT count(*) FROM here", read_address(draft).database) == [(0,)]


def run_until_lost(connection: psycopg.Connection, statement: str) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            connection.execute(statement)
            time.sleep(0.05)


def test_a_server_that_ends_a_session_says_so_to_the_client(relay, postgres):
    with connect(relay) as connection:
        number = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
        postgres.execute("SELECT pg_terminate_backend(%s, 5000)", parameters=[number])
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")


def test_who_can_not_be_reached_is_told_at_once(folder, draft):
    wrong = {**read_address(draft).parameters, "password": "wrong"}
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        Relay(str(folder / SOCKET), wrong)
    assert list(folder.iterdir()) == []
    assert "relay" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(OSError, match="No such file"):
        Relay(str(folder / "nowhere" / SOCKET), read_address(draft).parameters)
    assert "relay" not in [thread.name for thread in threading.enumerate()]


# Statements that reach beyond the draft

BEYOND = {
    "ALTER DATABASE app SET work_mem = '7MB'": "app",
    "alter  database\n App set timezone to 'UTC'": "app",
    'ALTER DATABASE "App" RENAME TO other': "App",
    'DROP DATABASE IF EXISTS "a""b"': 'a"b',
    "CREATE DATABASE made": "made",
    "COMMENT ON DATABASE app IS 'ours'": "app",
    "GRANT CONNECT ON DATABASE app TO somebody": "app",
    "REVOKE ALL PRIVILEGES ON DATABASE app FROM PUBLIC": "app",
    "ALTER ROLE somebody IN DATABASE app SET search_path = x": "app",
    "SELECT 1; /* then */ ALTER DATABASE app RESET ALL": "app",
    "DO $$ BEGIN ALTER DATABASE app SET work_mem = '7MB'; END $$": "app",
    "ALTER SYSTEM SET work_mem = '7MB'": "settings",
    "ALTER SYSTEM RESET ALL": "settings",
}
WITHIN = [
    "ALTER DATABASE here SET work_mem = '7MB'",
    "ALTER DATABASE \"here\" SET work_mem = '7MB'",
    "ALTER DATABASE HERE SET work_mem = '7MB'",
    "SELECT 'ALTER DATABASE app', E'it\\'s; DROP DATABASE app'",
    "-- ALTER DATABASE app\nSELECT 1 /* DROP DATABASE app */",
    "CREATE INDEX i ON database USING gin (x)",
    "CREATE TABLE database (id int); GRANT SELECT ON database TO somebody",
    "GRANT ALL ON database TO somebody",
    "ALTER TABLE t ALTER database TYPE text, DROP database CASCADE",
    "SELECT * FROM t JOIN u ON database IS NOT NULL WHERE x IN (SELECT database FROM v)",
    "ALTER TABLE database ADD COLUMN system int",
    "COPY t TO STDOUT",
    "",
]


@pytest.mark.parametrize(("statement", "said"), BEYOND.items())
def test_a_statement_that_names_another_database_is_seen(statement, said):
    found = trespass.find(statement, "here")
    assert found is not None
    assert said in found


@pytest.mark.parametrize("statement", WITHIN)
def test_a_statement_that_stays_within_is_none_of_our_business(statement):
    assert trespass.find(statement, "here") is None


def framed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("kind", ["query", "parse", "parse with a name"])
def test_it_is_seen_in_pieces_of_any_size_and_not_in_data(kind, size):
    text = b"ALTER DATABASE app RESET ALL\0"
    message = {
        "query": framed(b"Q", text),
        "parse": framed(b"P", b"\0" + text + b"\0\0"),
        "parse with a name": framed(b"P", b"s1\0" + text + b"\0\0"),
    }[kind]
    harmless = (
        framed(b"Q", b"SELECT 1\0") + framed(b"S", b"") + framed(b"d", text) + framed(b"B", b"\0\0" + text)
    )
    lookout = trespass.Lookout("here")
    stream = harmless * 2 + message
    found = [lookout.look(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert [each for each in found[:-1] if each] == []
    assert found[-1] is not None


@pytest.mark.parametrize("parameters", [None, ()])
def test_such_a_statement_never_arrives_and_is_written_down(parameters, relay, postgres, folder):
    before = postgres.execute("SELECT count(*) FROM pg_db_role_setting")
    with connect(relay) as connection:
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="the database postgres would be"):
            connection.execute("ALTER DATABASE postgres SET work_mem = '7MB'", parameters)
    assert postgres.execute("SELECT count(*) FROM pg_db_role_setting") == before
    noted = (folder / "violations").read_text()
    assert noted == "the database postgres would be changed by a statement\n"


def test_what_the_child_and_the_relay_call_the_same():
    """They know nothing of each other's modules."""
    assert (PROOF, VIOLATIONS) == (targets.PROOF, child.VIOLATIONS)
    assert os.path.basename(aims.Aim("folder", "database").socket) == SOCKET
