"""Schemas with their rows, a selection as it is typed, and what comes of it: keys and links, tables, values, names."""

from cases import case, refusal

UNIQUE = "in other engines a foreign key leads to columns that are unique"
ROWID = "the rowid is SQLite's own"
COLLATED = "SQLite's collations, and its way of comparing by that of the parent"
TYPED = "only SQLite keeps values of other types than a column's"
VIRTUAL = "generated columns of PostgreSQL before 18 are stored"
WIDE = "an INTEGER of SQLite has 64 bits; PostgreSQL's BIGINT has a case of its own"
FOLDED = "SQLite keeps the case of names and ignores it, PostgreSQL folds it"

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
        CREATE TABLE well (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES lab, run INTEGER, place INTEGER,
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
        only=("sqlite", UNIQUE),
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
        only=("sqlite", UNIQUE),
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
        only=("sqlite", ROWID),
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
        only=("sqlite", ROWID),
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
        only=("sqlite", ROWID),
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
        only=("sqlite", COLLATED),
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
        only=("sqlite", COLLATED),
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
        only=("sqlite", COLLATED),
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
        only=("sqlite", COLLATED),
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
        only=("sqlite", TYPED),
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
        only=("sqlite", TYPED),
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
        only=("sqlite", VIRTUAL),
    ),
    case(
        "stored generated columns are computed anew, and links may use them",
        """
        CREATE TABLE lab (id INTEGER PRIMARY KEY, code TEXT,
            short TEXT GENERATED ALWAYS AS (upper(substr(code, 1, 2))) STORED UNIQUE);
        CREATE TABLE run (id INTEGER PRIMARY KEY, name TEXT,
            lab TEXT GENERATED ALWAYS AS (substr(name, 1, 2)) STORED REFERENCES lab (short),
            twice INTEGER GENERATED ALWAYS AS (id * 2) STORED, seed INTEGER NOT NULL);
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
        CREATE TABLE run (id INTEGER PRIMARY KEY, name TEXT,
            lab TEXT GENERATED ALWAYS AS (substr(name, 1, 2)) STORED REFERENCES lab);
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
        only=("sqlite", COLLATED),
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
        only=("sqlite", COLLATED),
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
        only=("sqlite", COLLATED),
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
        only=("sqlite", COLLATED),
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
        only=("sqlite", TYPED),
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
        only=("sqlite", TYPED),
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
        only=("sqlite", TYPED),
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
        only=("sqlite", TYPED),
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
        only=("sqlite", TYPED),
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
        only=("sqlite", WIDE),
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
        only=("sqlite", TYPED),
    ),
]

# Names

NAMES = [
    case(
        "names with quotes, spaces, dots, keywords and emoji",
        """
        CREATE TABLE "odd ""table"" 🐘" ("the id" INTEGER PRIMARY KEY);
        CREATE TABLE "select" ("from" INTEGER PRIMARY KEY, "a.b" INTEGER REFERENCES "odd ""table"" 🐘" ("the id"));
        CREATE TABLE "per%cent :x ?1 '" ("to" INTEGER REFERENCES "select", "naïve" TEXT, "back`tick" TEXT);
        INSERT INTO "odd ""table"" 🐘" VALUES (1), (2);
        INSERT INTO "select" VALUES (10, 1), (20, 2);
        INSERT INTO "per%cent :x ?1 '" VALUES (10, 'a', 'b'), (20, 'c', 'd');
        """,
        "--root 'odd \"table\" 🐘' 2",
        {
            'odd "table" 🐘': [(2,)],
            "select": [(20, 2)],
            "per%cent :x ?1 '": [(20, "c", "d")],
        },
    ),
    case(
        "names quoted in the ways of others",
        """
        CREATE TABLE [odd [table] (`the ``id` INTEGER PRIMARY KEY);
        CREATE TABLE "use" ([to] INTEGER REFERENCES `odd [table` ("the `id"));
        INSERT INTO [odd [table] VALUES (1), (2);
        INSERT INTO "use" VALUES (1), (2);
        """,
        "--root 'odd [table' 2",
        {"odd [table": [(2,)], "use": [(2,)]},
        only=("sqlite", "other databases' quotes are for compatibility"),
    ),
    case(
        "odd names in --link, quoted as in SQL",
        """
        CREATE TABLE "a:b" ("x=y" INTEGER PRIMARY KEY, "c,""d" INTEGER REFERENCES "->" ("e f"));
        CREATE TABLE "->" ("e f" INTEGER PRIMARY KEY);
        INSERT INTO "->" VALUES (7);
        INSERT INTO "a:b" VALUES (1, 7);
        """,
        """--root a:b 1 --link '"a:b"."c,""d"->"->"."e f"=null'""",
        {"a:b": [(1, None)]},
    ),
    case(
        "a dot in a name",
        """
        CREATE TABLE "a.b" ("p.q" INTEGER PRIMARY KEY, x INTEGER REFERENCES "a.b");
        INSERT INTO "a.b" VALUES (1, NULL), (2, 1);
        """,
        """--root a.b 2 --link '"a.b".x->"a.b"."p.q"=null'""",
        {"a.b": [(2, None)]},
        only=("sqlite", "where there are schemas a dot has a meaning"),
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
        only=("sqlite", FOLDED),
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
        only=("sqlite", ROWID),
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
        only=("sqlite", ROWID),
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
        only=("sqlite", ROWID),
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
        only=("sqlite", ROWID),
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
