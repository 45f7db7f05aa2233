"""The OpenAPI document of the interface, with what the framework cannot know: how to say who one is, and in what shape
every problem is told."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from pipeline.app.web.problems import Problem

OPEN = frozenset({"/api/health", "/api/ready", "/api/session"})
"""Nobody has to say who they are there: supervisors have no token, and the page has to know whether to ask for one."""
_METHODS = frozenset({"get", "put", "post", "delete", "options", "patch"})


def document(app: FastAPI) -> dict[str, Any]:
    """Made once."""
    if app.openapi_schema is None:
        made = app.openapi()
        parts = made.setdefault("components", {})
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        parts.setdefault("schemas", {}).setdefault("Problem", Problem.model_json_schema())
        made["security"] = [{"token": []}]
        for path, operations in made["paths"].items():
            for method in _METHODS & operations.keys():
                _complete(operations[method], free=path in OPEN or method == "options")
    assert app.openapi_schema is not None
    return app.openapi_schema


def _complete(operation: dict[str, Any], free: bool) -> None:
    if free:
        operation["security"] = []
    for status, answer in operation["responses"].items():
        if status >= "400" and "content" not in answer:
            answer["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
