"""A config as it was written: lines, references, `--set`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.app.config.document import Document, read
from pipeline.core.errors import InputError
from pipeline.core.secrets import redact


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_part_knows_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "sources:\n  door:\n    kind: rtsp\n    url: rtsp://cam\nlist:\n  - a\n  - b\n")
    document = read(path)
    assert document.data == {"sources": {"door": {"kind": "rtsp", "url": "rtsp://cam"}}, "list": ["a", "b"]}
    assert document.place(("sources", "door", "url")) == f"{path}:4: sources.door.url"
    assert document.place(("sources", "door", "absent")) == f"{path}:2: sources.door.absent"
    assert document.place(("list", "1")) == f"{path}:7: list.1"
    assert document.place(("events",)) == f"{path}: events"


def test_comments_may_stand_anywhere(tmp_path: Path) -> None:
    text = "# all\na:   # where\n  results/x  # why\n\n\nb:   # where\n  results/y\n\n# end\nc: [1,  # one\n  2]\n"
    document = read(write(tmp_path, text))
    assert document.data == {"a": "results/x", "b": "results/y", "c": [1, 2]}
    assert document.place(("c", "1")).endswith("config.yaml:11: c.1")


def test_yaml_1_2_takes_no_for_a_word_and_keeps_leading_zeros_decimal(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a: no\nb: 010\nc: 1.5\nd: true\ne: ~\nf: 0x10\n")).data == {
        "a": "no",
        "b": 10,
        "c": 1.5,
        "d": True,
        "e": None,
        "f": 16,
    }


def test_an_anchor_saves_typing_and_its_copies_are_apart(tmp_path: Path) -> None:
    document = read(write(tmp_path, "a: &x {n: 1, in: {m: 2}}\nb:\n  <<: *x\n  n: 3\n"))
    document.set("a.in.m=5")
    assert document.data["b"] == {"n": 3, "in": {"m": 2}}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 'the key "a" stands here twice'),
        ("a: {b: 1\n", 2, "expected"),
        ("a: [1\nb: 2\n", 2, "expected"),
        ("a: 'x\n", 2, "found unexpected end of stream"),
    ],
)
def test_broken_yaml_names_its_line(tmp_path: Path, text: str, line: int, word: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=word) as caught:
        read(path)
    assert caught.value.place == f"{path}:{line}"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"- a\n- b\n", "mapping"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"a: " + b"x" * (5 << 20), "too large"),
        (b"a: !!bool foo\n", "cannot be read"),
        (b"a: !!int ''\n", "cannot be read"),
    ],
)
def test_what_is_no_config_is_told_so(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        read(path)
    assert caught.value.place == str(path)


def test_anchors_that_multiply_are_stopped(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(InputError, match="too large"):
        read(write(tmp_path, "\n".join(lines)))


def test_references_are_filled_from_environment_and_files_and_kept_secret(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("tok3n-value\n")
    document = read(write(tmp_path, f"a: rtsp://u:${{PASS}}@h\nb: ['${{file:{secret}}}', 1]\nc: $${{KEPT}}\n"))
    assert document.resolve({"PASS": "s3cretpw"}) == {}
    assert document.data == {"a": "rtsp://u:s3cretpw@h", "b": ["tok3n-value", 1], "c": "${KEPT}"}
    assert redact("s3cretpw and tok3n-value") == "*** and ***"


def test_a_file_may_lie_where_the_service_manager_says(tmp_path: Path) -> None:
    (tmp_path / "camera").write_text("s3same\n")
    document = Document({"a": "${file:$CREDENTIALS_DIRECTORY/camera}", "b": "${file:$NOWHERE/x}"}, tmp_path)
    mistakes = document.resolve({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert document.data["a"] == "s3same"
    assert redact("it is s3same") == "it is ***"
    assert list(mistakes) == [("b",)]


def test_every_reference_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a:\n  b: ${NOT_SET}\nc: ${file:/no/such/file}\nd: ${EMPTY}\n")
    errors = read(path).resolve({"EMPTY": ""})
    assert list(errors) == [("a", "b"), ("c",), ("d",)]
    assert [str(error) for error in errors.values()] == [
        f"{path}:2: a.b: the environment variable NOT_SET is not set",
        f"{path}:3: c: the file /no/such/file of ${{file:/no/such/file}}: No such file or directory",
        f"{path}:4: d: the environment variable EMPTY is empty",
    ]


def test_set_changes_adds_and_takes_away() -> None:
    document = Document({"sources": {"front.door": {"max_fps": 5}}, "list": [{"a": 1}]}, Path())
    for assignment in (
        "sources.front.door.max_fps=7.5",
        "sources.front.door.gate={kind: motion}",
        "sinks.log.path=a=b.jsonl",
        "list.0.a=[1, 2]",
        "events=null",
    ):
        document.set(assignment)
    assert document.data == {
        "sources": {"front.door": {"max_fps": 7.5, "gate": {"kind": "motion"}}},
        "list": [{"a": [1, 2]}],
        "sinks": {"log": {"path": "a=b.jsonl"}},
        "events": None,
    }
    assert document.place(("sources", "front.door", "max_fps")) == "--set sources.front.door.max_fps"


@pytest.mark.parametrize("bad", ["", "x", "=1", "a.b.c=1", "list.7=1", "list.x=1", "a={"])
def test_a_bad_assignment_is_a_mistake_of_that_option(bad: str) -> None:
    with pytest.raises(InputError) as caught:
        Document({"a": {"b": 1}, "list": [0]}, Path()).set(bad)
    assert caught.value.place.startswith("--set")


@given(st.dictionaries(st.text("ab.", min_size=1), st.integers()), st.text())
def test_set_only_ever_raises_what_people_can_read(data: dict[str, int], assignment: str) -> None:
    document = Document({"s": dict(data)}, Path())
    with contextlib.suppress(InputError):
        document.set(assignment)
