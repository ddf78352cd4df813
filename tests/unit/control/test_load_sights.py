"""What the master measures and what is seen of the model become one report, and what is not known is said."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.load_generator import MemoryLoadGenerator
from headway.control.load_sights import FRESH_S, LoadSights, Unseen
from headway.control.load_test import LoadTester
from headway.domain.load_reports import LoadPoint, LoadReport, ScalingMark
from headway.domain.load_shapes import LoadShape, Loop, Stage
from headway.ports.load_generator import LoadRequest, LoadTarget
from headway.ports.model_watch import ModelLook

STAGES = (Stage(duration_s=2, begin=10, end=10), Stage(duration_s=2, begin=10, end=10))
NOTHING = Unseen()


def _measured(*measured: int | None) -> LoadReport:
    """Four seconds; in each so many replicas told what they use, half a core and 1 KiB each."""

    async def run() -> LoadReport:
        clock = ManualClock()
        tester = LoadTester(MemoryLoadGenerator(clock, lambda due_s, number: (0.1, 200)), clock)
        shape = LoadShape(loop=Loop.OPEN, stages=STAGES)
        running = asyncio.create_task(tester.run(LoadTarget("iris", "http://x"), shape, [LoadRequest(b"[]")]))
        await clock.elapse(60)
        return await running

    report = asyncio.run(run())
    assert len(report.points) == 4
    return replace(report, points=tuple(map(_used, report.points, measured)))


def _used(point: LoadPoint, count: int | None) -> LoadPoint:
    return replace(point, measured=count, cpu_cores=count / 2 if count else None, memory_bytes=(count or 0) * 1024)


def _sights(report: LoadReport, looks: dict[float, ModelLook], *, begin_s: float = 100.0) -> LoadSights:
    sights = LoadSights()
    for at_s, look in looks.items():
        sights.seen(begin_s + at_s, look)
    for point in report.points:
        sights.heard(point, begin_s + point.end_s)
    return sights


def test_each_interval_has_the_replicas_that_were_seen_last_before_its_end() -> None:
    report = _measured(1, 1, 2, 2)
    sights = _sights(report, {0.5: ModelLook(1, 1, ()), 1.5: ModelLook(1, 2, ()), 2.9: ModelLook(2, 2, ())})
    mark = ScalingMark(1.5, "v1", 1, 2, "concurrency asks for 2")
    found = sights.joined(report, [mark, replace(mark, at_s=99.0)], NOTHING)
    assert [(one.replicas, one.wished) for one in found.points] == [(1, 1), (1, 2), (2, 2), (2, 2)]
    assert [one.cpu_cores for one in found.points] == [0.5, 0.5, 1.0, 1.0]
    assert [(one.replicas_least, one.replicas_most, one.cpu_cores) for one in found.phases] == [(1, 1, 0.5), (2, 2, 1)]
    assert found.decisions == (mark,)
    assert found.notes == report.notes == report.notes[:1]


def test_an_interval_that_was_heard_late_moves_nothing() -> None:
    """The log breaks off after a second, and is heard on from there three seconds later."""
    report = _measured(1, 1, 1, 1)
    sights = LoadSights()
    sights.seen(100.5, ModelLook(1, 1, ()))
    sights.seen(102.5, ModelLook(2, 2, ()))
    delays = iter((0.25, 3.0, 2.0, 1.0))
    told = [sights.heard(point, 100.0 + point.end_s + next(delays)) for point in report.points]
    assert sights.begin_s == pytest.approx(100.25)
    assert told[0].replicas == 1
    assert [one.replicas for one in sights.joined(report, (), NOTHING).points] == [1, 1, 2, 2]


def test_a_sum_over_some_of_the_replicas_is_none_at_all() -> None:
    report = _measured(1, 1, 1, 2)
    look = ModelLook(2, 2, ())
    found = _sights(report, {0.5: ModelLook(1, 1, ()), 1.5: look, 2.5: look}).joined(report, (), NOTHING)
    assert [one.cpu_cores for one in found.points] == [0.5, None, None, 1.0]
    assert found.points[2].memory_bytes is None
    assert "not known in 2 of 4 intervals, in which not every ready replica had been asked" in found.notes[-1]


def test_what_nobody_could_see_is_not_known_and_says_so() -> None:
    report = _measured(0, 0, 0, 0)
    sights = _sights(report, {})
    found = sights.joined(report, (), Unseen("deployments are forbidden"))
    assert {(one.replicas, one.wished, one.cpu_cores) for one in found.points} == {(None, None, None)}
    assert found.phases[0].replicas_least is None
    said = found.notes[1:]
    assert said[0] == "Replicas are not known: deployments are forbidden."
    assert said[1].startswith("Processor use and memory are not known: the master asks every ready replica")
    assert len(said) == 2


def test_what_happened_stays_the_last_note() -> None:
    report = replace(_measured(0, 0, 0, 0), notes=("Open loop", "1 of 2 workers ended"))
    assert _sights(report, {}).joined(report, (), NOTHING).notes[-1] == "1 of 2 workers ended"


def test_a_look_that_is_too_old_is_none() -> None:
    report = _measured(1, 1, 1, 1)
    sights = _sights(report, {2.5 - FRESH_S: ModelLook(1, 1, ())})
    found = sights.joined(report, (), Unseen(reasons="modeldeployments are forbidden"))
    assert [one.replicas for one in found.points] == [1, 1, None, None]
    assert "Replicas are not known in 2 of 4 intervals" in found.notes[-2]
    assert found.notes[-1] == "Why replicas changed is not known: modeldeployments are forbidden."
