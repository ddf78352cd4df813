"""The script of "Scale by hand from Python" does what the page says of it, on the real control API in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from headway.client import Client
from headway.domain.scaling_document import parse_scaling
from scripts.check_docs import ROOT
from tests.query_records import record
from tests.unit.api.world import ADMIN, World, make_world

PAGE = ROOT / "docs" / "how-to" / "scale-by-hand-from-python.md"
S = 10**9


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What the page's blocks define."""
    document = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()]).parse(PAGE)
    for example in document.examples():
        example.evaluate()
    return document.namespace


@dataclass
class Iris:
    """A model in memory, and the page's script that looks after it."""

    world: World
    runner: asyncio.Runner
    script: dict[str, Any]

    def __post_init__(self) -> None:
        self.client = Client("http://127.0.0.1:8421", ADMIN, transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            asked = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
            answer = await httpx.ASGITransport(app=self.world.app).handle_async_request(asked)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return self.runner.run(ask())

    def takes(self, milliseconds: float, *, ago_s: float = 60.0) -> None:
        """A request that was answered so slowly, so long ago."""
        at = self.world.questions.now_ns() - round(ago_s * S)
        self.world.query_log.add([record(ts_ns=at, total_ns=round(milliseconds * 1e6))])

    def look(self) -> str:
        said: str = self.script["keep_promise"](self.client, "iris", self.world.clock.now())
        return said

    @property
    def replicas(self) -> int:
        return self.world.book.get("iris").replicas


@pytest.fixture
def iris(script: dict[str, Any]) -> Iterator[Iris]:
    with asyncio.Runner() as runner:
        world = runner.run(make_world())
        runner.run(world.deploy())
        made = Iris(world, runner, script)
        yield made
        made.client.close()


def test_too_slow_is_two_more_and_then_a_cooldown(iris: Iris) -> None:
    iris.takes(1500)
    assert iris.look() == "1500 ms is too slow: 1 -> 3 replicas"
    assert iris.replicas == 3
    iris.world.clock.advance(1700)
    iris.takes(2000)
    assert iris.look() == "cooling down"
    iris.world.clock.advance(200)
    assert iris.look() == "2000 ms is too slow: 3 -> 5 replicas"


def test_what_was_before_the_last_change_does_not_count(iris: Iris, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(iris.script, "COOLDOWN_S", 60)
    iris.takes(1500)
    iris.look()
    iris.world.clock.advance(120)
    assert iris.look() == "no requests: nothing to judge by"
    assert iris.replicas == 3


def test_nothing_is_changed_without_need_or_without_data(iris: Iris) -> None:
    assert iris.look() == "no requests: nothing to judge by"
    iris.takes(5000, ago_s=1900)
    assert iris.look() == "no requests: nothing to judge by"
    iris.takes(400)
    assert iris.look() == "400 ms is fast enough"
    assert iris.replicas == 1


def test_it_knows_its_bounds(iris: Iris) -> None:
    iris.client.scale("iris", 11)
    iris.world.clock.advance(1801)
    iris.takes(1000)
    assert iris.look() == "1000 ms is too slow: 11 -> 12 replicas"
    iris.world.clock.advance(1801)
    iris.takes(1000)
    assert iris.look() == "1000 ms, and no more replicas allowed"
    assert iris.replicas == 12


def test_a_model_that_triggers_scale_is_left_to_them(iris: Iris) -> None:
    parse_scaling(iris.script["POLICY"])
    iris.client.set_scaling("iris", iris.script["POLICY"])
    iris.takes(5000)
    assert iris.look() == "triggers scale it already"
