"""Virtual tables: indexes that a module keeps in shadow tables, which are never copied as data."""

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import sqlalchemy as sa

from panicdb.errors import SourceError

_USING = re.compile(r"\bUSING\s+[\"'`\[]?(\w+)", re.IGNORECASE)
_CONTENT = re.compile(
    r"\bcontent\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|`([^`]*)`|\[([^\]]*)\]|([^\s,)]*))", re.IGNORECASE
)
_LANGUAGE = re.compile(r"\blanguageid\s*=", re.IGNORECASE)

_FULL_TEXT = frozenset({"fts3", "fts4", "fts5"})
_SPATIAL = frozenset({"rtree", "rtree_i32", "geopoly"})


class Way(Enum):
    """How the content of a virtual table gets into the target."""

    ROWS = "its rows are copied through its module"
    REBUILD = "rebuilt from the table it indexes"


@dataclass(frozen=True)
class VirtualTable:
    """One virtual table and the way it takes."""

    name: str
    module: str
    way: Way
    settings: tuple[tuple[str, Any], ...] = ()
    """What its module was told by statements after its creation, such as FTS5's `rank`."""


def read_virtual_tables(connection: sa.Connection, shown: str) -> tuple[VirtualTable, ...]:
    """Classify the virtual tables of the main file. Raises SourceError for one that can't be carried over."""
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'table' AND rootpage = 0 ORDER BY rowid"
    )
    tables = [_classify(str(name), str(sql), shown) for name, sql in rows]
    return tuple(replace(each, settings=_settings(connection, each)) for each in tables)


def _settings(connection: sa.Connection, virtual: VirtualTable) -> tuple[tuple[str, Any], ...]:
    if virtual.module != "fts5":
        return ()
    name = connection.dialect.identifier_preparer.quote_identifier(f"{virtual.name}_config")
    rows = connection.exec_driver_sql(f"SELECT k, v FROM main.{name} WHERE k <> 'version' ORDER BY k")
    return tuple((str(key), value) for key, value in rows)


def _classify(name: str, sql: str, shown: str) -> VirtualTable:
    match = _USING.search(sql)
    module = match[1].casefold() if match else "?"
    if module in _SPATIAL:
        return VirtualTable(name, module, Way.ROWS)
    if module not in _FULL_TEXT:
        raise SourceError(
            f"{shown}: virtual table {name!r} of module {module!r} can't be rebuilt in a target",
            hint="panicdb carries fts3, fts4, fts5, rtree and geopoly tables; drop this one from a copy first",
        )
    content = _CONTENT.search(sql)
    if content is None:
        way = Way.ROWS
    elif any(content.groups()):
        way = Way.REBUILD
    else:
        raise SourceError(
            f"{shown}: full-text table {name!r} is contentless: its text is stored nowhere to be rebuilt from",
            hint="drop it from a copy of the source first",
        )
    if _LANGUAGE.search(sql):
        raise SourceError(
            f"{shown}: full-text table {name!r} keeps language ids, which can't be carried over",
            hint="drop it from a copy of the source first",
        )
    return VirtualTable(name, module, way)
