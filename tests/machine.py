"""What the machine does to a run: disks that fill up, limits, writers that are killed. Real ones, no imitations."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PANICDB = ("-c", "from panicdb.cli import panicdb; panicdb()")
UNSHARE = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-rm")
"""Own mounts, which go with the process."""

WRITER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement)
os.kill(os.getpid(), signal.SIGKILL)
"""
LIMITED = """
import os, resource, sys
limit, size, *command = sys.argv[1:]
resource.setrlimit(getattr(resource, limit), (int(size), int(size)))
os.execv(command[0], command)
"""


def mounting_works() -> bool:
    """Tell whether a process of ours may mount something for itself."""
    try:
        tried = subprocess.run(
            [*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False
        )
    except OSError:
        return False
    return tried.returncode == 0


def die_writing(path: Path, *statements: str) -> None:
    """Let a writer be killed after its last statement."""
    died = subprocess.run([sys.executable, "-c", WRITER, str(path), *statements], check=False)
    assert died.returncode == -signal.SIGKILL


def limited(limit: str, size: int, *command: object) -> Sequence[str]:
    """Spell a command that runs under a limit of the system, such as RLIMIT_AS."""
    return [sys.executable, "-c", LIMITED, limit, str(size), *map(str, command)]
