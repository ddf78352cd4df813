"""Tensors of the Open Inference Protocol: datatype, shape and data, as JSON or as raw little-endian bytes.

Everything that is declared is checked against what came before memory is taken for it: a shape of 10^9 costs
nothing. Sources: Open Inference Protocol v2, "Tensor Data Types" and "Tensor Data"; Triton's binary tensor data
extension (BYTES elements are preceded by their length in 4 bytes).
"""

from __future__ import annotations

import math
import struct
from typing import Any, Final

from headway.domain.errors import InvalidRequest, ModelFailed, Unsupported
from headway.server.results import encode_json, text_of, to_plain

DATATYPES: Final = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "BF16": "<u2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "O",
}
"""numpy's name for how each datatype is stored; BF16 is the upper half of a float32."""

MAX_DIMENSIONS: Final = 32
_TYPES: Final[dict[str, frozenset[type]]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float, type(None)}),
    "O": frozenset({str}),
}


def numpy_or_unsupported() -> Any:
    """numpy, or ``Unsupported``: tensors are arrays."""
    try:
        import numpy
    except ModuleNotFoundError:
        raise Unsupported("tensors need numpy", hint="add numpy to the model's requirements.txt") from None
    return numpy


def check_header(tensor: Any, where: str) -> tuple[str, str, list[int], int]:
    """Name, datatype, shape and number of elements of a tensor's JSON object."""
    if type(tensor) is not dict:
        raise InvalidRequest("a tensor is a JSON object", where=where)
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if type(name) is not str or not name:
        raise InvalidRequest("a tensor needs a name", where=where)
    if type(datatype) is not str or datatype not in DATATYPES:
        raise InvalidRequest(
            f"unknown datatype {str(datatype)[:20]!r}", where=f"{where}.datatype", hint=", ".join(DATATYPES)
        )
    if type(shape) is not list or not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise InvalidRequest(f"shape must be a list of 1 to {MAX_DIMENSIONS} sizes", where=f"{where}.shape")
    if not all(type(size) is int and 0 < size < 2**63 for size in shape):
        raise InvalidRequest("sizes are whole numbers above 0", where=f"{where}.shape")
    return name, datatype, shape, math.prod(shape)


def from_json(data: Any, datatype: str, shape: list[int], count: int, where: str) -> Any:
    """The array of ``data``, a flat list in row-major order or one nested as ``shape`` says."""
    numpy = numpy_or_unsupported()
    if datatype == "BF16":
        raise InvalidRequest("BF16 has no JSON form", where=where, hint="send it as binary data")
    if type(data) is not list:
        raise InvalidRequest("data must be a list", where=f"{where}.data")
    flat = _flatten(data, shape, where) if data and type(data[0]) is list else data
    if len(flat) != count:
        raise InvalidRequest(f"shape asks for {count} elements, there are {len(flat)}", where=f"{where}.data")
    dtype = numpy.dtype(DATATYPES[datatype])
    found = set(map(type, flat))
    if not found <= _TYPES[dtype.kind]:
        odd = next(value for value in flat if type(value) not in _TYPES[dtype.kind])
        raise InvalidRequest(f"{str(odd)[:40]!r} is not {datatype}", where=f"{where}.data")
    if dtype.kind in "iu":
        bounds = numpy.iinfo(dtype)
        if min(flat) < bounds.min or max(flat) > bounds.max:
            raise InvalidRequest(f"a number is beyond the range of {datatype}", where=f"{where}.data")
    elif dtype.kind == "f":
        largest = float(numpy.finfo(dtype).max)
        if any(value is not None and not -largest <= value <= largest for value in flat):
            raise InvalidRequest(f"a number is beyond the range of {datatype}", where=f"{where}.data")
    return numpy.array(flat, dtype=dtype).reshape(shape)


def _flatten(data: list[Any], shape: list[int], where: str) -> list[Any]:
    level = data
    for depth, size in enumerate(shape[1:]):
        if depth == 0 and len(level) != shape[0]:
            break
        if not all(type(item) is list and len(item) == size for item in level):
            break
        level = [cell for item in level for cell in item]
    else:
        if len(shape) > 1 or not any(type(item) is list for item in level):
            return level
    raise InvalidRequest("data is not nested as shape says", where=f"{where}.data")


def from_bytes(raw: memoryview, datatype: str, shape: list[int], count: int, where: str) -> Any:
    """The array of ``raw``, whose length must be exactly what shape and datatype ask for."""
    numpy = numpy_or_unsupported()
    if datatype == "BYTES":
        elements = _byte_elements(raw, count, where)
        array = numpy.empty(count, dtype=object)
        array[:] = elements
        return array.reshape(shape)
    dtype = numpy.dtype(DATATYPES[datatype])
    if len(raw) != count * dtype.itemsize:
        wanted = count * dtype.itemsize
        raise InvalidRequest(f"shape asks for {wanted} bytes, there are {len(raw)}", where=where)
    array = numpy.frombuffer(raw, dtype=dtype)
    if datatype == "BF16":
        return (array.astype("<u4") << 16).view("<f4").reshape(shape)
    if datatype == "BOOL":
        return array.view("<u1").astype(bool).reshape(shape)  # any byte but 0 is true
    return array.reshape(shape).copy()  # a view of the body could not be written to


def _byte_elements(raw: memoryview, count: int, where: str) -> list[Any]:
    if count * 4 > len(raw):
        raise InvalidRequest(f"{count} elements do not fit into {len(raw)} bytes", where=where)
    elements: list[bytes] = []
    start = 0
    while start < len(raw) and len(elements) < count:
        end = start + 4
        if end > len(raw):
            break
        (length,) = struct.unpack_from("<I", raw, start)
        start = end + length
        if start > len(raw):
            break
        elements.append(bytes(raw[end:start]))
    if start != len(raw) or len(elements) != count:
        raise InvalidRequest("the lengths of BYTES elements do not fit the data", where=where)
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        return elements  # not text: images, say


def to_array(result: Any) -> Any:
    """A result as an ndarray that has a datatype. What is no array of one type becomes one element of JSON."""
    numpy = numpy_or_unsupported()
    if hasattr(result, "toarray"):
        result = result.toarray()
    try:
        # numpy gives every text in a list the room of the longest, and takes NULs off its end: so, as objects.
        array = numpy.array(result, dtype=object) if _holds_text(result) else numpy.asarray(result)
    except (ValueError, TypeError):
        array = numpy.asarray(0, dtype=object)
    if array.dtype.kind in "Mm":
        array = array.astype(str)
    if array.dtype.kind == "c":
        raise ModelFailed("predict returned complex numbers, which have no datatype")
    odd = array.dtype.kind == "O" and not all(isinstance(v, str | bytes) for v in array.ravel().tolist())
    if odd or array.dtype.kind not in "biufUSO" or isinstance(result, dict):
        return numpy.array([encode_json(to_plain(result)).decode()], dtype=object)
    return array if array.ndim else array.reshape(1)


def _holds_text(result: Any) -> bool:
    """Whether there is a str or bytes anywhere in nested lists."""
    seen: set[int] = set()  # a list may hold itself
    level = [result]
    while level:
        if any(isinstance(value, str | bytes) for value in level):
            return True
        lists = {id(item): item for item in level if isinstance(item, list | tuple) and id(item) not in seen}
        seen |= lists.keys()
        level = [value for item in lists.values() for value in item]
    return False


def datatype_of(array: Any) -> str:
    """The protocol's name for the type of ``array``."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        return "BOOL"
    if kind == "f":
        return {2: "FP16", 4: "FP32"}.get(size, "FP64")
    if kind in "iu":
        return f"{'U' if kind == 'u' else ''}INT{size * 8}"
    return "BYTES"


def json_data(array: Any) -> list[Any]:
    """Row-major elements of ``array`` for JSON; NaN and infinities become null."""
    flat: list[Any] = array.ravel().tolist()
    return [text_of(v) if isinstance(v, bytes) else v for v in flat] if array.dtype.kind in "SO" else flat


def raw_data(array: Any) -> bytes:
    """Row-major elements of ``array`` as the binary extension wants them."""
    datatype = datatype_of(array)
    if datatype != "BYTES":
        raw: bytes = array.astype(DATATYPES[datatype], copy=False).tobytes()
        return raw
    elements = (v if isinstance(v, bytes) else str(v).encode() for v in array.ravel().tolist())
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)
