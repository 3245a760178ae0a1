"""Small applications with a history of migrations, and the production database that they believe is theirs."""

import os
import sqlite3
import textwrap
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from panicdb.histories import History, HistoryChoice, configured_histories
from panicdb.replays import Goal, Order, Replayed, Replayer
from panicdb.values import Monitor

FIRST = """
    import sqlalchemy as sa
    from alembic import op

    revision = "1111aaaa"
    down_revision = None

    def upgrade():
        op.create_table("lab", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(40)))
"""
SECOND = """
    import sqlalchemy as sa
    from alembic import op

    revision = "2222bbbb"
    down_revision = "1111aaaa"

    def upgrade():
        op.create_table(
            "run",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("lab_id", sa.Integer, sa.ForeignKey("lab.id"), nullable=False),
        )
        op.create_index("ix_run_lab", "run", ["lab_id"])
"""
INI = """
    [alembic]
    script_location = migrations
    prepend_sys_path = .
    path_separator = os
    sqlalchemy.url = @URL@
"""
ENV = """
    from alembic import context
    from sqlalchemy import engine_from_config

    engine = engine_from_config(context.config.get_section(context.config.config_ini_section), "sqlalchemy.")
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
HEAD = "2222bbbb"
Fingerprint = Mapping[str, tuple[int, bytes]]


def write_application(folder: Path, files: Mapping[str, str], **filled: str) -> Path:
    """Make an application of two revisions; `files` come in addition, or instead. `@NAME@` in them is filled in."""
    usual = {
        "alembic.ini": INI,
        "migrations/env.py": ENV,
        "migrations/versions/first.py": FIRST,
        "migrations/versions/second.py": SECOND,
    }
    for name, text in {**usual, **files}.items():
        if text:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fill(textwrap.dedent(text), filled), encoding="utf-8")
    return folder


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace `@NAME@` by the value of `name`."""
    for name, value in values.items():
        text = text.replace(f"@{name.upper()}@", value)
    return text


def write_production(path: Path) -> Path:
    """Make a database that is one revision behind, and in use."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """
            CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
            INSERT INTO alembic_version VALUES ('1111aaaa');
            CREATE TABLE lab (id INTEGER PRIMARY KEY, name VARCHAR(40));
            INSERT INTO lab VALUES (1, 'dear'), (2, 'costly');
            """
        )
    return path


def fingerprint(folder: Path) -> Fingerprint:
    """Return all that could show that something below a folder was touched: names, times of writing, bytes."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths
    }


def history_of(folder: Path, choice: HistoryChoice | None = None, **recipe: Any) -> History:
    """Read the one history that an application's files configure; `recipe` says what they don't."""
    (history,) = configured_histories(choice or HistoryChoice(), folder)
    return replace(history, recipe=replace(history.recipe, **recipe))


def goal_in(folder: Path) -> Goal:
    """Make an empty database in a private directory."""
    folder.mkdir(mode=0o700)
    (folder / "made.db").touch()
    return Goal(folder, folder / "made.db")


def replay(order: Order, goal: Goal, monitor: Monitor | None = None) -> Replayed:
    """Replay a history; nothing but databases may stay in the directory, however it goes."""
    try:
        with closing(Replayer()) as replayer:
            return replayer.replay(order, goal, monitor or Monitor())
    finally:
        left = [name for name in os.listdir(goal.directory) if not name.endswith(".db")]
        assert not left, f"left over: {left}"


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Run a query on a SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def tables(path: Path) -> set[str]:
    """Return the names of a file's tables."""
    return {name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def versions(path: Path, table: str = "alembic_version") -> tuple[str, ...]:
    """Return the rows of a version table."""
    return tuple(row for (row,) in query(path, f'SELECT version_num FROM "{table}" ORDER BY 1'))
