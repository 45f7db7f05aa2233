"""A copy of each clip in an S3-compatible store. The folder is the outbox: what has not arrived, the next run sends."""

from __future__ import annotations

import importlib.util
import logging
import re
import threading
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from pipeline.core import reach
from pipeline.core.backoff import backoff
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.secrets import redact, remember
from pipeline.core.settings import Settings
from sinks.clip_folder import SENT, SIDECAR, ClipFolder

log = logging.getLogger(__name__)

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_LONGEST_WAIT_S: Final = 60.0
_LOOK_S: Final = 5.0  # for clips that somebody else put there
_ANSWER_S: Final = 20.0
_FAREWELL_S: Final = 5.0  # what has not arrived by then is sent by the next run
_KINDS: Final = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".json": "application/json",
}


class S3(Settings):
    """Where copies of clips go."""

    bucket: str = Field(description="it has to be there")
    endpoint: str = Field(default="https://s3.amazonaws.com", description="http(s)://host or http(s)://host:port")
    prefix: str = Field(default="", max_length=512, description="put before the names, like site-7/")
    region: str | None = Field(default=None, description="where the store asks for one")
    access_key: str = Field(min_length=1, description="keep it out of here with ${VARIABLE}")
    secret_key: str = Field(min_length=1, repr=False, description="keep it out of here with ${VARIABLE}")

    def model_post_init(self, _context: object) -> None:
        remember(self.secret_key)

    @field_validator("bucket")
    @classmethod
    def _is_a_bucket(cls, value: str) -> str:
        if not _BUCKET.fullmatch(value):
            raise ValueError("should be a bucket's name: 3 to 63 letters, digits, and . _ - between them")
        return value

    @field_validator("endpoint")
    @classmethod
    def _is_a_server(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or parts.username or parts.path.strip("/") or parts.query:
            raise ValueError("should be http(s)://host or http(s)://host:port, and nothing behind or before it")
        return value

    def check(self) -> None:
        """Raises `InputError`, and `MissingPart` where the library is not installed."""
        try:
            reach.check(urlsplit(self.endpoint).hostname or "", private=True)
        except reach.OutOfReachError as error:
            raise InputError(redact(error), "s3.endpoint") from None
        if importlib.util.find_spec("minio") is None:
            raise MissingPart("uploading clips needs the package minio: pip install 'thresher[s3]'", "s3")


class Uploader:
    """Sends what is in the folder and has no mark of having been sent, the oldest first, for as long as it takes. A
    thread of its own: an upload lasts as long as the line is slow, and cutting must not wait for it."""

    def __init__(self, plan: S3, folder: ClipFolder) -> None:
        from minio import Minio

        from sinks.clip_store import connections

        remember(plan.secret_key)  # again: this may be another process
        self._plan, self._folder = plan, folder
        parts = urlsplit(plan.endpoint)
        self._client: Any = Minio(
            endpoint=parts.netloc,
            access_key=plan.access_key,
            secret_key=plan.secret_key,
            secure=parts.scheme == "https",
            region=plan.region,
            http_client=connections(_ANSWER_S),
        )
        self.sent = 0
        self._trouble = ""
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="clip-uploads", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is a new clip."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """What is left is sent if that goes quickly."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_FAREWELL_S)
        if left := len(self._left()):
            log.warning("%d clips are not in the bucket %s yet: the next run sends them", left, self._plan.bucket)

    def _left(self) -> list[Path]:
        return [path for path in self._folder.clips() if not _mark(path).exists()]

    def _run(self) -> None:
        waits = backoff(0.5, _LONGEST_WAIT_S)
        end = float("inf")
        while time.monotonic() < end:
            wait_s = _LOOK_S
            try:
                for path in self._left():
                    self._send(path)
                    waits, self._trouble = backoff(0.5, _LONGEST_WAIT_S), ""
                    if time.monotonic() > end:
                        return
            except Exception as error:  # noqa: BLE001 whatever a library raises, the clip stays where it is and is tried again
                wait_s = next(waits)
                self._say(f"{type(error).__name__}: {redact(error)}")
                if self._closing:
                    return
            with self._changed:
                if self._closing and end < float("inf"):
                    return
                if not self._closing:
                    self._changed.wait(wait_s)
                if self._closing:
                    end = time.monotonic() + _FAREWELL_S

    def _send(self, path: Path) -> None:
        """What it shows first: who finds the film finds that, too."""
        for one in (Path(f"{path}{SIDECAR}"), path):
            name = f"{self._plan.prefix}{path.parent.name}/{one.name}"
            try:
                self._client.fput_object(self._plan.bucket, name, str(one), content_type=_KINDS[one.suffix])
            except FileNotFoundError:
                return  # there was no room for it any more
        _mark(path).touch()
        self.sent += 1

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("clips wait for the bucket %s: %s", self._plan.bucket, trouble)
        self._trouble = trouble


def _mark(path: Path) -> Path:
    return Path(f"{path}{SENT}")
