"""The guarded process: it runs an application's migrations, or its own upgrade command, on one database and no other.

A script for the application's interpreter, so it needs nothing but the standard library, and that application's
Alembic and SQLAlchemy. It puts the guard in place, imports ahead, and waits for one request: a line of JSON through the
socket that is its standard input, with descriptors. The first becomes where output goes, the others are only kept open.
Then it shows that it is guarded, by writing the request's token into `guarded` in the private directory, and works. The
reply is `reply.json` there: {"ok": true, "protection", "steps"} or {"ok": false, "protection", "steps", "error",
"kind", "revision", "file"}; what the guard refused is in `violations`, a line each.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import re
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

NAME = "panicdb_guarded"
REPLY, HANDSHAKE, VIOLATIONS = "reply.json", "guarded", "violations"
HOME, TEMPORARY = "home", "tmp"
MOST_BYTES, MOST_DESCRIPTORS = 1 << 20, 16
OLDEST = {"alembic": (1, 13), "sqlalchemy": (2, 0)}
MARK = "PANICDB_GUARDED_RUN"
"""The environment variable that tells which run a process belongs to."""
ROUNDS = 20
"""How often to look again for processes of a run: one that is being ended may just have started another."""
DEEPEST = 20
OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Imports make many objects and no garbage; the default of 700 looks for some a hundred times."""


def main() -> None:
    """Be guarded, import while the parent is still busy, read the request, work, reply."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    load_siblings()
    from panicdb_guarded.guard import Guard  # noqa: PLC0415
    from panicdb_guarded.targets import Target  # noqa: PLC0415

    guard = Guard()
    guard.install()
    _import_ahead()
    sys.dont_write_bytecode = True  # what is imported from here on is the application's
    channel = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    request = _receive(channel)
    directory, target = request["directory"], Target(request["engine"], request["path"], request["database"])
    guard.aim(target, os.path.join(directory, VIOLATIONS))
    _settle(directory, request["environment"])
    reply = os.open(
        os.path.join(directory, REPLY), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
    )
    protection = _restrict(request)
    threading.Thread(target=_die_with_parent, args=(channel, request["token"]), daemon=True).start()
    shake_hands(directory, request["token"])
    process = os.getpid()
    answer = {"protection": protection, **_work(guard, request, target)}
    if os.getpid() == process:  # else this is a copy that the application made of it
        os.write(reply, json.dumps(answer).encode())
    _end(request["path"] if target.is_file else None)


def load_siblings() -> None:
    """Import the package that this file lies in under a name that no application has, and without a path to it."""
    if NAME in sys.modules:
        return
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    spec = importlib.util.spec_from_file_location(
        NAME, os.path.join(here, "__init__.py"), submodule_search_locations=[here]
    )
    assert spec is not None  # noqa: S101 - of a file there is one
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)


def shake_hands(directory: str, token: str) -> None:
    """Show the parent that this process is guarded."""
    descriptor = os.open(os.path.join(directory, HANDSHAKE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, token.encode() + b"\n")
    os.close(descriptor)


def end_marked(token: str) -> None:
    """End the processes of a run that are not of its process group: the kernel shows their environment, on Linux.

    The calling process is not among them.
    """
    mark, ourselves = f"{MARK}={token}".encode(), str(os.getpid())
    for _ in range(ROUNDS if sys.platform == "linux" else 0):
        found = [
            name for name in os.listdir("/proc") if name.isdigit() and name != ourselves and _has(name, mark)
        ]
        for name in found:
            with suppress(OSError):
                os.kill(int(name), signal.SIGKILL)
        if not found:
            return


def _has(process: str, variable: bytes) -> bool:
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            return variable in file.read().split(b"\0")
    except OSError:
        return False


def _import_ahead() -> None:
    from panicdb_guarded import engines, history  # noqa: F401, PLC0415 - the guard comes first

    with suppress(Exception):  # it fails again, and is reported, when there is somebody to report it to
        import alembic.command  # noqa: F401, PLC0415


def _receive(channel: socket.socket) -> dict[str, Any]:
    """Read the request; from now on the output goes where the parent wants it. Nobody answers what is asked."""
    text, descriptors = b"", list[int]()
    while not text.endswith(b"\n"):
        data, received, _, _ = socket.recv_fds(channel, MOST_BYTES, MOST_DESCRIPTORS)
        if not data:
            sys.exit(1)  # the parent has no work for us
        text += data
        descriptors += received
    nothing = os.open(os.devnull, os.O_RDONLY)
    for given, number in ((nothing, 0), (descriptors[0], 1), (descriptors[0], 2)):
        os.dup2(given, number)
    os.close(nothing)
    return dict(json.loads(text))


def _restrict(request: dict[str, Any]) -> str:
    from panicdb_guarded import landlock  # noqa: PLC0415

    return str(landlock.restrict([request["directory"]], network=False)) if request["landlock"] else ""


def _die_with_parent(channel: socket.socket, token: str) -> None:
    """A parent that was killed can't end us, but its end of the socket closes. What we started ends with us."""
    with suppress(ConnectionError):
        while channel.recv(1):
            pass
    end_marked(token)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _end(file: str | None) -> None:
    """End at once: the interpreter would take its time, and wait for threads that nobody ended.

    Unless the target is a file that has a journal: connections that were left open are closed on the long way.
    """
    if file is not None and any(os.path.exists(file + end) for end in ("-journal", "-wal")):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the application may have put anything there
            stream.flush()
    os._exit(0)


def _settle(directory: str, environment: dict[str, str]) -> None:
    """Give the application a home of its own: many write there as they are imported, and some keep passwords there."""
    for name in (HOME, TEMPORARY):
        os.mkdir(os.path.join(directory, name), 0o700)
    os.environ["HOME"] = os.path.join(directory, HOME)
    os.environ["TMPDIR"] = os.path.join(directory, TEMPORARY)
    os.environ.update(environment)


def _work(guard: Any, request: dict[str, Any], target: Any) -> dict[str, Any]:
    from panicdb_guarded import engines, history  # noqa: PLC0415 - the guard comes first

    steps: list[str] = []
    try:
        lacking = _lacking(target)
        if lacking:
            return {"ok": False, "kind": "interpreter", "error": lacking}
        os.chdir(request["cwd"])
        if request["cwd"] not in sys.path:
            sys.path.append(request["cwd"])  # as `python -m alembic` has it, but where it shadows nothing
        history.replay(request, engines.install(guard, target), steps)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - migrations are arbitrary code; the parent decides what follows
        told = {"kind": type(error).__name__, "error": _described(error), **_place_of(error)}
        return {"ok": False, "steps": steps, **told}
    return {"ok": True, "steps": steps}


def _lacking(target: Any) -> str:
    """Say what this interpreter lacks to run migrations; nothing if it has it all."""
    from panicdb_guarded import drafts  # noqa: PLC0415 - the guard comes first

    if not target.is_file and not drafts.is_drivable():
        return f"has {drafts.LACKING}"
    for name, oldest in OLDEST.items():
        if importlib.util.find_spec(name) is None:
            return f"has no {name}, {_dotted(oldest)} or later is needed"
    for name in reversed(OLDEST):  # an old SQLAlchemy is why a new Alembic can't be imported
        version = str(importlib.import_module(name).__version__)
        found = re.match(r"(\d+)\.(\d+)", version)
        if found is not None and tuple(map(int, found.groups())) < OLDEST[name]:
            return f"has {name} {version}, {_dotted(OLDEST[name])} or later is needed"
    return ""


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _described(error: BaseException) -> str:
    """Say what went wrong; what a statement was given may be a secret, and is left out."""
    if hasattr(error, "hide_parameters"):
        error.hide_parameters = True
    if isinstance(error, SystemExit):
        return f"it called exit({'' if error.code is None else repr(error.code)})"
    return f"{type(error).__name__}: {error}"


def _place_of(error: BaseException | None) -> dict[str, str]:
    """Name the last revision file on the way to the error, or to one that it came from."""
    for _ in range(DEEPEST):
        if error is None:
            break
        place = dict[str, str]()
        trace = error.__traceback__
        while trace is not None:
            names = trace.tb_frame.f_globals
            if isinstance(names.get("revision"), str) and "down_revision" in names:
                place = {"revision": names["revision"], "file": trace.tb_frame.f_code.co_filename}
            trace = trace.tb_next
        if place:
            return place
        error = error.__cause__ or error.__context__
    return {}


if __name__ == "__main__":
    main()
