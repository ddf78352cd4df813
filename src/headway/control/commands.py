"""What users can ask for, as pure functions: a deployment and ``now`` in, the wished deployment out.

A command only changes what is *wished* (``target``, ``replicas``, …) and wakes versions that are wished
again; the reconciler does the rest. So a command is accepted or refused at once, and a crash after it
loses nothing. What is about the number of replicas stands in :mod:`headway.control.counts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from headway.comparing.verdict import Verdict
from headway.control import counts, trials
from headway.control.agreement import agreed
from headway.domain.comparisons import Comparison
from headway.domain.deployments import Deployment, Source, Version
from headway.domain.errors import Conflict, InvalidSpec, InvalidTraffic, ModelNotFound, Unsupported
from headway.domain.events import EventType, NewEvent
from headway.domain.lifecycle import DeploymentState, TrialState, VersionState
from headway.domain.names import version_name, version_number
from headway.domain.routing_table import Arm, Shadow, Sticky
from headway.domain.scaling_rules import check_scaling
from headway.domain.scaling_spec import Scaling
from headway.domain.spec import ModelDeployment, arms, version_digest
from headway.domain.trials import Trial, TrialRules
from headway.routing import check_split, with_canary

WAKEABLE = (VersionState.RETIRED, VersionState.FAILED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command makes of a deployment; ``unchanged`` when the wish was there already."""

    deployment: Deployment
    events: tuple[NewEvent, ...]
    version: str | None = None
    unchanged: bool = False
    versions: tuple[str, ...] = ()
    """Those of several documents, in their order."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The deployment-level part of a document."""

    scaling: Scaling | None
    """None: the document does not say, what is stays."""
    traffic: tuple[Arm, ...] | None
    sticky: Sticky | None
    shadow: Shadow | None
    jobs: Mapping[str, Any] | None
    """None: the defaults."""

    @property
    def replicas(self) -> int | None:
        """A fixed number, or what the first version starts with; None: the document does not say."""
        return self.scaling.first_count if self.scaling is not None else None


def wish_of(doc: ModelDeployment) -> Wish:
    """The deployment-level part of ``doc``. ``Unsupported`` for what there is on clusters only."""
    if doc.metadata.namespace is not None:
        raise Unsupported(
            "namespaces are there on Kubernetes only",
            where="metadata.namespace",
            hint="leave it out, and name it on the command line: headway kube render --namespace ...",
        )
    spec = doc.spec
    sticky = None
    if spec.sticky is not None:
        header, cookie = spec.sticky.header, spec.sticky.cookie
        sticky = Sticky("header", header) if header else Sticky("cookie", cookie or "")
    shadow = Shadow(spec.shadow.version, spec.shadow.percent) if spec.shadow is not None else None
    stated = "scaling" in spec.model_fields_set
    return Wish(spec.scaling if stated else None, arms(doc), sticky, shadow, spec.jobs.document())


def deploy(
    current: Deployment | None,
    doc: ModelDeployment,
    bundle: str,
    canary: int | None,
    now: float,
    rules: TrialRules | None = None,
    source: Source | None = None,
) -> Outcome:
    """Make ``bundle`` under ``doc`` a version of the model and ask for its share of the traffic.

    The same content again is the same version: already wished, nothing happens; retired or failed, it is
    woken. With ``rules`` the canary is on trial. Raises ``Conflict`` for a deployment that is being deleted or a canary
    with nothing beside it, ``InvalidTraffic`` when the document's split leaves the new version out.
    """
    if doc.spec.arm is not None:
        if canary is not None:
            raise InvalidTraffic("a canary share and spec.arm exclude each other", where="spec.arm")
        return deploy_together(current, [(doc, bundle)], now, {} if source is None else {bundle: source})
    wish = wish_of(doc)
    events: list[NewEvent] = []
    deployment = _begun(current, doc.metadata.name, wish, now, events)
    deployment, version = _with_version(deployment, doc, bundle, now, events, source)
    target = _target_of(deployment, version.name, wish, canary)
    return _configured(current, deployment, wish, target, [version], now, events, rules)


def deploy_together(
    current: Deployment | None,
    parts: Sequence[tuple[ModelDeployment, str]],
    now: float,
    sources: Mapping[str, Source] | None = None,
) -> Outcome:
    """Make each bundle under its document a version, and ask for the split that their ``arm`` fields state, in one go.

    ``sources``: where bundles were fetched from. What else they say of the deployment they have to say alike.
    :attr:`Outcome.versions` are in their order; its ``version`` is the one with the largest share. Raises
    ``InvalidSpec`` and ``InvalidTraffic``.
    """
    wish, weights, copied = agreed([(doc, wish_of(doc)) for doc, _ in parts])
    events: list[NewEvent] = []
    deployment = _begun(current, parts[0][0].metadata.name, wish, now, events)
    versions: list[Version] = []
    for position, (doc, bundle) in enumerate(parts):
        source = (sources or {}).get(bundle)
        deployment, version = _with_version(deployment, doc, bundle, now, events, source)
        if version in versions:
            raise InvalidSpec(f"documents {versions.index(version) + 1} and {position + 1} are the same version")
        versions.append(version)
    target = tuple(Arm(v.name, w) for v, w in zip(versions, weights, strict=True) if w is not None)
    shadow = next((Shadow(v.name, c) for v, c in zip(versions, copied, strict=True) if c is not None), None)
    main = max(target, key=lambda arm: arm.weight).version
    outcome = _configured(current, deployment, replace(wish, shadow=shadow), target, versions, now, events)
    return replace(outcome, version=main, versions=tuple(version.name for version in versions))


def _begun(current: Deployment | None, name: str, wish: Wish, now: float, events: list[NewEvent]) -> Deployment:
    if current is not None:
        _refuse_deleting(current)
        return current
    deployment = Deployment(name=name, created_at=now, replicas=1 if wish.replicas is None else wish.replicas)
    events.append(NewEvent(now, EventType.DEPLOYMENT_CREATED, name, data={"replicas": deployment.replicas}))
    return deployment


def _with_version(
    deployment: Deployment,
    doc: ModelDeployment,
    bundle: str,
    now: float,
    events: list[NewEvent],
    source: Source | None,
) -> tuple[Deployment, Version]:
    level = doc.version_level()
    digest = version_digest(bundle, level)
    version = next((v for v in reversed(deployment.versions) if v.digest == digest), None)
    if version is not None:
        return deployment, version
    number = max((version_number(v.name) for v in deployment.versions), default=0) + 1
    version = Version(version_name(number), digest, bundle, now, level, state_since=now, source=source)
    data: dict[str, Any] = {"digest": digest, "bundle": bundle}
    if source is not None:
        data["source"] = asdict(source)
    events.append(NewEvent(now, EventType.VERSION_CREATED, deployment.name, version.name, data=data))
    return deployment.with_version(version), version


def _configured(
    current: Deployment | None,
    deployment: Deployment,
    wish: Wish,
    target: tuple[Arm, ...],
    versions: Sequence[Version],
    now: float,
    events: list[NewEvent],
    rules: TrialRules | None = None,
) -> Outcome:
    configured = replace(deployment, sticky=wish.sticky, shadow=wish.shadow).with_jobs(wish.jobs)
    if wish.scaling is not None:
        configured = counts.with_scaling(configured, wish.scaling)
    counts.check_limit(configured, versions)
    if current is not None and _settings(configured) != _settings(deployment):
        events.append(NewEvent(now, EventType.DEPLOYMENT_CONFIGURED, deployment.name, data=_settings(configured)))
    if configured.scaling != deployment.scaling:
        events.append(counts.configured(configured, now))
    outcome = _retarget(configured, target, now, events)
    if rules is not None and not _on_trial(outcome.deployment, versions[0].name, rules):
        tried, started = trials.begun(outcome.deployment, versions[0].name, rules, now)
        outcome = replace(outcome, deployment=tried, events=(*outcome.events, started))
    unchanged = current is not None and not outcome.events
    return replace(outcome, version=versions[0].name, unchanged=unchanged)


def _on_trial(deployment: Deployment, version: str, rules: TrialRules) -> bool:
    trial = deployment.trial
    return trial is not None and trial.open and trial.version == version and trial.rules == rules


def judge(
    current: Deployment, trial: Trial, verdict: Verdict, comparison: Comparison, now: float
) -> tuple[Deployment, tuple[NewEvent, ...]]:
    """What a verdict on ``trial`` makes of the deployment, which must still be on it."""
    after, event = trials.moved(current.name, trial, verdict, comparison, now)
    wished = current.target if after.state is TrialState.HELD else _split_of(after)
    outcome = _retarget(current.with_trial(None), wished, now, [event])
    return outcome.deployment.with_trial(after), outcome.events


def _split_of(trial: Trial) -> tuple[Arm, ...]:
    return (Arm(trial.base, 100),) if trial.state is TrialState.ROLLED_BACK else trial.split()


def set_traffic(current: Deployment, weights: Mapping[str, int], now: float) -> Outcome:
    """Ask for a split over existing versions. Raises ``InvalidTraffic``, ``Conflict``."""
    _refuse_deleting(current)
    return _retarget(current, check_split(weights, [v.name for v in current.versions]), now)


def promote(current: Deployment, version: str | None, now: float) -> Outcome:
    """All traffic to ``version``; by default to the newest one of a split that has several."""
    _refuse_deleting(current)
    if version is None:
        if len(current.target) < 2:
            only = f": {current.target[0].version} has all traffic" if current.target else ""
            raise Conflict(f"model {current.name} has no canary to promote{only}", hint="name a version to promote")
        version = max((arm.version for arm in current.target), key=version_number)
    return _retarget(current, (Arm(current.version(version).name, 100),), now)


def rollback(current: Deployment, now: float) -> Outcome:
    """Back to the split before; a rollout under way is called off first."""
    _refuse_deleting(current)
    if current.target != current.live and current.live:
        return _retarget(current, current.live, now)
    if not current.previous or current.previous == current.target:
        raise Conflict(f"model {current.name} has nothing to roll back to", hint=f"headway versions {current.name}")
    return _retarget(current, current.previous, now)


def scale(current: Deployment, replicas: int, now: float) -> Outcome:
    """Wish ``replicas`` replicas for each version in the split.

    Where triggers move the number, it is set once and they go on from there. Raises ``InvalidInput`` for a number
    that they would not let stand.
    """
    _refuse_deleting(current)
    after, old = counts.set_all(current, replicas)
    if after == current:
        return Outcome(current, (), unchanged=True)
    data = {"old": old, "new": replicas, "reason": "asked for"}
    event = NewEvent(now, EventType.DEPLOYMENT_SCALED, current.name, data=data)
    return Outcome(replace(after, generation=current.generation + 1), (event,))


def configure_scaling(current: Deployment, scaling: Scaling | None, now: float) -> Outcome:
    """Let ``scaling`` move the number of replicas from now on; None: fix it at what it is, at least 1.

    Without triggers ``scaling`` fixes it at ``minReplicas``. Counts that are outside the new bounds are brought to
    them at once. Raises ``InvalidSpec`` for a policy that breaks a rule, or that a version of the split cannot follow.
    """
    _refuse_deleting(current)
    if scaling is None:
        after = counts.fixed(current)
    else:
        check_scaling(scaling)
        after = counts.with_scaling(current, scaling)
        split = {arm.version for arm in (*current.target, *current.live)}
        counts.check_limit(after, [version for version in current.versions if version.name in split])
    if after == current:
        return Outcome(current, (), unchanged=True)
    return Outcome(replace(after, generation=current.generation + 1), (counts.configured(after, now),))


def set_wished(
    current: Deployment,
    version: str,
    count: int,
    summary: str,
    now: float,
    *,
    binding: str = "",
    based_on: int | None = None,
) -> Outcome:
    """Wish ``count`` replicas of ``version`` because the autoscaler decided so; ``binding``: what settled it.

    The decision was made from an earlier state, so it is dropped (``unchanged``) when it has been overtaken: the
    deployment is being deleted or not scaled by itself any more, the version has left the split, or its count is not
    the one that the decision was ``based_on``. Bounds are those of now. A version that is about to get a larger share
    of the traffic is not lowered: it was given as many as that share needs.
    """
    arms_now = {arm.version for arm in (*current.target, *current.live)}
    old = current.wished(version)
    overtaken = based_on is not None and based_on != old
    if current.state is DeploymentState.DELETING or current.scaling is None or version not in arms_now or overtaken:
        return Outcome(current, (), unchanged=True)
    least, most = current.bounds
    new = min(max(count, least), most)
    if new == old or (new < old and version in counts.growing(current.live, current.target)):
        return Outcome(current, (), unchanged=True)
    data = {"old": old, "new": new, "binding": binding, "summary": summary}
    event = NewEvent(now, EventType.SCALING_DECIDED, current.name, version, data=data)
    return Outcome(replace(current.with_wished(version, new), generation=current.generation + 1), (event,))


def delete(current: Deployment, now: float) -> Outcome:
    """Wish it away: routes first, then replicas, then the record."""
    if current.state is DeploymentState.DELETING:
        return Outcome(current, (), unchanged=True)
    gone = replace(current, target=(), live=(), previous=(), shadow=None, generation=current.generation + 1)
    data = {"old": str(current.state), "new": str(DeploymentState.DELETING), "message": "asked for"}
    event = NewEvent(now, EventType.DEPLOYMENT_STATE_CHANGED, current.name, data=data)
    return Outcome(gone.moved(DeploymentState.DELETING, "being deleted"), (event,))


def weights_of(split: tuple[Arm, ...]) -> dict[str, int]:
    """``(Arm(v1, 90), Arm(v2, 10))`` -> ``{"v1": 90, "v2": 10}``."""
    return {arm.version: arm.weight for arm in split}


def _target_of(deployment: Deployment, version: str, wish: Wish, canary: int | None) -> tuple[Arm, ...]:
    shadow = wish.shadow.version if wish.shadow is not None else None
    if shadow is not None:
        deployment.version(shadow)
    if wish.traffic is not None:
        if canary is not None:
            raise InvalidTraffic("a canary share and spec.traffic exclude each other", where="spec.traffic")
        named = [arm.version for arm in wish.traffic]
        for known in named:
            deployment.version(known)
        if version not in named and version != shadow:
            raise InvalidTraffic(
                f"this content is {version}, which spec.traffic does not name",
                where="spec.traffic",
                hint=f"add {{version: {version}, weight: ...}}, or leave traffic out",
            )
        return wish.traffic
    already = any(arm.version == version for arm in deployment.target)
    if canary is not None:
        stable = deployment.live or deployment.target
        if not [arm for arm in stable if arm.version != version]:
            if already:
                raise Conflict(
                    f"this content is {version}, which has all traffic already: no other version beside it",
                    hint="change the model first, then deploy it as a canary",
                )
            raise Conflict(f"model {deployment.name} has no other version beside which {version} could be a canary")
        return with_canary(stable, version, canary)
    if already:
        return deployment.target
    if version == shadow and deployment.target:
        return deployment.target
    return (Arm(version, 100),)


def _retarget(
    deployment: Deployment, target: tuple[Arm, ...], now: float, before: list[NewEvent] | None = None
) -> Outcome:
    events = list(before or ())
    if target != deployment.target:
        deployment, ended = trials.stopped(deployment, "the traffic was moved", now)
        events += ended
    wished = {arm.version for arm in target} | ({deployment.shadow.version} if deployment.shadow else set())
    result = deployment
    for name in sorted(wished, key=version_number):
        version = result.version(name)
        if version.state in WAKEABLE:
            result = result.with_version(version.moved(VersionState.PENDING, now))
    result = counts.started(result, target)
    if target != deployment.target:
        data: dict[str, Any] = {"old": weights_of(deployment.target), "new": weights_of(target)}
        events.append(NewEvent(now, EventType.TRAFFIC_REQUESTED, deployment.name, data=data))
    unchanged = target == deployment.target and result == deployment and not events
    generation = deployment.generation + (0 if unchanged else 1)
    return Outcome(replace(result, target=target, generation=generation), tuple(events), unchanged=unchanged)


def _settings(deployment: Deployment) -> dict[str, Any]:
    sticky, shadow = deployment.sticky, deployment.shadow
    return {
        "replicas": deployment.replicas,
        "sticky": {sticky.kind: sticky.name} if sticky else None,
        "shadow": {"version": shadow.version, "percent": shadow.percent} if shadow else None,
        "jobs": deployment.jobs,
    }


def _refuse_deleting(deployment: Deployment) -> None:
    if deployment.state is DeploymentState.DELETING:
        raise Conflict(f"model {deployment.name} is being deleted", hint="wait until it is gone, then try again")


def existing(current: Deployment | None, name: str) -> Deployment:
    """``current``, or :class:`ModelNotFound` for a model that went away in between."""
    if current is None:
        raise ModelNotFound(f"there is no model {name!r}", hint="headway list")
    return current
