"""How values get from one engine to another: a conversion, what a look at them found, and lines of rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


class UnfitError(ValueError):
    """A value that the other engine can't hold; the text says why, and is the same for all values of that reason."""


Raw = int | float | str | bytes
"""A value as SQLite's driver gives it, but for None. Text that is not UTF-8 has its odd bytes escaped (PEP 383)."""


@dataclass(frozen=True)
class Conversion:
    """How the values of one column travel between SQLite and a server that speaks text, in one direction.

    NULL is never asked about: it stays NULL.
    """

    plain: str
    """The name of a class of values that fit and lose nothing, and that an engine can tell without our help; `""`: each
    value has to be looked at."""
    convert: Callable[[Any], Any]
    """To a server: from `Raw` to the server's text. From one: from its text to `Raw`. Raises UnfitError."""
    loss: Callable[[Any], str | None]
    """Name the loss class of a value that fits, or None if nothing of it is lost. Takes what `convert` takes."""
    quick: Callable[[Any], Any] | None = None
    """What may stand for `convert` in a column that holds nothing but plain values."""


NULLS = "NULL, where the target allows none"


@dataclass(frozen=True)
class Survey:
    """What was found of values before they travel: in how many rows, by column and reason, or column and loss class."""

    unfit: Mapping[tuple[str, str], int]
    losses: Mapping[tuple[str, str], int]
    plain: frozenset[str] = frozenset()
    """Columns that hold nothing but plain values."""


@dataclass(frozen=True)
class Arrival:
    """The rows of one table, as they come from a database of another engine."""

    table: str
    columns: tuple[str, ...]
    readers: tuple[Callable[[str], Any], ...]
    """What makes a value of a field without its escapes, for a target that takes values."""
    lines: Iterator[bytes | memoryview]
    """Blocks of lines in the text format of PostgreSQL's COPY, by these columns; each block ends with a line."""
