"""Real applications open what panicdb made, and see in it what they saw in the source."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apps.applications import (
    PANICDB,
    ROOTS,
    SECONDS,
    Application,
    Key,
    column,
    count_rows,
    look_at_source,
    panicdb,
)

pytestmark = [pytest.mark.prove, pytest.mark.apps]

NAMED_ROOT = "root named"
PROFILE_ROOT = "root by profile"


def in_subset(application: Application, root: Key) -> Any:
    """What the application is to show of a root in a subset: what it shows in the source, without secrets."""
    shown = look_at_source(application, root)["shown"]
    if application.name == "prefect" and shown["deployment"]:
        return {**shown, "deployment": {**shown["deployment"], "storage_document_id": None}}
    return shown


@dataclass(frozen=True)
class Subset:
    """A database and what was exported of it."""

    source: Path
    target: Path

    def figures(self, title: str) -> str:
        """Say in one line how many rows of how many came along, per table."""
        wanted, got = count_rows(self.source), count_rows(self.target)
        counts = ", ".join(f"{table} {got[table]}/{rows}" for table, rows in wanted.items() if rows)
        return f"{title}: {sum(got.values())} of {sum(wanted.values())} rows: {counts}"


def export(source: Path, folder: Path, table: str, root: Key, how: str) -> Subset:
    """Export one root, verify it, and see that the source is as it was."""
    target = folder / "out.db"
    before = fingerprint(source)
    named = ["--root", table] if how == NAMED_ROOT else []
    panicdb("export", source, target, *named, str(root), folder=folder)
    verify(source, target, folder)
    assert fingerprint(source) == before
    return Subset(source, target)


def verify(source: Path, target: Path, folder: Path) -> None:
    """Let panicdb prove the target; a failed or unfinished check has an exit code of its own."""
    assert "FAIL" not in panicdb("verify", source, target, folder=folder)


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("number", "how"), [(1, NAMED_ROOT), (2, PROFILE_ROOT), (3, PROFILE_ROOT)])
def test_mlflow_shows_of_an_exported_experiment_what_it_showed_before(mlflow, tmp_path, number, how):
    """Runs, metrics, inputs, models, versions, traces, records: all of it, no more."""
    subset = export(mlflow.database, tmp_path, "experiments", number, how)
    assert column(subset.target, "SELECT experiment_id FROM experiments") == [number]
    print(subset.figures(f"MLflow experiment {number}, {how}"))

    seen = mlflow.ask("check", subset.target, number)

    assert len(seen["shown"]["runs"]) == 4
    assert seen["shown"] == look_at_source(mlflow, number)["shown"]
    # Experiment 0 is MLflow's own: it makes one in any database that it opens.
    assert seen["held"] == {"experiments": [0, number], "versions": [number]}


def test_references_that_mlflow_itself_left_dangling_are_no_obstacle(mlflow, tmp_path):
    """`mlflow gc` deletes runs, and leaves in place what points to them without a foreign key."""
    source = tmp_path / "purged.db"
    shutil.copy(mlflow.database, source)
    mlflow.run("purge", str(source), "1")
    lost = "destination_type = 'run' AND destination_id NOT IN (SELECT run_uuid FROM runs)"
    assert column(source, f"SELECT count(*) FROM entity_associations WHERE {lost}") != [0]

    subset = export(source, tmp_path, "experiments", 1, PROFILE_ROOT)
    print(subset.figures("MLflow experiment 1 after gc"))

    seen = mlflow.ask("check", subset.target, 1)
    assert len(seen["shown"]["runs"]) == 3
    assert seen["shown"] == mlflow.ask("check", source, 1)["shown"]


def test_mlflow_keeps_its_secrets(mlflow, tmp_path):
    """A gateway endpoint may name an experiment; the keys behind it are no part of that."""
    source = tmp_path / "gateway.db"
    shutil.copy(mlflow.database, source)
    connection = sqlite3.connect(source)
    connection.executescript(GATEWAY)
    connection.close()

    subset = export(source, tmp_path, "experiments", 1, PROFILE_ROOT)

    rows = count_rows(subset.target)
    assert {table: rows[table] for table in ("secrets", "model_definitions", "endpoints")} == {
        "secrets": 0,
        "model_definitions": 0,
        "endpoints": 0,
    }


GATEWAY = """
INSERT INTO secrets (secret_id, secret_name, encrypted_value, wrapped_dek, kek_version,
                     masked_value, created_at, last_updated_at, workspace)
    VALUES ('s-1', 'key', x'00', x'00', 1, 'sk-...', 1, 1, 'default');
INSERT INTO model_definitions (model_definition_id, name, secret_id, provider, model_name,
                               created_at, last_updated_at, workspace)
    VALUES ('d-1', 'writer', 's-1', 'somebody', 'large', 1, 1, 'default');
INSERT INTO endpoints (endpoint_id, name, created_at, last_updated_at, experiment_id,
                       usage_tracking, workspace)
    VALUES ('e-1', 'chat', 1, 1, 1, 1, 'default');
INSERT INTO endpoint_model_mappings (mapping_id, endpoint_id, model_definition_id, weight,
                                     created_at, linkage_type)
    VALUES ('m-1', 'e-1', 'd-1', 1, 1, 'PRIMARY');
"""


@pytest.mark.parametrize(("number", "how"), [(1, NAMED_ROOT), (2, PROFILE_ROOT), (3, PROFILE_ROOT)])
def test_optuna_loads_an_exported_study_and_continues_it_as_it_would_have(optuna, tmp_path, number, how):
    """All trials are there, and the sampler, which learns from them, proposes the same."""
    subset = export(optuna.database, tmp_path, "studies", number, how)
    version = "SELECT library_version FROM version_info"
    assert column(subset.target, version) == column(optuna.database, version)
    print(subset.figures(f"Optuna study {number}, {how}"))
    original = tmp_path / "original.db"
    shutil.copy(optuna.database, original)

    seen = optuna.ask("check", subset.target, number)
    wanted = look_at_source(optuna, number)

    assert len(seen["shown"]["trials"]) == 5
    assert seen["shown"] == wanted["shown"]
    assert seen["held"] == {"studies": [seen["shown"]["name"]]}
    further = optuna.ask("continue", subset.target, number)
    assert further["trials"] == 7
    assert further == optuna.ask("continue", original, number)


@pytest.mark.parametrize(
    ("name", "how", "held"),
    [
        (
            "run 1",
            NAMED_ROOT,
            {
                "flows": ["clean", "ingest"],
                "flow_runs": ["run 1", "within run 1"],
                "deployments": ["nightly"],
                "work_pools": ["pool of nightly"],
                "latest_artifacts": 0,
            },
        ),
        # Its deployment was deleted, and Prefect left that one's id in place.
        (
            "run 3",
            PROFILE_ROOT,
            {
                "flows": ["clean", "report"],
                "flow_runs": ["run 3", "within run 3"],
                "deployments": [],
                "work_pools": ["pool of weekly"],
                "latest_artifacts": 1,
            },
        ),
        # The task that called it is needed, and the run of that task, but nothing else of that run.
        (
            "within run 2",
            PROFILE_ROOT,
            {
                "flows": ["clean", "ingest"],
                "flow_runs": ["run 2", "within run 2"],
                "deployments": [],
                "work_pools": ["pool of nightly"],
                "latest_artifacts": 0,
            },
        ),
    ],
)
def test_prefect_shows_of_an_exported_flow_run_what_it_showed_before(prefect, tmp_path, name, how, held):
    """States, tasks, runs within it, logs, artifacts, inputs, its deployment and work pool: all of it, no more."""
    root = find_run(prefect, name)
    subset = export(prefect.database, tmp_path, "flow_run", root, how)
    print(subset.figures(f"Prefect {name}, {how}"))

    seen = prefect.ask("check", subset.target, root)

    assert seen["shown"] == in_subset(prefect, root)
    # The variable and the block document may be secrets.
    assert seen["held"] == {**held, "variables": [], "blocks": []}


def find_run(prefect: Application, name: str) -> Key:
    (found,) = column(prefect.database, f"SELECT id FROM flow_run WHERE name = '{name}'")
    return found


def test_prefect_keeps_its_secrets_and_runs_an_exported_flow_once_more(prefect, tmp_path):
    """A deployment may name an encrypted block document; that is no part of its runs, nor is the key to it."""
    wanted = "SELECT storage_document_id IS NULL FROM deployment WHERE name = 'nightly'"
    assert column(prefect.database, wanted) == [0]
    root = find_run(prefect, "run 2")

    subset = export(prefect.database, tmp_path, "flow_run", root, PROFILE_ROOT)

    assert column(subset.target, wanted) == [1]
    rows = count_rows(subset.target)
    assert {table: rows[table] for table in ("configuration", "block_document", "variable")} == {
        "configuration": 0,
        "block_document": 0,
        "variable": 0,
    }
    original = tmp_path / "original.db"
    shutil.copy(prefect.database, original)
    further = prefect.ask("continue", subset.target, root)
    assert further["tasks"] == ["load"]
    assert further == prefect.ask("continue", original, root)


def test_prefect_shows_all_runs_of_an_exported_flow(prefect, tmp_path):
    (flow,) = column(prefect.database, "SELECT id FROM flow WHERE name = 'ingest'")
    subset = export(prefect.database, tmp_path, "flow", flow, NAMED_ROOT)
    print(subset.figures("Prefect flow"))

    for name in ("run 1", "run 2"):
        root = find_run(prefect, name)
        seen = prefect.ask("check", subset.target, root)
        assert seen["shown"] == in_subset(prefect, root)
    assert seen["held"]["flow_runs"] == ["run 1", "run 2", "within run 1", "within run 2"]
    assert seen["held"]["deployments"] == ["nightly"]


@pytest.mark.parametrize("name", ROOTS)
def test_an_application_sees_no_difference_in_a_clone(request, tmp_path, name):
    """Every root, and everything beside them."""
    application = request.getfixturevalue(name)
    target = tmp_path / "clone.db"
    panicdb("clone", application.database, target, folder=tmp_path)
    verify(application.database, target, tmp_path)
    rows = count_rows(target)
    assert rows == count_rows(application.database)
    print(f"{name} clone: {sum(rows.values())} rows in {len(rows)} tables")

    assert len(application.roots) == 3
    for root in application.roots:
        assert application.ask("check", target, root) == look_at_source(application, root)


@pytest.mark.parametrize("name", ROOTS)
def test_an_application_finds_what_was_merged_one_after_the_other(request, tmp_path, name):
    application = request.getfixturevalue(name)
    table, _ = ROOTS[name]
    target = tmp_path / "merged.db"
    for root in (*application.roots, application.roots[0]):
        panicdb(
            "export", application.database, target, "--root", table, str(root), "--merge", folder=tmp_path
        )
        verify(application.database, target, tmp_path)
    print(Subset(application.database, target).figures(f"{name}, three merged"))

    for root in application.roots:
        assert application.ask("check", target, root)["shown"] == in_subset(application, root)


# The applications' own migrations, run by their own interpreters


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("mlflow", {"MLFLOW_TRACKING_URI": "sqlite:///{}", "MLFLOW_BACKEND_STORE_URI": "sqlite:///{}"}),
        ("prefect", {"PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///{}"}),
    ],
)
def test_an_application_opens_what_its_own_migrations_built(request, tmp_path, name, variables):
    """They build the live schema, without a difference, and leave alone the database that the environment names."""
    application = request.getfixturevalue(name)
    decoy, target = tmp_path / "production" / "decoy.db", tmp_path / "out.db"
    decoy.parent.mkdir()
    shutil.copy(application.database, decoy)
    before = fingerprint(decoy), fingerprint(application.database)
    root = application.roots[0]
    named = {variable: address.format(decoy) for variable, address in variables.items()}
    options = ["--schema", "migrations", "--python", application.python]
    panicdb("export", application.database, target, str(root), *options, folder=tmp_path, **named)
    verify(application.database, target, tmp_path)

    assert (fingerprint(decoy), fingerprint(application.database)) == before
    assert os.listdir(decoy.parent) == ["decoy.db"]
    built = schema_of(target)
    assert (built["method"], built["differences"], built["failures"]) == ("migrations", [], [])
    assert application.ask("check", target, root)["shown"] == in_subset(application, root)


def schema_of(target: Path) -> dict[str, Any]:
    """Return what the receipt says of how the schema came about."""
    return json.loads(target.with_name(f"{target.name}.receipt.json").read_text())["schema"]


def test_optuna_gets_the_table_that_its_own_migrations_forget(optuna, tmp_path):
    """They never make `trial_heartbeats`: the receipt says so, and the schema is the source's."""
    target = tmp_path / "out.db"
    panicdb("export", optuna.database, target, "1", "--python", optuna.python, folder=tmp_path)
    verify(optuna.database, target, tmp_path)

    built = schema_of(target)
    assert built["method"] == "copy"
    assert [text for text in built["differences"] if text.startswith("blocking: table trial_heartbeats: ")]
    assert count_rows(target)["trial_heartbeats"] > 0
    assert optuna.ask("check", target, 1)["shown"] == in_subset(optuna, 1)


@pytest.mark.parametrize(("name", "code"), [("mlflow", 0), ("optuna", 1), ("prefect", 0)])
def test_drift_tells_whose_live_schema_is_what_its_migrations_build(request, tmp_path, name, code):
    application = request.getfixturevalue(name)
    command = [str(PANICDB), "drift", str(application.database), "--python", str(application.python)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == code, done.stderr
    assert ("trial_heartbeats" in done.stdout) == (name == "optuna")
