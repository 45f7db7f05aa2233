"""What is sent to a receiver elsewhere: the document of an item, and the names under which it may come twice.

A letter is written down before it counts as accepted, and may be sent by a later process than the one that wrote it. So
it holds text, and nothing that would have to be looked up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pipeline.core.outages import Outage, outage_document
from pipeline.core.records import Audit, Event, Outcome, Result, audit_document, event_document, outcome_document
from pipeline.core.rulings import Ruling, ruling_document
from pipeline.core.tapes import Recording

if TYPE_CHECKING:
    from pipeline.core.contracts import Delivery

Kind: TypeAlias = Literal["outcome", "event", "ruling", "audit", "outage"]

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Letter:
    """`id` is this word's own: a receiver that has seen it may leave a second one aside. `about` is the id of what it
    tells of (a window, an event, a ruling, an outage): whoever keeps one row for each replaces it by the latest word,
    so that another generation's verdict, or an event's end, takes the place of what stood there. `stream` is the
    stream's name, or the show's. `body` is the document of `outcome_document` and its like, JSON in UTF-8.
    """

    id: str
    kind: Kind
    about: str
    stream: str
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


def letter_of(item: Delivery) -> Letter:
    """The same item gives the same letter, whichever process writes it."""
    if isinstance(item, Event):
        return _letter(f"{item.id}:{item.kind}:{item.windows}", "event", item.id, item.stream, event_document(item))
    if isinstance(item, Ruling):
        return _letter(f"{item.id}:{item.kind}:{item.end_ns}", "ruling", item.id, item.show, ruling_document(item))
    if isinstance(item, Audit):
        window = item.window
        return _letter(f"{window.id}:audit:{item.generation}", "audit", window.id, window.stream, audit_document(item))
    if isinstance(item, Outage):
        return _letter(item.id, "outage", item.id, item.stream, outage_document(item))
    if isinstance(item, Recording):
        raise TypeError("packets are not sent as letters")
    outcome = item if isinstance(item, Outcome) else item.outcome
    window = outcome.window
    by = outcome.generation if isinstance(outcome, Result) else outcome.kind
    return _letter(f"{window.id}:{by}", "outcome", window.id, window.stream, outcome_document(outcome))


def _letter(name: str, kind: Kind, about: str, stream: str, document: dict[str, Any]) -> Letter:
    # a lone surrogate (a file name of another age) becomes \udcxx, which is how JSON spells it
    return Letter(name, kind, about, stream, _encode(document).encode("utf-8", "backslashreplace"))
