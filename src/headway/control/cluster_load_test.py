"""ClusterLoadTest: makes the objects of a load test, listens to its master, and takes everything away again.

While it listens it looks at the model: the master may not, and only tells what the replicas use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from headway.cluster.load_objects import (
    COMPONENT,
    INSTANCE,
    JOB,
    MASTER,
    LoadRun,
    load_kind,
    master,
    side_objects,
    workers,
)
from headway.cluster.obstacles import Obstacle, obstacle
from headway.control.cluster_model_watch import ClusterModelWatch
from headway.control.load_orders import LoadListener
from headway.control.load_sights import LoadSights, Unseen
from headway.control.load_test import INTERVAL_S
from headway.control.operator.cache import ObjectCache
from headway.control.staged_scaling import StagedScaling
from headway.domain.cluster_objects import POD, Name, Object, labels_of, name_of, uid_of
from headway.domain.errors import ClusterFailed, ReplicaNotFound, StartTimeout, WorkerLost
from headway.domain.load_reports import LoadPoint, LoadReport, ScalingMark
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster
from headway.ports.replica_logs import ReplicaLogs

AGAIN_S: Final = 1.0
"""From a log that broke off to asking for it again."""
SETTLE_S: Final = 10.0
"""For a pod's end to be told after its log's."""
_PATIENCE_S: Final = 30.0


class ClusterLoadTest:
    """One test. ``told`` hears what it waits for, in words; ``progress`` each interval of the load.

    ``by_pod_address``: the workers are told the address of the master's pod, once it has one.
    """

    def __init__(
        self,
        cluster: Cluster,
        logs: ReplicaLogs,
        clock: Clock,
        run: LoadRun,
        watch: ClusterModelWatch,
        *,
        patience_s: float,
        by_pod_address: bool = False,
        keep: bool = False,
        scaling: StagedScaling | None = None,
        told: Callable[[str], None] = lambda _: None,
        progress: Callable[[LoadPoint], None] = lambda _: None,
    ) -> None:
        self._cluster = cluster
        self._logs = logs
        self._clock = clock
        self._run = run
        self._watch = watch
        self._sights = LoadSights()
        self._patience_s = patience_s
        self._by_pod_address = by_pod_address
        self._keep = keep
        self._scaling = scaling
        self._told = told
        self._news = asyncio.Event()
        self._ends = asyncio.Event()
        self._stopped = asyncio.Event()
        self._pods = ObjectCache(cluster, POD, {INSTANCE: run.name}, clock, self._pod_changed)
        self._progress = progress
        self._following = False
        self._listener = LoadListener(self._heard, told)
        self._cause: Obstacle | None = None

    def stop(self) -> None:
        """End the load at once; :meth:`run` then reports what there is."""
        self._stopped.set()
        self._news.set()

    async def run(self) -> LoadReport | None:
        """The report; None when it was stopped before there was one.

        Raises ``StartTimeout`` when its pods did not start in time, ``WorkerLost`` when the master ended without a
        report, the master's own error when the test could not be carried out, and errors of the cluster.
        """
        try:
            report = await self._carry_out()
        finally:
            await asyncio.shield(self._clear_up())
        scaling = self._scaling
        if report is None or scaling is None:
            return report
        # The master knows nothing of the scaling; what happened to the load stays last.
        return replace(report, shape=scaling.shape, notes=(*report.notes[:1], *scaling.notes, *report.notes[1:]))

    async def _carry_out(self) -> LoadReport | None:
        # The Job first, but without a pod: all others belong to it, and it says whose the model's scaling is.
        uid = uid_of(await self._apply(master(self._run, suspended=True)))
        if self._scaling is not None:
            await self._scaling.prepare(self._stopped.is_set)
            if self._stopped.is_set():
                return None
        await self._make(uid)
        self._pods.start()
        await self._until(lambda: self._stopped.is_set() or self._started())
        if not self._started():
            return None
        if self._by_pod_address:
            address = self._status().get("podIP")
            await self._apply(workers(replace(self._run, master_host=str(address)), await self._uid()))
        return await self._listen()

    async def _clear_up(self) -> None:
        try:
            if self._scaling is not None:
                await self._scaling.give_back()
        finally:
            await self._pods.stop()
            if not self._keep:
                await self._cluster.delete(JOB, self._name(), "")

    def failure(self) -> dict[str, Any] | None:
        """What the master said why it could not carry the test out."""
        return self._listener.error

    # -- before the load -----------------------------------------------------------------------------

    async def _make(self, uid: str) -> None:
        """All that belongs to the Job with this uid, and then its pod."""
        for item in side_objects(self._run, uid):
            await self._apply(item)
        if not self._by_pod_address:
            await self._apply(workers(self._run, uid))
        started = master(self._run)
        await self._apply({**started, "spec": {"suspend": False, **started["spec"]}})

    async def _apply(self, item: Object) -> Object:
        return await self._cluster.apply(load_kind(item), item)

    async def _uid(self) -> str:
        job = await self._cluster.read(JOB, self._name())
        if job is None:
            raise WorkerLost(f"somebody has deleted the Job {self._run.name}")
        return uid_of(job)

    async def _until(self, fact: Callable[[], bool]) -> None:
        deadline = self._clock.monotonic() + self._patience_s
        while True:
            self._news.clear()
            if fact():
                return
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                cause = self._cause
                raise StartTimeout(
                    f"the master did not start within {self._patience_s:g} s"
                    + (f": {cause.text}" if cause is not None else ""),
                    where=f"Job {self._run.name}",
                    hint=cause.hint if cause is not None else f"kubectl describe job {self._run.name}",
                )
            waits = [asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(self._clock.sleep(left_s))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _pod_changed(self, *_: object) -> None:
        self._news.set()
        self._ends.set()
        found = obstacle({}, self._pods.all(), self._clock.now(), _PATIENCE_S)
        if found is not None and (self._cause is None or found.text != self._cause.text):
            pods = "1 pod" if found.pods == 1 else f"{found.pods} pods"
            self._told(f"{pods}: {found.text} ({found.hint})")
        self._cause = found

    # -- while it runs -------------------------------------------------------------------------------

    async def _listen(self) -> LoadReport | None:
        ending = asyncio.create_task(self._end_when_stopped())
        listening = asyncio.create_task(self._follow_log())
        over = asyncio.create_task(self._until_ended())
        looking = asyncio.create_task(self._keep_looking())
        tasks = [ending, listening, over, looking]
        if self._scaling is not None:
            tasks.append(asyncio.create_task(self._scaling.follow(lambda: self._sights.begin_s)))
        try:
            await asyncio.wait((listening, over), return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not self._listener.over:
            with suppress(ClusterFailed, ReplicaNotFound):
                await self._hear(follow=False)
        if not self._listener.over and not self._stopped.is_set():
            raise WorkerLost(f"the master ended without a report{_how(self._status())}")
        return None if self._listener.report is None else await self._joined(self._listener.report)

    async def _keep_looking(self) -> None:
        while True:
            look = await self._watch.look()
            self._sights.seen(self._clock.monotonic(), look)
            await self._clock.sleep(INTERVAL_S)

    def _heard(self, point: LoadPoint) -> None:
        # A log that is read afterwards does not tell when.
        self._progress(self._sights.heard(point, self._clock.monotonic()) if self._following else point)

    async def _joined(self, report: LoadReport) -> LoadReport:
        marks: Sequence[ScalingMark] = ()
        if self._sights.begin_s is not None:
            marks = await self._watch.decisions(self._clock.now() - self._clock.monotonic() + self._sights.begin_s)
        unheard = "the master's log was not heard while it was written" if self._sights.begin_s is None else None
        unseen = Unseen(unheard or self._watch.trouble, self._watch.unexplained)
        return self._sights.joined(report, marks, unseen)

    async def _follow_log(self) -> None:
        """Until all was said. A log that broke off is heard again from its begin."""
        while not await self._heard_all():
            await self._clock.sleep(AGAIN_S)

    async def _heard_all(self) -> bool:
        try:
            await self._hear(follow=True)
        except ReplicaNotFound:
            pass  # not there yet, or not any more: its pod tells
        except ClusterFailed as error:
            self._told(f"{error}; the master's log is asked for again")
        return self._listener.over

    async def _hear(self, *, follow: bool) -> None:
        pod = self._master()
        self._following = follow
        if pod is not None:
            async for line in _lines(self._logs.logs(name_of(pod).name, tail_lines=None, follow=follow)):
                if self._listener.take(line):
                    return

    async def _until_ended(self) -> None:
        """The master's pod is over, and so is the time in which the last of its log should have come."""
        while not self._ended():
            self._ends.clear()
            await self._ends.wait()
        await self._clock.sleep(SETTLE_S)

    async def _end_when_stopped(self) -> None:
        """The master reports when it is told to end; its log is there until it has."""
        await self._stopped.wait()
        if (pod := self._master()) is not None:
            with suppress(ClusterFailed):
                await self._cluster.delete(POD, name_of(pod), uid_of(pod))

    # -- the master's pod ----------------------------------------------------------------------------

    def _name(self) -> Name:
        return Name(self._run.namespace, self._run.name)

    def _master(self) -> Object | None:
        return next((one for one in self._pods.all() if labels_of(one).get(COMPONENT) == MASTER), None)

    def _status(self) -> dict[str, Any]:
        pod = self._master()
        return {} if pod is None else dict(pod.get("status") or {})

    def _started(self) -> bool:
        return self._status().get("phase") in ("Running", "Succeeded", "Failed") and bool(
            self._status().get("podIP") or not self._by_pod_address
        )

    def _ended(self) -> bool:
        return self._master() is None or self._status().get("phase") in ("Succeeded", "Failed")


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Whole lines; of one that breaks off, what there is of it is no line."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")


def _how(status: dict[str, Any]) -> str:
    for one in status.get("containerStatuses") or ():
        ended = (one.get("state") or {}).get("terminated")
        if ended:
            said = str(ended.get("message") or "").strip()
            return f": exit code {ended.get('exitCode')}" + (f"; last it said:\n{said}" if said else "")
    return f": {status['reason']}" if status.get("reason") else ""
