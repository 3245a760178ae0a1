"""A database of a PostgreSQL server as the target: its address for SQLAlchemy, and the proof that a session is its."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import suppress
from typing import Any

from .aims import PLACES, USER
from .files import files_of
from .guard import Guard
from .targets import PROOF, SERVER, Target

MODULES = {
    "psycopg": "psycopg",
    "psycopg_async": "psycopg",
    "psycopg2": "psycopg2",
    "pg8000": "pg8000",
    "asyncpg": "asyncpg",
}
"""The drivers that lead to the draft, by the names that SQLAlchemy has for them."""
LIBPQ = frozenset({"psycopg", "psycopg_async", "psycopg2"})
SYNCHRONOUS = ("psycopg", "psycopg2", "pg8000")
ASYNCHRONOUS = ("asyncpg", "psycopg_async")
LACKING = "no driver of PostgreSQL: psycopg, psycopg2, pg8000 or asyncpg is needed"


def is_drivable() -> bool:
    """Tell whether the interpreter has a driver that leads to the draft."""
    return any(importlib.util.find_spec(module) is not None for module in MODULES.values())


class Draft:
    """The target, for engines."""

    proven_once = True
    """To ask again would begin a transaction, and a session never leaves its database."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def holds(self, url: Any) -> bool:
        """Tell whether an address leads to the target."""
        return url.get_backend_name() == SERVER and self._target.folder in (
            url.query.get("host"),
            url.query.get("unix_sock"),
        )

    def address(self, before: Any, *, is_async: bool) -> Any:
        """Return the address that takes the place of `before`: the application's driver stays, if it is there."""
        driver = _driver_like(before, is_async=is_async)
        same = _driver_of(before) == driver
        query = {name: value for name, value in before.query.items() if same and name not in PLACES}
        if driver == "pg8000":
            query["unix_sock"] = self._target.path
        else:
            query["host"] = self._target.folder
        return type(before).create(
            before.drivername if same else f"{SERVER}+{driver}",
            username=before.username or USER,
            host="localhost",
            database=self._target.database,
            query=query,
        )

    def options(self, options: dict[str, Any], before: Any, after: Any) -> dict[str, Any]:
        """Leave out what is for another driver."""
        old, new = _driver_of(before), _driver_of(after)
        kept = dict(options)
        if old not in MODULES:
            kept.pop("isolation_level", None)
        if old != new and not LIBPQ.issuperset((old, new)):
            kept.pop("connect_args", None)
        return kept

    def url(self) -> Any:
        """Return an address of the target for an engine of our own."""
        import sqlalchemy as sa  # noqa: PLC0415 - the guard comes first

        return sa.make_url(self._target.address())

    def needs_asyncio(self) -> bool:
        """Tell whether there are drivers for asyncio alone."""
        return _first_of(SYNCHRONOUS) is None and _first_of(ASYNCHRONOUS) is not None

    def prove(self, guard: Guard, connection: Any) -> bool:
        """Ask a connection, of whichever driver, for what only the draft's sessions have; False for one in memory.

        The answer is an error or none, so that no class for rows can stand in the way.
        """
        cursor = connection.cursor()
        try:
            cursor.execute(_challenge(self._target.path))
        except Exception:  # noqa: BLE001 - whatever it is, it is not the draft
            if _is_in_memory(connection):
                return False
            guard.refuse("a connection that is none of the draft's was opened")
        finally:
            cursor.close()
        return True

    def settle(self) -> None:
        """What was committed is there."""


def _challenge(path: str) -> str:
    """In hexadecimal digits, since signs of percent mean something to some drivers."""
    shown = f"pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_setting('{PROOF}', true), 'UTF8'), 'hex')"
    return f"SELECT 1 / coalesce(({shown} = '{path.encode().hex()}')::int, 0) AS proof"


def _is_in_memory(connection: Any) -> bool:
    with suppress(Exception):
        return not files_of(connection)
    return False


def _driver_of(url: Any) -> str | None:
    """Name the driver of an address of PostgreSQL; None for another engine, or a dialect that is not there."""
    if url.get_backend_name() != SERVER:
        return None
    with suppress(Exception):
        return str(url.get_driver_name())
    return None


def _driver_like(before: Any, *, is_async: bool) -> str:
    """Choose a driver that is there: the same one if possible, else one of the same kind."""
    given = _driver_of(before)
    fit = ASYNCHRONOUS + SYNCHRONOUS[:1] if is_async else SYNCHRONOUS + ASYNCHRONOUS[:1]
    found = _first_of((*((given,) if given in MODULES and (given in fit or not is_async) else ()), *fit))
    if found is None:
        raise LookupError(f"this interpreter has {LACKING}")
    return found


def _first_of(drivers: tuple[str, ...]) -> str | None:
    for driver in drivers:
        with suppress(Exception):  # one that is there may lack its library
            importlib.import_module(MODULES[driver])
            return driver
    return None
