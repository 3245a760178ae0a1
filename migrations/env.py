"""Run the bundled history, against a connection that is handed over or the configured URL."""

from logging.config import fileConfig
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from panicdb.experiments import Base

config = context.config

OPTIONS: dict[str, Any] = {
    "target_metadata": Base.metadata,
    "render_as_batch": True,
    "compare_server_default": True,
    # A failing step leaves the finished ones in place, and the version row tells which those are.
    "transaction_per_migration": True,
}


def configure_logging() -> None:
    if config.config_file_name is not None and config.file_config.has_section("loggers"):
        fileConfig(config.config_file_name, disable_existing_loggers=False)


def configured_url() -> str:
    url = config.get_main_option("sqlalchemy.url")
    if not url:
        raise CommandError("no database: set sqlalchemy.url, or hand over a connection")
    return url


def migrate() -> None:
    with context.begin_transaction():
        context.run_migrations()


def run_offline() -> None:
    context.configure(
        url=configured_url(),
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **OPTIONS,
    )
    migrate()


def run_online(connection: Connection) -> None:
    context.configure(connection=connection, **OPTIONS)
    migrate()


def run_on_own_engine() -> None:
    engine = create_engine(configured_url(), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            run_online(connection)
    finally:
        engine.dispose()


def run() -> None:
    configure_logging()
    given = config.attributes.get("connection")
    if context.is_offline_mode():
        run_offline()
    elif given is not None:
        run_online(given)
    else:
        run_on_own_engine()


run()
