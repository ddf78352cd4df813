"""The two doors to a model: a replica of its own, and HAProxy with that replica behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.haproxy.binary import find_binary
from headway.domain.errors import MissingBinary
from headway.domain.routing_table import Arm, Endpoint, ModelRoute, RoutingTable, VersionRoute
from tests.integration.server.replica import Replica
from tests.leaks import make_scratch, remove_scratch
from tests.waiting import wait_until


@contextmanager
def replica_door(files: dict[str, str], port: int) -> Iterator[str]:
    """``host:port`` of a replica."""
    scratch = make_scratch()
    address = f"127.0.0.1:{port}"
    try:
        with Replica(scratch, files, wait=False, listen=f"tcp:{address}") as replica:
            wait_until(lambda: "listening on" in replica.log())
            yield address
    finally:
        remove_scratch(scratch)


@contextmanager
def gateway_door(files: dict[str, str], port: int) -> Iterator[str]:
    """``host:port`` of a gateway in front of a replica: production and pinned route of the model iris."""
    try:
        find_binary()
    except MissingBinary:
        pytest.skip("HAProxy was not found")
    scratch = make_scratch()

    def gateway() -> HaproxyGateway:
        return HaproxyGateway(home=scratch / "home", host="127.0.0.1", port=port)

    async def start() -> None:
        started = gateway()
        await started.start()
        version = VersionRoute("v1", (Endpoint("iris-v1-bcdfg", f"unix:{scratch}/s"),))
        await started.apply(RoutingTable((ModelRoute("iris", (Arm("v1", 100),), (version,)),)))
        await started.stop(stop_gateway=False)

    async def stop() -> None:
        adopted = gateway()
        await adopted.start()
        await adopted.stop(stop_gateway=True)

    try:
        with Replica(scratch, files):
            try:
                asyncio.run(start())
                yield f"127.0.0.1:{port}"
            finally:
                asyncio.run(stop())
    finally:
        remove_scratch(scratch)
