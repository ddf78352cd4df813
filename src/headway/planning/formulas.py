"""Queueing formulas: what is known exactly, or closely, without simulating.

They start the fit, answer at once where an answer in the mean is enough, and are what the simulation is tested by.
"""

from __future__ import annotations

import math


def erlang_c(servers: int, offered: float) -> float:
    """The probability that an M/M/c request waits; ``offered`` is arrival rate times service time, below ``servers``.

    Erlang 1917; computed by way of Erlang's B, whose recursion is stable for any size.
    """
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def mean_wait_s(servers: int, rate_per_s: float, mean_s: float, variation: float) -> float:
    """Mean wait of M/G/c, ``variation`` being the squared coefficient of variation of the service time.

    Interpolates between M/M/c, which is exact, and M/D/c as Cosmetatos approximates it (Operational Research Quarterly
    26, 1975); up to a variation of 1 that is more exact than Allen and Cunneen's half sum, and equal to Pollaczek and
    Khinchine's formula for one server. Above 1 it is Allen and Cunneen's. ``inf`` at and above saturation.
    """
    offered = rate_per_s * mean_s
    use = offered / servers
    if use >= 1:
        return math.inf
    if use <= 0:
        return 0.0
    markov = erlang_c(servers, offered) * mean_s / (servers * (1 - use))
    if variation >= 1:
        return markov * (1 + variation) / 2
    steady = markov / 2 * (1 + (1 - use) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * use * servers))
    return variation * markov + (1 - variation) * steady


def users_mean(servers: int, users: int, mean_s: float, think_s: float) -> tuple[float, float]:
    """Throughput and mean response time of ``users`` at ``servers`` exponential servers: the machine repairman.

    Exact. The number of users at the servers is a birth-death process; see Lazowska et al., "Quantitative System
    Performance", 1984, chapters 6 and 8 (it is what MVA gives for a load-dependent centre).
    """
    if think_s <= 0:
        rate = min(users, servers) / mean_s
        return rate, users / rate
    weights, weight = [1.0], 1.0
    for n in range(1, users + 1):
        weight *= (users - n + 1) / think_s * mean_s / min(n, servers)
        weights.append(weight)
        if weight > 1e200:
            weights = [w / weight for w in weights]
            weight = 1.0
    total = sum(weights)
    present = sum(n * w for n, w in enumerate(weights)) / total
    rate = (users - present) / think_s
    return rate, present / rate
