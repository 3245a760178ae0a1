"""What a terminal adds to a run: signals that stop it cleanly, and a moving line of progress."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from panicdb.errors import InterruptedRunError
from panicdb.values import Monitor, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def attended(*, quiet: bool = False, verbose: bool = False) -> Iterator[Monitor]:
    """Give a monitor that signals stop, and that shows how far a run has come.

    A moving line on a terminal, a line for each step if `verbose`, nothing if `quiet`.

    The first signal sets a flag that is polled, also from inside long statements; a second one ends the process at
    once, which loses nothing: what is not published is thrown away by the next run.
    """
    received: list[signal.Signals] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number))

    def poll() -> None:
        if received:
            raise InterruptedRunError(received[0].name)

    # What was ignored from the start stays so: `nohup`, and the background jobs of a shell, rely on it.
    minded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in minded}
    try:
        with _second_signal_ends():
            if verbose and sys.stderr is not None:
                yield Monitor(_Steps().show, poll)
            elif quiet or sys.stderr is None or not sys.stderr.isatty():
                yield Monitor(poll=poll)
            else:
                with _line_of_progress(poll) as monitor:
                    yield monitor
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _second_signal_ends() -> Iterator[None]:
    """End the process at its second signal.

    While a library call lasts (syncing a large file may take long), Python runs no handler; but the bytes that it
    writes for each signal arrive, and a thread of our own reads them.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def listen() -> None:
        seen = 0
        while number := os.read(read, 1):
            seen += number[0] in SIGNALS
            if seen > 1:
                os._exit(128 + number[0])

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)
        listener.join()
        os.close(read)


@contextmanager
def _line_of_progress(poll: "_Poll") -> Iterator[Monitor]:
    from rich import progress  # noqa: PLC0415 - only needed on a terminal
    from rich.console import Console  # noqa: PLC0415

    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
    with bar:
        yield Monitor(_Line(bar).show, poll)


class _Steps:
    """Each step on a line of its own, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown: tuple[str, str | None] | None = None

    def show(self, report: Progress) -> None:
        """Print a step when it begins."""
        step = (report.step, report.table)
        if step != self._shown:
            self._shown = step
            words = " ".join(filter(None, step))
            with suppress(OSError):  # nobody may be left to read it
                sys.stderr.write(f"{time.monotonic() - self._began:8.2f} s  {words}\n")


class _Line:
    """One task whose description and figures follow the reports."""

    def __init__(self, bar: "Bar") -> None:
        self._bar = bar
        self._task: TaskID = bar.add_task("starting", total=None)

    def show(self, report: Progress) -> None:
        """Show a report; an estimate that was too low does not stop the line at 100 %."""
        table = f" {report.table}" if report.table else ""
        total = None if report.bytes_total is None else max(report.bytes_total, report.bytes_done)
        self._bar.update(
            self._task, description=report.step + table, completed=report.bytes_done, total=total
        )


if TYPE_CHECKING:
    from collections.abc import Callable

    _Poll = Callable[[], None]
