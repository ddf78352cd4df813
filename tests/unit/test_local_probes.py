"""Probe semantics on a clock turned by hand; no sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from headway.adapters.local.probes import Answer, Prober, Tally
from headway.adapters.memory.clock import ManualClock
from headway.domain.replicas import Probe, Probes

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Replica:
    """Answers by a rule on (path, age) and notes when it was asked."""

    def __init__(self, good: Callable[[str, float], bool | None], probes: Probes, **known: float | bool) -> None:
        self.clock = ManualClock()
        self.good = good
        self.asked: list[tuple[float, str]] = []
        self.verdicts: list[tuple[float, bool, bool, bool]] = []
        spread = float(known.pop("spread", 0.0))
        self.prober = Prober(probes, self._ask, self.clock, self._note, spread=spread, **known)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.prober.run())

    async def _ask(self, probe: Probe) -> Answer:
        age = round(self.clock.monotonic(), 3)
        self.asked.append((age, probe.path))
        return Answer(self.good(probe.path, age), f"{probe.path} answered 503")

    def _note(self) -> None:
        p = self.prober
        seen = (round(self.clock.monotonic(), 3), p.ready, p.startup_problem is None, p.liveness_problem is None)
        self.verdicts.append(seen)

    def times(self, path: str) -> list[float]:
        return [age for age, asked in self.asked if asked == path]

    async def run_for(self, seconds: float) -> None:
        await self.clock.elapse(seconds)

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def probes(**changes: Probe) -> Probes:
    return Probes(
        startup=changes.get("startup", Probe("/start", period_s=10, failure_threshold=3)),
        readiness=changes.get("readiness", Probe("/ready", period_s=5, failure_threshold=2, success_threshold=1)),
        liveness=changes.get("liveness", Probe("/live", period_s=10, failure_threshold=3)),
    )


def test_a_verdict_needs_its_threshold_of_equal_answers_in_a_row() -> None:
    tally = Tally(success_threshold=2, failure_threshold=3)
    answers = [True, False, True, True, False, False, True, False, False, False]
    assert [tally.add(a) for a in answers] == [None, None, None, True, None, None, None, None, None, False]


async def test_readiness_is_noticed_within_a_tenth_of_a_second() -> None:
    replica = Replica(lambda _, age: age >= 0.72, probes())
    await replica.run_for(1)
    assert replica.verdicts == [(0.8, True, True, True)]
    await replica.end()


async def test_early_failures_do_not_use_up_the_startup_budget() -> None:
    replica = Replica(lambda _, age: age >= 29.5, probes())  # budget 3 * 10 s
    await replica.run_for(29.4)
    assert len(replica.times("/start")) > 30
    assert replica.prober.startup_problem is None
    await replica.run_for(1)
    assert replica.prober.startup_problem is None
    assert replica.prober.ready
    await replica.end()


async def test_startup_fails_after_threshold_times_period_and_then_nothing_is_asked() -> None:
    replica = Replica(lambda _, __: False, probes())
    await replica.run_for(29.9)
    assert replica.verdicts == []
    await replica.run_for(0.2)
    assert replica.verdicts == [(30.0, False, False, True)]
    asked = len(replica.asked)
    await replica.run_for(100)
    assert len(replica.asked) == asked
    assert replica.task.done()


async def test_startup_gates_the_others() -> None:
    replica = Replica(lambda path, age: path != "/start" or age >= 3, probes())
    await replica.run_for(2.9)
    assert {path for _, path in replica.asked} == {"/start"}
    await replica.run_for(1)
    assert replica.prober.ready
    started = len(replica.times("/start"))
    await replica.run_for(100)
    assert len(replica.times("/start")) == started  # never asked again
    await replica.end()


async def test_delays_count_from_the_start_of_the_process() -> None:
    delayed = probes(
        startup=Probe("/start", period_s=1, initial_delay_s=2),
        readiness=Probe("/ready", period_s=1, initial_delay_s=5),
        liveness=Probe("/live", period_s=1, initial_delay_s=7),
    )
    replica = Replica(lambda _, __: True, delayed)
    await replica.run_for(10)
    assert [replica.times(p)[0] for p in ("/start", "/ready", "/live")] == [2.0, 5.0, 7.0]
    await replica.end()


async def test_readiness_flips_at_its_thresholds_and_liveness_ends_it() -> None:
    def good(path: str, age: float) -> bool:
        return not (path == "/ready" and 20 < age < 42) and not (path == "/live" and age > 65)

    replica = Replica(good, probes())
    await replica.run_for(200)
    # Readiness is asked at 0, 5, 10, …: bad at 25 and 30 (two in a row), good again at 45.
    # Liveness is asked at 0, 10, …: bad at 70, 80 and 90.
    assert replica.verdicts == [
        (0.0, True, True, True),
        (30.0, False, True, True),
        (45.0, True, True, True),
        (90.0, True, True, False),
    ]
    await replica.end()


async def test_one_bad_answer_is_nothing() -> None:
    replica = Replica(lambda _, age: not 10 <= age < 11, probes())
    await replica.run_for(60)
    assert replica.verdicts == [(0.0, True, True, True)]
    await replica.end()


async def test_an_adopted_ready_replica_stays_so_and_is_asked_at_once() -> None:
    replica = Replica(lambda _, __: True, probes(), ready=True, age_s=1000.0)
    await replica.run_for(7)
    assert replica.times("/start") == []
    assert replica.times("/ready") == [0.0, 5.0]
    assert replica.verdicts == []
    await replica.end()


async def test_an_adopted_one_still_starting_gets_its_failures_counted_anew() -> None:
    replica = Replica(lambda _, __: False, probes(), age_s=1000.0)
    await replica.run_for(19.9)
    assert replica.prober.startup_problem is None
    await replica.run_for(0.2)
    assert replica.prober.startup_problem is not None


async def test_probes_of_different_replicas_fall_on_different_times() -> None:
    replica = Replica(lambda _, __: True, probes(), spread=0.5)
    await replica.run_for(30)
    assert replica.times("/live") == [5.0, 15.0, 25.0]
    assert replica.times("/ready") == [0.0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5]
    await replica.end()


async def test_a_probe_that_could_not_be_asked_is_no_answer() -> None:
    replica = Replica(lambda _, age: None if age > 1 else True, probes())
    await replica.run_for(300)
    assert len(replica.times("/live")) > 20
    assert replica.verdicts == [(0.0, True, True, True)]
    await replica.end()
    starting = Replica(lambda _, __: None, probes())
    await starting.run_for(300)
    assert starting.verdicts == []
    await starting.end()


async def test_news_that_it_listens_is_followed_by_a_question_at_once() -> None:
    replica = Replica(lambda path, age: age >= 0.03, probes())
    await replica.run_for(0.03)
    assert replica.times("/start") == [0]
    replica.prober.ask_now()
    await replica.run_for(0.001)
    assert replica.times("/start") == [0, 0.03]
    assert replica.times("/ready")[0] == 0.03
    assert replica.prober.ready
    await replica.end()


async def test_news_that_comes_too_early_costs_no_failure() -> None:
    replica = Replica(lambda path, age: age >= 0.15, probes())
    await replica.run_for(0.05)
    replica.prober.ask_now()  # and yet it does not answer well
    await replica.run_for(0.2)
    assert replica.times("/start") == [0, 0.05, 0.15]
    assert replica.prober.startup_problem is None
    assert replica.prober.ready
    await replica.end()
