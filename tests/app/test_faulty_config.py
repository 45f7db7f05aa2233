"""Adapters around adapters, as configs say them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.app.config.document import Document
from pipeline.app.config.load import load
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.plan import Plan
from pipeline.app.config.schema import json_schema
from pipeline.core.errors import InputError
from sinks.faulty import Faulty as FaultySink
from sinks.jsonl import Jsonl
from sources.faulty import Faulty
from sources.rtsp import Rtsp

RTSP = {"kind": "rtsp", "url": "rtsp://192.0.2.1/x"}


def plan(source: dict[str, Any], sink: dict[str, Any] | None = None) -> Plan:
    document = Document({"sources": {"door": source}, "cascade": "people", "sinks": {"log": sink}}, Path())
    mistakes = Mistakes(document)
    made = load(document, mistakes)
    mistakes.raise_if_any()
    return made


def test_what_stands_behind_of_is_an_adapter_with_all_its_settings() -> None:
    inner = RTSP | {"max_fps": 5, "gate": {"kind": "motion", "refresh_s": 3}, "sound": {"gate": "voice"}}
    made = plan(
        {"kind": "faulty", "of": inner, "script": [{"fault": "lost"}], "repeat": True},
        {"kind": "faulty", "of": {"kind": "jsonl", "path": "x.jsonl"}, "script": [{"fault": "busy", "times": 3}]},
    )
    source, sink = made.sources["door"], made.sinks["log"]
    assert isinstance(source, Faulty) and isinstance(source.of, Rtsp) and source.live
    assert source.max_fps == 5 and source.gate is not None and source.gate.refresh_s == 3
    assert set(made.gates) == {"door", "door.sound"} and made.tracks == {"door.sound": ("door", "sound")}
    assert isinstance(sink, FaultySink) and isinstance(sink.of, Jsonl)
    assert plan({"kind": "faulty", "of": {"kind": "faulty", "of": RTSP}}).sources["door"].live


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"kind": "faulty"}, r"sources\.door\.of: is needed"),
        ({"kind": "faulty", "of": "rtsp"}, r"sources\.door\.of: should be a mapping"),
        ({"kind": "faulty", "of": {"kind": "rstp"}}, r'sources\.door\.of\.kind: .* Did you mean "rtsp"'),
        ({"kind": "faulty", "of": {"kind": "jsonl"}}, r"sources\.door\.of\.kind: there is no source"),
        ({"kind": "faulty", "of": RTSP | {"ulr": 1}}, r'sources\.door\.of\.ulr: .* Did you mean "url"'),
        ({"kind": "faulty", "of": RTSP, "script": [{"fault": "lsot"}]}, r'script\.0\.fault: .*Did you mean "lost"'),
        ({"kind": "faulty", "of": RTSP, "script": [{"fault": "hang"}]}, r"script\.0: hang needs `for_s`"),
        ({"kind": "faulty", "of": {"kind": "file", "path": "/nowhere"}}, r"/nowhere"),
        ({"kind": "rtsp", "url": RTSP["url"], "of": RTSP}, r"sources\.door\.of: there is no such key"),
    ],
)
def test_mistakes_name_their_place(source: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        plan(source)


def test_the_schema_knows_what_may_stand_behind_of() -> None:
    def fits(source: dict[str, Any]) -> bool:
        return Draft202012Validator(json_schema()).is_valid({"sources": {"door": source}})

    assert fits({"kind": "faulty", "of": RTSP, "script": [{"fault": "silent", "for_s": 3}]})
    assert fits({"kind": "faulty", "of": {"kind": "faulty", "of": RTSP}})
    assert not fits({"kind": "faulty", "of": {"kind": "jsonl"}})
    assert not fits({"kind": "faulty", "of": RTSP, "script": [{"fault": "nope"}]})
