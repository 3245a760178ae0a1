"""The application's own upgrade command, run inside the guarded process: what can't be run so is not run at all."""

from __future__ import annotations

import importlib.metadata
import os
import runpy
import shutil
import sys
from collections.abc import Sequence
from typing import Any

PYTHON = ("python", "python3")


def run(command: Sequence[str]) -> None:
    """Run a Python program: `python -m MODULE`, `python FILE`, a script of an installed package, or a file.

    Raises RuntimeError for one that is none, or that ends with another exit code than 0.
    """
    program, *arguments = command
    try:
        _run(program, arguments)
    except SystemExit as end:
        if end.code not in (None, 0):
            raise RuntimeError(f"{program} ended with {end.code!r}") from end


def _run(program: str, arguments: list[str]) -> None:
    if os.path.basename(program) in PYTHON or os.path.realpath(program) == os.path.realpath(sys.executable):
        _run_python(program, arguments)
        return
    sys.argv = [program, *arguments]
    entry = _entry_point(program)
    if entry is not None:
        sys.exit(entry.load()())
    runpy.run_path(_script(program), run_name="__main__")


def _run_python(program: str, arguments: list[str]) -> None:
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        sys.path.insert(0, os.getcwd())
        sys.argv = [arguments[1], *arguments[2:]]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments and not arguments[0].startswith("-"):
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        raise RuntimeError(f"{program} needs a file, or -m and a module: other options can't be guarded")


def _entry_point(program: str) -> Any:
    """Find the console script of that name among the interpreter's packages."""
    if os.path.dirname(program):
        return None
    found: Any = importlib.metadata.entry_points()
    if hasattr(found, "select"):
        scripts = found.select(group="console_scripts", name=program)
    else:  # Python 3.9
        scripts = [each for each in found.get("console_scripts", ()) if each.name == program]
    return next(iter(scripts), None)


def _script(program: str) -> str:
    beside = os.path.join(os.path.dirname(sys.executable), program)
    path = beside if os.path.isfile(beside) else shutil.which(program)
    if path is None:
        raise RuntimeError(f"there is no program {program!r} in the interpreter's environment")
    with open(path, "rb") as file:
        first = file.readline(200)
    if not path.endswith(".py") and not (first.startswith(b"#!") and b"python" in first):
        raise RuntimeError(f"{path} is no Python program, so it can't be guarded")
    return path
