"""The shape of a load over time: users or arrivals a second, in stages. Pure.

**Open loop**: requests leave at their own times, whatever became of those before, as the requests of many strangers do.
**Closed loop**: a number of users who each wait for an answer, think, and ask again; a slow system is asked less.
The two are never mixed: what a closed loop measures says little about arrivals, and the other way round.

Within a stage the load moves on a straight line from ``begin`` to ``end``. Arrivals of an open loop follow from the
integral of the rate: the arrival number ``k`` is due when the integral reaches ``k``; for Poisson arrivals when it
reaches the sum of ``k`` exponential draws (inversion, Cinlar 1975), which is exact for ramps too.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from headway.domain.errors import InvalidInput

MOST_USERS: Final = 100_000
MOST_RATE: Final = 100_000.0
LONGEST_S: Final = 7 * 86_400.0


class Loop(StrEnum):
    """Who decides when the next request leaves."""

    OPEN = "open"
    """A timetable."""
    CLOSED = "closed"
    """Users, after the answer before."""


class Arrivals(StrEnum):
    """The timetable of an open loop."""

    CONSTANT = "constant"
    POISSON = "poisson"
    RECORDED = "recorded"
    """As in the query log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stretch of time. The load goes from ``begin`` to ``end`` (users, or arrivals a second)."""

    duration_s: float
    begin: float
    end: float
    name: str = ""
    replicas: int | None = None
    """From its begin on: a fixed number of replicas. None: left as they are."""
    scaling: Mapping[str, Any] | None = None
    """From its begin on: a policy, as ``spec.scaling`` would say it. None: left as it is."""

    def at(self, elapsed_s: float) -> float:
        """The load so long after its begin."""
        if self.duration_s <= 0:
            return self.end
        part = min(1.0, max(0.0, elapsed_s / self.duration_s))
        return self.begin + (self.end - self.begin) * part

    @property
    def area(self) -> float:
        """The integral of the load over the stage: arrivals of an open loop, user-seconds of a closed one."""
        return (self.begin + self.end) / 2 * self.duration_s

    def reaches(self, area: float) -> float:
        """How long after its begin the integral is ``area``; 0 <= ``area`` <= :attr:`area`."""
        if area <= 0:
            return 0.0
        slope = (self.end - self.begin) / self.duration_s
        if abs(slope) * self.duration_s <= 1e-9 * max(self.begin, self.end):
            return area / self.begin
        # The root of begin*t + slope/2*t**2 = area, written so that it does not cancel for small slopes.
        root = math.sqrt(max(0.0, self.begin * self.begin + 2 * slope * area))
        return min(self.duration_s, 2 * area / (self.begin + root))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShape:
    """What a load test sends. Make it with :func:`users`, :func:`rate` or :func:`recorded`, or of stages."""

    loop: Loop
    stages: tuple[Stage, ...]
    arrivals: Arrivals = Arrivals.CONSTANT
    """Of an open loop."""
    seed: int = 1
    """Of Poisson arrivals and of thinking times."""
    think_time_s: float = 1.0
    """Of a closed loop: the mean of the users' thinking times, which are exponential."""
    offsets_s: tuple[float, ...] = ()
    """Of recorded arrivals: when each is due, rising, in seconds after the begin."""

    @property
    def duration_s(self) -> float:
        return sum(stage.duration_s for stage in self.stages)

    def stage_at(self, at_s: float) -> int:
        """Which stage it is so long after the begin; the last one from then on."""
        begun = 0.0
        for place, stage in enumerate(self.stages):
            begun += stage.duration_s
            if at_s < begun:
                return place
        return len(self.stages) - 1

    def begins_s(self) -> list[float]:
        """When each stage begins."""
        begun, found = 0.0, []
        for stage in self.stages:
            found.append(begun)
            begun += stage.duration_s
        return found

    def at(self, at_s: float) -> float:
        """The wished users, or arrivals a second, so long after the begin; 0 after the end."""
        for begun, stage in zip(self.begins_s(), self.stages, strict=True):
            if at_s < begun + stage.duration_s:
                return stage.at(at_s - begun)
        return 0.0

    def offered(self, begin_s: float, end_s: float) -> float:
        """The load of ``[begin_s, end_s)``: as many recorded arrivals a second as are due, else that of its middle."""
        if self.arrivals is Arrivals.RECORDED:
            due = bisect_left(self.offsets_s, end_s) - bisect_left(self.offsets_s, begin_s)
            return due / (end_s - begin_s) if end_s > begin_s else 0.0
        return self.at((begin_s + end_s) / 2)

    @property
    def scales(self) -> bool:
        """Whether a stage says how the model is to be scaled."""
        return any(stage.replicas is not None or stage.scaling is not None for stage in self.stages)

    def unscaled(self) -> LoadShape:
        """The same load, without a word about scaling."""
        return replace(self, stages=tuple(replace(stage, replicas=None, scaling=None) for stage in self.stages))

    @property
    def most(self) -> float:
        """The highest load of all stages."""
        return max((max(stage.begin, stage.end) for stage in self.stages), default=0.0)

    def checked(self, where: str) -> LoadShape:
        """Itself. Raises ``InvalidInput`` at ``where`` for a shape that sends nothing, or too much."""
        most = MOST_USERS if self.loop is Loop.CLOSED else MOST_RATE
        what = "users" if self.loop is Loop.CLOSED else "requests a second"
        if not self.stages:
            raise InvalidInput("there is no stage", where=where)
        for number, stage in enumerate(self.stages, 1):
            if not 0 < stage.duration_s <= LONGEST_S:
                raise InvalidInput(
                    f"stage {number} takes {stage.duration_s:g} s", where=where, hint="above 0, to 7 days"
                )
            for value in (stage.begin, stage.end):
                if not 0 <= value <= most:
                    raise InvalidInput(f"{value:g} {what} in stage {number}", where=where, hint=f"0 to {most:,.0f}")
        if self.most <= 0:
            raise InvalidInput(f"0 {what} are no load", where=where, hint="give a number above 0")
        if self.think_time_s < 0:
            raise InvalidInput("a thinking time is not negative", where=where)
        return self


def users(
    count: int, duration_s: float, *, begin: int | None = None, think_time_s: float = 1.0, seed: int = 1
) -> LoadShape:
    """A closed loop of ``count`` users; with ``begin`` their number moves from there to ``count``."""
    stage = Stage(duration_s=duration_s, begin=count if begin is None else begin, end=count)
    return LoadShape(loop=Loop.CLOSED, stages=(stage,), think_time_s=think_time_s, seed=seed).checked("users")


def rate(
    per_s: float,
    duration_s: float,
    *,
    begin: float | None = None,
    arrivals: Arrivals = Arrivals.POISSON,
    seed: int = 1,
) -> LoadShape:
    """An open loop of ``per_s`` arrivals a second; with ``begin`` the rate moves from there to ``per_s``."""
    stage = Stage(duration_s=duration_s, begin=per_s if begin is None else begin, end=per_s)
    return LoadShape(loop=Loop.OPEN, stages=(stage,), arrivals=arrivals, seed=seed).checked("rate")


def recorded(offsets_s: tuple[float, ...], duration_s: float) -> LoadShape:
    """An open loop with arrivals at these times."""
    mean = len(offsets_s) / duration_s if duration_s > 0 else 0.0
    stage = Stage(duration_s=duration_s, begin=mean, end=mean)
    shape = LoadShape(loop=Loop.OPEN, stages=(stage,), arrivals=Arrivals.RECORDED, offsets_s=offsets_s)
    return shape.checked("--replay")
