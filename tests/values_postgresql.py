"""Values of PostgreSQL's types that are hard to carry: beyond what Python holds, at the ends of what they are, or odd.

Each kind is a table: its values twice, once under each root, and, where the type has an order, a table of the values
as keys that the first one references.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from psycopg import sql

ROOTS = (1, 2)
LONG = 500  # characters; such a value is in no array


@dataclass(frozen=True)
class Kind:
    """A type with values of it; the values are literals, but for those that are `expressions`."""

    name: str
    type: str
    values: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    key: bool = True
    """It has a default order, so that a key can be made of it."""
    needs: str = ""
    """An extension, or `xml`: not every server has it."""
    since: int = 15
    """The first version that has these values."""
    own: str = ""
    """What is to be made before: a type of the user's own."""
    arrays: bool = False
    """There is a column of arrays, too: an empty one, one with all values, NULL among them, and one of odd bounds."""

    @property
    def table(self) -> str:
        return f"v_{self.name}"

    def script(self) -> Iterator[str]:
        """Make the tables, and fill them."""
        if self.needs not in ("", "xml"):
            yield f"CREATE EXTENSION IF NOT EXISTS {self.needs}"
        yield self.own
        spelled = [f"{sql.Literal(each).as_string()}::{self.type}" for each in self.values]
        rows = enumerate([*spelled, *self.expressions], 1)
        every = f"(VALUES {', '.join(f'({number}, {value})' for number, value in rows)}) AS t (n, v)"
        parent = ""
        if self.key:
            yield f"CREATE TABLE k_{self.name} (v {self.type} PRIMARY KEY)"
            yield f"INSERT INTO k_{self.name} SELECT DISTINCT v FROM {every} WHERE v IS DISTINCT FROM NULL"
            parent = f"REFERENCES k_{self.name}"
        columns = f"v {self.type} {parent}, a {self.type}[]" if self.arrays else f"v {self.type} {parent}"
        yield f"CREATE TABLE {self.table} (id serial PRIMARY KEY, root int NOT NULL REFERENCES root, {columns})"
        roots = f"unnest(ARRAY{list(ROOTS)}) AS r (root)"
        yield f"INSERT INTO {self.table} (root, v) SELECT root, v FROM {roots}, {every} ORDER BY root, n"
        yield f"INSERT INTO {self.table} (root) SELECT root FROM {roots}"
        if self.arrays:
            short = [value for value, text in zip(spelled, self.values, strict=True) if len(text) < LONG]
            listed = f"ARRAY[{', '.join([*short, 'NULL'])}]"
            bounds = f"array_fill({short[-1]}, ARRAY[2, 1], ARRAY[-3, 7])"
            arrays = (
                f"unnest(ARRAY[1, 2, 3], ARRAY['{{}}', {listed}::text, {bounds}::text]::text[]) AS t (n, a)"
            )
            yield f"INSERT INTO {self.table} (root, a) SELECT root, a::{self.type}[] FROM {roots}, {arrays} ORDER BY n"


CONTROLS = "".join(map(chr, [*range(1, 32), 127, *range(128, 160)]))
TEXTS = (
    "",
    " ",
    "  both ends  ",
    CONTROLS,
    *(f"[{chr(number)}]" for number in (8, 9, 10, 11, 12, 13, 27, 92)),
    "\\.",
    "\n\\.\n",
    "a\n\\.",
    "\\N",
    "\\\\N",
    "NULL",
    "null",
    '"NULL"',
    "tab\there\nline\r\nline\rend\n",
    "back\\slash\\\\ \\n \\x41 \\101",
    "'quote' \"double\" `back` $$ %s %% :name ?",
    "{a,b}",
    "😀👩‍👩‍👧 é ǅ ﷽ \ufeff \u2028 \U0010ffff",
    "x" * 100_000,
)
JSONS = (
    '{"a":1,  "a" : 2 }',
    ' {\n\t"b": [1,2 , 3]\r\n} ',
    "1.0",
    "1.10",
    "-0",
    "-0.0",
    "1e2",
    "1E+400",
    "123456789012345678901234567890.123456789012345678901234567890",
    '"\\u00e9\\n\\\\ \\" \\/ 😀"',
    "null",
    '""',
    "[]",
    "{}",
    '{"": {"": [null, true, false]}}',
)
INTERVALS = (
    "1 month",
    "30 days",
    "720 hours",
    "1 year",
    "-1 month +1 day",
    "1 month -1 day -00:00:00.000001",
    "178000000 years",
    "-178000000 years -11 months",
    "00:00:00.000001",
    "2562047788:00:54.775807",
    "0",
)
FLOATS = ("NaN", "Infinity", "-Infinity", "0", "-0", "0.1", "-1.5", "1e15", "16777217", "123456789")
STAMPS = (
    "infinity",
    "-infinity",
    "4714-11-24 00:00:00 BC",
    "0001-12-31 23:59:59.999999 BC",
    "0001-01-01 00:00:00",
    "1969-12-31 23:59:59.999999",
    "1999-12-31 23:59:59.9",
    "9999-12-31 23:59:59.999999",
    "10000-01-01 00:00:00",
    "294276-12-31 23:59:59.999999",
)
TRUSTED = (
    Kind("bool", "bool", ("t", "f")),
    Kind("int2", "int2", ("-32768", "32767", "0")),
    Kind("int4", "int4", ("-2147483648", "2147483647", "0")),
    Kind("int8", "int8", ("-9223372036854775808", "9223372036854775807", "0")),
    Kind("oid", "oid", ("0", "4294967295")),
    Kind("xid8", "xid8", ("0", "18446744073709551615")),
    Kind("pg_lsn", "pg_lsn", ("0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF")),
    Kind("float4", "float4", (*FLOATS, "1e-45", "1.1754944e-38", "3.4028235e38", "0.3333333")),
    Kind(
        "float8",
        "float8",
        (*FLOATS, "5e-324", "2.2250738585072014e-308", "1.7976931348623157e308", "0.30000000000000004"),
        ("1::float8 / 3", "sqrt(2::float8)", "9007199254740993::float8"),
    ),
    Kind(
        "numeric",
        "numeric",
        (
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "0.000",
            "1.1",
            "1.10",
            "-1.100",
            "1e-16383",
            "9" * 1000,
            "-0." + "7" * 1000,
        ),
        ("10::numeric ^ 5000", "1::numeric / 3"),
    ),
    Kind("name", "name", ("", "pg_class", "é" * 31, 'odd "name"')),
    Kind("char", '"char"', ("", "A", "\\", "\t"), ("'é'::\"char\"",)),
    Kind("text", "text", TEXTS, key=False),
    Kind("varchar", "varchar(20)", (" padded ", "", "\\.", "NULL")),
    Kind("bpchar", "char(5)", ("", "a", "ab  ", " ab", "\\N", "é\n")),
    Kind(
        "bytea",
        "bytea",
        ("", "\\x00", "\\x5c2e", "\\x" + bytes(range(256)).hex()),
        ("repeat('x', 300000)::bytea",),
        key=False,
    ),
    Kind("bit", "bit(9)", ("000000000", "101010101", "111111111")),
    Kind("varbit", "varbit", ("", "1", "0000", "1" * 100)),
    Kind(
        "date",
        "date",
        (
            "infinity",
            "-infinity",
            "4714-11-24 BC",
            "0001-12-31 BC",
            "9999-12-31",
            "10000-01-01",
            "5874897-12-31",
        ),
    ),
    Kind("time", "time", ("00:00", "24:00", "23:59:59.999999", "00:00:00.000001")),
    Kind(
        "timetz",
        "timetz",
        ("00:00+00", "24:00-15:59:59", "24:00+15:59:59", "12:34:56.789+05:45", "23:59:59.999999+00:00:01"),
    ),
    Kind("timestamp", "timestamp", STAMPS),
    Kind(
        "timestamptz",
        "timestamptz",
        (
            *(f"{each} +00" if each[-1].isdigit() else each.replace(" BC", "+00 BC") for each in STAMPS),
            "2024-03-31 02:30:00 Europe/Berlin",
        ),
    ),
    Kind("interval", "interval", INTERVALS),
    Kind(
        "uuid",
        "uuid",
        (
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}",
        ),
    ),
    Kind(
        "inet",
        "inet",
        ("192.168.0.1", "192.168.0.1/24", "::1", "fe80::1/64", "::ffff:1.2.3.4/128", "0.0.0.0/0"),
    ),
    Kind("cidr", "cidr", ("10.0.0.0/8", "::/0", "2001:db8::/32", "1.2.3.4/32")),
    Kind("macaddr", "macaddr", ("08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff")),
    Kind("macaddr8", "macaddr8", ("08:00:2b:01:02:03:04:05",)),
    Kind("json", "json", (*JSONS, '"\\u0000"', '{"a": "\\ud83d\\ude00"}'), key=False),
    Kind("jsonb", "jsonb", JSONS),
)
"""A kind for each type whose binary form is trusted."""
BUILTIN = tuple(replace(kind, arrays=True) for kind in TRUSTED)
OTHERS = (
    Kind("infinite", "interval", ("infinity", "-infinity"), since=17, key=False),
    Kind("money", "money", ("-92233720368547758.08", "92233720368547758.07", "0", "1.5"), key=False),
    Kind("cents", "numeric(12,2)", ("NaN", "1.1", "-9999999999.99"), key=False),
    Kind("thousands", "numeric(3,-3)", ("123456", "-999000"), key=False),
    Kind("milliseconds", "timestamptz(3)", ("2024-02-29 23:59:59.9996+00",), key=False),
    Kind("days", "interval day to second(2)", ("1 day 02:03:04.567",), key=False),
    Kind("xid", "xid", ("0", "4294967295"), key=False),
    Kind("tid", "tid", ("(0,1)", "(4294967295,65535)")),
    Kind("snapshot", "pg_snapshot", ("10:20:10,14,15", "1:1:"), key=False),
    Kind("regclass", "regclass", ("pg_class", "k_bool", "-"), key=False),
    Kind("regtype", "regtype", ("int4", "k_bool"), key=False),
    Kind("regprocedure", "regprocedure", ("lower(text)",), key=False),
    Kind("jsonpath", "jsonpath", ("$.a[*] ? (@ > 1)", 'strict $."b \\" c"'), key=False),
    Kind("tsvector", "tsvector", ("", "a:1A,3B fat:2 'it''s' 'b\\\\c'", "'😀':1"), key=False),
    Kind("tsquery", "tsquery", ("", "a & !b <-> 'c d':*A"), key=False),
    Kind("point", "point", ("(0,-0)", "(1e300,-1e-300)", "(NaN,Infinity)"), key=False),
    Kind("line", "line", ("{1,-1,0}",), key=False),
    Kind("lseg", "lseg", ("[(0,0),(1,0.1)]",), key=False),
    Kind("box", "box", ("(1,1),(0,0)", "(Infinity,3),(2,NaN)"), key=False),
    Kind("path", "path", ("[(0,0),(1,1)]", "((0,0),(1,1))"), key=False),
    Kind("polygon", "polygon", ("((0,0),(1,1),(2,0.1))",), key=False),
    Kind("circle", "circle", ("<(0.1,-0),3>",), key=False),
    Kind(
        "xml",
        "xml",
        (
            "<a/>",
            "text <b c='d'>&amp;\n</b>",
            '<?xml version="1.0" standalone="yes"?><é/>',
            "<!DOCTYPE a><a/>",
        ),
        key=False,
        needs="xml",
    ),
    Kind("int4range", "int4range", ("empty", "(,)", "[1,5)", "(1,5]", "[1,)", "(,1)")),
    Kind("numrange", "numrange", ("[1.10,2.0)", "(NaN,NaN]", "[-Infinity,Infinity)", "empty")),
    Kind("daterange", "daterange", ("[infinity,infinity]", "[-infinity,)", "[10000-01-01,)"), key=False),
    Kind("tstzrange", "tstzrange", ('["4714-11-24 00:00:00+00 BC",infinity)', "(,)", "empty"), key=False),
    Kind("multirange", "int4multirange", ("{}", "{[1,2),[5,)}", "{(,)}"), key=False),
    Kind("tsmultirange", "tsmultirange", ("{[infinity,),(,-infinity]}",), key=False),
    Kind(
        "text_range",
        "textrange",
        ('["a b","c\\"d")', '("\\\\",)', "empty", '["",x]'),
        own='CREATE TYPE textrange AS RANGE (subtype = text, collation = "C")',
        key=False,
    ),
    Kind(
        "enum",
        "mood",
        ("sad", "", "ha, 'ha' \"{}\\", "NULL"),
        own="CREATE TYPE mood AS ENUM ('sad', '', 'ha, ''ha'' \"{}\\', 'NULL')",
    ),
    Kind(
        "enums",
        "mood[]",
        ('{sad,"",NULL,"NULL"}', "{}", '{"ha, \'ha\' \\"{}\\\\"}'),
        own="CREATE TABLE after_enum ()",
        key=False,
    ),
    Kind(
        "composite",
        "pair",
        ("(1,)", '(,"a,""b"" (c)\\\\")', '(2,"")', "(,)"),
        own="CREATE TYPE pair AS (n numeric, t text)",
    ),
    Kind("composites", "pair[]", ('{"(1.10,)",NULL,"(,\\"x y\\")"}',), key=False),
    Kind(
        "nested",
        "outer_pair",
        ('("(1,x)","{""(2,)""}")', "(,)"),
        own="CREATE TYPE outer_pair AS (one pair, many pair[])",
        key=False,
    ),
    Kind("row_type", "k_int4", ("(7)",), key=False),
    Kind("domain", "positive", ("1", "1.10"), own="CREATE DOMAIN positive AS numeric CHECK (VALUE > 0)"),
    Kind(
        "domain_of_array",
        "codes",
        ("{a,b}", "{}"),
        own="CREATE DOMAIN codes AS text[] CHECK (array_ndims(VALUE) IS NULL OR array_ndims(VALUE) = 1)",
        key=False,
    ),
    Kind(
        "domain_of_composite",
        "checked_pair",
        ("(1,a)",),
        own="CREATE DOMAIN checked_pair AS pair CHECK ((VALUE).n > 0)",
        key=False,
    ),
    Kind("domains", "positive[]", ("{1,1.10,NULL}",), key=False),
    Kind(
        "integers", "int4[]", ("{}", "{1,NULL}", "[0:1]={1,2}", "{{1,2},{3,4}}", "[-2:-1][5:6]={{1,2},{3,4}}")
    ),
    Kind(
        "texts",
        "text[]",
        ('{NULL,"NULL","null","",a}', '{"a\\"b","c\\\\d"," ","{","}",",","\n"}', '{{"\\\\."},{"\t"}}'),
    ),
    Kind("stamps", "timestamptz[]", ('{infinity,"4714-11-24 00:00:00+00 BC"}',), key=False),
    Kind("paddings", "char(3)[]", ("{a,NULL}",), key=False),
    Kind("ranges", "int4range[]", ('{empty,"[1,2)"}',), key=False),
    Kind("boxes", "box[]", ("{(1,1),(0,0);(2,2),(1,1)}",), key=False),
    Kind("oidvector", "oidvector", ("1 2 4294967295", ""), key=False),
    Kind("int2vector", "int2vector", ("1 -2 3", ""), key=False),
    Kind("citext", "citext", ("Mixed", "", "É"), needs="citext"),
    Kind("hstore", "hstore", ('a=>1, "b c"=>NULL, "=>"=>"NULL"', ""), needs="hstore"),
    Kind("ltree", "ltree", ("a.b.c", ""), needs="ltree", key=False),
    Kind("cube", "cube", ("(0,0.1),(1,2)",), needs="cube", key=False),
    Kind("isbn", "isbn", ("978-0-393-04002-9",), needs="isn"),
    Kind("vector", "vector(3)", ("[1,-0,1e-38]",), needs="vector", key=False),
)


EVERY = (*BUILTIN, *OTHERS)
NEEDED = frozenset(each.needs for each in EVERY) - {""}
OF_TRUSTED = frozenset(
    {"infinite", "cents", "thousands", "milliseconds", "days", "integers", "texts", "stamps", "paddings"}
)
"""Kinds of OTHERS that are made of types whose binary form is trusted."""


def fitting(version: int, features: frozenset[str]) -> tuple[Kind, ...]:
    """Return the kinds that a server of this version with these extensions can have."""
    return tuple(each for each in EVERY if each.since <= version and each.needs in ("", *features))


def script(kinds: tuple[Kind, ...]) -> str:
    """Make a database that holds all these values twice."""
    begin = [
        "CREATE TABLE root (id int PRIMARY KEY)",
        f"INSERT INTO root VALUES {', '.join(f'({n})' for n in ROOTS)}",
    ]
    return ";\n".join([*begin, *(line for kind in kinds for line in kind.script())])
