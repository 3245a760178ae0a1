"""What a role lacks to make a target: found before anything is written, and named in one list."""

from collections.abc import Iterator
from dataclasses import dataclass

from panicdb.backends.postgresql.names import table_name
from panicdb.backends.postgresql.sessions import Session
from panicdb.errors import TargetError

_SOURCE_EXTENSIONS = """
SELECT extname FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql' ORDER BY 1
"""
_SOURCE_SCHEMAS = """
SELECT nspname FROM pg_catalog.pg_namespace n WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = n.oid
                  AND d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass)
ORDER BY 1
"""
_SOURCE_ROLES = """
SELECT DISTINCT r.rolname FROM pg_catalog.pg_policy p, unnest(p.polroles) AS o (oid)
JOIN pg_catalog.pg_roles r ON r.oid = o.oid ORDER BY 1
"""
_SOURCE_FORCED = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relrowsecurity AND c.relforcerowsecurity ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Wanted:
    """What a target has to have room for."""

    schemas: tuple[str, ...]
    extensions: tuple[str, ...]
    roles: tuple[str, ...]
    """Those that policies name: they belong to the server."""
    forced: tuple[str, ...]
    """Tables whose policies hold for their owner, too."""


def read_wanted(source: Session) -> Wanted:
    """Read which schemas and extensions a source has. Reads only."""
    return Wanted(
        tuple(row[0] for row in source.execute(_SOURCE_SCHEMAS)),
        tuple(row[0] for row in source.execute(_SOURCE_EXTENSIONS)),
        tuple(row[0] for row in source.execute(_SOURCE_ROLES)),
        tuple(table_name(*row) for row in source.execute(_SOURCE_FORCED)),
    )


def may_create_databases(session: Session) -> bool:
    """Tell whether the role may create databases. Reads only."""
    row = session.execute(
        "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER"
    ).fetchone()
    return row is not None and bool(row[0])


def require_server(wanted: Wanted, server: Session, shown: str) -> None:
    """Refuse a server that lacks an extension or a role, or where this role can't create one. Raises TargetError."""
    lacking = [*_lacking_extensions(wanted, server, here=False), *_lacking_of_server(wanted, server)]
    if lacking:
        raise _refused(shown, lacking)


def require_given(wanted: Wanted, target: Session, shown: str) -> None:
    """Refuse a database that was given where this role can't make the source's objects. Raises TargetError."""
    lacking = list(_lacking_schemas(wanted, target))
    lacking += [*_lacking_extensions(wanted, target, here=True), *_lacking_of_server(wanted, target)]
    if lacking:
        raise _refused(shown, lacking)


def _refused(shown: str, lacking: list[str]) -> TargetError:
    return TargetError(
        f"{shown}: what the target needs is lacking: {', '.join(lacking)}",
        hint="let an administrator grant or install it; nothing was written",
    )


def _lacking_schemas(wanted: Wanted, target: Session) -> Iterator[str]:
    there = {row[0]: row[1] for row in target.execute(
        "SELECT nspname, pg_catalog.has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace"
    )}  # fmt: skip
    for name in wanted.schemas:
        if name in there and not there[name]:
            yield f"CREATE on schema {name}"
    missing = [name for name in wanted.schemas if name not in there]
    if missing and not _may_create_here(target):
        yield f"CREATE on the database, for schema {', '.join(missing)}"


def _may_create_here(target: Session) -> bool:
    row = target.execute(
        "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')"
    ).fetchone()
    return row is not None and bool(row[0])


def _lacking_extensions(wanted: Wanted, target: Session, *, here: bool) -> Iterator[str]:
    """Extensions that can't be had; `here` is where they are to be, else in a database of this role's own."""
    available = {row[0]: row[1:] for row in target.execute(
        "SELECT a.name, e.extname IS NOT NULL OR r.rolsuper, coalesce(bool_or(NOT v.superuser OR v.trusted), false) "
        "FROM pg_catalog.pg_available_extensions a CROSS JOIN pg_catalog.pg_roles r "
        "LEFT JOIN pg_catalog.pg_available_extension_versions v ON v.name = a.name "
        "LEFT JOIN pg_catalog.pg_extension e ON e.extname = a.name "
        "WHERE r.rolname = CURRENT_USER GROUP BY a.name, e.extname, r.rolsuper"
    )}  # fmt: skip
    may_create = not here or _may_create_here(target)
    for name in wanted.extensions:
        if name not in available:
            yield f"extension {name} (not on the server)"
            continue
        certain, trusted = available[name]
        if not certain and not trusted:
            yield f"extension {name} (only a superuser can create it)"
        elif not certain and not may_create:
            yield f"CREATE on the database, for extension {name}"


def _lacking_of_server(wanted: Wanted, target: Session) -> Iterator[str]:
    there = {
        row[0]: row[1]
        for row in target.execute(
            "SELECT rolname, rolname = CURRENT_USER AND NOT (rolsuper OR rolbypassrls) FROM pg_catalog.pg_roles"
        )
    }
    yield from (f"role {name}, which a policy names" for name in wanted.roles if name not in there)
    if wanted.forced and any(there.values()):
        yield f"BYPASSRLS, for policies are forced on the owner of {', '.join(wanted.forced)}"
