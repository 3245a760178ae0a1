"""Fixtures that many tests share: databases made from SQL, and the command line in-process or as a process."""

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import matrix
import seeds
import servers
from engines import Engine, Engines
from panicdb.cli import panicdb
from panicdb.demonstration import make_source
from panicdb.values import Monitor

SCRIPT = Path(sys.executable).with_name("panicdb")


def pytest_configure() -> None:
    """What the caller ignores (a `nohup`, a background job) must not be what the runs under test inherit."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    seeds.use_seed()
    try:
        servers.choose()
    except servers.ServerError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault",
        type=int,
        action="append",
        metavar="ROW",
        help="run only what covers this row of the fault matrix",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note the rows of the fault matrix that a test covers where the summary finds them; choose by row if asked."""
    wanted = set(config.getoption("--fault") or ())
    for item in items:
        rows = matrix.rows_of(item)
        if rows:
            item.user_properties.append((matrix.PROPERTY, rows))
    chosen = [item for item in items if not wanted or wanted & set(matrix.rows_of(item))]
    if len(chosen) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def pytest_report_header() -> list[str]:
    engines = [f"SQLite {sqlite3.sqlite_version}", f"Python {sys.version.split()[0]}"]
    used = [servers.described(name) for name in servers.choose()]
    return [", ".join((*engines, f"PANICDB_SEED {seeds.SEED}")), f"PostgreSQL: {', '.join(used)}"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a PostgreSQL server once on each that is there: on the second one only what is quick, or proof."""
    if "postgres" in metafunc.fixturenames:
        first, *others = servers.choose()
        marks = [] if metafunc.definition.get_closest_marker("quick") else [pytest.mark.prove]
        parameters = [first, *(pytest.param(name, marks=marks) for name in others)]
        metafunc.parametrize("postgres", parameters, indirect=True, scope="session")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what campaigns found: where tests share processes, only what is recorded or captured arrives here.

    `figures` are lines, `coverage` is counted over all parts of a campaign; prove tests may print, too.
    """
    reports = [report for found in terminalreporter.stats.values() for report in found]
    calls = [report for report in reports if getattr(report, "when", None) == "call"]
    lines = [value for report in calls for name, value in report.user_properties if name == "figures"]
    lines += [report.capstdout.strip() for report in calls if "prove" in report.keywords and report.capstdout]
    covered: Counter[str] = Counter()
    for report in calls:
        for name, value in report.user_properties:
            if name == "coverage":
                covered.update(value)
    lines += [f"{count:7} {feature}" for feature, count in sorted(covered.items())]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join((*lines, "")))
    faults = matrix.summary(reports)
    if faults:
        terminalreporter.section("fault matrix")
        terminalreporter.write("\n".join((*faults, "")))


@pytest.fixture
def make_db(tmp_path: Path) -> Callable[..., Path]:
    """Make a SQLite file from a script."""

    def make(script: str, name: str = "source.db") -> Path:
        path = tmp_path / name
        connection = sqlite3.connect(path)
        try:
            connection.executescript(script)
            connection.commit()
        finally:
            connection.close()
        return path

    return make


@pytest.fixture(scope="session")
def pool() -> Iterator[servers.Pool]:
    """Give the PostgreSQL servers of this process; each starts when it is first asked for and ends with the session."""
    started = servers.Pool()
    yield started
    started.close()


@pytest.fixture(scope="session")
def engines(pool: servers.Pool) -> Iterator[Engines]:
    """Give what the suites for all engines need of one: SQLite, and PostgreSQL on these servers."""
    with closing(Engines(pool)) as kept:
        yield kept


@pytest.fixture(scope="session")
def postgres(pool: servers.Pool, request: pytest.FixtureRequest) -> servers.Server:
    """Give a running PostgreSQL server; what asks for it runs once on each server that is there."""
    return pool.get(request.param)


@pytest.fixture
def engine(postgres: servers.Server, engines: Engines, tmp_path: Path) -> Iterator[Engine]:
    """Give PostgreSQL on one server; what asks for it runs once on each that is there."""
    with engines.using(postgres.name, tmp_path) as engine:
        yield engine


@pytest.fixture
def make_pg(postgres: servers.Server) -> Iterator[Callable[..., str]]:
    """Make a PostgreSQL database from a script and give its address.

    After the test, whatever databases and roles came during it are dropped.
    """
    with postgres.tidying():
        yield postgres.create


@pytest.fixture
def rows() -> Callable[..., list[tuple]]:
    """Run a query on a file, read-only."""

    def query(path: Path | str, sql: str) -> list[tuple]:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    return query


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run `panicdb` in this process; `exit_code`, `stdout` and `stderr` of what came of it."""

    def run(*arguments: object, **options: object) -> Result:
        return CliRunner().invoke(panicdb, [str(each) for each in arguments], **options)

    return run


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed `panicdb` script as a process of its own."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        options = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run([str(SCRIPT), *map(str, arguments)], check=False, **options)

    return run


@pytest.fixture(scope="session")
def experiments_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small PANIC-TDA database at its head: three experiments of two runs. Not to be written to."""
    folder = tmp_path_factory.mktemp("experiments")
    return Path(make_source(str(folder), Monitor()).path)
