"""A relay to a server that is reached through TLS: as safe as libpq would have it, and as usable as without."""

import asyncio
import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

import servers
import tls
from panicdb.backends.postgresql.addresses import read_address
from panicdb.backends.postgresql.relay import SOCKET, Relay, relaying
from panicdb.backends.postgresql.relay.tunnel import Security, Tunnel


@dataclass(frozen=True)
class Secured:
    """A draft on a server with TLS; `door` where that is a door's."""

    parameters: Mapping[str, str]
    authority: tls.Authority
    door: tls.Door | None

    def subject(self, connection: psycopg.Connection) -> str | None:
        """Return the name on the certificate that a session was opened with."""
        if self.door is not None:
            return self.door.subjects[-1]
        own = "SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        used, shown = connection.execute(own).fetchone()
        assert used
        return shown and shown.removeprefix("/CN=")


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> tls.Authority:
    return tls.Authority(tmp_path_factory.mktemp("certificates")).make()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="panicdb-") as name:
        yield Path(name)


@pytest.fixture
def secured(postgres, make_pg, authority) -> Iterator[Secured]:
    """Make a draft that is reached by the name `localhost`, through TLS."""
    parameters = {**read_address(make_pg()).parameters, "host": "localhost", "hostaddr": servers.LOOPBACK}
    with contextlib.ExitStack() as stack:
        if stack.enter_context(tls.enabled(postgres, authority)):
            yield Secured(parameters, authority, None)
        else:
            door = stack.enter_context(tls.opened(postgres, authority))
            yield Secured({**parameters, "port": str(door.port)}, authority, door)


def connect(relay: Relay) -> psycopg.Connection:
    return psycopg.connect(host=os.path.dirname(relay.path), user="anybody", autocommit=True)


@pytest.mark.parametrize(
    "trust",
    [
        {},
        {"sslmode": "require"},
        {"sslmode": "verify-ca", "sslrootcert": "root.crt"},
        {"sslmode": "verify-full", "sslrootcert": "root.crt"},
        {"sslmode": "require", "sslrootcert": "root.crt", "ssl_min_protocol_version": "TLSv1.3"},
        {"sslmode": "require", "ssl_max_protocol_version": "TLSv1.2"},
        {"sslmode": "require", "sslcert": "client.crt", "sslkey": "client.key"},
    ],
    ids=lambda trust: "-".join(trust.values()) or "default",
)
def test_the_draft_is_reached_through_tls(trust, secured, folder):
    told = {name: value.endswith((".crt", ".key")) for name, value in trust.items()}
    files = {name: secured.authority.file(value) if told[name] else value for name, value in trust.items()}
    with (
        relaying(str(folder / SOCKET), {**secured.parameters, **files}) as relay,
        connect(relay) as connection,
    ):
        found = connection.execute("SELECT current_database()").fetchone()
        assert found == (secured.parameters["dbname"],)
        assert secured.subject(connection) == ("client" if "sslcert" in trust else None)
        text = "x" * 1_000_000
        assert connection.execute("SELECT %s::text", [text]).fetchone() == (text,)


def test_a_client_cancels_its_statement_through_tls(secured, folder):
    with relaying(str(folder / SOCKET), secured.parameters) as relay, connect(relay) as connection:
        threading.Timer(0.3, connection.cancel_safe).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")


def test_nothing_stays_of_it(secured, folder, monkeypatch):
    before = threading.active_count()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))  # others have theirs in the usual place
    with relaying(str(folder / SOCKET), secured.parameters) as relay:
        connection = connect(relay)
        assert len(list(folder.glob("panicdb-*"))) == 1
    with contextlib.closing(connection), pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    assert list(folder.iterdir()) == []
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("trust", "said"),
    [
        ({"sslmode": "verify-full", "sslrootcert": "stranger.crt"}, "certificate verify failed"),
        ({"sslmode": "verify-ca", "sslrootcert": "stranger.crt"}, "certificate verify failed"),
        ({"sslmode": "require", "sslrootcert": "stranger.crt"}, "certificate verify failed"),
        ({"sslmode": "verify-full", "sslrootcert": "root.crt", "host": "elsewhere"}, "does not match"),
    ],
    ids=["full", "authority", "require_with_authority", "name"],
)
def test_who_is_not_trusted_gets_no_session(trust, said, secured, folder):
    """Neither the first one, which libpq opens, nor one through a tunnel, should the server be another one by then."""
    if "sslrootcert" in trust:
        trust = {**trust, "sslrootcert": secured.authority.file(trust["sslrootcert"])}
    wanted = {**secured.parameters, **trust}
    with pytest.raises(psycopg.OperationalError, match=said):
        Relay(str(folder / SOCKET), wanted)
    assert list(folder.iterdir()) == []
    said_by_us = "certificate is not valid for" if said == "does not match" else said
    with tunnelling(wanted) as there, pytest.raises(psycopg.OperationalError, match=said_by_us):
        psycopg.connect(**there)


@contextlib.contextmanager
def tunnelling(wanted: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run a tunnel by itself; the parameters that lead libpq into it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    tunnel = Tunnel(Security(wanted), (wanted["hostaddr"], int(wanted["port"])), wanted["host"])
    try:
        asyncio.run_coroutine_threadsafe(tunnel.open(), loop).result()
        usual = {name: wanted[name] for name in ("port", "user", "password", "dbname")}
        yield {**usual, "host": tunnel.folder, "channel_binding": "disable"}
    finally:
        asyncio.run_coroutine_threadsafe(tunnel.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_server_that_has_no_tls_any_more_gets_no_password(postgres, make_pg):
    wanted = {**read_address(make_pg()).parameters, "hostaddr": servers.LOOPBACK, "sslmode": "require"}
    with tunnelling(wanted) as there, pytest.raises(psycopg.OperationalError, match="the server has no TLS"):
        psycopg.connect(**there)


def test_tls_that_begins_without_being_asked_for(postgres, make_pg, authority, folder):
    direct = {
        "host": "localhost",
        "hostaddr": servers.LOOPBACK,
        "sslmode": "require",
        "sslnegotiation": "direct",
    }
    with tls.opened(postgres, authority, direct=True) as door:
        wanted = {**read_address(make_pg()).parameters, **direct, "port": str(door.port)}
        with relaying(str(folder / SOCKET), wanted) as relay, connect(relay) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == (wanted["dbname"],)


def test_certificates_where_libpq_looks_for_them(secured, folder, monkeypatch, tmp_path):
    monkeypatch.setattr("panicdb.backends.postgresql.relay.tunnel.HOME", tmp_path)
    (tmp_path / "root.crt").write_bytes(Path(secured.authority.file("stranger.crt")).read_bytes())
    wanted = {**secured.parameters, "sslmode": "require"}
    with (
        tunnelling(wanted) as there,
        pytest.raises(psycopg.OperationalError, match="certificate verify failed"),
    ):
        psycopg.connect(**there)
    (tmp_path / "root.crt").write_bytes(Path(secured.authority.file("root.crt")).read_bytes())
    with tunnelling(wanted) as there, psycopg.connect(**there) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
