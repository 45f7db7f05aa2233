"""What every source of sound can be told: which channel, at which rate, in windows of which length and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, PositiveFloat, model_validator

from pipeline.core.contracts import Source
from pipeline.core.errors import InputError
from pipeline.core.media import Medium, Spec
from pipeline.core.settings import StreamSettings
from pipeline.core.sound import SoundSpec

DEFAULT_RATE = 16_000
DEFAULT_WINDOW_S = 1.0
MOST_CHANNELS = 64
SLOWEST, FASTEST = 1000, 384_000
Rate = Annotated[int, Field(ge=SLOWEST, le=FASTEST)]
Channel: TypeAlias = Literal["mix", "left", "right"] | Annotated[int, Field(ge=0, lt=MOST_CHANNELS)]


class HearingSettings(StreamSettings):
    """Sound is judged in windows: each the latest `window_s`, a new one every `hop_s`."""

    rate: Rate | None = Field(None, description="samples a second; default: what the cascade hears")
    window_s: PositiveFloat | None = Field(
        None, le=60, description="length of a window in seconds; default: what the cascade hears"
    )
    hop_s: float = Field(0.1, ge=0.01, le=60, description="seconds from one window to the next")
    channel: Channel = Field("mix", description="mix, left, right, or a channel's number (0 is the first)")

    @model_validator(mode="after")
    def _leaves_nothing_out(self) -> Self:
        if self.window_s is not None and self.hop_s > self.window_s:
            raise ValueError(f"a hop of {self.hop_s:g} s leaves out sound between windows of {self.window_s:g} s")
        if self.max_fps is not None:  # a gate would never hear what is new in the windows left out
            raise ValueError("`max_fps` is for pictures: `hop_s` says how often sound is judged")
        return self

    @property
    def hears(self) -> SoundSpec:
        """Rate and window, as they were told or by default."""
        rate = self.rate or DEFAULT_RATE
        window_s = max(DEFAULT_WINDOW_S, self.hop_s) if self.window_s is None else self.window_s
        return SoundSpec(rate, max(1, round(window_s * rate)))

    def heard_by(self, spec: SoundSpec) -> Self:
        """The same, with rate and window as a model of `spec` takes them. Raises `InputError`."""
        if self.rate not in {None, spec.rate}:
            raise InputError(f"its cascade hears {spec.rate} samples a second: leave `rate` out", "rate")
        window_s = spec.samples / spec.rate if self.window_s is None else self.window_s
        if self.hop_s > window_s:
            raise InputError(f"its cascade hears {window_s:g} s at once: a longer hop leaves out sound", "hop_s")
        return self.model_copy(update={"rate": spec.rate, "window_s": window_s})


class SoundTrack(HearingSettings):
    """The sound of a source of pictures, as a stream of its own beside them. What is about the reader (`overflow`,
    `isolation`, `silence_s`) is the source's to say."""

    @model_validator(mode="after")
    def _says_nothing_of_the_reader(self) -> Self:
        for name in ("overflow", "isolation", "silence_s"):
            if name in self.model_fields_set:
                raise ValueError(f"`{name}` is the source's to say, and holds for its sound, too")
        return self


class SoundSource(HearingSettings, Source):
    """A source of nothing but sound."""

    medium: ClassVar[Medium] = "sound"

    def fitted(self, spec: Spec, track: str = "") -> Self:
        super().fitted(spec, track)
        assert isinstance(spec, SoundSpec)
        return self.heard_by(spec)


class FilmSource(Source):
    """A source of pictures that may have sound beside them, read by one reader on one clock."""

    sound: SoundTrack | None = Field(None, description="judge its sound, too, as a stream of its own")

    @property
    def tracks(self) -> Mapping[str, StreamSettings]:
        return {} if self.sound is None else {"sound": self.sound}

    def fitted(self, spec: Spec, track: str = "") -> Self:
        super().fitted(spec, track)
        if not track or self.sound is None:
            return self
        assert isinstance(spec, SoundSpec)
        return self.model_copy(update={"sound": self.sound.heard_by(spec)})
