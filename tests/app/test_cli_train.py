"""`thresher train`: from a folder of pictures to a cascade that runs, and what is said where that cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from board_models import boards
from calling import COMMAND, Called, Thresher
from made_pictures import coco, mask, picture, text
from ruamel.yaml import YAML
from tiny_models import brightness
from training_parts import folders

from detectors.choice import ModelChoice, find_model
from detectors.networks.audio import sound_network
from detectors.networks.pyramid import Network
from detectors.networks.text import text_network
from detectors.training.project import Made
from detectors.training.recipe import SoundRecipe, TextRecipe
from pipeline.app import training
from pipeline.app.commands import train as command

TRAINED = ("pcb", "magnetic-tiles", "own-stream", "chat", "words")
SHORT = (
    "heavy.recipe.network.backbone=mobilenet-v3-small",
    *(f"{stage}.recipe.{said}" for stage in ("heavy", "cheap") for said in ("steps=4", "batch=4", "evaluate_every=2")),
)


def sets(*said: str) -> list[str]:
    return [word for one in said for word in ("--set", one)]


def called(home: Path, *words: object, torchrun: int = 0) -> Called:
    """`thresher`, as a process in `home`; as several processes that make one training."""
    start = list(COMMAND)
    if torchrun:
        many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(torchrun)]
        start = [sys.executable, *many, "-m", "pipeline.app.cli"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*start, *map(str, words)], cwd=home, env=environment, capture_output=True, text=True, timeout=200
    )


def results(home: Path, name: str) -> list[dict[str, Any]]:
    lines = (home / "results" / f"{name}.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line.get("outcome") == "result"]


@pytest.fixture(scope="module")
def sorted_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("line")
    folders(home / "parts", 32)
    (home / "parts" / "bad" / "cut.png").write_bytes((home / "parts" / "bad" / "001.png").read_bytes()[:200])
    return home


@pytest.mark.slow
def test_two_folders_of_pictures_become_a_cascade_that_runs(sorted_parts: Path) -> None:
    home = sorted_parts
    ran = called(home, "train", "parts", "--name", "my-line", *sets(*SHORT, "cheap.onnx=true"))
    assert ran.returncode == 0, ran.stderr
    assert "my-line-mobilenet-onnx" in ran.stdout
    again = called(home, "eval", "models/my-line-mobilenet-onnx", "--data", "parts", "--limit", "4")
    assert again.returncode == 0, again.stderr
    assert "my-line.yaml runs them, uncertified" in ran.stdout
    assert "my-line-resnet: step 4 · loss" in ran.stderr
    assert "1 pictures could not be used: bad/cut.png" in ran.stdout  # its header is whole: only decoding tells
    for stage in ("resnet", "mobilenet"):
        folder = home / "models" / f"my-line-{stage}"
        assert {"manifest.yaml", "model.xml", "model.bin", "samples"} <= {path.name for path in folder.iterdir()}

    valid = called(home, "validate", "my-line.yaml")
    assert valid.returncode == 0, valid.stderr
    assert "my-line-mobilenet" in valid.stdout + valid.stderr
    ran = called(home, "run", "my-line.yaml", "parts/bad", *sets("sources.my-line=null"))
    assert ran.returncode == 0, ran.stderr
    assert len(results(home, "my-line")) == 16  # without the one that is cut off


@pytest.mark.slow
def test_a_stream_that_nobody_labelled_makes_a_cheap_stage_of_its_own(sorted_parts: Path, project: Path) -> None:
    home = sorted_parts
    brightness(home / "models" / "known", 64, 0.33)
    recorded = home / "recorded"
    recorded.mkdir()
    for number, file in enumerate(sorted((home / "parts").glob("*/0*.png"))):
        (recorded / f"{number}.png").write_bytes(file.read_bytes())
    config = YAML(typ="safe").load(project / "configs" / "train" / "own-stream.yaml")
    config["teacher"] = {"model": "models/known"}
    config["data"]["hold_out"] = 0.5
    YAML(typ="safe").dump(config, home / "own-stream.yaml")
    ran = called(home, "train", "own-stream.yaml", *sets(*(s for s in SHORT if s.startswith("cheap."))))
    assert ran.returncode == 0, ran.stderr
    assert "own.yaml runs them" in ran.stdout
    ran = called(home, "run", "own.yaml", *sets("sources.own.repeat=1"))
    assert ran.returncode == 0, ran.stderr
    assert {line["outcome"] for line in results(home, "own")} == {"result"}


@pytest.mark.slow
def test_two_processes_train_boards_and_one_of_them_writes(tmp_path: Path) -> None:
    boards(tmp_path / "boards")
    small = (*SHORT, "data.hold_out=[group1]", "heavy.recipe.batch=2")
    ran = called(tmp_path, "train", "boards", "--json", *sets(*small), torchrun=2)
    assert ran.returncode == 0, ran.stderr
    assert "destroy_process_group" not in ran.stderr  # what torch says where nobody took leave
    document = json.loads(ran.stdout)  # said once
    assert [model["name"] for model in document["models"]] == ["boards-resnet", "boards-mobilenet"]
    for model in document["models"]:
        assert model["remarks"] == ["int8 is left: its ranges need 8 pictures, there are 6"]
    assert "map" in document["models"][0]["figures"] and "auroc" in document["models"][1]["figures"]
    history = (tmp_path / "models" / ".training" / "boards-resnet" / "history.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in history] == [2, 4]
    assert document["config"] == "boards.yaml"
    ran = called(tmp_path, "run", "boards.yaml")  # the line carries pictures that are beside their reference already
    assert ran.returncode == 0, ran.stderr
    assert len(results(tmp_path, "boards")) == 6


@pytest.mark.slow
def test_labels_are_checked(tmp_path: Path) -> None:
    folders(tmp_path / "parts", 16)
    words = ("train", "parts", "--check-labels", "--folds", "2", "--name", "my-line")
    ran = called(tmp_path, *words, *sets(*SHORT))
    assert ran.returncode == 0, ran.stderr
    assert "fold 1 of 2" in ran.stderr and "of 16 labels are suspect" in ran.stdout
    document = json.loads((tmp_path / "models" / "my-line-labels.json").read_text())
    assert document["labels"] == 16 and document["suspect"] == len(document["suspects"])
    assert not (tmp_path / "my-line.yaml").exists()
    assert list((tmp_path / "models" / ".training").iterdir()) == []


def test_a_config_that_is_there_already_stays(tmp_path: Path) -> None:
    from pipeline.app.training import kept_apart

    own = tmp_path / "pcb.yaml"
    own.write_text("name: pcb\n")
    made = kept_apart(own, "made\n")
    assert (made.name, own.read_text(), made.read_text()) == ("pcb-2.yaml", "name: pcb\n", "made\n")
    assert kept_apart(own, "made\n") == made
    assert kept_apart(own, "name: pcb\n") == own
    assert kept_apart(own, "other\n").name == "pcb-3.yaml"
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    assert kept_apart(tmp_path / "folder.yaml", "made\n").name == "folder-2.yaml"
    assert kept_apart(tmp_path / "pipe.yaml", "made\n").name == "pipe-2.yaml"


class TestWrongInput:
    def told(self, ran: Called) -> str:
        assert ran.returncode == 2, ran.stderr
        assert "Traceback" not in ran.stderr and "unexpected" not in ran.stderr
        return " ".join(ran.stderr.split())

    def test_no_such_folder(self, thresher_here: Thresher) -> None:
        assert "gone: there is no such folder, and no such config" in self.told(thresher_here("train", "gone"))
        assert "gone.yaml" in self.told(thresher_here("train", "gone.yaml"))

    def test_an_empty_class(self, thresher_here: Thresher, tmp_path: Path) -> None:
        folders(tmp_path / "parts", 4)
        (tmp_path / "parts" / "dent").mkdir()
        assert '"dent" is an empty class' in self.told(thresher_here("train", "parts"))

    def test_one_class_only(self, thresher_here: Thresher, tmp_path: Path) -> None:
        for number in range(4):
            picture(tmp_path / "parts" / "good" / f"{number}.png", 64, 64, number)
        said = self.told(thresher_here("train", "parts"))
        assert "there is one class only (good): nothing to tell apart" in said

    def test_a_format_that_there_is_not(self, thresher_here: Thresher, tmp_path: Path) -> None:
        folders(tmp_path / "parts", 4)
        assert 'Did you mean "folders"?' in self.told(thresher_here("train", "parts", "--format", "folder"))
        assert "holds neither data.yaml" in self.told(thresher_here("train", "parts", "--format", "yolo"))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("data.hold_out=[monday]", 'hold_out: there is no group "monday"'),
            ("data.apart=[monday]", 'data.apart: there is no group "monday"'),
            ("data.hold_out=1.5", "has to lie between 0 and 1"),
            ("heavy.recipe.network.classes=3", "heavy.recipe.network.classes: is 3, and the data have 2 labels: good"),
            ("cheap.recipe.network.head=boxes", "boxes is learned from boxes, and these data have none"),
            ("cheap.recipe.network.head=heatmap", "heatmap is learned from boxes or masks"),
            ("heavy.recipe.view.width=50", "width: 50 is no multiple of 32"),
            ("heavy.recipe.accumulate=5", "accumulate has to divide batch"),
            ("heavy.recipe.augment.crop=96", "the crop is larger than the view"),
            ("heavy.recipe.step=3", "heavy.recipe.step"),
            ("heavy.recipe.network.backbone=resnet-19", "heavy.recipe.network.backbone"),
            ("name=my line", "name"),
            ("heavy.name=parts-mobilenet", "would be written to the same folder"),
            ("heavy.recipe.seed=-1", "heavy.recipe.seed"),
            ("heavy.recipe.batch=100000000", "heavy.recipe.batch"),
            ("heavy.recipe.view.width=1000000", "width: 1000000 is more than 4096"),
            ("heavy.tile=64000", "heavy.tile"),
            ("teacher.model=gone", 'there is no model called "gone"'),
        ],
    )
    def test_what_does_not_fit(self, thresher_here: Thresher, tmp_path: Path, change: str, words: str) -> None:
        folders(tmp_path / "parts", 8)
        assert words in self.told(thresher_here("train", "parts", *sets(change)))
        assert not (tmp_path / "models").exists()

    def test_held_out_pictures_that_tell_nothing(self, thresher_here: Thresher, tmp_path: Path) -> None:
        for group, kind in (("train", "good"), ("train", "bad"), ("val", "bad")):
            for number in range(3):
                picture(tmp_path / "parts" / group / kind / f"{number}.png", 64, 64, number)
        said = self.told(thresher_here("train", "parts", *sets("data.hold_out=[val]")))
        assert "data.hold_out: no held-out picture shows a good part" in said

    def test_pictures_that_cannot_be_read(self, thresher_here: Thresher, tmp_path: Path) -> None:
        """Their headers are whole, so they are found out only when they are decoded."""
        folders(tmp_path / "parts", 8)
        for path in (tmp_path / "parts").glob("*/*.png"):
            path.write_bytes(path.read_bytes()[:200])
        said = self.told(thresher_here("train", "parts", *sets(*SHORT)))
        assert "no picture of the training data can be read" in said

    def test_a_mask_of_another_size_is_counted(self, thresher_here: Thresher, tmp_path: Path) -> None:
        for number in range(6):
            picture(tmp_path / "tiles" / "dent" / f"{number}.jpg", 64, 64, number)
            mask(tmp_path / "tiles" / "dent" / f"{number}.png", 64, 48 if number == 5 else 64)
            picture(tmp_path / "tiles" / "good" / f"g{number}.jpg", 64, 64, number)
        ran = thresher_here("train", "tiles", *sets(*SHORT, "heavy.recipe.batch=3", "heavy.recipe.accumulate=2"))
        assert "accumulate has to divide batch" in self.told(ran)
        text(tmp_path / "models", "in the way")
        ran = thresher_here("train", "tiles", *sets(*SHORT))
        assert "masks of another size 1" in ran.stderr
        assert "models" in self.told(ran)

    def test_boxes_are_not_sorted_as_whole_pictures(self, thresher_here: Thresher, tmp_path: Path) -> None:
        there = [{"id": n, "image_id": n, "category_id": 7, "bbox": [5, 5, 10, 10]} for n in (1, 2)]
        coco(tmp_path / "boxes", there)
        said = self.told(thresher_here("train", "boxes", *sets("heavy.recipe.network.head=classification")))
        assert "classification sorts whole pictures, and these have boxes" in said

    def test_nobody_to_learn_from(self, thresher_here: Thresher, tmp_path: Path) -> None:
        folders(tmp_path / "parts", 8)
        said = self.told(thresher_here("train", "parts", "--only", "cheap", *sets(*SHORT)))
        assert "parts-resnet" in said
        said = self.told(thresher_here("train", "parts", "--only", "cheap", *sets(*SHORT, "heavy=null")))
        assert "there is nobody to learn from: name a teacher" in said
        assert "the project has no heavy stage" in self.told(
            thresher_here("train", "parts", "--only", "heavy", *sets("heavy=null"))
        )

    def test_pictures_that_nobody_labelled(self, thresher_here: Thresher, tmp_path: Path) -> None:
        folders(tmp_path / "parts", 8)
        recorded = tmp_path / "parts" / "good"
        said = self.told(thresher_here("train", recorded, "--format", "unlabelled"))
        assert "nobody labelled these pictures" in said
        assert "a cheap stage that learns of a teacher alone" in said
        assert "nobody labelled these" in self.told(
            thresher_here("eval", "nsfw-mobilenet", "--data", recorded, "--format", "unlabelled")
        )

    def test_labels_that_cannot_be_checked(self, thresher_here: Thresher, tmp_path: Path) -> None:
        folders(tmp_path / "parts", 4)
        said = self.told(thresher_here("train", "parts", "--check-labels", "--folds", "5", *sets("data.hold_out=0.5")))
        assert "--folds: 4 pictures cannot be dealt out to 5 folds" in said
        assert "--folds" in self.told(thresher_here("train", "parts", "--check-labels", "--folds", "1"))

    def test_pretrained_weights_without_a_network(
        self, thresher_here: Thresher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise OSError("no route to host")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        monkeypatch.setattr(urllib.request, "urlopen", refuse)
        monkeypatch.setattr("torch.hub.urlopen", refuse)
        folders(tmp_path / "parts", 8)
        said = self.told(thresher_here("train", "parts", *sets(*SHORT, "heavy.recipe.network.pretrained=true")))
        assert "no route to host" in said and "set `pretrained: false`" in said

    def test_no_torch(self, thresher_here: Thresher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import importlib.util

        there = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more: None if name == "torch" else there(name, *more)
        )
        folders(tmp_path / "parts", 4)
        said = self.told(thresher_here("train", "parts"))
        assert "train: needs torch: pip install 'thresher[train]'" in said

    def test_a_world_without_the_others(
        self, thresher_here: Thresher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders(tmp_path / "parts", 4)
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.delenv("RANK", raising=False)
        assert "WORLD_SIZE" in self.told(thresher_here("train", "parts"))


@pytest.mark.parametrize(("tile", "reach"), [(128, 40), (96, 30), (64, 20)])
def test_the_config_looks_as_far_as_the_tile_shows(project: Path, tile: int, reach: float) -> None:
    heavy, cheap = (find_model(ModelChoice(model=name)) for name in ("pcb-resnet", "pcb-mobilenet"))
    view = heavy.manifest.view.model_copy(update={"tile": tile})
    heavy = replace(heavy, manifest=heavy.manifest.model_copy(update={"view": view}))
    plan = command.project_from(str(project / "configs" / "train" / "pcb.yaml"), None, None, ())
    text = training._run_config(plan, Made(cheap, {}), Made(heavy, {}))
    assert YAML(typ="safe").load(text)["cascade"]["rule"]["reach"] == reach


@pytest.mark.parametrize("name", TRAINED)
def test_the_configs_that_ship_can_be_trained(project: Path, name: str) -> None:
    folder = project / "configs" / "train"
    assert {file.stem for file in folder.iterdir()} == set(TRAINED)
    plan = command.project_from(str(folder / f"{name}.yaml"), None, None, ())
    for part in filter(None, (plan.heavy, plan.cheap)):
        recipe = part.recipe
        if isinstance(recipe, SoundRecipe):
            sound_network(recipe.network)
        elif isinstance(recipe, TextRecipe):
            text_network(recipe.network)
        else:
            Network(recipe.network.model_copy(update={"pretrained": False}))
    assert plan.teacher is None or find_model(plan.teacher)


def test_a_folder_with_a_name_that_models_cannot_have(tmp_path: Path) -> None:
    folders(tmp_path / "my (new) parts", 4)
    project = command.project_from(str(tmp_path / "my (new) parts"), None, None, ())
    assert project.name == "my-new-parts"
