"""`thresher models`: what ships, and what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.app.commands.options import json_option, print_json

_SHOWN = 5  # labels in the list


@click.group(invoke_without_command=True, short_help="The models that ship with the project.")
@json_option
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the models that ship with the project, and the cascades made of them."""
    if ctx.invoked_subcommand is not None:
        return
    from detectors.choice import zoo_names

    rows = [_row(name) for name in zoo_names()]
    if as_json:
        print_json({"models": rows})
        return
    table = [_cells(row) for row in rows]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]) - 1)]
    for cells in table:
        head = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        click.echo(f"{head}  {cells[-1]}")


@models.command(short_help="All that a model's manifest says.")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """All that the manifest of the model NAME says: view, labels, licence, origin, data, figures."""
    from detectors.choice import zoo_names
    from pipeline.core.catalogue import nearest
    from pipeline.core.errors import InputError

    if name not in zoo_names():
        known = ", ".join(zoo_names())
        hint = nearest(name, zoo_names()) or f" Known: {known}."
        raise InputError(f'there is no model "{name}".{hint}', "models show")
    document = _manifest(name).model_dump(mode="json", exclude_none=True)
    if as_json:
        print_json(document)
    else:
        for line in _told(document):
            click.echo(line)


def _folder(name: str) -> Path:
    from detectors.choice import ZOO

    return ZOO / name


def _manifest(name: str) -> Any:
    from detectors.manifest import MANIFEST, read_manifest

    return read_manifest(_folder(name) / MANIFEST)


def _row(name: str) -> dict[str, Any]:
    manifest = _manifest(name)
    files = [manifest.weights.file, *manifest.weights.companions]
    there = [_folder(name) / file for file in files if (_folder(name) / file).is_file()]
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "bytes": sum(path.stat().st_size for path in there),
        "licence": manifest.licence,
        "labels": list(manifest.labels),
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    size = f"{row['bytes'] / 2**20:.1f} MiB" if row["bytes"] else "fetched once"
    labels = row["labels"]
    shown = ", ".join(labels[:_SHOWN]) + (f", … ({len(labels)})" if len(labels) > _SHOWN else "")
    return row["name"], f"v{row['version']}", row["task"], size, row["licence"].partition(" (")[0], shown


def _told(value: Any, depth: int = 0) -> list[str]:
    out: list[str] = []
    for key, below in value.items():
        if isinstance(below, dict) and below:
            out += ["  " * depth + f"{key}:", *_told(below, depth + 1)]
        elif isinstance(below, list):
            out.append("  " * depth + f"{key}: {', '.join(str(one) for one in below)}")
        elif below not in ("", {}):
            out.append("  " * depth + f"{key}: {below}")
    return out
