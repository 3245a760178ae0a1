"""Every engine that an application makes leads to the target, whatever address it was given; and proves it.

The redirection makes most applications work as they are. It is no protection: a connection that it misses is met by
the guard, which asks each one where it leads when it is opened, when it first executes, and when a migration gets it.
"""

from __future__ import annotations

import functools
import re
import sys
import weakref
from contextlib import suppress
from typing import Any, Callable, Union

from .drafts import Draft
from .files import File, address_of, is_memory
from .guard import Guard
from .targets import MEMORY, Target

BOUND = ("creator", "async_creator", "pool")
"""What makes connections itself, wherever to."""
PROVEN = "panicdb_target"
_INVALID = re.compile(r"Invalid argument\(s\) (.+?) sent to create_engine")
Place = Union[File, Draft]


class Redirection:
    """Where engines lead: to the target; with `only`, an address, those of that one, and others into memory."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.only: str | None = None
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()

    def of(self, before: Any, *, is_async: bool) -> Any:
        """Return the address that takes the place of `before`."""
        chosen = self.only is None or before.render_as_string(hide_password=False) == self.only
        if chosen or self.place.holds(before):
            return self.place.address(before, is_async=is_async)
        return address_of(before, MEMORY, is_async=is_async)

    def keep(self, engine: Any) -> Any:
        """Remember an engine, and return it."""
        self._made.add(engine)
        return engine

    def settle(self) -> None:
        """Close the connections that engines hold in reserve, and let the target be whole."""
        for engine in self._made:
            with suppress(Exception):  # one for asyncio can't be closed from here
                engine.dispose()
        self.place.settle()


def install(guard: Guard, target: Target) -> Redirection:
    """Send every engine to the target. Imports SQLAlchemy and Alembic, if they were not yet."""
    import sqlalchemy as sa  # noqa: PLC0415 - the guard comes first
    from sqlalchemy import engine  # noqa: PLC0415
    from sqlalchemy.engine import create  # noqa: PLC0415

    redirection = Redirection(File(target) if target.is_file else Draft(target))
    make = redirected(create.create_engine, redirection)
    for module in (create, engine, sa):
        module.create_engine = make  # type: ignore[attr-defined]
    # It takes the function from there when it is imported; what imports it early is none of ours.
    asyncio = sys.modules.get("sqlalchemy.ext.asyncio.engine")
    if asyncio is not None:
        asyncio._create_engine = make  # type: ignore[attr-defined]  # noqa: SLF001
    _challenge_connections(guard, redirection.place)
    _challenge_configurations(guard, redirection)
    return redirection


def _challenge_connections(guard: Guard, place: Place) -> None:
    from sqlalchemy import Engine, event  # noqa: PLC0415
    from sqlalchemy.pool import Pool  # noqa: PLC0415

    def connected(connection: Any, record: Any) -> None:
        record.info[PROVEN] = place.prove(guard, connection)
        with suppress(Exception):  # asking may have begun a transaction, and nothing else has yet
            connection.rollback()

    def executing(connection: Any, *_: Any) -> None:
        if PROVEN not in connection.info:
            connection.info[PROVEN] = place.prove(guard, connection.connection.dbapi_connection)

    event.listen(Pool, "connect", connected)
    event.listen(Engine, "before_cursor_execute", executing)


def _challenge_configurations(guard: Guard, redirection: Redirection) -> None:
    """Migrations run on a connection; none is what `--sql` mode is, which reaches no target.

    In memory they would be lost. Of several databases, all but one are there on purpose.
    """
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415

    configure = EnvironmentContext.configure
    place = redirection.place

    def leads_there(connection: Any) -> bool:
        if not (place.proven_once and PROVEN in connection.info):
            connection.info[PROVEN] = place.prove(guard, connection.connection.dbapi_connection)
        return bool(connection.info[PROVEN])

    @functools.wraps(configure)
    def checked(self: Any, connection: Any = None, *arguments: Any, **options: Any) -> Any:
        if connection is None:
            guard.refuse("migrations would run without a connection, as SQL text")
        if not leads_there(connection) and redirection.only is None:
            raise RuntimeError("env.py would run the migrations on a database in memory, not on the target")
        return configure(self, connection, *arguments, **options)

    EnvironmentContext.configure = checked  # type: ignore[method-assign]


def redirected(make: Callable[..., Any], redirection: Redirection) -> Callable[..., Any]:
    """Wrap `create_engine`: the address is exchanged, the application's driver stays if it fits the target."""

    @functools.wraps(make)
    def create_engine(url: Any, **options: Any) -> Any:
        before = _parsed(url)
        elsewhere = any(options.get(name) is not None for name in BOUND)
        if is_memory(before) and not elsewhere:
            return make(url, **options)
        after = redirection.of(before, is_async=bool(options.get("_is_async")) or _is_asynchronous(before))
        kept = {name: value for name, value in options.items() if name not in BOUND}
        return redirection.keep(_make(make, after, redirection.place.options(kept, before, after)))

    return create_engine


def _parsed(url: Any) -> Any:
    from sqlalchemy.engine import make_url  # noqa: PLC0415

    return make_url(url)


def _is_asynchronous(url: Any) -> bool:
    """Tell whether a driver is one for asyncio, which an engine made in the usual way may be wrapped for."""
    try:
        return bool(url.get_dialect().is_async)
    except Exception:  # noqa: BLE001 - a dialect that is not installed, or not whole
        return False


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
