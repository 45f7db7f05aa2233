"""What a person may write where one cascade or one model is asked for: a config, a shipped name, a model's folder or
file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from detectors.choice import zoo_names
from detectors.manifest import MANIFEST
from pipeline.app.config.cascades import is_path, shipped_cascades
from pipeline.app.config.document import Document, read
from pipeline.app.config.targets import is_config


def cascade_document(subject: str, assignments: Sequence[str] = ()) -> Document:
    """The document of `subject`, with `KEY=VALUE` assignments applied; a model by itself becomes a cascade of one
    stage. Raises `InputError`."""
    path = Path(os.path.expanduser(subject))
    if path.name == MANIFEST:
        document = _alone(path.parent, subject)
    elif is_config(subject):
        document = read(path)
    elif subject not in shipped_cascades() and (subject in zoo_names() or is_path(subject) or path.is_dir()):
        document = _alone(subject if subject in zoo_names() else path, subject)
    else:
        document = Document({"cascade": subject}, Path.cwd())
    if isinstance(document.data.get("cascade"), str) and any(one.startswith("cascade.") for one in assignments):
        document.data["cascade"] = {"base": document.data["cascade"]}
    for assignment in assignments:
        document.set(assignment)
    return document


def _alone(model: str | Path, subject: str) -> Document:
    name = model if isinstance(model, str) else str(model.absolute())
    return Document({"cascade": {"cheap": {"model": name}}}, Path.cwd(), names={("cascade", "cheap"): subject})
