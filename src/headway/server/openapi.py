"""``GET /openapi.json``: the model's API as OpenAPI 3.1, with the model's own columns where they are known."""

from __future__ import annotations

from typing import Any

from headway.server.config import ServerConfig
from headway.server.model import InputKind
from headway.server.signature import Signature, TensorSpec

_JSON_TYPES = {"BOOL": "boolean", "BYTES": "string"}


_ERRORS = (
    ("400", "The body cannot become the model's input."),
    ("413", "The body is too large."),
    ("415", "Another content type or encoding."),
    ("422", "Valid, but not supported."),
    ("429", "The queue is full; see Retry-After."),
    ("500", "The model failed."),
    ("504", "No answer in time."),
)

_FEEDBACK: dict[str, Any] = {
    "type": "object",
    "required": ["request_id"],
    "oneOf": [{"required": ["reward"]}, {"required": ["outcome"]}],
    "additionalProperties": False,
    "properties": {
        "request_id": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        "reward": {"type": "number"},
        "outcome": {"type": ["boolean", "number", "string"]},
        "prediction": {"type": "string"},
        "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"},
        "at": {"type": ["number", "string"]},
    },
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _cell(spec: TensorSpec) -> dict[str, Any]:
    if spec.cell is not None:
        return dict(spec.cell) if spec.required or not spec.cell else {"anyOf": [dict(spec.cell), {"type": "null"}]}
    known = _JSON_TYPES.get(spec.datatype)
    return {"type": [known or ("integer" if "INT" in spec.datatype else "number"), "null"]}


def _rows(kind: InputKind, signature: Signature) -> dict[str, Any]:
    """Schema of a list of rows: lists, or records."""
    if kind is InputKind.LISTS:
        return {"type": "array"}
    inputs = signature.inputs
    cell: dict[str, Any] = {"type": ["number", "boolean", "string", "null", "array"]}
    row: dict[str, Any] = {"type": "array", "minItems": 1, "items": cell}
    record: dict[str, Any] = {"type": "object", "minProperties": 1}
    if len(inputs) > 1 or (inputs and kind.by_column and inputs[0].name != "X"):
        row |= {"minItems": len(inputs), "maxItems": len(inputs), "prefixItems": [_cell(i) for i in inputs]}
        needed = [i.name for i in inputs if i.required]
        record |= {"properties": {i.name: _cell(i) for i in inputs}, "required": needed}
    elif inputs and len(inputs[0].shape) == 2 and inputs[0].shape[1] > 0:
        width = inputs[0].shape[1]
        row = {"type": "array", "minItems": width, "maxItems": width, "items": _cell(inputs[0])}
    return {
        "oneOf": [
            {"type": "array", "minItems": 1, "items": row},
            {"type": "array", "minItems": 1, "items": record},
        ]
    }


def _schemas(kind: InputKind, signature: Signature) -> dict[str, Any]:
    rows: dict[str, Any] = {"type": "object"} if kind is InputKind.RAW else _rows(kind, signature)
    formats = ("dataframe_split", "dataframe_records", "instances", "inputs")
    invocations: dict[str, Any] = {"type": "object", "properties": {name: {} for name in (*formats, "params")}}
    if kind is not InputKind.RAW:
        invocations["oneOf"] = [{"required": [name]} for name in formats]
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "datatype": {"type": "string"},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
    }
    request: dict[str, Any] = rows
    if kind is not InputKind.RAW:
        wrapped = {
            "type": "object",
            "required": ["instances"],
            "additionalProperties": False,
            "properties": {
                "instances": _ref("Rows"),
                "columns": {"type": ["array", "null"], "items": {"type": "string"}},
            },
        }
        request = {"anyOf": [_ref("Rows"), wrapped]}
    return {
        "Rows": rows,
        "PredictRequest": request,
        "Predictions": {"type": "object", "required": ["predictions"], "properties": {"predictions": {}}},
        "InvocationsRequest": invocations,
        "SeldonMessage": {
            "type": "object",
            "properties": {
                "data": {"type": "object"},
                "strData": {"type": "string"},
                "binData": {"type": "string"},
                "jsonData": {},
                "meta": {"type": "object"},
            },
        },
        "Tensor": tensor,
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "inputs": {"type": "array", "minItems": 1, "items": _ref("Tensor")},
                "outputs": {"type": "array", "items": {"type": "object"}},
            },
        },
        "InferResponse": {
            "type": "object",
            "required": ["model_name", "outputs"],
            "properties": {"outputs": {"type": "array", "items": _ref("Tensor")}},
        },
        "InferError": {
            "type": "object",
            "required": ["error", "code"],
            "properties": {name: {"type": "string"} for name in ("error", "code", "where", "hint")},
        },
        "Feedback": _FEEDBACK,
        "FeedbackRequest": {
            "anyOf": [_ref("Feedback"), {"type": "array", "minItems": 1, "maxItems": 10_000, "items": _ref("Feedback")}]
        },
        "SeldonFeedback": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                **{name: {"type": "object"} for name in ("request", "response", "truth")},
                "reward": {"type": "number"},
            },
        },
        "SeldonFeedbackTaken": {
            "type": "object",
            "required": ["meta"],
            "properties": {"meta": {"type": "object", "properties": {"puid": {"type": "string"}}}},
        },
        "FeedbackTaken": {
            "type": "object",
            "required": ["recorded"],
            "properties": {"recorded": {"type": "integer", "minimum": 1}},
        },
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": {name: {"type": "string"} for name in ("code", "message", "where", "hint")},
                }
            },
        },
    }


def document(config: ServerConfig, kind: InputKind, signature: Signature) -> dict[str, Any]:
    """The whole description."""

    def post(summary: str, body: str, answer: str, error: str = "Error") -> dict[str, Any]:
        responses: dict[str, Any] = {"200": {"description": "The answer.", "content": _json(_ref(answer))}}
        for status, text in _ERRORS:
            responses[status] = {"description": text, "content": _json(_ref(error))}
        content = {"required": True, "content": _json(_ref(body))}
        return {"post": {"summary": summary, "requestBody": content, "responses": responses}}

    def get(summary: str) -> dict[str, Any]:
        failing = {"description": "Not ready.", "content": _json(_ref("Error"))}
        return {"get": {"summary": summary, "responses": {"200": {"description": "Good."}, "503": failing}}}

    return {
        "openapi": "3.1.0",
        "info": {"title": config.model, "version": config.version},
        "paths": {
            "/predict": post("Predict JSON rows", "PredictRequest", "Predictions"),
            "/invocations": post("MLflow scoring", "InvocationsRequest", "Predictions"),
            f"/v2/models/{config.model}/infer": post(
                "Open Inference Protocol v2", "InferRequest", "InferResponse", "InferError"
            ),
            "/api/v1.0/predictions": post("Seldon v1", "SeldonMessage", "SeldonMessage"),
            "/api/v1.0/feedback": post("Feedback in Seldon's form", "SeldonFeedback", "SeldonFeedbackTaken"),
            "/feedback": post("What became of predictions", "FeedbackRequest", "FeedbackTaken"),
            "/health/live": get("The process is alive"),
            "/health/ready": get("New requests are welcome"),
            "/health/status": get("The model's own health_status"),
            f"/v2/models/{config.model}": get("Inputs and outputs"),
            "/metrics": get("Prometheus text"),
            "/stats": get("What replicas are scaled by"),
        },
        "components": {"schemas": _schemas(kind, signature)},
    }
