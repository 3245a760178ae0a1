"""Statements that say by a name that they change another database of the server, or the server itself.

A session can't leave its database, but some statements reach beyond it. Those that name what they change are found in
what a client sends, before the server gets it; what a function or a computed statement does is not seen.
"""

import re
from collections.abc import Iterator

_QUERY, _PARSE = b"Q", b"P"
MOST_BYTES = 1 << 20
"""Of a statement that is looked at; longer ones hold data."""
_HEAD = 5

_SILENT = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | \b[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*'""", re.VERBOSE | re.DOTALL
)
"""What is no part of a statement's wording. The body of a function, between dollars, is."""
_NAME = r'("(?:[^"]|"")+"|[^\W\d][\w$]*)'
_DATABASE = re.compile(
    rf"""
    \b(?:
        (?:ALTER|DROP|CREATE) \s+ DATABASE
        | COMMENT \s+ ON \s+ DATABASE
        | (?:CREATE|CONNECT|TEMP|TEMPORARY|ALL|PRIVILEGES) \s+ ON \s+ DATABASE
        | IN \s+ DATABASE
    )
    \s+ (?:IF \s+ (?:NOT \s+)? EXISTS \s+)? {_NAME}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SERVER = re.compile(r"\bALTER\s+SYSTEM\s+(?:SET|RESET)\b", re.IGNORECASE)
_NO_NAMES = frozenset("to from is using for set reset type drop cascade restrict and or not".split())  # noqa: SIM905
"""Words that follow the name of a table or a column that is called `database`."""


def find(statement: str, database: str) -> str | None:
    """Say what of a statement reaches beyond `database`; None if nothing does."""
    words = _SILENT.sub(" ' ", statement)
    if _SERVER.search(words):
        return "the server's settings would be changed"
    for name in map(_folded, _DATABASE.findall(words)):
        if name not in ("", database):
            return f"the database {name} would be changed by a statement"
    return None


def _folded(name: str) -> str:
    """Return a name as the server understands it; nothing for a word that is none."""
    if name.startswith('"'):
        return name[1:-1].replace('""', '"')
    return "" if name.lower() in _NO_NAMES else name.lower()


class Lookout:
    """Reads what one client sends, in pieces of any size."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._head = b""
        self._left = 0
        self._text: bytearray | None = None

    def look(self, data: bytes) -> str | None:
        """Say what reaches beyond the database in statements that end within `data`; None if nothing does."""
        for statement in self._statements(data):
            found = find(statement, self._database)
            if found is not None:
                return found
        return None

    def _statements(self, data: bytes) -> Iterator[str]:
        at = 0
        while at < len(data):
            if not self._left:
                missing = _HEAD - len(self._head)
                self._head += data[at : at + missing]
                at += missing
                if len(self._head) < _HEAD:
                    return
                self._left = max(0, int.from_bytes(self._head[1:]) - 4)
                self._text = bytearray() if self._head[:1] in (_QUERY, _PARSE) else None
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._text is not None:
                self._text += piece[: MOST_BYTES - len(self._text)]
            if not self._left:
                yield from self._finished()

    def _finished(self) -> Iterator[str]:
        kind, text = self._head[:1], self._text
        self._head, self._text = b"", None
        if text is not None:
            strings = bytes(text).split(b"\0")
            yield strings[1 if kind == _PARSE and len(strings) > 1 else 0].decode(errors="replace")
