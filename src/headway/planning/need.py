"""How many replicas a load needs, and what it means when no number can be told.

Three answers that look alike are kept apart. *Enough*: so many keep the promise even at the upper end of what is
believed. *Bound*: what all replicas share breaks the promise at the lower end too, whatever their number. *Unsure*:
some number may do, and what was measured does not settle it. The last one says where to measure: at that number, under
the very load that was asked about, since no other point tells as much about it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headway.planning.capacity import NEAREST, SURE_Z, Ceiling, Predicts, capacity
from headway.planning.forecast import Expected
from headway.planning.measured import Load, Users, size
from headway.planning.search import Search

MOST_REPLICAS: Final = 200
MOST_RUNS: Final = 9
"""Of the load asked about at one number of replicas; what is unsure then is too close to call."""
_FAR: Final = 1.6
"""A value that is roughly this many times the limit is not looked at closely, unless no better one comes."""
_FLAT: Final = 0.98
"""A value that one replica more leaves at this share or above does not fall any more."""


class Finding(StrEnum):
    """What can be said."""

    ENOUGH = "enough"
    BOUND = "bound"
    """More replicas do not help."""
    UNSURE = "unsure"
    """Not from what was measured."""
    MANY = "many"
    """More than :data:`MOST_REPLICAS`."""


@dataclass(frozen=True, slots=True)
class Need:
    """The answer."""

    finding: Finding
    replicas: int | None = None
    """The fewest that surely keep the promise; None: see ``finding``."""
    expected: Expected | None = None
    """At that number."""
    doubt: Expected | None = None
    """At the fewest, fewer than ``replicas``, that may keep it as well; None: there are none."""
    most: float | None = None
    """Bound: the size of the largest load of this kind that is surely carried, whatever the number of replicas."""
    most_per_s: float | None = None
    """Bound: requests a second that are never exceeded."""


def replicas_for(
    model: Predicts, load: Load, limit_s: float, ceiling: Ceiling | None = None, z: float = SURE_Z, least: int = 1
) -> Need:
    """The fewest replicas, ``least`` or more, that keep the promise under ``load``, surely."""
    while _too_few(model, least, load, limit_s):
        least += 1
        if least > MOST_REPLICAS:
            grows = model.most_per_s(MOST_REPLICAS) > 1.2 * model.most_per_s(MOST_REPLICAS // 2)
            return Need(Finding.MANY) if grows else _bound(model, MOST_REPLICAS, load, limit_s)
    doubt: Expected | None = None
    last = math.inf
    for replicas in range(least, MOST_REPLICAS + 1):
        if _close(load, model.most_per_s(replicas)):
            if model.bound_per_s(replicas + 1) > 1.001 * model.bound_per_s(replicas):
                continue
            break
        (value,) = model.rough([(replicas, load)])
        flat, last = value > _FLAT * last, value
        if value > limit_s * _FAR and not (flat and doubt is None):
            continue
        (expected,) = model.at([(replicas, load)])
        if ceiling is not None and expected.rate_per_s > ceiling.rate_per_s(replicas):
            if flat and value > limit_s:
                break
            continue
        if expected.bound(z) <= limit_s and not _close(load, model.least_per_s(replicas)):
            return Need(Finding.ENOUGH, replicas, expected, doubt)
        if doubt is None and expected.bound(-z) <= limit_s:
            doubt = expected
        if flat:
            break
    else:
        return Need(Finding.MANY) if doubt is None else Need(Finding.UNSURE, doubt=doubt)
    return _bound(model, replicas, load, limit_s) if doubt is None else Need(Finding.UNSURE, doubt=doubt)


def _bound(model: Predicts, replicas: int, load: Load, limit_s: float) -> Need:
    carried = capacity(model, replicas, load, limit_s)
    return Need(Finding.BOUND, most=carried.size, most_per_s=model.bound_per_s(replicas))


def _close(load: Load, bound_per_s: float) -> bool:
    """Whether arrivals come too close to what can be done, see :data:`~headway.planning.capacity.NEAREST`."""
    return not isinstance(load, Users) and load.per_s > NEAREST * bound_per_s


def _too_few(model: Predicts, replicas: int, load: Load, limit_s: float) -> bool:
    """Whether the bounds alone rule it out, without a simulation."""
    most = model.most_per_s(replicas)
    if isinstance(load, Users):
        # Little's law: so many users at that throughput take at least so long each; no quantile that is promised
        # is far below the mean, so half of the limit is on the safe side.
        return load.count / most - load.think_s > 2 * limit_s
    return load.per_s >= most


def least_replicas(search: Search, needed: Load) -> int:
    """The fewest replicas for which ``needed`` was not seen to break the promise."""
    least = 1
    for replicas in {point.replicas for point in search.points}:
        _, broken = search.bracket(replicas)
        if broken is not None and size(broken.load) <= size(needed):
            least = max(least, replicas + 1)
    return least


def decisive(need: Need, search: Search, most_replicas: int) -> tuple[int, Load] | None:
    """What to measure to be surer of ``need``; None: it is sure, or cannot be made so here.

    ``most_replicas``: as many may be started.
    """
    if need.doubt is None or need.doubt.replicas > most_replicas:
        return None
    replicas, load = need.doubt.replicas, need.doubt.load
    return None if runs_of(search, replicas, load) >= MOST_RUNS else (replicas, load)


def runs_of(search: Search, replicas: int, load: Load) -> int:
    """How often that very load was measured."""
    return sum(len(point.runs) for point in search.points if (point.replicas, point.load) == (replicas, load))
