"""Links as they are typed, found, walked and ordered."""

import random
import string
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicdb import databases
from panicdb.errors import SelectionError, UsageError
from panicdb.links import POLICY_WORDS, Edge, build_graph, components, parse_link
from panicdb.values import Link, LinkOption, Monitor, Policy, Selection

pytestmark = pytest.mark.quick


# What is typed


@pytest.mark.parametrize(
    ("text", "child", "columns", "parent", "parent_columns", "policy"),
    [
        ("run.model=null", "run", ("model",), None, (), "null"),
        ("  run.model=null ", "run", ("model",), None, (), "null"),
        ("run.model=follow", "run", ("model",), None, (), "follow"),
        ("run.model=stay", "run", ("model",), None, (), "stay"),
        ("run.model=stay,drop", "run", ("model",), None, (), "stay,drop"),
        ("run.model=refuse,stay", "run", ("model",), None, (), "stay,refuse"),
        ("run.model=follow,stay", "run", ("model",), None, (), "stay"),
        ("well.x,y=drop", "well", ("x", "y"), None, (), "drop"),
        ("a.x->b.y=leave", "a", ("x",), "b", ("y",), "leave"),
        ("a.x,y->b.u,v=stay,null", "a", ("x", "y"), "b", ("u", "v"), "stay,null"),
        ('"a.b"."c=d"=null', "a.b", ("c=d",), None, (), "null"),
        ('"a""b"."->"->"x,y"."z"=null', 'a"b', ("->",), "x,y", ("z",), "null"),
        ('a."b c","d"->"e".f,g=null', "a", ("b c", "d"), "e", ("f", "g"), "null"),
        ("odd name.a column=null", "odd name", ("a column",), None, (), "null"),
        ("a-b.c-d->e-f.g=null", "a-b", ("c-d",), "e-f", ("g",), "null"),
        ("größe.ключ=null", "größe", ("ключ",), None, (), "null"),
        ('"a\nb".c=null', "a\nb", ("c",), None, (), "null"),
        ("it's.c=null", "it's", ("c",), None, (), "null"),
    ],
)
def test_a_link_is_read(text, child, columns, parent, parent_columns, policy):
    option = parse_link(text)
    assert (option.child, option.child_columns) == (child, columns)
    assert (option.parent, option.parent_columns) == (parent, parent_columns)
    assert str(option.policy) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run",
        "run=null",
        "run.model",
        "run.model=",
        "run.model=nil",
        "run.model=NULL",
        "run.model=null,drop",
        "run.model=null,null",
        "run.model=,null",
        "run.model=null;",
        "run.model==null",
        ".model=null",
        "run.=null",
        "run.a,=null",
        "run.,a=null",
        "run.a.b=null",
        "run.a->=null",
        "->b.c=null",
        "run.a->b=null",
        "run.a->b.c->d.e=null",
        '"run.model=null',
        '"run"x.model=null',
        '"".a=null',
        "run.a->b.c,d=null",
        "run.a,b->c.d=null",
    ],
)
def test_what_is_no_link_is_refused_with_a_hint(text):
    with pytest.raises(UsageError) as refusal:
        parse_link(text)
    assert refusal.value.hint


NAMES = st.text(
    st.sampled_from(string.ascii_letters + string.digits + "_ .,=->\"'`[]\n\t%:;()🐘é\\"),
    min_size=1,
    max_size=8,
)
SIDES = st.integers(1, 3).flatmap(
    lambda width: st.tuples(
        NAMES,
        st.lists(NAMES, min_size=width, max_size=width),
        st.none() | NAMES,
        st.lists(NAMES, min_size=width, max_size=width),
    )
)
POLICIES = st.builds(Policy, down=st.booleans(), up=st.sampled_from(POLICY_WORDS))


@settings(deadline=None)
@given(sides=SIDES, policy=POLICIES)
def test_whatever_the_names_an_option_is_read_as_it_is_spelled(sides, policy):
    """A receipt holds options as text, and `verify` reads them again."""
    child, columns, parent, parent_columns = sides
    option = LinkOption(child, tuple(columns), parent, tuple(parent_columns) if parent else (), policy)
    assert parse_link(str(option)) == option


# What is found

SCHEMA = """
CREATE TABLE Lab (Id INTEGER PRIMARY KEY, code TEXT UNIQUE);
CREATE TABLE plate (a INTEGER, b INTEGER, PRIMARY KEY (a, b));
CREATE TABLE run (id INTEGER PRIMARY KEY, lab INTEGER REFERENCES LAB (id), x INTEGER, y INTEGER,
    self INTEGER REFERENCES run, code TEXT REFERENCES lab (CODE), both INTEGER REFERENCES lab REFERENCES run,
    FOREIGN KEY (x, y) REFERENCES plate (a, b));
CREATE TABLE RUN2 (gone INTEGER REFERENCES missing (id), wrong INTEGER REFERENCES lab (no_such));
CREATE TABLE twin (id INTEGER);
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(body);
CREATE VIEW labs AS SELECT * FROM lab;
"""


@pytest.fixture
def graph_of(make_db):
    path = make_db(SCHEMA)

    def build(*links: str, **selection: object):
        with opened(path) as snapshot:
            chosen = Selection(links=tuple(map(parse_link, links)), **selection)
            return build_graph(snapshot.catalog, chosen)

    return build


@contextmanager
def opened(path):
    place = databases.locate(str(path))
    with databases.open_source(place, timeout=1, monitor=Monitor()) as snapshot:
        yield snapshot


def spelled(links):
    return {str(link) for link in links}


def test_declared_links_are_found_with_names_as_their_tables_spell_them(graph_of):
    graph = graph_of()
    assert spelled(graph.links) == {
        "run.lab->Lab.Id",
        "run.self->run.id",
        "run.code->Lab.code",
        "run.both->Lab.Id",
        "run.both->run.id",
        "run.x,y->plate.a,b",
        "RUN2.gone->missing.id",
        "RUN2.wrong->Lab.no_such",
    }
    assert spelled(graph.broken) == {"RUN2.gone->missing.id", "RUN2.wrong->Lab.no_such"}
    assert not any(link.virtual for link in graph.links)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("run.lab=stay", "run.lab->Lab.Id"),
        ("RUN.LAB=stay", "run.lab->Lab.Id"),
        ("run.lab->lab.ID=stay", "run.lab->Lab.Id"),
        ("run.x,y=stay", "run.x,y->plate.a,b"),
        ("run.y,x=stay", "run.x,y->plate.a,b"),
        ("run.y,x->plate.b,a=stay", "run.x,y->plate.a,b"),
        ("run.both->run.id=stay", "run.both->run.id"),
        ("run2.gone=stay", "RUN2.gone->missing.id"),
    ],
)
def test_an_option_finds_its_declared_link(graph_of, text, found):
    graph = graph_of(text)
    assert spelled(graph.policies) == {found}
    assert len(graph.links) == 8


def test_of_links_with_the_same_columns_the_order_tells_which(make_db):
    path = make_db(
        "CREATE TABLE t (a, b, c, d, PRIMARY KEY (a, b),"
        " FOREIGN KEY (c, d) REFERENCES t (a, b), FOREIGN KEY (d, c) REFERENCES t (a, b))"
    )
    with opened(path) as snapshot:
        for text in ("t.c,d", "t.d,c"):
            graph = build_graph(snapshot.catalog, Selection(links=(parse_link(f"{text}=stay"),)))
            assert spelled(graph.policies) == {f"{text}->t.a,b"}


@pytest.mark.parametrize(
    "text",
    [
        "run.x->lab.id=follow",
        "run.y,x->plate.a,b=follow",
        "run.lab->twin.id=follow",
        "twin.id->twin.id=follow",
    ],
)
def test_an_option_with_an_arrow_declares_what_is_not_there(graph_of, text):
    graph = graph_of(text, text)
    (virtual,) = (link for link in graph.links if link.virtual)
    assert graph.links[-1] == virtual
    assert str(virtual).casefold() == text.removesuffix("=follow")


def test_the_last_word_on_a_link_counts(graph_of):
    graph = graph_of("run.lab=drop", "RUN.lab->Lab.id=stay,null")
    assert {str(link): str(policy) for link, policy in graph.policies.items()} == {
        "run.lab->Lab.Id": "stay,null"
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("runs.lab=stay", ("no table 'runs'", "Lab, RUN2, plate, run, twin")),
        ("labs.id=stay", ("no table 'labs'",)),
        ("run.labs=stay", ("no column 'labs' in table 'run'", "columns: id, lab")),
        ("run._rowid_=stay", ("no column '_rowid_'",)),
        ("run.id=stay", ("run.id is no foreign key", "run.lab->Lab.Id")),
        ("twin.id=stay", ("twin.id is no foreign key", "links of twin: none")),
        ("run.x=stay", ("run.x is no foreign key", "run.x,y->plate.a,b")),
        ("run.both=stay", ("run.both is part of 2 links", "run.both->Lab.Id", "run.both->run.id")),
        ("run.lab->missing.id=stay", ("no table 'missing'",)),
        ("run.lab->lab.x=stay", ("no column 'x' in table 'Lab'",)),
        ("alembic_version.version_num->run.code=stay", ("'alembic_version' is a version table",)),
        ("run.code->words.body=stay", ("'words' is a virtual table",)),
    ],
)
def test_what_is_not_there_is_named_with_what_there_is(graph_of, text, words):
    with pytest.raises(SelectionError) as refusal:
        graph_of(text)
    said = f"{refusal.value} {refusal.value.hint}"
    assert all(word in said for word in words)


# What is walked


@pytest.mark.parametrize(
    ("policy", "down", "up"),
    [
        ("follow", True, True),
        ("null", True, False),
        ("drop", True, False),
        ("refuse", True, True),
        ("leave", True, False),
        ("stay", False, True),
        ("stay,null", False, False),
        ("stay,drop", False, False),
        ("stay,refuse", False, True),
        ("stay,leave", False, False),
    ],
)
def test_a_policy_decides_in_which_directions_a_link_is_walked(graph_of, policy, down, up):
    graph = graph_of(f"twin.id->run.id={policy}")
    number = len(graph.links) - 1
    assert (number in {edge.number for edge in graph.down_edges()}) is down
    assert (number in {edge.number for edge in graph.up_edges()}) is up
    word = policy.removeprefix("stay,").replace("stay", "follow")
    assert [pair for pair in graph.with_up(word) if pair[0] == number] == [(number, graph.links[number])]


def test_excluded_tables_and_broken_links_are_not_walked(graph_of):
    graph = graph_of(exclude=("LAB",))
    assert graph.excluded == {"Lab"}
    walked = {"run.self->run.id", "run.both->run.id", "run.x,y->plate.a,b"}
    assert spelled(edge.link for edge in graph.down_edges()) == walked
    assert spelled(edge.link for edge in graph.up_edges()) == walked


def test_an_edge_leads_from_what_is_known_to_what_is_found():
    link = Link("run", ("lab",), "lab", ("id",))
    down, up = Edge(0, link, down=True), Edge(0, link, down=False)
    assert (down.origin, down.goal) == ("lab", "run")
    assert (up.origin, up.goal) == ("run", "lab")


# In which order


def edges_of(pairs):
    return [Edge(n, Link(goal, ("x",), origin, ("id",)), down=True) for n, (origin, goal) in enumerate(pairs)]


def check_components(pairs):
    groups = list(components(edges_of(pairs)))
    tables = {table for pair in pairs for table in pair}
    assert sorted(table for group in groups for table in group) == sorted(tables)
    reached = {table: naive_reach(table, pairs) for table in tables}
    place = {table: number for number, group in enumerate(groups) for table in group}
    for one in tables:
        for other in tables:
            together = one == other or (other in reached[one] and one in reached[other])
            assert (place[one] == place[other]) is together
    assert all(place[origin] <= place[goal] for origin, goal in pairs)


def naive_reach(start, pairs):
    found = {goal for origin, goal in pairs if origin == start}
    while True:
        more = {goal for origin, goal in pairs if origin in found} - found
        if not more:
            return found
        found |= more


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a>a",
        "a>b",
        "a>b b>a",
        "a>b b>c c>a",
        "a>b b>c c>b c>d",
        "a>b a>c b>d c>d d>d",
        "a>b c>d d>c e>e b>c",
    ],
)
def test_components_of_small_graphs(text):
    check_components([tuple(edge.split(">")) for edge in text.split()])


def test_components_of_random_graphs():
    dice = random.Random(7)
    for _ in range(300):
        size = dice.randint(1, 9)
        tables = [f"t{n}" for n in range(size)]
        check_components(
            [(dice.choice(tables), dice.choice(tables)) for _ in range(dice.randint(1, 2 * size))]
        )


def test_components_of_a_long_chain_and_of_a_long_ring():
    chain = [(f"t{n:05}", f"t{n + 1:05}") for n in range(1_500)]
    assert [group[0] for group in components(edges_of(chain))] == [f"t{n:05}" for n in range(1_501)]
    ((*ring,),) = components(edges_of([*chain, ("t01500", "t00000")]))
    assert ring == [f"t{n:05}" for n in range(1_501)]


def test_components_do_not_depend_on_the_order_of_links():
    pairs = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c"), ("a", "e")]
    expected = {("a", "b"), ("c", "d"), ("e",)}
    dice = random.Random(3)
    for _ in range(20):
        dice.shuffle(pairs)
        assert set(components(edges_of(pairs))) == expected
