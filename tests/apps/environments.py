"""Environments of their own for real applications, apart from the development environment.

They live under PANICDB_APPS, by default `work` beside this file. Run as a script, this builds all.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
APPLICATIONS = ("mlflow", "optuna", "prefect", "drivers")
INSTALL_SECONDS = 900
STAMP = "requirements.sha256"


def interpreter(application: str) -> Path:
    """Return the Python that has an application; build its environment if need be."""
    folder = Path(os.environ.get("PANICDB_APPS") or HERE / "work").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    environment = folder / application
    requirements = HERE / f"{application}.txt"
    python = environment / "bin" / "python"
    wanted = _fingerprint(requirements)
    stamp = environment / STAMP
    with _locked(folder / f"{application}.lock"):
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            venv.create(environment, clear=True, symlinks=True, with_pip=True)
            _install(python, requirements)
            stamp.write_text(wanted)
    return python


def _fingerprint(requirements: Path) -> str:
    """An environment is good for these requirements and this Python only."""
    wanted = [sys.version, sys.base_prefix, requirements.read_text()]
    return hashlib.sha256("\n".join(wanted).encode()).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time build; the kernel frees the lock of one that died."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(python: Path, requirements: Path) -> None:
    command = [python, "-m", "pip", "install", "--requirement", requirements]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    for name in APPLICATIONS:
        print(name, interpreter(name))
