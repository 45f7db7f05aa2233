"""The figures this project lives by, each beside its baseline, in one run. Every bench takes a `Scale` and gives a
`Report`; to add one: a function, and a line here."""

from __future__ import annotations

from typing import Any

from pipeline.app.bench.report import Scale
from pipeline.core.catalogue import Catalogue
from pipeline.core.errors import MissingPart

BENCHES = Catalogue(
    "bench",
    "thresher.benches",
    {
        "engine": "pipeline.app.bench.engine:bench",
        "file": "pipeline.app.bench.film:file_bench",
        "still": "pipeline.app.bench.film:still_bench",
        "resnet": "pipeline.app.bench.resnet:bench",
        "line": "pipeline.app.bench.line:bench",
        "text": "pipeline.app.bench.text:bench",
        "sound": "pipeline.app.bench.sound:bench",
        "show": "pipeline.app.bench.show:bench",
        "trace": "pipeline.app.bench.trace:bench",
        "durable": "pipeline.app.bench.durable:bench",
        "web-api": "pipeline.app.bench.web_api:bench",
        "web-feed": "pipeline.app.bench.web_feed:bench",
        "web-page": "pipeline.app.bench.web_page:bench",
        "web-rtc": "pipeline.app.bench.web_rtc:bench",
        "start": "pipeline.app.bench.processes:start_bench",
        "memory": "pipeline.app.bench.processes:memory_bench",
        "rtsp": "pipeline.app.bench.rtsp:rtsp_bench",
        "faults": "pipeline.app.bench.rtsp:faults_bench",
    },
)


def run_bench(name: str, scale: Scale) -> dict[str, Any]:
    """The document of one bench. Raises `InputError` for an unknown name, `MissingPart` where something has to be
    installed first."""
    from pipeline.app.bench.machine import machine

    report = BENCHES.load(name)(scale)
    document: dict[str, Any] = {
        "bench": name,
        "rows": [row.document() for row in report.rows],
        "conditions": dict(report.conditions),
        "machine": machine(),
    }
    if scale.quick:
        document["quick"] = True  # so that nobody takes these figures for any
    return document


def run_all(scale: Scale) -> dict[str, Any]:
    """Every bench in one document; one that lacks a part is left out and says so under `missing`."""
    rows: list[Any] = []
    conditions: dict[str, Any] = {}
    missing: dict[str, str] = {}
    document: dict[str, Any] = {}
    for name in BENCHES.kinds():
        try:
            document = run_bench(name, scale)
        except MissingPart as error:
            missing[name] = str(error)
            continue
        rows += document["rows"]
        conditions[name] = document["conditions"]
    return document | {"bench": "all", "rows": rows, "conditions": conditions, "missing": missing}
