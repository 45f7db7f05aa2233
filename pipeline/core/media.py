"""What every payload is, whatever its medium: something that views can be made of until it is released."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, TypeAlias

from pipeline.core.records import Array, Box

Medium: TypeAlias = Literal["picture", "sound", "text"]
Key: TypeAlias = tuple[bytes, int]


class Spec(ABC):
    """How a payload of one medium becomes a model's input: one array of always the same shape and type."""

    medium: ClassVar[Medium]

    @property
    def reads_context(self) -> bool:
        """Whether what was there before a payload changes its view."""
        return False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one view."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """numpy's name of it."""

    @abstractmethod
    def words(self) -> str:
        """All of it in a line, as a certificate holds it."""


class View(ABC):
    """What a stage sees: an owned read-only array of model size, and the way back to the source. Which kind, its
    payload's `Spec` decides."""

    __slots__ = ()

    @property
    @abstractmethod
    def data(self) -> Array:
        """The array, of the spec's shape and type."""


class Payload(ABC):
    """What a chunk carries. `view` takes the spec of its own medium."""

    __slots__ = ()
    medium: ClassVar[Medium]
    by_end: ClassVar[bool] = False
    """Whether the arrival of its chunk is that of its last part, and not of its first."""

    @abstractmethod
    def view(self, spec: Any, region: Box | None = None) -> Any:
        """The whole, or a region of it, as a model sees it."""

    @property
    def alone(self) -> bool:
        """Whether it comes without anything that was there before: every view of it then shows it and nothing else."""
        return True

    def sample(self) -> Array | None:
        """What a gate looks at; None where there is nothing for it to see."""
        return None

    def key(self) -> Key | None:
        """What it says, equal for payloads that say the same, so that a verdict on one holds for the other; and how it
        is written. None where that cannot be told."""
        return None

    def move(self, by_ns: int) -> None:  # noqa: B027 most know no time
        """Its media time is later by so much: its reader's clock leapt."""

    @abstractmethod
    def release(self) -> None:
        """Let go of what is held. Safe to call twice."""
