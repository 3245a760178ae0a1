"""However an env.py comes by its database, migrations reach the target or are stopped; production is never touched.

Each shape is one that real applications have. It believes that a production database is its own: a file with rows, one
revision behind, to which its settings, its ini file and its environment point. Without the kernel's help, the
redirection and the guard have to do alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from application import (
    HEAD,
    fill,
    fingerprint,
    goal_in,
    history_of,
    replay,
    tables,
    versions,
    write_application,
    write_production,
)
from panicdb.errors import WrongDatabaseError
from panicdb.histories import HistoryChoice
from panicdb.replays import Order, ReplayError

TARGET, PAST_ENV, REFUSED = "the target", "the target, past env.py", "refused"


@dataclass(frozen=True)
class Shape:
    """How an application comes by its database, and what has to come of it."""

    name: str
    env: str
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""
    """Lines of `[tool.panicdb]`."""
    choice: HistoryChoice = field(default_factory=HistoryChoice)
    outcome: str = TARGET
    words: str = "@PATH@"
    """What the message says: of a refusal, or of why env.py could not be run."""
    version_table: str = "alembic_version"
    more: frozenset[str] = frozenset()
    """Tables beside those of the two revisions."""


ON_ENGINE = """
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
ON_CONNECTION = """
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
START = """
import os, sqlite3
import sqlalchemy as sa
from alembic import context

config = context.config
"""
FROM_SECTION = (
    "engine = sa.engine_from_config(config.get_section(config.config_ini_section), 'sqlalchemy.')\n"
)
ASYNC = """
import asyncio
from sqlalchemy.ext.asyncio import AsyncEngine, async_engine_from_config, create_async_engine

def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def run(engine):
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()
"""
SETTINGS = {"settings.py": "DATABASE_URL = '@URL@'\nDATABASE_PATH = '@PATH@'\n"}
INI_HEAD = "[alembic]\nscript_location = migrations\nprepend_sys_path = .\npath_separator = os\n"
WEB = """
    import contextlib, contextvars
    import sqlalchemy as sa

    current = contextvars.ContextVar("current")

    class CurrentApplication:
        def __getattr__(self, name):
            try:
                return getattr(current.get(), name)
            except LookupError:
                raise RuntimeError("Working outside of application context.") from None

    current_app = CurrentApplication()

    class Database:
        def __init__(self):
            self.engines = {}

        @property
        def engine(self):
            url = current_app.config["SQLALCHEMY_DATABASE_URI"]
            return self.engines.setdefault(url, sa.create_engine(url))

    class Application:
        def __init__(self, **config):
            self.config = config
            self.extensions = {"migrate": Database()}

        @contextlib.contextmanager
        def app_context(self):
            token = current.set(self)
            try:
                yield self
            finally:
                current.reset(token)
"""
SHOP = """
    import web

    def create_app():
        return web.Application(SQLALCHEMY_DATABASE_URI="@URL@")
"""
WEB_ENV = """
from web import current_app

engine = current_app.extensions["migrate"].engine
config.set_main_option("sqlalchemy.url", engine.url.render_as_string(hide_password=False).replace("%", "%%"))
"""
MULTI_ENV = """
import re

names = re.split(r",\\s*", config.get_main_option("databases", ""))
engines = {}
for name in names:
    engine = sa.engine_from_config(
        context.config.get_section(name, {}), prefix="sqlalchemy.", poolclass=sa.pool.NullPool
    )
    connection = engine.connect()
    engines[name] = (connection, connection.begin())
try:
    for name, (connection, _) in engines.items():
        context.configure(connection=connection, upgrade_token=f"{name}_upgrades")
        context.run_migrations(engine_name=name)
    for _, transaction in engines.values():
        transaction.commit()
except:
    for _, transaction in engines.values():
        transaction.rollback()
    raise
finally:
    for connection, _ in engines.values():
        connection.close()
"""
MULTI = {
    "alembic.ini": INI_HEAD + "databases = science, billing\n"
    "[science]\nsqlalchemy.url = @URL@\n[billing]\nsqlalchemy.url = @OTHER@\n",
    "migrations/versions/first.py": """
        from alembic import op

        revision, down_revision = "1111aaaa", None

        def upgrade(engine_name):
            name = {"science": "lab", "billing": "invoice"}[engine_name]
            op.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, name VARCHAR(40))")
    """,
    "migrations/versions/second.py": """
        from alembic import op

        revision, down_revision = "2222bbbb", "1111aaaa"

        def upgrade(engine_name):
            if engine_name == "science":
                op.execute("CREATE TABLE run (id INTEGER PRIMARY KEY, lab_id INTEGER REFERENCES lab)")
    """,
}
SECOND_HEAD = """
import os
import sqlalchemy as sa
from alembic import op

revision, down_revision = "2222bbbb", "1111aaaa"
"""

PLAIN = (
    Shape("the ini file's option", START + FROM_SECTION + ON_ENGINE),
    Shape(
        "the option by another name",
        START + "engine = sa.create_engine(config.get_main_option('url'))\n" + ON_ENGINE,
        {"alembic.ini": INI_HEAD + "url = @URL@\n"},
    ),
    Shape(
        "the option overwritten from settings",
        START
        + "import settings\nconfig.set_main_option('sqlalchemy.url', settings.DATABASE_URL)\n"
        + FROM_SECTION
        + ON_ENGINE,
        SETTINGS,
    ),
    Shape(
        "the option overwritten in a copy of its section",
        START
        + """
import settings
section = config.get_section(config.config_ini_section)
section["sqlalchemy.url"] = settings.DATABASE_URL
engine = sa.engine_from_config(section, prefix="sqlalchemy.", poolclass=sa.pool.NullPool)
"""
        + ON_ENGINE,
        SETTINGS,
    ),
    Shape(
        "a section by another name, with a version table of its own",
        START
        + FROM_SECTION
        + ON_ENGINE.replace(
            "connection=connection",
            "connection=connection, version_table=config.get_section(config.config_ini_section)['version_table']",
        ),
        {
            "alembic.ini": """
                [science]
                script_location = migrations
                version_table = science_version
                sqlalchemy.url = @URL@
            """
        },
        choice=HistoryChoice(section="science"),
        version_table="science_version",
    ),
    Shape(
        "no ini file",
        START + "import settings\nengine = sa.create_engine(settings.DATABASE_URL)\n" + ON_ENGINE,
        {
            **SETTINGS,
            "alembic.ini": "",
            "pyproject.toml": "[tool.alembic]\nscript_location = '%(here)s/migrations'\nprepend_sys_path = ['.']\n",
        },
        choice=HistoryChoice(config=("pyproject.toml",)),
    ),
    Shape(
        "logging set up from the ini file",
        START
        + "from logging.config import fileConfig\nfileConfig(config.config_file_name)\n"
        + FROM_SECTION
        + ON_ENGINE,
        {
            "alembic.ini": INI_HEAD
            + """sqlalchemy.url = @URL@
[loggers]
keys = root, alembic
[handlers]
keys = console
[formatters]
keys = short
[logger_root]
level = WARNING
handlers = console
[logger_alembic]
level = DEBUG
handlers =
qualname = alembic
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = short
[formatter_short]
format = %(levelname)s %(message)s
"""
        },
    ),
    Shape(
        "a version table of its own",
        START
        + FROM_SECTION
        + ON_ENGINE.replace("connection=connection", "connection=connection, version_table='lab_version'"),
        version_table="lab_version",
    ),
    Shape(
        "a transaction for each migration",
        START
        + FROM_SECTION
        + ON_ENGINE.replace("connection=connection", "connection=connection, transaction_per_migration=True"),
    ),
    Shape(
        "changes of a table by copying it",
        START
        + FROM_SECTION
        + ON_ENGINE.replace("connection=connection", "connection=connection, render_as_batch=True"),
        {
            "migrations/versions/second.py": SECOND_HEAD
            + """
def upgrade():
    with op.batch_alter_table("lab") as batch:
        batch.alter_column("name", nullable=False, type_=sa.String(80))
        batch.create_unique_constraint("uq_lab_name", ["name"])
    op.create_table("run", sa.Column("id", sa.Integer, primary_key=True))
"""
        },
    ),
    Shape(
        "folders of revisions that env.py chooses",
        START
        + "context.script.version_locations = [os.path.join(context.script.dir, 'dialects', 'sqlite')]\n"
        + FROM_SECTION
        + ON_ENGINE,
        {
            "migrations/versions/first.py": "",
            "migrations/versions/second.py": "",
            "migrations/dialects/sqlite/only.py": """
                from alembic import op
                revision, down_revision = "2222bbbb", None
                def upgrade():
                    op.execute("CREATE TABLE lab (id INTEGER PRIMARY KEY)")
                    op.execute("CREATE TABLE run (id INTEGER PRIMARY KEY)")
            """,
        },
    ),
    Shape(
        "what upgrade() needs, from env.py",
        START
        + FROM_SECTION
        + ON_ENGINE.replace("run_migrations()", "run_migrations(tables={'run': 'run'}, tester=print)"),
        {
            "migrations/versions/first.py": """
                from alembic import op
                revision, down_revision = "1111aaaa", None
                def upgrade(tables, tester):
                    op.execute("CREATE TABLE lab (id INTEGER PRIMARY KEY)")
            """,
            "migrations/versions/second.py": """
                from alembic import op
                revision, down_revision = "2222bbbb", "1111aaaa"
                def upgrade(tables, tester):
                    op.execute(f"CREATE TABLE {tables['run']} (id INTEGER PRIMARY KEY)")
            """,
        },
    ),
    Shape(
        "tables made before the configuration",
        START
        + FROM_SECTION
        + """
with engine.connect() as connection:
    connection.execute(sa.text("CREATE TABLE lab_settings (id INTEGER)"))
    connection.execute(sa.text("INSERT INTO lab_settings VALUES (1)"))
    connection.commit()
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
""",
        more=frozenset({"lab_settings"}),
    ),
    Shape(
        "pragmas and another journal",
        START
        + """
@sa.event.listens_for(sa.Engine, "connect")
def set_up(connection, record):
    cursor = connection.cursor()
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", "synchronous = NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
"""
        + FROM_SECTION
        + ON_ENGINE,
    ),
    Shape(
        "rows of another class",
        START
        + """
@sa.event.listens_for(sa.Engine, "connect")
def set_up(connection, record):
    connection.row_factory = sqlite3.Row
"""
        + FROM_SECTION
        + ON_ENGINE,
    ),
)

ENGINES = (
    Shape(
        "an engine from an address in the environment",
        START + "engine = sa.create_engine(os.environ['DATABASE_URL'])\n" + ON_ENGINE,
        environment={"DATABASE_URL": "@URL@"},
    ),
    Shape(
        "an engine from parts in the environment",
        START + "engine = sa.create_engine(f'sqlite:///{os.environ[\"DB_PATH\"]}')\n" + ON_ENGINE,
        environment={"DB_PATH": "@PATH@"},
    ),
    Shape(
        "an engine of a server from parts in the environment",
        START
        + """
url = sa.URL.create("postgresql", *(os.environ[f"DB_{part}"] for part in ("USER", "PASSWORD", "HOST")), 5432)
engine = sa.create_engine(url.set(database=os.environ["DB_NAME"]), pool_pre_ping=True)
"""
        + ON_ENGINE,
        environment={"DB_USER": "u", "DB_PASSWORD": "p", "DB_HOST": "db.example.com", "DB_NAME": "lab"},
    ),
    Shape(
        "an engine from a file of the environment",
        START
        + """
for line in open(".env"):
    name, _, value = line.strip().partition("=")
    os.environ[name] = value
engine = sa.create_engine(os.environ["DATABASE_URL"])
"""
        + ON_ENGINE,
        {".env": "DATABASE_URL=@URL@\n"},
        environment={"DATABASE_URL": "@URL@"},
    ),
    Shape(
        "an engine from an address in SQLite's own spelling",
        START
        + "engine = sa.create_engine('sqlite:///file:@PATH@?mode=rw&uri=true&timeout=3', echo=True)\n"
        + ON_ENGINE,
    ),
    Shape(
        "an engine with a creator",
        START
        + "engine = sa.create_engine('sqlite://', creator=lambda: sqlite3.connect('@PATH@'))\n"
        + ON_ENGINE,
    ),
    Shape(
        "an engine of a server with a creator",
        START
        + "engine = sa.create_engine('postgresql://', creator=lambda: sqlite3.connect('@PATH@'))\n"
        + ON_ENGINE,
    ),
    Shape(
        "an engine with a pool that makes its own connections",
        START
        + """
pool = sa.pool.QueuePool(lambda: sqlite3.connect("@PATH@"), pool_size=2)
engine = sa.create_engine("sqlite://", pool=pool)
"""
        + ON_ENGINE,
    ),
    *(
        Shape(
            f"an engine with a {pool}",
            START
            + f"engine = sa.create_engine('@URL@', poolclass=sa.pool.{pool}, {arguments})\n"
            + ON_ENGINE,
        )
        for pool, arguments in (
            ("NullPool", ""),
            ("StaticPool", "connect_args={'check_same_thread': False}"),
            ("QueuePool", "pool_size=3, max_overflow=1, pool_timeout=2, pool_recycle=60"),
        )
    ),
    Shape(
        "an engine of PostgreSQL with options of its own",
        START
        + """
engine = sa.create_engine(
    "postgresql+psycopg2://user:secret@db.example.com/lab?sslmode=require&options=-csearch_path%3Dlab",
    connect_args={"sslmode": "require", "connect_timeout": 3, "application_name": "lab"},
    pool_size=5,
    max_overflow=2,
    isolation_level="REPEATABLE READ",
    executemany_mode="values_plus_batch",
    client_encoding="utf8",
)
"""
        + ON_ENGINE,
    ),
    Shape(
        "options of PostgreSQL in the ini file",
        START
        + "import settings\nconfig.set_main_option('sqlalchemy.url', settings.URL)\n"
        + FROM_SECTION
        + ON_ENGINE,
        {
            "settings.py": "URL = 'postgresql://user:secret@db.example.com/lab?sslmode=require'\n",
            "alembic.ini": INI_HEAD
            + "sqlalchemy.url = @URL@\nsqlalchemy.pool_size = 5\nsqlalchemy.pool_pre_ping = true\n"
            "sqlalchemy.executemany_mode = values_plus_batch\nsqlalchemy.echo = false\n",
        },
    ),
    Shape(
        "an engine that settings made before env.py ran",
        START + "from settings import engine\n" + ON_ENGINE,
        {
            "settings.py": """
                import sqlalchemy as sa
                engine = sa.create_engine("@URL@")
                metadata = sa.MetaData()
                sa.Table("app_settings", metadata, sa.Column("id", sa.Integer, primary_key=True))
            """
        },
        settings='bootstrap = "settings:metadata"',
        more=frozenset({"app_settings"}),
    ),
    Shape(
        "a pool without an engine",
        START
        + """
connection = sa.create_pool_from_url("@URL@").connect()
connection.execute("CREATE TABLE pooled (id INTEGER)")
connection.commit()
connection.close()
"""
        + FROM_SECTION
        + ON_ENGINE,
        more=frozenset({"pooled"}),
    ),
    Shape(
        "a migration with an engine of its own that writes",
        START
        + FROM_SECTION
        + ON_ENGINE.replace("connection=connection", "connection=connection, transaction_per_migration=True"),
        {
            "migrations/versions/second.py": SECOND_HEAD
            + """
def upgrade():
    with sa.create_engine(os.environ["DATABASE_URL"]).begin() as own:
        own.execute(sa.text("INSERT INTO lab VALUES (7, 'made by a migration')"))
        own.execute(sa.text("CREATE TABLE run (id INTEGER PRIMARY KEY)"))
"""
        },
        environment={"DATABASE_URL": "@URL@"},
    ),
    Shape(
        "a migration with an engine of its own that reads",
        START + FROM_SECTION + ON_ENGINE,
        {
            "migrations/versions/second.py": SECOND_HEAD
            + """
def upgrade():
    engine = sa.create_engine("sqlite:///" + os.environ["DB_PATH"])
    if sa.inspect(engine).has_table("lab"):
        op.execute("CREATE TABLE run (id INTEGER PRIMARY KEY)")
"""
        },
        environment={"DB_PATH": "@PATH@"},
    ),
    Shape(
        "an engine in memory",
        START + "engine = sa.create_engine('sqlite://')\n" + ON_ENGINE,
        outcome=PAST_ENV,
        words="memory",
    ),
)

HANDED = (
    Shape(
        "a web application's current one",
        START + WEB_ENV + ON_ENGINE,
        {"web.py": WEB, "shop.py": SHOP},
        settings='flask-app = "shop:create_app"',
    ),
    Shape(
        "a web application's current one, and none is known",
        START + WEB_ENV + ON_ENGINE,
        {"web.py": WEB, "shop.py": SHOP},
        outcome=PAST_ENV,
        words="Working outside of application context",
    ),
    Shape(
        "the address as an argument",
        START + "engine = sa.create_engine(context.get_x_argument(as_dictionary=True)['url'])\n" + ON_ENGINE,
        choice=HistoryChoice(arguments=("url=@URL@",)),
    ),
    Shape(
        "other arguments",
        START
        + """
given = context.get_x_argument(as_dictionary=True)
assert given == {"tenant": "lab", "tables": "a=b"}, given
assert context.get_x_argument() == ["tenant=lab", "tables=a=b"]
"""
        + FROM_SECTION
        + ON_ENGINE.replace(
            "connection=connection", "connection=connection, version_table=given['tenant'] + '_rev'"
        ),
        choice=HistoryChoice(arguments=("tenant=lab", "tables=a=b")),
        version_table="lab_rev",
    ),
    Shape(
        "a connection from the attributes",
        START
        + "connection = config.attributes.get('connection')\nassert connection is not None\n"
        + ON_CONNECTION,
    ),
    Shape(
        "a connection from the attributes, in a transaction already",
        START
        + """
connection = config.attributes["connection"]
connection.execute(sa.text("CREATE TABLE lab_settings (id INTEGER)"))
connection.execute(sa.text("INSERT INTO lab_settings VALUES (1)"))
"""
        + ON_CONNECTION,
        more=frozenset({"lab_settings"}),
    ),
    Shape(
        "connect() of what is in the attributes",
        START + "engine = config.attributes.get('connection') or sa.create_engine('@URL@')\n" + ON_ENGINE,
    ),
    Shape(
        "the engine of what is in the attributes",
        START
        + "engine = config.attributes['connection'].engine\n"
        + ON_ENGINE.replace("connect()", "begin()"),
    ),
    Shape(
        "a connection from the attributes that is closed afterwards",
        START + "connection = config.attributes['connection']\n" + ON_CONNECTION + "connection.close()\n",
    ),
)

ASYNCHRONOUS = (
    Shape(
        "asyncio, from the ini file",
        START
        + ASYNC
        + "section = config.get_section(config.config_ini_section)\n"
        + "section['sqlalchemy.url'] = 'sqlite+aiosqlite:///@PATH@'\n"
        + "asyncio.run(run(async_engine_from_config(section, 'sqlalchemy.', poolclass=sa.pool.NullPool)))\n",
    ),
    Shape(
        "asyncio, from settings",
        START
        + ASYNC
        + "import settings\nasyncio.run(run(create_async_engine(settings.URL, pool_pre_ping=True)))\n",
        {"settings.py": "URL = 'sqlite+aiosqlite:///@PATH@'\n"},
    ),
    Shape(
        "asyncio, from a server's address in the environment",
        START + ASYNC + "asyncio.run(run(create_async_engine(os.environ['DATABASE_URL'], pool_size=3)))\n",
        environment={"DATABASE_URL": "postgresql+asyncpg://user:secret@db.example.com/lab"},
    ),
    Shape(
        "asyncio, from a server's address in settings",
        START
        + ASYNC
        + """
url = "postgresql+asyncpg://user:secret@db.example.com/lab?ssl=require"
engine = create_async_engine(url, connect_args={"statement_cache_size": 0}, poolclass=sa.pool.NullPool)
asyncio.run(run(engine))
""",
    ),
    Shape(
        "asyncio around an engine that is made the usual way",
        START
        + ASYNC
        + "url = 'postgresql+asyncpg://user:secret@db.example.com/lab'\n"
        + "asyncio.run(run(AsyncEngine(sa.create_engine(url, future=True))))\n",
    ),
    Shape(
        "asyncio in a thread, and nothing is closed",
        START
        + ASYNC
        + """
import threading

async def run_and_leave(engine):
    connection = await engine.connect()
    await connection.run_sync(migrate)
    kept.append((engine, connection))

kept = []
url = "sqlite+aiosqlite:///@PATH@"
thread = threading.Thread(target=lambda: asyncio.run(run_and_leave(create_async_engine(url))))
thread.start()
thread.join()
""",
    ),
)

SEVERAL = (
    Shape("several databases, one of them chosen", START + MULTI_ENV, MULTI, settings='bind = "science"'),
    Shape(
        "several databases, one of them chosen by its address",
        START + MULTI_ENV,
        MULTI,
        settings='bind = "@URL@"',
    ),
    Shape(
        "several databases, none of them chosen",
        START + MULTI_ENV,
        MULTI,
        settings='upgrade-arguments = {engine_name = "science"}',
        outcome=PAST_ENV,
        words="bind",
    ),
)

SMUGGLED = (
    Shape(
        "a connection past SQLAlchemy",
        START + "sqlite3.connect('@PATH@').execute('DELETE FROM lab')\n" + FROM_SECTION + ON_ENGINE,
    ),
    Shape(
        "a connection past SQLAlchemy from parts of the environment",
        START
        + "sqlite3.connect(f'file:{os.environ[\"DB_PATH\"]}?mode=ro', uri=True)\n"
        + FROM_SECTION
        + ON_ENGINE,
        environment={"DB_PATH": "@PATH@"},
    ),
    Shape(
        "a connection past SQLAlchemy, and every exception is caught",
        START
        + "try:\n    sqlite3.connect('@PATH@').execute('DELETE FROM lab')\nexcept:\n    pass\n"
        + FROM_SECTION
        + ON_ENGINE,
    ),
    Shape(
        "a connection past SQLAlchemy in a migration",
        START + FROM_SECTION + ON_ENGINE,
        {
            "migrations/versions/second.py": SECOND_HEAD
            + "import sqlite3\ndef upgrade():\n    sqlite3.connect('@PATH@').execute('DELETE FROM lab')\n"
        },
    ),
    Shape(
        "a connection that a listener makes",
        START
        + FROM_SECTION
        + "sa.event.listen(engine, 'do_connect', lambda *_: sqlite3.connect('@PATH@'))\n"
        + ON_ENGINE,
    ),
    Shape(
        "another file attached",
        START
        + FROM_SECTION
        + ON_ENGINE.replace(
            "    context.configure",
            "    connection.execute(sa.text(\"ATTACH '@PATH@' AS production\"))\n    context.configure",
            1,
        ),
    ),
    Shape(
        "text of SQL instead of a connection",
        START + "context.configure(url='@URL@', literal_binds=True)\ncontext.run_migrations()\n",
        words="without a connection, as SQL text",
    ),
)


SHAPES = (
    *PLAIN,
    *ENGINES,
    *HANDED,
    *ASYNCHRONOUS,
    *SEVERAL,
    *(replace(shape, outcome=REFUSED) for shape in SMUGGLED),
)


@pytest.mark.parametrize(
    "landlock",
    [
        pytest.param(False, id="guard alone"),
        pytest.param(True, id="and the kernel", marks=pytest.mark.prove),
    ],
)
@pytest.mark.fault(20)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_migrations_reach_the_target_or_nothing(shape, landlock, tmp_path, monkeypatch):
    world = _World(shape, tmp_path, monkeypatch)
    if shape.outcome == REFUSED:
        with pytest.raises(WrongDatabaseError) as refused:
            world.replay("environment", landlock)
        assert world.fill(shape.words) in str(refused.value)
    else:
        if shape.outcome == PAST_ENV:
            with pytest.raises(ReplayError) as failed:
                world.replay("environment", landlock)
            assert world.fill(shape.words) in str(failed.value)
            world.empty_target()
        world.replay("environment" if shape.outcome == TARGET else "bypass", landlock)
        assert tables(world.goal.path) == {"lab", "run", shape.version_table, *shape.more}
        assert versions(world.goal.path, shape.version_table) == (HEAD,)
    world.assert_untouched()


class _World:
    """An application of one shape, its production database, and a target."""

    def __init__(self, shape, folder, monkeypatch):
        self._production = write_production(folder / "production" / "lab.db")
        other = write_production(folder / "production" / "other" / "billing.db")
        self._filled = {
            "url": f"sqlite:///{self._production}",
            "path": str(self._production),
            "other": f"sqlite:///{other}",
        }
        monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        for name, value in shape.environment.items():
            monkeypatch.setenv(name, self.fill(value))
        files = {"migrations/env.py": shape.env, **shape.files}
        if shape.settings:
            files["pyproject.toml"] = f"[tool.panicdb]\n{shape.settings}\n"
        self._application = write_application(folder / "application", files, **self._filled)
        choice = replace(shape.choice, arguments=tuple(map(self.fill, shape.choice.arguments)))
        self._history = history_of(self._application, choice)
        self._before = fingerprint(self._production.parent), fingerprint(self._application)
        self._folder = folder
        self.goal = goal_in(folder / "private")

    def fill(self, text):
        return fill(text, self._filled)

    def replay(self, way, landlock):
        replay(Order(self._history, (HEAD,), way, landlock=landlock), self.goal)

    def empty_target(self):
        self.goal.path.write_bytes(b"")

    def assert_untouched(self):
        assert (fingerprint(self._production.parent), fingerprint(self._application)) == self._before
