"""What an audit knows, as a file: so that a restart, or the death of the program, forgets no more than was counted
since it was last saved."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from detectors.calibration.audit import AuditPlan, Drift, Tally, counts
from pipeline.core.errors import InputError

_LARGEST_BYTES = 1 << 20


@dataclass(slots=True)
class AuditState:
    """Counts of one generation under one plan; boxes are the same thing from `match_iou` on. `units` left the pipeline,
    `reported` of them were flagged, `audited` were looked at for the audit alone. `due` words are not there yet: if the
    program dies, they were not to be had. `alarm` stays for good: "broken", "drift", or empty."""

    generation: str
    plan: AuditPlan
    drift: Drift
    tally: Tally = field(default_factory=Tally)
    units: int = 0
    reported: int = 0
    audited: int = 0
    alarm: str = ""
    due: Counter[float] = field(default_factory=Counter)
    match_iou: float | None = None  # unknown: in files of old

    @classmethod
    def fresh(cls, generation: str, plan: AuditPlan, patience: float, match_iou: float) -> Self:
        return cls(generation, plan, Drift(plan, patience), match_iou=match_iou)

    def continues(self, other: AuditState) -> bool:
        """Whether `other` speaks of the same cascade (models, forms, rule: all in the name of its generation), of the
        same bets on it and of the same meaning of a miss. Bets that were changed after somebody saw how they stood
        prove nothing."""
        mine, others = ((one.generation, one.plan, one.drift.patience, one.match_iou) for one in (self, other))
        return mine == others

    def __add__(self, other: AuditState) -> AuditState:
        """What two workers know of the same generation. Each keeps its own watch for drift: this one's goes on."""
        if not self.continues(other):
            raise ValueError("these audits are not of one generation and plan")
        return AuditState(
            self.generation,
            self.plan,
            self.drift,
            self.tally + other.tally,
            self.units + other.units,
            self.reported + other.reported,
            self.audited + other.audited,
            self.alarm or other.alarm,
            self.due + other.due,
            self.match_iou,
        )

    def to_document(self) -> dict[str, Any]:
        return {
            "format": 1,
            "generation": self.generation,
            "alarm": self.alarm,
            "units": self.units,
            "reported": self.reported,
            "audited": self.audited,
            "tally": self.tally.to_document(),
            "due": sorted(map(list, self.due.items())),
            "plan": asdict(self.plan) | {"patience": self.drift.patience, "match_iou": self.match_iou},
            "drift": self.drift.to_document(),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Raises `ValueError`, `TypeError` or `KeyError` if that is no state, or one that cannot be."""
        if document["format"] != 1 or document["alarm"] not in {"", "broken", "drift"}:
            raise ValueError("another format")
        kept = dict(document["plan"])
        match_iou = kept.pop("match_iou", None)
        numbers = {name: float(value) for name, value in kept.items()}
        patience = numbers.pop("patience")
        plan = AuditPlan(**numbers)
        read = cls(
            document["generation"],
            plan,
            Drift.from_document(plan, patience, document["drift"]),
            Tally.from_document(document["tally"]),
            int(document["units"]),
            int(document["reported"]),
            int(document["audited"]),
            document["alarm"],
            counts(document.get("due", [])),
            None if match_iou is None else float(match_iou),
        )
        read._check()
        return read

    def _check(self) -> None:
        """What can be told of numbers that somebody may have changed. Raises `ValueError`."""
        kinds = self.tally.caught, self.tally.missed, self.tally.unseen, self.due
        if any(p < self.plan.p_min for kind in kinds for p in kind):
            raise ValueError("a unit was audited with less than the plan's least probability")
        if not isinstance(self.generation, str) or not self.generation:
            raise ValueError("it is of no generation")
        if self.match_iou is not None and not 0 < self.match_iou <= 1:
            raise ValueError("an overlap lies between 0 and 1")
        if not 0 <= self.reported <= self.units or not 0 <= self.audited <= self.units:
            raise ValueError("it has more reports or looks than units")


class StateFile:
    """Where a state lies. One process at a time may have it open: two that write the same file would undo each other's
    counts. Workers have a file each; their states add up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def read(self) -> AuditState | None:
        """None where there is none yet. Raises `InputError` for what cannot be read: it may hold an alarm, so it is not
        passed over."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_LARGEST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"the audit's state cannot be read: {error.strerror}", str(self.path)) from None
        try:
            if len(data) > _LARGEST_BYTES:
                raise ValueError("too large")
            return AuditState.from_document(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            raise InputError(
                "this is no state of an audit. Move it away, and the audit begins anew: whatever it had found is"
                " forgotten then",
                str(self.path),
            ) from None

    def open(self) -> None:
        """Raises `InputError` where it cannot be written, or is another process' already."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._beside("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            why = "another run, or another cascade, keeps its audit here: give this one a file of its own"
            raise InputError(why, str(self.path)) from None
        except OSError as error:
            self.close()
            raise InputError(f"cannot be written: {error.strerror}", str(self.path)) from None

    def set_aside(self, generation: str) -> Path:
        """Keep what lies there under the name of its generation; returns where. Raises `InputError`."""
        name = "".join(c if c.isalnum() or c in "@._-" else "-" for c in generation) or "another"
        there = self._beside(name)
        number = 2
        while there.exists():
            there, number = self._beside(f"{name}.{number}"), number + 1
        try:
            self.path.rename(there)
        except OSError as error:
            raise InputError(f"cannot be set aside: {error.strerror}", str(self.path)) from None
        return there

    def save(self, state: AuditState) -> None:
        """All or nothing, and on the disk when it returns. Raises `OSError`."""
        coming = self._beside("new")
        with coming.open("w", encoding="utf-8") as file:
            json.dump(state.to_document(), file)
            file.flush()
            os.fsync(file.fileno())
        coming.replace(self.path)
        with _folder(self.path.parent) as folder:
            os.fsync(folder)

    def close(self) -> None:
        """Safe twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
