"""A document → a plan. Nothing is opened and no model is read; every mistake is noted and the reading goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from pipeline.app.config.cascades import CascadeReader
from pipeline.app.config.document import Document, Key
from pipeline.app.config.events import check_places
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.plan import Plan
from pipeline.app.config.policy import check_streams
from pipeline.app.config.settings import SECTIONS, MetricsSettings, WebSettings
from pipeline.app.config.tls import server_context
from pipeline.app.config.trace import TraceSettings
from pipeline.core import reach
from pipeline.core.catalogue import Catalogue
from pipeline.core.contracts import GatePlan, Generation, Sink, Source
from pipeline.core.errors import InputError
from pipeline.core.reach import NetworkSettings
from pipeline.core.settings import address
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.policy_settings import PolicySettings

AROUND = "of"
"""What an adapter around another one calls that."""


@dataclass(frozen=True)
class Standing:
    """What runs by now: the plan with its generations. In a document that differs from it in the source `changed`
    alone, nothing else is looked at anew: a file that went meanwhile, say, is no mistake of who adds a camera."""

    plan: Plan
    generations: Mapping[str, Generation]
    changed: str

    def gates(self, source: str) -> dict[str, GatePlan]:
        """Those of its streams."""
        return {name: gate for name, gate in self.plan.gates.items() if self.plan.key(name)[1] == source}


def load(document: Document, mistakes: Mistakes, standing: Standing | None = None) -> Plan:
    """Everything that can be known without opening a source, a sink or a model. With what is `standing`, only the
    section that changed has references to follow."""
    mistakes.unresolved(document.resolve(below=None if standing is None else ("sources", standing.changed)))
    return _Loader(document, mistakes, standing).plan()


class _Loader:
    def __init__(self, document: Document, mistakes: Mistakes, standing: Standing | None) -> None:
        self._document, self._mistakes, self._standing = document, mistakes, standing

    def plan(self) -> Plan:
        data = self._document.data
        self._mistakes.unknown_keys(data, SECTIONS)
        network = self._mistakes.model(NetworkSettings, data.get("network") or {}, ("network",))
        reach.use(network or NetworkSettings())  # the checks of sources and sinks ask it, too
        sources, gates = self._sources()
        tracks = self._tracks(sources)
        known = {} if self._standing is None else self._standing.plan.cascades
        cascades = CascadeReader(self._document, self._mistakes, known=known)
        chosen = {
            name: cascades.choose(source.cascade, ("sources", name, "cascade"), source.medium)
            for name, source in sources.items()
        }
        chosen |= {
            name: cascades.choose(sources[source].tracks[track].cascade, ("sources", source, track, "cascade"), "sound")
            for name, (source, track) in tracks.items()
        }
        named = data.get("sources")
        nothing = not named or (isinstance(named, dict) and all(section is None for section in named.values()))
        if nothing and data.get("web") is None and self._standing is None:  # else the page may add some
            self._mistakes.add("nothing to watch: name a source, or give a target on the command line", ("sources",))
        if data.get("cascade") is not None:
            cascades.choose(None, ("cascade",))  # looked at even where every source names its own
        policy = data.get("policy")
        sinks = self._sinks() if self._standing is None else dict(self._standing.plan.sinks)
        self._check_tapes(sources, sinks)
        metrics, web = self._endpoints(sources)
        trace = self._trace(data.get("trace"))
        self._check_ports(sources, metrics, web)
        return Plan(
            sources,
            gates,
            {name: cascade for name, cascade in chosen.items() if cascade is not None},
            tracks,
            cascades.read,
            sinks,
            self._events(data.get("events"), sources),
            metrics,
            None if policy is None else self._policy(policy, sources),
            self._state(),
            web,
            trace,
        )

    def _trace(self, section: object) -> TraceSettings | None:
        if self._standing is not None:
            return self._standing.plan.trace
        return None if section is None else self._mistakes.model(TraceSettings, section, ("trace",))

    def _endpoints(self, sources: Mapping[str, Source]) -> tuple[MetricsSettings | None, WebSettings | None]:
        if self._standing is not None:
            return self._standing.plan.metrics, self._standing.plan.web
        metrics, section = None, self._document.data.get("metrics")
        if section is not None:
            metrics = self._mistakes.model(MetricsSettings, section, ("metrics",))
        web = self._web(self._document.data.get("web"))
        if web is None and any(source.published for source in sources.values()):
            web = WebSettings(open=False)
        return metrics, web

    def _state(self) -> Path | None:
        folder = self._document.data.get("state")
        if folder is None or not self._mistakes.is_resolved(("state",)):
            return None
        if not isinstance(folder, str) or not folder:
            self._mistakes.add("should be the path of a folder, like `state: state`", ("state",))
            return None
        path = Path(os.path.expanduser(folder))
        try:
            if path.exists() and not path.is_dir():
                self._mistakes.add(f"{folder} is no folder", ("state",))
        except OSError as error:  # a name that is too long, say
            self._mistakes.add(f"cannot be a folder: {error.strerror}", ("state",))
        return path

    def _web(self, section: object) -> WebSettings | None:
        if section is None:
            return None
        web = self._mistakes.model(WebSettings, section, ("web",))
        if web is not None and web.certificate is not None and web.key is not None:
            try:
                server_context(web.certificate, web.key)
            except InputError as error:
                self._mistakes.add(error.message, ("web", error.place))
        return web

    def _events(self, section: object, sources: Mapping[str, Source]) -> EventSettings | None:
        events = self._mistakes.model(EventSettings, section, ("events",))
        named = [name for name, one in self._section("sources").items() if one is not None]
        if events is not None and all(name in sources for name in named):
            check_places(events, {name: source.medium for name, source in sources.items()}, self._mistakes)
        return events

    def _check_ports(
        self, sources: Mapping[str, Source], metrics: MetricsSettings | None, web: WebSettings | None
    ) -> None:
        """Two that listen at one port would be found out only when they are started."""
        taken: dict[int, list[tuple[str, str]]] = {}
        places: list[tuple[str, Key, str]] = [
            (f'the source "{name}"', ("sources", name), source.answers_at)
            for name, source in sources.items()
            if source.answers_at is not None
        ]
        if metrics is not None:
            places.append(("`metrics`", ("metrics",), metrics.listen))
        if web is not None:
            places.append(("`web`", ("web",), web.listen))
        for who, key, listen in places:
            host, port = address(listen)
            for other, there in taken.setdefault(port, []) if port else ():
                if host == there or {host, there} & {"0.0.0.0", "::"}:  # noqa: S104  # compared, not listened at
                    self._mistakes.add(f"{other} listens at port {port} already", (*key, "listen"))
                    break
            if port:
                taken[port].append((who, host))

    def _policy(self, section: object, sources: Mapping[str, Source]) -> PolicySettings | None:
        policy = self._mistakes.model(PolicySettings, section, ("policy",))
        named = [name for name, one in self._section("sources").items() if one is not None]
        if policy is not None and all(name in sources for name in named):  # else nobody knows what tracks there are
            tracks = [f"{name}.{track}" for name, source in sources.items() for track in source.tracks]
            check_streams(policy, [*named, *tracks], self._mistakes)
        return policy

    def _section(self, name: str) -> dict[str, Any]:
        section = self._document.data.get(name)
        if section is None:
            return {}
        if not isinstance(section, dict):
            self._mistakes.add(f"should be a mapping of names, like `{name}: {{front: {{kind: …}}}}`", (name,))
            return {}
        return section

    def _sources(self) -> tuple[dict[str, Source], dict[str, GatePlan]]:
        from sources import CATALOGUE

        sources: dict[str, Source] = {}
        gates: dict[str, GatePlan] = {}
        for name, section in self._section("sources").items():
            key = ("sources", name)
            if section is None:
                continue  # taken away with --set
            if self._standing is not None and name != self._standing.changed:
                sources[name] = self._standing.plan.sources[name]
                gates |= self._standing.gates(name)
                continue
            source = self._adapter(CATALOGUE, self._without_gates(section, key, name, gates), key)
            if source is not None:
                sources[name] = cast(Source, source)
                self._checked(cast(Source, source), key)
        return sources, gates

    def _tracks(self, sources: dict[str, Source]) -> dict[str, tuple[str, str]]:
        """The streams that sources have beside their own, by full name."""
        tracks = {f"{name}.{track}": (name, track) for name, source in sources.items() for track in source.tracks}
        for stream in tracks.keys() & sources.keys():
            self._mistakes.add(f"another source has the name {stream} already", ("sources", *tracks[stream]))
        return tracks

    def _without_gates(self, section: Any, key: Key, stream: str, gates: dict[str, GatePlan]) -> Any:
        """The settings of a source, and of its tracks, as `_without_gate` leaves them."""
        settings = self._without_gate(section, key, stream, gates)
        for name, inner in section.items() if isinstance(section, dict) else ():
            if isinstance(inner, dict) and name != "gate":
                where = (*key, name)
                if name == AROUND:
                    settings[name] = self._without_gates(inner, where, stream, gates)
                else:
                    settings[name] = self._without_gate(inner, where, f"{stream}.{name}", gates)
        return settings

    def _without_gate(self, section: Any, key: Key, stream: str, gates: dict[str, GatePlan]) -> Any:
        """The settings of a stream with no more of its gate in them than is the engine's; the rest goes to `gates`."""
        gate = section.get("gate") if isinstance(section, dict) else None
        if gate is None:
            return dict(section) if isinstance(section, dict) else section
        choice, plan = self._gate(gate, (*key, "gate"))
        if plan is not None:
            gates[stream] = plan
        return {**section, "gate": choice}

    def _gate(self, gate: object, key: Key) -> tuple[dict[str, Any] | None, GatePlan | None]:
        """`motion`, or a mapping with `kind`, `refresh_s` and the gate's own settings → the engine's part of it and
        the gate's plan."""
        from detectors import GATES

        section = {"kind": gate} if isinstance(gate, str) else gate
        plan = self._adapter(GATES, section, key, beside=("refresh_s",))
        if plan is None or not isinstance(section, dict):
            return None, None
        return {name: section[name] for name in ("kind", "refresh_s") if name in section}, cast(GatePlan, plan)

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

    def _check_tapes(self, sources: Mapping[str, Source], sinks: Mapping[str, Sink]) -> None:
        """Packets stay in the process that reads them."""
        recorder = next((name for name, sink in sinks.items() if "tapes" in sink.takes), None)
        for name, source in sources.items():
            if recorder is not None and source.isolation == "process":
                self._mistakes.add(
                    f'the sink "{recorder}" cuts clips from its packets, which a process of its own keeps to itself:'
                    " take away `isolation`, or the sink",
                    ("sources", name, "isolation"),
                )

    def _checked(self, plan: Source | Sink, key: Key) -> None:
        if not self._mistakes.is_resolved(key):
            return
        if isinstance(plan, Source) and plan.isolation == "process" and (plan.medium != "picture" or plan.tracks):
            self._mistakes.add("only pictures are decoded in a process of their own", (*key, "isolation"))
        try:
            plan.check()
        except InputError as error:
            self._mistakes.take(error, key)
        except OSError as error:  # a path that is too long, a folder that may not be looked into
            self._mistakes.add(f"cannot be read: {error.strerror}", key)

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
        if AROUND in rest and AROUND in model.model_fields:
            rest[AROUND] = self._adapter(catalogue, rest[AROUND], (*key, AROUND))
            if rest[AROUND] is None:
                return None
        return self._mistakes.model(cast(type[BaseModel], model), rest, key)
