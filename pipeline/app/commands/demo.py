"""`thresher demo`: see it work, with nothing to configure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.app.commands.options import json_option, print_json

if TYPE_CHECKING:
    from pipeline.app.config.document import Document
    from pipeline.app.runner import Report


@click.command(short_help="See it work on shipped data: people in a clip, then boards on a line.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="results", metavar="DIR", help="Where results go (results)."
)
@click.option("--only", type=click.Choice(["people", "boards"]), help="One half of it.")
@json_option
def demo(out: Path, only: str | None, as_json: bool) -> int:
    """Watch a clip of people walking through the people cascade, then a line of printed-circuit boards, 20 a second,
    through the cascade for boards; show what was found, and hold it against the truth where it is known.

    Everything it needs is on board: no network, no camera, no configuration. Where a person sits in front, it is shown
    on a page in the browser, too, until Ctrl-C.
    """
    from pipeline.app import demo as people
    from pipeline.app.demo import inspection

    documents: dict[str, Any] = {}
    status = 0
    web = None if as_json else people.page()
    if only != "boards":
        report = _run(people.document(out, as_json), web and {**web, "stay": only == "people"})
        documents |= report.document
        status = report.status
        if not as_json:
            report.tell()
            _say(people.findings(out))
    if only != "people":
        report = _run(inspection.document(out, as_json), web and {**web, "open": only == "boards"})
        documents["boards"] = report.document | {"truth": inspection.truth(out)}
        status = status or report.status
        if not as_json:
            report.tell()
            _say(inspection.findings(out, report.document))
    if as_json:
        print_json(documents)
    else:
        _say(["", "And watch something of your own:  thresher run clip.mp4   (or rtsp://…, or 0 for a webcam)"])
    return status


def _run(document: Document, web: dict[str, Any] | None) -> Report:
    from pipeline.app.runner import RunOptions, execute
    from pipeline.app.wiring import prepare

    if web is not None:
        document.data["web"] = web
    plan, generations = prepare(document)
    return execute(plan, generations, document, RunOptions())


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
