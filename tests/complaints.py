"""What a refusal has to look like, whoever refuses and why; and what it must not have done."""

import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from click.testing import Result

from panicdb.backends.postgresql.addresses import read_address
from servers import Server

STEP = re.compile(r" *\d+\.\d\d s  \w")  # what `-v` says
USAGE, REFUSED, FAILED = 2, 3, 4


def some(cases: Iterable[Any], often: int) -> list[Any]:
    """Give every case, of which only one in so many is for `make test`."""
    marks = pytest.mark.prove
    return [pytest.param(case, marks=marks if number % often else ()) for number, case in enumerate(cases)]


def complains(done: Result, code: int, *fragments: str) -> None:
    """One message of ours: what was found, with the fragments in it, and a hint; no traceback, no result."""
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not STEP.match(line)]
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], done.stderr
    assert lines[1].removeprefix("hint:").strip()
    for fragment in fragments:
        assert fragment in done.stderr, done.stderr
    assert "Traceback" not in done.output


@contextmanager
def untouched(server: Server, *urls: str) -> Iterator[None]:
    """No database comes or goes meanwhile, and in these nothing changes, settings among it."""
    before = look(server, urls)
    yield
    assert look(server, urls) == before


def look(server: Server, urls: Iterable[str]) -> tuple[object, ...]:
    """Return all that could show that something was written: each row with who wrote it last, too."""
    with closing(server.connect()) as connection:
        names = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        settings = connection.execute(SETTINGS).fetchall()
    wanted = {read_address(url).database for url in urls}
    return names, settings, [fingerprint(server, name) for name in sorted(wanted & names)]


def fingerprint(server: Server, name: str) -> tuple[object, ...]:
    with closing(server.connect(name)) as connection:
        objects = connection.execute(
            "SELECT oid, relname, relfilenode, relowner FROM pg_class ORDER BY 1"
        ).fetchall()
        others = connection.execute(
            "SELECT oid, typname FROM pg_type WHERE oid > 16383 ORDER BY 1"
        ).fetchall()
        tables = [row[0] for row in connection.execute(TABLES)]
        rows = " UNION ALL ".join(
            f"SELECT '{table}', xmin::text, xmax::text, t::text FROM ONLY {table} t" for table in tables
        )
        found = connection.execute(f"{rows} ORDER BY 1, 4").fetchall() if tables else []
        counters = connection.execute("SELECT s::text FROM pg_sequences s ORDER BY 1").fetchall()
    return objects, others, found, counters


SETTINGS = "SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting ORDER BY 1, 2"
TABLES = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'm') AND oid > 16383 ORDER BY oid"
