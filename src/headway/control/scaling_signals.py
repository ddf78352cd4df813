"""ScalingSignals: puts together what a decision about one version is made from.

Replicas are measured in the tick; everything else is asked for beside it, and the tick takes what is known by then,
with its age. What nobody knows is left out: the decision holds on to what it has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from headway.control.fleet import Scaled
from headway.control.function_signals import FunctionSignals
from headway.control.latency_signals import LatencySignals
from headway.control.outside_signals import OutsideSignals
from headway.control.replica_latency import ReplicaLatency
from headway.control.replica_rates import ReplicaRates
from headway.control.scaling_plan import Size
from headway.control.signal_watch import SignalKey, SignalWatch
from headway.domain.replicas import ReplicaStatus
from headway.ports.clock import Clock
from headway.ports.replica_stats import ReplicaStat
from headway.scaling.decision import State
from headway.scaling.policy import ExternalTrigger, FunctionTrigger, LatencyTrigger, ReplicaTrigger, Signal
from headway.scaling.samples import LatencyReading, PerReplica, Reading, Samples

SETTLED_S: Final = 5.0
"""A replica ready for longer that has no value is missing one; before, it may just not have been measured twice."""
_UNKNOWN: Final[Mapping[Signal, str]] = {
    Signal.CPU: "nobody says how much processor time these replicas use",
    Signal.MEMORY: "nobody says how much memory these replicas use",
    Signal.CONCURRENCY: "nobody says how many requests these replicas have in flight",
    Signal.RPS: "nobody says how many requests these replicas answer",
}


class ScalingSignals:
    """All signals of all versions."""

    def __init__(
        self,
        *,
        latency: LatencySignals | ReplicaLatency,
        outside: OutsideSignals,
        functions: FunctionSignals | None,
        watch: SignalWatch,
        clock: Clock,
    ) -> None:
        self._latency = latency
        self._outside = outside
        self._functions = functions
        self._watch = watch
        self._clock = clock
        self.rates = ReplicaRates()

    def samples(self, scaled: Scaled, stats: Mapping[str, ReplicaStat], state: State) -> Samples:
        """Of one version; ``state`` is what its last decision left."""
        model, name, plan, replicas = scaled.model, scaled.version, scaled.plan, scaled.replicas
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if replicas:
            self.rates.take_in(replicas, stats, plan.windows, now, monotonic)
        if plan.latency and isinstance(self._latency, ReplicaLatency):
            self._latency.take_in(model, name, plan.latency, replicas, stats)
        readings: dict[str, PerReplica | LatencyReading | Reading] = {}
        called: list[str] = []
        for trigger in plan.policy.triggers:
            reading: PerReplica | LatencyReading | Reading | None = None
            if isinstance(trigger, ReplicaTrigger):
                reading = self._replicas(
                    SignalKey(model, name, trigger.name), trigger, scaled.size, replicas, monotonic
                )
            elif isinstance(trigger, LatencyTrigger):
                key = SignalKey(model, name, trigger.name)
                reading = self._latency.reading(key, trigger, state.latency.get(trigger.name), now, monotonic)
            elif isinstance(trigger, ExternalTrigger):
                # A sum is divided among the versions as their requests are. A ratio (metricType Value) is the same
                # for each: half of "twice the target" would be "on target".
                share = scaled.weight / 100 if trigger.average else 1.0
                key = SignalKey(model, None, trigger.name)
                reading = self._outside.reading(key, plan.outside[trigger.name], share, monotonic)
            elif isinstance(trigger, FunctionTrigger):
                called.append(trigger.name)
            if reading is not None:
                readings[trigger.name] = reading
        ready = 0
        for replica in replicas:
            ready += replica.ready
        samples = Samples(scaled.current, ready, scaled.held, readings, kept=scaled.kept, full=scaled.full)
        for each in called:
            if self._functions is None or scaled.built is None:
                continue
            key = SignalKey(model, name, each)
            answer = self._functions.reading(key, plan.functions[each], scaled.built, plan.policy, samples, state)
            if answer is not None:
                readings[each] = answer
        return samples

    def sweep(self, replica_ids: Collection[str]) -> None:
        """After a round over all versions: let go of what belongs to none of them any more."""
        self.rates.keep(replica_ids)
        if isinstance(self._latency, ReplicaLatency):
            self._latency.sweep(replica_ids)
        else:
            self._latency.sweep()
        self._outside.sweep()
        if self._functions is not None:
            self._functions.sweep()
        self._watch.sweep()

    async def close(self) -> None:
        """End every question that is open."""
        await self._latency.close()
        if self._functions is not None:
            await self._functions.close()
        await self._outside.close()

    def _replicas(
        self, key: SignalKey, trigger: ReplicaTrigger, size: Size, replicas: Sequence[ReplicaStatus], monotonic: float
    ) -> PerReplica:
        signal = trigger.signal
        found = self.rates.reading(trigger, replicas, monotonic, size.cores, size.memory_bytes)
        missing = False
        for _, ready_for_s, value, _, _ in found.replicas:
            missing = missing or (value is None and ready_for_s > SETTLED_S)
        if missing and signal is Signal.MEMORY and size.memory_bytes is None:
            self._watch.look_again(key, missing, "resources.memory is not set: there is nothing to take a share of")
        else:
            self._watch.look_again(key, missing, _UNKNOWN[signal])
        return found
