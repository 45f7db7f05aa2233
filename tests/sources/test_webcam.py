"""Cameras of this machine, as far as they can be tested without one."""

from __future__ import annotations

import sys

import pytest

from pipeline.core.errors import InputError, SourceLost
from sources.webcam import Webcam

pytestmark = pytest.mark.usefixtures("_linux")


@pytest.fixture
def _linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.parametrize("device", [97, "97", "/dev/video97", "/dev/v4l/by-id/usb-Cam_1.0:x-index0"])
def test_one_that_is_not_there_is_waited_for(device: int | str) -> None:
    plan = Webcam(device=device, width=640, height=480, fps=30, mjpeg=True)
    assert plan.live and plan.paced
    plan.check()
    with pytest.raises(SourceLost, match="No such file"):
        plan.open("cam")


def test_what_is_no_camera() -> None:
    with pytest.raises(SourceLost, match="/dev/null"):
        Webcam(device="/dev/null").open("cam")


@pytest.mark.parametrize("device", [-1, "", "front door", "http://x", "/dev/../etc/passwd", "concat:a"])
def test_names_that_cannot_be(device: int | str) -> None:
    with pytest.raises(InputError):
        Webcam(device=device).check()


def test_size_is_two_numbers() -> None:
    with pytest.raises(InputError, match="go together"):
        Webcam(width=640).check()


@pytest.mark.parametrize(("system", "device", "name"), [("darwin", 1, "1"), ("win32", "HD Cam", "video=HD Cam")])
def test_other_systems(monkeypatch: pytest.MonkeyPatch, system: str, device: int | str, name: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    plan = Webcam(device=device)
    plan.check()
    with pytest.raises(SourceLost, match=name):  # this FFmpeg has no such cameras
        plan.open("cam")
    if system == "win32":
        with pytest.raises(InputError, match="by name"):
            Webcam(device=0).check()
