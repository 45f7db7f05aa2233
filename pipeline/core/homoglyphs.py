"""Letters that look like others, and words put together from several alphabets to slip through.

The tables are Unicode's own of confusable characters (UTS 39), cut down to the lower-case letters of alphabets that
people mix with Latin; those are added that look like a Latin letter in one of the two cases only (к, т, н). A word of
one alphabet stays as it is, whatever it looks like.
"""

from __future__ import annotations

import re

_TO_LATIN = (
    str.maketrans("асԁеҽєёһіїꙇӏјкмнорԛгѕтѵѡԝхуүвь", "acdeeeehiiiljkmhopqrstvwwxyybb")
    | str.maketrans("αάβγεέηήιίϊϳκνοόρτυύχωώσςμ", "aabyeenniiijkvooptuuxwwocu")
    | str.maketrans("քցհոօգսա", "fghnoquw")
    | str.maketrans("ꮯꭵꮁꮪꮩꮃꮓꭰꭼꭺ", "cirsvwzdea")
)
_TO_CYRILLIC = str.maketrans("aceopxykmth", "асеорхукмтн")
_ONLY_CYRILLIC = re.compile("[бджзийлпфцчшщъыэюя]")  # looks like no Latin letter

_BY_ALPHABET = (0x1F150, 0x1F170, 0x1F1E6)  # letters in black circles and squares, and those of flags
_FANCY = str.maketrans(
    "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢɑɡꬲꬵꭎꭚꬽᴑ" + "".join(chr(first + n) for first in _BY_ALPHABET for n in range(26)),
    "abcdefghijklmnopqrstuvwyzagefuyoo" + "abcdefghijklmnopqrstuvwxyz" * len(_BY_ALPHABET),
)
FANCY = re.compile("[\u0251-\u029f\u1d00-\u1d22\ua730-\ua7af\uab32-\uab5a\U0001f150-\U0001f1ff]+")
"""Where Latin letters may be in a shape that no language writes words in and that NFKC leaves alone."""

_OTHER = "\u0370-\u03ff\u0400-\u052f\u0561-\u0587\ua640-\ua69f\uab70-\uabbf"
MIXED = re.compile(f"[a-z][{_OTHER}]|[{_OTHER}][a-z]")
"""Where, in lower case, a letter of Latin and one of another alphabet stand beside each other."""


def unfancy(found: re.Match[str]) -> str:
    return found[0].translate(_FANCY)


def unmixed(found: re.Match[str]) -> str:
    """A mixed word, letter by letter in one alphabet: Cyrillic, if it holds what only Cyrillic has, else Latin. What
    has no likeness there stays."""
    word = found[0]
    if not MIXED.search(word):
        return word
    return word.translate(_TO_CYRILLIC if _ONLY_CYRILLIC.search(word) else _TO_LATIN)
