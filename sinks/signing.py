"""Signatures by the Standard Webhooks scheme, https://www.standardwebhooks.com: who receives a message can tell that it
comes from who holds the secret, that nothing was changed, and that it is not an old one played again."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from hashlib import sha256

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64  # bytes, as the scheme has it


def key_of(secret: str) -> bytes:
    """The key that `secret` (`whsec_` and base64) stands for. Raises `ValueError`, without the secret in it."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if secret.startswith(_PREFIX) else b""
    except (binascii.Error, ValueError):
        key = b""
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise ValueError(
            f"a secret is {_PREFIX} and {_SHORTEST} to {_LONGEST} random bytes in base64: "
            f'echo "{_PREFIX}$(openssl rand -base64 32)" makes one'
        )
    return key


def signed(keys: Sequence[bytes], message: str, body: bytes, seconds: int) -> dict[str, str]:
    """The headers of the message with that id at that time (Unix seconds): one signature a key, so that a receiver may
    know the old or the new one while they are changed. Without keys, it has none."""
    headers = {"webhook-id": message, "webhook-timestamp": str(seconds)}
    if keys:
        content = f"{message}.{seconds}.".encode() + body
        macs = (hmac.digest(key, content, sha256) for key in keys)
        headers["webhook-signature"] = " ".join(f"v1,{base64.b64encode(mac).decode()}" for mac in macs)
    return headers
