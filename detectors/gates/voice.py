"""Passes sound in which somebody speaks: Silero's voice activity detector, on what is new alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from pydantic import Field

from detectors.runtimes.openvino import core, read_graph
from pipeline.core.contracts import Gate, GatePlan
from pipeline.core.media import Medium, Spec
from pipeline.core.records import Array
from pipeline.core.resampling import Resampler
from pipeline.core.settings import LONGEST_S
from pipeline.core.sound import SoundSpec

WEIGHTS: Final = Path(__file__).parent / "silero_vad" / "silero_vad_16k_sequence.onnx"
_RATE: Final = 16_000
_NEW: Final = 512  # samples a score
_BEFORE: Final = 64
_STATE: Final = (1, 1, 128)


class Voice(GatePlan):
    """A hop that is quieter than `quiet_db` is silence without a look, so that streams where nothing happens cost
    nothing. The model judges 32 ms at once, and remembers the stream; sound at another rate than 16 kHz is resampled.

    Measured at 100 ms a hop on one core: 4 ms of processor time for each second that is not quiet.
    """

    name: ClassVar[str] = "voice"
    medium: ClassVar[Medium] = "sound"

    threshold: float = Field(0.5, ge=0, le=1, description="somebody speaks from this score on")
    hangover_s: float = Field(
        0.6, ge=0, le=LONGEST_S, description="and for so long after, so that the end of a word is heard"
    )
    quiet_db: float = Field(
        -60.0, ge=-200, le=0, description="sound below this level (dB of full scale) is silence, whatever it is"
    )
    rate: int | None = Field(None, ge=1000, le=384_000, description="samples a second; default: the stream's")

    def fitted(self, spec: Spec) -> Self:
        super().fitted(spec)
        assert isinstance(spec, SoundSpec)
        return self.model_copy(update={"rate": spec.rate})

    def start(self) -> Gate:
        return _VoiceGate(self)


@cache
def _model() -> Any:
    """One for the whole process; what runs it is each stream's own."""
    # a stream's thread does its own work, and shares the processor with the stages
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    return core().compile_model(read_graph(WEIGHTS, "onnx"), "CPU", options)


class _VoiceGate:
    name = Voice.name
    carries = False

    def __init__(self, plan: Voice) -> None:
        self._threshold = plan.threshold
        self._rate = plan.rate or _RATE
        self._quiet = 10 ** (plan.quiet_db / 10)
        self._hangover = round(plan.hangover_s * self._rate)
        self._request = _model().create_infer_request()
        self.forget()

    def forget(self) -> None:
        self._silent: int | None = None  # samples since the last voice
        self._listen_anew()

    def _listen_anew(self) -> None:
        """Behind silence, the model begins anew."""
        self._fresh = True
        self._h = self._c = np.zeros(_STATE, np.float32)
        self._waiting = np.zeros(_BEFORE, np.float32)
        self._resampler = Resampler(self._rate, _RATE)

    def changed(self, sample: Array, pts_ns: int) -> bool:
        """`sample` is what is new: float32 `[n]` in -1…1."""
        if float(np.dot(sample, sample)) < self._quiet * len(sample):
            if not self._fresh:
                self._listen_anew()
        elif self._speaks(sample):
            self._silent = 0
            return True
        if self._silent is None:
            return False
        self._silent += len(sample)
        return self._silent <= self._hangover

    def _speaks(self, sample: Array) -> bool:
        self._fresh = False
        heard = np.concatenate((self._waiting, self._resampler.push(sample)))
        count = (len(heard) - _BEFORE) // _NEW
        self._waiting = heard[count * _NEW :].copy()
        if count == 0:
            return False
        windows = np.lib.stride_tricks.sliding_window_view(heard, _BEFORE + _NEW)[::_NEW][:count]
        given = self._request.infer({"input": np.ascontiguousarray(windows), "h": self._h, "c": self._c})
        self._h, self._c = given["hn"].copy(), given["cn"].copy()
        return float(given["speech_probs"].max()) >= self._threshold

    def judged(self, sample: Array, pts_ns: int) -> None:
        """What a stage said changes nothing: this gate knows what it wants to hear."""
