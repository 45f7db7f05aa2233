"""The lines of IRC (RFC 1459, with the tags of IRCv3), as far as a reader needs them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sources.conversation import Said, wall_ns_of

_ESCAPES = {":": ";", "s": " ", "\\": "\\", "r": "\r", "n": "\n"}
_ACTION = "\x01ACTION "
_ROOMS = "#&+!"
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Line:
    """`@tags :prefix COMMAND words… :last word`. `nick` is what the prefix begins with."""

    command: str
    words: list[str]
    nick: str = ""
    tags: dict[str, str] = field(default_factory=dict)


def parse_line(text: str) -> Line | None:
    """None for a line that holds no command."""
    text = text.strip("\r\n")
    tags: dict[str, str] = {}
    if text.startswith("@"):
        written, _, text = text[1:].partition(" ")
        for one in written.split(";"):
            name, _, value = one.partition("=")
            tags[name] = _unescaped(value) if "\\" in value else value
        text = text.lstrip(" ")
    nick = ""
    if text.startswith(":"):
        prefix, _, text = text[1:].partition(" ")
        nick = prefix.partition("!")[0]
    head, colon, last = text.partition(" :")
    words = head.split()
    if not words:
        return None
    if colon:
        words.append(last)
    return Line(words[0].upper(), words[1:], nick, tags)


def _unescaped(value: str) -> str:
    out, signs = [], iter(value)
    for sign in signs:
        escaped = next(signs, "") if sign == "\\" else ""
        out.append(_ESCAPES.get(escaped, escaped) if sign == "\\" else sign)
    return "".join(out)


def said_by(line: Line) -> Said | None:
    """What a PRIVMSG says in a room; None for what is said to ourselves, and for requests of programs (CTCP)."""
    if len(line.words) < 2 or line.words[0][:1] not in _ROOMS:
        return None
    room, text = line.words[0].lower(), line.words[-1]
    if text.startswith("\x01"):
        if not text.startswith(_ACTION):
            return None
        text = text[len(_ACTION) :].rstrip("\x01")
    tags = line.tags
    sent: str | float | None = tags.get("time")
    if (stamp := tags.get("tmi-sent-ts", "")).isdecimal():
        sent = float(stamp)
    author = tags.get("display-name") or line.nick
    return Said(text, author[:_LONGEST_NAME], room[:_LONGEST_NAME], wall_ns_of(sent) if sent else None)
