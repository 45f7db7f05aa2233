"""Torch as a runtime: torchvision's real architectures, their weights from a real HTTP server on this machine."""

from __future__ import annotations

import functools
import http.server
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import pipeline.app
from detectors.choice import ModelChoice, build_stage, find_model
from detectors.manifest import Manifest, Model, digest
from detectors.runtimes.base import Options
from detectors.runtimes.torch import Torch
from detectors.stage import ModelStage
from pipeline.core import reach
from pipeline.core.errors import InputError, MissingPart, StageError
from pipeline.core.payloads import FrameImage
from pipeline.core.reach import NetworkSettings

pytestmark = pytest.mark.slow  # torch and torchvision take seconds to import

CLIP = Path(pipeline.app.__file__).parent / "demo" / "people.mp4"
CLASSES = 4


@pytest.fixture(autouse=True)
def servers_of_this_machine() -> Iterator[None]:
    with reach.using(NetworkSettings(private=True)):
        yield


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which it is served."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture(scope="module")
def ssdlite() -> Any:
    import torch
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    torch.manual_seed(0)
    return ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES + 1).eval()


def detector(file: Path, url: str, **changes: Any) -> Manifest:
    return Manifest.model_validate(
        {
            "name": "boxes",
            "task": "detection",
            "weights": {
                "file": file.name,
                "url": f"{url}/{file.name}",
                "sha256": digest(file)[:8],
                "format": "torchvision",
                "architecture": "torchvision/ssdlite320_mobilenet_v3_large",
            },
            "view": {"width": 320, "height": 320},
            "input": {"std": [255, 255, 255]},
            "output": {"kind": "torchvision", "class_offset": 1, "score_floor": 0.0, "max_boxes": 20, "iou": 1.0},
            "labels": [f"label-{n}" for n in range(CLASSES)],
            "licence": "none",
            **changes,
        }
    )


def first_picture() -> FrameImage:
    with av.open(str(CLIP)) as container:
        return FrameImage(next(container.decode(video=0)))


def test_published_weights_run_as_the_network_itself(published: tuple[Path, str], ssdlite: Any, cache: Path) -> None:
    import torch

    folder, url = published
    file = folder / "ssdlite.pth"
    torch.save(ssdlite.state_dict(), file)
    manifest = detector(file, url)
    model = Model(manifest, folder / "not-here" / file.name)
    session = Torch().open(model, Options())
    stage = ModelStage("boxes", model, session)

    image = first_picture()
    view = image.view(stage.spec)
    with torch.inference_mode():
        (expected,) = ssdlite([torch.from_numpy(view.pixels.copy()).permute(2, 0, 1).float() / 255])
    got = session.infer(view.pixels[None])
    assert got["counts"].tolist() == [20]
    assert got["scores"][0] == pytest.approx(expected["scores"][:20].numpy(), abs=1e-5)
    assert got["boxes"][0] == pytest.approx(expected["boxes"][:20].numpy(), abs=0.05)
    assert got["labels"][0].tolist() == expected["labels"][:20].tolist()

    (findings,) = stage.score([view])
    assert findings.boxes is not None
    assert len(findings.scores) > 0
    assert findings.classes.min() >= 0
    assert findings.classes.max() < CLASSES
    assert findings.boxes[:, 2].max() > 320  # source pixels: the picture is wider than the view

    # only the safetensors are read from now on: neither the server nor the pickle is needed
    kept = next(cache.glob("*.safetensors"))
    file.unlink()
    (cache / file.name).unlink()
    again = Torch().open(model, Options()).infer(view.pixels[None])
    assert again["scores"] == pytest.approx(got["scores"])
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        Torch().open(model, Options())


def test_a_classifier_of_ones_own(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(0)
    network = mobilenet_v3_small(weights=None, num_classes=3).eval()
    file = tmp_path / "model.safetensors"
    save_file(network.state_dict(), file)
    (tmp_path / "manifest.yaml").write_text(
        f"name: own\ntask: classification\nlicence: none\nlabels: [a, b, c]\nview: {{width: 64, height: 64}}\n"
        f"weights: {{file: {file.name}, sha256: {digest(file)}, format: safetensors,\n"
        "  architecture: torchvision/mobilenet_v3_small}\n"
        "input: {mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]}\n"
        "output: {kind: classification, activation: softmax}\n"
    )
    stage = build_stage(ModelChoice(model=str(tmp_path), runtime="torch", precision="f32"))
    assert stage.describe()["runtime"] == "torch"
    stage.warm()
    views = [first_picture().view(stage.spec, (0, 0, 100 + 50 * n, 200)) for n in range(3)]
    found = stage.score(views)
    pixels = torch.from_numpy(np.stack([v.pixels for v in views])).permute(0, 3, 1, 2).float()
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    with torch.inference_mode():
        expected = network((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)).softmax(1).numpy()
    assert np.stack([f.scores for f in found]) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(StageError, match="own: torch failed on"):
        stage.session.infer(np.zeros((1, 64, 64, 4), np.uint8))  # type: ignore[attr-defined]  # of an ModelStage


class Pickled:
    """What an attacker would publish."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.witness,))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(published: tuple[Path, str], tmp_path: Path) -> None:
    import torch

    folder, url = published
    file, witness = folder / "evil.pth", tmp_path / "witness"
    torch.save({"weight": Pickled(witness)}, file, pickle_module=pickle)
    with pytest.raises(InputError, match="more than weights"):
        Torch().open(Model(detector(file, url), folder / "no" / file.name), Options())
    assert not witness.exists()


def test_weights_that_do_not_fit_are_told(published: tuple[Path, str], ssdlite: Any) -> None:
    import torch

    folder, url = published
    file = folder / "ssdlite.pth"
    torch.save(ssdlite.state_dict(), file)
    one_label_more = detector(file, url, labels=[f"label-{n}" for n in range(CLASSES + 1)])
    with pytest.raises(
        InputError, match="do not fit torchvision/ssdlite320_mobilenet_v3_large with 5 labels"
    ) as caught:
        Torch().open(Model(one_label_more, file), Options())
    assert "\n" not in str(caught.value)

    weights = detector(file, url).weights.model_copy(update={"architecture": "torchvision/ssdlite320_mobilenet_v3"})
    with pytest.raises(InputError, match='Did you mean "ssdlite320_mobilenet_v3_large"'):
        Torch().open(Model(detector(file, url, weights=weights), file), Options())


@pytest.mark.parametrize("name", ["coco-ssdlite", "coco-fasterrcnn"])
def test_the_coco_pair_is_as_torchvision_publishes_it(name: str) -> None:
    from torchvision.models import detection, get_model_weights

    model = find_model(ModelChoice(model=name))
    asked = model.manifest.weights
    assert asked.architecture is not None
    architecture = asked.architecture.removeprefix("torchvision/")
    assert hasattr(detection, architecture)
    published = get_model_weights(architecture).DEFAULT
    assert asked.url == published.url
    assert f"-{asked.sha256}." in published.url
    assert model.manifest.measured["coco_val2017_box_ap"] == published.meta["_metrics"]["COCO-val2017"]["box_map"] / 100
    for number, category in enumerate(published.meta["categories"][1:], model.manifest.output.class_offset):
        own = model.manifest.labels[number - 1]
        assert own == (f"unused-{number}" if category == "N/A" else category)


def test_offline_the_coco_pair_says_what_to_put_where(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the discard port: nobody answers
    with pytest.raises(MissingPart) as caught:
        build_stage(ModelChoice(model="coco-ssdlite", runtime="torch", precision="f32"))
    said = str(caught.value)
    assert "https://download.pytorch.org/models/ssdlite320_mobilenet_v3_large_coco-a79551df.pth" in said
    assert str(cache / "ssdlite320_mobilenet_v3_large_coco-a79551df.pth") in said
    assert "\n" not in said


def test_who_uses_openvino_imports_no_torch_and_tells_nobody() -> None:
    code = (
        "import sys\n"
        "from detectors.choice import ModelChoice, build_stage\n"
        "build_stage(ModelChoice(model='nsfw-mobilenet', runtime='openvino', precision='f32'))\n"
        "print(sorted({'torch', 'openvino_telemetry.main', 'openvino'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['openvino']"
