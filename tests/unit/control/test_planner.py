"""Planner on a generator, a model and a clock in memory: what it pins, when it refuses, that it restores."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.load_generator import MemoryLoadGenerator
from headway.adapters.memory.model_watch import MemoryModelWatch
from headway.control.load_test import LoadTester
from headway.control.planner import Pace, Planner, Step, Stopped
from headway.domain.errors import NotReady, PromiseBroken, VerdictRefused
from headway.domain.promises import parse
from headway.planning.measured import Rate, Users
from headway.planning.need import MOST_RUNS
from headway.planning.nodes import Node, Size
from headway.planning.plan import Question
from headway.ports.load_generator import LoadRequest, LoadTarget
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio
TAKES_S = 0.05


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Lab:
    """A model of one server per replica, each request of which takes 50 ms; nothing is random."""

    def __init__(self, *, runs: int = 2) -> None:
        self.clock = ManualClock()
        self.generator = MemoryLoadGenerator(self.clock, self.fate)
        self.watch = MemoryModelWatch(self.clock, replicas=3)
        self.steps: list[Step] = []
        self.pace = Pace(runs, 10.0, 1.0)
        tester = LoadTester(self.generator, self.clock, self.watch)
        target = LoadTarget("iris", "http://127.0.0.1:1/models/iris")
        self.planner = Planner(
            tester, self.watch, self.clock, target, [LoadRequest(b"[]")], self.pace, self.steps.append
        )
        self.free: list[float] = []
        self.failing = 0
        """Each so manyth request fails; 0: none."""

    def fate(self, due_s: float, number: int) -> tuple[float, int]:
        if number == 0:
            self.free = [0.0] * self.watch.replicas
        first = min(range(len(self.free)), key=self.free.__getitem__)
        self.free[first] = max(due_s, self.free[first]) + TAKES_S
        return self.free[first] - due_s, 500 if self.failing and number % self.failing == 0 else 200

    async def run(self, question: Question) -> dict[str, Any]:
        running = asyncio.create_task(self.planner.run(question))
        while not running.done():
            await self.clock.elapse(20)
            await asyncio.wait({running}, timeout=0.001)  # what is computed on a thread takes real time
        return running.result()


def asked(promise: str = "p95<200ms", **more: Any) -> Question:
    values: dict[str, Any] = {
        "promise": parse(promise), "most_failed": 0.001, "like": Rate(1.0), "needed": None, "most_replicas": 2,
        "measured": (1,), "cpu_share": 0.85, "each": Size(1.0),
    }  # fmt: skip
    return Question(**{**values, **more})


async def test_a_plan_is_measured_tried_and_concluded() -> None:
    lab = Lab()
    lab.watch.cpu_cores = 0.2
    plan = await lab.run(asked(needed=Rate(30.0), node=Node(4.0), price=2.0))
    assert lab.watch.calls == [1, 2, "restore"]
    assert lab.watch.replicas == 3
    assert plan["points"][0]["load"] == {"kind": "users", "size": 1, "think_time_s": 0.0}
    assert plan["points"][0]["value_s"] == pytest.approx(TAKES_S)
    one = plan["capacity"][0]
    # Arrivals are even here, so that a server bears all of its 20 a second; queues expect Poisson's and promise less.
    assert 10 < one["size"] < 20.5
    assert plan["held_out"]["replicas"] == 2
    assert plan["held_out"]["predicted"]["value_s"] > 0
    assert plan["knees"][0]["rate_per_s"] == pytest.approx(20, rel=0.05)
    assert (plan["answer"]["finding"], plan["answer"]["replicas"]) == ("enough", 2)
    assert plan["answer"]["price"] == 2.0 * plan["answer"]["nodes"]
    assert plan["node_pool"]["replicas_per_node"] == 4
    assert plan["node_pool"]["max_nodes"] == plan["answer"]["nodes"] == 1
    assert plan["policy"]["triggers"][0]["target"] <= 20
    assert {round(c["replicas"]) for c in plan["curves"]} >= {1, 2}
    assert sum(step.point is not None for step in lab.steps) == len(plan["points"])


async def test_what_the_answer_hangs_on_is_measured_until_it_is_sure_or_nothing_more_comes_of_it() -> None:
    # Two can do 40 a second: whether 36 are too close to that hangs on how well it is known.
    plan = await Lab(runs=3).run(asked(needed=Rate(36.0)))
    settled = plan["settled"]
    assert {(one["replicas"], one["load"]["size"]) for one in settled} == {(2, 36.0)}
    assert all(one["predicted"]["low_s"] < one["measured_s"] < one["predicted"]["high_s"] for one in settled[1:])
    assert 3 <= sum(len(one["runs"]) for one in settled) <= MOST_RUNS
    assert plan["answer"]["finding"] == "enough"


async def test_a_generator_that_was_held_up_for_a_moment_is_asked_again_later() -> None:
    lab = Lab()
    lab.generator.late_s = 0.5
    running = asyncio.create_task(lab.planner.run(asked("p95<40ms")))
    await lab.clock.elapse(14)
    assert any("once more" in step.text for step in lab.steps)
    lab.generator.late_s = 0.0
    await lab.clock.elapse(60)
    with pytest.raises(PromiseBroken, match="one user alone"):
        await running


async def test_a_promise_that_no_replica_can_keep_is_said_at_once() -> None:
    lab = Lab()
    with pytest.raises(PromiseBroken, match=r"one user alone: 50\.0 ms"):
        await lab.run(asked("p95<40ms"))
    assert lab.watch.calls == [1, "restore"]


async def test_requests_that_fail_are_not_called_slow() -> None:
    lab = Lab()
    lab.failing = 20
    with pytest.raises(PromiseBroken, match=r"5\.\d% of the requests of one user alone fail, 0\.1% are promised"):
        await lab.run(asked())
    assert lab.watch.calls == [1, "restore"]


async def test_a_model_that_answers_nothing_is_told() -> None:
    lab = Lab()
    lab.failing = 1
    with pytest.raises(NotReady, match="nothing was answered at 1 × 1 user"):
        await lab.run(asked())
    assert lab.watch.calls == [1, "restore"]


async def test_a_plan_about_the_generator_is_refused() -> None:
    lab = Lab()
    lab.generator.late_s = 0.5
    with pytest.raises(VerdictRefused, match="the load generator was the bottleneck"):
        await lab.run(asked())
    assert lab.watch.calls[-1] == "restore"


async def test_told_to_stop_it_scales_the_model_as_before() -> None:
    lab = Lab()
    running = asyncio.create_task(lab.planner.run(asked(like=Users(1, 1.0))))
    await lab.clock.elapse(5)
    assert lab.watch.replicas == 1
    lab.planner.stop()
    await lab.clock.elapse(5)
    with pytest.raises(Stopped):
        await running
    assert lab.watch.replicas == 3
    assert lab.watch.calls[-1] == "restore"


async def test_told_to_stop_while_it_thinks_it_does_not_think_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    begun, let_go = threading.Event(), threading.Event()

    def long_thought(*given: object) -> None:
        begun.set()
        let_go.wait(PATIENCE_S)

    monkeypatch.setattr("headway.planning.course.choose", long_thought)
    running = asyncio.create_task(lab.run(asked()))
    await eventually(begun.is_set, what="that it thinks")
    try:
        lab.planner.stop()
        with pytest.raises(Stopped):
            await running
        assert not let_go.is_set()
    finally:
        let_go.set()
    assert lab.watch.replicas == 3


async def test_told_to_stop_while_the_generator_catches_its_breath_it_does_not_wait_for_that() -> None:
    lab = Lab()
    lab.generator.late_s = 0.5
    running = asyncio.create_task(lab.planner.run(asked()))
    await lab.clock.elapse(60)
    assert sum("once more" in step.text for step in lab.steps) == 4
    before = len(lab.steps)
    lab.planner.stop()
    with pytest.raises(Stopped):
        await running  # and the clock stands still
    assert len(lab.steps) == before
    assert lab.watch.replicas == 3


async def test_cancelled_it_scales_the_model_as_before() -> None:
    lab = Lab()
    running = asyncio.create_task(lab.planner.run(asked()))
    await lab.clock.elapse(5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert lab.watch.replicas == 3


async def test_replicas_that_do_not_come_are_told() -> None:
    lab = Lab()
    lab.watch.seen = False
    with pytest.raises(NotReady, match="1 replica wished, not ready"):
        await lab.run(asked())
    assert lab.watch.calls == [1, "restore"]
