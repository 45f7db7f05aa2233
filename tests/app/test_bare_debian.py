"""A Debian without `libGL`: OpenCV does not load, all that draws nothing works, and the rest says what to install.

The library cannot be taken from the machine that runs the tests, so a module in OpenCV's place fails as the real one
does where it is missing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import Thresher

COMMAND = "apt-get install libgl1 libglib2.0-0"


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "without-libgl"
    folder.mkdir()
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    (folder / "cv2.py").write_text(f"raise ImportError({text!r})\n")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_doctor_names_the_packages(thresher: Thresher, bare: dict[str, str]) -> None:
    document = json.loads(thresher("doctor", "--json", environment=bare).stdout)
    (opencv,) = (one for one in document["optional"] if one["part"] == "OpenCV")
    assert "libGL.so.1" in opencv["missing"] and opencv["get"] == COMMAND


def test_a_film_that_cannot_be_drawn_is_a_mistake_before_anything_starts(
    thresher: Thresher, bare: dict[str, str], tmp_path: Path, people_clip: Path
) -> None:
    (tmp_path / "c.yaml").write_text(
        f"sources: {{a: {{kind: file, path: {people_clip}}}}}\nsinks:\n  film: {{kind: video, path: a.mp4}}\n"
    )
    ran = thresher("run", "c.yaml", environment=bare)
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith("thresher: c.yaml:3: sinks.film: ") and COMMAND in line


@pytest.mark.slow
def test_a_run_without_a_film_needs_none_of_it(thresher: Thresher, bare: dict[str, str], people_clip: Path) -> None:
    ran = thresher("run", people_clip, "--set", "sources.people.max_fps=1", "--json", environment=bare)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["ledgers"]["windows"]["results"] > 15


@pytest.mark.slow
def test_the_demo_says_why_there_is_no_film(thresher: Thresher, bare: dict[str, str], tmp_path: Path) -> None:
    ran = thresher("demo", environment=bare)
    assert ran.returncode == 0, ran.stderr
    assert COMMAND in ran.stdout
    assert not (tmp_path / "results" / "demo.mp4").exists()
