"""Run an application's history up to the revisions that are asked for, as the application would, or past its env.py."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import os
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Callable

from . import command
from .engines import Redirection

Request = Mapping[str, Any]


def replay(request: Request, redirection: Redirection, steps: list[str]) -> None:
    """Upgrade the target; see `panicdb.replays` for what a request holds. Writes to the target only.

    With `steps` in the request, one revision after the other, all of them, with a copy of the target after each; their
    identifiers are added to the list `steps` in that order.
    """
    if request["way"] == "command":
        command.run(request["command"])
    else:
        config = _config(request)
        redirection.only = _bound(request, config)
        with _application(request.get("flask")):
            if redirection.place.needs_asyncio():
                _upgrade_by_asyncio(config, request, redirection)
            else:
                _upgrade(config, request, redirection, steps)
    redirection.settle()


def _upgrade(config: Any, request: Request, redirection: Redirection, steps: list[str]) -> None:
    connection = config.attributes["connection"] = _connection(redirection)
    try:
        if request.get("bootstrap"):
            _create_first(request["bootstrap"], connection)
        upgrade = _bypass if request["way"] == "bypass" else _run_environment
        if request["steps"]:
            _climb(upgrade, config, request, redirection, steps)
        else:
            upgrade(config, request, connection)
    finally:
        connection.close()
        connection.engine.dispose()


def _upgrade_by_asyncio(config: Any, request: Request, redirection: Redirection) -> None:
    """There is no other driver: env.py, which has a loop of its own, gets no connection from us."""
    if request.get("bootstrap"):
        _within_loop(redirection, lambda connection: _create_first(request["bootstrap"], connection))
    if request["way"] == "bypass":
        _within_loop(redirection, lambda connection: _bypass(config, request, connection))
    else:
        _run_environment(config, request)


def _within_loop(redirection: Redirection, work: Callable[[Any], None]) -> None:
    import sqlalchemy as sa  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    async def run() -> None:
        engine = create_async_engine(redirection.place.url(), poolclass=sa.NullPool)
        async with engine.connect() as connection:
            await connection.run_sync(work)
        await engine.dispose()

    asyncio.run(run())


def _climb(upgrade: Any, config: Any, request: Request, redirection: Redirection, steps: list[str]) -> None:
    """Run all revisions, from bases to heads, and keep a copy of the target, a file, as each leaves it."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(config)
    order = [script.revision for script in scripts.walk_revisions()][::-1]
    connection = config.attributes["connection"]
    for number, revision in enumerate(order):
        if connection.closed:
            connection = config.attributes["connection"] = _connection(redirection)
        upgrade(config, {**request, "revisions": [revision]}, connection)
        connection.close()
        redirection.settle()
        shutil.copyfile(request["path"], os.path.join(request["directory"], f"step-{number}.db"))
        steps.append(revision)


def _run_environment(config: Any, request: Request, connection: Any = None) -> None:
    from alembic import command as alembic_command  # noqa: PLC0415

    # A tuple of revisions is one upgrade to all of them, though the annotation says a string.
    alembic_command.upgrade(config, tuple(request["revisions"]))  # type: ignore[arg-type]
    if connection is not None and not connection.closed and connection.in_transaction():
        connection.commit()  # who hands a connection over answers for its transaction


def _bypass(config: Any, request: Request, connection: Any) -> None:
    """Do what `command.upgrade` does, without running env.py.

    With a transaction for each migration: what one did can be used by the next however that looks at it.
    """
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(config)
    wanted = tuple(request["revisions"])
    options: dict[str, Any] = {"transaction_per_migration": True}
    for name in ("version_table", "version_table_schema"):
        if request.get(name):
            options[name] = request[name]
    if request.get("metadata"):
        options["target_metadata"] = find_object(request["metadata"])

    def steps(heads: Any, _context: Any) -> Any:
        return scripts._upgrade_revs(wanted, heads)  # type: ignore[arg-type]  # noqa: SLF001 - as command.upgrade does

    context = EnvironmentContext(config, scripts, fn=steps, as_sql=False, destination_rev=wanted)
    with context:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations(**_arguments(request))
    connection.commit()


def _arguments(request: Request) -> Mapping[str, Any]:
    """Return what `upgrade()` gets; one of several databases is told by its name."""
    bind = request.get("bind")
    named = {"engine_name": bind} if bind and not _is_address(bind) else {}
    return request.get("arguments") or named


def _config(request: Request) -> Any:
    """Configure as `alembic -c FILE -n SECTION -x ARGUMENT` does; the address is the target's."""
    from alembic.config import Config  # noqa: PLC0415

    options: dict[str, Any] = {
        "ini_section": request.get("section") or "alembic",
        "cmd_opts": argparse.Namespace(x=request.get("x") or None, name=request.get("section") or "alembic"),
    }
    if request.get("toml") and "toml_file" in inspect.signature(Config.__init__).parameters:
        options["toml_file"] = request["toml"]
    config = Config(request.get("ini"), **options)
    # A folder may have a % in its name, where options have their placeholders.
    here: dict[str, str] = config.file_config.defaults()  # type: ignore[assignment]
    here["here"] = here["here"].replace("%", "%%")
    for name, value in {**request.get("options", {}), "sqlalchemy.url": request["url"]}.items():
        config.set_main_option(name, value.replace("%", "%%"))
    return config


def _connection(redirection: Redirection) -> Any:
    """Return a connection that also stands for an engine: applications differ in which of both they expect."""
    import sqlalchemy as sa  # noqa: PLC0415

    class TargetConnection(sa.Connection):
        """Has what an Engine has: `connect`, `begin` being there already."""

        def connect(self) -> TargetConnection:
            return TargetConnection(self.engine)

    engine = sa.create_engine(redirection.place.url(), poolclass=sa.NullPool)
    return TargetConnection(engine)


def _create_first(name: str, connection: Any) -> None:
    """Some histories begin at a schema that the application made itself."""
    find_object(name).create_all(connection)
    connection.commit()


def _application(name: str | None) -> AbstractContextManager[Any]:
    """Enter the context of a Flask application, or of what a function makes one."""
    if name is None:
        return nullcontext()
    found = find_object(name)
    application = found if hasattr(found, "app_context") else found()
    context: AbstractContextManager[Any] = application.app_context()
    return context


def _bound(request: Request, config: Any) -> str | None:
    """Return the address of the one database, among several, that the target stands for."""
    bind: str | None = request.get("bind")
    if bind is not None and _is_address(bind):
        return bind
    names = [*filter(None, re.split(r",\s*", config.get_main_option("databases", "")))]
    sections = config.file_config
    found = {
        name: sections.get(name, "sqlalchemy.url", fallback=None) for name in (*names, *filter(None, [bind]))
    }
    if bind is None:
        if len(set(found.values()) - {None}) > 1 and request["way"] == "environment":
            raise LookupError(
                f"env.py is for several databases ({', '.join(names)}): the setting `bind` names the source's"
            )
        return None
    if found[bind] is None:
        raise LookupError(f"no section [{bind}] with a sqlalchemy.url, which the setting `bind` names")
    return str(found[bind])


def _is_address(text: str) -> bool:
    return "://" in text


def find_object(name: str) -> Any:
    """Return what `module:attribute.attribute` names; the module may lie in the working directory, as for Flask."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module, _, attributes = name.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        found = getattr(found, attribute)
    return found
