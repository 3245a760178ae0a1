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
import re
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

SOURCE, TARGET, RECEIPT = "source.db", "target.db", "target.db.receipt.json"
LONGEST_RUN = 60
"""Seconds after which a run counts as hanging: SIGALRM ends it, and its exit code tells."""
PR_SET_PTRACER = 0x59616D61
LONGEST_ORPHAN = 2.0
"""Seconds that the child of a killed run may go on."""
FILE_STEPS = ("mkdir", "open", "link", "replace", "rename", "fsync", "unlink", "rmdir")
RAISING = ("error", "keyboard")
"""Modes that raise where the step is called. The others strike inside SQLite, at nested statements too."""


# --- what is run, and what came of it ---


@dataclass(frozen=True)
class Subject:
    """A source, and what to do with it. `selection`: the keywords of `panicdb.export`, or None for a clone."""

    name: str
    folder: str
    """Holds the source, and whatever lies beside it."""
    selection: Mapping[str, object] | None

    def arguments(self, target: str = TARGET) -> list[str]:
        """Spell the run as for the command line."""
        if self.selection is None:
            return ["clone", SOURCE, target]
        choice = self.selection
        options = [["--root", choice["root"]]] if "root" in choice else []
        options += [["--link", link] for link in choice.get("links", ())]
        return ["export", SOURCE, target, *choice["roots"], *(word for pair in options for word in pair)]


@dataclass
class Outcome:
    """What one disturbed run left behind."""

    step: int
    label: str
    state: str = "other"
    """Of the target, after the fault: absent, complete or other."""
    code: int = 0
    seconds: float = 0.0
    orphan: float = 0.0
    """Seconds that the child of the killed run went on."""
    mute: bool = False
    """What failed was the message itself."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and at which steps."""

    mode: str
    """kill, kill child, interrupt (SIGINT), error and keyboard (raised by the step), call (strace), race (two runs)."""
    every: int = 1
    """Take every such SQL statement; 0 for none. Steps on files and processes are taken always."""
    before: str = ""
    """Kill a first run at the step whose label starts so, and sweep over the run that comes after it."""
    call: str = ""
    failure: str = ""
    """The system call that fails, and its error."""
    numbers: Sequence[int] = ()
    """Which calls fail, in turn, until a run makes fewer; or the rounds of a race."""
    pause: float = 0.0
    """Seconds by which the second of two runs starts later, more with each round."""

    def __str__(self) -> str:
        return {"call": f"{self.call} {self.failure}", "race": "two at once"}.get(self.mode, self.mode)


@dataclass(frozen=True)
class Job:
    """A share of a campaign, as a worker gets it."""

    subject: Subject
    fault: Fault
    folder: str
    share: int
    shares: int


# --- steps ---


class Trap:
    """Counts the steps of a run across its processes, writes them down, and springs at one of them."""

    def __init__(self, path: str, mode: str = "count", at: int = 0) -> None:
        self.path, self.mode, self.at = path, mode, at
        self.child = False
        self._shared = mmap.mmap(-1, 16)
        self.log = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)

    def arm(self) -> None:
        """Call this process the run; a child's steps may end it."""
        struct.pack_into("=q", self._shared, 8, os.getpid())

    def close(self) -> None:
        self._shared.close()
        os.close(self.log)

    def step(self, kind: str, label: str, failure: Callable[[], Exception] | None = None) -> None:
        """Count one step, about to be made."""
        (count,) = struct.unpack_from("=q", self._shared, 0)
        struct.pack_into("=q", self._shared, 0, count + 1)
        kind = "child " + kind if self.child else kind
        self.note(f"{kind}\t{' '.join(label.split())[:90]}")
        if count + 1 == self.at:
            self._spring(failure)

    def note(self, line: str) -> None:
        os.write(self.log, line.encode(errors="replace") + b"\n")

    def _spring(self, failure: Callable[[], Exception] | None) -> None:
        (run,) = struct.unpack_from("=q", self._shared, 8)
        if self.mode == "kill":
            os.kill(run, signal.SIGKILL)
        elif self.mode == "kill child" and self.child:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.mode == "interrupt":  # as a terminal does: everyone in the group gets it
            os.killpg(os.getpgrp(), signal.SIGINT)
        elif self.mode == "keyboard":
            raise KeyboardInterrupt
        elif self.mode == "error" and failure is not None:
            raise failure()

    def steps(self) -> list[tuple[str, str]]:
        """Read kind and label of every step."""
        lines = Path(self.path).read_text(errors="replace").splitlines()
        return [(kind, label) for kind, _, label in (line.partition("\t") for line in lines) if kind != "pid"]

    def orphans(self) -> list[int]:
        """Read which child processes were started."""
        lines = Path(self.path).read_text(errors="replace").splitlines()
        return [int(line.partition("\t")[2]) for line in lines if line.startswith("pid\t")]


def install(trap: Trap) -> None:
    """Put the hooks into this process."""
    for name in FILE_STEPS:
        setattr(os, name, _counted(trap, name, getattr(os, name)))
    fcntl.flock = _counted(trap, "flock", fcntl.flock)
    connect = _counted_connect(trap, sqlite3.connect)
    sqlite3.connect = sqlite3.dbapi2.connect = connect
    subprocess.Popen = _counted_process(trap)


def _counted(trap: Trap, name: str, function: Callable) -> Callable:
    def call(*arguments, **options):
        trap.step("file", f"{name} {_shown(arguments)}", lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
        return function(*arguments, **options)

    return call


def _shown(arguments: Sequence[object]) -> str:
    names = [str(each) for each in arguments if isinstance(each, str | os.PathLike)]
    return " ".join(os.path.basename(name) for name in names)


def _counted_connect(trap: Trap, connect: Callable) -> Callable:
    def failing() -> sqlite3.OperationalError:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
        return error

    class RaisingCursor(sqlite3.Cursor):
        def execute(self, sql, *rest):
            trap.step("sql", sql, failing)
            return super().execute(sql, *rest)

        def executemany(self, sql, *rest):
            trap.step("sql", sql, failing)
            return super().executemany(sql, *rest)

    class RaisingConnection(sqlite3.Connection):
        def cursor(self, factory=RaisingCursor):
            return super().cursor(factory)

        def commit(self):
            if self.in_transaction:
                trap.step("sql", "COMMIT", failing)
            super().commit()

    class TracedConnection(sqlite3.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.set_trace_callback(lambda sql: trap.step("sql", sql))

    factory = RaisingConnection if trap.mode in RAISING else TracedConnection

    def opened(*arguments, **options):
        trap.step("sql", "open", failing)
        return connect(*arguments, **{"factory": factory, **options})

    return opened


class ForkedProcess:
    """Stands in for subprocess.Popen: the interpreter and its imports are there already, so a child costs little."""

    kept: tuple[int, ...] = ()

    def __init__(self, command: Sequence[str], *, cwd: str | Path, stdout, pass_fds: Sequence[int] = (), **_options) -> None:
        script = command[-1]
        theirs, ours = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._be_the_child(script, cwd, theirs, stdout.fileno(), (*pass_fds, *self.kept))
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(_flush())
        os.close(theirs)
        self.stdin = open(ours, "wb", buffering=0)

    def _be_the_child(
        self, script: str, cwd: str | Path, stdin: int, stdout: int, kept: Sequence[int]
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stdout, 2)
        for descriptor in map(int, os.listdir("/dev/fd")):
            if descriptor > 2 and descriptor not in kept:
                with suppress(OSError):
                    os.close(descriptor)
        os.chdir(cwd)
        for stream, mode, descriptor in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
            setattr(sys, stream, open(descriptor, mode, closefd=False))
        runpy.run_path(script, run_name="__main__")

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
            busy = errno.EAGAIN
            trap.step("process", "start", lambda: OSError(busy, os.strerror(busy)))
            super().__init__(*arguments, **options)
            trap.note(f"pid\t{self.pid}")

        def _be_the_child(self, *arguments) -> None:
            trap.child = True
            super()._be_the_child(*arguments)

        def wait(self, timeout: float | None = None) -> int:
            code = super().wait(timeout)
            trap.step("process", "end")
            return code

    return CountedProcess


# --- one run ---


@dataclass(frozen=True)
class Ended:
    """How a forked run ended: an exit code, or a signal as a negative number; what it said."""

    code: int
    said: str


def start(arguments: Sequence[str], folder: str, said: str, prepare: Callable[[], None] | None = None) -> int:
    """Fork a process that runs panicdb in `folder`; what it prints goes into the file `said`. Returns its id."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = _be_the_run(arguments, folder, said, prepare)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(_flush() or code)
    return process


def _be_the_run(
    arguments: Sequence[str], folder: str, said: str, prepare: Callable[[], None] | None
) -> int:
    os.setsid()
    signal.alarm(LONGEST_RUN)
    output = os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    from panicdb.cli import panicdb

    subprocess.Popen = ForkedProcess
    if prepare is not None:
        prepare()
    try:
        panicdb.main(list(arguments), prog_name="panicdb")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _flush() -> int:
    """As the interpreter does when it ends."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return 120
    return 0


def finish(process: int, said: str) -> Ended:
    """Wait for a forked run."""
    _, status = os.waitpid(process, 0)
    return Ended(os.waitstatus_to_exitcode(status), Path(said).read_text(errors="replace"))


# --- what is left ---


def content(path: str | Path) -> str:
    """Digest what a database holds: the names of its objects, its header, every row with its types.

    Definitions are left to `panicdb.verify`: migrations may write the constraints of a table in any order.
    """
    digest = hashlib.sha256()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        objects = connection.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall()
        digest.update(repr(sorted(objects, key=repr)).encode())
        for pragma in ("user_version", "application_id", "page_size", "encoding", "journal_mode"):
            digest.update(repr(connection.execute(f"PRAGMA {pragma}").fetchall()).encode())
        for name in sorted(name.decode() for kind, name, _ in objects if kind == b"table"):
            quoted = name.replace('"', '""')
            rows = connection.execute(f'SELECT * FROM "{quoted}"').fetchall()
            digest.update(repr((name, sorted(rows, key=repr))).encode())
    return digest.hexdigest()


class Case:
    """A folder with a source, in which runs are made and looked at."""

    def __init__(self, subject: Subject, folder: str) -> None:
        self.subject = subject
        self.place = os.path.join(folder, "place")
        self.temporary = os.path.join(folder, "tmp")
        self.said = os.path.join(folder, "said")
        self.path = os.path.join(folder, "trap")
        os.makedirs(self.temporary, exist_ok=True)
        os.environ["TMPDIR"] = self.temporary
        self.reset()
        self.source = _digest(self._at(SOURCE))
        self.wanted = ""
        self.proved: set[str] = set()
        """Targets, as digests of their bytes: what was proved once is not proved again."""
        self.rerun_from: set[str] = set()
        """What lay in the place before reruns that went well: from the same files a run does the same."""

    def reset(self) -> None:
        """Put the source there, and nothing else."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.subject.folder, self.place)

    def run(self, prepare: Callable[[], None] | None = None) -> Ended:
        """Run panicdb here."""
        return finish(start(self.subject.arguments(), self.place, self.said, prepare), self.said)

    def disturbed(self, mode: str, at: int) -> tuple[Ended, Trap]:
        """Run with hooks."""
        trap = Trap(self.path, mode, at)

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
        ended = self.run()
        if ended.code:
            raise RuntimeError(f"{self.subject.name}: without a fault: {ended}")
        self.wanted = content(self._at(TARGET))
        self.check_complete([])
        self.reset()

    def state(self, problems: list[str]) -> str:
        """Look at the source and the target after a fault."""
        if _digest(self._at(SOURCE)) != self.source:
            problems.append("the source's main file has changed")
        if os.path.lexists(self._at(SOURCE + "-journal")):
            problems.append("the source has a journal")
        if not os.path.lexists(self._at(TARGET)):
            return "absent"
        before = len(problems)
        self.check_complete(problems)
        return "complete" if len(problems) == before else "other"

    def check_complete(self, problems: list[str]) -> None:
        """Prove the target: by panicdb, and by content."""
        import panicdb

        target = _digest(self._at(TARGET))
        if target in self.proved:
            return
        receipt = os.path.lexists(self._at(RECEIPT))
        choice = {} if receipt or self.subject.selection is None else self.subject.selection
        report = panicdb.verify(self._at(SOURCE), self._at(TARGET), **choice)
        problems += [f"verify: {finding.text}" for finding in report.findings]
        if content(self._at(TARGET)) != self.wanted:
            problems.append("the target's content differs from that of an undisturbed run")
        if not problems:
            self.proved.add(target)

    def rerun(self, state: str, problems: list[str], children: Sequence[int]) -> float:
        """Run again: to a target where there is none, to a refusal where there is one.

        Returns how long `children` of the disturbed run went on beside it, in seconds.
        """
        before = self._all_files()
        if before in self.rerun_from and not children:
            return 0.0
        process = start(self.subject.arguments(), self.place, self.said)
        orphaned = _wait_for_end(children)
        ended = finish(process, self.said)
        if state == "absent":
            if ended.code:
                problems.append(f"rerun: exit code {ended.code}: {ended.said.strip()[-300:]}")
            elif self.state(problems) != "complete":
                problems.append("rerun: not complete")
        elif ended.code != 3 or "exists already" not in ended.said:
            problems.append(f"rerun to a finished target: {ended}")
        self._check_left_over(state, problems)
        if orphaned > LONGEST_ORPHAN:
            problems.append("the child of the killed run goes on and on")
        if not problems:
            self.rerun_from.add(before)
        return orphaned

    def _all_files(self) -> str:
        """Digest names, modes and bytes of all that lies in the place."""
        digest = hashlib.sha256()
        for folder, _, names in sorted(os.walk(self.place)):
            for path in (folder, *(os.path.join(folder, name) for name in sorted(names))):
                data = b"" if path == folder else Path(path).read_bytes()
                digest.update(repr((path, os.stat(path).st_mode, os.stat(path).st_nlink, data)).encode())
        return digest.hexdigest()

    def _check_left_over(self, state: str, problems: list[str]) -> None:
        there = set(os.listdir(self.place))
        beside = {SOURCE + "-wal", SOURCE + "-shm"} if self.has_log else set()
        wanted = {SOURCE, TARGET} | ({RECEIPT} if state == "absent" else set())
        if not wanted <= there <= wanted | beside | {RECEIPT}:
            problems.append(f"left after the rerun: {sorted(there - wanted - beside)}")
        if os.listdir(self.temporary):
            problems.append(f"left in TMPDIR: {os.listdir(self.temporary)}")

    @property
    def has_log(self) -> bool:
        """Tell whether the source is in WAL mode."""
        return os.path.exists(os.path.join(self.subject.folder, SOURCE + "-wal"))

    def _at(self, name: str) -> str:
        return os.path.join(self.place, name)


def _let_interrupts_raise() -> None:
    """Without the command line's handlers, as for those who call the library."""
    from panicdb import terminal
    from panicdb.values import Monitor

    terminal.attended = lambda **_options: nullcontext(Monitor())


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# --- failing system calls ---


class Strace:
    """Lets the N-th system call of one kind fail in a process that is about to run, and in its children."""

    def __init__(self, folder: str) -> None:
        self._log = os.path.join(folder, "strace")
        self._gate: tuple[int, int] = (-1, -1)

    def hold(self) -> None:
        """Wait, in the forked process, until strace is there."""
        ours, theirs = self._gate
        os.close(theirs)
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)  # or Yama lets none but parents trace
        os.read(ours, 1)
        os.close(ours)

    def run(self, case: "Case", options: Sequence[str]) -> tuple[Ended, list[str]]:
        """Run under strace. Returns how it ended, and the calls that were traced."""
        if shutil.which("strace") is None:
            raise RuntimeError("strace is missing, and nothing else makes system calls fail: apt-get install strace")
        self._gate = os.pipe()
        process = start(case.subject.arguments(), case.place, case.said, self.hold)
        os.close(self._gate[0])
        tracer = subprocess.Popen(
            ["strace", "-f", "-y", "-o", self._log, *options, "-p", str(process)],
            stderr=subprocess.PIPE,
            text=True,
        )
        said = tracer.stderr.readline()
        os.close(self._gate[1])
        ended = finish(process, case.said)
        said += tracer.communicate()[1]
        if " attached" not in said:
            raise RuntimeError(f"strace can't trace here: {said}")
        return ended, Path(self._log).read_text(errors="replace").splitlines()


def fail_calls(case: Case, job: Job) -> Iterator[Outcome]:
    """Let one call after another fail, this job's share of them, until a run makes fewer."""
    strace = Strace(job.folder)
    call, failure = job.fault.call, job.fault.failure
    for number in job.fault.numbers[job.share :: job.shares]:
        case.reset()
        outcome = Outcome(number, call)
        began = time.monotonic()
        inject = f"inject={call}:error={failure}:when={number}"
        ended, calls = strace.run(case, ["-e", f"trace={call}", "-e", inject])
        failed = [line for line in calls if "(INJECTED)" in line]
        if not failed:
            return
        outcome.label = "; ".join(" ".join(line.split()[1:])[:110] for line in failed)
        outcome.mute = any("(2<" in line for line in failed)
        _examine(case, "error", ended, outcome)
        outcome.seconds = time.monotonic() - began
        yield outcome


# --- sweeps ---


def sweep(case: Case, job: Job) -> Iterator[Outcome]:
    """Disturb this job's share of the steps, one run each."""
    first = _step_named(case, job.fault.before) if job.fault.before else 0
    _, trap = _after(case, first, job.fault.mode, 0)
    steps = list(enumerate(trap.steps(), start=1))
    chosen = [number for number, (kind, _) in steps if _is_chosen(job.fault, kind, number)]
    for number in chosen[job.share :: job.shares]:
        yield _disturb(case, job.fault.mode, first, number, steps[number - 1][1])


def _is_chosen(fault: Fault, kind: str, number: int) -> bool:
    if fault.mode == "kill child" and not kind.startswith("child"):
        return False
    return not kind.endswith("sql") or (fault.every > 0 and number % fault.every == 0)


def _step_named(case: Case, label: str) -> int:
    case.reset()
    _, trap = case.disturbed("count", 0)
    return next(n for n, (_, text) in enumerate(trap.steps(), start=1) if text.startswith(label))


def _after(case: Case, first: int, mode: str, at: int) -> tuple[Ended, Trap]:
    """Run disturbed, in a place that a killed run has left, if `first` is its last step."""
    case.reset()
    if first:
        case.disturbed("kill", first)
    return case.disturbed(mode, at)


def _disturb(case: Case, mode: str, first: int, number: int, step: tuple[str, str]) -> Outcome:
    outcome = Outcome(number, f"{step[0]}: {step[1]}")
    began = time.monotonic()
    ended, trap = _after(case, first, mode, number)
    _examine(case, mode, ended, outcome, [each for each in trap.orphans() if is_alive(each)])
    outcome.seconds = time.monotonic() - began
    return outcome


def _examine(case: Case, mode: str, ended: Ended, outcome: Outcome, children: Sequence[int] = ()) -> None:
    outcome.code = ended.code
    outcome.state = case.state(outcome.problems)
    judge(mode, ended, outcome)
    outcome.orphan = case.rerun(outcome.state, outcome.problems, children)


def judge(mode: str, ended: Ended, outcome: Outcome) -> None:
    """Hold the exit code and the words against what is left."""
    code, state = ended.code, outcome.state
    if "Traceback" in ended.said:
        outcome.problems.append(f"a traceback: {ended.said.strip()[-600:]}")
    if state == "other":
        outcome.problems.append("the target is neither absent nor complete")
    if code == 0 and state != "complete":
        outcome.problems.append(f"exit code 0, but the target is {state}")
    allowed = {"kill": (-signal.SIGKILL,), "interrupt": (0, 130), "keyboard": (0, 130)}.get(mode, (0, 3, 4))
    if code not in allowed:
        outcome.problems.append(f"exit code {code}: {ended.said.strip()[-300:]}")
    if code > 0 and "error: " not in ended.said and not outcome.mute:
        outcome.problems.append(f"exit code {code} without a message: {ended.said.strip()[-300:]}")
    if state == "complete" and "nothing was published" in ended.said:
        outcome.problems.append("the target is complete, the message says that nothing was published")


def _wait_for_end(processes: Sequence[int]) -> float:
    began = time.monotonic()
    while any(map(is_alive, processes)) and time.monotonic() - began <= LONGEST_ORPHAN:
        time.sleep(0.002)
    return time.monotonic() - began


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


def _warm_up(case: Case) -> None:
    """Import what runs import, here: a fork then costs milliseconds."""
    import alembic.command  # noqa: F401 - for the child
    import alembic.config  # noqa: F401

    from panicdb import cli, commands, experiments, render, terminal  # noqa: F401

    commands.plan_clone(case._at(SOURCE))
    case.reset()
    gc.collect()
    gc.freeze()


# --- two at once ---


def race(case: Case, job: Job) -> Iterator[Outcome]:
    """Let two runs make one target, the second starting a little later each round."""
    for number in job.fault.numbers[job.share :: job.shares]:
        case.reset()
        began = time.monotonic()
        pause = number * job.fault.pause
        outcome = Outcome(number, f"the second starts {pause * 1000:.0f} ms later")
        said = [f"{case.said}{which}" for which in "ab"]
        first = start(job.subject.arguments(), case.place, said[0])
        time.sleep(pause)
        second = start(job.subject.arguments(), case.place, said[1])
        ended = [finish(process, path) for process, path in zip((first, second), said, strict=True)]
        outcome.state = case.state(outcome.problems)
        _judge_race(sorted(ended, key=lambda end: end.code), outcome)
        case.rerun(outcome.state, outcome.problems, ())
        outcome.seconds = time.monotonic() - began
        yield outcome


def _judge_race(ended: Sequence[Ended], outcome: Outcome) -> None:
    if [end.code for end in ended] != [0, 3] or outcome.state != "complete":
        outcome.problems.append(f"the target is {outcome.state}: {ended}")
    loser = ended[-1].said
    if not any(words in loser for words in ("another panicdb run", "exists already", "appeared while")):
        outcome.problems.append(f"refused without a reason: {loser}")


# --- workers ---


def campaign(subject: Subject, folder: Path, *faults: Fault) -> list[list[Outcome]]:
    """Try faults in worker processes; for each its outcomes in order. Raises RuntimeError if a worker fails."""
    shares = 1 if "PYTEST_XDIST_WORKER" in os.environ else os.cpu_count() or 1
    places = [folder / f"worker{share}" for share in range(shares)]
    workers = [_start_worker(subject, faults, place, share, shares) for share, place in enumerate(places)]
    if any([worker.wait() for worker in workers]):
        said = "\n".join((place / "err").read_text() for place in places)
        raise RuntimeError(f"a worker failed:\n{said}")
    found: list[list[Outcome]] = [[] for _ in faults]
    for place in places:
        for line in (place / "out").read_text().splitlines():
            number, outcome = json.loads(line)
            found[number].append(Outcome(**outcome))
    return [sorted(outcomes, key=lambda outcome: outcome.step) for outcomes in found]


def _start_worker(
    subject: Subject, faults: Sequence[Fault], place: Path, share: int, shares: int
) -> subprocess.Popen:
    place.mkdir(parents=True)
    jobs = [asdict(Job(subject, fault, str(place), share, shares)) for fault in faults]
    (place / "jobs").write_text(json.dumps(jobs))
    with (place / "jobs").open() as given, (place / "out").open("w") as out, (place / "err").open("w") as err:
        return subprocess.Popen([sys.executable, __file__], stdin=given, stdout=out, stderr=err)


def main() -> None:
    """Be a worker: read jobs on one subject, write an outcome a line."""
    given = json.load(sys.stdin)
    jobs = [
        Job(**{**data, "subject": Subject(**data["subject"]), "fault": Fault(**data["fault"])}) for data in given
    ]
    case = Case(jobs[0].subject, jobs[0].folder)
    _warm_up(case)
    case.undisturbed()
    for number, job in enumerate(jobs):
        carry_out = {"race": race, "call": fail_calls}.get(job.fault.mode, sweep)
        for outcome in carry_out(case, job):
            print(json.dumps((number, asdict(outcome))), flush=True)


if __name__ == "__main__":
    main()
