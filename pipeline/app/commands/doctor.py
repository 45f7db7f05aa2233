"""`thresher doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from pipeline.app.commands.options import json_option, print_json

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="What this machine has, what is missing, and how to get it.")
@json_option
def doctor(as_json: bool) -> int:
    """Look at the processor, the runtimes, the codecs and the cameras of this machine; measure how fast each shipped
    model runs here, and in which runtime and precision (a few seconds, the first time)."""
    from detectors.choice import zoo_names
    from pipeline.app import doctor as looking

    document: dict[str, Any] = {
        "machine": looking.machine(),
        "runtimes": looking.runtimes(),
        "models": [],
        "codecs": looking.codecs(),
        "inputs": looking.inputs(),
        "cameras": looking.cameras(),
        "optional": looking.optional(),
    }
    if as_json:
        document["models"] = [looking.measurement(name) for name in zoo_names()]
        print_json(document)
        return 0
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    _tell_machine(console, document)
    console.print("\n[bold]models[/bold]  (ms a picture, pictures a second in batches; ● is what runs use)")
    for name in zoo_names():
        with console.status(f"measuring {name} …"):
            found = looking.measurement(name)
        _tell_model(console, found)
    _tell_parts(console, document)
    return 0


def _tell_machine(console: Console, document: Mapping[str, Any]) -> None:
    machine = document["machine"]
    console.print(f"[bold]processor[/bold]  {machine['processor']}, {machine['cores']} cores in reach")
    console.print(f"           {' '.join(machine['instruction_sets']) or 'instruction sets unknown'}")
    console.print(f"[bold]memory[/bold]     {machine['memory_mib']} MiB, {machine['memory_free_mib']} MiB free")
    console.print(f"[bold]system[/bold]     {machine['system']}, Python {machine['python']}")
    said = [
        f"{one['runtime']} {one['version']}" if one["version"] else f"[yellow]{one['runtime']}: {one['get']}[/yellow]"
        for one in document["runtimes"]
    ]
    console.print(f"[bold]runtimes[/bold]   {', '.join(said)}")


def _tell_model(console: Console, found: Mapping[str, Any]) -> None:
    if found["missing"]:
        console.print(f"  {found['model']}: {found['missing']}")
        return
    for number, way in enumerate(found["ways"]):
        name = found["model"] if number == 0 else ""
        mark = "[green]●[/green]" if way["used"] else " "
        how = f"{way['runtime']} {way['precision']}"
        speed = f"{way['ms']:7.2f} ms  {way['per_s']:8.0f}/s  scores moved {way['moved']:.3f}" if way["per_s"] else ""
        refused = f"  [yellow]refused: {way['refused']}[/yellow]" if way["refused"] else ""
        console.print(f"  {name:<16} {mark} {how:<18} {speed}{refused}")


def _tell_parts(console: Console, document: Mapping[str, Any]) -> None:
    from rich.markup import escape  # a hint may hold [brackets]

    def listed(known: Mapping[str, bool]) -> str:
        return "  ".join(f"{name} ✓" if there else f"[dim]{name} ✗[/dim]" for name, there in known.items())

    console.print(f"\n[bold]decoders[/bold]   {listed(document['codecs'])}")
    console.print(f"[bold]inputs[/bold]     {listed(document['inputs'])}")
    console.print(f"[bold]cameras[/bold]    {', '.join(document['cameras']) or 'none at this machine'}")
    console.print("[bold]optional[/bold]")
    for one in document["optional"]:
        if one["missing"] is None:
            console.print(f"  [green]✓[/green] {one['part']}: {one['serves']}")
        else:
            console.print(f"  [yellow]✗[/yellow] {one['part']}: {one['serves']}; get it with: {escape(one['get'])}")
