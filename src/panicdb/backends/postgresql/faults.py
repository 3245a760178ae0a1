"""What a server or libpq complains of, in words, with what to do; never with a value of a row."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from panicdb.backends.postgresql.addresses import Address
from panicdb.errors import DamagedError, PanicDBError, RefusedError, SourceError, TargetError, TransferError

NO_DATABASE = "3D000"
_PLACE = "panicdb_place"
_LOCK_NOT_AVAILABLE = "55P03"
_NO_PRIVILEGE = "42501"
_READ_ONLY = "25006"
_DISK_FULL = "53100"
_HINTS = {
    "57014": "the server cancelled the statement: somebody did, or a timeout of the server's",
    "53200": "the server has too little memory; where it is shared memory, for locks: max_locks_per_transaction",
    "25P03": "the server's idle_in_transaction_session_timeout ended the transaction",
}


@dataclass(frozen=True)
class _Complaint:
    """Words in what libpq says, and what is said for them."""

    words: re.Pattern[str]
    text: str
    hint: str


def _complaint(words: str, text: str, hint: str) -> _Complaint:
    return _Complaint(re.compile(words, re.IGNORECASE | re.DOTALL), text, hint)


_UNREACHABLE = (
    _complaint(
        r"password authentication failed|no password supplied|fe_sendauth",
        "the server refused the password of this user",
        "the password in the address, PGPASSWORD, or ~/.pgpass",
    ),
    _complaint(
        r"database .* does not exist", "there is no such database", "`psql -l` lists those of a server"
    ),
    _complaint(r"role .* does not exist", "the server knows no such user", "check the user in the address"),
    _complaint(
        r"no pg_hba\.conf entry",
        "the server lets nobody in from here to this database as this user",
        "an entry in its pg_hba.conf, or sslmode=require if it wants TLS",
    ),
    _complaint(
        r"permission denied for database",
        "this user may not connect to this database",
        "GRANT CONNECT ON DATABASE, or another user",
    ),
    _complaint(
        r"does not support SSL|SSL connection (was|is) required|server does not support TLS",
        "TLS was asked for, and the server has none",
        "sslmode=prefer in the address, or TLS on the server",
    ),
    _complaint(
        r"certificate|SSL error|ssl[a-z]* ",
        "TLS failed",
        "sslmode and sslrootcert in the address; libpq's documentation",
    ),
    _complaint(
        r"could not translate host name|name or service not known|failed to resolve",
        "there is no host of this name",
        "check the host in the address",
    ),
    _complaint(
        r"connection refused|no such file or directory",
        "no server answers there",
        "check host and port, and that the server is running",
    ),
    _complaint(
        r"timeout expired|timed out|no route|unreachable",
        "the server can't be reached",
        "check host, port, and what lies between; connect_timeout in the address",
    ),
    _complaint(
        r"too many (clients|connections)|remaining connection slots",
        "the server takes no more connections",
        "try again later",
    ),
    _complaint(
        r"starting up|shutting down|recovery mode|terminating connection due to administrator",
        "the server is starting or stopping",
        "try again",
    ),
)


def unreachable(error: psycopg.Error, address: Address, *, writing: bool) -> RefusedError:
    """Say why a session could not be opened."""
    said = str(error)
    kind = TargetError if writing else SourceError
    for each in _UNREACHABLE:
        if each.words.search(said):
            return kind(f"{address.shown}: {each.text}", hint=each.hint)
    return kind(
        f"{address.shown}: can't be opened: {first_line(said)}",
        hint="check the address and the server's log",
    )


def is_missing(error: psycopg.Error) -> bool:
    """Tell whether a session could not be opened because there is no such database."""
    return error.sqlstate == NO_DATABASE or "does not exist" in str(error)


def is_lost(error: BaseException | None) -> bool:
    """Tell whether the session itself is gone, so that what it did last is not known."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    state = error.sqlstate or ""
    return not state or state.startswith(("08", "57P"))


def is_from_outside(error: psycopg.Error) -> bool:
    """Tell whether a limit, a lock or somebody ended a statement, whatever it was."""
    return is_lost(error) or (error.sqlstate or "").startswith(("53", "55", "57", "58"))


def note_place(error: psycopg.Error, shown: str | None) -> None:
    """Let an error remember in which database it happened."""
    vars(error).setdefault(_PLACE, shown)


@contextmanager
def explained(shown: str, doing: str, *, writing: bool = False) -> Iterator[None]:
    """Let errors of the driver that nobody has explained come out in words, of the database that they happened in."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, vars(error).get(_PLACE) or shown, doing, writing=writing) from error


def explain(error: BaseException, shown: str, doing: str, *, writing: bool = False) -> PanicDBError:
    """Say what went wrong with a statement, `doing` something, in the database that is `shown` so."""
    if not isinstance(error, psycopg.Error):
        return TransferError(f"{shown}: {doing} failed: {type(error).__name__}")
    if is_lost(error):
        return TransferError(
            f"{shown}: the connection to the server was lost while {doing}: {_why_lost(error)}",
            hint="look into the server's log, then run this again",
        )
    state, text = error.sqlstate or "", said(error)
    if state.startswith("XX00"):
        return DamagedError(
            f"{shown}: the server says that the database is damaged: {text}",
            hint="the server's log tells more; restore it from a backup",
            place=shown,
        )
    if state == _DISK_FULL or "No space left" in text:
        return TransferError(
            f"{shown}: the disk of the server is full", hint="make room on the server; nothing was published"
        )
    found = _forbidden(state, text, doing)
    if found is not None:
        kind = TargetError if writing else SourceError
        return kind(f"{shown}: {found[0]}", hint=found[1])
    return TransferError(f"{shown}: {doing} failed: {text}", hint=_HINTS.get(state))


def _forbidden(state: str, text: str, doing: str) -> tuple[str, str] | None:
    """What was found out by looking: nothing was done, and nothing is amiss."""
    if state == _LOCK_NOT_AVAILABLE:
        return (
            f"somebody holds a lock that is needed while {doing}: {text}",
            "--timeout waits longer; pg_locks and pg_stat_activity on the server name the holder",
        )
    if state == _NO_PRIVILEGE and "row-level security" in text:
        return (
            f"a policy of row security would hide rows from this user: {text}",
            "connect as the table's owner, or as a role with BYPASSRLS",
        )
    if state == _READ_ONLY:
        return (
            f"{text}: somebody set that, for this user, this database or the whole server",
            "see default_transaction_read_only; whoever set it knows why",
        )
    return (text, "grant this to the user, or connect as another one") if state == _NO_PRIVILEGE else None


def _why_lost(error: psycopg.Error) -> str:
    named = {
        "57P01": "it was ended by an administrator",
        "57P02": "the server crashed",
        "57P03": "the server is starting or stopping",
        "57P05": "idle_session_timeout ended it",
        "25P03": "idle_in_transaction_session_timeout ended it",
    }
    return named.get(error.sqlstate or "", first_line(str(error)))


def said(error: psycopg.Error) -> str:
    """Repeat the server's message, not its details: these quote keys and values. So do messages about values."""
    state = error.sqlstate or ""
    if state.startswith(("22", "P0")):  # what a function raises may hold anything
        return f"{type(error).__name__} (SQLSTATE {state})"
    return " ".join((error.diag.message_primary or first_line(str(error))).split())


def first_line(text: str) -> str:
    """Return the first line that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason was given")
