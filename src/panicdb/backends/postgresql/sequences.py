"""Sequences: where each one stands, whose numbers it gives, and how it is set."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from panicdb.backends.postgresql.catalog import OURS
from panicdb.backends.postgresql.names import quoted, table_name

AT_ONCE = 100
"""Sequences that one statement reads: the time to plan one grows with the square of them."""
_LISTED = f"""
SELECT n.nspname, c.relname, s.seqincrement, o.nspname, r.relname, a.attname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
LEFT JOIN pg_catalog.pg_depend w ON w.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND w.objid = c.oid
     AND w.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND w.deptype IN ('a', 'i') AND w.refobjsubid > 0
LEFT JOIN pg_catalog.pg_class r ON r.oid = w.refobjid
LEFT JOIN pg_catalog.pg_namespace o ON o.oid = r.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum = w.refobjsubid
WHERE c.relkind = 'S' AND {OURS}
ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True)
class Standing:
    """Where a sequence stands."""

    schema: str
    name: str
    last: int
    called: bool
    """The last number was given; else it is the next one."""
    increment: int
    owner: tuple[str, str, str] | None
    """Schema, table and column whose numbers it gives."""

    @property
    def following(self) -> int:
        """The number that it gives next."""
        return self.last + self.increment if self.called else self.last

    def farthest(self, connection: sa.Connection) -> int | None:
        """Return the number in its column that it came to last; None without one. Reads only."""
        if self.owner is None:
            return None
        schema, table, column = self.owner
        number: sa.ColumnClause[int] = sa.column(sa.quoted_name(column, True))
        rows = sa.table(sa.quoted_name(table, True), number, schema=sa.quoted_name(schema, True))
        end = sa.func.max(number) if self.increment > 0 else sa.func.min(number)
        found = connection.scalar(sa.select(end).select_from(rows))
        return None if found is None else int(found)


def read_standings(connection: sa.Connection) -> Mapping[str, Standing]:
    """Read every sequence of a database, by its name. Reads only."""
    listed = [tuple(row) for row in connection.exec_driver_sql(_LISTED)]
    if not listed:
        return {}
    stands: dict[int, tuple[int, bool]] = {}
    for start in range(0, len(listed), AT_ONCE):
        each = " UNION ALL ".join(
            f"SELECT {number}, last_value, is_called FROM {quoted(row[0], row[1])}"
            for number, row in enumerate(listed[start : start + AT_ONCE], start)
        ).replace("%", "%%")
        stands |= {row[0]: (int(row[1]), bool(row[2])) for row in connection.exec_driver_sql(each)}
    return {
        table_name(schema, name): Standing(
            schema,
            name,
            *stands[number],
            int(increment),
            None if table is None else (str(owner), str(table), str(column)),
        )
        for number, (schema, name, increment, owner, table, column) in enumerate(listed)
    }


def set_standings(connection: sa.Connection, wanted: Mapping[str, Standing]) -> None:
    """Let every sequence go on where another one of its name stands. Not undone by a rollback (setval)."""
    there = {table_name(row[0], row[1]) for row in connection.exec_driver_sql(_LISTED)}
    for name in wanted.keys() & there:
        each = wanted[name]
        connection.exec_driver_sql(
            "SELECT pg_catalog.setval(%s::pg_catalog.regclass, %s, %s)",
            (quoted(each.schema, each.name), each.last, each.called),
        )


def continue_after(connection: sa.Connection, counters: Mapping[str, int]) -> None:
    """Let every sequence of a column go on behind each number in use there, and behind its table's own counter.

    `counters` are last numbers, by table. Not undone by a rollback (setval).
    """
    for standing in read_standings(connection).values():
        if standing.owner is None:
            continue
        table = table_name(*standing.owner[:2])
        known = [standing.farthest(connection), counters.get(table)]
        used = [number for number in known if number is not None]
        last = max(used, default=None) if standing.increment > 0 else min(used[:1], default=None)
        if last is not None and last > 0:
            connection.exec_driver_sql(
                "SELECT pg_catalog.setval(%s::pg_catalog.regclass, %s)",
                (quoted(standing.schema, standing.name), last),
            )
