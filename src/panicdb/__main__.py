"""The process that runs the command line, as `panicdb` and as `python -m panicdb`."""

import gc

from panicdb.cli import panicdb

OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Importing SQLAlchemy makes many objects and no garbage; the default of 700 looks for some a hundred times."""


def main() -> None:
    """Run the command line and end the process, without a last search for garbage through all that was imported."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        panicdb(prog_name="panicdb")
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
