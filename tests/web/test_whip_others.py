"""Others that speak WHIP: GStreamer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from whip_server import Served, serving, soon

pytestmark = pytest.mark.slow

TOKEN = "lobby-token" * 2
CONFIG = f"""
sources:
  lobby: {{kind: webrtc, token: {TOKEN}, cascade: people, sound: {{cascade: words}}}}
cascades: {{people: {{base: people}}, words: {{base: words}}}}
web: {{}}
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("whip"), CONFIG) as there:
        yield there


def check(served: Served, before: int, heard: int) -> None:
    soon(lambda: len(served.judged()) > before + 15 and len(served.judged("lobby.sound")) > heard + 5)
    for one in served.judged()[before:][5:]:
        assert one.size == (320, 240)
        assert np.abs(np.subtract(one.colour, (60, 150, 90))).max() < 24, one


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_gstreamer_publishes(served: Served, codec: str) -> None:
    before, heard = len(served.judged()), len(served.judged("lobby.sound"))
    script = Path(__file__).parent / "gst_publisher.py"
    with subprocess.Popen(["/usr/bin/python3", str(script), served.whip(), TOKEN, codec]) as process:
        try:
            check(served, before, heard)
        finally:
            process.kill()
