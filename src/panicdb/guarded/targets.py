"""What migrations run on: a SQLite file, or a database of a PostgreSQL server, behind a socket in a private folder."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import quote

FILE, SERVER = "sqlite", "postgresql"
PROOF = "panicdb.draft"
"""The setting that only sessions of the draft have: it is the socket's path."""
MEMORY = ":memory:"
_SCHEMES = frozenset({"postgresql", "postgres", "pgsql", "postgis", "timescale"})


class Target(NamedTuple):
    """The one database that may be reached."""

    engine: str
    path: str
    """The file, or the socket."""
    database: str = ""
    """What a server calls it."""

    @property
    def is_file(self) -> bool:
        """Tell whether it is a file."""
        return self.engine == FILE

    @property
    def folder(self) -> str:
        """Return the folder of the file, or of the socket."""
        return os.path.dirname(self.path)

    def address(self, *, asynchronous: bool = False, like: str = "") -> str:
        """Return the target's address, with the scheme of the address `like`, if that is of the same engine."""
        if self.is_file:
            return f"sqlite{'+aiosqlite' if asynchronous else ''}:///{self.path}"
        scheme = like.partition("://")[0]
        if scheme.partition("+")[0].lower() not in _SCHEMES:
            scheme = f"postgresql{'+asyncpg' if asynchronous else ''}"
        return f"{scheme}://panicdb@localhost/{quote(self.database, safe='')}?host={quote(self.folder)}"

    def in_memory(self) -> Target:
        """Return what takes the place of a database that is not this one."""
        return Target(FILE, MEMORY)
