"""The gateway's log over reloads, crashes, storms, full disks; and what a line says of the version's choice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.domain.routing_table import Shadow, Sticky
from tests.integration.haproxy.backends import Connection, Replica, call
from tests.integration.haproxy.conftest import model, table, version
from tests.integration.haproxy.gateway_log import Log
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
PREDICT = "/models/iris/predict"


async def test_lines_go_on_after_reloads_restarts_and_crashes(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], home: Path, log: Log, port: int
) -> None:
    routes = table(model("iris", {"v1": 100}, version("v1", *replicas)))
    names = iter(range(100))
    workers = []

    async def refuse() -> None:
        [worker] = (await gateway._api.workers()).current
        for _ in range(2):
            await call(port, "/models/nobody/", headers={"x-request-id": str(next(names))})
            workers.append(worker)
        await log.wait_for(len(workers))

    await refuse()
    await gateway.apply(routes)  # a reload
    async with Connection(port) as kept:
        await kept.call(PREDICT)
        await refuse()
        await gateway.apply(table(*routes.models, model("wine", {}, version("v1"))))  # another
        await refuse()
        answer = await kept.call("/models/iris/versions/v7/", headers={"x-request-id": str(next(names))})
        assert answer.status == 404, "from the old worker"
        workers.append(workers[2])
    await gateway.stop(stop_gateway=False)
    successor = HaproxyGateway(home=home, host="127.0.0.1", port=port)
    await successor.start()
    await refuse()
    pid = successor.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: successor.status().running and successor.status().pid != pid)
    await refuse()
    await successor.stop(stop_gateway=True)
    await gateway.start()
    await refuse()
    lines = log.lines()
    assert sorted(int(line["request_id"]) for line in lines) == list(range(len(workers)))
    assert [line["pid"] for line in sorted(lines, key=lambda line: int(line["request_id"]))] == workers
    for pid in dict.fromkeys(workers):
        assert [line["line"] for line in lines if line["pid"] == pid] == list(range(1, workers.count(pid) + 1))
    assert log.path.stat().st_mode & 0o777 == 0o600


async def test_a_storm_of_refusals_leaves_whole_lines_and_no_hole(iris: object, log: Log, port: int) -> None:
    connections, batches, batch = 20, 10, 100
    request = b"GET /models/nobody/%s HTTP/1.1\r\nhost: x\r\n\r\n" % (b'"' * 150)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(batches):
            writer.write(request * batch)
            for _ in range(batch):
                await reader.readuntil(b"}}")
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(connections)))
    total = connections * batches * batch
    assert await log.until_last(port)
    lines = log.lines()
    numbers = [line["line"] for line in lines]
    assert numbers == list(range(1, total + 2))
    assert len({line["request_id"] for line in lines}) == total + 1


async def test_a_full_disk_costs_lines_only(home: Path, port: int, log: Log) -> None:
    log.path.parent.mkdir(parents=True)
    log.path.symlink_to("/dev/full")
    gateway = HaproxyGateway(home=home, host="127.0.0.1", port=port)
    await gateway.start()
    try:
        async with Replica(home / "a") as a, Connection(port) as connection:
            await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
            for _ in range(20):
                assert (await connection.call("/models/nobody/")).status == 404
                assert (await connection.call(PREDICT)).status == 200
    finally:
        await gateway.stop(stop_gateway=True)


async def test_a_log_that_cannot_be_opened_costs_lines_only(
    home: Path, port: int, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    log.path.mkdir(parents=True)
    gateway = HaproxyGateway(home=home, host="127.0.0.1", port=port)
    with caplog.at_level(logging.ERROR):
        await gateway.start()
    try:
        assert "query log" in caplog.text
        assert (await call(port, "/models/nobody/")).status == 503
    finally:
        await gateway.stop(stop_gateway=True)


async def test_a_gateway_that_writes_elsewhere_is_noticed(
    gateway: HaproxyGateway, home: Path, port: int, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    for removed in (False, True):
        await gateway.stop(stop_gateway=False)
        if removed:
            log.path.unlink()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            await gateway.start()
        assert (str(log.path) in caplog.text) is removed


async def test_replicas_and_lines_are_told_how_the_version_was_chosen(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], home: Path, log: Log, port: int
) -> None:
    a, b = replicas
    split = model("split", {"v1": 100}, version("v1", a))
    sticky = replace(model("sticky", {"v1": 50, "v2": 50}, version("v1", a), version("v2", b)))
    sticky = replace(sticky, sticky=Sticky("header", "x-user"), shadow=Shadow("v2", 100))
    await gateway.apply(table(split, sticky, model("empty", {"v1": 100}, version("v1"))))
    internal = Connection(socket=Path(gateway.internal_address.removeprefix("unix:")))
    public = Connection(port)
    forged = {"x-headway-arm": "direct"}
    user = {"x-user": "ann", **forged}
    async with internal, public:
        for connection, path, headers, arm in [
            (public, "/models/split/predict", forged, "split"),
            (public, "/models/sticky/predict", forged, "split"),
            (public, "/models/sticky/predict", user, "sticky"),
            (public, "/models/sticky/versions/v1/predict", user, "pinned"),
            (internal, "/models/sticky/versions/v2/predict", user, "shadow"),
            (internal, "/models/split/predict", user, "split"),
        ]:
            answer = await connection.call(path, headers=headers)
            assert answer.json()["headers"]["x-headway-arm"] == arm, path
        assert (await internal.call("/models/empty/versions/v1/predict")).status == 503
        assert (await public.call("/models/empty/versions/v1/predict")).status == 503
    lines = await log.wait_for(2)
    assert [line["arm"] for line in lines] == ["shadow", "pinned"]


@pytest.mark.parametrize("bad", ["a b", 'a"b', "x" * 129, "ä", "\\u0022", "</script>"])
async def test_a_hostile_id_never_gets_into_a_line(iris: object, log: Log, port: int, bad: str) -> None:
    hostile = {"x-request-id": bad, "authorization": f'Bearer "],{bad}', "x-headway-client": bad, "host": '"x"'}
    with contextlib.suppress(asyncio.IncompleteReadError):
        await call(port, PREDICT, headers=hostile)
    [line] = await log.wait_for(1)
    assert line["request_id"] != bad
    assert (line["status"], line["client"]) in {(401, ""), (400, "")}
