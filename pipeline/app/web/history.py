"""How an audit's bounds came to be what they are: a line of samples, fine for the last hour, coarser the older, kept in
a file beside the audit's own."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.core.files import write_whole
from pipeline.core.records import iso_time

log = logging.getLogger(__name__)

EVERY_S = 5.0
_KEPT = ((3600.0, EVERY_S), (86_400.0, 120.0), (60 * 86_400.0, 3600.0))
"""Up to what age one sample in so many seconds is kept: 720, 720 and 1,440 of them at most."""
_THIN_AFTER = 60  # samples
_LARGEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Point:
    """`time_s` is the wall's clock, in seconds since 1970; the others as `AuditReport` has them."""

    time_s: float
    estimate: float | None
    lower: float
    upper: float
    worst: float | None
    audited: int

    def document(self) -> dict[str, Any]:
        said = asdict(self)
        return {"time": iso_time(int(said.pop("time_s") * 1e9)), **said}


def thinned(points: Sequence[Point], now_s: float) -> list[Point]:
    """Of each stretch the last one. What lies ahead of the clock, which may have been set back, counts as new."""
    kept: list[Point] = []
    of: tuple[float, int] | None = None
    for point in points:
        age_s = max(now_s - point.time_s, 0.0)
        step_s = next((step for most, step in _KEPT if age_s <= most), None)
        if step_s is None:
            continue
        stretch = step_s, int(point.time_s // step_s)
        if stretch == of:
            kept[-1] = point
        else:
            kept.append(point)
        of = stretch
    return kept[-sum(int(most / step) for most, step in _KEPT) :]


class History:
    """Of one generation under its bets, which are the `key`: of any other the file is begun anew. Thread-safe."""

    def __init__(self, path: Path, key: Sequence[object]) -> None:
        self._path = path
        self._key = list(key)
        self._lock = threading.Lock()
        self._points = self._read()
        self._fresh = 0
        self._complained = False

    def add(self, point: Point) -> None:
        with self._lock:
            if self._points and point.time_s < self._points[-1].time_s:
                self._points = [one for one in self._points if one.time_s < point.time_s]  # the clock was set back
            self._points.append(point)
            self._fresh += 1
            if self._fresh % _THIN_AFTER == 0:
                self._points = thinned(self._points, point.time_s)

    @property
    def points(self) -> list[Point]:
        with self._lock:
            return list(self._points)

    def save(self) -> None:
        """A chart is not worth a stop: where the disk fails, that is said once."""
        with self._lock:
            rows = [[one.time_s, one.estimate, one.lower, one.upper, one.worst, one.audited] for one in self._points]
        try:
            write_whole(self._path, json.dumps({"format": 1, "key": self._key, "points": rows}).encode())
        except OSError as error:
            if not self._complained:
                log.warning("%s: the bounds' history cannot be kept: %s", self._path, error.strerror)
            self._complained = True

    def _read(self) -> list[Point]:
        try:
            with self._path.open("rb") as file:
                data = file.read(_LARGEST_BYTES + 1)
            document = json.loads(data)
            if document["format"] != 1 or document["key"] != self._key:
                return []
            return [_point(row) for row in document["points"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            log.warning("%s is no history of bounds that can be read: it begins anew", self._path)
            return []


def _point(row: Sequence[Any]) -> Point:
    """Raises `ValueError` or `TypeError` for what is none."""
    time_s, estimate, lower, upper, worst, audited = row
    shares = [None if one is None else float(one) for one in (estimate, worst)]
    if not 0 <= float(time_s) < 1e11 or any(not 0 <= one <= 1 for one in (lower, upper, *filter(None, shares))):
        raise ValueError("no such point")
    return Point(float(time_s), shares[0], float(lower), float(upper), shares[1], int(audited))
