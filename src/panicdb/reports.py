"""What a verification says: checks, findings, and the verdict over them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

ALL_CHECKS = ("revision", "schema", "rows", "content", "foreign keys", "sequences", "integrity")
BY_CHOICE = "by choice"
PUBLICATION_CHECKS = ("revision", "schema", "rows", "foreign keys", "sequences")
"""Made before every publication; content, too, where that is asked for."""


class Status(StrEnum):
    """How a check ended."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"


class Verdict(StrEnum):
    """What all checks together say."""

    EXACT = "EXACT"
    """All that was compared is the same, to the last byte."""
    EQUIVALENT = "EQUIVALENT"
    """The same but for what the other engine can't hold: which classes of loss, and in how many rows, is told."""
    DIFFERENT = "DIFFERENT"
    INCOMPLETE = "INCOMPLETE"
    """Nothing differs as far as could be seen, but a check could not be made."""


@dataclass(frozen=True)
class Finding:
    """One difference. `code` is stable: a reader of reports may rely on it (docs/findings.md)."""

    code: str
    check: str
    text: str
    """What differs: objects, counts and keys; never another value of a row."""
    details: tuple[str, ...] = ()
    """Values that differ, only where they were asked for."""


@dataclass(frozen=True)
class Check:
    """One check and how it ended; `note` says what was compared, or why nothing was."""

    name: str
    status: Status
    note: str
    chosen: bool = False
    """It was left out because the user wanted that."""


@dataclass(frozen=True)
class Compared:
    """A table whose content was compared: which columns, and how."""

    table: str
    columns: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class Coverage:
    """What a verification was about, so that "verified" can't come to mean "verified some"."""

    compared: tuple[Compared, ...] = ()
    normalised: tuple[str, ...] = ()
    """What was made alike before it was compared."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """What was not compared, and why."""


@dataclass(frozen=True)
class Since:
    """What is not as a sealed receipt says, on either side: tables, and schema, sequences or revision."""

    receipt: str
    target: tuple[str, ...]
    """The target was changed or damaged."""
    source: tuple[str, ...]
    """The source moved on."""


@dataclass(frozen=True)
class Report:
    """All checks and findings of one verification."""

    reference: str
    target: str
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    coverage: Coverage = field(default_factory=Coverage)
    since: Since | None = None
    losses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Between engines: what differs by nothing but what had to be lost, as rows by column and class."""

    @property
    def verdict(self) -> Verdict:
        """Judge: a difference outranks a check that could not be made, and a check left out by choice is none."""
        if any(check.status is Status.FAIL for check in self.checks):
            return Verdict.DIFFERENT
        unmade = any(check.status is Status.SKIPPED and not check.chosen for check in self.checks)
        if unmade:
            return Verdict.INCOMPLETE
        return Verdict.EQUIVALENT if self.losses else Verdict.EXACT

    @property
    def ok(self) -> bool:
        """Tell whether every check passed but those left out by choice."""
        return self.verdict in (Verdict.EXACT, Verdict.EQUIVALENT)
