"""The databases of a server: found, made, renamed and dropped, each run under its own lock.

A draft is called as its target, with the run's own mark behind it. Whoever makes one holds an advisory lock on its
name for as long as the run lasts, on a session of its own in a database that every run uses. A draft whose lock is free
was left by a run that was killed, and goes.
"""

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from panicdb.backends.postgresql import faults, sessions
from panicdb.backends.postgresql.addresses import Address
from panicdb.backends.postgresql.names import LONGEST_NAME, quote
from panicdb.backends.postgresql.sessions import Session
from panicdb.errors import TargetError, TransferError
from panicdb.values import Monitor

MARK = "__panicdb_"
MARK_BYTES = 4
DRAFT = 7_919
"""The limit of connections of a draft, until it is a target. Nobody else has this one, and it is there from the first
moment, which a comment would not be: a name alone is no reason to drop a database."""
COMMON = ("postgres", "template1")
"""Databases that nearly every server has, tried in this order for what concerns all databases."""
_DUPLICATE = "42P04"
RENAMINGS = 5
"""How often to try: the server itself waits 5 seconds for sessions to end."""
SECONDS_TO_END = 30.0
SECONDS_BETWEEN = 0.1
_NO_LOCALE = (
    psycopg.errors.WrongObjectType,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.FeatureNotSupported,
)


@dataclass(frozen=True)
class Locale:
    """How a database sorts and classifies text: fixed when it is made."""

    provider: str
    collate: str
    ctype: str
    own: str | None
    """The locale of a provider that is not the C library."""
    rules: str | None

    def clauses(self) -> str:
        """Spell it for CREATE DATABASE."""
        words = [f"LOCALE_PROVIDER {_PROVIDERS[self.provider]}"]
        words += [f"LC_COLLATE {_literal(self.collate)}", f"LC_CTYPE {_literal(self.ctype)}"]
        if self.own is not None:
            words.append(f"{'ICU' if self.provider == 'i' else 'BUILTIN'}_LOCALE {_literal(self.own)}")
        if self.rules is not None:
            words.append(f"ICU_RULES {_literal(self.rules)}")
        return " ".join(words)


_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def _literal(text: str) -> str:
    return sql.Literal(text).as_string()


def read_locale(session: Session) -> Locale:
    """Read the locale of the session's own database. Reads only."""
    columns = session.execute(
        "SELECT attname::text FROM pg_catalog.pg_attribute "
        "WHERE attrelid = 'pg_catalog.pg_database'::pg_catalog.regclass"
    )
    names = {row[0] for row in columns}
    own = "datlocale" if "datlocale" in names else "daticulocale"  # renamed in 17
    rules = "daticurules" if "daticurules" in names else "NULL"  # since 16
    row = session.execute(
        f"SELECT datlocprovider::text, datcollate, datctype, {own}, {rules} FROM pg_catalog.pg_database "
        "WHERE datname = pg_catalog.current_database()"
    ).fetchone()
    assert row is not None  # noqa: S101 - the database is there, since we are in it
    return Locale(*row)


def is_there(address: Address) -> bool:
    """Tell whether a database exists that may be connected to. Raises TargetError if its server can't be asked."""
    try:
        return _answers(address) or (
            _listed(address) and _answers(address)
        )  # it may have got its name just now
    except psycopg.Error as error:
        raise faults.unreachable(error, address, writing=True) from error


def _answers(address: Address) -> bool:
    try:
        session = sessions.connect(address)
    except psycopg.Error as error:
        if faults.is_missing(error):
            return False
        raise
    sessions.close(session)
    return True


def _listed(address: Address) -> bool:
    with common_session(address) as session:
        return find(session, address.database) is not None


def find(session: Session, name: str) -> int | None:
    """Return the number of a database of the server; None where there is none. Reads only."""
    row = session.execute(
        "SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = %s", (name,)
    ).fetchone()
    return None if row is None else int(row[0])


@contextmanager
def common_session(address: Address, monitor: Monitor | None = None) -> Iterator[Session]:
    """Open a session in a database that every run uses, on the server of `address`."""
    last: psycopg.Error | None = None
    for name in COMMON:
        try:
            session = sessions.connect(address.to(name), monitor=monitor)
        except psycopg.Error as error:
            last = last or error
            continue
        try:
            yield session
        finally:
            sessions.close(session)
        return
    assert last is not None  # noqa: S101 - at least one was tried
    raise faults.unreachable(last, address.to(COMMON[0]), writing=True) from last


def key_of(name: str) -> int:
    """Return the number of the advisory lock that stands for a name."""
    return int.from_bytes(hashlib.blake2b(f"panicdb {name}".encode(), digest_size=8).digest(), signed=True)


def try_lock(session: Session, name: str) -> bool:
    """Take the lock that stands for a name, for as long as the session lasts; tell whether it was free."""
    row = session.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (key_of(name),)).fetchone()
    return row is not None and bool(row[0])


def holder_of(session: Session, name: str) -> str:
    """Name the process of the server that holds the lock of a name, as far as that can be seen. Reads only."""
    key = key_of(name) & 0xFFFF_FFFF_FFFF_FFFF
    row = session.execute(
        "SELECT l.pid, a.client_addr::text FROM pg_catalog.pg_locks l "
        "LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid "
        "WHERE l.locktype = 'advisory' AND l.granted "
        "AND l.classid = %s::int8::pg_catalog.oid AND l.objid = %s::int8::pg_catalog.oid",
        (key >> 32, key & 0xFFFF_FFFF),
    ).fetchone()
    return "another run" if row is None else f"another run (process {row[0]} of the server)"


def draft_name(target: str) -> str:
    """Return a new name for a draft of `target`; of long names, the beginning."""
    mark = f"{MARK}{secrets.token_hex(MARK_BYTES)}"
    return _prefix(target) + mark


def _prefix(target: str) -> str:
    room = LONGEST_NAME - len(MARK) - 2 * MARK_BYTES
    return target.encode()[:room].decode(errors="ignore")


def remove_left_over(session: Session, target: str) -> None:
    """Drop the drafts of `target` whose runs are gone. Those of runs that are at work stay."""
    start = _prefix(target) + MARK
    rows = session.execute(
        "SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname::text, %s) "
        "AND pg_catalog.pg_has_role(datdba, 'USAGE') "
        "AND datconnlimit = %s",
        (start, DRAFT),
    ).fetchall()
    for (name,) in rows:
        if len(name) == len(start) + 2 * MARK_BYTES and try_lock(session, name):
            with suppress(psycopg.Error):
                drop(session, name)
            unlock(session, name)


def create(session: Session, name: str, locale: Locale, shown: str) -> None:
    """Make an empty database. Raises TargetError where the role or the server can't."""
    try:
        session.execute(
            f"CREATE DATABASE {quote(name)} TEMPLATE template0 ENCODING 'UTF8' {locale.clauses()} "
            f"CONNECTION LIMIT {DRAFT}"
        )
    except psycopg.errors.InsufficientPrivilege as error:
        raise TargetError(
            f"{shown}: does not exist, and this user may not create databases",
            hint="let somebody create it, empty and owned by this user; or grant CREATEDB",
        ) from error
    except _NO_LOCALE as error:
        raise TargetError(
            f"{shown}: the server can't make a database with the source's locale: {faults.said(error)}",
            hint="create the target yourself, empty, with a locale that the server has",
        ) from error
    except psycopg.Error as error:
        raise faults.explain(error, shown, "creating the database", writing=True) from error


def drop(session: Session, name: str) -> None:
    """Drop a database, and end the sessions in it."""
    session.execute(f"DROP DATABASE IF EXISTS {quote(name)} WITH (FORCE)")


def rename(address: Address, draft: str, target: str, shown: str) -> None:
    """Give a finished draft its target's name: the one visible step.

    If the connection is lost meanwhile, the server is asked what became of it. Raises TargetError if the name is taken
    by now, TransferError otherwise.
    """
    with common_session(address) as session:
        number, process = find(session, draft), session.info.backend_pid
        terminate_others(session, draft)
        try:
            _rename(session, draft, target)
        except psycopg.Error as error:
            if error.sqlstate == _DUPLICATE:
                raise TargetError(
                    f"{shown}: appeared while the copy was made; it was left alone",
                    hint="choose another name",
                ) from error
            if not faults.is_lost(error) or not _has_become(address, process, number, target, shown):
                raise faults.explain(error, shown, "publishing", writing=True) from error


def _rename(session: Session, draft: str, target: str) -> None:
    """One transaction, so that no target bears the mark of a draft. Autovacuum may be there for a moment."""
    for attempt in range(RENAMINGS):
        try:
            with session.transaction():
                session.execute(f"ALTER DATABASE {quote(draft)} CONNECTION LIMIT -1")
                session.execute(f"ALTER DATABASE {quote(draft)} RENAME TO {quote(target)}")
        except psycopg.errors.ObjectInUse:
            if attempt == RENAMINGS - 1:
                raise
        else:
            return


def _has_become(address: Address, process: int, number: int | None, target: str, shown: str) -> bool:
    """Ask when the session that was lost is over: until then, it may still be at it."""
    try:
        with common_session(address) as session:
            _wait_for_end(session, process)
            return number is not None and find(session, target) == number
    except (TargetError, psycopg.Error) as error:
        raise TransferError(
            f"{shown}: the connection was lost while the finished database was renamed, and the server can't be asked "
            "what became of it: it is complete under its name, or not there",
            hint="look whether it is there; `panicdb verify` proves it",
        ) from error


def _wait_for_end(session: Session, process: int) -> None:
    deadline = time.monotonic() + SECONDS_TO_END
    while session.execute("SELECT FROM pg_catalog.pg_stat_activity WHERE pid = %s", (process,)).fetchone():
        if time.monotonic() >= deadline:
            raise psycopg.OperationalError("a session did not end")
        time.sleep(SECONDS_BETWEEN)


def terminate_others(session: Session, name: str) -> None:
    """End what is left of sessions in a draft: a migration that was killed may have some."""
    session.execute(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "
        "WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid() "
        # Whoever is none of ours may not be ended by us: autovacuum, for one, gives way by itself.
        "AND usesysid IS NOT NULL AND pg_catalog.pg_has_role(usesysid, 'USAGE') "
        "AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = usesysid AND r.rolname <> CURRENT_USER)",
        (name,),
    )


def are_same(one: Session, other: Session) -> bool:
    """Tell whether two sessions are in the same database, whatever their addresses say.

    A lock that one holds is not free to the other: only within one database of one server.
    """
    nonce = secrets.token_hex(16)
    if not try_lock(one, nonce):
        return False
    try:
        if not try_lock(other, nonce):
            return True
        unlock(other, nonce)
        return False
    finally:
        unlock(one, nonce)


def unlock(session: Session, name: str) -> None:
    """Let go of the lock that stands for a name."""
    session.execute("SELECT pg_catalog.pg_advisory_unlock(%s)", (key_of(name),))
