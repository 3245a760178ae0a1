"""Random databases and selections: what is exported is what the oracle says, or nothing is."""

import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings

import panicdb
import strategies_postgresql
from oracle import RefusedError as OracleRefusedError
from oracle import references, solve
from panicdb.errors import RefusedError
from seeds import campaign_of, part_of_campaign
from strategies import cases, stored_rows
from strategies_postgresql import PostgreSQLDraft

PROVE_CASES = campaign_of(10_000)
PROVE_SERVER_CASES = campaign_of(200)
PARTS, SERVER_PARTS = 10, 3
"""The long campaign runs in parts, so that two processes share it."""


@pytest.mark.parametrize("part", range(2))
def test_random_exports_equal_the_oracle(part, tmp_path, record_property):
    """500 cases, each exported twice."""
    campaign(f"{part} of few", 250, tmp_path, record_property, twice=1)


@pytest.mark.prove
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.fault(21, 36)
def test_random_exports_equal_the_oracle_in_a_long_campaign(part, tmp_path, record_property):
    """10,000 cases, with roots forwards or backwards, every fifth exported both ways."""
    campaign(part, PROVE_CASES // PARTS, tmp_path, record_property, twice=5)


def campaign(part, number, folder, record, *, twice):
    """Check so many cases, every `twice`-th of them with two exports, and record what they covered."""
    seen = Counter()
    memory = Path("/dev/shm")

    @settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=cases())
    def check(case):
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        seen["cases"] += 1
        for feature in check_case(case, place, seen["cases"] % 2 == 0, twice=seen["cases"] % twice == 0):
            seen[feature] += 1
            event(feature)

    # Thousands of tiny files, each synced several times: in memory where there is such a place.
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else folder) as name:
        folder = Path(name)
        try:
            part_of_campaign(part, check)()
        finally:
            record("coverage", dict(seen))


def check_case(case, place, backwards, *, twice):
    """Export one case and compare; return what it had to show."""
    source, target = place / "source.db", place / "target.db"
    case.create(source)
    before, held = source.read_bytes(), stored_rows(source, case.tables)
    problem = case.problem()
    try:
        owned, support, nulled = solve(problem)
    except OracleRefusedError as refusal:
        for verb, paths in ((panicdb.plan, (source,)), (panicdb.export, (source, target))):
            with pytest.raises(RefusedError):
                call(verb, paths, case.selection())
        found = [f"refused: {refusal}"]
        left = {source.name}
    else:
        call(panicdb.export, (source, target), case.selection(backwards=backwards), receipt=False)
        expected = expected_rows(case, held, owned | support, nulled)
        exported = stored_rows(target, case.tables)
        assert as_multisets(exported) == as_multisets(expected)
        assert dangling(case, exported) <= dangling(case, held, kept=problem.violations == "keep")
        found = ["exported", *effects(problem, owned, support, nulled)]
        left = {source.name, target.name}
        if twice:
            again = place / "again.db"
            call(panicdb.export, (source, again), case.selection(backwards=not backwards), receipt=False)
            assert as_multisets(stored_rows(again, case.tables)) == as_multisets(exported)
            found.append("exported again, roots the other way round")
            left.add(again.name)
    assert {path.name for path in place.iterdir()} == left
    assert source.read_bytes() == before
    return found + features(case)


# --- on servers -----------------------------------------------------------------------------------


def test_random_exports_between_servers_equal_the_oracle(engine, record_property):
    """10 cases on each server, one of them exported twice."""
    campaign_on_servers(f"{engine.server.name}, few", 10, engine, record_property, twice=10)


@pytest.mark.prove
@pytest.mark.parametrize("part", range(SERVER_PARTS))
@pytest.mark.fault(21, 36)
def test_random_exports_between_servers_equal_the_oracle_in_a_long_campaign(part, engine, record_property):
    """200 cases, every tenth exported twice."""
    number = engine.share(PROVE_SERVER_CASES // SERVER_PARTS)
    campaign_on_servers(f"{engine.server.name}, {part}", number, engine, record_property, twice=10)


def campaign_on_servers(part, number, engine, record, *, twice):
    """Check so many cases as in `campaign`, and verify what was exported."""
    seen = Counter()
    drafting = partial(PostgreSQLDraft, icu="icu" in engine.features, version=engine.server.version)

    @settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes
    )
    @given(case=cases(drafting))
    def check(case):
        seen["cases"] += 1
        for feature in check_case_on_server(
            case, engine, seen["cases"] % 2 == 0, twice=seen["cases"] % twice == 0
        ):
            seen[feature] += 1
            event(feature)

    try:
        part_of_campaign(part, check)()
    finally:
        record("coverage", {f"between servers: {what}": times for what, times in seen.items()})
    assert seen["exported"] >= number / 2


def check_case_on_server(case, engine, backwards, *, twice):
    """Export one case and compare; return what it had to show."""
    engine.tidy()  # of a case that failed
    source, target = engine.source(case.script_of_all(), own=True), engine.target()
    before, held = engine.fingerprint(source), held_by(engine, source, case)
    try:
        owned, support, nulled = solve(case.problem())
    except OracleRefusedError as refusal:
        for verb, paths in ((panicdb.plan, (source,)), (panicdb.export, (source, target))):
            with pytest.raises(RefusedError):
                call(verb, paths, case.selection())
        found = [f"refused: {refusal}"]
        assert engine.litter() == set()
    else:
        call(panicdb.export, (source, target), case.selection(backwards=backwards), receipt=False)
        exported = held_by(engine, target, case)
        assert as_multisets(exported) == as_multisets(expected_rows(case, held, owned | support, nulled))
        assert engine.complaints(target) == []
        kept = case.violations == "keep"
        assert dangling(case, exported) <= dangling(case, held, kept=kept)
        assert kept or engine.dangling(target) == 0
        report = call(panicdb.verify, (source, target), case.selection())
        assert report.findings == ()
        assert report.ok
        found = ["exported", "verified", *effects(case.problem(), owned, support, nulled)]
        if twice:
            engine.remove(target)
            call(panicdb.export, (source, target), case.selection(backwards=not backwards), receipt=False)
            assert as_multisets(held_by(engine, target, case)) == as_multisets(exported)
            found.append("exported again, roots the other way round")
        engine.remove(target)
        assert engine.litter() == set()
    assert engine.fingerprint(source) == before
    return found + features(case) + features_of_server(case)


def held_by(engine, place, case):
    return strategies_postgresql.stored_rows(engine.session(place), case.tables)


def features_of_server(case):
    """Name what only PostgreSQL has of what the case has."""
    columns = [column for table in case.tables for column in table.columns]
    return [
        *["several schemas"] * (len({table.schema for table in case.tables}) > 1),
        *["partitions"] * any(table.partitions for table in case.tables),
        *["identity"] * any(table.counted for table in case.tables),
        *["generated column"] * any(column.generated for column in columns),
        *(f"{name} keys" for name in ("char", "nocase") if any(column.collate == name for column in columns)),
        *["a foreign key that is not valid"] * any("NOT VALID" in each for each in case.statements()),
    ]


# --- both -----------------------------------------------------------------------------------------


def call(verb, paths, selection, **more):
    return verb(*map(str, paths), **selection, **more)


def expected_rows(case, held, result, nulled):
    """Take the rows of the result from what the source holds, NULL where the oracle says so."""
    expected = {}
    for table in case.tables:
        by_number = {row["n"]: row for row in held[table.name]}
        expected[table.name] = [
            {
                name: ("NoneType", None) if ((table.name, place), name) in nulled else value
                for name, value in by_number["int", row["n"]].items()
            }
            for place, row in enumerate(table.rows)
            if (table.name, place) in result
        ]
    return expected


def as_multisets(rows):
    return {table: Counter(map(repr, found)) for table, found in rows.items()}


def dangling(case, rows, *, kept=True):
    """Find the references that lead nowhere, as (child's number, link)."""
    found = set()
    for number, link in enumerate(case.links if kept else ()):
        parents = {key for _, key in referring(link, link.parent, link.key, rows)}
        children = referring(link, link.child, link.columns, rows)
        found |= {(place, number) for place, key in children if key not in parents}
    return found


def referring(link, table, columns, rows):
    """List (number of the row, key) where no part of the key is NULL."""
    for row in rows[table.name]:
        values = [row[column.name] for column in columns]
        if ("NoneType", None) not in values:
            yield row["n"], link.comparable(tuple(map(plain, values)))


def plain(value):
    kind, content = value
    return content.decode() if kind == "RawText" else content


def effects(problem, owned, support, nulled):
    """Name the rules that made a difference."""
    refs = [(link, parent) for row, link, parent in references(problem) if row in owned | support]
    by_itself = {link.up for link, parent in refs if parent in owned}
    rows = len(owned) + len(support)
    return [
        f"rows: {'1' if rows == 1 else '2 to 5' if rows < 6 else '6 or more'}",
        *["support rows"] * bool(support),
        *["columns set NULL"] * bool(nulled),
        *["dangling references kept"] * any(link.up == "follow" and not to for link, to in refs),
        *(f"{up} with an owned parent" for up in by_itself if up != "follow"),
    ]


def features(case):
    """Name what the case has."""
    links = case.links
    policies = {link.up for link in links} | {"stay" for link in links if not link.down}
    odd = [table for table in case.tables if not (table.keys and table.keys[0].primary)]
    return [
        f"roots by {case.by}",
        f"tables: {len(case.tables)}",
        *(f"policy {policy}" for policy in sorted(policies)),
        *["exclude"] * bool(case.exclude),
        *["whole"] * bool(case.whole),
        *["virtual link"] * any(link.virtual for link in links),
        *["self link"] * any(link.child is link.parent for link in links),
        *["composite link"] * any(len(link.columns) > 1 for link in links),
        *["no primary key"] * bool(odd),
        *["without rowid"] * any(table.without_rowid for table in case.tables),
        *["strict"] * any(table.strict for table in case.tables),
    ]
