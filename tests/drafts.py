"""Applications whose migrations build a draft on a server, and believe that a production database there is theirs."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import application
import servers
from panicdb.backends.postgresql.addresses import read_address
from panicdb.backends.postgresql.relay import SOCKET, relaying
from panicdb.histories import HistoryChoice
from panicdb.replays import Goal, Order, Replayed, Replayer
from panicdb.values import Monitor

PRODUCTION = """
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('1111aaaa');
CREATE TABLE lab (id int PRIMARY KEY, name varchar(40));
INSERT INTO lab VALUES (1, 'dear'), (2, 'costly');
CREATE SCHEMA tenant;
"""
BOTH = {"alembic_version", "lab", "run"}
HEAD = ("2222bbbb",)

START = """
import asyncio, concurrent.futures, os
import psycopg
import sqlalchemy as sa
from alembic import context

config = context.config
is_guarded = "PANICDB_GUARDED_RUN" in os.environ  # these run alone, too, to show what they would do
is_right = lambda name: not is_guarded or name == "@DRAFT@"
"""
ON_ENGINE = """
with engine.connect() as connection:
    assert is_right(connection.exec_driver_sql("SELECT current_database()").scalar())
    connection.rollback()
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
ON_CONNECTION = """
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
ASYNC = """
from sqlalchemy.ext.asyncio import AsyncEngine, async_engine_from_config, create_async_engine

def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def run(engine):
    async with engine.connect() as connection:
        assert is_right((await connection.exec_driver_sql("SELECT current_database()")).scalar())
        await connection.rollback()
        await connection.run_sync(migrate)
    await engine.dispose()
"""


@dataclass(frozen=True)
class Case:
    """An application's folder, its production database, and the draft that its migrations are to build."""

    server: servers.Server
    folder: Path
    production: str
    draft: str
    private: Path

    @property
    def draft_name(self) -> str:
        return read_address(self.draft).database

    def filled(self) -> dict[str, str]:
        """What files of the application may name, as @NAME@."""
        said = urlsplit(self.production)
        return {
            "url": self.production,
            "rest": self.production.partition("://")[2],
            "host": str(said.hostname),
            "port": str(said.port),
            "password": str(said.password),
            "database": said.path[1:],
            "draft": self.draft_name,
            "private": str(self.private),
            "socket": f"/nowhere/.s.PGSQL.{said.port}",
        }

    def write(self, files: Mapping[str, str]) -> None:
        application.write_application(self.folder, files, **self.filled())

    def replay(
        self,
        *revisions: str,
        choice: HistoryChoice | None = None,
        way: str = "environment",
        landlock: bool = False,
        **recipe: Any,
    ) -> Replayed:
        """Run the history in the guarded child; only its draft may be another one afterwards."""
        history = application.history_of(self.folder, choice, **recipe)
        order = Order(history, revisions or history.heads, way, landlock=landlock)
        before = harm(self.server, self.production)
        with relaying(str(self.private / SOCKET), read_address(self.draft).parameters) as relay:
            goal = Goal(self.private, Path(relay.path), (), "postgresql", self.draft_name)
            try:
                with closing(Replayer()) as replayer:
                    return replayer.replay(order, goal, Monitor())
            finally:
                assert harm(self.server, self.production) == before
                left = {path.name for path in self.private.iterdir()}
                assert left == {SOCKET}, f"left over: {left}"

    def tables(self, schema: str = "public") -> set[str]:
        found = self.server.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = to_regnamespace(%s)",
            self.draft_name,
            [schema],
        )
        return {name for (name,) in found}

    def versions(self, table: str = "alembic_version") -> tuple[str, ...]:
        return tuple(row for (row,) in self.query(f"SELECT version_num FROM {table} ORDER BY 1"))

    def query(self, statement: str) -> list[tuple]:
        return self.server.execute(statement, self.draft_name)


def harm(server: servers.Server, url: str) -> tuple[object, ...]:
    """Return all that could show that a database was written to: its objects, its rows, and who wrote them last."""
    name = read_address(url).database
    objects = server.execute("SELECT oid, relname, relfilenode FROM pg_class ORDER BY 1", name)
    tables = server.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid > 16383", name
    )
    rows = [
        server.execute(f"SELECT xmin, xmax, t::text FROM {table} t ORDER BY 3", name) for (table,) in tables
    ]
    settings = server.execute(
        "SELECT setrole, setconfig FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase"
        " WHERE setdatabase = 0 OR datname = %s ORDER BY 1",
        parameters=[name],
    )
    return objects, rows, settings


@contextmanager
def making(server: servers.Server, make_pg: Callable[..., str], folder: Path) -> Iterator[Case]:
    """Make an application of two revisions whose ini file points to production, and an empty draft."""
    with tempfile.TemporaryDirectory(prefix="panicdb-") as private:
        made = Case(server, folder / "application", make_pg(PRODUCTION), make_pg(), Path(private))
        made.write({})
        yield made
