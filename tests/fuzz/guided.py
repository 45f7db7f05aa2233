"""Targets under atheris: libFuzzer, guided by the coverage of our Python."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

_INSTRUMENTED = ("pipeline", "sources", "sinks", "detectors")


def guided(name: str, seconds: int) -> int:
    """In a process of its own, since libFuzzer ends the one it runs in. Its exit status."""
    with tempfile.TemporaryDirectory(prefix="atheris-") as folder:
        command = [sys.executable, "-m", "tests.fuzz.guided", name, folder, str(seconds)]
        return subprocess.run(command, cwd=Path(__file__).resolve().parents[2], check=False).returncode


def _fuzz(name: str, corpus: Path, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=list(_INSTRUMENTED)):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    for number, seed in enumerate(target.corpus()):
        (corpus / f"seed-{number}").write_bytes(seed)
    kept = Path(__file__).parent / "found" / name
    kept.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=4096", f"-max_len={target.largest}"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, f"-artifact_prefix={kept}/"], target)
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
