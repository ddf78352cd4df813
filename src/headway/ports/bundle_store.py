"""BundleStore: the files of versions, by digest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol


class BundleStore(Protocol):
    """Content-addressed: what is stored under a digest never changes."""

    async def has(self, digest: str) -> bool:
        """Whether a whole, verified bundle of that digest is here."""
        ...

    async def put(self, digest: str, archive: AsyncIterator[bytes]) -> None:
        """Unpack a tar (plain or gzip) and keep it if its files have that digest.

        Raises ``InvalidBundle`` (unsafe or wrong content) or ``PayloadTooLarge``; then nothing is kept.
        Putting what is there already is harmless.
        """
        ...

    async def path(self, digest: str) -> Path:
        """The folder of the bundle, read-only. Raises ``BundleNotFound``."""
        ...

    def place(self, digest: str) -> Path:
        """Where the bundle's folder is, or would be; whether it is there is not looked at."""
        ...

    async def list(self) -> list[str]:
        """Digests of all bundles."""
        ...

    async def delete(self, digest: str) -> None:
        """Remove it if it is there."""
        ...
