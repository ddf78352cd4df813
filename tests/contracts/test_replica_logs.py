"""Logs of replicas keep the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from headway.adapters.kubernetes.pod_logs import KubernetesPodLogs
from headway.adapters.local.clock import SystemClock
from headway.adapters.memory.replica_logs import MemoryReplicaLogs
from headway.domain.cluster_objects import POD, Name
from headway.domain.errors import ClusterForbidden
from headway.ports.replica_logs import ReplicaLogs
from tests.contracts.replica_logs_contract import ONE, ReplicaLogsContract, read
from tests.services.kubernetes_api import KubernetesApi, refusal
from tests.waiting import eventually


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
            yield KubernetesPodLogs(http, "models", SystemClock())

    async def test_a_container_that_is_started_anew_is_followed_from_its_begin(
        self, api: KubernetesApi, logs: ReplicaLogs
    ) -> None:
        def pod(restarts: int, **state: Any) -> None:
            status = {"containerStatuses": [{"restartCount": restarts, "state": state}]}
            metadata = {"name": ONE, "namespace": "models"}
            api.cluster.apply_as("kubelet", POD, {"metadata": metadata})
            api.cluster.apply_as("kubelet", POD, {"metadata": metadata, "status": status}, subresource="status")

        pod(0, running={})
        api.logs.write(ONE, b"one\ntwo\n")
        found = bytearray()

        async def follow() -> None:
            async for chunk in logs.logs(ONE, tail_lines=1, follow=True):
                found.extend(chunk)

        following = asyncio.create_task(follow())
        await eventually(lambda: found == b"two\n", what="the end of the first")
        pod(0, waiting={"reason": "CrashLoopBackOff"})
        api.logs.end(ONE)
        await eventually(lambda: api.requests[-1] == ("GET", f"/api/v1/namespaces/models/pods/{ONE}"), what="a look")
        api.logs.write(ONE, b"three\nfour\n")
        pod(1, running={})
        await eventually(lambda: found == b"two\nthree\nfour\n", what="all of the second")
        await api.cluster.delete(POD, Name("models", ONE), "")
        api.logs.end(ONE)
        await asyncio.wait_for(following, 60)

    async def test_a_pod_that_a_mesh_has_put_a_container_in_is_asked_for_the_model_servers(
        self, api: KubernetesApi
    ) -> None:
        def many(request: Request) -> Response | None:
            if request.query_params.get("container") == "model":
                return None
            return refusal(400, f"a container name must be specified for pod {ONE}, choose one of: [model proxy]")

        api.faults.request = many
        api.logs.write(ONE, b"one\n")
        async with httpx2.AsyncClient(base_url=api.url) as http:
            named = KubernetesPodLogs(http, "models", SystemClock(), container="model")
            assert await read(named) == b"one\n"

    async def test_a_container_that_waits_has_printed_nothing(self, api: KubernetesApi, logs: ReplicaLogs) -> None:
        api.faults.request = lambda _: refusal(400, 'container "model" is waiting to start: ContainerCreating')
        assert await read(logs) == b""

    async def test_rights_that_are_missing_are_told(self, api: KubernetesApi, logs: ReplicaLogs) -> None:
        api.faults.request = lambda _: refusal(403, "iris may not read pods/log")
        with pytest.raises(ClusterForbidden):
            await read(logs)
