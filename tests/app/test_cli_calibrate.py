"""`thresher calibrate` on real frames and real models, and a run by its certificate."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import pytest
from calling import COMMAND, Called, Thresher

from detectors.calibration.bounds import positives_needed

ASKED = ("--max-miss", "0.1", "--delta", "0.05")

# The cheap stage is the same network on the middle of the picture only, so it lets slip what stands at the edge.
CONFIG = """\
cascade:
  cheap:
    model: {zoo}/people-ssdlite/model.xml
    name: middle
    output: ssd
    labels: [person]
    view: {{width: 300, height: 300, crop: 0.7}}
    input: {{layout: nhwc, dtype: uint8}}
    runtime: openvino
    precision: f32
  heavy: {{model: people-ssdlite, name: whole, runtime: openvino, precision: f32}}
  rule: {{kind: scores, watch: [person], clear_below: 0.2, confirm: {{person: 0.6}}}}
"""


@pytest.fixture(scope="module")
def project_here() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def frames(project_here: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 frames of people walking and of traffic, a copy of one of them, and one that is cut off."""
    folder = tmp_path_factory.mktemp("frames")
    clips = ((project_here / "pipeline/app/demo/people.mp4", 4), (project_here / "tests/data/bikes.mp4", 8))
    for clip, step in clips:
        with av.open(str(clip)) as film:
            for number, frame in enumerate(film.decode(video=0)):
                if number % step == 0:
                    frame.to_image().save(folder / f"{clip.stem}-{number:04}.jpg", quality=92)
    first = sorted(folder.iterdir())[0]
    shutil.copy(first, folder / "copy.jpg")
    (folder / "cut.jpg").write_bytes(first.read_bytes()[:2000])
    return folder


@pytest.fixture(scope="module")
def home(project_here: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "c.yaml").write_text(CONFIG.format(zoo=project_here / "detectors/zoo"))
    return folder


def called(home: Path, *words: object) -> Called:
    return subprocess.run([*COMMAND, *map(str, words)], cwd=home, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def calibrated(home: Path, frames: Path) -> dict[str, Any]:
    """The document of a calibration that proved something; its files are in `home`."""
    true = [path.name for path in frames.glob("people-*.jpg")]  # people walk through all of that film
    (home / "true.txt").write_text("\n".join(true))
    extra = ("--truth", "true.txt", "--each-class")
    ran = called(
        home, "calibrate", "c.yaml", "--data", frames, *ASKED, *extra, "--split", "seen by no training", "--json"
    )
    assert ran.returncode == 0, ran.stderr
    assert "cut.jpg: is cut off" in ran.stderr
    document: dict[str, Any] = json.loads(ran.stdout)
    config = (home / "c.yaml").read_text().replace("clear_below: 0.2, ", "")
    config = config.replace("precision: f32}", "}").replace("precision: f32\n", "max_batch: 8\n")
    (home / "proved.yaml").write_text(config + "  certificate: c.certificate.yaml\n")
    return document


@pytest.mark.slow
def test_the_certificate_says_all_that_was_measured(calibrated: dict[str, Any], home: Path, frames: Path) -> None:
    certificate = calibrated["certificate"]
    proof = certificate["proof"]
    assert calibrated["certified"] is True
    assert (proof["alpha"], proof["delta"], proof["test"]) == (0.1, 0.05, "exact")
    assert proof["positives"] + proof["negatives"] == certificate["data"]["units"]
    assert certificate["data"]["units"] == len(list(frames.iterdir())) - 2
    assert certificate["data"]["left_out"] == {"copies of another": 1, "unreadable": 1}
    assert certificate["data"]["split"] == "seen by no training"
    assert positives_needed(0.1, 0.05, proof["misses"]) <= proof["positives"]
    assert certificate["heavy"]["precision"] == "f32"
    assert certificate["cheap"]["fingerprint"] != certificate["heavy"]["fingerprint"]
    assert 0 < certificate["saving"]["units"] < 1

    truth = proof["truth"]
    assert truth["positives"] == len(list(frames.glob("people-*.jpg")))
    assert truth["unflagged"] <= truth["misses"] <= truth["positives"]
    assert (proof["each_class"], proof["classes"]) == (True, {"person": {"share": 1.0, "may_lose": 0.1}})

    threshold = certificate["rule"]["calibrated"]["clear_below"]
    rows = calibrated["curve"]
    at = next(index for index, row in enumerate(rows) if row["threshold"] == threshold)
    assert rows[at]["misses"] == proof["misses"]
    assert [row["heavy_units"] for row in rows] == sorted((row["heavy_units"] for row in rows), reverse=True)
    assert positives_needed(0.1, 0.05, rows[at + 1]["misses"]) > proof["positives"]  # a bolder one is not proved
    assert json.loads((home / "c.certificate.curve.json").read_text())["chosen"] == at
    drawn = (home / "c.certificate.curve.png").exists()
    assert drawn == (calibrated["files"]["picture"] is not None)


@pytest.mark.slow
def test_a_run_by_the_certificate_misses_just_what_it_says(
    calibrated: dict[str, Any], home: Path, frames: Path
) -> None:
    """The engine on the same pictures, against the heavy model on each of them whole."""
    (home / "heavy.yaml").write_text(
        "cascade:\n  cheap: {model: people-ssdlite, runtime: openvino, precision: f32}\n"
        "  rule: {kind: boxes, report: {person: 0.6}}\n"
    )
    documents: dict[str, list[dict[str, Any]]] = {}
    for name in ("proved", "heavy"):
        ran = called(home, "run", f"{name}.yaml", frames, "--out", home / name, "--json")
        assert ran.returncode == 0, ran.stderr
        lines = [json.loads(line) for line in (home / name / f"{name}.jsonl").read_text().splitlines()]
        documents[name] = [line for line in lines if line.get("outcome") == "result"]
        if name == "proved":
            assert "certified: misses at most 10 % of what people-ssdlite would flag, of each class" in ran.stderr
            (generation,) = json.loads(ran.stdout)["generations"].values()
            assert generation["certified"] is True
            assert "10 %" in generation["promise"]
        else:
            assert "uncertified" in ran.stderr
    assert all(line["certified"] for line in documents["proved"])
    assert not any(line["certified"] for line in documents["heavy"])
    copies = {line["seq"] for line in documents["heavy"]} & {sorted(p.name for p in frames.iterdir()).index("copy.jpg")}
    flagged = {name: {line["seq"] for line in lines if line["flagged"]} - copies for name, lines in documents.items()}
    proof, saving = calibrated["certificate"]["proof"], calibrated["certificate"]["saving"]
    assert len(flagged["heavy"]) == proof["positives"]
    assert len(flagged["heavy"] - flagged["proved"]) == proof["misses"]
    settled = [line for line in documents["proved"] if line["decided_by"] == "middle" and line["seq"] not in copies]
    assert len(settled) / calibrated["certificate"]["data"]["units"] == pytest.approx(saving["units"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("cascade.rule.clear_below=0.9", "rule.clear_below: is 0.9 here, and the certificate proves"),
        ("cascade.rule.confirm.person=0.5", 'rule.confirm: it was made with {"person": 0.6}, this is {"person": 0.5}'),
        ("cascade.heavy.runtime=onnxruntime", "onnxruntime"),
        ("cascade.cheap.view.crop=0.8", "cheap stage: it was made for the model"),
        ("cascade.heavy.model=open-nsfw", "knows no"),
        ("cascade.heavy=null", "there is no heavy stage"),
        ("cascade.certificate=c.yaml", "this is no certificate"),
        ("sources.clip.gate=motion", "take away the gate"),
    ],
)
def test_another_cascade_does_not_start(
    calibrated: dict[str, Any], home: Path, people_clip: Path, thresher_here: Thresher, change: str, words: str
) -> None:
    changed = ("--set", f"sources.clip.path={people_clip}", "--set", "sources.clip.kind=file", "--set", change)
    ran = thresher_here("run", home / "proved.yaml", *changed)
    assert ran.returncode == 2, ran.stderr
    assert words in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_too_few_positives_say_how_many_are_missing_and_nothing_of_the_misses(
    home: Path, frames: Path, project_here: Path, tmp_path: Path
) -> None:
    ran = called(home, "calibrate", "c.yaml", "--data", frames, "--max-miss", "0.01", "--out", tmp_path / "c", "--json")
    assert ran.returncode == 2, ran.stderr
    document = json.loads(ran.stdout)
    there = document["positives"]
    assert document["missing"] == {"positives": 299 - there}
    assert document["positives_needed_without_a_miss"] == 299
    assert f"{299 - there} more positives are missing: there are {there} among" in ran.stderr
    assert 1 - 0.05 ** (1 / there) == pytest.approx(document["provable_without_a_miss"])
    assert "curve" not in document and "certificate" not in document
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_film_with_its_frames_far_apart(home: Path, people_clip: Path, tmp_path: Path) -> None:
    words = ("--every", "1s", "--max-miss", "0.3", "--delta", "0.1", "--topped-up", "--out", tmp_path / "film.yaml")
    ran = called(home, "calibrate", "c.yaml", "--data", people_clip, *words)
    assert ran.returncode == 0, ran.stderr
    assert "tested      20 units (a frame, 1 s from the next)" in ran.stdout
    assert "What it does not say" in ran.stdout
    assert (tmp_path / "film.yaml").exists()


class TestWrongInput:
    def told(self, ran: Called) -> str:
        assert ran.returncode == 2, ran.stderr
        assert "Traceback" not in ran.stderr
        return " ".join(ran.stderr.split())

    def test_a_film_is_no_set_of_units(self, thresher_here: Thresher, people_clip: Path) -> None:
        said = self.told(thresher_here("calibrate", "people", "--data", people_clip))
        assert "not independent units" in said and "--every" in said

    def test_no_data(self, thresher_here: Thresher, tmp_path: Path) -> None:
        assert "no such folder" in self.told(thresher_here("calibrate", "people", "--data", "gone"))
        (tmp_path / "empty").mkdir()
        assert "holds no pictures" in self.told(thresher_here("calibrate", "people", "--data", "empty"))

    def test_a_truth_that_is_not_there(self, thresher_here: Thresher, frames: Path, tmp_path: Path) -> None:
        (tmp_path / "true.txt").write_text("people-0000.jpg\npeople-0001.jpg\n")
        said = self.told(thresher_here("calibrate", "people", "--data", frames, "--truth", "true.txt"))
        assert 'true.txt:2: there is no picture "people-0001.jpg"' in said
        assert "--truth" in self.told(thresher_here("calibrate", "people", "--data", frames, "--truth", "gone.txt"))

    def test_every_is_for_films(self, thresher_here: Thresher, frames: Path) -> None:
        assert "--every" in self.told(thresher_here("calibrate", "people", "--data", frames, "--every", "2s"))

    @pytest.mark.parametrize("rate", ["0", "1", "1.5", "-0.1", "few"])
    def test_a_rate_that_is_none(self, thresher_here: Thresher, frames: Path, rate: str) -> None:
        assert "--max-miss" in self.told(thresher_here("calibrate", "people", "--data", frames, "--max-miss", rate))

    def test_a_cascade_that_is_none(self, thresher_here: Thresher, frames: Path) -> None:
        assert 'Did you mean "people"' in self.told(thresher_here("calibrate", "peple", "--data", frames))

    def test_a_single_model(self, thresher_here: Thresher, frames: Path) -> None:
        words = ("--set", "cascade.cheap.runtime=openvino", "--set", "cascade.cheap.precision=f32")
        (Path.cwd() / "one.yaml").write_text("cascade: {cheap: {model: people-ssdlite}}")
        assert "no heavy stage" in self.told(thresher_here("calibrate", "one.yaml", "--data", frames, *words))

    def test_nowhere_to_write(self, thresher_here: Thresher, frames: Path, tmp_path: Path) -> None:
        for out in (tmp_path, tmp_path / "no" / "c.yaml"):
            assert "--out" in self.told(thresher_here("calibrate", "people", "--data", frames, "--out", out))

    def test_only_pictures_that_cannot_be_read(self, thresher_here: Thresher, home: Path, tmp_path: Path) -> None:
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "a.jpg").write_bytes(b"no picture")
        said = self.told(thresher_here("calibrate", home / "c.yaml", "--data", "bad"))
        assert "holds no picture that can be decoded" in said
