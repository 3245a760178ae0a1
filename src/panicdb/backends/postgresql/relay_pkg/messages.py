"""What a client and a server of PostgreSQL say to each other before the first statement, in protocol 3.0.

Nothing here reads or writes a socket (https://www.postgresql.org/docs/current/protocol-message-formats.html).
"""

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CANCEL_REQUEST, SSL_REQUEST, GSS_REQUEST = 80877102, 80877103, 80877104
PROTOCOL = 3 << 16
HEAD = struct.Struct("!II")
"""How a message begins before a session is open: its length, itself included, and its kind or version."""
CANCEL_KEY = struct.Struct("!II")
"""How a session is named by who wants it cancelled; so it was told."""
MOST_BYTES = 10_000
"""Of a message before a session is open, as the server has it."""
NO = b"N"
"""The answer to who asks for encryption."""
REPORTED = (
    *("server_version", "server_encoding", "client_encoding", "application_name", "is_superuser"),
    *("session_authorization", "DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes"),
    *("standard_conforming_strings", "default_transaction_read_only", "in_hot_standby"),
    *("scram_iterations", "search_path"),
)
"""Settings that servers tell clients of, unasked; older ones not all of them."""
AUTHENTICATION, ERROR = b"R", b"E"
"""Kinds of a server's messages."""
ANSWER = struct.Struct("!cI")
"""How a message of an open session begins: its kind and its length, without the kind."""
_SASL, _BOUND = struct.pack("!I", 10), b"-PLUS"
_EXTENSION = "_pq_."
_BEYOND_SETTINGS = frozenset({"user", "database", "options", "replication"})
_SPECIAL = re.compile(r"([\\\s])")


@dataclass(frozen=True)
class Wish:
    """What a client wants of its session, by the names that it gave: `user`, `options`, `TimeZone` ..."""

    version: int
    parameters: Mapping[str, str]

    @property
    def is_understood(self) -> bool:
        """Tell whether the client speaks our language, be it a newer dialect of it."""
        return self.version >> 16 == PROTOCOL >> 16

    @property
    def extensions(self) -> tuple[str, ...]:
        """Return the extensions of the protocol that are asked for; we have none."""
        return tuple(name for name in self.parameters if name.startswith(_EXTENSION))

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings among the parameters: not who connects, nor where to, nor how."""
        beyond = _BEYOND_SETTINGS.union(self.extensions)
        return {name: value for name, value in self.parameters.items() if name not in beyond}


def read_wish(version: int, body: bytes) -> Wish:
    """Read what follows the head of a message that opens a session: names and values, and an empty name."""
    words = iter([word.decode(errors="replace") for word in body.split(b"\0")])
    parameters: dict[str, str] = {}
    for name in words:
        if not name:
            break
        parameters[name] = next(words, "")
    return Wish(version, parameters)


def option(name: str, value: str) -> str:
    """Spell a setting as one of the `options` that a session begins with."""
    return "-c " + _SPECIAL.sub(r"\\\1", f"{name}={value}")


def greeting(wish: Wish, reported: Iterable[tuple[str, str]], key: tuple[int, int]) -> bytes:
    """Spell what a server says when a session is open: come in, my settings, your key, I am ready."""
    said = b""
    if wish.version != PROTOCOL or wish.extensions:
        said += _message(b"v", struct.pack("!II", PROTOCOL, len(wish.extensions)), *wish.extensions)
    said += _message(b"R", struct.pack("!I", 0))
    for name, value in reported:
        said += _message(b"S", b"", name, value)
    return said + _message(b"K", CANCEL_KEY.pack(*key)) + _message(b"Z", b"I")


def without_binding(kind: bytes, body: bytes) -> bytes:
    """Spell a server's message; among the ways to authenticate that it offers, none that is bound to its TLS.

    Libpq, which knows of no TLS there, would take such an offer for a forgery.
    """
    if kind == AUTHENTICATION and body[:4] == _SASL:
        ways = [way for way in body[4:].split(b"\0") if way and not way.endswith(_BOUND)]
        body = _SASL + b"".join(way + b"\0" for way in ways) + b"\0"
    return kind + struct.pack("!I", len(body) + 4) + body


def refusal(state: str, text: str) -> bytes:
    """Spell an error that ends a session."""
    fields = {"S": "FATAL", "V": "FATAL", "C": state, "M": text}
    return _message(b"E", b"", *(name + value for name, value in fields.items()), "")


def _message(kind: bytes, start: bytes, *strings: str) -> bytes:
    body = start + b"".join(text.encode() + b"\0" for text in strings)
    return kind + struct.pack("!I", len(body) + 4) + body
