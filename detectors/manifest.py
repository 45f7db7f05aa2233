"""A model is a folder: `manifest.yaml` and weights. This is what a manifest may say, and how a folder is read.

name: nsfw-mobilenet
version: "1"
task: classification
weights: {file: model.onnx, sha256: 5f…, format: onnx}
view: {width: 224, height: 224}
input: {layout: nchw, dtype: float32, std: [255, 255, 255]}
output: {kind: classification}
labels: [drawing, hentai, neutral, porn, sexy]
licence: MIT
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, PositiveInt, Tag, ValidationError, model_validator

from pipeline.core.errors import InputError, InputErrors
from pipeline.core.payloads import Colour, Fit, Resize, ViewSpec
from pipeline.core.secrets import redact
from pipeline.core.settings import Name, Settings
from pipeline.core.sound import SoundSpec
from pipeline.core.text import TextSpec
from pipeline.core.yaml_text import plain_yaml, yaml_text

MANIFEST = "manifest.yaml"
SAMPLES = "samples"
WeightsFormat: TypeAlias = Literal["onnx", "ir", "tensorflow", "safetensors", "torchvision"]
OutputKind: TypeAlias = Literal["classification", "ssd", "yolo", "torchvision", "heatmap", "frames", "passages"]
Triple: TypeAlias = tuple[float, float, float]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

_SUFFIXES: dict[str, WeightsFormat] = {
    ".onnx": "onnx",
    ".xml": "ir",
    ".pb": "tensorflow",
    ".safetensors": "safetensors",
}
LARGEST = 4 << 30
"""Of a model file, in bytes."""
_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy"})


class Weights(Settings):
    """The weights file beside the manifest, or, where it has a `url`, fetched at first use.

    `sha256` may be a prefix (of 8 or more digits) only for `torchvision` weights, whose publisher gives no more.
    `companions` are further files the format needs, with their digests: the `.bin` of an OpenVINO IR.
    `architecture` names the network the bare weights belong to (`torchvision/fasterrcnn_resnet50_fpn_v2`).
    """

    file: str = Field(pattern=r"^[\w][\w.-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    format: WeightsFormat
    url: str | None = Field(default=None, pattern=r"^https?://")
    companions: dict[Annotated[str, Field(pattern=r"^[\w][\w.-]*$")], str] = Field(default_factory=dict)
    architecture: str | None = None
    precision: Literal["f32", "f16", "int8"] = Field(default="f32", description="how the file stores them")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.format != "torchvision":
            try:
                refuse_pickle(self.file)
            except InputError as error:
                raise ValueError(error.message) from None
            if len(self.sha256) != 64:
                raise ValueError("sha256 has to have 64 digits")
        elif self.url is None:
            raise ValueError("torchvision weights need the url they are fetched from")
        if self.format == "ir" and f"{Path(self.file).stem}.bin" not in self.companions:
            raise ValueError("the .bin beside an .xml has to be among the companions, with its digest")
        if any(len(digits) != 64 for digits in self.companions.values()):
            raise ValueError("the digest of a companion has to have 64 digits")
        if self.format in {"safetensors", "torchvision"} and self.architecture is None:
            raise ValueError(f"{self.format} weights need the architecture they belong to")
        return self


class ViewSettings(Settings):
    """How a picture becomes the model's input; see `ViewSpec`."""

    width: PositiveInt
    height: PositiveInt
    colour: Colour = "rgb"
    fit: Fit = "stretch"
    resize: Resize = "bilinear"
    crop: float = Field(default=1.0, gt=0.0, le=1.0)
    tile: int | None = Field(
        default=None,
        ge=32,
        le=4096,
        multiple_of=2,
        description="regions are seen as squares of so many source pixels, not resized",
    )

    def spec(self) -> ViewSpec:
        return ViewSpec(self.width, self.height, self.colour, self.fit, self.resize, self.crop, self.tile)

    def of_tiles(self) -> ViewSettings:
        """The view of a model that sees nothing but such squares."""
        return self.model_copy(update={"width": self.tile, "height": self.tile})


class SoundSettings(Settings):
    """How sound becomes the model's input; see `SoundSpec`."""

    rate: int = Field(ge=1000, le=384_000, description="samples a second")
    samples: int = Field(ge=16, le=1 << 24, description="that the model hears at once")

    def spec(self) -> SoundSpec:
        return SoundSpec(self.rate, self.samples)


class TextSettings(Settings):
    """How a message becomes the model's input; see `TextSpec`."""

    length: int = Field(ge=8, le=65_536, description="bytes that the model reads at once")
    context: bool = Field(default=False, description="whether it reads what was said before, behind the message")

    def spec(self) -> TextSpec:
        return TextSpec(self.length, self.context)


def medium_of(view: object) -> str:
    """Of how a model is shown what it judges, written or read."""
    if isinstance(view, Mapping):
        return "sound" if view.keys() & {"rate", "samples"} else "text" if "length" in view else "picture"
    return "sound" if isinstance(view, SoundSettings) else "text" if isinstance(view, TextSettings) else "picture"


AnyView: TypeAlias = Annotated[
    Annotated[ViewSettings, Tag("picture")]
    | Annotated[SoundSettings, Tag("sound")]
    | Annotated[TextSettings, Tag("text")],
    Discriminator(medium_of),
]
"""What a model judges shows in how it is shown: a picture has a width, sound a rate, text a length."""


class Input(Settings):
    """What the graph itself takes: `(pixel - mean) / std`, pixels from 0 to 255 in the view's colour order."""

    name: str | None = Field(default=None, description="the graph's input; needed only where it has several")
    layout: Literal["nchw", "nhwc"] = "nchw"
    dtype: Literal["uint8", "float32", "float16"] = "float32"
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if any(side == 0 or not math.isfinite(side) for side in self.std):
            raise ValueError("std must not be zero")
        return self


class Output(Settings):
    """How to read what the graph answers.

    `scores`, `boxes` and `classes` name its outputs where the usual names do not fit. `class_offset` is the class
    number that the first label has (SSD graphs count from 1). `iou` is the overlap from which two boxes of one class
    are the same thing, where the graph does not settle that itself; `rival`: two of different classes are one thing as
    well, and the less likely label keeps this share of its score.
    """

    kind: OutputKind
    scores: str | None = None
    boxes: str | None = None
    classes: str | None = None
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    class_offset: int = Field(default=0, ge=0)
    score_floor: Share = 0.05
    max_boxes: int = Field(default=100, ge=1, le=1000)
    iou: Share = 0.45
    rival: Share = 1.0


class Parity(Settings):
    """How far a converted or compressed form may move a score before it is refused."""

    tolerance: Share = 0.03


class Manifest(Settings):
    """All there is to know of a model beside its weights."""

    name: Name
    version: str = "1"
    task: Literal["classification", "detection"]
    weights: Weights
    view: AnyView
    input: Input = Input()
    output: Output
    labels: tuple[str, ...] = Field(min_length=1)
    licence: str
    origin: str = Field(default="", description="where the weights came from, with the digest of what was converted")
    data: str = Field(default="", description="what it was trained on and on which split, or that this is not known")
    measured: dict[str, Any] = Field(default_factory=dict, description="figures, and how they were taken")
    parity: Parity = Parity()

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ from each other")
        if not all(label.strip() and label.isprintable() for label in self.labels):
            raise ValueError("labels must be printable words")
        return self

    @property
    def picture(self) -> ViewSettings:
        """The view of a model that judges pictures. Raises `InputError` for any other."""
        if not isinstance(self.view, ViewSettings):
            raise InputError(f"judges {medium_of(self.view)}, not pictures", self.name)
        return self.view

    @property
    def tile(self) -> int | None:
        return self.view.tile if isinstance(self.view, ViewSettings) else None

    @property
    def fingerprint(self) -> str:
        """Stands for everything that a score depends on: all files of the weights, the view, how the graph is fed and
        read. Two models with the same one are the same."""
        said = self.model_dump(mode="json", include={"view", "input", "output", "labels"})
        weights = self.weights.model_dump(mode="json", include={"sha256", "companions", "format", "architecture"})
        return hashlib.sha256(json.dumps([weights, said], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Model:
    """A manifest together with its weights on this disk, digests verified."""

    manifest: Manifest
    weights: Path

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def samples(self) -> Path | None:
        """Pictures of its own kind that came with it: what other forms of it are compared on."""
        folder = self.weights.parent / SAMPLES
        return folder if folder.is_dir() else None

    def of_tiles(self) -> Model:
        """The same model as one that sees nothing but the tiles of its view."""
        return replace(self, manifest=self.manifest.model_copy(update={"view": self.manifest.picture.of_tiles()}))


def aside(folder: Path) -> Path:
    """Where the model that was in `folder` lies while another takes its place; it is the only one there is if the
    program died between the two."""
    return folder.with_name(f".{folder.name}.old")


def refuse_pickle(file: str | Path) -> None:
    """Raises `InputError` for formats that run code as they are read."""
    suffix = Path(file).suffix.lower()
    if suffix in _PICKLES:
        raise InputError(
            f"{suffix} files can run code as they are read, so they are refused: export the model to ONNX "
            "(torch.onnx.export) or save its weights as safetensors",
            str(file),
        )


def format_of(file: Path) -> WeightsFormat:
    """The weights format a file name speaks of. Raises `InputError` for pickles and unknown endings."""
    refuse_pickle(file)
    try:
        return _SUFFIXES[file.suffix.lower()]
    except KeyError:
        raise InputError(f"not a model file; models end in {', '.join(_SUFFIXES)}", str(file)) from None


def digest(file: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits. Raises `InputError` if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(file)) from None


def read_manifest(file: Path) -> Manifest:
    """Raises `InputErrors` with every mistake in it, each with its place."""
    try:
        document = plain_yaml(file.read_text("utf-8"), str(file))
    except FileNotFoundError:
        raise InputError(f"there is no {MANIFEST} in this folder, so it is no model", str(file.parent)) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(file)) from None
    except UnicodeDecodeError:
        raise InputError("is not YAML: it is no text in UTF-8", str(file)) from None
    if not isinstance(document, Mapping):
        raise InputError("has to hold a mapping with name, weights, view, output and labels", str(file))
    return validated(document, str(file))


def write_manifest(manifest: Manifest, file: Path) -> None:
    """What is as it is by default is left out. Raises `OSError`."""
    file.write_text(yaml_text(manifest.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")


def validated(document: Mapping[str, Any], place: str) -> Manifest:
    """The manifest that `document` describes. Raises `InputErrors`."""
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        raise InputErrors(
            [
                InputError(redact(e["msg"]), f"{place}: {_dotted(e['loc'])}" if e["loc"] else place)
                for e in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def _dotted(path: tuple[int | str, ...]) -> str:
    """Without the name of the medium, which nobody wrote."""
    said = path[:1] + path[2:] if path[0] == "view" and len(path) > 1 else path
    return ".".join(map(str, said))


def read_model(folder: Path) -> Model:
    """The model in `folder`, with the digests of its files verified. Weights with a `url` need not be there yet: the
    runtime that opens them fetches them. Raises `InputError` naming the file that is missing or not what the manifest
    says."""
    manifest = read_manifest(folder / MANIFEST)
    weights = folder / manifest.weights.file
    if manifest.weights.url is not None and not weights.exists():
        return Model(manifest, weights)
    _verify(weights, manifest.weights.sha256)
    for name, expected in manifest.weights.companions.items():
        _verify(folder / name, expected)
    if manifest.weights.format == "onnx":
        check_whole(weights, manifest.weights.companions)
    return Model(manifest, weights)


def check_whole(weights: Path, companions: Mapping[str, str]) -> None:
    """Raises `InputError` where an ONNX model keeps weights in files that nobody vouches for."""
    from detectors.foreign import external_files

    loose = sorted(external_files(weights) - companions.keys())
    if loose:
        raise InputError(
            f"keeps weights in {', '.join(map(repr, loose))[:200]}, of which no digest is known: save it as one file,"
            " or name them under `companions` in its manifest",
            str(weights),
        )


def _verify(file: Path, expected: str) -> None:
    if not file.is_file():
        raise InputError("the manifest names this weights file, but it is not there", str(file))
    if file.stat().st_size > LARGEST:
        raise InputError(f"is larger than {LARGEST >> 20} MiB, which no model may be", str(file))
    found = digest(file)
    if not found.startswith(expected):
        raise InputError(
            f"its SHA-256 is {found[:12]}…, the manifest says {expected[:12]}…: the file is damaged or not the one the "
            "manifest was written for; get it again, or correct the manifest if the change was yours",
            str(file),
        )
