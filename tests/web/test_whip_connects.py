"""Nothing is left of publishers who come and are killed: the short form of `python -m tests.web.connects`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.connects import run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_threads_descriptors_and_tasks_do_not_grow(tmp_path: Path) -> None:
    first, *_, last = run(20, 20, tmp_path)
    assert last.threads <= first.threads and last.descriptors <= first.descriptors and last.tasks <= first.tasks
    assert last.rss_mib - first.rss_mib < 64
