"""Overload in virtual time: as many answers as ever, soon, the rest refused. Bursts and long queues are no overload."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.server.admission import Admission
from headway.server.call_cost import CallCost
from headway.server.predictor import REST_S, Worker
from headway.server.queue_room import LEAST, LONG_WINDOW_NS, WINDOW_NS, WINDOW_REQUESTS, QueueRoom
from tests.unit.server.simulated_queue import SimulatedQueue
from tests.unit.server.test_server_batching import Gated, busy
from tests.waiting import eventually

MODELS = {
    "a forest, short batches": {"a_s": 0.0025, "c_s": 0.0001, "most": 16},
    "a forest": {"a_s": 0.0025, "c_s": 0.0001, "most": 64},
    "batching saves nothing": {"a_s": 0.0, "c_s": 0.002, "most": 64},
    "one request a call": {"a_s": 0.05, "c_s": 0.0, "most": 1},
}
TARGETS = {"without a target": None, "a target": 20}
"""In full calls of one request's share: far above what an unloaded server takes."""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("target", TARGETS)
def test_at_twice_the_capacity_as_many_are_answered_and_soon(model: str, target: str) -> None:
    shape: dict[str, Any] = MODELS[model]
    calls = TARGETS[target]
    target_s = None if calls is None else calls * (shape["a_s"] + shape["c_s"] * min(8, shape["most"]))
    queue = SimulatedQueue(Admission(256, target_s), **shape)
    queue.poisson(0.3, 300)
    calm = queue.poisson(0.8, 1500)
    assert len(calm.refused_at) <= 0.01 * len(calm.latencies_s)
    queue.poisson(2.0, 800)  # it takes a while until all this overload is known to be one
    began = queue.now
    over = queue.poisson(2.0, 800)
    goodput = len(over.latencies_s) / (queue.now - began)
    assert goodput >= 0.95 * queue.capacity_per_s
    assert over.p99_s() <= 1.8 * calm.p99_s()
    queue.poisson(0.5, 100)
    later = queue.poisson(0.5, 600)
    assert not later.refused_at, "what was refused lately is no reason to refuse more"
    assert later.p99_s() <= calm.p99_s()


def test_a_target_that_cannot_be_held_does_not_cost_throughput() -> None:
    """A call takes 30 ms, the target is 20 ms: requests share calls all the same."""
    queue = SimulatedQueue(Admission(256, 0.02), a_s=0.03, c_s=0.0001, most=16)
    queue.poisson(0.3, 100)
    queue.poisson(2.0, 200)
    began = queue.now
    seen = queue.poisson(2.0, 400)
    assert len(seen.latencies_s) / (queue.now - began) >= 0.95 * queue.capacity_per_s
    assert seen.p99_s() <= 0.08


def test_where_arrivals_are_uneven_the_queue_holds_what_the_model_needs_meanwhile() -> None:
    """Nothing comes for 15 ms, then all at once: the one call that waits in even times would leave the model idle."""
    queue = SimulatedQueue(Admission(256), a_s=0.0025, c_s=0.0001, most=16)
    queue.poisson(0.3, 300)
    calm = queue.poisson(0.8, 1500, stalls_s=0.015)
    queue.poisson(2.0, 800, stalls_s=0.015)
    began = queue.now
    over = queue.poisson(2.0, 1500, stalls_s=0.015)
    assert len(over.latencies_s) / (queue.now - began) >= 0.93 * queue.capacity_per_s
    assert over.p99_s() <= 1.8 * calm.p99_s()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("load", [1.0, 1.1, 1.2, 4.0])
def test_no_load_costs_throughput(model: str, load: float) -> None:
    queue = SimulatedQueue(Admission(256), **MODELS[model])  # type: ignore[arg-type]
    queue.poisson(load, 200)
    began = queue.now
    seen = queue.poisson(load, 600)
    assert len(seen.latencies_s) / (queue.now - began) >= 0.93 * min(1.0, load) * queue.capacity_per_s


def test_a_burst_that_the_queue_can_hold_is_not_refused_after_an_overload_either() -> None:
    queue = SimulatedQueue(Admission(256), a_s=0.05, c_s=0.0, most=1)
    queue.poisson(2.0, 600)
    assert queue.admission.queue.room == LEAST
    start = queue.now + 1.5
    seen = queue.run(start for _ in range(200))
    assert len(seen.latencies_s) == 200


def test_a_queue_that_is_long_but_never_full_is_no_overload() -> None:
    """200 clients, each waiting for its answer before it asks again: nobody is refused, however long it goes on."""
    admission = Admission(256)
    for second in range(60):
        assert not admission.refuses(second * 10**9, 199, 1, 0.1, 1, 0)
    assert admission.queue.room == 256


def test_the_time_allowed_shrinks_when_answers_are_late_and_comes_back() -> None:
    """Answers take 1.3 times what is expected of them: in the end one batch in a hundred is late."""
    admission = Admission(1000, 1.0)
    late = 0
    for number in range(4000):
        assert admission.allowed_s is not None
        slowest_s = admission.allowed_s * 1.3
        late += number >= 1000 and slowest_s > 1.0
        admission.answered(slowest_s)
    assert 0.005 <= late / 3000 <= 0.02
    for _ in range(100):
        admission.answered(100.0)
    assert admission.allowed_s == 0.5, "answers that are always late are not the queue's doing"
    for _ in range(1001):
        admission.answered(0.1)
    assert admission.allowed_s == 1.0


def test_room_is_halved_window_by_window_and_given_back() -> None:
    room, now = QueueRoom(256), 0

    def window(refused: int, idle_ns: int = 0) -> int:
        nonlocal now
        for number in range(WINDOW_REQUESTS):
            now += WINDOW_NS // WINDOW_REQUESTS + 1
            room.asked(now, refused=number < refused, waiting=5, idle_ns=idle_ns, busy=lambda: 24)
        return room.room

    assert [window(10) for _ in range(6)] == [256, 128, 64, 32, 24, 24]
    dry_ns = WINDOW_NS // WINDOW_REQUESTS // 10
    assert [window(10, dry_ns) for _ in range(3)] == [24, 36, 54], "a window later: each ends with the next request"
    assert [window(10) for _ in range(6)] == [81, 65, 52, 42, 34, 28]
    assert window(10) == 24
    assert [window(3) for _ in range(5)] == [24, 48, 96, 192, 256], "the first ends a window of before"
    assert window(0) == 256
    assert not room.watching


def test_there_is_room_for_a_few_in_any_case_but_never_more_than_may_wait() -> None:
    for most, least in ((100, LEAST), (2, 2)):
        room = QueueRoom(most)
        for second in range(20):
            room.asked(second * LONG_WINDOW_NS, refused=True, waiting=most, idle_ns=0, busy=lambda: 1)
        assert room.room == least


@given(a=st.floats(1e-4, 1.0), c=st.floats(1e-6, 0.1), most=st.integers(2, 256))
def test_enough_requests_share_a_call_for_nearly_full_throughput(a: float, c: float, most: int) -> None:
    cost = CallCost()
    assert cost.enough(most) == most, "nothing is known yet"
    for size in (1, most) * 30:
        cost.observe(size, a + c * size)
    enough = cost.enough(most)
    assert 1 <= enough <= most
    assert enough / (a + c * enough) >= 0.969 * most / (a + c * most)
    for _ in range(1000):  # calls of one size: what was known of ``c`` is kept
        cost.observe(most, a + c * most)
    assert cost.enough(most) == pytest.approx(enough, abs=1)


def test_requests_of_many_rows_fill_a_call_sooner() -> None:
    admission = Admission(256)
    for _ in range(100):
        admission.called(2, 32, 0.1)
    for second in range(20):
        admission.refuses(second * LONG_WINDOW_NS, 256, 64, 0.05, 4, 0)
    assert admission.queue.room == 4, "four requests of 16 rows fill a call of 64"


def test_a_full_batch_is_predicted_before_more_are_refused() -> None:
    """Thousands read in one go: the model must not wait until all are refused."""

    async def main() -> None:
        model = Gated()
        bench, first = await busy(model, max_queue=3, max_batch_size=3)
        model.permits.release()
        await first
        await eventually(lambda: not bench.app.predictor._busy)
        answers = [bench.send([[float(i)]])[1] for i in range(8)]
        model.open()
        statuses = [(await answer).status for answer in answers]
        assert statuses == [200] * 6 + [429] * 2
        bench.app.predictor.stop()

    asyncio.run(main())


def test_while_it_refuses_the_loop_rests_once_an_iteration_and_only_beside_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(Worker, "leave_to", lambda self, seconds: rests.append(seconds))

    async def main() -> None:
        model = Gated()
        bench, first = await busy(model, max_queue=1)
        waiting = bench.send([[1.0]])[1]
        for iterations in (1, 2):
            refused = [bench.send([[2.0]])[1] for _ in range(5)]
            assert {(await answer).status for answer in refused} == {429}
            await eventually(lambda wanted=iterations: rests == [REST_S] * wanted)  # type: ignore[misc]
        model.open()
        assert [(await answer).status for answer in (first, waiting)] == [200, 200]
        assert len(rests) == 2
        bench.app.predictor.stop()

    asyncio.run(main())


def test_a_rest_ends_with_the_call_that_it_was_left_to() -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model)
        worker = bench.app.predictor._worker
        worker.leave_to(0.001)
        assert not first.done()
        opening = threading.Timer(0.01, model.open)
        opening.start()
        worker.leave_to(60.0)  # the loop stands still: only the end of the call can end this
        worker.leave_to(60.0)
        assert (await first).status == 200
        opening.join()
        bench.app.predictor.stop()

    asyncio.run(main())
