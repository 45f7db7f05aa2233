"""How a network is trained: what a config says, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self, TypeAlias

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from detectors.manifest import SoundSettings, TextSettings, ViewSettings, medium_of
from detectors.networks.audio import RATE, SAMPLES, SoundArchitecture
from detectors.networks.pyramid import Architecture
from detectors.networks.text import TextArchitecture
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


class SoundAugmentation(Settings):
    """Chances are drawn anew for every stretch of sound that is composed."""

    nothing: float = Field(default=0.08, ge=0, le=1, description="share of stretches without a word")
    distractors: float = Field(default=0.2, ge=0, lt=1, description="share of sounds that are none of the words")
    speed: float = Field(default=0.25, ge=0, lt=0.7, description="words are up to this share faster or slower")
    room: float = Field(default=0.2, ge=0, le=1, description="share that is heard in a room")
    clean: float = Field(default=0.3, ge=0, le=1, description="share without background")
    least_ratio_db: float = Field(default=3.0, ge=-20, le=60, description="of words to background, at the loudest")
    warp: float = Field(default=0.1, ge=0, lt=0.5, description="pitches are moved by up to this share")
    palindromes: tuple[int, ...] = Field(
        default=(), description="classes that sound much the same backwards: words played so are taken for no word"
    )


class SoundRecipe(Schedule):
    """One network of sound."""

    network: SoundArchitecture
    view: SoundSettings
    augment: SoundAugmentation = SoundAugmentation()
    bf16: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.view.rate, self.view.samples) != (RATE, SAMPLES):
            raise ValueError(f"view: networks of sound hear {SAMPLES} samples, {RATE} a second")
        return self


class TextAugmentation(Settings):
    """Chances are drawn anew for every message."""

    drop: float = Field(default=0.1, ge=0, lt=1, description="share of words that are left out")
    typos: float = Field(default=0.3, ge=0, le=1, description="share of messages with a few letters wrong")
    context: float = Field(default=0.35, ge=0, le=1, description="share that is read behind other messages")


class TextRecipe(Schedule):
    """One network of text."""

    network: TextArchitecture
    view: TextSettings
    augment: TextAugmentation = TextAugmentation()
    balance: float = Field(default=0.5, ge=0, le=1, description="0: each message counts alike; 1: each class does")
    bf16: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.view.length % self.network.multiple:
            raise ValueError(
                f"length: {self.view.length} is no multiple of {self.network.multiple}, as a {self.network.backbone}"
                " of text needs it"
            )
        return self


AnyRecipe: TypeAlias = Annotated[
    Annotated[Recipe, Tag("picture")] | Annotated[SoundRecipe, Tag("sound")] | Annotated[TextRecipe, Tag("text")],
    Discriminator(lambda recipe: medium_of(recipe.get("view") if isinstance(recipe, Mapping) else recipe.view)),
]
"""What it learns of shows in how it is shown: see `AnyView`."""
