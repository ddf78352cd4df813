"""What goes into the model and what comes out, for metadata and the API description.

Told by the model itself where it can (``feature_names_in_``, ``n_features_in_``), else learned from the first
input it answered (the sample, if there is one). -1 stands for any number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headway.server.codecs.tensors import datatype_of, to_array
from headway.server.inputs import Form, Inputs
from headway.server.model import InputKind, LoadedModel

INPUT: Final = "X"
OUTPUT: Final = "predictions"

_CELL_TYPES: Final = {bool: "BOOL", int: "INT64", float: "FP64", str: "BYTES"}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, Open Inference datatype and shape of one input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    required: bool = True
    cell: Mapping[str, Any] | None = None
    """JSON Schema of one value, where the model tells more of it than a datatype does."""

    def to_dict(self) -> dict[str, Any]:
        """As in the protocol's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Signature:
    """``learned``: from an answered input; else from the model's own words, or a guess in its absence."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    learned: bool = False


def declared(model: LoadedModel) -> Signature:
    """What the model itself tells, before it has answered anything."""
    columns = model.columns()
    outputs: tuple[TensorSpec, ...] = getattr(model.subject, "output_specs", None) or (
        TensorSpec(OUTPUT, "FP64", (-1,)),
    )
    told_inputs = _told(model)
    if told_inputs is not None:
        return Signature(told_inputs, outputs)
    if model.kind in (InputKind.RAW, InputKind.LISTS):
        return Signature((), outputs)
    if model.kind.by_column:
        told = getattr(model.subject, "datatypes", {}) if model.kind is InputKind.R_FRAME else {}
        return Signature(tuple(TensorSpec(n, told.get(n, "FP64"), (-1, 1)) for n in columns or ()), outputs)
    return Signature((TensorSpec(INPUT, "FP64", (-1, model.width() or -1)),), outputs)


def learn(inputs: Inputs, result: Any, model: LoadedModel) -> Signature:
    """From one answered input; a model that says itself what it takes knows better."""
    told = _told(model)
    return Signature(_inputs(inputs) if told is None else told, _outputs(inputs, result), learned=True)


def _told(model: LoadedModel) -> tuple[TensorSpec, ...] | None:
    found: tuple[TensorSpec, ...] | None = getattr(model.subject, "input_specs", None)
    return found


def _inputs(inputs: Inputs) -> tuple[TensorSpec, ...]:
    form, values = inputs.form, inputs.values
    if form is Form.NUMBERS or form is Form.STRINGS:
        datatype = "FP64" if form is Form.NUMBERS else "BYTES"
        return (TensorSpec(INPUT, datatype, (-1, len(values[0]))),)
    if form is Form.TENSOR:
        return (TensorSpec(INPUT, datatype_of(values), (-1, *values.shape[1:])),)
    if form is Form.COLUMNS:
        return tuple(TensorSpec(name, datatype_of(array), (-1, 1)) for name, array in values.items())
    if form is Form.CELLS:
        names = inputs.columns or tuple(str(index) for index in range(len(values[0])))
        kinds = [{type(row[index]) for row in values} - {type(None)} for index in range(len(names))]
        return tuple(TensorSpec(n, _cell_type(k), (-1, 1)) for n, k in zip(names, kinds, strict=True))
    return ()


def _cell_type(kinds: set[type]) -> str:
    if kinds == {int, float}:
        return "FP64"
    return _CELL_TYPES.get(kinds.pop(), "BYTES") if len(kinds) == 1 else "BYTES"


def _outputs(inputs: Inputs, result: Any) -> tuple[TensorSpec, ...]:
    if isinstance(result, dict) or (hasattr(result, "columns") and hasattr(result, "iloc")):
        try:
            return tuple(_output(str(name), to_array(result[name]), inputs.rows) for name in result)
        except Exception:  # values that are no arrays: described as one piece of JSON
            return (TensorSpec(OUTPUT, "BYTES", (1,)),)
    return (_output(OUTPUT, to_array(result), inputs.rows),)


def _output(name: str, array: Any, rows: int) -> TensorSpec:
    shape = tuple(int(size) for size in array.shape)
    if shape[0] == rows:
        shape = (-1, *shape[1:])
    return TensorSpec(name, datatype_of(array), shape)
