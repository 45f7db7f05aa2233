"""House rules of the tests: nothing is skipped, and nothing touches the user's own files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_skipped: list[str] = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's wrapper protocol
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A test that did not run proves nothing: a skip or an expected failure fails the run."""
    if _skipped and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("skipped, and therefore failed", red=True)
        for node in _skipped:
            terminalreporter.line(node)


@pytest.fixture(scope="session", autouse=True)
def thresher_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Compiled models and measurements are shared by all tests of a run and by the processes they start."""
    given = os.environ.get("THRESHER_CACHE")
    folder = Path(given) if given else tmp_path_factory.mktemp("cache")
    os.environ["THRESHER_CACHE"] = str(folder)
    yield folder
    if given is None:
        del os.environ["THRESHER_CACHE"]


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def people_clip(project: Path) -> Path:
    """20 s of people walking, 768×576 at 10 FPS."""
    return project / "pipeline" / "app" / "demo" / "people.mp4"
