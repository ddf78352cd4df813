"""Environments that are only pretended: nothing is resolved and nothing installed.

What it does honour is what control loops depend on: one build per set of requirements, shared by those
who ask at the same time; a failure that names the requirement; nothing left of a cancelled build.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from headway.domain.errors import EnvironmentFailed
from headway.ports.environment import Environment


class MemoryEnvironments:
    """``missing``: names of packages that cannot be had. ``gate``: builds wait until it is set."""

    def __init__(self, *, missing: Collection[str] = (), gate: asyncio.Event | None = None) -> None:
        self.missing = set(missing)
        self.gate = gate
        self.builds = 0
        """How many were begun."""
        self.lost: set[str] = set()
        """Interpreters that are no longer there; building an environment brings them back."""
        self._built: set[str] = set()
        self._turn: dict[str, asyncio.Lock] = {}

    def has(self, python: str) -> bool:
        return python not in self.lost

    async def ensure(self, bundle: Path, progress: Callable[[str], None]) -> Environment:
        self.lost.clear()
        found = [bundle / name for name in ("requirements.lock", "requirements.txt") if (bundle / name).is_file()]
        if not found:
            return Environment(python=sys.executable, lock_digest=None, cached=True)
        text = found[0].read_text()
        lock_digest = hashlib.sha256(text.encode()).hexdigest()
        if lock_digest in self._built:
            return Environment(python=sys.executable, lock_digest=lock_digest, cached=True)
        async with self._turn.setdefault(lock_digest, asyncio.Lock()):
            if lock_digest not in self._built:
                self.builds += 1
                progress("installing packages")
                if self.gate is not None:
                    await self.gate.wait()
                self._refuse_missing(found[0].name, text)
                self._built.add(lock_digest)
        return Environment(python=sys.executable, lock_digest=lock_digest, cached=False)

    def _refuse_missing(self, file: str, text: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            name = line.partition("==")[0].strip()
            if name in self.missing:
                raise EnvironmentFailed(f"{name} was not found in the package registry", where=f"{file}:{number}")
