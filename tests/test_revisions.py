"""Histories are parsed, never imported, by the parent; and replayed by a child whose every end is told apart."""

import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest

from panicdb.errors import InterruptedRunError
from panicdb.revisions import ReplayError, bundled_history, find_history, read_history, replay, stand_by
from panicdb.values import Catalog, Monitor

ENV = """
import sqlalchemy as sa
from alembic import context

engine = sa.create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=sa.pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.fixture
def history(tmp_path):
    """Make a history of revision files, given by their names and texts."""
    location = tmp_path / "history"

    def make(**files: str) -> Path:
        (location / "versions").mkdir(parents=True, exist_ok=True)
        (location / "env.py").write_text(ENV, encoding="utf-8")
        for name, text in files.items():
            (location / "versions" / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        return location

    return make


@pytest.fixture
def run(tmp_path):
    """Replay a history in a directory of its own, up to its heads unless told otherwise."""
    folder = tmp_path / "run"
    folder.mkdir()

    def go(location: Path, *wanted: str, monitor: Monitor | None = None) -> Path:
        read = read_history(location)
        replay(read, wanted or read.heads, folder, "sqlite:///made.db", monitor or Monitor())
        assert os.listdir(folder) == ["made.db"]
        return folder / "made.db"

    return go


def query(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


# Reading


@pytest.mark.quick
@pytest.mark.parametrize(
    "text",
    [
        "revision = 'aaaa1111'\ndown_revision = None\n",
        'revision: str = "aaaa1111"\ndown_revision: str | None = None\n',
        "'''Text.\n\nRevision ID: other\n'''\nrevision, down_revision = None, None\nrevision = 'aaaa1111'\n",
        "revision = down_revision = 'x'\nrevision = 'aaaa1111'\ndown_revision = None\n",
        "import nothing_like_this\nrevision = ('aaaa' '1111')\nx = nothing_like_this.call()\n",
        "# -*- coding: latin-1 -*-\nname = 'gr\\xfc\\xdfe'\nrevision = 'aaaa1111'\n",
        "revision = 'aaaa1111'\nif True:\n    revision = 'other'\n",
    ],
)
def test_a_literal_revision_is_read(history, text):
    read = read_history(history(first=text))
    assert set(read.files) == {"aaaa1111"}
    assert read.heads == ("aaaa1111",)
    assert read.files["aaaa1111"].name == "first.py"


@pytest.mark.quick
def test_a_file_in_another_encoding_is_read(history):
    location = history()
    text = "# -*- coding: latin-1 -*-\nname = 'grüße'\nrevision = 'aaaa1111'\n"
    (location / "versions" / "first.py").write_bytes(text.encode("latin-1"))
    assert set(read_history(location).files) == {"aaaa1111"}


@pytest.mark.quick
@pytest.mark.fault(17)
def test_branches_merges_and_heads(history):
    read = read_history(
        history(
            base="revision = 'base'\ndown_revision = None",
            left="revision = 'left'\ndown_revision = 'base'",
            right="revision: str = 'right'\ndown_revision: tuple = ('base',)",
            merge="revision = 'merge'\ndown_revision = ('left', 'right')",
            listed="revision = 'listed'\ndown_revision = ['merge']",
            other="revision = 'other'\ndown_revision = 'merge'",
        )
    )
    assert set(read.files) == {"base", "left", "right", "merge", "listed", "other"}
    assert read.heads == ("listed", "other")


@pytest.mark.quick
@pytest.mark.parametrize(
    "text",
    [
        "",
        "helper = 'not a revision'",
        "revision = make_revision()",
        "revision = f'aaaa{1}'",
        "revision = 1234",
        "revision = b'aaaa1111'",
        "revision = None",
        "revision: str",
        "def upgrade():\n    revision = 'aaaa1111'",
        "class revision: pass",
        "self.revision = 'aaaa1111'",
        "print 'written for Python 2'\nrevision = 'aaaa1111'",
        "revision = 'aaaa1111'\n<<<<<<< a conflict\n",
    ],
)
def test_files_that_are_no_revisions_are_passed_over(history, text):
    read = read_history(history(helper=text, good="revision = 'good'\ndown_revision = None"))
    assert set(read.files) == {"good"}
    assert read.heads == ("good",)


@pytest.mark.quick
def test_a_folder_without_versions_is_an_empty_history(tmp_path):
    read = read_history(tmp_path)
    assert (dict(read.files), read.heads) == ({}, ())
    assert not read.knows(("aaaa1111",))


@pytest.mark.quick
def test_reading_runs_nothing_and_leaves_nothing_behind(history, tmp_path):
    mark = tmp_path / "imported"
    loud = f"revision = 'loud'\ndown_revision = None\nopen({str(mark)!r}, 'w').close()\nraise SystemExit(5)\n"
    location = history(loud_revision=loud)
    before = set(sys.modules)
    read_history(location)
    assert not mark.exists()
    assert not {name for name in set(sys.modules) - before if "loud" in name}
    assert not list(location.rglob("__pycache__"))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("rows", "known"),
    [
        (("left",), True),
        (("right", "left"), True),
        (("base", "left"), True),
        ((), False),
        (("lef",), False),
        (("lefty",), False),
        (("LEFT",), False),
        (("left", "unknown"), False),
        (("head",), False),
        (("left@head",), False),
        (("%",), False),
    ],
)
def test_only_revisions_spelled_in_full_are_known(history, rows, known):
    """Alembic itself would take a prefix; a version table holds none."""
    read = read_history(
        history(
            base="revision = 'base'\ndown_revision = None",
            left="revision = 'left'\ndown_revision = 'base'",
            right="revision = 'right'\ndown_revision = 'base'",
        )
    )
    assert read.knows(rows) is known


@pytest.mark.quick
@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({}, "the source has no Alembic version table"),
        ({"alembic_version": ()}, "the source's version table is empty"),
        ({"alembic_version": ("a",), "alembic_version_two": ("b",)}, "the source has 2 version tables"),
        ({"alembic_version": ("e5894a7b",)}, "no known history has revision e5894a7b"),
        ({"alembic_version": ("e5894a7b84f3", "ffff")}, "no known history has revision e5894a7b84f3, ffff"),
    ],
)
@pytest.mark.fault(18)
def test_why_no_history_is_found(tables, reason):
    assert find_history(Catalog({}, (), tables)) == (None, reason)


@pytest.mark.quick
@pytest.mark.fault(18)
def test_the_bundled_history_is_found_under_any_name_of_its_version_table():
    history, reason = find_history(Catalog({}, (), {"my_versions": ("d498e961c89f",)}))
    assert history == bundled_history()
    assert reason == "the bundled history knows revision d498e961c89f"


# Replaying

GOOD = """
revision = "1111aaaa"
down_revision = None
from alembic import op

def upgrade():
    op.execute("CREATE TABLE lab (id INTEGER PRIMARY KEY)")
"""
SECOND = """
revision = "2222bbbb"
down_revision = "1111aaaa"
import os, signal, sys, time
from pathlib import Path
from alembic import op

def upgrade():
{body}
"""


def second(*lines: str) -> str:
    return SECOND.format(body="\n".join(f"    {line}" for line in lines))


def test_a_history_is_run_up_to_the_revision_that_is_asked_for(history, run):
    location = history(good=GOOD, second=second("op.execute('CREATE TABLE run (id INTEGER)')"))
    before = set(sys.modules)
    made = run(location, "1111aaaa")
    files = {str(getattr(sys.modules[name], "__file__", "")) for name in set(sys.modules) - before}
    assert not [file for file in files if file.startswith(str(location))]
    assert query(made, "SELECT * FROM alembic_version") == [("1111aaaa",)]
    assert query(made, "SELECT name FROM sqlite_master WHERE name IN ('lab', 'run')") == [("lab",)]


@pytest.mark.fault(17)
def test_several_heads_are_reached_together(history, run):
    location = history(
        good=GOOD,
        left="revision = 'left'\ndown_revision = '1111aaaa'\ndef upgrade(): pass",
        right="revision = 'right'\ndown_revision = '1111aaaa'\ndef upgrade(): pass",
    )
    made = run(location, "left", "right")
    assert query(made, "SELECT * FROM alembic_version ORDER BY 1") == [("left",), ("right",)]


def test_odd_characters_in_the_path_are_no_options(history, tmp_path, run):
    location = history(good=GOOD).rename(tmp_path / "100% history %(here)s; x")
    assert query(run(location), "SELECT * FROM alembic_version") == [("1111aaaa",)]


def test_a_failing_revision_is_named_with_its_error(history, run):
    location = history(good=GOOD, second=second("raise KeyError('experiment_id')"))
    with pytest.raises(ReplayError, match=r"failed in revision 2222bbbb: KeyError: 'experiment_id'"):
        run(location)


def test_a_statement_that_fails_is_told_with_its_revision(history, run):
    location = history(good=GOOD, second=second("op.execute('ALTER TABLE missing ADD COLUMN a INTEGER')"))
    with pytest.raises(ReplayError, match=r"in revision 2222bbbb: .*no such table: missing"):
        run(location)


def test_a_failing_env_is_told_without_a_revision(history, run):
    location = history(good=GOOD)
    (location / "env.py").write_text("import an_application_that_is_not_here\n", encoding="utf-8")
    with pytest.raises(ReplayError, match=r"failed: ModuleNotFoundError: .*an_application_that_is_not_here"):
        run(location)


def test_a_broken_chain_is_told(history, run):
    location = history(second=second("pass"))
    with pytest.raises(ReplayError, match="1111aaaa"):
        run(location)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("os._exit(3)",), "ended early: it said nothing"),
        (("print('last words', flush=True)", "os._exit(0)"), "ended early: last words"),
        (("sys.exit('fed up')",), "fed up"),
        (("os.kill(os.getpid(), signal.SIGKILL)",), "ended early: it said nothing"),
    ],
    ids=["exits", "says something and exits", "sys.exit", "is killed"],
)
def test_a_child_that_ends_early_is_told(history, run, lines, words):
    with pytest.raises(ReplayError) as failure:
        run(history(good=GOOD, second=second(*lines)))
    assert words in str(failure.value)


def test_noise_is_swallowed_however_much_there_is(history, run, capfd):
    lines = (
        "print('noise ' * 50_000)",
        "print('noise ' * 50_000, file=sys.stderr)",
        "os.write(1, b'\\xff\\x00' * 100_000)",
        "import logging, warnings",
        "logging.getLogger('alembic').error('noise')",
        "warnings.warn('noise')",
    )
    made = run(history(good=GOOD, second=second(*lines)))
    assert query(made, "SELECT * FROM alembic_version") == [("2222bbbb",)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [("input('Really? ')", "EOFError"), ("assert sys.stdin.read() == '', 'heard something'", "")],
)
def test_a_migration_that_asks_gets_no_answer(history, run, line, words):
    """The socket to the parent stays open as long as that lives: a question must not wait for it to end."""
    patience = time.monotonic() + 20

    def poll() -> None:
        assert time.monotonic() < patience, "the child waits for an answer"

    location = history(good=GOOD, second=second(line))
    if words:
        with pytest.raises(ReplayError, match=f"in revision 2222bbbb: {words}"):
            run(location, monitor=Monitor(poll=poll))
    else:
        run(location, monitor=Monitor(poll=poll))


def test_a_child_does_not_outlive_its_parent(history, tmp_path):
    mark = tmp_path / "pid"
    location = history(
        good=GOOD, second=second(f"Path({str(mark)!r}).write_text(str(os.getpid()))", "time.sleep(600)")
    )
    parent = (
        "import sys; from pathlib import Path; from panicdb.revisions import read_history, replay;"
        "from panicdb.values import Monitor; history = read_history(Path(sys.argv[1]));"
        "replay(history, history.heads, Path(sys.argv[2]), 'sqlite:///made.db', Monitor())"
    )
    with subprocess.Popen([sys.executable, "-c", parent, str(location), str(tmp_path)]) as process:
        wait_until(lambda: mark.exists() and mark.read_text(encoding="utf-8"))
        child = int(mark.read_text(encoding="utf-8"))
        assert is_running(child)
        process.kill()
    wait_until(lambda: not is_running(child))


def test_a_child_that_stands_by_ends_with_what_it_was_for(monkeypatch):
    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with stand_by(Catalog({}, (), {"alembic_version": bundled_history().heads})):
        (child,) = started
        assert is_running(child)
    assert not is_running(child)
    with stand_by(Catalog({}, ())):
        assert started == [child], "no history is known: nothing will be run"


def wait_until(condition):
    deadline = time.monotonic() + 20
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


class Stop:
    """A poll that interrupts once the child has got somewhere."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark
        self._deadline = time.monotonic() + 20

    def __call__(self) -> None:
        if self._mark.exists() and self._mark.read_text(encoding="utf-8"):
            raise InterruptedRunError("SIGINT")
        assert time.monotonic() < self._deadline, "the child never came so far"


def test_an_interruption_ends_the_child(history, run, tmp_path):
    mark = tmp_path / "pid"
    lines = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        f"Path({str(mark)!r}).write_text(str(os.getpid()))",
        "time.sleep(600)",
    )
    began = time.monotonic()
    with pytest.raises(InterruptedRunError):
        run(history(good=GOOD, second=second(*lines)), monitor=Monitor(poll=Stop(mark)))
    assert time.monotonic() - began < 25
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text(encoding="utf-8")), 0)
