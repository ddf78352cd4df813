"""Plan: what the autoscaler needs to know of a deployment's ``spec.scaling``, read once and kept while it stays.

A tick comes every second for every deployment, so nothing is parsed on its way: a plan is found by the identity of
the stored mapping, which changes only when somebody sets another policy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from headway.domain.cluster_objects import Name
from headway.domain.deployments import Deployment, Version
from headway.domain.quantities import seconds
from headway.domain.scaling_spec import (
    ExternalTriggerSpec,
    JobsTrigger,
    PostgresqlTrigger,
    PrometheusTrigger,
    PythonTrigger,
    RabbitmqTrigger,
    RedisTrigger,
    Scaling,
)
from headway.domain.spec import VersionSpec
from headway.scaling.from_spec import policy_of
from headway.scaling.policy import LatencyTrigger, Policy, ReplicaTrigger


@dataclass(frozen=True, slots=True)
class Asked:
    """A trigger that is asked for outside of the tick."""

    spec: ExternalTriggerSpec
    every_s: float
    timeout_s: float
    secret: Name | None = None
    """On a cluster: the Secret that holds what it names in ``…FromEnv``."""


@dataclass(frozen=True, slots=True)
class Called:
    """A trigger that is the user's own function."""

    spec: PythonTrigger
    every_s: float
    timeout_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One policy, ready for use."""

    source: Mapping[str, Any]
    policy: Policy
    outside: Mapping[str, Asked]
    functions: Mapping[str, Called]
    windows: frozenset[float]
    """Of all replica triggers, panic windows included; seconds."""
    latency: tuple[LatencyTrigger, ...] = ()

    @property
    def asks_replicas(self) -> bool:
        """Whether it looks at what replicas say."""
        return bool(self.windows or self.latency)


@dataclass(frozen=True, slots=True)
class Size:
    """What one replica of a version asks for."""

    cores: float
    memory_bytes: int | None


class Plans:
    """Every plan in use."""

    def __init__(self) -> None:
        self._plans: dict[str, Plan] = {}
        self._sizes: dict[tuple[str, str], tuple[str, Size]] = {}

    def plan_of(self, deployment: Deployment) -> Plan | None:
        """The deployment's plan; None when nothing moves its replicas. Raises ``ValueError`` for a stored policy
        that is not one."""
        source = deployment.scaling
        if source is None:
            return None
        known = self._plans.get(deployment.name)
        if known is None or known.source is not source:
            same = known is not None and known.source == source
            known = replace(known, source=source) if known is not None and same else read(source, deployment.name)
            self._plans[deployment.name] = known
        return known

    def size_of(self, model: str, version: Version) -> Size:
        """What a replica of ``version`` asks for."""
        known = self._sizes.get((model, version.name))
        if known is None or known[0] != version.digest:
            known = self._sizes[model, version.name] = (
                version.digest,
                size_of(VersionSpec.model_validate(version.spec)),
            )
        return known[1]

    def keep(self, models: Collection[str]) -> None:
        """Forget all others."""
        for gone in [name for name in self._plans if name not in models]:
            del self._plans[gone]
            for key in [key for key in self._sizes if key[0] == gone]:
                del self._sizes[key]


def read(source: Mapping[str, Any], model: str, secret: Name | None = None) -> Plan:
    """The plan of ``model``'s stored ``spec.scaling``. Raises ``ValueError``.

    ``secret``: on a cluster, what holds what triggers name in ``…FromEnv``.
    """
    scaling = Scaling.model_validate(source)
    policy = policy_of(scaling)
    outside: dict[str, Asked] = {}
    functions: dict[str, Called] = {}
    for trigger in scaling.triggers:
        name = trigger.name or trigger.type
        if isinstance(trigger, JobsTrigger) and trigger.model is None:
            trigger = trigger.model_copy(update={"model": model})
        if isinstance(trigger, PrometheusTrigger | RabbitmqTrigger | RedisTrigger | PostgresqlTrigger | JobsTrigger):
            outside[name] = Asked(trigger, seconds(trigger.polling_interval), seconds(trigger.timeout), secret)
        elif isinstance(trigger, PythonTrigger):
            functions[name] = Called(trigger, seconds(trigger.every), seconds(trigger.timeout))
    windows: set[float] = set()
    for one in policy.triggers:
        if isinstance(one, ReplicaTrigger):
            windows.add(one.window_s)
            if one.panic is not None:
                windows.add(one.panic.window_s)
    latency = tuple(one for one in policy.triggers if isinstance(one, LatencyTrigger))
    return Plan(source, policy, outside, functions, frozenset(windows), latency)


def size_of(spec: VersionSpec) -> Size:
    """``resources.cpu``, or a core per worker where that is left out; ``resources.memory``."""
    cpu = spec.cpu_millicores()
    return Size(cpu / 1000 if cpu is not None else float(spec.server.workers), spec.memory_bytes())
