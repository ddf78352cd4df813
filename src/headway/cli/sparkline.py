"""A curve in one line of text.

Heights are proportional to values, with 0 at the bottom, so that two curves of the same kind compare. What has no
value is a dot: neither 0 nor left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

BARS: Final = "▁▂▃▄▅▆▇█"
NOTHING: Final = "·"


def sparkline(values: Sequence[float | None], top: float | None = None) -> str:
    """One character per value; ``top`` (by default the greatest value) is a full bar. None is a dot."""
    known = [value for value in values if value is not None]
    top = max(known, default=0.0) if top is None else top
    return "".join(NOTHING if value is None else BARS[_height(value, top)] for value in values)


def squeeze(
    values: Sequence[float | None], width: int, merge: Callable[[Sequence[float]], float]
) -> list[float | None]:
    """At most ``width`` values: each stands for neighbours, by ``merge`` of those that are known.

    Runs differ in length by one at most; a run of nothing stays None.
    """
    if width < 1:
        return []
    count = min(len(values), width)
    edges = [len(values) * place // count for place in range(count + 1)] if count else [0]
    runs = (values[begin:end] for begin, end in pairwise(edges))
    known = ([value for value in run if value is not None] for run in runs)
    return [merge(run) if run else None for run in known]


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return sum(values) / len(values)


def _height(value: float, top: float) -> int:
    if top <= 0 or value <= 0:
        return 0
    return min(int(value / top * len(BARS)), len(BARS) - 1)
