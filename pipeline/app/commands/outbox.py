"""`thresher outbox`: what waits for receivers elsewhere, and what they refused."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pipeline.app.commands.options import duration, json_option, print_json, set_option

if TYPE_CHECKING:
    from pipeline.core.contracts import Remote


@click.command(short_help="Show what waits for receivers elsewhere; send it, or what they refused, again.")
@click.argument("config", metavar="CONFIG")
@click.option("--send", is_flag=True, help="Send what waits, without a run.")
@click.option("--retry", is_flag=True, help="Let what was refused wait again, behind the rest.")
@click.option("--for", "seconds", callback=duration, default="60s", metavar="TIME", help="Send for so long at most.")
@set_option
@json_option
def outbox(  # noqa: PLR0917  # each is an option, and click calls it by name
    config: str, send: bool, retry: bool, seconds: float, assignments: tuple[str, ...], as_json: bool
) -> int:
    """The outboxes of the sinks in CONFIG that deliver elsewhere (webhook, mqtt, kafka, …): what they accepted over all
    runs, what became of it, and what was refused for good, with the reason; also while a run has them.

    A run sends by itself: --send and --retry are for when none goes on. Without them it only looks, also during a
    run. Exit status 1 where something still waits after --send.
    """
    from pipeline.app.assemble import assemble
    from pipeline.app.config.load import load
    from pipeline.app.config.mistakes import Mistakes
    from pipeline.app.summary import outbox_line
    from pipeline.core.contracts import Remote
    from pipeline.core.errors import InputError
    from pipeline.core.secrets import redact

    document = assemble((config,), assignments=assignments)
    mistakes = Mistakes(document)
    plan = load(document, mistakes)
    mistakes.raise_if_any()
    remote = {name: sink for name, sink in plan.sinks.items() if isinstance(sink, Remote)}
    if not remote:
        raise InputError("none of its sinks has an outbox: only those that deliver elsewhere do", config)
    boxes = {name: _one(name, sink, retry, seconds if send else 0.0) for name, sink in remote.items()}
    if as_json:
        print_json(boxes)
    else:
        for name, one in boxes.items():
            click.echo(outbox_line(name, one))
            for dead in one["dead"]:
                click.echo(f"  refused: {redact(dead['id'])}: {redact(dead['reason'])}")
    return int(send and any(one["waiting"] for one in boxes.values()))


def _one(name: str, remote: Remote, retry: bool, seconds: float) -> dict[str, Any]:
    from pipeline.core.errors import InputError
    from pipeline.core.snapshot import Latency, Snapshot
    from pipeline.engine.dispatch import Dispatch, outbox_folder
    from pipeline.engine.outbox import Outbox, OutboxInUse, dead_letters, seen

    folder = outbox_folder(name, remote)
    try:
        if retry and os.path.isdir(folder):
            box = Outbox(folder, remote.outbox)
            try:
                box.revive()
            finally:
                box.close()
        if seconds and os.path.isdir(folder):
            now = Snapshot(0.0, True, (), (), (), latency=Latency(), cpu_percent=0.0, rss_bytes=0)
            dispatch = Dispatch(name, remote, lambda: now)
            dispatch.open()
            end_s = time.monotonic() + seconds
            dispatch.finish(end_s)
            dispatch.join(end_s + 11.0)  # a courier may be at it for ten seconds, and has the outbox until then
    except OutboxInUse:
        raise InputError("a run has it now, and sends by itself; do this once it is over", str(folder)) from None
    dead = [{"id": letter.id, "kind": letter.kind, "reason": why} for letter, why in dead_letters(folder)]
    return {**asdict(seen(folder)), "dead": dead}
