"""What a run did, when it is over: one document for programs, a few lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from pipeline.core.contracts import Generation
from pipeline.core.records import Verdict
from pipeline.core.secrets import redact
from pipeline.core.snapshot import AuditSnapshot, Latency, PolicySnapshot, Snapshot, StageSnapshot, StreamSnapshot

_FRAMES = ("received", "windows", "sampled_out", "damaged", "undecoded")


def document(
    snapshot: Snapshot, generations: Iterable[Generation], problems: Sequence[str] = (), lines: Collection[str] = ()
) -> dict[str, Any]:
    """The document that `thresher run --json` ends with. Shares are fractions of 1, times milliseconds.

    Both ledgers are sums over all streams, those included that were removed meanwhile (`removed`: what they counted):
    `received = windows + sampled_out + damaged + undecoded` and `windows = results + shed + failed + in_flight`.
    `lines` are the streams that show parts: to people, verdicts on parts are told of these alone.
    """
    everything = snapshot.all_streams
    return {
        "seconds": round(snapshot.elapsed_s, 3),
        "streams": {one.stream: _stream(one) for one in snapshot.streams},
        **({} if snapshot.removed is None else {"removed": _stream(snapshot.removed)}),
        "ledgers": {
            "frames": {name: sum(getattr(one, name) for one in everything) for name in _FRAMES},
            "windows": {
                "windows": sum(one.windows for one in everything),
                "results": sum(one.results for one in everything),
                "shed": sum(sum(one.shed.values()) for one in everything),
                "failed": sum(one.failed for one in everything),
                "in_flight": sum(one.in_flight for one in everything),
            },
        },
        "decided_by": _shares(_decided(everything)),
        "flagged": sum(one.flagged for one in everything),
        "verdicts": _verdicts(everything),
        "lines": sorted(lines),
        "shed_by_reason": _sum(one.shed for one in everything),
        "latency_ms": _latency(snapshot.latency),
        "stages": [_stage(one) for one in snapshot.stages],
        "sinks": {
            one.sink: {
                "state": one.state,
                "written": one.written,
                "dropped": one.dropped,
                "refused": one.refused,
                "waiting": one.waiting,
                "retries": one.retries,
                **({} if one.outbox is None else {"outbox": asdict(one.outbox)}),
            }
            for one in snapshot.sinks
        },
        "generations": {
            one.id: {
                "certified": one.certified,
                "promise": one.promise,
                "stages": [stage.describe() for stage in one.stages],
            }
            for one in generations
        },
        "audits": {one.generation: _audit(one) for one in snapshot.audits},
        **({} if snapshot.policy is None else {"policy": _policy(snapshot.policy)}),
        "cpu_percent": round(snapshot.cpu_percent, 1),
        "rss_mib": round(snapshot.rss_bytes / 2**20, 1),
        "problems": [redact(problem) for problem in problems],
    }


def _sink_lines(sink: str, one: Mapping[str, Any]) -> Iterator[str]:
    bad = [f"{one[name]} {name}" for name in ("dropped", "refused", "waiting") if one[name]]
    if bad:
        yield _line("sink", f"{sink}: {one['written']} written", *bad)
    if (outbox := one.get("outbox")) is not None:
        yield outbox_line(sink, outbox)


def outbox_line(sink: str, outbox: Mapping[str, Any]) -> str:
    """How things stand between a sink and its receiver, over all runs."""
    fates = ("refused", "expired", "dropped", "damaged", "waiting")
    told = [f"{outbox[fate]} {fate}" for fate in fates if outbox[fate]]
    where = f" in {redact(outbox['path'])}" if outbox["waiting"] else ""
    return _line("outbox", f"{sink}: {outbox['delivered']} delivered", *told) + where


def lines(doc: Mapping[str, Any]) -> list[str]:
    """`document` as a person reads it."""
    frames, windows = doc["ledgers"]["frames"], doc["ledgers"]["windows"]
    seconds = doc["seconds"]
    out = []
    if len(doc["streams"]) > 1:
        width = max(len(name) for name in doc["streams"])
        for name, one in doc["streams"].items():
            detail = f" ({one['detail']})" if one["detail"] else ""
            out.append(f"  {name:<{width}}  {one['windows']} windows, {one['state']}{detail}")
    rate = f", {windows['results'] / seconds:.0f} verdicts a second" if seconds > 0 and windows["results"] else ""
    lost = [f"{frames[name]} {name.replace('_', ' ')}" for name in _FRAMES[2:] if frames[name]]
    out.append(_line("frames", f"{frames['received']} received", *lost, f"{seconds:.1f} s{rate}"))
    unsettled = [f"{windows[name]} {name.replace('_', ' ')}" for name in ("failed", "in_flight") if windows[name]]
    shed = [f"{count} shed ({reason})" for reason, count in doc["shed_by_reason"].items()]
    out.append(_line("windows", f"{windows['results']} judged", f"{doc['flagged']} flagged", *shed, *unsettled))
    for name in doc["lines"]:
        told = (f"{count} {verdict}" for verdict, count in doc["streams"][name]["verdicts"].items())
        out.append(_line("verdicts", *told) + (f" ({name})" if len(doc["streams"]) > 1 else ""))
    if doc["decided_by"]:
        out.append(_line("decided by", *(f"{stage} {share:.1%}" for stage, share in doc["decided_by"].items())))
    latency = doc["latency_ms"]
    if latency["count"]:
        out.append(_line("latency", *(f"p{p} {latency[f'p{p}']:.1f} ms" for p in (50, 90, 99))))
    for sink, one in doc["sinks"].items():
        out += _sink_lines(sink, one)
    for name, one in doc["streams"].items():
        if not one["connects"]:
            out.append(
                _line("not seen", f"{name} was never connected" + (f": {one['detail']}" if one["detail"] else ""))
            )
    for name, one in doc["audits"].items():
        out += _audit_lines(name if len(doc["audits"]) > 1 else "", one)
    if "policy" in doc:
        out.append(_policy_line(doc["policy"]))
    uncertified = [name for name, one in doc["generations"].items() if not one["certified"]]
    if uncertified:
        out.append(_line("uncertified", f"{', '.join(uncertified)}: nobody has bounded what the cheap stage lets slip"))
    return out


def _line(title: str, *parts: str) -> str:
    return f"{title + ':' if title else '':<12} {', '.join(parts)}"


def _stream(one: StreamSnapshot) -> dict[str, Any]:
    return {
        "cascade": one.cascade,
        "state": one.state.value,
        "detail": redact(one.detail),
        "received": one.received,
        "sampled_out": one.sampled_out,
        "damaged": one.damaged,
        "undecoded": one.undecoded,
        "windows": one.windows,
        "results": one.results,
        "shed": dict(one.shed),
        "failed": one.failed,
        "in_flight": one.in_flight,
        "flagged": one.flagged,
        "verdicts": _verdicts([one]),
        "connects": one.connects,
        "received_per_s": round(one.received_per_s, 2),
        "decided_by": _shares(one.decided_by),
        "latency_ms": _latency(one.latency),
    }


def _stage(one: StageSnapshot) -> dict[str, Any]:
    return {
        "cascade": one.cascade,
        "stage": one.stage,
        "generation": one.generation,
        "views": one.views,
        "batches": one.batches,
        "views_per_batch": round(one.views / one.batches, 2) if one.batches else 0.0,
        "errors": one.errors,
        "state": one.state,
        "busy_share": round(one.busy_share, 3),
        "service_ms": _latency(one.service),
    }


def _audit(one: AuditSnapshot) -> dict[str, Any]:
    """Recalls are shares of what the heavy stage flags; `bounds` hold at all times, `worst_case` counts what could not
    be looked at as missed. `ledger` is of this run, all else of all runs since the audit began."""
    said = one.report
    return {
        "cascade": one.cascade,
        "state": said.state,
        "alarm": said.alarm or None,
        "max_miss": said.alpha,
        "delta": said.delta,
        "recall": {
            "estimate": _rest(said.estimate),
            "bounds": [_rest(said.upper), _rest(said.lower)],
            "worst_case": _rest(said.worst),
        },
        "units": said.units,
        "reported": said.reported,
        "audited": said.audited,
        "unseen": said.unseen,
        "misses_found": said.missed,
        "misses": round(said.misses, 1),
        "positives": round(said.positives, 1),
        "outlook": said.outlook,
        "ledger": {
            "picked": one.picked,
            "audited": one.audited,
            "waiting": one.waiting,
            "skipped": dict(one.skipped),
        },
        "problem": one.problem,
    }


def _audit_lines(name: str, one: Mapping[str, Any]) -> list[str]:
    recall = one["recall"]
    low, high = recall["bounds"]
    most = _percent(one["max_miss"])
    says = {
        "confirmed": f"confirmed: at most {most} is missed",
        "unproven": f"unproven: whether at most {most} is missed is not known yet",
        "broken": f"BROKEN: more than {most} is missed",
    }[one["state"]]
    if one["alarm"] == "drift":
        says = f"DRIFT: it has begun to miss more than {most}"
    known = "nothing that the heavy stage flags has come yet"
    if recall["estimate"] is not None:
        known = f"recall {recall['estimate']:.2%} (surely {low:.2%} to {high:.2%}"
        known += f"; {recall['worst_case']:.2%} if all that was not seen was missed)" if one["unseen"] else ")"
    counts = [f"{one['audited']} audited", f"{one['misses_found']} misses found"]
    counts += [f"{one['unseen']} could not be looked at"] if one["unseen"] else []
    out = [_line("audit", f"{name}: {says}" if name else says), _line("", known, *counts)]
    if one["state"] == "unproven" and not one["alarm"]:
        out.append(_line("", one["outlook"]))
    if one["problem"]:
        out.append(_line("", f"it could not be saved: {one['problem']}"))
    return out


def _policy(one: PolicySnapshot) -> dict[str, Any]:
    """`actions` began; `latency_ms` is from the newest arrival that contributed to the decision."""
    return {
        "show": one.show,
        "actions": dict(one.ruled),
        "open": dict(one.open),
        "late": one.late,
        "dropped": one.dropped,
        "anchored_anew": one.anchored_anew,
        "latency_ms": _latency(one.latency),
    }


def _policy_line(one: Mapping[str, Any]) -> str:
    said = [f"{count} {action}" for action, count in one["actions"].items()] or ["nothing had to be done"]
    if one["latency_ms"]["count"]:
        said.append(f"decided in p50 {one['latency_ms']['p50']:.1f} ms, p99 {one['latency_ms']['p99']:.1f} ms")
    said += [f"{one['late']} windows came late"] if one["late"] else []
    said += [f"{one['dropped']} had no room"] if one["dropped"] else []
    return _line("policy", *said) + f" ({one['show']})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _rest(rate: float | None) -> float | None:
    return None if rate is None else round(1 - rate, 6)


def _latency(latency: Latency) -> dict[str, Any]:
    return {
        "count": latency.count,
        "p50": round(latency.p50_ms, 2),
        "p90": round(latency.p90_ms, 2),
        "p99": round(latency.p99_ms, 2),
        "max": round(latency.max_ms, 2),
    }


def _decided(streams: Sequence[StreamSnapshot]) -> Mapping[str, int]:
    return _sum(one.decided_by for one in streams)


def _verdicts(streams: Sequence[StreamSnapshot]) -> dict[str, int]:
    """Every word, also those that never fell."""
    return {verdict: sum(one.verdicts.get(verdict, 0) for one in streams) for verdict in get_args(Verdict)}


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total.most_common())


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: round(count / total, 4) for name, count in counts.items()} if total else {}
