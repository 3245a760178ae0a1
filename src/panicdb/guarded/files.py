"""A SQLite file as the target: its address for SQLAlchemy, and the proof that a connection leads there."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any

from .guard import Guard
from .targets import MEMORY, Target

OPTIONS = frozenset({"timeout", "detect_types", "isolation_level", "check_same_thread", "cached_statements"})
"""What an address may say of how a SQLite file is opened; the rest is about which file."""


class File:
    """The target, for engines."""

    proven_once = False
    """More files may be attached to a connection later."""

    def __init__(self, target: Target) -> None:
        self._path = target.path

    def holds(self, url: Any) -> bool:
        """Tell whether an address leads to the target."""
        return bool(url.database == self._path)

    def address(self, before: Any, *, is_async: bool) -> Any:
        """Return the address that takes the place of `before`: the driver stays if it is one for SQLite."""
        return address_of(before, self._path, is_async=is_async)

    def options(self, options: dict[str, Any], before: Any, _after: Any) -> dict[str, Any]:
        """Leave out what is for another driver."""
        if before.get_backend_name() == "sqlite":
            return options
        return {
            name: value for name, value in options.items() if name not in ("connect_args", "isolation_level")
        }

    def url(self) -> Any:
        """Return an address of the target for an engine of our own."""
        import sqlalchemy as sa  # noqa: PLC0415 - the guard comes first

        return sa.URL.create("sqlite", database=self._path)

    def needs_asyncio(self) -> bool:
        """Tell whether there are drivers for asyncio alone."""
        return False

    def prove(self, guard: Guard, connection: Any) -> bool:
        """Ask a connection, of whichever driver, which files it has open; tell whether there are any.

        In memory there is none, and nothing to spoil.
        """
        try:
            files = files_of(connection)
        except Exception:  # noqa: BLE001 - no SQLite, whatever it says
            guard.refuse("a connection that is none of SQLite was opened")
        for file in files:
            if not guard.is_target(file):
                guard.refuse(f"the file {os.fsdecode(file)} was opened")
        return bool(files)

    def settle(self) -> None:
        """Put what was committed into the file itself: the application may have chosen to write ahead to a log.

        If somebody still holds the file open, the log stays, empty.
        """
        with closing(sqlite3.connect(self._path)) as connection:
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                return
            try:
                connection.execute("PRAGMA journal_mode = DELETE")
            except sqlite3.OperationalError:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def address_of(before: Any, path: str, *, is_async: bool) -> Any:
    """Return the address of a SQLite file, or of one in memory, for what had the address `before`."""
    same = before.get_backend_name() == "sqlite"
    driver = before.drivername if same else "sqlite+aiosqlite" if is_async else "sqlite"
    query = {name: value for name, value in before.query.items() if same and name in OPTIONS}
    return type(before).create(driver, database=path, query=query)


def is_memory(url: Any) -> bool:
    """Tell whether an address is one of a database in memory."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", MEMORY)


def files_of(connection: Any) -> list[bytes]:
    """Ask a connection of SQLite which files it has open. Raises whatever the driver does if it is none."""
    cursor = connection.cursor()
    try:
        # In hexadecimal digits, since the name of a file need not be text.
        cursor.execute("SELECT hex(file) AS file FROM pragma_database_list")
        files = [bytes.fromhex(row[0]) for row in cursor.fetchall()]
    finally:
        cursor.close()
    return [file for file in files if file]
