"""Promise 1 at the gateway: whatever changes, no request fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.domain.routing_table import Endpoint, VersionRoute
from tests.integration.haproxy.backends import Load, Replica, ReplicaProcess, call, until, until_drained
from tests.integration.haproxy.conftest import model, table, version
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_replicas_come_and_go_under_load_without_a_reload(gateway: HaproxyGateway, home: Path, port: int) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b, Replica(home / "c") as c:
        load = Load(port, "/models/iris/predict")
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
        worker = (await gateway._api.workers()).current
        async with load.running():
            for replicas in [(a, b, c), (b, c), (c,), (a, c), (a,), (a, b, c), (b,)] * 2:
                await gateway.apply(table(model("iris", {"v1": 100}, version("v1", *replicas))))
                before = load.replicas.copy()
                await load.some(60)
                assert {n for n, count in load.replicas.items() if count > before[n]} <= {"a", "b", "c"}
        assert load.failures == []
        assert set(load.replicas) == {"a", "b", "c"}
        assert (await gateway._api.workers()).current == worker


async def test_a_removed_replica_gets_nothing_new(gateway: HaproxyGateway, home: Path, port: int) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a, b))))
        load = Load(port, "/models/iris/predict")
        async with load.running():
            await load.some(100)
            await gateway.apply(table(model("iris", {"v1": 100}, version("v1", b))))
            await until_drained(gateway, "a")
            seen = len(a.seen)
            await load.some(200)
        assert load.failures == []
        assert len(a.seen) == seen


async def test_reloads_under_load(gateway: HaproxyGateway, home: Path, port: int) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b:
        iris = model("iris", {"v1": 100}, version("v1", a, b))
        await gateway.apply(table(iris))
        load = Load(port, "/models/iris/predict")
        async with load.running():
            for number in range(8):
                workers = await gateway._api.workers()
                await gateway.apply(table(iris, *(model(f"m{n}", {}, version("v1")) for n in range(number + 1))))
                assert (await gateway._api.workers()).current != workers.current, "a new model needs a reload"
                await load.some(100)
        assert load.failures == []


async def test_versions_replace_one_another_under_load(gateway: HaproxyGateway, home: Path, port: int) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b:
        load = Load(port, "/models/iris/predict")
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
        async with load.running():
            for number in range(1, 8):
                old, new, here, there = f"v{number}", f"v{number + 1}", *((a, b) if number % 2 else (b, a))
                both = version(old, here), version(new, there)
                await gateway.apply(table(model("iris", {old: 100}, *both)))
                await gateway.apply(table(model("iris", {old: 60, new: 40}, *both)))
                await load.some(40)
                await gateway.apply(table(model("iris", {new: 100}, *both)))
                await gateway.apply(table(model("iris", {new: 100}, version(old), version(new, there))))
                await until_drained(gateway, here.name)
                await load.some(40)
        assert load.failures == []


@pytest.mark.parametrize("retries", [True, False])
async def test_a_killed_replica_costs_no_request_unless_retries_are_off(home: Path, port: int, retries: bool) -> None:
    gateway = HaproxyGateway(home=home, host="127.0.0.1", port=port, retries=retries)
    await gateway.start()
    replicas = [ReplicaProcess(home / f"{n}.sock") for n in "abc"]
    try:
        for replica in replicas:
            await replica.start()
        endpoints = tuple(Endpoint(r.socket.stem, r.address) for r in replicas)
        await gateway.apply(table(model("iris", {"v1": 100}, VersionRoute("v1", endpoints))))
        load = Load(port, "/models/iris/predict")
        async with load.running():
            for victim in [*replicas, *replicas]:
                await load.some(100)
                victim.kill()
                await load.some(100)
                if load.failures:
                    break
                await victim.start()
                await _until_up(gateway, victim.socket.stem)
        assert bool(load.failures) is not retries, load.failures[:3]
    finally:
        for replica in replicas:
            replica.kill()
        await gateway.stop(stop_gateway=True)


async def _until_up(gateway: HaproxyGateway, replica: str) -> None:
    async def up() -> bool:
        servers = [s for b in (await gateway._api.backends()).values() for s in b.servers.values()]
        return any(s.name.startswith(f"{replica}.") and s.status == "UP" for s in servers)

    await until(up, what=f"{replica} is found healthy again")


async def test_one_after_the_other_dies_and_nobody_is_there_to_tell(
    gateway: HaproxyGateway, home: Path, port: int
) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b, Replica(home / "c") as c:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a, b, c))))
        await gateway.stop(stop_gateway=False)  # the control plane is gone
        load = Load(port, "/models/iris/predict")
        async with load.running():
            for victim in (a, b):
                await load.some(50)
                victim.die()
                await load.some(100)
        assert load.failures == []


async def test_a_model_that_fails_every_request_keeps_its_replicas(
    gateway: HaproxyGateway, home: Path, port: int
) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a, b))))
        for _ in range(60):
            assert (await call(port, "/models/iris/predict", headers={"x-do": "500"})).status == 500
        states = await gateway._api.backends()
        statuses = [s.status for backend in states.values() for s in backend.servers.values()]
        assert [s.split(" ")[0] for s in statuses] == ["UP", "UP"]


async def test_a_replica_that_came_back_under_its_old_name_serves_at_once(
    gateway: HaproxyGateway, home: Path, port: int
) -> None:
    async with Replica(home / "a") as a:
        here, gone = (
            table(model("iris", {"v1": 100}, version("v1", a))),
            table(model("iris", {"v1": 100}, version("v1"))),
        )
        await gateway.apply(here)
        a.hold()
        load = Load(port, "/models/iris/predict", clients=2)
        async with load.running():
            await eventually(lambda: a.seen, what="a request is with it")
            await gateway.apply(gone)  # it drains: its server has to stay
            assert not await gateway.drained(["a"])
            await gateway.apply(here)
            assert (await gateway.drained(["a"])) == frozenset()
            a.let_go()
            await load.some(20)


async def test_a_replica_at_a_new_address_is_another_server(gateway: HaproxyGateway, home: Path, port: int) -> None:
    async with Replica(home / "old", "same") as old, Replica(home / "new", "same") as new:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", old))))
        await call(port, "/models/iris/predict")
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", new))))
        for _ in range(5):
            assert (await call(port, "/models/iris/predict")).status == 200
        assert (len(old.seen), len(new.seen)) == (1, 5)


@pytest.mark.parametrize(("size", "status"), [(5, 200), (120_000, 200), (300_000, 503)])
async def test_a_request_in_flight_moves_on_when_it_lies_in_the_buffer(
    gateway: HaproxyGateway, home: Path, port: int, size: int, status: int
) -> None:
    async with Replica(home / "a") as a, Replica(home / "b") as b:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a, b))))
        for replica in (a, b):
            replica.hold()
        request = asyncio.create_task(call(port, "/models/iris/predict", body=b"x" * size))
        await eventually(lambda: a.seen or b.seen)
        victim, other = (a, b) if a.seen else (b, a)
        other.let_go()
        victim.die()
        answer = await request
        assert answer.status == status
        assert len(other.seen) == (status == 200)
