"""PodStats: what the pods of models are doing, asked of each model server over HTTP (``GET /stats``).

Every pod keeps one connection, and one question is open at a time. A reading waits a moment for the answers; who is
later is in the next one, and who does not answer is asked less often, so that a pod that hangs delays nobody twice.
A pod's counters are true for the moment that it names on its own clock, so rates are as exact as that, however late an
answer is read here. How its clock stands to ours is taken from the first answer of each life.

What a pod says comes from a user's container: it is bounded in size and time, and what is no plain counter is no data.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from headway.domain.latency_counts import BUCKETS
from headway.ports.clock import Clock
from headway.ports.replica_stats import LatencyCounts, ReplicaStat

TIMEOUT_S: Final = 3.0
"""For one answer, connecting included."""
PATIENCE_S: Final = 0.5
"""How long a reading waits for answers."""
AGAIN_S: Final = 10.0
"""After a failure."""
MOST_PER_S: Final = 250
"""Questions: with more pods each is asked less often, ..."""
LONGEST_S: Final = 6.0
"""... but not so seldom that what it said is out of date."""
AT_ONCE: Final = 64
MOST_BYTES: Final = 65_536
MOST_ASTRAY_S: Final = 5.0
"""By how much the two clocks may part, as when a node was stopped, until they are set anew."""
_PLACES: Final = frozenset(map(str, range(BUCKETS + 1)))
_REQUEST: Final = "GET /stats HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n"


class _Pod:
    """One pod: its connection, and what it last said."""

    __slots__ = ("address", "again_at", "ahead_s", "asked_at", "reader", "stat", "task", "writer")

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked_at = float("-inf")
        self.again_at = float("-inf")
        self.stat: ReplicaStat | None = None
        self.ahead_s = 0.0
        """Our clock minus its own."""
        self.task: asyncio.Task[None] | None = None
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    def hang_up(self) -> None:
        writer, self.reader, self.writer = self.writer, None, None
        if writer is not None:
            writer.close()


class PodStats:
    """The ``ReplicaStats`` port. ``addresses`` tells of every replica that can be asked its ``host:port``."""

    def __init__(self, addresses: Callable[[], Mapping[str, str]], clock: Clock) -> None:
        self._addresses = addresses
        self._clock = clock
        self._pods: dict[str, _Pod] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def read(self) -> tuple[ReplicaStat, ...]:
        """See the port."""
        addresses = self._addresses()
        for name in [name for name, pod in self._pods.items() if addresses.get(name) != pod.address]:
            self._forget(self._pods.pop(name))
        now = self._clock.monotonic()
        every_s = min(LONGEST_S, len(addresses) / MOST_PER_S) - 1.0
        for name, address in addresses.items():
            pod = self._pods.get(name)
            if pod is None:
                pod = self._pods[name] = _Pod(address)
            if pod.task is None and now >= pod.again_at and now - pod.asked_at >= every_s:
                pod.asked_at = now
                pod.task = asyncio.create_task(self._ask(name, pod), name=f"stats of {name}")
        asking = {pod.task for pod in self._pods.values() if pod.task is not None}
        if asking:
            await asyncio.wait(asking, timeout=PATIENCE_S)
        return tuple(pod.stat for pod in self._pods.values() if pod.stat is not None)

    async def close(self) -> None:
        """Hang up everywhere. Idempotent; may be read again."""
        pods, self._pods = list(self._pods.values()), {}
        tasks = [pod.task for pod in pods if pod.task is not None]
        for pod in pods:
            self._forget(pod)
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _forget(pod: _Pod) -> None:
        if pod.task is not None:
            pod.task.cancel()
        pod.hang_up()

    async def _ask(self, name: str, pod: _Pod) -> None:
        try:
            async with self._slots, asyncio.timeout(TIMEOUT_S):
                try:
                    answer = await _get(pod)
                except (OSError, asyncio.IncompleteReadError):
                    if pod.stat is None:
                        raise
                    pod.hang_up()  # the server may have closed an idle connection meanwhile
                    answer = await _get(pod)
            pod.stat = _stat(name, self._clock.monotonic(), answer, pod)
        except (OSError, ValueError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pod.stat = None
            pod.again_at = self._clock.monotonic() + AGAIN_S
            pod.hang_up()
        except asyncio.CancelledError:
            pod.hang_up()
            raise
        finally:
            pod.task = None


async def _get(pod: _Pod) -> bytes:
    """The body of an answer 200. Raises ``OSError``, ``ValueError``, ``IncompleteReadError``, ``LimitOverrunError``."""
    if pod.reader is None or pod.writer is None:
        host, _, port = pod.address.rpartition(":")
        pod.reader, pod.writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=MOST_BYTES)
    pod.writer.write(_REQUEST.format(host=pod.address).encode())
    head = (await pod.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    if not head[0].startswith("http/1.1 200"):
        raise ValueError(f"it answers {head[0]}")
    lengths = [line.partition(":")[2].strip() for line in head if line.startswith("content-length:")]
    if len(lengths) != 1 or not lengths[0].isdigit() or int(lengths[0]) > MOST_BYTES:
        raise ValueError("an answer without a sane length")
    return await pod.reader.readexactly(int(lengths[0]))


def _stat(name: str, now: float, body: bytes, pod: _Pod) -> ReplicaStat | None:
    """None: it makes no sense. ``pod`` has what it said before. Raises ``ValueError`` for what is no JSON."""
    try:
        said = json.loads(body)
    except RecursionError as error:
        raise ValueError("an answer that is nested too deep") from error
    if not isinstance(said, Mapping) or not isinstance(said.get("epoch"), str) or len(said["epoch"]) > 100:
        return None
    its_own = _number(said.get("at"))
    if its_own is None:
        its_own = now
    if pod.stat is None or pod.stat.epoch != said["epoch"] or abs(its_own + pod.ahead_s - now) > MOST_ASTRAY_S:
        pod.ahead_s = now - its_own
    return ReplicaStat(
        name,
        its_own + pod.ahead_s,
        said["epoch"],
        cpu_s=_number(said.get("cpu_s")),
        memory_bytes=_count(said.get("memory_bytes")),
        in_flight=_count(said.get("in_flight")),
        in_flight_s=_number(said.get("in_flight_s")),
        finished=_count(said.get("finished")),
        queue_s=_number(said.get("queue_s")),
        latency=_latency(said.get("latency")),
    )


def _latency(said: Any) -> LatencyCounts | None:
    if not isinstance(said, Mapping) or not isinstance(said.get("counts"), Mapping):
        return None
    total_s, queue_s = _number(said.get("total_s")), _number(said.get("queue_s"))
    counts = {int(place): _count(count) for place, count in said["counts"].items() if place in _PLACES}
    if total_s is None or queue_s is None or len(counts) != len(said["counts"]):
        return None
    return LatencyCounts({place: count for place, count in counts.items() if count}, total_s, queue_s)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):
        if math.isfinite(value) and value >= 0:
            return float(value)
    return None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
