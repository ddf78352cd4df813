"""What every cluster does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headway.domain.cluster_objects import DEPLOYMENT, Change, Kind, Name, Object, name_of, uid_of, version_of
from headway.domain.errors import KindMissing, StaleWrite, WatchExpired
from headway.ports.cluster import Cluster

SERVICE = Kind("v1", "Service", "services")
MODEL = Kind("headway.dev/v1alpha1", "ModelDeployment", "modeldeployments")
UNKNOWN = Kind("example.com/v1", "Nothing", "nothings")
OURS = {"app.kubernetes.io/managed-by": "headway"}


def service(name: str = "iris", *, namespace: str = "team-a", labels: dict[str, str] = OURS, **spec: Any) -> Object:
    return {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": spec or {"type": "ClusterIP"},
    }  # fmt: skip


async def told(cluster: Cluster, version: str, count: int, labels: dict[str, str] = OURS) -> list[Change]:
    """The next ``count`` changes of services, bookmarks left out."""
    found: list[Change] = []
    async with asyncio.timeout(30):
        async for change in cluster.watch(SERVICE, labels, version):
            if change.type != "bookmark":
                found.append(change)
            if len(found) == count:
                break
    return found


@pytest.mark.anyio
class ClusterContract:
    """Subclasses give a fixture ``cluster``, and ``forget``: a call after which old versions are forgotten."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_an_apply_makes_it_and_another_changes_it(self, cluster: Cluster) -> None:
        made = await cluster.apply(SERVICE, service(type="ClusterIP", externalName="a"))
        assert uid_of(made)
        assert version_of(made)
        changed = await cluster.apply(SERVICE, service(type="ClusterIP"))
        assert changed["spec"] == {"type": "ClusterIP"}
        assert uid_of(changed) == uid_of(made)
        assert version_of(changed) != version_of(made)
        assert await cluster.read(SERVICE, Name("team-a", "iris")) == changed
        assert (changed["apiVersion"], changed["kind"]) == ("v1", "Service")

    async def test_an_apply_that_changes_nothing_makes_no_version(self, cluster: Cluster) -> None:
        made = await cluster.apply(SERVICE, service())
        assert version_of(await cluster.apply(SERVICE, service())) == version_of(made)

    async def test_what_others_own_stays(self, cluster: Cluster, other: Cluster) -> None:
        await cluster.apply(SERVICE, service(type="ClusterIP"))
        theirs = service(sessionAffinity="ClientIP", labels={"team": "a"})
        await other.apply(SERVICE, theirs)
        both = await cluster.apply(SERVICE, service(internalTrafficPolicy="Local"))
        assert both["spec"] == {"sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local"}
        assert both["metadata"]["labels"] == {**OURS, "team": "a"}

    async def test_a_field_of_both_is_the_last_ones_and_stays_when_one_gives_it_up(
        self, cluster: Cluster, other: Cluster
    ) -> None:
        await cluster.apply(SERVICE, service(type="ClusterIP"))
        await other.apply(SERVICE, service(type="ClusterIP"))
        assert (await cluster.apply(SERVICE, service(externalName="x")))["spec"]["type"] == "ClusterIP"
        assert (await cluster.apply(SERVICE, service(type="NodePort")))["spec"]["type"] == "NodePort"

    async def test_status_is_a_thing_apart(self, cluster: Cluster) -> None:
        iris = {"metadata": {"name": "iris", "namespace": "team-a"}}
        made = await cluster.apply(MODEL, {**iris, "spec": {"a": 1}})
        told = await cluster.apply(MODEL, {**iris, "status": {"ready": 2}}, subresource="status")
        assert (told["spec"], told["status"]) == ({"a": 1}, {"ready": 2})
        assert told["metadata"]["generation"] == made["metadata"]["generation"]
        again = await cluster.apply(MODEL, {**iris, "spec": {"a": 2}})
        assert again["status"] == {"ready": 2}
        assert again["metadata"]["generation"] == made["metadata"]["generation"] + 1

    async def test_the_status_of_nothing_is_not_kept(self, cluster: Cluster) -> None:
        gone = {"metadata": {"name": "gone", "namespace": "team-a"}, "status": {"ready": 2}}
        with pytest.raises((StaleWrite, KindMissing)):
            await cluster.apply(MODEL, gone, subresource="status")

    async def test_a_scale_is_the_number_of_replicas_alone(self, cluster: Cluster, other: Cluster) -> None:
        theirs = {"metadata": {"name": "w", "namespace": "team-a"}}
        await other.apply(DEPLOYMENT, {**theirs, "spec": {"replicas": 1, "paused": True}})
        await cluster.apply(DEPLOYMENT, {**theirs, "spec": {"replicas": 7}}, subresource="scale")
        found = await cluster.read(DEPLOYMENT, Name("team-a", "w"))
        assert found is not None
        assert found["spec"] == {"replicas": 7, "paused": True}
        gone = {"metadata": {"name": "gone", "namespace": "team-a"}, "spec": {"replicas": 7}}
        with pytest.raises((StaleWrite, KindMissing)):
            await cluster.apply(DEPLOYMENT, gone, subresource="scale")

    async def test_replace_makes_once_and_never_overwrites_what_it_has_not_seen(self, cluster: Cluster) -> None:
        made = await cluster.replace(SERVICE, service())
        with pytest.raises(StaleWrite):
            await cluster.replace(SERVICE, service())
        changed = await cluster.replace(SERVICE, {**made, "spec": {"type": "NodePort"}})
        with pytest.raises(StaleWrite):
            await cluster.replace(SERVICE, {**made, "spec": {"type": "ExternalName"}})
        assert await cluster.read(SERVICE, name_of(made)) == changed

    async def test_a_delete_meets_only_the_one_it_means(self, cluster: Cluster) -> None:
        made = await cluster.apply(SERVICE, service())
        await cluster.delete(SERVICE, name_of(made), "another")
        assert await cluster.read(SERVICE, name_of(made)) is not None
        for _ in range(2):
            await cluster.delete(SERVICE, name_of(made), uid_of(made))
        assert await cluster.read(SERVICE, name_of(made)) is None

    async def test_a_list_has_what_carries_the_labels(self, cluster: Cluster) -> None:
        for number in range(5):
            await cluster.apply(SERVICE, service(f"iris-{number}"))
        await cluster.apply(SERVICE, service("other", labels={"a": "b"}))
        listing = await cluster.listing(SERVICE, OURS)
        assert sorted(name_of(item).name for item in listing.objects) == [f"iris-{number}" for number in range(5)]
        assert {item["kind"] for item in listing.objects} == {"Service"}
        assert len((await cluster.listing(SERVICE, {})).objects) == 6

    async def test_a_watch_goes_on_from_the_list(self, cluster: Cluster) -> None:
        made = await cluster.apply(SERVICE, service())
        listing = await cluster.listing(SERVICE, OURS)
        changed = await cluster.apply(SERVICE, service(type="NodePort"))
        await cluster.apply(SERVICE, service("unseen", labels={}))
        second = await cluster.apply(SERVICE, service("second"))
        await cluster.delete(SERVICE, name_of(made), uid_of(made))
        found = await told(cluster, listing.resource_version, 3)
        assert [(change.type, name_of(change.object).name) for change in found] == [
            ("modified", "iris"), ("added", "second"), ("deleted", "iris"),
        ]  # fmt: skip
        assert [change.object for change in found[:2]] == [changed, second]
        assert [c.object for c in await told(cluster, version_of(changed), 1)] == [second]

    async def test_a_watch_tells_what_happens_while_it_lasts(self, cluster: Cluster) -> None:
        listing = await cluster.listing(SERVICE, OURS)
        waiting = asyncio.create_task(told(cluster, listing.resource_version, 1))
        made = await cluster.apply(SERVICE, service())
        assert [change.object for change in await waiting] == [made]

    async def test_an_object_that_loses_its_labels_is_gone(self, cluster: Cluster, other: Cluster) -> None:
        made = await cluster.apply(SERVICE, service())
        await cluster.replace(SERVICE, {**made, "metadata": {**made["metadata"], "labels": {}}})
        assert [change.type for change in await told(cluster, version_of(made), 1)] == ["deleted"]

    async def test_a_forgotten_version_is_told(self, cluster: Cluster, forget: Any) -> None:
        made = await cluster.apply(SERVICE, service())
        await cluster.apply(SERVICE, service(type="NodePort"))
        forget()
        with pytest.raises(WatchExpired):
            await told(cluster, version_of(made), 1)

    async def test_a_kind_that_is_not_installed(self, cluster: Cluster) -> None:
        with pytest.raises(KindMissing):
            await cluster.listing(UNKNOWN, {})
        with pytest.raises(KindMissing):
            await anext(cluster.watch(UNKNOWN, {}, "1"))
