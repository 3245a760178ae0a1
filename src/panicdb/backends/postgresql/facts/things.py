"""Things: the objects of a schema with their facts, and how both are called."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from panicdb.backends.postgresql.names import table_name
from panicdb.values import Fact, quote_name


@dataclass(frozen=True)
class Thing:
    """An object of the schema with its facts by property."""

    name: str
    facts: Mapping[str, Fact]


def thing(
    name: str,
    facts: Mapping[str, Fact] | None = None,
    *,
    within: str | None = None,
    demands: Iterable[str] = (),
) -> Thing:
    """Make a thing; its existence is a fact as well."""
    existence = Fact("present", demands=frozenset(demands), within=within)
    return Thing(name, {"existence": existence, **(facts or {})})


def fact(value: str, *demands: str, shown: str | None = None) -> Fact:
    """Make a fact."""
    return Fact(value, shown, frozenset(demands)) if demands or shown else _plain(value)


@lru_cache(maxsize=1024)
def _plain(value: str) -> Fact:
    """Most facts of a schema are the same few."""
    return Fact(value)


def flag(*, on: bool) -> Fact:
    """Make a fact of yes or no."""
    return _plain("yes" if on else "no")


def unusual(facts: Mapping[str, Fact], usual: Mapping[str, str]) -> dict[str, Fact]:
    """Leave out what is as it usually is: properties that few objects have, and that demand nothing of rows then."""
    return {aspect: known for aspect, known in facts.items() if usual.get(aspect) != known.value}


def listed(parts: Iterable[str] | None) -> str:
    """Spell a list whose order means nothing."""
    return ", ".join(sorted(parts or ())) or "(none)"


def label(schema: str, name: str) -> str:
    """Name a table, or whatever else lives in a schema, as links and options do, quoted where it must be."""
    spelled = table_name(schema, name)
    return spelled if "." in spelled else quote_name(spelled)


def columns(names: Iterable[str]) -> str:
    """Spell a list of columns in its order."""
    return ", ".join(map(quote_name, names))


def numbered(things: Iterable[Thing]) -> Iterator[Thing]:
    """Tell things of one name apart by a number that does not depend on the order in which they were made."""
    groups: defaultdict[str, list[Thing]] = defaultdict(list)
    for each in things:
        groups[each.name].append(each)
    for name, group in groups.items():
        for number, each in enumerate(_in_order(group), start=1):
            yield each if number == 1 else replace(each, name=f"{name} ({number})")


def _in_order(group: Sequence[Thing]) -> Sequence[Thing]:
    return group if len(group) == 1 else sorted(group, key=_facts_as_text)


def _facts_as_text(each: Thing) -> list[tuple[str, str]]:
    return sorted((aspect, str(known.value)) for aspect, known in each.facts.items())
