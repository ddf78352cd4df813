"""EnvironmentBuilds: makes the environments of versions that are ``building``, a few at a time.

A build that was cut off by a crash is simply asked for again: the builder keeps nothing half-made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from headway.control.book import Changed, DeploymentBook
from headway.control.rollout import event_of
from headway.domain.deployments import Deployment, Version
from headway.domain.errors import HeadwayError
from headway.domain.events import EventType, NewEvent
from headway.domain.lifecycle import VersionState
from headway.domain.replicas import Failure
from headway.ports.bundle_store import BundleStore
from headway.ports.clock import Clock
from headway.ports.environment import Environment, EnvironmentBuilder

log = logging.getLogger(__name__)
MEND_AGAIN_S = 60.0
"""Between attempts to build a lost environment again."""
AT_ONCE = 2
"""Builds at the same time: they are bound by network and disk."""


class EnvironmentBuilds:
    """One task per version being built; ``stop`` cancels them all."""

    def __init__(
        self, book: DeploymentBook, bundles: BundleStore, environments: EnvironmentBuilder, clock: Clock
    ) -> None:
        self._book = book
        self._bundles = bundles
        self._environments = environments
        self._clock = clock
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.mending: dict[tuple[str, str], asyncio.Task[None]] = {}
        """Versions that run, or should, and whose environment is being built again."""

    def ensure(self, deployments: Iterable[Deployment]) -> None:
        """Start builds that are due and cancel those whose version is no longer building."""
        due = {(d.name, v.name): v for d in deployments for v in d.versions if v.state is VersionState.BUILDING}
        for key, version in due.items():
            if key not in self._tasks:
                task = asyncio.create_task(self._build(key[0], version), name=f"build {key[0]} {key[1]}")
                self._tasks[key] = task
                task.add_done_callback(lambda _, key=key: self._tasks.pop(key, None))  # type: ignore[misc]
        for key, task in list(self._tasks.items()):
            if key not in due:
                task.cancel()

    def mend(self) -> None:
        """Begin to build again what versions that run need and is gone: a restored backup, a home that was moved.

        Call it before replicas are started. Until its environment is there, a version is in :attr:`mending` and
        gets no new replicas.
        """
        for deployment in self._book.all():
            for version in deployment.versions:
                if version.state in (VersionState.STARTING, VersionState.LIVE):
                    self.lacks(deployment.name, version)

    def lacks(self, model: str, version: Version) -> bool:
        """Whether the environment of ``version`` is gone; then it begins to be built again.

        A version that was retired may be needed too, for the jobs that are pinned to it.
        """
        key = (model, version.name)
        if key in self.mending:
            return True
        if version.python is None or self._environments.has(version.python):
            return False
        self.mending[key] = asyncio.create_task(self._mend(model, version), name=f"mend {model} {version.name}")
        return True

    async def _mend(self, model: str, version: Version) -> None:
        log.info("the environment of %s %s is gone; building it again", model, version.name)
        environment = None
        try:
            while environment is None and self._runs(model, version):
                try:
                    environment = await self._environment_of(model, version)
                except HeadwayError as error:
                    log.error("the environment of %s %s cannot be built again: %s", model, version.name, error)
                    await self._clock.sleep(MEND_AGAIN_S)
        finally:
            self.mending.pop((model, version.name), None)
        if environment is None:
            return
        mended = environment

        def step(current: Deployment | None) -> Changed | None:
            present = next((v for v in current.versions if v.name == version.name), None) if current else None
            if current is None or present is None:
                return None
            found = replace(present, python=mended.python, lock_digest=mended.lock_digest)
            return Changed(current.with_version(found), (self._ready(model, version, mended),))

        await self._book.change(model, step)

    def _runs(self, model: str, version: Version) -> bool:
        """Whether it still is what it was when the build began: running, or retired; not deleted, nor another one."""
        current = self._book.find(model)
        running = (VersionState.STARTING, VersionState.LIVE)
        states = running if version.state in running else (*running, version.state)
        return current is not None and any(v.digest == version.digest and v.state in states for v in current.versions)

    async def _environment_of(self, model: str, version: Version) -> Environment:
        async with self._slots:
            path = await self._bundles.path(version.bundle_digest)
            return await self._environments.ensure(path, lambda note: log.info("%s %s: %s", model, version.name, note))

    def _ready(self, model: str, version: Version, environment: Environment) -> NewEvent:
        data = {"lock": environment.lock_digest, "cached": environment.cached}
        return NewEvent(self._clock.now(), EventType.VERSION_ENVIRONMENT_READY, model, version.name, data=data)

    async def stop(self) -> None:
        """Cancel every build and wait until they are gone."""
        tasks = [*self._tasks.values(), *self.mending.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _build(self, model: str, version: Version) -> None:
        try:
            environment = await self._environment_of(model, version)
        except HeadwayError as error:
            code = error.code if error.code != HeadwayError.code else "environment_failed"
            tail = str(error.details.get("output", ""))[-4096:]
            await self._failed(model, version, Failure(code, error.message, error.where, error.hint, tail))
        except Exception as error:
            log.exception("building the environment of %s %s", model, version.name)
            await self._failed(model, version, Failure("environment_failed", f"{type(error).__name__}: {error}"))
        else:
            await self._built(model, version, environment)

    async def _built(self, model: str, version: Version, environment: Environment) -> None:
        def step(current: Deployment | None) -> Changed | None:
            present = _still_building(current, version)
            if current is None or present is None:
                return None
            now = self._clock.now()
            built = replace(present, python=environment.python, lock_digest=environment.lock_digest)
            started = built.moved(VersionState.STARTING, now)
            ready = self._ready(model, version, environment)
            return Changed(current.with_version(started), (ready, event_of(model, started, now)))

        await self._book.change(model, step)

    async def _failed(self, model: str, version: Version, failure: Failure) -> None:
        def step(current: Deployment | None) -> Changed | None:
            present = _still_building(current, version)
            if current is None or present is None:
                return None
            now = self._clock.now()
            failed = present.moved(VersionState.FAILED, now, failure)
            return Changed(current.with_version(failed), (event_of(model, failed, now),))

        await self._book.change(model, step)


def _still_building(current: Deployment | None, version: Version) -> Version | None:
    if current is None:
        return None
    present = next((v for v in current.versions if v.name == version.name), None)
    return present if present is not None and present.state is VersionState.BUILDING else None
