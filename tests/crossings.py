"""Applications whose history makes the same tables on SQLite and on PostgreSQL, and sources on either."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from application import write_application
from conversion_values import CREATE_MOOD, MOOD
from servers import Server

REVISION = "ac4055"
HISTORY = """
    import json
    from pathlib import Path
    from alembic import op

    revision = "@REVISION@"
    down_revision = None

    def upgrade():
        made = json.loads((Path(__file__).parent / "made.json").read_text())
        for statement in made[op.get_bind().dialect.name]:
            op.get_bind().exec_driver_sql(statement.replace("%", "%%"))
"""
INI = """
    [alembic]
    script_location = %(here)s/migrations
    path_separator = os
    sqlalchemy.url = sqlite:///nowhere.db
"""
VERSION = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"


@dataclass(frozen=True)
class Made:
    """A table of two columns or more: a key, and values, each of a type on either engine."""

    name: str
    columns: tuple[tuple[str, str], ...]
    """(SQLite's type, the server's)."""
    rows: Sequence[tuple[Any, ...]]
    """Values of SQLite, or text of a server, by these columns."""

    @property
    def names(self) -> list[str]:
        """The columns behind the key."""
        return [f"c{number}" for number in range(len(self.columns))]

    def definition(self, side: int) -> str:
        """Spell it for SQLite (0) or the server (1)."""
        columns = ", ".join(
            f"{name} {types[side]}" for name, types in zip(self.names, self.columns, strict=True)
        )
        return f"CREATE TABLE {self.name} (id {('INTEGER', 'integer')[side]} PRIMARY KEY, {columns})"


def write_history(folder: Path, tables: Iterable[Made]) -> Path:
    """Write the application that makes these tables; return its alembic.ini."""
    tables = list(tables)
    enum = [CREATE_MOOD] if any(MOOD in types[1] for table in tables for types in table.columns) else []
    on_sqlite = [table.definition(0) for table in tables]
    return write_statements(folder, on_sqlite, [*enum, *(table.definition(1) for table in tables)])


def write_statements(folder: Path, on_sqlite: Sequence[str], on_server: Sequence[str]) -> Path:
    """Write the application whose one revision runs these statements; return its alembic.ini."""
    made = {"sqlite": on_sqlite, "postgresql": on_server}
    files = {
        "alembic.ini": INI,
        "migrations/versions/first.py": HISTORY,
        "migrations/versions/second.py": "",
        "migrations/versions/made.json": json.dumps(made),
    }
    write_application(folder, files, revision=REVISION)
    return folder / "alembic.ini"


def make_sqlite(path: Path, tables: Iterable[Made]) -> str:
    """Make a source of SQLite."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(VERSION)
        connection.execute("INSERT INTO alembic_version VALUES (?)", (REVISION,))
        for table in tables:
            connection.execute(table.definition(0))
            for number, row in enumerate(table.rows, 1):
                places = ", ".join("CAST(? AS TEXT)" if isinstance(value, str) else "?" for value in row)
                values = [
                    value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
                    for value in row
                ]
                connection.execute(f"INSERT INTO {table.name} VALUES ({number}, {places})", values)
        connection.commit()
    return str(path)


def make_server(server: Server, name: str, tables: Iterable[Made]) -> str:
    """Make a source on a server."""
    tables = list(tables)
    enum = [CREATE_MOOD] if any(MOOD in types[1] for table in tables for types in table.columns) else []
    url = server.create(
        ";".join([VERSION, f"INSERT INTO alembic_version VALUES ('{REVISION}')", *enum]), name
    )
    with closing(server.connect(name)) as connection:
        for table in tables:
            connection.execute(table.definition(1))
            for number, row in enumerate(table.rows, 1):
                values = ", ".join(
                    "NULL" if value is None else f"{sql.Literal(value).as_string()}::{types[1]}"
                    for value, types in zip(row, table.columns, strict=True)
                )
                connection.execute(f"INSERT INTO {table.name} VALUES ({number}, {values})")
    return url


def read_sqlite(path: Path | str, table: Made) -> list[tuple[Any, ...]]:
    """Return the values of a table as SQLite has them, in order, text as bytes where it is no UTF-8."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {', '.join(table.names)} FROM {table.name} ORDER BY id").fetchall()


def read_server(server: Server, name: str, table: Made) -> list[tuple[str | None, ...]]:
    """Return the values of a table as the server spells them under the settings that panicdb uses, in order."""
    columns = ", ".join(
        f"CASE WHEN {column} IS NOT NULL THEN format('%s', {column}) END" for column in table.names
    )
    settings = "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=1"
    with closing(server.connect(name, options=settings)) as connection:
        return connection.execute(f"SELECT {columns} FROM {table.name} ORDER BY id").fetchall()
