"""A lane: the workers of one version that wait for work at this job server, served in the order in which they came.

``due`` is how many claims may be worth trying. A submission adds one, a wake-up or poll too; each job handed out takes
one off, and a claim that finds nothing sets it to zero. Unless all of it was sure, a claim that was filled leaves at
least one, since there may be more. So one lone job costs one claim, however many workers wait, and a thousand go out
as fast as claims can be made, side by side, which the store may carry out in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from headway.domain.jobs import Claim, Lease

log = logging.getLogger(__name__)

POLL_MIN_S: Final = 0.05
POLL_MAX_S: Final = 0.25
POLL_GROWTH: Final = 1.5
MOST_AT_ONCE: Final = 64
"""Claims of one lane side by side."""

Take = Callable[[Claim], Awaitable[list[Lease]]]
GiveBack = Callable[[list[Lease]], None]


class Waiter:
    """One worker's wish, until it is answered."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.answer: asyncio.Future[list[Lease]] = asyncio.get_running_loop().create_future()
        self.last_try = False
        """It waits no longer than for the claim that is under way."""


class Lane:
    """The waiters of one model's version. ``take`` claims; ``give_back`` takes what nobody is there for any more."""

    def __init__(self, take: Take, give_back: GiveBack, on_tried: Callable[[], None]) -> None:
        self._take = take
        self._give_back = give_back
        self._on_tried = on_tried
        self._waiting: deque[Waiter] = deque()
        self._due = 0
        self._unsure = False
        self._woken = 0
        self._serving: asyncio.Task[None] | None = None
        self._poll_s = POLL_MIN_S
        self._poll_at = 0.0
        self._trying = 0
        self._closed = False

    @property
    def spare(self) -> bool:
        """Whether more workers wait than there are jobs known for them."""
        return self.waiting > self._due

    @property
    def waiting(self) -> int:
        """Workers that wait, those included for whom a claim is under way."""
        return len(self._waiting) + self._trying

    def enter(self, waiter: Waiter) -> None:
        """Behind those who wait. If nobody does it is tried at once; else a try for them has told what there is."""
        first = not self.waiting
        self._waiting.append(waiter)
        if first:
            self.wake(sure=False)

    def leave(self, waiter: Waiter) -> bool:
        """Whether it waited and does no more; False: a claim for it is under way."""
        try:
            self._waiting.remove(waiter)
        except ValueError:
            return False
        return True

    def wake(self, *, sure: bool = True) -> None:
        """There is one more job; not ``sure``: there may be one, or several."""
        self._due += 1
        self._woken += 1
        self._unsure = self._unsure or not sure
        self._poll_s = POLL_MIN_S
        self._serve()

    def poll(self, now: float) -> None:
        """Try one claim when it is time to; ``now``: monotonic."""
        if self._waiting and not self._trying and now >= self._poll_at:
            self._poll_at = now + self._poll_s
            self._poll_s = min(POLL_MAX_S, self._poll_s * POLL_GROWTH)
            self._due = max(1, self._due)
            self._unsure = True
            self._serve()

    async def close(self) -> None:
        """Answer everybody with nothing, once what is under way has ended."""
        self._closed = True
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)
        while self._waiting:
            _answer(self._waiting.popleft(), [])

    def _serve(self) -> None:
        if self._serving is None and self._due and self._waiting and not self._closed:
            self._serving = asyncio.create_task(self._rounds(), name="dispatch")
            self._serving.add_done_callback(self._ended)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._serving = None
        self._serve()

    async def _rounds(self) -> None:
        while self._due > 0 and self._waiting and not self._closed:
            count = min(self._due, len(self._waiting), MOST_AT_ONCE)
            chosen = [self._waiting.popleft() for _ in range(count)]
            self._trying = count
            woken = self._woken
            try:
                found = await asyncio.gather(*(self._try(waiter) for waiter in chosen))
            finally:
                self._trying = 0
            handed_out = sum(len(leases) for leases in found)
            filled = any(len(leases) >= w.claim.most for w, leases in zip(chosen, found, strict=True))
            if self._woken != woken:
                self._due = max(self._due - max(handed_out, 1), 1)
            elif filled:
                self._due = max(self._due - handed_out, 1 if self._unsure else 0)
            else:
                self._due, self._unsure = 0, False
            if handed_out:
                self._poll_s = POLL_MIN_S
            still = [w for w, leases in zip(chosen, found, strict=True) if not leases and not w.last_try]
            self._waiting.extendleft(reversed([w for w in still if not w.answer.done()]))
            for waiter in chosen:
                if waiter.last_try:
                    _answer(waiter, [])
            self._on_tried()

    async def _try(self, waiter: Waiter) -> list[Lease]:
        try:
            leases = await self._take(waiter.claim)
        except Exception as error:
            if not waiter.answer.done():
                waiter.answer.set_exception(error)
            return []
        if leases and not _answer(waiter, leases):
            self._give_back(leases)
        return leases


def _answer(waiter: Waiter, leases: list[Lease]) -> bool:
    if waiter.answer.done():
        return False
    waiter.answer.set_result(leases)
    return True
