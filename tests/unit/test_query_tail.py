"""What is live: segments that come, grow and go, the gateway's lines, which records count, what is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from headway.adapters.querylog import DuckdbQueryLog, PartStore
from headway.adapters.querylog import tail as tail_module
from headway.adapters.querylog.columns import from_records
from headway.adapters.querylog.gateway_lines import parse, replica_of, route_of
from headway.adapters.querylog.store import Part
from headway.adapters.querylog.tail import Tail
from headway.domain.errors import InvalidInput, StorageFailed
from headway.domain.query_log import (
    Condition,
    IngestReport,
    Losses,
    Operator,
    QueryRecord,
    RecordQuery,
    Retention,
    Window,
    WindowQuery,
)
from headway.domain.query_segments import Kind
from tests.gateway_lines import GatewayLog
from tests.query_records import MINUTE_NS, START_NS, some_records, write_segments
from tests.segment_files import WALL_NS, Row, SegmentFile

T = TypeVar("T")
SECOND = 1_000_000_000
MONO = START_NS - WALL_NS
"""The monotonic clock at START_NS."""


class Home:
    """A query log whose writers a test plays. ``ask`` runs one question and closes what it opened."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = PartStore.directory(root / "records")
        self.log = DuckdbQueryLog(root, self.store)
        self.gateway = GatewayLog(root)
        self._segments: list[SegmentFile] = []

    def segment(
        self, stream: str = "iris-v1-bcdfg.0", number: int = 0, model: str = "iris", **given: Any
    ) -> SegmentFile:
        replica = stream.partition(".")[0]
        file = SegmentFile(
            self.root / "segments" / model, stream=stream, number=number, model=model, replica=replica, **given
        )
        self._segments.append(file)
        return file

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def records(self, model: str = "iris", **changed: Any) -> list[QueryRecord]:
        query = RecordQuery(model=model, since_ns=0, until_ns=2**62, **changed)
        return self.run(self.log.records(query))

    def ids(self, model: str = "iris") -> list[str]:
        return [one.request_id for one in self.records(model)]

    def window(self, model: str = "iris") -> Window | None:
        query = WindowQuery(model=model, since_ns=0, until_ns=2**62, window_ns=2**62)
        windows = self.run(self.log.windows(query)).windows
        return windows[0] if windows else None

    def losses(self, model: str = "iris") -> Losses:
        return self.run(self.log.losses(model))

    def ingest(self) -> IngestReport:
        return self.run(self.log.ingest())

    def compact(self, now_ns: int = START_NS) -> None:
        self.run(self.log.compact(now_ns, Retention()))

    def close(self) -> None:
        self.run(self.log.close())
        for file in self._segments:
            file.die()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def row(request_id: str = "r", after_ns: int = 0, **changed: Any) -> Row:
    """Arrives ``after_ns`` after START_NS."""
    return Row(received=MONO + after_ns, answered=MONO + after_ns + 1000, request_id=request_id, **changed)


# -- segments --------------------------------------------------------------------------------------


def test_a_question_includes_all_that_was_written_before_it(home: Home) -> None:
    file = home.segment()
    for number in range(30):
        file.rows([row(f"{number}", number)])
        assert home.ids() == [f"{n}" for n in range(number + 1)]
    assert home.window() is not None


def test_ingest_counts_each_record_once(home: Home) -> None:
    one, other = home.segment(), home.segment("wine-v1-bcdfg.0", model="wine")
    one.rows([row(), row()])
    other.rows([row()])
    home.gateway.write()
    assert home.ingest().records == 4
    one.rows([row()])
    assert home.ids() == ["r"] * 4
    assert home.ingest().records == 0
    one.rows([row()])
    assert home.ingest() == IngestReport(records=1)


def test_segments_that_come_and_go(home: Home) -> None:
    first = home.segment()
    first.rows([row("a", 1)])
    assert home.ids() == ["a"]
    first.close()
    second = home.segment(number=1, seq=1)
    second.rows([row("b", 2)])
    home.compact()
    assert not first.path.exists()
    assert home.ids() == ["a", "b"]
    assert home.losses() == Losses()
    second.path.unlink()  # somebody's hand
    assert home.ids() == ["a"]


def test_files_that_are_no_segments_are_left_alone(home: Home) -> None:
    folder = home.segment().path.parent
    (folder / ".iris-v1-bcdfg.0-1.hwq").write_bytes(b"draft")
    (folder / "notes.txt").write_text("x")
    (folder / "x-1.hwq.damaged").write_text("x")
    (folder / "deeper").mkdir()
    (folder.parent / "file").write_text("x")
    assert home.ids() == []
    assert home.losses() == Losses()


def test_a_segment_that_became_parts_between_listing_and_reading(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        file = home.segment(number=number, seq=number)
        file.rows([row(f"{number}", number)])
        file.close()
    real = tail_module.Tail._listed
    compacted: list[bool] = []

    def listed(self: Tail, name: str) -> dict[str, Path]:
        found = real(self, name)
        if not compacted:
            compacted.append(True)
            home.compact()
        return found

    monkeypatch.setattr(tail_module.Tail, "_listed", listed)
    assert home.ids() == ["0", "1", "2"]
    assert compacted


def test_segments_that_become_parts_between_reading_and_asking_for_parts(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        file = home.segment(number=number, seq=number)
        file.rows([row(f"{number}", number)])
        file.close()
    real = home.store.parts

    async def parts(*given: Any, **named: Any) -> list[Part]:
        await home.log.compact(START_NS, Retention())
        return await real(*given, **named)

    monkeypatch.setattr(home.store, "parts", parts)
    assert home.ids() == ["0", "1", "2"]
    assert not list((home.root / "segments" / "iris").glob("*.hwq"))
    assert home.ids() == ["0", "1", "2"]


def test_parts_that_vanish_before_they_are_read_are_asked_for_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home.segment()
    file.rows([row("a")])
    file.close()
    home.compact()
    real, asked = home.store.parts, []

    async def parts(*given: Any, **named: Any) -> list[Part]:
        asked.append(given)
        found = await real(*given, **named)
        gone = Part(path=home.root / "gone.parquet", rows=1, first_ns=START_NS, last_ns=START_NS, size=1)
        return [gone] if len(asked) < 3 else found

    monkeypatch.setattr(home.store, "parts", parts)
    assert home.ids() == ["a"]
    assert len(asked) == 3
    asked.extend([()] * -10)
    monkeypatch.setattr(home.store, "parts", lambda *a, **n: _always(home.root))
    with pytest.raises(StorageFailed, match="vanish"):
        home.ids()


async def _always(root: Path) -> list[Part]:
    return [Part(path=root / "gone.parquet", rows=1, first_ns=START_NS, last_ns=START_NS, size=1)]


def test_what_is_not_kept_in_memory_is_read_again(tmp_path: Path) -> None:
    records = some_records(400)
    files = write_segments(tmp_path / "segments", records, segments=5, close=3)
    tail = Tail(tmp_path / "segments", tmp_path / "gateway", max_rows=100)
    tail.look()
    view = tail.view("iris", 0, 2**62)
    assert sum(len(chunk.columns) for _, chunk in view.chunks) + sum(1 for _ in view.let_go) * 0 < 400
    assert len(view.let_go) > 5
    seen = [one for _, columns in view.pieces() for one in columns.records("iris")]
    assert sorted(seen, key=lambda one: (one.stream, one.seq)) == sorted(records, key=lambda one: (one.stream, one.seq))
    for file in files:
        file.die()


def test_long_ids_that_come_after_their_records_were_read(home: Home) -> None:
    file = home.segment()
    long = "ab" * 40
    file.rows([row("x", 1), row(long, 2)])
    assert home.ids() == ["x", long[:36]]
    file.note(Kind.LONG_ID, {"1": long})
    assert home.ids() == ["x", long]
    found = home.records(where=(Condition("request_id", Operator.EQ, long),))
    assert [one.request_id for one in found] == [long]


@pytest.mark.parametrize(
    "condition",
    [
        Condition("colour", Operator.EQ, "red"),
        Condition("status", Operator.EQ, "200"),
        Condition("status", Operator.EQ, True),
        Condition("shed", Operator.EQ, 1),
        Condition("route", Operator.EQ, 3),
        Condition("status", Operator.LIKE, 2),
        Condition("total_ns", Operator.GT, 2**63),
    ],
)
def test_conditions_that_make_no_sense_are_refused(home: Home, condition: Condition) -> None:
    with pytest.raises(InvalidInput):
        home.records(where=(condition,))


# -- losses ----------------------------------------------------------------------------------------


def test_holes_between_segments_of_a_stream(home: Home) -> None:
    first = home.segment()
    first.rows([row()])
    first.close()
    third = home.segment(number=2, seq=5)
    third.rows([row()])
    assert home.losses() == Losses(missing=4)
    report = home.ingest()
    assert report.newly_lost == {"iris": Losses(missing=4)}
    assert home.ingest().newly_lost == {}
    home.compact()
    assert home.losses() == Losses(missing=4)
    second = home.segment(number=1, seq=1)
    second.rows([row()])
    second.drop(2)
    assert home.losses() == Losses(dropped=2, missing=1)
    assert home.ingest().newly_lost == {"iris": Losses(dropped=2)}


def test_the_first_segment_begins_at_zero_others_where_they_begin(home: Home) -> None:
    home.segment(number=7, seq=100).rows([row()])
    assert home.losses() == Losses()
    home.segment("iris-v1-other.0", seq=3).rows([row()])
    assert home.losses() == Losses(missing=3)


def test_the_clock_set_back_between_segments(home: Home) -> None:
    first, second = home.segment(), home.segment(number=1, seq=2)
    first.rows([row("a"), row("b", SECOND)])
    second.wall_ns -= 3600 * SECOND
    second.rows([row("c", 2 * SECOND)])
    home.segment("iris-v2-other.0").rows([row("d")])
    assert home.losses() == Losses(clock_steps=1)
    assert home.ids() == ["c", "a", "d", "b"]
    assert home.ingest().newly_lost == {"iris": Losses(clock_steps=1)}
    window = home.window()
    assert window is not None
    assert window.count == 4


def test_torn_is_counted_once_the_writer_is_gone(home: Home) -> None:
    file = home.segment()
    file.rows([row("a")])
    file.write(b"HWQ1 and then the lights went out")
    assert home.losses() == Losses()
    file.die()
    assert (home.ids(), home.losses()) == (["a"], Losses(torn=1))
    assert home.ingest().newly_lost == {"iris": Losses(torn=1)}
    home.compact()
    assert (home.ids(), home.losses()) == (["a"], Losses(torn=1))
    assert home.ingest().newly_lost == {}


def test_accounts_of_many_segments_that_are_gone_are_summed_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "MAX_ACCOUNTS", 3)
    for number in range(12):
        file = home.segment(number=number, seq=10 * number)
        file.rows([row()] * 8)
        file.drop(1)
        assert home.ingest().newly_lost == {"iris": Losses(dropped=1, missing=int(number > 0))}
        file.path.unlink()
    assert home.ingest().newly_lost == {}


# -- the gateway -----------------------------------------------------------------------------------


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
    assert json.dumps(replica_of("")) == '""'


def test_columns_there_and_back() -> None:
    records = some_records(50)
    assert from_records(records).records("iris") == records
    assert from_records([]).records("iris") == []
