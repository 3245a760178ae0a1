"""Programs, libraries and sockets that lead to databases past every driver."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

# Lists of words are read more easily than lists of strings.
CLIENTS = frozenset(
    """
    psql pgcli pg_dump pg_dumpall pg_restore pg_basebackup pg_receivewal pg_rewind pgbench pgloader pgcopydb
    createdb dropdb createuser dropuser vacuumdb reindexdb clusterdb initdb pg_ctl postgres
    sqlite3 sqlite sqldiff sqlite3_analyzer sqlite-utils litecli sqlcipher litestream rqlite libsql turso
    mysql mysqldump mysqladmin mysqlimport mysqlsh mysqlpump mysqlcheck mycli
    mariadb mariadb-dump mariadb-admin mariadb-import mariadb-check mydumper myloader
    duckdb usql sqlcmd osql bcp mssql-cli isql isql-fb gbak gfix tsql sqlplus sqlldr impdp expdp
    cockroach clickhouse clickhouse-client snowsql bq db2 cqlsh mongosh mongo mongodump mongorestore redis-cli
    dbmate flyway liquibase atlas goose sqitch prisma
    """.split()  # noqa: SIM905
)
UNGUARDED = frozenset(
    """
    uv uvx pixi node npx bun deno ruby bundle rake rails perl php java Rscript
    ssh docker podman nerdctl kubectl
    """.split()  # noqa: SIM905
)
"""What runs code in another language, in another environment, on another machine."""
SHELLS = frozenset("sh bash dash zsh ksh ash fish busybox".split())  # noqa: SIM905
LAUNCHERS = SHELLS | frozenset(
    """
    env sudo doas su runuser gosu xargs nohup timeout nice ionice setsid time stdbuf script unbuffer watch flock
    unshare chroot parallel
    """.split()  # noqa: SIM905
)
"""What starts a program that its arguments name."""
HARMLESS = frozenset(
    """
    git hg file uname hostname ldconfig gcc cc clang ld nm objdump otool lsb_release which
    """.split()  # noqa: SIM905
)
"""What applications start as they are imported, and whose arguments are no programs."""
MOST_BYTES = 1 << 18
"""Of a script that is looked into."""
_PYTHON = re.compile(r"i?python[\d.]*[dmtuw]?$|pypy[\d.]*$", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"[\s;|&()<>`$\"'={}\[\]]+")
_COMMENT = re.compile(r"^\s*#(?!!).*$", re.MULTILINE)
_RESOURCE_TRACKER = re.compile(r"from multiprocessing\.resource_tracker import main;main\(\d+\)$")
_SOCKETS = re.compile(r"\.s\.PGSQL\.\d+$|mysqld?x?\.sock$|mariadb\.sock$")
_LOG_SOCKETS = re.compile(r"/dev/log$|/run/systemd/journal/|/run/syslog$")
_LIBRARIES = re.compile(
    r"(lib|_)?(pq|ecpg|sqlite3|sqlcipher|mysqlclient|mariadb|mariadbclient|odbc|iodbc|sybdb|clntsh|fbclient|db2|duckdb)"
    r"([-_.\d].*)?$"
)
_OPENING = re.compile(
    r"sqlite3_open|PQconnect|PQping|mysql_real_connect|mysql_connect|SQL(Driver)?Connect|duckdb_open"
)


def find(executable: Any, arguments: Any) -> str | None:
    """Name the client of a database, or what nobody would guard, that is about to be started, if there is one.

    Scripts that are started are read: who interprets them, and in those of a shell, what they start.
    """
    if _is_resource_tracker(arguments):
        return None
    programs, parts = _parts(executable), _parts(arguments)
    is_line = isinstance(arguments, (str, bytes))  # for a shell, of whatever name
    name = "sh" if is_line else os.path.basename((programs or parts or [""])[0])
    if name in HARMLESS:
        return None
    words = list(_words([*programs, *parts]))
    started = [*programs, *parts, *words] if name in LAUNCHERS else [*programs, *parts[:1]]
    return next(filter(None, (*map(_named, words), *map(_within, dict.fromkeys(started)))), None)


def is_database_socket(path: str) -> bool:
    """Tell whether a local socket is one of a database server, by its usual name."""
    return _SOCKETS.search(path) is not None


def is_log_socket(path: str) -> bool:
    """Tell whether a local socket is one that messages are logged to, or has no place in the file system."""
    return path.startswith("\0") or _LOG_SOCKETS.search(path) is not None


def is_library(name: str) -> bool:
    """Tell whether a library is one of a database."""
    return _LIBRARIES.match(os.path.basename(name)) is not None


def opens(function: str) -> bool:
    """Tell whether a function of such a library opens a connection; it may be part of the interpreter."""
    return _OPENING.match(function) is not None


def _named(word: str) -> str | None:
    name = os.path.basename(word)
    if name.lower().removesuffix(".exe") in CLIENTS:
        return name
    if name in UNGUARDED or _PYTHON.match(name):
        return f"{name}, which nobody would guard,"
    return None


def _within(word: str) -> str | None:
    """Look behind a program's name: where a link leads, and what a script holds."""
    for path in filter(None, (word if os.path.exists(word) else None, shutil.which(word))):
        if os.path.basename(path) not in HARMLESS:
            found = (os.path.realpath(path), *_words(_script(path)))
            named = next(filter(None, map(_named, found)), None)
            if named is not None:
                return named
    return None


def _script(path: str) -> str | None:
    """Return the text of a script of a shell, the first line of any other script, or None."""
    with suppress(OSError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES).decode(errors="replace")
        interpreter = text.partition("\n")[0][2:] if text.startswith("#!") else ""
        if path.endswith(".sh") or any(os.path.basename(word) in SHELLS for word in _words(interpreter)):
            return _COMMENT.sub("", text)
        return interpreter or None
    return None


def _is_resource_tracker(arguments: Any) -> bool:
    """`multiprocessing` starts a Python of its own for locks, that runs this one line."""
    if not isinstance(arguments, (list, tuple)) or not arguments:
        return False
    return _RESOURCE_TRACKER.match(os.fsdecode(arguments[-1])) is not None and "-c" in map(
        os.fsdecode, arguments
    )


def _parts(given: Any) -> list[str]:
    if given is None:
        return []
    return [
        os.fsdecode(part) for part in ([given] if isinstance(given, (str, bytes, os.PathLike)) else given)
    ]


def _words(given: Any) -> Iterator[str]:
    for part in _parts(given):
        yield from filter(None, _BETWEEN_WORDS.split(part))
