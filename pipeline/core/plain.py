"""The one normalisation of text, against the usual tricks: what is trained, calibrated and run reads the same.

    ＦＲＥＥ &lt;b&gt;  →  free <b>          s h i t, s.h.i.t  →  shit          niiiiiice  →  niiice
    pаypal (with a Cyrillic а)  →  paypal   $h1t, @ss  →  shit, ass          https://a.b/c, @bob  →  \\x03, \\x04

Languages are left alone: letters are folded only in words that mix alphabets, digits become letters only within a word
of Latin letters, and marks stay wherever Unicode has a composed letter for them.

What is done is a list of replacements, each a pattern and what is put in its place. `plain` runs through them until
nothing changes, and looks first whether there is anything to do; `positions` follows them character by character. Both
work on any string, and `plain(plain(text)) == plain(text)`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from typing import TypeAlias

from pipeline.core.homoglyphs import FANCY, MIXED, unfancy, unmixed

LINK, MENTION = "\x03", "\x04"
"""What stands for a link, and for a name that is addressed."""

Put: TypeAlias = Callable[[re.Match[str]], str] | str
Step: TypeAlias = tuple[Callable[[str], object], re.Pattern[str], Put]
"""Whether it is worth a look (true wherever something is to be changed), what to look for, what to put there."""

_MOST_PASSES = 8  # more than two are somebody's attempt to keep us busy

_ENTITY = re.compile(r"&(?:(?:amp;|#38;|#x26;)*(?:#[0-9]{1,9};?|#[xX][0-9a-fA-F]{1,8};?|[A-Za-z][A-Za-z0-9]{1,31};?))?")
_AGAIN = re.compile(r"^&(?:amp;|#38;|#x26;)+")


def _character(found: re.Match[str]) -> str:
    """What an HTML entity stands for, however often its `&` was escaped. No `&` is left: it would make others."""
    said = _AGAIN.sub("&", found[0])
    return html.unescape(said).replace("&", "+")


# Unseen: controls (but the marks of links and mentions), surrogates, formats (zero width, bidirectional, tags, soft
# hyphens), fillers and variation selectors; and combining marks that are left after composition, piled up or not.
_UNSEEN = re.compile(
    "[\x00-\x02\x05-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f"
    "\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_BEFORE = re.compile(_UNSEEN.pattern.replace("\u0300-\u036f\u0483-\u0489", ""))  # composition still needs those

_LINK = re.compile(r"(?:https?://|www\.)\S+")
# nobody is called @ss…, and a word that begins so is meant to be read as one
_MENTION = re.compile(r"(?<!\w)@(?!ss)\w{2,}")
_LEET = re.compile(r"[013457@$!|]+")
_LETTERS = str.maketrans("013457@$!|", "oieastasil")
_COUNTED = ("sec", "min", "hour", "day", "week", "month", "year", "time", "people")


def _leet(found: re.Match[str]) -> str:
    """The letters that the signs stand for, if they stand in a word: f4ck, a$$, b!tch, $hit, @ss, 3vil, hell0. Not 5th,
    4pm, 3days, mp3, 10k, $100, done!"""
    signs, text = found[0], found.string
    start, end = found.span()
    if len(signs) > 2:
        return signs
    before, behind = text[start - 1 : start], text[end : end + 3]
    if _is_letters(before):
        if not _is_letters(behind[:1]):  # it ends the word
            digit = signs in "034" and _is_letters(text[max(start - 3, 0) : start], 3)
            here = not behind[:1].isalnum() and (digit or not signs.strip("@$"))
        else:
            here = True
    elif before.isalnum() or (before and before in "_@$"):
        here = False
    elif not signs.strip("@$"):
        here = _is_letters(behind[:2], 2)
    else:
        here = signs in "0345" and _is_letters(behind, 3) and not text.startswith(_COUNTED, end)
    return signs.translate(_LETTERS) if here else signs


def _is_letters(text: str, count: int = 1) -> bool:
    return len(text) == count and text.isascii() and text.isalpha()


_APART = re.compile(
    r"(?<!\w)[^\W\d_](?P<by>[ .*~-])[^\W_](?:(?P=by)[^\W_])*(?P=by)[^\W\d_](?!\w)"  # s h i t, s.h.i.t
    r"|(?<!\w)[^\W\d_](?:_[^\W_]){2,}(?!\w)"  # s_h_i_t
)
_APART_HINT = re.compile(r"[ ._*~-]\w[ ._*~-]\w(?!\w)")
_BETWEEN = re.compile(r"[ ._*~-]")
_LONG = re.compile(r"(.)\1{3,}", re.DOTALL)
_SPACES = re.compile(r"\s+")
_WORD = re.compile(r"\w+")


def _joined(found: re.Match[str]) -> str:
    return _BETWEEN.sub("", found[0])


def _three(found: re.Match[str]) -> str:
    return found[1] * 3


# All but ASCII and the letters of Latin, Greek, Cyrillic, Chinese, Japanese and Korean.
_RARE = re.compile("[\x7f-\xbf\u0250-\u036f\u0483-\u0489\u0530-\u303f\u3100-\u4dff\ua000-\uabff\ud7a4-\U0010ffff]")


def _may_hide(text: str) -> bool:
    return not text.isprintable() or (not text.isascii() and _RARE.search(text) is not None)


def _may_mix(text: str) -> object:
    return not text.isascii() and MIXED.search(text)


BEFORE: tuple[Step, ...] = (
    (lambda text: "&" in text, _ENTITY, _character),
    (_may_hide, _BEFORE, ""),
)
"""Before composition and lower case; `AFTER` follows those."""
AFTER: tuple[Step, ...] = (
    (_may_hide, _UNSEEN, ""),
    (_may_hide, FANCY, unfancy),
    (_may_mix, _WORD, unmixed),
    (lambda text: "://" in text or "www." in text, _LINK, LINK),
    (lambda text: "@" in text, _MENTION, MENTION),
    (_LEET.search, _LEET, _leet),
    (_APART_HINT.search, _APART, _joined),
    (_LONG.search, _LONG, _three),
)


def plain(text: str) -> str:
    """`text` as a model reads it."""
    for _ in range(_MOST_PASSES):
        text, again = _once(text)
        if not again:
            break
    return text


def composed(text: str) -> str:
    """The one form of characters that may be written in several ways, in lower case."""
    return unicodedata.normalize("NFKC", text).lower()


def _once(text: str) -> tuple[str, bool]:
    """All steps, and whether they may have made more to do for another pass."""
    if text.isascii():
        text = text.lower().strip()
        if not _looks_tricky(text):
            return _spaced(text) if "  " in text else (text, False)
    changed = False
    for hint, pattern, put in BEFORE:
        if hint(text):
            before, text = text, pattern.sub(put, text)
            changed = changed or text != before
    text = composed(text)
    for hint, pattern, put in AFTER:
        if hint(text):
            before, text = text, pattern.sub(put, text)
            changed = changed or (text != before and put not in (LINK, MENTION))
    text, again = _spaced(text)
    return text, again or changed


def _spaced(text: str) -> tuple[str, bool]:
    """With single spaces, and whether there were others."""
    once = " ".join(text.split())
    return once, once != text


# Nearly all messages are plain already but for their case. Whether one is can be told from its bytes without a regular
# expression: 2 µs for 80 characters instead of 15.

_ORDINARY = b"abcdefghijklmnopqrstuvwxyz0123456789 \"#%'()*+,-./:;<=>?[\\]^_`{}~!"
_SHAPE = bytes(
    ord("a") if (character := chr(code)).isalnum() else ord("!") if character == "!" else ord(" ")
    for code in range(128)
)
"""Every letter and digit as `a`, all else as a space, but for the `!`."""
_SPELLING = bytes(ord("a") if chr(code).isalpha() else ord("0") if chr(code) in "013457" else 32 for code in range(128))
"""Every letter as `a`, every digit that may stand for one as `0`, all else as a space."""
_SHAPE, _SPELLING = _SHAPE.ljust(256), _SPELLING.ljust(256)


def _looks_tricky(text: str) -> bool:
    """Whether any step but that of spaces might find something in `text`, ASCII in lower case."""
    codes = text.encode() + b" "
    shape = codes.translate(_SHAPE)
    if codes.translate(None, _ORDINARY) or b"!a" in shape or b" a a " in shape or "://" in text or "www." in text:
        return True
    spelling = codes.translate(_SPELLING)
    if b"a0" in spelling or b"0a" in spelling:
        return True
    # A run of four is three neighbours in a row that are equal: zero bytes of the number and itself a byte on, XORed.
    number = int.from_bytes(codes, "big")
    differs = number ^ (number >> 8)
    return 0 in (differs | (differs >> 8) | (differs >> 16)).to_bytes(len(codes), "big")


def positions(text: str) -> list[int]:
    """For each character of `plain(text)` the index of the one in `text` that it comes from, never falling.

    What stands for several comes from the first of them, so a thing found ends where the next character begins. This is
    50 times the work of `plain`: for when something was found.
    """
    index = list(range(len(text)))
    for _ in range(_MOST_PASSES):
        given = text
        if text.isascii():  # as `_once` does: &AMP; is an entity then
            text = text.lower()
        for hint, pattern, put in BEFORE:
            if hint(text):
                text, index = _followed(pattern, put, text, index)
        text, index = _followed_composition(text, index)
        for hint, pattern, put in AFTER:
            if hint(text):
                text, index = _followed(pattern, put, text, index)
        text, index = _followed(_SPACES, " ", text, index)
        first, text = len(text) - len(text.lstrip()), text.strip()
        index = index[first : first + len(text)]
        if text == given:
            break
    return index


def _followed(pattern: re.Pattern[str], put: Put, text: str, index: list[int]) -> tuple[str, list[int]]:
    """`pattern.sub(put, text)`, and `index` of what is left."""
    parts: list[str] = []
    places: list[int] = []
    done = 0
    for found in pattern.finditer(text):
        start, end = found.span()
        new = put if isinstance(put, str) else put(found)
        parts += (text[done:start], new)
        places += index[done:start]
        old = found[0]
        if len(new) == len(old):
            places += index[start:end]
        else:
            at = 0
            for character in new:  # what stayed is found behind what was taken away
                here = old.find(character, at)
                at = min(at, len(old) - 1) if here < 0 else here
                places.append(index[start + at])
                at += here >= 0
        done = end
    parts.append(text[done:])
    places += index[done:]
    return "".join(parts), places


def _followed_composition(text: str, index: list[int]) -> tuple[str, list[int]]:
    """`composed(text)`, and `index` of its characters: piece by piece, each as short as it can be composed alone."""
    whole = composed(text)
    if len(whole) == len(text) and text.isascii():
        return whole, index
    places: list[int] = []
    start = 0
    for end in range(1, len(text) + 1):
        piece = text[start:end]
        following = text[end : end + 1]
        if following and (unicodedata.combining(following) or _joins(piece, following)):
            continue
        length = len(composed(piece))
        places += (index[min(start + n, end - 1)] for n in range(length))
        start = end
    return whole, (places + [places[-1]] * len(whole))[: len(whole)] if places else places


def _joins(piece: str, following: str) -> bool:
    together = unicodedata.normalize("NFKC", piece + following)
    return together != unicodedata.normalize("NFKC", piece) + unicodedata.normalize("NFKC", following)
