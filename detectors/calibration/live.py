"""The audit of one generation while it runs: which units it looks at, what the heavy model's word on them means, and
what all of them prove by now. The engine carries the pictures; the statistics are in `audit`."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from detectors.calibration.audit import AuditPlan, Bounds, Tally, bounds, coin
from detectors.calibration.audit_state import AuditState, StateFile
from detectors.calibration.certificate import percent
from detectors.calibration.outlook import Outlook
from detectors.calibration.paths import path_of
from detectors.rules.boxes import Boxes
from detectors.rules.regions import Regions
from detectors.rules.scores import Scores
from pipeline.core.contracts import Auditor, Clear, Escalate, Flag, Rule, Stage, Word
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.records import Findings, Outcome, Result
from pipeline.core.settings import Settings
from pipeline.core.snapshot import AuditReport

log = logging.getLogger(__name__)

Share = Annotated[float, Field(gt=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
_LEVELS = 8  # of p, where it grows: few enough to count by, near enough to follow a score
_SHORTEST_KEY = 8
_DELTA = 0.05
_IOU = 0.5


class AuditSettings(Settings):
    """How a cascade is audited while it runs. α and δ are its certificate's, where it has one."""

    share: Share = Field(description="the probability with which a window is audited")
    share_at_most: Share | None = Field(
        default=None,
        description="let the probability grow with the cheap stage's score, from `share` up to this, which it reaches"
        " where the heavy stage is asked anyway: fewer audits find as much",
    )
    key: SecretStr = Field(
        description="a secret: whoever knows it can tell which windows are audited; ${NAME} or ${file:/path}"
    )
    state: str = Field(default="results/audit.json", min_length=1, description="the file that remembers the counts")
    alpha: Rate | None = Field(default=None, description="the miss rate to hold it against, without a certificate")
    delta: Rate | None = Field(
        default=None, description="how likely each bound may ever be wrong, without a certificate (default: 0.05)"
    )
    match_iou: Share | None = Field(
        default=None, description="the overlap from which two boxes are the same thing (default: 0.5)"
    )
    reserve: int = Field(
        default=16, ge=1, le=4096, description="pictures that may be kept waiting for the audit at once"
    )
    effort: Share = Field(
        default=0.1, description="share of one thread's time that audits get while live windows wait; else all of it"
    )
    patience: float = Field(
        default=100.0, gt=1.0, description="false alarms of drift come once in so many epochs of 1/(p·α) positives"
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.share_at_most is not None and self.share_at_most < self.share:
            raise ValueError("share_at_most must not be below share")
        if len(self.key.get_secret_value()) < _SHORTEST_KEY:
            raise ValueError(f"the key should have {_SHORTEST_KEY} characters or more")
        return self

    @property
    def path(self) -> Path:
        return Path(os.path.expanduser(self.state))

    def promise(self, promised: tuple[float, float] | None) -> str:
        """In a line, for the start of a run."""
        bets = self.plan_for(promised)
        share = percent(self.share)
        share += "" if self.share_at_most is None else f" to {percent(self.share_at_most)}"
        against = "the certified" if promised is not None else "at most"
        return f"audited: {share} of the windows, against {against} {percent(bets.alpha)}; remembered in {self.state}"

    def plan_for(self, promised: tuple[float, float] | None) -> AuditPlan:
        """The bets, against the (α, δ) that a certificate promises, or else against those given here. Raises
        `InputError` where the two disagree, or where there is no α at all."""
        alpha, delta = self.alpha, self.delta or _DELTA
        if promised is not None:
            for name, said, proved in zip(("alpha", "delta"), (self.alpha, self.delta), promised, strict=True):
                if said is not None and said != proved:
                    raise InputError(f"is {said} here, and the certificate promises {proved}: take this away", name)
            alpha, delta = promised
        if alpha is None:
            raise InputError("is needed: there is no certificate that says how much may be missed", "alpha")
        # p_ref is what misses are expected to have; they come with middling scores
        most = self.share if self.share_at_most is None else self.share_at_most
        return AuditPlan(alpha, delta, self.share, math.sqrt(self.share * most))


class LiveAudit(Auditor):
    """See `Auditor`. `stage` is the heavy model once more, opened for audits alone."""

    def __init__(
        self,
        settings: AuditSettings,
        generation: str,
        rule: Rule,
        stage: Stage,
        plan: AuditPlan,
        *,
        match_iou: float = _IOU,
    ) -> None:
        """Raises `InputError` where the rule is none that can be audited, or the state that lies there is none."""
        self.stage = stage
        self.reserve = settings.reserve
        self.effort = settings.effort
        self.alarm = ""
        self._plan = plan
        self._rule = rule
        self._path = path_of(rule, decides_alone=True, match_iou=match_iou)
        if self._path.matches:
            _needs_matching()
        self._key = hashlib.blake2b(settings.key.get_secret_value().encode(), digest_size=32).digest()
        self._shares = _levels(settings.share, settings.share_at_most)
        self._file = StateFile(settings.path)
        self._file.read()
        self._state = AuditState.fresh(generation, plan, settings.patience, match_iou)
        self._bounds: Bounds | None = None
        self._lost: Counter[float] = Counter()

    # Its file.

    def open(self) -> None:
        self._file.open()
        kept = self._file.read()
        if kept is None:
            return
        if kept.continues(self._state):
            self._state, self.alarm = kept, kept.alarm
            if self.alarm:
                self._lost = kept.due  # nothing is proved any more, and the proof that was stands
            else:
                for p, count in kept.due.items():  # the program died over them
                    self.unseen(p, count)
                kept.due = Counter()
            return
        aside = self._file.set_aside(kept.generation)
        whose = "under other settings" if kept.generation == self._state.generation else f"of {kept.generation}"
        log.warning("the audit of %s begins anew: what was known %s is in %s", self._state.generation, whose, aside)

    def save(self) -> None:
        self._file.save(self._state)

    def close(self) -> None:
        self._file.close()

    # Which units.

    def toss(self, unit: str) -> float | None:
        toss = coin(self._key, unit)
        return toss if toss < self._shares[-1] else None

    def share(self, cheap: Findings | None) -> float:
        if len(self._shares) == 1 or cheap is None:
            return self._shares[0]
        return self._shares[min(int(_suspicion(self._rule, cheap) * _LEVELS), _LEVELS - 1)]

    # What the heavy stage says.

    def word(self, whole: Findings, outcome: Outcome) -> Word:
        verdict: Clear | Flag = Clear()
        if isinstance(outcome, Result):
            verdict = (Flag if outcome.flagged else Clear)(outcome.detections)
        found = self._path.flagged(whole)
        said = self._path.reports(found, verdict) if found else self._path.reports_any(verdict)
        return Word(tuple(found), said)

    def whole(self, cheap: Findings, heavy: Findings) -> Clear | Flag:
        if isinstance(self._rule, Boxes):
            return self._rule.model_copy(update={"region": "whole"}).merge(cheap, [heavy])
        rule = self._rule.model_copy(update={"at_once": None}) if isinstance(self._rule, Regions) else self._rule
        verdict, alone = rule.merge(cheap, [heavy]), rule.decide(cheap)
        assert not isinstance(verdict, Escalate)  # there is nothing that it has not seen
        return alone if isinstance(verdict, Clear) and isinstance(alone, Flag) else verdict

    # What is counted.

    def left(self, units: int, reported: int) -> None:
        self._state.units += units
        self._state.reported += reported

    def heard(self, word: Word, p: float, *, audited: bool) -> None:
        self._state.audited += audited
        if word.detections:
            news = Tally()
            news.heard(p, flagged=True, reported=word.reported)
            self._learn(news)

    def unseen(self, p: float, count: int) -> None:
        self._learn(Tally(unseen=Counter({p: count})))

    def waiting(self, due: Mapping[float, int]) -> None:
        due = self._lost + Counter(due)
        if due != self._state.due:
            self._state.due, self._bounds = due, None

    def _learn(self, news: Tally) -> None:
        state = self._state
        state.tally += news
        self._bounds = None
        drifted = state.drift.add(news)
        if self.alarm or not news.missed:
            return  # only a miss can raise the lower bound, or the wealth of those who bet on one
        if self._known().state == "broken":
            self.alarm = "broken"
        elif drifted:
            self.alarm = "drift"
        state.alarm = self.alarm

    def _known(self) -> Bounds:
        if self._bounds is None:
            self._bounds = bounds(self._plan, self._state.tally, self._state.due)
        return self._bounds

    def report(self, units_per_s: float) -> AuditReport:
        state, known = self._state, self._known()
        tally = state.tally
        return AuditReport(
            alpha=self._plan.alpha,
            delta=self._plan.delta,
            state="broken" if self.alarm == "broken" else known.state,
            alarm=self.alarm,
            units=state.units,
            reported=state.reported,
            audited=state.audited,
            unseen=tally.unseen.total(),
            missed=tally.missed.total(),
            misses=tally.misses,
            positives=tally.positives,
            estimate=known.estimate,
            lower=known.lower,
            upper=known.upper,
            worst=tally.beside(state.due).worst,
            outlook=self._outlook(units_per_s),
        )

    def _outlook(self, units_per_s: float) -> str:
        state = self._state
        positives = state.tally.positives
        exits = state.units - state.reported
        if self.alarm or self._known().state != "unproven":
            return ""
        if not positives or not exits:
            return "how long a proof takes shows once the heavy stage has flagged something"
        shares = min(positives / state.units, 1.0), exits / state.units
        return Outlook(self._plan, *shares).words(units_per_s)


def _levels(least: float, most: float | None) -> list[float]:
    """Rising, evenly by ratio; one alone where there is nothing to rise to."""
    if most is None or most == least:
        return [least]
    between = [least * (most / least) ** (step / (_LEVELS - 1)) for step in range(1, _LEVELS - 1)]
    return [least, *between, most]


def _suspicion(rule: Rule, cheap: Findings) -> float:
    """How near the cheap stage came to asking the heavy one, 0 to 1: its score as a share of the threshold."""
    if isinstance(rule, Scores):
        score = cheap.score([cheap.labels.index(label) for label in rule.watch])
        return _ratio(score, rule.clear_below or 0.0)
    assert isinstance(rule, (Boxes, Regions))
    return max(
        (_ratio(cheap.score([cheap.labels.index(label)]), least) for label, least in rule.escalate.items()),
        default=0.0,
    )


def _ratio(score: float, threshold: float) -> float:
    return min(score / threshold, 1.0) if threshold > 0 else 1.0


def _needs_matching() -> None:
    """Boxes are matched with a part that not every installation has: better said now than at the first audit."""
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        raise MissingPart("an audit of boxes needs scipy: pip install 'thresher[calibrate]'") from None
