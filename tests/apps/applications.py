"""Real applications in environments of their own, the databases they make, and panicdb as their users run it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from apps.environments import HERE, interpreter

PANICDB = Path(sys.executable).with_name("panicdb")
SECONDS = 180
ROOTS = {
    "mlflow": ("experiments", "SELECT experiment_id FROM experiments WHERE experiment_id > 0 ORDER BY 1"),
    "optuna": ("studies", "SELECT study_id FROM studies ORDER BY 1"),
    "prefect": ("flow_run", "SELECT id FROM flow_run WHERE name LIKE 'run _' ORDER BY name"),
}
"""The table that the profile of each application takes for the roots, and the three roots that its script makes."""
Key = int | str


@dataclass(frozen=True)
class Application:
    """One application in its own environment, and the database it made there."""

    name: str
    python: Path
    database: Path

    @property
    def roots(self) -> list[Key]:
        """The keys of the three roots in the database."""
        return column(self.database, ROOTS[self.name][1])

    def ask(self, verb: str, database: Path | str, root: Key) -> Any:
        """Let the application look into a database. It may write there, by opening it."""
        return json.loads(self.run(verb, str(database), str(root)))

    def run(self, *arguments: str) -> str:
        """Run the application's script, out of reach of the environment that runs the tests."""
        command = [self.python, "-I", HERE / f"{self.name}_app.py", *arguments]
        home = self.database.parent
        clean = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "DO_NOT_TRACK": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
            "PREFECT_HOME": str(home / "prefect"),
        }
        return run([str(part) for part in command], home, clean)


@cache
def look_at_source(application: Application, root: Key) -> Any:
    """Ask once what the application shows of its own database, which no test changes."""
    return application.ask("check", application.database, root)


def run(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its standard output; fail with all it said."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def panicdb(*arguments: str | Path, folder: Path, **variables: str) -> str:
    """Run panicdb as a user would, with further variables in the environment."""
    return run([str(PANICDB), *map(str, arguments)], folder, {**os.environ, **variables})


def make_application(name: str, folder: Path) -> Application:
    """Let an application fill a new database in a folder."""
    application = Application(name, interpreter(name), folder / f"{name}.db")
    application.run("make", str(application.database))
    return application


def count_rows(path: Path) -> dict[str, int]:
    """Return the rows of each table of a SQLite file."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}
    finally:
        connection.close()


def column(path: Path, query: str) -> list[Any]:
    """Return the one column that a query of a SQLite file gives."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return [value for (value,) in connection.execute(query)]
    finally:
        connection.close()
