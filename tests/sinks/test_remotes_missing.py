from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.contracts import Remote
from pipeline.core.errors import MissingPart
from sinks import CATALOGUE

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "webhook": "aiohttp",
    "mqtt": "paho.mqtt.client",
    "kafka": "confluent_kafka",
    "redis": "redis",
    "postgres": "psycopg",
}
SETTINGS: dict[str, dict[str, Any]] = {"webhook": {"url": "https://example.org/hook"}}


@pytest.mark.parametrize("kind", PACKAGES)
def test_without_its_package_a_sink_says_how_to_get_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[kind], None)
    plan = CATALOGUE.load(kind)(**SETTINGS.get(kind, {}))
    assert isinstance(plan, Remote)
    for step in (plan.check, lambda: plan.connect("out")):
        with pytest.raises(MissingPart, match=rf"pip install 'thresher\[{kind}\]'"):
            step()


def test_looking_at_their_settings_imports_none_of_the_packages() -> None:
    script = (
        f"import sys, sinks; [sinks.CATALOGUE.load(kind) for kind in {list(PACKAGES)}];"
        f"print([name for name in {sorted(PACKAGES.values())} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
