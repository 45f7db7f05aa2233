"""A microphone, or whatever else the system can record from: ALSA, PulseAudio and PipeWire on Linux, Core Audio on
macOS, WASAPI on Windows (PortAudio, by `sounddevice`)."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar, TypeAlias

import numpy as np
from pydantic import Field

from pipeline.core.errors import InputError, MissingPart, SourceLost
from pipeline.core.records import Array, Item, Watermark
from pipeline.core.secrets import redact
from sources.ffmpeg import new_epoch
from sources.hearing import MOST_CHANNELS, SoundSource
from sources.sound_windows import SoundWindows

log = logging.getLogger(__name__)

_TICK_S = 0.5
_DEAD_S = 2.0  # a device hands over samples in silence, too: nothing at all means that it is gone
_SLOW_START_S = 6.0  # PulseAudio may take two seconds to begin
_LATENCY_S = 0.05
_HELD = 256  # blocks between the callback and the reader, some 10 ms each

# [n, channels], mono_ns, wall_ns, frames lost before, and whether the device lost some
_Block: TypeAlias = "tuple[Array, int, int, int, bool]"
_lock = threading.Lock()
_open = 0  # microphones of this process


class Microphone(SoundSource):
    """Sound from a device of this machine. One that is not plugged in yet, or goes away, is waited for.

    While another microphone of this program is open, PortAudio does not look for new devices.
    """

    live: ClassVar[bool] = True

    device: int | str | None = Field(
        None, description="number or (part of the) name of the device, as `python -m sounddevice` lists them"
    )
    channels: int | None = Field(None, ge=1, le=MOST_CHANNELS, description="default: two, or as many as there are")

    def check(self) -> None:
        if isinstance(self.device, int) and self.device < 0:
            raise InputError("a device's number is 0 or more", "device")
        with suppress(SourceLost):
            sounddevice()

    def open(self, stream: str) -> MicrophoneReader:
        return MicrophoneReader(self, stream)


def sounddevice() -> Any:
    """The module. Raises `MissingPart`, and `SourceLost` where the system's sound does not run."""
    try:
        import sounddevice as module
    except ImportError:
        raise MissingPart('microphones need sounddevice: pip install "thresher[sound]"') from None
    except OSError as error:  # it is there, PortAudio is not
        raise MissingPart(
            f"PortAudio cannot be loaded ({redact(error)}): apt-get install libportaudio2 (libasound2-plugins where"
            " PulseAudio runs)"
        ) from None
    except Exception as error:  # noqa: BLE001 its own kind, which only the module knows that just failed
        raise SourceLost(f"PortAudio cannot start, see the system's settings of sound: {_reason(error)}") from None
    return module


class MicrophoneReader:
    """The running part of `Microphone`. PortAudio calls back from a thread of its own, which only puts what it has into
    a bounded queue; what finds no room there is counted as undecoded. How much the
    device lost before it called back, nobody knows: it counts as one damaged hop."""

    def __init__(self, plan: Microphone, stream: str) -> None:
        self._stream = stream
        self._closed = False
        self._lost = 0  # frames that found no room since the last that did; the callback's own
        self._overflowed = False  # the device lost some since then
        self._hop_ns = round(plan.hop_s * 1e9)
        self._arrived: queue.Queue[_Block] = queue.Queue(_HELD)
        self.epoch = new_epoch()
        self.windows = SoundWindows(plan, stream, self.epoch)
        global _open  # noqa: PLW0603  # PortAudio is one for the whole process
        module = sounddevice()
        with _lock:
            try:
                if not _open:  # it looks for devices only when it starts
                    module._terminate()
                    module._initialize()
                found = module.query_devices(plan.device, "input")
                self._rate = int(found["default_samplerate"])
                self._device = module.InputStream(
                    device=plan.device,
                    samplerate=self._rate,
                    channels=plan.channels or min(2, int(found["max_input_channels"])),
                    dtype="float32",
                    latency=_LATENCY_S,
                    callback=self._take,
                )
                self._device.start()
            except (module.PortAudioError, ValueError) as error:  # ValueError: there is no such device
                raise SourceLost(_reason(error)) from None
            _open += 1

    def _take(self, samples: Array, frames: int, _time: object, status: Any) -> None:
        """PortAudio's own thread: it must not wait."""
        self._overflowed = self._overflowed or bool(status and status.input_overflow)
        try:
            self._arrived.put_nowait(
                (samples.copy(), time.monotonic_ns(), time.time_ns(), self._lost, self._overflowed)
            )
            self._lost, self._overflowed = 0, False
        except queue.Full:
            self._lost += frames

    def __iter__(self) -> Iterator[Item]:
        heard, patience_s = time.monotonic(), _SLOW_START_S
        while not self._closed:
            try:
                samples, mono_ns, wall_ns, lost, overflowed = self._arrived.get(timeout=_TICK_S)
            except queue.Empty:
                if time.monotonic() - heard > patience_s or not self._device.active:
                    yield from self.windows.finish()
                    raise SourceLost("the microphone is gone: nothing comes from it any more") from None
                yield Watermark(self._stream, self.windows.next_ns)
                continue
            heard, patience_s = time.monotonic(), _DEAD_S
            if lost:
                yield from self.windows.lose(lost * 1_000_000_000 // self._rate, "undecoded")
            if overflowed:
                yield from self.windows.lose(self._hop_ns, "damaged")
            yield from self.windows.feed(np.ascontiguousarray(samples.T), self._rate, mono_ns, wall_ns)

    def close(self) -> None:
        global _open  # noqa: PLW0603
        with _lock:
            if self._closed:
                return
            self._closed = True
            _open -= 1
            self._device.close(ignore_errors=True)


def _reason(error: BaseException) -> str:
    """PortAudio's errors come with numbers and the name of the C library's."""
    return redact(str(error.args[0] if error.args else error)).split("[PaErrorCode")[0].strip()
