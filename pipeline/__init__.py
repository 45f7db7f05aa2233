"""Thresher's house: the vocabulary (`core`), what moves windows (`engine`), what a person touches (`app`).

From Python: `from pipeline import watch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.app.watching import Watch, watch

__all__ = ["Watch", "watch"]


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: whoever wants a record needs no engine."""
    if name in __all__:
        from pipeline.app import watching

        return getattr(watching, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
