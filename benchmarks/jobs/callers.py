"""Callers that submit numbered jobs through the gateway and write down what was acknowledged.

A submission that got no answer, or one that says "not now", is sent again under the same idempotency key, as a careful
caller does; so in the end every number has exactly one acknowledged job, whatever was killed meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

PATIENCE_S = 120.0


@dataclass(slots=True)
class Acknowledged:
    """By number, the job's id; and how often a submission had to be sent again, by what was wrong."""

    ids: dict[int, str] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)

    def failed(self, why: str) -> None:
        self.again[why] = self.again.get(why, 0) + 1


async def submit_all(url: str, count: int, book: Path, callers: int, acknowledged: Acknowledged) -> None:
    """Submit jobs 0 to ``count - 1``; what is acknowledged goes to ``book``, a line each, before the next is sent."""
    numbers = iter(range(count))
    limits = httpx.Limits(max_connections=callers, keepalive_expiry=2)
    with book.open("w") as lines:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, limits=limits) as client:

            async def caller() -> None:
                for number in numbers:
                    acknowledged.ids[number] = job_id = await _submit(client, number, acknowledged)
                    lines.write(f"{number} {job_id}\n")
                    lines.flush()

            await asyncio.gather(*(caller() for _ in range(callers)))


async def _submit(client: httpx.AsyncClient, number: int, acknowledged: Acknowledged) -> str:
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = await client.post(
                "/models/jobs-model/jobs", json=[[float(number)]], headers={"idempotency-key": f"number-{number}"}
            )
        except httpx.HTTPError as error:
            why = type(error).__name__
        else:
            if answer.status_code in (200, 202):
                return str(answer.json()["id"])
            why = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code < 429:
                raise SystemExit(f"job {number} was refused: {why}")
        acknowledged.failed(why[:60])
        if time.monotonic() > give_up_at:
            raise SystemExit(f"job {number} could not be submitted for {PATIENCE_S:.0f} s: {why}")
        await asyncio.sleep(0.1)


def open_jobs(url: str) -> Iterator[int]:
    """How many jobs have not ended, each time it is asked; -1 while nobody answers."""
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        while True:
            try:
                answer = client.get("/models/jobs-model/jobs", params={"state": "queued,running", "limit": 1000})
                yield len(answer.json()["jobs"]) if answer.status_code == 200 else -1
            except (httpx.HTTPError, json.JSONDecodeError):
                yield -1
