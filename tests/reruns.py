"""Which tests may fail once: those that other programs on the machine can disturb.

Why, and why so few: ``docs/decisions/0013-reruns-of-tests.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SWITCH: Final = "HEADWAY_RERUNS"
DISTURBED: Final = frozenset({"contracts", "integration", "e2e", "cluster", "browser", "docs"})
"""Folders of ``tests`` whose tests wait for processes, sockets and files of others. What the other folders test
depends on nothing but itself: there a failure is the answer."""

_ALONE = re.compile(r"contracts/(?:\w+_memory\w*\.py|\w+\.py::Test(?:Memory|Manual))")
"""Of the contracts, those of adapters that keep to themselves."""


def reruns_of(nodeid: str, environ: Mapping[str, str]) -> int:
    """How often the test ``nodeid``, a path from the project's folder and names, is run again when it fails.

    0 everywhere with ``HEADWAY_RERUNS=0``. Raises ``ValueError`` when the variable is neither 0 nor 1: a test that
    needs three attempts is broken.
    """
    asked = environ.get(SWITCH, "1")
    if asked not in {"0", "1"}:
        raise ValueError(f"{SWITCH} is {asked!r}; it can be 0 or 1")
    top, _, place = nodeid.partition("/")
    disturbed = top == "tests" and place.partition("/")[0] in DISTURBED and not _ALONE.match(place)
    return int(asked) if disturbed else 0
