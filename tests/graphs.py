"""Random graphs of revisions, written as an application has them, and sources that Alembic makes from them."""

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from alembics import Alembic

ENV = """
import sqlalchemy as sa
from alembic import context

engine = sa.create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=sa.pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
INI = "[alembic]\nscript_location = %(here)s/history\nsqlalchemy.url = sqlite://\n"
FILE = '''
"""A revision."""

from alembic import op
import sqlalchemy as sa

{assigned}

def upgrade():
    op.create_table("made_by_{revision}", sa.Column("id", sa.Integer, primary_key=True))


def downgrade():
    op.drop_table("made_by_{revision}")
'''
MADE_BY = "made_by_"


@dataclass(frozen=True)
class Node:
    """One revision. What it follows and depends on comes before it in the graph."""

    revision: str
    down: tuple[str, ...]
    depends: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Revisions, each after those it needs."""

    nodes: tuple[Node, ...]

    def before(self, *revisions: str) -> set[str]:
        """Return all that must run before some revisions."""
        needs = {node.revision: {*node.down, *node.depends} for node in self.nodes}
        found: set[str] = set()
        waiting = list(revisions)
        while waiting:
            new = needs[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    @property
    def features(self) -> list[str]:
        """Name what this graph has that a line of revisions has not."""
        parents = [down for node in self.nodes for down in node.down]
        present = {
            "several bases": sum(not node.down for node in self.nodes) > 1,
            "branches": len(parents) > len(set(parents)),
            "merges": any(len(node.down) > 1 for node in self.nodes),
            "dependencies": any(node.depends for node in self.nodes),
            "a dependency of a base": any(node.depends and not node.down for node in self.nodes),
            "labels": any(node.labels for node in self.nodes),
        }
        return [feature for feature, there in present.items() if there]


@dataclass(frozen=True)
class Source:
    """A database that Alembic brought where it is."""

    path: Path
    rows: frozenset[str]
    tables: frozenset[str]
    redundant: frozenset[str]
    """Rows among `rows` that were written by hand: what they stand for was there."""


def draw_graph(draw: random.Random, most: int = 14, *, tidy: bool = True) -> Graph:
    """Draw a graph of up to `most` revisions.

    In a tidy one no revision names another as a parent or a dependency that it needs anyway, by way of the others it
    names. Alembic takes untidy ones, and has no trouble with most of them; see tests/test_revision_graphs.py.
    """
    graph = Graph(())
    for number in range(draw.randint(1, most)):
        earlier = [node.revision for node in graph.nodes]
        name = _draw_name(draw, earlier)
        needs = (
            _draw_parents(draw, graph),
            draw.sample(earlier, min(len(earlier), draw.choice((0, 0, 0, 1, 1, 2)))),
        )
        down, depends = _tidied(graph, *needs) if tidy else needs
        labels = tuple(f"label{number}_{each}" for each in range(draw.choice((0, 0, 0, 1, 2))))
        others = tuple(each for each in depends if each not in down)
        graph = Graph((*graph.nodes, Node(name, tuple(down), others, labels)))
    return graph


def _tidied(graph: Graph, down: Sequence[str], depends: Sequence[str]) -> tuple[list[str], list[str]]:
    parents = [each for each in down if each not in graph.before(*down)]
    chosen: list[str] = []
    for each in depends:
        others = (*parents, *chosen)
        if each not in graph.before(*others) and not graph.before(each) & set(others):
            chosen.append(each)
    return parents, chosen


def _draw_name(draw: random.Random, earlier: Sequence[str]) -> str:
    """Most are as Alembic makes them; one may begin as another does, or be a word."""
    if earlier and draw.random() < 0.1:
        return draw.choice(earlier) + draw.choice("abcdef0123456789") + f"{len(earlier)}"
    if draw.random() < 0.1:
        return f"rev_{len(earlier)}"
    return f"{draw.getrandbits(48):012x}"


def _draw_parents(draw: random.Random, graph: Graph) -> tuple[str, ...]:
    followed = {down for node in graph.nodes for down in node.down}
    earlier = [node.revision for node in graph.nodes]
    heads = [revision for revision in earlier if revision not in followed]
    if not earlier or draw.random() < 0.15:
        return ()
    if len(heads) > 1 and draw.random() < 0.3:
        return tuple(draw.sample(heads, draw.randint(2, min(3, len(heads)))))
    return (draw.choice(heads if draw.random() < 0.6 else earlier),)


def write_graph(graph: Graph, folder: Path, draw: random.Random) -> Path:
    """Write a graph's files; return the ini file. Each thing is spelled in one of the ways that Alembic takes."""
    versions = folder / "history" / "versions"
    versions.mkdir(parents=True)
    (folder / "history" / "env.py").write_text(ENV, encoding="utf-8")
    labels = {node.revision: node.labels for node in graph.nodes}
    for number, node in enumerate(draw.sample(graph.nodes, len(graph.nodes))):
        depends = [
            draw.choice(labels[each]) if labels[each] and draw.random() < 0.6 else each
            for each in node.depends
        ]
        values = {
            "revision": repr(node.revision),
            "down_revision": _spelled(node.down, draw),
            "branch_labels": _spelled(node.labels, draw),
            "depends_on": _spelled(depends, draw),
        }
        assigned = "\n".join(_assignment(name, value, draw) for name, value in values.items())
        text = FILE.format(assigned=assigned, revision=node.revision)
        (versions / f"{number}_{node.revision}.py").write_text(text, encoding="utf-8")
    ini = folder / "alembic.ini"
    ini.write_text(INI, encoding="utf-8")
    return ini


def _spelled(names: Sequence[str], draw: random.Random) -> str:
    if not names:
        return "None"
    if len(names) == 1 and draw.random() < 0.7:
        return repr(names[0])
    return draw.choice((repr(tuple(names)), repr(list(names)), f"({', '.join(map(repr, names))},)"))


def _assignment(name: str, value: str, draw: random.Random) -> str:
    kind = "str" if name == "revision" else "str | tuple[str, ...] | list[str] | None"
    return draw.choice((f"{name} = {value}", f"{name}: {kind} = {value}"))


def make_source(graph: Graph, ini: Path, path: Path, draw: random.Random, alembic: Alembic) -> Source:
    """Let Alembic upgrade a new database to random revisions, one after the other.

    Now and then the version table gets a row more that stands for what has run already, as hands and old bugs leave it.
    """
    names = [node.revision for node in graph.nodes]
    labels = [label for node in graph.nodes for label in node.labels]
    targets = [
        draw.choice(labels) if labels and draw.random() < 0.2 else draw.choice(names)
        for _ in range(draw.randint(1, 4))
    ]
    if draw.random() < 0.1:
        targets.append("heads")
    alembic.upgrade(ini, path, targets)
    rows = version_rows(path)
    standing = sorted(graph.before(*rows) - rows)
    redundant = draw.sample(standing, min(len(standing), draw.choice((0, 0, 1, 2))))
    add_rows(path, redundant)
    return Source(path, version_rows(path), tables(path), frozenset(redundant))


def version_rows(path: Path) -> frozenset[str]:
    """Return what the version table says."""
    return frozenset(row for (row,) in _query(path, "SELECT version_num FROM alembic_version"))


def tables(path: Path) -> frozenset[str]:
    """Return the revisions that left their table."""
    names = [name for (name,) in _query(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return frozenset(name.removeprefix(MADE_BY) for name in names if name.startswith(MADE_BY))


def add_rows(path: Path, rows: Sequence[str]) -> None:
    """Write rows into the version table."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany("INSERT INTO alembic_version VALUES (?)", [(row,) for row in rows])
        connection.commit()


def _query(path: Path, sql: str) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()
