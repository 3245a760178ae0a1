"""Histories are found and read as Alembic finds and reads them, and nothing of an application is run or imported."""

import random
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

import alembics
import configurations
import graphs
import seeds
from alembics import Alembic, Found
from configurations import Configuration
from panicdb.errors import PanicDBError, UsageError
from panicdb.histories import (
    History,
    HistoryChoice,
    Package,
    Recipe,
    bundled_history,
    configured_histories,
    packaged_history,
    read_history,
)
from panicdb.interpreters import Packages, find_interpreter

PARTS, CASES = 4, 30
PROVE_PARTS, PROVE_CASES = 10, 100
GRAPHS = 25
GOOD = "revision = 'good'\ndown_revision = None\n"


@pytest.fixture(scope="module")
def alembic() -> Iterator[Alembic]:
    with alembics.served() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch):
    monkeypatch.delenv("ALEMBIC_CONFIG", raising=False)


@pytest.fixture
def history(tmp_path):
    """Make a history of revision files, given by their names and texts."""
    location = tmp_path / "history"

    def make(**files: str) -> Path:
        (location / "versions").mkdir(parents=True, exist_ok=True)
        (location / "env.py").touch()
        for name, text in files.items():
            (location / "versions" / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        return location

    return make


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> tuple[str, Path]:
    """An environment of its own: its interpreter, and where its packages are."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    return str(folder / "bin" / "python"), site


def put(file: Path, text: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def script_directory(location: Path, revision: str = "good") -> Path:
    put(location / "env.py")
    put(location / "versions" / f"{revision}_text.py", GOOD.replace("good", revision))
    return location


def ini(location: object, *more: str) -> str:
    return "\n".join(("[alembic]", f"script_location = {location}", *more, ""))


def found(cwd: Path, *config: str, section: str | None = None, python: str | None = None) -> History:
    (history,) = configured_histories(HistoryChoice(config, section, python=python), cwd)
    return history


def failure(cwd: Path, *config: str, section: str | None = None, python: str | None = None) -> UsageError:
    with pytest.raises(UsageError) as raised:
        configured_histories(HistoryChoice(config, section, python=python), cwd)
    assert raised.value.hint
    return raised.value


def agree(history: History, theirs: Found) -> None:
    assert {name: history.ancestors(name) for name in history.scripts} == theirs.ancestors
    assert {name: script.file for name, script in history.scripts.items()} == theirs.files
    assert set(history.heads) == theirs.heads
    assert history.location.resolve() == theirs.location.resolve()


# Alembic asked the same


@pytest.mark.parametrize("part", range(PARTS))
def test_random_configurations_lead_where_alembic_goes(part, tmp_path, alembic, monkeypatch, record_property):
    record_property("coverage", dict(campaign(f"short {part}", CASES, tmp_path, alembic, monkeypatch)))


@pytest.mark.prove
@pytest.mark.parametrize("part", range(PROVE_PARTS))
def test_random_configurations_lead_where_alembic_goes_in_a_long_campaign(
    part, tmp_path, alembic, monkeypatch, record_property
):
    record_property("coverage", dict(campaign(f"long {part}", PROVE_CASES, tmp_path, alembic, monkeypatch)))


def campaign(part: str, number: int, folder: Path, alembic: Alembic, monkeypatch) -> Counter:
    seen = Counter[str]()
    modules = set(sys.modules)
    for each in range(number):
        place = folder / str(each)
        place.mkdir()
        case = configurations.draw_configuration(
            random.Random(f"{seeds.SEED}, part {part}, case {each}"), place
        )
        files = set(place.rglob("*"))
        ours = our_answer(case, monkeypatch)
        assert set(place.rglob("*")) == files, "reading leaves something behind"
        theirs = alembics_answer(alembic, case)
        if theirs is None:
            assert ours == (), case
            seen["nothing to be found"] += 1
            continue
        assert len(ours) == 1, case
        agree(ours[0], theirs)
        seen.update(("as Alembic", *case.features))
    assert not hasattr(sys, "panicdb_imported"), "a package was imported"
    assert {name for name in set(sys.modules) - modules if name.split(".")[0] == "app"} == set()
    assert seen["as Alembic"] > number * 0.6
    return seen


def our_answer(case: Configuration, monkeypatch) -> tuple[History, ...]:
    choice = HistoryChoice(case.config, case.section)
    with monkeypatch.context() as patch:
        for name, value in case.environment.items():
            patch.setenv(name, value)
        try:
            answer = configured_histories(choice, case.cwd)
        except UsageError:
            if choice.named:
                return ()
            raise  # what merely lies here is passed over
    assert answer or not choice.named, "what is named is found, or it is an error"
    return answer


def alembics_answer(alembic: Alembic, case: Configuration) -> Found | None:
    """Ask for what `alembic` finds, else `python -m alembic`; else both, run in the folder of the first file."""
    absolute = [str(case.cwd / word) if "." in word else word for word in case.arguments]
    environment = {name: str(case.cwd / value) for name, value in case.environment.items()}
    named = [Path(word) for word in (*absolute, *environment.values()) if "." in word]
    main = sorted(named, key=lambda file: file.name == "pyproject.toml")
    for cwd in dict.fromkeys((case.cwd, *(file.parent for file in main[:1]))):
        for path in ((), (cwd,)):
            theirs = usable(alembic, *absolute, cwd=cwd, environment=environment, path=path)
            if theirs is not None:
                return theirs
    return None


def usable(alembic: Alembic, *arguments: str, **options) -> Found | None:
    """Return what Alembic finds, if that can be run."""
    try:
        theirs = alembic.find(*arguments, **options)
    except alembics.RefusedError:
        return None
    return theirs if (theirs.location / "env.py").is_file() else None


def test_random_graphs_have_the_ancestors_and_heads_that_alembic_tells(tmp_path, alembic):
    """Untidy ones too, spelled in all ways: names, tuples, lists, annotations, labels of branches as dependencies."""
    features = set()
    for number in range(GRAPHS):
        draw = random.Random(f"{seeds.SEED}, graph {number}")
        graph = graphs.draw_graph(draw, tidy=draw.random() < 0.5)
        file = graphs.write_graph(graph, tmp_path / str(number), draw)
        history = found(tmp_path, str(file))
        agree(history, alembic.find("-c", str(file), cwd=tmp_path))
        names = [node.revision for node in graph.nodes]
        some = draw.sample(names, draw.randint(1, len(names)))
        wanted = history.maximal(some)
        assert list(wanted) == [each for each in some if each not in graph.before(*some)]
        assert graph.before(*wanted) | set(wanted) == graph.before(*some) | set(some)
        features.update(graph.features)
    assert features >= {"several bases", "branches", "merges", "dependencies", "labels"}


@pytest.mark.parametrize(
    ("text", "ancestors"),
    [
        ("down_revision = 'aaaa1111'", {"aaaa1111"}),
        ("down_revision: str | None = 'aaaa1111'", {"aaaa1111"}),
        ("down_revision = ('aaaa1111',)", {"aaaa1111"}),
        ("down_revision = ['aaaa1111', 'bbbb']", {"aaaa1111", "bbbb"}),
        ("down_revision = None\ndepends_on = {'aaaa1111', 'bbbb'}", {"aaaa1111", "bbbb"}),
        ("down_revision = None\ndepends_on = 'one'", {"aaaa1111"}),
        ("down_revision = None\ndepends_on = ('two', 'bbbb')", {"aaaa1111", "bbbb"}),
        ("down_revision = None\ndepends_on = ['three']\nbranch_labels = 'four'", {"bbbb"}),
        ("down_revision = ()\ndepends_on: tuple = ()\nbranch_labels = []", set()),
        ("down_revision, depends_on = 'bbbb', ('aaaa1111',)", {"aaaa1111", "bbbb"}),
        ("(x, [down_revision, y]) = (1, ('aaaa1111', {}))", {"aaaa1111"}),
        ("depends_on = down_revision = 'aaaa1111'", {"aaaa1111"}),
        ("down_revision = 'bbbb'\ndown_revision = 'aaaa1111'", {"aaaa1111"}),
        ("down_revision = ('aaaa' '1111')", {"aaaa1111"}),
    ],
)
def test_every_spelling_of_what_a_revision_needs_is_understood(history, tmp_path, alembic, text, ancestors):
    location = history(
        a="revision = 'aaaa1111'\ndown_revision = None\nbranch_labels = ('one', 'two')",
        b="revision = 'bbbb'\ndown_revision = None\nbranch_labels = ['three']",
        c=f"revision = 'cccc'\n{text}",
    )
    put(tmp_path / "alembic.ini", ini(location))
    history = found(tmp_path)
    agree(history, alembic.find(cwd=tmp_path))
    assert history.ancestors("cccc") == ancestors


@pytest.mark.parametrize(
    "text",
    [
        "down_revision = 'aaaa'",
        "down_revision = 'one'",
        "down_revision = None\ndepends_on = 'aaaa'",
        "down_revision = None\ndepends_on = 'one@head'",
        "down_revision = 'gone'",
    ],
)
def test_what_alembic_refuses_to_resolve_is_not_resolved(history, tmp_path, alembic, text):
    """On its command line a part of an identifier will do, in a file it won't; a label is a dependency, no parent."""
    location = history(
        a="revision = 'aaaa1111'\ndown_revision = None\nbranch_labels = 'one'",
        b=f"revision = 'bbbb'\n{text}",
    )
    put(tmp_path / "alembic.ini", ini(location))
    with pytest.raises(alembics.RefusedError, match="KeyError"):
        alembic.find(cwd=tmp_path)
    assert found(tmp_path).maximal(["aaaa1111", "bbbb"]) == ("aaaa1111", "bbbb")


@pytest.mark.parametrize(
    "text",
    [
        "revision = 'aaaa1111'\ndown_revision = None\n",
        'revision: str = "aaaa1111"\ndown_revision: str | None = None\n',
        "'''Text.\n\nRevision ID: other\n'''\nrevision, down_revision = None, None\nrevision = 'aaaa1111'\n",
        "revision = down_revision = 'x'\nrevision = 'aaaa1111'\ndown_revision = None\n",
        "revision = ('aaaa' '1111')\nx = revision.upper()\ndown_revision = None\n",
        "# -*- coding: latin-1 -*-\nname = 'gr\\xfc\\xdfe'\nrevision = 'aaaa1111'\ndown_revision = None\n",
        "revision = other = 'aaaa1111'\ndown_revision = None\ndef f():\n    revision = 'bbbb'\n",
        "pattern = '\\d'\nrevision = 'aaaa1111'\ndown_revision = None\n",
        "\ufeffrevision = 'aaaa1111'\ndown_revision = None\n",
        "class A:\n    revision = 'bbbb'\nrevision = 'aaaa1111'\ndown_revision = None\n",
    ],
)
def test_a_literal_revision_is_read(history, tmp_path, alembic, text):
    location = history()
    (location / "versions" / "first.py").write_text(text, encoding="utf-8")
    put(tmp_path / "alembic.ini", ini(location))
    read = found(tmp_path)
    agree(read, alembic.find(cwd=tmp_path))
    assert read.heads == ("aaaa1111",)
    assert read.scripts["aaaa1111"].file.name == "first.py"


def test_a_file_in_another_encoding_is_read(history, tmp_path, alembic):
    location = history()
    text = "# -*- coding: latin-1 -*-\nname = 'grüße'\nrevision = 'aaaa1111'\ndown_revision = None\n"
    (location / "versions" / "first.py").write_bytes(text.encode("latin-1"))
    put(tmp_path / "alembic.ini", ini(location))
    agree(found(tmp_path), alembic.find(cwd=tmp_path))


def test_of_two_files_with_one_revision_the_later_one_holds(history, tmp_path, alembic):
    location = history(a=GOOD, b=GOOD + "depends_on = 'else'", c="revision = 'else'\ndown_revision = None")
    put(tmp_path / "alembic.ini", ini(location))
    read = found(tmp_path)
    agree(read, alembic.find(cwd=tmp_path))
    assert read.scripts["good"].file.name == "b.py"


def test_folders_below_a_folder_are_read_in_alembic_s_order(history, tmp_path, alembic):
    location = history(top=GOOD)
    for name in ("b", "a", "c"):
        put(location / "versions" / name / "again.py", GOOD)
    put(tmp_path / "alembic.ini", ini(location, "recursive_version_locations = true"))
    read = found(tmp_path)
    agree(read, alembic.find(cwd=tmp_path))
    assert read.scripts["good"].file == location / "versions" / "c" / "again.py"


def test_a_file_that_only_its_name_makes_a_revision_is_one(history, tmp_path, alembic):
    """Alembic 0.1 wrote such files, and those of today still reads them."""
    location = history(abc123="down_revision = None", abc456="down_revision = 'abc123'\nrevision = 'good'")
    put(tmp_path / "alembic.ini", ini(location))
    read = found(tmp_path)
    agree(read, alembic.find(cwd=tmp_path))
    assert read.ancestors("good") == {"abc123"}


# Revision files


@pytest.mark.quick
@pytest.mark.fault(17)
def test_branches_merges_and_heads(history):
    read = read_history(
        history(
            base="revision = 'base'\ndown_revision = None",
            left="revision = 'left'\ndown_revision = 'base'",
            right="revision: str = 'right'\ndown_revision: tuple = ('base',)",
            merge="revision = 'merge'\ndown_revision = ('left', 'right')",
            listed="revision = 'listed'\ndown_revision = ['merge']",
            other="revision = 'other'\ndown_revision = 'merge'",
        )
    )
    assert set(read.scripts) == {"base", "left", "right", "merge", "listed", "other"}
    assert read.heads == ("listed", "other")
    assert read.ancestors("other") == {"merge", "left", "right", "base"}
    assert read.maximal(["base", "other", "left", "other", "listed"]) == ("other", "listed")


@pytest.mark.quick
@pytest.mark.parametrize(
    "text",
    [
        "",
        "helper = 'not a revision'",
        "revision = make_revision()",
        "revision = 'aaaa1111'\nrevision = make_revision()",
        "revision = f'aaaa{1}'",
        "revision = 1234",
        "revision = b'aaaa1111'",
        "revision = None",
        "revision: str",
        "revision = {[]: 1}",
        "revision, other = 'aaaa1111'",
        "def upgrade():\n    revision = 'aaaa1111'",
        "class revision: pass",
        "self.revision = 'aaaa1111'",
        "print 'written for Python 2'\nrevision = 'aaaa1111'",
        "revision = 'aaaa1111'\n<<<<<<< a conflict\n",
        "revision = 'aaaa1111'\nx = " + "-" * 100_000 + "1",
        "revision = 'aaaa1111'\nx = " + "(" * 1000,
        "revision = 'aaaa1111'\nx = '\0'",
    ],
)
def test_files_that_are_no_revisions_are_passed_over(history, text):
    read = read_history(history(helper=text, good=GOOD))
    assert set(read.scripts) == {"good"}
    assert read.heads == ("good",)


@pytest.mark.quick
def test_a_folder_without_versions_is_an_empty_history(tmp_path):
    read = read_history(tmp_path)
    assert (dict(read.scripts), read.heads) == ({}, ())
    assert not read.knows(("aaaa1111",))


def test_reading_runs_nothing_and_leaves_nothing_behind(tmp_path, environment):
    """Not even the package is imported that the location names; Alembic itself does that."""
    mark = tmp_path / "ran"
    loud = f"open({str(mark)!r}, 'a').close()\nraise SystemExit(5)\n"
    put(tmp_path / "loud" / "__init__.py", loud)
    put(tmp_path / "loud" / "deep" / "__init__.py", loud)
    put(tmp_path / "loud" / "deep" / "history" / "env.py", loud)
    put(tmp_path / "loud" / "deep" / "history" / "versions" / "loud_one.py", GOOD + loud)
    for name in ("json", "ast", "configparser", "contextlib", "types", "warnings"):
        put(tmp_path / f"{name}.py", loud)
    put(tmp_path / "alembic.ini", ini("loud.deep:history"))
    files, modules, path = set(tmp_path.rglob("*")), set(sys.modules), list(sys.path)
    for python in (None, sys.executable, environment[0]):
        assert set(found(tmp_path, python=python).scripts) == {"good"}
    assert set(tmp_path.rglob("*")) == files
    assert {name for name in set(sys.modules) - modules if "loud" in name} == set()
    assert sys.path == path


@pytest.mark.quick
@pytest.mark.parametrize(
    ("rows", "known"),
    [
        (("left",), True),
        (("right", "left"), True),
        (("base", "left"), True),
        ((), False),
        (("lef",), False),
        (("lefty",), False),
        (("LEFT",), False),
        (("left", "unknown"), False),
        (("head",), False),
        (("left@head",), False),
        (("label",), False),
        (("%",), False),
    ],
)
def test_only_revisions_spelled_in_full_are_known(history, rows, known):
    """Alembic itself would take a prefix, or the label of a branch; a version table holds neither."""
    read = read_history(
        history(
            base="revision = 'base'\ndown_revision = None",
            left="revision = 'left'\ndown_revision = 'base'\nbranch_labels = 'label'",
            right="revision = 'right'\ndown_revision = 'base'",
        )
    )
    assert read.knows(rows) is known


@pytest.mark.quick
def test_a_cycle_ends(history):
    read = read_history(
        history(one="revision = 'one'\ndown_revision = 'two'", two="revision = 'two'\ndown_revision = 'one'")
    )
    assert read.ancestors("one") == {"one", "two"}


@pytest.mark.quick
def test_what_a_parser_warns_of_is_not_told(history):
    """Warnings are errors in these tests."""
    read = read_history(history(good=GOOD + "pattern = '\\d'\nodd = 1 is 1\n"))
    assert set(read.scripts) == {"good"}


def test_a_revision_that_is_gone_is_named(history, tmp_path):
    location = history(good=GOOD)
    (location / "versions" / "linked.py").symlink_to(tmp_path / "gone.py")
    with pytest.raises(UsageError, match=r"gone\.py: can't be read: No such file") as raised:
        read_history(location)
    assert raised.value.hint


@pytest.mark.quick
def test_the_bundled_history_is_read():
    history = bundled_history()
    assert history.config is None
    assert history.knows(history.heads)
    assert history.maximal(history.scripts) == history.heads


# Which file, which section


def test_one_file_with_several_sections_is_several_histories(tmp_path, alembic):
    """Each is what `alembic -n` finds; sections of loggers are none, though they inherit a location."""
    lines = ["[DEFAULT]", "prepend_sys_path = .", "[loggers]", "keys = root", "[logger_root]", "level = INFO"]
    for name in ("users", "orders"):
        script_directory(tmp_path / name, name)
        lines += [f"[{name}]", f"script_location = {name}", f"version_table = {name}_version"]
    put(tmp_path / "alembic.ini", "\n".join(lines))
    histories = configured_histories(HistoryChoice(), tmp_path)
    assert [history.name for history in histories] == ["[users] of alembic.ini", "[orders] of alembic.ini"]
    assert [history.version_table for history in histories] == ["users_version", "orders_version"]
    for history in histories:
        assert history.config is not None
        agree(history, alembic.find("-n", history.config.section, cwd=tmp_path))
        assert found(tmp_path, section=history.config.section) == history


def test_a_default_location_is_no_history_of_the_loggers(tmp_path):
    script_directory(tmp_path / "history")
    text = "[DEFAULT]\nscript_location = history\n[one]\n[two]\n[loggers]\nkeys = root\n[logger_root]\nlevel = INFO\n"
    put(tmp_path / "alembic.ini", text)
    histories = configured_histories(HistoryChoice(), tmp_path)
    assert [history.name for history in histories] == ["[one] of alembic.ini", "[two] of alembic.ini"]


def test_a_file_of_flask_migrate_means_its_own_folder(tmp_path):
    put(
        script_directory(tmp_path / "migrations") / "alembic.ini",
        "[alembic]\n# template used\n[loggers]\nkeys=root\n",
    )
    history = found(tmp_path, "migrations/alembic.ini")
    assert set(history.scripts) == {"good"}
    assert history.options == {"script_location": str(tmp_path / "migrations")}


def test_the_first_place_is_where_alembic_looks_the_second_the_file_s_own(tmp_path, alembic):
    script_directory(tmp_path / "sub" / "history", "inside")
    put(tmp_path / "sub" / "alembic.ini", ini("history"))
    history = found(tmp_path, "sub/alembic.ini")
    assert history.config is not None
    assert (set(history.scripts), history.config.cwd) == ({"inside"}, tmp_path / "sub")
    script_directory(tmp_path / "history", "outside")
    agree(found(tmp_path, "sub/alembic.ini"), alembic.find("-c", "sub/alembic.ini", cwd=tmp_path))
    assert set(found(tmp_path, "sub/alembic.ini").scripts) == {"outside"}


def test_an_ini_file_that_is_named_is_completed_by_the_toml_file_here(tmp_path, alembic):
    script_directory(tmp_path / "history")
    put(tmp_path / "sub" / "other.ini", "[alembic]\nsqlalchemy.url = sqlite://\n")
    put(tmp_path / "pyproject.toml", "[tool.alembic]\nscript_location = '%(here)s/history'\n")
    agree(found(tmp_path, "sub/other.ini"), alembic.find("-c", "sub/other.ini", cwd=tmp_path))


def test_a_toml_file_may_have_any_name(tmp_path):
    """Alembic takes it for an ini file, and finds nothing in it."""
    script_directory(tmp_path / "history")
    put(tmp_path / "other.toml", "[tool.alembic]\nscript_location = '%(here)s/history'\n")
    assert set(found(tmp_path, "other.toml").scripts) == {"good"}


@pytest.mark.parametrize("value", ["elsewhere.ini", ""])
def test_the_variable_names_the_file(tmp_path, alembic, monkeypatch, value):
    script_directory(tmp_path / "history")
    put(tmp_path / (value or "alembic.ini"), ini("history"))
    monkeypatch.setenv("ALEMBIC_CONFIG", value)
    agree(found(tmp_path), alembic.find(cwd=tmp_path, environment={"ALEMBIC_CONFIG": value}))


def test_the_variable_names_a_toml_file_whose_locations_are_its_own(tmp_path, monkeypatch):
    script_directory(tmp_path / "sub" / "history")
    put(tmp_path / "sub" / "pyproject.toml", "[tool.alembic]\nscript_location = 'history'\n")
    monkeypatch.setenv("ALEMBIC_CONFIG", "sub/pyproject.toml")
    assert set(found(tmp_path).scripts) == {"good"}


def test_a_list_that_is_empty_in_one_file_is_the_other_s(tmp_path, alembic):
    script_directory(tmp_path / "history")
    put(tmp_path / "far" / "one.py", "revision = 'far'\ndown_revision = None")
    put(tmp_path / "alembic.ini", ini("history", "version_locations ="))
    put(tmp_path / "pyproject.toml", "[tool.alembic]\nversion_locations = ['far']\n")
    agree(found(tmp_path), alembic.find(cwd=tmp_path))
    assert set(found(tmp_path).scripts) == {"far"}


@pytest.mark.parametrize("more", ["path_separator = ;", "version_path_separator = ;", "x = legacy"])
def test_an_empty_place_in_a_list_is_the_working_directory(tmp_path, alembic, more):
    script_directory(tmp_path / "history")
    put(tmp_path / "here.py", "revision = 'here'\ndown_revision = None")
    places = "history/versions , nowhere" if "legacy" in more else "history/versions; ;nowhere"
    put(tmp_path / "alembic.ini", ini("history", f"version_locations = {places}", more))
    agree(found(tmp_path), alembic.find(cwd=tmp_path))
    assert set(found(tmp_path).scripts) == {"good", "here"}


def test_a_text_for_a_list_is_a_list_of_its_characters(tmp_path, alembic):
    """Nobody means that, but it is what Alembic makes of it, so there is no history here that it could run."""
    script_directory(tmp_path / "history")
    put(tmp_path / "h" / "one.py", "revision = 'h'\ndown_revision = None")
    put(
        tmp_path / "pyproject.toml",
        "[tool.alembic]\nscript_location = 'history'\nversion_locations = 'history'\n",
    )
    agree(found(tmp_path), alembic.find(cwd=tmp_path))
    assert set(found(tmp_path).scripts) == {"h"}


def test_arguments_and_folder_are_handed_on(tmp_path):
    script_directory(tmp_path / "history")
    file = put(tmp_path / "alembic.ini", ini("history", "databases = one,  two", "version_table = mine"))
    (history,) = configured_histories(HistoryChoice(arguments=("a=1", "b")), tmp_path)
    assert history.config is not None
    assert (history.config.arguments, history.config.cwd) == (("a=1", "b"), tmp_path)
    assert (history.config.ini, history.config.toml) == (file, None)
    assert (history.binds, history.version_table, history.options) == (("one", "two"), "mine", {})


def test_an_address_with_a_lone_percent_sign_is_none_of_our_business(tmp_path, alembic):
    script_directory(tmp_path / "history")
    put(
        tmp_path / "alembic.ini",
        ini("history", "sqlalchemy.url = postgresql://u:100%@h/d", "version_table = 5%"),
    )
    agree(found(tmp_path), alembic.find(cwd=tmp_path))
    assert found(tmp_path).version_table is None


# Packages and interpreters


LOUD = "raise SystemExit('imported')"


def test_a_package_is_found_in_the_application_s_interpreter(environment, tmp_path):
    python, site = environment
    put(site / "shop" / "__init__.py", LOUD)
    put(site / "shop" / "db" / "__init__.py", LOUD)
    assert Packages(python, tmp_path).folders("shop") == (site / "shop",)
    assert Packages(python, tmp_path).folders("shop.db") == (site / "shop" / "db",)
    assert Packages(python, tmp_path).folders("shop.nothing") == ()
    assert Packages(None, tmp_path).folders("shop") == ()
    assert Packages(python, tmp_path).folders("no_such_package") == ()


@pytest.mark.parametrize("name", ["", ".", ".shop", "shop.", "shop..db", "sys", "this"])
def test_what_is_no_package_has_no_folder(tmp_path, name):
    assert Packages(None, tmp_path).folders(name) == ()
    assert Packages(sys.executable, tmp_path).folders(name) == ()


def test_an_application_that_is_installed_to_be_edited_is_found(environment, tmp_path):
    """Its installer may put a finder in place instead of a path."""
    python, site = environment
    put(tmp_path / "checkout" / "edited" / "__init__.py", LOUD)
    finder = f"""
        import sys
        from importlib.machinery import PathFinder

        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                return PathFinder.find_spec(name, [{str(tmp_path / "checkout")!r}]) if name == "edited" else None
        """
    put(site / "_edited_finder.py", finder)
    put(site / "edited.pth", "import _edited_finder, sys; sys.meta_path.append(_edited_finder.Finder)\n")
    assert Packages(python, tmp_path).folders("edited") == (tmp_path / "checkout" / "edited",)


def test_a_finder_of_our_own_process_is_asked_too(tmp_path, monkeypatch):
    put(tmp_path / "checkout" / "edited" / "__init__.py", LOUD)

    class Finder:
        @staticmethod
        def find_spec(name, *_):
            return PathFinder.find_spec(name, [str(tmp_path / "checkout")]) if name == "edited" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, object(), Finder])
    assert Packages(None, tmp_path).folders("edited") == (tmp_path / "checkout" / "edited",)


def test_a_package_without_init_may_have_several_folders(tmp_path, monkeypatch, alembic):
    for number in "one", "two":
        (tmp_path / number / "space" / "inner").mkdir(parents=True)
        monkeypatch.syspath_prepend(tmp_path / number)
    both = (tmp_path / "two" / "space" / "inner", tmp_path / "one" / "space" / "inner")
    assert Packages(None, tmp_path).folders("space.inner") == both
    script_directory(both[1] / "history")
    put(tmp_path / "alembic.ini", ini("space.inner:history"))
    theirs = alembic.find(cwd=tmp_path, path=[tmp_path / "two", tmp_path / "one"])
    agree(found(tmp_path), theirs)


@pytest.mark.parametrize("safe", ["1", ""])
@pytest.mark.parametrize("own", [True, False], ids=["ours", "another"])
def test_the_order_of_search_is_prepended_then_installed_then_here(tmp_path, monkeypatch, own, safe):
    for place in "ahead", "installed", "here":
        put(tmp_path / place / "shop" / "__init__.py", LOUD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    monkeypatch.setenv("PYTHONSAFEPATH", safe)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    python, here = None if own else sys.executable, tmp_path / "here"
    assert Packages(python, here).folders("shop", [tmp_path / "ahead"]) == (tmp_path / "ahead" / "shop",)
    assert Packages(python, here).folders("shop") == (tmp_path / "installed" / "shop",)
    monkeypatch.undo()
    assert Packages(python, here).folders("shop", [tmp_path]) == (here / "shop",)


def test_an_interpreter_is_searched_by_name_or_taken_by_path(environment, tmp_path, monkeypatch):
    python, _ = environment
    assert find_interpreter(python, tmp_path) == python
    monkeypatch.setenv("PATH", str(Path(python).parent))
    assert find_interpreter("python", tmp_path) == python
    (tmp_path / "here").symlink_to(Path(python).parent)
    assert find_interpreter("here/python", tmp_path) == str(tmp_path / "here" / "python")


@pytest.mark.parametrize("said", ["no/such/python", "no-such-python", "/no/such/python", "."])
def test_an_interpreter_that_is_not_there_is_told(tmp_path, said):
    with pytest.raises(UsageError, match="no such program") as raised:
        find_interpreter(said, tmp_path)
    assert "--python" in str(raised.value.hint)


@pytest.mark.parametrize(
    "text",
    ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho nothing that Python says\n", "#!/bin/sh\n", "#!/no/shell\n"],
)
def test_a_program_that_is_no_interpreter_is_told(tmp_path, text):
    program = put(tmp_path / "python", text)
    program.chmod(0o755)
    with pytest.raises(UsageError, match="is no Python interpreter that runs here"):
        Packages(str(program), tmp_path).folders("shop")
    put(tmp_path / "alembic.ini", ini("shop:history"))
    assert "is no Python interpreter" in failure(tmp_path, python="./python").message


def test_what_an_interpreter_says_besides_is_passed_over(environment, tmp_path):
    python, site = environment
    put(site / "noisy" / "__init__.py", LOUD)
    put(site / "sitecustomize.py", "print('welcome', flush=True)")
    try:
        assert Packages(python, tmp_path).folders("noisy") == (site / "noisy",)
    finally:
        (site / "sitecustomize.py").unlink()


def test_an_application_s_own_history_is_found(environment, tmp_path):
    python, site = environment
    script_directory(site / "bank" / "migrations")
    put(site / "bank" / "__init__.py", LOUD)
    put(site / "bank" / "migrations" / "other" / "extra.py", "revision = 'extra'\ndown_revision = None")
    package = Package("Bank", "bank.migrations", Recipe(bootstrap="bank:first"))
    history = packaged_history(package, HistoryChoice(python=python), tmp_path, "sqlite")
    assert history is not None
    assert (history.name, set(history.scripts)) == ("Bank's history", {"good"})
    assert history.recipe == Recipe(bootstrap="bank:first", python=python)
    assert history.location == site / "bank" / "migrations"
    other = Package("Bank", "bank.migrations", versions="other")
    history = packaged_history(other, HistoryChoice(python=python), tmp_path, "sqlite")
    assert history is not None
    assert set(history.scripts) == {"extra"}
    assert history.options["version_locations"] == str(site / "bank" / "migrations" / "other")
    assert packaged_history(package, HistoryChoice(), tmp_path, "sqlite") is None
    assert packaged_history(Package("Bank", "bank"), HistoryChoice(python=python), tmp_path, "sqlite") is None


def test_settings_hold_for_an_application_s_own_history(environment, tmp_path):
    python, site = environment
    script_directory(site / "club")
    put(tmp_path / "pyproject.toml", f"[tool.panicdb]\npython = '{python}'\ntime-limit = 5\n")
    history = packaged_history(
        Package("Club", "club", Recipe(bootstrap="x:y")), HistoryChoice(), tmp_path, "sqlite"
    )
    assert history is not None
    assert history.recipe == Recipe(python=python, bootstrap="x:y", time_limit=5)


def test_a_toml_file_that_can_t_be_read_hides_no_application(environment, tmp_path):
    python, site = environment
    script_directory(site / "pool")
    put(tmp_path / "pyproject.toml", "this is no TOML")
    assert (
        packaged_history(Package("Pool", "pool"), HistoryChoice(python=python), tmp_path, "sqlite")
        is not None
    )


# Settings

SETTINGS = """
    [tool.panicdb]
    flask-app = "shop:create_app"
    bootstrap = "shop:first.metadata"
    metadata = "shop:metadata"
    upgrade-command = ["shop", "{url}"]
    environment = {SHOP = "{path}", NUMBER = 3}
    upgrade-arguments = {engine_name = "one"}
    bind = "one"
    time-limit = 2.5
    """


def test_all_settings_are_taken(tmp_path):
    script_directory(tmp_path / "history")
    put(tmp_path / "alembic.ini", ini("history"))
    put(tmp_path / "pyproject.toml", SETTINGS)
    assert found(tmp_path).recipe == Recipe(
        flask="shop:create_app",
        bootstrap="shop:first.metadata",
        metadata="shop:metadata",
        command=("shop", "{url}"),
        environment={"SHOP": "{path}", "NUMBER": "3"},
        arguments={"engine_name": "one"},
        bind="one",
        time_limit=2.5,
    )


def test_settings_are_read_beside_the_file_that_is_named(tmp_path):
    script_directory(tmp_path / "history")
    put(tmp_path / "alembic.ini", ini("%(here)s/history"))
    put(tmp_path / "sub" / "alembic.ini", ini("%(here)s/../history"))
    put(tmp_path / "pyproject.toml", "[tool.panicdb]\ntime-limit = 1\n")
    assert found(tmp_path, "sub/alembic.ini").recipe.time_limit == 1
    put(tmp_path / "sub" / "pyproject.toml", "[tool.panicdb]\ntime-limit = 2\n")
    put(tmp_path / "mine.toml", "[tool.panicdb]\ntime-limit = 3\n")
    assert found(tmp_path).recipe.time_limit == 1
    assert found(tmp_path, "sub/alembic.ini").recipe.time_limit == 2
    assert found(tmp_path, "sub/alembic.ini", "mine.toml").recipe.time_limit == 3


def test_the_interpreter_of_the_settings_is_beside_them_and_python_wins(environment, tmp_path):
    python, _ = environment
    script_directory(tmp_path / "history")
    put(tmp_path / "sub" / "alembic.ini", ini("history"))
    put(tmp_path / "sub" / "pyproject.toml", "[tool.panicdb]\npython = './bin/python'\n")
    (tmp_path / "sub" / "bin").symlink_to(Path(python).parent)
    assert found(tmp_path, "sub/alembic.ini").recipe.python == str(tmp_path / "sub" / "bin" / "python")
    assert found(tmp_path, "sub/alembic.ini", python=sys.executable).recipe.python == sys.executable


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pyhton = 'x'", "has no setting 'pyhton'"),
        ("python = 3", "python of [tool.panicdb] can't be 3"),
        ("flask-app = ['x']", "flask-app of [tool.panicdb] can't be ['x']"),
        ("bootstrap = true", "bootstrap of [tool.panicdb] can't be True"),
        ("upgrade-command = 'shop upgrade'", "upgrade-command of [tool.panicdb] can't be 'shop upgrade'"),
        ("upgrade-command = []", "upgrade-command of [tool.panicdb] can't be []"),
        ("upgrade-command = ['shop', 3]", "upgrade-command of [tool.panicdb] can't be"),
        ("environment = 'A=1'", "environment of [tool.panicdb] can't be 'A=1'"),
        ("upgrade-arguments = ['a']", "upgrade-arguments of [tool.panicdb] can't be"),
        ("time-limit = '5'", "time-limit of [tool.panicdb] can't be '5'"),
        ("time-limit = true", "time-limit of [tool.panicdb] can't be True"),
        ("time-limit = 0", "time-limit of [tool.panicdb] can't be 0"),
        ("time-limit = nan", "time-limit of [tool.panicdb] can't be nan"),
        ("time-limit = -1", "time-limit of [tool.panicdb] can't be -1"),
    ],
)
@pytest.mark.parametrize("named", [True, False], ids=["named", "found here"])
def test_a_mistake_in_the_settings_is_always_told(tmp_path, text, words, named):
    """The settings are for us alone: whoever wrote them means them."""
    script_directory(tmp_path / "history")
    put(tmp_path / "alembic.ini", ini("history"))
    file = put(tmp_path / "pyproject.toml", f"[tool.panicdb]\n{text}\n")
    error = failure(tmp_path, *(["alembic.ini"] if named else []))
    assert error.message.startswith(f"{file}: ")
    assert words in error.message
    with pytest.raises(UsageError):
        packaged_history(Package("Json", "json"), HistoryChoice(), tmp_path, "sqlite")


@pytest.mark.parametrize("text", ["[tool]\npanicdb = 3\n", "[[tool.panicdb]]\npython = 'x'\n"])
def test_settings_that_are_no_table_are_told(tmp_path, text):
    put(tmp_path / "pyproject.toml", text)
    assert "tool.panicdb is no table" in failure(tmp_path).message


@pytest.mark.parametrize("text", ["tool = 3\n", "", "[tool]\n", "[project]\nname = 'x'\n"])
def test_a_toml_file_without_anything_for_us_is_none(tmp_path, text):
    script_directory(tmp_path / "history")
    put(tmp_path / "alembic.ini", ini("history"))
    put(tmp_path / "pyproject.toml", text)
    assert found(tmp_path).recipe == Recipe()


# Bad files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "[alembic]\nscript_location = größe\n".encode("latin-1"),
            "can't be read: 'utf-8' codec can't decode",
        ),
        (b"[alembic]\na = 1\n[alembic]\nb = 2\n", "section 'alembic' already exists"),
        (b"[alembic]\na = 1\na = 2\n", "option 'a' in section 'alembic' already exists"),
        (b"script_location = history\n", "no section headers"),
        (b"[alembic]\nscript_location\n", "parsing errors"),
        (b"[alembic]\nscript_location = %(nothing)s\n", "script_location can't be read"),
        (b"[alembic]\nscript_location = 5%\n", "script_location can't be read"),
        (b"[alembic]\nscript_location = history\nprepend_sys_path = 5%\n", "prepend_sys_path can't be read"),
        (
            b"[alembic]\nscript_location = history\nversion_locations = 5%\n",
            "version_locations can't be read",
        ),
        (
            b"[alembic]\nscript_location = history\nversion_locations = a\npath_separator = tab\n",
            "path_separator can't be 'tab'",
        ),
        (
            b"[alembic]\nscript_location = history\nversion_locations = a\nversion_path_separator = tab\n",
            "version_path_separator can't be 'tab'",
        ),
        (
            b"[alembic]\nscript_location = history\nversion_locations = no_such_package:versions\n",
            "version_locations names a package that is not there",
        ),
        (b"[alembic]\nscript_location = nowhere\n", "script_location nowhere leads to no env.py"),
        (
            b"[alembic]\nscript_location = no_such_package:history\n",
            "no_such_package:history leads to no env.py",
        ),
        (b"[alembic]\n", "there is no script_location"),
        (b"", "there is no script_location"),
    ],
)
def test_a_bad_ini_file_is_told_if_it_was_named_and_passed_over_if_not(tmp_path, alembic, content, words):
    script_directory(tmp_path / "history")
    (tmp_path / "alembic.ini").write_bytes(content)
    error = failure(tmp_path, "alembic.ini")
    assert "alembic.ini: " in error.message
    assert words in error.message
    assert configured_histories(HistoryChoice(), tmp_path) == ()
    assert not usable(alembic, "-c", "alembic.ini", cwd=tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tool.alembic\n", "can't be read: "),
        ("[tool]\nalembic = 3\n", "tool.alembic is no table"),
        ("[tool.alembic]\nscript_location = 3\n", "script_location can't be 3"),
        ("[tool.alembic]\nscript_location = '5%'\n", "script_location can't be '5%'"),
        ("[tool.alembic]\nscript_location = '%(nothing)s'\n", "script_location can't be '%(nothing)s'"),
        ("[tool.alembic]\nscript_location = ['history']\n", "script_location can't be ['history']"),
        (
            "[tool.alembic]\nscript_location = 'history'\nversion_locations = [3]\n",
            "version_locations can't be [3]",
        ),
        (
            "[tool.alembic]\nscript_location = 'history'\nrecursive_version_locations = 'true'\n",
            "recursive_version_locations can't be 'true'",
        ),
        ("[tool.alembic]\n", "there is no script_location"),
    ],
)
def test_a_bad_toml_file_is_told_if_it_was_named_and_passed_over_if_not(tmp_path, alembic, text, words):
    script_directory(tmp_path / "history")
    put(tmp_path / "pyproject.toml", text)
    error = failure(tmp_path, "pyproject.toml")
    assert "pyproject.toml: " in error.message
    assert words in error.message
    assert configured_histories(HistoryChoice(), tmp_path) == ()
    assert not usable(alembic, cwd=tmp_path)


def test_a_toml_file_that_is_not_utf_8_is_told(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes("[tool.alembic]\nscript_location = 'größe'\n".encode("latin-1"))
    assert "pyproject.toml: can't be read" in failure(tmp_path, "pyproject.toml").message


@pytest.mark.parametrize("name", ["gone.ini", "gone/pyproject.toml", "."])
def test_a_file_that_is_not_there_is_told(tmp_path, name):
    error = failure(tmp_path, name)
    assert error.message == f"{name}: no such file"
    assert "-c" in str(error.hint)


@pytest.mark.parametrize("names", [("a.ini", "b.cfg"), ("a.toml", "pyproject.toml"), ("a.ini", "a.ini")])
def test_two_files_of_one_kind_are_told(tmp_path, names):
    for name in names:
        put(tmp_path / name)
    error = failure(tmp_path, *names)
    assert error.message == f"-c was given twice for one kind of file: {' and '.join(names)}"


def test_a_section_that_is_not_there_is_told(tmp_path):
    script_directory(tmp_path / "history")
    put(tmp_path / "alembic.ini", ini("history"))
    assert failure(tmp_path, section="other").message.startswith("section [other] of alembic.ini: ")


def test_a_section_without_any_file_is_told(tmp_path):
    assert failure(tmp_path, section="other").message == "there is no alembic.ini and no pyproject.toml here"


def test_nothing_here_and_nothing_named_is_no_error(tmp_path):
    assert configured_histories(HistoryChoice(), tmp_path) == ()


def test_the_message_for_a_package_names_the_remedy(tmp_path):
    put(tmp_path / "alembic.ini", ini("no_such_package:history"))
    assert "--python" in str(failure(tmp_path, "alembic.ini").hint)


def test_a_bundled_history_that_is_missing_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("panicdb.histories.__file__", str(tmp_path / "panicdb" / "histories.py"))
    with pytest.raises(PanicDBError, match="the bundled migrations are missing"):
        bundled_history()
