"""Starts a prepared pipeline, waits for its end or for a signal, drains it and reports."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pipeline.app import logs, summary
from pipeline.app.config.document import Document
from pipeline.app.config.plan import Plan
from pipeline.app.config.settings import WebSettings
from pipeline.app.garbage import passed_over
from pipeline.app.notify import Notifier
from pipeline.app.tracing import tracing
from pipeline.app.web.browser import show, somebody_sits_in_front
from pipeline.app.wiring import pipeline
from pipeline.core.contracts import Generation
from pipeline.core.errors import MissingPart
from pipeline.core.interrupts import asked_to_end
from pipeline.core.secrets import redact
from pipeline.core.snapshot import Snapshot
from pipeline.engine.pipeline import Pipeline

if TYPE_CHECKING:
    from pipeline.app.web.server import WebServer

DRAIN_S = 10.0
_LOOK_S = 0.2  # how late a signal or the end of `--for` may be noticed


@dataclass(frozen=True)
class RunOptions:
    """`seconds`: stop after so long. `connect_within_s`: fail if a source is not connected by then."""

    seconds: float | None = None
    connect_within_s: float | None = None


@dataclass(frozen=True)
class Report:
    """`status` is the exit status; `problems` are the lines that explain it."""

    status: int
    document: dict[str, Any]
    results: tuple[str, ...] = ()  # where the sinks wrote
    aside: bool = False  # standard output belongs to a sink

    def tell(self) -> None:
        """Print the summary, unless there is nothing to sum up."""
        if self.status and not self.document["ledgers"]["frames"]["received"]:
            return
        tell = logs.say if self.aside else click.echo
        if sys.stdout.isatty() and not self.aside:
            click.echo()
        for line in summary.lines(self.document):
            tell(line)
        if self.results:
            tell(f"{'results:':<12} {', '.join(self.results)}")


def execute(plan: Plan, generations: Mapping[str, Generation], document: Document, options: RunOptions) -> Report:
    """Run to the end. Prints what went wrong on standard error; the summary is the caller's to print."""
    for line in announce(plan, generations):
        logs.say(line)
    with asked_to_end(_leave_at_once) as stopping, contextlib.ExitStack() as closing:
        server, running = closing.enter_context(served(plan, generations, document))
        site = None if server is None else server.site
        if server is not None:
            logs.say(server.announcement)
            for name, source in plan.sources.items():
                if source.published:
                    logs.say(f"{name}: publish by WHIP to {server.url}/whip/{name}")
            if server.site.settings.open and somebody_sits_in_front():
                show(server.url)
        running.start()
        notifier = closing.enter_context(contextlib.closing(Notifier(lambda: running.healthy)))
        stays = None if site is None else Stays(site.settings, bool(plan.sources))
        absent = _watch(running, stopping, options, notifier, stays)
        notifier.stopping(DRAIN_S)
        running.stop(drain_s=DRAIN_S)
        final = running.snapshot()
    if site is not None:  # what it came to be meanwhile
        plan, generations = site.plan, site.generations
    problems = [str(error) for error in running.problems]  # each was said when it came up
    failures = absent + list(_failures(final, plan))
    for line in failures:
        logs.say(line, logging.ERROR)
    status = 2 if problems else 1 if failures else 0
    lines = [name for name, source in plan.sources.items() if source.parts]
    document_of_it = summary.document(final, generations.values(), problems + failures, lines)
    aside = any(str(getattr(sink, "path", "")) == "-" for sink in plan.sinks.values())
    return Report(status, document_of_it, _written(plan), aside)


@contextlib.contextmanager
def served(
    plan: Plan, generations: Mapping[str, Generation], document: Document, drain_s: float = DRAIN_S
) -> Iterator[tuple[WebServer | None, Pipeline]]:
    """A pipeline that can be started, and beside it what the plan asks for: traces, metrics, the page. All of it is
    stopped at the end."""
    with contextlib.ExitStack() as closing:
        site = server = None
        for line in document.kept.begin() if document.kept is not None else ():
            logs.say(line)
        if plan.web is not None:
            try:
                from pipeline.app.web.server import WebServer
                from pipeline.app.web.site import Site
            except ImportError as error:
                place = document.place(("web",))
                raise MissingPart("the page needs some packages: pip install 'thresher[web]'", place) from error
            site = Site(plan.web, plan, generations, document)
        traces = None if plan.trace is None else tracing(plan.trace, document.place(("trace",)))
        running = pipeline(plan if site is None else site.plan, generations, traces)
        if traces is not None:
            closing.enter_context(traces)
        closing.callback(running.stop, drain_s=drain_s)
        if plan.metrics is not None:
            from pipeline.app.metrics import Endpoint

            place = document.place(("metrics", "listen"))
            closing.enter_context(Endpoint(plan.metrics.address, running.snapshot, place, traces))
        if site is not None:
            site.traces = traces
            server = closing.enter_context(WebServer(site, running, document.place(("web", "listen"))))
        closing.enter_context(passed_over())
        yield server, running


def _written(plan: Plan) -> tuple[str, ...]:
    """The files that the sinks write, as the config names them."""
    paths = (getattr(sink, "path", None) for sink in plan.sinks.values())
    return tuple(redact(path) for path in paths if path is not None and str(path) != "-")


def announce(plan: Plan, generations: Mapping[str, Generation]) -> Iterator[str]:
    """What judges, in a line per cascade: models, where and how they run, and what is known of their errors."""
    for name, generation in generations.items():
        stages = " → ".join(_told(stage.name, stage.describe()) for stage in generation.stages)
        word = "uncertified: nobody has measured what it misses"
        if generation.certified:
            word = f"certified: {generation.promise}"
        yield f"{name}: {stages} ({word})"
        audit = plan.cascades[name].audit if name in plan.cascades else None
        if audit is not None:
            yield f"{name}: {audit.promise(plan.cascades[name].promised)}"


def _told(name: str, said: Mapping[str, object]) -> str:
    how = " ".join(str(said[key]) for key in ("runtime", "precision") if said.get(key))
    model = said.get("model", name)
    return f"{name} [{how}]" if model == name else f"{name} [{model}, {how}]"


class Stays:
    """Whether the program goes on for its page when every source has ended: where its settings say so, or where they do
    not and a person sits in front. Where there is no source at all, somebody has yet to add one."""

    def __init__(self, settings: WebSettings, watching: bool) -> None:
        self._settings, self._watching = settings, watching
        self._told = False

    def __call__(self, running: Pipeline) -> bool:
        if not running.plans:
            return not self._watching or self._settings.stay is not False
        stays = sys.stdout.isatty() if self._settings.stay is None else self._settings.stay
        if stays and not self._told:
            self._told = True
            logs.say("all sources have ended; the page stays until Ctrl-C")
        return stays


def _watch(
    running: Pipeline,
    stopping: Callable[[], bool],
    options: RunOptions,
    notifier: Notifier,
    stays: Stays | None = None,
) -> list[str]:
    """Returns when all is done and nobody wants it to go on, when told to stop, or with the sources that did not
    connect in time."""
    began = time.monotonic()
    waited_for = options.connect_within_s
    while not running.wait(_LOOK_S) or (stays is not None and stays(running)):
        if running.finished:
            time.sleep(_LOOK_S)
        age = time.monotonic() - began
        notifier.look(lambda: _status(running))
        if stopping():
            logs.say("finishing what has begun; once more leaves at once")
            break
        if running.unwanted or (options.seconds is not None and age >= options.seconds):
            break
        if waited_for is not None:
            absent = [one for one in running.snapshot().streams if not one.connects]
            if not absent:
                waited_for = None
            elif age >= waited_for:
                return [f"{one.stream}: not connected within {waited_for:g} s: {one.detail}" for one in absent]
    return []


def _status(running: Pipeline) -> str:
    """A line for who asks the service manager."""
    states = Counter(str(state.value) for state in running.states.values())
    return "streams: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _failures(final: Snapshot, plan: Plan) -> Iterator[str]:
    for one in final.all_streams:
        if one.failed:
            yield f"{one.stream or 'streams that were removed'}: {one.failed} windows could not be judged"
    for sink in final.sinks:
        takes = plan.sinks[sink.sink].takes
        keeps = "outcomes" in takes and "tapes" not in takes  # a table or a film may skip what comes too fast
        lost = sink.refused + sink.waiting + (sink.dropped if keeps else 0)
        if lost:
            yield f"sinks.{sink.sink}: {lost} items were not written: {sink.detail or 'refused, for the reason above'}"


def _leave_at_once(number: int) -> None:
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h\n")  # a live table hides the cursor
    os._exit(128 + number)
