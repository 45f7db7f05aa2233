"""Several processes as one training (`torchrun`): who is who, and what only the first of them does.

Each process computes its share of every batch. Files are read, judged and written by the first one; what comes of it,
be it a mistake, the others are told, so that all go the same way and end together.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from pipeline.core.errors import InputError, ThresherError

T = TypeVar("T")
_TOLD_BY_TORCHRUN = ("RANK", "MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(hours=6)  # while the first one quantises a model, or its teacher looks at every picture


def joined() -> tuple[int, int]:
    """This process' number and how many there are, once all have met. Raises `InputError`."""
    said = os.environ.get("WORLD_SIZE", "1")
    if said == "1":
        return 0, 1
    if not dist.is_initialized():
        if not said.isdecimal() or any(name not in os.environ for name in _TOLD_BY_TORCHRUN):
            raise InputError(
                f'is "{said}", but who the others are nobody said: start it with torchrun, or unset it', "WORLD_SIZE"
            )
        dist.init_process_group("gloo", timeout=_PATIENCE)
    return dist.get_rank(), dist.get_world_size()


def left() -> None:
    """The end of working together, if there was any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def leads() -> bool:
    """Whether this is the first process, or the only one."""
    return joined()[0] == 0


def by_the_first(work: Callable[[], T]) -> T:
    """What `work` gives in the first process, in all of them; so with a `ThresherError` that it raises."""
    rank, world = joined()
    if world == 1:
        return work()
    told: list[Any] = [None, None]
    if rank == 0:
        try:
            told[0] = work()
        except ThresherError as error:
            told[1] = error
    dist.broadcast_object_list(told, 0)
    if told[1] is not None:
        raise told[1]
    result: T = told[0]
    return result


def mean(value: float) -> float:
    """Of all processes' values."""
    world = joined()[1]
    if world == 1:
        return value
    told = torch.tensor([value], dtype=torch.float64)
    dist.all_reduce(told)
    return float(told) / world
