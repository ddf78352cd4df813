"""EnvironmentBuilder: an interpreter with a version's requirements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Environment:
    """``lock_digest`` None: the bundle has no requirements and runs in Headway's own environment."""

    python: str
    lock_digest: str | None
    cached: bool
    """True when nothing had to be installed."""


class EnvironmentBuilder(Protocol):
    """Builds each set of locked requirements once; builds for the same lock at the same time share one."""

    async def ensure(self, bundle: Path, progress: Callable[[str], None]) -> Environment:
        """The environment for the bundle's ``requirements.txt``; ``progress`` gets one-line notes.

        Raises ``EnvironmentFailed`` with the requirement that cannot be had.
        """
        ...

    def has(self, python: str) -> bool:
        """Whether the interpreter of an environment built earlier is still there."""
        ...
