"""A process of :class:`ShardedLoadGenerator`: reads its part from standard input, sends it, tells the hub."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time

import msgspec
import uvloop

from headway.adapters.loadgen.generator import HttpLoadGenerator
from headway.adapters.loadgen.wire import SOCKET, Batch, Part, frame
from headway.domain.errors import HeadwayError
from headway.ports.load_generator import Load, LoadTarget

EVERY_S = 0.1


class _Teller:
    """Sends what is new to the hub; ends the process when the hub is gone."""

    def __init__(self, load: Load, generator: HttpLoadGenerator, writer: asyncio.StreamWriter) -> None:
        self._load = load
        self._generator = generator
        self._writer = writer
        self._told = 0
        self._faults: dict[str, int] = {}
        self.began_s: float | None = None
        self._cpu_s = 0.0

    def began(self, at_s: float) -> None:
        self.began_s, self._cpu_s = at_s, time.process_time()

    async def tell(self, failure: str = "") -> None:
        samples, began_s = self._load.samples, self.began_s or 0.0
        since, self._told = self._told, len(samples)
        state = self._generator.state()
        faults = {why: count - self._faults.get(why, 0) for why, count in samples.faults.items()}
        self._faults = dict(samples.faults)
        batch = Batch(
            sender=os.getpid(),
            began_s=self.began_s,
            due_s=[at + began_s for at in samples.due_s[since : self._told]],
            sent_s=[at + began_s for at in samples.sent_s[since : self._told]],
            done_s=[at + began_s for at in samples.done_s[since : self._told]],
            status=list(samples.status[since : self._told]),
            faults={why: count for why, count in faults.items() if count and not why.startswith("HTTP ")},
            users=state.users,
            sent=state.sent,
            waited=state.waited,
            in_flight=state.in_flight,
            oldest_s=state.oldest_s,
            cpu_s=time.process_time() - self._cpu_s if self.began_s is not None else 0.0,
            failure=failure,
        )
        self._writer.write(frame(batch))
        await self._writer.drain()

    async def keep_telling(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.tell()


async def _main(part: Part) -> int:
    _, writer = await asyncio.open_unix_connection(os.environ[SOCKET])
    generator = HttpLoadGenerator(timeout_s=part.timeout_s, part=(part.place, part.parts), begin_at_s=part.begin_at_s)
    load = Load(
        target=LoadTarget(part.model, part.url, part.token),
        shape=part.shape,
        requests=part.requests,
        began=lambda at_s: teller.began(at_s),
    )
    teller = _Teller(load, generator, writer)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, generator.stop)
    telling = asyncio.create_task(teller.keep_telling())
    sending = asyncio.create_task(generator.run(load))
    try:
        # Telling ends only when the hub is gone: then nobody wants the load any more.
        await asyncio.wait({telling, sending}, return_when=asyncio.FIRST_COMPLETED)
        generator.stop()
        await sending
    except HeadwayError as error:
        await teller.tell(error.message)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    await teller.tell()
    writer.close()
    return 0


def main() -> int:
    """The process."""
    part = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Part)
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_main(part))


if __name__ == "__main__":
    sys.exit(main())
