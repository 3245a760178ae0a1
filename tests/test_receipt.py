"""Receipts: what they hold, what they never hold, and what is read back from them."""

import json
import re
from pathlib import Path

import pytest

import panicdb
from panicdb import commands, render
from panicdb.errors import SourceError
from panicdb.links import parse_link
from panicdb.receipt import FORMAT, read_selections, selection_as_dict
from panicdb.values import Selection

pytestmark = pytest.mark.quick

SECRETS = ("s3cret-text", "s3cret-label", "73656372", "424242", "s3cret-nulled")
LAB = """
CREATE TABLE lab (id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE model (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE run (id INTEGER PRIMARY KEY, lab TEXT REFERENCES lab, model INTEGER REFERENCES model, seed INTEGER,
    data BLOB);
CREATE TABLE setting (name TEXT);
CREATE TABLE log (line TEXT, run INTEGER);
INSERT INTO lab VALUES ('bern-1', 's3cret-text'), ('oslo-2', 's3cret-label');
INSERT INTO model VALUES (1, 's3cret-nulled');
INSERT INTO run VALUES (1, 'bern-1', 1, 424242, x'73656372'), (2, 'oslo-2', 7, 424242, NULL),
    (3, 'bern-1', NULL, 0, NULL);
INSERT INTO setting VALUES ('s3cret-text');
INSERT INTO log VALUES ('s3cret-text', 1), ('s3cret-text', 2);
"""
CHOICE = {
    "root": "lab",
    "roots": ["bern"],
    "links": ["run.model=null", "log.run->run.id=leave"],
    "whole": ["setting"],
}


@pytest.fixture
def exported(make_db, tmp_path):
    source, target = make_db(LAB), tmp_path / "target.db"
    receipt = panicdb.export(str(source), str(target), **CHOICE)
    return receipt, Path(f"{target}.receipt.json")


def test_a_receipt_says_what_was_done(exported):
    receipt, path = exported
    held = json.loads(path.read_text(encoding="utf-8"))
    assert held == receipt.as_dict() == json.loads(receipt.to_json())
    assert held.pop("created").endswith("+00:00")
    assert held.pop("source").endswith("source.db")
    assert re.fullmatch("[0-9a-f]{16}", held.pop("source_id"))
    assert held == {
        "panicdb_receipt": FORMAT,
        "sealed": None,
        "panicdb_version": panicdb.__version__,
        "command": "export",
        "target": "target.db",
        "revisions": {},
        "schema": {
            "method": "copy",
            "reason": "the source has no Alembic version table",
            "differences": [],
            "cleared": {},
            "way": None,
            "protection": "",
            "failures": [],
            "put_back": {},
            "stamped": {},
        },
        "root": "lab",
        "selection": {
            "ids": ["bern-1"],
            "where": None,
            "all": False,
            "links": ["run.model=null", "log.run->run.id=leave"],
            "exclude": [],
            "whole": ["setting"],
            "violations": "refuse",
        },
        "tables": [
            table("lab", 1, 1, 0, 2),
            table("run", 2, 2, 0, 3, nulled={"run.model->model.id": 1}),
            table("setting", 1, 0, 1, 1),
            table("log", 1, 1, 0, 2),
        ],
        "empty": {"model": 1},
        "violations_kept": {},
        "left_behind": [],
        "losses": {},
        "checks": ["revision", "schema", "rows", "foreign keys", "sequences"],
        "merged": [],
        "before": [],
    }
    assert receipt.rows == 5


def table(name, rows, owned, support, source_rows, *, nulled=None):
    return {
        "name": name,
        "rows": rows,
        "owned": owned,
        "support": support,
        "source_rows": source_rows,
        "nulled": nulled or {},
    }


def test_the_receipt_of_a_clone_has_no_selection(make_db, tmp_path):
    source, target = make_db(LAB + "DELETE FROM run WHERE id = 2;"), tmp_path / "target.db"
    panicdb.clone(str(source), str(target))
    held = json.loads(Path(f"{target}.receipt.json").read_text(encoding="utf-8"))
    assert (held["command"], held["root"], held["selection"]) == ("clone", None, None)
    assert read_selections(f"{target}.receipt.json") == (None,)


def test_what_was_kept_broken_is_told_by_link_and_count(make_db, tmp_path):
    receipt = panicdb.clone(str(make_db(LAB)), str(tmp_path / "target.db"), violations="keep")
    assert receipt.as_dict()["violations_kept"] == {"run.model->model.id": 1}


TRACKED = """
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT, artifact_location TEXT);
CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, artifact_uri TEXT, experiment_id INTEGER REFERENCES experiments);
CREATE TABLE metrics (key TEXT, run_uuid TEXT REFERENCES runs);
CREATE TABLE params (key TEXT, run_uuid TEXT REFERENCES runs);
CREATE TABLE latest_metrics (key TEXT, run_uuid TEXT REFERENCES runs);
CREATE TABLE trace_info (request_id TEXT PRIMARY KEY, experiment_id INTEGER REFERENCES experiments);
CREATE TABLE trace_tags (key TEXT, value TEXT, request_id TEXT REFERENCES trace_info);
INSERT INTO experiments VALUES (1, 'one', 's3://b/1'), (2, 'two', NULL);
INSERT INTO runs VALUES ('a', 's3://b/a', 1), ('b', 's3://b/b', 1), ('c', '', 1), ('d', 's3://b/d', 2), ('e', NULL, 2);
INSERT INTO trace_info VALUES ('t', 1), ('u', 2);
INSERT INTO trace_tags VALUES ('mlflow.artifactLocation', 's3://b/t', 't'), ('colour', 'red', 't'),
    ('mlflow.artifactLocation', 's3://b/u', 'u'), ('mlflow.trace.archiveLocation', 's3://old/u', 'u');
"""
REGISTRY = """
CREATE TABLE model_versions (name TEXT, version INTEGER, {columns}, run_id TEXT, PRIMARY KEY (name, version));
INSERT INTO model_versions VALUES ('m', 1, {values}, 'a');
"""


def named(**counts):
    """Spell the rows that name files, by column."""
    return tuple(
        f"{count} rows of {column.replace('__', '.')} name files, which stay where they are"
        for column, count in counts.items()
    )


ALL_FILES = named(experiments__artifact_location=1, runs__artifact_uri=3, trace_tags__value=3)


@pytest.mark.parametrize(
    ("number", "files"),
    [
        (1, named(experiments__artifact_location=1, runs__artifact_uri=2, trace_tags__value=1)),
        (2, named(runs__artifact_uri=1, trace_tags__value=2)),
    ],
)
def test_rows_that_travel_and_name_files_are_counted(make_db, tmp_path, number, files):
    """In the plan, in the receipt, and in what is said; an empty place is none."""
    source, target = str(make_db(TRACKED)), str(tmp_path / "target.db")
    plan = panicdb.plan(source, roots=[str(number)])
    assert plan.left_behind == files
    assert f"left behind: {files[0]}\n" in render.plan_text(plan)
    receipt = panicdb.export(source, target, roots=[str(number)])
    assert receipt.left_behind == files
    assert json.loads(Path(f"{target}.receipt.json").read_text())["left_behind"] == list(files)
    assert f"left behind: {files[-1]}\n" in render.receipt_text(receipt)


def test_a_clone_and_a_merge_tell_of_files_too(make_db, tmp_path):
    source, target = str(make_db(TRACKED)), str(tmp_path / "target.db")
    assert commands.plan_clone(source).left_behind == ALL_FILES
    assert panicdb.clone(source, str(tmp_path / "clone.db")).left_behind == ALL_FILES
    panicdb.export(source, target, roots=["1"])
    merged = panicdb.export(source, target, roots=["2"], existing="merge")
    assert merged.left_behind == named(runs__artifact_uri=1, trace_tags__value=2)
    assert f"left behind: {merged.left_behind[0]}\n" in render.receipt_text(merged)


@pytest.mark.parametrize(
    ("columns", "values", "spelled"),
    [
        ("source TEXT", "'s3://b/a'", "source"),
        ("source TEXT, storage_location TEXT", "'models:/m', 's3://b/a'", "storage_location,source"),
        ("source TEXT, storage_location TEXT", "'s3://b/a', NULL", "storage_location,source"),
    ],
    ids=["an older release", "a newer release", "a row of an older one"],
)
def test_what_one_of_several_columns_names_is_counted_once(make_db, columns, values, spelled):
    source = make_db(TRACKED + REGISTRY.format(columns=columns, values=values))
    assert named(**{f"model_versions__{spelled}": 1})[0] in commands.plan_clone(str(source)).left_behind


def test_of_a_database_of_no_known_application_nothing_is_said_of_files(make_db):
    source = make_db(TRACKED + "DROP TABLE latest_metrics;")
    assert commands.plan_clone(str(source)).left_behind == ()


@pytest.mark.parametrize("verb", ["export", "export by condition", "clone"])
def test_a_receipt_holds_no_value_of_a_row(make_db, tmp_path, verb):
    source, target = str(make_db(LAB)), tmp_path / "target.db"
    if verb == "clone":
        panicdb.clone(source, str(target), violations="keep")
    else:
        chosen = {"roots": ["bern"]} if verb == "export" else {"where": "name LIKE '%text'"}
        panicdb.export(source, str(target), **CHOICE | {"roots": []} | chosen)
    text = Path(f"{target}.receipt.json").read_text(encoding="utf-8")
    assert [secret for secret in SECRETS if secret in text] == []
    assert {secret.encode() for secret in SECRETS[:2]} <= {
        value for value in (b"s3cret-text", b"s3cret-label") if value in Path(source).read_bytes()
    }


def test_a_receipt_holds_no_password(make_db, tmp_path):
    source = make_db(LAB)
    target = tmp_path / "target.db"
    panicdb.export(f"sqlite:///{source}?password=hunter2&key=hunter3", str(target), **CHOICE)
    text = Path(f"{target}.receipt.json").read_text(encoding="utf-8")
    assert "hunter" not in text


# Round trip

SELECTIONS = [
    Selection(root="lab", ids=("a", "b"), whole_ids=True),
    Selection(root="lab", ids=("größe", 'quo"te', "\udcff", "new\nline"), whole_ids=True),
    Selection(root='odd "name"', where="a > 1 -- why\n AND b = ':x'", whole_ids=True),
    Selection(
        root="lab",
        all=True,
        whole_ids=True,
        links=tuple(
            map(parse_link, ('"a b"."c,d"->"->"."=""x"=stay,null', "a.b=refuse", "a.x,y->b.u,v=leave"))
        ),
        exclude=("log", "odd name"),
        whole=("setting",),
        violations="drop",
    ),
]


@pytest.mark.parametrize("selection", SELECTIONS, ids=["ids", "odd ids", "condition", "all"])
def test_a_selection_is_read_as_it_was_written(tmp_path, selection):
    path = tmp_path / "receipt.json"
    held = {"panicdb_receipt": FORMAT, "root": selection.root, "selection": selection_as_dict(selection)}
    path.write_text(json.dumps(held), encoding="utf-8")
    assert read_selections(str(path)) == (selection,)


def test_prefixes_are_written_out_and_limits_are_forgotten(make_db, tmp_path):
    """A limit was kept, or there would be no receipt; and a prefix may come to mean other rows."""
    source, target = make_db(LAB), tmp_path / "target.db"
    panicdb.export(str(source), str(target), **CHOICE, max_rows=5, max_bytes=10_000)
    (selection,) = read_selections(f"{target}.receipt.json")
    assert selection == Selection(
        root="lab",
        ids=("bern-1",),
        whole_ids=True,
        links=tuple(map(parse_link, CHOICE["links"])),
        whole=("setting",),
    )


def test_verify_uses_the_receipt_beside_the_target_or_the_one_given(make_db, tmp_path):
    source, target, receipt = make_db(LAB), tmp_path / "target.db", tmp_path / "elsewhere.json"
    panicdb.export(str(source), str(target), receipt=str(receipt), **CHOICE)
    assert not Path(f"{target}.receipt.json").exists()
    assert not panicdb.verify(str(source), str(target)).ok
    assert panicdb.verify(str(source), str(target), receipt=str(receipt)).ok
    receipt.rename(f"{target}.receipt.json")
    assert panicdb.verify(str(source), str(target)).ok


# What is no receipt of ours


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "null", '"text"', "{}", '{"panicdb": 1}', "\udcff"])
def test_what_is_no_receipt_is_refused(tmp_path, content):
    path = tmp_path / "receipt.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceError, match="not a receipt of panicdb"):
        read_selections(str(path))


@pytest.mark.parametrize("version", [0, FORMAT + 1, "1", None, [1], 1.5])
def test_an_unknown_format_is_refused(tmp_path, version):
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps({"panicdb_receipt": version, "selection": None}), encoding="utf-8")
    with pytest.raises(SourceError, match=f"this panicdb reads format {FORMAT}"):
        read_selections(str(path))


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_a_receipt_that_can_not_be_read_is_refused(tmp_path, kind):
    with pytest.raises(SourceError, match="the receipt can't be read"):
        read_selections(str(tmp_path / "missing" if kind == "missing" else tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("root", 5),
        ("root", None),
        ("selection", "all"),
        ("selection", []),
        ("selection", {}),
        ("selection", True),
        ("selection.ids", "bern-1"),
        ("selection.ids", [5]),
        ("selection.ids", [["bern-1"]]),
        ("selection.ids", None),
        ("selection.ids", []),
        ("selection.where", "id = 'bern-1'"),
        ("selection.where", 5),
        ("selection.all", True),
        ("selection.all", "yes"),
        ("selection.links", "run.model=null"),
        ("selection.links", [5]),
        ("selection.links", ["run.model=nil"]),
        ("selection.exclude", "log"),
        ("selection.exclude", [None]),
        ("selection.whole", {"setting": 1}),
        ("selection.violations", "whatever"),
        ("selection.violations", None),
    ],
)
def test_a_receipt_that_was_edited_to_nonsense_is_refused(tmp_path, key, value):
    held = readable_receipt()
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(held), encoding="utf-8")
    assert read_selections(str(path)) != (None,)
    *way, last = key.split(".")
    place = held[way[0]] if way else held
    place[last] = value
    path.write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(SourceError, match="the receipt's selection can't be read"):
        read_selections(str(path))


def test_a_receipt_without_its_selection_is_not_taken_for_that_of_a_clone(tmp_path):
    held = readable_receipt()
    del held["selection"]
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(SourceError, match="the receipt's selection can't be read"):
        read_selections(str(path))


def readable_receipt():
    chosen = Selection(root="lab", ids=("bern-1",), links=(parse_link("run.model=null"),), whole=("setting",))
    return {"panicdb_receipt": FORMAT, "root": "lab", "selection": selection_as_dict(chosen)}
