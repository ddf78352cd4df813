"""LoadTester: sends a load, watches the model meanwhile, and reports.

The generator works on its own; once an interval the tester takes stock, tells the caller, looks whether a promise is
broken, and lets a stage that says so change how the model is scaled. However it ends, the model is scaled as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from headway.control.load_points import Tick, cores, memory, phases, point, points
from headway.control.load_verdict import breached, health, verdict
from headway.domain.errors import HeadwayError
from headway.domain.load_reports import LEAST_REQUESTS, WINDOW_S, Ending, LoadPoint, LoadReport, ScalingMark
from headway.domain.load_shapes import LoadShape, Loop, Stage
from headway.domain.promises import Promise
from headway.ports.clock import Clock
from headway.ports.load_generator import Load, LoadGenerator, LoadRequest, LoadTarget
from headway.ports.model_watch import ModelLook, ModelWatch
from headway.ports.replica_stats import RemoteStats

INTERVAL_S = 1.0
READY_S = 120.0
"""How long the first stage waits for the replicas that it asks for."""
CLOSED_NOTE = (
    "Closed loop: users wait for their answer before they ask again, so a slow model is asked less. How it bears "
    "arrivals at a given rate is another question: --rate."
)
OPEN_NOTE = "Open loop: latencies count from when a request was due, so those that a stall held up count in full."


class LoadTester:
    """One load at a time; as many as one likes one after the other.

    ``usage``: tells of the replicas what they use, where there is no ``watch`` to tell more.
    """

    def __init__(
        self,
        generator: LoadGenerator,
        clock: Clock,
        watch: ModelWatch | None = None,
        usage: RemoteStats | None = None,
    ) -> None:
        self._generator = generator
        self._clock = clock
        self._watch = watch
        self._usage = usage
        self._stopped = False

    def stop(self) -> None:
        """End the load at once; :meth:`run` then reports what there is."""
        self._stopped = True
        self._generator.stop()

    async def run(
        self,
        target: LoadTarget,
        shape: LoadShape,
        requests: Sequence[LoadRequest],
        *,
        promises: Sequence[Promise] = (),
        stop_at_breach: bool = False,
        progress: Callable[[LoadPoint], None] | None = None,
    ) -> LoadReport:
        """Send ``shape`` to ``target``. ``progress`` is told each interval of the requests *answered* in it.

        Raises ``GatewayFailed`` when nothing can be reached, and what setting the first stage's scaling raises.
        """
        self._stopped = False
        watch, usage = self._watch, self._usage
        run = _Run(self._clock, self._generator, watch, usage, target, shape, requests, promises, stop_at_breach)
        try:
            await run.prepare(lambda: self._stopped)
            return await run.go(lambda: self._stopped, progress)
        finally:
            if usage is not None:
                await usage.close()
            if watch is not None and run.scaled:
                await watch.restore()


class _Run:
    def __init__(
        self,
        clock: Clock,
        generator: LoadGenerator,
        watch: ModelWatch | None,
        usage: RemoteStats | None,
        target: LoadTarget,
        shape: LoadShape,
        requests: Sequence[LoadRequest],
        promises: Sequence[Promise],
        stop_at_breach: bool,
    ) -> None:
        self._clock = clock
        self._generator = generator
        self._watch = watch
        self._usage = usage
        self._promises = promises
        self._stop_at_breach = stop_at_breach
        self._shape = shape
        self._load = Load(target=target, shape=shape, requests=requests, began=self._begin)
        self._began_s: float | None = None
        self._begun = asyncio.Event()
        self._started_at = 0.0
        self._ticks: list[Tick] = []
        self._seen = 0
        self._look: ModelLook | None = None
        self._before: ModelLook | None = None
        self._stage = 0
        self._breach: Promise | None = None
        self._notes: list[str] = []
        self._failure = ""
        self.scaled = False

    def _begin(self, at_s: float) -> None:
        self._began_s = at_s
        self._started_at = self._clock.now() + at_s - self._clock.monotonic()
        self._begun.set()

    async def prepare(self, stopped: Callable[[], bool]) -> None:
        """What the first stage asks for, before the load begins."""
        if self._shape.stages and self._watch is not None:
            stage = self._shape.stages[0]
            if await self._scale(stage) and stage.replicas is not None:
                await self._until_ready(stage.replicas, stopped)

    async def _until_ready(self, replicas: int, stopped: Callable[[], bool]) -> None:
        deadline = self._clock.monotonic() + READY_S
        while self._watch is not None and self._clock.monotonic() < deadline:
            look = await self._watch.look()
            if look is not None and look.ready is not None and look.ready == look.wished and look.ready >= replicas:
                return
            if stopped():
                return
            await self._clock.sleep(0.2)
        self._notes.append(f"{replicas} replicas were not ready when the load began")

    async def _scale(self, stage: Stage) -> bool:
        if self._watch is None or (stage.replicas is None and stage.scaling is None):
            return False
        self.scaled = True
        if stage.scaling is not None:
            await self._watch.set_scaling(stage.scaling)
        elif stage.replicas is not None:
            await self._watch.set_replicas(stage.replicas)
        return True

    async def go(self, stopped: Callable[[], bool], progress: Callable[[LoadPoint], None] | None) -> LoadReport:
        sending = asyncio.create_task(self._send(stopped), name="load generator")
        watching = asyncio.create_task(self._keep_looking(), name="model watch")
        ending = Ending.FINISHED
        try:
            await self._until_begun(sending)
            await self._tick_until(sending, stopped, progress)
            self._join_last()
            try:
                await sending
            except HeadwayError as error:
                ending = Ending.FAILED
                self._failure = str(error)
        finally:
            for task in (sending, watching):
                task.cancel()
            await asyncio.gather(sending, watching, return_exceptions=True)
        if self._breach is not None:
            ending = Ending.BREACH
        elif stopped() and ending is Ending.FINISHED:
            ending = Ending.INTERRUPTED
        elif ending is Ending.FINISHED and self._missing_s() > INTERVAL_S:
            ending = Ending.FAILED
            self._failure = f"the generator ended {self._missing_s():.0f} s before the load's end"
        if ending in (Ending.INTERRUPTED, Ending.BREACH):
            self._note_what_was_under_way()
        return await self._report(ending)

    async def _send(self, stopped: Callable[[], bool]) -> None:
        # A generator forgets, when it begins, what it was told before.
        if not stopped():
            await self._generator.run(self._load)

    def _missing_s(self) -> float:
        return self._shape.duration_s - (self._ticks[-1].at_s if self._ticks else 0.0)

    def _note_what_was_under_way(self) -> None:
        """They are not among the samples, and often the slowest of all: figures without them look too good."""
        state = self._generator.state()
        if state.in_flight:
            oldest = f", the oldest for {state.oldest_s:.3g} s" if state.oldest_s else ""
            self._notes.append(f"{state.in_flight:,} requests were under way at the end{oldest}: they are not counted")

    async def _until_begun(self, sending: asyncio.Task[None]) -> None:
        """Raises what the generator ended with before the load began."""
        begun = asyncio.create_task(self._begun.wait())
        await asyncio.wait({begun, sending}, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if not self._begun.is_set():
            await sending
            self._begin(self._clock.monotonic())  # stopped before it began

    async def _tick_until(
        self,
        sending: asyncio.Task[None],
        stopped: Callable[[], bool],
        progress: Callable[[LoadPoint], None] | None,
    ) -> None:
        began_s = self._began_s or 0.0
        while not sending.done():
            due_s = began_s + (len(self._ticks) + 1) * INTERVAL_S
            pause = asyncio.ensure_future(self._clock.sleep(max(0.0, due_s - self._clock.monotonic())))
            await asyncio.wait({pause, sending}, return_when=asyncio.FIRST_COMPLETED)
            pause.cancel()
            told = self._take_stock(self._clock.monotonic() - began_s)
            if progress is not None and told is not None:
                progress(told)
            if self._stop_at_breach and self._breach is None:
                self._stop_if_broken()
            if stopped():
                self._generator.stop()  # it may not have been sending yet when it was told
            await self._next_stage()

    def _join_last(self) -> None:
        """The few milliseconds that the last answers took are no interval of their own."""
        ends = [tick.at_s for tick in self._ticks[-3:]]
        if len(ends) > 1 and ends[-1] - ends[-2] < INTERVAL_S / 2:
            self._ticks[-2:] = [replace(self._ticks[-2], at_s=ends[-1])]

    def _take_stock(self, at_s: float) -> LoadPoint | None:
        begin_s = self._ticks[-1].at_s if self._ticks else 0.0
        if at_s <= begin_s:
            return None
        state, look = self._generator.state(), self._look
        used, measured = cores(self._before, look)
        tick = Tick(
            at_s=at_s,
            users=state.users,
            in_flight=state.in_flight,
            replicas=None if look is None else look.ready,
            wished=None if look is None else look.wished,
            cpu_cores=used,
            memory_bytes=memory(look),
            measured=measured,
        )
        self._ticks.append(tick)
        seen, self._seen = self._seen, len(self._load.samples)
        return point(self._shape, self._load.samples, range(seen, self._seen), begin_s, tick, self._seen - seen)

    def _stop_if_broken(self) -> None:
        samples = self._load.samples
        since_s = self._ticks[-1].at_s - WINDOW_S if self._ticks else 0.0
        recent: list[int] = []
        for place in range(len(samples) - 1, -1, -1):
            if samples.done_s[place] < since_s and len(recent) >= LEAST_REQUESTS:
                break
            recent.append(place)
        self._breach = breached(self._promises, samples, recent) or self._hung(since_s)
        if self._breach is not None:
            self._notes.append(f"{self._breach.text} was broken for {WINDOW_S:g} s")
            self._generator.stop()

    def _hung(self, since_s: float) -> Promise | None:
        """Nothing has been answered since then, and what waits has waited for longer than promised."""
        oldest_s = self._generator.state().oldest_s
        broken = (one for one in self._promises if one.of_latency and oldest_s > max(one.bound, WINDOW_S))
        done_s = self._load.samples.done_s
        return next(broken, None) if not done_s or done_s[-1] < since_s else None

    async def _next_stage(self) -> None:
        stage = self._shape.stage_at(self._ticks[-1].at_s) if self._ticks else 0
        if stage == self._stage:
            return
        self._stage = stage
        try:
            await self._scale(self._shape.stages[stage])
        except HeadwayError as error:
            self._notes.append(f"stage {stage + 1} could not be scaled: {error}")

    async def _keep_looking(self) -> None:
        while self._watch is not None or self._usage is not None:
            look = await self._seen_now()
            if look is not None:
                self._before, self._look = self._look, look
            await self._clock.sleep(INTERVAL_S)

    async def _seen_now(self) -> ModelLook | None:
        if self._watch is not None:
            return await self._watch.look()
        return None if self._usage is None else ModelLook(None, None, await self._usage.read())

    def _last_s(self) -> float:
        """The last answer, or the end of the shape; what a generator needs to end is no part of the load."""
        ticked_s = self._ticks[-1].at_s if self._ticks else 0.0
        answered_s = max(self._load.samples.done_s, default=0.0)
        last_s = min(ticked_s, max(answered_s, self._shape.duration_s))
        begins_s = [0.0, *(tick.at_s for tick in self._ticks)]
        self._ticks = [tick for begin_s, tick in zip(begins_s, self._ticks, strict=False) if begin_s < last_s]
        return last_s

    async def _report(self, ending: Ending) -> LoadReport:
        load, shape = self._load, self._shape
        samples = load.samples
        state = self._generator.state()
        last_s = self._last_s()
        found = points(shape, samples, self._ticks)
        condition = health(samples, load.lags_s, state, self._promises)
        end_s = min(last_s, shape.duration_s)
        notes = [CLOSED_NOTE if shape.loop is Loop.CLOSED else OPEN_NOTE, *self._notes, *state.notes]
        if self._failure:
            notes.append(self._failure)
        breach = "" if self._breach is None else self._breach.text
        decisions: Sequence[ScalingMark] = ()
        if self._watch is not None:
            decisions = await self._watch.decisions(self._started_at)
        return LoadReport(
            model=load.target.model,
            url=load.target.url,
            started_at=self._started_at,
            duration_s=last_s,
            shape=shape,
            generator=self._generator.name,
            ending=ending,
            total=samples.figures(range(len(samples)), last_s),
            points=found,
            phases=phases(shape, samples, found, end_s),
            decisions=tuple(one for one in decisions if one.at_s <= last_s + 1),
            faults=dict(samples.faults),
            health=condition,
            verdict=verdict(self._promises, samples, shape, condition, failure=self._failure, breach=breach),
            notes=tuple(notes),
            samples=samples,
        )
