"""The link graph: which links there are, what each does, and in which order they are followed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from panicdb.errors import SelectionError, UsageError
from panicdb.values import Catalog, CatalogTable, Kind, Link, LinkOption, Policy, Selection, dotted

POLICY_WORDS = ("follow", "null", "drop", "refuse", "leave")
"""`leave` is for virtual links: parents bring children, but a reference may lead out, or nowhere, and stays."""


@dataclass(frozen=True)
class Edge:
    """A link as it is walked: down from parent to child, or up from child to parent."""

    number: int
    link: Link
    down: bool

    @property
    def origin(self) -> str:
        """The table that rows are known of."""
        return self.link.parent if self.down else self.link.child

    @property
    def goal(self) -> str:
        """The table that rows are found in."""
        return self.link.child if self.down else self.link.parent


@dataclass(frozen=True)
class Graph:
    """All links of a catalog, declared and virtual, with their policies; a link's number is its place."""

    links: tuple[Link, ...]
    policies: Mapping[Link, Policy]
    excluded: frozenset[str]
    broken: frozenset[Link]
    """Links whose parent table or columns do not exist: every reference over them dangles."""

    def policy(self, link: Link) -> Policy:
        """Return what a link does."""
        return self.policies.get(link, Policy())

    def down_edges(self) -> tuple[Edge, ...]:
        """Return the links that bring children to owned rows."""
        return tuple(
            Edge(number, link, down=True)
            for number, link in enumerate(self.links)
            if self.policy(link).down and self._walkable(link)
        )

    def up_edges(self) -> tuple[Edge, ...]:
        """Return the links that bring parents."""
        return tuple(
            Edge(number, link, down=False)
            for number, link in enumerate(self.links)
            if self.policy(link).up in ("follow", "refuse") and self._walkable(link)
        )

    def with_up(self, *words: str) -> tuple[tuple[int, Link], ...]:
        """Return the links whose upward policy is one of `words`, numbered."""
        return tuple(
            (number, link) for number, link in enumerate(self.links) if self.policy(link).up in words
        )

    def _walkable(self, link: Link) -> bool:
        return link not in self.broken and not {link.child, link.parent} & self.excluded


def build_graph(catalog: Catalog, selection: Selection) -> Graph:
    """Match the selection's link options with a catalog. Raises SelectionError naming what does not exist."""
    for name in (*selection.exclude, *selection.whole):
        find_table(catalog, name)
    virtual: list[Link] = []
    policies: dict[Link, Policy] = {}
    for option in selection.links:
        link = _find_link(catalog, option)
        if link.virtual and link not in virtual:
            virtual.append(link)
        policies[link] = option.policy
    ordinary = {table.name for table in catalog.ordinary()}
    links = tuple(link for link in dict.fromkeys((*catalog.links, *virtual)) if link.child in ordinary)
    graph = Graph(
        links,
        policies,
        frozenset(find_table(catalog, name).name for name in selection.exclude),
        frozenset(link for link in links if not _resolves(catalog, link)),
    )
    for link, policy in policies.items():
        if policy.up == "null":
            _check_nullable(catalog, graph, link)
        if policy.up == "leave" and not link.virtual:
            raise SelectionError(
                f"policy leave can't be used on {link}: it is a foreign key of the schema, and would be violated",
                hint="use null, drop, follow or refuse; leave is for links declared with ->",
            )
    return graph


def find_table(catalog: Catalog, name: str) -> CatalogTable:
    """Return an ordinary table by its name, exactly or but for case. Raises SelectionError."""
    ordinary = {table.name: table for table in catalog.ordinary()}
    if name in ordinary:
        return ordinary[name]
    alike = [table for table in ordinary.values() if table.name.casefold() == name.casefold()]
    if len(alike) == 1:
        return alike[0]
    known = catalog.tables.get(name)
    if known is not None and known.kind is not Kind.ORDINARY:
        raise SelectionError(
            f"{name!r} is a {known.kind} table: its rows are not selected",
            hint="tables: " + ", ".join(sorted(ordinary)),
        )
    raise SelectionError(
        f"there is no table {name!r} in the source",
        hint="tables: " + ", ".join(sorted(ordinary)),
    )


def _resolves(catalog: Catalog, link: Link) -> bool:
    parent = catalog.tables.get(link.parent)
    return (
        parent is not None
        and parent.kind is Kind.ORDINARY
        and all(column in parent.table.c for column in link.parent_columns)
    )


def _find_link(catalog: Catalog, option: LinkOption) -> Link:
    child = find_table(catalog, option.child)
    columns = tuple(_find_column(child, name) for name in option.child_columns)
    found = [
        link
        for link in catalog.links
        if link.child == child.name and sorted(link.child_columns) == sorted(columns)
    ]
    if option.parent is not None:
        return _find_exact(catalog, option, found, child.name, columns)
    for candidates in ([link for link in found if link.child_columns == columns], found):
        if len(candidates) == 1:
            return candidates[0]
    own = [str(link) for link in (found or catalog.links) if link.child == child.name]
    if not found:
        raise SelectionError(
            f"{dotted(child.name, columns)} is no foreign key",
            hint=f"links of {child.name}: {', '.join(own) or 'none'}; "
            "spell CHILD.COL->PARENT.COL=POLICY to declare one",
        )
    raise SelectionError(
        f"{dotted(child.name, columns)} is part of {len(found)} links",
        hint="say which: " + ", ".join(own),
    )


def _find_exact(
    catalog: Catalog, option: LinkOption, found: list[Link], child: str, columns: tuple[str, ...]
) -> Link:
    parent = find_table(catalog, option.parent or "")
    parent_columns = tuple(_find_column(parent, name) for name in option.parent_columns)
    wanted = sorted(zip(columns, parent_columns, strict=True))
    for link in found:
        pairs = sorted(zip(link.child_columns, link.parent_columns, strict=True))
        if link.parent == parent.name and pairs == wanted:
            return link
    return Link(child, columns, parent.name, parent_columns, virtual=True)


def _find_column(table: CatalogTable, name: str) -> str:
    """Exact first, then but for case, as SQL itself finds it."""
    names = [column.name for column in table.table.c if not column.system]
    for candidate in (name, *(other for other in names if other.casefold() == name.casefold())):
        if candidate in names:
            return candidate
    raise SelectionError(
        f"there is no column {name!r} in table {table.name!r}",
        hint="columns: " + ", ".join(names),
    )


def _check_nullable(catalog: Catalog, graph: Graph, link: Link) -> None:
    child = catalog.tables[link.child]
    stored = {*child.stored, *(column.name for column in child.table.c if column.system)}
    key_columns = {column for key in (child.primary_key, *child.unique_keys) for column in key}
    others = {
        column
        for other in graph.links
        if other.child == link.child and other != link
        for column in other.child_columns
    }
    for column in link.child_columns:
        reason = (
            "it is part of a key"
            if column in key_columns
            else "it is part of another link"
            if column in others
            else "a key holds a generated column, which may depend on it"
            if not key_columns <= stored
            else "it is NOT NULL"
            if not child.table.c[column].info["nullable"]
            else "it is generated"
            if column not in child.stored
            else None
        )
        if reason is not None:
            raise SelectionError(
                f"policy null can't be used on {link}: column {column} can't become NULL, {reason}",
                hint="use drop, follow or refuse instead",
            )


# Text of --link


_NAME = r'(?:"(?:[^"]|"")+"|[^\s".,=>-][^".,=>]*)'
_SIDE = rf"{_NAME}\.{_NAME}(?:,{_NAME})*"
_LINK = re.compile(rf"(?P<child>{_SIDE})(?:->(?P<parent>{_SIDE}))?=(?P<policy>[a-z,]+)")
_PART = re.compile(_NAME)


def parse_link(text: str) -> LinkOption:
    """Read `CHILD.COL[,COL][->PARENT.COL[,COL]]=POLICY[,POLICY]`. Raises UsageError."""
    match = _LINK.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"can't read the link {text!r}",
            hint="CHILD.COL[,COL][->PARENT.COL[,COL]]=POLICY; names with other characters in double quotes",
        )
    child, child_columns = _split(match["child"])
    parent, parent_columns = _split(match["parent"]) if match["parent"] else (None, ())
    if parent is not None and len(parent_columns) != len(child_columns):
        raise UsageError(
            f"the link {text!r} pairs {len(child_columns)} columns with {len(parent_columns)}",
            hint="name as many columns on both sides",
        )
    return LinkOption(child, child_columns, parent, parent_columns, _parse_policy(match["policy"]))


def _split(side: str) -> tuple[str, tuple[str, ...]]:
    table, *columns = (_unquote(name) for name in _PART.findall(side))
    return table, tuple(columns)


def _unquote(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.strip()


def _parse_policy(text: str) -> Policy:
    words = text.split(",")
    upward = [word for word in words if word in POLICY_WORDS]
    if len(upward) > 1 or any(word not in (*POLICY_WORDS, "stay") for word in words):
        raise UsageError(
            f"can't read the policy {text!r}",
            hint=f"one of {', '.join(POLICY_WORDS)}, and `stay` where owned parents shall not bring children",
        )
    up = upward[0] if upward else "follow"
    return Policy(down="stay" not in words, up=up)  # type: ignore[arg-type]  # checked above


# Order


def components(edges: Sequence[Edge]) -> Iterable[tuple[str, ...]]:
    """Yield the strongly connected groups of tables, those that others are reached from first.

    Kosaraju's algorithm (two depth-first searches); iterative, since graphs come from users.
    """
    forward, backward = _adjacency(edges)
    group: dict[str, str] = {}
    for table in reversed(_finishing_order(forward)):
        if table not in group:
            group.update(dict.fromkeys(_reachable(table, backward, set(group)), table))
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for table, name in group.items():
        sorter.add(name, *(group[other] for other in backward[table] if group[other] != name))
    for name in sorter.static_order():
        yield tuple(sorted(table for table, other in group.items() if other == name))


def _adjacency(edges: Sequence[Edge]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    tables = dict.fromkeys(table for edge in edges for table in (edge.origin, edge.goal))
    forward: dict[str, set[str]] = {table: set() for table in tables}
    backward: dict[str, set[str]] = {table: set() for table in tables}
    for edge in edges:
        forward[edge.origin].add(edge.goal)
        backward[edge.goal].add(edge.origin)
    return forward, backward


def _finishing_order(forward: Mapping[str, set[str]]) -> list[str]:
    done: list[str] = []
    seen: set[str] = set()
    for start in forward:
        stack = [(start, iter(sorted(forward[start])))] if start not in seen else []
        seen.add(start)
        while stack:
            table, following = stack[-1]
            new = next((other for other in following if other not in seen), None)
            if new is None:
                done.append(table)
                stack.pop()
            else:
                seen.add(new)
                stack.append((new, iter(sorted(forward[new]))))
    return done


def _reachable(start: str, graph: Mapping[str, set[str]], barred: set[str]) -> set[str]:
    found, stack = {start}, [start]
    while stack:
        for other in graph[stack.pop()]:
            if other not in found and other not in barred:
                found.add(other)
                stack.append(other)
    return found
