"""Logs of replicas keep the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from headway.adapters.kubernetes.pod_logs import KubernetesPodLogs
from headway.adapters.memory.replica_logs import MemoryReplicaLogs
from headway.domain.cluster_objects import POD
from headway.domain.errors import ClusterForbidden
from headway.ports.replica_logs import ReplicaLogs
from tests.contracts.replica_logs_contract import ReplicaLogsContract, read
from tests.services.kubernetes_api import KubernetesApi, refusal


class TestMemoryReplicaLogs(ReplicaLogsContract):
    @pytest.fixture
    def replicas(self) -> MemoryReplicaLogs:
        return MemoryReplicaLogs()

    @pytest.fixture
    def logs(self, replicas: MemoryReplicaLogs) -> ReplicaLogs:
        return replicas


class TestKubernetesPodLogs(ReplicaLogsContract):
    @pytest.fixture
    async def api(self) -> AsyncIterator[KubernetesApi]:
        async with KubernetesApi([POD]) as api:
            yield api

    @pytest.fixture
    def replicas(self, api: KubernetesApi) -> MemoryReplicaLogs:
        return api.logs

    @pytest.fixture
    async def logs(self, api: KubernetesApi) -> AsyncIterator[ReplicaLogs]:
        async with httpx2.AsyncClient(base_url=api.url) as http:
            yield KubernetesPodLogs(http, "models")

    async def test_a_container_that_waits_has_printed_nothing(self, api: KubernetesApi, logs: ReplicaLogs) -> None:
        api.faults.request = lambda _: refusal(400, 'container "model" is waiting to start: ContainerCreating')
        assert await read(logs) == b""

    async def test_rights_that_are_missing_are_told(self, api: KubernetesApi, logs: ReplicaLogs) -> None:
        api.faults.request = lambda _: refusal(403, "iris may not read pods/log")
        with pytest.raises(ClusterForbidden):
            await read(logs)
