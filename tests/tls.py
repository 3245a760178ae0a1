"""Certificates, and a server's TLS: its own where it has some, else that of a door in front of it."""

import asyncio
import contextlib
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

import servers

SSL_REQUEST = struct.pack("!II", 8, 80877103)


@dataclass(frozen=True)
class Authority:
    """Certificates of a server and of a client by one authority, and one of a stranger."""

    folder: Path

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def make(self) -> "Authority":
        for name in ("root", "stranger"):
            self._openssl("req", "-x509", "-days", "2", *self._new(name), "-out", self.file(f"{name}.crt"))
        self._sign("server", "subjectAltName = DNS:localhost")
        self._sign("client", "")
        return self

    def _sign(self, name: str, extension: str) -> None:
        self.folder.joinpath("extension").write_text(extension)
        self._openssl("req", *self._new(name), "-out", self.file(f"{name}.csr"))
        by = ["-CAcreateserial", "-CA", self.file("root.crt"), "-CAkey", self.file("root.key")]
        what = ["-in", self.file(f"{name}.csr"), "-extfile", self.file("extension"), "-days", "2"]
        self._openssl("x509", "-req", *what, *by, "-out", self.file(f"{name}.crt"))

    def _new(self, name: str) -> list[str]:
        return ["-nodes", "-newkey", "rsa:2048", "-subj", f"/CN={name}", "-keyout", self.file(f"{name}.key")]

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def client(self) -> dict[str, str]:
        """Return the parameters that show a client's certificate."""
        return {"sslcert": self.file("client.crt"), "sslkey": self.file("client.key")}


class Door:
    """Takes nothing but TLS, and passes on what is said to a server that has none. It runs in a thread."""

    def __init__(self, server: servers.Server, authority: Authority, *, direct: bool = False) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority.file("server.crt"), authority.file("server.key"))
        self._context.load_verify_locations(authority.file("root.crt"))
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._context.set_alpn_protocols(["postgresql"])
        self._server, self._direct = server, direct
        self.subjects: list[str | None] = []
        """Who came through: the name that a certificate says, None without one."""
        self._listening = socket.create_server((servers.LOOPBACK, 0))
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]

    async def run(self, end: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.ensure_future(end.wait())
        guests: set[asyncio.Task[None]] = set()
        while True:
            coming = asyncio.ensure_future(loop.sock_accept(self._listening))
            await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                break
            guests.add(asyncio.ensure_future(self._receive(coming.result()[0])))
        for task in (coming, *guests):
            task.cancel()
        await asyncio.gather(coming, *guests, return_exceptions=True)
        self._listening.close()

    async def _receive(self, raw: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        raw.setblocking(False)
        if not self._direct:
            if await loop.sock_recv(raw, len(SSL_REQUEST)) != SSL_REQUEST:
                raw.close()
                return
            await loop.sock_sendall(raw, b"S")
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, raw, ssl=self._context)
        except OSError:  # the guest does not trust us
            raw.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        shown = writer.get_extra_info("peercert") or {}
        names = [value for part in shown.get("subject", ()) for name, value in part if name == "commonName"]
        self.subjects.append(next(iter(names), None))
        there = await asyncio.open_connection(self._server.host, self._server.port)
        try:
            await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))
        finally:
            writer.transport.abort()
            there[1].transport.abort()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def opened(server: servers.Server, authority: Authority, *, direct: bool = False) -> Iterator[Door]:
    """Put a door in front of a server while the context lasts."""
    door = Door(server, authority, direct=direct)
    loop, end = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(door.run(end),))
    thread.start()
    try:
        yield door
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()


@contextlib.contextmanager
def enabled(server: servers.Server, authority: Authority) -> Iterator[bool]:
    """Let a server have TLS of its own while the context lasts; False if it was built without."""
    folder = server.execute("SHOW data_directory")[0][0]
    wanted = {"ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "ssl_ca_file": "root.crt"}
    for name in wanted.values():
        lines = sql.Literal(Path(authority.file(name)).read_text().splitlines())
        program = sql.Literal(f"umask 077; cat > '{folder}/{name}'")
        server.execute(sql.SQL("COPY (SELECT unnest({}::text[])) TO PROGRAM {}").format(lines, program))
    try:
        yield _set(server, {**wanted, "ssl": "on"}) and is_secure(server)
    finally:
        for setting in ("ssl", *wanted):
            server.execute(sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(setting)))
        server.execute("SELECT pg_reload_conf()")


def _set(server: servers.Server, settings: dict[str, str]) -> bool:
    """Change settings of a server, if it was built to have them."""
    for name, value in settings.items():
        try:
            server.execute(
                sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
            )
        except psycopg.errors.InvalidParameterValue:
            return False
    server.execute("SELECT pg_reload_conf()")
    return True


def is_secure(server: servers.Server) -> bool:
    """Tell whether new sessions can have TLS, at last or never."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError), server.connect(sslmode="require"):
            return True
        time.sleep(0.05)
    return False
