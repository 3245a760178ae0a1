"""The command line: parse, call one function, show. The only module that knows Click."""

import functools
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import panicdb as package
from panicdb import options
from panicdb.errors import PanicDBError, UsageError, check_file_name, redacted

if TYPE_CHECKING:
    from panicdb.values import Monitor

Function = TypeVar("Function", bound=Callable[..., Any])

EXIT_DIFFERENT = 1
EXIT_INCOMPLETE = 3


class PanicGroup(click.Group):
    """A group whose commands end with our exit codes, wherever the group is mounted."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; the one place where an error becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except PanicDBError as error:
            from panicdb.render import error_text  # noqa: PLC0415 - not needed for --help

            _say(error_text(error))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            _say("error: interrupted")
            ctx.exit(130)
        except MemoryError:
            _say("error: out of memory\nhint: end other programs; a few copies of the largest row must fit")
            ctx.exit(4)
        except click.ClickException as error:
            # An address may stand where a command belongs, and be repeated. To type checkers a message is final.
            vars(error)["message"] = redacted(error.message)
            error.args = (error.message,)
            error.__cause__ = error.__context__ = None  # what failed to read a number repeats it
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _say(f"error: {where}the system reports: {error.strerror or error}")
            ctx.exit(4)
        except Exception:  # noqa: BLE001 - Python would end with 1, which means that a verification failed
            _say(
                traceback.format_exc()
                + "error: this is a fault of panicdb\nhint: please report the lines above"
            )
            ctx.exit(4)


def _common(function: Function) -> Function:
    """Add the options that every command has."""
    shared = [
        click.option(
            "--timeout",
            type=options.Seconds(),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for locks.",
        ),
        click.option("--json", is_flag=True, help="Print the result as JSON."),
        click.option("-q", "--quiet", is_flag=True, help="Print no progress and no summary."),
        click.option("-v", "--verbose", is_flag=True, help="Print each step on standard error."),
    ]

    @functools.wraps(function)
    def with_output(*, json: bool, quiet: bool, verbose: bool, **rest: Any) -> Any:
        return function(output=_Output(json, quiet, verbose), **rest)

    wrapped: Any = with_output
    for option in reversed(shared):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]  # Click keeps the function's type to itself


@dataclass(frozen=True)
class _Output:
    """How a command shows what it does and what came of it."""

    as_json: bool
    quiet: bool
    verbose: bool

    def attended(self) -> "AbstractContextManager[Monitor]":
        from panicdb.terminal import attended  # noqa: PLC0415 - not needed for --help

        return attended(quiet=self.quiet or self.as_json, verbose=self.verbose)

    def show(self, value: Any) -> None:
        """Print a result, unless only its exit code is wanted."""
        from panicdb import render  # noqa: PLC0415

        if self.as_json:
            text = render.to_json(render.as_plain(value))
            _show(
                text if _printable(text) == text else render.to_json(render.as_plain(value), ascii_only=True)
            )
        elif not self.quiet:
            _show(render.as_text(value))


@click.group(
    cls=PanicGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PANICDB"},
)
@click.version_option(package.__version__, prog_name="panicdb")
def panicdb() -> None:
    """Move the rows you choose, or all of them, between databases: exact, closed, all or nothing.

    SOURCE and TARGET are paths of SQLite files or SQLAlchemy URLs; - takes PANICDB_SOURCE or PANICDB_TARGET from the
    environment. Exit codes: 0 done and every check passed, 1 verify or drift found differences, 2 usage, 3 refused
    after looking, 4 failed on the way with nothing published, 130 or 143 interrupted.
    """
    if sys.platform == "win32":
        raise UsageError("panicdb runs on Linux and macOS: Windows can't publish a file the way it must")


@panicdb.command()
@click.argument("source")
@click.argument("target")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@options.selection
@options.MERGE
@options.REPLACE
@options.making
@options.building
@_common
def export(
    source: str,
    target: str,
    ids: tuple[str, ...],
    *,
    dry_run: bool,
    output: _Output,
    **said: Any,
) -> None:
    """Copy the chosen rows, all they own and all they need into a new database.

    ID is the key of a root row, or a unique beginning of four characters or more of a text key.
    """
    from panicdb import commands  # noqa: PLC0415 - `--help` must not wait for a database library

    making = {
        "receipt": _receipt_choice(said),
        "spool": said.pop("spool"),
        "verify": said.pop("verify"),
        "seal": said.pop("seal"),
    }
    shared = {"existing": _existing_choice(said), "timeout": said.pop("timeout")}
    choice = _choice(ids, _with_section(said))
    origin, goal = _address(source, "SOURCE"), _address(target, "TARGET")
    with output.attended() as monitor:
        if dry_run:
            done: Any = commands.plan(origin, target=goal, monitor=monitor, **shared, **choice)
        else:
            done = commands.export(origin, goal, monitor=monitor, **shared, **making, **choice)
    output.show(done)


@panicdb.command()
@click.argument("source")
@click.argument("target")
@click.option(
    "--violations",
    type=click.Choice(["refuse", "keep"]),
    default="refuse",
    show_default=True,
    help="What to do if foreign keys lead nowhere in the source.",
)
@options.REPLACE
@options.making
@options.building
@_common
def clone(
    source: str,
    target: str,
    *,
    violations: Any,
    dry_run: bool,
    output: _Output,
    **said: Any,
) -> None:
    """Copy every row of every ordinary table into a new database."""
    from panicdb import commands  # noqa: PLC0415

    making = {
        "receipt": _receipt_choice(said),
        "spool": said["spool"],
        "verify": said["verify"],
        "seal": said["seal"],
    }
    shared = {
        "violations": violations,
        "existing": _existing_choice(said),
        "timeout": said["timeout"],
        **{
            name: _with_section(said)[name]
            for name in ("schema", "config", "section", "x", "python", "revision")
        },
    }
    origin, goal = _address(source, "SOURCE"), _address(target, "TARGET")
    with output.attended() as monitor:
        if dry_run:
            done: Any = commands.plan_clone(origin, target=goal, monitor=monitor, **shared)
        else:
            done = commands.clone(origin, goal, monitor=monitor, **shared, **making)
    output.show(done)


@panicdb.command()
@click.argument("reference")
@click.argument("target")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@options.selection
@options.judging
@_common
def verify(reference: str, target: str, ids: tuple[str, ...], *, output: _Output, **said: Any) -> None:
    """Prove that TARGET is what REFERENCE says: revision, schema, rows, content, foreign keys, sequences, integrity.

    REFERENCE is the source database, or a sealed receipt. The rows expected are those of the selection given; without
    one, those of the receipt beside TARGET; without that, every row of every table. Exit code 1 if anything differs,
    3 if nothing does but a check could not be made.
    """
    from panicdb import commands  # noqa: PLC0415

    judging = {
        name: said.pop(name) for name in ("receipt", "skip", "timeout", "contains", "strict", "show_values")
    }
    chosen = ids or any(said[name] for name in ("ids_file", "where", "all"))
    if not chosen:
        _refuse_modifiers(said)
    choice = _choice(ids, said) if chosen else {}
    origin, goal = _address(reference, "SOURCE"), _address(target, "TARGET")
    with output.attended() as monitor:
        report = commands.verify(origin, goal, monitor=monitor, **judging, **choice)
    output.show(report)
    if not report.ok:
        click.get_current_context().exit(EXIT_DIFFERENT if report.verdict == "DIFFERENT" else EXIT_INCOMPLETE)


@panicdb.command()
@click.argument("source")
@options.naming
@click.option(
    "--infer", is_flag=True, help="Name the revisions that build the live schema, by running all of them."
)
@_common
def drift(source: str, *, output: _Output, **said: Any) -> None:
    """Compare the live schema of SOURCE with what its own migrations build at its revision.

    Exit code 1 if they differ. The migrations run in a guarded child, on a scratch database; nothing else is written.
    """
    from panicdb import commands  # noqa: PLC0415

    with output.attended() as monitor:
        found = commands.drift(_address(source, "SOURCE"), monitor=monitor, **_with_section(said))
    output.show(found)
    if not found.ok:
        click.get_current_context().exit(EXIT_DIFFERENT)


@panicdb.command("list")
@click.argument("source")
@click.option("--root", metavar="TABLE", help="The table whose rows to list.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many to show.")
@_common
def list_command(source: str, *, root: str | None, limit: int, timeout: float, output: _Output) -> None:
    """List what there is to export: key, labels, and the rows that each root owns per table."""
    from panicdb import commands  # noqa: PLC0415

    with output.attended() as monitor:
        roots = commands.list_roots(
            _address(source, "SOURCE"), root=root, limit=limit, timeout=timeout, monitor=monitor
        )
    output.show(roots)


@panicdb.command()
@click.argument("directory", default="panicdb-demo")
@click.pass_context
def demo(ctx: click.Context, directory: str) -> None:
    """Make a source in DIRECTORY, list it, export one experiment, verify it; show each command."""
    from panicdb import demonstration  # noqa: PLC0415
    from panicdb.terminal import attended  # noqa: PLC0415

    with attended() as monitor:
        sample = demonstration.make_source(directory, monitor)
    first = sample.experiments[0]
    copy, clone_copy = (str(Path(directory) / name) for name in ("one.db", "all.db"))
    for arguments in (
        ["list", sample.path],
        ["export", sample.path, copy, first[:8], "--dry-run"],
        ["export", sample.path, copy, first[:8]],
        ["verify", sample.path, copy],
        ["clone", sample.path, clone_copy],
        ["verify", sample.path, clone_copy],
    ):
        _show("$ panicdb " + " ".join(arguments))
        with panicdb.make_context("panicdb", arguments, parent=ctx) as called:
            panicdb.invoke(called)
        _show("")


def _address(text: str, role: str) -> str:
    """`-` stands for an environment variable, so that a password need not be an argument."""
    if text != "-":
        return text
    name = f"PANICDB_{role}"
    value = os.environ.get(name)
    if not value:
        raise UsageError(f"{role} is - but {name} is not set", hint=f"export {name}=...")
    return value


def _with_section(said: dict[str, Any]) -> dict[str, Any]:
    """`--name` is called as Alembic calls it; what it names is a section."""
    return {"section" if name == "name" else name: value for name, value in said.items()}


def _receipt_choice(said: dict[str, Any]) -> bool | str:
    path, none = said.pop("receipt"), said.pop("no_receipt")
    if path and none:
        raise UsageError("--receipt and --no-receipt exclude each other", hint="choose one of them")
    return path or not none


def _existing_choice(said: dict[str, Any]) -> Any:
    merge, replace = said.pop("merge", False), said.pop("replace")
    if merge and replace:
        raise UsageError("--merge and --replace exclude each other", hint="choose one of them")
    return "merge" if merge else "replace" if replace else "refuse"


def _choice(ids: tuple[str, ...], said: dict[str, Any]) -> Any:
    """Turn options, named as their environment variables are, into the keywords of the Python functions."""
    file, every, links = (said.pop(name) for name in ("ids_file", "all", "link"))
    roots = (*ids, *(_read_ids(file) if file else ()))
    return {"roots": roots, "all_roots": every, "links": links, **said}


def _read_ids(file: str) -> list[str]:
    check_file_name(file)
    try:
        with click.open_file(file, encoding="utf-8") as stream:
            found = [line.strip() for line in stream if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f"--ids-file {file}: can't be read: {reason}", hint="name a text file with an id on each line"
        ) from error
    if not found:
        raise UsageError(f"--ids-file {file}: holds no id", hint="put an id on each line, or use --all")
    return found


def _refuse_modifiers(said: dict[str, Any]) -> None:
    """Options that shape a selection mean nothing where none is given."""
    shaping = ("root", "link", "exclude", "whole", "max_rows", "max_bytes")
    if any(said[name] for name in shaping) or said["violations"] != "refuse":
        raise UsageError(
            "these options shape a selection, but none is given",
            hint="add ids, --where SQL or --all",
        )


def _show(text: str) -> None:
    """Print a result; a reader who has gone is no reason to fail."""
    try:
        click.echo(_printable(text))
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _say(f"error: the result can't be printed: {error.strerror}")
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - stays for the exit


def _printable(text: str) -> str:
    """Escape what standard output has no bytes for: the locale may be poor, and names in a database any bytes."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _say(text: str) -> None:
    """Print a message on standard error, if that is still there."""
    try:
        click.echo(redacted(text), err=True)
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - stays for the exit
