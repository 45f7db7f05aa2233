"""Who gets in, and as what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pipeline.app.web import static
from pipeline.app.web.allowance import Allowance, neighbour
from pipeline.app.web.interface import OPEN
from pipeline.app.web.sessions import Sessions
from tests.web.serving import GUARDED, OPERATOR, VIEWER, Served, bearer, serving

PAGE = {route.path for route in static.routes(Path(static.__file__).with_name("page"), "/page/")}
"""The page's own files are the same for everybody."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    with serving(GUARDED) as served:
        yield served


@pytest.fixture(autouse=True)
def _no_earlier_guesses(guarded: Served) -> None:
    guarded.site.access.__init__()  # type: ignore[misc]  # as if it had just begun


def test_every_route_has_a_role(guarded: Served) -> None:
    """Asked of each route that there is: a new one that lets somebody in fails here."""
    asked = 0
    for context in iter_route_contexts(guarded.app.routes):
        path = context.path or ""
        if path in OPEN or path in PAGE:
            continue
        url = guarded.url + re.sub(r"{[^}]*}", "x", path)
        if not context.methods:  # a WebSocket
            with pytest.raises(InvalidStatus) as refused:
                connect(url.replace("http", "ws"))
            assert refused.value.response.status_code == 401, f"{path} lets everybody in"
            asked += 1
        for method in (context.methods or set()) - {"OPTIONS"}:  # what may be sent there, the same for everybody
            assert httpx.request(method, url).status_code == 401, f"{method} {path} lets everybody in"
            asked += 1
            changes = method not in {"GET", "HEAD"} and not path.startswith("/whep/")  # to watch is to look
            if changes:
                looking = httpx.request(method, url, headers=bearer(VIEWER))
                assert looking.status_code == 403, f"{method} {path} lets a viewer change something"
    assert asked > 1


def test_the_page_itself_is_for_everybody_and_nothing_else_is(guarded: Served) -> None:
    files = {file.name for file in Path(static.__file__).with_name("page").rglob("*")}
    assert {path.rpartition("/")[2] for path in PAGE - {"/"}} <= files


@pytest.mark.parametrize("path", ["/api/snapshot", "/openapi.json"])
def test_a_token_is_needed_and_either_will_do_to_look(guarded: Served, path: str) -> None:
    absent = httpx.get(guarded.url + path)
    assert absent.status_code == 401 and "Bearer" in absent.headers["www-authenticate"]
    assert "say who you are" in absent.json()["detail"]
    assert httpx.get(guarded.url + path, headers=bearer("wrong" * 5)).status_code == 401
    assert httpx.get(guarded.url + path, headers={"Authorization": "Basic eDp5"}).status_code == 401
    for token in (OPERATOR, VIEWER):
        assert httpx.get(guarded.url + path, headers=bearer(token)).status_code == 200
    assert httpx.get(guarded.url + f"{path}?token={OPERATOR}").status_code == 401  # would be logged on the way


@pytest.mark.parametrize("path", ["/api/health", "/", "/api/session"])
def test_what_is_open_to_all(guarded: Served, path: str) -> None:
    assert httpx.get(guarded.url + path).status_code == 200


def test_a_browser_trades_its_token_for_a_cookie(guarded: Served) -> None:
    with httpx.Client(base_url=guarded.url) as browser:
        assert browser.get("/api/session").json() == {"role": None, "needed": True}
        answer = browser.post("/api/session", json={"token": VIEWER})
        assert answer.json() == {"role": "viewer", "needed": True}
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie and "Max-Age=" in cookie
        assert VIEWER not in cookie
        assert browser.get("/api/snapshot").status_code == 200
        assert browser.get("/api/session").json()["role"] == "viewer"
        kept = dict(browser.cookies)
        assert browser.delete("/api/session").status_code == 204
        assert not browser.cookies
        assert browser.get("/api/snapshot").status_code == 401
        assert httpx.get(guarded.url + "/api/snapshot", cookies=kept).status_code == 401  # nor for who copied it


def test_a_cookie_of_somebody_elses_making_opens_nothing(guarded: Served) -> None:
    for value in ("x", OPERATOR, "a" * 43):
        asked = httpx.get(guarded.url + "/api/snapshot", headers={"Cookie": f"thresher-{guarded.port}={value}"})
        assert asked.status_code == 401


def test_who_guesses_is_made_to_wait_and_does_not_learn_what_was_right(guarded: Served) -> None:
    for _ in range(10):
        assert httpx.get(guarded.url + "/api/snapshot", headers=bearer("wrong" * 5)).status_code == 401
    for token in ("wrong" * 5, OPERATOR):
        refused = httpx.get(guarded.url + "/api/snapshot", headers=bearer(token))
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 11
    assert httpx.post(guarded.url + "/api/session", json={"token": OPERATOR}).status_code == 429
    assert httpx.get(guarded.url + "/api/snapshot").status_code == 401  # whoever says nothing guesses nothing


@pytest.mark.parametrize("body", [{}, {"token": ""}, {"token": 7}, {"token": "x" * 600}])
def test_a_login_that_is_none(guarded: Served, body: object) -> None:
    refused = httpx.post(guarded.url + "/api/session", json=body)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["place"] == "token"
    assert "x" * 30 not in refused.text


def test_half_a_sign_is_a_wrong_token(guarded: Served) -> None:
    said = httpx.post(
        guarded.url + "/api/session", content=b'{"token": "\\ud800"}', headers={"Content-Type": "application/json"}
    )
    assert said.status_code == 401


def test_without_tokens_whoever_is_here_may_do_everything() -> None:
    with serving() as served, httpx.Client(base_url=served.url) as browser:
        assert browser.get("/api/session").json() == {"role": "operator", "needed": False}
        answer = browser.post("/api/session", json={"token": "whatever"})
        assert answer.json() == {"role": "operator", "needed": False} and "set-cookie" not in answer.headers
        assert browser.get("/api/snapshot").status_code == 200


def test_sessions_end_and_are_bounded() -> None:
    now = [0.0]
    sessions: Sessions[str] = Sessions(clock=lambda: now[0])
    used = sessions.begin("viewer")
    idle = sessions.begin("viewer")
    for _ in range(60):
        now[0] += 11 * 3600
        assert sessions.role(used) == "viewer"
    assert sessions.role(idle) is None
    for _ in range(6):
        now[0] += 11 * 3600
        sessions.role(used)
    assert sessions.role(used) is None  # thirty days, however busy
    first, *_ = [sessions.begin("viewer") for _ in range(257)]
    assert sessions.role(first) is None
    assert len(sessions._open) == 256


def test_an_allowance_fills_again_and_forgets_the_silent() -> None:
    now = [0.0]
    allowance = Allowance(3, 0.5, clock=lambda: now[0])
    assert [allowance.take("a") for _ in range(4)] == [0, 0, 0, 2]
    assert allowance.take("b") == 0
    now[0] += 2
    assert allowance.take("a") == 0 and allowance.take("a") == 2
    for number in range(10_000):
        allowance.take(f"x{number}")
    assert len(allowance._left) == 4096


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        (None, ""),
    ],
)
def test_one_address(address: str | None, counts_as: str) -> None:
    assert neighbour(address) == counts_as
