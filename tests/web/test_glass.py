"""From a real browser's camera to the box on that very frame, in the same browser."""

from __future__ import annotations

import pytest

from pipeline.app.bench.glass import glass_to_glass
from sources.webrtc import WebRtc
from tests.web.watching import served

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("view", ["raw", "annotated"])
def test_each_box_is_on_the_frame_it_was_found_in(view: str) -> None:
    with served({"lobby": WebRtc.model_validate({})}) as (url, site):
        seen = glass_to_glass(url, "lobby", seconds=5, view=view)
        assert seen.parts["watched"] == "video/H264"  # this browser has it, and it costs half of VP8
        assert len(seen.glass_ms) > 20
        assert seen.wrong == 0
        assert min(seen.glass_ms) > 0
        assert site.whep.encoded > 20
