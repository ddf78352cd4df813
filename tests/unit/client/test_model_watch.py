"""RestModelWatch on the real control API in memory: looks, sets, and puts back."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from headway.client import Client
from headway.client.model_watch import RestModelWatch
from headway.domain.errors import ControlUnreachable, InvalidSpec
from headway.ports.replica_stats import ReplicaStat
from tests.unit.api.world import ADMIN, World, make_world
from tests.unit.scaling_records import POLICY


@dataclass
class Watched:
    """``iris`` in memory, looked at through a transport that runs the API on a loop of its own."""

    world: World
    watch: RestModelWatch
    away: int = 0
    """For so many calls from now on nothing answers."""

    def scaling(self) -> tuple[Any, int]:
        deployment = self.world.book.get("iris")
        return deployment.scaling, deployment.replicas


@pytest.fixture
def watched() -> Iterator[Watched]:
    with asyncio.Runner() as runner:
        world = runner.run(make_world())
        runner.run(world.deploy())

        def answer(request: httpx.Request) -> httpx.Response:
            if found.away:
                found.away -= 1
                raise httpx.ConnectError("Connection refused")

            async def ask() -> httpx.Response:
                asked = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
                told = await httpx.ASGITransport(app=world.app).handle_async_request(asked)
                return httpx.Response(told.status_code, headers=told.headers, content=await told.aread())

            return runner.run(ask())

        client = Client("http://127.0.0.1:8421", ADMIN, transport=httpx.MockTransport(answer))
        found = Watched(world, RestModelWatch(client, "iris", pauses_s=(0.0, 0.0)))
        yield found
        client.close()


def test_it_looks_and_what_it_cannot_see_is_unknown(watched: Watched) -> None:
    name = watched.world.runtime.add("iris", "v1", "aaaaa")
    watched.world.stats.say(ReplicaStat(name, 5.0, "1", cpu_s=1.5, memory_bytes=7))
    look = asyncio.run(watched.watch.look())
    assert look is not None
    assert (look.ready, look.wished) == (1, 1)
    assert look.stats == (ReplicaStat(name, 5.0, "1", cpu_s=1.5, memory_bytes=7),)
    assert asyncio.run(RestModelWatch(watched.watch._client, "nobody").look()) is None


def test_what_it_sets_is_put_back_whatever_was_there(watched: Watched) -> None:
    async def set_and_restore() -> list[Any]:
        found: list[Any] = []
        await watched.watch.set_replicas(3)
        found.append(watched.scaling())
        await watched.watch.set_scaling(POLICY)
        found.append(watched.scaling()[0] is not None)
        await watched.watch.set_replicas(2)
        found.append(watched.scaling())
        await watched.watch.restore()
        found.append(watched.scaling())
        return found

    before = watched.scaling()
    assert asyncio.run(set_and_restore()) == [(None, 3), True, (None, 2), before]
    marks = asyncio.run(watched.watch.decisions(0.0))
    assert [mark.summary.split(" by ")[0] for mark in marks] == ["set to 3", "triggers set", "set to 2"]


def test_a_policy_that_was_there_comes_back(watched: Watched) -> None:
    async def scale() -> None:
        await watched.watch.set_scaling(POLICY)  # stands for the owner's
        owners = RestModelWatch(watched.watch._client, "iris")
        await owners.set_replicas(4)
        await owners.restore()

    asyncio.run(scale())
    assert watched.scaling()[0]["triggers"]


def test_a_policy_that_is_none_is_refused(watched: Watched) -> None:
    with pytest.raises(InvalidSpec):
        asyncio.run(watched.watch.set_scaling({"triggers": [{"type": "magic"}]}))


def test_a_control_plane_that_was_away_for_a_moment_puts_it_back(watched: Watched) -> None:
    async def carry_out() -> None:
        await watched.watch.set_replicas(3)
        watched.away = 2
        await watched.watch.restore()

    asyncio.run(carry_out())
    assert watched.scaling() == (None, 1)


def test_of_a_model_that_was_deleted_nothing_is_put_back(watched: Watched) -> None:
    async def carry_out() -> None:
        await watched.watch.set_replicas(3)
        watched.watch._model = "nobody"
        await watched.watch.restore()

    asyncio.run(carry_out())


def test_what_cannot_be_put_back_is_told(watched: Watched) -> None:
    """Nothing else remembers it: the policy of the model would be lost."""

    async def carry_out() -> None:
        await watched.watch.set_scaling(POLICY)  # stands for the owner's
        others = RestModelWatch(watched.watch._client, "iris", pauses_s=())
        await others.set_replicas(3)
        watched.away = 1
        await others.restore()

    with pytest.raises(ControlUnreachable, match="iris could not be scaled as before: nothing answers") as raised:
        asyncio.run(carry_out())
    command = (raised.value.hint or "").partition(": ")[2]
    said, _, rest = command.partition(" | ")
    assert rest == "headway autoscale iris -f /dev/stdin"
    assert json.loads(shlex.split(said)[1])["triggers"][0]["type"] == POLICY["triggers"][0]["type"]


def test_a_fixed_number_that_cannot_be_put_back_is_told(watched: Watched) -> None:
    async def carry_out() -> None:
        others = RestModelWatch(watched.watch._client, "iris", pauses_s=())
        await others.set_replicas(3)
        watched.away = 1
        await others.restore()

    with pytest.raises(ControlUnreachable) as raised:
        asyncio.run(carry_out())
    assert raised.value.hint == "to scale it so again: headway scale iris 1"
