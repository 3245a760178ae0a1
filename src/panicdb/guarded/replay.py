"""Upgrade a database to given revisions; run as a script, in a process of its own.

Standard input is a socket that stays open as long as the parent lives: when it ends, so does this process. The request
is one line of JSON on it: {"location", "directory", "url", "revisions"}, and with it come descriptors: the first is
where all output goes, the others are only kept open. The reply is written to `reply.json` in the directory, which
becomes the working directory: {"ok": true} or {"ok": false, "error", "revision", "file"}.
"""

import gc
import json
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

REPLY = "reply.json"
MOST_BYTES, MOST_DESCRIPTORS = 1 << 20, 16
OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Imports make many objects and no garbage; the default of 700 looks for some a hundred times."""


def main() -> None:
    """Import while the parent is still busy, read the request, replay, reply."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    _import_ahead()
    channel = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    request = _receive(channel)
    threading.Thread(target=_die_with_parent, args=(channel,), daemon=True).start()
    os.chdir(request["directory"])
    Path(REPLY).write_text(json.dumps(_replay(request)), encoding="utf-8")
    gc.freeze()  # the interpreter's end would search all that was imported for garbage


def _import_ahead() -> None:
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


def _die_with_parent(channel: socket.socket) -> None:
    """A parent that was killed can't end us, but its end of the socket closes."""
    with suppress(ConnectionError):
        while channel.recv(1):
            pass
    os._exit(1)


def _replay(request: dict[str, Any]) -> dict[str, Any]:
    try:
        from alembic import command  # noqa: PLC0415 - what is missing is reported
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", request["location"].replace("%", "%%"))
        config.set_main_option("sqlalchemy.url", request["url"].replace("%", "%%"))
        # A tuple of revisions is one upgrade to all of them, though the annotation says a string.
        command.upgrade(config, tuple(request["revisions"]))  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 - migrations are arbitrary code; the parent decides what follows
        return {"ok": False, "error": f"{type(error).__name__}: {error}", **_place_of(error)}
    return {"ok": True}


def _place_of(error: BaseException) -> dict[str, str]:
    """Name the last revision file on the way to the error."""
    place: dict[str, str] = {}
    trace = error.__traceback__
    while trace is not None:
        revision = trace.tb_frame.f_globals.get("revision")
        if isinstance(revision, str) and "down_revision" in trace.tb_frame.f_globals:
            place = {"revision": revision, "file": trace.tb_frame.f_code.co_filename}
        trace = trace.tb_next
    return place


if __name__ == "__main__":
    main()
