"""The feed over real HTTP and WebSockets: whole, in order, filtered, and bounded."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pipeline.app.web import broadcast as broadcasting
from pipeline.app.web import site as site_module
from pipeline.app.web.feed import KINDS, Feed, Told
from pipeline.app.web.site import Site
from pipeline.core.outages import Outage
from pipeline.core.records import Detection, outcome_document
from tests.contracts.sink_suite import event, person, result, ruling, shed
from tests.web.feed_parts import Message, listening, messages, serving, take, until

Served = tuple[Site, str]


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


def test_a_result_is_told_as_the_sinks_write_it(served: Served) -> None:
    site, url = served
    with listening(url, kinds="result,event") as told:
        assert next(told).id == f"{site.feed.run}-0"  # where it begins, before anything happens
        site.feed.write([result(0, person()), event(), shed(1)])
        first, second, third = take(told, 3)
    assert first == Message(f"{site.feed.run}-1", "result", outcome_document(result(0, person())))
    assert (second.kind, second.data["type"], second.data["event"]) == ("event", "new", event().id)
    assert third.data["outcome"] == "shed"


def test_without_an_id_it_begins_with_what_is_new(served: Served) -> None:
    site, url = served
    site.feed.write([result(0), result(1)])
    with listening(url, kinds="result") as told:
        assert next(told).id == f"{site.feed.run}-2"
        site.feed.write([result(2)])
        assert take(told, 1)[0].data["seq"] == 2
    with listening(url, kinds="result", after="0") as told:
        assert [one.data["seq"] for one in take(told, 3)] == [0, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_reconnecting_loses_and_repeats_nothing(served: Served, seed: int) -> None:
    """Clients come and go at random while a stream of results, with events between them, is told."""
    site, url = served
    chance = random.Random(seed)
    most = 3_000
    over = threading.Event()

    def tell() -> None:
        n = 0
        while n < most:
            batch: list[Any] = []
            for _ in range(min(most - n, chance.choice((1, 2, 40, 256)))):
                batch.append(event("update", n) if n % 50 == 49 else result(n, person()))
                n += 1
            site.feed.write(batch)
            time.sleep(chance.choice((0, 0.001, 0.02)))
        over.set()

    seen: list[str] = []
    place = "0"
    wanders = random.Random(seed + 100)
    teller = threading.Thread(target=tell)
    teller.start()
    while len(seen) < most:
        with listening(url, place, kinds="result,event") as told:
            for one in told:
                place = one.id or place  # as browsers do
                if one.kind:
                    assert one.kind in {"result", "event"}
                    seen.append(place)
                if len(seen) == most or wanders.random() < 0.003:
                    break
    teller.join()
    assert over.is_set()
    assert seen == [f"{site.feed.run}-{number}" for number in range(1, most + 1)]


@pytest.mark.parametrize("batch", ["", "&batch=true"])
def test_a_web_socket_resumes_alike(served: Served, batch: str) -> None:
    site, url = served
    seen: list[int] = []
    place = "0"
    for begin, upto in ((0, 10), (10, 700), (700, 705)):
        site.feed.write([result(seq) for seq in range(begin, upto)])
        with connect(f"{url.replace('http', 'ws')}/api/feed/ws?kinds=result&after={place}{batch}") as talk:
            while len(seen) < upto - 1:  # one is always left for the next
                said = json.loads(talk.recv(timeout=10))
                for one in said if batch else [said]:
                    place = one["id"]
                    seen += [one["data"]["seq"]] if one["kind"] == "result" else []
    assert seen == list(range(len(seen)))


def test_what_is_gone_is_said_and_what_is_left_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_module, "Feed", partial(Feed, results=5, others=5))
    with serving() as (site, url):
        site.feed.write([event()])
        site.feed.write([result(seq) for seq in range(20)])
        run = site.feed.run
        with listening(url, f"{run}-0", kinds="result,event") as told:
            gap, kept, *rest = take(told, 7)
        assert gap == Message(f"{run}-0", "gap", {"gone": 15, "run": run})
        assert (kept.kind, kept.id) == ("event", f"{run}-1")  # results wash no event away
        assert [one.data["seq"] for one in rest] == [15, 16, 17, 18, 19]
        with listening(url, f"{run}-16", kinds="result") as told:
            assert [one.kind for one in take(told, 5)] == ["result"] * 5  # all of it is there
        with listening(url, f"{run}-1", kinds="event,ruling") as told:
            site.feed.write([event("end")])
            assert [one.kind for one in take(told, 1)] == ["event"]  # who asked for no result misses none


def test_who_falls_behind_is_told_of_the_gap_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_module, "Feed", partial(Feed, results=100, others=5))
    with serving() as (site, url), listening(url, kinds="result") as told:
        assert next(told).kind == ""
        site.feed.write([result(seq) for seq in range(5_000)])  # more at once than is remembered
        gap, *rest = take(told, 101)
        assert (gap.kind, gap.data["gone"]) == ("gap", 4_900)
        assert [one.data["seq"] for one in rest] == list(range(4_900, 5_000))
        site.feed.write([result(5_000)])
        assert take(told, 1)[0].data["seq"] == 5_000


@pytest.mark.parametrize("stranger", ["0a1b2c3d-7", "RUN-999"])
def test_an_id_of_another_run_gets_all_there_is_behind_a_gap(served: Served, stranger: str) -> None:
    site, url = served
    site.feed.write([result(0), result(1)])
    with listening(url, stranger.replace("RUN", site.feed.run), kinds="result") as told:
        gap, *rest = take(told, 3)
    assert (gap.kind, gap.data["gone"]) == ("gap", None)
    assert [one.data["seq"] for one in rest] == [0, 1]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("after=x", "after"),
        ("after=-3", "after"),
        (f"after={'7' * 50}", "after"),
        ("after=a-b-c", "after"),
        ("kinds=result,nothing", "kinds"),
        ("stream=../x", "stream"),
        ("flagged=maybe", "flagged"),
        (f"label={'x' * 300}", "label"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_with_its_place(served: Served, query: str, place: str) -> None:
    _, url = served
    answer = httpx.get(f"{url}/api/feed?{query}")
    assert answer.status_code == 422
    assert place in answer.text
    with pytest.raises(InvalidStatus) as refused:
        connect(url.replace("http", "ws") + f"/api/feed/ws?{query}").__enter__()
    assert refused.value.response.status_code in {403, 422}


EVERYTHING = [
    result(0, Detection("dog", 0.7), stream="yard"),
    result(1, person()),
    result(2),
    shed(3),
    event(),
    ruling(),
    Outage("door", "lost", 0, 10**9),
]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("kinds=ruling,outage", [6, 7]),
        ("stream=yard", [1]),
        ("stream=yard&stream=chat", [1, 6]),
        ("label=person", [2, 5]),
        ("label=person&label=dog&stream=yard", [1]),
        ("kinds=result&flagged=true", [1, 2]),
        ("flagged=false&kinds=result,outage", [3, 4, 7]),
        ("stream=nowhere", []),
    ],
)
def test_filters(served: Served, monkeypatch: pytest.MonkeyPatch, query: str, numbers: list[int]) -> None:
    monkeypatch.setattr(broadcasting, "HEARTBEAT_S", 0.3)
    site, url = served
    site.feed.write(EVERYTHING)
    with httpx.stream("GET", f"{url}/api/feed?{query}&after=0", timeout=10) as response:
        found = []
        for one in messages(response):
            assert one.id is not None or one.kind == "snapshot"
            if one.kind in KINDS:
                found.append(int(str(one.id).rpartition("-")[2]))
            if one.kind == "" and one.id == f"{site.feed.run}-7":  # what was held back is behind it, too
                break
    assert found == numbers


def test_the_snapshot_comes_once_a_second_to_all_and_is_made_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, url = served
    monkeypatch.setattr(broadcasting, "SNAPSHOT_S", 0.1)
    made = []
    real = site.running.snapshot
    monkeypatch.setattr(site.running, "snapshot", lambda: made.append(1) or real())
    with listening(url, kinds="event") as others:
        next(others)
        time.sleep(0.3)
        assert made == []  # nobody wants one
    with ExitStack() as stack:
        told = [stack.enter_context(listening(url, kinds="snapshot")) for _ in range(5)]
        for one in told:
            said = take_snapshots(one, 3)
            assert all(snapshot.id is None and snapshot.data["streams"] == [] for snapshot in said)
        before = len(made)
    until(lambda: site.broadcast.listening == 0)
    time.sleep(0.3)
    assert 3 <= before <= 12  # and not five times that
    assert len(made) <= before + 2


def take_snapshots(told: Iterator[Message], count: int) -> list[Message]:
    wanted = (one for one in told if one.kind == "snapshot")
    return [next(wanted) for _ in range(count)]


def test_nothing_is_written_out_while_nobody_listens(served: Served) -> None:
    site, url = served
    site.feed.write([result(seq) for seq in range(100)])
    assert all(told._text is None for told in site.feed._results)
    with listening(url, "0", kinds="result") as told:
        take(told, 100)
    texts = [told.text for told in site.feed._results]
    with listening(url, "0", kinds="result") as told:
        take(told, 100)
    assert all(before is told.text for before, told in zip(texts, site.feed._results, strict=True))  # made once


def test_what_a_client_says_over_a_web_socket_changes_nothing(served: Served) -> None:
    site, url = served
    with connect(url.replace("http", "ws") + "/api/feed/ws?kinds=result") as talk:
        for said in ("hello", b"\x00\xff", "{}" * 1000):
            talk.send(said)
        talk.ping().wait(5)
        site.feed.write([result(0)])
        kinds = [json.loads(talk.recv(timeout=5))["kind"] for _ in range(2)]
    assert kinds == ["heartbeat", "result"]


def test_without_a_token_there_is_no_feed() -> None:
    with serving(operator="o" * 20, viewer="v" * 20) as (_, url):
        assert httpx.get(f"{url}/api/feed").status_code == 401
        with pytest.raises(InvalidStatus, match="401"):
            connect(url.replace("http", "ws") + "/api/feed/ws").__enter__()
        entitled = {"Authorization": f"Bearer {'v' * 20}"}
        with connect(url.replace("http", "ws") + "/api/feed/ws", additional_headers=entitled) as talk:
            assert json.loads(talk.recv(timeout=5))["kind"] == "heartbeat"


def test_the_end_of_the_program_is_an_end_and_what_there_was_has_come() -> None:
    with serving() as (site, url), ExitStack() as stack:
        told = stack.enter_context(listening(url, kinds="result"))
        talk = stack.enter_context(connect(url.replace("http", "ws") + "/api/feed/ws?kinds=result"))
        next(told)
        site.feed.write([result(seq) for seq in range(50)])
        site.broadcast.close()
        assert [one.data["seq"] for one in told] == list(range(50))  # and the response is whole
        assert len([said for said in talk if json.loads(said)["kind"] == "result"]) == 50


def test_a_record_that_utf_8_cannot_hold_is_told_all_the_same(served: Served) -> None:
    site, url = served
    with listening(url, kinds="result") as told:
        next(told)
        site.feed.write([replace(shed(0), window=replace(shed(0).window, file="\udcff.png"))])
        assert take(told, 1)[0].data["file"] == "\udcff.png"


def test_a_feed_forgets_what_it_must() -> None:
    feed = Feed(results=1_000, others=10)
    for start in range(0, 20_000, 250):
        feed.write([result(start + n) for n in range(250)])
    assert len(feed._results) == 1_000
    assert feed.forgotten(0, KINDS) == (19_000, 19_000)
    assert [told.number for told in feed.between(0, feed.last, KINDS, 3)] == [19_001, 19_002, 19_003]
    assert isinstance(feed._results[0], Told)
