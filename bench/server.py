"""A PostgreSQL server for the benchmark: Debian's, with its default settings, on 127.0.0.1, while it is needed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BINARIES = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"
SECONDS_TO_START = 30


@dataclass(frozen=True)
class Server:
    """A running server; whoever is on this machine may connect as its superuser."""

    port: int

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run a statement; return what it selects, a value a line."""
        done = subprocess.run(
            [
                BINARIES / "psql",
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                statement,
                self.url(database),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()


def is_installed() -> bool:
    return (BINARIES / "postgres").exists()


@contextmanager
def running() -> Iterator[Server]:
    """Start a server with a new data directory, and take both away in the end."""
    folder = Path(tempfile.mkdtemp(prefix="panicdb-bench-", dir="/var/tmp"))
    owner = {"user": USER} if os.getuid() == 0 else {}  # it refuses to be root's
    if owner:
        shutil.chown(folder, user=pwd.getpwnam(USER).pw_uid)
    try:
        data = folder / "data"
        command = [
            BINARIES / "initdb",
            "-D",
            data,
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **owner)
        port = free_port()
        options = ["-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([BINARIES / "postgres", *options], stderr=log, cwd=folder, **owner)
        try:
            await_answer(port)
            yield Server(port)
        finally:
            process.terminate()  # smart: sessions are over by now
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_answer(port: int) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    command = [BINARIES / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(command, check=False).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError("the server did not start")
        time.sleep(0.1)
