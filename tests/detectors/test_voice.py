"""The gate for voices, on speech that espeak-ng says and noise."""

from __future__ import annotations

import hashlib
import pickle
from itertools import groupby

import numpy as np
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from detectors import GATES
from detectors.gates.motion import Motion
from detectors.gates.voice import WEIGHTS, Voice
from pipeline.core.errors import InputError
from pipeline.core.payloads import ViewSpec
from pipeline.core.records import Array
from pipeline.core.sound import SoundSpec
from tests.contracts.gate_suite import SoundGateSuite
from tests.sources.sounds import noisy, speech

LEAD_S = 1.5


class TestContract(SoundGateSuite):
    kind = "voice"

    def plan(self) -> Voice:
        return Voice()

    def worth_it(self) -> Array:
        return speech(16_000)[8_000:16_000]


def around(spoken: Array, rate: int, snr_db: float | None = None) -> Array:
    """Speech with a second and a half of nothing around it, or of the same noise."""
    lead = np.zeros(int(LEAD_S * rate), np.float32)
    whole = np.concatenate((lead, spoken, lead))
    if snr_db is None:
        return whole
    power = float(np.mean(spoken**2)) / 10 ** (snr_db / 10)
    return whole + np.random.default_rng(0).normal(0, power**0.5, whole.shape).astype(np.float32)


def passed(plan: Voice, samples: Array, rate: int = 16_000, hop_s: float = 0.1) -> list[bool]:
    gate, hop = plan.start(), int(hop_s * rate)
    return [gate.changed(samples[n : n + hop], n) for n in range(0, len(samples), hop)]


def stretches(flags: list[bool]) -> int:
    return sum(flag for flag, _ in groupby(flags))


@pytest.mark.parametrize("rate", [8_000, 16_000, 32_000, 44_100])
@pytest.mark.parametrize("snr_db", [None, 10.0, 0.0])
def test_speech_passes_and_what_is_around_it_does_not(rate: int, snr_db: float | None) -> None:
    spoken = speech(rate)
    flags = passed(Voice(rate=rate), around(spoken, rate, snr_db), rate)
    begins, ends = flags.index(True), len(flags) - flags[::-1].index(True)
    assert stretches(flags) == 1, "the end of a word is heard, and the pauses between"
    assert LEAD_S - 0.15 <= begins * 0.1 <= LEAD_S + 0.3
    assert LEAD_S + len(spoken) / rate - 0.6 <= ends * 0.1 <= LEAD_S + len(spoken) / rate + 0.9


@pytest.mark.parametrize("kind", ["white", "hum", "clicks", "silence"])
def test_what_is_no_voice(kind: str) -> None:
    rng, time_s = np.random.default_rng(0), np.arange(160_000) / 16_000
    sounds = {
        "white": rng.normal(0, 0.05, 160_000),
        "hum": 0.3 * np.sin(2 * np.pi * 50 * time_s) + 0.1 * np.sin(2 * np.pi * 150 * time_s),
        "clicks": np.where(np.arange(160_000) % 8000 < 20, 0.8, 0.0),
        "silence": np.zeros(160_000),
    }
    assert not any(passed(Voice(), sounds[kind].astype(np.float32)))


@pytest.mark.parametrize("hop_s", [0.01, 0.02, 0.25, 1.0])
def test_any_hop(hop_s: float) -> None:
    spoken = speech(16_000)
    flags = passed(Voice(), around(spoken, 16_000), hop_s=hop_s)
    assert sum(flags) * hop_s == pytest.approx(len(spoken) / 16_000 + 0.4, abs=0.4 + hop_s)


def test_however_it_is_cut_the_model_hears_the_same() -> None:
    samples = noisy(speech(16_000), 10)
    long = passed(Voice(hangover_s=0), samples, hop_s=0.512)
    short = passed(Voice(hangover_s=0), samples, hop_s=0.032)
    assert long == [any(short[n : n + 16]) for n in range(0, len(short), 16)]


def test_the_options_mean_what_they_say() -> None:
    samples = around(speech(16_000), 16_000)
    usual = sum(passed(Voice(), samples))
    assert sum(passed(Voice(hangover_s=0), samples)) < usual < sum(passed(Voice(hangover_s=1.2), samples))
    assert sum(passed(Voice(threshold=0.95, hangover_s=0), samples)) < sum(passed(Voice(hangover_s=0), samples))
    assert not any(passed(Voice(quiet_db=0), samples)), "nothing is that loud"
    assert any(passed(Voice(), samples * 0.1)) and not any(passed(Voice(), samples * 0.001)), "-60 dB"


def test_quiet_sound_is_never_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Voice().start()
    monkeypatch.setattr(gate, "_request", None)
    rng = np.random.default_rng(0)
    assert not any(gate.changed(rng.normal(0, 0.0005, 1600).astype(np.float32), n) for n in range(100))


def test_it_is_fitted_to_what_the_cascade_hears() -> None:
    assert Voice().fitted(SoundSpec(32_000, 32_000)).rate == 32_000
    with pytest.raises(InputError, match="the gate voice is for sound"):
        Voice().fitted(ViewSpec(8, 8))
    with pytest.raises(InputError, match="the gate motion is for picture"):
        Motion().fitted(SoundSpec(16_000, 16_000))


def test_the_weights_are_those_of_their_origin() -> None:
    origin = YAML(typ="safe").load((WEIGHTS.parent / "origin.yaml").read_text())
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == origin["sha256"]
    assert origin["file"] == WEIGHTS.name and (WEIGHTS.parent / "LICENSE").read_text().startswith("MIT License")


def test_the_plan() -> None:
    assert pickle.loads(pickle.dumps(Voice())) == Voice() and isinstance(Voice(), GATES.load("voice"))
    with pytest.raises(ValidationError):
        Voice(threshold=2)
