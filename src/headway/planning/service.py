"""What is believed of a service: how long a request takes alone, and what requests have to share.

A replica has ``servers`` places at which a request is worked on; those that find none free wait, first come, first
served. The gateway gives a request to the replica with the fewest in flight. Of a request's time alone

- ``delay`` is spent where nobody waits for anybody (network, gateway),
- ``serial`` under a lock that each replica has one of (an interpreter lock: Amdahl's serial fraction),
- ``shared`` under one lock that all replicas share (a row, a device),

and the rest runs beside the others. Each further request that is being worked on anywhere makes it longer by
``slowdown`` of itself: memory bandwidth, caches, cores that are not one's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from headway.planning.measured import Array

LAW_SIZE: Final = 512
"""Equally likely times that stand for the law of the service time."""


def law_of(sample_s: Array) -> Array:
    """The law of ``sample_s`` as :data:`LAW_SIZE` times, ascending; the mean of the sample is kept exactly.

    Each is the mean of that part of the sorted sample, a value on an edge counted in both parts by its share.
    """
    ordered = np.sort(np.asarray(sample_s, dtype=np.float64))
    total = np.concatenate(([0.0], np.cumsum(ordered)))
    edges = np.linspace(0.0, len(ordered), LAW_SIZE + 1)
    sums = np.interp(edges, np.arange(len(ordered) + 1), total)
    return np.asarray(np.maximum(np.diff(sums) * LAW_SIZE / len(ordered), 1e-9))


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """One replica's way of working; see above."""

    law: Array
    """As :func:`law_of` gives it."""
    servers: int = 1
    scale: float = 1.0
    """All times are so many times the law's."""
    delay: float = 0.0
    serial: float = 0.0
    shared: float = 0.0
    slowdown: float = 0.0

    @property
    def mean_s(self) -> float:
        """Of a request that is alone."""
        return float(self.law.mean()) * self.scale

    def bound_per_s(self, replicas: int) -> float:
        """No load is answered faster, whatever waits: the asymptotic bound of operational analysis.

        Denning and Buzen, "The operational analysis of queueing network models", Computing Surveys 10(3), 1978.
        """
        busy_s = self.mean_s * (1 - self.delay)
        places = replicas * self.servers
        bounds = [places / (busy_s * (1 + self.slowdown * (places - 1)))]
        if self.serial:
            bounds.append(replicas / (busy_s * self.serial))
        if self.shared:
            bounds.append(1 / (busy_s * self.shared))
        return min(bounds)
