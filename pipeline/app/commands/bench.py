"""`thresher bench`: the figures this project lives by, each beside its baseline, in one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from pipeline.app.commands.options import json_option, print_json


@click.command(short_help="The figures this project lives by, each beside its baseline.")
@click.argument("name", default="all")
@click.option("--minutes", type=click.FloatRange(min=0.05), default=1.0, help="How long to watch, where that matters.")
@click.option("--quick", is_flag=True, help="Only to see that it works; the figures mean nothing.")
@json_option
def bench(name: str, minutes: float, quick: bool, as_json: bool) -> int:
    """Measure NAME (engine, file, still, resnet, web-api, start, memory, rtsp, faults, or all) on this machine.

    Each figure is taken in turns with its baseline, in the same run; ratios come with their 95 % interval.
    """
    from pipeline.app.bench import BENCHES, run_all, run_bench
    from pipeline.app.bench.report import Scale
    from pipeline.core.catalogue import nearest
    from pipeline.core.errors import InputError

    known = [*BENCHES.kinds(), "all"]
    if name not in known:
        raise InputError(f'there is no bench "{name}".{nearest(name, known)} Known: {", ".join(known)}.', "bench")
    scale = Scale(quick, minutes)
    if not as_json:
        click.echo(f"measuring {name}; this takes its time …", err=True)
    document = run_all(scale) if name == "all" else run_bench(name, scale)
    if as_json:
        print_json(document)
    else:
        _tell(document)
    return 0


def _tell(document: Mapping[str, Any]) -> None:
    machine = document["machine"]
    click.echo(f"{machine['processor']}, {machine['cores']} cores: {' '.join(machine['instruction_sets'])}")
    for key, value in document["conditions"].items():
        click.echo(click.style(f"{key}: {_flat(value)}", dim=True))
    for row in document["rows"]:
        click.echo()
        click.echo(f"{_MARKS[row.get('holds')]} {row['figure']}")
        click.echo(f"    {_figure(row)}")
        if row.get("note"):
            click.echo(click.style(f"    {row['note']}", dim=True))
    for name, reason in document.get("missing", {}).items():
        click.echo(f"{name} was left out: {reason}", err=True)
    if document.get("quick"):
        click.echo("\n--quick: these figures mean nothing")


_MARKS = {True: click.style("✓", fg="green"), False: click.style("✗", fg="red"), None: " "}


def _figure(row: Mapping[str, Any]) -> str:
    parts = [f"{row['value']:g} {row['unit']}"]
    if row["baseline"] is not None:
        parts.append(f"baseline {row['baseline']:g}")
    if row["ratio"] is not None:
        interval = row.get("ratio_95")
        spread = f" ({interval[0]:g} to {interval[1]:g})" if interval else ""
        parts.append(f"ratio {row['ratio']:g}{spread}")
    if "target" in row:
        parts.append(f"target {row['target']}")
    return ", ".join(parts)


def _flat(value: Any) -> str:
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, Mapping) else str(value)
