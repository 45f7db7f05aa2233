"""The webrtc source by itself, without cascades: the contract of all sources, with a real publisher over HTTP."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from whip_publisher import Pictures, Publisher, Tone
from whip_server import soon

from pipeline.app.config.document import Document
from pipeline.app.config.plan import Plan
from pipeline.app.config.settings import WebSettings
from pipeline.app.web.server import WebServer
from pipeline.app.web.site import Site
from pipeline.core.errors import SourceAway
from pipeline.core.payloads import Image
from pipeline.core.records import Chunk, Item, Watermark
from pipeline.core.sound import Sound
from pipeline.engine.pipeline import Pipeline
from sources import webrtc_peers
from sources.webrtc import WebRtc, WebRtcReader
from tests.contracts import source_suite as suite

TOKEN = "suite-token" * 2


class Patient(WebRtc):
    """Opened as the engine does it: until somebody publishes."""

    def open(self, stream: str) -> WebRtcReader:
        for _ in range(20):
            with suppress(SourceAway):
                return super().open(stream)  # type: ignore[return-value]
        raise AssertionError("nobody published")


PLAN = Patient.model_validate({"token": TOKEN, "sound": {}, "media_timeout_s": 3})


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    running = Pipeline([], {})
    plan = Plan(sources={suite.STREAM: PLAN})
    site = Site(WebSettings(listen="127.0.0.1:0"), plan, {}, Document({}, "test"))
    with WebServer(site, running, "web.listen") as server:
        yield f"{server.url}/whip/{suite.STREAM}"
        running.stop()


@contextmanager
def published(url: str, make: Callable[[], Pictures] = Pictures) -> Iterator[list[Publisher]]:
    """Somebody who publishes anew whenever it was put out, as OBS does. The last one is the one that is there."""
    there: list[Publisher] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            with suppress(httpx.HTTPError), Publisher(url, token=TOKEN, pictures=make(), tone=Tone(1000)) as one:
                there.append(one)
                while not over.wait(0.05) and one.connection.connectionState not in {"closed", "failed"}:
                    pass

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield there
    finally:
        over.set()
        thread.join(30)


def pictures(items: list[Item]) -> list[Item]:
    return [item for item in items if item.stream == suite.STREAM]


def sounds(items: list[Item]) -> list[Item]:
    return [item for item in items if item.stream == f"{suite.STREAM}.sound"]


def test_the_contract_of_sources(url: str) -> None:
    suite.check_plan(PLAN)
    with published(url):
        with closing(PLAN.open(suite.STREAM)) as reader:
            assert tuple(reader.tracks) == ("sound",)
            items = list(itertools.islice(reader, 60))
        suite.check_items(pictures(items))
        suite.check_items(sounds(items), stream=f"{suite.STREAM}.sound")
        suite.check_closing(PLAN)
        suite.check_epochs(PLAN)


def test_pictures_have_their_time_and_size_and_sound_its_pitch(url: str) -> None:
    with published(url) as there, closing(PLAN.open(suite.STREAM)) as reader:
        items: list[Item] = []
        for item in reader:
            items.append(item)
            if len(suite.chunks(pictures(items))) == 20:
                there[-1].pictures.size = (640, 360)
            if len(suite.chunks(pictures(items))) >= 60:
                break
    seen = suite.chunks(pictures(items))
    sizes = [(one.payload.width, one.payload.height) for one in seen if isinstance(one.payload, Image)]
    assert sizes[0] == (320, 240) and sizes[-1] == (640, 360) and sizes == sorted(sizes)
    steps = [round((b.pts_ns - a.pts_ns) / 1e6) for a, b in itertools.pairwise(seen)]
    assert set(steps) <= {66, 67, 133, 134}, "by the sender's clock, not by arrival"
    heard = [one.payload for one in suite.chunks(sounds(items)) if isinstance(one.payload, Sound)]
    samples = heard[-1].samples
    pitch = np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * heard[-1].rate / len(samples)
    assert len(samples) == heard[-1].rate and abs(pitch - 1000) < 3
    between = [one.mono_ns for one in suite.chunks(items)]
    assert all(b >= a - 250_000_000 for a, b in itertools.pairwise(between))


def test_a_publisher_who_leaves_is_told_at_once(url: str) -> None:
    reader: list[WebRtcReader] = []
    opening = threading.Thread(target=lambda: reader.append(PLAN.open(suite.STREAM)))
    opening.start()
    with Publisher(url, token=TOKEN):
        opening.join(20)
        rest = iter(reader[0])
        assert isinstance(next(rest), (Chunk, Watermark))
    with pytest.raises(SourceAway, match="the publisher left"):
        list(rest)
    reader[0].close()


def test_while_nobody_publishes_it_says_where() -> None:
    with pytest.raises(SourceAway, match="waits for a publisher at /whip/nobody"):
        WebRtc().open("nobody")


def test_a_picture_that_is_too_large_is_refused(url: str) -> None:
    small = PLAN.model_copy(update={"max_pixels": 100 * 100})
    with published(url), closing(small.open(suite.STREAM)) as reader:
        items = list(itertools.islice((one for one in reader if one.stream == suite.STREAM), 8))
    assert suite.gaps(items, "undecoded") >= 3 and not suite.chunks(items)


def test_what_is_behind_is_passed_over_and_counted(url: str) -> None:
    with published(url) as there, closing(PLAN.open(suite.STREAM)) as reader:
        rest = iter(reader)
        soon(lambda: isinstance(next(rest), Chunk))
        soon(lambda: there[-1].pictures.sent > 60)  # nobody takes anything meanwhile
        items = list(itertools.islice((one for one in rest if one.stream == suite.STREAM), 60))
    assert suite.gaps(items, "undecoded") > 5
    late = [one for one in items if isinstance(one, Chunk)][-1]
    assert late.pts_ns > 3_000_000_000


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"token": "short"}, "16 are the least"),
        ({"isolation": "process"}, "lives? in this program's own server"),
        ({"media_timeout_s": 0}, "media_timeout_s"),
        ({"ice_servers": ["http://example.org"]}, "ice_servers"),
        ({"ice_servers": ["stun:a b"]}, "ice_servers"),
        ({"ice_servers": ["turn:example.org"]}, "needs `username` and `credential`"),
        ({"ice_servers": [{"url": "turn:x", "username": "a", "credential": "a\r\nb"}]}, "credential"),
        ({"sound": {"isolation": "process"}}, "isolation"),
    ],
)
def test_mistakes_are_found_before_anything_starts(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        WebRtc.model_validate(settings)


def test_streams_that_nobody_reads_any_more_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc_peers, "_endpoints", {})
    webrtc_peers.opened("gone", WebRtc.model_validate({}))._read_s -= 60
    there = webrtc_peers.opened("there", WebRtc.model_validate({}))
    assert webrtc_peers._endpoints == {"there": there}
