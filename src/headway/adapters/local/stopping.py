"""How the processes of a replica are ended, and waits that a stop cuts short."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from pathlib import Path

from headway.adapters.local.adoption import end_processes, scan
from headway.adapters.local.process import ReplicaProcess


async def terminate(process: ReplicaProcess, grace_s: float) -> None:
    """SIGTERM, SIGKILL after the grace period; returns once it has ended."""
    process.send(signal.SIGTERM)
    try:
        async with asyncio.timeout(grace_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def end_leftovers(home: Path, replica_id: str) -> None:
    """Kill what has left the replica's process group."""
    left = await asyncio.to_thread(scan, home, replica_id)
    if left:
        await end_processes(left, grace_s=0.0)


async def unless_set(stop: asyncio.Event, waiting: Awaitable[object]) -> bool:
    """True once ``waiting`` is over, False as soon as ``stop`` is set."""
    waiter = asyncio.ensure_future(waiting)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({waiter, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return not stop.is_set()
    finally:
        waiter.cancel()
        stopped.cancel()
        await asyncio.gather(waiter, stopped, return_exceptions=True)
