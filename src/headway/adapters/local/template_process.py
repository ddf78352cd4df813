"""TemplateProcess: the process of one version from which its replicas are forked, kept running.

It is started like a replica, in a folder like a replica's (``HOME/templates/KEY``), under the same limits, and outlives
the control plane like one. What ends it ends no replica. The first time its load is waited for: it costs what the
replica's own would. After it has ended, replicas are spawned until it is loaded again, with pauses as after crashes.

A version is *unfit* when its model cannot be forked, or when a replica that was forked did not come to serve while none
before it had. Then it has no template any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from headway.adapters.local import backoff
from headway.adapters.local.adoption import FoundProcess, end_processes, scan
from headway.adapters.local.launch import REPLICA_VARIABLE, Launcher
from headway.adapters.local.memory_limit import MemoryWatch, prefer_as_victim, set_data_limit
from headway.adapters.local.process import Exit, ReplicaProcess, kill_with_stack
from headway.adapters.local.records import ReplicaFolder, ReplicaRecord
from headway.adapters.local.start_slots import StartSlots
from headway.adapters.local.template_failure import LoadFailure
from headway.adapters.local.template_link import TemplateLink
from headway.domain.errors import HeadwayError
from headway.domain.replicas import ReplicaSpec
from headway.ports.clock import Clock
from headway.server.template_wire import TEMPLATE, NotForked, mark_of

log = logging.getLogger(__name__)

CONNECT_EVERY_S = 0.02
"""Until the template has its socket."""
ADOPTED_WITHIN_S = 30.0
"""For one that was found running to answer."""
END_WITHIN_S = 1.0
STEADY_S = 60.0
"""A template that lived for so long was no failure."""
LISTENS_AFTER_LOADS = 4.0
LISTENS_WITHIN_S = (5.0, 20.0)
"""A forked replica has to listen after four times what loading took, but no less and no more than this. One that takes
longer may wait for a thread that it lacks."""


@dataclass(frozen=True, slots=True)
class TemplateSurroundings:
    """What all templates of a runtime share."""

    clock: Clock
    launcher: Launcher
    memory: MemoryWatch
    slots: StartSlots


class ForkedStart:
    """A replica's start by fork: the process, and what becomes of it until it listens."""

    def __init__(self, template: TemplateProcess, process: ReplicaProcess, link: TemplateLink) -> None:
        self.process = process
        self._template = template
        self._link = link
        self._listens = False
        self._late = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, on_listening: Callable[[], None], on_late: Callable[[], None], *, hurry: bool) -> None:
        """Call ``on_listening`` as soon as it serves its socket, or, with ``hurry``, ``on_late`` when it does not."""

        def listens() -> None:
            self._listens = self._template.proven = True
            self._stop_timer()
            on_listening()

        def late() -> None:
            self._late = True
            on_late()

        self._link.when_listening(self.process.pid, listens)
        if hurry and not self._listens:
            least, most = LISTENS_WITHIN_S
            within_s = min(most, max(least, LISTENS_AFTER_LOADS * self._template.load_s))
            self._timer = asyncio.get_running_loop().call_later(within_s, late)

    async def failed(self) -> bool:
        """Whether it ended, or hangs, before it listened, and the fork may be why.

        It may when none that was forked before it ever listened. Then no other is forked, and this one is ended.
        """
        if self._listens or self._template.proven:
            return False
        if self.process.exit is not None:
            self._template.renounce(f"a forked replica {self.process.exit} before it served")
        elif self._late:
            self._template.renounce("a forked replica did not serve in time")
            self.process.kill()
            await self.process.wait()
        else:
            return False
        return True

    def close(self) -> None:
        """No more interest in it."""
        self._stop_timer()
        self._link.forget(self.process.pid)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TemplateProcess:
    """One version's template. :meth:`begin` starts or adopts it; it runs until :meth:`stop` or :meth:`detach`."""

    def __init__(self, key: str, folder: ReplicaFolder, socket: str, around: TemplateSurroundings) -> None:
        self.key = key
        self.spec: ReplicaSpec | None = None
        """Of a replica of its version; None for an adopted one that nobody has asked for yet."""
        self.unfit: str | None = None
        """Why replicas of this version are not forked."""
        self.proven = False
        """A replica that was forked from it has come to listen."""
        self.load_s = 0.0
        self._folder = folder
        self._socket = socket
        self._around = around
        self._process: ReplicaProcess | None = None
        self._link: TemplateLink | None = None
        self._settled = asyncio.Event()
        self._failure: LoadFailure | None = None
        """Of the first load."""
        self._told = False
        self._stir = asyncio.Event()
        self._over_bytes: int | None = None
        self._becomes = False
        """It cannot be forked, but can be the next replica itself."""
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def begin(self, found: FoundProcess | None = None) -> None:
        """Start it, or go on with the process that was ``found``."""
        if found is not None:
            self._process = ReplicaProcess.adopt(found.pid, found.start_ticks, self._stir.set)
        self._task = asyncio.create_task(self._run(), name=f"template {self.key}")

    async def settled(self) -> LoadFailure | None:
        """Wait until its first load has ended; how it failed, should somebody have had to wait for that."""
        if self._settled.is_set():
            return None
        await self._settled.wait()
        return self._failure

    def want(self, spec: ReplicaSpec) -> None:
        """It is wished for, to fork replicas like ``spec`` from; what has ended for good begins anew."""
        adopted, self.spec = self.spec is None, spec
        if self._task is None or (self._task.done() and self._fit()):
            self.begin()
        elif adopted and self._process is not None and self._process.exit is None:
            self._watch_memory(self._process)

    def tell_unfit(self) -> bool:
        """Whether it is news that it is unfit: True once."""
        news = self.unfit is not None and not self._told
        self._told = self._told or news
        return news

    async def fork(
        self, config: Path, replica_id: str, on_exit: Callable[[], None]
    ) -> ForkedStart | ReplicaProcess | str:
        """A replica of the config file ``config``: forked, or, of an unfit version, the template itself.

        Or why there is none.
        """
        link = self._link
        if link is None:
            return "the template is not running"
        answer = await link.fork(str(config))
        if isinstance(answer, NotForked):
            if link.closed:  # should it have come to be all the same, nobody would know of it
                await end_processes(await asyncio.to_thread(scan, self._around.launcher.home, replica_id), grace_s=0.0)
                self._stir.set()
            elif self._becomes:  # nor can it be the replica: then it is of no use
                self._becomes = False
                self._stir.set()
            return answer.message
        if answer.same:
            process, self._process = self._process, None
            self._stir.set()
            if process is None:
                return "the template is gone"
            process.watch(on_exit)
            self._around.memory.remove(process.pid)
            return process
        forked = ReplicaProcess.adopt(answer.pid, None, on_exit, link.exit_of)
        return ForkedStart(self, forked, link) if forked is not None else "the new process ended at once"

    async def exit_of(self, pid: int) -> Exit:
        """How a child of this template ended."""
        return await self._link.exit_of(pid) if self._link is not None else Exit()

    def renounce(self, reason: str) -> None:
        """Fork no more from it."""
        if self.unfit is None:
            self.unfit = reason
            spec = self.spec
            name = f"{spec.model} {spec.version}" if spec is not None else self.key
            log.warning("replicas of %s start cold, each loads the model by itself: %s", name, reason)
        self._settled.set()
        self._stir.set()

    async def stop(self) -> ReplicaProcess | None:
        """Tell the process to end, which it does once its replicas have: it is to be watched until then."""
        process, self._process = self._process, None
        await self.detach()
        if process is not None:
            self._around.memory.remove(process.pid)
            process.send(signal.SIGTERM)
        Path(self._socket).unlink(missing_ok=True)
        return process

    async def detach(self) -> None:
        """End the task and leave the process running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._let_go()

    # -- the task ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        score = 0.0
        try:
            while self._fit():
                began = self._around.clock.monotonic()
                if self._process is None and self.spec is None:
                    return  # it was adopted, has ended, and nobody has asked for it
                try:
                    problem = await self._live()
                except (HeadwayError, OSError) as error:
                    problem = f"it cannot be started: {error}"
                await self._end_process()
                self._settled.set()
                if problem is None or not self._fit():
                    return
                score = backoff.score_after_crash(score, self._around.clock.monotonic() - began, STEADY_S)
                delay_s = max(1.0, backoff.delay_s(score))
                log.warning("template %s: %s; starting it again in %g s", self.key, problem, delay_s)
                await self._around.clock.sleep(delay_s)
        except Exception:
            log.exception("the template %s failed; its replicas start cold", self.key)
        finally:
            self._settled.set()

    def _fit(self) -> bool:
        return self.unfit is None

    async def _live(self) -> str | None:
        """One process from its start to its end; what was wrong, None when it has become a replica."""
        give_back = await self._around.slots.take()
        try:
            self._stir.clear()
            if self._process is None:
                self._spawn()
            process = self._process
            assert process is not None
            self._watch_memory(process)
            loading = asyncio.create_task(self._load(process), name=f"load of template {self.key}")
            try:
                await self._either(loading)
                loaded = loading.done() and loading.result()
                if loaded is not True:
                    await self._end(process)
                    failure = LoadFailure(self._folder, process.exit or Exit(), self._over_bytes, loaded is None)
                    if not self._settled.is_set():
                        self._failure = failure
                    return self._problem(process, "did not load the model in time")
            finally:
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
        finally:
            give_back()
        self._settled.set()
        while process.exit is None and self._link is not None and not self._link.closed and self._over_bytes is None:
            await self._stir.wait()
            self._stir.clear()
            if self._process is None or (self.unfit is not None and not self._becomes):
                return None
        with contextlib.suppress(TimeoutError):  # its connection ends before it does
            async with asyncio.timeout(END_WITHIN_S):
                await process.wait()
        return self._problem(process, "does not answer")

    def _problem(self, process: ReplicaProcess, otherwise: str) -> str:
        if self._over_bytes is not None:
            return "was above the memory limit"
        return f"the process {process.exit}" if process.exit is not None else otherwise

    async def _load(self, process: ReplicaProcess) -> bool | None:
        """Connect and wait until it has loaded; None when it took too long, False when it has ended."""
        spec = self.spec
        limit = ADOPTED_WITHIN_S
        if spec is not None:  # what the replica's own load would be given
            startup = spec.probes.startup
            limit = startup.initial_delay_s + startup.failure_threshold * startup.period_s
        try:
            async with asyncio.timeout(limit):
                while process.exit is None:
                    with contextlib.suppress(OSError):
                        self._link = await TemplateLink.connect(self._socket, self._stir.set)
                        break
                    await self._around.clock.sleep(CONNECT_EVERY_S)
                hello = await self._link.hello() if self._link is not None else None
        except TimeoutError:
            await kill_with_stack(process, self._folder.stack, self._around.clock)
            return None
        if hello is None:
            await process.wait()
            return False
        self.load_s = hello.load_s
        if hello.obstacle is not None:
            self._becomes = True
            self.renounce(hello.obstacle)
        return True

    async def _either(self, loading: asyncio.Task[bool | None]) -> None:
        """Until the load or the process has ended."""
        while not loading.done():
            stir = asyncio.ensure_future(self._stir.wait())
            await asyncio.wait({loading, stir}, return_when=asyncio.FIRST_COMPLETED)
            stir.cancel()
            self._stir.clear()
            if self._over_bytes is not None:
                return

    def _spawn(self) -> None:
        assert self.spec is not None
        around, folder = self._around, self._folder
        folder.create()
        folder.log.unlink(missing_ok=True)
        record = ReplicaRecord(spec=replace(self.spec, replica_id=f"template-{self.key}"), socket=self._socket)
        argv = [*around.launcher.write_orders(folder, record), TEMPLATE]
        env = around.launcher.environment(self.spec) | {REPLICA_VARIABLE: mark_of(self.key)}
        self._process = ReplicaProcess.spawn(argv, env=env, cwd=folder.path, log=folder.log, on_exit=self._stir.set)
        prefer_as_victim(self._process.pid)
        if self.spec.memory_bytes is not None:
            set_data_limit(self._process.pid, self.spec.memory_bytes)

    def _over_memory(self, used_bytes: int) -> None:
        self._over_bytes = used_bytes
        self._stir.set()

    def _watch_memory(self, process: ReplicaProcess) -> None:
        limit = self.spec.memory_bytes if self.spec is not None else None
        self._around.memory.add(process.pid, limit, self._over_memory, shares=True)

    async def _end_process(self) -> None:
        if self._process is not None:
            await self._end(self._process)
        self._let_go()
        self._over_bytes = None

    async def _end(self, process: ReplicaProcess) -> None:
        if process.exit is None and self._link is not None:  # loaded: let the exit handlers of what it loaded run
            process.send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN_S):
                    await process.wait()
        if process.exit is None:
            process.kill()
            await process.wait()

    def _let_go(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._process is not None:
            self._around.memory.remove(self._process.pid)
            self._process.close()
            self._process = None
