"""Open Inference Protocol v2: ``POST /v2/models/NAME[/versions/V]/infer``, with the binary tensor extension.

One input tensor becomes ``X`` as it is: its first axis are the rows, its datatype is kept. Several inputs are
columns, by name; a model that takes ``dict`` gets them as lists by name. The answer has one output,
``predictions``, or one per key or column where the model returns a dict of arrays or a DataFrame.

Source: Open Inference Protocol, REST, "Inference"; Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

from typing import Any, Final

from headway.domain.errors import InvalidRequest, PayloadTooLarge, Unsupported
from headway.server.bodies import check_json_type
from headway.server.codecs.tensors import (
    check_header,
    datatype_of,
    from_bytes,
    from_json,
    json_data,
    numpy_or_unsupported,
    raw_data,
    to_array,
)
from headway.server.http import JSON, Request, Response
from headway.server.inputs import Inputs, columnar, tensor, whole
from headway.server.json_text import MAX_VALUES, parse_json
from headway.server.model import InputKind, LoadedModel
from headway.server.results import encode_json
from headway.server.tabular import check_columns

OUTPUT: Final = "predictions"
HEADER_LENGTH: Final = b"inference-header-content-length"
MAX_TENSORS: Final = 4096
_REFUSED: Final = {
    "shared_memory_region": None,
    "classification": None,
    "sequence_id": None,
    "priority": "requests are taken in the order in which they came",
    "timeout": "send the header x-request-timeout-ms",
}
"""Parameters that ask for what is not offered, and what to do instead."""
_OWN: Final = frozenset({"binary_data_output", "sequence_start", "sequence_end", *_REFUSED})
"""Parameters of a request that mean something to the protocol; all others are for the model."""


class _Context:
    """What the answer needs of the request."""

    __slots__ = ("binary", "outputs", "request_id")

    def __init__(self, request_id: str | None, outputs: list[tuple[str, bool]] | None, *, binary: bool) -> None:
        self.request_id = request_id
        self.outputs = outputs
        """Name and whether binary; None: all."""
        self.binary = binary
        """What holds for outputs that say nothing."""


class OpenInferenceCodec:
    """For one model, known as ``model_name`` and ``model_version``."""

    wants_arrays = True

    def __init__(
        self, model: LoadedModel, *, model_name: str, model_version: str, max_values: int = MAX_VALUES
    ) -> None:
        self._model = model
        self._max_values = max_values
        self._columns = model.columns()
        self._name = model_name
        self._version = model_version

    # -- request ---------------------------------------------------------------------------------

    def decode(self, request: Request) -> Inputs:
        """See the module's docstring."""
        head, raw = _parts(request)
        body = parse_json(head, self._max_values)
        if type(body) is not dict or type(body.get("inputs")) is not list or not body["inputs"]:
            raise InvalidRequest("the body needs inputs, a list of tensors", where="inputs")
        if len(body["inputs"]) > MAX_TENSORS:
            raise InvalidRequest(f"more than {MAX_TENSORS} inputs", where="inputs")
        unknown = [key for key in body if key not in ("id", "parameters", "inputs", "outputs")]
        if unknown:
            raise InvalidRequest(f"unknown key {unknown[0][:60]!r}")
        context = _context(body)
        tensors = _tensors(body["inputs"], raw, self._max_values)
        inputs = self._inputs(tensors)
        inputs.context = context
        own = {name: value for name, value in (body.get("parameters") or {}).items() if name not in _OWN}
        if own and "params" in self._model.extras:
            inputs.bring({"params": own})
        return inputs

    def _inputs(self, tensors: dict[str, Any]) -> Inputs:
        kind = self._model.kind
        if kind is InputKind.RAW or kind is InputKind.LISTS:
            # Numbers grow as they become Python objects.
            _check_count(sum(array.size for array in tensors.values()), self._max_values)
        if kind is InputKind.RAW:
            return whole({name: array.tolist() for name, array in tensors.items()})
        if len(tensors) == 1:
            ((name, array),) = tensors.items()
            if kind is InputKind.LISTS:
                return whole(array.tolist())
            if kind.by_column and (array.ndim == 1 or array.shape[1:] == (1,)):
                return self._by_column({name: array})
            if kind.by_column and array.ndim != 2:
                raise InvalidRequest("this model takes a table: a shape of [rows, columns]", where="inputs[0].shape")
            if kind.by_column:
                check_columns(array.shape[1])
            known = (
                self._columns if array.ndim == 2 and self._columns and len(self._columns) == array.shape[1] else None
            )
            return tensor(array, known)
        if kind is InputKind.LISTS:
            raise Unsupported("this model takes one list of rows, not several inputs", where="inputs")
        return self._by_column(tensors)

    def _by_column(self, tensors: dict[str, Any]) -> Inputs:
        columns: dict[str, Any] = {}
        for name, array in tensors.items():
            if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
                raise InvalidRequest("several inputs are columns: each of shape [rows] or [rows, 1]", where=name[:60])
            columns[name] = array.reshape(array.shape[0])
        if len({len(values) for values in columns.values()}) != 1:
            raise InvalidRequest("inputs differ in their number of rows", where="inputs")
        if self._columns is not None:
            optional = self._columns.optional
            missing = [name for name in self._columns if name not in columns and name not in optional]
            extra = [name for name in columns if name not in self._columns]
            if missing or extra:
                what = f"missing: {missing[0]!r}" if missing else f"unknown: {extra[0][:60]!r}"
                raise InvalidRequest(f"input {what}", hint=f"inputs: {', '.join(self._columns)}"[:300])
            columns = {name: columns[name] for name in self._columns if name in columns}
        if self._model.kind.by_column:
            return columnar(columns)
        numpy = numpy_or_unsupported()
        if len({values.dtype.kind in "biuf" for values in columns.values()}) != 1:
            raise InvalidRequest("inputs mix numbers and BYTES", hint="annotate X as pandas.DataFrame in the model")
        return tensor(numpy.column_stack(list(columns.values())), tuple(columns))

    # -- answer ----------------------------------------------------------------------------------

    def encode(self, inputs: Inputs, result: Any) -> Response:
        """See the module's docstring."""
        context: _Context = inputs.context
        arrays = _named(result)
        wanted = context.outputs if context.outputs is not None else [(name, context.binary) for name in arrays]
        outputs: list[dict[str, Any]] = []
        raw: list[bytes] = []
        for name, binary in wanted:
            if name not in arrays:
                raise InvalidRequest(f"no output {name[:60]!r}", hint=f"outputs: {', '.join(arrays)}"[:300])
            array = arrays[name]
            output: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype_of(array)}
            if binary:
                data = raw_data(array)
                output["parameters"] = {"binary_data_size": len(data)}
                raw.append(data)
            else:
                output["data"] = json_data(array)
            outputs.append(output)
        answer: dict[str, Any] = {"model_name": self._name, "model_version": self._version}
        if context.request_id is not None:
            answer["id"] = context.request_id
        answer["outputs"] = outputs
        head = encode_json(answer)
        if not raw:
            return Response(200, head)
        length = (HEADER_LENGTH, b"%d" % len(head))
        return Response(200, head + b"".join(raw), b"application/octet-stream", (length,))


def _parts(request: Request) -> tuple[bytes, memoryview]:
    """The JSON part of the body and the binary part behind it."""
    length = request.headers.get(HEADER_LENGTH)
    if length is None:
        check_json_type(request.headers.get(b"content-type", JSON))
        return request.body, memoryview(b"")
    if not length.isdigit() or len(length) > 12 or int(length) > len(request.body):
        raise InvalidRequest("inference-header-content-length is not the length of a part of the body")
    size = int(length)
    return request.body[:size], memoryview(request.body)[size:]


def _tensors(specs: list[Any], raw: memoryview, max_values: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    start = 0
    for index, spec in enumerate(specs):
        where = f"inputs[{index}]"
        name, datatype, shape, count = check_header(spec, where)
        if name in found:
            raise InvalidRequest(f"input {name[:60]!r} is given twice", where=where)
        unknown = [key for key in spec if key not in ("name", "datatype", "shape", "parameters", "data")]
        if unknown:
            raise InvalidRequest(f"unknown key {unknown[0][:60]!r}", where=where)
        size = _parameters(spec, where).get("binary_data_size")
        if size is None:
            found[name] = from_json(spec.get("data"), datatype, shape, count, where)
            continue
        if "data" in spec or type(size) is not int or not 0 <= size <= len(raw) - start:
            raise InvalidRequest("binary_data_size does not fit the body", where=where)
        if datatype == "BYTES" and 4 * count <= size:
            _check_count(count, max_values)
        found[name] = from_bytes(raw[start : start + size], datatype, shape, count, where)
        start += size
    if start != len(raw):
        raise InvalidRequest(f"{len(raw) - start} bytes of the body belong to no input")
    return found


def _check_count(count: int, max_values: int) -> None:
    if count > max_values:
        raise PayloadTooLarge(f"more than {max_values} elements in one body", hint="send fewer rows per request")


def _parameters(holder: dict[str, Any], where: str) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise InvalidRequest("parameters must be an object", where=where)
    for name, hint in _REFUSED.items():
        if parameters.get(name):
            raise Unsupported(f"parameter {name} is not supported", where=where, hint=hint)
    return parameters


def _context(body: dict[str, Any]) -> _Context:
    request_id, outputs = body.get("id"), body.get("outputs")
    if request_id is not None and type(request_id) is not str:
        raise InvalidRequest("id must be a string", where="id")
    binary = _flag(_parameters(body, "parameters"), "binary_data_output", "parameters", default=False)
    if outputs is None or outputs == []:
        return _Context(request_id, None, binary=binary)
    if type(outputs) is not list or len(outputs) > MAX_TENSORS:
        raise InvalidRequest("outputs must be a list of objects", where="outputs")
    wanted: list[tuple[str, bool]] = []
    for index, output in enumerate(outputs):
        where = f"outputs[{index}]"
        if type(output) is not dict or type(output.get("name")) is not str:
            raise InvalidRequest("an output needs a name", where=where)
        wanted.append((output["name"], _flag(_parameters(output, where), "binary_data", where, default=binary)))
    return _Context(request_id, wanted, binary=binary)


def _flag(parameters: dict[str, Any], name: str, where: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise InvalidRequest(f"{name} must be true or false", where=where)
    return value


def _named(result: Any) -> dict[str, Any]:
    """Output arrays by name."""
    if isinstance(result, dict) and result and all(isinstance(v, list) or hasattr(v, "dtype") for v in result.values()):
        return {str(name): to_array(value) for name, value in result.items()}
    if hasattr(result, "columns") and hasattr(result, "iloc"):
        return {str(name): to_array(result[name].to_numpy()).reshape(-1, 1) for name in result.columns}
    return {OUTPUT: to_array(result)}
