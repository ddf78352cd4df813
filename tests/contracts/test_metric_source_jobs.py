"""JobsSource keeps the contract of a metric source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headway.adapters.signals import JobsSource
from headway.domain.errors import SignalLost, StorageFailed
from headway.domain.jobs import JobCount, JobEvent
from headway.domain.scaling_spec import CronTrigger, JobsTrigger
from tests.contracts.metric_source_contract import MetricSourceContract, Stage

pytestmark = pytest.mark.anyio


class Counts:
    """A feed that knows how many jobs there are, and nothing else of them."""

    def __init__(self) -> None:
        self.found: list[JobCount] = []
        self.fault: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def counts(self) -> list[JobCount]:
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return self.found

    async def events(
        self, *, after: int = 0, limit: int = 1000, model: str | None = None, job_id: str | None = None
    ) -> list[JobEvent]:
        return []

    async def last_cursor(self) -> int:
        return 0

    async def wait(self, after: int, timeout_s: float) -> bool:
        return False


def count(model: str, queued: int = 0, *, running: int = 0, delayed: int = 0, version: str | None = "v1") -> JobCount:
    return JobCount(model, version, queued, delayed, running, 1.0 if queued else None)


class JobsStage(Stage):
    def __init__(self, fault: Exception) -> None:
        self.feed = Counts()
        self.fault = fault
        super().__init__()

    def make(self) -> JobsSource:
        return JobsSource(self.feed, lambda model: model != "nobody")

    def trigger(self, *, timeout: str = "30s", model: str = "iris") -> JobsTrigger:
        return JobsTrigger(type="jobs", model=model, value=1, timeout=timeout)

    def holds(self, *found: JobCount) -> Sequence[JobCount]:
        self.feed.found = list(found)
        return found

    async def hold(self, number: int) -> None:
        self.holds(count("iris", number), count("other", 99))

    async def down(self) -> None:
        self.feed.fault = self.fault

    async def up(self) -> None:
        self.feed.fault = None
        self.feed.open.set()

    async def hang(self) -> None:
        self.feed.open.clear()


class TestJobsSource(MetricSourceContract):
    @pytest.fixture(params=[StorageFailed("the database is away"), ConnectionRefusedError(111, "refused")], ids=str)
    def stage(self, request: pytest.FixtureRequest) -> JobsStage:
        return JobsStage(request.param)

    async def test_due_and_running_jobs_of_all_versions_count(self, stage: JobsStage) -> None:
        stage.holds(count("iris", 3, running=2, delayed=40), count("iris", 4, version=None), count("other", 7))
        assert await stage.source.read(stage.trigger()) == 9
        stage.holds(count("iris", delayed=40))
        assert await stage.source.read(stage.trigger()) == 0, "a job for tomorrow asks for nobody today"

    async def test_a_model_that_is_not_there_is_not_idle(self, stage: JobsStage) -> None:
        with pytest.raises(SignalLost, match="no model 'nobody'"):
            await stage.source.read(stage.trigger(model="nobody"))

    async def test_a_failure_says_why(self, stage: JobsStage) -> None:
        await stage.down()
        with pytest.raises(SignalLost, match=r"jobs of iris: .*(away|refused)"):
            await stage.source.read(stage.trigger())

    async def test_another_kind_of_trigger_is_the_callers_mistake(self, stage: JobsStage) -> None:
        cron = CronTrigger(type="cron", start="0 8 * * *", end="0 18 * * *", desired_replicas=3)
        with pytest.raises(TypeError):
            await stage.source.read(cron)  # type: ignore[arg-type]
