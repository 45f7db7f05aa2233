"""`thresher models`: what ships, and what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.app.commands.options import json_option, print_json


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
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "version", "task", "size", "licence", "labels"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for row in rows:
        size = f"{row['bytes'] / 2**20:.1f} MiB" if row["bytes"] else "fetched at first use"
        labels = row["labels"]
        shown = ", ".join(labels[:6]) + (f", … ({len(labels)})" if len(labels) > 6 else "")
        table.add_row(row["name"], row["version"], row["task"], size, row["licence"], shown)
    Console().print(table)


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
