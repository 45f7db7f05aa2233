"""Seeded mutations of what is well-formed: the same seed and number give the same input on every machine."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

_ODD = (b"", b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"%s%n", b"\r\n\r\n", b"${A}", b"\xed\xa0\x80",
        b"\xef\xbb\xbf", "\u202e\u200d\ufe0f".encode(), b"9" * 40, b"-1", b"1e999", b"NaN", b"&a [*a]")  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, 0.5, -0.0, 1e308, float("inf"), float("nan"), "", "a", "../x",
    "\0", "\ud800", "x" * 300, "${HOME}", [], {}, [[]], {"": {}}, [1, "a", None],
)  # fmt: skip
_DEEP = 2000


def numbered(name: str, seed: int, number: int) -> random.Random:
    """The dice of one input."""
    return random.Random(f"{name}/{seed}/{number}")


def mutated(seeds: Sequence[bytes], dice: random.Random, *, documents: bool = False) -> bytes:
    """One of `seeds`, changed in a few places. With `documents`, what is JSON is changed as such half of the time."""
    data = dice.choice(seeds)
    if documents and dice.random() < 0.5:
        try:
            tree = json.loads(data)
        except ValueError:
            pass
        else:
            for _ in range(dice.choice((1, 1, 2, 4))):
                tree = _changed(tree, dice)
            data = json.dumps(tree).encode("utf-8", "surrogatepass")
            if dice.random() < 0.8:
                return data
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3, 6, 12))):
        data = dice.choice(_WAYS)(data, dice, seeds)
    return data


Way = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


def _flip(data: bytes, dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    if not data:
        return b"\1"
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8))):
        out[_place(data, dice)] ^= 1 << dice.randrange(8)
    return bytes(out)


def _put(data: bytes, dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A field with an odd number in it."""
    at, width = _place(data, dice), dice.choice((1, 2, 4, 8))
    number = dice.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, dice.getrandbits(32)))
    field = (number % (1 << 8 * width)).to_bytes(width, dice.choice(("big", "little")))
    return data[:at] + field + data[at + width :]


def _cut(data: bytes, dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _drop(data: bytes, dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    at = _place(data, dice)
    return data[:at] + data[at + dice.randrange(1, 65) :]


def _again(data: bytes, dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    at = _place(data, dice)
    piece = data[at : at + dice.randrange(1, 257)]
    return data[:at] + piece * dice.choice((2, 3, 40)) + data[at:]


def _splice(data: bytes, dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    other = dice.choice(seeds)
    return data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other) + 1) :]


def _odd(data: bytes, dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    at = _place(data, dice)
    return data[:at] + dice.choice(_ODD) + data[at + dice.choice((0, 1, 4)) :]


def _noise(data: bytes, dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    at = _place(data, dice)
    count = dice.randrange(1, 33)
    return data[:at] + dice.randbytes(count) + data[at + count :]


_WAYS: tuple[Way, ...] = (_flip, _flip, _put, _put, _cut, _drop, _again, _splice, _odd, _noise)


def _place(data: bytes, dice: random.Random) -> int:
    """Anywhere, headers more often than not."""
    if not data:
        return 0
    return dice.randrange(min(len(data), 64)) if dice.random() < 0.4 else dice.randrange(len(data))


def _changed(tree: Any, dice: random.Random) -> Any:  # noqa: PLR0911
    """With one value, key or entry that is another, twice there, gone, or much too deep."""
    if isinstance(tree, dict) and tree and dice.random() < 0.9:
        key = dice.choice(list(tree))
        way = dice.random()
        if way < 0.1:
            return {name: value for name, value in tree.items() if name != key}
        if way < 0.2:
            return tree | {str(dice.choice(_VALUES))[:9]: tree[key]}
        return tree | {key: _changed(tree[key], dice)}
    if isinstance(tree, list) and tree and dice.random() < 0.9:
        at = dice.randrange(len(tree))
        way = dice.random()
        if way < 0.1:
            return tree[:at] + tree[at + 1 :]
        if way < 0.2:
            return tree + [tree[at]] * dice.choice((1, 5))
        return [*tree[:at], _changed(tree[at], dice), *tree[at + 1 :]]
    if dice.random() < 0.01:
        return _nested(dice.choice((10, _DEEP)))
    if isinstance(tree, (int, float)) and not isinstance(tree, bool) and dice.random() < 0.5:
        return dice.choice((-tree, tree + 1, tree * 1000, tree / 3, str(tree)))
    return dice.choice(_VALUES)


def _nested(depth: int) -> Any:
    out: Any = 1
    for _ in range(depth // 10):  # json.dumps goes no deeper than Python's own stack
        out = [out]
    return out
