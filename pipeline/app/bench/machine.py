"""On what a figure was taken: without this it says nothing."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_TOLD = (
    "sse4_2", "avx", "avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16",
    "sve", "sve2",
)  # fmt: skip
_PACKAGES = ("thresher", "av", "numpy", "openvino", "onnxruntime", "torch", "torchvision", "opencv-python", "nncf")


def machine() -> dict[str, Any]:
    """Processor, its instruction sets that matter to models, usable cores, system and versions."""
    model, flags = processor()
    return {
        "processor": model,
        "instruction_sets": [flag for flag in _TOLD if flag in flags],
        "cores": cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
    }


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> tuple[str, frozenset[str]]:
    """Its name and flags, as Linux tells them; elsewhere a name alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or facts.get("CPU part") or platform.machine()
    return name, frozenset((facts.get("flags") or facts.get("Features") or "").split())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
