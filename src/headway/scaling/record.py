"""A decision as a JSON document, complete enough to be made again.

``policy``, ``samples`` and ``state`` are what ``decide`` was given, ``decision`` what it answered, ``flip`` the
smallest change that would have led elsewhere. Fields are those of the dataclasses; of several kinds, ``form`` tells
which. A number that JSON does not have stands as text (``NaN``, ``Infinity``, ``-Infinity``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import lru_cache
from math import inf, isfinite, isnan, nan
from types import MappingProxyType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from headway.domain.errors import InvalidInput
from headway.scaling.decide import decide
from headway.scaling.decision import Decision, State
from headway.scaling.flip import flip
from headway.scaling.policy import (
    CronTrigger,
    ExternalTrigger,
    FunctionTrigger,
    LatencyTrigger,
    Policy,
    ReplicaTrigger,
)
from headway.scaling.samples import LatencyReading, PerReplica, Reading, Samples

FORMAT: Final = 1
"""Of the document."""

_FORMS: Final[Mapping[type, str]] = {
    ReplicaTrigger: "replica",
    LatencyTrigger: "latency",
    ExternalTrigger: "external",
    CronTrigger: "cron",
    FunctionTrigger: "function",
    PerReplica: "replicas",
    LatencyReading: "windows",
    Reading: "value",
}
_SPECIAL: Final = {"NaN": nan, "Infinity": inf, "-Infinity": -inf}
QUIET_S: Final = 60.0
"""A tick that changes nothing is recorded this often at most."""
_REBOUND_S: Final = 10.0
"""A mere change of what is binding: two triggers may take turns every second."""


def to_document(policy: Policy, samples: Samples, state: State, decision: Decision) -> dict[str, Any]:
    """All of one decision; ``state`` is the one before it."""
    return {
        "format": FORMAT,
        "policy": _plain(policy),
        "samples": _plain(samples),
        "state": _plain(state),
        "decision": _plain(decision),
        "flip": flip(policy, samples, state, decision),
    }


def replay(document: Mapping[str, Any]) -> Decision:
    """The decision made again from the document's ``policy``, ``samples`` and ``state``.

    Equal to ``decision_of(document)`` unless the rules have changed since. Raises ``InvalidInput`` for a document that
    is none.
    """
    return _again(document)[0]


def state_after(document: Mapping[str, Any]) -> State:
    """What the decision left to the next one, so that a loop can go on from a record. Raises as :func:`replay`."""
    return _again(document)[1]


def decision_of(document: Mapping[str, Any]) -> Decision:
    """The decision as it was made. Raises ``InvalidInput`` for a document that is none."""
    decision: Decision = _part(document, "decision", Decision)
    return decision


def policy_in(document: Mapping[str, Any]) -> Policy:
    """The policy it was made by. Raises ``InvalidInput`` for a document that is none."""
    policy: Policy = _part(document, "policy", Policy)
    return policy


def interesting(decision: Decision, last: Decision | None) -> bool:
    """Whether a decision is to be recorded, given the last one of this version that was.

    Every one that changes the count or finds a step useless; in shadow mode, where the count does not follow, every one
    that would have changed it otherwise than the last. One whose binding rule is another, within seconds; any, once a
    minute.
    """
    if last is None or decision.not_replica_bound:
        return True
    differs = (decision.desired, decision.current) != (last.desired, last.current)
    if decision.changed and (differs or not decision.shadow):
        return True
    age_s = decision.at - last.at
    if age_s < 0.0 or age_s >= QUIET_S:
        return True
    return age_s >= _REBOUND_S and (differs or decision.binding != last.binding)


def _again(document: Mapping[str, Any]) -> tuple[Decision, State]:
    policy: Policy = _part(document, "policy", Policy)
    samples: Samples = _part(document, "samples", Samples)
    state: State = _part(document, "state", State)
    return decide(policy, samples, state, decision_of(document).at)


def _part(document: Mapping[str, Any], name: str, wanted: Any) -> Any:
    if document.get("format") != FORMAT:
        found = document.get("format")
        raise InvalidInput(f"This decision record has format {found!r}; this version of Headway reads {FORMAT}.")
    try:
        return _made(wanted, document[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"The decision record's {name} cannot be read: {error!r}.") from error


def _plain(value: Any) -> Any:
    """Any of the core's values as JSON."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float):
        if isfinite(value):
            return value
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if is_dataclass(value):
        form = _FORMS.get(type(value))
        tag = {} if form is None else {"form": form}
        return {**tag, **{field.name: _plain(getattr(value, field.name)) for field in fields(value)}}
    if hasattr(value, "_fields"):
        return {name: _plain(item) for name, item in zip(value._fields, value, strict=True)}
    return [_plain(item) for item in value]


def _made(wanted: Any, value: Any) -> Any:
    """The value of type ``wanted`` that ``_plain`` made ``value`` from."""
    origin = get_origin(wanted)
    if origin in (Union, UnionType):
        options = get_args(wanted)
        if value is None and type(None) in options:
            return None
        options = tuple(option for option in options if option is not type(None))
        if len(options) == 1:
            return _made(options[0], value)
        by_form = {_FORMS.get(option): option for option in options if isinstance(option, type)}
        if isinstance(value, Mapping) and None not in by_form:
            return _made(by_form[value["form"]], value)
        return _made(next(option for option in options if get_origin(option) is not None), value)
    if origin is tuple:
        parts = get_args(wanted)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_made(parts[0], item) for item in value)
        return tuple(_made(part, item) for part, item in zip(parts, value, strict=True))
    if origin is not None:
        return MappingProxyType({name: _made(get_args(wanted)[1], item) for name, item in value.items()})
    if is_dataclass(wanted) or hasattr(wanted, "_fields"):
        hints = _hints(wanted)
        return wanted(**{name: _made(hint, value[name]) for name, hint in hints.items() if name in value})
    if wanted is float and isinstance(value, str):
        return _SPECIAL[value]
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        return wanted(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, wanted):
        raise TypeError(f"{value!r} where {wanted.__name__} is expected")
    return value


@lru_cache(maxsize=64)
def _hints(of: Any) -> dict[str, Any]:
    return get_type_hints(of)
