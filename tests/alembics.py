"""What Alembic itself says and does, in processes of its own: it runs revision files and changes sys.path.

Run as a script this is a server: a request and an answer are a line of JSON each, and each request is served by a fork
that knows nothing of those before, and has Alembic imported already.
"""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class RefusedError(Exception):
    """Alembic raised this."""


@dataclass(frozen=True)
class Found:
    """What Alembic makes of a configuration."""

    ancestors: Mapping[str, frozenset[str]]
    files: Mapping[str, Path]
    heads: frozenset[str]
    location: Path


class Alembic:
    """Asks the server."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def find(
        self,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        path: Sequence[Path] = (),
    ) -> Found:
        """Say what `alembic ARGUMENTS` run in `cwd` finds; arguments as `-c` and `-n`. Raises RefusedError.

        `path` is where else packages are, as PYTHONPATH says it.
        """
        answer = self._ask(
            work="find",
            arguments=arguments,
            cwd=str(cwd),
            environment={**(environment or {})},
            path=list(map(str, path)),
        )
        return Found(
            {revision: frozenset(before) for revision, before in answer["ancestors"].items()},
            {revision: Path(file) for revision, file in answer["files"].items()},
            frozenset(answer["heads"]),
            Path(answer["location"]),
        )

    def upgrade(self, ini: Path, database: Path, targets: Sequence[str | Sequence[str]]) -> None:
        """Upgrade a database to one target after the other; to revisions in a list together. Raises RefusedError."""
        self._ask(
            work="upgrade", ini=str(ini), url=f"sqlite:///{database}", targets=targets, cwd=str(ini.parent)
        )

    def _ask(self, **request: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer


@contextmanager
def served() -> Iterator[Alembic]:
    """Start the server, and end it."""
    environment = {name: value for name, value in os.environ.items() if name != "ALEMBIC_CONFIG"}
    command = [sys.executable, "-B", str(Path(__file__).resolve())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        yield Alembic(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


# The server


def main() -> None:
    import alembic.command  # noqa: PLC0415 - the tests, which import this, don't import Alembic
    import alembic.config  # noqa: F401, PLC0415

    warnings.simplefilter("ignore")
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        child = os.fork()
        if not child:
            channel.write(json.dumps(answered(json.loads(line))).encode() + b"\n")
            channel.flush()
            os._exit(0)
        os.waitpid(child, 0)


def answered(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        os.chdir(request["cwd"])
        os.environ.update(request.get("environment", {}))
        sys.path += request.get("path", [])
        return find(request["arguments"]) if request["work"] == "find" else upgrade(request)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
        return {"error": f"{type(error).__name__}: {error}"}


def find(arguments: Sequence[str]) -> dict[str, Any]:
    """Go through Alembic's own command line as far as the configuration."""
    from alembic.config import CommandLine  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    given = []
    commands = CommandLine()
    commands.run_cmd = lambda config, _options: given.append(config)
    commands.main([*arguments, "heads"])
    scripts = ScriptDirectory.from_config(given[0])
    known = {
        name: script
        for name, script in scripts.revision_map._revision_map.items()
        if script is not None and script.revision == name
    }
    before = {
        name: [
            each.revision for each in scripts.revision_map._get_ancestor_nodes([script]) if each is not script
        ]
        for name, script in known.items()
    }
    files = {name: script.path for name, script in known.items()}
    location = os.path.abspath(scripts.dir)
    return {"ancestors": before, "files": files, "heads": scripts.get_heads(), "location": location}


def upgrade(request: Mapping[str, Any]) -> dict[str, Any]:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config(request["ini"])
    config.set_main_option("sqlalchemy.url", request["url"].replace("%", "%%"))
    for target in request["targets"]:
        command.upgrade(config, tuple(target) if isinstance(target, list) else target)
    return {}


if __name__ == "__main__":
    main()
