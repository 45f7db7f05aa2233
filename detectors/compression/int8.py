"""Post-training quantisation with NNCF: weights and activations in 8 bits, ranges estimated from real pictures."""

from __future__ import annotations

import contextlib
import importlib
import logging
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detectors.manifest import MANIFEST, Input, Manifest, Model, Weights, digest, write_manifest
from detectors.runtimes.openvino import openvino, read_graph, write_graph
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.records import Array
from pipeline.core.secrets import redact

LEAST = 8  # pictures; NNCF itself would take one and guess


def quantised(model: Model, pictures: Array, folder: Path) -> Model:
    """An int8 form of `model` in a new `folder`: OpenVINO IR that begins at uint8 `[N, height, width, 3]`, a manifest.

    `pictures` are views as the model sees them when it runs, uint8 `[P, height, width, 3]`, P ≥ 8 (a few hundred are
    better): the ranges of all activations are estimated from them, so noise or one scene over and over will not do.
    Sees to it that the folder is whole or not there. Says nothing of whether the form is any good: see `parity`.
    Raises `InputError` for weights that cannot be quantised or a folder that exists, `MissingPart` without NNCF.
    """
    nncf = _nncf()
    height, width = model.manifest.picture.height, model.manifest.picture.width
    if pictures.shape[1:] != (height, width, 3) or pictures.dtype != np.uint8 or len(pictures) < LEAST:
        raise InputError(
            f"needs at least {LEAST} pictures, uint8 [N, {height}, {width}, 3], got {pictures.dtype} {pictures.shape}",
            model.name,
        )
    if folder.exists():
        raise InputError("is already there; choose another place or remove it", str(folder))
    graph = _from_bytes(model)
    with _quiet():
        try:
            small = nncf.quantize(
                graph,
                nncf.Dataset([picture[None] for picture in pictures]),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(pictures),
                target_device=nncf.TargetDevice.CPU,
            )
        except (RuntimeError, ValueError, nncf.ValidationError, nncf.UnsupportedModelError) as error:
            raise InputError(f"cannot be quantised: {_line(error)}", str(model.weights)) from None
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        write_graph(small, part / "model.xml", half=False)
        write_manifest(_manifest(model.manifest, part, len(pictures)), part / MANIFEST)
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise InputError(f"cannot be written: {error.strerror}", str(folder)) from None
    return Model(_manifest(model.manifest, folder, len(pictures)), folder / "model.xml")


def _nncf() -> Any:
    # it imports torch where there is one, which then remarks that this machine has no CUDA compiler
    remarks = logging.getLogger("torch.utils.cpp_extension")
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        with _quiet():
            return importlib.import_module("nncf")
    except ImportError as error:
        raise MissingPart(
            'quantisation needs NNCF: pip install "thresher[compress]"', "detectors.compression"
        ) from error
    finally:
        remarks.setLevel(level)


def _from_bytes(model: Model) -> Any:
    """The graph of `model` with everything that its manifest says of the input built in."""
    asked = model.manifest.input
    graph = read_graph(model.weights, model.manifest.weights.format)
    if asked == Input(layout="nhwc", dtype="uint8", name=asked.name):
        return graph
    ov = openvino()
    prepared = ov.preprocess.PrePostProcessor(graph)
    port = prepared.input(asked.name) if asked.name else prepared.input()
    port.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    port.model().set_layout(ov.Layout(asked.layout.upper()))
    port.preprocess().convert_element_type(ov.Type.f32).mean(list(asked.mean)).scale(list(asked.std))
    return prepared.build()


def _manifest(original: Manifest, folder: Path, pictures: int) -> Manifest:
    return original.model_copy(
        update={
            "weights": Weights(
                file="model.xml",
                sha256=digest(folder / "model.xml"),
                format="ir",
                companions={"model.bin": digest(folder / "model.bin")},
                precision="int8",
            ),
            "input": Input(layout="nhwc", dtype="uint8"),
            "origin": f"int8 of {original.name} {original.version} ({original.weights.file}, "
            f"SHA-256 {original.weights.sha256}), calibrated on {pictures} pictures. {original.origin}".strip(),
            "measured": {},  # the figures of another form are not its own
        }
    )


def _line(error: BaseException) -> str:
    """The last line of a library's message: the others say where in its source it happened."""
    lines = [line.strip() for line in redact(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF's progress bars go to standard error, where progress belongs; its chatter nowhere."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
