"""One queue before one model in virtual time: the real :class:`Admission`, invented arrivals and calls."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from headway.server.admission import Admission


@dataclass
class Seen:
    """What came of the requests of one run."""

    latencies_s: list[float] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)

    def p99_s(self) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[int(0.99 * len(ordered))]


class SimulatedQueue:
    """Calls for up to ``most`` requests take ``a_s + c_s * n``, more or less; time goes on from run to run."""

    def __init__(self, admission: Admission, *, a_s: float, c_s: float, most: int) -> None:
        self.admission = admission
        self.capacity_per_s = most / (a_s + c_s * most)
        self._a_s, self._c_s, self._most = a_s, c_s, most
        self._chance = random.Random(1)
        self.now = 100.0

    def poisson(self, load: float, calls: int, *, stalls_s: float = 0.0) -> Seen:
        """Arrivals at ``load`` times the capacity for as long as so many full calls take.

        Ten times a second they are held up for ``stalls_s`` and then come all at once.
        """
        start, rate = self.now, load * self.capacity_per_s
        end = start + calls * self._most / self.capacity_per_s

        def arrivals() -> Iterator[float]:
            at = start
            while (at := at + self._chance.expovariate(rate)) < end:
                tenth, rest = divmod(at - start, 0.1)
                yield start + tenth * 0.1 + max(rest, stalls_s)

        return self.run(arrivals())

    def run(self, arrivals: Iterator[float]) -> Seen:
        """Until all are answered or refused."""
        seen, waiting, running = Seen(), deque[float](), list[float]()
        began, ends, ended = 0.0, math.inf, self.now
        following = next(arrivals, math.inf)
        while following < math.inf or ends < math.inf:
            if following <= ends:
                self.now = following
                following = next(arrivals, math.inf)
                running_for_s = self.now - began if running else None
                if self.admission.refuses(
                    int(self.now * 1e9), len(waiting), self._most, running_for_s, len(running), int(ended * 1e9)
                ):
                    seen.refused_at.append(self.now)
                    continue
                waiting.append(self.now)
            else:
                self.now = ended = ends
                took_s = self.now - began
                self.admission.called(len(running), len(running), took_s)
                self.admission.answered(self.now - running[0])
                seen.latencies_s += [self.now - at for at in running]
                running, ends = [], math.inf
            if not running and waiting:
                began = self.now
                running = [waiting.popleft() for _ in range(min(self._most, len(waiting)))]
                ends = began + (self._a_s + self._c_s * len(running)) * max(0.5, self._chance.gauss(1.0, 0.1))
        return seen
