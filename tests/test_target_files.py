"""The target as a file: header, mode, definitions, indexes of other modules, counters, bytes; the source left alone."""

import hashlib
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import panicdb
from panicdb import histories, replays, revisions
from panicdb.errors import BudgetError, RefusedError, SelectionError, SourceError
from panicdb.values import Monitor

ROOM = """
CREATE TABLE lab (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, note TEXT);
INSERT INTO lab VALUES (1, 'Bern'), (2, 'Oslo');
INSERT INTO run VALUES (11, 1, 'first'), (12, 1, NULL), (21, 2, 'second');
"""


@pytest.fixture
def copy(tmp_path: Path) -> Callable[..., Path]:
    """Clone a file, or export the roots that keywords choose; what must hold for every copy is checked here."""

    def make(source: Path, **choice: object) -> Path:
        target = tmp_path / "target.db"
        before, around = digest(source), set(os.listdir(source.parent))
        verb = panicdb.export if choice.keys() - {"violations"} else panicdb.clone
        verb(str(source), str(target), **choice)
        assert digest(source) == before
        assert set(os.listdir(source.parent)) - around <= {target.name, f"{target.name}.receipt.json"}
        assert query(target, "PRAGMA integrity_check") == [("ok",)]
        if receipt(target)["schema"]["method"] == "copy":
            assert objects(target) == objects(source)
        return target

    return make


def receipt(target: Path) -> dict:
    return json.loads(Path(f"{target}.receipt.json").read_text(encoding="utf-8"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def query(path: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def objects(path: Path) -> set[tuple]:
    """Every object with its definition, letter for letter."""
    return set(
        query(path, "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name <> 'sqlite_sequence'")
    )


def stored(path: Path, table: str) -> list[str]:
    """Every row of a table as it is stored, as text: of text the bytes, and whether a number is whole."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = RawText
        return sorted(map(repr, connection.execute(f"SELECT * FROM {quote(table)}")))


class RawText(bytes):
    """Text as SQLite gives it, told from a blob."""

    def __repr__(self) -> str:
        return f"text {super().__repr__()}"


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# The header


@pytest.mark.quick
@pytest.mark.parametrize("size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
def test_page_size(make_db, copy, size):
    source = make_db(f"PRAGMA page_size = {size}; {ROOM}")
    assert query(source, "PRAGMA page_size") == [(size,)]
    target = copy(source, root="lab", roots=["1"])
    assert query(target, "PRAGMA page_size") == [(size,)]


@pytest.mark.quick
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_encoding(make_db, copy, encoding):
    source = make_db(
        f"PRAGMA encoding = '{encoding}'; {ROOM} UPDATE lab SET name = 'Zürich 🐘' WHERE id = 1;"
    )
    target = copy(source, root="lab", where="name LIKE '%ürich%'")
    assert query(target, "PRAGMA encoding") == [(encoding,)]
    assert query(target, "SELECT * FROM lab") == [(1, "Zürich 🐘")]


@pytest.mark.quick
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_auto_vacuum(make_db, copy, mode):
    source = make_db(f"PRAGMA auto_vacuum = {mode}; {ROOM}")
    target = copy(source)
    assert query(target, "PRAGMA auto_vacuum") == [(mode,)]


@pytest.mark.quick
@pytest.mark.parametrize("choice", [{}, {"root": "lab", "roots": ["2"]}], ids=["clone", "export"])
def test_user_version_and_application_id(make_db, copy, choice):
    source = make_db(f"PRAGMA user_version = -77; PRAGMA application_id = 252006673; {ROOM}")
    target = copy(source, **choice)
    assert query(target, "PRAGMA user_version") == [(-77,)]
    assert query(target, "PRAGMA application_id") == [(252006673,)]


@pytest.mark.quick
@pytest.mark.parametrize("mode", ["delete", "wal", "truncate", "persist"])
def test_the_target_is_in_journal_mode_delete_with_nothing_beside_it(tmp_path, mode):
    folder = tmp_path / "source"
    folder.mkdir()
    source, target = folder / "source.db", tmp_path / "target.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.executescript(ROOM)
    panicdb.export(str(source), str(target), root="lab", roots=["1"])
    assert query(target, "PRAGMA journal_mode") == [("delete",)]
    assert target.read_bytes()[18:20] == b"\x01\x01"
    assert sorted(os.listdir(tmp_path)) == ["source", "target.db", "target.db.receipt.json"]


@pytest.mark.quick
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_mode_is_0600_whatever_the_umask(make_db, copy, mask):
    source = make_db(ROOM)
    before = os.umask(mask)
    try:
        target = copy(source)
    finally:
        os.umask(before)
    for path in (target, Path(f"{target}.receipt.json")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_header_survives_the_way_over_migrations(experiments_db, tmp_path, copy):
    source = tmp_path / "source.db"
    shutil.copy(experiments_db, source)
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        for pragma in ("page_size = 2048", "auto_vacuum = 1", "user_version = 5", "application_id = 6"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("VACUUM")
    target = copy(source, where="true")
    assert receipt(target)["schema"]["method"] == "migrations"
    for pragma, value in (
        ("page_size", 2048),
        ("auto_vacuum", 1),
        ("user_version", 5),
        ("application_id", 6),
    ):
        assert query(target, f"PRAGMA {pragma}") == [(value,)]


# Triggers and views

TRIGGERS = f"""
{ROOM}
CREATE TABLE log (what TEXT);
CREATE TRIGGER before_run BEFORE INSERT ON run BEGIN INSERT INTO log VALUES ('before ' || new.id); END;
CREATE TRIGGER after_run AFTER INSERT ON run WHEN new.note IS NOT NULL
    BEGIN UPDATE run SET note = upper(note) WHERE id = new.id; END;
CREATE TRIGGER after_change AFTER UPDATE OF name ON lab BEGIN INSERT INTO log VALUES ('renamed ' || old.name); END;
CREATE TRIGGER "a; b" AFTER DELETE ON run BEGIN SELECT raise(ABORT, 'runs are not deleted'); END;
CREATE VIEW labs AS SELECT lab.name, count(run.id) AS runs FROM lab LEFT JOIN run ON run.lab = lab.id GROUP BY lab.id;
CREATE TRIGGER new_lab INSTEAD OF INSERT ON labs BEGIN INSERT INTO lab (name) VALUES (new.name); END;
"""


@pytest.mark.quick
@pytest.mark.parametrize("choice", [{}, {"root": "lab", "all_roots": True}], ids=["clone", "export"])
@pytest.mark.fault(34)
def test_triggers_do_not_fire_during_the_load_and_work_afterwards(make_db, copy, choice):
    target = copy(make_db(TRIGGERS), **choice)
    assert query(target, "SELECT * FROM log") == []
    assert query(target, "SELECT note FROM run ORDER BY id") == [("first",), (None,), ("second",)]
    execute(
        target,
        "INSERT INTO run VALUES (13, 1, 'third')",
        "UPDATE lab SET name = 'Basel' WHERE id = 1",
        "INSERT INTO labs (name) VALUES ('Rome')",
    )
    assert query(target, "SELECT * FROM log") == [("before 13",), ("renamed Bern",)]
    assert query(target, "SELECT note FROM run WHERE id = 13") == [("THIRD",)]
    assert query(target, "SELECT * FROM labs") == [("Basel", 3), ("Oslo", 1), ("Rome", 0)]
    with pytest.raises(sqlite3.IntegrityError, match="runs are not deleted"):
        execute(target, "DELETE FROM run")


@pytest.mark.quick
def test_deeply_nested_views(make_db, copy):
    views = "".join(
        f"CREATE VIEW v{n} AS SELECT id, name FROM {f'v{n - 1}' if n else 'lab'} WHERE id > 0;"
        for n in range(60)
    )
    target = copy(make_db(ROOM + views), root="lab", roots=["2"])
    assert query(target, "SELECT * FROM v59") == [(2, "Oslo")]


@pytest.mark.quick
def test_views_of_tables_that_are_not_there_are_copied_as_they_are(make_db, copy):
    script = ROOM + "CREATE VIEW later AS SELECT * FROM missing; CREATE VIEW early AS SELECT * FROM later;"
    target = copy(make_db(script))
    assert ("early",) in query(target, "SELECT name FROM sqlite_master WHERE type = 'view'")


# Indexes that other modules keep

FULL_TEXT = """
CREATE TABLE page (id INTEGER PRIMARY KEY, book INTEGER REFERENCES book, title TEXT, body TEXT);
CREATE TABLE book (id INTEGER PRIMARY KEY);
INSERT INTO book VALUES (1), (2);
INSERT INTO page VALUES (10, 1, 'Elephants', 'the elephant sat'), (20, 1, 'Mice', 'a mouse ran'),
    (30, 2, 'Elephants again', 'elephants never forget');
"""


@pytest.mark.quick
def test_fts5_with_content_of_its_own(make_db, copy):
    target = copy(
        make_db("""
            CREATE VIRTUAL TABLE words USING fts5(title, body UNINDEXED, tokenize = 'porter unicode61', prefix = '2 3');
            INSERT INTO words (rowid, title, body) VALUES (7, 'running dogs', 'x'), (900, 'cats', 'running'),
                (901, 'ran', NULL);
            DELETE FROM words WHERE rowid = 901;
        """)
    )
    assert query(target, "SELECT rowid, * FROM words WHERE words MATCH 'run'") == [(7, "running dogs", "x")]
    assert query(target, "SELECT rowid FROM words WHERE words MATCH 'ca*'") == [(900,)]
    assert query(target, "SELECT rowid, * FROM words") == [(7, "running dogs", "x"), (900, "cats", "running")]
    execute(target, "INSERT INTO words (words) VALUES ('integrity-check')")


@pytest.mark.quick
@pytest.mark.parametrize("content", ["own", "external"])
def test_fts5_keeps_its_configuration(make_db, copy, content):
    outside = ", content = 'page', content_rowid = 'id'" if content == "external" else ""
    source = make_db(
        FULL_TEXT + f"CREATE VIRTUAL TABLE words USING fts5(title, body{outside});"
        "INSERT INTO words (rowid, title, body) SELECT id, title, body FROM page;"
        "INSERT INTO words (words, rank) VALUES ('rank', 'bm25(1.0, 50.0)');"
        "INSERT INTO words (words, rank) VALUES ('automerge', 7);"
    )
    target = copy(source)
    configured = dict(query(target, "SELECT k, v FROM words_config"))
    assert (configured["rank"], configured["automerge"]) == ("bm25(1.0, 50.0)", 7)
    ranked = "SELECT rowid, rank FROM words WHERE words MATCH 'elephants OR elephant' ORDER BY rank"
    assert query(target, ranked) == query(source, ranked)


@pytest.mark.quick
@pytest.mark.parametrize("module", ["fts5", "fts4", "fts3"])
def test_full_text_over_a_table_is_rebuilt_over_the_rows_that_came(make_db, copy, module):
    if module == "fts5":
        create = "CREATE VIRTUAL TABLE words USING fts5(title, body, content='page', content_rowid=id);"
    else:
        # FTS3 knows no `content`: it keeps a copy of its own.
        content = ", content=page" if module == "fts4" else ""
        create = f"CREATE VIRTUAL TABLE words USING {module}(title, body{content});"
    filled = (
        "INSERT INTO words (rowid, title, body) SELECT id, title, body FROM page;"
        "CREATE TRIGGER page_in AFTER INSERT ON page BEGIN"
        "  INSERT INTO words (rowid, title, body) VALUES (new.id, new.title, new.body); END;"
    )
    source = make_db(FULL_TEXT + create + filled)
    target = copy(source, root="book", roots=["2"])
    outside = module != "fts3"
    found = query(target, "SELECT rowid FROM words WHERE words MATCH 'elephants'")
    assert found == ([(30,)] if outside else [])
    execute(target, "INSERT INTO page VALUES (40, 2, 'More', 'elephants')")
    found = query(target, "SELECT rowid FROM words WHERE words MATCH 'elephants'")
    assert found == ([(30,), (40,)] if outside else [(40,)])


@pytest.mark.quick
def test_full_text_over_a_view(make_db, copy):
    target = copy(
        make_db(f"""
            {FULL_TEXT}
            CREATE VIEW text AS SELECT id, title || ' ' || body AS all_of_it FROM page;
            CREATE VIRTUAL TABLE words USING fts5(all_of_it, content = 'text', content_rowid = 'id');
            INSERT INTO words (words) VALUES ('rebuild');
        """),
        root="book",
        roots=["1"],
    )
    assert query(target, "SELECT rowid FROM words WHERE words MATCH 'mouse OR forget'") == [(20,)]


@pytest.mark.quick
def test_fts4_with_content_of_its_own_and_options(make_db, copy):
    target = copy(
        make_db("""
            CREATE VIRTUAL TABLE words USING
                fts4(title, body, tokenize=porter, prefix="2,4", notindexed=body, order=desc);
            INSERT INTO words (docid, title, body) VALUES (7, 'running dogs', 'cats'), (900, 'cats', 'x');
        """)
    )
    assert query(target, "SELECT docid, * FROM words WHERE words MATCH 'run'") == [
        (7, "running dogs", "cats")
    ]
    assert query(target, "SELECT docid FROM words WHERE words MATCH 'ca*'") == [(900,)]


@pytest.mark.quick
def test_rtree_with_auxiliary_columns(make_db, copy):
    source = make_db("""
        CREATE VIRTUAL TABLE place USING rtree(id, west, east, south, north, +name TEXT, +data BLOB);
        INSERT INTO place VALUES (7, 0.1, 1.7, 2.2, 3.3, 'a', x'00ff'), (1000000, -5, -4.123456789, 0, 0.1, 'b', NULL);
        CREATE VIRTUAL TABLE grid USING rtree_i32(id, a, b);
        INSERT INTO grid VALUES (1, -2147483648, 2147483647);
    """)
    target = copy(source)
    assert query(target, "SELECT * FROM place") == query(source, "SELECT * FROM place")
    assert query(target, "SELECT id, name FROM place WHERE west > 0 AND north < 4") == [(7, "a")]
    assert query(target, "SELECT rtreecheck('place'), rtreecheck('grid')") == [("ok", "ok")]
    assert query(target, "SELECT * FROM grid") == [(1, -(2**31), 2**31 - 1)]


@pytest.mark.quick
@pytest.mark.parametrize("all_roots", [True, False], ids=["every row of book", "one book"])
def test_an_export_leaves_full_text_of_its_own_empty_because_no_link_leads_there(make_db, copy, all_roots):
    script = """
        CREATE TABLE book (id INTEGER PRIMARY KEY);
        INSERT INTO book VALUES (1), (2);
        CREATE TABLE other (id INTEGER PRIMARY KEY);
        INSERT INTO other VALUES (1);
        CREATE VIRTUAL TABLE words USING fts5(body);
        INSERT INTO words VALUES ('what nobody chose');
        CREATE VIRTUAL TABLE place USING rtree(id, a, b);
        INSERT INTO place VALUES (1, 2, 3);
    """
    choice = {"all_roots": True} if all_roots else {"roots": ["1"]}
    target = copy(make_db(script), root="book", **choice)
    assert query(target, "SELECT * FROM words") == query(target, "SELECT * FROM place") == []
    execute(target, "INSERT INTO words VALUES ('later')")
    assert query(target, "SELECT * FROM words WHERE words MATCH 'later'") == [("later",)]


@pytest.mark.quick
def test_shadow_tables_are_no_data(make_db, copy):
    source = make_db(
        ROOM + "CREATE VIRTUAL TABLE words USING fts5(body); INSERT INTO words VALUES ('x');"
        "CREATE VIRTUAL TABLE place USING rtree(id, a, b);"
    )
    shadows = {row[1] for row in query(source, "PRAGMA table_list") if row[2] == "shadow"}
    assert {"words_content", "words_config", "place_node"} <= shadows
    target = copy(source)
    told = receipt(target)
    assert {table["name"] for table in told["tables"]} | set(told["empty"]) == {"lab", "run"}
    for name in ("words_content", "words", "place_node", "place"):
        with pytest.raises(SelectionError):
            panicdb.plan(str(source), root=name, all_roots=True)


AS_IF = "PRAGMA writable_schema = ON; INSERT INTO sqlite_master VALUES ('table', 'bad', 'bad', 0, '{}')"
"""Puts a table into the catalog as if the module were there that it needs."""


@pytest.mark.quick
@pytest.mark.parametrize(
    ("table", "words"),
    [
        (AS_IF.format("CREATE VIRTUAL TABLE bad USING vec0(embedding float[8])"), ("vec0",)),
        (AS_IF.format("CREATE VIRTUAL TABLE bad USING fts5(body, tokenize = icu)"), ("tokenizer", "icu")),
        (AS_IF.format("CREATE VIRTUAL TABLE bad USING fts4(body, tokenize=german)"), ("tokenizer", "german")),
        ("CREATE VIRTUAL TABLE bad USING fts5(body, content = '')", ("'bad'", "contentless")),
        ("CREATE VIRTUAL TABLE bad USING fts5(body, content='', columnsize=0)", ("'bad'", "contentless")),
        ('CREATE VIRTUAL TABLE bad USING fts4(body, content="")', ("'bad'", "contentless")),
        ("CREATE VIRTUAL TABLE bad USING fts4(body, languageid='lang')", ("'bad'", "language ids")),
        ("CREATE VIRTUAL TABLE bad USING fts5vocab('words', 'row')", ("'bad'", "fts5vocab")),
        ("CREATE VIRTUAL TABLE bad USING dbstat", ("'bad'", "dbstat")),
    ],
)
@pytest.mark.parametrize("choice", [{}, {"root": "lab", "roots": ["1"]}], ids=["clone", "export"])
def test_what_can_not_be_rebuilt_is_refused_before_anything_is_written(
    make_db, tmp_path, table, words, choice
):
    source = make_db(f"{ROOM} CREATE VIRTUAL TABLE words USING fts5(x); {table};")
    copy_of = panicdb.export if choice else panicdb.clone
    with pytest.raises(SourceError) as refusal:
        copy_of(str(source), str(tmp_path / "target.db"), **choice)
    assert all(word in str(refusal.value) for word in words)
    assert refusal.value.hint
    assert os.listdir(tmp_path) == ["source.db"]


# Statistics and counters

STATISTICS = f"""
{ROOM}
CREATE INDEX run_lab ON run (lab);
CREATE INDEX run_note ON run (note) WHERE note IS NOT NULL;
ANALYZE;
"""


@pytest.mark.quick
def test_a_clone_has_the_same_statistics(make_db, copy):
    source = make_db(f"{STATISTICS} UPDATE sqlite_stat1 SET stat = '1000 10' WHERE idx = 'run_lab';")
    target = copy(source)
    rows = "SELECT rowid, tbl, idx, stat FROM sqlite_stat1 ORDER BY 1"
    assert query(target, rows) == query(source, rows)
    assert ("run", "run_lab", "1000 10") in query(target, "SELECT tbl, idx, stat FROM sqlite_stat1")


@pytest.mark.quick
def test_the_statistics_of_a_subset_are_its_own(make_db, copy):
    source = make_db(f"{STATISTICS} UPDATE sqlite_stat1 SET stat = '1000 10' WHERE idx = 'run_lab';")
    target = copy(source, root="lab", roots=["1"])
    found = query(target, "SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY tbl, idx")
    assert found == [("lab", None, "1"), ("run", "run_lab", "2 2"), ("run", "run_note", "1 1")]


@pytest.mark.quick
def test_without_statistics_there_are_none(make_db, copy):
    target = copy(make_db(ROOM))
    assert query(target, "SELECT name FROM sqlite_master WHERE name LIKE 'sqlite_stat%'") == []


COUNTED = """
CREATE TABLE lab (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
CREATE TABLE run (id INTEGER PRIMARY KEY AUTOINCREMENT, lab INTEGER REFERENCES lab);
CREATE TABLE other (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE fresh (id INTEGER PRIMARY KEY AUTOINCREMENT);
INSERT INTO lab VALUES (5, 'a'), (900, 'gone'), (7, 'b');
DELETE FROM lab WHERE id = 900;
INSERT INTO run VALUES (50, 5), (70, 7);
INSERT INTO other VALUES (9223372036854775800);
"""


@pytest.mark.quick
@pytest.mark.parametrize("choice", [{}, {"root": "lab", "roots": ["5"]}], ids=["clone", "export"])
@pytest.mark.fault(35)
def test_counters_continue_where_the_source_stands(make_db, copy, choice):
    source = make_db(COUNTED)
    target = copy(source, **choice)
    for table, expected in (("lab", 901), ("run", 71), ("other", 2**63 - 7), ("fresh", 1)):
        for path in (source, target):
            execute(path, f"INSERT INTO {table} DEFAULT VALUES")
            assert query(path, f"SELECT max(id) FROM {table}") == [(expected,)]


@pytest.mark.quick
@pytest.mark.parametrize("value", ["NULL", "'abc'", "'12'", "3.7"])
@pytest.mark.fault(35)
def test_odd_counters_do_what_they_did(make_db, copy, value):
    source = make_db(f"{COUNTED} UPDATE sqlite_sequence SET seq = {value} WHERE name = 'lab';")
    target = copy(source)
    for path in (source, target):
        execute(path, "INSERT INTO lab DEFAULT VALUES")
    assert query(target, "SELECT max(id) FROM lab") == query(source, "SELECT max(id) FROM lab")


# Values, byte for byte


@pytest.mark.quick
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.fault(22)
def test_values_arrive_byte_for_byte(make_db, copy, encoding):
    source = make_db(f"""
        PRAGMA encoding = '{encoding}';
        CREATE TABLE odd (id INTEGER PRIMARY KEY, value, real REAL, integer INTEGER, text TEXT,
            numeric NUMERIC, blob BLOB);
        INSERT INTO odd (value) VALUES
            (CAST(x'ff' AS TEXT)), (CAST(x'00d8' AS TEXT)), (CAST(x'd800' AS TEXT)), (CAST(x'c328a0' AS TEXT)),
            (CAST(x'e2' AS TEXT)), ('a' || char(0) || 'b'), (char(0)), (''), (x''), (NULL), (x'00'), (zeroblob(10)),
            (9223372036854775807), (-9223372036854775808), (9223372036854775807.0), (1e300), (9e999), (-9e999),
            (-0.0), (0.0),
            (5e-324), (0.1), ('0.10'), ('1e2'), (char(65279) || 'bom'), (char(1114111)), ('ü' || char(776));
        INSERT INTO odd (real, integer, text, numeric, blob) SELECT value, value, value, value, value FROM odd;
    """)
    with closing(sqlite3.connect(source)) as connection:
        connection.executemany(
            "INSERT INTO odd (value, real) VALUES (?, ?)", [(float("nan"), float("nan")), (-0.0, -0.0)]
        )
        connection.commit()
    everything = stored(source, "odd")
    for choice in ({}, {"root": "odd", "where": "true"}, {"root": "odd", "where": "id > 1"}):
        target = copy(source, **choice)
        expected = [
            row for row in everything if choice.get("where") != "id > 1" or not row.startswith("(1, ")
        ]
        assert stored(target, "odd") == expected
        target.unlink()


def test_a_blob_of_10_mb_and_a_long_text(make_db, copy):
    source = make_db("CREATE TABLE image (id INTEGER PRIMARY KEY, data BLOB, text TEXT)")
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("INSERT INTO image VALUES (1, randomblob(10000000), printf('%.*c', 5000000, 'ü'))")
        connection.execute("INSERT INTO image VALUES (2, zeroblob(0), '')")
        connection.commit()
    target = copy(source, root="image", roots=["1"])
    assert stored(target, "image") == stored(source, "image")[:1]


@pytest.mark.quick
@pytest.mark.parametrize("how", [{"roots": ["abcd"]}, {"where": "true"}], ids=["by prefix", "by condition"])
def test_a_key_that_is_no_valid_text(make_db, copy, cli, how):
    """Such a key is found, recorded, found again by `verify`, and can be listed."""
    source = make_db("""
        CREATE TABLE lab (id TEXT PRIMARY KEY, name TEXT);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab TEXT REFERENCES lab);
        INSERT INTO lab VALUES ('abcd' || CAST(x'ff' AS TEXT), CAST(x'fe' AS TEXT));
        INSERT INTO run VALUES (1, 'abcd' || CAST(x'ff' AS TEXT));
    """)
    target = copy(source, root="lab", **how)
    assert query(target, "SELECT hex(id), hex(name) FROM lab") == [("61626364FF", "FE")]
    assert query(target, "SELECT count(*) FROM run") == [(1,)]
    assert panicdb.verify(str(source), str(target)).ok
    for options in ((), ("--json",)):
        listed = cli("list", source, "--root", "lab", *options)
        assert listed.exit_code == 0, listed.output
        assert "abcd" in listed.stdout


@pytest.mark.quick
def test_an_id_that_is_no_valid_text_is_not_found(make_db, cli, tmp_path):
    source = make_db("CREATE TABLE lab (id TEXT PRIMARY KEY); INSERT INTO lab VALUES ('abcd');")
    done = cli("export", source, tmp_path / "target.db", "--root", "lab", "abcd\udcff")
    assert done.exit_code in {2, 3}
    assert "abcd" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["source.db"]


# The source


@pytest.mark.quick
@pytest.mark.fault(8)
def test_committed_rows_of_a_write_ahead_log_come_along_and_others_do_not(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    source, target = folder / "source.db", tmp_path / "target.db"
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.executescript(ROOM)
        before = digest(source)
        writer.execute("INSERT INTO lab VALUES (3, 'in the log')")
        writer.execute("BEGIN")
        writer.execute("INSERT INTO lab VALUES (4, 'not committed')")
        panicdb.clone(str(source), str(target))
        writer.execute("COMMIT")
        assert digest(source) == before
        assert sorted(os.listdir(folder)) == ["source.db", "source.db-shm", "source.db-wal"]
    assert os.listdir(folder) == ["source.db"]
    assert query(target, "SELECT id FROM lab") == [(1,), (2,), (3,)]
    assert query(source, "SELECT count(*) FROM lab") == [(4,)]


@pytest.mark.quick
@pytest.mark.fault(8)
def test_a_source_in_rollback_mode_is_free_as_soon_as_its_rows_are_read(make_db, tmp_path):
    source, target = make_db(ROOM), tmp_path / "target.db"
    written = []

    def write(progress: panicdb.Progress) -> None:
        if progress.step in {"checking", "publishing"} and progress.step not in written:
            with closing(sqlite3.connect(source, timeout=0)) as connection:
                connection.execute("INSERT INTO lab (name) VALUES (?)", (progress.step,))
                connection.commit()
            written.append(progress.step)

    panicdb.export(str(source), str(target), root="lab", all_roots=True, progress=write)
    assert written == ["checking", "publishing"]
    assert query(target, "SELECT count(*) FROM lab") == [(2,)]
    execute(source, "DELETE FROM lab WHERE id > 2")


@pytest.mark.quick
def test_a_source_is_free_after_a_refusal(make_db, tmp_path):
    source = make_db(ROOM)
    with pytest.raises(BudgetError):
        panicdb.export(str(source), str(tmp_path / "target.db"), root="lab", all_roots=True, max_rows=1)
    with closing(sqlite3.connect(source, timeout=0, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("INSERT INTO lab VALUES (3, 'free')")
        connection.execute("COMMIT")


@pytest.mark.quick
def test_a_read_only_source_in_its_own_directory_is_enough(make_db, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    source = folder / "source.db"
    shutil.copy(make_db(ROOM), source)
    source.chmod(0o400)
    folder.chmod(0o500)
    try:
        panicdb.clone(str(source), str(tmp_path / "target.db"))
        assert os.listdir(folder) == ["source.db"]
    finally:
        folder.chmod(0o700)
    assert query(tmp_path / "target.db", "SELECT count(*) FROM run") == [(3,)]


# Definitions


DEFINITIONS = {
    "comments": """
        CREATE /* what */ TABLE -- a comment, with ( and '
          lab (id INTEGER /* ) */ PRIMARY KEY, -- the key
               name TEXT DEFAULT 'it''s -- no comment' /* last */
          ) -- after
          ;
        INSERT INTO lab (id) VALUES (1);
    """,
    "created as a query": """
        CREATE TABLE first (a INT, b TEXT);
        INSERT INTO first VALUES (1, 'x'), (2, 'y');
        CREATE TABLE second AS SELECT a + 1, b AS "the b", count(*) FROM first GROUP BY a;
    """,
    "strings in double quotes": """
        CREATE TABLE quoted (a TEXT DEFAULT "a string", b TEXT CHECK (b <> "no column"), "c" INT CHECK ("c" > 0));
        INSERT INTO quoted (b, c) VALUES ('b', 1);
    """,
    "expression and partial indexes": """
        CREATE TABLE t (a TEXT, b INT);
        CREATE INDEX low ON t (lower(a), b DESC) WHERE b > 0 AND a IS NOT NULL;
        CREATE UNIQUE INDEX "odd index" ON t (a COLLATE NOCASE, (b + 1));
        CREATE INDEX desc_b ON t (b DESC);
        INSERT INTO t VALUES ('A', 1), ('b', -1), (NULL, 1), (NULL, 1);
    """,
    "conflict clauses": """
        CREATE TABLE t (a INTEGER PRIMARY KEY ON CONFLICT REPLACE,
            b TEXT UNIQUE ON CONFLICT IGNORE NOT NULL ON CONFLICT FAIL, CONSTRAINT "c d" CHECK (length(b) < 10));
        INSERT INTO t VALUES (1, 'x'), (2, 'y');
    """,
    "defaults": """
        CREATE TABLE t (id INTEGER PRIMARY KEY, made TEXT DEFAULT CURRENT_TIMESTAMP, n INT DEFAULT (1 + 2),
            r REAL DEFAULT -1.5, x BLOB DEFAULT x'00');
        INSERT INTO t (id) VALUES (1);
    """,
    "without rowid": """
        CREATE TABLE t (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID;
        INSERT INTO t VALUES (1, 'x'), ('1', x'00');
    """,
    "generated columns": """
        CREATE TABLE t (id INTEGER PRIMARY KEY, j TEXT, v AS (j || '!') STORED, w INT AS (length(j)) UNIQUE);
        INSERT INTO t (j) VALUES ('a'), ('bb');
    """,
    "a table without a name": """CREATE TABLE "" (a TEXT); INSERT INTO "" VALUES ('nameless');""",
    "four ways to quote": """
        CREATE TABLE t ([a b] INT, `c``d` INT, 'e''f' INT, "g""h" INT);
        INSERT INTO t VALUES (1, 2, 3, 4);
    """,
    "letters": """
        CREATE TABLE Ünïcode (ключ INTEGER PRIMARY KEY, 鍵 TEXT);
        INSERT INTO Ünïcode VALUES (1, '値');
    """,
}


@pytest.mark.quick
@pytest.mark.parametrize("script", DEFINITIONS.values(), ids=DEFINITIONS)
def test_definitions_and_rows_are_the_same(make_db, copy, script):
    source = make_db(script)
    target = copy(source)
    for (name,) in query(source, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        assert stored(target, name) == stored(source, name)
        assert stored(target, name)


@pytest.mark.quick
def test_an_export_of_a_table_with_more_columns_than_an_expression_may_be_deep(make_db, copy):
    columns = ", ".join(f"c{n} INT" for n in range(1100))
    source = make_db(
        f"CREATE TABLE wide (id INTEGER PRIMARY KEY, {columns}); INSERT INTO wide (id, c1099) VALUES (1, 5), (2, 6);"
    )
    target = copy(source, root="wide", roots=["2"])
    assert stored(target, "wide") == stored(source, "wide")[1:]


@pytest.mark.quick
def test_a_column_without_a_name_is_refused(make_db, tmp_path):
    source = make_db('CREATE TABLE lab (id INTEGER PRIMARY KEY, "" TEXT)')
    with pytest.raises(SourceError, match="'lab' has a column without a name"):
        panicdb.clone(str(source), str(tmp_path / "target.db"))


@pytest.mark.quick
@pytest.mark.parametrize("choice", [{}, {"root": "lab", "roots": ["1"]}], ids=["clone", "export"])
@pytest.mark.fault(34)
def test_rows_that_are_older_than_their_columns(make_db, copy, choice):
    """A column that ALTER TABLE added is not stored in the rows that were there: they show its default."""
    source = make_db(f"""
        {ROOM}
        ALTER TABLE lab ADD COLUMN seats INTEGER NOT NULL DEFAULT 12;
        ALTER TABLE lab ADD COLUMN kind TEXT DEFAULT 'wet' COLLATE NOCASE;
        ALTER TABLE lab ADD COLUMN twice INTEGER AS (seats * 2) VIRTUAL;
        INSERT INTO lab (id, name, seats, kind) VALUES (3, 'Rome', 1, 'dry');
        ALTER TABLE lab RENAME COLUMN name TO city;
        ALTER TABLE run RENAME TO attempt;
        ALTER TABLE attempt DROP COLUMN note;
    """)
    target = copy(source, **choice)
    expected = [(1, "Bern", 12, "wet", 24), (2, "Oslo", 12, "wet", 24), (3, "Rome", 1, "dry", 2)]
    assert query(target, "SELECT id, city, seats, kind, twice FROM lab") == (
        expected[:1] if choice else expected
    )
    assert query(target, "SELECT * FROM attempt") == (
        [(11, 1), (12, 1)] if choice else [(11, 1), (12, 1), (21, 2)]
    )


def source_with(path: Path, prepare: Callable[[sqlite3.Connection], None], script: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        prepare(connection)
        connection.executescript(script)
    return path


@pytest.mark.quick
@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("CREATE TABLE word (id INTEGER PRIMARY KEY, name TEXT COLLATE german)", "german"),
        (
            "CREATE TABLE word (id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX by_name ON word (name COLLATE german)",
            "german",
        ),
        ("CREATE TABLE word (name TEXT COLLATE german PRIMARY KEY) WITHOUT ROWID", "german"),
        ("CREATE TABLE word (id INTEGER PRIMARY KEY, name TEXT CHECK (is_word(name)))", "is_word"),
        ("CREATE TABLE word (id INTEGER PRIMARY KEY, name TEXT, odd AS (is_word(name)) STORED)", "is_word"),
        (
            "CREATE TABLE word (id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX stem ON word (is_word(name))",
            "is_word",
        ),
    ],
)
@pytest.mark.parametrize("choice", [{}, {"root": "word", "all_roots": True}], ids=["clone", "export"])
def test_what_an_application_adds_to_sqlite_is_refused_by_name(tmp_path, script, word, choice):
    def prepare(connection: sqlite3.Connection) -> None:
        connection.create_collation("german", lambda one, other: (one > other) - (one < other))
        connection.create_function("is_word", 1, lambda _text: 1, deterministic=True)

    columns = "(name)" if "WITHOUT" in script else "(id, name)"
    row = "('a')" if "WITHOUT" in script else "(1, 'a')"
    source = source_with(
        tmp_path / "source.db", prepare, f"{script}; INSERT INTO word {columns} VALUES {row};"
    )
    verb = panicdb.export if choice else panicdb.clone
    with pytest.raises(RefusedError, match=f"(?i){word}") as refusal:
        verb(str(source), str(tmp_path / "target.db"), **choice)
    assert "application" in (refusal.value.hint or "")
    assert os.listdir(tmp_path) == ["source.db"]


# The bundled history


def migrated(folder: Path, history: histories.History, revision: str) -> Path:
    folder.mkdir(exist_ok=True)
    replays.replay(history, (revision,), folder / "source.db", Monitor())
    return folder / "source.db"


EXPERIMENT = """INSERT INTO experimentconfig (id, networks, seeds, prompts, embedding_models, max_length)
    VALUES ('{0}', '[]', '[]', '[]', '[]', 10)"""


@pytest.mark.fault(17)
def test_a_source_at_an_older_revision_gives_a_target_at_that_revision(tmp_path, copy):
    revision = "d498e961c89f"
    source = migrated(tmp_path / "old", histories.bundled_history(), revision)
    execute(source, EXPERIMENT.format("0" * 32), EXPERIMENT.format("1" * 32))
    target = copy(source, roots=["00000000"])
    assert query(target, "SELECT version_num FROM alembic_version") == [(revision,)]
    assert query(target, "SELECT id FROM experimentconfig") == [("0" * 32,)]
    assert receipt(target)["schema"]["method"] == "migrations"
    assert receipt(target)["revisions"] == {"alembic_version": [revision]}
    assert query(target, "SELECT count(*) FROM sqlite_master WHERE name = 'persistencediagram'") == [(0,)]


@pytest.mark.fault(19)
def test_a_schema_that_drifted_from_the_bundled_history_is_copied_and_said(experiments_db, tmp_path, cli):
    source, target = tmp_path / "source.db", tmp_path / "target.db"
    shutil.copy(experiments_db, source)
    execute(
        source,
        "ALTER TABLE run ADD COLUMN remark TEXT DEFAULT 'none'",
        "CREATE TABLE scratch (a INTEGER)",
        "CREATE TRIGGER touched AFTER INSERT ON run BEGIN UPDATE run SET remark = 'touched'; END",
    )
    done = cli("export", source, target, "--all")
    assert done.exit_code == 0, done.output
    assert "copied from the source's definitions" in done.stdout
    assert "remark" in done.stdout
    assert objects(target) == objects(source)
    assert query(target, "SELECT DISTINCT remark FROM run") == [("none",)]
    assert query(target, "SELECT * FROM alembic_version") == query(source, "SELECT * FROM alembic_version")
    told = receipt(target)["schema"]
    assert told["method"] == "copy"
    assert {
        "blocking: column run.remark: missing in what its migrations build",
        "blocking: table scratch: missing in what its migrations build",
    } <= set(told["differences"])


@pytest.mark.fault(19)
def test_a_schema_that_differs_only_in_a_name_is_copied_and_the_difference_said(experiments_db, tmp_path):
    """A later migration may name what it drops: a target is what the source is, names included."""
    source, target = tmp_path / "source.db", tmp_path / "target.db"
    shutil.copy(experiments_db, source)
    execute(source, "DROP INDEX ix_run_experiment_id", "CREATE INDEX by_experiment ON run (experiment_id)")
    told = panicdb.export(str(source), str(target), all_roots=True).schema
    assert told["method"] == "copy"
    (difference,) = told["differences"]
    assert difference.startswith("cosmetic: index by_experiment: name is by_experiment in the source, ")
    assert difference.endswith(" ix_run_experiment_id in what its migrations build")
    assert objects(target) == objects(source)


@pytest.mark.fault(18)
def test_an_unknown_revision_copies_the_schema_with_its_version_row(experiments_db, tmp_path, copy):
    source = tmp_path / "source.db"
    shutil.copy(experiments_db, source)
    execute(source, "UPDATE alembic_version SET version_num = 'e5894a7b'")
    target = copy(source, all_roots=True)
    assert query(target, "SELECT * FROM alembic_version") == [("e5894a7b",)]
    told = receipt(target)["schema"]
    assert (told["method"], told["reason"]) == ("copy", "no known history has revision e5894a7b")
    assert (told["differences"], told["cleared"], told["way"]) == ([], {}, None)


SEEDING = '''
"""Seeds rows, and a trigger."""
revision = "5eed5eed5eed"
down_revision = None

from alembic import op


def upgrade():
    op.execute("CREATE TABLE lab (id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER REFERENCES kind (id))")
    op.execute("CREATE TABLE kind (id INTEGER PRIMARY KEY, name TEXT)")
    op.execute("CREATE TABLE setting (name TEXT, value TEXT)")
    op.execute("INSERT INTO kind VALUES (1, 'wet'), (2, 'dry'), (3, 'unused')")
    op.execute("INSERT INTO setting VALUES ('theme', 'dark'), ('language', 'de')")
    op.execute("INSERT INTO lab VALUES (7, 1)")
    op.execute("CREATE TRIGGER shout AFTER INSERT ON kind BEGIN UPDATE kind SET name = upper(name); END")
'''


@pytest.fixture
def seeding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a source by a history that inserts rows, and let that history take the place of the bundled one."""
    location = tmp_path / "history"
    (location / "versions").mkdir(parents=True)
    (location / "env.py").write_text(
        "from alembic import context\n"
        "import sqlalchemy as sa\n"
        "engine = sa.create_engine(context.config.get_main_option('sqlalchemy.url'), poolclass=sa.pool.NullPool)\n"
        "with engine.connect() as connection:\n"
        "    context.configure(connection=connection)\n"
        "    with context.begin_transaction():\n"
        "        context.run_migrations()\n",
        encoding="utf-8",
    )
    (location / "versions" / "seeds.py").write_text(SEEDING, encoding="utf-8")
    history = histories.read_history(location)
    monkeypatch.setattr(revisions, "bundled_history", lambda: history)
    source = migrated(tmp_path / "seeded", history, "5eed5eed5eed")
    execute(
        source,
        "DELETE FROM lab",
        "DELETE FROM setting",
        "INSERT INTO setting VALUES ('theme', 'light')",
        "DROP TRIGGER shout",
        "DELETE FROM kind WHERE id = 3",
        "INSERT INTO lab VALUES (40, 2)",
        "CREATE TRIGGER shout AFTER INSERT ON kind BEGIN UPDATE kind SET name = upper(name); END",
    )
    return source


@pytest.mark.fault(14)
def test_rows_that_migrations_insert_are_cleared_before_an_export(seeding, copy):
    target = copy(seeding, root="lab", all_roots=True)
    told = receipt(target)["schema"]
    assert (told["method"], told["cleared"]) == ("migrations", {"lab": 1, "kind": 3, "setting": 2})
    assert query(target, "SELECT * FROM lab") == [(40, 2)]
    assert query(target, "SELECT * FROM kind") == [(2, "dry")]
    assert query(target, "SELECT * FROM setting") == []
    execute(target, "INSERT INTO lab (kind) VALUES (2)", "INSERT INTO kind VALUES (9, 'new')")
    assert query(target, "SELECT max(id) FROM lab") == [(41,)]
    assert query(target, "SELECT name FROM kind") == [("DRY",), ("NEW",)]


@pytest.mark.fault(14)
def test_rows_that_migrations_insert_are_cleared_before_a_clone(seeding, copy):
    target = copy(seeding)
    assert receipt(target)["schema"]["method"] == "migrations"
    for table in ("lab", "kind", "setting", "alembic_version"):
        assert stored(target, table) == stored(seeding, table)


@pytest.mark.fault(18)
def test_a_history_that_fails_on_an_empty_database_is_told_and_the_schema_copied(seeding, copy):
    revision = seeding.parent.parent / "history" / "versions" / "seeds.py"
    revision.write_text(
        SEEDING.replace("def upgrade():", "def upgrade():\n    raise LookupError('no experiment_id')")
    )
    target = copy(seeding, root="lab", all_roots=True)
    told = receipt(target)["schema"]
    assert told["method"] == "copy"
    assert "revision 5eed5eed5eed" in told["reason"]
    assert "no experiment_id" in told["reason"]
    assert query(target, "SELECT * FROM lab") == [(40, 2)]
