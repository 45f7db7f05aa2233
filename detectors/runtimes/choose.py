"""The runtime, the precision and the number of workers of a model, chosen by measuring it on the machine at hand.

Every installed runtime that reads the model runs it in every precision that the processor has, on real pictures: one
batch at a time on all processors, and one batch a processor. Which of these is better is a matter of the model: small
ones lose most of their time where the threads of a batch wait for each other. A form that moves a score further from
the f32 reference than the manifest tolerates is refused, however fast. Of the others the fastest wins; a tenth is not
worth a less exact form or a second runtime. What was measured is kept until weights, manifest, processor or a runtime
change.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from detectors.manifest import Model
from detectors.runtimes.base import Options, Precision, Runtime, cache_folder
from detectors.runtimes.parity import moved, sample_views
from detectors.stage import ModelStage
from pipeline.core.errors import InputError, StageError
from pipeline.core.media import Medium, View
from pipeline.core.records import Findings
from pipeline.core.settings import Settings

MOST_BATCH: dict[Medium, int] = {"picture": 8, "sound": 32, "text": 128}
"""What is small is worth gathering."""
_WORTH = 0.9  # of the best rate is as good as the best
_PARALLEL_GAIN = 1.25  # several batches at once have to bring this much: each by itself takes longer then
_GAIN = 1.05  # a larger batch has to bring this much to try one larger still
_COMPARING_S = 1.0
_SIZE_S = 0.12  # of measuring, per batch size
_ENOUGH = 12  # runs, per batch size
_MATTERS = {"weights", "view", "input", "output", "labels", "parity"}
_SLOW_S = 0.25  # a batch that takes longer is not worth measuring in several ways
_FORMAT = 2  # of what is kept; count up when its meaning changes
_log = logging.getLogger(__name__)


class Candidate(Settings):
    """One way to run a model. `precision` was asked for, `ran` is what really runs. `latency_ms` is the median for a
    single picture, `per_s` the pictures a second when `workers` batches of `batch` run at once: the smallest that comes
    near the best rate. `refused` says why it is out of the question."""

    runtime: str
    precision: Precision
    ran: str = ""
    latency_ms: float = 0.0
    per_s: float = 0.0
    batch: int = 1
    workers: int = 1
    moved: float = 0.0
    refused: str = ""


class Measurement(Settings):
    """What was measured of a model on this machine."""

    model: str
    version: str
    tolerance: float
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate:
        """The first, in order of exactness, that comes near the best rate."""
        able = [candidate for candidate in self.candidates if not candidate.refused]
        if not able:
            reasons = "; ".join(f"{c.runtime} {c.precision}: {c.refused}" for c in self.candidates)
            raise InputError(f"no runtime on this machine runs it ({reasons})", self.model)
        best = max(candidate.per_s for candidate in able)
        return next(candidate for candidate in able if candidate.per_s >= _WORTH * best)

    def of(self, runtime: str, precision: Precision) -> Candidate | None:
        """How it ran in that form, refused or not."""
        return next((c for c in self.candidates if (c.runtime, c.precision) == (runtime, precision)), None)


def measured(model: Model, runtimes: Sequence[Runtime]) -> Measurement:
    """The measurement of `model` in `runtimes`, from the cache or taken now (one to four seconds for a small model)."""
    file = _file(model, runtimes)
    kept = _kept(file)
    if kept is None:
        _log.info("%s: measuring which runtime and precision suit this machine; kept for the next start", model.name)
        kept = measure(model, runtimes)
        best = kept.chosen
        _log.info("%s: %s in %s, %.1f ms a view", model.name, best.runtime, best.ran, best.latency_ms)
        _keep(kept, file)
    return kept


def measure(model: Model, runtimes: Sequence[Runtime]) -> Measurement:
    """Measure now. Raises `InputError` if not even the reference (f32 in the first runtime) can be opened."""
    views = sample_views(model.manifest.view.spec(), model.samples)
    tolerance = model.manifest.parity.tolerance
    reference: list[Findings] | None = None
    candidates: list[Candidate] = []
    for runtime in runtimes:
        for precision in runtime.precisions(model):
            try:
                candidate, findings = _run(model, runtime, precision, views)
                views = views[: len(findings)]
            except (InputError, StageError) as error:
                if reference is None:
                    raise
                candidates.append(Candidate(runtime=runtime.name, precision=precision, refused=str(error)))
                continue
            reference = reference or findings
            distance = moved(reference[: len(findings)], findings)
            refused = f"moves a score by {distance:.3f}, more than {tolerance:g}" if distance > tolerance else ""
            candidates.append(candidate.model_copy(update={"moved": round(distance, 5), "refused": refused}))
    return Measurement(
        model=model.name, version=model.manifest.version, tolerance=tolerance, candidates=tuple(candidates)
    )


def _run(
    model: Model, runtime: Runtime, precision: Precision, views: Sequence[View]
) -> tuple[Candidate, list[Findings]]:
    most = MOST_BATCH[model.manifest.view.spec().medium]
    best, findings = _run_with(model, runtime, Options(precision=precision, max_batch=most), views)
    processors = usable_processors()
    if processors > 1 and best.batch / best.per_s < _SLOW_S:
        options = Options(precision=precision, max_batch=most, workers=processors)
        other, _ = _run_with(model, runtime, options, views[:1])
        if other.per_s > _PARALLEL_GAIN * best.per_s:
            best = other
    return best, findings


def _run_with(
    model: Model, runtime: Runtime, options: Options, views: Sequence[View]
) -> tuple[Candidate, list[Findings]]:
    session = runtime.open(model, options)
    try:
        stage = ModelStage(model.name, model, session)
        findings = _findings(stage, views)
        rates: dict[int, float] = {}
        latency_s = 0.0
        for size in session.batches:
            most = max(rates.values(), default=0.0)
            batch_s = _median_s(stage, (list(views) * size)[:size], options.workers)
            latency_s = latency_s or batch_s
            rates[size] = options.workers * size / batch_s
            if rates[size] < _GAIN * most:
                break  # what this size does not bring, a larger one will not
        batch = next(size for size, rate in rates.items() if rate >= _WORTH * max(rates.values()))
        return Candidate(
            runtime=runtime.name,
            precision=options.precision,
            ran=session.precision,
            latency_ms=round(1e3 * latency_s, 2),
            per_s=round(rates[batch], 1),
            batch=batch,
            workers=options.workers,
        ), findings
    finally:
        session.close()


def usable_processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _findings(stage: ModelStage, views: Sequence[View]) -> list[Findings]:
    """Of the views in turn; of fewer, but two at least, where the model is slow."""
    findings: list[Findings] = []
    until = time.perf_counter() + _COMPARING_S
    for view in views:
        findings += stage.score([view])
        if len(findings) >= 2 and time.perf_counter() > until:
            break
    return findings


def _median_s(stage: ModelStage, views: list[View], workers: int) -> float:
    """Seconds for one batch while `workers` of them run at once, decoding included, the first time left out."""

    def spent(first: bool) -> list[float]:
        times: list[float] = []
        while len(times) < (1 if first else 2) or (not first and sum(times) < _SIZE_S and len(times) < _ENOUGH):
            before = time.perf_counter()
            stage.score(views)
            times.append(time.perf_counter() - before)
        return times

    with ThreadPoolExecutor(workers) as pool:
        for first in (True, False):
            rounds = [pool.submit(spent, first) for _ in range(workers)]
            measured_s = [second for one in rounds for second in one.result()]
    return float(np.median(measured_s))


def _file(model: Model, runtimes: Sequence[Runtime]) -> Path:
    """Named by all that the outcome depends on."""
    said = [
        _FORMAT,
        model.manifest.model_dump_json(include=_MATTERS),
        processor(),
        usable_processors(),
        [(runtime.name, runtime.version()) for runtime in runtimes],
    ]
    name = hashlib.blake2s(json.dumps(said).encode(), digest_size=12).hexdigest()
    return cache_folder() / "measured" / f"{model.name}-{name}.json"


@cache
def processor() -> str:
    """The processor's name and instruction sets, as the system tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    said = dict(line.split("\t: ", 1) for line in text.splitlines() if "\t: " in line)
    return f"{platform.machine()} {said.get('model name', '')} {said.get('flags', said.get('Features', ''))}"


def _kept(file: Path) -> Measurement | None:
    try:
        return Measurement.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _log.warning("%s cannot be used (%s): measuring again", file, type(error).__name__)
        return None


def _keep(measurement: Measurement, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".", delete=False, encoding="utf-8") as part:
            part.write(measurement.model_dump_json(indent=1))
        Path(part.name).replace(file)
    except OSError as error:
        _log.warning("%s cannot be kept (%s): it will be measured again next time", file, error.strerror)
