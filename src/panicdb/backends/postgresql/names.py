"""Names: how tables are called in catalogs, facts and options."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect

from panicdb.values import quote_name

LONGEST_NAME = 63
"""Bytes of a name; the server would cut a longer one (https://www.postgresql.org/docs/current/limits.html)."""

_PREPARER = PGDialect(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call]
"""Quotes for statements that go to the driver without parameters, where a per cent sign is only itself."""


def quote(name: str) -> str:
    """Quote a name, always."""
    return _PREPARER.quote_identifier(name)


def quoted(schema: str, name: str) -> str:
    """Quote the name of a relation with its schema."""
    return f"{quote(schema)}.{quote(name)}"


def spelled(table: sa.Table) -> str:
    """Quote the name of a table that a catalog holds."""
    return quoted(str(table.schema), table.name)


def table_name(schema: str, name: str) -> str:
    """Name a table plainly in `public`, with its schema elsewhere; of one meaning, one spelling."""
    return name if schema == "public" and "." not in name else f"{quote_name(schema)}.{quote_name(name)}"
