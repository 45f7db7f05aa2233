"""The table: every parser, decoder's boundary, config and wire format, by name."""

from __future__ import annotations

import importlib
import os

from tests.fuzz.documents import DOCUMENTS
from tests.fuzz.media import MEDIA
from tests.fuzz.target import Target
from tests.fuzz.wires import WIRES

TARGETS: dict[str, Target] = {target.name: target for target in (*DOCUMENTS, *MEDIA, *WIRES)}

if _extra := os.environ.get("FUZZ_EXTRA"):  # a target of one's own, as `module:attribute`
    _module, _, _name = _extra.partition(":")
    _target: Target = getattr(importlib.import_module(_module), _name)
    TARGETS[_target.name] = _target
