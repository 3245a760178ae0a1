"""Whatever was done to a verified target, the right check finds it: by the source, and by a sealed receipt alone."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import panicdb
from mutants import MUTANTS, SOURCE


@pytest.fixture(scope="module")
def verified(tmp_path_factory) -> tuple[Path, Path]:
    """A source and its sealed clone."""
    folder = tmp_path_factory.mktemp("mutants")
    with closing(sqlite3.connect(folder / "source.db")) as connection:
        connection.executescript(SOURCE)
    panicdb.clone(str(folder / "source.db"), str(folder / "target.db"), seal=True)
    assert panicdb.verify(str(folder / "source.db"), str(folder / "target.db")).ok
    return folder / "source.db", folder / "target.db"


def failed(report: panicdb.Report) -> set[str]:
    return {check.name for check in report.checks if check.status == "FAIL"}


def test_there_are_many_kinds():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 60


@pytest.fixture
def mutated(verified, tmp_path):
    """Damage a copy of the target; there is no receipt beside it."""

    def mutate(mutant) -> Path:
        copy = tmp_path / "target.db"
        shutil.copy(verified[1], copy)
        before = copy.read_bytes()
        with closing(sqlite3.connect(copy)) as connection:
            connection.executescript(mutant.sql)
        assert copy.read_bytes() != before, "the mutant is none"
        return copy

    return mutate


@pytest.mark.fault(33)
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_every_mutant_is_caught_by_the_right_check(verified, mutated, mutant):
    source, _ = verified
    assert mutant.check in failed(panicdb.verify(str(source), str(mutated(mutant))))


def by_check():
    """One mutant of each check for `make test`, all for `make prove`."""
    first = {mutant.check: mutant for mutant in reversed(MUTANTS)}.values()
    return [
        pytest.param(mutant, id=str(mutant), marks=[pytest.mark.prove] * (mutant not in first))
        for mutant in MUTANTS
    ]


@pytest.mark.fault(33)
@pytest.mark.parametrize("mutant", by_check())
def test_every_mutant_is_caught_by_the_right_check_with_a_sealed_receipt(verified, mutated, mutant):
    source, target = verified
    copy = mutated(mutant)
    receipt = shutil.copy(f"{target}.receipt.json", copy.parent)
    by_both = panicdb.verify(str(source), str(copy))
    assert mutant.check in failed(by_both)
    assert by_both.since is not None
    assert by_both.since.target
    assert not by_both.since.source
    assert mutant.check in failed(panicdb.verify(str(receipt), str(copy)))


@pytest.mark.fault(33)
def test_what_is_stored_identically_is_no_difference(verified, tmp_path):
    source, target = verified
    copy = tmp_path / "target.db"
    shutil.copy(target, copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.executescript(
            "UPDATE run SET score = -0.0 WHERE id = 'b1'; UPDATE run SET score = 0.0 - 1.0 WHERE id = 'b1'; VACUUM;"
            "UPDATE run SET amount = 10.0 WHERE id = 'a1'; UPDATE lab SET note = note; ANALYZE; REINDEX;"
            "UPDATE setting SET value = 'no' WHERE name = 'touched'"
        )
    assert panicdb.verify(str(source), str(copy)).ok
