"""References that lead nowhere: which rows have them, and in what sense."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa

from panicdb.backends.base import OrderedJoin, Snapshot
from panicdb.links import Graph
from panicdb.values import Link
from panicdb.walk import SUPPORT, Condition, KeySet, has_parent, parent_exists, same_row


class Lacking(Enum):
    """What a reference fails to lead to."""

    SOURCE = "any row of the source"
    RESULT = "a row of the result"
    OWNED = "an owned row"
    ANYTHING = "anything: every reference counts"


@dataclass(frozen=True)
class Rows:
    """Rows of a result with such a reference, ready to be selected from."""

    child: sa.FromClause
    source: sa.FromClause
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class References:
    """The references that the rows in `keys` hold."""

    snapshot: Snapshot
    graph: Graph
    keys: KeySet

    def rows(self, number: int, link: Link, lacking: Lacking, *, support_only: bool = False) -> Rows:
        """Select the rows whose reference over `link` is complete and lacks its goal.

        Of the source, references that MATCH FULL forbids lack it, too.
        """
        entry = self.snapshot.catalog.tables[link.child]
        keys, child = self.keys[link.child].alias("k"), entry.table.alias("c")
        conditions: list[Condition] = []
        if lacking is not Lacking.ANYTHING and link not in self.graph.broken:
            conditions += has_parent(self.snapshot.catalog.tables[link.parent], link, number, keys)
        absent = self._absent(link, child, lacking)
        leading = sa.and_(_is_complete(link, child), *([] if absent is None else [absent]))
        conditions.append(sa.or_(leading, *(_mixed(link, child) if lacking is Lacking.SOURCE else ())))
        if support_only:
            conditions.append(keys.c.owned == SUPPORT)
        return Rows(child, OrderedJoin(keys, child, same_row(entry, child, keys)), tuple(conditions))

    def count(self, number: int, link: Link, lacking: Lacking, *, support_only: bool = False) -> int:
        """Count what `rows` selects."""
        rows = self.rows(number, link, lacking, support_only=support_only)
        statement = sa.select(sa.func.count()).select_from(rows.source).where(*rows.conditions)
        return int(self.snapshot.connection.scalar(statement) or 0)

    def _absent(self, link: Link, child: sa.FromClause, lacking: Lacking) -> Condition | None:
        """Say that the goal is not there; None where it never can be."""
        if lacking is Lacking.ANYTHING or link in self.graph.broken:
            return None
        if lacking is Lacking.SOURCE:
            return ~parent_exists(self.snapshot, link, child, None)
        if link.parent not in self.keys:
            return None
        return ~parent_exists(self.snapshot, link, child, self.keys, owned=lacking is Lacking.OWNED)


def count_dangling(snapshot: Snapshot, graph: Graph, link: Link) -> int:
    """Count the rows of a whole table whose reference over `link` leads nowhere; an anti-join."""
    child = snapshot.catalog.tables[link.child].table.alias("c")
    leading = _is_complete(link, child)
    if link not in graph.broken:
        leading = sa.and_(leading, ~parent_exists(snapshot, link, child, None))
    statement = sa.select(sa.func.count()).select_from(child).where(sa.or_(leading, *_mixed(link, child)))
    return int(snapshot.connection.scalar(statement) or 0)


def _is_complete(link: Link, child: sa.FromClause) -> Condition:
    """Say that no part of a reference is NULL; else it is none (MATCH SIMPLE)."""
    return sa.and_(*(child.c[name].is_not(None) for name in link.child_columns))


def _mixed(link: Link, child: sa.FromClause) -> tuple[Condition, ...]:
    """Say that a reference is NULL in part, where MATCH FULL forbids that."""
    if not link.full:
        return ()
    columns = [child.c[name] for name in link.child_columns]
    some, none = (sa.or_(*(test(column) for column in columns)) for test in (_is_null, _is_not_null))
    return (sa.and_(some, none),)


def _is_null(column: sa.ColumnElement[Any]) -> Condition:
    return column.is_(None)


def _is_not_null(column: sa.ColumnElement[Any]) -> Condition:
    return column.is_not(None)
