"""ScalingFunctions: the user's own ``decide(context) -> replicas``, run where it can do no harm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from headway.domain.scaling_spec import PythonTrigger


class ScalingFunctions(Protocol):
    """Calls functions of bundles, each in its version's environment, in a process of its own, within limits.

    Calls may run at the same time, but never two of one trigger of one version.
    """

    async def call(
        self,
        model: str,
        version: str,
        python: str,
        bundle: Path,
        trigger: PythonTrigger,
        context: Mapping[str, Any],
    ) -> float:
        """What the function at ``trigger.entrypoint`` in ``bundle`` answers to ``context`` (JSON): a replica count.

        ``python``: interpreter of the version's environment. Raises ``SignalLost`` when there is no answer: not
        found, raised, took longer than ``trigger.timeout``, more memory than ``trigger.memory``, not a finite number.
        """
        ...

    async def close(self) -> None:
        """End every process. Idempotent."""
        ...
