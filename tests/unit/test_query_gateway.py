"""The gateway's lines beside the records of replicas: which of them count, and which lines are lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.querylog.columns import from_records
from headway.adapters.querylog.gateway_lines import parse, replica_of, route_of
from headway.domain.query_log import Losses
from headway.domain.query_segments import Kind
from tests.gateway_lines import GatewayLog
from tests.query_home import SECOND, Home, row
from tests.query_records import MINUTE_NS, START_NS, some_records


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def test_what_the_gateway_answered_is_a_record(home: Home) -> None:
    home.segment()
    home.gateway.write(client="ann", arm="pinned", path="/models/iris/versions/v1/v2/models/iris/infer", request_id="q")
    home.gateway.write(status=-1, server="iris-v1-bcdfg.0a1b2c", ends="CH", request_id="c", at_ms=START_NS // 10**6 + 1)
    refused, gone = home.records()
    assert (refused.ts_ns, refused.total_ns, refused.status) == (START_NS, 3_000_000, 503)
    assert (refused.version, refused.replica, refused.route, refused.format) == ("v1", "", "/v2/models/infer", "")
    assert (refused.client, refused.arm, refused.request_id) == ("ann", "pinned", "q")
    assert (refused.bytes_in, refused.bytes_out, refused.batch, refused.queue_ns) == (100, 200, 0, None)
    assert refused.stream.startswith("gateway.")
    assert (gone.status, gone.request_id) == (499, "c")
    assert refused.stream == gone.stream
    assert refused.seq < gone.seq
    home.compact(START_NS + 60 * MINUTE_NS)
    assert home.records() == [refused, gone]
    assert home.losses("") == Losses()


def test_a_line_is_read_once_it_is_whole(home: Home) -> None:
    home.segment()
    text = home.gateway.text()
    for place in range(len(text)):
        home.gateway.append(text[place : place + 1])
        if place % 40 == 0:
            assert home.ids() == []
    assert home.ids() == ["r"]


@pytest.mark.parametrize(
    ("status", "model", "kept_as"),
    [
        (503, "iris", "iris"), (404, "iris", "iris"), (-1, "iris", "iris"), (401, "nobody", ""), (404, "nobody", ""),
        (-1, "nobody", ""), (503, "not-started", "not-started"), (504, "not-started", "not-started"),
        (429, "not-started", "not-started"), (503, "../etc", ""), (503, "", ""),
    ],
)  # fmt: skip
def test_models_that_nobody_knows_are_kept_under_one_name(home: Home, status: int, model: str, kept_as: str) -> None:
    home.segment()
    home.gateway.write(status=status, model=model)
    assert [name for name in {"", model, "iris"} if home.ids(name)] == [kept_as]


def test_the_gateways_own_answer_stands_for_those_of_replicas(home: Home) -> None:
    """The client saw 504; two replicas worked on it meanwhile, one later than the line."""
    one, other = home.segment(), home.segment("iris-v1-zzzzz.0")
    one.rows([row("a", 1), row("b", 2), row("a", 90 * SECOND)])
    home.gateway.write(status=504, retries=1, server="iris-v1-zzzzz.0a1b2c", ends="sH", request_id="a", total_ms=5000)
    assert [(r.status, r.replica) for r in home.records()] == [
        (504, ""),
        (200, "iris-v1-bcdfg"),
        (200, "iris-v1-bcdfg"),
    ]
    assert home.ids() == ["a", "b", "a"]
    other.rows([row("a", 2 * SECOND, status=499)])
    assert home.ids() == ["a", "b", "a"]
    window = home.window()
    assert window is not None
    assert (window.count, window.errors) == (3, 1)


def test_of_a_retried_request_only_the_last_record_counts(home: Home) -> None:
    one, other = home.segment(), home.segment("iris-v1-zzzzz.0")
    one.rows([row("a", 1, status=500), row("b", 1)])
    other.rows([row("a", 2), row("c", 3)])
    home.gateway.write(status=200, retries=1, server="iris-v1-zzzzz.0a1b2c", ends="--", request_id="a", total_ms=10)
    assert [(r.request_id, r.replica) for r in home.records()] == [
        ("b", "iris-v1-bcdfg"), ("a", "iris-v1-zzzzz"), ("c", "iris-v1-zzzzz"),
    ]  # fmt: skip


def test_of_a_request_retried_on_the_same_replica_the_last_record_counts(home: Home) -> None:
    killed, again = home.segment(), home.segment("iris-v1-bcdfg.1")
    killed.rows([row("a", 1)])
    again.rows([row("a", 2)])
    home.gateway.write(status=200, retries=1, server="iris-v1-bcdfg.0a1b2c", ends="--", request_id="a", total_ms=10)
    assert [r.stream for r in home.records()] == ["iris-v1-bcdfg.1"]
    killed.die()
    home.compact()
    assert [r.stream for r in home.records()] == ["iris-v1-bcdfg.1"]
    again.close()
    home.compact()
    assert [r.stream for r in home.records()] == ["iris-v1-bcdfg.1"]
    window = home.window()
    assert window is not None
    assert window.count == 1
    home.compact(START_NS + 600 * MINUTE_NS)
    assert [r.stream for r in home.records()] == ["iris-v1-bcdfg.1"]


def test_a_claim_takes_no_more_records_than_there_were_attempts(home: Home) -> None:
    """A client that calls all of its requests the same."""
    home.segment().rows([row("same", n) for n in range(20)])
    home.gateway.write(status=503, retries=2, server="iris-v1-bcdfg.0a1b2c", ends="SC", request_id="same")
    assert len(home.ids()) == 20 - 3 + 1
    home.gateway.write(status=200, retries=1, server="iris-v1-bcdfg.0a1b2c", ends="--", request_id="same")
    assert 20 - 3 + 1 - 1 <= len(home.ids()) <= 20 - 3 + 1


def test_a_claim_is_about_its_model_its_time_and_no_copies(home: Home) -> None:
    file = home.segment()
    home.segment("wine-v1-bcdfg.0", model="wine").rows([row("a")])
    file.rows([row("a"), row("a", arm="shadow"), row("a", 3 * SECOND), row("aa")])
    home.gateway.write(status=504, server="iris-v1-bcdfg.0a1b2c", ends="sH", request_id="a", total_ms=10)
    assert [(r.status, r.arm, r.ts_ns - START_NS) for r in home.records() if r.request_id == "a"] == [
        (504, "split", 0), (200, "shadow", 0), (200, "direct", 3 * SECOND),
    ]  # fmt: skip
    assert home.ids("wine") == ["a"]


def test_claims_on_long_ids(home: Home) -> None:
    file = home.segment()
    long = ["x" * 36 + end for end in ("", "a", "b")]
    file.rows([row(text) for text in long])
    file.note(Kind.LONG_ID, {"1": long[1], "2": long[2]})
    home.gateway.write(status=504, server="iris-v1-bcdfg.0a1b2c", ends="sH", request_id=long[1], total_ms=10)
    assert [(r.request_id, r.status) for r in home.records()] == [(long[1], 504), (long[0], 200), (long[2], 200)]


def test_lost_lines_are_counted(home: Home) -> None:
    home.segment()
    home.gateway.write()
    home.gateway.lose(3)
    home.gateway.write()
    assert home.losses("") == Losses(missing=3)
    assert home.losses("iris") == Losses()
    assert home.ingest().newly_lost == {"": Losses(missing=3)}
    another = GatewayLog(home.root, pid=78)
    another.lose(1)
    another.write()
    assert home.ingest().newly_lost == {"": Losses(missing=1)}
    assert home.losses("") == Losses(missing=4)


def test_lines_in_the_wrong_order_are_not_lost(home: Home) -> None:
    home.segment()
    first, second, third = home.gateway.text(), home.gateway.text(), home.gateway.text()
    home.gateway.append(second + first + third)
    assert home.losses("") == Losses()
    assert len(home.ids()) == 3


def test_lines_that_are_none(home: Home) -> None:
    home.segment()
    home.gateway.append(b"\n{}\n[1, 2]\n\xff\xfe\n[" + b"1," * 15 + b"1]\nHAProxy says hello\n")
    home.gateway.write()
    assert home.ids() == ["r"]


def test_another_log_file(home: Home) -> None:
    home.segment()
    home.gateway.write(request_id="a")
    assert home.ids() == ["a"]
    home.gateway.path.unlink()
    assert home.ids() == []
    home.gateway.write(request_id="b")
    assert home.ids() == ["b"]
    home.gateway.path.write_bytes(b"")
    assert home.ids() == []
    home.gateway.write(request_id="c")
    assert home.ids() == ["c"]


@pytest.mark.parametrize(
    "spoiled",
    [
        {"pid": None},
        {"line": "x"},
        {"at_ms": []},
        {"status": None},
        {"request_id": 3},
        {"path": None},
        {"at_ms": 1e400},
    ],
)
def test_a_line_with_a_field_that_cannot_be(tmp_path: Path, spoiled: dict[str, Any]) -> None:
    assert parse(GatewayLog(tmp_path).text()) is not None
    assert parse(GatewayLog(tmp_path).text(**spoiled)) is None


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/models/iris/predict", "/predict"),
        ("/models/iris/predict?x=/invocations", "/predict"),
        ("/models/iris/versions/v2/invocations", "/invocations"),
        ("/models/iris/api/v1.0/predictions", "/api/v1.0/predictions"),
        ("/models/iris/api/v0.1/predictions", "/api/v0.1/predictions"),
        ("/models/iris/v2/models/iris/infer", "/v2/models/infer"),
        ("/models/iris/v2/models/iris/versions/1/infer", "/v2/models/infer"),
        ("/models/iris/predict/more", ""),
        ("/models/iris/predict\n", ""),
        ("/predict", ""),
        ("/models/iris", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_routes(path: str, route: str) -> None:
    assert route_of(path) == route


def test_replicas_by_the_names_of_servers() -> None:
    assert replica_of("iris-v1-bcdfg.0a1b2c") == "iris-v1-bcdfg"
    assert replica_of("iris-v1-bcdfg") == "iris-v1-bcdfg"
    assert replica_of("") == ""


def test_columns_there_and_back() -> None:
    records = some_records(50)
    assert from_records(records).records("iris") == records
    assert from_records([]).records("iris") == []
