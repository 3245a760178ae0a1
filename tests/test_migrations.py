"""The bundled history builds the bundled models, step by step, up and down, with rows in it."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from panicdb.experiments import Base, fill

CHECKOUT = Path(__file__).resolve().parents[1]
MIGRATIONS = CHECKOUT / "migrations"
CAPITALS = "3b7308c3b300"
REQUIRED = "88655e3310e8"
DIAGRAM_MODEL = "01ef4120e959"
ONE_PER_MODEL = "e5894a7b84f3"
SMALL = {"runs": 2, "invocations": 5, "image_bytes": (10, 20), "vector_bytes": 12}
NOON = datetime(2025, 4, 1, 12)  # noqa: DTZ001


def history(migrations: Path = MIGRATIONS) -> list[str]:
    script = ScriptDirectory(str(migrations))
    return [step.revision for step in script.walk_revisions()][::-1]


STEPS = list(zip([None, *history()], history(), strict=False))
each_step = pytest.mark.parametrize(("before", "after"), [pytest.param(*step, id=step[1]) for step in STEPS])


class Database:
    """A SQLite file that the history is run against; `engine` is for looking."""

    def __init__(self, path, migrations=MIGRATIONS):
        # No pool: a PRAGMA answers from the schema its connection last read, which goes stale.
        self.engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
        self.config = Config()
        self.config.set_main_option("script_location", str(migrations))
        self.config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")

    def upgrade(self, revision="head"):
        command.upgrade(self.config, revision)

    def downgrade(self, revision):
        command.downgrade(self.config, revision or "base")

    def insert(self, table, *rows):
        with self.engine.begin() as connection:
            reflected = sa.Table(table, sa.MetaData(), autoload_with=connection)
            for row in rows:  # each with the columns it names
                connection.execute(sa.insert(reflected).values(row))

    def column(self, query):
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(query)).scalars())

    def everything(self):
        with self.engine.connect() as connection:
            return {
                table.name: connection.execute(sa.select(table).order_by(table.c.id)).all()
                for table in Base.metadata.sorted_tables
            }


@contextmanager
def disposing(database):
    try:
        yield database
    finally:
        database.engine.dispose()


@pytest.fixture
def database(tmp_path) -> Iterator[Database]:
    with disposing(Database(tmp_path / "migrated.db")) as made:
        yield made


def facts(engine):
    """What SQLite knows of each table, and the constraint names, which its PRAGMAs don't tell."""
    inspector = sa.inspect(engine)
    tables = set(inspector.get_table_names()) - {"alembic_version"}
    with engine.connect() as connection:
        return {
            table: pragma_facts(connection, table) | constraint_names(inspector, table) for table in tables
        }


def pragma_facts(connection, table):
    def pragma(name, of):
        rows = connection.exec_driver_sql(f'PRAGMA {name}("{of}")').mappings()
        return [dict(row) for row in rows]

    indexes = {index["name"]: index for index in pragma("index_list", table)}
    return {
        "columns": pragma("table_xinfo", table),
        # id and seq number the rows in the order of the DDL, which batch mode does not keep
        "foreign keys": sorted(
            tuple(value for name, value in key.items() if name != "id")
            for key in pragma("foreign_key_list", table)
        ),
        "indexes": {
            name: (index["unique"], index["origin"], index["partial"], pragma("index_xinfo", name))
            for name, index in indexes.items()
        },
    }


def constraint_names(inspector, table):
    return {
        "primary key": inspector.get_pk_constraint(table),
        "named foreign keys": {
            key["name"]: (key["constrained_columns"], key["referred_table"])
            for key in inspector.get_foreign_keys(table)
        },
        "named uniques": {
            key["name"]: key["column_names"] for key in inspector.get_unique_constraints(table)
        },
    }


def insert_run(database, number=0, **further):
    """Insert an experiment and a run of it, which leaves its prompt to the database."""
    experiment, run = UUID(int=10 + number).hex, UUID(int=20 + number).hex
    lists = {"networks": [["A", "B"]], "seeds": [1], "prompts": [""], "embedding_models": ["N"]}
    database.insert("experimentconfig", {"id": experiment, "max_length": 3, **lists})
    own = {"network": ["A", "B"], "seed": 1, "max_length": 3, "experiment_id": experiment}
    database.insert("run", {"id": run, **own, **further})
    return run


def invocation(number, run, **further):
    return {
        "id": UUID(int=100 + number).hex,
        "started_at": NOON,
        "model": "A",
        "type": "TEXT",
        "seed": 1,
        "run_id": run,
        "sequence_number": number,
        **further,
    }


def embedding(number, of, model):
    return {
        "id": UUID(int=number).hex,
        "started_at": NOON,
        "invocation_id": of["id"],
        "embedding_model": model,
        "vector": bytes([number]),
    }


def step_before(revision):
    return next(earlier for earlier, later in STEPS if later == revision)


# The history as files


@pytest.mark.quick
def test_history_is_one_line_of_at_least_five_revisions():
    script = ScriptDirectory(str(MIGRATIONS))
    assert len(script.get_heads()) == len(script.get_bases()) == 1
    assert len(STEPS) >= 5
    assert script.get_current_head() == STEPS[-1][1]


@pytest.mark.quick
def test_revisions_are_literals_that_can_be_read_without_importing():
    read = {}
    for path in (MIGRATIONS / "versions").glob("*.py"):
        assigned = {
            statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(statement, ast.Assign) and statement.targets[0].id.endswith("revision")
        }
        assert path.name.startswith(f"{assigned['revision']}_")
        read[assigned["revision"]] = assigned["down_revision"]
    assert read == {after: before for before, after in STEPS}


# Schema


def test_history_goes_up_and_down_through_the_same_schemas(database):
    seen = {None: {}}
    for _, after in STEPS:
        database.upgrade(after)
        seen[after] = facts(database.engine)
    for before, _ in reversed(STEPS):
        database.downgrade(before)
        assert facts(database.engine) == seen[before]
    assert sa.inspect(database.engine).get_table_names() == ["alembic_version"]
    assert database.column("SELECT version_num FROM alembic_version") == []


@each_step
def test_step_can_be_taken_back_and_taken_again(database, before, after):
    database.upgrade(after)
    once = facts(database.engine)
    database.downgrade(before)
    assert database.column("SELECT version_num FROM alembic_version") == ([before] if before else [])
    database.upgrade(after)
    assert facts(database.engine) == once


@pytest.mark.quick
def test_head_is_exactly_the_models(database, tmp_path):
    database.upgrade()
    command.check(database.config)
    with disposing(Database(tmp_path / "created.db")) as created:
        Base.metadata.create_all(created.engine)
        assert facts(database.engine) == facts(created.engine)


@pytest.mark.quick
def test_check_sees_a_difference(database):
    """The check above means something: with an index gone it complains."""
    database.upgrade()
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP INDEX ix_run_experiment_id"))
    with pytest.raises(CommandError, match="ix_run_experiment_id"):
        command.check(database.config)


@pytest.mark.quick
def test_every_foreign_key_column_is_indexed(database):
    database.upgrade()
    inspector = sa.inspect(database.engine)
    keys = {
        (table, key["constrained_columns"][0])
        for table in inspector.get_table_names()
        for key in inspector.get_foreign_keys(table)
    }
    indexed = {
        (table, index["column_names"][0])
        for table in inspector.get_table_names()
        for index in inspector.get_indexes(table)
    }
    assert len(keys) == 5
    assert keys <= indexed


@pytest.mark.quick
def test_every_constraint_has_a_name(database):
    database.upgrade()
    for table, known in facts(database.engine).items():
        assert known["primary key"]["name"] == f"pk_{table}"
        assert None not in known["named foreign keys"].keys() | known["named uniques"].keys()


# Rows


def test_capitals_step_respells_types_and_back(database):
    database.upgrade(step_before(CAPITALS))
    run = insert_run(database)
    spellings = ["text", "Image", "TEXT", " text", "iMAGE"]
    rows = [invocation(number, run, type=type_) for number, type_ in enumerate(spellings)]
    database.insert("invocation", *rows)
    query = "SELECT type FROM invocation ORDER BY sequence_number"
    database.upgrade(CAPITALS)
    assert database.column(query) == ["TEXT", "IMAGE", "TEXT", "TEXT", "IMAGE"]
    database.downgrade(step_before(CAPITALS))
    assert database.column(query) == ["text", "image", "text", "text", "image"]


def test_required_step_keeps_rows_that_were_null(database):
    database.upgrade(step_before(REQUIRED))
    run = insert_run(database, initial_prompt=None)
    database.insert(
        "invocation",
        invocation(0, run, sequence_number=None, output_image_data=b"\x00\xff"),
        invocation(1, run, input_invocation_id=UUID(int=100).hex),
    )
    database.upgrade(REQUIRED)
    assert database.column("SELECT initial_prompt FROM run") == [""]
    assert database.column("SELECT sequence_number FROM invocation ORDER BY id") == [0, 1]
    assert database.column("SELECT output_image_data FROM invocation ORDER BY id") == [
        b"\x00\xff",
        None,
    ]
    with pytest.raises(sa.exc.IntegrityError, match="sequence_number"):
        database.insert("invocation", invocation(2, run, sequence_number=None))


def test_required_columns_have_a_default_in_the_database(database):
    database.upgrade(REQUIRED)
    run = insert_run(database)
    row = invocation(0, run)
    del row["sequence_number"]
    database.insert("invocation", row)
    assert database.column("SELECT initial_prompt FROM run") == [""]
    assert database.column("SELECT sequence_number FROM invocation") == [0]


def test_earlier_diagrams_get_an_unknown_model_and_later_ones_must_name_it(database):
    database.upgrade(step_before(DIAGRAM_MODEL))
    run = insert_run(database)
    diagram = {"id": UUID(int=7).hex, "started_at": NOON, "run_id": run, "diagram_data": b"x"}
    database.insert("persistencediagram", diagram)
    database.upgrade(DIAGRAM_MODEL)
    assert database.column("SELECT embedding_model FROM persistencediagram") == ["unknown"]
    with pytest.raises(sa.exc.IntegrityError, match="embedding_model"):
        database.insert("persistencediagram", diagram | {"id": UUID(int=8).hex})
    database.downgrade(step_before(DIAGRAM_MODEL))
    assert database.column("SELECT diagram_data FROM persistencediagram") == [b"x"]


def test_of_duplicate_embeddings_the_lowest_id_stays(database):
    database.upgrade(step_before(ONE_PER_MODEL))
    one, two = (invocation(n, insert_run(database, n)) for n in (0, 1))
    database.insert("invocation", one, two)
    database.insert(
        "embedding",
        embedding(33, one, "Nomic"),
        embedding(31, one, "Nomic"),
        embedding(32, one, "Nomic"),
        embedding(34, one, "JinaClip"),
        embedding(35, two, "Nomic"),
    )
    database.upgrade(ONE_PER_MODEL)
    assert database.column("SELECT vector FROM embedding ORDER BY id") == [b"\x1f", b'"', b"#"]
    with pytest.raises(sa.exc.IntegrityError, match="UNIQUE"):
        database.insert("embedding", embedding(36, one, "Nomic"))


def test_a_full_database_survives_the_way_down_and_up(database):
    database.upgrade()
    fill(database.engine, experiments=2, **SMALL)
    filled = database.everything()
    database.downgrade(STEPS[1][1])
    database.upgrade()
    refilled = database.everything()
    assert refilled.pop("persistencediagram") == []
    assert len(filled.pop("persistencediagram")) == 2 * 2 * 2
    assert refilled == filled


# env.py


def test_connection_that_is_handed_over_is_used_instead_of_the_url(database, tmp_path):
    with disposing(Database(tmp_path / "given.db")) as given:
        with given.engine.connect() as connection:
            database.config.attributes["connection"] = connection
            database.upgrade()
        assert "run" in facts(given.engine)
    assert not (tmp_path / "migrated.db").exists()


@pytest.mark.quick
def test_missing_url_is_told():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with pytest.raises(CommandError, match="no database"):
        command.upgrade(config, "head")


@pytest.mark.quick
@pytest.mark.parametrize("direction", ["up", "down"])
def test_history_is_plain_sql_for_postgresql(database, capsys, direction):
    """Offline mode renders it without a server or a driver: nothing looks at the database."""
    database.config.set_main_option("sqlalchemy.url", "postgresql://nobody@nowhere/none")
    if direction == "up":
        command.upgrade(database.config, "head", sql=True)
    else:
        command.downgrade(database.config, "head:base", sql=True)
    sql = capsys.readouterr().out
    assert ("CREATE TABLE persistencediagram" in sql) == (direction == "up")
    assert "ALTER TABLE invocation ALTER COLUMN sequence_number" in sql
    assert "_alembic_tmp" not in sql
    assert "PRAGMA" not in sql


def test_alembic_command_works_from_any_directory(tmp_path):
    def alembic(*words):
        return subprocess.run(
            [sys.executable, "-m", "alembic", "-c", str(CHECKOUT / "alembic.ini"), *words],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )

    upgraded = alembic("upgrade", "head")
    assert "Running upgrade" in upgraded.stderr
    assert (tmp_path / "panic-tda.db").exists()
    assert "No new upgrade operations detected" in alembic("check").stdout


def test_logging_set_up_by_a_file_leaves_other_loggers_alone(tmp_path):
    script = (
        "import logging, sys; from alembic import command; from alembic.config import Config\n"
        "mine = logging.getLogger('mine')\n"
        "command.upgrade(Config(sys.argv[1]), 'head'); print(mine.disabled)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(CHECKOUT / "alembic.ini")],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == ["False"]


def test_history_can_lie_elsewhere_and_be_continued_there(tmp_path):
    """As in the installed package; the template writes a revision that runs and is empty."""
    moved = tmp_path / "package" / "migrations"
    shutil.copytree(MIGRATIONS, moved, ignore=shutil.ignore_patterns("__pycache__"))
    with disposing(Database(tmp_path / "moved.db", moved)) as database:
        database.upgrade()
        made = command.revision(database.config, "nothing new", autogenerate=True)
        text = Path(made.path).read_text(encoding="utf-8")
        assert f'down_revision = "{STEPS[-1][1]}"' in text
        assert text.count("    pass") == 2
        database.upgrade()
        assert history(moved)[-1] == made.revision
        assert database.column("SELECT version_num FROM alembic_version") == [made.revision]


# Sample data


@pytest.mark.quick
def test_fill_writes_the_same_rows_for_the_same_arguments(tmp_path):
    def filled(name, **arguments):
        with disposing(Database(tmp_path / name)) as database:
            Base.metadata.create_all(database.engine)
            ids = fill(database.engine, experiments=2, **SMALL, **arguments)
            return ids, database.everything()

    assert filled("one.db") == filled("two.db")
    assert filled("three.db", seed=1)[0] != filled("four.db")[0]


@pytest.mark.quick
def test_fill_writes_what_was_asked_for_and_breaks_no_foreign_key(database):
    database.upgrade()
    ids = fill(database.engine, experiments=3, embeddings=7, **SMALL)
    assert ids == [identifier for identifier in ids if len(identifier) == 32]
    rows = database.everything()
    assert {row.id.hex for row in rows["experimentconfig"]} == set(ids)
    counts = {table: len(found) for table, found in rows.items()}
    assert counts == {
        "experimentconfig": 3,
        "run": 3 * 2,
        "invocation": 3 * 2 * 5,
        "embedding": 3 * 2 * 5 * 7,
        "persistencediagram": 3 * 2 * 7,
    }
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


@pytest.mark.quick
def test_fill_makes_chains_of_images_and_texts(database):
    database.upgrade()
    fill(database.engine, experiments=1, **SMALL)
    rows = database.everything()
    for run in rows["run"]:
        chain = sorted(
            (row for row in rows["invocation"] if row.run_id == run.id),
            key=lambda row: row.sequence_number,
        )
        assert [row.input_invocation_id for row in chain] == [None, *(r.id for r in chain[:-1])]
        assert [row.type for row in chain] == ["IMAGE", "TEXT", "IMAGE", "TEXT", "IMAGE"]
        assert all(10 <= len(row.output_image_data) <= 20 for row in chain[::2])
        assert all(row.output_text is None for row in chain[::2])
        assert all(row.output_text and row.output_image_data is None for row in chain[1::2])
    assert {len(row.vector) for row in rows["embedding"]} == {12}


@pytest.mark.quick
def test_fill_joins_the_transaction_of_a_connection(database):
    database.upgrade()
    with database.engine.connect() as connection:
        fill(connection, experiments=1, **SMALL)
        connection.rollback()
    assert not any(database.everything().values())
