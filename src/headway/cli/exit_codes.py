"""Exit codes that no error of the tree stands for."""

from __future__ import annotations

from typing import Final

ABORTED: Final = 1
"""Whoever was asked said no."""
INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""
TERMINATED: Final = 143
"""128 and the number of SIGTERM."""
