"""Addresses of PostgreSQL databases: read from URLs, shown without secrets, handed to libpq as parameters."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa

from panicdb.backends.postgresql.names import LONGEST_NAME
from panicdb.errors import UsageError

_UNQUOTED = sa.make_url("postgresql://h/a%25b").database == "a%b"
_SCHEME = re.compile(r"postgres(?:ql)?(?:\+\w+)?(?=://)", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Tell whether an address is one of PostgreSQL, with whichever driver."""
    return _SCHEME.match(text) is not None


@dataclass(frozen=True)
class Address:
    """Where a database is, in the parameters that libpq knows."""

    parameters: Mapping[str, str] = field(repr=False)
    """Host, port, user, password, dbname, sslmode ...; what is not said here libpq finds where it looks for it."""

    @property
    def database(self) -> str:
        """The name of the database; libpq takes the user's where none is said."""
        return self.parameters["dbname"]

    def to(self, database: str) -> "Address":
        """Return the address of another database of the server."""
        return replace(self, parameters=MappingProxyType({**self.parameters, "dbname": database}))

    @property
    def shown(self) -> str:
        """Say where it is, without user, password and options; no URL: what is left of one looks like a secret."""
        host, port = self.parameters.get("host", ""), self.parameters.get("port", "")
        server = f"[{host}]" if ":" in host else host or "the local server"
        return _printable(f"{self.database} at {server}{port and ':' + port}")

    def fingerprint(self) -> str:
        """Tell the database from others; neither the user nor a password takes part."""
        parts = [self.parameters.get(name, "") for name in ("host", "port", "dbname", "service")]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def read_address(text: str) -> Address:
    """Read a URL as SQLAlchemy has it, or libpq: its query holds parameters of libpq. Opens nothing.

    Raises UsageError; no part of the address is in its message, for any of them may be a secret.
    """
    url = _parsed(_SCHEME.sub("postgresql", text.strip(), count=1))
    if url is None:  # raised here, so that no error that repeats the text is in the chain
        raise _unreadable()
    said: dict[str, Any] = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "dbname": _name_of(url),
        **url.query,
    }
    parameters = {name: str(value) for name, value in said.items() if value not in (None, "")}
    if any(isinstance(value, tuple) for value in url.query.values()):
        raise _unreadable()
    if "dbname" not in parameters:
        raise UsageError("the address names no database", hint="postgresql://HOST/DATABASE")
    _check_name(parameters["dbname"])
    return Address(MappingProxyType(parameters))


def _parsed(text: str) -> sa.URL | None:
    """A `/` in a password that is not escaped ends the host: then an `@` is behind it, which a name would escape."""
    path = text.partition("://")[2].partition("?")[0].partition("/")[2]
    try:
        return None if "@" in path else sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        return None


def _name_of(url: sa.URL) -> str | None:
    """SQLAlchemy unquotes the name of a database since 2.1."""
    return unquote(url.database) if url.database and not _UNQUOTED else url.database


def _check_name(database: str) -> None:
    if len(database.encode()) > LONGEST_NAME or "\0" in database:
        raise UsageError(
            f"the name of the database is too long: PostgreSQL takes {LONGEST_NAME} bytes at most",
            hint="choose a shorter one",
        )


def _unreadable() -> UsageError:
    return UsageError(
        "the address can't be read",
        hint="postgresql://HOST/DATABASE?user=USER&sslmode=require; / and @ within a part are written %2F and %40",
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
