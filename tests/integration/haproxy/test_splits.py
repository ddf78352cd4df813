"""Who meets which version: shares, sticky users, shadows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.domain.routing_table import ModelRoute, Shadow, Sticky
from tests.integration.haproxy.backends import Connection, Replica, call
from tests.integration.haproxy.conftest import model, table, version

pytestmark = pytest.mark.anyio
REQUESTS = 600


class Iris:
    """Three versions of model iris, a replica each, named as its version."""

    def __init__(self, gateway: HaproxyGateway, port: int, replicas: list[Replica]) -> None:
        self.gateway, self.port, self.replicas = gateway, port, replicas

    def route(self, **weights: int) -> ModelRoute:
        return model("iris", weights, *(version(r.name, r) for r in self.replicas))

    async def counts(self, path: str = "/models/iris/predict", number: int = REQUESTS) -> Counter[str]:
        counts: Counter[str] = Counter()
        async with Connection(self.port) as connection:
            for _ in range(number):
                answer = await connection.call(path)
                assert answer.headers["x-headway-version"] == answer.replica
                counts[answer.replica] += 1
        return counts


@pytest.fixture
async def iris(gateway: HaproxyGateway, home: Path, port: int) -> AsyncIterator[Iris]:
    async with Replica(home / "v1") as one, Replica(home / "v2") as two, Replica(home / "v3") as three:
        yield Iris(gateway, port, [one, two, three])


async def test_shares_follow_the_weights_and_change_without_a_reload(iris: Iris) -> None:
    await iris.gateway.apply(table(iris.route(v1=100)))
    workers = (await iris.gateway._api.workers()).current
    for weights in ({"v1": 90, "v2": 10}, {"v1": 50, "v2": 50}, {"v1": 20, "v2": 30, "v3": 50}, {"v1": 0, "v2": 100}):
        assert await iris.gateway.apply(table(iris.route(**weights)))
        counts = await iris.counts()
        for name in ("v1", "v2", "v3"):
            share = weights.get(name, 0) / 100
            # 4.5 sigma of a binomial share: a wrong alarm in some 100,000 runs, and none for 0 and 100
            allowed = 4.5 * math.sqrt(REQUESTS * share * (1 - share))
            assert abs(counts[name] - REQUESTS * share) <= allowed, (weights, counts)
    assert (await iris.gateway._api.workers()).current == workers


async def test_pinned_paths_ignore_the_split(iris: Iris) -> None:
    await iris.gateway.apply(table(iris.route(v1=90, v2=10)))
    for name in ("v1", "v2", "v3"):
        assert await iris.counts(f"/models/iris/versions/{name}/predict", 50) == {name: 50}


async def test_a_header_keeps_a_user_with_a_version(iris: Iris) -> None:
    users = [f"user-{n}" for n in range(150)]

    async def versions() -> dict[str, str]:
        async with Connection(iris.port) as connection:
            met = {}
            for user in users:
                answers = {
                    (await connection.call("/models/iris/predict", headers={"X-User": user})).replica for _ in range(2)
                }
                assert len(answers) == 1
                met[user] = answers.pop()
        return met

    sticky = Sticky("header", "x-user")
    await iris.gateway.apply(table(replace(iris.route(v1=90, v2=10), sticky=sticky)))
    before = await versions()
    assert {*before.values()} == {"v1", "v2"}
    await iris.gateway.apply(table(replace(iris.route(v1=70, v2=30), sticky=sticky)))
    after = await versions()
    assert {*after.values()} == {"v1", "v2"}
    assert all(after[user] == "v2" for user in users if before[user] == "v2"), "nobody goes back"
    moved = sum(before[user] != after[user] for user in users)
    assert moved <= 60, "about a fifth moves"
    assert len(await iris.counts()) == 2, "without the header it is by chance"


async def test_a_cookie_is_set_when_there_is_none_and_keeps_its_version(iris: Iris) -> None:
    await iris.gateway.apply(table(replace(iris.route(v1=50, v2=50), sticky=Sticky("cookie", "who"))))
    met = set()
    for _ in range(20):  # all of them alike: once in half a million
        first = await call(iris.port, "/models/iris/predict", headers={"cookie": "other=1"})
        cookie = SimpleCookie(first.headers["set-cookie"])["who"]
        assert (cookie["path"], cookie["samesite"]) == ("/models/iris", "Lax")
        for _ in range(5):
            again = await call(iris.port, "/models/iris/predict", headers={"cookie": f"who={cookie.value}"})
            assert again.replica == first.replica
            assert "set-cookie" not in again.headers
        met.add(first.replica)
    assert met == {"v1", "v2"}
    assert "set-cookie" not in (await call(iris.port, "/models/iris/versions/v1/predict")).headers


async def test_a_share_of_the_requests_is_marked_for_the_shadow(iris: Iris) -> None:
    async def marks(path: str) -> Counter[str]:
        async with Connection(iris.port) as connection:
            seen = [(await connection.call(path)).json()["headers"].get("x-headway-shadow", "") for _ in range(400)]
        return Counter(seen)

    await iris.gateway.apply(table(replace(iris.route(v1=100), shadow=Shadow("v3", 100))))
    assert await marks("/models/iris/predict") == {"v3": 400}
    assert await marks("/models/iris/versions/v1/predict") == {"": 400}, "only production traffic is copied"
    await iris.gateway.apply(table(replace(iris.route(v1=100), shadow=Shadow("v3", 25))))
    assert 50 < (await marks("/models/iris/predict"))["v3"] < 150
    await iris.gateway.apply(table(iris.route(v1=100)))
    assert await marks("/models/iris/predict") == {"": 400}
