"""The engines. Adding one is adding a package that passes the conformance suite, and a line here."""

from panicdb.backends.base import Backend
from panicdb.errors import UsageError


def backend_for(text: str) -> Backend:
    """Return the backend that reads the address `text`: by its scheme; a plain path is a SQLite file."""
    from panicdb.backends.sqlite import SQLITE, is_url  # noqa: PLC0415 - keeps `--help` light

    if not is_url(text) or text.startswith("sqlite"):
        return SQLITE
    scheme = text.partition(":")[0]
    raise UsageError(
        f"panicdb reads and writes SQLite, found an address of {scheme!r}",
        hint="a path, or sqlite:///PATH",
    )
