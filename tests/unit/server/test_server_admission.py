"""Admission where a latency target is declared: learned cost of calls, who is refused and who is not."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.server.admission import Admission
from headway.server.call_cost import CallCost
from tests.unit.server.bench import Bench
from tests.unit.server.test_server_batching import Gated


@given(a=st.floats(1e-4, 1.0), c=st.floats(0, 0.1), sizes=st.lists(st.integers(1, 64), min_size=30, max_size=100))
def test_the_cost_of_calls_is_learned(a: float, c: float, sizes: list[int]) -> None:
    cost = CallCost()
    for size in [1, 64, *sizes]:
        cost.observe(size, a + c * size)
    for size in (1, 8, 64):
        assert cost.expected_s(size) == pytest.approx(a + c * size, rel=0.05)


def test_what_was_long_ago_is_forgotten() -> None:
    cost = CallCost()
    chance = random.Random(1)
    for per_request_s in (0.1, 0.001):
        for _ in range(400):
            size = chance.randint(1, 20)
            cost.observe(size, per_request_s * size)
    assert cost.expected_s(10) == pytest.approx(0.01, rel=0.1)


def test_calls_of_one_size_are_taken_to_cost_by_the_request() -> None:
    cost = CallCost()
    for _ in range(20):
        cost.observe(4, 0.04)
    assert cost.expected_s(8) == pytest.approx(0.08)
    assert CallCost().expected_s(8) == 0.0


@given(waiting=st.integers(1, 500), most=st.integers(1, 64), target=st.floats(0.001, 2.0))
def test_more_waiting_never_means_sooner(waiting: int, most: int, target: float) -> None:
    admission = Admission(1000, target)
    for size in (1, 5, 60):
        admission.cost.observe(size, 0.002 + 0.001 * size)
    now = admission.expected_s(waiting, most, None, 0)
    assert admission.expected_s(waiting + 1, most, None, 0) >= now - 1e-9
    assert admission.expected_s(waiting, most, 0.0, 5) >= now
    assert not admission.refuses(0, 0, most, None, 0, 0)


def test_a_request_that_would_be_late_is_refused_at_once_and_the_others_are_not() -> None:
    async def main() -> None:
        model = Gated()
        bench = Bench(model, max_batch_size=2, latency_target_s=1.0)
        admission = bench.app.predictor._admission
        for size in (1, 2) * 10:
            admission.cost.observe(size, 0.4)
        _, first = bench.send([[0.0]])
        await asyncio.to_thread(model.began.acquire)
        # 0.4 s under way, 0.4 s for each two that wait: the third one would be answered after 1.2 s.
        waiting = [bench.send([[1.0]])[1] for _ in range(2)]
        status, answer = await bench.ask([[2.0]])
        assert (status, answer["error"]["code"]) == (429, "overloaded")
        assert answer["error"]["details"]["retry_after_s"] >= 1
        model.open()
        assert [(await f).status for f in (first, *waiting)] == [200, 200, 200]
        bench.app.predictor.stop()

    asyncio.run(main())


def test_a_target_below_one_call_still_lets_the_model_work() -> None:
    async def main() -> None:
        bench = Bench(lambda x: x[:, 0], latency_target_s=0.001)
        admission = bench.app.predictor._admission
        admission.cost.observe(1, 10.0)
        assert await bench.predict([[7.0]]) == [7.0]

    asyncio.run(main())


def test_without_a_target_only_the_length_of_the_queue_counts() -> None:
    async def main() -> None:
        model: Any = Gated()
        bench = Bench(model, max_queue=3)
        first = bench.send([[0.0]])[1]
        await asyncio.to_thread(model.began.acquire)
        rest = [bench.send([[1.0]])[1] for _ in range(4)]
        model.open()
        assert sorted([(await f).status for f in (first, *rest)]) == [200, 200, 200, 200, 429]
        bench.app.predictor.stop()

    asyncio.run(main())
