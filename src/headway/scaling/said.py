"""What a trigger answers to ``decide``: its proposal, and whether it saw anything that keeps the last replica."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from headway.scaling.decision import Proposal, Status

ROUNDING = 1e-9
"""A count is rounded up, but not for what floating point adds: 1.1 x 10 is 11, not 12."""


class Said(NamedTuple):
    """One trigger's answer."""

    proposal: Proposal
    active: bool = False
    """Whether there is work: it calls the first replica and keeps the last one."""


def up(replicas: float) -> int:
    """The whole number of replicas that is enough; never negative, at most a billion."""
    if replicas <= 0.0:
        return 0
    return ceil(replicas - ROUNDING) if replicas < 1e9 else 1_000_000_000


def within(ratio: float, tolerance: tuple[float, float]) -> bool:
    """Whether a ratio of 1 is meant, with tolerance as (up, down)."""
    return 1.0 - tolerance[1] - ROUNDING <= ratio <= 1.0 + tolerance[0] + ROUNDING


def counted(count: int, noun: str) -> str:
    """``1 replica``, ``2 replicas``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def waiting(held: int) -> str:
    """What is told of requests that wait at the gateway."""
    return f"{counted(held, 'request')} {'waits' if held == 1 else 'wait'} for a first replica"


def no_data(trigger: str, target: float | None, note: str, age_s: float | None = None) -> Said:
    """It cannot tell."""
    return Said(Proposal(trigger, Status.NO_DATA, None, None, target, age_s, note))
