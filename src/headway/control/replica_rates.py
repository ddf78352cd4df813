"""ReplicaRates: from counters that only grow to what each replica does per second, over any window.

A rate is the difference of two measurements of the same process life over the time between them. For every window a
replica has a ring of measurements, at most one per sixtieth of the window, whose first is the newest one that is at
least the window's length old: adding and asking cost the same however long the window, and 62 measurements are all
that is kept of a window of an hour.

All replicas of a version share one interval, that of the one measured longest: what a younger one did is divided by it
too. So their sum is the version's own average over the window (as Knative computes it). Each over its own time, the sum
would be too high after every step up: with 8 requests in flight, at 1 replica for 8 s and at 4 for 2 s, the old one
would say 6.8 and the three new ones 2 each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from typing import Final

from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaStatus
from headway.ports.replica_stats import ReplicaStat
from headway.scaling.policy import ReplicaTrigger, Signal
from headway.scaling.samples import PerReplica, ReplicaReading

POINTS: Final = 60
"""Into which a window is divided: its beginning is known to 1/60 of it."""
LEAST_INTERVAL_S: Final = 0.5
"""A rate over less says more of the measuring than of the replica."""
STALE_S: Final = 10.0
"""A replica that has not been measured for so long has no rate."""
LEAVING: Final = frozenset({ReplicaPhase.STOPPING, ReplicaPhase.STOPPED})


class ReplicaHistory:
    """Measurements of one replica since it became ready."""

    __slots__ = ("_rings", "_steps", "_windows", "latest", "ready_at", "ready_since")

    def __init__(self, ready_at: float, ready_since: float) -> None:
        self.ready_at = ready_at
        """As the runtime says: another time means that it became ready anew."""
        self.ready_since = ready_since
        """The same moment on the monotonic clock."""
        self.latest: ReplicaStat | None = None
        self._windows: frozenset[float] = frozenset()
        self._rings: dict[float, deque[ReplicaStat]] = {}
        """By window; never empty once there is a measurement."""
        self._steps: tuple[tuple[float, float, deque[ReplicaStat]], ...] = ()
        """The same with the window and the least distance of two points in front."""

    def add(self, stat: ReplicaStat, windows: frozenset[float]) -> None:
        """Take in a measurement, for rates over ``windows`` (seconds) from now on."""
        at, latest = stat.at, self.latest
        if at < self.ready_since:
            return
        self.latest = stat
        if latest is None or stat.epoch != latest.epoch:
            self._begin(windows, stat)
            return
        if windows is not self._windows and windows != self._windows:
            self._rewindow(windows, stat)
        gap_s = at - latest.at
        if gap_s <= 0:
            self.latest = latest
            return
        for window_s, step_s, ring in self._steps:
            if gap_s > STALE_S and gap_s > window_s:
                ring.clear()  # nobody looked meanwhile: an average over that would be called one over the window
                ring.append(stat)
            elif at - ring[-1].at >= step_s:
                ring.append(stat)
            oldest = at - window_s
            while len(ring) > 1 and ring[1].at <= oldest:
                ring.popleft()

    def grown(self, counter: str, window_s: float) -> tuple[float, float, float] | None:
        """By how much ``counter`` has grown in the window, or since ready when that is shorter; from when, to when.

        None: not known.
        """
        latest, ring = self.latest, self._rings.get(window_s)
        if latest is None or ring is None:
            return None
        last: float | None = getattr(latest, counter)
        if last is None:
            return None
        for point in ring:  # the first one, unless the counter was not known then
            first: float | None = getattr(point, counter)
            if first is not None:
                since, until = point.at, latest.at
                return (last - first, since, until) if until - since >= LEAST_INTERVAL_S and last >= first else None
        return None

    def _begin(self, windows: frozenset[float], stat: ReplicaStat) -> None:
        self._set(windows, {window_s: deque((stat,)) for window_s in windows})

    def _rewindow(self, windows: frozenset[float], stat: ReplicaStat) -> None:
        """Another policy asks for other windows: begin them with the longest history there is."""
        longest = self._rings[max(self._rings)] if self._rings else deque((stat,))
        self._set(windows, {window_s: self._rings.get(window_s) or deque(longest) for window_s in windows})

    def _set(self, windows: frozenset[float], rings: dict[float, deque[ReplicaStat]]) -> None:
        self._windows, self._rings = windows, rings
        self._steps = tuple((window_s, window_s / POINTS, ring) for window_s, ring in rings.items())


class ReplicaRates:
    """Histories of all replicas that are ready, and the readings that triggers make of them."""

    def __init__(self) -> None:
        self._histories: dict[str, ReplicaHistory] = {}

    def __len__(self) -> int:
        return len(self._histories)

    def history(self, replica_id: str) -> ReplicaHistory | None:
        """Of one replica; None while it is not ready."""
        return self._histories.get(replica_id)

    def take_in(
        self,
        replicas: Iterable[ReplicaStatus],
        stats: Mapping[str, ReplicaStat],
        windows: frozenset[float],
        now: float,
        monotonic: float,
    ) -> None:
        """One round of measurements of replicas of one version, whose triggers look at ``windows``."""
        for replica in replicas:
            if replica.phase is not ReplicaPhase.READY:
                self._histories.pop(replica.replica_id, None)
                continue
            ready_at = replica.ready_at if replica.ready_at is not None else now
            history = self._histories.get(replica.replica_id)
            if history is None or (replica.ready_at is not None and history.ready_at != ready_at):
                # The wall clock may have been set since: whatever it says, it is not ready since the future.
                history = ReplicaHistory(ready_at, monotonic - max(0.0, now - ready_at))
                self._histories[replica.replica_id] = history
            stat = stats.get(replica.replica_id)
            if stat is not None:
                history.add(stat, windows)

    def keep(self, replica_ids: Collection[str]) -> None:
        """Forget all others."""
        if len(self._histories) > len(replica_ids) or not self._histories.keys() <= set(replica_ids):
            self._histories = {key: value for key, value in self._histories.items() if key in replica_ids}

    def reading(
        self,
        trigger: ReplicaTrigger,
        replicas: Sequence[ReplicaStatus],
        monotonic: float,
        cores: float,
        memory_bytes: int | None,
    ) -> PerReplica:
        """What ``trigger`` sees, each replica asking for so many ``cores`` and so much memory."""
        window_s = trigger.window_s
        burst_s = trigger.panic.window_s if trigger.panic is not None else None
        if trigger.signal is Signal.CPU:
            return self.utilization(replicas, window_s, monotonic, cores)
        if trigger.signal is Signal.MEMORY:
            return self.memory(replicas, monotonic, memory_bytes)
        if trigger.signal is Signal.CONCURRENCY:
            return self.concurrency(replicas, window_s, burst_s, monotonic)
        return self.throughput(replicas, window_s, burst_s, monotonic)

    def utilization(
        self, replicas: Sequence[ReplicaStatus], window_s: float, monotonic: float, cores: float
    ) -> PerReplica:
        """Processor time used, as a share of ``cores``."""
        return self._rates(replicas, "cpu_s", window_s, None, monotonic, 1 / cores)

    def memory(self, replicas: Iterable[ReplicaStatus], monotonic: float, limit: int | None) -> PerReplica:
        """Memory used now, as a share of ``limit``; unknown without one."""
        readings = []
        for replica in replicas:
            history = self._histories.get(replica.replica_id)
            if history is None:
                readings.append(_NOT_READY)
                continue
            value = age_s = None
            stat = history.latest
            if stat is not None:
                age_s = max(0.0, monotonic - stat.at)
                if age_s <= STALE_S and stat.memory_bytes is not None and limit is not None:
                    value = stat.memory_bytes / limit
            readings.append(ReplicaReading(True, max(0.0, monotonic - history.ready_since), value, None, age_s))
        return PerReplica(tuple(readings))

    def concurrency(
        self, replicas: Sequence[ReplicaStatus], window_s: float, panic_s: float | None, monotonic: float
    ) -> PerReplica:
        """Requests in flight, averaged over each window: the growth of request-seconds per second."""
        return self._rates(replicas, "in_flight_s", window_s, panic_s, monotonic, 1.0)

    def throughput(
        self, replicas: Sequence[ReplicaStatus], window_s: float, panic_s: float | None, monotonic: float
    ) -> PerReplica:
        """Requests finished per second."""
        return self._rates(replicas, "finished", window_s, panic_s, monotonic, 1.0)

    def _rates(
        self,
        replicas: Sequence[ReplicaStatus],
        counter: str,
        window_s: float,
        burst_s: float | None,
        monotonic: float,
        factor: float,
    ) -> PerReplica:
        histories = [self._histories.get(replica.replica_id) for replica in replicas]
        values = _averages(histories, counter, window_s, monotonic)
        bursts = _averages(histories, counter, burst_s, monotonic) if burst_s is not None else [None] * len(histories)
        readings = []
        for history, value, burst in zip(histories, values, bursts, strict=True):
            if history is None:
                readings.append(_NOT_READY)
                continue
            latest = history.latest
            readings.append(
                ReplicaReading(
                    True,
                    max(0.0, monotonic - history.ready_since),
                    None if value is None else value * factor,
                    None if burst is None else burst * factor,
                    None if latest is None else max(0.0, monotonic - latest.at),
                )
            )
        return PerReplica(tuple(readings))


def _averages(
    histories: Sequence[ReplicaHistory | None], counter: str, window_s: float, monotonic: float
) -> list[float | None]:
    """Growth per second of each replica that is known, over the interval that all of them share."""
    grown: list[tuple[float, float, float] | None] = []
    began_at = inf
    for history in histories:
        found = None
        if history is not None and history.latest is not None and monotonic - history.latest.at <= STALE_S:
            found = history.grown(counter, window_s)
            if found is not None and found[1] < began_at:
                began_at = found[1]
        grown.append(found)
    return [None if found is None else found[0] / (found[2] - began_at) for found in grown]


_NOT_READY: Final = ReplicaReading(False, 0.0, None)
