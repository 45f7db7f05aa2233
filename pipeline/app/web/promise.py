"""What is promised, whether it holds, and what another threshold would bring."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectors.calibration.certificate import Certificate
from pipeline.app.calibration.said import scores_beside
from pipeline.app.config.plan import CascadePlan
from pipeline.app.web.history import EVERY_S, History, Point
from pipeline.app.web.recall import effective_recall
from pipeline.app.web.slider import Slider
from pipeline.core.contracts import Generation
from pipeline.core.secrets import redact
from pipeline.core.snapshot import AuditSnapshot, Snapshot

if TYPE_CHECKING:
    from pipeline.app.web.site import Site

log = logging.getLogger(__name__)
_SAVE_EVERY = 12  # samples


@dataclass(frozen=True, slots=True)
class _Cascade:
    name: str
    plan: CascadePlan | None
    generation: Generation


class Promises:
    """Of all cascades that run. Thread-safe; looks at the audits every five seconds until it is closed."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._histories: dict[str, History] = {}
        self._sliders: dict[Path, Slider] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="promise", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Keep what was seen. Safe twice, and without `start`."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    # What is told.

    def document(self) -> dict[str, Any]:
        now = self._site.running.snapshot()
        return {"cascades": [self._told(one, now) for one in self._cascades()]}

    def replay(self, name: str) -> dict[str, Any]:
        """Raises `KeyError` where no such cascade runs, `LookupError` with what to do where there are no scores, and
        `InputError` where those that are there cannot be used."""
        cascade = next((one for one in self._cascades() if one.name == name), None)
        if cascade is None:
            raise KeyError(name)
        path = self.scores_of(cascade.name, cascade.plan)
        if path is None:
            raise LookupError(
                f"nobody kept what the stages of {name} said of labelled units: `thresher calibrate` leaves that beside"
                f" the certificate, `thresher eval` in scores.jsonl.gz; name such a file in the config, as"
                f" web: {{scores: {{{name}: FILE}}}}"
            )
        with self._lock:
            slider = self._sliders.setdefault(path, Slider(path))
        certificate = None if cascade.plan is None else cascade.plan.certificate
        said = slider.answer(cascade.generation, certificate)
        return {"cascade": name, "generation": cascade.generation.id, **said}

    def scores_of(self, name: str, plan: CascadePlan | None) -> Path | None:
        """The file that the config names, or the one beside the certificate; None where there is none."""
        named = self._site.settings.scores.get(name)
        if named is not None:
            return self._site.document.folder / os.path.expanduser(named)
        if plan is None or plan.certificate_file is None:
            return None
        beside = scores_beside(plan.certificate_file)
        return beside if beside.is_file() else None

    def _cascades(self) -> list[_Cascade]:
        plans: Mapping[str, CascadePlan] = self._site.plan.cascades
        return [_Cascade(name, plans.get(name), one) for name, one in self._site.generations.items()]

    def _told(self, cascade: _Cascade, now: Snapshot) -> dict[str, Any]:
        generation, plan = cascade.generation, cascade.plan
        certificate = None if plan is None or not generation.certified else plan.certificate
        audit = next((one for one in now.audits if one.generation == generation.id), None)
        streams = [one for one in now.streams if one.cascade == cascade.name]
        recall = effective_recall(
            streams, None if audit is None else audit.report, None if certificate is None else certificate.proof.alpha
        )
        history = self._histories.get(generation.id)
        return {
            "cascade": cascade.name,
            "generation": generation.id,
            "certified": generation.certified,
            "promise": generation.promise,
            "advice": _advice(cascade, audit, self._site.document.origin),
            "certificate": None if certificate is None else _certificate(certificate),
            "audit": None if audit is None else asdict(audit),
            "history": [] if history is None else [point.document() for point in history.points],
            "effective_recall": None if recall is None else recall.shown,
            "recall": None if recall is None else asdict(recall),
            "replay": self.scores_of(cascade.name, plan) is not None,
        }

    # What is kept.

    def _watch(self) -> None:
        count = 0
        while not self._closing.wait(EVERY_S):
            count += 1
            self._keep(count % _SAVE_EVERY == 0)
        self._keep(True)

    def _keep(self, save: bool) -> None:
        try:
            self._sample()
            if save:
                self._save()
        except Exception as error:  # noqa: BLE001  # the next sample may be had again, and the page goes on
            log.warning("the bounds' history was not kept: %s", redact(error))

    def _sample(self) -> None:
        for audit in self._site.running.snapshot().audits:
            self._history(audit).add(_point(audit))

    def _history(self, audit: AuditSnapshot) -> History:
        known = self._histories.get(audit.generation)
        if known is None:
            known = History(self._kept_in(audit), [audit.generation, audit.report.alpha, audit.report.delta])
            self._histories[audit.generation] = known
        return known

    def _kept_in(self, audit: AuditSnapshot) -> Path:
        """Beside the audit's own file."""
        plan = self._site.plan.cascades.get(audit.cascade)
        own = Path("results/audit.json") if plan is None or plan.audit is None else plan.audit.path
        return own.with_name(f"{own.name}.history")

    def _save(self) -> None:
        for history in list(self._histories.values()):
            history.save()


def _point(audit: AuditSnapshot) -> Point:
    said = audit.report
    return Point(time.time(), said.estimate, said.lower, said.upper, said.worst, said.audited)


def _certificate(certificate: Certificate) -> dict[str, Any]:
    """As the file says it, with what is asked for most in front."""
    proof = certificate.proof
    return {
        "alpha": proof.alpha,
        "delta": proof.delta,
        "n": proof.positives,
        "misses": proof.misses,
        "against": proof.against,
        "thresholds": certificate.rule.calibrated,
        "promise": certificate.promise(),
        **certificate.model_dump(mode="json"),
    }


def _advice(cascade: _Cascade, audit: AuditSnapshot | None, config: str) -> str:
    """What a person should do about it; empty where nothing needs to be done."""
    name, generation = cascade.name, cascade.generation
    if audit is not None and audit.report.alarm:
        return (
            "The audit raised an alarm: the heavy stage sees everything it can, and the rest is not trusted. A restart"
            " does not mend it. Find out what changed, gather data since then, and calibrate (or train) anew: another"
            " certificate is another generation, with a fresh audit."
        )
    if generation.certified:
        return ""
    if generation.heavy is None:
        return (
            "Uncertified, and it cannot be certified: without a heavy stage there is nothing that its misses could be"
            " counted against. Measure it on labelled data with `thresher eval`."
        )
    what = config or name
    return (
        "Uncertified: nobody has measured what it misses. Run `thresher calibrate"
        f" {what} --data DIR --max-miss 0.02 --delta 0.05` on data that trained neither model, and name the file under"
        f" the cascade: {{base: {name}, certificate: FILE}}."
    )
