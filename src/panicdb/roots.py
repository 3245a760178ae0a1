"""The chosen roots: ids as typed, a condition, or all, turned into the first keys of a closure."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import Snapshot
from panicdb.errors import RootNotFoundError, SelectionError, SourceError, TransferError
from panicdb.values import CatalogTable, Selection

ROOT = -1
"""`via` of a chosen row."""
SHORTEST_PREFIX = 4
LISTED_MATCHES = 10


@dataclass(frozen=True)
class Root:
    """The root table, and what one of its rows is called in messages."""

    entry: CatalogTable
    noun: str


def insert_roots(snapshot: Snapshot, root: Root, selection: Selection, keys: sa.Table) -> None:
    """Write the keys of the chosen roots.

    Raises SelectionError for an empty or ambiguous choice, RootNotFoundError for an id that is not there.
    """
    entry = root.entry
    if selection.ids:
        rows = {row: None for text in selection.ids for row in _find(snapshot, root, text, selection)}
        values = [{f"k{n}": part for n, part in enumerate(row)} | {"owned": 1, "via": ROOT} for row in rows]
        snapshot.add_keys(keys, values)
        return
    numbers: list[sa.ColumnElement[Any]] = [sa.literal_column(str(number)) for number in (1, ROOT)]
    chosen = sa.select(*(entry.table.c[name] for name in entry.identity), *numbers)
    if selection.where is not None:
        # Some value is bound: where none is, some drivers run several statements. A condition that asks for it by its
        # place, as $1 or ?1, gets nothing.
        chosen = chosen.where(sa.literal(None, sa.Integer).is_(None), _condition(selection.where))
    try:
        with snapshot.naming_as_users_do():
            found = snapshot.add_keys(keys, chosen)
    except (SourceError, TransferError) as error:
        if selection.where is None or error.from_outside:
            raise
        raise SelectionError(
            f"--where can't be evaluated: {' '.join((error.said or str(error.__cause__)).split())}",
            hint=f"give one SQL condition over the columns of {entry.name}",
        ) from error
    if not found:
        raise SelectionError(
            f"no row of {entry.name} was chosen" + (" by --where" if selection.where else ": it is empty"),
            hint="`panicdb list SOURCE` shows what is there",
        )


def _condition(where: str) -> sa.ColumnElement[bool]:
    """The user's own SQL, on lines of its own so that a comment in it ends.

    It has no type: of a Boolean, SQLAlchemy would ask whether it equals 1, which `flags & 4` does not.
    """
    return sa.literal_column(f"(\n{where}\n)")


def _find(snapshot: Snapshot, root: Root, text: str, selection: Selection) -> list[tuple[Any, ...]]:
    entry = root.entry
    column = _key_column(entry)
    identity = [entry.table.c[name] for name in entry.identity]
    for value in snapshot.parse_key(entry, column, text):
        matches = _select(snapshot, sa.select(*identity).where(entry.table.c[column] == value))
        if matches:
            return matches
    if not selection.whole_ids and len(text) >= SHORTEST_PREFIX and snapshot.is_text(entry, column):
        return _find_by_prefix(snapshot, root, column, text)
    raise _not_found(root, text, short=len(text) < SHORTEST_PREFIX)


def _find_by_prefix(snapshot: Snapshot, root: Root, column: str, text: str) -> list[tuple[Any, ...]]:
    entry = root.entry
    key = entry.table.c[column]
    spelled = sa.or_(
        *(sa.func.substr(snapshot.as_text(key), 1, len(start)) == start for start in _prefixes(text))
    )
    identity = [entry.table.c[name] for name in entry.identity]
    matches = _select(
        snapshot, sa.select(key, *identity).where(spelled).order_by(key).limit(LISTED_MATCHES + 1)
    )
    if not matches:
        raise _not_found(root, text)
    if len(matches) > 1:
        more = ", ..." if len(matches) > LISTED_MATCHES else ""
        listed = ", ".join(str(match[0]) for match in matches[:LISTED_MATCHES])
        raise SelectionError(
            f"{text!r} is the beginning of several keys of {entry.name}: {listed}{more}",
            hint="give more characters",
        )
    return [match[1:] for match in matches]


def _select(snapshot: Snapshot, statement: sa.Select[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in snapshot.connection.execute(statement)]


def _prefixes(text: str) -> set[str]:
    """A prefix as it is, and as the beginning of a UUID in the usual spellings."""
    digits = text.lower().removeprefix("urn:uuid:").strip("{}").replace("-", "")
    cuts = (0, 8, 12, 16, 20, 32)
    dashed = "-".join(part for part in (digits[a:b] for a, b in pairwise(cuts)) if part)
    hexadecimal = all(character in "0123456789abcdef" for character in digits) and digits
    return {text, digits, dashed, digits.upper(), dashed.upper()} if hexadecimal else {text}


def _key_column(entry: CatalogTable) -> str:
    if len(entry.primary_key) != 1:
        kind = "a composite primary key" if entry.primary_key else "no primary key"
        raise SelectionError(
            f"rows of {entry.name} can't be chosen by id: it has {kind}", hint="use --where SQL"
        )
    return entry.primary_key[0]


def _not_found(root: Root, text: str, *, short: bool = False) -> RootNotFoundError:
    hint = "`panicdb list SOURCE` shows the keys there are"
    if short:
        hint = f"{hint}; a key may be shortened to {SHORTEST_PREFIX} characters or more"
    return RootNotFoundError(f"{root.noun} {text} not found in source database", hint=hint)
