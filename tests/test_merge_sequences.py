"""Random sequences of merges against the union worked out in Python: what is there, what comes, what can't."""

import hashlib
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import oracle
import panicdb
from panicdb import errors
from seeds import part_of_campaign

SCHEMA = """
CREATE TABLE team (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE UNIQUE);
CREATE TABLE project (id TEXT PRIMARY KEY, team_id INTEGER REFERENCES team (id), title);
CREATE TABLE task (
    id INTEGER PRIMARY KEY, project_id TEXT NOT NULL REFERENCES project (id), after INTEGER REFERENCES task (id),
    code TEXT, done INTEGER, payload BLOB, size INTEGER AS (length(payload)), UNIQUE (project_id, code)
);
CREATE UNIQUE INDEX one_open ON task (project_id) WHERE done = 0;
CREATE TABLE note (task_id INTEGER REFERENCES task (id), text);
CREATE TABLE tag (label TEXT, task_id INTEGER REFERENCES task (id), weight REAL, PRIMARY KEY (label, task_id))
    WITHOUT ROWID;
CREATE TABLE alias (word TEXT UNIQUE, project_id TEXT REFERENCES project (id));
CREATE TABLE audit (what TEXT);
CREATE TRIGGER watch AFTER INSERT ON task BEGIN INSERT INTO audit VALUES (new.code); END;
CREATE TRIGGER "Notes watched" BEFORE INSERT ON note BEGIN INSERT INTO audit VALUES ('note'); END;
"""
COLUMNS = {
    "team": ("id", "name"),
    "project": ("id", "team_id", "title"),
    "task": ("id", "project_id", "after", "code", "done", "payload"),
    "note": ("task_id", "text"),
    "tag": ("label", "task_id", "weight"),
    "alias": ("word", "project_id"),
}
LINKS = (
    oracle.Link("project", ("team_id",), "team", ("id",)),
    oracle.Link("task", ("project_id",), "project", ("id",)),
    oracle.Link("task", ("after",), "task", ("id",)),
    oracle.Link("note", ("task_id",), "task", ("id",)),
    oracle.Link("tag", ("task_id",), "task", ("id",)),
    oracle.Link("alias", ("project_id",), "project", ("id",)),
)
# What may be in a table only once, as far as it is not None.
KEYS = {
    "team": (lambda row: row["id"], lambda row: row["name"] and row["name"].lower()),
    "project": (lambda row: row["id"],),
    "task": (
        lambda row: row["id"],
        lambda row: None if row["code"] is None else (row["project_id"], row["code"]),
        lambda row: row["project_id"] if row["done"] == 0 else None,
    ),
    "note": (),
    "tag": (lambda row: (row["label"], row["task_id"]),),
    "alias": (lambda row: row["word"],),
}
PROJECTS = ("p1", "p2", "p3", "p4")
WORDS = st.sampled_from([None, "a", "A", "b", "", b"a"])


class ConflictError(Exception):
    pass


def union(target, incoming):
    """Merge rows by table into others, by the words of the manual alone. Raises ConflictError."""
    merged = {table: list(rows) for table, rows in target.items()}
    for table, rows in incoming.items():
        there = [{key(row) for row in target[table]} - {None} for key in KEYS[table]]
        same = Counter(map(typed, target[table]))
        for row in rows:
            keyed = any(key(row) is not None for key in KEYS[table][:2])
            if keyed and same[typed(row)]:
                continue
            if any(key(row) in known for key, known in zip(KEYS[table], there, strict=True)):
                raise ConflictError(table)
            if not keyed and same[typed(row)]:
                same[typed(row)] -= 1
                continue
            merged[table].append(row)
    return merged


def typed(row):
    return tuple((type(value), value) for value in row.values())


def content(rows):
    return {table: Counter(map(typed, rows[table])) for table in COLUMNS}


def read(path):
    """Read all rows, in the order of the rowids or keys, which the oracle takes for their places."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: [
                dict(zip(columns, row, strict=True))
                for row in connection.execute(f"SELECT {', '.join(columns)} FROM {table}")
            ]
            for table, columns in COLUMNS.items()
        }


def digest(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class Merges(RuleBasedStateMachine):
    """A source that lives on, and a file into which projects of it are merged, again and again."""

    counts: ClassVar = Counter()

    @initialize()
    def make_source(self):
        self.folder = tempfile.TemporaryDirectory()
        self.place = Path(self.folder.name)
        self.source, self.target = self.place / "source.db", self.place / "target.db"
        with closing(sqlite3.connect(self.source)) as connection:
            connection.executescript(SCHEMA)
        for number, project in enumerate(PROJECTS):
            self.execute("INSERT INTO team VALUES (?, ?)", number + 1, f"team {number}")
            self.execute("INSERT INTO project VALUES (?, ?, ?)", project, 1 + number % 2, None)
            self.execute(
                "INSERT INTO task (id, project_id, code) VALUES (?, ?, 'first')", number + 1, project
            )
            self.execute("INSERT INTO note VALUES (?, 'a')", number + 1)
        self.model = {table: [] for table in COLUMNS}
        self.counter = 0

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def execute(self, sql, *values):
        """Change the source; what its constraints forbid does not happen."""
        with closing(sqlite3.connect(self.source)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.IntegrityError:
                return []

    def tasks(self):
        return [row[0] for row in self.execute("SELECT id FROM task")] or [None]

    @rule(
        data=st.data(),
        project=st.sampled_from(PROJECTS),
        code=WORDS,
        done=st.sampled_from([0, 1, None]),
        payload=st.sampled_from([None, b"\0x", "text"]),
    )
    def add_task(self, data, project, code, done, payload):
        after = data.draw(st.sampled_from([None, *filter(None, self.tasks())]))
        self.execute(
            "INSERT INTO task (project_id, after, code, done, payload) VALUES (?, ?, ?, ?, ?)",
            project,
            after,
            code,
            done,
            payload,
        )

    @rule(data=st.data(), text=WORDS, times=st.integers(1, 3))
    def add_notes(self, data, text, times):
        task = data.draw(st.sampled_from(self.tasks()))
        for _ in range(times):
            self.execute("INSERT INTO note VALUES (?, ?)", task, text)

    @rule(data=st.data(), label=st.sampled_from(["x", "X"]), weight=st.sampled_from([None, 1, 1.5, "1x"]))
    def add_tag(self, data, label, weight):
        self.execute(
            "INSERT INTO tag VALUES (?, ?, ?)", label, data.draw(st.sampled_from(self.tasks())), weight
        )

    @rule(word=WORDS, project=st.sampled_from(PROJECTS))
    def add_alias(self, word, project):
        self.execute("INSERT INTO alias VALUES (?, ?)", word, project)

    @rule(project=st.sampled_from(PROJECTS), team=st.integers(1, 4))
    def move_project(self, project, team):
        self.execute("UPDATE project SET team_id = ? WHERE id = ?", team, project)

    @rule(team=st.integers(1, 4), name=st.sampled_from([None, "Team 0", "team 1", "other"]))
    def rename_team(self, team, name):
        self.execute("UPDATE team SET name = ? WHERE id = ?", name, team)

    @rule(data=st.data(), code=WORDS, done=st.sampled_from([0, 1, 1.5, None]))
    def change_task(self, data, code, done):
        task = data.draw(st.sampled_from(self.tasks()))
        self.execute("UPDATE task SET code = ?, done = ? WHERE id = ?", code, done, task)

    @rule(data=st.data())
    def renumber_task(self, data):
        """The same content under another key meets the other unique keys."""
        task = data.draw(st.sampled_from(self.tasks()))
        self.execute("UPDATE task SET id = id + 100 WHERE id = ?", task)

    @rule(data=st.data())
    def change_notes(self, data):
        task = data.draw(st.sampled_from(self.tasks()))
        self.execute("DELETE FROM note WHERE rowid = (SELECT max(rowid) FROM note WHERE task_id IS ?)", task)

    @rule(project=st.sampled_from(PROJECTS))
    def merge_one(self, project):
        self.merge({project})

    @rule(chosen=st.sets(st.sampled_from(PROJECTS), min_size=1))
    def merge_some(self, chosen):
        self.merge(chosen)

    @rule(project=st.sampled_from(PROJECTS))
    def merge_one_twice(self, project):
        self.merge({project})
        before = self.target.read_bytes() if self.target.exists() else b""
        self.merge({project})
        assert (self.target.read_bytes() if self.target.exists() else b"") == before

    @rule(project=st.sampled_from(PROJECTS))
    def merge_and_the_rest(self, project):
        self.merge({project})
        self.merge(set(PROJECTS) - {project})

    def merge(self, chosen):
        rows = read(self.source)
        places = frozenset(place for place, row in enumerate(rows["project"]) if row["id"] in chosen)
        owned, support, _nulled = oracle.solve(oracle.Problem(rows, LINKS, "project", places))
        incoming = {
            table: [row for place, row in enumerate(rows[table]) if (table, place) in owned | support]
            for table in COLUMNS
        }
        before = digest(self.place)
        try:
            wanted = union(self.model, incoming)
        except ConflictError:
            self.counts["refused: a conflict"] += 1
            with pytest.raises(errors.ConflictError, match="nothing was merged"):
                self.export(chosen)
            assert digest(self.place) == before
            return
        receipt = self.export(chosen)
        self.note(receipt, wanted)
        self.model = wanted
        self.counter = max(self.counter, *(row["id"] for row in rows["team"]))

    def export(self, chosen):
        return panicdb.export(
            str(self.source), str(self.target), roots=sorted(chosen), root="project", existing="merge"
        )

    def note(self, receipt, wanted):
        grown = sum(map(len, wanted.values())) - sum(map(len, self.model.values()))
        self.counts["merged" if receipt.command == "merge" else "made"] += 1
        self.counts["nothing was new"] += not grown
        self.counts["some rows were there"] += any(table["present"] for table in receipt.merged)
        assert sum(table.get("added", table["rows"]) for table in receipt.merged or receipt.tables) == grown
        assert {table["name"]: table["rows"] for table in receipt.tables} == {
            table: len(rows) for table, rows in wanted.items() if rows
        }

    @invariant()
    def the_target_is_the_union(self):
        if not hasattr(self, "model") or not self.target.exists():
            return
        assert content(read(self.target)) == content(self.model)
        with closing(sqlite3.connect(self.target)) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT count(*) FROM audit").fetchall() == [(0,)]
            assert connection.execute("SELECT seq FROM sqlite_sequence").fetchall() == [(self.counter,)]
            triggers = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
            made = connection.execute(triggers).fetchall()
        with closing(sqlite3.connect(self.source)) as connection:
            assert connection.execute(triggers).fetchall() == made
        assert {path.name for path in self.place.iterdir()} == {
            "source.db",
            "target.db",
            "target.db.receipt.json",
        }


def run(part, examples, steps, record, met=("merged",)):
    Merges.counts.clear()
    run_state_machine_as_test(
        part_of_campaign(part, Merges),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes; the steps printed tell enough
        ),
    )
    counts = ", ".join(f"{count} {what}" for what, count in sorted(Merges.counts.items()))
    record("figures", f"{examples} sequences of merges: {counts}")
    for what in met:
        assert Merges.counts[what], f"no sequence met this: {what}"


def test_some_sequences_of_merges(record_property):
    run("few", 6, 12, record_property)


@pytest.mark.prove
@pytest.mark.parametrize("part", range(2))
def test_many_sequences_of_merges(part, record_property):
    met = ("merged", "refused: a conflict", "some rows were there", "nothing was new")
    run(part, 100, 16, record_property, met)
