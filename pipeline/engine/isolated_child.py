"""The child's side of `isolation`: reads a source, keeps its pictures, answers questions about them.

    items     child → parent   ("open", epoch), then ("chunk", header and luma), ("item", gap or watermark),
                               ("log", record), at last ("end", None) or ("error", error)
    requests  parent → child   ("ack", numbers of pictures to let go), ("stop",),
                               ("view" | "rgb" | "fingerprint", number, details …)
    replies   child → parent   (True, answer) or (False, error), one for each question

The child is a few chunks ahead of the parent's acknowledgements at most, so that a slow parent slows the source down,
and it keeps a bounded number of pictures: the oldest goes. It goes itself when `requests` closes, as it does when the
parent is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import OrderedDict
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NoReturn, TypeAlias

from pipeline.core import reach
from pipeline.core.contracts import Reader, Source, Taped
from pipeline.core.errors import FrameGone, InputError, SourceLost, ThresherError
from pipeline.core.payloads import Image
from pipeline.core.records import Chunk
from pipeline.core.secrets import redact

Pipes: TypeAlias = "tuple[Connection, Connection, Connection]"
"""The child's ends of `items`, `requests` and `replies`."""

FAREWELL_S = 1.0
"""How long the source may take to close."""

MOST_MEMORY = 4 << 30
"""Address space of the child, in bytes: decoder, pictures that are kept, and what the libraries reserve."""

_AHEAD = 8
_TICK_S = 0.5
_QUESTIONS = frozenset({"view", "rgb", "fingerprint"})


def serve(  # noqa: PLR0917  # as a process takes them
    source: Source, stream: str, pipes: Pipes, held: int, log_level: int, network: reach.NetworkSettings
) -> NoReturn:
    """The whole life of the child. It keeps `held` pictures."""
    reach.use(network)
    _bound_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent decides
    child = _Child(pipes, held)
    logging.basicConfig(level=log_level, handlers=[_ToParent(child)], force=True)
    threading.Thread(target=child.answer, name="answers", daemon=True).start()
    with suppress(_ParentGone):
        child.read(source, stream)
        child.gone.wait()  # until then the pictures may be asked for
    os._exit(0)  # libraries' threads may hang


def _bound_memory() -> None:
    """What is read must not take all memory there is. Where the system knows no such bound, it has none."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = MOST_MEMORY if hard == resource.RLIM_INFINITY else min(MOST_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


class _ParentGone(Exception):
    pass


class _Child:
    def __init__(self, pipes: Pipes, held: int) -> None:
        self.stopping = threading.Event()
        self.gone = threading.Event()
        self._items, self._requests, self._replies = pipes
        self._send_lock = threading.Lock()
        self._credits = threading.Semaphore(_AHEAD)
        self._held = held
        self._pictures: OrderedDict[int, Image] = OrderedDict()
        self._pictures_lock = threading.Lock()

    def send(self, kind: str, body: object) -> None:
        try:
            with self._send_lock:
                self._items.send((kind, body))
        except OSError:
            raise _ParentGone from None

    def read(self, source: Source, stream: str) -> None:
        """Everything from opening to closing."""
        try:
            reader = source.open(stream)
            try:
                if isinstance(reader, Taped):
                    reader.tape.stop()  # nobody could cut anything from it: packets stay in this process
                self.send("open", reader.epoch)
                self._pass_on(reader)
            finally:
                reader.close()
            self.send("end", None)
        except _ParentGone:
            raise
        except (InputError, SourceLost) as error:
            self.send("error", _plain(error))
        except Exception as error:  # noqa: BLE001 whatever a third party's reader raises, the parent shall hear of it
            self.send("error", SourceLost(f"{type(error).__name__}: {redact(error)}"))

    def _pass_on(self, reader: Reader) -> None:
        for item in reader:
            if isinstance(item, Chunk):
                while not self._credits.acquire(timeout=_TICK_S):
                    if self.stopping.is_set():
                        break
                if self.stopping.is_set():
                    return
                image = item.payload
                assert isinstance(image, Image)  # the config refuses others
                self._keep(item.seq, image)
                times = (item.pts_ns, item.duration_ns, item.mono_ns, item.wall_ns)
                self.send("chunk", (item.seq, *times, image.width, image.height, image.luma(), item.file))
            else:
                self.send("item", item)
            if self.stopping.is_set():
                return

    def _keep(self, number: int, image: Image) -> None:
        with self._pictures_lock:
            self._pictures[number] = image
            oldest = self._pictures.popitem(last=False)[1] if len(self._pictures) > self._held else None
        if oldest is not None:
            oldest.release()

    def answer(self) -> None:
        """Serve the parent until it closes the pipe, then see to it that this process ends."""
        try:
            while True:
                kind, *details = self._requests.recv()
                if kind == "ack":
                    self._let_go(details[0])
                    self._credits.release()
                elif kind == "stop":
                    self.stopping.set()
                else:
                    self._replies.send(self._look(kind, *details))
        except (EOFError, OSError):
            self.stopping.set()
            self.gone.set()
            threading.Event().wait(FAREWELL_S)
            os._exit(0)

    def _let_go(self, numbers: tuple[int, ...]) -> None:
        with self._pictures_lock:
            images = [self._pictures.pop(number, None) for number in numbers]
        for image in images:
            if image is not None:
                image.release()

    def _look(self, what: str, number: int, *details: object) -> tuple[bool, object]:
        assert what in _QUESTIONS
        with self._pictures_lock:
            image = self._pictures.get(number)
        if image is None:
            return False, FrameGone("too many newer pictures came before this view was asked for")
        try:
            return True, getattr(image, what)(*details)
        except ThresherError as error:
            return False, error
        except Exception as error:  # noqa: BLE001 one picture that cannot be converted is no reason to go
            return False, FrameGone(f"{type(error).__name__}: {redact(error)}")


def _plain(error: ThresherError) -> ThresherError:
    """The error as one of ours, which surely survives the way."""
    if isinstance(error, InputError):
        return InputError(error.message, error.place)
    return SourceLost(redact(error))


class _ToParent(logging.Handler):
    """The parent alone knows where logs go, and every secret that they must not hold."""

    def __init__(self, child: _Child) -> None:
        super().__init__()
        self._child = child

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(_ParentGone):
            self._child.send("log", (record.name, record.levelno, redact(record.getMessage())))
