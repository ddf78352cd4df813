"""The clusters keep the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from headway.adapters.kubernetes.cluster import KubernetesCluster
from headway.adapters.memory.cluster import MemoryCluster
from headway.domain.cluster_objects import DEPLOYMENT, LEASE, Kind, Object
from headway.ports.cluster import Cluster
from tests.contracts.cluster_contract import MODEL, SERVICE, UNKNOWN, ClusterContract, service
from tests.services.kubernetes_api import KubernetesApi


def http_client(api: KubernetesApi) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=api.url)


class _Other(MemoryCluster):
    """The same cluster under another field manager."""

    def __init__(self, shared: MemoryCluster) -> None:
        super().__init__()
        self.shared = shared

    async def apply(self, kind: Kind, item: Object, *, subresource: str = "") -> Object:
        return self.shared.apply_as("other", kind, item, subresource=subresource)


class TestMemoryCluster(ClusterContract):
    @pytest.fixture
    def cluster(self) -> MemoryCluster:
        made = MemoryCluster()
        made.missing.add(UNKNOWN)
        return made

    @pytest.fixture
    def other(self, cluster: MemoryCluster) -> Cluster:
        return _Other(cluster)

    @pytest.fixture
    def forget(self, cluster: MemoryCluster) -> Callable[[], None]:
        return cluster.forget


class TestKubernetesCluster(ClusterContract):
    @pytest.fixture
    async def api(self) -> AsyncIterator[KubernetesApi]:
        async with KubernetesApi([SERVICE, MODEL, DEPLOYMENT, LEASE]) as api:
            api.page = 2
            yield api

    @pytest.fixture
    async def cluster(self, api: KubernetesApi) -> AsyncIterator[Cluster]:
        async with http_client(api) as http:
            yield KubernetesCluster(http)

    @pytest.fixture
    async def other(self, api: KubernetesApi) -> AsyncIterator[Cluster]:
        async with http_client(api) as http:
            yield KubernetesCluster(http, manager="other")

    @pytest.fixture
    def forget(self, api: KubernetesApi) -> Callable[[], None]:
        return api.cluster.forget

    async def test_one_namespace_is_all_that_is_asked_for(self, api: KubernetesApi) -> None:
        async with http_client(api) as http:
            cluster = KubernetesCluster(http, "team-b")
            await cluster.apply(SERVICE, service())
            await cluster.apply(SERVICE, service("wine", namespace="team-b"))
            listing = await cluster.listing(SERVICE, {})
            assert [item["metadata"]["name"] for item in listing.objects] == ["wine"]
            assert set(api.asked("LIST")) == {"/api/v1/namespaces/team-b/services"}
