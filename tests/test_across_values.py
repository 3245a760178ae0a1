"""The matrix of values (conversion_values), on real servers and in both directions."""

import pytest

import panicdb
from conversion_values import BACK, NO_WAY_BACK, NO_WAY_THERE, THERE
from crossings import Made, make_server, make_sqlite, read_server, read_sqlite, write_history
from panicdb import crossing
from panicdb.errors import HistoryError, SourceError
from panicdb.reports import Verdict


@pytest.fixture(autouse=True)
def list_everything(monkeypatch):
    monkeypatch.setattr(crossing, "LISTED", 1_000)


def made_there(cases):
    return [Made(f"t{n}", ((case.sqlite, case.server),), [(case.value,)]) for n, case in enumerate(cases)]


def made_back(cases):
    return [Made(f"t{n}", ((case.sqlite, case.server),), [(case.text,)]) for n, case in enumerate(cases)]


def test_what_fits_arrives_and_losses_are_counted(postgres, make_pg, tmp_path):
    cases = [case for case in THERE if case.refused is None]
    tables = made_there(cases)
    ini, source = write_history(tmp_path / "app", tables), make_sqlite(tmp_path / "source.db", tables)
    receipt = panicdb.clone(source, postgres.url("there"), config=[str(ini)], verify=True)
    expected = {f"t{n}.c0": {case.loss: 1} for n, case in enumerate(cases) if case.loss}
    assert receipt.losses == expected
    arrived = {n: read_server(postgres, "there", table)[0][0] for n, table in enumerate(tables)}
    assert {n: (cases[n], text) for n, text in arrived.items() if text != cases[n].told} == {}
    report = panicdb.verify(source, postgres.url("there"))
    assert report.verdict is Verdict.EQUIVALENT
    assert report.losses == expected
    assert panicdb.verify(source, postgres.url("there"), strict=True).verdict is Verdict.DIFFERENT


def test_what_does_not_fit_is_listed_with_its_reason_and_nothing_is_written(postgres, make_pg, tmp_path):
    cases = [case for case in THERE if case.refused is not None]
    tables = made_there(cases)
    ini, source = write_history(tmp_path / "app", tables), make_sqlite(tmp_path / "source.db", tables)
    with pytest.raises(SourceError) as refused:
        panicdb.clone(source, postgres.url("there"), config=[str(ini)])
    listed = {line.strip() for line in refused.value.message.splitlines()[1:]}
    assert listed == {f"t{n}.c0: 1 rows: {case.refused}" for n, case in enumerate(cases)}
    assert postgres.execute("SELECT count(*) FROM pg_database WHERE datname ~ '^there'") == [(0,)]


def test_what_fits_comes_back_and_losses_are_counted(postgres, make_pg, tmp_path):
    cases = [case for case in BACK if case.refused is None and supported(postgres, case)]
    tables = made_back(cases)
    ini, target = write_history(tmp_path / "app", tables), tmp_path / "back.db"
    source = make_server(postgres, "back", tables)
    receipt = panicdb.clone(source, str(target), config=[str(ini)], verify=True)
    expected = {f"t{n}.c0": {case.loss: 1} for n, case in enumerate(cases) if case.loss}
    assert receipt.losses == expected
    arrived = {n: read_sqlite(target, table)[0][0] for n, table in enumerate(tables)}
    assert {
        n: (cases[n], value) for n, value in arrived.items() if repr(value) != repr(cases[n].stored)
    } == {}
    report = panicdb.verify(source, str(target))
    assert report.verdict is Verdict.EQUIVALENT
    assert report.losses == expected


def test_what_does_not_fit_back_is_listed_with_its_reason_and_nothing_is_written(postgres, make_pg, tmp_path):
    cases = [case for case in BACK if case.refused is not None and supported(postgres, case)]
    tables = made_back(cases)
    ini, target = write_history(tmp_path / "app", tables), tmp_path / "back.db"
    source = make_server(postgres, "back", tables)
    with pytest.raises(SourceError) as refused:
        panicdb.clone(source, str(target), config=[str(ini)])
    listed = {line.strip() for line in refused.value.message.splitlines()[1:]}
    assert listed == {f"t{n}.c0: 1 rows: {case.refused}" for n, case in enumerate(cases)}
    assert not target.exists()


def supported(server, case):
    """Intervals without end came with version 17."""
    return server.version >= 17 or (case.server, case.text) != ("interval", "infinity")


def test_pairs_of_types_without_a_way_are_refused(postgres, make_pg, tmp_path):
    there = [Made(f"t{n}", (pair,), []) for n, pair in enumerate(NO_WAY_THERE)]
    ini, source = write_history(tmp_path / "app", there), make_sqlite(tmp_path / "source.db", there)
    with pytest.raises(
        HistoryError, match="would not fit into what its migrations build on postgresql"
    ) as refused:
        panicdb.clone(source, postgres.url("there"), config=[str(ini)])
    for table in there:
        assert f"column {table.name}.c0: type is" in refused.value.message
    assert refused.value.hint.endswith("made is filled as it stands, once it holds no rows")
    back = [Made(f"t{n}", (pair[::-1],), []) for n, pair in enumerate(NO_WAY_BACK)]
    ini, source = write_history(tmp_path / "app2", back), make_server(postgres, "back", back)
    with pytest.raises(
        HistoryError, match="would not fit into what its migrations build on sqlite"
    ) as refused:
        panicdb.clone(source, str(tmp_path / "back.db"), config=[str(ini)])
    for table in back:
        assert f"column {table.name}.c0: type is" in refused.value.message
    assert "filled" not in refused.value.hint
