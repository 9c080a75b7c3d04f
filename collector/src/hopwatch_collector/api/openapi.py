"""The OpenAPI document: what FastAPI finds by itself, with our errors and the read token added."""

from typing import Any

from fastapi import FastAPI

from hopwatch_collector.api.access import OPEN_PATHS
from hopwatch_collector.api.models import Problem
from hopwatch_collector.api.problems import MEDIA_TYPE, TYPE_PREFIX

TAGS = [
    {"name": "flows", "description": "Everything that one trigger caused."},
    {"name": "messages", "description": "One payload sent once to one destination."},
    {
        "name": "deliveries",
        "description": "A message and a receiver that was owed it, and what became of it.",
    },
    {"name": "lag", "description": "What waits."},
    {"name": "topology", "description": "Who sends to whom."},
    {"name": "search", "description": "Finding any of them."},
    {"name": "live", "description": "What happens now."},
    {"name": "health", "description": "For supervisors; no token needed."},
    {"name": "metrics", "description": "For Prometheus."},
]
PROBLEMS = {
    "401": ("unauthorized", "The read token is missing or wrong"),
    "404": ("not-found", "Nothing is known under this id"),
    "422": (
        "invalid-parameter",
        "A parameter is not accepted, or the answer is over the query limits (query-limit)",
    ),
    "500": ("internal", "The collector failed; its log says more under the id in `instance`"),
    "503": ("saturated", "Too many queries at once, or the store does not answer; see Retry-After"),
}


def describe(app: FastAPI, *, needs_token: bool) -> None:
    """Make `app.openapi()` complete; it is built once, when first asked for."""
    plain = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain(), needs_token=needs_token)
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _completed(document: dict[str, Any], *, needs_token: bool) -> dict[str, Any]:
    document["tags"] = TAGS
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {}) | {"Problem": problem}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["responses"] = {_name(status): _response(status) for status in PROBLEMS}
    if needs_token:
        components["securitySchemes"] = {"readToken": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"] |= {status: _reference(status) for status in _expected(path, needs_token)}
            if needs_token and path not in OPEN_PATHS:
                operation["security"] = [{"readToken": []}]
    return document


def _expected(path: str, needs_token: bool) -> list[str]:
    if path in OPEN_PATHS:
        return []
    absent = {"401"} if not needs_token else set()
    if "{" not in path:
        absent.add("404")
    return [status for status in PROBLEMS if status not in absent]


def _name(status: str) -> str:
    return f"Problem{status}"


def _reference(status: str) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{_name(status)}"}


def _response(status: str) -> dict[str, Any]:
    kind, description = PROBLEMS[status]
    example = {"type": TYPE_PREFIX + kind, "title": description, "status": int(status), "detail": description}
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
    }
