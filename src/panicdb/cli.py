"""The command line: parse, call one function, show. The only module that knows Click."""

import functools
import math
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import panicdb as package
from panicdb.errors import PanicDBError, UsageError, check_file_name, redacted

if TYPE_CHECKING:
    from panicdb.values import Monitor

Function = TypeVar("Function", bound=Callable[..., Any])

EXIT_DIFFERENT = 1
UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


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


class Seconds(click.FloatRange):
    """A number of seconds, zero or more."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number; one that compares with nothing would wait for ever."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in new releases of Click only
    """A number of bytes: 500000, 10MB, 2GiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number and its unit."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", str(value).strip().upper())
        if match is None or match[2] not in UNITS:
            self.fail(f"{value!r} is no size, such as 500000, 10MB or 2GiB", param, ctx)
        return int(float(match[1]) * UNITS[match[2]])


def _selection(function: Function) -> Function:
    """Add the options that choose rows."""
    options = [
        click.option(
            "--ids-file",
            metavar="FILE",
            help="Read ids from FILE, one a line; - for standard input.",
        ),
        click.option(
            "--where",
            metavar="SQL",
            help="Choose the root rows for which this SQL condition holds.",
        ),
        click.option("--all", is_flag=True, help="Choose every root row."),
        click.option("--root", metavar="TABLE", help="The table that the ids are keys of."),
        click.option("--link", multiple=True, metavar="LINK=POLICY", help=LINK_HELP),
        click.option(
            "--exclude",
            multiple=True,
            metavar="TABLE",
            help="Take no row of TABLE, and nothing through it.",
        ),
        click.option(
            "--whole",
            multiple=True,
            metavar="TABLE",
            help="Take every row of TABLE, with its parents.",
        ),
        click.option(
            "--max-rows",
            type=click.IntRange(min=0),
            metavar="N",
            help="Refuse to take more than N rows.",
        ),
        click.option("--max-bytes", type=Size(), help="Refuse to take more than SIZE bytes, such as 500MB."),
        click.option(
            "--violations",
            type=click.Choice(["refuse", "keep", "drop"]),
            default="refuse",
            show_default=True,
            help="What to do with rows whose foreign keys lead nowhere in the source.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


LINK_HELP = (
    "What a link does, spelled CHILD.COL[,COL][->PARENT.COL[,COL]]=POLICY. The policy is follow, null, drop or refuse, "
    "and `stay` where owned parents shall not bring children. With -> it may declare a link the schema lacks; "
    "`leave` lets such a link lead out of the result, or nowhere."
)


def _common(function: Function) -> Function:
    """Add the options that every command has."""
    options = [
        click.option(
            "--timeout",
            type=Seconds(),
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
    for option in reversed(options):
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


_MERGE = click.option(
    "--merge",
    is_flag=True,
    help="Add what a target that exists lacks, in one transaction; other content under a known key refuses the run.",
)
_REPLACE = click.option(
    "--replace", is_flag=True, help="Put the finished copy in the place of a target that exists."
)


def _making(function: Function) -> Function:
    """Add the options of commands that make a target."""
    options = [
        click.option("--receipt", metavar="FILE", help="Write the receipt to FILE, not TARGET.receipt.json."),
        click.option("--no-receipt", is_flag=True, help="Write no receipt."),
        click.option("--spool", is_flag=True, help=SPOOL_HELP),
        click.option("--dry-run", is_flag=True, help="Show the plan and write nothing."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


SPOOL_HELP = (
    "Copy the source aside first, so that its writers wait no longer than that takes, in rollback-journal mode. "
    "Needs room for all of it beside TARGET."
)


@click.group(
    cls=PanicGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PANICDB"},
)
@click.version_option(package.__version__, prog_name="panicdb")
def panicdb() -> None:
    """Move the rows you choose, or all of them, between databases: exact, closed, all or nothing.

    SOURCE and TARGET are paths of SQLite files or SQLAlchemy URLs; - takes PANICDB_SOURCE or PANICDB_TARGET from the
    environment. Exit codes: 0 done and every check passed, 1 verify found differences, 2 usage, 3 refused after
    looking, 4 failed on the way with nothing published, 130 or 143 interrupted.
    """
    if sys.platform == "win32":
        raise UsageError("panicdb runs on Linux and macOS: Windows can't publish a file the way it must")


@panicdb.command()
@click.argument("source")
@click.argument("target")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_selection
@_MERGE
@_REPLACE
@_making
@_common
def export(
    source: str,
    target: str,
    ids: tuple[str, ...],
    *,
    dry_run: bool,
    output: _Output,
    **options: Any,
) -> None:
    """Copy the chosen rows, all they own and all they need into a new database.

    ID is the key of a root row, or a unique beginning of four characters or more of a text key.
    """
    from panicdb import commands  # noqa: PLC0415 - `--help` must not wait for a database library

    making = {"receipt": _receipt_choice(options), "spool": options.pop("spool")}
    shared = {"existing": _existing_choice(options), "timeout": options.pop("timeout")}
    choice = _choice(ids, options)
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
@_REPLACE
@_making
@_common
def clone(
    source: str,
    target: str,
    *,
    violations: Any,
    dry_run: bool,
    output: _Output,
    **options: Any,
) -> None:
    """Copy every row of every ordinary table into a new database."""
    from panicdb import commands  # noqa: PLC0415

    making = {"receipt": _receipt_choice(options), "spool": options["spool"]}
    shared = {
        "violations": violations,
        "existing": _existing_choice(options),
        "timeout": options["timeout"],
    }
    origin, goal = _address(source, "SOURCE"), _address(target, "TARGET")
    with output.attended() as monitor:
        if dry_run:
            done: Any = commands.plan_clone(origin, target=goal, monitor=monitor, **shared)
        else:
            done = commands.clone(origin, goal, monitor=monitor, **shared, **making)
    output.show(done)


@panicdb.command()
@click.argument("reference", metavar="SOURCE")
@click.argument("target")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_selection
@click.option(
    "--receipt",
    metavar="FILE",
    help="Take the selection from this receipt, not TARGET.receipt.json.",
)
@click.option("--skip", multiple=True, metavar="CHECK", help="Leave a check out, such as integrity.")
@_common
def verify(reference: str, target: str, ids: tuple[str, ...], *, output: _Output, **options: Any) -> None:
    """Compare TARGET with its SOURCE: revision, schema, row counts, foreign keys, sequences, integrity.

    The rows expected are those of the selection given; without one, those of the receipt beside TARGET; without that,
    every row of every table.
    """
    from panicdb import commands  # noqa: PLC0415

    receipt, skip, timeout = (options.pop(name) for name in ("receipt", "skip", "timeout"))
    chosen = ids or any(options[name] for name in ("ids_file", "where", "all"))
    if not chosen:
        _refuse_modifiers(options)
    choice = _choice(ids, options) if chosen else {}
    with output.attended() as monitor:
        report = commands.verify(
            _address(reference, "SOURCE"),
            _address(target, "TARGET"),
            receipt=receipt,
            skip=skip,
            timeout=timeout,
            monitor=monitor,
            **choice,
        )
    output.show(report)
    if not report.ok:
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


def _receipt_choice(options: dict[str, Any]) -> bool | str:
    path, none = options.pop("receipt"), options.pop("no_receipt")
    if path and none:
        raise UsageError("--receipt and --no-receipt exclude each other", hint="choose one of them")
    return path or not none


def _existing_choice(options: dict[str, Any]) -> Any:
    merge, replace = options.pop("merge", False), options.pop("replace")
    if merge and replace:
        raise UsageError("--merge and --replace exclude each other", hint="choose one of them")
    return "merge" if merge else "replace" if replace else "refuse"


def _choice(ids: tuple[str, ...], options: dict[str, Any]) -> Any:
    """Turn options, named as their environment variables are, into the keywords of the Python functions."""
    file, every, links = (options.pop(name) for name in ("ids_file", "all", "link"))
    roots = (*ids, *(_read_ids(file) if file else ()))
    return {"roots": roots, "all_roots": every, "links": links, **options}


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


def _refuse_modifiers(options: dict[str, Any]) -> None:
    """Options that shape a selection mean nothing where none is given."""
    said = [name for name in ("root", "link", "exclude", "whole", "max_rows", "max_bytes") if options[name]]
    if said or options["violations"] != "refuse":
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
