"""A proxy to a PostgreSQL server that counts protocol messages and does harm at the one it is told (version 3, no TLS).

with wire.Proxy(server) as proxy:
    proxy.drop(tag="COMMIT")            # the server has committed, the client never hears of it
    run_against(proxy.url("target"))
assert proxy.fired
"""

import contextlib
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partialmethod
from typing import Any, BinaryIO, Self

import psycopg

from servers import LOOPBACK, Server

CLIENT, SERVER = "client", "server"  # who sends
ENCRYPTION = (80877103, 80877104)  # what asks for TLS and for GSSAPI, in place of a startup message
PIECE = 1 << 16


@dataclass(frozen=True)
class Message:
    """Who sent it, which it is of this sender's (from 1, over all connections), its type, its tag if it has one."""

    sender: str
    number: int
    kind: str  # the protocol's letter, or "startup" (a request to cancel is one, too)
    tag: str  # of CommandComplete: "COMMIT", "COPY 17"


@dataclass
class Harm:
    action: str
    number: int  # how many messages that match until it is done
    sender: str
    tag: str | None
    widely: bool
    lastingly: bool
    seconds: float

    def is_due(self, message: Message) -> bool:
        matching = message.sender == self.sender and self.tag in {None, message.tag}
        self.number -= matching
        return matching and self.number <= 0


class Proxy:
    """A way to a server by another port of 127.0.0.1; `counts` and `messages` say what passed, `fired` what was done.

    All counting is over all connections together.
    """

    def __init__(self, server: Server) -> None:
        self.counts: Counter[str] = Counter()
        self.messages: list[Message] = []
        self.fired: list[tuple[str, Message]] = []
        self._harms: list[Harm] = []
        self._refusing = False
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._server = server
        self._listener = socket.create_server((LOOPBACK, 0))
        self._front = Server(server.name, self._listener.getsockname()[1], server.password, server.binaries)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, *arguments: Any, **options: Any) -> str:
        """Return an address as `Server.url` does, by way of the proxy."""
        return self._front.url(*arguments, **options)

    def connect(self, *arguments: Any, **options: Any) -> psycopg.Connection:
        """Open a session as `Server.connect` does, by way of the proxy."""
        return self._front.connect(*arguments, **options)

    def harm(
        self,
        action: str,
        number: int = 1,
        sender: str = SERVER,
        *,
        tag: str | None = None,
        widely: bool = False,
        lastingly: bool = False,
        seconds: float = 0.0,
    ) -> None:
        """Do something, once, at the numbered message of a sender's from now on (of those with a tag, if one is given).

        `cut` passes it on and then ends both sides of the connection, `drop` loses it and the connection with it,
        `stall` passes nothing more on and leaves the connection open, `delay` waits for some seconds first. `widely`
        does the same to all connections there are, `lastingly` refuses new ones until `heal`.
        """
        with self._lock:
            self._harms.append(Harm(action, number, sender, tag, widely, lastingly, seconds))

    cut = partialmethod(harm, "cut")
    drop = partialmethod(harm, "drop")
    stall = partialmethod(harm, "stall")

    def delay(self, seconds: float, number: int = 1, sender: str = SERVER, **scope: Any) -> None:
        """Do `harm` of that kind: seconds stand first."""
        self.harm("delay", number, sender, seconds=seconds, **scope)

    def heal(self) -> None:
        """Do no more harm, and let new connections through."""
        with self._lock:
            self._harms.clear()
            self._refusing = False

    def settle(self) -> None:
        """Wait until every connection has ended, which its client closes: then everything has been counted."""
        for thread in self._threads[1:]:
            thread.join(10)
            if thread.is_alive():
                raise TimeoutError("a client has not closed its connection")

    def close(self) -> None:
        """End all connections and threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for link in self._links:
            link.sever()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._listener.accept()
            except OSError:  # it was closed
                return
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                back = socket.create_connection((LOOPBACK, self._server.port))
            except OSError:
                front.close()
                continue
            link = _Link(self, front, back)
            thread = threading.Thread(target=link.run, daemon=True)
            self._links.append(link)
            self._threads.append(thread)
            thread.start()

    def _judge(self, sender: str, kind: str, tag: str) -> Harm | None:
        """Count a message and return what is to be done at it."""
        with self._lock:
            self.counts[sender] += 1
            message = Message(sender, self.counts[sender], kind, tag)
            self.messages.append(message)
            due = [harm for harm in self._harms if harm.is_due(message)]
            for harm in due[:1]:
                self._harms.remove(harm)
                self._refusing |= harm.lastingly
                self.fired.append((harm.action, message))
                return harm
        return None


class _Link:
    """A client's connection and the one to the server behind it, with a thread for each direction."""

    def __init__(self, proxy: Proxy, front: socket.socket, back: socket.socket) -> None:
        self.proxy, self.front, self.back = proxy, front, back
        self.mute = False  # whether it passes on nothing more
        self.ended = threading.Event()
        for each in (front, back):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        with self.front, self.back:
            other = threading.Thread(target=self._pump, args=(SERVER, self.back, self.front), daemon=True)
            other.start()
            self._pump(CLIENT, self.front, self.back)
            other.join()

    def sever(self) -> None:
        """End both connections; what was passed on before still arrives."""
        self.ended.set()
        for each in (self.front, self.back):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _pump(self, sender: str, origin: socket.socket, goal: socket.socket) -> None:
        try:
            with origin.makefile("rb", PIECE) as source:
                if sender == CLIENT:
                    head = _take(source, 8)
                    while int.from_bytes(head[4:]) in ENCRYPTION:
                        origin.sendall(b"N")
                        head = _take(source, 8)
                    self._pass(sender, source, goal, head, int.from_bytes(head[:4]) - 8)
                while kind := source.read(1):
                    head = kind + _take(source, 4)
                    self._pass(sender, source, goal, head, int.from_bytes(head[1:]) - 4)
            goal.shutdown(socket.SHUT_WR)
        except OSError:
            self.sever()

    def _pass(self, sender: str, source: BinaryIO, goal: socket.socket, head: bytes, length: int) -> None:
        kind, tag = ("startup" if len(head) == 8 else chr(head[0])), ""
        if sender == SERVER and kind == "C":
            body = _take(source, length)
            head, length, tag = head + body, 0, body.rstrip(b"\0").decode()
        harm = None if self.mute else self.proxy._judge(sender, kind, tag)
        cutting = harm is not None and harm.action == "cut"
        struck = self._struck(harm) if harm else []
        if self.mute and not cutting:
            self.ended.wait()
            raise ConnectionAbortedError
        first = min(length, PIECE)
        goal.sendall(head + _take(source, first))
        for start in range(first, length, PIECE):
            goal.sendall(_take(source, min(length - start, PIECE)))
        for link in struck if cutting else ():
            link.sever()

    def _struck(self, harm: Harm) -> list["_Link"]:
        """Do what is done before the message would be passed on; return the links concerned, its own last.

        So who notices that its own is lost finds the others lost; and no reply to what is cut off slips through.
        """
        if harm.action == "delay":
            time.sleep(harm.seconds)
            return []
        links = [*(link for link in self.proxy._links if harm.widely and link is not self), self]
        for link in links:
            link.mute = True
            if harm.action == "drop":
                link.sever()
        return links


def _take(source: BinaryIO, count: int) -> bytes:
    taken = source.read(count)
    if len(taken) < count:
        raise ConnectionAbortedError
    return taken
