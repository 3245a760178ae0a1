"""The words that every module shares: links, policies, catalogs, selections."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

import sqlalchemy as sa

Up = Literal["follow", "null", "drop", "refuse", "leave"]
Violations = Literal["refuse", "keep", "drop"]
Existing = Literal["refuse", "merge", "replace"]
"""What to do with a target that exists."""


@dataclass(frozen=True, order=True)
class Link:
    """A foreign key, child -> parent, over tuples of columns; `virtual` when the user declared it."""

    child: str
    child_columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    virtual: bool = False
    full: bool = field(default=False, compare=False)
    """MATCH FULL: a reference that is NULL in part leads nowhere; else it is none."""
    actions: str = field(default="", compare=False)
    """What happens to a child when its parent goes or changes, as SQL spells it."""

    def __str__(self) -> str:
        """Spell the link as `--link` does."""
        return f"{dotted(self.child, self.child_columns)}->{dotted(self.parent, self.parent_columns)}"


@dataclass(frozen=True)
class Policy:
    """What a link does: `down` lets owned parents bring children, `up` says what a child does with its parent."""

    down: bool = True
    up: Up = "follow"

    def __str__(self) -> str:
        """Spell the policy as `--link` does."""
        words = ([] if self.down else ["stay"]) + ([] if self.up == "follow" else [self.up])
        return ",".join(words) or "follow"


@dataclass(frozen=True)
class LinkOption:
    """One `--link`: columns that name a link, or declare a virtual one when `parent` is given, and its policy."""

    child: str
    child_columns: tuple[str, ...]
    parent: str | None
    parent_columns: tuple[str, ...]
    policy: Policy

    def __str__(self) -> str:
        """Spell the option as it was given."""
        arrow = "" if self.parent is None else "->" + dotted(self.parent, self.parent_columns)
        return f"{dotted(self.child, self.child_columns)}{arrow}={self.policy}"


@dataclass(frozen=True)
class Selection:
    """Which roots, and how their closure is taken."""

    root: str | None = None
    ids: tuple[str, ...] = ()
    where: str | None = None
    all: bool = False
    whole_ids: bool = False
    """Take ids as they are: no prefixes (what `export_experiments()` does)."""
    links: tuple[LinkOption, ...] = ()
    exclude: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    max_rows: int | None = None
    max_bytes: int | None = None
    violations: Violations = "refuse"


class Kind(StrEnum):
    """What a table is to a transfer."""

    ORDINARY = "ordinary"
    VERSION = "version"
    """An Alembic version table: its rows come with the schema, never as data."""
    VIRTUAL = "virtual"
    """An index that another module of the engine keeps: rebuilt or copied through its owner."""


class TypeClass(StrEnum):
    """What the values of a column are, whatever engine declares it."""

    INTEGER = "integer"
    BOOLEAN = "boolean"
    FLOAT = "float"
    NUMERIC = "numeric"
    TEXT = "text"
    BYTES = "bytes"
    JSON = "json"
    UUID = "uuid"
    DATE = "date"
    TIME = "time"
    DATETIME = "datetime"
    INTERVAL = "interval"
    ENUM = "enum"
    ARRAY = "array"
    OTHER = "other"
    """A type that only its engine knows, or none at all."""


@dataclass(frozen=True)
class ColumnType:
    """The type of a column, as another engine has to understand it."""

    kind: TypeClass
    spelled: str
    """As its own engine spells it."""
    size: int | None = None
    """Characters of text at most; bits of an integer or a float; digits of a numeric."""
    scale: int | None = None
    """Digits of a numeric behind the point; None where they are not bounded."""
    zoned: bool = False
    """A time with its zone."""
    exact: bool = True
    """Of JSON: kept as text, not as a value. Of text: no spaces are added to fill it up."""
    labels: tuple[str, ...] = ()
    """Of an enum, in their order."""
    element: "ColumnType | None" = None
    """Of an array."""
    affinity: str = ""
    """What SQLite makes of values that are stored there; nothing on other engines."""


@dataclass(frozen=True)
class CatalogTable:
    """One table as the catalog has it: SQLAlchemy's own Table, and what a transfer needs to know beside it."""

    name: str
    table: sa.Table
    kind: Kind
    identity: tuple[str, ...]
    """Columns (physical ones included) that identify a row within one snapshot."""
    stored: tuple[str, ...]
    """Columns that hold values of their own, in order: generated ones are left out."""
    primary_key: tuple[str, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    """Primary key, unique constraints and full unique indexes."""
    indexes: tuple[tuple[str, ...], ...]
    """Column lists, in order, that a look-up can use."""


@dataclass(frozen=True)
class Catalog:
    """What one database holds: its tables and its declared links."""

    tables: Mapping[str, CatalogTable]
    links: tuple[Link, ...]
    revisions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Rows of each version table, sorted."""

    def ordinary(self) -> tuple[CatalogTable, ...]:
        """Return the tables whose rows travel as data."""
        return tuple(table for table in self.tables.values() if table.kind is Kind.ORDINARY)


@dataclass(frozen=True)
class Progress:
    """One report of a running transfer: which step, how many bytes of how many (an estimate), which table."""

    step: str
    table: str | None = None
    bytes_done: int = 0
    bytes_total: int | None = None


class Monitor:
    """What a run reports to, and asks whether it should stop.

    `report` is called at every step, and some ten times a second while a `gauge` is set; `poll` is called often, also
    from inside long statements: an exception raised by either ends the run cleanly.
    """

    SECONDS_BETWEEN_REPORTS = 0.1

    def __init__(
        self,
        report: Callable[[Progress], None] | None = None,
        poll: Callable[[], None] | None = None,
    ) -> None:
        self.report: Callable[[Progress], None] = report or (lambda _progress: None)
        self.poll: Callable[[], None] = poll or (lambda: None)
        self.gauge: Callable[[], Progress] | None = None
        self._reported = 0.0

    def tick(self) -> None:
        """Poll, and report what the gauge shows if it is time to."""
        self.poll()
        now = time.monotonic()
        if self.gauge is not None and now - self._reported >= self.SECONDS_BETWEEN_REPORTS:
            self._reported = now
            self.report(self.gauge())


def quote_name(name: str) -> str:
    """Quote a name the way SQL does where a bare word would not do."""
    bare = name.isidentifier() and name.isascii()
    return name if bare else '"' + name.replace('"', '""') + '"'


def dotted(table: str, columns: tuple[str, ...]) -> str:
    """Spell columns of a table: `run.experiment_id`, `"odd name".a,b`."""
    return f"{quote_name(table)}.{','.join(quote_name(column) for column in columns)}"


def as_json(value: Any) -> Any:
    """Turn tuples, mappings and enums into what `json` writes."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


# --- facts: a schema as values, for comparison ---


@dataclass(frozen=True)
class Fact:
    """One property of one object of a schema.

    `demands` are conditions that rows must meet because of it; a difference whose target demands
    what the source does not may leave rows outside. Of one meaning, one spelling in all facts.
    """

    value: str | tuple[str, ...]
    """What is compared. A tuple is an order, and compared over the names that both sides hold."""
    shown: str | None = None
    """How a user sees it, where that is not `value` itself."""
    demands: frozenset[str] = frozenset()
    """Sentences, or what `at_most` makes, which one of a lower bound meets, too."""
    within: str | None = None
    """Only in the fact `existence`: the object that this one belongs to, and is missing with."""


def at_most(bound: int, what: str) -> str:
    """Spell the demand that something is not more than a number."""
    return f"at most {bound}: {what}"


Facts = Mapping[tuple[str, str], Fact]
"""{(object, property): fact}. Each object has the property `existence`."""
