"""How long one step of a clone takes, in seconds, on a line: the least of a few runs.

    python bench/steps.py STEP SOURCE

Steps are named as `panicdb -v` prints them, such as "copying the schema".
"""

import sys
import tempfile
import time
from pathlib import Path

import panicdb

RUNS = 3


def measure(step: str, source: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        reports: list[tuple[str, float]] = []
        target = Path(folder, "target.db")
        panicdb.clone(
            source, str(target), progress=lambda report: reports.append((report.step, time.perf_counter()))
        )
        ends = [began for _, began in reports[1:]] + [time.perf_counter()]
        return sum(end - began for (name, began), end in zip(reports, ends, strict=True) if name == step)


if __name__ == "__main__":
    print(min(measure(*sys.argv[1:]) for _ in range(RUNS)))
