"""Which model a stage runs, as a config says it, and the stage that comes of it.

cheap: {model: people-ssdlite}                     # shipped
cheap: {model: models/pcb}                         # a folder with a manifest
cheap: {model: ./320n.onnx, output: yolo}          # a bare file
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field

from detectors.foreign import tried
from detectors.manifest import MANIFEST, Input, Model, Output, OutputKind, ViewSettings, aside, check_whole, read_model
from detectors.runtimes import READERS, RUNTIMES
from detectors.runtimes.base import PRECISIONS, Options, Precision, Runtime
from pipeline.core.catalogue import nearest
from pipeline.core.contracts import Stage
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.settings import Name, Settings

ZOO = Path(__file__).parent / "zoo"

PixelScale: TypeAlias = Literal["raw", "unit", "imagenet"]
"""0 to 255 as they are; divided by 255; divided by 255 and normalised by ImageNet's mean and deviation."""


class ModelChoice(Settings):
    """A model, and whatever about it is not to be found out or measured."""

    model: str = Field(description="a shipped model's name, a model folder, or a .onnx, .xml or .pb file")
    name: Name | None = Field(default=None, description="the stage's name in results (default: the model's)")
    output: OutputKind | Output | None = Field(default=None, description="how to read a bare file's answers")
    labels: tuple[str, ...] | None = Field(default=None, description="a bare file's labels (default: its metadata's)")
    view: ViewSettings | None = Field(default=None, description="a bare file's picture (default: the graph's own size)")
    input: PixelScale | Input | None = Field(default=None, description="how a bare file wants its pixels")
    runtime: str | None = Field(default=None, description="openvino, onnxruntime or torch (default: by measurement)")
    precision: Precision | None = Field(default=None, description="f32, bf16 or f16 (default: by measurement)")
    max_batch: int | None = Field(default=None, ge=1, le=256, description="default: by measurement")
    workers: int | None = Field(
        default=None, ge=1, le=64, description="batches that run at once (default: by measurement)"
    )


def zoo_names() -> list[str]:
    """The shipped models."""
    return sorted(file.parent.name for file in ZOO.glob(f"*/{MANIFEST}"))


def find_model(choice: ModelChoice) -> Model:
    """The model of a choice: found, read, digests verified. Raises `InputError`."""
    shipped = ZOO / choice.model
    bare = (choice.output, choice.labels, choice.view, choice.input) != (None,) * 4
    if choice.model in zoo_names():
        folder = shipped
    else:
        path = Path(os.path.expanduser(choice.model))
        if not os.path.exists(path) and (aside(path) / MANIFEST).is_file():
            path = aside(path)
        if path.is_file() and path.name != MANIFEST:
            from detectors.bare import bare_model

            return bare_model(path, choice)
        if not os.path.exists(path):
            raise _unknown(choice.model)
        folder = path if path.is_dir() else path.parent
    if bare:
        raise InputError(
            f"output, labels, view and input describe a bare file; this model's {MANIFEST} says them", choice.model
        )
    return read_model(folder)


def build_stage(choice: ModelChoice) -> Stage:
    """The stage of a choice: model opened in the runtime and precision that were asked for, or else in those that
    measured best on this machine (measured now, which takes some seconds, if they never were).

    Not warmed yet. Raises `InputError`, or `MissingPart` where something has to be installed or fetched.
    """
    from detectors.stage import ModelStage

    model = _fetched(find_model(choice))
    weights = model.manifest.weights
    if weights.format in {"onnx", "ir", "tensorflow"} and ZOO not in model.weights.parents:
        tried(model.weights, weights.format, weights.sha256)
    if model.manifest.tile is None:
        runtime, options = _settled(model, choice)
        return ModelStage(choice.name or model.name, model, runtime.open(model, options))
    tiles = model.of_tiles()  # what it mostly sees; whole pictures come one by one, off the path
    runtime, options = _settled(tiles, choice)
    whole = runtime.open(model, replace(options, max_batch=1))
    return ModelStage(choice.name or model.name, model, whole, runtime.open(tiles, options))


def build_audit_stage(choice: ModelChoice, live: Stage) -> Stage:
    """The model of `live` (the stage of the choice) once more in the very form that runs there, for one picture at a
    time on one thread: beside it, and never in its way. Raises as `build_stage` does."""
    from detectors.stage import ModelStage

    model = _fetched(find_model(choice))
    said = live.describe()
    form: dict[str, object] = {"runtime": said["runtime"], "workers": 1, "max_batch": 1}
    if said["precision"] in PRECISIONS:
        form["precision"] = said["precision"]  # else it is int8, and what is around that is settled without measuring
    runtime, options = _settled(model, choice.model_copy(update=form))
    options = replace(options, threads=1)
    return ModelStage(f"{choice.name or model.name}-audit", model, runtime.open(model, options))


def readers(model: Model) -> list[Runtime]:
    """Our runtimes that are installed and can read it. Raises `MissingPart` if there is none."""
    able: list[Runtime] = []
    lacking: list[str] = []
    for kind in READERS[model.manifest.weights.format]:
        runtime: Runtime = RUNTIMES.load(kind)()
        if (hint := runtime.missing()) is not None:
            lacking.append(f"{kind}: {hint}")
        elif runtime.precisions(model):
            able.append(runtime)
    if not able:
        hint = f" (not installed: {'; '.join(lacking)})" if lacking else ""
        raise MissingPart(f"no installed runtime reads {model.manifest.weights.format} weights{hint}", model.name)
    return able


def _settled(model: Model, choice: ModelChoice) -> tuple[Runtime, Options]:
    from detectors.runtimes.choose import MOST_BATCH, measured

    medium = model.manifest.view.spec().medium
    most = MOST_BATCH[medium]
    options = Options(workers=choice.workers or 1, max_batch=choice.max_batch or most)
    if choice.precision is None and model.manifest.weights.precision == "int8":
        # what is left around int8 is computed in f32: one form, so that a certificate which says int8 means this one
        choice = choice.model_copy(update={"precision": "f32"})
    if choice.runtime is not None:
        runtime: Runtime = RUNTIMES.load(choice.runtime, "runtime")()
        if (hint := runtime.missing()) is not None:
            raise MissingPart(f"{choice.runtime} is not installed: {hint}", "runtime")
        candidates = [runtime]
        if not runtime.precisions(model):
            raise InputError(f"{choice.runtime} does not read {model.manifest.weights.format} weights", "runtime")
    else:
        candidates = readers(model)
    if choice.precision is not None:
        candidates = [r for r in candidates if choice.precision in r.precisions(model)]
        if not candidates:
            able = [p for p in PRECISIONS if any(p in r.precisions(model) for r in readers(model))]
            raise InputError(
                f"this machine does not run it in {choice.precision}; it does in {', '.join(able)}", "precision"
            )
        candidates = candidates[:1]
        options = replace(options, precision=choice.precision)
        if choice.workers and choice.max_batch:
            return candidates[0], options  # nothing to find out
    elif len(candidates) == 1 and len(only := candidates[0].precisions(model)) == 1:
        return candidates[0], replace(options, precision=only[0])  # nothing to choose

    measurement = measured(model, candidates)
    best = measurement.chosen if choice.precision is None else measurement.of(candidates[0].name, choice.precision)
    if best is None or (choice.precision is not None and not best.per_s):
        return candidates[0], options  # asked for all the same: opening it will say what is wrong
    chosen = next(r for r in candidates if r.name == best.runtime)
    if medium == "text":  # by itself it does more with a batch a processor; but Python is busy with what is around it,
        # and needs the other: one large batch at a time brings 40 % more messages through a pipeline here
        best = best.model_copy(update={"workers": 1, "batch": most})
    return chosen, Options(
        precision=best.precision,
        workers=choice.workers or best.workers,
        max_batch=choice.max_batch or best.batch,
    )


def _fetched(model: Model) -> Model:
    """Weights that are published elsewhere, brought here. (Those of torchvision its own runtime fetches, since it does
    not keep them as they come.)"""
    weights = model.manifest.weights
    if weights.url is None or weights.format == "torchvision" or model.weights.exists():
        return model
    from detectors.download import fetched

    file = fetched(weights.url, weights.sha256, weights.file)
    if weights.format == "onnx":
        check_whole(file, {})
    return replace(model, weights=file)


def _unknown(name: str) -> InputError:
    if "/" in name or "\\" in name or Path(name).suffix:
        return InputError("there is no such model file or folder", name)
    known = zoo_names()
    return InputError(f'there is no model called "{name}".{nearest(name, known)} Shipped: {", ".join(known)}.', "model")
