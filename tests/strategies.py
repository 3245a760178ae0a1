"""Random SQLite databases, and random selections from them, for the property tests.

`cases()` draws a `Case`: it creates its SQLite file, spells its selection for the public API, and
states its problem for the oracle. Values of key columns are drawn so that one small function per
link (`comparable`) says exactly which values SQLite itself takes for equal; test_oracle.py proves
that with foreign_key_check.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

from hypothesis import strategies as st

from oracle import Link, Problem

Value = None | int | float | str | bytes


class RawText(bytes):
    """Text that is stored with these bytes, valid UTF-8 or not."""


# --- words and values to draw from ----------------------------------------------------------------

PLAIN_TABLES = "run|step|metric|tag|model"
ODD_TABLES = (
    """Order|odd name|quo"te|it's|naïve|таблица|a.b|select|MixedCase|%s|co:lon|semi;colon"""
    "|[bracket]|back`tick|a->b|x=y|a,b|--|main|rowid|temp|123|🎲|new\nline|index|t.id=drop|values"
)
PLAIN_COLUMNS = "|".join(f"c{number}" for number in range(1, 24))
BARE = frozenset(f"{PLAIN_TABLES}|{PLAIN_COLUMNS}".split("|"))
ODD_COLUMNS = (
    """ID|group|x y|say "no"|o'clock|größe|ключ|p.q|rowid|Primary|%d|:name|?|[b]|`b`|c->d|c=null"""
    "|c,d|UPPER|lower|oid|1st| "
)
TEXTS = (
    *("a", "A", "b", "x y", "it's", "01", "1", "Ünï", 'say "x"', "line\n", "%", "nul\0l", "nul\0m"),
    *("10", "é", "É", "🎲", " a", "", "a "),
)
NUMERALS = ("1", "01", "2", "02", "10", "010", "3", "1.0", "4", "5", "6", "7", "8", "9")
SMALL_INTS = tuple(range(1, 15))
WIDE_INTS = (7, -1, 0, 42, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 100, -7, 5, 6, 9)
BLOBS = (b"a", b"\0", b"\0\1", b"A", b"\xff", b"1", b"", b"ab", b"\xfe\xff", b"'", b"b", b"c", b"d")
NUMBERS = (0, 1, -5, 2**62, 1.5, -0.0, 1e300, float("inf"), 0.1, 3.0)
STRINGS = ("", "x", "it's", '"', "nul\0text", "é🎲", "1", "1.0", " 2", "true", "2020-01-01", "{}")
BYTES = (b"", b"\0\xff", b"text", RawText(b"\xff\xfe"), RawText(b"ok\xc3"))
PAYLOADS = (None, *NUMBERS, *STRINGS, "x" * 40, *BYTES)
PAYLOAD_TYPES = "|TEXT|BLOB|INTEGER|REAL|NUMERIC|BOOLEAN|DATETIME|JSON|UUID"
STRICT_PAYLOADS = {
    "ANY": PAYLOADS,
    "INTEGER": (None, 0, 1, -(2**63), 2**63 - 1),
    "REAL": (None, 0.5, 3.0, -1e-300),
    "TEXT": tuple(value for value in PAYLOADS if value is None or isinstance(value, str | RawText)),
    "BLOB": (None, b"", b"\0\xff"),
}
KEY_TYPES = {
    "int": ("INTEGER", "INT", "BIGINT", "NUMERIC", ""),
    "text": ("TEXT", "VARCHAR(20)", "CHAR(32)", "TEXT", ""),
    "blob": ("BLOB", ""),
}
STRICT_KEY_TYPES = {
    kind: (declared, "ANY") for kind, declared in (("int", "INTEGER"), ("text", "TEXT"), ("blob", "BLOB"))
}
SHAPES = "integer integer autoincrement single composite borrowed single none"


def affinity(declared: str) -> str:
    """Return the affinity that SQLite gives a declared type (ANY: in STRICT tables only)."""
    rules = {"INT": "numeric", "CHAR": "text", "TEXT": "text", "BLOB": "none", "ANY": "none"}
    found = (name for word, name in rules.items() if word in declared)
    return next(found, "numeric" if declared else "none")


def fold(text: str) -> str:
    """Fold case as SQLite's NOCASE does: ASCII letters only."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def quote(name: str, style: str = "double") -> str:
    """Quote a name in SQL, in one of the ways SQLite understands."""
    if style == "bare" and name in BARE:
        return name
    if style == "bracket" and "]" not in name:
        return f"[{name}]"
    if style == "backtick":
        return "`" + name.replace("`", "``") + "`"
    return '"' + name.replace('"', '""') + '"'


# --- what is drawn --------------------------------------------------------------------------------


@dataclass(eq=False)
class Column:
    name: str
    type: str
    kind: str | None = None
    """What its values are, where other links may share the column: int, text or blob."""
    collate: str = ""
    not_null: bool = False
    in_key: bool = False
    generated: str = ""
    clauses: list[str] = field(default_factory=list)

    def comparable(self, value: Value) -> Value:
        """Turn a child's value into what SQLite compares with this column's own values."""
        kind = affinity(self.type)
        if kind == "numeric" and isinstance(value, str) and value.removeprefix("-").isdigit():
            value = int(value)
        elif kind == "text" and isinstance(value, int):
            value = str(value)
        if not isinstance(value, str) or not self.collate:
            return value
        return fold(value) if self.collate == "NOCASE" else value.rstrip(" ")


@dataclass(eq=False)
class Key:
    columns: list[Column]
    primary: bool
    spare: list[tuple[Value, ...]]
    """Values that no row has: what a dangling reference refers to."""


@dataclass(eq=False)
class Table:
    name: str
    first_n: int
    strict: bool
    without_rowid: bool
    columns: list[Column] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    rows: list[dict[str, Value]] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)

    @property
    def stored(self) -> list[str]:
        """Name the columns that hold values of their own."""
        return [column.name for column in self.columns if not column.generated]

    def tuples(self, columns: list[Column]) -> list[tuple[Value, ...]]:
        return [tuple(row[column.name] for column in columns) for row in self.rows]


@dataclass(eq=False)
class DrawnLink:
    child: Table
    columns: list[Column]
    parent: Table
    key: list[Column]
    virtual: bool
    down: bool = True
    up: str = "follow"

    def ends(self) -> tuple[object, ...]:
        return self.child, self.columns, self.parent, self.key

    def comparable(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """Make a child's and a parent's values equal exactly where SQLite takes them for equal."""
        return tuple(column.comparable(value) for column, value in zip(self.key, values, strict=True))

    def stated(self) -> Link:
        """State the link as the oracle reads it."""
        return Link(
            child=self.child.name,
            child_columns=tuple(column.name for column in self.columns),
            parent=self.parent.name,
            parent_columns=tuple(column.name for column in self.key),
            down=self.down,
            up=self.up,
            key=self.comparable,
        )

    def policy(self) -> str:
        words = ([] if self.down else ["stay"]) + ([] if self.up == "follow" else [self.up])
        return ",".join(words) or "follow"


@dataclass(frozen=True, eq=False)
class Case:
    """A database and a selection from it."""

    tables: list[Table]
    links: list[DrawnLink]
    options: list[str]
    script: list[str]
    late: list[str]
    root: Table
    chosen: list[int]
    by: str
    exclude: list[str]
    whole: list[str]
    violations: str

    def create(self, path: Path) -> None:
        """Write the SQLite file, foreign keys unchecked."""
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in ("PRAGMA synchronous = OFF", *self.script, "BEGIN"):
                connection.execute(statement)
            for table in self.tables:
                for row in table.rows:
                    connection.execute(*insertion(table, row))
            for statement in (*self.late, "COMMIT"):
                connection.execute(statement)

    def problem(self) -> Problem:
        """State the case for the oracle."""
        return Problem(
            rows={table.name: table.rows for table in self.tables},
            links=tuple(link.stated() for link in self.links),
            root=self.root.name,
            chosen=frozenset(self.chosen),
            exclude=frozenset(self.exclude),
            whole=frozenset(self.whole),
            violations=self.violations,
        )

    def selection(self, *, backwards: bool = False) -> dict[str, object]:
        """Spell the selection as keywords of `panicdb.export`, its lists backwards if asked to."""
        step = -1 if backwards else 1
        rows = [self.root.rows[place] for place in self.chosen][::step]
        words: dict[str, object] = {
            "root": self.root.name,
            "links": self.options[::step],
            "exclude": self.exclude[::step],
            "whole": self.whole[::step],
            "violations": self.violations,
        }
        if self.by == "ids":
            (key,) = self.root.keys[0].columns
            words["roots"] = [str(row[key.name]) for row in rows]
        elif self.by == "where":
            words["where"] = f"n IN ({', '.join(str(row['n']) for row in rows)})"
        else:
            words["all_roots"] = True
        return words

    def __repr__(self) -> str:
        """Show what it takes to see the case again: SQL and keywords."""
        rows = [
            f"{sql} -- {values}" for sql, values in (insertion(t, r) for t in self.tables for r in t.rows)
        ]
        return "\n".join(["Case:", *self.script, *rows, *self.late, f"export(**{self.selection()})"])

    def _repr_pretty_(self, printer, _cycle) -> None:
        """Be shown so by Hypothesis, too."""
        printer.text(repr(self))


def insertion(table: Table, row: dict[str, Value]) -> tuple[str, list[Value]]:
    marks = ["CAST(? AS TEXT)" if isinstance(row[name], RawText) else "?" for name in table.stored]
    names = ", ".join(quote(name) for name in table.stored)
    values = [bytes(row[name]) if isinstance(row[name], RawText) else row[name] for name in table.stored]
    return f"INSERT INTO {quote(table.name)} ({names}) VALUES ({', '.join(marks)})", values


def stored_rows(path: Path, tables: list[Table]) -> dict[str, list[dict[str, tuple[str, Value]]]]:
    """Read all stored columns of all rows, values with their storage class, text as bytes."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = RawText
        found = {}
        for table in tables:
            names = ", ".join(quote(name) for name in table.stored)
            rows = connection.execute(f"SELECT {names} FROM {quote(table.name)}")
            found[table.name] = [
                {name: (type(value).__name__, value) for name, value in zip(table.stored, row, strict=True)}
                for row in rows
            ]
        return found


# --- how it is drawn ------------------------------------------------------------------------------


@cache
def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


class Dice:
    """Hypothesis' draws in the few shapes needed here; all shrink to the first, smallest, no."""

    def __init__(self, draw: Callable[[st.SearchStrategy[int]], int]) -> None:
        self._draw = draw

    def number(self, low: int, high: int) -> int:
        return low if low == high else self._draw(_integers(low, high))

    def chance(self, percent: int) -> bool:
        return self.number(0, 99) >= 100 - percent

    def pick(self, options):
        return options[self.number(0, len(options) - 1)]

    def names(self, plain: str, odd: str, *, oddly: bool) -> Iterator[str]:
        """Yield distinct names, odd ones from anywhere in their list."""
        if not oddly:
            return iter(plain.split("|"))
        names = odd.split("|")
        start, stride = self.number(0, len(names) - 1), self.pick((1, 2, 3, 5))
        return iter([names[(start + step * stride) % len(names)] for step in range(len(names))])


class Draft:
    """A database on its way: tables with their keys first, then links, then everything else."""

    case = Case

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.oddly = dice.chance(50)
        self.dangling = dice.chance(33)
        self.settle()
        self.tables: list[Table] = []
        self.links: list[DrawnLink] = []
        self.columns: dict[Table, Iterator[str]] = {}
        self.indexes = 0
        names = dice.names(PLAIN_TABLES, ODD_TABLES, oddly=self.oddly)
        for number in range(dice.pick((2, 3, 1, 3, 4, 5))):
            self.add_table(next(names), number)
        for table in self.tables:
            for _ in range(dice.pick((1, 2, 1, 2, 0, 3))):
                self.add_link(table)
        for table in self.tables:
            self.add_rest(table)

    def settle(self) -> None:
        """Draw what is one for the whole database."""
        self.utf16 = self.dice.chance(8)
        self.style = self.dice.pick(("double", "double", "bare", "bracket", "backtick"))

    def quoted(self, name: str) -> str:
        return quote(name, self.style)

    def relation(self, table: Table) -> str:
        """Spell a table in SQL."""
        return self.quoted(table.name)

    def listed(self, columns: list[Column]) -> str:
        return ", ".join(self.quoted(column.name) for column in columns)

    # tables and keys

    def add_table(self, name: str, number: int) -> None:
        dice = self.dice
        shape = dice.pick(SHAPES.split())
        keyed = shape not in ("none", "autoincrement")
        first = 100 * (number + 1) + 1
        table = self.new_table(name, first, keyed=keyed)
        count = 0 if number and dice.chance(8) else dice.number(1, 7)
        table.rows = [{"n": first + place} for place in range(count)]
        self.columns[table] = dice.names(PLAIN_COLUMNS, ODD_COLUMNS, oddly=self.oddly)
        lenders = [(lender, key) for lender in self.tables for key in lender.keys]
        lenders = [(lender, key) for lender, key in lenders if lender.rows and len(key.columns) < 3]
        if shape == "borrowed" and lenders:
            self.borrow_key(table, *dice.pick(lenders))
        elif shape in ("integer", "autoincrement"):
            self.add_key(table, [self.key_column(table, "int", "INTEGER")], primary=True)
            self.number(table, counted=shape == "autoincrement")
        elif shape == "single":
            self.add_key(table, [self.key_column(table)], primary=True)
        elif shape != "none":
            parts = dice.pick((2, 2, 3))
            self.add_key(table, [self.key_column(table) for _ in range(parts)], primary=True)
        if dice.chance(35):
            parts = dice.pick((1, 1, 2))
            self.add_key(table, [self.key_column(table) for _ in range(parts)], primary=False)
        table.columns.append(Column("n", "INTEGER"))
        self.tables.append(table)

    def new_table(self, name: str, first: int, *, keyed: bool) -> Table:
        return Table(name, first, self.dice.chance(12), keyed and self.dice.chance(15))

    def number(self, table: Table, *, counted: bool) -> None:
        """Let the engine count the keys of a table, if so drawn."""
        table.keys[0].columns[0].clauses[0] += " AUTOINCREMENT" * counted

    def key_column(self, table: Table, kind: str | None = None, declared: str | None = None) -> Column:
        kind = kind or self.dice.pick(("int", "text", "int", "text", "blob"))
        types = (STRICT_KEY_TYPES if table.strict else KEY_TYPES)[kind]
        column = Column(next(self.columns[table]), declared or self.dice.pick(types), kind, in_key=True)
        if kind == "text" and self.dice.chance(25):
            column.collate = self.dice.pick(("NOCASE", "NOCASE", "RTRIM"))
        return column

    def pool(self, column: Column) -> list[Value]:
        """Draw what the values of a key column are taken from: all different in SQLite's eyes."""
        pools = {"int": (SMALL_INTS, WIDE_INTS), "text": (TEXTS, NUMERALS), "blob": (BLOBS,)}
        values = self.dice.pick(pools[column.kind])
        if column.collate:  # SQLite's NOCASE stops comparing at NUL
            plain = [value for value in values if "\0" not in value]
            values = list({column.comparable(value): value for value in plain}.values())
        start = self.dice.pick((0, 0, 1, 3))
        return [*values][start:] + [*values][:start]

    def add_key(self, table: Table, columns: list[Column], *, primary: bool) -> None:
        pools = [self.pool(column) for column in columns]

        def values(place: int) -> list[Value]:
            places = (place,) if len(pools) == 1 else (place // 2, place % 2, place % 3)
            return [pool[at] for pool, at in zip(pools, places, strict=False)]

        for place, row in enumerate(table.rows):
            row.update(zip((column.name for column in columns), values(place), strict=True))
        spare = [values(len(table.rows) + extra) for extra in range(3)]
        never_null = primary and self.is_never_null(table, columns)
        for column in columns:
            column.not_null = self.dice.chance(30)
            may_be_null = len(table.rows) > 1 and not never_null and not column.not_null
            if may_be_null and self.dice.chance(15):
                table.rows[-1][column.name] = None
        self.declare_key(table, columns, [tuple(values) for values in spare], primary=primary)

    def is_never_null(self, table: Table, columns: list[Column]) -> bool:
        """Tell whether the engine lets no NULL into these columns of a primary key."""
        rowid = len(columns) == 1 and columns[0].type == "INTEGER"
        return table.strict or table.without_rowid or rowid

    def declare_key(self, table: Table, columns: list[Column], spare: list, *, primary: bool) -> None:
        table.columns += columns
        if len(columns) > 1 and self.dice.chance(30):
            columns, spare = columns[::-1], [values[::-1] for values in spare]
        table.keys.append(Key(columns, primary, spare))
        if primary and len(columns) == 1:
            columns[0].clauses.insert(0, "PRIMARY KEY")
        elif primary:
            table.constraints.append(f"PRIMARY KEY ({self.listed(columns)})")
        elif self.dice.chance(50):
            self.add_index(table, columns, unique=True)
        else:
            table.constraints.append(f"UNIQUE ({self.listed(columns)})")

    def borrow_key(self, table: Table, lender: Table, key: Key) -> None:
        """Make a link's columns the primary key, or the greater part of it."""
        lent = [values for values in lender.tuples(key.columns) if None not in values]
        columns = [self.borrowed_column(table, column) for column in key.columns]
        spare = key.spare
        one_to_one = self.dice.chance(30) and not any(column.collate for column in columns)
        if one_to_one or not lent:
            del table.rows[len(lent) :]
        else:
            lent = [self.dice.pick(lent) for _ in table.rows]
        for values, row in zip(lent, table.rows, strict=False):
            row.update(zip((column.name for column in columns), values, strict=True))
        self.links.append(DrawnLink(table, list(columns), lender, key.columns, virtual=False))
        if not one_to_one:
            number = Column(next(self.columns[table]), "INTEGER", "int", in_key=True)
            for place, row in enumerate(table.rows):
                row[number.name] = place + 1
            columns = [*columns, number]
            spare = [(*values, 1) for values in spare]
        self.declare_key(table, columns, spare, primary=True)

    def borrowed_column(self, table: Table, column: Column) -> Column:
        return self.key_column(table, column.kind)

    # links

    def add_link(self, child: Table) -> None:
        dice, place = self.dice, self.tables.index(child)
        parents = [*self.tables[:place] * 3, child, *self.tables[place + 1 :]]
        parents = [parent for parent in parents if parent.keys]
        if not parents:
            return
        parent = dice.pick(parents)
        key = dice.pick(parent.keys)
        virtual = dice.chance(8) and not any(column.collate for column in key.columns)
        ends = [self.link_column(child, column, virtual=virtual) for column in key.columns]
        columns = [end.column for end in ends]
        shared = [end for end in ends if not end.fresh]
        link = DrawnLink(child, columns, parent, key.columns, virtual)
        twice = len(set(columns)) < len(columns)
        bound = any(column.in_key or column.not_null for column in columns)
        known = any(link.ends() == other.ends() for other in self.links)
        if twice or known or (bound and len(shared) == len(ends)):
            return
        child.columns += [end.column for end in ends if end.fresh]
        self.links.append(link)
        self.refer(link, ends, key)
        if not shared and dice.chance(8):
            child.constraints.append(f"UNIQUE ({self.listed(columns)}, n)")
            for column in columns:
                column.in_key = True
        if dice.chance(40):
            self.add_index(child, columns)

    def link_column(self, child: Table, column: Column, *, virtual: bool) -> "End":
        """Draw the child's column for one column of a parent's key: an old one, or a new one."""
        dice = self.dice
        there = [c for c in child.columns if self.can_share(c, column, virtual=virtual)]
        if there and dice.chance(20):
            return End(dice.pick(there), fresh=False)
        return self.new_end(child, column, virtual=virtual)

    def can_share(self, old: Column, column: Column, *, virtual: bool) -> bool:
        """Tell whether a column that is there may refer to `column`, too."""
        return old.kind == column.kind and not (virtual and old.collate)

    def new_end(self, child: Table, column: Column, *, virtual: bool) -> "End":
        dice = self.dice
        types = (STRICT_KEY_TYPES if child.strict else KEY_TYPES)[column.kind]
        end = End(Column(next(self.columns[child]), dice.pick(types), column.kind))
        if virtual:
            return end
        if column.collate and dice.chance(60):
            end.encode = swap_case if column.collate == "NOCASE" else pad
        if column.kind == "text" and dice.chance(15):
            end.column.collate = "NOCASE"  # of no account: the parent's decides
        if dice.chance(8) and (self.dangling or affinity(column.type) != "none"):
            end.column.kind = None
            end.column.type, end.encode = dice.pick(MISFITS[column.kind])
        return end

    def refer(self, link: DrawnLink, ends: list["End"], key: Key) -> None:
        """Draw what the new columns of a link hold, to go with what its old ones hold."""
        dice = self.dice
        there = [values for values in link.parent.tuples(key.columns) if None not in values]
        known, unknown = encoded(there, ends), encoded(key.spare, ends) if self.dangling else []
        fresh = [end for end in ends if end.fresh]
        must = known and fresh == ends and dice.chance(25)
        for end in ends if must else ():
            end.column.not_null = True
        partly = len(fresh) > 1 and dice.chance(40)
        for row in link.child.rows:

            def fits(values: list[Value], row: dict[str, Value] = row) -> bool:
                pairs = zip(link.key, ends, values, strict=True)
                return all(
                    end.fresh or own.comparable(row[end.column.name]) == own.comparable(value)
                    for own, end, value in pairs
                )

            fitting = [values for values in known if fits(values)]
            if not fresh:
                if not fitting and not (self.dangling and dice.chance(30)):
                    row.update(dict.fromkeys((end.column.name for end in ends), None))
                continue
            astray = [values for values in unknown if fits(values)] if dice.chance(20) else []
            choice = dice.number(1 if must else 0, len(fitting))
            values = dice.pick(astray) if astray else fitting[choice - 1] if choice else None
            for end, place in ((end, place) for place, end in enumerate(ends) if end.fresh):
                row[end.column.name] = values[place] if values else None
            if partly and values is None and known:
                row[fresh[-1].column.name] = known[0][ends.index(fresh[-1])]

    # the rest

    def add_index(self, table: Table, columns: list[Column], *, unique: bool = False) -> None:
        self.indexes += 1
        kind = "UNIQUE INDEX" if unique else "INDEX"
        on = f"{self.relation(table)} ({self.listed(columns)})"
        table.indexes.append(f"CREATE {kind} {self.quoted(f'ix {self.indexes}')} ON {on}")

    def add_rest(self, table: Table) -> None:
        """Add payload and generated columns, and turn the columns' order."""
        dice = self.dice
        for _ in range(dice.pick((0, 1, 1, 2))):
            declared = dice.pick([*STRICT_PAYLOADS] if table.strict else PAYLOAD_TYPES.split("|"))
            pool = STRICT_PAYLOADS[declared] if table.strict else PAYLOADS
            pool = [value for value in pool if not (self.utf16 and isinstance(value, RawText))]
            start, stride = dice.number(0, len(pool) - 1), dice.number(1, 3)
            column = Column(next(self.columns[table]), declared)
            table.columns.append(column)
            for place, row in enumerate(table.rows):
                row[column.name] = pool[(start + place * stride) % len(pool)]
        if dice.chance(15):
            of = self.quoted(dice.pick(table.columns).name)
            declared, formula = dice.pick((("INTEGER", "n * 2"), ("TEXT", f"typeof({of})")))
            how = f"GENERATED ALWAYS AS ({formula}) {dice.pick(('VIRTUAL', 'STORED'))}"
            table.columns.append(Column(next(self.columns[table]), declared, generated=how))
        turn = dice.number(0, len(table.columns) - 1)
        table.columns = table.columns[turn:] + table.columns[:turn]

    def script(self) -> list[str]:
        """Write the DDL."""
        for link in self.links:
            if not link.virtual:
                self.declare_link(link)
        options = ["PRAGMA encoding = 'UTF-16le'"] if self.utf16 else []
        tables = [self.create_table(table) for table in self.tables]
        return [*options, *tables, *chain.from_iterable(table.indexes for table in self.tables)]

    def create_table(self, table: Table) -> str:
        lines = []
        for column in table.columns:
            words = [self.quoted(column.name), column.type]
            words += [f"COLLATE {column.collate}"] if column.collate else []
            words += ["NOT NULL"] if column.not_null else []
            lines.append(" ".join(word for word in [*words, column.generated, *column.clauses] if word))
        body = ", ".join(lines + table.constraints)
        return f"CREATE TABLE {self.relation(table)} ({body}) {self.table_options(table)}".rstrip()

    def table_options(self, table: Table) -> str:
        return ", ".join([*["WITHOUT ROWID"] * table.without_rowid, *["STRICT"] * table.strict])

    def declare_link(self, link: DrawnLink) -> None:
        dice = self.dice
        swap = swap_case if dice.chance(10) else str
        target = self.quoted(swap(link.parent.name))
        primary = any(key.primary and key.columns is link.key for key in link.parent.keys)
        if not (primary and dice.chance(50)):
            target += f" ({', '.join(self.quoted(swap(column.name)) for column in link.key)})"
        target += dice.pick(("", "", " ON DELETE CASCADE", " DEFERRABLE INITIALLY DEFERRED"))
        label = dice.pick(("", "", 'CONSTRAINT "a link" '))
        if len(link.columns) == 1 and dice.chance(50):
            link.columns[0].clauses.append(f"{label}REFERENCES {target}")
        else:
            clause = f"{label}FOREIGN KEY ({self.listed(link.columns)}) REFERENCES {target}"
            link.child.constraints.append(clause)

    def late(self) -> list[str]:
        """Write what must not act on the rows: created after them."""
        statements = []
        for number, table in enumerate(self.tables):
            name = self.quoted(table.name)
            if self.dice.chance(5):
                act = f"UPDATE {name} SET n = n + 1000"
                statements.append(f"CREATE TRIGGER tr{number} AFTER INSERT ON {name} BEGIN {act}; END")
            if self.dice.chance(5):
                statements.append(f"CREATE VIEW view{number} AS SELECT n FROM {name}")
        return statements


@dataclass(eq=False)
class End:
    """One column of a link being drawn, and how it spells the parent's values."""

    column: Column
    encode: Callable[[Value], Value] = field(default=lambda value: value)
    fresh: bool = True


def swap_case(text: str) -> str:
    return "".join(letter.swapcase() if letter.isascii() else letter for letter in text)


def pad(text: str) -> str:
    return text.rstrip(" ") + "  "


def as_float(value: int) -> float | None:
    return float(value) if abs(value) < 2**53 else None


def as_int(text: str) -> int | None:
    return int(text) if text.isdigit() and str(int(text)) == text else None


MISFITS = {
    "int": (("TEXT", str), ("REAL", as_float)),
    "text": (("INTEGER", as_int),),
    "blob": (("BLOB", bytes),),
}


def encoded(tuples: list[tuple[Value, ...]], ends: list[End]) -> list[list[Value]]:
    """Spell key values as the child does; leave out those it can't spell."""
    spelled = [[end.encode(value) for end, value in zip(ends, values, strict=True)] for values in tuples]
    return [values for values in spelled if None not in values]


def draw_policies(draft: Draft, root: Table, exclude: list[str]) -> None:
    """Give each link a policy, mostly one that lets the export succeed: roots can't do without
    their parents, nor others without a parent in an excluded table."""
    dice = draft.dice
    uses = Counter(column for link in draft.links for column in link.columns)
    for link in draft.links:
        free = all(uses[c] == 1 and not c.not_null and not c.in_key for c in link.columns)
        policies = ["follow"] * 6 + ["null"] * 5 + ["refuse"] * 2 + ["drop"] * 4
        if link.child is root and not dice.chance(5):
            policies = policies[:11]
        if link.parent.name in exclude and not dice.chance(5):
            policies = ["null", "drop"]
        link.up = dice.pick([policy for policy in policies if free or policy != "null"])
        link.down = not dice.chance(15)


def draw_options(draft: Draft) -> list[str]:
    """Spell the links' policies as `--link` has them; the default need not be said."""
    options = []
    ends = Counter((link.child, *link.columns) for link in draft.links)
    for link in draft.links:
        always = draft.dice.chance(25)
        arrow = link.virtual or ends[link.child, *link.columns] > 1 or draft.dice.chance(25)
        if link.policy() == "follow" and not link.virtual and not draft.dice.chance(20):
            continue
        text = dotted(link.child, link.columns, always=always)
        text += f"->{dotted(link.parent, link.key, always=always)}" if arrow else ""
        options.append(f"{text}={link.policy()}")
    return options


def dotted(table: Table, columns: list[Column], *, always: bool) -> str:
    def spelled(name: str) -> str:
        return name if name.isascii() and name.isidentifier() and not always else quote(name)

    return f"{spelled(table.name)}.{','.join(spelled(column.name) for column in columns)}"


def draw_roots(draft: Draft) -> tuple[Table, list[int], str]:
    """Draw a root table, the places of the chosen rows, and how they are named."""
    dice = draft.dice
    tables = [table for table in draft.tables if table.rows]
    parents = [link.parent for link in draft.links for _ in link.child.rows if link.parent.rows]
    root = dice.pick(parents if parents and dice.chance(85) else tables)
    size = len(root.rows)
    mask = dice.number(1, 2**size - 1) if dice.chance(40) else 1 << dice.number(0, size - 1)
    chosen = [place for place in range(size) if mask >> place & 1]
    if len(chosen) == size and dice.chance(40):
        return root, chosen, "all"
    key = root.keys[0].columns if root.keys and root.keys[0].primary else []
    named = len(key) == 1 and all(
        isinstance(value := root.rows[place][key[0].name], int | str) and value != "" for place in chosen
    )
    return root, chosen, "ids" if named and dice.chance(60) else "where"


@st.composite
def cases(draw, drafting=Draft) -> Case:
    """Draw a database, and a selection from it that is no usage error; `drafting` knows an engine."""
    dice = Dice(draw)
    draft = drafting(dice)
    root, chosen, by = draw_roots(draft)
    others = [table.name for table in draft.tables if table is not root]
    exclude = [dice.pick(others)] if others and dice.chance(30) else []
    kept = [table.name for table in draft.tables if table.name not in exclude]
    whole = [dice.pick(kept)] if dice.chance(20) else []
    draw_policies(draft, root, exclude)
    modes = ("keep", "drop", "keep", "drop", "refuse") if draft.dangling else ("refuse", "keep", "drop")
    violations = dice.pick(modes)
    return draft.case(
        tables=draft.tables,
        links=draft.links,
        options=draw_options(draft),
        script=draft.script(),
        late=draft.late(),
        root=root,
        chosen=chosen,
        by=by,
        exclude=exclude,
        whole=whole,
        violations=violations,
    )
