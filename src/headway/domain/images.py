"""Container images as the OCI specifications have them: names, descriptors, documents. Pure.

Sources: OCI image specification 1.1 (config.md, manifest.md, layer.md), OCI distribution specification 1.1; names as in
the "reference" grammar that registries and Docker share.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from headway.domain.errors import InvalidName

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
COMPRESSIONS: Final = {
    LAYER: "",
    f"{LAYER}+gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar": "",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
}
"""By media type of a layer, how it is packed. Others (zstd, encrypted, foreign) are refused."""
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
DEFAULT_REGISTRY: Final = "registry-1.docker.io"
_DOCKER_HUB: Final = {"docker.io", "index.docker.io", "registry-1.docker.io"}
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where an image is: ``registry/repository:tag@digest``."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def version(self) -> str:
        """What the registry is asked for: the digest where one is given."""
        return self.digest or self.tag or "latest"


def parse_reference(text: str, where: str, *, registry: str | None = None) -> Reference:
    """``python:3.11-slim`` -> Docker Hub's; ``ghcr.io/acme/iris:v1@sha256:…``. Raises ``InvalidName``.

    ``registry``: taken where the name states none; None: it must.
    """
    rest, _, digest = text.partition("@")
    first, slash, path = rest.partition("/")
    stated = bool(slash) and ("." in first or ":" in first or first == "localhost" or first.startswith("["))
    host, name = (first, path) if stated else (registry, rest)
    repository, colon, tag = (name or "").partition(":")
    if host is None:
        raise InvalidName(
            f"{text[:200]!r} names no registry", where=where, hint="write REGISTRY/NAME:TAG, as in ghcr.io/acme/iris:v1"
        )
    if host in _DOCKER_HUB:
        host, repository = DEFAULT_REGISTRY, repository if "/" in repository else f"library/{repository}"
    sound = _HOST.fullmatch(host) and len(repository) <= 255 and _REPOSITORY.fullmatch(repository)
    if not sound or (colon and not _TAG.fullmatch(tag)) or ("@" in text and not DIGEST.fullmatch(digest)):
        raise InvalidName(
            f"{text[:200]!r} is not an image's name",
            where=where,
            hint="REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:…, the name in lowercase",
        )
    return Reference(host, repository, tag or None, digest or None)


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    architecture: str = "amd64"
    os: str = "linux"

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob by its content."""

    media_type: str
    digest: str
    size: int

    def document(self) -> dict[str, Any]:
        """As it stands in manifests."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is stored, and as it is known unpacked."""

    blob: Descriptor
    diff_id: str
    """Digest of the tar archive, not packed."""
    title: str = ""
    """For the image's history; layers of a base have their own there."""


@dataclass(frozen=True, slots=True)
class Image:
    """A whole image: its layers from below, its config, its manifest."""

    layers: tuple[Layer, ...]
    config: bytes
    manifest: bytes

    @property
    def digest(self) -> str:
        """What the image is called by its content."""
        return digest_of(self.manifest)

    @property
    def config_descriptor(self) -> Descriptor:
        """The config as a blob."""
        return Descriptor(CONFIG, digest_of(self.config), len(self.config))


def digest_of(content: bytes) -> str:
    """``sha256:…``."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def canonical(document: Mapping[str, Any]) -> bytes:
    """JSON that is the same, byte for byte, for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


EPOCH: Final = "1970-01-01T00:00:00Z"
"""When everything was made: a date of its own would make every build another image."""


def image_of(
    base_config: Mapping[str, Any],
    base: tuple[Layer, ...],
    added: tuple[Layer, ...],
    run: Mapping[str, Any],
    annotations: Mapping[str, str],
) -> Image:
    """``added`` on top of ``base``.

    ``run``: fields of the config's ``config`` that replace the base's, its ``Env`` a mapping that is merged with the
    base's; ``annotations`` become labels too.

    What the base says of health checks, volumes and its own command is not taken over: it is about another program.
    """
    was = dict(base_config.get("config") or {})
    env = dict(line.partition("=")[::2] for line in was.get("Env") or ())
    env.update(dict(run.get("Env") or {}))
    config = {
        **{key: value for key, value in was.items() if key in ("Shell",)},
        **run,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {**dict(was.get("Labels") or {}), **annotations},
    }
    history = [dict(one) for one in base_config.get("history") or ()]
    if not history:
        history = [{"created": EPOCH, "created_by": "headway build: base"} for _ in base]
    history += [{"created": EPOCH, "created_by": f"headway build: {layer.title}"} for layer in added]
    layers = tuple(
        replace(one, blob=replace(one.blob, media_type=_oci(one.blob.media_type))) for one in (*base, *added)
    )
    document = {
        "architecture": base_config.get("architecture", Platform().architecture),
        "os": base_config.get("os", Platform().os),
        **({"variant": base_config["variant"]} if base_config.get("variant") else {}),
        "created": EPOCH,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": history,
    }
    packed = canonical(document)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor(CONFIG, digest_of(packed), len(packed)).document(),
        "layers": [layer.blob.document() for layer in layers],
        "annotations": dict(annotations),
    }
    return Image(layers, packed, canonical(manifest))


def _oci(media_type: str) -> str:
    """A manifest holds one family of types; the bytes are the same."""
    return f"{LAYER}+gzip" if COMPRESSIONS[media_type] == "gzip" else LAYER
