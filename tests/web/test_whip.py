"""Publishing by WHIP: a real publisher, over HTTP, to the real server of a pipeline that runs."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from whip_publisher import RED, Pictures, Publisher, Tone
from whip_server import Served, hollow_offer, serving, soon

from sources.webrtc import WebRtc
from sources.webrtc_ice import within_reach

OPERATOR, VIEWER, OWN, CLOSED = "operator" * 3, "viewer" * 4, "lobby-token" * 2, "no-replace" * 2
CONFIG = f"""
sources:
  lobby: {{kind: webrtc, token: {OWN}, sound: {{cascade: words}}, media_timeout_s: 3, cascade: people}}
  hall:
    kind: webrtc
    token: {CLOSED}
    replace: false
    cascade: people
    ice_servers: ["stun:127.0.0.1:9", {{url: "turn:127.0.0.1:9", username: me, credential: s3cret}}]
  clip: {{kind: pattern, cascade: people}}
cascades: {{people: {{base: people}}, words: {{base: words}}}}
web: {{operator: {OPERATOR}, viewer: {VIEWER}, changes_per_s: 1000}}
"""
SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("whip"), CONFIG) as there:
        soon(lambda: "waits for a publisher" in there.stream().detail)
        yield there


@pytest.fixture(scope="module")
def offer() -> str:
    return hollow_offer()


def post(served: Served, body: str | bytes, name: str = "lobby", **headers: str) -> httpx.Response:
    return served.http.post(served.whip(name), content=body, headers=SDP | bearer(OPERATOR) | headers)


# What is published arrives.


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_pictures_and_sound_are_judged(served: Served, codec: str) -> None:
    before, heard = len(served.judged()), len(served.judged("lobby.sound"))
    with Publisher(served.whip(), token=OWN, codec=codec, tone=Tone()) as publisher:
        soon(lambda: len(served.judged()) >= before + 8 and len(served.judged("lobby.sound")) >= heard + 5)
        assert served.stream().state == "live"
        assert publisher.response.headers["location"].startswith("/whip/lobby/")
        publisher.pictures.size = (640, 480)
        soon(lambda: served.judged()[-1].size == (640, 480))
    sizes = {one.size for one in served.judged()[before:]}
    assert sizes == {(320, 240), (640, 480)}
    for one in served.judged()[before:]:
        assert np.abs(np.subtract(one.colour, RED)).max() < 16
    times = [one.result.window.start_ns for one in served.judged()[before:]]
    assert len({one.result.window.epoch for one in served.judged()[before:]}) == 1 and times == sorted(times)
    soon(lambda: "waits for a publisher at /whip/lobby" in served.stream().detail)
    assert served.stream().state == "connecting"


@pytest.mark.slow
def test_a_publisher_that_is_killed_is_noticed(served: Served) -> None:
    before = len(served.judged())
    command = [sys.executable, str(Path(__file__).parent / "whip_publisher.py"), served.whip(), "--token", OWN]
    with subprocess.Popen(command) as process:
        soon(lambda: len(served.judged()) > before + 3)
        process.send_signal(signal.SIGKILL)
    killed_s = time.monotonic()
    soon(lambda: served.stream().state == "connecting", 10)
    assert 2.5 < time.monotonic() - killed_s < 10
    soon(lambda: "waits for a publisher" in served.stream().detail)
    with Publisher(served.whip(), token=OWN):
        count = len(served.judged())
        soon(lambda: len(served.judged()) > count)


@pytest.mark.slow
def test_one_who_sends_no_more_pictures_is_gone_too(served: Served) -> None:
    with Publisher(served.whip(), token=OWN, tone=Tone()) as publisher:
        before = len(served.judged())
        soon(lambda: len(served.judged()) > before + 3)
        publisher.pictures.paused = True
        soon(lambda: served.stream().state == "connecting", 10)
        publisher.pictures.paused = False


def test_a_newcomer_takes_over(served: Served) -> None:
    with Publisher(served.whip(), token=OWN, pictures=Pictures(colour=(20, 30, 200))) as first:
        before = len(served.judged())
        soon(lambda: len(served.judged()) > before + 3)
        with Publisher(served.whip(), token=OWN):
            soon(lambda: served.judged()[-1].colour[0] > 150)
            soon(lambda: first.connection.connectionState == "closed")
            gone = served.http.delete(first.session, headers=bearer(OWN))
            assert gone.status_code == 404
            count = len(served.judged())
            soon(lambda: len(served.judged()) > count + 3)


def test_an_offer_behind_which_nobody_is_ends_no_stream(served: Served, offer: str) -> None:
    earlier = {one.result.window.epoch for one in served.judged()}  # whose last pictures may yet be on their way
    with Publisher(served.whip(), token=OWN):
        soon(lambda: served.judged() and served.judged()[-1].result.window.epoch not in earlier)
        epoch = served.judged()[-1].result.window.epoch
        for _ in range(3):
            assert post(served, offer).status_code == 201
        count = len(served.judged())
        soon(lambda: len(served.judged()) > count + 8)
        assert served.judged()[-1].result.window.epoch == epoch


def test_where_nobody_is_replaced_the_newcomer_is_refused(served: Served) -> None:
    with Publisher(served.whip("hall"), token=CLOSED) as first:
        before = len(served.judged("hall"))
        soon(lambda: len(served.judged("hall")) > before)
        with pytest.raises(httpx.HTTPStatusError) as refused:
            Publisher(served.whip("hall"), token=CLOSED)
        assert refused.value.response.status_code == 409 and "publishes here already" in refused.value.response.text
        assert served.http.delete(first.session, headers=bearer(CLOSED)).status_code == 200
        soon(lambda: first.connection.connectionState == "closed")
        soon(lambda: served.stream("hall").state == "connecting")
    with Publisher(served.whip("hall"), token=CLOSED) as second:
        links = second.response.headers.get_list("link")
        assert links == [
            '<stun:127.0.0.1:9>; rel="ice-server"',
            '<turn:127.0.0.1:9>; rel="ice-server"; username="me"; credential="s3cret"; credential-type="password"',
        ]


# What the protocol says.


def test_the_answer_names_its_session(served: Served, offer: str) -> None:
    answer = post(served, offer)
    assert answer.status_code == 201 and answer.headers["content-type"].startswith("application/sdp")
    assert answer.text.startswith("v=0") and "a=candidate:" in answer.text
    place, etag = answer.headers["location"], answer.headers["etag"]
    assert len(place.rpartition("/")[2]) >= 24 and etag.startswith('"')
    session = served.url + place
    candidate = "a=ice-ufrag:abcd\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.9 9 typ host\r\n"
    said = FRAGMENT | bearer(OPERATOR)
    assert served.http.patch(session, content=candidate, headers=said).status_code == 428
    assert served.http.patch(session, content=candidate, headers={**said, "If-Match": '"other"'}).status_code == 412
    assert served.http.patch(session, content=candidate, headers={**said, "If-Match": etag}).status_code == 204
    assert served.http.patch(session, content="nothing", headers={**said, "If-Match": etag}).status_code == 400
    assert served.http.patch(session, content=candidate, headers={**said, **SDP, "If-Match": etag}).status_code == 415
    again = served.http.patch(session, content="a=ice-ufrag:efgh\r\na=ice-pwd:x", headers={**said, "If-Match": "*"})
    assert again.status_code == 422 and "new connection" in again.json()["detail"]
    many = "".join(f"a=candidate:{n} 1 udp 1 192.0.2.9 {n + 1} typ host\r\n" for n in range(1000))
    assert served.http.patch(session, content=many, headers={**said, "If-Match": etag}).status_code == 422
    assert (
        served.http.patch(session, content="a=end-of-candidates", headers={**said, "If-Match": etag}).status_code == 204
    )
    assert served.http.patch(session, content=candidate, headers={**said, "If-Match": etag}).status_code == 204
    for method in ("GET", "POST", "PUT"):
        assert served.http.request(method, session, headers=said).status_code == 405
    assert served.http.delete(session).status_code == 401
    assert served.http.delete(session, headers={**bearer(OPERATOR), "If-Match": '"other"'}).status_code == 200
    assert served.http.delete(session, headers=bearer(OPERATOR)).status_code == 404
    assert served.http.patch(session, content=candidate, headers={**said, "If-Match": etag}).status_code == 404


def test_what_may_be_posted_is_told(served: Served) -> None:
    asked = served.http.options(served.whip())
    assert asked.status_code == 200 and asked.headers["accept-post"] == "application/sdp"
    assert "access-control-allow-origin" not in asked.headers
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        assert served.http.request(method, served.whip(), headers=bearer(OPERATOR)).status_code == 405


def test_who_may_publish(served: Served, offer: str) -> None:
    def status(name: str, headers: dict[str, str]) -> int:
        return served.http.post(served.whip(name), content=offer, headers=SDP | headers).status_code

    assert status("lobby", {}) == status("nowhere", {}) == status("clip", {}) == 401
    assert status("lobby", bearer("wrong" * 5)) == status("lobby", bearer(CLOSED)) == 401
    assert status("lobby", bearer(VIEWER)) == 403
    assert status("lobby", bearer(OWN)) == status("lobby", bearer(OPERATOR)) == 201
    assert status("nowhere", bearer(OPERATOR)) == status("clip", bearer(OPERATOR)) == 404
    assert {status(odd, bearer(OPERATOR)) for odd in ("..%2Flobby", "%00", "%2e%2e", "lobby%0a")} <= {400, 404}
    unknown = post(served, offer, "nowhere").json()["detail"]
    assert "hall, lobby" in unknown


def test_streams_that_are_published_into_come_pause_and_go(served: Served, offer: str) -> None:
    def publishes() -> int:
        return post(served, offer, "dock").status_code

    said = bearer(OPERATOR)
    assert publishes() == 404
    made = served.http.post(
        f"{served.url}/api/streams", json={"name": "dock", "type": "webrtc", "cascade": "people"}, headers=said
    )
    assert made.status_code == 201 and made.json()["whip"] == "/whip/dock"
    with Publisher(served.whip("dock"), token=OPERATOR) as publisher:
        soon(lambda: len(served.judged("dock")) > 3)
        there = f"{served.url}/api/streams/dock"
        assert served.http.patch(there, json={"paused": True}, headers=said).status_code == 200
        soon(lambda: publisher.connection.connectionState == "closed")
        paused = post(served, offer, "dock")
        assert paused.status_code == 503 and "paused" in paused.json()["detail"] and paused.headers["retry-after"]
    assert served.http.patch(there, json={"paused": False}, headers=said).status_code == 200
    with Publisher(served.whip("dock"), token=OPERATOR) as publisher:
        before = len(served.judged("dock"))
        soon(lambda: len(served.judged("dock")) > before + 3)
        assert served.http.delete(there, headers=said).status_code == 204
        soon(lambda: publisher.connection.connectionState == "closed")
    assert publishes() == 404


# What cannot be taken.


def without(text: str, start: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(start))


def test_what_is_wrong_is_said(served: Served, offer: str) -> None:
    video, between, audio = offer.partition("m=audio")
    audio = between + audio
    head = video.partition("m=video")[0]
    cases: list[tuple[str | bytes, int, str]] = [
        ("", 400, "no SDP offer"),
        ("hello", 400, "no SDP offer"),
        (b"\xff\xfe\x00", 400, "UTF-8"),
        ("v=0\nm=video\n", 400, "no SDP offer"),
        (offer.replace("a=rtpmap:96 VP8/90000", "a=rtpmap:x"), 400, "no SDP offer"),
        (offer.replace("a=fingerprint:sha-256", "a=fingerprint:"), 400, "no SDP offer"),
        (head + audio, 422, "no video"),
        (head, 422, "no video"),
        (offer.replace("VP8/90000", "AV1/90000"), 422, "the offer has AV1"),
        (offer.replace("opus/48000/2", "speex/16000"), 422, "the offer has speex"),
        (offer.replace("sendonly", "recvonly"), 422, "recvonly"),
        (offer + video.split("t=0 0\n")[1].partition("\n")[2], 422, "2 tracks of picture"),
        (offer + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\n", 422, "m=application"),
        (without(offer, "a=ice-pwd"), 400, "a=ice-pwd"),
        (without(offer, "a=fingerprint"), 400, "always encrypted"),
        (without(offer, "a=setup"), 400, "a=setup"),
        (without(offer, "a=rtcp-mux"), 422, "rtcp-mux"),
        (without(offer, "a=group"), 422, "BUNDLE"),
        (offer + "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\n" * 1000, 422, "1000 ICE candidates"),
        (offer + "m=video 9 UDP/TLS/RTP/SAVPF 96\n" * 20, 422, "at most 2000 lines, and 8 media"),
        (offer + "a=x\n" * 3000, 422, "at most 2000 lines"),
        (offer + "a=" + "x" * 100_000, 413, "6"),
    ]
    before = served.stream()
    for body, status, detail in cases:
        answer = post(served, body)
        assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), (detail, answer.text)
    assert post(served, offer, **{"Content-Type": "text/plain"}).status_code == 415
    assert served.stream().connects == before.connects and served.running.healthy


def test_a_large_body_is_read_no_further_than_it_may_be(served: Served) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(1600):
            yield bytes(1 << 16)

    try:
        answer = served.http.post(served.whip(), content=pieces(), headers=SDP | bearer(OPERATOR))
        assert answer.status_code == 413
    except httpx.WriteError:  # it hung up before the rest was sent
        pass
    assert served.running.healthy


def test_hosts_that_nobody_may_reach_are_not_tried(served: Served, offer: str) -> None:
    odd = "".join(
        f"a=candidate:1 1 {protocol} 1 {host} {port} typ host\n"
        for protocol, host, port in (
            ("udp", "169.254.169.254", 80),
            ("udp", "example.org", 80),
            ("udp", "192.0.2.1", 99999),
            ("tcp", "192.0.2.1", 9),
            ("udp", "0x7f.1", 9),
            ("udp", "1f2e3d4c-0000-1111-2222-333344445555.local", 9),
        )
    )
    assert post(served, offer + odd + "a=candidate:broken\n").status_code == 201


def test_nor_are_ice_servers_that_nobody_may_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name leads where its owner likes: it is asked for once, and what was checked is what is asked."""
    there = {"good.test": "192.0.2.7", "evil.test": "169.254.169.254"}

    def found(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, 0, 0, "", (there.get(host, host), port))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    login = {"username": "me", "credential": "s3cret"}
    urls = ["turn:good.test:99?transport=tcp", "turn:evil.test", "turns:evil.test", "turns:good.test"]
    plan = WebRtc.model_validate({"ice_servers": ["stun:good.test", *({"url": one, **login} for one in urls)]})
    kept = asyncio.run(within_reach(plan.ice_servers))
    assert [one.urls for one in kept] == ["stun:192.0.2.7:3478", "turn:192.0.2.7:99?transport=tcp", "turns:good.test"]
    assert kept[1].credential == "s3cret"


def test_hidden_hosts_are_waited_for_together(served: Served, offer: str) -> None:
    names = "".join(f"a=candidate:1 1 udp 1 {n:08x}-0000-1111-2222-333344445555.local 9 typ host\n" for n in range(8))
    begun = time.monotonic()
    assert post(served, offer + names).status_code == 201
    assert time.monotonic() - begun < 5
