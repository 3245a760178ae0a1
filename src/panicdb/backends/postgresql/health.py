"""What must be true of a source before it is read: privileges, locks, policies; and what the engine knows of damage."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from panicdb.backends.postgresql.catalog import OURS, Relation
from panicdb.backends.postgresql.names import quoted, table_name
from panicdb.backends.postgresql.sessions import Session
from panicdb.errors import RefusedError, SourceError

LISTED = 20

_LACKING = f"""
SELECT 'SELECT on table', n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND {OURS} AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
UNION ALL
SELECT 'SELECT on sequence', n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE {OURS}
  AND CASE WHEN c.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(c.oid, 'SELECT') ELSE false END
UNION ALL
SELECT DISTINCT 'USAGE on schema', 'public', n.nspname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND {OURS} AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
UNION ALL
SELECT 'TEMPORARY on database', 'public', pg_catalog.current_database()
WHERE NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')
ORDER BY 1, 2, 3
"""
_FILTERED = f"""
SELECT n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND {OURS} AND pg_catalog.row_security_active(c.oid)
ORDER BY 1, 2
"""
_HOLDERS = """
SELECT DISTINCT l.pid, coalesce(a.usename, '?'), coalesce(nullif(a.application_name, ''), 'a client'),
       n.nspname, c.relname
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY(%s) AND l.pid <> pg_catalog.pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
ORDER BY 1
"""
_UNGUARDED = f"""
SELECT DISTINCT n.nspname, c.relname
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgisinternal AND t.tgconstraint <> 0 AND t.tgenabled IN ('D', 'R') AND {OURS}
ORDER BY n.nspname, c.relname
"""
"""What DISABLE TRIGGER ALL switches off: those triggers, too, that keep foreign keys."""
_OF_EXTENSIONS = """
SELECT n.nspname, c.relname, e.extname, e.extcondition[t.number]
FROM pg_catalog.pg_extension e CROSS JOIN pg_catalog.unnest(e.extconfig) WITH ORDINALITY AS t (oid, number)
JOIN pg_catalog.pg_class c ON c.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY 1, 2
"""
"""An extension says itself which of its rows are users' (https://www.postgresql.org/docs/current/extend-extensions.html)."""
_INVALID = f"""
SELECT n.nspname, x.relname FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE {OURS} AND NOT (i.indisvalid AND i.indisready AND i.indislive)
ORDER BY 1, 2
"""


def require_primary(session: Session, shown: str) -> None:
    """Refuse a hot standby: keys of rows are kept in temporary tables, and it can make none. Raises SourceError."""
    row = session.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
    if row is not None and row[0]:
        raise SourceError(
            f"{shown}: a hot standby, where no temporary table can be made, and keys are kept in such",
            hint="name its primary",
        )


def require_privileges(session: Session, shown: str) -> None:
    """Refuse a source of which this user can't read everything; all that is missing is in one list. Reads only."""
    error = lacking(session, shown)
    if error is not None:
        raise error
    filtered = [table_name(*row) for row in session.execute(_FILTERED)]
    if filtered:
        raise SourceError(
            f"{shown}: policies of row security would hide rows from this user: {_listed(filtered)}",
            hint="connect as the tables' owner, or as a role with BYPASSRLS: a filtered copy would look complete",
        )


def lacking(session: Session, shown: str) -> RefusedError | None:
    """Name all privileges that are missing; None if there are all. Reads only."""
    found = [f"{what} {table_name(schema, name)}" for what, schema, name in session.execute(_LACKING)]
    if not found:
        return None
    return SourceError(
        f"{shown}: the user lacks privileges: {_listed(found)}",
        hint="grant them (the role pg_read_all_data has most), or connect as another user",
    )


def locked(session: Session, shown: str, relations: Sequence[Relation]) -> RefusedError:
    """Say who holds the lock that was waited for in vain. Reads only."""
    rows = session.execute(_HOLDERS, ([each.oid for each in relations],)).fetchall()
    held = [
        f"{table_name(schema, name)} by process {pid} ({application}, user {user})"
        for pid, user, application, schema, name in rows
    ]
    return SourceError(
        f"{shown}: locked: {_listed(held) if held else 'somebody changes a table just now'}",
        hint="run this again when that is done, or wait longer with --timeout",
    )


def refuse_large_objects(connection: sa.Connection, shown: str) -> None:
    """Refuse a source that has large objects. Raises SourceError, by their numbers."""
    statement = "SELECT oid FROM pg_catalog.pg_largeobject_metadata ORDER BY oid"
    found = [str(row[0]) for row in connection.exec_driver_sql(statement)]
    if found:
        raise SourceError(
            f"{shown}: has large objects, which lie outside of tables and are not copied: {_listed(found)}",
            hint="keep such content in columns of bytea; or use pg_dump, and vacuumlo for those nobody needs",
        )


def left_to_extensions(connection: sa.Connection) -> tuple[str, ...]:
    """Name the tables of extensions that hold rows of users, as far as they may be read. Reads only."""
    tables = connection.exec_driver_sql(_OF_EXTENSIONS)
    return tuple(
        f"rows of users in {table_name(schema, name)}, a table of the extension {extension}, are left to that"
        for schema, name, extension, condition in tables
        if connection.exec_driver_sql(
            f"SELECT FROM {quoted(schema, name)} {condition} LIMIT 1".replace("%", "%%")
        ).first()
        is not None
    )


def complaints(connection: sa.Connection) -> tuple[str, ...]:
    """Return what the server itself knows to be wrong: indexes that are not whole, links not kept. Reads only."""
    rows = connection.exec_driver_sql(_INVALID.replace("%", "%%"))
    found = tuple(f"index {table_name(*row)} is invalid: REINDEX it" for row in rows)
    idle = connection.exec_driver_sql(_UNGUARDED.replace("%", "%%"))
    return found + tuple(
        f"a foreign key is not enforced on {table_name(*row)}: ALTER TABLE ... ENABLE TRIGGER ALL"
        for row in idle
    )


def sizes(connection: sa.Connection, oids: Sequence[int]) -> Mapping[int, int]:
    """Return the bytes of tables, with what lies beside them, without indexes. Reads only."""
    rows = connection.exec_driver_sql(
        "SELECT o, coalesce(pg_catalog.pg_table_size(o::pg_catalog.regclass), 0) "
        "FROM unnest(%s::pg_catalog.oid[]) AS t (o)",
        (list(oids),),
    )
    return {int(oid): int(size) for oid, size in rows}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f", and {more} more" if more > 0 else "")
