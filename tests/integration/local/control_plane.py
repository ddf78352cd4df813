"""A control plane to be killed: ``python -m tests.integration.local.control_plane FOLDER REPLICA…``.

Starts the replicas on the stand-in server, prints ``ready`` when they are and goes on until killed. With
``--before-pid`` it kills itself the moment the first process exists and nobody has written down its pid.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from headway.adapters.local import starts
from headway.adapters.local.process import ReplicaProcess
from tests.integration.local.hand import LocalHand


class DiesAfterSpawn(ReplicaProcess):
    """The worst moment to die."""

    @classmethod
    def spawn(cls, *arguments: Any, **options: Any) -> ReplicaProcess:
        ReplicaProcess.spawn(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


async def main(folder: Path, replica_ids: list[str]) -> None:
    hand = LocalHand(folder)
    runtime = hand.runtime()
    await runtime.start()
    await runtime.apply([hand.spec(replica_id) for replica_id in replica_ids])
    ready: set[str] = set()
    async for transition in runtime.transitions():
        if transition.status.ready:
            ready.add(transition.status.replica_id)
        if len(ready) == len(replica_ids):
            print("ready", flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "--before-pid" in arguments:
        arguments.remove("--before-pid")
        starts.ReplicaProcess = DiesAfterSpawn  # type: ignore[attr-defined]
    asyncio.run(main(Path(arguments[0]), arguments[1:]))
