"""Bootstrap of images: from a folder with a model to an image that is elsewhere. Nothing of a control plane runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from headway.adapters.local.targets import Target, UvTargets
from headway.adapters.oci import parents
from headway.adapters.oci.build import BUNDLE, ImageBuilder, Order, Packages, Tell, summary
from headway.adapters.oci.credentials import credentials_for
from headway.adapters.oci.dockerfile import write_context
from headway.adapters.oci.layers import Entry
from headway.adapters.oci.output import push, write_archive, write_layout
from headway.adapters.oci.parents import ParentImage
from headway.adapters.oci.registry import Registry
from headway.adapters.oci.store import BlobStore
from headway.client.documents import Deployable
from headway.domain.errors import InvalidInput
from headway.domain.images import DEFAULT_REGISTRY, Platform, Reference, parse_reference
from headway.domain.spec import version_digest

ARCHITECTURES: Final = ("amd64", "arm64")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for on the command line."""

    base: str
    platform: str
    push: str | None = None
    to: Path | None = None
    plain_http: bool = False


def order_of(found: Deployable) -> Order:
    """What the image of ``found`` holds."""
    spec, bundle = found.document.spec, found.bundle
    optional = {
        "entrypoint": spec.model.entrypoint,
        "sample": spec.model.sample,
        "metrics_compat": spec.metrics.compat,
    }
    files = tuple(
        Entry(f"{BUNDLE}/{one.file.path}", one.source, one.file.executable, sha256=one.file.sha256)
        for one in bundle.files
    )
    return Order(
        model=found.name,
        folder=bundle.folder,
        digest=version_digest(bundle.digest, found.document.version_level()),
        bundle_digest=bundle.digest,
        files=files,
        server={"options": spec.server_options(), **{k: v for k, v in optional.items() if v is not None}},
        env=spec.env(),
        in_r=bundle.holds("model.R") and not bundle.holds("model.py") and spec.model.entrypoint is None,
    )


class Images:
    """Builds and pushes, on one home."""

    def __init__(self, home: Path, env: Mapping[str, str] | None = None) -> None:
        self._store = BlobStore(home / "images")
        self._targets = UvTargets(home / "images")
        self._env = os.environ if env is None else env

    async def build(self, found: Deployable, wanted: Wanted, tell: Tell) -> dict[str, Any]:
        """Build it, and bring it where it is wanted; what came of it.

        Raises ``RegistryFailed``, ``ImageNotFound``, ``Unauthenticated``, ``EnvironmentFailed``, ``Unsupported``, …
        """
        order, platform = order_of(found), _platform(wanted.platform)
        target = None if wanted.push is None else _target(wanted.push)
        async with AsyncExitStack() as stack:
            base = await self._base(wanted, platform, stack, tell)
            lock_target = Target(base.python_version, base.architecture, base.libc)
            lock = await self._targets.lock(order.folder, lock_target, partial(tell, "packages", "running"))

            async def install(folder: Path, note: Callable[[str], None]) -> None:
                await self._targets.install(lock, order.folder, folder, lock_target, note)

            packages = Packages(lock, " ".join(lock_target.arguments()), install)
            image = await ImageBuilder(self._store).build(order, base, packages, tell)
            result = {"model": order.model, "version_digest": order.digest, **summary(image, base)}
            name = target.tag if target is not None and target.tag else order.digest[:12]
            if wanted.to is not None:
                write = write_archive if wanted.to.suffix == ".tar" else write_layout
                await asyncio.to_thread(write, image, self._store, wanted.to, name)
                result["written"] = str(wanted.to)
                tell("write", "done", str(wanted.to))
            if target is not None:
                registry = await stack.enter_async_context(self._registry(target.registry, wanted.plain_http))

                def counted(sent: int, due: int) -> None:
                    tell("push", "running", f"{sent / 1e6:.1f} of {due / 1e6:.1f} MB")

                pushed = await push(image, self._store, registry, target, base.source, counted)
                result["pushed"] = {"image": f"{target.registry}/{target.repository}@{image.digest}", **asdict(pushed)}
                if target.tag:
                    result["pushed"]["tag"] = target.tag
                tell("push", "done", f"{pushed.uploaded / 1e6:.1f} MB uploaded, the rest was there")
            return result

    async def dockerfile(self, found: Deployable, wanted: Wanted, folder: Path, python: str, tell: Tell) -> list[str]:
        """Write a build context for another builder, whose base has that ``python`` (``3.11``); names of its files."""
        order, platform = order_of(found), _platform(wanted.platform)
        if parents.is_path(wanted.base):
            raise InvalidInput("a Dockerfile needs a base from a registry", where="--base")
        target = Target(python, platform.architecture, "gnu")
        lock = await self._targets.lock(order.folder, target, partial(tell, "packages", "running"))
        return await asyncio.to_thread(write_context, order, wanted.base, lock, folder)

    async def _base(self, wanted: Wanted, platform: Platform, stack: AsyncExitStack, tell: Tell) -> ParentImage:
        tell("base", "running", wanted.base)
        if parents.is_path(wanted.base):
            path = Path(wanted.base).expanduser()
            if not path.exists():
                raise InvalidInput(f"there is no {path}", where="--base")
            read = parents.from_layout if path.is_dir() else parents.from_archive
            base = await read(path, platform, self._store)
        else:
            if wanted.base == "scratch":
                raise InvalidInput("scratch has no Python", where="--base", hint="name a base that has one")
            reference = parse_reference(wanted.base, "--base", registry=DEFAULT_REGISTRY)
            registry = await stack.enter_async_context(self._registry(reference.registry, wanted.plain_http))
            fetched = 0

            def counted(count: int) -> None:
                nonlocal fetched
                fetched += count
                tell("base", "running", f"{wanted.base}: {fetched / 1e6:.1f} MB")

            base = await self._from_registry(registry, reference, platform, counted)
        tell("base", "done", f"{base.name}, Python {base.python_version}")
        return base

    async def _from_registry(
        self, registry: Registry, reference: Reference, platform: Platform, counted: Callable[[int], None]
    ) -> ParentImage:
        try:
            return await parents.from_registry(registry, reference, platform, self._store, counted)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    def _registry(self, host: str, plain_http: bool) -> Registry:
        credentials = credentials_for(host, self._env, Path(self._env.get("HOME", "/")))
        return Registry(host, credentials, plain_http=plain_http)


def _platform(text: str) -> Platform:
    system, _, architecture = text.partition("/")
    if system != "linux" or architecture not in ARCHITECTURES:
        known = ", ".join(f"linux/{one}" for one in ARCHITECTURES)
        raise InvalidInput(f"{text[:60]!r} is no platform that images are built for", where="--platform", hint=known)
    return Platform(architecture, system)


def _target(text: str) -> Reference:
    target = parse_reference(text, "--push")
    if target.digest:
        raise InvalidInput(
            "a digest cannot be pushed to: it follows from the content", where="--push", hint="name a tag"
        )
    return target
