"""When each request of an open loop is due, in seconds after the begin."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from headway.domain.load_shapes import Arrivals, LoadShape


def timetable(shape: LoadShape) -> Iterator[float]:
    """Rising. The same for the same shape, seed included."""
    if shape.arrivals is Arrivals.RECORDED:
        yield from shape.offsets_s
        return
    chance = Random(shape.seed)  # noqa: S311 - arrivals, no secret
    poisson = shape.arrivals is Arrivals.POISSON
    begun = passed = 0.0
    # The integral of the rate at which the next request is due: see ``headway.domain.load_shapes``.
    due = chance.expovariate(1.0) if poisson else 0.0
    for stage in shape.stages:
        area = stage.area
        while due < passed + area:
            yield begun + stage.reaches(due - passed)
            due += chance.expovariate(1.0) if poisson else 1.0
        begun += stage.duration_s
        passed += area
