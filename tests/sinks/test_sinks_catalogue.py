from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.contracts import Sink
from pipeline.core.errors import InputError
from sinks import CATALOGUE

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", list(CATALOGUE.table))
def test_every_kind_is_a_sink_that_needs_no_setting(kind: str) -> None:
    plan = CATALOGUE.load(kind)()
    assert isinstance(plan, Sink)
    assert plan.takes <= {"outcomes", "events", "pictures", "audits", "rulings", "outages", "tapes"}
    assert all(field.description or name == "collector" for name, field in type(plan).model_fields.items())


def test_a_wrong_kind_gets_the_nearest_right_one() -> None:
    with pytest.raises(InputError, match='Did you mean "jsonl"'):
        CATALOGUE.load("json")


def test_looking_at_the_catalogue_imports_no_adapter() -> None:
    script = "import sys, sinks; print([name for name in sys.modules if name.startswith(('sinks.', 'rich', 'cv2'))])"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
