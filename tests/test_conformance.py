"""Hand-made databases, a selection as it is typed, and the exact rows that must arrive, or the words of the refusal.

A case names every table that may hold rows in the target; all others must be empty. `t: rowid, a` looks at these
columns only. Values are compared with their types: 1, 1.0 and '1' are three different things.
"""

import gc
import hashlib
import shlex
import sqlite3
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from panicdb import databases
from panicdb.backends.sqlite import files
from panicdb.values import Monitor

REFUSED = 3
USAGE = 2


@dataclass(frozen=True)
class Case:
    """One database, one selection, and what comes of it."""

    title: str
    source: str
    ask: str
    rows: Mapping[str, list[tuple]] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    """Words of the message; then nothing is written."""
    exit_code: int = 0
    dangling: int = 0
    """References that lead nowhere in the target, because they were kept so."""


def case(title: str, source: str, ask: str, rows: Mapping[str, list[tuple]], *, dangling: int = 0) -> Any:
    return pytest.param(Case(title, source, ask, rows, dangling=dangling), id=title)


def refusal(title: str, source: str, ask: str, *words: str, exit_code: int = REFUSED) -> Any:
    return pytest.param(Case(title, source, ask, refused=words, exit_code=exit_code), id=title)


class SQLite:
    """What the suite needs of an engine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch

    def source(self, script: str) -> Path:
        path = self._folder / "source.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
            connection.commit()
        return path

    def target(self) -> Path:
        return self._folder / "target.db"

    def fingerprint(self, place: Path) -> str:
        return hashlib.sha256(place.read_bytes()).hexdigest()

    def litter(self) -> set[str]:
        """Everything that lies about but the source."""
        return {path.name for path in self._folder.iterdir()} - {"source.db"}

    def query(self, place: Path, sql: str) -> list[tuple]:
        with closing(sqlite3.connect(place)) as connection:
            return connection.execute(sql).fetchall()

    def rows(self, place: Path, table: str, columns: str = "*") -> list[tuple]:
        return self.query(place, f"SELECT {columns} FROM {self.quote(table)}")

    def tables(self, place: Path) -> list[str]:
        listed = self.query(place, "PRAGMA main.table_list")
        return [row[1] for row in listed if row[2] == "table" and not row[1].startswith("sqlite_")]

    def complaints(self, place: Path) -> list[tuple]:
        return [row for row in self.query(place, "PRAGMA integrity_check") if row != ("ok",)]

    def dangling(self, place: Path) -> int:
        """Count broken references as the engine finds them, table by table, where it can."""
        found = 0
        for table in self.tables(place):
            try:
                found += len(self.query(place, f"PRAGMA foreign_key_check({self.quote(table)})"))
            except sqlite3.OperationalError as error:
                if "foreign key mismatch" not in str(error):
                    raise
        return found

    @staticmethod
    def quote(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    @contextmanager
    def counting_statements(self) -> Iterator[list[str]]:
        """Collect every statement that panicdb runs."""
        statements: list[str] = []
        connect = files.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(statements.append)
            return connection

        with self._monkeypatch.context() as patch:
            patch.setattr(files, "connect", traced)
            yield statements


@pytest.fixture(params=[SQLite])
def backend(request, tmp_path, monkeypatch) -> SQLite:
    return request.param(tmp_path, monkeypatch)


@pytest.fixture
def run(backend: SQLite, cli: Callable) -> Callable[[Case], None]:
    """Export as the case asks, and compare."""

    def check(case: Case) -> None:
        source, target = backend.source(case.source), backend.target()
        before = backend.fingerprint(source)
        done = cli("export", source, target, *shlex.split(case.ask))
        assert done.exit_code == case.exit_code, done.output
        assert backend.fingerprint(source) == before
        if case.exit_code:
            for words in case.refused:
                assert words in done.stderr
            assert backend.litter() == set()
            return
        found = {key: backend.rows(target, *key.split(": ")) for key in case.rows}
        assert as_multisets(found) == as_multisets(case.rows)
        named = {key.split(": ")[0] for key in case.rows}
        assert [
            table for table in backend.tables(target) if table not in named and backend.rows(target, table)
        ] == []
        assert backend.complaints(target) == []
        assert backend.dangling(target) == case.dangling
        verified = cli("verify", source, target)
        assert verified.exit_code == 0, verified.output

    return check


def as_multisets(rows: Mapping[str, list[tuple]]) -> dict[str, Counter]:
    return {table: Counter(map(repr, found)) for table, found in rows.items()}


# Keys and links

KEYS = [
    case(
        "all columns of a composite key decide",
        """
        CREATE TABLE plate (run INTEGER, place INTEGER, label TEXT, PRIMARY KEY (run, place));
        CREATE TABLE well (id INTEGER PRIMARY KEY, run INTEGER, place INTEGER,
            FOREIGN KEY (run, place) REFERENCES plate (run, place));
        INSERT INTO plate VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, 'c');
        INSERT INTO well VALUES (11, 1, 1), (12, 1, 2), (21, 2, 1), (22, 1, 2);
        """,
        "--root plate --where 'run = 1 AND place = 2'",
        {"plate": [(1, 2, "b")], "well": [(12, 1, 2), (22, 1, 2)]},
    ),
    case(
        "the columns of a composite link pair up in the order they are written",
        """
        CREATE TABLE plate (run INTEGER, place INTEGER, PRIMARY KEY (run, place));
        CREATE TABLE well (id INTEGER PRIMARY KEY, x INTEGER, y INTEGER,
            FOREIGN KEY (x, y) REFERENCES plate (place, run));
        INSERT INTO plate VALUES (1, 2), (2, 1);
        INSERT INTO well VALUES (1, 2, 1), (2, 1, 2);
        """,
        "--root plate --where 'run = 1'",
        {"plate": [(1, 2)], "well": [(1, 2, 1)]},
    ),
    case(
        "a NULL in any part of a composite link is no reference, down or up",
        """
        CREATE TABLE plate (run INTEGER, place INTEGER, PRIMARY KEY (run, place));
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE well (id INTEGER PRIMARY KEY, lab REFERENCES lab, run INTEGER, place INTEGER,
            FOREIGN KEY (run, place) REFERENCES plate (run, place));
        INSERT INTO plate VALUES (1, 1), (7, 7);
        INSERT INTO lab VALUES (1);
        INSERT INTO well VALUES (1, 1, 1, NULL), (2, 1, NULL, 7), (3, 1, NULL, NULL), (4, 1, 1, 1), (5, NULL, 7, NULL);
        """,
        "--root lab 1",
        {
            "lab": [(1,)],
            "well": [(1, 1, 1, None), (2, 1, None, 7), (3, 1, None, None), (4, 1, 1, 1)],
            "plate": [(1, 1)],
        },
    ),
    case(
        "a link to a unique column that is not the primary key",
        """
        CREATE TABLE country (id INTEGER PRIMARY KEY, code TEXT UNIQUE);
        CREATE TABLE city (id INTEGER PRIMARY KEY, country TEXT REFERENCES country (code));
        INSERT INTO country VALUES (1, 'CH'), (2, 'NO');
        INSERT INTO city VALUES (1, 'NO'), (2, 'CH'), (3, 'NO');
        """,
        "--root country 2",
        {"country": [(2, "NO")], "city": [(1, "NO"), (3, "NO")]},
    ),
    case(
        "a link to a unique index over two columns, in another order",
        """
        CREATE TABLE cell (id INTEGER PRIMARY KEY, x INTEGER, y INTEGER);
        CREATE UNIQUE INDEX cell_place ON cell (x, y);
        CREATE TABLE mark (id INTEGER PRIMARY KEY, y INTEGER, x INTEGER, FOREIGN KEY (y, x) REFERENCES cell (y, x));
        INSERT INTO cell VALUES (1, 1, 2), (2, 2, 1);
        INSERT INTO mark VALUES (1, 1, 2), (2, 2, 1);
        """,
        "--root mark 1",
        {"mark": [(1, 1, 2)], "cell": [(2, 2, 1)]},
    ),
    case(
        "a link that names no parent columns means the primary key, composite ones too",
        """
        CREATE TABLE lab (code TEXT PRIMARY KEY);
        CREATE TABLE shelf (lab TEXT REFERENCES lab, number INTEGER, PRIMARY KEY (lab, number));
        CREATE TABLE box (id INTEGER PRIMARY KEY, lab TEXT, shelf INTEGER, FOREIGN KEY (lab, shelf) REFERENCES shelf);
        INSERT INTO lab VALUES ('a'), ('b');
        INSERT INTO shelf VALUES ('a', 1), ('b', 1), ('b', 2);
        INSERT INTO box VALUES (1, 'a', 1), (2, 'b', 1), (3, 'b', 2);
        """,
        "--root lab b",
        {"lab": [("b",)], "shelf": [("b", 1), ("b", 2)], "box": [(2, "b", 1), (3, "b", 2)]},
    ),
    case(
        "two links on one column lead to both parents",
        """
        CREATE TABLE item (id INTEGER PRIMARY KEY);
        CREATE TABLE price (item INTEGER PRIMARY KEY);
        CREATE TABLE sale (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item (id) REFERENCES price (item));
        INSERT INTO item VALUES (1), (2);
        INSERT INTO price VALUES (1), (2);
        INSERT INTO sale VALUES (1, 1), (2, 2);
        """,
        "--root sale 2",
        {"sale": [(2, 2)], "item": [(2,)], "price": [(2,)]},
    ),
    case(
        "two links between the same tables are two ways",
        """
        CREATE TABLE person (id INTEGER PRIMARY KEY);
        CREATE TABLE letter (id INTEGER PRIMARY KEY, sender INTEGER REFERENCES person,
            reader INTEGER REFERENCES person);
        INSERT INTO person VALUES (1), (2), (3), (4);
        INSERT INTO letter VALUES (1, 1, 2), (2, 3, 1), (3, 2, 3), (4, 4, 4);
        """,
        "--root person 1",
        {"person": [(1,), (2,), (3,)], "letter": [(1, 1, 2), (2, 3, 1)]},
    ),
    case(
        "deferred foreign keys are links like others",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY, head INTEGER REFERENCES person DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE person (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO lab VALUES (1, 11), (2, 21);
        INSERT INTO person VALUES (11, 1), (12, 1), (21, 2);
        """,
        "--root lab 1",
        {"lab": [(1, 11)], "person": [(11, 1), (12, 1)]},
    ),
    case(
        "parents that are not unique are all needed",
        """
        CREATE TABLE price (item INTEGER, amount INTEGER);
        CREATE TABLE sale (id INTEGER PRIMARY KEY, item INTEGER REFERENCES price (item));
        INSERT INTO price VALUES (1, 10), (1, 20), (2, 30);
        INSERT INTO sale VALUES (1, 1), (2, 2);
        """,
        "--root sale 1",
        {"sale": [(1, 1)], "price": [(1, 10), (1, 20)]},
    ),
    case(
        "a child of one of two equal parents needs the other one too",
        """
        CREATE TABLE price (item INTEGER, amount INTEGER);
        CREATE TABLE sale (id INTEGER PRIMARY KEY, item INTEGER REFERENCES price (item));
        INSERT INTO price VALUES (1, 10), (1, 20), (2, 30);
        INSERT INTO sale VALUES (1, 1), (2, 2);
        """,
        "--root price --where 'amount = 10'",
        {"price": [(1, 10), (1, 20)], "sale": [(1, 1)]},
    ),
    case(
        "an integer primary key in descending order is no rowid",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY DESC, name TEXT);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab);
        INSERT INTO lab (rowid, id, name) VALUES (1, 30, 'x'), (2, 1, 'y'), (3, 2, 'z');
        INSERT INTO run VALUES (1, 1), (2, 2), (3, 30);
        """,
        "--root lab 2",
        {"lab: rowid, *": [(3, 2, "z")], "run": [(2, 2)]},
    ),
]

# Tables of all kinds

TABLES = [
    case(
        "a table without a key keeps its duplicates, and nothing is told apart by content",
        """
        CREATE TABLE run (id INTEGER PRIMARY KEY);
        CREATE TABLE reading (run INTEGER REFERENCES run, value REAL);
        INSERT INTO run VALUES (1), (2);
        INSERT INTO reading VALUES (1, 0.5), (1, 0.5), (2, 0.5), (1, NULL), (1, NULL), (NULL, 0.5), (1, 0.5);
        """,
        "--root run 1",
        {"run": [(1,)], "reading": [(1, 0.5)] * 3 + [(1, None)] * 2},
    ),
    case(
        "roots without a key come by --where, each of the duplicates",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE note (lab INTEGER REFERENCES lab, text TEXT);
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO note VALUES (1, 'same'), (1, 'same'), (2, 'same'), (2, 'other');
        """,
        "--root note --where \"text = 'same' AND lab = 1\"",
        {"note": [(1, "same"), (1, "same")], "lab": [(1,)]},
    ),
    case(
        "rowids stay, with their gaps, where no column holds them",
        """
        CREATE TABLE run (id TEXT PRIMARY KEY);
        CREATE TABLE reading (run TEXT REFERENCES run, value INTEGER);
        CREATE INDEX reading_run ON reading (run);
        INSERT INTO run (rowid, id) VALUES (10, 'b'), (20, 'a');
        INSERT INTO reading (rowid, run, value) VALUES (5, 'a', 1), (7, 'b', 2), (900, 'a', 3);
        """,
        "--root run a",
        {"run: rowid, *": [(20, "a")], "reading: rowid, *": [(5, "a", 1), (900, "a", 3)]},
    ),
    case(
        "rowids stay where every row is taken",
        """
        CREATE TABLE run (id TEXT PRIMARY KEY);
        CREATE TABLE reading (run TEXT REFERENCES run, value INTEGER);
        CREATE TABLE tag (run TEXT REFERENCES run, word TEXT UNIQUE);
        CREATE INDEX reading_value ON reading (value);
        INSERT INTO run (rowid, id) VALUES (10, 'b'), (20, 'a');
        INSERT INTO reading (rowid, run, value) VALUES (5, 'a', 9), (7, 'b', 2), (900, 'a', 3);
        INSERT INTO tag (rowid, run, word) VALUES (3, 'a', 'z'), (1, 'b', 'y');
        """,
        "--root run --all",
        {
            "run: rowid, *": [(10, "b"), (20, "a")],
            "reading: rowid, *": [(5, "a", 9), (7, "b", 2), (900, "a", 3)],
            "tag: rowid, *": [(3, "a", "z"), (1, "b", "y")],
        },
    ),
    case(
        "WITHOUT ROWID with a composite key",
        """
        CREATE TABLE run (lab TEXT, number INTEGER, PRIMARY KEY (lab, number)) WITHOUT ROWID;
        CREATE TABLE step (lab TEXT, run INTEGER, n INTEGER, PRIMARY KEY (n, lab, run),
            FOREIGN KEY (lab, run) REFERENCES run) WITHOUT ROWID;
        INSERT INTO run VALUES ('a', 1), ('a', 2), ('b', 1);
        INSERT INTO step VALUES ('a', 1, 1), ('a', 1, 2), ('a', 2, 1), ('b', 1, 1);
        """,
        "--root run --where \"lab = 'a' AND number = 1\"",
        {"run": [("a", 1)], "step": [("a", 1, 1), ("a", 1, 2)]},
    ),
    case(
        "WITHOUT ROWID with a key in which case does not count",
        """
        CREATE TABLE lab (code TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE run (id TEXT COLLATE NOCASE, lab TEXT REFERENCES lab, PRIMARY KEY (id, lab)) WITHOUT ROWID;
        INSERT INTO lab VALUES ('Bern'), ('OSLO');
        INSERT INTO run VALUES ('a', 'BERN'), ('A', 'bern'), ('b', 'Oslo');
        """,
        "--root lab bERN",
        {"lab": [("Bern",)], "run": [("a", "BERN"), ("A", "bern")]},
    ),
    case(
        "a cycle over keys of which one does not care about case",
        """
        CREATE TABLE a (id TEXT COLLATE NOCASE PRIMARY KEY, b TEXT REFERENCES b (id)) WITHOUT ROWID;
        CREATE TABLE b (id TEXT PRIMARY KEY, a TEXT REFERENCES a (id)) WITHOUT ROWID;
        INSERT INTO a VALUES ('root', NULL), ('p', 'x'), ('q', 'X');
        INSERT INTO b VALUES ('x', 'root'), ('X', 'ROOT'), ('y', 'p');
        """,
        "--root a root",
        {"a": [("root", None), ("p", "x"), ("q", "X")], "b": [("x", "root"), ("X", "ROOT"), ("y", "p")]},
    ),
    refusal(
        "WITHOUT ROWID with a key in which case counts, over a column in which it does not",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (name TEXT COLLATE NOCASE, lab INTEGER REFERENCES lab, PRIMARY KEY (name COLLATE BINARY))
            WITHOUT ROWID;
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run VALUES ('a', 1), ('A', 2);
        """,
        "--root lab 1",
        "rows of table 'run' can't be told apart",
    ),
    case(
        "WITHOUT ROWID with such a key, and another that will do",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (name TEXT COLLATE NOCASE, lab INTEGER REFERENCES lab, n INTEGER NOT NULL UNIQUE,
            PRIMARY KEY (name COLLATE BINARY)) WITHOUT ROWID;
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run VALUES ('a', 1, 1), ('A', 2, 2), ('b', 1, 3);
        """,
        "--root lab 1",
        {"lab": [(1,)], "run": [("a", 1, 1), ("b", 1, 3)]},
    ),
    case(
        "STRICT tables, and any value in ANY",
        """
        CREATE TABLE run (id INTEGER PRIMARY KEY, ratio REAL) STRICT;
        CREATE TABLE fact (run INTEGER REFERENCES run, value ANY, PRIMARY KEY (run, value)) STRICT, WITHOUT ROWID;
        INSERT INTO run VALUES (1, 1), (2, 2);
        INSERT INTO fact VALUES (1, 1), (1, '1'), (1, 1.5), (1, x'31'), (2, 'no');
        """,
        "--root run 1",
        {"run": [(1, 1.0)], "fact": [(1, 1), (1, "1"), (1, 1.5), (1, b"1")]},
    ),
    case(
        "a link to a key of type ANY distinguishes 1 and '1'",
        """
        CREATE TABLE tag (key ANY PRIMARY KEY, note TEXT) STRICT;
        CREATE TABLE use (id INTEGER PRIMARY KEY, tag ANY REFERENCES tag) STRICT;
        INSERT INTO tag VALUES (1, 'number'), ('1', 'text');
        INSERT INTO use VALUES (1, 1), (2, '1');
        """,
        "--root tag --where \"note = 'text'\"",
        {"tag": [("1", "text")], "use": [(2, "1")]},
    ),
    case(
        "generated columns are computed anew, and links may use them",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY, code TEXT, short TEXT AS (upper(substr(code, 1, 2))) STORED UNIQUE);
        CREATE TABLE run (id INTEGER PRIMARY KEY, name TEXT,
            lab TEXT GENERATED ALWAYS AS (substr(name, 1, 2)) VIRTUAL REFERENCES lab (short),
            twice INTEGER AS (id * 2) VIRTUAL, seed INTEGER NOT NULL);
        INSERT INTO lab (id, code) VALUES (1, 'bern'), (2, 'oslo');
        INSERT INTO run (id, name, seed) VALUES (1, 'BE-1', 5), (2, 'OS-1', 6), (3, 'BE-2', 7);
        """,
        "--root lab 1",
        {
            "lab": [(1, "bern", "BE")],
            "run": [(1, "BE-1", "BE", 2, 5), (3, "BE-2", "BE", 6, 7)],
        },
    ),
    refusal(
        "a generated link can't be set to NULL",
        """
        CREATE TABLE lab (code TEXT PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, name TEXT, lab TEXT AS (substr(name, 1, 2)) REFERENCES lab);
        INSERT INTO lab VALUES ('BE');
        INSERT INTO run (id, name) VALUES (1, 'BE-1');
        """,
        "--root run 1 --link run.lab=null",
        "column lab can't become NULL",
        "it is generated",
    ),
]

# How values compare: by the parent's collation and affinity

COMPARISONS = [
    case(
        "a child spells a NOCASE parent as it likes",
        """
        CREATE TABLE lab (code TEXT COLLATE NOCASE PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab TEXT REFERENCES lab);
        CREATE INDEX run_lab ON run (lab);
        INSERT INTO lab VALUES ('Bern'), ('Oslo'), ('Åre');
        INSERT INTO run VALUES (1, 'BERN'), (2, 'bern'), (3, 'oslo'), (4, 'Bern'), (5, 'Åre');
        """,
        "--root lab Bern",
        {"lab": [("Bern",)], "run": [(1, "BERN"), (2, "bern"), (4, "Bern")]},
    ),
    refusal(
        "case counts beyond ASCII even with NOCASE, so this reference leads nowhere",
        """
        CREATE TABLE lab (code TEXT COLLATE NOCASE PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab TEXT REFERENCES lab);
        INSERT INTO lab VALUES ('Åre');
        INSERT INTO run VALUES (1, 'åre');
        """,
        "--root run 1",
        "run(lab) -> lab: 1 rows",
    ),
    case(
        "a NOCASE child of a parent whose case counts reaches the one that is spelled alike",
        """
        CREATE TABLE lab (code TEXT PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab TEXT COLLATE NOCASE REFERENCES lab);
        CREATE INDEX run_lab ON run (lab);
        INSERT INTO lab VALUES ('bern'), ('BERN');
        INSERT INTO run VALUES (1, 'bern'), (2, 'BERN');
        """,
        "--root lab bern",
        {"lab": [("bern",)], "run": [(1, "bern")]},
    ),
    case(
        "spaces at the end don't count with RTRIM",
        """
        CREATE TABLE lab (code TEXT COLLATE RTRIM PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab TEXT REFERENCES lab);
        INSERT INTO lab VALUES ('bern'), (' oslo');
        INSERT INTO run VALUES (1, 'bern  '), (2, ' oslo '), (3, 'bern');
        """,
        "--root lab bern",
        {"lab": [("bern",)], "run": [(1, "bern  "), (3, "bern")]},
    ),
    case(
        "a number that refers to text is compared as text: 1 is '1', not '01'",
        """
        CREATE TABLE lab (code TEXT PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab);
        INSERT INTO lab VALUES ('1'), ('01'), ('1.0');
        INSERT INTO run VALUES (1, 1), (2, '01'), (3, 1.0);
        """,
        "--root run --all",
        {"run": [(1, 1), (2, 1), (3, 1)], "lab": [("1",)]},
    ),
    case(
        "text that refers to an integer is compared as a number: '01' and '1.0' are 1",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab TEXT REFERENCES lab);
        CREATE INDEX run_lab ON run (lab);
        INSERT INTO lab VALUES (1), (2), (3);
        INSERT INTO run VALUES (1, '01'), (2, '1.0'), (3, '2'), (4, ' 1 '), (5, '3');
        """,
        "--root lab 1",
        {"lab": [(1,)], "run": [(1, "01"), (2, "1.0"), (4, " 1 ")]},
    ),
    case(
        "a real number refers to the integer it equals",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab REAL REFERENCES lab);
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run VALUES (1, 1), (2, 2.0);
        """,
        "--root lab 2",
        {"lab": [(2,)], "run": [(2, 2.0)]},
    ),
    case(
        "without affinity a blob, a text and a number are three keys",
        """
        CREATE TABLE thing (key BLOB PRIMARY KEY, kind TEXT);
        CREATE TABLE use (id INTEGER PRIMARY KEY, thing BLOB REFERENCES thing);
        INSERT INTO thing VALUES (x'31', 'blob'), ('1', 'text'), (1, 'number');
        INSERT INTO use VALUES (1, x'31'), (2, '1'), (3, 1), (4, 1.0);
        """,
        "--root thing --where \"kind = 'number'\"",
        {"thing": [(1, "number")], "use": [(3, 1), (4, 1.0)]},
    ),
    case(
        "a text column refers to a key without affinity as the text that it holds",
        """
        CREATE TABLE thing (key PRIMARY KEY, kind TEXT);
        CREATE TABLE use (id INTEGER PRIMARY KEY, thing TEXT REFERENCES thing);
        INSERT INTO thing VALUES ('1', 'text'), (1, 'number');
        INSERT INTO use VALUES (1, 1);
        """,
        "--root use 1",
        {"use": [(1, "1")], "thing": [("1", "text")]},
    ),
    case(
        "a blob key is typed in hexadecimal",
        """
        CREATE TABLE thing (key BLOB PRIMARY KEY);
        CREATE TABLE use (id INTEGER PRIMARY KEY, thing BLOB REFERENCES thing);
        INSERT INTO thing VALUES (x'00ff'), (x'00fe');
        INSERT INTO use VALUES (1, x'00ff'), (2, x'00fe');
        """,
        "--root thing 00ff",
        {"thing": [(b"\x00\xff",)], "use": [(1, b"\x00\xff")]},
    ),
    case(
        "integers at the ends of their range",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab);
        INSERT INTO lab VALUES (9223372036854775807), (-9223372036854775808), (0), (9223372036854775806);
        INSERT INTO run VALUES (-1, 9223372036854775807), (9223372036854775807, -9223372036854775808), (1, 0);
        """,
        "--root lab -- 9223372036854775807 -9223372036854775808",
        {
            "lab": [(2**63 - 1,), (-(2**63),)],
            "run": [(-1, 2**63 - 1), (2**63 - 1, -(2**63))],
        },
    ),
    case(
        "large integers that no float can hold are told apart",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab TEXT REFERENCES lab);
        INSERT INTO lab VALUES (9007199254740992), (9007199254740993);
        INSERT INTO run VALUES (1, '9007199254740993'), (2, '9007199254740992');
        """,
        "--root lab 9007199254740993",
        {"lab": [(9007199254740993,)], "run": [(1, "9007199254740993")]},
    ),
]

# Names

NAMES = [
    case(
        "names with quotes, spaces, dots, keywords and emoji",
        """
        CREATE TABLE "odd ""table"" 🐘" ("the id" INTEGER PRIMARY KEY);
        CREATE TABLE "select" ("from" INTEGER PRIMARY KEY, "a.b" INTEGER REFERENCES "odd ""table"" 🐘" ("the id"));
        CREATE TABLE [per%cent :x ?1 '] ([to] INTEGER REFERENCES "select", "naïve" TEXT, `back``tick` TEXT);
        INSERT INTO "odd ""table"" 🐘" VALUES (1), (2);
        INSERT INTO "select" VALUES (10, 1), (20, 2);
        INSERT INTO [per%cent :x ?1 '] VALUES (10, 'a', 'b'), (20, 'c', 'd');
        """,
        "--root 'odd \"table\" 🐘' 2",
        {
            'odd "table" 🐘': [(2,)],
            "select": [(20, 2)],
            "per%cent :x ?1 '": [(20, "c", "d")],
        },
    ),
    case(
        "odd names in --link, quoted as in SQL",
        """
        CREATE TABLE "a.b" ("x=y" INTEGER PRIMARY KEY, "c,""d" INTEGER REFERENCES "->" ("e f"));
        CREATE TABLE "->" ("e f" INTEGER PRIMARY KEY);
        INSERT INTO "->" VALUES (7);
        INSERT INTO "a.b" VALUES (1, 7);
        """,
        """--root a.b 1 --link '"a.b"."c,""d"->"->"."e f"=null'""",
        {"a.b": [(1, None)]},
    ),
    case(
        "tables with the names that panicdb gives its own",
        """
        CREATE TABLE keys_0 (k0 INTEGER PRIMARY KEY, owned INTEGER, via INTEGER REFERENCES keys_1);
        CREATE TABLE keys_1 (k0 INTEGER PRIMARY KEY, known INTEGER REFERENCES reached);
        CREATE TABLE reached (place INTEGER PRIMARY KEY, via INTEGER REFERENCES reached);
        CREATE TABLE blocked_0 (k INTEGER PRIMARY KEY, goal INTEGER REFERENCES keys_0);
        CREATE TABLE leaving0_0 (origin INTEGER PRIMARY KEY, k INTEGER REFERENCES blocked_0);
        CREATE TABLE first (a INTEGER REFERENCES keys_0);
        CREATE TABLE target (main INTEGER REFERENCES keys_0);
        CREATE TABLE temp (main INTEGER REFERENCES keys_0);
        INSERT INTO reached VALUES (1, NULL), (2, 1), (3, 2), (4, NULL);
        INSERT INTO keys_1 VALUES (5, 3), (6, 4);
        INSERT INTO keys_0 VALUES (1, 0, 5), (2, 0, 6);
        INSERT INTO blocked_0 VALUES (1, 1), (2, 2), (3, 1);
        INSERT INTO leaving0_0 VALUES (1, 1), (2, 3), (3, 2);
        INSERT INTO first VALUES (1), (2);
        INSERT INTO target VALUES (1), (2);
        INSERT INTO temp VALUES (1), (2);
        """,
        "--root keys_0 1 --link leaving0_0.k=drop",
        {
            "keys_0": [(1, 0, 5)],
            "keys_1": [(5, 3)],
            "reached": [(1, None), (2, 1), (3, 2)],
            "blocked_0": [(1, 1), (3, 1)],
            "leaving0_0": [(1, 1), (2, 3)],
            "first": [(1,)],
            "target": [(1,)],
            "temp": [(1,)],
        },
    ),
    case(
        "foreign keys spell names in another case",
        """
        CREATE TABLE Lab (Id INTEGER PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, LAB INTEGER, FOREIGN KEY (lab) REFERENCES LAB (ID));
        INSERT INTO Lab VALUES (1), (2);
        INSERT INTO run VALUES (1, 1), (2, 2);
        """,
        "--root lab 2 --link RUN.lab=follow",
        {"Lab": [(2,)], "run": [(2, 2)]},
    ),
    case(
        "names that differ in the case of letters beyond ASCII are different tables",
        """
        CREATE TABLE É (id INTEGER PRIMARY KEY);
        CREATE TABLE é (id INTEGER PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, x INTEGER REFERENCES É (id));
        INSERT INTO É VALUES (1), (2);
        INSERT INTO é VALUES (1), (2);
        INSERT INTO run VALUES (1, 2);
        """,
        "--root run 1",
        {"run": [(1, 2)], "É": [(2,)]},
    ),
    case(
        "and different columns",
        """
        CREATE TABLE lab (É INTEGER UNIQUE, é INTEGER UNIQUE);
        CREATE TABLE run (id INTEGER PRIMARY KEY, Ö INTEGER REFERENCES lab (É), ö INTEGER);
        INSERT INTO lab VALUES (2, 9), (9, 3), (3, 2);
        INSERT INTO run VALUES (1, 2, 3);
        """,
        "--root run 1",
        {"run": [(1, 2, 3)], "lab": [(2, 9)]},
    ),
    case(
        "a column named rowid",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (rowid TEXT, lab INTEGER REFERENCES lab);
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run (_rowid_, rowid, lab) VALUES (4, 'same', 1), (5, 'same', 1), (6, 'same', 2);
        """,
        "--root lab 1",
        {"lab": [(1,)], "run: _rowid_, *": [(4, "same", 1), (5, "same", 1)]},
    ),
    case(
        "columns named RowID and _rowid_",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (RowID TEXT, _rowid_ TEXT, lab INTEGER REFERENCES lab);
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run (oid, RowID, _rowid_, lab) VALUES (4, 'x', 'y', 1), (5, 'x', 'y', 1), (6, 'x', 'y', 2);
        """,
        "--root lab 1",
        {"lab": [(1,)], "run: oid, *": [(4, "x", "y", 1), (5, "x", "y", 1)]},
    ),
    case(
        "columns named rowid, _rowid_ and oid beside an integer key",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (rowid TEXT, _rowid_ TEXT, oid TEXT, id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab);
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run VALUES ('x', 'y', 'z', 4, 1), ('x', 'y', 'z', 5, 1), ('x', 'y', 'z', 6, 2);
        """,
        "--root lab 1",
        {"lab": [(1,)], "run": [("x", "y", "z", 4, 1), ("x", "y", "z", 5, 1)]},
    ),
    case(
        "columns named rowid, _rowid_ and oid beside another key that is NOT NULL",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (rowid TEXT, _rowid_ TEXT, oid TEXT, name TEXT COLLATE NOCASE NOT NULL, n INTEGER NOT NULL,
            lab INTEGER REFERENCES lab, next TEXT, UNIQUE (name, n));
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run VALUES ('x', 'y', 'z', 'a', 1, 1, 'b'), ('x', 'y', 'z', 'A', 2, 1, NULL),
            ('x', 'y', 'z', 'b', 2, 2, NULL);
        """,
        "--root lab 1",
        {"lab": [(1,)], "run": [("x", "y", "z", "a", 1, 1, "b"), ("x", "y", "z", "A", 2, 1, None)]},
    ),
    refusal(
        "columns named rowid, _rowid_ and oid, and no key at all",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (rowid TEXT, _rowid_ TEXT, oid TEXT, lab INTEGER REFERENCES lab, UNIQUE (lab, oid));
        INSERT INTO lab VALUES (1);
        INSERT INTO run VALUES ('x', 'y', NULL, 1), ('x', 'y', NULL, 1);
        """,
        "--root lab 1",
        "rows of table 'run' can't be told apart",
        "--exclude run",
    ),
    case(
        "a column named rowid that is the rowid",
        """
        CREATE TABLE lab (rowid INTEGER PRIMARY KEY);
        CREATE TABLE run (oid INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab);
        INSERT INTO lab VALUES (7), (8);
        INSERT INTO run VALUES (1, 8), (2, 7);
        """,
        "--root lab 8",
        {"lab": [(8,)], "run": [(1, 8)]},
    ),
]

# Self links and cycles

CHAIN = """
CREATE TABLE run (id INTEGER PRIMARY KEY);
CREATE TABLE step (id INTEGER PRIMARY KEY, run INTEGER REFERENCES run, input INTEGER REFERENCES step);
INSERT INTO run VALUES (1), (2);
"""

CYCLES = [
    case(
        "a chain is followed down to its end",
        CHAIN
        + "INSERT INTO step VALUES (1, NULL, NULL), (2, NULL, 1), (3, NULL, 2), (4, NULL, 3), (9, NULL, NULL);",
        "--root step 2",
        {"step": [(1, None, None), (2, None, 1), (3, None, 2), (4, None, 3)]},
    ),
    case(
        "a chain is followed up, and its other branches stay behind",
        CHAIN + "INSERT INTO step VALUES (1, 1, NULL), (2, 1, 1), (3, 2, 2), (4, 2, 3), (5, 1, 2);",
        "--root run 2",
        {"run": [(1,), (2,)], "step": [(1, 1, None), (2, 1, 1), (3, 2, 2), (4, 2, 3)]},
    ),
    case(
        "a row that refers to itself",
        CHAIN + "INSERT INTO step VALUES (1, 1, 1), (2, 2, 2), (3, 1, NULL);",
        "--root run 1",
        {"run": [(1,)], "step": [(1, 1, 1), (3, 1, None)]},
    ),
    case(
        "rows that refer to each other in a ring",
        CHAIN
        + "INSERT INTO step VALUES (1, NULL, 3), (2, NULL, 1), (3, NULL, 2), (4, NULL, 5), (5, NULL, 4);",
        "--root step 2",
        {"step": [(1, None, 3), (2, None, 1), (3, None, 2)]},
    ),
    case(
        "two self links cross",
        """
        CREATE TABLE person (id INTEGER PRIMARY KEY, mother INTEGER REFERENCES person,
            father INTEGER REFERENCES person);
        INSERT INTO person VALUES (1, NULL, NULL), (2, NULL, NULL), (3, 1, 2), (4, 3, NULL), (5, NULL, 4), (6, NULL, 7),
            (7, NULL, NULL), (8, 7, 5);
        """,
        "--root person 3",
        {
            "person": [
                (1, None, None),
                (2, None, None),
                (3, 1, 2),
                (4, 3, None),
                (5, None, 4),
                (7, None, None),
                (8, 7, 5),
            ]
        },
    ),
    case(
        "a composite self link",
        """
        CREATE TABLE node (tree TEXT, n INTEGER, up_tree TEXT, up_n INTEGER, PRIMARY KEY (tree, n),
            FOREIGN KEY (up_tree, up_n) REFERENCES node) WITHOUT ROWID;
        INSERT INTO node VALUES ('a', 1, NULL, NULL), ('a', 2, 'a', 1), ('b', 1, 'a', 2), ('b', 2, 'b', 9),
            ('b', 9, NULL, 1);
        """,
        "--root node --where \"tree = 'a' AND n = 1\"",
        {"node": [("a", 1, None, None), ("a", 2, "a", 1), ("b", 1, "a", 2)]},
    ),
    case(
        "a self link to a unique text column",
        """
        CREATE TABLE word (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, root TEXT REFERENCES word (name));
        INSERT INTO word VALUES (1, 'go', NULL), (2, 'Going', 'GO'), (3, 'goings', 'going'), (4, 'see', NULL);
        """,
        "--root word 1",
        {"word": [(1, "go", None), (2, "Going", "GO"), (3, "goings", "going")]},
    ),
    case(
        "a cycle over two tables",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY, head INTEGER REFERENCES person);
        CREATE TABLE person (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab);
        INSERT INTO lab VALUES (1, 11), (2, 12), (3, 31);
        INSERT INTO person VALUES (11, 1), (12, 1), (21, 2), (31, 3), (32, 2);
        """,
        "--root lab 1",
        {
            "lab": [(1, 11), (2, 12)],
            "person": [(11, 1), (12, 1), (21, 2), (32, 2)],
        },
    ),
    case(
        "a cycle over three tables is walked until it closes",
        """
        CREATE TABLE a (id INTEGER PRIMARY KEY, c INTEGER REFERENCES c);
        CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a);
        CREATE TABLE c (id INTEGER PRIMARY KEY, b INTEGER REFERENCES b);
        INSERT INTO a VALUES (1, NULL), (2, 1), (3, 2), (8, 8);
        INSERT INTO b VALUES (1, 1), (2, 2), (3, 3), (8, 8);
        INSERT INTO c VALUES (1, 1), (2, 2), (3, 3), (8, 8);
        """,
        "--root a 1",
        {
            "a": [(1, None), (2, 1), (3, 2)],
            "b": [(1, 1), (2, 2), (3, 3)],
            "c": [(1, 1), (2, 2), (3, 3)],
        },
    ),
    case(
        "a cycle over three tables, upward only",
        """
        CREATE TABLE a (id INTEGER PRIMARY KEY, c INTEGER REFERENCES c);
        CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a);
        CREATE TABLE c (id INTEGER PRIMARY KEY, b INTEGER REFERENCES b);
        CREATE TABLE use (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a);
        INSERT INTO a VALUES (1, NULL), (2, 1), (3, 2), (8, 8);
        INSERT INTO b VALUES (1, 1), (2, 2), (3, 3), (8, 8);
        INSERT INTO c VALUES (1, 1), (2, 2), (3, 3), (8, 8);
        INSERT INTO use VALUES (1, 3), (2, 8);
        """,
        "--root use 1",
        {
            "use": [(1, 3)],
            "a": [(1, None), (2, 1), (3, 2)],
            "b": [(1, 1), (2, 2)],
            "c": [(1, 1), (2, 2)],
        },
    ),
    refusal(
        "a chain whose end leads nowhere",
        CHAIN + "INSERT INTO step VALUES (2, 1, 1), (3, 1, 2), (4, 2, 3);",
        "--root run 2",
        "step(input) -> step: 1 rows",
        "--violations keep",
    ),
    case(
        "a chain whose end leads nowhere, kept so",
        CHAIN + "INSERT INTO step VALUES (2, 1, 1), (3, 1, 2), (4, 2, 3);",
        "--root run 2 --violations keep",
        {"run": [(1,), (2,)], "step": [(2, 1, 1), (3, 1, 2), (4, 2, 3)]},
        dangling=1,
    ),
]

# Policies

SHARED = """
CREATE TABLE maker (id INTEGER PRIMARY KEY);
CREATE TABLE model (id INTEGER PRIMARY KEY, maker INTEGER REFERENCES maker);
CREATE TABLE experiment (id INTEGER PRIMARY KEY, model INTEGER REFERENCES model);
CREATE TABLE run (id INTEGER PRIMARY KEY, experiment INTEGER NOT NULL REFERENCES experiment,
    model INTEGER REFERENCES model);
CREATE TABLE image (id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run);
INSERT INTO maker VALUES (1), (2), (3);
INSERT INTO model VALUES (1, 1), (2, 1), (3, 3);
INSERT INTO experiment VALUES (1, 1), (2, 1), (3, NULL);
INSERT INTO run VALUES (11, 1, 1), (12, 1, 2), (13, 1, NULL), (21, 2, 1), (31, 3, 3);
INSERT INTO image VALUES (111, 11), (112, 11), (121, 12), (211, 21);
"""

POLICIES = [
    case(
        "shared parents come along, without their other children",
        SHARED,
        "--root experiment 1",
        {
            "experiment": [(1, 1)],
            "run": [(11, 1, 1), (12, 1, 2), (13, 1, None)],
            "image": [(111, 11), (112, 11), (121, 12)],
            "model": [(1, 1), (2, 1)],
            "maker": [(1,)],
        },
    ),
    case(
        "a root in the middle needs its parents and owns its children",
        SHARED,
        "--root run 12",
        {
            "experiment": [(1, 1)],
            "run": [(12, 1, 2)],
            "image": [(121, 12)],
            "model": [(1, 1), (2, 1)],
            "maker": [(1,)],
        },
    ),
    case(
        "several roots are one set",
        SHARED,
        "--root run 31 21",
        {
            "experiment": [(2, 1), (3, None)],
            "run": [(21, 2, 1), (31, 3, 3)],
            "image": [(211, 21)],
            "model": [(1, 1), (3, 3)],
            "maker": [(1,), (3,)],
        },
    ),
    case(
        "a row that is needed and owned brings its children",
        """
        CREATE TABLE album (id INTEGER PRIMARY KEY, cover INTEGER REFERENCES photo);
        CREATE TABLE photo (id INTEGER PRIMARY KEY, album INTEGER REFERENCES album);
        CREATE TABLE face (id INTEGER PRIMARY KEY, photo INTEGER REFERENCES photo);
        INSERT INTO album VALUES (1, 12), (2, 12);
        INSERT INTO photo VALUES (11, 1), (12, 1), (21, 2);
        INSERT INTO face VALUES (1, 12), (2, 21);
        """,
        "--root album 1 --link album.cover=stay",
        {"album": [(1, 12)], "photo": [(11, 1), (12, 1)], "face": [(1, 12)]},
    ),
    case(
        "follow is the default, and can be said",
        SHARED,
        "--root run 11 --link run.model=follow --link image.run=follow",
        {
            "experiment": [(1, 1)],
            "run": [(11, 1, 1)],
            "image": [(111, 11), (112, 11)],
            "model": [(1, 1)],
            "maker": [(1,)],
        },
    ),
    case(
        "stay alone: parents do not bring these children, children still bring their parents",
        SHARED,
        "--root experiment 1 --link image.run=stay",
        {
            "experiment": [(1, 1)],
            "run": [(11, 1, 1), (12, 1, 2), (13, 1, None)],
            "model": [(1, 1), (2, 1)],
            "maker": [(1,)],
        },
    ),
    case(
        "stay on the way up changes nothing",
        SHARED,
        "--root image 121 --link image.run=stay",
        {
            "image": [(121, 12)],
            "run": [(12, 1, 2)],
            "experiment": [(1, 1)],
            "model": [(1, 1), (2, 1)],
            "maker": [(1,)],
        },
    ),
    case(
        "null: a parent outside is forgotten",
        SHARED,
        "--root experiment 1 --link run.model=null --link experiment.model=null",
        {
            "experiment": [(1, None)],
            "run": [(11, 1, None), (12, 1, None), (13, 1, None)],
            "image": [(111, 11), (112, 11), (121, 12)],
        },
    ),
    case(
        "null: a parent that is there for another reason is remembered",
        SHARED,
        "--root experiment 1 --link run.model=null",
        {
            "experiment": [(1, 1)],
            "run": [(11, 1, 1), (12, 1, None), (13, 1, None)],
            "image": [(111, 11), (112, 11), (121, 12)],
            "model": [(1, 1)],
            "maker": [(1,)],
        },
    ),
    case(
        "null on a self link cuts the chain where it leaves",
        CHAIN + "INSERT INTO step VALUES (1, 1, NULL), (2, 1, 1), (3, 2, 2), (4, 2, 3);",
        "--root run 2 --link step.input=null",
        {"run": [(2,)], "step": [(3, 2, None), (4, 2, 3)]},
    ),
    case(
        "null on a composite link empties every column of it",
        """
        CREATE TABLE plate (run INTEGER, place INTEGER, PRIMARY KEY (run, place));
        CREATE TABLE well (id INTEGER PRIMARY KEY, run INTEGER, place INTEGER, note TEXT,
            FOREIGN KEY (run, place) REFERENCES plate (run, place));
        INSERT INTO plate VALUES (1, 1);
        INSERT INTO well VALUES (1, 1, 1, 'a'), (2, 1, NULL, 'b');
        """,
        "--root well --all --link well.run,place=null",
        {"well": [(1, None, None, "a"), (2, 1, None, "b")]},
    ),
    case(
        "stay and null: the medoid outside is forgotten, and does not own its cluster",
        """
        CREATE TABLE experiment (id INTEGER PRIMARY KEY);
        CREATE TABLE embedding (id INTEGER PRIMARY KEY, experiment INTEGER REFERENCES experiment);
        CREATE TABLE cluster (id INTEGER PRIMARY KEY, medoid INTEGER REFERENCES embedding);
        CREATE TABLE member (cluster INTEGER REFERENCES cluster, embedding INTEGER REFERENCES embedding);
        INSERT INTO experiment VALUES (1), (2);
        INSERT INTO embedding VALUES (11, 1), (12, 1), (21, 2);
        INSERT INTO cluster VALUES (1, 11), (2, 21), (3, NULL);
        INSERT INTO member VALUES (1, 11), (2, 12), (2, 21), (3, 12);
        """,
        "--root experiment 1 --link cluster.medoid=stay,null",
        {
            "experiment": [(1,)],
            "embedding": [(11, 1), (12, 1)],
            "member": [(1, 11), (2, 12), (3, 12)],
            "cluster": [(1, 11), (2, None), (3, None)],
        },
    ),
    case(
        "drop: a row that leads out goes, with what hangs on it",
        SHARED,
        "--root experiment 1 --link run.model=drop --link experiment.model=null",
        {"experiment": [(1, None)], "run": [(13, 1, None)]},
    ),
    case(
        "drop looks at owned parents: one that is only needed does not count",
        SHARED,
        "--root experiment 1 --link run.model=drop",
        {"experiment": [(1, 1)], "run": [(13, 1, None)], "model": [(1, 1)], "maker": [(1,)]},
    ),
    case(
        "drop keeps what leads to owned rows",
        CHAIN
        + "INSERT INTO step VALUES (1, 1, NULL), (2, 1, 1), (3, 2, 2), (4, 2, 3), (5, 2, NULL), (6, 2, 5);",
        "--root run 2 --link step.input=drop",
        {"run": [(2,)], "step": [(5, 2, None), (6, 2, 5)]},
    ),
    case(
        "drop goes on until nothing changes: what was reached only through a dropped row goes too",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, twin INTEGER REFERENCES run);
        CREATE TABLE image (id INTEGER PRIMARY KEY, run INTEGER REFERENCES run, other INTEGER REFERENCES run);
        CREATE TABLE mark (id INTEGER PRIMARY KEY, image INTEGER REFERENCES image, lab INTEGER REFERENCES lab);
        INSERT INTO lab VALUES (1), (2);
        INSERT INTO run VALUES (1, 1, NULL), (2, 1, 9), (3, 1, 2), (9, 2, NULL);
        INSERT INTO image VALUES (1, 1, 3), (2, 3, NULL), (3, 1, 1);
        INSERT INTO mark VALUES (1, 1, NULL), (2, 3, NULL), (3, 1, 1);
        """,
        "--root lab 1 --link run.twin=stay,drop --link image.other=stay,drop --link mark.image=drop",
        {"lab": [(1,)], "run": [(1, 1, None)], "image": [(3, 1, 1)], "mark": [(2, 3, None)]},
    ),
    refusal(
        "drop never removes a root",
        SHARED,
        "--root run 11 13 --link run.model=drop",
        "would remove 1 of the chosen roots",
    ),
    refusal(
        "drop can't remove a row that is only needed",
        SHARED + "CREATE TABLE use (run INTEGER REFERENCES run); INSERT INTO use VALUES (12);",
        "--root use --all --link run.model=drop",
        "1 rows of run that other rows need lead out of the selection over run.model->model.id",
    ),
    refusal(
        "what drop has removed can't be needed by other rows",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY, head INTEGER REFERENCES person);
        CREATE TABLE person (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, origin INTEGER REFERENCES town);
        CREATE TABLE town (id INTEGER PRIMARY KEY);
        INSERT INTO town VALUES (5);
        INSERT INTO lab VALUES (1, 11), (2, NULL);
        INSERT INTO person VALUES (11, 1, 5), (12, 1, NULL);
        """,
        "--root lab 1 --link person.origin=drop",
        "1 rows of person that other rows need lead out of the selection over person.origin->town.id",
    ),
    refusal(
        "nor what a violation has removed",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY, head INTEGER REFERENCES person);
        CREATE TABLE person (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, origin INTEGER REFERENCES town);
        CREATE TABLE town (id INTEGER PRIMARY KEY);
        INSERT INTO lab VALUES (1, 11), (2, NULL);
        INSERT INTO person VALUES (11, 1, 5), (12, 1, NULL);
        """,
        "--root lab 1 --violations drop",
        "person(origin) -> town: 1 rows",
        "needed by other rows",
    ),
    case(
        "stay and drop: rows with a foreign medoid go, and bring nothing before they go",
        """
        CREATE TABLE experiment (id INTEGER PRIMARY KEY);
        CREATE TABLE embedding (id INTEGER PRIMARY KEY, experiment INTEGER REFERENCES experiment);
        CREATE TABLE cluster (id INTEGER PRIMARY KEY, experiment INTEGER REFERENCES experiment,
            medoid INTEGER REFERENCES embedding);
        INSERT INTO experiment VALUES (1), (2);
        INSERT INTO embedding VALUES (11, 1), (21, 2);
        INSERT INTO cluster VALUES (1, 1, 11), (2, 1, 21), (3, 1, NULL), (4, 2, 11);
        """,
        "--root experiment 1 --link cluster.medoid=stay,drop",
        {"experiment": [(1,)], "embedding": [(11, 1)], "cluster": [(1, 1, 11), (3, 1, None)]},
    ),
    refusal(
        "refuse stops where a link leads out of the owned rows",
        SHARED,
        "--root experiment 1 --link run.model=refuse",
        "run.model->model.id leads out of the selection in 2 rows",
    ),
    case(
        "refuse lets pass what leads to owned rows",
        SHARED,
        "--root experiment 1 --link run.experiment=refuse --link image.run=refuse",
        {
            "experiment": [(1, 1)],
            "run": [(11, 1, 1), (12, 1, 2), (13, 1, None)],
            "image": [(111, 11), (112, 11), (121, 12)],
            "model": [(1, 1), (2, 1)],
            "maker": [(1,)],
        },
    ),
    refusal(
        "refuse looks at needed rows too",
        SHARED,
        "--root experiment 1 --link model.maker=stay,refuse",
        "model.maker->maker.id leads out of the selection in 2 rows",
    ),
    refusal(
        "null needs a nullable column",
        SHARED,
        "--root image 111 --link image.run=null",
        "column run can't become NULL, it is NOT NULL",
    ),
    refusal(
        "null does not touch keys",
        """
        CREATE TABLE a (id INTEGER PRIMARY KEY);
        CREATE TABLE b (a INTEGER REFERENCES a, n INTEGER, UNIQUE (n, a));
        INSERT INTO a VALUES (1);
        """,
        "--root a 1 --link b.a=null",
        "column a can't become NULL, it is part of a key",
    ),
    refusal(
        "null does not touch columns that another link uses",
        """
        CREATE TABLE a (id INTEGER PRIMARY KEY);
        CREATE TABLE b (x INTEGER REFERENCES a (id) REFERENCES c (id));
        CREATE TABLE c (id INTEGER PRIMARY KEY);
        INSERT INTO a VALUES (1);
        """,
        "--root a 1 --link b.x->a.id=null",
        "column x can't become NULL, it is part of another link",
    ),
    refusal(
        "a column with two links has to be named with its parent",
        """
        CREATE TABLE a (id INTEGER PRIMARY KEY);
        CREATE TABLE b (x INTEGER REFERENCES a (id) REFERENCES c (id));
        CREATE TABLE c (id INTEGER PRIMARY KEY);
        INSERT INTO a VALUES (1);
        """,
        "--root a 1 --link b.x=stay",
        "b.x is part of 2 links",
        "b.x->a.id",
        "b.x->c.id",
    ),
    refusal(
        "a link that is not there",
        SHARED,
        "--root run 11 --link run.id=stay",
        "run.id is no foreign key",
        "run.experiment->experiment.id",
    ),
    refusal(
        "a table that is not there", SHARED, "--root run 11 --link runs.id=stay", "there is no table 'runs'"
    ),
    refusal(
        "a column that is not there", SHARED, "--root run 11 --link run.x=stay", "there is no column 'x'"
    ),
]

# Virtual links, which may also `leave`

LOOSE = """
CREATE TABLE run (id INTEGER PRIMARY KEY, code TEXT);
CREATE TABLE log (line INTEGER PRIMARY KEY, run TEXT, level INTEGER);
CREATE TABLE level (id INTEGER PRIMARY KEY);
INSERT INTO run VALUES (1, 'x'), (2, 'y');
INSERT INTO level VALUES (5), (6);
INSERT INTO log VALUES (1, 'x', 5), (2, 'y', 6), (3, 'x', NULL), (4, NULL, 5);
"""

VIRTUAL = [
    case("without a link there is no way", LOOSE, "--root run 1", {"run": [(1, "x")]}),
    case(
        "a virtual link brings children, and their parents",
        LOOSE,
        "--root run 1 --link 'log.run->run.code=follow' --link 'log.level->level.id=follow'",
        {"run": [(1, "x")], "log": [(1, "x", 5), (3, "x", None)], "level": [(5,)]},
    ),
    case(
        "a virtual link can be cut",
        LOOSE,
        "--root run 1 --link 'log.run->run.code=follow' --link 'log.level->level.id=null'",
        {"run": [(1, "x")], "log": [(1, "x", None), (3, "x", None)]},
    ),
    case(
        "leave: a virtual link brings children, and leads out or nowhere as it is",
        LOOSE + "INSERT INTO log VALUES (5, 'x', 77);",
        "--root run 1 --link 'log.run->run.code=leave' --link 'log.level->level.id=leave'",
        {"run": [(1, "x")], "log": [(1, "x", 5), (3, "x", None), (5, "x", 77)]},
    ),
    case(
        "stay and leave: a virtual link that does nothing",
        LOOSE,
        "--root run 1 --link 'log.run->run.code=stay,leave' --whole log",
        {"run": [(1, "x")], "log": [(1, "x", 5), (2, "y", 6), (3, "x", None), (4, None, 5)]},
    ),
    refusal(
        "leave is no policy for a foreign key",
        SHARED,
        "--root run 11 --link run.model=leave",
        "policy leave can't be used on run.model->model.id: it is a foreign key of the schema",
    ),
    case(
        "a virtual composite link",
        """
        CREATE TABLE plate (run INTEGER, place INTEGER);
        CREATE TABLE well (id INTEGER PRIMARY KEY, p INTEGER, r INTEGER);
        INSERT INTO plate VALUES (1, 2), (2, 1), (1, 2);
        INSERT INTO well VALUES (1, 2, 1), (2, 1, 2);
        """,
        "--root well 1 --link 'well.p,r->plate.place,run=follow'",
        {"well": [(1, 2, 1)], "plate": [(1, 2), (1, 2)]},
    ),
    case(
        "a virtual self link",
        """
        CREATE TABLE step (id INTEGER PRIMARY KEY, input INTEGER);
        INSERT INTO step VALUES (1, NULL), (2, 1), (3, 2), (4, NULL);
        """,
        "--root step 2 --link 'step.input->step.id=follow'",
        {"step": [(1, None), (2, 1), (3, 2)]},
    ),
    refusal(
        "a virtual link that leads nowhere is a violation like others",
        LOOSE + "INSERT INTO log VALUES (5, 'x', 77);",
        "--root run 1 --link 'log.run->run.code=follow' --link 'log.level->level.id=follow'",
        "log(level) -> level: 1 rows",
    ),
    refusal(
        "a virtual link needs a column on either side",
        LOOSE,
        "--root run 1 --link 'log.run->run.cod=follow'",
        "there is no column 'cod' in table 'run'",
        "columns: id, code",
    ),
    refusal(
        "a virtual link pairs columns",
        LOOSE,
        "--root run 1 --link 'log.run,level->run.code=follow'",
        "pairs 2 columns with 1",
        exit_code=USAGE,
    ),
]

# What is chosen, left out and taken whole

CHOICES = [
    case(
        "all rows",
        SHARED,
        "--root maker --all",
        {
            "maker": [(1,), (2,), (3,)],
            "model": [(1, 1), (2, 1), (3, 3)],
            "experiment": [(1, 1), (2, 1), (3, None)],
            "run": [(11, 1, 1), (12, 1, 2), (13, 1, None), (21, 2, 1), (31, 3, 3)],
            "image": [(111, 11), (112, 11), (121, 12), (211, 21)],
        },
    ),
    case(
        "a condition, with a comment, a colon and a percent sign",
        """
        CREATE TABLE run (id INTEGER PRIMARY KEY, name TEXT);
        INSERT INTO run VALUES (1, 'a:b%c'), (2, 'ab'), (3, 'a:bc');
        """,
        "--root run --where \"name LIKE 'a:b%' AND name <> ':x?' -- all of them\"",
        {"run": [(1, "a:b%c"), (3, "a:bc")]},
    ),
    case(
        "a condition that looks into another table",
        SHARED,
        "--root experiment --where 'id NOT IN (SELECT experiment FROM run WHERE model IS NOT NULL) OR id = 3'",
        {"experiment": [(3, None)], "run": [(31, 3, 3)], "model": [(3, 3)], "maker": [(3,)]},
    ),
    refusal(
        "a condition that chooses nothing",
        SHARED,
        "--root run --where 'id > 99'",
        "no row of run was chosen by --where",
    ),
    refusal("a condition that is no SQL", SHARED, "--root run --where 'id >'", "--where can't be evaluated"),
    refusal(
        "a condition that ends and begins something else",
        SHARED,
        "--root run --where '1); DELETE FROM run; --'",
        "--where can't be evaluated",
    ),
    refusal(
        "an empty root table", "CREATE TABLE run (id INTEGER PRIMARY KEY);", "--root run --all", "it is empty"
    ),
    refusal("a root that is not there", SHARED, "--root run 99", "run row 99 not found in source database"),
    refusal(
        "one of the roots is not there", SHARED, "--root run 11 99", "run row 99 not found in source database"
    ),
    refusal("a word for an integer key", SHARED, "--root run eleven", "'eleven' can't be a key of run"),
    refusal("an underscore is no digit", SHARED, "--root run 1_1", "can't be a key of run"),
    refusal(
        "a composite key is chosen by --where",
        "CREATE TABLE run (a INTEGER, b INTEGER, PRIMARY KEY (a, b)); INSERT INTO run VALUES (1, 1);",
        "--root run 1",
        "it has a composite primary key",
        "--where",
    ),
    case(
        "a text key may be shortened",
        "CREATE TABLE run (id TEXT PRIMARY KEY); INSERT INTO run VALUES ('wxyz-1'), ('wxy-2'), ('wxy'), ('WXYZ-3');",
        "--root run wxyz",
        {"run": [("wxyz-1",)]},
    ),
    case(
        "an exact key wins over what it begins",
        "CREATE TABLE run (id TEXT PRIMARY KEY); INSERT INTO run VALUES ('abcd'), ('abcdef');",
        "--root run abcd",
        {"run": [("abcd",)]},
    ),
    refusal(
        "a beginning of several keys",
        "CREATE TABLE run (id TEXT PRIMARY KEY); INSERT INTO run VALUES ('abcde'), ('abcdf');",
        "--root run abcd",
        "abcde, abcdf",
    ),
    refusal(
        "too short a beginning",
        "CREATE TABLE run (id TEXT PRIMARY KEY); INSERT INTO run VALUES ('abcde');",
        "--root run abc",
        "run row abc not found",
        "4 characters or more",
    ),
    case(
        "wildcards in a beginning mean themselves",
        "CREATE TABLE run (id TEXT PRIMARY KEY); INSERT INTO run VALUES ('a%_cde'), ('axycde');",
        "--root run a%_c",
        {"run": [("a%_cde",)]},
    ),
    refusal("no root table", SHARED, "11", "which table holds the rows to choose from?"),
    refusal("ids and --all", SHARED, "11 --root run --all", "found ids and --all", exit_code=USAGE),
    case(
        "whole brings every row with its parents, but none of its children",
        SHARED,
        "--root experiment 3 --whole model",
        {
            "experiment": [(3, None)],
            "run": [(31, 3, 3)],
            "model": [(1, 1), (2, 1), (3, 3)],
            "maker": [(1,), (3,)],
        },
    ),
    case(
        "whole for a table that no link reaches",
        SHARED
        + "CREATE TABLE setting (name TEXT, value TEXT); INSERT INTO setting VALUES ('a', 'b'), ('a', 'b');",
        "--root experiment 3 --whole setting",
        {
            "experiment": [(3, None)],
            "run": [(31, 3, 3)],
            "model": [(3, 3)],
            "maker": [(3,)],
            "setting": [("a", "b"), ("a", "b")],
        },
    ),
    case(
        "exclude below: nothing is reached through it",
        SHARED,
        "--root experiment 1 --exclude run",
        {"experiment": [(1, 1)], "model": [(1, 1)], "maker": [(1,)]},
    ),
    refusal(
        "exclude above: references into it have to be settled",
        SHARED,
        "--root experiment 1 --exclude model",
        "1 rows of experiment reference the excluded table model",
        "experiment.model->model.id=null",
    ),
    case(
        "exclude above, with null",
        SHARED,
        "--root experiment 1 --exclude model --link experiment.model=null --link run.model=null",
        {
            "experiment": [(1, None)],
            "run": [(11, 1, None), (12, 1, None), (13, 1, None)],
            "image": [(111, 11), (112, 11), (121, 12)],
        },
    ),
    case(
        "exclude above, with drop",
        SHARED,
        "--root experiment 1 --exclude model --link experiment.model=null --link run.model=drop",
        {"experiment": [(1, None)], "run": [(13, 1, None)]},
    ),
    refusal(
        "the root table can't be excluded", SHARED, "--root run 11 --exclude run", "'run' can't be excluded"
    ),
    refusal(
        "excluded and whole",
        SHARED,
        "--root run 11 --exclude maker --whole maker",
        "both excluded and wanted whole",
    ),
    refusal(
        "an unknown table to exclude", SHARED, "--root run 11 --exclude makers", "there is no table 'makers'"
    ),
    refusal(
        "an unknown table to take whole", SHARED, "--root run 11 --whole makers", "there is no table 'makers'"
    ),
    refusal(
        "an unknown root table", SHARED, "--root runs 11", "there is no table 'runs'", "tables: experiment"
    ),
    case(
        "exactly as many rows as allowed",
        SHARED,
        "--root experiment 1 --max-rows 10",
        {
            "experiment": [(1, 1)],
            "run": [(11, 1, 1), (12, 1, 2), (13, 1, None)],
            "image": [(111, 11), (112, 11), (121, 12)],
            "model": [(1, 1), (2, 1)],
            "maker": [(1,)],
        },
    ),
    refusal(
        "one row more than allowed, on the way up",
        SHARED,
        "--root experiment 1 --max-rows 9",
        "more than 9 rows: the limit was passed in",
        "model -> maker",
        "--max-rows",
    ),
    refusal(
        "too many rows on the way down",
        SHARED,
        "--root experiment 1 --max-rows 5",
        "more than 5 rows: the limit was passed in experiment -> run -> image",
    ),
    refusal(
        "too many roots",
        SHARED,
        "--root experiment --all --max-rows 2",
        "more than 2 rows: the limit was passed in experiment",
    ),
    refusal(
        "too many rows in a whole table",
        SHARED,
        "--root experiment 3 --whole image --max-rows 5",
        "more than 5 rows: the limit was passed in image",
    ),
    refusal(
        "too many rows in a chain",
        CHAIN
        + """
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
        INSERT INTO step SELECT i, 1 + (i = 300), nullif(i - 1, 0) FROM n;
        """,
        "--root run 2 --max-rows 100",
        "more than 100 rows: the limit was passed in",
        "step",
    ),
    refusal(
        "too many bytes",
        SHARED + "ALTER TABLE image ADD COLUMN data BLOB; UPDATE image SET data = zeroblob(1000);",
        "--root experiment 1 --max-bytes 2kB",
        "more than 2000 bytes: the limit was passed in experiment -> run -> image",
        "--max-bytes",
    ),
    refusal(
        "bytes are counted as they are stored, whatever the characters",
        "CREATE TABLE run (id INTEGER PRIMARY KEY, text TEXT);"
        "INSERT INTO run VALUES (1, printf('%.*c', 400, 'é')), (2, char(0) || printf('%.*c', 400, 'x'));",
        "--root run --all --max-bytes 1100",
        "more than 1100 bytes",
    ),
]

# References that lead nowhere in the source

DANGLING = """
CREATE TABLE lab (id INTEGER PRIMARY KEY);
CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, model INTEGER REFERENCES model);
CREATE TABLE model (id INTEGER PRIMARY KEY, maker INTEGER REFERENCES maker);
CREATE TABLE maker (id INTEGER PRIMARY KEY);
CREATE TABLE image (id INTEGER PRIMARY KEY, run INTEGER REFERENCES run);
INSERT INTO lab VALUES (1), (2);
INSERT INTO model VALUES (1, NULL), (2, 77);
INSERT INTO run VALUES (11, 1, 1), (12, 1, 99), (13, 1, NULL), (21, 2, 2), (31, 3, 1);
INSERT INTO image VALUES (1, 11), (2, 12);
"""
MISSING = """
CREATE TABLE run (id INTEGER PRIMARY KEY, model INTEGER REFERENCES gone (id), n INTEGER REFERENCES run);
INSERT INTO run VALUES (1, NULL, NULL), (2, 5, 1), (3, NULL, 1);
"""

VIOLATIONS = [
    refusal(
        "refused by default, with table, column and count",
        DANGLING,
        "--root lab 1",
        "foreign keys are violated in the source: run(model) -> model: 1 rows",
        "--violations keep",
    ),
    case(
        "kept as they are",
        DANGLING,
        "--root lab 1 --violations keep",
        {
            "lab": [(1,)],
            "run": [(11, 1, 1), (12, 1, 99), (13, 1, None)],
            "model": [(1, None)],
            "image": [(1, 11), (2, 12)],
        },
        dangling=1,
    ),
    case(
        "dropped, with what hangs on them",
        DANGLING,
        "--root lab 1 --violations drop",
        {"lab": [(1,)], "run": [(11, 1, 1), (13, 1, None)], "model": [(1, None)], "image": [(1, 11)]},
    ),
    refusal(
        "what other rows need can't be dropped",
        DANGLING,
        "--root lab 2 --violations drop",
        "model(maker) -> maker: 1 rows",
        "needed by other rows",
    ),
    refusal(
        "a root can't be dropped",
        DANGLING,
        "--root run 12 --violations drop",
        "would remove 1 of the chosen roots",
    ),
    case(
        "null settles a reference that leads nowhere",
        DANGLING,
        "--root lab 1 --link run.model=null",
        {
            "lab": [(1,)],
            "run": [(11, 1, None), (12, 1, None), (13, 1, None)],
            "image": [(1, 11), (2, 12)],
        },
    ),
    case(
        "violations outside the selection are nobody's business",
        DANGLING,
        "--root run 11",
        {"lab": [(1,)], "run": [(11, 1, 1)], "model": [(1, None)], "image": [(1, 11)]},
    ),
    refusal("a link to a table that is not there", MISSING, "--root run 1", "run(model) -> gone: 1 rows"),
    case(
        "a link to a table that is not there, kept",
        MISSING,
        "--root run 1 --violations keep",
        {"run": [(1, None, None), (2, 5, 1), (3, None, 1)]},
        dangling=1,
    ),
    case(
        "a link to a table that is not there, dropped",
        MISSING,
        "--root run 1 --violations drop",
        {"run": [(1, None, None), (3, None, 1)]},
    ),
    case(
        "a link to a table that is not there, set to NULL",
        MISSING,
        "--root run 1 --link run.model=null",
        {"run": [(1, None, None), (2, None, 1), (3, None, 1)]},
    ),
    case(
        "a link to a table that is not there harms nobody as long as it is NULL",
        MISSING,
        "--root run 3",
        {"run": [(1, None, None), (3, None, 1)]},
    ),
    refusal(
        "a link to a column that is not there",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab (number));
        INSERT INTO lab VALUES (1);
        INSERT INTO run VALUES (1, 1);
        """,
        "--root run 1",
        "run(lab) -> lab: 1 rows",
    ),
    refusal(
        "a link to a primary key of another width",
        """
        CREATE TABLE plate (a INTEGER, b INTEGER, PRIMARY KEY (a, b));
        CREATE TABLE well (id INTEGER PRIMARY KEY, plate INTEGER REFERENCES plate);
        INSERT INTO plate VALUES (1, 1);
        INSERT INTO well VALUES (1, 1);
        """,
        "--root well 1",
        "well(plate) -> plate: 1 rows",
    ),
    refusal(
        "a link to a table without a primary key",
        """
        CREATE TABLE lab (id INTEGER);
        CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab);
        INSERT INTO lab VALUES (1);
        INSERT INTO run VALUES (1, 1);
        """,
        "--root run 1",
        "run(lab) -> lab: 1 rows",
    ),
]


@pytest.mark.quick
@pytest.mark.parametrize("case", KEYS)
@pytest.mark.fault(36)
def test_keys_and_links(run, case):
    run(case)


@pytest.mark.quick
@pytest.mark.parametrize("case", TABLES)
def test_tables_of_all_kinds(run, case):
    run(case)


@pytest.mark.quick
@pytest.mark.parametrize("case", COMPARISONS)
def test_values_compare_as_the_foreign_keys_of_the_engine_do(run, case):
    run(case)


@pytest.mark.quick
@pytest.mark.parametrize("case", NAMES)
def test_odd_names(run, case):
    run(case)


@pytest.mark.quick
@pytest.mark.parametrize("case", CYCLES)
@pytest.mark.fault(36)
def test_self_links_and_cycles(run, case):
    run(case)


@pytest.mark.quick
@pytest.mark.parametrize("case", POLICIES)
def test_policies(run, case):
    run(case)


@pytest.mark.quick
@pytest.mark.parametrize("case", VIRTUAL)
def test_virtual_links(run, case):
    run(case)


@pytest.mark.quick
@pytest.mark.parametrize("case", CHOICES)
def test_choices_limits_and_tables_left_out_or_taken_whole(run, case):
    run(case)


@pytest.mark.quick
@pytest.mark.parametrize("case", VIOLATIONS)
@pytest.mark.fault(21, 36)
def test_references_that_lead_nowhere_in_the_source(run, case):
    run(case)


LONG_CHAIN = """
CREATE TABLE run (id INTEGER PRIMARY KEY);
CREATE TABLE step (id INTEGER PRIMARY KEY, run INTEGER REFERENCES run, input INTEGER REFERENCES step);
CREATE INDEX step_run ON step (run);
CREATE INDEX step_input ON step (input);
INSERT INTO run VALUES (1), (2);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {length})
INSERT INTO step SELECT i, CASE WHEN i = {run_at} THEN 1 ELSE NULL END, nullif(i - 1, 0) FROM n;
INSERT INTO step VALUES (-1, 2, NULL), (-2, NULL, -1);
"""


def exported_chain(backend, cli, length, *, run_at, options=()):
    """Export run 1 of a chain; return the statements it took, and (count, lowest, highest) of the steps."""
    source = backend.source(LONG_CHAIN.format(length=length, run_at=run_at))
    target = backend.target()
    with backend.counting_statements() as statements:
        done = cli("export", source, target, "1", "--root", "run", "--no-receipt", *options)
    assert done.exit_code == 0, done.output
    found = backend.query(target, "SELECT count(*), min(id), max(id) FROM step")
    target.unlink()
    return len(statements), found[0]


@pytest.mark.parametrize(
    ("end", "options"),
    [
        ("first", ()),
        ("last", ()),
        ("first", ("--link", "step.input=drop")),
        ("last", ("--link", "step.input=null")),
    ],
    ids=["down", "up", "down with drop", "cut"],
)
def test_a_chain_takes_as_many_statements_as_it_likes_rows(backend, cli, end, options):
    """The statements don't grow with the chain, whichever way it is followed."""
    counts = set()
    for length in (3, 5_000):
        run_at = 1 if end == "first" else length
        statements, found = exported_chain(backend, cli, length, run_at=run_at, options=options)
        assert found == ((1, length, length) if "null" in "".join(options) else (length, 1, length))
        counts.add(statements)
    assert len(counts) == 1


@pytest.mark.parametrize("end", ["first", "last"])
@pytest.mark.fault(36)
def test_a_chain_of_200_000_rows(backend, cli, end):
    length = 200_000
    _, found = exported_chain(backend, cli, length, run_at=1 if end == "first" else length)
    assert found == (length, 1, length)


def test_a_cycle_of_three_tables_takes_as_many_statements_as_it_likes_turns(backend, cli):
    counts = set()
    for turns in (2, 2_000):
        source = backend.source(f"""
            CREATE TABLE a (id INTEGER PRIMARY KEY, c INTEGER REFERENCES c);
            CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a);
            CREATE TABLE c (id INTEGER PRIMARY KEY, b INTEGER REFERENCES b);
            CREATE INDEX a_c ON a (c); CREATE INDEX b_a ON b (a); CREATE INDEX c_b ON c (b);
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {turns})
            INSERT INTO a SELECT i, nullif(i - 1, 0) FROM n;
            INSERT INTO b SELECT id, id FROM a;
            INSERT INTO c SELECT id, id FROM a;
        """)
        target = backend.target()
        with backend.counting_statements() as statements:
            done = cli("export", source, target, "1", "--root", "a", "--no-receipt")
        assert done.exit_code == 0, done.output
        found = backend.query(
            target, "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), count(*) FROM c"
        )
        assert found == [(turns, turns, turns)]
        target.unlink()
        counts.add(len(statements))
    assert len(counts) == 1


def test_the_order_of_roots_is_irrelevant_and_a_second_export_is_the_same(backend, cli):
    source = backend.source(SHARED)
    contents = []
    for order in (("11", "31", "21"), ("21", "11", "31"), ("21", "11", "31", "11")):
        target = backend.target()
        done = cli("export", source, target, *order, "--root", "run", "--no-receipt")
        assert done.exit_code == 0, done.output
        contents.append(
            {table: sorted(map(repr, backend.rows(target, table))) for table in backend.tables(target)}
        )
        target.unlink()
    assert contents[0] == contents[1] == contents[2]
    assert contents[0]["run"] == ["(11, 1, 1)", "(21, 2, 1)", "(31, 3, 3)"]


@pytest.mark.quick
@pytest.mark.parametrize("fails", [False, True], ids=["read", "interrupted"])
def test_nothing_is_kept_of_a_database_that_was_closed(tmp_path, fails):
    with closing(sqlite3.connect(tmp_path / "source.db")) as connection:
        connection.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1);")

    def look() -> weakref.ref:
        place = databases.locate(str(tmp_path / "source.db"))
        with databases.open_source(place, timeout=1, monitor=Monitor()) as snapshot:
            assert list(snapshot.values(sa.select(snapshot.catalog.tables["t"].table.c.a))) == [(1,)]
            if fails:
                raise KeyboardInterrupt
            return weakref.ref(snapshot)

    def kept() -> int:
        gc.collect()
        return sum(type(each).__name__ == "SQLiteSnapshot" for each in gc.get_objects())

    before, found = kept(), list[weakref.ref]()  # a test that failed keeps its own
    with suppress(KeyboardInterrupt):
        found.append(look())
    assert kept() == before
    assert [ref() for ref in found] == [None] * (not fails)
