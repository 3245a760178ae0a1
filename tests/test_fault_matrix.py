"""The rows of the fault matrix that no other file tests, the table of docs/reliability.md, and names of all kinds."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import matrix
import panicdb
from conftest import SCRIPT
from machine import PANICDB, UNSHARE, die_writing, limited, mounting_works

REFUSED, FAILED = 3, 4
MOUNTS = mounting_works()
ROOM = """
CREATE TABLE lab (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, note TEXT);
INSERT INTO lab VALUES (1, 'Bern'), (2, 'Oslo');
INSERT INTO run VALUES (11, 1, 'first'), (12, 1, NULL), (21, 2, 'second');
"""
BERN = ("1", "--root", "lab")


def query(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def execute(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA synchronous = OFF; {script}")
    return path


def numbered(table, count, columns):
    return (
        f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
        f"INSERT INTO {table} SELECT {columns} FROM n;"
    )


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def complains(done, code, *fragments):
    """An error of ours with a hint, and nothing else."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"], done.stderr
    for fragment in fragments:
        assert fragment in done.stderr


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with `in/source.db` and an empty `out`."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("out").mkdir()
    execute("in/source.db", ROOM)
    return tmp_path


def run(*command, **options):
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run(list(map(str, command)), check=False, **options)


@pytest.fixture
def called(cli):
    """Run the command line in this process, where nothing asks for one of its own."""

    def call(*arguments):
        done = cli(*arguments)
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return call


# The table


@pytest.mark.quick
def test_the_table_has_every_row_once_and_in_order():
    assert [row.number for row in matrix.table()] == list(matrix.ROWS)


@pytest.mark.quick
def test_every_test_that_the_table_names_is_there_and_covers_its_row():
    marked = matrix.marked()
    wrong = [
        (row.number, test)
        for row in matrix.table()
        for test in row.tests
        if row.number not in marked.get(test, ())
    ]
    assert wrong == []


@pytest.mark.quick
def test_every_row_is_tested_and_no_other():
    marked = set().union(*matrix.marked().values())
    assert marked == {row.number for row in matrix.table()}
    assert [row.number for row in matrix.table() if not row.tests] == []


# 6: no room


GROWING = f"""
{ROOM}
CREATE TABLE big (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, body);
{numbered("big", 300, "i, 1, randomblob(1000)")}
"""


def bounded(pages, schema):
    """A connection that may not let one of its databases grow beyond some pages."""

    class Cursor(sqlite3.Cursor):
        def execute(self, sql, *rest):
            done = super().execute(sql, *rest)
            if sql.startswith("ATTACH" if schema == "target" else "PRAGMA main.cache_size"):
                super().execute(f"PRAGMA {schema}.max_page_count = {pages}")
            return done

    class Bounded(sqlite3.Connection):
        def cursor(self, factory=Cursor):
            return super().cursor(factory)

    return Bounded


@pytest.mark.fault(6)
@pytest.mark.parametrize(
    ("schema", "more"),
    [("target", ""), ("main", "CREATE INDEX wide ON big (body)")],
    ids=["while rows are copied", "while an index is built"],
)
def test_a_database_that_may_not_grow_counts_as_a_full_disk(place, cli, monkeypatch, schema, more):
    """`max_page_count`: SQLite says that the disk is full, and so do we."""
    execute("in/source.db", GROWING.replace(ROOM, "") + more)
    before = contents(place)
    pages = 30 if schema == "target" else 110
    connect = sqlite3.connect

    def limited_connect(address, **options):
        source = "in/source.db" in str(address) and schema == "main"
        return (
            connect(address, **options)
            if source
            else connect(address, factory=bounded(pages, schema), **options)
        )

    monkeypatch.setattr(sqlite3, "connect", limited_connect)
    done = cli("clone", "in/source.db", "out/target.db")
    monkeypatch.undo()
    assert (done.exit_code, done.stdout) == (FAILED, "")
    assert re.search(
        r"out/target.db: the disk is full: about [\d,]+ bytes are needed, [\d,]+ are free", done.stderr
    )
    assert "hint: make room" in done.stderr
    assert contents(place) == before


KEYED = f"""
CREATE TABLE lab (id TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;
{numbered("lab", 30_000, "hex(zeroblob(400)) || i, i")}
"""
"""Some 25 MB of keys: more than the cache of temporary tables holds."""
SMALL_DISK = """
disk=$1
mount -t tmpfs -o size="$2" small "$disk" || exit 99
shift 2
"$@"
"""


def on_small_disk(disk, size, *command):
    """Spell a command that has a small disk at the directory `disk`, where it may be mounted; what is used instead."""
    if MOUNTS:
        return [*UNSHARE, "sh", "-c", SMALL_DISK, "sh", disk, size, *command]
    return limited("RLIMIT_FSIZE", 1_000_000, *command)


HOW = "a small disk" if MOUNTS else "mounts are forbidden here, so a limit on the size of files"


@pytest.mark.fault(6)
@pytest.mark.parametrize("how", [HOW])
@pytest.mark.parametrize(
    "command", ["export", *(pytest.param(name, marks=pytest.mark.prove) for name in ("dry run", "verify"))]
)
def test_no_room_for_temporary_files(place, command, how):
    """Keys of the closure spill into temporary files; while a target is built these are beside it."""
    execute(Path("in/source.db"), "DROP TABLE run; DROP TABLE lab;" + KEYED)
    Path("temporary").mkdir()
    before = contents(place)
    arguments = {
        "export": ("export", "in/source.db", "out/target.db", "--root", "lab", "--all"),
        "dry run": ("export", "in/source.db", "out/target.db", "--root", "lab", "--all", "--dry-run"),
        "verify": ("verify", "in/source.db", "in/source.db", "--root", "lab", "--all"),
    }[command]
    environment = {**os.environ, "SQLITE_TMPDIR": str(place / "temporary")}
    done = run(*on_small_disk("temporary", "1m", sys.executable, *PANICDB, *arguments), env=environment)
    if MOUNTS:
        complains(done, FAILED, "the disk for temporary files is full", "SQLITE_TMPDIR")
    else:
        complains(done, FAILED, "input/output error", "full disk")
    assert contents(place) == before


@pytest.mark.fault(6)
@pytest.mark.skipif(not MOUNTS, reason="a full disk under the source needs a mount, which is forbidden here")
def test_a_source_in_wal_mode_on_a_full_disk(place):
    """Reading it would make its -wal and -shm, for which there is no room."""
    execute("in/source.db", "PRAGMA journal_mode = WAL")
    script = """
        mount -t tmpfs -o size=64k small disk && cp in/source.db disk || exit 99
        head -c 200000 /dev/zero > disk/filler 2> /dev/null
        "$@"; code=$?
        ls disk; cmp in/source.db disk/source.db || exit 98
        exit $code
    """
    Path("disk").mkdir()
    done = run(*UNSHARE, "sh", "-c", script, "sh", SCRIPT, "clone", "disk/source.db", "out/target.db")
    assert done.returncode in (REFUSED, FAILED), done
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"], done.stderr
    assert "disk/source.db" in done.stderr
    assert os.listdir("out") == []


# 15, 16: which is which


CASE_BLIND = os.path.exists(
    os.path.join(os.path.dirname(os.path.realpath(__file__)), Path(__file__).name.upper())
)
ALIASES = {
    "relative": "in/source.db",
    "absolute": "{place}/in/source.db",
    "with ..": "out/../in/./source.db",
    "twice the slashes": "in//source.db",
    "symbolic link": "symbolic.db",
    "hard link": "hard.db",
    "linked directory": "folder/source.db",
    "URL": "sqlite:///in/source.db",
    "absolute URL": "sqlite:///{place}/in/source.db",
    "URL with a driver": "sqlite+pysqlite:///in/source.db",
    "URL with user and query": "sqlite://user:word@host/in/source.db?timeout=5",
    "file: URI": "sqlite:///file:in/source.db?uri=true",
    "file: URI, escaped": "sqlite:///file:in/%73ource.db?mode=rwc&uri=true",
    "by the process": "/proc/self/cwd/in/source.db" if os.path.isdir("/proc/self/cwd") else "./in/source.db",
    "bind mount" if MOUNTS else "bind mounts are forbidden here, so a link to a link": "mounted/source.db",
    "other case" if CASE_BLIND else "other case, a hard link as names keep their case here": "in/SOURCE.db",
}


def in_place(place, *command):
    """Run the command line with a bind mount of `in` at `mounted`, where mounts are permitted."""
    mounting = [*UNSHARE, "sh", "-c", 'mount --bind in mounted || exit 99; exec "$@"', "sh"] if MOUNTS else []
    return run(*mounting, SCRIPT, *command, cwd=place)


@pytest.mark.prove
@pytest.mark.fault(15)
@pytest.mark.parametrize("alias", ALIASES)
def test_the_source_is_no_target_and_no_receipt_by_any_alias(place, alias):
    Path("symbolic.db").symlink_to("in/source.db")
    os.link("in/source.db", "hard.db")
    Path("folder").symlink_to("in")
    if MOUNTS:
        Path("mounted").mkdir()
    else:
        Path("mounted").symlink_to("folder")
    if not CASE_BLIND:
        os.link("in/source.db", "in/SOURCE.db")
    name = ALIASES[alias].format(place=place)
    before = contents(place)
    for arguments in (
        ("export", "in/source.db", name, *BERN),
        ("clone", name, "in/source.db"),
    ):
        complains(in_place(place, *arguments), REFUSED, "source and target are the same file")
    if "://" not in name:
        receipt = in_place(place, "export", "in/source.db", "out/target.db", *BERN, "--receipt", name)
        complains(receipt, REFUSED, "receipt")
    assert contents(place) == before


@pytest.mark.fault(16)
def test_swapped_roles_write_nothing(place, shell):
    """The copy named as the source, the source as the target."""
    assert shell("export", "in/source.db", "out/copy.db", *BERN).returncode == 0
    before = contents(place)
    complains(shell("export", "out/copy.db", "in/source.db", *BERN), REFUSED, "in/source.db: exists already")
    swapped = shell("verify", "out/copy.db", "in/source.db")
    assert (swapped.returncode, swapped.stderr) == (1, "")
    assert "rows" in swapped.stdout
    assert contents(place) == before


ODD_NAMES = {
    "all at once": "a b'c\"d?e#f%41g\nh&i;j.db",
    "spaces": " a  b .db",
    "single quote": "it's.db",
    "double quote": 'say "no".db',
    "question mark": "what?mode=memory&cache=shared",
    "hash": "#1.db",
    "percent": "100%25.db",
    "newline": "two\nlines.db",
}


@pytest.mark.prove
@pytest.mark.parametrize("kind", ODD_NAMES)
def test_source_target_and_receipt_may_have_any_name(place, shell, kind):
    """Through the real command line: export, list, verify by the receipt and by a selection, clone."""
    name = ODD_NAMES[kind]
    source, target, receipt = f"in/{name}", f"out/{name}", f"out/receipt of {name}"
    os.rename("in/source.db", source)
    done = shell("export", source, target, *BERN, "--receipt", receipt)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(Path(receipt).read_text(encoding="utf-8"))["target"]
    assert query(target, "SELECT id FROM run") == [(11,), (12,)]
    assert json.loads(shell("list", source, "--root", "lab", "--json").stdout)["total"] == 2
    for more in (("--receipt", receipt), BERN):
        assert shell("verify", source, target, *more).returncode == 0
    assert shell("clone", source, f"{target}2").returncode == 0
    assert sorted(os.listdir("out")) == sorted(
        [name, f"receipt of {name}", f"{name}2", f"{name}2.receipt.json"]
    )
    assert os.listdir("in") == [name]


# 27: memory


MEGABYTE = 1 << 20
MEASURED = """
import os, resource, sys
process = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(process, 0)
print(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_of(*command):
    """Run a command; the most bytes it had in memory."""
    done = run(sys.executable, "-c", MEASURED, *command)
    assert done.returncode == 0, done
    return int(done.stdout.split()[-1])


def wide(path, rows, size):
    return execute(
        path,
        "CREATE TABLE lab (id INTEGER PRIMARY KEY);"
        "CREATE TABLE image (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, data BLOB);"
        "INSERT INTO lab VALUES (1);" + numbered("image", rows, f"i, 1, zeroblob({size})"),
    )


@pytest.mark.prove
@pytest.mark.fault(27)
@pytest.mark.parametrize("verb", ["export", "clone"])
def test_memory_is_bounded_by_a_row_not_by_a_table(place, record_property, verb):
    """Three times the wide rows, beyond what caches hold: the same memory, within a limit of the address space."""
    size = 8 * MEGABYTE
    peaks = {}
    for rows in (10, 30):
        source, target = wide(f"in/{rows}.db", rows, size), f"out/{rows}.db"
        choice = BERN if verb == "export" else ()
        command = limited("RLIMIT_AS", 400 * MEGABYTE, SCRIPT, verb, source, target, *choice, "--quiet")
        peaks[rows] = peak_of(*command)
        assert query(target, "SELECT count(*), min(length(data)) FROM image") == [(rows, size)]
        os.unlink(target)
    record_property(
        "figures",
        f"{verb} of 10 and 30 rows of 8 MB: {', '.join(f'{peak >> 20} MB' for peak in peaks.values())}",
    )
    assert peaks[30] - peaks[10] < size
    assert peaks[30] < 200 * MEGABYTE


@pytest.mark.prove
@pytest.mark.fault(27)
def test_a_million_keys_take_no_more_memory_than_their_cache(place, record_property):
    source = execute(
        "in/narrow.db",
        "CREATE TABLE lab (id INTEGER PRIMARY KEY);"
        "CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab);"
        "INSERT INTO lab VALUES (1);" + numbered("run", 1_000_000, "i, 1"),
    )
    command = limited(
        "RLIMIT_AS", 400 * MEGABYTE, SCRIPT, "export", source, "out/target.db", *BERN, "--quiet"
    )
    peak = peak_of(*command)
    record_property("figures", f"export of a million narrow rows: {peak >> 20} MB")
    assert query("out/target.db", "SELECT count(*) FROM run") == [(1_000_000,)]
    assert peak < 200 * MEGABYTE


@pytest.mark.prove
@pytest.mark.fault(27)
@pytest.mark.parametrize("verb", ["export", "clone"])
def test_a_row_that_does_not_fit_into_memory_ends_the_run_cleanly(place, verb):
    source = wide("in/huge.db", 1, 200 * MEGABYTE)
    choice = BERN if verb == "export" else ()
    done = run(*limited("RLIMIT_AS", 350 * MEGABYTE, SCRIPT, verb, source, "out/target.db", *choice))
    complains(done, FAILED, "out of memory")
    assert os.listdir("out") == []


# 28: clocks


CLOCKS = {
    "backwards": "values = (4e9 - 3600 * n for n in __import__('itertools').count())",
    "stands still": "values = (0.0 for _ in __import__('itertools').count())",
    "leaps": "values = (1.7e9 + (-1) ** n * 1e8 * n % 1e9 for n in __import__('itertools').count())",
}
CLOCK = """
import datetime, time
{}
class Skewed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(next(values), tz)
    @classmethod
    def utcnow(cls):
        return cls.utcfromtimestamp(next(values))
time.time = lambda: next(values)
time.time_ns = lambda: int(next(values) * 1e9)
datetime.datetime = Skewed
"""
ZONES = ["UTC", "Pacific/Kiritimati", "America/St_Johns", "XXX+167:59", "no such zone"]
TIMED = f"""
{ROOM}
CREATE TABLE visit (
    id INTEGER PRIMARY KEY,
    lab INTEGER REFERENCES lab,
    made TEXT DEFAULT CURRENT_TIMESTAMP,
    day TEXT DEFAULT CURRENT_DATE,
    seconds INTEGER DEFAULT (strftime('%s', 'now')),
    at TEXT NOT NULL DEFAULT (datetime('now', 'localtime'))
);
INSERT INTO visit VALUES (1, 1, NULL, NULL, NULL, '2024-10-27 02:30:00'), (2, 1, '1900-01-01', 'x', 0, '');
"""


def at(clock, zone, folder):
    """The environment of a process whose clock and zone are as said."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(CLOCK.format(CLOCKS[clock]) if clock else "")
    return {**os.environ, "TZ": zone, "PYTHONPATH": str(folder)}


@pytest.mark.fault(28)
@pytest.mark.parametrize("way", ["copied schema", pytest.param("migrations", marks=pytest.mark.prove)])
def test_no_clock_and_no_zone_changes_a_target(place, experiments_db, way):
    """Same file, byte for byte, whatever the time; only the receipt says when, and nothing reads that."""
    if way == "migrations":
        shutil.copy(experiments_db, "in/source.db")
    else:
        execute("in/source.db", TIMED.replace(ROOM, ""))
    settings = [("", "UTC"), *zip([*CLOCKS, "backwards", ""], ZONES, strict=False)]
    made = {}
    for clock, zone in settings if way == "copied schema" else settings[:3]:
        os.utime("in/source.db", (0, 0) if clock else (4e9, 4e9))
        environment = at(clock, zone, place / "clock")
        choice = BERN if way == "copied schema" else ("--all",)
        done = run(SCRIPT, "export", "in/source.db", "out/target.db", *choice, env=environment)
        assert (done.returncode, done.stderr) == (0, ""), (clock, zone)
        receipt = json.loads(Path("out/target.db.receipt.json").read_text(encoding="utf-8"))
        receipt.pop("created")
        made[clock, zone] = (exactly("out/target.db", way), receipt)
        os.unlink("out/target.db")
    assert len(made) >= 3
    assert all(each == made["", "UTC"] for each in made.values()), [
        key for key, each in made.items() if each != made["", "UTC"]
    ]


def exactly(path, way):
    """The bytes of a target; where Alembic puts constraints and indexes into another order each time, its rows."""
    if way == "copied schema":
        return Path(path).read_bytes()
    assert panicdb.verify("in/source.db", path).ok
    with closing(sqlite3.connect(path)) as connection:
        return sorted(line for line in connection.iterdump() if line.startswith("INSERT"))


@pytest.mark.fault(28, 34)
def test_what_is_null_where_the_default_is_the_time_stays_null(place):
    execute("in/source.db", TIMED.replace(ROOM, ""))
    panicdb.export("in/source.db", "out/target.db", root="lab", roots=["1"])
    for path in ("in/source.db", "out/target.db"):
        assert query(path, "SELECT * FROM visit") == [
            (1, 1, None, None, None, "2024-10-27 02:30:00"),
            (2, 1, "1900-01-01", "x", 0, ""),
        ]
    execute("out/target.db", "INSERT INTO visit (lab) VALUES (1)")
    assert query(
        "out/target.db", "SELECT count(made) + count(day) + count(seconds) FROM visit WHERE id = 3"
    ) == [(3,)]


@pytest.mark.fault(28, 7)
def test_waiting_ends_in_time_though_the_clock_runs_backwards(place):
    environment = at("backwards", "UTC", place / "clock")
    with closing(sqlite3.connect("in/source.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        done = run(SCRIPT, "clone", "in/source.db", "out/target.db", "--timeout", "0.5", env=environment)
        waited = time.monotonic() - began
    complains(done, REFUSED, "locked by another process")
    assert 0.5 <= waited < 10


@pytest.mark.fault(28)
@pytest.mark.quick
@pytest.mark.parametrize("age", [0.0, 4e9], ids=["from 1970", "from the future"])
def test_a_left_over_directory_is_judged_by_its_lock_not_by_its_age(place, age):
    left = Path("out/.target.db.panicdb")
    left.mkdir(mode=0o700)
    (left / "target.db").write_bytes(b"half")
    os.utime(left / "target.db", (age, age))
    os.utime(left, (age, age))
    panicdb.clone("in/source.db", "out/target.db")
    assert sorted(os.listdir("out")) == ["target.db", "target.db.receipt.json"]


# 31: what crashed writers leave


SPILLING = (
    "PRAGMA cache_size = 2",
    "PRAGMA cache_spill = 1",
    "BEGIN",
    "UPDATE lab SET name = 'half'",
    "CREATE TABLE spilled (body)",
    numbered("spilled", 500, "randomblob(1000)").rstrip(";"),
)
LOGGING = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA wal_autocheckpoint = 0",
    "INSERT INTO lab VALUES (3, 'in the log')",
)
CRASHES = {
    "-journal": SPILLING,
    "-wal": LOGGING,
    "-wal, in a transaction": (*LOGGING, *SPILLING[:2], *SPILLING[2:]),
}


@pytest.mark.fault(31)
@pytest.mark.parametrize("crash", CRASHES)
def test_what_a_crashed_writer_left_at_the_target_s_name_is_neither_used_nor_lost(place, called, crash):
    """A database of the target's name was written to, its writer killed, its main file removed; SQLite would apply the
    rest to ours: refused, and every byte of it is kept.
    """
    shutil.copy("in/source.db", "out/target.db")
    die_writing(Path("out/target.db"), *CRASHES[crash])
    os.unlink("out/target.db")
    suffix = crash.partition(",")[0]
    assert os.path.getsize(f"out/target.db{suffix}") > 512
    before = contents(place)
    for arguments in (
        ("export", "in/source.db", "out/target.db", *BERN),
        ("clone", "in/source.db", "out/target.db"),
    ):
        complains(called(*arguments), REFUSED, "left-over files would spoil", f"out/target.db{suffix}")
    assert contents(place) == before
    for path in Path("out").iterdir():
        path.unlink()
    assert called("clone", "in/source.db", "out/target.db").returncode == 0
    assert query("out/target.db", "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.fault(31)
@pytest.mark.parametrize("crash", CRASHES)
def test_what_a_crashed_writer_left_at_the_source_is_not_half_read(place, called, crash):
    """A hot journal is left to its application; of a log the committed rows are read, and not the others."""
    die_writing(Path("in/source.db"), *CRASHES[crash])
    main = Path("in/source.db").read_bytes()
    done = called("export", "in/source.db", "out/target.db", "--all", "--root", "lab")
    assert Path("in/source.db").read_bytes() == main
    if crash == "-journal":
        complains(done, REFUSED, "hot journal", "open the database once")
        assert os.listdir("out") == []
        query("in/source.db", "SELECT count(*) FROM lab")  # the hint: SQLite rolls back
        done = called("export", "in/source.db", "out/target.db", "--all", "--root", "lab")
    assert (done.returncode, done.stderr) == (0, "")
    expected = [(1, "Bern"), (2, "Oslo"), *([] if crash == "-journal" else [(3, "in the log")])]
    assert query("out/target.db", "SELECT * FROM lab") == expected
    assert query("out/target.db", "SELECT count(*) FROM sqlite_master WHERE name = 'spilled'") == [(0,)]


# 34, 35: what a schema does to rows, then and later


ACTIVE = f"""
{ROOM}
CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);
CREATE TABLE item (
    id INTEGER PRIMARY KEY,
    lab INTEGER REFERENCES lab ON DELETE CASCADE ON UPDATE SET NULL,
    name TEXT DEFAULT 'nameless',
    size INTEGER NOT NULL ON CONFLICT REPLACE DEFAULT 7,
    code TEXT UNIQUE ON CONFLICT REPLACE,
    area AS (size * size) STORED,
    shown TEXT GENERATED ALWAYS AS (upper(name)) VIRTUAL
);
INSERT INTO item (id, lab, name, size, code) VALUES (1, 1, NULL, 0, NULL), (2, 1, '', -3, 'a'), (3, 2, 'x', 2, 'b');
CREATE TRIGGER item_in AFTER INSERT ON item BEGIN
    INSERT INTO log (what) VALUES ('in'); UPDATE item SET name = 'changed' WHERE id = new.id;
END;
CREATE TRIGGER lab_in BEFORE INSERT ON lab BEGIN SELECT raise(IGNORE); END;
"""


@pytest.mark.fault(34)
@pytest.mark.parametrize("choice", [{}, {"root": "lab", "all_roots": True}], ids=["clone", "export"])
def test_nothing_in_a_schema_changes_rows_on_their_way(place, choice):
    """Triggers, one of which ignores every row; defaults; conflict clauses that replace; generated columns."""
    execute("in/source.db", ACTIVE.replace(ROOM, ""))
    (panicdb.export if choice else panicdb.clone)("in/source.db", "out/target.db", **choice)
    for table in ("lab", "item", "run", "log"):
        everything = f"SELECT *, typeof(id) FROM {table} ORDER BY id"
        assert query("out/target.db", everything) == query("in/source.db", everything)
    assert query("out/target.db", "SELECT area, shown FROM item") == [(0, None), (9, ""), (4, "X")]
    execute("out/target.db", "INSERT INTO item (id, lab, size) VALUES (9, 1, 5)")
    assert query("out/target.db", "SELECT name, area FROM item WHERE id = 9") == [("changed", 25)]


NUMBERED = f"""
{ROOM}
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, lab INTEGER REFERENCES lab, note TEXT);
INSERT INTO counted VALUES (5, 1, 'a'), (90, 2, 'b'), (1000, 2, 'gone');
DELETE FROM counted WHERE id = 1000;
CREATE TABLE tag (name TEXT PRIMARY KEY, lab INTEGER REFERENCES lab) WITHOUT ROWID;
INSERT INTO tag VALUES ('t', 1), ('u', 2);
CREATE TABLE plain (lab INTEGER REFERENCES lab, note TEXT);
INSERT INTO plain VALUES (1, 'p'), (2, 'q');
CREATE TABLE never (id INTEGER PRIMARY KEY AUTOINCREMENT, lab INTEGER REFERENCES lab);
"""
NEXT = {
    "lab": "INSERT INTO lab (name) VALUES ('new')",
    "run": "INSERT INTO run (lab) VALUES (1)",
    "counted": "INSERT INTO counted (lab) VALUES (1)",
    "tag": "INSERT INTO tag VALUES ('new', 1)",
    "plain": "INSERT INTO plain VALUES (1, 'new')",
    "never": "INSERT INTO never (lab) VALUES (1)",
}


@pytest.mark.fault(35)
@pytest.mark.parametrize("choice", [{}, {"root": "lab", "roots": ["1"]}], ids=["clone", "export"])
def test_a_row_may_be_inserted_into_every_table_after_an_export(place, choice):
    """A number that the source has given away is not given again."""
    execute("in/source.db", NUMBERED.replace(ROOM, ""))
    (panicdb.export if choice else panicdb.clone)("in/source.db", "out/target.db", **choice)
    tables = query(
        "in/source.db", "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'sqlite_sequence'"
    )
    assert {name for (name,) in tables} == set(NEXT)
    for table, statement in NEXT.items():
        before = query("out/target.db", f"SELECT count(*) FROM {table}")[0][0]
        execute("out/target.db", f"PRAGMA foreign_keys = ON; {statement}")
        assert query("out/target.db", f"SELECT count(*) FROM {table}") == [(before + 1,)]
    assert query("out/target.db", "SELECT max(id) FROM counted") == [(1001,)]
    assert query("out/target.db", "SELECT max(id) FROM never") == [(1,)]
    assert query("out/target.db", "PRAGMA foreign_key_check") == []
    assert query("out/target.db", "PRAGMA integrity_check") == [("ok",)]
