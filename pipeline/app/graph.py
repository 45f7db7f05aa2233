"""A plan as a Mermaid flow chart."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.app.config.document import Document
from pipeline.app.config.plan import CascadePlan, Plan


def mermaid(plan: Plan, document: Document) -> str:
    """Sources on the left, sinks on the right; a node's second line says what it is."""
    nodes = _Ids()
    return "\n".join(
        [
            "flowchart LR",
            *(f"    {line}" for line in (*_sources(plan, document, nodes), *_cascades(plan, document, nodes))),
        ]
    )


class _Ids:
    """Mermaid's ids take fewer characters than our names do."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def of(self, what: str, name: str) -> str:
        return self._known.setdefault((what, name), f"{what}{len(self._known)}")


def _sources(plan: Plan, document: Document, nodes: _Ids) -> Iterator[str]:
    for name in (*plan.sources, *plan.tracks):
        here, settings = nodes.of("source", name), plan.settings(name)
        there = nodes.of("cheap", plan.watches[name])
        source, *track = plan.tracks.get(name, (name,))
        yield f'{here}(["{name}<br/>{", ".join((_kind(document, "sources", source), *track))}"])'
        if settings.gate is not None:
            gate = nodes.of("gate", name)
            again = f"<br/>again every {settings.gate.refresh_s:g} s" if plan.gates[name].medium == "picture" else ""
            yield f'{gate}{{{{"{settings.gate.kind}{again}"}}}}'
            yield f"{here} --> {gate} -->|{'changed' if again else 'passed'}| {there}"
        else:
            yield f"{here} --> {there}"


def _cascades(plan: Plan, document: Document, nodes: _Ids) -> Iterator[str]:
    for name, cascade in plan.cascades.items():
        if name not in plan.watches.values():
            continue
        cheap = nodes.of("cheap", name)
        yield f'{cheap}["{_stage(cascade, "cheap")}"]'
        ends = [cheap]
        if cascade.heavy is not None:
            heavy = nodes.of("heavy", name)
            yield f'{heavy}["{_stage(cascade, "heavy")}"]'
            yield f"{cheap} -->|escalated| {heavy}"
            ends.append(heavy)
        for sink in plan.sinks:
            there = nodes.of("sink", sink)
            yield f'{there}[/"{sink}<br/>{_kind(document, "sinks", sink)}"/]'
            yield f"{' & '.join(ends)} --> {there}"


def _kind(document: Document, section: str, name: str) -> str:
    return str(document.data[section][name]["kind"])


def _stage(cascade: CascadePlan, which: str) -> str:
    choice = cascade.cheap if which == "cheap" else cascade.heavy
    assert choice is not None
    label = choice.name or which
    return f"{label}<br/>{choice.model.rpartition('/')[2]}"
