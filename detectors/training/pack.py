"""From a trained network to a model folder that runs without torch: graph, manifest, pictures of its own kind."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from detectors.datasets.base import Sample
from detectors.manifest import (
    MANIFEST,
    SAMPLES,
    Input,
    Manifest,
    Model,
    Output,
    Weights,
    aside,
    digest,
    write_manifest,
)
from detectors.training.recipe import Recipe
from pipeline.core.errors import InputError
from pipeline.core.media import Medium
from pipeline.core.payloads import ViewSpec
from pipeline.core.pictures import BadPicture, encode
from pipeline.core.sounds import SUFFIXES

_SHOWN = 8  # pictures that go with a model
_UNKNOWN = "0" * 64


def manifest_of(name: str, recipe: Recipe, labels: Sequence[str], tile: int | None = None) -> Manifest:
    """The manifest of a network that has no weights yet."""
    head = recipe.network.head
    output = (
        Output(kind="classification")
        if head == "classification"
        else Output(kind="heatmap", score_floor=0.02, iou=0.3, rival=0.7)
    )
    return Manifest(
        name=name,
        task="classification" if head == "classification" else "detection",
        weights=no_weights(),
        view=recipe.view.model_copy(update={"tile": tile}),
        input=Input(layout="nhwc", dtype="uint8"),
        output=output,
        labels=tuple(labels),
        licence="yours",
    )


def no_weights() -> Weights:
    """Of a network that was not written yet."""
    return Weights(file="model.xml", sha256=_UNKNOWN, format="ir", companions={"model.bin": _UNKNOWN})


def packed(
    network: Any,
    manifest: Manifest,
    samples: Sequence[Sample],
    folder: Path,
    said: Mapping[str, Any],
    *,
    form: Literal["ir", "onnx"] = "ir",
) -> Model:
    """Write `network` into `folder` as OpenVINO IR with weights in half precision, or as ONNX in float32, whole or not
    at all; a folder that is there is replaced. `said` goes into the manifest (data, origin, licence, measured). Raises
    `InputError`, and `MissingPart` without what writes ONNX."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        weights = (_ir if form == "ir" else _onnx)(network, manifest, part)
        full = manifest.model_copy(update={"weights": weights, **said})
        write_manifest(full, part / MANIFEST)
        show(samples, part / SAMPLES)
        take_place(part, folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise InputError(f"cannot be written: {error.strerror}", str(folder)) from None
    return Model(full, folder / weights.file)


def _ir(network: Any, manifest: Manifest, folder: Path) -> Weights:
    from detectors.networks.export import save_openvino, save_signal
    from detectors.networks.pyramid import Reading

    file, beside, spec = folder / "model.xml", folder / "model.bin", manifest.view.spec()
    if isinstance(spec, ViewSpec):
        save_openvino(Reading(network).eval(), spec.height, spec.width, file, any_size=spec.tile is not None)
    else:
        save_signal(reading_of(network, spec.medium), spec, OUTPUTS[spec.medium], file)
    companions = {beside.name: digest(beside)}
    return Weights(file=file.name, sha256=digest(file), format="ir", companions=companions, precision="f16")


OUTPUTS: dict[Medium, tuple[str, ...]] = {"sound": ("frames",), "text": ("scores", "places")}
"""What the exported networks answer, in order."""


def reading_of(network: Any, medium: Medium) -> Any:
    """A network of sound or text in the form in which it is exported."""
    if medium == "sound":
        from detectors.networks import audio

        return audio.Reading(network).eval()
    from detectors.networks import text

    return text.Reading(network).eval()


def _onnx(network: Any, manifest: Manifest, folder: Path) -> Weights:
    from detectors.networks.export import save_onnx
    from detectors.networks.pyramid import Reading

    view, file = manifest.picture, folder / "model.onnx"
    save_onnx(Reading(network).eval(), view.height, view.width, file, any_size=view.tile is not None)
    return Weights(file=file.name, sha256=digest(file), format="onnx", precision="f32")


def take_place(new: Path, folder: Path, keep: Path | None = None) -> None:
    """The model in `new` goes to `folder`, what is there to `keep`, or away. Wherever it dies, a whole model is in
    `folder` or `aside` of it, where it is found, too. Raises `OSError`, and all is as it was."""
    old = aside(folder)
    if folder.exists():
        _away(old)  # left behind by one that died later on
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    if keep is not None and old.exists():
        _away(keep)
        old.rename(keep)
    _away(old)


def _away(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def show(samples: Sequence[Sample], folder: Path) -> None:
    """A few pictures, evenly spread, as the model's source hands them over: as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in (
        []
        if samples[0].text is not None or samples[0].file.suffix.lower() in SUFFIXES
        else np.unique(np.linspace(0, len(samples) - 1, _SHOWN).round().astype(int))
    ):
        try:
            picture = samples[int(index)].image().rgb()
        except BadPicture:
            continue
        (folder / f"{len(list(folder.iterdir()))}.png").write_bytes(encode(picture, "png", 6))
