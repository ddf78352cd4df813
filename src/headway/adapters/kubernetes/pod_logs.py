"""KubernetesPodLogs: the ``ReplicaLogs`` port by the API server, which asks the node that a pod is on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from headway.adapters.kubernetes.answers import check, unreachable
from headway.domain.errors import ClusterRefused, KindMissing, ReplicaNotFound

if TYPE_CHECKING:
    import httpx2


class KubernetesPodLogs:
    """Of the pods of one namespace. Their names are the replicas'."""

    def __init__(self, http: httpx2.AsyncClient, namespace: str) -> None:
        self._http = http
        self._namespace = namespace

    async def logs(self, replica_id: str, *, tail_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
        """Of the pod's container as it runs now, or ran last; following ends when that one does."""
        import httpx2

        path = f"/api/v1/namespaces/{self._namespace}/pods/{replica_id}/log"
        params = {} if tail_lines is None else {"tailLines": str(tail_lines)}
        if follow:
            params["follow"] = "true"
        # One that is followed may be silent for as long as it likes.
        timeout = httpx2.Timeout(self._http.timeout.connect, read=None if follow else self._http.timeout.read)
        with unreachable():
            async with self._http.stream("GET", path, params=params, timeout=timeout) as response:
                if not response.is_success:
                    await response.aread()
                try:
                    check(response, path)
                except KindMissing as error:
                    raise ReplicaNotFound(f"no replica {replica_id[:80]}", hint="headway status NAME") from error
                except ClusterRefused:
                    if response.status_code == 400:
                        return  # its container waits to be made, and has printed nothing
                    raise
                async for chunk in response.aiter_bytes():
                    yield chunk
