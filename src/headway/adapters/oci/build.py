"""ImageBuilder: base, packages, model server and code put together as one image.

Four kinds of layer, from what changes seldom to what changes often, so that a change uploads what changed: the base's,
the packages that the requirements lock, the model server (this Headway's part that runs beside user code), the code.
The last three are packed once for what goes into them and found again by it.

Programs are compiled beforehand where this machine has the image's Python: a read-only container could not keep what it
compiles. The form is the one that names no time of the source (PEP 552, unchecked hashes).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import headway
from headway import __version__
from headway.adapters.oci.layers import Entry, Packed, entries_of, pack
from headway.adapters.oci.parents import ParentImage
from headway.adapters.oci.store import BlobStore, key_of
from headway.domain.errors import HeadwayError, Unsupported
from headway.domain.images import LAYER, Descriptor, Image, Layer, canonical, image_of

FORM: Final = "1"
"""Of layers; another one when the same input is packed in another way."""
ROOT: Final = "headway"
PACKAGES: Final = f"{ROOT}/packages"
SERVER: Final = f"{ROOT}/server"
BUNDLE: Final = f"{ROOT}/bundle"
CONFIG: Final = f"{ROOT}/model.json"
STATE: Final = "var/lib/headway"
PORT: Final = 8080
USER: Final = 65532
LABELS: Final = "dev.headway"
Tell = Callable[[str, str, str], None]
"""Told of a stage, its state (``running``, ``done``), and a line about it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an image is to hold."""

    model: str
    folder: Path
    digest: str
    """The version's."""
    bundle_digest: str
    files: tuple[Entry, ...]
    """Of the bundle, below :data:`BUNDLE`."""
    server: Mapping[str, Any]
    """Fields of the model server's config that the version's spec sets."""
    env: Mapping[str, str]
    in_r: bool

    def config(self) -> bytes:
        """The config that the model server finds in the image."""
        fixed = {
            "model": self.model,
            "version": "image",
            "digest": self.digest,
            "bundle_path": f"/{BUNDLE}",
            "listen": f"tcp:0.0.0.0:{PORT}",
        }
        return canonical({**self.server, **fixed})

    def run(self, python: str) -> dict[str, Any]:
        """How a container of the image runs, in the words of an image's config."""
        path = f"/{SERVER}:/{PACKAGES}"
        env = {"PYTHONUNBUFFERED": "1", "HOME": "/tmp", **self.env}  # noqa: S108 - in the container
        env["PYTHONPATH"] = ":".join(filter(None, [path, self.env.get("PYTHONPATH", "")]))
        return {
            "Entrypoint": [python, "-m", "headway.server", "--container", f"/{CONFIG}"],
            "User": f"{USER}:{USER}",
            "WorkingDir": f"/{ROOT}",
            "ExposedPorts": {f"{PORT}/tcp": {}},
            "StopSignal": "SIGTERM",
            "Env": env,
        }

    def annotations(self, base: ParentImage | None) -> dict[str, str]:
        """Labels, and annotations of the manifest. Source: OCI image specification, annotations.md."""
        found = {
            "org.opencontainers.image.title": self.model,
            "org.opencontainers.image.description": f"Model {self.model}, served by Headway {__version__}",
            f"{LABELS}.model": self.model,
            f"{LABELS}.version-digest": self.digest,
            f"{LABELS}.bundle-digest": self.bundle_digest,
            f"{LABELS}.server-version": __version__,
        }
        if base is not None:
            found["org.opencontainers.image.base.name"] = base.name
            found["org.opencontainers.image.base.digest"] = base.digest
        return found


@dataclass(frozen=True, slots=True)
class Packages:
    """What installs packages: ``install(lock, folder, tell)`` fills a folder that is not there yet."""

    lock: str
    key: str
    """What else than the lock decides about the files: Python and platform."""
    install: Callable[[Path, Callable[[str], None]], Awaitable[None]]


def server_files() -> list[Entry]:
    """The part of Headway that runs beside user code: the room ``server``, and what it imports."""
    package = Path(headway.__file__).resolve().parent
    found = [Entry(f"{name}.py", package / f"{name}.py") for name in ("__init__", "jobs")]
    for room in ("domain", "server"):
        found += [e for e in entries_of(package / room, room) if e.path.endswith((".py", ".R"))]
    return found


class ImageBuilder:
    """Builds into ``store``."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    async def build(self, order: Order, base: ParentImage, packages: Packages, tell: Tell) -> Image:
        """The image, all its blobs in the store. Raises ``Unsupported``, ``EnvironmentFailed``, ``InvalidBundle``."""
        if order.in_r and not base.has_r:
            raise Unsupported(
                "the model is in R, and the base has no Rscript",
                where=base.name,
                hint="--base an image with Python 3.11 or newer, R, and the packages of R-packages.txt",
            )
        compiler = _compiler(base.python_version)
        added = (
            await self._packages(packages, compiler, tell),
            await self._server(compiler),
            await self._code(order),
        )
        image = image_of(base.config, base.layers, added, order.run(base.python), order.annotations(base))
        self._store.put(image.config_descriptor.digest, image.config)
        self._store.put(image.digest, image.manifest)
        tell("image", "done", image.digest)
        return image

    async def _packages(self, packages: Packages, compiler: str | None, tell: Tell) -> Layer:
        key = key_of("packages", FORM, packages.lock, packages.key, _identity(compiler))
        found = self._store.noted_layer(key)
        if found is None:
            with tempfile.TemporaryDirectory(prefix="headway-image-") as scratch:
                folder = Path(scratch, "packages")
                await packages.install(folder, lambda line: tell("packages", "running", line))
                tell("packages", "running", "packing")
                found = await self._packed(key, folder, PACKAGES, compiler)
        tell("packages", "done", _megabytes(found))
        return _layer(found, "packages")

    async def _server(self, compiler: str | None) -> Layer:
        files = server_files()
        content = hashlib.sha256()
        for entry in files:
            assert isinstance(entry.source, Path)
            content.update(f"{entry.path}\0{hashlib.sha256(entry.source.read_bytes()).hexdigest()}\n".encode())
        key = key_of("server", FORM, content.hexdigest(), _identity(compiler))
        found = self._store.noted_layer(key)
        if found is None:
            with tempfile.TemporaryDirectory(prefix="headway-image-") as scratch:
                folder = Path(scratch, "server")
                write_server(folder / "headway")
                found = await self._packed(key, folder, SERVER, compiler)
        return _layer(found, "model server")

    async def _code(self, order: Order) -> Layer:
        config = order.config()
        key = key_of("code", FORM, order.bundle_digest, config.decode())
        found = self._store.noted_layer(key)
        if found is None:
            state = Entry(STATE, owner=USER)
            found = await self._pack(key, [*order.files, Entry(ROOT), Entry(CONFIG, config), state])
        return _layer(found, "code")

    async def _packed(self, key: str, folder: Path, prefix: str, compiler: str | None) -> Packed:
        if compiler is not None:
            await asyncio.to_thread(_compile, folder, prefix, compiler)
        return await self._pack(key, [Entry(ROOT), Entry(prefix), *entries_of(folder, prefix)])

    async def _pack(self, key: str, entries: list[Entry]) -> Packed:
        def work() -> Packed:
            with self._store.incoming() as (draft, file):
                packed = pack(entries, file)
                file.close()
                self._store.keep(draft, packed.digest)
            self._store.note_layer(key, packed)
            return packed

        return await asyncio.to_thread(work)


def write_server(folder: Path) -> None:
    """Copy :func:`server_files` into ``folder``."""
    for entry in server_files():
        assert isinstance(entry.source, Path)
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.source, target)


def _compiler(python_version: str) -> str | None:
    """An interpreter whose byte code the image's Python reads; None: there is none, the image holds sources only."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    return sys.executable if ours == python_version else None


def _identity(compiler: str | None) -> str:
    return "sources only" if compiler is None else sys.version


def _compile(folder: Path, prefix: str, python: str) -> None:
    """What cannot be compiled (templates, other Pythons' syntax) stays as it is."""
    command = [python, "-S", "-s", "-m", "compileall", "-q", "-q", "--invalidation-mode", "unchecked-hash"]
    done = subprocess.run(
        [*command, "-s", str(folder), "-p", f"/{prefix}", str(folder)],
        env={"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise HeadwayError(f"compiling failed: {done.stderr.decode(errors='replace')[-500:]}")


def _layer(packed: Packed, title: str) -> Layer:
    return Layer(Descriptor(f"{LAYER}+gzip", packed.digest, packed.size), packed.diff_id, title)


def _megabytes(packed: Packed) -> str:
    return f"{packed.size / 1e6:.1f} MB"


def summary(image: Image, base: ParentImage) -> dict[str, Any]:
    """For people and programs: the layers above the base, by title."""
    return {
        "digest": image.digest,
        "size_bytes": sum(layer.blob.size for layer in image.layers),
        "base": {"name": base.name, "digest": base.digest, "python": base.python_version},
        "layers": [
            {"title": layer.title or "base", "digest": layer.blob.digest, "size_bytes": layer.blob.size}
            for layer in image.layers
        ],
        "config": json.loads(image.config)["config"],
    }
