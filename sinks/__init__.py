"""Where results go: one adapter a file. To add one: a module with its class, a line here, a test that runs the
contract suite of `tests/contracts`, an example config."""

from pipeline.core.catalogue import Catalogue

CATALOGUE = Catalogue(
    "sink",
    "thresher.sinks",
    {
        "clip": "sinks.clip:Clip",
        "console": "sinks.console:Console",
        "doubts": "sinks.doubts:Doubts",
        "faulty": "sinks.faulty:Faulty",
        "jsonl": "sinks.jsonl:Jsonl",
        "kafka": "sinks.kafka:Kafka",
        "memory": "sinks.memory:Memory",
        "mqtt": "sinks.mqtt:Mqtt",
        "postgres": "sinks.postgres:Postgres",
        "redis": "sinks.redis:Redis",
        "rejects": "sinks.rejects:Rejects",
        "sqlite": "sinks.sqlite:Sqlite",
        "video": "sinks.video:Video",
        "webhook": "sinks.webhook:Webhook",
    },
)
