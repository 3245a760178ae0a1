"""Optuna at work, run by an environment of its own.

    make DB             fill a new storage through Optuna's own API
    open DB             open a storage; in an empty database Optuna makes its tables then
    check DB STUDY      print, as JSON, what Optuna shows of one study, and of what else there is
    continue DB STUDY   run two more trials, print them likewise

DB is the path of a SQLite file, or the address of a server's database. A study is named by its number in it. The
sampler is seeded and learns from the trials it finds, so two copies of a study that hold the same continue in the same
way.
"""

import json
import math
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

STUDIES = {"loss": ["minimize"], "trade-off": ["minimize", "maximize"], "score": ["maximize"]}
TRIALS = 5
FURTHER = 2


def open_storage(database: str) -> RDBStorage:
    """Return Optuna's storage on a database, with the heartbeats that leave rows of their own."""
    url = database if "://" in database else f"sqlite:///{Path(database).resolve()}"
    return RDBStorage(url, heartbeat_interval=60)


def open_study(database: str, number: int) -> Study:
    """Return a study of a database by its number."""
    storage = open_storage(database)
    name = storage.get_study_name_from_id(number)
    sampler = TPESampler(seed=number, n_startup_trials=2)
    return optuna.load_study(study_name=name, storage=storage, sampler=sampler)


def make(database: str) -> None:
    """Fill a new storage with studies 1, 2 and 3 of five trials each."""
    storage = open_storage(database)
    for number, (name, directions) in enumerate(STUDIES.items(), start=1):
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=directions,
            sampler=TPESampler(seed=number, n_startup_trials=2),
        )
        study.set_user_attr("owner", {"name": "Zoë", "number": number})
        study.set_metric_names([f"objective {n}" for n in range(len(directions))])
        study.enqueue_trial({"x": 0.5, "layers": 2, "kind": "b"}, user_attrs={"given": True})
        study.optimize(measure, n_trials=TRIALS, catch=ArithmeticError)


def measure(trial: Trial) -> float | tuple[float, float]:
    """Give a value for each direction; one trial is infinite, and one fails or is pruned."""
    x = trial.suggest_float("x", -1.0, 1.0)
    layers = trial.suggest_int("layers", 1, 4)
    kind = trial.suggest_categorical("kind", ["a", "b", None])
    trial.set_user_attr("note", f"täglich {trial.number}")
    value = x * x + layers + (0.5 if kind == "a" else 0.0)
    if len(trial.study.directions) > 1:
        if trial.number == 2:
            raise ArithmeticError
        return (math.inf if trial.number == 3 else value), x
    for step, report in enumerate((value, math.nan, math.inf, -math.inf, value / 3)):
        trial.report(report, step)
    if trial.number == 2:
        raise optuna.TrialPruned
    return math.inf if trial.number == 3 else value


def check(database: str, number: int) -> dict[str, Any]:
    """Say what Optuna shows: `shown` of the study, `held` of everything in the database."""
    study = open_study(database, number)
    best = study.best_trials if len(study.directions) > 1 else [study.best_trial]
    return {
        "shown": {
            "name": study.study_name,
            "directions": [direction.name for direction in study.directions],
            "metrics": study.metric_names,
            "attributes": study.user_attrs,
            "trials": [show_trial(trial) for trial in study.trials],
            "best": [{"number": trial.number, "values": trial.values} for trial in best],
        },
        "held": {"studies": sorted(optuna.get_all_study_names(study._storage))},
    }


def show_trial(trial: FrozenTrial) -> dict[str, Any]:
    """Show everything of a trial that does not depend on the clock or on other studies."""
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {name: str(kind) for name, kind in trial.distributions.items()},
        "intermediate": trial.intermediate_values,
        "attributes": trial.user_attrs,
        "system": trial.system_attrs,
        "started": trial.datetime_start,
        "completed": trial.datetime_complete,
    }


def go_on(database: str, number: int) -> dict[str, Any]:
    """Run further trials and show those, without the time at which they ran."""
    study = open_study(database, number)
    study.optimize(measure, n_trials=FURTHER)
    further = [show_trial(trial) for trial in study.trials[-FURTHER:]]
    for trial in further:
        del trial["started"], trial["completed"]
    return {"trials": len(study.trials), "further": further}


def plain(value: Any) -> Any:
    """Turn what Optuna returns into JSON in which equal values are equal (NaN is not)."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", path]:
            make(path)
        case ["open", path]:
            open_storage(path)
        case ["check", path, chosen]:
            print(json.dumps(plain(check(path, int(chosen)))))
        case ["continue", path, chosen]:
            print(json.dumps(plain(go_on(path, int(chosen)))))
        case _:
            sys.exit(__doc__)
