"""A replica of several workers behind the gateway: a worker that dies is nobody's trouble."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.haproxy.binary import find_binary
from headway.domain.errors import MissingBinary
from headway.domain.routing_table import Arm, Endpoint, ModelRoute, RoutingTable, VersionRoute
from tests.integration.server.crew import PID, Crew
from tests.waiting import PortPicker, wait_until


@asynccontextmanager
async def gateway(scratch: Path, port: int) -> AsyncIterator[str]:
    try:
        find_binary()
    except MissingBinary:
        pytest.skip("HAProxy was not found")
    made = HaproxyGateway(home=scratch / "home", host="127.0.0.1", port=port)
    await made.start()
    version = VersionRoute("v1", (Endpoint("iris-v1-bcdfg", f"unix:{scratch}/s"),), workers=2)
    await made.apply(RoutingTable((ModelRoute("iris", (Arm("v1", 100),), (version,)),)))
    try:
        yield f"http://127.0.0.1:{port}/models/iris/predict"
    finally:
        await made.stop(stop_gateway=True)


def test_no_request_fails_when_workers_are_killed(scratch: Path, free_port: PortPicker) -> None:
    def send(url: str) -> set[int]:
        with httpx.Client(timeout=30) as client:
            return {client.post(url, json=[[1]]).status_code for _ in range(150)}

    def kill_three(crew: Crew) -> None:
        for _ in range(3):
            before = crew.pids()
            os.kill(min(before), signal.SIGKILL)
            wait_until(lambda before=before: len(crew.pids() - before) == 1)  # type: ignore[misc]
            wait_until(lambda: crew.metric("headway_workers") == 2)

    async def main(crew: Crew) -> None:
        async with gateway(scratch, free_port()) as url:
            with ThreadPoolExecutor(9) as pool:
                loop = asyncio.get_running_loop()
                sent = [loop.run_in_executor(pool, send, url) for _ in range(8)]
                await loop.run_in_executor(pool, kill_three, crew)
                statuses = set().union(*await asyncio.gather(*sent))
        assert statuses == {200}

    with Crew(scratch, PID) as crew:
        asyncio.run(main(crew))
