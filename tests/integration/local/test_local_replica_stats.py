"""Stats of real replicas: started on their own, of several workers, forked from a template, killed and back again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psutil
import pytest

from headway.adapters.local import LocalReplicaStats, SystemClock
from headway.adapters.local.runtime import LocalRuntime
from headway.domain.lifecycle import ReplicaPhase
from headway.ports.replica_stats import ReplicaStat
from tests.contracts.runtime_contract import ControlPlane
from tests.integration.local.hand import LocalHand
from tests.integration.local.test_local_templates import ONE, THREE, TWO, ask, hand, warm_spec
from tests.waiting import eventually

__all__ = ["hand"]

pytestmark = pytest.mark.anyio
NAMES = {ONE: "forked", TWO: "alone", THREE: "workers"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Watch:
    """One adapter on the replicas of a control plane."""

    def __init__(self, hand: LocalHand, runtime: LocalRuntime) -> None:
        self.stats = LocalReplicaStats(hand.home, SystemClock(), runtime.processes_of)

    async def of(self, replica_id: str) -> ReplicaStat | None:
        return next((one for one in await self.stats.read() if one.replica_id == replica_id), None)

    async def until(self, replica_id: str, *, finished: int | None = None, weighed: bool = False) -> ReplicaStat:
        """The first stat of an idle replica that has answered so many, and whose memory is known if it is to be."""

        async def fits() -> ReplicaStat | None:
            one = await self.of(replica_id)
            if one is None or one.in_flight != 0 or finished not in (None, one.finished):
                return None
            return one if one.memory_bytes is not None or not weighed else None

        found: ReplicaStat | None = await eventually(fits, what=f"{replica_id} has answered {finished}")
        assert found is not None
        return found


async def test_every_kind_of_replica_is_counted(hand: LocalHand) -> None:
    runtime = hand.runtime()
    async with ControlPlane(runtime) as control:
        forked, alone = warm_spec(hand), replace(warm_spec(hand, TWO), warm=False)
        workers = replace(warm_spec(hand, THREE), warm=False, server={"workers": 2})
        await control.runtime.apply([forked, alone, workers])
        for name in NAMES:
            await eventually(lambda name=name: ReplicaPhase.READY in control.phases(name))  # type: ignore[misc]
        watch = Watch(hand, runtime)
        for name, kind in NAMES.items():
            before = await watch.until(name, finished=0)
            for _ in range(3):
                await ask(control.status(name))
            after = await watch.until(name, finished=3)
            assert after.epoch == before.epoch, kind
            assert after.at > before.at
            assert after.cpu_s is not None
            assert before.cpu_s is not None
            assert after.cpu_s >= before.cpu_s > 0
            assert after.in_flight_s is not None
            assert 0 < after.in_flight_s < 60
        stats = {one.replica_id: one for one in await watch.stats.read()}
        assert stats.keys() == NAMES.keys()

        one = await watch.until(TWO, weighed=True)
        status = control.status(TWO)
        assert status is not None
        assert one.memory_bytes is not None
        resident = psutil.Process(status.pid).memory_info().rss
        assert resident / 4 < one.memory_bytes <= resident * 1.1
        # One that is killed begins another life.
        hand.kill(status)
        await control.until(ReplicaPhase.READY, TWO, restarts=1)
        again = await watch.until(TWO, finished=0)
        assert again.epoch != stats[TWO].epoch
    assert await watch.stats.read() == ()
    watch.stats.close()


async def test_stats_go_on_over_a_restart_of_the_control_plane(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.runtime.apply([replace(warm_spec(hand), warm=False)])
        await control.until(ReplicaPhase.READY)
        await asyncio.gather(ask(control.status()), ask(control.status()))
        runtime = control.runtime
        assert isinstance(runtime, LocalRuntime)
        before = await Watch(hand, runtime).until(ONE, finished=2)
    later = hand.runtime()
    async with ControlPlane(later) as control:
        after = await Watch(hand, later).until(ONE, finished=2)
        assert after.epoch == before.epoch
        assert after.at > before.at
