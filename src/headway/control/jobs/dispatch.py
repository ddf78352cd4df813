"""Dispatch: hands due jobs to the workers that wait at this job server.

A worker that asks waits in its version's lane until a claim for it succeeds. What makes claims worth trying: a
submission of this process, a wake-up by the broker, the sweep, and a poll of each lane in which somebody waits, every
50 ms after work was found, growing to 250 ms: that finds what other processes have stored and what was not to begin
before now.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import replace
from typing import Final

from headway.control.jobs.lanes import POLL_MIN_S, Lane, Waiter
from headway.control.jobs.policies import JobPolicies
from headway.control.waits import within
from headway.domain.errors import HeadwayError
from headway.domain.jobs import Claim, Job, Lease, Outcome
from headway.ports.clock import Clock
from headway.ports.job_broker import JobBroker, Wakeup
from headway.ports.job_store import JobLeases

log = logging.getLogger(__name__)

LEASE_S: Final = 15.0
MOST_JOBS: Final = 1000
MOST_WAIT_S: Final = 60.0
REMEMBERED: Final = 10_000
"""Jobs handed out here of which a message may still come."""


class Dispatch:
    """Claims for workers. ``lease_s``: what a lease is given for; workers prolong it."""

    def __init__(
        self,
        leases: JobLeases,
        policies: JobPolicies,
        clock: Clock,
        broker: JobBroker | None = None,
        *,
        lease_s: float = LEASE_S,
    ) -> None:
        self.lease_s = lease_s
        self._leases = leases
        self._policies = policies
        self._clock = clock
        self._broker = broker
        self._lanes: dict[str, dict[str, Lane]] = {}
        """By model and version."""
        self._wakeups: dict[str, list[Wakeup]] = {}
        """Messages of a model that are settled after the next try."""
        self._handed_out: OrderedDict[str, None] = OrderedDict()
        self._somebody_waits = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._side: set[asyncio.Task[None]] = set()
        self._closed = True
        if broker is not None:
            broker.on_wakeup = self._on_wakeup

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        self._closed = False
        if self._task is None:
            self._task = asyncio.create_task(self._poll(), name="dispatch polls")

    async def stop(self) -> None:
        """Answer every waiting worker with nothing, and end; a second call changes nothing."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        lanes, self._lanes = self._lanes, {}
        await asyncio.gather(*(lane.close() for of_model in lanes.values() for lane in of_model.values()))
        while self._side:
            await asyncio.gather(*self._side, return_exceptions=True)

    def waiting(self, model: str) -> int:
        """Workers of ``model`` that wait here."""
        return sum(lane.waiting for lane in self._lanes.get(model, {}).values())

    async def claim(self, worker: str, model: str, version: str, *, most: int, wait_s: float) -> list[Lease]:
        """Leases for ``worker``, waited for up to ``wait_s``; empty when there was nothing.

        Whoever cancels this call gets nothing: what was just claimed for it is given back.
        """
        if self._closed:
            return []
        lane = self._lane(model, version)
        waiter = Waiter(Claim(worker, model, version, False, min(most, MOST_JOBS), lease_s=self.lease_s))
        lane.enter(waiter)
        self._somebody_waits.set()
        self._expect(model)
        try:
            with contextlib.suppress(TimeoutError):
                return await within(self._clock, min(wait_s, MOST_WAIT_S), _answer_of(waiter))
            if lane.leave(waiter):
                return []
            waiter.last_try = True
            return await asyncio.shield(waiter.answer)
        except asyncio.CancelledError:
            lane.leave(waiter)
            if not waiter.answer.cancel() and not waiter.answer.cancelled() and waiter.answer.exception() is None:
                self.give_back(waiter.answer.result())
            raise
        finally:
            self._expect(model)

    def submitted(self, jobs: Sequence[Job]) -> list[tuple[str, str]]:
        """These have been stored; those for which nobody waits here are answered, to be announced to others."""
        due = [job for job in jobs if job.not_before <= job.submitted_at]
        return [(job.model, job.job_id) for job in due if not self._wake(job.model, job.version)]

    def due(self, models: Collection[str]) -> None:
        """There may be work for these models."""
        for model in models:
            self._wake(model, None, sure=False)

    def given_back(self) -> None:
        """Some job waits again; whose is not known."""
        self.due(list(self._lanes))

    def _wake(self, model: str, version: str | None, *, sure: bool = True) -> bool:
        """Wake who may run it; whether somebody waited for whom nothing was known yet."""
        found = False
        for name, lane in self._lanes.get(model, {}).items():
            if version in (None, name) and lane.waiting:
                found = found or lane.spare
                lane.wake(sure=sure)
        return found

    def _lane(self, model: str, version: str) -> Lane:
        lanes = self._lanes.setdefault(model, {})
        if version not in lanes:
            lanes[version] = Lane(self._take, self.give_back, lambda: self._tried(model))
        return lanes[version]

    async def _take(self, claim: Claim) -> list[Lease]:
        # Asked now, not when the worker came: the split may have changed while it waited.
        follows = self._policies.follows(claim.model, claim.version)
        leases = await self._leases.claim(replace(claim, follows=follows))
        if self._broker is not None:
            for lease in leases:
                self._handed_out[lease.job.job_id] = None
            while len(self._handed_out) > REMEMBERED:
                self._handed_out.popitem(last=False)
        return leases

    def give_back(self, leases: Sequence[Lease]) -> None:
        """Nobody is there for these any more."""
        if not leases:
            return
        outcomes = [Outcome(lease.job.job_id, lease.token, given_back=True) for lease in leases]
        self._aside(self._finish(outcomes, leases[0].job.model), "giving back")

    async def _finish(self, outcomes: Sequence[Outcome], model: str) -> None:
        await self._leases.finish(outcomes)
        self._wake(model, None, sure=False)

    async def _poll(self) -> None:
        while True:
            await self._somebody_waits.wait()
            now = self._clock.monotonic()
            busy = False
            for lanes in self._lanes.values():
                for lane in lanes.values():
                    if lane.waiting:
                        busy = True
                        lane.poll(now)
            if not busy:
                self._somebody_waits.clear()
                self._lanes.clear()
                continue
            await self._clock.sleep(POLL_MIN_S)

    # -- the broker ------------------------------------------------------------------------------

    def _expect(self, model: str) -> None:
        if self._broker is not None:
            self._broker.expect(model, self.waiting(model))

    def _on_wakeup(self, wakeup: Wakeup) -> None:
        if wakeup.job_id in self._handed_out:
            self._aside(self._settle([wakeup]), "settling")
        elif self.waiting(wakeup.model):
            self._wakeups.setdefault(wakeup.model, []).append(wakeup)
            self._wake(wakeup.model, None, sure=False)
        else:
            self._aside(self._settle([wakeup], again=True), "settling")

    def _tried(self, model: str) -> None:
        """Whatever a message stood for is leased by now, or is not there."""
        wakeups = self._wakeups.pop(model, None)
        if wakeups:
            self._aside(self._settle(wakeups), "settling")
        self._expect(model)

    async def _settle(self, wakeups: Sequence[Wakeup], *, again: bool = False) -> None:
        if self._broker is not None:
            await self._broker.settle(wakeups, again=again)

    def _aside(self, work: Awaitable[None], name: str) -> None:
        task = asyncio.create_task(_quietly(work, name), name=name)
        self._side.add(task)
        task.add_done_callback(self._side.discard)


async def _answer_of(waiter: Waiter) -> list[Lease]:
    return await asyncio.shield(waiter.answer)


async def _quietly(work: Awaitable[None], name: str) -> None:
    try:
        await work
    except HeadwayError as error:
        log.warning("%s failed, and is mended by the sweep: %s", name, error)
