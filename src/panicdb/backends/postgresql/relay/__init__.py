"""A local socket at which migrations find their draft, and no other database: this process opens the sessions.

The guarded child gets no address and no password. What connects to the socket, whichever user and database it names,
gets a session of the draft; from then on bytes are passed on as they are, both ways. If this process ends, however it
does, all sessions end. Every session has the setting `panicdb.draft`, whose value is the socket's path: no other server
and no other database answers that.
"""

import asyncio
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from panicdb.backends.postgresql.relay import messages
from panicdb.backends.postgresql.relay.pumps import End, pump
from panicdb.backends.postgresql.relay.trespass import Lookout
from panicdb.backends.postgresql.relay.tunnel import Security, Tunnel
from panicdb.errors import redacted

SOCKET = ".s.PGSQL.5432"
"""The name of a socket that every driver looks for in its folder."""
PROOF = "panicdb.draft"
VIOLATIONS = "violations"
"""The file in the socket's folder where it is written down, a line each, what would have left the draft."""
PATIENCE = 5.0
"""Seconds for a server to cancel a statement, and to end a session that nobody wants."""
GRACE = 0.1
"""Seconds for a session to end by itself, once its client has left."""
CONNECT_SECONDS = "10"
ATTENTION = {"client_connection_check_interval": "1s"}
"""A server that looks after its client ends the session of one that was killed amid a long statement."""
_SETTLED = {
    "hostaddr": "",
    "requirepeer": "",
    "target_session_attrs": "any",
    "channel_binding": "disable",
    "sslmode": "disable",
    "sslnegotiation": "postgres",
    "sslrootcert": "",
    "sslcertmode": "allow",
    "gssencmode": "disable",
}
"""What sessions say of how the server is found and trusted, once the first one has settled it.

Nothing is left to the environment, which would be asked.
"""
_FORGOTTEN = frozenset(
    """
    service servicefile passfile load_balance_hosts krbsrvname gsslib gssdelegation
    sslcompression sslcert sslkey sslkeylogfile sslpassword sslcrl sslcrldir sslsni
    ssl_min_protocol_version ssl_max_protocol_version
    """.split()  # noqa: SIM905
)
"""What the first session needed, and no other does."""
_DIRECT = ("application_name", "client_encoding")
"""Settings that libpq has parameters for, which would win."""
_FATAL = re.compile(r"(?:FATAL|ERROR):\s+(.+)")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _Server:
    """Where the database is: found once, so that every session is one of the same server."""

    parameters: Mapping[str, str] = field(repr=False)
    """For sessions without TLS; with it, they are those behind the tunnel."""
    address: tuple[str, int]
    name: str
    security: Security | None
    attention: Mapping[str, str]

    def fulfil(self, wish: messages.Wish, proof: str) -> dict[str, str]:
        """Return the parameters of a session as a client wants it."""
        direct = {name: wish.settings[name] for name in _DIRECT if name in wish.settings}
        options = [
            self.parameters.get("options", ""),
            wish.parameters.get("options", ""),
            *(messages.option(*each) for each in wish.settings.items() if each[0] not in direct),
            *(messages.option(*each) for each in self.attention.items()),
            messages.option(PROOF, proof),
        ]
        return {**self.parameters, **direct, "options": " ".join(filter(None, options))}


class Relay:
    """The socket and what goes on behind it, in a thread of its own. Close it."""

    def __init__(self, path: str, conninfo: Mapping[str, str]) -> None:
        self.path = path
        self._server = _find(conninfo)
        self._sessions: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._connections: dict[tuple[int, int], psycopg.AsyncConnection[Any]] = {}
        self._tunnel: Tunnel | None = None
        self._listening: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        try:
            self._run(self._open())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all sessions, what runs in them is cancelled, and remove the socket."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        with suppress(OSError):
            os.unlink(self.path)

    def _run(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        if self._server.security is not None:
            self._tunnel = Tunnel(self._server.security, self._server.address, self._server.name)
            await self._tunnel.open()
        self._listening = await asyncio.start_unix_server(self._serve, self.path)

    async def _close(self) -> None:
        if self._listening is not None:
            self._listening.close()
        sessions = set(self._sessions)
        for writer in self._sessions.values():
            writer.transport.abort()
        if sessions:
            _, late = await asyncio.wait(sessions, timeout=2 * PATIENCE)
            for session in late:
                session.cancel()
            await asyncio.gather(*sessions, return_exceptions=True)
        if self._tunnel is not None:
            await self._tunnel.close()
        await self._loop.shutdown_default_executor()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Give one client its session."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it is run by one
        self._sessions[task] = writer
        try:
            # Who closes the relay and loses patience cancels this, and nobody else asks what became of it.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            del self._sessions[task]
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read what a client wants until it wants a session."""
        while True:
            length, kind = messages.HEAD.unpack(await reader.readexactly(messages.HEAD.size))
            if length > messages.MOST_BYTES:
                return
            body = await reader.readexactly(max(0, length - messages.HEAD.size))
            if kind == messages.CANCEL_REQUEST:
                await self._cancel(body)
                return
            if kind not in (messages.SSL_REQUEST, messages.GSS_REQUEST):
                await self._connect(messages.read_wish(kind, body), (reader, writer))
                return
            writer.write(messages.NO)

    def _check(self, lookout: Lookout, writer: asyncio.StreamWriter, data: bytes) -> bool:
        """Tell whether the server may have what a client sends. What it must not have is written down."""
        found = lookout.look(data)
        if found is not None:
            with open(os.path.join(os.path.dirname(self.path), VIOLATIONS), "a", encoding="utf-8") as log:
                log.write(" ".join(found.split()) + "\n")
            writer.write(messages.refusal("42501", f"{found}, and that is not the target"))
        return found is None

    async def _cancel(self, body: bytes) -> None:
        connection = None
        if len(body) == messages.CANCEL_KEY.size:
            connection = self._connections.get(messages.CANCEL_KEY.unpack(body))
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.cancel_safe(timeout=PATIENCE)

    async def _connect(self, wish: messages.Wish, client: End) -> None:
        if not wish.is_understood or "replication" in wish.parameters:
            client[1].write(
                messages.refusal("0A000", "migrations get sessions of protocol 3, for statements")
            )
            return
        host = {} if self._tunnel is None else {"host": self._tunnel.folder}
        try:
            connection = await psycopg.AsyncConnection.connect(
                make_conninfo("", **{**self._server.fulfil(wish, self.path), **host})
            )
        except psycopg.Error as error:
            client[1].write(messages.refusal(error.sqlstate or "08006", _said(error)))
            return
        key = (secrets.randbits(31), secrets.randbits(32))
        self._connections[key] = connection
        try:
            reported = (
                (name, connection.pgconn.parameter_status(name.encode())) for name in messages.REPORTED
            )
            told = [(name, value.decode(errors="replace")) for name, value in reported if value is not None]
            client[1].write(messages.greeting(wish, told, key))
            await _hand_over(
                connection, client, partial(self._check, Lookout(connection.info.dbname), client[1])
            )
        finally:
            del self._connections[key]
            await connection.close()


@contextmanager
def relaying(socket_path: str, conninfo: Mapping[str, str]) -> Iterator[Relay]:
    """Open sessions of one database for whoever connects to a socket that is made at `socket_path`.

    `conninfo` are parameters of libpq, `dbname` the database. Raises psycopg.Error if it can't be reached, OSError if
    the socket can't be made or certificates not read. In the end all sessions are over, and the socket is gone.
    """
    relay = Relay(socket_path, conninfo)
    try:
        yield relay
    finally:
        relay.close()


def _find(conninfo: Mapping[str, str]) -> _Server:
    """Open a session and learn from it where it leads, and whether through TLS."""
    asked = {"connect_timeout": CONNECT_SECONDS, **conninfo, "gssencmode": "disable"}
    with psycopg.connect(make_conninfo("", **asked), autocommit=True) as session:
        info = session.info
        known = {each.keyword.decode(): (each.val or b"").decode() for each in session.pgconn.info}
        settled = {name: value for name, value in _SETTLED.items() if name in known}
        usual = {name: value for name, value in known.items() if value and name not in _FORGOTTEN}
        parameters = {
            **usual,
            "host": info.host,
            "port": str(info.port),
            "password": info.password,
            **settled,
        }
        secure = bool(session.pgconn.ssl_in_use)
        if not secure and not info.host.startswith(("/", "@")):
            parameters["hostaddr"] = info.hostaddr
        return _Server(
            parameters,
            (info.hostaddr, info.port),
            info.host,
            Security({name: known.get(name, "") for name in known if name.startswith("ssl")})
            if secure
            else None,
            _attention(session),
        )


def _attention(session: psycopg.Connection[Any]) -> Mapping[str, str]:
    """Return the settings of attention that the server knows; on some systems it can't look after its clients."""
    known: dict[str, str] = {}
    for name, value in ATTENTION.items():
        with suppress(psycopg.Error):
            session.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
            known[name] = value
    return known


def _said(error: psycopg.Error) -> str:
    """Repeat what the server said; what libpq adds tells where it is."""
    found = _FATAL.search(str(error))
    return redacted(found[1]) if found else "the database of the migrations can't be reached"


async def _hand_over(
    connection: psycopg.AsyncConnection[Any], client: End, check: Callable[[bytes], bool]
) -> None:
    """Pass on bytes until one side leaves. Where the client did, a statement that still runs is cancelled.

    What the client sends is checked first; if it must not be passed on, the session ends.
    """
    raw = socket.socket(fileno=os.dup(connection.fileno()))
    raw.setblocking(False)
    server = await asyncio.open_connection(sock=raw)
    down = asyncio.ensure_future(pump(server[0], client[1]))
    up = asyncio.ensure_future(pump(client[0], server[1], check))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({down}, timeout=GRACE)
        if not down.done():
            with suppress(psycopg.Error):
                await connection.cancel_safe(timeout=PATIENCE)
            await asyncio.wait({down}, timeout=PATIENCE)
    finally:
        up.cancel()
        down.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        with suppress(
            OSError
        ):  # what libpq says when it closes the session must not end a statement cut short
            server[1].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        server[1].transport.abort()
