"""`thresher train`: from labelled data to a cascade that can be proved and run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.app.commands.options import json_option, print_json, set_option

if TYPE_CHECKING:
    from detectors.training.project import Project
    from pipeline.app.config.document import Document

WRONG_INPUT = 2


@click.command(short_help="Train a cascade on labelled data of yours.")
@click.argument("data", metavar="DATA|CONFIG")
@click.option("--name", help="What the models are to be called (default: the folder's or the config's name).")
@click.option("--format", "data_format", help="Of the data: folders, coco, yolo, deeppcb, masks (default: looked up).")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("models"), show_default=True, help="Where the models go."
)
@click.option("--only", type=click.Choice(["heavy", "cheap"]), help="Train one of the stages and leave the other.")
@click.option("--check-labels", is_flag=True, help="List the labels that are most likely wrong, and train nothing.")
@click.option("--folds", type=click.IntRange(2, 20), default=3, show_default=True, help="For --check-labels.")
@set_option
@json_option
def train(  # noqa: PLR0917  # each is an option, and click calls it by name
    data: str,
    name: str | None,
    data_format: str | None,
    out: Path,
    only: str | None,
    check_labels: bool,
    folds: int,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Train a ResNet and a MobileNet on DATA, a folder of labelled pictures (good/ and bad/ are enough), or as CONFIG
    says, and write a config that runs them.

    A training that is ended goes on where it was when it is started again. For several processes:
    torchrun --nproc-per-node 2 -m pipeline.app.cli train CONFIG
    """
    _needs_torch()
    from detectors.training import processes
    from pipeline.app.training import make, report_labels
    from pipeline.core.errors import InputError

    leads = True
    try:
        leads = processes.leads()
        project = project_from(data, name, data_format, assignments)
        if check_labels:
            return report_labels(project, out, folds, as_json)
        document = make(project, out, only, _tell if leads and not as_json else lambda what, row: None)
    except InputError:
        if leads:
            raise
        return WRONG_INPUT  # the first process says it
    finally:
        processes.left()
    if leads and as_json:
        print_json(document)
    elif leads:
        _summarise(document)
    return 0


def project_from(data: str, name: str | None, data_format: str | None, assignments: tuple[str, ...]) -> Project:
    """What is to be made, checked whole. Raises `InputError`."""
    from detectors.training.project import Project
    from pipeline.app.config.mistakes import Mistakes

    document = _document(data, name, data_format)
    for assignment in assignments:
        document.set(assignment)
    mistakes = Mistakes(document)
    mistakes.unresolved(document.resolve())
    project = mistakes.model(Project, document.data, ())
    mistakes.raise_if_any()
    assert project is not None
    return project


def _document(data: str, name: str | None, data_format: str | None) -> Document:
    from pipeline.app.config.document import Document, read
    from pipeline.app.config.targets import is_config, safe_name
    from pipeline.core.errors import InputError

    if is_config(data):
        document = read(Path(data))
        document.data.setdefault("name", name or Path(data).stem)
        if name:
            document.data["name"] = name
        return document
    if not Path(data).is_dir():
        raise InputError("there is no such folder, and no such config", data)
    from detectors.datasets import read_dataset
    from detectors.training.defaults import project_of

    known = read_dataset(Path(data), data_format)
    sections = project_of(known)
    path = {"path": data} if data_format is None else {"path": data, "format": data_format}
    return Document({"name": name or safe_name(Path(data).resolve().name), "data": path, **sections}, Path.cwd())


def _tell(what: str, row: Mapping[str, Any]) -> None:
    said = " · ".join(f"{key} {_shown(value)}" for key, value in row.items())
    click.echo(f"{what}: {said}", err=True)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _summarise(document: Mapping[str, Any]) -> None:
    for reason, count in document["left_out"].items():
        click.echo(f"left out: {count} ({reason})")
    for model in document["models"]:
        click.echo(
            f"{model['folder']}: {', '.join(f'{k} {_shown(v)}' for k, v in model['figures'].items())} (held out)"
        )
        for remark in model["remarks"]:
            click.echo(f"  {remark}")
    config = document.get("config")
    if config:
        click.echo(
            f"\n{config} runs them, uncertified. To prove what the cascade misses, on data that trained neither:"
        )
        click.echo(f"  thresher calibrate {config} --data DIR --max-miss 0.02 --delta 0.05")
        click.echo(f"  thresher run {config}")


def _needs_torch() -> None:
    from importlib.util import find_spec

    from pipeline.core.errors import MissingPart

    missing = [package for package in ("torch", "torchvision", "nncf") if find_spec(package) is None]
    if missing:
        raise MissingPart(f"needs {', '.join(missing)}: pip install 'thresher[train]'", "train")
