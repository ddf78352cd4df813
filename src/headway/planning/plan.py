"""A capacity plan put together: what was asked, what was measured, what follows, and how far it was off when tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from headway.domain.promises import Promise
from headway.planning.capacity import Capacity, Ceiling, capacity
from headway.planning.choice import Errors, Model, QueueModel
from headway.planning.forecast import Expected
from headway.planning.measured import Load, Point, Run, Users, resized, size
from headway.planning.need import MOST_RUNS, Finding, Need, least_replicas, replicas_for, runs_of
from headway.planning.nodes import Node, Pool, Size, pool
from headway.planning.saturation import Knee, knee
from headway.planning.search import Search
from headway.planning.sizing import Bill, bill, policy, queue_bound

FORMAT: Final = 1
HELD_OUT_SHARE: Final = 0.9
"""Of the planned load: where the prediction is tried."""
CURVE: Final = (0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 1.0, 1.1)
"""Shares of what is carried at which the curves of a plot are computed."""
POORLY: Final = 0.25
"""A prediction that is off by more is no ground for a plan beyond what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a plan."""

    promise: Promise
    most_failed: float
    like: Load
    """The kind of load, and the size that is asked about unless ``needed`` is None."""
    needed: Load | None
    """How many replicas does this load need? None: not asked."""
    most_replicas: int
    """As many may be started here."""
    measured: tuple[int, ...]
    """Numbers of replicas at which the search is made."""
    cpu_share: float
    """Replicas may use so much of their cores."""
    each: Size
    node: Node | None = None
    spare_nodes: int = 0
    price: float | None = None


def searched(most_replicas: int) -> tuple[int, ...]:
    """At how many replicas the search is made, where so many may be started.

    One number is left to try the prediction at; two are too few to leave one out: what a second replica adds is told
    by no point at one.
    """
    return tuple(range(1, most_replicas if most_replicas > 2 else most_replicas + 1))


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """The held-out point: predicted first, then run."""

    predicted: Expected
    point: Point

    @property
    def error(self) -> float:
        """By how much the prediction is off, as a share of what was measured."""
        return self.predicted.value_s / self.point.value_s - 1


@dataclass(frozen=True, slots=True, eq=False)
class Conclusion:
    """The answer."""

    model: str
    errors: Errors
    carried: tuple[Capacity, ...]
    """For each number of replicas, rising."""
    knees: tuple[Knee, ...]
    need: Need | None
    bill: Bill | None
    policy: dict[str, Any] | None
    queue_bound: int | None
    pool: Pool | None
    """Of the nodes that the policy asks for; None: no node was told, or nothing is carried."""
    notes: tuple[str, ...]


def ceiling_of(points: Sequence[Point], each: Size, share: float) -> Ceiling | None:
    """Processor time per request, as the busiest half of the points have it; None when it is not known."""
    known = [(p.rate_per_s, p.cpu * p.replicas * each.cores / p.rate_per_s) for p in points if p.cpu is not None]
    if not known:
        return None
    known.sort()
    busy = [cpu_s for _, cpu_s in known[len(known) // 2 :]]
    cpu_s = sum(busy) / len(busy)
    return Ceiling(cpu_s, each.cores, share) if cpu_s > 0 else None


def to_try(model: Model, question: Question, ceiling: Ceiling | None) -> tuple[int, Load] | None:
    """The load to hold out: at a number of replicas that was not measured, if there may be one."""
    last = question.measured[-1]
    replicas = min(last + 1, question.most_replicas)
    carried = capacity(model, replicas, question.like, question.promise.bound, ceiling)
    if carried.size <= 0:
        return None
    return replicas, resized(question.like, max(1e-9, HELD_OUT_SHARE * carried.size))


def needed(question: Question, search: Search, model: Model) -> Need | None:
    """How many replicas the load asked about needs; None: it was not asked."""
    if question.needed is None:
        return None
    ceiling = ceiling_of(search.points, question.each, question.cpu_share)
    least = least_replicas(search, question.needed)
    return replicas_for(model, question.needed, question.promise.bound, ceiling, least=least)


def conclude(
    question: Question, search: Search, model: Model, errors: Errors, tried: Tried | None, need: Need | None
) -> Conclusion:
    """What follows from the points and the fitted model; ``need`` as :func:`needed` says now."""
    limit_s, points = question.promise.bound, search.points
    ceiling = ceiling_of(points, question.each, question.cpu_share)
    counts = set(range(1, question.most_replicas + 1)) if question.most_replicas <= 8 else set(question.measured)
    counts.add(question.most_replicas)
    if need is not None and need.replicas is not None:
        counts.add(need.replicas)
    carried = [capacity(model, k, question.like, limit_s, ceiling) for k in sorted(counts)]
    measured = [_measured_bound(search, c) for c in carried]
    unloaded_s = points[0].mean_s
    knees = [knee(search.at(k), unloaded_s) for k in question.measured if search.at(k)]
    replicas = need.replicas if need is not None else None
    useful = [c for c in measured if c.size > 0]
    paid = (
        None if replicas is None else bill(replicas, question.each, question.node, question.price, question.spare_nodes)
    )
    written, bound, nodes = None, None, None
    if useful:
        most = replicas if replicas is not None else useful[-1].replicas
        users = isinstance(question.like, Users)
        share = question.cpu_share if ceiling is not None else None
        written = policy(useful, limit_s, question.promise.what, most, share, users)
        bound = queue_bound(useful[0], limit_s, question.promise.quantile, question.most_failed)
        if question.node is not None:
            least = written["minReplicas"]
            nodes = pool(question.each, question.node, least, written["maxReplicas"], spare=question.spare_nodes)
    notes = tuple(_notes(question, search, model, measured, need, tried, knees))
    return Conclusion(model.name, errors, tuple(measured), tuple(knees), need, paid, written, bound, nodes, notes)


def _measured_bound(search: Search, carried: Capacity) -> Capacity:
    """No more than the smallest load at which the promise was seen broken."""
    _, broken = search.bracket(carried.replicas)
    if broken is None or carried.size < size(broken.load):
        return carried
    kept, _ = search.bracket(carried.replicas)
    safe = size(kept.load) if kept is not None else 0.0
    rate, value = (kept.rate_per_s, kept.value_s) if kept is not None else (0.0, math.inf)
    return Capacity(
        carried.replicas, safe, carried.middle, carried.low, carried.high, rate, value, "measured",
    )  # fmt: skip


def _how_to_settle(question: Question, search: Search, doubt: Expected) -> str:
    if doubt.replicas > question.most_replicas:
        return f"--max-replicas {doubt.replicas} measures it"
    if runs_of(search, doubt.replicas, doubt.load) < MOST_RUNS:
        return "that load could not be measured here: the generator was the bottleneck"
    return "it is too close to call with so few runs (--runs, --duration)"


def _notes(
    question: Question,
    search: Search,
    model: Model,
    carried: Sequence[Capacity],
    need: Need | None,
    tried: Tried | None,
    knees: Sequence[Knee],
) -> list[str]:
    found = []
    if need is not None and need.replicas is not None and need.replicas > question.most_replicas:
        found.append(f"{need.replicas} replicas are more than were tried: that number is extrapolated")
    if need is not None and need.replicas is not None and need.doubt is not None:
        found.append(f"{need.doubt.replicas} may be enough: {_how_to_settle(question, search, need.doubt)}")
    if tried is None:
        found.append("no prediction was tried")
    elif abs(tried.error) > POORLY:
        found.append(
            f"the tried prediction was off by {100 * abs(tried.error):.0f} %: "
            "trust what was measured, not what is beyond"
        )
    for one in carried:
        _, broken = search.bracket(one.replicas)
        if broken is not None and one.low > size(broken.load):
            found.append(
                f"{counted(one.replicas)}: {one.low:.3g} to {one.high:.3g} are foretold, but the promise was seen "
                f"broken at {size(broken.load):.3g}: runs were disturbed, or something is waited for that no belief has"
            )
    per_replica = [c.size / c.replicas for c in carried if c.size > 0]
    if len(per_replica) > 1 and per_replica[-1] < 0.7 * per_replica[0]:
        lost = 100 * (1 - per_replica[-1] / per_replica[0])
        found.append(
            f"replicas get in each other's way: each of the last number carries {lost:.0f} % less than one alone"
        )
    if not any(one.reached for one in knees):
        found.append("saturation was not reached: the promise breaks before throughput stops to grow")
    return found


def counted(count: int) -> str:
    """``1 replica``, ``2 replicas``."""
    return f"{count} replica{'' if count == 1 else 's'}"


def document(
    question: Question,
    search: Search,
    conclusion: Conclusion,
    model: Model,
    tried: Tried | None,
    settled: Sequence[Tried] = (),
) -> dict[str, Any]:
    """All of it as JSON; ``settled``: what was measured because the answer hung on it, as foretold before."""
    return {
        "format": FORMAT,
        "promise": question.promise.text,
        "limit_s": question.promise.bound,
        "errors": question.most_failed,
        "load": _load(question.like, sized=False),
        "cpu_ceiling": question.cpu_share,
        "points": [_point(point, search) for point in search.points],
        "held_out": None if tried is None else _tried(tried),
        "settled": [_tried(one) for one in settled],
        "model": {
            "chosen": conclusion.model,
            "left_out_error": asdict(conclusion.errors),
            "beliefs": _beliefs(model),
        },
        "knees": [asdict(one) for one in conclusion.knees],
        "capacity": [_finite(asdict(one)) for one in conclusion.carried],
        "curves": _curves(question, conclusion, model),
        "answer": _answer(question, search, conclusion),
        "policy": conclusion.policy,
        "max_queue": conclusion.queue_bound,
        "node_pool": None if conclusion.pool is None else asdict(conclusion.pool),
        "notes": list(conclusion.notes),
    }


def _answer(question: Question, search: Search, conclusion: Conclusion) -> dict[str, Any] | None:
    """``finding`` says what the other fields mean: see :class:`~headway.planning.need.Finding`."""
    need = conclusion.need
    if question.needed is None or need is None:
        return None
    found: dict[str, Any] = {
        "load": _load(question.needed),
        "finding": need.finding.value,
        "replicas": need.replicas,
        "expected": None if need.expected is None else _expected(need.expected),
    }
    if need.doubt is not None:
        doubt = need.doubt
        found["doubt"] = {
            "replicas": doubt.replicas,
            "expected": _expected(doubt),
            "settle": _how_to_settle(question, search, doubt),
        }
    if need.finding is Finding.BOUND:
        found["bound"] = {"size": need.most, "rate_per_s": need.most_per_s}
    if conclusion.bill is not None:
        found |= _without_none(asdict(conclusion.bill), "replicas")
    return found


def _curves(question: Question, conclusion: Conclusion, model: Model) -> list[dict[str, Any]]:
    """The value over load as foretold, for a plot."""
    found = []
    for carried in conclusion.carried:
        if carried.size <= 0:
            continue
        sizes = sorted({size(resized(question.like, carried.middle * share)) for share in CURVE})
        expected = model.at([(carried.replicas, resized(question.like, s)) for s in sizes], draws=False)
        pairs = [[s, e.value_s] for s, e in zip(sizes, expected, strict=True) if math.isfinite(e.value_s)]
        found.append({"replicas": carried.replicas, "points": pairs})
    return found


def _beliefs(model: Model) -> list[dict[str, Any]]:
    if not isinstance(model, QueueModel):
        return [{"c0_s": float(model.law.coefficients[0]), "c1_s": float(model.law.coefficients[1]),
                 "c2_s": float(model.law.coefficients[2]), "amdahl": model.law.amdahl}]  # fmt: skip
    found = []
    for fitted in model.forecast.fitted:
        service = fitted.belief.service(model.forecast.law)
        parts = {part: getattr(service, part) for part in fitted.belief.parts}
        found.append({"weight": fitted.weight, "servers": service.servers, "mean_s": service.mean_s, **parts})
    return found


def _load(load: Load, *, sized: bool = True) -> dict[str, Any]:
    if isinstance(load, Users):
        return {"kind": "users", **({"size": load.count} if sized else {}), "think_time_s": load.think_s}
    return {"kind": "rate", **({"size": load.per_s} if sized else {})}


def _run(run: Run) -> dict[str, Any]:
    return asdict(run)


def _point(point: Point, search: Search) -> dict[str, Any]:
    return {
        "replicas": point.replicas,
        "load": _load(point.load),
        "rate_per_s": point.rate_per_s,
        "mean_s": point.mean_s,
        "value_s": point.value_s,
        "failed": point.failed_share,
        "cpu": point.cpu,
        "kept": search.kept(point),
        "runs": [_run(run) for run in point.runs],
    }


def _expected(one: Expected) -> dict[str, Any]:
    return {"value_s": one.value_s, "low_s": one.low_s, "high_s": one.high_s, "rate_per_s": one.rate_per_s}


def _tried(tried: Tried) -> dict[str, Any]:
    return {
        "replicas": tried.point.replicas,
        "load": _load(tried.point.load),
        "predicted": _expected(tried.predicted),
        "measured_s": tried.point.value_s,
        "error": tried.error,
        "runs": [_run(run) for run in tried.point.runs],
    }


def _without_none(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and name not in names}


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
