"""Histories are run by a child process: each of its ends is told apart, and nothing of it stays.

What it may reach is shown in tests/test_guard.py and tests/test_env_shapes.py.
"""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from application import (
    ENV,
    FIRST,
    HEAD,
    SECOND,
    fingerprint,
    goal_in,
    history_of,
    query,
    replay,
    tables,
    versions,
    write_application,
)
from panicdb.errors import HistoryError, InterruptedRunError, WrongDatabaseError
from panicdb.guarded import landlock
from panicdb.histories import HistoryChoice, bundled_history, read_history
from panicdb.replays import Order, Replayer, ReplayError
from panicdb.values import Monitor

PATIENCE = 30
BOTH = {"lab", "run", "alembic_version"}
SECOND_FILE = "migrations/versions/second.py"
AS_THE_SECOND = """
import os, signal, subprocess, sys, time
import sqlalchemy as sa
from alembic import op

revision = "2222bbbb"
down_revision = "1111aaaa"

def upgrade():
"""


def as_the_second(*body: str) -> str:
    """Spell a second revision by the lines of its upgrade."""
    return AS_THE_SECOND + "".join(f"    {line}\n" for line in body)


@pytest.fixture
def application(tmp_path, monkeypatch):
    """Make an application whose ini file points to a file that must never be made."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    never = tmp_path / "never.db"

    def make(files: Mapping[str, str] | None = None, folder: Path = tmp_path / "application") -> Path:
        return write_application(folder, files or {}, url=f"sqlite:///{never}")

    yield make
    assert not never.exists()


@pytest.fixture
def second(application):
    """Make an application whose second revision does what is given as lines."""

    def make(*body: str) -> Path:
        return application({SECOND_FILE: as_the_second(*body)})

    return make


@pytest.fixture
def run(tmp_path):
    """Replay an application's history up to its head, and return the database."""

    def go(folder: Path, *revisions: str, choice=None, monitor=None, way="environment", **recipe) -> Path:
        history = history_of(folder, choice, **recipe)
        goal = goal_in(tmp_path / "private")
        replay(Order(history, revisions or history.heads, way), goal, monitor)
        return goal.path

    return go


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid):
    """Tell whether a process runs; one that has ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return sys.platform != "linux"


# What is reached


def test_a_history_is_run_up_to_the_revision_that_is_asked_for(application, run):
    before = set(sys.modules)
    made = run(application(), "1111aaaa")
    assert not [name for name in set(sys.modules) - before if "alembic" in name]
    assert versions(made) == ("1111aaaa",)
    assert tables(made) == BOTH - {"run"}


@pytest.mark.parametrize("way", ["environment", "bypass"])
@pytest.mark.fault(17)
def test_several_heads_are_reached_together(application, run, way):
    folder = application(
        {
            f"migrations/versions/{name}.py": f"revision, down_revision = '{name}', {down}\ndef upgrade(): pass\n"
            for name, down in {"left": "'2222bbbb'", "right": "'2222bbbb'", "other": None}.items()
        }
    )
    assert versions(run(folder, way=way)) == ("left", "other", "right")


def test_a_history_needs_no_file_of_configuration(application, tmp_path):
    goal = goal_in(tmp_path / "private")
    history = read_history(application() / "migrations")
    replay(Order(history, history.heads), goal)
    assert versions(goal.path) == (HEAD,)


def test_the_bundled_history_is_run_step_by_step(tmp_path):
    goal = goal_in(tmp_path / "private")
    history = bundled_history()
    steps = replay(Order(history, history.heads, steps=True), goal).steps
    assert {step.revision for step in steps} == set(history.scripts)
    assert [versions(step.path) for step in steps] == [(step.revision,) for step in steps]
    assert steps[-1].path.read_bytes() == goal.path.read_bytes()


@pytest.mark.parametrize("way", ["environment", "bypass"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_each_step_is_what_its_revision_left(application, tmp_path, way, journal):
    listener = f"""
        import sqlalchemy as sa
        metadata = sa.MetaData()
        @sa.event.listens_for(sa.Engine, "connect")
        def connected(connection, record):
            connection.execute("PRAGMA journal_mode = {journal}").close()
    """
    goal = goal_in(tmp_path / "private")
    history = history_of(application({"app.py": listener}), bootstrap="app:metadata")
    first, last = replay(Order(history, (HEAD,), way, steps=True), goal).steps
    assert (first.revision, last.revision) == ("1111aaaa", HEAD)
    assert (tables(first.path), versions(first.path)) == (BOTH - {"run"}, ("1111aaaa",))
    assert (tables(last.path), versions(last.path)) == (BOTH, (HEAD,))
    assert query(goal.path, "PRAGMA journal_mode") == [("delete",)]


def test_what_the_kernel_forbids_is_told(application, tmp_path):
    order = Order(history_of(application()), (HEAD,))
    with_help = replay(order, goal_in(tmp_path / "with"))
    offered = {"Landlock (files, TCP)", "Landlock (files)"} if landlock.version() else {""}
    assert with_help.protection in offered
    assert not replay(replace(order, landlock=False), goal_in(tmp_path / "without")).protection


# How it is run


def test_folders_are_found_as_alembic_finds_them(application, run):
    """A file in a folder of its own: `%(here)s` is that folder, `.` the one that the command is given in."""
    ini = """
        [alembic]
        script_location = %(here)s/../migrations
        prepend_sys_path = %(here)s/lib:.
        path_separator = os
        sqlalchemy.url = @URL@
    """
    folder = application(
        {
            "alembic.ini": "",
            "conf/alembic.ini": ini,
            "conf/lib/named_by_here.py": "NAME = 'here'\n",
            "named_by_cwd.py": "import os\nNAME = os.getcwd()\n",
            SECOND_FILE: as_the_second(
                "import named_by_here, named_by_cwd",
                "for name in (named_by_here.NAME, named_by_cwd.NAME):",
                "    op.execute(sa.text('INSERT INTO lab (name) VALUES (:name)').bindparams(name=name))",
            ),
        }
    )
    made = run(folder, choice=HistoryChoice(config=("conf/alembic.ini",)))
    assert query(made, "SELECT name FROM lab") == [("here",), (str(folder),)]


def test_a_file_that_is_named_from_elsewhere_means_its_own_folder(application, run, tmp_path):
    folder = application(
        {
            "conf.py": "",
            SECOND_FILE: as_the_second("op.execute(f\"INSERT INTO lab (name) VALUES ('{os.getcwd()}')\")"),
        }
    )
    made = run(tmp_path, choice=HistoryChoice(config=(f"{folder.name}/alembic.ini",)))
    assert query(made, "SELECT name FROM lab") == [(str(folder),)]


ODD = ("100% %(here)s", "what?x=1&y #1", 'it\'s "a;b:c" gr\u00fc\u00df', os.fsdecode(b"\xff\xfe"))


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_odd_characters_in_the_names_of_folders(application, tmp_path, name):
    folder = application(folder=tmp_path / name / "application")
    by_file, by_folder = history_of(folder), read_history(folder / "migrations")
    for history, way in ((by_file, "environment"), (by_folder, "bypass")):
        goal = goal_in(tmp_path / name / way)
        replay(Order(history, (HEAD,), way), goal)
        assert (tables(goal.path), versions(goal.path)) == (BOTH, (HEAD,))


def test_a_home_and_a_place_for_temporary_files_are_its_own(second, run, tmp_path):
    made = run(
        second(
            "import tempfile",
            "from pathlib import Path",
            "(Path.home() / '.lab').mkdir()",
            "kept = tempfile.NamedTemporaryFile(delete=False)",
            "op.execute(f\"INSERT INTO lab (name) VALUES ('{Path.home()}'), ('{kept.name}')\")",
        )
    )
    for (name,) in query(made, "SELECT name FROM lab"):
        assert Path(name).is_relative_to(tmp_path / "private")
        assert not Path(name).exists()


def test_what_sqlite_spills_needs_no_other_directory(second, run):
    """SQLite looks for a place for temporary files once, as it is loaded; the kernel may not let it write there."""
    made = run(
        second(
            "many = 'WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) '",
            "op.execute('CREATE TEMP TABLE spilt AS ' + many + 'SELECT i, randomblob(4000) AS b FROM n')",
            "op.execute('INSERT INTO lab SELECT i, hex(b) FROM spilt ORDER BY b')",
            "op.execute(\"UPDATE OR ABORT lab SET name = 'x' || name\")",
            "op.execute('DROP TABLE temp.spilt')",
        )
    )
    assert query(made, "SELECT count(*) FROM lab WHERE name LIKE 'x%'") == [(5000,)]


@pytest.mark.parametrize("way", ["environment", "bypass"])
@pytest.mark.parametrize("landlock", [False, True])
def test_nothing_is_written_into_the_application(application, tmp_path, way, landlock):
    folder = application(
        {"app/__init__.py": "import sqlalchemy as sa\nmetadata = sa.MetaData()\n", "app/more.py": "\n"}
    )
    before = fingerprint(folder)
    history = history_of(folder, bootstrap="app:metadata")
    replay(Order(history, (HEAD,), way, landlock=landlock), goal_in(tmp_path / "private"))
    assert fingerprint(folder) == before


@pytest.mark.parametrize("way", ["environment", "bypass"])
def test_what_the_application_creates_first_is_there(application, run, way):
    files = {
        "models.py": """
            import sqlalchemy as sa
            class Base: metadata = sa.MetaData()
            sa.Table("metrics", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))
        """,
        SECOND_FILE: as_the_second("op.add_column('metrics', sa.Column('value', sa.Float))"),
    }
    made = run(application(files), way=way, bootstrap="models:Base.metadata")
    assert [name for _, name, *_ in query(made, "PRAGMA table_info(metrics)")] == ["id", "value"]


def test_names_that_a_convention_gives_are_those_of_the_models_past_env(application, run):
    files = {
        "models.py": """
            import sqlalchemy as sa
            metadata = sa.MetaData(naming_convention={"uq": "unique_%(table_name)s_%(column_0_name)s"})
        """,
        SECOND_FILE: as_the_second(
            "op.create_table('run', sa.Column('id', sa.Integer, unique=True))",
            "with op.batch_alter_table('run') as batch:",
            "    batch.drop_constraint('unique_run_id', type_='unique')",
        ),
    }
    made = run(application(files), way="bypass", metadata="models:metadata")
    assert "UNIQUE" not in query(made, "SELECT sql FROM sqlite_master WHERE name = 'run'")[0][0]


def test_the_version_table_has_its_own_name_past_env(application, tmp_path):
    goal = goal_in(tmp_path / "private")
    replay(Order(history_of(application()), (HEAD,), "bypass", version_table="lab_version"), goal)
    assert tables(goal.path) == {"lab", "run", "lab_version"}


def test_the_environment_is_filled_in(application, run):
    shown = as_the_second(
        "for name in ('LAB_DB', 'LAB_PATH', 'LAB_DIR', 'LAB_REVISION', 'LAB_PLAIN'):",
        "    op.execute(f\"INSERT INTO lab (name) VALUES ('{os.environ[name]}')\")",
    )
    given = {
        "LAB_DB": "{url}?timeout=5",
        "LAB_PATH": "{path}",
        "LAB_DIR": "{directory}/x",
        "LAB_REVISION": "{revision}",
        "LAB_PLAIN": "{other} 100%",
    }
    made = run(application({SECOND_FILE: shown}), environment=given)
    assert [name for (name,) in query(made, "SELECT name FROM lab ORDER BY id")] == [
        f"sqlite:///{made}?timeout=5",
        str(made),
        f"{made.parent}/x",
        HEAD,
        "{other} 100%",
    ]


def test_addresses_and_passwords_of_databases_are_kept_from_it(second, run, monkeypatch):
    """What is an address leads to the target; what has one within it, or is read by drivers, is not there."""
    given = {
        "LAB_URL": "postgresql://u:SECRET@db.example.com/lab",
        "LAB_ASYNC_URL": " PostgreSQL+asyncpg://u:SECRET@db.example.com/lab?x=%",
        "LAB_LITE": "sqlite:////srv/lab.db",
        "LAB_JSON": '{"default": "mysql+pymysql://u:SECRET@db/lab"}',
        "LAB_JDBC": "jdbc:postgresql://db/lab?password=SECRET",
        "PGPASSWORD": "SECRET",
        "MYSQL_PWD": "SECRET",
        "PANICDB_SOURCE": "SECRET",
        "LAB_SITE": "https://example.com/postgresql",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    made = run(
        second(
            "for name, value in os.environ.items():",
            "    assert 'SECRET' not in value, name",
            "for name in ('LAB_URL', 'LAB_ASYNC_URL', 'LAB_LITE', 'LAB_SITE'):",
            "    op.execute(f\"INSERT INTO lab (name) VALUES ('{os.environ[name]}')\")",
        )
    )
    assert [name for (name,) in query(made, "SELECT name FROM lab ORDER BY id")] == [
        f"sqlite:///{made}",
        f"sqlite+aiosqlite:///{made}",
        f"sqlite:///{made}",
        "https://example.com/postgresql",
    ]


# The application's own command

SCRIPT = """
    import sys
    from pathlib import Path
    from alembic.command import upgrade
    from alembic.config import Config

    {before}
    upgrade(Config(Path(__file__).with_name("alembic.ini")), sys.argv[1])
"""


@pytest.mark.parametrize(
    "command",
    [
        ("python", "-m", "alembic", "upgrade", "{revision}"),
        ("python3", "-m", "manage", "{revision}"),
        ("python", "manage.py", "{revision}"),
        (sys.executable, "manage.py", "{revision}"),
        ("./manage.py", "{revision}"),
        ("./manage", "{revision}"),
        ("alembic", "upgrade", "{revision}"),
    ],
    ids=" ".join,
)
def test_an_upgrade_command_runs_on_the_target(application, run, command):
    script = textwrap.dedent(SCRIPT.format(before=""))
    folder = application({"manage.py": script, "manage": f"#!/usr/bin/env python3\n{script}"})
    for name in ("manage", "manage.py"):
        (folder / name).chmod(0o755)
    made = run(folder, way="command", command=command)
    assert (tables(made), versions(made)) == (BOTH, (HEAD,))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("./upgrade.sh",), "is no Python program"),
        (("nothing-of-the-kind",), "no program 'nothing-of-the-kind'"),
        (("python", "-c", "print(1)"), "other options can't be guarded"),
        (("python",), "needs a file"),
        (("python", "exits.py", "head"), "ended with 3"),
        (("python", "says.py", "head"), "ended with 'fed up'"),
        (("python", "-m", "no_such_module"), "no_such_module"),
        (("python", "manage.py", "ffff"), "Can't locate revision identified by 'ffff'"),
        (("alembic", "upgrade", "ffff"), "alembic ended with"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_upgrade_command_that_fails_is_told(application, run, command, words):
    folder = application(
        {
            "upgrade.sh": "#!/bin/sh\nalembic upgrade head\n",
            "manage.py": SCRIPT.format(before=""),
            "exits.py": SCRIPT.format(before="sys.exit(3)"),
            "says.py": SCRIPT.format(before="sys.exit('fed up')"),
        }
    )
    (folder / "upgrade.sh").chmod(0o755)
    with pytest.raises(ReplayError) as failure:
        run(folder, way="command", command=command)
    assert words in str(failure.value)


def test_a_command_that_reaches_for_another_database_is_stopped(application, run, tmp_path):
    before = f"import sqlite3; sqlite3.connect({str(tmp_path / 'other.db')!r})"
    folder = application({"manage.py": SCRIPT.format(before=before)})
    with pytest.raises(WrongDatabaseError, match=r"other\.db"):
        run(folder, way="command", command=("python", "manage.py", "head"))
    assert not (tmp_path / "other.db").exists()


# How it fails


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (("raise KeyError('experiment_id')",), "KeyError: 'experiment_id'"),
        (("op.execute('ALTER TABLE missing ADD COLUMN a INTEGER')",), "no such table: missing"),
        (("op.execute('CREATE TABLE half (id INTEGER)')", "1 / 0"), "ZeroDivisionError"),
        (
            (
                "try:",
                "    op.execute('INSERT INTO missing')",
                "except Exception as e:",
                "    raise OSError('x') from e",
            ),
            "OSError: x",
        ),
        (("sys.exit('fed up')",), "it called exit('fed up')"),
        (("exit()",), "it called exit()"),
        (("quit(7)",), "it called exit(7)"),
        (("input('Really? ')",), "EOFError"),
    ],
    ids=["raises", "fails", "half-way", "chained", "sys.exit", "exit", "quit", "asks"],
)
def test_a_failing_revision_is_named_with_its_file_and_error(second, run, body, words):
    folder = second(*body)
    with pytest.raises(ReplayError) as failure:
        run(folder)
    assert f"in revision 2222bbbb ({folder / SECOND_FILE}): " in str(failure.value)
    assert words in str(failure.value)


def test_a_failing_revision_is_named_past_env_too(second, run):
    with pytest.raises(ReplayError, match=r"in revision 2222bbbb .*: ZeroDivisionError"):
        run(second("1 / 0"), way="bypass")


def test_a_revision_is_named_though_env_raises_something_else(second, run):
    folder = second("1 / 0")
    env = folder / "migrations" / "env.py"
    text = textwrap.indent(env.read_text(encoding="utf-8"), "    ")
    env.write_text(
        f"try:\n{text}\nexcept Exception as e:\n    raise RuntimeError('no luck') from e\n", encoding="utf-8"
    )
    with pytest.raises(ReplayError, match=r"in revision 2222bbbb .*: RuntimeError: no luck"):
        run(folder)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"migrations/env.py": "raise ValueError('set LAB_MODE')\n"}, "failed: ValueError: set LAB_MODE"),
        ({"migrations/env.py": "import an_application\n"}, "failed: ModuleNotFoundError: .*an_application"),
        ({"migrations/env.py": "this is no Python\n"}, "failed: SyntaxError"),
        ({"migrations/env.py": "exit(1)\n"}, r"failed: it called exit\(1\)"),
        ({"migrations/versions/first.py": ""}, "1111aaaa"),
        ({SECOND_FILE: SECOND.replace('"1111aaaa"', '"1111aaaa", "lost"')}, "lost"),
        (
            {SECOND_FILE: "import an_application\n" + textwrap.dedent(SECOND)},
            "ModuleNotFoundError: .*an_application",
        ),
        ({SECOND_FILE: "revision, down_revision = '2222bbbb', '1111aaaa'\n"}, "upgrade"),
    ],
    ids=[
        "raises",
        "lacks an import",
        "no Python",
        "exits",
        "gap",
        "gap beside",
        "revision lacks",
        "no upgrade",
    ],
)
def test_what_fails_before_any_revision_runs_is_told(application, run, files, words):
    with pytest.raises(ReplayError, match=words):
        run(application(files), HEAD)


def test_a_revision_that_is_not_there_is_told(application, run):
    with pytest.raises(ReplayError, match="ffff"):
        run(application(), "ffff")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (("os._exit(3)",), "ended early: it said nothing"),
        (("print('last words', flush=True)", "os._exit(0)"), "ended early: last words"),
        (("os.kill(os.getpid(), signal.SIGKILL)",), "ended early: it said nothing"),
        (("os.kill(os.getpid(), signal.SIGTERM)",), "ended early: it said nothing"),
    ],
    ids=["exits", "says something and exits", "is killed", "is asked to end"],
)
def test_a_child_that_ends_early_is_told(second, run, body, words):
    with pytest.raises(ReplayError) as failure:
        run(second(*body))
    assert words in str(failure.value)


def test_a_copy_that_the_application_makes_of_the_child_says_nothing_for_it(second, run):
    made = run(second("if os.fork() == 0:", "    raise RuntimeError('in the copy')", "os.wait()"))
    assert versions(made) == (HEAD,)


def test_noise_is_swallowed_however_much_there_is(second, run, capfd):
    made = run(
        second(
            "print('noise ' * 500_000)",
            "print('noise ' * 500_000, file=sys.stderr)",
            "os.write(1, b'\\xff\\x00' * 1_000_000)",
            "import logging, warnings",
            "logging.getLogger('alembic').error('noise')",
            "warnings.warn('noise')",
            "sys.stdout = None",
        )
    )
    assert versions(made) == (HEAD,)
    assert capfd.readouterr() == ("", "")


def test_a_migration_that_reads_hears_nothing(second, run):
    """The socket to the parent stays open as long as that lives: reading must not wait for it to end."""
    patience = time.monotonic() + PATIENCE

    def poll() -> None:
        assert time.monotonic() < patience, "the child waits for an answer"

    made = run(second("assert sys.stdin.read() == '', 'heard something'"), monitor=Monitor(poll=poll))
    assert versions(made) == (HEAD,)


# Interpreters


def test_an_interpreter_without_alembic_is_named(application, run, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    with pytest.raises(HistoryError) as refused:
        run(application(), python=python)
    assert str(refused.value) == f"{python}: can't run migrations: has no alembic, 1.13 or later is needed"
    assert "--python" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("module", "version", "words"),
    [
        ("alembic", "1.12.0", "has alembic 1.12.0, 1.13 or later is needed"),
        ("alembic", "1.9.4.dev1", "has alembic 1.9.4.dev1, 1.13 or later is needed"),
        ("sqlalchemy", "1.4.54", "has sqlalchemy 1.4.54, 2.0 or later is needed"),
    ],
)
def test_an_interpreter_with_old_packages_is_named(
    application, run, tmp_path, monkeypatch, module, version, words
):
    (tmp_path / "old" / module).mkdir(parents=True)
    (tmp_path / "old" / module / "__init__.py").write_text(f"__version__ = {version!r}\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "old"))
    with pytest.raises(HistoryError, match=f"{sys.executable}: can't run migrations: {words}"):
        run(application())


def test_an_alembic_that_can_not_be_imported_is_told(application, run, tmp_path, monkeypatch):
    (tmp_path / "broken" / "alembic").mkdir(parents=True)
    (tmp_path / "broken" / "alembic" / "__init__.py").write_text(
        "raise TypeError('a plugin')\n", encoding="utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with pytest.raises(ReplayError, match="TypeError: a plugin"):
        run(application())


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (None, 0, "No such file"),
        ("#!/bin/sh\n", 0o600, "Permission denied"),
        ("#!/bin/sh\nexit 0\n", 0o700, "it ended before it began"),
        ("no program at all", 0o700, "Exec format error"),
    ],
    ids=["missing", "not to be run", "another program", "no program"],
)
def test_what_is_no_interpreter_is_named(application, run, tmp_path, text, mode, words):
    python = tmp_path / "python"
    if text is not None:
        python.write_text(text, encoding="utf-8")
        python.chmod(mode)
    with pytest.raises(HistoryError) as refused:
        run(application(), python=str(python))
    assert f"{python}: can't run migrations: " in str(refused.value)
    assert words in str(refused.value)


# Processes


class Marks:
    """Files in which processes note their numbers; and a poll that interrupts when all have done so."""

    def __init__(self, folder: Path, count: int) -> None:
        self._paths = [folder / str(number) for number in range(count)]
        self._deadline = time.monotonic() + PATIENCE

    def shell(self, number: int) -> str:
        """Spell a program that notes its number, and stays."""
        return f"echo $$ > {self._paths[number]}.new; mv {self._paths[number]}.new {self._paths[number]}; sleep 600"

    def are_made(self) -> bool:
        return all(path.exists() for path in self._paths)

    def pids(self) -> list[int]:
        return [int(path.read_text(encoding="utf-8")) for path in self._paths]

    def interrupt(self) -> None:
        if self.are_made():
            raise InterruptedRunError("SIGINT")
        assert time.monotonic() < self._deadline, "the child never came so far"

    def assert_ended(self) -> None:
        wait_until(lambda: not any(map(is_running, self.pids())))


@pytest.fixture
def family(second, tmp_path):
    """Make an application whose migration hangs, with a child, and one that left for a session of its own.

    The migration ignores what it may. Landlock would keep the notes of numbers out, so they lie in the private folder.
    """

    def make(folder: Path) -> tuple[Path, Marks]:
        marks = Marks(folder, 3)
        shell = [
            f"subprocess.Popen(['sh', '-c', {marks.shell(n)!r}], start_new_session={n == 2})" for n in (1, 2)
        ]
        note = f"subprocess.run(['sh', '-c', 'echo $PPID > {folder}/0'])"
        ignore = "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]"
        return second(ignore, *shell, note, "time.sleep(600)"), marks

    return make


def test_what_hangs_is_ended_with_all_that_it_started(family, tmp_path):
    goal = goal_in(tmp_path / "private")
    application, marks = family(tmp_path / "private")
    order = Order(history_of(application, time_limit=2.5), (HEAD,), landlock=False)
    pids = list[int]()

    def poll() -> None:
        if not pids and marks.are_made():
            pids.extend(marks.pids())

    began = time.monotonic()
    with closing(Replayer()) as replayer:
        with pytest.raises(ReplayError, match=r"took more than 2\.5 s and were ended"):
            replayer.replay(order, goal, Monitor(poll=poll))
        assert time.monotonic() - began < 2.5 + 2
        assert len(pids) == 3
        wait_until(lambda: not any(map(is_running, pids)))
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_an_interruption_ends_the_child_and_all_that_it_started(family, tmp_path):
    goal = goal_in(tmp_path / "private")
    application, marks = family(tmp_path / "private")
    order = Order(history_of(application), (HEAD,))
    with closing(Replayer()) as replayer, pytest.raises(InterruptedRunError):
        replayer.replay(order, goal, Monitor(poll=marks.interrupt))
    marks.assert_ended()
    with pytest.raises(ProcessLookupError):
        os.kill(marks.pids()[0], 0)


def test_what_a_finished_migration_left_running_is_ended(second, run, tmp_path):
    marks = Marks(tmp_path / "private", 2)
    shell = [
        f"subprocess.Popen(['sh', '-c', {marks.shell(n)!r}], start_new_session={n == 1})" for n in (0, 1)
    ]
    wait = f"while not all(os.path.exists(f'{tmp_path}/private/{{n}}') for n in (0, 1)): time.sleep(0.01)"
    folder = second(*shell, wait)
    goal = goal_in(tmp_path / "private")
    with closing(Replayer()) as replayer:
        replayer.replay(Order(history_of(folder), (HEAD,)), goal, Monitor())
    marks.assert_ended()
    assert versions(goal.path) == (HEAD,)


def test_threads_that_never_end_do_not_keep_the_child(second, run):
    made = run(
        second("import threading", "threading.Thread(target=time.sleep, args=(600,)).start()"), time_limit=20
    )
    assert versions(made) == (HEAD,)


PARENT = """
import sys
from contextlib import closing
from pathlib import Path
from panicdb.histories import HistoryChoice, configured_histories
from panicdb.replays import Goal, Order, Replayer
from panicdb.values import Monitor

folder, private = map(Path, sys.argv[1:])
(history,) = configured_histories(HistoryChoice(), folder)
with closing(Replayer()) as replayer:
    replayer.replay(Order(history, ("2222bbbb",)), Goal(private, private / "made.db"), Monitor())
"""


def test_a_child_and_what_it_started_do_not_outlive_a_parent_that_is_killed(family, tmp_path):
    goal = goal_in(tmp_path / "private")
    application, marks = family(tmp_path / "private")
    with subprocess.Popen([sys.executable, "-c", PARENT, application, goal.directory]) as parent:
        wait_until(marks.are_made)
        assert all(map(is_running, marks.pids()))
        parent.kill()
    marks.assert_ended()


def test_a_child_that_is_started_ahead_ends_with_its_parent(tmp_path):
    program = (
        "import time; from panicdb.replays import Replayer; replayer = Replayer(); replayer.start();"
        "print(replayer._child._process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    wait_until(lambda: not is_running(pid))


def test_a_child_that_is_started_ahead_is_used_or_ended(application, tmp_path, monkeypatch):
    started = list[int]()

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    order = Order(history_of(application()), (HEAD,))
    with closing(Replayer()) as replayer:
        replayer.start()
        replayer.replay(order, goal_in(tmp_path / "used"), Monitor())
        assert len(started) == 1
        replayer.start(sys.executable)
        replayer.replay(order, goal_in(tmp_path / "another interpreter"), Monitor())
        assert len(started) == 3
        replayer.start()
        replayer.start()
        assert [is_running(pid) for pid in started[3:]] == [False, True]
    assert len(started) == 5
    assert not any(map(is_running, started))


def test_several_replays_follow_each_other_on_one_database(application, tmp_path):
    """As for a database with several version tables."""
    other = application(
        {
            "migrations/env.py": ENV.replace(
                "connection=connection", "connection=connection, version_table='other'"
            ),
            SECOND_FILE: "",
            "migrations/versions/first.py": FIRST.replace('"lab"', '"invoice"'),
        },
        tmp_path / "other",
    )
    goal = goal_in(tmp_path / "private")
    with closing(Replayer()) as replayer:
        for folder, revision in ((application(), HEAD), (other, "1111aaaa")):
            replayer.replay(Order(history_of(folder), (revision,)), goal, Monitor())
    assert tables(goal.path) == {*BOTH, "invoice", "other"}
    assert os.listdir(goal.directory) == ["made.db"]
