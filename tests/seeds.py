"""Which random cases are drawn: the same each time, so that a commit is judged the same; PANICDB_SEED draws others."""

import os
from collections.abc import Callable

import hypothesis

SEED = os.environ.get("PANICDB_SEED", "0")


def use_seed() -> None:
    """Let the tests that draw cases on their own draw the same, unless others are asked for."""
    hypothesis.settings.register_profile("seeded", derandomize="PANICDB_SEED" not in os.environ)
    hypothesis.settings.load_profile("seeded")


def part_of_campaign(part: object, drawing: Callable) -> Callable:
    """Give a part of a campaign its own cases."""
    return hypothesis.seed(f"{SEED}, part {part}")(drawing)
