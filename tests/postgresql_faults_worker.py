"""Runs of panicdb in processes of their own, killed or interrupted at a step; forked, so that they start at once.

A worker (this file as a script) imports everything once, reads orders from its stdin, forks for each, and answers.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from postgresql_faults import Ended, Step, at_every_step

LONGEST_RUN = 60
"""Seconds after which a run counts as hanging: SIGALRM ends it, and its exit code tells."""


@dataclass(frozen=True)
class Told:
    """What is known of a run that is over: its steps, and which private directories it left."""

    ended: Ended
    steps: tuple[str, ...]
    left: tuple[str, ...]


class Worker:
    """A process that runs panicdb as often as it is asked to; give orders to several to let them run at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def order(self, arguments: Sequence[str], number: int = 0, at: int = 0) -> None:
        """Start a run that gets a signal at one of its steps; with 0, at none."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([list(arguments), number, at]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Told:
        """Wait for the end of a run that was ordered."""
        assert self._process.stdout is not None
        code = int(self._process.stdout.readline())
        said = [(self._folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        made = (self._folder / "directories").read_text().splitlines()
        left = tuple(path for path in made if os.path.exists(path))
        for path in left:
            shutil.rmtree(path)
        return Told(Ended(code, *said), tuple((self._folder / "steps").read_text().splitlines()), left)

    def run(self, arguments: Sequence[str], number: int = 0, at: int = 0) -> Told:
        self.order(arguments, number, at)
        return self.answer()


def _serve(folder: Path) -> None:
    from panicdb import cli, commands, databases, render, terminal  # noqa: F401, PLC0415 - forks need not import them
    from panicdb.backends.postgresql import publish  # noqa: F401, PLC0415 - as above

    for line in sys.stdin:
        arguments, number, at = json.loads(line)
        for name in ("stdout", "stderr", "steps", "directories"):
            (folder / name).write_text("")
        process = os.fork()
        if process == 0:
            code = 1
            try:
                code = _be_the_run(folder, arguments, number, at)
            finally:
                with suppress(OSError):
                    sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(process, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _be_the_run(folder: Path, arguments: Sequence[str], number: int, at: int) -> int:
    from panicdb import cli  # noqa: PLC0415 - imported by the worker

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(LONGEST_RUN)
    for place, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
        os.dup2(os.open(name, os.O_RDWR), place)
    make = tempfile.mkdtemp

    def noted(*options: object, **more: object) -> str:
        made = make(*options, **more)  # type: ignore[call-overload]
        with (folder / "directories").open("a") as file:
            file.write(f"{made}\n")
        return str(made)

    tempfile.mkdtemp = noted  # type: ignore[assignment]

    def act(step: Step) -> None:
        with (folder / "steps").open("a") as file:
            file.write(f"{step}\n")
        if step.number == at:
            os.kill(os.getpid(), number)

    with at_every_step(act):
        try:
            cli.panicdb.main(list(arguments), prog_name="panicdb")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
