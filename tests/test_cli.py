"""The command line: every option, every shape of output, every exit code."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import panicdb
from panicdb.cli import panicdb as group
from panicdb.reports import ALL_CHECKS

quick = pytest.mark.quick

ZOO = """
PRAGMA synchronous = OFF;
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
CREATE TABLE keeper (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, pay INTEGER DEFAULT 100);
CREATE TABLE animal (
    id INTEGER PRIMARY KEY,
    keeper_id INTEGER NOT NULL REFERENCES keeper (id),
    mother_id INTEGER REFERENCES animal (id),
    name TEXT
);
CREATE INDEX animal_keeper ON animal (keeper_id);
CREATE TABLE visitor (name TEXT);
INSERT INTO alembic_version VALUES ('cafe');
INSERT INTO keeper (name) VALUES ('Ann'), ('Bert'), ('Cleo');
INSERT INTO animal VALUES (1, 1, NULL, 'ant'), (2, 1, 1, 'bee'), (3, 2, 1, 'cow'), (4, 3, NULL, 'dog');
INSERT INTO visitor VALUES ('v');
"""
BERT = ("2", "--root", "keeper")
SCHEMA = {
    "method",
    "reason",
    "differences",
    "cleared",
    "way",
    "protection",
    "failures",
    "put_back",
    "stamped",
}


@pytest.fixture
def zoo(make_db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_db(ZOO, "zoo.db")


def execute(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def ids(path):
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM animal ORDER BY id")]


SKIPPED = ("--skip", "rows", "--skip", "content", "--skip", "sequences")


def succeeded(result):
    assert (result.exit_code, result.stderr) == (0, ""), (result.stderr, result.exception)
    return result.stdout


# Help


@quick
@pytest.mark.parametrize("name", [None, *group.commands])
def test_help_mentions_every_option(cli, name):
    command = group.commands[name] if name else group
    words = set(succeeded(cli(*filter(None, [name]), "--help")).replace(",", " ").split())
    spelled = {
        spelling for option in command.params if isinstance(option, click.Option) for spelling in option.opts
    }
    assert spelled <= words
    assert {"-h", "--help"} <= words
    assert name or set(group.commands) <= words


@quick
def test_the_commands_have_the_options_of_the_design():
    def options(name):
        return {
            each for option in group.commands[name].params for each in option.opts if each.startswith("-")
        }

    output = {"--timeout", "--json", "-q", "--quiet", "-v", "--verbose"}
    ids = {"--ids-file", "--where", "--all", "--root"}
    closure = {"--link", "--exclude", "--whole", "--max-rows", "--max-bytes", "--violations"}
    naming = {"-c", "--config", "-n", "--name", "-x", "--python", "--revision"}
    making = {"--receipt", "--no-receipt", "--spool", "--verify", "--seal", "--dry-run", "--schema", *naming}
    assert options("drift") == output | naming | {"--infer"}
    assert options("export") == output | ids | closure | making | {"--merge", "--replace"}
    assert options("clone") == output | making | {"--violations", "--replace"}
    assert options("verify") == output | ids | closure | {
        "--receipt",
        "--skip",
        "--contains",
        "--strict",
        "--show-values",
    }
    assert options("list") == output | {"--root", "--limit"}
    assert options("demo") == set()


@quick
def test_the_version_is_told(cli):
    assert succeeded(cli("--version")) == f"panicdb, version {panicdb.__version__}\n"


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "panicdb", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"panicdb, version {panicdb.__version__}\n"


IMPORTS = """
import sys
from panicdb.cli import panicdb
for arguments in (["--help"], ["export", "--help"], ["--version"], ["export", "x"]):
    try:
        panicdb(arguments)
    except SystemExit:
        pass
heavy = {"sqlalchemy", "alembic", "rich", "sqlite3", "mako"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


@quick
def test_help_waits_for_no_database_library():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Results


RECEIPT = {
    "panicdb_receipt",
    "panicdb_version",
    "command",
    "created",
    "source",
    "source_id",
    "target",
    "revisions",
    "schema",
    "root",
    "selection",
    "tables",
    "empty",
    "violations_kept",
    "left_behind",
    "losses",
    "checks",
    "merged",
    "before",
    "sealed",
}
SELECTION = {"ids", "where", "all", "links", "exclude", "whole", "violations"}
COPIED = {"name", "rows", "owned", "support", "source_rows", "nulled"}
PLAN = {
    "command",
    "source",
    "root",
    "roots",
    "selection",
    "revisions",
    "schema",
    "method",
    "rows",
    "bytes",
    "tables",
    "empty",
    "policies",
    "violations_kept",
    "left_behind",
    "losses",
    "notes",
    "present",
}
CHECKS = ["revision", "schema", "rows", "foreign keys", "sequences"]


def as_json(result):
    return json.loads(succeeded(result))


@quick
def test_json_of_export_is_its_receipt(cli, zoo):
    found = as_json(cli("export", "zoo.db", "out.db", *BERT, "--json"))
    assert found == json.loads(Path("out.db.receipt.json").read_text())
    assert set(found) == RECEIPT
    assert found["panicdb_receipt"] == 1
    assert (found["command"], found["source"], found["target"]) == ("export", "zoo.db", "out.db")
    assert (found["root"], found["selection"]["ids"]) == ("keeper", ["2"])
    assert set(found["selection"]) == SELECTION
    assert found["revisions"] == {"alembic_version": ["cafe"]}
    assert set(found["schema"]) == SCHEMA
    assert all(set(table) == COPIED for table in found["tables"])
    assert {
        table["name"]: (table["owned"], table["support"], table["source_rows"]) for table in found["tables"]
    } == {
        "keeper": (1, 1, 3),
        "animal": (1, 1, 4),
    }
    assert found["empty"] == {"visitor": 1}
    assert found["checks"] == CHECKS


@quick
def test_json_of_clone_is_its_receipt(cli, zoo):
    found = as_json(cli("clone", "zoo.db", "out.db", "--json"))
    assert found == json.loads(Path("out.db.receipt.json").read_text())
    assert set(found) == RECEIPT
    assert (found["command"], found["root"], found["selection"]) == ("clone", None, None)
    assert {table["name"]: table["rows"] for table in found["tables"]} == {
        "keeper": 3,
        "animal": 4,
        "visitor": 1,
    }


@quick
@pytest.mark.parametrize(("command", "more"), [("export", BERT), ("clone", ())])
def test_json_of_a_dry_run_is_its_plan(cli, zoo, command, more):
    found = as_json(cli(command, "zoo.db", "out.db", *more, "--dry-run", "--json"))
    assert set(found) == PLAN
    assert found["command"] == command
    assert set(found["schema"]) == {"method", "reason"}
    assert found["method"] == "attach"
    assert found["rows"] == sum(table["rows"] for table in found["tables"]) == (4 if more else 8)
    assert found["bytes"] > 0
    assert all(set(table) == COPIED | {"whole", "bytes", "ways"} for table in found["tables"])
    assert os.listdir() == ["zoo.db"]


@quick
def test_json_of_verify_is_its_report(cli, zoo):
    succeeded(cli("clone", "zoo.db", "out.db"))
    found = as_json(cli("verify", "zoo.db", "out.db", "--json"))
    assert set(found) == {
        "reference",
        "target",
        "verdict",
        "ok",
        "checks",
        "findings",
        "compared",
        "normalised",
        "not_compared",
        "losses",
        "since",
    }
    assert (found["verdict"], found["since"]) == ("EXACT", None)
    assert all(set(each) == {"table", "columns", "how"} for each in found["compared"])
    assert (found["reference"], found["target"], found["ok"], found["findings"]) == (
        "zoo.db",
        "out.db",
        True,
        [],
    )
    assert [check["name"] for check in found["checks"]] == list(ALL_CHECKS)
    assert all(set(check) == {"name", "status", "note", "chosen"} for check in found["checks"])
    execute("out.db", "DELETE FROM visitor")
    result = cli("verify", "zoo.db", "out.db", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    found = json.loads(result.stdout)
    assert not found["ok"]
    assert [set(finding) for finding in found["findings"]] == [{"code", "check", "text", "details"}] * 2


@quick
def test_json_of_list_is_its_roots(cli, zoo):
    found = as_json(cli("list", "zoo.db", "--root", "keeper", "--json"))
    assert found == {
        "source": "zoo.db",
        "table": "keeper",
        "total": 3,
        "roots": [
            {"key": "1", "labels": {"name": "Ann"}, "owned": {"animal": 3}},
            {"key": "2", "labels": {"name": "Bert"}, "owned": {"animal": 1}},
            {"key": "3", "labels": {"name": "Cleo"}, "owned": {"animal": 1}},
        ],
    }


@quick
def test_list_shows_labels_and_counts(cli, zoo):
    lines = succeeded(cli("list", "zoo.db", "--root", "keeper")).splitlines()
    assert [line.split() for line in lines] == [
        ["keeper", "name", "animal"],
        ["1", "Ann", "3"],
        ["2", "Bert", "1"],
        ["3", "Cleo", "1"],
    ]


@quick
def test_list_shows_as_many_as_asked(cli, zoo):
    lines = succeeded(cli("list", "zoo.db", "--root", "keeper", "--limit", "2")).splitlines()
    assert len(lines) == 4
    assert lines[-1] == "... and 1 more (--limit)"
    assert len(as_json(cli("list", "zoo.db", "--root", "keeper", "--limit", "2", "--json"))["roots"]) == 2


@quick
def test_list_without_a_profile_asks_for_the_root(cli, zoo):
    result = cli("list", "zoo.db")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "which table" in result.stderr
    assert "--root TABLE, for example keeper" in result.stderr


@quick
def test_list_knows_the_root_of_a_known_application(cli, experiments_db):
    found = as_json(cli("list", experiments_db, "--json"))
    assert (found["table"], found["total"]) == ("experimentconfig", 3)
    assert set(found["roots"][0]["labels"]) == {"started_at", "completed_at", "max_length"}
    assert found["roots"][0]["owned"] == {
        "run": 4,
        "invocation": 100,
        "embedding": 200,
        "persistencediagram": 8,
    }


@quick
def test_list_takes_keys_of_every_kind(cli, zoo):
    """Keys may be NULL, bytes or fractions; composite ones, and tables without one, are listed without counts."""
    execute(
        "zoo.db",
        """
        CREATE TABLE odd (id BLOB PRIMARY KEY);
        CREATE TABLE child (odd_id BLOB REFERENCES odd (id));
        INSERT INTO odd VALUES (x'00ff'), (NULL), ('text'), (1.5), (12);
        INSERT INTO child VALUES (x'00ff'), ('text'), (1.5), (12);
        CREATE TABLE seat (a, b, PRIMARY KEY (a, b));
        INSERT INTO seat VALUES (1, 2);
        """,
    )
    found = as_json(cli("list", "zoo.db", "--root", "odd", "--json"))["roots"]
    owned = [(root["key"], root["owned"].get("child")) for root in found]
    assert owned == [("None", None), ("1.5", 1), ("12", 1), ("text", 1), ("00ff", 1)]
    assert as_json(cli("list", "zoo.db", "--root", "seat", "--json"))["roots"][0]["key"] == "1, 2"
    assert as_json(cli("list", "zoo.db", "--root", "visitor", "--json"))["roots"][0]["key"] == "v"


@quick
def test_an_empty_table_is_listed_as_such(cli, zoo):
    execute("zoo.db", "DELETE FROM visitor")
    assert succeeded(cli("list", "zoo.db", "--root", "visitor")) == "visitor is empty\n"


@quick
def test_a_dry_run_explains_and_writes_nothing(cli, zoo):
    shown = succeeded(cli("export", "zoo.db", "out.db", *BERT, "--dry-run"))
    for fragment in (
        "chosen 1",
        "animal.keeper_id->keeper.id 1",
        "left empty",
        "visitor (1 rows",
        "nothing was written",
    ):
        assert fragment in shown
    assert os.listdir() == ["zoo.db"]


@quick
def test_results_name_the_checks_that_were_made(cli, zoo):
    shown = succeeded(cli("export", "zoo.db", "out.db", *BERT))
    assert f"checked before publication: {', '.join(CHECKS)}" in shown
    assert "rows in 2 tables written to out.db" in shown


@quick
@pytest.mark.parametrize("command", ["export", "clone", "verify"])
def test_quiet_prints_nothing(cli, zoo, command):
    if command == "verify":
        succeeded(cli("clone", "zoo.db", "out.db"))
    more = BERT if command == "export" else ()
    assert succeeded(cli(command, "zoo.db", "out.db", *more, "-q")) == ""
    if command == "verify":
        execute("out.db", "DELETE FROM visitor")
        result = cli(command, "zoo.db", "out.db", "--quiet")
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", "")


@quick
@pytest.mark.parametrize("more", [(), ("--json",), ("-q",)])
def test_each_step_is_told_on_standard_error_if_asked(cli, zoo, more):
    plain = cli("clone", "zoo.db", "plain.db", *more).stdout
    told = cli("clone", "zoo.db", "out.db", "-v", *more)
    assert told.exit_code == 0
    steps = [line.split(" s  ")[1] for line in told.stderr.splitlines()]
    assert steps[:1] + steps[-1:] == ["planning", "publishing"]
    assert {"copying animal", "building indexes", "checking"} <= set(steps)
    assert bool(plain) == bool(told.stdout)


@quick
def test_no_receipt_is_written_if_none_is_wanted(cli, zoo):
    succeeded(cli("export", "zoo.db", "out.db", *BERT, "--no-receipt"))
    assert sorted(os.listdir()) == ["out.db", "zoo.db"]


@quick
def test_a_receipt_is_written_where_it_is_wanted(cli, zoo):
    Path("receipts").mkdir()
    succeeded(cli("clone", "zoo.db", "out.db", "--receipt", "receipts/r.json"))
    assert sorted(os.listdir()) == ["out.db", "receipts", "zoo.db"]
    assert json.loads(Path("receipts/r.json").read_text())["command"] == "clone"


# Options from the environment


@quick
@pytest.mark.parametrize(
    ("variable", "value", "found"),
    [
        ("PANICDB_EXPORT_ALL", "1", [1, 2, 3, 4]),
        ("PANICDB_EXPORT_WHERE", "name = 'Cleo'", [4]),
        ("PANICDB_EXPORT_IDS_FILE", "ids.txt", [1, 3]),
    ],
)
def test_the_choice_may_come_from_the_environment(cli, zoo, variable, value, found):
    Path("ids.txt").write_text("2\n")
    environment = {variable: value, "PANICDB_EXPORT_ROOT": "keeper"}
    succeeded(cli("export", "zoo.db", "out.db", env=environment))
    assert ids("out.db") == found


@quick
@pytest.mark.parametrize(
    ("variable", "value", "code", "fragment"),
    [
        ("LINK", "animal.mother_id=null", 0, "2 rows in 2 tables"),
        ("EXCLUDE", "animal", 0, "1 rows in 1 tables"),
        ("WHOLE", "visitor", 0, "5 rows in 3 tables"),
        ("MAX_ROWS", "1", 3, "more than 1 rows"),
        ("MAX_BYTES", "2B", 3, "more than 2 bytes"),
        ("VIOLATIONS", "maybe", 2, "maybe"),
        ("TIMEOUT", "soon", 2, "soon"),
        ("DRY_RUN", "1", 0, "nothing was written"),
        ("JSON", "true", 0, '"panicdb_receipt"'),
        ("RECEIPT", "nowhere/r.json", 3, "nowhere"),
        ("VERBOSE", "1", 0, "publishing"),
    ],
)
def test_every_option_may_come_from_the_environment(cli, zoo, variable, value, code, fragment):
    without = cli("export", "zoo.db", "first.db", *BERT)
    result = cli("export", "zoo.db", "out.db", *BERT, env={f"PANICDB_EXPORT_{variable}": value})
    assert result.exit_code == code
    assert fragment in result.output
    assert result.output != without.output.replace("first.db", "out.db")


@quick
def test_other_commands_have_variables_of_their_own(cli, zoo):
    assert "out.db" not in os.listdir()
    environment = {"PANICDB_CLONE_NO_RECEIPT": "1", "PANICDB_CLONE_QUIET": "1"}
    assert succeeded(cli("clone", "zoo.db", "out.db", env=environment)) == ""
    assert sorted(os.listdir()) == ["out.db", "zoo.db"]
    execute("out.db", "DELETE FROM visitor")
    assert cli("verify", "zoo.db", "out.db", env={"PANICDB_VERIFY_SKIP": "rows content"}).exit_code == 0
    listed = cli("list", "zoo.db", env={"PANICDB_LIST_ROOT": "keeper", "PANICDB_LIST_LIMIT": "1"})
    assert len(succeeded(listed).splitlines()) == 3


@quick
def test_an_option_outranks_the_environment(cli, zoo):
    succeeded(cli("export", "zoo.db", "out.db", "--where", "id = 3", env={"PANICDB_EXPORT_ROOT": "keeper"}))
    assert ids("out.db") == [4]
    result = cli("list", "zoo.db", "--root", "visitor", env={"PANICDB_LIST_ROOT": "keeper"})
    assert "visitor" in succeeded(result)


@quick
def test_a_dash_takes_places_from_the_environment(cli, zoo):
    places = {"PANICDB_SOURCE": "zoo.db", "PANICDB_TARGET": "sqlite:///out.db"}
    shown = succeeded(cli("export", "-", "-", *BERT, env=places))
    assert "written to out.db" in shown
    succeeded(cli("verify", "-", "-", env=places))
    succeeded(cli("list", "-", "--root", "keeper", env=places))
    succeeded(cli("clone", "zoo.db", "-", "--dry-run", env={"PANICDB_TARGET": "other.db"}))


@quick
@pytest.mark.parametrize(
    ("arguments", "wanted"), [(("-", "x"), "PANICDB_SOURCE"), (("zoo.db", "-"), "PANICDB_TARGET")]
)
@pytest.mark.parametrize("environment", [{}, {"PANICDB_SOURCE": "", "PANICDB_TARGET": ""}])
def test_a_dash_without_a_variable_is_a_matter_of_usage(
    cli, zoo, monkeypatch, arguments, wanted, environment
):
    for name in ("PANICDB_SOURCE", "PANICDB_TARGET"):
        monkeypatch.delenv(name, raising=False)
    result = cli("clone", *arguments, env=environment)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{wanted} is not set" in result.stderr


# Names and keys


NAMES = [
    "with space.db",
    "quote's.db",
    'double"quote.db',
    "what?.db",
    "what?mode=memory",
    "hash#tag.db",
    "100%.db",
    "%41%2f.db",
    "semi;colon&and.db",
    "back\\slash.db",
    "new\nline.db",
    "[x]*.db",
    "ünï·код.db",
    "sqlite.db",
    "file:odd.db",
    "c:odd.db",
    ".hidden",
    "n" * 240,
]
if sys.platform != "darwin":  # whose file systems take UTF-8 only
    NAMES.append(os.fsdecode(b"bytes\xff\xfe.db"))


@quick
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_file_may_have_any_name(cli, zoo, name):
    Path("in").mkdir()
    Path("out").mkdir()
    shutil.move(zoo, f"in/{name}")
    assert len(succeeded(cli("export", f"in/{name}", f"out/{name}", *BERT)).splitlines()) == 8
    assert ids(f"out/{name}") == [1, 3]
    assert sorted(os.listdir("out")) == sorted([name, f"{name}.receipt.json"])
    assert os.listdir("in") == [name]
    assert as_json(cli("verify", f"in/{name}", f"out/{name}", "--json"))["ok"]


@quick
def test_a_name_may_begin_with_a_dash(cli, zoo):
    shutil.move(zoo, "-zoo.db")
    succeeded(cli("export", "--root", "keeper", "--", "-zoo.db", "-out.db", "2"))
    assert ids("-out.db") == [1, 3]
    succeeded(cli("verify", "--", "-zoo.db", "-out.db"))


STRICT = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
POOR = {
    **os.environ,
    "PYTHONIOENCODING": "ascii:strict",
    "LC_ALL": "C",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
}


@pytest.mark.parametrize("environment", [STRICT, POOR], ids=["UTF-8", "ASCII"])
def test_what_the_terminal_can_not_show_is_escaped(shell, zoo, environment):
    execute("zoo.db", "UPDATE keeper SET name = 'Łukasz ' || CAST(x'ff' AS TEXT)")
    name = "ł\udcff.db" if sys.platform != "darwin" else "ł.db"
    for arguments in (("clone", "zoo.db", name), ("list", "zoo.db", "--root", "keeper")):
        done = shell(*arguments, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
    done = shell("list", "zoo.db", "--root", "keeper", "--json", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["roots"][0]["labels"]["name"].startswith("Łukasz")
    receipt = json.loads(Path(f"{name}.receipt.json").read_text(encoding="utf-8"))
    assert receipt["target"].endswith(r"\udcff.db" if name.isprintable() is False else "ł.db")


@pytest.fixture
def experiment(experiments_db):
    with closing(sqlite3.connect(experiments_db)) as connection:
        return uuid.UUID(connection.execute("SELECT min(id) FROM experimentconfig").fetchone()[0])


SPELLINGS = {
    "hex": lambda key: key.hex,
    "dashes": str,
    "upper case": lambda key: str(key).upper(),
    "braces": lambda key: f"{{{key}}}",
    "URN": lambda key: key.urn,
    "four characters": lambda key: key.hex[:4],
    "four capitals": lambda key: key.hex[:4].upper(),
    "beginning with dashes": lambda key: str(key)[:12],
    "beginning with a brace": lambda key: f"{{{key}}}"[:14].upper(),
    "beginning of a URN": lambda key: key.urn[:20],
}


@quick
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_uuid_may_be_spelled_in_any_way(cli, experiments_db, experiment, spelling, tmp_path):
    found = as_json(
        cli("export", experiments_db, tmp_path / "x", SPELLINGS[spelling](experiment), "--dry-run", "--json")
    )
    assert found["roots"] == [experiment.hex]


@quick
def test_an_exact_key_outranks_a_prefix(cli, make_db, tmp_path):
    source = make_db(
        "CREATE TABLE t (id TEXT PRIMARY KEY); INSERT INTO t VALUES ('abcd'), ('abcde'), ('wxyz1')"
    )
    found = as_json(
        cli("export", source, tmp_path / "x", "abcd", "wxyz", "--root", "t", "--dry-run", "--json")
    )
    assert found["roots"] == ["abcd", "wxyz1"]


@quick
def test_prefixes_are_no_patterns(cli, make_db, tmp_path):
    source = make_db(
        "CREATE TABLE t (id TEXT PRIMARY KEY); INSERT INTO t VALUES ('ab%dx'), ('abcdx'), ('ab_dx')"
    )
    found = as_json(
        cli("export", source, tmp_path / "x", "ab_d", "ab%d", "--root", "t", "--dry-run", "--json")
    )
    assert found["roots"] == ["ab%dx", "ab_dx"]


# Output that nobody takes


FULL_DEVICES = [path for path in ("/dev/full",) if Path(path).exists()]
"""Linux has one: writing to it fails as on a full disk."""


def run_in_shell(command, **options):
    line = command.replace("panicdb", f"'{Path(sys.executable).with_name('panicdb')}'", 1)
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=False, timeout=60, **options
    )


@pytest.mark.parametrize("more", ["", " --json"])
@pytest.mark.fault(26)
def test_a_reader_who_has_gone_does_not_matter(zoo, more):
    script = Path(sys.executable).with_name("panicdb")
    read, write = os.pipe()
    os.close(read)
    try:
        arguments = [script, "export", "zoo.db", "out.db", *BERT, *more.split()]
        done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert ids("out.db") == [1, 3]


@pytest.mark.parametrize(
    ("closed", "more"),
    [(">&-", ""), ("2>&-", "-v"), ("<&- >&- 2>&-", ""), *((f"2>{path}", "-v") for path in FULL_DEVICES)],
)
@pytest.mark.fault(26)
def test_closed_streams_do_not_matter(zoo, closed, more):
    done = run_in_shell(f"panicdb clone zoo.db out.db {more} {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert ids("out.db") == [1, 2, 3, 4]


@pytest.mark.parametrize("closed", [">&- 2>&-", *(f"2>{path}" for path in FULL_DEVICES)])
@pytest.mark.fault(26)
def test_an_error_keeps_its_exit_code_without_standard_error(zoo, closed):
    done = run_in_shell(f"panicdb clone missing.db out.db {closed}")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


@pytest.mark.parametrize("device", FULL_DEVICES)
@pytest.mark.fault(26)
def test_a_result_that_can_not_be_printed_is_no_failed_export(zoo, device):
    done = run_in_shell(f"panicdb clone zoo.db out.db > {device}")
    assert done.returncode == 0
    assert done.stderr == "error: the result can't be printed: No space left on device\n"
    assert ids("out.db") == [1, 2, 3, 4]


def test_results_and_messages_go_separate_ways(shell, zoo):
    done = shell("clone", "zoo.db", "out.db")
    assert (done.returncode, done.stderr) == (0, "")
    assert "written to out.db" in done.stdout
    done = shell("clone", "zoo.db", "out.db")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: out.db: exists already\nhint: ")


# Mounted in another application


@click.group()
def application():
    """Somebody else's commands."""


application.add_command(group)
application.add_command(group, "db")


def mounted(*arguments, **options):
    return CliRunner().invoke(application, [str(each) for each in arguments], **options)


@quick
@pytest.mark.parametrize("name", ["panicdb", "db"])
def test_a_mounted_group_keeps_messages_and_exit_codes(cli, zoo, name):
    for arguments in (
        ("--help",),
        ("clone", "missing.db", "out.db"),
        ("clone", "zoo.db", ":memory:"),
        ("clone", "zoo.db"),
        ("export", "zoo.db", "out.db", "9", "--root", "keeper"),
        ("list", "zoo.db", "--root", "keeper"),
        ("explode",),
    ):
        own, other = cli(*arguments), mounted(name, *arguments)
        assert own.exit_code == other.exit_code
        assert own.output.replace("panicdb", "") == other.output.replace(f"application {name}", "").replace(
            "panicdb", ""
        )
    succeeded(mounted(name, "clone", "zoo.db", "out.db"))
    execute("out.db", "DELETE FROM visitor")
    assert mounted(name, "verify", "zoo.db", "out.db").exit_code == 1


@quick
def test_a_mounted_group_keeps_its_variables(zoo):
    result = mounted("db", "list", "zoo.db", env={"PANICDB_LIST_ROOT": "visitor"})
    assert succeeded(result).startswith("visitor")


@quick
def test_a_fault_of_ours_is_not_taken_for_a_difference(cli, zoo, monkeypatch):
    """Python ends with 1 on an uncaught error, which here means that a verification failed."""
    monkeypatch.setattr("panicdb.commands.verify", lambda *_arguments, **_options: 1 / 0)
    result = cli("verify", "zoo.db", "zoo.db")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "ZeroDivisionError" in result.stderr
    assert "error: this is a fault of panicdb\nhint: " in result.stderr


# export_experiments()


@quick
def test_whole_experiments_are_exported(experiments_db, experiment, tmp_path):
    target = tmp_path / "out.db"
    spelled = [str(experiment), experiment.hex.upper()]
    assert panicdb.export_experiments(f"sqlite:///{experiments_db}", str(target), spelled) is None
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT id FROM experimentconfig").fetchall() == [(experiment.hex,)]
        assert connection.execute("SELECT count(*) FROM embedding").fetchall() == [(200,)]
    assert panicdb.verify(str(experiments_db), str(target)).ok


UNKNOWN = "067efc98-0000-7777-8888-999999999999"


@quick
@pytest.mark.parametrize("wrong", [UNKNOWN, "no-uuid", "", "0", "'; DROP TABLE run; --"])
@pytest.mark.parametrize("beside", [False, True])
def test_an_experiment_that_is_not_there_is_a_value_error(
    experiments_db, experiment, tmp_path, wrong, beside
):
    wanted = [str(experiment), wrong] if beside else [wrong]
    with pytest.raises(ValueError) as caught:
        panicdb.export_experiments(str(experiments_db), str(tmp_path / "out.db"), wanted)
    assert str(caught.value) == f"Experiment {wrong} not found in source database"
    assert os.listdir(tmp_path) == []


@quick
def test_an_experiment_is_named_in_full(experiments_db, experiment, tmp_path):
    """What a program stores should not come to mean another experiment later."""
    with pytest.raises(ValueError, match=r"^Experiment .{4} not found in source database$"):
        panicdb.export_experiments(str(experiments_db), str(tmp_path / "out.db"), [experiment.hex[:4]])
    assert os.listdir(tmp_path) == []


@quick
def test_no_experiments_are_no_export(experiments_db, tmp_path):
    with pytest.raises(ValueError, match="no experiment was named"):
        panicdb.export_experiments(str(experiments_db), str(tmp_path / "out.db"), [])
    assert os.listdir(tmp_path) == []


@quick
def test_an_existing_target_is_not_touched(experiments_db, experiment, tmp_path):
    target = tmp_path / "out.db"
    target.write_bytes(b"mine")
    with pytest.raises(panicdb.PanicDBError, match=r"out\.db: exists and is no SQLite database"):
        panicdb.export_experiments(str(experiments_db), str(target), [str(experiment)])
    assert target.read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["out.db"]


@quick
def test_errors_for_bad_arguments_are_value_errors_too(zoo):
    for choice in (
        {"roots": ["2"], "all_roots": True},
        {},
        {"roots": ["9"], "root": "keeper"},
        {"where": "x", "root": "keeper"},
    ):
        with pytest.raises(ValueError) as caught:
            panicdb.export("zoo.db", "out.db", **choice)
        assert isinstance(caught.value, panicdb.PanicDBError)


@quick
def test_the_library_prints_nothing(zoo, capfd):
    panicdb.export("zoo.db", "out.db", roots=["2"], root="keeper")
    panicdb.verify("zoo.db", "out.db")
    panicdb.list_roots("zoo.db", root="keeper")
    panicdb.plan("zoo.db", all_roots=True, root="keeper")
    panicdb.clone("zoo.db", "all.db", receipt=False)
    assert capfd.readouterr() == ("", "")


# verify


def change_default(path):
    change_schema(path, "DEFAULT 100", "DEFAULT 200")


def change_schema(path, old, new):
    execute(
        path,
        f"PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}');"
        "PRAGMA writable_schema = RESET",
    )


def lose_index_entry(path):
    """Add a row while the index is out of sight."""
    with closing(sqlite3.connect(path)) as connection:
        entry = connection.execute("SELECT * FROM sqlite_master WHERE name = 'animal_keeper'").fetchone()
        connection.executescript(
            "PRAGMA writable_schema = ON; DELETE FROM sqlite_master WHERE name = 'animal_keeper';"
            "PRAGMA writable_schema = RESET; DELETE FROM animal WHERE id = 4;"
            "INSERT INTO animal VALUES (5, 3, NULL, 'dog')"
        )
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", entry)
        connection.commit()


DAMAGE = {
    "row deleted": ("DELETE FROM animal WHERE id = 4", {"ROW001": "rows", "CNT001": "content"}),
    "extra row": ("INSERT INTO animal VALUES (9, 1, NULL, 'new')", {"ROW001": "rows", "CNT002": "content"}),
    "index dropped": ("DROP INDEX animal_keeper", {"SCH002": "schema"}),
    "index made unique": (
        "DROP INDEX animal_keeper; CREATE UNIQUE INDEX animal_keeper ON animal (id, keeper_id)",
        {"SCH001": "schema"},
    ),
    "column default changed": (change_default, {"SCH002": "schema"}),
    "column added": ("ALTER TABLE animal ADD COLUMN age INTEGER", {"SCH002": "schema"}),
    "column renamed": (
        "ALTER TABLE animal RENAME COLUMN name TO called",
        {"SCH001": "schema", "SCH002": "schema", "CNT003": "content"},
    ),
    "trigger added": ("CREATE TRIGGER t AFTER INSERT ON animal BEGIN SELECT 1; END", {"SCH002": "schema"}),
    "orphan made": (
        "UPDATE animal SET mother_id = 99 WHERE id = 3",
        {"FKY001": "foreign keys", "CNT003": "content"},
    ),
    "parent lost": (
        "DELETE FROM keeper WHERE id = 3",
        {"ROW001": "rows", "CNT001": "content", "FKY001": "foreign keys"},
    ),
    "sequence lowered": ("UPDATE sqlite_sequence SET seq = 1", {"SEQ001": "sequences"}),
    "sequence lost": ("DELETE FROM sqlite_sequence", {"SEQ001": "sequences"}),
    "version row changed": ("UPDATE alembic_version SET version_num = 'beef'", {"REV001": "revision"}),
    "version row lost": ("DELETE FROM alembic_version", {"REV001": "revision"}),
    "version table lost": ("DROP TABLE alembic_version", {"REV001": "revision", "SCH001": "schema"}),
    "extra table": ("CREATE TABLE extra (a)", {"SCH002": "schema", "ROW002": "rows"}),
    "table lost": (
        "DROP TABLE visitor",
        {"SCH001": "schema", "ROW001": "rows", "CNT005": "content"},
    ),
    "index entry lost": (
        lose_index_entry,
        {"CNT001": "content", "CNT002": "content", "INT001": "integrity"},
    ),
}


@quick
@pytest.mark.parametrize("damage", DAMAGE)
def test_verify_finds(cli, zoo, damage):
    succeeded(cli("clone", "zoo.db", "out.db"))
    change, wanted = DAMAGE[damage]
    execute("out.db", change) if isinstance(change, str) else change("out.db")
    result = cli("verify", "zoo.db", "out.db", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    report = json.loads(result.stdout)
    assert {finding["code"]: finding["check"] for finding in report["findings"]} == wanted
    assert {check["name"] for check in report["checks"] if check["status"] == "FAIL"} == set(wanted.values())


@quick
def test_verify_tells_its_findings_and_its_verdict(cli, zoo):
    succeeded(cli("clone", "zoo.db", "out.db"))
    execute("out.db", "DELETE FROM animal WHERE id = 4; UPDATE sqlite_sequence SET seq = 1")
    result = cli("verify", "zoo.db", "out.db")
    assert (result.exit_code, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:7]] == ["PASS", "PASS", "FAIL", "FAIL", "PASS", "FAIL", "PASS"]
    assert lines[7:] == [
        "ROW001 animal: 4 expected, 3 in the target",
        "CNT001 animal: 1 row missing in the target: id = 4",
        "SEQ001 keeper: stands at 3 in the source, at 1 in the target",
        "out.db differs from zoo.db",
    ]


@quick
def test_a_check_may_be_left_out(cli, zoo):
    succeeded(cli("clone", "zoo.db", "out.db"))
    execute("out.db", "DELETE FROM animal WHERE id = 4; UPDATE sqlite_sequence SET seq = 1")
    assert cli("verify", "zoo.db", "out.db", "--skip", "rows").exit_code == 1
    result = cli("verify", "zoo.db", "out.db", *SKIPPED)
    assert "SKIPPED  rows          by choice" in succeeded(result)
    checks = as_json(cli("verify", "zoo.db", "out.db", *SKIPPED, "--json"))["checks"]
    assert [check["status"] for check in checks] == [
        "PASS",
        "PASS",
        "SKIPPED",
        "SKIPPED",
        "PASS",
        "SKIPPED",
        "PASS",
    ]
    result = cli("verify", "zoo.db", "out.db", "--skip", "row")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no check 'row'" in result.stderr
    assert "rows, content, foreign keys" in result.stderr


@quick
def test_verify_takes_the_selection_of_the_receipt(cli, zoo):
    succeeded(cli("export", "zoo.db", "out.db", *BERT))
    succeeded(cli("verify", "zoo.db", "out.db"))
    Path("out.db.receipt.json").rename("moved.json")
    assert cli("verify", "zoo.db", "out.db").exit_code == 1
    succeeded(cli("verify", "zoo.db", "out.db", "--receipt", "moved.json"))


@quick
def test_verify_takes_a_selection(cli, zoo):
    succeeded(cli("export", "zoo.db", "out.db", *BERT, "--no-receipt"))
    succeeded(cli("verify", "zoo.db", "out.db", *BERT))
    succeeded(cli("verify", "zoo.db", "out.db", "--where", "name = 'Bert'", "--root", "keeper"))
    assert cli("verify", "zoo.db", "out.db", "3", "--root", "keeper").exit_code == 1
    assert cli("verify", "zoo.db", "out.db", "--all", "--root", "keeper").exit_code == 1


@quick
def test_a_selection_outranks_the_receipt(cli, zoo):
    succeeded(cli("export", "zoo.db", "out.db", *BERT))
    assert cli("verify", "zoo.db", "out.db", "3", "--root", "keeper").exit_code == 1


@quick
def test_what_shapes_a_selection_needs_one(cli, zoo):
    succeeded(cli("export", "zoo.db", "out.db", *BERT))
    for more in (
        ("--root", "keeper"),
        ("--link", "a.b=drop"),
        ("--exclude", "x"),
        ("--violations", "keep"),
        ("--max-rows", "5"),
    ):
        result = cli("verify", "zoo.db", "out.db", *more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "shape a selection" in result.stderr


@quick
@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (("--link", "animal.mother_id=null"), "mother_id"),
        (("--exclude", "animal"), "animal"),
        (("--whole", "visitor"), "visitor"),
        (("--violations", "keep"), "99"),
    ],
)
def test_a_receipt_holds_all_that_shaped_a_selection(cli, zoo, options, changed):
    if changed == "99":
        execute("zoo.db", "UPDATE animal SET mother_id = 99 WHERE id = 3")
    succeeded(cli("export", "zoo.db", "out.db", *BERT, *options))
    succeeded(cli("verify", "zoo.db", "out.db"))
    succeeded(cli("verify", "zoo.db", "out.db", *BERT, *options))


@quick
def test_a_receipt_remembers_keys_not_prefixes(cli, experiments_db, experiment, tmp_path):
    succeeded(cli("export", experiments_db, tmp_path / "out.db", experiment.hex[:4]))
    receipt = json.loads((tmp_path / "out.db.receipt.json").read_text())
    assert receipt["selection"]["ids"] == [experiment.hex]
    succeeded(cli("verify", experiments_db, tmp_path / "out.db"))


FOREIGN = {
    "not JSON": ("{", "not a receipt of panicdb"),
    "not text": (b"\xff\xfe", "not a receipt of panicdb"),
    "another program's": ('{"receipt": 1}', "not a receipt of panicdb"),
    "a list": ("[1]", "not a receipt of panicdb"),
    "a later format": ('{"panicdb_receipt": 2}', "format 2"),
    "without its selection's parts": (
        '{"panicdb_receipt": 1, "selection": {"ids": ["2"]}}',
        "selection can't be read",
    ),
}


@quick
@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("given", [False, True])
def test_a_foreign_receipt_is_refused(cli, zoo, kind, given):
    content, wanted = FOREIGN[kind]
    succeeded(cli("clone", "zoo.db", "out.db", "--no-receipt"))
    path = Path("given.json" if given else "out.db.receipt.json")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = cli("verify", "zoo.db", "out.db", *(("--receipt", path) if given else ()))
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"{path}: " in result.stderr
    assert wanted in result.stderr
    assert "hint: " in result.stderr


@quick
def test_a_receipt_that_is_not_there_is_refused(cli, zoo):
    result = cli("verify", "zoo.db", "zoo.db", "--receipt", "nowhere.json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "nowhere.json: the receipt can't be read: No such file" in result.stderr


@quick
def test_the_receipt_of_another_export_does_not_fit(cli, zoo):
    succeeded(cli("export", "zoo.db", "one.db", "1", "--root", "keeper"))
    succeeded(cli("export", "zoo.db", "two.db", "3", "--root", "keeper"))
    assert cli("verify", "zoo.db", "one.db", "--receipt", "two.db.receipt.json").exit_code == 1
    execute("zoo.db", "DELETE FROM animal WHERE keeper_id = 3; DELETE FROM keeper WHERE id = 3")
    result = cli("verify", "zoo.db", "two.db")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "keeper row 3 not found" in result.stderr


@quick
def test_verify_writes_nothing(cli, zoo):
    succeeded(cli("clone", "zoo.db", "out.db", "--no-receipt"))
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    succeeded(cli("verify", "zoo.db", "out.db"))
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


# demo


def test_the_demonstration_shows_each_command_with_its_output(shell, tmp_path):
    done = shell("demo", tmp_path / "demo")
    assert (done.returncode, done.stderr) == (0, "")
    shown = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ panicdb ")]
    assert shown == ["list", "export", "export", "verify", "clone", "verify"]
    assert done.stdout.count(" matches ") == 2
    again = shell("demo", tmp_path / "demo")
    assert (again.returncode, again.stdout) == (3, "")
    assert "experiments.db: exists already" in again.stderr
