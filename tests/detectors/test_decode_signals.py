"""From frames to spans of sound, and from a byte to the word that was written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.decode import decoder
from detectors.manifest import Manifest
from detectors.rules.picking import above
from detectors.text.decode import passage
from pipeline.core.errors import InputError, StageError
from pipeline.core.sound import Sound, SoundSpec
from pipeline.core.text import Text, TextSpec

HEARS = SoundSpec(1000, 1000)


def manifest(view: dict[str, Any], kind: str, labels: list[str]) -> Manifest:
    return Manifest.model_validate(
        {
            "name": "m", "task": "detection", "weights": {"file": "m.onnx", "sha256": "0" * 64, "format": "onnx"},
            "view": view, "output": {"kind": kind, "score_floor": 0.1}, "labels": labels, "licence": "MIT",
        }
    )  # fmt: skip


def frames(runs: list[tuple[int, int, int, float]], count: int = 20, labels: int = 2) -> np.ndarray:
    """Probabilities in which class `kind` is heard from `first` to `last`, that sure."""
    out = np.full((count, labels + 1), 0.02, np.float32)
    out[:, 0] = 1 - 0.02 * labels
    for first, last, kind, sure in runs:
        out[first:last] = (1 - sure) / labels
        out[first:last, kind] = sure
    return out


def read(given: np.ndarray) -> Any:
    found = decoder(manifest({"rate": 1000, "samples": 1000}, "frames", ["yes", "no"]))
    view = Sound(np.zeros(1000, np.float32), 1000, 5_000_000_000).view(HEARS)
    return found.read({"frames": given[None]}, [view])[0]


def test_a_run_of_frames_is_one_finding_with_its_time() -> None:
    found = read(frames([(4, 8, 1, 0.9), (12, 18, 2, 0.8)]))
    assert [found.labels[k] for k in found.classes] == ["yes", "no"]
    assert found.spans.tolist() == [[5_200_000_000, 5_400_000_000], [5_600_000_000, 5_900_000_000]]
    assert found.scores == pytest.approx([0.9, 0.8])
    assert found.placed and found.score([0]) == pytest.approx(0.9)


def test_a_lone_frame_is_none_and_a_short_gap_parts_nothing() -> None:
    assert len(read(frames([(7, 8, 1, 0.6)])).scores) == 0
    joined = read(frames([(4, 7, 1, 0.95), (8, 11, 1, 0.95)]))
    assert len(joined.scores) == 1 and joined.spans.tolist() == [[5_200_000_000, 5_550_000_000]]


def test_numbers_that_mean_nothing_fail() -> None:
    with pytest.raises(StageError, match="not finite"):
        read(np.full((20, 3), np.nan, np.float32))
    with pytest.raises(InputError, match="frames"):
        decoder(manifest({"rate": 1000, "samples": 1000}, "frames", ["yes"])).check({"frames": (None, 20, 3)})


@pytest.mark.parametrize(
    ("raw", "word", "offset"),
    [
        ("you are an Idiot!", "Idiot!", 0),
        ("you idiot, idiot", "idiot", 0),
        ("hi https://a.b/c you f.o.o.l ok", "f.o.o.l", 0),
        ("你好 idiot", "idiot", 100),
    ],
)
def test_a_byte_leads_to_the_word_as_it_was_written(raw: str, word: str, offset: int) -> None:
    text = Text(raw, offset=offset)
    plain = text.plain
    stem = b"fool" if "f.o" in word else word.lower().encode()
    span = passage(text, plain.rindex(stem[:4]) + 2)
    assert span is not None
    said = raw[span[0] - offset : span[1] - offset]
    assert said.startswith(word[:4]) and len(said) <= len(word) + 1


def test_of_two_words_that_read_alike_the_one_asked_about_is_told() -> None:
    text = Text("sh1t happens, oh shit")
    assert text.plain == b"shit happens, oh shit"
    assert passage(text, 1) == (0, 4) and passage(text, 18) == (17, 21)


def test_a_link_is_told_whole() -> None:
    text = Text("hi https://a.b/c you", offset=50)
    assert passage(text, 3) == (53, 66)
    assert passage(Text("hi https://a.b/c "), 3) == (3, 16), "also where nothing follows"
    rare = Text("\ufdfa")  # one character that reads as four words
    assert [passage(rare, n) for n in (0, 12, 30)] == [(0, 1)] * 3


def test_what_was_said_before_is_not_in_this_message() -> None:
    assert passage(Text("hello"), 40) is None
    assert passage(Text("a b"), 1) == (0, 1)  # where a word ended


def test_where_a_message_says_so_is_looked_up_when_it_is_asked_for() -> None:
    found = decoder(manifest({"length": 32}, "passages", ["neither", "rude"]))
    text = Text("you fool")
    tensors = {"scores": np.array([[0.1, 0.9]], np.float32), "places": np.array([[0, 5]], np.int32)}
    (rude,) = found.read(tensors, [text.view(TextSpec(32))])
    assert not rude.placed and rude.score([0, 1]) == pytest.approx(1.0)
    assert [one.chars for one in above(rude, {"rude": 0.5, "neither": 0.05})] == [(4, 8), (0, 3)]
    (bare,) = found.read({"scores": tensors["scores"]}, [text.view(TextSpec(32))])
    assert [one.chars for one in above(bare, {"rude": 0.5})] == [None]
