"""Loaded by Locust, as a locustfile before the user's own: the load's shape, its users, and a line to the hub.

Everything of Locust's that rounds or averages is passed by: each request goes to the hub with its own times. In the
user's file nothing has to change. Runs in Locust's processes (gevent, patched), never in ours.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from pathlib import Path
from random import Random
from typing import Any, Final

import gevent
import msgspec
from locust import HttpUser, LoadTestShape, events, task
from locust.clients import HttpSession
from locust.contrib.fasthttp import FastHttpSession, FastHttpUser
from locust.runners import WorkerRunner
from requests.exceptions import Timeout

from headway.adapters.loadgen.locust_worker import PART
from headway.adapters.loadgen.wire import PLACE, Batch, Hello, LocustPart, frame
from headway.domain.load_samples import GIVEN_UP, NO_ANSWER

EVERY_S: Final = 0.1
_part = msgspec.msgpack.decode(Path(os.environ[PART]).read_bytes(), type=LocustPart)


class HeadwayShape(LoadTestShape):
    """The users that the load's shape says. Locust asks once a second; they come spread over that second."""

    def tick(self) -> tuple[int, float] | None:
        elapsed_s = self.get_run_time()
        shape = _part.shape
        if elapsed_s >= shape.duration_s:
            return None
        wished = round(shape.at(elapsed_s))
        return wished, max(1, abs(wished - self.get_current_user_count()))


if _part.own_users:

    class ModelUser(HttpUser):
        """Sends a row, waits for the answer, thinks."""

        _born = itertools.count(1)

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            number = next(ModelUser._born)
            self._chance = Random(_part.shape.seed * 1_000_003 + os.getpid() + number)  # noqa: S311 - thinking times
            self._next = itertools.count(number)

        def wait_time(self) -> float:
            mean_s = _part.shape.think_time_s
            return self._chance.expovariate(1 / mean_s) if mean_s > 0 else 0.0

        def on_start(self) -> None:
            gevent.sleep(self.wait_time())  # else those who come together march in step

        @task
        def predict(self) -> None:
            request = _part.requests[next(self._next) % len(_part.requests)]
            self.client.post(
                f"/{request.path.lstrip('/')}",
                data=request.body,
                headers={"Content-Type": request.content_type},
            )


def _bear(token: str) -> None:
    """Let every session to the model show ``token``, unless the user's file shows another."""
    plain: Any = HttpSession
    fast: Any = FastHttpSession
    make, ask = plain.__init__, fast.request

    def made(self: Any, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        if str(self.base_url).startswith(_part.url):
            self.headers.setdefault("Authorization", f"Bearer {token}")

    def asked(self: Any, *args: Any, headers: dict[str, str] | None = None, **options: Any) -> Any:
        if str(self.base_url).startswith(_part.url):
            headers = {"Authorization": f"Bearer {token}", **(headers or {})}
        return ask(self, *args, headers=headers, **options)

    plain.__init__, fast.request = made, asked


class _Flights:
    """Requests over HTTP without an answer yet. Locust tells of a request only when it is over."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._left_s: dict[int, float] = {}
        self._any = False

    def left(self) -> int:
        """One more, of this number."""
        self._any = True
        number = next(self._numbers)
        self._left_s[number] = time.monotonic()
        return number

    def over(self, number: int) -> None:
        self._left_s.pop(number, None)

    def count(self) -> int | None:
        """None before the first: the users may speak another protocol."""
        return len(self._left_s) if self._any else None

    def oldest_s(self) -> float:
        oldest = next(iter(self._left_s.values()), None)  # they are in the order in which they left
        return 0.0 if oldest is None else time.monotonic() - oldest


_flights = _Flights()


def _follow(kind: Any, timeout_s: float | None) -> None:
    """Count requests of sessions of this ``kind`` while they are under way, and let none wait longer.

    Unless the user's file says so: a request without an end would never be counted.
    """
    ask = kind.request

    def asked(self: Any, *args: Any, **options: Any) -> Any:
        if timeout_s is not None:
            options.setdefault("timeout", timeout_s)
        number = _flights.left()
        try:
            return ask(self, *args, **options)
        finally:
            _flights.over(number)

    kind.request = asked


if _part.token is not None:
    _bear(_part.token)
_follow(HttpSession, _part.timeout_s)
_follow(FastHttpSession, None)
FastHttpUser.network_timeout = FastHttpUser.connection_timeout = _part.timeout_s


def _why(exception: BaseException) -> str:
    text = " ".join(str(exception).split())[:120]
    return f"{type(exception).__name__}: {text}" if text else type(exception).__name__


class _Line:
    """To the hub. When the hub is gone, so is whoever wanted the load: the process ends."""

    def __init__(self) -> None:
        place = os.environ[PLACE]
        if place.startswith("fd:"):
            self._socket = socket.socket(fileno=int(place.removeprefix("fd:")))
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(place)
            self._socket.sendall(frame(Hello(token="", now_s=time.monotonic(), wants_part=False)))
        self._batch = self._empty()
        self._sent = 0
        self._began_s: float | None = None
        self._cpu_s = 0.0
        self.runner: Any = None

    def _empty(self) -> Batch:
        return Batch(
            due_s=[], sent_s=[], done_s=[], status=[], faults={}, lags_s=[], in_flight=None, raised={}, notes=[]
        )

    def began(self) -> None:
        self._began_s, self._cpu_s = time.monotonic(), time.process_time()
        self.tell()

    def take(self, response_time: float, response: Any, exception: BaseException | None) -> None:
        done_s = time.monotonic()
        sent_s = done_s - (response_time or 0.0) / 1e3
        batch = self._batch
        status = int(getattr(response, "status_code", 0) or 0)
        if exception is None and not status:
            status = 200  # of another protocol, which has none
        if exception is not None and status < 400:
            answered = response is not None and bool(getattr(response, "status_code", 0))
            cause = getattr(exception, "original", exception)  # FastHttpUser wraps what happened
            status = GIVEN_UP if answered or isinstance(cause, Timeout | TimeoutError) else NO_ANSWER
            why = _why(exception)
            batch.faults[why] = batch.faults.get(why, 0) + 1
        batch.due_s.append(sent_s)
        batch.sent_s.append(sent_s)
        batch.done_s.append(done_s)
        batch.status.append(status)
        self._sent += 1

    def took_wrong(self, exception: BaseException) -> None:
        """Code of the user's file raised, outside of a request."""
        raised, why = self._batch.raised, _why(exception)
        raised[why] = raised.get(why, 0) + 1

    def note(self, text: str) -> None:
        self._batch.notes.append(text)

    def tell(self, *, done: bool = False) -> None:
        batch, self._batch = self._batch, self._empty()
        batch.began_s, batch.sent, batch.done = self._began_s, self._sent, done
        batch.in_flight, batch.oldest_s = _flights.count(), _flights.oldest_s()
        batch.cpu_s = time.process_time() - self._cpu_s if self._began_s is not None else 0.0
        if self.runner is not None and not isinstance(self.runner, WorkerRunner):
            batch.users = self.runner.user_count
        try:
            self._socket.sendall(frame(batch))
        except OSError:
            os._exit(1)

    def keep_telling(self) -> None:
        while True:
            due_s = time.monotonic() + EVERY_S
            gevent.sleep(EVERY_S)
            if self._began_s is not None:
                self._batch.lags_s.append(max(0.0, time.monotonic() - due_s))
            self.tell()


_line: list[_Line] = []


@events.init.add_listener
def _ready(environment: Any, **more: Any) -> None:
    line = _Line()
    line.runner = environment.runner
    others = [name for name in environment.available_shape_classes or () if name != HeadwayShape.__name__]
    if others and not isinstance(environment.runner, WorkerRunner):
        line.note(
            f"{', '.join(others)} of the locustfile is not used: --users or --stages say how many users there are"
        )
    _line.append(line)
    gevent.spawn(line.keep_telling)


@events.test_start.add_listener
def _begins(**others: Any) -> None:
    if _line:
        _line[0].began()


@events.request.add_listener
def _answered(response_time: float, response: Any = None, exception: Any = None, **others: Any) -> None:
    if _line:
        _line[0].take(response_time, response, exception)


@events.user_error.add_listener
def _raised(exception: BaseException, **others: Any) -> None:
    if _line:
        _line[0].took_wrong(exception)


@events.quitting.add_listener
def _ends(**others: Any) -> None:
    if _line:
        _line[0].tell(done=True)
