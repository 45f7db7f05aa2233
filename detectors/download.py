"""Weights that are fetched at first use: verified by their digest, kept in the cache, never half there."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from detectors.manifest import digest
from detectors.runtimes.base import cache_folder
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.secrets import redact, remember_url
from pipeline.core.web import Timeouts, opener

TIMEOUT_S = 20.0  # without a byte
LARGEST = 4 << 30
"""Of weights that are fetched, in bytes: whoever answers must not fill the disk."""
_PIECE = 1 << 20
_REPORT_S = 2.0
_SCHEMES = ("https", "http")
_log = logging.getLogger(__name__)


def fetched(url: str, sha256: str, file: str) -> Path:
    """The file of that name in the cache, downloaded from `url` if it is not there yet.

    `sha256` are its digest's first digits (8 at least; all 64 where the publisher gives them). A file that a person
    put there by hand is as good as a downloaded one, if its digest is right.
    Raises `MissingPart` when it cannot be fetched, which says what to put where, and `InputError` when what came is
    not what was expected (and is not kept).
    """
    path = cache_folder() / "weights" / file
    if path.is_file():
        found = digest(path)
        if found.startswith(sha256):
            return path
        _log.warning("%s is damaged (its SHA-256 is %s…, not %s…): fetching it again", path, found[:12], sha256[:12])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{file}.")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                found = _download(url, path, out)
                out.flush()
                os.fsync(handle)
            if not found.startswith(sha256):
                raise InputError(
                    f"{redact(url)} answered with something else: its SHA-256 is {found[:12]}…, not {sha256[:12]}…; "
                    "it was not kept",
                    str(path),
                )
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    return path


def _download(url: str, path: Path, out: IO[bytes]) -> str:
    """Writes what `url` answers to `out`; its SHA-256. `path` is for messages."""
    remember_url(url)
    _log.info("fetching %s", redact(url))
    hasher = hashlib.sha256()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "thresher"})  # noqa: S310  # schemes are checked
        with _opener(url).open(request) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            got, reported = 0, time.monotonic()
            if total > LARGEST:
                raise _too_large(url, path)
            while piece := answer.read(_PIECE):
                hasher.update(piece)
                try:
                    out.write(piece)
                except OSError as error:
                    raise _unwritable(path, error) from None
                got += len(piece)
                if got > LARGEST:
                    raise _too_large(url, path)
                if time.monotonic() - reported > _REPORT_S:
                    reported = time.monotonic()
                    _log.info("%s: %d of %s MiB", path.name, got >> 20, total >> 20 if total else "?")
            if got < total:
                raise http.client.IncompleteRead(b"", total - got)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = " ".join(redact(error.reason if type(error) is urllib.error.URLError else error).split())
        raise MissingPart(
            f"these weights are not on this machine and cannot be fetched ({reason}): "
            f"get {redact(url)} on a machine that can, and put it at {path}",
            path.name,
        ) from None
    return hasher.hexdigest()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A few, as publishers of weights need them: never from https to http, never to another scheme, each within reach
    like the first. What comes in the end is known by its digest."""

    max_redirections = 5

    def redirect_request(  # noqa: PLR0917  # the base class's
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in _SCHEMES or (scheme == "http" and urlsplit(req.full_url).scheme == "https"):
            raise urllib.error.HTTPError(newurl, code, f"redirects to {newurl}, which is refused", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    if urlsplit(url).scheme not in _SCHEMES:
        raise InputError("weights are fetched over https or http only", redact(url))
    made = opener(Timeouts(TIMEOUT_S, TIMEOUT_S), private=False, proxies=True)
    made.add_handler(_Redirects())
    return made


def _too_large(url: str, path: Path) -> InputError:
    most = f"{LARGEST >> 20} MiB"
    return InputError(f"{redact(url)} answers with more than {most}: it was not kept", str(path))


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot be written: {error.strerror or redact(error)}", str(path))
