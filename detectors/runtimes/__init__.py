"""Tensors in, tensors out: one runtime a file, behind the contract in `base`. Nothing is imported before it is used."""

from pipeline.core.catalogue import Catalogue

RUNTIMES = Catalogue(
    "runtime",
    "thresher.runtimes",
    {
        "openvino": "detectors.runtimes.openvino:OpenVino",
        "onnxruntime": "detectors.runtimes.onnxruntime:OnnxRuntime",
        "torch": "detectors.runtimes.torch:Torch",
    },
)

READERS: dict[str, tuple[str, ...]] = {
    "onnx": ("openvino", "onnxruntime"),
    "ir": ("openvino",),
    "tensorflow": ("openvino",),
    "safetensors": ("torch",),
    "torchvision": ("torch",),
}
"""Which of them are worth measuring for a format of weights, so that no other is imported only to say no. A third
party's runtime is used where a config names it."""
