"""The networks that are trained here: what they answer, and that they answer the same outside torch."""

from __future__ import annotations

import copy
import hashlib
import urllib.request
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from torch import nn

from detectors.networks.export import save_onnx, save_openvino
from detectors.networks.pyramid import Architecture, Backbone, Head, Network, Reading, norms_kept
from detectors.runtimes.openvino import openvino
from pipeline.core.errors import MissingPart

SIDE = 64


def network(seed: int = 0, **said: Any) -> Network:
    torch.manual_seed(seed)
    return Network(Architecture(**{"backbone": "resnet-18", "head": "heatmap", "stride": 8, "channels": 8} | said))


def pictures(count: int, side: int = SIDE, seed: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def planar(batch: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("backbone", get_args(Backbone))
def test_every_backbone_with_every_head_has_the_shape_that_is_written_down(backbone: str) -> None:
    shapes: dict[str, tuple[int, ...]] = {"classification": (2, 3), "heatmap": (2, 3, 8, 8), "boxes": (2, 7, 8, 8)}
    assert shapes.keys() == set(get_args(Head))
    for head, shape in shapes.items():
        answer = network(backbone=backbone, head=head, classes=3).eval()(planar(pictures(2)))
        assert answer.shape == shape
        assert answer.isfinite().all()
        if head == "boxes":
            assert (answer[:, 3:] > 0).all()


@pytest.mark.parametrize("backbone", ["mobilenet-v2", "mobilenet-v3-small"])
@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_a_cell_is_as_large_as_the_stride_says(stride: int, backbone: str) -> None:
    answer = network(stride=stride, backbone=backbone).eval()(planar(pictures(1)))
    assert answer.shape == (1, 1, SIDE // stride, SIDE // stride)
    assert torch.sigmoid(answer).mean() < 0.2  # it begins with next to nothing


@pytest.mark.parametrize("backbone", ["mobilenet-v3-small", "resnet-18"])
def test_activations_that_are_computed_twice_change_nothing(backbone: str) -> None:
    plain = network(backbone=backbone, head="boxes")
    frugal = copy.deepcopy(plain)
    frugal.checkpointing = True
    losses = []
    for one in (plain.train(), frugal.train()):
        loss = one(planar(pictures(2))).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[0] == losses[1]
    theirs = dict(frugal.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter.grad, theirs[name].grad), name
    for name, buffer in plain.state_dict().items():  # and a batch is counted once in the running statistics
        assert torch.equal(buffer, frugal.state_dict()[name]), name


def test_a_look_aside_leaves_no_trace_in_the_statistics() -> None:
    one = network().train()
    before = copy.deepcopy(one.state_dict())
    with norms_kept(one):
        one(planar(pictures(2)))
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())
    one(planar(pictures(2)))
    assert not torch.equal(one.stages[0][1].running_mean, before["stages.0.1.running_mean"])


class Said(nn.Module):  # type: ignore[misc]  # torch is untyped to the checker
    """Answers with what it was given."""

    def __init__(self, answer: torch.Tensor, architecture: Architecture) -> None:
        super().__init__()
        self.answer, self.architecture = answer, architecture

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.answer


@pytest.mark.parametrize("head", ["heatmap", "boxes"])
def test_reading_leaves_nothing_but_local_maxima(head: Head) -> None:
    maps = torch.randn(2, 6 if head == "boxes" else 2, 9, 7, generator=torch.Generator().manual_seed(3))
    said: Any = Said(maps, Architecture(head=head, classes=2))
    read = Reading(said)(maps)
    scores = torch.sigmoid(maps[:, :2]).numpy()
    padded = np.pad(scores, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for n, c, y, x in np.ndindex(2, 2, 9, 7):
        highest = padded[n, c, y : y + 3, x : x + 3].max() == scores[n, c, y, x]
        assert read[n, c, y, x] == (scores[n, c, y, x] if highest else 0)
    assert torch.equal(read[:, 2:], maps[:, 2:])


def test_reading_makes_probabilities_of_whole_pictures() -> None:
    read = Reading(network(head="classification", classes=3).eval())(planar(pictures(2)))
    assert torch.allclose(read.sum(1), torch.ones(2))


@pytest.mark.parametrize(("backbone", "head"), [("mobilenet-v3-small", "heatmap"), ("resnet-18", "boxes")])
def test_openvino_says_the_same_at_any_size(backbone: str, head: str, tmp_path: Path) -> None:
    reading = Reading(network(backbone=backbone, head=head, classes=2).eval()).eval()
    save_openvino(reading, SIDE, SIDE, tmp_path / "model.xml", half=False, any_size=True)
    compiled = openvino().Core().compile_model(tmp_path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for count, side in ((2, SIDE), (1, SIDE + 32)):
        batch = pictures(count, side)
        with torch.inference_mode():
            expected = reading(planar(batch)).numpy()
        _same_maps(compiled(batch)[0], expected, 2)


@pytest.mark.slow
def test_onnx_says_the_same_at_any_size(tmp_path: Path) -> None:
    reading = Reading(network(head="boxes", classes=2).eval()).eval()
    save_onnx(reading, SIDE, SIDE, tmp_path / "model.onnx", any_size=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count, side in ((1, SIDE), (3, SIDE), (2, SIDE + 32)):
        batch = pictures(count, side)
        with torch.inference_mode():
            expected = reading(planar(batch)).numpy()
        (said,) = session.run(None, {session.get_inputs()[0].name: batch})
        _same_maps(said, expected, 2)


def _same_maps(said: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], classes: int) -> None:
    """Two neighbours that are equal but for rounding may both be peaks here and one there: what either leaves out
    is not compared, but nearly nothing may be left out."""
    assert said.shape == expected.shape
    np.testing.assert_allclose(said[:, classes:], expected[:, classes:], rtol=1e-3, atol=1e-3)
    mine, theirs = said[:, :classes], expected[:, :classes]
    both = (mine > 0) == (theirs > 0)
    assert both.mean() > 0.97
    np.testing.assert_allclose(mine[both], theirs[both], atol=1e-4)
    assert (theirs > 0).any()


def test_pretrained_weights_that_cannot_be_had_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(MissingPart) as caught:
        network(backbone="resnet-18", pretrained=True)
    said = str(caught.value)
    for words in ("no route to host", "resnet18-", str(tmp_path / "torch"), "TORCH_HOME", "pretrained: false"):
        assert words in said


def test_older_pretrained_weights_do_where_they_are_the_ones_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    weights = torchvision.models.mobilenet_v2(weights=None).state_dict()
    weights["features.0.0.weight"].fill_(0.25)
    file = place / "old.pth"
    torch.save(weights, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]  # torchvision checks what the name says
    file.rename(place / f"mobilenet_v2-{digest}.pth")
    old = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.value
    monkeypatch.setattr(old, "url", f"https://nowhere.invalid/mobilenet_v2-{digest}.pth", raising=False)
    begun = network(backbone="mobilenet-v2", pretrained=True)
    assert bool((begun.stages[0][0][0].weight == 0.25).all())


def test_pretrained_weights_that_are_damaged_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    (place / "mobilenet_v3_small-047dcff4.pth").write_bytes(b"half a file")
    with pytest.raises(MissingPart, match="mobilenet_v3_small cannot be had"):
        network(backbone="mobilenet-v3-small", pretrained=True)
