"""What a call of `thresher` gives the tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TypeAlias

Called: TypeAlias = "subprocess.CompletedProcess[str]"
Thresher: TypeAlias = Callable[..., Called]
COMMAND = (sys.executable, "-m", "pipeline.app.cli")
