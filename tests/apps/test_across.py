"""Real applications move from a file to a server, see there what they saw before, go on writing, and come back."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apps.applications import PANICDB, SECONDS, Application, column, count_rows, look_at_source, panicdb
from servers import Server

pytestmark = [pytest.mark.prove, pytest.mark.apps]

REFUSED = 3
NOT_INDEXED = (
    "semantic: table spans: index is trace_id, start_time_unix_nano in the source, "
    "(absent) in what its migrations build"
)
"""On PostgreSQL MLflow's revision 75868b020152 makes this one over some of the rows only, so it is none for all."""
NO_HEARTBEATS = "blocking: table trial_heartbeats: missing in what its migrations build"

DRIFT = "hint: `panicdb drift` tells whether the source is what its migrations build on its own engine"


@dataclass(frozen=True)
class Moved:
    """A database on a server."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        """The address as panicdb takes it."""
        return self.server.url(self.name)

    @property
    def own(self) -> str:
        """The address as an application takes it, which has another driver than SQLAlchemy expects."""
        return self.url.replace("postgresql:", "postgresql+psycopg2:")

    def copy(self, name: str) -> "Moved":
        """Copy it on the server."""
        self.server.execute(f"CREATE DATABASE {name} TEMPLATE {self.name}")
        return Moved(self.server, name)


def files(*counts: int) -> list[str]:
    """Spell what is said of rows that name files: of experiments, runs, models, model versions and traces."""
    columns = (
        "experiments.artifact_location",
        "runs.artifact_uri",
        "logged_models.artifact_location",
        "model_versions.storage_location,source",
        "trace_tags.value",
    )
    return [
        f"{count} rows of {column} name files, which stay where they are"
        for column, count in zip(columns, counts, strict=True)
    ]


def move(*arguments: str | Path, application: Application, folder: Path) -> dict[str, Any]:
    """Clone or export with the application's own migrations; return the receipt."""
    said = panicdb(*arguments, "--python", application.python, "--json", folder=folder)
    return json.loads(said)


def prove(source: str | Path, target: str | Path, folder: Path) -> dict[str, Any]:
    """Verify with panicdb, which has to find nothing; return the report."""
    report = json.loads(panicdb("verify", source, target, "--json", folder=folder))
    assert report["findings"] == []
    return report


def refuse(*arguments: str | Path, folder: Path) -> str:
    """Let panicdb refuse; return what it said."""
    command = [str(PANICDB), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == REFUSED, done.stdout + done.stderr
    return done.stderr


def figures(title: str, receipt: dict[str, Any], report: dict[str, Any]) -> str:
    """Say in one line how many rows moved, what was lost of them, and the verdict."""
    rows = sum(table["rows"] for table in receipt["tables"])
    return f"{title}: {rows} rows in {len(receipt['tables'])} tables, lost {receipt['losses']}: {report['verdict']}"


# MLflow


@pytest.fixture(scope="module")
def tracking(mlflow, postgres, tmp_path_factory) -> Iterator[Moved]:
    """MLflow's database, cloned to a server. Not to be written to."""
    folder, moved = tmp_path_factory.mktemp("tracking"), Moved(postgres, "tracking")
    with postgres.tidying():
        receipt = move("clone", mlflow.database, moved.url, application=mlflow, folder=folder)
        built = receipt["schema"]
        assert (built["method"], built["differences"]) == ("migrations", [NOT_INDEXED])
        assert receipt["losses"] == {}
        assert receipt["left_behind"] == files(4, 12, 3, 3, 3)
        report = prove(mlflow.database, moved.url, folder)
        assert report["verdict"] == "EXACT"
        print(figures("MLflow to PostgreSQL", receipt, report))
        yield moved


def test_mlflow_reads_on_a_server_what_it_read_in_its_file(mlflow, tracking):
    """Every experiment, and everything beside them; NaN and infinity are as MLflow shows them."""
    assert len(mlflow.roots) == 3
    for root in mlflow.roots:
        seen = mlflow.ask("check", tracking.own, root)
        assert seen == look_at_source(mlflow, root)
        losses = [metric["value"] for metric in seen["shown"]["runs"][0]["history"]["loss"]]
        assert losses == ["nan", 1.7976931348623157e308, -1.7976931348623157e308, 1e-320, 0.5]
    print(f"MLflow on PostgreSQL: {seen['held']}")


def test_mlflow_goes_on_writing_on_a_server(mlflow, tracking, make_pg, tmp_path):
    """A run beside the others, and an experiment with the next number, as the file would have got them."""
    original = tmp_path / "original.db"
    shutil.copy(mlflow.database, original)
    further = mlflow.ask("continue", tracking.copy("going_on").own, 1)
    assert further["experiment"] == 4
    assert [run["name"] for run in further["runs"]] == ["run 8.0", "run 9.0"]
    assert further == mlflow.ask("continue", original, 1)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_experiment_comes_back_from_a_server(mlflow, tracking, tmp_path, number):
    """MLflow's associations name it in text, by what is a number elsewhere."""
    target = tmp_path / "back.db"
    receipt = move("export", tracking.url, target, str(number), application=mlflow, folder=tmp_path)
    assert (receipt["schema"]["method"], receipt["losses"]) == ("migrations", {})
    assert receipt["left_behind"] == files(1, 4, 1, 1, 1)
    report = prove(tracking.url, target, tmp_path)
    assert report["verdict"] == prove(mlflow.database, target, tmp_path)["verdict"] == "EXACT"
    print(figures(f"MLflow experiment {number} from PostgreSQL", receipt, report))

    seen = mlflow.ask("check", target, number)
    assert seen["shown"] == look_at_source(mlflow, number)["shown"]
    assert seen["held"] == {"experiments": [0, number], "versions": [number]}


def test_an_experiment_that_came_back_is_the_one_that_never_left(mlflow, tracking, tmp_path):
    straight, back = tmp_path / "straight.db", tmp_path / "back.db"
    move("export", mlflow.database, straight, "2", application=mlflow, folder=tmp_path)
    move("export", tracking.url, back, "2", application=mlflow, folder=tmp_path)
    assert count_rows(back) == count_rows(straight)
    assert prove(straight, back, tmp_path)["verdict"] == "EXACT"


def test_the_plan_of_a_move_counts_the_rows_that_name_files(mlflow, postgres, make_pg, tmp_path):
    target = Moved(postgres, "planned")
    options = ["--python", mlflow.python, "--dry-run"]
    said = panicdb("clone", mlflow.database, target.url, *options, folder=tmp_path).splitlines()
    assert [line for line in said if line.startswith("left behind: ")] == [
        f"left behind: {each}" for each in files(4, 12, 3, 3, 3)
    ]
    assert "planned" not in postgres.databases()


# Optuna


def test_what_optuna_s_history_lacks_is_named_and_nothing_is_made(optuna, postgres, make_pg, tmp_path):
    """Its migrations make no `trial_heartbeats`, on no engine: Optuna makes what is missing as it opens a storage."""
    target = Moved(postgres, "storage")
    said = refuse("clone", optuna.database, target.url, "--python", optuna.python, folder=tmp_path)
    assert said.splitlines() == [
        "error: rows of the source would not fit into what its migrations build on postgresql:",
        f"  {NO_HEARTBEATS}",
        f"{DRIFT}; a database that the application itself made is filled as it stands, once it holds no rows",
    ]
    assert "storage" not in postgres.databases()
    print(f"Optuna to a new database: exit code {REFUSED}: {NO_HEARTBEATS}")


@pytest.fixture
def storage(optuna, postgres, make_pg) -> Moved:
    """A database in which Optuna made its tables, and its one row."""
    made = Moved(postgres, "storage")
    make_pg(name=made.name)
    optuna.run("open", made.own)
    return made


def test_optuna_reads_and_continues_its_studies_in_tables_that_it_made(optuna, storage, tmp_path):
    """They have to be empty: the row that says who made them is one, too."""
    arguments = ["clone", optuna.database, storage.url]
    said = refuse(*arguments, "--python", optuna.python, folder=tmp_path)
    assert "exists and holds rows, in version_info; only an empty database, or one with the source's" in said
    storage.server.execute("DELETE FROM version_info", storage.name)

    receipt = move(*arguments, application=optuna, folder=tmp_path)
    assert (receipt["schema"]["method"], receipt["schema"]["differences"]) == ("given", [])
    # CURRENT_TIMESTAMP of SQLite has no fraction.
    beats = column(optuna.database, "SELECT count(*) FROM trial_heartbeats")[0]
    assert receipt["losses"] == {"trial_heartbeats.heartbeat": {"spelled otherwise": beats}}
    report = prove(optuna.database, storage.url, tmp_path)
    assert (report["verdict"], report["losses"]) == ("EQUIVALENT", receipt["losses"])
    print(figures("Optuna to tables of its own", receipt, report))

    assert len(optuna.roots) == 3
    for root in optuna.roots:
        assert optuna.ask("check", storage.own, root) == look_at_source(optuna, root)
    original = tmp_path / "original.db"
    shutil.copy(optuna.database, original)
    for root in optuna.roots:
        further = optuna.ask("continue", storage.own, root)
        assert further["trials"] == 7
        assert further == optuna.ask("continue", original, root)


def test_a_study_does_not_come_back_into_a_new_file(optuna, storage, tmp_path):
    """There the migrations forget the same table, and a file is never given."""
    storage.server.execute("DELETE FROM version_info", storage.name)
    move("clone", optuna.database, storage.url, application=optuna, folder=tmp_path)
    said = refuse("export", storage.url, "back.db", "1", "--python", optuna.python, folder=tmp_path)
    assert said.splitlines() == [
        "error: rows of the source would not fit into what its migrations build on sqlite:",
        f"  {NO_HEARTBEATS}",
        DRIFT,
    ]
    assert not (tmp_path / "back.db").exists()
