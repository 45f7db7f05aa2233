"""The networks that the benches run: real architectures, untrained but settled on real pictures, made once by a process
of its own (so that the one that measures stays free of torch) and kept in the cache."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

from detectors.manifest import MANIFEST, Model, digest, read_model
from detectors.runtimes.base import Options, Precision, cache_folder
from detectors.runtimes.choose import measured
from detectors.runtimes.openvino import OpenVino
from detectors.stage import ModelStage
from pipeline.app.bench.clips import pictures
from pipeline.core.contracts import Generation
from pipeline.core.errors import MissingPart, ThresherError
from pipeline.core.payloads import ViewSpec
from pipeline.core.secrets import redact

Network: TypeAlias = Literal["mobilenet-v3-small", "resnet-18", "resnet-34", "resnet-50"]
Form: TypeAlias = Literal["f32", "int8"]

VIEW = ViewSpec(224, 224)
_MAX_BATCH = 8
_CLASSES = 1000
_PICTURES = 96
_RECIPE = 3  # count up when what is made changes
_log = logging.getLogger(__name__)


def prepared(network: Network, form: Form = "f32") -> Model:
    """The network as OpenVINO IR, from the cache or made now (up to a minute). Raises `MissingPart` without torch,
    or without NNCF for `int8`."""
    folder = _folder(network, form)
    if not folder.is_dir():
        _log.info("making %s in %s for the benches, once", network, form)
        command = [sys.executable, "-m", __name__, network, form]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own
        if not folder.is_dir():
            reason = redact(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no word of why")
            raise MissingPart(f"the network to measure could not be made: {reason}", network)
    return read_model(folder)


class WarmStage(ModelStage):
    """One that was warmed, so that no pipeline that is measured spends its time on it again."""

    def warm(self) -> None:
        pass


def stage(network: Network, precision: Precision, form: Form = "f32", workers: int | None = None) -> WarmStage:
    """The network as a stage, warmed. Also where the processor does not have `precision`: then it runs in f32.

    Where `workers` is not given, so many batches run at once as a run would choose: by measurement.
    """
    model = prepared(network, form)
    runtime = OpenVino()
    able = precision if precision in runtime.precisions(model) else "f32"
    best = measured(model, [runtime]).of(runtime.name, able)
    options = Options(precision=able, workers=workers or (best.workers if best else 1), max_batch=_MAX_BATCH)
    opened = WarmStage(network, model, runtime.open(model, options))
    ModelStage.warm(opened)
    return opened


def settled(network: Network) -> Any:
    """The very network in torch: a `torch.nn.Module`. Raises `MissingPart` without torch."""
    from detectors.networks.classifiers import classifier, settle

    built = classifier(network, _CLASSES)
    seen = pictures(VIEW, _PICTURES)
    settle(built, [seen[start : start + 32] for start in range(0, len(seen), 32)])
    return built


def _folder(network: Network, form: Form) -> Path:
    said = f"{_RECIPE} {metadata.version('openvino')} {_CLASSES} {_PICTURES} {VIEW}"
    key = hashlib.sha256(said.encode()).hexdigest()[:12]
    return cache_folder() / "bench" / f"{network}-{form}-{key}"


def _make(network: Network, form: Form) -> None:
    from ruamel.yaml import YAML

    from detectors.networks.export import save_openvino

    folder = _folder(network, form)
    if form == "int8":
        from detectors.compression.int8 import quantised

        _make(network, "f32")
        if not folder.is_dir():
            quantised(read_model(_folder(network, "f32")), pictures(VIEW, _PICTURES), folder)
        return
    if folder.is_dir():
        return
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    save_openvino(settled(network), VIEW.height, VIEW.width, part / "model.xml", half=False)
    manifest = {
        "name": network,
        "task": "classification",
        "weights": {
            "file": "model.xml",
            "sha256": digest(part / "model.xml"),
            "companions": {"model.bin": digest(part / "model.bin")},
            "format": "ir",
        },
        "view": {"width": VIEW.width, "height": VIEW.height},
        "input": {"layout": "nhwc", "dtype": "uint8"},
        "output": {"kind": "classification", "activation": "softmax"},
        "labels": [f"class-{number}" for number in range(_CLASSES)],
        "licence": "none: untrained, for measuring only",
        "origin": "torchvision's definition, random weights, batch norm settled on the shipped clip",
    }
    with (part / MANIFEST).open("w", encoding="utf-8") as out:
        YAML(typ="safe", pure=True).dump(manifest, out)
    part.rename(folder)


if __name__ == "__main__":
    try:
        _make(*TypeAdapter(tuple[Network, Form]).validate_python(tuple(sys.argv[1:])))
    except ThresherError as error:
        raise SystemExit(str(error)) from None


def cascade(name: str) -> Generation:
    """The shipped one, as a run has it. Raises `InputError`."""
    from pipeline.app.config.document import Document
    from pipeline.app.wiring import prepare_cascade

    return prepare_cascade(Document({"cascade": name}, Path.cwd()), None)
