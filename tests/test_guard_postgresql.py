"""Migrations reach the draft database that is being made and no other, however they ask for one.

Each application here believes that a production database on the same server is its own, and has real credentials for
it. Without the kernel's help, drivers that are led to the draft, engines that are redirected and the guard do it alone.
"""

import ctypes.util
import importlib.util
import re
import subprocess
import sys
import textwrap
import time
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import application
from drafts import ASYNC, BOTH, HEAD, ON_CONNECTION, ON_ENGINE, START, Case, harm, making
from panicdb.backends.postgresql.addresses import read_address
from panicdb.backends.postgresql.relay import SOCKET
from panicdb.errors import HistoryError, WrongDatabaseError
from panicdb.guarded import landlock
from panicdb.replays import Goal, Order, Replayer, ReplayError
from panicdb.values import Monitor

PATIENCE = 60


@pytest.fixture
def case(postgres, make_pg, tmp_path) -> Iterator[Case]:
    with making(postgres, make_pg, tmp_path) as made:
        yield made


def test_the_usual_env_py_builds_the_draft(case):
    case.replay()
    assert case.tables() == BOTH
    assert case.versions() == HEAD


# However an env.py comes by its database

VARIABLES = {
    "PGHOST": "@HOST@",
    "PGPORT": "@PORT@",
    "PGUSER": "postgres",
    "PGPASSWORD": "@PASSWORD@",
    "PGDATABASE": "@DATABASE@",
}
CREDENTIALS = f"""
os.environ.update({VARIABLES!r})
os.environ.update(PGHOSTADDR="@HOST@", PGSSLMODE="prefer", PGREQUIREAUTH="scram-sha-256")
os.environ.update(PGTARGETSESSIONATTRS="primary")
"""
SERVICE = """
import tempfile
service = tempfile.mktemp()
with open(service, "w") as file:
    file.write("[live]\\nhost=@HOST@\\nport=@PORT@\\nuser=postgres\\npassword=@PASSWORD@\\ndbname=@DATABASE@\\n")
os.environ.update(PGSERVICEFILE=service)
"""
NAMED = "host='@HOST@', port=@PORT@, user='postgres', password='@PASSWORD@', dbname='@DATABASE@'"
OPTION = "config.get_main_option('sqlalchemy.url')"
SETTINGS = {"settings.py": "URL = '@URL@'\n"}
RENAMED = "os.environ['URL'].replace('postgres://', 'postgresql+psycopg://', 1)"
ENGINE_OF_VARIABLE = "create_async_engine(os.environ['URL'])"
HOSTS, IN_QUERY = "host=@HOST@:@PORT@&host=@HOST@:@PORT@", "host=@HOST@&port=@PORT@&hostaddr=@HOST@"
SECTION = "config.get_section('alembic'), 'sqlalchemy.'"


@dataclass(frozen=True)
class Shape:
    """How an application comes by its database."""

    name: str
    env: str
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    is_able: bool = True
    """It could do harm here: it lacks no driver and no server."""


def by_engine(name: str, expression: str, before: str = "", *, is_able: bool = True, **more: Any) -> Shape:
    """Migrations run on an engine that an expression makes."""
    return Shape(name, f"{START}{before}\nengine = {expression}\n{ON_ENGINE}", is_able=is_able, **more)


def by_async(name: str, expression: str, *, is_able: bool = True, **more: Any) -> Shape:
    return Shape(name, f"{START}{ASYNC}asyncio.run(run({expression}))\n", is_able=is_able, **more)


SHAPES = [
    by_engine("section", f"sa.engine_from_config({SECTION})"),
    by_engine("option", f"sa.create_engine({OPTION})"),
    by_engine("settings", "sa.create_engine(settings.URL)", "import settings", files=SETTINGS),
    by_engine("variable", "sa.create_engine(os.environ['URL'])", environment={"URL": "postgresql+psycopg://@REST@"}),
    by_engine("old_scheme", f"sa.create_engine({RENAMED})", environment={"URL": "postgres://@REST@"}),
    by_engine("variables_of_libpq", "sa.create_engine('postgresql+psycopg://')", environment=VARIABLES),
    Shape("attributes", f"{START}connection = config.attributes['connection']{ON_CONNECTION}", is_able=False),
    Shape("attributes_as_engine", f"{START}engine = config.attributes['connection']{ON_ENGINE}", is_able=False),
    by_async("async", "create_async_engine('@URL@')"),
    by_async("async_section", f"async_engine_from_config({SECTION}, poolclass=sa.NullPool)"),
    by_async("asyncpg", ENGINE_OF_VARIABLE, environment={"URL": "postgresql+asyncpg://@REST@"}, is_able=False),
]  # fmt: skip
ENGINES = {
    "url": "sa.create_engine('@URL@')",
    "url_with_driver": "sa.create_engine('postgresql+psycopg://@REST@')",
    "url_object": "sa.create_engine(sa.make_url('@URL@').set(query={'sslmode': 'prefer', 'connect_timeout': '9'}))",
    "several_hosts": f"sa.create_engine('postgresql+psycopg://postgres:@PASSWORD@@/@DATABASE@?{HOSTS}')",
    "host_in_query": f"sa.create_engine('postgresql+psycopg://postgres:@PASSWORD@@/@DATABASE@?{IN_QUERY}')",
    "connect_args": f"sa.create_engine('postgresql+psycopg://', connect_args=dict({NAMED}))",
    "creator": "sa.create_engine('postgresql+psycopg://', creator=lambda: psycopg.connect('@URL@'))",
    "null_pool": "sa.create_engine('postgresql+psycopg://@REST@', poolclass=sa.NullPool)",
    "static_pool": "sa.create_engine('postgresql+psycopg://@REST@', poolclass=sa.StaticPool)",
    "own_pool": "sa.create_engine('postgresql+psycopg://', pool=sa.QueuePool(lambda: psycopg.connect('@URL@')))",
    "autocommit": "sa.create_engine('postgresql+psycopg://@REST@', isolation_level='AUTOCOMMIT')",
    "serializable": "sa.create_engine('postgresql+psycopg://@REST@', isolation_level='SERIALIZABLE')",
    "wrapped": "asyncio_engine.AsyncEngine(sa.create_engine('postgresql+psycopg_async://@REST@')).sync_engine",
}  # fmt: skip
"""Engines that lead to production where nobody is in the way."""
STRANGERS = {
    "psycopg2": "sa.create_engine('postgresql+psycopg2://@REST@', executemany_mode='values_plus_batch')",
    "pg8000": "sa.create_engine('postgresql+pg8000://@REST@', connect_args={'ssl_context': None})",
    "mysql": "sa.create_engine('mysql+pymysql://root@production/app', pool_recycle=3600)",
    "sqlite": "sa.create_engine('sqlite:////nowhere/app.db', connect_args={'check_same_thread': False})",
}
"""Engines of drivers that are not there, or of another engine."""
CONNECTIONS = {
    "url": "psycopg.connect('@URL@')",
    "pairs": "psycopg.connect(\"host=@HOST@ port=@PORT@ user=postgres password='@PASSWORD@' dbname=@DATABASE@\")",
    "names": f"psycopg.connect({NAMED})",
    "address": "psycopg.connect('@URL@', hostaddr='@HOST@')",
    "class": "psycopg.Connection.connect(conninfo='@URL@', autocommit=True)",
    "subclass": "type('Mine', (psycopg.Connection,), {}).connect('@URL@')",
    "another_database": "psycopg.connect('@URL@', dbname='postgres')",
    "trust": "psycopg.connect('@URL@', sslmode='prefer', channel_binding='prefer', require_auth='scram-sha-256')",
    "inner_function": "psycopg.Connection(psycopg.waiting.wait_conn(psycopg.generators.connect('@URL@'), 1))",
    "library": "psycopg.Connection(psycopg.pq.PGconn.connect(b'@URL@'))",
    "library_step_by_step": "psycopg.Connection(step_by_step(psycopg.pq.PGconn.connect_start(b'@URL@')))",
    "thread": "concurrent.futures.ThreadPoolExecutor().submit(psycopg.connect, '@URL@').result()",
    "service": "psycopg.connect('service=live')",
    "variables": "psycopg.connect()",
    "service_in_a_variable": "psycopg.connect('')",
}  # fmt: skip
"""Connections of a driver past every engine; the last three by what was put into the environment."""
BEFORE = {
    "service": SERVICE,
    "variables": CREDENTIALS,
    "service_in_a_variable": SERVICE + "os.environ['PGSERVICE'] = 'live'",
}
STEP_BY_STEP = """
def step_by_step(connection):
    while connection.connect_poll() != psycopg.pq.PollingStatus.OK:
        pass
    return connection
"""


def make_beside(number: int, expression: str) -> str:
    """Spell what a connection does beside the one of the migrations: what it makes is in the draft."""
    return f"""
with {expression} as beside:
    assert is_right(beside.execute("SELECT current_database()").fetchone()[0])
    beside.execute("CREATE TABLE beside_{number} (id int)")
    assert beside.info.host.startswith("/") or not is_guarded
"""


def run_engine(expression: str) -> str:
    return f"""
import sqlalchemy.ext.asyncio as asyncio_engine
engine = {expression}
if engine.dialect.is_async:
    engine = sa.create_engine("@URL@".replace("postgresql", "postgresql+psycopg"))
{ON_ENGINE}
"""


@pytest.mark.fault(20)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_migrations_reach_the_draft_and_production_is_not_touched(shape, case, monkeypatch):
    for name, value in shape.environment.items():
        monkeypatch.setenv(name, application.fill(value, case.filled()))
    case.write({"migrations/env.py": shape.env, **shape.files})
    case.replay()
    assert case.tables() == BOTH
    assert case.versions() == HEAD


def test_every_engine_leads_to_the_draft(case):
    """Whatever address it was given, of whichever database, and whatever was to make its connections."""
    case.write(
        {
            "migrations/env.py": f"""{START}
import sqlalchemy.ext.asyncio as asyncio_engine
for engine in ({", ".join([*ENGINES.values(), *STRANGERS.values()])}):
    assert engine.url.database == "@DRAFT@", engine.url
    assert engine.url.password is None
    if not engine.dialect.is_async:
        with engine.begin() as connection:
            assert connection.exec_driver_sql("SELECT current_database()").scalar() == "@DRAFT@"
connection = config.attributes["connection"]
{ON_CONNECTION}"""
        }
    )
    case.replay()
    assert case.tables() == BOTH


def test_every_connection_of_a_driver_leads_to_the_draft(case):
    """Whatever it was told: in the end it is the same database, and no password was of use."""
    parts = [
        BEFORE.get(name, "") + make_beside(number, expression)
        for number, (name, expression) in enumerate(CONNECTIONS.items())
    ]
    by_asyncio = """
async def go():
    async with await psycopg.AsyncConnection.connect("@URL@") as beside:
        await beside.execute("CREATE TABLE beside (id int)")
asyncio.run(go())
"""
    rest = f"{by_asyncio}\nconnection = config.attributes['connection']{ON_CONNECTION}"
    case.write({"migrations/env.py": START + STEP_BY_STEP + "".join(parts) + rest})
    case.replay()
    assert case.tables() == BOTH | {"beside", *(f"beside_{number}" for number in range(len(CONNECTIONS)))}


def run_alone(case: Case) -> None:
    """Upgrade as the application itself would, with nobody in the way."""
    command = [sys.executable, "-W", "ignore", "-m", "alembic", "upgrade", "head"]
    subprocess.run(command, cwd=case.folder, check=True, capture_output=True, timeout=PATIENCE)


@pytest.mark.prove
@pytest.mark.parametrize("name", [shape.name for shape in SHAPES if shape.is_able])
def test_what_an_env_py_does_alone_is_harm(name, case, monkeypatch):
    """Else what is shown above would prove nothing."""
    shape = next(each for each in SHAPES if each.name == name)
    for variable, value in shape.environment.items():
        monkeypatch.setenv(variable, application.fill(value, case.filled()))
    case.write({"migrations/env.py": shape.env, **shape.files})
    before = harm(case.server, case.production)
    run_alone(case)
    assert harm(case.server, case.production) != before


@pytest.mark.prove
@pytest.mark.parametrize("name", [*ENGINES])
def test_what_an_engine_does_alone_is_harm(name, case):
    case.write({"migrations/env.py": START + run_engine(ENGINES[name])})
    before = harm(case.server, case.production)
    run_alone(case)
    assert harm(case.server, case.production) != before


@pytest.mark.prove
@pytest.mark.parametrize("name", [*CONNECTIONS])
def test_what_a_connection_does_alone_is_harm(name, case, postgres):
    text = (
        START + STEP_BY_STEP + BEFORE.get(name, "") + make_beside(0, CONNECTIONS[name]) + "raise SystemExit\n"
    )
    case.write({"migrations/env.py": text})
    database = "postgres" if name == "another_database" else read_address(case.production).database
    there = "SELECT to_regclass('beside_0') IS NOT NULL"
    try:
        run_alone(case)
        assert postgres.execute(there, database) == [(True,)]
    finally:
        postgres.execute("DROP TABLE IF EXISTS beside_0", database)


# What migrations do there


SECOND = """
import os
import sqlalchemy as sa
from alembic import context, op

revision = "2222bbbb"
down_revision = "1111aaaa"

def upgrade():
"""


def as_the_second(body: str) -> dict[str, str]:
    """Spell a second revision by the body of its upgrade."""
    return {"migrations/versions/second.py": SECOND + textwrap.indent(textwrap.dedent(body), "    ")}


def test_statements_that_want_no_transaction_and_those_that_want_one_of_their_own(case):
    case.write(as_the_second("""
        op.execute("CREATE TYPE state AS ENUM ('new')")
        op.add_column("lab", sa.Column("state", sa.Enum("new", name="state")))
        with op.get_context().autocommit_block():
            op.execute("ALTER TYPE state ADD VALUE 'old'")
            op.create_index("ix_lab_name", "lab", ["name"], postgresql_concurrently=True)
            op.execute("VACUUM lab")
        op.execute("INSERT INTO lab (id, state) VALUES (1, 'old')")
        """))  # fmt: skip
    case.replay()
    assert case.versions() == HEAD
    assert case.query("SELECT state::text FROM lab") == [("old",)]
    assert case.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_lab_name'::regclass") == [
        (True,)
    ]


LOOKING = """
bind = op.get_bind()
assert sa.inspect(bind).has_table("lab")
name = bind.execute(sa.text("SELECT current_database()")).scalar()
assert name == bind.engine.url.database == "@DRAFT@"
bind.exec_driver_sql(f'ALTER DATABASE "{bind.engine.url.database}" SET work_mem = "7MB"')
for url in (bind.engine.url, os.environ["DATABASE_URL"], "@URL@", bind.engine.url.set(database="@DATABASE@")):
    with sa.create_engine(url).begin() as other:
        assert other.exec_driver_sql("SELECT current_database()").scalar() == "@DRAFT@"
        assert sa.inspect(other).has_table("lab")
        other.exec_driver_sql("CREATE TABLE IF NOT EXISTS beside (id int)")
"""


def test_migrations_that_look_at_their_connection_and_open_others(case, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", case.production)
    env = f"{START}engine = sa.create_engine('@URL@')\n{ON_ENGINE}"
    each = env.replace("context.configure(", "context.configure(transaction_per_migration=True, ")
    case.write({"migrations/env.py": each, **as_the_second(LOOKING)})
    case.replay()
    assert case.tables() == {"alembic_version", "lab", "beside"}
    assert case.query("SHOW work_mem") == [("7MB",)]


def test_a_schema_of_its_own_and_a_search_path_by_any_means(case):
    """Options of a session are what the application wants, wherever they are said."""
    case.write(
        {
            "migrations/env.py": f"""{START}
for made in (
    sa.create_engine("@URL@", connect_args={{"options": "-csearch_path=app"}}),
    sa.create_engine("postgresql+psycopg://@REST@?options=-csearch_path%3Dapp"),
    sa.create_engine("postgresql+psycopg2://@REST@", connect_args={{"options": "-csearch_path=app"}}),
):
    with made.connect() as connection:
        assert connection.exec_driver_sql("SHOW search_path").scalar() == "app"
assert psycopg.connect("@URL@?options=-csearch_path%3Dapp").execute("SHOW search_path").fetchone() == ("app",)
assert psycopg.connect("@URL@", application_name="mine").execute("SHOW application_name").fetchone() == ("mine",)
os.environ["PGOPTIONS"] = "-csearch_path=app"
assert psycopg.connect().execute("SHOW search_path").fetchone() == ("app",)
with made.connect() as connection:
    connection.exec_driver_sql("CREATE SCHEMA app")
    connection.commit()
    context.configure(connection=connection, version_table="versions", version_table_schema="app")
    with context.begin_transaction():
        context.run_migrations()
"""
        }
    )
    case.replay()
    assert case.tables() == set()
    assert case.tables("app") == {"versions", "lab", "run"}
    assert case.versions("app.versions") == HEAD


FIRST_SCHEMA = """
import sqlalchemy as sa
metadata = sa.MetaData()
sa.Table("base", metadata, sa.Column("id", sa.Integer))
"""


def test_past_env_py_and_with_a_first_schema(case):
    case.write({"migrations/env.py": "raise RuntimeError\n", "first.py": FIRST_SCHEMA})
    case.replay(way="bypass", bootstrap="first:metadata")
    assert case.tables() == BOTH | {"base"}
    assert case.versions() == HEAD


def test_an_application_s_own_command(case):
    case.write({"upgrade.py": """
        import sys
        from alembic.config import main
        assert sys.argv[1] == "postgresql://panicdb@localhost/@DRAFT@?host=@PRIVATE@"
        main(["upgrade", "head"])
        """})  # fmt: skip
    case.replay(way="command", command=("python", "upgrade.py", "{url}"))
    assert case.tables() == BOTH


def test_a_connection_is_handed_over_as_it_would_be_without_us(case):
    """Proving where it leads begins no transaction that would be in the way."""
    case.write(
        {
            "migrations/env.py": f"""{START}
engine = sa.create_engine("@URL@")
connection = engine.connect()
driver = connection.connection.dbapi_connection
assert driver.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
driver.autocommit = True
driver.autocommit = False
connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
connection.rollback()
asynchronous = __import__("sqlalchemy.ext.asyncio").ext.asyncio.create_async_engine("@URL@")
async def go():
    async with asynchronous.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    await asynchronous.dispose()
asyncio.run(go())
{ON_CONNECTION}
"""
        }
    )
    case.replay()
    assert case.tables() == BOTH


def test_whatever_an_application_makes_of_rows_a_connection_proves_itself(case):
    case.write({"migrations/env.py": f"""{START}
from psycopg import rows
for factory in (rows.dict_row, rows.namedtuple_row, rows.scalar_row, rows.class_row(object)):
    sa.QueuePool(lambda: psycopg.connect("@URL@", row_factory=factory)).connect().close()
connection = config.attributes["connection"]
{ON_CONNECTION}"""})  # fmt: skip
    case.replay()


def test_an_error_of_a_migration_is_told_with_its_place(case):
    case.write(as_the_second('op.execute("SELECT 1 FROM nowhere")'))
    with pytest.raises(ReplayError, match=r'in revision 2222bbbb .*relation "nowhere" does not exist'):
        case.replay()
    assert case.tables() == set()


def test_steps_are_not_for_servers(case):
    history = application.history_of(case.folder)
    goal = Goal(case.private, case.private / SOCKET, (), "postgresql", case.draft_name)
    with closing(Replayer()) as replayer, pytest.raises(ValueError, match="one by one"):
        replayer.replay(Order(history, (), steps=True), goal, Monitor())


def test_several_databases_of_which_one_is_the_source_s(case, monkeypatch):
    """The others are in memory: what is done there does no harm."""
    monkeypatch.setenv("OTHER_URL", "postgresql://postgres:x@elsewhere/other")
    case.write(
        {
            "migrations/env.py": f"""{START}
assert os.environ["OTHER_URL"] == "sqlite:///:memory:"
sa.create_engine("postgresql://postgres:x@elsewhere/other").connect().exec_driver_sql("CREATE TABLE other (id)")
engine = sa.create_engine("@URL@")
{ON_ENGINE}"""
        }
    )
    case.replay(bind=case.production)
    assert case.tables() == BOTH


# What is stopped

SWALLOWED = """
try:
    {attempt}
except BaseException:
    pass
"""
STOPPED = {
    "file": "__import__('sqlite3').connect('/nowhere/made.db')",
    "file_beside_the_socket": "__import__('sqlite3').connect(os.path.join('@PRIVATE@', 'made.db'))",
    "the_socket_as_a_file": "__import__('sqlite3').connect(os.path.join('@PRIVATE@', '.s.PGSQL.5432'))",
    "program": "__import__('subprocess').run(['psql', '@URL@', '-c', 'DROP TABLE lab'])",
    "dump": "os.system('pg_restore -d @URL@ dump')",
    "library": "__import__('ctypes').CDLL('libpq.so.5')",
    "socket_of_a_server": "__import__('socket').socket(__import__('socket').AF_UNIX).connect('@SOCKET@')",
    "driver_of_another_engine": "__import__('pymysql').connect(host='production')",
    "driver_that_nobody_leads": "__import__('pgdb').connect('@URL@')",
    "no_connection": "context.configure(url='@URL@')",
    "another_session": "sa.QueuePool(lambda: strange).connect()",
}


STRANGE = """
class Strange:
    def __init__(self, inner): self.inner = inner
    def cursor(self): return self
    def execute(self, statement): return self.inner.execute(statement.replace("panicdb.draft", "my.draft"))
    def close(self): pass
    commit = rollback = close
strange = Strange(psycopg.connect("@URL@"))
"""
FAKES = {
    "pymysql/__init__.py": "def connect(**_): pass\n",
    "pgdb/__init__.py": "def connect(*_): pass\n",
}


def attempting(names: Iterable[str]) -> dict[str, str]:
    """Spell an application that tries what is stopped, swallows it, and then does as it should."""
    attempts = "".join(SWALLOWED.format(attempt=STOPPED[name]) for name in names)
    end = f"connection = config.attributes['connection']{ON_CONNECTION}"
    return {**FAKES, "migrations/env.py": START + STRANGE + attempts + end}


def test_what_is_no_way_to_the_draft_is_stopped_and_written_down(case):
    """A session without the draft's setting is of another database, however it came."""
    case.write(attempting(STOPPED))
    with pytest.raises(
        WrongDatabaseError, match=rf"would have left the target: .*; and {len(STOPPED) - 5} more"
    ):
        case.replay()


@pytest.mark.prove
@pytest.mark.parametrize("name", sorted(STOPPED))
def test_each_of_them_is_enough(name, case):
    case.write(attempting([name]))
    with pytest.raises(WrongDatabaseError, match="would have left the target"):
        case.replay()


BEYOND = {
    "literally": 'op.execute(\'ALTER DATABASE "@DATABASE@" SET work_mem = "7MB"\')',
    "in_a_block": "op.execute('DO $$ BEGIN ALTER DATABASE @DATABASE@ SET work_mem = \"7MB\"; END $$')",
}


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_a_statement_that_names_another_database_is_stopped(name, case):
    """In the draft's own session: the server would let it through."""
    case.write(as_the_second(f"try:\n    {BEYOND[name]}\nexcept Exception:\n    pass"))
    with pytest.raises(WrongDatabaseError, match="would be changed"):
        case.replay()


def test_the_network_fails_with_an_ordinary_error(case):
    """A driver in pure Python could not reach a server by itself, either."""
    case.write(
        {
            "migrations/env.py": f"""{START}
import socket
try:
    socket.create_connection(("@HOST@", @PORT@))
except PermissionError as error:
    assert "without a network" in str(error)
else:
    raise AssertionError
connection = config.attributes["connection"]
{ON_CONNECTION}"""
        }
    )
    case.replay()


def test_databases_in_memory_do_no_harm_and_are_not_the_target(case):
    case.write(
        {
            "migrations/env.py": f"""{START}
sa.create_engine("sqlite://").connect().exec_driver_sql("CREATE TABLE scratch (id)")
engine = sa.create_engine("sqlite://")
with engine.connect() as connection:
    context.configure(connection=connection)
"""
        }
    )
    with pytest.raises(ReplayError, match="on a database in memory, not on the target"):
        case.replay()


SEARCHING = """
import gc, os
from pathlib import Path
from alembic import context

file = Path("/proc/self/environ")
known = repr(dict(os.environ)) + (file.read_text() if file.exists() else "")
known += repr([each for each in gc.get_objects() if isinstance(each, dict)])
assert "@BACKWARDS@"[::-1] not in known
connection = context.config.attributes["connection"]
"""


def test_the_child_knows_no_address_and_no_password(case, monkeypatch):
    """Neither in its environment nor in what it is asked to do."""
    password = case.filled()["password"]
    monkeypatch.setenv("PANICDB_TARGET", case.draft)
    monkeypatch.setenv("MY_URL", case.production)
    monkeypatch.setenv("PGPASSWORD", password)
    env = application.fill(SEARCHING, {"backwards": password[::-1]}) + ON_CONNECTION
    ini = application.INI.replace("@URL@", "postgresql://nobody@nowhere/x")
    case.write({"alembic.ini": ini, "migrations/env.py": env})
    case.replay()


@pytest.mark.prove
@pytest.mark.skipif(ctypes.util.find_library("pq") is None, reason="there is no libpq on this system")
@pytest.mark.parametrize("with_landlock", [False, True])
def test_a_driver_that_loads_its_library_into_python_leads_to_the_draft(with_landlock, case, monkeypatch):
    monkeypatch.setenv("PSYCOPG_IMPL", "python")
    asked = [expression for name, expression in CONNECTIONS.items() if name not in BEFORE]
    parts = "".join(make_beside(number, expression) for number, expression in enumerate(asked))
    rest = f"assert psycopg.pq.__impl__ == 'python'\nengine = sa.create_engine('@URL@')\n{ON_ENGINE}"
    case.write({"migrations/env.py": START + STEP_BY_STEP + parts + rest})
    case.replay(landlock=with_landlock)
    assert case.tables() == BOTH | {f"beside_{number}" for number in range(len(asked))}


@pytest.mark.skipif(not landlock.version(), reason="the kernel has no Landlock")
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[8]], ids=lambda shape: shape.name)
def test_with_the_kernel_s_help_the_draft_is_reached(shape, case):
    case.write({"migrations/env.py": shape.env})
    assert "Landlock (files" in case.replay(landlock=True).protection
    assert case.tables() == BOTH


# Interpreters and their drivers


@pytest.fixture
def make_interpreter(tmp_path) -> Callable[..., str]:
    """Make an environment with Alembic, SQLAlchemy and what they need, and no driver but those that are given."""

    def make(**drivers: str) -> str:
        folder = tmp_path / "environment"
        venv.create(folder, symlinks=True, with_pip=False)
        (packages,) = folder.glob("lib/python*/site-packages")
        for name in ("alembic", "sqlalchemy", "mako", "markupsafe", "typing_extensions", "greenlet"):
            found = importlib.util.find_spec(name)
            origin = Path(str(found.origin))
            (packages / (origin.parent if origin.stem == "__init__" else origin).name).symlink_to(
                origin.parent if origin.stem == "__init__" else origin
            )
        for name, text in drivers.items():
            (packages / f"{name}.py").write_text(text)
        return str(folder / "bin" / "python")

    return make


def test_an_interpreter_without_a_driver_is_told_so(case, make_interpreter):
    python = make_interpreter()
    with pytest.raises(HistoryError, match="has no driver of PostgreSQL") as caught:
        case.replay(python=python)
    assert "--python" in str(caught.value.hint)


def test_drivers_that_can_not_be_loaded_are_told_of(case, make_interpreter):
    python = make_interpreter(psycopg="raise ImportError('no pq wrapper available')")
    case.write(
        {"migrations/env.py": f"from alembic import context\nimport sqlalchemy as sa\n{ON_CONNECTION}"}
    )
    with pytest.raises(ReplayError, match="no driver of PostgreSQL: psycopg, psycopg2, pg8000 or asyncpg"):
        case.replay(python=python)


# The end of the parent


@pytest.mark.fault(2)
@pytest.mark.parametrize("statement", ["SELECT pg_sleep(60)", "SELECT 1"])
def test_when_the_parent_is_killed_the_child_s_sessions_end(statement, case, tmp_path):
    """Also in the midst of a long statement."""
    case.write(
        as_the_second(f"""
        op.execute("SELECT 'waiting'")
        import time
        while True:
            op.execute("{statement}")
            time.sleep(0.05)
        """)
    )
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import application
        from panicdb.backends.postgresql.relay import relaying
        from panicdb.replays import Goal, Order, Replayer
        from panicdb.values import Monitor
        history = application.history_of(Path({str(case.folder)!r}))
        private = Path({str(case.private)!r})
        with relaying(str(private / {SOCKET!r}), {dict(read_address(case.draft).parameters)!r}) as relay:
            goal = Goal(private, Path(relay.path), (), "postgresql", {case.draft_name!r})
            Replayer().replay(Order(history, history.heads), goal, Monitor())
        """)
    )
    sessions = "SELECT query FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
    with subprocess.Popen([sys.executable, script]) as parent:
        await_until(lambda: (statement,) in case.server.execute(sessions, parameters=[case.draft_name]))
        parent.kill()
    await_until(lambda: not case.server.execute(sessions, parameters=[case.draft_name]))
    assert case.tables() == set()


def await_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# The page


@pytest.mark.quick
def test_the_page_names_tests_that_there_are():
    """docs/guard.md is what users rely on: a route that it lists is tried."""
    page = Path(__file__).resolve().parent.parent / "docs" / "guard.md"
    section = page.read_text(encoding="utf-8").partition("\n## On a server")[2].partition("\n## ")[0]
    rows = [
        re.findall(r"`(test_\w+)`", line.rpartition("|")[0].rpartition("|")[2])
        for line in section.splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| route"))
    ]
    assert rows
    assert all(rows), "a row names no test"
    assert {name for row in rows for name in row} <= {*globals()}
