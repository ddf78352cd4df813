"""Clients that dawdle, lie about lengths or never stop: each connection is ended in bounded time with a reason, and
nobody else notices."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.server.replica import Replica
from tests.leaks import make_scratch, remove_scratch
from tests.waiting import PATIENCE_S

SUM = "def predict(X):\n    return X.sum(axis=1)\n"
GOOD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n[[1,2]]"
HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\n"
HEADER_TICKS, BODY_TICKS = 2, 3
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Impatient(Replica):
    """A replica whose clocks run out after 2 and 3 s instead of 10 and 30."""

    def __enter__(self) -> Impatient:
        code = (
            "import runpy, sys, headway.server.limits as limits;"
            f"limits.HEADER_TIMEOUT_TICKS, limits.BODY_TIMEOUT_TICKS = {HEADER_TICKS}, {BODY_TICKS};"
            "sys.argv = ['headway.server', sys.argv[1]];"
            "runpy.run_module('headway.server', run_name='__main__')"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code, str(self.folder / "config.json")], cwd=self.folder)
        self.await_ready()
        return self


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    scratch = make_scratch()
    try:
        with Replica(scratch, SUM) as started:
            yield started
            assert started.process.poll() is None
            assert "Traceback" not in started.log()
    finally:
        remove_scratch(scratch)


def exchange(replica: Replica, *pieces: bytes, end: bool = False) -> bytes:
    """Everything that comes back until the server closes; ``end``: tell it that no more will be sent."""
    received = b""
    with replica.connect() as raw:
        try:
            for piece in pieces:
                raw.sendall(piece)
            if end:
                raw.shutdown(socket.SHUT_WR)
            while data := raw.recv(65536):
                received += data
        except (BrokenPipeError, ConnectionResetError):
            pass
    return received


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def drip(replica: Replica, starts: dict[str, bytes], drop: bytes, limit_s: float) -> dict[str, tuple[bytes, float]]:
    """One connection per start, then ``drop`` to each again and again: what came back, and after how many seconds."""
    began = time.monotonic()
    open_ones = {replica.connect(): name for name in starts}
    found: dict[str, tuple[bytes, float]] = {}
    for raw, name in open_ones.items():
        raw.sendall(starts[name])
    while open_ones and time.monotonic() - began < limit_s:
        readable = select.select(list(open_ones), [], [], 0.1)[0]
        for raw in list(open_ones):
            if raw in readable:
                found[open_ones.pop(raw)] = raw.recv(65536), time.monotonic() - began
                raw.close()
                continue
            try:
                raw.sendall(drop)
            except OSError:  # told off between the look and the drop: the answer is there to be read
                continue
    for raw in open_ones:
        raw.close()
    return found


def test_slow_clients_are_told_408_while_others_are_served(scratch: Path) -> None:
    starts = {f"head {i}": b"POST /predict HTTP/1.1\r\nHost: a\r\nX-Slow: " for i in range(40)}
    starts |= {f"line {i}": b"POST /predict?" for i in range(10)}
    starts |= {f"body {i}": HEAD + b"Content-Length: 100000\r\n\r\n" for i in range(40)}
    starts |= {f"chunk {i}": CHUNKED + b"10000\r\n" for i in range(10)}
    with Impatient(scratch, SUM) as replica, replica.client() as client:
        done = threading.Event()
        waits: list[float] = []

        def ask() -> None:
            while not done.wait(0.01):
                answer = client.post("/predict", json=[[1, 2]])
                assert answer.json() == {"predictions": [3.0]}
                waits.append(answer.elapsed.total_seconds())

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            found = drip(replica, starts, b"1", PATIENCE_S)
        finally:
            done.set()
            asking.join()
        assert set(found) == set(starts)
        for name, (answer, seconds) in found.items():
            assert statuses(answer) == [408], (name, answer)
            assert b"request_timeout" in answer
            ticks = HEADER_TICKS if name.startswith(("head", "line")) else BODY_TICKS
            assert ticks - 1.1 <= seconds < PATIENCE_S, name
        assert sorted(waits)[len(waits) // 2] < 1.5, "most are answered before the first of the slow is told off"
        assert 'route="other",status="408"} 100' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("size", "status"),
    [
        (b"ffffffffffffffff", 413),
        (b"7fffffffffffffff", 413),
        (b"10000000000000000", 400),
        (b"f" * 1000, 400),
        (b"-1", 400),
        (b"+5", 400),
        (b"0x5", 400),
        (b" 5", 400),
        (b"5.0", 400),
        (b"", 400),
        (b"xyz", 400),
        (b"5;" + b"x" * 700_000, 413),
        (b"0" * 700_000, 413),
    ],
)
def test_absurd_chunk_sizes(replica: Replica, size: bytes, status: int) -> None:
    body = b"x" * 65536
    received = exchange(replica, CHUNKED, size, b"\r\n", *[body] * 600)
    assert statuses(received) == [status], received[:200]
    with replica.client() as client:
        assert client.post("/predict", json=[[1, 2]]).status_code == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (CHUNKED + b"7\r\n[[1,2]]\r\n0\r\n\r\nGARBAGE\r\n\r\n", [200, 400]),
        (CHUNKED + b"7\r\n[[1,2]]0\r\n\r\n", [400]),
        (CHUNKED + b"3\r\n[[1,2]]\r\n0\r\n\r\n", [400]),
        (HEAD + b"Content-Length: 3\r\n\r\n[[1,2]]", [400, 400]),
        (HEAD + b"Content-Length: 1000000000000000000\r\n\r\n", [413]),
        (HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", [400]),
        (HEAD + b"Content-Length: 0\r\n\r\n" + GOOD + b"\x00", [400, 200, 400]),
        (HEAD + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
        (GOOD * 500 + b"nonsense\r\n\r\n", [200] * 500 + [400]),
        (GOOD * 20 + HEAD + b"Content-Length: 5\r\n\r\n[[1,2" + GOOD + b"\0", [200] * 20 + [400, 200, 400]),
        (GOOD * 40 + HEAD + b"Connection: close\r\nContent-Length: 7\r\n\r\n[[1,2]]" + GOOD * 40, [200] * 41),
    ],
)
def test_lengths_that_are_wrong_and_pipelines_that_break(replica: Replica, data: bytes, status: list[int]) -> None:
    """What came whole before is answered, in order; then the connection is closed."""
    assert statuses(exchange(replica, data)) == status


def test_a_body_shorter_than_said_ends_with_its_connection(replica: Replica) -> None:
    assert exchange(replica, HEAD + b"Content-Length: 100\r\n\r\n[[1,2]]", end=True) == b""
    assert exchange(replica, CHUNKED + b"7\r\n[[1,2]]\r\n", end=True) == b""
    with replica.client() as client:
        assert client.post("/predict", json=[[1, 2]]).json() == {"predictions": [3.0]}


def test_many_pipelined_requests_from_one_client_leave_room_for_others(replica: Replica) -> None:
    with replica.connect() as greedy, replica.client() as client:
        greedy.settimeout(1)
        with contextlib.suppress(TimeoutError):
            greedy.sendall(GOOD * 100_000)  # and nothing is read: in the end the server does not take more
        answer = client.post("/predict", json=[[1, 2]])
        assert answer.json() == {"predictions": [3.0]}
