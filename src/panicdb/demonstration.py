"""The sample behind `panicdb demo`: a small PANIC-TDA database, made by its own migrations."""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from panicdb.errors import TargetError
from panicdb.experiments import fill
from panicdb.histories import bundled_history
from panicdb.replays import replay
from panicdb.values import Monitor

SOURCE = "experiments.db"


@dataclass(frozen=True)
class Sample:
    """A database file and the keys of its experiments."""

    path: str
    experiments: tuple[str, ...]


def make_source(directory: str, monitor: Monitor) -> Sample:
    """Write a database of three experiments into `directory`, which is created. Raises TargetError if it is there."""
    folder = Path(directory)
    path = folder / SOURCE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(
            f"{directory}: can't be made: {error.strerror}", hint="name another directory"
        ) from error
    if path.exists():
        raise TargetError(f"{path}: exists already", hint="remove it, or name another directory")
    history = bundled_history()
    replay(history, history.heads, path.resolve(), monitor)
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path.resolve())), poolclass=NullPool)
    experiments = fill(engine, experiments=3, runs=4, invocations=25)
    return Sample(str(path), tuple(experiments))
