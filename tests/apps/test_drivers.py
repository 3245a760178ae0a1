"""Drivers of PostgreSQL other than our own, as they are published, lead migrations to the draft and nowhere else."""

from collections.abc import Iterator, Mapping

import pytest

from apps.environments import interpreter
from drafts import ASYNC, BOTH, HEAD, ON_ENGINE, START, Case, making

pytestmark = [pytest.mark.prove, pytest.mark.apps]

NAMES = "user='postgres', host='@HOST@', port=@PORT@, password='@PASSWORD@', database='@DATABASE@'"
WITHOUT_OURS = START.replace("import psycopg\n", "")
FIRST_SCHEMA = """
import sqlalchemy as sa
metadata = sa.MetaData()
sa.Table("base", metadata, sa.Column("id", sa.Integer))
"""
BY_CURSOR = """
    cursor = each.cursor()
    cursor.execute("SELECT current_database() = '@DRAFT@' AS proof")
    assert dict(proof=True) == (row := cursor.fetchone()) or row[0]
    each.close()
"""
ENVIRONMENTS: Mapping[str, str] = {
    "psycopg2": f"""
import psycopg2, psycopg2.extensions, psycopg2.extras

class Mine(psycopg2.extensions.connection):
    pass

for each in (
    psycopg2.connect("@URL@"),
    psycopg2.connect({NAMES}),
    psycopg2.connect("@URL@", connection_factory=Mine),
    psycopg2.connect("@URL@", sslmode="prefer", connection_factory=psycopg2.extras.RealDictConnection),
    psycopg2.connect("@URL@", cursor_factory=psycopg2.extras.DictCursor),
    psycopg2.extensions.connection("@URL@"),
    psycopg2._connect("@URL@"),
    Mine("@URL@"),
):
    assert isinstance(each, psycopg2.extensions.connection)
    psycopg2.extras.register_uuid(conn_or_curs=each)
{BY_CURSOR}
engine = sa.create_engine("postgresql+psycopg2://@REST@", connect_args={{"options": "-csearch_path=public"}})
{ON_ENGINE}""",
    "pg8000": f"""
import pg8000, pg8000.dbapi, pg8000.native
each = pg8000.native.Connection("postgres", "@HOST@", "@DATABASE@", @PORT@, "@PASSWORD@", application_name="mine")
assert each.run("SELECT current_database(), current_setting('application_name')") == [["@DRAFT@", "mine"]]
each.close()
for make in (pg8000.connect, pg8000.dbapi.connect, pg8000.dbapi.Connection, pg8000.Connection):
    each = make({NAMES}, ssl_context=None)
{BY_CURSOR}
engine = sa.create_engine("postgresql+pg8000://@REST@", connect_args={{"timeout": 60}})
{ON_ENGINE}""",
    "asyncpg": f"""{ASYNC}
import asyncpg

async def go():
    for each in (
        await asyncpg.connect("@URL@"),
        await asyncpg.connect({NAMES}, ssl="prefer"),
        await asyncpg.connection.connect(dsn="@URL@?search_path=tenant", server_settings={{"work_mem": "7MB"}}),
    ):
        assert await each.fetchval("SELECT current_database()") == "@DRAFT@"
        shown = await each.fetchval("SHOW search_path"), await each.fetchval("SHOW work_mem")
        await each.close()
    assert shown == ("tenant", "7MB")
    async with asyncpg.create_pool("@URL@", min_size=1) as pool:
        assert await pool.fetchval("SELECT current_database()") == "@DRAFT@"

asyncio.run(go())
asyncio.run(run(create_async_engine("postgresql+asyncpg://@REST@")))
""",
    "whatever_is_there": f"""
engine = sa.create_engine("postgresql+psycopg://@REST@")
{ON_ENGINE}""",
}


@pytest.fixture
def case(postgres, make_pg, tmp_path) -> Iterator[Case]:
    with making(postgres, make_pg, tmp_path) as made:
        yield made


@pytest.mark.parametrize("landlock", [False, True])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_driver_leads_to_the_draft(name, landlock, case):
    case.write({"migrations/env.py": WITHOUT_OURS + ENVIRONMENTS[name]})
    case.replay(python=str(interpreter("drivers")), landlock=landlock)
    assert case.tables() == BOTH
    assert case.versions() == HEAD


@pytest.mark.parametrize("way", ["environment", "bypass"])
def test_where_there_is_none_but_asyncpg_migrations_run_by_it(way, case, tmp_path, monkeypatch):
    """Then env.py gets no connection from us: it has a loop of its own."""
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    for name in ("psycopg", "psycopg2", "pg8000"):
        (hiding / f"{name}.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(hiding))
    section = "config.get_section('alembic'), 'sqlalchemy.'"
    env = f"{ASYNC}assert not config.attributes\nasyncio.run(run(async_engine_from_config({section})))\n"
    case.write({"migrations/env.py": WITHOUT_OURS + env, "first.py": FIRST_SCHEMA})
    case.replay(python=str(interpreter("drivers")), way=way, bootstrap="first:metadata")
    assert case.tables() == BOTH | {"base"}
