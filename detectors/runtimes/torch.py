"""Torch: bare weights of torchvision's architectures. On CUDA where there is any, else on the processor, where every
other runtime is faster: it is here for networks that cannot leave torch.

Weights are read as safetensors. What torchvision's publisher gives are pickles: they are verified by their digest, read
once by torch's restricted unpickler, and kept as safetensors.
"""

from __future__ import annotations

import logging
import os
import pickle
from importlib import metadata, util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from detectors.download import fetched
from detectors.manifest import Model
from detectors.runtimes.base import Options, Precision, Runtime, Session, Tensors, batch_sizes, cache_folder
from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError, MissingPart, StageError
from pipeline.core.records import Array
from pipeline.core.secrets import redact

_FAMILY = "torchvision/"
_log = logging.getLogger(__name__)


class Torch(Runtime):
    name: ClassVar[str] = "torch"

    def missing(self) -> str | None:
        there = all(util.find_spec(package) for package in ("torch", "torchvision", "safetensors"))
        return None if there else "pip install 'thresher[torch]'"

    def version(self) -> str:
        return metadata.version("torch")

    def precisions(self, model: Model) -> tuple[Precision, ...]:
        if model.manifest.weights.format not in {"safetensors", "torchvision"}:
            return ()
        return ("f32", "f16") if _torch().cuda.is_available() else ("f32",)

    def open(self, model: Model, options: Options) -> Session:
        torch = _torch()
        network = _network(model)
        weights = _weights(model)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(
                f"these weights do not fit {model.manifest.weights.architecture} with {len(model.manifest.labels)} "
                f"labels: {_reason(error)}",
                str(model.weights),
            ) from None
        cuda = torch.cuda.is_available()
        network = network.eval().requires_grad_(False).to("cuda" if cuda else "cpu", memory_format=torch.channels_last)
        return TorchSession(network, model, options, "cuda" if cuda else "cpu")


class TorchSession(Session):
    runtime = Torch.name

    def __init__(self, network: Any, model: Model, options: Options, device: str) -> None:
        torch = _torch()
        manifest = model.manifest
        self.precision = "f16" if options.precision == "f16" and device == "cuda" else "f32"
        self.workers = options.workers
        self._detects = manifest.task == "detection"
        # detectors work through a batch picture by picture; on a processor it only costs memory
        alone = self._detects and device == "cpu"
        self.batches = (1,) if alone else batch_sizes(options.max_batch)
        self.outputs = (
            {"boxes": (None, None, 4), "scores": (None, None), "labels": (None, None), "counts": (None,)}
            if self._detects
            else {"scores": (None, len(manifest.labels))}
        )
        self._name = manifest.name
        self._device = device
        self._most = manifest.output.max_boxes
        self._network = network if self._detects or device == "cpu" else torch.compile(network)
        self._mean = torch.tensor(manifest.input.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(manifest.input.std, device=device).view(1, 3, 1, 1)

    def infer(self, batch: Array) -> Tensors:
        torch = _torch()
        try:
            with torch.inference_mode(), torch.autocast(self._device, torch.float16, enabled=self.precision == "f16"):
                given = torch.from_numpy(np.require(batch, requirements=["C", "W"])).to(self._device)
                pictures = (given.permute(0, 3, 1, 2).float() - self._mean) / self._std
                if self._detects:
                    return self._padded(self._network(list(pictures)))
                return {"scores": self._network(pictures).float().cpu().numpy()}
        except RuntimeError as error:
            raise StageError(f"{self._name}: torch failed on {tuple(batch.shape)}: {_reason(error)}") from None

    def _padded(self, found: list[dict[str, Any]]) -> Tensors:
        """Each picture's best boxes (as they come: best first) in arrays as long as the longest."""
        counts = np.array([min(self._most, len(one["scores"])) for one in found], np.int64)
        most = int(counts.max(initial=0))
        padded: Tensors = {
            "boxes": np.zeros((len(found), most, 4), np.float32),
            "scores": np.zeros((len(found), most), np.float32),
            "labels": np.zeros((len(found), most), np.int64),
        }
        for index, (one, count) in enumerate(zip(found, counts, strict=True)):
            for name, rows in padded.items():
                rows[index, :count] = one[name][:count].cpu().numpy()
        return padded | {"counts": counts}

    def close(self) -> None:
        self._network = None


def _torch() -> Any:
    try:
        import torch
    except (ImportError, OSError) as error:
        raise MissingPart(f"torch cannot be loaded ({redact(error)}): pip install 'thresher[torch]'") from None
    return torch


def _network(model: Model) -> Any:
    """The architecture that the manifest names, without weights."""
    manifest = model.manifest
    place = f"{manifest.name}: weights.architecture"
    family, _, name = (manifest.weights.architecture or "").partition("/")
    try:
        from torchvision import models
    except (ImportError, OSError, RuntimeError) as error:  # a torchvision of another torch raises the last
        raise MissingPart(f"torchvision cannot be loaded ({redact(error)}): pip install 'thresher[torch]'") from None
    known = models.list_models(models if manifest.task == "classification" else models.detection)
    if f"{family}/" != _FAMILY or name not in known:
        raise InputError(
            f'torchvision has no {manifest.task} network "{manifest.weights.architecture}".'
            f"{nearest(name, known)} Write {_FAMILY}NAME.",
            place,
        )
    if manifest.input.layout != "nchw" or manifest.input.dtype != "float32":
        raise InputError("torchvision's networks take nchw float32", f"{manifest.name}: input")
    classes = manifest.output.class_offset + len(manifest.labels)
    if manifest.task == "classification":
        return models.get_model(name, weights=None, num_classes=classes)
    network = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    # the view already has the size the network shall see: its own resizer has nothing left to do
    network.transform.fixed_size = (manifest.picture.width, manifest.picture.height)
    return network


def _weights(model: Model) -> Any:
    """The state dictionary, from safetensors: the model's own, or those kept of what was downloaded."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    asked = model.manifest.weights
    file = model.weights
    if asked.format == "torchvision":
        file = cache_folder() / "weights" / f"{Path(asked.file).stem}-{asked.sha256[:12]}.safetensors"
        if not file.is_file():
            _convert(model, file)
    elif not file.is_file() and asked.url is not None:
        file = fetched(asked.url, asked.sha256, asked.file)
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"is damaged, or no safetensors file: {_reason(error)}", str(file)) from None


def _convert(model: Model, into: Path) -> None:
    """The downloaded pickle as safetensors. Raises `InputError` if it holds anything but tensors."""
    from safetensors.torch import save_file

    torch, asked = _torch(), model.manifest.weights
    pickled = model.weights
    if not pickled.is_file():
        assert asked.url is not None, "the manifest's own check"
        pickled = fetched(asked.url, asked.sha256, asked.file)
    try:
        state = torch.load(pickled, map_location="cpu", weights_only=True)  # safe since torch 2.6; ours is newer
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"is damaged, or holds more than weights: {_reason(error)}", str(pickled)) from None
    part = into.with_name(f".{os.getpid()}.{into.name}")
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, part)
        part.replace(into)
    except (OSError, AttributeError, RuntimeError) as error:
        raise InputError(f"cannot be kept as safetensors: {_reason(error)}", str(into)) from None
    finally:
        part.unlink(missing_ok=True)
    _log.info("kept %s as %s", pickled.name, into)


def _reason(error: BaseException) -> str:
    return " ".join(redact(error).split())[:240] or type(error).__name__
