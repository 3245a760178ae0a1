"""What a declared type of SQLite means to another engine."""

import re
from collections.abc import Mapping

from panicdb.values import ColumnType, TypeClass

_DECLARED = re.compile(r"\s*([^(]*?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)\s*(.*?))?\s*", re.DOTALL)

_Meaning = tuple[TypeClass, int | None]

_OF_SQLITE: Mapping[str, _Meaning] = {
    **dict.fromkeys(("INT", "INTEGER", "BIGINT", "INT8", "UNSIGNED BIG INT"), (TypeClass.INTEGER, 64)),
    **dict.fromkeys(("SMALLINT", "INT2", "TINYINT", "MEDIUMINT", "INT4"), (TypeClass.INTEGER, 64)),
    **dict.fromkeys(("BOOLEAN", "BOOL"), (TypeClass.BOOLEAN, None)),
    **dict.fromkeys(("FLOAT", "DOUBLE", "DOUBLE PRECISION", "DOUBLE_PRECISION"), (TypeClass.FLOAT, 64)),
    **dict.fromkeys(("REAL", "FLOAT8", "FLOAT4"), (TypeClass.FLOAT, 64)),
    **dict.fromkeys(("NUMERIC", "DECIMAL"), (TypeClass.NUMERIC, None)),
    **dict.fromkeys(("VARCHAR", "CHAR", "NVARCHAR", "NCHAR", "CHARACTER"), (TypeClass.TEXT, None)),
    **dict.fromkeys(("CHARACTER VARYING", "VARYING CHARACTER", "NATIVE CHARACTER"), (TypeClass.TEXT, None)),
    **dict.fromkeys(("TEXT", "CLOB", "MEDIUMTEXT", "LONGTEXT", "TINYTEXT"), (TypeClass.TEXT, None)),
    **dict.fromkeys(("BLOB", "BYTEA", "VARBINARY", "BINARY"), (TypeClass.BYTES, None)),
    **dict.fromkeys(("LONGBLOB", "MEDIUMBLOB", "TINYBLOB"), (TypeClass.BYTES, None)),
    **dict.fromkeys(("JSON", "JSONB"), (TypeClass.JSON, None)),
    "UUID": (TypeClass.UUID, None),
    "DATE": (TypeClass.DATE, None),
    "TIME": (TypeClass.TIME, None),
    **dict.fromkeys(("DATETIME", "TIMESTAMP", "TIMESTAMP WITHOUT TIME ZONE"), (TypeClass.DATETIME, None)),
    **dict.fromkeys(("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"), (TypeClass.DATETIME, None)),
}
"""{declared type without what stands in brackets: (class, bits)}. All of SQLite's integers have 64 bits."""


def column_type(declared: str, affinity: str) -> ColumnType:
    """Read a declared type of SQLite, which binds values to no more than its affinity."""
    match = _DECLARED.fullmatch(declared)
    name, first, second, behind = match.groups() if match else (declared, None, None, None)
    word = " ".join(f"{name} {behind or ''}".upper().split())
    kind, bits = _OF_SQLITE.get(word, (TypeClass.OTHER, None))
    size = int(first) if first and kind in (TypeClass.TEXT, TypeClass.NUMERIC) else bits
    scale = None
    if kind is TypeClass.NUMERIC and first:
        scale = int(second or 0)
    return ColumnType(
        kind,
        declared,
        size=size,
        scale=scale,
        zoned=word in ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"),
        exact=word != "JSONB",
        affinity=affinity,
    )
