"""Which models judge, and by which rule: spelled out in the config, shipped by name, or a single model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import detectors
from detectors.calibration.live import AuditSettings
from detectors.choice import ZOO, ModelChoice, zoo_names
from pipeline.app.config.certified import certified
from pipeline.app.config.document import Document, Key, read
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.plan import CascadePlan, CheckedRule
from pipeline.app.config.settings import CascadeSections
from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError
from pipeline.core.media import Medium

DEFAULTS: Mapping[Medium, str] = {"picture": "people", "sound": "words", "text": "chat"}
"""The shipped cascade that judges a stream of which nobody said what should."""
_OF_THE_CONFIG = "cascade"  # the name of one that is spelled out under `cascade:`
_GRAPHS = frozenset({".onnx", ".xml", ".pb"})


def shipped_cascades() -> list[str]:
    return sorted(path.stem for path in (ZOO / "cascades").glob("*.yaml") if "." not in path.stem)


def known_cascades(config: Mapping[str, Any]) -> dict[str, str]:
    """What a stream may name, and what each is about: the config's own first."""
    own = config.get("cascades")
    sections = dict(own) if isinstance(own, dict) else {}
    sections |= {name: _shipped(name) for name in shipped_cascades() if name not in sections}
    return {name: str(section.get("about", "")) for name, section in sections.items() if isinstance(section, dict)}


def is_path(model: str) -> bool:
    """Whether `model` names a file or a folder and not a model of the zoo."""
    return "/" in model or "\\" in model or Path(model).suffix in _GRAPHS


class CascadeReader:
    """Reads each cascade once, when something asks for it."""

    def __init__(
        self,
        document: Document,
        mistakes: Mistakes,
        *,
        certificates: bool = True,
        known: Mapping[str, CascadePlan] | None = None,
    ) -> None:
        """Without `certificates`, those that cascades name are not looked at, and neither are their audits. What is
        `known` was read before, from this very document."""
        self._document, self._mistakes, self._certificates = document, mistakes, certificates
        self.read: dict[str, CascadePlan] = dict(known or {})
        self._bad: set[str] = set()
        own = document.data.get("cascades")
        self._own: dict[str, Any] = own if isinstance(own, dict) else {}
        if own is not None and not isinstance(own, dict):
            mistakes.add("should be a mapping of cascades by name", ("cascades",))
        for name in self._own:
            if mistakes.name(name, ("cascades", name)):
                self._named(name, ("cascades", name))
        if _OF_THE_CONFIG in self._own and isinstance(document.data.get("cascade"), dict):
            mistakes.add("another name, please: this is what the config's own goes by", ("cascades", _OF_THE_CONFIG))

    def choose(self, name: str | None, key: Key, medium: Medium = "picture") -> str | None:
        """The cascade that a source of that medium asks for by `name`, or the config's; None where it cannot be
        used."""
        if name is None:
            written = self._document.data.get("cascade")
            if isinstance(written, dict):
                return self._once(_OF_THE_CONFIG, written, ("cascade",), self._document.folder)
            if written is None and len(self._own) == 1:
                written = next(iter(self._own))
            name, key = str(written or DEFAULTS[medium]), ("cascade",)
        return self._named(name, key)

    def _named(self, name: str, key: Key) -> str | None:
        if name in self._own:
            return self._once(name, self._own[name], ("cascades", name), self._document.folder)
        if name in self.read or name in self._bad:
            return name if name in self.read else None
        if name in shipped_cascades():
            return self._once(name, _shipped(name), key, ZOO)
        if is_path(name) or name in zoo_names():
            stem = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(name).stem) or "model"
            return self._once(stem, {"cheap": {"model": name}}, key, self._document.folder)
        known = [*self._own, *shipped_cascades(), *zoo_names()]
        hint = nearest(name, known) or f" Known: {', '.join(known)}."
        self._mistakes.add(f'there is no cascade or model "{name}".{hint}', key)
        self._bad.add(name)
        return None

    def _once(self, name: str, section: object, key: Key, folder: Path) -> str | None:
        if name not in self.read and name not in self._bad:
            plan = self._plan(name, section, key, folder)
            if plan is None:
                self._bad.add(name)
            else:
                self.read[name] = plan
        return name if name in self.read else None

    def _plan(self, name: str, section: object, key: Key, folder: Path) -> CascadePlan | None:
        written = section
        if isinstance(section, dict) and isinstance(section.get("base"), str):
            base = section["base"]
            if base not in shipped_cascades():
                hint = nearest(base, shipped_cascades()) or f" Known: {', '.join(shipped_cascades())}."
                self._mistakes.add(f'there is no shipped cascade "{base}".{hint}', (*key, "base"))
                return None
            written = {k: v for k, v in section.items() if k != "base"}
            section = _merged(_shipped(base), written)
        before = len(self._mistakes.errors)
        parts = self._mistakes.model(CascadeSections, section, key)
        if parts is None:
            return None
        cheap = self._choice(parts.cheap, (*key, "cheap"), folder)
        heavy = self._choice(parts.heavy, (*key, "heavy"), folder) if parts.heavy is not None else None
        rule = self._rule(parts.rule, (*key, "rule")) if parts.rule is not None else None
        if parts.heavy is not None and parts.rule is None:
            self._mistakes.add("is needed where there is a heavy stage: it says what goes there", (*key, "rule"))
        audit = self._audit(parts, (*key, "audit")) if self._certificates else None
        if cheap is None or len(self._mistakes.errors) > before:
            return None
        plan = CascadePlan(name, cheap, heavy, rule, parts.about, key, audit=audit, cache=parts.cache)
        if parts.certificate is not None and self._certificates:
            proved = certified(plan, folder / os.path.expanduser(parts.certificate), written, self._mistakes)
            if proved is None:
                return None
            plan = proved
        try:
            plan.audit_plan()
        except InputError as error:
            self._mistakes.add(error.message, (*key, "audit", error.place))
        return plan if len(self._mistakes.errors) == before else None

    def _audit(self, parts: CascadeSections, key: Key) -> AuditSettings | None:
        if parts.audit is None:
            return None
        if parts.heavy is None:
            self._mistakes.add("there is no heavy stage, and an audit asks how much of its findings is missed", key)
            return None
        return self._mistakes.model(AuditSettings, parts.audit, key)

    def _choice(self, section: dict[str, Any], key: Key, folder: Path) -> ModelChoice | None:
        model = section.get("model")
        if isinstance(model, str) and model not in zoo_names() and (is_path(model) or os.path.exists(folder / model)):
            # a path in a config starts from where the config lies
            section = {**section, "model": str(folder / os.path.expanduser(model))}
        return self._mistakes.model(ModelChoice, section, key)

    def _rule(self, section: dict[str, Any], key: Key) -> CheckedRule | None:
        kind = section.get("kind")
        if not isinstance(kind, str):
            self._mistakes.add(f"needs a kind: one of {', '.join(detectors.RULES.kinds())}", key)
            return None
        try:
            model = detectors.RULES.load(kind)
        except InputError as error:
            self._mistakes.take(error, (*key, "kind"))
            return None
        rest = {name: value for name, value in section.items() if name != "kind"}
        return cast("CheckedRule | None", self._mistakes.model(model, rest, key))


def _shipped(name: str) -> dict[str, Any]:
    """Its section, with the certificate where it lies: whoever builds on it has another folder."""
    section = read(ZOO / "cascades" / f"{name}.yaml").data
    if isinstance(section.get("certificate"), str):
        section["certificate"] = str(ZOO / "cascades" / section["certificate"])
    return section


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` in their place, mappings merged key by key."""
    out = dict(base)
    for name, value in over.items():
        below = out.get(name)
        out[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return out
