"""Out of torch. What is saved begins at uint8 `[N, height, width, 3]` with N free, the form that `Image.view` makes:
layout, scale and normalisation are the graph's own, so that nobody can get them wrong later."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectors.runtimes.openvino import write_graph
from pipeline.core.errors import MissingPart
from pipeline.core.media import Spec

INPUT, OUTPUT = "images", "logits"
_MOST = 1024  # an exported batch dimension wants an upper bound
_COARSEST = 32  # stride of the networks: a side is so many pixels, or a multiple of that


def save_openvino(
    network: Any, height: int, width: int, path: Path, *, half: bool = True, any_size: bool = False
) -> None:
    """Write `network` (float32 `[N, 3, H, W]` in 0…1 → one array) as OpenVINO IR: `path` (.xml) and its .bin, weights
    in half precision where `half`. With `any_size`, pictures of other sizes may be given to it, too. Raises
    `MissingPart` without torch or OpenVINO, `OSError` where it cannot be written."""
    try:
        from openvino.tools.ovc import convert_model
    except ImportError as error:
        raise MissingPart("OpenVINO is missing: pip install openvino", "detectors.networks") from error
    import torch

    # by tracing, deprecated as it is: OpenVINO fuses more of a traced graph (hard-swish into convolutions) than of an
    # exported program, and MobileNetV3-Small runs 5 to 15 % faster
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with _quiet():
        sides = (-1, -1) if any_size else (height, width)
        model = convert_model(_from_bytes(network), example_input=example, input=[(-1, *sides, 3)])
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_graph(model, path, half=half)


def save_signal(network: Any, spec: Spec, outputs: Sequence[str], path: Path, *, half: bool = True) -> None:
    """Write a network that begins at views of `spec` (sound, text), any number of them, as OpenVINO IR. Raises as
    `save_openvino` does."""
    try:
        from openvino.tools.ovc import convert_model
    except ImportError as error:
        raise MissingPart("OpenVINO is missing: pip install openvino", "detectors.networks") from error
    import torch

    example = torch.zeros(2, *spec.shape, dtype=getattr(torch, spec.dtype))
    with _quiet():
        shape = (-1,) if spec.medium == "text" else spec.shape  # of text, no more is read than there is
        model = convert_model(network, example_input=example, input=[(-1, *shape)])
    model.inputs[0].get_tensor().set_names({spec.medium})
    for port, name in zip(model.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_graph(model, path, half=half)


def save_onnx(network: Any, height: int, width: int, path: Path, *, any_size: bool = False) -> None:
    """The same as one ONNX file, float32; other sizes are multiples of 32. Raises `MissingPart` without torch or
    onnxscript."""
    try:
        import onnxscript  # noqa: F401  # torch's exporter is built on it
        import torch
    except ImportError as error:
        raise MissingPart('this needs torch and onnxscript: pip install "thresher[torch,compress]"') from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        program = torch.onnx.export(
            _exported(network, height, width, any_size), input_names=[INPUT], output_names=[OUTPUT], verbose=False
        )
        program.save(path, external_data=False)


def _exported(network: Any, height: int, width: int, any_size: bool) -> Any:
    """`network` behind the step from bytes, as a `torch.export` program whose batch is free, and its sides."""
    import torch

    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    free = {0: torch.export.Dim("batch", min=1, max=_MOST)}
    if any_size:
        free |= {
            axis: _COARSEST * torch.export.Dim(name, min=1, max=_MOST) for axis, name in ((1, "rows"), (2, "columns"))
        }
    return torch.export.export(_from_bytes(network), (example,), dynamic_shapes=(free,))


def _from_bytes(network: Any) -> Any:
    """`network` behind the step from uint8 `[N, H, W, 3]`."""
    from detectors.networks.module import Module

    class FromBytes(Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            return self.network(images.permute(0, 3, 1, 2).float() / 255)

    return FromBytes().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk of their own future (deprecations) and progress; neither helps who exports."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
