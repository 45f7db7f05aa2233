"""Changes what runs: streams are added, changed, paused and removed while the rest goes on.

A section is checked just as one in a config is, by the same code, with the same words, against what runs; nothing is
touched unless all of it is in order. The document stays what really runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Protocol

from pipeline.app.config.document import Document, plain
from pipeline.app.config.load import Standing
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.plan import Plan
from pipeline.app.config.shown import merged, shown
from pipeline.app.wiring import prepare, stream_plan
from pipeline.core.contracts import Generation
from pipeline.core.errors import InputError, ThresherError
from pipeline.engine.pipeline import Pipeline

Section = dict[str, Any]
DRAIN_S = 5.0
_MOST_WAITING = 8
_PATIENCE_S = 10.0


class AlreadyThere(InputError):
    """A stream of that name runs."""


class NotThere(InputError):
    """No stream of that name runs."""


class InTheWay(InputError):
    """It cannot be done as things stand."""


class Busy(ThresherError):
    """Other changes are under way, and take long: later."""


class Admission(Protocol):
    """Says what somebody who is not at this machine may have it do."""

    def check(self, name: str, section: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
        """Whether `section` may be run in the place of what was there `before`, as both are written. Raises
        `InputError`, before anything of it is looked at."""


class Control:
    """Over a pipeline that runs, and the document that it was made from. Thread-safe; one change at a time."""

    def __init__(
        self, document: Document, plan: Plan, generations: Mapping[str, Generation], running: Pipeline
    ) -> None:
        self.running = running
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._document, self._kept = document, document.kept
        self._resolved = document.data
        self._written = document.written or deepcopy(document.data)
        self._plan, self._generations = plan, dict(generations)

    # What there is.

    @property
    def plan(self) -> Plan:
        """As it runs now."""
        return self._plan

    @property
    def generations(self) -> Mapping[str, Generation]:
        """Those that judge now, by the names of their cascades."""
        return self._generations

    @property
    def config(self) -> dict[str, Any]:
        """The whole config as it runs now and as it was written, without what is secret."""
        out: dict[str, Any] = shown(self._written)
        return out

    def section(self, name: str) -> Section:
        """That of one stream, likewise. Raises `NotThere`."""
        out: Section = shown(self._section(name))
        return out

    def streams(self) -> list[str]:
        """The names of all sources."""
        return list(self._plan.sources)

    def _section(self, name: str) -> Section:
        if name not in self._plan.sources:
            of = self._plan.tracks.get(name)
            why = "there is no such stream" if of is None else f"it is a track of {of[0]}: change that one"
            raise NotThere(why, f"sources.{name}")
        section: Section = self._written["sources"][name]
        return section

    # Changing it.

    def add(
        self, name: str, section: Mapping[str, Any], *, paused: bool = False, admission: Admission | None = None
    ) -> None:
        """Raises `AlreadyThere`, or `InputError` with all that is wrong with the section."""
        with self._alone():
            if name in self._plan.watches:
                raise AlreadyThere("there is a stream of this name already", f"sources.{name}")
            new = self._read(name, section)
            if admission is not None:
                admission.check(name, new, None)
            resolved, plan, generations = self._planned(name, new)
            self.running.add(stream_plan(plan, generations, name), paused=paused)
            self._settle(name, new, resolved, plan, generations)
            self._keep(name, new)

    def change(
        self,
        name: str,
        patch: Mapping[str, Any],
        *,
        paused: bool | None = None,
        admission: Admission | None = None,
    ) -> None:
        """A merge patch of its section (RFC 7396); and whether it is to be paused, if that is said. Raises `NotThere`,
        or `InputError` with all that is wrong; what runs goes on then."""
        with self._alone():
            old = self._section(name)
            new: Section = merged(old, self._read(name, patch))
            if new == old:
                self._pause(name, paused)
                return
            if admission is not None:
                admission.check(name, new, old)
            resolved, plan, generations = self._planned(name, new)
            try:
                self.running.change(stream_plan(plan, generations, name), DRAIN_S, paused=paused)
            except BaseException:
                if all(one.name != name for one in self.running.plans):  # it is gone: the program is ending, say
                    self._settle(name, None, *self._planned(name, None))  # nobody asked for that: it is not kept
                raise
            self._settle(name, new, resolved, plan, generations)
            self._keep(name, new)

    def pause(self, name: str) -> None:
        """Raises `NotThere`, or `InputError` where it has ended."""
        self.change(name, {}, paused=True)

    def resume(self, name: str) -> None:
        """Raises `NotThere`."""
        self.change(name, {}, paused=False)

    def remove(self, name: str) -> None:
        """Raises `NotThere`, or `InputError` where something else in the config needs it: a rule, a zone."""
        with self._alone():
            self._section(name)
            try:
                resolved, plan, generations = self._planned(name, None)
            except InputError as error:
                raise InTheWay(f"it is needed: {error.message}", error.place) from None
            self.running.remove(name, DRAIN_S)
            self._settle(name, None, resolved, plan, generations)
            self._keep(name, None)

    def _pause(self, name: str, paused: bool | None) -> None:
        if paused is None:
            return
        try:
            (self.running.pause if paused else self.running.resume)(name)
        except InputError as error:
            raise InTheWay(error.message, error.place) from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One change at a time; few wait, and not for ever, or whoever asks would be kept from all else."""
        if not self._waiting.acquire(blocking=False):
            raise Busy("too many changes at once: try again")
        try:
            if not self._lock.acquire(timeout=_PATIENCE_S):
                raise Busy("another change takes long (a model is being loaded?): try again")
            try:
                yield
            finally:
                self._lock.release()
        finally:
            self._waiting.release()

    @staticmethod
    def _read(name: str, section: Mapping[str, Any]) -> Section:
        out: Section = plain(section, f"sources.{name}")
        return out

    def _planned(self, name: str, section: Section | None) -> tuple[dict[str, Any], Plan, dict[str, Generation]]:
        """What would run with `section` under that name, or without one. Touches nothing. Raises `InputError`."""
        sources = {one: kept for one, kept in (self._resolved.get("sources") or {}).items() if one != name}
        if section is not None:
            sources[name] = deepcopy(section)
            if self._kept is not None:
                self._kept.check(name, section)
        document = Document({**self._resolved, "sources": sources}, self._document.folder)
        plan, generations = prepare(document, Mistakes(document), Standing(self._plan, self._generations, name))
        return document.data, plan, generations

    def _settle(
        self,
        name: str,
        section: Section | None,
        resolved: dict[str, Any],
        plan: Plan,
        generations: Mapping[str, Generation],
    ) -> None:
        sources = {one: kept for one, kept in (self._written.get("sources") or {}).items() if one != name}
        if section is not None:
            sources[name] = section
        self._written = {**self._written, "sources": sources}
        self._resolved, self._plan, self._generations = resolved, plan, dict(generations)

    def _keep(self, name: str, section: Section | None) -> None:
        if self._kept is not None:
            self._kept.note(name, section)
