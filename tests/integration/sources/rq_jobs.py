"""What the workers of RQ run in tests."""

from __future__ import annotations

import asyncio

from headway.adapters.signals import RedisSource
from headway.domain.scaling_spec import RedisTrigger

seen: list[float] = []


def measure(port: int, password: str, queue: str) -> None:
    """Read the queue's length from within a job of it."""

    async def read() -> float:
        source = RedisSource({"PASSWORD": password})
        try:
            return await source.read(
                RedisTrigger(
                    type="redis",
                    address=f"127.0.0.1:{port}",
                    password_from_env="PASSWORD",
                    list_name=queue,
                    library="rq",
                    timeout="30s",
                )
            )
        finally:
            await source.close()

    seen.append(asyncio.run(read()))
