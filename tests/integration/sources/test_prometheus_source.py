"""What Prometheus, and whatever stands in its place, may answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headway.adapters.signals import PrometheusSource
from headway.domain.errors import SignalLost
from headway.domain.scaling_spec import PrometheusTrigger
from tests.services.canned_http import CannedHttp
from tests.services.documented import documented
from tests.services.fixtures import PrometheusService
from tests.waiting import PortPicker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def source() -> AsyncIterator[PrometheusSource]:
    source = PrometheusSource({"TOKEN": "abc.def-123"})
    yield source
    await source.close()


@pytest.fixture
async def canned(free_port: PortPicker) -> AsyncIterator[CannedHttp]:
    async with CannedHttp(free_port()) as server:
        yield server


def trigger(address: str, query: str = "up", **more: Any) -> PrometheusTrigger:
    fields = {"timeout": "30s", **more}
    return PrometheusTrigger(type="prometheus", server_address=address, query=query, threshold=1, **fields)


@pytest.mark.parametrize(("query", "number"), [("vector(17.5)", 17.5), ("17.5", 17.5), ("vector(-2)", -2), ("0", 0)])
async def test_one_number(
    source: PrometheusSource, prometheus_service: PrometheusService, query: str, number: float
) -> None:
    assert await source.read(trigger(prometheus_service.address, query)) == number
    assert await source.read(trigger(prometheus_service.address + "/", query)) == number


NOT_A_NUMBER = {
    "empty": ("no_such_metric", "no elements instead of one"),
    "two elements": ('vector(1) or label_replace(vector(2), "a", "b", "", "")', "2 elements instead of one"),
    "NaN": ("vector(0) / 0", "nan instead of a finite number"),
    "NaN scalar": ("NaN", "nan instead of a finite number"),
    "infinity": ("vector(1) / 0", "inf instead of a finite number"),
    "minus infinity": ("-1 / 0", "-inf instead of a finite number"),
    "text": ('"a word"', "a string instead of a vector or a scalar"),
    "range": ("up[5m]", "a matrix instead of a vector or a scalar"),
    "not PromQL": ("sum(", "HTTP 400.*parse error"),
    "fails as it runs": ('label_replace(vector(1), "a", "", "", "(")', "HTTP 422"),
}


@pytest.mark.parametrize(("query", "said"), NOT_A_NUMBER.values(), ids=NOT_A_NUMBER.keys())
async def test_no_number(
    source: PrometheusSource, prometheus_service: PrometheusService, query: str, said: str
) -> None:
    with pytest.raises(SignalLost, match=said) as caught:
        await source.read(trigger(prometheus_service.address, query))
    assert f"Prometheus at {prometheus_service.address}, asked for {query}: " in caught.value.message


async def test_empty_is_zero_only_when_asked_for(
    source: PrometheusSource, prometheus_service: PrometheusService
) -> None:
    lenient = trigger(prometheus_service.address, "no_such_metric", ignore_null_values=True)
    assert await source.read(lenient) == 0
    with pytest.raises(SignalLost, match="nan instead"):
        await source.read(trigger(prometheus_service.address, "vector(0) / 0", ignore_null_values=True))


async def test_prometheus_crashes_and_comes_back(
    source: PrometheusSource, prometheus_service: PrometheusService
) -> None:
    asked = trigger(prometheus_service.address, "vector(7)")
    assert await source.read(asked) == 7
    prometheus_service.kill()
    try:
        with pytest.raises(SignalLost, match="Connection refused"):
            await source.read(asked)
    finally:
        prometheus_service.restart()
    assert await source.read(asked) == 7


def result(kind: str, result: object) -> dict[str, object]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def vector(*values: object) -> dict[str, object]:
    return result("vector", [{"metric": {}, "value": [1731412345.6, value]} for value in values])


STRANGE = {
    "500": ((b"oh no", 500), "HTTP 500$"),
    "503 with a reason": (({"status": "error", "error": "starting"}, 503), "HTTP 503 starting"),
    "401": ((b"", 401), "HTTP 401"),
    "redirect": ((b"", 302), "HTTP 302"),
    "204": ((b"", 204), "HTTP 204"),
    "empty body": ((b"", 200), "not JSON"),
    "a web page": ((b"<!doctype html><p>Sign in", 200), "not JSON: b'<!doctype"),
    "cut short JSON": ((b'{"status": "succ', 200), "not JSON"),
    "a list": (([], 200), "no success"),
    "null": ((None, 200), "no success: null"),
    "error with 200": (({"status": "error", "error": "exec"}, 200), "no success: exec"),
    "no data": (({"status": "success"}, 200), "a None instead of a vector"),
    "no result": (({"status": "success", "data": {"resultType": "vector"}}, 200), "a vector instead|instead of"),
    "a number for text": ((vector(5), 200), "without a value"),
    "words for a number": ((vector("five"), 200), "str 'five' instead of a number"),
    "empty text": ((vector(""), 200), "str '' instead of a number"),
    "null value": ((vector(None), 200), "without a value"),
    "histogram": ((result("vector", [{"metric": {}, "histogram": [1, {}]}]), 200), "native histogram"),
    "an element that is none": ((result("vector", ["x"]), 200), "without a value"),
    "far too much": ((b" " * (5 << 20), 200), "more than 4 MiB"),
}


@pytest.mark.parametrize(("answer", "said"), STRANGE.values(), ids=STRANGE.keys())
async def test_strange_answers(
    source: PrometheusSource, canned: CannedHttp, answer: tuple[object, int], said: str
) -> None:
    """No answer that is not understood is a number; and the next one that is understood is one."""
    asked = trigger(f"http://127.0.0.1:{canned.port}", ignore_null_values=True)
    canned.say(*answer)
    with pytest.raises(SignalLost, match=said):
        await source.read(asked)
    canned.say(vector("7"))
    assert await source.read(asked) == 7


async def test_an_answer_that_stops_half_way_is_given_up_in_time(source: PrometheusSource, canned: CannedHttp) -> None:
    canned.say(vector("7"), stall=True)
    with pytest.raises(SignalLost, match="no answer within 200ms"):
        await source.read(trigger(f"http://127.0.0.1:{canned.port}", timeout="200ms"))


async def test_what_does_not_speak_http(source: PrometheusSource, canned: CannedHttp) -> None:
    canned.say_bytes(b"-ERR unknown command 'GET'\r\n")
    with pytest.raises(SignalLost, match="RemoteProtocolError"):
        await source.read(trigger(f"http://127.0.0.1:{canned.port}"))


async def test_what_is_sent(source: PrometheusSource, canned: CannedHttp) -> None:
    canned.say(vector("7"))
    address = f"http://127.0.0.1:{canned.port}/select/0/prometheus/"
    query = 'sum(rate(jobs_total{queue="a&b"}[1m])) + 1'
    await source.read(trigger(address, query, bearer_token_from_env="TOKEN", timeout="2500ms"))
    (request,) = canned.requests
    line, *headers = request.splitlines()
    assert line.startswith("GET /select/0/prometheus/api/v1/query?query=sum%28rate%28jobs_total%7Bqueue%3D%22a%26b%22")
    assert line.endswith("&timeout=2.5 HTTP/1.1")
    assert "authorization: bearer abc.def-123" in [header.lower() for header in headers]


async def test_a_server_that_hangs_keeps_no_other_waiting(
    source: PrometheusSource, canned: CannedHttp, prometheus_service: PrometheusService
) -> None:

    canned.say(vector("7"), stall=True)
    hanging = [
        asyncio.create_task(source.read(trigger(f"http://127.0.0.1:{canned.port}", timeout="30s"))) for _ in range(20)
    ]
    try:
        assert await source.read(trigger(prometheus_service.address, "vector(3)")) == 3
        assert not any(task.done() for task in hanging)
    finally:
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1:1"])
async def test_nobody_there(source: PrometheusSource, host: str) -> None:
    with pytest.raises(SignalLost, match=rf"Prometheus at http://{host}, asked for up: .*(refused|known|resolution)"):
        await source.read(trigger(f"http://{host}"))


async def test_the_documented_trigger(source: PrometheusSource, prometheus_service: PrometheusService) -> None:
    """Without such a metric there is no number; with what the page says to add, it is 0."""
    shown = documented(PrometheusTrigger).model_copy(update={"server_address": prometheus_service.address})
    with pytest.raises(SignalLost, match="no elements"):
        await source.read(shown)
    assert await source.read(shown.model_copy(update={"query": f"{shown.query} or vector(0)"})) == 0
