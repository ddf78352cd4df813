"""The HAProxy process: started, adopted, restarted, refused, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.domain.errors import AlreadyRunning, GatewayFailed, MissingBinary
from headway.domain.routing_table import Arm, ModelRoute, Sticky
from tests.integration.haproxy.backends import Connection, Load, Replica, call, until, until_drained
from tests.integration.haproxy.conftest import model, table, version
from tests.leaks import processes_of
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def a(home: Path) -> AsyncIterator[Replica]:
    async with Replica(home / "a") as replica:
        yield replica


async def test_a_successor_adopts_what_runs_and_changes_nothing(
    gateway: HaproxyGateway, home: Path, port: int, a: Replica
) -> None:
    routes = table(model("iris", {"v1": 100}, version("v1", a)))
    await gateway.apply(routes)
    before, workers = gateway.status(), (await gateway._api.workers()).current
    assert before.running
    assert not before.adopted
    await gateway.stop(stop_gateway=False)
    assert not gateway.status().running, "it is no longer looked after by this object"
    assert (await call(port, "/models/iris/predict")).status == 200, "but goes on"
    successor = HaproxyGateway(home=home, host="127.0.0.1", port=port)
    await successor.start()
    status = successor.status()
    assert (status.running, status.adopted, status.pid, status.url) == (True, True, before.pid, before.url)
    assert await successor.apply(routes) is False
    assert (await successor._api.workers()).current == workers, "no reload"
    assert await successor.apply(table(model("iris", {"v1": 100}, version("v1"))))
    assert (await call(port, "/models/iris/predict")).code == "not_ready"
    await successor.stop(stop_gateway=False)


async def test_a_successor_with_other_wishes_takes_over_under_load(
    gateway: HaproxyGateway, home: Path, port: int, a: Replica
) -> None:
    await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
    load = Load(port, "/models/iris/predict", clients=4)
    async with load.running():
        await load.some(30)
        await gateway.stop(stop_gateway=False)
        async with Replica(home / "b") as b:
            successor = HaproxyGateway(home=home, host="127.0.0.1", port=port, keep_alive_s=1.0)
            await successor.start()
            await successor.apply(table(model("iris", {"v1": 100}, version("v1", a, b))))
            await eventually(lambda: load.replicas["b"] > 10 or load.failures)
            await successor.apply(table(model("iris", {"v1": 100}, version("v1", a))))
            await until_drained(successor, "b")
        await load.some(30)
        await successor.stop(stop_gateway=False)
    assert load.failures == []


async def test_a_half_made_change_is_not_taken_for_the_whole(
    gateway: HaproxyGateway, home: Path, port: int, a: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = table(model("iris", {"v1": 100}, version("v1", a)))
    await gateway.apply(routes)
    change = asyncio.create_task(gateway.apply(table(model("iris", {"v1": 100}, version("v1")))))
    waited = asyncio.Event()

    async def stuck(*_: object) -> None:
        waited.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(gateway, "_let_out", stuck)
    await waited.wait()
    change.cancel()
    await asyncio.gather(change, return_exceptions=True)
    await gateway.stop(stop_gateway=False)
    successor = HaproxyGateway(home=home, host="127.0.0.1", port=port)
    await successor.start()
    assert await successor.apply(routes) is True
    assert (await call(port, "/models/iris/predict")).status == 200
    await successor.stop(stop_gateway=False)


async def test_haproxy_killed_is_started_again_with_its_routes(gateway: HaproxyGateway, port: int, a: Replica) -> None:
    await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
    for _ in range(2):
        pid = gateway.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await _until_another_runs(gateway, pid)
        assert (await call(port, "/models/iris/predict")).status == 200
        assert not gateway.status().adopted
    assert await gateway.apply(table(model("iris", {"v1": 100}, version("v1")))) is True
    assert await gateway.drained(["a"]) == {"a"}


async def _until_another_runs(gateway: HaproxyGateway, pid: int | None) -> None:
    await eventually(lambda: gateway.status().running and gateway.status().pid != pid, what="a new master")


async def test_a_worker_that_crashes_is_replaced(gateway: HaproxyGateway, port: int, a: Replica) -> None:
    await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
    [worker] = (await gateway._api.workers()).current
    pid = gateway.status().pid
    os.kill(worker, signal.SIGKILL)
    await _until_another_runs(gateway, pid)
    assert (await call(port, "/models/iris/predict")).status == 200


async def test_stopping_ends_everything(home: Path, scratch: Path, port: int, a: Replica) -> None:
    gateway = HaproxyGateway(home=home, host="127.0.0.1", port=port, keep_alive_s=300.0)
    await gateway.start()
    await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
    async with Connection(port) as idle:
        await idle.call("/models/iris/predict")
        begin = asyncio.get_running_loop().time()
        await gateway.stop(stop_gateway=True)
        assert asyncio.get_running_loop().time() - begin < PATIENCE_S, "idle connections are not waited for"
    assert processes_of(scratch) == []
    assert list((home / "run").iterdir()) == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections linger in TIME_WAIT
        probe.bind(("127.0.0.1", port))
    assert not gateway.status().running
    await gateway.stop(stop_gateway=True)


async def test_stopping_lets_a_request_in_flight_finish(gateway: HaproxyGateway, port: int, a: Replica) -> None:
    await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
    async with Connection(port) as connection:
        a.hold()
        request = asyncio.create_task(connection.call("/models/iris/predict"))
        await eventually(lambda: a.seen)
        stopping = asyncio.create_task(gateway.stop(stop_gateway=True))

        async def closed() -> bool:
            try:
                await call(port, "/healthz")
            except OSError:
                return True
            return False

        await until(closed)
        assert not stopping.done()
        a.let_go()
        assert (await request).status == 200
        await stopping


async def test_stopping_without_a_start_ends_what_an_earlier_one_left(
    gateway: HaproxyGateway, home: Path, scratch: Path, port: int
) -> None:
    await gateway.stop(stop_gateway=False)
    assert processes_of(scratch)
    await HaproxyGateway(home=home, host="127.0.0.1", port=port).stop(stop_gateway=True)
    assert processes_of(scratch) == []


async def test_starting_twice_is_one_start(gateway: HaproxyGateway, scratch: Path) -> None:
    before = gateway.status()
    await asyncio.gather(gateway.start(), gateway.start())
    assert gateway.status() == before
    masters = [p for p in processes_of(scratch) if p.ppid() not in {q.pid for q in processes_of(scratch)}]
    assert [p.pid for p in masters] == [before.pid]


async def test_a_port_that_is_taken_is_named(home: Path, port: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        gateway = HaproxyGateway(home=home, host="127.0.0.1", port=port)
        with pytest.raises(AlreadyRunning, match=f"127.0.0.1:{port}"):
            await gateway.start()
        assert not gateway.status().running
        await gateway.stop(stop_gateway=True)
    await gateway.start()
    assert gateway.status().running
    await gateway.stop(stop_gateway=True)


async def test_two_homes_never_share_a_port(gateway: HaproxyGateway, scratch: Path, port: int) -> None:
    other = HaproxyGateway(home=scratch / "other", host="127.0.0.1", port=port)
    with pytest.raises(AlreadyRunning):
        await other.start()
    await other.stop(stop_gateway=True)
    assert gateway.status().running


async def test_an_address_that_is_not_here_is_refused(home: Path, port: int) -> None:
    with pytest.raises(GatewayFailed, match=r"192\.0\.2\.1"):
        await HaproxyGateway(home=home, host="192.0.2.1", port=port).start()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1"])
async def test_it_listens_where_it_is_told(home: Path, port: int, host: str) -> None:
    if host == "::1" and not any(a.address == "::1" for found in psutil.net_if_addrs().values() for a in found):
        pytest.skip("no IPv6 loopback")
    gateway = HaproxyGateway(home=home, host=host, port=port)
    await gateway.start()
    try:
        assert gateway.status().url == f"http://{f'[{host}]' if ':' in host else host}:{port}"
        reader, writer = await asyncio.open_connection("::1" if host == "::1" else "127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"200 OK" in await reader.read(-1)
        writer.close()
        await writer.wait_closed()
    finally:
        await gateway.stop(stop_gateway=True)


async def test_what_cannot_be_configured_leaves_the_routes_as_they_are(
    gateway: HaproxyGateway, home: Path, port: int, a: Replica
) -> None:
    good = model("iris", {"v1": 100}, version("v1", a))
    await gateway.apply(table(good))
    before = (home / "gateway" / "haproxy.cfg").read_bytes()
    bad = ModelRoute("wine", (Arm("v1", 100),), (version("v1"),), Sticky("header", "x y\n"))
    for _ in range(2):
        with pytest.raises(GatewayFailed, match="wine"):
            await gateway.apply(table(good, bad))
    assert (await call(port, "/models/iris/predict")).status == 200
    assert (home / "gateway" / "haproxy.cfg").read_bytes() == before
    assert await gateway.apply(table(good)) is False


async def test_a_reload_that_haproxy_refuses_leaves_the_old_worker_and_files(
    gateway: HaproxyGateway, home: Path, port: int, a: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = model("iris", {"v1": 100}, version("v1", a))
    await gateway.apply(table(good))
    before = (home / "gateway" / "haproxy.cfg").read_bytes()
    monkeypatch.setattr("headway.adapters.haproxy.config.CHECK_INTERVAL_MS", "x")
    with pytest.raises(GatewayFailed, match="inter"):
        await gateway.apply(table(good, model("wine", {}, version("v1"))))
    monkeypatch.setattr("headway.adapters.haproxy.process.check_config", _nothing)
    with pytest.raises(GatewayFailed, match="inter"):
        await gateway.apply(table(good, model("wine", {}, version("v1"))))
    assert (home / "gateway" / "haproxy.cfg").read_bytes() == before
    assert (await call(port, "/models/iris/predict")).status == 200
    monkeypatch.undo()
    assert await gateway.apply(table(good, model("wine", {}, version("v1"))))
    assert (await call(port, "/models/wine/predict")).code == "not_ready"
    assert (await call(port, "/models/iris/predict")).status == 200


async def _nothing(*_: object) -> None:
    """Checks nothing."""


async def test_a_binary_that_is_none_is_named(home: Path, port: int, tmp_path: Path) -> None:
    for binary in (str(tmp_path / "absent"), "/bin/true", "/bin/cat"):
        with pytest.raises(MissingBinary, match=binary):
            await HaproxyGateway(home=home, host="127.0.0.1", port=port, binary=binary).start()


async def test_a_deep_home_gets_its_sockets_elsewhere(scratch: Path, port: int) -> None:
    home = scratch / ("deep" * 20) / "home with 'quotes' and (brackets), $HOME"
    gateway = HaproxyGateway(home=home, host="127.0.0.1", port=port)
    await gateway.start()
    try:
        path = Path(gateway.internal_address.removeprefix("unix:"))
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert (await call(port, "/healthz")).status == 200
        await gateway.apply(table(model("iris", {}, version("v1"))))
        assert (await call(port, "/models/iris/predict")).code == "not_ready"
    finally:
        await gateway.stop(stop_gateway=True)
        path.parent.rmdir()
