"""A backbone, a feature pyramid over it, and one head: what is trained here.

Every network takes float32 `[N, 3, H, W]` in 0…1 (H and W multiples of 32) and answers with raw numbers: logits, and
distances in pixels. `Reading` turns those into what a runtime answers: probabilities, peaks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from detectors.networks.classifiers import ARCHITECTURES, IMAGENET_MEAN, IMAGENET_STD
from detectors.networks.module import Module
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.secrets import redact
from pipeline.core.settings import Settings

Head = Literal["classification", "heatmap", "boxes"]
Backbone = Literal["mobilenet-v2", "mobilenet-v3-small", "resnet-18", "resnet-34", "resnet-50"]
_CUTS: Mapping[str, tuple[tuple[int, int, int], list[int]]] = {
    "mobilenet-v2": ((4, 7, 14), [24, 32, 96, 1280]),
    "mobilenet-v3-small": ((2, 4, 9), [16, 24, 48, 576]),
}
"""Before which layers a MobileNet is cut, and how wide the stages are."""
_RARE = -4.6  # the logit of 1 %: what a map says before it has learned anything
_MOMENTUM = 0.1  # of batch norms; torchvision's MobileNet is made for epochs of ImageNet and follows ten times slower
_REACH = 16.0  # pixels: how far a box reaches before anything was learned


class Architecture(Settings):
    """What a network is made of: enough to build it again around its weights."""

    backbone: Backbone = "resnet-18"
    head: Head = "boxes"
    stride: Literal[4, 8, 16, 32] = Field(default=4, description="pixels of the view a cell of the maps stands for")
    channels: int = Field(default=96, ge=8, le=512, description="of every level of the pyramid")
    classes: int = Field(default=1, ge=1)
    pretrained: bool | Path = Field(
        default=False,
        description="begin with torchvision's ImageNet weights; or with the backbone of another training: its"
        " checkpoint.pt, in .training/NAME beside the models",
    )


class Pyramid(Module):
    """Feature pyramid (Lin et al. 2017, arXiv 1612.03144), merged down to its finest level: what is small is seen
    there, and what is large has come down from above."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.smooth = nn.ModuleList(_block(channels, channels) for _ in widths[1:])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """`features` finest first → `[N, channels, h, w]` of the finest."""
        top = self.lateral[-1](features[-1])
        for index in range(len(features) - 2, -1, -1):
            upper = F.interpolate(top, scale_factor=2.0, mode="nearest")
            top = self.smooth[index](self.lateral[index](features[index]) + upper)
        return top


class Network(Module):
    """float32 `[N, 3, H, W]` in 0…1 →

    - `classification`: logits `[N, classes]`
    - `heatmap`: logits `[N, classes, H/stride, W/stride]`
    - `boxes`: the same with four more channels, the distances in pixels from a cell's middle to the box's left, top,
      right and bottom (Tian et al. 2019, FCOS, arXiv 1904.01355)

    Where `checkpointing` is set, a stage's activations are not kept in training but computed again on the way back.
    Raises `MissingPart` where pretrained weights are asked for and cannot be had.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.stages, widths = _backbone(architecture)
        if isinstance(architecture.pretrained, Path):
            _continue_from(architecture.pretrained, self.stages)
        self.checkpointing = False
        channels, classes = architecture.channels, architecture.classes
        if architecture.head == "classification":
            self.head = nn.Linear(widths[-1], classes)
            return
        self.first = {4: 0, 8: 1, 16: 2, 32: 3}[architecture.stride]
        self.pyramid = Pyramid(widths[self.first :], channels)
        self.maps = nn.Sequential(_block(channels, channels), nn.Conv2d(channels, classes, 1))
        nn.init.constant_(self.maps[-1].bias, _RARE)
        if architecture.head == "boxes":
            self.reach = nn.Sequential(_block(channels, channels), nn.Conv2d(channels, 4, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        features = self._features((pictures - self.mean) / self.std)
        if self.architecture.head == "classification":
            return self.head(features[-1].mean((2, 3)))
        finest = self.pyramid(features[self.first :])
        maps = self.maps(finest)
        if self.architecture.head == "heatmap":
            return maps
        return torch.cat([maps, F.softplus(self.reach(finest)) * _REACH], 1)

    def _features(self, pictures: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            if self.checkpointing and self.training:
                pictures = checkpoint(stage, pictures, use_reentrant=False, context_fn=partial(_once_counted, stage))
            else:
                pictures = stage(pictures)
            features.append(pictures)
        return features


class Reading(Module):
    """A network as it is exported: float32 `[N, 3, H, W]` in 0…1 → probabilities `[N, classes]`, or maps
    `[N, classes (+ 4), h, w]` in which only local maxima are left of the scores (a 3×3 maximum filter takes the place
    of suppressing boxes: Zhou et al. 2019, arXiv 1904.07850)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.classes = network.architecture.classes
        self.head = network.architecture.head

    def forward(self, pictures: Tensor) -> Tensor:
        answer = self.network(pictures)
        if self.head == "classification":
            return torch.softmax(answer, 1)
        scores = torch.sigmoid(answer[:, : self.classes])
        peaks = scores * (F.max_pool2d(scores, 3, 1, 1) == scores).float()
        return peaks if self.head == "heatmap" else torch.cat([peaks, answer[:, self.classes :]], 1)


@contextlib.contextmanager
def norms_kept(module: nn.Module) -> Iterator[None]:
    """Batch norms normalise by what they see, as in training, and take no note of it: what is computed again, or for
    another purpose, would else count twice in their running statistics."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    before = [(norm.momentum, int(norm.num_batches_tracked)) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.fill_(count)


def _once_counted(stage: nn.Module) -> tuple[Any, Any]:
    return contextlib.nullcontext(), norms_kept(stage)


def _block(width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    )


def _backbone(architecture: Architecture) -> tuple[nn.ModuleList, list[int]]:
    """torchvision's, cut into the stages whose outputs have strides 4, 8, 16 and 32, and how wide those are."""
    import torchvision

    name = ARCHITECTURES[architecture.backbone]
    imagenet = architecture.pretrained is True
    whole = _pretrained(name) if imagenet else torchvision.models.get_model(name, weights=None)
    for norm in whole.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = _MOMENTUM
    if architecture.backbone in _CUTS:
        cuts, widths = _CUTS[architecture.backbone]
        layers = list(whole.features)
        stages = zip((0, *cuts), (*cuts, len(layers)), strict=True)
        return nn.ModuleList(nn.Sequential(*layers[begin:end]) for begin, end in stages), widths
    stem = nn.Sequential(whole.conv1, whole.bn1, whole.relu, whole.maxpool, whole.layer1)
    widths = [64, 128, 256, 512] if architecture.backbone != "resnet-50" else [256, 512, 1024, 2048]
    return nn.ModuleList([stem, whole.layer2, whole.layer3, whole.layer4]), widths


def _pretrained(name: str) -> nn.Module:
    """torchvision's network with its ImageNet weights: the best, unless only others are in torch's cache; from there or
    the net. Raises `MissingPart`."""
    import torchvision

    known = torchvision.models.get_model_weights(name)
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    there = [one for one in known if (cache / Path(one.url).name).is_file()]
    weights = known.DEFAULT if known.DEFAULT in there or not there else there[0]
    try:
        return torchvision.models.get_model(name, weights=weights)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:  # no network, no room; a damaged file
        place = torch.hub.get_dir()
        reason = " ".join(redact(error).split()) or type(error).__name__
        raise MissingPart(
            f"the pretrained weights of {name} cannot be had ({reason}). Put {weights.url} into {place}/checkpoints,"
            " in place of a damaged file (TORCH_HOME moves that folder), or set `pretrained: false`",
            "network.pretrained",
        ) from None


def _continue_from(checkpoint: Path, stages: nn.ModuleList) -> None:
    """The best backbone that another training came to. Raises `MissingPart`, or `InputError` where it is no such
    training's, or has another backbone."""
    place = "network.pretrained"
    try:
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
        best = state["best_weights"] or state["average"]
        stages.load_state_dict(
            {name.removeprefix("stages."): tensor for name, tensor in best.items() if name.startswith("stages.")}
        )
    except OSError as error:
        raise MissingPart(
            f"{checkpoint} cannot be read ({error.strerror}): train that model first, or set `pretrained: false`", place
        ) from None
    except Exception as error:  # noqa: BLE001  # a damaged archive raises nearly anything
        raise InputError(
            f"{checkpoint} is no checkpoint of a training with this backbone ({type(error).__name__})", place
        ) from None
