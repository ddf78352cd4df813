"""What happens on a cluster becomes events, each once and in order, whatever is lost, repeated or killed meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.local.clock import SystemClock
from headway.adapters.memory.event_relay import MemoryEventPublisher
from headway.adapters.sql import SqlDatabase, SqlEventLog, SqlRelayStore, SqlSightingStore
from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.control.event_relay import EventRelay
from headway.domain.cluster_objects import POD, Change, Kind
from headway.domain.errors import StorageFailed
from headway.domain.sightings import Step
from tests.services.kubernetes_api import KubernetesApi
from tests.services.model_world import IRIS, KINDS, bring_up, model, put, weights
from tests.services.told_world import Kubelet, caught_up, disorder, replica_events, short, telling
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(KINDS) as made:
        yield made


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqlDatabase]:
    made = SqlDatabase(tmp_path / "operator.db")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def store(database: SqlDatabase) -> SqlSightingStore:
    return SqlSightingStore(database)


@pytest.fixture
def log(database: SqlDatabase) -> SqlEventLog:
    return SqlEventLog(database)


async def told(log: SqlEventLog) -> list[str]:
    return [f"{one.version or '-'} {one.type.removesuffix('.v1')}" for one in await log.read()]


async def test_a_rollout_is_told_from_its_beginning_to_its_end(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog
) -> None:
    put(api, model("iris:1"))
    async with telling(api, store) as stream:
        await eventually(lambda: bring_up(api) and weights(api) == {"iris-v1": 100})

        async def serves() -> bool:
            return stream.settled and {"- traffic_shifted", "v1 version_live"} <= set(await told(log))

        live: Callable[[], bool | Awaitable[bool]] = serves
        await eventually(live)
        put(api, model("iris:2"))
        await eventually(lambda: bring_up(api) and weights(api) == {"iris-v2": 100})

        async def retired() -> bool:
            return bring_up(api) and "v1 version_retired" in await told(log)

        fact: Callable[[], bool | Awaitable[bool]] = retired
        await eventually(fact)
        await api.cluster.delete(MODEL_DEPLOYMENT, IRIS, "")

        async def deleted() -> bool:
            found = await told(log)
            return stream.settled and "- deployment_deleted" in found and found.count("- traffic_shifted") == 3

        gone: Callable[[], bool | Awaitable[bool]] = deleted
        await eventually(gone)
    events = await told(log)
    of_versions = [one for one in events if "version_" in one]
    assert [one for one in of_versions if one.startswith("v1")] == [
        f"v1 version_{state}" for state in ("created", "starting", "live", "draining", "retired")
    ]
    assert [one for one in of_versions if one.startswith("v2")] == [
        f"v2 version_{state}" for state in ("created", "starting", "live")
    ]
    shifts = [one.data for one in await log.read() if one.type == "traffic_shifted.v1"]
    assert [(one["old"], one["new"]) for one in shifts] == [
        ({}, {"v1": 100}), ({"v1": 100}, {"v2": 100}), ({"v2": 100}, {}),
    ]  # fmt: skip
    assert {one.data["namespace"] for one in await log.read()} == {"models"}


async def test_what_happens_while_nobody_looks_is_found_out(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog
) -> None:
    kubelet = Kubelet(api)
    stays, crashes, goes = (kubelet.start(name) for name in ("stays", "crashes", "goes"))
    async with telling(api, store) as stream:
        kubelet.ready(stays)
        await caught_up(api, store, stream)
    before = await log.last_cursor()
    kubelet.crash(crashes)
    kubelet.restart(crashes)
    kubelet.crash(crashes)
    await kubelet.remove(goes)
    kubelet.start("goes")  # another one of its name
    kubelet.start("new")
    async with telling(api, store) as stream:
        await caught_up(api, store, stream)
    found = [one for one in await replica_events(log) if one.cursor > before]
    assert short(found, "stays") == []
    assert short(found, "crashes") == ["exited", "started", "exited"]
    assert short(found, "goes") == ["stopped", "started"]
    assert short(found, "new") == ["started"]
    assert all(one.data["adopted"] for one in found)
    assert disorder(await replica_events(log)) == []
    async with telling(api, store) as stream:
        await caught_up(api, store, stream)
    assert await log.last_cursor() == found[-1].cursor, "nothing is told twice"


async def test_a_watch_that_has_to_begin_anew_loses_nothing(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog
) -> None:
    kubelet = Kubelet(api)
    pod, gone = kubelet.start("iris-v1-a"), kubelet.start("iris-v1-b")
    async with telling(api, store) as stream:
        await caught_up(api, store, stream)
        for _ in range(3):
            kubelet.ready(pod)
            kubelet.crash(pod)
            kubelet.restart(pod)
        await kubelet.remove(gone)
        api.cluster.forget()
        api.cut_watches()
        await caught_up(api, store, stream)
    events = await replica_events(log)
    assert disorder(events) == []
    assert short(events, "iris-v1-b") == ["started", "stopped"]
    # How often it was ready in between nobody can know any more; how often it ran is written on it.
    assert [one for one in short(events, "iris-v1-a") if one != "ready"] == ["started", *["exited", "started"] * 3]


@pytest.mark.parametrize("seed", range(3))
async def test_repeated_and_reordered_news_change_nothing(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog, seed: int
) -> None:
    kubelet = Kubelet(api, seed)
    pods = [kubelet.start(f"iris-v1-{number}") for number in range(3)]
    earlier: list[Change] = []

    def stream(kind: Kind, change: Change) -> list[Change]:
        if kind != POD:
            return [change]
        earlier.append(change)
        return [change, *kubelet.draw.sample(earlier, min(3, len(earlier))), change]

    async with telling(api, store) as told_by:
        await caught_up(api, store, told_by)
        api.faults.stream = stream
        for _ in range(60):
            kubelet.anything(kubelet.draw.choice(pods))
        await caught_up(api, store, told_by)
    events = await replica_events(log)
    assert disorder(events) == []
    assert sorted(str(one.key) for one in events) == sorted(map(str, kubelet.expected()))


async def test_news_that_never_come_are_made_up_for(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog
) -> None:
    kubelet = Kubelet(api, 7)
    pods = [kubelet.start(f"iris-v1-{number}") for number in range(3)]

    def stream(kind: Kind, change: Change) -> list[Change]:
        return [] if kind == POD and kubelet.draw.random() < 0.5 else [change]

    async with telling(api, store, resync_s=0.3) as told_by:
        await caught_up(api, store, told_by)
        api.faults.stream = stream
        for _ in range(40):
            kubelet.anything(kubelet.draw.choice(pods))
        for pod in pods:
            kubelet.leave(pod)
            await kubelet.remove(pod)
        await caught_up(api, store, told_by)
    events = await replica_events(log)
    assert disorder(events) == []
    runs = {key for key in kubelet.expected() if "started" in str(key) or "exited" in str(key)}
    seen = {one.key for one in events if one.type in ("replica_started.v1", "replica_exited.v1")}
    # All that is written on the last state that somebody saw; of one that went unseen its end alone.
    assert seen <= runs
    assert short(events).count("stopped") == 3


class Breaking:
    """A store whose answers are lost: after, or instead of, the writes that ``breaks`` names."""

    def __init__(self, store: SqlSightingStore, breaks: Sequence[str]) -> None:
        self._store = store
        self.breaks = list(breaks)
        self.load = store.load
        self.forget = store.forget

    async def record(self, steps: Sequence[Step]) -> None:
        how = self.breaks.pop(0) if self.breaks else ""
        if how != "before":
            await self._store.record(steps)
        if how:
            raise StorageFailed(f"the database broke off {how} it stored events")


@pytest.mark.parametrize("breaks", [["before"], ["after"], ["after", "before", "after"], ["before"] * 2])
async def test_a_database_that_breaks_off_before_or_after_it_stored(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog, breaks: list[str]
) -> None:
    kubelet = Kubelet(api, 3)
    pod = kubelet.start("iris-v1-a")
    breaking = Breaking(store, [])
    async with telling(api, breaking) as stream:
        await caught_up(api, store, stream)
        breaking.breaks = list(breaks)
        for _ in range(30):
            kubelet.anything(pod)
        await eventually(lambda: not breaking.breaks)
        await caught_up(api, store, stream)
    events = await replica_events(log)
    assert disorder(events) == []
    assert [str(one.key) for one in events] == list(map(str, kubelet.expected()))


async def test_a_process_that_dies_once_it_has_stored(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog
) -> None:
    """Killed at each of its first writes, before and after it: the next one goes on from what is stored."""
    kubelet = Kubelet(api, 5)
    pod = kubelet.start("iris-v1-a")
    for number in range(6):
        breaking = Breaking(store, ["after" if number % 2 else "before"])
        async with telling(api, breaking, str(number)):
            kubelet.crash(pod)
            kubelet.restart(pod)
            await eventually(lambda: not breaking.breaks, what="it wrote")  # noqa: B023
    async with telling(api, store, "last") as stream:
        await caught_up(api, store, stream)
    events = await replica_events(log)
    assert disorder(events) == []
    assert [str(one.key) for one in events] == list(map(str, kubelet.expected()))


async def test_two_that_both_believe_to_lead_do_no_harm(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog, database: SqlDatabase
) -> None:
    kubelet = Kubelet(api, 11)
    pods = [kubelet.start(f"iris-v1-{number}") for number in range(4)]
    other = SqlDatabase(database.path)
    await other.open()
    async with AsyncExitStack() as both:
        one = await both.enter_async_context(telling(api, store, "one", leads=lambda: True))
        two = await both.enter_async_context(telling(api, SqlSightingStore(other), "two", leads=lambda: True))
        for _ in range(30):
            for _ in range(4):
                kubelet.anything(kubelet.draw.choice(pods))
            await caught_up(api, store)
        await caught_up(api, store, one, two)
    await other.close()
    events = await replica_events(log)
    assert disorder(events) == []
    assert sorted(str(one.key) for one in events) == sorted(map(str, kubelet.expected()))


async def test_only_who_leads_tells_and_who_leads_next_tells_the_rest(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog
) -> None:
    kubelet = Kubelet(api, 2)
    pod = kubelet.start("iris-v1-a")
    first, second = [True], [False]
    async with AsyncExitStack() as both:
        one = await both.enter_async_context(telling(api, store, "one", leads=lambda: first[0]))
        two = await both.enter_async_context(telling(api, store, "two", leads=lambda: second[0]))
        await caught_up(api, store, one)
        assert not two.settled
        first[0] = False
        one.wake()
        kubelet.crash(pod)
        kubelet.restart(pod)
        await eventually(lambda: not one.settled)
        assert short(await replica_events(log)) == ["started"]
        second[0] = True
        two.wake()
        await caught_up(api, store, two)
    assert short(await replica_events(log)) == ["started", "exited", "started"]


async def test_an_operator_of_one_namespace_takes_nothing_elsewhere_for_gone(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog
) -> None:
    kubelet = Kubelet(api)
    kubelet.start("iris-v1-a")
    async with telling(api, store) as stream:
        await caught_up(api, store, stream)
    await api.cluster.delete(POD, IRIS._replace(name="iris-v1-a"), "")
    async with telling(api, store, namespace="other") as stream:
        await eventually(lambda: stream.settled)
    assert short(await replica_events(log)) == ["started"]


async def test_a_database_that_cannot_be_opened_yet_holds_up_nothing_but_events(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog
) -> None:
    put(api, model("iris:1"))
    tries: list[int] = []

    async def open_store() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StorageFailed("no route to host")

    async with telling(api, store, open_store=open_store) as stream:
        await eventually(lambda: bring_up(api) and weights(api) == {"iris-v1": 100})
        await eventually(lambda: stream.settled)
    assert "v1 version_live" in await told(log)


async def test_more_than_can_wait_is_cut_down_to_where_it_led(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.control.operator.event_stream.MOST_WAITING", 5)
    kubelet = Kubelet(api, 4)
    pods = [kubelet.start(f"iris-v1-{number}") for number in range(2)]
    breaking = Breaking(store, [])
    async with telling(api, breaking) as stream:
        await caught_up(api, store, stream)
        breaking.breaks = ["before"]
        for _ in range(40):
            kubelet.anything(kubelet.draw.choice(pods))
        await caught_up(api, store, stream)
    events = await replica_events(log)
    assert disorder(events) == []
    started = {str(one.key) for one in events if one.type == "replica_started.v1"}
    assert started == {key for key in map(str, kubelet.expected()) if "replica_started" in key}


async def test_events_are_relayed_by_who_leads(
    api: KubernetesApi, store: SqlSightingStore, log: SqlEventLog, database: SqlDatabase
) -> None:
    publisher = MemoryEventPublisher()
    relay = EventRelay(log, SqlRelayStore(database), publisher, SystemClock())
    kubelet = Kubelet(api)
    async with telling(api, store, relay=relay) as stream:
        await caught_up(api, store, stream)
        pod = kubelet.start("iris-v1-a")
        kubelet.ready(pod)
        await eventually(lambda: len({one.id for one in publisher.exchange.messages}) == 2)
    first, second = {one.id: one for one in publisher.exchange.messages}.values()
    uid = api.cluster.every(POD)[0]["metadata"]["uid"]
    assert (first.id, first.topic) == (f"{uid}/replica_started.v1/1", "model.iris.replica_started.v1")
    assert second.type == "replica_ready.v1"


async def test_a_quiet_cluster_asks_the_database_for_nothing(api: KubernetesApi, store: SqlSightingStore) -> None:
    put(api, model("iris:1"))
    async with telling(api, store) as stream:
        await eventually(lambda: bring_up(api) and weights(api) == {"iris-v1": 100} and stream.settled)
        calls: list[str] = []

        def counted(name: str) -> Any:
            async def call(*_: object) -> None:
                calls.append(name)

            return call

        for name in ("load", "record", "forget"):
            setattr(store, name, counted(name))
        stream.wake()
        await eventually(lambda: stream.settled and not stream._wake.is_set())
        assert calls == []
