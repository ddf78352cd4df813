"""Leader election on a clock turned by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.cluster import MemoryCluster
from headway.control.operator.leader import DURATION_S, RENEW_S, RETRY_S, Leader
from headway.domain.cluster_objects import LEASE, Kind, Name, Object
from headway.domain.errors import ClusterFailed

NAME = Name("headway", "operator")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Seat(MemoryCluster):
    """A way of its own to a shared cluster, that can be cut."""

    def __init__(self, shared: MemoryCluster) -> None:
        super().__init__()
        self.shared = shared
        self.cut = False

    async def read(self, kind: Kind, name: Name) -> Object | None:
        if self.cut:
            raise ClusterFailed("cut")
        return await self.shared.read(kind, name)

    async def replace(self, kind: Kind, item: Object) -> Object:
        if self.cut:
            raise ClusterFailed("cut")
        return await self.shared.replace(kind, item)


class Race:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.shared = MemoryCluster()
        self.seats = [Seat(self.shared) for _ in range(2)]
        self.told = [0, 0]
        self.one, self.two = (
            Leader(seat, self.clock, NAME, name, lambda index=index: self._count(index))  # type: ignore[misc]
            for index, (seat, name) in enumerate(zip(self.seats, ("one", "two"), strict=True))
        )

    def _count(self, index: int) -> None:
        self.told[index] += 1

    @property
    def leads(self) -> tuple[bool, bool]:
        return self.one.leads, self.two.leads


@pytest.fixture
async def race() -> AsyncIterator[Race]:
    made = Race()
    yield made
    for leader in (made.one, made.two):
        await leader.stop()


async def test_the_first_leads_for_as_long_as_it_renews(race: Race) -> None:
    race.one.start()
    await race.clock.settle()
    race.two.start()
    for _ in range(30):
        await race.clock.elapse(RETRY_S)
        assert race.leads == (True, False)
    assert race.told == [1, 0]
    lease = await race.shared.read(LEASE, NAME)
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "one"
    assert lease["spec"]["leaseTransitions"] == 0
    assert lease["spec"]["renewTime"].endswith("Z")


async def test_one_that_cannot_renew_stops_before_another_begins(race: Race) -> None:
    race.one.start()
    race.two.start()
    await race.clock.elapse(RETRY_S)
    assert race.leads == (True, False)
    race.seats[0].cut = True
    seen = set()
    for _ in range(int((DURATION_S + 3 * RETRY_S) / 0.5)):
        await race.clock.elapse(0.5)
        assert race.leads != (True, True)
        seen.add(race.leads)
    assert seen == {(True, False), (False, False), (False, True)}
    assert RENEW_S < DURATION_S
    race.seats[0].cut = False
    await race.clock.elapse(5 * RETRY_S)
    assert race.leads == (False, True)
    assert race.told == [2, 1]


async def test_one_that_stops_hands_over_at_once(race: Race) -> None:
    race.one.start()
    race.two.start()
    await race.clock.elapse(RETRY_S)
    await race.one.stop()
    await race.one.stop()
    await race.clock.elapse(RETRY_S)
    assert race.leads == (False, True)


async def test_a_clock_that_is_wrong_takes_nothing_away(race: Race) -> None:
    """Only whether the lease changes counts, not what time it says."""
    stale = {"holderIdentity": "old", "leaseDurationSeconds": 15, "renewTime": "1999-01-01T00:00:00.000000Z"}
    await race.shared.replace(LEASE, {"metadata": {"namespace": "headway", "name": "operator"}, "spec": stale})
    race.one.start()
    await race.clock.elapse(DURATION_S - RETRY_S)
    assert race.leads == (False, False)
    await race.clock.elapse(2 * RETRY_S)
    assert race.leads == (True, False)


async def test_started_twice_it_is_one(race: Race) -> None:
    race.one.start()
    race.one.start()
    await race.clock.settle()
    assert race.clock.sleeping == 1
