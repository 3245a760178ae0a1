"""Whatever was done to a verified target, the right check finds it: by the source, and by a sealed receipt alone."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import mutants_postgresql
import panicdb
from mutants import MUTANTS, SOURCE
from panicdb.reports import ALL_CHECKS


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


def by_check(mutants=MUTANTS):
    """One mutant of each check for `make test`, all for `make prove`."""
    first = {mutant.check: mutant for mutant in reversed(mutants)}.values()
    return [
        pytest.param(mutant, id=str(mutant), marks=[pytest.mark.prove] * (mutant not in first))
        for mutant in mutants
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


# --- on servers -----------------------------------------------------------------------------------


@pytest.fixture
def clones(engine, tmp_path_factory):
    """An engine, a source on it, its sealed clone, and the clone's receipt, made once for each server."""
    source, target = engine.source(mutants_postgresql.SOURCE, own=True), engine.another("cloned")
    receipt = tmp_path_factory.getbasetemp() / f"{engine.server.name}.receipt.json"
    if engine.keep(target):
        receipt.unlink(missing_ok=True)
        panicdb.clone(source, target, seal=True, receipt=str(receipt))
        assert panicdb.verify(source, target, receipt=str(receipt)).findings == ()
    return engine, source, target, receipt


def damaged(engine, target, sql):
    """Damage a copy of the target."""
    copy = engine.target()
    engine.remove(copy)
    engine.create(copy, like=target)
    # One by one: some may not run together with others.
    for statement in sql if isinstance(sql, tuple) else (sql,):
        engine.session(copy).execute(statement)
    engine.leave(copy)
    return copy


def require_found(report, mutant):
    found = {(finding.check, finding.code) for finding in report.findings}
    assert (mutant.check, mutant.code) in found, report.findings
    assert mutant.check in failed(report)


def on_servers():
    """For `make test` every fourth kind, and one in eight of what is done to schemas, which has tests of its own."""
    kinds = mutants_postgresql
    others = [mutant for mutant in kinds.MUTANTS if mutant not in kinds.SCHEMA]
    sample = [*others[::4], *kinds.SCHEMA[::8]]
    return [
        pytest.param(mutant, id=str(mutant), marks=[pytest.mark.prove] * (mutant not in sample))
        for mutant in kinds.MUTANTS
    ]


def test_there_are_many_kinds_on_servers_too():
    mutants = mutants_postgresql.MUTANTS
    assert len({mutant.name for mutant in mutants}) == len(mutants) >= 120
    assert {mutant.check for mutant in mutants} == {*ALL_CHECKS}


@pytest.mark.fault(33)
@pytest.mark.parametrize("mutant", on_servers())
def test_every_mutant_on_a_server_is_caught_by_the_right_check(clones, mutant):
    engine, source, target, _ = clones
    require_found(panicdb.verify(source, damaged(engine, target, mutant.sql)), mutant)


@pytest.mark.fault(33)
@pytest.mark.parametrize("mutant", by_check(mutants_postgresql.MUTANTS))
def test_every_mutant_on_a_server_is_caught_with_a_sealed_receipt(clones, mutant):
    engine, source, target, receipt = clones
    copy = damaged(engine, target, mutant.sql)
    by_both = panicdb.verify(source, copy, receipt=str(receipt))
    assert mutant.check in failed(by_both)
    assert by_both.since is not None
    # The seal has no word on what the server says of itself.
    assert by_both.since.target or mutant.check == "integrity"
    assert not by_both.since.source
    # Which links there are is not in the receipt: a foreign key that is gone is one of the schema's.
    gone = mutant.check == "foreign keys" and "DROP" in mutant.sql
    assert failed(panicdb.verify(str(receipt), copy)) & {mutant.check, *["schema"] * gone}


@pytest.mark.fault(33)
def test_what_counts_as_the_same_on_a_server_is_no_difference(clones):
    engine, source, target, _ = clones
    copy = damaged(engine, target, tuple(mutants_postgresql.HARMLESS.split(";")))
    report = panicdb.verify(source, copy)
    assert report.findings == ()
    assert report.ok
