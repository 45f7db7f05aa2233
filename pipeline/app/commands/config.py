"""`thresher validate`, `schema` and `graph`: what can be said of a config without running it."""

from __future__ import annotations

import click

from pipeline.app.commands.options import detect_option, json_option, print_json, set_option


@click.command(short_help="Check a config whole; every mistake with its line.")
@click.argument("targets", nargs=-1, required=True, metavar="CONFIG…")
@detect_option
@set_option
@json_option
def validate(targets: tuple[str, ...], detect: str | None, assignments: tuple[str, ...], as_json: bool) -> int:
    """Check CONFIG (or what else `thresher run` takes) whole, models included, and start nothing."""
    from pipeline.app.assemble import assemble
    from pipeline.app.config.mistakes import Mistakes
    from pipeline.app.runner import announce
    from pipeline.app.wiring import prepare
    from pipeline.core.errors import InputError, InputErrors

    try:
        document = assemble(targets, detect=detect, assignments=assignments)
        mistakes = Mistakes(document, elsewhere=True)
        plan, generations = prepare(document, mistakes)
    except InputError as error:
        if not as_json:
            raise
        errors = error.errors if isinstance(error, InputErrors) else [error]
        print_json({"valid": False, "mistakes": [{"place": one.place, "message": one.message} for one in errors]})
        return 2
    if as_json:
        notes = [{"place": one.place, "message": one.message} for one in mistakes.notes]
        print_json({"valid": True, "mistakes": [], "notes": notes})
        return 0
    for line in announce(plan, generations):
        click.echo(line)
    for note in mistakes.notes:
        click.echo(f"{note}: a run will need it")
    counted = [
        _count(len(plan.sources), "source"),
        _count(len(generations), "cascade"),
        _count(len(plan.sinks), "sink"),
    ]
    click.echo(f"valid: {', '.join(counted)}")
    return 0


@click.command(short_help="Print the JSON Schema of a config, for editors.")
def schema() -> None:
    """Print the JSON Schema of a config. An editor that knows it completes keys and marks mistakes."""
    from pipeline.app.config.schema import json_schema

    print_json(json_schema())


@click.command(short_help="Print the flow of a config as Mermaid.")
@click.argument("targets", nargs=-1, required=True, metavar="CONFIG…")
@detect_option
@set_option
def graph(targets: tuple[str, ...], detect: str | None, assignments: tuple[str, ...]) -> None:
    """Print what flows where in CONFIG, as a Mermaid diagram."""
    from pipeline.app.assemble import assemble
    from pipeline.app.config.load import load
    from pipeline.app.config.mistakes import Mistakes
    from pipeline.app.graph import mermaid

    document = assemble(targets, detect=detect, assignments=assignments)
    mistakes = Mistakes(document, elsewhere=True)
    plan = load(document, mistakes)
    mistakes.raise_if_any()
    click.echo(mermaid(plan, document))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
