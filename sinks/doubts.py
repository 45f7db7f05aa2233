"""What a person should look at: uncertain parts and audited ones, as a COCO data set to label and to train with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar, Literal, Self, TypeAlias

from pydantic import Field, NonNegativeFloat, model_validator

from pipeline.core.contracts import Delivery, Picture, Sink, Writer
from pipeline.core.errors import InputError, SinkRefused
from pipeline.core.records import Outcome, Result
from pipeline.core.text import Text
from sinks.coco import ANNOTATIONS, CocoFolder
from sinks.messages import MessageFile
from sinks.paths import check_folder, expanded
from sinks.stills import encode, file_name, pixels_of

log = logging.getLogger(__name__)

Reason: TypeAlias = Literal["audited", "band", "cleared"]


class Doubts(Sink):
    """The picture as it was judged (a part beside its reference stays so) in `images/`, what the models found as
    pre-labels with their scores in `annotations.json`; of a window that an audit showed to be missed, what the heavy
    model flags there, and `missed: true`. A window is taken

    - as `audited`, if the audit drew it;
    - as `band`, if its best score lies in `band`;
    - as `cleared`, if the heavy stage was asked and found nothing to reject.

    `annotations.json` is whole whenever somebody looks, also after `kill -9`, and labels that were corrected in it
    meanwhile are kept. Once it is large, what is new may be some seconds on its way there (a minute at 16 MB). Of each
    reason at most one picture is taken in `every_s`: doubts never thin out the audit.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"pictures", "audits"})
    backlog: ClassVar[int] = 64

    path: str = Field(default="doubts", min_length=1, description="the folder of the data set")
    band: tuple[float, float] = Field(default=(0.2, 0.8), description="best scores that are in doubt, both included")
    cleared_by: tuple[str, ...] = Field(
        default=("resnet", "heavy"), description="names that the heavy stage may go by; [] takes no cleared ones"
    )
    keep: int = Field(default=1000, ge=1, le=20_000, description="at most this many pictures; the oldest go")
    every_s: NonNegativeFloat = Field(default=1.0, description="at most one picture of a reason in so many seconds")
    text: bool = Field(
        default=False, description="of streams of text, keep what was said, word for word, in `messages.jsonl`"
    )

    @model_validator(mode="after")
    def _is_a_band(self) -> Self:
        low, high = self.band
        if not 0 <= low <= high <= 1:
            raise ValueError("`band` is two scores from 0 to 1, the lower one first")
        return self

    def check(self) -> None:
        folder = expanded(self.path)
        check_folder(folder)
        CocoFolder(folder, self.keep).check()

    def open(self) -> Writer:
        return _Writer(self)

    def reason(self, picture: Picture) -> Reason | None:
        """Why a person should look at it, if one should."""
        outcome = picture.outcome
        if picture.audit is not None:
            return "audited"
        if not isinstance(outcome, Result) or outcome.carried_from is not None:
            return None
        best = max((found.score for found in outcome.detections), default=None)
        if best is not None and self.band[0] <= best <= self.band[1]:
            return "band"
        return "cleared" if outcome.verdict != "reject" and outcome.decided_by in self.cleared_by else None


class _Writer:
    def __init__(self, plan: Doubts) -> None:
        self._plan = plan
        self._every_ns = int(plan.every_s * 1e9)
        self._last_ns: dict[Reason, int] = {}
        self._gone = 0
        self._set = CocoFolder(expanded(plan.path), plan.keep)
        self._messages = MessageFile(expanded(plan.path), plan.keep)
        try:
            self._set.open()
            self._messages.open()
        except OSError as error:
            raise InputError(f"cannot be used: {error.strerror}", plan.path) from error

    def write(self, items: Sequence[Delivery]) -> None:
        changed = False
        try:
            self._set.refresh()
            for item in items:
                reason = self._plan.reason(item) if isinstance(item, Picture) else None
                if isinstance(item, Picture) and reason is not None and self._is_due(item.outcome, reason):
                    changed = self._add(item, reason) or changed
            if changed or self._set.waits:
                self._set.save()
            self._messages.save()
        except OSError as error:
            self._messages.forget()
            self._set.forget()  # what is on the disk is what counts
            raise SinkRefused(f"{self._plan.path}: {error.strerror}") from error
        except InputError as error:
            raise SinkRefused(str(error)) from error

    def _is_due(self, outcome: Outcome, reason: Reason) -> bool:
        """One that is in already comes again after a hitch, or has been judged anew."""
        if self._set.holds(outcome.window.id):
            return True
        last_ns = self._last_ns.get(reason)
        now_ns = outcome.window.mono_ns
        return last_ns is None or not last_ns - self._every_ns < now_ns < last_ns + self._every_ns

    def _add(self, picture: Picture, reason: Reason) -> bool:
        window, audit = picture.outcome.window, picture.audit
        missed = audit.detections if audit is not None and audit.missed else ()
        if isinstance(picture.payload, Text):
            if self._plan.text:
                self._messages.add(picture.payload.raw, picture.outcome, reason, missed=missed)
                self._last_ns[reason] = window.mono_ns
            return False
        pixels = pixels_of(picture)
        if pixels is None:
            self._gone += 1
            return False
        name, data = file_name(window, "png"), encode(pixels, "png")
        self._set.add(name, data, pixels.shape, picture.outcome, reason, missed=missed)
        self._last_ns[reason] = window.mono_ns
        return True

    def close(self) -> None:
        try:
            self._set.close()
        except (OSError, InputError) as error:  # it is in the journal, and goes in at the next start
            log.warning("%s: what is new is not in %s yet: %s", self._plan.path, ANNOTATIONS, error)
        if self._gone:
            log.info("%d pictures were gone before they could be kept for %s", self._gone, ANNOTATIONS)
            self._gone = 0
