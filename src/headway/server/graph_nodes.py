"""The nodes of an inference graph: the user's objects behind the methods that Seldon's wrapper calls, built-in ones.

``predict`` (MODEL), ``transform_input`` (TRANSFORMER), ``transform_output`` (OUTPUT_TRANSFORMER), ``route`` (ROUTER)
and ``aggregate`` (COMBINER) get their arguments by position, names of columns where they take them, ``meta`` never.
Source: Seldon Core 1, "Inference graph" and its Python wrapper.
"""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from headway.domain.errors import LoadFailed, ModelFailed
from headway.server.graph_spec import GraphNode
from headway.server.model import InputKind, input_kind, signature_of

METHODS: Final = {
    "MODEL": "predict",
    "TRANSFORMER": "transform_input",
    "OUTPUT_TRANSFORMER": "transform_output",
    "ROUTER": "route",
    "COMBINER": "aggregate",
}
ALL: Final = -1
"""What a router returns that wants every child asked."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Node:
    """A node with its object. ``call`` is its method; what it takes was found out once."""

    def __init__(self, spec: GraphNode, subject: Any, kind: InputKind | None = None) -> None:
        self.name = spec.name
        self.type = spec.type
        self.subject = subject
        self.children: tuple[Node, ...] = ()
        self.modules: tuple[Any, ...] = ()
        """What its code consists of, to keep it alive."""
        method = METHODS[spec.type]
        found = getattr(subject, method, None)
        if found is None and spec.type == "MODEL" and callable(subject):
            found = subject
        if not callable(found):
            raise LoadFailed(
                f"{type(subject).__name__} of node {spec.name} has no {method}",
                where=spec.name,
                hint=f"a {spec.type} is asked through {method}",
            )
        self._method: Callable[..., Any] = found
        self.takes_names, first = _takes(found, f"{method} of {spec.name}")
        # A combiner gets a list of what its children answered: the annotation says nothing of one of them.
        told = None if spec.type == "COMBINER" else first
        self.kind = kind or input_kind(found, told, spec.name)

    def call(self, values: Any, names: Sequence[str] | None) -> Any:
        """Ask it; ``values`` are brought into the form that it wants."""
        return self._ask(as_kind(values, names, self.kind), list(names or []))

    def combine(self, values: Sequence[Any], names: Sequence[Sequence[str] | None]) -> Any:
        """Ask a combiner."""
        return self._ask([as_kind(v, n, self.kind) for v, n in zip(values, names, strict=True)], [*map(list_of, names)])

    def route(self, values: Any, names: Sequence[str] | None) -> int:
        """Which child a router chooses, or :data:`ALL`. Raises ``ModelFailed`` for what is no child."""
        chosen = self.call(values, names)
        with contextlib.suppress(AttributeError):  # array([[1]]), numpy.int64(1)
            chosen = chosen.item()
        if isinstance(chosen, bool) or not isinstance(chosen, int) or not ALL <= chosen < len(self.children):
            raise ModelFailed(
                f"router {self.name} chose {str(chosen)[:60]!r}",
                where=self.name,
                hint=f"route returns the index of a child, 0 to {len(self.children) - 1}, or -1 for all",
            )
        return int(chosen)

    def _ask(self, values: Any, names: Any) -> Any:
        return self._method(values, names) if self.takes_names else self._method(values)

    def feature_names(self, given: Sequence[str] | None) -> Sequence[str] | None:
        """Names of the columns after ``transform_input``: its own words, else those that came in."""
        return self._told("feature_names") or given

    def class_names(self, values: Any) -> Sequence[str] | None:
        """Names of the columns of what it answered."""
        columns = getattr(values, "columns", None)
        return [str(c) for c in columns] if columns is not None else self._told("class_names")

    def tags(self) -> Mapping[str, Any]:
        """What it says of its latest call."""
        found = told(self.subject, "tags")
        return found if isinstance(found, Mapping) else {}

    def metrics(self) -> Sequence[Any]:
        """What it measured in its latest call."""
        found = told(self.subject, "metrics")
        return found if isinstance(found, list | tuple) else ()

    def _told(self, name: str) -> list[str] | None:
        given = getattr(self.subject, name, None)
        found = told(self.subject, name) if callable(given) else given
        return None if found is None else [str(one) for one in found]


def told(subject: Any, name: str) -> Any:
    """What the optional method ``name`` returns; None where it is not there, or Seldon's base class leaves it open."""
    method = getattr(subject, name, None)
    if not callable(method):
        return None
    try:
        return method()
    except Exception as error:
        if type(error).__name__ == "SeldonNotImplementedError":
            return None
        raise ModelFailed(f"{name}() raised {type(error).__name__}: {error}") from error


def list_of(names: Sequence[str] | None) -> list[str]:
    """Names as a list; empty where there are none."""
    return list(names or [])


def as_kind(values: Any, names: Sequence[str] | None, kind: InputKind) -> Any:
    """``values``, an array, a DataFrame, nested lists or anything else, in the form that ``kind`` says."""
    frame = hasattr(values, "columns") and hasattr(values, "iloc")
    if kind is InputKind.FRAME:
        if frame or not (isinstance(values, list) or hasattr(values, "shape")):
            return values
        import pandas

        width = values.shape[1] if getattr(values, "ndim", 0) == 2 else len(values[0]) if values else 0
        return pandas.DataFrame(values, columns=list(names) if names and len(names) == width else None)
    if kind is InputKind.ARRAY:
        if frame:
            numeric = all(dtype.kind in "biuf" for dtype in values.dtypes)
            return values.to_numpy(dtype="float64" if numeric else object)
        if isinstance(values, list):
            import numpy

            return numpy.array(values)
        return values
    if frame:
        return values.to_numpy().tolist()
    return values.tolist() if hasattr(values, "tolist") else values


def _takes(method: Callable[..., Any], name: str) -> tuple[bool, inspect.Parameter | None]:
    """Whether it takes names beside its input, and the parameter for the input."""
    signature = signature_of(method, name)
    if signature is None:
        return False, None
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    rest = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not positional and not rest:
        raise LoadFailed(f"{name} takes no input", hint="def predict(self, X, features_names=None)")
    needed = [p.name for p in positional[2:] if p.default is p.empty]
    needed += [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if needed:
        raise LoadFailed(f"{name} needs {', '.join(needed)} beside its input", hint="other parameters need defaults")
    second = len(positional) > 1 and positional[1].name not in ("meta", "params")
    return second or rest, positional[0] if positional else None


# -- built-in nodes ------------------------------------------------------------------------------


class SimpleModel:
    """The same three numbers for every row, to try a graph with."""

    class_names = ("class0", "class1", "class2")

    def predict(self, X: Any, names: Any = None) -> Any:  # noqa: N803
        """0.1, 0.9 and 0.5, whatever is asked."""
        return [[0.1, 0.9, 0.5] for _ in range(len(X))]


class SimpleRouter:
    """The first child, always."""

    def route(self, X: Any, names: Any = None) -> int:  # noqa: N803
        """0."""
        return 0


class RandomAbTest:
    """The first of two children for the share ``ratioA`` of the requests, else the second."""

    def __init__(self, ratioA: float = 0.5) -> None:  # noqa: N803
        if not 0 <= ratioA <= 1:
            raise ValueError(f"ratioA is a share, 0 to 1, not {ratioA}")
        self._ratio = ratioA
        self._random = random.Random()  # noqa: S311 (a draw, no secret)

    def route(self, X: Any, names: Any = None) -> int:  # noqa: N803
        """0 or 1."""
        return 0 if self._random.random() < self._ratio else 1


class AverageCombiner:
    """The mean of what all children answered, number by number."""

    def aggregate(self, values: Sequence[Any], names: Sequence[Sequence[str]]) -> Any:
        """Raises ``ValueError`` where the answers differ in shape or are no numbers."""
        import numpy

        arrays = [numpy.asarray(value, dtype=float) for value in values]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise ValueError(f"answers of different shapes have no mean: {', '.join(map(str, sorted(shapes)))}")
        return numpy.mean(arrays, axis=0)


BUILT_IN: Final[Mapping[str, Callable[..., Any]]] = {
    "SIMPLE_MODEL": SimpleModel,
    "SIMPLE_ROUTER": SimpleRouter,
    "RANDOM_ABTEST": RandomAbTest,
    "AVERAGE_COMBINER": AverageCombiner,
}
