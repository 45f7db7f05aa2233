"""Sinks of the program itself, by which the page and its other parts hear of what happens. No config names one."""

from __future__ import annotations

from typing import Self

from pydantic import PrivateAttr

from pipeline.core.contracts import Sink, Writer


class OwnSink(Sink):
    """Hands what it takes to a writer that is there already, and that others ask for what it got."""

    _writer: Writer = PrivateAttr()

    @classmethod
    def into(cls, writer: Writer) -> Self:
        sink = cls()
        sink._writer = writer
        return sink

    def open(self) -> Writer:
        return self._writer
