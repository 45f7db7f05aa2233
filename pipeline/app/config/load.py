"""A document → a plan. Nothing is opened and no model is read; every mistake is noted and the reading goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from pipeline.app.config.cascades import CascadeReader
from pipeline.app.config.document import Document, Key
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.plan import Plan
from pipeline.app.config.settings import SECTIONS, MetricsSettings
from pipeline.core.catalogue import Catalogue
from pipeline.core.contracts import Sink, Source
from pipeline.core.errors import InputError
from pipeline.engine.events import EventSettings


def load(document: Document, mistakes: Mistakes) -> Plan:
    """Everything that can be known without opening a source, a sink or a model."""
    mistakes.unresolved(document.resolve())
    return _Loader(document, mistakes).plan()


class _Loader:
    def __init__(self, document: Document, mistakes: Mistakes) -> None:
        self._document, self._mistakes = document, mistakes

    def plan(self) -> Plan:
        data = self._document.data
        self._mistakes.unknown_keys(data, SECTIONS)
        sources, gates = self._sources()
        cascades = CascadeReader(self._document, self._mistakes)
        chosen = {
            name: cascades.choose(source.cascade, ("sources", name, "cascade"), source.medium)
            for name, source in sources.items()
        }
        named = data.get("sources")
        if not named or (isinstance(named, dict) and all(section is None for section in named.values())):
            self._mistakes.add("nothing to watch: name a source, or give a target on the command line", ("sources",))
        if data.get("cascade") is not None:
            cascades.choose(None, ("cascade",))  # looked at even where every source names its own
        metrics = data.get("metrics")
        return Plan(
            sources,
            gates,
            {name: cascade for name, cascade in chosen.items() if cascade is not None},
            cascades.read,
            self._sinks(),
            self._mistakes.model(EventSettings, data.get("events"), ("events",)),
            None if metrics is None else self._mistakes.model(MetricsSettings, metrics, ("metrics",)),
        )

    def _section(self, name: str) -> dict[str, Any]:
        section = self._document.data.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            self._mistakes.add(f"should be a mapping of names, like `{name}: {{front: {{kind: …}}}}`", (name,))
            return {}
        return section

    def _sources(self) -> tuple[dict[str, Source], dict[str, Any]]:
        from sources import CATALOGUE

        sources: dict[str, Source] = {}
        gates: dict[str, Any] = {}
        for name, section in self._section("sources").items():
            key = ("sources", name)
            if section is None:
                continue  # taken away with --set
            gate = section.get("gate") if isinstance(section, dict) else None
            settings = section
            if gate is not None:
                choice, plan = self._gate(gate, (*key, "gate"))
                settings = {**section, "gate": choice}
                if plan is not None:
                    gates[name] = plan
            source = self._adapter(CATALOGUE, settings, key)
            if source is not None:
                sources[name] = cast(Source, source)
                self._checked(cast(Source, source), key)
        return sources, gates

    def _gate(self, gate: object, key: Key) -> tuple[dict[str, Any] | None, Any]:
        """`motion`, or a mapping with `kind`, `refresh_s` and the gate's own settings → the engine's part of it and
        the gate's plan."""
        from detectors import GATES

        section = {"kind": gate} if isinstance(gate, str) else gate
        plan = self._adapter(GATES, section, key, beside=("refresh_s",))
        if plan is None or not isinstance(section, dict):
            return None, None
        return {name: section[name] for name in ("kind", "refresh_s") if name in section}, plan

    def _sinks(self) -> dict[str, Sink]:
        from sinks import CATALOGUE

        sinks: dict[str, Sink] = {}
        writers: dict[str, str] = {}
        for name, section in self._section("sinks").items():
            if section is None:
                continue
            sink = self._adapter(CATALOGUE, section, ("sinks", name))
            if sink is None:
                continue
            sinks[name] = cast(Sink, sink)
            self._checked(cast(Sink, sink), ("sinks", name))
            path = getattr(sink, "path", None)
            if path is not None and str(path) != "-":
                other = writers.setdefault(str(Path(str(path)).resolve()), name)
                if other != name:
                    self._mistakes.add(f'sink "{other}" writes to this path already', ("sinks", name, "path"))
        return sinks

    def _checked(self, plan: Source | Sink, key: Key) -> None:
        if not self._mistakes.is_resolved(key):
            return
        if isinstance(plan, Source) and plan.isolation == "process" and (plan.medium != "picture" or plan.tracks):
            self._mistakes.add("only pictures are decoded in a process of their own", (*key, "isolation"))
        try:
            plan.check()
        except InputError as error:
            self._mistakes.take(error, key)

    def _adapter(
        self, catalogue: Catalogue, section: object, key: Key, beside: tuple[str, ...] = ()
    ) -> BaseModel | None:
        """The plan of the kind that `section` names. `beside` are keys of it that are not the adapter's."""
        if not self._mistakes.name(key[1], key[:2]):
            return None
        if not isinstance(section, dict):
            self._mistakes.add("should be a mapping with a kind, like {kind: …}", key)
            return None
        kind = section.get("kind")
        if not isinstance(kind, str):
            self._mistakes.add(f"needs a kind: one of {', '.join(catalogue.kinds())}", key)
            return None
        try:
            model = catalogue.load(kind)
        except InputError as error:
            self._mistakes.take(error, (*key, "kind"))
            return None
        rest = {name: value for name, value in section.items() if name != "kind" and name not in beside}
        return self._mistakes.model(cast(type[BaseModel], model), rest, key)
