"""Read the SQL that SQLite stores: its tokens, and what no PRAGMA tells about a table.

Everything here works on text alone: nothing is executed, nothing is read from a database. Readers
return None for what they can't read, they never raise; a caller then compares whole statements.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase

REMEMBERED = 1024
"""Definitions: a run reads each several times, since a target has the source's."""

Spelling = tuple[str, ...]
"""Normalised tokens: equal only where SQLite reads the same thing."""


class TokenKind(StrEnum):
    """What a token is to SQLite's tokeniser."""

    BLOB = "blob"
    STRING = "string"
    QUOTED = "quoted"
    NUMBER = "number"
    WORD = "word"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Token:
    """One token as it is written."""

    kind: TokenKind
    text: str

    @property
    def symbol(self) -> str:
        """What a grammar looks at: a word in lower case, an operator, or the kind of the rest."""
        if self.kind is TokenKind.WORD:
            return fold(self.text)
        return self.text if self.kind is TokenKind.OPERATOR else f"<{self.kind}>"

    @property
    def name(self) -> str:
        """The name that the token spells, in any of SQLite's quoting styles."""
        if self.kind not in {TokenKind.QUOTED, TokenKind.STRING}:
            return self.text
        closing = "]" if self.text[0] == "[" else self.text[0]
        ends = len(self.text) > 1 and self.text.endswith(closing)
        inner = self.text[1:-1] if ends else self.text[1:]
        return inner if closing == "]" else inner.replace(closing * 2, closing)


_TOKEN = re.compile(
    r"""
      (?P<gap>[ \t\n\f\r\ufeff]+ | --[^\n]* | /\*.*?(?:\*/|\Z))
    | (?P<blob>[xX]'[^']*(?:'|\Z))
    | (?P<string>'[^']*(?:''[^']*)*(?:'|\Z))
    | (?P<quoted>"[^"]*(?:""[^"]*)*(?:"|\Z) | `[^`]*(?:``[^`]*)*(?:`|\Z) | \[[^\]]*(?:\]|\Z))
    | (?P<number>0[xX][0-9A-Fa-f_]+
        | (?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<operator>->>|->|\|\||<=|>=|<>|!=|==|<<|>>|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_UPPER = str.maketrans(ascii_lowercase, ascii_uppercase)

# Words that a quoted name must not be confused with: bare, they mean something else in its place.
# What SQLite's grammar also reads as a name (key, action, row, ...) is not among them.
_RESERVED_WORDS = """
add all alter and as autoincrement begin between case cast check collate commit constraint
create cross current_date current_time current_timestamp default deferrable delete distinct drop
else end escape except exists false filter foreign from full glob group having in index indexed
inner insert intersect into is isnull join left like limit match natural not nothing notnull
null on or order outer over primary raise references regexp returning right select set table
then to transaction true union unique update using values when where window with
"""
_OTHER_WORDS = """
abort action after always analyze asc attach before by cascade column conflict current database
deferred desc detach do each exclude exclusive explain fail first following for generated groups
if ignore immediate initially instead key last materialized no nulls of offset others partition
plan pragma preceding query range recursive reindex release rename replace restrict rollback row
rows savepoint temp temporary ties trigger unbounded vacuum view virtual without
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())
_KEYWORDS = _RESERVED.union(_OTHER_WORDS.split())


def fold(text: str) -> str:
    """Return `text` as SQLite compares names: ASCII letters in lower case, all others untouched."""
    return text.translate(_LOWER)


def upper(text: str) -> str:
    """Return `text` with ASCII letters in upper case, as collations are shown."""
    return text.translate(_UPPER)


def tokens(sql: str) -> tuple[Token, ...]:
    """Split SQL into tokens, without space and comments; an open literal reaches to the end."""
    return tuple(
        Token(TokenKind(match.lastgroup), match.group())
        for match in _TOKEN.finditer(sql)
        if match.lastgroup and match.lastgroup != "gap"
    )


def expression(written: Sequence[Token], names: Collection[str] = ()) -> Spelling:
    """Normalise an expression that belongs to one table; `names` are its folded column names.

    Case of bare words does not count. In double quotes it counts unless the name is one of `names`,
    because SQLite takes "Foo" for a string where there is no such column.
    """
    return tuple(_expression_token(token, names) for token in _without_parentheses(written))


def _expression_token(token: Token, names: Collection[str]) -> str:
    if token.kind is TokenKind.WORD:
        return fold(token.text)
    if token.kind is not TokenKind.QUOTED:
        return token.text
    folded = fold(token.name)
    certain = token.text[0] != '"' or folded in names
    return _spell(folded if certain else token.name)


def statement(written: Sequence[Token]) -> Spelling:
    """Normalise a statement. Names keep their case: here they may name what a query returns."""
    following = [*(token.text for token in written[1:]), ""]
    previous = ["", *(token.symbol for token in written)]
    return tuple(
        _statement_token(token, call=after == "(" or before == "collate")
        for token, before, after in zip(written, previous, following, strict=False)
    )


def _statement_token(token: Token, *, call: bool) -> str:
    if token.kind is TokenKind.QUOTED:
        return _spell(token.name)
    return token.symbol if call or token.symbol in _KEYWORDS else token.text


def default(sql: str | None) -> Spelling | None:
    """Normalise a column's default as `table_xinfo` gives it; DEFAULT NULL is no default."""
    written = _without_parentheses(tokens(sql or ""))
    if len(written) != 1 or written[0].kind not in {TokenKind.WORD, TokenKind.QUOTED}:
        return expression(written) or None
    only = written[0]
    if only.symbol == "null":
        return None
    if only.symbol in _RESERVED:
        return (only.symbol,)
    # SQLite takes a lone name for a string, whose case counts.
    return ("'" + only.name.replace("'", "''") + "'",)


def type_spelling(sql: str) -> Spelling:
    """Normalise a declared type: space and case don't count."""
    return tuple(fold(token.text) for token in tokens(sql))


def _spell(name: str) -> str:
    plain = _WORD.fullmatch(name) and fold(name) not in _RESERVED
    return name if plain else '"' + name.replace('"', '""') + '"'


def _without_parentheses(written: Sequence[Token]) -> Sequence[Token]:
    """Cut off pairs of parentheses around one whole expression, however many there are."""
    pairs = _pairs(written)
    outer = 0
    while pairs.get(outer) == len(written) - 1 - outer and outer + 1 < len(written) - 1 - outer:
        if written[outer + 1].symbol in {"select", "values", "with"}:
            break
        outer += 1
    return written[outer : len(written) - outer]


def _pairs(written: Sequence[Token]) -> Mapping[int, int]:
    """Find where each parenthesis closes; pairs around a list are left out."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    lists: set[int] = set()
    for position, token in enumerate(written):
        if token.text == "(":
            opened.append(position)
        elif token.text == "," and opened:
            lists.add(opened[-1])
        elif token.text == ")" and opened:
            pairs[opened.pop()] = position
    return {start: end for start, end in pairs.items() if start not in lists}


# --- reading statements ---


class _UnreadableError(Exception):
    """The statement is not written as this reader knows it."""


class _Cursor:
    """A place in a list of tokens."""

    def __init__(self, written: Sequence[Token]) -> None:
        self._written = written
        self._at = 0

    def rest(self) -> Sequence[Token]:
        return self._written[self._at :]

    def peek(self) -> str:
        return self._written[self._at].symbol if self._at < len(self._written) else "<end>"

    def take(self) -> Token:
        if self._at >= len(self._written):
            raise _UnreadableError
        self._at += 1
        return self._written[self._at - 1]

    def accept(self, *symbols: str) -> bool:
        ahead = self._written[self._at : self._at + len(symbols)]
        if [token.symbol for token in ahead] != list(symbols):
            return False
        self._at += len(symbols)
        return True

    def expect(self, *symbols: str) -> None:
        if not self.accept(*symbols):
            raise _UnreadableError

    def choose(self, symbols: Collection[str]) -> str:
        chosen = self.take().symbol
        if chosen not in symbols:
            raise _UnreadableError
        return chosen

    def expect_end(self) -> None:
        if self._at < len(self._written):
            raise _UnreadableError

    def name(self) -> str:
        token = self.take()
        if token.kind not in {TokenKind.WORD, TokenKind.QUOTED, TokenKind.STRING}:
            raise _UnreadableError
        return token.name

    def group(self) -> Sequence[Token]:
        """Take a pair of parentheses; return what is between them."""
        self.expect("(")
        start, depth = self._at, 1
        while depth:
            depth += {"(": 1, ")": -1}.get(self.take().text, 0)
        return self._written[start : self._at - 1]

    def header(self, what: str) -> None:
        """Take CREATE ... `what` ... NAME."""
        self.expect("create")
        while self.peek() in {"temp", "temporary", "unique", "virtual"}:
            self.take()
        self.expect(what)
        self.accept("if", "not", "exists")
        self.name()
        if self.accept("."):
            self.name()


def _items(written: Sequence[Token]) -> list[Sequence[Token]]:
    """Split at the commas that are in no parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in written:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if token.text == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return [*parts]


@dataclass(frozen=True)
class CreateIndex:
    """An index as written: items, without COLLATE, ASC, DESC at their ends; predicate."""

    items: tuple[tuple[Token, ...], ...]
    where: tuple[Token, ...]


def read_index(sql: str) -> CreateIndex | None:
    """Read CREATE INDEX; return None for what can't be read."""
    cursor = _Cursor(tokens(sql))
    try:
        cursor.header("index")
        cursor.expect("on")
        cursor.name()
        items = tuple(tuple(_index_expression(item)) for item in _items(cursor.group()))
        if cursor.peek() != "<end>":
            cursor.expect("where")
    except _UnreadableError:
        return None
    return CreateIndex(items, tuple(cursor.rest()))


def _index_expression(item: Sequence[Token]) -> Sequence[Token]:
    if len(item) > 1 and item[-1].symbol in {"asc", "desc"}:
        item = item[:-1]
    if len(item) > 2 and item[-2].symbol == "collate":  # noqa: PLR2004
        item = item[:-2]
    return item


def body(sql: str, what: str) -> tuple[Token, ...]:
    """Return the tokens after CREATE `what` NAME, or all where the statement starts otherwise."""
    written = tokens(sql)
    cursor = _Cursor(written)
    try:
        cursor.header(what)
    except _UnreadableError:
        return written
    return tuple(cursor.rest())


# --- CREATE TABLE ---


@dataclass(frozen=True)
class Column:
    """What only the DDL tells about a column."""

    name: str
    collation: str = "BINARY"
    generated: Spelling | None = None
    not_null_conflict: str = "ABORT"
    names: tuple[str, ...] = ()
    """Names of constraints that are part of the column: `default df_seed`."""


@dataclass(frozen=True)
class Key:
    """A primary key or unique constraint: its columns, with collations where they are written."""

    columns: tuple[tuple[str, str | None], ...]
    name: str | None = None
    conflict: str = "ABORT"


@dataclass(frozen=True)
class ForeignKey:
    """What only the DDL tells about a foreign key, and enough to recognise it."""

    columns: tuple[str, ...]
    parent: str
    name: str | None = None
    match: str = "SIMPLE"
    deferrable: str = "NOT DEFERRABLE"


@dataclass(frozen=True)
class Check:
    """A check constraint."""

    expression: Spelling
    name: str | None = None


@dataclass(frozen=True)
class CreateTable:
    """A table as written: column and table constraints alike, in the order of the text."""

    columns: tuple[Column, ...]
    primary_key: Key | None
    unique: tuple[Key, ...]
    foreign_keys: tuple[ForeignKey, ...]
    checks: tuple[Check, ...]
    autoincrement: bool


@lru_cache(maxsize=REMEMBERED)
def read_table(sql: str) -> CreateTable | None:
    """Read CREATE TABLE; return None for what can't be read."""
    try:
        return _TableReader(tokens(sql)).read()
    except _UnreadableError:
        return None


def column_collations(sql: str) -> Mapping[str, str]:
    """Return each column's collation, in upper case; nothing for a table that can't be read."""
    table = read_table(sql)
    return {column.name: column.collation for column in table.columns} if table else {}


_TABLE_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign"})
_ACTIONS = ("cascade", "restrict", "set null", "set default", "no action")
_RESOLUTIONS = frozenset({"rollback", "abort", "fail", "ignore", "replace"})


class _TableReader:
    """Collects while it reads; expressions are normalised when all columns are known."""

    def __init__(self, written: Sequence[Token]) -> None:
        self._cursor = _Cursor(written)
        self._columns: list[Column] = []
        self._generated: dict[str, Sequence[Token]] = {}
        self._primary_key: Key | None = None
        self._unique: list[Key] = []
        self._foreign_keys: list[ForeignKey] = []
        self._checks: list[tuple[Sequence[Token], str | None]] = []
        self._autoincrement = False
        self._pending: str | None = None

    def read(self) -> CreateTable:
        cursor = self._cursor
        cursor.header("table")
        cursor.expect("(")
        while not cursor.accept(")"):
            self._definition()
            # SQLite lets one leave out the comma between two table constraints.
            if not cursor.accept(",") and cursor.peek() not in _TABLE_CONSTRAINTS | {")"}:
                raise _UnreadableError
        while cursor.peek() != "<end>":
            self._table_option()
        return self._result()

    def _table_option(self) -> None:
        known = self._cursor.accept("without", "rowid") or self._cursor.accept("strict")
        if not known:
            self._cursor.expect(",")

    def _result(self) -> CreateTable:
        names = {fold(column.name) for column in self._columns}
        return CreateTable(
            tuple(
                replace(column, generated=expression(self._generated[column.name], names))
                if column.name in self._generated
                else column
                for column in self._columns
            ),
            self._primary_key,
            tuple(self._unique),
            tuple(self._foreign_keys),
            tuple(Check(expression(written, names), name) for written, name in self._checks),
            self._autoincrement,
        )

    def _definition(self) -> None:
        self._pending = None
        if self._cursor.peek() not in _TABLE_CONSTRAINTS:
            self._column()
            return
        if self._cursor.accept("constraint"):
            self._pending = self._cursor.name()
        for start, read in _TABLE_READERS.items():
            if self._cursor.accept(*start):
                read(self)
                return
        # A name that nothing follows is allowed, and means nothing.

    def _named(self) -> str | None:
        name, self._pending = self._pending, None
        return name

    def _on_conflict(self) -> str:
        if not self._cursor.accept("on", "conflict"):
            return "ABORT"
        return self._cursor.choose(_RESOLUTIONS).upper()

    # table constraints

    def table_primary_key(self) -> None:
        written = self._cursor.group()
        if written and written[-1].symbol == "autoincrement":
            self._autoincrement = True
            written = written[:-1]
        self._primary_key = Key(_key_columns(written), self._named(), self._on_conflict())

    def table_unique(self) -> None:
        columns = _key_columns(self._cursor.group())
        self._unique.append(Key(columns, self._named(), self._on_conflict()))

    def check(self) -> None:
        self._checks.append((self._cursor.group(), self._named()))
        # Parsed and ignored by SQLite.
        self._on_conflict()

    def table_foreign_key(self) -> None:
        columns = tuple(name for name, _ in _key_columns(self._cursor.group()))
        self._cursor.expect("references")
        self._foreign_key(columns)
        self._deferrable()

    # columns

    def _column(self) -> None:
        self._columns.append(Column(self._cursor.name()))
        self._type()
        while self._cursor.peek() not in {",", ")"} and not self._after_dangling_name():
            self._column_clause()

    def _after_dangling_name(self) -> bool:
        """Take CONSTRAINT NAME if it is next; say whether a definition ends there."""
        if not self._cursor.accept("constraint"):
            return False
        self._pending = self._cursor.name()
        return self._cursor.peek() in {",", ")"}

    def _type(self) -> None:
        typed = False
        while self._cursor.peek() not in _COLUMN_STARTS | {",", ")", "("}:
            self._cursor.name()
            typed = True
        if typed and self._cursor.peek() == "(":
            self._cursor.group()

    def _column_clause(self) -> None:
        if self._deferrable():
            return
        for start, read in _COLUMN_READERS.items():
            if self._cursor.accept(*start):
                read(self)
                return
        raise _UnreadableError

    def _label(self, what: str) -> None:
        """Give a pending name to a constraint that is part of its column."""
        name = self._named()
        if name is not None:
            last = self._columns[-1]
            self._columns[-1] = replace(last, names=(*last.names, f"{what} {name}"))

    def _own_key(self) -> tuple[tuple[str, None]]:
        return ((self._columns[-1].name, None),)

    def not_null(self) -> None:
        self._columns[-1] = replace(self._columns[-1], not_null_conflict=self._on_conflict())
        self._label("not null")

    def null(self) -> None:
        self._on_conflict()
        self._label("null")

    def column_primary_key(self) -> None:
        if self._cursor.peek() in {"asc", "desc"}:
            self._cursor.take()
        conflict = self._on_conflict()
        self._primary_key = Key(self._own_key(), self._named(), conflict)
        if self._cursor.accept("autoincrement"):
            self._autoincrement = True

    def column_unique(self) -> None:
        self._unique.append(Key(self._own_key(), self._named(), self._on_conflict()))

    def default(self) -> None:
        if self._cursor.peek() == "(":
            self._cursor.group()
        elif self._cursor.take().text in {"+", "-"}:
            self._cursor.take()
        self._label("default")

    def collate(self) -> None:
        collation = upper(self._cursor.name())
        self._columns[-1] = replace(self._columns[-1], collation=collation)
        self._label("collate")

    def generated_as(self) -> None:
        self._generated[self._columns[-1].name] = self._cursor.group()
        if self._cursor.peek() in {"stored", "virtual"}:
            self._cursor.take()
        self._label("generated")

    def column_foreign_key(self) -> None:
        self._foreign_key((self._columns[-1].name,))

    # foreign keys

    def _foreign_key(self, columns: tuple[str, ...]) -> None:
        parent = self._cursor.name()
        if self._cursor.peek() == "(":
            self._cursor.group()
        match = "SIMPLE"
        while self._cursor.peek() in {"match", "on"}:
            if self._cursor.accept("match"):
                match = upper(self._cursor.name())
            else:
                self._foreign_key_action()
        self._foreign_keys.append(ForeignKey(columns, parent, self._named(), match))

    def _foreign_key_action(self) -> None:
        self._cursor.expect("on")
        self._cursor.choose({"insert", "update", "delete"})
        if not any(self._cursor.accept(*action.split()) for action in _ACTIONS):
            raise _UnreadableError

    def _deferrable(self) -> bool:
        """Take a DEFERRABLE clause if it is next; it concerns the table's last foreign key."""
        negated = self._cursor.accept("not", "deferrable")
        if not negated and not self._cursor.accept("deferrable"):
            return False
        initially = "immediate"
        if self._cursor.accept("initially"):
            initially = self._cursor.choose({"deferred", "immediate"})
        if self._foreign_keys:
            clause = "NOT DEFERRABLE" if negated else f"DEFERRABLE INITIALLY {initially.upper()}"
            self._foreign_keys[-1] = replace(self._foreign_keys[-1], deferrable=clause)
        return True


def _key_columns(written: Sequence[Token]) -> tuple[tuple[str, str | None], ...]:
    """Read what stands in the parentheses of a key: `a, b COLLATE NOCASE DESC`."""
    return tuple(_key_column(_Cursor(item)) for item in _items(written))


def _key_column(cursor: _Cursor) -> tuple[str, str | None]:
    name = cursor.name()
    collation = upper(cursor.name()) if cursor.accept("collate") else None
    if cursor.peek() in {"asc", "desc"}:
        cursor.take()
    cursor.expect_end()
    return name, collation


_Readers = Mapping[tuple[str, ...], Callable[[_TableReader], None]]
_TABLE_READERS: _Readers = {
    ("primary", "key"): _TableReader.table_primary_key,
    ("unique",): _TableReader.table_unique,
    ("check",): _TableReader.check,
    ("foreign", "key"): _TableReader.table_foreign_key,
}
_COLUMN_READERS: _Readers = {
    ("not", "null"): _TableReader.not_null,
    ("null",): _TableReader.null,
    ("primary", "key"): _TableReader.column_primary_key,
    ("unique",): _TableReader.column_unique,
    ("check",): _TableReader.check,
    ("default",): _TableReader.default,
    ("collate",): _TableReader.collate,
    ("references",): _TableReader.column_foreign_key,
    ("generated", "always", "as"): _TableReader.generated_as,
    ("as",): _TableReader.generated_as,
}
_COLUMN_STARTS = frozenset({"constraint", "deferrable", *(start[0] for start in _COLUMN_READERS)})
