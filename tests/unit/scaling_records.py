"""Decisions as the autoscaler makes and records them, for tests of whoever shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headway.control.scaling_recorder import Taken
from headway.domain.decisions import DecisionRecord
from headway.domain.job_spec import JobWorkers
from headway.domain.scaling_document import parse_scaling
from headway.scaling.decide import decide
from headway.scaling.decision import State
from headway.scaling.explain import summary
from headway.scaling.from_spec import policy_of, worker_policy
from headway.scaling.record import decision_of, to_document
from headway.scaling.samples import LatencyReading, LatencyWindow, PerReplica, Reading, ReplicaReading, Samples

POLICY: dict[str, Any] = {
    "minReplicas": 1,
    "maxReplicas": 12,
    "triggers": [
        {"type": "cpu", "target": "80%"},
        {"type": "latency", "quantile": "p95", "threshold": "900ms", "step": 2},
    ],
}


def document(
    at: float,
    *,
    current: int = 2,
    cpu: float | None = 0.5,
    latency_s: float | None = 0.3,
    policy: Mapping[str, Any] = POLICY,
) -> dict[str, Any]:
    """What is decided of ``current`` ready replicas with that use of a core each and that p95; None: no data."""
    reading = ReplicaReading(True, 600.0, cpu, None, None if cpu is None else 0.4)
    window = LatencyWindow(0 if latency_s is None else 500, latency_s, None if latency_s is None else 0.7)
    samples = Samples(
        current,
        current,
        0,
        {"cpu": PerReplica((reading,) * current), "latency": LatencyReading((window,), 1.0)},
    )
    rules, state = policy_of(parse_scaling(policy)), State()
    decision, _ = decide(rules, samples, state, at)
    return to_document(rules, samples, state, decision)


def record(at: float, version: str = "v1", model: str = "iris", **more: Any) -> DecisionRecord:
    """The same as it is stored."""
    made = document(at, **more)
    decision = decision_of(made)
    return DecisionRecord(
        at=at,
        model=model,
        version=version,
        current=decision.current,
        desired=decision.desired,
        binding=decision.binding,
        summary=summary(decision),
        shadow=decision.shadow,
        document=made,
    )


def worker_record(
    at: float, version: str = "v1", model: str = "iris", *, current: int = 0, jobs: int = 1000, room: int | None = None
) -> DecisionRecord:
    """What is decided about ``current`` workers while ``jobs`` are due or run."""
    policy, state = worker_policy(JobWorkers(), 0), State()
    samples = Samples(current, current, 0, {"jobs": Reading(float(jobs), 0.4)}, room)
    decision, _ = decide(policy, samples, state, at)
    return Taken(model, version, policy, samples, state, decision, "work").record()
