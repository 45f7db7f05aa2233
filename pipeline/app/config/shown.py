"""A config as it may be shown: with its references as they were written, without what is secret.

Two nets: what is known to be a secret (`pipeline/core/secrets.py`), and whatever stands under a name that secrets have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.core.secrets import HIDDEN, redact

_SECRET = re.compile(
    r"(?i)passw|passphrase|secret|token|credential|authoriz|cookie|jaas|api.?key|access.?key|private.?key"
    r"|\.key$|^(operator|viewer|say)$"
)
_BY_REFERENCE = re.compile(r"(?<=://)(?:[^\s:/@${}]*:)?\$\{[^}]*\}@")
_PLACE = "\ue000"
_REFERENCE = re.compile(r"\$\{[^}]*\}")


def is_secret(name: object) -> bool:
    """Whether what goes by that name is one."""
    return _SECRET.search(str(name)) is not None


def shown(value: Any, *, secret: bool = False) -> Any:
    """`value` for people's eyes. With `secret` it stands under a name that says so."""
    if isinstance(value, Mapping):
        return {str(key): shown(one, secret=secret or is_secret(key)) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(one, secret=secret) for one in value]
    if secret and value not in (None, "", True, False) and not (isinstance(value, str) and _REFERENCE.fullmatch(value)):
        return HIDDEN
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """A password by reference shows as it was written; any other goes with its user."""
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return _PLACE

    text = redact(_BY_REFERENCE.sub(keep, value.replace(_PLACE, "")))
    for one in kept:
        text = text.replace(_PLACE, one, 1)
    return text


def holds_secret(value: Any, *, secret: bool) -> bool:
    """Whether a single value has a reference in it, or anything that is not shown."""
    return (isinstance(value, str) and "${" in value) or shown(value, secret=secret) != value


def merged(old: Any, patch: Any, *, secret: bool = False) -> Any:
    """`old` with what a merge patch (RFC 7396) says in its place. What comes back as it was `shown` stays what it is,
    so that a form may send all that it shows."""
    if isinstance(patch, Mapping):
        out = dict(old) if isinstance(old, Mapping) else {}
        for key, value in patch.items():
            if value is None:
                out.pop(key, None)
            else:
                out[key] = merged(out.get(key), value, secret=secret or is_secret(key))
        return out
    return old if patch == shown(old, secret=secret) else patch
