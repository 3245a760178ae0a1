"""Drivers of PostgreSQL find the draft whatever they are asked for: by which arguments, driver by driver.

What says where a server is, who asks, and how both trust each other is exchanged; what a session is to be like stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Callable, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

PORT = 5432
USER = "panicdb"
PLACES = frozenset(
    """
    host hostaddr port dbname database user password passfile service servicefile
    sslmode sslnegotiation sslcompression sslcert sslkey sslkeylogfile sslpassword sslcertmode sslrootcert sslcrl
    sslcrldir sslsni ssl_min_protocol_version ssl_max_protocol_version requiressl ssl ssl_context direct_tls
    gssencmode krbsrvname gsslib gssdelegation channel_binding require_auth requirepeer
    target_session_attrs load_balance_hosts unix_sock source_address sock tcp_keepalive
    """.split()  # noqa: SIM905
)
"""What the arguments of any of these drivers are called that say where, who and how safely."""
VARIABLES = frozenset(
    """
    PGHOST PGHOSTADDR PGPORT PGDATABASE PGUSER PGPASSWORD PGPASSFILE PGSERVICE PGSERVICEFILE PGSYSCONFDIR PGREALM
    PGSSLMODE PGSSLNEGOTIATION PGSSLCOMPRESSION PGSSLCERT PGSSLKEY PGSSLPASSWORD PGSSLCERTMODE PGSSLROOTCERT PGSSLCRL
    PGSSLCRLDIR PGSSLSNI PGREQUIRESSL PGSSLMINPROTOCOLVERSION PGSSLMAXPROTOCOLVERSION PGGSSENCMODE PGKRBSRVNAME
    PGGSSLIB PGGSSDELEGATION PGCHANNELBINDING PGREQUIREAUTH PGREQUIREPEER PGTARGETSESSIONATTRS PGLOADBALANCEHOSTS
    """.split()  # noqa: SIM905
)
"""The same, as drivers find it in the environment."""
_PAIR = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_URI = re.compile(r"postgres(ql)?://", re.IGNORECASE)
Call = Callable[..., Any]


class Aim(NamedTuple):
    """The draft: a database behind a socket of the usual name in a folder."""

    folder: str
    database: str

    @property
    def socket(self) -> str:
        """Return the path of the socket."""
        return os.path.join(self.folder, f".s.PGSQL.{PORT}")

    def parameters(self, user: str | None = None) -> dict[str, str]:
        """Return what leads libpq to the draft. Whoever asks is let in."""
        return {
            "host": self.folder,
            "port": str(PORT),
            "dbname": self.database,
            "user": user or USER,
            "sslmode": "disable",
        }


def forget(environment: MutableMapping[str, str]) -> None:
    """Remove what drivers find in the environment, and the application may have put there since."""
    for name in VARIABLES:
        environment.pop(name, None)


def read_conninfo(text: str) -> dict[str, str]:
    """Read what libpq takes for an address: a URI, or names and values. What can't be read says nothing."""
    if not _URI.match(text):
        return {name: _ESCAPED.sub(r"\1", _unquoted(value)) for name, value in _PAIR.findall(text)}
    try:
        split = urlsplit(text)
    except ValueError:
        return {}
    said = dict(parse_qsl(split.query.replace("+", "%2B")))
    user = split.netloc.rpartition("@")[0].partition(":")[0]
    return {**({"user": unquote(user)} if user else {}), **said}


def _unquoted(value: str) -> str:
    return value[1:-1] if value.startswith("'") else value


def write_conninfo(parameters: Mapping[str, Any]) -> str:
    """Spell names and values for libpq."""
    return " ".join(
        "{}='{}'".format(name, str(value).replace("\\", r"\\").replace("'", r"\'"))
        for name, value in parameters.items()
    )


def _by_libpq(aim: Aim, call: Call, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """An address for libpq comes first, as text or bytes; some drivers take more of it by names."""
    (given,) = arguments[:1] or (options.get("conninfo") or options.get("dsn") or "",)
    said = read_conninfo(os.fsdecode(given or ""))
    kept = {name: value for name, value in said.items() if name not in PLACES}
    text = write_conninfo({**kept, **aim.parameters(options.get("user") or said.get("user"))})
    rest = {name: value for name, value in options.items() if name not in {*PLACES, "conninfo", "dsn"}}
    return call(os.fsencode(text) if isinstance(given, bytes) else text, *arguments[1:], **rest)


def _by_asyncpg(aim: Aim, call: Call, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """An address comes first; what it says that is nothing of its own is a setting of the session."""
    given = arguments[0] if arguments else options.get("dsn")
    said = read_conninfo(given) if given else {}
    settings = {name: value for name, value in said.items() if name not in PLACES}
    after = {name: None if name in PLACES or name == "dsn" else value for name, value in options.items()}
    if settings:
        after["server_settings"] = {**settings, **(options.get("server_settings") or {})}
    user = options.get("user") or said.get("user") or USER
    after.update(host=aim.folder, port=PORT, database=aim.database, user=user, ssl=False)
    return call(*((None,) if arguments else ()), *arguments[1:], **after)


def _by_address(aim: Aim, call: Call, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return call(*arguments, **{**options, "addr": aim.socket})


def _by_pg8000(aim: Aim, call: Call, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """All by names or by their places, the user first."""
    named = dict(zip(_PG8000, arguments))
    said = {**named, **options}
    kept = {name: value for name, value in said.items() if name not in PLACES}
    return call(**kept, user=said.get("user") or USER, database=aim.database, unix_sock=aim.socket)


_PG8000 = (
    *("user", "host", "database", "port", "password", "source_address", "unix_sock", "ssl_context"),
    *("timeout", "tcp_keepalive", "application_name", "replication", "startup_params", "sock"),
)

WAYS: Mapping[str, Callable[..., Any]] = {
    "psycopg.connect": _by_libpq,
    "psycopg.Connection.connect": _by_libpq,
    "psycopg.AsyncConnection.connect": _by_libpq,
    "psycopg.connection.Connection.connect": _by_libpq,
    "psycopg.connection_async.AsyncConnection.connect": _by_libpq,
    "psycopg.generators.connect": _by_libpq,
    "psycopg.pq.PGconn": _by_libpq,
    "psycopg.pq.pq_ctypes.PGconn.connect": _by_libpq,
    "psycopg.pq.pq_ctypes.PGconn.connect_start": _by_libpq,
    "psycopg.pq.pq_ctypes.PGconn.ping": _by_libpq,
    "psycopg.pq._pq_ctypes.PQconnectdb": _by_libpq,
    "psycopg.pq._pq_ctypes.PQconnectStart": _by_libpq,
    "psycopg.pq._pq_ctypes.PQping": _by_libpq,
    "psycopg_c._psycopg.connect": _by_libpq,
    "psycopg_c.pq.PGconn": _by_libpq,
    "psycopg_binary._psycopg.connect": _by_libpq,
    "psycopg_binary.pq.PGconn": _by_libpq,
    "psycopg2.connect": _by_libpq,
    "psycopg2._connect": _by_libpq,
    "psycopg2._psycopg._connect": _by_libpq,
    "psycopg2._psycopg.connection": _by_libpq,
    "asyncpg.connect": _by_asyncpg,
    "asyncpg.create_pool": _by_asyncpg,
    "asyncpg.connection.connect": _by_asyncpg,
    "asyncpg.connect_utils._connect": _by_asyncpg,
    "asyncpg.connect_utils._connect_addr": _by_address,
    "pg8000.connect": _by_pg8000,
    "pg8000.core.CoreConnection": _by_pg8000,
    "pg8000.dbapi.connect": _by_pg8000,
    "pg8000.dbapi.Connection": _by_pg8000,
    "pg8000.native.Connection": _by_pg8000,
}
"""How what opens a connection is led to the draft; what is not listed is never led anywhere."""
