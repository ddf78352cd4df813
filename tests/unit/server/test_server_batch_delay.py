"""Waiting for a fuller batch: only as long as it pays and as the latency target allows."""

from __future__ import annotations

import asyncio

import pytest

from headway.server.batch_delay import BatchDelay
from tests.unit.server.bench import Bench
from tests.unit.server.test_server_batching import Gated, run


def test_without_a_delay_nothing_waits() -> None:
    assert BatchDelay(0.0).wait_s(1, 64, 0.0) == 0.0


def test_a_delay_waits_for_a_fuller_batch_and_not_beyond() -> None:
    delay = BatchDelay(0.01)
    assert delay.wait_s(1, 4, 0.0) == pytest.approx(0.01)
    assert delay.wait_s(2, 4, 0.004) == pytest.approx(0.006)
    assert delay.wait_s(4, 4, 0.004) == 0.0
    assert delay.wait_s(1, 4, 0.01) == 0.0


def test_waits_that_bring_nobody_are_given_up_and_tried_again_now_and_then() -> None:
    delay = BatchDelay(0.01)
    waited = []
    for _ in range(200):
        waits = delay.wait_s(1, 64, 0.0) > 0
        waited.append(waits)
        if waits:
            delay.wait_s(1, 64, 0.01)
    assert all(waited[:10])
    assert not any(waited[30:40])
    assert 2 <= sum(waited[40:]) <= 5


def test_a_delayed_batch_goes_as_soon_as_it_is_full() -> None:
    async def main() -> None:
        model = Gated()
        model.open()
        bench = Bench(model, max_batch_size=4, max_batch_delay_s=30.0)
        first = bench.send([[1.0]])[1]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert model.sizes == []
        rest = [bench.send([[1.0]])[1] for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(first, *rest), 10)
        assert model.sizes == [4]

    run(main)


def test_the_wait_is_learned_so_that_the_latency_target_holds() -> None:
    """Answers take the wait and 15 ms more; the target is 20 ms, the longest wait 50 ms."""
    delay = BatchDelay(0.050, 0.020)
    took = []
    for _ in range(400):
        took.append(delay.wait_s(1, 64, 0.0) + 0.015)
        delay.wait_s(2, 64, 10.0)  # somebody came: waiting pays
        delay.answered(took[-1])
    settled = took[100:]
    assert sum(t <= 0.020 for t in settled) >= len(settled) / 2
    assert max(settled) <= 0.020 + 0.05 * 0.050 + 1e-9
    assert sum(settled) / len(settled) > 0.0165, "waits as long as the target allows"


def test_without_a_target_the_wait_stays_what_was_asked_for() -> None:
    delay = BatchDelay(0.050)
    delay.answered(100.0)
    assert delay.wait_s(1, 64, 0.0) == 0.050


def test_a_late_answer_shortens_the_wait_of_the_server() -> None:
    async def main() -> None:
        bench = Bench(lambda x: x[:, 0], max_batch_delay_s=0.01, latency_target_s=0.001)
        await bench.predict([[1.0]])
        assert bench.app.predictor._delay.delay_s == 0.005

    run(main)
