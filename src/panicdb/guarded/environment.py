"""What the environment says of databases: the child does without it, or finds the target in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .aims import VARIABLES
from .targets import Target

BACKENDS = (
    "sqlite sqlite3 spatialite postgresql postgres pgsql postgis timescale mysql mysql2 mariadb mssql oracle "
    "cockroachdb cockroach duckdb redshift snowflake db2 firebird"
)
ASYNCHRONOUS = frozenset(
    ("aiosqlite", "asyncpg", "aiomysql", "asyncmy", "psycopg_async", "aioodbc", "aiopg", "oracledb_async")
)
CREDENTIALS = VARIABLES | {
    *("PGOPTIONS", "MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT", "MYSQL_PWD", "MYSQL_HOME"),
}
"""What drivers read by themselves."""
OUR_OWN = "PANICDB_"
_ADDRESS = re.compile(rf"(?<![\w+])({'|'.join(BACKENDS.split())})(?:\+(\w+))?://", re.IGNORECASE)


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without addresses of databases, or what their drivers read there."""
    return {
        name: value
        for name, value in environment.items()
        if name not in CREDENTIALS and not name.startswith(OUR_OWN) and not _ADDRESS.search(value)
    }


def redirected(
    environment: Mapping[str, str], target: Target, bind: str | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the variables that are addresses, as addresses of the target, synchronous or not as before.

    With `bind`, one of several addresses, only that one leads there, and the others into memory. A variable that has
    an address somewhere within it is left out: what else it says would mean something else.
    """
    for name, value in environment.items():
        found = _ADDRESS.match(value.strip())
        if found is not None and not name.startswith(OUR_OWN):
            chosen = (
                target if bind is None or "://" not in bind or value.strip() == bind else target.in_memory()
            )
            asynchronous = (found[2] or "").lower() in ASYNCHRONOUS
            yield name, chosen.address(asynchronous=asynchronous, like=value.strip())
