"""The queue before the model: batches, bounds, deadlines, clients that leave, and where calls run."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headway.domain.errors import DeadlineExceeded
from headway.server.placement import PROOF_CALLS, SPIKE_CALLS, SPIKE_S, Placement
from headway.server.predictor import Predictor
from tests.unit.server.bench import Bench, read
from tests.waiting import eventually


class Gated:
    """Each call waits for a permit; the sizes of the calls are kept. A row holding -1 makes its call raise."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.permits = threading.Semaphore(0)
        self.began = threading.Semaphore(0)
        self.answer: Callable[[Any], Any] = lambda x: x[:, 0]

    def predict(self, X: np.ndarray[Any, Any]) -> Any:  # noqa: N803
        self.sizes.append(len(X))
        self.began.release()
        assert self.permits.acquire(timeout=20)
        if (X[:, 0] == -1).any():
            raise ValueError("minus one")
        return self.answer(X)

    def open(self) -> None:
        """Let every call go through from now on."""
        self.permits.release(100_000)


async def busy(model: Gated, **options: Any) -> tuple[Bench, asyncio.Future[Any]]:
    """A bench whose model is in the middle of a call, and that call's answer."""
    bench = Bench(model, **options)
    _, first = bench.send([[0.0]])
    await asyncio.to_thread(model.began.acquire)
    return bench, first


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


def test_requests_that_wait_are_predicted_together_and_get_their_own_rows() -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model)
        later = [bench.send([[float(i)], [i + 0.5]])[1] for i in range(1, 5)]
        model.open()
        assert read(await first) == (200, {"predictions": [0.0]})
        assert [read(await f)[1]["predictions"] for f in later] == [[i, i + 0.5] for i in range(1, 5)]
        assert model.sizes == [1, 8]

    run(main)


def test_requests_of_one_loop_iteration_share_a_call() -> None:
    async def main() -> None:
        model = Gated()
        model.open()
        bench = Bench(model)
        answers = [bench.send([[float(i)]])[1] for i in range(10)]
        await asyncio.gather(*answers)
        assert model.sizes == [10]

    run(main)


def test_a_batch_holds_at_most_max_batch_size_rows_but_never_splits_a_request() -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model, max_batch_size=4)
        answers = [bench.send([[1.0]] * rows)[1] for rows in (3, 2, 1, 9, 1)]
        model.open()
        await asyncio.gather(first, *answers)
        assert model.sizes == [1, 4, 3, 9]  # 3+1, 2+1, 9 alone

    run(main)


def test_incompatible_requests_never_share_a_call() -> None:
    async def main() -> None:
        shapes = []

        def predict(X: pd.DataFrame) -> Any:  # noqa: N803
            shapes.append((list(X.columns), len(X), [d.kind for d in X.dtypes]))
            return [0] * len(X)

        bench = Bench(predict)
        bodies: list[Any] = [[{"a": 1}], [{"b": 1}], [{"a": 2}], [{"a": 1.5}], [[1, 2]], [{"a": 3}]]
        await asyncio.gather(*(bench.send(body)[1] for body in bodies))
        assert (["a"], 3, ["i"]) in shapes
        assert (["a"], 1, ["f"]) in shapes
        assert len(shapes) == 4

    run(main)


def test_one_bad_row_fails_only_its_own_request() -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model)
        answers = [bench.send([[float(v)]])[1] for v in (1, -1, 3)]
        model.open()
        await first
        found = [read(await f) for f in answers]
        assert [status for status, _ in found] == [200, 500, 200]
        assert found[0][1] == {"predictions": [1.0]}
        assert found[1][1]["error"]["message"] == "ValueError: minus one"
        assert model.sizes == [1, 3, 1, 1, 1]
        assert await bench.predict([[7.0]]) == [7.0]
        assert bench.model.together

    run(main)


@pytest.mark.parametrize(
    "answer", [lambda x: x.sum(), lambda x: {"n": len(x)}, lambda x: [1, 2, 3, 4, 5][: len(x) + 1]]
)
def test_a_model_that_does_not_answer_row_by_row_is_asked_one_request_at_a_time(answer: Callable[[Any], Any]) -> None:
    async def main() -> None:
        model = Gated()
        model.answer = answer
        bench, first = await busy(model)
        answers = [bench.send([[1.0]])[1] for _ in range(3)]
        model.open()
        await first
        assert {read(await f)[0] for f in answers} == {200}
        assert model.sizes == [1, 3, 1, 1, 1]
        await asyncio.gather(*(bench.send([[1.0]])[1] for _ in range(3)))
        assert model.sizes[5:] == [1, 1, 1]  # learned

    run(main)


def test_a_model_may_say_that_it_cannot_batch() -> None:
    class Single(Gated):
        batching = False

    async def main() -> None:
        model = Single()
        model.open()
        bench = Bench(model)
        await asyncio.gather(*(bench.send([[1.0]])[1] for _ in range(3)))
        assert model.sizes == [1, 1, 1]

    run(main)


def test_a_full_queue_answers_429_at_once_with_a_time_to_retry() -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model, max_queue=2)
        waiting = [bench.send([[1.0]])[1] for _ in range(2)]
        refused = bench.send([[1.0]])[1]
        assert refused.done()
        response = refused.result()
        assert response.status == 429
        assert dict(response.headers)[b"retry-after"] == b"1"
        assert read(response)[1]["error"]["details"]["retry_after_s"] == 1
        model.open()
        assert {(await f).status for f in (first, *waiting)} == {200}
        assert await bench.predict([[2.0]]) == [2.0]

    run(main)


def test_retry_after_grows_with_the_queue_and_the_measured_service_time() -> None:
    async def main() -> None:
        bench = Bench(lambda X: X[:, 0])  # noqa: N803
        predictor = bench.app.predictor
        predictor.waiting, predictor._request_s = 100, 0.2
        assert predictor.retry_after_s() == 20
        predictor._request_s = 10
        assert predictor.retry_after_s() == 60

    run(main)


@pytest.mark.parametrize("header", [None, "20"])
def test_work_that_expired_in_the_queue_is_answered_504_and_never_started(header: str | None) -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model, **({} if header else {"timeout_s": 0.3}))
        headers = {"x_request_timeout_ms": header} if header else {}
        status, body = read(await bench.send([[1.0]], **headers)[1])
        assert (status, body["error"]["code"]) == (504, DeadlineExceeded.code)
        assert bench.app.predictor.waiting == 0
        model.open()
        await first
        bench.app.predictor._timeout_ns = 60 * 10**9
        assert await bench.predict([[2.0]]) == [2.0]
        assert model.sizes == [1, 1]

    run(main)


def test_work_found_expired_when_its_turn_comes_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "ticket_deadline_ns", lambda self, now_ns, asked_ms: now_ns)

    async def main() -> None:
        model = Gated()
        bench = Bench(model)
        assert (await bench.error([[1.0]]))["status"] == 504
        assert model.sizes == []
        assert bench.app.predictor.waiting == 0

    run(main)


def test_a_client_waiting_for_a_running_call_gets_504_too() -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model, timeout_s=0.3)
        assert (await first).status == 504
        model.open()
        await eventually(lambda: bench.app.predictor.in_flight == 0)

    run(main)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "9" * 13, "\xb2"])
def test_a_malformed_deadline_is_refused(value: str) -> None:
    async def main() -> None:
        bench = Bench(lambda X: X[:, 0])  # noqa: N803
        assert (await bench.error([[1.0]], x_request_timeout_ms=value))["status"] == 400

    run(main)


def test_a_client_that_left_is_not_predicted_for_and_frees_its_place() -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model, max_queue=1)
        request, answer = bench.send([[1.0]])
        assert bench.app.predictor.waiting == 1
        assert request.work is not None
        request.work.abandon()
        assert bench.app.predictor.waiting == 0
        kept = bench.send([[2.0]])[1]
        model.open()
        await first
        assert (await kept).status == 200
        assert not answer.done()
        assert model.sizes == [1, 1]

    run(main)


def test_health_is_answered_while_a_prediction_runs() -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model)
        assert bench.send(path="/health/ping")[1].result().status == 200
        model.open()
        await first

    run(main)


def test_a_fast_model_moves_to_the_loop_in_a_stream_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        threads: list[str] = []

        def predict(X: Any) -> Any:  # noqa: N803
            threads.append(threading.current_thread().name)
            return X[:, 0]

        bench = Bench(predict)
        placement = bench.app.predictor.placement
        while not placement.on_loop:  # how many calls that takes, the machine decides
            await bench.predict([[1.0]])
        assert set(threads) == {"headway-predict"}
        assert len(threads) >= PROOF_CALLS
        monkeypatch.setattr("headway.server.predictor.STREAM_NS", 60 * 10**9)
        await bench.predict([[1.0]])
        assert threads[-1] == "MainThread"
        bench.app.predictor._last_call_ns -= 3600 * 10**9
        await bench.predict([[1.0]])
        assert threads[-1] == "headway-predict"

    run(main)


def test_placement_needs_proof_has_hysteresis_and_remembers_spikes() -> None:
    placement = Placement()

    def after(calls: int, duration_s: float) -> set[bool]:
        found = set()
        for _ in range(calls):
            placement.observe(duration_s)
            found.add(placement.on_loop)
        return found

    assert after(PROOF_CALLS - 1, 0.0001) == {False}
    assert after(1, 0.0001) == {True}
    assert after(100, 0.004) == {True}  # between the two bounds: stays
    assert after(100, 0.006) == {True, False}
    assert after(100, 0.004) == {False}  # between: stays away
    assert after(100, 0.0001) == {False, True}
    assert after(1, 0.5) == {False}
    assert after(PROOF_CALLS - 1, 0.0001) == {False}
    assert after(1, 0.0001) == {True}


def test_one_spike_is_the_machines_and_two_are_the_models() -> None:
    placement = Placement()
    for _ in range(PROOF_CALLS):
        placement.observe(0.0001)
    placement.observe(SPIKE_S * 2)
    assert placement.on_loop
    for _ in range(SPIKE_CALLS):
        placement.observe(0.0001)
    placement.observe(SPIKE_S * 2)
    assert placement.on_loop, "the first one was long ago"
    placement.observe(0.0001)
    placement.observe(SPIKE_S * 2)
    assert not placement.on_loop


def test_a_slow_model_stays_on_its_thread() -> None:
    placement = Placement()
    for _ in range(50):
        placement.observe(SPIKE_S * 2)
        assert not placement.on_loop


def test_a_slow_first_call_is_forgiven() -> None:
    placement = Placement()
    placement.observe(3.0)
    for _ in range(PROOF_CALLS):
        placement.observe(0.0001)
    assert placement.on_loop


def test_service_time_is_learned() -> None:
    async def main() -> None:
        bench = Bench(lambda X: X[:, 0])  # noqa: N803
        before = bench.app.predictor._request_s
        for _ in range(20):
            await bench.predict([[1.0]])
        assert isinstance(bench.app.predictor, Predictor)
        assert not math.isclose(bench.app.predictor._request_s, before)

    run(main)
