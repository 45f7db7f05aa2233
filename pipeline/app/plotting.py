"""Curves as pictures, without a window system."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError, MissingPart


@contextmanager
def chart(path: Path, legend: str = "lower right") -> Iterator[Any]:
    """Axes to draw on, which become the PNG at `path`, the legend in that corner. Raises `MissingPart` without
    matplotlib, and `InputError` where it cannot be written."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPart("matplotlib is not installed: pip install 'thresher[plot]'", str(path)) from None
    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    yield axes
    axes.grid(alpha=0.3)
    axes.legend(loc=legend)
    try:
        FigureCanvasAgg(figure).print_png(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", str(path)) from None
