"""From the flags of ``headway autoscale`` to the policy they make of the one there was. Pure.

A flag changes its part and leaves the rest: ``--cpu 70%`` changes the target of the cpu trigger or adds one,
``--cpu off`` takes it away. Errors name the flag.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headway.domain.errors import InvalidInput
from headway.domain.quantities import seconds, share

OFF: Final = "off"
LATENCY_FIELDS: Final = ("window", "span", "step", "cooldown")
_LATENCY = re.compile(r"\s*(?:(?P<quantile>average|avg|p50|p75|p95|p99)\s*<=?)?\s*(?P<threshold>[\d.a-z]+)\s*")
_PLACE = re.compile(r"scaling\.triggers\[(\d+)\](?:\.(\w+))?")


@dataclass(frozen=True, slots=True)
class Flags:
    """What was given; None: nothing."""

    least: int | None = None
    most: int | None = None
    cpu: str | None = None
    memory: str | None = None
    concurrency: str | None = None
    rps: str | None = None
    latency: str | None = None
    window: str | None = None
    span: str | None = None
    step: int | None = None
    cooldown: str | None = None
    shadow: bool | None = None

    def any(self) -> bool:
        """Whether anything was given."""
        return any(getattr(self, name) is not None for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a preview: ``cpu.target``, as it was and as it will be; None: not there."""

    path: str
    old: Any
    new: Any


def edited(model: str, policy: Mapping[str, Any] | None, flags: Flags) -> dict[str, Any]:
    """``policy`` with what ``flags`` say, defaults filled in. Raises ``InvalidInput`` and ``InvalidSpec``."""
    document: dict[str, Any] = copy.deepcopy(dict(policy)) if policy is not None else {}
    triggers: list[dict[str, Any]] = document.setdefault("triggers", [])
    if flags.least is not None:
        document["minReplicas"] = flags.least
    if flags.most is not None:
        document["maxReplicas"] = flags.most
    if flags.shadow is not None:
        document["shadow"] = flags.shadow
    for kind in ("cpu", "memory"):
        _set(model, triggers, kind, getattr(flags, kind), lambda text, flag: {"target": _percent(text, flag)})
    for kind in ("concurrency", "rps"):
        _set(model, triggers, kind, getattr(flags, kind), lambda text, flag: {"target": _number(text, flag)})
    _set(model, triggers, "latency", flags.latency, _latency)
    _set_latency_fields(model, triggers, flags)
    if not triggers:
        _refuse_without_triggers(model, policy)
    if document.get("maxReplicas") is None:
        raise InvalidInput("how many replicas may there be at most?", where="--max", hint="for example --max 12")
    return checked(document, flags)


def checked(document: Mapping[str, Any], flags: Flags) -> dict[str, Any]:
    """``document`` with defaults filled in; ``where`` of a refusal is the flag that the value came from."""
    from headway.domain.scaling_document import parse_scaling

    try:
        return parse_scaling(document).model_dump(mode="json", by_alias=True)
    except InvalidInput as error:
        error.where = _flag_of(error.where or "", document, flags) or error.where
        raise


def differences(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[Difference]:
    """What changes from one policy (defaults filled in; None: a fixed number) to another, triggers by their names."""
    before, after = _flat(old), _flat(new)
    paths = dict.fromkeys([*before, *after])
    return [Difference(p, before.get(p), after.get(p)) for p in paths if before.get(p) != after.get(p)]


def name_of(trigger: Mapping[str, Any]) -> str:
    """What a trigger is called in records."""
    return str(trigger.get("name") or trigger.get("type"))


def _flat(policy: Mapping[str, Any] | None) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in (policy or {}).items():
        if key != "triggers":
            flat.update(_leaves(key, value))
    for trigger in (policy or {}).get("triggers", ()):
        for key, value in trigger.items():
            if key not in ("name", "type"):
                flat.update(_leaves(f"{name_of(trigger)}.{key}", value))
    return {path: value for path, value in flat.items() if value is not None}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(f"{path}.{key}", below)
    else:
        yield path, value


def _set(model: str, triggers: list[dict[str, Any]], kind: str, text: str | None, read: Any) -> None:
    if text is None:
        return
    flag = f"--{kind}"
    there = _only(model, triggers, kind, flag)
    if text.strip().lower() == OFF:
        if there is None:
            raise InvalidInput(f"{model} has no {kind} trigger to take away", where=flag)
        triggers.remove(there)
        return
    fields = read(text, flag)
    if there is None:
        triggers.append({"type": kind, **fields})
    else:
        there.update(fields)


def _set_latency_fields(model: str, triggers: list[dict[str, Any]], flags: Flags) -> None:
    given = {name: getattr(flags, name) for name in LATENCY_FIELDS if getattr(flags, name) is not None}
    if not given:
        return
    first = f"--{next(iter(given))}"
    there = _only(model, triggers, "latency", first)
    if there is None:
        raise InvalidInput(
            f"{first} belongs to a latency trigger, and {model} has none", where=first, hint="add --latency 'p95<900ms'"
        )
    for name, value in given.items():
        there[name] = value if isinstance(value, int) else _duration(value, f"--{name}")


def _only(model: str, triggers: Sequence[dict[str, Any]], kind: str, flag: str) -> dict[str, Any] | None:
    found = [trigger for trigger in triggers if trigger.get("type") == kind]
    if len(found) > 1:
        names = ", ".join(name_of(trigger) for trigger in found)
        raise InvalidInput(
            f"{model} has {len(found)} {kind} triggers ({names}), and {flag} could mean any of them",
            where=flag,
            hint="write the policy to a file and give it with -f",
        )
    return found[0] if found else None


def _percent(text: str, flag: str) -> str:
    try:
        share(text.strip())
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise InvalidInput(message, where=flag, hint=hint or None) from None
    return text.strip()


def _number(text: str, flag: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1e15:
        raise InvalidInput(f"{text[:40]!r} is no number of requests above 0", where=flag, hint=f"for example {flag} 4")
    return number


def _duration(text: str, flag: str) -> str:
    try:
        seconds(text.strip())
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise InvalidInput(message, where=flag, hint=hint or None) from None
    return text.strip()


def _latency(text: str, flag: str) -> dict[str, Any]:
    found = _LATENCY.fullmatch(text)
    if found is None:
        raise InvalidInput(
            f"{text[:60]!r} is not a latency to keep", where=flag, hint="for example --latency 'p95<900ms', in quotes"
        )
    fields = {"threshold": _duration(found["threshold"], flag)}
    quantile = found["quantile"]
    return fields if quantile is None else {"quantile": "average" if quantile == "avg" else quantile, **fields}


def _refuse_without_triggers(model: str, policy: Mapping[str, Any] | None) -> None:
    if policy is None:
        raise InvalidInput(
            f"nothing says when {model} needs more replicas",
            hint="add for example --cpu 80%, --concurrency 4 or --latency 'p95<900ms'",
        )
    hint = f"headway autoscale {model} --off makes the number of replicas fixed"
    raise InvalidInput(f"{model} would have no trigger left", hint=hint)


def _flag_of(where: str, document: Mapping[str, Any], flags: Flags) -> str | None:
    """The flag that put the value at ``where`` there; None when no flag did."""
    if where == "scaling.minReplicas" and flags.least is not None:
        return "--min"
    if where in ("scaling.maxReplicas", "scaling.minReplicas") and flags.most is not None:
        return "--max"
    if where == "scaling.maxReplicas" and flags.least is not None:
        return "--min"
    found = _PLACE.match(where)
    triggers = document.get("triggers", [])
    if found is None or int(found[1]) >= len(triggers):
        return None
    kind, name = str(triggers[int(found[1])].get("type")), found[2]
    if kind == "latency" and name in LATENCY_FIELDS:
        return f"--{name}" if getattr(flags, name) is not None else None
    return f"--{kind}" if getattr(flags, kind, None) is not None else None
