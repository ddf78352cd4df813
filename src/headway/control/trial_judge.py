"""TrialJudge: looks at every trial that goes on and does what the verdict says.

It looks as often as it likes: the comparison stands on confidence sequences (:mod:`headway.comparing`). It needs no
memory: what it must know is in the deployment, so a control plane that died goes on where it was, with all the
evidence, for that is in the query log.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from headway.comparing.compare import compare
from headway.comparing.verdict import Move, next_move
from headway.control import commands, trials
from headway.control.book import Changed, DeploymentBook
from headway.domain.arms import ArmQuery, ArmTable
from headway.domain.comparisons import Comparison
from headway.domain.deployments import Deployment
from headway.domain.trials import Trial
from headway.ports.arm_log import ArmLog
from headway.ports.clock import Clock

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0


class TrialJudge:
    """One loop for all trials."""

    def __init__(self, book: DeploymentBook, arm_log: ArmLog, clock: Clock) -> None:
        self._book = book
        self._log = arm_log
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._faults: dict[str, str] = {}

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name="trial judge")

    async def stop(self) -> None:
        """End; a second call changes nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _loop(self) -> None:
        while True:
            await self.round()
            await self._clock.sleep(LOOK_S)

    async def round(self) -> None:
        """Look at each trial once. What keeps one from being looked at is told once, and no matter of the others."""
        for deployment in self._book.all():
            trial = deployment.trial
            if trial is None or not trial.open:
                continue
            try:
                await self._look(deployment, trial)
            except Exception as error:
                if self._faults.get(deployment.name) != str(error):
                    log.exception("the trial of %s %s cannot be judged; trying again", deployment.name, trial.version)
                self._faults[deployment.name] = str(error)
            else:
                self._faults.pop(deployment.name, None)

    async def _look(self, deployment: Deployment, trial: Trial) -> None:
        reason = trials.overtaken(deployment, trial)
        if reason is not None:
            await self._stop(deployment.name, trial, reason)
        elif deployment.live != deployment.target:
            return
        elif trial.since is None:
            await self._keep(deployment.name, trial, replace(trial, since=self._clock.now()))
        else:
            await self._judge(deployment.name, trial, trial.since)

    async def _judge(self, model: str, trial: Trial, since: float) -> None:
        now = self._clock.now()
        versions = (trial.base, trial.version)
        query = ArmQuery(model=model, versions=versions, since_ns=int(since * 1e9), until_ns=int(now * 1e9))
        table = await self._log.arms(query)
        told = trial.rules.metrics is None and {metric for arm in table.arms.values() for metric in arm.feedback}
        if told and not told <= {*trial.metrics}:
            seen = replace(trial, metrics=tuple(sorted({*trial.metrics, *told})))
            await self._keep(model, trial, seen)
            trial = seen
        comparison = self.compare(trial, table)
        verdict = next_move(trial, comparison, now)
        if verdict.move is Move.WAIT or (verdict.move is Move.HOLD and verdict.reason == trial.reason):
            return

        def step(current: Deployment | None) -> Changed | None:
            if current is None or current.trial != trial or trials.overtaken(current, trial) is not None:
                return None
            return Changed(*commands.judge(current, trial, verdict, comparison, now))

        log.info("trial of %s %s at %d %%: %s, %s", model, trial.version, trial.share, verdict.move, verdict.reason)
        await self._book.change(model, step)

    @staticmethod
    def compare(trial: Trial, table: ArmTable) -> Comparison:
        """What the figures of the present step say."""
        rules = trial.rules
        metrics = rules.metrics if rules.metrics is not None else trial.metrics
        base, version = table.arms[trial.base], table.arms[trial.version]
        return compare(base, version, alpha=rules.alpha, margins=rules.margins, metrics=metrics)

    async def _keep(self, model: str, before: Trial, after: Trial) -> None:
        def step(current: Deployment | None) -> Changed | None:
            if current is None or current.trial != before:
                return None
            return Changed(current.with_trial(after))

        await self._book.change(model, step)

    async def _stop(self, model: str, trial: Trial, reason: str) -> None:
        now = self._clock.now()

        def step(current: Deployment | None) -> Changed | None:
            if current is None or current.trial != trial:
                return None
            after, events = trials.stopped(current, reason, now)
            return Changed(after, tuple(events))

        await self._book.change(model, step)
