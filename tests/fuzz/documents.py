"""Targets: what people write and programs keep, as documents and tables."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from detectors.calibration.audit import AuditPlan
from detectors.calibration.audit_state import AuditState, StateFile
from detectors.calibration.certificate import _seal, load_certificate
from detectors.datasets import read_dataset
from detectors.datasets.base import mask_of
from detectors.datasets.headers import size_of
from detectors.evaluation.scores import load_scores
from detectors.manifest import read_manifest
from pipeline.app.config.document import Document, read
from pipeline.app.config.load import load
from pipeline.app.config.mistakes import Mistakes
from pipeline.core.errors import InputError
from pipeline.core.letters import letter_of
from pipeline.core.outages import Outage
from pipeline.core.pictures import BadPicture, encode
from pipeline.core.records import Detection, Failed, Result, Window
from pipeline.engine.policy_settings import PolicySettings
from sinks.journal import Journal
from tests.fuzz.target import Target, scratch, written

ROOT = Path(__file__).resolve().parents[2]


def as_json(text: str) -> bytes:
    return json.dumps(YAML(typ="safe", pure=True).load(text), default=str).encode()


# Configs.


def config(data: bytes) -> None:
    document = read(written(data, "config.yaml"))
    mistakes = Mistakes(document)
    load(document, mistakes)
    mistakes.raise_if_any()


def configs() -> list[bytes]:
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "configs").glob("*.yaml"))]
    return [text.encode() for text in texts] + [as_json(text) for text in texts]


def assignment(data: bytes) -> None:
    made = {"sources": {"door": {"kind": "file", "list": [1, {"a": None}]}, "a.b": {}}, "cascade": None}
    document = Document(made, Path("/"))
    document.set(data.decode("utf-8", "surrogateescape"))
    list(document.names)


def reference(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    document = Document({"a": text, "b": [{"c": text}]}, Path("/"))
    mistakes = document.resolve({"CAM_URL": "rtsp://u:p@h/x", "EMPTY": ""})
    assert all(isinstance(error, InputError) for error in mistakes.values())


def policy(data: bytes) -> None:
    document = Document({"policy": json.loads(data)}, Path("/"))
    mistakes = Mistakes(document)
    mistakes.model(PolicySettings, document.data["policy"], ("policy",))
    mistakes.raise_if_any()


def policies() -> list[bytes]:
    shown = [YAML(typ="safe").load(path.read_text()) for path in sorted((ROOT / "configs").glob("*.yaml"))]
    return [json.dumps(one["policy"]).encode() for one in shown if "policy" in one]


# Models and proofs.


def manifest(data: bytes) -> None:
    read_manifest(written(data, "manifest.yaml"))


def manifests() -> list[bytes]:
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "detectors" / "zoo").glob("*/manifest.yaml"))]
    return [text.encode() for text in texts] + [as_json(text) for text in texts]


def certificate(data: bytes) -> None:
    """Sealed anew where it is JSON: the seal keeps nobody out who means it."""
    try:
        document = json.loads(data)
        document["seal"] = _seal({name: value for name, value in document.items() if name != "seal"})
        data = json.dumps(document).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    load_certificate(written(data, "certificate.yaml"))


def certificates() -> list[bytes]:
    found = sorted(ROOT.glob("detectors/zoo/**/*certificate*.yaml")) + sorted(
        ROOT.glob("pipeline/app/demo/**/*certif*")
    )
    stage = {"name": "m", "model": "m", "version": "1", "sha256": "a" * 64, "fingerprint": "b" * 64,
             "runtime": "openvino", "precision": "bf16", "view": "8×8"}  # fmt: skip
    made = {
        "created": "2026-01-31T12:00:00+00:00", "program": "thresher 0.1.0", "cheap": stage, "heavy": stage,
        "rule": {"kind": "scores", "settings": {"watch": ["odd"], "clear_below": 0.1}, "calibrated": "clear_below"},
        "data": {"source": "parts", "split": "held out", "unit": "a picture", "units": 900, "digest": "d" * 64},
        "proof": {"test": "exact", "alpha": 0.02, "delta": 0.05, "positives": 400, "misses": 1, "negatives": 500,
                  "false_alarms": 0, "evidence": 1e-7},
        "saving": {"units": 0.8, "heavy_time": -0.2}, "seal": "",
    }  # fmt: skip
    return [path.read_bytes() for path in found] + [json.dumps(made).encode()]


def audit(data: bytes) -> None:
    state = StateFile(written(data, "audit.json")).read()
    assert state is not None
    AuditState.from_document(json.loads(json.dumps(state.to_document())))


def audits() -> list[bytes]:
    plan = AuditPlan(alpha=0.02, delta=0.05, p_min=0.05, p_ref=0.05)
    fresh = AuditState.fresh("people@1", plan, 50.0, 0.5)
    return [json.dumps(fresh.to_document()).encode()]


# Tables and data sets.


@cache
def pictures() -> dict[str, bytes]:
    pixels = np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    black = np.zeros((30, 40), np.uint8)
    black[10:15, 10:20] = 255
    return {"jpg": encode(pixels, "jpg"), "mask": encode(black, "png")}


_NAMES = b"train: images/train\nval:\nnames: [scratch, dent]\n"
_FIXED = {"test.txt": b"g/a.jpg g/a.txt\n", "g/a.txt": b"1 2 30 20 1\n", "labels/train/1.txt": b"0 0.5 0.5 0.2 0.2\n"}


def dataset(data: bytes, *, kind: str, fixed: Sequence[str] = (), file: str) -> None:
    folder = scratch() / kind
    for name in fixed:
        if not (folder / name).exists():
            written(_FIXED.get(name) or pictures()["jpg"], f"{kind}/{name}")
    if kind == "yolo" and file != "data.yaml":
        written(_NAMES, "yolo/data.yaml")
    written(data, f"{kind}/{file}")
    found = read_dataset(folder, kind)
    for sample in found.samples:
        assert sample.name and (sample.boxes is None or np.isfinite(sample.boxes).all())
        if sample.classes is not None:
            assert ((sample.classes >= 0) & (sample.classes < len(found.labels))).all()
        if kind == "masks" and sample.mask is not None:
            mask_of(sample)


def coco() -> list[bytes]:
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 40, "height": 30} for number in (1, 2)]
    labels = [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 20], "iscrowd": 0, "score": 0.7}]
    labels += [
        {"image_id": 2, "category_id": 7, "segmentation": [[1, 1, 5, 5, 9, 1]], "area": 9.5, "bbox": [0, 0, 4, 4]}
    ]
    kinds = [{"id": 7, "name": "dent"}, {"id": 3, "name": "scratch", "supercategory": "x"}]
    return [json.dumps({"images": images, "annotations": labels, "categories": kinds}).encode()]


def spoken(data: bytes) -> None:
    folder = scratch() / "spoken"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name in data.split(b"/")[:4]:
        if name.replace(b"\0", b"") not in (b"", b".", b".."):
            path = bytes(folder) + b"/" + name.replace(b"\0", b"")[:200] + b".wav"
            with open(path, "wb") as file:
                file.write(b"x")
    read_dataset(folder, "spoken")


def scores(data: bytes) -> None:
    load_scores(written(gzip.compress(data, 1), "scores.gz"))


def raw_scores(data: bytes) -> None:
    load_scores(written(data, "raw.gz"))


def score_lines() -> list[bytes]:
    header = {"format": "thresher-scores", "version": 1, "model": "m", "model_version": "1", "data": "d", "split": "",
              "parts": "as it is", "cheap": ["odd"], "heavy": ["bad"], "labels": ["good", "bad"],
              "rule": {"kind": "scores"}, "tile": None}  # fmt: skip
    answer = {"s": [0.25, 1.0], "c": [0, 0], "b": [[0, 1, 2.5, 3], [1, 1, 2, 2]], "t": 0.01}
    unit = {"name": "eins", "group": "g", "size": [64, 48], "defects": 1, "boxes": [[1, 2, 3, 4]], "classes": [1],
            "cheap": answer, "heavy": [[None, answer], [[0, 0, 32, 32], answer]]}  # fmt: skip
    lines = [json.dumps(one) for one in (header, unit, unit, {"units": 2})]
    return ["\n".join(lines).encode() + b"\n"]


def journal(data: bytes) -> None:
    assert all(isinstance(entry, dict) for entry in Journal(written(data, "journal")).read())


def header(data: bytes) -> None:
    width, height = size_of(written(data, "picture"))
    assert width > 0 and height > 0


def letter(data: bytes) -> None:
    """Whatever a message, a label or an error may hold can be written down and read again."""
    text = data.decode("utf-8", "surrogateescape")
    window = Window(text[:9], "01K", len(text), 0, 1, 0, 0, text)
    found = (Detection(text, 0.5, (0.0, 1.0, float(len(text)), 2.0), chars=(0, len(text))),)
    items = Result(window, 1, "m", text, found, True), Failed(window, 1, text), Outage(text, "lost", 0, len(text))
    for item in items:
        made = letter_of(item)
        assert made == letter_of(item) and made.body.decode()
        assert isinstance(made.document, dict)


def words() -> list[bytes]:
    return [b"plain", "Straße 憎 \U0001f6b6".encode(), b"\xff\xfe\0\x1b[31m", b'{"a": "\\ud800"}', b"a\xed\xa0\x80b"]


_bad = (InputError, OSError)
_YOLO = ("images/train/1.jpg", "images/train/2.jpg")

DOCUMENTS = [
    Target("config", config, configs, (InputError,), documents=True),
    Target("set", assignment, lambda: [b"sources.door.max_fps=5", b"sources.a.b.x=[1, {a: b}]", b"a.list.1.a=null"],
           (InputError,)),
    Target("reference", reference, lambda: [b"${CAM_URL}", b"$${x} ${EMPTY}", b"${file:/nowhere/x}"]),
    Target("policy", policy, policies, (InputError, ValueError, RecursionError), documents=True),
    Target("manifest", manifest, manifests, (InputError,), documents=True),
    Target("certificate", certificate, certificates, (InputError,), documents=True),
    Target("audit-state", audit, audits, (InputError,), documents=True),
    Target("coco", partial(dataset, kind="coco", fixed=("images/1.jpg", "images/2.jpg"), file="annotations.json"), coco,
           _bad, documents=True),
    Target("yolo-names", partial(dataset, kind="yolo", fixed=(*_YOLO, "labels/train/1.txt"), file="data.yaml"),
           lambda: [_NAMES, b"path: .\nnames: {0: a}\nnc: 1\n"], _bad),
    Target("yolo-labels", partial(dataset, kind="yolo", fixed=_YOLO, file="labels/train/1.txt"),
           lambda: [b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n", b"0 0.1 0.1 0.9 0.1 0.9 0.9\n"], _bad),
    Target("deeppcb-labels", partial(dataset, kind="deeppcb", fixed=("g/a_test.jpg", "g/a_temp.jpg", "test.txt"),
           file="g/a.txt"), lambda: [b"1 2 30 20 1\n4,5,8,9,6\n"], _bad),
    Target("deeppcb-list", partial(dataset, kind="deeppcb", fixed=("g/a_test.jpg", "g/a_temp.jpg", "g/a.txt"),
           file="test.txt"), lambda: [b"g/a.jpg g/a.txt\n"], _bad),
    Target("masks", partial(dataset, kind="masks", fixed=("MT_Free/2.jpg", "MT_Crack/1.jpg"), file="MT_Crack/1.png"),
           lambda: [pictures()["mask"]], (*_bad, BadPicture)),
    Target("messages-csv", partial(dataset, kind="messages", file="a.csv"),
           lambda: [b'class,text,group\nhate,"a, ""b""",g\nnone,hello\n,x,y\n', b"\xef\xbb\xbftext,class\r\na,b\r\n"],
           _bad),
    Target("spoken", spoken, lambda: [b"yes_anna_1/no_bob_2/x", b"a_b_c/a_b"], _bad),
    Target("scores", scores, score_lines, (InputError,), documents=True),
    Target("scores-gzip", raw_scores, lambda: [gzip.compress(line, mtime=0) for line in score_lines()], (InputError,)),
    Target("journal", journal, lambda: [b'\n{"a": 1}\n{"b": [1, 2]}', b'\n{"a": "\xc3'], (OSError,)),
    Target("headers", header, lambda: list(pictures().values()), (BadPicture,)),
    Target("letters", letter, words),
]  # fmt: skip
