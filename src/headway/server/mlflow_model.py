"""A folder that MLflow saved, behind the model contract: any flavour that has a ``pyfunc``.

MLflow checks an input against the model's signature and refuses what it cannot cast safely. JSON knows fewer types
than a signature: a whole number is not told from a float, an instant comes as text, bytes as base64. So every column
is first brought to the signature's type where no value changes by it; MLflow judges the rest, and its refusal is the
caller's 400.

A signature of columns makes a DataFrame; of one tensor an ndarray; of several named tensors a dict of ndarrays.
"""

from __future__ import annotations

import base64
import importlib
import os
from pathlib import Path
from typing import Any, Final

from headway.domain.errors import InvalidRequest
from headway.server.model import Columns, InputKind
from headway.server.signature import INPUT, OUTPUT, TensorSpec

_DATATYPES: Final = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
}
"""Of columns; all others are BYTES."""
_JSON_TYPES: Final[dict[str, dict[str, Any]]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "long": {"type": "integer"},
    "float": {"type": "number"},
    "double": {"type": "number"},
    "string": {"type": "string"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "datetime": {"type": "string", "format": "date-time"},
}
_BODY_KEYS: Final = ("inputs", "instances")
_FROM_BASE64: Final = "binary"
_INSTANT: Final = "datetime"


class MlflowModel:
    """The pyfunc of the MLflow model in ``folder``. Raises what MLflow raises."""

    def __init__(self, folder: Path) -> None:
        # A model server tells nobody that it runs, unless its owner says otherwise.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._model = importlib.import_module("mlflow.pyfunc").load_model(str(folder))
        metadata = self._model.metadata
        self._schema = metadata.get_input_schema()
        params = metadata.get_params_schema() if hasattr(metadata, "get_params_schema") else None
        self._params = frozenset(() if params is None else (param.name for param in params.params))
        self.kind = _kind(self._schema)
        self.input_specs: tuple[TensorSpec, ...] | None = None
        """What goes in, by the signature; None without one."""
        if self._schema is not None:
            self.input_specs = _specs(self._schema, INPUT, (-1, 1))
        outputs = metadata.get_output_schema()
        self.output_specs = None if outputs is None else _specs(outputs, OUTPUT, (-1,))
        if self.kind is InputKind.FRAME and self._schema is not None and self._schema.has_input_names():
            optional = [column.name for column in self._schema.inputs if not _required(column)]
            self.feature_names_in_ = Columns(self._schema.input_names(), optional)

    def predict(self, X: Any, params: dict[str, Any] | None = None) -> Any:  # noqa: N803
        """``params`` are MLflow's inference parameters; those that the signature lacks are refused."""
        if self.kind is InputKind.RAW:
            X, params = self._tensors(X, params)  # noqa: N806
        elif self._schema is not None and self.kind is InputKind.ARRAY:
            X = self._tensor(X, self._schema.inputs[0])  # noqa: N806
        elif self._schema is not None:
            self._cast_columns(X)
        unknown = [name for name in params or () if name not in self._params]
        if unknown:  # MLflow would only log that it passes over them
            known = ", ".join(sorted(self._params)) or "none"
            raise InvalidRequest(f"the model has no parameter {unknown[0][:60]!r}", hint=f"its parameters: {known}")
        return self._model.predict(X, params=params) if params else self._model.predict(X)

    def _cast_columns(self, frame: Any) -> None:
        """In place."""
        named = self._schema.has_input_names()
        for place, column in enumerate(self._schema.inputs):
            name = column.name if named else place
            if name not in frame.columns:
                continue
            values = frame[name]
            if not _required(column) and bool(values.isna().all()):
                del frame[name]  # MLflow takes no nulls for an int, but a column less
                continue
            frame[name] = _cast(values, _type_name(column), column)

    @staticmethod
    def _tensor(values: Any, spec: Any) -> Any:
        return (
            values.astype(spec.type, copy=False) if spec.type.kind in "biuf" and values.dtype.kind in "biuf" else values
        )

    def _tensors(self, body: Any, params: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """``{"a": …, "b": …}``, or that within a body of ``/invocations``; each an ndarray of its own type."""
        import numpy

        names = self._schema.input_names()
        if type(body) is dict and not all(name in body for name in names):
            wrapped = next((key for key in _BODY_KEYS if key in body), None)
            if wrapped is not None and set(body) <= {wrapped, "params"}:
                body, params = body[wrapped], body.get("params") or params
        if type(body) is not dict or set(body) != set(names):
            raise InvalidRequest(f"the model takes the tensors {', '.join(names)}", hint="an object with one of each")
        found = {}
        for spec in self._schema.inputs:
            try:
                found[spec.name] = numpy.asarray(body[spec.name], dtype=spec.type if spec.type.kind in "biuf" else None)
            except (ValueError, TypeError, OverflowError):
                raise InvalidRequest(f"this is no tensor of {spec.type.name}", where=spec.name) from None
        return found, params


def _kind(schema: Any) -> InputKind:
    if schema is None or not schema.is_tensor_spec():
        return InputKind.FRAME
    return InputKind.ARRAY if len(schema.inputs) == 1 else InputKind.RAW


def _required(column: Any) -> bool:
    return bool(getattr(column, "required", True))  # MLflow before 2.8 knows no optional ones


def _type_name(column: Any) -> str:
    """``double``, ``datetime``, …; empty for arrays, objects and maps."""
    name = getattr(column.type, "name", None)
    return name if isinstance(name, str) and name in _JSON_TYPES else ""


def _cast(values: Any, name: str, column: Any) -> Any:
    if name == _INSTANT and values.dtype.kind != "M":
        return _instants(values, column.name)
    if name == _FROM_BASE64:
        return values.map(lambda cell: _bytes(cell, column.name))
    if name not in _DATATYPES:
        return values
    wanted = column.type.to_numpy()
    if values.dtype == wanted or values.dtype.kind not in "biuf":
        return values
    if wanted.kind == "f":
        return values.astype(wanted)
    if values.notna().all():
        cast = values.astype(wanted)
        if bool((cast == values).all()):
            return cast
    return values


def _instants(values: Any, name: str) -> Any:
    """Text in ISO 8601, or nanoseconds since the epoch; without a zone it is UTC. Instants in UTC, without a zone."""
    import pandas

    known = not pandas.__version__.startswith("1.") and values.dtype.kind not in "iuf"
    try:
        return pandas.to_datetime(values, utc=True, format="ISO8601" if known else None).dt.tz_localize(None)
    except (ValueError, TypeError, OverflowError):
        raise InvalidRequest(
            "this is no instant", where=f"column {name}", hint="ISO 8601, such as 2026-05-01T12:00:00"
        ) from None


def _bytes(cell: Any, name: str) -> Any:
    if not isinstance(cell, str):
        return cell
    try:
        return base64.b64decode(cell, validate=True)
    except ValueError:
        raise InvalidRequest("this is no base64", where=f"column {name}") from None


# -- what the signature says, in the words of the Open Inference Protocol --------------------------------


def _specs(schema: Any, unnamed: str, shape: tuple[int, ...]) -> tuple[TensorSpec, ...]:
    if schema.is_tensor_spec():
        return tuple(
            TensorSpec(spec.name or unnamed, _tensor_datatype(spec.type), tuple(int(size) for size in spec.shape))
            for spec in schema.inputs
        )
    if not schema.has_input_names():
        known = {_DATATYPES.get(_type_name(column), "BYTES") for column in schema.inputs}
        width = () if len(shape) == 1 else (len(schema.inputs),)
        return (TensorSpec(unnamed, known.pop() if len(known) == 1 else "BYTES", (-1, *width)),)
    return tuple(
        TensorSpec(
            column.name,
            _DATATYPES.get(_type_name(column), "BYTES"),
            shape,
            required=_required(column),
            cell=_cell(column.to_dict()),
        )
        for column in schema.inputs
    )


def _tensor_datatype(dtype: Any) -> str:
    if dtype.kind in "iuf":
        return f"{ {'i': 'INT', 'u': 'UINT', 'f': 'FP'}[dtype.kind] }{dtype.itemsize * 8}"
    return "BOOL" if dtype.kind == "b" else "BYTES"


def _cell(told: dict[str, Any]) -> dict[str, Any]:
    """A column's type, as MLflow writes it into ``MLmodel``, as JSON Schema; ``{}`` for what may be anything."""
    kind = told.get("type")
    if kind == "array":
        items = told.get("items")
        return {"type": "array", "items": _cell(items) if isinstance(items, dict) else {}}
    if kind == "object":
        parts = told.get("properties") or {}
        needed = [name for name, part in parts.items() if part.get("required", True)]
        schema: dict[str, Any] = {"type": "object", "properties": {name: _cell(part) for name, part in parts.items()}}
        return {**schema, "required": needed} if needed else schema
    if kind == "map":
        values = told.get("values")
        return {"type": "object", "additionalProperties": _cell(values) if isinstance(values, dict) else {}}
    return dict(_JSON_TYPES.get(str(kind), {}))
