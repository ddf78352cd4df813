"""A whole control plane on memory adapters and a clock turned by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from headway.adapters.memory.bundles import MemoryBundleStore
from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.environments import MemoryEnvironments
from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.gateway import MemoryGateway, MemoryProxy
from headway.adapters.memory.runtime import MemoryMachine, MemoryRuntime
from headway.adapters.memory.stores import MemoryDeploymentStore
from headway.control.book import DeploymentBook
from headway.control.builds import EnvironmentBuilds
from headway.control.commands import weights_of
from headway.control.reconciler import Reconciler
from headway.control.recorder import GatewayWatch, TransitionRecorder
from headway.control.service import Accepted, ControlService
from headway.control.worker_service import WorkerService
from headway.domain.deployments import Deployment
from headway.domain.replicas import serving
from headway.domain.spec import parse


class World:
    """What outlives a control plane (machine, proxy, log, bundles, store), and the control plane itself."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.machine = MemoryMachine()
        self.proxy = MemoryProxy()
        self.log = MemoryEventLog()
        self.bundles = MemoryBundleStore(folder)
        self.environments = MemoryEnvironments(missing={"no-such-package"})
        self.store = MemoryDeploymentStore(self.log)
        self._suffixes = (f"{number:05d}" for number in itertools.count())

    async def up(self) -> None:
        """A new control plane on what is there."""
        self.runtime = MemoryRuntime(self.clock, self.machine)
        self.gateway = MemoryGateway(self.proxy)
        self.book = DeploymentBook(self.store)
        self.builds = EnvironmentBuilds(self.book, self.bundles, self.environments, self.clock)
        self.work = self.worker_service()
        self.reconciler = Reconciler(
            book=self.book,
            runtime=self.runtime,
            gateway=self.gateway,
            bundles=self.bundles,
            builds=self.builds,
            events=self.log,
            clock=self.clock,
            tokens=lambda: (),
            suffix=lambda: next(self._suffixes),
            workers=self.work.workers if self.work else None,
        )
        look = self.work.verdicts.look if self.work else None
        self.service = ControlService(self.book, self.runtime, self.bundles, self.log, self.clock, self.work)
        self.recorder = TransitionRecorder(self.runtime, self.log, self.clock, self.reconciler.wake, look)
        self.watch = GatewayWatch(self.gateway, self.log, self.clock)
        await self.book.load()
        await self.runtime.start()
        await self.recorder.start()
        await self.gateway.start()
        await self.watch.start()
        self.builds.mend()
        if self.work:
            await self.work.verdicts.start()
            await self.work.workers.start()
        await self.reconciler.start()
        await self.clock.settle()

    async def crash(self) -> None:
        """The control plane is gone; replicas and proxy are not."""
        if self.work:
            await self.work.workers.stop()
            await self.work.verdicts.stop()
        await self.reconciler.stop()
        await self.watch.stop()
        await self.runtime.stop(stop_replicas=False)
        await self.recorder.stop()
        await self.gateway.stop(stop_gateway=False)

    def worker_service(self) -> WorkerService | None:
        """What carries jobs out; None: there are none."""
        return None

    async def deploy(self, name: str, content: str, *, canary: int | None = None, **spec: Any) -> Accepted:
        """Deploy a model whose only file says ``content``."""
        files = {"model.py": content}
        if "requirements" in spec:
            files["requirements.txt"] = spec.pop("requirements")
        digest = self.bundles.add(files)
        head = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}}
        return await self.service.deploy(parse({**head, "spec": spec}), digest, canary)

    async def pass_time(self, seconds: float) -> None:
        """Let it work for that long."""
        await self.clock.elapse(seconds)

    def model(self, name: str) -> Deployment:
        return self.book.get(name)

    def live(self, name: str) -> dict[str, int]:
        return weights_of(self.model(name).live)

    def running(self, name: str) -> dict[str, int]:
        """Replicas that serve and are not gone, by version."""
        counts: dict[str, int] = {}
        for replica in serving(self.runtime.observe()):
            if replica.model == name:
                counts[replica.version] = counts.get(replica.version, 0) + 1
        return counts

    def ids(self, name: str) -> set[str]:
        return {r.replica_id for r in self.runtime.observe() if r.model == name}

    async def event_types(self) -> list[str]:
        return [event.type for event in await self.log.read(limit=10_000)]
