"""Nothing is left of publishers who come and are killed: the short form of `python -m tests.web.connects`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.connects import run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_threads_descriptors_and_tasks_do_not_grow(tmp_path: Path) -> None:
    first, *_, last = run(20, 20, tmp_path)
    # one thing kept of each would be twenty; a pool may start another thread of its own at any time
    assert last.threads <= first.threads + 2
    assert last.descriptors <= first.descriptors + 2
    assert last.tasks <= first.tasks
    assert last.rss_mib - first.rss_mib < 64
