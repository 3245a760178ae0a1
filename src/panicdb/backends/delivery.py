"""How a receipt is delivered: drafted in a private directory, and put in its place in one step."""

import errno
import fcntl
import os
import shutil
import stat
import sys
from pathlib import Path

from panicdb.errors import TargetError, TransferError

RECEIPT = "receipt.json"
RECEIPT_SUFFIX = ".receipt.json"
RECEIPT_MARK = '"panicdb_receipt"'


def draft_receipt(directory: str, receipt: str) -> None:
    """Write the receipt into the private directory, through to the device."""
    draft = os.path.join(directory, RECEIPT)
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
        # Keys need not be UTF-8; what stands for their odd bytes becomes an escape that JSON knows.
        stream.write(receipt.encode("utf-8", "backslashreplace"))
    sync(draft)


def discard_receipt(path: str) -> None:
    """A receipt of an earlier target of this name must not outlive it."""
    if _is_receipt(path):
        Path(path).unlink(missing_ok=True)


def publish_receipt(directory: str, shown: str, beside: str | None, receipt_path: str) -> None:
    """Give the drafted receipt its name, in place of an older one; without a draft the older one goes.

    So does the one at `beside`, wherever the new one is: it would be taken for the target's. `shown` names the target.
    """
    draft = os.path.join(directory, RECEIPT)
    try:
        if beside is not None and os.path.realpath(receipt_path) != os.path.realpath(beside):
            discard_receipt(beside)
        if not os.path.lexists(draft):
            discard_receipt(receipt_path)
            return
        try:
            os.replace(draft, receipt_path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _replace_across(draft, receipt_path)
        sync(os.path.dirname(receipt_path))
    except OSError as error:
        raise TransferError(
            f"{shown}: complete and in its place, but without its receipt: "
            f"{receipt_path} can't be written: {error.strerror or error}",
            hint="`panicdb verify` with the same selection checks it without a receipt",
        ) from error


def check_receipt_path(receipt_path: str, database: str) -> None:
    """Refuse to put a receipt where something else lies; `database` is the target, as it is shown."""
    shown = f"{database}: the receipt"
    refuse_directory(Path(receipt_path).parent, shown)
    try:
        status = os.lstat(receipt_path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise TargetError(
            f"{shown} can't be written: {error.strerror}", hint="choose --receipt FILE"
        ) from error
    if stat.S_ISREG(status.st_mode) and _is_receipt(receipt_path):
        return
    raise TargetError(
        f"{database}: {receipt_path} exists and is no receipt",
        hint="move it away, or choose --receipt FILE",
    )


def _is_receipt(path: str) -> bool:
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as stream:
            return RECEIPT_MARK in stream.read(200)
    except FileNotFoundError:
        return False


def refuse_directory(directory: Path, shown: str) -> None:
    """Refuse a directory that is not there, or not ours to write to. Raises TargetError; `shown` begins its message."""
    if not directory.is_dir():
        raise TargetError(f"{shown}: there is no directory {str(directory)!r}", hint="create it first")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise TargetError(
            f"{shown}: no permission to write into {str(directory)!r}", hint="choose another directory"
        )


def sync(path: str) -> None:
    """Write a file or directory through to the device; a failed sync is never tried again."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_across(path: str, goal: str) -> None:
    """Put a copy of a file on another file system in the place of one there, durable, and for its owner alone."""
    draft = os.path.join(os.path.dirname(goal), f".{os.path.basename(goal)}.panicdb")
    Path(draft).unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with Path(path).open("rb") as original, os.fdopen(descriptor, "wb") as stream:
        shutil.copyfileobj(original, stream)
    sync(draft)
    os.replace(draft, goal)
