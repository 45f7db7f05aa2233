"""What judges: stages over models (`image`), rules with the thresholds (`rules`), gates without a model (`gates`)."""

import sys

from pipeline.core.catalogue import Catalogue

# `import openvino` (and nncf) report their use to a web analytics service unless told otherwise. A program that watches
# cameras tells nobody: with this name barred, both fall back to stubs of their own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how an import is barred

GATES = Catalogue(
    "gate",
    "thresher.gates",
    {
        "duplicate": "detectors.gates.duplicate:Duplicate",
        "motion": "detectors.gates.motion:Motion",
        "voice": "detectors.gates.voice:Voice",
    },
)

RULES = Catalogue(
    "rule",
    "thresher.rules",
    {
        "boxes": "detectors.rules.boxes:Boxes",
        "regions": "detectors.rules.regions:Regions",
        "scores": "detectors.rules.scores:Scores",
    },
)
