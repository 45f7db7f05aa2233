"""Where traces go, and of how many windows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from pipeline.core import reach
from pipeline.core.secrets import redact, remember, remember_url
from pipeline.core.settings import Settings

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_PATH = "/v1/traces"


class TraceSettings(Settings):
    """OpenTelemetry traces of a share of the windows, sent by OTLP over HTTP: where the time of each went."""

    share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="of the windows, picked by a hash of their ids; failed ones are traced anyway, 5 a second at most",
    )
    endpoint: str = Field(
        default="http://127.0.0.1:4318",
        description="http:// or https:// of the receiver, a collector as a rule; without a path, /v1/traces is added",
    )
    headers: Mapping[str, str] = Field(
        default={}, repr=False, description="headers it asks for, such as Authorization. Give them as ${VARIABLE}"
    )
    service: str = Field(default="thresher", min_length=1, max_length=64, description="the `service.name` of traces")

    @property
    def url(self) -> str:
        path = urlsplit(self.endpoint).path
        return self.endpoint.rstrip("/") + _PATH if path in {"", "/"} else self.endpoint

    @model_validator(mode="after")
    def _can_be_sent_to(self) -> Self:
        remember_url(self.endpoint)
        for value in self.headers.values():
            remember(value)
            remember(value.partition(" ")[2])  # of `Bearer TOKEN`
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError("a header is a name without spaces and one line of plain text")
        try:
            parts = urlsplit(self.endpoint)
            sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
        if not sound or not self.endpoint.isprintable() or " " in self.endpoint or parts.query or parts.fragment:
            raise ValueError("`endpoint` should be a URL like http://127.0.0.1:4318")
        try:
            reach.check(str(parts.hostname), private=True)
        except reach.OutOfReachError as error:
            raise ValueError(redact(error)) from None
        return self
