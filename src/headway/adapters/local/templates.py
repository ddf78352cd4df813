"""Templates: which versions have a process to fork replicas from, and finding those processes again.

A template is named by all that its replicas have in common (:func:`key_of`): change a variable, the interpreter or the
release of Headway, and it is another one. It goes some time after the last wish for it, not at once: the wishes come
with every round of the reconciler, and a rollback should find the old version warm.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import msgspec

import headway
from headway.adapters.local.adoption import FoundProcess
from headway.adapters.local.launch import REPLICA_VARIABLE, Launcher
from headway.adapters.local.process import AskExit, Exit, ReplicaProcess
from headway.adapters.local.records import ReplicaFolder
from headway.adapters.local.sockets import replica_socket
from headway.adapters.local.template_process import TemplateProcess, TemplateSurroundings
from headway.domain.replicas import ReplicaSpec
from headway.server import template_wire

log = logging.getLogger(__name__)

END_WITHIN_S = 5.0
"""For a template to run the exit handlers of what it loaded."""
LINGER_S = 15.0
"""A template that nobody wishes for any more is kept for so long."""


def key_of(spec: ReplicaSpec, launcher: Launcher) -> str:
    """Names the template of this replica: equal for all replicas of which one process can be forked."""
    env = launcher.environment(spec)
    del env[REPLICA_VARIABLE]
    same = {
        "headway": [headway.__version__, headway.__file__],
        "version": [spec.model, spec.version, spec.digest],
        "code": [spec.bundle_path, spec.python, spec.entrypoint],
        "env": env,
        "memory": spec.memory_bytes,
    }
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).hexdigest()[:16]


class Templates:
    """The templates of one runtime. :meth:`keep` says which there are to be."""

    def __init__(self, home: Path, run_dir: Path, around: TemplateSurroundings) -> None:
        self._folder = home / "templates"
        self._run_dir = run_dir
        self._around = around
        self._all: dict[str, TemplateProcess] = {}
        self._wished: frozenset[str] = frozenset()
        self._ends: dict[str, asyncio.Task[None]] = {}
        """Of those that nobody wishes for: what waits to stop them, by key."""
        self._ending: set[ReplicaProcess] = set()

    def adopt(self, found: Iterable[FoundProcess]) -> None:
        """Take over the template processes that an earlier runtime has left, and clear away what is left of others."""
        for process in found:
            key = template_wire.key_of(process.replica_id)
            if key is not None and process.leads and key not in self._all:
                self._template(key).begin(process)
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.name not in self._all:
                    shutil.rmtree(folder, ignore_errors=True)

    def keep(self, specs: Iterable[ReplicaSpec]) -> None:
        """From now on there is a template for each version of ``specs``, and before long for no other."""
        wished = {key_of(spec, self._around.launcher): spec for spec in specs}
        self._wished = frozenset(wished)
        for key, spec in wished.items():
            waiting = self._ends.pop(key, None)
            if waiting is not None:
                waiting.cancel()
            (self._all.get(key) or self._template(key)).want(spec)
        for key in self._all.keys() - wished.keys() - self._ends.keys():
            self._ends[key] = asyncio.create_task(self._stop_later(key), name=f"end of template {key}")

    def of(self, spec: ReplicaSpec) -> TemplateProcess | None:
        """The template for this replica; None when its version is not to be warm."""
        if not self._wished:
            return None
        key = key_of(spec, self._around.launcher)
        return self._all.get(key) if key in self._wished else None

    def parent(self, pid: int) -> AskExit | None:
        """Whom to ask how a child of process ``pid`` ended; None when that is no template."""
        template = next((t for t in self._all.values() if t.pid == pid), None)
        return partial(_exit_of, template) if template is not None else None

    async def end(self) -> None:
        """Stop all of them and wait until they have ended. Their replicas have."""
        for waiting in self._ends.values():
            waiting.cancel()
        processes = [*self._ending]
        for template in self._all.values():
            process = await template.stop()
            if process is not None:
                self._ending.add(process)
                processes.append(process)
        try:
            async with asyncio.timeout(END_WITHIN_S):
                for process in processes:
                    await process.wait()
        except TimeoutError:
            for process in processes:
                process.kill()
                await process.wait()
        await self.detach()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def detach(self) -> None:
        """Stop looking after them, and leave the processes running."""
        for waiting in self._ends.values():
            waiting.cancel()
        await asyncio.gather(*self._ends.values(), return_exceptions=True)
        for template in self._all.values():
            await template.detach()
        for process in self._ending:
            process.close()
        self._ends.clear()
        self._all.clear()
        self._ending.clear()
        self._wished = frozenset()

    def _template(self, key: str) -> TemplateProcess:
        socket = str(replica_socket(self._run_dir, f"template-{key}"))
        template = self._all[key] = TemplateProcess(key, ReplicaFolder(self._folder / key), socket, self._around)
        return template

    async def _stop_later(self, key: str) -> None:
        await self._around.clock.sleep(LINGER_S)
        template = self._all.pop(key)
        self._ends.pop(key, None)
        process = await template.stop()
        if process is not None:
            self._ending.add(process)
            process.watch(partial(self._ended, process))
        shutil.rmtree(self._folder / key, ignore_errors=True)

    def _ended(self, process: ReplicaProcess) -> None:
        process.close()
        self._ending.discard(process)


async def _exit_of(template: TemplateProcess, pid: int) -> Exit:
    return await template.exit_of(pid)
