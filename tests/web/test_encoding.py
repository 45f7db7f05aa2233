"""One encoder: key frames when somebody needs one, the newest pictures, any size, a thread only while it is used."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from pipeline.app.bench.numbered import numbered
from pipeline.app.web import encoding
from pipeline.app.web.encoding import Encoded, Encoding
from pipeline.app.web.gallery import Gallery
from pipeline.core.contracts import Picture
from pipeline.core.payloads import FrameImage
from pipeline.core.records import Shed, ShedReason, Window


class Camera:
    """Puts one picture after the other on the wall."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery, self._seq = gallery, 0

    async def show(self, width: int = 64, height: int = 48) -> None:
        window = Window("door", "epoch", self._seq, self._seq * 40_000_000, self._seq * 40_000_000, 0, 0)
        self._seq += 1
        image = FrameImage.from_array(numbered(self._seq % 128, width, height))
        await asyncio.to_thread(self._gallery.write, [Picture(Shed(window, 0, reason=ShedReason.OVERLOAD), image)])
        await asyncio.sleep(0.04)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def encoders() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("encode-")]


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_key_frame_comes_when_it_is_asked_for_and_no_more_often_than_that(codec: encoding.Codec) -> None:
    async def run() -> None:
        gallery, got = Gallery(), list[Encoded]()
        camera = Camera(gallery)
        one = Encoding(gallery, "door", "raw", codec, asyncio.get_running_loop())
        leave = one.join(got.append)
        for _ in range(20):
            await camera.show()
        await until(lambda: len(got) >= 15)
        assert [each.key for each in got] == [True] + [False] * (len(got) - 1)
        one.want_key()
        one.want_key()
        for _ in range(5):
            await camera.show()
        await until(lambda: sum(each.key for each in got) == 2)
        assert all(later.ticks > earlier.ticks for earlier, later in pairwise(got))
        for _ in range(30):  # a storm of wishes
            one.want_key()
            await camera.show()
        assert sum(each.key for each in got) <= 2 + 5
        leave()
        await until(lambda: not encoders())

    asyncio.run(run())


def test_another_size_begins_with_a_key_frame_and_large_ones_are_made_smaller() -> None:
    async def run() -> None:
        gallery, got = Gallery(), list[Encoded]()
        camera = Camera(gallery)
        leave = Encoding(gallery, "door", "raw", "H264", asyncio.get_running_loop()).join(got.append)
        for size in ((64, 48), (97, 131), (1920, 1080), (9, 9), (64, 48)):
            before = sum(each.key for each in got)
            await camera.show(*size)
            await until(lambda before=before: sum(each.key for each in got) > before)  # type: ignore[misc]
        leave()

    asyncio.run(run())


def test_who_joins_later_sees_the_last_picture_though_no_other_comes() -> None:
    async def run() -> None:
        gallery, first, second = Gallery(), list[Encoded](), list[Encoded]()
        await Camera(gallery).show()
        one = Encoding(gallery, "door", "annotated", "H264", asyncio.get_running_loop())
        leave = one.join(first.append)
        await until(lambda: bool(first))
        await asyncio.sleep(0.6)
        assert len(first) == 1  # it is not encoded again for nobody
        also = one.join(second.append)
        await until(lambda: bool(second))
        assert second[0].key
        assert second[0].shot is first[0].shot
        leave()
        assert encoders()
        also()
        await until(lambda: not encoders())

    asyncio.run(run())


def test_of_pictures_that_come_too_fast_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        gallery, got = Gallery(), list[Encoded]()
        held = threading.Event()
        one = Encoding(gallery, "door", "raw", "H264", asyncio.get_running_loop())
        render = one._renderer.render

        def slow(*given: object) -> object:
            held.wait(10)
            return render(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(one._renderer, "render", slow)
        leave = one.join(got.append)
        camera = Camera(gallery)
        for _ in range(10):
            await camera.show()
        held.set()
        await until(lambda: len(got) == 3)  # the one in hand, and the two newest
        assert one.dropped == 7
        assert got[-1].shot.outcome.window.seq == 9
        leave()

    asyncio.run(run())
