"""What two engines hold, compared in forms that they have in common: the same, or but for what must be lost."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from panicdb import contents, conversion, discrepancies
from panicdb.backends.base import Snapshot
from panicdb.backends.conversions import Conversion
from panicdb.contents import Rows
from panicdb.conversion import Canonical
from panicdb.digest import TableDigest
from panicdb.discrepancies import Discrepancies
from panicdb.errors import SourceError
from panicdb.values import Monitor, dotted

Forms = tuple[Callable[[Any], Any], ...]


@dataclass(frozen=True)
class Equivalence:
    """What was found of all tables."""

    ours: Mapping[str, TableDigest] = field(default_factory=dict)
    theirs: Mapping[str, TableDigest] = field(default_factory=dict)
    """Where rows differ by nothing but what had to be lost, the same as ours."""
    losses: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What differs without being different: rows by column and class of loss."""
    located: Mapping[str, Discrepancies] = field(default_factory=dict)


@dataclass(frozen=True)
class _Forms:
    ours: Forms
    theirs: Forms


@dataclass(frozen=True)
class _Table:
    """One table of both sides."""

    rows: Rows
    canonical: tuple[Canonical, ...]
    conversions: tuple[Conversion | None, ...]
    engine: str
    """The source's."""

    def forms(self, *, relaxed: bool) -> _Forms:
        """Return what makes values comparable: strictly, or but for what had to be lost."""
        return _Forms(*conversion.forms(self.engine, self.canonical, relaxed=relaxed))


def compare(
    rows: Iterable[Rows], snapshot: Snapshot, copy: Snapshot, monitor: Monitor, *, contains: bool = False
) -> Equivalence:
    """Compare what a target of another engine holds with the rows it is to hold. Reads both sides, some of it twice.

    With `contains` it may hold further rows of the source.

    Raises SourceError for a column whose types have nothing in common.
    """
    ours: dict[str, TableDigest] = {}
    theirs: dict[str, TableDigest] = {}
    losses: dict[str, Mapping[str, int]] = {}
    located: dict[str, Discrepancies] = {}
    for each in rows:
        if each.table not in copy.catalog.tables:
            ours[each.table] = contents.digest(snapshot, each, monitor)
            continue
        table = _pair(each, snapshot, copy)
        ours[each.table], theirs[each.table] = _digest(table, snapshot, copy, monitor, relaxed=False)
        if ours[each.table] == theirs[each.table]:
            continue
        loosely = _digest(table, snapshot, copy, monitor, relaxed=True)
        if loosely[0] == loosely[1]:
            losses |= _count_losses(table, snapshot)
            theirs[each.table] = ours[each.table]
            continue
        located[each.table] = _locate(table, snapshot, copy, monitor, contains=contains)
    return Equivalence(ours, theirs, losses, located)


@dataclass(frozen=True)
class Content:
    """What a target of another engine is to hold, and how its values are to be read for that."""

    digests: Mapping[str, TableDigest]
    columns: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, Forms]


def expect(rows: Iterable[Rows], snapshot: Snapshot, draft: Snapshot, monitor: Monitor) -> Content:
    """Digest what a target of another engine is to hold, in forms that lose what must be lost. Reads only."""
    tables = [_pair(each, snapshot, draft) for each in rows]
    forms = {each.rows.table: each.forms(relaxed=True) for each in tables}
    digests = {
        each.rows.table: contents.digest(
            snapshot, replace(each.rows, forms=forms[each.rows.table].ours), monitor
        )
        for each in tables
    }
    columns = {each.rows.table: each.rows.columns for each in tables}
    return Content(digests, columns, {name: each.theirs for name, each in forms.items()})


def digest(content: Content, draft: Snapshot, monitor: Monitor) -> Mapping[str, TableDigest]:
    """Digest what a draft holds, in the same forms. Reads only."""
    return {
        name: contents.digest(
            draft,
            replace(contents.whole_rows(draft.catalog.tables[name], content.columns[name]), forms=forms),
            monitor,
        )
        for name, forms in content.forms.items()
    }


def _pair(rows: Rows, snapshot: Snapshot, copy: Snapshot) -> _Table:
    entry, there = snapshot.catalog.tables[rows.table], copy.catalog.tables[rows.table]
    engine = snapshot.place.backend.name
    canonical, conversions = [], []
    for name in rows.columns:
        if name not in there.stored:
            raise SourceError(
                f"{dotted(rows.table, (name,))}: the target has no such column",
                hint="its schema is another one; the check of the schema tells more",
            )
        mine, its = snapshot.column_type(entry, name), copy.column_type(there, name)
        canonical.append(conversion.canonical_between(engine, mine, its))
        conversions.append(conversion.decide(engine, mine, its))
    return _Table(rows, tuple(canonical), tuple(conversions), engine)


def _digest(
    table: _Table, snapshot: Snapshot, copy: Snapshot, monitor: Monitor, *, relaxed: bool
) -> tuple[TableDigest, TableDigest]:
    forms = table.forms(relaxed=relaxed)
    mine = contents.digest(snapshot, replace(table.rows, forms=forms.ours), monitor)
    whole = contents.whole_rows(copy.catalog.tables[table.rows.table], table.rows.columns)
    return mine, contents.digest(copy, replace(whole, forms=forms.theirs), monitor)


def _count_losses(table: _Table, snapshot: Snapshot) -> Mapping[str, Mapping[str, int]]:
    """Count, on the side that the rows come from, what can't have arrived as it was."""
    found: dict[str, Counter[str]] = {}
    for row in contents.values(snapshot, table.rows):
        for name, value, each in zip(table.rows.columns, row, table.conversions, strict=True):
            if value is None or each is None or each.plain == "any":
                continue
            loss = each.loss(value)
            if loss is not None:
                found.setdefault(dotted(table.rows.table, (name,)), Counter())[loss] += 1
    return {column: dict(counts) for column, counts in found.items()}


def _locate(
    table: _Table, snapshot: Snapshot, copy: Snapshot, monitor: Monitor, *, contains: bool
) -> Discrepancies:
    forms, entry = table.forms(relaxed=True), snapshot.catalog.tables[table.rows.table]
    further = replace(contents.whole_rows(entry), forms=forms.ours) if contains else None
    return discrepancies.locate(
        replace(table.rows, forms=forms.ours),
        entry,
        snapshot,
        copy,
        monitor,
        further=further,
        forms=forms.theirs,
    )
