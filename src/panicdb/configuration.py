"""Alembic's files of configuration: which ones are read, and what they say, by Alembic's own rules."""

import configparser
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from panicdb.errors import UsageError

INI, TOML = "alembic.ini", "pyproject.toml"
SECTION = "alembic"
_VARIABLE = "ALEMBIC_CONFIG"
_SEPARATORS = {"os": os.pathsep, "space": " ", "newline": "\n", ";": ";", ":": ":"}
# How lists were split before `path_separator`, and still are without one. Empty parts stay, as they do in Alembic.
_LEGACY_LOCATIONS = re.compile(r", *|(?: +)")
_LEGACY_PATH = re.compile(r", *|(?: +)|\:")
_LOGGING = re.compile(r"(loggers|handlers|formatters)$|(logger|handler|formatter)_|post_write_hooks$")


class ConfigurationError(UsageError):
    """A file can't be read, or says what Alembic does not understand."""


@dataclass(frozen=True)
class ConfigFiles:
    """Files as Alembic's `-c` names them, and the directory that it would run in."""

    ini: Path | None
    toml: Path | None
    section: str
    arguments: tuple[str, ...]
    cwd: Path


@dataclass(frozen=True)
class Files:
    """An ini and a TOML file, each if there is one."""

    ini: Path | None = None
    toml: Path | None = None

    def completed(self, folder: Path, cwd: Path) -> "Files":
        """Add what Alembic, run in `folder`, reads without being told; a variable of ours names it from `cwd`."""
        said = os.environ.get(_VARIABLE)
        ini, toml = folder / INI, folder / TOML
        if said and os.path.basename(said) == TOML:
            toml = cwd / said
        elif said:
            ini = cwd / said
        return Files(self.ini or _if_there(ini), self.toml or _if_there(toml))


def named_files(names: Sequence[str], cwd: Path) -> Files:
    """Tell the files that `-c` names apart. Raises UsageError for two of one kind, and for one that is not there."""
    paths = [cwd / name for name in names]
    for path, name in zip(paths, names, strict=True):
        if not path.is_file():
            raise UsageError(f"{name}: no such file", hint="-c names alembic.ini, or pyproject.toml, or both")
    tomls = [path for path in paths if path.suffix == ".toml"]
    inis = [path for path in paths if path.suffix != ".toml"]
    if len(tomls) > 1 or len(inis) > 1:
        raise UsageError(
            f"-c was given twice for one kind of file: {' and '.join(names)}",
            hint="one ini file and one TOML file at most",
        )
    return Files(next(iter(inis), None), next(iter(tomls), None))


def sections(ini: Path | None, named: str | None) -> tuple[str, ...]:
    """Return the sections to look at: a file without the usual one may have several others, each with a history."""
    if named is not None or ini is None:
        return (named or SECTION,)
    parser = _parser(ini)
    if parser.has_section(SECTION):
        return (SECTION,)
    others = (each for each in parser.sections() if parser.has_option(each, "script_location"))
    return tuple(each for each in others if not _LOGGING.match(each)) or (SECTION,)


class Options:
    """What the files say, read as Alembic reads it: the section of the ini file first, then `[tool.alembic]`.

    Whatever can't be read raises ConfigurationError when it is asked for, not before: an address that Alembic never
    looks at may hold a lone %.
    """

    def __init__(self, files: ConfigFiles) -> None:
        self._files = files

    def get(self, name: str) -> str | None:
        """Return an option that is a text."""
        value = self._in_ini(name)
        if value is None:
            value = self._in_toml(name)
        if value is not None and not isinstance(value, str):
            raise self._unfit(name, value)
        return value

    def note(self, name: str) -> str:
        """Return an option that Alembic knows nothing of; nothing where it is no text that can be read."""
        try:
            return self.get(name) or ""
        except ConfigurationError:
            return ""

    def flag(self, name: str) -> bool:
        """Return an option that is true or not; an ini file says so in one spelling only."""
        said = self._in_ini(name)
        if said is not None:
            return said == "true"
        value = self._table.get(name, False)
        if not isinstance(value, bool):
            raise self._unfit(name, value)
        return value

    def version_locations(self) -> tuple[str, ...]:
        """Return the folders of revisions; none where the usual one holds."""
        return self._listed(
            "version_locations", _LEGACY_LOCATIONS, ("path_separator", "version_path_separator")
        )

    def search_path(self) -> tuple[str, ...]:
        """Return the folders that are searched for packages before all others."""
        return self._listed("prepend_sys_path", _LEGACY_PATH, ("path_separator",))

    def _listed(self, name: str, legacy: re.Pattern[str], separators: Sequence[str]) -> tuple[str, ...]:
        said = self._in_ini(name)
        if not said:
            # Alembic takes a text for a list of its characters, and so do we.
            return tuple(self._in_toml(name) or ())
        given = ((each, self._in_ini(each)) for each in separators)
        option, separator = next((pair for pair in given if pair[1] is not None), ("", None))
        if separator is None:
            return tuple(legacy.split(said))
        if separator not in _SEPARATORS:
            raise self._unfit(option, separator)
        return tuple(part.strip() for part in said.split(_SEPARATORS[separator]) if part)

    @cached_property
    def _ini(self) -> configparser.ConfigParser | None:
        return None if self._files.ini is None else _parser(self._files.ini)

    @cached_property
    def _table(self) -> Mapping[str, Any]:
        if self._files.toml is None:
            return {}
        table = toml_table(self._files.toml, "alembic")
        if not isinstance(table, dict):
            raise ConfigurationError(
                f"{self._files.toml}: tool.alembic is no table", hint="[tool.alembic] begins one"
            )
        return table

    def _in_ini(self, name: str) -> str | None:
        try:
            return None if self._ini is None else self._ini.get(self._files.section, name, fallback=None)
        except configparser.InterpolationError as error:
            raise ConfigurationError(
                f"{self._files.ini}: {name} can't be read: {in_one_line(error)}",
                hint="a % that stands for itself is written %%",
            ) from error

    def _in_toml(self, name: str) -> Any:
        value = self._table.get(name)
        if value is None or self._files.toml is None:
            return None
        known = {"here": self._files.toml.absolute().parent.as_posix()}
        try:
            return value % known if isinstance(value, str) else [each % known for each in value]
        except (KeyError, TypeError, ValueError) as error:
            raise self._unfit(name, value) from error

    def _unfit(self, name: str, value: object) -> ConfigurationError:
        files = " and ".join(str(file) for file in (self._files.ini, self._files.toml) if file)
        return ConfigurationError(
            f"{files}: {name} can't be {value!r}", hint="`alembic heads` tells whether Alembic understands it"
        )


def toml_table(file: Path, name: str) -> Any:
    """Return what a TOML file has for a tool; an empty table if it has nothing. Raises ConfigurationError."""
    try:
        tools = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{file}: can't be read: {in_one_line(error)}", hint="it must be TOML, in UTF-8"
        ) from error
    return tools.get(name, {}) if isinstance(tools, dict) else {}


def in_one_line(error: BaseException) -> str:
    """Return an error's text without its line breaks."""
    return " ".join(str(error).split())


def _parser(ini: Path) -> configparser.ConfigParser:
    """Read an ini file as Alembic does: `%(here)s` is the file's folder."""
    parser = configparser.ConfigParser({"here": ini.absolute().parent.as_posix()})
    try:
        with ini.open(encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigurationError(
            f"{ini}: can't be read: {in_one_line(error)}", hint="it must be an ini file, in UTF-8"
        ) from error
    return parser


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None
