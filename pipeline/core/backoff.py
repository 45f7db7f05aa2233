"""How long to wait before trying again: doubling, capped, jittered so that a hundred cameras do not knock at once."""

from __future__ import annotations

import random
from collections.abc import Iterator

_random = random.Random()  # of our own: who seeds or watches the program-wide one is not to notice our threads


def backoff(first_s: float = 0.25, most_s: float = 2.0) -> Iterator[float]:
    """Endless waits in seconds, each drawn evenly from the upper half of a doubling interval."""
    ceiling = first_s
    while True:
        yield ceiling * _random.uniform(0.5, 1.0)
        ceiling = min(ceiling * 2, most_s)
