"""SecretSources: outside signals with what a Secret holds, read by name where the operator was given the right to.

The operator has no right to Secrets of its own. Whoever wants a trigger to use one grants it ``get`` on that one, in
their own namespace; without, there is no data, and the reason says what to grant. What is read stays in memory for a
minute, and is never written anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from headway.domain.cluster_objects import Kind, Name
from headway.domain.errors import ClusterFailed, ClusterForbidden, SignalLost
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster
from headway.ports.metric_source import MetricSource

SECRET: Final = Kind("v1", "Secret", "secrets")
AGAIN_S: Final = 60.0
UNUSED_S: Final = 1800.0
Sources = Mapping[str, MetricSource]
"""By type of trigger."""


@dataclass(slots=True)
class _Held:
    env: Mapping[str, str]
    sources: Sources
    read_at: float
    used_at: float


class SecretSources:
    """``make`` gives the sources that read what triggers name in ``…FromEnv`` from a mapping."""

    def __init__(self, cluster: Cluster, clock: Clock, make: Callable[[Mapping[str, str]], Sources]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._make = make
        self._held: dict[Name, _Held] = {}
        self._lock = asyncio.Lock()

    async def of(self, secret: Name) -> Sources:
        """The sources with what ``secret`` holds. Raises ``SignalLost`` when it cannot be read."""
        async with self._lock:
            now = self._clock.monotonic()
            held = self._held.get(secret)
            if held is None or now - held.read_at >= AGAIN_S:
                held = await self._read(secret, held, now)
            held.used_at = now
            for name in [name for name, other in self._held.items() if now - other.used_at > UNUSED_S]:
                await _close(self._held.pop(name).sources)
            return held.sources

    async def close(self) -> None:
        """Let go of every connection. Idempotent."""
        held, self._held = list(self._held.values()), {}
        for one in held:
            await _close(one.sources)

    async def _read(self, secret: Name, held: _Held | None, now: float) -> _Held:
        try:
            found = await self._cluster.read(SECRET, secret)
        except ClusterForbidden as error:
            raise SignalLost(
                f"the operator may not read Secret {secret}: grant its service account get on that one Secret"
            ) from error
        except ClusterFailed as error:
            if held is not None:
                held.read_at = now  # what was read serves on while the API server is away
                return held
            raise SignalLost(f"Secret {secret} cannot be read: {error.message}") from error
        if found is None:
            raise SignalLost(f"there is no Secret {secret}")
        env = _decoded(found.get("data") or {})
        if held is None or held.env != env:
            if held is not None:
                await _close(held.sources)
            held = self._held[secret] = _Held(env, self._make(env), now, now)
        held.read_at = now
        return held


def _decoded(data: Mapping[str, str]) -> dict[str, str]:
    """What is text of it; a trigger that names another key is told that there is none."""
    found = {}
    for key, value in data.items():
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found


async def _close(sources: Sources) -> None:
    for source in {id(source): source for source in sources.values()}.values():
        await source.close()
