"""The rules of the house that no other test would notice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "torchvision", "cv2", "onnxruntime", "nncf", "openvino")


def test_imports_point_one_way(project: Path) -> None:
    linter = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert linter is not None
    ran = subprocess.run([linter, "--no-cache"], cwd=project, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.app.cli import main; main(['run', '--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_skipped_test_fails_the_run(project: Path, tmp_path: Path) -> None:
    shutil.copy(project / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_skipping.py").write_text("import pytest\ndef test_it():\n    pytest.skip('no')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "test_skipping.py::test_it" in ran.stdout
