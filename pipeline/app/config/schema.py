"""The JSON Schema of a config, made from the very classes that check it, so that the two cannot disagree."""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from pipeline.app.config.cascades import shipped_cascades
from pipeline.app.config.load import AROUND
from pipeline.app.config.settings import STATE, CascadeSections, MetricsSettings, WebSettings
from pipeline.core.catalogue import Catalogue
from pipeline.core.errors import MissingPart
from pipeline.core.reach import NetworkSettings

_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_IN_CODE_ONLY = frozenset({"memory"})  # its settings are Python objects
_TEXT_OR = {"type": "string", "pattern": r"\$\{[^}]+\}"}
Schema = dict[str, Any]


def json_schema() -> Schema:
    """Draft 2020-12. Any value that is no text may be a `${NAME}` of the environment as well."""
    from detectors import GATES, RULES
    from detectors.calibration.live import AuditSettings
    from detectors.choice import ModelChoice
    from pipeline.engine.event_settings import EventSettings
    from pipeline.engine.policy_settings import PolicySettings
    from sinks import CATALOGUE as SINKS
    from sources import CATALOGUE as SOURCES

    made = _Definitions()
    source, gate = made.one_of(SOURCES), made.one_of(GATES, {"refresh_s": {"type": "number", "exclusiveMinimum": 0}})
    tracks = [shape for shape in made.definitions.values() if "gate" in shape.get("properties", {})]
    for option in (*source["oneOf"], *tracks):
        option["properties"]["gate"] = {"anyOf": [{"enum": GATES.kinds()}, {"$ref": "#/$defs/gate"}, {"type": "null"}]}
    cascade = made.of(CascadeSections)
    cascade["properties"] |= {
        "cheap": made.of(ModelChoice) | {"description": cascade["properties"]["cheap"]["description"]},
        "heavy": {"anyOf": [made.of(ModelChoice), {"type": "null"}]},
        "rule": {"anyOf": [{"$ref": "#/$defs/rule"}, {"type": "null"}]},
        "audit": {"anyOf": [made.of(AuditSettings), {"type": "null"}]}
        | {"description": cascade["properties"]["audit"]["description"]},
    }
    base = cascade["properties"].pop("base")
    changed = {name: {"type": ["object", "null"]} for name in ("cheap", "heavy", "rule")}
    own = {
        "source": source,
        "gate": gate,
        "rule": made.one_of(RULES),
        "sink": made.one_of(SINKS),
        "cascade": {
            "if": {"required": ["base"]},
            "then": {
                **cascade,
                "properties": cascade["properties"] | changed | {"base": base | {"enum": shipped_cascades()}},
                "required": ["base"],
            },
            "else": cascade,
        },
    }
    by_name = {"anyOf": [{"$ref": "#/$defs/cascade"}, {"type": "string", "examples": shipped_cascades()}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A config of thresher",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "sources": _named("source", "the streams, each by its name"),
            "cascade": by_name | {"description": "the cascade of every source that names no other"},
            "cascades": _named("cascade", "cascades by name; a source names its own"),
            "events": made.of(EventSettings),
            "policy": made.of(PolicySettings),
            "sinks": _named("sink", "where results go, each by its name"),
            "metrics": made.of(MetricsSettings),
            "web": made.of(WebSettings),
            "state": {"type": ["string", "null"], "minLength": 1, "description": STATE},
            "network": made.of(NetworkSettings),
        },
        "$defs": {**made.definitions, **own},
    }


def source_schemas() -> tuple[list[Schema], Schema]:
    """Of each kind of source the schema of its settings, titled by the kind; and the definitions they refer to."""
    schema = json_schema()
    return schema["$defs"]["source"]["oneOf"], schema["$defs"]


def _named(what: str, about: str) -> Schema:
    return {
        "type": "object",
        "description": about,
        "propertyNames": {"pattern": _NAME},
        "additionalProperties": {"$ref": f"#/$defs/{what}"},
    }


class _Validation(GenerateJsonSchema):
    """What a reference to the environment stands for is known only when it runs, so it fits everywhere."""

    def generate(self, schema: Any, mode: JsonSchemaMode = "validation") -> Schema:
        return super().generate(schema, mode)

    def int_schema(self, schema: Any) -> Schema:
        return {"anyOf": [super().int_schema(schema), _TEXT_OR]}

    def float_schema(self, schema: Any) -> Schema:
        return {"anyOf": [super().float_schema(schema), _TEXT_OR]}

    def bool_schema(self, schema: Any) -> Schema:
        return {"anyOf": [super().bool_schema(schema), _TEXT_OR]}


class _Definitions:
    """Collects what the schemas of several classes share."""

    def __init__(self) -> None:
        self.definitions: Schema = {}

    def of(self, model: type[BaseModel]) -> Schema:
        keys, top = models_json_schema([(model, "validation")], schema_generator=_Validation)
        self.definitions |= top.get("$defs", {})
        reference = cast(str, keys[model, "validation"]["$ref"]).rpartition("/")[2]
        return cast(Schema, self.definitions.pop(reference))

    def one_of(self, catalogue: Catalogue, beside: Schema | None = None) -> Schema:
        """One option per kind; `beside` are properties that every kind has and no class knows of."""
        options = []
        for kind in catalogue.kinds():
            if kind in _IN_CODE_ONLY:
                continue
            try:
                model = catalogue.load(kind)
            except MissingPart:
                continue  # an extra that is not installed here cannot be described here
            made = self.of(model)
            made["title"] = kind
            made["properties"] = {"kind": {"const": kind}, **made.get("properties", {}), **(beside or {})}
            if AROUND in made["properties"]:  # any other of the same catalogue
                about = model.model_fields[AROUND].description
                made["properties"][AROUND] = {"$ref": f"#/$defs/{catalogue.what}", "description": about}
            made["required"] = ["kind", *made.get("required", [])]
            options.append(made)
        return {"oneOf": options}
