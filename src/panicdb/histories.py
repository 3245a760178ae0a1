"""Histories of migrations: where their files are, which revisions they hold, how they are run. Nothing is imported."""

import ast
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from panicdb.configuration import (
    INI,
    SECTION,
    TOML,
    ConfigFiles,
    ConfigurationError,
    Files,
    Options,
    named_files,
    sections,
    toml_table,
)
from panicdb.errors import HistoryError, PanicDBError, UsageError
from panicdb.interpreters import Packages, find_interpreter

Way = Literal["environment", "bypass", "command"]
"""How a history is run: through the application's env.py, past it, by the application's own command."""

TIME_LIMIT = 300.0
"""Seconds; the longest history measured, of 285 revisions, took a tenth of that."""


@dataclass(frozen=True)
class Script:
    """One revision file, as far as its text says."""

    revision: str
    down: tuple[str, ...]
    depends: tuple[str, ...]
    """Revisions; where the file names a branch, the one that bears its label."""
    file: Path
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """What an application needs to run its history; said in `[tool.panicdb]`, or known of it."""

    python: str | None = None
    """The interpreter that has the application; by default the one that runs panicdb."""
    flask: str | None = None
    """`module:application`, or a function that makes one, whose context env.py needs."""
    bootstrap: str | None = None
    """`module:metadata` of what the application creates before the first revision."""
    metadata: str | None = None
    """`module:metadata` whose naming convention revisions rely on, where env.py is passed by."""
    command: tuple[str, ...] = ()
    """The application's upgrade command. Filled in: `{url}`, `{async_url}`, `{path}`, `{directory}`, `{revision}`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables the application reads; filled in as `command`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What `upgrade()` of each revision gets, where env.py is passed by."""
    bind: str | None = None
    """The section, among those of a multi-database env.py, or the address, whose database the source is."""
    time_limit: float = TIME_LIMIT
    ways: tuple[Way, ...] = ("environment", "bypass", "command")
    """Those that may work, the truest first; known of an application, never said."""


@dataclass(frozen=True)
class History:
    """Folders of migrations, and the file of each revision in them."""

    name: str
    """How messages call it."""
    location: Path
    scripts: Mapping[str, Script]
    config: ConfigFiles | None = None
    """None: it is run without any file, by its location."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of Alembic that hold instead of a file's."""
    recipe: Recipe = field(default_factory=Recipe)
    version_table: str | None = None
    """What its files say of the version table's name, if they do."""
    binds: tuple[str, ...] = ()
    """The sections of a multi-database env.py."""

    def bound_to(self, bind: str) -> "History":
        """Return the history of one of its databases."""
        return replace(self, recipe=replace(self.recipe, bind=bind))

    @property
    def heads(self) -> tuple[str, ...]:
        """The revisions that no other one follows; one of them may depend on another all the same."""
        followed = {down for script in self.scripts.values() for down in script.down}
        return tuple(sorted(set(self.scripts) - followed))

    def knows(self, revisions: Iterable[str]) -> bool:
        """Tell whether there are revisions, and each one, spelled in full, has a file here."""
        wanted = tuple(revisions)
        return bool(wanted) and all(revision in self.scripts for revision in wanted)

    def ancestors(self, revision: str) -> frozenset[str]:
        """Return all that runs before a revision, dependencies included."""
        found: set[str] = set()
        waiting = [revision]
        while waiting:
            script = self.scripts.get(waiting.pop())
            before = () if script is None else (*script.down, *script.depends)
            waiting += [each for each in before if each not in found]
            found.update(before)
        return frozenset(found)

    def maximal(self, revisions: Iterable[str]) -> tuple[str, ...]:
        """Return the revisions without those that run before another one of them: Alembic refuses these."""
        wanted = tuple(dict.fromkeys(revisions))
        before = frozenset[str]().union(*map(self.ancestors, wanted))
        return tuple(revision for revision in wanted if revision not in before)


@dataclass(frozen=True)
class HistoryChoice:
    """Which history the user means, spelled as for `alembic`; nothing said: what is found."""

    config: tuple[str, ...] = ()
    section: str | None = None
    arguments: tuple[str, ...] = ()
    python: str | None = None

    @property
    def named(self) -> bool:
        """Tell whether one was named, so that no other will do."""
        return bool(self.config or self.section)


@dataclass(frozen=True)
class Package:
    """Where an installed application has its history, and how that is run."""

    application: str
    name: str
    """The package whose folder is the script directory, dotted."""
    recipe: Recipe = field(default_factory=Recipe)
    versions: str = "versions"
    """The folder of its revisions, below that; `{engine}` in it is the database's."""


def bundled_history() -> History:
    """Locate the PANIC-TDA history: inside the installed package, else beside `src` in a checkout."""
    package = Path(__file__).resolve().parent
    for location in (package / "migrations", package.parent.parent / "migrations"):
        if (location / "env.py").is_file():
            return _read_installed(location, name="the bundled history", folders=())
    raise PanicDBError("the bundled migrations are missing", hint="reinstall panicdb")


def read_history(
    location: Path, *, name: str = "", folders: Sequence[Path] = (), deep: bool = False
) -> History:
    """Parse the revision files below `location`, or in `folders`; nothing of them is executed.

    Raises UsageError for a file that can't be read.
    """
    files = dict.fromkeys(
        file for folder in folders or (location / "versions",) for file in _revision_files(folder, deep=deep)
    )
    with warnings.catch_warnings(action="ignore"):  # what a parser has to say of them is not for our users
        read = [script for file in files if (script := _read_script(file)) is not None]
    scripts = {script.revision: script for script in read}
    known = {label: script.revision for script in read for label in script.labels}
    known |= {revision: revision for revision in scripts}
    for script in read:
        depends = tuple(known.get(each, each) for each in script.depends)
        scripts[script.revision] = replace(script, depends=depends)
    return History(name or str(location), location, scripts)


def configured_histories(choice: HistoryChoice, cwd: Path) -> tuple[History, ...]:
    """Return the histories that files in `cwd` configure, or those that `choice` names. Reads files only.

    One file may configure several, in sections of their own. Raises UsageError for a file that can't be read or says
    nothing of a history, if the user named it; one that merely lies here is passed over. What `[tool.panicdb]` says is
    for us alone, so a mistake in that is always told.
    """
    cwd = cwd.absolute()
    named = named_files(choice.config, cwd)
    recipe = Recipe(**_settings(_settings_file(named, cwd), choice, cwd))
    try:
        found = _found(named, recipe, choice, cwd)
    except ConfigurationError:
        if choice.named:
            raise
        return ()
    if choice.named and not found:
        raise _nothing_found(named.completed(cwd, cwd), choice, cwd)
    return found


def _found(named: Files, recipe: Recipe, choice: HistoryChoice, cwd: Path) -> tuple[History, ...]:
    """Alembic looks from where it runs; a file that is named from elsewhere may mean its own folder."""
    here = named.completed(cwd, cwd)
    main = named.ini or named.toml or here.ini or here.toml
    errors = []
    for folder in dict.fromkeys((cwd, main.absolute().parent if main else cwd)):
        try:
            found = _seen_from(folder, named.completed(folder, cwd), recipe, choice)
        except ConfigurationError as error:
            errors.append(error)
        else:
            if found:
                return found
    if errors:
        raise errors[0]
    return ()


def _seen_from(folder: Path, files: Files, recipe: Recipe, choice: HistoryChoice) -> tuple[History, ...]:
    packages = Packages(recipe.python, folder)
    configs = [
        ConfigFiles(files.ini, files.toml, section, choice.arguments, folder)
        for section in sections(files.ini, choice.section)
    ]
    return tuple(read for config in configs if (read := _configured(config, recipe, packages)) is not None)


def _nothing_found(files: Files, choice: HistoryChoice, cwd: Path) -> UsageError:
    section = choice.section or SECTION
    said = Options(ConfigFiles(files.ini, files.toml, section, (), cwd)).get("script_location")
    where = f"section [{section}] of " if choice.section else ""
    if files == Files():
        return UsageError(
            f"there is no {INI} and no {TOML} here", hint="name Alembic's own configuration with -c"
        )
    what = "there is no script_location" if said is None else f"script_location {said} leads to no env.py"
    hint = "name Alembic's own configuration with -c, and its section with -n"
    if said is not None and ":" in said:
        hint += "; --python names the interpreter that has the package"
    return UsageError(f"{where}{' and '.join(choice.config) or INI}: {what}", hint=hint)


def packaged_history(package: Package, choice: HistoryChoice, cwd: Path, engine: str) -> History | None:
    """Return the history inside an application that is installed for the interpreter, or None. Imports nothing.

    `engine` names the database's. Raises UsageError as `configured_histories` does for `[tool.panicdb]`, and for an
    interpreter that can't be run.
    """
    recipe = replace(package.recipe, **_settings(cwd / TOML, choice, cwd))
    folders = Packages(recipe.python, cwd).folders(package.name)
    location = next((folder for folder in folders if (folder / "env.py").is_file()), None)
    if location is None:
        return None
    versions = location / package.versions.replace("{engine}", engine)
    history = _read_installed(location, name=f"{package.application}'s history", folders=(versions,))
    # Each version of Alembic knows one of the two, and the newer ones prefer the first.
    separators = dict.fromkeys(("path_separator", "version_path_separator"), "newline")
    return replace(history, recipe=recipe, options={"version_locations": str(versions), **separators})


def _read_installed(location: Path, *, name: str, folders: Sequence[Path]) -> History:
    """What is installed was not written by the user: that it can't be read is no usage."""
    try:
        return read_history(location, name=name, folders=folders)
    except ConfigurationError as error:
        raise HistoryError(error.message, hint=f"{name} is not whole: install it anew") from error


def _configured(config: ConfigFiles, recipe: Recipe, packages: Packages) -> History | None:
    options = Options(config)
    ahead = tuple(config.cwd / folder for folder in options.search_path())
    places = _Places(config.cwd, packages, ahead)
    said = options.get("script_location")
    location = _unsaid_location(config) if said is None else places.find(said)
    if location is None or not (location / "env.py").is_file():
        return None
    folders = [places.find(folder) for folder in options.version_locations()]
    if None in folders:
        raise ConfigurationError(
            f"{config.ini or config.toml}: version_locations names a package that is not there",
            hint="--python names the interpreter that has it",
        )
    shown = (config.ini or config.toml or location).name
    history = read_history(
        location,
        name=shown if config.section == SECTION else f"[{config.section}] of {shown}",
        folders=[folder for folder in folders if folder],
        deep=options.flag("recursive_version_locations"),
    )
    return replace(
        history,
        config=config,
        recipe=recipe,
        options={"script_location": str(location)} if said is None else {},
        version_table=options.note("version_table") or None,
        binds=tuple(filter(None, re.split(r",\s*", options.note("databases").strip()))),
    )


def _unsaid_location(config: ConfigFiles) -> Path | None:
    """Flask-Migrate keeps its file in the folder of the migrations, and says the rest on its command line."""
    return config.ini.absolute().parent if config.ini is not None and config.section == SECTION else None


@dataclass(frozen=True)
class _Places:
    """Where folders and packages are, as seen from where Alembic runs."""

    cwd: Path
    packages: Packages
    ahead: tuple[Path, ...]

    def find(self, said: str) -> Path | None:
        """Return the folder that is meant, or None if it is in a package that is not there."""
        if os.path.isabs(said) or ":" not in said:
            return self.cwd / said
        package, *inside = said.split(":")
        folders = [folder.joinpath(*inside) for folder in self.packages.folders(package, self.ahead)]
        return next((folder for folder in folders if folder.exists()), next(iter(folders), None))


# Settings

_SETTINGS = {
    "python": "python",
    "flask-app": "flask",
    "bootstrap": "bootstrap",
    "metadata": "metadata",
    "upgrade-command": "command",
    "environment": "environment",
    "upgrade-arguments": "arguments",
    "bind": "bind",
    "time-limit": "time_limit",
}


def _settings_file(named: Files, cwd: Path) -> Path:
    """The TOML file that was named, else the one beside the ini file that was, else the one here."""
    beside = [] if named.ini is None else [named.ini.parent / TOML]
    here = named.completed(cwd, cwd).toml
    return next(
        (file for file in (named.toml, *beside, here) if file is not None and file.is_file()), cwd / TOML
    )


def _settings(file: Path, choice: HistoryChoice, cwd: Path) -> dict[str, Any]:
    """Read `[tool.panicdb]`. Raises UsageError for what it does not know, or can't take."""
    table = _settings_table(file, choice)
    unknown = sorted(set(table) - set(_SETTINGS))
    if unknown:
        raise UsageError(
            f"{file}: [tool.panicdb] has no setting {unknown[0]!r}", hint="settings: " + ", ".join(_SETTINGS)
        )
    given = {_SETTINGS[name]: _checked(file, name, value) for name, value in table.items()}
    if choice.python is not None:
        given["python"] = find_interpreter(choice.python, cwd)
    elif "python" in given:
        given["python"] = _own_interpreter(file, given["python"])
    return given


def _settings_table(file: Path, choice: HistoryChoice) -> Mapping[str, Any]:
    try:
        table = toml_table(file, "panicdb") if file.is_file() else {}
    except ConfigurationError:
        if choice.named:
            raise
        return {}
    if not isinstance(table, dict):
        raise UsageError(f"{file}: tool.panicdb is no table", hint="[tool.panicdb] begins one")
    return table


def _own_interpreter(file: Path, said: str) -> str:
    """What is not there is told when it is needed, for this history may be another one's neighbour only."""
    folder = file.absolute().parent
    try:
        return find_interpreter(said, folder)
    except UsageError:
        return str(folder / said)


_WANTED: Mapping[str, tuple[type, ...]] = {
    "upgrade-command": (list,),
    "environment": (dict,),
    "upgrade-arguments": (dict,),
    "time-limit": (int, float),
}


def _checked(file: Path, name: str, value: Any) -> Any:
    fits = isinstance(value, _WANTED.get(name, (str,))) and not isinstance(value, bool)
    if name == "time-limit":
        fits = fits and value > 0
    if name == "upgrade-command":
        fits = fits and bool(value) and all(isinstance(each, str) for each in value)
    if not fits:
        raise UsageError(
            f"{file}: {name} of [tool.panicdb] can't be {value!r}",
            hint="see docs/histories.md for the settings",
        )
    if name == "environment":
        return {str(variable): str(text) for variable, text in value.items()}
    return tuple(value) if name == "upgrade-command" else value


# Files of revisions

_REVISION_FILE = re.compile(r"(?!\.#|__init__).*\.py")
_NAMED_BY_FILE = re.compile(r"([a-f0-9]+)\.py")
_UNKNOWN = object()
"""What a name stands for that is not assigned a literal."""


def _revision_files(folder: Path, *, deep: bool) -> Iterator[Path]:
    """Yield what Alembic would load, in its order: a later file of the same revision holds."""
    for root, folders, names in os.walk(folder):
        if not root.endswith("__pycache__"):
            files = (Path(root, name).resolve() for name in sorted(names))
            yield from (file for file in files if _REVISION_FILE.fullmatch(file.name))
            if not deep:
                return
        folders.sort()


def _read_script(file: Path) -> Script | None:
    try:
        names = dict(_literal_names(file))
    except OSError as error:
        raise ConfigurationError(
            f"{file}: can't be read: {error.strerror}", hint="it is, or looks like, a revision of a history"
        ) from error
    by_file = _NAMED_BY_FILE.match(file.name) if "down_revision" in names else None
    revision = names.get("revision", by_file and by_file[1])
    if not isinstance(revision, str):
        return None
    down, depends, labels = (
        _as_tuple(names.get(name)) for name in ("down_revision", "depends_on", "branch_labels")
    )
    return Script(revision, down, depends, file, labels)


def _literal_names(file: Path) -> Iterator[tuple[str, object]]:
    """Yield what a revision file assigns to plain names."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # no Python, so no revision that could be run
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            value = _literal(node.value)
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from _assigned(target, value)


def _literal(value: ast.expr) -> object:
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _UNKNOWN


def _assigned(target: ast.expr, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple | ast.List):
        known = value if isinstance(value, tuple | list) and len(value) == len(target.elts) else ()
        for part, each in zip(target.elts, known or [_UNKNOWN] * len(target.elts), strict=True):
            yield from _assigned(part, each)


def _as_tuple(value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list | tuple | set) else (value,)
    return tuple(part for part in parts if isinstance(part, str))
