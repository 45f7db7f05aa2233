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
    """Measure NAME (engine, file, still, resnet, start, memory, rtsp, faults, or all) on this machine.

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
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    machine = document["machine"]
    console.print(f"{machine['processor']}, {machine['cores']} cores: {' '.join(machine['instruction_sets'])}")
    conditions = document["conditions"]
    for key, value in conditions.items():
        console.print(f"[dim]{key}: {value}[/dim]")
    table = Table(box=None, pad_edge=False)
    for column in ("figure", "value", "baseline", "ratio", "target", ""):
        table.add_column(column, justify="left" if column in {"figure", ""} else "right")
    for row in document["rows"]:
        interval = row.get("ratio_95")
        ratio = "" if row["ratio"] is None else f"{row['ratio']:g}"
        holds = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: ""}[row.get("holds")]
        table.add_row(
            row["figure"],
            f"{row['value']:g} {row['unit']}",
            "" if row["baseline"] is None else f"{row['baseline']:g}",
            f"{ratio} ({interval[0]:g} to {interval[1]:g})" if interval else ratio,
            f"{row.get('target', '')} {holds}",
            row.get("note", ""),
        )
    console.print(table)
    for name, reason in document.get("missing", {}).items():
        console.print(f"[yellow]{name} was left out: {reason}[/yellow]")
    if document.get("quick"):
        console.print("[yellow]--quick: these figures mean nothing[/yellow]")
