"""What a table has beside its rows, put aside for a load: keys, indexes, foreign keys, triggers; and brought back.

Loading into a bare table and building its indexes then is faster, and rows may come in any order. All of it happens in
the transaction of the load; the catalog comparison after it proves that everything is back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from panicdb.backends.postgresql.catalog import Relation
from panicdb.backends.postgresql.names import quote


@dataclass(frozen=True)
class Aside:
    """What is taken away, and how it comes back, in this order."""

    drop: tuple[str, ...]
    restore: tuple[str, ...]


_FOREIGN_KEYS = """
SELECT k.conrelid::pg_catalog.regclass::text, k.conname, pg_catalog.pg_get_constraintdef(k.oid),
       pg_catalog.obj_description(k.oid, 'pg_constraint')
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0 AND (k.conrelid = ANY(%(all)s) OR k.confrelid = ANY(%(all)s))
ORDER BY k.oid
"""
# A key or index that something else depends on (a view that groups by a primary key, say) stays where it is; so does
# one with settings of storage that the definition of a constraint does not tell.
_FREE = """
    NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype <> 'i' AND d.refobjid = x.oid
                AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND d.classid <> 'pg_catalog.pg_constraint'::pg_catalog.regclass)
"""
_KEYS = f"""
SELECT k.conrelid::pg_catalog.regclass::text, k.conname, pg_catalog.pg_get_constraintdef(k.oid),
       pg_catalog.obj_description(k.oid, 'pg_constraint'),
       x.oid::pg_catalog.regclass::text, x.relname, pg_catalog.obj_description(x.oid, 'pg_class'),
       i.indisreplident, i.indisclustered
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class x ON x.oid = k.conindid
JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid
WHERE k.contype IN ('p', 'u', 'x') AND k.conrelid = ANY(%(plain)s)
  AND x.reloptions IS NULL AND x.reltablespace = 0 AND {_FREE}
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'n' AND d.refobjid = k.oid
                  AND d.refclassid = 'pg_catalog.pg_constraint'::pg_catalog.regclass)
ORDER BY k.contype <> 'p', k.oid
"""
_INDEXES = f"""
SELECT i.indrelid::pg_catalog.regclass::text, x.oid::pg_catalog.regclass::text, x.relname,
       pg_catalog.pg_get_indexdef(x.oid), pg_catalog.obj_description(x.oid, 'pg_class'),
       i.indisreplident, i.indisclustered,
       ARRAY(SELECT a.attnum || ' SET STATISTICS ' || a.attstattarget FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = x.oid AND a.attstattarget >= 0 ORDER BY a.attnum)::text
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = ANY(%(plain)s) AND i.indisvalid AND x.reltablespace = 0 AND {_FREE}
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = x.oid AND k.contype IN ('p', 'u', 'x'))
ORDER BY x.oid
"""
_CHECKS = """
SELECT k.conrelid::pg_catalog.regclass::text, k.conname, pg_catalog.pg_get_constraintdef(k.oid),
       pg_catalog.obj_description(k.oid, 'pg_constraint')
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'c' AND NOT k.convalidated AND k.coninhcount = 0 AND k.conrelid = ANY(%(all)s)
ORDER BY k.oid
"""
_TRIGGERS = """
SELECT g.tgrelid::pg_catalog.regclass::text, g.tgname, g.tgenabled::text
FROM pg_catalog.pg_trigger g
WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgrelid = ANY(%(every)s)
ORDER BY g.oid
"""
_FORCED = """
SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
WHERE c.relforcerowsecurity AND c.oid = ANY(%(every)s) ORDER BY c.oid
"""
_ENABLED = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


class Structure:
    """Reads what is to be put aside for a load into `loaded`, of the `relations` of a database."""

    def __init__(
        self, connection: sa.Connection, relations: Sequence[Relation], loaded: frozenset[str]
    ) -> None:
        self._connection = connection
        chosen = [each for each in relations if each.shown in loaded and not each.is_partition]
        self._oids = {
            "all": [each.oid for each in chosen],
            "plain": [each.oid for each in chosen if each.kind == "r"],
            "every": [each.oid for each in relations],
        }

    def read(self) -> Aside:
        """Return what to drop and how to restore it. Reads only."""
        links, keys = list(self._constraints(_FOREIGN_KEYS)), list(self._keys())
        indexes, checks = list(self._indexes()), list(self._constraints(_CHECKS))
        triggers, policies = list(self._triggers()), list(self._policies())
        away = (*links, *keys, *indexes, *checks, *triggers, *policies)
        back = (*indexes, *keys, *checks, *links, *triggers, *policies)
        return Aside(
            tuple(statement for each in away for statement in each.drop),
            tuple(statement for each in back for statement in each.restore),
        )

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.exec_driver_sql(sql, self._oids)]

    def _constraints(self, sql: str) -> Iterator[Aside]:
        for table, name, definition, comment in self._rows(sql):
            restore = [f"ALTER TABLE {table} ADD CONSTRAINT {quote(name)} {definition}"]
            if comment is not None:
                restore.append(_comment(f"CONSTRAINT {quote(name)} ON {table}", comment))
            yield Aside((f"ALTER TABLE {table} DROP CONSTRAINT {quote(name)}",), tuple(restore))

    def _keys(self) -> Iterator[Aside]:
        for table, name, definition, comment, index, index_name, index_comment, *flags in self._rows(_KEYS):
            restore = [f"ALTER TABLE {table} ADD CONSTRAINT {quote(name)} {definition}"]
            if comment is not None:
                restore.append(_comment(f"CONSTRAINT {quote(name)} ON {table}", comment))
            restore += self._marks(table, index, index_name, index_comment, flags)
            yield Aside((f"ALTER TABLE {table} DROP CONSTRAINT {quote(name)}",), tuple(restore))

    def _indexes(self) -> Iterator[Aside]:
        for table, index, name, definition, comment, *flags, targets in self._rows(_INDEXES):
            restore = [definition, *self._marks(table, index, name, comment, flags)]
            restore += [
                f"ALTER INDEX {index} ALTER COLUMN {target.strip(chr(34))}"
                for target in targets.strip("{}").split(",")
                if target
            ]
            yield Aside((f"DROP INDEX {index}",), tuple(restore))

    def _marks(
        self, table: str, index: str, name: str, comment: str | None, flags: Sequence[bool]
    ) -> Iterator[str]:
        replica, clustered = flags
        if comment is not None:
            yield _comment(f"INDEX {index}", comment)
        if replica:
            yield f"ALTER TABLE {table} REPLICA IDENTITY USING INDEX {quote(name)}"
        if clustered:
            yield f"ALTER TABLE {table} CLUSTER ON {quote(name)}"

    def _triggers(self) -> Iterator[Aside]:
        for table, name, enabled in self._rows(_TRIGGERS):
            trigger = f"TRIGGER {quote(name)}"
            yield Aside(
                (f"ALTER TABLE ONLY {table} DISABLE {trigger}",),
                (f"ALTER TABLE ONLY {table} {_ENABLED[enabled]} {trigger}",),
            )

    def _policies(self) -> Iterator[Aside]:
        for (table,) in self._rows(_FORCED):
            yield Aside(
                (f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",),
                (f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",),
            )


def _comment(on: str, text: str) -> str:
    return f"COMMENT ON {on} IS {sql.Literal(text).as_string()}"
