"""The shipped models and a file that people bring, through the suite that every stage passes."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from detectors.choice import ModelChoice, build_stage
from pipeline.core.contracts import Stage
from tests.contracts.stage_suite import CLIPS, StageSuite, frames


def nudenet() -> str:
    """The weights inside the package, without importing it (it wants a library that is not ours)."""
    spec = find_spec("nudenet")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).with_name("320n.onnx"))


class TestPeople(StageSuite):
    @classmethod
    def build(cls) -> Stage:
        return build_stage(ModelChoice(model="people-ssdlite", runtime="openvino", precision="f32", max_batch=5))

    def test_finds_the_people_where_they_walk(self, stage: Stage) -> None:
        best = []
        for image in frames(CLIPS[0], 20, 10):
            findings = stage.score([image.view(stage.spec)])[0]
            best.append(float(findings.scores.max()))
        assert np.median(best) > 0.85
        assert min(best) > 0.5

    def test_boxes_stand_upright_around_people(self, stage: Stage) -> None:
        for image in frames(CLIPS[0], 40, 5):
            findings = stage.score([image.view(stage.spec)])[0]
            assert findings.boxes is not None
            sure = findings.boxes[findings.scores > 0.7]
            width, height = (sure[:, 2] - sure[:, 0]), (sure[:, 3] - sure[:, 1])
            assert len(sure) and (height > width).all() and (height < 0.5 * image.height).all()


class TestPeopleFromTwoThreads(StageSuite):
    @classmethod
    def build(cls) -> Stage:
        choice = ModelChoice(model="people-ssdlite", runtime="openvino", precision="f32", max_batch=2, workers=2)
        return build_stage(choice)


class TestNsfwMobilenet(StageSuite):
    @classmethod
    def build(cls) -> Stage:
        return build_stage(ModelChoice(model="nsfw-mobilenet", runtime="openvino", precision="f32", max_batch=4))

    def test_people_walking_are_neutral(self, stage: Stage) -> None:
        views = [image.view(stage.spec) for image in frames(CLIPS[0], 40, 4)]
        for findings in stage.score(views):
            assert findings.labels[int(findings.scores.argmax())] == "neutral"
            assert findings.scores.sum() == pytest.approx(1.0, abs=1e-3)


class TestNsfwMobilenetOnnxRuntime(StageSuite):
    @classmethod
    def build(cls) -> Stage:
        return build_stage(ModelChoice(model="nsfw-mobilenet", runtime="onnxruntime", max_batch=4))


class TestOpenNsfw(StageSuite):
    @classmethod
    def build(cls) -> Stage:
        return build_stage(ModelChoice(model="open-nsfw", runtime="openvino", precision="f32", max_batch=2))

    def test_people_walking_are_safe(self, stage: Stage) -> None:
        views = [image.view(stage.spec) for image in frames(CLIPS[0], 40, 2)]
        assert all(findings.scores[findings.labels.index("unsafe")] < 0.1 for findings in stage.score(views))


class TestNudenet(StageSuite):
    """A bare file, in two lines of config."""

    @classmethod
    def build(cls) -> Stage:
        choice = {"model": nudenet(), "output": "yolo", "runtime": "openvino", "precision": "f32", "max_batch": 3}
        return build_stage(ModelChoice.model_validate(choice))

    def test_its_metadata_names_labels_and_size(self, stage: Stage) -> None:
        assert len(stage.labels) == 18
        assert stage.labels[:2] == ("FEMALE_GENITALIA_COVERED", "FACE_FEMALE")
        assert (stage.spec.width, stage.spec.height, stage.spec.fit) == (320, 320, "letterbox")


class TestNudenetOnnxRuntime(StageSuite):
    @classmethod
    def build(cls) -> Stage:
        choice = {"model": nudenet(), "output": "yolo", "runtime": "onnxruntime", "max_batch": 2}
        return build_stage(ModelChoice.model_validate(choice))


def test_running_with_openvino_imports_no_torch_and_no_converter() -> None:
    program = f"""
import sys
import av
from detectors.choice import ModelChoice, build_stage
from pipeline.core.payloads import FrameImage
stage = build_stage(ModelChoice(model="people-ssdlite", runtime="openvino", precision="f32"))
stage.warm()
with av.open({str(CLIPS[0])!r}) as clip:
    found = stage.score([FrameImage(next(clip.decode(video=0))).view(stage.spec)])[0]
assert found.scores.max() > 0.5
unwanted = {{"torch", "torchvision", "onnxruntime", "onnx", "cv2", "nncf", "openvino.tools", "openvino_telemetry.main"}}
print(sorted(unwanted & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
