"""The oracle on small cases with known answers, and the drawn cases against SQLite and PostgreSQL themselves."""

import sqlite3
from collections import Counter
from contextlib import closing
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import strategies_postgresql
from oracle import Link, Problem, RefusedError, references, solve
from strategies import cases, fold, quote, stored_rows
from strategies_postgresql import PostgreSQLDraft

pytestmark = pytest.mark.quick

ROOT = "a root would be dropped"
REFUSE = "refuse leads out of the owned rows"
SUPPORT = "drop on a support row"
EXCLUDED = "a link into an excluded table"
DANGLING = "a dangling reference"


def rows(header: str, *lines: str) -> list[dict[str, int | None]]:
    """Make rows of whole numbers; - is NULL."""
    values = ([None if word == "-" else int(word) for word in line.split()] for line in lines)
    return [dict(zip(header.split(), line, strict=True)) for line in values]


def link(text: str) -> Link:
    """Make a link from `child.column,column->parent.column,column=policy`."""
    ends, _, policy = text.partition("=")
    (child, columns), (parent, keys) = (end.split(".") for end in ends.split("->"))
    words = set(policy.split(",")) - {""}
    up = (words - {"stay"} or {"follow"}).pop()
    return Link(child, (*columns.split(","),), parent, (*keys.split(","),), "stay" not in words, up)


def answer(tables, links, *chosen: int, root: str = "run", **selection) -> str:
    """Spell the oracle's answer: owned rows, then + support rows, then what becomes NULL."""
    stated = tuple(map(link, links.split()))
    problem = Problem(tables, stated, root, frozenset(chosen), **selection)
    try:
        owned, support, nulled = solve(problem)
    except RefusedError as refusal:
        return str(refusal)
    words = [f"{table}{place}" for table, place in sorted(owned)]
    words += [f"+{table}{place}" for table, place in sorted(support)]
    return " ".join([*words, *(f"{table}{place}.{name}=NULL" for (table, place), name in sorted(nulled))])


LAB = {
    "run": rows("id model", "1 7", "2 7"),
    "model": rows("id maker", "7 4", "8 4"),
    "maker": rows("id", "4", "5"),
    "step": rows("id run", "11 1", "12 1", "21 2"),
    "image": rows("step", "11", "21"),
}
LAB_LINKS = "step.run->run.id image.step->step.id run.model->model.id{} model.maker->maker.id"


def test_roots_own_their_children_and_need_their_parents():
    links = LAB_LINKS.format("")
    assert answer(LAB, links, 0) == "image0 run0 step0 step1 +maker0 +model0"
    both = "image0 image1 run0 run1 step0 step1 step2 +maker0 +model0"
    assert answer(LAB, links, 0, 1) == both
    assert answer(LAB, links, 1, root="step") == "step1 +maker0 +model0 +run0"
    assert answer(LAB, links, 1, root="maker") == "maker1"


def test_stay_leads_up_but_not_down():
    links = LAB_LINKS.format("=stay")
    assert answer(LAB, links, 0, root="maker") == "maker0 model0 model1"
    assert answer(LAB, links, 0) == "image0 run0 step0 step1 +maker0 +model0"
    assert answer(LAB, LAB_LINKS.format("=stay,null"), 0) == "image0 run0 step0 step1 run0.model=NULL"


def test_a_row_needed_and_reached_downward_is_owned_with_its_children():
    tables = {
        "run": rows("id best", "1 11", "2 21"),
        "step": rows("id run", "11 1", "21 2"),
        "image": rows("step", "11", "21"),
    }
    links = "run.best->step.id=stay step.run->run.id image.step->step.id"
    assert answer(tables, links, 0) == "image0 run0 step0"


def test_a_chain_of_a_self_link_is_followed_to_its_end():
    chain = ["0 -", *(f"{number} {number - 1}" for number in range(1, 60))]
    tables = {"run": rows("id before", *chain)}
    whole = " ".join(sorted((f"run{number}" for number in range(60)), key=lambda name: int(name[3:])))
    assert answer(tables, "run.before->run.id", 0) == whole
    up = "run59 " + " ".join(f"+run{number}" for number in range(59))
    assert answer(tables, "run.before->run.id", 59) == up
    assert answer(tables, "run.before->run.id=refuse", 59) == REFUSE
    assert answer(tables, "run.before->run.id=refuse", *range(9, 60)) == REFUSE
    assert answer(tables, "run.before->run.id=refuse", 0) == whole


def test_a_cycle_of_tables_and_a_row_that_refers_to_itself():
    tables = {"run": rows("id head", "1 10", "2 20"), "head": rows("id run", "10 1", "20 2")}
    assert answer(tables, "run.head->head.id head.run->run.id", 0) == "head0 run0"
    assert answer(tables, "run.head->head.id=drop head.run->run.id=drop", 1) == "head1 run1"
    itself = {"run": rows("id self", "1 1", "2 1")}
    assert answer(itself, "run.self->run.id=stay,refuse", 0) == "run0"
    assert answer(itself, "run.self->run.id=stay,drop", 1) == ROOT


MARKS = {
    "run": rows("id", "1", "2"),
    "mark": rows("id run user next", "1 1 - -", "2 1 5 -", "3 2 - -", "4 1 6 2"),
    "tick": rows("mark", "1", "2", "4"),
    "user": rows("id run", "5 2", "6 1"),
}
MARK_LINKS = "mark.run->run.id tick.mark->mark.id user.run->run.id mark.user->user.id=stay,{} "


def test_drop_removes_a_row_without_an_owned_parent_and_what_only_it_brought():
    assert answer(MARKS, MARK_LINKS.format("drop"), 0) == "mark0 mark3 run0 tick0 tick2 user1"
    assert "mark1" in answer(MARKS, MARK_LINKS.format("drop"), 0, 1)


def test_drop_cascades():
    links = MARK_LINKS.format("drop") + "mark.next->mark.id=stay,drop"
    assert answer(MARKS, links, 0) == "mark0 run0 tick0 user1"


def test_drop_leaves_no_ring_that_only_holds_itself():
    tables = {
        "run": rows("id", "1"),
        "step": rows("id run before user", "1 1 2 9", "2 - 1 -", "3 1 - -"),
        "user": rows("id", "9"),
    }
    links = "step.run->run.id step.before->step.id step.user->user.id={}"
    assert answer(tables, links.format("drop"), 0) == "run0 step2"
    assert answer(tables, links.format("follow"), 0) == "run0 step0 step1 step2 +user0"


def test_drop_never_takes_a_root():
    tables = {"run": rows("id parent", "1 2", "2 -", "3 99", "4 -"), "tag": rows("run", "1")}
    links = "run.parent->run.id=stay,drop tag.run->run.id"
    assert answer(tables, links, 0) == ROOT
    assert answer(tables, links, 0, 1) == "run0 run1 tag0"
    assert answer(tables, links, 2) == ROOT
    assert answer(tables, links, 3) == "run3"


def test_a_dropped_row_that_something_needs_comes_as_support():
    tables = {
        "run": rows("id best", "1 11"),
        "step": rows("id run user", "11 1 9", "12 1 9"),
        "user": rows("id", "9"),
    }
    links = "run.best->step.id=stay step.run->run.id step.user->user.id=drop"
    assert answer(tables, links, 0) == SUPPORT
    assert answer(tables, links, 0, whole=frozenset(["user"])) == "run0 +step0 +user0"


def test_drop_on_a_support_row_is_refused_where_its_parent_is_missing():
    links = "step.run->run.id image.step->step.id run.model->model.id model.maker->maker.id=drop"
    assert answer(LAB, links, 0) == SUPPORT
    assert answer(LAB, links, 0, whole=frozenset(["maker"])) == (
        "image0 run0 step0 step1 +maker0 +maker1 +model0"
    )


def test_null_cuts_what_is_not_in_the_result_and_nothing_else():
    links = MARK_LINKS.format("null")
    cut = "mark0 mark1 mark3 run0 tick0 tick1 tick2 user1 mark1.user=NULL"
    assert answer(MARKS, links, 0) == cut
    kept = "mark0 mark1 mark3 run0 tick0 tick1 tick2 user1 +run1 +user0"
    assert answer(MARKS, links, 0, whole=frozenset(["user"])) == kept
    down = MARK_LINKS.format("null").replace("stay,", "")
    assert answer(MARKS, down, 1) == "mark1 mark2 run1 tick1 user0 +run0"


def test_null_reaches_support_rows_and_dangling_references_in_every_mode():
    tables = {
        "run": rows("id model", "1 7"),
        "model": rows("id maker", "7 4"),
        "maker": rows("id", "5"),
    }
    links = "run.model->model.id model.maker->maker.id=null"
    for violations in ("refuse", "keep", "drop"):
        assert answer(tables, links, 0, violations=violations) == "run0 +model0 model0.maker=NULL"
        assert answer(tables, links, 0, root="model", violations=violations) == (
            "model0 run0 model0.maker=NULL"
        )


def test_a_composite_link_is_one_reference_or_none():
    tables = {
        "run": rows("id", "1"),
        "pair": rows("x y", "1 1", "1 2", "2 1"),
        "step": rows("run p q", "1 1 2", "1 - 2", "1 1 -", "1 2 1"),
    }
    links = "step.run->run.id step.p,q->pair.x,y={}"
    reached = "run0 step0 step1 step2 step3"
    assert answer(tables, links.format("follow"), 0) == f"{reached} +pair1 +pair2"
    cut = "step0.p=NULL step0.q=NULL step3.p=NULL step3.q=NULL"
    assert answer(tables, links.format("null"), 0) == f"{reached} {cut}"
    assert answer(tables, links.format("drop"), 0) == "run0 step1 step2"
    assert answer(tables, "step.p,q->pair.y,x", 1, root="pair") == "pair1 step3"


def test_a_link_may_lead_to_a_unique_column_that_is_null_in_places():
    tables = {"run": rows("id code", "1 -", "2 50"), "step": rows("id code", "1 -", "2 50", "3 1")}
    assert answer(tables, "step.code->run.code", 1) == "run1 step1"
    assert answer(tables, "step.code->run.code", 0) == "run0"


def test_two_links_on_one_column_are_followed_each_for_itself():
    tables = {
        "run": rows("id", "1", "2"),
        "user": rows("id", "1", "3"),
        "step": rows("of", "1", "2"),
    }
    links = "step.of->run.id step.of->user.id={}"
    assert answer(tables, links.format(""), 0) == "run0 step0 +user0"
    assert answer(tables, links.format(""), 1) == DANGLING
    assert answer(tables, links.format("drop"), 0, 1) == "run0 run1"


def test_a_key_function_says_which_values_are_equal():
    tables = {"run": [{"id": "Ab"}], "step": [{"run": "aB"}, {"run": "ab "}]}
    ends = ("step", ("run",), "run", ("id",))
    folded = Link(*ends, key=lambda values: tuple(value.lower() for value in values))
    problem = Problem(tables, (folded,), "run", frozenset([0]))
    assert solve(problem)[0] == {("run", 0), ("step", 0)}
    assert solve(Problem(tables, (Link(*ends),), "run", frozenset([0])))[0] == {("run", 0)}


def test_refuse_allows_owned_parents_only():
    links = "step.run->run.id=refuse image.step->step.id run.model->model.id{} model.maker->maker.id"
    assert answer(LAB, links.format(""), 0) == "image0 run0 step0 step1 +maker0 +model0"
    assert answer(LAB, links.format("=refuse"), 0) == REFUSE
    assert answer(LAB, links.format("=refuse"), 0, whole=frozenset(["model"])) == REFUSE
    assert answer(LAB, links.format(""), 0, root="step") == REFUSE
    assert answer(LAB, links.format("=refuse"), 0, root="model") != REFUSE
    free = {**LAB, "run": rows("id model", "1 -", "2 7")}
    assert answer(free, links.format("=refuse"), 0) == "image0 run0 step0 step1"


def test_refuse_binds_support_rows_and_dangling_references_too():
    links = "run.model->model.id model.maker->maker.id=refuse"
    assert answer(LAB, links, 0) == REFUSE
    dangling = {"run": rows("id", "1"), "step": rows("run model", "1 9"), "model": rows("id", "1")}
    links = "step.run->run.id step.model->model.id=refuse"
    assert answer(dangling, links, 0, violations="keep") == REFUSE
    assert answer(dangling, links, 0, violations="drop") == "run0"


def test_whole_brings_all_rows_with_their_parents_but_not_their_children():
    tables = {**LAB, "model": rows("id maker", "7 4", "8 5")}
    links = LAB_LINKS.format("")
    found = "image0 run0 step0 step1 +maker0 +maker1 +model0 +model1"
    assert answer(tables, links, 0, whole=frozenset(["model"])) == found
    found = "image0 run0 step0 step1 +maker0 +model0 +run1"
    assert answer(tables, links, 0, whole=frozenset(["run"])) == found
    found = "step1 +maker0 +maker1 +model0 +run0"
    assert answer(tables, links, 1, root="step", whole=frozenset(["maker"])) == found


def test_exclude_keeps_a_table_out_and_what_comes_only_through_it():
    links = "step.run->run.id image.step->step.id run.model->model.id={} model.maker->maker.id"
    assert answer(LAB, links.format(""), 0, exclude=frozenset(["step"])) == "run0 +maker0 +model0"
    assert answer(LAB, links.format(""), 0, exclude=frozenset(["model"])) == EXCLUDED
    cut = "image0 run0 step0 step1 run0.model=NULL"
    assert answer(LAB, links.format("null"), 0, exclude=frozenset(["model"])) == cut
    assert answer(LAB, links.format("drop"), 0, exclude=frozenset(["model"])) == ROOT
    assert answer(LAB, links.format("refuse"), 0, exclude=frozenset(["model"])) == REFUSE
    assert answer(LAB, links.format(""), 0, exclude=frozenset(["maker"])) == EXCLUDED
    assert answer(LAB, links.format(""), 1, root="maker", exclude=frozenset(["model"])) == "maker1"


def test_exclude_drops_owned_rows_and_minds_no_reference_that_is_null():
    links = MARK_LINKS.format("drop")
    assert answer(MARKS, links, 0, exclude=frozenset(["user"])) == "mark0 run0 tick0"
    dangling = {"run": rows("id", "1"), "step": rows("run user", "1 9"), "user": rows("id", "1")}
    links = "step.run->run.id step.user->user.id"
    for violations, found in (("refuse", EXCLUDED), ("keep", EXCLUDED), ("drop", "run0")):
        without = frozenset(["user"])
        assert answer(dangling, links, 0, exclude=without, violations=violations) == found


def test_dangling_references_are_refused_kept_or_dropped():
    tables = {
        "run": rows("id model", "1 -", "2 9", "3 7"),
        "step": rows("id run user", "1 1 99", "2 1 5", "3 2 5"),
        "image": rows("step", "1", "2"),
        "user": rows("id", "5"),
        "model": rows("id maker", "7 44"),
        "maker": rows("id", "1"),
    }
    links = "step.run->run.id step.user->user.id image.step->step.id run.model->model.id"
    links += " model.maker->maker.id"

    def found(chosen: int, violations: str) -> str:
        return answer(tables, links, chosen, violations=violations)

    assert found(0, "refuse") == DANGLING
    assert found(0, "keep") == "image0 image1 run0 step0 step1 +user0"
    assert found(0, "drop") == "image1 run0 step1 +user0"
    assert [found(1, mode) for mode in ("refuse", "drop")] == [DANGLING, ROOT]
    assert found(1, "keep") == "run1 step2 +user0"
    assert [found(2, mode) for mode in ("refuse", "drop")] == [DANGLING, DANGLING]
    assert found(2, "keep") == "run2 +model0"


def test_a_dangling_reference_outside_the_result_is_no_matter():
    tables = {"run": rows("id model", "1 -", "2 9"), "model": rows("id", "7")}
    assert answer(tables, "run.model->model.id", 0) == "run0"


# --- drawn cases ----------------------------------------------------------------------------------

drawn = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("drawn") / "case.db"


def created(path, case):
    path.unlink(missing_ok=True)
    case.create(path)
    return closing(sqlite3.connect(path))


@drawn
@given(case=cases())
def test_a_drawn_case_is_a_sound_database_that_holds_keys_and_links_as_drawn(path, case):
    with created(path, case) as connection:
        found = {line for (line,) in connection.execute("PRAGMA integrity_check")}
    # SQLite 3.40 sees NULL where there is none: WITHOUT ROWID, a NOT NULL column before the key's
    assert {line for line in found if not line.startswith("NULL value in ")} <= {"ok"}
    held = stored_rows(path, case.tables)
    for table in case.tables:
        columns = {column.name for key in table.keys for column in key.columns} | {"n"}
        columns |= {column.name for link in case.links if link.child is table for column in link.columns}
        told = [{name: storage(row[name]) for name in columns} for row in table.rows]
        assert by_n([{name: row[name] for name in columns} for row in held[table.name]]) == by_n(told)


def storage(value):
    return ("RawText", value.encode()) if isinstance(value, str) else (type(value).__name__, value)


def by_n(rows):
    return sorted(rows, key=lambda row: row["n"])


@drawn
@given(case=cases())
def test_oracle_and_sqlite_find_the_same_dangling_references(path, case):
    """What a link's values are equal to is SQLite's own view: affinity, collation, NULL."""
    declared = {link.stated() for link in case.links if not link.virtual}
    told = Counter(
        (link.child, link.child_columns, fold(link.parent))
        for _, link, parent in references(case.problem())
        if parent is None and link in declared
    )
    with created(path, case) as connection:
        ends = {}
        for table in case.tables:
            for number, _, parent, column, *_ in connection.execute(
                f"PRAGMA foreign_key_list({quote(table.name)})"
            ):
                ends.setdefault((table.name, number), [fold(parent)]).append(column)
        found = Counter(
            (child, tuple(ends[child, number][1:]), fold(parent))
            for child, _, parent, number in connection.execute("PRAGMA foreign_key_check")
        )
    assert found == told


@drawn
@given(case=cases())
def test_a_drawn_selection_is_no_usage_error(case):
    problem, words = case.problem(), case.selection()
    assert problem.chosen
    assert problem.root not in problem.exclude
    assert not problem.exclude & problem.whole
    assert len({"roots", "where", "all_roots"} & words.keys()) == 1
    uses = Counter((link.child, name) for link in problem.links for name in link.child_columns)
    for link in case.links:
        if link.up == "null":
            assert all(uses[link.child.name, column.name] == 1 for column in link.columns)
            assert not any(column.not_null or column.in_key for column in link.columns)


def test_drawn_cases_of_a_server_hold_their_rows_and_dangle_as_the_oracle_says(engine):
    """What a link's values are equal to is PostgreSQL's own view: types, collations, NULL."""
    drafting = partial(PostgreSQLDraft, icu="icu" in engine.features, version=engine.server.version)

    @settings(drawn, max_examples=15, phases=(Phase.explicit, Phase.generate))
    @given(case=cases(drafting))
    def check(case):
        source = engine.source(case.script_of_all(), own=True)
        held = strategies_postgresql.stored_rows(engine.session(source), case.tables)
        for table in case.tables:
            names = [column.name for column in table.columns if column.kind]
            told = [{name: row[name] for name in ("n", *names)} for row in table.rows]
            found = [{name: row[name][1] for name in ("n", *names)} for row in held[table.name]]
            assert by_n(found) == by_n(told)
        declared = {link.stated() for link in case.links if not link.virtual}
        lost = [link for _, link, parent in references(case.problem()) if parent is None and link in declared]
        assert engine.dangling(source) == len(lost)

    check()
