"""The training loop: what it does at a step, and what of it outlives a kill."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training_parts import boxed, recipe

from detectors.datasets.base import Sample
from detectors.training.loop import CHECKPOINT, Training
from detectors.training.pictures import Pictures
from detectors.training.recipe import Recipe
from pipeline.core.errors import InputError


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return boxed(tmp_path_factory.mktemp("pictures"))


def training(said: Recipe, samples: Sequence[Sample], folder: Path, **more: Any) -> Training:
    return Training(said, samples, folder, more.pop("evaluate", lambda network: {}), **more)


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(ones: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return ones.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in ones.items())


def test_it_learns(samples: list[Sample], tmp_path: Path) -> None:
    said = recipe(steps=25, evaluate_every=5, patience=50, rate=5e-3, clip=100)
    one = training(said, samples, tmp_path)
    assert not one.run().training
    losses = [row["loss"] for row in one.history]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
    assert [row["step"] for row in one.history] == [5, 10, 15, 20, 25]


def test_a_training_that_is_broken_off_ends_as_if_it_had_not_been(samples: list[Sample], tmp_path: Path) -> None:
    """Here between two steps; what a kill does is seen below."""
    said = recipe(evaluate_every=2)
    whole = training(said, samples, tmp_path / "whole")
    whole.run()

    first = training(said, samples, tmp_path / "broken")
    for _ in range(5):
        first.advance(first.network)
    first.save()
    again = training(said, samples, tmp_path / "broken")
    again.run()
    assert same(weights(whole.network), weights(again.network))
    assert same(weights(whole.average), weights(again.average))
    assert whole.history[-1] == again.history[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_asked_to_end_keeps_all_that_it_learned(
    number: int, samples: list[Sample], tmp_path: Path
) -> None:
    said = recipe(evaluate_every=2)
    whole = training(said, samples, tmp_path / "whole")
    whole.run()

    first = training(said, samples, tmp_path / "ended", progress=lambda row: signal.raise_signal(number))
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.step == 2 and signal.getsignal(number) is before
    again = training(said, samples, tmp_path / "ended")
    again.run()
    assert same(weights(whole.network), weights(again.network))


LONG = """\
import sys, time
from pathlib import Path
from test_training_loop import interruptible, told_to

doomed = sys.argv[3] == "doomed"
interruptible(Path(sys.argv[1]), Path(sys.argv[2]), told_to(60 if doomed else 0))
"""


def told_to(sleep_s: float) -> Any:
    """Says its steps, and stays at the tenth."""

    def told(row: dict[str, float]) -> None:
        print(int(row["step"]), flush=True)
        time.sleep(sleep_s if row["step"] == 10 else 0)

    return told


def interruptible(pictures: Path, folder: Path, told: Any) -> None:
    """A training that keeps every step, and its end in `end.pt`."""
    torch.set_num_threads(1)  # sums are taken in the same order then
    said = recipe(steps=14, evaluate_every=5, save_every_s=1e-6)
    network = training(said, boxed(pictures), folder, progress=told).run()
    folder.mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "end.pt")


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    ends = {}
    threads = torch.get_num_threads()
    try:
        interruptible(tmp_path / "pictures", tmp_path / "whole", lambda row: None)
    finally:
        torch.set_num_threads(threads)
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", LONG, str(tmp_path / "pictures"), str(killed)]
    with subprocess.Popen([*command, "doomed"], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "10\n":
            assert line, "it ended by itself"
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    assert not (killed / "end.pt").exists()
    assert torch.load(killed / CHECKPOINT, weights_only=True)["step"] == 9  # of its tenth step nothing is left
    ran = subprocess.run([*command, "spared"], env=environment, capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stdout.split()) == (0, ["10", "14"]), ran.stderr
    for name in ("whole", "killed"):
        ends[name] = torch.load(tmp_path / name / "end.pt", weights_only=True)
    assert same(ends["whole"], ends["killed"])


def test_a_damaged_checkpoint_says_so(samples: list[Sample], tmp_path: Path) -> None:
    said = recipe(steps=1)
    training(said, samples, tmp_path).run()
    file = tmp_path / CHECKPOINT
    whole = file.read_bytes()
    bad = torch.load(file, weights_only=True)
    del bad["optimiser"]
    for damage in (whole[: len(whole) // 2], b"", b"no archive", {"step": 3}, bad):
        if isinstance(damage, bytes):
            file.write_bytes(damage)
        else:
            torch.save(damage, file)
        with pytest.raises(InputError, match=r"checkpoint\.pt: is damaged .*remove it to begin anew"):
            training(said, samples, tmp_path).run()


@pytest.mark.parametrize("change", ["recipe", "labels", "pixels", "teacher"])
def test_a_checkpoint_of_something_else_says_so(samples: list[Sample], tmp_path: Path, change: str) -> None:
    training(recipe(steps=1), samples, tmp_path).run()
    assert training(recipe(steps=1), samples, tmp_path).resume()
    others, said, more = list(samples), recipe(steps=1), {}
    if change == "recipe":
        said = recipe(steps=2)
    elif change == "teacher":
        more = {"teacher": "somebody"}
    elif change == "labels":
        others[1] = Sample(others[1].name, others[1].file)
    else:
        others[1] = Sample(others[1].name, others[2].file, boxes=others[1].boxes, classes=others[1].classes)
    with pytest.raises(InputError, match="is of another recipe or other data; remove it"):
        training(said, others, tmp_path, **more).run()


FULL = """\
import resource, sys
from pathlib import Path
from training_parts import boxed, recipe
from detectors.training.loop import Training
from pipeline.app import cli
import click

@click.command()
def cramped():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    Training(recipe(steps=2), boxed(Path(sys.argv[1])), Path(sys.argv[2]), lambda network: {}).run()

cli.thresher.add_command(cramped)
cli.COMMANDS["cramped"] = "__main__:cramped"
sys.exit(cli.main(["cramped"]))
"""


@pytest.mark.slow
def test_a_disk_without_room_leaves_the_last_checkpoint(samples: list[Sample], tmp_path: Path) -> None:
    """No file may grow beyond 100 kB in that process, which writing feels as it feels a full disk."""
    folder = tmp_path / "work"
    one = training(recipe(steps=2), samples, folder)
    one.advance(one.network)
    one.save()
    before = (folder / CHECKPOINT).read_bytes()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", FULL, str(samples[0].file.parent), str(folder)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr
    assert "The last whole checkpoint is kept; make room" in ran.stderr
    assert (folder / CHECKPOINT).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [CHECKPOINT]


def test_a_folder_that_is_none_says_so(samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Make room and give the same command"):
        training(recipe(steps=1), samples, tmp_path / "file" / "work").run()


def test_it_ends_when_nothing_gets_better_and_keeps_the_best(samples: list[Sample], tmp_path: Path) -> None:
    figures = iter([0.3, 0.9, 0.8, 0.9, 0.7])
    states = []

    def evaluate(network: nn.Module) -> dict[str, float]:
        states.append(weights(network))
        return {"map": np.float64(next(figures)), "f": np.float32(0.0)}

    one = training(recipe(steps=40, evaluate_every=1, patience=3), samples, tmp_path, evaluate=evaluate)
    network = one.run()
    assert one.step == 5
    assert same(weights(network), states[1])
    again = training(recipe(steps=40, evaluate_every=1, patience=3), samples, tmp_path)
    assert same(weights(again.run()), states[1])  # nothing more is done, and the checkpoint holds plain numbers
    assert again.history == one.history


def test_without_a_figure_the_loss_decides(samples: list[Sample], tmp_path: Path) -> None:
    one = training(recipe(steps=4, evaluate_every=2), samples, tmp_path, evaluate=lambda network: {"map": math.nan})
    one.run()
    assert one.best == pytest.approx(max(-row["loss"] for row in one.history))


def test_gradients_are_cut_to_a_percentile_of_their_norms(samples: list[Sample], tmp_path: Path) -> None:
    one = training(recipe(clip=50.0), samples, tmp_path)
    one.norms = [1.0, 2.0, 3.0, 4.0]
    parameter = next(one.network.parameters())
    parameter.grad = torch.full_like(parameter, 100.0)
    one.clip()
    assert one.norms[-1] > 100
    assert float(parameter.grad.norm()) == pytest.approx(3.0, rel=1e-3)
    parameter.grad = torch.full_like(parameter, 1e-6)
    before = parameter.grad.clone()
    one.clip()
    assert torch.allclose(parameter.grad, before)
    one.norms = [1.0] * 800
    one.clip()
    assert len(one.norms) == 500


def test_a_gradient_that_is_no_number_says_what_to_do(samples: list[Sample], tmp_path: Path) -> None:
    one = training(recipe(), samples, tmp_path)
    with torch.no_grad():
        next(one.network.parameters()).fill_(math.inf)
    with pytest.raises(InputError, match="the gradient is not finite; lower `rate`, or set `bf16: false`"):
        one.run()


def test_an_attack_raises_the_loss_of_what_it_attacks(samples: list[Sample], tmp_path: Path) -> None:
    one = training(recipe(augment={"adversarial": 4.0}), samples, tmp_path)
    one.network.train()
    state = weights(one.network)
    clean, attacked = one.batch(0, 0, 4), one.batch(0, 0, 4)
    one.attack(one.batch(0, 0, 4), attacked)
    assert same(state, weights(one.network))
    assert float((attacked.inputs - clean.inputs).abs().max()) <= 4 / 255 + 1e-6
    assert float(attacked.inputs.min()) >= 0 and float(attacked.inputs.max()) <= 1
    with torch.no_grad():
        before, after = (float(clean.loss(one.network(batch.inputs))) for batch in (clean, attacked))
    assert after > before
    assert one.backward(one.network, 0) > 0  # half of a batch is attacked on the way


def test_it_trains_in_bf16(samples: list[Sample], tmp_path: Path) -> None:
    said = recipe(bf16=True, steps=3, augment={"adversarial": 2.0, "crop": 32}, checkpointing=True)
    network = training(said, samples, tmp_path).run()
    assert all(value.dtype != torch.bfloat16 and value.isfinite().all() for value in weights(network).values())


def test_a_batch_is_the_same_in_parts(samples: list[Sample], tmp_path: Path) -> None:
    """Which examples a step has does not hang on how they are shared out, and an epoch sees each picture once."""
    one = training(recipe(batch=4, augment={"light": 0, "noise": 0, "flip": False, "turn": False}), samples, tmp_path)
    seen = [one.batch(step, index, 1).inputs.numpy().tobytes() for step in range(3) for index in range(4)]
    assert len(set(seen)) == len(samples) == 12
    assert seen[5] == one.batch(1, 1, 1).inputs.numpy().tobytes()


def test_each_epoch_has_an_order_that_is_made_once(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is what its seed and its number say, whenever and wherever it is asked for."""
    one = training(recipe(batch=4), samples, tmp_path)
    count, asked, made = len(samples), [], []
    look, generator = Pictures.__getitem__, np.random.default_rng
    monkeypatch.setattr(Pictures, "__getitem__", lambda self, index: asked.append(index) or look(self, index))
    monkeypatch.setattr(np.random, "default_rng", lambda seed: made.append(len(seed)) or generator(seed))
    steps = [*range(count), 0]  # four epochs, and back
    for step in steps:
        for index in range(4):
            one.batch(step, index, 1)
    orders = [generator([one.recipe.seed, epoch]).permutation(count) for epoch in range(4)]
    places = [step * 4 + index for step in steps for index in range(4)]
    assert asked == [orders[place // count][place % count] for place in places]
    assert made.count(2) == 5


def test_a_batch_that_cannot_be_shared_out_says_so(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectors.training.processes.joined", lambda: (0, 3))
    with pytest.raises(InputError, match="of 4 samples cannot be shared out among 3 processes"):
        training(recipe(), samples, tmp_path)


def test_the_rate_rises_and_falls(samples: list[Sample], tmp_path: Path) -> None:
    one = training(recipe(steps=100, warmup=0.1, rate=1.0), samples, tmp_path)
    rates = [one.rate(step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)
    assert training(recipe(steps=1), samples, tmp_path).rate(1) > 0


def test_pictures_that_cannot_be_used_are_counted(samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(samples[0].file.read_bytes()[:99])
    mask = samples[1].file
    small = tmp_path / "small.png"
    from made_pictures import mask as drawn

    drawn(small, 30, 20)
    bad = [
        Sample("cut", tmp_path / "cut.png"),
        Sample("gone", tmp_path / "gone.png"),
        Sample("other mask", mask, mask=small),
    ]
    pictures = Pictures([*samples, *bad])
    assert len(pictures) == len(samples)
    assert [line.partition(":")[0] for line in pictures.left_out] == ["cut", "gone", "other mask"]
    assert "its mask is 30×20, not 64×64" in pictures.left_out[2]
    with pytest.raises(InputError, match="no picture of the training data can be read"):
        Pictures(bad)
