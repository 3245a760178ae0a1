"""SQLite files: how they are named, opened and identified."""

import errno
import os
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import sqlalchemy as sa

from panicdb.errors import DamagedError, PanicDBError, SourceError, TransferError, UsageError, check_file_name

MAGIC = b"SQLite format 3\0"
"""How a database file begins (https://www.sqlite.org/fileformat.html, section 1.3)."""
SIDECARS = ("-wal", "-shm", "-journal")
OLDEST_SQLITE = (3, 37, 0)
"""`PRAGMA table_list`, which tells shadow tables and STRICT apart, is in SQLite since this release."""

_ADDITION = re.compile(r"(no such|unknown) (module|collation sequence|function|tokenizer)\b")
_NAMES_MAIN = re.compile(r"malformed database schema \((.+)\) - .*cannot reference objects in database")
_UNSAFE = re.compile(r"unsafe use of (.+)")
_INNOCUOUS, _DIRECT_ONLY = 0x200000, 0x80000
_OF_SEARCH = frozenset(
    (
        *(
            "bm25",
            "fts5",
            "fts5_source_id",
            "highlight",
            "match",
            "matchinfo",
            "offsets",
            "optimize",
            "snippet",
        ),
        *("rtreecheck", "rtreedepth", "rtreenode"),
    )
)
"""Functions of SQLite's own search modules, which work on the rows of a search only."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:")


def is_url(text: str) -> bool:
    """Tell a URL from a path: `sqlite:`, or anything with `://` after a scheme."""
    match = _SCHEME.match(text)
    return match is not None and (text.startswith("sqlite:") or text[match.end() : match.end() + 2] == "//")


def path_of(text: str) -> str:
    """Return the file that a path or a SQLite URL names. Raises UsageError for anything but a file."""
    path = _path_of_url(text) if is_url(text) else text
    if path in ("", ":memory:"):
        raise UsageError("an in-memory database can't be a source or a target", hint="name a file")
    if "\0" in path:
        raise UsageError("a file name can't hold a NUL character", hint="check the name")
    check_file_name(path)
    return path


def _path_of_url(text: str) -> str:
    try:
        url = sa.make_url(text)
        database = url.database or ""
        path = unquote(urlsplit(database).path) if database.startswith("file:") else database
    except (sa.exc.ArgumentError, ValueError):
        url = None
    if url is None:  # raised here, so that no error that repeats the text is in the chain
        raise UsageError("this is no URL that SQLAlchemy understands", hint="sqlite:///FILE, or just FILE")
    in_memory = path != database and (url.query.get("mode") == "memory" or url.query.get("vfs") == "memdb")
    return ":memory:" if in_memory else path


def open_uri(path: str, mode: str) -> str:
    """Spell a file as a SQLite URI, whatever characters its name has; `mode` is ro, rw or rwc."""
    return f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode={mode}"


def connect(path: str, mode: str, *, timeout: float = 0.0) -> sqlite3.Connection:
    """Open a file with explicit transactions, untrusted schema and byte-true text."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise SourceError(
            f"the SQLite library is {sqlite3.sqlite_version}, panicdb needs {wanted} or later",
            hint="use a Python that is linked with a newer SQLite",
        )
    connection = sqlite3.connect(
        open_uri(path, mode),
        uri=True,
        isolation_level=None,
        timeout=timeout,
        check_same_thread=False,
    )
    connection.text_factory = _decode
    connection.execute(f"PRAGMA trusted_schema = {'ON' if _has_only_own_functions(connection) else 'OFF'}")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA temp_store = FILE")
    return connection


def _has_only_own_functions(connection: sqlite3.Connection) -> bool:
    """Tell whether a schema must be trusted to be read at all, and can be.

    SQLite 3.38 to 3.40 did not mark its JSON functions as harmless, and refuses every statement on a file that has an
    index or a check with one of them. That is lifted where no function is known but those that SQLite itself has: what
    does something outside of the file can't be called by a schema, trusted or not (SQLITE_DIRECTONLY). Reads no file.
    """
    doubtful = [
        (name, builtin)
        for name, builtin, *_, flags in connection.execute("PRAGMA function_list")
        if not flags & (_INNOCUOUS | _DIRECT_ONLY)
    ]
    others = {name for name, builtin in doubtful if not builtin} - _OF_SEARCH
    return any(builtin for _, builtin in doubtful) and not others


def _decode(data: bytes) -> str:
    """Text of SQLite need not be valid UTF-8: keep the odd bytes recognisable instead of failing."""
    return data.decode("utf-8", "surrogateescape")


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from all others under any name, or None where there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def error_name(error: BaseException) -> str:
    """Return SQLite's own name of an error, such as SQLITE_BUSY."""
    return str(getattr(error, "sqlite_errorname", ""))


def is_full(error: BaseException) -> bool:
    """Tell whether SQLite or the system found no room to write."""
    number = error.errno if isinstance(error, OSError) else None
    return error_name(error) == "SQLITE_FULL" or number in (errno.ENOSPC, errno.EDQUOT)


def is_addition(error: BaseException) -> bool:
    """Tell whether something is missing that an application adds to SQLite, and that SQLite alone does not have."""
    return _ADDITION.match(str(error)) is not None


def may_be_database(path: str) -> bool:
    """Tell whether a file is empty or begins as SQLite's do, as far as it can be read.

    Another process looks: closing any descriptor of a file drops the locks that this process holds on it through SQLite
    (https://www.sqlite.org/howtocorrupt.html, section 2.2), and asking SQLite leaves a log beside a file in WAL mode.
    """
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        try:
            process = os.posix_spawnp(
                "head",
                ["head", "-c", str(len(MAGIC)), os.path.abspath(path)],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
        finally:
            os.close(writer)
        start = stream.read()
    _, status = os.waitpid(process, 0)
    return status != 0 or start in (MAGIC, b"")


def is_no_database(error: BaseException) -> bool:
    """Tell whether a file is none of SQLite's."""
    return error_name(error) == "SQLITE_NOTADB"


def explain(error: BaseException, path: str, doing: str) -> PanicDBError:
    """Turn an error of the driver while `doing` something with `path` into words."""
    told = _told_by_its_text(error, path) or _told_by_its_name(error, path)
    return told or TransferError(
        f"{path}: {doing} failed: {error}",
        hint="`sqlite3 FILE 'PRAGMA integrity_check'` tells whether the source is sound; if so, please report this",
    )


def _told_by_its_text(error: BaseException, path: str) -> PanicDBError | None:
    text = str(error)
    if is_addition(error):
        return SourceError(
            f"{path}: {error}",
            hint="only the application that made the database has it: panicdb knows what SQLite alone knows",
        )
    if text == _LATER_FORMAT:
        return DamagedError(
            f"{path}: its header names a file format that SQLite {sqlite3.sqlite_version} does not know",
            hint="the file is damaged, or made by a later SQLite",
            place=path,
        )
    if bound := _NAMES_MAIN.search(text):
        return SourceError(
            f"{path}: {bound[1]} names the database `main`, so SQLite opens the file alone, never beside another",
            hint="export into a new file instead",
        )
    if unsafe := _UNSAFE.search(text):
        return SourceError(
            f"{path}: its schema calls {unsafe[1]}, and what a file calls is not run",
            hint="remove what calls it from a copy of the database first",
        )
    return None


def _told_by_its_name(error: BaseException, path: str) -> PanicDBError | None:
    name = error_name(error)
    for prefix, (kind, text, hint) in _EXPLANATIONS.items():
        if name.startswith(prefix):
            if kind is DamagedError:
                return DamagedError(f"{path}: {text}", hint=hint, place=path)
            found = kind(f"{path}: {text}", hint=hint)
            found.from_outside = True
            return found
    return None


_WAL_IN_CLOSED_DIRECTORY = (
    "the database is in WAL mode, and the -wal and -shm files it needs can't be made there"
)
_OPEN_DIRECTORY = "give write permission on the directory, or copy the database where you have it"
_LATER_FORMAT = "unsupported file format"
_EXPLANATIONS: dict[str, tuple[type[PanicDBError], str, str | None]] = {
    "SQLITE_NOTADB": (
        DamagedError,
        "not a SQLite database, or an encrypted one",
        "decrypt it first, or check the file name",
    ),
    "SQLITE_CORRUPT": (
        DamagedError,
        "the database is damaged or truncated",
        "`sqlite3 FILE .recover` may rescue what is left; a copy made with `cp` while it was in use can look like this",
    ),
    "SQLITE_BUSY": (
        SourceError,
        "the database is locked by another process",
        "wait until it has finished, or raise --timeout",
    ),
    "SQLITE_LOCKED": (SourceError, "the database is locked", "wait, or raise --timeout"),
    "SQLITE_READONLY_ROLLBACK": (
        SourceError,
        "a crashed program left a hot journal that has to be rolled back first",
        "open the database once with its application (or `sqlite3 FILE .tables`), then try again",
    ),
    "SQLITE_READONLY_RECOVERY": (
        SourceError,
        "a crashed program left a write-ahead log that has to be recovered first",
        "open the database once with its application (or `sqlite3 FILE .tables`), then try again",
    ),
    "SQLITE_READONLY_CANTINIT": (SourceError, _WAL_IN_CLOSED_DIRECTORY, _OPEN_DIRECTORY),
    "SQLITE_READONLY_DIRECTORY": (SourceError, _WAL_IN_CLOSED_DIRECTORY, _OPEN_DIRECTORY),
    "SQLITE_READONLY": (
        SourceError,
        "reading would have to write first (a journal or log was left by a crashed program)",
        "open the database once with its application, then try again",
    ),
    "SQLITE_CANTOPEN": (
        SourceError,
        "can't be opened",
        "a database in WAL mode needs a directory that can be written, or its -shm file in place",
    ),
    "SQLITE_FULL": (
        TransferError,
        "the disk for temporary files is full",
        "make room, or let SQLITE_TMPDIR name a directory on another disk",
    ),
    "SQLITE_IOERR": (
        TransferError,
        "the system reported an input/output error",
        "look for a full disk, a quota or a failing device",
    ),
    "SQLITE_NOMEM": (TransferError, "out of memory", "end other programs, or use a machine with more of it"),
}
