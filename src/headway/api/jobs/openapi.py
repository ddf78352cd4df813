"""The OpenAPI document of the jobs' API. Kept by hand beside the routes; a test compares the two."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec

from headway import __version__
from headway.api.jobs.views import BatchView, EventView, JobView, ListView
from headway.control.jobs.orders import ROUTES
from headway.domain.lifecycle import JobState

PREFIX: Final = "/models/{model}/jobs"
PINNED: Final = "/models/{model}/versions/{version}/jobs"
_VIEWS: Final = (JobView, BatchView, ListView, EventView)


def _query(name: str, text: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string", **schema}}


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}


_WAIT: Final = _query("wait", "Answer when the job has ended, at the latest after so many seconds.", type="number")
_AFTER: Final = [
    _query("after", "Only what happened after this cursor.", type="integer"),
    _header("Last-Event-ID", "As `after`."),
]
_ORDER: Final = [
    _query("priority", "Larger is sooner.", type="integer", minimum=0, maximum=9, default=5),
    _query("notBefore", "RFC 3339, or a span from now like `10m`."),
    _query("deadline", "RFC 3339, or a span from now. What has not ended then, expires."),
    _query("webhook", "URL that is told of the end.", format="uri"),
    _query("route", f"Path of the model server: {', '.join(ROUTES)}, /v2/models/NAME/infer.", default="/predict"),
    _header("Idempotency-Key", "A second submission with this key is answered with the first one's job."),
]
_ANY: Final = {"*/*": {"schema": {"description": "What the route takes or answers."}}}


def _view(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _told(text: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"description": text, **({"content": content} if content is not None else {})}


_REFUSED: Final = {"default": _told("Refused, or failed.", _view("Error"))}
_STREAM: Final = _told("Events as they happen.", {"text/event-stream": {"schema": {"type": "string"}}})

OPERATIONS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "": {
        "POST": {
            "operationId": "submit",
            "summary": "Submit a job: it is stored when this is answered.",
            "parameters": [*_ORDER, _header("Prefer", "`wait=N`: answer when it has ended, at the latest after N s.")],
            "requestBody": {"required": True, "content": _ANY},
            "responses": {
                "202": _told("Stored.", _view("JobView")),
                "200": _told("It has ended within the time of `Prefer: wait`.", _view("JobView")),
                **_REFUSED,
            },
        },
        "GET": {
            "operationId": "list",
            "summary": "Jobs of the model, newest first.",
            "parameters": [
                _query("state", f"One or more of {', '.join(JobState)}, with commas between."),
                _query("client", "Name of the token that submitted."),
                _query("batch", "Id of a batch."),
                _query("version", "Version that they are pinned to."),
                _query("limit", "Jobs in a page.", type="integer", minimum=1, maximum=1000, default=100),
                _query("before", "Id: only jobs submitted before that one."),
            ],
            "responses": {"200": _told("One page.", _view("ListView")), **_REFUSED},
        },
    },
    "/batch": {
        "POST": {
            "operationId": "submitBatch",
            "summary": "Submit many jobs: all are stored, or none.",
            "parameters": _ORDER,
            "requestBody": {
                "required": True,
                "content": {
                    "application/x-ndjson": {"schema": {"type": "string", "description": "One body a line."}},
                    "application/json": {"schema": {"$ref": "#/components/schemas/Batch"}},
                },
            },
            "responses": {"202": _told("Stored.", _view("BatchView")), **_REFUSED},
        }
    },
    "/events": {
        "GET": {
            "operationId": "events",
            "summary": "Follow what happens to the model's jobs.",
            "parameters": _AFTER,
            "responses": {"200": _STREAM, **_REFUSED},
        }
    },
    "/openapi.json": {
        "GET": {
            "operationId": "openapi",
            "summary": "This document.",
            "responses": {"200": _told("OpenAPI 3.1.", {"application/json": {"schema": {"type": "object"}}})},
        }
    },
    "/{id}": {
        "GET": {
            "operationId": "get",
            "summary": "One job; with `Accept: text/event-stream` its events.",
            "parameters": [_WAIT],
            "responses": {"200": _told("The job.", _view("JobView")), **_REFUSED},
        },
        "DELETE": {
            "operationId": "cancel",
            "summary": "Cancel a job.",
            "responses": {
                "200": _told("It has ended.", _view("JobView")),
                "202": _told("It runs, and its worker is told.", _view("JobView")),
                **_REFUSED,
            },
        },
    },
    "/{id}/result": {
        "GET": {
            "operationId": "result",
            "summary": "What the prediction would have been answered with.",
            "parameters": [_WAIT],
            "responses": {"200": _told("The result.", _ANY), **_REFUSED},
        }
    },
    "/{id}/input": {
        "GET": {
            "operationId": "input",
            "summary": "What was submitted.",
            "responses": {"200": _told("The input.", _ANY), **_REFUSED},
        }
    },
    "/{id}/events": {
        "GET": {
            "operationId": "jobEvents",
            "summary": "Follow one job to its end.",
            "parameters": _AFTER,
            "responses": {"200": _STREAM, "204": _told("It has ended, and all was told."), **_REFUSED},
        }
    },
}
"""By the template of what follows ``jobs``, then by method."""

_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "where": {"type": "string"},
                "hint": {"type": "string"},
                "details": {"type": "object"},
            },
        }
    },
}
_BATCH: Final = {
    "type": "object",
    "required": ["jobs"],
    "additionalProperties": False,
    "properties": {
        "jobs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["body"],
                "additionalProperties": False,
                "properties": {
                    "body": {},
                    "priority": {"type": "integer", "minimum": 0, "maximum": 9},
                    "notBefore": {"type": "string"},
                    "deadline": {"type": "string"},
                },
            },
        }
    },
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    _, schemas = msgspec.json.schema_components(_VIEWS, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for prefix, places in ((PREFIX, ("model",)), (PINNED, ("model", "version"))):
        for template, methods in OPERATIONS.items():
            names = [*places, *(["id"] if "{id}" in template else [])]
            paths[prefix + template] = {
                "parameters": [
                    {"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names
                ],
                **{method.lower(): _operation(operation, prefix) for method, operation in methods.items()},
            }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headway jobs", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _ERROR, "Batch": _BATCH},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(operation: dict[str, Any], prefix: str) -> dict[str, Any]:
    suffix = "Pinned" if prefix == PINNED else ""
    return {**operation, "operationId": operation["operationId"] + suffix}


@cache
def text() -> bytes:
    """The document as it is served."""
    return msgspec.json.encode(document())
