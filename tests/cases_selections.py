"""Selections over a few schemas, as they are typed, and what comes of them: cycles, policies, choices, violations."""

from cases import USAGE, case, refusal

COLLATED = "NOCASE is a collation of SQLite"
NUL = "only SQLite keeps NUL in text"
BROKEN = "in other engines a foreign key leads to a key that is there"

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
        only=("sqlite", COLLATED),
    ),
    case(
        "a self link to a unique column in which case counts",
        """
        CREATE TABLE word (id INTEGER PRIMARY KEY, name TEXT UNIQUE, root TEXT REFERENCES word (name));
        INSERT INTO word VALUES (1, 'go', NULL), (2, 'Go', NULL), (3, 'going', 'go'), (4, 'Going', 'Go'),
            (5, 'goings', 'going');
        """,
        "--root word 1",
        {"word": [(1, "go", None), (3, "going", "go"), (5, "goings", "going")]},
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

MIXED = """
CREATE TABLE run (id INTEGER PRIMARY KEY, code TEXT);
CREATE TABLE log (line INTEGER PRIMARY KEY, run TEXT, code INTEGER);
INSERT INTO run VALUES (1, '70'), (2, '80');
INSERT INTO log VALUES (1, '1', 80), (2, '2', 70), (3, 'elsewhere', NULL), (4, NULL, 70);
"""

VIRTUAL = [
    case(
        "a virtual link from text to numbers brings children",
        MIXED,
        "--root run 1 --link 'log.run->run.id=leave'",
        {"run": [(1, "70")], "log": [(1, "1", 80)]},
    ),
    case(
        "a virtual link from text to numbers brings the parent",
        MIXED,
        "--root log 2 --link 'log.run->run.id=follow'",
        {"run": [(2, "80")], "log": [(2, "2", 70)]},
    ),
    case(
        "a virtual link from numbers to text, and one back: a cycle",
        MIXED + "INSERT INTO run VALUES (3, '90'); INSERT INTO log VALUES (5, '3', 90);",
        "--root run 1 --link 'log.run->run.id=leave' --link 'log.code->run.code=follow'",
        {
            "run": [(1, "70"), (2, "80")],
            "log": [(1, "1", 80), (2, "2", 70), (4, None, 70)],
        },
    ),
    refusal(
        "a virtual link from text to numbers that leads nowhere is a violation like others",
        MIXED,
        "--root log 3 --link 'log.run->run.id=follow'",
        "log(run) -> run: 1 rows",
    ),
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
        "a condition that asks for a value which nobody gave",
        SHARED,
        "--root run --where 'id = ?1 OR id < ?1'",
        "no row of run was chosen",
        only=("sqlite", "PostgreSQL calls it $1"),
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
        INSERT INTO step SELECT i, CASE i WHEN 300 THEN 2 ELSE 1 END, nullif(i - 1, 0) FROM n;
        """,
        "--root run 2 --max-rows 100",
        "more than 100 rows: the limit was passed in",
        "step",
    ),
    refusal(
        "too many bytes",
        SHARED + f"ALTER TABLE image ADD COLUMN data BLOB; UPDATE image SET data = x'{'00' * 1000}';",
        "--root experiment 1 --max-bytes 2kB",
        "more than 2000 bytes: the limit was passed in experiment -> run -> image",
        "--max-bytes",
    ),
    refusal(
        "characters that take two bytes are counted twice",
        f"CREATE TABLE run (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO run VALUES (1, '{'é' * 600}');",
        "--root run --all --max-bytes 1100",
        "more than 1100 bytes",
    ),
    refusal(
        "bytes are counted as they are stored, whatever the characters",
        "CREATE TABLE run (id INTEGER PRIMARY KEY, text TEXT);"
        "INSERT INTO run VALUES (1, printf('%.*c', 400, 'é')), (2, char(0) || printf('%.*c', 400, 'x'));",
        "--root run --all --max-bytes 1100",
        "more than 1100 bytes",
        only=("sqlite", NUL),
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
    refusal(
        "a link to a table that is not there",
        MISSING,
        "--root run 1",
        "run(model) -> gone: 1 rows",
        only=("sqlite", BROKEN),
    ),
    case(
        "a link to a table that is not there, kept",
        MISSING,
        "--root run 1 --violations keep",
        {"run": [(1, None, None), (2, 5, 1), (3, None, 1)]},
        dangling=1,
        only=("sqlite", BROKEN),
    ),
    case(
        "a link to a table that is not there, dropped",
        MISSING,
        "--root run 1 --violations drop",
        {"run": [(1, None, None), (3, None, 1)]},
        only=("sqlite", BROKEN),
    ),
    case(
        "a link to a table that is not there, set to NULL",
        MISSING,
        "--root run 1 --link run.model=null",
        {"run": [(1, None, None), (2, None, 1), (3, None, 1)]},
        only=("sqlite", BROKEN),
    ),
    case(
        "a link to a table that is not there harms nobody as long as it is NULL",
        MISSING,
        "--root run 3",
        {"run": [(1, None, None), (3, None, 1)]},
        only=("sqlite", BROKEN),
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
        only=("sqlite", BROKEN),
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
        only=("sqlite", BROKEN),
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
        only=("sqlite", BROKEN),
    ),
]
