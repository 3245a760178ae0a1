"""Whether a database that was given is empty, what its role may do there, and how it becomes empty again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from panicdb.backends.postgresql.names import quote, quoted, table_name
from panicdb.backends.postgresql.sessions import Session

MARK = "panicdb is making this"
"""The application name that a role's sessions in a database begin with, as long as a run builds there. A setting and no
object, so that migrations meet an empty database; what a run that was killed left is known by it."""
_BEFORE = "; before: "
_NAME = """
SELECT pg_catalog.substr(each, pg_catalog.length('application_name=') + 1)
FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database b ON b.oid = s.setdatabase
JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, pg_catalog.unnest(s.setconfig) each
WHERE b.datname = pg_catalog.current_database() AND r.rolname = CURRENT_USER
  AND pg_catalog.starts_with(each, 'application_name=')
"""

_OURS = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
_NO_EXTENSION = """
NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = {oid}
            AND d.classid = 'pg_catalog.{of}'::pg_catalog.regclass)
"""
_NO_PART = _NO_EXTENSION.replace("'e'", "'i'")
"""Not made by the server along with something else, such as the functions of a range type."""
_OBJECTS = f"""
SELECT 'pg_class' AS class, c.oid, n.nspname, c.relname AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND NOT c.relispartition AND {_OURS}
  AND {_NO_EXTENSION.format(oid="c.oid", of="pg_class")}
UNION ALL
SELECT 'pg_proc', p.oid, n.nspname, p.proname
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE {_OURS} AND {_NO_EXTENSION.format(oid="p.oid", of="pg_proc")} AND {_NO_PART.format(oid="p.oid", of="pg_proc")}
UNION ALL
SELECT 'pg_type', t.oid, n.nspname, t.typname
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd', 'r') AND {_OURS} AND {_NO_EXTENSION.format(oid="t.oid", of="pg_type")}
UNION ALL
SELECT 'pg_collation', l.oid, n.nspname, l.collname
FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
WHERE {_OURS} AND {_NO_EXTENSION.format(oid="l.oid", of="pg_collation")}
UNION ALL
SELECT 'pg_ts_config', f.oid, n.nspname, f.cfgname
FROM pg_catalog.pg_ts_config f JOIN pg_catalog.pg_namespace n ON n.oid = f.cfgnamespace
WHERE {_OURS} AND {_NO_EXTENSION.format(oid="f.oid", of="pg_ts_config")}
UNION ALL
SELECT 'pg_ts_dict', f.oid, n.nspname, f.dictname
FROM pg_catalog.pg_ts_dict f JOIN pg_catalog.pg_namespace n ON n.oid = f.dictnamespace
WHERE {_OURS} AND {_NO_EXTENSION.format(oid="f.oid", of="pg_ts_dict")}
UNION ALL
SELECT 'pg_conversion', v.oid, n.nspname, v.conname
FROM pg_catalog.pg_conversion v JOIN pg_catalog.pg_namespace n ON n.oid = v.connamespace
WHERE {_OURS} AND {_NO_EXTENSION.format(oid="v.oid", of="pg_conversion")}
UNION ALL
SELECT 'pg_foreign_server', s.oid, '', s.srvname FROM pg_catalog.pg_foreign_server s
WHERE {_NO_EXTENSION.format(oid="s.oid", of="pg_foreign_server")}
UNION ALL
SELECT 'pg_publication', b.oid, '', b.pubname FROM pg_catalog.pg_publication b
UNION ALL
SELECT 'pg_event_trigger', v.oid, '', v.evtname FROM pg_catalog.pg_event_trigger v
WHERE {_NO_EXTENSION.format(oid="v.oid", of="pg_event_trigger")}
"""
_DROPPED = f"""
SELECT i.type, i.identity FROM ({_OBJECTS}) o,
LATERAL pg_catalog.pg_identify_object(('pg_catalog.' || o.class)::pg_catalog.regclass, o.oid, 0) i
ORDER BY o.class, o.oid
"""
_SCHEMAS = """
SELECT nspname FROM pg_catalog.pg_namespace n
WHERE nspname NOT IN ('information_schema', 'public') AND nspname !~ '^pg_'
  AND pg_catalog.pg_has_role(nspowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extnamespace = n.oid)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = n.oid
                  AND d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass)
"""
_EXTENSIONS = "SELECT extname FROM pg_catalog.pg_extension"
_WORDS = {"composite type": "type"}


@dataclass(frozen=True)
class Inventory:
    """What a database holds beside the system: to be left as it is."""

    schemas: frozenset[str]
    """Those of this role, which it may drop."""
    extensions: frozenset[str]
    every: frozenset[str]
    """All schemas, whoever's they are."""


def take_inventory(session: Session) -> Inventory:
    """Note down the schemas and extensions that there are. Reads only."""
    return Inventory(
        frozenset(row[0] for row in session.execute(_SCHEMAS)),
        frozenset(row[0] for row in session.execute(_EXTENSIONS)),
        frozenset(row[0] for row in session.execute("SELECT nspname FROM pg_catalog.pg_namespace")),
    )


def list_objects(session: Session) -> tuple[str, ...]:
    """List what users made in a database, extensions and empty schemas aside. Reads only."""
    rows = session.execute(f"SELECT nspname, name FROM ({_OBJECTS}) o ORDER BY 1, 2")
    return tuple(table_name(schema or "public", name) for schema, name in rows)


def filled_tables(session: Session) -> tuple[str, ...]:
    """List the tables that hold rows, those of Alembic's versions aside. Reads only."""
    tables = session.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relkind IN ('r', 'p') AND {_OURS} AND {_NO_EXTENSION.format(oid='c.oid', of='pg_class')} "
        "AND (SELECT pg_catalog.array_agg(a.attname::text) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid "
        "     AND a.attnum > 0 AND NOT a.attisdropped) IS DISTINCT FROM '{version_num}'::text[]"
    ).fetchall()
    return tuple(
        table_name(schema, name)
        for schema, name in tables
        if session.execute(f"SELECT FROM ONLY {quoted(schema, name)} LIMIT 1").fetchone() is not None
    )


def mark(session: Session) -> None:
    """Write down that a run builds here: in the settings of this role in this database, before a name it may have."""
    name = _read_name(session)
    if not name.marked:
        _set_name(session, MARK if name.own is None else f"{MARK}{_BEFORE}{name.own}")


def unmark(session: Session) -> None:
    """Take the mark away, and bring a name back that was there before; part of the session's transaction."""
    name = _read_name(session)
    if name.marked:
        _set_name(session, name.own)


def is_marked(session: Session) -> bool:
    """Tell whether a run of this role built here, and did not come to its end. Reads only."""
    return _read_name(session).marked


@dataclass(frozen=True)
class _Name:
    """What the sessions of a role in a database are called."""

    marked: bool
    own: str | None
    """Beside the mark, if somebody says anything."""


def _read_name(session: Session) -> _Name:
    row = session.execute(_NAME).fetchone()
    said = None if row is None else str(row[0])
    marked, _, before = (said or "").partition(_BEFORE)
    return _Name(True, before or None) if marked == MARK else _Name(False, said)


def _set_name(session: Session, name: str | None) -> None:
    setting = (
        "RESET application_name"
        if name is None
        else f"SET application_name = {sql.Literal(name).as_string()}"
    )
    session.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {quote(session.info.dbname)} {setting}")


def empty(session: Session, kept: Inventory | None = None) -> None:
    """Drop all that users made in a database, in one transaction; schemas and extensions in `kept` stay.

    Without `kept`, extensions stay, and schemas of other roles.
    """
    with session.transaction():
        for statement in _drops(session, kept):
            session.execute(statement)


def _drops(session: Session, kept: Inventory | None) -> Iterator[str]:
    rows: Sequence[tuple[str, str]] = session.execute(_DROPPED).fetchall()
    for kind, identity in rows:
        yield f"DROP {_WORDS.get(kind, kind).upper()} IF EXISTS {identity} CASCADE"
    there = take_inventory(session)
    if kept is not None:
        yield from (
            f"DROP EXTENSION IF EXISTS {quote(name)} CASCADE" for name in there.extensions - kept.extensions
        )
    for name in there.schemas - (kept.schemas if kept is not None else frozenset()):
        yield f"DROP SCHEMA IF EXISTS {quote(name)} CASCADE"
