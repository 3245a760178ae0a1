"""The races of `panicdb verify`, which writes nothing, beside sqldiff, and their bars."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import shapes
from race import (
    OURS,
    PANICDB,
    SQLDIFF,
    Bar,
    Candidate,
    Race,
    Result,
    row_counts,
    within_memory,
)

SQLDIFF_COMMAND = "sqldiff"
DIGESTS = shapes.BENCH / "digests.py"

CONTENT_RATIO = 1.3
ALL_RATIO = 2.5
ALL_SECONDS = 1.0
DIGEST_ROWS_A_SECOND = 250_000

ALL_BUT_CONTENT = ("revision", "schema", "rows", "foreign keys", "sequences", "integrity")


def races() -> Iterator[Race]:
    beside = sqldiff("W", "W-copy")
    content = [part for check in ALL_BUT_CONTENT for part in ("--skip", check)]
    yield Race(
        "verify-content",
        "wide rows, a byte copy: the content check alone",
        (verify("W", "W-copy", *content, label="panicdb verify, content"), beside),
        partial(against_sqldiff, ratio=CONTENT_RATIO, more=0.0),
    )
    yield Race(
        "verify-all",
        "wide rows, a byte copy: all seven checks",
        (verify("W", "W-copy"), beside),
        partial(against_sqldiff, ratio=ALL_RATIO, more=ALL_SECONDS),
    )
    yield Race(
        "digest",
        "2,000,000 narrow rows: the portable digest, as between engines",
        (digests("one side", "N"), digests("both sides at once", "N", "N-differing")),
        rows_a_second,
    )
    yield Race(
        "verify-differing",
        "tables that differ in every row: rows replaced (N), rows changed (chain)",
        tuple(
            replace(verify(shape, f"{shape}-differing", label=f"panicdb verify, {shape}"), exit_code=1)
            for shape in ("N", "chain-down-flat")
        ),
        within_memory,
        runs=1,
    )


def verify(shape: str, copy: str, *arguments: str, label: str = "panicdb verify") -> Candidate:
    return comparing(label, OURS, shape, copy, (str(PANICDB), "verify", *arguments))


def sqldiff(shape: str, copy: str) -> Candidate:
    return comparing("sqldiff --primarykey", SQLDIFF, shape, copy, (SQLDIFF_COMMAND, "--primarykey"))


def comparing(label: str, role: str, shape: str, copy: str, command: tuple[str, ...]) -> Candidate:
    files = (str(shapes.path(shape)), str(shapes.path(copy)))
    return Candidate(label, role, shape, (*command, *files), compared=copy)


def digests(label: str, *names: str) -> Candidate:
    files = [str(shapes.path(name)) for name in names]
    command = (sys.executable, str(DIGESTS), *files)
    return Candidate(label, OURS, names[0], command, compared="".join(names[1:]))


# --- the bars ---------------------------------------------------------------------------------


def against_sqldiff(result: Result, *, ratio: float, more: float) -> list[Bar]:
    (entry,), (other,) = result.of(OURS), result.of(SQLDIFF)
    limit = ratio * other.seconds + more
    allowance = f" + {more:.0f}" if more else ""
    speed = Bar(
        result.race.name,
        entry.candidate.label,
        f"{entry.seconds:.2f} s = {entry.seconds / other.seconds:.2f} x",
        f"<= {ratio} x {other.seconds:.2f}{allowance} = {limit:.2f} s",
        entry.seconds <= limit,
    )
    return [speed, *within_memory(result)]


def rows_a_second(result: Result) -> list[Bar]:
    """By whole processes, start-up included."""
    speed = []
    for entry in result.of(OURS):
        rows = sum(row_counts(shapes.path(entry.candidate.source)).values())
        rate = rows / entry.seconds
        speed.append(
            Bar(
                result.race.name,
                f"{entry.candidate.label}, rows a second per side",
                f"{rate / 1e6:.2f} million",
                f">= {DIGEST_ROWS_A_SECOND / 1e6} million",
                rate >= DIGEST_ROWS_A_SECOND,
            )
        )
    return [*speed, *within_memory(result)]
