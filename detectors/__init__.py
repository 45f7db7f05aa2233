"""What judges: stages over models (`image`), rules with the thresholds (`rules`), gates without a model (`gates`)."""

from pipeline.core.catalogue import Catalogue

GATES = Catalogue(
    "gate",
    "thresher.gates",
    {
        "duplicate": "detectors.gates.duplicate:Duplicate",
        "motion": "detectors.gates.motion:Motion",
    },
)

RULES = Catalogue(
    "rule",
    "thresher.rules",
    {
        "boxes": "detectors.rules.boxes:Boxes",
        "scores": "detectors.rules.scores:Scores",
    },
)
