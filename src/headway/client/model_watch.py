"""RestModelWatch: what a load test sees and sets of a model, over the control API alone.

It has a connection of its own, used on a thread, so that waiting for an answer holds up no request of the load.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from headway.api.schemas_scaling import ScalingView
from headway.client.client import Client
from headway.domain.errors import ControlUnreachable, HeadwayError, NotFound
from headway.domain.load_reports import ScalingMark
from headway.ports.model_watch import ModelLook
from headway.ports.replica_stats import ReplicaStat

T = TypeVar("T")
MOST_MARKS = 1000
PAUSES_S = (1.0, 2.0, 3.0, 4.0)


class RestModelWatch:
    """The ``ModelWatch`` port for ``model``; ``client`` is used by it alone. The caller closes it."""

    def __init__(self, client: Client, model: str, *, pauses_s: Sequence[float] = PAUSES_S) -> None:
        """``pauses_s``: before each further attempt at putting back what was there, while nothing answers."""
        self._client = client
        self._model = model
        self._pauses_s = pauses_s
        self._asking = asyncio.Lock()
        self._before: ScalingView | None = None
        self._set: list[tuple[float, str]] = []

    async def look(self) -> ModelLook | None:
        """See the port."""
        try:
            seen = await self._ask(lambda: self._client.usage(self._model))
        except HeadwayError:
            return None
        stats = tuple(
            ReplicaStat(one.name, one.at, one.epoch, cpu_s=one.cpu_s, memory_bytes=one.memory_bytes)
            for one in seen.replicas
        )
        return ModelLook(seen.ready, seen.wished, stats)

    async def decisions(self, since: float) -> Sequence[ScalingMark]:
        """See the port. Empty when they cannot be read; what this watch set itself is always there."""
        own = [ScalingMark(at - since, "", 0, 0, text) for at, text in self._set]
        marks: list[ScalingMark] = []
        with suppress(HeadwayError):
            found = await self._ask(
                lambda: self._client.decisions(self._model, since=since, changed=True, last=MOST_MARKS)
            )
            marks = [ScalingMark(one.at - since, one.version, one.current, one.desired, one.summary) for one in found]
        return sorted(own + marks, key=lambda mark: mark.at_s)

    async def set_replicas(self, count: int) -> None:
        """See the port."""
        await self._remember()
        await self._ask(lambda: self._fix(count))
        self._set.append((time.time(), f"set to {count} by the load test, triggers off"))

    async def set_scaling(self, policy: Mapping[str, Any]) -> None:
        """See the port."""
        await self._remember()
        await self._ask(lambda: self._client.set_scaling(self._model, policy))
        self._set.append((time.time(), "triggers set by the load test"))

    async def restore(self) -> None:
        """See the port. An error says how it was scaled, since nothing else remembers that."""
        before, self._before = self._before, None
        if before is None:
            return
        try:
            await self._patiently(lambda: self._put_back(before))
        except NotFound:
            return  # deleted meanwhile: there is nothing to scale
        except HeadwayError as error:
            raise type(error)(
                f"{self._model} could not be scaled as before: {error.message}",
                where=error.where,
                hint=f"to scale it so again: {_by_hand(before)}",
                details=error.details,
            ) from error

    def _put_back(self, before: ScalingView) -> None:
        if before.scaling is not None:
            self._client.set_scaling(self._model, before.scaling)
        else:
            self._fix(before.replicas)

    async def _patiently(self, call: Callable[[], None]) -> None:
        """A control plane that was started anew answers within seconds."""
        for pause_s in self._pauses_s:
            try:
                await self._ask(call)
                return
            except ControlUnreachable:
                await asyncio.sleep(pause_s)
        await self._ask(call)

    def _fix(self, count: int) -> None:
        if self._client.scaling(self._model).scaling is not None:
            self._client.set_scaling(self._model, None)
        self._client.scale(self._model, count)

    async def _remember(self) -> None:
        if self._before is None:
            self._before = await self._ask(lambda: self._client.scaling(self._model))

    async def _ask(self, call: Callable[[], T]) -> T:
        async with self._asking:
            return await asyncio.to_thread(call)


def _by_hand(before: ScalingView) -> str:
    """The command that scales it so again."""
    if before.scaling is None:
        return f"headway scale {before.model} {before.replicas}"
    policy = shlex.quote(json.dumps(before.scaling, separators=(",", ":")))
    return f"echo {policy} | headway autoscale {before.model} -f /dev/stdin"
