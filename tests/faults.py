"""Faults on purpose: panicdb in forked processes, in which one step goes wrong, and what is left afterwards.

A worker (this file as a script, one a core) imports everything once and forks for each run. Hooks are put in from
outside, in the forked process and in the child that runs migrations: every SQL statement, every call that makes,
names, locks, syncs or removes a file, and the start and end of the child are numbered steps. At step N the run is
killed, interrupted, or the step fails. Failing system calls below SQLite are left to strace, which is attached to the
forked process before it starts.
"""

import ctypes
import errno
import fcntl
import gc
import hashlib
import json
import mmap
import os
import runpy
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import alembic.command
import alembic.config  # noqa: F401 - the child that migrates is forked, too: what it imports has to be there

import panicdb
from panicdb import cli, commands, databases, experiments, render, terminal  # noqa: F401 - as above, for the runs
from panicdb.values import Monitor

SOURCE, TARGET, RECEIPT, DRAFTS = "source.db", "target.db", "target.db.receipt.json", ".target.db.panicdb"
LOGS = ("-journal", "-wal", "-shm")
HEADER = ("user_version", "application_id", "page_size", "encoding", "journal_mode")
LONGEST_RUN = 60
"""Seconds after which a run counts as hanging: SIGALRM ends it, and its exit code tells."""
LONGEST_ORPHAN = 2.0
"""Seconds that the child of a killed run may go on."""
FILE_STEPS = ("mkdir", "open", "link", "replace", "rename", "chmod", "fsync", "unlink", "rmdir")
CLEANING = ("unlink", "rmdir", "flock", "openat", f"open {DRAFTS}")
"""Steps whose failure may leave the private directory to the next run."""
UNTOUCHED = ("nothing was published", "nothing was merged", "nothing was committed", "was left as it is")
RAISING = ("error", "keyboard")
"""Modes that raise where the step is called. The others strike inside SQLite, at nested statements too."""
SPELLINGS = {
    "link": "?link,?linkat",
    "rename": "?rename,?renameat,?renameat2",
    "mkdir": "?mkdir,?mkdirat",
    "unlink": "?unlink,?unlinkat",
    "rmdir": "?rmdir,?unlinkat",
}
"""Some processors know only the later ones."""
PR_SET_PTRACER = 0x59616D61


# --- what is run, what goes wrong, and what came of it ---


@dataclass(frozen=True)
class Subject:
    """A source, and what to do with it."""

    name: str
    folder: str
    """Holds the source, and whatever lies beside it: a target with its receipt, if `existing` says what to do."""
    selection: Mapping[str, object] | None
    """Keywords of `panicdb.export`; None for a clone."""
    existing: str = "refuse"
    """What is done about a target that is there: refuse, merge or replace."""
    options: Sequence[str] = ()
    """Further options of the command line, which change nothing about the target."""

    def arguments(self) -> list[str]:
        """Spell the run as for the command line."""
        way = [] if self.existing == "refuse" else [f"--{self.existing}"]
        if self.selection is None:
            return ["clone", SOURCE, TARGET, *way, *self.options]
        links = [word for link in self.selection.get("links", ()) for word in ("--link", link)]
        chosen = [*self.selection["roots"], "--root", self.selection["root"], *links]
        return ["export", SOURCE, TARGET, *chosen, *way, *self.options]


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and at which steps."""

    mode: str
    """kill, kill child, interrupt (SIGINT), error and keyboard (raised by the step), call (strace), race (two runs),
    hold (two runs, the first held up).
    """
    kinds: Sequence[str] = ("file", "process", "sql", "child")
    """Which steps; `child` are all those of the child."""
    every: int = 1
    """Take every such SQL statement; 0 for none."""
    before: str = ""
    """Kill a first run at the step whose label starts so, and sweep over the run that comes after it."""
    call: str = ""
    failure: str = ""
    """The system call that fails, and its error; KILL for a SIGKILL in its place."""
    numbers: Sequence[int] = ()
    """Which calls fail, in turn, until a run makes fewer; or the rounds of a race."""
    pause: float = 0.0
    """Seconds by which the second of two runs starts later, more with each round."""

    def __str__(self) -> str:
        special = {"call": f"{self.call} {self.failure}", "race": "two at once", "hold": "one held up"}
        after = f" after a kill before {self.before}" if self.before else ""
        return special.get(self.mode, self.mode) + after


@dataclass
class Outcome:
    """What one disturbed run left behind."""

    step: int
    label: str
    state: str = "other"
    """Of the target, after the fault: absent, old (as it was before), complete or other."""
    code: int = 0
    seconds: float = 0.0
    orphan: float = 0.0
    """Seconds that the child of the killed run went on."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """How a run ended: an exit code, or a signal as a negative number; what it said."""

    code: int
    said: str


# --- steps ---


class Trap:
    """Counts the steps of a run across its processes, writes them down, and springs at one of them."""

    def __init__(self, path: str, mode: str, at: int) -> None:
        self.mode = mode
        self.log = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
        self.is_child = False
        self._path, self._at = path, at
        self._shared = mmap.mmap(-1, 16)

    def arm(self) -> None:
        """Call this process the run; steps of its child may end it."""
        struct.pack_into("=q", self._shared, 8, os.getpid())

    def close(self) -> None:
        self._shared.close()
        os.close(self.log)

    def step(self, kind: str, label: str, failure: Callable[[], Exception] | None = None) -> None:
        """Count one step, about to be made."""
        number = 1 + struct.unpack_from("=q", self._shared, 0)[0]
        struct.pack_into("=q", self._shared, 0, number)
        self.note("child " + kind if self.is_child else kind, label)
        if number == self._at:
            self._spring(failure)

    def note(self, kind: str, label: object) -> None:
        """Write a line down."""
        os.write(self.log, f"{kind}\t{' '.join(str(label).split())[:90]}\n".encode(errors="replace"))

    def steps(self) -> list[tuple[str, str]]:
        """Read kind and label of every step."""
        return [line for line in self._lines() if line[0] != "pid"]

    def children(self) -> list[int]:
        """Read which child processes were started."""
        return [int(label) for kind, label in self._lines() if kind == "pid"]

    def _lines(self) -> list[tuple[str, str]]:
        text = Path(self._path).read_text(errors="replace")
        return [tuple(line.split("\t", 1)) for line in text.splitlines()]

    def _spring(self, failure: Callable[[], Exception] | None) -> None:
        if self.mode == "kill":  # a step of the child makes an orphan of it
            os.kill(struct.unpack_from("=q", self._shared, 8)[0], signal.SIGKILL)
        elif self.mode == "kill child" and self.is_child:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.mode == "interrupt":  # as a terminal does: everyone in the group gets it
            os.killpg(os.getpgrp(), signal.SIGINT)
        elif self.mode == "keyboard":
            raise KeyboardInterrupt
        elif self.mode == "error" and failure is not None:
            raise failure()


def install(trap: Trap) -> None:
    """Put the hooks into this process, and into the children it forks."""
    for name in FILE_STEPS:
        setattr(os, name, _counted(trap, name, getattr(os, name)))
    fcntl.flock = _counted(trap, "flock", fcntl.flock)
    sqlite3.connect = sqlite3.dbapi2.connect = _counted_connect(trap, sqlite3.connect)
    subprocess.Popen = _counted_process(trap)


def _counted(trap: Trap, name: str, function: Callable) -> Callable:
    def call(*arguments, **options):
        paths = (str(each) for each in arguments if isinstance(each, str | os.PathLike))
        label = " ".join([name, *map(os.path.basename, paths)])
        trap.step("file", label, lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
        return function(*arguments, **options)

    return call


def _io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
    return error


def _counted_connect(trap: Trap, connect: Callable) -> Callable:
    class RaisingCursor(sqlite3.Cursor):
        def execute(self, sql, *rest):
            trap.step("sql", sql, _io_error)
            return super().execute(sql, *rest)

        def executemany(self, sql, *rest):
            trap.step("sql", sql, _io_error)
            return super().executemany(sql, *rest)

    class RaisingConnection(sqlite3.Connection):
        def cursor(self, factory=RaisingCursor):
            return super().cursor(factory)

        def commit(self):
            if self.in_transaction:
                trap.step("sql", "COMMIT", _io_error)
            super().commit()

    class TracedConnection(sqlite3.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.set_trace_callback(lambda sql: trap.step("sql", sql))

    factory = RaisingConnection if trap.mode in RAISING else TracedConnection

    def opened(*arguments, **options):
        trap.step("sql", "open", _io_error)
        return connect(*arguments, **{"factory": factory, **options})

    return opened


class ForkedProcess:
    """Stands in for subprocess.Popen: the interpreter and its imports are there already, so a child costs little."""

    kept: tuple[int, ...] = ()

    def __init__(self, command: Sequence[str], *, stdin: int, **_options) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _run_and_exit(lambda: self._be_the_child(command[-1], stdin))

    def _be_the_child(self, script: str, stdin: int) -> int:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(os.devnull, "wb") as nothing:
            for number, descriptor in enumerate((stdin, nothing.fileno(), nothing.fileno())):
                os.dup2(descriptor, number)
        for descriptor in set(map(int, os.listdir("/dev/fd"))) - {0, 1, 2, *self.kept}:
            with suppress(OSError):  # the listing itself had one
                os.close(descriptor)
        sys.stdin = os.fdopen(0, closefd=False)
        runpy.run_path(script, run_name="__main__")
        return 0

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("child", timeout)
            time.sleep(0.001)
        return self.returncode

    def poll(self) -> int | None:
        if self.returncode is None:
            process, status = os.waitpid(self.pid, os.WNOHANG)
            if process:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _counted_process(trap: Trap) -> type[ForkedProcess]:
    class CountedProcess(ForkedProcess):
        """The child inherits the hooks and counts on."""

        kept = (trap.log,)

        def __init__(self, *arguments, **options) -> None:
            trap.step("process", "start", lambda: OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
            super().__init__(*arguments, **options)
            trap.note("pid", self.pid)

        def _be_the_child(self, *arguments) -> int:
            trap.is_child = True
            return super()._be_the_child(*arguments)

        def wait(self, timeout: float | None = None) -> int:
            code = super().wait(timeout)
            trap.step("process", "end")
            return code

    return CountedProcess


# --- one run ---


def start(
    arguments: Sequence[str], folder: str, said: str, prepare: Callable[[], None] = lambda: None
) -> int:
    """Fork a process that runs panicdb in `folder`; what it prints goes into the file `said`. Returns its id."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        _run_and_exit(lambda: _be_the_run(arguments, folder, said, prepare))
    return process


def finish(process: int, said: str) -> Ended:
    """Wait for a forked run."""
    _, status = os.waitpid(process, 0)
    return Ended(os.waitstatus_to_exitcode(status), Path(said).read_text(errors="replace"))


def _run_and_exit(function: Callable[[], int]) -> None:
    """End this forked process with what `function` returns; nothing of the worker is unwound."""
    code = 1
    try:
        code = function()
    except BaseException:  # noqa: BLE001 - shown, as the interpreter would
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def _be_the_run(arguments: Sequence[str], folder: str, said: str, prepare: Callable[[], None]) -> int:
    os.setsid()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # it is ignored in what a shell runs in the background
    signal.alarm(LONGEST_RUN)
    output = os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.chdir(folder)
    subprocess.Popen = ForkedProcess
    prepare()
    try:
        cli.panicdb.main(list(arguments), prog_name="panicdb")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _let_interrupts_raise() -> None:
    """Without the command line's handlers, as for those who call the library."""
    terminal.attended = lambda **_options: nullcontext(Monitor())


# --- what is left ---


def content(path: str, header: Sequence[str] = HEADER) -> str:
    """Digest what a database holds: the names of its objects, its header, every row with its types.

    Definitions are left to `panicdb.verify`: migrations may write the constraints of a table in any order.
    """
    digest = hashlib.sha256()
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
        connection.text_factory = bytes
        objects = connection.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
        digest.update(repr(sorted(objects)).encode())
        for pragma in header:
            digest.update(repr(connection.execute(f"PRAGMA {pragma}").fetchall()).encode())
        for name in sorted(name.decode() for kind, name, _ in objects if kind == b"table"):
            quoted = name.replace('"', '""')
            rows = connection.execute(f'SELECT * FROM "{quoted}"').fetchall()
            digest.update(repr((name, sorted(rows, key=repr))).encode())
    return digest.hexdigest()


class Case:
    """A folder with a source, in which runs are made and looked at.

    What was found good once is not tried again: a target with the bytes of a proved one is complete, and a rerun does
    the same where the same files lie (unless a child of the disturbed run is still alive).
    """

    def __init__(self, subject: Subject, folder: str) -> None:
        self.subject = subject
        self.place = os.path.join(folder, "place")
        self.temporary = os.path.join(folder, "tmp")
        self.said = os.path.join(folder, "said")
        self.steps = os.path.join(folder, "steps")
        os.makedirs(self.temporary, exist_ok=True)
        os.environ["TMPDIR"] = self.temporary
        self.reset()
        self._source = _digest(self.at(SOURCE))
        self._wanted = ""
        self._copy = os.path.join(folder, "copy")
        self._old = self._content_then() if subject.existing != "refuse" else ""
        self._old_receipt = _digest(self.at(RECEIPT)) if self._old else ""
        self._proved: set[str] = set()
        self._rerun_from: set[str] = set()
        has_log = os.path.exists(os.path.join(subject.folder, SOURCE + "-wal"))
        self._own = {SOURCE, *((SOURCE + "-wal", SOURCE + "-shm") if has_log else ())}
        self._passing = {TARGET + suffix for suffix in LOGS if self._old}

    def at(self, name: str) -> str:
        return os.path.join(self.place, name)

    def reset(self) -> None:
        """Put the source there, and the target that is to be met."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.subject.folder, self.place)
        receipt = Path(self.at(RECEIPT))
        if receipt.exists():  # it was made where the source was before
            place = databases.locate(self.at(SOURCE))
            held = json.loads(receipt.read_text(encoding="utf-8"))
            receipt.write_text(json.dumps({**held, "source_id": place.fingerprint()}), encoding="utf-8")

    def run(self, prepare: Callable[[], None] = lambda: None) -> Ended:
        """Run panicdb here."""
        return finish(start(self.subject.arguments(), self.place, self.said, prepare), self.said)

    def disturbed(self, mode: str, at: int) -> tuple[Ended, Trap]:
        """Run with hooks."""
        trap = Trap(self.steps, mode, at)

        def prepare() -> None:
            trap.arm()
            if mode == "keyboard":
                _let_interrupts_raise()
            install(trap)

        ended = self.run(prepare)
        trap.close()
        return ended, trap

    def undisturbed(self) -> None:
        """Make the export that all others are compared with."""
        ended, problems = self.run(), []
        if ended.code == 0:
            self._wanted = content(self._copied())
            self._check_complete(problems)
            problems += [f"{path} was left" for path in _logs(self.at(TARGET))]
        if ended.code or problems:
            raise RuntimeError(f"{self.subject.name}, left alone: {ended} {problems}")
        self.reset()

    def examine(self, mode: str, ended: Ended, outcome: Outcome, children: Sequence[int] = ()) -> None:
        """Look at what a fault left, hold it against what was said, and run again."""
        outcome.code = ended.code
        outcome.state = self.state(outcome.problems)
        if "kill" not in mode and not any(name in outcome.label for name in CLEANING):
            outcome.problems += [f"left over: {DRAFTS}"] * os.path.lexists(self.at(DRAFTS))
        judge(mode, ended, outcome)
        outcome.orphan = self.rerun(outcome, children)

    def state(self, problems: list[str]) -> str:
        """Look at the source and the target."""
        if _digest(self.at(SOURCE)) != self._source:
            problems.append("the source's main file has changed")
        strange = set(os.listdir(self.place)) - self._own - self._passing - {TARGET, RECEIPT, DRAFTS}
        problems += [f"{name} was made" for name in strange]
        if not os.path.lexists(self.at(TARGET)):
            problems += ["the old target is gone"] if self._old else []
            return "absent"
        if self._old and self._content_then() == self._old:
            changed = _digest(self.at(RECEIPT)) != self._old_receipt
            problems += ["the old target has another receipt"] if changed else []
            return "old"
        found: list[str] = []
        self._check_complete(found)
        problems += found
        return "other" if found else "complete"

    def rerun(self, outcome: Outcome, children: Sequence[int] = ()) -> float:
        """Run again: to a target, or where there is one by now to a refusal, unless it is one to merge into or replace.

        Returns for how many seconds `children` of the disturbed run went on beside it.
        """
        before, problems = "" if children else self._all_files(), []
        if before in self._rerun_from:
            return 0.0
        process = start(self.subject.arguments(), self.place, self.said)
        orphaned = _wait_for_end(children)
        ended = finish(process, self.said)
        if outcome.state == "absent" or self._old:
            if ended.code or self.state(problems) != "complete":
                problems.append(f"rerun: {ended}")
        elif ended.code != 3 or "exists already" not in ended.said:
            problems.append(f"rerun to a finished target: {ended}")
        wanted = {SOURCE, TARGET} | ({RECEIPT} if outcome.state == "absent" or self._old else set())
        there = set(os.listdir(self.place))
        if not wanted <= there <= wanted | self._own | {RECEIPT}:
            problems.append(f"after the rerun there are {sorted(there)}")
        problems += [f"left in TMPDIR: {name}" for name in os.listdir(self.temporary)]
        if orphaned > LONGEST_ORPHAN:
            problems.append("the child of the killed run goes on and on")
        if before and not problems:
            self._rerun_from.add(before)
        outcome.problems += problems
        return orphaned

    def _check_complete(self, problems: list[str]) -> None:
        """Prove the target: by panicdb, and by content. Killed before that, a run leaves the old one's receipt."""
        has_receipt = os.path.lexists(self.at(RECEIPT)) and _digest(self.at(RECEIPT)) != self._old_receipt
        target = self._copied()
        known = "".join(_digest(path) for path in (target, *_logs(target))) + (self._old and str(has_receipt))
        if known in self._proved:
            return
        if has_receipt or not self._old:
            chosen = {} if has_receipt or self.subject.selection is None else self.subject.selection
            receipt = self.at(RECEIPT) if has_receipt else None
            report = panicdb.verify(self.at(SOURCE), target, receipt=receipt, **chosen)
            problems += [f"verify: {finding.text}" for finding in report.findings]
        if content(target) != self._wanted:
            problems.append("the target's content differs from that of an undisturbed run")
        if not problems:
            self._proved.add(known)

    def _copied(self) -> str:
        """Copy the target with its journal and log, to be looked at by a connection that may roll back and recover.

        The index of a log is left behind, as nobody has it open: who opens the log next makes a new one.
        """
        shutil.rmtree(self._copy, ignore_errors=True)
        os.mkdir(self._copy)
        for path in (self.at(TARGET), *_logs(self.at(TARGET))):
            shutil.copy(path, self._copy)
        return os.path.join(self._copy, TARGET)

    def _content_then(self) -> str:
        """Digest the target. To be replaced it leaves the mode WAL first, for good if the run is killed then."""
        return content(self._copied(), HEADER[:-1] if self.subject.existing == "replace" else HEADER)

    def _all_files(self) -> str:
        """Digest names, modes, links and bytes of all that lies in the place."""
        digest = hashlib.sha256()
        for folder, _, names in sorted(os.walk(self.place)):
            for path in (folder, *(os.path.join(folder, name) for name in sorted(names))):
                status = os.stat(path)
                data = b"" if path == folder else Path(path).read_bytes()
                digest.update(repr((path, status.st_mode, status.st_nlink, data)).encode())
        return digest.hexdigest()


def judge(mode: str, ended: Ended, outcome: Outcome) -> None:
    """Hold the exit code and the words against what is left."""
    code, state, said = ended.code, outcome.state, ended.said
    allowed = {"kill": (-signal.SIGKILL,), "interrupt": (0, 130), "keyboard": (0, 130)}.get(mode, (0, 3, 4))
    unsayable = "write(2<" in outcome.label
    wrong = {
        "the target is neither as before nor complete": state == "other",
        f"exit code 0, but the target is {state}": code == 0 and state != "complete",
        f"exit code {code}": code not in allowed,
        "a traceback": "Traceback" in said,
        "no message": code > 0 and "error: " not in said and not unsayable,
        "it does not say that the target is there": code in (3, 4)
        and state == "complete"
        and "complete and in its place" not in said,
        "it says that nothing was done": state == "complete" and any(words in said for words in UNTOUCHED),
    }
    found = [text for text, is_so in wrong.items() if is_so]
    outcome.problems += [*found, said.strip()[-600:]] if found else []


def is_alive(process: int) -> bool:
    """A zombie whose new parent does not care is dead enough."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return not os.path.isdir("/proc/self")


def _wait_for_end(processes: Sequence[int]) -> float:
    began = time.monotonic()
    while any(map(is_alive, processes)) and time.monotonic() - began <= LONGEST_ORPHAN:
        time.sleep(0.002)
    return time.monotonic() - began


def _logs(path: str) -> list[str]:
    """Find the journal and the log of a database."""
    return [path + suffix for suffix in LOGS[:2] if os.path.lexists(path + suffix)]


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# --- campaigns: each yields the outcomes of its share ---


def sweep(case: Case, fault: Fault, share: slice) -> Iterator[Outcome]:
    """Disturb one step after another, a run each."""
    first = _number_of(case, fault.before) if fault.before else 0
    steps = _after(case, first, fault.mode, 0)[1].steps()
    chosen = [number for number, (kind, _) in enumerate(steps, start=1) if _is_chosen(fault, kind, number)]
    for number in chosen[share]:
        outcome = Outcome(number, ": ".join(steps[number - 1]))
        began = time.monotonic()
        ended, trap = _after(case, first, fault.mode, number)
        case.examine(fault.mode, ended, outcome, [each for each in trap.children() if is_alive(each)])
        outcome.seconds = time.monotonic() - began
        yield outcome


def _is_chosen(fault: Fault, kind: str, number: int) -> bool:
    if kind.split(maxsplit=1)[0] not in fault.kinds:
        return False
    return not kind.endswith("sql") or (fault.every > 0 and number % fault.every == 0)


def _number_of(case: Case, label: str) -> int:
    case.reset()
    steps = case.disturbed("count", 0)[1].steps()
    return next(number for number, (_, text) in enumerate(steps, start=1) if text.startswith(label))


def _after(case: Case, first: int, mode: str, at: int) -> tuple[Ended, Trap]:
    """Run disturbed; where a run that was killed at step `first` has been, if there is such a step."""
    case.reset()
    if first:
        case.disturbed("kill", first)
    return case.disturbed(mode, at)


def fail_calls(case: Case, fault: Fault, share: slice) -> Iterator[Outcome]:
    """Let one system call after another fail, until a run makes fewer; of the child's calls the same number fails."""
    for number in fault.numbers[share]:
        case.reset()
        began = time.monotonic()
        call = SPELLINGS.get(fault.call, fault.call)
        killing = fault.failure == "KILL"
        what = "signal=SIGKILL" if killing else f"error={fault.failure}"
        ended, calls = _run_under_strace(
            case, ["-e", f"trace={call}", "-e", f"inject={call}:{what}:when={number}"]
        )
        struck = (
            calls[-2:-1] if killing and ended.code < 0 else [line for line in calls if "(INJECTED)" in line]
        )
        if not struck:
            return
        outcome = Outcome(number, "; ".join(" ".join(line.split()[1:])[:110] for line in struck))
        case.examine("kill" if killing else "error", ended, outcome)
        outcome.seconds = time.monotonic() - began
        yield outcome


def _run_under_strace(case: Case, options: Sequence[str]) -> tuple[Ended, list[str]]:
    """Run once strace is attached. Returns how it ended, and the calls that were traced."""
    if shutil.which("strace") is None:
        raise RuntimeError(
            "strace is missing, and nothing else makes system calls fail: apt-get install strace"
        )
    log = case.steps + ".strace"
    held, gate = os.pipe()
    ready, arrived = os.pipe()

    def hold() -> None:
        os.close(gate)
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)  # Yama lets only parents trace
        os.close(ready)
        os.close(arrived)
        os.read(held, 1)
        os.close(held)

    process = start(case.subject.arguments(), case.place, case.said, hold)
    os.close(held)
    os.close(arrived)
    os.read(ready, 1)  # the calls before, which make the run what it is, are not to fail
    os.close(ready)
    command = ["strace", "-f", "-y", "-o", log, *options, "-p", str(process)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        said = tracer.stderr.readline()
        os.close(gate)
        ended = finish(process, case.said)
        said += tracer.stderr.read()
    if " attached" not in said:
        raise RuntimeError(f"strace may not trace processes here: {said}")
    return ended, Path(log).read_text(errors="replace").splitlines()


def race(case: Case, fault: Fault, share: slice) -> Iterator[Outcome]:
    """Let two runs make one target, the second starting a little later each round, or while the first is held up."""
    for number in fault.numbers[share]:
        case.reset()
        began = time.monotonic()
        outcome = Outcome(number, f"the second starts {number * fault.pause * 1000:.0f} ms later")
        if fault.mode == "hold":
            winner, loser, reasons = _second_while_first_is_held_up(case)
        else:
            winner, loser = _two_at_once(case, number * fault.pause)
            reasons = ("another panicdb run", "exists already", "appeared while")
        outcome.state = case.state(outcome.problems)
        in_turn = (winner.code, loser.code) == (0, 0) and case.subject.existing != "refuse"
        if ((winner.code, loser.code) != (0, 3) and not in_turn) or outcome.state != "complete":
            outcome.problems.append(f"the target is {outcome.state}: {winner} {loser}")
        if not in_turn and not any(words in loser.said for words in reasons):
            outcome.problems.append(f"refused without a reason: {loser}")
        case.rerun(outcome)
        outcome.seconds = time.monotonic() - began
        yield outcome


def _two_at_once(case: Case, pause: float) -> list[Ended]:
    said = [case.said, case.said + "2"]
    runs = [start(case.subject.arguments(), case.place, said[0])]
    time.sleep(pause)
    runs.append(start(case.subject.arguments(), case.place, said[1]))
    return sorted(map(finish, runs, said), key=lambda end: end.code)


def _second_while_first_is_held_up(case: Case) -> tuple[Ended, Ended, tuple[str]]:
    """The first stops before its target appears. Returns how both ended, and what the second has to say."""

    def stop_before_link() -> None:
        link = os.link

        def stopping(*arguments: str) -> None:
            os.kill(os.getpid(), signal.SIGSTOP)
            link(*arguments)

        os.link = stopping

    first = start(case.subject.arguments(), case.place, case.said, stop_before_link)
    os.waitpid(first, os.WUNTRACED)
    second = case.said + "2"
    loser = finish(start(case.subject.arguments(), case.place, second), second)
    os.kill(first, signal.SIGCONT)
    reason = "another panicdb run is making this target" + holder(first, case.place)
    return finish(first, case.said), loser, (reason + "\n",)


def holder(process: int, directory: str) -> str:
    """Spell who holds a lock, if the system tells that of files here: many containers do not."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        found = os.fstat(descriptor)
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        locks = Path("/proc/locks").read_text().splitlines()
    except FileNotFoundError:
        return ""
    finally:
        os.close(descriptor)
    told = any({str(os.getpid()), place} <= set(line.split()) for line in locks)
    return f" (process {process})" if told else ""


# --- workers ---


def campaign(subject: Subject, folder: Path, *faults: Fault) -> list[list[Outcome]]:
    """Try faults in worker processes; for each its outcomes in order. Raises RuntimeError if a worker fails."""
    shares = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(4, os.cpu_count() or 1)
    places = [folder / f"worker{share}" for share in range(shares)]
    given = {"subject": asdict(subject), "faults": list(map(asdict, faults)), "shares": shares}
    workers = [_start_worker({**given, "share": share}, place) for share, place in enumerate(places)]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        said = "\n".join((place / "err").read_text() for place in places)
        raise RuntimeError(f"a worker failed:\n{said}")
    found: list[list[Outcome]] = [[] for _ in faults]
    for place in places:
        for line in (place / "out").read_text().splitlines():
            number, outcome = json.loads(line)
            found[number].append(Outcome(**outcome))
    return [sorted(outcomes, key=lambda outcome: outcome.step) for outcomes in found]


def _start_worker(job: Mapping[str, object], place: Path) -> subprocess.Popen:
    place.mkdir(parents=True)
    (place / "job").write_text(json.dumps({**job, "folder": str(place)}))
    with (place / "job").open() as given, (place / "out").open("w") as out, (place / "err").open("w") as err:
        return subprocess.Popen([sys.executable, __file__], stdin=given, stdout=out, stderr=err)


def main() -> None:
    """Be a worker: read a job, write an outcome a line."""
    job = json.load(sys.stdin)
    case = Case(Subject(**job["subject"]), job["folder"])
    commands.plan_clone(case.at(SOURCE))  # what is imported on first use is there now for every fork
    case.reset()
    case.undisturbed()
    gc.disable()  # no run here lives long
    for number, data in enumerate(job["faults"]):
        fault = Fault(**data)
        carry_out = {"race": race, "hold": race, "call": fail_calls}.get(fault.mode, sweep)
        for outcome in carry_out(case, fault, slice(job["share"], None, job["shares"])):
            print(json.dumps((number, asdict(outcome))), flush=True)


if __name__ == "__main__":
    main()
