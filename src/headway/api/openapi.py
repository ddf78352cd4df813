"""The API's own description: texts, error answers and the finished OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from headway.api.access import PUBLIC
from headway.api.schemas import ErrorBody

TITLE = "Headway control API"
DESCRIPTION = """\
Publishes models, moves traffic between their versions and tells what happens.

* Every request needs a token (`Authorization: Bearer hw_…`), except `GET /healthz`.
* Every answer with a status of 400 or above has the same form:
  `{"error": {"code", "message", "where", "hint", "details"}}`.
* Changes are accepted (`202`) as soon as they are durable; the events after the answer's `cursor` tell how
  they go on (`GET /v1/events?after=CURSOR&model=NAME`, also as server-sent events).
* Instants are seconds since the epoch (UTC); weights are whole percents that sum to 100.
"""
TAGS = [
    {"name": "models", "description": "What is deployed."},
    {"name": "rollouts", "description": "Deploying versions and moving traffic between them."},
    {"name": "scaling", "description": "By which signals replicas come and go, and why they did."},
    {"name": "logs", "description": "What replicas print."},
    {"name": "query log", "description": "Every request, and latency over windows."},
    {"name": "bundles", "description": "The files of versions, by digest."},
    {"name": "events", "description": "Every state transition, durable and in order."},
    {"name": "tokens", "description": "Who may call. Admin tokens only."},
    {"name": "installation", "description": "The installation itself."},
]
MEANINGS = {
    400: "The request breaks a rule; `where` names the place, `hint` says what to do.",
    401: "No token, or one that is unknown, revoked or expired.",
    403: "The token does not cover this.",
    404: "It is not there.",
    405: "The path exists, the method does not.",
    409: "The present state does not allow it.",
    413: "The body is above its limit.",
    415: "The content type or encoding is not accepted here.",
    422: "Valid, but not supported by this release or this runtime (`unsupported`).",
    500: "A fault of Headway's own; its log tells more.",
}

Responses = dict[int | str, dict[str, Any]]


def refusals(*statuses: int) -> Responses:
    """Documented error answers: the given ones and those that any endpoint may give."""
    return public_refusals(400, 401, 403, 500, *statuses)


def public_refusals(*statuses: int) -> Responses:
    """Documented error answers: the given ones only."""
    return {status: {"model": ErrorBody, "description": MEANINGS[status]} for status in sorted(set(statuses))}


def taking_json(*statuses: int) -> Responses:
    """As :func:`refusals`, for endpoints with a JSON body."""
    return refusals(413, 415, *statuses)


def document(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's own, without its 422 form, with the bearer tokens."""
    described = get_openapi(
        title=TITLE,
        version=api.version,
        description=DESCRIPTION,
        tags=TAGS,
        routes=api.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    for path, operations in described["paths"].items():
        for operation in operations.values():
            answers = operation["responses"]
            if "HTTPValidationError" in str(answers.get("422")):
                del answers["422"]
            if path in PUBLIC:
                operation["security"] = []
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
    components = described.setdefault("components", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(unused, None)
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "`headway token create NAME --scope deploy`"}
    }
    described["security"] = [{"token": []}]
    return described


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter can be left out, but it cannot be null: there is no such text."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return schema
    return {**{key: value for key, value in schema.items() if key != "anyOf"}, **choices[0]}
