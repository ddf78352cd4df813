"""Which visits are to be made, in which order. Pure.

Round robin: every server once for one model, then for the next model, then the next round. A run that adds to
an earlier one first makes up for what the earlier one's last round lacks, so that rounds stay comparable.
"""

from __future__ import annotations

from collections.abc import Sequence

from .visit import Visit

Step = tuple[int, str, str]
"""Round, model, server."""


def plan(done: Sequence[Visit], servers: Sequence[str], models: Sequence[str], rounds: int) -> list[Step]:
    """``rounds`` more rounds after those of ``done``; none for 0."""
    if rounds == 0:
        return []
    made = {(visit.round, visit.model, visit.server) for visit in done}
    last = max((number for number, _, _ in made), default=0)
    every = [(model, server) for model in models for server in servers]
    unfinished = [(last, model, server) for model, server in every if (last, model, server) not in made]
    if last == 0 or len(unfinished) == len(every):  # the last round was about others
        unfinished = []
    return unfinished + [(last + 1 + more, model, server) for more in range(rounds) for model, server in every]
