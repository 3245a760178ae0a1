"""COMMIT, and what became of one whose answer never came."""

import time

import psycopg

from panicdb.backends.postgresql import faults, sessions
from panicdb.backends.postgresql.addresses import Address
from panicdb.backends.postgresql.sessions import Session
from panicdb.errors import TargetError, TransferError

SECONDS_TO_ASK = 30.0
SECONDS_BETWEEN = 0.2


def commit(session: Session, address: Address, shown: str) -> None:
    """Commit the session's transaction. Raises TransferError if it was not committed, or if that can't be found out.

    If the connection is lost before the answer comes, the server is asked for the transaction's status, by its number
    (https://www.postgresql.org/docs/current/functions-info.html, pg_xact_status).
    """
    number: str | None = None
    try:
        row = session.execute("SELECT pg_catalog.pg_current_xact_id()::text").fetchone()
        number = None if row is None else row[0]
        session.execute("COMMIT")
    except psycopg.Error as error:
        if not faults.is_lost(error) or number is None:
            raise faults.explain(error, shown, "committing", writing=True) from error
        if not _was_committed(number, address, shown):
            raise TransferError(
                f"{shown}: the connection was lost at the commit, and the server did not commit: nothing was published",
                hint="look into the server's log, then run this again",
            ) from error


def _was_committed(number: str, address: Address, shown: str) -> bool:
    deadline = time.monotonic() + SECONDS_TO_ASK
    reason = "it can't be reached"
    while True:
        try:
            status = _status(number, address)
        except (psycopg.Error, TargetError) as error:
            status, reason = None, faults.first_line(str(error))
        if status in ("committed", "aborted"):
            return status == "committed"
        if time.monotonic() >= deadline:
            raise TransferError(
                f"{shown}: the connection was lost at the commit, and the server can't be asked what became of it "
                f"({reason}): the target holds everything, or no row",
                hint="look which, when the server answers again; `panicdb verify` proves it",
            )
        time.sleep(SECONDS_BETWEEN)


def _status(number: str, address: Address) -> str | None:
    session = sessions.connect(address)
    try:
        row = session.execute("SELECT pg_catalog.pg_xact_status(%s::pg_catalog.xid8)", (number,)).fetchone()
        return None if row is None else row[0]
    finally:
        sessions.close(session)
