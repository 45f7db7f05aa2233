"""The features inside the graph are torchaudio's, and nothing that a microphone may hand over breaks a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from detectors.networks.audio import FRAMES, SAMPLES, MelPower, Reading, SoundArchitecture, disturbed, sound_network
from detectors.networks.export import save_signal
from detectors.runtimes.openvino import core
from pipeline.core.sound import SoundSpec

SPEC = SoundSpec(8000, SAMPLES)


def sounds(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLES) / 8000
    tone = np.sin(2 * np.pi * rng.uniform(100, 2000) * time)
    return np.stack([rng.normal(0, 0.1, SAMPLES), 0.5 * tone, np.zeros(SAMPLES)]).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_the_features_are_torchaudios(seed: int) -> None:
    theirs = torchaudio.transforms.MelSpectrogram(8000, n_fft=256, hop_length=80, n_mels=48, center=False)
    given = torch.from_numpy(sounds(seed))
    expected, found = theirs(given), MelPower()(given)
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):  # where there is next to no power, both are rounding
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.max()) + 1e-12)


@pytest.mark.parametrize("backbone", ["mobilenet", "resnet"])
def test_the_exported_graph_says_the_same(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Reading(sound_network(SoundArchitecture(backbone=backbone, classes=3))).eval()  # type: ignore[arg-type]
    save_signal(network, SPEC, ("frames",), tmp_path / "model.xml", half=False)
    given = sounds()
    with torch.inference_mode():
        expected = network(torch.from_numpy(given)).numpy()
    compiled = core().compile_model(str(tmp_path / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = next(iter(compiled(given).values()))
    assert found.shape == (3, FRAMES, 4)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_what_no_microphone_should_say_breaks_nothing() -> None:
    network = Reading(sound_network(SoundArchitecture(classes=3))).eval()
    given = np.stack([np.full(SAMPLES, value, np.float32) for value in (np.nan, np.inf, -np.inf, 50.0, 0.0)])
    with torch.inference_mode():
        assert network(torch.from_numpy(given)).isfinite().all()


def test_disturbing_moves_and_masks_and_nothing_else() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(64, 1, 48, 100) + 1
    moved = disturbed(pictures, 0.1)
    assert moved.shape == pictures.shape and moved.isfinite().all()
    kept = moved[moved > 0]
    assert float(kept.min()) >= 1 and float(kept.max()) <= 2
    masked = (moved == 0).float().mean()
    assert 0.02 < float(masked) < 0.4
