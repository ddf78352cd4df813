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
from typing import Final

from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaStatus
from headway.ports.replica_stats import ReplicaStat
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

    __slots__ = ("_rings", "latest", "ready_at", "ready_since")

    def __init__(self, ready_at: float, ready_since: float) -> None:
        self.ready_at = ready_at
        """As the runtime says: another time means that it became ready anew."""
        self.ready_since = ready_since
        """The same moment on the monotonic clock."""
        self.latest: ReplicaStat | None = None
        self._rings: dict[float, deque[ReplicaStat]] = {}

    def add(self, stat: ReplicaStat, windows: frozenset[float]) -> None:
        """Take in a measurement, for rates over ``windows`` (seconds) from now on."""
        if stat.at < self.ready_since:
            return
        latest = self.latest
        if latest is not None:
            if stat.epoch != latest.epoch:
                self._rings.clear()
            elif stat.at <= latest.at:
                return
        self.latest = stat
        if self._rings.keys() != windows:
            self._rewindow(windows)
        for window_s, ring in self._rings.items():
            if ring and stat.at - ring[-1].at > max(window_s, STALE_S):
                ring.clear()  # nobody looked meanwhile: an average over that would be called one over the window
            if not ring or stat.at - ring[-1].at >= window_s / POINTS:
                ring.append(stat)
            oldest = stat.at - window_s
            while len(ring) > 1 and ring[1].at <= oldest:
                ring.popleft()

    def grown(self, counter: str, window_s: float) -> tuple[float, float, float] | None:
        """By how much ``counter`` has grown in the window, or since ready when that is shorter; from when, to when.

        None: not known.
        """
        latest, ring = self.latest, self._rings.get(window_s)
        if latest is None or not ring:
            return None
        last: float | None = getattr(latest, counter)
        if last is None:
            return None
        for point in ring:  # the first one, unless the counter was not known then
            first: float | None = getattr(point, counter)
            if first is not None:
                known = latest.at - point.at >= LEAST_INTERVAL_S and last >= first
                return (last - first, point.at, latest.at) if known else None
        return None

    def _rewindow(self, windows: frozenset[float]) -> None:
        """Another policy asks for other windows: begin them with the longest history there is."""
        longest = max(self._rings.items(), default=(0.0, deque[ReplicaStat]()), key=lambda item: item[0])[1]
        self._rings = {w: self._rings.get(w) or deque(longest) for w in windows}


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
        values = self._averages(replicas, counter, window_s, monotonic)
        bursts = self._averages(replicas, counter, burst_s, monotonic) if burst_s is not None else {}
        readings = []
        for replica in replicas:
            replica_id = replica.replica_id
            history = self._histories.get(replica_id)
            if history is None:
                readings.append(_NOT_READY)
                continue
            value, burst, latest = values.get(replica_id), bursts.get(replica_id), history.latest
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
        self, replicas: Sequence[ReplicaStatus], counter: str, window_s: float, monotonic: float
    ) -> dict[str, float]:
        """Growth per second of each replica that is known, over the interval that all of them share."""
        grown: dict[str, tuple[float, float, float]] = {}
        for replica in replicas:
            history = self._histories.get(replica.replica_id)
            found = history.grown(counter, window_s) if history is not None else None
            if found is not None and monotonic - found[2] <= STALE_S:
                grown[replica.replica_id] = found
        if not grown:
            return {}
        began_at = min(since for _, since, _ in grown.values())
        return {replica_id: growth / (until - began_at) for replica_id, (growth, _, until) in grown.items()}


_NOT_READY: Final = ReplicaReading(False, 0.0, None)
