"""A load in stages, as a file says it. Pure.

::

    arrivals: poisson          # of rates; or constant
    stages:
      - {name: manual, duration: 1m, rate: 50, replicas: 2}
      - {name: automatic, duration: 3m, rate: "50:400", scaling: {maxReplicas: 4, triggers: [{type: cpu, target: 70%}]}}

All stages say ``users`` (a closed loop), or all say ``rate`` (an open one): a number, or ``"from:to"``.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from headway.domain.errors import InvalidInput
from headway.domain.load_shapes import Arrivals, LoadShape, Loop, Stage
from headway.domain.quantities import seconds
from headway.domain.scaling_document import parse_scaling

MOST_STAGES: Final = 1000
MOST_REPLICAS: Final = 1000
_FILE: Final = ("stages", "arrivals", "seed", "thinkTime")
_STAGE: Final = ("name", "duration", "users", "rate", "replicas", "scaling")
_RANGE: Final = re.compile(r"(?P<begin>\d{1,9}(?:\.\d{1,6})?)(?::(?P<end>\d{1,9}(?:\.\d{1,6})?))?", re.ASCII)
RANGE_HINT: Final = "write a number, or FROM:TO, such as 1:200"


def load_range(value: object, *, where: str) -> tuple[float, float]:
    """``50`` -> (50, 50); ``"1:200"`` -> (1, 200). Raises ``InvalidInput``."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value), float(value)
    found = _RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise InvalidInput(f"{str(value)[:60]!r} is not a load", where=where, hint=RANGE_HINT)
    begin = float(found["begin"])
    return begin, float(found["end"]) if found["end"] is not None else begin


def parse_stages(data: object, *, seed: int | None = None) -> LoadShape:
    """The shape that a file's data describes; ``seed`` wins over its own. Raises ``InvalidInput``, ``InvalidSpec``."""
    content = _fields(data, _FILE, "")
    listed = content.get("stages")
    if not isinstance(listed, list) or not listed:
        raise InvalidInput("there are no stages", where="stages", hint="a list, each with duration and users or rate")
    if len(listed) > MOST_STAGES:
        raise InvalidInput(f"{len(listed)} stages; at most {MOST_STAGES}", where="stages")
    loops = [_loop(_fields(one, _STAGE, f"stages[{place}]"), f"stages[{place}]") for place, one in enumerate(listed)]
    if len(set(loops)) > 1:
        other = next(place for place, loop in enumerate(loops) if loop is not loops[0])
        raise InvalidInput(
            "users and arrival rates are not mixed in one test",
            where=f"stages[{other}]",
            hint="they answer different questions; run two tests",
        )
    chosen = seed if seed is not None else _whole(content.get("seed", 1), "seed", 2**31)
    shape = LoadShape(
        loop=loops[0],
        stages=tuple(_stage(one, loops[0], f"stages[{place}]") for place, one in enumerate(listed)),
        arrivals=_arrivals(content, loops[0]),
        seed=chosen,
        think_time_s=_think_time(content, loops[0]),
    )
    return shape.checked("stages")


def _stage(found: Mapping[str, Any], loop: Loop, where: str) -> Stage:
    key = "users" if loop is Loop.CLOSED else "rate"
    begin, end = load_range(found[key], where=f"{where}.{key}")
    if loop is Loop.CLOSED and not (begin.is_integer() and end.is_integer()):
        raise InvalidInput("users are whole", where=f"{where}.users")
    if "duration" not in found:
        raise InvalidInput("a stage needs a duration", where=where, hint="for example 30s or 3m")
    if "replicas" in found and "scaling" in found:
        raise InvalidInput("replicas and scaling exclude each other", where=where)
    scaling = found.get("scaling")
    if scaling is not None:
        try:
            parse_scaling(scaling)
        except InvalidInput as error:
            error.where = f"{where}.{error.where}" if error.where else where
            raise
    name = found.get("name", "")
    if not isinstance(name, str) or len(name) > 60:
        raise InvalidInput("a name is a text of at most 60 characters", where=f"{where}.name")
    replicas = found.get("replicas")
    return Stage(
        duration_s=_seconds(found["duration"], f"{where}.duration"),
        begin=begin,
        end=end,
        name=name,
        replicas=None if replicas is None else _whole(replicas, f"{where}.replicas", MOST_REPLICAS),
        scaling=scaling,
    )


def _loop(found: Mapping[str, Any], where: str) -> Loop:
    if ("users" in found) == ("rate" in found):
        raise InvalidInput("a stage has users or a rate", where=where, hint="users: 20, or rate: 100 (a second)")
    return Loop.CLOSED if "users" in found else Loop.OPEN


def _arrivals(content: Mapping[str, Any], loop: Loop) -> Arrivals:
    if "arrivals" not in content:
        return Arrivals.POISSON
    if loop is Loop.CLOSED:
        raise InvalidInput("arrivals belong to rates, and the stages have users", where="arrivals")
    value = content["arrivals"]
    if value not in (Arrivals.CONSTANT, Arrivals.POISSON):
        raise InvalidInput(f"{str(value)[:40]!r} is no way to arrive", where="arrivals", hint="constant or poisson")
    return Arrivals(value)


def _think_time(content: Mapping[str, Any], loop: Loop) -> float:
    if "thinkTime" not in content:
        return 1.0
    if loop is Loop.OPEN:
        raise InvalidInput("a thinking time belongs to users, and the stages have rates", where="thinkTime")
    return _seconds(content["thinkTime"], "thinkTime")


def _seconds(value: object, where: str) -> float:
    try:
        return seconds(value if isinstance(value, str) else str(value))
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise InvalidInput(message, where=where, hint=hint or None) from None


def _whole(value: object, where: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InvalidInput(f"{str(value)[:40]!r} is not a whole number up to {most}", where=where)
    return value


def _fields(data: object, known: Collection[str], where: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise InvalidInput("expected fields with values", where=where or None, hint=f"fields: {', '.join(known)}")
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key)[:60], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"fields: {', '.join(known)}"
            raise InvalidInput(
                f"unknown field {str(key)[:60]!r}", where=f"{where}.{key}" if where else str(key), hint=hint
            )
    return data
