"""The short form of the fuzzing, and every input that was ever found to be too much for something."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import running
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).parent / "found"
_PARTS = [(name, kept) for name in TARGETS for kept in sorted((FOUND / name).glob("*"))]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_documented_errors(name: str) -> None:
    report = running.run(name, TARGETS[name].short)
    assert not report.finds, "\n".join(f"{find.how} at {find.number}: {find.what}" for find in report.finds)
    assert report.inputs == TARGETS[name].short


@pytest.mark.parametrize(("name", "kept"), _PARTS, ids=[f"{name}-{kept.name}" for name, kept in _PARTS])
def test_what_was_found_once(name: str, kept: Path) -> None:
    if not TARGETS[name].alone:
        _again(name, kept)
        return
    child = multiprocessing.get_context("spawn").Process(target=_again, args=(name, kept))
    child.start()
    child.join(60)
    assert child.exitcode == 0


def _again(name: str, kept: Path) -> None:
    TARGETS[name](kept.read_bytes())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = [name for name, target in TARGETS.items() if target.documents]


@pytest.mark.slow
@pytest.mark.parametrize("name", DOCUMENTS)
def test_any_document(name: str) -> None:
    """What no mutation of something well-formed comes to."""
    import json

    @settings(max_examples=200, deadline=None)
    @given(json_values)
    def check(value: object) -> None:
        TARGETS[name](json.dumps(value).encode("utf-8", "surrogatepass"))

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "pieces", "irc", "messages", "letters", "set", "reference"])
def test_any_text(name: str) -> None:
    @settings(max_examples=500, deadline=None)
    @given(st.text(max_size=300) | st.binary(max_size=300))
    def check(text: str | bytes) -> None:
        TARGETS[name](text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))

    check()


# The watchdog itself.


def _bad(data: bytes) -> None:
    if data == b"hang":
        time.sleep(60)
    if data == b"crash":
        import ctypes

        ctypes.string_at(0)
    if data == b"error":
        raise KeyError("not documented")


_bad_target = Target("self-test", _bad, lambda: [b"fine", b"error", b"crash", b"fine", b"hang", b"fine"])


@pytest.mark.slow
def test_a_crash_a_hang_and_an_error_are_found_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "self-test", _bad_target)
    monkeypatch.setenv("FUZZ_EXTRA", "tests.fuzz.test_fuzz:_bad_target")
    report = running.run("self-test", 6, hang_s=2.0)
    found = {(find.how, find.data) for find in report.finds}
    assert found == {("error", b"error"), ("crash", b"crash"), ("hang", b"hang")}
    assert report.inputs == 6
