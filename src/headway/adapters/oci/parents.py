"""The base of an image: where it comes from, its layers, and what of it a model server needs to know.

From a registry, from a folder in the OCI image layout, or a whole file system as a tar archive. What Python the base
has is found by looking at its files, since images say it in different ways or not at all.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from headway.adapters.oci.layers import Packed, repack
from headway.adapters.oci.registry import Counted, Registry
from headway.adapters.oci.store import BlobStore, Checking, key_of
from headway.domain.errors import DigestMismatch, ImageNotFound, InvalidInput, Unsupported
from headway.domain.images import (
    COMPRESSIONS,
    DOCKER_INDEX,
    INDEX,
    LAYER,
    Descriptor,
    Layer,
    Platform,
    Reference,
    digest_of,
)

OLDEST_PYTHON: Final = (3, 11)
MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
_PYTHON = re.compile(r"(?:usr/local/bin|usr/bin|bin|opt/[^/]+/bin)/python3\.(\d+)")
_MUSL = re.compile(r"(?:usr/)?lib/ld-musl-[^/]+\.so\.1")
_R = re.compile(r"(?:usr/local/bin|usr/bin|bin|opt/[^/]+/bin)/Rscript")
_SIDE_BY_SIDE: Final = 3


@dataclass(frozen=True, slots=True)
class ParentImage:
    """Layers, and what a model server finds in them."""

    name: str
    digest: str
    config: Mapping[str, Any]
    layers: tuple[Layer, ...]
    python: str
    """Path of the interpreter in the image."""
    python_version: str
    """``3.11``."""
    libc: str
    """``gnu`` or ``musl``."""
    has_r: bool
    source: Reference | None = None
    """Where its blobs can be had from; None: only from here."""

    @property
    def architecture(self) -> str:
        """``amd64``, ``arm64``."""
        return str(self.config.get("architecture", Platform().architecture))


def is_path(text: str) -> bool:
    """Whether a base is a file or folder of this machine."""
    return text.startswith(("./", "../", "/", "~"))


async def from_registry(
    registry: Registry, reference: Reference, platform: Platform, store: BlobStore, counted: Counted
) -> ParentImage:
    """Everything of the image in ``store``. What is named by its digest and is there already needs no registry."""
    where = str(reference)
    if reference.digest and store.has(reference.digest):
        content = store.read(reference.digest)
        media_type = str(json.loads(content).get("mediaType", ""))
    else:
        media_type, content = await registry.manifest(reference.repository, reference.version)
        store.put(digest_of(content), content)
    digest = digest_of(content)
    document = _document(content, where)
    if media_type in (INDEX, DOCKER_INDEX) or "manifests" in document:
        chosen = _chosen(document, platform, where)
        if not store.has(chosen):
            _, content = await registry.manifest(reference.repository, chosen)
            store.put(chosen, content)
        document = _document(store.read(chosen), where)
    config, blobs = _parts(document, where)
    gate = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def fetch(blob: Descriptor) -> None:
        async with gate:
            await registry.fetch(reference.repository, blob, store, counted)

    async with asyncio.TaskGroup() as group:
        for blob in dict.fromkeys([config, *blobs]):
            group.create_task(fetch(blob))
    return await _base(where, digest, config, blobs, store, platform, reference)


async def from_layout(folder: Path, platform: Platform, store: BlobStore) -> ParentImage:
    """The image in an OCI image layout. Raises ``InvalidInput`` for a folder that is none."""
    where = str(folder)
    try:
        index = _document((folder / "index.json").read_bytes(), where)
    except OSError as error:
        raise InvalidInput(f"{folder} is no OCI image layout: {error.strerror}", where="--base") from None
    listed = [one for one in index.get("manifests") or () if isinstance(one, dict)]
    if len(listed) != 1:
        raise InvalidInput(f"{folder} holds {len(listed)} images, not one", where="--base")

    def blob(descriptor: Descriptor) -> bytes:
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise InvalidInput(f"{descriptor.digest} is too large for a document", where=where)
        _take(folder, descriptor, store)
        return store.read(descriptor.digest)

    digest = str(listed[0].get("digest", ""))
    document = _document(blob(_descriptor(listed[0], where)), where)
    if "manifests" in document:
        chosen = next(one for one in document["manifests"] if one["digest"] == _chosen(document, platform, where))
        document = _document(blob(_descriptor(chosen, where)), where)
    config, blobs = _parts(document, where)
    for one in dict.fromkeys([config, *blobs]):
        await asyncio.to_thread(_take, folder, one, store)
    return await _base(folder.name, digest, config, blobs, store, platform, None)


async def from_archive(path: Path, platform: Platform, store: BlobStore) -> ParentImage:
    """A whole file system (``.tar``, ``.tar.gz``) as one layer."""
    layer = await asyncio.to_thread(_archive_layer, path, store)
    config: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os, "config": {}}
    found = await asyncio.to_thread(_look, [layer], store)
    return _found(path.name, layer.diff_id, config, (layer,), found, None)


def _archive_layer(path: Path, store: BlobStore) -> Layer:
    try:
        with _unpacked(path) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            names = {member.name.removeprefix("./") for member, _ in zip(tar, range(50), strict=False)}
        if names & {"oci-layout", "manifest.json"}:
            raise InvalidInput(
                f"{path} is an archive of an image, not of a file system",
                where="--base",
                hint="unpack it (tar -xf) and name the folder, if it is in OCI layout",
            )
        stat = path.stat()
        key = key_of("archive", str(path.resolve()), str(stat.st_size), str(stat.st_mtime_ns))
        packed = store.noted_layer(key)
        if packed is None:
            with _unpacked(path) as source, store.incoming() as (draft, target):
                packed = repack(source, target)
                target.close()
                store.keep(draft, packed.digest)
            store.note_layer(key, packed)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise InvalidInput(f"{path} cannot be read as a file system: {error}", where="--base") from None
    return _layer(packed)


def _unpacked(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def _layer(packed: Packed, title: str = "") -> Layer:
    return Layer(Descriptor(f"{LAYER}+gzip", packed.digest, packed.size), packed.diff_id, title)


def _take(folder: Path, blob: Descriptor, store: BlobStore) -> None:
    """Copy a blob of a layout, checked."""
    if store.has(blob.digest):
        return
    path = folder / "blobs" / blob.digest.replace(":", "/")
    try:
        source = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"the layout lacks {blob.digest}: {error.strerror}", where=str(folder)) from None
    with source, store.incoming() as (draft, target):
        checked = Checking(target, blob.digest, blob.size, str(folder))
        while data := source.read(1024 * 1024):
            checked.write(data)
        checked.finish()
        target.close()
        store.keep(draft, blob.digest)


def _document(content: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidInput("a manifest or config of it is not a JSON object", where=where)
    if found.get("schemaVersion", 2) != 2:
        raise Unsupported(f"an image of schema version {found['schemaVersion']} is too old", where=where)
    return found


def _descriptor(found: Any, where: str) -> Descriptor:
    try:
        blob = Descriptor(str(found["mediaType"]), str(found["digest"]), int(found["size"]))
    except (KeyError, TypeError, ValueError):
        raise InvalidInput("its manifest is damaged: a descriptor is not complete", where=where) from None
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", blob.digest):
        raise Unsupported(f"a blob is named {blob.digest[:80]}: only sha256 is supported", where=where)
    return blob


def _chosen(index: Mapping[str, Any], platform: Platform, where: str) -> str:
    """Digest of the image for ``platform``."""
    offered: list[str] = []
    for one in index.get("manifests") or ():
        said = one.get("platform") or {}
        if (said.get("os"), said.get("architecture")) == (platform.os, platform.architecture):
            return _descriptor(one, where).digest
        offered.append(f"{said.get('os')}/{said.get('architecture')}")
    raise ImageNotFound(f"there is no image for {platform}", where=where, hint=f"there are: {', '.join(offered)[:300]}")


def _parts(manifest: Mapping[str, Any], where: str) -> tuple[Descriptor, list[Descriptor]]:
    config = _descriptor(manifest.get("config"), where)
    layers = [_descriptor(one, where) for one in manifest.get("layers") or ()]
    for layer in layers:
        if layer.media_type not in COMPRESSIONS:
            raise Unsupported(f"a layer is of type {layer.media_type[:80]}, not tar or tar+gzip", where=where)
    return config, layers


async def _base(
    name: str,
    digest: str,
    config_blob: Descriptor,
    blobs: list[Descriptor],
    store: BlobStore,
    platform: Platform,
    source: Reference | None,
) -> ParentImage:
    config = _document(store.read(config_blob.digest), name)
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(diff_ids) != len(blobs):
        raise DigestMismatch(f"{len(blobs)} layers, and {len(diff_ids)} in the config", where=name)
    if (config.get("os"), config.get("architecture")) != (platform.os, platform.architecture):
        raise ImageNotFound(
            f"it is for {config.get('os')}/{config.get('architecture')}, not for {platform}",
            where=name,
            hint="--platform",
        )
    layers = tuple(Layer(blob, str(diff_id)) for blob, diff_id in zip(blobs, diff_ids, strict=True))
    found = await asyncio.to_thread(_look, layers, store)
    return _found(name, digest, config, layers, found, source)


def _look(layers: tuple[Layer, ...] | list[Layer], store: BlobStore) -> set[str]:
    """Paths that tell of Python, libc and R. Looked for in each layer once."""
    told: set[str] = set()
    for layer in layers:
        key = key_of("look", layer.blob.digest)
        found = store.note(key)
        if not isinstance(found, list):
            mode = "r|gz" if COMPRESSIONS[layer.blob.media_type] == "gzip" else "r|"
            try:
                with tarfile.open(store.path(layer.blob.digest), mode=mode) as tar:  # type: ignore[call-overload]
                    names = (member.name.removeprefix("./").lstrip("/") for member in tar)
                    found = sorted({n for n in names if any(p.fullmatch(n) for p in (_PYTHON, _MUSL, _R))})
            except (OSError, EOFError, tarfile.TarError) as error:
                raise InvalidInput(f"layer {layer.blob.digest} cannot be read: {error}", where="--base") from None
            store.write_note(key, found)
        told.update(found)
    return told


def _found(
    name: str,
    digest: str,
    config: Mapping[str, Any],
    layers: tuple[Layer, ...],
    told: set[str],
    source: Reference | None,
) -> ParentImage:
    places = ("usr/local/bin", "usr/bin", "bin")
    pythons = [(path, match) for path in sorted(told) if (match := _PYTHON.fullmatch(path))]
    pythons.sort(key=lambda one: next((n for n, p in enumerate(places) if one[0].startswith(p + "/")), len(places)))
    fit = [(path, int(match[1])) for path, match in pythons if (3, int(match[1])) >= OLDEST_PYTHON]
    if not fit:
        has = f"only {', '.join('/' + path for path, _ in pythons)}" if pythons else "no Python"
        raise Unsupported(
            f"the base has {has}; the model server needs 3.11 or newer", where=name, hint="--base python:3.11-slim"
        )
    path, minor = fit[0]
    libc = "musl" if any(_MUSL.fullmatch(one) for one in told) else "gnu"
    has_r = any(_R.fullmatch(one) for one in told)
    return ParentImage(name, digest, config, layers, f"/{path}", f"3.{minor}", libc, has_r, source)
