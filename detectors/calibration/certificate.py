"""The certificate of a cascade: what was proved, of which models, in which form, with which data. It is a file that
lies beside the config which names it; a cascade that is not the one it speaks of does not start as certified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, ValidationError

from detectors.calibration.bounds import Test
from pipeline.core.contracts import Rule, Stage
from pipeline.core.errors import InputError
from pipeline.core.files import save_text
from pipeline.core.secrets import redact
from pipeline.core.settings import Settings
from pipeline.core.yaml_text import plain_yaml, yaml_text

Against: TypeAlias = Literal["heavy", "truth"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
_KINDS = {"Scores": "scores", "Boxes": "boxes", "Regions": "regions"}


class StageIdentity(Settings):
    """Exactly which model ran, and how. `fingerprint` stands for all files of its weights, its view and how its answers
    are read."""

    model: str
    version: str
    fingerprint: str
    sha256: str
    runtime: str
    precision: str
    view: str

    @classmethod
    def of(cls, stage: Stage) -> Self:
        said = stage.describe()
        words = {name: str(said.get(name, "")) for name in cls.model_fields}
        return cls.model_validate(words | {"view": stage.spec.words()})

    def differences(self, there: StageIdentity) -> list[str]:
        """What of `there` is not as it was, in words."""
        if self.fingerprint != there.fingerprint or self.sha256 != there.sha256:
            mine, other = (f"{one.model} v{one.version} ({one.fingerprint[:12]}…)" for one in (self, there))
            return [f"it was made for the model {mine}, this is {other}"]
        return [
            f"it was made with the {name} {getattr(self, name)}, this is {getattr(there, name)}"
            for name in ("runtime", "precision", "view")
            if getattr(self, name) != getattr(there, name)
        ]


class CertifiedRule(Settings):
    """`settings` are all of the rule's, `calibrated` those among them that calibration chose."""

    kind: Literal["scores", "boxes", "regions"]
    settings: dict[str, Any]
    calibrated: dict[str, Any]

    @classmethod
    def of(cls, rule: Rule, key: str) -> Self:
        settings = rule_settings(rule)
        return cls.model_validate(
            {"kind": _KINDS[type(rule).__name__], "settings": settings, "calibrated": {key: settings[key]}}
        )


class Data(Settings):
    """What it was calibrated on. `digest` is that of the list of the units' own digests."""

    source: str
    split: str = Field(description="what these data were to the models, as the person who calibrated says")
    unit: str
    units: Count
    left_out: dict[str, int] = Field(default_factory=dict, description="what was not counted, and why")
    digest: str


class ClassShare(Settings):
    """One class of a promise that speaks of all together: its share of the positives, and what it could lose at most if
    every miss were of this class."""

    share: Share
    may_lose: Share


class Truth(Settings):
    """Against the truth, where somebody knows it: of `positives` that truly are, `misses` by the cascade, `unflagged`
    by the heavy model itself. `holds`: the same alpha and delta are proved against the truth, too."""

    positives: Count
    misses: Count
    unflagged: Count
    holds: bool


class Proof(Settings):
    """All counts are `against` the heavy model's word on the whole unit, or the truth; `heavy_misses` of
    `heavy_positives` stand beside a proof against the truth, and nothing is promised of them. `each_class`: it holds
    for each class by itself. `evidence` is the p-value of the exact test, or 1/E: at most `delta`."""

    test: Test
    alpha: Share
    delta: Share
    positives: Count
    misses: Count
    alpha_false: Share | None = None
    negatives: Count
    false_alarms: Count
    evidence: float
    match_iou: Share | None = Field(
        default=None,
        description="the overlap from which two boxes are the same thing; none: a unit is missed if not flagged",
    )
    against: Against = "heavy"
    heavy_positives: Count | None = None
    heavy_misses: Count | None = None
    each_class: bool = False
    classes: dict[str, ClassShare] = Field(default_factory=dict)
    truth: Truth | None = None


class Saving(Settings):
    """What the heavy stage is spared, measured on the calibration data against the heavy stage on every whole unit;
    `heavy_time` is below 0 where crops cost more than they spare."""

    units: Share
    heavy_time: float


class Certificate(Settings):
    """See the module. `gates` is empty: nothing but the two stages and the rule was in the path that was measured."""

    format: Literal[1] = 1
    created: str
    program: str
    cheap: StageIdentity
    heavy: StageIdentity
    rule: CertifiedRule
    gates: tuple[str, ...] = ()
    data: Data
    proof: Proof
    saving: Saving

    def promise(self) -> str:
        """In a line, for the start of a run."""
        proof = self.proof
        more = "" if proof.alpha_false is None else f", reports at most {percent(proof.alpha_false)} of the rest"
        if proof.against == "truth":
            return f"misses at most {percent(proof.alpha)} of what is truly there{more} (δ = {percent(proof.delta)})"
        whose = ", of each class" if proof.each_class else ""
        true = " and of what is truly there" if proof.truth is not None and proof.truth.holds else ""
        what = f"misses at most {percent(proof.alpha)} of what {self.heavy.model} would flag{whose}{true}{more}"
        return f"{what} (δ = {percent(proof.delta)}{' each' if true else ''})"

    def differences(self, cheap: Stage, heavy: Stage | None, rule: Rule) -> list[str]:
        """Why this is no certificate for these stages and this rule: a line each, none where it is."""
        if heavy is None:
            return ["there is no heavy stage, and it promises how much of a heavy stage's findings is missed"]
        stages = (("cheap", self.cheap, cheap), ("heavy", self.heavy, heavy))
        wrong = [
            f"{name} stage: {line}"
            for name, mine, there in stages
            for line in mine.differences(StageIdentity.of(there))
        ]
        return wrong + self.rule_differences(rule)

    def rule_differences(self, rule: Rule, *, but_calibrated: bool = False) -> list[str]:
        """The same for the rule alone; `but_calibrated` leaves out what `applied` will set."""
        kind = _KINDS.get(type(rule).__name__, type(rule).__name__)
        if kind != self.rule.kind:
            return [f"rule: it was made for the kind {self.rule.kind}, this is {kind}"]
        there = rule_settings(rule)
        return [
            f"rule.{name}: it was made with {_shown(self.rule.settings.get(name))}, this is {_shown(there.get(name))}"
            for name in sorted(there.keys() | self.rule.settings.keys())
            if there.get(name) != self.rule.settings.get(name) and not (but_calibrated and name in self.rule.calibrated)
        ]

    def save(self, path: Path) -> None:
        """Write it as YAML, sealed; one that lies there stays until this one is whole. Raises `InputError`."""
        document = self.model_dump(mode="json")
        save_text(path, yaml_text(document | {"seal": _seal(document)}))


def load_certificate(path: Path) -> Certificate:
    """Raises `InputError` if there is none, or if it was changed since it was made."""
    place = str(path)
    try:
        document = plain_yaml(path.read_text("utf-8"), place)
    except OSError as error:
        raise InputError(f"the certificate cannot be read: {error.strerror}", place) from None
    except (UnicodeDecodeError, InputError):
        raise InputError("this is no certificate: it is no YAML", place) from None
    if not isinstance(document, dict) or "seal" not in document:
        raise InputError("this is no certificate: `thresher calibrate` makes them", place)
    seal = document.pop("seal")
    try:
        sound = seal == _seal(document)
    except (TypeError, ValueError, RecursionError):  # dates, circles, keys of several kinds: nothing that was written
        sound = False
    if not sound:
        raise InputError("it was changed after it was made, so it proves nothing: calibrate again", place)
    try:
        return Certificate.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(redact(f"{'.'.join(map(str, first['loc']))}: {first['msg']}"), place) from None


def digest_of(units: list[str]) -> str:
    """The digest of a list of units, each a line `digest id`."""
    return hashlib.sha256("\n".join(units).encode("utf-8", "surrogateescape")).hexdigest()


def rule_settings(rule: Rule) -> dict[str, Any]:
    """A rule's settings as plain data, the same before and after a file."""
    assert isinstance(rule, Settings)
    return rule.model_dump(mode="json")


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _seal(document: Mapping[str, Any]) -> str:
    """Not a signature: it keeps a slip of the hand from passing for a proof."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _shown(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
