"""Run one command as a child: its seconds, the peak memory of its process tree, its output.

    python bench/measure.py [--repeat 3] COMMAND [ARG ...]

Seconds are wall clock from start to end of the whole process. The peak is the larger of two: the
sum of resident memory over the command and all its descendants, sampled every 20 ms, and the
largest single process the kernel saw (ru_maxrss). Shared pages count once per process, so the sum
errs upward. Where there is no /proc, only the second is known.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

SAMPLE_SECONDS = 0.02
PROC = Path("/proc")
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


@dataclass(frozen=True)
class Measurement:
    """One run: `seconds` of wall clock and of CPU, `peak_bytes` of the whole tree."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    exit_code: int
    errors: str


class TreeSampler(threading.Thread):
    """Sums the resident memory of a process and its descendants until told to stop."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.peak = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, sum(map(resident_bytes, tree(self.root))))

    def stop(self) -> int:
        self.ended.set()
        self.join()
        return self.peak


def tree(root: int) -> Iterator[int]:
    yield root
    try:
        tasks = list((PROC / str(root) / "task").iterdir())
        children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:  # it ended meanwhile
        return
    for child in children:
        yield from tree(int(child))


def resident_bytes(pid: int) -> int:
    try:
        pages = (PROC / str(pid) / "statm").read_text().split()[1]
    except OSError:  # it ended meanwhile
        return 0
    return int(pages) * resource.getpagesize()


def run(command: Sequence[str], cwd: Path | None = None) -> Measurement:
    """Run `command` to its end; its standard output is thrown away, its errors are kept."""
    with tempfile.TemporaryFile() as errors:
        started = perf_counter()
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=plain_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        sampler = TreeSampler(child.pid)
        sampler.start()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        return Measurement(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=max(sampler.stop(), usage.ru_maxrss * RSS_UNIT),
            exit_code=child.returncode,
            errors=errors.read().decode(errors="replace"),
        )


def plain_environment() -> dict[str, str]:
    """Nothing a user has set up for panicdb changes what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PANICDB_")}


def warm(source: Path) -> None:
    """Read the file once, so that every candidate finds it in the page cache."""
    with source.open("rb", buffering=0) as file:
        buffer = bytearray(1 << 20)
        while file.readinto(buffer):
            pass


def middle(runs: Sequence[Measurement]) -> dict[str, float]:
    """Median seconds and the largest peak: memory must hold every time."""
    return {
        "seconds": statistics.median(run.seconds for run in runs),
        "cpu_seconds": statistics.median(run.cpu_seconds for run in runs),
        "peak_bytes": max(run.peak_bytes for run in runs),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure one command; the result is JSON.")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    runs = [run(given.command) for _ in range(given.repeat)]
    print(json.dumps({"median": middle(runs), "runs": [asdict(each) for each in runs]}, indent=2))
    return max(each.exit_code for each in runs)


if __name__ == "__main__":
    sys.exit(main())
