"""Comparisons of a model's versions: which requests count, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from headway.comparing.compare import KINDS, compare
from headway.domain.arms import ArmQuery, ArmTable
from headway.domain.comparisons import Comparison, Margins, MeasureKind
from headway.domain.deployments import Deployment
from headway.domain.errors import Conflict, InvalidInput, ModelNotFound
from headway.ports.arm_log import ArmLog
from headway.ports.clock import Clock

DAY_NS: Final = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison and what it is of."""

    comparison: Comparison
    since_ns: int
    until_ns: int
    feedback: int
    """Requests that feedback came for since then, by request and metric."""
    unmatched: int
    """Of them, those that name no request of the span."""


class ComparisonService:
    """Questions; for the trials' own see :mod:`.trial_judge`."""

    def __init__(self, arm_log: ArmLog, clock: Clock, find: Callable[[str], Deployment | None]) -> None:
        """``find``: a deployment by its name."""
        self._log = arm_log
        self._clock = clock
        self._find = find

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return int(self._clock.now() * 1e9)

    async def compare(
        self,
        model: str,
        base: str | None,
        version: str | None,
        *,
        since_ns: int | None,
        until_ns: int | None,
        kinds: Collection[MeasureKind] = KINDS,
        metrics: Collection[str] | None = None,
        margins: Margins | None = None,
        confidence: float = 0.95,
    ) -> Compared:
        """``version`` with ``base``; by default those on trial, else the two of the split, the older one as the base.

        ``since_ns`` None: since the present step of their trial went live, else since both of them had requests, a day
        back at most. Raises ``ModelNotFound``, ``VersionNotFound``, ``Conflict`` when nothing says which two.
        """
        deployment = self._find(model)
        if deployment is None:
            raise ModelNotFound(f"there is no model {model!r}", hint="headway list")
        first, second = pair(deployment, base, version)
        until = self.now_ns() if until_ns is None else until_ns
        if since_ns is None:
            since_ns = await self._since(deployment, first, second, until)
        table = await self._table(model, first, second, since_ns, until)
        comparison = compare(
            table.arms[first],
            table.arms[second],
            alpha=1 - confidence,
            margins=margins,
            kinds=kinds,
            metrics=metrics,
        )
        return Compared(comparison, since_ns, until, table.feedback, table.unmatched)

    async def _since(self, deployment: Deployment, base: str, version: str, until_ns: int) -> int:
        trial = deployment.trial
        if (
            trial is not None
            and trial.open
            and trial.since is not None
            and {trial.base, trial.version} == {base, version}
        ):
            return int(trial.since * 1e9)
        table = await self._table(deployment.name, base, version, until_ns - DAY_NS, until_ns)
        begins = [arm.first_ns for arm in table.arms.values() if arm.first_ns is not None]
        return max(begins) if len(begins) == len(table.arms) else until_ns - DAY_NS

    async def _table(self, model: str, base: str, version: str, since_ns: int, until_ns: int) -> ArmTable:
        query = ArmQuery(model=model, versions=(base, version), since_ns=since_ns, until_ns=until_ns)
        return await self._log.arms(query)


def pair(deployment: Deployment, base: str | None, version: str | None) -> tuple[str, str]:
    """Which two versions are compared."""
    if (base is None) != (version is None):
        raise InvalidInput("two versions are compared, or none is named", where="version", hint="v1 v2")
    if base is not None and version is not None:
        if base == version:
            raise InvalidInput(f"{base} is compared with itself", where="version")
        return deployment.version(base).name, deployment.version(version).name
    trial = deployment.trial
    if trial is not None and trial.open:
        return trial.base, trial.version
    split = [arm.version for arm in deployment.live if arm.weight > 0]
    if len(split) == 2:
        older, newer = sorted(split, key=lambda name: [known.name for known in deployment.versions].index(name))
        return older, newer
    raise Conflict(
        f"the traffic of {deployment.name} goes to {', '.join(split) or 'nothing'}: which two are to be compared?",
        hint=f"headway compare {deployment.name} v1 v2",
    )
