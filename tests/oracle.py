"""What an export must hold, worked out the slow and obvious way, from the specification alone.

A row is named (table, place): its place in `Problem.rows[table]`, a dict of values by column.
A reference is (row, link, parent row), the parent being None where the source has no such row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field


class RefusedError(Exception):
    """The specification forbids this export; the message names the rule."""


@dataclass(frozen=True)
class Link:
    child: str
    child_columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    down: bool = True  # False: the policy says `stay`
    up: str = "follow"  # or null, drop, refuse
    key: Callable = field(default=tuple, repr=False)  # values refer to the parent with an equal key


@dataclass(frozen=True)
class Problem:
    rows: dict[str, list[dict]]
    links: tuple[Link, ...]
    root: str
    chosen: frozenset[int]
    exclude: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    violations: str = "refuse"


def references(problem):
    """List all references; NULL in any column means none."""

    def keyed(table, columns, key):
        for place, row in enumerate(problem.rows[table]):
            values = tuple(row[column] for column in columns)
            if None not in values:
                yield key(values), (table, place)

    for link in problem.links:
        parents = dict(keyed(link.parent, link.parent_columns, link.key))
        for key, row in keyed(link.child, link.child_columns, link.key):
            yield row, link, parents.get(key)


def fixpoint(rows, step):
    """Add what `step` finds from the rows until it finds nothing new."""
    return fixpoint(rows | more, step) if (more := step(rows) - rows) else rows


def own(problem, refs, gone=frozenset()):
    """Return the owned rows: what the roots reach downward, without what has to be dropped."""
    roots = {(problem.root, place) for place in problem.chosen}
    down = [(row, parent) for row, link, parent in refs if link.down]
    kept = {row for row, _, _ in refs if row[0] not in problem.exclude} - gone
    owned = fixpoint(roots, lambda have: {row for row, parent in down if parent in have} & kept)
    bad = {row for row, link, parent in refs if link.up == "drop" and parent not in owned}
    if problem.violations == "drop":
        bad |= {row for row, link, parent in refs if link.up != "null" and parent is None}
    if bad & roots:
        raise RefusedError("a root would be dropped")
    return own(problem, refs, gone | bad) if bad & owned else owned


def solve(problem):
    """Return owned rows, support rows and the (row, column) that become NULL; or RefusedError."""
    refs, out = list(references(problem)), problem.exclude
    owned = own(problem, refs)
    whole = {(table, place) for table in problem.whole for place in range(len(problem.rows[table]))}
    up = [(row, parent) for row, link, parent in refs if parent and link.up in ("follow", "refuse")]
    kept = {parent for _, parent in up if parent[0] not in out}
    result = fixpoint(owned | whole, lambda have: {to for row, to in up if row in have} & kept)
    refs = [reference for reference in refs if reference[0] in result]
    if any(link.up == "refuse" and parent not in owned for _, link, parent in refs):
        raise RefusedError("refuse leads out of the owned rows")
    if any(link.up == "drop" and parent not in result for _, link, parent in refs):
        raise RefusedError("drop on a support row")
    if any(link.up in ("follow", "refuse") and link.parent in out for _, link, _ in refs):
        raise RefusedError("a link into an excluded table")
    rest = [link for _, link, parent in refs if link.up == "follow" and parent is None]
    if rest and problem.violations != "keep":
        raise RefusedError("a dangling reference")
    lost = [(row, link) for row, link, parent in refs if link.up == "null" and parent not in result]
    return owned, result - owned, {(row, name) for row, link in lost for name in link.child_columns}
