"""Upgrade the database in the working directory to given revisions; run as a script, in a process of its own.

The request is one line of JSON on standard input: {"location", "url", "revisions"}. Standard input stays open as long
as the parent lives: when it ends, so does this process. The reply is written to `reply.json` in the working directory:
{"ok": true} or {"ok": false, "error", "revision", "file"}.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

REPLY = "reply.json"


def main() -> None:
    """Read the request, replay, reply."""
    request = json.loads(sys.stdin.readline())
    pipe = os.dup(sys.stdin.fileno())
    _answer_nothing()
    threading.Thread(target=_die_with_parent, args=(pipe,), daemon=True).start()
    Path(REPLY).write_text(json.dumps(_replay(request)), encoding="utf-8")


def _answer_nothing() -> None:
    """A migration that asks on standard input finds its end; it must not wait for the parent's pipe."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)


def _die_with_parent(pipe: int) -> None:
    """A parent that was killed can't end us, but its end of the pipe closes."""
    while os.read(pipe, 1):
        pass
    os._exit(1)


def _replay(request: dict[str, Any]) -> dict[str, Any]:
    from alembic import command  # noqa: PLC0415 - after the watch over the parent has begun
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", request["location"].replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", request["url"].replace("%", "%%"))
    try:
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
