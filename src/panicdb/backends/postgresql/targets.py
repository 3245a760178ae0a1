"""What may be a target: a database that does not exist and can be made, or an empty one that was given."""

from collections.abc import Sequence

from panicdb.backends.base import Place
from panicdb.backends.postgresql import databases, emptiness, privileges, sessions
from panicdb.backends.postgresql.addresses import read_address
from panicdb.backends.postgresql.sessions import Session
from panicdb.errors import TargetError


def lock(session: Session, name: str, shown: str) -> None:
    """Take the lock of a target's name. Raises TargetError if another run has it."""
    if not databases.try_lock(session, name):
        raise TargetError(
            f"{shown}: {databases.holder_of(session, name)} makes it just now",
            hint="wait for that one, or choose another name",
        )


def check_target(place: Place, source: Place, *, existing: str) -> bool:
    """Refuse a target that is the source, holds anything, or can't be made. Writes nothing."""
    address = read_address(place.location)
    if not databases.is_there(address):
        with databases.common_session(address) as session:
            if not privileges.may_create_databases(session):
                raise TargetError(
                    f"{place.shown}: does not exist, and this user may not create databases",
                    hint="let somebody create it, empty and owned by this user; or grant CREATEDB",
                )
        return False
    with sessions.opened(address, writing=True) as target:
        if source.backend is place.backend:
            _refuse_source(target, place, source)
        lock(target, address.database, place.shown)  # a run that is at work would keep us waiting below
        databases.unlock(target, address.database)
        refuse_rows(target, place, existing)
    return False


def _refuse_source(target: Session, place: Place, source: Place) -> None:
    with sessions.opened(read_address(source.location)) as origin:
        if databases.are_same(target, origin):
            raise TargetError(
                f"{place.shown}: source and target are the same database",
                hint="name another target; the source is never written",
            )


def refuse_rows(session: Session, place: Place, existing: str = "refuse") -> None:
    """Refuse a database that holds rows. Reads only. Raises TargetError."""
    filled = emptiness.filled_tables(session)
    if filled:
        raise holding_rows(place, filled, existing)


def holding_rows(place: Place, filled: Sequence[str], existing: str = "refuse") -> TargetError:
    """Say that a database holds rows in these tables, and what would be filled."""
    other = {
        "merge": "rows are merged into SQLite files only",
        "replace": "only SQLite files are replaced",
    }.get(existing, "only an empty database, or one with the source's schema and no rows, is filled")
    more = f" and {len(filled) - 3} more tables" if len(filled) > 3 else ""  # noqa: PLR2004 - the first three
    return TargetError(
        f"{place.shown}: exists and holds rows, in {', '.join(filled[:3])}{more}; {other}",
        hint="choose another name, or empty it yourself",
    )
