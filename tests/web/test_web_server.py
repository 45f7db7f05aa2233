"""The server of the page: it answers beside a pipeline that runs, and ends with it."""

from __future__ import annotations

import httpx
import pytest

from tests.web.serving import serving


def test_it_tells_how_the_pipeline_is_doing_as_long_as_that_runs() -> None:
    with serving(start=True) as served:
        assert httpx.get(f"{served.url}/api/health").json() == {"status": "ok"}
        said = httpx.get(f"{served.url}/api/snapshot").json()
        assert [stream["stream"] for stream in said["streams"]] == ["bikes"]
        assert httpx.get(served.url).status_code == 200
        assert "/api/snapshot" in httpx.get(f"{served.url}/openapi.json").json()["paths"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{served.url}/api/health")
