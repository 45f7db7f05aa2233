"""Each result, event and ruling as a signed HTTP POST."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field

from pipeline.core import reach
from pipeline.core.contracts import Courier, Remote
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.secrets import redact, remember, remember_url
from sinks.signing import key_of

Secrets = Annotated[
    tuple[str, ...],
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else value, json_schema_input_type=str | tuple[str, ...]
    ),
]

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e\x80-\xff]*")
_SECRET = re.compile(r"(?i)auth|token|key|secret|cookie|sign|pass")
_TOKENS = re.compile(r"[^/?&=#]{16,}")
_OURS: Final = frozenset({"content-length", "content-type", "host", "connection", "transfer-encoding"})
_URL: Final = "should be a URL like https://host/path"


class Webhook(Remote):
    """One POST a document, JSON, signed by the Standard Webhooks scheme; any answer of 200 to 299 counts as received.

    408, 425, 429, 500 and above, and no answer at all: it is sent again, not before the time that `Retry-After` asks
    for. Any other answer is a refusal for good, redirects among them, which are not followed. A stream's documents come
    in order, over one connection; `webhook-id` is the same when one comes again.
    """

    url: str = Field(repr=False, description="http:// or https:// of the receiver")
    secrets: Secrets = Field(
        (), repr=False, description="`whsec_…` to sign with; several while they are changed. Give it as ${VARIABLE}"
    )
    batch: int = Field(1, ge=1, le=1000, description="how many documents a POST holds; above 1, as a JSON array")
    concurrency: int = Field(
        8, ge=1, le=64, description="connections at once; a stream keeps to one, so that its order is kept"
    )
    headers: Mapping[str, str] = Field({}, repr=False, description="further headers, such as Authorization")
    ca_file: str = Field("", description="PEM file of the authorities to trust, instead of the system's")

    def model_post_init(self, _context: object) -> None:
        self._remember()

    def _remember(self) -> None:
        remember_url(self.url)
        for token in _TOKENS.findall(self.url.partition("://")[2].partition("/")[2]):
            remember(token)  # whoever knows such a path may post to it
        for secret in (*self.secrets, *(value for name, value in self.headers.items() if _SECRET.search(name))):
            remember(secret)

    def parts(self) -> SplitResult:
        """Of the URL. Raises `InputError`."""
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
            sound = sound and parts.netloc.partition("]")[2][:1] in {"", ":"}
        except ValueError:
            sound = False
        if not sound or not self.url.isprintable() or " " in self.url:
            raise InputError(_URL, "url")
        return parts

    def keys(self) -> list[bytes]:
        """Raises `InputError`."""
        try:
            return [key_of(secret) for secret in self.secrets]
        except ValueError as error:
            raise InputError(str(error), "secrets") from None

    def tls(self) -> ssl.SSLContext:
        """Raises `InputError`."""
        try:
            return ssl.create_default_context(cafile=os.path.expanduser(self.ca_file) if self.ca_file else None)
        except OSError as error:
            raise InputError(f"cannot be used: {error.strerror or error}", "ca_file") from None

    def check(self) -> None:
        try:
            reach.check(str(self.parts().hostname), private=False)
        except reach.OutOfReachError as error:
            raise InputError(redact(error), "url") from None
        self.keys()
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
                raise InputError("a header is a name without spaces and one line of Latin text", f"headers.{name}")
            if name.lower() in _OURS or name.lower().startswith("webhook-"):
                raise InputError("this header is set by the sink itself: leave it out", f"headers.{name}")
        if self.ca_file:
            self.tls()
        _library()

    def connect(self, name: str) -> Courier:
        self._remember()  # again: this may be another process
        self.check()
        from sinks.webhook_posting import Poster

        return Poster(self)


def _library() -> None:
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise MissingPart("needs the package aiohttp: pip install 'thresher[webhook]'") from None
