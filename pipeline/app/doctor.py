"""What this machine has, what it lacks, and the command that brings it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "mpeg4")
_INPUTS = ("rtsp", "hls", "rtp", "mpegts")
_CAMERAS = {"video4linux2", "v4l2", "video4linux2,v4l2", "avfoundation", "dshow"}


@dataclass(frozen=True)
class Part:
    """A part that one feature needs, and how it is got. `works` raises where it is not there."""

    name: str
    serves: str
    get: str
    works: Callable[[], object]


def _loads(name: str) -> Callable[[], object]:
    """Really imported: what it lacks of the system shows only then."""
    return lambda: importlib.import_module(name)


def _is_there(name: str) -> Callable[[], object]:
    """Not imported, for that takes seconds."""

    def look() -> None:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"No module named {name!r}")

    return look


def _microphones() -> None:
    from pipeline.core.errors import ThresherError
    from sources.microphone import sounddevice

    try:
        sounddevice()
    except ThresherError as error:
        raise ImportError(str(error)) from None


OPTIONAL = (
    Part("OpenCV", "drawing annotated video", "apt-get install libgl1 libglib2.0-0", _loads("cv2")),
    Part("PortAudio", "microphones", "pip install 'thresher[sound]'; apt-get install libportaudio2", _microphones),
    Part("onnxruntime", "a second runtime", "pip install 'thresher[onnxruntime]'", _is_there("onnxruntime")),
    Part("torch", "torchvision detectors, CUDA", "pip install 'thresher[torch]'", _is_there("torch")),
    Part("websockets", "messages over WebSockets", "pip install 'thresher[chat]'", _is_there("websockets")),
    Part("aiortc", "WebRTC: browsers and OBS as cameras", "pip install 'thresher[web]'", _is_there("aiortc")),
    Part("aiohttp", "webhooks", "pip install 'thresher[webhook]'", _is_there("aiohttp")),
    Part("paho-mqtt", "MQTT", "pip install 'thresher[mqtt]'", _is_there("paho")),
    Part("confluent-kafka", "Kafka", "pip install 'thresher[kafka]'", _is_there("confluent_kafka")),
    Part("redis", "Redis streams", "pip install 'thresher[redis]'", _is_there("redis")),
    Part("psycopg", "PostgreSQL", "pip install 'thresher[postgres]'", _is_there("psycopg")),
    Part("minio", "clips in S3-compatible stores", "pip install 'thresher[s3]'", _is_there("minio")),
    Part(
        "trackers",
        "tracks of what moves",
        "pip install 'thresher[track]'",
        _is_there("trackers"),
    ),
    Part("nncf", "int8 compression", "pip install 'thresher[compress]'", _is_there("nncf")),
)


def machine() -> dict[str, Any]:
    """Processor, cores in reach, memory, system, versions."""
    import psutil

    from pipeline.app.bench.machine import machine as told

    memory = psutil.virtual_memory()
    return told() | {
        "memory_mib": memory.total >> 20,
        "memory_free_mib": memory.available >> 20,
        "executable": sys.executable,
    }


def codecs() -> dict[str, bool]:
    """Whether the decoders that cameras and files want are compiled in."""
    from av.codec import codecs_available

    return {name: name in codecs_available for name in _CODECS}


def inputs() -> dict[str, bool]:
    """Whether FFmpeg here can open these kinds of input."""
    from av.format import formats_available

    known = {name: name in formats_available for name in _INPUTS}
    return known | {"webcam": not _CAMERAS.isdisjoint(formats_available)}


def cameras() -> list[str]:
    """Video devices that Linux shows; on other systems none can be listed without opening them."""
    return sorted(str(path) for path in Path("/dev").glob("video*"))


def optional() -> list[dict[str, Any]]:
    """Each optional part: what it serves, and, where it is missing, how it is got."""
    out: list[dict[str, Any]] = []
    for part in OPTIONAL:
        try:
            part.works()
        except ImportError as error:
            out.append(
                {"part": part.name, "serves": part.serves, "missing": str(error).splitlines()[0], "get": part.get}
            )
        else:
            out.append({"part": part.name, "serves": part.serves, "missing": None, "get": None})
    return out


def runtimes() -> list[dict[str, Any]]:
    """Each runtime: its version, or how it is got."""
    from detectors.runtimes import RUNTIMES

    out = []
    for kind in RUNTIMES.kinds():
        runtime = RUNTIMES.load(kind)()
        hint = runtime.missing()
        out.append({"runtime": kind, "version": None if hint else runtime.version(), "get": hint})
    return out


def measurement(name: str) -> dict[str, Any]:
    """How fast the shipped model runs here in each runtime and precision, which of them is used, and why others are
    refused. Measured now if it never was."""
    from detectors.choice import ModelChoice, find_model, readers
    from detectors.runtimes.choose import measured
    from pipeline.core.errors import InputError

    try:
        model = find_model(ModelChoice(model=name))
        if model.manifest.weights.url is not None and not model.weights.exists():
            return {"model": name, "ways": [], "missing": "its weights are fetched at first use"}
        taken = measured(model, readers(model))
        chosen = taken.chosen
    except InputError as error:
        return {"model": name, "ways": [], "missing": str(error)}
    ways = [
        {
            "runtime": one.runtime,
            "precision": one.ran or one.precision,
            "ms": one.latency_ms,
            "per_s": one.per_s,
            "batch": one.batch,
            "moved": one.moved,
            "refused": one.refused or None,
            "used": one is chosen,
        }
        for one in taken.candidates
    ]
    return {"model": name, "ways": ways, "missing": None}
