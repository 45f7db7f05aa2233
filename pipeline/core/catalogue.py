"""Names to adapters. A catalogue is a plain literal table in the folder of its adapters; nothing in it is imported
before it is used. Third parties add to it with entry points of the group `thresher.<folder>`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import InputError


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean "x"?`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' Did you mean "{close[0]}"?' if close else ""


if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    from importlib import metadata  # 40 ms, for which most starts have no need

    return {point.name: point for point in metadata.entry_points(group=group)}


@dataclass(frozen=True)
class Catalogue:
    """`what` is the noun for messages (`source`), `table` maps a kind to `module:attribute`."""

    what: str
    group: str
    table: Mapping[str, str]

    def kinds(self) -> list[str]:
        """Every kind, ours first; third parties' names are looked up only here and for kinds that are not ours."""
        return [*self.table, *(name for name in _entry_points(self.group) if name not in self.table)]

    def load(self, kind: str, place: str = "") -> Any:
        """The adapter of that kind. Raises `InputError` with the nearest right word."""
        target = self.table.get(kind)
        if target is not None:
            module, _, attribute = target.partition(":")
            return getattr(importlib.import_module(module), attribute)
        point = _entry_points(self.group).get(kind)
        if point is None:
            known = self.kinds()
            raise InputError(
                f'there is no {self.what} of kind "{kind}".{nearest(kind, known)} Known: {", ".join(known)}.', place
            )
        return point.load()
