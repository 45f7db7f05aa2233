"""What a rule has seen lately, and when all its conditions hold together.

A rule holds at the time T of a window if each of its conditions has its windows within `[T - within, T]`. Whether it
does depends on the windows alone, not on the order in which they came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.records import Result
from pipeline.engine.policy_settings import Condition, PolicyRule

MOST_KEPT = 2048
"""Windows that are remembered of one condition; the oldest go. At 60 a second that is more than half a minute."""


@dataclass(frozen=True, slots=True, order=True)
class Sighting:
    """A window that showed a label. It counts at its end, when all of it had been seen. On the show's clock."""

    at_ns: int
    window: str  # its id: a total order, the same in each run
    start_ns: int
    stream: str
    score: float
    mono_ns: int
    decided_by: str
    generation: str
    certified: bool

    @classmethod
    def of(cls, result: Result, shift_ns: int, score: float) -> Sighting:
        window = result.window
        return cls(
            window.end_ns + shift_ns,
            window.id,
            window.start_ns + shift_ns,
            window.stream,
            score,
            window.mono_ns,
            result.decided_by,
            result.generation,
            result.certified,
        )


class Seen:
    """The sightings of one condition from one threshold on, in their order."""

    __slots__ = ("_items", "_times", "threshold")

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._times: list[int] = []
        self._items: list[Sighting] = []

    def add(self, sighting: Sighting) -> bool:
        """Whether there was room; where not, the oldest went."""
        insort(self._items, sighting)
        insort(self._times, sighting.at_ns)
        if len(self._items) <= MOST_KEPT:
            return True
        del self._items[0], self._times[0]
        return False

    def count(self, first_ns: int, last_ns: int) -> int:
        return bisect_right(self._times, last_ns) - bisect_left(self._times, first_ns)

    def between(self, first_ns: int, last_ns: int) -> Sequence[Sighting]:
        return self._items[bisect_left(self._times, first_ns) : bisect_right(self._times, last_ns)]

    def forget(self, before_ns: int) -> None:
        stale = bisect_left(self._times, before_ns)
        if stale:
            del self._items[:stale], self._times[:stale]

    def __len__(self) -> int:
        return len(self._items)


class RuleEvidence:
    """What one rule has seen: of each condition what begins it, and what keeps it going."""

    def __init__(self, rule: PolicyRule, within_ns: int) -> None:
        self.rule = rule
        self.within_ns = within_ns
        self.begins = [Seen(one.at_least) for one in rule.when]
        self.stays = [
            Seen(one.stays) if one.stays < one.at_least else self.begins[n] for n, one in enumerate(rule.when)
        ]
        self.dropped = 0

    def see(self, result: Result, shift_ns: int) -> Sighting | None:
        """The window as evidence, if it is any."""
        latest = None
        for condition, begins, stays in zip(self.rule.when, self.begins, self.stays, strict=True):
            score = condition.score(result.window.stream, result.detections)
            if score is None or score < condition.stays:
                continue
            latest = Sighting.of(result, shift_ns, score)
            self.dropped += not stays.add(latest)
            if stays is not begins and score >= condition.at_least:
                begins.add(latest)
        return latest

    def moments(self, sighting: Sighting) -> list[tuple[int, int]]:
        """The times at which the rule may hold because of `sighting`, each with the earliest start of a window that
        ends then."""
        starts: dict[int, int] = {}
        for seen in self.stays:
            for one in seen.between(sighting.at_ns, sighting.at_ns + self.within_ns):
                starts[one.at_ns] = min(one.start_ns, starts.get(one.at_ns, one.start_ns))
        return sorted(starts.items())

    def holds(self, at_ns: int, kept: Sequence[Seen]) -> bool:
        first_ns = at_ns - self.within_ns
        return all(seen.count(first_ns, at_ns) >= one.count for one, seen in zip(self.rule.when, kept, strict=True))

    def of(self, at_ns: int, kept: Sequence[Seen], *, latest: bool) -> list[tuple[Condition, float, Sighting]]:
        """What it holds by at that time: of each condition so many windows as it asks for, the first or the latest."""
        out = []
        for condition, seen in zip(self.rule.when, kept, strict=True):
            found = seen.between(at_ns - self.within_ns, at_ns)
            chosen = found[-condition.count :] if latest else found[: condition.count]
            out += [(condition, seen.threshold, one) for one in chosen]
        return out

    def forget(self, before_ns: int) -> None:
        for seen in (*self.begins, *self.stays):
            seen.forget(before_ns - self.within_ns)
