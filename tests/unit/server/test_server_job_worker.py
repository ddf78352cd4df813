"""The worker: claims, calls, reports, and what it does when a job is not wanted any more or the job server is away."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from headway import jobs
from headway.domain.errors import InvalidRequest
from headway.server import job_reports, job_worker
from headway.server.job_claims import HELD_S, MOST, SHORT_S, ClaimSize
from headway.server.process_end import EXIT_JOB
from tests.unit.server.job_bench import JobBench
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
FILE = "test_server_job_worker.py"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds for people takes moments here."""
    monkeypatch.setattr(job_worker, "CANCEL_GRACE_S", 0.1)
    monkeypatch.setattr(job_worker, "LOOK_S", 0.01)
    monkeypatch.setattr(job_reports, "NEWS_S", 0.01)


class Held:
    """A model that says where it is and goes on when it is let."""

    def __init__(self, then: Callable[[], Any] = lambda: [1]) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self._then = then

    def predict(self, X: dict[str, Any]) -> Any:  # noqa: N803
        self.begun.set()
        assert self.go.wait(20)
        return self._then()


async def begun(model: Held) -> None:
    await eventually(model.begun.is_set)


def echo(X: Any) -> Any:  # noqa: N803
    return X


class OddError(TimeoutError):
    """Of the model's own."""


def behave(X: dict[str, Any]) -> Any:  # noqa: N803
    match X["do"]:
        case "raise":
            raise OddError("no luck")
        case "refuse":
            raise InvalidRequest("not that one")
        case "retry":
            raise jobs.Retry("busy", after_s=7.5)
        case "object":
            return object()
        case "large":
            return "x" * 2000
        case "exit":
            sys.exit(3)
    return {"job": jobs.current()}


async def test_a_job_is_carried_out_as_a_request_would_be() -> None:
    async with JobBench(echo) as bench:
        job = await bench.done([[1, 2]], client="ann")
        assert job.result == {"predictions": [[1, 2]]}
        other = await bench.done({"instances": [[3]]}, route="/invocations")
        assert other.result == {"predictions": [[3]]}
        assert job.outcome is not None
        assert (job.outcome.status, job.outcome.content_type, job.workers) == (
            200,
            "application/json",
            ["iris-v1-bcdfg.3"],
        )
        assert len(bench.alarm.armed) == bench.alarm.disarmed == 2
        assert all(59 < seconds < 62 for seconds in bench.alarm.armed)


async def test_what_fails_says_why_and_whether_another_attempt_may_mend_it() -> None:
    async with JobBench(behave) as bench:

        async def error(do: str, **fields: Any) -> Any:
            job = await bench.done({"do": do}, **fields)
            assert job.outcome is not None
            return job.outcome.error

        found = await error("raise")
        assert (found.code, found.message) == ("model_failed", "OddError: no luck")
        assert found.where is not None
        assert found.where.startswith(f"{FILE}:")
        assert found.exception[:3] == (f"{__name__}.OddError", "TimeoutError", "OSError")
        assert found.exception[-2:] == ("Exception", "BaseException")
        found = await error("retry")
        assert (found.code, found.message, found.retry_after_s) == ("retry_later", "busy", 7.5)
        assert "Exception" in found.exception
        assert (await error("exit")).exception[0] == "SystemExit"
        for do, code, fields in (
            ("refuse", "invalid_request", {}),
            ("object", "model_failed", {}),
            ("large", "result_too_large", {"max_result_bytes": 1000}),
            ("fine", "not_found", {"route": "/no/such/path"}),
        ):
            found = await error(do, **fields)
            assert (found.code, found.exception, found.retry_after_s) == (code, (), None), found
        assert (await bench.done(b"{", content_type="application/json")).outcome.error.code == "invalid_request"  # type: ignore[union-attr]
        last = await bench.done({"do": "say"})
        assert last.result == {"predictions": {"job": last.job_id}}


async def test_a_long_job_is_the_only_one_in_hand() -> None:
    model = Held()
    async with JobBench(model) as bench:
        first, second = bench.add({}), bench.add({})
        await begun(model)
        await eventually(lambda: len(first.beats) >= 2, what="beats while it runs")
        assert (first.state, second.state) == ("running", "queued")
        assert bench.server.claims == [1]
        model.go.set()
        await bench.until("succeeded", first, second)
        assert first.told == [first.outcome]


async def test_short_jobs_are_claimed_and_predicted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "headway.jobs")
    rows: list[int] = []

    def count(X: list[Any]) -> Any:  # noqa: N803
        return X

    def predict(X: Any) -> Any:  # noqa: N803
        rows.append(len(X))
        return X

    async with JobBench(predict) as bench:
        every = [bench.add([[float(number)]]) for number in range(300)]
        await bench.until("succeeded", *every)
        assert [job.result["predictions"] for job in every] == [[[float(number)]] for number in range(300)]
        assert max(bench.server.claims) == MOST
        assert max(rows) > 1
        assert all(job.attempts == 1 for job in every)
    async with JobBench(count) as bench:  # takes one at a time: claimed together all the same
        await bench.until("succeeded", *[bench.add([[1]]) for _ in range(100)])
        assert max(bench.server.claims) > 1


async def test_what_waits_behind_a_job_that_turns_out_long_is_given_back() -> None:
    release = threading.Event()

    def predict(X: list[Any]) -> Any:  # noqa: N803
        if X[0][0] == 0:
            release.wait(20)
        return X

    async with JobBench(predict) as bench:
        await bench.until("succeeded", *[bench.add([[1]]) for _ in range(20)])
        every = [bench.add([[number]]) for number in range(10)]
        await eventually(lambda: any(job.told for job in every[1:]), what="given back")
        assert every[0].state == "running"
        assert {told.given_back for job in every[1:] for told in job.told} == {True}
        release.set()
        await bench.until("succeeded", *every)
        assert all(job.attempts == 1 for job in every)


async def test_progress_is_told_with_the_beats() -> None:
    class Speaking(Held):
        def predict(self, X: dict[str, Any]) -> Any:  # noqa: N803
            jobs.progress(0.25, "a quarter")
            return super().predict(X)

    model = Speaking()
    async with JobBench(model) as bench:
        job = bench.add({})
        await eventually(lambda: any(beat.told for beat in job.beats))
        told = next(beat for beat in job.beats if beat.told)
        assert (told.fraction, told.note) == (0.25, "a quarter")
        model.go.set()
        await bench.until("succeeded", job)


def test_outside_of_a_job_nothing_happens() -> None:
    jobs.progress(0.5, "half")
    jobs.progress(None)
    assert not jobs.canceled()
    assert jobs.current() is None
    with pytest.raises(ValueError, match="not a number"):
        jobs.progress(float("nan"))
    with pytest.raises(TypeError):
        jobs.progress([])  # type: ignore[arg-type]


async def test_a_model_that_asks_hears_that_its_job_is_canceled() -> None:
    def until_canceled(X: dict[str, Any]) -> Any:  # noqa: N803
        while not jobs.canceled():
            time.sleep(0.001)
        return "partly"

    async with JobBench(until_canceled) as bench:
        job = bench.add({})
        await bench.until("running", job)
        job.cancel = True
        await bench.until("canceled", job)
        assert bench.ended == []


async def test_a_model_that_does_not_ask_is_ended_with_its_process_once_that_is_told() -> None:
    model = Held()
    async with JobBench(model) as bench:
        job = bench.add({})
        await begun(model)
        job.cancel = True
        await eventually(lambda: bench.ended)
        assert job.state == "canceled"
        ((code, report),) = bench.ended
        assert report is not None
        assert (code, report.stage, report.code) == (EXIT_JOB, "job", "worker_lost")
        assert job.job_id in report.message
        assert report.where is not None
        assert report.where.startswith(f"{FILE}:")
        model.go.set()


@pytest.mark.parametrize("returns", [True, False])
async def test_a_job_that_is_somebody_elses_by_now_is_dropped(returns: bool) -> None:
    model = Held()
    async with JobBench(model) as bench:
        job = bench.add({})
        await begun(model)
        job.lost = True
        if returns:
            await eventually(lambda: any(run.verdict for run in bench.worker._called))
            model.go.set()
            await eventually(lambda: bench.worker.ended["dropped"] == 1)
            assert bench.ended == []
        else:
            await eventually(lambda: bench.ended)
            model.go.set()
    assert job.told == []


async def test_an_attempt_that_takes_too_long_says_where_it_was() -> None:
    model = Held()
    async with JobBench(model) as bench:
        job = bench.add({}, timeout_s=0.1)
        await eventually(lambda: bench.ended)
        assert job.outcome is not None
        error = job.outcome.error
        assert error is not None
        assert (error.code, error.exception) == ("job_timed_out", ())
        assert error.where is not None
        assert error.where.startswith(f"{FILE}:")
        assert bench.ended[0][0] == EXIT_JOB
        assert bench.alarm.armed[0] == pytest.approx(1.1, abs=0.1)
        model.go.set()


async def test_while_the_job_server_is_away_jobs_go_on_and_are_told_of_later() -> None:
    model = Held()
    async with JobBench(model, lease_s=30.0) as bench:
        job = bench.add({})
        await begun(model)
        bench.claims.cut = bench.reports.cut = True
        model.go.set()
        await eventually(lambda: bench.worker.ended["succeeded"] == 1)
        assert job.outcome is None
        bench.claims.cut = bench.reports.cut = False
        await bench.until("succeeded", job, await bench.done({}))
        assert bench.ended == []


async def test_an_outcome_whose_answer_was_lost_is_told_again_and_counts_once() -> None:
    async with JobBench(echo, lease_s=30.0) as bench:
        await bench.done([[1]])
        job = bench.add([[2]])
        bench.reports.cut = False
        original = bench.server.report

        def lose_the_answer(report: Any) -> Any:
            bench.reports.cut = bool(report.outcomes)
            return original(report)

        bench.server.report = lose_the_answer  # type: ignore[method-assign]
        await bench.until("succeeded", job)
        bench.server.report = original  # type: ignore[method-assign]
        bench.reports.cut = False
        await eventually(lambda: len(job.told) == 2)
        assert [outcome.token for outcome in bench.server.refused] == [job.token]


async def test_told_to_stop_it_gives_back_what_is_not_begun_and_finishes_what_is() -> None:
    model = Held()
    async with JobBench(model) as bench:
        for _ in range(3):
            bench.worker._size.observe(0.0001)  # expects short ones
        every = [bench.add({}) for _ in range(3)]
        await begun(model)
        assert {job.state for job in every} == {"running"}
        draining = asyncio.ensure_future(bench.worker.drain())
        await eventually(lambda: all(job.told for job in every[1:]))
        assert [(job.state, job.attempts) for job in every] == [("running", 1), ("queued", 0), ("queued", 0)]
        model.go.set()
        await draining
        assert every[0].state == "succeeded"
        assert every[2].state == "queued"
        assert bench.ended == []


async def test_what_comes_after_it_was_told_to_stop_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with JobBench(echo) as bench:
        await eventually(lambda: bench.server.claims)
        monkeypatch.setattr(bench.claims, "hush", lambda: None)  # the answer was on its way already
        draining = asyncio.ensure_future(bench.worker.drain())
        await asyncio.sleep(0)
        job = bench.add([[1]])
        await draining
        assert (job.state, job.attempts, [told.given_back for told in job.told]) == ("queued", 0, [True])


async def test_what_does_not_end_within_the_grace_is_given_back() -> None:
    model = Held()
    bench = JobBench(model, grace_s=0.2)
    async with bench:
        job = bench.add({})
        await begun(model)
    assert (job.state, job.attempts) == ("queued", 0)
    assert [outcome.given_back for outcome in job.told] == [True]
    assert bench.ended == [(0, None)]
    model.go.set()


async def test_a_job_that_may_have_ended_a_worker_runs_with_nothing_else_in_hand() -> None:
    in_hand: list[tuple[str | None, int]] = []

    def predict(X: list[Any]) -> Any:  # noqa: N803
        in_hand.append((jobs.current(), len(bench.worker._runs)))
        return X

    bench = JobBench(predict)
    async with bench:
        await bench.until("succeeded", *[bench.add([[1]]) for _ in range(70)])
        in_hand.clear()
        again = [bench.add([[2]], attempts=1, max_attempts=5) for _ in range(3)]
        fresh = [bench.add([[3]]) for _ in range(5)]
        await bench.until("succeeded", *again, *fresh)
    alone = {job.job_id for job in again}
    assert [held for job_id, held in in_hand if job_id in alone] == [1, 1, 1]
    assert all(job.attempts == 2 for job in again)


def test_how_many_are_asked_for_follows_how_long_they_take() -> None:
    size = ClaimSize()
    assert (size.most(0), size.most(1), size.several) == (1, 0, False)
    seen = []
    for _ in range(10):
        size.observe(0.0001)
        seen.append(size.most(0))
    assert seen == [2, 4, 8, 16, 32, 64, 64, 64, 64, 64]
    assert (size.most(32), size.most(33)) == (32, 0)
    size.observe(SHORT_S * 10)
    assert size.most(0) == 1
    size = ClaimSize()
    for _ in range(10):
        size.observe(0.02)
    assert size.most(0) == int(HELD_S / 0.02)
    size.one_at_a_time()
    assert size.most(0) == 1
