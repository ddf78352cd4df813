"""ReplicaLatency: latency windows from what replicas count themselves, where nobody writes a query log for them.

Each replica counts latencies in buckets that only grow; what grew between two readings goes into the slot of time that
is under way. A window is a whole number of slots and ends with the last slot that is full, so it is exact in itself,
and up to a twelfth of its length old.

Counts only grow, so a replica that was silent for a while has lost nothing; but while one that is ready says nothing,
there is no data, since it may be the one that is slow. Nothing is known of the time before the first reading either: a
window that reaches back to it is left out, and while no whole one is known the reading says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from headway.control.replica_rates import STALE_S
from headway.control.signal_watch import SignalKey, SignalWatch
from headway.domain.latency_counts import quantile_ns
from headway.domain.replicas import ReplicaStatus
from headway.ports.clock import Clock
from headway.ports.replica_stats import LatencyCounts, ReplicaStat
from headway.scaling.decision import LatencyState
from headway.scaling.policy import LatencyTrigger, Statistic
from headway.scaling.samples import LatencyReading, LatencyWindow

SLOTS: Final = 12
"""Into which a window is divided."""
LEAST_SLOT_S: Final = 2.0
"""Replicas are not read more often."""
_SHARES: Final[Mapping[Statistic, float]] = {
    Statistic.P50: 0.5,
    Statistic.P75: 0.75,
    Statistic.P95: 0.95,
    Statistic.P99: 0.99,
}


@dataclass(slots=True)
class _Slot:
    """What was answered in one slot."""

    counts: dict[int, int] = field(default_factory=dict)
    total_s: float = 0.0
    queue_s: float = 0.0

    def add(self, counts: Mapping[int, int], total_s: float, queue_s: float) -> None:
        for place, count in counts.items():
            self.counts[place] = self.counts.get(place, 0) + count
        self.total_s += total_s
        self.queue_s += queue_s


class _History:
    """Of one version, as one trigger divides time."""

    __slots__ = ("began_at", "seen", "silent", "since", "slot_s", "slots")

    def __init__(self, trigger: LatencyTrigger, now: float) -> None:
        self.slot_s = max(LEAST_SLOT_S, trigger.window_s / SLOTS)
        self.since = self.began_at = now
        """Of the slot under way."""
        self.slots: deque[_Slot] = deque((_Slot(),), maxlen=_per_window(trigger) * _windows(trigger) + 1)
        """The newest, under way, is the last."""
        self.seen = True
        self.silent = ""
        """Why nothing can be said now: replicas that are ready and say nothing."""

    def turn(self, now: float) -> None:
        """On to the slot that is under way at ``now``."""
        while now - self.began_at >= self.slot_s:
            self.began_at += self.slot_s
            self.slots.append(_Slot())


class ReplicaLatency:
    """What every replica counts, and the windows that triggers see of it."""

    def __init__(self, clock: Clock, watch: SignalWatch) -> None:
        self._clock = clock
        self._watch = watch
        self._last: dict[str, tuple[str, LatencyCounts]] = {}
        """By replica: the epoch, and what it had counted."""
        self._histories: dict[SignalKey, tuple[LatencyTrigger, _History]] = {}

    def take_in(
        self,
        model: str,
        version: str,
        triggers: Sequence[LatencyTrigger],
        replicas: Sequence[ReplicaStatus],
        stats: Mapping[str, ReplicaStat],
    ) -> None:
        """One round of readings of one version."""
        now, wall = self._clock.monotonic(), self._clock.now()
        silent = ""
        histories = [self._history(SignalKey(model, version, trigger.name), trigger, now) for trigger in triggers]
        for replica in replicas:
            stat = stats.get(replica.replica_id)
            if stat is None or stat.latency is None or now - stat.at > STALE_S:
                settled = replica.ready_at is None or wall - replica.ready_at > STALE_S
                if replica.ready and settled:
                    what = "does not answer" if stat is None else "does not count latencies: its image is older"
                    silent = f"{replica.replica_id} {what}"
                continue
            grown = self._grown(replica.replica_id, stat.epoch, stat.latency)
            if grown is not None:
                for history in histories:
                    history.slots[-1].add(*grown)
        for trigger, history in zip(triggers, histories, strict=True):
            history.silent = silent
            self._watch.look_again(SignalKey(model, version, trigger.name), bool(silent), silent)

    def reading(
        self, key: SignalKey, trigger: LatencyTrigger, state: LatencyState | None, now: float, monotonic: float
    ) -> LatencyReading | None:
        """The windows of the trigger's span as far as they are known."""
        kept = self._histories.get(key)
        if kept is None:
            return None
        history = kept[1]
        if history.silent:
            return LatencyReading((), None, history.silent)
        per_window = _per_window(trigger)
        whole = list(history.slots)[:-1]
        known = min(len(whole) // per_window, _windows(trigger))
        if not known:
            need_s, have_s = per_window * history.slot_s, monotonic - history.since
            error = f"replicas have been watched for {have_s:.0f} s, and a window takes {need_s:.0f} s"
            return LatencyReading((), None, error)
        used = whole[len(whole) - known * per_window :]
        windows = tuple(
            _window(used[start : start + per_window], trigger.statistic) for start in range(0, len(used), per_window)
        )
        return LatencyReading(windows, max(0.0, monotonic - history.began_at))

    def sweep(self, replica_ids: Collection[str]) -> None:
        """Let go of replicas and triggers that are gone."""
        for gone in self._last.keys() - set(replica_ids):
            del self._last[gone]
        for key in [key for key, (_, history) in self._histories.items() if not history.seen]:
            del self._histories[key]
        for _, history in self._histories.values():
            history.seen = False

    async def close(self) -> None:
        """Nothing is open."""

    def _history(self, key: SignalKey, trigger: LatencyTrigger, now: float) -> _History:
        kept = self._histories.get(key)
        if kept is None or kept[0] != trigger:
            kept = self._histories[key] = (trigger, _History(trigger, now))
        kept[1].seen = True
        kept[1].turn(now)
        return kept[1]

    def _grown(self, replica_id: str, epoch: str, counts: LatencyCounts) -> tuple[dict[int, int], float, float] | None:
        """What came since the last reading of this life; None for its first: nobody knows when that was."""
        before = self._last.get(replica_id)
        self._last[replica_id] = (epoch, counts)
        if before is None or before[0] != epoch:
            return None
        old = before[1]
        grown = {place: count - old.counts.get(place, 0) for place, count in counts.counts.items()}
        if any(count < 0 for count in grown.values()):
            return None
        changed = {place: count for place, count in grown.items() if count}
        return changed, max(0.0, counts.total_s - old.total_s), max(0.0, counts.queue_s - old.queue_s)


def _window(slots: Sequence[_Slot], statistic: Statistic) -> LatencyWindow:
    whole = _Slot()
    for slot in slots:
        whole.add(slot.counts, slot.total_s, slot.queue_s)
    requests = sum(whole.counts.values())
    if not requests:
        return LatencyWindow(0, None, None)
    queue_share = min(1.0, whole.queue_s / whole.total_s) if whole.total_s > 0 else None
    if statistic is Statistic.AVERAGE:
        return LatencyWindow(requests, whole.total_s / requests, queue_share)
    value_ns = quantile_ns(whole.counts, _SHARES[statistic])
    return LatencyWindow(requests, None if value_ns is None else value_ns / 1e9, queue_share)


def _windows(trigger: LatencyTrigger) -> int:
    return max(1, round(trigger.span_s / trigger.window_s))


def _per_window(trigger: LatencyTrigger) -> int:
    return max(1, round(trigger.window_s / max(LEAST_SLOT_S, trigger.window_s / SLOTS)))
