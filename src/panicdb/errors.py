"""Everything panicdb can complain about, with its exit code and its hint.

    PanicDBError                4  failed on the way, nothing published
     +- UsageError              2  wrong before anything was opened (also a ValueError)
     +- RefusedError            3  refused after looking, nothing written
     |   +- RootNotFoundError   3  a chosen root does not exist (also a ValueError)
     |   +- SelectionError      3  the selection does not fit this database (also a ValueError)
     |   +- SourceError         3  the source can't be read as it must be
     |   |   +- DamagedError    3  it is damaged, truncated, or not a database at all
     |   +- TargetError         3  the target can't be written as it must be
     |   +- ConflictError       3  a merge met rows of the same key with other content
     |   +- BudgetError         3  the closure grew past --max-rows or --max-bytes
     |   +- ViolationError      3  foreign keys are already violated in the source
     |   +- HistoryError        3  no history of migrations builds the source's schema, or none can be told
     |   +- WrongDatabaseError  3  migrations tried to reach another database than the target, and were stopped
     +- TransferError           4  reading, writing or publishing failed half-way
     +- CheckFailedError        4  the finished target did not pass its checks
     +- InterruptedRunError   130  a signal ended the run (130 SIGINT, 143 SIGTERM, 129 SIGHUP)

A message says what was found and what was wanted, in lower case and without a full stop; `hint` says what to do
next. Neither ever holds a password or a row's value; keys may appear.
"""

import os
import re
from typing import ClassVar

_PATTERNS = (
    (re.compile(r"(:/+)[^\n]*@"), r"\1***@"),  # to the last @: a password may hold any character
    (re.compile(r"(://)[^\s/]*:[^\s/]*"), r"\1***"),
    (re.compile(r"[^\s/:'\"]+:[^\s/'\"]+@"), "***@"),
    (re.compile(r"(://[^\s?]*\?)[^\s'\"]+"), r"\1***"),
    (
        re.compile(r"(?i)(\b(?:password|passwd|pwd|passphrase)\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s&;,'\"]+)"),
        r"\1***",
    ),
)
_SECRETIVE = re.compile(
    r"/*[^/]*:.*@|[^./][^/]*//[^/]*:.*@|[^./][^/]*:/|.*\b(?:password|passwd|pwd|passphrase)\s*=",
    re.IGNORECASE | re.DOTALL,
)


def redacted(text: str) -> str:
    """Take out what may be a password: users and queries of addresses, and what stands after `password=`."""
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def check_file_name(path: str) -> None:
    """Refuse to take a mistyped address for a file's name: messages and receipts name files. Raises UsageError.

    A file that is there is what its name says.
    """
    if _SECRETIVE.match(path) and not os.path.lexists(path):
        raise UsageError(
            "this looks like an address with a password in it, not like the name of a file",
            hint="a URL, or the path of a file; ./FILE if the file's name has a colon and an @",
        )


class PanicDBError(Exception):
    """The base of every error that panicdb raises on purpose."""

    exit_code: int = 4
    said: str | None = None
    """What the engine itself said, if it said no value of a row."""
    from_outside: bool = False
    """It came from outside, whatever the engine was asked: a limit, damage, or somebody."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = redacted(message)
        self.hint = hint if hint is None else redacted(hint)
        super().__init__(self.message)


class UsageError(PanicDBError, ValueError):
    """The arguments are wrong, whatever the database holds."""

    exit_code = 2


class RefusedError(PanicDBError):
    """Something that was looked at forbids the run; nothing was written."""

    exit_code = 3


class SelectionError(RefusedError, ValueError):
    """The selection names something that this database does not have or can't do."""


class RootNotFoundError(SelectionError):
    """A chosen root does not exist in the source."""


class SourceError(RefusedError):
    """The source is missing, locked, damaged, no database, or not readable."""


class DamagedError(SourceError):
    """A database is damaged or truncated, or not a database at all. `place` is the one, as it is shown."""

    from_outside = True

    def __init__(self, message: str, *, hint: str | None = None, place: str = "") -> None:
        super().__init__(message, hint=hint)
        self.place = place


class TargetError(RefusedError):
    """The target exists, can't be created, or is the source itself."""


class ConflictError(RefusedError):
    """The target holds rows that share a key with the source's and differ."""


class BudgetError(RefusedError):
    """The closure grew past a budget."""


class ViolationError(RefusedError):
    """Rows of the result reference rows that the source does not have."""


class HistoryError(RefusedError):
    """No history of migrations builds the source's schema, or it can't be told which one does."""


class WrongDatabaseError(RefusedError):
    """Migrations tried to reach another database than the target, and were stopped."""


class TransferError(PanicDBError):
    """Reading, writing or publishing failed half-way; nothing was published."""


class CheckFailedError(PanicDBError):
    """The finished target differs from what the plan promised; nothing was published."""


class InterruptedRunError(PanicDBError):
    """A signal ended the run; nothing was published."""

    EXIT_CODES: ClassVar[dict[str, int]] = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}

    def __init__(self, signal_name: str = "SIGINT") -> None:
        super().__init__(f"interrupted by {signal_name}: nothing was published")
        self.exit_code = self.EXIT_CODES.get(signal_name, 130)
