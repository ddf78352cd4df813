"""StagedScaling: carries out what the stages of a load test say about scaling, from where the test was asked for.

The master, which counts the time, may change nothing; who asked for the test may. So the first stage's scaling is set
before there is a load at all, the others' when it is their time as seen from here, and whatever happens it is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from headway.control.cluster_model_watch import ClusterModelWatch
from headway.control.load_test import READY_S
from headway.control.scaling_loan import ScalingLoan
from headway.domain.errors import ClusterForbidden, ClusterRefused, HeadwayError, ModelNotFound
from headway.domain.load_shapes import LoadShape, Stage
from headway.ports.clock import Clock

AGAIN_S: Final = 1.0
_FOR_GOOD: Final = (ClusterForbidden, ClusterRefused)
GIVE_BACK_S: Final = 60.0
"""How long putting it back is tried while the cluster does not answer."""


class StagedScaling:
    """Of one load test. ``told`` hears in words what it waits for."""

    def __init__(
        self, loan: ScalingLoan, shape: LoadShape, watch: ClusterModelWatch, clock: Clock, told: Callable[[str], None]
    ) -> None:
        self._loan = loan
        self.shape = shape
        self._watch = watch
        self._clock = clock
        self._told = told
        self.notes: list[str] = []
        """What did not go as the stages say."""
        self.unreturned: HeadwayError | None = None
        """Why the model is not scaled as before."""

    async def prepare(self, stopped: Callable[[], bool]) -> None:
        """What the first stage says, and its replicas ready.

        Raises what any of the stages' scaling is refused with, before anything is changed.
        """
        policies = [policy for stage in self.shape.stages if (policy := _policy(stage)) is not None]
        if (said := await self._loan.check(policies)) is not None:
            self.notes.append(said)
            self._told(said)
        first = self.shape.stages[0]
        if (policy := _policy(first)) is None:
            return
        await self._set(first, policy)
        if first.replicas is not None:
            self._told(f"{self._loan.model} is given {first.replicas} replicas of each version")
            await self._until_settled(first.replicas, stopped)

    async def follow(self, begin_s: Callable[[], float | None]) -> None:
        """Each later stage's at its begin; ``begin_s`` tells the load's on the monotonic clock, once it is known."""
        for number, (at_s, stage) in enumerate(zip(self.shape.begins_s(), self.shape.stages, strict=True), 1):
            if number == 1 or (policy := _policy(stage)) is None:
                continue
            while (begun_s := begin_s()) is None or begun_s + at_s > self._clock.monotonic():
                left_s = AGAIN_S if begun_s is None else begun_s + at_s - self._clock.monotonic()
                await self._clock.sleep(min(AGAIN_S, left_s))
            try:
                await self._set(stage, policy)
            except HeadwayError as error:
                self.notes.append(f"stage {number} could not be scaled: {error}")

    async def give_back(self) -> None:
        """Scale as before. A cluster that does not answer is asked again for a minute; never raises."""
        deadline = self._clock.monotonic() + GIVE_BACK_S
        while True:
            try:
                if (said := await self._loan.give_back()) is not None:
                    self.notes.append(said)
                return
            except ModelNotFound:
                return
            except HeadwayError as error:
                if isinstance(error, _FOR_GOOD) or self._clock.monotonic() >= deadline:
                    self.unreturned = error
                    self._told(f"{self._loan.model} is still scaled as the load test needed it: {error}")
                    return
                self._told(f"{error}; how {self._loan.model} was scaled is put back as soon as the cluster answers")
            await self._clock.sleep(AGAIN_S)

    async def _set(self, stage: Stage, policy: Mapping[str, Any]) -> None:
        await self._loan.set(policy)
        self._watch.was_set(stage.replicas)

    async def _until_settled(self, replicas: int, stopped: Callable[[], bool]) -> None:
        deadline = self._clock.monotonic() + READY_S
        while self._clock.monotonic() < deadline and not stopped():
            if (await self._loan.models.get(self._loan.model)).settled:
                return
            await self._clock.sleep(AGAIN_S)
        if not stopped():
            self.notes.append(f"{replicas} replicas were not ready when the load began")


def _policy(stage: Stage) -> Mapping[str, Any] | None:
    """``spec.scaling``, as the stage asks for it."""
    if stage.scaling is not None:
        return stage.scaling
    return None if stage.replicas is None else {"minReplicas": stage.replicas}
