"""What a process that reads a source may say to the program: plain values, arrays, records, errors of ours.

It decodes what strangers send, so it may have been taken over. Unpickling anything else would let it run whatever it
likes in here; so names outside this list are refused, and messages have a size.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from pipeline.core.errors import SourceLost, ThresherError
from pipeline.core.payloads import View
from pipeline.core.records import Gap, Watermark

_NONSENSE = "its process said what cannot be read"
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})  # never ours; one of them can ask for all the memory there is
_LARGEST = 1 << 30  # a picture of 8192×8192 as RGB is a fifth of it
_NAMES = {
    "pipeline.core.records": {"Gap", "Watermark"},
    "pipeline.core.payloads": {"View"},
    "pipeline.core.errors": {"InputError", "MissingPart", "SourceLost", "FrameGone", "StageError"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "_codecs": {"encode"},
    "copyreg": {"__newobj__"},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _NAMES.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is none of what a source may say")
        return super().find_class(module, name)


_SHAPES: dict[str, tuple[type | tuple[type, ...], ...]] = {
    "chunk": (int, int, int, int, int, int, int, np.ndarray, str),
    "log": (str, int, str),
}


def message(pipe: Connection) -> tuple[str, Any]:
    """The next of `items`: its kind and its body. Raises `EOFError` or `OSError` where the process is gone,
    `SourceLost` for what is none."""
    return checked(decoded(pipe.recv_bytes(_LARGEST)))


def reply(pipe: Connection) -> tuple[bool, Any]:
    """The next of `replies`. Raises the same."""
    match decoded(pipe.recv_bytes(_LARGEST)):
        case (True, (View() | np.ndarray() | int()) as value):
            return True, value
        case (False, ThresherError() as error):
            return False, error
    raise SourceLost(_NONSENSE)


def decoded(data: bytes) -> Any:
    """Raises `SourceLost`."""
    try:
        if any(opcode.name in _PUTS for opcode, _, _ in pickletools.genops(data)):
            raise pickle.UnpicklingError("a place in memory of its own choice")
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # noqa: BLE001 garbled bytes may be anything to pickle
        raise SourceLost(f"{_NONSENSE} ({type(error).__name__})") from None


def checked(said: object) -> tuple[str, Any]:
    """Raises `SourceLost`."""
    if not isinstance(said, tuple) or not said or not isinstance(said[0], str):  # an array is equal to nothing
        raise SourceLost(_NONSENSE)
    match said:
        case ("open" as kind, str() as body) | ("item" as kind, (Gap() | Watermark()) as body):
            return kind, body
        case ("end" as kind, None as body) | ("error" as kind, ThresherError() as body):
            return kind, body
        case ("chunk" | "log" as kind, tuple() as body):
            shape = _SHAPES[kind]
            if len(body) == len(shape) and all(map(isinstance, body, shape)):
                return kind, body
    raise SourceLost(_NONSENSE)
