"""Whatever is wrong with what a person gave: status 2, one line a mistake that names the place, never a traceback."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from calling import Called, Thresher


def told(ran: Called) -> list[str]:
    """The lines on standard error, after checking what holds for every mistake."""
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr + ran.stdout
    lines = ran.stderr.splitlines()
    return [line.removeprefix("thresher: ") for line in lines if line.startswith("thresher: ")]


def config(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("sources:\n  a: {kind: file, path: CLIP}\nsauces: {}", "c.yaml:3: sauces", 'Did you mean "sources"?'),
        ("sources:\n  a: {kind: file, path: CLIP, max_fsp: 3}", "c.yaml:2: sources.a.max_fsp", '"max_fps"'),
        ("sources:\n  a: {kind: file, path: CLIP, max_fps: fast}", "c.yaml:2: sources.a.max_fps", "number"),
        ("sources:\n  a: {kind: file, path: CLIP, in_flight: 0}", "c.yaml:2: sources.a.in_flight", "not 0"),
        ("sources:\n  a: {kind: fiel, path: CLIP}", "c.yaml:2: sources.a.kind", 'Did you mean "file"?'),
        ("sources:\n  a: {path: CLIP}", "c.yaml:2: sources.a", "kind"),
        ("sources:\n  a: {kind: line, path: .}", "c.yaml:2: sources.a", "say how parts come"),
        ("sources:\n  a: {kind: line, path: ., fps: 5, trigger: folder}", "c.yaml:2: sources.a", "`fps` is for lines"),
        ("sources:\n  a: {kind: line, path: gone, fps: 5}", "c.yaml:2: sources.a", "gone"),
        ("sources:\n  a: {kind: line, trigger: http, listen: x}", "c.yaml:2: sources.a.listen", "host:port"),
        (
            "sources:\n  a: {kind: file, path: CLIP}\nsinks:\n  d: {kind: doubts, band: [1]}",
            "c.yaml:4: sinks.d.band",
            "needed",
        ),
        ("sources:\n  a: {kind: file, path: CLIP}\nsinks:\n  d: {kind: rejects, path: c.yaml}", "sinks.d", "no folder"),
        (
            "sources:\n  a: {kind: file, path: CLIP}\nevents:\n  zones:"
            "\n    g: {stream: b, polygon: [[0, 0], [1, 0], [1, 1]]}",
            "c.yaml:5: events.zones.g.stream",
            'there is no stream "b"',
        ),
        (
            "sources:\n  a: {kind: file, path: CLIP}\nevents:\n  zones:\n    g: {polygon: [[0, 0], [640, 0], [1, 1]]}",
            "c.yaml:5: events.zones.g.polygon.1.0",
            "less than or equal to 1",
        ),
        (
            "sources:\n  a: {kind: file, path: CLIP}\nevents:\n  zones:"
            "\n    g: {polygon: [[0, 0], [1, 0], [1, 1]], dwell_s: 1}",
            "c.yaml:5: events.zones.g.dwell_s",
            '"min_dwell_s"',
        ),
        (
            "sources:\n  a: {kind: file, path: CLIP}\nevents:\n  lines: {d: {points: [[0, 0], [1, 1]]}}",
            "events",
            "set `track: true`",
        ),
        (
            "sources:\n  a: {kind: file, path: CLIP}\ncascade: people\nevents: {open_at: {persn: 0.8}}",
            "c.yaml:4: events.open_at.persn",
            'Did you mean "person"?',
        ),
        (
            "sources:\n  a: {kind: file, path: CLIP, isolation: process}\nsinks:\n  e: {kind: clip}",
            "c.yaml:2: sources.a.isolation",
            'the sink "e" cuts clips',
        ),
        ("sources:\n  a: {kind: file}", "c.yaml:2: sources.a.path", "is needed"),
        (
            "sources:\n  a: {kind: http, listen: 7000}\n  b: {kind: websocket, listen: '0.0.0.0:7000'}",
            "c.yaml:3: sources.b.listen",
            'the source "a" listens at port 7000 already',
        ),
        (
            "sources:\n  a: {kind: line, trigger: http, listen: 7000}\nmetrics: {listen: 7000}",
            "c.yaml:3: metrics.listen",
            'the source "a" listens',
        ),
        ("sources:\n  a: {kind: irc, server: 169.254.169.254, channels: [x]}", "c.yaml:2: sources.a", "link-local"),
        (
            "sources:\n  a: {kind: file, path: CLIP}\nnetwork: {deny: [10.0.0.300]}",
            "c.yaml:3: network.deny",
            "network like",
        ),
        ("sources:\n  a: CLIP", "c.yaml:2: sources.a", "mapping"),
        ("sources:\n  'a b': {kind: file, path: CLIP}", "c.yaml:2: sources.a b", "letters"),
        ("sources:\n  a: {kind: file, path: gone.mp4}", "c.yaml:2: sources.a", "gone.mp4"),
        ("sources:\n  a: {kind: rtsp, url: 'rtps://h/x'}", "c.yaml:2: sources.a", "rtsp"),
        ("sources:\n  a: {kind: rtsp, url: 'rtsp://h:port/x'}", "c.yaml:2: sources.a", "URL"),
        ("sources:\n  a: {kind: rtsp, url: '${NO_SUCH_VARIABLE}'}", "c.yaml:2: sources.a.url", "NO_SUCH_VARIABLE"),
        ("sources:\n  a: {kind: file, path: CLIP, gate: moton}", "c.yaml:2: sources.a.gate", "motion"),
        ("sources:\n  a: {kind: file, path: CLIP, gate: {kind: motion, treshold: 3}}", "gate.treshold", "threshold"),
        ("sources:\n  a: {kind: file, path: CLIP}\ncascade: peple", "c.yaml:3: cascade", '"people"'),
        ("sources:\n  a: {kind: file, path: CLIP, cascade: peple}", "c.yaml:2: sources.a.cascade", '"people"'),
        (
            "sources:\n  a: {kind: file, path: CLIP}\ncascade: {cheap: {model: people-ssdlit}}",
            "c.yaml:3",
            "people-ssdlite",
        ),
        ("sources:\n  a: {kind: file, path: CLIP}\ncascade: {cheap: {}}", "c.yaml:3: cascade.cheap.model", "needed"),
        (
            "sources:\n  a: {kind: file, path: CLIP}\ncascade: {base: people, cheap: {model: gone.onnx}}",
            "c.yaml:3: cascade.cheap",
            "gone.onnx",
        ),
        (
            "sources:\n  a: {kind: file, path: CLIP}\n"
            "cascade: {cheap: {model: people-ssdlite}, rule: {kind: boxes, report: {persn: 0.5}}}",
            "c.yaml:3: cascade.rule",
            "person",
        ),
        (
            "sources:\n  a: {kind: file, path: CLIP}\nevents: {start_aftr: 2}",
            "c.yaml:3: events.start_aftr",
            "start_after",
        ),
        ("sources:\n  a: {kind: file, path: CLIP}\nsinks:\n  l: {kind: jsn}", "c.yaml:4: sinks.l.kind", "jsonl"),
        (
            "sources:\n  a: {kind: file, path: CLIP}\nsinks:\n  l: {kind: jsonl, path: /proc/x.jsonl}",
            "/proc/x.jsonl",
            "cannot be written",
        ),
        (
            "sources:\n  a: {kind: file, path: CLIP}\nmetrics: {listen: nowhere}",
            "c.yaml:3: metrics.listen",
            "host:port",
        ),
        *(
            (f"sources:\n  a: {{kind: file, path: CLIP}}\npolicy:\n  {text}", place, words)
            for text, place, words in (
                ("show: x", "c.yaml:3: policy.rules", "is needed"),
                ("rules: [{name: r, when: [{label: person}], action: blurr}]", "policy.rules.0.action", '"blur"'),
                (
                    "rules: [{name: r, when: [{label: person, lable: x}], action: blur}]",
                    "policy.rules.0.when.0.lable",
                    '"label"',
                ),
                ("rules: [{name: r, when: [{label: persn}], action: blur}]", "rules.0.when.0.label", '"person"'),
                (
                    "rules: [{name: r, when: [{label: cat, stream: a}], action: blur}]",
                    "c.yaml:4: policy.rules.0.when.0.label",
                    'what judges a reports no "cat". Known: person, unsafe.',
                ),
                (
                    "rules: [{name: r, when: [{label: person, at_least: 2}], action: blur}]",
                    "rules.0.when.0.at_least",
                    "1, not 2",
                ),
                (
                    "rules: [{name: r, when: [{label: person, stream: aa}], action: blur}]",
                    "policy.rules.0.when.0.stream",
                    'Did you mean "a"?',
                ),
                (
                    "rules: [{name: r, when: [{label: person}], action: blur, targets: [a, chat]}]",
                    "policy.rules.0.targets.1",
                    'there is no stream "chat". Known: a.',
                ),
                (
                    "rules: [{name: r, when: [{label: person}], action: blur}]\n  streams: {a: {ofset_ms: 3}}",
                    "c.yaml:5: policy.streams.a.ofset_ms",
                    '"offset_ms"',
                ),
                (
                    "rules: [{name: r, when: [{label: person}], action: blur}]\n  streams: {b: }",
                    "c.yaml:5: policy.streams.b",
                    "no stream",
                ),
            )
        ),
        ("sources: {a: 1", "c.yaml:1", "expected"),
        ("sources: {}", "c.yaml", "nothing to watch"),
    ],
)
def test_a_mistake_in_a_config(
    thresher_here: Thresher, tmp_path: Path, people_clip: Path, text: str, place: str, words: str
) -> None:
    path = config(tmp_path, text.replace("CLIP", str(people_clip)))
    lines = told(thresher_here("run", path.name))
    assert len(lines) == 1, lines
    assert place in lines[0] and words in lines[0], lines[0]


def test_all_mistakes_are_told_at_once(thresher_here: Thresher, tmp_path: Path) -> None:
    path = config(
        tmp_path,
        "sources:\n  a: {kind: file, path: gone.mp4, max_fsp: 1}\n  b: {kind: rtsp, url: '${UNSET_HERE}'}\n"
        "cascade: {cheap: {model: nope}}\nsinks:\n  l: {kind: jsonl, path: /dev/null/x}\nextra: 1\n",
    )
    lines = told(thresher_here("validate", path.name))
    for place in (
        "c.yaml:2: sources.a.max_fsp",
        "c.yaml:3: sources.b.url",
        "c.yaml:4: ",
        "c.yaml:6: ",
        "c.yaml:7: extra",
    ):
        assert sum(place in line for line in lines) == 1, (place, lines)


def test_validate_tells_a_program_the_same(thresher_here: Thresher, tmp_path: Path) -> None:
    import json

    path = config(tmp_path, "sources:\n  a: {kind: fil}\n")
    ran = thresher_here("validate", path.name, "--json")
    document = json.loads(ran.stdout)
    assert ran.returncode == 2
    assert document["valid"] is False
    assert document["mistakes"][0]["place"] == "c.yaml:2: sources.a.kind"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rum", "x.mp4"], 'there is no command "rum". Did you mean "run"?'),
        (["run", "--detct", "people", "x"], 'there is no option "--detct". Did you mean "--detect"?'),
        (["run"], "TARGET"),
        (["run", "--for", "soon", "x.mp4"], "30s"),
        (["run", "nosuch.mp4"], "nosuch.mp4: there is no such file"),
        (["run", "clp.mp4"], 'Did you mean "clip.mp4"?'),
        (["run", "rtsp:/cam/x"], "rtsp:/cam/x"),
        (["run", "rtps://cam/x"], 'Did you mean "rts'),
        (
            ["run", "clip.mp4", "--detect", "poeple"],
            '--detect: there is no cascade or model "poeple". Did you mean "people"?',
        ),
        (["run", "clip.mp4", "--detect", "none.onnx"], "none.onnx"),
        (["run", "clip.mp4", "--set", "sources.clip.max_fsp=3"], "--set sources.clip.max_fsp"),
        (["run", "clip.mp4", "--set", "nonsense"], "KEY=VALUE"),
        (["run", "clip.mp4", "--out", "clip.mp4"], "clip.mp4"),
        (["run", "clip.mp4", "--metrics", "nowhere"], "--metrics"),
        (["run", "a.yaml", "b.yaml"], "one config at a time"),
        (["run", "a.yaml"], "a.yaml: No such file"),
        (["models", "show", "open-nsf"], '"open-nsfw"'),
        (["completion", "tcsh"], "bash"),
        (["bench", "engin"], '"engine"'),
    ],
)
def test_a_mistake_on_the_command_line(
    thresher_here: Thresher, tmp_path: Path, people_clip: Path, words: list[str], expected: str
) -> None:
    (tmp_path / "clip.mp4").symlink_to(people_clip)
    lines = told(thresher_here(*words))
    assert len(lines) == 1, lines
    assert expected in lines[0]


def png_bomb(path: Path, side: int = 12_000) -> None:
    """A grey PNG of `side`² pixels in about 140 KB, most of a gigabyte once it is unpacked as colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(side + 1) * side, 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


@pytest.mark.parametrize("kind", ["zero", "noise", "text", "cut", "bomb"])
def test_a_file_that_cannot_be_watched(thresher: Thresher, tmp_path: Path, people_clip: Path, kind: str) -> None:
    path = tmp_path / ("bad.png" if kind == "bomb" else "bad.mp4")
    match kind:
        case "zero":
            path.touch()
        case "noise":
            path.write_bytes(bytes((i * 7919) % 251 for i in range(100_000)))
        case "text":
            path.write_text("this is no film\n" * 100)
        case "cut":
            path.write_bytes(people_clip.read_bytes()[:200])
        case "bomb":
            png_bomb(path)
            assert path.stat().st_size < 200_000
    lines = told(thresher("run", path.name))
    assert len(lines) == 1, lines
    assert path.name in lines[0]
    assert not list((tmp_path / "results").glob("*.mp4"))


def test_a_bomb_among_pictures_is_counted_and_the_others_are_judged(
    thresher: Thresher, tmp_path: Path, project: Path
) -> None:
    import json

    folder = tmp_path / "pictures"
    folder.mkdir()
    png_bomb(folder / "bomb.png")
    sample = next((project / "detectors").rglob("*.jpg"))
    (folder / "good.jpg").write_bytes(sample.read_bytes())
    ran = thresher("run", "pictures", "--json")
    document = json.loads(ran.stdout)
    assert document["ledgers"]["frames"] == {
        "received": 2,
        "windows": 1,
        "sampled_out": 0,
        "damaged": 0,
        "undecoded": 1,
    }
    assert "bomb.png" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_model_with_another_hash_is_refused(
    thresher_here: Thresher, tmp_path: Path, people_clip: Path, project: Path
) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(project / "detectors" / "zoo" / "nsfw-mobilenet", model)
    weights = next(path for path in model.iterdir() if path.suffix in {".onnx", ".bin", ".pb"})
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    lines = told(thresher_here("run", people_clip, "--detect", "./model"))
    assert len(lines) == 1
    assert weights.name in lines[0] and "SHA-256" in lines[0]


def test_a_taken_metrics_port(thresher_here: Thresher, people_clip: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        lines = told(thresher_here("run", people_clip, "--metrics", port))
    assert lines == [f"--metrics: cannot listen on 127.0.0.1:{port}: Address already in use"]
