"""From single requests to intervals and phases of a load test. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from headway.domain.load_reports import LoadPhase, LoadPoint
from headway.domain.load_samples import Samples
from headway.domain.load_shapes import LoadShape, Loop
from headway.ports.model_watch import ModelLook


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What was seen at the end of an interval."""

    at_s: float
    users: int | None
    in_flight: int | None
    replicas: int | None = None
    wished: int | None = None
    cpu_cores: float | None = None
    memory_bytes: int | None = None
    measured: int | None = None


def cores(before: ModelLook | None, after: ModelLook | None) -> tuple[float | None, int | None]:
    """Processor use between two looks, of the replicas that were there at both, and how many those are.

    None when none was measured; both None without two looks.
    """
    if before is None or after is None:
        return None, None
    earlier = {(stat.replica_id, stat.epoch): stat for stat in before.stats}
    found = []
    for stat in after.stats:
        old = earlier.get((stat.replica_id, stat.epoch))
        if old is not None and stat.cpu_s is not None and old.cpu_s is not None and stat.at > old.at:
            found.append((stat.cpu_s - old.cpu_s) / (stat.at - old.at))
    return (sum(found) if found else None), len(found)


def memory(look: ModelLook | None) -> int | None:
    """Of all replicas together; None when none was measured."""
    found = [] if look is None else [stat.memory_bytes for stat in look.stats if stat.memory_bytes is not None]
    return sum(found) if found else None


def point(
    shape: LoadShape, samples: Samples, places: Iterable[int], begin_s: float, tick: Tick, answered: int
) -> LoadPoint:
    """One interval of these requests; ``answered``: how many answers came in it."""
    chosen = list(places)
    span_s = tick.at_s - begin_s
    return LoadPoint(
        begin_s=begin_s,
        end_s=tick.at_s,
        stage=shape.stage_at(begin_s),
        users=tick.users,
        offered_per_s=shape.offered(begin_s, tick.at_s) if shape.loop is Loop.OPEN else None,
        sent_per_s=sum(begin_s <= samples.sent_s[place] < tick.at_s for place in chosen) / span_s if span_s > 0 else 0,
        answered_per_s=answered / span_s if span_s > 0 else 0,
        figures=samples.figures(chosen, span_s),
        in_flight=tick.in_flight,
        late_s=max((samples.sent_s[place] - samples.due_s[place] for place in chosen), default=0.0),
        replicas=tick.replicas,
        wished=tick.wished,
        cpu_cores=tick.cpu_cores,
        memory_bytes=tick.memory_bytes,
        measured=tick.measured,
    )


def points(shape: LoadShape, samples: Samples, ticks: Sequence[Tick]) -> tuple[LoadPoint, ...]:
    """Every interval, of the requests that were due in it."""
    by_interval: list[list[int]] = [[] for _ in ticks]
    order = sorted(range(len(samples)), key=samples.due_s.__getitem__)
    number = 0
    for place in order:
        while number < len(ticks) and samples.due_s[place] >= ticks[number].at_s:
            number += 1
        if number == len(ticks):
            break
        by_interval[number].append(place)
    begins = [0.0, *(tick.at_s for tick in ticks)][: len(ticks)]
    done_s = sorted(samples.done_s)
    return tuple(
        point(shape, samples, places, begin_s, tick, _within(done_s, begin_s, tick.at_s))
        for begin_s, tick, places in zip(begins, ticks, by_interval, strict=True)
    )


def _within(ordered: Sequence[float], begin_s: float, end_s: float) -> int:
    return bisect_left(ordered, end_s) - bisect_left(ordered, begin_s)


def phases(shape: LoadShape, samples: Samples, found: Sequence[LoadPoint], end_s: float) -> tuple[LoadPhase, ...]:
    """Every stage that was begun before the load ended, of the requests that were due in it."""
    places: list[list[int]] = [[] for _ in shape.stages]
    for place, due_s in enumerate(samples.due_s):
        places[shape.stage_at(due_s)].append(place)
    result = []
    done_s = sorted(samples.done_s)
    for number, (begin_s, stage) in enumerate(zip(shape.begins_s(), shape.stages, strict=True)):
        until_s = min(begin_s + stage.duration_s, end_s)
        if until_s <= begin_s:
            break
        phase = LoadPhase(
            name=stage.name or f"stage {number + 1}",
            begin_s=begin_s,
            end_s=until_s,
            load_begin=stage.begin,
            load_end=stage.at(until_s - begin_s),
            answered_per_s=_within(done_s, begin_s, until_s) / (until_s - begin_s),
            figures=samples.figures(places[number], until_s - begin_s),
        )
        result.append(phase_with(phase, found))
    return tuple(result)


def phase_with(phase: LoadPhase, found: Iterable[LoadPoint]) -> LoadPhase:
    """``phase`` with what the intervals in it tell of the replicas."""
    # The first interval may still be of the stage before.
    own = [one for one in found if one.begin_s >= phase.begin_s and one.end_s <= phase.end_s + 0.5]
    counts = [one.replicas for one in own if one.replicas is not None]
    used = [one.cpu_cores for one in own if one.cpu_cores is not None]
    return replace(
        phase,
        replicas_least=min(counts, default=None),
        replicas_most=max(counts, default=None),
        cpu_cores=sum(used) / len(used) if used else None,
    )
