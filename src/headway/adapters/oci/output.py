"""Where a built image goes: a registry, a folder in the OCI image layout, or that layout as one tar archive."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headway.adapters.oci.registry import Registry
from headway.adapters.oci.store import BlobStore
from headway.domain.errors import Conflict, StorageFailed
from headway.domain.images import INDEX, MANIFEST, Descriptor, Image, Reference, canonical

LAYOUT: Final = canonical({"imageLayoutVersion": "1.0.0"})
_SIDE_BY_SIDE: Final = 3
_REF_NAME: Final = "org.opencontainers.image.ref.name"


@dataclass
class Pushed:
    """What became of each blob of a push, in bytes."""

    uploaded: int = 0
    uploaded_blobs: int = 0
    mounted: int = 0
    present: int = 0


async def push(
    image: Image,
    store: BlobStore,
    registry: Registry,
    target: Reference,
    base: Reference | None,
    counted: Callable[[int, int], None],
) -> Pushed:
    """Send what the repository lacks, then name the image. ``counted``: told of bytes sent, and of bytes to send."""
    found = Pushed()
    blobs = list(dict.fromkeys([*(layer.blob for layer in image.layers), image.config_descriptor]))
    gate = asyncio.Semaphore(_SIDE_BY_SIDE)
    sent = due = 0

    def line(count: int) -> None:
        nonlocal sent
        sent += count
        counted(sent, due)

    async def bring(blob: Descriptor) -> None:
        nonlocal due
        async with gate:
            if await registry.has_blob(target.repository, blob.digest):
                found.present += blob.size
                return
            near = base is not None and base.registry == registry.host and base.repository != target.repository
            if near and base is not None and await registry.mount(target.repository, blob.digest, base.repository):
                found.mounted += blob.size
                return
            due += blob.size
            await registry.upload(target.repository, blob, store.path(blob.digest), line)
            found.uploaded += blob.size
            found.uploaded_blobs += 1

    try:
        async with asyncio.TaskGroup() as group:
            for blob in blobs:
                group.create_task(bring(blob))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    await registry.put_manifest(target.repository, target.tag or image.digest, image.manifest)
    return found


def index_of(image: Image, name: str) -> bytes:
    """The ``index.json`` of a layout with this one image."""
    entry = {**Descriptor(MANIFEST, image.digest, len(image.manifest)).document(), "annotations": {_REF_NAME: name}}
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})


def write_layout(image: Image, store: BlobStore, folder: Path, name: str) -> None:
    """The image as a folder, whole or not at all. One that is a layout already is replaced; anything else is not."""
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / "oci-layout").is_file())):
        raise Conflict(f"{folder} is there already and is no OCI image layout", where="--output")
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        (draft / "blobs" / "sha256").mkdir(parents=True)
        for path, source in _files(image, store, name):
            target = draft / path
            if isinstance(source, bytes):
                target.write_bytes(source)
            else:
                shutil.copyfile(source, target)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(draft, folder)
    except OSError as error:
        raise StorageFailed(f"the image cannot be written: {error}", where=str(folder)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_archive(image: Image, store: BlobStore, path: Path, name: str) -> None:
    """The image as a tar archive, the same bytes for the same image. Whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar:
            for name_in_tar, source in _files(image, store, name):
                header = tarfile.TarInfo(name_in_tar)
                with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
                    header.size = file.seek(0, os.SEEK_END)
                    file.seek(0)
                    tar.addfile(header, file)
        os.replace(draft, path)
    except OSError as error:
        raise StorageFailed(f"the image cannot be written: {error}", where=str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


def _files(image: Image, store: BlobStore, name: str) -> list[tuple[str, Path | bytes]]:
    digests = sorted({*(layer.blob.digest for layer in image.layers), image.config_descriptor.digest, image.digest})
    blobs: list[tuple[str, Path | bytes]] = [(f"blobs/{d.replace(':', '/')}", store.path(d)) for d in digests]
    return [*blobs, ("index.json", index_of(image, name)), ("oci-layout", LAYOUT)]
