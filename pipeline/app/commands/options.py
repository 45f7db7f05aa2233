"""What several commands understand alike."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"^(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d|)$")


def duration(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """`30s`, `5m`, `1.5h`, or plain seconds → seconds, as the callback of an option."""
    if value is None:
        return None
    found = _DURATION.match(value.strip())
    seconds = float(found["number"]) * _UNITS[found["unit"]] if found else 0.0
    if seconds <= 0:
        raise click.BadParameter(f'"{value}" should be a time like 30s, 5m or 1h', context, option)
    return seconds


class Between(click.FloatRange):
    """A range that `nan` is not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting: sources.door.max_fps=5. Repeatable.",
)
detect_option = click.option(
    "--detect", metavar="NAME", help="A shipped cascade (people, moderation), a model's name, or a model file."
)


def print_json(document: object) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


@contextmanager
def progress_bar(what: str, noun: str, expected: int | None) -> Iterator[Callable[[int], None]]:
    """A bar of `noun` where somebody watches, one line that says `what` elsewhere; call it with how many are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        click.echo(what, err=True)
        yield lambda done: None
        return
    columns = (TextColumn(noun), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=expected)
        yield lambda done: bar.update(task, completed=done)


def needs_scipy(extra: str) -> None:
    """Found out before the long work. Raises `MissingPart` with the extra that brings it."""
    from pipeline.core.errors import MissingPart

    try:
        import scipy.stats  # noqa: F401
    except ImportError:
        raise MissingPart(f"needs scipy: pip install 'thresher[{extra}]'", extra) from None
