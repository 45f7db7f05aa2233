"""What is found out about a model of unknown origin before a runtime reads it: where it keeps its weights, and, in a
process with a bound, whether it takes all memory there is."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter

from detectors.manifest import WeightsFormat
from detectors.runtimes.base import cache_folder
from pipeline.core.errors import InputError

MOST_MEMORY = 6 << 30
"""Address space of the process in which a model is tried, beside sixteen times its file: what OpenVINO itself reserves
is some 2 GiB."""
TRIAL_S = 120.0
_TOO_MUCH, _COMPLAINS = 3, 4

# Field numbers of ONNX's protocol buffers.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "tensor": {13: "entry"},
}
_DEEPEST = 64


def external_files(file: Path) -> set[str]:
    """The files in which an ONNX model keeps weights, as it names them. Raises `InputError` where it cannot be told."""
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return set(_locations(data, 0, len(data), "model", 0))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(file)) from None
    except (IndexError, ValueError):  # an empty file among them
        raise InputError("is damaged, or no onnx model", str(file)) from None


def _locations(data: mmap.mmap, at: int, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    while at < end:
        tag, at = _number(data, at, end)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            _, at = _number(data, at, end)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            size, at = _number(data, at, end)
            if at + size > end:
                raise ValueError("cut off")
            inner = _INSIDE[kind].get(field)
            if inner == "entry":
                yield from _location(data, at, at + size)
            elif inner is not None:
                yield from _locations(data, at, at + size, inner, depth + 1)
            at += size
        else:
            raise ValueError("no field")


def _location(data: mmap.mmap, at: int, end: int) -> Iterator[str]:
    """Of one `external_data` entry, a key and a value."""
    said: dict[int, str] = {}
    while at < end:
        tag, at = _number(data, at, end)
        size, at = _number(data, at, end)
        said[tag >> 3] = data[at : at + size].decode("utf-8", "replace")
        at += size
    if said.get(1) == "location":
        yield said.get(2, "")


def _number(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("no number")


def tried(file: Path, weights_format: WeightsFormat, sha256: str) -> None:
    """Read, compile and run the model once in a process of its own that may take no more than `MOST_MEMORY` and
    `TRIAL_S`; what stood this is not tried again. Raises `InputError` where it did not. What else may be wrong with it
    is not told here: whoever opens it will."""
    stamp = cache_folder() / "tried" / sha256
    if sys.platform != "linux" or stamp.exists():
        return
    limit = MOST_MEMORY + 16 * file.stat().st_size
    command = [sys.executable, "-m", __name__, str(file), weights_format, str(limit)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        child = subprocess.run(  # noqa: S603  # ourselves
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"did not run once within {TRIAL_S:g} s, so it was refused", str(file)) from None
    if child.returncode in (0, _COMPLAINS):
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
        return
    why = "needs too much memory" if child.returncode == _TOO_MUCH else "brings down whoever reads it"
    raise InputError(f"{why} (it was tried with {limit >> 20} MiB): it was refused", str(file))


def _try(file: Path, weights_format: WeightsFormat, limit: int) -> int:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import numpy as np

    from detectors.runtimes.openvino import core, read_graph

    try:
        graph = read_graph(file, weights_format)
        request = core().compile_model(graph, "CPU", {"NUM_STREAMS": "1"}).create_infer_request()
        fed = {}
        for port in graph.inputs:
            shape = [side.get_length() if side.is_static else 1 for side in port.get_partial_shape()]
            fed[port] = np.zeros(shape, port.get_element_type().to_dtype())
        request.infer(fed)
    except MemoryError:
        return _TOO_MUCH
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent will meet it, too
        return _TOO_MUCH if any(word in str(error) for word in ("bad_alloc", "allocate", "memory")) else _COMPLAINS
    return 0


if __name__ == "__main__":
    sys.exit(_try(Path(sys.argv[1]), TypeAdapter(WeightsFormat).validate_python(sys.argv[2]), int(sys.argv[3])))
