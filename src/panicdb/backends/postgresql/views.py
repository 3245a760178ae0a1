"""Materialized views, which are filled anew in the target."""

from collections.abc import Sequence

import psycopg

from panicdb.backends.postgresql.names import quoted
from panicdb.backends.postgresql.sessions import Session

_FILLED = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated AND n.nspname !~ '^pg_' ORDER BY c.oid
"""


def list_filled(session: Session) -> tuple[str, ...]:
    """List the materialized views that hold rows, quoted, oldest first. Reads only; psycopg's errors."""
    return tuple(quoted(*row) for row in session.execute(_FILLED))


def refresh(writer: Session, views: Sequence[str]) -> None:
    """Fill materialized views, in one transaction; one that reads another waits for that. psycopg's errors."""
    waiting, last = list(views), 0
    while waiting and len(waiting) != last:
        last, left = len(waiting), []
        for name in waiting:
            try:
                with writer.transaction():
                    writer.execute(f"REFRESH MATERIALIZED VIEW {name}")
            except psycopg.errors.ObjectNotInPrerequisiteState:
                left.append(name)
        waiting = left
    for name in waiting:
        writer.execute(f"REFRESH MATERIALIZED VIEW {name}")  # and fail with what the server says
