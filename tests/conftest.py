"""House rules of the tests: nothing is skipped, and nothing touches the user's own files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

_skipped: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Compiled models and measurements are shared by all tests of a run, its workers, and the processes they start."""
    if "THRESHER_CACHE" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="thresher-tests-")
        os.environ["THRESHER_CACHE"] = folder.name
        config.add_cleanup(folder.cleanup)
        config.add_cleanup(lambda: os.environ.pop("THRESHER_CACHE"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended. What it could not even collect, it alone knows."""
    _skipped.extend(set(getattr(node, "workeroutput", {}).get("skipped", ())).difference(_skipped))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A test that did not run proves nothing: a skip or an expected failure fails the run."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["skipped"] = _skipped
    elif _skipped and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("skipped, and therefore failed", red=True)
        for node in _skipped:
            terminalreporter.line(node)


@pytest.fixture(scope="session", autouse=True)
def thresher_cache() -> Path:
    """Where compiled models and measurements are kept in this run."""
    return Path(os.environ["THRESHER_CACHE"])


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def people_clip(project: Path) -> Path:
    """20 s of people walking, 768×576 at 10 FPS."""
    return project / "pipeline" / "app" / "demo" / "people.mp4"
