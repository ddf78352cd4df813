"""How often this process looks for garbage in cycles.

The autoscaler makes some fifty objects a second for each version and keeps them until its next tick. With Python's own
setting (a look at the young after 700 of them) they outlive two looks, count as old, and every few seconds all objects
of the process are walked: a third of the processor time of a tick. There is hardly any garbage in cycles here, so it
may wait: some tens of megabytes at most.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 100_000
"""Objects made and not let go of, until the young ones are looked at."""


def calm_collector() -> None:
    """Look seldom, from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
