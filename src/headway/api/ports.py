"""What the API needs of the control plane, as Protocols. ``headway.control.service`` fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from headway.control.job_workers import WorkersStanding
from headway.domain.deployments import Deployment, Source
from headway.domain.replicas import ReplicaStatus
from headway.domain.scaling_spec import Scaling
from headway.domain.spec import ModelDeployment
from headway.domain.trials import TrialRules


class Snapshot(Protocol):
    """A deployment beside what the runtime sees of it."""

    @property
    def deployment(self) -> Deployment: ...

    @property
    def replicas(self) -> Sequence[ReplicaStatus]: ...

    @property
    def workers(self) -> Sequence[ReplicaStatus]: ...

    @property
    def jobs(self) -> WorkersStanding | None: ...


class Accepted(Protocol):
    """A command was taken; the events after ``cursor`` tell how it goes on."""

    @property
    def deployment(self) -> Deployment: ...

    @property
    def version(self) -> str | None: ...

    @property
    def unchanged(self) -> bool: ...

    @property
    def cursor(self) -> int: ...

    @property
    def versions(self) -> Sequence[str]: ...


class Diff(Protocol):
    """What applying a document would change: ``(path, old, new)`` each."""

    @property
    def exists(self) -> bool: ...

    @property
    def new_version(self) -> bool: ...

    @property
    def changes(self) -> Sequence[tuple[str, Any, Any]]: ...


class Views(Protocol):
    """What is, as of now."""

    def get(self, name: str) -> Snapshot:
        """Raises ``ModelNotFound``."""
        ...

    def find(self, name: str) -> Snapshot | None:
        """As :meth:`get`, None when there is no such model."""
        ...

    def list(self) -> Sequence[Snapshot]:
        """Every model, by name."""
        ...

    def diff(self, spec: ModelDeployment, bundle: str) -> Diff:
        """What deploying this would change."""
        ...


class ControlService(Views, Protocol):
    """Views, and commands that are durable when they return."""

    async def deploy(
        self,
        spec: ModelDeployment,
        bundle: str,
        canary: int | None,
        rules: TrialRules | None = None,
        source: Source | None = None,
    ) -> Accepted:
        """``rules``: the canary is on trial."""
        ...

    async def deploy_together(
        self, parts: Sequence[tuple[ModelDeployment, str]], sources: Mapping[str, Source] | None = None
    ) -> Accepted:
        """``sources``: where bundles were fetched from."""
        ...

    async def set_traffic(self, name: str, weights: Mapping[str, int]) -> Accepted: ...

    async def promote(self, name: str, version: str | None) -> Accepted: ...

    async def rollback(self, name: str) -> Accepted: ...

    async def scale(self, name: str, replicas: int) -> Accepted: ...

    async def set_scaling(self, name: str, scaling: Scaling | None) -> Accepted:
        """None: a fixed number of replicas."""
        ...

    async def delete(self, name: str, *, cancel_jobs: bool = False) -> int:
        """The cursor to follow from. ``Conflict`` while jobs are open, unless they are to be canceled."""
        ...
