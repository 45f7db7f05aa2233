"""Spoken-word networks over raw samples: log-mel features inside the graph, one answer per time frame.

Both networks take float32 `[N, 8192]` samples in -1..1 at 8 kHz (1.024 s) and give logits `[N, 25, 1 + C]`: class 0 is
"nothing", classes 1..C are the words. Frame t stands for 40 ms; its centre is sample 320 t + 248 of the window
(`FRAME_CENTRE`), since it is made of the mel frames 4 t .. 4 t + 3, of 256 samples each and 80 apart.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torchaudio
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from detectors.networks.module import Module
from pipeline.core.settings import Settings

RATE = 8000  # Hz
SAMPLES = 8192  # of a window
FFT, HOP, MELS = 256, 80, 48
MEL_FRAMES = (SAMPLES - FFT) // HOP + 1  # 100
STEP = 4 * HOP  # samples between two answers: 40 ms
FRAMES = MEL_FRAMES // 4  # 25
FRAME_CENTRE = (3 * HOP + FFT) // 2  # samples from a window's beginning to the centre of its first answer
FLOOR = 1e-6  # added to mel power before the logarithm
_LOWEST, _SCALE = -7.0, 3.0  # nepers: what is further below is silence; and what makes of it about unit variance


class SoundArchitecture(Settings):
    """Enough to build it again around its weights. Every network of sound hears 8192 samples, 8000 a second."""

    backbone: Literal["mobilenet", "resnet"] = "resnet"
    classes: int = Field(default=10, ge=1, le=4096, description="words, nothing not counted")
    channels: int = Field(default=24, ge=8, le=256, description="of the first convolution; the others follow from it")


class MelPower(Module):
    """float32 `[N, S]` samples → mel power `[N, MELS, (S - 256) // 80 + 1]`.

    Equal to `torchaudio.transforms.MelSpectrogram(8000, n_fft=256, hop_length=80, n_mels=48, center=False)`: the
    Hann-windowed Fourier transform is a strided convolution with fixed cosine and sine kernels (as in nnAudio,
    Cheuk et al. 2020, IEEE Access 8), the filter bank a 1×1 convolution. NaN and infinities count as silence, samples
    beyond ±1 are cut.
    """

    def __init__(self) -> None:
        super().__init__()
        n = torch.arange(FFT, dtype=torch.float64)
        k = torch.arange(FFT // 2 + 1, dtype=torch.float64)
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * n / FFT)  # periodic, as torch.hann_window
        angle = 2 * math.pi * torch.remainder(k[:, None] * n[None], FFT) / FFT
        kernels = torch.cat([torch.cos(angle) * window, torch.sin(angle) * window])[:, None]
        bank = torchaudio.functional.melscale_fbanks(FFT // 2 + 1, 0.0, RATE / 2, MELS, RATE)
        self.register_buffer("kernels", kernels.float(), persistent=False)  # [258, 1, 256]
        self.register_buffer("bank", bank.T[:, :, None].contiguous(), persistent=False)  # [MELS, 129, 1]

    def forward(self, samples: Tensor) -> Tensor:
        # a comparison with NaN is false: this form survives every exporter
        samples = torch.where(samples.abs() <= 1e6, samples, torch.zeros_like(samples)).clamp(-1.0, 1.0)
        spectrum = F.conv1d(samples[:, None], self.kernels, stride=HOP)
        real, imaginary = spectrum.chunk(2, 1)
        return F.conv1d(real * real + imaginary * imaginary, self.bank)


class LogMel(Module):
    """float32 `[N, S]` samples → log-mel picture `[N, 1, MELS, T]`, measured from the window's own mean power and cut
    off 7 nepers below it: how loud somebody speaks tells no word."""

    def __init__(self) -> None:
        super().__init__()
        self.power = MelPower()

    def forward(self, samples: Tensor) -> Tensor:
        power = self.power(samples)
        level = torch.log(power.mean((1, 2), keepdim=True) + FLOOR)
        picture = torch.log(power + FLOOR) - level
        return (picture.clamp(min=_LOWEST) / _SCALE + 1.0)[:, None]


def _norm(conv: nn.Module, channels: int, relu: bool = True) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(channels)] + ([nn.ReLU()] if relu else [])


class Basic(Module):
    """Residual block of two 3×3 convolutions (He et al. 2015, arXiv 1512.03385); where the shape changes, the way past
    it is average pooling and a 1×1 convolution (ResNet-D, He et al. 2018, arXiv 1812.01187)."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_norm(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), outputs),
            *_norm(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), outputs, relu=False),
        )
        nn.init.constant_(self.body[-1].weight, 0.25)
        past: list[nn.Module] = []
        if stride != (1, 1):
            past.append(nn.AvgPool2d(stride, stride, ceil_mode=False))
        if inputs != outputs:
            past += _norm(nn.Conv2d(inputs, outputs, 1, bias=False), outputs, relu=False)
        self.past = nn.Sequential(*past)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.past(x))


class Separable(Module):
    """Depthwise 3×k, then 1×1 (MobileNet, Howard et al. 2017, arXiv 1704.04861), with a way past where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int], kernel: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        pad = (kernel[0] // 2, kernel[1] // 2)
        self.body = nn.Sequential(
            *_norm(nn.Conv2d(inputs, inputs, kernel, stride, pad, groups=inputs, bias=False), inputs),
            *_norm(nn.Conv2d(inputs, outputs, 1, bias=False), outputs, relu=False),
        )
        self.residual = inputs == outputs and stride == (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return F.relu(x + y) if self.residual else F.relu(y)


class Tail(Module):
    """What is left of the frequency axis is folded into channels; then depthwise-separable convolutions over time with
    wide kernels (as MatchboxNet, Majumdar & Ginsburg 2020, arXiv 2004.08531), so that a frame's answer knows the whole
    word; then one linear layer a frame. `[N, channels, height, T]` → logits `[N, T, 1 + classes]`."""

    def __init__(
        self, channels: int, height: int, width: int, classes: int, *, layers: int, kernel: int, drop: float
    ) -> None:
        super().__init__()
        self.fold = nn.Sequential(*_norm(nn.Conv2d(channels, width, (height, 1), bias=False), width))
        self.time = nn.Sequential(*(Separable(width, width, (1, 1), (1, kernel)) for _ in range(layers)))
        self.drop = nn.Dropout(drop)
        self.answer = nn.Conv2d(width, 1 + classes, 1)

    def hidden(self, x: Tensor) -> Tensor:
        """`[N, width, 1, T]`, what the last layer judges."""
        return self.drop(self.time(self.fold(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.hidden(x)).squeeze(2).transpose(1, 2)


class SoundNetwork(Module):
    """`features`: `[N, S]` → `[N, 1, MELS, 4 T]`; `judge`: that → logits `[N, T, 1 + C]`; `forward` is both. Training
    masks and warps the picture between the two."""

    features: LogMel
    trunk: nn.Module
    warp: float = 0.15
    tail: Tail

    def judge(self, picture: Tensor) -> Tensor:
        return self.tail(self.trunk(picture))

    def forward(self, samples: Tensor) -> Tensor:
        picture = self.features(samples)
        return self.judge(disturbed(picture, self.warp) if self.training else picture)


class Heavy(SoundNetwork):
    """A small ResNet on the log-mel picture 48 × 100; time stride 4, frequency stride 16."""

    def __init__(self, classes: int = 10, width: int = 24) -> None:
        super().__init__()
        w = width
        self.features = LogMel()
        self.trunk = nn.Sequential(
            *_norm(nn.Conv2d(1, w, 3, (2, 2), 1, bias=False), w),  # 24 × 50
            Basic(w, w, (1, 1)),
            Basic(w, 2 * w, (2, 2)),  # 12 × 25
            Basic(2 * w, 2 * w, (1, 1)),
            Basic(2 * w, 3 * w, (2, 1)),  # 6 × 25
            Basic(3 * w, 4 * w, (2, 1)),  # 3 × 25
        )
        self.tail = Tail(4 * w, 3, 128, classes, layers=2, kernel=9, drop=0.2)


class Cheap(SoundNetwork):
    """A small MobileNet on the same picture: depthwise-separable 3×3, then over time alone."""

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        w = width
        self.features = LogMel()
        self.trunk = nn.Sequential(
            *_norm(nn.Conv2d(1, w, 3, (2, 2), 1, bias=False), w),  # 24 × 50
            Separable(w, 2 * w, (2, 2)),  # 12 × 25
            Separable(2 * w, 2 * w, (1, 1)),
            Separable(2 * w, 3 * w, (2, 1)),  # 6 × 25
            Separable(3 * w, 3 * w, (1, 1)),
        )
        self.tail = Tail(3 * w, 6, 80, classes, layers=4, kernel=9, drop=0.1)


class Reading(Module):
    """As exported: `[N, 8192]` samples → probabilities `[N, 25, 1 + C]`."""

    def __init__(self, network: SoundNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, samples: Tensor) -> Tensor:
        return torch.softmax(self.network(samples), 2)


def sound_network(architecture: SoundArchitecture) -> SoundNetwork:
    """With its first weights."""
    kind = Cheap if architecture.backbone == "mobilenet" else Heavy
    return kind(architecture.classes, architecture.channels)


def disturbed(pictures: Tensor, warp: float) -> Tensor:
    """Log-mel pictures `[N, 1, M, T]` of another vocal tract (its length perturbed by up to `warp`: Jaitly & Hinton
    2013), with up to two bands of 10 mels and two of 10 frames blotted out (SpecAugment, Park et al. 2019,
    arXiv 1904.08779)."""
    count, _, mels, frames = pictures.shape
    factor = 1 + warp * (2 * torch.rand(count, 1) - 1)
    source = (torch.arange(mels)[None] * factor + 2 * torch.rand(count, 1) - 1).clamp(0, mels - 1.001)
    low = source.long()
    part = (source - low)[:, None, :, None]
    rows = low[:, None, :, None].expand(-1, 1, -1, frames)
    moved = pictures.gather(2, rows) * (1 - part) + pictures.gather(2, rows + 1) * part
    for axis, side in ((2, mels), (3, frames)):
        for _ in range(2):
            wide = torch.randint(0, 11, (count,)) * (torch.rand(count) < 2 / 3)
            first = (torch.rand(count) * (side - wide)).long()
            at = torch.arange(side)[None]
            kept = ((at < first[:, None]) | (at >= (first + wide)[:, None])).float()
            moved = moved * kept.view(count, 1, *((side, 1) if axis == 2 else (1, side)))
    return moved
