"""Databases at random revisions of random graphs are built anew, in one upgrade, with the same version rows and tables.

Alembic has one fault that such graphs meet: a merge that names, beside its parents, a revision that one of them needs
anyway can't always be run. It looks for a version row of that revision, which the parent's row replaced, and ends with
a KeyError (`HeadMaintainer` in alembic/runtime/migration.py). Whether it does depends on what is there already: there
are databases that an application came to step by step, and that no single upgrade leads to.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

import alembics
import graphs
import panicdb
import seeds
from alembics import Alembic
from graphs import Graph, Node, Source
from panicdb.errors import HistoryError

PARTS, CASES = 4, 5
PROVE_PARTS, PROVE_CASES = 10, 30
UNTIDY = 0.2
FEATURES = {"several bases", "branches", "merges", "dependencies", "labels", "several rows", "redundant rows"}


@pytest.fixture(scope="module")
def alembic() -> Iterator[Alembic]:
    with alembics.served() as server:
        yield server


def rebuild(ini: Path, source: Path, made: Path) -> None:
    """Clone a database by its migrations alone, so that nothing but them can have made what is there."""
    panicdb.clone(str(source), str(made), config=[str(ini)], schema="migrations")


@dataclass(frozen=True)
class Case:
    graph: Graph
    ini: Path
    source: Source
    tidy: bool


def draw_case(draw: random.Random, folder: Path, alembic: Alembic, seen: Counter) -> Case:
    """Draw until Alembic can make the source: all but its own fault is a failure."""
    for number in count():
        tidy = draw.random() >= UNTIDY
        graph = graphs.draw_graph(draw, tidy=tidy)
        ini = graphs.write_graph(graph, folder / str(number), draw)
        try:
            source = graphs.make_source(graph, ini, folder / f"{number}.db", draw, alembic)
        except alembics.RefusedError as error:
            if tidy or not str(error).startswith("KeyError"):
                raise
            seen["no source: Alembic's own fault"] += 1
        else:
            return Case(graph, ini, source, tidy)
    raise AssertionError


def campaign(part: str, number: int, folder: Path, alembic: Alembic) -> Counter:
    seen = Counter[str]()
    for each in range(number):
        place = folder / str(each)
        place.mkdir()
        case = draw_case(random.Random(f"{seeds.SEED}, part {part}, case {each}"), place, alembic, seen)
        seen.update(features(case))
        made = place / "made.db"
        try:
            rebuild(case.ini, case.source.path, made)
        except HistoryError as error:
            if case.tidy:
                raise
            check_it_is_alembics_fault(case, place / "alembics.db", alembic, error)
            seen["not rebuilt: Alembic's own fault"] += 1
            continue
        assert (graphs.version_rows(made), graphs.tables(made)) == (case.source.rows, case.source.tables)
        seen["rebuilt"] += 1
    return seen


def features(case: Case) -> Iterator[str]:
    yield from case.graph.features
    present = {
        "several rows": len(case.source.rows - case.source.redundant) > 1,
        "redundant rows": bool(case.source.redundant),
        "an untidy graph": not case.tidy,
    }
    yield from (feature for feature, there in present.items() if there)


def check_it_is_alembics_fault(case: Case, path: Path, alembic: Alembic, error: HistoryError) -> None:
    """Alembic, asked for the same without us, says the same."""
    with pytest.raises(alembics.RefusedError, match=r"^KeyError") as refused:
        alembic.upgrade(case.ini, path, [sorted(case.source.rows - case.source.redundant)])
    assert str(refused.value) in error.message


@pytest.mark.parametrize("part", range(PARTS))
def test_random_graphs_are_rebuilt_with_identical_version_rows(part, tmp_path, alembic, record_property):
    seen = campaign(f"short {part}", CASES, tmp_path, alembic)
    record_property("coverage", dict(seen))
    assert seen["rebuilt"] >= CASES - 1


@pytest.mark.prove
@pytest.mark.parametrize("part", range(PROVE_PARTS))
def test_random_graphs_are_rebuilt_with_identical_version_rows_in_a_long_campaign(
    part, tmp_path, alembic, record_property
):
    """300 sources over all parts."""
    seen = campaign(f"long {part}", PROVE_CASES, tmp_path, alembic)
    record_property("coverage", dict(seen))
    assert set(seen) >= FEATURES
    assert seen["rebuilt"] >= PROVE_CASES - 2


def line(revision: str, *down: str, depends: tuple[str, ...] = ()) -> Node:
    return Node(revision, down, depends, ())


# The merge depends on the first revision, which `left` follows: that is the untidy part.
UNTIDY_MERGE = Graph((
    line("first"),
    line("left", "first"),
    line("right"),
    line("merge", "left", "right", depends=("first",)),
    line("beyond", "left"),
))  # fmt: skip


def test_the_graph_that_alembic_fails_in_is_told_with_its_error(tmp_path, alembic):
    """Step by step Alembic comes to where one upgrade does not lead; we neither hide that nor build something else."""
    ini = graphs.write_graph(UNTIDY_MERGE, tmp_path / "history", random.Random(1))
    path = tmp_path / "source.db"
    alembic.upgrade(ini, path, ["beyond", "merge"])
    assert graphs.version_rows(path) == {"beyond", "merge"}
    source = Source(path, graphs.version_rows(path), graphs.tables(path), frozenset())
    with pytest.raises(HistoryError, match="KeyError: 'first'") as failure:
        rebuild(ini, path, tmp_path / "made.db")
    check_it_is_alembics_fault(
        Case(UNTIDY_MERGE, ini, source, tidy=False), tmp_path / "other.db", alembic, failure.value
    )


def test_rows_that_another_one_stands_for_come_back(tmp_path, alembic):
    """Alembic refuses such rows as goals; an old bug of its downgrade leaves them behind."""
    graph = Graph((line("first"), line("left", "first"), line("right", "first", depends=("left",))))
    ini = graphs.write_graph(graph, tmp_path / "history", random.Random(0))
    path = tmp_path / "source.db"
    alembic.upgrade(ini, path, ["right"])
    assert graphs.version_rows(path) == {"right"}
    graphs.add_rows(path, ["first", "left"])
    with pytest.raises(alembics.RefusedError, match="overlaps with other requested revisions"):
        alembic.upgrade(ini, tmp_path / "other.db", [["right", "first", "left"]])
    made = tmp_path / "made.db"
    rebuild(ini, path, made)
    assert graphs.version_rows(made) == {"first", "left", "right"}
    assert graphs.tables(made) == {"first", "left", "right"}
