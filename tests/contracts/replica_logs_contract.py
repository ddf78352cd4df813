"""What all logs of replicas do."""

from __future__ import annotations

import asyncio

import pytest

from headway.adapters.memory.replica_logs import MemoryReplicaLogs
from headway.domain.errors import ReplicaNotFound
from headway.ports.replica_logs import ReplicaLogs
from tests.waiting import eventually

ONE = "iris-v1-abc12"


async def read(logs: ReplicaLogs, tail_lines: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in logs.logs(ONE, tail_lines=tail_lines, follow=False)])


@pytest.mark.anyio
class ReplicaLogsContract:
    """Subclasses give fixtures ``logs``, and ``replicas`` that print."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_a_log_is_read_from_its_begin_or_its_end(
        self, logs: ReplicaLogs, replicas: MemoryReplicaLogs
    ) -> None:
        replicas.begin(ONE)
        assert await read(logs) == b""
        replicas.write(ONE, b"one\ntwo\nthree\n")
        assert await read(logs) == b"one\ntwo\nthree\n"
        assert await read(logs, 2) == b"two\nthree\n"
        assert await read(logs, 0) == b""

    async def test_who_is_not_there_is_told(self, logs: ReplicaLogs, replicas: MemoryReplicaLogs) -> None:
        replicas.write("another", b"one\n")
        with pytest.raises(ReplicaNotFound):
            await read(logs)

    async def test_it_is_followed_until_the_replica_ends(self, logs: ReplicaLogs, replicas: MemoryReplicaLogs) -> None:
        replicas.write(ONE, b"one\n")
        found = bytearray()

        async def follow() -> None:
            async for chunk in logs.logs(ONE, tail_lines=None, follow=True):
                found.extend(chunk)

        following = asyncio.create_task(follow())
        await eventually(lambda: found == b"one\n", what="what was there")
        replicas.write(ONE, b"two\n")
        await eventually(lambda: found == b"one\ntwo\n", what="what came after")
        replicas.end(ONE)
        await asyncio.wait_for(following, 60)
