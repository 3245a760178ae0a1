"""Two schemas compared, as values. Nothing here knows an engine, a database or a connection."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from panicdb.values import Fact, Facts, quote_name


class Severity(StrEnum):
    """What a difference means for the rows of the source, gravest first."""

    BLOCKING = "blocking"
    """Rows of the source may not fit into the target."""
    SEMANTIC = "semantic"
    """All rows fit, but the target behaves or performs differently."""
    COSMETIC = "cosmetic"
    """Only a name differs."""


@dataclass(frozen=True)
class Difference:
    """One property that differs; a value of None: that side does not have it."""

    severity: Severity
    object: str
    property: str
    source_value: str | None
    target_value: str | None

    def __str__(self) -> str:
        """Say it in one line."""
        return self.describe("the source", "the target")

    def describe(self, source: str, target: str) -> str:
        """Say it in one line, with names for both sides; values are cut around the place where they begin to differ."""
        if self.property == EXISTENCE:
            missing = self.target_value is None
            return f"{self.object}: {'missing in' if missing else 'only in'} {target}"
        ours, theirs = _excerpts(self.source_value or "(absent)", self.target_value or "(absent)")
        return f"{self.object}: {self.property} is {ours} in {source}, {theirs} in {target}"


EXISTENCE = "existence"

_NAMES = frozenset({"name", "constraint names", "extension version"})
"""Properties that only name something; and what the server brings along, which no definition asks for."""
_ROWS = ("table ", "column ", "virtual table ", "label ")
"""Kinds of objects that hold rows or parts of them, or that a value can be."""
_RENAMEABLE = ("index ",)
"""Kinds of objects that do the same under any name."""
_AT_MOST = re.compile(r"at most (-?\d+): (.*)", re.DOTALL)
"""See `values.at_most`."""
_WIDTH = 60


def compare(source: Facts, target: Facts) -> tuple[Difference, ...]:
    """Return what differs, gravest first; nothing where the schemas are equal. Reads no database.

    What belongs to a table that one side lacks is not reported apart from it.
    """
    renamed = dict(_renamed(source, target))
    comparison = _Comparison(source, target)
    differences = [
        *(_rename(old, new) for old, new in renamed.items()),
        *comparison.one_sided({*renamed.keys(), *renamed.values()}),
        *comparison.changed(),
    ]
    return tuple(sorted(differences, key=_gravest_first))


def without_tables(facts: Facts, tables: Iterable[str]) -> Facts:
    """Return the facts without those of some tables, and of what belongs to them."""
    left_out = {each for name in tables for each in _objects_called(name)}
    gone = {
        name
        for (name, aspect), fact in facts.items()
        if aspect == EXISTENCE and (name in left_out or fact.within in left_out)
    }
    return {key: fact for key, fact in facts.items() if key[0] not in gone}


def has_table(facts: Facts, name: str) -> bool:
    """Tell whether there is a table of this name."""
    return any((each, EXISTENCE) in facts for each in _objects_called(name))


def _objects_called(table: str) -> tuple[str, str]:
    """The name of a table in another schema is quoted in its parts already."""
    return f"table {table}", f"table {quote_name(table)}"


def _gravest_first(difference: Difference) -> tuple[int, str, str]:
    return list(Severity).index(difference.severity), difference.object, difference.property


class _Comparison:
    def __init__(self, source: Facts, target: Facts) -> None:
        self._source = source
        self._target = target
        self._known = frozenset[str]().union(*(fact.demands for fact in source.values()))
        self._bounds: dict[str, int] = {}
        for what, bound in _bounds(self._known):
            self._bounds[what] = min(bound, self._bounds.get(what, bound))

    def one_sided(self, except_for: Iterable[str]) -> Iterator[Difference]:
        """Yield objects that one side lacks, without those that go with a table."""
        lacking = _objects(self._source) ^ _objects(self._target)
        for name in lacking.difference(except_for):
            source, target = (facts.get((name, EXISTENCE)) for facts in self._sides)
            present = source or target
            if present is None or present.within in lacking:
                continue
            yield self._difference(name, EXISTENCE, source, target)

    def changed(self) -> Iterator[Difference]:
        """Yield properties that differ of objects that both sides have."""
        common = _objects(self._source) & _objects(self._target)
        for key in {*self._source, *self._target}:
            if key[0] in common:
                source, target = _common_order(self._source.get(key), self._target.get(key))
                if _value(source) != _value(target):
                    yield self._difference(*key, source, target)

    @property
    def _sides(self) -> tuple[Facts, Facts]:
        return self._source, self._target

    def _difference(self, name: str, aspect: str, source: Fact | None, target: Fact | None) -> Difference:
        severity = self._severity(name, aspect, target)
        return Difference(severity, name, aspect, _shown(source), _shown(target))

    def _severity(self, name: str, aspect: str, target: Fact | None) -> Severity:
        if target is None and aspect == EXISTENCE and name.startswith(_ROWS):
            return Severity.BLOCKING
        if target is not None and not self._meets(target.demands - self._known):
            return Severity.BLOCKING
        return Severity.COSMETIC if aspect in _NAMES else Severity.SEMANTIC

    def _meets(self, demands: frozenset[str]) -> bool:
        """Tell whether the source keeps within narrower bounds than each of these."""
        met = [what for what, bound in _bounds(demands) if self._bounds.get(what, bound + 1) <= bound]
        return len(met) == len(demands)


def _bounds(demands: Iterable[str]) -> Iterator[tuple[str, int]]:
    for match in filter(None, map(_AT_MOST.fullmatch, demands)):
        yield match[2], int(match[1])


def _objects(facts: Facts) -> set[str]:
    return {name for name, aspect in facts if aspect == EXISTENCE}


def _value(fact: Fact | None) -> str | tuple[str, ...] | None:
    return None if fact is None else fact.value


def _shown(fact: Fact | None) -> str | None:
    if fact is None:
        return None
    value = fact.value if isinstance(fact.value, str) else ", ".join(fact.value)
    return fact.shown or value


def _common_order(source: Fact | None, target: Fact | None) -> tuple[Fact | None, Fact | None]:
    """Cut two orders down to what both hold: that something is missing is another difference."""
    if source is None or target is None:
        return source, target
    if isinstance(source.value, str) or isinstance(target.value, str):
        return source, target
    common = set(source.value) & set(target.value)
    return _within(source.value, common), _within(target.value, common)


def _within(order: tuple[str, ...], common: set[str]) -> Fact:
    return Fact(tuple(name for name in order if name in common))


def _renamed(source: Facts, target: Facts) -> Iterator[tuple[str, str]]:
    """Pair objects of which each side has one that differ in nothing but their name."""
    lost = _by_content(source, _objects(source) - _objects(target))
    found = _by_content(target, _objects(target) - _objects(source))
    for content, names in lost.items():
        yield from zip(names, found.get(content, ()), strict=False)


_Content = frozenset[tuple[str, str | tuple[str, ...] | None]]


def _by_content(facts: Facts, names: Iterable[str]) -> Mapping[_Content, list[str]]:
    groups: dict[_Content, list[str]] = {}
    contents = _contents(facts)
    for name in sorted(names):
        if name.startswith(_RENAMEABLE):
            groups.setdefault(contents[name], []).append(name)
    return groups


def _contents(facts: Facts) -> Mapping[str, _Content]:
    collected: dict[str, set[tuple[str, str | tuple[str, ...] | None]]] = {}
    for (name, aspect), fact in facts.items():
        collected.setdefault(name, set()).add((aspect, fact.value))
    return {name: frozenset(content) for name, content in collected.items()}


def _rename(old: str, new: str) -> Difference:
    names = (text.partition(" ")[2] for text in (old, new))
    return Difference(Severity.COSMETIC, old, "name", *names)


def _excerpts(source: str, target: str) -> tuple[str, str]:
    agree = next(
        (at for at, (one, other) in enumerate(zip(source, target, strict=False)) if one != other),
        min(len(source), len(target)),
    )
    return _excerpt(source, agree), _excerpt(target, agree)


def _excerpt(text: str, around: int) -> str:
    if len(text) <= _WIDTH:
        return text
    start = max(0, around - _WIDTH // 3)
    end = start + _WIDTH
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
