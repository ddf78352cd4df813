"""Users' scaling functions as plain callables in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headway.domain.errors import SignalLost
from headway.domain.scaling_spec import PythonTrigger

Function = Callable[[Mapping[str, Any]], float]


class MemoryScalingFunctions:
    """The ``ScalingFunctions`` port. Functions are found by their entry point."""

    def __init__(self, functions: Mapping[str, Function] | None = None) -> None:
        self.functions: dict[str, Function] = dict(functions or {})
        self.contexts: list[Mapping[str, Any]] = []
        """Of every call so far."""
        self.closed = False

    async def call(
        self,
        model: str,
        version: str,
        python: str,
        bundle: Path,
        trigger: PythonTrigger,
        context: Mapping[str, Any],
    ) -> float:
        """See the port."""
        function = self.functions.get(trigger.entrypoint)
        if function is None or self.closed:
            raise SignalLost(f"{trigger.entrypoint} is not in the bundle of {model} {version}")
        self.contexts.append(context)
        try:
            return float(function(context))
        except Exception as error:
            raise SignalLost(f"{trigger.entrypoint}: {type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """See the port."""
        self.closed = True
