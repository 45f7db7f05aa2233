"""Tensors in, tensors out: one runtime a file, behind the contract in `base`. Nothing is imported before it is used."""

from pipeline.core.catalogue import Catalogue

RUNTIMES = Catalogue(
    "runtime",
    "thresher.runtimes",
    {
        "openvino": "detectors.runtimes.openvino:OpenVino",
        "onnxruntime": "detectors.runtimes.onnxruntime:OnnxRuntime",
    },
)
