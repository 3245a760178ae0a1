"""Expressions and queries as the server prints them, spelled so that what means the same reads the same.

The server prints what it has parsed, never what was written. Yet what it prints depends on how that came to be: a list
that was restored from a dump has its casts in other places, a condition has other brackets, and a query of one table
names it before each column up to PostgreSQL 15. Each rule here takes away one such difference, and says which.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

_TOKEN = re.compile(
    r"""
    (?P<gap>(?:\s+|--[^\n]*|/\*.*?\*/)+)
    | [Ee]'(?:[^'\\]|\\.|'')*'
    | (?:[Uu]&|[BbXxNn])?'(?:[^']|'')*'
    | (?:[Uu]&)?"(?:[^"]|"")*"
    | (?P<dollars>\$(?:[^\W\d]\w*)?\$).*?(?P=dollars)
    | [^\W\d][\w$]*
    | \$?\d[\w.]*
    | ::|:=
    | [-+*/<>=~!@\#%^&|`?]+
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {"(": ")", "[": "]"}
_PAIRS = {"character": "varying", "bit": "varying", "double": "precision"}
_TEXTS = frozenset({"text", "character varying"})
_TEXT = "text"
_CLAUSES = frozenset({"WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR"})
_UNIONS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
_QUERIES = frozenset({"SELECT", "WITH", "VALUES"})
_NULL_DEFAULT = re.compile(r"NULL(?:::.+)?\Z", re.DOTALL)
_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric"})
_FAMILIES = (_TEXTS | {"character", "bpchar"}, _NUMBERS, frozenset({"json", "jsonb"}))
_LITERAL = re.compile(
    r"(?P<value>E?'(?:[^']|'')*'|-?[\d.]+)(?:::(?P<type>[^()\[\]]+?)(?:\(.*\))?)?\Z", re.DOTALL
)
_NUMBER = re.compile(r"'(-?\d+(?:\.\d+)?)'\Z")


@dataclass(frozen=True)
class Token:
    """A word, a literal, an operator or a mark; `spaced` if there is a gap before it."""

    text: str
    spaced: bool = False


@dataclass(frozen=True)
class Group:
    """What stands between brackets."""

    opening: str
    nodes: tuple["Node", ...]
    spaced: bool = False


Node = Token | Group


# --- reading and writing ---


def tokens(text: str) -> Iterator[Token]:
    """Split a text as the server does; comments are gaps."""
    spaced = False
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "gap":
            spaced = True
        else:
            yield Token(match.group(), spaced)
            spaced = False


def parse(text: str) -> tuple[Node, ...]:
    """Read a text with its brackets; one that closes nothing is a mark like any other."""
    stack: list[tuple[Token, list[Node]]] = [(Token(""), [])]
    for token in tokens(text):
        opening, nodes = stack[-1]
        if token.text in _CLOSING:
            stack.append((token, []))
        elif token.text == _CLOSING.get(opening.text):
            stack.pop()
            stack[-1][1].append(Group(opening.text, tuple(nodes), opening.spaced))
        else:
            nodes.append(token)
    while len(stack) > 1:
        opening, nodes = stack.pop()
        stack[-1][1].extend([opening, *nodes])
    return tuple(stack[0][1])


def spell(nodes: Iterable[Node]) -> str:
    """Write what was read, with one space for each gap."""
    return "".join(_pieces(nodes)).strip()


def _pieces(nodes: Iterable[Node]) -> Iterator[str]:
    for position, node in enumerate(nodes):
        if node.spaced and position:
            yield " "
        if isinstance(node, Token):
            yield node.text
        else:
            yield node.opening
            yield from _pieces(node.nodes)
            yield _CLOSING[node.opening]


def split(nodes: Iterable[Node], mark: str) -> list[tuple[Node, ...]]:
    """Split at a mark that stands in no brackets of its own."""
    parts: list[list[Node]] = [[]]
    for node in nodes:
        if isinstance(node, Token) and node.text == mark:
            parts.append([])
        else:
            parts[-1].append(node)
    return [tuple(part) for part in parts]


def _word(nodes: Sequence[Node], position: int) -> str:
    node = nodes[position] if 0 <= position < len(nodes) else None
    return node.text if isinstance(node, Token) else ""


# --- what a user of this module asks for ---


@lru_cache(maxsize=4096)
def expression(text: str, textual: frozenset[str] = frozenset()) -> str:
    """Spell an expression in one way. `textual` are the columns, as the server spells them, that are text already."""
    nodes = simplify(parse(text), textual)
    while len(nodes) == 1 and isinstance(nodes[0], Group) and nodes[0].opening == "(":
        nodes = nodes[0].nodes
    return spell(nodes)


def query(text: str, *, prefixed: bool = False) -> str:
    """Spell a query in one way. `prefixed`: it comes from a server that names an only table before each column."""
    nodes = simplify(parse(text.strip().removesuffix(";")), frozenset())
    nodes = _without_alias(nodes)
    return spell(_without_prefix(nodes) if prefixed else nodes)


def program(text: str) -> str:
    """Spell the text of a function without its layout and comments."""
    return " ".join(token.text for token in tokens(text))


def unordered(text: str) -> str:
    """Spell a list in one way whose order means nothing."""
    return ", ".join(sorted(map(spell, split(simplify(parse(text), frozenset()), ","))))


def default(text: str | None, kind: str, *, domain: bool = False) -> str:
    """Spell a default in one way: `'0'::bigint` of a bigint is 0, and NULL is none but in a domain, whose own it hides.

    A literal keeps the type that its column had when it got it, so a column that was widened later shows it.
    """
    if text is None or (not domain and _NULL_DEFAULT.match(text)):
        return "(none)"
    spelled = expression(text)
    literal = _LITERAL.match(spelled)
    if literal is None or not _taken_alike(literal["type"], _bare(kind)):
        return spelled
    number = (
        _NUMBER.match(literal["value"]) if _bare(kind) in _NUMBERS | {"double precision", "real"} else None
    )
    return number[1] if number else literal["value"]


def _bare(kind: str) -> str:
    return re.sub(r"\(.*?\)", "", kind)


def _taken_alike(written: str | None, kind: str) -> bool:
    """A literal of one type is in a column of the other what it would be if written for it."""
    if written is None or written == kind:
        return True
    return any(written in family and kind in family for family in _FAMILIES)


# --- the rules ---


def simplify(nodes: Sequence[Node], textual: Collection[str]) -> tuple[Node, ...]:
    """Apply the rules that hold for expressions wherever they stand."""
    inner = [
        replace(node, nodes=simplify(node.nodes, textual)) if isinstance(node, Group) else node
        for node in nodes
    ]
    made: list[Node] = []
    position = 0
    while position < len(inner):
        if _word(inner, position + 1) == "::":
            kind, end = _type(inner, position + 2)
            made.extend(_cast(inner[position], kind, tuple(inner[position + 1 : end]), textual))
            position = end
        else:
            made.append(_flat(inner[position]))
            position += 1
        while (
            _word(inner, position) == "::"
        ):  # a cast of a cast without brackets: printed for none but literals
            made.append(inner[position])
            position += 1
    return tuple(made)


def _type(nodes: Sequence[Node], start: int) -> tuple[str, int]:
    """Read the name of a type; return it and where it ends."""
    end = start + 1
    if _PAIRS.get(_word(nodes, start)) == _word(nodes, end) != "":
        end += 1
    while _word(nodes, end) == ".":
        end += 2
    end = _past_length(nodes, end)
    if _word(nodes, end) in {"with", "without"} and _word(nodes, end + 1) == "time":
        end += 3
    while end < len(nodes) and nodes[end] == Group("[", ()):
        end += 1
    return spell(nodes[start:end]), end


def _past_length(nodes: Sequence[Node], end: int) -> int:
    node = nodes[end] if end < len(nodes) else None
    return end + 1 if isinstance(node, Group) and node.opening == "(" and not node.spaced else end


def _cast(value: Node, kind: str, rest: tuple[Node, ...], textual: Collection[str]) -> Iterable[Node]:
    """Spell `value::kind`, where `rest` is the cast."""
    inside = value.nodes if isinstance(value, Group) and value.opening == "(" else ()
    if kind.endswith("[]") and (array := _array(inside)) is not None:
        group = _pushed(array, kind.removesuffix("[]"), textual)
        return (Token("ARRAY", value.spaced), group)
    if kind in _TEXTS:
        # That a varchar is text is said or not depending on what the column was when the condition was written.
        if isinstance(value, Token) and value.text.endswith("'"):
            return (value, Token("::"), Token(_TEXT))
        if len(inside) == 1 and _word(inside, 0) in textual:
            return (replace(inside[0], spaced=value.spaced),)
        if len(inside) == 3 and _word(inside, 0).endswith("'") and _word(inside, 2) == _TEXT:  # noqa: PLR2004
            return (replace(inside[0], spaced=value.spaced), *inside[1:])
    return (_flat(value), *rest)


def _array(nodes: Sequence[Node]) -> Group | None:
    """Return what stands in the brackets of ARRAY[...]."""
    group = nodes[1] if len(nodes) == 2 and _word(nodes, 0) == "ARRAY" else None  # noqa: PLR2004
    return group if isinstance(group, Group) else None


def _pushed(array: Group, kind: str, textual: Collection[str]) -> Group:
    """Cast an array's elements: when a dump is restored, the cast of the whole becomes one of each."""
    elements: list[Node] = []
    for number, part in enumerate(split(array.nodes, ",")):
        if number:
            elements.append(Token(","))
        inner = _array(part)
        if inner is not None:
            elements += [Token("ARRAY", bool(number)), _pushed(inner, kind, textual)]
        else:
            cast = (Group("(", part, bool(number)), Token("::"), *parse(kind))
            elements.extend(simplify(cast, textual))
    return replace(array, nodes=tuple(elements))


def _flat(node: Node) -> Node:
    """Take brackets away that only say in which order conditions were joined: BETWEEN has them until it is restored."""
    if not isinstance(node, Group) or node.opening != "(":
        return node
    for word in ("AND", "OR"):
        parts = split(node.nodes, word)
        if len(parts) > 1:
            joined = [piece for part in parts for piece in _joined(part, word)]
            spread: list[Node] = list(joined[0])
            for part in joined[1:]:
                spread += [Token(word, spaced=True), *part]
            return replace(node, nodes=tuple(spread))
    return node


def _joined(part: tuple[Node, ...], word: str) -> list[tuple[Node, ...]]:
    inside = part[0] if len(part) == 1 else None
    if isinstance(inside, Group) and inside.opening == "(":
        parts = split(inside.nodes, word)
        if len(parts) > 1:
            return [(replace(first, spaced=True), *others) for first, *others in parts]
    return [part]


# --- the tables of a query ---


def _without_alias(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """A table that is given its own name as another one is printed with both."""
    made: list[Node] = []
    for position, node in enumerate(nodes):
        if isinstance(node, Group):
            made.append(replace(node, nodes=_without_alias(node.nodes)))
        elif not (
            node.spaced and node.text == _word(nodes, position - 1) and _word(nodes, position - 2) == "."
        ):
            made.append(node)
    return tuple(made)


def _without_prefix(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Print columns of an only table as PostgreSQL 16 and later do: without its name."""
    words = [_word(nodes, position) for position in range(len(nodes))]
    if "FROM" not in words or _UNIONS & {*words}:
        return tuple(nodes)
    start = words.index("FROM") + 1
    end = next((at for at in range(start, len(nodes)) if words[at] in _CLAUSES), len(nodes))
    if {"JOIN", ","} & {*words[start:end]}:
        return tuple(nodes)
    named = words.index("TABLESAMPLE") if "TABLESAMPLE" in words[start:end] else end
    alias = words[named - 1] or words[named - 2]
    return (*_bared(nodes[:start], alias), *nodes[start:end], *_bared(nodes[end:], alias))


def _bared(nodes: Sequence[Node], alias: str) -> tuple[Node, ...]:
    made: list[Node] = []
    position = 0
    while position < len(nodes):
        node = nodes[position]
        if isinstance(node, Group):
            inside = node.nodes if _word(node.nodes, 0) in _QUERIES else _bared(node.nodes, alias)
            made.append(replace(node, nodes=inside))
        elif node.text == alias and _is_column(nodes, position):
            made.append(replace(nodes[position + 2], spaced=node.spaced))
            position += 2
        else:
            made.append(node)
        position += 1
    return tuple(made)


def _is_column(nodes: Sequence[Node], position: int) -> bool:
    """What follows the name of a schema is a function, a type or a collation."""
    if _word(nodes, position + 1) != "." or _word(nodes, position + 2) in {"", "*"}:
        return False
    after = nodes[position + 3] if position + 3 < len(nodes) else None
    called = isinstance(after, Group) and after.opening == "(" and not after.spaced
    return not called and _word(nodes, position - 1) not in {"::", "COLLATE", "."}
