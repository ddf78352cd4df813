"""The client's questions to the query log: what is sent, and what is made of the answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from headway.client import Client
from headway.client.query_log import follow
from headway.client.windows import Windows
from headway.domain.errors import ControlUnreachable, InvalidInput, InvalidName, MissingExtra, ModelNotFound
from tests.unit.client.control import GATEWAY, URL, HandClock, PretendedControl, connection, refusal
from tests.unit.client.query_log_answers import NO_LOSSES, SINCE, cursor, latency, page, record, window

LOG = "/v1/models/iris/log"


class Asked:
    """A control API with one answer for everything; remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def client(self) -> Client:
        return Client(URL, "hw_secret", gateway_url=GATEWAY, transport=httpx.MockTransport(self))

    def params(self, index: int = -1) -> dict[str, list[str]]:
        params = self.requests[index].url.params
        return {key: params.get_list(key) for key in params}


# -- windows -------------------------------------------------------------------------------------


def test_windows_asks_with_defaults_and_gives_typed_windows() -> None:
    asked = Asked(latency([window(0, errors=3), window(2)]))
    with asked.client() as client:
        found = client.windows("iris")
    assert asked.requests[0].url.path == "/v1/models/iris/latency"
    assert asked.params() == {"window": ["1m"], "since": ["30m"], "field": ["total"]}
    assert [(one.start, one.count, one.errors, one.p95_ms) for one in found.windows] == [
        (SINCE, 60, 3, 10.0),
        (SINCE + 120, 60, 0, 12.0),
    ]


def test_windows_sends_what_was_asked_for() -> None:
    asked = Asked(latency([]))
    at = datetime(2026, 11, 22, 7, 20, tzinfo=timezone(timedelta(hours=1)))
    with asked.client() as client:
        client.windows(
            "iris",
            window=0.5,
            since=at,
            until=SINCE + 60,
            by=["version", "status"],
            field="queue",
            where=["status>=500", "rows>1"],
            exact=False,
        )
        assert asked.params() == {
            "window": ["0.500000000s"],
            "since": ["1795328400.000000000"],
            "until": ["1795328460.000000000"],
            "by": ["version", "status"],
            "field": ["queue"],
            "where": ["status>=500", "rows>1"],
            "exact": ["false"],
        }
        client.windows("iris", by="version", where="status=200")
        assert (asked.params()["by"], asked.params()["where"]) == (["version"], ["status=200"])
        with pytest.raises(InvalidInput, match="no time zone"):
            client.windows("iris", since=at.replace(tzinfo=None))
        with pytest.raises(InvalidName):
            client.windows("../info")
    assert len(asked.requests) == 2


def test_an_unknown_model_is_said_to_be_so() -> None:
    with Asked(refusal(404, "model_not_found", "no model iris")).client() as client, pytest.raises(ModelNotFound):
        client.windows("iris")


def test_a_file_is_passed_on_as_it_is() -> None:
    asked = Asked(httpx.Response(200, content=b"PAR1..PAR1"), httpx.Response(200, content=b"at,status\n"))
    with asked.client() as client:
        assert b"".join(client.windows_file("iris", "parquet", by="version")) == b"PAR1..PAR1"
        assert asked.requests[-1].headers["accept"] == "application/vnd.apache.parquet"
        assert asked.params()["by"] == ["version"]
        assert b"".join(client.records_file("iris", "csv", last=5)) == b"at,status\n"
        assert asked.requests[-1].headers["accept"] == "text/csv"
        assert (asked.params()["limit"], asked.params()["newest"]) == (["5"], ["true"])
        with pytest.raises(InvalidInput, match="xlsx"):
            next(client.records_file("iris", "xlsx"))


# -- empty windows -------------------------------------------------------------------------------


def test_the_grid_holds_empty_windows_and_every_group() -> None:
    found = Windows.model_validate(
        latency(
            [
                window(0, group={"version": "v2"}),
                window(0, group={"version": "v1"}, count=5),
                window(3, group={"version": "v1"}),
            ],
            by=["version"],
        )
    )
    assert found.groups() == [("v1",), ("v2",)]
    grid = found.grid()
    assert [[one is not None for one in line] for line in grid.values()] == [
        [True, False, False, True, False],
        [True, False, False, False, False],
    ]
    assert found.spans()[3] == (SINCE + 180, SINCE + 240)
    assert list(found.grid([("v2",)])) == [("v2",)]


def test_the_busiest_groups_are_those_with_most_requests_in_order_of_name() -> None:
    windows = [window(0, group={"client": name}, count=count) for name, count in (("c", 9), ("b", 1), ("a", 5))]
    found = Windows.model_validate(latency(windows, by=["client"]))
    assert found.busiest(2) == [("a",), ("c",)]


def test_the_last_window_ends_with_the_span() -> None:
    found = Windows.model_validate(latency([window(0)], until=SINCE + 90))
    assert found.spans() == [(SINCE, SINCE + 60), (SINCE + 60, SINCE + 90)]
    one = Windows.model_validate(latency([], until=SINCE + 10))
    assert one.spans() == [(SINCE, SINCE + 10)]
    assert one.grid() == {(): [None]}


@pytest.mark.parametrize("length_s", [0.1, 1 / 3, 7.77, 3600.0])
def test_windows_of_any_length_find_their_places(length_s: float) -> None:
    # Instants carry about a microsecond of rounding; a window must not slip into its neighbour's place for it.
    windows = [window(place, length_s=length_s) for place in range(1000)]
    for number, one in enumerate(windows):
        one["start"] += 1e-6 if number % 2 else -1e-6
    told = latency(windows, count=1000, length_s=length_s)
    found = Windows.model_validate({**told, "until": told["until"] + 2.4e-7})
    assert len(found.spans()) == 1000
    assert [one.count if one else 0 for one in found.grid()[()]] == [60] * 1000


# -- DataFrames ----------------------------------------------------------------------------------


def test_a_frame_has_a_time_index_and_nan_where_nothing_was_measured() -> None:
    found = Windows.model_validate(latency([window(0), window(2, average_ms=None, p50_ms=None, timed=0)], count=3))
    frame = found.to_frame()
    assert list(frame.columns) == [
        *("end", "count", "timed", "errors", "rate_per_s"),
        *("average_ms", "p50_ms", "p75_ms", "p95_ms", "p99_ms"),
    ]
    assert [at.isoformat() for at in frame.index] == [f"2026-11-22T06:{minute}:00+00:00" for minute in (20, 21, 22)]
    assert frame["count"].tolist() == [60, 0, 60]
    assert frame["rate_per_s"].tolist() == [1.0, 0.0, 1.0]
    assert frame["p95_ms"].tolist()[::2] == [10.0, 12.0]
    assert math.isnan(frame["p95_ms"].iloc[1])
    assert math.isnan(frame["p50_ms"].iloc[2])
    assert {name: str(kind) for name, kind in frame.dtypes.items() if name in ("count", "errors", "p50_ms")} == {
        "count": "int64",
        "errors": "int64",
        "p50_ms": "float64",
    }
    assert frame.attrs == {
        "model": "iris",
        "field": "total",
        "exact": True,
        "relative_error": 0.0,
        "losses": NO_LOSSES,
    }
    assert frame["p95_ms"].resample("10min").max().iloc[0] == 12.0


def test_a_frame_of_groups_has_a_row_for_each_in_every_window() -> None:
    windows = [window(0, group={"version": "v1"}), window(1, group={"version": "v2"})]
    frame = Windows.model_validate(latency(windows, count=2, by=["version"])).to_frame()
    assert frame["version"].tolist() == ["v1", "v2", "v1", "v2"]
    assert frame["count"].tolist() == [60, 0, 0, 60]
    assert len(frame.loc[datetime(2026, 11, 22, 6, 21, tzinfo=UTC)]) == 2


def test_a_frame_of_nothing_is_still_a_frame() -> None:
    frame = Windows.model_validate(latency([], count=2, by=["version"])).to_frame()
    assert (len(frame), frame.index.name, "version" in frame) == (0, "start", True)


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtra) as caught:
        Windows.model_validate(latency([])).to_frame()
    assert "headway[pandas]" in str(caught.value)


# -- records -------------------------------------------------------------------------------------


def test_records_are_read_page_by_page_of_one_span() -> None:
    asked = Asked(page(0, 1, more=True), page(2, more=True), page())
    with asked.client() as client:
        assert [one.seq for one in client.records("iris", where="status=200")] == [0, 1, 2]
    assert asked.params(0) == {"where": ["status=200"], "since": ["10m"], "limit": ["5000"]}
    later = {"where": ["status=200"], "since": [f"{SINCE:.9f}"], "until": [f"{SINCE + 600:.9f}"], "limit": ["5000"]}
    assert asked.params(1) == {**later, "after": [cursor(1)]}
    assert asked.params(2) == {**later, "after": [cursor(2)]}


def test_the_last_so_many_are_one_question() -> None:
    asked = Asked(page(7, 8, more=True))
    with asked.client() as client:
        assert [one.seq for one in client.records("iris", last=2)] == [7, 8]
    assert asked.params() == {"since": ["10m"], "limit": ["2"], "newest": ["true"]}
    assert len(asked.requests) == 1


def stream(*seqs: int, breaks: bool = True) -> httpx.Response:
    def content() -> Iterator[bytes]:
        yield b": requests follow\n\n"
        for seq in seqs:
            yield f"id: {cursor(seq)}\ndata: {json.dumps(record(seq))}\n\n".encode()
        if breaks:
            raise httpx.ReadError("reset")

    return httpx.Response(200, content=content())


def test_following_goes_on_after_broken_streams_and_tells_nothing_twice() -> None:
    answers: Iterator[httpx.Response | Exception] = iter(
        [
            httpx.Response(200, json=page(7)),
            stream(0, 1, 2, 3),
            httpx.ConnectError("refused"),
            stream(4, breaks=False),
            stream(5),
        ]
    )
    control = PretendedControl()
    control.override = lambda request: thrown(next(answers))
    clock = HandClock()
    found = follow(connection(control), LOG, {"since": "10m", "where": ["status=200"]}, None, clock.time())
    assert [next(found).seq for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    asked = [request.headers.get("last-event-id") for request in control.requests[1:]]
    assert asked == [None, cursor(3), cursor(3), cursor(4)]
    assert all(request.url.params.get_list("where") == ["status=200"] for request in control.requests)
    assert all(request.headers["accept"] == "text/event-stream" for request in control.requests[1:])
    assert [request.url.params.get("since") for request in control.requests[1:]] == [f"{SINCE:.9f}", None, None, None]
    assert clock.pauses == 3


def thrown(answer: httpx.Response | Exception) -> httpx.Response:
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_following_the_last_so_many_goes_on_after_their_cursor() -> None:
    answers: Iterator[httpx.Response | Exception] = iter([httpx.Response(200, json=page(4, 5)), stream(6)])
    control = PretendedControl()
    control.override = lambda request: thrown(next(answers))
    found = follow(connection(control), LOG, {"since": "10m"}, 2, HandClock().time())
    assert [next(found).seq for _ in range(3)] == [4, 5, 6]
    first, second = control.requests
    assert (first.url.params["limit"], first.url.params["newest"]) == ("2", "true")
    assert second.headers["last-event-id"] == cursor(5)
    assert "since" not in second.url.params


def test_following_from_nothing_keeps_the_instant_it_began_at() -> None:
    """Without a record there is no cursor; "10m ago" of a later attempt would leave a hole after a long outage."""
    answers: Iterator[httpx.Response | Exception] = iter(
        [httpx.Response(200, json=page()), httpx.ConnectError("refused"), stream(0)]
    )
    control = PretendedControl()
    control.override = lambda request: thrown(next(answers))
    found = follow(connection(control), LOG, {"since": "10m"}, None, HandClock().time())
    assert next(found).seq == 0
    assert [request.url.params["since"] for request in control.requests] == ["10m", *[f"{SINCE:.9f}"] * 2]
    assert "last-event-id" not in control.requests[-1].headers


def test_following_gives_up_after_a_minute_without_an_answer() -> None:
    control = PretendedControl()
    answers = [httpx.Response(200, json=page(0))]
    control.override = lambda request: thrown(answers.pop() if answers else httpx.ConnectError("refused"))
    clock = HandClock()
    found = follow(connection(control), LOG, {"since": "10m"}, 1, clock.time())
    assert next(found).seq == 0
    with pytest.raises(ControlUnreachable):
        next(found)
    assert 60 < clock.at < 61
