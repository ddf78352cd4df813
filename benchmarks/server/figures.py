"""From visits to medians, ratios and verdicts. Pure.

A ratio is taken within a round, of two visits minutes apart at most, and then the median over rounds: what slows the
machine for a while slows both. The reference is the *fastest peer*: the one with the best median of that measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from .visit import Visit

Measure = Callable[[Visit], float | None]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of some values."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Iterable[float]) -> Spread | None:
    """None for no values."""
    ordered = sorted(values)
    return Spread(median(ordered), ordered[0], ordered[-1], len(ordered)) if ordered else None


def load(connections: int, figure: str) -> Measure:
    """A figure of the load with so many connections."""
    return lambda visit: visit.loads.get(connections, {}).get(figure)


def rate(connections: int) -> Measure:
    """Requests per second."""
    return load(connections, "requests_per_s")


def p99_ms(connections: int) -> Measure:
    """The 99th percentile of latency as wrk saw it."""
    return load(connections, "p99_ms")


def memory_mb(visit: Visit) -> float | None:
    """PSS of all processes after the load."""
    return visit.pss_mb or None


def cold_start_s(visit: Visit) -> float | None:
    """From the start of the process to the first right answer."""
    return visit.cold_start_s or None


def values(visits: Sequence[Visit], server: str, model: str, measure: Measure) -> dict[int, float]:
    """By round; a visit with a problem counts for nothing."""
    found = {}
    for visit in visits:
        if visit.server == server and visit.model == model and visit.problem is None:
            value = measure(visit)
            if value is not None:
                found[visit.round] = value
    return found


def best(
    visits: Sequence[Visit], servers: Iterable[str], model: str, measure: Measure, *, most: bool
) -> tuple[str, Spread] | None:
    """The server with the highest (or lowest) median, and that; None when none was measured."""
    medians = {name: spread(values(visits, name, model, measure).values()) for name in servers}
    measured = [(name, found) for name, found in medians.items() if found is not None]
    if not measured:
        return None
    return (max if most else min)(measured, key=lambda each: each[1].median)


def ratio(visits: Sequence[Visit], one: str, other: str, model: str, measure: Measure) -> Spread | None:
    """Of ``one`` to ``other``, per round."""
    mine, theirs = values(visits, one, model, measure), values(visits, other, model, measure)
    return spread(mine[number] / theirs[number] for number in mine if number in theirs and theirs[number] > 0)


@dataclass(frozen=True, slots=True)
class Bar:
    """What Headway is to show: its ratio to the best peer is at least (or at most) ``bound``."""

    what: str
    model: str
    measure: Measure
    bound: float
    at_least: bool
    most_is_best: bool
    """Whether the best peer is the one with the highest value of ``judged_by``."""
    judged_by: Measure | None = None
    """Picks the best peer, where that is another measure than the one compared."""


BARS: tuple[Bar, ...] = (
    Bar("requests/s, 64 connections", "logistic", rate(64), 8.0, at_least=True, most_is_best=True),
    Bar("p99, 64 connections", "logistic", p99_ms(64), 0.1, at_least=False, most_is_best=True, judged_by=rate(64)),
    Bar("requests/s, 1 connection", "logistic", rate(1), 1.3, at_least=True, most_is_best=True),
    Bar("requests/s, 64 connections", "forest", rate(64), 8.0, at_least=True, most_is_best=True),
    Bar("memory", "logistic", memory_mb, 1.0, at_least=False, most_is_best=False),
    Bar("memory", "forest", memory_mb, 1.0, at_least=False, most_is_best=False),
    Bar("cold start", "logistic", cold_start_s, 1.0, at_least=False, most_is_best=False),
    Bar("cold start", "forest", cold_start_s, 1.0, at_least=False, most_is_best=False),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How Headway stands to one bar."""

    bar: Bar
    peer: str | None
    ratio: Spread | None
    passed: bool | None
    """None: not measured, which is no pass."""

    @property
    def word(self) -> str:
        if self.passed is None:
            return "not measured"
        return "pass" if self.passed else "FALLS SHORT"


def judge(visits: Sequence[Visit], bar: Bar, peers: Iterable[str], one: str = "headway") -> Verdict:
    """The verdict on ``bar``: the median over rounds of the ratio to the best of ``peers``."""
    found = best(visits, peers, bar.model, bar.judged_by or bar.measure, most=bar.most_is_best)
    if found is None:
        return Verdict(bar, None, None, None)
    compared = ratio(visits, one, found[0], bar.model, bar.measure)
    if compared is None:
        return Verdict(bar, found[0], None, None)
    passed = compared.median >= bar.bound if bar.at_least else compared.median <= bar.bound
    return Verdict(bar, found[0], compared, passed)


def problems(visits: Sequence[Visit]) -> list[Visit]:
    """Visits without figures, the first of each server, model and reason."""
    seen: dict[tuple[str, str, str], Visit] = {}
    for visit in visits:
        if visit.problem is not None:
            seen.setdefault((visit.server, visit.model, visit.problem), visit)
    return list(seen.values())
