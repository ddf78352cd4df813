"""ReplicaSupervisor: one replica, one task, from its first start to its last end.

The task is level-triggered. Everything that can happen to a process (it ended, a probe has a verdict, it is
over its memory, it has to stop) sets a fact and wakes the task, which then looks at all facts in order of
weight. A fact that comes and goes between two looks was nothing anybody could have acted upon.

What the supervisor knows is the record, saved at every change: cancelling the task at any point leaves a
replica that the next supervisor can take over.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from headway.adapters.local import backoff, failures, logs, procfs
from headway.adapters.local.adoption import FoundProcess
from headway.adapters.local.failures import Crash
from headway.adapters.local.probes import Prober, SocketProbe
from headway.adapters.local.process import Exit, ReplicaProcess, kill_with_stack
from headway.adapters.local.records import ReplicaFolder, ReplicaRecord
from headway.adapters.local.starts import Surroundings, start
from headway.adapters.local.state import SERVING, ReplicaState
from headway.adapters.local.stopping import end_leftovers, terminate, unless_set
from headway.adapters.local.template_failure import LoadFailure
from headway.adapters.local.template_process import ForkedStart
from headway.domain.errors import HeadwayError
from headway.domain.lifecycle import REPLICA_TRANSITIONS, ReplicaPhase, check
from headway.domain.replicas import Failure, ReplicaSpec, ReplicaStatus

log = logging.getLogger(__name__)

_P = ReplicaPhase


class ReplicaSupervisor:
    """Starts, probes, restarts and stops one replica: ``create`` or ``adopt`` it, then ``begin``."""

    def __init__(self, folder: ReplicaFolder, record: ReplicaRecord, around: Surroundings) -> None:
        self._state = ReplicaState(folder, record, around.clock, around.emit)
        self._folder = folder
        self._around = around
        self._clock = around.clock
        self._process: ReplicaProcess | None = None
        self._forked: ForkedStart | None = None
        self._load_failure: LoadFailure | None = None
        """Of the template that it waited for."""
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._wanted = asyncio.Event()
        self._over_bytes: int | None = None
        self._urgent = False
        """Its last process was ready: the next one starts without queueing."""
        self._give_back_slot: Callable[[], None] = _nothing
        self._untold = False
        """``starting`` was reached and is not reported yet: the report is to carry the pid."""
        self._from: ReplicaPhase | None = None
        """The phase from which it was."""
        self._task: asyncio.Task[None] | None = None
        self._spread = zlib.crc32(record.spec.replica_id.encode()) / 2**32

    @property
    def spec(self) -> ReplicaSpec:
        return self._state.spec

    @property
    def phase(self) -> ReplicaPhase:
        return self._state.phase

    @property
    def status(self) -> ReplicaStatus:
        """As the port reports it."""
        pid = self._state.record.pid
        return self._state.status(self._around.memory.used_bytes(pid) if pid is not None else None)

    @property
    def stopping(self) -> bool:
        """Told to stop: it will not come back."""
        return self._stop.is_set()

    def create(self) -> None:
        """Write the first record of a replica that is to be started."""
        self._wanted.set()
        self._state.change(changed_at=self._clock.now())
        self._untold = True

    async def adopt(self, found: FoundProcess | None) -> None:
        """Take over from an earlier supervisor: ``found`` is the replica's process, None when it is gone."""
        try:
            await self._adopt(found)
        except Exception as error:
            self._give_up(error)

    async def _adopt(self, found: FoundProcess | None) -> None:
        if self.phase is _P.STOPPING:
            self._stop.set()
        if found is not None:
            template = self._around.templates.parent(found.parent)
            self._process = ReplicaProcess.adopt(found.pid, found.start_ticks, self._wake.set, template)
        if self._process is None:
            self._adopt_gone()
            return
        self._state.change(
            pid=self._process.pid,
            start_ticks=self._process.start_ticks,
            boot_id=procfs.boot_id(),
            started_at=self._state.record.started_at or self._clock.now(),
        )
        self._state.tell(None, adopted=True)
        if self.phase in (_P.STARTING, _P.UNREADY):
            # Ready or not is found out now, so that routes built from the first observation are right.
            probes, socket = self.spec.probes, SocketProbe(self._state.record.socket)
            gates = [probes.readiness] if self.phase is _P.UNREADY else [probes.startup, probes.readiness]
            if all([probe.success_threshold <= 1 and (await socket.ask(probe)).good for probe in gates]):
                self._state.become_ready(adopted=True)

    def begin(self) -> asyncio.Task[None]:
        """Start the task; it ends when the replica is stopped."""
        self._task = asyncio.create_task(self._run(), name=f"replica {self.spec.replica_id}")
        return self._task

    def want(self) -> None:
        """It is part of the desired state: when its process is gone it may be started again."""
        self._wanted.set()

    def request_stop(self) -> None:
        """Stop it gracefully, then by force. Returns at once; a second call changes nothing."""
        self._stop.set()
        self._wake.set()

    def hurry(self) -> None:
        """A second SIGTERM: a worker gives back the job that it runs."""
        if self._process is not None:
            self._process.send(signal.SIGTERM)

    async def detach(self) -> None:
        """End the task and leave the process running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._let_go()

    # -- the task ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            try:
                await self._live()
            except Exception as error:
                self._give_up(error)
                await self._stop.wait()
            try:
                await self._shut_down()
            except Exception:
                log.exception("replica %s could not be stopped in an orderly way", self.spec.replica_id)
                if self._process is not None:
                    self._process.kill()
                self._state.lose_process()
                self._state.move(_P.STOPPED, reason=None)
        finally:
            self._let_go()

    async def _live(self) -> None:
        """Until told to stop."""
        if self.phase is _P.FAILED:  # already at its adoption
            await self._stop.wait()
        while not self.stopping:
            crash = None
            if self._process is None:
                if not await self._turn_to_start():
                    return
                try:
                    crash = await self._start_process()
                finally:
                    self._tell_start()
            crash = crash or await self._watch()
            if crash is not None:
                self._crashed(crash)

    async def _turn_to_start(self) -> bool:
        """Wait until the replica is wanted, its back-off is over and there is a slot; False: told to stop instead."""
        if not await unless_set(self._stop, self._wanted.wait()):
            return False
        if self.phase is _P.BACKOFF:
            delay = backoff.delay_s(self._state.record.crash_score)
            if delay > 0 and not await unless_set(self._stop, self._clock.sleep(delay)):
                return False
            self._from, self._untold = self.phase, True
            self._state.change(
                phase=check(REPLICA_TRANSITIONS, self.phase, _P.STARTING),
                changed_at=self._clock.now(),
                restarts=self._state.record.restarts + 1,
                reason=None,
            )
        template = self._around.templates.of(self.spec)
        if template is not None and not self._urgent:
            settling = asyncio.ensure_future(template.settled())
            if not await unless_set(self._stop, settling):
                return False
            self._load_failure = settling.result()
        if not self._urgent:
            taking = asyncio.ensure_future(self._around.slots.take())
            if not await unless_set(self._stop, taking):
                return False
            self._give_back_slot = taking.result()
        return True

    async def _start_process(self) -> Crash | None:
        """A crash when no process came to be. Raises :class:`InvalidSpec`: then no later start can succeed."""
        try:
            argv = self._around.launcher.write_orders(self._folder, self._state.record)
            self._folder.log.touch(mode=0o600)
            inode, offset = logs.mark(self._folder)
            # Saved without a pid first: whoever finds this record looks for the process by its environment.
            self._state.record = replace(self._state.record.without_process(), log_inode=inode, log_offset=offset)
            self._folder.save(self._state.record)
            failed, self._load_failure = self._load_failure, None
            if failed is not None:
                return failed.crash_of(self._folder, self._state.record)
            started = await start(self._around, self._folder, self._state.record, argv, self._wake.set)
        except OSError as error:
            return failures.of_spawn(error, self.spec)
        self._process, self._forked = started.process, started.forked
        self._state.change(
            pid=self._process.pid,
            forked=self._forked is not None,
            reason="StartedCold" if started.cold else None,
            start_ticks=self._process.start_ticks,
            boot_id=procfs.boot_id(),
            started_at=self._clock.now(),
        )
        return None

    async def _watch(self) -> Crash | None:
        """Look after the running process until it has ended; None when it is to be stopped instead."""
        process, state = self._process, self._state
        assert process is not None
        prober = Prober(
            self.spec.probes,
            SocketProbe(state.record.socket).ask,
            self._clock,
            self._wake.set,
            spread=self._spread,
            age_s=max(0.0, self._clock.now() - (state.record.started_at or self._clock.now())),
            started=self.phase in SERVING,
            ready=self.phase is _P.READY,
        )
        probing = asyncio.create_task(prober.run(), name=f"probes of {self.spec.replica_id}")
        probing.add_done_callback(lambda _: self._wake.set())
        self._around.memory.add(process.pid, self.spec.memory_bytes, self._over_memory, shares=state.record.forked)
        forked = self._forked
        if forked is not None:
            forked.begin(prober.ask_now, self._wake.set, hurry=self.spec.workers == 1)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if forked is not None and await forked.failed():
                    self._let_go()  # and once more, by itself
                    self._state.lose_process()
                    return None
                if process.exit is not None:
                    return failures.of_exit(process.exit, self._folder, state.record, serving=state.was_ready)
                if self.stopping:
                    return None
                crash = await self._condemn(process, prober)
                if crash is not None:
                    return crash
                if probing.done():
                    probing.result()  # raises what ended it: a fault of ours
                if prober.ready and self.phase is not _P.READY:
                    self._give_back_slot()
                    state.become_ready()
                elif not prober.ready and self.phase is _P.READY:
                    state.move(_P.UNREADY, reason="ReadinessFailed")
        finally:
            self._around.memory.remove(process.pid)
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)

    async def _condemn(self, process: ReplicaProcess, prober: Prober) -> Crash | None:
        """Kill the process when a verdict says so, and say why."""
        record = self._state.record
        if self._over_bytes is not None:
            await self._kill(process)
            return failures.of_memory(self._over_bytes, self._folder, record)
        if prober.startup_problem is not None:
            await kill_with_stack(process, self._folder.stack, self._clock)
            return failures.of_startup(prober.startup_problem, self._folder, record)
        if prober.liveness_problem is not None:
            if self.phase is _P.READY:  # first of all out of the routes
                self._state.move(_P.UNREADY, reason="LivenessFailed")
            await kill_with_stack(process, self._folder.stack, self._clock)
            return failures.of_liveness(prober.liveness_problem, self._folder, record)
        return None

    def _over_memory(self, used_bytes: int) -> None:
        self._over_bytes = used_bytes
        self._wake.set()

    def _crashed(self, crash: Crash, *, adopted: bool = False) -> None:
        record = self._state.record
        ready_s = self._clock.now() - record.ready_at if record.ready_at is not None else 0.0
        score = backoff.score_after_crash(record.crash_score, ready_s, self._around.backoff_reset_s)
        score = 0.0 if crash.at_once else score
        reason = "CrashLoopBackOff" if backoff.looping(score) else crash.reason
        log.warning("replica %s: %s (%s)", self.spec.replica_id, crash.failure.message, crash.reason)
        self._let_go()
        self._urgent = self._state.was_ready
        self._state.lose_process()
        self._state.move(_P.BACKOFF, crash_score=score, reason=reason, failure=crash.failure, adopted=adopted)

    async def _shut_down(self) -> None:
        """SIGTERM, SIGKILL after the grace period, and nothing left."""
        self._tell_start()
        self._state.move(_P.STOPPING, reason=None)
        if self._process is not None:
            await terminate(self._process, self.spec.termination_grace_s)
        await end_leftovers(self._around.launcher.home, self.spec.replica_id)
        Path(self._state.record.socket).unlink(missing_ok=True)
        self._let_go()
        self._state.lose_process()
        self._state.move(_P.STOPPED, reason=None)

    def _give_up(self, error: Exception) -> None:
        """An error nobody foresaw, or one that starting again cannot mend: this replica ends, no other does."""
        if isinstance(error, HeadwayError) and type(error) is not HeadwayError:
            failure = Failure(error.code, error.message, where=error.where, hint=error.hint)
            log.error("replica %s cannot run: %s", self.spec.replica_id, error)
        else:
            failure = Failure(HeadwayError.code, f"its supervisor failed: {type(error).__name__}: {error}")
            log.error("the supervisor of replica %s failed", self.spec.replica_id, exc_info=error)
        if self._process is not None:
            self._process.kill()
        self._let_go()
        self._state.lose_process()
        if self.phase in SERVING:
            self._state.move(_P.BACKOFF, failure=failure)
        if self.phase in (_P.STARTING, _P.BACKOFF):
            self._state.move(_P.FAILED, reason="Failed", failure=failure)

    # -- steps -------------------------------------------------------------------------------------

    def _adopt_gone(self) -> None:
        """The record speaks of a process that is no more."""
        record = self._state.record
        if record.phase not in (_P.STARTING, *SERVING):
            return
        if record.pid is not None and record.boot_id == procfs.boot_id():
            self._crashed(failures.of_exit(Exit(), self._folder, record, serving=self._state.was_ready), adopted=True)
        else:  # the machine was restarted, or the process never came to be: nothing crashed
            self._state.lose_process()
            self._state.move(_P.BACKOFF, reason=None, failure=None, adopted=True)

    async def _kill(self, process: ReplicaProcess) -> None:
        process.kill()
        await process.wait()

    def _tell_start(self) -> None:
        if self._untold:
            self._untold = False
            self._state.tell(self._from)

    def _let_go(self) -> None:
        self._give_back_slot()
        self._over_bytes = None
        if self._forked is not None:
            self._forked.close()
            self._forked = None
        if self._process is not None:
            self._process.close()
            self._process = None


def _nothing() -> None:
    """No slot is held."""
