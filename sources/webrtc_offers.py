"""What publishers say by WHIP (RFC 9725), and watchers by WHEP: offers and ICE candidates, read and bounded before
anything acts on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from pipeline.core import reach
from pipeline.core.secrets import redact

if TYPE_CHECKING:
    from aiortc import RTCIceCandidate
    from aiortc.sdp import MediaDescription, SessionDescription

LARGEST = 1 << 16
"""Bytes of an offer. Browsers with every codec say some 8,000."""
MOST_CANDIDATES = 64
_MOST_MEDIA = 8
_MOST_LINES = 2000
_TAKEN = frozenset({"vp8", "h264"})
_HEARD = frozenset({"opus", "g722", "pcmu", "pcma"})
_CREDENTIAL = re.compile(r"[A-Za-z0-9+/=_-]{4,256}")  # some leave RFC 8839's alphabet
_HIDDEN_HOST = re.compile(r"[0-9A-Fa-f-]{1,64}\.local")
_PROFILE = re.compile(r"(?<=profile-level-id=)[0-9A-Fa-f]{6}")
_BASELINE = "42e01f"


class Refused(Exception):
    """What a peer said cannot be acted upon: the status of HTTP, and what to do instead."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True, slots=True)
class Offer:
    """`sdp` without its candidates; `kinds` in the order of their transports; `lets_choose` leaves it to us
    who begins to encrypt. `profiles` are the profiles of H.264 that were offered, by payload type, where none of them
    is the one aiortc knows."""

    sdp: str
    kinds: tuple[str, ...]
    ufrag: str
    lets_choose: bool
    candidates: tuple[RTCIceCandidate, ...]
    profiles: dict[str, str]

    def answered(self, sdp: str) -> str:
        """The answer, with the profile that was offered."""
        lines = sdp.splitlines()
        for number, line in enumerate(lines):
            payload_type = line.removeprefix("a=fmtp:").split(" ")[0]
            if line.startswith("a=fmtp:") and payload_type in self.profiles:
                lines[number] = _PROFILE.sub(self.profiles[payload_type], line)
        return "\r\n".join(lines) + "\r\n"


def read_offer(body: bytes, *, watches: bool = False) -> Offer:
    """Of one who publishes, or who `watches`. Raises `Refused`."""
    if len(body) > LARGEST:
        raise Refused(413, f"an offer has at most {LARGEST} bytes")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused(400, "the body is no SDP: it is not UTF-8") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > _MOST_LINES or sum(line.startswith("m=") for line in lines) > _MOST_MEDIA:
        raise Refused(422, f"the offer is too long: at most {_MOST_LINES} lines, and {_MOST_MEDIA} media")
    candidates = _candidates(lines)
    plain = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    plain, profiles = _with_known_profile(plain)
    sdp = "\r\n".join(plain) + "\r\n"
    described = _parsed(sdp)
    if watches:
        _check_watched(described)
    else:
        _check_media(described)
    ufrags = [_check_transport(media) for media in described.media]
    lets_choose = all(media.dtls is not None and media.dtls.role == "auto" for media in described.media)
    return Offer(sdp, _in_order(described), ufrags[0], lets_choose, tuple(candidates), profiles)


def read_fragment(body: bytes) -> tuple[str | None, list[RTCIceCandidate], bool]:
    """Of an SDP fragment (RFC 8840): whose candidates they are, the candidates, and whether they are all. Raises
    `Refused`."""
    if len(body) > LARGEST:
        raise Refused(413, f"a fragment has at most {LARGEST} bytes")
    try:
        lines = [line.strip() for line in body.decode().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise Refused(400, "the body is no SDP fragment: it is not UTF-8") from None
    if not lines or len(lines) > _MOST_LINES or not all(re.match(r"[a-z]=", line) for line in lines):
        raise Refused(400, "the body is no SDP fragment, which consists of lines like a=candidate:…")
    ufrag = next((line.removeprefix("a=ice-ufrag:") for line in lines if line.startswith("a=ice-ufrag:")), None)
    return ufrag, _candidates(lines), "a=end-of-candidates" in lines


def _parsed(sdp: str) -> SessionDescription:
    from aiortc.sdp import SessionDescription

    try:
        if not sdp.startswith("v=0"):
            raise ValueError("it begins otherwise")
        return SessionDescription.parse(sdp)
    except Exception:  # noqa: BLE001  # the parser trips over what is malformed in many ways
        raise Refused(400, "the body is no SDP offer that can be read") from None


def _check_media(described: SessionDescription) -> None:
    """A picture, maybe sound, and nothing that cannot be taken."""
    video = _one_of_each(described, ("video", "audio"))
    if video.direction not in {"sendonly", "sendrecv"}:
        raise Refused(422, f"the offer's video is {video.direction}: a publisher's is sendonly")
    for media in described.media:
        _check_codecs(media)


def _check_watched(described: SessionDescription) -> None:
    """A picture, and maybe a data channel. Sound may be asked for, and there is none."""
    video = _one_of_each(described, ("video", "audio", "application"))
    if video.direction not in {None, "recvonly", "sendrecv"}:
        raise Refused(422, f"the offer's video is {video.direction}: a watcher's is recvonly")
    _check_codecs(video)


def _one_of_each(described: SessionDescription, known: tuple[str, ...]) -> MediaDescription:
    """The picture. At most one of each kind that is `known`, and all on one transport."""
    kinds = [media.kind for media in described.media]
    for kind in known:
        if kinds.count(kind) > 1:
            raise Refused(422, f"the offer has {kinds.count(kind)} tracks of {_NAMED[kind]}: one is enough")
    if others := sorted(set(kinds) - set(known)):
        raise Refused(422, f"only {' and '.join(known)} are taken: leave out m={redact(others[0])[:40]}")
    video = next((media for media in described.media if media.kind == "video"), None)
    if video is None:
        raise Refused(422, "the offer has no video: there has to be a picture")
    bundle = next((set(group.items) for group in described.group if group.semantic == "BUNDLE"), set())
    if len(kinds) > 1 and not {media.rtp.muxId for media in described.media} <= bundle:
        raise Refused(422, "all media have to share a transport: a=group:BUNDLE with each of them")
    return video


def _check_codecs(media: MediaDescription) -> None:
    taken, say = _KNOWN[media.kind]
    offered = [codec.mimeType.partition("/")[2] for codec in media.rtp.codecs]
    if not taken & {name.lower() for name in offered}:
        there = ", ".join(dict.fromkeys(offered)) or "none"
        raise Refused(422, f"{media.kind} has to be {say}; the offer has {redact(there)[:200]}")


_NAMED = {"video": "picture", "audio": "sound", "application": "data"}
_KNOWN = {"video": (_TAKEN, "H.264 (packetization mode 1) or VP8"), "audio": (_HEARD, "Opus, G.722 or G.711")}


def _check_transport(media: MediaDescription) -> str:
    """By what its ICE goes."""
    ice, dtls = media.ice, media.dtls
    ufrag, password = ("", "") if ice is None else (ice.usernameFragment or "", ice.password or "")
    if not _CREDENTIAL.fullmatch(ufrag) or not _CREDENTIAL.fullmatch(password):
        raise Refused(400, f"the offer's {media.kind} lacks a=ice-ufrag or a=ice-pwd")
    if dtls is None or not dtls.fingerprints:
        raise Refused(400, f"the offer's {media.kind} lacks a=setup or a=fingerprint: WebRTC is always encrypted")
    if media.kind != "application" and not media.rtcp_mux:
        raise Refused(422, f"the offer's {media.kind} lacks a=rtcp-mux")
    return ufrag


def _in_order(described: SessionDescription) -> tuple[str, ...]:
    """The one first on whose transport all of them travel."""
    first = next((group.items[0] for group in described.group if group.semantic == "BUNDLE" and group.items), None)
    return tuple(media.kind for media in sorted(described.media, key=lambda media: media.rtp.muxId != first))


def _with_known_profile(lines: list[str]) -> tuple[list[str], dict[str, str]]:
    """FFmpeg decodes every profile of H.264 alike, and aiortc knows the plainest alone."""
    offered = {
        line.removeprefix("a=fmtp:").split(" ")[0]: found[0]
        for line in lines
        if line.startswith("a=fmtp:") and (found := _PROFILE.search(line))
    }
    if any(profile.lower().startswith("42") for profile in offered.values()):
        return lines, {}
    changed = [_PROFILE.sub(_BASELINE, line) if line.startswith("a=fmtp:") else line for line in lines]
    return changed, offered


def _candidates(lines: list[str]) -> list[RTCIceCandidate]:
    """Those that can be tried; others are passed over, as RFC 9725 wants it. Raises `Refused`."""
    told = [line.removeprefix("a=candidate:") for line in lines if line.startswith("a=candidate:")]
    if len(told) > MOST_CANDIDATES:
        raise Refused(422, f"{len(told)} ICE candidates: at most {MOST_CANDIDATES} are tried")
    return list(_usable(dict.fromkeys(told)))


def _usable(told: dict[str, None]) -> Iterator[RTCIceCandidate]:
    from aiortc.sdp import candidate_from_sdp

    for one in told:
        try:
            candidate = candidate_from_sdp(one)
            if not _HIDDEN_HOST.fullmatch(candidate.ip):
                reach.check(str(ip_address(candidate.ip)), private=True)
        except (ValueError, AssertionError, IndexError, OSError):
            continue
        if candidate.protocol.lower() == "udp" and candidate.component == 1 and 0 < candidate.port < 1 << 16:
            yield candidate
