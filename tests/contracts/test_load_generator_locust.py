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
from tests.waiting import PortPicker, eventually

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


RAISING = """
from locust import HttpUser, LoadTestShape, constant, events, task

@events.quitting.add_listener
def end(environment, **others):
    environment.process_exit_code = 3

class Waves(LoadTestShape):
    def tick(self):
        return 1, 1

class Someone(HttpUser):
    wait_time = constant(0.1)

    @task
    def ask(self):
        self.client.post("/predict", json=[[1]])
        raise ValueError("a line\\nand another")
"""
PATIENT = """
from locust import FastHttpUser, HttpUser, constant, task

class Plain(HttpUser):
    wait_time = constant(0.1)

    @task
    def ask(self):
        self.client.post("/predict", json=[[1]])

class Fast(FastHttpUser):
    wait_time = constant(0.1)

    @task
    def ask(self):
        self.client.post("/predict", json=[[1]])
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

    @pytest.mark.parametrize(
        ("text", "line", "said"),
        [
            ("import json\nimport nothing_of_that_name\n", ":2", "No module named 'nothing_of_that_name'"),
            ("class Someone(:\n", ":1", "SyntaxError: invalid syntax"),
            ("number = 1\n", "", "it has no users"),
        ],
    )
    async def test_a_locustfile_that_is_none_is_refused_with_the_reason_and_the_line(
        self, model: ScriptedModel, tmp_path: Path, text: str, line: str, said: str
    ) -> None:
        file = tmp_path / "locustfile.py"
        file.write_text(text)
        with pytest.raises(InvalidInput) as refused:
            await LocustStage(model, locustfile=file).run(users(1, 1.0))
        assert refused.value.where == f"{file}{line}"
        assert said in refused.value.message

    async def test_what_a_locustfile_raises_leaves_out_or_ends_with_is_told(
        self, model: ScriptedModel, tmp_path: Path
    ) -> None:
        file = tmp_path / "locustfile.py"
        file.write_text(RAISING)
        stage = LocustStage(model, locustfile=file)

        async def run(duration_s: float) -> Load:
            return await stage.run(users(2, duration_s))

        load = await long_enough(run, lambda load: len(load.samples) > 0)
        assert len(load.samples) > 0
        unused, raised, ended = stage.generator.state().notes
        assert unused.startswith("Waves of the locustfile is not used")
        assert raised.startswith("code of the locustfile raised")
        assert raised.endswith("x: ValueError: a line and another")
        assert ended == "Locust ended with exit code 3, as its locustfile may want"

    async def test_no_request_of_a_locustfile_waits_longer_than_the_load_says(
        self, model: ScriptedModel, tmp_path: Path
    ) -> None:
        file = tmp_path / "locustfile.py"
        file.write_text(PATIENT)
        stage = LocustStage(model, locustfile=file)
        stage.generator = LocustGenerator(locustfile=file, timeout_s=0.3)
        stage.answers(hangs=True)

        async def run(duration_s: float) -> Load:
            return await stage.run(users(2, 2 * duration_s))

        load = await long_enough(run, lambda load: len(load.samples) > 3)
        assert len(load.samples) > 3
        assert set(load.samples.status) == {GIVEN_UP}, load.samples.faults

    @pytest.mark.parametrize("workers", [0, 2])
    async def test_requests_under_way_are_counted_while_nobody_answers(
        self, model: ScriptedModel, workers: int
    ) -> None:
        stage = LocustStage(model, workers)
        stage.answers(hangs=True)
        running = asyncio.create_task(stage.generator.run(stage.load(users(4, 600, think_time_s=0.1))))

        def waiting() -> bool:
            state = stage.generator.state()
            return running.done() or (state.in_flight == 4 and state.oldest_s > 1)

        await eventually(waiting, what="four requests under way")
        stage.generator.stop()
        await running
        assert stage.generator.state().in_flight == 4

    async def test_called_off_it_leaves_no_process(self, model: ScriptedModel) -> None:
        stage = LocustStage(model)
        running = asyncio.create_task(stage.generator.run(stage.load(users(2, 600))))
        await stage.until_over(running, 0.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
