"""LocustGenerator, with Locust's real processes, keeps the contract of a load generator for users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.loadgen.hub import Door
from headway.adapters.loadgen.locust import LocustGenerator
from headway.domain.errors import InvalidInput
from headway.domain.load_samples import GIVEN_UP
from headway.domain.load_shapes import users
from headway.ports.load_generator import Load
from tests.contracts.load_generator_contract import LoadGeneratorContract, long_enough
from tests.contracts.test_load_generator_http import HttpStage
from tests.contracts.test_load_generator_processes import worker
from tests.services.scripted_model import ScriptedModel
from tests.waiting import PortPicker

pytestmark = pytest.mark.anyio

LOCUSTFILE = """
from locust import FastHttpUser, HttpUser, constant, task

class Slow(HttpUser):
    wait_time = constant(0.1)
    weight = 1

    def on_start(self):
        self.client.post("/predict", data="started")

    @task(3)
    def often(self):
        self.client.post("/predict", json=[[1]])

    @task
    def seldom(self):
        with self.client.post("/predict", json=[[2]], catch_response=True) as response:
            response.failure("not what was expected")

class Fast(FastHttpUser):
    wait_time = constant(0.1)

    @task
    def fast(self):
        self.client.post("/predict", json=[[3]])
"""


class LocustStage(HttpStage):
    STARTING_S = 6.0

    def __init__(self, model: ScriptedModel, workers: int = 0, locustfile: Path | None = None) -> None:
        super().__init__(model)
        self.generator = LocustGenerator(workers=workers, locustfile=locustfile, timeout_s=10)


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    model = ScriptedModel()
    await model.start()
    yield model
    await model.stop()


class TestLocustGenerator(LoadGeneratorContract):
    @pytest.fixture
    def stage(self, model: ScriptedModel) -> LocustStage:
        return LocustStage(model)

    async def test_users_of_ones_own_do_what_they_do_with_locust(self, model: ScriptedModel, tmp_path: Path) -> None:
        file = tmp_path / "locustfile.py"
        file.write_text(LOCUSTFILE)
        stage = LocustStage(model, locustfile=file)
        told = {b"started", b"[[1]]", b"[[2]]", b"[[3]]"}

        def sent() -> set[bytes]:
            return {body.replace(b" ", b"") for body in model.bodies}

        async def run(duration_s: float) -> Load:
            model.bodies.clear()
            return await stage.run(users(6, 2 * duration_s))

        load = await long_enough(run, lambda _: sent() == told)
        assert sent() == told
        assert set(load.samples.faults) == {"CatchResponseError: not what was expected"}
        assert load.samples.faults.total() == list(load.samples.status).count(GIVEN_UP) == model.bodies.count(b"[[2]]")
        assert all(b"Bearer hw_secret" in head for head in model.heads)

    async def test_workers_are_processes_whose_requests_make_one_load(self, model: ScriptedModel) -> None:
        stage = LocustStage(model, workers=2)

        async def run(duration_s: float) -> Load:
            model.bodies.clear()
            return await stage.run(users(4, 2 * duration_s, think_time_s=0.2))

        load = await long_enough(run, lambda load: len(load.samples) > 10)
        assert len(load.samples) == len(model.bodies) > 10
        assert stage.generator.state().users is not None

    async def test_workers_from_elsewhere_are_given_the_locustfile(
        self, model: ScriptedModel, tmp_path: Path, free_port: PortPicker
    ) -> None:
        file = tmp_path / "locustfile.py"
        file.write_text(LOCUSTFILE)
        stage = LocustStage(model)
        port = free_port()
        door = Door("127.0.0.1", port, "secret", locust_port=free_port())
        stage.generator = LocustGenerator(workers=2, locustfile=file, timeout_s=10, door=door)

        async def run(duration_s: float) -> Load:
            model.bodies.clear()
            async with worker(f"127.0.0.1:{port}", "secret"), worker(f"127.0.0.1:{port}", "secret"):
                return await stage.run(users(6, 4 * duration_s))

        load = await long_enough(run, lambda load: len(load.samples) > 10)
        assert len(load.samples) == len(model.bodies) > 10
        assert b"started" in model.bodies
        assert all(b"Bearer hw_secret" in head for head in model.heads)
        assert min(load.samples.due_s) >= 0
        assert stage.generator.state().users is not None

    async def test_a_locustfile_that_is_none_is_refused_with_what_locust_says(
        self, model: ScriptedModel, tmp_path: Path
    ) -> None:
        file = tmp_path / "locustfile.py"
        file.write_text("import nothing_of_that_name\n")
        with pytest.raises(InvalidInput) as refused:
            await LocustStage(model, locustfile=file).run(users(1, 1.0))
        assert refused.value.where == str(file)
        assert "nothing_of_that_name" in refused.value.details["log_tail"]

    async def test_called_off_it_leaves_no_process(self, model: ScriptedModel) -> None:
        stage = LocustStage(model)
        running = asyncio.create_task(stage.generator.run(stage.load(users(2, 600))))
        await stage.until_over(running, 0.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
