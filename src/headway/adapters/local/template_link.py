"""TemplateLink: one connection to a template process, questions and answers in :mod:`headway.server.template_wire`.

Whatever goes wrong with it (the template ended, was killed, another runtime took over) closes it, and every open
question then gets the answer "not known".
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable

import msgspec

from headway.adapters.local.process import Exit
from headway.server.template_wire import Ended, Fork, Forked, Hello, Listening, NotForked, Notice, Reap, Request, encode

log = logging.getLogger(__name__)

FORK_WITHIN_S = 10.0
"""For an answer to a request to fork. The kernel copies page tables: 15 ms for a gigabyte."""
REAP_WITHIN_S = 2.0
_decode = msgspec.json.Decoder(Notice).decode


class TemplateLink:
    """Made by :meth:`connect`; ``on_close`` is called once, when the connection has ended by itself."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_close: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_close = on_close
        self._serials = itertools.count(1)
        self._forks: dict[int, asyncio.Future[Forked | NotForked]] = {}
        self._ends: dict[int, asyncio.Future[Exit]] = {}
        self._listening: dict[int, Callable[[], None]] = {}
        self._early: set[int] = set()
        """Processes that listen already, though nobody has asked to be told."""
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(), name="template link")
        self.closed = False

    @classmethod
    async def connect(cls, socket: str, on_close: Callable[[], None]) -> TemplateLink:
        """Raises ``OSError`` when nobody listens."""
        reader, writer = await asyncio.open_unix_connection(socket)
        return cls(reader, writer, on_close)

    async def hello(self) -> Hello | None:
        """Wait until the model is loaded; None when the connection ends before."""
        try:
            return await asyncio.shield(self._hello)
        except OSError:
            return None

    async def fork(self, config: str) -> Forked | NotForked:
        """Ask for a replica of the config file ``config``."""
        serial = next(self._serials)
        answer: asyncio.Future[Forked | NotForked] = asyncio.get_running_loop().create_future()
        self._forks[serial] = answer
        try:
            self._send(Fork(serial=serial, config=config))
            async with asyncio.timeout(FORK_WITHIN_S):
                return await answer
        except TimeoutError:
            self.close()  # whatever it does with the request now: it is not to be trusted
            return NotForked(serial=serial, message=f"the template did not answer within {FORK_WITHIN_S:g} s")
        except OSError as error:
            return NotForked(serial=serial, message=f"the template is gone: {error}")
        finally:
            self._forks.pop(serial, None)

    async def exit_of(self, pid: int) -> Exit:
        """How its child ``pid``, which has ended, ended."""
        answer: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._ends[pid] = answer
        try:
            self._send(Reap(pid=pid))
            async with asyncio.timeout(REAP_WITHIN_S):
                return await answer
        except (OSError, TimeoutError):
            return Exit()
        finally:
            self._ends.pop(pid, None)

    def when_listening(self, pid: int, tell: Callable[[], None]) -> None:
        """Call ``tell`` when the replica of process ``pid`` serves its socket, at once when it does already."""
        if pid in self._early:
            self._early.discard(pid)
            tell()
        else:
            self._listening[pid] = tell

    def forget(self, pid: int) -> None:
        """No more news of that process."""
        self._listening.pop(pid, None)
        self._early.discard(pid)

    def close(self) -> None:
        """Hang up; a second call does nothing."""
        self._reading.cancel()
        self._end()

    def _send(self, request: Request) -> None:
        if self.closed:  # one event loop takes it in silence then, the other raises what is no OSError
            raise ConnectionError("the connection to the template has ended")
        self._writer.write(encode(request))

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._take(_decode(line))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.debug("a template's connection failed: %s", error)
        self._end()
        self._on_close()

    def _take(self, notice: Notice) -> None:
        match notice:
            case Hello():
                if not self._hello.done():
                    self._hello.set_result(notice)
            case Forked() | NotForked():
                answer = self._forks.get(notice.serial)
                if answer is not None and not answer.done():
                    answer.set_result(notice)
            case Listening():
                tell = self._listening.pop(notice.pid, None)
                if tell is not None:
                    tell()
                else:
                    self._early.add(notice.pid)
            case Ended():
                end = self._ends.get(notice.pid)
                if end is not None and not end.done():
                    end.set_result(Exit(code=notice.code, signal=notice.signal))

    def _end(self) -> None:
        self.closed = True
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()
        open_questions: list[asyncio.Future[Hello] | asyncio.Future[Forked | NotForked] | asyncio.Future[Exit]]
        open_questions = [self._hello, *self._forks.values(), *self._ends.values()]
        for question in open_questions:
            if not question.done():
                question.set_exception(ConnectionError("the connection to the template has ended"))
        if self._hello.done() and not self._hello.cancelled():
            self._hello.exception()  # nobody may have waited for it
