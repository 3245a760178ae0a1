"""`panicdb drift`: what a live schema and its history do not share is found, nothing else; the source is only read."""

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import panicdb
import seeds
from application import (
    HEAD,
    fingerprint,
    goal_in,
    history_of,
    query,
    replay,
    write_application,
)
from drift_kinds import BASE, DRIFTS
from panicdb.replays import Order
from panicdb.replays import replay as make
from panicdb.values import Monitor

REVISION = "ba5e0000ba5e"
VERSION_TABLE = """
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO alembic_version VALUES ('@REVISION@');
""".replace("@REVISION@", REVISION)
PAIRS = 100
PARTS = 10
SAMPLE = DRIFTS[:: len(DRIFTS) // 6]


def statements(script):
    """Split a script where SQLite does."""
    found, rest = [], ""
    for line in script.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            found.append(rest.strip())
            rest = ""
    assert not rest.strip()
    return found


@pytest.fixture
def application(tmp_path, monkeypatch):
    """An application in the working directory, whose one revision makes a schema with something of everything."""
    executed = "\n".join(
        f"    op.get_bind().exec_driver_sql({statement!r})" for statement in statements(BASE)
    )
    only = f"from alembic import op\nrevision = {REVISION!r}\ndown_revision = None\n\ndef upgrade():\n{executed}\n"
    folder = tmp_path / "application"
    write_application(
        folder,
        {"migrations/versions/first.py": only, "migrations/versions/second.py": ""},
        url="sqlite:///production.db",
    )
    monkeypatch.chdir(folder)
    return folder


def made(path, schema):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema + VERSION_TABLE)
    return path


def test_a_schema_that_did_not_drift(application, cli):
    source = made(application / "source.db", BASE)
    before = fingerprint(application)
    done = cli("drift", "source.db")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "the schema of source.db is what its migrations build"
    assert "0 differences" in done.stdout
    assert fingerprint(application) == before
    found = json.loads(cli("drift", source, "--json").stdout)
    assert set(found) == {
        "source",
        "revisions",
        "history",
        "way",
        "protection",
        "objects",
        "facts",
        "ok",
        "differences",
        "failures",
    }
    assert (found["ok"], found["differences"]) == (True, [])


def drift_of(application, kind):
    source = made(application / "source.db", BASE.replace(kind.old, kind.new))
    return panicdb.drift(str(source))


def require_found(found, kind):
    """The live schema is the source; what its migrations build is the target."""
    expected = {key: severities[1] for key, severities in kind.expected.items()}
    assert {(each.object, each.property): each.severity for each in found.differences} == expected


@pytest.mark.parametrize("kind", SAMPLE, ids=str)
@pytest.mark.fault(19)
def test_a_sample_of_drifts_is_found(application, kind):
    require_found(drift_of(application, kind), kind)


@pytest.mark.prove
@pytest.mark.parametrize("kind", DRIFTS, ids=str)
@pytest.mark.fault(19)
def test_every_kind_of_drift_is_found_in_a_live_database(application, kind):
    require_found(drift_of(application, kind), kind)


def test_drift_is_told_line_by_line_and_by_the_exit_code(application, cli):
    made(application / "source.db", BASE + "CREATE TABLE scratch (a); CREATE INDEX more ON config (length);")
    done = cli("drift", "source.db")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:2] == [
        "blocking: table scratch: missing in what its migrations build",
        "semantic: index more: missing in what its migrations build",
    ]
    assert done.stdout.splitlines()[-1] == "the schema of source.db is not what its migrations build"
    differences = json.loads(cli("drift", "source.db", "--json").stdout)["differences"]
    assert differences[0] == {
        "severity": "blocking",
        "object": "table scratch",
        "property": "existence",
        "source": "present",
        "migrations": None,
    }


def test_what_can_not_be_compared_is_no_drift(application, cli):
    """Exit code 3, not 0 and not 1: nothing was found out."""
    made(application / "source.db", BASE)
    for change, words in (
        ("UPDATE alembic_version SET version_num = 'feedbeef'", "no known history has revision feedbeef"),
        ("DELETE FROM alembic_version", "version table is empty"),
        ("DROP TABLE alembic_version", "no Alembic version table"),
    ):
        with closing(sqlite3.connect("source.db")) as connection:
            connection.execute(change)
            connection.commit()
        done = cli("drift", "source.db")
        assert done.exit_code == 3
        assert words in done.stderr
    assert cli("drift", "source.db", "--revision", REVISION).exit_code == 0
    (application / "migrations" / "versions" / "first.py").write_text(
        f"revision = {REVISION!r}\ndown_revision = None\n\ndef upgrade():\n    raise LookupError('rows')\n"
    )
    done = cli("drift", "source.db", "--revision", REVISION)
    assert done.exit_code == 3
    assert "LookupError: rows" in done.stderr


def test_a_difference_past_env_py_proves_nothing(application, cli):
    """What env.py would have set may be all that differs, such as a naming convention. Equality proves something."""
    made(application / "source.db", BASE)
    (application / "migrations" / "env.py").write_text("import an_application_that_is_not_here\n")
    done = cli("drift", "source.db")
    assert done.exit_code == 0, done.output
    assert "note: by its env.py: running the migrations failed: ModuleNotFoundError" in done.stdout
    (application / "source.db").unlink()
    made(application / "source.db", BASE + "CREATE TABLE scratch (a);")
    done = cli("drift", "source.db")
    assert done.exit_code == 3
    assert "ModuleNotFoundError" in done.stderr


def test_nobody_waits_for_migrations_that_run_elsewhere(application):
    """In rollback mode a reader keeps writers waiting; drift has read all that it needs before they run."""
    source = made(application / "source.db", BASE)
    wrote = []

    def write(progress):
        if progress.step == "running migrations":
            with closing(sqlite3.connect(source, timeout=0)) as connection:
                connection.execute("INSERT INTO pair VALUES (1, 'x')")
                connection.commit()
            wrote.append(progress)

    assert panicdb.drift(str(source), monitor=Monitor(write)).ok
    assert wrote


def test_a_schema_that_changes_meanwhile_is_not_judged(application):
    source = made(application / "source.db", BASE)

    def alter(progress):
        if progress.step == "running migrations":
            with closing(sqlite3.connect(source)) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS added (a)")

    with pytest.raises(panicdb.PanicDBError, match="changed while this run was at work"):
        panicdb.drift(str(source), monitor=Monitor(alter))


# Inference


@pytest.fixture
def shop(tmp_path, monkeypatch):
    write_application(tmp_path / "shop", {}, url="sqlite:///production.db")
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop"


@pytest.mark.parametrize("revision", ["1111aaaa", HEAD])
def test_the_revision_of_an_unstamped_source_is_inferred(shop, cli, revision):
    make(history_of(shop), (revision,), shop / "source.db", Monitor())
    with closing(sqlite3.connect("source.db")) as connection:
        connection.execute("DROP TABLE alembic_version")
        connection.commit()
    before = fingerprint(shop)
    done = cli("drift", "source.db", "--infer")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"{revision} of alembic.ini builds the schema of source.db",
        "2 revisions tried; a suggestion: the schema can't tell what data migrations did",
    ]
    assert fingerprint(shop) == before
    assert json.loads(cli("drift", "source.db", "--infer", "--json").stdout) == {
        "source": "source.db",
        "tried": 2,
        "ok": True,
        "candidates": [{"history": "alembic.ini", "revisions": [revision]}],
        "failures": [],
    }


def test_no_revision_builds_what_drifted(shop, cli):
    make(history_of(shop), (HEAD,), shop / "source.db", Monitor())
    with closing(sqlite3.connect("source.db")) as connection:
        connection.execute("CREATE TABLE more (a)")
    done = cli("drift", "source.db", "--infer")
    assert done.exit_code == 1
    assert done.stdout.startswith("no revision builds the schema of source.db\n")


def test_what_could_be_run_is_compared(shop, cli):
    """The third revision needs data; the source stands at the second."""
    write_application(
        shop,
        {
            "migrations/versions/third.py": """
                revision = "3333cccc"
                down_revision = "2222bbbb"

                def upgrade():
                    raise LookupError("rows")
            """
        },
        url="sqlite:///production.db",
    )
    make(history_of(shop), (HEAD,), shop / "source.db", Monitor())
    done = cli("drift", "source.db", "--infer")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{HEAD} of alembic.ini builds the schema of source.db\n")
    assert "could not be run: alembic.ini: running the migrations failed in revision 3333cccc" in done.stdout
    assert "2 revisions tried" in done.stdout


def test_inference_and_a_revision_exclude_each_other(shop, cli, make_db):
    make_db("CREATE TABLE a (b)", "x.db")
    assert cli("drift", "x.db", "--infer", "--revision", HEAD).exit_code == 2


def test_inference_needs_tables(shop, cli, make_db):
    path = make_db("CREATE TABLE a (b); DROP TABLE a", "empty.db")
    done = cli("drift", path, "--infer")
    assert done.exit_code == 3
    assert "the source has no tables" in done.stderr


def test_inference_needs_a_history(tmp_path, monkeypatch, cli, make_db):
    monkeypatch.chdir(tmp_path)
    make_db("CREATE TABLE a (b)")
    done = cli("drift", "source.db", "--infer")
    assert done.exit_code == 3
    assert "no history of migrations is known" in done.stderr


# No false alarms: the same history, run step by step on a database in use, and all at once on an empty one.


class Draft:
    """Random operations of Alembic, as revision files have them."""

    TYPES = (
        "sa.Integer()",
        "sa.String(40)",
        "sa.Boolean()",
        "sa.DateTime()",
        "sa.Float()",
        "sa.Numeric(10, 2)",
    )
    DEFAULTS = ("", "", ", server_default='0'", ", server_default=sa.text('CURRENT_TIMESTAMP')")

    def __init__(self, number):
        self.dice = random.Random(f"{seeds.SEED} pair {number}")
        self.columns = {}
        self.made = 0

    def new(self, kind):
        self.made += 1
        return f"{kind}{self.made}"

    def column(self, name):
        nullable, default = self.dice.random() < 0.5, self.dice.choice(self.DEFAULTS)
        return f"sa.Column({name!r}, {self.dice.choice(self.TYPES)}, nullable={nullable}{default})"

    def optional_column(self, name):
        return f"sa.Column({name!r}, {self.dice.choice(self.TYPES)})"

    def create_table(self):
        table, names = self.new("t"), [self.new("c") for _ in range(self.dice.randint(2, 5))]
        parts = ["sa.Column('id', sa.Integer(), primary_key=True)", *map(self.column, names)]
        if self.dice.random() < 0.5:
            parts.append(f"sa.UniqueConstraint({names[0]!r}, {names[1]!r}, name={self.new('uq')!r})")
        if self.dice.random() < 0.5:
            parts.append(f"sa.CheckConstraint('{names[0]} IS NOT NULL', name={self.new('ck')!r})")
        if self.columns and self.dice.random() < 0.6:
            parent = self.dice.choice(sorted(self.columns))
            parts.append(
                f"sa.Column('parent_id', sa.Integer(), sa.ForeignKey({parent + '.id'!r}, name={self.new('fk')!r}))"
            )
        self.columns[table] = names
        return [f"op.create_table({table!r}, {', '.join(parts)})"]

    def add_column(self):
        table, name = self.dice.choice(sorted(self.columns)), self.new("c")
        self.columns[table].append(name)
        return [f"op.add_column({table!r}, {self.optional_column(name)})"]

    def create_index(self):
        table = self.dice.choice(sorted(self.columns))
        names = self.dice.sample(self.columns[table], min(2, len(self.columns[table])))
        return [f"op.create_index({self.new('ix')!r}, {table!r}, {names!r})"]

    def batch(self):
        """SQLite alters little, so Alembic makes the table anew, and writes its constraints in varying order."""
        table = self.dice.choice(sorted(self.columns))
        changed = self.columns[table][:2]
        changes = [f"    batch.alter_column({changed[0]!r}, type_={self.dice.choice(self.TYPES)})"]
        if self.dice.random() < 0.5:
            changes.append(f"    batch.create_unique_constraint({self.new('uq')!r}, {changed!r})")
        if self.dice.random() < 0.5:
            changes.append(f"    batch.add_column({self.optional_column(self.new('d'))})")
        return [f"with op.batch_alter_table({table!r}) as batch:", *changes]

    def revisions(self):
        """Return the files of a history of some revisions."""
        files, before = {}, None
        for number in range(self.dice.randint(2, 4)):
            lines = self.create_table()
            for _ in range(self.dice.randint(1, 4)):
                lines += self.dice.choice(
                    (self.create_table, self.add_column, self.create_index, self.batch)
                )()
            revision = f"{number:012x}"
            files[f"migrations/versions/r{number}.py"] = "\n".join(
                [
                    "import sqlalchemy as sa",
                    "from alembic import op",
                    f"revision = {revision!r}",
                    f"down_revision = {before!r}",
                    "",
                    "def upgrade():",
                    *(f"    {line}" for line in lines),
                    "",
                ]
            )
            before = revision
        return files, before


def require_no_false_alarm(folder, number, monkeypatch):
    files, head = Draft(number).revisions()
    unusual = {"migrations/versions/first.py": "", "migrations/versions/second.py": "", **files}
    write_application(folder, unusual, url="sqlite:///production.db")
    monkeypatch.chdir(folder)
    goal = goal_in(folder / "steps")
    steps = replay(Order(history_of(folder), (), steps=True), goal).steps
    live = folder / "live.db"
    shutil.copyfile(steps[-1].path, live)
    with closing(sqlite3.connect(live)) as connection:
        connection.executescript(
            "CREATE TABLE gone (a); DROP TABLE gone; VACUUM; ANALYZE; PRAGMA journal_mode = WAL"
        )
    assert query(live, "SELECT version_num FROM alembic_version") == [(head,)]
    found = panicdb.drift(str(live))
    assert found.differences == (), "\n".join(map(str, found.differences))
    return found.objects


@pytest.mark.parametrize("number", range(3))
def test_what_did_not_drift_is_no_drift(tmp_path, monkeypatch, number):
    assert require_no_false_alarm(tmp_path, number, monkeypatch) > 0


@pytest.mark.prove
@pytest.mark.parametrize("part", range(PARTS))
def test_no_false_alarm_on_a_hundred_pairs(tmp_path, monkeypatch, record_property, part):
    objects = 0
    for number in range(part, PAIRS, PARTS):
        folder = Path(tmp_path / str(number))
        objects += require_no_false_alarm(folder, number, monkeypatch)
    record_property("figures", f"drift: {PAIRS // PARTS} unmodified pairs, {objects} objects, 0 false alarms")
