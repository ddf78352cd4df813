"""One worker's share of the connections to a listening socket that several processes watch.

A new connection wakes all of them (the socket is level-triggered in each one's epoll set); who is busy
predicting on its loop comes late and so takes less. Each takes one connection per wake-up. Who has more connections
than another lets that one go first: it looks away for :data:`TURN_S`, then takes one whoever has more, since the other
may be busy. Measured with 64 connections made at once, four workers, two cores: 15, 16, 16 and 17 each; without taking
turns 2, 3, 22 and 37.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

from headway.server.worker_board import Board

log = logging.getLogger("headway.server")

TURN_S: Final = 0.001
RETRY_S: Final = 0.25
"""Out of descriptors or memory: try again after this long, rather than be woken again at once."""
_OUT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts for the worker in ``slot``; ``connections`` tells how many it has."""

    def __init__(
        self,
        opened: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        board: Board,
        slot: int,
        connections: Callable[[], int],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = opened
        self._factory = factory
        self._board = board
        self._slot = slot
        self._connections = connections
        self._opening: set[asyncio.Task[None]] = set()
        self._waited = False
        self._short = False
        """Out of descriptors or memory; said once until it is over."""
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to accept."""
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._ready)
        self._board.set_listening(self._slot, True)

    def close(self) -> None:
        """Accept no more, and give up this process's hold on the socket. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._board.set_listening(self._slot, False)
        if self._pause is not None:
            self._pause.cancel()
        else:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    @property
    def opening(self) -> bool:
        """Whether a connection was accepted that nobody serves yet."""
        return bool(self._opening)

    def count(self) -> int:
        """Tell the others how many connections there are."""
        own = self._connections() + len(self._opening)
        self._board.set_connections(self._slot, own)
        return own

    def _ready(self) -> None:
        own = self.count()
        if not self._waited:
            fewest = self._board.fewest_connections(self._slot, perf_counter_ns())
            if fewest is not None and fewest < own:
                self._look_away(TURN_S)
                self._waited = True
                return
        self._waited = False
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was faster, or the client left
        except OSError as error:
            if error.errno not in _OUT_OF:
                raise
            if not self._short:
                self._short = True
                log.error("no connection can be accepted (%s); trying again", error.strerror)
            self._look_away(RETRY_S)
            return
        self._short = False
        accepted.setblocking(False)
        task = self._loop.create_task(self._open(accepted))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        self.count()

    async def _open(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, accepted)
        except OSError:  # gone meanwhile
            accepted.close()

    def _look_away(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._pause = self._loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket.fileno(), self._ready)
