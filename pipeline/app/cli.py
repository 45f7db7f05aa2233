"""`thresher`: finds the command, says in one line what went wrong, and exits with 0 (done), 1 (failed at run time) or
2 (the input is wrong). A command's module is imported when the command is called, and no sooner."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from pipeline.app import logs
from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError, InputErrors, ThresherError
from pipeline.core.secrets import redact

COMMANDS = {
    "run": "pipeline.app.commands.run:run",
    "demo": "pipeline.app.commands.demo:demo",
    "validate": "pipeline.app.commands.config:validate",
    "schema": "pipeline.app.commands.config:schema",
    "graph": "pipeline.app.commands.config:graph",
    "health": "pipeline.app.commands.health:health",
    "doctor": "pipeline.app.commands.doctor:doctor",
    "models": "pipeline.app.commands.models:models",
    "train": "pipeline.app.commands.train:train",
    "calibrate": "pipeline.app.commands.calibrate:calibrate",
    "eval": "pipeline.app.commands.evaluate:evaluate",
    "replay": "pipeline.app.commands.replay:replay",
    "outbox": "pipeline.app.commands.outbox:outbox",
    "bench": "pipeline.app.commands.bench:bench",
    "completion": "pipeline.app.commands.about:completion",
    "version": "pipeline.app.commands.about:version",
}
FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
_USERS = {errno.ENAMETOOLONG, errno.EACCES, errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EPERM, errno.EROFS}
"""What a path that somebody gave may be wrong with."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f'there is no command "{args[0]}".{nearest(args[0], COMMANDS)}', ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="thresher", prog_name="thresher")
@click.option("-v", "--verbose", is_flag=True, help="Say more about what goes on.")
@click.option("--debug", is_flag=True, help="Say everything, and show the full trace of an unexpected error.")
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMS),
    default="text",
    envvar="THRESHER_LOG",
    help="What is said on standard error: text, or a JSON object a line (also THRESHER_LOG=json).",
)
def thresher(verbose: bool, debug: bool, log_format: logs.Form) -> None:
    """Watch live streams: a cheap model settles the easy windows, a heavy one judges the rest.

    \b
    thresher demo                       see it work, nothing to configure
    thresher run clip.mp4               find people in a file (or rtsp://…, 0 for a webcam, a folder)
    thresher run configs/people.yaml    the same from a config
    """
    logs.set_up(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING, log_format)


def program() -> NoReturn:
    """`main` as the operating system calls it. A reader that hangs in its driver must not hold the exit, nor may the
    interpreter be taken down around it: then the process ends without ceremony."""
    status = main()
    if threading.active_count() > 1:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911  # a return per kind of end
    """Run one command; returns the exit status. Nothing that is printed holds a secret or, without --debug, a trace."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # for good
    try:
        status = thresher.main(args=argv, prog_name="thresher", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG_INPUT
    except click.ClickException as error:
        _complain(_usage(error))
        return WRONG_INPUT
    except InputErrors as error:
        for one in error.errors:
            _complain(str(one))
        return WRONG_INPUT
    except InputError as error:
        _complain(str(error))
        return WRONG_INPUT
    except ThresherError as error:
        _complain(str(error))
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        if error.filename is None or error.errno not in _USERS:
            _complain(_unexpected(error, shown="--debug" in argv))
            return FAILED
        _complain(f"{error.filename}: {error.strerror}")
        return WRONG_INPUT
    except Exception as error:  # noqa: BLE001  # the last net: a person gets a line, and the trace where it helps
        _complain(_unexpected(error, shown="--debug" in argv))
        return FAILED


def _complain(message: str) -> None:
    logs.say(message, logging.ERROR)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    place = context.command_path.removeprefix("thresher").strip() if context is not None else ""
    message = " ".join(error.format_message().split())
    if isinstance(error, click.NoSuchOption):
        known = [name for option in context.command.params for name in option.opts] if context is not None else []
        message = f'there is no option "{error.option_name}".{nearest(error.option_name, known)}'
    more = f" (thresher {place} --help says more)" if place else " (thresher --help says more)"
    return f"{place}: {message}{more}" if place else message + more


def _unexpected(error: Exception, shown: bool) -> str:
    trace = redact("".join(traceback.format_exception(error)))
    line = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
    if shown:
        sys.stderr.write(trace)
        return line
    try:
        from platformdirs import user_log_path

        path = user_log_path("thresher", ensure_exists=True) / "last-error.log"
        path.write_text(trace, encoding="utf-8")
        return f"{line} (the full trace is in {path})"
    except OSError:
        return f"{line} (thresher --debug … shows the full trace)"


if __name__ == "__main__":
    program()
