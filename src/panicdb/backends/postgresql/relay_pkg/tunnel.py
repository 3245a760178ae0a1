"""A way to a server through TLS that ends in this process, so that an open session can be handed to somebody else.

Libpq keeps the state of its TLS to itself. So it is given a local socket instead, in a folder that nobody else knows,
and what it says there travels on through TLS of our own, made and verified by the same parameters.
"""

import asyncio
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from panicdb.backends.postgresql import messages
from panicdb.backends.postgresql.pumps import End, pump

HOME = Path("~/.postgresql")
"""Where libpq looks for certificates that nobody names."""
_PROTOCOL_OF_DIRECT_TLS = "postgresql"


@dataclass(frozen=True)
class Security:
    """How a server is to be trusted, in libpq's words: `sslmode`, `sslrootcert` ..."""

    parameters: Mapping[str, str] = field(repr=False)

    @property
    def is_direct(self) -> bool:
        """Tell whether TLS begins without asking for it."""
        return self.parameters.get("sslnegotiation") == "direct"

    def context(self) -> ssl.SSLContext:
        """Make what verifies the server as libpq does. Reads files of certificates; raises OSError, ssl.SSLError."""
        mode = self.parameters.get("sslmode", "prefer")
        root = self._file("sslrootcert", "root.crt")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = mode == "verify-full"
        if root is None and not mode.startswith("verify"):
            context.verify_mode = ssl.CERT_NONE
        elif self.parameters.get("sslrootcert") == "system":
            context.load_default_certs()
        elif root is not None:
            context.load_verify_locations(root)
        self._revoke(context)
        self._introduce(context)
        oldest = self.parameters.get("ssl_min_protocol_version")
        newest = self.parameters.get("ssl_max_protocol_version")
        if oldest:
            context.minimum_version = ssl.TLSVersion[oldest.replace(".", "_")]
        if newest:
            context.maximum_version = ssl.TLSVersion[newest.replace(".", "_")]
        if self.is_direct:
            context.set_alpn_protocols([_PROTOCOL_OF_DIRECT_TLS])
        return context

    def _revoke(self, context: ssl.SSLContext) -> None:
        listed, folder = self._file("sslcrl", "root.crl"), self.parameters.get("sslcrldir") or None
        if listed is not None or folder is not None:
            context.load_verify_locations(listed, folder)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN

    def _introduce(self, context: ssl.SSLContext) -> None:
        """Show a certificate of the client's, if it has one."""
        certificate, key = self._file("sslcert", "postgresql.crt"), self._file("sslkey", "postgresql.key")
        if certificate is not None and self.parameters.get("sslcertmode") != "disable":
            context.load_cert_chain(certificate, key, self.parameters.get("sslpassword"))

    def _file(self, name: str, usual: str) -> str | None:
        given = self.parameters.get(name)
        path = Path(given) if given else (HOME / usual).expanduser()
        return str(path) if path.exists() else None


class Tunnel:
    """A local socket whose other end is the server, through TLS. It lives in the event loop that opened it."""

    def __init__(self, security: Security, server: tuple[str, int], name: str) -> None:
        self._context = security.context()
        self._direct = security.is_direct
        self._server, self._name = server, name
        self._sessions: set[asyncio.Task[None]] = set()
        self.folder = tempfile.mkdtemp(prefix="panicdb-")
        """What libpq takes for the host."""
        self._listening: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen where libpq looks for a server's local socket."""
        _, port = self._server
        path = os.path.join(self.folder, f".s.PGSQL.{port}")
        self._listening = await asyncio.start_unix_server(self._serve, path)

    async def close(self) -> None:
        """Close all that is open, and remove the socket."""
        if self._listening is not None:
            self._listening.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it is run by one
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        with suppress(asyncio.CancelledError):  # who closes the tunnel waits for its tasks; nobody else asks
            await self._lead((reader, writer))

    async def _lead(self, client: End) -> None:
        _, writer = client
        try:
            there = await self._connect()
        except (OSError, ssl.SSLError, EOFError) as error:
            writer.write(messages.refusal("08006", f"TLS to the server failed: {error}"))
        else:
            await self._exchange(client, there)
        finally:
            writer.close()

    @staticmethod
    async def _exchange(client: End, server: End) -> None:
        """Pass on bytes until both ends have left; what the server says first is read on the way."""

        async def answer() -> None:
            kind = b""
            with suppress(OSError, asyncio.IncompleteReadError):
                while kind not in (messages.AUTHENTICATION, messages.ERROR):
                    head = await server[0].readexactly(messages.ANSWER.size)
                    kind, length = messages.ANSWER.unpack(head)
                    body = await server[0].readexactly(max(0, length - 4))
                    client[1].write(messages.without_binding(kind, body))
            await pump(server[0], client[1])

        try:
            await asyncio.gather(pump(client[0], server[1]), answer())
        finally:
            server[1].transport.abort()

    async def _connect(self) -> End:
        """Connect, and let TLS begin."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._server[0] else socket.AF_INET
        raw = socket.socket(family, socket.SOCK_STREAM)
        try:
            raw.setblocking(False)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(raw, self._server)
            if not self._direct:
                await self._agree(raw)
            return await asyncio.open_connection(sock=raw, ssl=self._context, server_hostname=self._name)
        except BaseException:
            with suppress(OSError):
                raw.close()
            raise

    @staticmethod
    async def _agree(raw: socket.socket) -> None:
        """Ask for TLS. The answer is one byte, and no more is taken: what else came would not be secured."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(raw, messages.HEAD.pack(messages.HEAD.size, messages.SSL_REQUEST))
        if await loop.sock_recv(raw, 1) != b"S":
            raise ConnectionError("the server has no TLS")
