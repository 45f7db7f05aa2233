"""Targets: pictures, films, sounds and texts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from pipeline.core.contracts import Source
from pipeline.core.errors import InputError, SourceLost, StageError
from pipeline.core.payloads import FrameImage, Image, ViewSpec
from pipeline.core.pictures import BadPicture, decode_picture
from pipeline.core.plain import plain, positions
from pipeline.core.records import Chunk, Gap, Item
from pipeline.core.sound import Sound
from pipeline.core.text import TextSpec
from sources.conversation import Conversation, Talk
from sources.file import File
from sources.irc_lines import parse_line, said_by
from sources.lines import Lines
from sources.pcm import Pcm
from sources.pieces import pieces
from sources.raw_sound import RawDecoder
from sources.sound_file import SoundFile
from tests.fuzz.target import Target, scratch, written

ROOT = Path(__file__).resolve().parents[2]
_SPEC = ViewSpec(16, 16, fit="letterbox")
_MOST_ITEMS = 120


# Pictures and films.


def look(image: Image) -> None:
    assert image.width > 0 and image.height > 0
    view = image.view(_SPEC)
    assert view.pixels.shape == (16, 16, 3)
    image.luma()
    image.fingerprint()
    assert image.rgb(32).shape[2] == 3
    image.release()


def picture(data: bytes) -> None:
    look(FrameImage(decode_picture(data, 1 << 20)))


def pictures() -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    flat = np.full((40, 56, 3), 90, np.uint8)
    kinds = (("png", "rgb24"), ("mjpeg", "yuvj420p"), ("bmp", "bgr24"), ("tiff", "rgb24"), ("libwebp", "yuv420p"),
             ("png", "gray16be"), ("tiff", "gray"))  # fmt: skip
    made = [_still(codec, pixel_format, pixels) for codec, pixel_format in kinds for pixels in (noise, flat)]
    return [*made, (ROOT / "detectors" / "zoo" / "samples" / "bikes-1.jpg").read_bytes()]


def _still(codec: str, pixel_format: str, pixels: np.ndarray) -> bytes:
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = pixels.shape[:2]
    context.pix_fmt, context.time_base = pixel_format, 1
    frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def through(plan: Source) -> list[Item]:
    """What it hands over, each looked at: conservation and well-formed records."""
    items: list[Item] = []
    with closing(plan.open("s")) as reader:
        last = -1
        for item in islice(reader, _MOST_ITEMS):
            items.append(item)
            assert item.stream == "s"
            if isinstance(item, Gap):
                assert item.count > 0
            if isinstance(item, Chunk):
                assert item.seq > last and item.duration_ns >= 0
                last = item.seq
                if isinstance(item.payload, Image):
                    look(item.payload)
                elif isinstance(item.payload, Sound):
                    hear(item.payload)
    return items


def film(data: bytes) -> None:
    through(File(path=written(data, "film"), max_pixels=1 << 20))


def films() -> list[bytes]:
    kinds = (("mp4", "libx264"), ("matroska", "libx264"), ("mpegts", "libx264"), ("avi", "mpeg4"), ("mov", "mjpeg"),
             ("webm", "libvpx"), ("mpegts", "mpeg2video"), ("mp4", "libx265"), ("flv", "flv"))  # fmt: skip
    return [made for kind, codec in kinds if (made := _film(kind, codec))]


def _film(kind: str, codec: str) -> bytes:
    """A second of bikes, small."""
    path = scratch() / f"made.{kind}"
    with av.open(str(ROOT / "tests" / "data" / "bikes.mp4")) as given:
        frames = [frame.reformat(96, 48, "yuv420p") for frame in islice(given.decode(video=0), 0, 50, 5)]
    try:
        with av.open(str(path), "w", format=kind) as out:
            stream = out.add_stream(codec, rate=10)
            stream.width, stream.height = 96, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for number, frame in enumerate(frames):
                plain_frame = VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
                plain_frame.pts, plain_frame.time_base = number, Fraction(1, 10)
                out.mux(stream.encode(plain_frame.reformat(format=stream.pix_fmt)))
            out.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError):
        return b""  # this FFmpeg has no such encoder
    return path.read_bytes()


# Sounds.


def hear(sound: Sound) -> None:
    samples = sound.samples
    assert samples.dtype == np.float32 and np.isfinite(samples).all() and np.abs(samples).max() <= 1
    assert 0 < sound.fresh <= len(samples)


def sound(data: bytes) -> None:
    through(SoundFile(path=written(data, "sound"), window_s=0.5, hop_s=0.1))


def sounds() -> list[bytes]:
    kinds = (("wav", "pcm_s16le"), ("wav", "pcm_f32le"), ("flac", "flac"), ("ogg", "libvorbis"), ("mp3", "libmp3lame"),
             ("mp4", "aac"), ("wav", "pcm_alaw"), ("aiff", "pcm_s16be"), ("au", "pcm_mulaw"),
             ("ogg", "libopus"))  # fmt: skip
    return [made for kind, codec in kinds if (made := _sound(kind, codec))]


def _sound(kind: str, codec: str) -> bytes:
    path, rate = scratch() / f"made.{kind}", 48_000 if codec == "libopus" else 8_000
    tone = (np.sin(np.arange(rate // 2) / 9) / 2).astype(np.float32)[None]
    try:
        with av.open(str(path), "w", format=kind) as out:
            stream = out.add_stream(codec, rate=rate)
            stream.layout = "mono"
            frame = AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, 0
            resampler = av.AudioResampler(stream.format, "mono", rate, stream.codec_context.frame_size or None)
            for one in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(stream.encode(one))
            out.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError):
        return b""
    return path.read_bytes()


def raw(data: bytes) -> None:
    """The first bytes choose what the rest means, and how it is cut up."""
    head = data[:4].ljust(4, b"\0")
    plan = Pcm(
        format=("s16le", "s32le", "f32le", "u8")[head[0] % 4],
        rate_in=(8_000, 11_025, 16_000, 48_000)[head[1] % 4],
        channels=1 + head[2] % 3,
        window_s=0.05,
        hop_s=0.01,
    )
    decoder, step = RawDecoder(plan, "s", "e"), 13 + head[3] * 5
    items = [item for at in range(4, len(data), step) for item in decoder.feed(data[at : at + step], at, at)]
    for item in [*items, *decoder.finish()]:
        if isinstance(item, Chunk):
            assert isinstance(item.payload, Sound)
            hear(item.payload)


def raws() -> list[bytes]:
    wave = np.sin(np.arange(2000) / 7)
    halves = (wave * 20000).astype("<i2").tobytes(), (wave / 2).astype("<f4").tobytes()
    return [
        b"\0\2\0\x40" + halves[0],
        b"\2\0\1\x09" + halves[1],
        b"\2\3\0\xff" + b"\0\0\xc0\x7f" * 300,
        b"\3\1\2\0" + halves[0],
    ]


# Texts.

_TEXT = TextSpec(length=64, context=True)


def said(data: bytes) -> None:
    """Bytes in lines, as every source of text takes them in: what is no message is one gap, nothing is lost."""
    for kind in ("auto", "json", "plain"):
        talk = Talk(_plan(kind), "s", "e")
        for item in [*talk.lines(data, lambda: (1, 1, 1)), *talk.data(data, (1, 1, 1))]:
            if isinstance(item, Chunk):
                item.payload.key()
                assert len(item.payload.view(_TEXT).data) == 64


@cache
def _plan(kind: str) -> Conversation:
    return Lines(path="-", format=kind, longest=48, largest_bytes=1024)


def irc(data: bytes) -> None:
    for text in data.decode("utf-8", "replace").split("\n"):
        line = parse_line(text)
        message = None if line is None else said_by(line)
        if message is not None:
            assert len(message.author) <= 200 and len(message.room) <= 200


def normalised(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass" if len(data) % 2 else "replace")
    once = plain(text)
    assert plain(once) == once, "it is idempotent"
    once.encode()
    where = positions(text)
    assert len(where) == len(once) and where == sorted(where)
    assert all(0 <= place < len(text) for place in where)


def cut(data: bytes) -> None:
    text = data[1:].decode("utf-8", "replace")
    longest = 48 + (data[0] if data else 0)
    parts = pieces(text, longest)
    assert "".join(piece for _, piece, _ in parts) == text
    for offset, piece, said_plain in parts:
        assert text[offset : offset + len(piece)] == piece
        assert said_plain == plain(piece).encode() and (len(said_plain) <= longest or len(piece) == 1)


def texts() -> list[bytes]:
    return [
        b"He said: S.H.1.T &amp; www.x.y niiiiiice",
        "s p a c e d  o u t &amp;lt; 한 ﷺ İ ﬁ\u200b\u202e".encode(),
        "Straße. Новый абзац!\n\nраypal 憎 。「これは」、 a\u0301e\u0301".encode(),
        b"x" * 300,
        b'{"text": "hi", "user": "a", "room": "#b", "time": "2026-01-31T12:00:00Z"}\n[{"text": "x"}, {"text": "y"}]\nz',
        b"\xff\xfe\n\n{}\n[]\n" + b"long " * 300,
    ]


def chats() -> Sequence[bytes]:
    return [
        b"@badges=x/1;display-name=An\\sna;tmi-sent-ts=1700000000000 :anna!a@h PRIVMSG #room :hello there\n",
        b":a!b@c PRIVMSG #r :\x01ACTION waves\x01\nPING :x\n:s 001 me :hi\n",
        b"@time=2026-01-31T12:00:00Z :a PRIVMSG &x y\r\n",
    ]


_LOST = (InputError, SourceLost)

MEDIA = [
    Target("picture", picture, pictures, (BadPicture,)),
    Target("film", film, films, _LOST, short=1_000, full=10_000),
    Target("sound", sound, sounds, _LOST, short=1_000, full=10_000),
    Target("raw-sound", raw, raws),
    Target("messages", said, texts, (StageError,), documents=True),
    Target("irc", irc, chats),
    Target("plain", normalised, texts, (UnicodeDecodeError,)),
    Target("pieces", cut, texts),
]
