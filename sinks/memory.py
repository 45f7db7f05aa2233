"""Keeps what it is given in a Python list: for tests, notebooks and benches. With failures on demand, put it into a
`Faulty` (`sinks/faulty.py`)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from pipeline.core.contracts import Delivery, Picture, Sink, Writer
from pipeline.core.records import Event, Outcome, Result
from pipeline.core.rulings import Ruling


class Collector:
    """What arrived, in order. Safe to read from any thread while a pipeline writes.

    `limit` bounds it: the oldest items go first. A pickled collector arrives as a copy: read it in the process that
    ran the sink.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._items: deque[Delivery] = deque(maxlen=limit)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {"_items": self._items.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __len__(self) -> int:
        return len(self._items)

    def add(self, items: Sequence[Delivery]) -> None:
        with self._lock:
            self._items.extend(items)

    @property
    def items(self) -> list[Delivery]:
        with self._lock:
            return list(self._items)

    @property
    def outcomes(self) -> list[Outcome]:
        """Every outcome, those that came with a picture included."""
        bare = (item.outcome if isinstance(item, Picture) else item for item in self.items)
        return [item for item in bare if isinstance(item, Outcome)]

    @property
    def results(self) -> list[Result]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Result)]

    @property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event)]

    @property
    def rulings(self) -> list[Ruling]:
        return [item for item in self.items if isinstance(item, Ruling)]

    @property
    def pictures(self) -> list[Picture]:
        return [item for item in self.items if isinstance(item, Picture)]


class Memory(Sink):
    """`Memory()` collects; `plan.collector.results` is what came."""

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "events", "rulings"})

    model_config = ConfigDict(arbitrary_types_allowed=True)

    collector: Collector = Field(default_factory=Collector, exclude=True)
    limit: int | None = Field(default=None, ge=1, description="keep at most this many items, the newest")

    def model_post_init(self, context: object) -> None:
        if self.limit is not None and "collector" not in self.model_fields_set:
            object.__setattr__(self, "collector", Collector(self.limit))  # frozen, but not yet handed out

    def open(self) -> Writer:
        return _Writer(self)


class _Writer:
    def __init__(self, plan: Memory) -> None:
        self._plan = plan

    def write(self, items: Sequence[Delivery]) -> None:
        self._plan.collector.add(items)

    def close(self) -> None:
        """Nothing to let go of: the collector outlives the sink."""
