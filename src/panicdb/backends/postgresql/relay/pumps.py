"""Bytes that travel both ways between two ends, until one of them leaves."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

End = tuple[asyncio.StreamReader, asyncio.StreamWriter]
MOST_BYTES = 1 << 18


async def pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    check: Callable[[bytes], bool] | None = None,
) -> None:
    """Pass on what is read until there is no more, then say so. An end that fails has left, too.

    What `check` does not approve of is not passed on, and nothing after it.
    """
    with suppress(OSError):
        while data := await reader.read(MOST_BYTES):
            if check is not None and not check(data):
                break
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):  # the other one may be gone, too
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()  # TLS ends as a whole
