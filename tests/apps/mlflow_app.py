"""MLflow at work, run by an environment of its own.

    make DB                 fill a new store through MLflow's client
    purge DB EXPERIMENT     delete its first run for good, with `mlflow gc`
    check DB EXPERIMENT     print, as JSON, what MLflow shows of one experiment, and what else there is
    continue DB EXPERIMENT  log one more run, and one run in a new experiment; print what MLflow then shows of them

DB is the path of a SQLite file, or the address of a server's database.
Only one call goes deeper than MLflow's client: its own call for the records of an evaluation
dataset wants pandas, which the store below it does without.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
    ViewType,
)

EXPERIMENTS = ("vision", "language", "retired")
RUNS = 4
LOSSES = (math.nan, math.inf, -math.inf, 1e-320, 0.5)
MODEL = "classifier"
CLOCK = 1_700_000_000_000  # milliseconds since the epoch


def store_uri(database: str) -> str:
    """Spell a database as MLflow wants it."""
    return database if "://" in database else f"sqlite:///{Path(database).resolve()}"


def open_store(database: str) -> MlflowClient:
    """Return MLflow's client on a database, which MLflow may write to, or make, by opening it."""
    mlflow.set_tracking_uri(store_uri(database))
    return MlflowClient()


# -- make ------------------------------------------------------------------------------------------


def make(database: str) -> None:
    """Fill a new store with experiments 1, 2 and 3, the last one deleted the way MLflow deletes."""
    client = open_store(database)
    client.create_registered_model(
        MODEL, tags={"task": "images"}, description="a version from each experiment"
    )
    models: list[str] = []
    for number, name in enumerate(EXPERIMENTS, start=1):
        experiment = client.create_experiment(
            name, artifact_location=f"file:///nowhere/{name}", tags={"team": f"team {number}"}
        )
        runs = [make_run(client, experiment, number, index) for index in range(RUNS)]
        models.append(make_model(client, experiment, number, runs))
        make_trace(client, experiment, runs[0])
        make_records(client, client.create_dataset(f"questions {number}", experiment).dataset_id)
    client.log_inputs(runs[2], models=[LoggedModelInput(models[0])])
    make_records(client, client.create_dataset("shared questions", ["1", "2"]).dataset_id)
    client.delete_run(runs[-1])
    client.delete_experiment(experiment)


def make_run(client: MlflowClient, experiment: str, number: int, index: int) -> str:
    """Make one finished run with metrics, parameters, tags and a dataset; return its id."""
    started = CLOCK + 1000 * (RUNS * number + index)
    run = client.create_run(experiment, started, {"kind": "täglich"}, f"run {number}.{index}")
    run_id = run.info.run_id
    accuracies = [Metric("accuracy", 0.1 * step, started + step, step) for step in range(5)]
    losses = [Metric("loss", loss, started + step, step) for step, loss in enumerate(LOSSES)]
    client.log_batch(
        run_id,
        metrics=[*accuracies, *losses],
        params=[Param("depth", str(index)), Param("rate", f"{number}e-3"), Param("note", "")],
        tags=[RunTag("index", str(index)), RunTag("text", "line\nline")],
    )
    client.log_inputs(run_id, datasets=[dataset_input(number)])
    client.set_terminated(run_id, "FAILED" if index == 1 else "FINISHED", started + 500)
    return run_id


def dataset_input(number: int) -> DatasetInput:
    """Return a dataset as MLflow records it, without the libraries that would compute one."""
    dataset = Dataset(
        name=f"pictures {number}",
        digest=f"d{number}",
        source_type="local",
        source=json.dumps({"uri": f"/data/{number}"}),
        schema=json.dumps({"columns": ["x", "y"]}),
        profile=json.dumps({"rows": 10 * number}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def make_model(client: MlflowClient, experiment: str, number: int, runs: list[str]) -> str:
    """Make and register a model, output of the first run and input of the second; return its id."""
    model = client.create_logged_model(
        experiment,
        name=f"net-{number}",
        source_run_id=runs[0],
        tags={"stage": "draft"},
        params={"layers": str(number)},
    ).model_id
    client.log_outputs(runs[0], [LoggedModelOutput(model, step=3)])
    client.log_inputs(runs[1], models=[LoggedModelInput(model)])
    client.log_metric(runs[1], "score", 0.25 * number, model_id=model, timestamp=CLOCK)
    client.finalize_logged_model(model, "READY")
    version = client.create_model_version(
        MODEL, f"models:/{model}", runs[0], tags={"number": str(number)}, description="kept"
    )
    client.set_registered_model_alias(MODEL, f"best-{number}", version.version)
    return model


def make_trace(client: MlflowClient, experiment: str, run: str) -> None:
    """Make a trace of two spans with feedback, linked to a run."""
    root = client.start_trace(
        "answer", inputs={"question": 1}, experiment_id=experiment, tags={"colour": "red"}
    )
    child = client.start_span("search", root.trace_id, root.span_id, inputs={"words": ["a", "b"]})
    client.end_span(root.trace_id, child.span_id, outputs={"found": 2})
    client.end_trace(root.trace_id, outputs={"answer": 2})
    mlflow.flush_trace_async_logging()
    client.link_traces_to_run([root.trace_id], run)
    mlflow.log_feedback(trace_id=root.trace_id, name="good", value=True)


def make_records(client: MlflowClient, dataset: str) -> None:
    """Add two records to an evaluation dataset."""
    records = [{"inputs": {"q": n}, "expectations": {"a": n + 1}} for n in range(2)]
    client._tracking_client.store.upsert_dataset_records(dataset, records)


# -- purge -----------------------------------------------------------------------------------------


def purge(database: str, experiment: str) -> None:
    """Delete the first run of an experiment, and whatever else is marked deleted, for good."""
    client = open_store(database)
    client.delete_run(client.search_runs([experiment], order_by=["start_time"])[0].info.run_id)
    uri = store_uri(database)
    command = [sys.executable, "-I", "-m", "mlflow", "gc", "--backend-store-uri", uri]
    subprocess.run(command, check=True, env={**os.environ, "MLFLOW_TRACKING_URI": uri})


# -- check -----------------------------------------------------------------------------------------


def check(database: str, experiment: str) -> dict[str, Any]:
    """Say what MLflow shows: `shown` of the experiment, `held` of everything in the database."""
    client = open_store(database)
    runs = [
        client.get_run(run.info.run_id)
        for run in client.search_runs([experiment], run_view_type=ViewType.ALL)
    ]
    versions = list(client.search_model_versions())
    own = [version for version in versions if version.run_id in {run.info.run_id for run in runs}]
    return {
        "shown": {
            "experiment": dict(client.get_experiment(experiment)),
            "runs": by_key([show_run(client, run) for run in runs], "name"),
            "models": by_key(
                [model.to_dictionary() for model in client.search_logged_models([experiment])],
                "model_id",
            ),
            "versions": by_key([show_version(client, version) for version in own], "version"),
            "traces": [json.loads(trace.to_json()) for trace in client.search_traces(locations=[experiment])],
            "evaluation_datasets": by_key(
                [show_dataset(dataset) for dataset in client.search_datasets([experiment])], "name"
            ),
        },
        "held": {
            "experiments": sorted(
                int(held.experiment_id) for held in client.search_experiments(ViewType.ALL)
            ),
            "versions": sorted(int(version.version) for version in versions),
        },
    }


def go_on(database: str, experiment: str) -> dict[str, Any]:
    """Log a run beside the others, and one in a new experiment, whose number the database gives; show them."""
    client = open_store(database)
    new = client.create_experiment("afterwards", artifact_location="file:///nowhere/afterwards")
    runs = [make_run(client, experiment, number=8, index=0), make_run(client, new, number=9, index=0)]
    make_trace(client, new, runs[1])
    shown = [show_run(client, client.get_run(run)) for run in runs]
    return {
        "experiment": int(new),
        "runs": [{key: run[key] for key in ("name", "data", "history")} for run in shown],
        "traces": [len(run["traces"]) for run in shown],
    }


def by_key(items: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Sort what MLflow returns in no promised order."""
    return sorted(items, key=lambda item: item[key])


def show_run(client: MlflowClient, run: Any) -> dict[str, Any]:
    """Show a run with every value of every metric, and the traces linked to it."""
    run_id, experiment = run.info.run_id, run.info.experiment_id
    traces = client.search_traces(locations=[experiment], run_id=run_id)
    return {
        "name": run.info.run_name,
        **run.to_dictionary(),
        "history": {
            key: [dict(metric) for metric in client.get_metric_history(run_id, key)]
            for key in sorted(run.data.metrics)
        },
        "traces": sorted(trace.info.trace_id for trace in traces),
    }


def show_version(client: MlflowClient, version: Any) -> dict[str, Any]:
    """Show a model version, the aliases that lead to it, and what its registered model says."""
    model = client.get_registered_model(version.name)
    aliases = [alias for alias, number in model.aliases.items() if number == version.version]
    found = [client.get_model_version_by_alias(model.name, alias).version for alias in aliases]
    return {
        **dict(version),
        "aliases": dict(zip(sorted(aliases), found, strict=True)),
        "model": {"description": model.description, "tags": model.tags},
    }


def show_dataset(dataset: Any) -> dict[str, Any]:
    """Show an evaluation dataset with its records, without the other experiments that share it."""
    shown = dataset.to_dict()
    del shown["experiment_ids"]
    return {**shown, "records": by_key(shown["records"], "dataset_record_id")}


def plain(value: Any) -> Any:
    """Turn what MLflow returns into JSON in which equal values are equal (NaN is not)."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, str | int | float | None):
        return value
    return plain(dict(value))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", path]:
            make(path)
        case ["purge", path, chosen]:
            purge(path, chosen)
        case ["check", path, chosen]:
            print(json.dumps(plain(check(path, chosen))))
        case ["continue", path, chosen]:
            print(json.dumps(plain(go_on(path, chosen))))
        case _:
            sys.exit(__doc__)
