"""ClusterFleet: what custom resources say is scaled by Headway's own loop, as the operator last looked at them.

The loop and the operator's looks go hand in hand. A look tells what there is to scale; a decision becomes a wish, and
the next look, which is asked for at once, writes it. So the Deployment has one writer, and what is true stands in the
cluster: after a crash the wish is decided anew.

A look also writes the status. What the loop says there it says when it is news: a changed count at once, another
reason within a minute, lost data once it has been gone for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from headway.cluster.elastic import SILENT, Elastic, Loop, Report, Wish
from headway.control.fleet import Scaled
from headway.control.scaling_plan import Plan, Size, read, size_of
from headway.domain.cluster_objects import Name
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.spec import VersionSpec
from headway.ports.clock import Clock
from headway.scaling.decision import Decision, Status
from headway.scaling.explain import summary

NEWS_S: Final = 60.0
"""Between two reports that differ in their reason alone."""
LOST_S: Final = 30.0
"""How long data has to be missing until that is reported: a pod that has just started has none yet."""
NO_SIZE: Final = Size(1.0, None)
"""Of what is not Headway's own: nothing is measured at its replicas."""
NO_DATA: Final = "NoData"
NO_ROOM: Final = "NoRoom"


@dataclass(slots=True)
class _Resource:
    """One custom resource, between two looks."""

    source: Mapping[str, Any]
    secret: Name | None
    plan: Plan | None
    error: ValueError | None
    elastic: tuple[Elastic, ...]
    sizes: dict[str, tuple[str, Size]] = field(default_factory=dict)
    """By version, with the digest that it was read of."""
    wishes: dict[str, Wish] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    lost_since: dict[str, float] = field(default_factory=dict)
    blocked: tuple[str, str] | None = None


class ClusterFleet:
    """The ``Fleet`` of a cluster. ``leads``: whether to act at all."""

    def __init__(self, clock: Clock, leads: Callable[[], bool]) -> None:
        self.on_news: Callable[[str], None] = lambda key: None
        """Called with the key of what is to be looked at, as there is something to write."""
        self._clock = clock
        self._leads = leads
        self._resources: dict[str, _Resource] = {}

    # -- what the operator's looks say and are told --------------------------------------------------------------------

    def looked(
        self, key: str, scaling: Mapping[str, Any], elastic: tuple[Elastic, ...], secret: Name | None = None
    ) -> None:
        """A resource was looked at: so it is scaled. A model's key is its ``namespace/name``; ``secret`` holds what its
        triggers name in ``…FromEnv``."""
        known = self._known(key, scaling, secret)
        if key.count("/") > 1 and _total(known.elastic) != _total(elastic):
            self.on_news(key)
        if known.blocked is not None:
            known.blocked = None
            self.on_news(key)
        known.elastic = elastic
        versions = {one.version for one in elastic}
        for kept in (known.sizes, known.wishes, known.reports, known.lost_since):
            for version in kept.keys() - versions:
                del kept[version]
        for one in elastic:
            wish = known.wishes.get(one.version)
            if wish is not None and (one.there == wish.desired or one.there != wish.based_on):
                del known.wishes[one.version]  # it has come true, or somebody else has set the count meanwhile

    def blocked(
        self, key: str, scaling: Mapping[str, Any], reason: str, message: str, found: Elastic | None = None
    ) -> None:
        """Nothing can be decided about a resource, and why."""
        known = self._known(key, scaling, None)
        if known.blocked != (reason, message):
            self.on_news(key)
        known.blocked, known.elastic = (reason, message), () if found is None else (found,)
        known.wishes.clear()
        known.reports.clear()

    def gone(self, key: str) -> None:
        """The resource is no more, or another engine scales it."""
        self._resources.pop(key, None)

    def loop(self, key: str) -> Loop:
        """What the loop has to say of a resource."""
        known = self._resources.get(key)
        return SILENT if known is None else Loop(known.wishes, known.reports, known.blocked, _total(known.elastic))

    def addresses(self) -> dict[str, str]:
        """Where pods that are ready can be asked what they are doing, by replica."""
        if not self._leads():
            return {}
        return {
            replica.replica_id: replica.address
            for resource in self._resources.values()
            if resource.plan is not None and resource.plan.asks_replicas
            for one in resource.elastic
            for replica in one.replicas
            if replica.address is not None and replica.phase is ReplicaPhase.READY
        }

    # -- the fleet -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """What was looked at last counts."""

    def models(self) -> Collection[str]:
        """Every resource, called ``namespace/name``; none while another operator leads."""
        return list(self._resources) if self._leads() else ()

    def waiting(self) -> Collection[str]:
        """None: on a cluster nobody holds requests."""
        return ()

    def versions(self, model: str, *, at_zero: bool = False) -> Sequence[Scaled]:
        """Those that take traffic."""
        known = self._resources.get(model)
        if known is None or at_zero or known.blocked is not None:
            return ()
        if known.plan is None:
            raise known.error or ValueError("no plan")
        return [
            Scaled(
                model,
                one.version,
                known.plan,
                self._size(known, one),
                _current(known, one),
                one.weight,
                one.replicas,
                kept=_kept(known, one),
                full=one.full,
            )
            for one in known.elastic
        ]

    def replica_ids(self) -> set[str]:
        """See the protocol."""
        return {
            replica.replica_id
            for resource in self._resources.values()
            for one in resource.elastic
            for replica in one.replicas
        }

    async def carry_out(self, scaled: Scaled, decision: Decision) -> bool:
        """By the look that follows."""
        known = self._resources.get(scaled.model)
        if known is None or known.plan is not scaled.plan or not self._leads():
            return False
        one = next((one for one in known.elastic if one.version == scaled.version), None)
        if one is None or _current(known, one) != decision.current:
            return False
        if one.growing and decision.desired < decision.current:
            return False
        known.wishes[one.version] = Wish(one.there, decision.desired)
        self.on_news(scaled.model)
        return True

    def decided(self, scaled: Scaled, decision: Decision) -> None:
        """A decision was taken, and carried out if it changes anything: look again if that is to be written."""
        known = self._resources.get(scaled.model)
        if known is None:
            return
        now, version = self._clock.monotonic(), scaled.version
        blind = [proposal for proposal in decision.proposals if proposal.status is Status.NO_DATA]
        if not blind:
            known.lost_since.pop(version, None)
        lost = bool(blind) and now - known.lost_since.setdefault(version, now) >= LOST_S
        trouble = NO_ROOM if scaled.full else NO_DATA if lost else ""
        message = summary(decision)
        if scaled.full and decision.binding != "full":
            message = f"{scaled.full}. {message}"
        elif lost:
            message = f"{'; '.join(f'{one.trigger}: {one.note}' for one in blind)}. {message}"
        counts = decision.current, decision.desired
        report = Report(version, decision.at, *counts, decision.binding, message, trouble)
        last = known.reports.get(version)
        if last is None and blind and not trouble:
            return  # nothing is known yet
        if last is None or _is_news(last, report):
            known.reports[version] = report
            self.on_news(scaled.model)

    def _known(self, key: str, scaling: Mapping[str, Any], secret: Name | None) -> _Resource:
        known = self._resources.get(key)
        if known is None or known.source != scaling or known.secret != secret:
            plan, error = _read(scaling, key, secret)
            made = _Resource(scaling, secret, plan, error, ())
            if known is not None:
                made.elastic, made.blocked = known.elastic, known.blocked
                made.wishes, made.reports, made.lost_since = known.wishes, known.reports, known.lost_since
            self._resources[key] = known = made
        return known

    @staticmethod
    def _size(known: _Resource, one: Elastic) -> Size:
        found = known.sizes.get(one.version)
        if not one.level:
            return NO_SIZE
        if found is None or found[0] != one.digest:
            found = known.sizes[one.version] = (one.digest, size_of(VersionSpec.model_validate(one.level)))
        return found[1]


def _current(known: _Resource, one: Elastic) -> int:
    """Replicas asked for now; what another engine is asked to keep it will have at once."""
    if one.floor is not None:
        return max(one.count, _floor(known, one, one.floor))
    wish = known.wishes.get(one.version)
    return wish.desired if wish is not None and wish.based_on == one.there else one.count


def _kept(known: _Resource, one: Elastic) -> int | None:
    """What another engine has beyond the fewest that it is asked to keep: that is its own affair."""
    return one.count if one.floor is not None and one.count > _floor(known, one, one.floor) else None


def _floor(known: _Resource, one: Elastic, found: int) -> int:
    wish = known.wishes.get(one.version)
    return wish.desired if wish is not None and wish.based_on == one.there else found


def _is_news(last: Report, report: Report) -> bool:
    changes = report.desired != report.current
    counted = (last.current, last.desired) != (report.current, report.desired)
    if (changes and counted) or last.trouble != report.trouble:
        return True
    age_s = report.at - last.at
    return (age_s < 0 or age_s >= NEWS_S) and (counted or last.binding != report.binding)


def _read(scaling: Mapping[str, Any], model: str, secret: Name | None) -> tuple[Plan | None, ValueError | None]:
    try:
        return read(scaling, model, secret), None
    except ValueError as error:
        return None, error


def _total(elastic: Sequence[Elastic]) -> int | None:
    return sum(one.there for one in elastic) if elastic else None
