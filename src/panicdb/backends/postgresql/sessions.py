"""Sessions of a server: opened with settings that make text mean one thing, polled while they wait, and explained."""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import conninfo, pq
from psycopg.adapt import AdaptersMap
from psycopg.types.string import TextLoader
from sqlalchemy.pool import StaticPool

from panicdb.backends.postgresql import faults
from panicdb.backends.postgresql.addresses import Address
from panicdb.errors import PanicDBError, SourceError, UsageError
from panicdb.values import Monitor

OLDEST = 15
"""The oldest major version of a server that is supported, and tested."""
CONNECT_SECONDS = "10"
CANCEL_SECONDS = 5.0
APPLICATION = "panicdb"
_WRONG_NAME = re.compile(r'invalid connection option "(\w+)"')
_WRONG_VALUE = re.compile(
    r'invalid (\w+) (?:value|number): |for connection option "(\w+)"|bad value for (\w+):', re.IGNORECASE
)
Explain = Callable[[BaseException], PanicDBError]
_Value = TypeVar("_Value")

_DEFAULTS = {
    "application_name": APPLICATION,
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
    "client_encoding": "UTF8",
}
_SETTINGS = {
    # Text means the same on every server, as for pg_dump; and all digits of a float are told.
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "synchronize_seqscans": "off",
    # What is named is what is meant, in definitions, too.
    "search_path": "",
    # A policy that hides rows is an error, never a silent subset.
    "row_security": "off",
    # A run takes as long as it takes; only locks are waited for no longer than the user says.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # Compiling costs more than it saves where statements are many and plans are guesses.
    "jit": "off",
}
_OPTIONAL = ("idle_session_timeout", "transaction_timeout")
"""Settings of newer servers that would end a session."""
_AS_PYTHON = frozenset(
    "bool bytea char float4 float8 int2 int4 int8 name numeric oid text varchar xid8".split()  # noqa: SIM905
)
"""Types whose values Python holds as they are; all others arrive as the server's own text."""


def _text_for_the_rest() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    for kind in psycopg.adapters.types:
        if kind.name not in _AS_PYTHON:
            adapters.register_loader(kind.oid, TextLoader)
        if kind.array_oid:
            adapters.register_loader(kind.array_oid, TextLoader)
    return adapters


ADAPTERS = _text_for_the_rest()


class Session(psycopg.Connection[Any]):
    """A connection that asks its monitor while it waits for the server, and cancels what it waits for if told to."""

    monitor: Monitor | None = None
    shown: str | None = None
    """Where it is, for those who catch an error far from here."""

    def wait(
        self, gen: Generator[Any, Any, _Value], interval: float = 0.1, timeout: float | None = None
    ) -> _Value:
        """Wait as psycopg does, and poll at least ten times a second."""
        try:
            if self.monitor is None:
                return super().wait(gen, interval, timeout)
            return super().wait(_polled(gen, self.monitor.tick), interval, timeout)
        except psycopg.Error as error:
            faults.note_place(error, self.shown)
            raise
        except Exception:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """A poll ended the wait: cancel the statement, so that the session can still be closed in order."""
        self.monitor = None
        if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_SECONDS)


def _polled(gen: Generator[Any, Any, _Value], poll: Callable[[], None]) -> Generator[Any, Any, _Value]:
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready:
                poll()
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def connect(address: Address, *, monitor: Monitor | None = None, lock_seconds: float = 0.0) -> Session:
    """Open a session in which each statement is a transaction of its own. Raises psycopg's errors, and RefusedError.

    `lock_seconds` bounds waiting for locks; zero or less waits as little as can be.
    """
    parameters = {**_DEFAULTS, **address.parameters, "client_encoding": "UTF8"}
    try:
        session = Session.connect(
            conninfo.make_conninfo("", **parameters),
            autocommit=True,
            prepare_threshold=None,
            context=ADAPTERS,
        )
    except (psycopg.ProgrammingError, psycopg.OperationalError) as error:
        misspelt = _misspelt(error)
        if misspelt is None:
            raise
        raise UsageError(
            f"{address.shown}: {misspelt}",
            hint="options are those of libpq, such as sslmode, sslrootcert, connect_timeout",
        ) from error
    try:
        session.monitor = monitor
        session.shown = address.shown
        _require_supported(session, address.shown)
        _settle(session, lock_seconds)
    except BaseException:
        session.close()
        raise
    return session


def _misspelt(error: psycopg.Error) -> str | None:
    """Name the option that libpq does not take, if that is what it complains of. Its value may be a secret."""
    text = str(error)
    value = _WRONG_VALUE.search(text)
    if value is not None:
        return (
            f"an option of the address has a value that it can't have: {next(filter(None, value.groups()))}"
        )
    name = _WRONG_NAME.search(text)
    return None if name is None else f"an option of the address is unknown: {name[1]}"


def _require_supported(session: Session, shown: str) -> None:
    version = session.info.server_version // 10_000
    if version < OLDEST:
        raise SourceError(
            f"{shown}: the server is PostgreSQL {version}, and {OLDEST} is the oldest that is supported",
            hint="upgrade the server, or use its own pg_dump",
        )
    encoding = session.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SourceError(
            f"{shown}: its encoding is {encoding}, and only UTF8 is supported",
            hint="make a database with ENCODING 'UTF8' and move the rows there with pg_dump",
        )


def _settle(session: Session, lock_seconds: float) -> None:
    known = "SELECT name FROM pg_catalog.pg_settings WHERE name = ANY(%s)"
    optional = [row[0] for row in session.execute(known, (list(_OPTIONAL),))]
    milliseconds = str(max(1, round(lock_seconds * 1000)))
    settings = {**_SETTINGS, **dict.fromkeys(optional, "0"), "lock_timeout": milliseconds}
    session.execute(
        "SELECT pg_catalog.set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
        (list(settings), list(settings.values())),
    )


def wrap(session: Session, explain: Explain) -> sa.Connection:
    """Give a session to SQLAlchemy; every error that the driver raises comes out as `explain` says."""
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: session,
        poolclass=StaticPool,
        pool_reset_on_return=None,  # transactions are begun and ended by name, and who opened the session closes it
        hide_parameters=True,
        use_native_hstore=False,
    )

    @sa.event.listens_for(engine, "handle_error")
    def translate(context: sa.ExceptionContext) -> None:
        original = context.original_exception
        # It can't be opened again: whoever goes on is to be told that it is lost.
        context.is_disconnect = False
        if isinstance(original, psycopg.Error):
            raise explain(original) from original

    try:
        return engine.connect()
    except sa.exc.DBAPIError as error:  # while SQLAlchemy gets to know the server
        if isinstance(error.orig, psycopg.Error):
            raise explain(error.orig) from error.orig
        raise


@contextmanager
def unwrapping(connection: sa.Connection) -> Iterator[None]:
    """Let SQLAlchemy forget what `wrap` gave it: a connection that is only closed below it is kept for ever."""
    try:
        yield
    finally:
        with suppress(psycopg.Error, sa.exc.SQLAlchemyError, PanicDBError):
            connection.invalidate()
        with suppress(psycopg.Error, sa.exc.SQLAlchemyError, PanicDBError):
            connection.close()
        connection.engine.dispose()


@contextmanager
def opened(
    address: Address, *, monitor: Monitor | None = None, lock_seconds: float = 0.0, writing: bool = False
) -> Iterator[Session]:
    """Open a session and close it. Raises RefusedError, in words, where it can't be opened."""
    try:
        session = connect(address, monitor=monitor, lock_seconds=lock_seconds)
    except psycopg.Error as error:
        raise faults.unreachable(error, address, writing=writing) from error
    try:
        yield session
    finally:
        close(session)


def close(session: Session) -> None:
    """Close a session, whatever state it is in."""
    session.monitor = None
    with suppress(psycopg.Error):
        session.close()


@contextmanager
def translated(explain: Explain) -> Iterator[None]:
    """Let errors of the driver come out as `explain` says."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error) from error
