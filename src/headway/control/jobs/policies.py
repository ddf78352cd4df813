"""JobPolicies: what the models' deployments say about jobs, as of a moment ago.

The deployments belong to the control plane, or to a cluster; a job server reads them, and looks once a second whether
something has changed. What a caller or worker names and is not known yet is looked for at once: the gateway may know of
a new version before this does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    shares: Mapping[str, int] = field(default_factory=dict)
    """Weights by version, where no gateway draws one for each call."""

    def body_limit(self, version: str | None) -> int:
        """Largest input for ``version``; None: for whichever takes production traffic."""
        if version is not None:
            return self.max_body_bytes.get(version, 0)
        return min((self.max_body_bytes[v] for v in self.live if v in self.max_body_bytes), default=0)

    def draw(self, number: int) -> str | None:
        """The version that ``number``, drawn evenly from a large range, falls to by the shares; None without any."""
        left = number % max(1, sum(self.shares.values()))
        for version, weight in self.shares.items():
            if left < weight:
                return version
            left -= weight
        return None


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
    """Reads from memory; :meth:`known` looks again when it must.

    ``read`` gives all policies, ``changes`` a number that grows whenever they may have changed.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Sequence[ModelPolicy]]],
        changes: Callable[[], Awaitable[int]],
        clock: Clock,
    ) -> None:
        self._read_all = read
        self._changes = changes
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
        cursor = await self._changes()
        self._quiet += 1
        if cursor != self._cursor or self._quiet >= ROUNDS_WITHOUT_EVENT:
            async with self._looking:
                await self._read()
            self._cursor, self._quiet = cursor, 0
        return False

    async def _read(self) -> None:
        self._looked_at = self._clock.monotonic()
        self._policies = {policy.model: policy for policy in await self._read_all()}


def stored_policies(deployments: DeploymentStore, events: EventLog, clock: Clock) -> JobPolicies:
    """The policies of the deployments in a store; ``events`` tell of their changes."""

    async def read() -> list[ModelPolicy]:
        found = await deployments.load_all()
        return [policy_of(one) for one in found if one.state is not DeploymentState.DELETING]

    return JobPolicies(read, events.last_cursor, clock)
