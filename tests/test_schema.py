"""Every drift between two schemas is found, with its severity, and nothing else is."""

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drift_kinds import BASE, DRIFTS, B, C, E, S
from panicdb.backends.sqlite import ddl
from panicdb.backends.sqlite.facts import read_facts
from panicdb.schema import Difference, compare
from panicdb.values import Fact

pytestmark = pytest.mark.quick


@pytest.fixture
def facts_of():
    """Build a schema in memory; return its facts."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.NullPool)

    def build(script, schema="main"):
        with engine.connect() as connection:
            connection.connection.driver_connection.executescript(script)
            return read_facts(connection, schema)

    yield build
    engine.dispose()


def found(differences):
    return {(item.object, item.property): item.severity for item in differences}


@pytest.mark.parametrize("drift", DRIFTS, ids=str)
@pytest.mark.fault(19)
def test_every_drift_is_found_alone_with_its_severity(facts_of, drift):
    assert BASE.count(drift.old) == 1
    base, drifted = facts_of(BASE), facts_of(BASE.replace(drift.old, drift.new))
    forth = {key: severities[0] for key, severities in drift.expected.items()}
    back = {key: severities[1] for key, severities in drift.expected.items()}
    assert found(compare(base, drifted)) == forth
    assert found(compare(drifted, base)) == back


def test_there_are_many_kinds_of_drift():
    assert len({drift.name for drift in DRIFTS}) == len(DRIFTS) >= 60


def test_a_renamed_index_is_one_cosmetic_difference(facts_of):
    renamed = facts_of(BASE.replace("ix_seed", "ix_run_seed"))
    differences = compare(facts_of(BASE), renamed)
    assert differences == (Difference(C, "index ix_seed", "name", "ix_seed", "ix_run_seed"),)


def test_a_renamed_index_is_not_found_twice(facts_of):
    twice = facts_of(BASE + "CREATE INDEX ix_again ON run (seed, kind);")
    assert found(compare(facts_of(BASE), twice)) == {("index ix_again", E): S}


def test_a_missing_table_takes_all_that_belongs_to_it_along(facts_of):
    """Its columns, keys, indexes and triggers; a view that it leaves broken is still read."""
    base, without = facts_of(BASE), facts_of(BASE + "DROP TABLE run;")
    assert found(compare(base, without)) == {("table run", E): B}
    assert found(compare(without, base)) == {("table run", E): S}


def test_a_required_key_that_is_enforced_otherwise_blocks_nothing(facts_of):
    table = "CREATE TABLE t (a INT, b INT, {});"
    by_constraint = facts_of(table.format("UNIQUE (a, b)"))
    by_index = facts_of("CREATE TABLE t (a INT, b INT); CREATE UNIQUE INDEX ix ON t (b, a);")
    by_key = facts_of(table.format("PRIMARY KEY (a, b)"))
    for source in (by_constraint, by_index, by_key):
        for target in (by_constraint, by_index, by_key):
            assert B not in found(compare(source, target)).values()


def test_a_rowid_alias_is_never_null(facts_of):
    alias = facts_of("CREATE TABLE t (a INTEGER PRIMARY KEY);")
    spelled = facts_of("CREATE TABLE t (a INTEGER NOT NULL PRIMARY KEY);")
    assert found(compare(alias, spelled)) == {("column t.a", "nullability"): S}


# --- no difference where there is none ---


def test_a_schema_equals_itself_made_from_its_own_ddl(facts_of, tmp_path):
    path = tmp_path / "a.db"
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.connection.driver_connection.executescript(BASE + "VACUUM;")
        rows = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master JOIN pragma_table_list(tbl_name) AS t "
            "WHERE sql IS NOT NULL AND tbl_name NOT LIKE 'sqlite^_%' ESCAPE '^' "
            "AND t.type <> 'shadow' ORDER BY sqlite_master.type = 'trigger', sqlite_master.rowid"
        )
        again = facts_of(";".join(row[0] for row in rows) + ";")
        original = read_facts(connection)
    engine.dispose()
    assert original == again == facts_of(BASE)
    assert compare(original, again) == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(a INT UNIQUE)", "(a INT, UNIQUE (a))"),
        ("(a INT PRIMARY KEY)", "(a INT, PRIMARY KEY (a))"),
        ("(a INT CHECK (a > 0))", "(a INT, CHECK (((a > 0))))"),
        ("(a INT REFERENCES p)", "(a INT, FOREIGN KEY (a) REFERENCES p (id))"),
        ("(a INT REFERENCES p (id))", "(a INT REFERENCES P (ID) ON DELETE NO ACTION)"),
        ("(a INT REFERENCES p)", "(a INT REFERENCES p MATCH SIMPLE NOT DEFERRABLE)"),
        (
            "(a INT REFERENCES p DEFERRABLE)",
            "(a INT, FOREIGN KEY (a) REFERENCES p DEFERRABLE INITIALLY IMMEDIATE)",
        ),
        ("(a INT, b INT, UNIQUE (a), CHECK (b > 0))", "(a INT, b INT, CHECK (b > 0), UNIQUE (a))"),
        (
            "(a INT REFERENCES p, b INT REFERENCES p)",
            "(a INT, b INT, FOREIGN KEY (b) REFERENCES p, FOREIGN KEY (a) REFERENCES p)",
        ),
        (
            "(a INT REFERENCES p, FOREIGN KEY (a) REFERENCES p ON DELETE CASCADE)",
            "(a INT REFERENCES p ON DELETE CASCADE, FOREIGN KEY (a) REFERENCES p)",
        ),
        ("(a VARCHAR (10) DEFAULT ('x'))", "(a varchar(10) default 'x')"),
        ("(a INT NULL DEFAULT NULL)", "(a INT)"),
        ("(a INT NOT NULL ON CONFLICT ABORT)", "(a INT NOT NULL)"),
        ("(a TEXT COLLATE BINARY)", "(a TEXT)"),
        ("(a INT, b AS (a + 1))", "(a INT, b GENERATED ALWAYS AS (A+1) VIRTUAL)"),
        ("(a INT /* , b INT */)", "(a INT -- )\n)"),
        ("(a INT, UNIQUE (a), UNIQUE (a))", "(a INT UNIQUE)"),
    ],
)
def test_another_spelling_is_no_difference(facts_of, one, other):
    parent = "CREATE TABLE p (id INTEGER PRIMARY KEY);"
    first, second = (facts_of(f"{parent} CREATE TABLE t {body};") for body in (one, other))
    assert compare(first, second) == ()


TABLES = BASE[: BASE.index("CREATE VIEW")]
COLUMNS = {
    "id",
    "name",
    "length",
    "started",
    "config_id",
    "seed",
    "kind",
    "note",
    "a",
    "b",
    "x",
    "y",
}
GAPS = st.sampled_from([" ", "\n\t", "/* ' */", " -- ) \n"])
QUOTES = st.sampled_from(['"{}"', "[{}]", "`{}`", "{}"])


@st.composite
def spelled_otherwise(draw):
    """Write TABLES with other gaps, another case of words and other quotes around columns."""
    parts = []
    for token in ddl.tokens(TABLES):
        text = token.text
        if token.kind is ddl.TokenKind.WORD and text in COLUMNS:
            text = draw(QUOTES).format(text)
        elif text.upper() in {"CREATE", "TABLE", "NOT", "NULL", "CHECK", "GLOB", "LOWER", "UNIQUE"}:
            text = draw(st.sampled_from([text.upper(), text.lower()]))
        # SQLite itself reports another type where a comment parts GENERATED from ALWAYS.
        parts.append(text + (" " if text in {";", "GENERATED"} else draw(GAPS)))
    return "".join(parts)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=spelled_otherwise())
def test_spelling_is_never_a_difference(facts_of, script):
    assert compare(facts_of(TABLES), facts_of(script)) == ()


METADATA = sa.MetaData()
sa.Table(
    "parent",
    METADATA,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.String(20, collation="NOCASE"), unique=True),
    sa.Column("Made", sa.DateTime, server_default=sa.func.current_timestamp(), nullable=False),
)
sa.Table(
    "child",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.ForeignKey("parent.id", ondelete="CASCADE"), index=True),
    sa.Column("order", sa.Integer, server_default="0"),
    sa.Column("twice", sa.Integer, sa.Computed('"order" * 2', persisted=True)),
    sa.UniqueConstraint("parent_id", "order", name="uq_child"),
    sa.CheckConstraint('"order" >= 0', name="ck_child"),
)
BY_HAND = """
create table child (
    id integer primary key not null,
    parent_id char(32) references parent on delete cascade,
    [order] integer default ('0') constraint ck_child check (([order]>=0)),
    twice integer as ([order]*2) stored,
    constraint uq_child unique (parent_id, [order])
);
create table parent (
    id char(32) not null primary key,
    name varchar(20) collate nocase unique,
    Made datetime default current_timestamp not null
);
create index ix_child_parent_id on child(parent_id);
"""


def test_models_equal_the_same_schema_written_by_hand(facts_of):
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    with engine.begin() as connection:
        METADATA.create_all(connection)
        facts = read_facts(connection)
    engine.dispose()
    assert compare(facts, facts_of(BY_HAND)) == ()
    changed = facts_of(BY_HAND.replace("default ('0')", "default (0)"))
    assert found(compare(facts, changed)) == {("column child.order", "default"): S}


def test_batch_migrations_equal_what_they_say(facts_of):
    """Batch mode copies tables and writes their constraints in an order of its own."""
    before = """
        CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (
            id INTEGER NOT NULL,
            parent_id INTEGER,
            size INTEGER,
            CONSTRAINT pk_child PRIMARY KEY (id),
            CONSTRAINT uq_parent UNIQUE (parent_id, size),
            CONSTRAINT ck_size CHECK (size > 0),
            CONSTRAINT fk_parent FOREIGN KEY (parent_id) REFERENCES parent (id) ON DELETE CASCADE
            {}
        );
        CREATE INDEX ix_size ON child (size);
    """
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    with engine.begin() as connection:
        connection.connection.driver_connection.executescript(before.format(""))
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("child") as batch:
            batch.create_unique_constraint("uq_size", ["size"])
            batch.create_check_constraint("ck_even", "size % 2 = 0")
        facts = read_facts(connection)
    engine.dispose()
    more = ", CONSTRAINT ck_even CHECK (size % 2 = 0), CONSTRAINT uq_size UNIQUE (size)"
    assert compare(facts, facts_of(before.format(more))) == ()
    assert B in found(compare(facts_of(before.format("")), facts)).values()


# --- what is odd, damaged or hostile ---


def test_odd_names_are_read_and_spelled(facts_of):
    odd = """CREATE TABLE "a.b" ("x y" INT, "q""q" INT, "100%" INT, "é" INT UNIQUE);"""
    facts = facts_of(odd)
    assert {name for name, aspect in facts if aspect == E} == {
        'table "a.b"',
        'column "a.b"."x y"',
        'column "a.b"."q""q"',
        'column "a.b"."100%"',
        'column "a.b"."é"',
        'unique "a.b"("é")',
    }
    assert ('table "a.b"', "definition") not in facts


def test_ddl_that_is_not_understood_is_compared_whole(facts_of):
    """SQLite takes GENERATED for a type here; the reader does not pretend to know what it is."""
    odd = "CREATE TABLE t (a generated, b INT CHECK (b > {}));"
    one, same, other = facts_of(odd.format(0)), facts_of(odd.format("0 ")), facts_of(odd.format(1))
    assert ("table t", "definition") in one
    assert compare(one, same) == ()
    assert found(compare(one, other)) == {("table t", "definition"): B}


def test_bytes_that_are_no_text_are_read_and_compared(facts_of):
    broken = """
        CREATE TABLE t (a TEXT DEFAULT 'x'); CREATE TABLE u (b INT);
        PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET sql = CAST(replace(CAST(sql AS BLOB), 'x', x'{}') AS TEXT);
        UPDATE sqlite_master SET tbl_name = CAST(x'75ff' AS TEXT), name = CAST(x'75ff' AS TEXT),
            sql = CAST(x'435245415445205441424c452075ff20286220494e5429' AS TEXT)
            WHERE name = 'u';
        PRAGMA writable_schema = RESET;
    """
    one, other = facts_of(broken.format("ff")), facts_of(broken.format("fe"))
    assert one["column t.a", "default"].value == r"'\xff'"
    assert (r'column "u\xff".b', "type") in one
    assert found(compare(one, other)) == {("column t.a", "default"): S}


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_the_encoding_of_the_database_does_not_matter(facts_of, encoding):
    names = "CREATE TABLE été (naïve TEXT DEFAULT 'ü');"
    facts = facts_of(f"PRAGMA encoding = '{encoding}';" + names + BASE)
    assert compare(facts_of(names + BASE), facts) == ()


def test_a_virtual_table_of_an_unknown_module_is_read(facts_of):
    script = """
        PRAGMA writable_schema = ON;
        INSERT INTO sqlite_master VALUES
            ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING unheard_of(a, "b)")');
        PRAGMA writable_schema = RESET;
    """
    facts = facts_of(script)
    assert facts["virtual table v", "arguments"].value == 'unheard_of ( a , "b)" )'


def test_internal_and_shadow_tables_are_left_out(facts_of):
    facts = facts_of(BASE + "INSERT INTO counter (note) VALUES ('a'); ANALYZE;")
    names = {name for name, _ in facts if name.startswith(("table", "virtual"))}
    tables = {f"table {name}" for name in ("config", "run", "counter", "pair", "hard")}
    assert names == tables | {"virtual table words"}


def test_an_attached_schema_is_read_alone(facts_of):
    attached = BASE.replace("CREATE TABLE ", "CREATE TABLE other.").replace(" ON ", " ON ")
    attached = attached[: attached.index("CREATE INDEX")]
    script = f"ATTACH ':memory:' AS other; CREATE TABLE here (a); {attached}"
    plain = facts_of(BASE[: BASE.index("CREATE INDEX")])
    assert compare(plain, facts_of(script, "other")) == ()
    assert found(compare(plain, facts_of(script)))["table here", E] is S


# --- comparison alone ---


def test_gravest_first():
    def facts(**severities):
        return {(name, E): Fact("present", demands=frozenset(d)) for name, d in severities.items()}

    differences = compare(facts(gone=()), facts(mild=(), grave=("all rows are green",)))
    assert [(item.severity, item.object) for item in differences] == [
        (B, "grave"),
        (S, "gone"),
        (S, "mild"),
    ]


def test_differences_are_sentences():
    assert str(Difference(B, "column run.seed", "type", "INTEGER", "BIGINT")) == (
        "column run.seed: type is INTEGER in the source, BIGINT in the target"
    )
    assert str(Difference(B, "table run", E, "present", None)) == "table run: missing in the target"
    assert str(Difference(S, "view v", E, None, "present")) == "view v: only in the target"
    assert str(Difference(S, "index i", "definition", None, "x")) == (
        "index i: definition is (absent) in the source, x in the target"
    )


def test_long_values_are_cut_where_they_differ():
    text = str(Difference(S, "view v", "body", "a" * 500 + "X" + "b" * 500, "a" * 500 + "Y"))
    assert len(text) < 200
    assert "aX" in text
    assert "aY" in text
