"""What belongs together to scale, on a machine and on a cluster: the loop, its signals, their watch, the recorder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from headway.control.autoscaler import TICK_S, Autoscaler
from headway.control.book import DeploymentBook
from headway.control.book_fleet import BookFleet
from headway.control.function_signals import FunctionSignals
from headway.control.latency_signals import LatencySignals
from headway.control.operator.cluster_fleet import ClusterFleet
from headway.control.operator.secret_sources import SecretSources
from headway.control.outside_signals import OutsideSignals
from headway.control.replica_latency import ReplicaLatency
from headway.control.scaling_recorder import ScalingRecorder
from headway.control.scaling_signals import ScalingSignals
from headway.control.signal_watch import SignalWatch
from headway.ports.bundle_store import BundleStore
from headway.ports.clock import Clock
from headway.ports.decision_log import DecisionLog
from headway.ports.event_log import EventLog
from headway.ports.gateway import Gateway
from headway.ports.metric_source import MetricSource
from headway.ports.query_log import QueryLog
from headway.ports.replica_stats import ReplicaStats
from headway.ports.runtime import Runtime
from headway.ports.scaling_function import ScalingFunctions


def autoscaler(
    *,
    book: DeploymentBook,
    runtime: Runtime,
    gateway: Gateway,
    bundles: BundleStore,
    stats: ReplicaStats,
    query_log: QueryLog,
    sources: Mapping[str, MetricSource],
    functions: ScalingFunctions,
    decisions: DecisionLog,
    events: EventLog,
    clock: Clock,
    leaving: Callable[[], Collection[str]],
    max_age_s: float | None,
    tick_s: float = TICK_S,
) -> Autoscaler:
    """The autoscaler on these ports. ``sources`` are by trigger type; decisions are kept for ``max_age_s`` (None:
    for ever). The gateway calls it when a request begins to wait for a first replica; it closes sources and functions
    when it stops."""
    recorder = ScalingRecorder(decisions, events, clock, max_age_s)
    watch = SignalWatch(clock, recorder.tell)
    signals = ScalingSignals(
        latency=LatencySignals(query_log, clock, watch),
        outside=OutsideSignals(sources, clock, watch),
        functions=FunctionSignals(functions, bundles, query_log, clock, watch),
        watch=watch,
        clock=clock,
    )
    made = Autoscaler(
        fleet=BookFleet(book, runtime, gateway, leaving),
        stats=stats,
        signals=signals,
        recorder=recorder,
        decisions=decisions,
        clock=clock,
        tick_s=tick_s,
    )
    gateway.on_held = made.wake
    return made


CLUSTER_TICK_S: Final = 2.0
"""On a cluster a replica takes seconds to come, and every reading is a request to each pod."""


def cluster_autoscaler(
    fleet: ClusterFleet,
    *,
    stats: ReplicaStats,
    sources: Mapping[str, MetricSource],
    secrets: SecretSources,
    decisions: DecisionLog,
    events: EventLog,
    clock: Clock,
    max_age_s: float | None,
    tick_s: float = CLUSTER_TICK_S,
) -> Autoscaler:
    """The same loop for what ``fleet`` has of a cluster; it closes ``sources`` when it stops. ``secrets`` are for
    triggers that name one."""
    recorder = ScalingRecorder(decisions, events, clock, max_age_s)
    watch = SignalWatch(clock, recorder.tell)
    signals = ScalingSignals(
        latency=ReplicaLatency(clock, watch),
        outside=OutsideSignals(sources, clock, watch, secrets.of),
        functions=None,
        watch=watch,
        clock=clock,
    )
    return Autoscaler(
        fleet=fleet,
        stats=stats,
        signals=signals,
        recorder=recorder,
        decisions=decisions,
        clock=clock,
        decided=fleet.decided,
        tick_s=tick_s,
    )
