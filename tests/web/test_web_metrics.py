"""What Prometheus asks the page's server for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from otlp_receiver import receiver
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from reviewed_line import one_film

from pipeline.app.tracing import trace_id, tracing
from pipeline.app.web.server import WebServer
from pipeline.app.web.site import Site
from pipeline.app.wiring import pipeline, prepare

OPEN = {"Accept": "application/openmetrics-text; version=1.0.0"}
TOKEN = "a-token-for-this-test"


@contextmanager
def traced_film() -> Iterator[str]:
    """The page of a run that has ended, all of whose windows were traced."""
    with receiver() as said:
        trace = f"trace={{share: 1, endpoint: '{said.endpoint}'}}"
        document = one_film([trace, f"web.viewer={TOKEN}", f"web.operator={TOKEN}-too"])
        plan, generations = prepare(document)
        assert plan.web is not None and plan.trace is not None
        site = Site(plan.web, plan, generations, document)
        site.traces = tracing(plan.trace, "trace")
        running = pipeline(site.plan, generations, site.traces)
        with site.traces, WebServer(site, running, "web.listen") as server:
            running.start()
            assert running.wait(120)
            running.stop(5.0)
            site.traces.close()
            yield server.url


@pytest.mark.slow
def test_exemplars_lead_from_a_bucket_to_a_trace_where_the_format_has_them() -> None:
    with traced_film() as url, httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        plain, opened = client.get(f"{url}/metrics"), client.get(f"{url}/metrics", headers=OPEN)
        assert httpx.get(f"{url}/metrics").status_code == 401
    checked = subprocess.run(["promtool", "check", "metrics"], input=plain.content, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stderr) == (0, b""), (checked.stdout + checked.stderr).decode()
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"trace_id" not in plain.content
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in text_string_to_metric_families(opened.text)}
    samples = [one for one in families["thresher_outcome_latency_seconds"].samples if one.exemplar]
    assert samples
    for one in samples:
        assert one.exemplar.labels["trace_id"] == trace_id(one.exemplar.labels["window_id"])
        assert one.exemplar.value <= float(one.labels["le"])
    counted = {one.labels["fate"]: one.value for one in families["thresher_traces"].samples}
    windows = sum(one.value for one in families["thresher_windows"].samples)
    assert counted == {"exported": windows, "dropped": 0, "failed": 0}
    assert families["thresher_web_feed_clients"].samples[0].value == 0
