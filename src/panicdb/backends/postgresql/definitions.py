"""A database's definitions, by pg_dump: which one fits, how it is run, and its text run on another database."""

import os
import re
import shutil
import subprocess
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from panicdb.backends.postgresql.addresses import Address
from panicdb.errors import PanicDBError, SourceError, TransferError, redacted
from panicdb.values import Monitor

FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
"""Where distributions keep the programs of each major version."""
VARIABLE = "PANICDB_PG_DUMP"
SECONDS_BETWEEN_POLLS = 0.05
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_META = re.compile(r"^\\(un)?restrict .*$\n?", re.MULTILINE)
"""What recent releases put around a dump, for psql alone."""
_EXTENSION_COMMENT = re.compile(r"^COMMENT ON EXTENSION .*? IS '(?:[^']|'')*';$\n?", re.MULTILINE)
"""It belongs to the extension, and is not for everybody to set."""
_USER_MAPPING = re.compile(r"^CREATE USER MAPPING FOR .*?;$\n?", re.MULTILINE | re.DOTALL)
"""It may hold a password, which is nothing to hand on."""
_TIMEOUTS = re.compile(r"^SET \w+_timeout = 0;$\n?", re.MULTILINE)
"""Older servers than this pg_dump don't know each of them, and ours are set."""
_LOST = re.compile(
    r"connection unexpectedly|terminating connection|could not (receive|send) data|lost synchronization|reset by peer"
)
_LOCKED = re.compile(r"(lock|statement) timeout|could not obtain lock")
_SCHEMA = re.compile(r'^CREATE SCHEMA ("(?:[^"]|"")+"|\w+);$\n?', re.MULTILINE)
_OPTIONS = "-c standard_conforming_strings=on"
"""Else pg_dump spells text as the database is told to, and says so first: too late where all of it is read at once."""


@dataclass(frozen=True)
class Definitions:
    """What is to be there before rows are loaded, and what after."""

    before: str
    after: str

    def before_in(self, schemas: Container[str]) -> str:
        """Return what is to be there before, where these schemas are there already."""
        return _SCHEMA.sub(lambda match: "" if _unquoted(match[1]) in schemas else match[0], self.before)


def dump_definitions(
    address: Address, version: int, monitor: Monitor, lock_seconds: float = 30.0
) -> Definitions:
    """Let pg_dump read the definitions of a database whose server has the major `version`. Reads only.

    Raises SourceError if there is no pg_dump of that version or later, or if its arguments would tell everybody a
    secret; TransferError if it fails.
    """
    if "sslpassword" in address.parameters:
        raise SourceError(
            "copying the schema needs pg_dump, and everybody on this machine would read the sslpassword of the address "
            "among its arguments",
            hint="let the application's migrations build the schema (-c), or use a key without a password",
        )
    program = find_program(version)
    return Definitions(
        *(_dump(program, address, section, monitor, lock_seconds) for section in ("pre-data", "post-data"))
    )


def find_program(version: int) -> str:
    """Return the pg_dump whose version fits best: the lowest that is not older than the server. Raises SourceError."""
    found: dict[int, str] = {}
    for path in dict.fromkeys(_candidates()):
        own = _version_of(path)
        if own is not None and own >= version:
            found.setdefault(own, path)
    if found:
        return found[min(found)]
    raise SourceError(
        f"copying the schema needs pg_dump of PostgreSQL {version} or later, and none was found",
        hint=f"install the client programs of PostgreSQL {version}, or name one in {VARIABLE}; "
        "or let the application's migrations build the schema (-c)",
    )


def _candidates() -> Iterator[str]:
    named = os.environ.get(VARIABLE)
    if named:
        yield named
        return
    on_path = shutil.which("pg_dump")
    if on_path is not None:
        yield on_path
    for pattern in FOLDERS:
        root, _, rest = pattern.lstrip("/").partition("/")
        yield from sorted(str(path / "pg_dump") for path in Path("/", root).glob(rest))


def _version_of(program: str) -> int | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout)
    return None if match is None else int(match[1])


def _dump(program: str, address: Address, section: str, monitor: Monitor, lock_seconds: float) -> str:
    command = [program, "--schema-only", f"--section={section}", "--no-owner", "--no-privileges"]
    # Somebody who waits for a lock of ours would keep it waiting for ever, and everybody else.
    command += [f"--lock-wait-timeout={max(1, round(lock_seconds * 1000))}ms"]
    command += ["--no-tablespaces", "--no-subscriptions", "--no-password", "--dbname", _conninfo(address)]
    try:
        process = subprocess.Popen(  # noqa: S603 - found above; nothing of the arguments is a secret
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=_environment(address),
            process_group=0,  # Ctrl-C is for this process, which then ends that one
        )
    except OSError as error:
        raise TransferError(f"pg_dump can't be started: {error.strerror}") from error
    with process:
        try:
            text, complaints = _communicate(process, monitor)
        finally:
            process.kill()
    if process.returncode != 0:
        raise _failed(complaints, address)
    for pattern in (_META, _EXTENSION_COMMENT, _USER_MAPPING, _TIMEOUTS):
        text = pattern.sub("", text)
    return text


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _communicate(process: "subprocess.Popen[str]", monitor: Monitor) -> tuple[str, str]:
    while True:
        monitor.poll()
        try:
            return process.communicate(timeout=SECONDS_BETWEEN_POLLS)
        except subprocess.TimeoutExpired:
            continue


def _failed(complaints: str, address: Address) -> PanicDBError:
    lines = [line for line in complaints.splitlines() if line.strip()]
    said = redacted(lines[0].partition("error: ")[2] or lines[0]) if lines else "it said nothing"
    if _LOCKED.search(complaints):
        return SourceError(
            f"{address.shown}: locked: somebody waits to change a table that pg_dump has to read",
            hint="run this again when that is done, or wait longer with --timeout",
        )
    if _LOST.search(complaints):
        return TransferError(
            f"{address.shown}: the connection to the server was lost while pg_dump read the definitions: {said}",
            hint="look into the server's log, then run this again",
        )
    return SourceError(
        f"pg_dump could not read the definitions: {said}", hint="the user must be able to read every table"
    )


def _conninfo(address: Address) -> str:
    """Everything but the password: other users see the arguments of programs."""
    from psycopg import conninfo  # noqa: PLC0415 - imported with the first of these only

    said = {name: value for name, value in address.parameters.items() if name != "password"}
    if "options" in said:  # which go before those of the environment
        said["options"] = f"{said['options']} {_OPTIONS}"
    return conninfo.make_conninfo("", **said)


def _environment(address: Address) -> Mapping[str, str]:
    password = address.parameters.get("password")
    own = {} if password is None else {"PGPASSWORD": password}
    options = f"{os.environ.get('PGOPTIONS', '')} {_OPTIONS}"
    return {**os.environ, "LC_ALL": "C", "PGCLIENTENCODING": "UTF8", "PGOPTIONS": options, **own}
