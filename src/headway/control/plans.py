"""Stored capacity plans: kept with what they stand and fall with, and compared with what serves now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headway.domain.deployments import Deployment
from headway.domain.errors import Conflict
from headway.domain.plans import Basis, PlanRecord
from headway.domain.quantities import millicores
from headway.domain.version_specs import spec_of
from headway.ports.clock import Clock
from headway.ports.plan_store import PlanStore

KEPT = 20
"""Plans of each model."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A plan, and what has changed since it was made; no change: it holds."""

    record: PlanRecord
    stale: tuple[str, ...]


class PlanService:
    """Plans of deployed models."""

    def __init__(self, store: PlanStore, deployment: Callable[[str], Deployment], clock: Clock) -> None:
        """``deployment`` raises ``ModelNotFound``."""
        self._store, self._deployment, self._clock = store, deployment, clock

    def basis(self, model: str, requests: str = "") -> Basis:
        """What a plan made now would be of: the version with the largest share of the traffic.

        Raises ``Conflict`` while none serves.
        """
        deployment = self._deployment(model)
        split = deployment.live or deployment.target
        if not split:
            raise Conflict(f"no version of {model} serves", hint=f"headway status {model}")
        arm = max(split, key=lambda a: a.weight)
        version = deployment.version(arm.version)
        spec = spec_of(version)
        cpu = spec.resources.cpu
        resources = {
            "cpu": None if cpu is None else millicores(cpu) / 1000,
            "memory": spec.resources.memory,
            "workers": spec.server.workers,
        }
        return Basis(version.name, version.digest, resources, requests)

    async def add(self, model: str, requests: str, measured: str, document: Mapping[str, Any]) -> Standing:
        """Keep a plan that was made of version ``measured``. Raises ``Conflict`` when another one serves by now."""
        basis = self.basis(model, requests)
        if basis.version != measured:
            raise Conflict(
                f"{basis.version} of {model} serves now, the plan was measured with {measured}",
                hint=f"headway plan {model} measures again",
            )
        record = await self._store.add(PlanRecord(model, self._clock.now(), basis, dict(document)), KEPT)
        return Standing(record, ())

    async def read(self, model: str, requests: str, limit: int) -> list[Standing]:
        """The newest plans, newest first, each with what has changed since; ``requests``: as would be sent now."""
        now = self.basis(model, requests)
        return [Standing(one, one.basis.differences(now)) for one in await self._store.read(model, limit)]
