"""The model contract: what is asked of the user's object, and nothing else of it.

``predict(X, features_names=None)`` is required; ``load``, ``metrics`` and ``health_status`` are optional.
The annotation of ``X`` picks its type (:class:`InputKind`), the default being an ndarray, or plain nested
lists where numpy is not installed. Names and shape of the contract are those that users of Seldon know.
"""

from __future__ import annotations

import collections.abc
import enum
import importlib
import importlib.util
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from headway.domain.errors import LoadFailed
from headway.server.results import split

if typing.TYPE_CHECKING:
    from headway.server.feedback_message import Lesson
    from headway.server.inputs import Inputs

NAME_PARAMETERS = ("features_names", "feature_names", "names")
"""Parameters of ``predict`` that get the column names, the first one found."""


_CATCH_ALL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
EXTRAS = ("params", "meta")


class InputKind(enum.Enum):
    """What ``predict`` gets as ``X``."""

    ARRAY = "numpy.ndarray"
    FRAME = "pandas.DataFrame"
    RAW = "dict"
    LISTS = "list"
    R_FRAME = "data.frame"
    """R's; see :class:`headway.server.inputs.Table`."""
    ROWS = "rows"
    """What an ndarray would hold, as nested lists: the default where numpy is not installed."""

    @property
    def by_column(self) -> bool:
        """Whether each column keeps a type of its own."""
        return self is InputKind.FRAME or self is InputKind.R_FRAME


class Columns(tuple[str, ...]):
    """Column names in the model's order; those in ``optional`` may be left out of a request."""

    optional: frozenset[str]

    def __new__(cls, names: Iterable[Any], optional: Iterable[str] = ()) -> Columns:
        found = super().__new__(cls, [str(name) for name in names])
        found.optional = frozenset(optional)
        return found


class Companion(Protocol):
    """A process beside the server's that a model runs in. It is not shared with forks: each has its own."""

    def begin(self, limit_s: float) -> None:
        """This process will serve: have one of its own, if it is not there. No call may take longer than ``limit_s``.

        Raises ``LoadFailed``.
        """
        ...

    def rest(self) -> None:
        """This process will be forked: end it."""
        ...


class LoadedModel:
    """One user object behind the contract. Calls go straight through: exceptions are the caller's to catch."""

    def __init__(self, subject: Any, bundle: Path, *, name: str, kind: InputKind | None = None) -> None:
        self.subject = subject
        self.bundle = bundle
        self.name = name
        """``Iris`` or ``predict``, for messages."""
        self._call: Callable[..., Any] = subject.predict if hasattr(subject, "predict") else subject
        signature = signature_of(self._call, name)
        if signature is not None and _is_estimator(subject):
            signature = _without_keywords(signature)
        first, self._names_parameter = _parameters(signature, name)
        self.extras = _extras(signature)
        """Keyword arguments that ``predict`` takes from a request: of ``params`` (MLflow) and ``meta`` (Seldon)."""
        self.reported: Any = None
        """What ``metrics`` returned after the present call."""
        self.kind = input_kind(self._call, first, name) if kind is None else _available(kind, name)
        self.together: bool = getattr(subject, "batching", True) is not False and self.kind in (
            InputKind.ARRAY,
            InputKind.FRAME,
            InputKind.R_FRAME,
            InputKind.ROWS,
        )
        """Whether rows of several requests may be predicted in one call; set False once that proved wrong."""
        self.metrics: Callable[[], Any] | None = _optional(subject, "metrics")
        self.tags: Callable[[], Any] | None = _optional(subject, "tags")
        self.health_status: Callable[[], Any] | None = _optional(subject, "health_status")
        self.companion: Companion | None = None
        self.has_code = True
        """False: the bundle is a model file alone."""

    def load(self) -> None:
        """Call the user's ``load``, if there is one."""
        load = _optional(self.subject, "load")
        if load is not None:
            load()

    def rest(self) -> None:
        """This process will be forked: end what children cannot share and have anew."""
        if self.companion is not None:
            self.companion.rest()

    def columns(self) -> Columns | None:
        """The column names that the object itself tells (scikit-learn's ``feature_names_in_``), after ``load``."""
        names = getattr(self.subject, "feature_names_in_", None)
        if names is None:
            return None
        return names if isinstance(names, Columns) else Columns(names)

    def width(self) -> int | None:
        """How many columns the object itself says it takes."""
        columns = self.columns()
        if columns is not None and columns.optional:
            return None
        told = len(columns) if columns is not None else getattr(self.subject, "n_features_in_", None)
        return told if isinstance(told, int) else None

    def answer(self, x: Any, batch: Sequence[Inputs], *, as_lists: bool) -> list[Any]:
        """The answer to each of ``batch``, whose rows together are ``x``.

        ``as_lists``: parts of arrays come as lists. Raises ``NotSplittable`` when rows of several requests went in
        and something else came out.
        """
        result = self.predict(x, batch[0].columns, batch[0].extras)
        return [result] if len(batch) == 1 else split(result, [i.rows for i in batch], as_lists=as_lists)

    @property
    def teachable(self) -> bool:
        """Whether it learns from feedback."""
        return callable(getattr(self.subject, "send_feedback", None))

    def teach(self, lesson: Lesson) -> Any:
        """What the user's ``send_feedback`` returns; None where there is none."""
        send = _optional(self.subject, "send_feedback")
        return None if send is None else lesson.give(send, None)

    def predict(self, x: Any, columns: Sequence[str] | None, extras: Mapping[str, Any] | None = None) -> Any:
        """The user's answer for ``x``; ``columns`` reach it if it takes them."""
        if self._names_parameter is None:
            return self._call(x) if extras is None else self._call(x, **extras)
        names = None if columns is None else list(columns)
        return self._call(x, **{self._names_parameter: names}, **(extras or {}))


def _optional(subject: Any, name: str) -> Callable[..., Any] | None:
    found = getattr(subject, name, None)
    if found is None or not callable(found):
        return None
    return typing.cast("Callable[..., Any]", found)


def signature_of(call: Callable[..., Any], name: str) -> inspect.Signature | None:
    """What ``call`` takes; None where it does not tell. Raises ``LoadFailed`` for what cannot be called here."""
    if not callable(call):
        raise LoadFailed(f"predict of {name} is not callable")
    if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        raise LoadFailed(f"predict of {name} is async", hint="write it as a plain def")
    try:
        return inspect.signature(call)
    except (TypeError, ValueError):
        return None  # written in C: takes X


def _is_estimator(subject: Any) -> bool:
    """Of scikit-learn, or made like one of its own."""
    return callable(getattr(subject, "get_params", None)) and callable(getattr(subject, "fit", None))


def _without_keywords(signature: inspect.Signature) -> inspect.Signature:
    """Without ``**params``: a pipeline hands them to its last step, which refuses what it does not know."""
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    return signature.replace(parameters=kept)


def _parameters(signature: inspect.Signature | None, name: str) -> tuple[inspect.Parameter | None, str | None]:
    """The parameter for X, and the name of the one for column names."""
    if signature is None:
        return None, None
    kinds = inspect.Parameter
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    catch_all = [p for p in parameters if p.kind is kinds.VAR_POSITIONAL]
    if not positional and not catch_all:
        raise LoadFailed(f"predict of {name} takes no input", hint="def predict(self, X, features_names=None)")
    first = positional[0] if positional else None
    taken = None
    for wanted in NAME_PARAMETERS:
        parameter = signature.parameters.get(wanted)
        if parameter is not None and parameter is not first and parameter.kind is not kinds.POSITIONAL_ONLY:
            taken = wanted
            break
    if taken is None and any(p.kind is kinds.VAR_KEYWORD for p in parameters):
        taken = NAME_PARAMETERS[0]
    missing = [
        p.name
        for p in parameters
        if p is not first and p.name != taken and p.default is kinds.empty and p.kind not in _CATCH_ALL
    ]
    if missing:
        raise LoadFailed(
            f"predict of {name} needs {', '.join(missing)} beside its input",
            hint="def predict(self, X, features_names=None); other parameters need defaults",
        )
    return first, taken


def _extras(signature: inspect.Signature | None) -> frozenset[str]:
    if signature is None:
        return frozenset()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    return frozenset(name for name in EXTRAS if open_ended or name in signature.parameters)


def input_kind(call: Callable[..., Any], first: inspect.Parameter | None, name: str) -> InputKind:
    """What ``call`` wants as its ``first`` parameter, by annotation. Raises ``LoadFailed``."""
    annotation = inspect.Parameter.empty if first is None else first.annotation
    if annotation is not inspect.Parameter.empty and first is not None:
        try:
            annotation = typing.get_type_hints(call).get(first.name, annotation)
        except Exception:  # a name that only a type checker sees: fall back on its spelling
            annotation = first.annotation
    kind = _default_kind() if annotation is inspect.Parameter.empty else _kind_of(annotation)
    if kind is None:
        raise LoadFailed(
            f"predict of {name}: X is annotated as {_shown(annotation)}, which is not supported",
            hint="numpy.ndarray (the default), pandas.DataFrame, dict or list",
        )
    return _available(kind, name)


def _available(kind: InputKind, name: str) -> InputKind:
    if kind in (InputKind.ARRAY, InputKind.FRAME):
        _require(kind.value.partition(".")[0], name)
    return kind


def _default_kind() -> InputKind:
    return InputKind.ARRAY if importlib.util.find_spec("numpy") is not None else InputKind.ROWS


def _require(package: str, name: str) -> None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise LoadFailed(
            f"predict of {name} asks for {package}, which is not installed",
            hint=f"add {package} to requirements.txt",
        ) from error


_SPELLINGS = {
    "ndarray": InputKind.ARRAY,
    "NDArray": InputKind.ARRAY,
    "ArrayLike": InputKind.ARRAY,
    "DataFrame": InputKind.FRAME,
    "dict": InputKind.RAW,
    "Dict": InputKind.RAW,
    "Mapping": InputKind.RAW,
    "list": InputKind.LISTS,
    "List": InputKind.LISTS,
    "Sequence": InputKind.LISTS,
}


def _kind_of(annotation: Any) -> InputKind | None:
    if annotation is Any or annotation is object:
        return _default_kind()
    if isinstance(annotation, str):
        spelling = annotation.partition("[")[0].strip().rpartition(".")[2]
        return _default_kind() if spelling in ("Any", "object") else _SPELLINGS.get(spelling)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _kind_of(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        # Seldon's own stubs write Union[np.ndarray, List, str, bytes, Dict]: the first one served here counts.
        return next((k for k in map(_kind_of, typing.get_args(annotation)) if k is not None), None)
    plain = origin or annotation
    if plain in (dict, collections.abc.Mapping, collections.abc.MutableMapping) or typing.is_typeddict(plain):
        return InputKind.RAW
    if plain in (list, collections.abc.Sequence):
        return InputKind.LISTS
    return _SPELLINGS.get(getattr(plain, "__name__", ""))


def _shown(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__qualname__", str(annotation))
