"""The parent's side of the guarded child: it is started, aimed, watched and judged; its word alone is never enough."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panicdb.backends.base import Staging
from panicdb.errors import HistoryError, PanicDBError, WrongDatabaseError
from panicdb.guarded import child
from panicdb.guarded.environment import redirected, scrubbed
from panicdb.guarded.targets import FILE, Target
from panicdb.histories import History, Way
from panicdb.values import Monitor

SECONDS_BETWEEN_POLLS = 0.02
OUTPUT = "output"
LEAVINGS = (child.REPLY, child.HANDSHAKE, child.VIOLATIONS, child.HOME, child.TEMPORARY, OUTPUT)
SHOWN_VIOLATIONS = 5


class ReplayError(PanicDBError):
    """A history can't be run on an empty database in this way; `steps` are the copies made before it failed."""

    def __init__(self, message: str, *, steps: tuple["Step", ...] = ()) -> None:
        super().__init__(message)
        self.steps = steps


@dataclass(frozen=True)
class Goal:
    """The database that a history is run on: a file in a private directory, or one of a server, behind a socket there.

    Directory and path are whole.
    """

    directory: Path
    path: Path
    """Of the file, or of the socket."""
    held: tuple[int, ...] = ()
    """Descriptors that the child keeps open, such as a lock."""
    engine: str = FILE
    database: str = ""
    """What the server calls it."""

    @classmethod
    def of(cls, staging: Staging) -> "Goal":
        """Return the draft of a staging place."""
        return cls(
            Path(staging.directory()),
            Path(staging.path()),
            staging.held(),
            staging.engine,
            staging.database(),
        )

    @property
    def target(self) -> Target:
        """The same, as the child has it."""
        return Target(self.engine, str(self.path), self.database)


@dataclass(frozen=True)
class Order:
    """One history to be run, how, and how far."""

    history: History
    revisions: tuple[str, ...]
    way: Way = "environment"
    version_table: str | None = None
    """Where env.py is passed by: the version table's name, if it is not Alembic's own."""
    steps: bool = False
    """Run every revision, and keep a copy of the database after each."""
    landlock: bool = True
    """False in tests only: what the guard stops without the kernel's help."""


@dataclass(frozen=True)
class Step:
    """A copy of the database as one revision left it."""

    revision: str
    path: Path


@dataclass(frozen=True)
class Replayed:
    """How a run went that did what it was to do."""

    protection: str
    """What the kernel forbade meanwhile, beside the guard; empty where it has nothing to offer."""
    steps: tuple[Step, ...] = ()


class Replayer:
    """Runs histories, each in a child process; the process for the next one may be started ahead."""

    def __init__(self) -> None:
        self._child: _Child | None = None

    def start(self, python: str | None = None) -> None:
        """Start a child ahead of its work. A system that has no room for it now may have later."""
        self.close()
        with suppress(OSError):
            self._child = _Child(python)

    def replay(self, order: Order, goal: Goal, monitor: Monitor) -> Replayed:
        """Run a history up to its revisions, in a child process. Writes into the goal's directory only.

        Raises ReplayError with the revision and file that failed, WrongDatabaseError if another database would have
        been reached, HistoryError for an interpreter that can't run migrations.
        """
        with closing(self._take(order.history.recipe.python)) as process:
            try:
                return process.run(order, goal, monitor)
            finally:
                process.close()  # before what it may still write to is removed
                _clear(goal)

    def _take(self, python: str | None) -> "_Child":
        ahead, self._child = self._child, None
        if ahead is not None and ahead.python == python:
            return ahead
        if ahead is not None:
            ahead.close()
        try:
            return _Child(python)
        except OSError as error:
            raise _no_interpreter(python, error.strerror or str(error)) from error

    def close(self) -> None:
        """End a child that was not needed."""
        if self._child is not None:
            self._child.close()


class _Child:
    """A process that puts its guard in place, waits for one request on its standard input, and ends with the parent."""

    def __init__(self, python: str | None) -> None:
        self.python = python
        self._token = secrets.token_hex(16)
        self._closed = False
        script = child.__file__
        self._ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our script, under the interpreter that the user names
                    [python or sys.executable, script],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    env={**scrubbed(os.environ), child.MARK: self._token},
                )
        except BaseException:
            self._ours.close()
            raise

    def run(self, order: Order, goal: Goal, monitor: Monitor) -> Replayed:
        output = os.open(goal.directory / OUTPUT, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._send({**_request(order, goal), "token": self._token}, (output, *goal.held))
        finally:
            os.close(output)
        in_time = self._wait(monitor, order.history.recipe.time_limit)
        self.close()
        _require_no_violation(goal.directory)
        if not in_time:
            raise ReplayError(
                f"the migrations took more than {order.history.recipe.time_limit:g} s and were ended"
            )
        return self._judge(goal.directory)

    def _send(self, request: Mapping[str, object], descriptors: tuple[int, ...]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it ended at once: the lack of a reply says so
            socket.send_fds(self._ours, [json.dumps(request).encode() + b"\n"], descriptors)

    def _wait(self, monitor: Monitor, limit: float) -> bool:
        """Wait for the end; tell whether it came within `limit` seconds."""
        deadline = time.monotonic() + limit
        while not self._ended():
            monitor.poll()
            if time.monotonic() >= deadline:
                return False
        return True

    def _ended(self) -> bool:
        """Tell whether the child has ended, and leave it unreaped: its number still stands for its group alone."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(SECONDS_BETWEEN_POLLS)
            return self._process.poll() is not None
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            return True
        time.sleep(SECONDS_BETWEEN_POLLS)
        return False

    def _judge(self, directory: Path) -> Replayed:
        try:
            reply = json.loads((directory / child.REPLY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise self._ended_early(directory) from None
        if self._token not in _lines(directory / child.HANDSHAKE):
            raise WrongDatabaseError("migrations ran without their guard", hint="please report this")
        if not reply["ok"] and reply["kind"] == "interpreter":
            raise _no_interpreter(self.python, reply["error"])
        steps = tuple(Step(each, directory / f"step-{n}.db") for n, each in enumerate(reply["steps"]))
        if reply["ok"]:
            return Replayed(reply["protection"], steps)
        told = f"running the migrations failed{_place(reply)}: {_in_one_line(reply['error'])}"
        raise ReplayError(told, steps=steps)

    def _ended_early(self, directory: Path) -> PanicDBError:
        said = _last_words(directory)
        if self.python is not None and self._token not in _lines(directory / child.HANDSHAKE):
            return _no_interpreter(self.python, f"it ended before it began: {said}")
        return ReplayError(f"the process that runs the migrations ended early: {said}")

    def close(self) -> None:
        """End the child and all that it started."""
        if self._closed:
            return
        self._closed = True
        self._ours.close()
        if self._process.returncode is None:
            with suppress(
                ProcessLookupError, PermissionError
            ):  # a group that is gone; on macOS, one of dead members
                os.killpg(self._process.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        child.end_marked(self._token)


def replay(history: History, revisions: tuple[str, ...], path: Path, monitor: Monitor) -> Replayed:
    """Make a database file by running a history; in a private directory beside it until it is done.

    Raises as `Replayer.replay`.
    """
    with (
        closing(Replayer()) as replayer,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".panicdb-") as name,
    ):
        goal = Goal(Path(name), Path(name, path.name))
        goal.path.touch(mode=0o600)
        replayed = replayer.replay(Order(history, revisions), goal, monitor)
        goal.path.rename(path)
    return replayed


def _request(order: Order, goal: Goal) -> dict[str, Any]:
    """Spell an order for the child; see `panicdb.guarded.history`. Raises ValueError for steps of no file."""
    if order.steps and goal.engine != FILE:
        raise ValueError("steps are copies of a file: run the revisions of a server's draft one by one")
    history, recipe = order.history, order.history.recipe
    config = history.config
    path, url = str(goal.path), goal.target.address()
    filled = {"url": url, "path": path, "directory": str(goal.directory)}
    filled |= {"async_url": goal.target.address(asynchronous=True), "revision": " ".join(order.revisions)}
    variables = {name: _fill(text, filled) for name, text in recipe.environment.items()}
    return {
        "directory": str(goal.directory),
        "engine": goal.engine,
        "path": path,
        "database": goal.database,
        "url": url,
        "cwd": str(config.cwd if config else goal.directory),
        "landlock": order.landlock,
        "environment": {**dict(redirected(os.environ, goal.target, recipe.bind)), **variables},
        "way": order.way,
        "steps": order.steps,
        "revisions": list(order.revisions),
        "version_table": order.version_table,
        "ini": str(config.ini) if config and config.ini else None,
        "toml": str(config.toml) if config and config.toml else None,
        "section": config.section if config else None,
        "x": list(config.arguments) if config else [],
        "options": {"script_location": str(history.location), **history.options}
        if not config
        else history.options,
        "flask": recipe.flask,
        "bootstrap": recipe.bootstrap,
        "metadata": recipe.metadata,
        "command": [_fill(word, filled) for word in recipe.command],
        "arguments": dict(recipe.arguments),
        "bind": recipe.bind,
    }


def _fill(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def _require_no_violation(directory: Path) -> None:
    found = list(dict.fromkeys(_lines(directory / child.VIOLATIONS)))
    if found:
        more = f"; and {len(found) - SHOWN_VIOLATIONS} more" if len(found) > SHOWN_VIOLATIONS else ""
        raise WrongDatabaseError(
            f"the migrations were stopped, they would have left the target: "
            f"{'; '.join(found[:SHOWN_VIOLATIONS])}{more}",
            hint="--schema copy takes the source's own definitions; docs/guard.md tells what is blocked, and why",
        )


def _no_interpreter(python: str | None, text: str) -> HistoryError:
    return HistoryError(
        f"{python or sys.executable}: can't run migrations: {text}",
        hint="--python PATH names the interpreter of the application's environment, as .venv/bin/python",
    )


def _place(reply: Mapping[str, Any]) -> str:
    return f" in revision {reply['revision']} ({reply['file']})" if "revision" in reply else ""


def _last_words(directory: Path) -> str:
    return next(reversed(_lines(directory / OUTPUT)), "it said nothing")


def _lines(path: Path) -> Sequence[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return [line for line in text.splitlines() if line.strip()]


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _clear(goal: Goal) -> None:
    """Remove what a run leaves beside its database; a log that has nothing to say, too."""
    for name in LEAVINGS:
        path = goal.directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if goal.engine != FILE:
        return
    log, index = (goal.path.with_name(goal.path.name + end) for end in ("-wal", "-shm"))
    if log.exists() and not log.stat().st_size:
        log.unlink()
        index.unlink(missing_ok=True)
