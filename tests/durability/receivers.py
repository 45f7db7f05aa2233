"""Those who get the results: each outlives the run, and can say what came to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Receiver(Protocol):
    def settings(self) -> dict[str, Any]:
        """The sink of a config that sends here."""

    def results(self) -> Iterator[tuple[str, str]]:
        """The message id and the result's id of every outcome, in the order in which they came."""
