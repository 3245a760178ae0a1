"""Which random cases are drawn, and how many: the same each time, so that a commit is judged the same.

PANICDB_SEED draws others. PANICDB_PROVE_FRACTION=4 makes the campaigns of `make prove` a quarter as long, for machines
that judge every commit.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis

SEED = os.environ.get("PANICDB_SEED", "0")
FRACTION = int(os.environ.get("PANICDB_PROVE_FRACTION", "1"))


def use_seed() -> None:
    """Let the tests that draw cases on their own draw the same, unless others are asked for."""
    hypothesis.settings.register_profile("seeded", derandomize="PANICDB_SEED" not in os.environ)
    hypothesis.settings.load_profile("seeded")


def campaign_of(cases: int) -> int:
    """Return how many cases a campaign is to have that has so many in full."""
    return max(1, cases // FRACTION)


def some_of(steps: Sequence[Any]) -> Sequence[Any]:
    """Return the steps that a campaign is to try of these."""
    return steps[::FRACTION]


def part_of_campaign(part: object, drawing: Callable) -> Callable:
    """Give a part of a campaign its own cases."""
    return hypothesis.seed(f"{SEED}, part {part}")(drawing)
