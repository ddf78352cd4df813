"""Leader: which of several operators writes, by a Lease that one of them holds.

As client-go's leader election: nobody compares clocks of two machines. A candidate watches the lease, and takes it
when it has not changed for its whole duration by the candidate's own clock; the holder stops to act when it could
not renew for a shorter time than that. Between the two lies the margin in which nobody acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Callable
from typing import Any, Final

from headway.domain.cluster_objects import LEASE, Name, Object
from headway.domain.errors import ClusterFailed, StaleWrite
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster

_log = logging.getLogger(__name__)

DURATION_S: Final = 15.0
RENEW_S: Final = 10.0
"""For how long after a renewal the holder acts."""
RETRY_S: Final = 2.0


class Leader:
    """A service. ``changed`` is called when the office is won or lost."""

    def __init__(
        self, cluster: Cluster, clock: Clock, lease: Name, identity: str, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._lease = lease
        self._identity = identity
        self._changed = changed
        self._leads_until = float("-inf")
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = float("-inf")
        self._told = False
        self._task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """Whether this one may write now."""
        return self._clock.monotonic() < self._leads_until

    def start(self) -> None:
        """Stand for election; nothing when it does already."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="leader")

    async def stop(self) -> None:
        """Step down: another may lead at once."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if self.leads:
            self._leads_until = float("-inf")
            with contextlib.suppress(ClusterFailed, StaleWrite):
                lease = await self._cluster.read(LEASE, self._lease)
                if lease is not None and _holder(lease) == self._identity:
                    await self._write(lease, holder="", seconds=1)
        self._tell()

    async def _run(self) -> None:
        while True:
            try:
                await self._try()
            except (ClusterFailed, StaleWrite) as error:
                _log.info("lease %s: %s", self._lease, error)
            self._tell()
            await self._clock.sleep(RETRY_S)

    async def _try(self) -> None:
        asked_at = self._clock.monotonic()
        lease = await self._cluster.read(LEASE, self._lease)
        if lease is not None and _holder(lease) != self._identity:
            spec = lease["spec"]
            seen = (_holder(lease), spec.get("renewTime"), spec.get("leaseTransitions"))
            if seen != self._seen:
                self._seen, self._seen_at = seen, asked_at
            if _holder(lease) and asked_at - self._seen_at < float(spec.get("leaseDurationSeconds", DURATION_S)):
                return
        await self._write(lease, holder=self._identity, seconds=int(DURATION_S))
        self._leads_until = asked_at + RENEW_S

    async def _write(self, lease: Object | None, *, holder: str, seconds: int) -> None:
        now = datetime.datetime.fromtimestamp(self._clock.now(), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = {"leaseTransitions": 0, "acquireTime": now} if lease is None else dict(lease["spec"])
        if lease is not None and _holder(lease) != holder:
            spec |= {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", 0) + 1}
        spec |= {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": now}
        metadata = {"namespace": self._lease.namespace, "name": self._lease.name}
        await self._cluster.replace(LEASE, {"metadata": lease["metadata"] if lease else metadata, "spec": spec})

    def _tell(self) -> None:
        if self._told != self.leads:
            self._told = self.leads
            self._changed()


def _holder(lease: Object) -> str:
    return str(lease["spec"].get("holderIdentity") or "")
