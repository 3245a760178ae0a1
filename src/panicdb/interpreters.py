"""The interpreter of an application, and where its packages are. The parent imports nothing of them."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from panicdb.errors import UsageError

SECONDS_TO_ANSWER = 60
# Its own folder is no place for Python to find a standard module at: one of the application's could have that name.
QUESTION = """
import sys
sys.path[:] = filter(None, sys.path)
from importlib.util import find_spec
spec = find_spec(sys.argv[1])
print(ascii(list(spec and spec.submodule_search_locations or ())))
"""


def find_interpreter(said: str, cwd: Path) -> str:
    """Return the path of an interpreter, given by a path or by a name to be searched. Raises UsageError."""
    found = shutil.which(str(cwd / said)) if os.sep in said else shutil.which(said)
    if found is None:
        raise UsageError(f"{said}: no such program", hint="--python PATH, as .venv/bin/python")
    return found


class Packages:
    """Where the packages of an interpreter are, or of our own. Each is asked for once; none is imported."""

    def __init__(self, python: str | None, cwd: Path) -> None:
        self._python = python
        self._cwd = cwd
        self._installed: dict[str, Sequence[str]] = {}

    def folders(self, package: str, ahead: Sequence[Path] = ()) -> tuple[Path, ...]:
        """Find the folders of a package: in `ahead`, where packages are installed, in the working directory.

        A package without `__init__.py` may have several; one that is not there has none. Raises UsageError for an
        interpreter that can't be run.
        """
        first, *others = package.split(".")
        if not first or not all(others):
            return ()
        folders = (
            _searched(first, [str(path) for path in ahead])
            or self._found(first)
            or _searched(first, [str(self._cwd)])
        )
        for name in others:
            folders = _searched(name, folders)
        return tuple(map(Path, folders))

    def _found(self, name: str) -> Sequence[str]:
        if name not in self._installed:
            python = self._python
            self._installed[name] = _ours(name) if python is None else _theirs(name, python, self._cwd)
        return self._installed[name]


def _searched(name: str, path: Sequence[str]) -> Sequence[str]:
    """Search folders for a package. Below a package the last part of its name will do: no parent is imported."""
    return _locations(PathFinder.find_spec(name, path)) if path else ()


def _ours(name: str) -> Sequence[str]:
    """Ask all finders here: a package that is installed to be edited may be on no path."""
    found = _searched(name, sys.path)
    finders = iter(sys.meta_path)
    while not found and (finder := next(finders, None)) is not None:
        if hasattr(finder, "find_spec"):
            found = _locations(finder.find_spec(name, None))
    return found


def _theirs(name: str, python: str, cwd: Path) -> Sequence[str]:
    command = [python, "-c", QUESTION, name]
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the user names
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS_TO_ANSWER,
            check=True,
        )
        return tuple(ast.literal_eval(done.stdout.splitlines()[-1].decode("ascii")))
    except (OSError, ValueError, SyntaxError, TypeError, IndexError, subprocess.SubprocessError) as error:
        raise UsageError(
            f"{python}: is no Python interpreter that runs here", hint="--python PATH, as .venv/bin/python"
        ) from error


def _locations(spec: ModuleSpec | None) -> Sequence[str]:
    return tuple(spec.submodule_search_locations or ()) if spec is not None else ()
