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

from detectors.training import processes
from pipeline.core.errors import InputError

TRAINED = """\
import json, sys
from pathlib import Path
import torch
from training_parts import boxed, recipe
from detectors.training import processes
from detectors.training.loop import Training
from pipeline.core.errors import InputError

place, out, accumulate = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
leads, losses = processes.leads(), []
samples = processes.by_the_first(lambda: boxed(place))  # one draws them, all read them
one = Training(
    recipe(steps=5, batch=8, accumulate=accumulate, evaluate_every=1, patience=99, network={"stride": 16}),
    samples, out, lambda network: {"map": 0.5}, progress=lambda row: losses.append(row),
)
step, each = one.backward, []
one.backward = lambda network, number: each.append(step(network, number)) or each[-1]
one.run()

def refuses():
    raise InputError("nothing to be had", "data")

try:
    processes.by_the_first(refuses)
except InputError as error:
    refused = str(error)
text = json.dumps({"losses": losses, "mine": each, "refused": refused, "mean": processes.mean(float(not leads))})
(out / f"said-{processes.joined()[0]}.json").write_text(text)
if leads:
    torch.save(dict(one.network.named_parameters()), out / "end.pt")
processes.left()
"""


def trained(tmp_path: Path, count: int, accumulate: int) -> list[dict[str, Any]]:
    """What each of `count` processes says of one training, in the order of their numbers."""
    out = tmp_path / f"of-{count}-in-{accumulate}"
    script = tmp_path / "train.py"
    script.write_text(TRAINED)
    command = [sys.executable, "-W", "ignore"]
    if count > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    words = [str(script), str(tmp_path / "pictures"), str(out), str(accumulate)]
    ran = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "destroy_process_group" not in ran.stderr  # what torch says where nobody took leave
    return [json.loads((out / f"said-{rank}.json").read_text()) for rank in range(count)]


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_with_half_batches(tmp_path: Path) -> None:
    (alone,) = trained(tmp_path, 1, 4)
    both = trained(tmp_path, 2, 2)
    for one in both:  # what is told and kept is the loss of the whole batch, in each of them
        for mine, theirs in zip(one["losses"], alone["losses"], strict=True):
            assert mine == pytest.approx(theirs, rel=2e-4), (mine, theirs)
        assert one["mean"] == 0.5
        assert one["refused"] == "data: nothing to be had"
    halves = [sum(pair) / 2 for pair in zip(*(one["mine"] for one in both), strict=True)]
    assert halves == pytest.approx(alone["mine"], rel=2e-4)
    assert both[0]["mine"] != both[1]["mine"]
    ends = [torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("of-1-in-4", "of-2-in-2")]
    apart = sum(float((ends[1][name] - value).square().sum()) for name, value in ends[0].items())
    assert apart < 1e-6 * sum(float(value.square().sum()) for value in ends[0].values())


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
