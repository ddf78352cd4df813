"""BookFleet: what the deployments in the book say is scaled. The reconciler follows the counts written there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from headway.control.book import Changed, DeploymentBook
from headway.control.commands import set_wished
from headway.control.fleet import Scaled
from headway.control.replica_rates import LEAVING
from headway.control.scaling_plan import Plans
from headway.domain.deployments import Deployment
from headway.domain.lifecycle import DeploymentState
from headway.domain.replicas import ReplicaStatus, serving
from headway.ports.gateway import Gateway
from headway.ports.runtime import Runtime
from headway.scaling.decision import Decision
from headway.scaling.explain import summary


class BookFleet:
    """The ``Fleet`` of a machine."""

    def __init__(
        self,
        book: DeploymentBook,
        runtime: Runtime,
        gateway: Gateway,
        leaving: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._book = book
        self._runtime = runtime
        self._gateway = gateway
        self._leaving = leaving
        self._plans = Plans()
        self._held: Mapping[tuple[str, str], int] = {}
        self._replicas: dict[tuple[str, str], list[ReplicaStatus]] = {}

    def begin(self) -> None:
        """See the protocol."""
        self._held = self._gateway.held()
        leaving = self._leaving()
        self._replicas = {}
        for replica in serving(self._runtime.observe()):
            if replica.phase not in LEAVING and replica.replica_id not in leaving:
                self._replicas.setdefault((replica.model, replica.version), []).append(replica)

    def models(self) -> Collection[str]:
        """Those whose replicas triggers move."""
        found = [deployment.name for deployment in self._book.all() if _is_scaled(deployment)]
        self._plans.keep(found)
        return found

    def waiting(self) -> Collection[str]:
        """As the gateway says."""
        return sorted({model for model, _ in self._held})

    def versions(self, model: str, *, at_zero: bool = False) -> Sequence[Scaled]:
        """Those of the split that the gateway has now."""
        deployment = self._book.find(model)
        if deployment is None or not _is_scaled(deployment):
            return ()
        plan = self._plans.plan_of(deployment)
        if plan is None:
            return ()
        found = []
        for arm in deployment.live:
            key = model, arm.version
            current = deployment.wished(arm.version)
            if at_zero and (current or key not in self._held):
                continue
            built = deployment.version(arm.version)
            found.append(
                Scaled(
                    model,
                    arm.version,
                    plan,
                    self._plans.size_of(model, built),
                    current,
                    arm.weight,
                    self._replicas.get(key, ()),
                    self._held.get(key, 0),
                    built,
                )
            )
        return found

    def replica_ids(self) -> set[str]:
        """See the protocol."""
        return {replica.replica_id for own in self._replicas.values() for replica in own}

    async def carry_out(self, scaled: Scaled, decision: Decision) -> bool:
        """Into the book."""

        def step(current: Deployment | None) -> Changed | None:
            if current is None or current.scaling != scaled.plan.source:
                return None
            if all(arm.version != scaled.version for arm in current.live):
                return None
            outcome = set_wished(
                current,
                scaled.version,
                decision.desired,
                summary(decision),
                decision.at,
                binding=decision.binding,
                based_on=decision.current,
            )
            return None if outcome.unchanged else Changed(outcome.deployment, outcome.events)

        return (await self._book.change(scaled.model, step))[1]


def _is_scaled(deployment: Deployment) -> bool:
    return deployment.scaling is not None and deployment.state is not DeploymentState.DELETING
