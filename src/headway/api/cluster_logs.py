"""Log lines of a model's pods in one stream, as those of replicas on one machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

from headway.api.log_lines import LOOK_S, Following, one_after_the_other, released
from headway.cluster.standing import Standing
from headway.control.cluster_models import ClusterModels
from headway.domain.errors import ClusterFailed, ModelNotFound, ReplicaNotFound, VersionNotFound
from headway.ports.replica_logs import ReplicaLogs


async def cluster_logs(
    models: ClusterModels,
    logs: ReplicaLogs,
    name: str,
    *,
    replica: str | None,
    version: str | None,
    tail: int | None,
    follow: bool,
) -> AsyncGenerator[bytes, None]:
    """Chunks of whole lines, each line led by its pod's name when there are several.

    Following, pods that come later are included. Raises ``ModelNotFound``, ``VersionNotFound``, ``ReplicaNotFound``.
    """
    standing = await models.get(name)
    if version is not None and version not in {one.name for one in standing.versions}:
        raise VersionNotFound(f"model {name} has no version {version}", hint=f"headway versions {name}")
    present = _begun(standing, replica, version)
    if replica is not None and replica not in {pod.name for pod in standing.pod_states()}:
        raise ReplicaNotFound(f"model {name} has no replica {replica[:80]!r}", hint=f"headway status {name}")
    if not follow:
        source = one_after_the_other(logs, present, tail)
    else:
        source = _followed(models, logs, name, replica, version, tail, present)
    async with released(source):
        async for chunk in source:
            yield chunk


async def _followed(
    models: ClusterModels,
    logs: ReplicaLogs,
    name: str,
    replica: str | None,
    version: str | None,
    tail: int | None,
    present: Sequence[str],
) -> AsyncGenerator[bytes, None]:
    known: Sequence[str] | None = present

    async def look() -> None:
        nonlocal known
        while known is not None:
            await models.clock.sleep(LOOK_S)
            try:
                known = _begun(await models.get(name), replica, version)
            except ModelNotFound:
                known = None
            except ClusterFailed:
                continue  # it is asked again

    looking = asyncio.create_task(look(), name="pods to follow")
    source = Following(logs, models.clock, tail, lambda: known).stream()
    try:
        async with released(source):
            async for chunk in source:
                yield chunk
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


def _begun(standing: Standing, replica: str | None, version: str | None) -> list[str]:
    """Pods whose container has run; the others have nothing to say yet."""
    return [
        pod.name
        for pod in standing.pod_states()
        if pod.has_run and replica in (None, pod.name) and version in (None, pod.version)
    ]
