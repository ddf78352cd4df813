"""Stats asked of pods over HTTP keep the contract; so does what they say when they say nothing of use."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from headway.adapters.kubernetes.named_pods import NamedPodStats
from headway.adapters.kubernetes.pod_stats import AGAIN_S, MOST_BYTES, PodStats
from headway.adapters.memory.clock import ManualClock
from tests.contracts.replica_stats_contract import ReplicaStatsContract, only
from tests.waiting import eventually

LONG = b"x" * (MOST_BYTES + 1)


@dataclass
class Pod:
    """A model server as far as its stats go."""

    clock: ManualClock
    port: int = 0
    host: str = "127.0.0.1"
    life: int = 0
    in_flight: int = 0
    finished: int = 0
    flown: float = 0.0
    body: bytes | None = None
    """What it answers instead of its stats."""
    asked: int = 0
    hangs: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    connections: list[socket.socket] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    def up(self) -> None:
        pod = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                pod.connections.append(self.request)

            def do_GET(self) -> None:
                pod.asked += 1
                if pod.hangs:
                    pod.released.wait(60)
                body = pod.said() if self.path == "/stats" else b"{}"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.life, self.in_flight, self.finished, self.flown = self.life + 1, 0, 0, 0.0
        self.server = ThreadingHTTPServer((self.host, self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def said(self) -> bytes:
        if self.body is not None:
            return self.body
        found: dict[str, object] = {"at": self.clock.monotonic() + 1e4, "epoch": f"e{self.life}"}
        found |= {"cpu_s": 0.5, "memory_bytes": 1024}
        found |= {"in_flight": self.in_flight, "in_flight_s": self.flown, "finished": self.finished, "queue_s": 0.0}
        return json.dumps(found).encode()

    def down(self) -> None:
        server, self.server = self.server, None
        self.released.set()
        if server is not None:
            server.shutdown()
            server.server_close()
        for one in self.connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.connections.clear()


class PodsFleet:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.pods: dict[str, Pod] = {}
        self.stats = PodStats(lambda: {name: f"127.0.0.1:{pod.port}" for name, pod in self.pods.items()}, self.clock)

    def start(self, replica_id: str) -> None:
        self.pods.setdefault(replica_id, Pod(self.clock)).up()

    def arrive(self, replica_id: str, count: int) -> None:
        self.pods[replica_id].in_flight += count

    def answer(self, replica_id: str, count: int) -> None:
        self.pods[replica_id].in_flight -= count
        self.pods[replica_id].finished += count

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for pod in self.pods.values():
            pod.flown += pod.in_flight * seconds

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def kill(self, replica_id: str) -> None:
        self.pods[replica_id].down()

    def spoil(self, replica_id: str) -> None:
        self.pods[replica_id].body = b"<html>"


@pytest.fixture
async def fleet() -> AsyncIterator[PodsFleet]:
    made = PodsFleet()
    yield made
    await made.stats.close()
    for pod in made.pods.values():
        pod.down()


class TestPodStats(ReplicaStatsContract):
    async def test_processor_time_and_memory_are_told_too(self, fleet: PodsFleet) -> None:
        fleet.start("iris-v1-aaaaa")
        one = await only(fleet)
        assert (one.cpu_s, one.memory_bytes) == (0.5, 1024)

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b'"text"', b"{}", b'{"epoch": 7}', LONG, b'{"epoch": "%s"}' % LONG[:200], b"[" * 9999]
    )
    async def test_what_is_no_stats_is_no_data(self, fleet: PodsFleet, body: bytes) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.pods["iris-v1-aaaaa"].body = body
        assert await fleet.stats.read() == ()

    @pytest.mark.parametrize("value", ["NaN", "-1", "1e999", "true", '"7"', "null"])
    async def test_what_is_no_counter_is_not_known(self, fleet: PodsFleet, value: str) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.pods["iris-v1-aaaaa"].body = f'{{"epoch": "a", "in_flight_s": {value}, "finished": {value}}}'.encode()
        one = await only(fleet)
        assert (one.in_flight_s, one.finished) == (None, None)

    @pytest.mark.parametrize(
        ("latency", "counts"),
        [
            ({"counts": {"7": 3, "9": 0}, "total_s": 1.5, "queue_s": 0.5}, {7: 3}),
            ({"counts": {}, "total_s": 0, "queue_s": 0}, {}),
            ({"counts": {"9999": 3}, "total_s": 1.5, "queue_s": 0.5}, None),
            ({"counts": {"7": 3}, "total_s": -1, "queue_s": 0.5}, None),
            ({"counts": [3]}, None),
            ("soon", None),
        ],
    )
    async def test_latencies_are_counts_by_bucket_or_not_known(
        self, fleet: PodsFleet, latency: object, counts: dict[int, int] | None
    ) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.pods["iris-v1-aaaaa"].body = json.dumps({"epoch": "a", "latency": latency}).encode()
        found = (await only(fleet)).latency
        assert (None if found is None else found.counts) == counts

    async def test_a_pod_that_does_not_answer_holds_nobody_up_and_is_asked_less_often(self, fleet: PodsFleet) -> None:
        fleet.start("iris-v1-aaaaa")
        fleet.start("iris-v1-bbbbb")
        hanging = fleet.pods["iris-v1-aaaaa"]
        hanging.hangs = True
        assert (await only(fleet)).replica_id == "iris-v1-bbbbb"
        task = fleet.stats._pods["iris-v1-aaaaa"].task
        assert task is not None
        await asyncio.wait({task})
        for _ in range(3):
            fleet.pass_time(AGAIN_S / 4)
            assert (await only(fleet)).replica_id == "iris-v1-bbbbb"
        assert hanging.asked == 1
        hanging.hangs = False
        fleet.pass_time(AGAIN_S)
        await fleet.stats.read()
        assert {one.replica_id for one in await fleet.stats.read()} == set(fleet.pods)

    async def test_rates_are_by_the_pods_own_clock_and_a_clock_that_has_stopped_is_set_anew(
        self, fleet: PodsFleet
    ) -> None:
        fleet.start("iris-v1-aaaaa")
        pod = fleet.pods["iris-v1-aaaaa"]
        first = await only(fleet)
        fleet.pass_time(2)
        pod.clock = ManualClock()
        pod.clock.advance(first.at + 1.5)  # the answer is read half a second late
        assert (await only(fleet)).at == pytest.approx(first.at + 1.5)
        fleet.pass_time(60)
        assert (await only(fleet)).at == fleet.monotonic()

    async def test_a_pod_that_is_gone_is_hung_up(self, fleet: PodsFleet) -> None:
        fleet.start("iris-v1-aaaaa")
        await only(fleet)
        gone = fleet.pods.pop("iris-v1-aaaaa")
        assert await fleet.stats.read() == ()
        gone.down()
        await eventually(lambda: not fleet.stats._pods)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_pods_behind_a_name_are_those_that_the_name_leads_to_now(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    first = Pod(clock)
    first.up()
    second = Pod(clock, port=first.port, host="127.0.0.2")
    second.up()
    known: list[str] | int = socket.EAI_NONAME

    async def getaddrinfo(name: str, port: int, **_: Any) -> list[Any]:
        assert (name, port) == ("load-pods.models.svc", first.port)
        if isinstance(known, int):
            raise socket.gaierror(known, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in known]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    stats = NamedPodStats("load-pods.models.svc", first.port, clock)

    async def seen() -> list[str]:
        clock.advance(1.0)
        await stats.read()  # an answer may take longer than a reading waits
        return [one.replica_id for one in await stats.read()]

    try:
        assert await seen() == []
        known = ["127.0.0.1"]
        assert await seen() == ["127.0.0.1"]
        known = ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
        assert await seen() == ["127.0.0.1", "127.0.0.2"]
        known = socket.EAI_AGAIN
        assert await seen() == ["127.0.0.1", "127.0.0.2"], "nobody is forgotten because the DNS hangs"
        known = ["127.0.0.2"]
        assert await seen() == ["127.0.0.2"]
        known = socket.EAI_NONAME
        assert await seen() == []
    finally:
        await stats.close()
        await stats.close()
        first.down()
        second.down()
