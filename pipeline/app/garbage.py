"""Python's garbage collector, kept away from what stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def passed_over() -> Iterator[None]:
    """What is there now (libraries, models, settings) is not looked at again meanwhile: with it, each full collection
    stops every stream for a tenth of a second. Where that is so already, by us or by a program around us, it stays."""
    ours = not gc.get_freeze_count()
    if ours:
        gc.collect()
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()
