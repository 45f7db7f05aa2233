"""What is left of publishers where the server has ended."""

from __future__ import annotations

from pathlib import Path

from whip_publisher import Publisher
from whip_server import hollow_offer, serving, soon

from sources import webrtc_peers

TOKEN = "lobby-token" * 2
CONFIG = f"""
sources: {{lobby: {{kind: webrtc, token: {TOKEN}, cascade: people}}}}
cascades: {{people: {{base: people}}}}
"""


def test_nobody_is_left(tmp_path: Path) -> None:
    """Neither who publishes nor who might have: a program may go on without its server."""
    with serving(tmp_path, CONFIG) as there:
        soon(lambda: "waits for a publisher" in there.stream().detail)
        publisher = Publisher(there.whip(), token=TOKEN)
        soon(there.judged)
        headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {TOKEN}"}
        assert there.http.post(there.whip(), content=hollow_offer(), headers=headers).status_code == 201
        assert len(webrtc_peers._peers) == 2
    assert not webrtc_peers._peers
    publisher.close()
