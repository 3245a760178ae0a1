"""SQLite's DDL is read as SQLite reads it, and what can't be read never raises."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicdb.backends.sqlite import ddl

pytestmark = pytest.mark.quick


def texts(sql):
    return [token.text for token in ddl.tokens(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a+b", ["a", "+", "b"]),
        ("'it''s -- no /* comment */ [x] \"y\"'", ["'it''s -- no /* comment */ [x] \"y\"'"]),
        ("GLOB '[a-z]*'", ["GLOB", "'[a-z]*'"]),
        ("a -- b\n, c /* d\n e */, f", ["a", ",", "c", ",", "f"]),
        ("a/*", ["a"]),
        ('"a""b" `c``d` [e"f]', ['"a""b"', "`c``d`", '[e"f]']),
        ("X'00ff' x''", ["X'00ff'", "x''"]),
        ("1 .5 2. 3e-4 0xFF 1_000", ["1", ".5", "2.", "3e-4", "0xFF", "1_000"]),
        ("a->>'$.x' -> b || c", ["a", "->>", "'$.x'", "->", "b", "||", "c"]),
        ("<>!=<=>=<<>>==", ["<>", "!=", "<=", ">=", "<<", ">>", "=="]),
        ("((a))", ["(", "(", "a", ")", ")"]),
        ("été naïve$1", ["été", "naïve$1"]),
        ("'open", ["'open"]),
        ('"', ['"']),
        ("[open -- here", ["[open -- here"]),
    ],
)
def test_tokens(sql, expected):
    assert texts(sql) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('"a""b"', 'a"b'),
        ("`a``b`", "a`b"),
        ("[a]", "a"),
        ("'a''b'", "a'b"),
        ("plain", "plain"),
        ('""', ""),
        ('"', ""),
        ("[x", "x"),
    ],
)
def test_a_name_is_unquoted(text, name):
    assert ddl.tokens(text)[0].name == name


@given(st.text(alphabet="ab1_ \n\t\"'`[](),;.-/*xX<>=|é", max_size=40))
def test_tokens_cover_every_text_and_survive_being_spaced(sql):
    """Nothing but space and comments is lost, and tokens joined by a space are the same tokens."""
    written = texts(sql)
    assert all(token in sql for token in written)
    # An open literal takes everything that follows, so only the last token can be one.
    assert texts(" ".join(written)) == written


@given(st.text(alphabet="ab \"'`[](),.-/*", max_size=30))
def test_readers_never_raise(sql):
    for text in (sql, f"CREATE TABLE t ({sql})", f"CREATE INDEX i ON t ({sql}) WHERE {sql}"):
        ddl.read_table(text)
        ddl.read_index(text)
        ddl.body(text, "view")
        ddl.expression(ddl.tokens(text))
        ddl.statement(ddl.tokens(text))
        ddl.default(text)


def expression(sql):
    return ddl.expression(ddl.tokens(sql), {"seed", "order", "a b"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("seed > 0", 'SEED>0 -- "positive"'),
        ("seed > 0", '"Seed" > 0'),
        ("seed > 0", "[seed] > /* really */ 0"),
        ("seed > 0", "((seed > 0))"),
        ("LENGTH(seed) > 0", "length ( `seed` ) > 0"),
        ('"order" > 0', "[Order] > 0"),
        ("[a b] > 0", '"A B" > 0'),
        ("CAST(seed AS TEXT)", "cast(seed as text)"),
    ],
)
def test_expressions_that_mean_the_same(one, other):
    assert expression(one) == expression(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("seed = 'a'", "seed = 'A'"),
        ("seed = 'a b'", "seed = 'a  b'"),
        ("seed GLOB '[a-z]*'", "seed GLOB 'a-z*'"),
        # SQLite takes an unknown name in double quotes for a string.
        ('seed = "Done"', 'seed = "done"'),
        ('seed = "null"', "seed = null"),
        ('seed = "true"', "seed = true"),
        ("(seed) > (0)", "seed) > (0"),
        ("(seed, 1)", "seed, 1"),
        ("seed = x'00'", "seed = '00'"),
        ('"+"', "+"),
        ('"1"', "1"),
    ],
)
def test_expressions_that_mean_something_else(one, other):
    assert expression(one) != expression(other)


def statement(sql):
    return ddl.statement(ddl.tokens(sql))


def test_statements_keep_the_case_of_names_alone():
    assert statement("select COUNT(*) as N from Run") == statement('SELECT count(*) AS N FROM "Run"')
    assert statement("select a as n") != statement("select a as N")
    assert statement("select 'X'") != statement("select 'x'")
    assert statement('select "distinct" a') != statement("select distinct a")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CURRENT_TIMESTAMP", "current_timestamp"),
        ("NULL", None),
        ("'a'", '"a"'),
        ("a", "'a'"),
        ("('a')", "'a'"),
        ("datetime('now')", "DATETIME ( 'now' )"),
        ("-1", "- 1"),
    ],
)
def test_defaults_that_mean_the_same(one, other):
    assert ddl.default(one) == ddl.default(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "A"), ("true", "'true'"), ('"null"', "null"), ("1", "'1'"), ("'x'", None), ("''", None)],
)
def test_defaults_that_mean_something_else(one, other):
    assert ddl.default(one) != ddl.default(other)


EVERYTHING = """
CREATE TABLE "odd, (name)" (
    -- a comment, with (brackets
    id INTEGER CONSTRAINT pk PRIMARY KEY ASC ON CONFLICT ROLLBACK AUTOINCREMENT,
    [key] VARCHAR(10, 2) CONSTRAINT nn NOT NULL ON CONFLICT FAIL COLLATE nocase DEFAULT 'a, (b',
    `check` UNSIGNED BIG INT DEFAULT (1 + (2)) CHECK (`check` GLOB '[a-z]*)') UNIQUE,
    'text' DEFAULT -1 NULL REFERENCES parent ON DELETE SET NULL MATCH full
        NOT DEFERRABLE INITIALLY IMMEDIATE,
    untyped,
    made TEXT GENERATED ALWAYS AS (lower([key])) STORED,
    also AS (upper("key")),
    CONSTRAINT uq UNIQUE ([key] COLLATE RTRIM DESC, untyped) ON CONFLICT IGNORE
    CONSTRAINT ck CHECK (length("key") > (0)) /* no comma before or after this one */
    CONSTRAINT fk FOREIGN KEY ([key], untyped) REFERENCES parent(a, b)
        ON UPDATE NO ACTION ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT dangling
)
"""


def test_everything_in_a_table():
    table = ddl.read_table(EVERYTHING)
    assert table == ddl.CreateTable(
        columns=(
            ddl.Column("id"),
            ddl.Column("key", "NOCASE", None, "FAIL", ("not null nn",)),
            ddl.Column("check"),
            ddl.Column("text"),
            ddl.Column("untyped"),
            ddl.Column("made", generated=("lower", "(", "key", ")")),
            ddl.Column("also", generated=("upper", "(", "key", ")")),
        ),
        primary_key=ddl.Key((("id", None),), "pk", "ROLLBACK"),
        unique=(
            ddl.Key((("check", None),)),
            ddl.Key((("key", "RTRIM"), ("untyped", None)), "uq", "IGNORE"),
        ),
        foreign_keys=(
            ddl.ForeignKey(("text",), "parent", None, "FULL"),
            ddl.ForeignKey(("key", "untyped"), "parent", "fk", "SIMPLE", "DEFERRABLE INITIALLY DEFERRED"),
        ),
        checks=(
            ddl.Check(('"check"', "glob", "'[a-z]*)'")),
            ddl.Check(("length", "(", "key", ")", ">", "(", "0", ")"), "ck"),
        ),
        autoincrement=True,
    )


def test_sqlite_accepts_that_table_too():
    """Otherwise the test above would prove nothing."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(EVERYTHING)
        stored = connection.execute("SELECT sql FROM sqlite_master").fetchone()[0]
    assert ddl.read_table(stored) == ddl.read_table(EVERYTHING)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "CREATE TABLE t",
        "CREATE TABLE t (a",
        "CREATE TABLE t (a INT FANCY(1) NEW WORD)",
        "CREATE TABLE t (a INT) SOMEDAY",
        "CREATE TABLE t (a INT) WITHOUT",
        "CREATE TABLE t (a REFERENCES p ON DELETE EXPLODE)",
        "CREATE TABLE t (a, PRIMARY KEY (a + 1))",
        "CREATE VIEW t AS SELECT 1",
    ],
)
def test_what_is_not_understood_is_none(sql):
    assert ddl.read_table(sql) is None
    assert ddl.column_collations(sql) == {}


def test_collations():
    sql = "CREATE TABLE t (a TEXT COLLATE NoCase, b, c collate [rtrim])"
    assert ddl.column_collations(sql) == {"a": "NOCASE", "b": "BINARY", "c": "RTRIM"}


def test_an_index():
    index = ddl.read_index(
        "CREATE UNIQUE INDEX i ON t (a, lower(b, ',') COLLATE NOCASE DESC, c ASC) WHERE a > (1)"
    )
    items = [[token.text for token in item] for item in index.items]
    assert items == [["a"], ["lower", "(", "b", ",", "','", ")"], ["c"]]
    assert [token.text for token in index.where] == ["a", ">", "(", "1", ")"]
    assert ddl.read_index("CREATE INDEX i ON t (a) SOMEDAY") is None


def test_a_body_starts_after_the_name():
    assert texts("AS SELECT 1") == [t.text for t in ddl.body('CREATE VIEW "v" AS SELECT 1', "view")]
    whole = ddl.body("CREATE SOMETHING v AS SELECT 1", "view")
    assert [token.text for token in whole] == texts("CREATE SOMETHING v AS SELECT 1")


def test_deep_nesting_is_no_recursion():
    deep = "(" * 5000 + "a" + ")" * 5000
    assert ddl.read_table(f"CREATE TABLE t (a CHECK {deep})").checks[0].expression == ("a",)
