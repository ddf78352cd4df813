"""JobPolicies: what the models' deployments say about jobs, as of a moment ago.

The deployments belong to the control plane; a job server reads them, and looks once a second whether an event tells
that something has changed. What a caller or worker names and is not known yet is looked for at once: the gateway may
know of a new version before this does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headway.control.jobs.rounds import Rounds
from headway.domain.deployments import Deployment
from headway.domain.errors import ModelNotFound
from headway.domain.job_spec import Jobs
from headway.domain.lifecycle import DeploymentState, VersionState
from headway.domain.version_specs import spec_of
from headway.ports.clock import Clock
from headway.ports.deployment_store import DeploymentStore
from headway.ports.event_log import EventLog

LOOK_S: Final = 1.0
ROUNDS_WITHOUT_EVENT: Final = 10
"""Then everything is read again all the same: not every save comes with an event."""
LEAST_BETWEEN_S: Final = 0.1
"""Between two looks for what is not known: names that nobody has must not keep the database busy."""


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """One model, as far as its jobs are concerned."""

    model: str
    jobs: Jobs
    live: frozenset[str]
    """Versions that take production traffic."""
    max_body_bytes: Mapping[str, int]
    """By version, of all that can run jobs."""

    def body_limit(self, version: str | None) -> int:
        """Largest input for ``version``; None: for whichever takes production traffic."""
        if version is not None:
            return self.max_body_bytes.get(version, 0)
        return min((self.max_body_bytes[v] for v in self.live if v in self.max_body_bytes), default=0)


def policy_of(deployment: Deployment) -> ModelPolicy:
    """What ``deployment`` says."""
    runs = [v for v in deployment.versions if v.state is not VersionState.FAILED]
    return ModelPolicy(
        model=deployment.name,
        jobs=Jobs.model_validate(deployment.extra.get("jobs", {})),
        live=frozenset(arm.version for arm in deployment.live),
        max_body_bytes={v.name: int(spec_of(v).server_options()["max_body_bytes"]) for v in runs},
    )


class JobPolicies:
    """Reads from memory; :meth:`known` looks into the store when it must."""

    def __init__(self, deployments: DeploymentStore, events: EventLog, clock: Clock) -> None:
        self._deployments = deployments
        self._events = events
        self._clock = clock
        self._policies: dict[str, ModelPolicy] = {}
        self._cursor = -1
        self._quiet = 0
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._rounds = Rounds("policies of jobs", clock, LOOK_S, self._look)

    async def start(self) -> None:
        """Begin to follow; a second call changes nothing."""
        await self._rounds.start()

    async def stop(self) -> None:
        """End; a second call changes nothing."""
        await self._rounds.stop()

    def find(self, model: str) -> ModelPolicy | None:
        """As last read; None: no such model then."""
        return self._policies.get(model)

    def follows(self, model: str, version: str) -> bool:
        """Whether ``version`` takes production traffic."""
        found = self._policies.get(model)
        return found is not None and version in found.live

    async def known(self, model: str, version: str | None = None) -> ModelPolicy:
        """The policy of ``model``, looked up anew when it, or ``version``, is not known. Raises ``ModelNotFound``."""
        found = self._policies.get(model)
        if found is None or (version is not None and version not in found.max_body_bytes):
            async with self._looking:
                if self._clock.monotonic() - self._looked_at >= LEAST_BETWEEN_S:
                    await self._read()
            found = self._policies.get(model)
        if found is None:
            raise ModelNotFound(f"there is no model {model[:60]!r}", hint="headway list")
        return found

    async def _look(self) -> bool:
        cursor = await self._events.last_cursor()
        self._quiet += 1
        if cursor != self._cursor or self._quiet >= ROUNDS_WITHOUT_EVENT:
            async with self._looking:
                await self._read()
            self._cursor, self._quiet = cursor, 0
        return False

    async def _read(self) -> None:
        self._looked_at = self._clock.monotonic()
        found = await self._deployments.load_all()
        self._policies = _policies(found)


def _policies(deployments: Sequence[Deployment]) -> dict[str, ModelPolicy]:
    return {d.name: policy_of(d) for d in deployments if d.state is not DeploymentState.DELETING}
