"""What runs, as a config would say it; what judges; and what could be added."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.app.config.cascades import known_cascades
from pipeline.app.config.schema import source_schemas
from pipeline.app.evaluation.rules import rule_document
from pipeline.app.web.access import viewer
from pipeline.app.web.admission import HttpAdmission
from pipeline.app.web.site import Site
from pipeline.core.yaml_text import yaml_text


class Config(BaseModel):
    config: dict[str, Any] = Field(description="as it runs now; references as they were written, secrets not shown")
    yaml: str = Field(description="the same, to be read")


class Cascade(BaseModel):
    """A cascade that judges at least one stream now."""

    name: str
    generation: str = Field(description="its models and thresholds, under one id")
    certified: bool
    promise: str = Field(description="what its certificate says, in a line; empty without one")
    about: str
    streams: list[str] = Field(description="what it judges")
    stages: list[dict[str, Any]] = Field(description="model, version, runtime and precision, the cheap stage first")
    rule: dict[str, Any]
    certificate: dict[str, Any] | None


class Cascades(BaseModel):
    cascades: list[Cascade]


class Kind(BaseModel):
    kind: str
    description: str
    required: list[str]
    allowed: bool = Field(description="whether the config lets it be added here")
    json_schema: dict[str, Any] = Field(alias="schema", description="JSON Schema of its settings")


class Known(BaseModel):
    name: str
    about: str


class Kinds(BaseModel):
    kinds: list[Kind]
    cascades: list[Known] = Field(description="what a stream may name as its `cascade`")
    definitions: dict[str, Any] = Field(alias="$defs", description="what the schemas refer to")


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["config"], dependencies=[viewer])
    allowed = HttpAdmission(site.settings).kinds

    @routes.get("/config")
    def config() -> Config:
        """The config, with what was added and changed since it began."""
        said = site.control.config
        return Config(config=said, yaml=yaml_text(said))

    @routes.get("/cascades")
    def cascades() -> Cascades:
        """What judges, with its certificate."""
        return Cascades(cascades=list(_cascades(site)))

    @routes.get("/kinds")
    def kinds() -> Kinds:
        """The kinds of source with their settings, for a form; and the cascades to choose from."""
        options, definitions = _schemas()
        return Kinds.model_validate(
            {
                "kinds": [
                    {
                        "kind": one["title"],
                        "description": one.get("description", ""),
                        "required": one["required"],
                        "allowed": one["title"] in allowed,
                        "schema": one,
                    }
                    for one in options
                ],
                "cascades": [{"name": k, "about": v} for k, v in known_cascades(site.control.config).items()],
                "$defs": definitions,
            }
        )

    return routes


@cache
def _schemas() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return source_schemas()


def _cascades(site: Site) -> list[Cascade]:
    plan, generations = site.control.plan, site.control.generations
    out = []
    for name, one in generations.items():
        written = plan.cascades[name]
        certificate = written.certificate if one.certified else None
        out.append(
            Cascade(
                name=name,
                generation=one.id,
                certified=one.certified,
                promise=one.promise,
                about=written.about,
                streams=[stream for stream, cascade in plan.watches.items() if cascade == name],
                stages=[{"name": stage.name, **stage.describe()} for stage in one.stages],
                rule=rule_document(one.rule),
                certificate=None if certificate is None else certificate.model_dump(mode="json"),
            )
        )
    return out
