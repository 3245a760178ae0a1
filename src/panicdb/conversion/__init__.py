"""Values between engines: which conversions there are, what they lose, and how to compare what was carried across."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from panicdb.backends.conversions import Conversion
from panicdb.conversion import leaving_postgresql, leaving_sqlite
from panicdb.conversion.canonical import Canonical, canonical
from panicdb.errors import SourceError
from panicdb.values import ColumnType

SQLITE = "sqlite"
"""The engine whose values are Python's; the other one speaks text."""

__all__ = ["Canonical", "Conversion", "canonical_between", "convertible", "decide", "forms"]

Forms = tuple[Callable[[Any], Any], ...]


def decide(engine: str, source: ColumnType, target: ColumnType) -> Conversion | None:
    """Decide how a column's values leave an engine for the other one; None: no way is known."""
    if engine == SQLITE:
        return leaving_sqlite.decide(source, target)
    return leaving_postgresql.decide(source, target)


def convertible(engine: str) -> Callable[[ColumnType, ColumnType], bool]:
    """Return what tells whether values of a type of this engine have a way to a type of the other one."""
    return partial(_has_a_way, engine)


def _has_a_way(engine: str, source: ColumnType, target: ColumnType) -> bool:
    return decide(engine, source, target) is not None


def forms(engine: str, columns: Sequence[Canonical], *, relaxed: bool) -> tuple[Forms, Forms]:
    """Return what brings values of the source, which is of this engine, and of the target into one form.

    If that is `relaxed`, what has to be lost is lost on both sides.
    """
    sqlite = tuple(each.relaxed_of_sqlite if relaxed else each.of_sqlite for each in columns)
    server = tuple(each.relaxed_of_server if relaxed else each.of_server for each in columns)
    return (sqlite, server) if engine == SQLITE else (server, sqlite)


def canonical_between(engine: str, source: ColumnType, target: ColumnType) -> Canonical:
    """Return how values of two columns are compared; `engine` is the source's. Raises SourceError if they can't be."""
    server, sqlite = (target, source) if engine == SQLITE else (source, target)
    found = canonical(server, sqlite)
    if found is None:
        raise SourceError(
            f"values of {source.spelled} and of {target.spelled} can't be compared",
            hint="leave the table out with --exclude, or change the type in the application",
        )
    return found
