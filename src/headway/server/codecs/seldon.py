"""Seldon's v1 protocol: ``POST /api/v1.0/predictions``.

Request: ``{"data": {"names": […], "ndarray": …} | {"data": {"tensor": {"shape": …, "values": …}}}``, ``strData``,
``binData`` or ``jsonData``, with ``meta``. The answer keeps the request's form (``tensor`` for numbers where the
request had no ``data``), carries column names (the model's ``class_names``, else ``t:0`` …), and in ``meta`` the
request's ``puid`` and ``tags`` and what the model's ``tags`` and ``metrics`` return.
A form (``application/x-www-form-urlencoded``) with the message in its field ``json`` is read as well.
Source: Seldon Core 1, "Prediction" of the external API reference, and its Python wrapper.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from headway.domain.errors import InvalidRequest, ModelFailed, Unsupported
from headway.server.bodies import check_json_type
from headway.server.http import Request, Response
from headway.server.inputs import Inputs, Trail, vector, whole
from headway.server.json_text import MAX_VALUES, parse_json
from headway.server.model import InputKind, LoadedModel
from headway.server.results import encode_json, to_plain
from headway.server.tabular import tabular

PAYLOADS: Final = ("data", "strData", "binData", "jsonData")
MAX_DIMENSIONS: Final = 32
FORM: Final = b"application/x-www-form-urlencoded"


class _Context:
    """What the answer needs of the request."""

    __slots__ = ("form", "puid", "tags")

    def __init__(self, form: str, puid: Any, tags: dict[str, Any]) -> None:
        self.form = form
        self.puid = puid
        self.tags = tags


class SeldonCodec:
    """For one model. ``strData``, ``binData`` and ``jsonData`` reach ``predict`` as str, bytes and plain JSON."""

    wants_arrays = False

    def __init__(
        self, model: LoadedModel, *, unit: str | None = None, answers: str = "", max_values: int = MAX_VALUES
    ) -> None:
        """``unit``, ``answers``: what ``requestPath`` says, ``{"iris": "iris:v2"}``, of a request that has an id."""
        self._model = model
        self._unit = unit
        self._answers = answers
        self._max_values = max_values
        self._columns = model.columns()

    def decode(self, request: Request) -> Inputs:
        """See the module's docstring."""
        content_type = request.headers.get(b"content-type", b"")
        check_json_type(content_type)
        text = request.body
        if content_type.startswith(FORM) and text.lstrip()[:1] not in (b"{", b"["):
            text = _form_field(text)
        body = parse_json(text, self._max_values)
        if type(body) is not dict:
            raise InvalidRequest("the body must be a JSON object", hint=f"with one of {', '.join(PAYLOADS)}")
        unknown = [key for key in body if key not in PAYLOADS and key not in ("meta", "status")]
        given = [key for key in PAYLOADS if key in body]
        if unknown or len(given) != 1:
            what = f"unknown key {unknown[0][:60]!r}" if unknown else f"{len(given)} payloads given"
            raise InvalidRequest(what, hint=f"exactly one of {', '.join(PAYLOADS)}")
        meta = body.get("meta")
        if meta is not None and type(meta) is not dict:
            raise InvalidRequest("meta must be an object", where="meta")
        inputs, form = self._decode(given[0], body)
        tags = (meta or {}).get("tags") or {}
        if type(tags) is not dict:
            raise InvalidRequest("tags must be an object", where="meta.tags")
        # Seldon's orchestrator names every request; here that is the request's own id.
        puid = (meta or {}).get("puid") or request.headers.get(b"x-request-id", b"").decode("latin-1") or None
        inputs.context = _Context(form, puid, tags)
        if meta and "meta" in self._model.extras:
            inputs.bring({"meta": meta})
        return inputs

    def _decode(self, payload: str, body: dict[str, Any]) -> tuple[Inputs, str]:
        value = body[payload]
        if payload == "data":
            inputs, form = self._data(value)
            return (whole(body) if self._model.kind is InputKind.RAW else inputs), form
        if payload == "jsonData":
            return whole(value), payload
        if type(value) is not str:
            raise InvalidRequest(f"{payload} must be a string", where=payload)
        if payload == "strData":
            return whole(value), payload
        try:
            return whole(base64.b64decode(value, validate=True)), payload
        except (binascii.Error, ValueError):
            raise InvalidRequest("binData is not base64", where="binData") from None

    def _data(self, data: Any) -> tuple[Inputs, str]:
        if type(data) is not dict:
            raise InvalidRequest("data must be an object", where="data")
        names = data.get("names") or None
        forms = [key for key in data if key != "names"]
        if forms == ["tftensor"]:
            raise Unsupported("tftensor is not supported", where="data.tftensor", hint="send ndarray or tensor")
        if forms not in (["ndarray"], ["tensor"]):
            raise InvalidRequest("data needs ndarray or tensor", where="data", hint='{"data": {"ndarray": [[1, 2]]}}')
        form = forms[0]
        rows = data[form] if form == "ndarray" else unfold(data[form])
        if type(rows) is list and rows and not any(type(row) in (list, dict) for row in rows):
            if self._model.kind is InputKind.ARRAY:
                return vector(rows), form
            if self._model.kind is not InputKind.LISTS:
                rows = [[row] for row in rows]
        kind = self._model.kind
        if kind is InputKind.RAW or kind is InputKind.LISTS:
            return tabular(rows, None, InputKind.LISTS), form
        return tabular(rows, names, kind, self._columns), form

    def encode(self, inputs: Inputs, result: Any) -> Response:
        """See the module's docstring."""
        context: _Context = inputs.context
        plain = to_plain(result)
        if type(plain) is tuple:
            plain = list(plain)
        meta: dict[str, Any] = {}
        if context.puid is not None:
            meta["puid"] = context.puid
        if context.tags:
            meta["tags"] = context.tags
        if self._unit is not None and context.puid is not None:
            meta["requestPath"] = {self._unit: self._answers}
        if inputs.trail is not None:
            self._tell(meta, inputs.trail, context)
        else:
            if self._model.tags is not None:
                try:
                    meta["tags"] = {**context.tags, **(self._model.tags() or {})}
                except Exception as error:
                    raise ModelFailed(f"tags() raised {type(error).__name__}: {error}") from None
            if self._model.reported:
                meta["metrics"] = _encoded(self._model.reported)
        if isinstance(result, str):
            payload: dict[str, Any] = {"strData": str(result)}
        elif isinstance(result, bytes):
            payload = {"binData": base64.b64encode(result).decode()}
        elif type(plain) is list:
            payload = {"data": self._table(result, plain, context.form, inputs.trail)}
        else:
            payload = {"jsonData": plain}
        return Response(200, encode_json({**payload, "meta": meta}))

    def _tell(self, meta: dict[str, Any], trail: Trail, context: _Context) -> None:
        """The way of the request through the graph."""
        if trail.routing:
            meta["routing"] = trail.routing
        meta["requestPath"] = dict.fromkeys(trail.path, self._answers)
        if trail.tags:
            meta["tags"] = {**context.tags, **trail.tags}
        if trail.metrics:
            meta["metrics"] = _encoded(trail.metrics)

    def _table(self, result: Any, rows: list[Any], form: str, trail: Trail | None) -> dict[str, Any]:
        if hasattr(result, "columns") and rows and type(rows[0]) is dict:
            names = [str(name) for name in rows[0]]
            rows = [list(row.values()) for row in rows]
        elif trail is not None and trail.names is not None:
            names = trail.names
        else:
            names = self._names(rows)
        shape = None if form == "ndarray" else _numeric_shape(rows)
        if shape is None:
            return {"names": names, "ndarray": rows}
        flat = rows if len(shape) == 1 else [cell for row in rows for cell in row]
        return {"names": names, "tensor": {"shape": shape, "values": flat}}

    def _names(self, rows: list[Any]) -> list[str]:
        given = getattr(self._model.subject, "class_names", None)
        if callable(given):
            given = given()
        if given is not None:
            return [str(name) for name in given]
        width = len(rows[0]) if rows and type(rows[0]) is list else 0
        return [f"t:{index}" for index in range(width)]


def _encoded(reported: Any) -> list[msgspec.Raw]:
    """Those metrics that have a JSON form: what is wrong with one fails no answer, ``/metrics`` counts it."""
    found = []
    for entry in reported if isinstance(reported, list | tuple) else ():
        if isinstance(entry, dict):
            with contextlib.suppress(ModelFailed):
                found.append(msgspec.Raw(encode_json(entry)))
    return found


def _form_field(body: bytes) -> bytes:
    """The message in the field ``json`` of a form, as Seldon's own wrapper takes it."""
    try:
        fields = parse_qsl(body, keep_blank_values=True, max_num_fields=10)
    except ValueError:
        fields = []
    found = [value for name, value in fields if name == b"json"]
    if len(found) != 1:
        raise InvalidRequest("a form needs one field json", hint="or send the message itself as application/json")
    return found[0]


def unfold(tensor: Any) -> Any:
    """Nested lists of ``{"shape": …, "values": …}``, checked before anything is made."""
    if type(tensor) is not dict or set(tensor) != {"shape", "values"}:
        raise InvalidRequest("tensor needs shape and values", where="data.tensor")
    shape, values = tensor["shape"], tensor["values"]
    if type(values) is not list or any(type(v) is list or type(v) is dict for v in values):
        raise InvalidRequest("values must be a flat list", where="data.tensor.values")
    if type(shape) is not list or not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise InvalidRequest(f"shape must be a list of 1 to {MAX_DIMENSIONS} sizes", where="data.tensor.shape")
    count = 1
    for size in shape:
        if type(size) is not int or size < 1:
            raise InvalidRequest("sizes are whole numbers above 0", where="data.tensor.shape")
        count *= size
    if count != len(values):
        raise InvalidRequest(f"shape asks for {count} values, there are {len(values)}", where="data.tensor")
    rows: list[Any] = values
    for size in reversed(shape[1:]):
        rows = [rows[start : start + size] for start in range(0, len(rows), size)]
    return rows


def _numeric_shape(rows: list[Any]) -> list[int] | None:
    """The shape of a list of numbers or of equally long lists of them; None for anything else."""
    if not rows:
        return None
    if type(rows[0]) is not list:
        return [len(rows)] if all(type(cell) in (int, float) for cell in rows) else None
    width = len(rows[0])
    if all(type(r) is list and len(r) == width and all(type(c) in (int, float) for c in r) for r in rows):
        return [len(rows), width]
    return None
