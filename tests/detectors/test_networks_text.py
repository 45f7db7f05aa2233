"""What a text network hears: the message, however much room is left behind it; its context through attention alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from detectors.networks.export import save_signal
from detectors.networks.text import NgramHashes, Reading, TextArchitecture, text_network
from detectors.runtimes.openvino import core
from pipeline.core.text import Text, TextSpec


def codes(texts: list[str], length: int, earlier: bytes = b"") -> torch.Tensor:
    spec = TextSpec(length, context=bool(earlier))
    said = [earlier] if earlier else []
    return torch.from_numpy(np.stack([Text(one, room_said=said).view(spec).data for one in texts]).copy())


SAID = ["hello there everyone", "you are the best 你好", "x", "a" * 100]


@pytest.mark.parametrize("backbone", ["mobilenet", "resnet"])
def test_room_that_is_left_changes_nothing(backbone: str) -> None:
    torch.manual_seed(0)
    network = text_network(TextArchitecture(backbone=backbone, classes=3)).eval()  # type: ignore[arg-type]
    with torch.inference_mode():
        short, long = (network(codes(SAID, length)) for length in (128, 512))
    torch.testing.assert_close(short, long, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["mobilenet", "resnet"])
def test_all_that_finds_room_is_heard(backbone: str) -> None:
    torch.manual_seed(0)
    network = text_network(TextArchitecture(backbone=backbone, classes=3)).eval()  # type: ignore[arg-type]
    words = ("ab cd " * 22)[: TextSpec(128).room - 1]
    with torch.inference_mode():
        one, other = network(codes([words + "x", words + "y"], 128))
    assert float((one - other).abs().max()) > 0


def test_context_reaches_the_answer_and_only_of_one_that_reads_it() -> None:
    torch.manual_seed(0)
    network = text_network(TextArchitecture(backbone="resnet", classes=3)).eval()
    for attention in network.attention:  # it begins as the identity
        torch.nn.init.normal_(attention.token_out.weight, std=0.5)
    with torch.inference_mode():
        alone, beside = network(codes(SAID, 256)), network(codes(SAID, 256, b"what was said before"))
    assert float((alone - beside).abs().max()) > 1e-3


@pytest.mark.parametrize("backbone", ["mobilenet", "resnet"])
def test_the_exported_graph_says_the_same_at_any_length(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Reading(text_network(TextArchitecture(backbone=backbone, classes=3))).eval()  # type: ignore[arg-type]
    save_signal(network, TextSpec(192), ("scores", "places"), tmp_path / "model.xml", half=False)
    compiled = core().compile_model(str(tmp_path / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for length in (128, 192):
        given = codes(SAID, length)
        with torch.inference_mode():
            scores, places = network(given)
        found = {name: value for port, value in compiled(given.numpy()).items() for name in port.get_names()}
        np.testing.assert_allclose(found["scores"], scores.numpy(), atol=1e-3)
        assert found["places"].shape == places.shape


def test_hashes_tell_words_apart_and_stay_in_their_table() -> None:
    hashes = NgramHashes(1 << 10, (3, 5))
    rows = hashes(codes(SAID, 128).int())
    for kind, found in enumerate(rows[1:]):
        used = found[found > 0]
        assert int(used.min()) >= 256 + kind * 1024 and int(used.max()) < 256 + (kind + 1) * 1024
    words = [hashes(codes([word + " "], 64).int())[-2] for word in ("grain", "chaff", "grains")]
    assert len({int(found[0, 5]) for found in words}) == 3
