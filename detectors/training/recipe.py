"""How a network is trained: what a config says, checked before anything starts."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from detectors.manifest import ViewSettings
from detectors.networks.pyramid import Architecture
from detectors.training.augment import Augmentation
from pipeline.core.settings import Settings

LARGEST = 4096  # of a side


class Schedule(Settings):
    """How any network is trained, from its first weights to its last step."""

    steps: PositiveInt = Field(default=2000, description="of the optimiser, at most")
    batch: PositiveInt = Field(default=16, le=4096, description="samples a step, over all processes")
    accumulate: PositiveInt = Field(default=1, description="parts that a step's samples are taken in, for memory")
    rate: PositiveFloat = Field(default=1e-3, description="learning rate at its highest (AdamW)")
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps while it rises; then a cosine")
    decay: float = Field(default=0.05, ge=0, description="weight decay")
    clip: float = Field(default=50.0, gt=0, le=100, description="percentile of norms that gradients are cut to")
    average: float = Field(default=0.998, ge=0, lt=1, description="of the weights over steps: what is kept in the end")
    bf16: bool = Field(default=True, description="mixed precision")
    checkpointing: bool = Field(default=False, description="activations are computed twice, to save memory")
    evaluate_every: PositiveInt = Field(default=500, description="steps between looks at the held-out samples")
    patience: PositiveInt = Field(default=6, description="stop after so many looks without anything better")
    save_every_s: PositiveFloat = Field(default=60.0, description="seconds between checkpoints")
    distill: float = Field(default=0.0, ge=0, le=1, description="share of the loss that the teacher's word makes up")
    seed: int = Field(default=0, ge=0, lt=1 << 63)

    @model_validator(mode="after")
    def _shared_out(self) -> Self:
        if self.batch % self.accumulate:
            raise ValueError("accumulate has to divide batch")
        return self


class Recipe(Schedule):
    """One network of pictures."""

    network: Architecture
    view: ViewSettings
    augment: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, side in (("width", self.view.width), ("height", self.view.height), ("crop", self.augment.crop or 32)):
            if side % 32:
                raise ValueError(f"{name}: {side} is no multiple of 32, the coarsest stride of the network")
            if side > LARGEST:
                raise ValueError(f"{name}: {side} is more than {LARGEST}")
        if self.augment.crop and self.augment.crop > min(self.view.width, self.view.height):
            raise ValueError("the crop is larger than the view")
        return self
