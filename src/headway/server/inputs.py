"""A request's rows on their way to the model: kept apart when they come, stacked when they are predicted.

Rows stay plain lists until the batch is built: one ``numpy.array`` call for sixty-four requests instead of
sixty-four. ``Inputs.key`` says which requests fit into one call (same columns, width and kind of value).
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from headway.domain.errors import InvalidRequest
from headway.server.model import InputKind

FLOAT32_MAX = 3.4028234663852886e38
ROWS_HINT = "send rows: [[1, 2], [3, 4]]; one row is [[1, 2]]"


class Form(enum.IntEnum):
    """How the rows are held."""

    NUMBERS = 0
    """Lists of floats, all of one width."""
    STRINGS = 1
    CELLS = 2
    """Lists of any JSON values, for a DataFrame."""
    TENSOR = 3
    """An ndarray with the rows in its first axis."""
    COLUMNS = 4
    """One ndarray per column, for a DataFrame."""
    WHOLE = 5
    """The body as it is."""


class Inputs:
    """What one request asks about."""

    __slots__ = ("columns", "context", "extras", "form", "key", "rows", "shape", "trail", "values", "width")

    def __init__(
        self,
        form: Form,
        values: Any,
        rows: int,
        columns: tuple[str, ...] | None,
        width: Hashable,
        kinds: Hashable = None,
    ) -> None:
        self.form = form
        self.values = values
        self.rows = rows
        self.columns = columns
        self.width = width
        """Values per row; the shape of a row where it is an array."""
        self.shape = (form, columns, width, kinds)
        """What a model may care about before it looks at values."""
        self.key: Hashable = None if form is Form.WHOLE else self.shape
        """Requests with equal keys may share a call; None: with nobody."""
        self.extras: Mapping[str, Any] | None = None
        """Keyword arguments for ``predict`` that the request brings; set with :meth:`bring`."""
        self.context: Any = None
        """What the codec needs for the answer."""
        self.trail: Trail | None = None
        """Which way it took through an inference graph."""

    def bring(self, extras: Mapping[str, Any]) -> None:
        """Add keyword arguments for ``predict``; such a request shares no call."""
        if extras:
            self.extras = extras
            self.key = None


class Trail:
    """The way of one request through an inference graph, as Seldon's ``meta`` tells it."""

    __slots__ = ("metrics", "names", "path", "routing", "tags")

    def __init__(self) -> None:
        self.routing: dict[str, int] = {}
        """Which child each router chose: its index, -1 for all."""
        self.path: list[str] = []
        """Nodes in the order in which they were asked."""
        self.tags: dict[str, Any] = {}
        self.metrics: list[Any] = []
        self.names: list[str] | None = None
        """Names of the columns of the answer; None: as any model's."""


class Table:
    """Rows for R: a sequence or an ndarray per column."""

    __slots__ = ("columns", "names", "rows")

    def __init__(self, names: tuple[str, ...] | None, columns: Sequence[Any], rows: int) -> None:
        self.names = names
        self.columns = columns
        self.rows = rows


def whole(value: Any) -> Inputs:
    """A body that goes to the model as it is. What shape it has: the keys of an object with the types of their
    values, the type of anything else."""
    named = type(value) is dict
    kinds: Hashable = hash(frozenset((name, type(item)) for name, item in value.items())) if named else str(type(value))
    return Inputs(Form.WHOLE, value, len(value) if isinstance(value, list) else 1, None, None, kinds)


def numbers(rows: list[list[float]], columns: tuple[str, ...] | None = None) -> Inputs:
    """Rows that are known to hold floats only; widths are checked here."""
    width = row_width(rows)
    return Inputs(Form.NUMBERS, rows, len(rows), columns, width)


def tensor(values: Any, columns: tuple[str, ...] | None = None) -> Inputs:
    """An ndarray of at least one row."""
    if values.size == 0 or values.ndim == 0:
        raise InvalidRequest("no rows", hint=ROWS_HINT)
    return Inputs(Form.TENSOR, values, values.shape[0], columns, values.shape[1:], values.dtype.str)


def vector(values: Any, columns: tuple[str, ...] | None = None) -> Inputs:
    """Rows that are single values: a one-dimensional array of floats, or of strings as objects."""
    import numpy

    types = set(map(type, values))
    if types == {str}:
        return tensor(numpy.array(values, dtype=object), columns)
    if not types <= {int, float, bool, type(None)}:
        raise InvalidRequest("rows mix strings and numbers")
    try:
        return tensor(numpy.array(values, dtype=numpy.float64), columns)
    except OverflowError:
        raise InvalidRequest("a number is beyond the range of float64") from None


def columnar(columns: Mapping[str, Any]) -> Inputs:
    """One-dimensional ndarrays of equal length by column name, for a DataFrame."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise InvalidRequest("columns differ in length" if len(lengths) > 1 else "no rows")
    names = tuple(columns)
    kinds = tuple(values.dtype.str for values in columns.values())
    return Inputs(Form.COLUMNS, dict(columns), lengths.pop(), names, len(names), kinds)


def row_width(rows: list[Any]) -> int:
    """The common width of ``rows``. Raises ``InvalidRequest`` when there is none."""
    if not rows:
        raise InvalidRequest("no rows", hint=ROWS_HINT)
    width = len(rows[0])
    if len(rows) > 1 and any(len(row) != width for row in rows):
        index = next(i for i, row in enumerate(rows) if len(row) != width)
        raise InvalidRequest(
            f"row {index} has {len(rows[index])} values, row 0 has {width}", hint="all rows need the same width"
        )
    if width == 0:
        raise InvalidRequest("rows are empty", hint=ROWS_HINT)
    return width


def stack(batch: Sequence[Inputs], kind: InputKind) -> Any:
    """X for one call with the rows of all of ``batch``, whose keys are equal."""
    first = batch[0]
    if first.form is Form.WHOLE:
        return first.values
    if first.form is Form.TENSOR:
        return _stack_tensors(batch, kind)
    if first.form is Form.COLUMNS:
        return _stack_columns(batch, kind)
    if len(batch) == 1:
        rows = first.values
    else:
        rows = []
        for inputs in batch:
            rows.extend(inputs.values)
    if kind is InputKind.ARRAY:
        import numpy

        return numpy.array(rows, dtype=numpy.float64 if first.form is Form.NUMBERS else object)
    if kind is InputKind.FRAME:
        import pandas

        return pandas.DataFrame(rows, columns=None if first.columns is None else list(first.columns))
    if kind is InputKind.R_FRAME:
        return Table(first.columns, list(zip(*rows, strict=True)), len(rows))
    return rows


def _stack_tensors(batch: Sequence[Inputs], kind: InputKind) -> Any:
    import numpy

    values = batch[0].values if len(batch) == 1 else numpy.concatenate([inputs.values for inputs in batch])
    if kind is InputKind.FRAME:
        import pandas

        columns = batch[0].columns
        return pandas.DataFrame(values, columns=None if columns is None else list(columns))
    if kind is InputKind.R_FRAME:
        return Table(batch[0].columns, list(values.T), len(values))
    return values if kind is InputKind.ARRAY else values.tolist()


def _stack_columns(batch: Sequence[Inputs], kind: InputKind) -> Any:
    import numpy

    columns = batch[0].values
    if len(batch) > 1:
        columns = {name: numpy.concatenate([inputs.values[name] for inputs in batch]) for name in columns}
    if kind is InputKind.R_FRAME:
        return Table(tuple(columns), list(columns.values()), sum(inputs.rows for inputs in batch))
    import pandas

    return pandas.DataFrame(columns)


def has_odd_numbers(inputs: Inputs) -> bool:
    """Whether a number in it is missing, not finite, or beyond what float32 holds."""
    form, values = inputs.form, inputs.values
    if form is Form.NUMBERS or form is Form.CELLS:
        cells = (cell for row in values for cell in row)
        return any(cell is None or (isinstance(cell, float | int) and not abs(cell) <= FLOAT32_MAX) for cell in cells)
    if form is Form.TENSOR or form is Form.COLUMNS:
        arrays = [values] if form is Form.TENSOR else values.values()
        return any(a.dtype.kind in "iuf" and not bool((abs(a) <= FLOAT32_MAX).all()) for a in arrays)
    return False


def has_text(inputs: Inputs) -> bool:
    """Whether a string is in it."""
    form, values = inputs.form, inputs.values
    if form is Form.CELLS:
        return any(type(cell) is str for row in values for cell in row)
    arrays = [values] if form is Form.TENSOR else values.values() if form is Form.COLUMNS else []
    return form is Form.STRINGS or any(array.dtype.kind == "O" for array in arrays)
