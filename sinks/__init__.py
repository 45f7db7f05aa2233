"""Where results go: one adapter a file. To add one: a module with its class, a line here, a test that runs the
contract suite of `tests/contracts`, an example config."""

from pipeline.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "sink",
    "thresher.sinks",
    {
        "console": "sinks.console:Console",
        "doubts": "sinks.doubts:Doubts",
        "faulty": "sinks.faulty:Faulty",
        "jsonl": "sinks.jsonl:Jsonl",
        "memory": "sinks.memory:Memory",
        "rejects": "sinks.rejects:Rejects",
        "sqlite": "sinks.sqlite:Sqlite",
        "video": "sinks.video:Video",
    },
)
