"""How a target gets its schema: whose history, by which way, and what is said where none will do."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import panicdb
from application import ENV, FIRST, HEAD, INI, SECOND, fingerprint, history_of, query, tables, versions
from application import write_application as write
from panicdb.errors import HistoryError, UsageError, WrongDatabaseError
from panicdb.histories import HistoryChoice, bundled_history, configured_histories
from panicdb.replays import replay
from panicdb.revisions import SchemaChoice, find_route
from panicdb.values import Catalog, Monitor

ROWS = ("INSERT INTO lab VALUES (1, 'wet'), (2, 'dry')", "INSERT INTO run VALUES (10, 1), (11, 2)")
STAMPED = """CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"""


def execute(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def schema_of(target):
    return json.loads(Path(f"{target}.receipt.json").read_text())["schema"]


def contents(folder):
    """A target's private directory was there meanwhile, so the folder's own time changes."""
    return {name: data for name, (_, data) in fingerprint(folder).items()}


def definitions(path):
    return query(path, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's working directory."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shop(home):
    """An application in the working directory, and its database at head, with rows."""
    write(home, {}, url="sqlite:///production.db")
    return made(home, home / "source.db")


def made(application, path, *revisions):
    replay(history_of(application), revisions or (HEAD,), path, Monitor())
    if not revisions:
        execute(path, *ROWS)
    return path


# Finding the history


def test_the_history_here_builds_the_target_and_says_what_protected_the_rest(shop, cli):
    done = cli("clone", "source.db", "target.db")
    assert done.exit_code == 0, done.output
    assert "schema: built by its migrations (alembic.ini knows revision 2222bbbb)" in done.stdout
    assert "migrations: ran by its env.py, guarded, with" in done.stdout
    told = schema_of("target.db")
    assert (told["method"], told["way"], told["differences"], told["failures"]) == (
        "migrations",
        "environment",
        [],
        [],
    )
    assert query("target.db", "SELECT * FROM run") == query("source.db", "SELECT * FROM run")
    assert cli("verify", "source.db", "target.db").exit_code == 0
    assert not os.path.exists("production.db")


def test_a_source_behind_head_gives_a_target_behind_head(home, shop, cli):
    behind = made(home, home / "behind.db", "1111aaaa")
    assert cli("clone", behind, "target.db").exit_code == 0
    assert versions(Path("target.db")) == ("1111aaaa",)
    assert "run" not in tables(Path("target.db"))
    assert schema_of("target.db")["method"] == "migrations"


def test_a_history_elsewhere_is_named_by_its_file(home, tmp_path, shop, cli):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("alembic.ini", "migrations"):
        shutil.move(home / name, elsewhere / name)
    assert cli("clone", "source.db", "copied.db").exit_code == 0
    assert schema_of("copied.db")["reason"] == "no known history has revision 2222bbbb"
    done = cli("clone", "source.db", "target.db", "-c", elsewhere / "alembic.ini")
    assert done.exit_code == 0, done.output
    assert schema_of("target.db")["method"] == "migrations"


def test_pyproject_alone_will_do(home, tmp_path, shop, cli):
    (home / "alembic.ini").unlink()
    (home / "pyproject.toml").write_text('[tool.alembic]\nscript_location = "%(here)s/migrations"\n')
    env = home / "migrations" / "env.py"
    env.write_text(
        env.read_text().replace("get_section(context.config.config_ini_section)", "get_section('alembic')")
    )
    assert cli("clone", "source.db", "target.db").exit_code == 0
    assert schema_of("target.db")["reason"] == "pyproject.toml knows revision 2222bbbb"


def test_a_section_of_its_own_name_is_found_and_can_be_named(home, shop, cli):
    (home / "alembic.ini").write_text(
        INI.replace("\n    ", "\n").replace("[alembic]", "[shop]").replace("@URL@", "sqlite://")
    )
    assert cli("clone", "source.db", "one.db").exit_code == 0
    assert schema_of("one.db")["reason"] == "[shop] of alembic.ini knows revision 2222bbbb"
    assert cli("clone", "source.db", "two.db", "-n", "shop").exit_code == 0
    assert schema_of("two.db")["method"] == "migrations"
    refused = cli("clone", "source.db", "three.db", "-n", "shed")
    assert refused.exit_code == 2
    assert "section [shed] of alembic.ini" in refused.stderr


def test_two_histories_that_know_the_revision_are_told_apart_by_the_user(home, tmp_path, shop, cli):
    lines = INI.replace("\n    ", "\n").replace("@URL@", "sqlite://")
    (home / "alembic.ini").write_text(
        lines.replace("[alembic]", "[one]") + lines.replace("[alembic]", "[two]")
    )
    before = fingerprint(home)
    refused = cli("clone", "source.db", "target.db")
    assert refused.exit_code == 3
    assert "2222bbbb is known to [one] of alembic.ini and to [two] of alembic.ini" in refused.stderr
    assert "-n" in refused.stderr
    assert fingerprint(home) == before
    assert cli("clone", "source.db", "target.db", "-n", "two").exit_code == 0


def test_several_version_tables_are_matched_with_their_histories(home, cli):
    """As where plug-ins have tables of their own: each row belongs to one history, none is copied as data."""
    env = ENV.replace(
        "configure(connection=connection)",
        'configure(connection=connection, version_table=context.config.get_main_option("version_table"))',
    )
    plugin = FIRST.replace("1111aaaa", "3333cccc").replace('"lab"', '"plugin"')
    write(
        home,
        {
            "alembic.ini": """
                [core]
                script_location = migrations
                version_table = versions_core
                sqlalchemy.url = sqlite:///production.db
                [plugin]
                script_location = plugin
                version_table = versions_plugin
                sqlalchemy.url = sqlite:///production.db
            """,
            "migrations/env.py": env,
            "plugin/env.py": env,
            "plugin/versions/only.py": plugin,
        },
    )
    histories = {
        history.name.split("]")[0].strip("["): history
        for history in configured_histories(HistoryChoice(), home)
    }
    replay(histories["core"], (HEAD,), home / "source.db", Monitor())
    replay(histories["plugin"], ("3333cccc",), home / "plugin.db", Monitor())
    execute(
        "source.db",
        "ATTACH 'plugin.db' AS other",
        *(sql for (sql,) in query(home / "plugin.db", "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")),
        "INSERT INTO versions_plugin VALUES ('3333cccc')",
        *ROWS,
    )
    done = cli("clone", "source.db", "target.db")
    assert done.exit_code == 0, done.output
    assert schema_of("target.db")["method"] == "migrations", done.stdout
    assert versions(Path("target.db"), "versions_core") == (HEAD,)
    assert versions(Path("target.db"), "versions_plugin") == ("3333cccc",)


@pytest.mark.quick
def test_the_bundled_history_is_found_under_any_name_of_its_version_table(home):
    catalog = Catalog({}, (), {"my_versions": ("d498e961c89f",)})
    route = find_route(catalog, SchemaChoice(), home, "sqlite")
    assert (route.method, route.reason) == (
        "migrations",
        "the bundled history knows revision d498e961c89f",
    )
    assert [(each.table, each.history) for each in route.assignments] == [("my_versions", bundled_history())]


# Revisions


@pytest.mark.parametrize("row", ["2222bbb", "2222BBBB", "head", "2222bbbb1", "%"])
def test_a_row_that_is_no_revision_in_full_is_unknown(shop, cli, row):
    """Alembic would take a beginning for the whole; a row of a database is the whole, or something else."""
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (row,))
        connection.commit()
    assert cli("clone", "source.db", "target.db").exit_code == 0
    assert schema_of("target.db")["reason"] == f"no known history has revision {row}"
    assert versions(Path("target.db")) == (row,)


@pytest.mark.fault(18)
def test_an_unknown_revision_is_refused_where_the_history_was_named(shop, cli):
    execute(shop, "UPDATE alembic_version SET version_num = 'feedbeef'")
    for arguments in (("-c", "alembic.ini"), ("--schema", "migrations")):
        refused = cli("clone", "source.db", "target.db", *arguments)
        assert refused.exit_code == 3
        assert "revision feedbeef" in refused.stderr
        assert "check out the code that has this revision" in refused.stderr
    assert not os.path.exists("target.db")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DELETE FROM alembic_version", "the source's version table is empty"),
        ("DROP TABLE alembic_version", "the source has no Alembic version table"),
    ],
)
@pytest.mark.fault(18)
def test_a_source_without_a_revision_is_copied(shop, cli, change, reason):
    execute(shop, change)
    assert cli("clone", "source.db", "target.db").exit_code == 0
    told = schema_of("target.db")
    assert (told["method"], told["reason"]) == ("copy", reason)
    assert definitions(Path("target.db")) == definitions(shop)
    refused = cli("clone", "source.db", "other.db", "--schema", "migrations")
    assert refused.exit_code == 3
    assert reason in refused.stderr
    assert "--revision" in refused.stderr


@pytest.mark.parametrize("change", ["DELETE FROM alembic_version", "DROP TABLE alembic_version"])
def test_the_user_may_say_at_which_revision_a_source_is(shop, cli, change):
    execute(shop, change)
    done = cli("export", "source.db", "target.db", "1", "--root", "lab", "--revision", HEAD)
    assert done.exit_code == 0, done.output
    told = schema_of("target.db")
    assert (told["method"], told["stamped"]) == ("migrations", {"alembic_version": [HEAD]})
    assert versions(Path("target.db")) == (HEAD,)
    verified = cli("verify", "source.db", "target.db")
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("1111aaaa", "table run: missing in what its migrations build"),
        ("feedbeef", "no known history has revision feedbeef"),
        ("2222", "no known history has revision 2222"),
    ],
)
def test_a_revision_that_is_wrong_is_not_believed(shop, cli, revision, words):
    execute(shop, "DROP TABLE alembic_version")
    refused = cli("clone", "source.db", "target.db", "--revision", revision)
    assert refused.exit_code == 3
    assert words in refused.stderr
    assert not os.path.exists("target.db")


def test_a_revision_is_not_asked_for_where_there_is_one(shop, cli):
    refused = cli("clone", "source.db", "target.db", "--revision", "1111aaaa")
    assert refused.exit_code == 3
    assert "the source is at revision 2222bbbb" in refused.stderr


BRANCH = FIRST.replace("1111aaaa", "@REVISION@").replace("down_revision = None", 'down_revision = "1111aaaa"')


def branch(revision):
    return BRANCH.replace("@REVISION@", revision).replace('"lab"', f'"{revision}"')


def test_verify_believes_the_source_more_than_what_was_said_of_it_once(shop, cli):
    execute(shop, "DELETE FROM alembic_version")
    assert cli("clone", "source.db", "target.db", "--revision", HEAD).exit_code == 0
    assert cli("verify", "source.db", "target.db").exit_code == 0
    execute(shop, "INSERT INTO alembic_version VALUES ('9999ffff')")
    done = cli("verify", "source.db", "target.db")
    assert done.exit_code == 1
    assert "9999ffff in the source, 2222bbbb in the target" in done.stdout


def test_a_version_table_that_only_the_migrations_name_is_stamped(home, cli):
    env = ENV.replace(
        "configure(connection=connection)", 'configure(connection=connection, version_table="shop_version")'
    )
    write(home, {"migrations/env.py": env}, url="sqlite:///production.db")
    source = made(home, home / "source.db")
    execute(source, "DROP TABLE shop_version")
    done = cli("clone", source, "target.db", "--revision", HEAD)
    assert done.exit_code == 0, done.output
    assert schema_of("target.db")["stamped"] == {"shop_version": [HEAD]}
    assert versions(Path("target.db"), "shop_version") == (HEAD,)
    assert cli("verify", source, "target.db").exit_code == 0
    assert cli("drift", source, "--revision", HEAD).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--revision", ""), 2, "--revision names none"),
        (("--revision", f"{HEAD}, {HEAD}"), 0, HEAD),
        (("--schema", "copy", "--python", "python3"), 2, "leave --schema copy out"),
        (("--schema", "copy", "-x", "a=b"), 2, "leave --schema copy out"),
    ],
)
def test_odd_ways_to_say_it(shop, cli, arguments, code, words):
    execute(shop, "DROP TABLE alembic_version")
    done = cli("clone", "source.db", "target.db", *arguments)
    assert done.exit_code == code, done.output
    assert words in done.output


@pytest.mark.fault(17)
def test_several_heads_are_built_in_one_upgrade(home, shop, cli):
    write(
        home, {"migrations/versions/left.py": branch("left"), "migrations/versions/right.py": branch("right")}
    )
    source = made(home, home / "heads.db", "left", "right")
    assert cli("clone", source, "target.db").exit_code == 0
    assert schema_of("target.db")["method"] == "migrations"
    assert versions(Path("target.db")) == ("left", "right")


@pytest.mark.fault(17)
def test_a_row_that_another_one_stands_for_is_put_back(shop, cli):
    """Alembic refuses such rows together, and leaves only one of them; stamping by hand makes both."""
    execute(shop, "INSERT INTO alembic_version VALUES ('1111aaaa')")
    done = cli("clone", "source.db", "target.db")
    assert done.exit_code == 0, done.output
    told = schema_of("target.db")
    assert (told["method"], told["put_back"]) == ("migrations", {"alembic_version": ["1111aaaa"]})
    assert "put back into alembic_version, where another revision stands for it: 1111aaaa" in done.stdout
    assert versions(Path("target.db")) == ("1111aaaa", "2222bbbb")


def test_a_copied_schema_has_nothing_to_put_back(shop, cli):
    execute(shop, "INSERT INTO alembic_version VALUES ('1111aaaa')", "CREATE TABLE more (a)")
    done = cli("clone", "source.db", "target.db")
    assert (schema_of("target.db")["method"], schema_of("target.db")["put_back"]) == ("copy", {})
    assert "put back" not in done.stdout
    assert versions(Path("target.db")) == ("1111aaaa", "2222bbbb")


# The ladder


def test_an_env_py_that_can_t_run_is_passed_by(home, shop, cli):
    (home / "migrations" / "env.py").write_text("import an_application_that_is_not_here\n")
    done = cli("clone", "source.db", "target.db")
    told = schema_of("target.db")
    assert (told["method"], told["way"]) == ("migrations", "bypass")
    assert "an_application_that_is_not_here" in told["failures"][0]
    assert "note: by its env.py: running the migrations failed" in done.stdout


FAILING = SECOND.replace(
    "def upgrade():",
    "def upgrade():\n        op.execute('CREATE TABLE half (a)')\n        raise LookupError('no rows')",
)


@pytest.fixture
def unwilling(home, shop):
    """A history that needs data, as some do."""
    write(home, {"migrations/versions/second.py": FAILING})
    return shop


@pytest.mark.fault(18)
def test_a_history_that_needs_data_is_told_and_the_schema_copied(unwilling, cli):
    done = cli("clone", "source.db", "target.db")
    assert done.exit_code == 0
    told = schema_of("target.db")
    assert (told["method"], len(told["failures"])) == ("copy", 1)
    for word in (
        "by its env.py",
        "past its env.py",
        "revision 2222bbbb",
        "second.py",
        "LookupError: no rows",
    ):
        assert word in told["reason"]
    assert definitions(Path("target.db")) == definitions(unwilling)


def test_migrations_only_means_it(unwilling, cli):
    refused = cli("clone", "source.db", "target.db", "--schema", "migrations")
    assert refused.exit_code == 3
    assert "revision 2222bbbb" in refused.stderr
    assert "--schema copy" in refused.stderr
    assert not os.path.exists("target.db")


def test_the_application_s_own_command_comes_last(home, unwilling, cli):
    """What it does before its migrations may be just what these need."""
    (home / "pyproject.toml").write_text(
        '[tool.panicdb]\nupgrade-command = ["python", "upgrade.py", "{path}", "{revision}"]\n'
    )
    (home / "upgrade.py").write_text(
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1])\n"
        + "".join(
            f"connection.execute({sql!r})\n"
            for (sql,) in query(
                unwilling,
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND type != 'index' ORDER BY rowid",
            )
        )
        + "connection.execute('CREATE INDEX ix_run_lab ON run (lab_id)')\n"
        "connection.execute('INSERT INTO alembic_version VALUES (?)', (sys.argv[2],))\n"
        "connection.commit()\n"
    )
    done = cli("clone", "source.db", "target.db")
    assert done.exit_code == 0, done.output
    told = schema_of("target.db")
    assert (told["method"], told["way"], len(told["failures"])) == ("migrations", "command", 1)


@pytest.mark.fault(19)
def test_a_schema_that_differs_is_copied_with_the_list(shop, cli):
    execute(
        shop,
        "ALTER TABLE run ADD COLUMN remark TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX more ON run (remark)",
    )
    done = cli("clone", "source.db", "target.db")
    assert done.exit_code == 0
    assert (
        "schema: copied from the source's definitions (what its migrations build has 2 differences to it)"
        in done.stdout
    )
    assert schema_of("target.db")["differences"] == [
        "blocking: column run.remark: missing in what its migrations build",
        "semantic: index more: missing in what its migrations build",
    ]
    assert definitions(Path("target.db")) == definitions(shop)


def test_a_schema_that_differs_is_refused_with_the_list_where_only_migrations_will_do(shop, cli):
    execute(shop, *(f"ALTER TABLE run ADD COLUMN c{number} TEXT" for number in range(30)))
    refused = cli("clone", "source.db", "target.db", "--schema", "migrations")
    assert refused.exit_code == 3
    assert "the source is not what its migrations build at revision 2222bbbb" in refused.stderr
    assert refused.stderr.count("missing in what its migrations build") == 20
    assert "and 10 more" in refused.stderr
    assert not os.path.exists("target.db")


def test_copying_can_be_chosen(shop, cli):
    done = cli("clone", "source.db", "target.db", "--schema", "copy")
    assert "schema: copied from the source's definitions (as chosen)" in done.stdout
    assert definitions(Path("target.db")) == definitions(shop)
    assert schema_of("target.db")["way"] is None


@pytest.mark.parametrize("more", [("-c", "alembic.ini"), ("-n", "alembic"), ("--revision", HEAD)])
def test_copying_takes_no_history(shop, cli, more):
    refused = cli("clone", "source.db", "target.db", "--schema", "copy", *more)
    assert refused.exit_code == 2
    assert "leave --schema copy out" in refused.stderr


def test_arguments_reach_env_py(home, shop, cli):
    env = home / "migrations" / "env.py"
    env.write_text(
        "from alembic import context\nassert context.get_x_argument() == ['tenant=a', 'b']\n"
        + env.read_text()
    )
    assert (
        cli("clone", "source.db", "one.db", "-x", "tenant=a", "-x", "b", "--schema", "migrations").exit_code
        == 0
    )
    assert schema_of("one.db")["way"] == "environment"
    assert cli("clone", "source.db", "two.db").exit_code == 0
    assert schema_of("two.db")["way"] == "bypass"


def test_one_of_several_databases_is_the_source(home, cli):
    """The template for several databases runs each in turn; what the other ones get must not be in the target."""
    env = """
        from alembic import context
        from sqlalchemy import engine_from_config

        for name in context.config.get_main_option("databases").split(", "):
            engine = engine_from_config(context.config.get_section(name), "sqlalchemy.")
            with engine.connect() as connection:
                context.configure(connection=connection, upgrade_token=f"{name}_upgrades")
                with context.begin_transaction():
                    context.run_migrations(engine_name=name)
    """
    revision = """
        from alembic import op
        revision = "1111aaaa"
        down_revision = None

        def upgrade(engine_name):
            op.execute(f"CREATE TABLE of_{engine_name} (id INTEGER PRIMARY KEY)")
    """
    write(
        home,
        {
            "alembic.ini": """
                [alembic]
                script_location = migrations
                databases = orders, stock
                [orders]
                sqlalchemy.url = sqlite:///orders.db
                [stock]
                sqlalchemy.url = sqlite:///stock.db
            """,
            "migrations/env.py": env,
            "migrations/versions/first.py": revision,
            "migrations/versions/second.py": "",
        },
    )
    execute("stock.db", STAMPED, "INSERT INTO alembic_version VALUES ('1111aaaa')")
    execute("stock.db", "CREATE TABLE of_stock (id INTEGER PRIMARY KEY)", "INSERT INTO of_stock VALUES (5)")
    before = Path("stock.db").read_bytes()
    done = cli("clone", "stock.db", "target.db")
    assert done.exit_code == 0, done.output
    assert schema_of("target.db")["method"] == "migrations"
    assert tables(Path("target.db")) == {"alembic_version", "of_stock"}
    assert Path("stock.db").read_bytes() == before


@pytest.mark.fault(20)
def test_migrations_that_reach_for_another_database_end_the_run(home, shop, cli):
    assert WrongDatabaseError.exit_code == 3
    env = home / "migrations" / "env.py"
    env.write_text(
        "import sqlite3\n"
        "try:\n"
        "    sqlite3.connect('source.db').execute('DROP TABLE run')\n"
        "except BaseException:\n"
        "    pass\n" + env.read_text()
    )
    before = contents(home)
    refused = cli("clone", "source.db", "target.db")
    assert refused.exit_code == 3
    assert "source.db would be opened" in refused.stderr
    assert "--schema copy" in refused.stderr
    assert contents(home) == before
    assert cli("clone", "source.db", "target.db", "--schema", "copy").exit_code == 0


def test_an_interpreter_that_can_t_run_migrations_is_named(home, shop, cli):
    bare = home / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    refused = cli("clone", "source.db", "target.db", "--python", "bare/bin/python")
    assert refused.exit_code == 3
    assert "bare/bin/python: can't run migrations: has no alembic" in refused.stderr
    assert not os.path.exists("target.db")
    missing = cli("clone", "source.db", "target.db", "--python", "nothing/bin/python")
    assert missing.exit_code == 2
    assert "nothing/bin/python" in missing.stderr


def test_rows_that_migrations_insert_are_cleared_and_told(home, shop, cli):
    write(
        home,
        {
            "migrations/versions/second.py": SECOND
            + "        op.execute(\"INSERT INTO lab VALUES (1, 'seed')\")\n"
        },
    )
    done = cli("clone", "source.db", "target.db")
    assert "cleared 1 rows that migrations put into lab" in done.stdout
    assert query("target.db", "SELECT * FROM lab") == [(1, "wet"), (2, "dry")]


def test_a_source_that_is_migrated_meanwhile_is_noticed(home, shop, cli):
    """In write-ahead mode nobody waits for a reader: the schema may change while migrations run elsewhere."""
    execute(shop, "PRAGMA journal_mode = WAL")
    held = sqlite3.connect(shop)
    try:

        def report(progress):
            if progress.step == "copying":
                raise AssertionError("rows were copied")
            if progress.step == "running migrations":
                held.execute("CREATE TABLE added (a)")
                held.commit()

        with pytest.raises(panicdb.PanicDBError, match="changed while this run was at work"):
            panicdb.clone("source.db", "target.db", progress=report)
    finally:
        held.close()
    assert not os.path.exists("target.db")


def test_what_a_statement_was_given_stays_where_it_was(home, shop, cli):
    """A migration may hand a password to a statement; messages and receipts travel."""
    statement = 'op.get_bind().execute(sa.text("INSERT INTO missing VALUES (:p)"), {"p": "hunter2"})'
    write(home, {"migrations/versions/second.py": f"{SECOND}        {statement}\n"})
    done = cli("clone", "source.db", "target.db")
    assert done.exit_code == 0
    assert "no such table: missing" in done.stdout
    assert "hunter2" not in done.output + Path("target.db.receipt.json").read_text()


def test_a_failure_that_two_ways_share_is_told_once(unwilling, cli):
    done = cli("clone", "source.db", "target.db")
    assert done.stdout.count("LookupError: no rows") == 1
    assert "by its env.py and past its env.py: running the migrations failed" in done.stdout


def test_a_failure_is_told_beside_the_differences(home, shop, cli):
    (home / "migrations" / "env.py").write_text("import an_application_that_is_not_here\n")
    execute(shop, "CREATE TABLE more (a)")
    copied = cli("clone", "source.db", "target.db")
    assert "note: by its env.py: running the migrations failed: ModuleNotFoundError" in copied.stdout
    refused = cli("clone", "source.db", "other.db", "--schema", "migrations")
    assert "by its env.py: running the migrations failed: ModuleNotFoundError" in refused.stderr


def test_a_plan_does_not_promise_what_was_not_tried(shop, cli):
    execute(shop, "CREATE TABLE more (a)")
    assert "schema: by its migrations if they build what the source is, else copied (" in (
        cli("clone", "source.db", "target.db", "--dry-run").stdout
    )
    assert "schema: by its migrations if they build what the source is, else refused (" in (
        cli("clone", "source.db", "target.db", "--dry-run", "--schema", "migrations").stdout
    )


def test_an_interpreter_that_only_the_settings_name_is_missed_when_it_is_needed(
    home, shop, experiments_db, cli
):
    (home / "pyproject.toml").write_text("[tool.panicdb]\npython = '.venv/bin/python'\n")
    panicdb.export_experiments(
        str(experiments_db), "out.db", [panicdb.list_roots(str(experiments_db)).roots[0].key]
    )
    assert schema_of("out.db")["method"] == "migrations"
    refused = cli("clone", "source.db", "target.db")
    assert refused.exit_code == 3
    assert ".venv/bin/python: can't run migrations" in refused.stderr


def test_a_section_that_is_named_leaves_the_other_tables_to_the_others(home, cli):
    plugin = FIRST.replace("1111aaaa", "3333cccc").replace('"lab"', '"plugin"')
    write(
        home,
        {
            "alembic.ini": """
                [core]
                script_location = migrations
                [plugin]
                script_location = plugin
            """,
            "migrations/env.py": "",
            "plugin/versions/only.py": plugin,
        },
    )
    for folder in ("migrations", "plugin"):
        (home / folder / "env.py").write_text("")
    catalog = Catalog({}, (), {"one": ("2222bbbb",), "two": ("3333cccc",)})
    route = find_route(catalog, SchemaChoice(history=HistoryChoice(section="core")), home, "sqlite")
    assert [each.history.name for each in route.assignments] == [
        "[core] of alembic.ini",
        "[plugin] of alembic.ini",
    ]


# Python


def test_python_has_the_same_words(shop):
    receipt = panicdb.clone("source.db", "one.db", schema="migrations", config=["alembic.ini"], x=["a=b"])
    assert receipt.schema["method"] == "migrations"
    with pytest.raises(UsageError, match="no schema mode 'verbatim'"):
        panicdb.clone("source.db", "two.db", schema="verbatim")
    execute(shop, "CREATE TABLE more (a)")
    with pytest.raises(HistoryError, match="table more"):
        panicdb.export("source.db", "two.db", all_roots=True, root="lab", schema="migrations")
    assert panicdb.drift("source.db", config="alembic.ini").differences[0].object == "table more"


def test_a_plan_tells_the_route(shop, cli):
    done = cli("clone", "source.db", "target.db", "--dry-run", "--json")
    assert json.loads(done.stdout)["schema"] == {
        "method": "migrations",
        "reason": "alembic.ini knows revision 2222bbbb",
    }
