"""Values between engines: which conversions there are, what they lose, and how to compare what was carried across."""

from collections.abc import Callable
from functools import partial

from panicdb.backends.base import Conversion
from panicdb.conversion import leaving_postgresql, leaving_sqlite
from panicdb.conversion.canonical import Canonical, canonical
from panicdb.errors import SourceError
from panicdb.values import ColumnType

SQLITE = "sqlite"
"""The engine whose values are Python's; the other one speaks text."""

__all__ = ["SQLITE", "Canonical", "Conversion", "canonical_between", "convertible", "decide"]


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
