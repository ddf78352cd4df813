"""What a simulation of several policies comes to, side by side, as one JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from headway.control.simulation import Simulated, Traffic
from headway.domain.promises import Promise
from headway.planning.replayed import Replay, Replayed, averaged, window_length
from headway.scaling.decision import Status

FORMAT: Final = 1
HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Asked:
    """How the runs are to be judged."""

    promises: Sequence[Promise] = ()
    price: float | None = None
    """Of one core for an hour."""
    window_s: float | None = None
    """None: a few hundred make up the whole."""


def document(
    model: str, runs: Sequence[Simulated], traffic: Traffic, asked: Asked, notes: Iterable[str]
) -> dict[str, Any]:
    """All of it. ``best``: the cheapest policy that kept every promise; None when none did, or nothing was promised."""
    begin_at, until = traffic.begin_at, traffic.until
    length_s = asked.window_s or window_length(until - begin_at)
    policies = [_policy(run, traffic, asked, length_s) for run in runs]
    kept = [one for one in policies if one["promises"] and all(each["kept"] for each in one["promises"])]
    best = min(kept, key=lambda one: one["core_hours"], default=None)
    serving = traffic.serving
    work_s = sum(serving.work_s) / len(serving.work_s)
    return {
        "format": FORMAT,
        "model": model,
        "begin_at": begin_at,
        "until": until,
        "window_s": length_s,
        "requests": len(traffic.arrived_at),
        "seed": traffic.seed,
        "replica": {
            "work_s": work_s,
            "rest_s": sum(serving.rest_s) / len(serving.rest_s),
            "servers": serving.servers,
            "max_queue": serving.most_waiting,
            "timeout_s": serving.timeout_s,
            "start_s": serving.start_s,
            "cores": traffic.size.cores,
        },
        "promises": [one.text for one in asked.promises],
        "policies": policies,
        "best": None if best is None else best["name"],
        "notes": list(notes),
    }


def _policy(run: Simulated, traffic: Traffic, asked: Asked, length_s: float) -> dict[str, Any]:
    begin_at, until, course = traffic.begin_at, traffic.until, run.course
    replay = Replay(run.outcomes, begin_at, until)
    whole = replay.whole()
    core_hours = run.replica_s / HOUR_S * traffic.size.cores
    wished = averaged(course.at, course.wished, begin_at, until, length_s)
    ready = averaged(course.at, course.ready, begin_at, until, length_s)
    windows = [
        {**_figures(one), "wished": w, "ready": r}
        for one, w, r in zip(replay.windows(length_s), wished, ready, strict=True)
    ]
    changed = [one for one in run.decisions if one.decision.changed]
    waiting = run.candidate.most_waiting
    return {
        "name": run.candidate.name,
        "scaling": dict(run.candidate.scaling),
        "max_queue": traffic.serving.most_waiting if waiting is None else waiting,
        "figures": _figures(whole),
        "failed_share": whole.failed_share,
        "promises": [asdict(replay.kept(promise, length_s)) for promise in asked.promises],
        "replicas": {
            "least": min(course.wished),
            "mean": run.replica_s / max(1e-9, run.ended_at - begin_at),
            "most": max(course.wished),
        },
        "replica_hours": run.replica_s / HOUR_S,
        "core_hours": core_hours,
        "price": None if asked.price is None else core_hours * asked.price,
        "changes": len(changed),
        "not_replica_bound": sum(bool(one.decision.not_replica_bound) for one in run.decisions),
        "blind": _blind(run),
        "course": {"at": course.at, "wished": course.wished, "ready": course.ready},
        "windows": windows,
        "decisions": [_decision(run, place) for place, one in enumerate(run.decisions) if one.decision.changed],
    }


def _figures(one: Replayed) -> dict[str, Any]:
    return asdict(one)


def _blind(run: Simulated) -> int:
    """Recorded decisions for which some trigger had no data."""
    return sum(any(p.status is Status.NO_DATA for p in one.decision.proposals) for one in run.decisions)


def _decision(run: Simulated, place: int) -> Mapping[str, Any]:
    """As production records it."""
    record = run.decisions[place].record()
    return {
        "at": record.at,
        "current": record.current,
        "desired": record.desired,
        "binding": record.binding,
        "summary": record.summary,
        "document": record.document,
    }
