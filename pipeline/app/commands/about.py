"""`thresher version` and `thresher completion`."""

from __future__ import annotations

import click

from pipeline.app.commands.options import json_option, print_json

_WHERE = {
    "bash": "~/.bashrc:  source <(thresher completion bash)",
    "zsh": "~/.zshrc:   source <(thresher completion zsh)",
    "fish": "~/.config/fish/completions/thresher.fish:  thresher completion fish | source",
}


@click.command(short_help="Print the version.")
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    from pipeline.app.about import VERSION

    if as_json:
        print_json({"version": VERSION})
    else:
        click.echo(f"thresher {VERSION}")


@click.command(short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(list(_WHERE)))
def completion(shell: str) -> None:
    """Print the completion script for SHELL; the line for its start-up file goes to standard error."""
    from click.shell_completion import get_completion_class

    from pipeline.app.cli import thresher

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(kind(thresher, {}, "thresher", "_THRESHER_COMPLETE").source())
    click.echo(f"# to have it always, in {_WHERE[shell]}", err=True)
