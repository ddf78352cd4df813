"""A deployment and its versions: the aggregate that stores save and loops read.

Two splits tell the whole story of a rollout: ``target`` is what was asked for, ``live`` is what the
gateway does. The reconciler moves ``live`` to ``target`` once every arm of it is ready, and moves
``target`` back to ``live`` when a new version fails; so whatever dies in between, the next start knows
where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headway.domain.errors import VersionNotFound
from headway.domain.lifecycle import (
    DEPLOYMENT_TRANSITIONS,
    VERSION_TRANSITIONS,
    DeploymentState,
    VersionState,
    check,
)
from headway.domain.replicas import Failure
from headway.domain.routing_table import Arm, Shadow, Sticky
from headway.domain.trials import Trial


@dataclass(frozen=True, slots=True)
class Source:
    """Where the files of a version were fetched from, as told by who deployed it; nothing depends on it."""

    uri: str
    """As it was asked for: ``models:/iris@champion``."""
    resolved: str | None = None
    """What that stood for at the time: ``models:/iris/3``; None: it says so itself."""
    run_id: str | None = None
    """The MLflow run that logged it."""
    tracking_uri: str | None = None
    """The server that was asked, without passwords."""


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable build of a model; only ``state``, ``failure`` and the environment's facts change."""

    name: str
    digest: str
    """SHA-256 over the bundle's digest and the version-level part of the spec."""
    bundle_digest: str
    created_at: float
    spec: dict[str, Any]
    """The version-level part of the spec (model, resources, server, probes), as JSON with defaults filled in."""
    state: VersionState = VersionState.PENDING
    state_since: float = 0.0
    failure: Failure | None = None
    python: str | None = None
    """Interpreter of its environment, once that is built."""
    lock_digest: str | None = None
    """SHA-256 of the locked requirements; None when it runs in Headway's own environment."""
    source: Source | None = None
    """None: a folder. Of the first deploy of this content, whatever the next ones call it."""

    def moved(self, state: VersionState, now: float, failure: Failure | None = None) -> Version:
        """This version in ``state``, checked against the transition table."""
        check(VERSION_TRANSITIONS, self.state, state)
        return replace(self, state=state, state_since=now, failure=failure)


@dataclass(frozen=True, slots=True)
class Deployment:
    """The desired state of a model and what of it has been reached."""

    name: str
    created_at: float
    state: DeploymentState = DeploymentState.DEPLOYING
    message: str = ""
    """Why it is in this state, one line."""
    replicas: int = 1
    """Wished replicas for each version in the split; where triggers move them, what the first version starts with."""
    versions: tuple[Version, ...] = ()
    """In order of creation; names are never used again."""
    target: tuple[Arm, ...] = ()
    live: tuple[Arm, ...] = ()
    previous: tuple[Arm, ...] = ()
    """The split that ``rollback`` returns to."""
    sticky: Sticky | None = None
    shadow: Shadow | None = None
    generation: int = 1
    """Grows with every change of the desired state."""
    resource_version: int = 0
    """Grows with every save; a store refuses a save that is based on an older one."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Deployment-level spec fields without a column of their own."""

    @property
    def scaling(self) -> Mapping[str, Any] | None:
        """``spec.scaling`` as JSON, defaults filled in, when triggers move the replica counts; else None."""
        found: Mapping[str, Any] | None = self.extra.get("scaling")
        return found

    @property
    def bounds(self) -> tuple[int, int]:
        """Fewest and most replicas of a version in the split; both are ``replicas`` where nothing moves them."""
        scaling = self.scaling
        if scaling is None:
            return self.replicas, self.replicas
        return scaling["minReplicas"], scaling["maxReplicas"]

    @property
    def counts(self) -> Mapping[str, int]:
        """Wished replicas by version, of those that have a count of their own; empty where nothing moves them."""
        found: Mapping[str, int] = self.extra.get("scaled", {})
        return found if self.scaling is not None else {}

    def wished(self, version: str) -> int:
        """Wished replicas of ``version``: its own count, else ``replicas``."""
        return self.counts.get(version, self.replicas)

    def with_wished(self, version: str, count: int) -> Deployment:
        """With ``count`` replicas wished of ``version`` alone."""
        return self.with_counts({**self.counts, version: count})

    def with_counts(self, counts: Mapping[str, int]) -> Deployment:
        """With these counts, and no others."""
        return self if counts == self.counts else replace(self, extra={**self.extra, "scaled": dict(counts)})

    def with_scaling(self, scaling: Mapping[str, Any] | None, counts: Mapping[str, int], replicas: int) -> Deployment:
        """With the policy ``scaling`` (as JSON; None: a fixed number) and these counts."""
        rest = {key: value for key, value in self.extra.items() if key not in ("scaling", "scaled")}
        moved = {} if scaling is None else {"scaling": scaling, "scaled": dict(counts)}
        return replace(self, replicas=replicas, extra={**rest, **moved})

    @property
    def jobs(self) -> Mapping[str, Any] | None:
        """``spec.jobs`` as JSON, defaults filled in; None: everything is the default."""
        found: Mapping[str, Any] | None = self.extra.get("jobs")
        return found

    def with_jobs(self, jobs: Mapping[str, Any] | None) -> Deployment:
        """With ``jobs`` in place of what was said of them."""
        if jobs == self.jobs:
            return self
        rest = {key: value for key, value in self.extra.items() if key != "jobs"}
        return replace(self, extra=rest if jobs is None else {**rest, "jobs": jobs})

    @property
    def trial(self) -> Trial | None:
        """The canary that is moved on the evidence, or the last one that was; None: there was none since the deploy."""
        found: Mapping[str, Any] | None = self.extra.get("trial")
        return None if found is None else Trial.of(found)

    def with_trial(self, trial: Trial | None) -> Deployment:
        """With ``trial`` in place of what was said of one."""
        rest = {key: value for key, value in self.extra.items() if key != "trial"}
        return replace(self, extra=rest if trial is None else {**rest, "trial": trial.document()})

    def version(self, name: str) -> Version:
        """The version of that name, or :class:`VersionNotFound`."""
        for version in self.versions:
            if version.name == name:
                return version
        known = ", ".join(v.name for v in self.versions[-5:]) or "none"
        raise VersionNotFound(f"model {self.name} has no version {name}", hint=f"versions: {known}")

    def with_version(self, version: Version) -> Deployment:
        """With ``version`` in place of the one of its name, or added at the end."""
        if any(v.name == version.name for v in self.versions):
            return replace(self, versions=tuple(version if v.name == version.name else v for v in self.versions))
        return replace(self, versions=(*self.versions, version))

    def moved(self, state: DeploymentState, message: str = "") -> Deployment:
        """This deployment in ``state``, checked against the transition table."""
        check(DEPLOYMENT_TRANSITIONS, self.state, state)
        return replace(self, state=state, message=message)
