"""Publishers that come and are killed, again and again: what is left of them in the program they published into.

python -m tests.web.connects --times 200
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx
import psutil

from sources.network_loop import network_loop, on_the_network
from tests.web.whip_publisher import publish_for_ever
from tests.web.whip_server import Served, serving, soon

CONFIG = """
sources: {lobby: {kind: webrtc, cascade: people, max_fps: 2, sound: {cascade: words, hop_s: 1}, media_timeout_s: 1}}
cascades: {people: {base: people}, words: {base: words}}
web: {changes_per_s: 1000}
"""
_WARM = 10
_SILENT_EVERY = 5  # of so many, one is left to be missed; the others find the next one in their place


@dataclass(frozen=True)
class Left:
    """What the process holds."""

    connects: int
    threads: int
    descriptors: int
    tasks: int
    rss_mib: float


def held(connects: int) -> Left:
    async def tasks() -> int:
        return len(asyncio.all_tasks(network_loop())) - 1  # without this one

    gc.collect()
    process = psutil.Process()
    count = on_the_network(tasks(), 5)
    return Left(connects, threading.active_count(), process.num_fds(), count, process.memory_info().rss / 2**20)


def _come_and_go(served: Served, number: int) -> None:
    before = served.stream().connects
    publisher = multiprocessing.get_context("forkserver").Process(target=publish_for_ever, args=(served.whip(),))
    publisher.start()
    try:
        soon(lambda: served.stream().connects > before, 60)
        if number % 2:
            soon(lambda: served.stream().state == "live", 30)
    finally:
        assert publisher.pid is not None
        os.kill(publisher.pid, signal.SIGKILL)
        publisher.join()
        publisher.close()
    if number % _SILENT_EVERY == 0:
        soon(lambda: served.stream().state == "connecting", 30)


def _at_rest(served: Served, connects: int) -> Left:
    soon(lambda: "waits for a publisher" in served.stream().detail, 30)
    left = held(connects)
    for _ in range(10):  # what closes, closes by itself
        time.sleep(2)
        before, left = left, held(connects)
        if replace(before, rss_mib=left.rss_mib) == left:
            break
    return left


def run(times: int, every: int, folder: Path) -> Iterator[Left]:
    """What is held after a few publishers, after each `every`, and at the end."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.web.whip_publisher"])
    with serving(folder, CONFIG) as served:
        for number in range(_WARM):
            _come_and_go(served, number)
        yield _at_rest(served, 0)
        for number in range(1, times + 1):
            _come_and_go(served, number)
            refused = httpx.post(served.whip(), content="hello", headers={"Content-Type": "application/sdp"})
            assert refused.status_code == 400, refused.text
            if number % every == 0 or number == times:
                yield _at_rest(served, number)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--every", type=int, default=25)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        for one in run(given.times, given.every, Path(made)):
            print(json.dumps(asdict(one)), flush=True)
