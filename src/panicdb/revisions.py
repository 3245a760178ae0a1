"""Version tables and histories: which history knows which version table's rows, and so how a schema is to be built."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from panicdb import profiles
from panicdb.errors import HistoryError
from panicdb.histories import (
    History,
    HistoryChoice,
    Way,
    bundled_history,
    configured_histories,
    packaged_history,
)
from panicdb.values import Catalog, Kind

Mode = Literal["auto", "migrations", "copy"]
"""How the target gets its schema: by migrations where they build it, by nothing else, from the source's definitions."""
DEFAULT_TABLE = "alembic_version"


@dataclass(frozen=True)
class SchemaChoice:
    """What the user says about the target's schema."""

    mode: Mode = "auto"
    revisions: tuple[str, ...] = ()
    """Where a source stands that has no revision written down, sorted."""
    history: HistoryChoice = field(default_factory=HistoryChoice)


@dataclass(frozen=True)
class Assignment:
    """One version table, its rows, and the history that knows them all."""

    table: str
    rows: tuple[str, ...]
    history: History

    @property
    def wanted(self) -> tuple[str, ...]:
        """The revisions to upgrade to: rows without those that run before another one."""
        return self.history.maximal(self.rows)

    @property
    def redundant(self) -> tuple[str, ...]:
        """The rows that no upgrade leaves, since another one stands for them."""
        return tuple(row for row in self.rows if row not in self.wanted)


@dataclass(frozen=True)
class Route:
    """How the target gets its schema, and why."""

    method: str
    """`migrations` or `copy`; `merge` where the target exists and has its schema."""
    reason: str
    assignments: tuple[Assignment, ...] = ()
    required: bool = False
    """Nothing but migrations will do."""
    stamped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Version rows that the user gave to a source without any; its target has them."""

    @property
    def python(self) -> str | None:
        """The interpreter that the first history needs."""
        return self.assignments[0].history.recipe.python if self.assignments else None

    def ways(self) -> tuple[Way, ...]:
        """Return the ways to run these histories, the truest first."""
        recipes = [assignment.history.recipe for assignment in self.assignments]
        return tuple(
            way
            for way in recipes[0].ways
            if all(way in recipe.ways and (way != "command" or recipe.command) for recipe in recipes)
        )


def find_route(catalog: Catalog, choice: SchemaChoice, cwd: Path, engine: str) -> Route:
    """Decide how a database's schema is to be built: by the histories that know all its revisions, else by copying.

    Reads configuration and revision files in `cwd`, or where `choice` says; runs nothing. `engine` names the
    database's: some applications have a history for each. Raises HistoryError where `choice` forbids copying, names a
    history that does not fit, or where two histories fit equally well.
    """
    if choice.mode == "copy":
        return Route("copy", "as chosen")
    given = _given(catalog, choice)
    revisions = {**catalog.revisions, **given}
    reason = _unstamped(revisions)
    if reason is not None:
        return _copy(reason, choice, hint=_where_it_stands(revisions))
    known = _known(catalog, choice.history, cwd, engine)
    found = {table: _find(table, rows, known) for table, rows in revisions.items()}
    unknown = [table for table, history in found.items() if history is None]
    if unknown:
        reason = _unknown_reason(revisions, unknown, known) + _missing_package(catalog, choice, known)
        return _copy(reason, choice, hint="check out the code that has this revision, and name it with -c")
    assignments = tuple(
        Assignment(table, revisions[table], history)
        for table, history in found.items()
        if history is not None
    )
    reason = "; ".join(f"{each.history.name} knows revision {', '.join(each.rows)}" for each in assignments)
    required = choice.mode == "migrations" or bool(given)
    return Route("migrations", reason, assignments, required, given)


def candidates(catalog: Catalog, choice: HistoryChoice, cwd: Path, engine: str) -> tuple[History, ...]:
    """Return the histories that a database may belong to, by files in `cwd`, by its tables, or as the user says."""
    known = _known(catalog, choice, cwd, engine)
    profile = profiles.recognise(catalog)
    bundled = known.bundled if profile is not None and profile.package is None else ()
    found = (*known.configured, *known.packaged, *bundled)
    if not found:
        raise HistoryError("no history of migrations is known", hint="name its configuration with -c")
    return found


def _given(catalog: Catalog, choice: SchemaChoice) -> Mapping[str, tuple[str, ...]]:
    """Take the user's word for the version table that has no rows."""
    if not choice.revisions:
        return {}
    said = ", ".join(choice.revisions)
    empty = [table for table, rows in catalog.revisions.items() if not rows]
    if catalog.revisions and not empty:
        table, there = next(iter(catalog.revisions.items()))
        raise HistoryError(
            f"the source is at revision {', '.join(there)} ({table}), and --revision says {said}",
            hint="leave --revision out; it is for sources without version rows",
        )
    if len(empty) > 1:
        raise HistoryError(
            f"the version tables {' and '.join(empty)} are empty, and --revision says {said} of one",
            hint="stamp them with the application's own Alembic",
        )
    return {next(iter(empty), DEFAULT_TABLE): choice.revisions}


def _unstamped(revisions: Mapping[str, tuple[str, ...]]) -> str | None:
    if not revisions:
        return "the source has no Alembic version table"
    empty = [table for table, rows in revisions.items() if not rows]
    if len(empty) == len(revisions):
        return (
            "the source's version table is empty"
            if len(empty) == 1
            else "the source's version tables are empty"
        )
    return f"the source's version table {empty[0]} is empty" if empty else None


def _where_it_stands(revisions: Mapping[str, tuple[str, ...]]) -> str:
    if sum(1 for rows in revisions.values() if not rows) > 1:
        return "stamp them with the application's own Alembic"
    return "--revision says where it stands; `panicdb drift --infer` finds that out"


def _copy(reason: str, choice: SchemaChoice, *, hint: str) -> Route:
    if choice.mode == "migrations" or choice.history.named or choice.revisions:
        raise HistoryError(f"there are no migrations to run: {reason}", hint=hint)
    return Route("copy", reason)


@dataclass(frozen=True)
class _Known:
    """The histories that are known, those first that are asked first."""

    configured: tuple[History, ...]
    others: tuple[History, ...] = ()
    """Those of other sections than the one named: a database may have version tables of several."""
    packaged: tuple[History, ...] = ()
    bundled: tuple[History, ...] = ()

    @property
    def tiers(self) -> tuple[tuple[History, ...], ...]:
        return (self.configured, self.others, self.packaged, self.bundled)


def _known(catalog: Catalog, choice: HistoryChoice, cwd: Path, engine: str) -> _Known:
    configured = configured_histories(choice, cwd)
    if choice.named:
        several = choice.section is not None and len(catalog.revisions) > 1
        others = configured_histories(replace(choice, section=None), cwd) if several else ()
        return _Known(configured, others)
    profile = profiles.recognise(catalog)
    package = profile.package if profile is not None else None
    history = None if package is None else packaged_history(package, choice, cwd, engine)
    return _Known(configured, (), () if history is None else (history,), (bundled_history(),))


def _find(table: str, rows: tuple[str, ...], known: _Known) -> History | None:
    for tier in known.tiers:
        knowing = [history for history in tier if history.knows(rows)]
        own = [history for history in knowing if history.version_table == table]
        if len(own) == 1 or len(knowing) == 1:
            return (own or knowing)[0]
        if knowing:
            raise HistoryError(
                f"{table}: revision {', '.join(rows)} is known to "
                f"{' and to '.join(history.name for history in knowing)}",
                hint="name the one that made this database with -c and -n",
            )
    return None


def _unknown_reason(revisions: Mapping[str, tuple[str, ...]], unknown: list[str], known: _Known) -> str:
    scripts = {revision for tier in known.tiers for history in tier for revision in history.scripts}
    rows = [row for table in unknown for row in revisions[table]]
    missing = dict.fromkeys(row for row in rows if row not in scripts)
    if not missing:
        return f"no single history has revisions {', '.join(dict.fromkeys(rows))}"
    return f"no known history has revision {', '.join(missing)}"


def _missing_package(catalog: Catalog, choice: SchemaChoice, known: _Known) -> str:
    """Where the application is recognised but not installed here, say how to get at its migrations."""
    profile = profiles.recognise(catalog)
    if choice.history.named or profile is None or profile.package is None:
        return ""
    if known.packaged:  # its own history is there, and too old or too new
        return ""
    return (
        f"; {profile.package.application} is not installed here, --python names the interpreter that has it"
    )


def version_tables(catalog: Catalog) -> frozenset[str]:
    """Return the names of a database's version tables."""
    return frozenset(name for name, table in catalog.tables.items() if table.kind is Kind.VERSION)
