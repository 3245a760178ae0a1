"""Shape W: the bundled history run to its newest revision, then the sample data of the product."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from panicdb.experiments import fill

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def history() -> Config:
    settings = Config()  # not alembic.ini, which sets up logging
    settings.set_main_option("script_location", str(MIGRATIONS))
    return settings


def newest_revision() -> str | None:
    return ScriptDirectory.from_config(history()).get_current_head()


def build(target: Path, *, experiments: int, runs: int, invocations: int) -> None:
    engine = sa.create_engine(f"sqlite:///{target}")
    sa.event.listen(engine, "connect", write_fast)
    settings = history()
    with engine.connect() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        connection.commit()
    fill(engine, experiments=experiments, runs=runs, invocations=invocations)
    engine.dispose()


def write_fast(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode = off")
    connection.execute("PRAGMA synchronous = off")
