"""From what cascades report of the streams of a show to what is to be done about it.

Pure logic, one thread at a time (`engine/show.py` brings the lock). A decision is made the moment its last evidence is
there, and waits for nobody. Only what has an end (an action, a memory) waits for the show's watermark, and that for no
stream longer than `patience_s`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.core.records import Action, Outcome, Result
from pipeline.core.rulings import Evidence, Ruling
from pipeline.core.snapshot import PolicySnapshot
from pipeline.engine.policy_evidence import RuleEvidence, Sighting
from pipeline.engine.policy_settings import Condition, PolicySettings, stronger
from pipeline.engine.show_clock import ClockedStream, ShowClock
from pipeline.engine.telemetry import Histogram

ModelOf: TypeAlias = Callable[[str, str], str]
"""What model decided: the id of a generation, and what its verdict says of who decided → its name (see `Evidence`)."""
_MOST_TOLD = 16  # windows in one ruling: a raid of five hundred messages is told of by the first few
_ALWAYS = -(1 << 62)


@dataclass(slots=True)
class _Open:
    """An action that goes on."""

    id: str
    start_ns: int
    until_ns: int
    told_ns: int  # the show's time of the last word on it
    targets: tuple[str, ...]
    began: tuple[Evidence, ...] = ()
    evidence: tuple[Evidence, ...] = ()  # the latest that was told of
    newest_ns: int = 0


class _Ruled:
    """A rule with what it has seen and the action that it has going, one at most."""

    def __init__(self, seen: RuleEvidence) -> None:
        self.seen = seen
        self.rule = seen.rule
        self.hold_ns = round(seen.rule.hold_s * 1e9)
        self.open: _Open | None = None
        self.done_ns = _ALWAYS  # nothing up to here begins an action again


class Policy:
    """The rules over the streams of one show."""

    def __init__(
        self, settings: PolicySettings, streams: Iterable[ClockedStream], model_of: ModelOf | None = None
    ) -> None:
        self._settings = settings
        self._model_of = model_of or (lambda generation, decided_by: "")
        self._window_ns = round(settings.window_s * 1e9)
        self.clock = ShowClock(streams, round((settings.patience_s or settings.window_s) * 1e9))
        self._rules = [
            _Ruled(RuleEvidence(rule, self._window_ns if rule.within_s is None else round(rule.within_s * 1e9)))
            for rule in settings.rules
        ]
        self._update_ns = round(settings.update_every_s * 1e9)
        self._late = 0
        self._ruled: Counter[str] = Counter()
        self._latency = Histogram()

    def action_of(self, outcome: Outcome) -> tuple[Action, str] | None:
        """What a window calls for by itself, and the rule that says so: the strongest of those with one condition and
        one window. None for one that was not judged, or that is of another show. Pure: safe from any thread."""
        if not isinstance(outcome, Result) or outcome.window.stream not in self.clock:
            return None
        action, by = self._settings.otherwise, ""
        for rule in self._settings.rules:
            alone = rule.when[0]
            if len(rule.when) > 1 or alone.count > 1 or (by and not stronger(rule.action, action)):
                continue
            score = alone.score(outcome.window.stream, outcome.detections)
            if score is not None and score >= alone.at_least:
                action, by = rule.action, rule.name
        return action, by

    def see(self, outcome: Outcome, now_ns: int) -> list[Ruling]:
        """What a window brings about. Outcomes of one stream come in its order, those of several in any. `now_ns` by
        the monotonic clock."""
        window = outcome.window
        if window.stream not in self.clock:
            return []
        shift_ns = self.clock.shift(window)
        known_ns = self.clock.watermark_ns
        self.clock.passed(window.stream, window.start_ns + shift_ns, now_ns)
        rulings: list[Ruling] = []
        if isinstance(outcome, Result) and outcome.detections:
            late = False
            for ruled in self._rules:
                sighting = ruled.seen.see(outcome, shift_ns)
                if sighting is not None:
                    late = late or sighting.at_ns < known_ns
                    rulings += self._weigh(ruled, sighting, now_ns)
            self._late += late
        return rulings + self._expire(now_ns)

    def watermark(self, stream: str, pts_ns: int, now_ns: int) -> list[Ruling]:
        """The source of `stream` says that nothing before `pts_ns` of its media time will come, and nothing is under
        way."""
        if stream not in self.clock:
            return []
        self.clock.passed_media(stream, pts_ns, now_ns)
        return self._expire(now_ns)

    def tick(self, now_ns: int) -> list[Ruling]:
        """Time passes."""
        self.clock.tick(now_ns)
        return self._expire(now_ns)

    def ended(self, stream: str, now_ns: int) -> list[Ruling]:
        """For now, nothing more comes of `stream`."""
        if stream not in self.clock:
            return []
        self.clock.ended(stream)
        return self.finish(now_ns) if self.clock.all_ended else self._expire(now_ns)

    def absent(self, stream: str, now_ns: int) -> list[Ruling]:
        """There is no such stream for now: a track that its camera does not have is not missed."""
        if stream in self.clock:
            self.clock.absent(stream)
        return self.ended(stream, now_ns)

    def finish(self, now_ns: int) -> list[Ruling]:
        """The show is over: whatever goes on ends when it would have ended."""
        return [self._close(ruled, ruled.open, now_ns) for ruled in self._rules if ruled.open is not None]

    def snapshot(self) -> PolicySnapshot:
        return PolicySnapshot(
            show=self._settings.show,
            open={ruled.rule.name: ruled.rule.action for ruled in self._rules if ruled.open is not None},
            ruled=dict(self._ruled),
            late=self._late,
            dropped=sum(ruled.seen.dropped for ruled in self._rules),
            anchored_anew=self.clock.anchored_anew,
            latency=self._latency.latency(),
        )

    # One rule.

    def _weigh(self, ruled: _Ruled, sighting: Sighting, now_ns: int) -> Iterable[Ruling]:
        """The rule has seen something more: at which moments does it hold now?"""
        seen = ruled.seen
        rulings: list[Ruling] = []
        for at_ns, start_ns in seen.moments(sighting):
            going = ruled.open
            if going is not None and start_ns <= going.until_ns:
                if seen.holds(at_ns, seen.stays):
                    rulings += self._go_on(ruled, going, at_ns, now_ns)
            elif at_ns > ruled.done_ns and seen.holds(at_ns, seen.begins):
                if going is not None:
                    rulings.append(self._close(ruled, going, now_ns))
                rulings.append(self._begin(ruled, at_ns, now_ns))
        return rulings

    def _begin(self, ruled: _Ruled, at_ns: int, now_ns: int) -> Ruling:
        found = ruled.seen.of(at_ns, ruled.seen.begins, latest=False)
        if max(one.at_ns for _, _, one in found) < at_ns:  # an earlier action had those already: what is new?
            found = ruled.seen.of(at_ns, ruled.seen.begins, latest=True)
        last = max(one for _, _, one in found)
        ruled.open = _Open(
            id=f"{self._settings.show}/{ruled.rule.name}/{last.window}",
            start_ns=max(min(one.start_ns for _, _, one in found), ruled.done_ns),
            until_ns=at_ns + ruled.hold_ns,
            told_ns=at_ns,
            targets=_targets(ruled, found),
        )
        self._ruled[ruled.rule.action] += 1
        ruling = self._told("new", ruled, ruled.open, found, now_ns)
        self._latency.record(ruling.latency_ns / 1e9)
        return ruling

    def _go_on(self, ruled: _Ruled, going: _Open, at_ns: int, now_ns: int) -> Sequence[Ruling]:
        """Its evidence holds still, or again."""
        going.until_ns = max(going.until_ns, at_ns + ruled.hold_ns)
        found = ruled.seen.of(at_ns, ruled.seen.stays, latest=True)
        targets = tuple(dict.fromkeys((*going.targets, *_targets(ruled, found))))
        if targets == going.targets and at_ns - going.told_ns < self._update_ns:
            return ()
        going.targets, going.told_ns = targets, max(at_ns, going.told_ns)
        return (self._told("update", ruled, going, found, now_ns),)

    def _expire(self, now_ns: int) -> list[Ruling]:
        """What the watermark has passed ends, and what is older is forgotten."""
        mark_ns = self.clock.watermark_ns
        rulings = []
        for ruled in self._rules:
            if ruled.open is not None and ruled.open.until_ns < mark_ns:
                rulings.append(self._close(ruled, ruled.open, now_ns))
            ruled.seen.forget(mark_ns)
        return rulings

    def _close(self, ruled: _Ruled, going: _Open, now_ns: int) -> Ruling:
        ruled.open, ruled.done_ns = None, max(ruled.done_ns, going.until_ns)
        return self._ruling("end", ruled, going, now_ns)

    def _told(
        self,
        kind: Literal["new", "update"],
        ruled: _Ruled,
        going: _Open,
        found: Sequence[tuple[Condition, float, Sighting]],
        now_ns: int,
    ) -> Ruling:
        going.newest_ns = max(one.mono_ns for _, _, one in found)
        going.evidence = tuple(self._evidence(*one) for one in found[:_MOST_TOLD])
        going.began = going.began or going.evidence
        return self._ruling(kind, ruled, going, now_ns)

    def _evidence(self, condition: Condition, threshold: float, seen: Sighting) -> Evidence:
        return Evidence(
            window=seen.window,
            stream=seen.stream,
            label=condition.label,
            score=seen.score,
            threshold=threshold,
            decided_by=seen.decided_by,
            model=self._model_of(seen.generation, seen.decided_by),
            generation=seen.generation,
            certified=seen.certified,
        )

    def _ruling(self, kind: Literal["new", "update", "end"], ruled: _Ruled, going: _Open, now_ns: int) -> Ruling:
        zero_ns = self.clock.zero_wall_ns or 0
        spoke = {one.stream for one in going.evidence}
        unknown = self.clock.missing(going.told_ns - self._window_ns)
        return Ruling(
            id=going.id,
            kind=kind,
            show=self._settings.show,
            action=ruled.rule.action,
            rule=ruled.rule.name,
            targets=going.targets,
            start_ns=going.start_ns,
            end_ns=going.until_ns,
            start_wall_ns=zero_ns + going.start_ns,
            end_wall_ns=zero_ns + going.until_ns,
            evidence=going.began if kind == "end" else going.evidence,
            missing=tuple(name for name in unknown if name not in spoke),
            newest_ns=going.newest_ns,
            done_ns=now_ns,
            anchors=self.clock.anchors(going.targets),
        )


def _targets(ruled: _Ruled, found: Sequence[tuple[Condition, float, Sighting]]) -> tuple[str, ...]:
    return ruled.rule.targets or tuple(sorted({one.stream for _, _, one in found}))
