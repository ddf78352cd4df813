"""Following a model, or a policy, on a cluster until what was asked for is so, and saying meanwhile what it waits for.

It only looks: whoever stops waiting stops nothing. What is in the way is told as soon as it is known; whether it goes
away by itself (a registry that is down, a node that is added) nobody can tell, so the end is the time limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from headway.cluster.kinds import SCALING_POLICY
from headway.cluster.obstacles import Obstacle
from headway.cluster.pod_states import condition_of
from headway.cluster.standing import Standing, first_line
from headway.control.cluster_models import Asked, AskedPolicy, ClusterModels
from headway.domain.errors import (
    ClusterFailed,
    Conflict,
    DeployFailed,
    HeadwayError,
    ModelNotFound,
    OutOfMemory,
    StartTimeout,
    tree,
)
from headway.domain.routing_table import Arm

LOOK_S: Final = 1.0
QUIET_S: Final = 10.0
"""An operator that has not looked for so long is worth a word: it looks within a second, after a change of office
within fifteen."""
SILENT_S: Final = 60.0
"""And after so long there is none."""
INSTALL: Final = "headway kube install puts one there; kubectl -n headway-system get pods shows how it does"

Told = Callable[[str, Literal["running", "done", "failed"], str], None]
"""``told(stage, state, text)``; stages are ``operator``, ``apply``, ``start``, ``ready``, ``route``."""


class ClusterRollout:
    """One wait; ``timeout_s`` counts from its making."""

    def __init__(self, models: ClusterModels, timeout_s: float, told: Told) -> None:
        self._models = models
        self._clock = models.clock
        self._timeout_s = timeout_s
        self._told = told
        self._began = self._clock.monotonic()

    async def wait(self, asked: Asked | AskedPolicy) -> None:
        """Until the model, or the policy, is what was asked for.

        Raises what the operator refuses the document with, ``ClusterFailed`` when there is no operator, ``Conflict``
        when somebody asks for something else, ``StartTimeout`` or ``OutOfMemory``, with the reason, when time is over.
        """
        if isinstance(asked, AskedPolicy):
            await self._wait_policy(asked)
            return
        while True:
            try:
                standing = await self._models.get(asked.name.name)
            except ClusterFailed as error:
                # A server that does not answer for a moment is waited for like all the rest.
                if type(error) is not ClusterFailed or not self._left_s:
                    raise
                self._told("apply", "running", first_line(error.message))
            else:
                if self._reached(standing, asked):
                    self._told("ready", "done", _ready_text(standing))
                    self._told("route", "done", f"traffic: {split_text(standing.live)}")
                    return
                if not self._left_s:
                    raise _too_late(asked, standing, self._timeout_s)
            await self._clock.sleep(min(LOOK_S, self._left_s))

    async def _wait_policy(self, asked: AskedPolicy) -> None:
        name = asked.name
        while True:
            found = await self._models.cluster.read(SCALING_POLICY, name)
            if found is None:
                raise ModelNotFound(f"the ScalingPolicy {name.name} was deleted")
            status = found.get("status") or {}
            if status.get("observedGeneration", 0) >= asked.generation and status.get("conditions"):
                accepted, ready = condition_of(found, "Accepted"), condition_of(found, "Ready")
                if accepted.get("status") == "False":
                    raise _refusal(str(accepted.get("reason")), str(accepted.get("message")))
                if ready.get("status") == "True":
                    self._told("apply", "done", str(ready.get("message", "")))
                    return
                self._told("apply", "running", first_line(str(condition_of(found, "Applied").get("message", ""))))
            else:
                self._unseen()
            if not self._left_s:
                raise StartTimeout(f"the ScalingPolicy {name.name} is not carried out after {self._timeout_s:g} s")
            await self._clock.sleep(min(LOOK_S, self._left_s))

    async def wait_gone(self, gone: Standing) -> None:
        """Until nothing of a deleted model is left. Raises ``StartTimeout``."""
        while (left := await self._models.left_of(gone)) != 0:
            self._told("delete", "running", "the resource is still there" if left is None else f"{left} objects end")
            if not self._left_s:
                raise StartTimeout(
                    f"{gone.name.name} is not gone after {self._timeout_s:g} s",
                    hint=f"finalizers may hold it: kubectl -n {gone.name.namespace} describe md {gone.name.name}",
                )
            await self._clock.sleep(min(LOOK_S, self._left_s))

    @property
    def _left_s(self) -> float:
        return max(0.0, self._began + self._timeout_s - self._clock.monotonic())

    def _reached(self, standing: Standing, asked: Asked) -> bool:
        if standing.generation > asked.generation and standing.target != asked.said.target:
            name, wished = asked.name.name, split_text(standing.target) or "something else"
            raise Conflict(f"{name}: somebody has asked for {wished} meanwhile", hint=f"headway status {name}")
        if not standing.seen:
            self._unseen()
            return False
        if (refused := standing.refused) is not None:
            raise _refusal(str(refused.get("reason")), str(refused.get("message")))
        if standing.settled:
            return True
        self._tell(standing)
        return False

    def _tell(self, standing: Standing) -> None:
        if standing.unapplied:
            self._told("apply", "running", first_line(standing.unapplied))
            return
        for version, why in standing.obstacles.items():
            self._told("start", "running", f"{version}: {why.reason}, {first_line(why.message)}")
            return
        for version in standing.running:
            if not standing.is_full(version):
                wished = standing.wished(version)
                count = "its Deployment" if wished is None else f"{standing.ready(version)} of {wished} ready"
                self._told("start", "running", f"{version}: {count}")
                return
        self._told("route", "running", f"towards {split_text(standing.target)}")

    def _unseen(self) -> None:
        quiet_s = self._clock.monotonic() - self._began
        if quiet_s >= SILENT_S:
            raise ClusterFailed(f"no operator has looked at it for {SILENT_S:.0f} s; none seems to run", hint=INSTALL)
        if quiet_s >= QUIET_S:
            self._told("operator", "running", f"none has looked at it for {QUIET_S:.0f} s; does it run?")


def split_text(split: tuple[Arm, ...]) -> str:
    """``v1 90 %, v2 10 %``."""
    return ", ".join(f"{arm.version} {arm.weight} %" for arm in split)


def _ready_text(standing: Standing) -> str:
    ready = sum(standing.ready(version) for version in standing.running)
    wished = sum(standing.wished(version) or 0 for version in standing.running)
    return f"{ready} of {wished} replica{'' if wished == 1 else 's'} ready"


def _refusal(reason: str, message: str) -> HeadwayError:
    """The error whose code the operator wrote as a reason: ``InvalidSpec`` for ``invalid_spec``."""
    kinds = {"".join(word.capitalize() for word in kind.code.split("_")): kind for kind in tree()}
    return kinds.get(reason, DeployFailed)(message, hint="what was there before is left as it is")


def _too_late(asked: Asked, standing: Standing, timeout_s: float) -> DeployFailed:
    model, late = asked.name.name, f"is not there yet after {timeout_s:g} s"
    serves = f"; {split_text(standing.live)} serves on" if standing.live else "; nothing serves"
    for version, why in standing.obstacles.items():
        return stuck(f"{model} {version} {late}", why, serves, {"model": model, "version": version})
    why_not = standing.unapplied or standing.message or str(standing.state)
    return StartTimeout(
        f"{model} {asked.said.version} {late}: {why_not}{serves}",
        hint=f"it goes on by itself: headway status {model}",
        details={"model": model, "version": asked.said.version},
    )


def stuck(head: str, why: Obstacle, serves: str, details: dict[str, str]) -> DeployFailed:
    """What is in the way, as an error; what the container said last as the tail of its log."""
    kind = OutOfMemory if why.reason == "OutOfMemory" else StartTimeout
    return kind(
        f"{head}: {why.reason}: {why.message}{serves}",
        hint=why.hint,
        details={**details, "reason": why.reason, "log_tail": why.said},
    )
