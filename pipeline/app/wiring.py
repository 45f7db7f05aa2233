"""A plan → stages, generations, and a pipeline that is ready to start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from pydantic import BaseModel

from detectors.calibration.live import LiveAudit
from detectors.choice import ModelChoice, build_audit_stage, build_stage, find_model
from detectors.manifest import Model
from detectors.rules.regions import Regions
from pipeline.app.config.cascades import CascadeReader
from pipeline.app.config.document import Document, Key
from pipeline.app.config.events import check_event_labels
from pipeline.app.config.load import Standing, load
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.plan import CascadePlan, CheckedRule, Plan
from pipeline.app.config.policy import check_labels
from pipeline.app.config.settings import SECTIONS
from pipeline.core.contracts import Auditor, Generation, Stage
from pipeline.core.errors import InputError
from pipeline.core.media import Spec
from pipeline.core.payloads import tile_of
from pipeline.core.sound import SoundSpec
from pipeline.core.text import TextSpec
from pipeline.core.traces import Tracer
from pipeline.engine.pipeline import Pipeline, StreamPlan

_REPORTED_FROM = 0.5
_REMEMBERED = 10_000  # messages
T = TypeVar("T")


def prepare(
    document: Document, mistakes: Mistakes | None = None, standing: Standing | None = None
) -> tuple[Plan, dict[str, Generation]]:
    """Check `document` whole: settings, sources, sinks, models, rules. Raises `InputErrors` with all that is wrong.
    Generations and models of what is `standing` are taken as they are, not loaded again."""
    mistakes = mistakes or Mistakes(document)
    plan = load(document, mistakes, standing)
    for stream in plan.gates.keys() & plan.watches.keys():
        if plan.cascades[plan.watches[stream]].certificate is not None:
            mistakes.add(
                "the certificate of its cascade was made without a gate, and what a gate holds back it does not"
                " promise: take away the gate, or the certificate",
                (*plan.key(stream), "gate"),
            )
    generations = _Builder(mistakes, standing).generations(plan)
    plan = _fitted(plan, generations, mistakes)
    reported = _reported(plan, generations)
    whole = standing is None and bool(plan.sources)  # else what reports a label may come yet, or come again
    if plan.policy is not None and whole:
        check_labels(plan.policy, reported, mistakes)
    if plan.events is not None and whole and reported.keys() == plan.watches.keys():
        check_event_labels(plan.events, reported, mistakes)
    mistakes.raise_if_any()
    return plan, generations


def _fitted(plan: Plan, generations: Mapping[str, Generation], mistakes: Mistakes) -> Plan:
    """Each stream and its gate as the cascade takes it that judges it."""
    sources, gates = dict(plan.sources), dict(plan.gates)
    for stream, cascade in plan.watches.items():
        if cascade not in generations:
            continue  # which is a mistake already
        spec = _taken(generations[cascade])
        source, *track = plan.tracks.get(stream, (stream,))
        try:
            sources[source] = sources[source].fitted(spec, *track)
        except InputError as error:
            mistakes.add(error.message, (*plan.key(stream), error.place or "cascade"))
            continue
        if stream in gates:
            try:
                gates[stream] = gates[stream].fitted(spec)
            except InputError as error:
                mistakes.add(error.message, (*plan.key(stream), "gate"))
    return replace(plan, sources=sources, gates=gates)


def _taken(generation: Generation) -> Spec:
    """What the cheap stage takes; of sound, as much as any stage takes at once, of text, no more than each does: what a
    model does not read is cut off."""
    spec = generation.cheap.spec
    if isinstance(spec, SoundSpec):
        return replace(spec, samples=max(cast(SoundSpec, stage.spec).samples for stage in generation.stages))
    if isinstance(spec, TextSpec):
        return replace(spec, length=min(cast(TextSpec, stage.spec).length for stage in generation.stages))
    return spec


def _reported(plan: Plan, generations: Mapping[str, Generation]) -> dict[str, Sequence[str]]:
    """The labels that each stream's cascade can report, as far as that is known."""
    known: dict[str, Sequence[str]] = {}
    for name, cascade in plan.cascades.items():
        if cascade.rule is not None:
            known[name] = cascade.rule.reports()
        elif name in generations:
            known[name] = generations[name].cheap.labels
    return {stream: known[name] for stream, name in plan.watches.items() if name in known}


def prepare_cascade(document: Document, name: str | None) -> Generation:
    """The one cascade of `document` that goes by `name`, or its only one, as it is without a certificate; sources and
    sinks are not looked at. Raises `InputErrors`."""
    return planned_cascade(document, name, certificates=False)[1]


def planned_cascade(document: Document, name: str | None, *, certificates: bool) -> tuple[CascadePlan, Generation]:
    """The same with its plan; with `certificates`, the thresholds of the one that it names are its own."""
    mistakes = Mistakes(document)
    mistakes.unknown_keys(document.data, SECTIONS)
    document.data = {key: value for key, value in document.data.items() if key in {"cascade", "cascades"}}
    mistakes.unresolved(document.resolve())
    reader = CascadeReader(document, mistakes, certificates=certificates)
    chosen = reader.choose(name, ("--cascade",))
    mistakes.raise_if_any()
    generation = None if chosen is None else _Builder(mistakes).generation(reader.read[chosen])
    mistakes.raise_if_any()
    assert chosen is not None  # or else there was a mistake
    assert generation is not None
    return reader.read[chosen], generation


def stream_plan(plan: Plan, generations: Mapping[str, Generation], name: str) -> StreamPlan:
    """The source of that name with its tracks. Its gates begin with it."""

    def stream(full: str, tracks: tuple[StreamPlan, ...] = ()) -> StreamPlan:
        cascade, gate = plan.watches[full], plan.gates.get(full)
        started = None if gate is None else gate.start()
        return StreamPlan(full, plan.sources[name], cascade, generations[cascade], started, tracks)

    return stream(name, tuple(stream(full) for full, (of, _) in plan.tracks.items() if of == name))


def pipeline(plan: Plan, generations: Mapping[str, Generation], tracer: Tracer | None = None) -> Pipeline:
    streams = [stream_plan(plan, generations, name) for name in plan.sources]
    return Pipeline(streams, plan.sinks, events=plan.events, policy=plan.policy, state=plan.state, tracer=tracer)


class _Builder:
    """Cascade plans → generations. Where something else is wrong already, models are looked at but not compiled."""

    def __init__(self, mistakes: Mistakes, standing: Standing | None = None) -> None:
        self._mistakes = mistakes
        self._models: dict[str, Model | None] = {}
        self._stages: dict[str, Stage | None] = {}
        self._standing: dict[str, Generation] = {}
        self._known = set[str]() if standing is None else set(standing.plan.cascades)
        if standing is not None:
            self._standing = dict(standing.generations)
            for name, generation in standing.generations.items():
                plan = standing.plan.cascades[name]
                for choice, stage in zip((plan.cheap, plan.heavy), generation.stages, strict=False):
                    if choice is not None:
                        self._stages[choice.model_dump_json()] = stage

    def generations(self, plan: Plan) -> dict[str, Generation]:
        if self._mistakes.errors:
            for name, cascade in plan.cascades.items():
                if name not in self._known:
                    self._look(cascade)
            return {}
        used = {name: cascade for name, cascade in plan.cascades.items() if name in plan.watches.values()}
        for name in plan.cascades.keys() - used.keys() - self._known:
            self._look(plan.cascades[name])
        built = {name: self._standing.get(name) or self.generation(cascade) for name, cascade in used.items()}
        return {name: generation for name, generation in built.items() if generation is not None}

    def _look(self, plan: CascadePlan) -> None:
        cheap = self._once(self._models, find_model, plan.cheap, (*plan.key, "cheap"))
        heavy = self._once(self._models, find_model, plan.heavy, (*plan.key, "heavy"))
        if cheap is not None and plan.rule is not None and (heavy is None) == (plan.heavy is None):
            tile = None if heavy is None else heavy.manifest.tile
            self._fits(plan, plan.rule, cheap.manifest.labels, None if heavy is None else heavy.manifest.labels, tile)

    def generation(self, plan: CascadePlan) -> Generation | None:
        cheap = self._once(self._stages, build_stage, plan.cheap, (*plan.key, "cheap"))
        heavy = self._once(self._stages, build_stage, plan.heavy, (*plan.key, "heavy"))
        if cheap is None or (heavy is None and plan.heavy is not None):
            return None
        if heavy is not None and heavy.name == cheap.name:
            self._mistakes.add("both stages have the same name; give one of them a `name`", (*plan.key, "heavy"))
            return None
        if heavy is not None and (apart := _apart(cheap.spec, heavy.spec)):
            self._mistakes.add(apart, (*plan.key, "heavy"))
            return None
        rule = plan.rule or default_rule(cheap.labels)
        tile = None if heavy is None else tile_of(heavy.spec)
        if not self._fits(plan, rule, cheap.labels, None if heavy is None else heavy.labels, tile):
            return None
        stages = (cheap,) if heavy is None else (cheap, heavy)
        name = f"{plan.name}@{_digest(stages, rule)}"
        certificate = plan.certificate
        differences = [] if certificate is None else certificate.differences(cheap, heavy, rule)
        for line in differences:
            self._mistakes.add(f"is not for this cascade: {line}", (*plan.key, "certificate"))
        auditor = self._auditor(plan, name, rule, heavy)
        if differences or (auditor is None and plan.audit is not None):
            return None
        cached = (_REMEMBERED if cheap.spec.medium == "text" else 0) if plan.cache is None else plan.cache
        promise = "" if certificate is None else certificate.promise()
        return Generation(name, cheap, heavy, rule, certificate is not None, promise, auditor, cached)

    def _auditor(self, plan: CascadePlan, generation: str, rule: CheckedRule, heavy: Stage | None) -> Auditor | None:
        bets = plan.audit_plan()
        if plan.audit is None or plan.heavy is None or heavy is None or bets is None:
            return None
        try:
            stage = build_audit_stage(plan.heavy, heavy)
            return LiveAudit(plan.audit, generation, rule, stage, bets, match_iou=plan.match_iou)
        except InputError as error:
            self._mistakes.take(error, (*plan.key, "audit"))
            return None

    def _fits(
        self,
        plan: CascadePlan,
        rule: CheckedRule,
        cheap: Sequence[str],
        heavy: Sequence[str] | None,
        tile: int | None,
    ) -> bool:
        wrong = rule.check(cheap, heavy)
        for mistake in wrong:
            self._mistakes.add(mistake, (*plan.key, "rule"))
        if tile is None or not isinstance(rule, Regions) or 2 * rule.reach <= tile:
            return not wrong
        self._mistakes.add(
            f"a look answers for {rule.reach:g} pixels to each side of its middle, and the heavy stage sees a tile of"
            f" {tile}: at most {tile / 2:g}, and less to see what is around a thing",
            (*plan.key, "rule", "reach"),
        )
        return False

    def _once(
        self, known: dict[str, T | None], make: Callable[[ModelChoice], T], choice: ModelChoice | None, key: Key
    ) -> T | None:
        """One per choice, however many cascades share it; None and a mistake where it cannot be had."""
        if choice is None:
            return None
        name = choice.model_dump_json()
        if name not in known:
            try:
                known[name] = make(choice)
            except InputError as error:
                self._mistakes.take(error, key)
                known[name] = None
        return known[name]


def _apart(cheap: Spec, heavy: Spec) -> str:
    """Why two stages cannot judge the same windows, if so."""
    if cheap.medium != heavy.medium:
        return f"the cheap stage judges {cheap.medium}, and this one {heavy.medium}"
    if isinstance(cheap, SoundSpec) and isinstance(heavy, SoundSpec) and cheap.rate != heavy.rate:
        return f"the cheap stage hears {cheap.rate} samples a second, and this one {heavy.rate}: both hear one stream"
    return ""


def default_rule(labels: Sequence[str]) -> CheckedRule:
    """What a cascade without a rule gets: every label is reported from 0.5 on."""
    from detectors.rules.boxes import Boxes

    return Boxes(report=dict.fromkeys(labels, _REPORTED_FROM))


def _digest(stages: tuple[Stage, ...], rule: CheckedRule) -> str:
    """A short name for exactly these models and thresholds, the same on every start."""
    said = [{k: str(v) for k, v in stage.describe().items() if k in _IDENTITY} for stage in stages]
    assert isinstance(rule, BaseModel)
    text = json.dumps([said, type(rule).__name__, rule.model_dump(mode="json")], sort_keys=True)
    return hashlib.blake2s(text.encode(), digest_size=4).hexdigest()


_IDENTITY = frozenset({"model", "version", "sha256", "fingerprint", "runtime", "precision"})
