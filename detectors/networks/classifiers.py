"""MobileNet and ResNet classifiers: torchvision's definitions, without weights, made fit to be measured or trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.records import Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_BRANCH = 0.25  # gain of a residual branch

ARCHITECTURES: Mapping[str, str] = {
    "mobilenet-v2": "mobilenet_v2",
    "mobilenet-v3-small": "mobilenet_v3_small",
    "resnet-18": "resnet18",
    "resnet-34": "resnet34",
    "resnet-50": "resnet50",
}


def classifier(architecture: str, classes: int = 1000, seed: int = 0) -> Any:
    """A `torch.nn.Module` in evaluation mode: float32 `[N, 3, H, W]` in 0…1, RGB → logits `[N, classes]`.

    Normalisation with ImageNet's mean and standard deviation is its first layer. The weights are random and the same
    for the same `seed`; the caller's own random state is left alone.
    Raises `InputError` for an unknown architecture, `MissingPart` without torch.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(
            f'there is no network "{architecture}".{nearest(architecture, ARCHITECTURES)} '
            f"Known: {', '.join(ARCHITECTURES)}."
        )
    try:
        import torch
        import torchvision
    except ImportError as error:
        raise MissingPart('this needs torch: pip install "thresher[torch]"', "detectors.networks") from error
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = torchvision.models.get_model(ARCHITECTURES[architecture], weights=None, num_classes=classes)
    _calm(network)
    # a batch norm that learns nothing: exactly (x - mean) / std, and every exporter folds it into the first convolution
    normalise = torch.nn.BatchNorm2d(3, eps=0.0, affine=False)
    normalise.running_mean = torch.tensor(IMAGENET_MEAN)
    normalise.running_var = torch.tensor(IMAGENET_STD).square()
    return torch.nn.Sequential(normalise, network).eval()


def _calm(network: Any) -> None:
    """Begin with residual branches that add little, as ResNets are trained from and end near. At full strength a random
    ResNet-50 is chaotic: bf16 alone then changes the highest of its logits on four pictures in ten."""
    import torch
    from torchvision.models.resnet import BasicBlock, Bottleneck

    for block in network.modules():
        if isinstance(block, (BasicBlock, Bottleneck)):
            last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
            torch.nn.init.constant_(last.weight, _BRANCH)


def settle(network: Any, batches: Iterable[Array]) -> None:
    """Give an untrained `classifier` the activations of a trained one, in place.

    `batches` are uint8 `[N, H, W, 3]` of real pictures, together at least two. Batch norm statistics are estimated
    from them: without, a deep random network's signal dies or explodes, and neither its precision nor its speed in
    low precision means anything. Then the mean logit is taken out of the last layer's bias: else the outputs for all
    pictures are nearly one vector, and any two networks would seem to agree.
    """
    import torch

    pictures = [_planar(batch) for batch in batches]
    if sum(len(batch) for batch in pictures) < 2:
        raise InputError("statistics need at least two pictures")
    norms = [module for module in network[1].modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    with torch.inference_mode():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all batches
            norm.train()
        for batch in pictures:
            network(batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
        logits = torch.cat([network(batch) for batch in pictures])
        head = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
        head.bias -= logits.mean(0)


def _planar(batch: Array) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float() / 255
