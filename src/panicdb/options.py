"""Options that several commands share: which rows, which schema, which target. Click's words only, no work."""

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

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


def selection(function: Function) -> Function:
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


def naming(function: Function) -> Function:
    """Add the options that name a history of migrations, spelled as `alembic` spells them."""
    options = [
        click.option(
            "-c",
            "--config",
            multiple=True,
            metavar="FILE",
            help="Alembic's configuration: an ini file, a TOML file, or both. By default alembic.ini and "
            "pyproject.toml here, if they know the source's revision.",
        ),
        click.option("-n", "--name", metavar="SECTION", help="The section of the ini file to use."),
        click.option(
            "-x", "x", multiple=True, metavar="ARG", help="An argument for env.py, as `alembic -x` has it."
        ),
        click.option(
            "--python",
            metavar="PATH",
            help="The interpreter of the application's environment, which runs its migrations.",
        ),
        click.option(
            "--revision",
            metavar="REV",
            help="The revision of a source that has none written down; several with commas.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def building(function: Function) -> Function:
    """Add the options that say how the target gets its schema."""
    mode = click.option(
        "--schema",
        type=click.Choice(["auto", "migrations", "copy"]),
        default="auto",
        show_default=True,
        help="By the application's migrations if they build what the source has, else copied (auto); only by "
        "migrations; or copied from the source's definitions.",
    )
    return mode(naming(function))


MERGE = click.option(
    "--merge",
    is_flag=True,
    help="Add what a target that exists lacks, in one transaction; other content under a known key refuses the run.",
)
REPLACE = click.option(
    "--replace", is_flag=True, help="Put the finished copy in the place of a target that exists."
)


def making(function: Function) -> Function:
    """Add the options of commands that make a target."""
    options = [
        click.option("--receipt", metavar="FILE", help="Write the receipt to FILE, not TARGET.receipt.json."),
        click.option("--no-receipt", is_flag=True, help="Write no receipt."),
        click.option("--spool", is_flag=True, help=SPOOL_HELP),
        click.option(
            "--verify",
            is_flag=True,
            help="Read the copy again and compare its content before it is published.",
        ),
        click.option(
            "--seal", is_flag=True, help="Write digests into the receipt, so that it alone can prove TARGET."
        ),
        click.option("--dry-run", is_flag=True, help="Show the plan and write nothing."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def judging(function: Function) -> Function:
    """Add the options of verify."""
    options = [
        click.option(
            "--contains",
            is_flag=True,
            help="Let TARGET hold further rows, if the source holds them identically.",
        ),
        click.option(
            "--receipt", metavar="FILE", help="Take the selection from this receipt, not TARGET.receipt.json."
        ),
        click.option("--skip", multiple=True, metavar="CHECK", help="Leave a check out, such as integrity."),
        click.option(
            "--strict", is_flag=True, help="Between engines: what had to be lost is a difference, too."
        ),
        click.option("--show-values", is_flag=True, help="Show the values of rows that differ."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


SPOOL_HELP = (
    "Copy the source aside first, so that its writers wait no longer than that takes, in rollback-journal mode. "
    "Needs room for all of it beside TARGET."
)
