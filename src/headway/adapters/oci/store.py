"""The store of blobs: a folder with the layout that the OCI image specification names, and notes beside it.

    blobs/sha256/<digest>    layers, configs, manifests; whole and checked, or not there
    notes/<key>.json         what was found out about something, by a digest of what it was found out from

Everything in it can be made or fetched again. A blob is written under another name, checked and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from headway.adapters.oci.layers import Packed
from headway.domain.errors import DigestMismatch, StorageFailed


def key_of(*parts: str) -> str:
    """A name for what follows from ``parts``."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class BlobStore:
    """``root`` is made when the first blob comes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self._root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        return self.path(digest).is_file()

    def read(self, digest: str) -> bytes:
        """All of a small blob."""
        return self.path(digest).read_bytes()

    def put(self, digest: str, content: bytes) -> None:
        """Keep ``content``, whose digest is known to be right."""
        if not self.has(digest):
            with self.incoming() as (draft, file):
                file.write(content)
                file.close()
                self.keep(draft, digest)

    @contextmanager
    def incoming(self) -> Iterator[tuple[Path, IO[bytes]]]:
        """A file to write to, gone afterwards unless it was kept. Raises ``StorageFailed``."""
        folder = self._root / "blobs" / "sha256"
        draft = folder / f".{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with draft.open("wb") as file:
                yield draft, file
        except OSError as error:
            raise StorageFailed(f"an image cannot be stored: {error}", where=str(self._root)) from error
        finally:
            draft.unlink(missing_ok=True)

    def keep(self, draft: Path, digest: str) -> None:
        """``draft``, written and closed, is the blob."""
        os.replace(draft, self.path(digest))

    def note(self, key: str) -> Any:
        """What was noted; None: nothing, or nothing that can be read."""
        try:
            return json.loads((self._root / "notes" / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None

    def write_note(self, key: str, content: Any) -> None:
        """Note ``content``."""
        path = self._root / "notes" / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{secrets.token_hex(8)}")
        draft.write_text(json.dumps(content))
        os.replace(draft, path)

    def noted_layer(self, key: str) -> Packed | None:
        """A layer that was packed before, if it is still here."""
        found = self.note(key)
        if not isinstance(found, dict) or not self.has(found["digest"]):
            return None
        return Packed(found["digest"], found["size"], found["diff_id"])

    def note_layer(self, key: str, packed: Packed) -> None:
        """Remember it for :meth:`noted_layer`."""
        self.write_note(key, {"digest": packed.digest, "size": packed.size, "diff_id": packed.diff_id})


class Checking:
    """Takes a blob bit by bit and knows in the end whether it is the right one."""

    def __init__(self, file: IO[bytes], digest: str, size: int | None, where: str) -> None:
        self._file = file
        self._digest = digest
        self._size = size
        self._where = where
        self._content = hashlib.sha256()
        self.taken = 0

    def write(self, data: bytes) -> None:
        """Raises :class:`DigestMismatch` when more comes than there should be."""
        self.taken += len(data)
        if self._size is not None and self.taken > self._size:
            raise self._mismatch(f"more than the {self._size} bytes that were announced")
        self._content.update(data)
        self._file.write(data)

    def finish(self) -> None:
        """Raises :class:`DigestMismatch`."""
        found = f"sha256:{self._content.hexdigest()}"
        if found != self._digest:
            raise self._mismatch(f"{found} ({self.taken} bytes)")

    def _mismatch(self, found: str) -> DigestMismatch:
        # Once more may help against damage on the way.
        return DigestMismatch(f"{self._digest} was asked for, what came is {found}", where=self._where, again=True)
