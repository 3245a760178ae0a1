"""The rules of the house: who imports whom, who names an engine, how long a thing may be, what documents must name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from panicdb.cli import panicdb

pytestmark = pytest.mark.quick

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "src" / "panicdb"

# From top to bottom: a module imports modules of lines below its own only, so those side by side don't know each other.
LAYERS = """
__main__
cli
render terminal options
commands demonstration
proofs
runs
verification equivalence
reports discrepancies digester
contents
receipt
seals
merge drifts
transfer building crossing
planner
closure
references
walk
replays revisions
profiles
histories roots
configuration
interpreters
model conversion
conversion.leaving_sqlite conversion.leaving_postgresql conversion.canonical
conversion.leaving_sqlite_lists conversion.leaving_sqlite_times
conversion.arrays conversion.common conversion.json_texts conversion.losses conversion.refusals
schema experiments
links
databases
guarded.child
guarded.history
guarded.command guarded.engines
guarded.drafts
guarded.files
guarded.guard guarded.landlock
guarded.clients guarded.drivers guarded.environment
guarded.aims guarded.targets
guarded
backends
backends.pairing
backends.postgresql
backends.postgresql.publish
backends.postgresql.load backends.postgresql.structure backends.postgresql.targets
backends.postgresql.snapshot
backends.postgresql.health backends.postgresql.keys backends.postgresql.lines backends.postgresql.sequences
backends.postgresql.views
backends.postgresql.rows
backends.postgresql.catalog backends.postgresql.commits backends.postgresql.databases
backends.postgresql.definitions backends.postgresql.emptiness backends.postgresql.privileges
backends.postgresql.sessions
backends.postgresql.faults
backends.postgresql.addresses
backends.postgresql.facts
backends.postgresql.facts.domains
backends.postgresql.facts.constraints backends.postgresql.facts.kinds
backends.postgresql.facts.relations
backends.postgresql.facts.things
backends.postgresql.names backends.postgresql.types
backends.postgresql.facts.expressions backends.postgresql.facts.records backends.postgresql.facts.demands
backends.postgresql.relay
backends.postgresql.relay.tunnel
backends.postgresql.relay.messages backends.postgresql.relay.pumps backends.postgresql.relay.trespass
backends.sqlite
backends.sqlite.merge backends.sqlite.comparison
backends.sqlite.publish
backends.sqlite.exchange backends.sqlite.spool
backends.sqlite.private backends.sqlite.load
backends.sqlite.snapshot
backends.sqlite.facts backends.sqlite.lines
backends.sqlite.catalog backends.sqlite.keys backends.sqlite.virtual backends.sqlite.files
backends.sqlite.ddl backends.sqlite.types
backends.delivery
backends.base
backends.conversions
digest
values errors
"""
PLACE = {module: place for place, line in enumerate(LAYERS.split("\n")) for module in line.split()}

# Who alone may import what; a name stands for all below it.
IMPORTERS = {
    "click": {"cli", "options"},
    "sqlite3": {"backends", "guarded"},
    "psycopg": {"backends", "guarded"},
    "alembic": {"guarded"},
}
ENGINE = re.compile(r"sqlite|postgres|psycopg|mysql|mariadb", re.IGNORECASE)
# Modules outside backends and guarded that name an engine all the same, and what they say.
NAMING = {"demonstration": {"sqlite"}}

LONGEST_FILE = 500
LONGEST_FUNCTION = 60
# One subject each, and too long for it; nothing joins this list.
TOO_LONG = {"backends.sqlite.ddl", "backends.sqlite.facts"}


def modules() -> dict[str, Path]:
    """Return every module below the package by its dotted name; the package itself is ''."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()
NAMED = sorted(name for name in MODULES if name)


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imported(name: str) -> Iterator[str]:
    """Yield the full names of what a module imports, wherever in it."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # The guarded child knows its package by another name, so its modules find each other from where they are.
            relative = name.startswith("guarded.")
            assert node.level == 0 or (relative and node.level == 1), f"{name}: imports are absolute"
            parts = (["panicdb", "guarded"] if node.level else []) + ([node.module] if node.module else [])
            module = ".".join(parts).replace("panicdb_guarded", "panicdb.guarded")
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield full if full.removeprefix("panicdb.") in MODULES else module


def test_every_module_has_one_place():
    listed = LAYERS.split()
    assert len(listed) == len(set(listed))
    assert set(listed) == set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_imports_point_one_way(name):
    inside = {full for full in imported(name) if full.split(".")[0] == "panicdb"}
    goals = {full.removeprefix("panicdb").removeprefix(".") for full in inside}
    # The package itself holds nothing but the version and lazy names.
    assert {goal for goal in goals if goal and PLACE[goal] <= PLACE[name]} == set()


def test_the_package_imports_nothing_when_it_is_imported():
    body = [node for node in tree("").body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.module for node in body] == ["typing"]


@pytest.mark.parametrize("name", [name for name in NAMED if "panicdb" in set(imported(name))])
def test_only_the_version_is_taken_from_the_package(name):
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "panicdb"
    }
    taken = {
        node.attr
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names
    }
    assert taken == {"__version__"}


@pytest.mark.parametrize("outsider", IMPORTERS)
def test_who_imports_what_others_must_not_know(outsider):
    importing = {name for name in NAMED if outsider in {full.split(".")[0] for full in imported(name)}}
    assert {name for name in importing if name.split(".")[0] not in IMPORTERS[outsider]} == set()


def words(name: str) -> Iterator[str]:
    """Yield the identifiers and the strings of a module, docstrings left out."""
    module = tree(name)
    documenting = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documenting:
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield from (node.name, node.asname or "")


@pytest.mark.parametrize(
    "name", [name for name in NAMED if name.split(".")[0] not in {"backends", "conversion", "guarded"}]
)
def test_only_backends_name_an_engine(name):
    assert {word for word in words(name) if ENGINE.search(word)} == NAMING.get(name, set())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_file_is_too_long(name):
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert (lines > LONGEST_FILE) is (name in TOO_LONG)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_function_is_too_long(name):
    functions = [
        node for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {function: length for function, length in lengths.items() if length > LONGEST_FUNCTION} == {}


# Documents


def document(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def section(command: str) -> str:
    """Return what docs/cli.md says about one command."""
    parts = re.split(r"^## panicdb ?", document("docs/cli.md"), flags=re.MULTILINE)
    return next(part for part in parts if part.split("\n")[0] == command)


@pytest.mark.parametrize("command", sorted(panicdb.commands))
def test_every_option_of_every_command_is_documented(command):
    options = [
        parameter for parameter in panicdb.commands[command].params if isinstance(parameter, click.Option)
    ]
    spelled = ["--help", *(spelling for each in options for spelling in (*each.opts, *each.secondary_opts))]
    described = section(command)
    assert [option for option in spelled if not re.search(rf"(?<![\w-]){option}(?![\w-])", described)] == []


@pytest.mark.parametrize("command", sorted(panicdb.commands))
def test_every_command_is_in_the_readme_and_the_list(command):
    assert re.search(rf"panicdb {command}\b|make {command}\b", document("README.md"))
    assert re.search(rf"^  {command}  ", section(""), flags=re.MULTILINE)


# What belongs to nobody's project


def pieces(*parts: str) -> str:
    """Put a word together, so that this file does not hold it."""
    return re.escape("".join(parts))


FOREIGN = re.compile(
    "|".join([
        r"(?<![\w.*{}$)-])" + pieces("/wo", "rk/"),
        pieces("/opt/", "wheels"),
        pieces("py", "pi.org"),
        pieces("python", "hosted"),
        pieces("index", "-url"),
        pieces("field", "-notes"),
        pieces("dev", "env"),
        pieces("issues ", "show"),
        pieces("contract", ".md"),
    ])
)  # fmt: skip
TEXT = {".py", ".md", ".toml", ".ini", ".txt", ".mako", ".yml", ".yaml", ".cfg", ".sh", ".in", "", ".json"}


def own_files() -> list[Path]:
    """Every text file that belongs to the project: none that tools or tests leave behind."""
    ours = [path for path in PROJECT.iterdir() if path.is_file()]
    for folder in ("src", "migrations", "tests", "docs", "bench", ".ci"):
        ours += [path for path in (PROJECT / folder).rglob("*") if path.is_file()]
    left_behind = {"__pycache__", "work"}
    return [
        path
        for path in ours
        if path.suffix in TEXT and not left_behind & set(path.relative_to(PROJECT).parts)
    ]


def test_no_file_names_the_place_it_was_made_at():
    assert len(own_files()) > 50
    found = {
        (str(path.relative_to(PROJECT)), match.group())
        for path in own_files()
        for match in FOREIGN.finditer(path.read_text(encoding="utf-8", errors="replace"))
    }
    assert found == set()


def test_every_code_of_a_finding_is_documented():
    page = (PROJECT / "docs" / "findings.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| ([A-Z]{3}\d{3}) \|", page, flags=re.MULTILINE)
    source = "".join(path.read_text(encoding="utf-8") for path in MODULES.values())
    used = set(re.findall(r'"([A-Z]{3}\d{3})"', source))
    assert len(documented) == len(set(documented))
    assert set(documented) == used
