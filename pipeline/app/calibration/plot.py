"""The cost/recall curve as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.core.errors import MissingPart


def draw(rows: Sequence[Mapping[str, float | int]], chosen: int | None, path: Path) -> None:
    """A PNG of the rows of `calibrate.curve`. Raises `MissingPart` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPart("matplotlib is not installed: pip install 'thresher[plot]'", str(path)) from None
    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    cost = [row["heavy_units"] for row in rows]
    axes.plot(cost, [row["recall"] for row in rows], marker=".", label="recall in these data")
    axes.plot(cost, [1 - row["provable"] for row in rows], linestyle="--", label="recall that each alone would prove")
    if chosen is not None:
        axes.scatter([cost[chosen]], [rows[chosen]["recall"]], s=80, zorder=3, label="certified")
    axes.set(xlabel="share of units that the heavy stage sees", ylabel="share of positives that are reported")
    axes.set_ylim(top=1.01)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    FigureCanvasAgg(figure).print_png(path)
