"""The engines. Adding one is adding a package that passes the conformance suite, and a line here."""

import re

from panicdb.backends.base import Backend
from panicdb.errors import UsageError

_POSTGRESQL = re.compile(r"postgres(ql)?(\+\w+)?://", re.IGNORECASE)


def backend_for(text: str) -> Backend:
    """Return the backend that reads the address `text`: by its scheme; a plain path is a SQLite file."""
    from panicdb.backends.sqlite import SQLITE, is_url  # noqa: PLC0415 - keeps `--help` light

    if not is_url(text) or text.startswith("sqlite"):
        return SQLITE
    if _POSTGRESQL.match(text):
        return _postgresql()
    scheme = text.partition(":")[0]
    raise UsageError(
        f"panicdb reads and writes SQLite and PostgreSQL, found an address of {scheme!r}",
        hint="a path, sqlite:///PATH, or postgresql://HOST/DATABASE",
    )


def _postgresql() -> Backend:
    try:
        from panicdb.backends.postgresql import POSTGRESQL  # noqa: PLC0415 - an extra, and only for those who need it
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "psycopg":
            raise
        raise UsageError(
            "addresses of PostgreSQL need psycopg, which is not installed",
            hint="pip install 'panicdb[postgresql]'",
        ) from error
    return POSTGRESQL
