"""Write docs/cli.md from the commands' own --help; `--check` only tells whether it is up to date."""

import sys
from pathlib import Path

import click

from panicdb.cli import panicdb

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# The command line

Written by `make docs` from `panicdb --help`. Every option can come from the environment too:
`PANICDB_<COMMAND>_<OPTION>`, such as `PANICDB_EXPORT_TIMEOUT=5`.

| exit code | meaning |
|---|---|
| 0 | done, and every check passed |
| 1 | `verify` or `drift` found differences |
| 2 | usage: wrong before anything was opened |
| 3 | refused after looking; nothing was written |
| 4 | failed on the way; nothing was published |
| 129, 130, 143 | ended by SIGHUP, SIGINT (Ctrl-C) or SIGTERM; nothing was published |
"""


def page() -> str:
    """Return the whole page."""
    group = click.Context(panicdb, info_name="panicdb", terminal_width=100, **panicdb.context_settings)
    parts = [HEAD, _block("panicdb", panicdb.get_help(group))]
    for name, command in sorted(panicdb.commands.items()):
        context = click.Context(command, parent=group, info_name=name, terminal_width=100)
        parts.append(_block(f"panicdb {name}", command.get_help(context)))
    return "\n".join(parts)


def _block(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text}\n```\n"


def main() -> int:
    """Write the page, or compare it."""
    if "--check" in sys.argv:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
