"""Figures of an arm, from the values that were seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from headway.domain.arms import ArmFigures, Moments
from headway.domain.sketch import LatencySketch


def moments(values: ArrayLike) -> Moments:
    found = np.asarray(values, float)
    if not len(found):
        return Moments(0, 0.0, 0.0)
    variance = float(found.var(ddof=1)) if len(found) > 1 else 0.0
    skewness = float(((found - found.mean()) ** 3).mean() / found.std() ** 3) if variance > 0 else 0.0
    return Moments(len(found), float(found.mean()), variance, bool(np.isin(found, (0, 1)).all()), skewness)


def arm(
    version: str,
    latencies_ms: ArrayLike = (),
    *,
    errors: int = 0,
    requests: int | None = None,
    feedback: Mapping[str, Sequence[float]] | None = None,
) -> ArmFigures:
    """``requests``: by default as many as have a latency."""
    ns = np.maximum(np.asarray(latencies_ms, float) * 1e6, 1)
    buckets = Counter(np.ceil(np.log(ns) / LatencySketch.LOG_GAMMA).astype(int).tolist())
    return ArmFigures(
        version=version,
        requests=len(ns) if requests is None else requests,
        errors=errors,
        first_ns=0,
        buckets=buckets,
        seconds=moments(ns / 1e9),
        feedback={name: moments(values) for name, values in (feedback or {}).items()},
    )
