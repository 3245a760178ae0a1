"""What copying a live source costs its writer: commits a second alone, and while panicdb copies the source.

    python bench/live.py [--rounds 50]

In WAL mode a writer at full speed keeps more than two thirds of its rate, and is never blocked: it does not wait for
locks, so the first one that it met would end it. In rollback-journal mode it waits; with --spool only while the
source is copied aside. Every copy is checked for what the writer keeps true. The figures are medians over rounds, in
each of which the writer is first alone for as long as a run takes. Exit code 1 where the bar is not met.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from live_writer import lies_in, make_source, writing

PANICDB = Path(sys.executable).with_name("panicdb")
LEFT = 2 / 3
PATIENCE = 60.0
PAPERS = 2_000
CASES = (("WAL", ()), ("WAL", ("--spool",)), ("DELETE", ()), ("DELETE", ("--spool",)))


def measure(mode: str, options: tuple[str, ...], rounds: int) -> float:
    """Copy a source `rounds` times while it is written to; print the rates and return what is left of them."""
    folder = Path(tempfile.mkdtemp(prefix="live-"))
    try:
        source = folder / "source.db"
        make_source(source, mode, papers=PAPERS)
        spans = []
        with writing(source, timeout=0 if mode == "WAL" else PATIENCE) as writer:
            pause = 1.0
            for number in range(rounds):
                target = folder / f"copy{number}.db"
                began = time.monotonic()
                time.sleep(pause)
                alone = time.monotonic()
                subprocess.run([PANICDB, "clone", source, target, "-q", *options], check=True)
                spans.append((began, alone, time.monotonic()))
                pause = spans[-1][2] - alone
                if lies_in(target):
                    raise SystemExit(f"{target} holds what was never true of the source")
                target.unlink()
        before = [writer.commits(began, middle) / (middle - began) for began, middle, _ in spans]
        during = [writer.commits(middle, ended) / (ended - middle) for _, middle, ended in spans]
        left = statistics.median(one / other for one, other in zip(during, before, strict=True))
        print(
            f"{' '.join((mode, *options)):16} {rounds} copies, none untrue   "
            f"{statistics.median(before):7.0f} commits/s alone {statistics.median(during):7.0f} during runs   "
            f"{left:4.0%} left   longest wait {max(writer.waits()):.2f} s",
            flush=True,
        )
        return left
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Measure all cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    left = {(mode, options): measure(mode, options, rounds) for mode, options in CASES}
    met = left["WAL", ()] > LEFT
    print(f"WAL: {left['WAL', ()]:.0%} left, more than {LEFT:.0%} wanted: {'PASS' if met else 'FALLS SHORT'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
