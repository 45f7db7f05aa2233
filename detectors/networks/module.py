"""torch's classes are untyped to the checker: this is the one place that says so."""

from __future__ import annotations

from torch import nn


class Module(nn.Module):  # type: ignore[misc]
    """What every network here is made of."""
