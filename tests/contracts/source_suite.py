"""What every source must do. A test module of a source calls these with its plan."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Sequence
from contextlib import closing

import numpy as np

from pipeline.core.contracts import Source
from pipeline.core.payloads import Image
from pipeline.core.records import Chunk, Gap, Item, Watermark
from pipeline.core.sound import Sound
from pipeline.core.text import Text

STREAM = "cam-1"


def read(plan: Source, *, most: int | None = None) -> tuple[str, list[Item]]:
    """The epoch, and the items: all of them, or those up to the chunk that makes `most` received frames."""
    with closing(plan.open(STREAM)) as reader:
        return reader.epoch, list(until(reader, most))


def until(items: Iterable[Item], most: int | None) -> Iterable[Item]:
    received = 0
    for item in items:
        yield item
        received += count(item)
        if most is not None and received >= most:
            return


def count(item: Item) -> int:
    """How many received frames the item stands for."""
    if isinstance(item, Chunk):
        return 1
    return item.count if isinstance(item, Gap) else 0


def chunks(items: Iterable[Item]) -> list[Chunk]:
    return [item for item in items if isinstance(item, Chunk)]


def gaps(items: Iterable[Item], reason: str) -> int:
    return sum(item.count for item in items if isinstance(item, Gap) and item.reason == reason)


def check_items(
    items: Sequence[Item], *, received: int | None = None, intact: bool = True, stream: str = STREAM
) -> None:
    """Conservation and well-formed records. `received` is what was put in, where the test knows it."""
    if received is not None:
        assert sum(count(item) for item in items) == received
    arrived, position, last_pts = 0, -1, None
    for item in items:
        assert item.stream == stream
        if isinstance(item, Chunk):
            assert item.seq > position
            assert item.seq >= arrived, "seq counts damaged and undecoded frames as well"
            position = item.seq
            assert all(isinstance(n, int) for n in (item.pts_ns, item.duration_ns, item.mono_ns, item.wall_ns))
            assert item.duration_ns >= 0 and item.mono_ns > 0 and item.wall_ns > 1_600_000_000_000_000_000
            check_payload(item)
            if intact:  # a window of sound begins with the stream until it is as long as it gets
                pts_ns = item.pts_ns if item.payload.medium == "picture" else item.pts_ns + item.duration_ns
                assert last_pts is None or pts_ns > last_pts
                last_pts = pts_ns
        elif isinstance(item, Gap):
            assert item.count > 0 and item.reason in {"damaged", "undecoded"}
            assert not intact, item
        else:
            assert isinstance(item, Watermark)
        arrived += count(item)
    if intact:
        assert [c.seq for c in chunks(items)] == list(range(len(chunks(items))))


def check_payload(chunk: Chunk) -> None:
    payload = chunk.payload
    if isinstance(payload, Sound):
        samples = payload.samples
        assert samples.dtype == np.float32 and samples.ndim == 1 and not samples.flags.writeable
        assert np.isfinite(samples).all() and np.abs(samples).max() <= 1
        assert 0 < payload.fresh <= len(samples) and payload.start_ns == chunk.pts_ns
        assert abs(chunk.duration_ns - len(samples) * 1_000_000_000 // payload.rate) <= 1
        return
    if isinstance(payload, Text):
        assert payload.offset >= 0 and payload.raw and isinstance(payload.plain, bytes)
        return
    assert isinstance(payload, Image)
    luma = payload.luma()
    assert luma.shape == (-(-payload.height // 8), -(-payload.width // 8)) and not luma.flags.writeable


def shown(chunk: Chunk) -> bytes:
    """What a gate sees of it, or what it says."""
    if isinstance(chunk.payload, Text):
        return chunk.payload.raw.encode("utf-8", "surrogatepass")
    sample = chunk.payload.sample()
    assert sample is not None
    return sample.tobytes()


def check_plan(plan: Source) -> None:
    """A plan survives the way to another process, and cannot be changed."""
    again = pickle.loads(pickle.dumps(plan))
    assert again.model_dump_json(exclude={"script"}) == plan.model_dump_json(exclude={"script"})
    assert type(again) is type(plan)
    plan.check()


def check_closing(plan: Source, *, most: int = 2) -> None:
    """Closing is safe without iteration, midway, and twice."""
    untouched = plan.open(STREAM)
    untouched.close()
    untouched.close()
    midway = plan.open(STREAM)
    assert list(until(midway, most))
    midway.close()
    midway.close()


def check_replay(plan: Source, *, most: int | None = None) -> None:
    """A second reading gives the same windows with the same pictures."""
    (epoch, first), (again, second) = read(plan, most=most), read(plan, most=most)
    assert not plan.live and epoch == again
    assert len(epoch) == 26 and epoch.isalnum()
    key = [(c.seq, c.pts_ns, c.duration_ns, shown(c)) for c in chunks(first)]
    assert key and key == [(c.seq, c.pts_ns, c.duration_ns, shown(c)) for c in chunks(second)]
    assert sum(map(count, first)) == sum(map(count, second))


def check_epochs(plan: Source) -> None:
    """Connections of one source sort by time, and no two share a name."""
    epochs = []
    for _ in range(3):
        reader = plan.open(STREAM)
        epochs.append(reader.epoch)
        reader.close()
    assert all(a != b for a, b in itertools.pairwise(epochs))
    assert epochs == sorted(epochs)
