"""All or nothing: whatever step a run dies at, the target is absent or complete, and the next run finds its way."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import faults
from faults import SOURCE, Subject

SCHEMA = """
CREATE TABLE owner (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE node (
    id INTEGER PRIMARY KEY,
    owner_id INTEGER NOT NULL REFERENCES owner,
    parent_id INTEGER REFERENCES node,
    body TEXT,
    data BLOB
);
CREATE TABLE tag (name TEXT PRIMARY KEY, colour TEXT) WITHOUT ROWID;
CREATE TABLE node_tag (
    node_id INTEGER NOT NULL REFERENCES node,
    tag TEXT NOT NULL REFERENCES tag,
    PRIMARY KEY (node_id, tag)
) WITHOUT ROWID;
CREATE TABLE review (
    id INTEGER PRIMARY KEY,
    node_id INTEGER NOT NULL REFERENCES node,
    reviewer_id INTEGER REFERENCES owner,
    other_id INTEGER REFERENCES node
);
CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);
CREATE INDEX node_owner ON node (owner_id);
CREATE UNIQUE INDEX node_body ON node (owner_id, lower(body)) WHERE body IS NOT NULL;
CREATE VIEW busy AS SELECT owner_id, count(*) AS nodes FROM node GROUP BY owner_id;
CREATE VIRTUAL TABLE node_text USING fts5(body, content='node', content_rowid='id');
"""
ROWS = """
INSERT INTO owner (name) VALUES ('ann'), ('bob'), ('cem');
INSERT INTO tag VALUES ('red', 'r'), ('blue', 'b'), ('unused', 'u');
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
INSERT INTO node
SELECT i, 1 + i % 3, CASE WHEN i > 6 THEN i - 3 END, 'body of node ' || i, zeroblob(i * 40) FROM n;
INSERT INTO node VALUES (61, 1, 2, 'under a stranger', x'00ff');
INSERT INTO node_tag SELECT id, CASE id % 2 WHEN 0 THEN 'red' ELSE 'blue' END FROM node;
"""
LATER = """
INSERT INTO review SELECT id, id, 1 + (id + 1) % 3, CASE id % 5 WHEN 0 THEN id - 1 END FROM node;
INSERT INTO log (what) VALUES ('before');
INSERT INTO node_text (node_text) VALUES ('rebuild');
CREATE TRIGGER node_logged AFTER INSERT ON node BEGIN
    INSERT INTO log (what) VALUES ('node ' || new.id);
END;
ANALYZE;
PRAGMA user_version = 7;
"""
CHOICE = {
    "root": "owner",
    "roots": ("1",),
    "links": ("review.reviewer_id=stay,null", "review.other_id=stay,drop"),
}


@pytest.fixture(scope="session")
def subjects(tmp_path_factory, experiments_db):
    """Make the sources that runs are disturbed on."""
    folder = tmp_path_factory.mktemp("subjects")
    rollback, logged, bundled = (folder / name for name in ("rollback", "logged", "bundled"))
    make_source(rollback, "DELETE")
    make_source(logged, "WAL")
    experiment = make_experiments(bundled, experiments_db)
    return {
        subject.name: subject
        for subject in (
            Subject("export, rollback", str(rollback), CHOICE),
            Subject("export, WAL", str(logged), CHOICE),
            Subject("clone, rollback", str(rollback), None),
            Subject("export, migrations", str(bundled), {"root": "experimentconfig", "roots": (experiment,)}),
        )
    }


def make_source(folder, journal_mode):
    """Write a source; in WAL mode its later rows are in the log alone, as while its writer lives."""
    folder.mkdir()
    work = folder.parent / f"{folder.name}.db"
    with closing(sqlite3.connect(work)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.executescript(SCHEMA + ROWS)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.executescript(LATER)
        connection.commit()
        shutil.copy(work, folder / SOURCE)
        if journal_mode == "WAL":
            shutil.copy(f"{work}-wal", folder / (SOURCE + "-wal"))
