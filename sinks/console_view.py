"""How the live table looks: a snapshot and the last events in, something that rich draws out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.core.outages import Outage
from pipeline.core.records import SourceState
from pipeline.core.rulings import Ruling
from pipeline.core.snapshot import AuditSnapshot, PolicySnapshot, SinkSnapshot, Snapshot, StageSnapshot, StreamSnapshot
from sinks.wording import Happening, clock, counted, duration, mebibytes, milliseconds, printable, shares, told

WIDE: Final = 110  # columns from which on there is room for more
_LEAST_STREAMS: Final = 3  # are shown, however low the terminal is
_LEFT: Final = frozenset({"stream", "state", "stage", "cascade"})
_MOST_NOTES: Final = 5
_MOST_DECIDERS: Final = 3
_MOST_DECIDERS_WIDE: Final = 6
_FRAME_LINES: Final = 4  # headline, blank, column names, and the line where the cursor rests
_STATE_STYLE: Final = {
    SourceState.LIVE: "green",
    SourceState.CONNECTING: "yellow",
    SourceState.PAUSED: "dim",
    SourceState.ENDED: "dim",
    SourceState.FAILED: "bold red",
}
_QUIET: Final = frozenset({SourceState.LIVE, SourceState.PAUSED, SourceState.ENDED})


def lost(stream: StreamSnapshot) -> dict[str, int]:
    """The windows and frames without a verdict, by reason."""
    others = {"failed": stream.failed, "damaged": stream.damaged, "undecoded": stream.undecoded}
    return {reason: count for reason, count in (*stream.shed.items(), *others.items()) if count}


def render(snapshot: Snapshot, events: Sequence[Happening], width: int, height: int) -> RenderableType:
    """The whole table, no higher than `height` lines where that can be helped."""
    wide = width >= WIDE
    below: list[RenderableType] = []
    if snapshot.stages:
        below += [Text(), _stages(snapshot.stages, wide)]
    if snapshot.audits:
        below += [Text(), *(_audit(audit) for audit in snapshot.audits)]
    if snapshot.policy is not None:
        below += [Text(), _policy(snapshot.policy)]
    if snapshot.sinks:
        below += [Text(), _sinks(snapshot.sinks)]
    if events:
        below += [Text(), *(_event(event) for event in events)]
    notes = [note for stream in snapshot.streams if (note := _note(stream))][:_MOST_NOTES]
    taken = _FRAME_LINES + len(below) + len(snapshot.stages) + len(notes)
    shown, rest = _fitting(snapshot.streams, max(_LEAST_STREAMS, height - taken))
    parts: list[RenderableType] = [_headline(snapshot), Text(), _streams(shown, _deciders(snapshot, wide), wide)]
    if rest:
        states = Counter(str(stream.state) for stream in rest)
        parts.append(Text(f"… and {len(rest)} more ({counted(states)})", style="dim"))
    return Group(*parts, *notes, *below)


def status_line(snapshot: Snapshot) -> str:
    """Everything that matters in one line, for logs."""
    states = Counter(str(stream.state) for stream in snapshot.streams)
    rate = sum(stream.outcomes_per_s for stream in snapshot.streams)
    missed: Counter[str] = Counter()
    for stream in snapshot.streams:
        missed.update(lost(stream))
    decided: Counter[str] = Counter()
    for stream in snapshot.streams:
        decided.update(stream.decided_by)
    said = [
        duration(snapshot.elapsed_s),
        counted(states) or "no streams",
        f"{rate:.1f} frames/s",
        f"P50 {milliseconds(snapshot.latency.p50_ms)} ms, P99 {milliseconds(snapshot.latency.p99_ms)} ms",
        ", ".join(f"{name} {share}" for name, share in shares(decided)),
        f"{sum(stream.flagged for stream in snapshot.streams):,} flagged",
        f"lost: {counted(missed)}" if missed else "",
        *(
            f"audit of {printable(audit.cascade)}: {audit.report.alarm or audit.report.state}"
            for audit in snapshot.audits
        ),
        ", ".join(f"{printable(sink.sink)} {_sink_trouble(sink)}" for sink in snapshot.sinks if _sink_trouble(sink)),
        f"CPU {snapshot.cpu_percent:.0f} %, {mebibytes(snapshot.rss_bytes)}",
    ]
    return " · ".join(part for part in said if part)


def _headline(snapshot: Snapshot) -> Text:
    rate = sum(stream.outcomes_per_s for stream in snapshot.streams)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("thresher ", style="bold")
    line.append(duration(snapshot.elapsed_s))
    if not snapshot.ready:
        line.append("  warming up", style="yellow")
    line.append(f"   {rate:.1f} frames/s", style="bold")
    line.append(f"   P50 {milliseconds(snapshot.latency.p50_ms)} ms  P99 {milliseconds(snapshot.latency.p99_ms)} ms")
    line.append(f"   CPU {snapshot.cpu_percent:.0f} %  {mebibytes(snapshot.rss_bytes)}", style="dim")
    return line


def _fitting(streams: Sequence[StreamSnapshot], room: int) -> tuple[list[StreamSnapshot], list[StreamSnapshot]]:
    """Those for which there is room, in their order; those in trouble are the last to go. And the rest."""
    if len(streams) <= room:
        return list(streams), []
    ranked = sorted(streams, key=lambda one: one.state in _QUIET)
    chosen = {stream.stream for stream in ranked[: room - 1]}  # one line says how many more there are
    return [s for s in streams if s.stream in chosen], [s for s in streams if s.stream not in chosen]


def _deciders(snapshot: Snapshot, wide: bool) -> list[str]:
    """Who gets a column: those who settled most, in the order of their share."""
    total: Counter[str] = Counter()
    for stream in snapshot.streams:
        total.update(stream.decided_by)
    return [name for name, _ in total.most_common(_MOST_DECIDERS_WIDE if wide else _MOST_DECIDERS)]


def _table(gap: int, *columns: tuple[str, int], names: Iterable[str]) -> Table:
    """`columns` have a greatest width. Those in `names` give way where it is narrow; the others are never cut."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, gap, 0, 0))
    for name, most in columns:
        side: Literal["left", "right"] = "left" if name in _LEFT else "right"
        table.add_column(_name(name), justify=side, no_wrap=name not in names, max_width=most)
    return table


def _name(name: str) -> Text:
    return Text(printable(name), no_wrap=True, overflow="ellipsis")


def _streams(streams: Sequence[StreamSnapshot], deciders: Sequence[str], wide: bool) -> Table:
    crowded = not wide and len(deciders) == _MOST_DECIDERS
    table = _table(
        1 if crowded else 2,
        ("stream", 32),
        ("state", 10),
        ("in/s", 7),
        ("P50 ms" if wide else "P50", 7),
        ("P99 ms" if wide else "P99", 7),
        *([("in flight", 9), ("frames", 13)] if wide else []),
        *((name, 22) for name in deciders),
        ("flagged", 9),
        names=("stream", *deciders),
    )
    for stream in streams:
        share = dict(shares(stream.decided_by))
        table.add_row(
            _name(stream.stream),
            Text(str(stream.state), style=_STATE_STYLE.get(stream.state, "bold yellow")),
            f"{stream.outcomes_per_s:.1f}",
            milliseconds(stream.latency.p50_ms) if stream.latency.count else "–",
            milliseconds(stream.latency.p99_ms) if stream.latency.count else "–",
            *((f"{stream.in_flight:,}", f"{stream.received:,}") if wide else ()),
            *(Text(share.get(printable(name), "–"), style="cyan") for name in deciders),
            Text(f"{stream.flagged:,}", style="bold" if stream.flagged else "dim"),
        )
    return table


def _note(stream: StreamSnapshot) -> Text | None:
    """Why it is in that state, and what it lost; most streams have nothing to say."""
    detail, missed = printable(stream.detail), counted(lost(stream))
    if not detail and not missed:
        return None
    note = Text(f"  {printable(stream.stream)}: ", style="dim", no_wrap=True, overflow="ellipsis")
    note.append(detail)
    if missed:
        note.append("; " if detail else "")
        note.append(f"lost {missed}", style="yellow not dim")
    return note


def _stages(stages: Sequence[StageSnapshot], wide: bool) -> Table:
    table = _table(
        2,
        ("stage", 40),
        *([("cascade", 24), ("views", 13)] if wide else []),
        ("batch", 6),
        ("P50 ms", 7),
        ("P99 ms", 7),
        ("waiting", 8),
        ("busy", 6),
        ("errors", 7),
        names=("stage", "cascade"),
    )
    for stage in stages:
        table.add_row(
            _name(stage.stage),
            *((_name(stage.cascade), f"{stage.views:,}") if wide else ()),
            f"{stage.views / stage.batches:.1f}" if stage.batches else "–",
            milliseconds(stage.service.p50_ms) if stage.service.count else "–",
            milliseconds(stage.service.p99_ms) if stage.service.count else "–",
            f"{stage.waiting:,}",
            f"{stage.busy_share:.0%}".replace("%", " %"),
            Text("hangs", style="bold red")
            if stage.state == "hangs"
            else Text(f"{stage.errors:,}", style="bold red" if stage.errors else "dim"),
        )
    return table


def _sinks(sinks: Sequence[SinkSnapshot]) -> Text:
    line = Text("sinks  ", style="dim")
    for number, sink in enumerate(sinks):
        line.append("   " if number else "")
        line.append(printable(sink.sink), style="default not dim")
        line.append(f" {sink.written:,}")
        if trouble := _sink_trouble(sink):
            line.append(f" {trouble}", style="yellow not dim")
    return line


def _audit(audit: AuditSnapshot) -> Text:
    said = audit.report
    line = Text("audit  ", style="dim", no_wrap=True, overflow="ellipsis")
    line.append(f"{printable(audit.cascade)} ", style="default not dim")
    style = "bold red not dim" if said.alarm else "green not dim" if said.state == "confirmed" else "yellow not dim"
    line.append(said.alarm or said.state, style=style)
    if said.estimate is not None:
        line.append(f"  recall {1 - said.estimate:.2%} ({1 - said.upper:.2%} to {1 - said.lower:.2%})")
    line.append(f"  {said.audited:,} audited")
    if said.unseen:
        line.append(f"  {said.unseen:,} not seen", style="yellow not dim")
    return line


def _policy(policy: PolicySnapshot) -> Text:
    line = Text("policy ", style="dim", no_wrap=True, overflow="ellipsis")
    line.append(f"{printable(policy.show)} ", style="default not dim")
    going = ", ".join(f"{action} ({printable(rule)})" for rule, action in policy.open.items())
    line.append(going or "nothing to do", style="bold red not dim" if going else "green not dim")
    if policy.ruled:
        line.append(f"  so far {counted(policy.ruled)}")
    if policy.latency.count:
        line.append(f"  P99 {milliseconds(policy.latency.p99_ms)} ms")
    if trouble := counted({"late": policy.late, "dropped": policy.dropped}):
        line.append(f"  {trouble}", style="yellow not dim")
    return line


def _sink_trouble(sink: SinkSnapshot) -> str:
    numbers = counted({"dropped": sink.dropped, "refused": sink.refused})
    if sink.state != "busy":
        return numbers
    why = f"busy: {printable(sink.detail)}" if sink.detail else "busy"
    return ", ".join(part for part in (why, f"{sink.waiting:,} waiting", numbers) if part)


def _event(event: Happening) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    over = isinstance(event, Outage) or event.kind == "end"
    going = "red" if isinstance(event, Ruling) else "green"
    line.append("○ " if over else "● ", style="dim" if over else going)
    at_ns = event.start_wall_ns if isinstance(event, Ruling) and not over else event.end_wall_ns
    line.append(f"{clock(at_ns)} ", style="dim")
    who, what = told(event)
    line.append(f"{who}: ", style="bold")
    line.append(what)
    return line
