"""What the sinks on the network share: names, patience, and what to do with letters that arrived out of turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from pipeline.core.errors import InputError
from pipeline.core.letters import Kind, Letter

ANSWER_S: Final = 7.0
BEGIN_S: Final = 2.0
"""A receiver may take `ANSWER_S` to answer a request. Whoever makes several in turn begins none after `BEGIN_S`, so
that `send` takes less than ten seconds whatever the receiver does."""

FOLDERS: Final[Mapping[Kind, str]] = MappingProxyType(
    {"outcome": "results", "event": "events", "ruling": "rulings", "audit": "audits", "outage": "outages"}
)
"""What letters of a kind are called where they are kept: the tables of the SQLite sink, topics, streams."""


def token(name: str) -> str:
    """`name` (of a letter) in printable ASCII without spaces or full stops, for headers: whatever else is in it is
    percent-encoded, so that different names stay different."""
    return quote(name, safe="/:@+,=~", errors="surrogatepass").replace(".", "%2E")


def raw(text: str) -> bytes:
    """`text` in UTF-8; a lone surrogate is spelled out."""
    return text.encode("utf-8", "backslashreplace")


class Arrivals:
    """Which letters have arrived although one before them has not: they are not sent again when they come again, as
    long as this process lives. Holds no more than the letters that were given last."""

    def __init__(self) -> None:
        self._ahead: set[str] = set()

    def missing(self, letters: Sequence[Letter]) -> list[Letter]:
        """Those of `letters` that have to be sent."""
        return [letter for letter in letters if letter.id not in self._ahead]

    def settle(self, letters: Sequence[Letter], arrived: set[str]) -> int:
        """How many of `letters`, from the first, have arrived by now; `arrived` are the ids of those that did just
        now."""
        done = self._ahead | arrived
        count = next((n for n, letter in enumerate(letters) if letter.id not in done), len(letters))
        self._ahead = done.intersection(letter.id for letter in letters[count:])
        return count


def filled(template: str, place: str, letter: Letter) -> str:
    """`template` with its {kind} and {stream} filled in. Raises `InputError` where it holds anything else in braces."""
    try:
        return template.format(kind=FOLDERS[letter.kind], stream=letter.stream)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise InputError("may hold {kind} and {stream}, and no other braces", place) from None
