"""Many clients, clients that leave, slow models, and shadow copies, over a real socket."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.server.replica import Replica, Tap
from tests.waiting import wait_until

DEPTH = 'headway_queue_depth{model="iris",version="v1"} '
SENT = 'headway_shadow_requests_total{model="iris",version="v1",result="sent"} '
SUM = "def predict(X):\n    return X.sum(axis=1)\n"


def test_every_client_gets_the_answer_to_its_own_rows(scratch: Path) -> None:
    with Replica(scratch, SUM) as replica, replica.client() as client:

        def ask(number: int) -> bool:
            rows = [[number, i] for i in range(number % 5 + 1)]
            answer = client.post("/predict", json=rows)
            return bool(answer.json() == {"predictions": [float(number + i) for i in range(number % 5 + 1)]})

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(ask, range(400)))
        assert 'route="/predict",status="200"} 400' in client.get("/metrics").text


def test_pipelined_requests_share_a_connection_and_keep_their_order(scratch: Path) -> None:
    with Replica(scratch, SUM) as replica, replica.connect() as raw:
        count = 300
        bodies = [b"[[%d]]" % i for i in range(count)]
        raw.sendall(
            b"".join(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(b), b) for b in bodies)
        )
        received = b""
        while received.count(b"predictions") < count:
            received += raw.recv(65536)
        values = [float(part.split(b"]")[0]) for part in received.split(b'{"predictions":[')[1:]]
        assert values == [float(i) for i in range(count)]


def test_a_busy_model_in_pure_python_leaves_health_and_refusals_alive(scratch: Path) -> None:
    tap = Tap(scratch)
    with (
        Replica(scratch, tap.source, options={"max_queue": 1}) as replica,
        replica.client() as client,
        ThreadPoolExecutor(2) as pool,
    ):
        running = pool.submit(client.post, "/predict", json=[[-1]])
        wait_until(tap.lines)
        assert client.get("/health/ping").status_code == 200
        waiting = pool.submit(client.post, "/predict", json=[[5]])
        wait_until(lambda: DEPTH + "1" in client.get("/metrics").text)
        refused = client.post("/predict", json=[[6]])
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/health/status").status_code == 200
        tap.open()
        assert running.result().json() == {"predictions": [-1.0]}
        assert waiting.result().json() == {"predictions": [5.0]}


def test_work_of_a_client_that_left_is_not_begun(scratch: Path) -> None:
    tap = Tap(scratch)
    with Replica(scratch, tap.source) as replica, replica.client() as client, ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, "/predict", json=[[-1]])
        wait_until(tap.lines)
        leaver = replica.connect()
        leaver.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n[[777]]")
        wait_until(lambda: DEPTH + "1" in client.get("/metrics").text)
        leaver.close()
        wait_until(lambda: DEPTH + "0" in client.get("/metrics").text)
        tap.open()
        assert running.result().status_code == 200
        assert client.post("/predict", json=[[1]]).status_code == 200
        assert "777" not in " ".join(tap.lines())


def test_a_refused_large_body_still_gets_its_answer(scratch: Path) -> None:
    with Replica(scratch, SUM, options={"max_body_bytes": 1000}) as replica, replica.connect() as raw:
        raw.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        sent = 0
        try:
            while sent < 50_000_000:
                sent += raw.send(b"x" * 65536)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass
        assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")


class Gateway:
    """Answers every request 500 and keeps it; a thread serves one connection at a time."""

    def __init__(self, path: Path) -> None:
        self.copies: list[bytes] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()

    def serve(self) -> None:
        """Until :meth:`close`."""
        with ThreadPoolExecutor(8) as pool:
            while True:
                try:
                    connection, _ = self._listening.accept()
                except OSError:
                    return
                pool.submit(self._answer, connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                head = line
                while (field := reader.readline()).strip():
                    head += field
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.copies.append(head + b"\r\n" + reader.read(length))
                connection.sendall(b"HTTP/1.1 500 No\r\ncontent-length: 6\r\n\r\nthrown")

    def close(self) -> None:
        """Take no more connections."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def test_shadow_copies_reach_the_gateway_and_its_failures_do_not_reach_the_client(scratch: Path) -> None:
    gateway = Gateway(scratch / "gateway")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(gateway.serve)
        with Replica(scratch, SUM, shadow_gateway=f"unix:{scratch}/gateway") as replica, replica.client() as client:
            for number in range(10):
                answer = client.post("/predict?q=1", json=[[number]], headers={"x-headway-shadow": "v2"})
                assert answer.json() == {"predictions": [float(number)]}
            wait_until(lambda: SENT + "10" in client.get("/metrics").text)
        gateway.close()
    assert {c.split(b" HTTP")[0] for c in gateway.copies} == {b"POST /models/iris/versions/v2/predict?q=1"}
    assert {c.rpartition(b"\r\n\r\n")[2] for c in gateway.copies} == {b"[[%d]]" % n for n in range(10)}


def test_a_tcp_client_that_sends_garbage_gets_a_400(scratch: Path) -> None:
    with Replica(scratch, SUM) as replica, replica.connect() as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00")
        raw.shutdown(socket.SHUT_WR)
        received = b""
        while piece := raw.recv(4096):
            received += piece
        assert received.startswith(b"HTTP/1.1 400 ")
