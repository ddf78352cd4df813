"""MLflow's scoring protocol: ``POST /invocations``.

JSON with exactly one of ``dataframe_split``, ``dataframe_records``, ``instances`` and ``inputs``, optionally
``params``; or CSV with a header line. Answer: ``{"predictions": …}``.
Source: MLflow documentation, "Serving an MLflow model from local inference server", formats of 2.0 and later.
"""

from __future__ import annotations

from typing import Any, Final

from headway.domain.errors import InvalidRequest, UnsupportedMediaType
from headway.server.bodies import check_json_type, media_type
from headway.server.codecs.csv_text import parse_csv
from headway.server.http import Request, Response
from headway.server.inputs import Inputs, vector, whole
from headway.server.json_text import MAX_VALUES, parse_json
from headway.server.model import InputKind, LoadedModel
from headway.server.results import encode_json, to_plain
from headway.server.tabular import tabular

FORMATS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")


class MlflowCodec:
    """For one model. A model that takes ``dict`` gets the JSON object as it is."""

    wants_arrays = False

    def __init__(self, model: LoadedModel, *, max_values: int = MAX_VALUES) -> None:
        self._model = model
        self._max_values = max_values
        self._columns = model.columns()

    def decode(self, request: Request) -> Inputs:
        """See the module's docstring."""
        content_type = request.headers.get(b"content-type", b"application/json")
        if b";" in content_type:
            _check_parameters(content_type)
        if media_type(content_type) == b"text/csv":
            if self._model.kind is InputKind.RAW:
                raise UnsupportedMediaType("this model takes a JSON object", hint="send application/json")
            names, rows = parse_csv(request.body, self._max_values)
            return self._tabular(rows, names)
        check_json_type(content_type)
        body = parse_json(request.body, self._max_values)
        if type(body) is not dict:
            raise InvalidRequest("the body must be a JSON object", hint=f"with one of {', '.join(FORMATS)}")
        if self._model.kind is InputKind.RAW:
            return whole(body)
        inputs = self._decode(body)
        params = body.get("params")
        if params:
            if type(params) is not dict:
                raise InvalidRequest("params must be an object", where="params")
            if "params" not in self._model.extras:
                raise InvalidRequest("this model takes no params", where="params")
            inputs.bring({"params": params})
        return inputs

    def _decode(self, body: dict[str, Any]) -> Inputs:
        unknown = [key for key in body if key not in FORMATS and key != "params"]
        given = [key for key in FORMATS if key in body]
        if unknown or len(given) != 1:
            what = f"unknown key {unknown[0][:60]!r}" if unknown else f"{len(given)} of the formats given"
            raise InvalidRequest(what, hint=f"exactly one of {', '.join(FORMATS)}")
        form = given[0]
        value = body[form]
        if form == "dataframe_split":
            return self._split(value)
        if form == "inputs" and type(value) is dict:
            return self._columnar(value)
        if form == "dataframe_records":
            if type(value) is not list or not all(type(row) is dict for row in value):
                raise InvalidRequest("dataframe_records must be a list of objects", where=form)
            return self._tabular(value, None)
        return self._rows(value)

    def _split(self, value: Any) -> Inputs:
        if type(value) is not dict or "data" not in value:
            raise InvalidRequest("dataframe_split must be an object with data", where="dataframe_split")
        unknown = [key for key in value if key not in ("columns", "data", "index")]
        if unknown:
            raise InvalidRequest(f"unknown key {unknown[0][:60]!r}", where="dataframe_split")
        data, index, columns = value["data"], value.get("index"), value.get("columns")
        if index is not None and (type(index) is not list or type(data) is not list or len(index) != len(data)):
            raise InvalidRequest("index and data differ in length", where="dataframe_split.index")
        if type(columns) is list:
            # A frame without column names is written with their numbers.
            unnamed = columns == list(range(len(columns))) and not any(type(c) is bool for c in columns)
            columns = None if unnamed else [str(c) if type(c) is int else c for c in columns]
        return self._tabular(data, columns)

    def _columnar(self, value: dict[str, Any]) -> Inputs:
        if not value or not all(type(column) is list for column in value.values()):
            raise InvalidRequest("inputs must hold a list for each column", where="inputs")
        if len({len(column) for column in value.values()}) != 1:
            raise InvalidRequest("columns differ in length", where="inputs")
        if len(value) == 1:
            (column,) = value.values()
            if column and type(column[0]) is list:
                return self._rows(column)  # one named tensor
        return self._tabular([list(row) for row in zip(*value.values(), strict=True)], list(value))

    def _rows(self, rows: Any) -> Inputs:
        scalars = type(rows) is list and rows and not any(type(row) in (list, dict) for row in rows)
        if scalars and self._model.kind is InputKind.ARRAY:
            return vector(rows)
        if scalars and self._model.kind is not InputKind.LISTS:
            rows = [[row] for row in rows]
        return self._tabular(rows, None)

    def _tabular(self, rows: Any, columns: Any) -> Inputs:
        kind = self._model.kind
        if kind is InputKind.LISTS and columns is not None:
            columns = None  # the lists go as they are; names have no place there
        return tabular(rows, columns, kind, self._columns)

    def encode(self, inputs: Inputs, result: Any) -> Response:
        """``{"predictions": …}``."""
        return Response(200, b'{"predictions":%b}' % encode_json(to_plain(result)))


def _check_parameters(content_type: bytes) -> None:
    """``format=pandas-split`` and the like chose the meaning of a body before MLflow 2.0: not to be passed over."""
    for parameter in content_type.split(b";")[1:]:
        name = parameter.partition(b"=")[0].strip().lower()
        if name not in (b"charset", b""):
            shown = name[:40].decode("latin-1")
            raise UnsupportedMediaType(
                f"parameter {shown!r} of the content type is not known",
                hint=f"name the format in the body: {FORMATS[0]}",
            )
