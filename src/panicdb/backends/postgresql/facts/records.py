"""Records: rows of the system catalogs by the names of their columns, and what is written about objects beside them."""

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from panicdb.values import Fact

Record = Mapping[str, Any]
"""Text, numbers, truth values, None and lists of these; an oid is text."""

FIRST_OF_USERS = 16384
"""The first oid that an object of a user's has (FirstNormalObjectId of the server's access/transam.h)."""
_COMMENTS = f"""
SELECT CAST(CAST(d.classoid AS regclass) AS text) AS catalog, d.objoid AS oid, d.objsubid AS part, d.description
FROM pg_description d WHERE d.objoid >= {FIRST_OF_USERS}
"""
_MAJOR = 10_000


def users(namespace: str) -> str:
    """Return the condition that a row of pg_namespace is no system schema."""
    return f"{namespace}.nspname <> 'information_schema' AND {namespace}.nspname !~ '^pg_'"


def own(catalog: str, oid: str = "o.oid") -> str:
    """Return the condition that an object of a catalog came neither with an extension nor with another object."""
    return (
        "NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype IN ('e', 'i') "
        f"AND e.classid = CAST('{catalog}' AS regclass) AND e.objid = {oid})"
    )


class Records:
    """The system catalogs of one database. Reads only."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // _MAJOR
        self._comments = {
            (row["catalog"], row["oid"], row["part"]): Fact(row["description"])
            for row in self.read(_COMMENTS)
        }

    def read(self, sql: str) -> list[Record]:
        """Run a query. Its rows come as JSON, whatever adapters the connection has."""
        rows = self._connection.exec_driver_sql(f"SELECT CAST(row_to_json(q) AS text) FROM ({sql}) AS q")
        return [json.loads(row[0]) for row in rows]

    def comment(self, catalog: str, oid: str, part: int = 0) -> dict[str, Fact]:
        """Return the fact `comment` of an object of a catalog, if there is one."""
        found = self._comments.get((catalog, oid, part))
        return {} if found is None else {"comment": found}
