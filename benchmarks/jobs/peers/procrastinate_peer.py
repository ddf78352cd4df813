"""procrastinate on PostgreSQL: ``procrastinate_peer.py URL prepare|worker`` or ``URL submit|batch|pickup N``.

Ten jobs are submitted, and ten carried out, at a time: its asynchronous interface is the fast one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import procrastinate

URL = sys.argv[1]
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=URL, min_size=2, max_size=12))
AT_ONCE = 10


@app.task(name="no_op", queue="jobs")
async def no_op(number: int) -> None:
    """Nothing; the database notes when it was begun."""


async def value(statement: str) -> Any:
    return (await app.connector.execute_query_one_async(statement))["value"]


async def finished() -> int:
    return int(await value("select count(*) as value from procrastinate_jobs where status = 'succeeded'"))


async def submit(count: int, batch: bool) -> None:
    before = await finished()
    began = time.perf_counter()
    if batch:
        for first in range(0, count, 100):
            await no_op.batch_defer_async(*({"number": first + place} for place in range(min(100, count - first))))
    else:
        numbers = iter(range(count))

        async def caller() -> None:
            for number in numbers:
                await no_op.defer_async(number=number)

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    submitted = time.perf_counter()
    while await finished() < before + count:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    print(json.dumps({"submit_s": submitted - began, "total_s": time.perf_counter() - began}))


async def pickup(count: int) -> None:
    before = await finished()
    for number in range(count):
        await asyncio.sleep(0.05)
        await no_op.defer_async(number=number)
        while await finished() < before + number + 1:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    waits = await value(
        "select json_agg(wait) as value from (select 1000 * extract(epoch from s.at - d.at) as wait from "
        "procrastinate_events d join procrastinate_events s on s.job_id = d.job_id and s.type = 'started' "
        f"where d.type = 'deferred' order by d.job_id desc limit {count}) as told"
    )
    print(json.dumps({"pickup_ms": [float(wait) for wait in waits]}))


async def main(what: str, count: int = 0) -> None:
    async with app.open_async():
        if what == "prepare":
            await app.schema_manager.apply_schema_async()
        elif what == "worker":
            await app.run_worker_async(queues=["jobs"], concurrency=AT_ONCE, wait=True)
        elif what == "pickup":
            await pickup(count)
        else:
            await submit(count, batch=what == "batch")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2], *map(int, sys.argv[3:])))
