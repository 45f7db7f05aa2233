"""What people do in the page, in real Chromium before a real pipeline: be the camera, look at what happened, decide,
add and pause and remove, sign in, and wait for a server that is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from page_parts import PATIENCE_MS, Seen, chromium, everything, opened, until
from playwright.sync_api import Browser, Page
from reviewed_line import served

from pipeline.app.config.document import read
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.wiring import prepare

pytestmark = pytest.mark.slow
CORNERS = {
    "left top": (220, 30, 30),
    "right top": (30, 200, 40),
    "left bottom": (40, 60, 220),
    "right bottom": (230, 230, 230),
}
_PIXELS = """([selector, places]) => {
    const video = document.querySelector(selector);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const pen = canvas.getContext("2d", {willReadFrequently: true});
    pen.drawImage(video, 0, 0);
    return places.map(([x, y]) => [...pen.getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3));
}"""

_STROKES = """
    window.strokes = [];
    const stroke = CanvasRenderingContext2D.prototype.strokeRect;
    CanvasRenderingContext2D.prototype.strokeRect = function (...box) {
        strokes.push(box);
        return stroke.apply(this, box);
    };
"""  # a box is on the screen for as long as its frame: one that was drawn is known, whenever we look


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("acts")
    web = {"listen": "127.0.0.1:0", "open": False, "kinds": ["webrtc", "rtsp", "pattern"]}
    with served(everything(folder, web=web)) as (client, _):
        yield str(client.base_url).rstrip("/"), folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


def people_between_corners(path: Path) -> None:
    """A film of people with a corner of each colour, as a fake camera of Chromium plays it."""
    with av.open("pipeline/app/demo/people.mp4") as film, av.open(str(path), "w", format="mjpeg") as camera:
        stream = camera.add_stream("mjpeg", rate=15)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        stream.options = {"q:v": "3"}
        for number, frame in enumerate(film.decode(video=0)):
            if number == 60:
                break
            pixels = frame.reformat(640, 480, "rgb24").to_ndarray()
            for place, colour in CORNERS.items():
                rows = slice(0, 64) if "top" in place else slice(-64, None)
                columns = slice(0, 64) if "left" in place else slice(-64, None)
                pixels[rows, columns] = colour
            camera.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        camera.mux(stream.encode(None))


def test_this_browser_is_the_camera(tmp_path: Path) -> None:
    """Its known picture arrives as a source, is seen on the wall, and has boxes on it; and when it stops it is gone."""
    bars = {"sources": {"bars": {"kind": "pattern", "max_fps": 1}}, "cascade": "people", "cascades": {}}
    with served(everything(tmp_path, **bars)) as (client, _):
        _publish(str(client.base_url).rstrip("/"), tmp_path)
        assert [one["name"] for one in client.get("/api/streams").json()["streams"]] == ["bars"]


def _publish(url: str, tmp_path: Path) -> None:
    film = tmp_path / "camera.mjpeg"
    people_between_corners(film)
    with chromium(f"--use-file-for-fake-video-capture={film}") as browser:
        context = browser.new_context(locale="en-GB", permissions=["camera"])
        context.set_default_timeout(PATIENCE_MS)
        seen = Seen(context, url, allowed=("picture.jpg", "/whep/booth/"))  # not there yet, not there any more
        context.add_init_script(_STROKES)
        page = context.new_page()
        opened(page, url, "wall")
        page.get_by_role("button", name="Use this browser's camera").click()
        page.get_by_label("Name of the stream").fill("booth")
        page.get_by_role("button", name="Start").click()
        page.wait_for_url("**/#/wall/booth")
        page.wait_for_selector(".one .picture[data-shows=webrtc]")
        until(page, "strokes.length > 0")
        pixels = page.evaluate(_PIXELS, [".one video", [[0.04, 0.04], [0.96, 0.04], [0.04, 0.96], [0.96, 0.96]]])
        for there, colour in zip(pixels, CORNERS.values(), strict=True):
            assert np.abs(np.subtract(there, colour)).max() < 60, pixels
        page.get_by_role("link", name="Wall").first.click()
        page.wait_for_selector(".tile[data-stream=booth] .picture[data-shows=webrtc]")
        assert page.locator(".tile[data-stream=booth] .pill").inner_text() == "live"
        page.get_by_role("button", name="Stop").click()
        page.wait_for_selector(".tile[data-stream=booth]", state="detached")
        assert seen.mistakes(page) == []
        context.close()


def test_an_event_shows_up_while_one_looks_and_tells_who_decided(running: tuple[str, Path], page: Page) -> None:
    url, _ = running
    opened(page, url, "events")
    before = page.locator(".card").count()
    until(page, "(n) => document.querySelectorAll('.card').length > n", before)  # nobody asked again
    assert page.locator("rect.event").count() >= before
    until(page, "document.querySelectorAll('.card img').length > 0")
    page.locator(".lanes rect.event").first.click()
    page.wait_for_selector(".record")
    said = page.locator(".record").inner_text()
    event = page.evaluate("decodeURIComponent(location.hash.slice('#/events/'.length))")
    decision = httpx.get(f"{url}/api/events/{event}").json()["decision"]
    assert decision["stage"] in said and decision["generation"] in said
    person = next(one for one in httpx.get(f"{url}/api/events").json()["events"] if one["label"] == "person")
    page.goto(f"{url}/#/events/{person['event']}")
    page.get_by_text("Found by").wait_for()  # the heavy stage looks for something else: the word is the cheap one's
    page.goto(f"{url}/#/events")
    page.locator(".filters select").select_option("line")
    until(page, "[...document.querySelectorAll('.card')].every((one) => one.dataset.event.startsWith('line/'))")


def test_what_is_decided_becomes_a_data_set(running: tuple[str, Path], page: Page) -> None:
    """By keys alone: the first is confirmed, the second gets a box more, the third nobody can tell."""
    url, folder = running
    opened(page, url, "review")
    page.keyboard.press("1")
    until(page, "document.querySelector('#said').textContent === 'Confirmed'")
    shown = page.locator(".box").count()
    page.keyboard.press("2")
    page.keyboard.press("b")
    until(page, "(n) => document.querySelectorAll('.box').length === n + 1", shown)
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    page.keyboard.press("2")
    until(page, "document.querySelector('#said').textContent === 'Corrected'")
    page.keyboard.press("3")
    until(page, "document.querySelector('#said').textContent === 'Put down as unsure'")
    said = httpx.get(f"{url}/api/review?state=done").json()
    assert said["counts"]["decisions"] == {"confirm": 1, "correct": 1, "unsure": 1}
    (made,) = said["datasets"]
    assert made["rows"] == 2
    assert page.get_by_text(made["train"]).is_visible()
    corrected = next(one for one in said["items"] if one["decision"]["decision"] == "correct")
    assert len(corrected["decision"]["detections"]) == shown + 1
    wide, high = corrected["width"], corrected["height"]
    expected = [wide * 0.4 + 4, high * 0.4 + 4, wide * 0.6 + 8, high * 0.6 + 8]
    assert corrected["decision"]["detections"][-1]["box"] == pytest.approx(expected, abs=0.2)
    rows = [json.loads(file.read_text()) for file in (folder / "doubts" / "reviewed").glob("*.json")]
    assert any(len(one.get("images", [])) == 2 for one in rows)


def test_a_box_is_drawn_by_hand(running: tuple[str, Path], page: Page) -> None:
    url, _ = running
    opened(page, url, "review")
    until(page, "document.querySelector('.sheet img').naturalWidth > 0")
    shown = page.locator(".box").count()
    page.get_by_role("button", name="Correct").click()
    place = page.locator(".sheet img").bounding_box()
    assert place is not None
    middle, upper = place["x"] + place["width"] / 2, place["y"] + place["height"] * 0.04
    page.mouse.move(middle, upper)
    page.mouse.down()
    page.mouse.move(middle + 20, upper + 10)
    page.mouse.move(middle + 60, upper + 12)
    page.mouse.up()
    assert page.locator(".box").count() == shown + 1
    page.keyboard.press("Delete")
    assert page.locator(".box").count() == shown
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Correct").wait_for()


def test_streams_are_added_paused_resumed_and_removed(running: tuple[str, Path], page: Page) -> None:
    url, _ = running
    opened(page, url, "wall")
    page.get_by_role("button", name="Add a stream").click()
    page.get_by_label("Name", exact=True).fill("bars")
    page.get_by_label("Kind").select_option("pattern")
    page.get_by_text("more settings").click()
    page.get_by_label("max fps").fill("-3")
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_selector("[aria-invalid=true]")  # beside its field, in the server's words
    page.get_by_label("max fps").fill("5")
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_selector("dialog", state="detached")
    tile = page.locator(".tile[data-stream=bars]")
    tile.get_by_text("live").wait_for()
    tile.get_by_role("button", name="Pause bars").click()
    tile.get_by_text("paused").wait_for()
    tile.get_by_role("button", name="Resume bars").click()
    tile.get_by_text("live").wait_for()
    tile.get_by_role("button", name="Remove bars").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    tile.wait_for(state="detached")


def test_a_film_that_has_ended_begins_anew(running: tuple[str, Path], page: Page) -> None:
    url, _ = running
    opened(page, url, "wall")
    film = {"name": "short", "kind": "pattern", "frames": 3, "cascade": "people"}
    assert httpx.post(f"{url}/api/streams", json=film).status_code == 201
    tile = page.locator(".tile[data-stream=short]")
    tile.get_by_text("ended").wait_for()
    tile.get_by_role("button", name="Pause short").wait_for(state="detached")
    tile.get_by_role("button", name="Resume short").click()
    again = "fetch('/api/streams/short').then((one) => one.json()).then((one) => one.received === 6)"
    until(page, again)
    httpx.delete(f"{url}/api/streams/short")


def test_how_to_audit_can_be_copied(running: tuple[str, Path], page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    url, folder = running
    opened(page, url, "promise")
    told = page.locator("pre", has_text="AUDIT_KEY").first
    told.wait_for()
    monkeypatch.setenv("AUDIT_KEY", "a key of this test")
    config = folder / "audited.yaml"
    config.write_text(f"sources: {{bars: {{kind: pattern}}}}\ncascade: people\n{told.inner_text()}\n")
    plan, _ = prepare(document := read(config), Mistakes(document))
    assert len(plan.sources) == 1


def test_another_threshold_is_tried_without_changing_anything(running: tuple[str, Path], page: Page) -> None:
    url, _ = running
    opened(page, url, "promise")
    slider = page.get_by_label("Threshold", exact=True)
    slider.wait_for(timeout=3 * PATIENCE_MS)  # the scores are replayed when the pipeline leaves time for it
    before = slider.get_attribute("aria-valuetext")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    now = slider.get_attribute("aria-valuetext") or ""
    assert now != before and page.locator(".slider output").inner_text() == now.split(";")[0]
    page.get_by_role("button", name="Back to what runs").click()
    assert slider.get_attribute("aria-valuetext") == before


def test_who_may_look_sees_no_buttons_and_a_wrong_token_is_told(tmp_path: Path, page: Page) -> None:
    tokens = {"operator": "operator-0123456789", "viewer": "viewer-0123456789"}
    web: dict[str, Any] = {"listen": "127.0.0.1:0", "open": False, **tokens}
    with served(everything(tmp_path, web=web)) as (client, _):
        url = str(client.base_url).rstrip("/")
        page.goto(url)
        page.get_by_label("Token").fill("something else altogether")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").get_by_text("neither the operator").wait_for()
        page.get_by_label("Token").fill(tokens["viewer"])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector(".tile")
        assert page.get_by_role("button", name="Add a stream").count() == 0
        assert page.get_by_role("button", name="Pause").count() == 0
        assert page.get_by_text("You may look").is_visible()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").fill(tokens["operator"])
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Add a stream").wait_for()
        assert tokens["operator"] not in page.url


def test_a_server_that_goes_is_told_and_found_again(tmp_path: Path, page: Page) -> None:
    line = {
        "sources": {"bars": {"kind": "pattern", "max_fps": 2}},
        "cascades": {},
        "cascade": "people",
    }
    with served(everything(tmp_path / "one", **line)) as (client, _):
        url = str(client.base_url).rstrip("/")
        opened(page, url, "wall")
        assert page.locator(".notice.bad").count() == 0
    page.wait_for_selector(".notice.bad")
    port = url.rpartition(":")[2]
    again = everything(tmp_path / "two", **line)
    again.data["web"]["listen"] = f"127.0.0.1:{port}"
    with served(again):
        page.wait_for_selector(".notice.bad", state="detached")
        page.wait_for_selector(".tile .good")
