"""Every view in real Chromium: in both themes and languages, for eyes, keyboards and screen readers, on a phone and a
wall, within the policy of the page and without a word to anybody else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from page_parts import PATIENCE_MS, VIEWS, Seen, chromium, everything, opened, until
from playwright.sync_api import Browser, Page, Route
from reviewed_line import served

pytestmark = pytest.mark.slow
WORDS = json.loads(Path("pipeline/app/web/page/i18n/en.json").read_text())
ALL = (*VIEWS, "wall/people")
SIZES = {"phone": (390, 844), "wall": (1920, 1080)}
_UNSAID = """() => {
    const found = [];
    const own = (node) => !node.closest("[translate=no], script, noscript, style");
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (/\\p{L}/u.test(node.data) && !node.data.includes("⟦") && own(node.parentElement)) found.push(node.data);
    }
    for (const name of ["aria-label", "title", "alt", "placeholder", "aria-valuetext"]) {
        for (const element of document.querySelectorAll(`[${name}]`)) {
            const text = element.getAttribute(name);
            if (/\\p{L}{2}/u.test(text) && !text.includes("⟦") && own(element)) found.push(`${name}: ${text}`);
        }
    }
    return found;
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server where there is something to see in every view."""
    with served(everything(tmp_path_factory.mktemp("page"))) as (client, _):
        end = time.monotonic() + 120
        while time.monotonic() < end and not (
            _some(client, "/api/events", "events") and _some(client, "/api/review", "items")
        ):
            time.sleep(0.5)
        yield str(client.base_url).rstrip("/")


def _some(client: httpx.Client, path: str, name: str) -> bool:
    answer = client.get(path)
    return answer.status_code == 200 and bool(answer.json()[name])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("view", ALL)
@pytest.mark.parametrize(("theme", "language"), [("dark", "en"), ("light", "zh")])
def test_a_view_serves_everybody(browser: Browser, url: str, view: str, theme: str, language: str) -> None:
    """axe-core finds nothing serious; nothing is wrong on the console; nobody else is asked for anything."""
    context = browser.new_context(color_scheme=theme, locale={"en": "en-GB", "zh": "zh-CN"}[language])  # type: ignore[arg-type]
    seen = Seen(context, url)
    page = context.new_page()
    opened(page, url, view)
    page.wait_for_timeout(1500)
    assert page.evaluate("document.documentElement.lang") == {"en": "en", "zh": "zh-CN"}[language]
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert page.locator("main h1").count() == 1
    assert _findings(page) == []
    assert seen.mistakes(page) == []
    context.close()


def _findings(page: Page) -> list[str]:
    said = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in said
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


def test_a_mistake_of_that_kind_would_be_found(browser: Browser, url: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    opened(page, url, "flow")
    page.evaluate("document.querySelector('#top button:nth-of-type(2)').removeAttribute('aria-label')")
    page.evaluate("document.querySelector('#top button:nth-of-type(2)').removeAttribute('title')")
    page.evaluate("document.querySelector('h1').style.color = '#777'")
    found = _findings(page)
    assert any("button-name" in one for one in found)
    context.close()


@pytest.mark.parametrize("view", ALL)
@pytest.mark.parametrize("size", SIZES)
def test_nothing_has_to_be_moved_sideways(browser: Browser, url: str, view: str, size: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=size == "phone")
    page = context.new_page()
    opened(page, url, view)
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.parametrize("view", [*ALL, "events/EVENT"])
def test_every_word_comes_from_the_language_s_own_file(browser: Browser, url: str, view: str) -> None:
    """In a language in which every text is its own key, no other text is left but data."""
    if view.endswith("EVENT"):
        view = f"events/{httpx.get(f'{url}/api/events').json()['events'][0]['event']}"
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.route("**/page/i18n/en.json", _keys)
    opened(page, url, view)
    page.wait_for_timeout(1500)
    assert page.evaluate(_UNSAID) == []
    assert page.title().startswith("⟦") or view.startswith("wall/")
    context.close()


def _keys(route: Route) -> None:
    route.fulfill(json={key: f"⟦{key}⟧" for key in WORDS})


def test_theme_and_language_are_remembered(browser: Browser, url: str) -> None:
    context = browser.new_context(color_scheme="dark", locale="en-GB")
    page = context.new_page()
    opened(page, url, "flow")
    page.get_by_role("button", name="Switch theme").click()
    page.get_by_role("button", name="中文").click()
    page.wait_for_selector("h1:has-text('流程')")
    page.reload()
    page.wait_for_selector("h1:has-text('流程')", timeout=PATIENCE_MS)
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(238, 240, 243)"
    context.close()


def test_a_keyboard_gets_everywhere(browser: Browser, url: str) -> None:
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    opened(page, url, "wall")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Events"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # and one sees where
    page.keyboard.press("Enter")
    until(page, "document.activeElement.tagName === 'H1' && document.activeElement.textContent === 'Events'")
    page.wait_for_selector(".card", timeout=PATIENCE_MS)
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".record")
    until(page, "document.activeElement.tagName === 'H2'")
    page.get_by_role("button", name="Close the record").focus()
    page.keyboard.press("Enter")
    until(page, "!document.querySelector('.record') && document.activeElement.matches('.card')")
    page.goto(f"{url}/#/wall")
    add = page.get_by_role("button", name="Add a stream")
    add.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog #adding-name", timeout=PATIENCE_MS)
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.evaluate("document.activeElement.textContent") == "Add a stream"
    context.close()
