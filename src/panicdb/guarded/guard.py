"""Never the wrong database: every connection that this process opens is to the target, or is not opened.

Identity decides, not URLs: a SQLite file is the target if device and inode are the target's; a database of a server,
if it was reached through the one socket that leads nowhere else. What is asked for before the target is known is
refused, too. A violation is written down before it is raised, so that code which swallows it
changes nothing: the parent fails the run. Blocked are, each with a probe in tests/test_guard.py and named in
docs/guard.md:

- `sqlite3.connect` with another file, in any spelling; ATTACH and VACUUM INTO of another file; loading extensions;
- writing into another SQLite file, or what lies beside it, by the means of files; removing and renaming it;
- drivers of other databases, as their modules are imported; libraries of databases that ctypes would load;
- programs that are clients of a database, or would run code that nobody guards, started in any way;
- sockets: TCP, and those of local servers; interpreters within this one.

Nothing here imports more than the standard library: it is in place before anything else is imported.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote

from . import clients, drivers
from .aims import Aim
from .targets import Target

Identity = tuple[int, int]
MEMORY = frozenset({":memory:", "", "file::memory:"})
"""What SQLite opens without a file that has a name."""
FACTORY = 5
"""The place of `factory` among the arguments of `sqlite3.connect`."""
HEADER = b"SQLite format 3\0"
BESIDE = ("-wal", "-journal", "-shm")
"""The ends of the names of files that belong to a SQLite file."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT
LOST = 70
"""The exit code of a process that could not write a violation down."""


class Violation(BaseException):
    """Something would have reached a database that is not the target."""


class State(NamedTuple):
    """What the guard holds on to: the target's identity, if it is a file, and the file that violations go to."""

    target: Identity | None
    log: str | None


class Guard:
    """One per process, for as long as it lives: an audit hook can't be taken back."""

    def __init__(self) -> None:
        self._state = State(None, None)
        self._early: list[str] = []
        self._opening = threading.local()
        self._watcher = drivers.Watcher(lambda name: self.refuse(f"{name} would open a connection"))

    def install(self) -> None:
        """Put every choke point in place; from now on nothing is reachable."""
        self._watcher.watch()
        handlers: dict[str, Callable[..., None]] = {
            **self._handlers_of_files(),
            **self._handlers_of_processes(),
            "import": lambda *_: self._watcher.come_first(),
        }

        def look(event: str, arguments: tuple[Any, ...]) -> None:
            handler = handlers.get(event)
            if handler is not None:
                handler(*arguments)

        _wrap_sqlite(self)
        _wrap_fork(self.check_program)
        sys.addaudithook(look)

    def _handlers_of_files(self) -> dict[str, Callable[..., None]]:
        return {
            "sqlite3.connect": self._check_connect,
            "sqlite3.enable_load_extension": self._refuse_extensions,
            "sqlite3.load_extension": lambda *_: self.refuse("a SQLite extension would be loaded"),
            "open": self._check_open,
            "os.remove": lambda path, directory=-1: self._check_name(path, "removed", directory),
            "os.rename": self._check_rename,
            "os.truncate": lambda path, _length: self._check_change(path, "truncated"),
            "ctypes.dlopen": self._check_library,
            "ctypes.dlsym": lambda _library, name: self._check_symbol(name),
        }

    def _handlers_of_processes(self) -> dict[str, Callable[..., None]]:
        return {
            "subprocess.Popen": self.check_program,
            "os.system": lambda command: self.check_program(None, command),
            "os.exec": self.check_program,
            "os.posix_spawn": self.check_program,
            "os.spawn": lambda _mode, path, arguments, _environment: self.check_program(path, arguments),
            "pty.spawn": lambda arguments: self.check_program(None, arguments),
            "socket.connect": lambda _socket, address: self._check_socket(address),
            "socket.sendto": lambda _socket, address: self._check_socket(address),
            "socket.sendmsg": lambda _socket, address: self._check_socket(address),
            "cpython.PyInterpreterState_New": lambda: self.refuse(
                "an interpreter without a guard would be made"
            ),
        }

    def aim(self, target: Target, log: str) -> None:
        """Let connections through to the target; violations are appended to the file `log`.

        Both lie in private directories. The log is opened for each line: a descriptor could be closed by others.
        """
        self._state = State(_identity(target.path) if target.is_file else None, os.path.realpath(log))
        if not target.is_file:
            self._watcher.aim(Aim(target.folder, target.database))
        for text in self._early:
            self._note(text)

    def refuse(self, text: str) -> NoReturn:
        """Write a violation down, and raise it."""
        self._note(text)
        raise Violation(f"{text}, and that is not the target")

    def _note(self, text: str) -> None:
        if self._state.log is None:
            self._early.append(text)
            return
        line = (text.replace("\n", " ") + "\n").encode(errors="backslashreplace")
        try:
            log = os.open(self._state.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.write(log, line)
            os.close(log)
        except OSError:  # no descriptor is left, or no room: without a reply the run has failed
            os._exit(LOST)

    def is_target(self, path: str | bytes | os.PathLike[Any]) -> bool:
        """Tell whether a path leads to the target's file, by whichever name."""
        return self._state.target is not None and _identity(path) == self._state.target

    # SQLite

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Within this, a connection is opened in a way that gives it an authorizer."""
        before = getattr(self._opening, "now", False)
        self._opening.now = True
        try:
            yield
        finally:
            self._opening.now = before

    def _check_connect(self, database: Any) -> None:
        self.check_file(database)
        if not getattr(self._opening, "now", False):
            self.refuse(f"{_shown(database)} would be opened past the guard")

    def check_file(self, database: Any) -> None:
        """Refuse before anything is opened: SQLite would make a file that is not there."""
        if isinstance(database, int) or not self._is_allowed(database):
            self.refuse(f"the file {_shown(database)} would be opened")

    def _is_allowed(self, database: Any) -> bool:
        text = os.fsdecode(database)
        if text in MEMORY or text.startswith("file::memory:?"):
            return True
        return self.is_target(_path_of(text) if text.startswith("file:") else text)

    def check_opened(self, files: Iterable[bytes]) -> None:
        """Judge what SQLite says it has opened, however it was spelled."""
        for file in files:
            if file and not self.is_target(file):
                self.refuse(f"the file {os.fsdecode(file)} was opened")

    def authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """Deny SQLite what leads to another file (https://www.sqlite.org/c3ref/c_alter_table.html).

        An exception would be lost here: what is refused is written down, and SQLite says that it is not authorized.
        """
        with suppress(Violation):
            if action == sqlite3.SQLITE_ATTACH and (first is None or not self._is_allowed(first)):
                self.refuse(f"the file {'(computed)' if first is None else first} would be attached")
            if action == sqlite3.SQLITE_FUNCTION and second == "load_extension":
                self.refuse("a SQLite extension would be loaded")
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    def _refuse_extensions(self, _connection: Any, enabled: Any) -> None:
        if enabled:
            self.refuse("loading SQLite extensions would be allowed")

    # Files

    def _check_open(self, path: Any, _mode: Any = None, flags: Any = 0, *_: Any) -> None:
        if isinstance(flags, int) and flags & WRITING:
            self._check_change(path, "opened for writing")

    def _check_rename(
        self, before: Any, after: Any, from_directory: int = -1, to_directory: int = -1
    ) -> None:
        self._check_name(before, "renamed", from_directory)
        self._check_name(after, "replaced", to_directory)

    def _check_name(self, path: Any, change: str, directory: int = -1) -> None:
        """Refuse to take a name from another SQLite file; what leads out of the run's directory only loses a link."""
        text = os.path.join(_path_of_descriptor(directory), os.fsdecode(path))
        if not self._is_inside(os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))):
            self._check_change(text, change)

    def _check_change(self, path: Any, change: str) -> None:
        """Refuse to change another SQLite file, or what lies beside one, by the means of files."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return  # a descriptor: its file was judged when it was opened
        text = os.fsdecode(path)
        names = [text, *(text[: -len(end)] for end in BESIDE if text.endswith(end))]
        if any(map(self._is_foreign, names)):
            self.refuse(f"the file {text} would be {change}")

    def _is_foreign(self, path: str) -> bool:
        """Tell whether a path leads to a SQLite file that is neither the target nor made by this run.

        The target is never opened for this: closing it again would drop the locks that SQLite has on it.
        """
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return False
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) == self._state.target:
            return False
        made_here = found.st_nlink == 1 and self._is_inside(os.path.realpath(path))
        return not made_here and _is_sqlite(path)

    def _is_inside(self, path: str) -> bool:
        """Tell whether a real path is one in the run's private directory."""
        log = self._state.log
        return log is not None and path.startswith(os.path.dirname(log) + os.sep)

    def _check_library(self, name: Any) -> None:
        if name is not None and clients.is_library(os.fsdecode(name)) and not drivers.is_loading():
            self.refuse(f"the library {_shown(name)} would be loaded")

    def _check_symbol(self, name: Any) -> None:
        if isinstance(name, str) and clients.opens(name) and not drivers.is_loading():
            self.refuse(f"the function {name} would open a connection")

    # Processes and sockets

    def check_program(self, executable: Any, arguments: Any, *_: Any) -> None:
        """Refuse to start a client of a database, or what would not be guarded."""
        found = clients.find(executable, arguments)
        if found is not None:
            self.refuse(f"the program {found} would be started")

    def _check_socket(self, address: Any) -> None:
        if address is None:  # it is connected already
            return
        if not isinstance(address, (str, bytes, bytearray)):
            shown = ":".join(map(str, address[:2])) if isinstance(address, tuple) else repr(address)
            raise PermissionError(f"no connection to {shown}: migrations run without a network")
        path = os.fsdecode(bytes(address) if isinstance(address, bytearray) else address)
        if self._is_inside(os.path.realpath(path)):
            return
        if clients.is_database_socket(path):
            self.refuse(f"the socket {path} would be opened")
        if not clients.is_log_socket(path):
            raise PermissionError(f"no connection to {path}: migrations run without local servers")


def _wrap_sqlite(guard: Guard) -> None:
    """Let every connection look at what it opened, and ask before it attaches more.

    The audit event of an opened connection comes too early on Python 3.11 to give it an authorizer.
    """
    import _sqlite3  # noqa: PLC0415 - what the three names below stand for
    from sqlite3 import dbapi2  # noqa: PLC0415

    plain = sqlite3.Connection
    front = _front(guard, plain)
    guarded = type("Connection", (front, plain), {"__module__": plain.__module__, "__doc__": plain.__doc__})
    open_one = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> Any:
        given = list(arguments)
        if len(given) > FACTORY:
            given[FACTORY] = _guarded_factory(guard, front, given[FACTORY])
        else:
            options["factory"] = _guarded_factory(guard, front, options.get("factory", guarded))
        with guard.opening():
            return open_one(*given, **options)

    for module in (sqlite3, dbapi2, _sqlite3):
        module.connect = connect  # type: ignore[attr-defined]
        module.Connection = guarded  # type: ignore[attr-defined]


def _front(guard: Guard, plain: Any) -> type:
    """Make what is put in front of any class of connections; all that it asks goes to the `plain` one."""

    class Guarded:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            guard.check_file(arguments[0] if arguments else options.get("database"))
            with guard.opening():
                super().__init__(*arguments, **options)
            try:
                guard.check_opened(_files_of(self, plain))
            except Violation:
                plain.close(self)
                raise
            # SQLite chose a directory for temporary files as it was loaded; the kernel may not let it write there.
            plain.cursor(self, sqlite3.Cursor).execute("PRAGMA temp_store = MEMORY")
            plain.set_authorizer(self, guard.authorize)

        def set_authorizer(self, authorizer: Callable[..., int] | None) -> None:
            def ask_both(*question: Any) -> int:
                answer = guard.authorize(*question)
                return answer if answer or authorizer is None else authorizer(*question)

            plain.set_authorizer(self, ask_both)

    return Guarded


def _guarded_factory(guard: Guard, front: type, factory: Any) -> Any:
    """Put the guard in front of what makes connections: of a class, or behind a function."""
    if isinstance(factory, type):
        return factory if issubclass(factory, front) else type(factory.__name__, (front, factory), {})

    def make(*arguments: Any, **options: Any) -> Any:
        made = factory(*arguments, **options)
        if not isinstance(made, front):
            guard.refuse(f"{factory!r} would open a connection past the guard")
        return made

    return make


def _files_of(connection: Any, plain: Any) -> list[bytes]:
    """Ask a connection which files it has open, past what its class or its application makes of rows and text."""
    text_factory = connection.text_factory
    connection.text_factory = bytes
    try:
        cursor = plain.cursor(connection, sqlite3.Cursor)
        cursor.row_factory = None
        return [file for _, _, file in cursor.execute("PRAGMA database_list").fetchall()]
    finally:
        connection.text_factory = text_factory


def _wrap_fork(check: Callable[..., None]) -> None:
    """Ask about the programs that `multiprocessing` starts: no audit event tells of them."""
    import _posixsubprocess  # noqa: PLC0415 - private, and the only place that all of them pass
    import subprocess  # noqa: PLC0415

    start = _posixsubprocess.fork_exec

    def fork_exec(arguments: Any, executables: Any, *others: Any) -> Any:
        check(executables, arguments)
        return start(arguments, executables, *others)

    _posixsubprocess.fork_exec = fork_exec
    if hasattr(subprocess, "_fork_exec"):  # since Python 3.11 by this name, before by the module's
        subprocess._fork_exec = fork_exec  # noqa: SLF001


def _identity(path: str | bytes | os.PathLike[Any]) -> Identity | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _is_sqlite(path: str) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.pread(file, len(HEADER), 0) == HEADER
    except OSError:
        return False
    finally:
        os.close(file)


def _path_of_descriptor(directory: int) -> str:
    """Return where a directory lies that is open; nothing for none, or where the system does not tell."""
    if directory < 0:
        return ""
    with suppress(OSError):
        if hasattr(fcntl, "F_GETPATH"):  # macOS
            return os.fsdecode(fcntl.fcntl(directory, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
        return os.readlink(f"/proc/self/fd/{directory}")
    return ""


def _path_of(uri: str) -> str:
    """Return the path within a SQLite URI (https://www.sqlite.org/uri.html, section 3.1)."""
    path = uri[len("file:") :].partition("#")[0].partition("?")[0]
    if path.startswith("//"):
        _authority, slash, rest = path[2:].partition("/")
        path = slash + rest
    return unquote(path)


def _shown(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, (str, bytes, os.PathLike)) else repr(value)
