"""The `policy` section: what it names has to exist, or a rule would wait for ever for what cannot come."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from pipeline.app.config.document import Key
from pipeline.app.config.mistakes import Mistakes
from pipeline.core.catalogue import nearest
from pipeline.engine.policy_settings import PolicySettings

_KEY: Key = ("policy",)


def check_streams(policy: PolicySettings, running: Collection[str], mistakes: Mistakes) -> None:
    """`running` are the streams of this run."""
    for name in policy.streams or ():
        if name not in running:
            mistakes.add(_unknown("stream", name, running), (*_KEY, "streams", name))
    show = [name for name in running if policy.streams is None or name in policy.streams]
    for key, name in _named(policy):
        if name in running and name not in show:
            mistakes.add(f'"{name}" is none of the `streams` of this show', key)
        elif name not in running:
            mistakes.add(_unknown("stream", name, show), key)


def check_labels(policy: PolicySettings, labels: Mapping[str, Sequence[str]], mistakes: Mistakes) -> None:
    """`labels` are what the streams' cascades can report, as far as that is known."""
    for number, rule in enumerate(policy.rules):
        for place, condition in enumerate(rule.when):
            key = (*_KEY, "rules", str(number), "when", str(place), "label")
            known: Collection[str] | None
            if condition.stream is not None:
                known = labels.get(condition.stream)
                whose = f"what judges {condition.stream} reports"
            else:
                known = _of_all(labels, policy.streams)
                whose = "no cascade of this show reports"
            if known is None or condition.label in known:
                continue
            said = f'{whose} {"no " if condition.stream else ""}"{condition.label}".'
            mistakes.add(said + (nearest(condition.label, known) or f" Known: {', '.join(sorted(known)[:12])}."), key)


def _of_all(labels: Mapping[str, Sequence[str]], show: Iterable[str] | None) -> set[str] | None:
    streams = list(labels) if show is None else list(show)
    if any(name not in labels for name in streams):
        return None
    return {label for name in streams for label in labels[name]}


def _named(policy: PolicySettings) -> Iterator[tuple[Key, str]]:
    """Every stream that a rule names, and where."""
    for number, rule in enumerate(policy.rules):
        key = (*_KEY, "rules", str(number))
        for place, condition in enumerate(rule.when):
            if condition.stream is not None:
                yield (*key, "when", str(place), "stream"), condition.stream
        for place, target in enumerate(rule.targets or ()):
            yield (*key, "targets", str(place)), target


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    hint = nearest(name, sorted(known)) or (f" Known: {', '.join(sorted(known))}." if known else "")
    return f'there is no {what} "{name}".{hint}'
