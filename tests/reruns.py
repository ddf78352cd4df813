"""Which tests may fail once: those that other programs on the machine can disturb.

Why, and why so few: ``docs/decisions/0013-reruns-of-tests.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SWITCH: Final = "HEADWAY_RERUNS"
DISTURBED: Final = frozenset({"integration", "e2e", "browser", "docs"})
"""Folders of ``tests`` whose tests wait for processes, sockets and files of others. What the other folders test
depends on nothing but itself: there a failure is the answer."""


def reruns_of(layer: str, environ: Mapping[str, str]) -> int:
    """How often a test of the folder ``layer`` that fails is run again; 0 everywhere with ``HEADWAY_RERUNS=0``.

    Raises ``ValueError`` when the variable is neither 0 nor 1: a test that needs three attempts is broken.
    """
    asked = environ.get(SWITCH, "1")
    if asked not in {"0", "1"}:
        raise ValueError(f"{SWITCH} is {asked!r}; it can be 0 or 1")
    return int(asked) if layer in DISTURBED else 0
