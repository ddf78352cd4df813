"""HttpLoadGenerator, on real sockets, keeps the contract of a load generator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headway.adapters.loadgen.generator import HttpLoadGenerator
from headway.domain.load_shapes import Arrivals, rate
from headway.ports.load_generator import LoadGenerator, LoadTarget
from tests.contracts.load_generator_contract import OpenLoopContract, Stage
from tests.services.scripted_model import ScriptedModel

pytestmark = pytest.mark.anyio


class HttpStage(Stage):
    STARTING_S = 0.0
    """From being told to the begin of the load."""
    generator: LoadGenerator

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        self.generator = HttpLoadGenerator(timeout_s=10)
        self.there = True

    def target(self) -> LoadTarget:
        where = self.model.url if self.there else "http://127.0.0.1:9/models/iris"
        return LoadTarget("iris", where, "hw_secret")

    def bodies(self) -> list[bytes]:
        return self.model.bodies

    def answers(self, *, status: int = 200, hangs: bool = False) -> None:
        self.model.status, self.model.hangs = status, hangs

    def gone(self) -> None:
        self.there = False

    async def until_over(self, running: asyncio.Task[None], seconds: float) -> None:
        await asyncio.wait({running}, timeout=seconds + self.STARTING_S)


class TestHttpLoadGenerator(OpenLoopContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[HttpStage]:
        model = ScriptedModel()
        await model.start()
        yield HttpStage(model)
        await model.stop()

    async def test_a_request_is_whole_and_bears_the_token(self, stage: HttpStage) -> None:
        await stage.run(rate(5, 0.2), (b'[[1, "\xc3\xa4"]]',))
        head = stage.model.heads[0].decode()
        assert head.startswith("POST /models/iris/predict HTTP/1.1\r\n")
        assert f"Host: 127.0.0.1:{stage.model.port}\r\n" in head
        assert "Authorization: Bearer hw_secret\r\n" in head
        assert stage.bodies()[0] == b'[[1, "\xc3\xa4"]]'

    async def test_no_answer_in_time_is_an_error_and_counts_the_time_waited(self, stage: HttpStage) -> None:
        stage.generator = HttpLoadGenerator(timeout_s=0.3)
        stage.answers(hangs=True)
        load = await stage.run(rate(20, 0.5, arrivals=Arrivals.CONSTANT))
        assert load.samples.faults == {"no answer within 0.3 s": 10}
        assert load.samples.latencies()[0] >= 0.3

    async def test_a_server_that_closes_connections_costs_no_more_than_a_new_one(self, stage: HttpStage) -> None:
        stage.model.closes = True
        load = await stage.run(rate(20, 0.5, arrivals=Arrivals.CONSTANT))
        answered = [status for status in load.samples.status if status == 200]
        assert len(load.samples) == 10
        assert len(answered) >= 5  # one that is sent in the moment of closing is lost, by the rules of keep-alive

    async def test_when_no_further_connection_may_be_opened_requests_wait_and_that_is_told(
        self, stage: HttpStage
    ) -> None:
        stage.generator = HttpLoadGenerator(timeout_s=0.4, most_open=3)
        stage.answers(hangs=True)
        load = await stage.run(rate(30, 0.3, arrivals=Arrivals.CONSTANT))
        assert len(load.samples) == 9
        assert stage.generator.state().waited >= 6
