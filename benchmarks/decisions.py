"""How long a scaling decision takes: a million seconds of made traffic, replayed on one core.

One version with three triggers (concurrency with panic, Prometheus, latency) and 1 to 20 replicas. Load rises and
falls by the day, with noise and a burst every twenty minutes; the count follows the decisions, so that rules and
windows are at work. Only ``decide`` and the making of its ``Samples`` are timed, in processor time of this process.

    python benchmarks/decisions.py [--decisions 1000000]

Exit 0 when a million takes less than 60 s, 1 otherwise.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from headway.scaling.decide import decide
from headway.scaling.decision import State
from headway.scaling.policy import (
    ExternalTrigger,
    LatencyTrigger,
    Panic,
    Pick,
    Policy,
    ReplicaTrigger,
    Signal,
    Statistic,
)
from headway.scaling.samples import LatencyReading, LatencyWindow, PerReplica, Reading, ReplicaReading, Samples

MOST_S: Final = 60.0
MILLION: Final = 1_000_000
POLICY: Final = Policy(
    least=1,
    most=20,
    triggers=(
        ReplicaTrigger("concurrency", Signal.CONCURRENCY, 4.0, 60.0, Panic()),
        ExternalTrigger("prometheus", "prometheus", 100.0),
        LatencyTrigger("latency", Statistic.P95, 0.9, 60.0, 60.0, Pick.MAX, 15.0, 1, 60.0, 0.5, 300.0, 0.2, 0.1),
    ),
)


def loads() -> Iterator[tuple[float, float]]:
    """Requests in flight over the stable and the panic window, second by second."""
    draw = random.Random(7)
    stable = 10.0
    for second in range(sys.maxsize):
        day = 25.0 - 20.0 * math.cos(second * 2 * math.pi / 86_400)
        burst = 3.0 if second % 1200 < 30 else 1.0
        now = max(0.0, day * burst * draw.gauss(1.0, 0.05))
        stable += (now - stable) / 60.0
        yield stable, now


def samples(current: int, load: tuple[float, float], second: int) -> Samples:
    """What the version's replicas would show."""
    stable, burst = load[0] / current, load[1] / current
    busy = min(0.98, stable / 6.0)
    latency_s = 0.2 / (1.0 - busy)
    return Samples(
        current,
        current,
        0,
        {
            "concurrency": PerReplica(tuple([ReplicaReading(True, 600.0, stable, burst, 0.4)] * current)),
            "prometheus": Reading(load[0] * 20.0, float(second % 15)),
            "latency": LatencyReading((LatencyWindow(600, latency_s, busy),), float(second % 15)),
        },
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=MILLION)
    count: int = parser.parse_args().decisions
    current, state, traffic = 1, State(), loads()
    binding: Counter[str] = Counter()
    changes, highest, spent_s = 0, 1, 0.0
    for second in range(count):
        load = next(traffic)
        begun = time.process_time()
        decision, state = decide(POLICY, samples(current, load, second), state, float(second))
        spent_s += time.process_time() - begun
        binding[decision.binding] += 1
        changes += decision.changed
        current = decision.desired
        highest = max(highest, current)
    each_us = spent_s / count * 1e6
    print(f"{count:,} decisions over 3 triggers and 1 to {highest} replicas: {spent_s:.1f} s, {each_us:.1f} us each")
    bound = ", ".join(f"{name} {n:,}" for name, n in binding.most_common())
    print(f"  {changes:,} changed the count; binding: {bound}")
    print(f"  a tick of 1,000 versions each second: {each_us / 10:.1f} % of a core")
    million_s = each_us * MILLION / 1e6
    print(f"  a million takes {million_s:.1f} s (less than {MOST_S:.0f})")
    return 0 if million_s < MOST_S else 1


if __name__ == "__main__":
    sys.exit(main())
