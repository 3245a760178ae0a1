"""What a suite needs of an engine: databases made from scripts, where targets go, and an independent look at both.

Scripts are in SQLite's dialect, as long as a case is about no engine in particular: `translated` says the same to
PostgreSQL. What lies in a database is read here by plain SQL, never by panicdb.
"""

import hashlib
import re
import secrets
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from panicdb.backends.sqlite import files
from panicdb.values import quote_name
from servers import Pool, Server, choose


class Engine(ABC):
    """One engine; places are what the command line takes for a database: a path, or a URL."""

    kind: str
    """What a case calls it that is about it alone."""

    @abstractmethod
    def source(self, script: str, *, own: bool = False) -> Any:
        """Make the source anew; `own`: the script is in this engine's own dialect."""

    @abstractmethod
    def target(self) -> Any:
        """Name the place for a target; nothing is there."""

    @abstractmethod
    def remove(self, place: Any) -> None: ...

    features: frozenset[str] = frozenset()
    """Names of what not every server of this engine has."""

    @abstractmethod
    def fingerprint(self, place: Any) -> str:
        """Digest all that a reader must not change: rows, where they lie, and the schema."""

    @abstractmethod
    def litter(self) -> set[str]:
        """Everything that lies about but the source."""

    @abstractmethod
    def query(self, place: Any, statement: str) -> list[tuple]: ...

    @abstractmethod
    def tables(self, place: Any) -> Mapping[str, str]:
        """Name all tables as panicdb does, each with its name in SQL."""

    @abstractmethod
    def complaints(self, place: Any) -> list[tuple]:
        """Let the engine say what is wrong with a database."""

    @abstractmethod
    def dangling(self, place: Any) -> int:
        """Count references that lead nowhere."""

    @abstractmethod
    def counting_statements(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Collect, while the context lasts, every statement that panicdb runs."""

    def rows(self, place: Any, table: str, columns: str = "*") -> list[tuple]:
        return self.query(place, f"SELECT {columns} FROM {self.tables(place)[table]}")


# --- SQLite ---------------------------------------------------------------------------------------


class SQLite(Engine):
    """Files in one folder."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def source(self, script: str, *, own: bool = False) -> Path:
        del own  # other engines' scripts are translated from this dialect
        path = self._folder / "source.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
            connection.commit()
        return path

    def target(self) -> Path:
        return self._folder / "target.db"

    def remove(self, place: Path) -> None:
        place.unlink()

    def fingerprint(self, place: Path) -> str:
        return hashlib.sha256(place.read_bytes()).hexdigest()

    def litter(self) -> set[str]:
        return {path.name for path in self._folder.iterdir()} - {"source.db"}

    def query(self, place: Path, statement: str) -> list[tuple]:
        with closing(sqlite3.connect(place)) as connection:
            return connection.execute(statement).fetchall()

    def tables(self, place: Path) -> Mapping[str, str]:
        listed = self.query(place, "PRAGMA main.table_list")
        found = [row[1] for row in listed if row[2] == "table" and not row[1].startswith("sqlite_")]
        return {name: _quoted(name) for name in found}

    def complaints(self, place: Path) -> list[tuple]:
        return [row for row in self.query(place, "PRAGMA integrity_check") if row != ("ok",)]

    def dangling(self, place: Path) -> int:
        """Count broken references as the engine finds them, table by table, where it can."""
        found = 0
        for table in self.tables(place).values():
            try:
                found += len(self.query(place, f"PRAGMA foreign_key_check({table})"))
            except sqlite3.OperationalError as error:
                if "foreign key mismatch" not in str(error):
                    raise
        return found

    @contextmanager
    def counting_statements(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        statements: list[str] = []
        connect = files.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(statements.append)
            return connection

        with monkeypatch.context() as patch:
            patch.setattr(files, "connect", traced)
            yield statements


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# --- PostgreSQL -----------------------------------------------------------------------------------

PATIENCE = 50
NOTHING = ("", False, "")
# Ordinary tables and roots of partitions, with the names that panicdb gives them.
TABLES = """
SELECT n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), c.relkind = 'r'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY c.oid
"""
# What describes a schema, but for what reading it or ANALYZE may change.
CATALOGS = """
SELECT format('%s %s %s %s', oid, relname, relfilenode, relkind) FROM pg_class WHERE oid >= 16384
UNION ALL SELECT a::text FROM pg_attribute a WHERE attrelid >= 16384
UNION ALL SELECT format('%s %s', oid, pg_get_constraintdef(oid)) FROM pg_constraint WHERE oid >= 16384
UNION ALL SELECT format('%s %s %s', oid, tgname, tgenabled) FROM pg_trigger WHERE oid >= 16384
UNION ALL SELECT format('%s %s %s', oid, proname, prosrc) FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT format('%s %s', oid, nspname) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
UNION ALL SELECT s::text FROM pg_sequences s
"""
HOLDING_ROWS = """
SELECT oid::regclass::text FROM pg_class
WHERE oid >= 16384 AND relkind IN ('r', 'm') AND relpersistence <> 't' AND relispopulated
"""
# Left behind by a load that put things aside: each is something that no longer holds or acts.
COMPLAINTS = """
SELECT 'invalid index', indexrelid::regclass::text FROM pg_index WHERE NOT (indisvalid AND indisready)
UNION ALL SELECT 'disabled trigger', tgname FROM pg_trigger WHERE tgisinternal AND tgenabled <> 'O'
UNION ALL SELECT 'unlogged for the load', relname FROM pg_class WHERE relpersistence = 'u' AND relname !~ 'unlogged'
"""
LINKS = """
SELECT format('%I.%I', cn.nspname, c.relname), format('%I.%I', pn.nspname, p.relname), k.confmatchtype = 'f',
    ARRAY(SELECT format('%I', attname) FROM unnest(k.conkey) WITH ORDINALITY AS u (number, place)
        JOIN pg_attribute ON attrelid = k.conrelid AND attnum = number ORDER BY place),
    ARRAY(SELECT format('%I', attname) FROM unnest(k.confkey) WITH ORDINALITY AS u (number, place)
        JOIN pg_attribute ON attrelid = k.confrelid AND attnum = number ORDER BY place),
    ARRAY(SELECT coalesce(nullif(typbasetype, 0), t.oid)::regtype::text
        FROM unnest(k.confkey) WITH ORDINALITY AS u (number, place)
        JOIN pg_attribute ON attrelid = k.confrelid AND attnum = number
        JOIN pg_type t ON t.oid = atttypid ORDER BY place),
    c.relkind = 'r', p.relkind = 'r'
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
"""


class PostgreSQL(Engine):
    """Databases on one server; names hold a word of this object's own, for others may use the server, too."""

    kind = "postgresql"

    def __init__(self, server: Server) -> None:
        self.server = server
        self._word = secrets.token_hex(3)
        self._open: dict[str, psycopg.Connection] = {}
        self._kept: set[str] = set()
        self._roles: list[str] = []
        self._source = NOTHING

    def source(self, script: str, *, own: bool = False) -> str:
        """Make the source; one of the same script is taken again if it is as it was."""
        place = self.server.url(f"source_{self._word}")
        known = self._source[:2] == (script, own) and self._source[2] == self.fingerprint(place)
        if not known:
            self._source = NOTHING
            self._kept.clear()
            self.remove(place)
            self.create(place)
            statements, links = ([script], []) if own else translated(script)
            self.session(place).execute("".join(statements))
            for link in links:
                self._declare(place, link)
            self._source = (script, own, self.fingerprint(place))
        return place

    def create(self, place: str, like: str | None = None) -> None:
        """Make an empty database, or a copy of another one."""
        if like is not None:
            self.leave(like)
        template = "template0" if like is None else _database(like)
        self._administer("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", _database(place), template)

    def _declare(self, place: str, link: str) -> None:
        """Add a foreign key; where rows violate it already, one that was never checked."""
        try:
            self.session(place).execute(link)
        except psycopg.errors.ForeignKeyViolation:
            self.session(place).execute(f"{link} NOT VALID")

    def target(self) -> str:
        return self.server.url(f"target_{self._word}")

    def another(self, name: str) -> str:
        """Name one more place."""
        return self.server.url(f"{name}_{self._word}")

    def remove(self, place: str) -> None:
        self.leave(place)
        self._administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", _database(place))

    def keep(self, place: str) -> bool:
        """Let a database outlast its test, until the source is another one; tell whether it has yet to be made."""
        is_new = _database(place) not in self._kept
        self._kept.add(_database(place))
        return is_new

    def role(self, name: str) -> str:
        """Make a role that may log in with the password `secret`, and nothing else, until `tidy`."""
        role = f"{name}_{self._word}"
        self._administer("CREATE ROLE {} LOGIN PASSWORD 'secret'", role)
        self._roles.append(role)
        return role

    def tidy(self) -> None:
        """Drop every database that came since this was made, but the source and what is kept."""
        for place in list(self._open):
            if _database(place) not in ("postgres", f"source_{self._word}"):
                self.leave(place)
        for name in self._databases() - {f"source_{self._word}", *self._kept}:
            self._administer("DROP DATABASE {} WITH (FORCE)", name)
        if self._roles:
            self.remove(self.server.url(f"source_{self._word}"))  # in which they may own something
            self._source = NOTHING
        while self._roles:
            self._administer("DROP ROLE {}", self._roles.pop())

    def close(self) -> None:
        self._kept.clear()
        self.tidy()
        self.remove(self.server.url(f"source_{self._word}"))
        for place in list(self._open):
            self.leave(place)

    def _administer(self, words: str, *names: str) -> None:
        self.session(self.server.url()).execute(sql.SQL(words).format(*map(sql.Identifier, names)))

    def _databases(self) -> set[str]:
        """Name ours: a draft of a target has its name in its own."""
        named = self.query(self.server.url(), "SELECT datname FROM pg_database")
        return {name for (name,) in named if self._word in name}

    def share(self, number: int) -> int:
        """Say how many of a campaign's cases are for this server: all on the first, a fifth on any other."""
        return number if self.server.name == choose()[0] else number // 5

    @cached_property
    def features(self) -> frozenset[str]:
        names = (
            "SELECT name FROM pg_available_extensions "
            "UNION SELECT 'icu' FROM pg_collation WHERE collname = 'de-x-icu'"
        )
        since = [f"PostgreSQL {version}" for version in range(16, self.server.version + 1)]
        return frozenset([*since, *(name for (name,) in self.query(self.server.url(), names))])

    def session(self, place: str) -> psycopg.Connection:
        """Give a session in a database, kept until `leave`."""
        if place not in self._open:
            self._open[place] = self.server.connect(_database(place))
        return self._open[place]

    def leave(self, place: str) -> None:
        with suppress(KeyError):
            self._open.pop(place).close()

    def query(self, place: str, statement: str) -> list[tuple]:
        return self.session(place).execute(statement).fetchall()

    def tables(self, place: str) -> Mapping[str, str]:
        named = self.query(place, TABLES)
        return {called(schema, name): "ONLY " * plain + spelled for schema, name, spelled, plain in named}

    def fingerprint(self, place: str) -> str:
        each = "SELECT tableoid::regclass::text, ctid::text, xmin::text, t::text FROM ONLY {} AS t"
        rows = " UNION ALL ".join(each.format(name) for (name,) in self.query(place, HOLDING_ROWS))
        statements = [CATALOGS, *[rows] * bool(rows)]
        found = [str(row) for statement in statements for row in sorted(self.query(place, statement))]
        return hashlib.sha256("\n".join(found).encode()).hexdigest()

    def litter(self) -> set[str]:
        """Databases, and sessions that read the source: there is to be none but ours."""
        others = self._databases() - {f"source_{self._word}", *self._kept}
        ours = [each.info.backend_pid for each in self._open.values()]
        statement = "SELECT application_name FROM pg_stat_activity WHERE pid <> ALL (%s) AND datname = %s"
        sessions: list[tuple] = []
        for _ in range(PATIENCE):  # a session's process ends a moment after the session was closed
            found = self.session(self.server.url()).execute(statement, (ours, f"source_{self._word}"))
            sessions = found.fetchall()
            if not sessions:
                break
            time.sleep(0.02)
        return others | {f"a session of {name!r}" for (name,) in sessions}

    def complaints(self, place: str) -> list[tuple]:
        return self.query(place, COMPLAINTS)

    def dangling(self, place: str) -> int:
        return sum(self.query(place, _count_dangling(*link))[0][0] for link in self.query(place, LINKS))

    @contextmanager
    def counting_statements(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        """Collect what goes through cursors of the driver, SQLAlchemy's too; a COPY counts when it is begun.

        But not ANALYZE: tables of keys are analysed again as they grow, each time after some times as many rows.
        """
        statements: list[str] = []

        def traced(method: Any) -> Any:
            def run(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
                statements.extend([] if str(query).startswith("ANALYZE") else [str(query)])
                return method(cursor, query, *arguments, **options)

            return run

        with monkeypatch.context() as patch:
            for each in (psycopg.Cursor, psycopg.ServerCursor):
                for name in ("execute", "executemany", "copy", "stream"):
                    if name in vars(each):
                        patch.setattr(each, name, traced(vars(each)[name]))
            yield statements


def _database(place: str) -> str:
    return place.rsplit("/", 1)[1]


def called(schema: str, name: str) -> str:
    """Name a table as panicdb does: with its schema, unless that is public; and then too, if there's a dot in it."""
    plain = schema == "public" and "." not in name
    return name if plain else f"{quote_name(schema)}.{quote_name(name)}"


def _count_dangling(  # as many as LINKS has columns
    child: str, parent: str, full: bool, columns: list[str], keys: list[str], types: list[str], *plain: bool
) -> str:
    """Count by an anti-join of our own; with MATCH FULL a part that is NULL among others that are not counts, too."""
    whole = ["ONLY " * each for each in plain]
    known = " AND ".join(f"c.{name} IS NOT NULL" for name in columns)
    named = ["bpchar" if kind == "character" else kind for kind in types]  # character alone has one character
    casts = [f"c.{name}::{kind}" for name, kind in zip(columns, named, strict=True)]
    same = " AND ".join(f"p.{key} = {cast}" for key, cast in zip(keys, casts, strict=True))
    lost = f"({known} AND NOT EXISTS (SELECT FROM {whole[1]}{parent} AS p WHERE {same}))"
    if full:
        lost += (
            f" OR (num_nulls({', '.join(f'c.{name}' for name in columns)}) BETWEEN 1 AND {len(columns) - 1})"
        )
    return f"SELECT count(*) FROM {whole[0]}{child} AS c WHERE {lost}"


# From SQLite's dialect to PostgreSQL's

NAME = r'(?:"(?:[^"]|"")+"|\w+)'
LIST = rf"\(\s*{NAME}(?:\s*,\s*{NAME})*\s*\)"
CREATE_TABLE = re.compile(rf"\s*CREATE TABLE ({NAME}) \((.*)\)([\w\s,]*)", re.DOTALL)
FOREIGN_KEY = re.compile(
    rf"(?P<columns>FOREIGN KEY\s*{LIST})?\s*REFERENCES\s+(?P<parent>{NAME}(?:\s*{LIST})?)"
    r"(?P<more>(?:\s+(?:ON DELETE CASCADE|DEFERRABLE INITIALLY DEFERRED))*)"
)
TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[();,]|[^'"();,]+""")
TYPES = {r"\bBLOB\b": "bytea", r"\bREAL\b": "double precision", r"\bx'(\w*)'": r"'\\x\1'::bytea"}


def translated(script: str) -> tuple[list[str], list[str]]:
    """Say in PostgreSQL's dialect what a script says in SQLite's; foreign keys come after all rows.

    A foreign key of SQLite may lead to a table that comes later, and is not checked. Types have other names. STRICT and
    WITHOUT ROWID make no difference.
    """
    statements, links = [], []
    for statement in _pieces(script, ";"):
        created = CREATE_TABLE.fullmatch(statement)
        if created is None:
            statements.append(_typed(statement))
            continue
        name, body, _options = created.groups()
        items = []
        for item in _pieces(body, ","):
            first = re.match(rf"\s*({NAME})", item)
            assert first is not None
            for match in FOREIGN_KEY.finditer(item):
                columns = match["columns"] or f"FOREIGN KEY ({first[1]})"
                links.append(f"ALTER TABLE {name} ADD {columns} REFERENCES {match['parent']}{match['more']}")
            rest = FOREIGN_KEY.sub("", item)
            items += [rest] * bool(rest.strip())
        statements.append(f"CREATE TABLE {name} ({','.join(map(_typed, items))})")
    return [f"{statement};" for statement in statements], links


def _typed(text: str) -> str:
    for pattern, replacement in TYPES.items():
        text = re.sub(pattern, replacement, text)
    return text


def _pieces(text: str, separator: str) -> Iterator[str]:
    """Cut text at separators that are in no quotes and no parentheses."""
    depth, piece = 0, ""
    for token in TOKEN.findall(text):
        depth += (token == "(") - (token == ")")
        if token == separator and not depth:
            yield piece
            piece = ""
        else:
            piece += token
    if piece.strip():
        yield piece


class Engines:
    """The engines of one session of tests: SQLite in a folder of the test's own, PostgreSQL on each server."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept: dict[str, PostgreSQL] = {}

    def postgresql(self, name: str) -> PostgreSQL:
        """Give PostgreSQL on one of the servers that the tests use."""
        if name not in self._kept:
            self._kept[name] = PostgreSQL(self._pool.get(name))
        return self._kept[name]

    @contextmanager
    def using(self, name: str, folder: Path) -> Iterator[Engine]:
        """Give the engine `name` to one test."""
        if name == SQLite.kind:
            yield SQLite(folder)
            return
        engine = self.postgresql(name)
        with pytest.MonkeyPatch.context() as patch:
            if engine.server.binaries is not None:
                patch.setenv("PANICDB_PG_DUMP", str(engine.server.binaries / "pg_dump"))
            try:
                yield engine
            finally:
                engine.tidy()

    def close(self) -> None:
        for engine in self._kept.values():
            engine.close()
