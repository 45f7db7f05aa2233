"""The tree of errors.

    ThresherError
    ├── InputError            what the user gave is wrong; the program exits with status 2
    │   └── MissingPart       a package, system library or file is not there; says how to get it
    ├── SourceLost            a source broke off; the engine opens it again (live) or fails it (replayable)
    │   └── SourceAway        nobody is there to send; the engine opens it again at once, and opening waits
    ├── FrameGone             a leased picture was let go before somebody asked for it
    ├── StageError            a model could not judge a view
    ├── SinkBusy              a sink cannot take it now; the engine tries again
    └── SinkRefused           a sink will never take it; the engine counts it and goes on
        └── SinkGone          nor anything else: whoever read it has left

No message of these holds a secret: text from outside (a library's error, a URL) goes through `secrets.redact`.
"""

from __future__ import annotations


def let_go(error: BaseException) -> None:
    """Of what the calls that failed had in hand. A frame that keeps an error which keeps the frame is a circle: its
    packets, letters and pictures would stay until the garbage collector comes round. Call it once the error is told."""
    seen: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        one = errors.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            errors += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]


class ThresherError(Exception):
    """Everything that this program raises on purpose."""


class InputError(ThresherError):
    """What the user gave cannot be used.

    `place` names where it stands (`sources.door.url`, a path, an option); the message says what to do.
    """

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:  # survives the way back from a worker process
        return (type(self), (self.message, self.place))

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class InputErrors(InputError):
    """Several mistakes at once, each with its place."""

    def __init__(self, errors: list[InputError]) -> None:
        super().__init__("\n".join(str(e) for e in errors))
        self.errors = errors

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.errors,))


class MissingPart(InputError):
    """Something that has to be installed or fetched first; the message holds the command."""


class SourceLost(ThresherError):
    """A source broke off: connection refused, time-out, end of a live stream."""


class SourceAway(SourceLost):
    """Nobody sends, and there is nobody to call: to open the source again is to wait for somebody. It waits for a
    second or so by itself, so that no other wait is needed, and whoever comes is there at once."""


class FrameGone(ThresherError):
    """The picture behind a window is no longer held, so no crop of it can be made."""


class StageError(ThresherError):
    """A stage could not judge."""


class SinkBusy(ThresherError):
    """Not now: the engine keeps the items and writes them again after a pause."""


class SinkRefused(ThresherError):
    """Never: the engine counts the items as refused and goes on."""


class SinkGone(SinkRefused):
    """Nobody wants this sink's items any more: the engine says so once, and counts all that follow as refused."""
