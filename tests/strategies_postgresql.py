"""Random PostgreSQL databases for the property tests: as `strategies`, in PostgreSQL's kinds of tables, keys and types.

A column's `collate` says by which of its ways of comparing equal values may be spelled otherwise: "char" is the type
char(n), at whose end spaces don't count; "nocase" is a collation that only servers with ICU have.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import chain
from uuid import UUID

import psycopg
from psycopg import sql

import strategies
from engines import called
from strategies import BLOBS, NUMERALS, SMALL_INTS, TEXTS, Column, Dice, Draft, DrawnLink, End, Value, quote

SCHEMAS = ("other", "Odd Schema", "s.t", "main")
WIDE_INTS = (7, -1, 0, 42, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 100, -7, 5, 6, 9)
UUIDS = tuple(str(UUID(int=number * 0x1000100010001000100010001)) for number in range(14))
WORDS = tuple(text for text in TEXTS if "\0" not in text)
RANGES = {"smallint": 15, "integer": 31, "bigint": 63}
KEY_TYPES = {
    "int": ("integer", "bigint", "smallint", "numeric", "numeric(25, 2)"),
    "text": ("text", "varchar(20)", "char(20)", "text"),
    "blob": ("bytea",),
    "uuid": ("uuid",),
}
NOCASE = "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
PAYLOADS = {
    "text": ("", "x", "it's", '"', "é🎲", "\\N", "\\.", "a\tb\nc\rd", "\\x41", " 2", "x" * 3000),
    "integer": ("0", "1", "-5", "2147483647", "-2147483648"),
    "double precision": ("0", "-0", "1.5", "0.1", "1e300", "NaN", "Infinity", "-Infinity", "4.9e-324"),
    "real": ("0.1", "-0", "NaN", "3.4028235e38"),
    "numeric": ("0", "1.10", "1.1", "NaN", "Infinity", "1" * 60 + ".5", "-0.000"),
    "numeric(12, 3)": ("1", "1.1", "-999999999.999"),
    "boolean": ("true", "false"),
    "timestamptz": ("2024-02-29 12:00:00.000001+05:30", "infinity", "-infinity", "0044-03-15 00:00+00 BC"),
    "timestamp": ("2024-02-29 12:00", "10000-01-01 00:00", "infinity"),
    "date": ("2024-02-29", "10000-01-01", "infinity", "0001-01-01 BC"),
    "time": ("24:00", "00:00:00.000001"),
    "interval": ("1 month", "30 days", "720:00:00", "-1 year 2 mons -3 days 04:05:06.789"),
    "bytea": ("", "\\x00ff0a0d5c", "\\x"),
    "json": ('{"a":1,  "a":2}', "null", "[1.0, 1e2]", '"\\u00e9"'),
    "jsonb": ('{"b": 1.10, "a": 1e2}', "null", "[]", '{"": ""}'),
    "uuid": UUIDS,
    "integer[]": ("{}", "{1,NULL,3}", "[2:3]={1,2}", "{{1,2},{3,4}}"),
    "text[]": ("{}", '{"",NULL,"NULL","a,b","{}","\\""}'),
    "int4range": ("empty", "[1,3)", "(,5)", "(,)"),
    "nummultirange": ("{}", "{[1,2],(3.5,)}"),
    "inet": ("10.0.0.1/8", "10.0.0.1", "::1"),
    "bit varying": ("", "101", "0"),
    "point": ("(1,2)", "(-0,1e300)"),
    "tsvector": ("a:1A b:2", ""),
    "name": ("x", ""),
    "mood": ("sad", "ok", "so so"),
    "positive": ("1", "2147483647"),
    "pair": ('(1,"a b")', "(,)", '(2,"")'),
}
TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'so so')",
    "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
    "CREATE TYPE pair AS (n integer, word text)",
)
COMPUTED = (
    ("integer", "n * 2"),
    ("text", "'row ' || n"),
    ("boolean", "n % 2 = 0"),
)


def fits(declared: str, value: int | Decimal) -> bool:
    bits = RANGES.get(declared)
    return bits is None or (value == int(value) and -(2**bits) <= value < 2**bits)


def is_exact(declared: str) -> bool:
    return declared.startswith("numeric")


class KeyColumn(Column):
    """A column that is compared as PostgreSQL does it."""

    def comparable(self, value: Value) -> Value:
        if value is None or not self.collate:
            return value
        return value.rstrip(" ") if self.collate == "char" else value.lower()


@dataclass(eq=False)
class Table(strategies.Table):
    """A table of some schema."""

    schema: str = "public"
    plain: str = ""
    """Its name without that of its schema."""
    counted: str = ""
    """By which identity or sequence its numbers are given."""
    partitions: str = ""
    """How it is cut, if it is."""

    @property
    def whole(self) -> str:
        """Spell it for FROM: all its rows, and no others."""
        return relation(self) if self.partitions else f"ONLY {relation(self)}"


class Case(strategies.Case):
    """A database and a selection from it."""

    def script_of_all(self) -> str:
        """Write what fills an empty database: schema, rows, and what comes after them."""
        return ";".join(self.statements())

    def statements(self) -> list[str]:
        made = dict.fromkeys(table.schema for table in self.tables if table.schema != "public")
        schemas = [f"CREATE SCHEMA {quote(name)}" for name in made]
        rows = [insertion(table, row) for table in self.tables for row in table.rows]
        links = [self.declaration(link) for link in self.links if not link.virtual]
        return [*schemas, *self.script, *rows, *links, *self.late]

    def declaration(self, link: DrawnLink) -> str:
        """Declare a link; one that some row violates is never checked."""
        child, parent = (relation(table) for table in (link.child, link.parent))
        ends = [", ".join(quote(column.name) for column in columns) for columns in (link.columns, link.key)]
        words = (
            f"ALTER TABLE {child} ADD FOREIGN KEY ({ends[0]}) REFERENCES {parent} ({ends[1]}) {link.actions}"
        )
        keys = {link.comparable(values) for values in link.parent.tuples(link.key) if None not in values}
        children = [values for values in link.child.tuples(link.columns) if None not in values]
        return words if all(link.comparable(values) in keys for values in children) else f"{words} NOT VALID"

    def __repr__(self) -> str:
        """Show what it takes to see the case again: SQL and keywords."""
        return "\n".join(
            ["Case:", *(f"{each};" for each in self.statements()), f"export(**{self.selection()})"]
        )


def relation(table: Table) -> str:
    return f"{quote(table.schema)}.{quote(table.plain)}"


def insertion(table: Table, row: dict[str, Value]) -> str:
    """Insert a row; what is no number or bytes is text that the type reads."""
    names = ", ".join(map(quote, table.stored))
    values = ", ".join(sql.Literal(row[name]).as_string(None) for name in table.stored)
    return f"INSERT INTO {relation(table)} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})"


def stored_rows(session: psycopg.Connection, tables: Iterable[Table]) -> dict[str, list[dict]]:
    """Read all stored columns of all rows: keys as what they are, everything else as the server's text."""
    found = {}
    for table in tables:
        columns = [column for column in table.columns if not column.generated]
        names = ", ".join(f"{quote(column.name)}::text" for column in columns)
        rows = session.execute(f"SELECT {names} FROM {table.whole}").fetchall()
        found[table.name] = [
            {column.name: read(column, text) for column, text in zip(columns, row, strict=True)}
            for row in rows
        ]
    return found


def read(column: Column, text: str | None) -> tuple[str, Value]:
    """Turn the server's text into a value of the case's, with a word that tells what else looks the same."""
    if text is None:
        return "NoneType", None
    match column.kind:
        case "int":
            return f"number {text}", Decimal(text)
        case "blob":
            return "bytes", bytes.fromhex(text.removeprefix("\\x"))
        case _:
            return ("int", int(text)) if column.name == "n" else ("text", text)


# --- how it is drawn ------------------------------------------------------------------------------


class PostgreSQLDraft(Draft):
    """A database on its way, of a server that has ICU, or of one that has not, of some major version."""

    case = Case

    def __init__(self, dice: Dice, *, icu: bool, version: int) -> None:
        self.icu = icu
        self.version = version
        super().__init__(dice)

    def settle(self) -> None:
        self.style = "double"
        self.schemas = ["public"] + [self.dice.pick(SCHEMAS)] * self.dice.chance(40)
        self.types: list[str] = []

    def relation(self, table: Table) -> str:
        return relation(table)

    # tables and keys

    def new_table(self, name: str, first: int, *, keyed: bool) -> Table:  # noqa: ARG002 - of other engines
        schema, twin = self.dice.pick(self.schemas), name
        if schema != "public" and self.tables and self.dice.chance(30):
            twin = self.dice.pick(self.tables).plain
        known = {table.name for table in self.tables}
        plain = name if called(schema, twin) in known else twin
        return Table(
            called(schema, plain), first, strict=False, without_rowid=False, schema=schema, plain=plain
        )

    def number(self, table: Table, *, counted: bool) -> None:
        kinds = ("BY DEFAULT", "ALWAYS", "BY DEFAULT")
        table.counted = self.dice.pick(kinds) if counted else ""
        if counted:
            table.keys[0].columns[0].clauses.append(f"GENERATED {table.counted} AS IDENTITY (START WITH 50)")

    def key_column(self, table: Table, kind: str | None = None, declared: str | None = None) -> Column:
        kind = kind or self.dice.pick(("int", "text", "int", "text", "blob", "uuid"))
        declared = declared.lower() if declared else self.dice.pick(KEY_TYPES[kind])
        column = KeyColumn(next(self.columns[table]), declared, kind, in_key=True)
        if declared.startswith("char"):
            column.collate = "char"
        elif kind == "text" and self.icu and self.dice.chance(25):
            column.collate = "nocase"
        return column

    def pool(self, column: Column) -> list[Value]:
        pools = {
            "int": (SMALL_INTS, WIDE_INTS),
            "text": (WORDS, NUMERALS),
            "blob": (BLOBS,),
            "uuid": (UUIDS,),
        }
        values = self.dice.pick(pools[column.kind])
        if column.kind == "int":
            values = [value for value in values if fits(column.type, value)]
            values += [value for value in SMALL_INTS if value not in values]
        if column.collate == "char":
            values = [value.rstrip(" ") for value in values]
        values = list({column.comparable(value): value for value in values}.values())
        start = self.dice.pick((0, 0, 1, 3))
        return [*values][start:] + [*values][:start]

    def is_never_null(self, table: Table, columns: list[Column]) -> bool:  # noqa: ARG002 - of other engines
        return True

    def borrowed_column(self, table: Table, column: Column) -> Column:
        return KeyColumn(next(self.columns[table]), column.type, column.kind, column.collate, in_key=True)

    # links

    def can_share(self, old: Column, column: Column, *, virtual: bool) -> bool:
        return old.kind == column.kind and refers(old, column) and not (virtual and old.collate)

    def new_end(self, child: Table, column: Column, *, virtual: bool) -> End:
        dice = self.dice
        types = [declared for declared in KEY_TYPES[column.kind] if may_refer(declared, column.type)]
        declared = column.type if virtual else dice.pick(types)
        made = KeyColumn(next(self.columns[child]), declared, column.kind)
        made.collate = (
            "char" if declared.startswith("char") else "nocase" if column.collate == "nocase" else ""
        )
        if made.collate == "char" and column.collate == "nocase":
            made.type, made.collate = "text", "nocase"
        end = End(made, encode=partial(spelled, made))
        if column.collate == "char" and not made.collate and dice.chance(60):
            end.encode = strategies.pad
        if column.collate == "nocase" and dice.chance(60):
            end.encode = strategies.swap_case
        if is_exact(made.type) and dice.chance(40):
            end.encode = lambda value: Decimal(value).quantize(Decimal("1.00"))
        return end

    # the rest

    def add_rest(self, table: Table) -> None:
        dice = self.dice
        for _ in range(dice.pick((0, 1, 1, 2))):
            declared = dice.pick([*PAYLOADS])
            pool = (None, *PAYLOADS[declared])
            start, stride = dice.number(0, len(pool) - 1), dice.number(1, 3)
            column = Column(next(self.columns[table]), declared)
            table.columns.append(column)
            for place, row in enumerate(table.rows):
                row[column.name] = pool[(start + place * stride) % len(pool)]
        if dice.chance(15):
            declared, formula = dice.pick(COMPUTED)
            how = dice.pick(("STORED", "VIRTUAL")) if self.version >= 18 else "STORED"
            table.columns.append(
                Column(
                    next(self.columns[table]), declared, generated=f"GENERATED ALWAYS AS ({formula}) {how}"
                )
            )
        turn = dice.number(0, len(table.columns) - 1)
        table.columns = table.columns[turn:] + table.columns[:turn]
        if dice.chance(20) and not self.dangling:
            self.cut(table)

    def cut(self, table: Table) -> None:
        """Partition a table, if its keys allow that: each has to hold all columns that it is cut by."""
        counted = table.counted and self.version < 17
        alone = len(table.keys) <= 1 and not any(
            "UNIQUE" in each for each in (*table.constraints, *table.indexes)
        )
        key = table.keys[0].columns if table.keys else []
        if counted or not alone or any(column.collate == "nocase" for column in key):
            return
        table.partitions = f"HASH ({self.listed(key)})" if key else "RANGE (n)"

    def script(self) -> list[str]:
        for link in self.links:
            link.actions = self.dice.pick(("", "", "ON DELETE CASCADE", "DEFERRABLE INITIALLY DEFERRED"))
        used = {column.type for table in self.tables for column in table.columns}
        types = [each for each in TYPES if each.split()[2] in used]
        collated = any(column.collate == "nocase" for table in self.tables for column in table.columns)
        tables = chain.from_iterable((self.create_table(table), *self.parts(table)) for table in self.tables)
        indexes = chain.from_iterable(table.indexes for table in self.tables)
        return [*[NOCASE] * collated, *types, *tables, *indexes]

    def create_table(self, table: Table) -> str:
        lines = []
        for column in table.columns:
            words = [self.quoted(column.name), column.type]
            words += ["COLLATE public.nocase"] * (column.collate == "nocase")
            words += ["NOT NULL"] if column.not_null else []
            lines.append(" ".join(word for word in [*words, column.generated, *column.clauses] if word))
        cut = f"PARTITION BY {table.partitions}" if table.partitions else ""
        return f"CREATE TABLE {relation(table)} ({', '.join(lines + table.constraints)}) {cut}".rstrip()

    def parts(self, table: Table) -> list[str]:
        if not table.partitions:
            return []
        middle = table.first_n + 3
        bounds = (f"FROM (MINVALUE) TO ({middle})", f"FROM ({middle}) TO (MAXVALUE)")
        if table.partitions.startswith("HASH"):
            bounds = ("WITH (MODULUS 2, REMAINDER 0)", "WITH (MODULUS 2, REMAINDER 1)")
        names = [f"{quote(table.schema)}.{quote(f'part {table.first_n + place}')}" for place in range(2)]
        return [
            f"CREATE TABLE {name} PARTITION OF {relation(table)} FOR VALUES {bound}"
            for name, bound in zip(names, bounds, strict=True)
        ]

    def late(self) -> list[str]:
        """Write what must not act on the rows: created after them."""
        statements = []
        for number, table in enumerate(self.tables):
            name = relation(table)
            if self.dice.chance(8):
                body = f"BEGIN UPDATE {name} SET n = n + 1000; RETURN NULL; END"
                function = (
                    f"CREATE FUNCTION act{number}() RETURNS trigger LANGUAGE plpgsql AS $act${body}$act$"
                )
                fires = f"AFTER INSERT ON {name} FOR EACH STATEMENT EXECUTE FUNCTION act{number}()"
                statements += [function, f"CREATE TRIGGER tr{number} {fires}"]
            if self.dice.chance(8):
                statements.append(f"CREATE VIEW view{number} AS SELECT n FROM {name}")
            if self.dice.chance(5):
                statements.append(f"CREATE MATERIALIZED VIEW kept{number} AS SELECT count(*) FROM {name}")
        return statements


def refers(old: Column, column: Column) -> bool:
    """Tell whether PostgreSQL compares values of one column with those of another as a foreign key."""
    collations = {each for each in (old.collate, column.collate) if each == "nocase"}
    return may_refer(old.type, column.type) and (not collations or old.collate == column.collate)


def may_refer(child: str, parent: str) -> bool:
    return is_exact(parent) or not is_exact(child)


def spelled(column: Column, value: Value) -> Value:
    """Give the value if the column holds it as it is."""
    if column.kind == "int":
        return value if fits(column.type, value) else None
    if column.collate == "char":
        return value if not value.endswith(" ") else None
    return value
