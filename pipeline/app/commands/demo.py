"""`thresher demo`: see it work, with nothing to configure."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.app.commands.options import json_option, print_json


@click.command(short_help="See it work on shipped data: people are boxed, counted, turned into events.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="results", metavar="DIR", help="Where results go (results)."
)
@json_option
def demo(out: Path, as_json: bool) -> int:
    """Watch a clip of people walking through the people cascade, then show what was found.

    Everything it needs is on board: no network, no camera, no configuration.
    """
    from pipeline.app import demo as showing
    from pipeline.app.runner import RunOptions, execute
    from pipeline.app.wiring import prepare

    document = showing.document(out, as_json)
    plan, generations = prepare(document)
    report = execute(plan, generations, document, RunOptions())
    if as_json:
        print_json(report.document)
        return report.status
    report.tell()
    for line in showing.findings(out):
        click.echo(line)
    return report.status
