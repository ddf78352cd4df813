"""What every deployment store does, the event log that it writes to included."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NamedTuple

import pytest

from headway.domain.deployments import Deployment, Version
from headway.domain.errors import HeadwayError, ModelNotFound, StaleWrite
from headway.domain.events import EventType, NewEvent
from headway.domain.lifecycle import DeploymentState, VersionState
from headway.domain.replicas import Failure
from headway.domain.routing_table import Arm, Shadow, Sticky
from headway.ports.deployment_store import DeploymentStore
from headway.ports.event_log import EventLog


class State(NamedTuple):
    """A store and the log that its events go to."""

    deployments: DeploymentStore
    log: EventLog

    async def told(self) -> list[str]:
        return [e.data["note"] for e in await self.log.read()]


def note(text: str) -> NewEvent:
    return NewEvent(5.0, EventType.DEPLOYMENT_CONFIGURED, "iris", data={"note": text})


def version(name: str = "v1", state: VersionState = VersionState.LIVE) -> Version:
    spec = {"model": {"entrypoint": None, "env": {"A": "é"}}, "server": {"timeout": 2.5, "list": [1, 2.0, True]}}
    return Version(name, "d" * 64, "b" * 64, 12.5, spec, state, 13.25)


FULL = Deployment(
    name="iris",
    created_at=1_700_000_000.125,
    state=DeploymentState.DEGRADED,
    message="v2 failed: \ud800",
    replicas=3,
    versions=(
        replace(version(), python="/env/bin/python", lock_digest="e" * 64),
        replace(
            version("v2", VersionState.FAILED),
            failure=Failure("load_failed", "ValueError: no", "model.py:3", "fix it", "tail\0\x1b[0m"),
        ),
    ),
    target=(Arm("v1", 90), Arm("v2", 10)),
    live=(Arm("v1", 100),),
    previous=(Arm("v2", 100),),
    sticky=Sticky("cookie", "hw"),
    shadow=Shadow("v2", 50),
    generation=7,
    extra={"labels": {"team": "a"}, "x": [1, None]},
)
BARE = Deployment(name="iris", created_at=1.0)


@pytest.mark.anyio
class DeploymentStoreContract:
    """Subclasses give a fixture ``state``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_nothing_is_there_at_first(self, state: State) -> None:
        assert await state.deployments.load_all() == []

    @pytest.mark.parametrize("deployment", [FULL, BARE], ids=["full", "bare"])
    async def test_what_is_saved_is_loaded_unchanged(self, state: State, deployment: Deployment) -> None:
        saved = await state.deployments.save(deployment)
        assert saved == replace(deployment, resource_version=saved.resource_version)
        assert saved.resource_version > 0
        (loaded,) = await state.deployments.load_all()
        assert loaded == saved
        assert type(loaded.state) is DeploymentState

    async def test_deployments_are_loaded_by_name(self, state: State) -> None:
        for name in ("wine", "a-b", "iris", "ab"):
            await state.deployments.save(replace(BARE, name=name, versions=(version(),)))
        assert [d.name for d in await state.deployments.load_all()] == ["a-b", "ab", "iris", "wine"]

    async def test_every_save_takes_effect_and_grows_the_resource_version(self, state: State) -> None:
        saved = await state.deployments.save(FULL)
        for changed in (replace(saved, replicas=5), replace(saved, sticky=None, shadow=None, target=())):
            again = await state.deployments.save(replace(changed, resource_version=saved.resource_version))
            assert again.resource_version > saved.resource_version
            assert await state.deployments.load_all() == [again]
            saved = again

    async def test_versions_change_come_and_keep_their_order(self, state: State) -> None:
        names = [f"v{n}" for n in range(1, 13)]
        saved = await state.deployments.save(replace(BARE, versions=tuple(version(n) for n in names[:11])))
        changed = saved.with_version(version("v2", VersionState.DRAINING)).with_version(version("v12"))
        saved = await state.deployments.save(changed)
        (loaded,) = await state.deployments.load_all()
        assert loaded == saved
        assert [v.name for v in loaded.versions] == names
        assert loaded.version("v2").state is VersionState.DRAINING
        fewer = await state.deployments.save(replace(saved, versions=saved.versions[3:5]))
        assert await state.deployments.load_all() == [fewer]

    async def test_a_save_based_on_an_older_state_changes_nothing(self, state: State) -> None:
        old = await state.deployments.save(BARE, [note("made")])
        new = await state.deployments.save(replace(old, replicas=2), [note("changed")])
        with pytest.raises(StaleWrite):
            await state.deployments.save(replace(old, replicas=9, versions=(version(),)), [note("too late")])
        assert await state.deployments.load_all() == [new]
        assert await state.told() == ["made", "changed"]

    async def test_a_name_is_taken_once_only(self, state: State) -> None:
        first = await state.deployments.save(BARE)
        with pytest.raises(StaleWrite):
            await state.deployments.save(FULL, [note("again")])
        assert await state.deployments.load_all() == [first]
        assert await state.told() == []

    async def test_what_is_not_there_cannot_be_updated(self, state: State) -> None:
        with pytest.raises(StaleWrite):
            await state.deployments.save(replace(BARE, resource_version=3), [note("no")])
        assert await state.deployments.load_all() == []
        assert await state.told() == []

    async def test_of_concurrent_saves_one_wins(self, state: State) -> None:
        base = await state.deployments.save(BARE)
        attempts = [state.deployments.save(replace(base, replicas=n), [note(str(n))]) for n in range(2, 10)]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        won = [r for r in results if isinstance(r, Deployment)]
        assert len(won) == 1
        assert all(isinstance(r, StaleWrite) for r in results if r is not won[0])
        assert await state.deployments.load_all() == won
        assert await state.told() == [str(won[0].replicas)]

    async def test_concurrent_saves_of_different_deployments_all_happen(self, state: State) -> None:
        names = [f"m{n}" for n in range(8)]
        saved = await asyncio.gather(*(state.deployments.save(replace(FULL, name=n), [note(n)]) for n in names))
        assert await state.deployments.load_all() == saved
        assert len({d.resource_version for d in saved}) == 8
        assert sorted(await state.told()) == names

    async def test_the_events_come_with_the_state(self, state: State) -> None:
        await state.deployments.save(BARE, [note("one"), note("two")])
        await state.deployments.delete("iris", [note("gone")])
        assert await state.told() == ["one", "two", "gone"]

    async def test_when_the_events_cannot_be_written_the_state_is_not_either(self, state: State) -> None:
        bad = NewEvent(1.0, EventType.DEPLOYMENT_CREATED, data={"x": object()})
        with pytest.raises(HeadwayError):
            await state.deployments.save(BARE, [note("good"), bad])
        assert await state.deployments.load_all() == []
        saved = await state.deployments.save(BARE)
        with pytest.raises(HeadwayError):
            await state.deployments.delete("iris", [bad])
        assert await state.deployments.load_all() == [saved]
        assert await state.told() == []

    async def test_a_save_wakes_those_who_wait_for_events(self, state: State) -> None:
        cursor = await state.log.append([note("before")])
        waiter = asyncio.create_task(state.log.wait(cursor, 60))
        await asyncio.sleep(0)
        await state.deployments.save(BARE, [note("after")])
        async with asyncio.timeout(20):
            assert await waiter is True

    async def test_deleting_removes_all_but_the_events(self, state: State) -> None:
        await state.deployments.save(replace(FULL, name="other"))
        await state.deployments.save(FULL, [note("made")])
        await state.deployments.delete("iris")
        assert [d.name for d in await state.deployments.load_all()] == ["other"]
        assert await state.told() == ["made"]
        again = await state.deployments.save(BARE)
        assert again.versions == ()
        assert await state.deployments.load_all() == [again, *await self._others(state)]

    async def _others(self, state: State) -> list[Deployment]:
        return [d for d in await state.deployments.load_all() if d.name != "iris"]

    async def test_deleting_what_is_not_there(self, state: State) -> None:
        with pytest.raises(ModelNotFound):
            await state.deployments.delete("iris", [note("no")])
        assert await state.told() == []

    async def test_a_deployment_made_again_is_not_the_one_before(self, state: State) -> None:
        old = await state.deployments.save(BARE)
        await state.deployments.delete("iris")
        new = await state.deployments.save(BARE)
        with pytest.raises(StaleWrite):
            await state.deployments.save(replace(old, replicas=9))
        assert await state.deployments.load_all() == [new]

    async def test_nobody_changes_the_state_through_what_they_hold(self, state: State) -> None:
        mine = replace(FULL, extra={"list": [1]})
        saved = await state.deployments.save(mine)
        mine.extra["list"].append(2)
        (loaded,) = await state.deployments.load_all()
        loaded.extra["list"].append(3)
        loaded.versions[0].spec["new"] = 1
        (again,) = await state.deployments.load_all()
        assert again.extra == {"list": [1]}
        assert again.versions[0].spec == FULL.versions[0].spec
        assert saved.resource_version == again.resource_version

    async def test_a_cancelled_save_happened_wholly_or_not_at_all(self, state: State) -> None:
        base = await state.deployments.save(BARE)
        task = asyncio.create_task(state.deployments.save(replace(base, replicas=2), [note("saved")]))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        # What waits behind it shows that it has come to its end.
        await state.log.append([note("later")])
        (loaded,) = await state.deployments.load_all()
        told = await state.told()
        assert (loaded.replicas, told) in [(1, ["later"]), (2, ["saved", "later"])]
        await state.deployments.save(replace(loaded, replicas=3))
