"""Users for the benchmarks: each sends a request, waits for the answer, thinks, and sends the next.

A closed loop, as people are: who waits sends nothing meanwhile. Thinking times are exponential and seeded.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx


@dataclass(slots=True)
class Answers:
    """What users met: when they sent (seconds since the epoch), how long it took, the status (0: no answer)."""

    sent: list[tuple[float, float, int]] = field(default_factory=list)

    def statuses(self) -> Counter[int]:
        return Counter(status for _, _, status in self.sent)


class Crowd:
    """As many users as it is told to be."""

    def __init__(self, url: str, body: object, *, think_s: float = 1.0, timeout_s: float = 60.0) -> None:
        self.answers = Answers()
        self._url = url
        self._body = body
        self._think_s = think_s
        self._client = httpx.AsyncClient(timeout=timeout_s, limits=httpx.Limits(max_connections=None))
        self._users: list[asyncio.Task[None]] = []
        self._born = 0

    @property
    def users(self) -> int:
        return len(self._users)

    async def be(self, users: int) -> None:
        """Grow or shrink; who leaves gives up the request under way."""
        while len(self._users) < users:
            self._born += 1
            self._users.append(asyncio.create_task(self._live(random.Random(self._born))))
        going = [self._users.pop() for _ in range(len(self._users) - users)]
        for user in going:
            user.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    async def _live(self, chance: random.Random) -> None:
        while True:
            await asyncio.sleep(chance.expovariate(1 / self._think_s))
            at, began, status = time.time(), time.perf_counter(), 0
            try:
                status = (await self._client.post(self._url, json=self._body)).status_code
            except httpx.HTTPError:
                status = 0
            self.answers.sent.append((at, time.perf_counter() - began, status))

    async def leave(self) -> None:
        """Nobody is left."""
        await self.be(0)
        await self._client.aclose()
