"""KubernetesPodLogs: the ``ReplicaLogs`` port by the API server, which asks the node that a pod is on.

A log is that of one container, as it runs now or ran last. Kubernetes starts one that has ended anew in the same pod:
who follows the pod goes on with the next one's log, from its beginning.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from headway.adapters.kubernetes.answers import check, unreachable
from headway.domain.errors import ClusterRefused, KindMissing, ReplicaNotFound
from headway.ports.clock import Clock

if TYPE_CHECKING:
    import httpx2

AGAIN_S: Final = 1.0
"""How often a pod is asked whether its next container has begun."""


class _Container(NamedTuple):
    starts: int
    """How often it was started anew."""
    runs: bool


class KubernetesPodLogs:
    """Of the pods of one namespace. Their names are the replicas'.

    ``container`` is whose log it is, where a pod has others too, as of a service mesh; None: of the only one.
    """

    def __init__(self, http: httpx2.AsyncClient, namespace: str, clock: Clock, *, container: str | None = None) -> None:
        self._http = http
        self._named = {} if container is None else {"container": container}
        self._clock = clock
        self._pods = f"/api/v1/namespaces/{namespace}/pods"

    async def logs(self, replica_id: str, *, tail_lines: int | None, follow: bool) -> AsyncGenerator[bytes]:
        """Of the container as it runs now or ran last; following ends when the pod does."""
        first = await self._container(replica_id) if follow else None
        async with aclosing(self._printed(replica_id, tail_lines, follow)) as chunks:
            async for chunk in chunks:
                yield chunk
        starts = 0 if first is None else first.starts
        ran = False
        while follow and (now := await self._container(replica_id)) is not None:
            # One that is said to run at two looks was not lost by its end, but by its connection: on from here.
            if now.starts > starts or (now.runs and ran):
                tail_lines, starts = (None if now.starts > starts else 0), now.starts
                async with aclosing(self._printed(replica_id, tail_lines, follow)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                now = now._replace(runs=False)
            ran = now.runs
            await self._clock.sleep(AGAIN_S)

    async def _printed(self, replica_id: str, tail_lines: int | None, follow: bool) -> AsyncGenerator[bytes]:
        import httpx2

        path = f"{self._pods}/{replica_id}/log"
        params = self._named | ({} if tail_lines is None else {"tailLines": str(tail_lines)})
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

    async def _container(self, replica_id: str) -> _Container | None:
        """None when the pod is gone, or on its way."""
        path = f"{self._pods}/{replica_id}"
        with unreachable():
            response = await self._http.get(path)
        try:
            check(response, path)
        except KindMissing:
            return None
        with unreachable():
            pod: dict[str, Any] = response.json()
        if pod["metadata"].get("deletionTimestamp"):
            return None
        found = (pod.get("status") or {}).get("containerStatuses") or ()
        if name := self._named.get("container"):
            found = [one for one in found if one.get("name") == name]
        starts = sum(int(one.get("restartCount", 0)) for one in found)
        return _Container(starts, any("running" in (one.get("state") or {}) for one in found))
