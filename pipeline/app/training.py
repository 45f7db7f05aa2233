"""Makes what a training project asks for, and the config that runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from detectors.choice import ModelChoice, build_stage, find_model
from detectors.datasets.base import says_good
from detectors.manifest import SAMPLES
from detectors.training.processes import by_the_first, leads
from detectors.training.project import Made, Maker, Project, Tell
from pipeline.app.commands.options import print_json
from pipeline.core.contracts import Stage
from pipeline.core.errors import InputError
from pipeline.core.files import save_text
from pipeline.core.yaml_text import yaml_text
from sinks.paths import check_folder

_PARTS_A_SECOND, _DEADLINE_MS = 10, 1000  # what any machine keeps up with; the line's own pace is its owner's to set

_REACH = 40 / 128  # of a tile's side: what a look answers for lies so far from its edge that it is seen whole


def make(project: Project, out: Path, only: str | None, tell: Tell) -> dict[str, Any]:
    """Train, export, write the cascade's config beside `out`. Raises `InputError`."""
    if only is not None and getattr(project, only) is None:
        raise InputError(f"the project has no {only} stage", "--only")
    maker = Maker(project, out, tell)
    check_folder(out)
    check_folder(out.parent)
    by_the_first(lambda: _check_teacher(project, out, only))
    heavy = maker.heavy() if only != "cheap" else None
    cheap = maker.cheap(lambda: _teacher(project, heavy, out)) if only != "heavy" else None
    made = [one for one in (heavy, cheap) if one is not None]
    document: dict[str, Any] = {
        "name": project.name,
        "data": str(project.data.path),
        "left_out": dict(maker.whole.left_out),
        "models": [_told(one) for one in made],
    }
    if heavy is None and cheap is not None and project.heavy is None and project.teacher is not None:
        heavy = Made(find_model(project.teacher), {})  # who taught it judges beside it
    if heavy is not None and cheap is not None:
        path = out.parent / f"{project.name}.yaml"
        document["config"] = str(by_the_first(lambda: kept_apart(path, _run_config(project, cheap, heavy))))
    return document


def _teacher(project: Project, heavy: Made | None, out: Path) -> Stage | None:
    """Who the cheap stage learns from: the one that is named, the one just made, or one made before."""
    if project.cheap is None or not project.cheap.recipe.distill:
        return None
    choice = project.teacher
    if choice is None and heavy is not None:
        choice = ModelChoice(model=str(heavy.model.weights.parent))
    if choice is None and project.heavy is not None:
        choice = ModelChoice(model=str(out / project.heavy_name))
    if choice is None:
        raise InputError("there is nobody to learn from: name a teacher, or set cheap.recipe.distill to 0", "teacher")
    return build_stage(choice)


def _check_teacher(project: Project, out: Path, only: str | None) -> None:
    """Found out before the long work, not after it: a teacher who is not made here is there. Raises `InputError`."""
    if only == "heavy" or project.cheap is None or not project.cheap.recipe.distill:
        return
    choice = project.teacher
    if choice is None and only == "cheap" and project.heavy is not None:
        choice = ModelChoice(model=str(out / project.heavy_name))
    if choice is not None:
        find_model(choice)
    elif project.heavy is None:
        raise InputError("there is nobody to learn from: name a teacher, or set cheap.recipe.distill to 0", "teacher")


def _told(made: Made) -> dict[str, Any]:
    return {
        "name": made.model.name,
        "folder": str(made.model.weights.parent),
        "figures": made.figures,
        "remarks": list(made.remarks),
    }


def kept_apart(path: Path, text: str) -> Path:
    """Write `text` to `path`; where something else lies there (the training's own config, an edited one), that stays,
    and this gets a number. Returns where it went. Raises `InputError`."""
    here, number = path, 2
    try:
        while here.exists() and (not here.is_file() or here.read_bytes() != text.encode()):
            here, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", str(here)) from None
    save_text(here, text)
    return here


def _run_config(project: Project, cheap: Made, heavy: Made) -> str:
    """A config that runs as it is: its line carries the pictures that came with the model, which are as its source
    hands them over."""
    if heavy.model.manifest.view.spec().medium != "picture":
        return _signal_config(project, cheap, heavy)
    heavy_labels = heavy.model.manifest.labels
    bad = [label for label in heavy_labels if not says_good(label)]
    threshold = round(float(heavy.figures.get("threshold", 0.5)), 3)
    confirm = dict.fromkeys(bad, threshold)
    tile = heavy.model.manifest.tile
    if cheap.model.manifest.tile is None and tile is not None:
        rule: dict[str, Any] = {
            "kind": "regions",
            "escalate": {cheap.model.manifest.labels[0]: 0.1},
            "confirm": confirm,
            "reach": tile * _REACH,
        }
    else:
        watch = [label for label in cheap.model.manifest.labels if not says_good(label)]
        rule = {"kind": "scores", "watch": watch, "clear_below": 0.05, "confirm": confirm}
    parts = cheap.model.weights.parent / SAMPLES
    line = {"kind": "line", "path": str(parts), "fps": _PARTS_A_SECOND, "deadline_ms": _DEADLINE_MS}
    note = (
        "# The line carries a few held-out pictures: set its path to where parts come from, and fps and\n"
        "# deadline_ms to its pace.\n"
    )
    rejects = {"rejects": {"kind": "rejects", "path": f"results/{project.name}-rejects"}}
    return _config(project, (cheap, heavy), line, rule, sinks=rejects, note=note)


def _signal_config(project: Project, cheap: Made, heavy: Made) -> str:
    """A config for messages, or for sound: what it reads or hears is its owner's to say."""
    labels = heavy.model.manifest.labels
    bad = [label for label in labels if not says_good(label)]
    text = heavy.model.manifest.view.spec().medium == "text"
    rule: dict[str, Any] = {"kind": "scores", "watch": bad, "clear_below": 0.05, "confirm": dict.fromkeys(bad, 0.5)}
    source: dict[str, Any] = {"kind": "lines", "path": "-"} if text else {"kind": "microphone", "gate": "voice"}
    if not text:
        rule |= {"clear_below": 0.3, "flag_at": 0.85, "confirm": dict.fromkeys(bad, 0.4)}
    return _config(project, (cheap, heavy), source, rule)


def _config(
    project: Project,
    stages: tuple[Made, Made],
    source: Mapping[str, Any],
    rule: Mapping[str, Any],
    *,
    sinks: Mapping[str, Any] | None = None,
    note: str = "",
) -> str:
    cheap, heavy = (str(made.model.weights.parent) for made in stages)
    document = {
        "sources": {project.name: source},
        "cascade": {
            "cheap": {"model": cheap, "name": "mobilenet"},
            "heavy": {"model": heavy, "name": "resnet"},
            "rule": rule,
        },
        "sinks": {
            "table": {"kind": "console"},
            "log": {"kind": "jsonl", "path": f"results/{project.name}.jsonl"},
            **(sinks or {}),
        },
    }
    return (
        f"# Made by `thresher train {project.data.path}`. Uncertified until `thresher calibrate` has proved it; then\n"
        f"# name the certificate under `cascade`.\n{note}"
    ) + yaml_text(document)


def report_labels(project: Project, out: Path, folds: int, as_json: bool) -> int:
    """Print the labels that are most likely wrong; the whole list goes beside the models."""
    from detectors.training.labels import likeliest_wrong

    leading = leads()
    report = likeliest_wrong(project, out, folds, lambda text: click.echo(text, err=True) if leading else None)
    if not leading:
        return 0
    file = out / f"{project.name}-labels.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", str(file)) from None
    if as_json:
        print_json(report.document())
        return 0
    for line in report.lines():
        click.echo(line)
    click.echo(f"written: {file}")
    return 0
