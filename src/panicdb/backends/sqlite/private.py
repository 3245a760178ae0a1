"""The private directory beside a SQLite target: one run at a time is in it, and nothing of it stays."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from panicdb.backends.base import Place
from panicdb.backends.sqlite import files
from panicdb.errors import TargetError

LONGEST_NAME = 200
"""File systems take 255 bytes; beyond this the private directory's name is a hash."""
GRACE_SECONDS = 1.0
"""A killed run's child, which migrates, holds the lock until it has noticed; what holds it longer is at work."""


@contextmanager
def hold(place: Place) -> Iterator[tuple[str, int]]:
    """Hold the private directory, temporary files of SQLite included. Gives its path and the locked descriptor.

    Raises TargetError if another run holds it.
    """
    directory = directory_of(place)
    lock = _acquire(directory, place)
    try:
        with _temporary_files_in(directory):
            yield directory, lock
    finally:
        with suppress(OSError):  # what can't be removed now is left over, and the next run removes it
            _discard(directory, lock)


def directory_of(place: Place) -> str:
    """Name the private directory of a target. Touches nothing."""
    parent, name = os.path.split(place.location)
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return os.path.join(parent, f".{name}.panicdb")


def _acquire(directory: str, place: Place) -> int:
    """Lock the directory. The kernel frees the lock when its holder dies: what an unlocked one holds is left over."""
    while True:
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise TargetError(
                f"{place.shown}: can't be made here: {error.strerror}", hint="choose another directory"
            ) from error
        try:
            lock = _lock(directory, place)
            if lock is not None:
                return _emptied(directory, lock)
        except OSError as error:
            raise TargetError(
                f"{place.shown}: {directory} can't be used: {error.strerror}",
                hint="remove it, or choose another directory for the target",
            ) from error


def _emptied(directory: str, lock: int) -> int:
    try:
        empty(directory)
    except OSError:
        os.close(lock)
        raise
    return lock


def _lock(directory: str, place: Place) -> int | None:
    """Return the locked directory, or None if it was removed meanwhile. Raises TargetError if another run holds it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TargetError(
            f"{place.shown}: {directory} is in the way: {error.strerror}", hint="move it away"
        ) from error
    try:
        _hold(descriptor, directory, place)
    except BaseException:
        os.close(descriptor)
        raise
    status = os.fstat(descriptor)
    if files.identity(directory) == (status.st_dev, status.st_ino):
        return descriptor
    os.close(descriptor)
    return None


def _hold(descriptor: int, directory: str, place: Place) -> None:
    if os.fstat(descriptor).st_uid != os.geteuid():
        raise TargetError(
            f"{place.shown}: {directory} belongs to another user",
            hint="remove it, or choose another directory",
        )
    os.fchmod(descriptor, 0o700)  # one that was left over may have been opened to others meanwhile
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TargetError(
                    f"{place.shown}: another panicdb run is making this target{_holder(descriptor)}",
                    hint="wait until it has finished",
                ) from None
            time.sleep(GRACE_SECONDS / 50)
        else:
            return


def _holder(descriptor: int) -> str:
    """Name the process that holds a lock, where the kernel's table of locks tells; nothing of it is trusted unseen."""
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    with suppress(OSError, ValueError):
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        for _, kind, _, _, process, file, *_ in map(str.split, lines):
            if (kind, file) == ("FLOCK", f"{device}:{status.st_ino}") and _has_open(process, status):
                return f" (process {process})"
    return ""


def _has_open(process: str, status: os.stat_result) -> bool:
    """The one that locked may be gone, and its child hold on: then nobody is named."""
    opened = Path("/proc", process, "fd")
    return any(files.identity(str(each)) == (status.st_dev, status.st_ino) for each in opened.iterdir())


def remove_left_over(place: Place) -> None:
    """A run that was killed right after publication leaves its directory beside the finished target."""
    directory = directory_of(place)
    if os.path.isdir(directory) and not os.path.islink(directory):
        with suppress(OSError):  # the target is refused in any case
            lock = _lock(directory, place)
            if lock is not None:
                _discard(directory, lock)


def _discard(directory: str, lock: int) -> None:
    """Remove the directory while it is still locked, so that nobody can mistake it for a left-over."""
    try:
        empty(directory)
        os.rmdir(directory)
    finally:
        os.close(lock)


def empty(directory: str) -> None:
    """Remove all that the directory holds."""
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


@contextmanager
def _temporary_files_in(directory: str) -> Iterator[None]:
    """Make SQLite sort and spill beside the target, where there is room for a copy of the data anyway."""
    before = os.environ.get("SQLITE_TMPDIR")
    os.environ["SQLITE_TMPDIR"] = directory
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("SQLITE_TMPDIR", None)
        else:
            os.environ["SQLITE_TMPDIR"] = before
