"""ClusterModels: what people ask of the models of a namespace, as reads and writes of its custom resources.

Nothing is held between two calls. A change is made of the resource as it was just read, and refused by the API server
when somebody was faster; then it is made anew of what there is now. What comes of it is the operator's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headway.cluster.changes import Described, described_in, with_document, with_replicas, with_split
from headway.cluster.kinds import MODEL_DEPLOYMENT, SCALING_POLICY
from headway.cluster.names import MANAGED_BY, MANAGER, MODEL_LABEL
from headway.cluster.standing import Standing, standing_of
from headway.control.differences import Diff, differences
from headway.domain.cluster_objects import DEPLOYMENT, POD, Kind, Name, Object, labels_of, name_of
from headway.domain.errors import Conflict, InvalidTraffic, ModelNotFound, StaleWrite, VersionNotFound
from headway.domain.names import version_number
from headway.domain.routing_table import Arm
from headway.domain.scaling_policy import ScalingPolicy
from headway.domain.spec import ModelDeployment
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster
from headway.routing import check_split, with_canary

ATTEMPTS: Final = 10
"""At a change that others are faster than: an operator that is at work writes the status again and again."""
AGAIN_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Asked:
    """What a change has asked for."""

    name: Name
    generation: int
    """Of the resource that holds it."""
    unchanged: bool
    """It was so asked for already."""
    said: Described
    note: str | None = None
    """What else one should know, in a sentence."""


@dataclass(frozen=True, slots=True)
class AskedPolicy:
    """The same of a ``ScalingPolicy``."""

    name: Name
    generation: int
    unchanged: bool


class ClusterModels:
    """The models of one namespace."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str) -> None:
        self.cluster = cluster
        self.clock = clock
        self.namespace = namespace

    # -- looking ---------------------------------------------------------------------------------------

    async def all(self) -> list[Standing]:
        """Every model, by name; without their pods. Raises ``KindMissing`` where the custom resource is missing."""
        found = await self._listed(MODEL_DEPLOYMENT, {})
        deployments: dict[str, list[Object]] = defaultdict(list)
        if found:
            for one in await self._listed(DEPLOYMENT, {MANAGED_BY: MANAGER}):
                deployments[labels_of(one).get(MODEL_LABEL, "")].append(one)
        now = self.clock.now()
        standings = [standing_of(one, deployments[name_of(one).name], (), now) for one in found]
        return sorted(standings, key=lambda one: one.name)

    async def get(self, name: str) -> Standing:
        """One model, with its pods. Raises ``ModelNotFound``, ``KindMissing``."""
        found = await self.find(name)
        if found is None:
            raise ModelNotFound(f"there is no model {name!r} in the namespace {self.namespace}", hint="headway list")
        return found

    async def find(self, name: str) -> Standing | None:
        """The same; None when there is no such model."""
        resource = await self._read(MODEL_DEPLOYMENT, name)
        if resource is None:
            return None
        deployments = await self._listed(DEPLOYMENT, {MODEL_LABEL: name})
        pods = await self._listed(POD, {MODEL_LABEL: name})
        return standing_of(resource, deployments, pods, self.clock.now())

    async def _read(self, kind: Kind, name: str) -> Object | None:
        found = await self.cluster.read(kind, Name(self.namespace, name))
        if found is None:
            # To a server that does not know the kind it is missing just the same.
            await self.cluster.listing(kind, {})
        return found

    async def _listed(self, kind: Kind, labels: Mapping[str, str]) -> list[Object]:
        listing = await self.cluster.listing(kind, labels)
        return [one for one in listing.objects if name_of(one).namespace == self.namespace]

    # -- asking ----------------------------------------------------------------------------------------

    async def deploy(self, document: ModelDeployment, canary: int | None = None) -> Asked:
        """Make the model what ``document`` says; with ``canary`` its version gets that share instead of all.

        What the document leaves open stays: scaling, and fields of ``spec.kubernetes``. Raises what a document is
        refused with, ``Conflict`` for a canary with nothing beside it, ``ClusterRefused``.
        """
        name = Name(self.namespace, document.metadata.name)
        spec = _stated(document)

        def changed(standing: Standing | None) -> Object:
            before = None if standing is None else standing.resource
            after = with_document(before, name, MODEL_DEPLOYMENT, spec)
            return after if canary is None else _with_canary(after, standing, canary)

        return await self._change(name.name, changed)

    async def diff(self, document: ModelDeployment) -> Diff:
        """What :meth:`deploy` of the same would change, without changing it."""
        before = await self.find(document.metadata.name)
        name = Name(self.namespace, document.metadata.name)
        resource, kept = (None, ()) if before is None else (before.resource, before.kept)
        said = described_in(with_document(resource, name, MODEL_DEPLOYMENT, _stated(document)), kept)
        if before is None:
            image = said.document.spec.kubernetes.image
            return Diff(False, True, (("spec.kubernetes.image", None, image),))
        old = {} if before.document is None else _whole(before.document, before.target)
        changes = differences("spec", old, _whole(said.document, said.target))
        return Diff(True, said.version not in {one.name for one in kept}, tuple(changes))

    async def apply_policy(self, policy: ScalingPolicy) -> AskedPolicy:
        """Make the policy what ``policy`` says."""
        name = Name(self.namespace, policy.metadata.name)
        spec = _stated(policy)
        for attempt in range(ATTEMPTS):
            before = await self._read(SCALING_POLICY, name.name)
            after = with_document(before, name, SCALING_POLICY, spec)
            if before is not None and after == before:
                return AskedPolicy(name, _generation(before), unchanged=True)
            try:
                return AskedPolicy(name, _generation(await self.cluster.replace(SCALING_POLICY, after)), False)
            except StaleWrite:
                await self._again(attempt)
        raise _outrun(name)

    async def set_traffic(self, name: str, weights: Mapping[str, int]) -> Asked:
        """Ask for a split over existing versions. Raises ``InvalidTraffic``."""
        return await self._move(
            name, lambda standing: check_split(weights, [version.name for version in standing.versions])
        )

    async def promote(self, name: str, version: str | None) -> Asked:
        """All traffic to ``version``; by default to the newest one of a split that has several."""

        def target(standing: Standing) -> tuple[Arm, ...]:
            chosen = version
            if chosen is None:
                if len(standing.target) < 2:
                    only = f": {standing.target[0].version} has all traffic" if standing.target else ""
                    raise Conflict(f"model {name} has no canary to promote{only}", hint="name a version to promote")
                chosen = max((arm.version for arm in standing.target), key=version_number)
            if chosen not in {one.name for one in standing.versions}:
                raise VersionNotFound(f"model {name} has no version {chosen}", hint=f"headway versions {name}")
            return (Arm(chosen, 100),)

        return await self._move(name, target)

    async def rollback(self, name: str) -> Asked:
        """Back to the split before; a rollout under way is called off first."""

        def target(standing: Standing) -> tuple[Arm, ...]:
            if standing.live and standing.live != standing.target:
                return standing.live
            kept = {one.name for one in standing.versions}
            back = standing.previous
            if not back or back == standing.target or not {arm.version for arm in back} <= kept:
                raise Conflict(f"model {name} has nothing to roll back to", hint=f"headway versions {name}")
            return back

        return await self._move(name, target)

    async def scale(self, name: str, replicas: int) -> Asked:
        """So many replicas of each version. ``Unsupported`` where triggers move their number."""
        return await self._change(name, lambda standing: with_replicas(_there(standing, name), replicas))

    async def rescale(self, name: str, changed: Callable[[Standing], Object]) -> Asked:
        """What ``changed`` makes of the model's resource; it may be called again when others are faster."""
        return await self._change(name, lambda standing: changed(_there(standing, name)))

    async def delete(self, name: str) -> Standing:
        """Take the model away for good; what it was. Raises ``ModelNotFound``."""
        found = await self.get(name)
        await self.cluster.delete(MODEL_DEPLOYMENT, found.name, found.uid)
        return found

    async def left_of(self, gone: Standing) -> int | None:
        """How many objects of a deleted model there are still: pods and Deployments; None while it is there itself."""
        live = await self.cluster.read(MODEL_DEPLOYMENT, gone.name)
        if live is not None and live["metadata"].get("uid") == gone.uid:
            return None
        mine = {name_of(one) for one in gone.records.values()} if live is None else set()
        deployments = await self._listed(DEPLOYMENT, {MODEL_LABEL: gone.name.name})
        pods = await self._listed(POD, {MODEL_LABEL: gone.name.name}) if live is None else []
        return len([one for one in deployments if name_of(one) in mine]) + len(pods)

    async def _move(self, name: str, target: Callable[[Standing], tuple[Arm, ...]]) -> Asked:
        def changed(standing: Standing | None) -> Object:
            found = _there(standing, name)
            if found.newest is None:
                raise Conflict(f"the document of {name} names no image", hint=f"headway status {name}")
            return with_split(found, target(found))

        return await self._change(name, changed)

    async def _change(self, name: str, changed: Callable[[Standing | None], Object]) -> Asked:
        place = Name(self.namespace, name)
        for attempt in range(ATTEMPTS):
            standing = await self.find(name)
            if standing is not None and standing.resource["metadata"].get("deletionTimestamp"):
                raise Conflict(f"model {name} is being deleted", hint="wait until it is gone, then try again")
            after = changed(standing)
            said = described_in(after, () if standing is None else standing.kept)
            unchanged = standing is not None and after == standing.resource
            try:
                live = after if unchanged else await self.cluster.replace(MODEL_DEPLOYMENT, after)
            except StaleWrite:
                await self._again(attempt)
                continue
            return Asked(place, _generation(live), unchanged, said, _note(standing, said))
        raise _outrun(place)

    async def _again(self, attempt: int) -> None:
        await self.clock.sleep(AGAIN_S * (attempt + 1))


def _there(standing: Standing | None, name: str) -> Standing:
    if standing is None:
        raise ModelNotFound(f"there is no model {name!r}", hint="headway list")
    return standing


def _note(before: Standing | None, said: Described) -> str | None:
    shadow = before.document.spec.shadow if before is not None and before.document is not None else None
    if shadow is not None and said.document.spec.shadow is None:
        return f"{shadow.version} gets no copies any more"
    return None


def _with_canary(resource: Object, standing: Standing | None, canary: int) -> Object:
    """``resource`` with its version at ``canary`` percent beside those that serve."""
    if resource["spec"].get("traffic") is not None:
        raise InvalidTraffic("a canary share and spec.traffic exclude each other", where="spec.traffic")
    version = described_in(resource, () if standing is None else standing.kept).version
    stable = () if standing is None else standing.live or standing.target
    if not [arm for arm in stable if arm.version != version]:
        raise Conflict(
            f"{version} would be a canary with no other version beside it", hint="deploy it without --canary first"
        )
    split = [{"version": arm.version, "weight": arm.weight} for arm in with_canary(stable, version, canary)]
    return {**resource, "spec": {**resource["spec"], "traffic": split}}


def _stated(document: ModelDeployment | ScalingPolicy) -> dict[str, Any]:
    """The ``spec`` that ``document`` states: what it leaves open is left out."""
    found: dict[str, Any] = document.spec.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return found


def _whole(document: ModelDeployment, target: tuple[Arm, ...]) -> dict[str, Any]:
    """``spec`` with its defaults, and who gets the traffic, also where it does not say."""
    spec = document.spec.model_dump(by_alias=True, mode="json")
    return {**spec, "traffic": {arm.version: arm.weight for arm in target}}


def _generation(resource: Object) -> int:
    return int(resource["metadata"].get("generation", 0))


def _outrun(name: Name) -> Conflict:
    return Conflict(f"{name} is changed by others all the time", hint="try again")
