"""Several processes are one training: the same steps, and one of them writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_parts import boxed, recipe

from detectors.datasets.base import Sample
from detectors.training import processes
from detectors.training.loop import CHECKPOINT, Training
from pipeline.core.errors import InputError

SHARED = """\
import json, sys
from pathlib import Path
from test_training_processes import steps
from training_parts import boxed
from detectors.training import processes
from pipeline.core.errors import InputError

place, out = Path(sys.argv[1]), Path(sys.argv[2])
leads = processes.leads()
samples = processes.by_the_first(lambda: boxed(place))  # one draws them, all read them
said = steps(samples, out, 2)

def refuses():
    raise InputError("nothing to be had", "data")

try:
    processes.by_the_first(refuses)
except InputError as error:
    said["refused"] = str(error)
said["mean"] = processes.mean(float(not leads))
(out / f"said-{processes.joined()[0]}.json").write_text(json.dumps(said))
processes.left()
"""


def steps(samples: list[Sample], out: Path, accumulate: int) -> dict[str, Any]:
    """What a few steps say in this process; the weights that they lead to are in the checkpoint."""
    said: dict[str, Any] = {"history": [], "mine": []}
    one = Training(
        recipe(steps=5, batch=8, accumulate=accumulate, evaluate_every=1, patience=99, network={"stride": 16}),
        samples, out, lambda network: {"map": 0.5}, progress=said["history"].append,
    )  # fmt: skip
    backward = one.backward

    def heard(network: nn.Module, step: int) -> float:
        said["mine"].append(backward(network, step))
        return float(said["mine"][-1])

    one.backward = heard  # type: ignore[method-assign]
    one.run()
    return said


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_in_parts(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SHARED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    words = [str(tmp_path / "pictures"), str(tmp_path / "shared")]
    ran = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "destroy_process_group" not in ran.stderr  # what torch says where nobody took leave
    both = [json.loads((tmp_path / "shared" / f"said-{rank}.json").read_text()) for rank in range(2)]
    alone = steps(boxed(tmp_path / "pictures"), tmp_path / "alone", 4)
    for one in both:  # what is told and kept is the loss of the whole batch, in each of them
        for mine, theirs in zip(one["history"], alone["history"], strict=True):
            assert mine == pytest.approx(theirs, rel=5e-4), (mine, theirs)
        assert one["mean"] == 0.5
        assert one["refused"] == "data: nothing to be had"
    halves = [sum(pair) / 2 for pair in zip(*(one["mine"] for one in both), strict=True)]
    assert halves == pytest.approx(alone["mine"], rel=5e-4)
    assert both[0]["mine"] != both[1]["mine"]
    shared, own = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("shared", "alone"))
    weights = [name for name in own["network"] if name.endswith((".weight", ".bias"))]
    apart = sum(float((shared["network"][name] - own["network"][name]).square().sum()) for name in weights)
    assert apart < 1e-6 * sum(float(own["network"][name].square().sum()) for name in weights)


def test_one_process_is_its_own_first() -> None:
    assert processes.joined() == (0, 1) and processes.leads()
    assert processes.by_the_first(lambda: 3) == 3
    assert processes.mean(0.25) == 0.25
    processes.left()


@pytest.mark.parametrize("said", ["2", "few"])
def test_a_world_that_nobody_introduced_says_so(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", said)
    with pytest.raises(InputError, match=r"WORLD_SIZE: .*start it with torchrun"):
        processes.joined()
