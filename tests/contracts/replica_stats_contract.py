"""What every source of replica stats does."""

from __future__ import annotations

from typing import Protocol

import pytest

from headway.ports.replica_stats import ReplicaStat, ReplicaStats


class Fleet(Protocol):
    """Replicas that do what a test says, and the adapter that watches them."""

    @property
    def stats(self) -> ReplicaStats:
        """It."""
        ...

    def start(self, replica_id: str) -> None:
        """Its model server begins to serve; again when it has been killed."""
        ...

    def arrive(self, replica_id: str, count: int) -> None:
        """Requests come."""
        ...

    def answer(self, replica_id: str, count: int) -> None:
        """Requests in flight are answered."""
        ...

    def pass_time(self, seconds: float) -> None:
        """On the clock that the adapter reads."""
        ...

    def monotonic(self) -> float:
        """That clock."""
        ...

    def kill(self, replica_id: str) -> None:
        """It is gone without a word."""
        ...

    def spoil(self, replica_id: str) -> None:
        """It still serves and cannot be read any more."""
        ...


@pytest.mark.anyio
class ReplicaStatsContract:
    """Subclasses give a fixture ``fleet``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_no_replicas(self, fleet: Fleet) -> None:
        assert await fleet.stats.read() == ()

    async def test_an_idle_replica_is_known_as_idle(self, fleet: Fleet) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.pass_time(100)
        one = await only(fleet)
        assert (one.replica_id, one.at) == ("iris-v1-aaaaa", fleet.monotonic())
        assert (one.in_flight, one.in_flight_s, one.finished, one.queue_s) == (0, 0.0, 0, 0.0)

    async def test_in_flight_and_its_integral(self, fleet: Fleet) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.arrive("iris-v1-aaaaa", 3)
        fleet.pass_time(2)
        assert (await only(fleet)).in_flight_s == pytest.approx(6)
        fleet.answer("iris-v1-aaaaa", 1)
        fleet.pass_time(1)
        one = await only(fleet)
        assert (one.in_flight, one.finished) == (2, 1)
        assert one.in_flight_s == pytest.approx(8)
        fleet.answer("iris-v1-aaaaa", 2)
        fleet.pass_time(50)
        one = await only(fleet)
        assert (one.in_flight, one.finished) == (0, 3)
        assert one.in_flight_s == pytest.approx(8)

    async def test_counters_grow_within_an_epoch(self, fleet: Fleet) -> None:
        fleet.start("iris-v1-aaaaa")
        seen = []
        for _ in range(5):
            fleet.arrive("iris-v1-aaaaa", 2)
            seen.append(await only(fleet))
            fleet.answer("iris-v1-aaaaa", 1)
            seen.append(await only(fleet))
            fleet.pass_time(0.5)
        assert len({one.epoch for one in seen}) == 1
        for counter in ("at", "finished", "in_flight_s", "queue_s", "cpu_s"):
            values = [getattr(one, counter) for one in seen if getattr(one, counter) is not None]
            assert values == sorted(values)

    async def test_a_replica_that_is_killed_is_left_out_and_others_are_not(self, fleet: Fleet) -> None:
        for name in ("iris-v1-aaaaa", "iris-v1-bbbbb"):
            fleet.start(name)
            fleet.arrive(name, 5)
        assert {one.replica_id: one.in_flight for one in await fleet.stats.read()} == {
            "iris-v1-aaaaa": 5,
            "iris-v1-bbbbb": 5,
        }
        fleet.kill("iris-v1-aaaaa")
        assert (await only(fleet)).replica_id == "iris-v1-bbbbb"

    async def test_counters_of_another_life_are_of_another_epoch(self, fleet: Fleet) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.arrive("iris-v1-aaaaa", 5)
        fleet.answer("iris-v1-aaaaa", 2)
        before = await only(fleet)
        fleet.kill("iris-v1-aaaaa")
        fleet.start("iris-v1-aaaaa")
        after = await only(fleet)
        assert after.epoch != before.epoch
        assert (after.in_flight, after.finished) == (0, 0)

    async def test_a_replica_that_cannot_be_read_is_left_out(self, fleet: Fleet) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.start("iris-v1-bbbbb")
        fleet.spoil("iris-v1-bbbbb")
        assert (await only(fleet)).replica_id == "iris-v1-aaaaa"


async def only(fleet: Fleet) -> ReplicaStat:
    """The one replica that can be read."""
    (one,) = await fleet.stats.read()
    return one
