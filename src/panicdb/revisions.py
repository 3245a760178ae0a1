"""Version tables and histories: which revision files know a database, and replaying them in a child process."""

import ast
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from panicdb import guarded
from panicdb.errors import PanicDBError
from panicdb.values import Catalog, Monitor

SECONDS_BETWEEN_POLLS = 0.02


@dataclass(frozen=True)
class History:
    """A folder of migrations, and the file of each revision in it."""

    location: Path
    files: Mapping[str, Path]
    heads: tuple[str, ...]

    def knows(self, revisions: tuple[str, ...]) -> bool:
        """Tell whether every revision, spelled in full, has a file here."""
        return bool(revisions) and all(revision in self.files for revision in revisions)


class ReplayError(PanicDBError):
    """A history can't be run on an empty database."""


def bundled_history() -> History:
    """Locate the PANIC-TDA history: inside the installed package, else beside `src` in a checkout."""
    package = Path(__file__).resolve().parent
    for location in (package / "migrations", package.parent.parent / "migrations"):
        if (location / "env.py").is_file():
            return read_history(location)
    raise PanicDBError("the bundled migrations are missing", hint="reinstall panicdb")


def read_history(location: Path) -> History:
    """Parse the revision files below `location`; nothing of them is executed."""
    files: dict[str, Path] = {}
    followed: set[str] = set()
    for file in sorted((location / "versions").glob("*.py")):
        try:
            names = _literal_names(file)
        except OSError as error:
            raise PanicDBError(
                f"{file}: can't be read: {error.strerror}", hint="reinstall panicdb"
            ) from error
        revision = names.get("revision")
        if isinstance(revision, str):
            files[revision] = file
            followed.update(_as_tuple(names.get("down_revision")))
    return History(location, files, tuple(sorted(set(files) - followed)))


def _literal_names(file: Path) -> Mapping[str, object]:
    """Return what a revision file assigns to plain names, as far as it is literal."""
    names: dict[str, object] = {}
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        return names  # no Python, so no revision that could be run
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            names.update({target.id: value for target in targets if isinstance(target, ast.Name)})
    return names


def _as_tuple(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()


def find_history(catalog: Catalog) -> tuple[History | None, str]:
    """Return the history that knows a database's revisions, or None, and why."""
    if not catalog.revisions:
        return None, "the source has no Alembic version table"
    if len(catalog.revisions) > 1:
        return None, f"the source has {len(catalog.revisions)} version tables"
    (rows,) = catalog.revisions.values()
    if not rows:
        return None, "the source's version table is empty"
    history = bundled_history()
    if history.knows(rows):
        return history, f"the bundled history knows revision {', '.join(rows)}"
    return None, f"no known history has revision {', '.join(rows)}"


@contextmanager
def stand_by(catalog: Catalog | None) -> Iterator["Replayer"]:
    """Give what replays histories; where one is known its child starts now, and imports while others work."""
    history = find_history(catalog)[0] if catalog is not None else None
    with closing(Replayer()) as replayer:
        if history is not None:
            replayer.start()
        yield replayer


class Replayer:
    """Runs histories, each in a child process; the process for the next one may be started ahead."""

    def __init__(self) -> None:
        self._child: _Child | None = None

    def start(self) -> None:
        """Start a child ahead of its work. A system that has no room for it now may have later."""
        with suppress(OSError):
            self._child = _Child()

    def replay(
        self,
        history: History,
        revisions: tuple[str, ...],
        directory: Path,
        url: str,
        monitor: Monitor,
        *,
        held: tuple[int, ...] = (),
    ) -> None:
        """Run a history up to `revisions` on the database `url`, in a child process that works in `directory`.

        Writes into that directory only; the child keeps the descriptors `held` open. Raises ReplayError with the
        revision and file that failed.
        """
        child, self._child = self._child or _Child(), None
        request = {
            "location": str(history.location),
            "directory": str(directory),
            "url": url,
            "revisions": list(revisions),
        }
        with closing(child), tempfile.TemporaryFile(dir=directory) as output:
            child.send(request, (output.fileno(), *held))
            child.wait(monitor)
            output.seek(0)
            _read_reply(directory, output.read().decode(errors="replace"))

    def close(self) -> None:
        """End a child that was not needed."""
        if self._child is not None:
            self._child.close()


class _Child:
    """A process that imports Alembic, waits for one request on its standard input, and ends with the parent."""

    def __init__(self) -> None:
        script = Path(guarded.__file__).parent / "replay.py"
        self._ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own script
                    [sys.executable, "-I", str(script)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        except BaseException:
            self._ours.close()
            raise

    def send(self, request: Mapping[str, object], descriptors: tuple[int, ...]) -> None:
        try:
            socket.send_fds(self._ours, [json.dumps(request).encode() + b"\n"], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            return  # it ended at once: its reply, or the lack of one, says why

    def wait(self, monitor: Monitor) -> None:
        while True:
            monitor.poll()
            try:
                self._process.wait(SECONDS_BETWEEN_POLLS)
            except subprocess.TimeoutExpired:
                continue
            return

    def close(self) -> None:
        self._ours.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def replay(history: History, revisions: tuple[str, ...], directory: Path, url: str, monitor: Monitor) -> None:
    """Run one history; see `Replayer.replay`."""
    with closing(Replayer()) as replayer:
        replayer.replay(history, revisions, directory, url, monitor)


def _read_reply(directory: Path, output: str) -> None:
    path = directory / "reply.json"
    try:
        reply = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        last = (output.strip().splitlines() or ["it said nothing"])[-1]
        raise ReplayError(f"the process that runs the migrations ended early: {last}") from None
    path.unlink()
    if not reply["ok"]:
        place = f" in revision {reply['revision']}" if "revision" in reply else ""
        raise ReplayError(f"running the migrations failed{place}: {reply['error']}")
