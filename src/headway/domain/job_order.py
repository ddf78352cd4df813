"""Which job is next: larger priority first, within one callers take turns, each caller's in the order of submission."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from headway.domain.jobs import Claim, Job


def next_turn(last_claimed: int, callers_last: int) -> int:
    """The place in the line of a caller's next job (start-time fair queueing: P. Goyal et al., 1996).

    A caller who has waited longest behind its own jobs is no better off than one who comes now: whoever submits
    a thousand jobs gets a thousand turns in a row, and the next caller's first job the turn that is up now.
    """
    return max(last_claimed, callers_last) + 1


def in_order(one: Sequence[Job], other: Sequence[Job]) -> Iterator[Job]:
    """Two lines, each in the order of claims, as one: larger priority first, then whichever head came earlier.

    Turns of different lines cannot be compared, so submission decides between them.
    """
    first, second = list(reversed(one)), list(reversed(other))
    while first and second:
        a, b = first[-1], second[-1]
        yield (first if (-a.priority, a.job_id) < (-b.priority, b.job_id) else second).pop()
    yield from reversed(first)
    yield from reversed(second)


def that_fit(jobs: Iterator[Job], claim: Claim) -> list[Job]:
    """The first of ``jobs`` that one claim may take."""
    taken: list[Job] = []
    room = claim.most_bytes
    while len(taken) < claim.most and (job := next(jobs, None)) is not None:
        room -= job.input_bytes
        if taken and room < 0:
            break
        taken.append(job)
    return taken


class Reminders:
    """Of which queues the broker is told again: those in which jobs wait, each now and then.

    It forgets with its process, and then tells once too often, which does no harm.
    """

    EVERY_S: Final = 10.0

    def __init__(self) -> None:
        self._told: dict[tuple[str, str | None], float] = {}

    def is_up(self, model: str, version: str | None, now: float) -> bool:
        """Whether to tell of this queue now; True at most once in ``EVERY_S``."""
        if abs(now - self._told.get((model, version), float("-inf"))) < self.EVERY_S:
            return False
        self._told[model, version] = now
        return True
