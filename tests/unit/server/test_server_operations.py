"""Around predictions: routes, health, metrics, shadow copies, the log file."""

from __future__ import annotations

import asyncio
import gzip
import threading
from pathlib import Path
from typing import Any

import pytest

from headway.server.http import Request
from headway.server.metrics import MAX_CUSTOM_NAMES, MAX_CUSTOM_SERIES, CustomMetrics, Histogram, family
from headway.server.shadow import MAX_COPIES, ShadowSender
from tests.unit.server.bench import Bench
from tests.waiting import eventually


def ones(X: Any) -> Any:  # noqa: N803
    return X[:, 0]


def ask(subject: Any, path: str, method: str | None = None) -> tuple[int, Any]:
    async def main() -> tuple[int, Any]:
        return await Bench(subject).ask(path=path, method=method)

    return asyncio.run(main())


# -- routes -------------------------------------------------------------------------------------


def test_the_root_says_what_runs_here() -> None:
    status, body = ask(ones, "/")
    assert status == 200
    assert (body["model"], body["version"], body["replica"]) == ("iris", "v1", "iris-v1-bcdfg")
    assert body["input"] == "numpy.ndarray"
    assert "/predict" in body["paths"]


def test_unknown_paths_and_methods_are_named() -> None:
    status, body = ask(ones, "/predicts")
    assert (status, body["error"]["code"]) == (404, "not_found")
    assert "/predict" in body["error"]["hint"]

    async def main() -> None:
        response = await Bench(ones).send(path="/predict", method="GET")[1]
        assert response.status == 405
        assert dict(response.headers)[b"allow"] == b"POST"

    asyncio.run(main())


def test_a_fault_of_ours_is_a_500_without_details(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.server.health._OK", None)
    monkeypatch.setattr("headway.server.telemetry.Telemetry.render", lambda self: 1 / 0)
    status, body = ask(ones, "/metrics")
    assert (status, body["error"]) == (500, {"code": "internal", "message": "internal error"})


# -- health -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health/live", "/health/ping", "/health/ready", "/health/status"])
def test_health_is_good_when_nothing_is_wrong(path: str) -> None:
    assert ask(ones, path) == (200, {"status": "ok"})
    assert ask(ones, path, "HEAD")[0] == 200


def test_while_draining_the_replica_is_alive_but_not_ready() -> None:
    async def main() -> None:
        bench = Bench(ones)
        bench.app.drain()
        statuses = {p: (await bench.ask(path=f"/health/{p}"))[0] for p in ("live", "ping", "ready", "status")}
        assert statuses == {"live": 200, "ping": 200, "ready": 503, "status": 503}
        assert await bench.predict([[1.0]]) == [1.0]

    asyncio.run(main())


class Opinionated:
    def __init__(self) -> None:
        self.calls = 0
        self.sick = False
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, X: Any) -> Any:  # noqa: N803
        return X[:, 0]

    def health_status(self) -> Any:
        self.calls += 1
        assert self.gate.wait(20)
        if self.sick:
            raise RuntimeError("database is gone")
        return {"rows": 5}


def test_the_models_own_opinion_counts_for_status_only() -> None:
    async def main() -> None:
        model = Opinionated()
        bench = Bench(model)
        assert await bench.ask(path="/health/status") == (200, {"status": "ok", "detail": {"rows": 5}})
        model.sick = True
        status, body = await bench.ask(path="/health/status")
        assert status == 503
        assert body["error"]["message"] == "RuntimeError: database is gone"
        assert body["error"]["where"].startswith("test_server_operations.py:")
        assert (await bench.ask(path="/health/ready"))[0] == 200

    asyncio.run(main())


def test_a_slow_opinion_is_asked_for_once_and_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.server.health.STATUS_TIMEOUT_S", 0.02)

    async def main() -> None:
        model = Opinionated()
        model.gate.clear()
        bench = Bench(model)
        askers = [bench.send(path="/health/status")[1] for _ in range(3)]
        assert {(await a).status for a in askers} == {503}
        late = bench.send(path="/health/status")[1]
        model.gate.set()
        assert (await late).status == 200
        assert model.calls == 1

    asyncio.run(main())


# -- metrics --------------------------------------------------------------------------------------


class Counting:
    def __init__(self) -> None:
        self.entries: Any = []

    def predict(self, X: Any) -> Any:  # noqa: N803
        return X[:, 0]

    def metrics(self) -> Any:
        if self.entries == "raise":
            raise RuntimeError("no metrics today")
        return self.entries


def test_requests_batches_and_the_models_own_metrics_are_shown() -> None:
    async def main() -> None:
        model = Counting()
        model.entries = [
            {"type": "COUNTER", "key": "seen", "value": 2, "tags": {"kind": "a"}},
            {"type": "GAUGE", "key": "level", "value": 0.25},
            {"type": "TIMER", "key": "lookup", "value": 20.2},
        ]
        bench = Bench(model)
        await bench.predict([[1.0], [2.0]])
        await bench.predict([[1.0]])
        await bench.error(b"nonsense")
        status, text = await bench.ask(path="/metrics")
        assert status == 200
        lines = text.splitlines()
        const = 'model="iris",version="v1"'
        for line in (
            f'headway_requests_total{{{const},route="/predict",status="200"}} 2',
            f'headway_requests_total{{{const},route="/predict",status="400"}} 1',
            f"headway_batch_rows_sum{{{const}}} 3",
            f'headway_batch_rows_bucket{{{const},le="1"}} 1',
            f'headway_batch_rows_bucket{{{const},le="2"}} 2',
            f'headway_phase_duration_seconds_count{{{const},phase="predict"}} 2',
            f'headway_phase_duration_seconds_count{{{const},phase="encode"}} 2',
            f"headway_queue_depth{{{const}}} 0",
            f'seen_total{{{const},kind="a"}} 4',
            f"level{{{const}}} 0.25",
            f'lookup_seconds_bucket{{{const},le="0.025"}} 2',
        ):
            assert line in lines, line

    asyncio.run(main())


def test_failing_metrics_do_not_fail_predictions() -> None:
    async def main() -> None:
        model = Counting()
        bench = Bench(model)
        for entries in ("raise", 5, [5], None):
            model.entries = entries
            assert await bench.predict([[1.0]]) == [1.0]
        assert bench.app.telemetry.custom.refused == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"type": "COUNTER", "key": "a"},
        {"type": "COUNTER", "key": "a", "value": -1},
        {"type": "GAUGE", "key": "a", "value": "much"},
        {"type": "GAUGE", "key": "a", "value": float("nan")},
        {"type": "SUMMARY", "key": "a", "value": 1},
        {"type": "GAUGE", "key": 5, "value": 1},
        {"type": "GAUGE", "key": "a", "value": 1, "tags": {"model": "x"}},
        {"type": "GAUGE", "key": "a", "value": 1, "tags": {"1x": "x"}},
        {"type": "GAUGE", "key": "a", "value": 1, "tags": {str(i): "x" for i in range(20)}},
        {"type": "GAUGE", "key": "taken_total", "value": 1},
    ],
)
def test_malformed_custom_metrics_are_refused_and_counted(entry: dict[str, Any]) -> None:
    custom = CustomMetrics((("model", "iris"),))
    custom.record([{"type": "COUNTER", "key": "taken", "value": 1}])
    custom.record([entry])
    assert custom.refused == 1


def test_custom_names_are_made_fit_and_never_ours() -> None:
    custom = CustomMetrics(())
    custom.record([{"type": "GAUGE", "key": k, "value": 1} for k in ("a-b c", "headway_queue_depth", "9lives", "")])
    names = [line.split()[0] for line in custom.lines() if not line.startswith("#")]
    assert names == ["a_b_c", "model_headway_queue_depth", "model_9lives", "model_"]


def test_custom_metrics_are_bounded_in_names_and_label_sets() -> None:
    custom = CustomMetrics(())
    custom.record([{"type": "GAUGE", "key": f"g{i}", "value": 1} for i in range(MAX_CUSTOM_NAMES + 5)])
    custom.record(
        [{"type": "GAUGE", "key": "g0", "value": 1, "tags": {"i": str(i)}} for i in range(MAX_CUSTOM_SERIES + 5)]
    )
    assert custom.refused == 5 + 6  # g0 had one series without tags


def test_histograms_are_cumulative_and_values_escaped() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (1, 2, 3, 100):
        histogram.observe(value)
    assert list(histogram.lines("h", ())) == [
        'h_bucket{le="1"} 1',
        'h_bucket{le="2"} 2',
        'h_bucket{le="4"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 106",
        "h_count 4",
    ]
    assert (
        list(family("f", "gauge", "Text.", [((("l", 'a"b\\c\nd'),), float("inf"))]))[-1] == 'f{l="a\\"b\\\\c\\nd"} +Inf'
    )


# -- shadow copies ----------------------------------------------------------------------------------


def test_answered_requests_are_offered_to_the_shadow_and_the_rest_is_not() -> None:
    async def main() -> None:
        shadow = ShadowSender("/nowhere", "iris")
        bench = Bench(ones, shadow=shadow)
        await bench.predict([[1.0]], x_headway_shadow="v2", content_type="application/json")
        await bench.predict([[1.0]])
        await bench.error(b"nonsense", x_headway_shadow="v2")
        await bench.predict([[1.0]], x_headway_shadow="v2 HTTP/1.1")
        assert shadow._copies.qsize() == 1
        assert shadow.dropped == 1
        copy = shadow._copies.get_nowait()
        head, _, body = copy.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /models/iris/versions/v2/predict HTTP/1.1\r\nhost: gateway\r\n")
        assert b"content-type: application/json" in head
        assert b"x-headway-shadow" not in head
        assert body == b"[[1.0]]"
        await bench.predict(gzip.compress(b"[[2.0]]"), x_headway_shadow="v2", content_encoding="gzip")
        head, _, body = shadow._copies.get_nowait().partition(b"\r\n\r\n")
        assert b"content-encoding" not in head
        assert body == b"[[2.0]]"

    asyncio.run(main())


def test_what_the_shadow_queue_cannot_hold_is_dropped_and_counted() -> None:
    async def main() -> None:
        shadow = ShadowSender("/nowhere", "iris")
        request = Request(b"POST", b"/predict", b"[[1]]", {}, _Nobody(), 0)
        for _ in range(MAX_COPIES + 7):
            shadow.offer(request, b"v2")
        assert shadow.dropped == 7
        await shadow.stop()
        assert shadow.dropped == 7 + MAX_COPIES

    asyncio.run(main())


class _Nobody:
    def settle(self, request: Any, response: Any) -> None:
        raise AssertionError("a shadow copy has no client")

    def charge(self, request: Any, size: int) -> None: ...


def test_copies_that_get_no_answer_are_counted_and_do_not_end_the_sender(tmp_path: Path) -> None:
    async def main() -> None:
        shadow = ShadowSender(str(tmp_path / "none.sock"), "iris")
        shadow.start()
        shadow.start()
        request = Request(b"POST", b"/predict", b"[[1]]", {}, _Nobody(), 0)
        for expected in (1, 2):
            shadow.offer(request, b"v2")
            await eventually(lambda expected=expected: shadow.failed == expected)  # type: ignore[misc]
        await shadow.stop()
        await shadow.stop()
        assert shadow.sent == 0

    asyncio.run(main())
