"""What a target is: a function from bytes, out of which only documented errors may come."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Run = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """`seeds` are well-formed inputs. `short` is how many inputs the tests run, `full` the full form. With `documents`,
    JSON is mutated as such. What it asserts must hold for any input. One that is to be `alone` changes the process that
    it runs in: it has a server there, say, and nothing is logged any more."""

    name: str
    run: Run
    seeds: Callable[[], Sequence[bytes]]
    allowed: tuple[type[Exception], ...] = ()
    documents: bool = False
    short: int = 5_000
    full: int = 100_000
    largest: int = 1 << 16
    alone: bool = False

    def __call__(self, data: bytes) -> None:
        try:
            self.run(data)
        except self.allowed:
            return

    def corpus(self) -> Sequence[bytes]:
        return _corpus(self.seeds)


@cache
def _corpus(seeds: Callable[[], Sequence[bytes]]) -> Sequence[bytes]:
    return tuple(seeds())


@cache
def scratch() -> Path:
    """A folder of this process, in memory where there is such."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def written(data: bytes, name: str) -> Path:
    """A file of that name with `data` in it."""
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
