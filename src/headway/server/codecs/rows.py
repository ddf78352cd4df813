"""Plain JSON rows: ``POST /predict``.

Request: ``[[…], …]``, a list of records ``[{"a": 1}, …]``, or ``{"instances": rows, "columns": […]}`` with
``columns`` optional. A model that takes ``dict`` gets the object as it is. Answer: ``{"predictions": …}``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headway.domain.errors import InvalidRequest
from headway.server.bodies import check_json_type
from headway.server.http import Request, Response
from headway.server.inputs import Inputs, numbers, whole
from headway.server.json_text import MAX_VALUES, check_values, parse_json
from headway.server.model import InputKind
from headway.server.results import encode_json, to_plain
from headway.server.tabular import tabular

_decode_numbers = msgspec.json.Decoder(list[list[float]]).decode


class RowsCodec:
    """For a model of ``kind``; ``known_columns`` are those that the model itself names.

    ``max_values``: how many a body may hold.
    """

    wants_arrays = False

    def __init__(
        self, kind: InputKind, known_columns: tuple[str, ...] | None = None, *, max_values: int = MAX_VALUES
    ) -> None:
        self._kind = kind
        self._max_values = max_values
        self._known_columns = known_columns
        # The short cut: most bodies are lists of numbers, which one typed read both decodes and checks.
        self._plain_numbers = kind in (InputKind.ARRAY, InputKind.ROWS) and known_columns is None

    def decode(self, request: Request) -> Inputs:
        """See the module's docstring."""
        content_type = request.headers.get(b"content-type")
        if content_type is not None and content_type != b"application/json":
            check_json_type(content_type)
        body = request.body
        if self._plain_numbers and body[:1] == b"[":
            check_values(body, self._max_values)
            try:
                rows = _decode_numbers(body)
            except (ValueError, RecursionError):
                pass  # records, strings, nulls, or not JSON: the long way tells
            else:
                return numbers(rows)
        return self._decode_any(parse_json(body, self._max_values))

    def _decode_any(self, value: Any) -> Inputs:
        if self._kind is InputKind.RAW:
            if type(value) is not dict:
                raise InvalidRequest("this model takes a JSON object", hint='send {"name": value, ...}')
            return whole(value)
        columns = None
        if type(value) is dict:
            unknown = [k for k in value if k not in ("instances", "columns")]
            if unknown or "instances" not in value:
                what = f"unknown key {unknown[0][:60]!r}" if unknown else "no key 'instances'"
                raise InvalidRequest(what, hint='send {"instances": [[1, 2], ...]} or [[1, 2], ...]')
            columns = value.get("columns")
            value = value["instances"]
        return tabular(value, columns, self._kind, self._known_columns)

    def encode(self, inputs: Inputs, result: Any) -> Response:
        """``{"predictions": …}``."""
        return Response(200, b'{"predictions":%b}' % encode_json(to_plain(result)))
