"""From replicas to hardware and money, and from a plan to the scaling policy that follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from headway.planning.capacity import Capacity
from headway.planning.measured import Users
from headway.planning.nodes import Node, Size, fit, nodes_for

DOWN_WINDOW_S: Final = 300


@dataclass(frozen=True, slots=True)
class Bill:
    """What a number of replicas takes."""

    replicas: int
    cores: float
    memory_bytes: int | None
    nodes: int | None = None
    """With a place for what a rollout starts beyond them, and the spare ones."""
    price: float | None = None
    """Of all nodes, for the time that the price of one is for."""


def bill(replicas: int, each: Size, node: Node | None = None, price: float | None = None, spare: int = 0) -> Bill:
    """Raises ``ValueError`` when not even one replica fits such a node."""
    cores = replicas * each.cores
    memory = None if each.memory_bytes is None else replicas * each.memory_bytes
    if node is None:
        return Bill(replicas, cores, memory)
    nodes = nodes_for(replicas, fit(each, node).replicas, spare=spare)
    return Bill(replicas, cores, memory, nodes, None if price is None else nodes * price)


def policy(
    carried: Sequence[Capacity], limit_s: float, statistic: str, most: int, cpu_share: float | None, like_users: bool
) -> dict[str, Any]:
    """``spec.scaling`` that follows: requests per second per replica as planned with, latency as the second guard.

    The target is what one replica carries of the largest number that was planned: the price of scaling out is in it.
    Of one replica at most there is nothing to scale, so no trigger.
    """
    if most <= 1:
        return {"minReplicas": 1, "maxReplicas": 1}
    useful = [c for c in carried if c.size > 0]
    each = min(c.rate_per_s / c.replicas for c in useful)
    triggers: list[dict[str, Any]] = [{"type": "rps", "target": _tidy(each), "window": "15s"}]
    if cpu_share is not None:
        triggers.append({"type": "cpu", "target": f"{max(1, round(100 * cpu_share))}%"})
    if statistic in {"p50", "p75", "p95", "p99", "mean"}:
        name = "average" if statistic == "mean" else statistic
        triggers.append({"type": "latency", "quantile": name, "threshold": _length(limit_s * 0.9), "window": "1m"})
    return {
        "minReplicas": 1,
        "maxReplicas": most,
        "triggers": triggers,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": DOWN_WINDOW_S}},
    }


def queue_bound(each: Capacity, limit_s: float, quantile: float | None, most_failed: float) -> int:
    """Requests that may wait at one replica: what would wait for far too long is better refused at once.

    By Little's law ``rate * limit`` are in flight when all of them take as long as is promised. A promise about a
    quantile lets some take longer, and they may not be refused instead, or refusals break the promise about errors. The
    tail of a wait is exponential (Kingman 1970): of the share ``1 - quantile`` that exceeds the limit, as much again
    exceeds twice the limit, so ``most_failed`` exceed ``ln(most_failed) / ln(1 - quantile)`` times it. With p95 and
    0.1 % that is 2.3 times.
    """
    late = math.exp(-1) if quantile is None else 1 - quantile
    times = max(1.0, math.log(max(most_failed, 1e-6)) / math.log(late))
    return max(1, math.ceil(each.rate_per_s / each.replicas * limit_s * times))


def _tidy(value: float) -> float:
    """Rounded down to three digits: a target is no place for false precision."""
    digits = 2 - math.floor(math.log10(value))
    factor = 10.0**digits
    return math.floor(value * factor) / factor


def _length(value_s: float) -> str:
    return f"{max(1, math.floor(value_s * 1000))}ms"


__all__ = ["Bill", "Users", "bill", "policy", "queue_bound"]
