"""What becomes of values on their way from SQLite to PostgreSQL: panicdb beside pgloader, on Debian's server.

    python bench/across_values.py

Each kind of value is a database of one table, made by a history of its own (histories/values). What counts is what the
application reads afterwards, through the same SQLAlchemy type: the same value, another one, or nothing. Needs the
Debian packages postgresql and pgloader. Exit code 0 when panicdb keeps every value, names what is lost, or refuses; 1
when it changes or loses a value without a word; 2 when nothing could be measured.
"""

import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import server as servers
import shapes
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from measure import plain_environment
from race import PANICDB

HISTORIES = shapes.BENCH / "histories"
HISTORY = HISTORIES / "values.ini"
OURS, THEIRS = "ours", "theirs"

KINDS: Mapping[str, tuple[Any, ...]] = {
    "big_integers": (2**63 - 1, -(2**63), 0),
    "integers_of_64_bits": (2**31, -(2**31) - 1),
    "small_integers": (32767, 32768),
    "text_in_integer": (1, "abc"),
    "fraction_in_integer": (1, 2.5),
    "empty_text_in_integer": (1, ""),
    "floats": (0.1, 5e-324, 1.7976931348623157e308, 1e15),
    "infinity": (float("inf"), float("-inf")),
    "negative_zero": (-0.0,),
    "text_in_float": (1.5, "abc"),
    "single_precision": (0.5, 0.1),
    "numeric": (1.5, 2, 12345678.25),
    "numeric_more_digits": (1.125, 1.1),
    "numeric_many_digits": (12345678901234567890.0, 0.1),
    "text_in_numeric": (1.5, "abc"),
    "text": ("täglich", "line\nline", "tab\there", "back\\slash", "\\N", "\\.", "quote\"'", "\U0001f600"),
    "digits_as_text": ("007", "1e3", " 1 "),
    "empty_and_null": ("", None, "NULL", "null"),
    "nul_in_text": ("a\0b",),
    "invalid_utf8": (b"\xff\xfe",),
    "blob_in_text": (b"\x00\x01",),
    "number_in_text": (17, 1.5),
    "long_varchar": ("12345", "123456"),
    "char_with_spaces": ("abc", "abc  "),
    "booleans": (1, 0, None),
    "boolean_2": (1, 2),
    "boolean_as_text": (1, "true"),
    "timestamps": ("2026-12-01 10:11:12.123456", "0001-01-01 00:00:00.000000"),
    "timestamps_with_offset": ("2026-12-01 10:11:12.000000+02:00",),
    "timestamps_of_epoch": (1764583872,),
    "zoned_timestamps": ("2026-12-01 10:11:12.123456+00:00",),
    "zoned_without_zone": ("2026-12-01 10:11:12.123456",),
    "dates": ("2026-12-01", "0001-01-01", "9999-12-31"),
    "impossible_date": ("2026-02-30",),
    "times": ("10:11:12.123456", "00:00:00.000000"),
    "time_24_00": ("24:00:00.000000",),
    "intervals": ("1970-01-02 01:00:00.000000", "1969-12-31 23:59:59.000000"),
    "json": ('{"a": [1, 2.5, null, "x"]}', "[]", '"text"'),
    "json_doubled_key": ('{"a": 1, "a": 2}',),
    "jsonb_doubled_key": ('{"a": 1, "a": 2}',),
    "json_invalid": ("{",),
    "uuids": ("00112233445566778899aabbccddeeff",),
    "uuid_malformed": ("0011",),
    "blobs": (b"", b"\x00\xff\\", bytes(range(256))),
    "text_in_blob": ("abc",),
    "enum": ("red", "green"),
    "enum_other_label": ("red", "blue"),
}
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Outcome:
    """What a tool made of one kind: what it said, and how many values are read as before, otherwise, not at all."""

    said: str
    found: Counter[str]
    told: bool
    """It named a loss, or refused."""

    @property
    def spelled(self) -> str:
        counts = [f"{count} {what}" for what, count in self.found.items()]
        return "; ".join(filter(None, (", ".join(counts), self.said)))

    @property
    def is_whole(self) -> bool:
        return set(self.found) <= {"kept"}


def types() -> Mapping[str, sa.types.TypeEngine[Any]]:
    """The application's own types, from its migration."""
    file = next((HISTORIES / "values").glob("*.py"))
    spec = importlib.util.spec_from_file_location("values_history", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TYPES


def make_source(file: Path, kind: str) -> None:
    engine = sa.create_engine(f"sqlite:///{file}")
    settings = Config(str(HISTORY), cmd_opts=Namespace(x=[f"kind={kind}"]))
    with engine.connect() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        connection.commit()
    engine.dispose()
    with closing(sqlite3.connect(file)) as raw:
        for number, value in enumerate(KINDS[kind], start=1):
            given = "CAST(? AS TEXT)" if kind == "invalid_utf8" else "?"
            raw.execute(f"INSERT INTO {kind} VALUES (?, {given})", (number, value))
        raw.commit()


def read(url: str, kind: str, of: sa.types.TypeEngine[Any]) -> dict[int, str]:
    """Read each row by itself, as the application would; what can't be read is told apart."""
    table = sa.table(kind, sa.column("id", sa.Integer()), sa.column("value", of))
    engine, found = sa.create_engine(url), {}
    try:
        with engine.connect() as connection:
            for number in connection.scalars(sa.text(f"SELECT id FROM {kind}")).all():
                try:
                    value = connection.scalar(sa.select(table.c.value).where(table.c.id == number))
                    found[number] = f"{type(value).__name__} {value!r}"
                except (sa.exc.SQLAlchemyError, ValueError, TypeError, ArithmeticError, LookupError):
                    connection.rollback()
                    found[number] = UNREADABLE
    except sa.exc.SQLAlchemyError:  # no such table
        return {}
    finally:
        engine.dispose()
    return found


def compare(before: Mapping[int, str], after: Mapping[int, str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for number, value in before.items():
        if number not in after:
            found["lost"] += 1
        elif after[number] == value:
            found["kept"] += 1
        else:
            found["unreadable now" if after[number] == UNREADABLE else "changed"] += 1
    return found


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, capture_output=True, text=True, check=False, env=plain_environment())


def try_ours(server: servers.Server, source: Path, kind: str) -> tuple[str, bool]:
    options = ["--config", str(HISTORY), "-x", f"kind={kind}", "--no-receipt", "--json"]
    done = run([str(PANICDB), "clone", str(source), server.url(OURS), *options])
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines()]
        return "refused: " + next((line for line in lines if line.startswith(kind)), lines[0]), True
    losses = json.loads(done.stdout)["losses"]
    named = [f"loss: {loss} in {count}" for found in losses.values() for loss, count in found.items()]
    return "; ".join(named), bool(named)


def try_theirs(server: servers.Server, source: Path) -> str:
    done = run(["pgloader", "--quiet", str(source), server.url(THEIRS).replace("postgresql", "pgsql", 1)])
    complained = any(word in done.stdout + done.stderr for word in ("ERROR", "FATAL", "Heap exhausted"))
    return f"exit code {done.returncode}" + (", errors in its log" if complained else ", no word")


def try_kind(
    server: servers.Server, kind: str, of: sa.types.TypeEngine[Any], folder: Path
) -> tuple[Outcome, Outcome]:
    for name in (OURS, THEIRS):
        server.execute(f"DROP DATABASE IF EXISTS {name}")
    server.execute(f"CREATE DATABASE {THEIRS} TEMPLATE template0")
    source = folder / f"{kind}.db"
    make_source(source, kind)
    before = read(f"sqlite:///{source}", kind, of)
    said, told = try_ours(server, source, kind)
    refused = said.startswith("refused")
    ours = Outcome(
        said, Counter() if refused else compare(before, read(driven(server, OURS), kind, of)), told
    )
    heard = try_theirs(server, source)
    return ours, Outcome(heard, compare(before, read(driven(server, THEIRS), kind, of)), told=False)


def driven(server: servers.Server, database: str) -> str:
    return server.url(database).replace("://", "+psycopg://", 1)


def main() -> int:
    if not servers.is_installed() or shutil.which("pgloader") is None:
        print("needs Debian's packages postgresql and pgloader", file=sys.stderr)
        return 2
    known, silent, totals = types(), [], Counter()
    with servers.running() as server, tempfile.TemporaryDirectory() as folder:
        print(
            f"PostgreSQL {server.execute('SHOW server_version')}; values as the application reads them afterwards"
        )
        for kind in KINDS:
            ours, theirs = try_kind(server, kind, known[kind], Path(folder))
            print(f"{kind}\n    panicdb   {ours.spelled}\n    pgloader  {theirs.spelled}", flush=True)
            totals.update({f"pgloader: {what}": count for what, count in theirs.found.items()})
            totals.update({f"panicdb: {what}": count for what, count in ours.found.items()})
            totals["panicdb: kinds refused"] += ours.said.startswith("refused")
            if not (ours.is_whole or ours.told):
                silent.append(kind)
    print("\n" + "\n".join(f"{what}: {count}" for what, count in sorted(totals.items())))
    print(f"changed or lost by panicdb without a word: {', '.join(silent) or 'nothing'}")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
