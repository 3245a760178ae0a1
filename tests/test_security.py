"""Whom a copy is for, what a hostile source can't make us do, and passwords that nobody sees again."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

import panicdb
from panicdb.backends.sqlite import files
from panicdb.databases import locate, open_source
from panicdb.values import Monitor, Progress

ROOM = """
CREATE TABLE lab (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, note TEXT);
INSERT INTO lab VALUES (1, 'Bern'), (2, 'Oslo');
INSERT INTO run VALUES (11, 1, 'first'), (12, 1, NULL), (21, 2, 'second');
"""


def query(path, sql, *values):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, values).fetchall()


def attempt(act):
    """Return the error of ours that comes of it, if any; let all others out."""
    try:
        act()
    except panicdb.PanicDBError as error:
        return error
    return None


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# For whom


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("way", ["copied schema", "migrations"])
def test_nobody_else_may_read_a_copy_at_any_time(make_db, experiments_db, tmp_path, open_umask, way):
    """Whatever the umask: 0600 in a 0700 directory from the first byte to the last."""
    source = experiments_db if way == "migrations" else make_db(ROOM)
    folder = tmp_path / "out"
    folder.mkdir(mode=0o777)
    private, seen = folder / ".target.db.panicdb", {}

    def look(progress: Progress) -> None:
        found = {name: mode(private / name) for name in os.listdir(private)} if private.exists() else {}
        seen.update({"directory": mode(private), **found} if private.exists() else {})

    panicdb.clone(str(source), str(folder / "target.db"), progress=look)
    assert seen["directory"] == 0o700
    assert seen["target.db"] == 0o600
    assert {name: mode(folder / name) for name in os.listdir(folder)} == {
        "target.db": 0o600,
        "target.db.receipt.json": 0o600,
    }


def test_a_receipt_on_another_file_system_is_private_too(make_db, tmp_path, open_umask):
    """There it is written, not moved."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.fail("this test needs a second file system: /dev/shm is none")
    receipt = memory / f"panicdb-test-{os.getpid()}.json"
    try:
        panicdb.clone(str(make_db(ROOM)), str(tmp_path / "target.db"), receipt=str(receipt))
        assert json.loads(receipt.read_text())["panicdb_receipt"] == 1
        assert mode(receipt) == 0o600
    finally:
        receipt.unlink(missing_ok=True)


@pytest.mark.quick
def test_a_left_over_directory_is_closed_before_it_is_used(make_db, tmp_path):
    private, seen = tmp_path / ".target.db.panicdb", []
    private.mkdir()
    private.chmod(0o777)

    def look(progress: Progress) -> None:
        if progress.step == "checking":
            seen.append(mode(private))

    panicdb.clone(str(make_db(ROOM)), str(tmp_path / "target.db"), progress=look)
    assert seen == [0o700]


@pytest.mark.quick
def test_nothing_is_written_through_a_link_that_waits_in_the_place_of_the_private_directory(
    make_db, tmp_path
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    (tmp_path / ".target.db.panicdb").symlink_to(elsewhere)
    with pytest.raises(panicdb.PanicDBError, match="is in the way"):
        panicdb.clone(str(make_db(ROOM)), str(tmp_path / "target.db"))
    assert os.listdir(elsewhere) == ["precious"]


# Untrusted files


class Watched(sqlite3.Connection):
    """A real connection with a function as an application would add it, which tells when it is called."""

    opened: ClassVar[list[dict]] = []
    called: ClassVar[list[tuple]] = []

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.address = str(arguments[0])
        self.closed = False
        self.create_function("spy", -1, self.spy, deterministic=True)

    def spy(self, *values):
        self.called.append(values)
        return 1

    def close(self):
        if not self.closed:  # it may be closed twice
            self.closed = True
            self.opened.append(
                {
                    "address": self.address,
                    "trusted": self.ask("PRAGMA trusted_schema"),
                    "loading": self.ask("SELECT load_extension('no-such-extension')"),
                }
            )
        super().close()

    def ask(self, sql):
        try:
            return self.execute(sql).fetchone()[0]
        except sqlite3.Error as error:
            return str(error)


@pytest.fixture
def watched(monkeypatch):
    """Every connection that panicdb opens, asked for its settings just before it is closed."""
    connect = sqlite3.connect
    monkeypatch.setattr(Watched, "opened", [])
    monkeypatch.setattr(Watched, "called", [])
    monkeypatch.setattr(
        files.sqlite3, "connect", lambda *given, **options: connect(*given, factory=Watched, **options)
    )
    return Watched


def test_no_connection_trusts_a_schema_or_loads_an_extension(make_db, tmp_path, experiments_db, watched):
    """Source, draft and target: of export, clone, plan, list and verify, schema copied or migrated.

    These connections know a function of the application; those that know SQLite's own only may trust.
    """
    source = make_db(ROOM)
    watched.opened.clear()
    for number, (origin, root) in enumerate(((source, "lab"), (experiments_db, "experimentconfig"))):
        target = tmp_path / f"target{number}.db"
        panicdb.export(str(origin), str(target), root=root, all_roots=True)
        panicdb.verify(str(origin), str(target))
        panicdb.plan(str(origin), root=root, all_roots=True)
        panicdb.list_roots(str(origin), root=root)
    panicdb.clone(str(source), str(tmp_path / "clone.db"))
    assert {each["trusted"] for each in watched.opened} == {0}
    assert {each["loading"] for each in watched.opened} == {"not authorized"}
    opened = "\n".join(each["address"] for each in watched.opened)
    assert all(name in opened for name in ("source.db", ".panicdb/target.db", "target0.db", "target1.db"))


def test_a_schema_may_use_the_functions_that_sqlite_itself_has(make_db, tmp_path):
    """SQLite 3.38 to 3.40 did not mark its JSON functions as harmless: a file with them has to be trusted there."""
    source = make_db(
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY, info JSON CHECK (json_valid(info)), kind AS (info ->> '$.kind'));
        CREATE INDEX by_kind ON lab (json_extract(info, '$.kind'));
        CREATE VIEW kinds AS SELECT json_extract(info, '$.kind') AS kind FROM lab;
        INSERT INTO lab (id, info) VALUES (1, '{"kind": "wet"}'), (2, '{"kind": "dry"}');
        """
    )
    target = str(tmp_path / "target.db")
    panicdb.export(str(source), target, root="lab", where="kind = 'wet'")
    assert panicdb.verify(str(source), target).ok


HOSTILE = {
    "a view": "CREATE VIEW evil AS SELECT spy('view', name) AS x FROM lab;",
    "a trigger": "CREATE TRIGGER evil AFTER INSERT ON lab BEGIN SELECT spy('trigger', new.name); END;",
    "a generated column": "ALTER TABLE lab ADD COLUMN evil AS (spy('generated', name)) VIRTUAL;",
    "a default": "CREATE TABLE evil (id INTEGER PRIMARY KEY, x DEFAULT (spy('default')));",
    "a check": "CREATE TABLE evil (x CHECK (spy('check', x))); INSERT INTO evil VALUES (1);",
    "an index": "CREATE INDEX evil ON lab (spy('index', name));",
    "a partial index": "CREATE INDEX evil ON lab (name) WHERE spy('partial', name);",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_code_in_a_schema_is_run(tmp_path, watched, kind):
    """Even a function that is there and would do something is not called: refused, or copied as text."""
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.create_function("spy", -1, lambda *_: 1, deterministic=True)
        connection.executescript(ROOM + HOSTILE[kind])
        connection.commit()
    before, codes = source.read_bytes(), {}
    for name, act in {
        "list": lambda: panicdb.list_roots(str(source), root="lab"),
        "plan": lambda: panicdb.plan(str(source), root="lab", all_roots=True),
        "export": lambda: panicdb.export(
            str(source), str(tmp_path / "export.db"), root="lab", all_roots=True
        ),
        "clone": lambda: panicdb.clone(str(source), str(tmp_path / "clone.db")),
        "verify": lambda: panicdb.verify(str(source), str(source)),
    }.items():
        error = attempt(act)
        codes[name] = error.exit_code if error else 0
        if error:
            assert error.exit_code in (3, 4)
            assert "spy()" in error.message, error.message
            assert error.hint
    assert watched.called == []
    assert source.read_bytes() == before
    assert codes["export"] == (0 if kind in ("a view", "a trigger", "a default") else codes["export"]), codes
    assert (tmp_path / "export.db").exists() == (codes["export"] == 0)
    assert (tmp_path / "clone.db").exists() == (codes["clone"] == 0)


ODD_NAMES = [
    "ATTACH DATABASE 'evil.db' AS evil",
    "x; DROP TABLE lab; --",
    "x'); DROP TABLE lab; --",
    'quo"te',
    "quo'te",
    "back`tick",
    "brack]et",
    "[x]",
    "%s %(x)s :x ? ?1 $x @x",
    "/* comment",
    "-- comment",
    "new\nline",
    "main.lab",
    "target",
    "temp",
    "select",
    "sqlite",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_names_in_a_schema_are_names_and_nothing_else(tmp_path, name):
    """As a table, a column, an index, a view and a trigger; chosen as root, too. Nothing is attached or dropped."""
    folder = tmp_path / "in"
    folder.mkdir()
    source, target = folder / "source.db", folder / "target.db"
    odd = '"' + name.replace('"', '""') + '"'
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(f"""{ROOM}
            CREATE TABLE {odd} ({odd} TEXT PRIMARY KEY, lab INTEGER REFERENCES lab);
            CREATE TABLE child (id INTEGER PRIMARY KEY, {odd} TEXT REFERENCES {odd} ({odd}));
            CREATE INDEX "index {name.replace('"', '""')}" ON child ({odd});
            CREATE VIEW "view {name.replace('"', '""')}" AS SELECT {odd} FROM {odd};
            CREATE TRIGGER "trigger {name.replace('"', '""')}" AFTER DELETE ON {odd} BEGIN DELETE FROM child; END;
            INSERT INTO lab VALUES (3, 'not needed');
        """)
        connection.execute(f"INSERT INTO {odd} VALUES (?, 1), ('other', 2)", (name,))
        connection.execute("INSERT INTO child VALUES (1, ?), (2, 'other')", (name,))
        connection.commit()
    before = source.read_bytes()
    panicdb.export(str(source), str(target), root=name, roots=[name])
    assert query(target, f"SELECT {odd}, lab FROM {odd}") == [(name, 1)]
    assert query(target, f"SELECT id, {odd} FROM child") == [(1, name)]
    assert query(target, "SELECT id FROM lab") == [(1,)]
    assert panicdb.verify(str(source), str(target)).ok
    assert source.read_bytes() == before
    assert sorted(os.listdir(folder)) == ["source.db", "target.db", "target.db.receipt.json"]
    assert query(target, "SELECT count(*) FROM sqlite_master") == query(
        source, "SELECT count(*) FROM sqlite_master"
    )


PLANTED = {
    "a second statement": "CREATE TABLE planted (a); ATTACH DATABASE '{evil}' AS evil",
    "a second statement after a comment": "CREATE TABLE planted (a) /* ; */; DROP TABLE lab",
    "another database": "CREATE TABLE evil.planted (a)",
    "the temporary database": "CREATE TEMP TABLE planted (a)",
    "no definition": "ATTACH DATABASE '{evil}' AS evil",
    "a query": "CREATE TABLE planted AS SELECT spy('planted')",
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_definition_that_was_tampered_with_does_nothing(tmp_path, watched, kind):
    """Whoever can write a file can write its sqlite_master, too, and definitions are what a schema is copied by."""
    source, evil = tmp_path / "source.db", tmp_path / "evil.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(ROOM + "CREATE TABLE planted (a); PRAGMA writable_schema = ON;")
        sql = PLANTED[kind].format(evil=evil)
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'planted'", (sql,))
        connection.commit()
    before = source.read_bytes()
    with pytest.raises(panicdb.PanicDBError) as refusal:
        panicdb.clone(str(source), str(tmp_path / "target.db"))
    assert refusal.value.exit_code in (3, 4)
    assert refusal.value.hint
    assert watched.called == []
    assert os.listdir(tmp_path) == ["source.db"]
    assert source.read_bytes() == before


IDS = [
    "1; DROP TABLE lab",
    "1 OR 1=1",
    "1' OR '1'='1",
    "1)",
    "1--",
    "0x1",
    "1e0",
    " 1",
    "ATTACH DATABASE 'x' AS y",
]


@pytest.mark.parametrize("given", IDS)
@pytest.mark.parametrize("declared", ["INTEGER PRIMARY KEY", "TEXT PRIMARY KEY", "PRIMARY KEY"])
def test_an_id_is_a_value_of_its_column_or_found_nowhere(make_db, tmp_path, cli, given, declared):
    source = make_db(
        f"CREATE TABLE lab (id {declared}, name TEXT); INSERT INTO lab VALUES (1, 'one'), (2, 'two');"
    )
    target, before = tmp_path / "target.db", source.read_bytes()
    done = cli("export", "--root", "lab", source, target, "--", given)
    if done.exit_code == 0:  # a spelling of 1
        assert given.strip() in ("0x1", "1e0", "1")
        assert query(target, "SELECT name FROM lab") == [("one",)]
    else:
        assert done.exit_code == 3, done.output
        assert "not found" in done.stderr or "can't be a key" in done.stderr
        assert not target.exists()
    assert source.read_bytes() == before


CONDITIONS = {
    "a second statement": "1; DROP TABLE lab",
    "a database attached": "1); ATTACH DATABASE 'evil.db' AS evil; --",
    "an extension": "load_extension('evil')",
    "writing": "id IN (INSERT INTO lab VALUES (3, 'x') RETURNING id)",
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_only_chooses(make_db, tmp_path, monkeypatch, cli, condition):
    source = make_db(ROOM)
    monkeypatch.chdir(tmp_path)
    before = source.read_bytes()
    done = cli("export", source, "target.db", "--root", "lab", "--where", CONDITIONS[condition])
    assert done.exit_code == 3, done.output
    assert source.read_bytes() == before
    assert os.listdir(tmp_path) == ["source.db"]


@pytest.mark.fault(16)
def test_a_source_can_not_be_written_even_by_a_fault_of_ours(make_db):
    source = make_db(ROOM)
    before = source.read_bytes()
    with open_source(locate(str(source)), timeout=0, monitor=Monitor()) as snapshot:
        for statement in (
            "INSERT INTO main.lab VALUES (3, 'x')",
            "DROP TABLE main.run",
            "PRAGMA user_version = 5",
        ):
            with pytest.raises(panicdb.PanicDBError):
                snapshot.connection.exec_driver_sql(statement)
    assert source.read_bytes() == before


# Passwords

SECRET = "hunter2-s3cret"
ADDRESSES = {
    "user and password": f"{{scheme}}://user:{SECRET}@host/db",
    "query": f"{{scheme}}://host/db?password={SECRET}",
    "query, second": f"{{scheme}}://host/db?user=u&password={SECRET}&x=1",
    "no port": f"{{scheme}}://user:{SECRET}/db",
    "wrong port": f"{{scheme}}://user:{SECRET}@host:port/db",
    "odd characters": f"{{scheme}}://user:p@ss/w:rd {SECRET}@host/db",
    "a file and a query": f"{{scheme}}:///nowhere.db?password={SECRET}",
    "three slashes": f"{{scheme}}:///user:{SECRET}@host/db",
    "four slashes": f"{{scheme}}:////user:{SECRET}@host/db",
    "two slashes lost": f"{{scheme}}:user:{SECRET}@host/db",
    "one slash": f"{{scheme}}:/user:{SECRET}@host/db",
    "no colon": f"{{scheme}}//user:{SECRET}@host/db",
    "a space before": f" {{scheme}}://user:{SECRET}@host/db",
    "quoted": f'"{{scheme}}://user:{SECRET}@host/db"',
    "assigned": f"DATABASE_URL={{scheme}}://user:{SECRET}@host/db",
    "no scheme": f"user:{SECRET}@host/db",
    "libpq": f"host=h dbname=d password={SECRET}",
    "libpq, quoted": f"host=h password='{SECRET}'",
    "a path and a query": f"nowhere.db?password={SECRET}",
}
SPELLED = {
    f"{name}, {scheme}": form.format(scheme=scheme)
    for name, form in ADDRESSES.items()
    for scheme in (("sqlite", "postgresql+psycopg", "odd") if "{scheme}" in form else ("",))
}
spelled = pytest.mark.parametrize("address", SPELLED.values(), ids=SPELLED)
COMMON = ("user and password, odd", "no port, sqlite", "libpq, ")


def chain(error):
    """Every exception that led to one, with the whole of what it says."""
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        each = todo.pop()
        if each is not None and each not in seen:
            seen.append(each)
            todo += [each.__cause__, each.__context__]
    return "\n".join(f"{each!s} {each!r} {each.args!r} {getattr(each, 'hint', None)}" for each in seen)


def places(folder, address):
    """Every use of an address, alone and with a right one beside it."""
    good, copy = str(folder / "good.db"), str(folder / "copy.db")
    return [
        ("export", address, copy, "--all", "--root", "lab"),
        ("export", good, address, "--all", "--root", "lab"),
        ("export", good, address, "--all", "--root", "lab", "--dry-run", "-v"),
        ("export", good, copy, "--root", "lab", "--", address),
        ("export", good, copy, "--all", "--root", address),
        ("export", good, copy, "--all", "--root", "lab", "--receipt", address),
        ("export", good, copy, "--root", "lab", "--ids-file", address),
        ("export", good, copy, "--all", "--root", "lab", "--max-bytes", address),
        ("clone", address, copy, "--json"),
        ("clone", good, address),
        ("clone", address, address),
        ("clone", good, copy, address),
        ("verify", address, good),
        ("verify", good, address, "--json"),
        ("verify", good, good, "--receipt", address),
        ("list", address),
        ("list", good, address),
        ("list", good, "--root", "lab", "--limit", address),
        ("demo", address + "/x" * 200),
        (address,),
    ]


@pytest.mark.prove
@spelled
def test_a_password_is_said_nowhere(make_db, tmp_path, monkeypatch, cli, address):
    """Not on any stream, in any file, or in what an exception or the ones before it say; whichever way it fails."""
    make_db(ROOM, "good.db")
    monkeypatch.chdir(tmp_path)
    for arguments in places(tmp_path, address):
        says_nothing(cli, arguments)
        tidy(tmp_path)


@pytest.mark.quick
@pytest.mark.parametrize("number", range(len(places(Path(), ""))))
def test_a_password_is_not_said_for_a_sample(make_db, tmp_path, monkeypatch, cli, number):
    """One place each, with a common address, one that is no URL, and another one each."""
    for name in (*COMMON, list(SPELLED)[number]):
        address = SPELLED[name]
        make_db(ROOM, "good.db")
        monkeypatch.chdir(tmp_path)
        says_nothing(cli, places(tmp_path, address)[number])
        (tmp_path / "good.db").unlink()
        tidy(tmp_path)


def says_nothing(cli, arguments):
    found = cli(*arguments)
    told = found.stdout + found.stderr
    assert SECRET not in told, (arguments, told)
    mounted = cli(
        *arguments, standalone_mode=False
    )  # as under another application, which sees Click's exceptions
    assert SECRET not in chain(mounted.exception), (arguments, chain(mounted.exception))


def tidy(folder):
    """No file says it, and nothing but the source stays."""
    for path in list(folder.rglob("*")):
        if path.is_file() and path.name != "good.db":
            assert SECRET.encode() not in path.read_bytes(), path
            path.unlink()


@pytest.mark.prove
@spelled
def test_a_password_from_the_environment_is_said_nowhere(make_db, tmp_path, monkeypatch, cli, address):
    make_db(ROOM, "good.db")
    monkeypatch.chdir(tmp_path)
    for role, value in (("SOURCE", address), ("TARGET", address)):
        monkeypatch.setenv("PANICDB_SOURCE", "good.db")
        monkeypatch.setenv("PANICDB_TARGET", "copy.db")
        monkeypatch.setenv(f"PANICDB_{role}", value)
        for arguments in (
            ("export", "-", "-", "--all", "--root", "lab", "-v"),
            ("clone", "-", "-", "--json"),
            ("verify", "-", "-"),
            ("list", "-"),
        ):
            says_nothing(cli, arguments)
            tidy(tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(address, id=name, marks=[] if name in COMMON else pytest.mark.prove)
        for name, address in SPELLED.items()
    ],
)
def test_a_password_is_in_no_exception_of_the_library(make_db, tmp_path, monkeypatch, address):
    good = str(make_db(ROOM, "good.db"))
    monkeypatch.chdir(tmp_path)
    for act in (
        lambda: panicdb.export(address, "copy.db", root="lab", all_roots=True),
        lambda: panicdb.export(good, address, root="lab", all_roots=True),
        lambda: panicdb.export(good, "copy.db", root="lab", all_roots=True, receipt=address),
        lambda: panicdb.export(good, "copy.db", root=address, all_roots=True),
        lambda: panicdb.export(good, "copy.db", root="lab", roots=[address]),
        lambda: panicdb.export(good, "copy.db", root="lab", all_roots=True, whole=[address]),
        lambda: panicdb.clone(good, address),
        lambda: panicdb.plan(address, root="lab", all_roots=True),
        lambda: panicdb.verify(good, address),
        lambda: panicdb.verify(good, good, receipt=address),
        lambda: panicdb.list_roots(address),
        lambda: panicdb.export_experiments(address, "copy.db", ["1"]),
    ):
        error = attempt(act)
        assert SECRET not in chain(error), chain(error)
        tidy(tmp_path)


WORKING = [
    "sqlite://user:{secret}@host/{path}",
    "sqlite:///{path}?password={secret}",
    "sqlite+pysqlite:///{path}?pwd={secret}",
    "sqlite:///file:{path}?uri=true&password={secret}",
]


@pytest.mark.parametrize("form", WORKING)
def test_a_password_in_an_address_that_works_is_said_nowhere(make_db, tmp_path, monkeypatch, cli, form):
    """And where the run fails later: the source is missing a row, damaged, locked; the target is there."""
    make_db(ROOM, "good.db")
    monkeypatch.chdir(tmp_path)
    spell = {name: form.format(secret=SECRET, path=name) for name in ("good.db", "copy.db", "bad.db")}
    Path("bad.db").write_bytes(Path("good.db").read_bytes()[:5000])
    for arguments, code in (
        (("export", spell["good.db"], spell["copy.db"], "--all", "--root", "lab", "-v"), 0),  # and 3, again
        (("verify", spell["good.db"], spell["copy.db"], "--json"), 0),
        (("list", spell["good.db"], "--root", "lab"), 0),
        (("export", spell["good.db"], spell["copy.db"], "--all", "--root", "lab"), 3),
        (("clone", spell["bad.db"], "new.db"), 3),
        (("export", spell["good.db"], "new.db", "9", "--root", "lab"), 3),
        (("export", spell["good.db"], "new.db", "1", "--root", "nothing"), 3),
    ):
        assert cli(*arguments).exit_code == code, arguments
        says_nothing(cli, arguments)
        for path in tmp_path.iterdir():
            assert SECRET.encode() not in path.read_bytes(), path
            assert SECRET not in path.name


def test_a_file_whose_name_looks_like_a_password_may_be_used(make_db, tmp_path, monkeypatch, cli):
    """A name that is there is a name; a new one is spelled with its directory."""
    make_db(ROOM, "10:30@lab.db")
    monkeypatch.chdir(tmp_path)
    assert cli("clone", "10:30@lab.db", "11:30@lab.db").exit_code == 2
    assert cli("clone", "10:30@lab.db", "./11:30@lab.db").exit_code == 0
    assert query("11:30@lab.db", "SELECT count(*) FROM run") == [(3,)]


def test_a_child_process_is_told_no_password(experiments_db, tmp_path):
    """Arguments of processes can be read by everyone on the machine."""
    program = (
        "import subprocess, sys\n"
        "start = subprocess.Popen.__init__\n"
        "def watched(self, command, **options):\n"
        "    print('STARTED', command, file=sys.stderr)\n"
        "    start(self, command, **options)\n"
        "subprocess.Popen.__init__ = watched\n"
        "from panicdb.cli import panicdb\n"
        "panicdb()\n"
    )
    shutil.copy(experiments_db, tmp_path / "source.db")
    address = f"sqlite://user:{SECRET}@host/source.db"
    command = [sys.executable, "-c", program, "clone", address, "target.db"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "STARTED" in done.stderr
    assert SECRET not in done.stdout + done.stderr
