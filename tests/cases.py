"""Hand-made databases, a selection as it is typed, and the exact rows that must arrive, or the words of the refusal.

A case names every table that may hold rows in the target; all others must be empty. `t: rowid, a` looks at these
columns only. Values are compared with their types: 1, 1.0 and '1' are three different things.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

REFUSED = 3
USAGE = 2


@dataclass(frozen=True)
class Case:
    """One database, one selection, and what comes of it."""

    title: str
    source: str
    """SQL in SQLite's dialect, which the suite translates; a case of one engine only is in that one's own."""
    ask: str
    rows: Mapping[str, list[tuple]] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    """Words of the message; then nothing is written."""
    exit_code: int = 0
    dangling: int = 0
    """References that lead nowhere in the target, because they were kept so."""
    engine: str | None = None
    """The one engine that the case is about; else all of them."""
    why: str = ""
    needs: frozenset[str] = frozenset()
    """What not every server of the engine has."""

    def is_about(self, engine: str) -> bool:
        return self.engine in (None, engine)


Only = tuple[str, str]
"""An engine, and why the case is about that one only."""


def case(
    title: str,
    source: str,
    ask: str,
    rows: Mapping[str, list[tuple]],
    *,
    dangling: int = 0,
    only: Only | None = None,
    needs: str = "",
) -> Case:
    engine, why = only or (None, "")
    return Case(
        title,
        source,
        ask,
        rows,
        dangling=dangling,
        engine=engine,
        why=why,
        needs=frozenset(filter(None, needs.split("|"))),
    )


def refusal(
    title: str,
    source: str,
    ask: str,
    *words: str,
    exit_code: int = REFUSED,
    only: Only | None = None,
    needs: str = "",
) -> Case:
    engine, why = only or (None, "")
    return Case(
        title,
        source,
        ask,
        refused=words,
        exit_code=exit_code,
        engine=engine,
        why=why,
        needs=frozenset(filter(None, needs.split("|"))),
    )
