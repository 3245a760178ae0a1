"""Every engine that an application makes leads to the target, whatever address it was given; and proves it.

The redirection makes most applications work as they are. It is no protection: a connection that it misses is met by
the guard, which asks each one where it leads when it is opened, when it first executes, and when a migration gets it.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import weakref
from contextlib import suppress
from typing import Any, Callable

from .guard import Guard

SQLITE_OPTIONS = frozenset(
    {"timeout", "detect_types", "isolation_level", "check_same_thread", "cached_statements"}
)
"""What an address may say of how a SQLite file is opened; the rest is about which file."""
BOUND = ("creator", "async_creator", "pool")
"""What makes connections itself, wherever to."""
PROVEN = "panicdb_target"
MEMORY = ":memory:"
_INVALID = re.compile(r"Invalid argument\(s\) (.+?) sent to create_engine")


class Redirection:
    """Where engines lead: to the SQLite file `path`; with `only`, an address, those of that one, others into memory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.only: str | None = None
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()

    def of(self, before: Any, *, is_async: bool) -> Any:
        """Return the address that takes the place of `before`."""
        chosen = self.only is None or before.render_as_string(hide_password=False) == self.only
        path = self.path if chosen or before.database == self.path else MEMORY
        return _target(before, path, is_async=is_async)

    def keep(self, engine: Any) -> Any:
        """Remember an engine, and return it."""
        self._made.add(engine)
        return engine

    def dispose(self) -> None:
        """Close the connections that engines hold in reserve."""
        for engine in self._made:
            with suppress(Exception):  # one for asyncio can't be closed from here
                engine.dispose()


def install(guard: Guard, path: str) -> Redirection:
    """Send every engine to the SQLite file `path`. Imports SQLAlchemy and Alembic, if they were not yet."""
    import sqlalchemy as sa  # noqa: PLC0415 - the guard comes first
    from sqlalchemy import engine  # noqa: PLC0415
    from sqlalchemy.engine import create  # noqa: PLC0415

    redirection = Redirection(path)
    make = redirected(create.create_engine, redirection)
    for module in (create, engine, sa):
        module.create_engine = make  # type: ignore[attr-defined]
    # It takes the function from there when it is imported; what imports it early is none of ours.
    asyncio = sys.modules.get("sqlalchemy.ext.asyncio.engine")
    if asyncio is not None:
        asyncio._create_engine = make  # type: ignore[attr-defined]  # noqa: SLF001
    _challenge_connections(guard)
    _challenge_configurations(guard, redirection)
    return redirection


def _challenge_connections(guard: Guard) -> None:
    from sqlalchemy import Engine, event  # noqa: PLC0415
    from sqlalchemy.pool import Pool  # noqa: PLC0415

    def connected(connection: Any, record: Any) -> None:
        _prove(guard, connection)
        record.info[PROVEN] = True

    def executing(connection: Any, *_: Any) -> None:
        if PROVEN not in connection.info:
            _prove(guard, connection.connection.dbapi_connection)
            connection.info[PROVEN] = True

    event.listen(Pool, "connect", connected)
    event.listen(Engine, "before_cursor_execute", executing)


def _challenge_configurations(guard: Guard, redirection: Redirection) -> None:
    """Migrations run on a connection; none is what `--sql` mode is, which reaches no target.

    In memory they would be lost. Of several databases, all but one are there on purpose.
    """
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415

    configure = EnvironmentContext.configure

    @functools.wraps(configure)
    def checked(self: Any, connection: Any = None, *arguments: Any, **options: Any) -> Any:
        if connection is None:
            guard.refuse("migrations would run without a connection, as SQL text")
        if not _prove(guard, connection.connection.dbapi_connection) and redirection.only is None:
            raise RuntimeError("env.py would run the migrations on a database in memory, not on the target")
        return configure(self, connection, *arguments, **options)

    EnvironmentContext.configure = checked  # type: ignore[method-assign]


def _prove(guard: Guard, connection: Any) -> bool:
    """Ask a connection, of whichever driver, which files it has open; tell whether there are any.

    In memory there is none, and nothing to spoil.
    """
    cursor = connection.cursor()
    try:
        # In hexadecimal digits, since the name of a file need not be text.
        cursor.execute("SELECT hex(file) AS file FROM pragma_database_list")
        files = [bytes.fromhex(row[0]) for row in cursor.fetchall()]
    except Exception:  # noqa: BLE001 - no SQLite, whatever it says
        guard.refuse("a connection that is none of SQLite was opened")
    finally:
        cursor.close()
    files = [file for file in files if file]
    for file in files:
        if not guard.is_target(file):
            guard.refuse(f"the file {os.fsdecode(file)} was opened")
    return bool(files)


def redirected(make: Callable[..., Any], redirection: Redirection) -> Callable[..., Any]:
    """Wrap `create_engine`: the address is exchanged, the application's driver stays if it is one for SQLite."""

    @functools.wraps(make)
    def create_engine(url: Any, **options: Any) -> Any:
        before = _parsed(url)
        elsewhere = any(options.get(name) is not None for name in BOUND)
        if _is_memory(before) and not elsewhere:
            return make(url, **options)
        after = redirection.of(before, is_async=bool(options.get("_is_async")) or _is_asynchronous(before))
        same = before.get_backend_name() == "sqlite"
        return redirection.keep(_make(make, after, _options(options, same=same)))

    return create_engine


def _parsed(url: Any) -> Any:
    from sqlalchemy.engine import make_url  # noqa: PLC0415

    return make_url(url)


def _target(before: Any, path: str, *, is_async: bool) -> Any:
    same = before.get_backend_name() == "sqlite"
    driver = before.drivername if same else "sqlite+aiosqlite" if is_async else "sqlite"
    query = {name: value for name, value in before.query.items() if same and name in SQLITE_OPTIONS}
    return type(before).create(driver, database=path, query=query)


def _is_asynchronous(url: Any) -> bool:
    """Tell whether a driver is one for asyncio, which an engine made in the usual way may be wrapped for."""
    try:
        return bool(url.get_dialect().is_async)
    except Exception:  # noqa: BLE001 - a dialect that is not installed, or not whole
        return False


def _is_memory(url: Any) -> bool:
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def _options(options: dict[str, Any], *, same: bool) -> dict[str, Any]:
    kept = {name: value for name, value in options.items() if name not in BOUND}
    if not same:  # they are for another driver
        kept.pop("connect_args", None)
        kept.pop("isolation_level", None)
    return kept


def _make(make: Callable[..., Any], url: Any, options: dict[str, Any]) -> Any:
    """Leave out what the other engine's dialect or pool does not know."""
    try:
        return make(url, **options)
    except TypeError as error:
        refused = _INVALID.search(str(error))
        if refused is None:
            raise
        unknown = {name.strip("' ") for name in refused.group(1).split(",")}
        return make(url, **{name: value for name, value in options.items() if name not in unknown})
