"""A stream that was added over HTTP is there after kill -9, and one that was removed is not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest
from test_web_start import program, url_of

CONFIG = """
sources: {a: {kind: pattern, fps: 5, realtime: true}}
sinks: {log: {kind: jsonl, path: log.jsonl}}
web: {keep: streams.json, kinds: [pattern]}
"""


@pytest.mark.slow
def test_it_outlives_a_kill(tmp_path: Path) -> None:
    def names(url: str) -> set[str]:
        return {one["name"] for one in httpx.get(f"{url}/api/streams").json()["streams"]}

    with program(tmp_path, CONFIG, stdout=subprocess.DEVNULL) as running:
        url = url_of(running)
        added = {"name": "b", "type": "pattern", "fps": 7, "realtime": True}
        assert httpx.post(f"{url}/api/streams", json=added, timeout=30).status_code == 201
        assert httpx.delete(f"{url}/api/streams/a", timeout=30).status_code == 204
        running.kill()
        running.wait()
    with program(tmp_path, CONFIG, stdout=subprocess.DEVNULL) as running:
        url = url_of(running)
        assert names(url) == {"b"}
        answer = httpx.patch(f"{url}/api/streams/b", json={"fps": 9}, timeout=30)
        assert answer.status_code == 200, answer.text
        running.kill()
        running.wait()
    with program(tmp_path, CONFIG, stdout=subprocess.DEVNULL) as running:
        url = url_of(running)
        (stream,) = httpx.get(f"{url}/api/streams").json()["streams"]
        assert stream["name"] == "b" and stream["settings"]["fps"] == 9
