"""The cost/recall curve as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.app.plotting import chart


def draw(rows: Sequence[Mapping[str, float | int]], chosen: int | None, path: Path) -> None:
    """A PNG of the rows of `calibrate.curve`. Raises `MissingPart` without matplotlib."""
    cost = [row["heavy_units"] for row in rows]
    with chart(path) as axes:
        axes.plot(cost, [row["recall"] for row in rows], marker=".", label="recall in these data")
        provable = [1 - row["provable"] for row in rows]
        axes.plot(cost, provable, linestyle="--", label="recall that each alone would prove")
        if chosen is not None:
            axes.scatter([cost[chosen]], [rows[chosen]["recall"]], s=80, zorder=3, label="certified")
        axes.set(xlabel="share of units that the heavy stage sees", ylabel="share of positives that are reported")
        axes.set_ylim(top=1.01)
